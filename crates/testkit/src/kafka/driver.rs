//! Kafka's Java clients as a co-process: one JVM that performs many requests, where a tool costs one JVM a call.
//!
//! The program is `java/*.java` beside this crate; it is compiled once per change into the cache folder. It works
//! against any Kafka listener, Hawser's included. It ends when its input does, so it cannot outlive the test.

use super::home::LogLevel;
use super::{Home, Jvm, Version, cache_dir};
use anyhow::{Context, Result, bail, ensure};
use std::collections::VecDeque;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const SOURCES: [(&str, &str); 8] = [
    ("Driver.java", include_str!("../../java/Driver.java")),
    ("Dump.java", include_str!("../../java/Dump.java")),
    ("Load.java", include_str!("../../java/Load.java")),
    ("Numbers.java", include_str!("../../java/Numbers.java")),
    ("Reading.java", include_str!("../../java/Reading.java")),
    ("Topics.java", include_str!("../../java/Topics.java")),
    ("Writing.java", include_str!("../../java/Writing.java")),
    ("Zoo.java", include_str!("../../java/Zoo.java")),
];

/// Longer than any limit inside the program.
const ANSWER_LIMIT: Duration = Duration::from_secs(300);
/// Lines in flight from the program; it waits when the test does not read.
const ANSWER_LINES: usize = 1024;
/// Lines of the program's log that an error shows.
const LOG_LINES: usize = 60;

/// A running driver.
pub struct Driver {
    child: Child,
    requests: Option<ChildStdin>,
    answers: Receiver<String>,
    /// The end of its log.
    log: Arc<Mutex<VecDeque<String>>>,
}

/// One partition as the cluster describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionState {
    /// Topic name.
    pub topic: String,
    /// Topic id, in Kafka's form.
    pub topic_id: String,
    /// Partition number.
    pub partition: i32,
    /// Node id of the leader, −1 for none.
    pub leader: i32,
    /// Node ids of the replicas.
    pub replicas: Vec<i32>,
}

/// What a consumer saw of one partition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest {
    /// Topic name.
    pub topic: String,
    /// Partition number.
    pub partition: i32,
    /// Records read.
    pub records: u64,
    /// SHA-256 over partition, offset, timestamp, key, value and headers of every record.
    pub sha256: String,
}

/// Answers to ListOffsets about one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// Topic name.
    pub topic: String,
    /// Partition number.
    pub partition: i32,
    /// First readable offset.
    pub earliest: i64,
    /// One past the last readable offset.
    pub latest: i64,
    /// Everything as answered: earliest, latest, max-timestamp, several timestamps (`offset` or `offset@timestamp`).
    pub answers: String,
}

/// Which records a consumer is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// All but control records.
    ReadUncommitted,
    /// Not those of open and aborted transactions.
    ReadCommitted,
}

impl Isolation {
    /// As clients write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadUncommitted => "read_uncommitted",
            Self::ReadCommitted => "read_committed",
        }
    }
}

impl Driver {
    /// Connects the clients of the current release to `bootstrap`, with the settings of a client file if given.
    ///
    /// # Errors
    /// When stock Kafka has not been fetched, or `javac` or `java` lack.
    pub fn connect(bootstrap: &str, client_file: Option<&Path>) -> Result<Self> {
        Self::connect_under(&[], bootstrap, client_file)
    }

    /// As [`connect`](Self::connect), with the clients under another program, as in [`Home::under`].
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_under(wrapper: &[String], bootstrap: &str, client_file: Option<&Path>) -> Result<Self> {
        let home = Home::find(Version::default())?.under(wrapper);
        let classes = compiled(&home)?;
        let file = client_file.map(|f| f.display().to_string());
        let mut child = home
            .java(Jvm::quick(512), LogLevel::Warn, Some(&classes))
            .args(["Driver", bootstrap])
            .args(file)
            .command()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("start java")?;
        let requests = child.stdin.take();
        let log = keep_the_end(child.stderr.take().context("stderr")?);
        let output = child.stdout.take().context("stdout")?;
        let (sender, answers) = sync_channel(ANSWER_LINES);
        std::thread::spawn(move || {
            let lines = BufReader::new(output).lines();
            lines.map_while(Result::ok).try_for_each(|line| sender.send(line).map_err(drop))
        });
        Ok(Self { child, requests, answers, log })
    }

    /// Sends one request and returns the lines of its answer.
    ///
    /// # Errors
    /// The error that the program answers with, or its end.
    pub fn ask(&mut self, words: &[&str]) -> Result<Vec<String>> {
        let requests = self.requests.as_mut().context("driver is closed")?;
        writeln!(requests, "{}", words.join("\t")).with_context(|| format!("send {words:?}"))?;
        let mut lines = Vec::new();
        loop {
            let line = match self.answers.recv_timeout(ANSWER_LIMIT) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => {
                    bail!("no answer to {words:?} within {ANSWER_LIMIT:?}; its log: {}", self.log())
                }
                Err(RecvTimeoutError::Disconnected) => bail!("the driver ended at {words:?}; its log: {}", self.log()),
            };
            match line.split_once(' ') {
                Some(("=", value)) => lines.push(value.to_owned()),
                Some(("error", reason)) => bail!("{words:?}: {reason}; its log: {}", self.log()),
                _ if line == "ok" => return Ok(lines),
                _ => bail!("{words:?}: unexpected {line:?}"),
            }
        }
    }

    fn log(&self) -> String {
        let lines = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().flat_map(|line| ["\n", line.as_str()]).collect()
    }

    /// Creates a topic and waits until its replicas are in sync; `configs` as `key=value`.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub fn create_topic(&mut self, topic: &str, partitions: u32, replicas: u32, configs: &[&str]) -> Result<()> {
        let (partitions, replicas) = (partitions.to_string(), replicas.to_string());
        let words = [&["topics", "create", topic, &partitions, &replicas], configs].concat();
        self.ask(&words).map(drop)
    }

    /// Sends `count` records of `value_bytes` each; partition −1 leaves the choice to the producer.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub fn send(&mut self, topic: &str, partition: i32, count: u32, value_bytes: u32, codec: &str) -> Result<()> {
        let numbers = [partition.to_string(), count.to_string(), value_bytes.to_string()];
        self.ask(&["send", topic, &numbers[0], &numbers[1], &numbers[2], codec]).map(drop)
    }

    /// Leaders and replicas of every partition of `topics`.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub fn describe(&mut self, topics: &[&str]) -> Result<Vec<PartitionState>> {
        let lines = self.ask(&[&["topics", "describe"], topics].concat())?;
        lines.iter().map(|line| PartitionState::parse(line).with_context(|| format!("read {line:?}"))).collect()
    }

    /// What a consumer sees of `topics`, by topic and partition.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub fn digest(&mut self, isolation: Isolation, topics: &[&str]) -> Result<Vec<Digest>> {
        let lines = self.ask(&[&["digest", isolation.as_str()], topics].concat())?;
        lines.iter().map(|line| Digest::parse(line).with_context(|| format!("read {line:?}"))).collect()
    }

    /// Earliest, latest, max-timestamp and a number of timestamps, by topic and partition.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub fn offsets(&mut self, topics: &[&str]) -> Result<Vec<Offsets>> {
        const TIMESTAMPS: &str = "16";
        self.ask_offsets(TIMESTAMPS, topics)
    }

    /// As [`offsets`](Self::offsets), with hardly any timestamps: for polling.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub fn ends(&mut self, topics: &[&str]) -> Result<Vec<Offsets>> {
        self.ask_offsets("0", topics)
    }

    fn ask_offsets(&mut self, timestamps: &str, topics: &[&str]) -> Result<Vec<Offsets>> {
        let lines = self.ask(&[&["topics", "offsets", timestamps], topics].concat())?;
        lines.iter().map(|line| Offsets::parse(line).with_context(|| format!("read {line:?}"))).collect()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        drop(self.requests.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl PartitionState {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split('\t');
        Some(Self {
            topic: words.next()?.to_owned(),
            topic_id: words.next()?.to_owned(),
            partition: words.next()?.parse().ok()?,
            leader: words.next()?.parse().ok()?,
            replicas: words.next()?.split(',').map(str::parse).collect::<Result<_, _>>().ok()?,
        })
    }
}

impl Offsets {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split('\t');
        let (topic, partition) = (words.next()?.to_owned(), words.next()?.parse().ok()?);
        let answers = words.next()?.to_owned();
        let mut offsets = answers.split(' ').filter_map(|answer| answer.split('@').next()?.parse().ok());
        Some(Self { topic, partition, earliest: offsets.next()?, latest: offsets.next()?, answers })
    }
}

impl Digest {
    /// Reads tab-separated topic, partition, records and sum, as digest programs print them.
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split('\t');
        Some(Self {
            topic: words.next()?.to_owned(),
            partition: words.next()?.parse().ok()?,
            records: words.next()?.parse().ok()?,
            sha256: words.next()?.to_owned(),
        })
    }
}

/// Reads a log to its end in a thread of its own, and keeps the last lines.
fn keep_the_end(log: impl Read + Send + 'static) -> Arc<Mutex<VecDeque<String>>> {
    let kept = Arc::new(Mutex::new(VecDeque::new()));
    let end = Arc::clone(&kept);
    std::thread::spawn(move || {
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            let mut lines = end.lock().unwrap_or_else(PoisonError::into_inner);
            if lines.len() == LOG_LINES {
                lines.pop_front();
            }
            lines.push_back(line);
        }
    });
    kept
}

/// The folder of compiled classes, made if these sources have not been compiled yet.
pub(super) fn compiled(home: &Home) -> Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    (SOURCES, home.version().as_str()).hash(&mut hasher);
    let folder = cache_dir().join("java").join(format!("{:016x}", hasher.finish()));
    if folder.is_dir() {
        return Ok(folder);
    }
    // Another test may compile at the same time: each into its own folder, the first rename wins.
    fs::create_dir_all(cache_dir().join("java"))?;
    let building = tempfile::tempdir_in(cache_dir().join("java"))?;
    let classes = building.path().join("classes");
    let mut javac = Command::new("javac");
    javac.args(["-nowarn", "-proc:none", "-cp", &format!("{}/*", home.lib().display()), "-d"]).arg(&classes);
    for (name, text) in SOURCES {
        let file = building.path().join(name);
        fs::write(&file, text)?;
        javac.arg(file);
    }
    let output = javac.output().context("start javac (a JDK is needed, not only a JRE)")?;
    ensure!(output.status.success(), "javac: {}", String::from_utf8_lossy(&output.stderr));
    match fs::rename(&classes, &folder) {
        Err(e) if !folder.is_dir() => Err(e).context("keep the compiled driver"),
        _ => Ok(folder),
    }
}
