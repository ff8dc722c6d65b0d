//! Programs that a task needs, checked before it starts, each with what to do when it lacks.

use anyhow::{Result, bail};
use std::process::{Command, Stdio};

/// A program, the oldest version that will do, and how to get it.
#[derive(Clone, Copy)]
pub(crate) struct Prerequisite {
    program: &'static str,
    version_flag: &'static str,
    oldest_major: Option<u32>,
    remedy: &'static str,
}

/// `javac` and not `java`: the tests compile a driver against Kafka's jars.
pub(crate) const JDK: Prerequisite = Prerequisite {
    program: "javac",
    version_flag: "-version",
    oldest_major: Some(17),
    remedy: "install a JDK, 17 or newer (Debian, Ubuntu: apt-get install openjdk-17-jdk-headless)",
};

/// Fetches the jars.
pub(crate) const MAVEN: Prerequisite = Prerequisite {
    program: "mvn",
    version_flag: "--version",
    oldest_major: None,
    remedy: "install Maven (Debian, Ubuntu: apt-get install maven)",
};

/// Runs clients that are not Kafka's own.
pub(crate) const PYTHON: Prerequisite = Prerequisite {
    program: "python3",
    version_flag: "--version",
    oldest_major: Some(3),
    remedy: "install Python 3.9 to 3.12 with venv (Debian, Ubuntu: apt-get install python3-venv)",
};

/// Makes network namespaces.
pub(crate) const IP: Prerequisite =
    Prerequisite { program: "ip", version_flag: "-V", oldest_major: None, remedy: "apt-get install iproute2" };

/// Their firewall.
pub(crate) const IPTABLES: Prerequisite = Prerequisite {
    program: "iptables",
    version_flag: "--version",
    oldest_major: None,
    remedy: "apt-get install iptables",
};

/// Checks licences and sources of dependencies; done without where it is not installed.
pub(crate) const CARGO_DENY: Prerequisite = Prerequisite {
    program: "cargo-deny",
    version_flag: "--version",
    oldest_major: None,
    remedy: "cargo install cargo-deny",
};

/// Checks all of `wanted` and names every one that lacks.
pub(crate) fn check(wanted: &[Prerequisite]) -> Result<()> {
    let lacking: Vec<String> = wanted.iter().filter_map(|p| p.lacking()).collect();
    if lacking.is_empty() { Ok(()) } else { bail!("{}", lacking.join("\n")) }
}

impl Prerequisite {
    /// What is wrong with it and what to do, `None` when it is there.
    pub(crate) fn lacking(&self) -> Option<String> {
        let Self { program, remedy, .. } = self;
        let output = Command::new(program).arg(self.version_flag).stdin(Stdio::null()).output();
        let Ok(output) = output.map_err(drop).and_then(|o| if o.status.success() { Ok(o) } else { Err(()) }) else {
            return Some(format!("{program} is missing: {remedy}"));
        };
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let oldest = self.oldest_major?;
        match major(&said) {
            Some(found) if found >= oldest => None,
            _ => Some(format!("{program} is too old ({}): {remedy}", said.lines().next().unwrap_or("no version"))),
        }
    }
}

/// The first number in what the program says of itself ("javac 17.0.15").
fn major(said: &str) -> Option<u32> {
    let digits = said.split(|c: char| !c.is_ascii_digit()).find(|part| !part.is_empty())?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_versions_and_names_what_lacks() {
        assert_eq!(major("javac 17.0.15\n"), Some(17));
        assert_eq!(major("openjdk version \"21\""), Some(21));
        let absent = Prerequisite { program: "hawser-no-such-program", ..MAVEN };
        assert!(absent.lacking().unwrap().contains("apt-get install maven"));
        let too_new = Prerequisite { program: "cargo", version_flag: "--version", oldest_major: Some(999), ..JDK };
        assert!(too_new.lacking().unwrap().contains("too old"));
    }
}
