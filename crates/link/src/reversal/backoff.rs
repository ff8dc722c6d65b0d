//! How long to wait before the next dial: exponential with jitter, as Kafka clients do
//! (`reconnect.backoff.ms`, `reconnect.backoff.max.ms`; KIP-144).

use super::Entropy;
use std::time::Duration;

/// Exponential backoff with 20 % jitter either way.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// From `base` doubling up to `max` (not below `base`).
    pub fn new(base: Duration, max: Duration) -> Self {
        Self { base, max: max.max(base), failures: 0 }
    }

    /// The wait after one more failure.
    pub fn next(&mut self, entropy: &mut dyn Entropy) -> Duration {
        let factor = 2_u32.saturating_pow(self.failures.min(20));
        self.failures = self.failures.saturating_add(1);
        jittered(self.base.saturating_mul(factor).min(self.max), entropy)
    }

    /// Begins again at `base`.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// The longest wait, before jitter.
    pub fn max(&self) -> Duration {
        self.max
    }
}

/// `wait` times 0.8 to 1.2.
pub(super) fn jittered(wait: Duration, entropy: &mut dyn Entropy) -> Duration {
    let mut bytes = [0; 2];
    entropy.fill(&mut bytes);
    let per_mille = 800 + u32::from(u16::from_be_bytes(bytes)) * 400 / u32::from(u16::MAX);
    wait.saturating_mul(per_mille) / 1000
}
