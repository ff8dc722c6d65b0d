//! Every API that is advertised: which rights it takes, what those without them are told, and one way to ask it.

use crate::common::call;
use hawser_broker::BoxFuture;
use hawser_state::{AclOperation, AclResourceType};
use hawser_testkit::batches::{BatchBuilder, Record};
use hawser_transport::KafkaClient;
use hawser_wire::messages::create_acls_request::AclCreation;
use hawser_wire::messages::delete_acls_request::DeleteAclsFilter;
use hawser_wire::messages::*;
use hawser_wire::{Request, ResponseError, StrBytes, Uuid};

/// The topic and the group that everything is asked about.
pub(super) const SECRET: &str = "secret";
/// ANY in the filters of ACLs.
const ANY: i8 = 1;

/// What an answer comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// An authorization error.
    Refused(ResponseError),
    /// As if it did not exist.
    Hidden,
    /// Anything else, errors about something else included.
    Through,
}

/// A right: an operation on `SECRET`, or on the cluster.
pub(super) type Right = (AclResourceType, AclOperation);

/// One way to ask one API.
pub(super) struct Row {
    pub(super) key: i16,
    /// Alternatives, each a list of rights that are all needed; no alternative: everybody may.
    pub(super) needs: &'static [&'static [Right]],
    /// What those without the rights may be told.
    pub(super) denied: &'static [Outcome],
    pub(super) ask: fn(KafkaClient, Uuid) -> BoxFuture<'static, Outcome>,
}

const READ_TOPIC: Right = (AclResourceType::Topic, AclOperation::Read);
const WRITE_TOPIC: Right = (AclResourceType::Topic, AclOperation::Write);
const DESCRIBE_TOPIC: Right = (AclResourceType::Topic, AclOperation::Describe);
const CREATE_TOPIC: Right = (AclResourceType::Topic, AclOperation::Create);
const DELETE_TOPIC: Right = (AclResourceType::Topic, AclOperation::Delete);
const ALTER_TOPIC: Right = (AclResourceType::Topic, AclOperation::Alter);
const ALTER_TOPIC_CONFIGS: Right = (AclResourceType::Topic, AclOperation::AlterConfigs);
const TOPIC_CONFIGS: Right = (AclResourceType::Topic, AclOperation::DescribeConfigs);
const READ_GROUP: Right = (AclResourceType::Group, AclOperation::Read);
const DESCRIBE_GROUP: Right = (AclResourceType::Group, AclOperation::Describe);
const DELETE_GROUP: Right = (AclResourceType::Group, AclOperation::Delete);
const ALTER_CLUSTER: Right = (AclResourceType::Cluster, AclOperation::Alter);
const DESCRIBE_CLUSTER: Right = (AclResourceType::Cluster, AclOperation::Describe);
const CREATE_CLUSTER: Right = (AclResourceType::Cluster, AclOperation::Create);
const DELETE_CLUSTER: Right = (AclResourceType::Cluster, AclOperation::Delete);
const CLUSTER_CONFIGS: Right = (AclResourceType::Cluster, AclOperation::DescribeConfigs);
const ALTER_CLUSTER_CONFIGS: Right = (AclResourceType::Cluster, AclOperation::AlterConfigs);
const DESCRIBE_TRANSACTION: Right = (AclResourceType::TransactionalId, AclOperation::Describe);
const IDEMPOTENT: Right = (AclResourceType::Cluster, AclOperation::IdempotentWrite);

const NO_TOPIC: Outcome = Outcome::Refused(ResponseError::TopicAuthorizationFailed);
const NO_GROUP: Outcome = Outcome::Refused(ResponseError::GroupAuthorizationFailed);
const NO_TRANSACTION: Outcome = Outcome::Refused(ResponseError::TransactionalIdAuthorizationFailed);
const NO_CLUSTER: Outcome = Outcome::Refused(ResponseError::ClusterAuthorizationFailed);

fn judged(code: i16) -> Outcome {
    use ResponseError::{
        ClusterAuthorizationFailed, DelegationTokenAuthorizationFailed, GroupAuthorizationFailed,
        TopicAuthorizationFailed, TransactionalIdAuthorizationFailed,
    };
    match ResponseError::try_from_code(code) {
        Some(
            error @ (TopicAuthorizationFailed
            | GroupAuthorizationFailed
            | ClusterAuthorizationFailed
            | TransactionalIdAuthorizationFailed
            | DelegationTokenAuthorizationFailed),
        ) => Outcome::Refused(error),
        _ => Outcome::Through,
    }
}

fn hidden(is_hidden: bool) -> Outcome {
    if is_hidden { Outcome::Hidden } else { Outcome::Through }
}

fn text() -> StrBytes {
    StrBytes::from_static_str(SECRET)
}

fn topic() -> TopicName {
    TopicName(text())
}

fn group() -> GroupId {
    GroupId(text())
}

/// `row!(needs, denied, Request => |answer| outcome, |id| request)`.
macro_rules! row {
    ($needs:expr, $denied:expr, $request:ty, $make:expr, $judge:expr) => {
        Row {
            key: <$request as Request>::KEY,
            needs: $needs,
            denied: $denied,
            ask: |client, id| {
                Box::pin(async move {
                    let make: fn(Uuid) -> $request = $make;
                    let judge: fn(<$request as Request>::Response) -> Outcome = $judge;
                    judge(call(&client, &make(id)).await)
                })
            },
        }
    };
}

pub(super) fn rows() -> Vec<Row> {
    vec![
        row!(
            &[&[WRITE_TOPIC]],
            &[NO_TOPIC],
            ProduceRequest,
            |id| {
                let partition = produce_request::PartitionProduceData::default()
                    .with_records(Some(BatchBuilder::at(0).record(Record::value("x")).build()));
                let data =
                    produce_request::TopicProduceData::default().with_topic_id(id).with_partition_data(vec![partition]);
                ProduceRequest::default().with_acks(1).with_timeout_ms(1000).with_topic_data(vec![data])
            },
            |answer| judged(answer.responses[0].partition_responses[0].error_code)
        ),
        row!(
            &[&[READ_TOPIC]],
            &[NO_TOPIC],
            FetchRequest,
            |id| {
                let partition = fetch_request::FetchPartition::default().with_partition_max_bytes(1000);
                let asked = fetch_request::FetchTopic::default().with_topic_id(id).with_partitions(vec![partition]);
                FetchRequest::default().with_max_bytes(1000).with_topics(vec![asked])
            },
            |answer| judged(answer.responses[0].partitions[0].error_code)
        ),
        row!(
            &[&[DESCRIBE_TOPIC]],
            &[NO_TOPIC],
            ListOffsetsRequest,
            |_| {
                let partition = list_offsets_request::ListOffsetsPartition::default().with_timestamp(-1);
                let asked = list_offsets_request::ListOffsetsTopic::default()
                    .with_name(topic())
                    .with_partitions(vec![partition]);
                ListOffsetsRequest::default().with_topics(vec![asked])
            },
            |answer| judged(answer.topics[0].partitions[0].error_code)
        ),
        row!(
            &[&[DESCRIBE_TOPIC]],
            &[NO_TOPIC],
            MetadataRequest,
            |_| {
                let asked = metadata_request::MetadataRequestTopic::default().with_name(Some(topic()));
                MetadataRequest::default().with_topics(Some(vec![asked]))
            },
            |answer| judged(answer.topics[0].error_code)
        ),
        row!(
            &[&[DESCRIBE_TOPIC]],
            &[Outcome::Hidden],
            MetadataRequest,
            |id| {
                let asked = metadata_request::MetadataRequestTopic::default().with_topic_id(id).with_name(None);
                MetadataRequest::default().with_topics(Some(vec![asked]))
            },
            |answer| hidden(answer.topics[0].error_code == ResponseError::UnknownTopicId.code())
        ),
        row!(
            &[&[DESCRIBE_TOPIC]],
            &[Outcome::Hidden],
            MetadataRequest,
            |_| MetadataRequest::default().with_topics(None),
            |answer| hidden(answer.topics.is_empty())
        ),
        row!(
            &[&[READ_GROUP, READ_TOPIC]],
            &[NO_GROUP, NO_TOPIC],
            OffsetCommitRequest,
            |_| {
                let partition = offset_commit_request::OffsetCommitRequestPartition::default();
                let asked = offset_commit_request::OffsetCommitRequestTopic::default()
                    .with_name(topic())
                    .with_partitions(vec![partition]);
                OffsetCommitRequest::default()
                    .with_group_id(group())
                    .with_generation_id_or_member_epoch(-1)
                    .with_topics(vec![asked])
            },
            |answer| judged(answer.topics[0].partitions[0].error_code)
        ),
        row!(
            &[&[DESCRIBE_GROUP, DESCRIBE_TOPIC]],
            &[NO_GROUP, NO_TOPIC],
            OffsetFetchRequest,
            |_| {
                let asked = offset_fetch_request::OffsetFetchRequestTopics::default()
                    .with_name(topic())
                    .with_partition_indexes(vec![0]);
                let asked = offset_fetch_request::OffsetFetchRequestGroup::default()
                    .with_group_id(group())
                    .with_member_id(None)
                    .with_member_epoch(-1)
                    .with_topics(Some(vec![asked]));
                OffsetFetchRequest::default().with_groups(vec![asked])
            },
            |answer| match answer.groups[0].error_code {
                0 => judged(answer.groups[0].topics[0].partitions[0].error_code),
                error => judged(error),
            }
        ),
        row!(
            &[&[DESCRIBE_GROUP, DESCRIBE_TOPIC]],
            &[NO_GROUP, Outcome::Hidden],
            OffsetFetchRequest,
            |_| {
                let asked = offset_fetch_request::OffsetFetchRequestGroup::default()
                    .with_group_id(group())
                    .with_member_id(None)
                    .with_member_epoch(-1)
                    .with_topics(None);
                OffsetFetchRequest::default().with_groups(vec![asked])
            },
            |answer| match answer.groups[0].error_code {
                0 => hidden(answer.groups[0].topics.is_empty()),
                error => judged(error),
            }
        ),
        row!(
            &[&[DESCRIBE_GROUP]],
            &[NO_GROUP],
            FindCoordinatorRequest,
            |_| FindCoordinatorRequest::default().with_coordinator_keys(vec![text()]),
            |answer| judged(answer.coordinators[0].error_code)
        ),
        row!(
            &[&[READ_GROUP]],
            &[NO_GROUP],
            JoinGroupRequest,
            |_| {
                let protocol = join_group_request::JoinGroupRequestProtocol::default();
                JoinGroupRequest::default()
                    .with_group_id(group())
                    .with_session_timeout_ms(10_000)
                    .with_rebalance_timeout_ms(10_000)
                    .with_protocol_type(StrBytes::from_static_str("consumer"))
                    .with_protocols(vec![protocol])
            },
            |answer| judged(answer.error_code)
        ),
        row!(
            &[&[READ_GROUP]],
            &[NO_GROUP],
            HeartbeatRequest,
            |_| HeartbeatRequest::default().with_group_id(group()),
            |answer| judged(answer.error_code)
        ),
        row!(
            &[&[READ_GROUP]],
            &[NO_GROUP],
            LeaveGroupRequest,
            |_| LeaveGroupRequest::default().with_group_id(group()),
            |answer| judged(answer.error_code)
        ),
        row!(
            &[&[READ_GROUP]],
            &[NO_GROUP],
            SyncGroupRequest,
            |_| SyncGroupRequest::default()
                .with_group_id(group())
                .with_protocol_type(Some(StrBytes::from_static_str("consumer")))
                .with_protocol_name(Some(StrBytes::from_static_str("range"))),
            |answer| judged(answer.error_code)
        ),
        row!(
            &[&[DESCRIBE_GROUP]],
            &[NO_GROUP],
            DescribeGroupsRequest,
            |_| DescribeGroupsRequest::default().with_groups(vec![group()]),
            |answer| judged(answer.groups[0].error_code)
        ),
        row!(
            &[&[DESCRIBE_GROUP], &[DESCRIBE_CLUSTER]],
            &[Outcome::Hidden],
            ListGroupsRequest,
            |_| ListGroupsRequest::default(),
            |answer| hidden(answer.groups.is_empty())
        ),
        row!(
            &[&[CREATE_TOPIC], &[CREATE_CLUSTER]],
            &[NO_TOPIC],
            CreateTopicsRequest,
            |_| {
                let new = create_topics_request::CreatableTopic::default().with_name(topic()).with_num_partitions(1);
                CreateTopicsRequest::default()
                    .with_topics(vec![new.with_replication_factor(1)])
                    .with_validate_only(true)
            },
            |answer| judged(answer.topics[0].error_code)
        ),
        row!(
            &[&[DELETE_TOPIC], &[DELETE_CLUSTER]],
            &[NO_TOPIC],
            DeleteTopicsRequest,
            |_| {
                let doomed = delete_topics_request::DeleteTopicState::default().with_name(Some(topic()));
                DeleteTopicsRequest::default().with_topics(vec![doomed])
            },
            |answer| judged(answer.responses[0].error_code)
        ),
        row!(&[], &[], ApiVersionsRequest, |_| ApiVersionsRequest::default(), |_| Outcome::Through),
        row!(
            &[&[IDEMPOTENT], &[WRITE_TOPIC]],
            &[NO_CLUSTER],
            InitProducerIdRequest,
            |_| InitProducerIdRequest::default().with_transactional_id(None),
            |answer| judged(answer.error_code)
        ),
        row!(
            &[&[DESCRIBE_TOPIC]],
            &[NO_TOPIC],
            OffsetForLeaderEpochRequest,
            |_| {
                let partition = offset_for_leader_epoch_request::OffsetForLeaderPartition::default();
                let asked = offset_for_leader_epoch_request::OffsetForLeaderTopic::default()
                    .with_topic(topic())
                    .with_partitions(vec![partition]);
                OffsetForLeaderEpochRequest::default().with_topics(vec![asked])
            },
            |answer| judged(answer.topics[0].partitions[0].error_code)
        ),
        row!(&[&[TOPIC_CONFIGS]], &[NO_TOPIC], DescribeConfigsRequest, |_| describe_configs(2, SECRET), |answer| {
            judged(answer.results[0].error_code)
        }),
        row!(&[&[CLUSTER_CONFIGS]], &[NO_CLUSTER], DescribeConfigsRequest, |_| describe_configs(4, "1"), |answer| {
            judged(answer.results[0].error_code)
        }),
        row!(
            &[&[DELETE_GROUP]],
            &[NO_GROUP],
            DeleteGroupsRequest,
            |_| DeleteGroupsRequest::default().with_groups_names(vec![group()]),
            |answer| judged(answer.results[0].error_code)
        ),
        row!(
            &[&[DELETE_GROUP, READ_TOPIC]],
            &[NO_GROUP, NO_TOPIC],
            OffsetDeleteRequest,
            |_| {
                let partition = offset_delete_request::OffsetDeleteRequestPartition::default();
                let asked = offset_delete_request::OffsetDeleteRequestTopic::default()
                    .with_name(topic())
                    .with_partitions(vec![partition]);
                OffsetDeleteRequest::default().with_group_id(group()).with_topics(vec![asked])
            },
            |answer| match answer.error_code {
                0 => judged(answer.topics[0].partitions[0].error_code),
                error => judged(error),
            }
        ),
        row!(&[], &[], DescribeClusterRequest, |_| DescribeClusterRequest::default(), |answer| {
            judged(answer.error_code)
        }),
        row!(
            &[&[READ_GROUP, DESCRIBE_TOPIC]],
            &[NO_GROUP, NO_TOPIC],
            ConsumerGroupHeartbeatRequest,
            |_| ConsumerGroupHeartbeatRequest::default()
                .with_group_id(GroupId(text()))
                .with_member_id(StrBytes::from_static_str("m"))
                .with_member_epoch(7)
                .with_subscribed_topic_names(Some(vec![topic()])),
            |answer| judged(answer.error_code)
        ),
        row!(
            &[&[DESCRIBE_GROUP]],
            &[NO_GROUP],
            ConsumerGroupDescribeRequest,
            |_| ConsumerGroupDescribeRequest::default().with_group_ids(vec![group()]),
            |answer| judged(answer.groups[0].error_code)
        ),
        row!(
            &[&[DESCRIBE_CLUSTER]],
            &[NO_CLUSTER],
            DescribeAclsRequest,
            |_| DescribeAclsRequest::default()
                .with_resource_type_filter(ANY)
                .with_pattern_type_filter(ANY)
                .with_operation(ANY)
                .with_permission_type(ANY),
            |answer| judged(answer.error_code)
        ),
        row!(
            &[&[ALTER_CLUSTER]],
            &[NO_CLUSTER],
            CreateAclsRequest,
            |_| CreateAclsRequest::default().with_creations(vec![AclCreation::default()]),
            |answer| judged(answer.results[0].error_code)
        ),
        row!(
            &[&[ALTER_CLUSTER]],
            &[NO_CLUSTER],
            DeleteAclsRequest,
            |_| DeleteAclsRequest::default().with_filters(vec![DeleteAclsFilter::default()]),
            |answer| judged(answer.filter_results[0].error_code)
        ),
        row!(
            &[&[DESCRIBE_CLUSTER]],
            &[NO_CLUSTER],
            DescribeUserScramCredentialsRequest,
            |_| DescribeUserScramCredentialsRequest::default(),
            |answer| judged(answer.error_code)
        ),
        row!(
            &[&[ALTER_CLUSTER]],
            &[NO_CLUSTER],
            AlterUserScramCredentialsRequest,
            |_| {
                let deletion = alter_user_scram_credentials_request::ScramCredentialDeletion::default();
                AlterUserScramCredentialsRequest::default().with_deletions(vec![deletion.with_name(text())])
            },
            |answer| judged(answer.results[0].error_code)
        ),
        row!(
            &[&[CLUSTER_CONFIGS]],
            &[NO_CLUSTER],
            DescribeClientQuotasRequest,
            |_| DescribeClientQuotasRequest::default(),
            |answer| judged(answer.error_code)
        ),
        row!(
            &[&[ALTER_TOPIC]],
            &[NO_TOPIC],
            CreatePartitionsRequest,
            |_| {
                let more = create_partitions_request::CreatePartitionsTopic::default().with_name(topic()).with_count(9);
                CreatePartitionsRequest::default().with_topics(vec![more]).with_validate_only(true)
            },
            |answer| judged(answer.results[0].error_code)
        ),
        row!(
            &[&[ALTER_TOPIC_CONFIGS]],
            &[NO_TOPIC],
            AlterConfigsRequest,
            |_| {
                let resource = alter_configs_request::AlterConfigsResource::default().with_resource_type(2);
                AlterConfigsRequest::default()
                    .with_resources(vec![resource.with_resource_name(StrBytes::from_static_str(SECRET))])
            },
            |answer| judged(answer.responses[0].error_code)
        ),
        row!(
            &[&[ALTER_TOPIC_CONFIGS]],
            &[NO_TOPIC],
            IncrementalAlterConfigsRequest,
            |_| {
                let resource = incremental_alter_configs_request::AlterConfigsResource::default().with_resource_type(2);
                let resource = resource.with_resource_name(StrBytes::from_static_str(SECRET));
                IncrementalAlterConfigsRequest::default().with_resources(vec![resource])
            },
            |answer| judged(answer.responses[0].error_code)
        ),
        row!(
            &[&[ALTER_CLUSTER_CONFIGS]],
            &[NO_CLUSTER],
            AlterConfigsRequest,
            |_| {
                let resource = alter_configs_request::AlterConfigsResource::default().with_resource_type(4);
                AlterConfigsRequest::default()
                    .with_resources(vec![resource.with_resource_name(StrBytes::from_static_str("1"))])
            },
            |answer| judged(answer.responses[0].error_code)
        ),
        row!(
            &[&[ALTER_CLUSTER_CONFIGS]],
            &[NO_CLUSTER],
            IncrementalAlterConfigsRequest,
            |_| {
                let resource = incremental_alter_configs_request::AlterConfigsResource::default().with_resource_type(4);
                let resource = resource.with_resource_name(StrBytes::from_static_str("1"));
                IncrementalAlterConfigsRequest::default().with_resources(vec![resource])
            },
            |answer| judged(answer.responses[0].error_code)
        ),
        row!(
            &[&[DELETE_TOPIC]],
            &[NO_TOPIC],
            DeleteRecordsRequest,
            |_| {
                let partition = delete_records_request::DeleteRecordsPartition::default();
                let asked = delete_records_request::DeleteRecordsTopic::default().with_name(topic());
                DeleteRecordsRequest::default().with_topics(vec![asked.with_partitions(vec![partition])])
            },
            |answer| judged(answer.topics[0].partitions[0].error_code)
        ),
        row!(
            &[&[DESCRIBE_CLUSTER]],
            &[NO_CLUSTER],
            DescribeLogDirsRequest,
            |_| DescribeLogDirsRequest::default(),
            |answer| judged(answer.error_code)
        ),
        row!(
            &[&[DESCRIBE_TOPIC]],
            &[NO_TOPIC],
            DescribeTopicPartitionsRequest,
            |_| {
                let asked = describe_topic_partitions_request::TopicRequest::default().with_name(topic());
                DescribeTopicPartitionsRequest::default().with_topics(vec![asked])
            },
            |answer| judged(answer.topics[0].error_code)
        ),
        row!(
            &[&[DESCRIBE_TOPIC]],
            &[Outcome::Hidden],
            DescribeTopicPartitionsRequest,
            |_| DescribeTopicPartitionsRequest::default(),
            |answer| hidden(answer.topics.is_empty())
        ),
        row!(
            &[&[READ_TOPIC]],
            &[NO_TOPIC],
            DescribeProducersRequest,
            |_| {
                let asked = describe_producers_request::TopicRequest::default().with_name(topic());
                DescribeProducersRequest::default().with_topics(vec![asked.with_partition_indexes(vec![0])])
            },
            |answer| judged(answer.topics[0].partitions[0].error_code)
        ),
        row!(
            &[&[DESCRIBE_TRANSACTION]],
            &[NO_TRANSACTION],
            DescribeTransactionsRequest,
            |_| DescribeTransactionsRequest::default().with_transactional_ids(vec![TransactionalId(text())]),
            |answer| judged(answer.transaction_states[0].error_code)
        ),
        row!(
            &[&[DESCRIBE_TRANSACTION]],
            &[NO_TRANSACTION],
            FindCoordinatorRequest,
            |_| FindCoordinatorRequest::default().with_key_type(1).with_coordinator_keys(vec![text()]),
            |answer| judged(answer.coordinators[0].error_code)
        ),
        // It lists what the caller may see, and there is nothing.
        row!(&[], &[], ListTransactionsRequest, |_| ListTransactionsRequest::default(), |answer| judged(
            answer.error_code
        )),
        row!(&[&[ALTER_CLUSTER]], &[NO_CLUSTER], ElectLeadersRequest, |_| ElectLeadersRequest::default(), |answer| {
            judged(answer.error_code)
        }),
        row!(
            &[&[ALTER_CLUSTER]],
            &[NO_CLUSTER],
            AlterPartitionReassignmentsRequest,
            |_| AlterPartitionReassignmentsRequest::default(),
            |answer| judged(answer.error_code)
        ),
        row!(
            &[&[ALTER_CLUSTER]],
            &[NO_CLUSTER],
            UnregisterBrokerRequest,
            |_| UnregisterBrokerRequest::default(),
            |answer| judged(answer.error_code)
        ),
        row!(
            &[&[ALTER_CLUSTER]],
            &[NO_CLUSTER],
            UpdateFeaturesRequest,
            |_| UpdateFeaturesRequest::default(),
            |answer| judged(answer.error_code)
        ),
        row!(
            &[&[DESCRIBE_CLUSTER]],
            &[NO_CLUSTER],
            ListPartitionReassignmentsRequest,
            |_| ListPartitionReassignmentsRequest::default(),
            |answer| judged(answer.error_code)
        ),
        row!(
            &[&[DESCRIBE_CLUSTER]],
            &[NO_CLUSTER],
            DescribeQuorumRequest,
            |_| DescribeQuorumRequest::default(),
            |answer| judged(answer.error_code)
        ),
    ]
}

fn describe_configs(resource_type: i8, name: &'static str) -> DescribeConfigsRequest {
    let resource = describe_configs_request::DescribeConfigsResource::default()
        .with_resource_type(resource_type)
        .with_resource_name(StrBytes::from_static_str(name))
        .with_configuration_keys(None);
    DescribeConfigsRequest::default().with_resources(vec![resource])
}
