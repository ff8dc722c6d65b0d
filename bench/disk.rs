//! How much of a topic lies on a destination's disk.

use anyhow::Result;
use std::path::Path;

/// Bytes of `.log` files in the partition folders of `topic`.
pub(crate) fn segment_bytes(folder: &Path, topic: &str) -> Result<u64> {
    let mut total = 0;
    let Ok(partitions) = std::fs::read_dir(folder) else { return Ok(0) };
    for partition in partitions.flatten() {
        let name = partition.file_name();
        let is_ours =
            name.to_str().and_then(|n| n.rsplit_once('-')).is_some_and(|(t, n)| t == topic && n.parse::<u32>().is_ok());
        if !is_ours {
            continue;
        }
        let Ok(files) = std::fs::read_dir(partition.path()) else { continue };
        for file in files.flatten().filter(|f| f.path().extension().is_some_and(|e| e == "log")) {
            total += file.metadata().map_or(0, |m| m.len());
        }
    }
    Ok(total)
}
