//! The log of an ordinary partition: who leads it, the append of what a producer sends, its configs.
//!
//! A log that was opened is a mirror until [`PartitionLog::become_leader`] or
//! [`end_mirroring`](PartitionLog::end_mirroring) says otherwise, and takes no leader's append until then. From then on it
//! takes no mirror's. The one copy of an ordinary partition is its leader: the high watermark is the log end.
//!
//! *Leader epochs.* Each time a log is led anew (a start of the daemon, a promotion, data lost by the disk) the epoch rises
//! above every one it ever had. It is noted at the log end, and durable before the first batch that carries it can be read.

use crate::disk::Durably;
use crate::header::Header;
use crate::partition::{PartitionLog, State, lock};
use crate::producers::{NOT_SEEN, Producers, Verdict};
use crate::segment::Walk;
use crate::snapshot::Snapshot;
use crate::topic_config::TopicConfig;
use crate::validate::{LeaderAppendError, validate};
use crate::{Error, Watermarks};
use bytes::Bytes;
use hawser_wire::{LeaderEpoch, Offset};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// What makes a log an ordinary one.
#[derive(Clone, Debug)]
pub(crate) struct Leading {
    pub(crate) epoch: LeaderEpoch,
    pub(crate) producers: Producers,
    /// The active segment's base and the timestamp of its first batch, once asked for: what `segment.ms` counts from.
    pub(crate) rolls_from: Option<(Offset, i64)>,
}

/// What became of a producer's batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first record.
    pub first_offset: Offset,
    /// Offset of its last record.
    pub last_offset: Offset,
    /// When it was appended, ms since 1970, if the topic is stamped with `LogAppendTime`.
    pub log_append_time: Option<i64>,
    /// The log start.
    pub log_start: Offset,
    /// The producer had sent it before: nothing was appended now.
    pub duplicate: bool,
}

/// A producer as DescribeProducers shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveProducer {
    /// Its id.
    pub producer_id: i64,
    /// The epoch that it wrote with last.
    pub producer_epoch: i16,
    /// Sequence number of its last record, −1 if not known.
    pub last_sequence: i32,
    /// Timestamp of its last batch, ms since 1970; −1 if not known.
    pub last_timestamp: i64,
    /// Where its open transaction begins, if there is one.
    pub transaction_start: Option<Offset>,
}

impl PartitionLog {
    /// Makes this the log of an ordinary partition, led here under a new leader epoch, which is given back. A log that is
    /// led already keeps its epoch. What idempotent producers wrote is found in the snapshot of a clean shutdown, else in
    /// the headers of the active segment.
    ///
    /// # Errors
    /// File errors, `Offline`.
    pub fn become_leader(&self) -> Result<LeaderEpoch, Error> {
        let _writing = lock(&self.writing);
        {
            let state = self.lock();
            state.refuse_if_stopped()?;
            if let Some(leading) = &state.leading {
                return Ok(leading.epoch);
            }
        }
        let producers = self.load_producers().map_err(|source| self.io("load the producers of", source))?;
        Ok(self.lead(producers))
    }

    /// Begins a leadership under a new epoch, which the flusher makes durable. The caller holds `writing`.
    pub(crate) fn lead(&self, producers: Producers) -> LeaderEpoch {
        let epoch = self.lead_unflushed(producers);
        self.mark_dirty(false);
        epoch
    }

    /// As [`lead`](Self::lead), for a caller that flushes.
    pub(crate) fn lead_unflushed(&self, producers: Producers) -> LeaderEpoch {
        let epoch = {
            let mut state = self.lock();
            let epoch = state.begin_epoch();
            state.leading = Some(Leading { epoch, producers, rolls_from: None });
            let visible = state.high_watermark();
            state.transactions.on_high_watermark(visible);
            epoch
        };
        self.directory.checkpoints_are_stale();
        self.changed();
        epoch
    }

    /// The epoch under which this log is led; `None` for a mirror.
    pub fn leads(&self) -> Option<LeaderEpoch> {
        self.lock().leading.as_ref().map(|leading| leading.epoch)
    }

    /// What this log goes by.
    pub fn config(&self) -> Arc<TopicConfig> {
        self.lock().config.clone()
    }

    /// From now on this log goes by what `config` gives. It is asked under this log's lock, so that of two that configure it
    /// the later answer holds. Of a mirror only segments and indexes follow it: its bytes, retention and compaction are its
    /// source's.
    pub fn configure(&self, config: impl FnOnce() -> Arc<TopicConfig>) {
        let mut state = self.lock();
        state.config = config();
    }

    /// Appends one batch as a Kafka leader does: checks it, gives it offsets and the leader epoch, stamps it if the topic
    /// is stamped. A batch that its idempotent producer has sent before is not appended again but answered with its first
    /// place. `now_ms` is the time in ms since 1970.
    ///
    /// Decompresses, writes files and at times waits for an fsync: for a thread that may block. Safe to drop: what began
    /// runs to its end.
    ///
    /// # Errors
    /// See [`LeaderAppendError`]; nothing is appended then.
    pub fn append_as_leader(&self, records: Bytes, now_ms: i64) -> Result<Appended, LeaderAppendError> {
        let config = self.config();
        let valid = validate(records, &config, now_ms)?;
        let expired_at = now_ms.saturating_sub(self.directory.config.producer_id_expiration_ms);
        let _writing = lock(&self.writing);
        let log_append_time = config.log_append_time.then_some(now_ms);
        let (batch, log_start) = {
            let state = self.lock();
            state.refuse_if_stopped()?;
            let Some(leading) = &state.leading else { return Err(LeaderAppendError::NotLeader) };
            let log_start = state.log_start;
            let sent = Header::from(valid.header());
            if sent.producer_id >= 0 {
                let (producer_id, sequence) = (sent.producer_id, sent.base_sequence);
                match leading.producers.judge(&sent, expired_at) {
                    Verdict::Append => {}
                    Verdict::Duplicate(written) => {
                        return Ok(Appended {
                            first_offset: written.first_offset(),
                            last_offset: written.last_offset,
                            log_append_time: log_append_time.map(|_| written.timestamp),
                            log_start,
                            duplicate: true,
                        });
                    }
                    Verdict::StaleEpoch(known) => {
                        let epoch = sent.producer_epoch;
                        return Err(LeaderAppendError::InvalidProducerEpoch { producer_id, epoch, known });
                    }
                    Verdict::OutOfOrder(last_sequence) => {
                        return Err(LeaderAppendError::OutOfOrderSequence { producer_id, sequence, last_sequence });
                    }
                }
            }
            (valid.at(state.log_end, leading.epoch), log_start)
        };
        self.write_epochs(Durably::Now).map_err(|source| self.io("write epochs of", source))?;
        let rolls = self.is_aged(&config, batch.header.max_timestamp).map_err(|source| self.io("look into", source))?;
        self.append_in_turn(std::slice::from_ref(&batch), rolls)?;
        let header = Header::from(&batch.header);
        let unflushed = {
            let mut state = self.lock();
            if let Some(leading) = &mut state.leading {
                leading.producers.on_batch(&header, now_ms);
            }
            state.log_end.0 - state.flushed.0
        };
        drop(_writing);
        if unflushed >= config.flush_messages {
            self.flush()?;
        } else if self.flushes_sooner(&config) {
            self.mark_dirty(true);
        }
        let (first_offset, last_offset) = (header.base, header.last);
        Ok(Appended { first_offset, last_offset, log_append_time, log_start, duplicate: false })
    }

    /// Whether `flush.ms` is shorter than the data directory's interval: the flusher then does not wait.
    fn flushes_sooner(&self, config: &TopicConfig) -> bool {
        let every = self.directory.config.flush_interval.map_or(i64::MAX, |every| every.as_millis() as i64);
        config.flush_ms < every
    }

    /// Whether the active segment is to be rolled for its age before a batch with `timestamp` (`LogSegment.shouldRoll`):
    /// by the timestamps of records, so that it depends on nothing but them.
    fn is_aged(&self, config: &TopicConfig, timestamp: i64) -> io::Result<bool> {
        let (active, known) = {
            let state = self.lock();
            let Some(leading) = &state.leading else { return Ok(false) };
            (state.segments.last().cloned(), leading.rolls_from)
        };
        let Some(active) = active.filter(|active| active.size > 0) else { return Ok(false) };
        let first = match known {
            Some((base, first)) if base == active.base() => first,
            _ => {
                let mut walk = Walk::new(&active, &self.directory.open_files, 0)?;
                let first = walk.next()?.map_or(-1, |(_, header)| header.max_timestamp);
                if let Some(leading) = &mut self.lock().leading {
                    leading.rolls_from = Some((active.base(), first));
                }
                first
            }
        };
        // The jitter spreads the rolls of partitions; a partition's own is always the same.
        let jitter = match config.segment_jitter_ms.min(config.segment_ms) {
            0 => 0,
            most => active.base().0.wrapping_add(i64::from(self.id.partition)).wrapping_mul(0x9e37_79b9) % most,
        };
        let most = config.segment_ms_max().saturating_sub(jitter.saturating_abs());
        Ok(first >= 0 && timestamp.saturating_sub(first) > most)
    }

    /// Raises the log start as DeleteRecords asks (`UnifiedLog.maybeIncrementLogStartOffset`); −1 stands for the high
    /// watermark. Segments below it are removed in the background.
    ///
    /// # Errors
    /// `Kept` unless `cleanup.policy` names `delete`, `OutOfRange` above the high watermark or below −1, file errors,
    /// `Offline`.
    pub fn delete_records(&self, before: Offset) -> Result<Watermarks, Error> {
        let config = self.config();
        if config.compact && !config.delete {
            return Err(Error::Kept(self.id.clone()));
        }
        let at = self.watermarks();
        let before = if before == Offset(-1) { at.high_watermark } else { before };
        if before > at.high_watermark || before < Offset(0) {
            return Err(Error::OutOfRange { offset: before, log_start: at.log_start, log_end: at.high_watermark });
        }
        self.raise_log_start(before)
    }

    /// The idempotent producers that are remembered, and those with an open transaction, by id. Proportional to their
    /// number.
    pub fn active_producers(&self) -> Vec<ActiveProducer> {
        let state = self.lock();
        let mut active: BTreeMap<i64, ActiveProducer> = BTreeMap::new();
        for (producer_id, producer) in state.leading.iter().flat_map(|leading| leading.producers.iter()) {
            let known = ActiveProducer {
                producer_id,
                producer_epoch: producer.epoch,
                last_sequence: producer.last().map_or(-1, |last| last.last_sequence),
                last_timestamp: producer.last_timestamp,
                transaction_start: None,
            };
            active.insert(producer_id, known);
        }
        for (producer_id, first, producer_epoch) in state.transactions.open() {
            let unknown = ActiveProducer {
                producer_id,
                producer_epoch,
                last_sequence: -1,
                last_timestamp: -1,
                transaction_start: None,
            };
            active.entry(producer_id).or_insert(unknown).transaction_start = Some(first);
        }
        active.into_values().collect()
    }

    /// The largest producer id of any batch that this log ever held, −1 for none.
    pub fn largest_producer_id(&self) -> i64 {
        self.lock().largest_producer_id
    }

    /// Forgets producers that have been silent for `producer.id.expiration.ms`.
    pub(crate) fn expire_producers(&self, now_ms: i64) {
        let expired_at = now_ms.saturating_sub(self.directory.config.producer_id_expiration_ms);
        if let Some(leading) = &mut self.lock().leading {
            leading.producers.expire(now_ms, expired_at);
        }
    }

    /// What producers wrote up to the log end: from the youngest snapshot on. The caller holds `writing`.
    pub(crate) fn load_producers(&self) -> io::Result<Producers> {
        let (segments, log_end, touched) = {
            let state = self.lock();
            (state.segments.clone(), state.log_end, state.touched)
        };
        if !touched && let Some(snapshot) = Snapshot::read(&self.snapshot_path(log_end))? {
            return Ok(snapshot.producers);
        }
        let mut producers = Producers::default();
        let mut from = 0;
        for (index, segment) in segments.iter().enumerate().rev() {
            if let Some(snapshot) = Snapshot::read(&segment.files.snapshot_path())? {
                producers = snapshot.producers;
                from = index;
                break;
            }
        }
        for segment in segments.get(from..).unwrap_or_default() {
            let mut walk = Walk::new(segment, &self.directory.open_files, 0)?;
            while let Some((_, header)) = walk.next()? {
                producers.on_batch(&header, NOT_SEEN);
            }
        }
        Ok(producers)
    }
}

impl State {
    /// Notes an epoch above all others at the log end.
    pub(crate) fn begin_epoch(&mut self) -> LeaderEpoch {
        let epoch = LeaderEpoch(self.epochs.latest().max(self.epoch_floor).0.saturating_add(1).max(0));
        let log_end = self.log_end;
        let is_news = self.epochs.assign(epoch, log_end);
        self.epochs_file.note(is_news);
        epoch
    }
}
