//! Bar 5: what the source site keeps to itself.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use hawser_testkit::daemon::{DaemonSpec, LINK_LOGIN, LINK_PASSWORD, OPERATOR_PASSWORD};
use hawser_testkit::faults::Relay;
use hawser_testkit::kafka::{Kafka, Security};
use hawser_testkit::link_peers::{HostileChannel, HostileDestination};
use hawser_tests::{LINK, Pair, SOURCE_LOGIN, SOURCE_PASSWORD};
use hawser_wire::messages::create_acls_request::AclCreation;
use hawser_wire::messages::create_topics_request::CreatableTopic;
use hawser_wire::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use hawser_wire::messages::describe_configs_request::DescribeConfigsResource;
use hawser_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use hawser_wire::messages::incremental_alter_configs_request::AlterConfigsResource;
use hawser_wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use hawser_wire::messages::metadata_request::MetadataRequestTopic;
use hawser_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use hawser_wire::messages::{
    CreateAclsRequest, CreateTopicsRequest, DeleteGroupsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
    DescribeConfigsRequest, FetchRequest, IncrementalAlterConfigsRequest, ListOffsetsRequest, MetadataRequest,
    ProduceRequest,
};
use hawser_wire::{ResponseError, StrBytes};
use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

fn contains(bytes: &[u8], word: &str) -> bool {
    bytes.windows(word.len()).any(|w| w == word.as_bytes())
}

/// Without TLS on the link, so that the bytes can be read; with every log line that there is.
#[test]
#[ignore = "needs stock Kafka: cargo xtask kafka"]
fn the_sources_login_never_crosses_and_no_secret_is_told() -> Result<()> {
    let kafka = Kafka::one_node().security(Security::ScramPlaintext).start()?;
    let mut pair = Pair::unlinked(
        kafka,
        |source| source.env("RUST_LOG", "trace"),
        |destination, _| Ok(destination.plain_tcp().env("RUST_LOG", "trace")),
    )?;
    let relay = Relay::start(SocketAddr::from((Ipv4Addr::LOCALHOST, pair.destination.port())))?;
    relay.start_capture();
    pair.link_through(&format!("localhost:{}", relay.port()))?;
    pair.origin.create_topic("orders", 1, 1, &[])?;
    pair.origin.send("orders", 0, 100, 50, "none")?;
    pair.create_mirrors(&["orders"])?;
    pair.await_caught_up(&["orders"], LIMIT)?;
    pair.destination.run(&["verify", "--link", LINK])?;

    let captured = relay.captured();
    // What must be there, so that its absence would be noticed: records, and the login at the destination.
    ensure!(contains(&captured, "        42"), "no records among {} captured bytes", captured.len());
    ensure!(contains(&captured, LINK_LOGIN), "no login among {} captured bytes", captured.len());
    for secret in [SOURCE_PASSWORD, SOURCE_LOGIN, "SCRAM-SHA-512", ",i=8192", "n,,n="] {
        ensure!(!contains(&captured, secret), "the link carried {secret:?}");
    }
    let told = [
        ("log of the source half", pair.source.log()),
        ("log of the destination", pair.destination.log()),
        ("metrics of the source half", pair.source.metrics()?),
        ("metrics of the destination", pair.destination.metrics()?),
        ("link describe at the source", pair.source.run(&["link", "describe", LINK, "--output", "json"])?),
        ("link describe at the destination", pair.destination.run(&["link", "describe", LINK, "--output", "json"])?),
    ];
    for (place, text) in &told {
        for secret in [SOURCE_PASSWORD, LINK_PASSWORD, OPERATOR_PASSWORD] {
            ensure!(!text.contains(secret), "{place} tells {secret:?}");
        }
    }
    Ok(())
}

/// What whoever makes links lets out, the daemon's own file narrows; a link's filters narrow it further.
#[test]
#[ignore = "needs stock Kafka: cargo xtask kafka"]
fn a_destination_gets_nothing_but_reads_of_topics_that_may_leave() -> Result<()> {
    let kafka = Kafka::one_node().security(Security::ScramPlaintext).start()?;
    let site = |source: DaemonSpec| source.property("hawser.egress.topics.filters", &included("public-", "PREFIXED"));
    let mut pair = Pair::unlinked(kafka, site, |d, _| Ok(d))?;
    for topic in ["public-prices", "public-drafts", "salaries"] {
        pair.origin.create_topic(topic, 1, 1, &[])?;
        pair.origin.send(topic, 0, 10, 100, "none")?;
    }
    let everything = format!("hawser.egress.topics.filters={}\n", included("*", "LITERAL"));
    pair.link_with(&pair.destination.bootstrap(), &everything)?;
    pair.create_mirrors(&["public-prices"])?;
    pair.await_caught_up(&["public-prices"], LIMIT)?;
    // A destination that keeps to the rules does not even learn of the other one.
    let refused = pair.destination.command(&["mirror", "create", "salaries", "--link", LINK])?;
    ensure!(refused.code == 1, "a mirror of a topic that may not leave: {refused:?}");
    ensure!(!pair.destination.data_dir().join("salaries-0").exists(), "something of it is there");

    // One that does not, on a link which lets out one topic.
    let hostile = HostileDestination::start("AAAAAAAAAAAAAAAAAAAAAA")?;
    let half = pair.source_half(&format!("localhost:{}", hostile.port()));
    let half = half.replacen("security.protocol=SASL_SSL", "security.protocol=PLAINTEXT", 1);
    let file = pair.folder().join("hostile.config");
    fs::write(&file, format!("{half}hawser.egress.topics.filters={}\n", included("public-prices", "LITERAL")))?;
    let words = ["link", "create", "hostile", "--destination-cluster", "AAAAAAAAAAAAAAAAAAAAAA", "--config-file"];
    pair.source.run(&[&words[..], &[&file.display().to_string()]].concat())?;
    let before = pair.origin.ends(&["public-prices", "public-drafts", "salaries"])?;
    let mut refusals = BTreeMap::new();
    let mut channel = hostile.channel(1)?;
    reads_what_may_leave(&mut channel)?;
    asks_for_hidden_topics(&mut channel, &mut refusals)?;
    asks_to_write(&mut channel, &mut refusals)?;
    // Where Kafka has no answer that says it, the channel ends. The next one is as good.
    let deleted = channel.ask(2, &DeleteGroupsRequest::default().with_groups_names(vec![text("g").into()]))?;
    ensure!(deleted.is_none(), "DeleteGroups is answered: {deleted:?}");
    refusals.insert("DeleteGroups", 1);
    reads_what_may_leave(&mut hostile.channel(1)?)?;

    let after = pair.origin.ends(&["public-prices", "public-drafts", "salaries"])?;
    ensure!(after == before, "the source's topics changed: {before:?}, {after:?}");
    ensure!(pair.origin.describe(&["made-from-afar"]).is_err(), "a topic was made from afar");
    let (log, metrics) = (pair.source.log(), pair.source.metrics()?);
    for (api, count) in refusals {
        let logged = log.lines().any(|l| l.contains("request of the destination refused") && l.contains(api));
        ensure!(logged, "the refusal of {api} is not logged:\n{log}");
        let counted = metrics.lines().find(|line| {
            let labels = [r#"link="hostile""#, &format!("api=\"{api}\"")];
            line.starts_with("hawser_outbound_refused_requests_total{") && labels.iter().all(|l| line.contains(l))
        });
        let counted = counted.and_then(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
        ensure!(counted == Some(count), "{api} was refused {count} times, counted {counted:?}:\n{metrics}");
    }
    Ok(())
}

/// That the requests which are refused would otherwise have reached a broker.
fn reads_what_may_leave(channel: &mut HostileChannel) -> Result<()> {
    let all = channel.ask(12, &MetadataRequest::default().with_topics(None))?.context("closed at Metadata")?;
    let named: Vec<_> = all.topics.iter().filter_map(|t| t.name.as_ref()).map(|n| n.as_str()).collect();
    ensure!(named == ["public-prices"], "shown are {named:?}");
    let fetched = channel.ask(12, &fetch("public-prices", -1))?.context("closed at Fetch")?;
    let partition = fetched.responses.first().and_then(|t| t.partitions.first()).context("no partition")?;
    let bytes = partition.records.as_ref().map_or(0, |records| records.len());
    ensure!(partition.error_code == 0 && bytes > 1000, "error {}, {bytes} bytes", partition.error_code);
    Ok(())
}

/// By the daemon's filters, by the link's, and as a replica.
fn asks_for_hidden_topics(channel: &mut HostileChannel, refusals: &mut BTreeMap<&str, u64>) -> Result<()> {
    let denied = ResponseError::TopicAuthorizationFailed.code();
    for (topic, replica) in [("salaries", -1), ("public-drafts", -1), ("public-prices", 2)] {
        let said = channel.ask(12, &fetch(topic, replica))?.context("closed at Fetch")?;
        let partition = said.responses.first().and_then(|t| t.partitions.first()).context("no partition")?;
        let bytes = partition.records.as_ref().map_or(0, |records| records.len());
        ensure!((partition.error_code, bytes) == (denied, 0), "Fetch of {topic} as {replica}: {partition:?}");
        *refusals.entry("Fetch").or_default() += 1;
    }
    for topic in ["salaries", "public-drafts"] {
        let asked = MetadataRequestTopic::default().with_name(Some(text(topic).into()));
        let said = channel.ask(12, &MetadataRequest::default().with_topics(Some(vec![asked])))?;
        let said = said.context("closed at Metadata")?;
        let found = said.topics.first().context("no topic")?;
        ensure!((found.error_code, found.partitions.len()) == (denied, 0), "Metadata of {topic}: {found:?}");
        *refusals.entry("Metadata").or_default() += 1;

        let partition = ListOffsetsPartition::default().with_timestamp(-1);
        let asked = ListOffsetsTopic::default().with_name(text(topic).into()).with_partitions(vec![partition]);
        let asked = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![asked]);
        let said = channel.ask(7, &asked)?.context("closed at ListOffsets")?;
        let found = said.topics.first().and_then(|t| t.partitions.first()).context("no partition")?;
        ensure!((found.error_code, found.offset) == (denied, -1), "ListOffsets of {topic}: {found:?}");
        *refusals.entry("ListOffsets").or_default() += 1;

        let asked = DescribeConfigsResource::default().with_resource_type(2).with_resource_name(text(topic));
        let said = channel.ask(4, &DescribeConfigsRequest::default().with_resources(vec![asked]))?;
        let said = said.context("closed at DescribeConfigs")?;
        let found = said.results.first().context("no result")?;
        ensure!((found.error_code, found.configs.len()) == (denied, 0), "DescribeConfigs of {topic}: {found:?}");
        *refusals.entry("DescribeConfigs").or_default() += 1;
    }
    Ok(())
}

/// Records, topics, settings and rights, each answered with an error of its own API.
fn asks_to_write(channel: &mut HostileChannel, refusals: &mut BTreeMap<&str, u64>) -> Result<()> {
    let prices = || text("public-prices");
    let batch = PartitionProduceData::default().with_records(Some(Bytes::from_static(b"anything")));
    let produce = TopicProduceData::default().with_name(prices().into()).with_partition_data(vec![batch]);
    let produce = ProduceRequest::default().with_acks(-1).with_timeout_ms(1000).with_topic_data(vec![produce]);
    let said = channel.ask(9, &produce)?.context("closed at Produce")?;
    let produced = said.responses.first().and_then(|t| t.partition_responses.first()).map(|p| p.error_code);

    let topic = CreatableTopic::default().with_name(text("made-from-afar").into()).with_num_partitions(1);
    let create =
        CreateTopicsRequest::default().with_timeout_ms(1000).with_topics(vec![topic.with_replication_factor(1)]);
    let created = channel.ask(7, &create)?.context("closed at CreateTopics")?.topics.first().map(|t| t.error_code);

    let delete = DeleteTopicsRequest::default().with_timeout_ms(1000).with_topic_names(vec![prices().into()]);
    let deleted = channel.ask(5, &delete)?.context("closed at DeleteTopics")?.responses.first().map(|t| t.error_code);

    let trim = DeleteRecordsPartition::default().with_offset(5);
    let trim = DeleteRecordsTopic::default().with_name(prices().into()).with_partitions(vec![trim]);
    let said = channel.ask(2, &DeleteRecordsRequest::default().with_timeout_ms(1000).with_topics(vec![trim]))?;
    let said = said.context("closed at DeleteRecords")?;
    let trimmed = said.topics.first().and_then(|t| t.partitions.first()).map(|p| p.error_code);

    let resource = AlterConfigsResource::default().with_resource_type(2).with_resource_name(prices());
    let alter = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let said = channel.ask(1, &alter)?.context("closed at IncrementalAlterConfigs")?;
    let altered = said.responses.first().map(|r| r.error_code);

    let right = AclCreation::default().with_resource_type(2).with_resource_name(prices()).with_operation(3);
    let right = right.with_principal(text("User:ANONYMOUS")).with_host(text("*")).with_permission_type(3);
    let said = channel.ask(3, &CreateAclsRequest::default().with_creations(vec![right]))?;
    let granted = said.context("closed at CreateAcls")?.results.first().map(|r| r.error_code);

    let (topic, cluster) = (ResponseError::TopicAuthorizationFailed, ResponseError::ClusterAuthorizationFailed);
    for (api, said, error) in [
        ("Produce", produced, topic),
        ("CreateTopics", created, topic),
        ("DeleteTopics", deleted, topic),
        ("DeleteRecords", trimmed, topic),
        ("IncrementalAlterConfigs", altered, cluster),
        ("CreateAcls", granted, cluster),
    ] {
        ensure!(said == Some(error.code()), "{api} is answered with {said:?}, not with {error:?}");
        refusals.insert(api, 1);
    }
    Ok(())
}

fn fetch(topic: &'static str, replica: i32) -> FetchRequest {
    let partition = FetchPartition::default().with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(text(topic).into()).with_partitions(vec![partition]);
    FetchRequest::default()
        .with_replica_id(replica.into())
        .with_max_wait_ms(100)
        .with_max_bytes(1 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

fn included(name: &str, how: &str) -> String {
    format!(r#"{{"topicFilters":[{{"name":"{name}","patternType":"{how}","filterType":"INCLUDE"}}]}}"#)
}
