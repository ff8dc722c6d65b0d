//! `cargo bench --bench append`: a verbatim append against a plain `write` of the same bytes.
//!
//! Both write the same prepared batches in chunks of 1 MiB, a partition's share of a fetch response, to one file; runs alternate, each on
//! a fresh file, and the ratio is taken pair by pair. Expected: 1.1 × at most. On top of the `write`, an append looks at
//! the 61 header bytes of each batch and adds an index entry (8 + 12 bytes) every `index.interval.bytes`. `TMPDIR` says
//! where the files are.

#[path = "segment.rs"]
mod segment;

use anyhow::Result;
use bytes::Bytes;
use hawser_log::{LogConfig, Logs};
use hawser_wire::{Batch, TopicPartition};
use std::fs::File;
use std::io::Write;
use std::time::Instant;

const RUN_BYTES: usize = 1 << 30;
const CHUNK_BYTES: usize = 1 << 20;
const RUNS: usize = 7;

fn main() -> Result<()> {
    for records in [segment::RECORDS_PER_BATCH, 1] {
        compare(records)?;
    }
    Ok(())
}

/// Batches of `records` records of 1 KiB.
fn compare(records: i32) -> Result<()> {
    let chunks = chunks(&Bytes::from(segment::segment(RUN_BYTES, records)));
    let bytes: usize = chunks.iter().flatten().map(|b| b.bytes.len()).sum();
    let batches = chunks.iter().map(Vec::len).sum::<usize>();
    println!("{} MB in {batches} batches of {records} KiB, {} chunks", bytes / 1_000_000, chunks.len());
    let mut ratios = Vec::new();
    for run in 0..=RUNS {
        let (plain, appended) = (plain(&chunks)?, append(&chunks)?);
        if run == 0 {
            continue; // first touch of memory and disk
        }
        println!("write {:.3} s, append {:.3} s, ratio {:.3}", plain, appended, appended / plain);
        ratios.push(appended / plain);
    }
    ratios.sort_by(f64::total_cmp);
    println!("batches of {records} KiB: append / write: median {:.3}", ratios[RUNS / 2]);
    Ok(())
}

/// The run, cut as fetch responses would cut it: whole batches, each chunk one contiguous slice.
fn chunks(all: &Bytes) -> Vec<Vec<Batch>> {
    let mut rest = all.clone();
    let mut chunks = vec![Vec::new()];
    let mut size = 0;
    while let Ok(batch) = Batch::split_off(&mut rest) {
        if size + batch.bytes.len() > CHUNK_BYTES {
            chunks.push(Vec::new());
            size = 0;
        }
        size += batch.bytes.len();
        if let Some(chunk) = chunks.last_mut() {
            chunk.push(batch);
        }
    }
    chunks
}

fn plain(chunks: &[Vec<Batch>]) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let mut file = File::create(folder.path().join("plain"))?;
    let mut one = Vec::with_capacity(CHUNK_BYTES);
    let mut spent = 0.0;
    for chunk in chunks {
        one.clear();
        chunk.iter().for_each(|b| one.extend_from_slice(&b.bytes));
        let start = Instant::now();
        file.write_all(&one)?;
        spent += start.elapsed().as_secs_f64();
    }
    Ok(spent)
}

fn append(chunks: &[Vec<Batch>]) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let config = LogConfig { flush_interval: None, segment_bytes: (1 << 31) - 1, ..LogConfig::default() };
    let logs = Logs::open(folder.path(), config)?;
    let partition = logs.open_partition(&TopicPartition::new("append", 0), hawser_wire::Uuid::from_u128(1))?;
    let mut spent = 0.0;
    for chunk in chunks {
        let start = Instant::now();
        partition.append(chunk)?;
        spent += start.elapsed().as_secs_f64();
    }
    Ok(spent)
}
