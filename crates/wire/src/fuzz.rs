//! Fuzzing on stable Rust, in the ordinary test run: every decoder of this crate against mutated real captures and
//! mutated messages made from the schema. Deterministic; `HAWSER_FUZZ_EXECUTIONS` sets how many inputs each target
//! gets, `HAWSER_FUZZ_SEED` where they start. A failure prints the seed of the one input that caused it: set both
//! (the number to 1) to see it again.
//!
//! What must hold for every input: no panic, no decoder that refuses what the guard accepted, re-encoded messages are
//! accepted again, and no more bytes out of a batch than the caller allowed.

use crate::batch::{Batch, BatchHeader, Batches};
use crate::encoder::{TestBatch, TestRecord};
use crate::frame::{PREFIX_BYTES, Scan, scan};
use crate::guard::every_api::for_every_api;
use crate::guard::sample::{Fill, Sample};
use crate::guard::{self, Message};
use crate::{Compression, ControlType, LeaderEpoch, Offset, RequestFrame, api};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Encodable, Request};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Inputs for each target in the ordinary test run.
const EXECUTIONS: u64 = 100_000;
/// What records may decompress to here.
const OUTPUT_BYTES_MAX: usize = 1 << 20;
/// No input grows beyond this.
const INPUT_BYTES_MAX: usize = 16 * 1024;

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
    run("requests", &corpus, |case| {
        let frame = Bytes::from(case.bytes.clone());
        let Ok(request) = RequestFrame::parse(frame) else { return };
        macro_rules! decode {
            ($request:ident) => {
                if request.api_key == $request::KEY {
                    let schema = guard::request(request.api_key).unwrap();
                    let accepted = accepts::<$request>(schema, request.api_version, &request.body);
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
    run("responses", &corpus, |case| {
        let frame = Bytes::from(case.bytes.clone());
        let Ok((_, body)) = api::split_response(case.key, case.version, frame) else { return };
        macro_rules! decode {
            ($request:ident) => {
                if case.key == $request::KEY {
                    let schema = guard::response(case.key).unwrap();
                    let accepted = accepts::<$request>(schema, case.version, &body);
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
    let corpus: Vec<_> = batches().into_iter().map(Case::of_bytes).collect();
    run("batches", &corpus, |case| {
        let bytes = Bytes::from(case.bytes.clone());
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
    let corpus: Vec<_> = batches().into_iter().map(Case::of_bytes).collect();
    let headers: Vec<_> = corpus.iter().map(|case| BatchHeader::parse(&case.bytes).unwrap()).collect();
    let bodies: Vec<_> = corpus.iter().map(|case| Case::of_bytes(case.bytes[61..].to_vec())).collect();
    run("bodies", &bodies, |case| {
        for codec in 0..5_i16 {
            let mut header = headers[usize::try_from(codec).unwrap() % headers.len()];
            header.attributes = codec;
            header.record_count = 50;
            let bytes = [&[0; 61], &case.bytes[..]].concat();
            read_all(&Batch { header, bytes: bytes.into() });
        }
    });
}

#[test]
fn frames() {
    let corpus = [Case::of_bytes(vec![0, 0, 0, 3, 1, 2, 3]), Case::of_bytes(vec![0, 0, 1, 0, 9])];
    run("frames", &corpus, |case| match scan(&case.bytes, 1_000) {
        Ok(Scan::Whole(bytes)) => assert!(PREFIX_BYTES + bytes <= case.bytes.len() && bytes <= 1_000),
        Ok(Scan::NeedBody { frame_bytes, missing }) => {
            assert_eq!(case.bytes.len() + missing, PREFIX_BYTES + frame_bytes);
        }
        Ok(Scan::NeedPrefix(missing)) => assert_eq!(case.bytes.len() + missing, PREFIX_BYTES),
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

/// Feeds mutants of the corpus to `target`.
fn run(name: &str, corpus: &[Case], target: impl Fn(&Case)) {
    let from_env = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    let seed = from_env("HAWSER_FUZZ_SEED").unwrap_or(0);
    for seed in seed..seed + from_env("HAWSER_FUZZ_EXECUTIONS").unwrap_or(EXECUTIONS) {
        let case = Mutator::new(seed).mutant(corpus);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(&case))) {
            let Case { key, version, bytes, .. } = &case;
            eprintln!("{name}: HAWSER_FUZZ_SEED={seed}, key {key} v{version}: {bytes:02x?}");
            resume_unwind(panic);
        }
    }
}

fn speaks<M: Request>(version: i16) -> bool {
    api::supported_versions::<M>().is_some_and(|(min, max)| (min..=max).contains(&version))
}

fn accepts<M: Request>(schema: &Message, version: i16, body: &[u8]) -> bool {
    speaks::<M>(version) && schema.check(version, body).is_ok()
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

impl Case {
    fn of_bytes(bytes: Vec<u8>) -> Self {
        Self { key: 0, version: 0, is_response: false, bytes }
    }
}

/// A xorshift generator and what it does to bytes.
struct Mutator(u64);

impl Mutator {
    fn new(seed: u64) -> Self {
        // SplitMix64's step spreads neighbouring seeds; xorshift must not start at 0.
        let mixed = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Self((mixed ^ (mixed >> 27)) | 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap() % bound.max(1)
    }

    fn mutant(&mut self, corpus: &[Case]) -> Case {
        let mut case = corpus[self.below(corpus.len())].clone();
        for _ in 0..=self.below(4) {
            let other = &corpus[self.below(corpus.len())].bytes;
            self.mutate(&mut case.bytes, other);
        }
        case.bytes.truncate(INPUT_BYTES_MAX);
        case
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        const NUMBERS: [u32; 8] = [0, 1, 0x7f, 0xff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0xffff_fffe];
        const VARINTS: [&[u8]; 4] = [&[0xff, 0xff, 0xff, 0xff, 0x0f], &[0xff; 5], &[0x80; 10], &[0x80, 0]];
        let at = self.below(bytes.len() + 1);
        let length = self.below((bytes.len() - at).min(64) + 1);
        match self.below(9) {
            0 | 1 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            2 if at < bytes.len() => bytes[at] = [0, 1, 2, 0x7f, 0x80, 0xff][self.below(6)],
            3 => {
                let number = NUMBERS[self.below(NUMBERS.len())].to_be_bytes();
                let number = &number[4 - [1, 2, 4][self.below(3)]..];
                let end = (at + number.len()).min(bytes.len());
                bytes.splice(at..end, number.iter().copied());
            }
            4 => drop(bytes.splice(at..(at + 1).min(bytes.len()), VARINTS[self.below(VARINTS.len())].iter().copied())),
            5 => drop(bytes.drain(at..at + length)),
            6 => {
                let copy = bytes[at..at + length].to_vec();
                bytes.splice(at..at, copy);
            }
            7 => {
                let from = self.below(other.len() + 1);
                let to = from + self.below((other.len() - from).min(256) + 1);
                bytes.splice(at..at + length, other[from..to].iter().copied());
            }
            _ => bytes.truncate(at),
        }
    }
}
