//! A source broker, a destination and a source half in one process, over loopback.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

pub mod relay;

use bytes::{BufMut, Bytes, BytesMut};
use hawser_inbound::{BoxFuture, Inbound, InboundOptions, LinkDirectory, LinkFacts};
use hawser_link::{Half, LinkName, Properties};
use hawser_outbound::{Outbound, OutboundConfig};
use hawser_transport::{
    HostPort, KafkaClient, LeaseError, Listener, Principal, SecurityProtocol, ServerConnection, ServerSecurity, Target,
};
use hawser_wire::api::private::LINK_OPEN;
use hawser_wire::api::{encode_response, supported_versions};
use hawser_wire::messages::api_versions_response::ApiVersion;
use hawser_wire::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use hawser_wire::messages::metadata_response::{MetadataResponseBroker, MetadataResponseTopic};
use hawser_wire::messages::*;
use hawser_wire::{ApiKey, NodeId, RequestFrame, StrBytes, Uuid};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const LOCAL_PASSWORD: &str = "source-broker-pass-7c41";
pub const LINK_PASSWORD: &str = "link-pass-90aa";
/// Topics of the fake cluster, with the ids that it gives them.
pub const TOPICS: [(&str, u128); 2] = [("orders", 0xA), ("secret", 0xB)];

pub fn link() -> LinkName {
    LinkName::new("from-on-prem-link").unwrap()
}

/// A Kafka broker of a few APIs behind SASL_PLAINTEXT with SCRAM-SHA-512.
pub struct FakeBroker {
    pub address: SocketAddr,
    pub node: i32,
    /// API keys of requests that came.
    pub seen: Arc<Mutex<Vec<i16>>>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Clone)]
pub struct FakeCluster {
    pub id: String,
    pub brokers: Arc<Mutex<BTreeMap<i32, SocketAddr>>>,
    /// Bytes of records in a fetch's answer.
    pub fetch_bytes: usize,
}

/// Takes the `local.*` login of [`Source`].
pub async fn local_listener(lifetime: Option<Duration>) -> Listener {
    let mut text = format!(
        "sasl.enabled.mechanisms=SCRAM-SHA-512\n\
         listener.name.local.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule \
         required user_mirror=\"{LOCAL_PASSWORD}\";\n"
    );
    if let Some(lifetime) = lifetime {
        text += &format!("connections.max.reauth.ms={}\n", lifetime.as_millis());
    }
    let properties = Properties::parse("broker", &text);
    let security = ServerSecurity::from_properties(&properties, "local", SecurityProtocol::SaslPlaintext);
    Listener::bind("127.0.0.1:0".parse().unwrap(), security.expect("fake broker")).await.expect("bind")
}

impl FakeCluster {
    pub fn new(id: &str, fetch_bytes: usize) -> Self {
        Self { id: id.to_owned(), brokers: Arc::default(), fetch_bytes }
    }

    pub async fn broker(&self, node: i32, lifetime: Option<Duration>) -> FakeBroker {
        let listener = local_listener(lifetime).await;
        let address = listener.local_addr();
        self.brokers.lock().unwrap().insert(node, address);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (cluster, seen_too) = (self.clone(), Arc::clone(&seen));
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let connection = listener.accept().await;
                let (cluster, seen) = (cluster.clone(), Arc::clone(&seen_too));
                connections.spawn(async move { cluster.serve(node, connection, seen).await });
            }
        });
        FakeBroker { address, node, seen, task }
    }

    async fn serve(self, node: i32, mut connection: ServerConnection, seen: Arc<Mutex<Vec<i16>>>) {
        while let Ok(Some(frame)) = connection.next_frame().await {
            let request = RequestFrame::parse(frame).expect("request");
            seen.lock().unwrap().push(request.api_key);
            let Some(answer) = self.answer(node, &request) else { return };
            if connection.write(&[answer]).await.is_err() {
                return;
            }
        }
    }

    fn answer(&self, node: i32, request: &RequestFrame) -> Option<Bytes> {
        let (version, id) = (request.api_version, request.correlation_id);
        let api = |key: ApiKey, (min, max): (i16, i16)| {
            ApiVersion::default().with_api_key(key as i16).with_min_version(min).with_max_version(max)
        };
        Some(
            match ApiKey::try_from(request.api_key).ok()? {
                ApiKey::ApiVersions => {
                    let keys = vec![
                        api(ApiKey::Produce, (3, 12)),
                        api(ApiKey::ApiVersions, (0, 4)),
                        api(ApiKey::Metadata, (0, 13)),
                        api(ApiKey::Fetch, supported_versions::<FetchRequest>()?),
                        api(ApiKey::DescribeCluster, (0, 1)),
                        api(ApiKey::CreateTopics, (2, 7)),
                    ];
                    encode_response::<ApiVersionsRequest>(
                        version,
                        id,
                        &ApiVersionsResponse::default().with_api_keys(keys),
                    )
                }
                ApiKey::Metadata => {
                    let brokers = self.brokers.lock().unwrap().clone().into_iter().map(|(node, at)| {
                        MetadataResponseBroker::default()
                            .with_node_id(node.into())
                            .with_host(StrBytes::from_string(at.ip().to_string()))
                            .with_port(i32::from(at.port()))
                    });
                    let topics = TOPICS.iter().map(|(name, id)| {
                        MetadataResponseTopic::default()
                            .with_name(Some(StrBytes::from_static_str(name).into()))
                            .with_topic_id(Uuid::from_u128(*id))
                    });
                    let asked = request.decode::<MetadataRequest>().expect("metadata").topics;
                    let topics = topics.filter(|t| {
                        asked
                            .as_ref()
                            .is_none_or(|asked| asked.iter().any(|a| a.name == t.name || a.topic_id == t.topic_id))
                    });
                    let response = MetadataResponse::default()
                        .with_cluster_id(Some(StrBytes::from_string(self.id.clone())))
                        .with_brokers(brokers.collect())
                        .with_topics(topics.collect());
                    encode_response::<MetadataRequest>(version, id, &response)
                }
                ApiKey::DescribeCluster => {
                    let response = DescribeClusterResponse::default()
                        .with_cluster_id(StrBytes::from_string(self.id.clone()))
                        .with_controller_id(node.into());
                    encode_response::<DescribeClusterRequest>(version, id, &response)
                }
                ApiKey::Fetch => {
                    let mut records = BytesMut::zeroed(self.fetch_bytes);
                    if let Some(mut head) = records.get_mut(..4) {
                        head.put_i32(node);
                    }
                    let data = PartitionData::default().with_high_watermark(7).with_records(Some(records.freeze()));
                    let topic = FetchableTopicResponse::default()
                        .with_topic_id(Uuid::from_u128(0xA))
                        .with_partitions(vec![data]);
                    encode_response::<FetchRequest>(version, id, &FetchResponse::default().with_responses(vec![topic]))
                }
                _ => return None,
            }
            .expect("encodes"),
        )
    }
}

impl Drop for FakeBroker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the destination's daemon knows.
pub struct Directory {
    pub links: Mutex<BTreeMap<String, LinkFacts>>,
    pub cluster_id: String,
    pub pinned: Mutex<Vec<(String, String)>>,
    /// Principals with ALTER on the cluster.
    pub may_alter: Vec<String>,
}

impl LinkDirectory for Directory {
    fn lookup(&self, link: &LinkName) -> Option<LinkFacts> {
        self.links.lock().unwrap().get(link.as_str()).cloned()
    }
    fn learned_source_cluster(&self, link: &LinkName, _: Uuid, cluster_id: &str) -> BoxFuture {
        self.pinned.lock().unwrap().push((link.to_string(), cluster_id.to_owned()));
        if let Some(facts) = self.links.lock().unwrap().get_mut(link.as_str()) {
            facts.source_cluster_id = Some(cluster_id.to_owned());
        }
        Box::pin(std::future::ready(()))
    }
    fn may_alter_cluster(&self, principal: &Principal) -> bool {
        self.may_alter.iter().any(|name| name == principal.as_str())
    }
    fn local_cluster_id(&self) -> String {
        self.cluster_id.clone()
    }
}

pub fn facts() -> LinkFacts {
    LinkFacts {
        link_id: Uuid::from_u128(0x11),
        source_cluster_id: None,
        half: Half::DestinationInbound,
        lease_timeout: Duration::from_secs(5),
        request_timeout: Duration::from_secs(5),
        receive_buffer_bytes: None,
    }
}

pub fn quick() -> InboundOptions {
    InboundOptions {
        beat_interval: Duration::from_millis(100),
        beats_missed_max: 4,
        ask_next_after: Duration::from_millis(700),
    }
}

/// A destination daemon: a listener behind SASL_PLAINTEXT + PLAIN that hands `LinkOpen` over.
pub struct Destination {
    pub address: SocketAddr,
    pub inbound: Inbound,
    pub directory: Arc<Directory>,
    task: tokio::task::JoinHandle<()>,
}

impl Destination {
    pub async fn start(options: InboundOptions) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), options, None).await
    }

    pub async fn start_at(at: SocketAddr, options: InboundOptions, source: Option<&str>) -> Self {
        let text = format!(
            "sasl.enabled.mechanisms=PLAIN\n\
             listener.name.cloud.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
             user_link=\"{LINK_PASSWORD}\" user_nobody=\"{LINK_PASSWORD}\";\n"
        );
        let security = ServerSecurity::from_properties(
            &Properties::parse("cloud", &text),
            "cloud",
            SecurityProtocol::SaslPlaintext,
        )
        .expect("destination");
        let mut tries = 0;
        let listener = loop {
            match Listener::bind(at, security.clone()).await {
                Ok(listener) => break listener,
                // The port of a destination that was stopped a moment ago.
                Err(error) if tries < 100 => {
                    tries += 1;
                    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => panic!("{error}"),
            }
        };
        let address = listener.local_addr();
        let facts = LinkFacts { source_cluster_id: source.map(str::to_owned), ..facts() };
        let directory = Arc::new(Directory {
            links: Mutex::new([(link().to_string(), facts)].into()),
            cluster_id: "CLOUD".to_owned(),
            pinned: Mutex::default(),
            may_alter: vec!["User:link".to_owned()],
        });
        let inbound = Inbound::new(Arc::clone(&directory) as Arc<dyn LinkDirectory>, options);
        let acceptor = inbound.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let mut connection = listener.accept().await;
                let inbound = acceptor.clone();
                connections.spawn(async move {
                    while let Ok(Some(frame)) = connection.next_frame().await {
                        let Ok(request) = RequestFrame::parse(frame) else { return };
                        if request.api_key == LINK_OPEN {
                            return inbound.accept(&request, connection);
                        }
                    }
                });
            }
        });
        Self { address, inbound, directory, task }
    }

    pub async fn lease(&self, to: Target) -> Result<KafkaClient, LeaseError> {
        self.inbound.connector(&link()).lease(to).await
    }

    /// Waits until so many members are connected.
    pub async fn members(&self, count: usize) {
        eventually("members", || self.inbound.status(&link()).map_or(0, |status| status.members.len()) == count).await;
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits for `done`, ten seconds at most.
pub async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub struct Source {
    pub link: String,
    pub member: u128,
    pub epoch: i64,
    pub user: &'static str,
    pub to: SocketAddr,
    pub beside: SocketAddr,
    pub more: String,
    pub destination_cluster_id: Option<String>,
}

impl Source {
    pub fn new(to: SocketAddr, beside: SocketAddr) -> Self {
        let more = String::new();
        Self {
            link: link().to_string(),
            member: 1,
            epoch: 1,
            user: "link",
            to,
            beside,
            more,
            destination_cluster_id: None,
        }
    }

    pub fn config(&self) -> OutboundConfig {
        let text = format!(
            "link.mode=SOURCE\nconnection.mode=OUTBOUND\nbootstrap.servers={}\nsecurity.protocol=SASL_PLAINTEXT\n\
             sasl.mechanism=PLAIN\nsasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
             username='{}' password='{LINK_PASSWORD}';\nlocal.security.protocol=SASL_PLAINTEXT\n\
             local.sasl.mechanism=SCRAM-SHA-512\n\
             local.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required username=\"mirror\" \
             password=\"{LOCAL_PASSWORD}\";\nlocal.listener.name=SASL_PLAINTEXT\nreconnect.backoff.ms=20\n\
             reconnect.backoff.max.ms=200\n{}",
            self.to, self.user, self.more
        );
        let properties = Properties::parse("clusterlink-CP-src.config", &text);
        let beside = [HostPort { host: self.beside.ip().to_string(), port: self.beside.port() }];
        let name = LinkName::new(&self.link).unwrap();
        let member = Uuid::from_u128(self.member);
        let parsed = OutboundConfig::from_properties(name, member, self.epoch, &properties, &beside);
        let (mut config, warnings) = parsed.expect("source half");
        assert!(warnings.is_empty());
        config.destination_cluster_id.clone_from(&self.destination_cluster_id);
        config
    }

    pub fn spawn(&self) -> Outbound {
        Outbound::spawn(self.config())
    }
}

/// Which broker answers.
pub async fn fetch_node(client: &KafkaClient) -> i32 {
    let records = fetch(client).await;
    i32::from_be_bytes(*records.first_chunk().expect("records"))
}

pub fn fetch_request(topic: u128) -> FetchRequest {
    let partition = fetch_request::FetchPartition::default().with_partition_max_bytes(1 << 20);
    let topic =
        fetch_request::FetchTopic::default().with_topic_id(Uuid::from_u128(topic)).with_partitions(vec![partition]);
    FetchRequest::default().with_max_bytes(64 << 20).with_topics(vec![topic])
}

pub async fn fetch(client: &KafkaClient) -> Bytes {
    let (_, response) = client.call(&fetch_request(0xA), 16, Duration::ZERO).await.expect("fetch");
    response.responses[0].partitions[0].records.clone().expect("records")
}

pub fn node(id: i32) -> Target {
    Target::Node(NodeId(id))
}
