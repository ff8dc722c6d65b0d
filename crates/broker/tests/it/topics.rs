//! Topics made and deleted over Kafka's admin APIs: outcomes, rights, every version.

use crate::common::{Bench, at, call, quick};
use hawser_transport::KafkaClient;
use hawser_wire::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig};
use hawser_wire::messages::delete_topics_request::DeleteTopicState;
use hawser_wire::messages::*;
use hawser_wire::{ResponseError, StrBytes, TopicPartition, Uuid};

fn name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

fn wanted(topic: &str, partitions: i32) -> CreatableTopic {
    CreatableTopic::default().with_name(name(topic)).with_num_partitions(partitions).with_replication_factor(1)
}

/// Creates one topic; its error code.
async fn create(client: &KafkaClient, topic: CreatableTopic) -> i16 {
    call(client, &CreateTopicsRequest::default().with_topics(vec![topic])).await.topics[0].error_code
}

fn code(error: ResponseError) -> i16 {
    error.code()
}

#[tokio::test]
async fn topics_are_created_and_deleted_in_every_version() {
    let bench = Bench::new().await;
    let client = bench.client().await;
    for version in 2..=7 {
        let topic = format!("v{version}");
        let config = CreatableTopicConfig::default()
            .with_name(StrBytes::from_static_str("retention.ms"))
            .with_value(Some(StrBytes::from_static_str("1000")));
        let request = CreateTopicsRequest::default().with_topics(vec![wanted(&topic, 2).with_configs(vec![config])]);
        for validate_only in [true, false] {
            let response = at(&client, version, &request.clone().with_validate_only(validate_only)).await;
            let created = &response.topics[0];
            assert_eq!((created.error_code, &created.error_message), (0, &None), "version {version}");
            assert_eq!(bench.state.topic(&topic).is_some(), !validate_only);
            if version >= 5 {
                assert_eq!((created.num_partitions, created.replication_factor), (2, 1));
                let set = created.configs.iter().flatten().find(|config| &*config.name == "retention.ms").unwrap();
                assert_eq!((set.value.as_deref(), set.config_source), (Some("1000"), 1));
            }
        }
        assert!(bench.logs.partition(&TopicPartition::new(topic.as_str(), 1)).is_some());
    }
    for version in 1..=6 {
        let topic = format!("v{}", version + 1);
        let request = if version >= 6 {
            let id = bench.state.topic(&topic).unwrap().id;
            DeleteTopicsRequest::default().with_topics(vec![DeleteTopicState::default().with_topic_id(id)])
        } else {
            DeleteTopicsRequest::default().with_topic_names(vec![name(&topic), name("unknown")])
        };
        let response = at(&client, version, &request).await;
        let deleted =
            response.responses.iter().find(|r| r.name.as_deref().map(|n| &**n) == Some(topic.as_str())).unwrap();
        assert_eq!(deleted.error_code, 0, "version {version}");
        if version < 6 {
            let unknown = response.responses.iter().find(|result| result.error_code != 0).unwrap();
            assert_eq!(unknown.error_code, code(ResponseError::UnknownTopicOrPartition));
        }
        assert!(bench.state.topic(&topic).is_none());
    }
    assert!(bench.logs.partitions().is_empty());
}

#[tokio::test]
async fn a_request_that_contradicts_itself_is_refused() {
    let bench = Bench::new().await;
    let client = bench.client().await;
    let assigned =
        || vec![CreatableReplicaAssignment::default().with_partition_index(0).with_broker_ids(vec![BrokerId(1)])];
    assert_eq!(create(&client, wanted("a", 1).with_assignments(assigned())).await, code(ResponseError::InvalidRequest));
    let manual = wanted("a", -1).with_replication_factor(-1).with_assignments(assigned());
    assert_eq!(create(&client, manual).await, 0);
    let null = CreatableTopicConfig::default().with_name(StrBytes::from_static_str("retention.ms")).with_value(None);
    assert_eq!(create(&client, wanted("b", 1).with_configs(vec![null])).await, code(ResponseError::InvalidConfig));
    let twice = CreateTopicsRequest::default().with_topics(vec![wanted("b", 1), wanted("c", 1), wanted("b", 1)]);
    let answers = call(&client, &twice).await.topics;
    let codes: Vec<_> = answers.iter().map(|answer| (answer.name.as_str(), answer.error_code)).collect();
    assert_eq!(codes, [("b", code(ResponseError::InvalidRequest)), ("c", 0)]);

    let id = bench.state.topic("a").unwrap().id;
    let state = DeleteTopicState::default;
    let request = DeleteTopicsRequest::default().with_topics(vec![
        state(),
        state().with_name(Some(name("a"))).with_topic_id(id),
        state().with_name(Some(name("a"))),
        state().with_topic_id(id),
        state().with_name(Some(name("c"))),
        state().with_name(Some(name("c"))),
        state().with_topic_id(Uuid::from_u128(9)),
        state().with_topic_id(Uuid::from_u128(8)),
        state().with_topic_id(Uuid::from_u128(8)),
    ]);
    let mut codes: Vec<_> = call(&client, &request).await.responses.iter().map(|result| result.error_code).collect();
    codes.sort_unstable();
    assert_eq!(codes, [42, 42, 42, 42, 42, 100], "nothing is deleted: every mention is wrong in its way");
    assert!(bench.state.topic("a").is_some() && bench.state.topic("c").is_some());
}

#[tokio::test]
async fn deleting_a_mirror_ends_it_first_and_deletes_its_offsets() {
    let bench = Bench::new().await;
    bench.mirror("orders", 2);
    let committed =
        hawser_state::CommittedOffset { offset: 1, leader_epoch: -1, metadata: String::new(), commit_timestamp_ms: 0 };
    let offset =
        hawser_state::GroupChange::PutOffset { group: "g".into(), topic: "orders".into(), partition: 0, committed };
    bench.state.apply(&[offset]).unwrap();
    let client = bench.client().await;
    let request =
        DeleteTopicsRequest::default().with_topics(vec![DeleteTopicState::default().with_name(Some(name("orders")))]);
    assert_eq!(call(&client, &request).await.responses[0].error_code, 0);
    assert_eq!(*bench.ended.0.lock().unwrap(), ["orders"]);
    assert!(bench.state.topic("orders").is_none() && bench.state.offsets("g").unwrap().is_empty());
    assert!(bench.logs.partitions().is_empty());
}

#[tokio::test]
async fn rights_are_asked_for_as_kafka_asks() {
    let denied = code(ResponseError::TopicAuthorizationFailed);
    // What User:ANONYMOUS holds, and what it may then do to topic `t`, which exists, and `u`, which does not.
    let table = [
        ("", denied, denied, denied),
        ("CREATE cluster", 0, denied, denied),
        ("CREATE topic:u", 0, denied, denied),
        ("DESCRIBE topic:*", denied, denied, code(ResponseError::UnknownTopicOrPartition)),
        ("DELETE topic:t", denied, 0, denied),
        ("DELETE cluster", denied, 0, code(ResponseError::UnknownTopicOrPartition)),
    ];
    for (grant, created, deleted, deleted_unknown) in table {
        let access = if grant.is_empty() { String::new() } else { format!("hawser.acls=User:ANONYMOUS {grant}") };
        let bench = Bench::with(quick(), &access).await;
        let client = bench.client().await;
        bench.topic("t", 1, &[]).await;
        let delete = async |topic: &str| {
            let topics = vec![DeleteTopicState::default().with_name(Some(name(topic)))];
            call(&client, &DeleteTopicsRequest::default().with_topics(topics)).await.responses[0].error_code
        };
        assert_eq!(delete("u").await, deleted_unknown, "{grant}");
        assert_eq!(delete("t").await, deleted, "{grant}");
        assert_eq!(create(&client, wanted("u", 1)).await, created, "{grant}");
    }
}
