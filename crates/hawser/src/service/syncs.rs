//! The syncs of every link that holds mirrors: when they run, and what they write to here.

use super::Service;
use super::mirrors::WantedMirror;
use crate::lock::lock;
use crate::operations::{Outcome, RefusalCode};
use crate::persist::persist;
use hawser_broker::Broker;
use hawser_state::{
    AclFilter, AclOperation, AclPatternType, AclPermission, AclRecord, AclResourceType,
    CommittedOffset as StoredOffset, GroupChange, LinkRecord, MirrorRecord, MirrorStatus, TopicRecord,
};
use hawser_sync::{
    Acl, AclsHere, BoxFuture, CommittedOffset, Destination, GroupOffsets, Mirror, SourceEnds, SyncConfig, Syncs, Task,
    TaskError, TaskErrorCode, TaskStatus, TopicHere,
};
use hawser_wire::{Offset, TopicPartition};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Weak};

/// The running syncs, by link.
#[derive(Default)]
pub(super) struct RunningSyncs(std::sync::Mutex<BTreeMap<String, Syncs>>);

/// This daemon as the destination of one link.
pub(super) struct LinkDestination {
    service: Weak<Service>,
    link: String,
    /// `cluster.link.prefix`.
    prefix: String,
}

impl Service {
    /// Starts the syncs of every link. To be called once, when the links run.
    pub(crate) async fn start_syncs(&self, broker: &Arc<Broker>) {
        let _ = self.broker.set(Arc::downgrade(broker));
        for record in self.state.links() {
            self.follow_link(&record).await;
        }
    }

    /// Makes the syncs of a link as its record says, after it was made or changed.
    pub(super) async fn follow_link(&self, record: &LinkRecord) {
        let before = self.forget_link(&record.name).await;
        let (Ok(config), Some(source)) = (self.link_config(record), self.links.source(&record.name)) else { return };
        let to = self.destination(&record.name, &config.mirrors.prefix);
        let syncs = Syncs::spawn(SyncConfig::new(&record.name, &config), source, Arc::new(to), before);
        lock(&self.syncs.0).insert(record.name.clone(), syncs);
    }

    /// What the syncs of link `name` write to.
    pub(super) fn destination(&self, name: &str, prefix: &str) -> LinkDestination {
        LinkDestination { service: self.me.clone(), link: name.to_owned(), prefix: prefix.to_owned() }
    }

    /// Ends the syncs of link `name`: when this returns they write nothing any more. Gives how their tasks stood.
    pub(super) async fn forget_link(&self, name: &str) -> Vec<TaskStatus> {
        let syncs = lock(&self.syncs.0).remove(name);
        match syncs {
            Some(syncs) => syncs.stop().await,
            None => Vec::new(),
        }
    }

    /// Ends all syncs.
    pub(super) async fn stop_syncs(&self) {
        let all = std::mem::take(&mut *lock(&self.syncs.0));
        for syncs in all.into_values() {
            syncs.stop().await;
        }
    }

    /// How the tasks of link `name` stand; nothing for a half without mirrors.
    pub(super) fn sync_status(&self, name: &str) -> Vec<TaskStatus> {
        lock(&self.syncs.0).get(name).map(Syncs::status).unwrap_or_default()
    }

    /// One more pass of what a promotion of `topics` over link `name` waits for; by topic, what is not settled. The mirrors
    /// hold all that their sources have up to these ends. Where the syncs do not run, as while the link's settings change,
    /// nothing is settled.
    pub(crate) async fn settle_syncs(&self, name: &str, topics: SourceEnds) -> BTreeMap<Arc<str>, Vec<(Task, String)>> {
        let settle = lock(&self.syncs.0).get(name).map(|syncs| syncs.settle(topics.clone()));
        match settle {
            Some(settle) => settle.await,
            None => {
                let why = (Task::TopicConfigsSync, "the syncs of the link do not run now".to_owned());
                topics.into_keys().map(|topic| (topic, vec![why.clone()])).collect()
            }
        }
    }
}

impl LinkDestination {
    fn service(&self) -> Result<Arc<Service>, TaskError> {
        self.service.upgrade().ok_or_else(|| failed("the daemon stops"))
    }

    fn broker(&self) -> Result<Arc<Broker>, TaskError> {
        self.service()?.broker.get().and_then(Weak::upgrade).ok_or_else(|| failed("the daemon stops"))
    }

    /// The mirrors of the link that follow their source.
    fn following(&self) -> Vec<(Arc<TopicRecord>, MirrorRecord)> {
        let Ok(service) = self.service() else { return Vec::new() };
        service.mirrors_of(Some(&self.link)).filter(|(_, mirror)| follows(mirror.status)).collect()
    }
}

/// Whether what surrounds a mirror of this status is still the source's.
fn follows(status: MirrorStatus) -> bool {
    match status {
        MirrorStatus::Active | MirrorStatus::PendingStopped => true,
        MirrorStatus::PendingMirror | MirrorStatus::Paused | MirrorStatus::Stopped | MirrorStatus::Failed => false,
    }
}

impl Destination for LinkDestination {
    fn mirrors(&self) -> Vec<Mirror> {
        let mirrors = self.following().into_iter();
        let mirrors = mirrors.map(|(topic, mirror)| Mirror {
            name: topic.name.as_str().into(),
            source: mirror.source_topic.as_str().into(),
            partitions: topic.partitions,
        });
        mirrors.collect()
    }

    fn readable(&self, topic: &str, partition: i32) -> Option<Range<Offset>> {
        let service = self.service().ok()?;
        // After a kill the log's own is that of a checkpoint, below what was served, and what was committed, before.
        if !service.links.has_fetched(&self.link, topic, partition) {
            return None;
        }
        let log = service.logs.partition(&TopicPartition::new(topic, partition))?;
        let marks = log.watermarks();
        Some(marks.log_start..marks.high_watermark)
    }

    fn committed(&self, groups: Vec<String>) -> BoxFuture<'_, Result<BTreeMap<String, GroupOffsets>, TaskError>> {
        Box::pin(async move {
            let service = self.service()?;
            let read = persist(&service.state, move |state| {
                let mut found = BTreeMap::new();
                for group in groups {
                    let offsets = state.offsets(&group)?;
                    let offsets = offsets.into_iter().map(|(topic, partition, stored)| {
                        let StoredOffset { offset, leader_epoch, metadata, commit_timestamp_ms: _ } = stored;
                        let committed = CommittedOffset { offset: Offset(offset), leader_epoch, metadata };
                        ((topic.into(), partition), committed)
                    });
                    found.insert(group, offsets.collect());
                }
                Ok(found)
            });
            read.await.map_err(failed)
        })
    }

    fn group_has_members(&self, group: &str) -> bool {
        self.broker().is_ok_and(|broker| broker.group_has_members(group))
    }

    fn commit(&self, groups: BTreeMap<String, GroupOffsets>) -> BoxFuture<'_, Result<Vec<String>, TaskError>> {
        Box::pin(async move {
            let (service, broker) = (self.service()?, self.broker()?);
            // A mirror that was stopped since the pass compared is its consumers' own. Nobody stops one during the turn.
            let _turn = service.changes.lock().await;
            let following: BTreeSet<_> = self.following().iter().map(|(topic, _)| topic.name.clone()).collect();
            let now = super::now_ms();
            let changes = groups.into_iter().flat_map(|(group, offsets)| {
                let following = &following;
                let offsets = offsets.into_iter().filter(move |((topic, _), _)| following.contains(&**topic));
                offsets.map(move |((topic, partition), committed)| GroupChange::PutOffset {
                    group: group.clone(),
                    topic: topic.to_string(),
                    partition,
                    committed: StoredOffset {
                        offset: committed.offset.0,
                        leader_epoch: committed.leader_epoch,
                        metadata: committed.metadata,
                        commit_timestamp_ms: now,
                    },
                })
            });
            let busy = broker.write_offsets(changes.collect()).await;
            let busy = busy.map_err(|_| failed("the offsets could not be written; the log says why"))?;
            Ok(busy.into_iter().collect())
        })
    }

    fn topic_configs(&self, topic: &str) -> BTreeMap<String, String> {
        let service = self.service().ok();
        service.and_then(|service| Some(service.state.topic(topic)?.configs.clone())).unwrap_or_default()
    }

    fn set_topic_configs(
        &self,
        topic: Arc<str>,
        changes: BTreeMap<String, Option<String>>,
    ) -> BoxFuture<'_, Result<(), TaskError>> {
        Box::pin(async move {
            let service = self.service()?;
            // As with offsets: what is stopped, paused or another link's by now keeps what it has.
            let _turn = service.changes.lock().await;
            if self.following().iter().any(|(following, _)| *following.name == *topic) {
                service.topics.sync_configs(&topic, changes).await.map_err(failed)?;
            }
            Ok(())
        })
    }

    fn cluster_id(&self) -> Option<String> {
        Some(self.service().ok()?.state.cluster_id().to_owned())
    }

    fn topic_here(&self, source_topic: &str) -> TopicHere {
        let Ok(service) = self.service() else { return TopicHere::Other };
        match service.state.topic(&format!("{}{source_topic}", self.prefix)) {
            None => TopicHere::None,
            Some(topic) if topic.mirror.as_ref().is_some_and(|mirror| mirror.link == self.link) => {
                TopicHere::MirrorOfLink
            }
            Some(_) => TopicHere::Other,
        }
    }

    fn create_mirror(&self, source_topic: Arc<str>) -> BoxFuture<'_, Result<(), TaskError>> {
        Box::pin(async move {
            let service = self.service()?;
            let wanted = WantedMirror {
                mirror_topic: Some(format!("{}{source_topic}", self.prefix)),
                source_topic: Some(source_topic.to_string()),
                ..WantedMirror::default()
            };
            let made = service.mirror_create(&self.link, wanted).await;
            made.map(|_: Outcome| ()).map_err(|refusal| {
                let code = match refusal.code {
                    RefusalCode::TopicExists => TaskErrorCode::TopicExists,
                    RefusalCode::SourceTopicNotFound => TaskErrorCode::UnknownTopicOrPartition,
                    RefusalCode::InvalidRequest => TaskErrorCode::PolicyViolation,
                    _ => TaskErrorCode::Internal,
                };
                TaskError::new(code, format!("no mirror of source topic '{source_topic}': {}", refusal.message))
            })
        })
    }

    fn acls(&self) -> AclsHere {
        let Ok(service) = self.service() else { return AclsHere::default() };
        let links = service.state.links();
        let mut here = AclsHere::default();
        for acl in service.state.acls(&AclFilter::default()) {
            if links.iter().any(|link| link.name == self.link && link.acls.contains(&acl)) {
                here.of_link.insert(shown(&acl));
            } else if !is_brought_by_others(&links, &self.link, &acl) {
                here.made_here.insert(shown(&acl));
            }
        }
        here
    }

    fn change_acls(&self, add: Vec<Acl>, remove: Vec<Acl>) -> BoxFuture<'_, Result<(), TaskError>> {
        Box::pin(async move {
            let service = self.service()?;
            // Another link may be taking away what this one is about to bring, too.
            let _turn = service.changes.lock().await;
            // An ACL of a type that is younger than this program cannot be enforced here, so it is not taken.
            let (add, remove) = (stored(&add), stored(&remove));
            let link = self.link.clone();
            let write = move |state: &hawser_state::State| {
                // What is noted first and then not added is harmless; an ACL that nobody knows the link brought would stay.
                let note = |change: &dyn Fn(&mut BTreeSet<AclRecord>)| {
                    state.update_link(&link, |record| {
                        change(&mut record.acls);
                        true
                    })
                };
                note(&|acls| acls.extend(add.iter().cloned()))?;
                let links = state.links();
                let gone = remove.iter().filter(|acl| !is_brought_by_others(&links, &link, acl)).cloned();
                state.change_acls(&add, &gone.collect::<Vec<_>>())?;
                note(&|acls| acls.retain(|acl| !remove.contains(acl)))?;
                Ok(())
            };
            persist(&service.state, write).await.map_err(failed)
        })
    }
}

fn is_brought_by_others(links: &[Arc<LinkRecord>], link: &str, acl: &AclRecord) -> bool {
    links.iter().any(|other| other.name != link && other.acls.contains(acl))
}

/// This side failed.
fn failed(error: impl ToString) -> TaskError {
    TaskError::new(TaskErrorCode::Internal, error.to_string())
}

fn shown(acl: &AclRecord) -> Acl {
    Acl {
        resource_type: acl.resource_type.code(),
        resource_name: acl.resource_name.clone(),
        pattern_type: acl.pattern_type.code(),
        principal: acl.principal.clone(),
        host: acl.host.clone(),
        operation: acl.operation.code(),
        permission: acl.permission.code(),
    }
}

fn stored(acls: &[Acl]) -> Vec<AclRecord> {
    let known = acls.iter().filter_map(|acl| {
        Some(AclRecord {
            resource_type: AclResourceType::of_code(acl.resource_type)?,
            pattern_type: AclPatternType::of_code(acl.pattern_type)?,
            resource_name: acl.resource_name.clone(),
            principal: acl.principal.clone(),
            host: acl.host.clone(),
            operation: AclOperation::of_code(acl.operation)?,
            permission: AclPermission::of_code(acl.permission)?,
        })
    });
    known.collect()
}
