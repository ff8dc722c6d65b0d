//! Every advertised API in every advertised version, and what is said to those that are not.

use crate::common::{Bench, at, call, fill, quick};
use bytes::{BufMut, Bytes, BytesMut};
use hawser_broker::advertised_apis;
use hawser_testkit::batches::{BatchBuilder, Record};
use hawser_transport::{ClientError, KafkaClient};
use hawser_wire::api::private;
use hawser_wire::messages::describe_configs_request::DescribeConfigsResource;
use hawser_wire::messages::find_coordinator_response::Coordinator;
use hawser_wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use hawser_wire::messages::metadata_request::MetadataRequestTopic;
use hawser_wire::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use hawser_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use hawser_wire::messages::*;
use hawser_wire::{LeaderEpoch, Offset, Request, ResponseError, StrBytes, Uuid};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn topic(name: &'static str) -> TopicName {
    TopicName(StrBytes::from_static_str(name))
}

/// A default request in each version of `M`; returns how many were answered.
async fn every_version<M: Request + Default>(client: &KafkaClient, request: M) -> usize {
    let range = advertised_apis().iter().find(|range| range.key == M::KEY).unwrap();
    for version in range.min..=range.max {
        at(client, version, &request).await;
    }
    usize::try_from(range.max - range.min + 1).unwrap()
}

#[tokio::test]
async fn every_advertised_version_is_answered_with_what_decodes() {
    let bench = Bench::new().await;
    let client = bench.client().await;
    let mut answered = 0;
    // Without acknowledgement a refusal is a hang-up, so this one asks for it.
    answered += every_version(&client, ProduceRequest::default().with_acks(-1)).await;
    answered += every_version(&client, FetchRequest::default()).await;
    answered += every_version(&client, ListOffsetsRequest::default()).await;
    answered += every_version(&client, MetadataRequest::default()).await;
    answered += every_version(&client, OffsetCommitRequest::default()).await;
    answered += every_version(&client, OffsetFetchRequest::default()).await;
    answered += every_version(&client, FindCoordinatorRequest::default()).await;
    answered += every_version(&client, JoinGroupRequest::default()).await;
    answered += every_version(&client, HeartbeatRequest::default()).await;
    answered += every_version(&client, LeaveGroupRequest::default()).await;
    answered += every_version(&client, SyncGroupRequest::default()).await;
    answered += every_version(&client, DescribeGroupsRequest::default()).await;
    answered += every_version(&client, ListGroupsRequest::default()).await;
    answered += every_version(&client, ApiVersionsRequest::default()).await;
    answered += every_version(&client, OffsetForLeaderEpochRequest::default()).await;
    answered += every_version(&client, CreateTopicsRequest::default()).await;
    answered += every_version(&client, DeleteTopicsRequest::default()).await;
    answered += every_version(&client, AlterConfigsRequest::default()).await;
    answered += every_version(&client, AlterPartitionReassignmentsRequest::default()).await;
    answered += every_version(&client, CreatePartitionsRequest::default()).await;
    answered += every_version(&client, DeleteRecordsRequest::default()).await;
    answered += every_version(&client, DescribeLogDirsRequest::default()).await;
    answered += every_version(&client, DescribeProducersRequest::default()).await;
    answered += every_version(&client, DescribeQuorumRequest::default()).await;
    answered += every_version(&client, DescribeTopicPartitionsRequest::default()).await;
    answered += every_version(&client, DescribeTransactionsRequest::default()).await;
    answered += every_version(&client, ElectLeadersRequest::default()).await;
    answered += every_version(&client, IncrementalAlterConfigsRequest::default()).await;
    answered += every_version(&client, ListPartitionReassignmentsRequest::default()).await;
    answered += every_version(&client, ListTransactionsRequest::default()).await;
    answered += every_version(&client, UnregisterBrokerRequest::default()).await;
    answered += every_version(&client, UpdateFeaturesRequest::default()).await;
    answered += every_version(&client, DescribeConfigsRequest::default()).await;
    answered += every_version(&client, DeleteGroupsRequest::default()).await;
    answered += every_version(&client, OffsetDeleteRequest::default()).await;
    answered += every_version(&client, DescribeClusterRequest::default()).await;
    answered += every_version(&client, InitProducerIdRequest::default()).await;
    answered += every_version(&client, ConsumerGroupHeartbeatRequest::default()).await;
    answered += every_version(&client, ConsumerGroupDescribeRequest::default()).await;
    answered +=
        every_version(&client, DescribeAclsRequest::default().with_resource_type_filter(1).with_operation(1)).await;
    answered += every_version(&client, CreateAclsRequest::default()).await;
    answered += every_version(&client, DeleteAclsRequest::default()).await;
    answered += every_version(&client, DescribeUserScramCredentialsRequest::default()).await;
    answered += every_version(&client, AlterUserScramCredentialsRequest::default()).await;
    answered += every_version(&client, DescribeClientQuotasRequest::default()).await;
    let advertised: i16 = advertised_apis().iter().map(|range| range.max - range.min + 1).sum();
    assert_eq!(answered, usize::try_from(advertised).unwrap(), "an advertised API is not in this table");
}

#[tokio::test]
async fn metadata_by_name_by_id_and_all() {
    let bench = Bench::new().await;
    let logs = bench.mirror("orders", 2);
    fill(&logs[1], &[BatchBuilder::at(0).epoch(7).record(Record::value("x"))]);
    let id = bench.state.topic("orders").unwrap().id;
    let client = bench.client().await;
    for version in 0..=13 {
        let named = MetadataRequestTopic::default().with_name(Some(topic("orders")));
        let response = at(&client, version, &MetadataRequest::default().with_topics(Some(vec![named]))).await;
        assert_eq!((response.brokers[0].host.as_str(), response.brokers[0].port), ("advertised.example", 9999));
        let found = &response.topics[0];
        assert_eq!((found.error_code, found.partitions.len()), (0, 2), "version {version}");
        assert!(found.partitions.iter().all(|partition| partition.leader_id == response.brokers[0].node_id));
        if version >= 7 {
            assert_eq!((found.partitions[0].leader_epoch, found.partitions[1].leader_epoch), (0, 7));
        }
        if version >= 10 {
            assert_eq!(found.topic_id, id);
            assert_eq!(response.cluster_id.unwrap().as_str(), bench.state.cluster_id());
        }
        // Version 0 asks for all with an empty list, later ones with null; an empty list then asks for none.
        let topics = if version == 0 { Some(Vec::new()) } else { None };
        assert_eq!(at(&client, version, &MetadataRequest::default().with_topics(topics)).await.topics.len(), 1);
    }
    let none = MetadataRequest::default().with_topics(Some(Vec::new()));
    assert!(call(&client, &none).await.topics.is_empty());
    let by_id = MetadataRequestTopic::default().with_topic_id(id).with_name(None);
    let unknown = MetadataRequestTopic::default().with_topic_id(Uuid::from_u128(5)).with_name(None);
    let missing = MetadataRequestTopic::default().with_name(Some(topic("missing")));
    let invalid = MetadataRequestTopic::default().with_name(Some(topic("no/slash")));
    let request = MetadataRequest::default().with_topics(Some(vec![by_id, unknown, missing, invalid]));
    let answers = call(&client, &request.with_include_topic_authorized_operations(true)).await.topics;
    let codes: Vec<_> = answers.iter().map(|topic| ResponseError::try_from_code(topic.error_code)).collect();
    let (unknown, invalid) = (ResponseError::UnknownTopicOrPartition, ResponseError::InvalidTopicException);
    assert_eq!(codes, [None, Some(ResponseError::UnknownTopicId), Some(unknown), Some(invalid)]);
    assert_eq!(answers[0].name, Some(topic("orders")));
    // READ, WRITE, CREATE, DELETE, ALTER, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS.
    assert_eq!(answers[0].topic_authorized_operations, 0b1101_1111_1000);
    // A partition that the mirror has not opened yet has no leader.
    let mut record = (*bench.state.topic("orders").unwrap()).clone();
    record.partitions = 3;
    bench.state.put_topic(record).unwrap();
    let named = MetadataRequestTopic::default().with_name(Some(topic("orders")));
    let answer = call(&client, &MetadataRequest::default().with_topics(Some(vec![named]))).await;
    let partition = &answer.topics[0].partitions[2];
    assert_eq!((partition.error_code, partition.leader_id.0), (ResponseError::LeaderNotAvailable.code(), -1));
}

#[tokio::test]
async fn produce_to_a_mirror_is_refused_by_name() {
    let bench = Bench::new().await;
    bench.mirror("orders", 1);
    let id = bench.state.topic("orders").unwrap().id;
    let client = bench.client().await;
    let partition = PartitionProduceData::default().with_records(Some(Bytes::from_static(b"whatever")));
    for version in 3..=13 {
        let data = TopicProduceData::default().with_partition_data(vec![partition.clone()]);
        let data = if version >= 13 { data.with_topic_id(id) } else { data.with_name(topic("orders")) };
        let request = ProduceRequest::default().with_acks(1).with_timeout_ms(1000).with_topic_data(vec![data]);
        let response = at(&client, version, &request).await;
        let refused = &response.responses[0].partition_responses[0];
        assert_eq!(refused.error_code, ResponseError::InvalidRequest.code());
        if version >= 8 {
            let message = "Cannot append records to read-only mirror topic 'orders'";
            assert_eq!(refused.error_message.as_ref().unwrap().as_str(), message);
        }
    }
    // Nobody would read the answer: the connection is closed, as Kafka does.
    let data = TopicProduceData::default().with_name(topic("orders")).with_partition_data(vec![partition]);
    let request = ProduceRequest::default().with_acks(0).with_topic_data(vec![data]);
    let outcome = client.call(&request, 9, Duration::ZERO).await;
    assert!(matches!(outcome, Err(ClientError::Closed { .. })), "{outcome:?}");
}

#[tokio::test]
async fn idempotent_producers_get_an_id_and_transactional_ones_do_not() {
    let bench = Bench::new().await;
    let client = bench.client().await;
    let idempotent = InitProducerIdRequest::default().with_transactional_id(None);
    let (first, second) = (call(&client, &idempotent).await, call(&client, &idempotent).await);
    assert!(first.error_code == 0 && second.error_code == 0 && first.producer_id != second.producer_id);
    let transactional = TransactionalId(StrBytes::from_static_str("t"));
    let request = InitProducerIdRequest::default().with_transactional_id(Some(transactional));
    let refused = call(&client, &request).await;
    assert_eq!(refused.error_code, ResponseError::TransactionalIdAuthorizationFailed.code());
    // Both kinds of client give up at once and show why; a missing right reads otherwise.
    let id = StrBytes::from_static_str("t");
    let find = FindCoordinatorRequest::default().with_key_type(1);
    let told = async |client: &KafkaClient, version: i16| {
        let is_old = version < 4;
        let find = if is_old {
            find.clone().with_key(id.clone())
        } else {
            find.clone().with_coordinator_keys(vec![id.clone()])
        };
        let mut found = at(client, version, &find).await;
        let (code, message) = match found.coordinators.pop() {
            Some(coordinator) => (coordinator.error_code, coordinator.error_message),
            None => (found.error_code, found.error_message),
        };
        (ResponseError::try_from_code(code).unwrap(), message.unwrap().to_string())
    };
    let range = advertised_apis().iter().find(|range| range.key == FindCoordinatorRequest::KEY).unwrap();
    for version in 1..=range.max {
        let denied = ResponseError::TransactionalIdAuthorizationFailed;
        let expected = if version < 4 { denied } else { ResponseError::InvalidRequest };
        let (code, message) = told(&client, version).await;
        assert_eq!(code, expected, "version {version}");
        assert!(message.contains("transactional producers are not supported"), "{message}");
    }
    let bench = Bench::with(quick(), "hawser.acls=User:ANONYMOUS READ topic:*").await;
    for version in [2, range.max] {
        let (code, message) = told(&bench.client().await, version).await;
        assert_eq!(code, ResponseError::TransactionalIdAuthorizationFailed);
        assert!(message.contains("not authorized to describe this transactional id"), "{message}");
    }
    let refused = call(&bench.client().await, &idempotent).await;
    assert_eq!(refused.error_code, ResponseError::ClusterAuthorizationFailed.code());
}

#[tokio::test]
async fn offsets_are_listed_by_place_and_by_time() {
    let bench = Bench::new().await;
    let log = &bench.mirror("t", 1)[0];
    let record = || Record::value("x");
    let batches = [
        BatchBuilder::at(0).epoch(1).timestamp(1000).record(record()).record(record()),
        BatchBuilder::at(2).epoch(3).timestamp(5000).record(record()),
        BatchBuilder::at(3).epoch(3).timestamp(3000).record(record()),
        // An open transaction: committed readers stop before it.
        BatchBuilder::at(4).epoch(4).timestamp(9000).transactional(5, 0, 0).record(record()),
    ];
    let client = bench.client().await;
    let ask = async |version: i16, isolation: i8, timestamp: i64| {
        let partition = ListOffsetsPartition::default().with_timestamp(timestamp).with_current_leader_epoch(-1);
        let asked = ListOffsetsTopic::default().with_name(topic("t")).with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default().with_isolation_level(isolation).with_topics(vec![asked]);
        let answer = at(&client, version, &request).await.topics[0].partitions[0].clone();
        assert_eq!(answer.error_code, 0);
        (answer.offset, answer.timestamp, answer.leader_epoch)
    };
    // The end comes with the leader's epoch, whatever the log holds (`Partition.fetchOffsetForTimestamp`).
    assert_eq!(ask(7, 0, -1).await, (0, -1, 0), "latest, of nothing");
    fill(log, &batches);
    for version in 4..=10 {
        assert_eq!(ask(version, 0, -2).await, (0, -1, 1), "earliest");
        assert_eq!(ask(version, 0, -1).await, (5, -1, 4), "latest");
        assert_eq!(ask(version, 1, -1).await, (4, -1, 4), "latest, committed");
        assert_eq!(ask(version, 0, 1001).await, (2, 5000, 3), "by time");
        assert_eq!(ask(version, 0, 9001).await, (-1, -1, -1), "later than everything");
    }
    assert_eq!(ask(7, 0, -3).await, (4, 9000, 4), "largest timestamp");
    assert_eq!(ask(7, 1, 6000).await, (-1, -1, -1), "beyond the last stable offset");
    assert_eq!(ask(8, 0, -4).await, (0, -1, 1), "earliest local");
    assert_eq!(ask(9, 0, -5).await, (-1, -1, -1), "nothing is tiered");
    log.advance_log_start(Offset(3)).unwrap();
    assert_eq!(ask(7, 0, -2).await, (3, -1, 3));
}

#[tokio::test]
async fn leader_epochs_fence_and_tell_where_they_ended() {
    let bench = Bench::new().await;
    let log = &bench.mirror("t", 1)[0];
    let batches = [(0, 1), (1, 1), (2, 4), (3, 6)].map(|(at, epoch)| BatchBuilder::at(at).epoch(epoch).records(1, 10));
    fill(log, &batches);
    let client = bench.client().await;
    let ask = async |version: i16, current: i32, epoch: i32| {
        let partition = OffsetForLeaderPartition::default().with_current_leader_epoch(current).with_leader_epoch(epoch);
        let asked = OffsetForLeaderTopic::default().with_topic(topic("t")).with_partitions(vec![partition]);
        let request = OffsetForLeaderEpochRequest::default().with_topics(vec![asked]).with_replica_id(BrokerId(-1));
        let answer = at(&client, version, &request).await.topics[0].partitions[0].clone();
        (ResponseError::try_from_code(answer.error_code), answer.leader_epoch, answer.end_offset)
    };
    for version in 2..=4 {
        for (epoch, expected) in [(1, (1, 2)), (2, (1, 2)), (4, (4, 3)), (6, (6, 4)), (7, (-1, -1)), (0, (0, 0))] {
            assert_eq!(ask(version, -1, epoch).await, (None, expected.0, expected.1), "epoch {epoch}");
        }
        assert_eq!(ask(version, 6, 4).await, (None, 4, 3));
        assert_eq!(ask(version, 5, 4).await.0, Some(ResponseError::FencedLeaderEpoch));
        assert_eq!(ask(version, 7, 4).await.0, Some(ResponseError::UnknownLeaderEpoch));
    }
    // The tail diverged and was cut off: a new leader epoch, so that clients ask where to go on.
    log.truncate_to(Offset(3)).unwrap();
    assert_eq!(log.watermarks().last_epoch, LeaderEpoch(4));
    assert_eq!(ask(4, 6, 6).await.0, Some(ResponseError::FencedLeaderEpoch));
    while ask(4, 7, 6).await.0 == Some(ResponseError::NotLeaderOrFollower) {} // until it is kept
    assert_eq!(ask(4, 7, 6).await, (None, 4, 3));
    assert_eq!(ask(4, 7, 7).await, (None, 7, 3));
    // It is so after a restart, too, although no batch tells it.
    let bench = bench.restart(quick()).await;
    let client = bench.client().await;
    let partition = OffsetForLeaderPartition::default().with_current_leader_epoch(6).with_leader_epoch(6);
    let asked = OffsetForLeaderTopic::default().with_topic(topic("t")).with_partitions(vec![partition]);
    let request = OffsetForLeaderEpochRequest::default().with_topics(vec![asked]).with_replica_id(BrokerId(-1));
    let answer = at(&client, 4, &request).await.topics[0].partitions[0].clone();
    assert_eq!(ResponseError::try_from_code(answer.error_code), Some(ResponseError::FencedLeaderEpoch));
}

#[tokio::test]
async fn configs_of_topics_and_of_the_broker() {
    let bench = Bench::new().await;
    bench.mirror("orders", 1);
    let client = bench.client().await;
    let ask = async |version, kind, name: &'static str, keys: Option<Vec<StrBytes>>| {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(StrBytes::from_static_str(name))
            .with_configuration_keys(keys);
        let request = DescribeConfigsRequest::default().with_resources(vec![resource]).with_include_synonyms(true);
        at(&client, version, &request).await.results[0].clone()
    };
    for version in 1..=4 {
        let found = ask(version, 2, "orders", None).await;
        let config = |name: &str| found.configs.iter().find(|config| config.name.as_str() == name).unwrap();
        let value = |name| config(name).value.as_ref().unwrap().as_str();
        assert_eq!((value("retention.ms"), config("retention.ms").config_source), ("1234", 1));
        assert_eq!((value("segment.bytes"), config("segment.bytes").config_source), ("1048576", 4));
        assert_eq!((value("brand.new"), config("brand.new").config_source), ("yes", 1));
        assert_eq!(config("retention.ms").synonyms.len(), 1);
    }
    let one = ask(4, 2, "orders", Some(vec![StrBytes::from_static_str("cleanup.policy")])).await;
    assert_eq!((one.configs.len(), one.configs[0].value.as_ref().unwrap().as_str()), (1, "delete"));
    let broker = ask(4, 4, "1", None).await;
    assert!(broker.configs.iter().any(|config| config.name.as_str() == "broker.id" && config.read_only));
    assert_eq!(ask(4, 2, "missing", None).await.error_code, ResponseError::UnknownTopicOrPartition.code());
    assert_eq!(ask(4, 4, "9", None).await.error_code, ResponseError::InvalidRequest.code());
    assert_eq!(ask(4, 8, "x", None).await.error_code, ResponseError::InvalidRequest.code());
}

#[tokio::test]
async fn the_coordinator_and_the_cluster_are_this_broker() {
    let bench = Bench::new().await;
    let client = bench.client().await;
    let group = StrBytes::from_static_str("g");
    for version in 0..=3 {
        let found = at(&client, version, &FindCoordinatorRequest::default().with_key(group.clone())).await;
        assert_eq!((found.error_code, found.host.as_str(), found.port), (0, "advertised.example", 9999));
    }
    for version in 4..=6 {
        let keys = vec![group.clone(), StrBytes::from_static_str("h")];
        let found = at(&client, version, &FindCoordinatorRequest::default().with_coordinator_keys(keys)).await;
        let is_here = |c: &Coordinator| c.error_code == 0 && c.node_id.0 == 1 && c.port == 9999;
        assert!(found.coordinators.len() == 2 && found.coordinators.iter().all(is_here));
        let request = FindCoordinatorRequest::default().with_key_type(1).with_coordinator_keys(vec![group.clone()]);
        let found = at(&client, version, &request).await;
        assert_eq!(found.coordinators[0].error_code, ResponseError::InvalidRequest.code());
    }
    let request = DescribeClusterRequest::default().with_include_cluster_authorized_operations(true);
    let cluster = call(&client, &request).await;
    assert_eq!((cluster.brokers.len(), cluster.cluster_id.as_str()), (1, bench.state.cluster_id()));
    assert!(cluster.cluster_authorized_operations > 0);
}

#[tokio::test]
async fn private_keys_go_to_the_daemon() {
    let bench = Bench::new().await;
    let client = bench.client().await;
    let answer = client.call_raw(private::OPERATE, 0, Bytes::from_static(b"hello"), Duration::ZERO).await.unwrap();
    assert_eq!(answer, "User:ANONYMOUS says hello");
    let answer = client.call_raw(private::LINK_OPEN, 0, Bytes::from_static(b"open"), Duration::ZERO).await.unwrap();
    assert_eq!(answer, "taken");
}

#[tokio::test]
async fn unknown_versions_of_api_versions_are_told_what_is_spoken() {
    let bench = Bench::new().await;
    let client = bench.client().await;
    let offered = at(&client, 4, &software("kcat", "1.7.1")).await;
    assert_eq!((offered.error_code, offered.api_keys.len()), (0, advertised_apis().len()));
    let nameless = at(&client, 3, &software("", "")).await;
    assert_eq!(nameless.error_code, ResponseError::InvalidRequest.code());
    // KIP-511: version 99, with bytes that nobody can read, is answered in version 0.
    let mut socket = TcpStream::connect(bench.address).await.unwrap();
    let mut frame = BytesMut::new();
    frame.put_i16(ApiKey::ApiVersions as i16);
    frame.put_i16(99);
    frame.put_i32(42);
    frame.put_i16(-1);
    frame.put_slice(&[0, 0xff, 0xff]);
    socket.write_i32(i32::try_from(frame.len()).unwrap()).await.unwrap();
    socket.write_all(&frame).await.unwrap();
    let length = socket.read_i32().await.unwrap();
    let mut answer = vec![0; usize::try_from(length).unwrap()];
    socket.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer[..6], [0, 0, 0, 42, 0, 35]);
    let response = hawser_wire::api::decode_response::<ApiVersionsRequest>(0, Bytes::from(answer).slice(4..)).unwrap();
    assert_eq!(response.api_keys.len(), advertised_apis().len());
}

fn software(name: &'static str, version: &'static str) -> ApiVersionsRequest {
    ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str(name))
        .with_client_software_version(StrBytes::from_static_str(version))
}

#[tokio::test]
async fn what_cannot_be_read_ends_its_connection_and_no_other() {
    let bench = Bench::new().await;
    let bystander = bench.client().await;
    let frame = |bytes: &[u8]| [&i32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
    let bad: &[Vec<u8>] = &[
        frame(&[]),
        frame(&[0, 3]),
        // Metadata that promises two thousand million topics.
        frame(&[0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]),
        // An unknown key; a known one that is not served; a version that is not.
        frame(&[0x7f, 0xff, 0, 0, 0, 0, 0, 1, 0xff, 0xff]),
        frame(&[0, 19, 0, 2, 0, 0, 0, 1, 0xff, 0xff, 0, 0, 0, 0]),
        frame(&[0, 1, 0, 3, 0, 0, 0, 1, 0xff, 0xff]),
        // Oversized and negative frames, and no Kafka at all.
        vec![0x7f, 0xff, 0xff, 0xff],
        vec![0xff, 0xff, 0xff, 0xff],
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0x5a; 4096],
    ];
    for bytes in bad {
        let mut socket = TcpStream::connect(bench.address).await.unwrap();
        // The broker may have closed already while we still write.
        let _ = socket.write_all(bytes).await;
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(10), socket.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "{:?} left the connection open", &bytes[..bytes.len().min(16)]);
        assert!(rest.is_empty());
    }
    assert_eq!(call(&bystander, &ListGroupsRequest::default()).await.error_code, 0);
}

#[tokio::test]
async fn every_api_asks_the_authorizer() {
    let access = "hawser.acls=User:ANONYMOUS DESCRIBE topic:seen; User:ANONYMOUS READ topic:read; \
                  User:ANONYMOUS READ group:mine";
    let bench = Bench::with(quick(), access).await;
    for name in ["seen", "read", "hidden"] {
        bench.mirror(name, 1);
    }
    let client = bench.client().await;
    let all = call(&client, &MetadataRequest::default().with_topics(None)).await;
    let names: Vec<_> = all.topics.iter().map(|topic| topic.name.as_ref().unwrap().to_string()).collect();
    assert_eq!(names, ["read", "seen"]);
    let hidden = MetadataRequestTopic::default().with_name(Some(topic("hidden")));
    let answer = call(&client, &MetadataRequest::default().with_topics(Some(vec![hidden]))).await;
    let denied_topic = ResponseError::TopicAuthorizationFailed.code();
    assert_eq!(answer.topics[0].error_code, denied_topic);
    // An id tells no more than a name.
    let id = bench.state.topic("hidden").unwrap().id;
    let hidden = MetadataRequestTopic::default().with_topic_id(id).with_name(None);
    let answer = call(&client, &MetadataRequest::default().with_topics(Some(vec![hidden]))).await;
    assert_eq!((answer.topics[0].error_code, &answer.topics[0].name), (ResponseError::UnknownTopicId.code(), &None));
    let fetch = |name| {
        let partition = fetch_request::FetchPartition::default().with_partition_max_bytes(100);
        let asked = fetch_request::FetchTopic::default().with_topic(topic(name)).with_partitions(vec![partition]);
        FetchRequest::default().with_topics(vec![asked]).with_session_epoch(-1)
    };
    for (name, expected) in [("seen", denied_topic), ("read", 0), ("hidden", denied_topic)] {
        let answer = at(&client, 12, &fetch(name)).await;
        assert_eq!(answer.responses[0].partitions[0].error_code, expected, "{name}");
    }
    let partition = ListOffsetsPartition::default().with_timestamp(-1);
    let asked = |name| ListOffsetsTopic::default().with_name(topic(name)).with_partitions(vec![partition.clone()]);
    let request = ListOffsetsRequest::default().with_topics(vec![asked("seen"), asked("hidden")]);
    let answer = call(&client, &request).await;
    let codes: Vec<_> = answer.topics.iter().map(|topic| topic.partitions[0].error_code).collect();
    assert_eq!(codes, [0, denied_topic]);
    let denied_group = ResponseError::GroupAuthorizationFailed.code();
    let group = |name| GroupId(StrBytes::from_static_str(name));
    let join = |name| JoinGroupRequest::default().with_group_id(group(name)).with_session_timeout_ms(6000);
    assert_eq!(call(&client, &join("theirs")).await.error_code, denied_group);
    assert_eq!(call(&client, &join("mine")).await.error_code, ResponseError::InconsistentGroupProtocol.code());
    let heartbeat = HeartbeatRequest::default().with_group_id(group("theirs"));
    assert_eq!(call(&client, &heartbeat).await.error_code, denied_group);
    let leave = LeaveGroupRequest::default().with_group_id(group("theirs"));
    assert_eq!(call(&client, &leave).await.error_code, denied_group);
    let sync = SyncGroupRequest::default().with_group_id(group("theirs"));
    assert_eq!(call(&client, &sync).await.error_code, denied_group);
    let describe = DescribeGroupsRequest::default().with_groups(vec![group("theirs")]);
    assert_eq!(call(&client, &describe).await.groups[0].error_code, denied_group);
    let delete = DeleteGroupsRequest::default().with_groups_names(vec![group("mine")]);
    assert_eq!(call(&client, &delete).await.results[0].error_code, denied_group);
    let delete = OffsetDeleteRequest::default().with_group_id(group("mine"));
    assert_eq!(call(&client, &delete).await.error_code, denied_group);
    let fetch = offset_fetch_request::OffsetFetchRequestGroup::default().with_group_id(group("theirs"));
    let fetch = OffsetFetchRequest::default().with_groups(vec![fetch]);
    assert_eq!(call(&client, &fetch).await.groups[0].error_code, denied_group);
    let key = StrBytes::from_static_str("theirs");
    let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![key]);
    assert_eq!(call(&client, &find).await.coordinators[0].error_code, denied_group);
    let configs = DescribeConfigsResource::default().with_resource_type(2).with_resource_name("seen".into());
    let answer = call(&client, &DescribeConfigsRequest::default().with_resources(vec![configs])).await;
    assert_eq!(answer.results[0].error_code, denied_topic);
    let configs = DescribeConfigsResource::default().with_resource_type(4).with_resource_name("1".into());
    let answer = call(&client, &DescribeConfigsRequest::default().with_resources(vec![configs])).await;
    assert_eq!(answer.results[0].error_code, ResponseError::ClusterAuthorizationFailed.code());
    let data = TopicProduceData::default().with_name(topic("read")).with_partition_data(vec![Default::default()]);
    let answer = at(&client, 9, &ProduceRequest::default().with_acks(1).with_topic_data(vec![data])).await;
    assert_eq!(answer.responses[0].partition_responses[0].error_code, denied_topic);
    assert!(call(&client, &ListGroupsRequest::default()).await.groups.is_empty());
}

#[tokio::test]
async fn an_idle_connection_costs_little() {
    let bench = Bench::new().await;
    let address = "127.0.0.1:0".parse().unwrap();
    let listener =
        hawser_transport::Listener::bind(address, hawser_transport::ServerSecurity::plaintext()).await.unwrap();
    // A plain listener hands a connection out once its first bytes do not look like TLS.
    let mut client = TcpStream::connect(listener.local_addr()).await.unwrap();
    client.write_all(&[0; 8]).await.unwrap();
    let connection = listener.accept().await;
    let advertised = std::sync::Arc::new(hawser_transport::HostPort::new("localhost", 9092));
    let serving = bench.broker.serve(connection, advertised, bench.stop.clone());
    // The future that waits for the next request; without the box around its handler it would be several times that.
    let bytes = std::mem::size_of_val(&serving);
    assert!(bytes <= 8 << 10, "{bytes} bytes");
}

#[tokio::test]
async fn a_partition_whose_log_is_offline_has_no_leader() {
    let bench = Bench::new().await;
    let logs = bench.mirror("t", 2);
    for log in &logs {
        fill(log, &[BatchBuilder::at(0).record(Record::value("x"))]);
    }
    // The first flush syncs every file of a new folder.
    std::fs::remove_file(logs[0].dir().join("partition.metadata")).unwrap();
    logs[0].flush().expect_err("a file is gone");
    assert!(matches!(logs[0].status(), hawser_log::Status::Offline(_)), "{:?}", logs[0].status());
    let client = bench.client().await;
    let response = at(&client, 12, &MetadataRequest::default().with_topics(None)).await;
    let node = response.brokers[0].node_id;
    let [offline, online] = response.topics[0].partitions.as_slice() else { panic!("{response:?}") };
    assert_eq!(ResponseError::try_from_code(offline.error_code), Some(ResponseError::LeaderNotAvailable));
    assert_eq!((offline.leader_id, offline.leader_epoch), (BrokerId(-1), -1));
    assert_eq!((offline.offline_replicas.as_slice(), offline.isr_nodes.len()), ([node].as_slice(), 0));
    assert_eq!((online.error_code, online.leader_id, online.offline_replicas.len()), (0, node, 0));

    let partitions = [0, 1].map(|index| OffsetForLeaderPartition::default().with_partition(index).with_leader_epoch(0));
    let asked = OffsetForLeaderTopic::default().with_topic(topic("t")).with_partitions(partitions.into());
    let request = OffsetForLeaderEpochRequest::default().with_topics(vec![asked]).with_replica_id(BrokerId(-1));
    let answer = at(&client, 4, &request).await;
    let errors: Vec<_> = answer.topics[0].partitions.iter().map(|partition| partition.error_code).collect();
    assert_eq!(errors, [ResponseError::KafkaStorageError.code(), 0]);
}

#[tokio::test]
async fn what_is_named_many_times_is_answered_once() {
    let bench = Bench::new().await;
    let _logs = bench.mirror("orders", 3);
    let client = bench.client().await;
    let named = |name| MetadataRequestTopic::default().with_name(Some(topic(name)));
    let topics = [vec![named("orders"); 1000], vec![named("absent"), named("orders")]].concat();
    let request = MetadataRequest::default().with_topics(Some(topics)).with_allow_auto_topic_creation(false);
    let answered = at(&client, 9, &request).await.topics;
    let names: Vec<_> = answered.iter().map(|topic| topic.name.as_ref().unwrap().as_str()).collect();
    assert_eq!(names, ["orders", "absent"]);
    assert_eq!(answered[0].partitions.len(), 3);

    let orders = DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(StrBytes::from_static_str("orders"))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default().with_resources(vec![orders; 1000]);
    assert_eq!(call(&client, &request).await.results.len(), 1);

    let group = || GroupId(StrBytes::from_static_str("g"));
    let request = DescribeGroupsRequest::default().with_groups(vec![group(); 1000]);
    assert_eq!(call(&client, &request).await.groups.len(), 1);
    let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group(); 1000]);
    assert_eq!(call(&client, &request).await.groups.len(), 1);
    let asked = offset_fetch_request::OffsetFetchRequestGroup::default().with_group_id(group()).with_topics(None);
    let request = OffsetFetchRequest::default().with_groups(vec![asked; 1000]);
    assert_eq!(at(&client, 8, &request).await.groups.len(), 1);

    let asked = describe_producers_request::TopicRequest::default()
        .with_name(topic("orders"))
        .with_partition_indexes(vec![0, 1, 0, 0]);
    let request = DescribeProducersRequest::default().with_topics(vec![asked; 1000]);
    let answered = call(&client, &request).await.topics;
    assert_eq!((answered.len(), answered[0].partitions.len()), (1, 2));

    // Kafka refuses a search that is asked for twice.
    let partition = |index| ListOffsetsPartition::default().with_partition_index(index).with_timestamp(-3);
    let asked = |name, partitions| ListOffsetsTopic::default().with_name(topic(name)).with_partitions(partitions);
    let again = asked("orders", vec![partition(1), partition(2), partition(1)]);
    let topics =
        [vec![asked("orders", vec![partition(0)])], vec![again; 1000], vec![asked("absent", vec![partition(0)])]];
    let request = ListOffsetsRequest::default().with_topics(topics.concat());
    let answered: Vec<_> = call(&client, &request)
        .await
        .topics
        .into_iter()
        .map(|topic| {
            let told = |partition: &list_offsets_response::ListOffsetsPartitionResponse| {
                (partition.partition_index, ResponseError::try_from_code(partition.error_code))
            };
            (topic.name.to_string(), topic.partitions.iter().map(told).collect::<Vec<_>>())
        })
        .collect();
    let twice = Some(ResponseError::InvalidRequest);
    let expected = [
        ("orders".to_owned(), vec![(0, None)]),
        ("orders".to_owned(), vec![(1, twice), (2, twice)]),
        ("absent".to_owned(), vec![(0, Some(ResponseError::UnknownTopicOrPartition))]),
    ];
    assert_eq!(answered, expected);

    let partition = |index| OffsetForLeaderPartition::default().with_partition(index).with_leader_epoch(0);
    let asked = OffsetForLeaderTopic::default().with_topic(topic("orders")).with_partitions(vec![
        partition(0),
        partition(1),
        partition(0),
    ]);
    let request = OffsetForLeaderEpochRequest::default().with_topics(vec![asked; 1000]).with_replica_id(BrokerId(-1));
    let answered = call(&client, &request).await.topics;
    assert_eq!((answered.len(), answered[0].partitions.len()), (1, 2));
}

/// The runtime's only blocking thread is held, and so is everything that reads a disk.
#[test]
fn reads_that_take_their_time_hold_up_nothing_else() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let bench = Bench::new().await;
        let log = bench.mirror("t", 1).remove(0);
        fill(&log, &[BatchBuilder::at(0).timestamp(1000).record(Record::value("x"))]);
        let client = bench.client().await;
        let partition = ListOffsetsPartition::default().with_timestamp(-3).with_current_leader_epoch(-1);
        let asked = ListOffsetsTopic::default().with_name(topic("t")).with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default().with_topics(vec![asked]);
        let group = DescribeGroupsRequest::default().with_groups(vec![GroupId(StrBytes::from_static_str("g"))]);
        let mut askers = Vec::new();
        for _ in 0..40 {
            askers.push((bench.client().await, bench.client().await));
        }
        let (release, held) = std::sync::mpsc::channel::<()>();
        let gate = tokio::task::spawn_blocking(move || held.recv());
        let (mut searches, mut groups) = (tokio::task::JoinSet::new(), tokio::task::JoinSet::new());
        for (searcher, asker) in askers {
            let (request, group) = (request.clone(), group.clone());
            searches.spawn(async move { at(&searcher, 7, &request).await });
            groups.spawn(async move { call(&asker, &group).await });
        }
        // Those that were sent before are under way by then.
        for _ in 0..3 {
            call(&client, &ApiVersionsRequest::default()).await;
        }
        let named = MetadataRequestTopic::default().with_name(Some(topic("t")));
        let asked = MetadataRequest::default().with_topics(Some(vec![named]));
        assert_eq!(call(&client, &asked).await.topics.len(), 1);
        assert!(searches.try_join_next().is_none() && groups.try_join_next().is_none(), "a read was not held");
        release.send(()).unwrap();
        gate.await.unwrap().unwrap();
        while let Some(found) = searches.join_next().await {
            assert_eq!(found.unwrap().topics[0].partitions[0].offset, 0);
        }
        while let Some(described) = groups.join_next().await {
            assert_eq!(described.unwrap().groups.len(), 1);
        }
    });
}
