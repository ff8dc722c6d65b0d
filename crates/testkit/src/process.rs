//! Child processes that cannot outlive the test: daemons and brokers.
//!
//! Each child leads its own process group together with a small watchdog that waits on a pipe held by this
//! process. Dropping the [`Process`] kills the group; if this process dies by any other way (SIGKILL, abort), the
//! kernel closes the pipe and the watchdog kills the group.

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How often files and processes are looked at while waiting for them.
const POLL: Duration = Duration::from_millis(20);

/// `$0` is the program, `$@` its arguments. The subshell inherits the pipe as descriptor 3 and ends the group when
/// it closes; the program itself gets an empty input.
const WATCHED: &str = r#"exec 3<&0
(read -r _ <&3; kill -9 -$$) >/dev/null 2>&1 &
exec 3<&-
exec "$0" "$@" </dev/null"#;

/// A running or ended child with its output gathered in a file.
pub struct Process {
    name: String,
    child: Child,
    leash: Option<ChildStdin>,
    log: PathBuf,
    log_start: u64,
    ended: Option<ExitStatus>,
}

/// What to start.
pub struct Program {
    program: PathBuf,
    args: Vec<String>,
    envs: Vec<(String, String)>,
    wrapper: Vec<String>,
}

impl Program {
    /// The program at `path`, or by that name in `PATH`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { program: path.into(), args: Vec::new(), envs: Vec::new(), wrapper: Vec::new() }
    }

    /// Adds one argument.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.envs.push((key.into(), value.into()));
        self
    }

    /// Runs it under another program that replaces itself by it, such as `ip netns exec NAME`.
    pub fn under<S: Into<String>>(mut self, wrapper: impl IntoIterator<Item = S>) -> Self {
        self.wrapper = wrapper.into_iter().map(Into::into).collect();
        self
    }

    /// The bare command, for a program that ends by itself or with its input: no watchdog looks after it.
    pub fn command(&self) -> Command {
        let mut words = self.words().into_iter();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).envs(self.envs.iter().map(|(k, v)| (k, v)));
        command
    }

    /// The wrapper's words, the program, its arguments.
    fn words(&self) -> Vec<&OsStr> {
        let mut words: Vec<&OsStr> = self.wrapper.iter().map(OsStr::new).collect();
        words.push(self.program.as_os_str());
        words.extend(self.args.iter().map(OsStr::new));
        words
    }

    /// Starts it; both output streams are appended to `log`.
    ///
    /// # Errors
    /// When the log cannot be opened or the shell cannot be started. A program that is missing ends at once with
    /// status 127 and says so in the log.
    pub fn spawn(self, name: &str, log: &Path) -> Result<Process> {
        let out = open_log(log)?;
        let log_start = out.metadata()?.len();
        let mut child = Command::new("/bin/sh")
            .arg("-c")
            .arg(WATCHED)
            .args(self.words())
            .envs(self.envs.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::piped())
            .stdout(out.try_clone()?)
            .stderr(out)
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        let leash = child.stdin.take();
        Ok(Process { name: name.to_owned(), child, leash, log: log.to_owned(), log_start, ended: None })
    }
}

impl Process {
    /// The child's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What messages call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file with its output, also of earlier children that wrote to the same file.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Output of this child so far.
    pub fn output(&self) -> String {
        read_from(&self.log, self.log_start).unwrap_or_default()
    }

    /// The end of its output, for messages.
    pub fn tail(&self, lines: usize) -> String {
        let text = self.output();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Whether it still runs (a stopped process runs, too).
    pub fn is_running(&mut self) -> bool {
        self.try_ended().is_none()
    }

    /// Waits until a line of this child's output contains `needle`, and returns that line.
    ///
    /// # Errors
    /// When the child ends or `limit` passes first, with the end of its output.
    pub fn wait_for_line(&mut self, needle: &str, limit: Duration) -> Result<String> {
        let deadline = Instant::now() + limit;
        loop {
            let ended = self.try_ended();
            if let Some(line) = self.output().lines().find(|l| l.contains(needle)) {
                return Ok(line.to_owned());
            }
            if let Some(status) = ended {
                bail!("{} ended ({status}) before it said {needle:?}:\n{}", self.name, self.tail(40));
            }
            if Instant::now() > deadline {
                bail!("{} did not say {needle:?} within {limit:?}:\n{}", self.name, self.tail(40));
            }
            std::thread::sleep(POLL);
        }
    }

    /// SIGKILL to the child alone, and waits for its end.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub fn kill9(&mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.wait(Duration::from_secs(10)).map(drop)
    }

    /// SIGTERM, and waits for its end.
    ///
    /// # Errors
    /// When it has not ended within `limit`; it is left running then.
    pub fn stop(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait(limit)
    }

    /// SIGSTOP.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it has not ended within `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.try_ended() {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("{} has not ended within {limit:?}:\n{}", self.name, self.tail(40));
            }
            std::thread::sleep(POLL);
        }
    }

    /// CPU time (user and system) that it has used, from `/proc`; zero once it has ended.
    pub fn cpu_time(&self) -> Duration {
        let ticks = fs::read_to_string(format!("/proc/{}/stat", self.pid())).ok().and_then(|stat| {
            let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
            Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
        });
        let hertz = rustix::param::clock_ticks_per_second();
        Duration::from_secs_f64(ticks.unwrap_or(0) as f64 / hertz as f64)
    }

    /// Resident memory in bytes, from `/proc`; zero once it has ended.
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap_or("0");
        line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        if self.ended.is_some() {
            bail!("{} has already ended", self.name);
        }
        kill_process(Pid::from_child(&self.child), signal).with_context(|| format!("signal {}", self.name))
    }

    fn try_ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let failed = self.try_ended().is_some_and(|s| !s.success() && s.signal().is_none());
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "--- {} (failed: {failed}) ---\n{}", self.name, self.tail(12));
        }
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        drop(self.leash.take());
        let _ = self.child.wait();
    }
}

fn open_log(log: &Path) -> Result<File> {
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder)?;
    }
    OpenOptions::new().create(true).append(true).open(log).with_context(|| format!("open {}", log.display()))
}

fn read_from(path: &Path, start: u64) -> Result<String> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests;
