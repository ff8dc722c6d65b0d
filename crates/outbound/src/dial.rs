//! Dials the destination and opens a link on the connection: what a control connection and a channel have in common.

use bytes::Bytes;
use hawser_link::reversal::{LinkOpen, OpenAnswer};
use hawser_transport::Stream;
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Largest answer to a `LinkOpen`, in bytes.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// Of the one request before the roles flip.
const CORRELATION_ID: i32 = 1;

/// Sends `LinkOpen` and reads its answer. Reads nothing beyond it.
pub(crate) async fn open_link(stream: &mut Stream, open: &LinkOpen) -> io::Result<OpenAnswer> {
    stream.write_all(&open.encode(CORRELATION_ID, "hawser-source")).await?;
    stream.flush().await?;
    let frame = read_frame(stream, ANSWER_BYTES_MAX).await?;
    let Some((correlation_id, body)) = frame.split_first_chunk::<4>() else {
        return Err(invalid("the answer to LinkOpen is cut"));
    };
    if i32::from_be_bytes(*correlation_id) != CORRELATION_ID {
        return Err(invalid("the answer to LinkOpen belongs to another request"));
    }
    OpenAnswer::decode(body).map_err(|error| invalid(&format!("the answer to LinkOpen cannot be read: {error}")))
}

/// Reads one small frame byte for byte, so that what follows stays in the stream.
async fn read_frame(stream: &mut Stream, bytes_max: usize) -> io::Result<Bytes> {
    let length = usize::try_from(stream.read_i32().await?).ok().filter(|length| *length <= bytes_max);
    let length = length.ok_or_else(|| invalid("the answer to LinkOpen is no frame of this protocol"))?;
    let mut frame = vec![0; length];
    stream.read_exact(&mut frame).await?;
    Ok(frame.into())
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
