//! Serves a folder of partition logs, Hawser's own or copied from a stopped Kafka broker, to Kafka clients on loopback,
//! as read-only mirrors, open to everyone:
//! `cargo run -p hawser-broker --example serve_log -- DIR [PORT]`

use hawser_broker::{Authorizer, BoxFuture, Broker, BrokerConfig, Mirrors, Parts, PrivateApis, StoredUsers, Topics};
use hawser_log::{LogConfig, Logs};
use hawser_state::{MirrorRecord, State, TopicRecord};
use hawser_transport::{HostPort, Listener, Principal, ServerConnection, ServerSecurity};
use hawser_wire::{RequestFrame, Uuid};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

struct NoLinks;

impl Mirrors for NoLinks {
    fn end(&self, _: &TopicRecord) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    fn go_on(&self, _: &TopicRecord) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    fn copied_configs(&self, _: &TopicRecord) -> BTreeSet<&'static str> {
        hawser_link::topic_configs::ALWAYS.into()
    }
}

impl PrivateApis for NoLinks {
    fn link_open(&self, _: RequestFrame, _: ServerConnection) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
    fn operate(&self, _: &Principal, _: bytes::Bytes) -> BoxFuture<'_, bytes::Bytes> {
        Box::pin(async { bytes::Bytes::new() })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().ok_or("usage: serve_log DIR [PORT]")?);
    let port = arguments.next().map_or(Ok(0), |port| port.parse())?;
    let config = LogConfig {
        segment_bytes: 1 << 30,
        index_interval_bytes: 4096,
        flush_interval: Some(Duration::from_secs(1)),
        open_files_max: 1000,
        ..LogConfig::default()
    };
    let logs = Arc::new(Logs::open(&dir, config)?);
    let state = State::open(&dir.join("serve_log.redb"))?;
    let mut partitions: BTreeMap<String, i32> = BTreeMap::new();
    for id in logs.partitions() {
        let log = logs.partition(&id).ok_or("partition vanished")?;
        log.observe_high_watermark(log.watermarks().log_end);
        println!("{id}: {:?}", log.watermarks());
        let count = partitions.entry(id.topic.to_string()).or_default();
        *count = (*count).max(id.partition + 1);
    }
    for (name, partitions) in partitions {
        if state.topic(&name).is_none() {
            state.put_topic(mirror(name, partitions))?;
        }
    }
    let config = BrokerConfig { group_initial_rebalance_delay: Duration::ZERO, ..BrokerConfig::default() };
    let topics = Topics::open(state.clone(), Arc::clone(&logs), Arc::new(NoLinks), &config);
    let parts = Parts {
        users: Arc::new(StoredUsers::load(&state)?),
        state,
        logs: Arc::clone(&logs),
        topics,
        authorizer: Arc::new(Authorizer::open_to_all()),
        private: Arc::new(NoLinks),
        config,
    };
    let broker = Broker::new(parts)?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = Listener::bind(address, ServerSecurity::plaintext()).await?;
    let address = listener.local_addr();
    println!("ready at {address}");
    let advertised = Arc::new(HostPort { host: "127.0.0.1".into(), port: address.port() });
    let stop = CancellationToken::new();
    loop {
        tokio::select! {
            connection = listener.accept() => {
                let (broker, advertised, stop) = (Arc::clone(&broker), Arc::clone(&advertised), stop.clone());
                tokio::spawn(async move { broker.serve(connection, advertised, stop).await });
            }
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    stop.cancel();
    logs.close()?;
    Ok(())
}

fn mirror(name: String, partitions: i32) -> TopicRecord {
    let mirror = MirrorRecord::new("none", &name, Uuid::new_v4(), 0);
    TopicRecord { name, id: Uuid::new_v4(), partitions, configs: BTreeMap::new(), mirror: Some(mirror) }
}
