//! Which server of a cluster is asked when any broker will do, and for how long. Pure: whoever dials tells how it went.
//!
//! The configured servers come first, as they are near and say which cluster is meant, beginning with another one each
//! time; then the brokers that the cluster's Metadata lists besides; and last whichever did not answer when it was last
//! asked, the longest ago first. So one that is dead or hangs costs a share of the time once, not each time.

use crate::host_port::HostPort;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// Least time for one of several servers, while there is so much: TLS and a login over a slow line need it.
const SHARE_MIN: Duration = Duration::from_secs(1);

/// The servers of one cluster, with what is known of them.
#[derive(Clone, Debug)]
pub struct Candidates {
    bootstrap: Vec<HostPort>,
    /// Of the last Metadata, without those above.
    others: Vec<HostPort>,
    /// Those of both that did not answer when they were last asked, the longest ago first.
    failed: Vec<HostPort>,
    turn: usize,
}

/// One search for a server that answers.
#[derive(Debug)]
pub struct Round {
    servers: VecDeque<HostPort>,
    until: Instant,
}

impl Candidates {
    /// Knows the configured servers.
    pub fn new(bootstrap: Vec<HostPort>) -> Self {
        Self { bootstrap, others: Vec::new(), failed: Vec::new(), turn: 0 }
    }

    /// Takes over the brokers of the cluster's Metadata, in place of those learnt before.
    pub fn learn(&mut self, brokers: impl IntoIterator<Item = HostPort>) {
        self.others = brokers.into_iter().filter(|at| !has(&self.bootstrap, at)).collect();
        let Self { bootstrap, others, failed, .. } = self;
        failed.retain(|at| has(bootstrap, at) || has(others, at));
    }

    /// Whether this server was configured.
    pub fn is_configured(&self, at: &HostPort) -> bool {
        has(&self.bootstrap, at)
    }

    /// Notes that a server did not answer. Returns whether it did when it was asked before.
    pub fn failed(&mut self, at: &HostPort) -> bool {
        if !has(&self.bootstrap, at) && !has(&self.others, at) {
            return false;
        }
        let is_news = !self.answered(at);
        self.failed.push(at.clone());
        is_news
    }

    /// Notes that a server answered. Returns whether it did not when it was asked before.
    pub fn answered(&mut self, at: &HostPort) -> bool {
        let before = self.failed.len();
        self.failed.retain(|failed| !is_same(failed, at));
        self.failed.len() < before
    }

    /// Begins a search that ends at `until`.
    pub fn round(&mut self, until: Instant) -> Round {
        let turn = self.turn;
        self.turn = turn.wrapping_add(1);
        let unblemished = |servers: &[HostPort]| {
            let mut servers: Vec<_> = servers.iter().filter(|at| !has(&self.failed, at)).cloned().collect();
            let first = turn % servers.len().max(1);
            servers.rotate_left(first);
            servers
        };
        let servers = [unblemished(&self.bootstrap), unblemished(&self.others), self.failed.clone()];
        Round { servers: servers.into_iter().flatten().collect(), until }
    }
}

impl Round {
    /// The server to try at `now`, and how long it may take: half of the time that is left while there are others, all of
    /// it for the last. `None` when there is neither server nor time.
    pub fn next(&mut self, now: Instant) -> Option<(HostPort, Duration)> {
        let left = self.until.saturating_duration_since(now);
        let server = self.servers.pop_front().filter(|_| !left.is_zero())?;
        let share = if self.servers.is_empty() { left } else { (left / 2).max(SHARE_MIN).min(left) };
        Some((server, share))
    }
}

fn has(servers: &[HostPort], at: &HostPort) -> bool {
    servers.iter().any(|server| is_same(server, at))
}

fn is_same(one: &HostPort, other: &HostPort) -> bool {
    one.port == other.port && one.host.eq_ignore_ascii_case(&other.host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(name: &str) -> HostPort {
        HostPort::new(name, 9092)
    }

    fn order(candidates: &mut Candidates) -> String {
        let until = Instant::now() + Duration::from_secs(3600);
        let servers = candidates.round(until).servers;
        servers.into_iter().map(|server| server.host).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn configured_servers_in_turn_then_the_others_then_those_that_failed() {
        let mut candidates = Candidates::new(vec![at("a"), at("b")]);
        assert_eq!([order(&mut candidates), order(&mut candidates)], ["a b", "b a"]);
        candidates.learn(["B", "c", "d"].map(at));
        assert!(candidates.is_configured(&at("B")) && !candidates.is_configured(&at("c")));
        assert_eq!([order(&mut candidates), order(&mut candidates)], ["a b c d", "b a d c"]);
        assert!(candidates.failed(&at("A")), "is news");
        assert!(!candidates.failed(&at("a")), "is none");
        assert_eq!([order(&mut candidates), order(&mut candidates)], ["b c d a", "b d c a"]);
        for failed in ["b", "c", "d"] {
            candidates.failed(&at(failed));
        }
        assert_eq!(order(&mut candidates), "a b c d");
        candidates.failed(&at("a"));
        assert_eq!(order(&mut candidates), "b c d a", "each has its turn although all fail");
        assert!(candidates.answered(&at("c")) && !candidates.answered(&at("c")));
        assert_eq!(order(&mut candidates), "c b d a");
        // A broker that is gone is forgotten, and none that nobody listed is remembered.
        candidates.learn(["c"].map(at));
        assert!(!candidates.failed(&at("d")));
        assert_eq!(order(&mut candidates), "c b a");
    }

    #[test]
    fn one_that_hangs_leaves_time_for_the_others() {
        let begun = Instant::now();
        let seconds = Duration::from_secs_f64;
        let tried = |names: &[&str], whole: f64| {
            let mut round = Candidates::new(names.iter().map(|name| at(name)).collect()).round(begun + seconds(whole));
            let (mut now, mut shares) = (begun, Vec::new());
            while let Some((_, share)) = round.next(now) {
                now += share;
                shares.push(share.as_secs_f64());
            }
            shares
        };
        assert_eq!(tried(&["a"], 10.0), [10.0]);
        assert_eq!(tried(&["a", "b"], 10.0), [5.0, 5.0]);
        assert_eq!(tried(&["a", "b", "c"], 10.0), [5.0, 2.5, 2.5]);
        assert_eq!(tried(&["a", "b", "c", "d", "e", "f"], 4.5), [2.25, 1.125, 1.0, 0.125]);
        assert_eq!(tried(&[], 10.0), [0.0; 0]);
        assert_eq!(tried(&["a"], 0.0), [0.0; 0]);
    }
}
