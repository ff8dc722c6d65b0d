//! A link's rate limit: a token bucket over bytes that lets an answer in whole and makes the next fetch pay for it.
//! Shared by all fetchers of a link. A second's worth may burst.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The bucket.
#[derive(Debug)]
pub struct Throttle {
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    bytes_per_second: Option<u64>,
    /// When the debt is paid; before `now` there is credit.
    paid_at: Instant,
}

impl Throttle {
    /// `None` lets everything through.
    pub fn new(bytes_per_second: Option<u64>, now: Instant) -> Self {
        Self { bucket: Mutex::new(Bucket { bytes_per_second, paid_at: now }) }
    }

    /// Changes the limit from now on; a debt stays.
    pub fn set(&self, bytes_per_second: Option<u64>) {
        self.lock().bytes_per_second = bytes_per_second;
    }

    /// `bytes` arrived.
    pub fn spend(&self, bytes: usize, now: Instant) {
        let mut bucket = self.lock();
        let Some(rate) = bucket.bytes_per_second else { return };
        let earliest = now.checked_sub(Duration::from_secs(1)).unwrap_or(now);
        #[allow(clippy::cast_precision_loss)] // a rate; a millionth more or less does not matter
        let cost = Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
        bucket.paid_at = bucket.paid_at.max(earliest) + cost;
    }

    /// When the next fetch may be sent, if not at once.
    pub fn ready_at(&self, now: Instant) -> Option<Instant> {
        let bucket = self.lock();
        (bucket.bytes_per_second.is_some() && bucket.paid_at > now).then_some(bucket.paid_at)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_limit_nothing_waits() {
        let now = Instant::now();
        let throttle = Throttle::new(None, now);
        throttle.spend(usize::MAX, now);
        assert_eq!(throttle.ready_at(now), None);
    }

    #[test]
    fn the_rate_holds_over_time() {
        let start = Instant::now();
        let (rate, answer) = (1_000_000, 100_000);
        let throttle = Throttle::new(Some(rate), start);
        let (mut now, mut bytes) = (start, 0);
        while now < start + Duration::from_secs(20) {
            match throttle.ready_at(now) {
                Some(at) => now = at,
                None => {
                    throttle.spend(answer, now);
                    bytes += answer;
                }
            }
        }
        let allowed = usize::try_from(rate).expect("fits") * 21 + answer;
        assert!(bytes <= allowed && bytes >= allowed / 22 * 19, "{bytes} of {allowed}");
    }

    #[test]
    fn a_limit_can_be_taken_away() {
        let now = Instant::now();
        let throttle = Throttle::new(Some(10), now);
        throttle.spend(1_000, now);
        assert!(throttle.ready_at(now).is_some());
        throttle.set(None);
        assert_eq!(throttle.ready_at(now), None);
    }
}
