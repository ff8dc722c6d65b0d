use super::*;
use crate::encoder::{self, TestBatch, TestRecord, varint};
use proptest::prelude::*;

const LIMIT: usize = 64 << 20;
const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

fn read(mut bytes: Bytes, limit: usize) -> Result<Vec<Record>, RecordError> {
    Batch::split_off(&mut bytes).unwrap().records(limit).collect()
}

fn body(batch: &TestBatch, body: &[u8]) -> Result<Vec<Record>, RecordError> {
    read(batch.around(body), LIMIT)
}

fn sample() -> TestBatch {
    let header =
        |key: &str, value: Option<&str>| (key.as_bytes().to_vec(), value.map(|value| value.as_bytes().to_vec()));
    let mut first = TestRecord::new(0, Some(b"key"), Some(b"value"));
    first.headers = vec![header("trace", Some("1")), header("trace", Some("2")), header("", None)];
    let mut tombstone = TestRecord::new(3, Some(b"key"), None);
    tombstone.timestamp_delta = -5;
    let mut large = TestRecord::new(4, None, Some(&b"0123456789abcdef".repeat(5_000)));
    large.timestamp_delta = 70_000;
    let records = vec![first, tombstone, large, TestRecord::new(9, None, Some(b""))];
    TestBatch { base_offset: 100, base_timestamp: 1_000, max_timestamp: 71_000, records, ..TestBatch::default() }
}

#[test]
fn records_of_every_codec() {
    for codec in CODECS {
        let records = read(sample().compressed(codec).encode(), LIMIT).unwrap();
        let places: Vec<_> = records.iter().map(|record| (record.offset.0, record.timestamp)).collect();
        assert_eq!(places, [(100, 1_000), (103, 995), (104, 71_000), (109, 1_000)], "{codec:?}");
        assert_eq!((&records[0].key, &records[0].value), (&Some("key".into()), &Some("value".into())));
        assert_eq!((&records[1].key, &records[1].value), (&Some("key".into()), &None));
        assert_eq!(records[2].value.as_ref().map(Bytes::len), Some(80_000));
        assert_eq!(records[3].value, Some(Bytes::new()));
    }
}

#[test]
fn repeated_headers_are_kept_in_order() {
    let records = read(sample().encode(), LIMIT).unwrap();
    let headers = records[0].headers.clone();
    assert_eq!(headers.len(), 3);
    let expected = [("trace", Some("1")), ("trace", Some("2")), ("", None)];
    let expected = expected.map(|(key, value)| Header { key: key.into(), value: value.map(Bytes::from) });
    assert_eq!(headers.collect::<Vec<_>>(), expected);
    assert_eq!(records[1].headers.clone().next(), None);
}

#[test]
fn raw_snappy_is_read_too() {
    let batch = sample().compressed(Compression::Snappy);
    let raw = snap::raw::Encoder::new().compress_vec(&batch.plain_records()).unwrap();
    assert_eq!(body(&batch, &raw), read(batch.encode(), LIMIT));
}

#[test]
fn log_append_time_is_the_batches() {
    let batch = TestBatch { attributes: 0x08, ..sample() };
    let records = read(batch.encode(), LIMIT).unwrap();
    assert!(records.iter().all(|record| record.timestamp == 71_000));
}

#[test]
fn reading_stops_early_without_decompressing_the_rest() {
    // The second half of the body is not even zstd: a search that ends before never notices.
    let records = (0..2_000).map(|delta| TestRecord::new(delta, None, Some(&delta.to_be_bytes().repeat(64)))).collect();
    let batch = TestBatch { records, ..TestBatch::default() }.compressed(Compression::Zstd);
    let plain = batch.plain_records();
    let (half, _) = plain.split_at(plain.len() / 2);
    let spoiled = [zstd::encode_all(half, 3).unwrap(), b"nothing that zstd knows".to_vec()].concat();
    let mut bytes = batch.around(&spoiled);
    let batch = Batch::split_off(&mut bytes).unwrap();
    let found = batch.records(LIMIT).find(|record| record.as_ref().is_ok_and(|record| record.offset >= Offset(700)));
    assert_eq!(found.unwrap().unwrap().offset, Offset(700));
    assert!(batch.records(LIMIT).any(|record| matches!(record, Err(RecordError::Decompress { .. }))));
}

#[test]
fn output_is_limited() {
    let zeros = TestRecord::new(0, None, Some(&vec![0; 4 << 20]));
    let batch = TestBatch { records: vec![zeros], ..TestBatch::default() };
    for codec in CODECS.into_iter().skip(1) {
        let bytes = batch.clone().compressed(codec).encode();
        let plain = batch.plain_records().len();
        assert!(read(bytes.clone(), plain).is_ok(), "{codec:?}");
        let error = read(bytes.clone(), plain - 1).unwrap_err();
        assert_eq!(error, RecordError::TooLarge { base_offset: 0, output_bytes_max: plain - 1 }, "{codec:?}");
        assert!(read(bytes, 1_000).is_err(), "{codec:?}");
    }
}

#[test]
fn hostile_snappy_lengths_reserve_nothing() {
    let batch = TestBatch { records: vec![TestRecord::default()], ..TestBatch::default() };
    let batch = batch.compressed(Compression::Snappy);
    let error = body(&batch, &[0xff, 0xff, 0xff, 0xff, 0x0f, 0]).unwrap_err();
    assert!(error.to_string().contains("promises more"), "{error}");
    let mut framed = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
    framed.extend([0x7f, 0xff, 0xff, 0xff, 1]);
    assert!(body(&batch, &framed).unwrap_err().to_string().contains("block exceeds the batch"));
}

#[test]
fn linked_and_legacy_lz4_are_refused() {
    let batch = sample().compressed(Compression::Lz4);
    let mut linked = encoder::lz4(&batch.plain_records());
    linked[4] &= !0x20;
    assert!(body(&batch, &linked).unwrap_err().to_string().contains("independent blocks"));
    let legacy = [0x02, 0x21, 0x4c, 0x18, 0, 0, 0, 0];
    assert!(body(&batch, &legacy).unwrap_err().to_string().contains("independent blocks"));
}

#[test]
fn a_second_lz4_frame_is_not_looked_at() {
    let mut batch = sample().compressed(Compression::Lz4);
    let first = encoder::lz4(&batch.plain_records());
    let all = body(&batch, &[first.clone(), encoder::lz4(b"more")].concat()).unwrap();
    assert_eq!(all.len(), batch.records.len());
    // Promised records that only a second frame could hold are missing.
    batch.records.push(TestRecord::new(10, None, None));
    assert!(body(&batch, &[first.clone(), first].concat()).is_err());
}

#[test]
fn unknown_codecs_are_named() {
    let batch = TestBatch { attributes: 5, records: vec![TestRecord::default()], ..TestBatch::default() };
    assert_eq!(body(&batch, &[]), Err(RecordError::UnknownCodec { base_offset: 0, codec: 5 }));
}

#[test]
fn malformed_records() {
    let one = TestBatch { records: vec![TestRecord::default()], ..TestBatch::default() };
    let cases: &[(&str, &[u8])] = &[
        ("cut off", &[]),
        ("negative length", &[1]),
        ("record exceeds the batch", &[20, 0, 0]),
        ("varint exceeds 32 bits", &[0xff, 0xff, 0xff, 0xff, 0x7f]),
        ("cut off", &[0]),
        ("varint exceeds 64 bits", &[24, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0]),
        ("length exceeds the record", &[12, 0, 0, 0, 20, 1, 0]),
        ("negative length", &[12, 0, 0, 0, 3, 1, 0]),
        ("negative header count", &[12, 0, 0, 0, 1, 1, 1]),
        ("header without a key", &[16, 0, 0, 0, 1, 1, 2, 1, 1]),
        ("cut off", &[12, 0, 0, 0, 1, 1, 40]),
        ("bytes behind the last header", &[14, 0, 0, 0, 1, 1, 0, 0]),
        ("offset out of order or beyond the batch", &[12, 0, 0, 2, 1, 1, 0]),
        ("offset out of order or beyond the batch", &[12, 0, 0, 1, 1, 1, 0]),
        ("more records than the header says", &[12, 0, 0, 0, 1, 1, 0, 12, 0, 0, 0, 1, 1, 0]),
    ];
    for (expected, bytes) in cases {
        let error = body(&one, bytes).unwrap_err();
        assert!(matches!(error, RecordError::Malformed { what, .. } if what == *expected), "{bytes:?}: {error}");
    }
    assert!(body(&one, &[12, 0, 0, 0, 1, 1, 0]).is_ok());
}

#[test]
fn offsets_must_rise() {
    let records = vec![TestRecord::new(1, None, None), TestRecord::new(1, None, None)];
    let batch = TestBatch { records, ..TestBatch::default() };
    let error = read(batch.encode(), LIMIT).unwrap_err();
    let what = "offset out of order or beyond the batch";
    assert_eq!(error, RecordError::Malformed { base_offset: 0, index: 1, what });
}

#[test]
fn an_error_is_the_last_item() {
    let mut bytes = TestBatch { records: vec![TestRecord::default(); 2], ..TestBatch::default() }.around(&[1]);
    let mut records = Batch::split_off(&mut bytes).unwrap().records(0);
    assert!(records.next().unwrap().is_err());
    assert!(records.next().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_was_written_is_read(
        records in prop::collection::vec(any_record(), 0..20),
        codec in prop::sample::select(CODECS.to_vec()),
    ) {
        let mut records = records;
        for (delta, record) in (0..).zip(&mut records) {
            record.offset_delta += delta * 1_000;
        }
        let batch = TestBatch { base_offset: 5, base_timestamp: 17, records, ..TestBatch::default() };
        let found = read(batch.clone().compressed(codec).encode(), LIMIT).unwrap();
        prop_assert_eq!(found.len(), batch.records.len());
        for (found, wrote) in found.iter().zip(&batch.records) {
            prop_assert_eq!(found.offset.0, 5 + i64::from(wrote.offset_delta));
            prop_assert_eq!(found.timestamp, 17_i64.wrapping_add(wrote.timestamp_delta));
            prop_assert_eq!(found.key.as_deref(), wrote.key.as_deref());
            prop_assert_eq!(found.value.as_deref(), wrote.value.as_deref());
            let headers: Vec<_> = found.headers.clone()
                .map(|header| (header.key.to_vec(), header.value.map(|value| value.to_vec())))
                .collect();
            prop_assert_eq!(&headers, &wrote.headers);
        }
    }

    #[test]
    fn varints_round_trip(value in any::<i64>()) {
        let mut bytes = Vec::new();
        varint(&mut bytes, value);
        let read = Cursor { bytes: &bytes, at: 0 }.varlong().ok();
        prop_assert_eq!(read, Some(value));
        let short = Cursor { bytes: &bytes, at: 0 }.varint().ok();
        prop_assert_eq!(short, i32::try_from(value).ok());
    }

    #[test]
    fn any_body_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), attributes in 0_i16..8) {
        let batch = TestBatch { attributes, records: vec![TestRecord::default(); 3], ..TestBatch::default() };
        let _ = body(&batch, &bytes);
    }
}

prop_compose! {
    fn any_record()(
        offset_delta in 0..1_000_i32,
        timestamp_delta in any::<i64>(),
        key in prop::option::of(prop::collection::vec(any::<u8>(), 0..40)),
        value in prop::option::of(prop::collection::vec(any::<u8>(), 0..2_000)),
        headers in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 0..9), prop::option::of(prop::collection::vec(any::<u8>(), 0..9))), 0..4),
    ) -> TestRecord {
        TestRecord { offset_delta, timestamp_delta, key, value, headers }
    }
}
