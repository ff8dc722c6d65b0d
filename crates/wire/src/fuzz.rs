//! Every decoder of this crate against mutated real captures and mutated messages made from the schema
//! (`hawser_testkit::fuzz` has the driver and its environment variables).
//!
//! What must hold for every input: no panic, no decoder that refuses what the guard accepted, re-encoded messages are
//! accepted again, and no more bytes out of a batch than the caller allowed.

use crate::batch::{Batch, BatchHeader, Batches, HEADER_BYTES};
use crate::encoder::{TestBatch, TestRecord};
use crate::frame::{PREFIX_BYTES, Scan, scan};
use crate::guard::every_api::for_every_api;
use crate::guard::sample::{Fill, Sample};
use crate::guard::{self, Message};
use crate::{Compression, ControlType, LeaderEpoch, Offset, RequestFrame, api};
use bytes::{Bytes, BytesMut};
use hawser_testkit::fuzz::run;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Encodable, Request};

/// What records may decompress to here.
const OUTPUT_BYTES_MAX: usize = 1 << 20;
/// Frames as stock Kafka 4.3.1 and its own tools exchanged them: direction, key, version, length, frame.
const CAPTURES: &[u8] = include_bytes!("../tests/corpus/kafka-4.3.1.frames");

/// A request or response body, or a whole request frame, and what it is.
#[derive(Clone)]
struct Case {
    key: i16,
    version: i16,
    is_response: bool,
    bytes: Vec<u8>,
}

#[test]
fn requests() {
    let corpus = corpus(false);
    run("requests", &corpus, |_, frame| {
        let frame = Bytes::copy_from_slice(frame);
        let Ok(request) = RequestFrame::parse(frame) else { return };
        macro_rules! decode {
            ($request:ident) => {
                if request.api_key == $request::KEY {
                    let schema = guard::request(request.api_key).unwrap();
                    let accepted = speaks::<$request>(request.api_version)
                        && schema.measure(request.api_version, &request.body).is_ok();
                    let decoded = request.decode::<$request>();
                    assert_eq!(decoded.is_ok(), accepted, "{decoded:?}");
                    if let Ok(message) = decoded {
                        encodes_again(schema, request.api_version, &message);
                    }
                }
            };
        }
        for_every_api!(decode);
    });
}

#[test]
fn responses() {
    let corpus = corpus(true);
    run("responses", &corpus, |from, frame| {
        let (case, frame) = (&corpus[from], Bytes::copy_from_slice(frame));
        let Ok((_, body)) = api::split_response(case.key, case.version, frame) else { return };
        macro_rules! decode {
            ($request:ident) => {
                if case.key == $request::KEY {
                    let schema = guard::response(case.key).unwrap();
                    let accepted = speaks::<$request>(case.version) && schema.check(case.version, &body).is_ok();
                    let decoded = api::decode_response::<$request>(case.version, body.clone());
                    assert_eq!(decoded.is_ok(), accepted, "{decoded:?}");
                    if let Ok(message) = decoded {
                        encodes_again(schema, case.version, &message);
                    }
                }
            };
        }
        for_every_api!(decode);
    });
}

#[test]
fn batches_and_their_records() {
    run("batches", &batches(), |_, bytes| {
        let bytes = Bytes::copy_from_slice(bytes);
        let mut seen = 0;
        let mut run = Batches::unverified(bytes.clone());
        for batch in run.by_ref().map_while(Result::ok) {
            seen += batch.bytes.len();
            let _ = batch.check_crc();
            let _ = batch.control_type();
            read_all(&batch);
        }
        assert!(seen + run.rest().len() <= bytes.len());
        let mut log_end = Offset(0);
        for batch in Batches::verified(bytes, log_end, LeaderEpoch(0)).map_while(Result::ok) {
            assert!(batch.header.base_offset >= log_end && batch.check_crc().is_ok());
            log_end = batch.header.next_offset();
        }
    });
}

#[test]
fn bodies_of_batches() {
    // Mutated behind the header, so that the codecs get what they did not write.
    let corpus = batches();
    let bodies: Vec<_> = corpus.iter().map(|bytes| &bytes[HEADER_BYTES..]).collect();
    run("bodies", &bodies, |from, body| {
        let header = BatchHeader::parse(&corpus[from]).unwrap();
        for attributes in 0..5 {
            let header = BatchHeader { attributes, record_count: 50, ..header };
            let bytes = [&[0; HEADER_BYTES], body].concat();
            read_all(&Batch { header, bytes: bytes.into() });
        }
    });
}

#[test]
fn frames() {
    let corpus: [&[u8]; 2] = [&[0, 0, 0, 3, 1, 2, 3], &[0, 0, 1, 0, 9]];
    run("frames", &corpus, |_, bytes| match scan(bytes, 1_000) {
        Ok(Scan::Whole(frame)) => assert!(PREFIX_BYTES + frame <= bytes.len() && frame <= 1_000),
        Ok(Scan::NeedBody { frame_bytes, missing }) => assert_eq!(bytes.len() + missing, PREFIX_BYTES + frame_bytes),
        Ok(Scan::NeedPrefix(missing)) => assert_eq!(bytes.len() + missing, PREFIX_BYTES),
        Err(_) => {}
    });
}

#[test]
fn captures_are_what_kafka_writes() {
    // The corpus as it stands: every frame decodes, every batch in it verifies and its records can be read.
    let (mut requests, mut responses, mut batches) = (0, 0, 0);
    for case in captures() {
        let (key, version) = (case.key, case.version);
        let frame = Bytes::from(case.bytes);
        macro_rules! decode {
            ($request:ident) => {
                if key == $request::KEY && !speaks::<$request>(version) {
                    continue;
                }
                if key == $request::KEY && case.is_response {
                    let (_, body) = api::split_response(key, version, frame.clone()).unwrap();
                    let message = api::decode_response::<$request>(version, body).unwrap();
                    encodes_again(guard::response(key).unwrap(), version, &message);
                    responses += 1;
                } else if key == $request::KEY {
                    let message = RequestFrame::parse(frame.clone()).unwrap().decode::<$request>().unwrap();
                    encodes_again(guard::request(key).unwrap(), version, &message);
                    requests += 1;
                }
            };
        }
        for_every_api!(decode);
    }
    let (mut codecs, mut markers, mut cut) = (Vec::new(), 0, 0);
    for bytes in captured_records() {
        let mut run = Batches::verified(bytes, Offset(0), LeaderEpoch::NONE);
        for batch in run.by_ref() {
            let batch = batch.unwrap();
            let records: Vec<_> = batch.records(OUTPUT_BYTES_MAX).collect::<Result<_, _>>().unwrap();
            assert_eq!(records.len(), usize::try_from(batch.header.record_count).unwrap());
            codecs.push(batch.header.compression().unwrap() as i16);
            markers += usize::from(batch.control_type() == Ok(Some(ControlType::Commit)));
            batches += 1;
        }
        cut += usize::from(!run.rest().is_empty());
    }
    codecs.sort_unstable();
    codecs.dedup();
    assert_eq!(codecs, [0, 1, 2, 3, 4]);
    assert!(requests > 50 && responses > 50, "{requests} {responses}");
    assert!(batches > 10 && markers > 0 && cut > 0, "{batches} {markers} {cut}");
}

fn speaks<M: Request>(version: i16) -> bool {
    api::supported_versions::<M>().is_some_and(|(min, max)| (min..=max).contains(&version))
}

fn encodes_again(schema: &Message, version: i16, message: &impl Encodable) {
    let mut bytes = BytesMut::new();
    message.encode(&mut bytes, version).unwrap();
    schema.check(version, &bytes).unwrap();
}

fn read_all(batch: &Batch) {
    let mut bytes = 0;
    for record in batch.records(OUTPUT_BYTES_MAX).map_while(Result::ok) {
        bytes += record.key.map_or(0, |key| key.len()) + record.value.map_or(0, |value| value.len());
        bytes += record.headers.map(|header| header.key.len()).sum::<usize>();
    }
    assert!(bytes <= OUTPUT_BYTES_MAX.max(batch.bytes.len()));
}

/// Captured and schema-made messages; requests as whole frames.
fn corpus(is_response: bool) -> Vec<Case> {
    let mut corpus: Vec<_> = captures().filter(|case| case.is_response == is_response).collect();
    macro_rules! push {
        ($request:ident) => {
            let key = $request::KEY;
            let (min, max) = api::supported_versions::<$request>().unwrap();
            for version in min..=max {
                let schema = if is_response { guard::response(key) } else { guard::request(key) }.unwrap();
                for fill in [Fill::Least, Fill::Most] {
                    let body = Sample::of(schema, version, fill).bytes;
                    let frame = if is_response {
                        api::encode_raw_response(key, version, 7, &body)
                    } else {
                        api::encode_raw_request(key, version, 7, "fuzz", &body)
                    };
                    let bytes = frame.unwrap().slice(PREFIX_BYTES..).to_vec();
                    corpus.push(Case { key, version, is_response, bytes });
                }
            }
        };
    }
    for_every_api!(push);
    corpus
}

fn captures() -> impl Iterator<Item = Case> {
    let mut rest = CAPTURES;
    std::iter::from_fn(move || {
        let (&[direction, k0, k1, v0, v1, l0, l1, l2, l3], after) = rest.split_first_chunk::<9>()?;
        let length = usize::try_from(u32::from_be_bytes([l0, l1, l2, l3])).unwrap();
        let (bytes, after) = after.split_at(length);
        rest = after;
        let (key, version) = (i16::from_be_bytes([k0, k1]), i16::from_be_bytes([v0, v1]));
        Some(Case { key, version, is_response: direction == 1, bytes: bytes.to_vec() })
    })
}

/// The record bytes of every captured produce request and fetch response.
fn captured_records() -> Vec<Bytes> {
    let mut all = Vec::new();
    for case in captures().filter(|case| !case.is_response && case.key == ProduceRequest::KEY) {
        let request = RequestFrame::parse(case.bytes.into()).unwrap().decode::<ProduceRequest>().unwrap();
        let partitions = request.topic_data.into_iter().flat_map(|topic| topic.partition_data);
        all.extend(partitions.filter_map(|partition| partition.records));
    }
    for case in captures().filter(|case| case.is_response && case.key == FetchRequest::KEY) {
        let (_, body) = api::split_response(case.key, case.version, case.bytes.into()).unwrap();
        let answer = api::decode_response::<FetchRequest>(case.version, body).unwrap();
        let partitions = answer.responses.into_iter().flat_map(|topic| topic.partitions);
        all.extend(partitions.filter_map(|partition| partition.records).filter(|records| !records.is_empty()));
    }
    all
}

/// Captured runs of batches, and some of our own making for what the capture lacks.
fn batches() -> Vec<Vec<u8>> {
    let mut all: Vec<_> = captured_records().iter().map(|bytes| bytes.to_vec()).collect();
    let records: Vec<_> = (0..5).map(|delta| TestRecord::new(delta, Some(b"key"), Some(&[b'v'; 50]))).collect();
    for codec in [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let batch = TestBatch { records: records.clone(), ..TestBatch::default() }.compressed(codec);
        all.push(batch.encode().to_vec());
    }
    let marker = vec![TestRecord::new(0, Some(&[0, 0, 0, 1]), Some(&[0; 6]))];
    all.push(TestBatch { attributes: 0x30, records: marker, ..TestBatch::default() }.encode().to_vec());
    all
}

impl AsRef<[u8]> for Case {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
