//! One channel: requests of the destination through the guard to one local broker, answers back. Two loops in one
//! task, joined by a queue of what is to become of each answer; answers keep the order of their requests.
//!
//! ```text
//!  destination ──frames──► judge ──► local broker          requests loop
//!                            │ expected, in order
//!                            ▼
//!  destination ◄── stream / rewrite / own answer ◄── local broker   answers loop
//! ```
//! Either side's end ends the channel. When the local session has to be renewed (KIP-368), no further request is taken,
//! the outstanding answers are waited for, and the login is repeated between two frames.

use crate::guard::{Forbidden, Guard, Treatment, Verdict};
use crate::pass::{BUSY_BYTES, Pass};
use crate::rewrite::{Rewrite, Rewritten};
use crate::sessions;
use crate::throttle::Throttle;
use bytes::Bytes;
use hawser_link::RefusalLog;
use hawser_transport::{DialError, FrameReader, Reauthentication};
use hawser_wire::ApiKey;
use metrics::Counter;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

/// Largest request, in bytes: a first Fetch of 200,000 partitions has 10 MiB.
const REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Largest answer that is gathered to be rewritten, in bytes: Metadata of 500,000 partitions.
const REWRITE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Requests on their way at once: the destination pipelines a few; more wait in its socket.
const IN_FLIGHT_MAX: usize = 64;
/// Our own answers that wait to be sent, in bytes: some thousands of refusals. No further request is taken meanwhile. One
/// answer may be larger, and then waits alone.
const OWN_BYTES_MAX: usize = 256 * 1024;
/// Largest message of a repeated login, in bytes.
const LOGIN_BYTES_MAX: usize = 64 * 1024;
/// How long a repeated login may take.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(10);

/// What all channels of a link count.
#[derive(Debug)]
pub(crate) struct Counts {
    /// Bytes of answers.
    pub(crate) bytes: AtomicU64,
    /// Requests that were not let through.
    pub(crate) refused: AtomicU64,
    bytes_metric: Counter,
    log: Mutex<RefusalLog<Option<ApiKey>>>,
    link: Arc<str>,
}

/// Why a channel ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    #[error("the destination closed")]
    Destination,
    #[error("the local broker closed")]
    Broker,
    #[error("no request for {0:?}")]
    Idle(Duration),
    #[error("another half has taken over")]
    Retired,
    #[error("{} is not let through: {}", .0.api(), .0.reason)]
    Forbidden(Forbidden),
    #[error("destination: {0}")]
    DestinationIo(io::Error),
    #[error("local broker: {0}")]
    BrokerIo(io::Error),
    #[error("login to the local broker could not be repeated: {0}")]
    Login(DialError),
    #[error("an answer of the local broker could not be read: {0}")]
    Answer(String),
}

/// What a channel works with.
pub(crate) struct Splice {
    pub(crate) guard: Guard,
    pub(crate) throttle: Option<Arc<Throttle>>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) idle_max: Duration,
    /// Becomes true when the channel is to end between two requests.
    pub(crate) retired: watch::Receiver<bool>,
    pub(crate) reauthentication: Option<Reauthentication>,
}

/// What is to become of the next answer.
enum Expected {
    /// The broker's, treated so.
    Broker(Treatment, OwnedSemaphorePermit),
    /// Ours, with its place and its bytes.
    Own(Bytes, OwnedSemaphorePermit, OwnedSemaphorePermit),
}

/// Why the requests loop paused.
enum Pause {
    /// The login has to be repeated; nothing is outstanding.
    Login,
}

impl Counts {
    pub(crate) fn new(link: &str) -> Self {
        let bytes_metric = metrics::counter!("hawser_outbound_egress_bytes_total", "link" => link.to_owned());
        let log = Mutex::default();
        Self { bytes: AtomicU64::new(0), refused: AtomicU64::new(0), bytes_metric, log, link: link.into() }
    }

    fn sent(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.bytes_metric.increment(bytes as u64);
    }

    fn refused(&self, what: &Forbidden) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let api = what.api();
        let labels = [("link", self.link.to_string()), ("api", api.clone())];
        metrics::counter!("hawser_outbound_refused_requests_total", &labels).increment(1);
        let admitted = self.log.lock().unwrap_or_else(PoisonError::into_inner).admit(what.api, Instant::now());
        if let Some(suppressed) = admitted {
            let (link, reason) = (&self.link, &what.reason);
            tracing::warn!(%link, %api, %reason, suppressed, "request of the destination refused");
        }
    }
}

impl Splice {
    /// Runs until one side ends. Not cancel-safe in the sense that frames are cut; both streams are closed then anyway.
    pub(crate) async fn run<D, L>(mut self, destination: D, local: L) -> End
    where
        D: AsyncRead + AsyncWrite + Unpin,
        L: AsyncRead + AsyncWrite + Unpin,
    {
        let (mut from_destination, mut to_destination) = tokio::io::split(destination);
        let (mut from_local, mut to_local) = tokio::io::split(local);
        let mut frames = FrameReader::accepted(REQUEST_BYTES_MAX);
        let mut pass = Pass::new();
        loop {
            let (expect, mut expected) = mpsc::channel(IN_FLIGHT_MAX);
            let paused = tokio::select! {
                paused = self.requests(&mut frames, &mut from_destination, &mut to_local, expect) => paused,
                end = self.answers(&mut expected, &mut pass, &mut from_local, &mut to_destination) => Err(end),
            };
            match paused {
                Err(end) => {
                    // Say goodbye to TLS peers, but wait for nobody.
                    let _ = tokio::time::timeout(Duration::from_millis(200), to_destination.shutdown()).await;
                    return end;
                }
                Ok(Pause::Login) => {}
            }
            let Some(login) = &mut self.reauthentication else { continue };
            let mut reader = FrameReader::dialled(LOGIN_BYTES_MAX);
            let renewed = login.perform(&mut reader, &mut from_local, &mut to_local);
            match tokio::time::timeout(LOGIN_TIMEOUT, renewed).await {
                Ok(Ok(())) if reader.is_empty() && pass.is_empty() => {}
                Ok(Ok(())) => return End::Answer("bytes that nobody asked for".to_owned()),
                Ok(Err(error)) => return End::Login(error),
                Err(_) => return End::BrokerIo(io::ErrorKind::TimedOut.into()),
            }
        }
    }

    /// Takes requests until the login has to be repeated (then nothing is outstanding), or the channel ends.
    async fn requests<R, W>(
        &self,
        frames: &mut FrameReader,
        from: &mut R,
        to: &mut W,
        expect: mpsc::Sender<Expected>,
    ) -> Result<Pause, End>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let in_flight = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
        let own_bytes = Arc::new(Semaphore::new(OWN_BYTES_MAX));
        let login_due = self.reauthentication.as_ref().map(Reauthentication::due);
        let mut retired = self.retired.clone();
        let all = u32::try_from(IN_FLIGHT_MAX).unwrap_or(u32::MAX);
        loop {
            let frame = tokio::select! {
                biased;
                () = until(login_due) => {
                    let _drained = in_flight.acquire_many(all).await;
                    return Ok(Pause::Login);
                }
                // Without a sender there is no half any more, and the channel ends with it.
                () = is_true(&mut retired) => {
                    let _drained = in_flight.acquire_many(all).await;
                    return Err(End::Retired);
                }
                frame = tokio::time::timeout(self.idle_max, frames.frame(from)) => match frame {
                    // An answer that takes long is no idleness.
                    Err(_) if in_flight.available_permits() < IN_FLIGHT_MAX => continue,
                    Err(_) => return Err(End::Idle(self.idle_max)),
                    Ok(Ok(Some(frame))) => frame,
                    Ok(Ok(None)) => return Err(End::Destination),
                    Ok(Err(error)) => return Err(End::DestinationIo(error.into())),
                },
            };
            let Ok(permit) = Arc::clone(&in_flight).acquire_owned().await else { return Err(End::Destination) };
            let verdict = self.guard.judge(frame);
            if let Verdict::PassPart(_, _, why) = &verdict {
                self.counts.refused(why);
            }
            match verdict {
                Verdict::Pass(frame, treatment) | Verdict::PassPart(frame, treatment, _) => {
                    // Expected before it is asked: an answer never finds the queue without it.
                    let _ = expect.send(Expected::Broker(treatment, permit)).await;
                    to.write_all(&frame).await.map_err(End::BrokerIo)?;
                    to.flush().await.map_err(End::BrokerIo)?;
                }
                Verdict::Answer(answer, why) => {
                    self.counts.refused(&why);
                    let bytes = u32::try_from(answer.len().min(OWN_BYTES_MAX)).unwrap_or(u32::MAX);
                    let room = Arc::clone(&own_bytes).acquire_many_owned(bytes).await;
                    let Ok(room) = room else { return Err(End::Destination) };
                    let _ = expect.send(Expected::Own(answer, permit, room)).await;
                }
                Verdict::Close(why) => {
                    self.counts.refused(&why);
                    return Err(End::Forbidden(why));
                }
            }
        }
    }

    /// Passes answers on until the channel ends.
    async fn answers<R, W>(
        &self,
        expected: &mut mpsc::Receiver<Expected>,
        pass: &mut Pass,
        from: &mut R,
        to: &mut W,
    ) -> End
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            let next = tokio::select! {
                biased;
                next = expected.recv() => next,
                read = pass.fill(from), if pass.is_empty() => match read {
                    Ok(0) => return End::Broker,
                    Err(error) => return End::BrokerIo(error),
                    // Asked for in the meantime, or nobody did.
                    Ok(_) => match expected.try_recv() {
                        Ok(next) => Some(next),
                        Err(_) => return End::Answer("bytes that nobody asked for".to_owned()),
                    },
                },
            };
            let done = match next {
                // The requests loop has ended and says why.
                None => std::future::pending().await,
                Some(Expected::Own(answer, _permit, _bytes)) => self.send(&answer, to).await,
                Some(Expected::Broker(Treatment::Stream, _permit)) => self.stream(pass, from, to).await,
                Some(Expected::Broker(Treatment::Fetch { version }, _permit)) => {
                    self.fetch(version, pass, from, to).await
                }
                Some(Expected::Broker(Treatment::Rewrite(rewrite), _permit)) => {
                    self.rewrite(&rewrite, pass, from, to).await
                }
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    async fn stream<R, W>(&self, pass: &mut Pass, from: &mut R, to: &mut W) -> Result<(), End>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let Some(length) = pass.frame_bytes(from).await.map_err(End::BrokerIo)? else { return Err(End::Broker) };
        pass.fit(length);
        let mut left = length.saturating_add(4);
        while left > 0 {
            let chunk = pass.chunk(from, left).await.map_err(End::BrokerIo)?;
            debug_assert!(chunk.len() <= BUSY_BYTES);
            left -= chunk.len();
            self.pay(chunk.len()).await;
            to.write_all(chunk).await.map_err(End::DestinationIo)?;
        }
        to.flush().await.map_err(End::DestinationIo)
    }

    /// Streams the answer to a fetch. Its session is known before the destination can have read of it.
    async fn fetch<R, W>(&self, version: i16, pass: &mut Pass, from: &mut R, to: &mut W) -> Result<(), End>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let Some(length) = pass.frame_bytes(from).await.map_err(End::BrokerIo)? else { return Err(End::Broker) };
        let start = sessions::start_bytes(version).min(length.saturating_add(4));
        let start = pass.peek(from, start).await.map_err(End::BrokerIo)?;
        self.guard.sessions().learn(version, start);
        self.stream(pass, from, to).await
    }

    async fn rewrite<R, W>(&self, rewrite: &Rewrite, pass: &mut Pass, from: &mut R, to: &mut W) -> Result<(), End>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let gathered = pass.gather(from, REWRITE_BYTES_MAX).await.map_err(End::BrokerIo)?;
        let Some(frame) = gathered else { return Err(End::Broker) };
        let Rewritten { frame, forbidden } =
            rewrite.apply(frame.into()).map_err(|error| End::Answer(error.to_string()))?;
        if let Some(why) = &forbidden {
            self.counts.refused(why);
        }
        self.send(&frame, to).await
    }

    async fn send<W: AsyncWrite + Unpin>(&self, frame: &[u8], to: &mut W) -> Result<(), End> {
        self.pay(frame.len()).await;
        to.write_all(frame).await.map_err(End::DestinationIo)?;
        to.flush().await.map_err(End::DestinationIo)
    }

    /// Counts bytes that leave, and waits as long as the rate limit says.
    async fn pay(&self, bytes: usize) {
        self.counts.sent(bytes);
        if let Some(throttle) = &self.throttle {
            let wait = throttle.take(bytes, Instant::now());
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
        }
    }
}

async fn is_true(told: &mut watch::Receiver<bool>) {
    drop(told.wait_for(|is_true| *is_true).await);
}

async fn until(due: Option<tokio::time::Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
