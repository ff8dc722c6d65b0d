//! The small text files of a data directory, in Kafka's formats: `CheckpointFile` (offsets by partition, leader epochs),
//! `partition.metadata` and the clean-shutdown mark. All are replaced as a whole and durably.
//!
//! A file that is missing or damaged reads as `None`: what it held is then found in the log, or counts as 0.

use crate::disk::{Disk, Durably};
use crate::epochs::{EpochStart, LeaderEpochs};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hawser_wire::{LeaderEpoch, Offset, TopicPartition, Uuid};
use std::collections::HashMap;
use std::fmt::Write;
use std::io;
use std::path::Path;

pub(crate) const RECOVERY_POINT: &str = "recovery-point-offset-checkpoint";
pub(crate) const HIGH_WATERMARK: &str = "replication-offset-checkpoint";
pub(crate) const LOG_START: &str = "log-start-offset-checkpoint";
pub(crate) const CLEANER_OFFSET: &str = "cleaner-offset-checkpoint";
pub(crate) const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";
const LEADER_EPOCHS: &str = "leader-epoch-checkpoint";
const PARTITION_METADATA: &str = "partition.metadata";

/// Offsets by partition, as an `OffsetCheckpointFile` holds them.
pub(crate) fn read_offsets(path: &Path) -> Option<HashMap<TopicPartition, Offset>> {
    let text = std::fs::read_to_string(path).ok()?;
    entries(&text)?
        .map(|line| {
            let mut fields = line.split(' ');
            let id = TopicPartition::new(fields.next()?, fields.next()?.parse().ok()?);
            Some((id, Offset(fields.next()?.parse().ok()?)))
        })
        .collect()
}

pub(crate) fn write_offsets<'a>(
    disk: &Disk,
    path: &Path,
    offsets: impl ExactSizeIterator<Item = (&'a TopicPartition, Offset)>,
) -> io::Result<()> {
    let mut text = format!("0\n{}\n", offsets.len());
    for (id, offset) in offsets {
        let _ = writeln!(text, "{} {} {offset}", id.topic, id.partition); // writing to a String cannot fail
    }
    disk.replace(path, text.as_bytes())
}

pub(crate) fn read_epochs(dir: &Path) -> Option<LeaderEpochs> {
    let text = std::fs::read_to_string(dir.join(LEADER_EPOCHS)).ok()?;
    let entries = entries(&text)?.map(|line| {
        let (epoch, start) = line.split_once(' ')?;
        Some(EpochStart { epoch: LeaderEpoch(epoch.parse().ok()?), start: Offset(start.parse().ok()?) })
    });
    LeaderEpochs::from_entries(entries.collect::<Option<_>>()?)
}

pub(crate) fn write_epochs(disk: &Disk, dir: &Path, epochs: &LeaderEpochs, durably: Durably) -> io::Result<()> {
    let mut text = format!("0\n{}\n", epochs.entries().len());
    for EpochStart { epoch, start } in epochs.entries() {
        let _ = writeln!(text, "{epoch} {start}"); // writing to a String cannot fail
    }
    disk.replace_with(&dir.join(LEADER_EPOCHS), text.as_bytes(), durably)
}

pub(crate) fn read_topic_id(dir: &Path) -> Option<Uuid> {
    let text = std::fs::read_to_string(dir.join(PARTITION_METADATA)).ok()?;
    let id = text.lines().find_map(|line| line.strip_prefix("topic_id: "))?;
    Uuid::from_slice(&URL_SAFE_NO_PAD.decode(id.trim()).ok()?).ok()
}

/// Not synced: the partition's first flush does that, with the names in its folder.
pub(crate) fn write_topic_id(disk: &Disk, dir: &Path, id: Uuid) -> io::Result<()> {
    let text = format!("version: 0\ntopic_id: {}", URL_SAFE_NO_PAD.encode(id.as_bytes()));
    disk.create(dir.join(PARTITION_METADATA))?.write_all_at(text.as_bytes(), 0)
}

pub(crate) fn sync_topic_id(disk: &Disk, dir: &Path) -> io::Result<()> {
    disk.open(dir.join(PARTITION_METADATA))?.sync()
}

/// The lines of a `CheckpointFile` after version and count, if both are what they should be.
fn entries(text: &str) -> Option<impl Iterator<Item = &str>> {
    let mut lines = text.lines();
    let version = lines.next()?;
    let count: usize = lines.next()?.parse().ok()?;
    (version == "0" && lines.clone().count() == count).then_some(lines)
}
