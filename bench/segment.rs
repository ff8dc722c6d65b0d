//! Prepared data: whole record batches of incompressible-looking 1 KiB records, as a producer with the default
//! `batch.size` of 16 KiB writes them. Only the base offsets differ, which the CRC does not cover.

/// Records a batch: sixteen of 1 KiB fill Kafka's default batch.
pub(crate) const RECORDS_PER_BATCH: i32 = 15;
const RECORD_VALUE_BYTES: usize = 1024;

/// At least `bytes` of consecutive batches from offset 0.
pub(crate) fn segment(bytes: usize) -> Vec<u8> {
    let template = batch();
    let mut out = Vec::with_capacity(bytes + template.len());
    let mut base = 0_i64;
    while out.len() < bytes {
        let at = out.len();
        out.extend_from_slice(&template);
        out[at..at + 8].copy_from_slice(&base.to_be_bytes());
        base += i64::from(RECORDS_PER_BATCH);
    }
    out
}

/// One batch at offset 0.
pub(crate) fn batch() -> Vec<u8> {
    let mut records = Vec::new();
    let mut noise = 0x9E37_79B9_7F4A_7C15_u64;
    for delta in 0..RECORDS_PER_BATCH {
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
    tail.extend_from_slice(&(RECORDS_PER_BATCH - 1).to_be_bytes());
    tail.extend_from_slice(&1_700_000_000_000_i64.to_be_bytes());
    tail.extend_from_slice(&1_700_000_000_000_i64.to_be_bytes());
    tail.extend_from_slice(&(-1_i64).to_be_bytes());
    tail.extend_from_slice(&(-1_i16).to_be_bytes());
    tail.extend_from_slice(&(-1_i32).to_be_bytes());
    tail.extend_from_slice(&RECORDS_PER_BATCH.to_be_bytes());
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
