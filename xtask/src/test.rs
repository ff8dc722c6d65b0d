//! `cargo xtask test`: everything that has to hold before a change lands, in one command. CI calls exactly this.
//!
//! Cheap checks come first, then the tests of the whole workspace with those that need stock Kafka, which are counted
//! as ignored by a plain `cargo test`. Each check counts as one test. The last line sums up.

use crate::{clients, kafka, layers, prerequisites, root};
use anyhow::{Context, Result, bail, ensure};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Tests with this in their name make network namespaces, which only root may.
const ROOT_ONLY: &str = "netns";

/// What the runs so far came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
    left_out: u64,
    /// What tests measured (`hawser_tests::figure`).
    figures: Vec<String>,
}

/// Runs everything; an error (after the summing line) when anything failed.
pub(crate) fn run() -> Result<()> {
    prerequisites::check(&[prerequisites::JDK, prerequisites::MAVEN, prerequisites::PYTHON])?;
    kafka::run(&[])?;
    clients::run()?;
    let started = Instant::now();
    let mut tally = Tally::default();

    tally.check("fmt", || succeed(cargo(&["fmt", "--all", "--check"])));
    tally.check("layers", layers::run);
    tally.check("clippy", || {
        succeed(cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]))
    });
    if prerequisites::CARGO_DENY.lacking().is_none() {
        tally.check("deny", || succeed(cargo(&["deny", "--offline", "check", "licenses", "bans", "sources"])));
    } else {
        println!("cargo-deny is not installed: licences are not checked (deny.toml)");
    }

    let binary = build_binary()?;
    let mut everything = cargo(&["test", "--workspace", "--no-fail-fast", "--lib", "--bins", "--tests", "--"]);
    everything.arg("--include-ignored");
    if let Err(reason) = namespaces() {
        println!("tests in network namespaces are left out: {reason:#}");
        everything.args(["--skip", ROOT_ONLY]);
    }
    tally.test_run(everything.env("HAWSER_BIN", &binary))?;
    tally.test_run(&mut cargo(&["test", "--workspace", "--no-fail-fast", "--doc"]))?;

    println!();
    tally.figures.iter().for_each(|figure| println!("{figure}"));
    println!("took {} s; ignored: {}, left out: {}", started.elapsed().as_secs(), tally.ignored, tally.left_out);
    println!("{} passed, {} failed", tally.passed, tally.failed);
    if tally.failed > 0 { bail!("not everything passed") } else { Ok(()) }
}

/// The daemon that process-level tests start.
fn build_binary() -> Result<PathBuf> {
    succeed(cargo(&["build", "--quiet", "--package", "hawser"]))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    Ok(target.join("debug/hawser"))
}

/// Whether tests may make network namespaces; on Debian's kind of machine, root gets what lacks for it.
fn namespaces() -> Result<()> {
    const NEEDED: [prerequisites::Prerequisite; 2] = [prerequisites::IP, prerequisites::IPTABLES];
    ensure!(rustix::process::geteuid().is_root(), "not root");
    if prerequisites::check(&NEEDED).is_err() {
        let install = ["apt-get", "install", "--yes", "--quiet", "iproute2", "iptables"];
        for words in [&["apt-get", "update", "--quiet"][..], &install] {
            succeed({
                let mut command = Command::new(words[0]);
                command.args(&words[1..]).env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
                command
            })?;
        }
    }
    prerequisites::check(&NEEDED)
}

fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.args(args).current_dir(root()).stdin(Stdio::null());
    command.env("HAWSER_KAFKA_CLIENTS_JAR", kafka::clients_jar());
    command
}

fn succeed(mut command: Command) -> Result<()> {
    let status = command.status().with_context(|| format!("start {command:?}"))?;
    if status.success() { Ok(()) } else { bail!("{status}") }
}

impl Tally {
    /// One check that passes or fails as a whole.
    fn check(&mut self, name: &str, check: impl FnOnce() -> Result<()>) {
        match check() {
            Ok(()) => {
                println!("check {name} ... ok");
                self.passed += 1;
            }
            Err(reason) => {
                println!("check {name} ... FAILED: {reason:#}");
                self.failed += 1;
            }
        }
    }

    /// One call of `cargo test`, its output passed on as it comes. A call that fails without naming a failed test (it did
    /// not compile, or a test process died) counts as one failure.
    fn test_run(&mut self, command: &mut Command) -> Result<()> {
        let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("start {command:?}"))?;
        let output = child.stdout.take().context("stdout of cargo test")?;
        let failed_before = self.failed;
        for line in BufReader::new(output).split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            self.add(&line);
        }
        let status = child.wait()?;
        if !status.success() && self.failed == failed_before {
            println!("cargo test: {status}");
            self.failed += 1;
        }
        Ok(())
    }

    /// Counts libtest's closing line and keeps figures; any other line is nothing.
    fn add(&mut self, line: &str) {
        if let Some(figure) = line.strip_prefix("figure: ") {
            self.figures.push(figure.to_owned());
        }
        let Some(counts) = line.strip_prefix("test result: ") else { return };
        for count in counts.split(['.', ';']) {
            let mut words = count.split_whitespace();
            let (number, what) = (words.next().and_then(|n| n.parse::<u64>().ok()), words.next());
            match (number, what) {
                (Some(n), Some("passed")) => self.passed += n,
                (Some(n), Some("failed")) => self.failed += n,
                (Some(n), Some("ignored")) => self.ignored += n,
                (Some(n), Some("filtered")) => self.left_out += n,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_added_up() {
        let mut tally = Tally::default();
        tally.add("test result: ok. 8 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.09s");
        tally.add("test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 23.33s");
        tally.add("test passes_3_failed ... ok");
        tally.add("figure: median 1 s");
        let figures = vec!["median 1 s".to_owned()];
        assert_eq!(tally, Tally { passed: 9, failed: 2, ignored: 1, left_out: 2, figures });
    }

    #[test]
    fn a_failed_check_and_a_died_run_count() {
        let mut tally = Tally::default();
        tally.check("good", || Ok(()));
        tally.check("bad", || bail!("why"));
        tally.test_run(Command::new("sh").args(["-c", "exit 101"])).unwrap();
        tally
            .test_run(Command::new("sh").args(["-c", "echo 'test result: FAILED. 0 passed; 1 failed;'; exit 101"]))
            .unwrap();
        assert_eq!((tally.passed, tally.failed), (1, 3));
    }
}
