//! The table against the codec, message by message; and what the guard must refuse.

use super::every_api::for_every_api;
use super::sample::{Fill, Sample};
use super::schema::{self, Kind, Message, Struct};
use super::{MEMORY_FLOOR_BYTES, MEMORY_PER_BYTE};
use crate::api::{Error, decode_request, decode_response, supported_versions};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, Message as _, Request};
use proptest::prelude::*;

/// Every version of every message, requests and responses.
fn every_message() -> Vec<(i16, &'static Message)> {
    let mut all = Vec::new();
    macro_rules! push {
        ($request:ident) => {
            let (min, max) = supported_versions::<$request>().unwrap();
            for message in [schema::request($request::KEY).unwrap(), schema::response($request::KEY).unwrap()] {
                all.extend((min..=max).map(|version| (version, message)));
            }
        };
    }
    for_every_api!(push);
    all
}

/// Accepted by the guard, decoded to the last byte, and encoded to the same bytes again.
fn round_trip<D: Decodable + Encodable>(message: &Message, version: i16, bytes: &[u8]) {
    let context = || format!("{} v{version}: {bytes:02x?}", message.name);
    message.check(version, bytes).unwrap_or_else(|refusal| panic!("{}: {refusal:?}", context()));
    let mut rest = Bytes::copy_from_slice(bytes);
    let decoded = D::decode(&mut rest, version).unwrap_or_else(|error| panic!("{}: {error}", context()));
    assert!(rest.is_empty(), "{}: {} bytes left", context(), rest.len());
    let mut again = BytesMut::new();
    decoded.encode(&mut again, version).unwrap_or_else(|error| panic!("{}: {error}", context()));
    assert_eq!(again, bytes, "{}", context());
}

#[test]
fn schema_and_codec_agree_on_every_field_of_every_version() {
    let mut messages = 0;
    macro_rules! check {
        ($request:ident) => {
            type Answer = <$request as Request>::Response;
            let key = $request::KEY;
            let (min, max) = supported_versions::<$request>().unwrap();
            assert_eq!((min, max), ($request::VERSIONS.min, $request::VERSIONS.max), "{}", stringify!($request));
            for version in min..=max {
                for fill in [Fill::Least, Fill::Most] {
                    let request = schema::request(key).unwrap();
                    round_trip::<$request>(request, version, &Sample::of(request, version, fill).bytes);
                    let response = schema::response(key).unwrap();
                    round_trip::<Answer>(response, version, &Sample::of(response, version, fill).bytes);
                    messages += 2;
                }
                // What the codec itself writes.
                let mut bytes = BytesMut::new();
                if $request::default().encode(&mut bytes, version).is_ok() {
                    decode_request::<$request>(version, bytes.split().freeze()).unwrap();
                    messages += 1;
                }
                bytes.clear();
                if Answer::default().encode(&mut bytes, version).is_ok() {
                    decode_response::<$request>(version, bytes.split().freeze()).unwrap();
                    messages += 1;
                }
            }
        };
    }
    macro_rules! check_in_block {
        ($request:ident) => {{
            check!($request);
        }};
    }
    for_every_api!(check_in_block);
    assert!(messages > 1_500, "only {messages} messages");
}

#[test]
fn every_truncation_is_refused() {
    for (version, message) in every_message() {
        for fill in [Fill::Least, Fill::Most] {
            let bytes = Sample::of(message, version, fill).bytes;
            for end in 0..bytes.len() {
                assert!(message.check(version, &bytes[..end]).is_err(), "{} v{version} cut at {end}", message.name);
            }
        }
    }
}

#[test]
fn trailing_bytes_are_refused_or_measured() {
    for (version, message) in every_message() {
        let mut bytes = Sample::of(message, version, Fill::Most).bytes;
        let length = bytes.len();
        bytes.push(0);
        assert_eq!(message.check(version, &bytes).unwrap_err().reason, "trailing bytes");
        assert_eq!(message.measure(version, &bytes).unwrap(), length);
    }
}

#[test]
fn every_length_is_checked_against_the_bytes_left() {
    for (version, message) in every_message() {
        let sample = Sample::of(message, version, Fill::Most);
        for &length in &sample.lengths {
            let lies: &[&[u8]] = match length.bytes {
                4 => &[&[0x7f, 0xff, 0xff, 0xff], &[0x80, 0, 0, 0], &[0xff, 0xff, 0xff, 0xfe]],
                2 if version < message.flexible_from => &[&[0x7f, 0xff], &[0x80, 0], &[0xff, 0xfe]],
                _ => &[&[0xff, 0xff, 0xff, 0xff, 0x0f], &[0xff, 0xff, 0xff, 0xff, 0x07], &[0xff; 5], &[0xff; 12]],
            };
            for lie in lies {
                let bytes = sample.with_length(length, lie);
                assert!(
                    message.check(version, &bytes).is_err(),
                    "{} v{version} {lie:02x?} at {}",
                    message.name,
                    length.at
                );
            }
        }
    }
}

#[test]
fn errors_name_message_field_and_place() {
    // Metadata v1: an array of topics, the first of them null, which only v10 allows.
    let body = Bytes::from_static(&[0, 0, 0, 1, 0xff, 0xff]);
    let error = decode_request::<MetadataRequest>(1, body).unwrap_err();
    assert_eq!(error.to_string(), "MetadataRequest.Topics.Name at byte 6: null is not allowed here");
}

#[test]
fn a_metadata_frame_of_20_bytes_does_not_abort_the_process() {
    for count in [[0x7f, 0xff, 0xff, 0xff], [0x0f, 0xff, 0xff, 0xff], [0, 0, 0xff, 0xff]] {
        let mut frame = vec![0, 3, 0, 1, 0, 0, 0, 7, 0, 6];
        frame.extend(b"client");
        frame.extend(count);
        assert_eq!(frame.len(), 20);
        let error = crate::RequestFrame::parse(frame.into()).unwrap().decode::<MetadataRequest>().unwrap_err();
        assert!(error.to_string().contains("count exceeds the bytes left"), "{error}");
    }
}

#[test]
fn memory_is_bounded_by_the_bytes_given() {
    // 512 KiB of empty topic names: two bytes each on the wire, 72 and more decoded.
    let names = 256 * 1024;
    let mut body = i32::try_from(names).unwrap().to_be_bytes().to_vec();
    body.extend(vec![0; names * 2]);
    let error = decode_request::<MetadataRequest>(1, body.into()).unwrap_err();
    assert!(error.to_string().contains("too large for its bytes"), "{error}");
}

#[test]
fn real_sizes_stay_far_below_the_memory_bound() {
    // A metadata answer of 10,000 partitions with three replicas, as brokers send it.
    let partition = metadata_response::MetadataResponsePartition::default()
        .with_replica_nodes(vec![BrokerId(1), BrokerId(2), BrokerId(3)])
        .with_isr_nodes(vec![BrokerId(1), BrokerId(2), BrokerId(3)]);
    let topic = metadata_response::MetadataResponseTopic::default()
        .with_name(Some(TopicName(crate::StrBytes::from_static_str("t"))))
        .with_partitions(vec![partition; 10_000]);
    let answer = MetadataResponse::default().with_topics(vec![topic]);
    let mut bytes = BytesMut::new();
    answer.encode(&mut bytes, 12).unwrap();
    let decoded = decode_response::<MetadataRequest>(12, bytes.freeze()).unwrap();
    assert_eq!(decoded, answer);
    // A list of 10,000 groups with short names.
    let group = list_groups_response::ListedGroup::default()
        .with_group_id(GroupId(crate::StrBytes::from_static_str("g-12")))
        .with_protocol_type(crate::StrBytes::from_static_str("consumer"))
        .with_group_state(crate::StrBytes::from_static_str("Empty"));
    let answer = ListGroupsResponse::default().with_groups(vec![group; 10_000]);
    let mut bytes = BytesMut::new();
    answer.encode(&mut bytes, 4).unwrap();
    decode_response::<ListGroupsRequest>(4, bytes.freeze()).unwrap();
}

#[test]
fn the_table_never_underestimates_a_struct() {
    macro_rules! assert_covers {
        ($($message:expr, $($field:literal).* => $type:ty;)*) => {$(
            let stated = inner(&$message.body, &[$($field),*]).memory_bytes;
            assert!(stated >= size_of::<$type>(), "{}: {stated} < {}", stringify!($type), size_of::<$type>());
        )*};
    }
    let request = |key: ApiKey| schema::request(key as i16).unwrap();
    let response = |key: ApiKey| schema::response(key as i16).unwrap();
    assert_covers! {
        request(ApiKey::Produce), "TopicData"."PartitionData" => produce_request::PartitionProduceData;
        request(ApiKey::Fetch), "Topics" => fetch_request::FetchTopic;
        request(ApiKey::Fetch), "Topics"."Partitions" => fetch_request::FetchPartition;
        request(ApiKey::Metadata), "Topics" => metadata_request::MetadataRequestTopic;
        request(ApiKey::OffsetCommit), "Topics"."Partitions" => offset_commit_request::OffsetCommitRequestPartition;
        request(ApiKey::OffsetFetch), "Groups" => offset_fetch_request::OffsetFetchRequestGroup;
        request(ApiKey::JoinGroup), "Protocols" => join_group_request::JoinGroupRequestProtocol;
        request(ApiKey::CreateTopics), "Topics" => create_topics_request::CreatableTopic;
        request(ApiKey::CreateAcls), "Creations" => create_acls_request::AclCreation;
        request(ApiKey::ListOffsets), "Topics"."Partitions" => list_offsets_request::ListOffsetsPartition;
        request(ApiKey::DescribeTopicPartitions), "Cursor" => describe_topic_partitions_request::Cursor;
        response(ApiKey::Fetch), "Responses" => fetch_response::FetchableTopicResponse;
        response(ApiKey::Fetch), "Responses"."Partitions" => fetch_response::PartitionData;
        response(ApiKey::Metadata), "Brokers" => metadata_response::MetadataResponseBroker;
        response(ApiKey::Metadata), "Topics" => metadata_response::MetadataResponseTopic;
        response(ApiKey::Metadata), "Topics"."Partitions" => metadata_response::MetadataResponsePartition;
        response(ApiKey::DescribeConfigs), "Results"."Configs" => describe_configs_response::DescribeConfigsResourceResult;
        response(ApiKey::DescribeGroups), "Groups"."Members" => describe_groups_response::DescribedGroupMember;
        response(ApiKey::ApiVersions), "ApiKeys" => api_versions_response::ApiVersion;
        response(ApiKey::ConsumerGroupDescribe), "Groups"."Members" => consumer_group_describe_response::Member;
    }
}

#[test]
fn no_element_is_empty_on_the_wire() {
    // `elements` rests on it: a count above the bytes left can be refused without walking.
    fn arrays(record: &Struct, version: i16, flexible: bool, name: &str) {
        for field in record.fields.iter().filter(|field| field.versions.contains(version)) {
            let mut kind = &field.kind;
            while let Kind::Array(element) = kind {
                kind = element;
                if let Kind::Struct(record) = kind {
                    let filled = record
                        .fields
                        .iter()
                        .any(|field| field.versions.contains(version) && !field.tagged.contains(version));
                    assert!(filled || flexible, "{name}.{} v{version} may be empty", field.name);
                }
            }
            if let Kind::Struct(record) = kind {
                arrays(record, version, flexible, name);
            }
        }
    }
    for (version, message) in every_message() {
        arrays(&message.body, version, version >= message.flexible_from, message.name);
    }
}

#[test]
fn versions_out_of_range_are_unsupported() {
    for version in [i16::MIN, -1, 14, i16::MAX] {
        let error = decode_request::<MetadataRequest>(version, Bytes::new()).unwrap_err();
        assert!(matches!(error, Error::Unsupported { key: 3, .. }), "{error}");
    }
}

#[test]
fn many_unknown_tags_are_charged() {
    // ApiVersions v4 with 60,000 unknown tags of two bytes each.
    let mut body = vec![1, 1, 0xe0, 0xd4, 0x03];
    for tag in 0..60_000_u32 {
        let low = u8::try_from(tag & 0x7f).unwrap();
        let high = u8::try_from((tag >> 7) & 0x7f).unwrap();
        body.extend([low | 0x80, high, 0]);
    }
    let error = decode_request::<ApiVersionsRequest>(4, body.into()).unwrap_err();
    assert!(error.to_string().contains("too large for its bytes"), "{error}");
}

fn inner(record: &'static Struct, path: &[&str]) -> &'static Struct {
    let [name, rest @ ..] = path else { return record };
    let field = record.fields.iter().find(|field| field.name == *name).unwrap();
    let mut kind = &field.kind;
    while let Kind::Array(element) = kind {
        kind = element;
    }
    let Kind::Struct(record) = kind else { panic!("{name} is no struct") };
    inner(record, rest)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the guard accepts, the codec decodes to the end: it never refuses after the guard.
    #[test]
    fn what_the_guard_accepts_the_codec_decodes(
        which in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        answer in any::<bool>(),
    ) {
        macro_rules! accepted {
            ($request:ident) => {{
                let key = $request::KEY;
                let (min, max) = supported_versions::<$request>().unwrap();
                let versions = usize::try_from(max - min + 1).unwrap();
                let version = min + i16::try_from(which.index(versions)).unwrap();
                let schema = if answer { schema::response(key) } else { schema::request(key) }.unwrap();
                let mut bytes = Sample::of(schema, version, Fill::Most).bytes;
                for (at, byte) in &edits {
                    if !bytes.is_empty() {
                        let at = at.index(bytes.len());
                        bytes[at] = *byte;
                    }
                }
                let accepted = match answer {
                    true => schema.check(version, &bytes).is_ok(),
                    false => schema.measure(version, &bytes).is_ok(),
                };
                let body = Bytes::from(bytes);
                let decoded = if answer {
                    decode_response::<$request>(version, body).is_ok()
                } else {
                    decode_request::<$request>(version, body).is_ok()
                };
                prop_assert_eq!(accepted, decoded, "{} v{}", schema.name, version);
            }};
        }
        for_every_api!(accepted);
    }
}

#[test]
fn the_bound_is_what_the_docs_say() {
    assert_eq!((MEMORY_PER_BYTE, MEMORY_FLOOR_BYTES), (16, 65_536));
}
