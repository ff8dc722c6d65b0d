#![forbid(unsafe_code)]
//! The binary: one daemon, and the commands that talk to daemons. Assembles everything below it and decides nothing
//! about records.

mod cli;
mod client;
mod cluster;
mod commands;
mod config;
mod daemon;
mod directory;
mod links;
mod lock;
mod logging;
mod metrics;
mod operations;
mod output;
mod persist;
mod promotions;
mod quickstart;
mod remote;
mod reserve;
mod rest;
mod service;
mod tools;
mod verify;

use clap::{CommandFactory, Parser};
use cli::{Cli, Command};
use commands::Exit;
use std::process::ExitCode;
use std::time::Duration;

/// How long the end waits for threads that wait for a disk: whoever was told to leave at once leaves them behind.
const LEFTOVERS_MAX: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let cli = Cli::parse_from(tools::called_by_name(std::env::args_os()));
    // A person at a command wants its answer; a daemon's log is its voice.
    let default_filter = if matches!(cli.command, Command::Serve(_)) { "info" } else { "warn" };
    let filter = cli.log.as_deref().unwrap_or(default_filter);
    let result = logging::start(filter, cli.log_format).and_then(|()| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let result = runtime.block_on(run(cli.command));
        runtime.shutdown_timeout(LEFTOVERS_MAX);
        result
    });
    match result {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("Error: {error:#}");
            if error.is::<client::Usage>() { Exit::Usage.into() } else { Exit::Failed.into() }
        }
    }
}

async fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Serve(serve) => daemon::serve(serve).await,
        Command::Link(link) => commands::link(link).await,
        Command::Mirror(mirror) => commands::mirror(mirror).await,
        Command::Verify(verify) => commands::verify(verify).await,
        Command::Quickstart(quickstart) => quickstart::run(quickstart).await,
        Command::Completion { shell } => {
            // Into memory first: it panics where a pipe is closed.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "hawser", &mut script);
            commands::print(String::from_utf8_lossy(&script).trim_end());
            Ok(Exit::Done)
        }
        Command::KafkaClusterLinks(flags) => tools::cluster_links::run(flags).await,
        Command::KafkaMirrors(flags) => tools::mirrors::run(flags).await,
        Command::KafkaConfigs(flags) => tools::configs::run(flags).await,
    }
}
