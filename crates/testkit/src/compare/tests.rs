use super::*;
use crate::batches::{BatchBuilder, Codec};

fn batches() -> Vec<BatchBuilder> {
    vec![
        BatchBuilder::at(0).epoch(1).records(5, 10),
        BatchBuilder::at(5).epoch(1).codec(Codec::Zstd).records(3, 100),
        BatchBuilder::at(20).epoch(4).last_offset_delta(9),
        BatchBuilder::at(30).epoch(4).records(1, 0),
    ]
}

fn folder(segments: &[(i64, &[BatchBuilder])], epochs: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (base, batches) in segments {
        let bytes: Vec<u8> = batches.iter().flat_map(|b| b.build()).collect();
        fs::write(folder.path().join(format!("{base:020}.log")), bytes).unwrap();
    }
    let count = epochs.lines().count();
    fs::write(folder.path().join("leader-epoch-checkpoint"), format!("0\n{count}\n{epochs}")).unwrap();
    folder
}

fn compare(source: &tempfile::TempDir, mirror: &tempfile::TempDir) -> Result<Equal> {
    let log_start = first_segment(mirror.path())?;
    partitions(source.path(), mirror.path(), log_start)
}

#[test]
fn equal_logs_may_be_cut_into_other_segments_and_begin_later() {
    let all = batches();
    let source = folder(&[(0, &all[..2]), (20, &all[2..])], "1 0\n4 20\n");
    let whole = compare(&source, &folder(&[(0, &all[..])], "1 0\n4 20\n")).unwrap();
    assert_eq!((whole.start, whole.end, whole.batches, whole.gaps, whole.emptied, whole.epochs), (0, 31, 4, 1, 1, 2));
    // The log starts at 6, inside of the second batch.
    let mirror = folder(&[(5, &all[1..])], "1 6\n4 20\n");
    let later = partitions(source.path(), mirror.path(), 6).unwrap();
    assert_eq!((later.start, later.end, later.batches), (5, 31, 3));
    assert_eq!(compare(&source, &folder(&[(31, &[])], "")).unwrap().batches, 0);
    // Nothing is readable any more, yet the files still hold the last batch.
    let trimmed = folder(&[(30, &all[3..])], "");
    assert_eq!(partitions(source.path(), trimmed.path(), 31).unwrap().end, 31);
    assert_eq!(survey(source.path()).unwrap(), whole);
}

#[test]
fn a_prefix_is_compared_up_to_its_end() {
    let all = batches();
    let source = folder(&[(0, &all[..2]), (20, &all[2..])], "1 0\n4 20\n");
    let own = [&all[..2], &[BatchBuilder::at(8).epoch(5).records(9, 9)]].concat();
    let mirror = folder(&[(0, &own)], "1 0\n5 8\n");
    let equal = prefixes(source.path(), mirror.path(), 8).unwrap();
    assert_eq!((equal.end, equal.batches), (8, 2));
    let says = |end: i64| format!("{:#}", prefixes(source.path(), mirror.path(), end).unwrap_err());
    assert!(says(7).contains("a batch ends at 8, beyond 7"));
    assert!(says(30).contains("first difference"));
    let short = folder(&[(0, &all[..1])], "1 0\n");
    assert!(prefixes(source.path(), short.path(), 8).unwrap_err().to_string().contains("no batch at 5"));
}

#[test]
fn every_kind_of_difference_is_found() {
    let all = batches();
    let source = folder(&[(0, &all[..])], "1 0\n4 20\n");
    let says = |mirror: &tempfile::TempDir| format!("{:#}", compare(&source, mirror).unwrap_err());
    assert!(says(&folder(&[(0, &all[..3])], "1 0\n4 20\n")).contains("the mirror ends at 30"));
    let more = [&all[..], &[BatchBuilder::at(31).epoch(4).records(1, 1)]].concat();
    assert!(says(&folder(&[(0, &more)], "1 0\n4 20\n")).contains("the source ends at 31"));
    let skipped = [&all[..1], &all[2..]].concat();
    assert!(says(&folder(&[(0, &skipped)], "1 0\n4 20\n")).contains("first difference"));
    let other = [&all[..3], &[BatchBuilder::at(30).epoch(5).records(1, 0)]].concat();
    assert!(says(&folder(&[(0, &other)], "1 0\n4 20\n5 30\n")).contains("first difference in byte 15"));
    assert!(says(&folder(&[(0, &all)], "1 0\n")).contains("epochs"));
    assert!(says(&folder(&[(0, &all)], "1 0\n4 21\n")).contains("(4, 21)"));
    let late = folder(&[(5, &all[1..])], "1 6\n4 20\n");
    assert!(format!("{:#}", partitions(source.path(), late.path(), 4).unwrap_err()).contains("above its log start 4"));
    assert!(says(&folder(&[(8, &[])], "")).contains("empty from 8"));
    let torn = folder(&[(0, &all)], "1 0\n4 20\n");
    let file = torn.path().join(format!("{:020}.log", 0));
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    assert!(says(&torn).contains("cut off"));
    let mut flipped = bytes.clone();
    flipped[70] ^= 1;
    fs::write(&file, &flipped).unwrap();
    assert!(says(&torn).contains("wrong CRC"));
}
