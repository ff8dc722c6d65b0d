//! Every API key of Kafka, and beyond: let through or not; and what a site policy hides.

use super::*;
use hawser_link::TopicFilters;
use hawser_wire::api::{decode_response, encode_raw_request, encode_response, split_response};
use hawser_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use hawser_wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use hawser_wire::messages::metadata_request::MetadataRequestTopic;
use hawser_wire::messages::metadata_response::MetadataResponseTopic;
use hawser_wire::messages::offset_fetch_response::{OffsetFetchResponseGroup, OffsetFetchResponseTopics};
use hawser_wire::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use hawser_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use hawser_wire::messages::*;
use hawser_wire::{Request, ResponseError, StrBytes, Uuid};

const ALLOWED: [ApiKey; 13] = [
    ApiKey::ApiVersions,
    ApiKey::Metadata,
    ApiKey::DescribeCluster,
    ApiKey::Fetch,
    ApiKey::ListOffsets,
    ApiKey::OffsetForLeaderEpoch,
    ApiKey::DescribeConfigs,
    ApiKey::ListGroups,
    ApiKey::DescribeGroups,
    ApiKey::OffsetFetch,
    ApiKey::FindCoordinator,
    ApiKey::DescribeAcls,
    ApiKey::DescribeTopicPartitions,
];

fn open() -> Guard {
    Guard::new(None)
}

fn site() -> (Guard, Arc<Policy>) {
    let filters = r#"{"topicFilters":[{"name":"orders","patternType":"PREFIXED","filterType":"INCLUDE"},
        {"name":"orders.secret","patternType":"LITERAL","filterType":"EXCLUDE"}]}"#;
    let policy = Arc::new(Policy::of_all([TopicFilters::parse(filters).expect("filters")]).expect("a policy"));
    (Guard::new(Some(Arc::clone(&policy))), policy)
}

fn topic(name: &'static str) -> TopicName {
    StrBytes::from_static_str(name).into()
}

fn frame<M: Request>(version: i16, message: &M) -> Bytes {
    encode_request(version, 77, "c", message).expect("encodes").slice(4..)
}

fn raw(key: i16, version: i16, body: &[u8]) -> Bytes {
    encode_raw_request(key, version, 77, "c", body).expect("encodes").slice(4..)
}

fn answer<M: Request>(version: i16, verdict: Verdict) -> M::Response {
    let Verdict::Answer(frame, _) = verdict else { panic!("{verdict:?}") };
    let (id, body) = split_response(M::KEY, version, frame.slice(4..)).expect("head");
    assert_eq!(id, 77);
    decode_response::<M>(version, body).expect("body")
}

/// What the rewriting of `response` makes of it.
fn rewritten<M: Request>(verdict: Verdict, version: i16, response: &M::Response) -> M::Response {
    rewritten_and_judged::<M>(verdict, version, response).0
}

/// The same, and what of the request turns out to be refused.
fn rewritten_and_judged<M: Request>(
    verdict: Verdict,
    version: i16,
    response: &M::Response,
) -> (M::Response, Option<Forbidden>) {
    let (Verdict::Pass(_, Treatment::Rewrite(rewrite)) | Verdict::PassPart(_, Treatment::Rewrite(rewrite), _)) =
        verdict
    else {
        panic!("{verdict:?}")
    };
    let frame = encode_response::<M>(version, 77, response).expect("encodes");
    let out = rewrite.apply(frame.slice(4..)).expect("rewrites");
    let (id, body) = split_response(M::KEY, version, out.frame.slice(4..)).expect("head");
    assert_eq!(id, 77);
    (decode_response::<M>(version, body).expect("body"), out.forbidden)
}

#[test]
fn every_api_key_by_table() {
    for number in 0..200_i16 {
        let Ok(key) = ApiKey::try_from(number) else {
            // Kafka's codec does not know the form of its head.
            let mut frame = BytesMut::new();
            frame.put_i16(number);
            frame.put_slice(&[0; 20]);
            let Verdict::Close(why) = open().judge(frame.freeze()) else { panic!("{number}") };
            assert_eq!(why.api(), "unknown", "a label of the metric, which must not grow with what is sent");
            continue;
        };
        assert_eq!(versions(key).is_some(), ALLOWED.contains(&key), "{key:?}");
        for version in -1..30 {
            if versions(key).is_some_and(|(min, max)| (min..=max).contains(&version)) {
                continue;
            }
            let Ok(frame) = encode_raw_request(number, version, 77, "c", &[0; 64]) else { continue };
            let verdict = open().judge(frame.slice(4..));
            assert!(!matches!(verdict, Verdict::Pass(..) | Verdict::PassPart(..)), "{key:?} version {version}");
        }
    }
    for key in [hawser_wire::api::private::LINK_OPEN, hawser_wire::api::private::OPERATE] {
        assert!(matches!(open().judge(raw(key, 0, &[])), Verdict::Close(_)));
    }
}

#[test]
fn every_allowed_api_passes_unchanged_in_every_version() {
    fn check<M: Request + Default>() {
        let (min, max) = versions(ApiKey::try_from(M::KEY).expect("key")).expect("allowed");
        for version in min..=max {
            let frame = frame(version, &M::default());
            match open().judge(frame.clone()) {
                Verdict::Pass(passed, Treatment::Stream | Treatment::Fetch { .. }) => {
                    assert_eq!(passed.slice(4..), frame);
                }
                Verdict::Pass(passed, Treatment::Rewrite(Rewrite::ApiVersions { .. })) => {
                    assert_eq!(M::KEY, ApiKey::ApiVersions as i16);
                    assert_eq!(passed.slice(4..), frame);
                }
                other => panic!("{} version {version}: {other:?}", M::KEY),
            }
        }
    }
    check::<ApiVersionsRequest>();
    check::<DescribeClusterRequest>();
    check::<FetchRequest>();
    check::<DescribeConfigsRequest>();
    check::<ListGroupsRequest>();
    check::<DescribeGroupsRequest>();
    check::<FindCoordinatorRequest>();
    check::<DescribeAclsRequest>();
    check::<DescribeTopicPartitionsRequest>();
    let consumer = ListOffsetsRequest::default().with_replica_id((-1).into());
    let Verdict::Pass(..) = open().judge(frame(7, &consumer)) else { panic!() };
}

/// From version 10 on it names topics by id, and a site policy would pass what it cannot name.
#[test]
fn offsets_are_fetched_by_name_only() {
    assert_eq!(versions(ApiKey::OffsetFetch).map(|(_, max)| max), Some(9));
    let verdict = open().judge(frame(9, &OffsetFetchRequest::default()));
    assert!(matches!(verdict, Verdict::Pass(..)), "{verdict:?}");
    let verdict = open().judge(raw(ApiKey::OffsetFetch as i16, 10, &[0; 64]));
    assert!(matches!(verdict, Verdict::Close(_)), "{verdict:?}");
}

#[test]
fn metadata_never_creates_topics() {
    let asked = MetadataRequest::default()
        .with_topics(Some(vec![MetadataRequestTopic::default().with_name(Some(topic("new")))]))
        .with_allow_auto_topic_creation(true);
    let Verdict::Pass(passed, Treatment::Stream) = open().judge(frame(9, &asked)) else { panic!() };
    let passed = RequestFrame::parse(passed.slice(4..)).unwrap().decode::<MetadataRequest>().unwrap();
    assert_eq!(passed, asked.with_allow_auto_topic_creation(false));
    for version in 0..4 {
        let body = [0, 0, 0, 0];
        assert!(matches!(open().judge(raw(ApiKey::Metadata as i16, version, &body)), Verdict::Close(_)), "{version}");
    }
}

#[test]
fn coordinators_are_found_for_groups_only() {
    let key = || StrBytes::from_static_str("payments");
    let asked = |version, key_type| match version {
        0..4 => FindCoordinatorRequest::default().with_key(key()).with_key_type(key_type),
        _ => FindCoordinatorRequest::default().with_coordinator_keys(vec![key()]).with_key_type(key_type),
    };
    let (min, max) = versions(ApiKey::FindCoordinator).expect("allowed");
    assert!(max >= 6, "share groups");
    for version in min..=max {
        let passed = open().judge(frame(version, &asked(version, 0)));
        assert!(matches!(passed, Verdict::Pass(_, Treatment::Stream)), "version {version}: {passed:?}");
        if version == 0 {
            continue; // has no key type
        }
        for key_type in [1, 2, 3, -1, i8::MAX] {
            for guard in [open(), site().0] {
                let verdict = guard.judge(frame(version, &asked(version, key_type)));
                let Verdict::Answer(_, why) = &verdict else { panic!("{key_type} in version {version}: {verdict:?}") };
                assert_eq!(why.api(), "FindCoordinator");
                let refused = answer::<FindCoordinatorRequest>(version, verdict);
                let denied = ResponseError::ClusterAuthorizationFailed.code();
                match version {
                    1..4 => assert_eq!(refused.error_code, denied),
                    _ => assert!(matches!(&refused.coordinators[..], [c] if c.error_code == denied && c.key == key())),
                }
            }
        }
    }
}

#[test]
fn replicas_are_refused() {
    let error = ResponseError::TopicAuthorizationFailed.code();
    let fetch = |id: i32| {
        let partition = FetchPartition::default();
        FetchRequest::default()
            .with_replica_id(id.into())
            .with_topics(vec![FetchTopic::default().with_topic(topic("t")).with_partitions(vec![partition])])
    };
    for id in [-2, 0, 5] {
        let answer = answer::<FetchRequest>(12, open().judge(frame(12, &fetch(id))));
        assert_eq!(answer.responses[0].partitions[0].error_code, error, "replica {id}");
        assert_eq!(answer.session_id, 0);
    }
    assert!(matches!(open().judge(frame(12, &fetch(-1))), Verdict::Pass(..)));
    let mut follower = fetch(-1);
    follower.replica_state.replica_id = 3.into();
    follower.topics[0].topic = topic("");
    follower.topics[0].topic_id = Uuid::from_u128(1);
    let answer = answer::<FetchRequest>(15, open().judge(frame(15, &follower)));
    assert_eq!(answer.responses[0].partitions[0].error_code, error);
    for id in [-2, 4] {
        let asked = ListOffsetsRequest::default().with_replica_id(id.into());
        assert!(matches!(open().judge(frame(5, &asked)), Verdict::Answer(..)));
        let asked = OffsetForLeaderEpochRequest::default().with_replica_id(id.into());
        assert!(matches!(open().judge(frame(4, &asked)), Verdict::Answer(..)));
    }
}

#[test]
fn writing_and_admin_requests_are_answered_with_their_own_errors() {
    let denied = ResponseError::TopicAuthorizationFailed.code();
    let produce = ProduceRequest::default().with_acks(-1).with_topic_data(vec![
        TopicProduceData::default().with_name(topic("t")).with_partition_data(vec![
            PartitionProduceData::default().with_index(3).with_records(Some(Bytes::from_static(b"x"))),
        ]),
    ]);
    let said = answer::<ProduceRequest>(9, open().judge(frame(9, &produce)));
    assert_eq!(said.responses[0].partition_responses[0].error_code, denied);
    // No answer is expected to it: one would be taken for the next.
    assert!(matches!(open().judge(frame(9, &produce.with_acks(0))), Verdict::Close(_)));

    let create = CreateTopicsRequest::default()
        .with_topics(vec![create_topics_request::CreatableTopic::default().with_name(topic("t"))]);
    assert_eq!(answer::<CreateTopicsRequest>(7, open().judge(frame(7, &create))).topics[0].error_code, denied);
    let delete = DeleteTopicsRequest::default().with_topic_names(vec![topic("t")]);
    assert_eq!(answer::<DeleteTopicsRequest>(5, open().judge(frame(5, &delete))).responses[0].error_code, denied);
    let join = answer::<JoinGroupRequest>(7, open().judge(frame(7, &JoinGroupRequest::default())));
    assert_eq!(join.error_code, ResponseError::GroupAuthorizationFailed.code());
    for version in [0, 1] {
        let sasl = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str("PLAIN"));
        let said = answer::<SaslHandshakeRequest>(version, open().judge(frame(version, &sasl)));
        assert_eq!(said.error_code, ResponseError::IllegalSaslState.code());
    }
    let sasl = answer::<SaslAuthenticateRequest>(2, open().judge(frame(2, &SaslAuthenticateRequest::default())));
    assert_eq!(sasl.error_code, ResponseError::IllegalSaslState.code());
    assert!(matches!(open().judge(frame(2, &DeleteGroupsRequest::default())), Verdict::Close(_)));
}

/// One result for each thing asked for, in every version that the codec has: a client matches them by place or by name.
#[test]
fn admin_requests_are_answered_in_every_version() {
    fn check<M: Request>(request: &M, error: ResponseError, errors: impl Fn(M::Response) -> Vec<i16>) {
        let (min, max) = supported_versions::<M>().expect("versions");
        for version in min..=max {
            let said = answer::<M>(version, open().judge(frame(version, request)));
            assert_eq!(errors(said), [error.code(); 2], "{} version {version}", M::KEY);
        }
    }
    let name = StrBytes::from_static_str("t");
    let (topics, cluster) = (ResponseError::TopicAuthorizationFailed, ResponseError::ClusterAuthorizationFailed);

    let asked = create_partitions_request::CreatePartitionsTopic::default().with_name(topic("t"));
    let asked = CreatePartitionsRequest::default().with_topics(vec![asked; 2]);
    check(&asked, topics, |said| said.results.iter().map(|r| r.error_code).collect());

    let partition = delete_records_request::DeleteRecordsPartition::default().with_partition_index(3);
    let asked = delete_records_request::DeleteRecordsTopic::default().with_name(topic("t"));
    let asked = DeleteRecordsRequest::default().with_topics(vec![asked.with_partitions(vec![partition; 2])]);
    check(&asked, topics, |said| {
        assert_eq!((said.topics.len(), said.topics[0].name.as_str()), (1, "t"));
        said.topics[0].partitions.iter().filter(|p| p.partition_index == 3).map(|p| p.error_code).collect()
    });

    let asked = alter_configs_request::AlterConfigsResource::default().with_resource_name(name.clone());
    let asked = AlterConfigsRequest::default().with_resources(vec![asked; 2]);
    check(&asked, cluster, |said| said.responses.iter().map(|r| r.error_code).collect());
    let asked = incremental_alter_configs_request::AlterConfigsResource::default().with_resource_name(name);
    let asked = IncrementalAlterConfigsRequest::default().with_resources(vec![asked; 2]);
    check(&asked, cluster, |said| said.responses.iter().map(|r| r.error_code).collect());

    let asked = CreateAclsRequest::default().with_creations(vec![create_acls_request::AclCreation::default(); 2]);
    check(&asked, cluster, |said| said.results.iter().map(|r| r.error_code).collect());
    let asked = DeleteAclsRequest::default().with_filters(vec![delete_acls_request::DeleteAclsFilter::default(); 2]);
    check(&asked, cluster, |said| said.filter_results.iter().map(|r| r.error_code).collect());
}

#[test]
fn newer_api_versions_are_told_what_is_spoken() {
    let Verdict::Answer(frame, _) = open().judge(raw(ApiKey::ApiVersions as i16, 9, &[0])) else { panic!() };
    let (_, body) = split_response(ApiKey::ApiVersions as i16, 0, frame.slice(4..)).unwrap();
    let answer = decode_response::<ApiVersionsRequest>(0, body).unwrap();
    assert_eq!(answer.error_code, ResponseError::UnsupportedVersion.code());
    assert_eq!(answer.api_keys.len(), 1);
}

#[test]
fn api_versions_offers_what_passes() {
    let api = |key: i16, min, max| {
        api_versions_response::ApiVersion::default().with_api_key(key).with_min_version(min).with_max_version(max)
    };
    let broker = ApiVersionsResponse::default().with_api_keys(vec![
        api(ApiKey::Produce as i16, 0, 12),
        api(ApiKey::Fetch as i16, 4, 99),
        api(ApiKey::Metadata as i16, 0, 3),
        api(999, 0, 1),
    ]);
    let verdict = open().judge(frame(3, &ApiVersionsRequest::default()));
    let offered = rewritten::<ApiVersionsRequest>(verdict, 3, &broker);
    let (_, newest) = versions(ApiKey::Fetch).unwrap();
    assert_eq!(offered.api_keys, [api(ApiKey::Fetch as i16, 4, newest)]);
}

#[test]
fn a_site_policy_hides_topics_in_lists() {
    let (guard, _) = site();
    let entry =
        |name, id| MetadataResponseTopic::default().with_name(Some(topic(name))).with_topic_id(Uuid::from_u128(id));
    let all =
        MetadataResponse::default().with_topics(vec![entry("orders.eu", 1), entry("orders.secret", 2), entry("hr", 3)]);
    let listed =
        rewritten::<MetadataRequest>(guard.judge(frame(12, &MetadataRequest::default().with_topics(None))), 12, &all);
    assert_eq!(listed.topics, [entry("orders.eu", 1)]);

    let name = |n| MetadataRequestTopic::default().with_name(Some(topic(n)));
    let asked =
        MetadataRequest::default().with_topics(Some(vec![name("orders.eu"), name("orders.secret"), name("hr")]));
    let named = rewritten::<MetadataRequest>(guard.judge(frame(12, &asked)), 12, &all);
    let errors: Vec<i16> = named.topics.iter().map(|t| t.error_code).collect();
    let denied = ResponseError::TopicAuthorizationFailed.code();
    assert_eq!(errors, [0, denied, denied]);
    assert!(named.topics[1..].iter().all(|t| t.topic_id.is_nil() && t.partitions.is_empty()));

    let group = OffsetFetchResponseGroup::default().with_topics(vec![
        OffsetFetchResponseTopics::default().with_name(topic("orders.eu")),
        OffsetFetchResponseTopics::default().with_name(topic("hr")),
    ]);
    let offsets = OffsetFetchResponse::default().with_groups(vec![group]);
    let asked = OffsetFetchRequest::default();
    let left = rewritten::<OffsetFetchRequest>(guard.judge(frame(9, &asked)), 9, &offsets);
    assert_eq!(left.groups[0].topics.len(), 1);

    let config = |name| {
        describe_configs_response::DescribeConfigsResult::default()
            .with_resource_type(2)
            .with_resource_name(StrBytes::from_static_str(name))
            .with_configs(vec![describe_configs_response::DescribeConfigsResourceResult::default()])
    };
    let configs = DescribeConfigsResponse::default().with_results(vec![config("orders.eu"), config("hr")]);
    let said =
        rewritten::<DescribeConfigsRequest>(guard.judge(frame(4, &DescribeConfigsRequest::default())), 4, &configs);
    assert_eq!((said.results[0].error_code, said.results[0].configs.len()), (0, 1));
    assert_eq!((said.results[1].error_code, said.results[1].configs.len()), (denied, 0));

    let acl = |name| {
        describe_acls_response::DescribeAclsResource::default()
            .with_resource_type(2)
            .with_resource_name(StrBytes::from_static_str(name))
    };
    let acls = DescribeAclsResponse::default().with_resources(vec![acl("orders.eu"), acl("hr")]);
    let said = rewritten::<DescribeAclsRequest>(guard.judge(frame(3, &DescribeAclsRequest::default())), 3, &acls);
    assert_eq!(said.resources, [acl("orders.eu")]);
}

/// Logged and counted by whoever passes the answer on. A list in which something is hidden is no offence.
#[test]
fn a_hidden_topic_that_a_question_names_is_refused_in_its_answer() {
    let (guard, _) = site();
    let hidden = Some(HIDDEN.to_owned());
    let entry = |name, id| MetadataResponseTopic::default().with_name(Some(topic(name))).with_topic_id(id);
    let (eu, hr) = (entry("orders.eu", Uuid::from_u128(1)), entry("hr", Uuid::from_u128(3)));
    let all = MetadataResponse::default().with_topics(vec![eu.clone(), hr.clone()]);
    let one = MetadataResponse::default().with_topics(vec![eu.clone()]);
    let ask = |topics: Option<Vec<MetadataRequestTopic>>, told: &MetadataResponse| {
        let verdict = guard.judge(frame(12, &MetadataRequest::default().with_topics(topics)));
        let (said, refused) = rewritten_and_judged::<MetadataRequest>(verdict, 12, told);
        (said, refused.map(|why| why.reason))
    };
    let name = |name| MetadataRequestTopic::default().with_name(Some(topic(name)));
    let id = |id| MetadataRequestTopic::default().with_name(None).with_topic_id(Uuid::from_u128(id));
    assert_eq!(ask(None, &all).1, None);
    assert_eq!(ask(Some(vec![name("orders.eu")]), &one).1, None);
    let (said, refused) = ask(Some(vec![name("orders.eu"), name("hr")]), &all);
    assert_eq!((refused, said.topics.len()), (hidden.clone(), 2));
    let (said, refused) = ask(Some(vec![id(1), id(3)]), &all);
    assert_eq!((refused, said.topics.first()), (hidden.clone(), Some(&eu)));
    let denied = hr.with_name(None).with_error_code(ResponseError::TopicAuthorizationFailed.code());
    assert_eq!(said.topics.last(), Some(&denied), "who asks by id learns no name");

    let config = describe_configs_response::DescribeConfigsResult::default()
        .with_resource_type(2)
        .with_resource_name(StrBytes::from_static_str("hr"));
    let verdict = guard.judge(frame(4, &DescribeConfigsRequest::default()));
    let configs = DescribeConfigsResponse::default().with_results(vec![config]);
    let (_, refused) = rewritten_and_judged::<DescribeConfigsRequest>(verdict, 4, &configs);
    assert_eq!(refused.map(|why| (why.api, why.reason)), Some((Some(ApiKey::DescribeConfigs), HIDDEN.to_owned())));
}

#[test]
fn a_site_policy_refuses_topics_by_name_and_by_id() {
    let (guard, policy) = site();
    let denied = ResponseError::TopicAuthorizationFailed.code();
    let by_name = |name| FetchTopic::default().with_topic(topic(name)).with_partitions(vec![FetchPartition::default()]);
    let asked = FetchRequest::default().with_topics(vec![by_name("orders.eu"), by_name("hr")]);
    let said = answer::<FetchRequest>(12, guard.judge(frame(12, &asked)));
    assert_eq!(said.responses.len(), 1, "nothing is said about the other topic");
    assert_eq!(said.responses[0].topic, topic("hr"));
    assert_eq!(said.responses[0].partitions[0].error_code, denied);
    let asked = FetchRequest::default().with_topics(vec![by_name("orders.eu")]);
    assert!(matches!(guard.judge(frame(12, &asked)), Verdict::Pass(_, Treatment::Fetch { version: 12 })));

    let by_id =
        |id| FetchTopic::default().with_topic_id(Uuid::from_u128(id)).with_partitions(vec![FetchPartition::default()]);
    let asked = FetchRequest::default().with_topics(vec![by_id(1)]);
    let unknown = answer::<FetchRequest>(16, guard.judge(frame(16, &asked)));
    assert_eq!(unknown.responses[0].partitions[0].error_code, ResponseError::UnknownTopicId.code());
    assert!(policy.learn("orders.eu", Uuid::from_u128(1)));
    assert!(!policy.learn("hr", Uuid::from_u128(3)));
    assert!(matches!(guard.judge(frame(16, &asked)), Verdict::Pass(_, Treatment::Fetch { version: 16 })));
    let asked = FetchRequest::default().with_topics(vec![by_id(1), by_id(3)]);
    let said = answer::<FetchRequest>(16, guard.judge(frame(16, &asked)));
    assert_eq!(said.responses.len(), 1);
    assert_eq!(said.responses[0].topic_id, Uuid::from_u128(3));
    assert_eq!(said.responses[0].partitions[0].error_code, denied);
}

#[test]
fn only_sessions_of_the_channel_are_continued_with_and_without_a_policy() {
    for guard in [open(), site().0] {
        let (min, max) = versions(ApiKey::Fetch).unwrap();
        // Version 7 is the first with sessions.
        for version in min.max(7)..=max {
            let id = 1000 + i32::from(version);
            for epoch in [-1, 0, 1, i32::MAX] {
                let asked = FetchRequest::default().with_session_id(id).with_session_epoch(epoch);
                let said = answer::<FetchRequest>(version, guard.judge(frame(version, &asked)));
                assert_eq!(said.error_code, ResponseError::FetchSessionIdNotFound.code());
                assert_eq!((said.session_id, said.responses.len()), (0, 0));
            }
            let given = FetchResponse::default().with_session_id(id);
            let given = encode_response::<FetchRequest>(version, 77, &given).unwrap();
            guard.sessions().learn(version, &given);
            for epoch in [-1, 0, 1, i32::MAX] {
                let asked = FetchRequest::default().with_session_id(id).with_session_epoch(epoch);
                assert!(matches!(guard.judge(frame(version, &asked)), Verdict::Pass(..)));
            }
        }
    }
}

#[test]
fn a_large_request_that_is_refused_closes_but_a_large_fetch_is_answered() {
    let (guard, _) = site();
    let group = StrBytes::from_string("g".repeat(20_000));
    let join = |protocols: usize| {
        let protocol = join_group_request::JoinGroupRequestProtocol::default().with_name(group.clone());
        JoinGroupRequest::default().with_protocols(vec![protocol; protocols])
    };
    assert!(matches!(guard.judge(frame(5, &join(3))), Verdict::Answer(..)));
    let Verdict::Close(why) = guard.judge(frame(5, &join(4))) else { panic!("answered") };
    assert_eq!(why.api(), "JoinGroup");
    assert!(why.reason.contains("is not answered"), "{why:?}");

    let hidden = |name| {
        ListOffsetsTopic::default().with_name(topic(name)).with_partitions(vec![ListOffsetsPartition::default(); 6000])
    };
    let asked = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![hidden("hr")]);
    assert!(matches!(guard.judge(frame(7, &asked)), Verdict::Close(_)));
    let hidden = FetchTopic::default().with_topic(topic("hr")).with_partitions(vec![FetchPartition::default(); 6000]);
    let asked = FetchRequest::default().with_topics(vec![hidden]);
    assert!(matches!(guard.judge(frame(12, &asked)), Verdict::Answer(..)));
}

#[test]
fn questions_about_offsets_go_on_without_the_topics_that_are_hidden() {
    let (guard, _) = site();
    let denied = ResponseError::TopicAuthorizationFailed.code();
    let list = |name| {
        ListOffsetsTopic::default().with_name(topic(name)).with_partitions(vec![ListOffsetsPartition::default()])
    };
    let list_all = |topics: &[_]| {
        ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(topics.to_vec()).with_timeout_ms(9)
    };
    let epoch = |name| {
        OffsetForLeaderTopic::default()
            .with_topic(topic(name))
            .with_partitions(vec![OffsetForLeaderPartition::default()])
    };
    let epochs_all =
        |topics: &[_]| OffsetForLeaderEpochRequest::default().with_replica_id((-1).into()).with_topics(topics.to_vec());

    let (min, max) = versions(ApiKey::ListOffsets).unwrap();
    for version in min..=max {
        let mut mixed = list_all(&[list("hr"), list("orders.eu"), list("orders.secret")]);
        mixed.timeout_ms = if version < 10 { 0 } else { 9 };
        let verdict = guard.judge(frame(version, &mixed));
        let Verdict::PassPart(passed, _, why) = &verdict else { panic!("{verdict:?}") };
        assert_eq!((why.api, why.api().as_str()), (Some(ApiKey::ListOffsets), "ListOffsets"));
        let passed = RequestFrame::parse(passed.slice(4..)).unwrap();
        assert_eq!((passed.correlation_id, passed.client_id.as_deref()), (77, Some("c")));
        assert_eq!(passed.decode::<ListOffsetsRequest>().unwrap(), mixed.clone().with_topics(vec![list("orders.eu")]));
        let partition = list_offsets_response::ListOffsetsPartitionResponse::default().with_offset(5);
        let told = list_offsets_response::ListOffsetsTopicResponse::default()
            .with_name(topic("orders.eu"))
            .with_partitions(vec![partition]);
        let told = ListOffsetsResponse::default().with_topics(vec![told]);
        let said = rewritten::<ListOffsetsRequest>(verdict, version, &told).topics;
        let said: Vec<_> = said.iter().map(|t| (t.name.as_str(), t.partitions[0].error_code)).collect();
        assert_eq!(said, [("orders.eu", 0), ("hr", denied), ("orders.secret", denied)]);
    }
    assert!(matches!(guard.judge(frame(7, &list_all(&[list("orders.eu")]).with_timeout_ms(0))), Verdict::Pass(..)));
    let alone = list_all(&[list("hr")]).with_timeout_ms(0);
    let said = answer::<ListOffsetsRequest>(7, guard.judge(frame(7, &alone)));
    assert_eq!(said.topics[0].partitions[0].error_code, denied);

    let (min, max) = versions(ApiKey::OffsetForLeaderEpoch).unwrap();
    for version in min..=max {
        let verdict = guard.judge(frame(version, &epochs_all(&[epoch("hr"), epoch("orders.eu")])));
        let Verdict::PassPart(passed, ..) = &verdict else { panic!("{verdict:?}") };
        let passed = RequestFrame::parse(passed.slice(4..)).unwrap().decode::<OffsetForLeaderEpochRequest>().unwrap();
        assert_eq!(passed.topics, [epoch("orders.eu")]);
        let end = offset_for_leader_epoch_response::EpochEndOffset::default().with_end_offset(5);
        let told = offset_for_leader_epoch_response::OffsetForLeaderTopicResult::default()
            .with_topic(topic("orders.eu"))
            .with_partitions(vec![end]);
        let told = OffsetForLeaderEpochResponse::default().with_topics(vec![told]);
        let said = rewritten::<OffsetForLeaderEpochRequest>(verdict, version, &told).topics;
        let said: Vec<_> = said.iter().map(|t| (t.topic.as_str(), t.partitions[0].error_code)).collect();
        assert_eq!(said, [("orders.eu", 0), ("hr", denied)]);
    }
    let said = answer::<OffsetForLeaderEpochRequest>(4, guard.judge(frame(4, &epochs_all(&[epoch("hr")]))));
    assert_eq!(said.topics[0].partitions[0].error_code, denied);
}

#[test]
fn random_requests_never_panic() {
    let (guard, _) = site();
    let mut state = 1_u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32
    };
    for _ in 0..20_000 {
        let key = i16::try_from(random() % 100).unwrap();
        let version = i16::try_from(random() % 20).unwrap();
        let body: Vec<u8> = (0..random() % 60).map(|_| (random() % 7) as u8).collect();
        if let Ok(frame) = encode_raw_request(key, version, 1, "c", &body) {
            let _ = guard.judge(frame.slice(4..));
        }
    }
}
