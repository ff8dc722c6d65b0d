//! Compaction of one ordinary partition: of each key the last record stays (Kafka's `Cleaner`, KIP-58, KIP-354, KIP-534).
//!
//! A round reads the dirty part, from where the last one ended up to the active segment, the last stable offset or
//! `min.compaction.lag.ms`, and remembers each key's last offset; then it writes the segments below anew, without what is
//! out of date. What stays: a tombstone until `delete.retention.ms` after the first round that saw it last of its key; a
//! transaction's marker until its records are gone and as long again; of every producer the batch with its last sequence
//! number, if need be without records; and the last batch of every segment, so that segments touch, as recovery wants them.
//!
//! *Swap.* New files are made as `.cleaned` and synced, then renamed to `.swap`, the log last: from there on the new segment
//! counts. The old files become `.deleted`, the `.swap` ones get their names, the log last. Whenever it is interrupted, the
//! next load throws the unfinished away or goes on from the log's `.swap`; see [`roll_forward`].

use crate::cleaner::Stop;
use crate::disk::{Disk, DiskFile};
use crate::files::{KINDS, Kind, SegmentFiles, base_of, segment_path};
use crate::header::{Header, Marker, marker};
use crate::partition::{PartitionLog, Status, lock};
use crate::segment::{IndexEntries, Segment, Walk};
use crate::topic_config::TopicConfig;
use crate::transactions::Aborted;
use bytes::Bytes;
use hawser_wire::batch::HEADER_BYTES;
use hawser_wire::{Batch, BatchWriter, Compression, Offset, Record};
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

/// Most bytes that a batch may decompress to. They are not kept; the bound is on time.
const BATCH_OUTPUT_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// Bytes gathered before they are written.
const WRITE_BYTES: usize = 1024 * 1024;

/// What there is to compact in a log.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Dirty {
    /// Where the last round ended.
    pub(crate) from: Offset,
    /// The base of the first segment that is left alone.
    pub(crate) up_to: Offset,
    /// Dirty bytes of all that could be cleaned, 0 to 1; above 1 if `max.compaction.lag.ms` has passed.
    pub(crate) share: f64,
}

/// Why a round came to nothing; the log is as it was.
#[derive(Debug)]
pub(crate) enum CompactError {
    /// The daemon stops, or the log changed meanwhile.
    Interrupted,
    /// A file operation failed.
    Io(io::Error),
    /// A batch cannot be read, or has more keys than fit the map.
    Unreadable(String),
}

impl From<io::Error> for CompactError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The last offset of each key, known by the first half of its SHA-256: nobody can make two keys look alike.
struct LastOffsets {
    offsets: HashMap<[u8; 16], Offset>,
    keys_max: usize,
    /// All records up to here were looked at.
    latest: Offset,
}

/// Which transactions' batches are passed, and whether they were aborted (`CleanedTransactionMetadata`).
struct Fates {
    /// Aborted transactions that begin further on, the nearest last.
    ahead: Vec<Aborted>,
    /// By producer; whether a batch of it was seen.
    aborted: HashMap<i64, (Aborted, bool)>,
    committed: HashSet<i64>,
    /// Whose markers stay: the transaction index of the new segment.
    kept: Vec<Aborted>,
}

/// What a round goes by.
struct Round<'a> {
    log: &'a PartitionLog,
    config: Arc<TopicConfig>,
    last: LastOffsets,
    now_ms: i64,
}

impl PartitionLog {
    /// What of this log is to be compacted now, if it is dirty enough (`LogCleanerManager.cleanableOffsets`,
    /// `grabFilthiestCompactedLog`).
    pub(crate) fn dirty(&self, cleaned_to: Option<Offset>, now_ms: i64) -> io::Result<Option<Dirty>> {
        let (segments, at, config) = {
            let state = self.lock();
            if state.leading.is_none() || !state.config.compact || state.refuse_if_stopped().is_err() {
                return Ok(None);
            }
            (state.segments.clone(), state.watermarks(), state.config.clone())
        };
        let Some((active, closed)) = segments.split_last() else { return Ok(None) };
        let from = cleaned_to.filter(|to| (at.log_start..=at.log_end).contains(to)).unwrap_or(at.log_start);
        let holds = |offset: Offset| closed.partition_point(|segment| segment.base() <= offset).saturating_sub(1);
        let too_young = |segment: &&Segment| {
            config.min_compaction_lag_ms > 0
                && segment.max_timestamp > now_ms.saturating_sub(config.min_compaction_lag_ms)
        };
        let dirty_closed = closed.get(holds(from)..).unwrap_or_default();
        let young = dirty_closed.iter().find(too_young).map(Segment::base);
        let limit = [Some(at.last_stable), Some(at.flushed), Some(active.base()), young].into_iter().flatten().min();
        let limit = limit.unwrap_or(from);
        let up_to = match limit == active.base() {
            true => limit,
            false => closed.get(holds(limit)).map_or(from, Segment::base),
        };
        if up_to <= from {
            return Ok(None);
        }
        let clean: u64 = closed.iter().filter(|segment| segment.base() < from).map(|segment| segment.size).sum();
        let dirty: u64 = dirty_closed.iter().filter(|segment| segment.base() < up_to).map(|segment| segment.size).sum();
        if dirty == 0 {
            return Ok(None);
        }
        let mut share = dirty as f64 / (clean + dirty) as f64;
        let mut due = share > config.min_cleanable_dirty_ratio;
        if config.max_compaction_lag_ms < i64::MAX {
            for segment in dirty_closed.iter().filter(|segment| segment.size > 0 && segment.base() < up_to) {
                let first = Walk::new(segment, &self.directory.open_files, 0)?.next()?;
                let overdue = |first: i64| first > 0 && first < now_ms.saturating_sub(config.max_compaction_lag_ms);
                if first.is_some_and(|(_, first)| overdue(first.max_timestamp)) {
                    (due, share) = (true, share + 1.0);
                    break;
                }
            }
        }
        Ok(due.then_some(Dirty { from, up_to, share }))
    }

    /// One round; where it ended.
    pub(crate) fn compact(&self, dirty: &Dirty, keys_max: usize, now_ms: i64) -> Result<Offset, CompactError> {
        let (segments, config) = {
            let state = self.lock();
            (state.segments.clone(), state.config.clone())
        };
        let mut round = Round {
            log: self,
            config,
            last: LastOffsets { offsets: HashMap::new(), keys_max, latest: Offset(dirty.from.0 - 1) },
            now_ms,
        };
        round.read_dirty(&segments, dirty)?;
        let end = Offset(round.last.latest.0 + 1);
        if end <= dirty.from {
            return Err(CompactError::Unreadable(format!("one batch at {end} has more than {keys_max} keys")));
        }
        let mut fates = Fates::of(self, &segments, Offset(0))?;
        let next_bases: Vec<_> = segments.iter().skip(1).map(Segment::base).collect();
        let below: Vec<_> = segments.iter().zip(next_bases).filter(|(segment, _)| segment.base() < end).collect();
        for group in groups(&below, &round.config) {
            round.rewrite(group, &mut fates)?;
        }
        Ok(end)
    }
}

impl Round<'_> {
    /// Notes the last offset of each key in the dirty part, as far as the map reaches (`Cleaner.buildOffsetMap`).
    fn read_dirty(&mut self, segments: &[Segment], dirty: &Dirty) -> Result<(), CompactError> {
        let first = segments.partition_point(|segment| segment.base() <= dirty.from).saturating_sub(1);
        let begin = segments.get(first).map_or(dirty.from, Segment::base);
        let mut fates = Fates::of(self.log, segments, begin)?;
        let ends = segments.iter().skip(1).map(Segment::base);
        for (segment, end) in segments.iter().zip(ends).skip(first).filter(|(segment, _)| segment.base() < dirty.up_to)
        {
            let mut reader = Reader::new(self.log, segment)?;
            while let Some((header, batch)) = reader.next()? {
                let out = if header.is_control() {
                    fates.on_control(&header, &batch.bytes);
                    true
                } else {
                    fates.on_batch(&header)
                };
                if header.last < dirty.from {
                    continue;
                }
                if !out && !self.last.note(&batch, dirty.from)? {
                    return Ok(()); // full: the next round begins with this batch
                }
                self.last.latest = header.last;
            }
            self.last.latest = Offset(end.0 - 1);
        }
        Ok(())
    }

    /// Writes a group of segments anew as one, and puts it in their place.
    fn rewrite(&self, group: &[(&Segment, Offset)], fates: &mut Fates) -> Result<(), CompactError> {
        let (Some((first, _)), Some((_, end))) = (group.first(), group.last()) else { return Ok(()) };
        let Some(last_held) = group.iter().rposition(|(segment, _)| segment.size > 0) else { return Ok(()) };
        let mut copy = Copy::new(self.log, first.base(), self.config.index_interval_bytes)?;
        let outcome = group.iter().enumerate().try_for_each(|(index, (segment, _))| {
            let mut reader = Reader::new(self.log, segment)?;
            while let Some((header, batch)) = reader.next()? {
                let last = index == last_held && reader.is_at_end();
                if let Some(kept) = self.filter(&header, batch, last, fates)? {
                    copy.push(kept)?;
                }
            }
            Ok(())
        });
        let outcome = outcome.and_then(|()| copy.finish(&fates.kept).map_err(CompactError::Io));
        fates.kept.clear();
        let outcome = outcome.and_then(|made| self.log.replace(group, made, *end));
        if outcome.is_err() {
            for kind in KINDS {
                let _ = self.log.directory.disk.remove(&swap_path(&self.log.dir, first.base(), kind, "cleaned"));
            }
        }
        outcome
    }

    /// What stays of a batch (`LogCleaner.cleanInto`, `MemoryRecords.filterTo`). The `last` of a new segment stays, if need be
    /// without records.
    fn filter(
        &self,
        header: &Header,
        batch: Batch,
        last: bool,
        fates: &mut Fates,
    ) -> Result<Option<Batch>, CompactError> {
        let horizon = batch.header.delete_horizon();
        let past_horizon = horizon.is_some_and(|horizon| horizon <= self.now_ms);
        let (undone, discarded) = if header.is_control() {
            let undone = fates.on_control(header, &batch.bytes);
            (undone, undone && past_horizon)
        } else {
            let aborted = fates.on_batch(header);
            (false, aborted)
        };
        let keeps_sequence = header.producer_id >= 0 && self.log.is_last_of_producer(header);
        if discarded && !(last || keeps_sequence) {
            return Ok(None);
        }
        let stays = |record: &Record| !discarded && (header.is_control() || self.last.keeps(record, past_horizon));
        let (mut kept, mut tombstones) = (0, false);
        for record in batch.records(BATCH_OUTPUT_BYTES_MAX) {
            let record = record.map_err(|error| CompactError::Unreadable(error.to_string()))?;
            if stays(&record) {
                kept += 1;
                tombstones |= record.value.is_none();
            }
        }
        if kept == 0 && !(last || keeps_sequence) {
            return Ok(None);
        }
        let sets_horizon = kept > 0 && (tombstones || undone) && horizon.is_none();
        if kept == batch.header.record_count && !sets_horizon {
            return Ok(Some(batch));
        }
        let horizon = match sets_horizon {
            true => Some(self.now_ms.saturating_add(self.config.delete_retention_ms)),
            false => horizon,
        };
        let codec = batch.header.compression().unwrap_or(Compression::None);
        let mut writer = BatchWriter::new(&batch.header, codec, None, horizon)?;
        for record in batch.records(BATCH_OUTPUT_BYTES_MAX) {
            let record = record.map_err(|error| CompactError::Unreadable(error.to_string()))?;
            if stays(&record) {
                writer.push(&record)?;
            }
        }
        Ok(Some(writer.finish()?))
    }
}

impl LastOffsets {
    /// Takes in the keys of a batch; false if they do not all fit, and the batch counts as not read.
    fn note(&mut self, batch: &Batch, from: Offset) -> Result<bool, CompactError> {
        for record in batch.records(BATCH_OUTPUT_BYTES_MAX) {
            let record = record.map_err(|error| CompactError::Unreadable(error.to_string()))?;
            let Some(key) = record.key.as_ref().filter(|_| record.offset >= from) else { continue };
            let hash = hash(key);
            if self.offsets.len() >= self.keys_max && !self.offsets.contains_key(&hash) {
                return Ok(false);
            }
            self.offsets.insert(hash, record.offset);
        }
        Ok(true)
    }

    /// `Cleaner.shouldRetainRecord`.
    fn keeps(&self, record: &Record, past_horizon: bool) -> bool {
        if record.offset > self.latest {
            return true;
        }
        let Some(key) = &record.key else { return false };
        let is_last = self.offsets.get(&hash(key)).is_none_or(|last| record.offset >= *last);
        is_last && (record.value.is_some() || !past_horizon)
    }
}

fn hash(key: &[u8]) -> [u8; 16] {
    let digest: [u8; 32] = Sha256::digest(key).into();
    digest.first_chunk().copied().unwrap_or_default()
}

impl Fates {
    /// The fates of what ended at `from` or later.
    fn of(log: &PartitionLog, segments: &[Segment], from: Offset) -> io::Result<Self> {
        let mut ahead = Vec::new();
        for segment in segments {
            ahead.extend(segment.aborted(&log.directory.open_files)?);
        }
        ahead.retain(|aborted| aborted.transaction.last_offset >= from);
        ahead.sort_by_key(|aborted| std::cmp::Reverse(aborted.transaction.first_offset));
        Ok(Self { ahead, aborted: HashMap::new(), committed: HashSet::new(), kept: Vec::new() })
    }

    fn reach(&mut self, offset: Offset) {
        while let Some(aborted) = self.ahead.pop_if(|next| next.transaction.first_offset <= offset) {
            self.aborted.entry(aborted.transaction.producer_id).or_insert((aborted, false));
        }
    }

    /// Whether the batch belongs to an aborted transaction.
    fn on_batch(&mut self, header: &Header) -> bool {
        self.reach(header.last);
        if !header.is_transactional() {
            return false;
        }
        match self.aborted.get_mut(&header.producer_id) {
            Some((_, seen)) => {
                *seen = true;
                true
            }
            None => {
                self.committed.insert(header.producer_id);
                false
            }
        }
    }

    /// Whether the marker ends nothing that is still there.
    fn on_control(&mut self, header: &Header, bytes: &[u8]) -> bool {
        self.reach(header.last);
        match marker(bytes) {
            Some(Marker::Abort) => match self.aborted.remove(&header.producer_id) {
                Some((aborted, true)) => {
                    self.kept.push(aborted);
                    false
                }
                _ => true,
            },
            Some(Marker::Commit) => !self.committed.remove(&header.producer_id),
            // Emptied before, or a control record of another kind.
            None => bytes.len() == HEADER_BYTES,
        }
    }
}

/// Reads a segment batch by batch.
struct Reader {
    walk: Walk,
    file: Arc<DiskFile>,
    stop: Arc<Stop>,
    size: u64,
}

impl Reader {
    fn new(log: &PartitionLog, segment: &Segment) -> io::Result<Self> {
        let file = log.directory.open_files.open(&segment.files, Kind::Log)?;
        let walk = Walk::new(segment, &log.directory.open_files, 0)?;
        Ok(Self { walk, file, stop: log.directory.stop_cleaning.clone(), size: segment.size })
    }

    fn next(&mut self) -> Result<Option<(Header, Batch)>, CompactError> {
        if self.stop.asked.load(Ordering::Acquire) {
            return Err(CompactError::Interrupted);
        }
        let Some((position, header)) = self.walk.next()? else {
            if self.is_at_end() {
                return Ok(None);
            }
            return Err(CompactError::Unreadable(format!("no batch at position {}", self.walk.position)));
        };
        let mut bytes = Bytes::from(self.file.read(header.size as usize, position)?);
        let unreadable = |error: hawser_wire::BatchError| CompactError::Unreadable(error.to_string());
        let batch = Batch::split_off(&mut bytes).map_err(unreadable)?;
        batch.check_crc().map_err(unreadable)?;
        Ok(Some((header, batch)))
    }

    fn is_at_end(&self) -> bool {
        self.walk.position == self.size
    }
}

/// A segment as it is written anew.
struct Copy {
    disk: Disk,
    dir: Arc<Path>,
    file: DiskFile,
    segment: Segment,
    entries: IndexEntries,
    interval_bytes: u64,
    unwritten: Vec<u8>,
    written: u64,
}

impl Copy {
    fn new(log: &PartitionLog, base: Offset, interval_bytes: u64) -> io::Result<Self> {
        let (disk, dir) = (log.directory.disk.clone(), log.dir.clone());
        let file = disk.create(swap_path(&dir, base, Kind::Log, "cleaned"))?;
        let segment = Segment::empty(SegmentFiles::new(dir.clone(), base));
        let (entries, unwritten) = (IndexEntries::default(), Vec::new());
        Ok(Self { disk, dir, file, segment, entries, interval_bytes, unwritten, written: 0 })
    }

    fn push(&mut self, batch: Batch) -> io::Result<()> {
        self.segment.add(&Header::from(&batch.header), self.interval_bytes, &mut self.entries);
        self.unwritten.extend_from_slice(&batch.bytes);
        if self.unwritten.len() >= WRITE_BYTES { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.unwritten, self.written)?;
        self.written += self.unwritten.len() as u64;
        self.unwritten.clear();
        Ok(())
    }

    /// Writes the indexes and syncs everything.
    fn finish(mut self, aborted: &[Aborted]) -> io::Result<Segment> {
        self.write()?;
        self.segment.add_time_entry(&mut self.entries.times);
        self.file.sync()?;
        let base = self.segment.base();
        let txns: Vec<_> = aborted.iter().map(Aborted::encode).collect();
        self.segment.txn_entries = txns.len() as u32;
        let index = |kind, contents: &[u8]| {
            let path = swap_path(&self.dir, base, kind, "cleaned");
            self.disk.fill(path.clone(), contents)?;
            self.disk.open(path)?.sync()
        };
        index(Kind::OffsetIndex, &self.entries.offsets)?;
        index(Kind::TimeIndex, &self.entries.times)?;
        if !txns.is_empty() {
            index(Kind::TxnIndex, txns.as_flattened())?;
        }
        Ok(self.segment)
    }
}

impl PartitionLog {
    /// Puts `made` in the place of the segments of `group`, which end at `end`.
    fn replace(&self, group: &[(&Segment, Offset)], made: Segment, end: Offset) -> Result<(), CompactError> {
        let _flushing = lock(&self.flushing);
        let _writing = lock(&self.writing);
        let _replacing = self.replacing.write().unwrap_or_else(PoisonError::into_inner);
        let (first, delay_ms) = {
            let state = self.lock();
            let first = state.segment_at(made.base());
            let there = state.segments.get(first..first + group.len()).unwrap_or_default();
            let same = there.len() == group.len()
                && there.iter().zip(group).all(|(held, (old, _))| Arc::ptr_eq(&held.files, &old.files));
            if !same || state.refuse_if_stopped().is_err() {
                return Err(CompactError::Interrupted);
            }
            (first, state.config.file_delete_delay_ms)
        };
        let (disk, base) = (&self.directory.disk, made.base());
        let mut kinds = vec![Kind::OffsetIndex, Kind::TimeIndex];
        kinds.extend((made.txn_entries > 0).then_some(Kind::TxnIndex));
        for kind in kinds.into_iter().chain([Kind::Log]) {
            disk.rename(&swap_path(&self.dir, base, kind, "cleaned"), &swap_path(&self.dir, base, kind, "swap"))?;
        }
        let outcome = disk.sync_dir(&self.dir).and_then(|()| roll_forward(disk, &self.dir, base, end));
        let mut state = self.lock();
        state.removals += 1;
        let deleted = match outcome {
            Ok(deleted) => deleted,
            Err(error) => {
                // Half old, half new: the next start goes on from here.
                state.status = Status::Offline(format!("swap a compacted segment in: {error}; restart"));
                return Err(CompactError::Io(error));
            }
        };
        let old: Vec<_> = state.segments.splice(first..first + group.len(), [made]).collect();
        state.names_dirty = true;
        state.check();
        drop(state);
        for segment in &old {
            segment.files.close();
        }
        lock(&self.directory.cleaning).doomed.add(delay_ms, deleted);
        self.mark_dirty(false);
        Ok(())
    }

    /// Whether the batch carries what its producer wrote last.
    fn is_last_of_producer(&self, header: &Header) -> bool {
        let state = self.lock();
        let known = state.leading.as_ref().and_then(|leading| leading.producers.last_of(header.producer_id));
        match known {
            Some((Some(last_offset), _)) => header.last == last_offset,
            Some((None, epoch)) => header.is_control() && header.producer_epoch == epoch,
            None => false,
        }
    }
}

/// Brings a swap to its end: the old segments from `base` to `end` become `.deleted`, the `.swap` files of `base` get their
/// names. Gives the deleted files. May be repeated wherever it was interrupted: old files are only there as long as the offset
/// index is still a `.swap`.
pub(crate) fn roll_forward(disk: &Disk, dir: &Path, base: Offset, end: Offset) -> io::Result<Vec<PathBuf>> {
    let mut deleted = Vec::new();
    if swap_path(dir, base, Kind::OffsetIndex, "swap").exists() {
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if base_of(name, "snapshot").is_some_and(|of| of > base && of < end) {
                disk.remove(&path)?;
            }
            let old = KINDS.iter().find_map(|kind| Some((*kind, base_of(name, kind.suffix())?)));
            if let Some((kind, _)) = old.filter(|(_, of)| (base..end).contains(of)) {
                let doomed = path.with_extension(format!("{}.deleted", kind.suffix()));
                disk.rename(&path, &doomed)?;
                deleted.push(doomed);
            }
        }
    }
    for kind in [Kind::OffsetIndex, Kind::TimeIndex, Kind::TxnIndex, Kind::Log] {
        let swap = swap_path(dir, base, kind, "swap");
        if swap.exists() {
            disk.rename(&swap, &segment_path(dir, base, kind.suffix()))?;
        }
    }
    Ok(deleted)
}

/// Goes on with the swaps that were interrupted in `dir`.
pub(crate) fn roll_all_forward(disk: &Disk, dir: &Path) -> io::Result<()> {
    let mut swaps = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        swaps.extend(entry?.file_name().to_str().and_then(|name| base_of(name, "log.swap")));
    }
    for base in swaps {
        let file = disk.open(swap_path(dir, base, Kind::Log, "swap"))?;
        let (length, mut position, mut end) = (file.len()?, 0, base);
        while position < length {
            let Some(header) = Header::parse(&file.read(HEADER_BYTES, position)?) else { break };
            position += header.size;
            end = header.next();
        }
        tracing::info!(dir = %dir.display(), %base, %end, "go on with an interrupted compaction");
        roll_forward(disk, dir, base, end)?;
    }
    Ok(())
}

fn swap_path(dir: &Path, base: Offset, kind: Kind, suffix: &str) -> PathBuf {
    segment_path(dir, base, &format!("{}.{suffix}", kind.suffix()))
}

/// Neighbours that fit one segment together (`Cleaner.groupSegmentsBySize`).
fn groups<'a, 'b>(segments: &'a [(&'b Segment, Offset)], config: &TopicConfig) -> Vec<&'a [(&'b Segment, Offset)]> {
    let index_bytes =
        |segment: &Segment| segment.valid_bytes(Kind::OffsetIndex).max(segment.valid_bytes(Kind::TimeIndex));
    let mut groups = Vec::new();
    let mut rest = segments;
    while let Some((first, _)) = rest.first() {
        let (mut bytes, mut indexes) = (0, 0);
        let fits = |(segment, end): &&(&Segment, Offset)| {
            bytes += segment.size;
            indexes += index_bytes(segment);
            bytes <= config.segment_bytes
                && indexes <= config.segment_index_bytes
                && i32::try_from(end.0 - 1 - first.base().0).is_ok()
        };
        let count = rest.iter().take_while(fits).count().max(1);
        let (group, later) = rest.split_at(count);
        groups.push(group);
        rest = later;
    }
    groups
}
