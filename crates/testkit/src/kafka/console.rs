//! The console consumer as `kafka-console-consumer` starts it, printing all that it can of every record.

use super::{Home, Isolation, Version};
use anyhow::{Result, ensure};
use std::path::Path;

const CLASS: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";
/// Stands behind every record: values hold line ends themselves.
const END_OF_RECORD: &str = "<end of record>\n";
/// How long the tool waits for a record before it gives up: one is missing then.
const MISSING_AFTER_MS: &str = "60000";
/// What is printed of a record. Releases that do not know the leader epoch (3.9) leave it out.
const PRINTED: [&str; 7] = ["timestamp", "partition", "offset", "epoch", "headers", "key", "value"];

/// Reads `records` records of all topics that match the pattern `topics`, from their beginnings, as a consumer group.
/// Returns them as printed, sorted: the tool names no topics, and the order between partitions is nobody's.
///
/// # Errors
/// When the tool fails, or shows more or fewer records.
pub fn read_by_console(
    home: &Home,
    bootstrap: &str,
    client_file: Option<&Path>,
    isolation: Isolation,
    topics: &str,
    records: u64,
) -> Result<Vec<Vec<u8>>> {
    // Options were renamed in 4.2 (KIP-1147); the older names print a warning among the records.
    let (config, property) = match home.version() {
        Version::V4_3 => ("--command-config", "--formatter-property"),
        Version::V3_9 => ("--consumer.config", "--property"),
    };
    let mut tool = home
        .tool(CLASS)
        .args(["--bootstrap-server", bootstrap, "--include", topics, "--from-beginning"])
        .args(["--isolation-level", isolation.as_str(), "--timeout-ms", MISSING_AFTER_MS])
        .args(["--max-messages", &records.to_string()])
        .args([property, &format!("line.separator={END_OF_RECORD}")]);
    if let Some(file) = client_file {
        tool = tool.args([config, &file.display().to_string()]);
    }
    for part in PRINTED {
        tool = tool.args([property, &format!("print.{part}=true")]);
    }
    let (status, stdout, stderr) = tool.bytes()?;
    let errors = String::from_utf8_lossy(&stderr);
    ensure!(status.success(), "{CLASS}: {status}\n{errors}");
    let (mut found, mut record) = (Vec::new(), Vec::new());
    for line in stdout.split_inclusive(|byte| *byte == b'\n') {
        record.extend_from_slice(line);
        if record.ends_with(END_OF_RECORD.as_bytes()) {
            found.push(std::mem::take(&mut record));
        }
    }
    ensure!(found.len() as u64 == records, "{CLASS} read {} records of {records}\n{errors}", found.len());
    ensure!(record.is_empty(), "{CLASS} printed {} bytes that are no record", record.len());
    found.sort_unstable();
    Ok(found)
}
