//! What the syncs ask of a link's source: reading requests only, all of which the source half's guard lets through.
//! Connections are leased once and kept for the next pass. What mirrors ask when they are made is asked here too.

use crate::acls::Acl;
use crate::configs::{SetBy, SourceConfig};
use crate::destination::CommittedOffset;
use crate::offsets::SourceGroup;
use crate::status::{TaskError, TaskErrorCode};
use hawser_link::filter::AclFilter;
use hawser_transport::{ClientError, Connector, KafkaClient, LeaseError, Target};
use hawser_wire::messages::describe_configs_request::DescribeConfigsResource;
use hawser_wire::messages::offset_fetch_request::OffsetFetchRequestGroup;
use hawser_wire::messages::{
    ApiKey, DescribeAclsRequest, DescribeConfigsRequest, GroupId, ListGroupsRequest, MetadataRequest,
    OffsetFetchRequest,
};
use hawser_wire::{NodeId, Offset, Request, ResponseError, StrBytes, api};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// Newest versions that these requests are filled in for.
const METADATA_MAX: i16 = 12;
const LIST_GROUPS_MAX: i16 = 5;
const DESCRIBE_CONFIGS_MAX: i16 = 4;
const DESCRIBE_ACLS_MAX: i16 = 3;
/// Version 10 names topics by id.
const OFFSET_FETCH_MAX: i16 = 9;
/// The first OffsetFetch that asks for many groups at once (KIP-709).
const OFFSET_FETCH_MANY: i16 = 8;
/// Groups in one OffsetFetch: an answer of some megabytes at most with 120 partitions a group.
const GROUPS_AT_ONCE: usize = 200;
/// Topics in one DescribeConfigs, for the same reason.
const TOPICS_AT_ONCE: usize = 200;
/// `ConfigResource.Type.TOPIC`.
const RESOURCE_TOPIC: i8 = 2;
/// `ConfigSource`: `DYNAMIC_TOPIC_CONFIG` and `DEFAULT_CONFIG`.
const SOURCE_TOPIC: i8 = 1;
const SOURCE_DEFAULT: i8 = 5;

/// A topic of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SourceTopic {
    pub(crate) name: Arc<str>,
    pub(crate) is_internal: bool,
}

/// The configs of a source topic, by name; without those that have no value.
pub type TopicConfigs = BTreeMap<String, SourceConfig>;

/// Why the source gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// No connection to it.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The connection failed, or the source does not know the question.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// It refuses.
    #[error("the source answers {api} with {error}")]
    Answer {
        /// Kafka's name of what was asked.
        api: &'static str,
        /// Kafka's code.
        error: ResponseError,
    },
    /// It answers something else.
    #[error("the source's answer to {api} lacks what was asked for")]
    Incomplete {
        /// Kafka's name of what was asked.
        api: &'static str,
    },
}

/// The source cluster of a link.
pub(crate) struct Source {
    connector: Arc<dyn Connector>,
    /// `default.api.timeout.ms`: of one question, its connection included.
    timeout: Duration,
    clients: Mutex<HashMap<Target, KafkaClient>>,
}

impl Source {
    pub(crate) fn new(connector: Arc<dyn Connector>, timeout: Duration) -> Self {
        Self { connector, timeout, clients: Mutex::default() }
    }

    /// The ids of all brokers.
    pub(crate) async fn brokers(&self) -> Result<Vec<NodeId>, SourceError> {
        let request = MetadataRequest::default().with_topics(Some(Vec::new())).with_allow_auto_topic_creation(false);
        let response = self.call(Target::Any, &request, METADATA_MAX).await?;
        Ok(response.brokers.iter().map(|broker| NodeId(broker.node_id.0)).collect())
    }

    /// All topics that the link's login may see.
    pub(crate) async fn topics(&self) -> Result<Vec<SourceTopic>, SourceError> {
        let request = MetadataRequest::default().with_topics(None).with_allow_auto_topic_creation(false);
        let response = self.call(Target::Any, &request, METADATA_MAX).await?;
        let named = response.topics.into_iter().filter(|topic| topic.error_code == 0).filter_map(|topic| {
            Some(SourceTopic { name: topic.name?.as_str().into(), is_internal: topic.is_internal })
        });
        Ok(named.collect())
    }

    /// The groups that `node` coordinates and that commit offsets as consumers do: also those of the streams protocol
    /// (KIP-1071), whose offsets anybody may ask for who names no member (`StreamsGroup.validateOffsetFetch`). Share groups
    /// keep no such offsets, and what other protocols (Connect's) commit is no consumer's.
    pub(crate) async fn groups(&self, node: NodeId) -> Result<Vec<String>, SourceError> {
        let response = self.call(Target::Node(node), &ListGroupsRequest::default(), LIST_GROUPS_MAX).await?;
        SourceError::check("ListGroups", response.error_code)?;
        let consumers = response.groups.into_iter();
        let consumers = consumers.filter(|g| matches!(g.protocol_type.as_str(), "consumer" | "streams" | ""));
        Ok(consumers.map(|group| group.group_id.to_string()).collect())
    }

    /// What `groups`, which `node` coordinates, have committed; and which could not be read.
    pub(crate) async fn offsets(
        &self,
        node: NodeId,
        groups: &[String],
    ) -> Result<(Vec<SourceGroup>, Vec<TaskError>), SourceError> {
        const API: &str = "OffsetFetch";
        let client = self.within(API, self.client(Target::Node(node))).await?;
        let many = client.versions(ApiKey::OffsetFetch as i16).is_some_and(|(_, max)| max >= OFFSET_FETCH_MANY);
        let (mut found, mut errors) = (Vec::with_capacity(groups.len()), Vec::new());
        for some in groups.chunks(if many { GROUPS_AT_ONCE } else { 1 }) {
            let request = if many { ask_many(some) } else { ask_one(some) };
            let asked = async { Ok(client.call(&request, OFFSET_FETCH_MAX, Duration::ZERO).await?.1) };
            let response = self.within(API, asked).await?;
            for group in response.groups {
                match ResponseError::try_from_code(group.error_code) {
                    Some(error) => errors.push(unreadable(&group.group_id, error)),
                    None => found.push(SourceGroup {
                        group: group.group_id.to_string(),
                        offsets: group.topics.into_iter().flat_map(many_offsets).collect(),
                    }),
                }
            }
            if let ([group], false) = (some, many) {
                match ResponseError::try_from_code(response.error_code) {
                    Some(error) => errors.push(unreadable(group, error)),
                    None => found.push(SourceGroup {
                        group: group.clone(),
                        offsets: response.topics.into_iter().flat_map(one_offsets).collect(),
                    }),
                }
            }
        }
        Ok((found, errors))
    }

    /// The configs `keys` of `topics`; and which topics could not be read.
    pub(crate) async fn topic_configs(
        &self,
        topics: &[Arc<str>],
        keys: &BTreeSet<String>,
    ) -> Result<(BTreeMap<Arc<str>, TopicConfigs>, Vec<TaskError>), SourceError> {
        const API: &str = "DescribeConfigs";
        let client = self.within(API, self.client(Target::Any)).await?;
        let (mut found, mut errors) = (BTreeMap::new(), Vec::new());
        for some in topics.chunks(TOPICS_AT_ONCE) {
            for (topic, configs) in self.within(API, topic_configs(&client, some, Some(keys))).await? {
                let what = || format!("the configs of source topic '{topic}'");
                match configs {
                    Err(error) => errors.push(error.shown(&what(), "DESCRIBE_CONFIGS on the topic")),
                    Ok(configs) => drop(found.insert(topic, configs)),
                }
            }
        }
        Ok((found, errors))
    }

    /// All ACLs that match `filter`.
    pub(crate) async fn acls(&self, filter: &AclFilter) -> Result<Vec<Acl>, SourceError> {
        let text = |text: &Option<String>| text.clone().map(StrBytes::from_string);
        let request = DescribeAclsRequest::default()
            .with_resource_type_filter(filter.resource_type)
            .with_resource_name_filter(text(&filter.resource_name))
            .with_pattern_type_filter(filter.pattern_type)
            .with_principal_filter(text(&filter.principal))
            .with_host_filter(text(&filter.host))
            .with_operation(filter.operation)
            .with_permission_type(filter.permission);
        let response = self.call(Target::Any, &request, DESCRIBE_ACLS_MAX).await?;
        SourceError::check("DescribeAcls", response.error_code)?;
        let acls = response.resources.into_iter().flat_map(|resource| {
            let (resource_type, pattern_type) = (resource.resource_type, resource.pattern_type);
            let resource_name = resource.resource_name.to_string();
            resource.acls.into_iter().map(move |acl| Acl {
                resource_type,
                resource_name: resource_name.clone(),
                pattern_type,
                principal: acl.principal.to_string(),
                host: acl.host.to_string(),
                operation: acl.operation,
                permission: acl.permission_type,
            })
        });
        Ok(acls.collect())
    }

    async fn call<M: Request>(&self, to: Target, request: &M, version_max: i16) -> Result<M::Response, SourceError> {
        let asked = async { Ok(self.client(to).await?.call(request, version_max, Duration::ZERO).await?.1) };
        self.within(api::name(M::KEY).unwrap_or("request"), asked).await
    }

    async fn within<T>(
        &self,
        api: &'static str,
        question: impl Future<Output = Result<T, SourceError>>,
    ) -> Result<T, SourceError> {
        let late = || Err(ClientError::Timeout { api, after: self.timeout }.into());
        tokio::time::timeout(self.timeout, question).await.unwrap_or_else(|_| late())
    }

    /// The connection to `to`, dialled anew if it is gone.
    async fn client(&self, to: Target) -> Result<KafkaClient, SourceError> {
        // Held while leasing: two tasks that begin together share one connection.
        let mut clients = self.clients.lock().await;
        if let Some(client) = clients.get(&to).filter(|client| !client.is_closed()) {
            return Ok(client.clone());
        }
        clients.retain(|_, client| !client.is_closed());
        let client = self.connector.lease(to).await?;
        clients.insert(to, client.clone());
        Ok(client)
    }
}

/// The configs `keys` of each of `topics`, all of them without `keys`; for a topic whose configs are not told, why. May be
/// dropped at any point.
///
/// # Errors
/// When the source gives no answer at all.
pub async fn topic_configs(
    client: &KafkaClient,
    topics: &[impl AsRef<str>],
    keys: Option<&BTreeSet<String>>,
) -> Result<BTreeMap<Arc<str>, Result<TopicConfigs, SourceError>>, SourceError> {
    const API: &str = "DescribeConfigs";
    let keys: Option<Vec<_>> = keys.map(|keys| keys.iter().cloned().map(StrBytes::from_string).collect());
    let resources = topics.iter().map(|topic| {
        DescribeConfigsResource::default()
            .with_resource_type(RESOURCE_TOPIC)
            .with_resource_name(StrBytes::from_string(topic.as_ref().to_owned()))
            .with_configuration_keys(keys.clone())
    });
    let request = DescribeConfigsRequest::default().with_resources(resources.collect());
    let (_, response) = client.call(&request, DESCRIBE_CONFIGS_MAX, Duration::ZERO).await?;
    let untold = topics.iter().map(|topic| (topic.as_ref().into(), Err(SourceError::Incomplete { api: API })));
    let mut told: BTreeMap<Arc<str>, _> = untold.collect();
    for result in response.results {
        let configs = result.configs.into_iter().filter_map(|config| {
            let set_by = match config.config_source {
                SOURCE_TOPIC => SetBy::Topic,
                SOURCE_DEFAULT => SetBy::Nobody,
                _ => SetBy::Brokers,
            };
            Some((config.name.to_string(), SourceConfig { value: config.value?.to_string(), set_by }))
        });
        let configs = SourceError::check(API, result.error_code).map(|()| configs.collect());
        told.insert(result.resource_name.as_str().into(), configs);
    }
    Ok(told)
}

impl SourceError {
    /// `Ok` where the answer to `api` has no error.
    ///
    /// # Errors
    /// [`Answer`](Self::Answer).
    pub fn check(api: &'static str, code: i16) -> Result<(), Self> {
        ResponseError::try_from_code(code).map_or(Ok(()), |error| Err(Self::Answer { api, error }))
    }

    /// Whether the same question may get an answer a little later, perhaps from another broker.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Lease(error) => !matches!(error, LeaseError::Authentication(_)),
            Self::Client(error) => !matches!(error, ClientError::Unsupported { .. }),
            Self::Answer { error, .. } => error.is_retriable(),
            Self::Incomplete { .. } => false,
        }
    }

    /// Whether the source could not be reached at all.
    pub(crate) fn is_unreachable(&self) -> bool {
        match self {
            Self::Lease(error) => !matches!(error, LeaseError::Authentication(_)),
            Self::Client(error) => matches!(error, ClientError::Closed(_) | ClientError::Timeout { .. }),
            Self::Answer { .. } | Self::Incomplete { .. } => false,
        }
    }

    /// As a task shows it; `right` is what the link's login needs for the question.
    pub(crate) fn shown(&self, what: &str, right: &str) -> TaskError {
        match self {
            Self::Answer { error, .. } => refused(what, right, *error),
            Self::Lease(LeaseError::Authentication(_)) | Self::Client(ClientError::Reauthentication(_)) => {
                TaskError::new(TaskErrorCode::Authentication, format!("{what}: {self}"))
            }
            Self::Lease(_) | Self::Client(_) | Self::Incomplete { .. } => {
                TaskError::new(TaskErrorCode::Unknown, format!("{what}: {self}"))
            }
        }
    }
}

fn ask_many(groups: &[String]) -> OffsetFetchRequest {
    let groups = groups.iter().map(|group| {
        OffsetFetchRequestGroup::default()
            .with_group_id(GroupId(StrBytes::from_string(group.clone())))
            .with_member_epoch(-1)
            .with_topics(None)
    });
    OffsetFetchRequest::default().with_groups(groups.collect())
}

fn ask_one(groups: &[String]) -> OffsetFetchRequest {
    let group = groups.first().cloned().unwrap_or_default();
    OffsetFetchRequest::default().with_group_id(GroupId(StrBytes::from_string(group))).with_topics(None)
}

fn many_offsets(
    topic: hawser_wire::messages::offset_fetch_response::OffsetFetchResponseTopics,
) -> impl Iterator<Item = (Arc<str>, i32, CommittedOffset)> {
    let name: Arc<str> = topic.name.as_str().into();
    let known = topic.partitions.into_iter().filter(|p| p.error_code == 0 && p.committed_offset >= 0);
    known.map(move |p| {
        let committed = committed(p.committed_offset, p.committed_leader_epoch, p.metadata);
        (name.clone(), p.partition_index, committed)
    })
}

fn one_offsets(
    topic: hawser_wire::messages::offset_fetch_response::OffsetFetchResponseTopic,
) -> impl Iterator<Item = (Arc<str>, i32, CommittedOffset)> {
    let name: Arc<str> = topic.name.as_str().into();
    let known = topic.partitions.into_iter().filter(|p| p.error_code == 0 && p.committed_offset >= 0);
    known.map(move |p| {
        let committed = committed(p.committed_offset, p.committed_leader_epoch, p.metadata);
        (name.clone(), p.partition_index, committed)
    })
}

fn committed(offset: i64, leader_epoch: i32, metadata: Option<StrBytes>) -> CommittedOffset {
    let metadata = metadata.map(|metadata| metadata.to_string()).unwrap_or_default();
    CommittedOffset { offset: Offset(offset), leader_epoch, metadata }
}

fn unreadable(group: &str, error: ResponseError) -> TaskError {
    refused(&format!("the offsets of group '{group}'"), "DESCRIBE on the group", error)
}

/// What the source's refusal means for the task.
fn refused(what: &str, right: &str, error: ResponseError) -> TaskError {
    let (code, hint) = match error {
        ResponseError::ClusterAuthorizationFailed
        | ResponseError::GroupAuthorizationFailed
        | ResponseError::TopicAuthorizationFailed => {
            (TaskErrorCode::Authorization, format!(": the link's login needs {right} at the source"))
        }
        ResponseError::SecurityDisabled => {
            (TaskErrorCode::SecurityDisabled, ": the source has no authorizer.class.name, so it has no ACLs".to_owned())
        }
        ResponseError::UnknownTopicOrPartition => (TaskErrorCode::UnknownTopicOrPartition, String::new()),
        _ => (TaskErrorCode::Unknown, String::new()),
    };
    TaskError::new(code, format!("{what}: the source answers {error}{hint}"))
}
