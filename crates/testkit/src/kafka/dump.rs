//! `DumpLogSegments` over many partition folders: every batch and record read through, every index checked against its log.
//!
//! The tool raises false alarms on some of Kafka's own logs, so a copy is judged by the complaints that its original has,
//! too. Complaints therefore name offsets, and nothing that depends on where a log is cut into segments.

use super::Home;
use super::driver::compiled;
use anyhow::{Context, Result, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The largest batch that the tool is allowed to read; its own bound is 5 MiB.
const BATCH_BYTES_MAX: &str = "33554432";

/// What the tool said.
#[derive(Clone, Debug, Default)]
pub struct Dump {
    /// Batches that it read.
    pub batches: u64,
    /// Entries of indexes that it held against their logs.
    pub entries: u64,
    /// What there is to complain about, by partition folder.
    pub complaints: BTreeMap<String, BTreeSet<String>>,
}

impl Dump {
    /// Reads the segments and indexes in `folders`. Nobody may be writing there.
    ///
    /// # Errors
    /// When the tool cannot be run.
    pub fn of(home: &Home, folders: &[PathBuf]) -> Result<Self> {
        let (mut names, mut input) = (Vec::new(), String::new());
        for folder in folders {
            names.push(folder.file_name().unwrap_or_default().to_string_lossy().into_owned());
            input.push_str(&files(folder)?.join(","));
            input.push('\n');
        }
        let said = home
            .tool("Dump")
            .classes(compiled(home)?)
            .args([home.dump_log_segments(), "--deep-iteration", "--max-message-size", BATCH_BYTES_MAX, "--files"])
            .input(input)
            .run()?;
        let mut looks: Vec<Look> = Vec::new();
        for line in said.lines() {
            if line == format!("Partition {}", looks.len()) {
                looks.push(Look::default());
            } else if let Some(look) = looks.last_mut() {
                look.read(line);
            }
        }
        ensure!(looks.len() == names.len(), "the tool spoke of {} partitions of {}", looks.len(), names.len());
        let mut dump = Self::default();
        for (name, look) in names.into_iter().zip(looks) {
            dump.batches += look.batches;
            dump.entries += look.entries;
            if !look.complaints.is_empty() {
                dump.complaints.insert(name, look.complaints);
            }
        }
        Ok(dump)
    }
}

/// One partition, its files in order.
#[derive(Default)]
struct Look {
    batches: u64,
    entries: u64,
    complaints: BTreeSet<String>,
    /// The file that is listed or reported on.
    file: String,
    /// The last record, whatever segment it lies in.
    last_record: Option<i64>,
    /// Last offsets and times of batches without records.
    emptied: BTreeSet<(String, String)>,
    /// Offsets that time indexes name, by file and timestamp.
    times: BTreeMap<(String, String), String>,
    /// The report under way.
    report: Option<String>,
}

impl Look {
    fn read(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["Dumping", file] => self.file = file.to_owned(),
            ["baseOffset:", base, "lastOffset:", last, "count:", count, ..] => {
                self.batches += 1;
                let mut rest = words.iter().skip_while(|word| !word.ends_with("Time:"));
                if let ("0", Some(time)) = (count, rest.nth(1)) {
                    self.emptied.insert((last.to_owned(), (*time).to_owned()));
                }
                if !line.ends_with("isvalid: true") {
                    self.complain(format!("the batch at {base} is not valid"));
                }
            }
            ["|", "offset:", offset, ..] => self.record(offset),
            ["offset:", _, "position:", _] => self.entries += 1,
            ["timestamp:", time, "offset:", offset] => {
                self.entries += 1;
                self.times.insert((self.file.clone(), time.to_owned()), offset.to_owned());
            }
            ["Found", _, "invalid", "bytes", ..] | ["Exception", ..] => self.complain(line.to_owned()),
            // The tool's own look at the order of records begins anew in each file, and takes a first record that has not
            // offset 0 for a gap: `record` does it over all of them.
            ["Non-consecutive", "offsets", ..] => self.report = None,
            [_, "is", "followed", "by", _] => {}
            ["Mismatches", "in", file] => self.begin("Mismatches", file),
            ["Found", "timestamp", "mismatch", "in", file] => self.begin("timestamp mismatch", file),
            ["Found", "out", "of", "order", "timestamp", "in", file] => self.begin("timestamp out of order", file),
            ["The", "following", "indexed", "offsets", "are", "not", "found", ..] => self.begin("not found", ""),
            ["Index", "timestamp:", time, ..] => {
                let time = time.trim_end_matches(',').to_owned();
                let offset = self.times.get(&(self.file.clone(), time.clone())).cloned();
                let offset = offset.unwrap_or_else(|| "?".to_owned());
                let detail = format!("{} at offset {offset}", line.trim());
                // The tool takes the time of a batch from its records. One that compaction emptied has it in its head only.
                if !(line.ends_with("log timestamp: -1") && self.emptied.contains(&(offset, time))) {
                    self.detail(&detail);
                }
            }
            ["Index" | "Indexed", "offset:", ..] => self.detail(line.trim()),
            _ => {}
        }
    }

    fn record(&mut self, offset: &str) {
        match offset.parse() {
            Ok(offset) => {
                if let Some(last) = self.last_record.replace(offset)
                    && offset != last + 1
                {
                    self.complain(format!("{last} is followed by {offset}"));
                }
            }
            Err(_) => self.complain(format!("a record at '{offset}'")),
        }
    }

    fn begin(&mut self, report: &str, file: &str) {
        self.report = Some(report.to_owned());
        self.file = file.trim_start_matches(':').to_owned();
    }

    fn detail(&mut self, detail: &str) {
        let report = self.report.as_deref().unwrap_or("reported");
        self.complain(format!("{report}: {detail}"));
    }

    fn complain(&mut self, what: String) {
        self.complaints.insert(what);
    }
}

/// Segments and indexes of a partition, in order.
fn files(folder: &Path) -> Result<Vec<String>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry?.path();
        let suffix = path.extension().unwrap_or_default();
        if suffix == "log" || suffix == "index" || suffix == "timeindex" {
            files.push(path.display().to_string());
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(said: &str) -> Vec<String> {
        let mut look = Look::default();
        said.lines().for_each(|line| look.read(line));
        look.complaints.into_iter().collect()
    }

    #[test]
    fn reports_are_kept_by_offset() {
        let said = "Dumping /d/t-0/00000000000000000007.log\n\
            baseOffset: 7 lastOffset: 8 count: 2 position: 0 CreateTime: 30 size: 90 crc: 1 isvalid: true\n\
            | offset: 7 CreateTime: 20 keySize: -1\n\
            | offset: 8 CreateTime: 30 keySize: -1\n\
            baseOffset: 9 lastOffset: 9 count: 0 position: 90 CreateTime: 40 size: 61 crc: 1 isvalid: true\n\
            Dumping /d/t-0/00000000000000000007.timeindex\n\
            timestamp: 30 offset: 8\n\
            timestamp: 40 offset: 9\n\
            Found timestamp mismatch in :/d/t-0/00000000000000000007.timeindex\n  \
              Index timestamp: 40, log timestamp: -1\n\
            Non-consecutive offsets in /d/t-0/00000000000000000007.log\n  \
              -1 is followed by 7\n";
        assert_eq!(complaints(said), [""; 0]);
        let wrong = said.replace("lastOffset: 9 count: 0", "lastOffset: 9 count: 1");
        assert_eq!(complaints(&wrong), ["timestamp mismatch: Index timestamp: 40, log timestamp: -1 at offset 9"]);
        let wrong = said.replace("| offset: 8", "| offset: 9");
        assert_eq!(complaints(&wrong), ["7 is followed by 9"]);
        let wrong = said.replacen("isvalid: true", "isvalid: false", 1);
        assert_eq!(complaints(&wrong), ["the batch at 7 is not valid"]);
        let wrong = format!("{said}Mismatches in :/d/t-0/7.index\n  Index offset: 8, log offset: 9\n");
        assert_eq!(complaints(&wrong), ["Mismatches: Index offset: 8, log offset: 9"]);
        for release in ["in :/d/t-0/7.timeindex", "in the log."] {
            let wrong = format!(
                "{said}The following indexed offsets are not found {release}\nIndexed offset: 8, found log offset: -1\n"
            );
            assert_eq!(complaints(&wrong), ["not found: Indexed offset: 8, found log offset: -1"]);
        }
        let wrong = format!("{said}Exception java.lang.IllegalStateException: no\n");
        assert_eq!(complaints(&wrong), ["Exception java.lang.IllegalStateException: no"]);
    }
}
