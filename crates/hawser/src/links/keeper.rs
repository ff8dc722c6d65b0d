//! Keeps in the state what replication finds out: ids, new partitions, beginnings, dead ends. What cannot be written is
//! tried again until it is, as a restart without it could lose records; meanwhile the link shows it, replication goes on,
//! and its coordinator waits once [`MirrorEvent`]s fill their queue.

use super::is_replicated;
use crate::lock::lock;
use crate::persist::persist;
use crate::service::now_ms;
use hawser_link::mirror::MirrorFact;
use hawser_replicate::MirrorEvent;
use hawser_state::{LinkRecord, MirrorRecord, State, TopicRecord};
use hawser_transport::{caught, restart_after};
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The task that keeps the findings of one link.
pub(super) struct Keeper {
    task: JoinHandle<()>,
    trouble: Arc<Mutex<Option<String>>>,
}

impl Keeper {
    /// Of link `link`. Ends with the replicator whose events these are.
    pub(super) fn spawn(state: State, link: String, events: mpsc::Receiver<MirrorEvent>) -> Self {
        Self::over(events, move |event| {
            let (state, link) = (state.clone(), link.clone());
            async move { persist(&state, move |state| apply(state, &link, &event)).await.map_err(|error| error.to_string()) }
        })
    }

    fn over<F>(
        mut events: mpsc::Receiver<MirrorEvent>,
        mut write: impl FnMut(MirrorEvent) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Result<(), String>> + Send,
    {
        let trouble = Arc::new(Mutex::new(None));
        let shown = Arc::clone(&trouble);
        let task = tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                let mut failures = 0;
                loop {
                    let written = caught(async { write(event.clone()).await }).await;
                    let Err(error) = written.map_err(|panic| panic.to_string()).flatten() else { break };
                    tracing::error!(error, "what replication found out could not be kept");
                    *lock(&shown) = Some(format!("what replication found out cannot be kept: {error}"));
                    if events.is_closed() {
                        break; // the link has ended, and nobody waits for a disk that is full
                    }
                    tokio::time::sleep(restart_after(failures)).await;
                    failures += 1;
                }
                *lock(&shown) = None;
            }
        });
        Self { task, trouble }
    }

    /// What keeps it, if anything does.
    pub(super) fn trouble(&self) -> Option<String> {
        lock(&self.trouble).clone()
    }

    /// Waits until all is kept that there is to keep.
    pub(super) async fn ended(self) {
        let _ = self.task.await; // its panics are caught
    }
}

/// Writes one event of `link` down; `Ok` also for those that need not be kept.
pub(super) fn apply(state: &State, link: &str, event: &MirrorEvent) -> Result<(), hawser_state::Error> {
    let change = |name: &str, change: &dyn Fn(&mut TopicRecord, &mut MirrorRecord)| {
        let with_mirror = |topic: &mut TopicRecord| {
            let Some(mut mirror) = topic.mirror.take() else { return false };
            change(topic, &mut mirror);
            topic.mirror = Some(mirror);
            true
        };
        state.update_topic(name, with_mirror).map(drop)
    };
    match event {
        MirrorEvent::SourceKnown { cluster_id } => {
            tracing::info!(link, cluster_id, "the source cluster is known");
            let learn = |record: &mut LinkRecord| {
                let is_news = record.remote_cluster_id.is_none();
                record.remote_cluster_id.get_or_insert_with(|| cluster_id.clone());
                is_news
            };
            state.update_link(link, learn).map(drop)
        }
        MirrorEvent::Pinned { topic, source_topic_id } => {
            change(topic, &|_, mirror| mirror.source_topic_id = *source_topic_id)
        }
        MirrorEvent::PartitionsGrew { topic, from, to } => {
            tracing::info!(%topic, from, to, "the source has more partitions");
            change(topic, &|record, mirror| {
                // What was stopped at its ends meanwhile, or mirrors something else by now, has no part in that.
                if mirror.link == link && is_replicated(mirror) {
                    record.partitions = (*to).max(record.partitions);
                }
            })
        }
        // A copy that has begun knows where by itself; a partition that comes later begins at its beginning.
        MirrorEvent::Started { topic } => change(topic, &|_, mirror| {
            mirror.has_begun = true;
            mirror.started.clear();
            mirror.set_status(mirror.status.on_fact(MirrorFact::Flows), now_ms());
        }),
        MirrorEvent::PartitionStarted { topic, partition } => change(topic, &|_, mirror| {
            mirror.started.insert(*partition);
        }),
        MirrorEvent::Failed { topic, partition: None, failure } => {
            tracing::error!(%topic, %failure, "the mirror failed");
            change(topic, &|_, mirror| {
                mirror.fail(failure.reason.as_str(), now_ms());
            })
        }
        MirrorEvent::Failed { topic, partition: Some(partition), failure } => {
            tracing::error!(%topic, partition, %failure, "a mirror partition failed");
            Ok(())
        }
        MirrorEvent::Gap { topic, partition, from, to } => {
            tracing::warn!(%topic, partition, %from, %to, "the source trimmed records before they were mirrored");
            Ok(())
        }
        MirrorEvent::Truncated { topic, partition, from, to } => {
            tracing::warn!(%topic, partition, %from, %to, "the source replaced its tail; the mirror was cut likewise");
            Ok(())
        }
        MirrorEvent::Unavailable { topic, detail } => {
            tracing::warn!(%topic, detail, "the source topic does not answer");
            Ok(())
        }
        MirrorEvent::Trouble { topic, partition, trouble } => {
            tracing::warn!(%topic, partition, %trouble, "a mirror partition waits");
            Ok(())
        }
        MirrorEvent::Available { topic } => {
            tracing::info!(%topic, "the source topic answers again");
            Ok(())
        }
        MirrorEvent::Recovered { topic, partition } => {
            tracing::info!(%topic, partition, "a mirror partition goes on");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
