//! How much one fetch may bring. It starts as configured and grows with round trip × rate, so that a long line is kept
//! full with one fetch in flight; it is bounded, as two answers may be in memory. The fetchers of one broker share what is
//! configured and the bound, so a link's memory does not grow with their number.
//!
//! After a fetch that failed it is halved, and doubled again with every full answer: what a slow or frail line does not
//! bring whole would be asked for again for ever. That a line is merely slow is no failure (the client waits for as long
//! as an answer goes on coming), so the floor may stay above what a line brings within a request's time-out.

use std::time::Duration;

/// Largest answers that all fetchers of a broker together ever ask for, unless the configuration asks for more.
pub const RESPONSE_BYTES_MAX: usize = 24 << 20;
/// What failures never shrink an answer below, in bytes: less would be all round trips.
const RESPONSE_BYTES_FLOOR: usize = 64 << 10;
/// The share of a fetch that may be spent waiting for the round trip: one part in this many.
const ROUND_TRIP_PARTS: f64 = 4.0;
/// Weight of a new sample of the rate.
const SMOOTHING: f64 = 0.3;

/// The rule, with what it has seen.
#[derive(Clone, Copy, Debug)]
pub struct Sizer {
    configured: usize,
    max: usize,
    /// At most this after failures; `None` without.
    limit: Option<usize>,
    round_trip: Duration,
    bytes_per_second: f64,
}

impl Sizer {
    /// `configured` is `replica.fetch.response.max.bytes`, of which each of `fetchers` fetchers has its share.
    pub fn new(configured: usize, fetchers: usize) -> Self {
        let (configured, max) = (configured / fetchers.max(1), RESPONSE_BYTES_MAX / fetchers.max(1));
        Self { configured, max, limit: None, round_trip: Duration::ZERO, bytes_per_second: 0.0 }
    }

    /// A small request took this long.
    pub fn saw_round_trip(&mut self, took: Duration) {
        self.round_trip = took;
        self.bytes_per_second = 0.0;
    }

    /// A fetch brought `bytes` after this long. Small answers say nothing about the rate.
    #[allow(clippy::cast_precision_loss)] // a rate
    pub fn saw_answer(&mut self, bytes: usize, took: Duration) {
        if bytes < self.response_bytes() / 2 {
            return;
        }
        self.limit = self.limit.map(|limit| limit * 2).filter(|limit| *limit < self.configured);
        let transfer = took.saturating_sub(self.round_trip).max(Duration::from_micros(100));
        let sample = bytes as f64 / transfer.as_secs_f64();
        self.bytes_per_second = match self.bytes_per_second {
            0.0 => sample,
            known => known + SMOOTHING * (sample - known),
        };
    }

    /// A fetch brought nothing: it was too late, or its connection broke.
    pub fn saw_failure(&mut self) {
        let less = self.response_bytes().min(self.configured) / 2;
        self.limit = Some(less.max(RESPONSE_BYTES_FLOOR)).filter(|limit| *limit < self.configured);
    }

    /// What the next fetch may bring, in whole MiB above the configured size.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // bounded on the next line
    pub fn response_bytes(&self) -> usize {
        if let Some(limit) = self.limit {
            return limit;
        }
        let wanted = self.bytes_per_second * self.round_trip.as_secs_f64() * ROUND_TRIP_PARTS;
        let wanted = wanted.min(self.max as f64) as usize;
        self.configured.max(wanted >> 20 << 20)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn after(round_trip_ms: u64, rate: usize) -> usize {
        let mut sizer = Sizer::new(10 * MIB, 1);
        let round_trip = Duration::from_millis(round_trip_ms);
        sizer.saw_round_trip(round_trip);
        for _ in 0..50 {
            let bytes = sizer.response_bytes();
            let transfer = Duration::from_micros((bytes * 1_000_000 / rate) as u64);
            sizer.saw_answer(bytes, round_trip + transfer);
        }
        sizer.response_bytes()
    }

    #[test]
    fn it_grows_with_round_trip_times_rate_and_is_bounded() {
        assert_eq!(after(0, 1_000 * MIB), 10 * MIB);
        assert_eq!(after(1, 1_000 * MIB), 10 * MIB);
        assert!((18 * MIB..=20 * MIB).contains(&after(50, 100 * MIB)));
        assert_eq!(after(100, 1_000 * MIB), RESPONSE_BYTES_MAX);
    }

    #[test]
    fn failures_shrink_it_to_a_floor_and_full_answers_bring_it_back() {
        let mut sizer = Sizer::new(10 * MIB, 1);
        sizer.saw_round_trip(Duration::from_millis(1));
        sizer.saw_failure();
        assert_eq!(sizer.response_bytes(), 5 * MIB);
        for _ in 0..20 {
            sizer.saw_failure();
        }
        assert_eq!(sizer.response_bytes(), RESPONSE_BYTES_FLOOR);
        sizer.saw_answer(1_000, Duration::from_millis(500));
        assert_eq!(sizer.response_bytes(), RESPONSE_BYTES_FLOOR, "an idle line proves nothing");
        let mut sizes = Vec::new();
        while sizer.response_bytes() < 10 * MIB {
            sizer.saw_answer(sizer.response_bytes(), Duration::from_secs(20));
            sizes.push(sizer.response_bytes() / 1024);
        }
        assert_eq!(sizes, [128, 256, 512, 1024, 2048, 4096, 8192, 10 * 1024]);
        let mut small = Sizer::new(10_000, 1);
        small.saw_failure();
        assert_eq!(small.response_bytes(), 10_000, "configured below the floor");
    }

    #[test]
    fn fetchers_share_what_is_configured_and_the_bound() {
        let mut sizer = Sizer::new(10 * MIB, 2);
        assert_eq!(sizer.response_bytes(), 5 * MIB);
        sizer.saw_round_trip(Duration::from_millis(100));
        sizer.saw_answer(5 * MIB, Duration::from_millis(101));
        assert_eq!(sizer.response_bytes(), RESPONSE_BYTES_MAX / 2);
    }

    #[test]
    fn small_answers_say_nothing() {
        let mut sizer = Sizer::new(10 * MIB, 1);
        sizer.saw_round_trip(Duration::from_millis(100));
        sizer.saw_answer(1_000, Duration::from_millis(100));
        assert_eq!(sizer.response_bytes(), 10 * MIB);
    }
}
