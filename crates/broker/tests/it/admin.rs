//! Admin APIs on what exists: configs, partitions, records, log directories, and what one node answers of a cluster.

use crate::common::{Bench, at, call, fill, quick};
use hawser_broker::{BrokerConfig, BrokerSetting};
use hawser_state::{MirrorStatus, TopicRecord};
use hawser_testkit::batches::{BatchBuilder, Record};
use hawser_transport::KafkaClient;
use hawser_wire::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use hawser_wire::messages::create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
use hawser_wire::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use hawser_wire::messages::describe_configs_request::DescribeConfigsResource;
use hawser_wire::messages::describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult};
use hawser_wire::messages::describe_log_dirs_request::DescribableLogDirTopic;
use hawser_wire::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use hawser_wire::messages::*;
use hawser_wire::{ResponseError, StrBytes, TopicPartition};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn name(name: &str) -> TopicName {
    TopicName(text(name))
}

/// Kafka's code of an answer, 0 for none.
fn code(expected: Result<(), ResponseError>) -> i16 {
    expected.err().map_or(0, |error| error.code())
}

async fn described(client: &KafkaClient, resource_type: i8, resource: &str) -> DescribeConfigsResult {
    let asked = DescribeConfigsResource::default()
        .with_resource_type(resource_type)
        .with_resource_name(text(resource))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default().with_resources(vec![asked]).with_include_synonyms(true);
    call(client, &request.with_include_documentation(true)).await.results.remove(0)
}

fn config<'a>(result: &'a DescribeConfigsResult, name: &str) -> &'a DescribeConfigsResourceResult {
    result.configs.iter().find(|config| config.name.as_str() == name).unwrap()
}

/// Changes one config incrementally: code and message.
async fn alter(client: &KafkaClient, topic: &str, key: &str, operation: i8, value: Option<&str>) -> (i16, String) {
    let config = incremental_alter_configs_request::AlterableConfig::default()
        .with_name(text(key))
        .with_config_operation(operation)
        .with_value(value.map(text));
    let resource = incremental_alter_configs_request::AlterConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text(topic))
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let answer = call(client, &request).await.responses.remove(0);
    (answer.error_code, answer.error_message.map(|message| message.to_string()).unwrap_or_default())
}

#[tokio::test]
async fn configs_of_an_ordinary_topic_change_and_its_log_goes_by_them() {
    use ResponseError::{InvalidConfig, InvalidRequest, UnknownTopicOrPartition};
    let bench = Bench::new().await;
    bench.topic("t", 1, &[("retention.ms", "1000")]).await;
    let client = bench.client().await;
    let (set, delete, append) = (0, 1, 2);
    let table = [
        ("t", "max.message.bytes", set, Some("77"), Ok(()), ""),
        ("t", "retention.ms", delete, None, Ok(()), ""),
        ("t", "cleanup.policy", append, Some("compact"), Ok(()), ""),
        ("t", "max.message.bytes", set, Some("-1"), Err(InvalidConfig), "max.message.bytes"),
        ("t", "retention.hours", set, Some("1"), Err(InvalidConfig), "retention.hours"),
        ("t", "retention.ms", set, None, Err(InvalidRequest), "Null value not supported for : retention.ms"),
        ("t", "retention.ms", append, Some("1"), Err(InvalidConfig), "not LIST"),
        ("t", "retention.ms", 9, Some("1"), Err(InvalidRequest), "9"),
        ("missing", "retention.ms", set, Some("1"), Err(UnknownTopicOrPartition), ""),
    ];
    for (topic, key, operation, value, expected, words) in table {
        let (found, message) = alter(&client, topic, key, operation, value).await;
        assert_eq!(found, code(expected), "{topic} {key} {operation} {value:?}: {message}");
        assert!(message.contains(words), "{message}");
    }
    let log = bench.logs.partition(&TopicPartition::new("t", 0)).unwrap();
    let goes_by = log.config();
    assert_eq!((goes_by.max_message_bytes, goes_by.delete, goes_by.compact), (77, true, true));
    let shown = described(&client, TOPIC, "t").await;
    let max = config(&shown, "max.message.bytes");
    assert_eq!((max.value.as_deref(), max.config_source, max.is_sensitive), (Some("77"), 1, false));
    let synonyms: Vec<_> = max.synonyms.iter().map(|s| (s.name.as_str(), s.source)).collect();
    assert_eq!(synonyms, [("max.message.bytes", 1), ("message.max.bytes", 5)]);
    let retention = config(&shown, "retention.ms");
    assert_eq!((retention.value.as_deref(), retention.config_source), (Some("604800000"), 5));
    assert!(retention.documentation.is_some() && retention.synonyms.is_empty());
    // The bench's logs have segments of 1 MiB.
    let segment = config(&shown, "segment.bytes");
    assert_eq!((segment.value.as_deref(), segment.config_source), (Some("1048576"), 4));

    // AlterConfigs takes back what it does not name.
    let keep =
        alter_configs_request::AlterableConfig::default().with_name(text("segment.ms")).with_value(Some(text("5")));
    let resource = alter_configs_request::AlterConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text("t"))
        .with_configs(vec![keep]);
    let request = AlterConfigsRequest::default().with_resources(vec![resource]);
    for (validate_only, left) in [(true, 2), (false, 1)] {
        let answer = call(&client, &request.clone().with_validate_only(validate_only)).await;
        assert_eq!(answer.responses[0].error_code, 0, "{:?}", answer.responses[0].error_message);
        assert_eq!(bench.state.topic("t").unwrap().configs.len(), left);
    }
    let twice = AlterConfigsRequest::default().with_resources([request.resources.clone(), request.resources].concat());
    let answers = call(&client, &twice).await.responses;
    assert!(answers.len() == 2 && answers.iter().all(|answer| answer.error_code == InvalidRequest.code()));
}

#[tokio::test]
async fn a_mirror_takes_only_configs_that_its_link_does_not_copy() {
    let bench = Bench::new().await;
    bench.mirror("m", 1);
    let client = bench.client().await;
    let (refused, message) = alter(&client, "m", "cleanup.policy", 0, Some("compact")).await;
    assert_eq!(refused, ResponseError::InvalidRequest.code());
    assert!(message.contains("Cannot modify mirror topic 'm' because 'cleanup.policy' are set to always sync"));
    assert_eq!(alter(&client, "m", "segment.ms", 0, Some("x")).await.0, ResponseError::InvalidConfig.code());
    // The source has set `brand.new`, which is unknown here and no obstacle.
    assert_eq!(alter(&client, "m", "segment.ms", 0, Some("5")).await, (0, String::new()));
    let shown = described(&client, TOPIC, "m").await;
    assert!(config(&shown, "cleanup.policy").read_only && !config(&shown, "segment.ms").read_only);

    // Where its records come from is told until it is an ordinary topic, and nobody's to set.
    let told = config(&shown, "mirror.source.cluster.ids");
    assert_eq!((told.value.as_deref(), told.read_only, told.config_source), (Some("far,near"), true, 5));
    let (refused, message) = alter(&client, "m", "mirror.source.cluster.ids", 0, Some("x")).await;
    assert_eq!(refused, ResponseError::InvalidConfig.code(), "{message}");
    let stop = |topic: &mut TopicRecord| {
        topic.mirror.as_mut().unwrap().set_status(MirrorStatus::Stopped, 1);
        true
    };
    bench.mirror("stopped", 1);
    bench.state.update_topics(&["stopped".to_owned()], stop).unwrap();
    let shown = described(&client, TOPIC, "stopped").await;
    assert!(shown.configs.iter().all(|config| config.name.as_str() != "mirror.source.cluster.ids"));

    let changes = [("cleanup.policy".to_owned(), Some("compact".to_owned())), ("retention.ms".to_owned(), None)];
    bench.topics.sync_configs("m", changes.into()).await.unwrap();
    let configs = &bench.state.topic("m").unwrap().configs;
    assert_eq!(configs.keys().collect::<Vec<_>>(), ["brand.new", "cleanup.policy", "segment.ms"]);
}

#[tokio::test]
async fn configs_of_the_broker_are_the_daemons_and_do_not_change() {
    let setting = |name: &str, value: Option<&str>| BrokerSetting {
        name: name.to_owned(),
        value: value.map(str::to_owned),
        is_set: value.is_none(),
        documentation: "About it.",
    };
    let settings = vec![setting("num.partitions", Some("1")), setting("ssl.key.password", None)];
    let bench = Bench::with(BrokerConfig { settings, ..quick() }, "allow.everyone.if.no.acl.found=true").await;
    let client = bench.client().await;
    let shown = described(&client, BROKER, "1").await;
    let secret = config(&shown, "ssl.key.password");
    assert_eq!((&secret.value, secret.is_sensitive, secret.read_only), (&None, true, true));
    assert_eq!(config(&shown, "num.partitions").value.as_deref(), Some("1"));
    assert_eq!(config(&shown, "default.replication.factor").value.as_deref(), Some("1"));
    assert!(described(&client, BROKER, "").await.configs.is_empty());
    assert_eq!(described(&client, BROKER, "7").await.error_code, ResponseError::InvalidRequest.code());
    assert_eq!(described(&client, 16, "x").await.error_code, ResponseError::InvalidRequest.code());

    let config = incremental_alter_configs_request::AlterableConfig::default()
        .with_name(text("num.partitions"))
        .with_value(Some(text("2")));
    let resource = incremental_alter_configs_request::AlterConfigsResource::default()
        .with_resource_type(BROKER)
        .with_resource_name(text("1"))
        .with_configs(vec![config]);
    let answer = call(&client, &IncrementalAlterConfigsRequest::default().with_resources(vec![resource])).await;
    assert_eq!(answer.responses[0].error_code, ResponseError::InvalidRequest.code());
    assert!(answer.responses[0].error_message.as_ref().unwrap().contains("num.partitions in the daemon's file"));
}

#[tokio::test]
async fn partitions_are_added_never_taken() {
    use ResponseError::{
        InvalidPartitions, InvalidReplicaAssignment, InvalidRequest, PolicyViolation, UnknownTopicOrPartition,
    };
    let bench = Bench::new().await;
    bench.topic("t", 2, &[]).await;
    bench.mirror("m", 1);
    let client = bench.client().await;
    let ask = |topic: &str, count| {
        CreatePartitionsTopic::default().with_name(name(topic)).with_count(count).with_assignments(None)
    };
    let on = |nodes: &[i32]| {
        let nodes = nodes.iter().map(|node| BrokerId(*node)).collect();
        CreatePartitionsAssignment::default().with_broker_ids(nodes)
    };
    let table = [
        (ask("t", 2), Err(InvalidPartitions)),
        (ask("t", 1), Err(InvalidPartitions)),
        (ask("t", 20_000), Err(PolicyViolation)),
        (ask("t", 3).with_assignments(Some(vec![])), Err(InvalidReplicaAssignment)),
        (ask("t", 3).with_assignments(Some(vec![on(&[2])])), Err(InvalidReplicaAssignment)),
        (ask("m", 3), Err(InvalidRequest)),
        (ask("missing", 3), Err(UnknownTopicOrPartition)),
        (ask("t", 3).with_assignments(Some(vec![on(&[1])])), Ok(())),
    ];
    for (topic, expected) in table {
        let shown = format!("{topic:?}");
        let validate = CreatePartitionsRequest::default().with_topics(vec![topic.clone()]).with_validate_only(true);
        assert_eq!(call(&client, &validate).await.results[0].error_code, code(expected), "{shown}");
        assert_eq!(bench.state.topic("t").unwrap().partitions, 2, "only validated");
        let request = CreatePartitionsRequest::default().with_topics(vec![topic]);
        assert_eq!(call(&client, &request).await.results[0].error_code, code(expected), "{shown}");
    }
    assert_eq!(bench.state.topic("t").unwrap().partitions, 3);
    assert!(bench.logs.partition(&TopicPartition::new("t", 2)).unwrap().leads().is_some());
    let twice = CreatePartitionsRequest::default().with_topics(vec![ask("t", 4), ask("t", 5)]);
    let answers = call(&client, &twice).await.results;
    assert_eq!(answers.iter().map(|a| a.error_code).collect::<Vec<_>>(), [InvalidRequest.code()]);
}

#[tokio::test]
async fn records_are_deleted_from_ordinary_topics_only() {
    use ResponseError::{InvalidRequest, OffsetOutOfRange, PolicyViolation, UnknownTopicOrPartition};
    let bench = Bench::new().await;
    for (topic, configs) in [("t", &[][..]), ("compacted", &[("cleanup.policy", "compact")][..])] {
        bench.topic(topic, 1, configs).await;
        let log = bench.logs.partition(&TopicPartition::new(topic, 0)).unwrap();
        for _ in 0..10 {
            log.append_as_leader(BatchBuilder::at(0).record(Record::keyed("k", "v")).build(), i64::MAX / 2).unwrap();
        }
    }
    fill(&bench.mirror("m", 1)[0], &[BatchBuilder::at(0).record(Record::value("x"))]);
    let client = bench.client().await;
    let table = [
        ("t", 0, 4, Ok(4)),
        ("t", 0, 2, Ok(4)),
        ("t", 0, 11, Err(OffsetOutOfRange)),
        ("t", 0, -2, Err(OffsetOutOfRange)),
        ("t", 0, -1, Ok(10)),
        ("t", 1, 1, Err(UnknownTopicOrPartition)),
        ("compacted", 0, 1, Err(PolicyViolation)),
        ("m", 0, 1, Err(InvalidRequest)),
        ("missing", 0, 1, Err(UnknownTopicOrPartition)),
    ];
    for (topic, partition, offset, expected) in table {
        let partition = DeleteRecordsPartition::default().with_partition_index(partition).with_offset(offset);
        let asked = DeleteRecordsTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
        let answer = call(&client, &DeleteRecordsRequest::default().with_topics(vec![asked])).await;
        let found = &answer.topics[0].partitions[0];
        let expected = expected.map_or_else(|error: ResponseError| (-1, error.code()), |low| (low, 0));
        assert_eq!((found.low_watermark, found.error_code), expected, "{topic} {offset}");
    }
}

#[tokio::test]
async fn the_log_directory_is_shown_with_sizes_and_space() {
    let bench = Bench::new().await;
    bench.topic("t", 2, &[]).await;
    let log = bench.logs.partition(&TopicPartition::new("t", 1)).unwrap();
    let batch = BatchBuilder::at(0).record(Record::value("x")).build();
    let bytes = i64::try_from(batch.len()).unwrap();
    log.append_as_leader(batch, i64::MAX / 2).unwrap();
    let client = bench.client().await;
    for version in 1..=4 {
        let answer = at(&client, version, &DescribeLogDirsRequest::default().with_topics(None)).await;
        let dir = &answer.results[0];
        let sizes: Vec<_> = dir.topics[0].partitions.iter().map(|p| (p.partition_index, p.partition_size)).collect();
        assert_eq!(sizes, [(0, 0), (1, bytes)]);
        assert_eq!(dir.log_dir.as_str(), bench.logs.root().display().to_string());
        assert!(version < 4 || (dir.total_bytes >= dir.usable_bytes && dir.usable_bytes > 0));
    }
    let one = DescribableLogDirTopic::default().with_topic(name("t")).with_partitions(vec![1, 9]);
    let answer = call(&client, &DescribeLogDirsRequest::default().with_topics(Some(vec![one]))).await;
    assert_eq!(answer.results[0].topics[0].partitions.len(), 1);
}

#[tokio::test]
async fn topic_partitions_come_in_pieces() {
    let bench = Bench::new().await;
    bench.topic("a", 3, &[]).await;
    bench.topic("b", 3, &[]).await;
    let client = bench.client().await;
    let mut request = DescribeTopicPartitionsRequest::default().with_response_partition_limit(2);
    let mut seen = Vec::new();
    loop {
        let answer = call(&client, &request).await;
        for topic in &answer.topics {
            let name = topic.name.as_ref().unwrap().to_string();
            assert!(topic.error_code == 0 && !topic.topic_id.is_nil());
            seen.extend(topic.partitions.iter().map(|p| (name.clone(), p.partition_index, p.leader_id.0)));
        }
        let Some(next) = answer.next_cursor else { break };
        let cursor = Cursor::default().with_topic_name(next.topic_name).with_partition_index(next.partition_index);
        request.cursor = Some(cursor);
    }
    let all: Vec<_> = ["a", "b"].iter().flat_map(|t| (0..3).map(move |p| ((*t).to_owned(), p, 1))).collect();
    assert_eq!(seen, all);
    let named = |topic: &str| TopicRequest::default().with_name(name(topic));
    let request = DescribeTopicPartitionsRequest::default()
        .with_topics(vec![named("b"), named("missing"), named("no/slash")])
        .with_response_partition_limit(2000);
    let codes: Vec<_> = call(&client, &request).await.topics.iter().map(|topic| topic.error_code).collect();
    assert_eq!(codes, [0, 3, 17]);
    let request = request.with_cursor(Some(Cursor::default().with_topic_name(name("a"))));
    let codes: Vec<_> = call(&client, &request).await.topics.iter().map(|topic| topic.error_code).collect();
    assert_eq!(codes, [42, 42, 42], "the cursor names none of the topics");
}

#[tokio::test]
async fn one_node_answers_what_a_cluster_is_asked() {
    use ResponseError::{
        BrokerIdNotRegistered, ElectionNotNeeded, InvalidReplicaAssignment, InvalidRequest, InvalidUpdateVersion,
        NoReassignmentInProgress, TransactionalIdNotFound, UnknownTopicOrPartition,
    };
    let bench = Bench::new().await;
    bench.topic("t", 1, &[]).await;
    let client = bench.client().await;
    let partitions =
        elect_leaders_request::TopicPartitions::default().with_topic(name("t")).with_partitions(vec![0, 5]);
    let request = ElectLeadersRequest::default().with_topic_partitions(Some(vec![partitions]));
    for version in 0..=2 {
        let answer = at(&client, version, &request).await;
        let results = &answer.replica_election_results[0].partition_result;
        let codes: Vec<_> = results.iter().map(|result| result.error_code).collect();
        assert_eq!(codes, [ElectionNotNeeded.code(), UnknownTopicOrPartition.code()]);
    }
    assert!(call(&client, &request.with_topic_partitions(None)).await.replica_election_results.is_empty());

    for (partition, replicas, expected) in [
        (0, Some(vec![1]), Ok(())),
        (0, Some(vec![1, 2]), Err(InvalidReplicaAssignment)),
        (0, None, Err(NoReassignmentInProgress)),
        (4, Some(vec![1]), Err(UnknownTopicOrPartition)),
    ] {
        let replicas = replicas.map(|nodes| nodes.into_iter().map(BrokerId).collect());
        let partition = ReassignablePartition::default().with_partition_index(partition).with_replicas(replicas);
        let topic = ReassignableTopic::default().with_name(name("t")).with_partitions(vec![partition]);
        let answer = call(&client, &AlterPartitionReassignmentsRequest::default().with_topics(vec![topic])).await;
        assert_eq!(answer.responses[0].partitions[0].error_code, code(expected));
    }
    let listed = call(&client, &ListPartitionReassignmentsRequest::default()).await;
    assert!(listed.error_code == 0 && listed.topics.is_empty());
    for (broker, error) in [(1, InvalidRequest), (2, BrokerIdNotRegistered)] {
        let request = UnregisterBrokerRequest::default().with_broker_id(BrokerId(broker));
        assert_eq!(call(&client, &request).await.error_code, error.code());
    }
    let quotas = call(&client, &DescribeClientQuotasRequest::default()).await;
    assert_eq!((quotas.error_code, quotas.entries), (0, Some(Vec::new())));
    let update = update_features_request::FeatureUpdateKey::default().with_feature(text("metadata.version"));
    let request = UpdateFeaturesRequest::default().with_feature_updates(vec![update]);
    assert_eq!(at(&client, 1, &request).await.results[0].error_code, InvalidUpdateVersion.code());
    assert_eq!(at(&client, 2, &request).await.error_code, InvalidUpdateVersion.code());
    assert_eq!(call(&client, &DescribeQuorumRequest::default()).await.error_code, InvalidRequest.code());
    let filters = vec![text("Ongoing"), text("Odd")];
    let listed = call(&client, &ListTransactionsRequest::default().with_state_filters(filters)).await;
    assert_eq!((listed.unknown_state_filters, listed.transaction_states.len()), (vec![text("Odd")], 0));
    let request = DescribeTransactionsRequest::default().with_transactional_ids(vec![TransactionalId(text("x"))]);
    assert_eq!(call(&client, &request).await.transaction_states[0].error_code, TransactionalIdNotFound.code());
}

#[tokio::test]
async fn a_topic_is_made_by_asking_only_where_the_daemon_says_so() {
    let request = |topic: &str, allow: bool| {
        let topic = metadata_request::MetadataRequestTopic::default().with_name(Some(name(topic)));
        MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(allow)
    };
    let auto = BrokerConfig { auto_create_topics: true, num_partitions: 3, ..quick() };
    let open = "allow.everyone.if.no.acl.found=true";
    let no_create = "hawser.acls=User:ANONYMOUS DESCRIBE topic:*";
    let create = "hawser.acls=User:ANONYMOUS DESCRIBE topic:*; User:ANONYMOUS CREATE topic:made";
    let denied = ResponseError::TopicAuthorizationFailed;
    let unknown = ResponseError::UnknownTopicOrPartition;
    let table = [
        (quick(), open, "made", true, Err(unknown)),
        (auto.clone(), open, "made", false, Err(unknown)),
        (auto.clone(), open, "made", true, Ok(())),
        (auto.clone(), open, "no/slash", true, Err(ResponseError::InvalidTopicException)),
        (auto.clone(), no_create, "made", true, Err(denied)),
        (auto.clone(), create, "made", true, Ok(())),
        (auto, create, "other", true, Err(denied)),
    ];
    for (config, access, topic, allow, expected) in table {
        let bench = Bench::with(config, access).await;
        let client = bench.client().await;
        let answer = call(&client, &request(topic, allow)).await;
        assert_eq!(answer.topics[0].error_code, code(expected), "{access} {topic}");
        assert_eq!(bench.state.topic(topic).map(|topic| topic.partitions), expected.ok().map(|()| 3));
    }
}
