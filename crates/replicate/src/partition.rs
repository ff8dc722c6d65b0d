//! One mirror partition: every decision about where to fetch, when to cut, when to wait and when to give up.
//!
//! ```text
//!            Opened                  leader known
//!   Closed ─────────► (begin) ◄──────────────────────── Leaderless
//!                        │
//!       ┌────────────────┼──────────────────────┬─────────────────────────┐
//!       │ copy is new    │ copy holds batches,  │ a write is outstanding  │ otherwise
//!       ▼                ▼ fetches carry no     ▼                         ▼
//!   Locating          Checking  lineage      Settling ── Stored ──► (begin)  Fetching ──► append ─┐
//!       │ ListOffsets    │ OffsetForLeaderEpoch  ▲  ▲                     │  ▲ └────────────────┘
//!       └────────────────┴── restart, truncate ──┘  └──── diverging ──────┤  │ lineages agree
//!                        ▲                                                │  │
//!                        └──── copy holds batches ◄── Probing ◄───────────┘  │ OFFSET_OUT_OF_RANGE
//!                                                                            │
//!   any error ──► Waiting ── deadline, or a newer leader ──► (begin) ────────┘
//!   Pause ──► Paused ── Resume ──► (begin)          dead ends ──► Failed
//! ```
//!
//! The position is the copy's own end, asked from the store at every (begin): there is no other record of progress.
//! While an append is outstanding the next fetch may already be asked for at the end that it will make; when the append
//! fails, whatever that fetch brings is dropped by the comparison of [`FetchAt`].
//!
//! Truncation follows Kafka's follower (`AbstractFetcherThread.getOffsetTruncationState`, KIP-101, KIP-279, KIP-595):
//! only the source's epoch lineage shortens a copy. An offset that is out of range never does by itself.

mod words;

pub use hawser_link::config::StartOffset as Start;
pub use words::{Actions, Event, FetchAt, Fetched, Leader, Patience, Phase, Report, Source, Want};

use crate::batches::{self, Expected, Fault};
use crate::reason::{Failure, Reason, Trouble, TroubleKind};
use crate::write::{Cut, Write, WriteError};
use hawser_store::{Position, StoreError};
use hawser_wire::{BatchError, LeaderEpoch, Offset, ResponseError};
use std::time::{Duration, Instant};

/// Longest wait of a partition that the source does not let us read, in place of `fetch_backoff` if that is shorter: the
/// right comes back by an operator's hand, who can wait for half a minute.
const UNAUTHORIZED_BACKOFF_MAX: Duration = Duration::from_secs(30);
/// The longest wait for a store that takes no writes, unless `replica.fetch.backoff.ms` is longer.
const STORE_BACKOFF_MAX: Duration = Duration::from_secs(10);

/// The machine. It holds no bytes of the log.
#[derive(Debug)]
pub struct Partition {
    start: Start,
    patience: Patience,
    lineage_in_fetch: bool,
    state: State,
    leader: Option<Leader>,
    position: Position,
    next: Offset,
    last_epoch: LeaderEpoch,
    writing: bool,
    opened: bool,
    paused: bool,
    located: bool,
    started: bool,
    trouble: Option<(Trouble, Instant)>,
    attempts: u32,
    source: Source,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Leaderless,
    Locating(Start),
    Probing(Probe),
    Checking { after_out_of_range: bool },
    Settling,
    Fetching,
    Waiting { until: Instant },
    Paused,
    Failed(Failure),
}

/// After OFFSET_OUT_OF_RANGE: which end of the source's log we ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    LogStart,
    LogEnd,
}

impl Partition {
    /// A closed partition. `start` matters only if the copy turns out to be empty at offset 0.
    pub fn new(start: Start, patience: Patience) -> Self {
        let nowhere =
            Position { log_start: Offset(0), log_end: Offset(0), flushed: Offset(0), last_epoch: LeaderEpoch::NONE };
        Self {
            start,
            patience,
            lineage_in_fetch: false,
            state: State::Closed,
            leader: None,
            position: nowhere,
            next: Offset(0),
            last_epoch: LeaderEpoch::NONE,
            writing: false,
            opened: false,
            paused: false,
            located: false,
            started: false,
            trouble: None,
            attempts: 0,
            source: Source { high_watermark: None, log_start: Offset(0) },
        }
    }

    /// Whether the broker's Fetch carries `last_fetched_epoch` (version 12 on, KIP-595). Without it lineages are compared
    /// by OffsetForLeaderEpoch at every (begin).
    pub fn set_lineage_in_fetch(&mut self, lineage_in_fetch: bool) {
        self.lineage_in_fetch = lineage_in_fetch;
    }

    /// What it wants now.
    pub fn want(&self) -> Want {
        let leader_epoch = self.leader.map_or(LeaderEpoch::NONE, |leader| leader.epoch);
        match self.state {
            State::Closed => Want::Open,
            State::Leaderless => Want::Leader,
            State::Locating(at) => Want::Offset { at, leader_epoch },
            State::Probing(Probe::LogStart) => Want::Offset { at: Start::Earliest, leader_epoch },
            State::Probing(Probe::LogEnd) => Want::Offset { at: Start::Latest, leader_epoch },
            State::Checking { .. } => Want::EpochEnd { epoch: self.position.last_epoch, leader_epoch },
            State::Fetching => Want::Fetch(FetchAt { offset: self.next, leader_epoch, last_epoch: self.last_epoch }),
            State::Settling | State::Waiting { .. } | State::Paused | State::Failed(_) => Want::Nothing,
        }
    }

    /// When [`Event::Tick`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { until } => Some(until),
            _ => None,
        }
    }

    /// Whether a write is outstanding; the copy must stay where it is until it is answered.
    pub fn is_writing(&self) -> bool {
        self.writing
    }

    /// The leader as far as known.
    pub fn leader(&self) -> Option<Leader> {
        self.leader
    }

    /// Where the copy stood after the last write.
    pub fn position(&self) -> Position {
        self.position
    }

    /// What the source said last.
    pub fn source(&self) -> Source {
        self.source
    }

    /// For status lines.
    pub fn phase(&self) -> Phase {
        match self.state {
            State::Closed | State::Leaderless | State::Locating(_) | State::Probing(_) | State::Settling => {
                Phase::Starting
            }
            State::Checking { .. } => Phase::Starting,
            State::Fetching => Phase::Fetching,
            State::Waiting { .. } => Phase::Waiting,
            State::Paused => Phase::Paused,
            State::Failed(_) => Phase::Failed,
        }
    }

    /// The trouble that it is in, until data flows.
    pub fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref().map(|(trouble, _)| trouble)
    }

    /// The dead end that it came to.
    pub fn failure(&self) -> Option<&Failure> {
        match &self.state {
            State::Failed(failure) => Some(failure),
            _ => None,
        }
    }

    /// Takes an event in. An event that does not fit the state (a late answer) changes nothing.
    pub fn on(&mut self, event: Event, now: Instant) -> Actions {
        let mut actions = Actions::default();
        match event {
            Event::Opened(position) if self.state == State::Closed => {
                (self.opened, self.position) = (true, position);
                self.begin(now, &mut actions);
            }
            Event::OpenFailed(error) if self.state == State::Closed => self.store_failed(&error, now, &mut actions),
            Event::Opened(_) | Event::OpenFailed(_) => {}
            Event::Leader(leader) => self.leader_named(leader, now, &mut actions),
            Event::Fetched(fetched) if self.state == State::Fetching => self.fetched(fetched, now, &mut actions),
            Event::NoNews if self.state == State::Fetching && !self.writing => self.recovered(&mut actions),
            Event::Fetched(_) | Event::NoNews => {}
            Event::EpochEnd { theirs, ours } => self.epoch_end(theirs, ours, now, &mut actions),
            Event::Offset(offset) => self.offset_found(offset, now, &mut actions),
            Event::Refused(code) => self.refused(code, now, &mut actions),
            Event::Stored(position) => self.stored(position, now, &mut actions),
            Event::StoreFailed(position, error) => {
                self.writing = false;
                self.position = position;
                match error {
                    WriteError::Corrupt(error) => self.corrupt(&error, now, &mut actions),
                    WriteError::Store(error) => self.store_failed(&error, now, &mut actions),
                }
            }
            // A write that is outstanding finds it out by itself.
            Event::Looked(position) if !self.writing && position.log_end < self.position.log_end => {
                let source = std::io::Error::other("what was not flushed is lost");
                let what = format!("keep offsets {} to {}", position.log_end, self.position.log_end);
                self.position = position;
                self.store_failed(&StoreError::Io { what, source }, now, &mut actions);
            }
            Event::Looked(_) => {}
            Event::Tick => {
                if self.deadline().is_some_and(|until| until <= now) {
                    self.begin(now, &mut actions);
                }
            }
            Event::Pause => {
                self.paused = true;
                if !matches!(self.state, State::Closed | State::Failed(_)) {
                    self.state = State::Paused;
                }
            }
            Event::Resume => {
                self.paused = false;
                if self.state == State::Paused {
                    self.begin(now, &mut actions);
                }
            }
            Event::Fail(failure) => self.fail(failure, &mut actions),
        }
        debug_assert!(self.position.log_start <= self.position.log_end, "log start ≤ log end");
        debug_assert!(self.next >= self.position.log_end || self.state != State::Fetching || self.writing);
        debug_assert!(actions.write.is_none() || self.writing, "an ordered write is outstanding");
        actions
    }

    /// Decides from scratch, by the copy and the leader alone.
    fn begin(&mut self, now: Instant, actions: &mut Actions) {
        if !self.opened {
            self.state = State::Closed;
            return;
        }
        if self.paused {
            self.state = State::Paused;
            return;
        }
        if self.writing {
            self.state = State::Settling;
            return;
        }
        let Some(leader) = self.leader else {
            self.state = State::Leaderless;
            actions.refresh = true;
            return;
        };
        (self.next, self.last_epoch) = (self.position.log_end, self.position.last_epoch);
        if leader.epoch != LeaderEpoch::NONE && leader.epoch < self.position.last_epoch {
            let detail = format!("leader epoch {} is below {} of mirrored batches", leader.epoch, self.last_epoch);
            return self.wait(TroubleKind::EpochBehind, detail, now, actions);
        }
        let is_new = self.position.log_end == Offset(0) && self.position.last_epoch == LeaderEpoch::NONE;
        self.located |= !is_new; // cut down to nothing later, it has still begun
        if !self.located {
            self.state = State::Locating(self.start);
        } else if !self.lineage_in_fetch && self.position.last_epoch != LeaderEpoch::NONE {
            self.state = State::Checking { after_out_of_range: false };
        } else {
            self.fetch(actions);
        }
    }

    fn fetch(&mut self, actions: &mut Actions) {
        self.state = State::Fetching;
        if !self.started {
            self.started = true;
            actions.reports.push(Report::Started { at: self.next });
        }
    }

    fn leader_named(&mut self, leader: Leader, now: Instant, actions: &mut Actions) {
        if self.leader.is_some_and(|known| leader.epoch < known.epoch || leader == known) {
            return; // stale metadata (KIP-320), or nothing new
        }
        self.leader = Some(leader);
        match self.state {
            State::Closed | State::Paused | State::Failed(_) => {}
            State::Waiting { .. } if self.trouble().is_some_and(|t| t.kind == TroubleKind::Store) => {}
            State::Leaderless
            | State::Locating(_)
            | State::Probing(_)
            | State::Checking { .. }
            | State::Settling
            | State::Fetching
            | State::Waiting { .. } => self.begin(now, actions),
        }
    }

    fn fetched(&mut self, fetched: Fetched, now: Instant, actions: &mut Actions) {
        let Fetched { high_watermark, log_start, records } = fetched;
        let leader_epoch = self.leader.map_or(LeaderEpoch::NONE, |leader| leader.epoch);
        let holds_nothing =
            self.last_epoch == LeaderEpoch::NONE && self.position.log_start == self.position.log_end && !self.writing;
        let (next, last_epoch) = (self.next, self.last_epoch);
        let taken = batches::take(records, Expected { next, last_epoch, leader_epoch, holds_nothing });
        let seen_before = self.source.high_watermark;
        self.source.high_watermark = Some(high_watermark);
        self.source.log_start = self.source.log_start.max(log_start);

        let log_start = log_start.min(taken.next);
        let moves = log_start > self.position.log_start;
        // What else is written may have failed before, and the high watermark with it.
        let tells_end = moves || !taken.batches.is_empty() || seen_before != Some(high_watermark);
        let write = Write {
            cut: None,
            log_start: moves.then_some(log_start),
            high_watermark: tells_end.then_some(high_watermark),
            append: taken.batches,
        };
        (self.next, self.last_epoch) = (taken.next, taken.last_epoch);
        let is_ordered = !write.is_empty();
        if is_ordered {
            self.order(write, actions);
        }
        match taken.fault {
            Some(fault) => self.faulty(fault, now, actions),
            None if is_ordered => {} // it has recovered once that is stored
            None => self.recovered(actions),
        }
    }

    fn faulty(&mut self, fault: Fault, now: Instant, actions: &mut Actions) {
        let detail = fault.to_string();
        match fault {
            Fault::Batch(BatchError::OldFormat { .. }) => {
                self.fail(Failure { reason: Reason::UnsupportedMessageFormat, detail }, actions);
            }
            Fault::Batch(_) => self.wait(TroubleKind::Corrupt, detail, now, actions),
            Fault::Overlaps { .. } => self.wait(TroubleKind::OutOfOrder, detail, now, actions),
            Fault::EpochFell { .. } => self.wait(TroubleKind::EpochFell, detail, now, actions),
            Fault::EpochAhead { .. } => self.wait(TroubleKind::Leadership, detail, now, actions),
        }
    }

    /// The source's lineage against ours: `AbstractFetcherThread.getOffsetTruncationState`.
    fn epoch_end(
        &mut self,
        theirs: Option<(LeaderEpoch, Offset)>,
        ours: Option<(LeaderEpoch, Offset)>,
        now: Instant,
        actions: &mut Actions,
    ) {
        if !matches!(self.state, State::Fetching | State::Checking { .. }) {
            return;
        }
        if self.writing {
            return self.begin(now, actions); // decide on what the copy holds once it is written
        }
        let (epoch, end) = (self.position.last_epoch, self.position.log_end);
        let Some((their_epoch, their_end)) = theirs else {
            let detail = format!("the source does not know leader epoch {epoch}, which the copy ends with");
            return self.wait(TroubleKind::LineageUnknown, detail, now, actions);
        };
        if their_epoch == epoch && their_end >= end {
            if self.state == (State::Checking { after_out_of_range: false }) {
                return self.fetch(actions);
            }
            let detail = format!("offset {end} is refused although epoch {epoch} ends at {their_end}");
            return self.wait(TroubleKind::OutOfRange, detail, now, actions);
        }
        if self.lineage_in_fetch && matches!(self.state, State::Checking { .. }) {
            // Fetch will say so itself, and it names the topic by its id; this question names it by its name only, and
            // a topic may have been made anew under it.
            let detail = format!("offset {end} is out of range; the source's epoch {their_epoch} ends at {their_end}");
            return self.wait(TroubleKind::OutOfRange, detail, now, actions);
        }
        let cut = match ours {
            Some((our_epoch, our_end)) if our_epoch == their_epoch => Cut::TruncateTo(our_end.min(their_end)),
            // They have an epoch that we lack: go back to before it, and ask again.
            Some((_, our_end)) => Cut::TruncateTo(our_end),
            // All that we hold, or held before it was trimmed, is of epochs that they lack.
            None => Cut::RestartAt(self.position.log_start.min(their_end)),
        };
        let cut = match cut {
            Cut::TruncateTo(to) if to < self.position.log_start => Cut::RestartAt(to),
            cut => cut,
        };
        let (Cut::TruncateTo(to) | Cut::RestartAt(to)) = cut;
        if their_epoch > epoch || (to >= end && matches!(cut, Cut::TruncateTo(_))) {
            let detail = format!("asked for the end of epoch {epoch}, told of epoch {their_epoch} at {their_end}");
            return self.wait(TroubleKind::Source, detail, now, actions);
        }
        actions.reports.push(Report::Truncated { from: end, to });
        self.cut(cut, actions);
    }

    fn offset_found(&mut self, offset: Option<Offset>, now: Instant, actions: &mut Actions) {
        let end = self.position.log_end;
        match (&self.state, offset) {
            (State::Locating(Start::Timestamp(_)), None) => self.state = State::Locating(Start::Latest),
            (State::Locating(_) | State::Probing(_), None) => {
                self.wait(TroubleKind::Source, "the source did not name an offset".into(), now, actions);
            }
            (State::Locating(_), Some(at)) => {
                if at != end {
                    return self.cut(Cut::RestartAt(at), actions); // stored, the copy is no longer new
                }
                self.located = true;
                self.begin(now, actions);
            }
            (State::Probing(Probe::LogStart), Some(log_start)) if end < log_start => {
                self.source.log_start = self.source.log_start.max(log_start);
                actions.reports.push(Report::Gap { from: end, to: log_start });
                self.cut(Cut::RestartAt(log_start), actions);
            }
            (State::Probing(Probe::LogStart), Some(_)) if self.position.last_epoch != LeaderEpoch::NONE => {
                self.state = State::Checking { after_out_of_range: true };
            }
            (State::Probing(Probe::LogStart), Some(_)) => self.state = State::Probing(Probe::LogEnd),
            (State::Probing(Probe::LogEnd), Some(log_end)) if log_end < end => {
                // The copy holds nothing: nothing is lost by beginning lower, and nothing is skipped.
                actions.reports.push(Report::Truncated { from: end, to: log_end });
                self.cut(Cut::RestartAt(log_end), actions);
            }
            (State::Probing(Probe::LogEnd), Some(log_end)) => {
                let detail = format!("offset {end} is out of range although the log ends at {log_end}");
                self.wait(TroubleKind::OutOfRange, detail, now, actions);
            }
            _ => {}
        }
    }

    fn refused(&mut self, code: i16, now: Instant, actions: &mut Actions) {
        match self.state {
            State::Fetching | State::Locating(_) | State::Probing(_) | State::Checking { .. } => {}
            _ => return,
        }
        let error = ResponseError::try_from_code(code);
        let detail = error.map_or_else(|| format!("error code {code}"), |error| error.to_string());
        let kind = match error {
            Some(ResponseError::OffsetOutOfRange) if self.state == State::Fetching => {
                self.state = if self.writing { State::Settling } else { State::Probing(Probe::LogStart) };
                return;
            }
            Some(
                ResponseError::NotLeaderOrFollower
                | ResponseError::FencedLeaderEpoch
                | ResponseError::UnknownLeaderEpoch
                | ResponseError::LeaderNotAvailable
                | ResponseError::ReplicaNotAvailable
                | ResponseError::OffsetNotAvailable,
            ) => TroubleKind::Leadership,
            Some(
                ResponseError::UnknownTopicOrPartition
                | ResponseError::UnknownTopicId
                | ResponseError::InconsistentTopicId,
            ) => TroubleKind::UnknownTopic,
            Some(ResponseError::TopicAuthorizationFailed | ResponseError::ClusterAuthorizationFailed) => {
                TroubleKind::Unauthorized
            }
            Some(ResponseError::CorruptMessage) => TroubleKind::Corrupt,
            Some(ResponseError::UnsupportedForMessageFormat) => {
                return self.fail(Failure { reason: Reason::UnsupportedMessageFormat, detail }, actions);
            }
            _ => TroubleKind::Source,
        };
        self.wait(kind, detail, now, actions);
    }

    fn stored(&mut self, position: Position, now: Instant, actions: &mut Actions) {
        self.writing = false;
        self.position = position;
        match self.state {
            State::Settling => self.begin(now, actions),
            State::Fetching if position.log_end != self.next => {
                let detail = format!("the copy ends at {} after an append up to {}", position.log_end, self.next);
                self.wait(TroubleKind::OutOfOrder, detail, now, actions);
            }
            State::Fetching => self.recovered(actions),
            _ => {}
        }
    }

    fn corrupt(&mut self, error: &BatchError, now: Instant, actions: &mut Actions) {
        match self.state {
            State::Settling => self.begin(now, actions),
            State::Paused | State::Failed(_) => {}
            _ => self.wait(TroubleKind::Corrupt, error.to_string(), now, actions),
        }
    }

    fn store_failed(&mut self, error: &StoreError, now: Instant, actions: &mut Actions) {
        let detail = error.to_string();
        match (&self.state, error) {
            (State::Failed(_), _) => {}
            (_, StoreError::Fenced(_) | StoreError::Refused(_)) => {
                self.fail(Failure { reason: Reason::IllegalState, detail }, actions);
            }
            (State::Paused, _) => {}
            (_, StoreError::OutOfOrder { .. }) => self.wait(TroubleKind::OutOfOrder, detail, now, actions),
            (_, _) => self.wait(TroubleKind::Store, detail, now, actions),
        }
    }

    /// Orders a cut; the copy is looked at anew when it is done.
    fn cut(&mut self, cut: Cut, actions: &mut Actions) {
        self.state = State::Settling;
        self.order(Write { cut: Some(cut), ..Write::default() }, actions);
    }

    fn order(&mut self, write: Write, actions: &mut Actions) {
        debug_assert!(!self.writing, "one write at a time");
        self.writing = true;
        actions.write = Some(write);
    }

    fn wait(&mut self, kind: TroubleKind, detail: String, now: Instant, actions: &mut Actions) {
        let since = match &self.trouble {
            Some((known, since)) if known.kind == kind => *since,
            _ => {
                self.attempts = 0;
                now
            }
        };
        if let Some(reason) = kind.ends_as()
            && now.saturating_duration_since(since) >= self.patience.retry_timeout
        {
            return self.fail(Failure { reason, detail }, actions);
        }
        let trouble = Trouble { kind, detail };
        if self.trouble() != Some(&trouble) {
            actions.reports.push(Report::Trouble(trouble.clone()));
        }
        self.trouble = Some((trouble, since));
        let Patience { retry_backoff, retry_backoff_max, fetch_backoff, .. } = self.patience;
        let backoff = match kind {
            TroubleKind::Leadership | TroubleKind::EpochBehind => {
                retry_backoff.saturating_mul(1 << self.attempts.min(16)).min(retry_backoff_max)
            }
            // Each try may cost the other partitions of the broker a turn: a source half that does not let the topic out
            // answers the whole fetch itself.
            TroubleKind::Unauthorized => fetch_backoff
                .saturating_mul(1 << self.attempts.min(16))
                .min(fetch_backoff.max(UNAUTHORIZED_BACKOFF_MAX)),
            // Each try brings bytes over the line, which are thrown away while the disk is full.
            TroubleKind::Store => {
                fetch_backoff.saturating_mul(1 << self.attempts.min(16)).min(fetch_backoff.max(STORE_BACKOFF_MAX))
            }
            _ => fetch_backoff,
        };
        self.attempts = self.attempts.saturating_add(1);
        actions.refresh = !matches!(kind, TroubleKind::Store | TroubleKind::Corrupt | TroubleKind::OutOfOrder);
        // A write that is still outstanding is answered first; the deadline then finds the copy settled.
        self.state = State::Waiting { until: now + backoff };
    }

    fn recovered(&mut self, actions: &mut Actions) {
        self.attempts = 0;
        if self.trouble.take().is_some() {
            actions.reports.push(Report::Recovered);
        }
    }

    fn fail(&mut self, failure: Failure, actions: &mut Actions) {
        if !matches!(self.state, State::Failed(_)) {
            actions.reports.push(Report::Failed(failure.clone()));
            self.state = State::Failed(failure);
        }
    }
}

#[cfg(test)]
mod tests;
