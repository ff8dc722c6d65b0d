//! Memory that the machine has at hand while a file grows.
//!
//! A virtual machine gives free memory back to its host. The first touch of a page that it has to ask for again then costs
//! several times the write into the page cache that touches it, and which candidate pays is chance. So each run begins
//! with as much touched memory as it will write, and it is let go as the file takes its place.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

const CHUNK_BYTES: usize = 16 << 20;
/// Let go before it is needed: enough for half a second at full rate.
const AHEAD_BYTES: u64 = 512 << 20;
const POLL: Duration = Duration::from_millis(50);

/// Holds what is left of the memory; a thread lets it go. All of it is gone when this is dropped.
pub(crate) struct Warm {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Warm {
    /// Touches `bytes`; `written` tells how many of them the run has written so far.
    pub(crate) fn touch(bytes: u64, written: impl Fn() -> u64 + Send + 'static) -> Self {
        let chunks = (bytes / CHUNK_BYTES as u64) as usize;
        let mut held: Vec<Vec<u8>> = (0..chunks).map(|_| vec![1; CHUNK_BYTES]).collect();
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = is_over.clone();
        let thread = spawn(move || {
            while !ends.load(Ordering::Relaxed) && !held.is_empty() {
                let needed = bytes.saturating_sub(written() + AHEAD_BYTES);
                held.truncate((needed / CHUNK_BYTES as u64) as usize);
                sleep(POLL);
            }
        });
        Self { is_over, thread: Some(thread) }
    }
}

impl Drop for Warm {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // It cannot panic.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
