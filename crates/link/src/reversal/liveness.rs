//! When a connection counts as dead. This is the only place that decides it, for both ends.
//!
//! The rule: **a control connection is dead when no frame has come for `interval × missed_max`**. Any frame is a
//! sign of life; beats only make sure that there is one. What follows from it is the machines' business: the
//! connection is closed, and with it every channel of that peer, because their connections lead to the same
//! process and would hang the same way.

use super::ControlFrame;
use std::time::{Duration, Instant};

/// Beats and their absence on one control connection.
#[derive(Clone, Debug)]
pub struct Liveness {
    interval: Duration,
    missed_max: u8,
    heard: Instant,
    beat_due: Instant,
    sequence: i64,
    unanswered: Option<(i64, Instant)>,
    round_trip: Option<Duration>,
}

impl Liveness {
    /// A connection that was open at `now`; the first beat is due at once.
    pub fn new(interval: Duration, missed_max: u8, now: Instant) -> Self {
        Self { interval, missed_max, heard: now, beat_due: now, sequence: 0, unanswered: None, round_trip: None }
    }

    /// Whether the peer counts as dead.
    pub fn is_dead(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.heard) >= self.silence_max()
    }

    /// How long the peer may be silent.
    pub fn silence_max(&self) -> Duration {
        self.interval * u32::from(self.missed_max)
    }

    /// A frame came.
    pub fn hear(&mut self, now: Instant) {
        self.heard = self.heard.max(now);
    }

    /// A beat was answered.
    pub fn acknowledge(&mut self, sequence: i64, now: Instant) {
        if let Some((_, sent)) = self.unanswered.take_if(|(expected, _)| *expected == sequence) {
            self.round_trip = Some(now.saturating_duration_since(sent));
        }
    }

    /// The beat to send, when one is due.
    pub fn beat(&mut self, now: Instant) -> Option<ControlFrame> {
        if now < self.beat_due {
            return None;
        }
        self.beat_due = now + self.interval;
        self.sequence += 1;
        self.unanswered = Some((self.sequence, now));
        Some(ControlFrame::Beat { sequence: self.sequence })
    }

    /// When to look again: the next beat, or the peer's death.
    pub fn deadline(&self) -> Instant {
        self.beat_due.min(self.heard + self.silence_max())
    }

    /// When a frame came last.
    pub fn last_heard(&self) -> Instant {
        self.heard
    }

    /// The round trip of the last answered beat.
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }
}
