//! A broker over a folder of its own, on a plain loopback port, and clients to it.

use bytes::Bytes;
use hawser_broker::{Authorizer, BoxFuture, Broker, BrokerConfig, Mirrors, Parts, PrivateApis, Topics};
use hawser_link::Properties;
use hawser_log::{LogConfig, Logs, PartitionLog};
use hawser_state::{MirrorRecord, MirrorStatus, State, TopicRecord};
use hawser_testkit::batches::BatchBuilder;
use hawser_transport::{
    ClientOptions, ClientSecurity, HostPort, KafkaClient, Listener, Principal, ServerConnection, ServerSecurity,
};
use hawser_wire::{Batch, Request, RequestFrame, TopicPartition, Uuid};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

pub(crate) struct Bench {
    pub(crate) broker: Arc<Broker>,
    pub(crate) state: State,
    pub(crate) logs: Arc<Logs>,
    pub(crate) topics: Arc<Topics>,
    pub(crate) ended: Arc<Ended>,
    pub(crate) address: SocketAddr,
    pub(crate) stop: CancellationToken,
    dir: PathBuf,
    _folder: Arc<tempfile::TempDir>,
}

struct Echo;

impl PrivateApis for Echo {
    fn link_open(&self, frame: RequestFrame, mut connection: ServerConnection) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let reply =
                hawser_wire::api::encode_raw_response(frame.api_key, 0, frame.correlation_id, b"taken").unwrap();
            connection.write(&[reply]).await.unwrap();
        })
    }
    fn operate(&self, principal: &Principal, body: Bytes) -> BoxFuture<'_, Bytes> {
        let reply = format!("{} says {}", principal.as_str(), String::from_utf8_lossy(&body));
        Box::pin(async move { reply.into() })
    }
}

/// Notes which mirrors were ended.
#[derive(Default)]
pub(crate) struct Ended(pub(crate) std::sync::Mutex<Vec<String>>);

impl Mirrors for Ended {
    fn end(&self, topic: &TopicRecord) -> BoxFuture<'_, ()> {
        self.0.lock().unwrap().push(topic.name.clone());
        Box::pin(std::future::ready(()))
    }
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with(quick(), "allow.everyone.if.no.acl.found=true").await
    }

    pub(crate) async fn with(config: BrokerConfig, access: &str) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let dir = folder.path().to_owned();
        Self::open(folder, &dir, config, access).await
    }

    /// Stops everything and starts anew over the same folder.
    pub(crate) async fn restart(self, config: BrokerConfig) -> Self {
        let (folder, dir) = (Arc::clone(&self._folder), self.dir.clone());
        self.stop.cancel();
        self.logs.close().unwrap();
        let state = self.state.clone();
        drop(self);
        // The state file is locked until the last task of the old broker has let go of it.
        let mut state = Some(state);
        loop {
            drop(state.take());
            match State::open(&dir.join("state.redb")) {
                Ok(_) => break,
                Err(_) => tokio::task::yield_now().await,
            }
        }
        Self::open(folder, &dir, config, "allow.everyone.if.no.acl.found=true").await
    }

    async fn open(folder: Arc<tempfile::TempDir>, dir: &Path, config: BrokerConfig, access: &str) -> Self {
        let log_config =
            LogConfig { segment_bytes: 1 << 20, flush_interval: None, open_files_max: 100, ..LogConfig::default() };
        let logs = loop {
            match Logs::open(&dir.join("logs"), log_config.clone()) {
                Ok(logs) => break Arc::new(logs),
                Err(hawser_log::Error::Locked(_)) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        };
        let state = State::open(&dir.join("state.redb")).unwrap();
        let authorizer = Authorizer::from_properties(&Properties::parse("test", access)).unwrap();
        let ended = Arc::new(Ended::default());
        let topics = Topics::open(state.clone(), Arc::clone(&logs), ended.clone(), &config);
        let parts = Parts {
            state: state.clone(),
            logs: Arc::clone(&logs),
            topics: Arc::clone(&topics),
            authorizer: Arc::new(authorizer),
            private: Arc::new(Echo),
            config,
        };
        let broker = Broker::new(parts).unwrap();
        let listener =
            Listener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), ServerSecurity::plaintext()).await.unwrap();
        let address = listener.local_addr();
        let stop = CancellationToken::new();
        tokio::spawn(accept(listener, Arc::downgrade(&broker), stop.clone()));
        Self { broker, state, logs, topics, ended, address, stop, dir: dir.to_owned(), _folder: folder }
    }

    pub(crate) async fn client(&self) -> KafkaClient {
        let address = HostPort { host: self.address.ip().to_string(), port: self.address.port() };
        let stream = ClientSecurity::plaintext().dial(&address, Duration::from_secs(5)).await.unwrap();
        let options = ClientOptions {
            client_id: "tester".into(),
            request_timeout: Duration::from_secs(20),
            response_bytes_max: 100 << 20,
        };
        KafkaClient::start(stream, options).await.unwrap()
    }

    /// A mirror of `partitions` empty partitions.
    pub(crate) fn mirror(&self, name: &str, partitions: i32) -> Vec<Arc<PartitionLog>> {
        let mirror = MirrorRecord {
            link: "dr".into(),
            source_topic: name.into(),
            source_topic_id: Uuid::from_u128(77),
            start_offset_spec: "earliest".into(),
            started: [].into(),
            status: MirrorStatus::Active,
            stop: None,
            stopped_at: Vec::new(),
            error: None,
            status_since_ms: 0,
        };
        let configs = BTreeMap::from([
            ("retention.ms".to_owned(), "1234".to_owned()),
            ("brand.new".to_owned(), "yes".to_owned()),
        ]);
        let id = Uuid::new_v4();
        let record = TopicRecord { name: name.into(), id, partitions, configs, mirror: Some(mirror) };
        self.state.put_topic(record).unwrap();
        let open = |index| self.logs.open_partition(&TopicPartition::new(name, index), id).unwrap();
        (0..partitions).map(open).collect()
    }
}

async fn accept(listener: Listener, broker: std::sync::Weak<Broker>, stop: CancellationToken) {
    let advertised = Arc::new(HostPort { host: "advertised.example".into(), port: 9999 });
    loop {
        let connection = tokio::select! {
            connection = listener.accept() => connection,
            () = stop.cancelled() => return,
        };
        let Some(broker) = broker.upgrade() else { return };
        let (advertised, stop) = (Arc::clone(&advertised), stop.clone());
        tokio::spawn(async move { broker.serve(connection, advertised, stop).await });
    }
}

/// No waiting for latecomers, and a session that ends within a test.
pub(crate) fn quick() -> BrokerConfig {
    BrokerConfig {
        group_initial_rebalance_delay: Duration::ZERO,
        group_min_session_timeout: Duration::from_millis(100),
        ..BrokerConfig::default()
    }
}

/// Appends `batches` and shows all of them to consumers.
pub(crate) fn fill(log: &PartitionLog, batches: &[BatchBuilder]) -> i64 {
    let built: Vec<Batch> = batches
        .iter()
        .map(|batch| {
            let mut bytes = batch.build();
            Batch::split_off(&mut bytes).unwrap()
        })
        .collect();
    let end = log.append(&built).unwrap().log_end;
    log.observe_high_watermark(end);
    end.0
}

/// Calls at exactly `version`.
pub(crate) async fn at<M: Request>(client: &KafkaClient, version: i16, request: &M) -> M::Response {
    let (used, response) = client.call(request, version, Duration::from_secs(10)).await.unwrap();
    assert_eq!(used, version);
    response
}

pub(crate) async fn call<M: Request>(client: &KafkaClient, request: &M) -> M::Response {
    client.call(request, i16::MAX, Duration::from_secs(10)).await.unwrap().1
}
