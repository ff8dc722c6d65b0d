//! Kafka's command-line tools, run to their end.

use super::home::LogLevel;
use super::{Home, Jvm};
use anyhow::{Context, Result, ensure};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Far above the second or two that a tool takes, also where ten of them share a core.
const LIMIT: Duration = Duration::from_secs(300);

/// A call of one main class.
#[derive(Clone, Debug)]
pub struct Tool {
    home: Home,
    class: String,
    args: Vec<String>,
    input: Vec<u8>,
    heap_mb: u32,
    classes: Option<PathBuf>,
}

/// What a tool said.
#[derive(Clone, Debug)]
pub struct ToolOutput {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Tool {
    pub(super) fn new(home: &Home, class: &str) -> Self {
        let (home, class) = (home.clone(), class.to_owned());
        Self { home, class, args: Vec::new(), input: Vec::new(), heap_mb: 256, classes: None }
    }

    /// Adds one argument.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    pub fn args<S: AsRef<str>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// A further folder of classes.
    pub(super) fn classes(mut self, folder: PathBuf) -> Self {
        self.classes = Some(folder);
        self
    }

    /// What it reads from its standard input.
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// Runs it and returns what it said, whatever its exit code.
    ///
    /// # Errors
    /// When it cannot be started or has not ended after five minutes (it is then killed).
    pub fn output(self) -> Result<ToolOutput> {
        let (status, stdout, stderr) = self.bytes()?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(ToolOutput { status, stdout: text(stdout), stderr: text(stderr) })
    }

    /// As [`output`](Self::output): exit status, standard output and standard error as they are.
    pub(super) fn bytes(self) -> Result<(ExitStatus, Vec<u8>, Vec<u8>)> {
        let java = self.home.java(Jvm::quick(self.heap_mb), LogLevel::Warn, self.classes.as_deref());
        let program = java.arg(&self.class).args(self.args);
        let mut child = program
            .command()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start java for {}", self.class))?;
        let mut stdin = child.stdin.take().context("stdin")?;
        let (stdout, stderr) = (child.stdout.take().context("stdout")?, child.stderr.take().context("stderr")?);
        let input = self.input;
        // Each stream has its own thread, or a full pipe would stop the tool. A tool may end without reading its input.
        let writing = thread::spawn(move || drop(stdin.write_all(&input)));
        let (out, err) = (thread::spawn(move || read_all(stdout)), thread::spawn(move || read_all(stderr)));
        let deadline = Instant::now() + LIMIT;
        let ended = loop {
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            if Instant::now() > deadline {
                child.kill()?;
                child.wait()?;
                break None;
            }
            thread::sleep(Duration::from_millis(10));
        };
        drop(writing.join());
        let (stdout, stderr) = (out.join().unwrap_or_default(), err.join().unwrap_or_default());
        let status = ended.with_context(|| {
            let said = [&stdout[..], &stderr[..]].concat();
            format!("{} has not ended after {LIMIT:?}:\n{}", self.class, String::from_utf8_lossy(&said))
        })?;
        Ok((status, stdout, stderr))
    }

    /// Runs it and returns its standard output.
    ///
    /// # Errors
    /// As [`output`](Self::output), and when its exit code is not 0.
    pub fn run(self) -> Result<String> {
        let class = self.class.clone();
        let output = self.output()?;
        ensure!(output.status.success(), "{class}: {}\n{}{}", output.status, output.stdout, output.stderr);
        Ok(output.stdout)
    }
}

fn read_all(mut from: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A stream that breaks off has simply ended here: the exit code tells the rest.
    let _ = from.read_to_end(&mut bytes);
    bytes
}
