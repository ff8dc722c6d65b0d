//! The read side of a partition: batches by offset, offsets by timestamp, aborted transactions.
//!
//! No lock that a writer takes is held while a file is read, so readers hold up neither the writer nor each other; only who
//! swaps a compacted segment in waits for them. What a reader copied out of
//! the state stays true unless data is taken away meanwhile; it then looks again.

use crate::files::Kind;
use crate::header::Header;
use crate::partition::{PartitionLog, State};
use crate::segment::{Segment, Walk};
use crate::{AbortedTransaction, Error, TimestampedOffset};
use bytes::Bytes;
use hawser_wire::{Batch, Offset};
use std::io;
use std::sync::PoisonError;

/// How often a reader looks again because data was taken away under it; more than once is rare.
const TRIES_MAX: usize = 10;
/// Most bytes that a batch may decompress to in a search by timestamp. They are not kept; the bound is on time.
const BATCH_OUTPUT_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// A chunk of which more is left over than this part of what is wanted, and a page, is not kept: see `held_bytes_max`.
const WASTE_PART: usize = 8;
/// Least bytes read at once: one page.
const READ_BYTES_MIN: usize = 4096;

impl PartitionLog {
    /// Whole batches from the one that holds `from` on, below `up_to` and within `bytes_max`; at least one batch
    /// if `at_least_one`. All come from one segment. Empty at the end. What it holds is bounded by [`held_bytes_max`].
    ///
    /// # Errors
    /// `OutOfRange`, `Io`.
    pub fn read(&self, from: Offset, up_to: Offset, bytes_max: usize, at_least_one: bool) -> Result<Bytes, Error> {
        let wanted = Wanted { from, up_to, bytes_max, at_least_one };
        self.look(
            "read",
            |state| {
                let (log_start, log_end) = (state.log_start, state.log_end);
                if from < log_start || from > log_end {
                    return Err(Error::OutOfRange { offset: from, log_start, log_end });
                }
                Ok(state.segments.get(state.segment_at(from)..).unwrap_or_default().iter().take(2).cloned().collect())
            },
            |segments: &Vec<Segment>| {
                // Offsets may be missing at the end of a segment: the batch is then the first of a later one.
                for segment in segments {
                    if let Some(bytes) = self.read_segment(segment, wanted)? {
                        return Ok(bytes);
                    }
                }
                Ok(Bytes::new())
            },
        )
    }

    /// `None` if the segment has no batch at or above `from`.
    fn read_segment(&self, segment: &Segment, wanted: Wanted) -> io::Result<Option<Bytes>> {
        if segment.size == 0 {
            return Ok(None); // its files may not be there yet
        }
        let open = &self.directory.open_files;
        let file = open.open(&segment.files, Kind::Log)?;
        // Bytes before the batch that holds `from` are read with it: at most an index interval and a batch.
        let slack = self.directory.config.index_interval_bytes as usize;
        let room = wanted.bytes_max.saturating_add(slack).max(READ_BYTES_MIN);
        let mut position = segment.lookup(open, wanted.from)?;
        while position < segment.size {
            let chunk = file.read(room.min((segment.size - position) as usize), position)?;
            let mut at = 0;
            let first = loop {
                match Header::parse(chunk.get(at..).unwrap_or_default()) {
                    Some(header) if header.last < wanted.from => at = at.saturating_add(header.size as usize),
                    Some(header) => break Some(header),
                    None => break None,
                }
            };
            let Some(first) = first else {
                if at == 0 {
                    return Ok(None);
                }
                position += at as u64; // perhaps beyond the chunk
                continue;
            };
            let first_size = first.size as usize;
            if first.next() > wanted.up_to || (first_size > wanted.bytes_max && !wanted.at_least_one) {
                return Ok(Some(Bytes::new()));
            }
            if chunk.len() - at < first_size {
                return Ok(Some(file.read(first_size, position + at as u64)?.into()));
            }
            let end = wanted.end(&chunk, at, first_size);
            return Ok(Some(without_waste(chunk, at, end)));
        }
        Ok(None)
    }

    /// First record at or after `timestamp` (ms) at or above the log start, as `UnifiedLog.fetchOffsetByTimestamp`.
    ///
    /// # Errors
    /// File errors.
    pub fn offset_for_timestamp(&self, timestamp: i64) -> Result<Option<TimestampedOffset>, Error> {
        self.look(
            "find a timestamp in",
            |state| {
                let segment = state.segments.iter().find(|segment| segment.max_timestamp >= timestamp);
                Ok((segment.cloned(), state.log_start))
            },
            |(segment, log_start)| {
                let Some(segment) = segment else { return Ok(None) };
                let open = &self.directory.open_files;
                let from = segment.offset_before(open, timestamp)?.max(*log_start);
                let mut walk = Walk::new(segment, open, segment.lookup(open, from)?)?;
                while let Some((position, header)) = walk.next()? {
                    if header.max_timestamp >= timestamp
                        && header.last >= *log_start
                        && let Some(found) = self.first_record(segment, position, &header, timestamp, *log_start)?
                    {
                        return Ok(Some(found));
                    }
                }
                Ok(None)
            },
        )
    }

    /// The first record with the largest timestamp (`ListOffsets` −3), `None` when empty.
    ///
    /// # Errors
    /// File errors.
    pub fn offset_of_max_timestamp(&self) -> Result<Option<TimestampedOffset>, Error> {
        self.look(
            "find the largest timestamp in",
            |state| {
                let largest = state.segments.iter().map(|segment| segment.max_timestamp).max().unwrap_or(-1);
                let segment = state.segments.iter().find(|segment| segment.max_timestamp == largest && largest >= 0);
                Ok(segment.cloned())
            },
            |segment| {
                let Some(segment) = segment else { return Ok(None) };
                let open = &self.directory.open_files;
                let mut walk = Walk::new(segment, open, segment.lookup(open, segment.max_timestamp_offset)?)?;
                while let Some((position, header)) = walk.next()? {
                    if header.max_timestamp == segment.max_timestamp {
                        return self.first_record(segment, position, &header, header.max_timestamp, Offset(0));
                    }
                }
                Ok(None)
            },
        )
    }

    /// The first record of a batch at or after `timestamp` and at or above `from`.
    fn first_record(
        &self,
        segment: &Segment,
        position: u64,
        header: &Header,
        timestamp: i64,
        from: Offset,
    ) -> io::Result<Option<TimestampedOffset>> {
        let file = self.directory.open_files.open(&segment.files, Kind::Log)?;
        let mut bytes = Bytes::from(file.read(header.size as usize, position)?);
        let invalid = |error: String| io::Error::new(io::ErrorKind::InvalidData, error);
        let batch = Batch::split_off(&mut bytes).map_err(|error| invalid(error.to_string()))?;
        for record in batch.records(BATCH_OUTPUT_BYTES_MAX) {
            let record = record.map_err(|error| invalid(error.to_string()))?;
            if record.timestamp >= timestamp && record.offset >= from {
                let (timestamp, offset) = (record.timestamp, record.offset);
                return Ok(Some(TimestampedOffset { timestamp, offset, leader_epoch: header.epoch }));
            }
        }
        Ok(None)
    }

    /// Aborted transactions that overlap [from, up_to), from the `.txnindex` files (`UnifiedLog.collectAbortedTransactions`).
    ///
    /// # Errors
    /// File errors.
    pub fn aborted_transactions(&self, from: Offset, up_to: Offset) -> Result<Vec<AbortedTransaction>, Error> {
        self.look(
            "read aborted transactions of",
            |state| Ok(state.segments.get(state.segment_at(from)..).unwrap_or_default().to_vec()),
            |segments: &Vec<Segment>| {
                let mut found = Vec::new();
                for segment in segments {
                    for aborted in segment.aborted(&self.directory.open_files)? {
                        let transaction = aborted.transaction;
                        if transaction.last_offset >= from && transaction.first_offset < up_to {
                            found.push(transaction);
                        }
                        if aborted.last_stable >= up_to {
                            return Ok(found);
                        }
                    }
                }
                Ok(found)
            },
        )
    }

    /// Copies something out of the state with `copy` and reads files with it; again if data was taken away meanwhile.
    fn look<C, T>(
        &self,
        what: &str,
        copy: impl Fn(&State) -> Result<C, Error>,
        read: impl Fn(&C) -> io::Result<T>,
    ) -> Result<T, Error> {
        let mut tries = TRIES_MAX;
        loop {
            let _replacing = self.replacing.read().unwrap_or_else(PoisonError::into_inner);
            let (copied, removals) = {
                let state = self.lock();
                (copy(&state)?, state.removals)
            };
            let outcome = read(&copied);
            tries -= 1;
            if tries == 0 || self.lock().removals == removals {
                return outcome.map_err(|source| self.io(what, source));
            }
        }
    }
}

/// The part of `chunk` from `at` to `end`, in place or, if that would keep too much else, copied.
fn without_waste(chunk: Vec<u8>, at: usize, end: usize) -> Bytes {
    match chunk.get(at..end) {
        Some(part) if chunk.capacity() > held_bytes_max(part.len()) => Bytes::copy_from_slice(part),
        _ => Bytes::from(chunk).slice(at..end),
    }
}

/// Most bytes of memory that [`PartitionLog::read`] holds for an answer of `bytes`.
pub fn held_bytes_max(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        bytes => bytes.saturating_add(bytes / WASTE_PART).saturating_add(READ_BYTES_MIN),
    }
}

#[derive(Clone, Copy)]
struct Wanted {
    from: Offset,
    up_to: Offset,
    bytes_max: usize,
    at_least_one: bool,
}

impl Wanted {
    /// Where the last batch ends that lies whole in `chunk` and in what is wanted. The first, at `at`, does.
    fn end(self, chunk: &[u8], at: usize, first_size: usize) -> usize {
        let mut end = at + first_size;
        while let Some(header) = Header::parse(chunk.get(end..).unwrap_or_default()) {
            let next = end.saturating_add(header.size as usize);
            if next > chunk.len() || next - at > self.bytes_max || header.next() > self.up_to {
                break;
            }
            end = next;
        }
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_is_held_beyond_what_was_asked_for() {
        // Little waste stays where it is, much is left behind.
        let chunk: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        let address = chunk.as_ptr();
        let whole = without_waste(chunk.clone(), 10, 99_000);
        assert_eq!(whole, chunk[10..99_000]);
        let in_place = without_waste(chunk, 0, 100_000);
        assert_eq!(in_place.as_ptr(), address);
        let mut wasteful = Vec::with_capacity(1 << 20);
        wasteful.extend_from_slice(&[7; 10_000]);
        let part = without_waste(wasteful, 100, 200);
        assert_eq!(part, [7; 100][..]);
        // What was copied has a buffer of its own size.
        assert!(part.try_into_mut().unwrap().capacity() < 1000);
        assert_eq!(held_bytes_max(0), 0);
        assert_eq!(held_bytes_max(80_000), 80_000 + 10_000 + 4096);
    }
}
