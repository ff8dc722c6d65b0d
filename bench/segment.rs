//! Prepared data: whole record batches of incompressible-looking 1 KiB records. Only the base offsets differ, which the
//! CRC does not cover.

/// Records of 1 KiB in a batch that fills Kafka's default `batch.size` of 16 KiB.
pub(crate) const RECORDS_PER_BATCH: i32 = 15;
const RECORD_VALUE_BYTES: usize = 1024;

/// At least `bytes` of consecutive batches of `records` each, from offset 0.
pub(crate) fn segment(bytes: usize, records: i32) -> Vec<u8> {
    let template = batch(records);
    let mut out = Vec::with_capacity(bytes + template.len());
    let mut base = 0_i64;
    while out.len() < bytes {
        let at = out.len();
        out.extend_from_slice(&template);
        out[at..at + 8].copy_from_slice(&base.to_be_bytes());
        base += i64::from(records);
    }
    out
}

/// One batch of `count` records at offset 0.
fn batch(count: i32) -> Vec<u8> {
    let mut records = Vec::new();
    let mut noise = 0x9E37_79B9_7F4A_7C15_u64;
    for delta in 0..count {
        let mut record = vec![0_u8]; // attributes
        varint(&mut record, 0); // timestamp delta
        varint(&mut record, delta.into());
        varint(&mut record, -1); // no key
        varint(&mut record, RECORD_VALUE_BYTES as i64);
        for _ in 0..RECORD_VALUE_BYTES / 8 {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            record.extend_from_slice(&noise.to_be_bytes());
        }
        varint(&mut record, 0); // no headers
        varint(&mut records, record.len() as i64);
        records.extend_from_slice(&record);
    }
    let mut tail = Vec::new(); // what the CRC covers
    tail.extend_from_slice(&0_i16.to_be_bytes());
    tail.extend_from_slice(&(count - 1).to_be_bytes());
    tail.extend_from_slice(&1_700_000_000_000_i64.to_be_bytes());
    tail.extend_from_slice(&1_700_000_000_000_i64.to_be_bytes());
    tail.extend_from_slice(&(-1_i64).to_be_bytes());
    tail.extend_from_slice(&(-1_i16).to_be_bytes());
    tail.extend_from_slice(&(-1_i32).to_be_bytes());
    tail.extend_from_slice(&count.to_be_bytes());
    tail.extend_from_slice(&records);
    let mut out = Vec::new();
    out.extend_from_slice(&0_i64.to_be_bytes());
    out.extend_from_slice(&(i32::try_from(tail.len() + 9).unwrap_or(i32::MAX)).to_be_bytes());
    out.extend_from_slice(&0_i32.to_be_bytes());
    out.push(2);
    out.extend_from_slice(&crc32c::crc32c(&tail).to_be_bytes());
    out.extend_from_slice(&tail);
    out
}

fn varint(out: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while zigzag >= 0x80 {
        out.push((zigzag & 0x7f) as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}
