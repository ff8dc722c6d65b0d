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
/// Refusals and failures, for the user to read. A difference is no error but [`Exit::Different`].
pub(crate) async fn verify(command: Verify) -> anyhow::Result<Exit> {
    let client = DaemonClient::connect(&command.connect.login).await?;
    let start = Operation::VerifyStart { link: command.link, topics: command.topic, follow: command.follow };
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
