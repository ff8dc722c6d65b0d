//! `cargo bench --bench append`: a verbatim append against a plain `write` of the same bytes.
//!
//! Both write the same prepared batches in chunks of 1 MiB, a partition's share of a fetch response, to one file, from where they
//! lie in memory; runs alternate, each on a fresh file, and the ratio is taken pair by pair. Expected: 1.1 × at most. On top of the `write`, an append looks at
//! the 61 header bytes of each batch and adds an index entry (8 + 12 bytes) every `index.interval.bytes`. `TMPDIR` says
//! where the files are.

#[path = "segment.rs"]
mod segment;

use anyhow::Result;
use bytes::Bytes;
use hawser_log::{LogConfig, Logs};
use hawser_wire::{Batch, BatchHeader, TopicPartition};
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
    let bytes: usize = chunks.iter().map(|chunk| chunk.bytes.len()).sum();
    let batches = chunks.iter().map(|chunk| chunk.batches.len()).sum::<usize>();
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

/// A partition's share of a fetch response: one contiguous slice, and the whole batches in it.
struct Chunk {
    bytes: Bytes,
    batches: Vec<Batch>,
}

fn chunks(all: &Bytes) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let mut rest = all.clone();
    while !rest.is_empty() {
        let (start, mut batches) = (rest.clone(), Vec::new());
        while let Ok(batch) = BatchHeader::parse(&rest)
            && start.len() - rest.len() + batch.size_bytes <= CHUNK_BYTES
            && let Ok(batch) = Batch::split_off(&mut rest)
        {
            batches.push(batch);
        }
        if batches.is_empty() {
            break;
        }
        chunks.push(Chunk { bytes: start.slice(..start.len() - rest.len()), batches });
    }
    chunks
}

fn plain(chunks: &[Chunk]) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let mut file = File::create(folder.path().join("plain"))?;
    let mut spent = 0.0;
    for chunk in chunks {
        let start = Instant::now();
        file.write_all(&chunk.bytes)?;
        spent += start.elapsed().as_secs_f64();
    }
    Ok(spent)
}

fn append(chunks: &[Chunk]) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let config = LogConfig { flush_interval: None, segment_bytes: (1 << 31) - 1, ..LogConfig::default() };
    let logs = Logs::open(folder.path(), config)?;
    let partition = logs.open_partition(&TopicPartition::new("append", 0), hawser_wire::Uuid::from_u128(1))?;
    let mut spent = 0.0;
    for chunk in chunks {
        let start = Instant::now();
        partition.append(&chunk.batches)?;
        spent += start.elapsed().as_secs_f64();
    }
    Ok(spent)
}
