//! A source cluster in memory, behind real sockets: it speaks ApiVersions, Metadata, Fetch with sessions and long polls,
//! ListOffsets, OffsetForLeaderEpoch and DescribeConfigs as stock Kafka does, and serves prepared batches without copying them.
//! Of consumer groups and ACLs it tells as much as a link's syncs ask for.
//!
//! Used by the tests of replication, which also make it misbehave, and by the benchmarks, which want more bytes per second
//! from it than any link can carry. A run of batches may be repeated any number of times without being held in memory.
//!
//! ```no_run
//! # async fn example(listener: hawser_transport::Listener) {
//! use hawser_testkit::batches::BatchBuilder;
//! use hawser_testkit::fake_source::FakeSource;
//! let source = FakeSource::start(vec![listener]); // node 1
//! source.create("orders", 1);
//! source.append("orders", 0, BatchBuilder::at(0).records(100, 1024).build());
//! # }
//! ```

mod fetch;
mod log;
mod serve;
mod syncs;

use bytes::Bytes;
use hawser_transport::{Listener, ServerSecurity};
use log::Log;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

/// The cluster. It ends with its last clone's [`FakeSource::stop`], or when the runtime does.
#[derive(Clone)]
pub struct FakeSource {
    cluster: Arc<Cluster>,
    tasks: Arc<Mutex<JoinSet<()>>>,
}

struct Cluster {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
    addresses: Vec<SocketAddr>,
}

struct State {
    topics: BTreeMap<Arc<str>, Topic>,
    groups: BTreeMap<Arc<str>, syncs::Offsets>,
    /// By group, where it is not `consumer`.
    protocol_types: BTreeMap<Arc<str>, &'static str>,
    /// Who may read what, by topic.
    readers: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    nodes: Vec<Node>,
    fetch_version_max: i16,
    sessions_max: usize,
    next_session: i32,
    requests: HashMap<i16, u64>,
    fetch_bytes_sent: u64,
}

struct Topic {
    id: Uuid,
    /// `mirror.source.cluster.ids`.
    source_clusters: Option<String>,
    partitions: Vec<Log>,
}

#[derive(Default)]
struct Node {
    sessions: HashMap<i32, fetch::Session>,
    /// Raised to drop every connection.
    generation: u64,
    stalled: bool,
}

impl FakeSource {
    /// A cluster of one broker for each listener, numbered from 1. Must be called inside a runtime.
    pub fn start(listeners: Vec<Listener>) -> Self {
        let addresses: Vec<_> = listeners.iter().map(Listener::local_addr).collect();
        let nodes = listeners.iter().map(|_| Node::default()).collect();
        let state = State {
            topics: BTreeMap::new(),
            groups: BTreeMap::new(),
            protocol_types: BTreeMap::new(),
            readers: BTreeMap::new(),
            nodes,
            fetch_version_max: 17,
            sessions_max: 1_000,
            next_session: 1,
            requests: HashMap::new(),
            fetch_bytes_sent: 0,
        };
        let cluster = Arc::new(Cluster { state: Mutex::new(state), changed: watch::Sender::new(0), addresses });
        let mut tasks = JoinSet::new();
        for (node, listener) in listeners.into_iter().enumerate() {
            tasks.spawn(serve::accept(cluster.clone(), node, listener));
        }
        Self { cluster, tasks: Arc::new(Mutex::new(tasks)) }
    }

    /// One broker on a free port of this machine, without TLS and login.
    pub async fn local() -> Self {
        let listener = Listener::bind(([127, 0, 0, 1], 0).into(), ServerSecurity::plaintext()).await;
        Self::start(vec![listener.expect("a free port")])
    }

    /// Ends all brokers and their connections.
    pub fn stop(&self) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }

    /// Where node 1, 2, … listen.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.cluster.addresses
    }

    /// Makes a topic, replacing one of the same name by another of another id. Partition `p` is led by node
    /// `p % nodes + 1` in epoch 0.
    pub fn create(&self, topic: &str, partitions: i32) -> Uuid {
        let id = Uuid::new_v4();
        self.cluster.change(|state| {
            let nodes = i32::try_from(state.nodes.len()).unwrap_or(i32::MAX);
            let partitions = (0..partitions).map(|index| Log::new(index % nodes + 1)).collect();
            state.topics.insert(topic.into(), Topic { id, source_clusters: None, partitions });
        });
        id
    }

    /// Makes a topic tell that it is a mirror of records that came through these clusters, as Hawser's do.
    pub fn came_through(&self, topic: &str, clusters: &str) {
        self.cluster.change(|state| {
            let topic = state.topics.get_mut(topic).expect("the topic exists");
            topic.source_clusters = Some(clusters.to_owned());
        });
    }

    /// Removes a topic.
    pub fn delete(&self, topic: &str) {
        self.cluster.change(|state| state.topics.remove(topic));
    }

    /// Adds empty partitions.
    pub fn grow(&self, topic: &str, partitions: i32) {
        self.cluster.change(|state| {
            let nodes = i32::try_from(state.nodes.len()).unwrap_or(i32::MAX);
            let topic = state.topics.get_mut(topic).expect("the topic exists");
            let from = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
            topic.partitions.extend((from..partitions).map(|index| Log::new(index % nodes + 1)));
        });
    }

    /// Appends whole batches, which must start at or after the log end.
    pub fn append(&self, topic: &str, partition: i32, batches: Bytes) {
        self.log(topic, partition, |log| log.append(batches, 1));
    }

    /// Appends whole batches `times` times over, each time behind the last, in memory only once.
    pub fn append_repeated(&self, topic: &str, partition: i32, batches: Bytes, times: u64) {
        self.log(topic, partition, |log| log.append(batches, times));
    }

    /// Makes `node` the leader in the next epoch.
    pub fn lead(&self, topic: &str, partition: i32, node: i32) {
        self.log(topic, partition, |log| log.lead(node));
    }

    /// As an unclean election: `node` leads in the next epoch, and everything from `offset` on is lost.
    pub fn lead_uncleanly(&self, topic: &str, partition: i32, node: i32, offset: i64) {
        self.log(topic, partition, |log| {
            log.truncate(offset);
            log.lead(node);
        });
    }

    /// Raises the log start, also inside a batch (DeleteRecords).
    pub fn trim(&self, topic: &str, partition: i32, offset: i64) {
        self.log(topic, partition, |log| log.trim(offset));
    }

    /// Commits an offset of a consumer group, which node 1 coordinates.
    pub fn commit(&self, group: &str, topic: &str, partition: i32, offset: i64) {
        self.cluster.change(|state| {
            let topics = state.groups.entry(group.into()).or_default();
            topics.entry(topic.into()).or_default().insert(partition, offset);
        });
    }

    /// Lists a group under this protocol type, and not as `consumer`.
    pub fn set_protocol_type(&self, group: &str, protocol_type: &'static str) {
        self.cluster.change(|state| state.protocol_types.insert(group.into(), protocol_type));
    }

    /// Adds the ACL that lets `principal` (`User:name`) read a topic from any host.
    pub fn allow_read(&self, topic: &str, principal: &str) {
        self.cluster.change(|state| state.readers.entry(topic.into()).or_default().insert(principal.into()));
    }

    /// Takes back what [`allow_read`](Self::allow_read) added.
    pub fn disallow_read(&self, topic: &str, principal: &str) {
        self.cluster.change(|state| state.readers.get_mut(topic).is_some_and(|readers| readers.remove(principal)));
    }

    /// From now on every request about the partition is answered with this error; `None` mends it.
    pub fn fail(&self, topic: &str, partition: i32, error_code: Option<i16>) {
        self.log(topic, partition, |log| log.error_code = error_code.unwrap_or(0));
    }

    /// From now on the last byte of every fetch of the partition is flipped.
    pub fn corrupt(&self, topic: &str, partition: i32, corrupt: bool) {
        self.log(topic, partition, |log| log.corrupt = corrupt);
    }

    /// A stalled node accepts connections and requests, and answers nothing.
    pub fn stall(&self, node: i32, stalled: bool) {
        self.cluster.change(|state| state.node(node).stalled = stalled);
    }

    /// Closes every connection to `node`; its sessions are forgotten.
    pub fn drop_connections(&self, node: i32) {
        self.cluster.change(|state| {
            let node = state.node(node);
            node.generation += 1;
            node.sessions.clear();
        });
    }

    /// Forgets the fetch sessions of `node`, as a broker does that needs the place.
    pub fn forget_sessions(&self, node: i32) {
        self.cluster.change(|state| state.node(node).sessions.clear());
    }

    /// Offers Fetch up to `version` (11: no lineage; 12: no topic ids) to connections made from now on.
    pub fn set_fetch_version_max(&self, version: i16) {
        self.cluster.change(|state| state.fetch_version_max = version);
    }

    /// Most fetch sessions a node keeps; 0 for none.
    pub fn set_sessions_max(&self, sessions: usize) {
        self.cluster.change(|state| state.sessions_max = sessions);
    }

    /// Requests answered so far, by API key.
    pub fn requests(&self, api_key: i16) -> u64 {
        self.cluster.lock().requests.get(&api_key).copied().unwrap_or(0)
    }

    /// Bytes of batches sent in answers to Fetch, those cut off included.
    pub fn fetch_bytes_sent(&self) -> u64 {
        self.cluster.lock().fetch_bytes_sent
    }

    /// Log start and log end.
    pub fn bounds(&self, topic: &str, partition: i32) -> (i64, i64) {
        let mut bounds = (0, 0);
        self.log(topic, partition, |log| bounds = (log.start, log.end));
        bounds
    }

    /// All bytes from the batch that holds the log start to the end.
    pub fn bytes(&self, topic: &str, partition: i32) -> Bytes {
        let mut bytes = Vec::new();
        self.log(topic, partition, |log| {
            for piece in log.read(log.start, usize::MAX, true) {
                bytes.extend_from_slice(&piece);
            }
        });
        bytes.into()
    }

    fn log(&self, topic: &str, partition: i32, act: impl FnOnce(&mut Log)) {
        self.cluster.change(|state| act(state.log(topic, partition).expect("the partition exists")));
    }
}

impl Cluster {
    fn change<T>(&self, act: impl FnOnce(&mut State) -> T) {
        act(&mut self.lock());
        self.changed.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn node(&mut self, node: i32) -> &mut Node {
        let index = usize::try_from(node - 1).expect("nodes are numbered from 1");
        self.nodes.get_mut(index).expect("the node exists")
    }

    fn log(&mut self, topic: &str, partition: i32) -> Option<&mut Log> {
        self.topics.get_mut(topic)?.partitions.get_mut(usize::try_from(partition).ok()?)
    }
}
