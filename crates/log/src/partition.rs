//! One partition's log: its state, and the append.
//!
//! Locks, always taken in this order: `flushing` (one fsync at a time), `writing` (one append, truncation or roll at a time,
//! held over file operations), `replacing` (while a compacted segment takes the names of others), `state` (the positions; held
//! for moments, never over a file operation). A reader copies what it needs out of `state` and reads files with no lock but a
//! share of `replacing`; see [`Segment`].
//!
//! *Invariants, asserted in [`State::check`]:* log start ≤ flushed ≤ log end; the last segment is the active one; segments
//! rise; a log without a readable offset has an empty active segment. A failed append leaves the state as it was: what it
//! left in files lies beyond the valid sizes, is cut off at once if the disk lets us, and is written over by the next.

use crate::directory::Directory;
use crate::disk::Durably;
use crate::epochs::{EpochsFile, LeaderEpochs};
use crate::files::{KINDS, Kind, SegmentFiles, segment_path};
use crate::header::{Header, marker};
use crate::leader::Leading;
use crate::producers::Producers;
use crate::segment::{IndexEntries, Segment};
use crate::snapshot;
use crate::topic_config::TopicConfig;
use crate::transactions::{ABORTED_BYTES, Transactions};
use crate::{Error, Watermarks};
use hawser_wire::{Batch, LeaderEpoch, Offset, TopicPartition};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use tokio::sync::watch;

/// One partition's log. All methods take `&self`; appends are serialised inside.
pub struct PartitionLog {
    pub(crate) id: TopicPartition,
    pub(crate) dir: Arc<Path>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) flushing: Mutex<()>,
    pub(crate) writing: Mutex<()>,
    /// Held by readers while they open files, and by who puts a compacted segment in the place of others of its name.
    pub(crate) replacing: RwLock<()>,
    /// Held while the epoch checkpoint is replaced.
    pub(crate) writing_epochs: Mutex<()>,
    pub(crate) state: Mutex<State>,
    pub(crate) changes: watch::Sender<u64>,
    /// Whether the flusher will look at this log.
    pub(crate) queued: AtomicBool,
    /// When it was made or loaded, by [`Directory::names_made`].
    pub(crate) made: u64,
    pub(crate) this: Weak<Self>,
}

/// Whether a partition takes appends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It does.
    Online,
    /// The last append failed and left nothing behind; the next may succeed.
    Failing(String),
    /// An fsync or a truncation failed: what was not flushed is given up, and nothing is appended until
    /// [`PartitionLog::resume`] has cut it off.
    Offline(String),
    /// The log directory is being closed: what was appended is flushed, and nothing is appended behind it.
    Closing,
    /// The log directory was closed, or the partition deleted.
    Closed,
}

/// Everything about a log that is in memory.
pub(crate) struct State {
    pub(crate) segments: Vec<Segment>,
    pub(crate) log_start: Offset,
    pub(crate) log_end: Offset,
    pub(crate) flushed: Offset,
    /// As the source reported it; consumers see the smaller of it and the log end.
    pub(crate) observed_high_watermark: Offset,
    pub(crate) epochs: LeaderEpochs,
    /// Largest epoch that the checkpoint named when the log was loaded, whether any batch of it is left or not.
    pub(crate) epoch_floor: LeaderEpoch,
    /// How far the epoch checkpoint on disk follows `epochs`.
    pub(crate) epochs_file: EpochsFile,
    pub(crate) transactions: Transactions,
    /// Of all batches ever held, −1 for none.
    pub(crate) largest_producer_id: i64,
    /// There for the log of an ordinary partition, `None` for a mirror.
    pub(crate) leading: Option<Leading>,
    pub(crate) config: Arc<TopicConfig>,
    /// Counts what takes files away from readers and flushes: truncations, restarts, segments below the log start or
    /// renamed.
    pub(crate) removals: u64,
    /// Counts failed fsyncs after which the log end went back.
    pub(crate) losses: u64,
    /// Files were made since the folder was synced.
    pub(crate) names_dirty: bool,
    /// Appended to or truncated since it was opened.
    pub(crate) touched: bool,
    pub(crate) status: Status,
    /// What the checkpoint files hold for this partition.
    pub(crate) recovery_point_on_disk: Offset,
    pub(crate) log_start_on_disk: Offset,
}

/// An append as it takes shape: the segments that it changes or makes, published only when all is written.
struct Draft {
    /// The changed active segment, then new ones.
    segments: Vec<Segment>,
    log_end: Offset,
    /// Made at the first batch that concerns transactions.
    transactions: Option<Transactions>,
    largest_producer_id: i64,
    config: Arc<TopicConfig>,
    rolled: bool,
}

impl PartitionLog {
    /// Which partition this is.
    pub fn id(&self) -> &TopicPartition {
        &self.id
    }

    /// The folder that holds it.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The positions, consistent with each other. Takes a lock for a moment, never over a file operation.
    pub fn watermarks(&self) -> Watermarks {
        self.lock().watermarks()
    }

    /// Whether the partition takes appends, and why not.
    pub fn status(&self) -> Status {
        self.lock().status.clone()
    }

    /// How often a failed fsync took the log end back. It changes after the log end does: whoever reads it first, and then
    /// the [watermarks](Self::watermarks), has the end that belongs to it or a later one.
    pub fn losses(&self) -> u64 {
        self.lock().losses
    }

    /// Increments at every change of [`watermarks`](Self::watermarks): what a long poll waits on.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Bytes of records on disk: what Kafka calls the size of a log.
    pub fn log_bytes(&self) -> u64 {
        self.lock().segments.iter().map(|segment| segment.size).sum()
    }

    /// Bytes on disk, indexes included.
    pub fn size_bytes(&self) -> u64 {
        self.lock().segments.iter().map(Segment::bytes_on_disk).sum()
    }

    /// The largest known epoch ≤ `epoch` and where it ends. See `MirrorPartition::end_of_epoch`.
    pub fn end_of_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let state = self.lock();
        state.epochs.end_of(epoch, state.log_end)
    }

    /// The epoch of the batch that holds `offset`.
    pub fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.lock().epochs.epoch_at(offset)
    }

    /// Raises the high watermark as reported by the source: the visible one is the smaller of it and the log end.
    pub fn observe_high_watermark(&self, high_watermark: Offset) {
        let mut state = self.lock();
        if high_watermark <= state.observed_high_watermark {
            return;
        }
        let before = state.watermarks();
        state.observed_high_watermark = high_watermark;
        let visible = state.high_watermark();
        state.transactions.on_high_watermark(visible);
        let changed = state.watermarks() != before;
        drop(state);
        if changed {
            self.directory.checkpoints_are_stale();
            self.changed();
        }
    }

    /// Appends verbatim, some 128 KiB with each `pwritev`. The caller has checked the CRCs.
    ///
    /// The first batch of an empty log may begin below the log start if it ends above it: the source's log start lies
    /// inside it. The log start stays where it is.
    ///
    /// # Errors
    /// `OutOfOrder`, `Io`, `Offline`, `Led`. Nothing is appended then.
    pub fn append(&self, batches: &[Batch]) -> Result<Watermarks, Error> {
        let _writing = lock(&self.writing);
        self.lock().refuse_if_led(&self.id)?;
        self.append_in_turn(batches, false)
    }

    /// As [`append`](Self::append), as long as [`losses`](Self::losses) is still `losses_seen`. A log that ends lower than its
    /// writer knows would take what follows for a gap of compaction.
    ///
    /// # Errors
    /// `Lost`; those of `append`. Nothing is appended then.
    pub fn append_unless_lost(&self, batches: &[Batch], losses_seen: u64) -> Result<Watermarks, Error> {
        let _writing = lock(&self.writing); // whoever takes the end back holds it
        let state = self.lock();
        state.refuse_if_led(&self.id)?;
        if state.losses != losses_seen {
            return Err(Error::Lost(self.id.clone()));
        }
        drop(state);
        self.append_in_turn(batches, false)
    }

    /// Appends; the caller holds `writing`. With `rolls` a new segment is begun first.
    pub(crate) fn append_in_turn(&self, batches: &[Batch], rolls: bool) -> Result<Watermarks, Error> {
        let Some(first) = batches.first() else { return Ok(self.watermarks()) };
        let (mut draft, epoch, inside) = {
            let state = self.lock();
            state.refuse_if_stopped()?;
            let inside = state.log_start == state.log_end
                && first.header.base_offset < state.log_end
                && first.header.next_offset() > state.log_end;
            let draft = Draft {
                segments: state.segments.last().cloned().into_iter().collect(),
                log_end: state.log_end,
                transactions: None,
                largest_producer_id: state.largest_producer_id,
                config: state.config.clone(),
                rolled: false,
            };
            (draft, state.epochs.latest(), inside)
        };
        if inside && draft.segments.last().is_some_and(|active| first.header.base_offset < active.base()) {
            self.rename_empty(first.header.base_offset)?;
            draft.segments = self.lock().segments.last().cloned().into_iter().collect();
        }
        check_order(batches, if inside { first.header.base_offset } else { draft.log_end }, epoch)?;
        let before = draft.segments.first().cloned();
        let begun = if rolls { self.roll(&mut draft, &Header::from(&first.header)) } else { Ok(()) };
        if let Err((what, source)) =
            begun.map_err(|error| ("roll", error)).and_then(|()| self.write(&mut draft, batches))
        {
            self.undo(before.as_ref(), &draft);
            let error = Error::Io { what: format!("{what} {}", self.id), source };
            self.lock().note_append(Status::Failing(error.to_string()));
            return Err(error);
        }
        let rolled = draft.rolled;
        let watermarks = self.publish(draft, batches);
        self.mark_dirty(rolled);
        self.changed();
        Ok(watermarks)
    }

    /// Whether appending `batches` now would begin a segment, which may wait for an fsync; an append that does not is writes
    /// into the page cache. Cheap. Only a guess while others append.
    pub fn rolls_at(&self, batches: &[Batch]) -> bool {
        let (active, config) = {
            let state = self.lock();
            (state.segments.last().cloned(), state.config.clone())
        };
        let Some(mut active) = active else { return true };
        batches.iter().map(|batch| Header::from(&batch.header)).any(|header| {
            let rolls = !active.has_room_for(&header, &config);
            active.size += header.size;
            rolls
        })
    }

    /// Writes all batches, rolling where a segment is full.
    fn write(&self, draft: &mut Draft, batches: &[Batch]) -> Result<(), (&'static str, io::Error)> {
        let config = draft.config.clone();
        let interval = config.index_interval_bytes;
        let mut rest = batches;
        while let Some(first) = rest.first() {
            let first = Header::from(&first.header);
            let full = |active: &Segment| !active.has_room_for(&first, &config);
            if draft.segments.last().is_none_or(full) {
                self.roll(draft, &first).map_err(|error| ("roll", error))?;
            }
            let Some(active) = draft.segments.last_mut() else { return Ok(()) };
            let start = active.size;
            let mut entries = IndexEntries::default();
            let mut aborted = Vec::new();
            let mut count = 0;
            for batch in rest {
                let header = Header::from(&batch.header);
                if count > 0 && !active.has_room_for(&header, &config) {
                    break;
                }
                active.add(&header, interval, &mut entries);
                draft.largest_producer_id = draft.largest_producer_id.max(header.producer_id);
                if Transactions::concern(&header) {
                    let transactions = draft.transactions.get_or_insert_with(|| self.lock().transactions.clone());
                    let says = if header.is_control() { marker(&batch.bytes) } else { None };
                    aborted.extend(transactions.on_batch(&header, says).map(|aborted| aborted.encode()));
                }
                draft.log_end = header.next();
                count += 1;
            }
            let (now, later) = rest.split_at(count);
            let open = &self.directory.open_files;
            open.open(&active.files, Kind::Log)
                .and_then(|file| file.write_pieces_at(now.iter().map(|batch| &batch.bytes), start))
                .map_err(|error| ("append to", error))?;
            self.write_aborted(active, aborted.as_flattened()).map_err(|error| ("index transactions of", error))?;
            active.write_entries(open, &entries).map_err(|error| ("index", error))?;
            rest = later;
        }
        Ok(())
    }

    fn write_aborted(&self, active: &mut Segment, entries: &[u8]) -> io::Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let open = &self.directory.open_files;
        let file = match active.txn_entries {
            0 => open.create(&active.files, Kind::TxnIndex)?,
            _ => open.open(&active.files, Kind::TxnIndex)?,
        };
        file.write_all_at(entries, active.valid_bytes(Kind::TxnIndex))?;
        active.txn_entries += (entries.len() / ABORTED_BYTES) as u32;
        Ok(())
    }

    /// Closes the active segment of `draft` and begins another where the log ends; or, if `first` lies too far from there
    /// for a 32-bit relative offset, where `first` begins.
    ///
    /// Kafka names a segment by its first batch. By naming it by the end of the one before, recovery can tell a tail that
    /// the disk lost from a gap of compaction: segments touch. Only over a gap too wide they do not, and then the older one
    /// is synced first.
    fn roll(&self, draft: &mut Draft, first: &Header) -> io::Result<()> {
        let touches = i32::try_from(first.last.0 - draft.log_end.0).is_ok();
        let base = if touches { draft.log_end } else { first.base };
        if let Some(active) = draft.segments.last_mut() {
            self.finish(active)?;
            if !touches {
                self.sync_segment(active)?;
            }
        }
        let contents = {
            let state = self.lock();
            let transactions = draft.transactions.as_ref().unwrap_or(&state.transactions);
            snapshot::encode(transactions, state.producers(), draft.largest_producer_id)
        };
        self.write_snapshot(&contents, base, Durably::Now)?;
        draft.segments.push(self.create_segment(base)?);
        draft.rolled = true;
        Ok(())
    }

    /// Brings the files of a segment that will not grow to their final state (`LogSegment.onBecomeInactiveSegment`).
    pub(crate) fn finish(&self, segment: &mut Segment) -> io::Result<()> {
        let mut entries = IndexEntries::default();
        segment.add_time_entry(&mut entries.times);
        segment.write_entries(&self.directory.open_files, &entries)?;
        self.trim(segment)
    }

    /// Cuts off whatever failed appends left beyond the valid sizes.
    pub(crate) fn trim(&self, segment: &Segment) -> io::Result<()> {
        for kind in KINDS {
            if kind == Kind::TxnIndex && segment.txn_entries == 0 {
                continue;
            }
            let file = self.directory.open_files.open(&segment.files, kind)?;
            let valid = segment.valid_bytes(kind);
            if file.len()? != valid {
                file.truncate(valid)?;
            }
        }
        Ok(())
    }

    /// Syncs all files of a segment.
    pub(crate) fn sync_segment(&self, segment: &Segment) -> io::Result<()> {
        for kind in KINDS {
            if kind != Kind::TxnIndex || segment.txn_entries > 0 {
                self.directory.open_files.open(&segment.files, kind)?.sync()?;
            }
        }
        Ok(())
    }

    pub(crate) fn snapshot_path(&self, offset: Offset) -> PathBuf {
        segment_path(&self.dir, offset, "snapshot")
    }

    /// Keeps what is known of producers at `offset`.
    pub(crate) fn write_snapshot(&self, contents: &[u8], offset: Offset, durably: Durably) -> io::Result<()> {
        self.directory.disk.replace_with(&self.snapshot_path(offset), contents, durably)
    }

    /// Makes the files of a new segment.
    pub(crate) fn create_segment(&self, base: Offset) -> io::Result<Segment> {
        create_segment(&self.directory, &self.dir, base)
    }

    /// Takes back what a failed append wrote, as far as the disk lets us; the sizes in `before` stay the truth.
    fn undo(&self, before: Option<&Segment>, draft: &Draft) {
        for made in draft.segments.iter().skip(1).rev() {
            made.files
                .remove(&self.directory.disk)
                .unwrap_or_else(|error| tracing::debug!(id = %self.id, %error, "undo a roll"));
        }
        if let Some(before) = before {
            self.trim(before).unwrap_or_else(|error| tracing::debug!(id = %self.id, %error, "undo an append"));
        }
    }

    /// Gives the empty active segment another name, so that the log can begin there.
    fn rename_empty(&self, base: Offset) -> Result<(), Error> {
        // What a clean shutdown left there told of another log.
        let made = self.directory.disk.remove(&self.snapshot_path(base)).and_then(|()| self.create_segment(base));
        let made = made.map_err(|source| self.io("make a segment of", source))?;
        let old = {
            let mut state = self.lock();
            state.names_dirty = true;
            state.removals += 1; // who is about to open or sync the old file finds it gone
            std::mem::replace(&mut state.segments, vec![made])
        };
        for segment in old.iter().rev() {
            segment.files.remove(&self.directory.disk).map_err(|source| self.io("remove a segment of", source))?;
        }
        Ok(())
    }

    fn publish(&self, draft: Draft, batches: &[Batch]) -> Watermarks {
        let mut state = self.lock();
        state.segments.pop();
        state.segments.extend(draft.segments);
        state.log_end = draft.log_end;
        if let Some(transactions) = draft.transactions {
            state.transactions = transactions;
        }
        state.largest_producer_id = draft.largest_producer_id;
        let mut epoch = state.epochs.latest();
        for Batch { header, .. } in batches {
            if header.leader_epoch > epoch {
                epoch = header.leader_epoch;
                let is_news = state.epochs.assign(epoch, header.base_offset);
                state.epochs_file.note(is_news);
            }
        }
        if batches.first().is_some_and(|first| first.header.base_offset < state.log_start) {
            let log_start = state.log_start;
            state.epochs.truncate_from_start(log_start);
        }
        let visible = state.high_watermark();
        state.transactions.on_high_watermark(visible);
        state.note_append(Status::Online);
        state.touched = true;
        state.names_dirty |= draft.rolled;
        state.check();
        state.watermarks()
    }

    /// Tells those who wait that the watermarks changed.
    pub(crate) fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Has the flusher look at this log: at its next turn, or at once.
    pub(crate) fn mark_dirty(&self, at_once: bool) {
        if !self.queued.swap(true, Ordering::AcqRel) || at_once {
            self.directory.enqueue(self.this.clone(), at_once);
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(crate) fn io(&self, what: &str, source: io::Error) -> Error {
        Error::Io { what: format!("{what} {}", self.id), source }
    }
}

impl State {
    /// After a flush that did not come to its end: names and epochs may not be durable.
    pub(crate) fn expect_nothing(&mut self) {
        self.names_dirty = true;
        self.epochs_file.note(!self.epochs.entries().is_empty());
    }

    pub(crate) fn high_watermark(&self) -> Offset {
        match self.leading {
            Some(_) => self.log_end,
            None => self.observed_high_watermark.clamp(self.log_start, self.log_end),
        }
    }

    /// What a snapshot says of idempotent producers: nothing, for a mirror.
    fn producers(&self) -> Option<&Producers> {
        self.leading.as_ref().map(|leading| &leading.producers)
    }

    /// A snapshot of the log end.
    pub(crate) fn encode_snapshot(&self) -> Vec<u8> {
        snapshot::encode(&self.transactions, self.producers(), self.largest_producer_id)
    }

    pub(crate) fn watermarks(&self) -> Watermarks {
        let high_watermark = self.high_watermark();
        let unstable = self.transactions.first_unstable().unwrap_or(high_watermark);
        Watermarks {
            log_start: self.log_start,
            last_stable: unstable.clamp(self.log_start, high_watermark),
            high_watermark,
            log_end: self.log_end,
            flushed: self.flushed,
            last_epoch: self.epochs.latest(),
        }
    }

    /// An append ended, well or not. What stopped the log meanwhile outlasts it.
    fn note_append(&mut self, outcome: Status) {
        if self.refuse_if_stopped().is_ok() {
            self.status = outcome;
        }
    }

    pub(crate) fn refuse_if_stopped(&self) -> Result<(), Error> {
        match &self.status {
            Status::Online | Status::Failing(_) => Ok(()),
            Status::Offline(reason) => Err(Error::Offline(reason.clone())),
            Status::Closing => Err(Error::Closing),
            Status::Closed => Err(Error::Offline("closed".into())),
        }
    }

    /// A mirror's writer has no business with an ordinary partition.
    pub(crate) fn refuse_if_led(&self, id: &TopicPartition) -> Result<(), Error> {
        if self.leading.is_some() { Err(Error::Led(id.clone())) } else { Ok(()) }
    }

    /// Index of the segment that holds `offset`.
    pub(crate) fn segment_at(&self, offset: Offset) -> usize {
        self.segments.partition_point(|segment| segment.base() <= offset).saturating_sub(1)
    }

    pub(crate) fn check(&self) {
        let (log_start, flushed, log_end) = (self.log_start, self.flushed, self.log_end);
        assert!(
            log_start <= flushed && flushed <= log_end,
            "log start {log_start} ≤ flushed {flushed} ≤ log end {log_end}"
        );
        assert!(self.segments.last().is_some_and(|active| active.base() <= log_end), "an active segment");
        debug_assert!(self.segments.is_sorted_by(|a, b| a.base() < b.base()), "segments rise");
    }
}

/// The rules of a mirror: offsets do not overlap, epochs do not fall.
fn check_order(batches: &[Batch], mut end: Offset, mut epoch: LeaderEpoch) -> Result<(), Error> {
    for Batch { header, .. } in batches {
        let refused = |reason| Err(Error::OutOfOrder { base: header.base_offset, log_end: end, reason });
        if header.base_offset < end {
            return refused("offsets overlap".into());
        }
        if header.leader_epoch < epoch {
            return refused(format!("leader epoch falls from {epoch} to {}", header.leader_epoch));
        }
        (end, epoch) = (header.next_offset(), header.leader_epoch);
    }
    Ok(())
}

pub(crate) fn create_segment(directory: &Directory, dir: &Arc<Path>, base: Offset) -> io::Result<Segment> {
    let files = SegmentFiles::new(dir.clone(), base);
    for kind in [Kind::Log, Kind::OffsetIndex, Kind::TimeIndex] {
        directory.open_files.create(&files, kind)?;
    }
    Ok(Segment::empty(files))
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
