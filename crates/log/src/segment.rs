//! One segment: a `.log` file with its indexes, and how to find a batch in it.
//!
//! A [`Segment`] is a value: the sizes up to which its files are valid, and a handle on them. A reader takes a copy under
//! the partition's lock and then reads without any; what lies beyond the sizes is nobody's. Index rules are those of
//! Kafka's `LogSegment.append`, `OffsetIndex`, `TimeIndex` and `TransactionIndex`.

use crate::files::{Kind, OpenFiles, SegmentFiles};
use crate::header::{CONTROL_BYTES, Header, Marker, marker};
use crate::topic_config::TopicConfig;
use crate::transactions::{ABORTED_BYTES, Aborted};
use hawser_wire::{Offset, batch::HEADER_BYTES};
use std::io;
use std::sync::Arc;

/// Bytes of an entry of the offset index: relative offset, position.
pub(crate) const OFFSET_ENTRY_BYTES: u64 = 8;
/// Bytes of an entry of the time index: timestamp, relative offset.
pub(crate) const TIME_ENTRY_BYTES: u64 = 12;
/// Bytes read at once while walking over headers: a page, which holds many small batches.
const WALK_BYTES: usize = 4096;

/// The valid part of a segment.
#[derive(Clone)]
pub(crate) struct Segment {
    pub(crate) files: Arc<SegmentFiles>,
    /// Bytes of the `.log`.
    pub(crate) size: u64,
    pub(crate) offset_entries: u32,
    pub(crate) time_entries: u32,
    pub(crate) txn_entries: u32,
    /// Position of the batch that the last offset index entry points at, 0 without one.
    pub(crate) indexed_position: u64,
    /// Timestamp of the last time index entry, −1 without one.
    pub(crate) indexed_timestamp: i64,
    /// Largest timestamp of all batches, −1 without one, and the last offset of the first batch that has it.
    pub(crate) max_timestamp: i64,
    pub(crate) max_timestamp_offset: Offset,
}

/// Index entries that an append adds, encoded.
#[derive(Default)]
pub(crate) struct IndexEntries {
    pub(crate) offsets: Vec<u8>,
    pub(crate) times: Vec<u8>,
}

/// A batch found in a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) position: u64,
    /// Where the batch before it in the segment ends, the segment's base if there is none.
    pub(crate) end_before: Offset,
}

impl Segment {
    /// A segment without batches.
    pub(crate) fn empty(files: Arc<SegmentFiles>) -> Self {
        let base = files.base();
        Self {
            files,
            size: 0,
            offset_entries: 0,
            time_entries: 0,
            txn_entries: 0,
            indexed_position: 0,
            indexed_timestamp: -1,
            max_timestamp: -1,
            max_timestamp_offset: base,
        }
    }

    pub(crate) fn base(&self) -> Offset {
        self.files.base()
    }

    /// Whether a batch can be appended without a roll (`LogSegment.shouldRoll`). Any batch fits an empty segment, but for
    /// an offset too far from its base.
    pub(crate) fn has_room_for(&self, header: &Header, config: &TopicConfig) -> bool {
        let bytes_max = config.segment_index_bytes;
        (self.size == 0 || self.size + header.size <= config.segment_bytes)
            && self.reaches(header)
            && u64::from(self.offset_entries) < (bytes_max / OFFSET_ENTRY_BYTES).max(1)
            && u64::from(self.time_entries) < (bytes_max / TIME_ENTRY_BYTES).saturating_sub(1).max(1)
    }

    /// Whether the batch's offsets are near enough to the segment's base for a 32-bit relative offset.
    pub(crate) fn reaches(&self, header: &Header) -> bool {
        i32::try_from(header.last.0.saturating_sub(self.base().0)).is_ok()
    }

    /// Takes a batch in at the end and adds the index entries that it brings.
    pub(crate) fn add(&mut self, header: &Header, interval_bytes: u64, entries: &mut IndexEntries) {
        if header.max_timestamp > self.max_timestamp {
            self.max_timestamp = header.max_timestamp;
            self.max_timestamp_offset = header.last;
        }
        if self.size - self.indexed_position > interval_bytes {
            entries.offsets.extend(self.relative(header.last).to_be_bytes());
            entries.offsets.extend((self.size as u32).to_be_bytes());
            self.offset_entries += 1;
            self.indexed_position = self.size;
            self.add_time_entry(&mut entries.times);
        }
        self.size += header.size;
    }

    /// Adds the largest timestamp so far to the time index unless it is there already (`TimeIndex.maybeAppend`).
    pub(crate) fn add_time_entry(&mut self, times: &mut Vec<u8>) {
        if self.max_timestamp > self.indexed_timestamp {
            times.extend(self.max_timestamp.to_be_bytes());
            times.extend(self.relative(self.max_timestamp_offset).to_be_bytes());
            self.time_entries += 1;
            self.indexed_timestamp = self.max_timestamp;
        }
    }

    fn relative(&self, offset: Offset) -> i32 {
        i32::try_from(offset.0 - self.base().0).unwrap_or(i32::MAX)
    }

    /// Writes `entries`, which `self` counts already, at the ends of the index files.
    pub(crate) fn write_entries(&self, open: &OpenFiles, entries: &IndexEntries) -> io::Result<()> {
        let write = |kind, bytes: &[u8], end: u64| -> io::Result<()> {
            if bytes.is_empty() {
                return Ok(());
            }
            open.open(&self.files, kind)?.write_all_at(bytes, end - bytes.len() as u64)
        };
        write(Kind::OffsetIndex, &entries.offsets, self.valid_bytes(Kind::OffsetIndex))?;
        write(Kind::TimeIndex, &entries.times, self.valid_bytes(Kind::TimeIndex))
    }

    /// Bytes of a file of this segment that are valid.
    pub(crate) fn valid_bytes(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Log => self.size,
            Kind::OffsetIndex => u64::from(self.offset_entries) * OFFSET_ENTRY_BYTES,
            Kind::TimeIndex => u64::from(self.time_entries) * TIME_ENTRY_BYTES,
            Kind::TxnIndex => u64::from(self.txn_entries) * ABORTED_BYTES as u64,
        }
    }

    /// Bytes of all files.
    pub(crate) fn bytes_on_disk(&self) -> u64 {
        crate::files::KINDS.iter().map(|kind| self.valid_bytes(*kind)).sum()
    }

    /// Position of a batch at or before the one that holds `offset` (`OffsetIndex.lookup`), not above `size`.
    pub(crate) fn lookup(&self, open: &OpenFiles, offset: Offset) -> io::Result<u64> {
        if self.offset_entries == 0 {
            return Ok(0);
        }
        let index = open.open(&self.files, Kind::OffsetIndex)?;
        let target = offset.0 - self.base().0;
        let mut entry = [0; OFFSET_ENTRY_BYTES as usize];
        let slot = last_slot(self.offset_entries, |slot| {
            index.read_at(&mut entry, u64::from(slot) * OFFSET_ENTRY_BYTES)?;
            Ok(i64::from(split_offset_entry(entry).0) <= target)
        })?;
        let Some(slot) = slot else { return Ok(0) };
        index.read_at(&mut entry, u64::from(slot) * OFFSET_ENTRY_BYTES)?;
        let position = u64::from(split_offset_entry(entry).1);
        Ok(if position < self.size { position } else { 0 })
    }

    /// The last time index entry with a timestamp below `timestamp`: every batch up to its offset is older
    /// (`TimeIndex.lookup` takes entries at `timestamp` too; the scan that follows finds the same batch).
    pub(crate) fn offset_before(&self, open: &OpenFiles, timestamp: i64) -> io::Result<Offset> {
        if self.time_entries == 0 {
            return Ok(self.base());
        }
        let index = open.open(&self.files, Kind::TimeIndex)?;
        let mut entry = [0; TIME_ENTRY_BYTES as usize];
        let slot = last_slot(self.time_entries, |slot| {
            index.read_at(&mut entry, u64::from(slot) * TIME_ENTRY_BYTES)?;
            Ok(split_time_entry(entry).0 < timestamp)
        })?;
        let Some(slot) = slot else { return Ok(self.base()) };
        index.read_at(&mut entry, u64::from(slot) * TIME_ENTRY_BYTES)?;
        Ok(Offset(self.base().0 + i64::from(split_time_entry(entry).1)))
    }

    /// Number of time index entries for offsets below `end`, and the last of them (timestamp, offset).
    pub(crate) fn time_entries_below(&self, open: &OpenFiles, end: Offset) -> io::Result<(u32, i64, Offset)> {
        let none = (0, -1, self.base());
        if self.time_entries == 0 {
            return Ok(none);
        }
        let index = open.open(&self.files, Kind::TimeIndex)?;
        let target = end.0 - self.base().0;
        let mut entry = [0; TIME_ENTRY_BYTES as usize];
        let slot = last_slot(self.time_entries, |slot| {
            index.read_at(&mut entry, u64::from(slot) * TIME_ENTRY_BYTES)?;
            Ok(i64::from(split_time_entry(entry).1) < target)
        })?;
        let Some(slot) = slot else { return Ok(none) };
        index.read_at(&mut entry, u64::from(slot) * TIME_ENTRY_BYTES)?;
        let (timestamp, relative) = split_time_entry(entry);
        Ok((slot + 1, timestamp, Offset(self.base().0 + i64::from(relative))))
    }

    /// Number of offset index entries for positions below `size`, and the position of the last of them.
    pub(crate) fn offset_entries_below(&self, open: &OpenFiles, size: u64) -> io::Result<(u32, u64)> {
        if self.offset_entries == 0 {
            return Ok((0, 0));
        }
        let index = open.open(&self.files, Kind::OffsetIndex)?;
        let mut entry = [0; OFFSET_ENTRY_BYTES as usize];
        let slot = last_slot(self.offset_entries, |slot| {
            index.read_at(&mut entry, u64::from(slot) * OFFSET_ENTRY_BYTES)?;
            Ok(u64::from(split_offset_entry(entry).1) < size)
        })?;
        let Some(slot) = slot else { return Ok((0, 0)) };
        index.read_at(&mut entry, u64::from(slot) * OFFSET_ENTRY_BYTES)?;
        Ok((slot + 1, u64::from(split_offset_entry(entry).1)))
    }

    /// The first batch whose last offset is `offset` or above; `None` if the segment ends before.
    pub(crate) fn find(&self, open: &OpenFiles, offset: Offset) -> io::Result<Option<Found>> {
        let mut walk = Walk::new(self, open, self.lookup(open, offset)?)?;
        let mut end_before = if walk.position == 0 { Some(self.base()) } else { None };
        while let Some((position, header)) = walk.next()? {
            if header.last >= offset {
                let end_before = match end_before {
                    Some(end) => end,
                    None => self.end_before(open, position)?,
                };
                return Ok(Some(Found { position, end_before }));
            }
            end_before = Some(header.next());
        }
        Ok(None)
    }

    /// Where the batch before `position` ends. Only needed when an index entry points right at `position`.
    fn end_before(&self, open: &OpenFiles, position: u64) -> io::Result<Offset> {
        let start = match self.offset_entries_below(open, position)? {
            (0, _) => 0,
            (_, indexed) => indexed,
        };
        let mut walk = Walk::new(self, open, start)?;
        let mut end = self.base();
        while walk.position < position
            && let Some((_, header)) = walk.next()?
        {
            end = header.next();
        }
        Ok(end)
    }

    /// Every aborted transaction of the `.txnindex`.
    pub(crate) fn aborted(&self, open: &OpenFiles) -> io::Result<Vec<Aborted>> {
        if self.txn_entries == 0 {
            return Ok(Vec::new());
        }
        let bytes = open.open(&self.files, Kind::TxnIndex)?.read(self.valid_bytes(Kind::TxnIndex) as usize, 0)?;
        Ok(bytes.chunks_exact(ABORTED_BYTES).filter_map(Aborted::decode).collect())
    }
}

/// Steps over the headers of a segment without reading the records.
pub(crate) struct Walk {
    file: Arc<crate::disk::DiskFile>,
    /// Where the next batch begins.
    pub(crate) position: u64,
    size: u64,
    chunk: Vec<u8>,
    chunk_start: u64,
}

impl Walk {
    pub(crate) fn new(segment: &Segment, open: &OpenFiles, position: u64) -> io::Result<Self> {
        let file = open.open(&segment.files, Kind::Log)?;
        Ok(Self { file, position, size: segment.size, chunk: Vec::new(), chunk_start: 0 })
    }

    /// The next batch that lies wholly below the segment's size, and its position. `None` at the end, and where bytes are
    /// no batch.
    pub(crate) fn next(&mut self) -> io::Result<Option<(u64, Header)>> {
        let position = self.position;
        let Some(header) = Header::parse(self.bytes(position, HEADER_BYTES)?) else { return Ok(None) };
        if position + header.size > self.size {
            return Ok(None);
        }
        self.position = position + header.size;
        Ok(Some((position, header)))
    }

    /// What the control batch at `position` says.
    pub(crate) fn marker(&mut self, position: u64) -> io::Result<Option<Marker>> {
        Ok(marker(self.bytes(position, CONTROL_BYTES)?))
    }

    /// `count` bytes at `position`, fewer at the end of the file.
    fn bytes(&mut self, position: u64, count: usize) -> io::Result<&[u8]> {
        let from = position.wrapping_sub(self.chunk_start) as usize;
        let held = position >= self.chunk_start && from.saturating_add(count) <= self.chunk.len();
        if !held {
            let left = self.size.saturating_sub(position).min(WALK_BYTES as u64) as usize;
            self.chunk = self.file.read(left, position)?;
            self.chunk_start = position;
        }
        let from = (position - self.chunk_start) as usize;
        let bytes = self.chunk.get(from..).unwrap_or_default();
        Ok(bytes.get(..count).unwrap_or(bytes))
    }
}

/// The last of `count` slots for which `is_below` holds, given that it holds for a prefix of them.
fn last_slot(count: u32, mut is_below: impl FnMut(u32) -> io::Result<bool>) -> io::Result<Option<u32>> {
    // The last entry first: readers are mostly at the end.
    if count == 0 || is_below(count - 1)? {
        return Ok(count.checked_sub(1));
    }
    let (mut low, mut high) = (0, count - 1);
    while low < high {
        let middle = low + (high - low) / 2;
        if is_below(middle)? { low = middle + 1 } else { high = middle }
    }
    Ok(low.checked_sub(1))
}

fn split_offset_entry(entry: [u8; OFFSET_ENTRY_BYTES as usize]) -> (i32, u32) {
    let [a, b, c, d, e, f, g, h] = entry;
    (i32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]))
}

fn split_time_entry(entry: [u8; TIME_ENTRY_BYTES as usize]) -> (i64, i32) {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = entry;
    (i64::from_be_bytes([a, b, c, d, e, f, g, h]), i32::from_be_bytes([i, j, k, l]))
}
