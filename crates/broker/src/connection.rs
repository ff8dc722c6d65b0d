//! One connection: a frame in, its answer out, in order. While a request waits (a long poll, a group's rebalance), the
//! next frame is read ahead, so that a peer that hangs up is noticed; no more than one is.

use crate::dispatch::{Caller, Hangup, Reply};
use crate::{Broker, fetch};
use bytes::Bytes;
use hawser_transport::{HostPort, ServerConnection};
use hawser_wire::RequestFrame;
use hawser_wire::api::private;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// How long the request at hand may still take once the daemon stops; long polls end earlier by themselves.
const STOP_GRACE: Duration = Duration::from_millis(500);
/// Most bytes handed to the socket at a time: records are cut where they are larger. A peer that does not take this much
/// within [`WRITE_TIMEOUT`] (17 kB/s) would hold the memory of its answer for too long.
const PIECE_BYTES: usize = 1 << 20;
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// A charged answer holds up other large requests, so its peer has this long for the whole of it.
const CHARGED_WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// Ids, a name and a nonce; it is decoded outside the budget of requests, because it has no answer to end its charge.
const LINK_OPEN_BYTES_MAX: usize = 16 * 1024;

pub(crate) async fn serve(
    broker: &Arc<Broker>,
    mut connection: ServerConnection,
    advertised: Arc<HostPort>,
    shutdown: CancellationToken,
) {
    let _counted = Counted::new();
    let caller = Caller { principal: connection.principal().clone(), peer: connection.peer(), advertised };
    let outcome = loop {
        let frame = match next(&mut connection, &shutdown).await {
            Ok(Some(frame)) => frame,
            Ok(None) => break Ok(()),
            Err(hangup) => break Err(hangup),
        };
        let frame = match RequestFrame::parse(frame) {
            Ok(frame) => frame,
            Err(error) => break Err(Hangup::Decode(error)),
        };
        if frame.api_key == private::LINK_OPEN {
            if frame.body.len() > LINK_OPEN_BYTES_MAX {
                break Err(Hangup::LinkOpenTooLarge(frame.body.len()));
            }
            // Nothing is read ahead here: the reversed stream begins right behind this frame.
            broker.private.link_open(frame, connection).await;
            return;
        }
        let reply = match handle(broker, &caller, frame, &mut connection, &shutdown).await {
            Ok(Some(reply)) => reply,
            Ok(None) => break Ok(()),
            Err(hangup) => break Err(hangup),
        };
        if let Err(hangup) = write(&mut connection, reply).await {
            break Err(hangup);
        }
    };
    let (peer, principal) = (caller.peer, caller.principal.as_str());
    match outcome {
        Ok(()) => debug!(%peer, principal, "connection closed"),
        Err(Hangup::Io(error)) => debug!(%peer, principal, %error, "connection lost"),
        Err(hangup) => {
            metrics::counter!("hawser_broken_connections_total").increment(1);
            warn!(%peer, principal, reason = %hangup, "connection closed by us");
        }
    }
}

/// The next frame, or `None` when the peer left, was idle for too long, or the daemon stops.
async fn next(connection: &mut ServerConnection, shutdown: &CancellationToken) -> Result<Option<Bytes>, Hangup> {
    tokio::select! {
        biased;
        () = shutdown.cancelled() => Ok(None),
        frame = connection.next_frame() => Ok(frame?),
    }
}

/// Handles `frame` while reading at most one more ahead, which is looked at only after the answer: it may be a repeated
/// login, whose answer comes behind. `None` when the peer left meanwhile.
async fn handle(
    broker: &Arc<Broker>,
    caller: &Caller,
    frame: RequestFrame,
    connection: &mut ServerConnection,
    shutdown: &CancellationToken,
) -> Result<Option<Reply>, Hangup> {
    // Boxed, so that an idle connection does not keep room for the largest of all handlers.
    let mut is_ahead = false;
    let mut handling = Box::pin(broker.handle(caller, frame, shutdown));
    loop {
        tokio::select! {
            biased;
            reply = &mut handling => return reply.map(Some),
            () = shutdown.cancelled() => {
                return timeout(STOP_GRACE, handling).await.map_or(Ok(None), |reply| reply.map(Some));
            }
            read = connection.read_ahead(), if !is_ahead => match read? {
                true => is_ahead = true,
                false => return Ok(None),
            },
        }
    }
}

/// Lets go of what is written as it goes: records hold memory that others wait for.
async fn write(connection: &mut ServerConnection, reply: Reply) -> Result<(), Hangup> {
    let Reply { slices, memory, charge } = reply;
    let bytes = fetch::total_bytes(&slices);
    let deadline = charge.is_some().then(|| Instant::now() + CHARGED_WRITE_TIMEOUT);
    let mut rest = VecDeque::from(slices);
    while !rest.is_empty() {
        let piece = cut(&mut rest, PIECE_BYTES);
        let until = Instant::now() + WRITE_TIMEOUT;
        let until = deadline.map_or(until, |deadline| deadline.min(until));
        timeout_at(until, connection.write(&piece)).await.map_err(|_| Hangup::TooSlow)??;
    }
    metrics::counter!("hawser_response_bytes_total").increment(bytes as u64);
    drop((memory, charge));
    Ok(())
}

/// The first `bytes_max` bytes of `slices`, or all that there are. Copies nothing.
fn cut(slices: &mut VecDeque<Bytes>, bytes_max: usize) -> Vec<Bytes> {
    let mut piece = Vec::new();
    let mut room = bytes_max;
    while room > 0
        && let Some(mut slice) = slices.pop_front()
    {
        let later = slice.split_off(slice.len().min(room));
        room -= slice.len();
        piece.push(slice);
        if !later.is_empty() {
            slices.push_front(later);
        }
    }
    piece
}

/// Counts the connection for as long as it is served.
struct Counted;

impl Counted {
    fn new() -> Self {
        metrics::gauge!("hawser_connections").increment(1.0);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::gauge!("hawser_connections").decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_cut_where_a_piece_is_full() {
        let slices = [&b"head"[..], b"0123456789", b"", b"tail"].map(Bytes::from_static);
        let records = slices[1].as_ptr();
        let mut rest = VecDeque::from(slices);
        let pieces: Vec<_> = std::iter::from_fn(|| (!rest.is_empty()).then(|| cut(&mut rest, 6))).collect();
        assert_eq!(
            pieces.iter().map(|piece| piece.concat()).collect::<Vec<_>>(),
            [&b"head01"[..], b"234567", b"89tail"]
        );
        assert_eq!(pieces[0][1].as_ptr(), records, "copied");
        assert_eq!(cut(&mut VecDeque::from([Bytes::new()]), 6), [Bytes::new()], "an empty answer ends too");
    }
}
