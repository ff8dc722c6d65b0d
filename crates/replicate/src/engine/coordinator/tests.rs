//! What tests from outside cannot reach: a panic in the middle of starting over, news that overtake a partition.

use super::*;
use crate::config::MirrorSpec;
use crate::engine::Call;
use hawser_store::{MirrorPartition, Position, StoreError, TopicSpec};
use hawser_transport::{LeaseError, Target};
use hawser_wire::{Batch, LeaderEpoch, NodeId, Offset};
use std::sync::atomic::{AtomicU32, Ordering};

/// Nothing is ever opened in it.
struct Nowhere;

/// Falls apart when it is dropped, as often as `left` says.
struct Copy {
    id: TopicPartition,
    left: Arc<AtomicU32>,
}

impl Drop for Copy {
    fn drop(&mut self) {
        let left = self.left.load(Ordering::Relaxed);
        if left > 0 {
            self.left.store(left - 1, Ordering::Relaxed);
            panic!("a wire was tripped");
        }
    }
}

impl Store for Nowhere {
    type Partition = Copy;

    async fn open(&self, _: &TopicSpec, _: i32) -> Result<Copy, StoreError> {
        Err(StoreError::Refused("nowhere".into()))
    }

    fn losses(&self) -> u64 {
        0
    }
}

impl MirrorPartition for Copy {
    fn id(&self) -> &TopicPartition {
        &self.id
    }

    fn position(&self) -> Position {
        let zero = Offset(0);
        Position { log_start: zero, log_end: zero, flushed: zero, last_epoch: LeaderEpoch::NONE }
    }

    fn end_of_epoch(&self, _: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        None
    }

    async fn append(&mut self, _: &[Batch]) -> Result<Position, StoreError> {
        Ok(self.position())
    }

    fn observe_high_watermark(&mut self, _: Offset) {}

    async fn truncate_to(&mut self, _: Offset) -> Result<Position, StoreError> {
        Ok(self.position())
    }

    async fn advance_log_start(&mut self, _: Offset) -> Result<Position, StoreError> {
        Ok(self.position())
    }

    async fn restart_at(&mut self, _: Offset) -> Result<Position, StoreError> {
        Ok(self.position())
    }

    async fn flush(&mut self) -> Result<Position, StoreError> {
        Ok(self.position())
    }
}

/// Panics the first time that it is asked.
struct Wired(AtomicU32);

impl Connector for Wired {
    fn lease(&self, _: Target) -> Pin<Box<dyn Future<Output = Result<KafkaClient, LeaseError>> + Send + '_>> {
        assert!(self.0.fetch_add(1, Ordering::Relaxed) > 0, "the first wire was tripped");
        Box::pin(std::future::ready(Err(LeaseError::Unavailable("nobody is there".into()))))
    }
}

#[tokio::test]
async fn a_panic_while_it_starts_over_costs_no_mirror() {
    let (calls, incoming) = mpsc::channel(8);
    let (events, _taken) = mpsc::channel(8);
    let board = Arc::new(Board::new());
    let connector = Arc::new(Wired(AtomicU32::new(0)));
    let config = ReplicateConfig::with_defaults("dr");
    let throttle = Arc::new(Throttle::new(None, now()));
    let (mut coordinator, heard) =
        Coordinator::new(config, Arc::new(Nowhere), connector.clone(), board.clone(), throttle, events);
    for name in ["a", "b", "c"] {
        let topic = TopicSpec { name: name.into(), id: hawser_wire::Uuid::from_u128(1) };
        let (start, started) = (Start::Latest, [1].into());
        coordinator.add(MirrorSpec { partitions: 2, start, started, ..MirrorSpec::new(topic) }).await;
    }
    let left = Arc::new(AtomicU32::new(1));
    for (id, held) in &mut coordinator.parked {
        held.side.copy = Some(Copy { id: id.clone(), left: left.clone() });
    }
    let supervised = tokio::spawn(coordinator.supervise(incoming, heard));
    let is_back = || connector.0.load(Ordering::Relaxed) > 1;
    while !is_back() {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        assert!(!supervised.is_finished(), "it ended in silence");
    }
    assert_eq!(left.load(Ordering::Relaxed), 0, "it failed while it started over");
    let topics = board.snapshot().topics;
    let seen: Vec<_> = topics.iter().map(|topic| (&*topic.topic, topic.partitions.len())).collect();
    assert_eq!(seen, [("a", 2), ("b", 2), ("c", 2)]);
    let (done, stopped) = oneshot::channel();
    assert!(calls.send(Call::Stop(done)).await.is_ok(), "it runs");
    stopped.await.expect("it says that it has stopped");
    supervised.await.expect("no panic comes through");
}

#[tokio::test]
async fn a_partition_that_comes_back_goes_to_who_leads_it_by_now() {
    let (events, _taken) = mpsc::channel(8);
    let (config, throttle) = (ReplicateConfig::with_defaults("dr"), Arc::new(Throttle::new(None, now())));
    let connector = Arc::new(Wired(AtomicU32::new(1)));
    let board = Arc::new(Board::new());
    let (mut coordinator, _heard) = Coordinator::new(config, Arc::new(Nowhere), connector, board, throttle, events);
    let topic = TopicSpec { name: "t".into(), id: hawser_wire::Uuid::from_u128(1) };
    coordinator.add(MirrorSpec { partitions: 1, ..MirrorSpec::new(topic) }).await;
    let id = TopicPartition::new("t", 0);
    let mut held = coordinator.parked.remove(&id).expect("nobody leads it yet");
    let leader = |node, epoch| Leader { node: NodeId(node), epoch: LeaderEpoch(epoch) };
    // Its fetcher let go of it for broker 2; broker 3 has taken over before that was heard.
    held.machine.on(Event::Leader(leader(2, 6)), now());
    coordinator.placed.insert(id.clone(), (NodeId(1), 0));
    coordinator.leaders.insert(id.clone(), leader(3, 7));
    coordinator.hear(Notice::Returned(held)).await;
    assert_eq!(coordinator.placed.get(&id).map(|(node, _)| *node), Some(NodeId(3)));
}
