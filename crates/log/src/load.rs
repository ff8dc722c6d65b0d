//! Opening a partition's folder: trusting it after a clean shutdown, recovering it otherwise (Kafka's `LogLoader`).
//!
//! Segments below the one that holds the recovery point were synced with all their files and are trusted. From that one on
//! every batch is read and checked: CRC, length, order of offsets and epochs, and that each segment begins where the one
//! before it ends. At the first byte that does not fit the log is cut, and what follows is removed. Indexes, epochs and
//! transactions of what is left are made anew from the batches.

use crate::checkpoint;
use crate::compact::roll_all_forward;
use crate::directory::Directory;
use crate::disk::{DiskFile, Durably};
use crate::epochs::{EpochsFile, LeaderEpochs};
use crate::files::{KINDS, Kind, OpenFiles, SegmentFiles, base_of};
use crate::header::Header;
use crate::partition::{PartitionLog, State, Status, create_segment};
use crate::segment::{IndexEntries, OFFSET_ENTRY_BYTES, Segment, TIME_ENTRY_BYTES, Walk};
use crate::snapshot::Snapshot;
use crate::topic_config::TopicConfig;
use crate::transactions::{ABORTED_BYTES, Aborted, Transactions};
use crate::truncate::{extend_max_timestamp, follow};
use hawser_wire::{BatchHeader, LeaderEpoch, Offset, TopicPartition};
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use tokio::sync::watch;

/// Bytes read at once while checking CRCs; a larger batch is read whole.
const SCAN_BYTES: usize = 1024 * 1024;

/// What the checkpoints of the data directory say about a partition.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Checkpointed {
    pub(crate) recovery_point: Offset,
    /// For Kafka's own tools, and for a Kafka that takes the folder over: [`load`] knows better.
    pub(crate) high_watermark: Offset,
    pub(crate) log_start: Offset,
}

/// The segments of a folder and what was learnt from them.
struct Loaded {
    segments: Vec<Segment>,
    end: Offset,
    epochs: LeaderEpochs,
    /// Largest epoch of the checkpoint.
    epoch_floor: LeaderEpoch,
    /// Known if the last segment was recovered.
    transactions: Option<Transactions>,
    /// Known by a snapshot, or if every segment was recovered.
    largest_producer_id: Option<i64>,
    /// Files were cut or made anew.
    mended: bool,
}

/// Loads `dir`; `clean` says that the directory was closed by [`Logs::close`](crate::Logs::close).
pub(crate) fn load(
    directory: &Arc<Directory>,
    id: &TopicPartition,
    dir: Arc<Path>,
    at: Checkpointed,
    clean: bool,
) -> io::Result<Arc<PartitionLog>> {
    roll_all_forward(&directory.disk, &dir)?;
    let bases = sweep(directory, &dir)?;
    let mut loaded = if clean { trust(directory, &dir, &bases)? } else { None };
    if loaded.is_none() {
        loaded = Some(recover(directory, id, &dir, &bases, at.recovery_point)?);
    }
    let mut loaded = loaded.unwrap_or_else(Loaded::nothing);
    if loaded.end < at.log_start {
        // The data that the log start pointed into is gone (`deleteSegmentsIfLogStartGreaterThanLogEnd`).
        for segment in loaded.segments.drain(..).rev() {
            segment.files.remove(&directory.disk)?;
        }
        loaded.epochs.clear();
        checkpoint::write_epochs(&directory.disk, &dir, &loaded.epochs, Durably::Now)?;
    }
    let fresh = loaded.segments.is_empty();
    if fresh {
        loaded.segments.push(create_segment(directory, &dir, at.log_start)?);
        loaded.end = at.log_start;
        loaded.transactions = Some(Transactions::default());
        loaded.largest_producer_id.get_or_insert(-1);
    }
    // Names that were made since the last flush may not survive a power cut. One that came after the newest segment was made
    // would have ended above its base.
    let newest = loaded.segments.last().map(Segment::base);
    let names_dirty = fresh || !clean && newest.is_some_and(|base| at.recovery_point <= base);
    let state = state(directory, loaded, at, clean, names_dirty)?;
    remove_stray_snapshots(directory, &dir, &state)?;
    let unflushed = state.flushed < state.log_end || state.names_dirty;
    let log = Arc::new_cyclic(|this| PartitionLog {
        id: id.clone(),
        dir,
        directory: directory.clone(),
        flushing: Mutex::default(),
        writing: Mutex::default(),
        replacing: RwLock::default(),
        writing_epochs: Mutex::default(),
        state: Mutex::new(state),
        changes: watch::Sender::new(0),
        queued: AtomicBool::new(false),
        made: directory.names_made.load(Ordering::Acquire),
        this: this.clone(),
    });
    if unflushed {
        log.mark_dirty(false);
    }
    Ok(log)
}

/// What a log that was just read is in memory.
///
/// *The high watermark is the log end.* Kafka's followers take it from the checkpoint, as they hold batches that are not
/// committed yet. A mirror never does: it is fetched as consumers fetch, so its source's high watermark was above every
/// batch when it came. And an ordinary partition is its leader's only replica. The checkpoint is some seconds older than
/// the log after a kill, and those seconds would stay unread until the source answers again.
fn state(directory: &Directory, loaded: Loaded, at: Checkpointed, clean: bool, names_dirty: bool) -> io::Result<State> {
    let Loaded { mut segments, end: log_end, mut epochs, epoch_floor, transactions, mut largest_producer_id, mended } =
        loaded;
    let first = segments.first().map_or(Offset(0), Segment::base);
    let log_start = at.log_start.max(first);
    let holder = segments.partition_point(|segment| segment.base() <= log_start).saturating_sub(1);
    for below in segments.drain(..holder) {
        below.files.remove(&directory.disk)?; // the log start moved, and the crash came before they were removed
    }
    let mut epochs_file = EpochsFile::default();
    epochs_file.note(epochs.truncate_from_end(log_end) | epochs.truncate_from_start(log_start) | mended);
    let mut transactions = match transactions {
        Some(transactions) => transactions,
        // Closed cleanly: a snapshot at the log end, or nothing open.
        None => {
            let path = segments.last().map(|active| active.files.sibling(log_end, "snapshot"));
            let snapshot = path.map(|path| Snapshot::read(&path)).transpose()?.flatten();
            largest_producer_id = snapshot.as_ref().map(|snapshot| snapshot.largest_producer_id);
            snapshot.map_or_else(Transactions::default, |snapshot| snapshot.transactions)
        }
    };
    if let Some(active) = segments.last_mut() {
        extend_max_timestamp(active, &directory.open_files)?;
    }
    let largest_producer_id = match largest_producer_id {
        Some(known) => known,
        None => largest_producer_id_in(&segments, &directory.open_files)?,
    };
    transactions.on_high_watermark(log_end);
    let flushed = if clean && !mended { log_end } else { at.recovery_point.clamp(log_start, log_end) };
    let state = State {
        segments,
        log_start,
        log_end,
        flushed,
        observed_high_watermark: log_end,
        epochs,
        epoch_floor,
        epochs_file,
        transactions,
        largest_producer_id,
        leading: None,
        config: Arc::new(TopicConfig::defaults(&directory.config)),
        removals: 0,
        losses: 0,
        names_dirty,
        touched: mended || names_dirty || !clean,
        status: Status::Online,
        recovery_point_on_disk: at.recovery_point,
        log_start_on_disk: at.log_start,
    };
    state.check();
    Ok(state)
}

impl Loaded {
    fn nothing() -> Self {
        let epochs = LeaderEpochs::default();
        Self {
            segments: Vec::new(),
            end: Offset(0),
            epochs,
            epoch_floor: LeaderEpoch::NONE,
            transactions: None,
            largest_producer_id: None,
            mended: false,
        }
    }
}

/// Reads the headers of all batches: only of a log whose snapshot is missing or damaged.
fn largest_producer_id_in(segments: &[Segment], open: &OpenFiles) -> io::Result<i64> {
    let mut largest = -1;
    for segment in segments.iter().filter(|segment| segment.size > 0) {
        let mut walk = Walk::new(segment, open, 0)?;
        while let Some((_, header)) = walk.next()? {
            largest = largest.max(header.producer_id);
        }
    }
    Ok(largest)
}

/// Removes what interrupted acts left behind, and gives the base offsets of the segments, rising.
fn sweep(directory: &Directory, dir: &Path) -> io::Result<BTreeSet<Offset>> {
    let mut bases = BTreeSet::new();
    let mut indexes = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let unfinished = [".deleted", ".tmp", ".cleaned", ".swap"].iter().any(|suffix| name.ends_with(suffix));
        if unfinished {
            directory.disk.remove(&entry.path())?;
        } else if let Some(base) = base_of(name, Kind::Log.suffix()) {
            bases.insert(base);
        } else if let Some(base) = KINDS.iter().find_map(|kind| base_of(name, kind.suffix())) {
            indexes.push((base, entry.path()));
        }
    }
    for (_, orphan) in indexes.iter().filter(|(base, _)| !bases.contains(base)) {
        directory.disk.remove(orphan)?;
    }
    Ok(bases)
}

/// Snapshots of a log end that is past, and of segments that are gone. That of the log end stays.
fn remove_stray_snapshots(directory: &Directory, dir: &Path, state: &State) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let base = entry.file_name().to_str().and_then(|name| base_of(name, "snapshot"));
        let known = |base| base == state.log_end || state.segments.iter().any(|segment| segment.base() == base);
        if base.is_some_and(|base| !known(base)) {
            directory.disk.remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Takes the files as they are; `None` if they cannot be what a clean shutdown leaves.
fn trust(directory: &Directory, dir: &Arc<Path>, bases: &BTreeSet<Offset>) -> io::Result<Option<Loaded>> {
    let open = &directory.open_files;
    let mut loaded = Loaded::nothing();
    for base in bases {
        let Some(segment) = stand(open, SegmentFiles::new(dir.clone(), *base))? else { return Ok(None) };
        loaded.segments.push(segment);
    }
    if let Some(active) = loaded.segments.last() {
        let (entries, position) = active.offset_entries_below(open, active.size)?;
        let mut walk = Walk::new(active, open, if entries == 0 { 0 } else { position })?;
        loaded.end = active.base();
        while let Some((_, header)) = walk.next()? {
            loaded.end = header.next();
        }
        if walk.position != active.size {
            return Ok(None);
        }
    }
    match checkpoint::read_epochs(dir) {
        Some(epochs) => (loaded.epoch_floor, loaded.epochs) = (epochs.latest(), epochs),
        None if loaded.segments.iter().all(|segment| segment.size == 0) => {}
        None => return Ok(None),
    }
    Ok(Some(loaded))
}

/// A segment with the sizes of its files; `None` if an index is missing or cannot be one.
fn stand(open: &OpenFiles, files: Arc<SegmentFiles>) -> io::Result<Option<Segment>> {
    let length = |kind| match std::fs::metadata(files.path(kind)) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    let entries = |bytes: u64, entry: u64| u32::try_from(bytes / entry).ok().filter(|_| bytes.is_multiple_of(entry));
    let (Some(size), Some(offsets), Some(times)) =
        (length(Kind::Log)?, length(Kind::OffsetIndex)?, length(Kind::TimeIndex)?)
    else {
        return Ok(None);
    };
    let txns = length(Kind::TxnIndex)?.unwrap_or(0);
    let (Some(offset_entries), Some(time_entries), Some(txn_entries)) =
        (entries(offsets, OFFSET_ENTRY_BYTES), entries(times, TIME_ENTRY_BYTES), entries(txns, ABORTED_BYTES as u64))
    else {
        return Ok(None);
    };
    let mut segment = Segment { size, offset_entries, time_entries, txn_entries, ..Segment::empty(files) };
    let (below, position) = segment.offset_entries_below(open, size)?;
    segment.indexed_position = position;
    let (_, timestamp, offset) = segment.time_entries_below(open, Offset(i64::MAX))?;
    segment.indexed_timestamp = timestamp;
    segment.max_timestamp = timestamp;
    segment.max_timestamp_offset = offset;
    // An index of a broker that was killed is preallocated: its last entries are zeros.
    let sane = below == offset_entries && (offset_entries <= 1 || position > 0) && (time_entries <= 1 || timestamp > 0);
    Ok(sane.then_some(segment))
}

/// Takes the segments below the recovery point as they are and checks the rest batch by batch.
fn recover(
    directory: &Directory,
    id: &TopicPartition,
    dir: &Arc<Path>,
    bases: &BTreeSet<Offset>,
    recovery_point: Offset,
) -> io::Result<Loaded> {
    let open = &directory.open_files;
    let mut loaded = Loaded { mended: true, ..Loaded::nothing() };
    let checkpointed = checkpoint::read_epochs(dir);
    let mut scan_from = bases.range(..=recovery_point).next_back().or(bases.first()).copied().unwrap_or(Offset(0));
    if checkpointed.is_none() {
        scan_from = bases.first().copied().unwrap_or(Offset(0)); // epochs are found nowhere else
    }
    for base in bases.range(..scan_from) {
        match stand(open, SegmentFiles::new(dir.clone(), *base))? {
            Some(segment) => loaded.segments.push(segment),
            None => {
                tracing::warn!(%id, %base, "an index is damaged below the recovery point: scanning from here");
                scan_from = *base;
                break;
            }
        }
    }
    loaded.epochs = checkpointed.unwrap_or_default();
    loaded.epoch_floor = loaded.epochs.latest();
    loaded.epochs.truncate_from_end(scan_from);
    loaded.end = scan_from;
    let mut cut = false;
    for base in bases.range(scan_from..) {
        let files = SegmentFiles::new(dir.clone(), *base);
        if cut || !touches(open, &files, loaded.end)? {
            tracing::warn!(%id, %base, log_end = %loaded.end, "remove a segment that does not continue the log");
            files.remove(&directory.disk)?;
            cut = true;
            continue;
        }
        let mut transactions = match loaded.transactions.take() {
            Some(transactions) => transactions,
            None => {
                let snapshot = Snapshot::read(&files.snapshot_path())?;
                let first = loaded.segments.is_empty().then_some(-1);
                loaded.largest_producer_id = snapshot.as_ref().map(|snapshot| snapshot.largest_producer_id).or(first);
                snapshot.map_or_else(Transactions::default, |snapshot| snapshot.transactions)
            }
        };
        let torn = scan(directory, files, &mut loaded, &mut transactions)?;
        if torn > 0 {
            tracing::warn!(%id, %base, bytes = torn, log_end = %loaded.end, "cut a torn tail");
            cut = true;
        }
        loaded.transactions = Some(transactions);
    }
    Ok(loaded)
}

/// Whether a segment begins where the log ends, or so far above that its first batch would not have fitted the segment
/// before (see the roll in `partition.rs`).
fn touches(open: &OpenFiles, files: &Arc<SegmentFiles>, end: Offset) -> io::Result<bool> {
    if files.base() <= end {
        return Ok(files.base() == end);
    }
    let size = std::fs::metadata(files.path(Kind::Log))?.len();
    let segment = Segment { size, ..Segment::empty(files.clone()) };
    let first = Walk::new(&segment, open, 0)?.next()?;
    Ok(first.is_some_and(|(_, first)| i32::try_from(first.last.0 - end.0).is_err()))
}

/// Checks every batch of a segment, cuts it at the first that does not fit and makes its indexes anew
/// (`LogSegment.recover`). How many bytes were cut.
fn scan(
    directory: &Directory,
    files: Arc<SegmentFiles>,
    loaded: &mut Loaded,
    transactions: &mut Transactions,
) -> io::Result<u64> {
    let open = &directory.open_files;
    let file = open.open(&files, Kind::Log)?;
    let length = file.len()?;
    let mut segment = Segment::empty(files);
    let mut entries = IndexEntries::default();
    let mut chunk = Chunk { file: &file, bytes: Vec::new(), start: 0 };
    while let Some(header) = chunk.valid_batch(segment.size, length)? {
        let fits = header.base >= loaded.end && header.epoch >= loaded.epochs.latest() && segment.reaches(&header);
        if !fits {
            break;
        }
        segment.add(&header, directory.config.index_interval_bytes, &mut entries);
        loaded.epochs.assign(header.epoch, header.base);
        loaded.largest_producer_id = loaded.largest_producer_id.map(|largest| largest.max(header.producer_id));
        loaded.end = header.next();
    }
    segment.add_time_entry(&mut entries.times);
    if segment.size < length {
        file.truncate(segment.size)?;
    }
    directory.disk.fill(segment.files.path(Kind::OffsetIndex), &entries.offsets)?;
    directory.disk.fill(segment.files.path(Kind::TimeIndex), &entries.times)?;
    let mut aborted: Vec<[u8; ABORTED_BYTES]> = Vec::new();
    follow(transactions, &segment, open, |txn: Aborted| aborted.push(txn.encode()))?;
    let txn_index = segment.files.path(Kind::TxnIndex);
    if !aborted.is_empty() {
        directory.disk.fill(txn_index, aborted.as_flattened())?;
        segment.txn_entries = aborted.len() as u32;
    } else if txn_index.exists() {
        directory.disk.remove(&txn_index)?;
    }
    let torn = length - segment.size;
    loaded.segments.push(segment);
    Ok(torn)
}

/// A window on a segment that is being checked.
struct Chunk<'a> {
    file: &'a DiskFile,
    bytes: Vec<u8>,
    start: u64,
}

impl Chunk<'_> {
    /// The batch at `position` of a file of `length` bytes, if it is whole and its CRC good.
    fn valid_batch(&mut self, position: u64, length: u64) -> io::Result<Option<Header>> {
        let left = length.saturating_sub(position);
        let Some(header) = Header::parse(self.at(position, left.min(CHUNK_HEADER_BYTES))?) else { return Ok(None) };
        if header.size > left {
            return Ok(None);
        }
        let batch = self.at(position, header.size)?;
        let stated = BatchHeader::parse(batch).ok().map(|parsed| parsed.crc);
        let computed = crc32c::crc32c(batch.get(CRC_START..).unwrap_or_default());
        Ok((stated == Some(computed)).then_some(header))
    }

    fn at(&mut self, position: u64, count: u64) -> io::Result<&[u8]> {
        let count = count as usize;
        let from = position.wrapping_sub(self.start) as usize;
        if position < self.start || from.saturating_add(count) > self.bytes.len() {
            self.bytes = self.file.read(count.max(SCAN_BYTES), position)?;
            self.start = position;
        }
        let from = (position - self.start) as usize;
        Ok(self.bytes.get(from..from.saturating_add(count)).unwrap_or_default())
    }
}

const CHUNK_HEADER_BYTES: u64 = hawser_wire::batch::HEADER_BYTES as u64;
/// Where the part of a batch begins that its CRC covers.
const CRC_START: usize = 21;
