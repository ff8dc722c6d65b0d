//! Frames: a 32-bit length and as many bytes. Pure; `transport` reads the sockets.

/// Bytes of the length in front of every frame.
pub const PREFIX_BYTES: usize = 4;

/// What the bytes at hand say about the frame at their front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    /// Fewer than [`PREFIX_BYTES`]: this many more say how long the frame is.
    NeedPrefix(usize),
    /// The frame has `frame_bytes` (prefix not counted), of which `missing` are not there yet.
    NeedBody {
        /// Length of the frame without its prefix.
        frame_bytes: usize,
        /// Bytes still to come.
        missing: usize,
    },
    /// A whole frame of this many bytes stands behind the prefix.
    Whole(usize),
}

/// Why a length prefix ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// More than the reader takes (`socket.request.max.bytes` for requests).
    #[error("frame of {frame_bytes} bytes exceeds the limit of {bytes_max}")]
    TooLarge {
        /// What the prefix says.
        frame_bytes: usize,
        /// What is allowed.
        bytes_max: usize,
    },
    /// The length is negative. A TLS record on a plain port is not: it shows as `TooLarge`.
    #[error("frame length {0} is negative")]
    Negative(i32),
}

/// Looks at what is buffered, without taking anything. A reader may reserve `missing` bytes only as they come: the
/// length is the peer's word, bounded by `bytes_max` alone.
///
/// # Errors
/// The connection must be closed: its framing is lost.
pub fn scan(buffered: &[u8], bytes_max: usize) -> Result<Scan, FrameError> {
    let Some((prefix, rest)) = buffered.split_first_chunk::<PREFIX_BYTES>() else {
        return Ok(Scan::NeedPrefix(PREFIX_BYTES - buffered.len()));
    };
    let length = i32::from_be_bytes(*prefix);
    let frame_bytes = usize::try_from(length).map_err(|_| FrameError::Negative(length))?;
    if frame_bytes > bytes_max {
        return Err(FrameError::TooLarge { frame_bytes, bytes_max });
    }
    Ok(match frame_bytes.saturating_sub(rest.len()) {
        0 => Scan::Whole(frame_bytes),
        missing => Scan::NeedBody { frame_bytes, missing },
    })
}

#[cfg(test)]
mod tests;
