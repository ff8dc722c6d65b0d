//! A rate limit over all channels of a link: a token bucket that may run into debt, so that a chunk is never cut.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bytes a second, with a burst of a tenth of a second.
#[derive(Debug)]
pub(crate) struct Throttle {
    bytes_per_second: f64,
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    /// Bytes that may leave now; negative: a debt.
    tokens: f64,
    filled: Instant,
}

impl Throttle {
    pub(crate) fn new(bytes_per_second: u64, now: Instant) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a rate needs no 53 bits")]
        let bytes_per_second = bytes_per_second as f64;
        Self { bytes_per_second, bucket: Mutex::new(Bucket { tokens: bytes_per_second / 10.0, filled: now }) }
    }

    /// Takes `bytes` and says how long to wait before they may leave.
    pub(crate) fn take(&self, bytes: usize, now: Instant) -> Duration {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let since = now.saturating_duration_since(bucket.filled).as_secs_f64();
        let burst = self.bytes_per_second / 10.0;
        bucket.filled = now.max(bucket.filled);
        #[expect(clippy::cast_precision_loss, reason = "a chunk is small")]
        let bytes = bytes as f64;
        bucket.tokens = (bucket.tokens + since * self.bytes_per_second).min(burst) - bytes;
        if bucket.tokens >= 0.0 {
            return Duration::ZERO;
        }
        Duration::try_from_secs_f64(-bucket.tokens / self.bytes_per_second).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_the_rate_over_many_takers() {
        let start = Instant::now();
        let throttle = Throttle::new(1_000_000, start);
        assert_eq!(throttle.take(100_000, start), Duration::ZERO, "the burst");
        assert_eq!(throttle.take(500_000, start), Duration::from_millis(500));
        assert_eq!(throttle.take(500_000, start), Duration::from_secs(1), "the debt adds up");
        assert_eq!(throttle.take(0, start + Duration::from_secs(1)), Duration::ZERO);
        assert_eq!(throttle.take(200_000, start + Duration::from_secs(9)), Duration::from_millis(100));
    }
}
