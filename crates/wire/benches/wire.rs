#![forbid(unsafe_code)]
//! What wire costs, each figure next to its floor in the same run.
//!
//! Expected on one core, before measuring: the scan reads every byte once for the CRC and touches 61 bytes a batch
//! besides, so at least 0.95 of a bare CRC-32C over the same bytes; header-only scans are bound by batches, some 20 ns
//! each. The guard walks what the decoder walks, without allocating: at most half of the decoder's time for metadata,
//! and nothing that grows with the records of a fetch answer.

use bytes::{BufMut, Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hawser_wire::messages::*;
use hawser_wire::{Batches, Compression, Decodable, Encodable, LeaderEpoch, Offset, Request, StrBytes, api};
use std::hint::black_box;

const RUN_BYTES: usize = 16 << 20;
const RECORD_BYTES: usize = 1024;
const PARTITIONS: i32 = 12;

criterion_group!(wire, scan, records, fetch_answer, metadata_answer);
criterion_main!(wire);

/// Batches as a consumer fetch brings them: scan with CRC and order check, against the CRC alone.
pub fn scan(c: &mut Criterion) {
    let mut group = c.benchmark_group("scan");
    for (name, records_per_batch) in [("16 KiB batches", 16), ("1 KiB batches", 1)] {
        let run = batches(RUN_BYTES, records_per_batch, Compression::None);
        group.throughput(Throughput::Bytes(run.len() as u64));
        group.bench_function(format!("crc alone, {name}"), |b| b.iter(|| crc32c::crc32c(black_box(&run))));
        let pieces: Vec<Bytes> =
            Batches::unverified(run.clone()).map(|batch| batch.unwrap().bytes.slice(21..)).collect();
        group.bench_function(format!("crc batch by batch, {name}"), |b| {
            b.iter(|| pieces.iter().fold(0, |all, piece| all ^ crc32c::crc32c(black_box(piece))));
        });
        group.bench_function(format!("verified, {name}"), |b| {
            b.iter(|| Batches::verified(run.clone(), Offset(0), LeaderEpoch(0)).map(Result::unwrap).count());
        });
        group.bench_function(format!("headers only, {name}"), |b| {
            b.iter(|| Batches::unverified(run.clone()).map(Result::unwrap).count());
        });
    }
    group.finish();
}

/// Reading every record, as a search by timestamp does within one batch.
pub fn records(c: &mut Criterion) {
    let mut group = c.benchmark_group("records");
    for codec in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let mut run = batches(1 << 20, 1024, codec);
        let batch = hawser_wire::Batch::split_off(&mut run).unwrap();
        group.throughput(Throughput::Elements(batch.header.record_count.cast_unsigned().into()));
        group.bench_function(format!("{codec:?}"), |b| {
            b.iter(|| batch.records(64 << 20).map(Result::unwrap).filter(|record| record.value.is_some()).count());
        });
    }
    group.finish();
}

/// A fetch answer of 12 partitions with 1 MiB each, guarded, against `kafka-protocol` alone.
pub fn fetch_answer(c: &mut Criterion) {
    let partition = |index| {
        fetch_response::PartitionData::default().with_partition_index(index).with_records(Some(batches(
            1 << 20,
            16,
            Compression::None,
        )))
    };
    let topic =
        fetch_response::FetchableTopicResponse::default().with_partitions((0..PARTITIONS).map(partition).collect());
    guarded_and_bare::<FetchRequest>(c, "fetch answer", 13, &FetchResponse::default().with_responses(vec![topic]));
}

/// A metadata answer of 10,000 partitions.
pub fn metadata_answer(c: &mut Criterion) {
    let nodes = vec![BrokerId(1), BrokerId(2), BrokerId(3)];
    let partition =
        metadata_response::MetadataResponsePartition::default().with_replica_nodes(nodes.clone()).with_isr_nodes(nodes);
    let topic = metadata_response::MetadataResponseTopic::default()
        .with_name(Some(TopicName(StrBytes::from_static_str("orders"))))
        .with_partitions(vec![partition; 100]);
    guarded_and_bare::<MetadataRequest>(
        c,
        "metadata answer",
        12,
        &MetadataResponse::default().with_topics(vec![topic; 100]),
    );
}

fn guarded_and_bare<M: Request>(c: &mut Criterion, name: &str, version: i16, answer: &M::Response) {
    let mut body = BytesMut::new();
    answer.encode(&mut body, version).unwrap();
    let body = body.freeze();
    let mut group = c.benchmark_group(name);
    group.bench_function("kafka-protocol alone", |b| {
        b.iter(|| M::Response::decode(&mut black_box(&body).clone(), version).unwrap());
    });
    group.bench_function("guarded", |b| {
        b.iter(|| api::decode_response::<M>(version, black_box(&body).clone()).unwrap());
    });
    group.finish();
}

/// About `bytes` of uncompressed or compressed batches, offsets from 0, epoch 0.
fn batches(bytes: usize, records_per_batch: i32, codec: Compression) -> Bytes {
    let mut body = Vec::new();
    for delta in 0..records_per_batch {
        let mut record = vec![0, 0];
        varint(&mut record, i64::from(delta));
        varint(&mut record, -1);
        varint(&mut record, RECORD_BYTES as i64);
        record.extend((0..RECORD_BYTES).map(|at| (at * 31 % 251) as u8 ^ delta as u8));
        record.push(0);
        varint(&mut body, record.len() as i64);
        body.extend(record);
    }
    let body = match codec {
        Compression::Lz4 => {
            let mut to = lz4_flex::frame::FrameEncoder::new(Vec::new());
            std::io::Write::write_all(&mut to, &body).unwrap();
            to.finish().unwrap()
        }
        Compression::Zstd => zstd::encode_all(body.as_slice(), 3).unwrap(),
        _ => body,
    };
    let mut run = BytesMut::new();
    let mut base_offset = 0;
    while run.len() < bytes {
        let start = run.len();
        run.put_i64(base_offset);
        run.put_i32((49 + body.len()) as i32);
        run.put_i32(0);
        run.put_i8(2);
        run.put_u32(0);
        run.put_i16(codec as i16);
        run.put_i32(records_per_batch - 1);
        run.put_i64(0);
        run.put_i64(0);
        run.put_i64(-1);
        run.put_i16(-1);
        run.put_i32(-1);
        run.put_i32(records_per_batch);
        run.put_slice(&body);
        let crc = crc32c::crc32c(&run[start + 21..]);
        run[start + 17..start + 21].copy_from_slice(&crc.to_be_bytes());
        base_offset += i64::from(records_per_batch);
    }
    run.freeze()
}

fn varint(to: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        to.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    to.push(zigzag as u8);
}
