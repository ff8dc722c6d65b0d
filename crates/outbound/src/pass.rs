//! Streams answers from the local broker to the destination, frame by frame, without ever gathering one.
//!
//! Bytes and copies: one read of up to [`BUSY_BYTES`] from the local socket, one write of the same buffer into the
//! destination's stream (TLS encrypts out of it). Frame borders are found by walking over the buffer; nothing is moved
//! but the few bytes of a length prefix that was cut. Buffers grow with the answers and shrink when they are small again.

use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Buffer of a busy channel, in bytes: 16 TLS records. What one channel holds at most.
pub(crate) const BUSY_BYTES: usize = 256 * 1024;
/// Buffer of an idle channel, in bytes.
const IDLE_BYTES: usize = 8 * 1024;
/// Length prefix, in bytes.
const PREFIX: usize = 4;

/// Reads answers off a broker's stream, and passes them on.
#[derive(Debug)]
pub(crate) struct Pass {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Pass {
    pub(crate) fn new() -> Self {
        Self { buffer: vec![0; IDLE_BYTES], start: 0, end: 0 }
    }

    /// Whether nothing has been read ahead.
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Reads some bytes; 0 at the end of the stream. Cancel-safe.
    pub(crate) async fn fill<R: AsyncRead + Unpin>(&mut self, from: &mut R) -> io::Result<usize> {
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let room = self.buffer.get_mut(self.end..).unwrap_or_default();
        let read = from.read(room).await?;
        self.end += read;
        Ok(read)
    }

    /// Length of the next frame, without its prefix; `None` at the end of the stream. Consumes nothing.
    pub(crate) async fn frame_bytes<R: AsyncRead + Unpin>(&mut self, from: &mut R) -> io::Result<Option<usize>> {
        loop {
            if let Some(prefix) = self.unread().first_chunk::<PREFIX>() {
                let length = usize::try_from(i32::from_be_bytes(*prefix));
                return length.map(Some).map_err(|_| invalid("the broker's answer has a negative length"));
            }
            let was_empty = self.is_empty();
            if self.fill(from).await? == 0 {
                let cut = io::Error::new(io::ErrorKind::UnexpectedEof, "the broker closed inside a length");
                return if was_empty { Ok(None) } else { Err(cut) };
            }
        }
    }

    /// The next `bytes` bytes (far fewer than [`IDLE_BYTES`]), which stay unread.
    pub(crate) async fn peek<R: AsyncRead + Unpin>(&mut self, from: &mut R, bytes: usize) -> io::Result<&[u8]> {
        while self.unread().len() < bytes {
            if self.fill(from).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the broker closed inside an answer"));
            }
        }
        Ok(self.unread().get(..bytes).unwrap_or_default())
    }

    /// Takes what is there of the next `left` bytes, reading if there is nothing.
    pub(crate) async fn chunk<R: AsyncRead + Unpin>(&mut self, from: &mut R, left: usize) -> io::Result<&[u8]> {
        if self.is_empty() && self.fill(from).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the broker closed inside an answer"));
        }
        let chunk = self.start..self.end.min(self.start + left);
        self.start = chunk.end;
        Ok(self.buffer.get(chunk).unwrap_or_default())
    }

    /// Makes the buffer fit answers of `frame` bytes. Only between chunks: nothing read ahead is lost.
    pub(crate) fn fit(&mut self, frame: usize) {
        let wanted = frame.saturating_add(PREFIX).clamp(IDLE_BYTES, BUSY_BYTES);
        if wanted > self.buffer.len() {
            self.buffer.resize(wanted.next_power_of_two(), 0);
        } else if wanted == IDLE_BYTES && self.buffer.len() > IDLE_BYTES && self.is_empty() {
            (self.start, self.end) = (0, 0);
            self.buffer = vec![0; IDLE_BYTES];
        }
    }

    /// Gathers the next frame, without its prefix.
    pub(crate) async fn gather<R: AsyncRead + Unpin>(
        &mut self,
        from: &mut R,
        bytes_max: usize,
    ) -> io::Result<Option<Vec<u8>>> {
        let Some(length) = self.frame_bytes(from).await? else { return Ok(None) };
        if length > bytes_max {
            return Err(invalid("an answer that has to be rewritten is too large"));
        }
        self.fit(length);
        self.start += PREFIX;
        let mut frame = Vec::new();
        while frame.len() < length {
            let left = length - frame.len();
            frame.extend_from_slice(self.chunk(from, left).await?);
        }
        Ok(Some(frame))
    }

    fn unread(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
