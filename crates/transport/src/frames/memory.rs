//! The memory that frames of others take, over all connections of the process: what is still being read, and what was
//! read and is not dropped yet. A limit a connection is none when there are ten thousand.
//!
//! A frame is charged for what it really holds, as it grows. One that finds no room waits, and its peer with it. That
//! could end in frames that all wait for each other; so one at a time may go beyond the budget, up to its own length.

use bytes::{Bytes, BytesMut};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// All such frames together, in bytes: four times what the broker lets its requests be (`request_memory_bytes`), as many
/// are held by requests that wait. With the one that may go beyond it, `socket.request.max.bytes` more.
pub const FRAMES_BYTES_MAX: usize = 256 * 1024 * 1024;
/// What is counted: a semaphore counts at most 2^29 on 32 bits.
const UNIT: usize = 1024;

static OF_PROCESS: LazyLock<Arc<FrameMemory>> = LazyLock::new(|| Arc::new(FrameMemory::new(FRAMES_BYTES_MAX)));

/// A budget for frames.
#[derive(Debug)]
pub(super) struct FrameMemory {
    units: Arc<Semaphore>,
    /// For the one frame that may go beyond.
    lane: Arc<Semaphore>,
}

/// What one frame has been granted.
pub(super) struct Charge {
    memory: Arc<FrameMemory>,
    held: Option<OwnedSemaphorePermit>,
    /// Holds the lane: everything is granted.
    lane: Option<OwnedSemaphorePermit>,
    waits_for: Option<Pin<Box<dyn Future<Output = Granted> + Send + Sync>>>,
}

/// Permits of the one semaphore or the other. Neither is ever closed, hence never `None` in fact.
enum Granted {
    Units(Option<OwnedSemaphorePermit>),
    Lane(Option<OwnedSemaphorePermit>),
}

impl FrameMemory {
    pub(super) fn new(bytes: usize) -> Self {
        let units = (bytes / UNIT).clamp(1, Semaphore::MAX_PERMITS);
        Self { units: Arc::new(Semaphore::new(units)), lane: Arc::new(Semaphore::new(1)) }
    }

    /// The one that all connections share.
    pub(super) fn of_process() -> Arc<Self> {
        Arc::clone(&OF_PROCESS)
    }

    pub(super) fn charge(self: Arc<Self>) -> Charge {
        Charge { memory: self, held: None, lane: None, waits_for: None }
    }

    #[cfg(test)]
    pub(super) fn left_bytes(&self) -> usize {
        self.units.available_permits() * UNIT
    }
}

impl Charge {
    /// What it holds of the budget, in bytes; all of them while it may go beyond.
    pub(super) fn bytes(&self) -> usize {
        match &self.lane {
            Some(_) => usize::MAX,
            None => self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits) * UNIT,
        }
    }

    /// Whether it waits for others to give room.
    pub(super) fn is_waiting(&self) -> bool {
        self.waits_for.is_some()
    }

    /// Ready once `bytes`, all in all, are granted. To be polled with the same or a greater figure until then.
    pub(super) fn poll_raise(&mut self, cx: &mut Context<'_>, bytes: usize) -> Poll<()> {
        loop {
            let held = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
            let more = bytes.div_ceil(UNIT).saturating_sub(held);
            if more == 0 || self.lane.is_some() {
                return Poll::Ready(());
            }
            let more = u32::try_from(more).unwrap_or(u32::MAX);
            let granted = match &mut self.waits_for {
                Some(grant) => {
                    let granted = ready!(grant.as_mut().poll(cx));
                    self.waits_for = None;
                    granted
                }
                None => match Arc::clone(&self.memory.units).try_acquire_many_owned(more) {
                    Ok(units) => Granted::Units(Some(units)),
                    Err(_) => {
                        metrics::counter!("hawser_frame_memory_waits_total").increment(1);
                        self.waits_for = Some(Box::pin(grant(Arc::clone(&self.memory), more)));
                        continue;
                    }
                },
            };
            match (granted, &mut self.held) {
                (Granted::Lane(lane), _) => self.lane = lane,
                (Granted::Units(Some(units)), Some(held)) => held.merge(units),
                (Granted::Units(units), held) => *held = units,
            }
        }
    }

    /// `frame` as bytes that give the charge back with the last of them.
    pub(super) fn pay_for(mut self, frame: BytesMut) -> Bytes {
        self.waits_for = None;
        Bytes::from_owner(Paid { bytes: frame.freeze(), _charge: self })
    }
}

async fn grant(memory: Arc<FrameMemory>, units: u32) -> Granted {
    tokio::select! {
        biased;
        granted = Arc::clone(&memory.units).acquire_many_owned(units) => Granted::Units(granted.ok()),
        granted = Arc::clone(&memory.lane).acquire_owned() => Granted::Lane(granted.ok()),
    }
}

/// A frame with what it was granted.
struct Paid {
    bytes: Bytes,
    _charge: Charge,
}

impl AsRef<[u8]> for Paid {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for Charge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        f.debug_struct("Charge").field("units", &units).field("beyond", &self.lane.is_some()).finish_non_exhaustive()
    }
}
