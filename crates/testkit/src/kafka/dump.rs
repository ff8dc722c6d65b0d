//! `DumpLogSegments` over many partition folders: every batch read through, every index checked against its log.

use super::Home;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// Folders per call: all their files stand in one argument, which the kernel bounds to 128 KiB.
const FOLDERS_PER_CALL: usize = 60;
/// The largest batch that the tool is allowed to read; its own bound is 5 MiB.
const BATCH_BYTES_MAX: &str = "33554432";

/// What the tool said.
#[derive(Clone, Debug, Default)]
pub struct Dump {
    /// Batches that it read.
    pub batches: u64,
    /// What it complained about, by partition folder.
    pub complaints: BTreeMap<String, Vec<String>>,
}

impl Dump {
    /// Reads the segments and indexes in `folders`. Nobody may be writing there.
    ///
    /// # Errors
    /// When the tool does not come to its end.
    pub fn of(home: &Home, folders: &[PathBuf]) -> Result<Self> {
        let mut dump = Self::default();
        for folders in folders.chunks(FOLDERS_PER_CALL) {
            let mut files = Vec::new();
            for folder in folders {
                let listed = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
                for entry in listed {
                    let path = entry?.path();
                    let suffix = path.extension().unwrap_or_default();
                    if suffix == "log" || suffix == "index" || suffix == "timeindex" {
                        files.push(path.display().to_string());
                    }
                }
            }
            files.sort();
            let said = home
                .tool(home.dump_log_segments())
                .args(["--deep-iteration", "--max-message-size", BATCH_BYTES_MAX, "--files", &files.join(",")])
                .output()?;
            dump.read(&said.stdout, &said.stderr);
            if !said.status.success() {
                dump.complain("(the tool)", format!("{}: {}", said.status, said.stderr));
            }
        }
        Ok(dump)
    }

    fn read(&mut self, stdout: &str, stderr: &str) {
        let mut partition = String::from("(none)");
        for line in stdout.lines() {
            if let Some(file) = line.strip_prefix("Dumping ") {
                let folder = PathBuf::from(file);
                let folder = folder.parent().and_then(|f| f.file_name()).unwrap_or_default();
                partition = folder.to_string_lossy().into_owned();
            } else if line.starts_with("baseOffset:") {
                self.batches += 1;
                if line.contains("isvalid: false") {
                    self.complain(&partition, line.to_owned());
                }
            } else if is_complaint(line) {
                self.complain(&partition, without_paths(line));
            }
        }
        for line in stderr.lines().filter(|l| l.contains("Exception") || l.contains("ERROR")) {
            self.complain("(the tool)", without_paths(line));
        }
    }

    fn complain(&mut self, partition: &str, what: String) {
        self.complaints.entry(partition.to_owned()).or_default().push(what);
    }
}

/// The closing reports of `DumpLogSegments`: mismatches, time index errors, offsets that are not found or not consecutive.
fn is_complaint(line: &str) -> bool {
    let known =
        ["Mismatches in", "Found ", "Index offset:", "Indexed offset:", "Non-consecutive", "not found", "corrupt"];
    known.iter().any(|k| line.contains(k)) || (line.contains(" is followed by ") && !line.starts_with('|'))
}

/// The same complaint about two copies of a log reads the same.
fn without_paths(line: &str) -> String {
    let words = line.split_whitespace().map(|w| match w.rsplit_once('/') {
        Some((_, name)) => name,
        None => w,
    });
    words.collect::<Vec<_>>().join(" ")
}
