//! The processes that quickstart starts. Each has its own process group, so that Ctrl-C reaches only us and the stop is
//! ordered. None outlives us, even if we are killed: a shell in each group waits for the end of a pipe that we hold.

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{Instant, sleep, timeout};

/// A daemon drains and flushes within this; then it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
const READY_POLL: Duration = Duration::from_millis(50);

/// Runs its arguments; when its standard input ends, kills the whole process group.
const GUARD: &str =
    "exec 3<&0; (read -r _ <&3; kill -9 -$$) >/dev/null 2>&1 & exec 3<&-; exec \"$0\" \"$@\" </dev/null";

/// What is running, in the order it was started.
#[derive(Default)]
pub(super) struct Children(Vec<Running>);

struct Running {
    name: &'static str,
    child: Child,
    /// The pipe that the group's shell waits on.
    _leash: Option<ChildStdin>,
    log: PathBuf,
}

impl Children {
    /// Starts `command` with its output in `log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn start(&mut self, name: &'static str, command: Command, log: &Path) -> anyhow::Result<()> {
        let out = File::create(log).with_context(|| format!("create {}", log.display()))?;
        let err = out.try_clone().with_context(|| format!("open {}", log.display()))?;
        let command = command.into_std();
        let mut child = Command::new("/bin/sh")
            .args(["-c", GUARD])
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(Stdio::piped())
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        // Taken, as waiting for the child would close it.
        let leash = child.stdin.take();
        self.0.push(Running { name, child, _leash: leash, log: log.to_owned() });
        Ok(())
    }

    /// Asks `ready` again and again until it gives a value.
    ///
    /// # Errors
    /// When a child ends meanwhile (with the end of its log), or `within` has passed.
    pub(super) async fn wait_until<T, F>(&mut self, what: &str, within: Duration, mut ready: F) -> anyhow::Result<T>
    where
        F: AsyncFnMut() -> Option<T>,
    {
        let deadline = Instant::now() + within;
        loop {
            if let Some(value) = ready().await {
                return Ok(value);
            }
            self.check()?;
            if Instant::now() > deadline {
                let logs: Vec<_> = self.0.iter().map(|r| r.log.display().to_string()).collect();
                bail!("{what} took longer than {} s; see {}", within.as_secs(), logs.join(", "));
            }
            sleep(READY_POLL).await;
        }
    }

    /// Whether all that should run does.
    ///
    /// # Errors
    /// The first child that failed, with the end of its log.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        for running in &mut self.0 {
            if let Some(status) = running.child.try_wait()?
                && !status.success()
            {
                let log = std::fs::read_to_string(&running.log).unwrap_or_default();
                let lines: Vec<_> = log.lines().collect();
                let tail = lines.get(lines.len().saturating_sub(15)..).unwrap_or_default().join("\n");
                bail!("{} ended ({status}); {} ends with:\n{tail}", running.name, running.log.display());
            }
        }
        Ok(())
    }

    /// Stops everything, last started first: SIGTERM, then SIGKILL.
    pub(super) async fn stop(&mut self) {
        while let Some(mut running) = self.0.pop() {
            let pid = running.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
            if let Some(pid) = pid {
                let _ = kill_process(pid, Signal::TERM);
            }
            if timeout(STOP_TIMEOUT, running.child.wait()).await.is_err() {
                eprintln!("{} did not stop within {} s: killed", running.name, STOP_TIMEOUT.as_secs());
                let _ = running.child.kill().await;
            }
        }
    }
}
