//! The commands that ask a daemon: from flags to an operation, from its outcome to text and an exit code.

mod link;
mod mirror;
mod settings;
mod verify;

pub(crate) use link::link;
pub(crate) use mirror::mirror;
pub(crate) use settings::{inline_or_file, owned, pairs};
pub(crate) use verify::verify;

use crate::cli::Login;
use crate::client::DaemonClient;
use crate::operations::{Operation, Outcome};
use anyhow::{Context, bail};
use std::io::{BufRead, IsTerminal, Write};

/// How a command ended, as its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0
    Done,
    /// 1
    Failed,
    /// 2
    Usage,
    /// 3
    Different,
    /// 4
    Behind,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => 0.into(),
            Exit::Failed => 1.into(),
            Exit::Usage => 2.into(),
            Exit::Different => 3.into(),
            Exit::Behind => 4.into(),
        }
    }
}

async fn ask(login: &Login, operation: &Operation) -> anyhow::Result<Outcome> {
    DaemonClient::connect(login).await?.operate(operation).await
}

/// Asks a person; where there is none, the command line was the decision.
fn confirm(question: &str) -> anyhow::Result<bool> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Ok(true);
    }
    eprint!("{question} (y/n): ");
    std::io::stderr().flush().ok();
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer).context("read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// One piece of data on standard output.
pub(crate) fn print(text: &str) {
    // A closed pipe (`hawser link list | head -1`) is no failure.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// The outcome is none of those that the operation has.
///
/// # Errors
/// Always.
pub(crate) fn unexpected<T>() -> anyhow::Result<T> {
    bail!("the daemon's answer does not fit the question: is it of another version?")
}
