//! What the syncs ask of whatever holds the mirrors. The daemon implements it over the embedded store; other stores
//! bring their own.

use crate::acls::Acl;
use crate::status::TaskError;
use hawser_wire::Offset;
use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

/// A future of some kind, for a trait that is used as an object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A mirror topic of the link that still follows its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Name here.
    pub name: Arc<str>,
    /// Name at the source.
    pub source: Arc<str>,
    /// Number of partitions here.
    pub partitions: i32,
}

/// An offset that a group committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next offset to be read.
    pub offset: Offset,
    /// Leader epoch of the record before it; −1: not known.
    pub leader_epoch: i32,
    /// The consumer's own words.
    pub metadata: String,
}

/// The offsets of one group, by topic here and partition.
pub type GroupOffsets = BTreeMap<(Arc<str>, i32), CommittedOffset>;

/// Where the source's partitions end (their high watermarks), by mirror topic and partition; topics that nobody asked
/// about are missing.
pub type SourceEnds = BTreeMap<Arc<str>, Vec<Offset>>;

/// What stands here under a topic's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicHere {
    /// Nothing.
    None,
    /// A mirror of this link, in whatever state.
    MirrorOfLink,
    /// Anything else.
    Other,
}

/// The side that the syncs write to, for one link. Reads are cheap and do not block; futures may be dropped at any point:
/// what they have begun is done whole or not at all.
pub trait Destination: Send + Sync + 'static {
    /// The link's mirrors that follow their source.
    fn mirrors(&self) -> Vec<Mirror>;

    /// What of a partition is read: from its log start to before its high watermark. `None`: no such partition, or not known
    /// until its next fetch is answered.
    fn readable(&self, topic: &str, partition: i32) -> Option<Range<Offset>>;

    /// What the groups have committed here for any topic; a group without offsets may be missing.
    fn committed(&self, groups: Vec<String>) -> BoxFuture<'_, Result<BTreeMap<String, GroupOffsets>, TaskError>>;

    /// Whether `group` has members here.
    fn group_has_members(&self, group: &str) -> bool;

    /// Commits for all of `groups` at once; gives those that got members in the meantime and were left alone.
    fn commit(&self, groups: BTreeMap<String, GroupOffsets>) -> BoxFuture<'_, Result<Vec<String>, TaskError>>;

    /// The configs set on mirror topic `topic`.
    fn topic_configs(&self, topic: &str) -> BTreeMap<String, String>;

    /// Sets configs of mirror topic `topic`; `None` takes one back to its default.
    fn set_topic_configs(
        &self,
        topic: Arc<str>,
        changes: BTreeMap<String, Option<String>>,
    ) -> BoxFuture<'_, Result<(), TaskError>>;

    /// The id of the cluster that holds the mirrors; `None` while the daemon stops.
    fn cluster_id(&self) -> Option<String>;

    /// What has the name that a mirror of source topic `source_topic` would get.
    fn topic_here(&self, source_topic: &str) -> TopicHere;

    /// Makes a mirror of `source_topic`, with the settings of the link.
    fn create_mirror(&self, source_topic: Arc<str>) -> BoxFuture<'_, Result<(), TaskError>>;

    /// The ACLs here that this link brought, and those that nobody but this side made.
    fn acls(&self) -> AclsHere;

    /// Adds and removes ACLs in the link's name, all or none. One that another link brought, too, stays until that takes it
    /// away.
    fn change_acls(&self, add: Vec<Acl>, remove: Vec<Acl>) -> BoxFuture<'_, Result<(), TaskError>>;
}

/// The destination's ACLs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AclsHere {
    /// Brought by the link.
    pub of_link: std::collections::BTreeSet<Acl>,
    /// Made here. What only other links brought is in neither: the link may bring it, too.
    pub made_here: std::collections::BTreeSet<Acl>,
}
