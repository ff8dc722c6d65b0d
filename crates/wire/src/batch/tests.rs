use super::*;
use crate::encoder::{TestBatch, TestRecord};
use bytes::BytesMut;

/// `count` records from `base_offset` on.
fn batch(base_offset: i64, leader_epoch: i32, count: i32) -> Bytes {
    let records = (0..count).map(|delta| TestRecord::new(delta, None, Some(b"value"))).collect();
    TestBatch { base_offset, leader_epoch, records, ..TestBatch::default() }.encode()
}

fn control(attributes: i16, key: &[u8]) -> Batch {
    let records = vec![TestRecord::new(0, Some(key), Some(&[0, 0, 0, 0, 0, 7]))];
    let mut bytes = TestBatch { attributes, records, ..TestBatch::default() }.encode();
    Batch::split_off(&mut bytes).unwrap()
}

#[test]
fn header_fields_stand_where_kafka_puts_them() {
    let bytes = batch(42, 3, 2);
    let header = BatchHeader::parse(&bytes).unwrap();
    assert_eq!(header.base_offset, Offset(42));
    assert_eq!((header.last_offset(), header.next_offset()), (Offset(43), Offset(44)));
    assert_eq!((header.leader_epoch, header.record_count), (LeaderEpoch(3), 2));
    assert_eq!(header.size_bytes, bytes.len());
    assert_eq!((header.has_producer(), header.last_sequence()), (false, -1));
    assert_eq!(header.compression(), Some(Compression::None));
}

#[test]
fn flags_are_read_bit_by_bit() {
    let header = |attributes| {
        let bytes = TestBatch { attributes, base_timestamp: 99, ..TestBatch::default() }.encode();
        BatchHeader::parse(&bytes).unwrap()
    };
    let plain = header(0);
    assert!(!plain.is_control() && !plain.is_transactional() && !plain.is_log_append_time());
    assert_eq!(plain.delete_horizon(), None);
    assert!(header(0x08).is_log_append_time());
    assert!(header(0x10).is_transactional());
    assert!(header(0x20).is_control());
    assert_eq!(header(0x40).delete_horizon(), Some(99));
    let codecs: Vec<_> = (0..8).map(|bits| header(bits).compression()).collect();
    let known = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    assert_eq!(codecs[..5], known.map(Some));
    assert_eq!(codecs[5..], [None; 3]);
}

#[test]
fn sequences_run_over_to_zero() {
    let mut header = BatchHeader::parse(&batch(0, 0, 3)).unwrap();
    header.base_sequence = 10;
    assert_eq!(header.last_sequence(), 12);
    header.base_sequence = i32::MAX - 1;
    assert_eq!(header.last_sequence(), 0);
}

#[test]
fn old_formats_are_named() {
    for (magic, old) in [(0_i8, true), (1, true), (3, false), (-1, false)] {
        let mut bytes = BytesMut::from(&batch(7, 0, 1)[..]);
        bytes[16] = magic.cast_unsigned();
        let expected = if old {
            BatchError::OldFormat { base_offset: 7, magic }
        } else {
            BatchError::UnknownMagic { base_offset: 7, magic }
        };
        assert_eq!(BatchHeader::parse(&bytes), Err(expected));
    }
}

#[test]
fn every_cut_is_truncation() {
    let bytes = batch(7, 0, 1);
    for end in 0..bytes.len() {
        let error = BatchHeader::parse(&bytes[..end]).unwrap_err();
        assert!(matches!(error, BatchError::Truncated { have, .. } if have == end), "cut at {end}: {error}");
    }
}

#[test]
fn impossible_fields_are_malformed() {
    let edited = |at: usize, new: &[u8]| {
        let mut bytes = BytesMut::from(&batch(7, 0, 1)[..]);
        bytes[at..at + new.len()].copy_from_slice(new);
        BatchHeader::parse(&bytes)
    };
    for (at, new) in [
        (0, &[0xff_u8; 8][..]),                                 // base offset -1
        (0, &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), // no next offset
        (8, &[0xff; 4]),                                        // negative length
        (8, &[0, 0, 0, 48]),                                    // shorter than a header
        (23, &[0xff; 4]),                                       // negative offset delta
        (57, &[0xff; 4]),                                       // negative count
    ] {
        assert!(matches!(edited(at, new), Err(BatchError::Malformed { .. })), "{at}: {new:?}");
    }
}

#[test]
fn each_bit_behind_the_crc_is_covered() {
    let good = batch(7, 0, 2);
    for at in CRC_START..good.len() {
        let mut bytes = BytesMut::from(&good[..]);
        bytes[at] ^= 0x10;
        let header = BatchHeader { size_bytes: bytes.len(), ..BatchHeader::parse(&good).unwrap() };
        let error = Batch { header, bytes: bytes.freeze() }.check_crc().unwrap_err();
        assert!(matches!(error, BatchError::Crc { base_offset: 7, .. }));
    }
}

#[test]
fn batches_are_slices_and_a_cut_tail_is_left() {
    let all = [batch(0, 1, 3), batch(3, 1, 1), batch(10, 2, 2)].concat();
    let tail = batch(12, 2, 1);
    let bytes = Bytes::from([&all, &tail[..tail.len() - 1]].concat());
    let mut batches = Batches::verified(bytes.clone(), Offset(0), LeaderEpoch(1));
    let found: Vec<_> = batches.by_ref().map(Result::unwrap).collect();
    assert_eq!(found.iter().map(|batch| batch.header.base_offset.0).collect::<Vec<_>>(), [0, 3, 10]);
    assert_eq!(found[0].bytes.as_ptr(), bytes.as_ptr());
    assert_eq!(batches.rest().len(), tail.len() - 1);
    assert!(batches.next().is_none());
}

#[test]
fn order_and_epochs_are_checked() {
    let run = |first: Bytes, second: Bytes, log_end| {
        let bytes = Bytes::from([first, second].concat());
        let found: Vec<_> = Batches::verified(bytes, Offset(log_end), LeaderEpoch(2)).collect();
        found.into_iter().map(|batch| batch.map(|batch| batch.header.base_offset.0)).collect::<Vec<_>>()
    };
    let out_of_order = |base_offset, expected| Err(BatchError::OutOfOrder { base_offset, expected });
    assert_eq!(run(batch(5, 2, 3), batch(7, 2, 1), 5), [Ok(5), out_of_order(7, 8)]);
    assert_eq!(run(batch(5, 2, 3), batch(8, 2, 1), 6), [out_of_order(5, 6)]);
    let fell = Err(BatchError::EpochFell { base_offset: 8, epoch: 2, previous: 3 });
    assert_eq!(run(batch(5, 3, 3), batch(8, 2, 1), 0), [Ok(5), fell]);
    assert_eq!(run(batch(5, 2, 3), batch(9, 3, 1), 5), [Ok(5), Ok(9)]);
}

#[test]
fn unverified_batches_skip_the_checks() {
    let mut bytes = BytesMut::from(&[batch(5, 3, 1), batch(1, 0, 1)].concat()[..]);
    bytes[30] ^= 1;
    assert_eq!(Batches::unverified(bytes.freeze()).map(Result::unwrap).count(), 2);
}

#[test]
fn control_types() {
    let of = |key: &[u8]| control(0x30, key).control_type();
    assert_eq!(of(&[0, 0, 0, 0]), Ok(Some(ControlType::Abort)));
    assert_eq!(of(&[0, 0, 0, 1]), Ok(Some(ControlType::Commit)));
    assert_eq!(of(&[0, 1, 0, 1]), Ok(Some(ControlType::Commit)));
    assert_eq!(of(&[0, 0, 0, 2]), Ok(Some(ControlType::Other(2))));
    assert!(of(&[0, 0, 0]).is_err());
    assert!(of(&[0xff, 0xff, 0, 0]).is_err());
    assert!(control(0x31, &[0, 0, 0, 0]).control_type().is_err(), "compressed");
    assert_eq!(control(0x10, &[0, 0, 0, 0]).control_type(), Ok(None), "data");
    let mut emptied = TestBatch { attributes: 0x30, ..TestBatch::default() }.encode();
    assert_eq!(Batch::split_off(&mut emptied).unwrap().control_type(), Ok(None));
}
