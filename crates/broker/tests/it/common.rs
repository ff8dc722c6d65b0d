//! A broker over a folder of its own, on a plain loopback port, and clients to it.

use bytes::Bytes;
use hawser_broker::{
    Authorizer, BoxFuture, Broker, BrokerConfig, Layout, Mirrors, NewTopic, Parts, PrivateApis, StoredUsers, Topics,
};
use hawser_link::Properties;
use hawser_log::{LogConfig, Logs, PartitionLog};
use hawser_state::{AclOperation, MirrorRecord, State, TopicRecord};
use hawser_testkit::batches::BatchBuilder;
use hawser_transport::{
    ClientOptions, ClientSecurity, DialError, HostPort, KafkaClient, Listener, Principal, SecurityProtocol,
    ServerConnection, ServerSecurity,
};
use hawser_wire::{Batch, Request, RequestFrame, TopicPartition, Uuid};
use std::collections::{BTreeMap, BTreeSet};
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
    /// Of the listener that asks for a login.
    pub(crate) sasl_address: SocketAddr,
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

    fn go_on(&self, _: &TopicRecord) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    fn copied_configs(&self, _: &TopicRecord) -> BTreeSet<&'static str> {
        hawser_link::topic_configs::ALWAYS.into()
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
        self.stop.cancel();
        self.logs.close().unwrap();
        self.start_after_a_kill(config).await
    }

    /// Starts anew over what is in the folder.
    pub(crate) async fn start_after_a_kill(self, config: BrokerConfig) -> Self {
        let (folder, dir) = (Arc::clone(&self._folder), self.dir.clone());
        self.stop.cancel();
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
        let users = Arc::new(StoredUsers::load(&state).unwrap());
        let authorizer = Authorizer::from_properties(&Properties::parse("test", access)).unwrap();
        let ended = Arc::new(Ended::default());
        let topics = Topics::open(state.clone(), Arc::clone(&logs), ended.clone(), &config);
        let parts = Parts {
            state: state.clone(),
            logs: Arc::clone(&logs),
            topics: Arc::clone(&topics),
            authorizer: Arc::new(authorizer.with_stored(state.clone())),
            users: Arc::clone(&users),
            private: Arc::new(Echo),
            config,
        };
        let broker = Broker::new(parts).unwrap();
        let stop = CancellationToken::new();
        let sasl = ServerSecurity::from_properties(
            &Properties::parse("test", &logins()),
            "front",
            SecurityProtocol::SaslPlaintext,
        );
        let listen = async |security| {
            let listener = Listener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), security).await.unwrap();
            let address = listener.local_addr();
            tokio::spawn(accept(listener, Arc::downgrade(&broker), stop.clone()));
            address
        };
        let address = listen(ServerSecurity::plaintext()).await;
        let sasl_address = listen(sasl.unwrap().with_scram_users(users.scram())).await;
        Self { broker, state, logs, topics, ended, address, sasl_address, stop, dir: dir.to_owned(), _folder: folder }
    }

    pub(crate) async fn client(&self) -> KafkaClient {
        Self::dial(self.address, &ClientSecurity::plaintext()).await.unwrap()
    }

    /// A client that logged in with PLAIN; the password is the name.
    pub(crate) async fn client_as(&self, name: &str) -> KafkaClient {
        self.log_in("PLAIN", name, name).await.unwrap()
    }

    pub(crate) async fn log_in(&self, mechanism: &str, name: &str, password: &str) -> Result<KafkaClient, DialError> {
        let text = format!(
            "security.protocol=SASL_PLAINTEXT\nsasl.mechanism={mechanism}\n\
             sasl.jaas.config={} required username=\"{name}\" password=\"{password}\";\n",
            module(mechanism)
        );
        let security = ClientSecurity::from_properties(&Properties::parse("test", &text)).unwrap();
        Self::dial(self.sasl_address, &security).await
    }

    async fn dial(address: SocketAddr, security: &ClientSecurity) -> Result<KafkaClient, DialError> {
        let address = HostPort { host: address.ip().to_string(), port: address.port() };
        let stream = security.dial(&address, Duration::from_secs(30)).await?;
        let options = ClientOptions {
            client_id: "tester".into(),
            request_timeout: Duration::from_secs(20),
            response_bytes_max: 100 << 20,
            idle_max: None,
        };
        Ok(KafkaClient::start(stream, options).await.unwrap())
    }

    /// An ordinary topic.
    pub(crate) async fn topic(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Arc<TopicRecord> {
        let configs = configs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let new = NewTopic { name: name.into(), layout: Layout::count(partitions), configs, mirror: None };
        self.topics.create(new, false).await.unwrap()
    }

    /// A mirror of `partitions` empty partitions.
    pub(crate) fn mirror(&self, name: &str, partitions: i32) -> Vec<Arc<PartitionLog>> {
        let mut mirror = MirrorRecord::new("dr", name, Uuid::from_u128(77), 0);
        mirror.source_clusters = vec!["far".to_owned(), "near".to_owned()];
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

fn module(mechanism: &str) -> &'static str {
    if mechanism == "PLAIN" {
        "org.apache.kafka.common.security.plain.PlainLoginModule"
    } else {
        "org.apache.kafka.common.security.scram.ScramLoginModule"
    }
}

/// The user that has one operation on one kind of resource.
pub(crate) fn granted_name(kind: &str, operation: &str) -> String {
    format!("{kind}-{operation}")
}

/// Users of PLAIN; those of SCRAM are stored.
fn logins() -> String {
    let granted = ["every", "topic", "group", "cluster", "transactional-id", "other"]
        .into_iter()
        .flat_map(|kind| AclOperation::ALL.iter().map(move |operation| granted_name(kind, operation.as_str())));
    let names = ["root", "ann", "nobody"].map(str::to_owned).into_iter().chain(granted);
    let users: String = names.map(|name| format!(" user_{name}=\"{name}\"")).collect();
    format!(
        "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512\nconnection.failed.authentication.delay.ms=0\n\
         listener.name.front.plain.sasl.jaas.config={} required{users};\n",
        module("PLAIN")
    )
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
