//! Keeps the log readable, and the disk free, when a destination sends nothing but what is refused: one line a second for
//! each API. Everything is counted.

use hawser_wire::ApiKey;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long a line about one API keeps others about it back.
const QUIET: Duration = Duration::from_secs(1);

/// What was logged of the refusals of a link. As large as Kafka has APIs, at most.
#[derive(Debug, Default)]
pub(crate) struct RefusalLog {
    apis: HashMap<Option<ApiKey>, Last>,
}

#[derive(Debug)]
struct Last {
    at: Instant,
    suppressed: u64,
}

impl RefusalLog {
    /// Notes a refusal. When it is to be logged: how many were not since the last that was.
    pub(crate) fn admit(&mut self, api: Option<ApiKey>, now: Instant) -> Option<u64> {
        let Some(last) = self.apis.get_mut(&api) else {
            self.apis.insert(api, Last { at: now, suppressed: 0 });
            return Some(0);
        };
        if now.saturating_duration_since(last.at) < QUIET {
            last.suppressed += 1;
            return None;
        }
        last.at = now;
        Some(std::mem::take(&mut last.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_for_each_api_says_how_many_it_stands_for() {
        let mut log = RefusalLog::default();
        let begun = Instant::now();
        let produce = Some(ApiKey::Produce);
        assert_eq!(log.admit(produce, begun), Some(0));
        for ms in 1..1000 {
            assert_eq!(log.admit(produce, begun + Duration::from_millis(ms)), None);
        }
        assert_eq!(log.admit(None, begun + Duration::from_millis(5)), Some(0));
        assert_eq!(log.admit(produce, begun + Duration::from_secs(1)), Some(999));
        assert_eq!(log.admit(produce, begun + Duration::from_secs(2)), Some(0));
    }
}
