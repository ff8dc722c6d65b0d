//! The task behind a [`KafkaClient`](super::KafkaClient): one connection, its queue of calls and its answers.
//!
//! Deadlines never fall from one call in flight to the next (answers come in order, so none can be late before the
//! one ahead of it), which is why one timer, armed for the oldest, is enough.
//!
//! A deadline is for the answer's beginning: while at least [`ANSWER_BYTES_MIN`] of it come in each further time-out, the
//! calls wait on. A line that brings an answer too slowly would otherwise be asked for the same again for ever. (Kafka's
//! `NetworkClient` gives such a call up; its brokers are near.) Frames are bounded, so a peer that dribbles is, too.

use super::{ClientError, ClientOptions, closed_by};
use crate::frames::FrameReader;
use crate::sasl::{Login, Next, Reauthentication};
use crate::stream::Stream;
use bytes::{Buf, Bytes};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::AsyncWrite;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, Sleep, sleep_until};

/// Requests on the wire without an answer. A broker works on one at a time, so more would only wait there.
pub(super) const IN_FLIGHT_MAX: usize = 64;
/// Bytes of an answer that is late which must come in each time-out for it to be waited for. At the slowest configurable
/// `hawser.egress.bytes.per.second` (1 KiB) thirty channels share a line that still does this in the default 30 s.
pub(super) const ANSWER_BYTES_MIN: usize = 1024;
/// Frames that are written with one system call.
const WRITE_SLICES: usize = 16;

/// A request and who waits for its answer.
pub(super) struct Call {
    pub(super) api: &'static str,
    pub(super) id: i32,
    pub(super) frame: Bytes,
    pub(super) after: Duration,
    pub(super) deadline: Instant,
    pub(super) answer: oneshot::Sender<Result<Bytes, ClientError>>,
}

struct Pending {
    api: &'static str,
    id: i32,
    after: Duration,
    deadline: Instant,
    /// `None`: a step of our own repeated login.
    answer: Option<oneshot::Sender<Result<Bytes, ClientError>>>,
}

pub(super) struct Driver {
    stream: Stream,
    frames: FrameReader,
    queue: mpsc::Receiver<Call>,
    closing: watch::Sender<Option<ClientError>>,
    pending: VecDeque<Pending>,
    unsent: VecDeque<Bytes>,
    flushed: bool,
    timer: Pin<Box<Sleep>>,
    armed: bool,
    /// Bytes of the answer at hand that had come when it was given more time.
    late_bytes: usize,
    timeout: Duration,
    /// `connections.max.idle.ms`, and when it is looked at next.
    idle: Option<(Duration, Pin<Box<Sleep>>)>,
    /// When the last request was taken or the last answer came.
    used_at: Instant,
    reauthentication: Option<Reauthentication>,
    /// Under way: calls wait until it is over.
    login: Option<Login>,
    /// The call that set it off.
    held: Option<Call>,
}

impl Driver {
    pub(super) fn new(
        mut stream: Stream,
        frames: FrameReader,
        queue: mpsc::Receiver<Call>,
        closing: watch::Sender<Option<ClientError>>,
        options: &ClientOptions,
    ) -> Self {
        let reauthentication = stream.take_reauthentication();
        Self {
            stream,
            frames,
            queue,
            closing,
            pending: VecDeque::new(),
            unsent: VecDeque::new(),
            flushed: true,
            timer: Box::pin(sleep_until(Instant::now())),
            armed: false,
            late_bytes: 0,
            timeout: options.request_timeout,
            idle: options.idle_max.map(|most| (most, Box::pin(sleep_until(Instant::now() + most)))),
            used_at: Instant::now(),
            reauthentication,
            login: None,
            held: None,
        }
    }

    /// Runs until the connection or its last user is gone, or it is given up; then tells everybody who still waits.
    pub(super) async fn run(mut self, given_up: impl Future<Output = String>) {
        let why = tokio::select! {
            why = poll_fn(|cx| self.poll(cx)) => why,
            reason = given_up => ClientError::Closed(reason),
        };
        let others = ClientError::Closed(match &why {
            ClientError::Closed(reason) => reason.clone(),
            other => other.to_string(),
        });
        self.closing.send_replace(Some(why.clone()));
        self.queue.close();
        let mut first = Some(why);
        for answer in self.pending.drain(..).filter_map(|p| p.answer) {
            // The oldest call is the one that the error is about.
            let _ = answer.send(Err(first.take().unwrap_or_else(|| others.clone())));
        }
        let queued = std::iter::from_fn(|| self.queue.try_recv().ok());
        for call in self.held.into_iter().chain(queued) {
            let _ = call.answer.send(Err(others.clone()));
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ClientError> {
        match self.drive(cx) {
            Ok(()) => Poll::Pending,
            Err(why) => Poll::Ready(why),
        }
    }

    /// Does all there is to do; every source has promised to wake us when it returns.
    fn drive(&mut self, cx: &mut Context<'_>) -> Result<(), ClientError> {
        while let Poll::Ready(frame) = self.frames.poll_frame(cx, &mut self.stream) {
            match frame {
                Ok(Some(frame)) => self.deliver(frame)?,
                Ok(None) => return Err(ClientError::Closed("the peer closed it".to_owned())),
                Err(e) => return Err(closed_by(e)),
            }
        }
        loop {
            // Then the queue is not asked, and has not promised to wake us.
            let was_full = self.unsent.len() >= WRITE_SLICES;
            let took = self.take_calls(cx)?;
            let wrote = self.write(cx).map_err(|e| closed_by(e.into()))?;
            if !(took || was_full) || !wrote {
                break;
            }
        }
        self.watch_deadline(cx)?;
        self.watch_idleness(cx)
    }

    /// Takes calls while there is room; `false` when there is no more to take now.
    fn take_calls(&mut self, cx: &mut Context<'_>) -> Result<bool, ClientError> {
        let mut took = false;
        while self.login.is_none() && self.pending.len() < IN_FLIGHT_MAX && self.unsent.len() < WRITE_SLICES {
            let next = match self.held.take() {
                Some(held) => Poll::Ready(Some(held)),
                None => self.queue.poll_recv(cx),
            };
            match next {
                // KIP-368: a client logs in again when it is about to send, not while idle.
                Poll::Ready(Some(call))
                    if self.reauthentication.as_ref().is_some_and(|r| r.due() <= Instant::now()) =>
                {
                    self.held = Some(call);
                    self.begin_login()?;
                }
                Poll::Ready(Some(call)) => {
                    let Call { api, id, frame, after, deadline, answer } = call;
                    self.push(Pending { api, id, after, deadline, answer: Some(answer) }, frame);
                    took = true;
                }
                Poll::Ready(None) => return Err(ClientError::Closed("given up by this side".to_owned())),
                Poll::Pending => break,
            }
        }
        Ok(took)
    }

    fn push(&mut self, mut pending: Pending, frame: Bytes) {
        self.used_at = Instant::now();
        if let Some(ahead) = self.pending.back() {
            pending.deadline = pending.deadline.max(ahead.deadline);
        }
        self.pending.push_back(pending);
        self.unsent.push_back(frame);
    }

    fn deliver(&mut self, frame: Bytes) -> Result<(), ClientError> {
        let Some(pending) = self.pending.pop_front() else {
            return Err(ClientError::Closed("the peer answered without being asked".to_owned()));
        };
        self.late_bytes = 0;
        self.used_at = Instant::now();
        let id = frame.first_chunk::<4>().map(|b| i32::from_be_bytes(*b));
        if id != Some(pending.id) {
            let reason = format!("the answer to {} {} carries the correlation id {id:?}", pending.api, pending.id);
            self.pending.push_front(pending);
            return Err(ClientError::Closed(reason));
        }
        match pending.answer {
            // A caller that went away: its answer is dropped here.
            Some(answer) => drop(answer.send(Ok(frame))),
            None => self.continue_login(frame)?,
        }
        Ok(())
    }

    /// Writes what is unsent; `true` when everything went out.
    fn write(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        while !self.unsent.is_empty() {
            let mut slices = [IoSlice::new(&[]); WRITE_SLICES];
            for (slice, frame) in slices.iter_mut().zip(&self.unsent) {
                *slice = IoSlice::new(frame);
            }
            let count = self.unsent.len().min(WRITE_SLICES);
            let slices = slices.get(..count).unwrap_or_default();
            self.flushed = false;
            match Pin::new(&mut self.stream).poll_write_vectored(cx, slices)? {
                Poll::Pending => return Ok(false),
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(n) => self.sent(n),
            }
        }
        if !self.flushed {
            match Pin::new(&mut self.stream).poll_flush(cx)? {
                Poll::Pending => return Ok(false),
                Poll::Ready(()) => self.flushed = true,
            }
        }
        Ok(true)
    }

    fn sent(&mut self, mut n: usize) {
        while let Some(front) = self.unsent.front_mut() {
            if n < front.len() {
                front.advance(n);
                return;
            }
            n -= front.len();
            self.unsent.pop_front();
        }
    }

    fn watch_deadline(&mut self, cx: &mut Context<'_>) -> Result<(), ClientError> {
        while let Some(oldest) = self.pending.front() {
            if !self.armed {
                // A timer that fires for a call long answered costs less than one moved for every call.
                self.timer.as_mut().reset(oldest.deadline);
                self.armed = true;
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
            self.armed = false;
            let now = Instant::now();
            if oldest.deadline <= now {
                let begun = self.frames.begun_bytes();
                if begun < self.late_bytes + ANSWER_BYTES_MIN {
                    return Err(ClientError::Timeout { api: oldest.api, after: oldest.after });
                }
                self.late_bytes = begun;
                let deadline = now + self.timeout;
                for pending in &mut self.pending {
                    pending.deadline = pending.deadline.max(deadline);
                }
            }
        }
        Ok(())
    }

    /// A call that comes just now is answered with the end of the connection, as when the peer closes it.
    fn watch_idleness(&mut self, cx: &mut Context<'_>) -> Result<(), ClientError> {
        let Some((most, timer)) = &mut self.idle else { return Ok(()) };
        while self.pending.is_empty() && timer.as_mut().poll(cx).is_ready() {
            let until = self.used_at + *most;
            if until <= Instant::now() {
                return Err(ClientError::Closed(format!("it was idle for {most:?} (connections.max.idle.ms)")));
            }
            timer.as_mut().reset(until);
        }
        Ok(())
    }

    fn begin_login(&mut self) -> Result<(), ClientError> {
        let Some(reauthentication) = &self.reauthentication else { return Ok(()) };
        let (login, frame) =
            reauthentication.begin(LOGIN_ID).map_err(|e| ClientError::Reauthentication(e.to_string()))?;
        self.login = Some(login);
        self.push_login(frame);
        Ok(())
    }

    fn continue_login(&mut self, frame: Bytes) -> Result<(), ClientError> {
        let (Some(login), Some(reauthentication)) = (&mut self.login, &mut self.reauthentication) else {
            return Err(ClientError::Closed("an answer to a login that is over".to_owned()));
        };
        match login.on_response(frame, LOGIN_ID).map_err(|e| ClientError::Reauthentication(e.to_string()))? {
            Next::Send(frame) => self.push_login(frame),
            Next::Done(lifetime) => {
                self.login = None;
                match lifetime {
                    Some(lifetime) => reauthentication.renew(lifetime),
                    None => self.reauthentication = None,
                }
            }
        }
        Ok(())
    }

    fn push_login(&mut self, frame: Bytes) {
        let (after, deadline) = (self.timeout, Instant::now() + self.timeout);
        self.push(Pending { api: "SaslAuthenticate", id: LOGIN_ID, after, deadline, answer: None }, frame);
    }
}

/// Correlation id of login frames: never a call's.
const LOGIN_ID: i32 = 0;
