//! The shell of a link's replication: one coordinator task that keeps metadata and decides which fetcher has which
//! partition, and one task for each fetcher of each source broker.
//!
//! ```text
//!   daemon ── Replicator (handle) ──► coordinator ── Command ──► fetcher (node 1)
//!          ◄── MirrorEvent ─────────      │       ◄── Notice ─── fetcher (node 2) …
//!                                      metadata, from any broker
//! ```
//!
//! Here is the handle; the task is in `coordinator`, its metadata in `metadata`, its fetchers in `placement`.

mod coordinator;
mod metadata;
mod mirror;
mod placement;

use crate::config::{MirrorSpec, ReplicateConfig};
use crate::fetcher::now;
use crate::reason::{Failure, Trouble};
use crate::status::{Board, LinkStatus, Unreachable};
use crate::throttle::Throttle;
use coordinator::Coordinator;
use hawser_store::Store;
use hawser_transport::{Connector, KafkaClient};
use hawser_wire::{Offset, Uuid};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Calls of the handle that may wait: they are rare, and the caller waits anyway.
const CALLS_MAX: usize = 64;
/// Events that may wait for the daemon. When it does not take them the coordinator waits, while data goes on flowing.
const EVENTS_MAX: usize = 1_024;

/// What the daemon should persist or show. Topics are named as they are here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MirrorEvent {
    /// The source has said for the first time which cluster it is: keep it, and pass it in
    /// [`ReplicateConfig::source_cluster_id`].
    SourceKnown {
        /// Its cluster id.
        cluster_id: String,
    },
    /// The source's id of the topic (nil if it has none): keep it, so that another topic of that name is refused.
    Pinned {
        /// The mirror.
        topic: Arc<str>,
        /// The source's topic id.
        source_topic_id: Uuid,
    },
    /// The source has more partitions; their copies are being opened.
    PartitionsGrew {
        /// The mirror.
        topic: Arc<str>,
        /// Before.
        from: i32,
        /// Now.
        to: i32,
    },
    /// The beginning of every partition is stored: from now on the mirror's start offset spec is history.
    Started {
        /// The mirror.
        topic: Arc<str>,
    },
    /// The beginning of one partition is stored, or it is newer than the mirror: keep that until
    /// [`MirrorEvent::Started`], and pass it in [`MirrorSpec::started`]. An empty copy does not tell by itself that it
    /// began at 0, and would look for its start offset anew, behind what came meanwhile. Only for mirrors that do not
    /// begin at the earliest offset.
    PartitionStarted {
        /// The mirror.
        topic: Arc<str>,
        /// Its partition.
        partition: i32,
    },
    /// The topic does not answer at the source; it is retried.
    Unavailable {
        /// The mirror.
        topic: Arc<str>,
        /// What was seen.
        detail: String,
    },
    /// It answers again.
    Available {
        /// The mirror.
        topic: Arc<str>,
    },
    /// Records were trimmed at the source before they were mirrored; the copy goes on behind the gap.
    Gap {
        /// The mirror.
        topic: Arc<str>,
        /// Its partition.
        partition: i32,
        /// First offset that is missing.
        from: Offset,
        /// First offset that is not.
        to: Offset,
    },
    /// The source replaced its tail, and the copy was cut likewise.
    Truncated {
        /// The mirror.
        topic: Arc<str>,
        /// Its partition.
        partition: i32,
        /// The copy's end before.
        from: Offset,
        /// The copy's end after.
        to: Offset,
    },
    /// A partition met a trouble; it is retried.
    Trouble {
        /// The mirror.
        topic: Arc<str>,
        /// Its partition.
        partition: i32,
        /// What.
        trouble: Trouble,
    },
    /// The trouble is over.
    Recovered {
        /// The mirror.
        topic: Arc<str>,
        /// Its partition.
        partition: i32,
    },
    /// A dead end: of the topic, or of one partition of it.
    Failed {
        /// The mirror.
        topic: Arc<str>,
        /// The partition, `None` for all.
        partition: Option<i32>,
        /// Why.
        failure: Failure,
    },
}

/// The replication of one link. Cheap to clone; [`Replicator::stop`] ends it, as does dropping the last clone.
#[derive(Clone)]
pub struct Replicator {
    calls: mpsc::Sender<Call>,
    board: Arc<Board>,
    throttle: Arc<Throttle>,
}

/// The link's replication has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("replication of this link has stopped")]
pub struct Stopped;

enum Call {
    Add(Box<MirrorSpec>, oneshot::Sender<()>),
    Remove(Vec<Arc<str>>, oneshot::Sender<()>),
    Pause(Arc<str>, oneshot::Sender<()>),
    Resume(Arc<str>, oneshot::Sender<()>),
    Lend(KafkaClient),
    Configure(Box<ReplicateConfig>, Arc<dyn Connector>, oneshot::Sender<()>),
    Stop(oneshot::Sender<()>),
}

impl Replicator {
    /// Starts the coordinator on the current runtime. The daemon must take the events.
    pub fn spawn<S: Store>(
        config: ReplicateConfig,
        store: Arc<S>,
        connector: Arc<dyn Connector>,
    ) -> (Self, mpsc::Receiver<MirrorEvent>) {
        let (calls, incoming) = mpsc::channel(CALLS_MAX);
        let (events, taken) = mpsc::channel(EVENTS_MAX);
        let board = Arc::new(Board::new());
        let throttle = Arc::new(Throttle::new(config.bytes_per_second, now()));
        let (coordinator, heard) = Coordinator::new(config, store, connector, board.clone(), throttle.clone(), events);
        tokio::spawn(coordinator.supervise(incoming, heard));
        (Self { calls, board, throttle }, taken)
    }

    /// Mirrors one more topic. Returns when it is taken over; its state is then on the board.
    ///
    /// # Errors
    /// When the replication has stopped.
    pub async fn add_mirror(&self, spec: MirrorSpec) -> Result<(), Stopped> {
        self.call(|done| Call::Add(Box::new(spec), done)).await
    }

    /// Gives a connection to any broker of the source to ask for metadata on. Spares the first mirror one of its own; one
    /// that is not needed is closed.
    ///
    /// # Errors
    /// When the replication has stopped.
    pub async fn lend(&self, client: KafkaClient) -> Result<(), Stopped> {
        self.calls.send(Call::Lend(client)).await.map_err(|_| Stopped)
    }

    /// Stops mirroring `topics` (their names here). When this returns nothing writes to their copies any more. Costs one turn
    /// of every fetcher, however many they are.
    ///
    /// # Errors
    /// When the replication has stopped.
    pub async fn remove<T: AsRef<str>>(&self, topics: &[T]) -> Result<(), Stopped> {
        let topics = topics.iter().map(|topic| topic.as_ref().into()).collect();
        self.call(|done| Call::Remove(topics, done)).await
    }

    /// Stops fetching `topic` until [`Replicator::resume`]. What has arrived is still written.
    ///
    /// # Errors
    /// When the replication has stopped.
    pub async fn pause(&self, topic: &str) -> Result<(), Stopped> {
        self.call(|done| Call::Pause(topic.into(), done)).await
    }

    /// Goes on with `topic`.
    ///
    /// # Errors
    /// When the replication has stopped.
    pub async fn resume(&self, topic: &str) -> Result<(), Stopped> {
        self.call(|done| Call::Resume(topic.into(), done)).await
    }

    /// Goes on with these settings and this way to the source. Everything but the mirrors is made anew, as after a start:
    /// fetchers end between two writes, and others continue where the copies end.
    ///
    /// # Errors
    /// When the replication has stopped.
    pub async fn configure(&self, config: ReplicateConfig, connector: Arc<dyn Connector>) -> Result<(), Stopped> {
        self.throttle.set(config.bytes_per_second);
        self.call(|done| Call::Configure(Box::new(config), connector, done)).await
    }

    /// How everything stands. Proportional to the number of partitions.
    pub fn status(&self) -> LinkStatus {
        self.board.snapshot()
    }

    /// The source's high watermark of one partition of mirror `topic`; `None` before its first answer, since the
    /// replication was started. The copy has taken it over by then, as far as it reaches.
    pub fn source_high_watermark(&self, topic: &str, partition: i32) -> Option<Offset> {
        self.board.source_high_watermark(topic, partition)
    }

    /// Why the source gives no metadata, if it gives none. Costs nothing beside [`Replicator::status`].
    pub fn unreachable(&self) -> Option<Unreachable> {
        self.board.unreachable()
    }

    /// Ends all fetchers between two writes and waits for them. Nothing is flushed: that is the store's own.
    pub async fn stop(&self) {
        let _ = self.call(Call::Stop).await; // stopped already is as good
    }

    async fn call(&self, call: impl FnOnce(oneshot::Sender<()>) -> Call) -> Result<(), Stopped> {
        let (done, answer) = oneshot::channel();
        self.calls.send(call(done)).await.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }
}
