//! Fuzzing on stable Rust, in the ordinary test run: seeded mutations of a corpus, a fixed number of them.
//!
//! The same seed gives the same input everywhere. `HAWSER_FUZZ_EXECUTIONS` sets how many inputs each target gets and
//! `HAWSER_FUZZ_SEED` where they start. A failure prints the seed of the one input that caused it: set both (the
//! number to 1) to see it again.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Inputs for each target in the ordinary test run.
const EXECUTIONS: u64 = 100_000;
/// No input grows beyond this.
const INPUT_BYTES_MAX: usize = 16 * 1024;
/// Mutations of one input.
const MUTATIONS_MAX: usize = 4;

/// Feeds mutants of `corpus` to `target`, each with the place in the corpus that it comes from. `target` asserts what
/// must hold; that it does not panic is the least.
///
/// # Panics
/// When `target` does, after naming the input; and when an environment variable is not a number.
pub fn run<T: AsRef<[u8]>>(name: &str, corpus: &[T], target: impl Fn(usize, &[u8])) {
    run_some(EXECUTIONS, name, corpus, target);
}

/// As [`run`], for targets that take milliseconds: `executions` inputs, unless the environment says otherwise.
///
/// # Panics
/// As [`run`].
pub fn run_some<T: AsRef<[u8]>>(executions: u64, name: &str, corpus: &[T], target: impl Fn(usize, &[u8])) {
    assert!(!corpus.is_empty(), "{name}: nothing to mutate");
    let seed = from_env("HAWSER_FUZZ_SEED").unwrap_or(0);
    for seed in seed..seed.saturating_add(from_env("HAWSER_FUZZ_EXECUTIONS").unwrap_or(executions)) {
        let (from, bytes) = mutant(seed, corpus);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(from, &bytes))) {
            let mut hex = String::new();
            bytes.iter().for_each(|byte| write!(hex, "{byte:02x}").unwrap_or_default());
            eprintln!("{name}: HAWSER_FUZZ_SEED={seed}, from corpus entry {from}, {} bytes: {hex}", bytes.len());
            resume_unwind(panic);
        }
    }
}

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name}={value} is not a number")))
}

/// The input of `seed`: an entry of the corpus after one to four mutations.
fn mutant<T: AsRef<[u8]>>(seed: u64, corpus: &[T]) -> (usize, Vec<u8>) {
    let mut random = Xorshift::new(seed);
    let from = random.below(corpus.len());
    let mut bytes = corpus[from].as_ref().to_vec();
    for _ in 0..=random.below(MUTATIONS_MAX) {
        let other = corpus[random.below(corpus.len())].as_ref();
        random.mutate(&mut bytes, other);
    }
    bytes.truncate(INPUT_BYTES_MAX);
    (from, bytes)
}

struct Xorshift(u64);

impl Xorshift {
    fn new(seed: u64) -> Self {
        // SplitMix64's step spreads neighbouring seeds; xorshift must not start at 0.
        let mixed = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Self((mixed ^ (mixed >> 27)) | 1)
    }

    /// A number from 0 up to, not including, `bound`; 0 for a bound of 0.
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % bound.max(1)
    }

    /// One bit, one byte, a number or a varint at its edge, a part removed, doubled or taken from `other`, or a cut.
    fn mutate(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        const NUMBERS: [u32; 8] = [0, 1, 0x7f, 0xff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0xffff_fffe];
        const VARINTS: [&[u8]; 4] = [&[0xff, 0xff, 0xff, 0xff, 0x0f], &[0xff; 5], &[0x80; 10], &[0x80, 0]];
        let at = self.below(bytes.len() + 1);
        let length = self.below((bytes.len() - at).min(64) + 1);
        match self.below(9) {
            0 | 1 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            2 if at < bytes.len() => bytes[at] = [0, 1, 2, 0x7f, 0x80, 0xff][self.below(6)],
            3 => {
                let number = NUMBERS[self.below(NUMBERS.len())].to_be_bytes();
                let number = &number[4 - [1, 2, 4][self.below(3)]..];
                let end = (at + number.len()).min(bytes.len());
                bytes.splice(at..end, number.iter().copied());
            }
            4 => {
                let end = (at + 1).min(bytes.len());
                bytes.splice(at..end, VARINTS[self.below(VARINTS.len())].iter().copied());
            }
            5 => drop(bytes.drain(at..at + length)),
            6 => bytes.extend_from_within(at..at + length),
            7 => {
                let from = self.below(other.len() + 1);
                let to = from + self.below((other.len() - from).min(256) + 1);
                bytes.splice(at..at + length, other[from..to].iter().copied());
            }
            _ => bytes.truncate(at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_same_seed_gives_the_same_input() {
        let corpus = [b"first entry".to_vec(), b"second entry".to_vec()];
        let inputs: Vec<_> = (0..1_000).map(|seed| mutant(seed, &corpus)).collect();
        assert_eq!(inputs, (0..1_000).map(|seed| mutant(seed, &corpus)).collect::<Vec<_>>());
        let different: HashSet<_> = inputs.iter().map(|(_, bytes)| bytes).collect();
        assert!(different.len() > 700, "only {} of 1000 differ", different.len());
        assert!(inputs.iter().any(|(from, _)| *from == 0) && inputs.iter().any(|(from, _)| *from == 1));
    }

    #[test]
    fn a_panic_in_the_target_comes_through() {
        let found = catch_unwind(|| run("demo", &[[0_u8; 8]], |_, bytes| assert_eq!(bytes, [0; 8])));
        assert!(found.is_err());
    }
}
