//! Link and replication under a seeded simulation: loss, delay, reordering between connections, half-open connections,
//! crash and restart of either half with its disk cut at (or somewhere above) the last flush, brokers that die, leaders
//! that move cleanly and not, deposed leaders that go on serving, trimmed logs, corrupt bytes, full disks, and flushes
//! that fail and take the end of a copy back.
//!
//! Safety, after every write and crash: a copy is a run of the source's log as it is or once was, byte for byte; nothing
//! that the source has is cut; nothing is skipped that the source did not trim. Liveness: once faults end, every copy
//! becomes equal to its source. A seed that fails says so; `HAWSER_SIM_SEED=n` replays it, `HAWSER_SIM_SEEDS=n` runs more.

mod sim;

use sim::world::{Mutant, Outcome, World};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Seeds in the ordinary test run.
const SEEDS: u64 = 10_000;

/// Longest healing, in virtual time: the store's longest backoff, and a margin.
const HEALED_WITHIN: Duration = Duration::from_secs(15);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

#[test]
fn every_seed_is_safe_and_becomes_whole() {
    if let Some(seed) = number("HAWSER_SIM_SEED") {
        let outcome = World::new(seed, Mutant::None).traced().run();
        println!("seed {seed}: {outcome:?}");
        outcome.unwrap_or_else(|what| panic!("seed {seed} {what}"));
        return;
    }
    let seeds = number("HAWSER_SIM_SEEDS").unwrap_or(SEEDS);
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let run = || {
            let mut outcomes = Vec::new();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= seeds || failed.load(Ordering::Relaxed) {
                    return outcomes;
                }
                let outcome = std::panic::catch_unwind(|| World::new(seed, Mutant::None).run());
                failed.fetch_or(!matches!(outcome, Ok(Ok(_))), Ordering::Relaxed);
                match outcome {
                    Ok(Ok(outcome)) => outcomes.push(outcome),
                    Ok(Err(what)) => panic!("seed {seed} {what}\nreplay it with HAWSER_SIM_SEED={seed}"),
                    Err(_) => panic!("seed {seed} panicked\nreplay it with HAWSER_SIM_SEED={seed}"),
                }
            }
        };
        let tasks: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        tasks.into_iter().flat_map(|task| task.join().expect("a failing seed is named above")).collect()
    });
    let sum = |of: fn(&Outcome) -> usize| outcomes.iter().map(of).sum::<usize>();
    let (batches, truncations, gaps) = (sum(|o| o.batches), sum(|o| o.truncations), sum(|o| o.gaps));
    let (crashes, losses, recreated) = (sum(|o| o.crashes), sum(|o| o.losses), sum(|o| usize::from(o.recreated)));
    let mut healed: Vec<Duration> = outcomes.iter().map(|o| o.healed_after).collect();
    healed.sort_unstable();
    let median = healed.get(healed.len() / 2).copied().unwrap_or_default();
    println!(
        "{seeds} seeds: {batches} batches, {truncations} truncations, {gaps} gaps, {crashes} crashes, {losses} copies \
         that failed flushes shortened, {recreated} recreated topics; whole {median:?} (median), {:?} (worst) after the faults",
        healed.last().copied().unwrap_or_default()
    );
    // A simulation in which nothing happens proves nothing.
    if seeds >= 1_000 {
        let at_least = usize::try_from(seeds).expect("fits");
        assert!(batches > at_least && crashes > at_least && truncations > at_least / 10 && gaps > at_least / 100);
        assert!(losses > at_least / 10);
    }
    // The same seeds heal in the same virtual time everywhere. Whoever waits for a session to be made anew takes far longer.
    assert!(healed.last().is_none_or(|worst| *worst < HEALED_WITHIN), "{:?}", healed.last());
}

/// Each mistake is noticed within so many seeds.
const MUTANT_SEEDS: u64 = 1_000;

fn is_noticed(mutant: Mutant) {
    let noticed = (0..MUTANT_SEEDS).find_map(|seed| {
        let outcome = std::panic::catch_unwind(|| World::new(seed, mutant).run());
        match outcome {
            Ok(Ok(_)) => None,
            Ok(Err(what)) => Some((seed, what)),
            Err(_) => Some((seed, "panicked".to_owned())),
        }
    });
    let (seed, what) = noticed.unwrap_or_else(|| panic!("{mutant:?} goes unnoticed in {MUTANT_SEEDS} seeds"));
    println!("{mutant:?} is noticed by seed {seed}: {what}");
}

#[test]
fn skipped_truncation_is_noticed() {
    is_noticed(Mutant::SkipsTruncation);
}

#[test]
fn a_hidden_lineage_is_noticed() {
    is_noticed(Mutant::HidesLineage);
}

#[test]
fn a_skipped_crc_is_noticed() {
    is_noticed(Mutant::SkipsCrc);
}

#[test]
fn a_silent_reset_is_noticed() {
    is_noticed(Mutant::ResetsSilently);
}

#[test]
fn a_second_beginning_is_noticed() {
    is_noticed(Mutant::ForgetsThatItStarted);
}

#[test]
fn a_swallowed_store_error_is_noticed() {
    is_noticed(Mutant::SwallowsStoreErrors);
}

#[test]
fn trimming_too_far_is_noticed() {
    is_noticed(Mutant::TrimsTooFar);
}

#[test]
fn an_overlooked_loss_is_noticed() {
    is_noticed(Mutant::OverlooksLosses);
}

#[test]
fn a_blind_append_is_noticed() {
    is_noticed(Mutant::AppendsBlindly);
}

#[test]
fn a_lost_lease_is_noticed() {
    is_noticed(Mutant::LosesLeases);
}
