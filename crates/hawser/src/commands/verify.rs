//! `hawser verify`: starts a comparison, watches it, says what it found.

use super::{Exit, print, unexpected};
use crate::cli::Verify;
use crate::client::DaemonClient;
use crate::operations::{Operation, Outcome, VerifyView};
use crate::output;
use std::io::IsTerminal;
use std::time::Duration;

/// Between two questions how far a comparison is.
const VERIFY_POLL: Duration = Duration::from_millis(250);

/// `hawser verify`.
///
/// # Errors
/// Refusals and failures, for the user to read. A difference is no error but [`Exit::Different`], a missing end
/// [`Exit::Behind`].
pub(crate) async fn verify(command: Verify) -> anyhow::Result<Exit> {
    let client = DaemonClient::connect(&command.connect.login).await?;
    let (topics, timeout_ms) = (command.topic, Some(command.timeout_ms));
    let start = Operation::VerifyStart { link: command.link, topics, follow: command.follow, timeout_ms };
    let Outcome::VerifyStarted { verification } = client.operate(&start).await? else { return unexpected() };
    let view = tokio::select! {
        view = watch(&client, verification) => view?,
        _ = tokio::signal::ctrl_c() => status(&client, verification).await?,
    };
    client.operate(&Operation::VerifyStop { verification }).await?;
    print(&output::show(command.connect.output, &view, output::verification));
    Ok(match () {
        () if view.differences > 0 => Exit::Different,
        () if !view.errors.is_empty() || (!view.finished && !command.follow) => Exit::Failed,
        () if view.partitions_behind > 0 => Exit::Behind,
        () => Exit::Done,
    })
}

/// Polls until the comparison is over; one line of progress on standard error.
async fn watch(client: &DaemonClient, verification: u64) -> anyhow::Result<VerifyView> {
    let terminal = std::io::stderr().is_terminal();
    let mut said = String::new();
    loop {
        let view = status(client, verification).await?;
        let line = output::verification_progress(&view);
        if terminal {
            eprint!("\r\x1b[K{line}");
            if view.finished {
                eprintln!();
            }
        } else if line != said {
            eprintln!("{line}");
            said = line;
        }
        if view.finished {
            return Ok(view);
        }
        tokio::time::sleep(VERIFY_POLL).await;
    }
}

async fn status(client: &DaemonClient, verification: u64) -> anyhow::Result<VerifyView> {
    match client.operate(&Operation::VerifyStatus { verification }).await? {
        Outcome::Verify(view) => Ok(view),
        _ => unexpected(),
    }
}
