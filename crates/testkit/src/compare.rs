//! Two log folders, batch by batch: a mirror partition must be byte-equal to its source from the mirror's start on.
//!
//! Reads Kafka's on-disk format by itself and not with Hawser's own code. Segments may be cut at other places and indexes
//! may differ; batches, their order and the leader-epoch cache may not.

use anyhow::{Context, Result, bail, ensure};
use std::fmt;
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

const OVERHEAD_BYTES: usize = 12;
const HEADER_BYTES: usize = 61;
/// Far above what any test writes; a length beyond it is damage.
const BATCH_BYTES_MAX: usize = 256 << 20;

/// What two equal logs have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Equal {
    /// First offset that the mirror's files hold: the base of its first batch, or its only segment's name.
    pub start: i64,
    /// One past the last offset.
    pub end: i64,
    /// Batches compared.
    pub batches: u64,
    /// Bytes compared.
    pub bytes: u64,
    /// Batches without records that compaction left behind.
    pub emptied: u64,
    /// Places where offsets are missing between two batches.
    pub gaps: u64,
    /// Leader epochs seen.
    pub epochs: u64,
}

/// One batch as it lies in a segment.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredBatch {
    /// Offset of its first record.
    pub base_offset: i64,
    /// Offset of its last record.
    pub last_offset: i64,
    /// Leader epoch.
    pub epoch: i32,
    /// Records still in it.
    pub records: i32,
    /// All of it.
    pub bytes: Vec<u8>,
}

/// Walks the batches of one partition folder in order of the segments.
pub struct Walk {
    segments: std::vec::IntoIter<(i64, PathBuf)>,
    current: Option<(PathBuf, BufReader<File>)>,
}

impl Walk {
    /// Begins at the first segment of `folder`.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn new(folder: &Path) -> Result<Self> {
        Ok(Self { segments: segments(folder)?.into_iter(), current: None })
    }

    /// The next batch, its CRC checked; `None` at the end. Half a batch at the end of the last segment is an error.
    ///
    /// # Errors
    /// Damage, and file errors.
    pub fn next_batch(&mut self) -> Result<Option<StoredBatch>> {
        loop {
            if self.current.is_none() {
                let Some((_, path)) = self.segments.next() else { return Ok(None) };
                let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
                self.current = Some((path, BufReader::with_capacity(1 << 20, file)));
            }
            let Some((path, reader)) = &mut self.current else { continue };
            match read_batch(reader).with_context(|| path.display().to_string())? {
                Some(batch) => return Ok(Some(batch)),
                None => self.current = None,
            }
        }
    }
}

/// Compares the mirror in `mirror` with the source in `source` (both partition folders), from the mirror's start.
/// `log_start` is the partition's first readable offset, which may lie above the first batch that the files hold.
///
/// # Errors
/// The first difference, with its offset; damage; file errors.
pub fn partitions(source: &Path, mirror: &Path, log_start: i64) -> Result<Equal> {
    let (mut theirs, mut ours) = (Walk::new(source)?, Walk::new(mirror)?);
    let mut epochs: Vec<(i32, i64)> = Vec::new();
    let Some(first) = ours.next_batch()? else {
        return empty_mirror(source, mirror, theirs);
    };
    let mut equal = Equal { start: first.base_offset, end: first.base_offset, ..Equal::default() };
    let mut expected = loop {
        match theirs.next_batch()? {
            Some(batch) if batch.last_offset < first.base_offset => {}
            Some(batch) => break batch,
            None => bail!("the mirror begins with {first:?} where the source has no more batches"),
        }
    };
    let mut actual = first;
    loop {
        ensure!(expected.bytes == actual.bytes, difference(&expected, &actual));
        equal.batches += 1;
        equal.bytes += actual.bytes.len() as u64;
        equal.emptied += u64::from(actual.records == 0);
        equal.gaps += u64::from(actual.base_offset > equal.end);
        equal.end = actual.last_offset + 1;
        if epochs.last().is_none_or(|&(epoch, _)| epoch < actual.epoch) {
            epochs.push((actual.epoch, actual.base_offset));
        }
        match (theirs.next_batch()?, ours.next_batch()?) {
            (Some(next_expected), Some(next_actual)) => (expected, actual) = (next_expected, next_actual),
            (None, None) => break,
            (Some(missing), None) => bail!("the mirror ends at {}, the source goes on with {missing:?}", equal.end),
            (None, Some(extra)) => bail!("the source ends at {}, the mirror goes on with {extra:?}", equal.end),
        }
    }
    equal.epochs = epochs.len() as u64;
    ensure!(equal.start <= log_start, "the mirror's files begin at {}, above its log start {log_start}", equal.start);
    let ends = epochs.iter().skip(1).map(|&(_, base)| base).chain([equal.end]);
    let readable: Vec<(i32, i64)> =
        epochs.iter().zip(ends).filter(|&(_, end)| end > log_start).map(|(&epoch, _)| epoch).collect();
    check_epochs(mirror, &readable, log_start)?;
    Ok(equal)
}

/// As [`partitions`], for a mirror that became an ordinary partition at offset `end`: below it both hold the same batches, and
/// whatever came after is each one's own.
///
/// # Errors
/// As [`partitions`].
pub fn prefixes(source: &Path, mirror: &Path, end: i64) -> Result<Equal> {
    let (mut theirs, mut ours) = (Walk::new(source)?, Walk::new(mirror)?);
    let mut equal = Equal::default();
    while equal.end < end {
        let (expected, actual) = (theirs.next_batch()?, ours.next_batch()?);
        let (Some(expected), Some(actual)) = (expected, actual) else {
            bail!("there is no batch at {} on both sides, below {end}", equal.end);
        };
        ensure!(expected.bytes == actual.bytes, difference(&expected, &actual));
        equal.batches += 1;
        equal.bytes += actual.bytes.len() as u64;
        equal.end = actual.last_offset + 1;
    }
    ensure!(equal.end == end, "a batch ends at {}, beyond {end}", equal.end);
    Ok(equal)
}

/// What one partition folder holds, without anything to compare it with.
///
/// # Errors
/// Damage, and file errors.
pub fn survey(folder: &Path) -> Result<Equal> {
    let mut walk = Walk::new(folder)?;
    let mut found = Equal { start: first_segment(folder)?, ..Equal::default() };
    found.end = found.start;
    let mut last_epoch = None;
    while let Some(batch) = walk.next_batch()? {
        found.batches += 1;
        found.bytes += batch.bytes.len() as u64;
        found.emptied += u64::from(batch.records == 0);
        found.gaps += u64::from(batch.base_offset > found.end);
        found.epochs += u64::from(last_epoch != Some(batch.epoch));
        last_epoch = Some(batch.epoch);
        found.end = batch.last_offset + 1;
    }
    Ok(found)
}

/// An empty mirror is right when the source holds nothing from its start on.
fn empty_mirror(source: &Path, mirror: &Path, mut theirs: Walk) -> Result<Equal> {
    let start = first_segment(mirror)?;
    while let Some(batch) = theirs.next_batch()? {
        ensure!(
            batch.last_offset < start,
            "the mirror is empty from {start} on, the source ({source:?}) has {batch:?}"
        );
    }
    Ok(Equal { start, end: start, ..Equal::default() })
}

/// The mirror's `leader-epoch-checkpoint` must say where each epoch of its readable batches begins. The first entry may be
/// raised to the log start; a log with nothing left to read may keep its last epoch or not; epochs without batches may be
/// missing.
fn check_epochs(mirror: &Path, readable: &[(i32, i64)], log_start: i64) -> Result<()> {
    let path = mirror.join("leader-epoch-checkpoint");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let cached: Vec<(i32, i64)> = text
        .lines()
        .skip(2)
        .filter_map(|line| {
            let (epoch, offset) = line.split_once(' ')?;
            Some((epoch.parse().ok()?, offset.parse().ok()?))
        })
        .collect();
    if readable.is_empty() && cached.len() <= 1 {
        return Ok(());
    }
    let fits = cached.len() == readable.len()
        && cached.iter().zip(readable).enumerate().all(|(i, (entry, batch))| {
            let raised = i == 0 && entry.1 == log_start && log_start > batch.1;
            entry.0 == batch.0 && (entry.1 == batch.1 || raised)
        });
    ensure!(fits, "{}: epochs {cached:?}, the batches from {log_start} on have {readable:?}", path.display());
    Ok(())
}

fn difference(expected: &StoredBatch, actual: &StoredBatch) -> String {
    let at = expected.bytes.iter().zip(&actual.bytes).position(|(a, b)| a != b);
    let at = at.unwrap_or_else(|| expected.bytes.len().min(actual.bytes.len()));
    format!("first difference in byte {at} of a batch: the source has {expected:?}, the mirror {actual:?}")
}

fn read_batch(reader: &mut impl Read) -> Result<Option<StoredBatch>> {
    let mut bytes = vec![0; OVERHEAD_BYTES];
    match read_full(reader, &mut bytes)? {
        0 => return Ok(None),
        OVERHEAD_BYTES => {}
        cut => bail!("{cut} bytes after the last batch"),
    }
    let base_offset = i64::from_be_bytes(field(&bytes, 0)?);
    let length = i32::from_be_bytes(field(&bytes, 8)?);
    let size = usize::try_from(length)? + OVERHEAD_BYTES;
    ensure!((HEADER_BYTES..BATCH_BYTES_MAX).contains(&size), "batch at {base_offset} has {size} bytes");
    bytes.resize(size, 0);
    let rest = read_full(reader, &mut bytes[OVERHEAD_BYTES..])?;
    ensure!(rest + OVERHEAD_BYTES == size, "batch at {base_offset} is cut off");
    let stated = u32::from_be_bytes(field(&bytes, 17)?);
    ensure!(crc32c::crc32c(&bytes[21..]) == stated, "batch at {base_offset} has a wrong CRC");
    Ok(Some(StoredBatch {
        base_offset,
        last_offset: base_offset + i64::from(i32::from_be_bytes(field(&bytes, 23)?)),
        epoch: i32::from_be_bytes(field(&bytes, 12)?),
        records: i32::from_be_bytes(field(&bytes, 57)?),
        bytes,
    }))
}

/// Fills `buffer` as far as the reader goes.
fn read_full(reader: &mut impl Read, buffer: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    bytes.get(at..at + N).and_then(|b| b.try_into().ok()).context("batch header")
}

fn first_segment(folder: &Path) -> Result<i64> {
    segments(folder)?.first().map(|(base, _)| *base).with_context(|| format!("no segment in {}", folder.display()))
}

/// Segments in order, those without bytes included; what is being deleted or swapped in is left out.
fn segments(folder: &Path) -> Result<Vec<(i64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(base) = name.strip_suffix(".log").and_then(|n| n.parse::<i64>().ok()) {
            found.push((base, path));
        }
    }
    found.sort();
    Ok(found)
}

impl fmt::Debug for StoredBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { base_offset, last_offset, epoch, records, bytes } = self;
        write!(f, "offsets {base_offset}..={last_offset} (epoch {epoch}, {records} records, {} bytes)", bytes.len())
    }
}

#[cfg(test)]
mod tests;
