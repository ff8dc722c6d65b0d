//! Which fetcher has which partition. A partition is held by the coordinator (no leader known) or by exactly one fetcher,
//! with its copy. When its leader moves, its fetcher hands it back and the coordinator passes it on; a copy never has two
//! writers.

use super::coordinator::Coordinator;
use crate::fetcher::{Command, Fetcher, Held, now};
use crate::partition::Event;
use crate::status::Beat;
use hawser_store::Store;
use hawser_wire::{NodeId, TopicPartition};
use std::hash::{DefaultHasher, Hash, Hasher};
use tokio::sync::mpsc;
use tracing::error;

/// Commands that may wait at one fetcher. The coordinator waits when it is full; the fetcher never waits for it in turn.
pub(super) const COMMANDS_MAX: usize = 1_024;

/// A fetcher's place: its broker, and which of the fetchers to it.
pub(super) type Place = (NodeId, usize);

/// How the coordinator reaches a fetcher.
pub(super) struct FetcherHandle<P> {
    pub(super) commands: mpsc::Sender<Command<P>>,
    pub(super) beat: Beat,
    pub(super) task: tokio::task::Id,
}

impl<S: Store> Coordinator<S> {
    /// Gives a partition to a fetcher of its leader.
    pub(super) async fn route(&mut self, held: Box<Held<S::Partition>>) {
        let Some(leader) = held.machine.leader() else {
            self.parked.insert(held.id.clone(), held);
            return;
        };
        let place = (leader.node, which(&held.id, self.config.fetchers));
        let fetcher = self.fetcher(place);
        held.side.place.follow(Some(fetcher.beat.clone()));
        let commands = fetcher.commands.clone();
        self.placed.insert(held.id.clone(), place);
        let _ = commands.send(Command::Assign(held)).await; // ended: `fetcher_ended` makes the partition anew
    }

    fn fetcher(&mut self, place: Place) -> &FetcherHandle<S::Partition> {
        let Self { fetchers, tasks, store, connector, config, throttle, counters, notices, .. } = self;
        fetchers.entry(place).or_insert_with(|| {
            let (commands, taken) = mpsc::channel(COMMANDS_MAX);
            let beat = Beat::default();
            let fetcher = Fetcher::new(
                place.0,
                store.clone(),
                connector.clone(),
                config.clone(),
                throttle.clone(),
                counters.clone(),
                beat.clone(),
                taken,
                notices.clone(),
            );
            let task = tasks.spawn(async move {
                fetcher.run().await;
                place
            });
            FetcherHandle { commands, beat, task: task.id() }
        })
    }

    /// A fetcher only ends by itself when it panicked: its partitions are opened anew, which fences what it held.
    pub(super) async fn fetcher_ended(&mut self, ended: Result<Place, tokio::task::JoinError>) {
        let place = match ended {
            Ok(place) => place,
            Err(error) => {
                error!(link = %self.config.link, %error, "a fetcher panicked; its partitions start over");
                let Some((&place, _)) = self.fetchers.iter().find(|(_, f)| f.task == error.id()) else { return };
                place
            }
        };
        self.fetchers.remove(&place);
        let lost: Vec<_> = self.placed.iter().filter(|(_, at)| **at == place).map(|(id, _)| id.clone()).collect();
        for id in lost {
            self.placed.remove(&id);
            let Some(mirror) = self.mirrors.get(&id.topic) else { continue };
            let mut held = mirror.hold(id, &self.config, &self.board);
            if let Some(leader) = self.leaders.get(&held.id) {
                held.machine.on(Event::Leader(*leader), now());
            }
            self.route(held).await;
        }
    }
}

/// Which of `fetchers` fetchers has a partition: a topic's partitions take turns, and topics begin at different ones.
fn which(id: &TopicPartition, fetchers: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    id.topic.hash(&mut hasher);
    let turn = hasher.finish().wrapping_add(u64::try_from(id.partition).unwrap_or_default());
    usize::try_from(turn % fetchers.max(1) as u64).unwrap_or_default()
}
