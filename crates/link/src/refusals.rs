//! Keeps the log readable, and the disk free, when a peer sends nothing but what is refused: one line a second, or a few,
//! for each kind of it. Everything is counted. Both halves keep one, and whoever serves strangers.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// How long a line about one kind keeps others about it back.
const QUIET: Duration = Duration::from_secs(1);

/// What was logged of the refusals of a link, by their kind `K`. A kind has few values, whatever a peer sends: they are
/// all kept.
#[derive(Debug)]
pub struct RefusalLog<K> {
    kinds: HashMap<K, Last>,
    lines: u32,
}

#[derive(Debug)]
struct Last {
    at: Instant,
    lines: u32,
    suppressed: u64,
}

impl<K> Default for RefusalLog<K> {
    fn default() -> Self {
        Self::of(1)
    }
}

impl<K> RefusalLog<K> {
    /// `lines` a second for each kind, before others are kept back; at least 1.
    pub fn of(lines: u32) -> Self {
        Self { kinds: HashMap::new(), lines: lines.max(1) }
    }
}

impl<K: Eq + Hash> RefusalLog<K> {
    /// Notes a refusal. When it is to be logged: how many were not since the last that was.
    pub fn admit(&mut self, kind: K, now: Instant) -> Option<u64> {
        let Some(last) = self.kinds.get_mut(&kind) else {
            self.kinds.insert(kind, Last { at: now, lines: 1, suppressed: 0 });
            return Some(0);
        };
        if now.saturating_duration_since(last.at) < QUIET {
            if last.lines < self.lines {
                last.lines += 1;
                return Some(0);
            }
            last.suppressed += 1;
            return None;
        }
        (last.at, last.lines) = (now, 1);
        Some(std::mem::take(&mut last.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_for_each_kind_says_how_many_it_stands_for() {
        let mut log = RefusalLog::default();
        let begun = Instant::now();
        let produce = Some("Produce");
        assert_eq!(log.admit(produce, begun), Some(0));
        for ms in 1..1000 {
            assert_eq!(log.admit(produce, begun + Duration::from_millis(ms)), None);
        }
        assert_eq!(log.admit(None, begun + Duration::from_millis(5)), Some(0));
        assert_eq!(log.admit(produce, begun + Duration::from_secs(1)), Some(999));
        assert_eq!(log.admit(produce, begun + Duration::from_secs(2)), Some(0));
        let mut log = RefusalLog::of(3);
        let admitted = [0, 1, 2, 3, 4, 1000].map(|ms| log.admit((), begun + Duration::from_millis(ms)));
        assert_eq!(admitted, [Some(0), Some(0), Some(0), None, None, Some(2)]);
    }
}
