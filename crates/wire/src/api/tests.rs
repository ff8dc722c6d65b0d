use super::*;
use kafka_protocol::messages::*;

fn unprefixed(mut frame: Bytes) -> Bytes {
    let prefix = frame.split_to(crate::frame::PREFIX_BYTES);
    assert_eq!(usize::try_from(i32::from_be_bytes(*prefix.first_chunk().unwrap())).unwrap(), frame.len());
    frame
}

#[test]
fn requests_round_trip_in_every_version() {
    let (min, max) = supported_versions::<MetadataRequest>().unwrap();
    for version in min..=max {
        let asked = MetadataRequest::default();
        let frame = unprefixed(encode_request(version, 77, "me", &asked).unwrap());
        let request = RequestFrame::parse(frame).unwrap();
        let head = (request.api_key, request.api_version, request.correlation_id, request.client_id.as_deref());
        assert_eq!(head, (3, version, 77, Some("me")));
        assert_eq!(request.decode::<MetadataRequest>().unwrap(), asked);
    }
}

#[test]
fn responses_round_trip_in_every_version() {
    let (min, max) = supported_versions::<HeartbeatRequest>().unwrap();
    for version in min..=max {
        let answer = HeartbeatResponse::default().with_error_code(25);
        let frame = unprefixed(encode_response::<HeartbeatRequest>(version, 9, &answer).unwrap());
        let (correlation_id, body) = split_response(12, version, frame).unwrap();
        assert_eq!(correlation_id, 9);
        assert_eq!(decode_response::<HeartbeatRequest>(version, body).unwrap(), answer);
    }
}

#[test]
fn api_versions_answers_keep_the_old_head() {
    let frame = unprefixed(encode_response::<ApiVersionsRequest>(3, 1, &ApiVersionsResponse::default()).unwrap());
    let (correlation_id, body) = split_response(18, 3, frame.clone()).unwrap();
    assert_eq!((correlation_id, body.len()), (1, frame.len() - 4));
}

#[test]
fn an_api_versions_request_of_the_future_is_understood() {
    let mut frame = unprefixed(encode_request(3, 5, "new", &ApiVersionsRequest::default()).unwrap()).to_vec();
    frame[2..4].copy_from_slice(&99_i16.to_be_bytes());
    frame.extend(b"whatever it holds");
    let request = RequestFrame::parse(frame.into()).unwrap();
    assert_eq!((request.api_key, request.api_version, request.correlation_id), (18, 99, 5));
    assert!(matches!(request.decode::<ApiVersionsRequest>(), Err(Error::Unsupported { key: 18, version: 99 })));
}

#[test]
fn private_requests_carry_a_v1_head() {
    let frame = unprefixed(encode_raw_request(private::LINK_OPEN, 0, 3, "half", b"body").unwrap());
    assert_eq!(frame.len(), 8 + 2 + 4 + 4);
    let request = RequestFrame::parse(frame).unwrap();
    assert_eq!((request.api_key, &request.body[..]), (private::LINK_OPEN, &b"body"[..]));
    let frame = unprefixed(encode_raw_response(private::LINK_OPEN, 0, 3, b"answer").unwrap());
    assert_eq!(split_response(private::LINK_OPEN, 0, frame).unwrap(), (3, Bytes::from_static(b"answer")));
}

#[test]
fn raw_frames_are_the_encoded_ones() {
    let message = HeartbeatRequest::default();
    for version in [0, 4] {
        let whole = encode_request(version, 1, "c", &message).unwrap();
        let body = RequestFrame::parse(unprefixed(whole.clone())).unwrap().body;
        assert_eq!(encode_raw_request(12, version, 1, "c", &body).unwrap(), whole);
        let whole = encode_response::<HeartbeatRequest>(version, 1, &HeartbeatResponse::default()).unwrap();
        let (_, body) = split_response(12, version, unprefixed(whole.clone())).unwrap();
        assert_eq!(encode_raw_response(12, version, 1, &body).unwrap(), whole);
    }
}

#[test]
fn heads_are_refused_when_cut_or_unknown() {
    let frame = unprefixed(encode_request(9, 1, "client", &MetadataRequest::default()).unwrap());
    for end in 0..17 {
        let error = RequestFrame::parse(frame.slice(..end)).unwrap_err();
        assert!(matches!(&error, Error::Malformed { what, .. } if what == "request head"), "cut at {end}: {error}");
    }
    let unknown = Bytes::from_static(&[0x7f, 0xff, 0, 0, 0, 0, 0, 1, 0xff, 0xff]);
    assert!(matches!(RequestFrame::parse(unknown), Err(Error::Unsupported { key: i16::MAX, version: 0 })));
    let negative_client = Bytes::from_static(&[0, 3, 0, 0, 0, 0, 0, 1, 0xff, 0xfe]);
    assert!(RequestFrame::parse(negative_client).is_err());
    assert!(split_response(12, 4, Bytes::from_static(&[0, 0, 0, 1])).is_err());
}

#[test]
fn a_frame_is_decoded_as_what_it_is_only() {
    let frame = unprefixed(encode_request(4, 1, "c", &HeartbeatRequest::default()).unwrap());
    let error = RequestFrame::parse(frame).unwrap().decode::<MetadataRequest>().unwrap_err();
    assert!(matches!(error, Error::Unsupported { key: 12, version: 4 }));
}

#[test]
fn records_are_slices_of_the_frame() {
    let partition = fetch_response::PartitionData::default().with_records(Some(Bytes::from(vec![7; 1_000])));
    let topic = fetch_response::FetchableTopicResponse::default().with_partitions(vec![partition]);
    let answer = FetchResponse::default().with_responses(vec![topic]);
    let frame = unprefixed(encode_response::<FetchRequest>(13, 1, &answer).unwrap());
    let (_, body) = split_response(1, 13, frame.clone()).unwrap();
    let decoded = decode_response::<FetchRequest>(13, body).unwrap();
    let records = decoded.responses[0].partitions[0].records.as_ref().unwrap();
    assert!(frame.as_ptr_range().contains(&records.as_ptr()));
}

#[test]
fn messages_that_do_not_fit_a_version_are_errors() {
    assert!(matches!(
        encode_request(99, 1, "c", &MetadataRequest::default()),
        Err(Error::Unsupported { key: 3, version: 99 })
    ));
    let asked = MetadataRequest::default().with_allow_auto_topic_creation(false);
    assert!(matches!(encode_request(0, 1, "c", &asked), Err(Error::Malformed { .. })));
}
