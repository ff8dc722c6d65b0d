#![forbid(unsafe_code)]
//! Hostile bytes against a real memory limit: a child process under `ulimit -v` decodes them and lives. The same limit
//! kills a child that decodes without the guard, so it is the guard that saves it.

use bytes::{Buf as _, Bytes};
use hawser_wire::messages::{DeleteTopicsRequest, DescribeGroupsRequest, FetchRequest, MetadataRequest};
use hawser_wire::{Batch, Decodable, RequestFrame, api};
use std::process::{Command, Output};

/// Address space of a child, in KiB: room for the test binary and its thread, far below what the frames ask for.
const LIMIT_KIB: u32 = 384 * 1024;
/// Tells `child_process` what to do; without it, it has nothing to do.
const ROLE: &str = "HAWSER_ALLOCATION_CHILD";

/// Runs `role` in a child of this very test binary.
fn child(role: &str) -> Output {
    let exe = std::env::current_exe().unwrap();
    Command::new("sh")
        .args(["-c", "ulimit -v \"$1\" && exec \"$2\" --exact child_process --nocapture --test-threads 1", "sh"])
        .arg(LIMIT_KIB.to_string())
        .arg(exe)
        .env(ROLE, role)
        .output()
        .unwrap()
}

/// A Metadata v1 request of 20 bytes that promises 2³¹ − 1 topics.
fn metadata_of_20_bytes() -> Bytes {
    let mut frame = vec![0, 3, 0, 1, 0, 0, 0, 7, 0, 6];
    frame.extend(b"client");
    frame.extend([0x7f, 0xff, 0xff, 0xff]);
    assert_eq!(frame.len(), 20);
    frame.into()
}

#[test]
fn guarded_decoding_survives_a_memory_limit() {
    let child = child("guarded");
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
}

#[test]
fn the_same_frame_without_the_guard_dies_under_that_limit() {
    let child = child("unguarded");
    let said = String::from_utf8_lossy(&child.stderr);
    assert!(!child.status.success() && said.contains("memory allocation"), "{said}");
}

#[test]
fn child_process() {
    match std::env::var(ROLE).as_deref() {
        Ok("guarded") => guarded(),
        Ok("unguarded") => unguarded(),
        _ => {}
    }
}

fn unguarded() {
    let mut body = metadata_of_20_bytes();
    body.advance(16);
    let _ = MetadataRequest::decode(&mut body, 1);
}

fn guarded() {
    for _ in 0..100 {
        assert!(RequestFrame::parse(metadata_of_20_bytes()).unwrap().decode::<MetadataRequest>().is_err());
    }
    // 4 MiB of empty names, which decode to 32 bytes each: 128 MiB, twice what the bound allows.
    let body = strings(4 << 20, 0);
    assert!(api::decode_request::<DeleteTopicsRequest>(4, body).is_err());
    // 4 MiB of the densest strings that are accepted: one letter each.
    let body = strings(2 << 20, 1);
    assert_eq!(
        api::decode_request::<DescribeGroupsRequest>(5, body.clone()).map(|ok| ok.groups.len()).ok(),
        Some(2 << 20)
    );
    // Counts in every place that a Fetch request has one.
    let fetch = api::encode_request(13, 1, "c", &FetchRequest::default()).unwrap().slice(4..);
    for at in 10..fetch.len() {
        let hostile = [&fetch[..at], &[0xff, 0xff, 0xff, 0xff, 0x0f], &fetch[at + 1..]].concat();
        if let Ok(frame) = RequestFrame::parse(hostile.into()) {
            let _ = frame.decode::<FetchRequest>();
        }
    }
    // 512 MiB of zeros in half a MiB of gzip, read with a limit of 1 MiB.
    bomb();
}

/// A flexible array of `count` strings of `length` letters, and what follows it in both requests used here.
fn strings(count: usize, length: u8) -> Bytes {
    let mut body = Vec::new();
    let mut varint = count + 1;
    while varint >= 0x80 {
        body.push(u8::try_from(varint & 0x7f).unwrap() | 0x80);
        varint >>= 7;
    }
    body.push(u8::try_from(varint).unwrap());
    for _ in 0..count {
        body.push(length + 1);
        body.extend(std::iter::repeat_n(b'g', length.into()));
    }
    body.extend([0, 0]);
    body.into()
}

fn bomb() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    // One record of 512 MiB: its length, then zeros.
    std::io::Write::write_all(&mut gzip, &[0x80, 0x80, 0x80, 0x80, 0x04]).unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..512 {
        std::io::Write::write_all(&mut gzip, &zeros).unwrap();
    }
    let body = gzip.finish().unwrap();
    let mut bytes = vec![0; 61];
    let length = i32::try_from(bytes.len() - 12 + body.len()).unwrap();
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[16] = 2;
    bytes[22] = 1;
    bytes[60] = 1;
    bytes.extend(body);
    let batch = Batch::split_off(&mut bytes.into()).unwrap();
    let error = batch.records(1 << 20).next().unwrap().unwrap_err();
    assert!(error.to_string().contains("more than 1048576 bytes"), "{error}");
}
