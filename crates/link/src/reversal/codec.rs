//! Reading and writing the few primitive types of the protocol (Kafka's, big-endian). Every read is total:
//! it takes what is there or says what is missing, and no count is believed before the bytes are there.

/// Bytes that are no message of this protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} at byte {at}: {reason}")]
pub struct Malformed {
    /// The field.
    pub field: &'static str,
    /// Byte position in the body.
    pub at: usize,
    /// What is wrong with it.
    pub reason: &'static str,
}

pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn malformed(&self, field: &'static str, reason: &'static str) -> Malformed {
        Malformed { field, at: self.at, reason }
    }

    pub(super) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Malformed> {
        let Some((head, rest)) = self.bytes.split_first_chunk::<N>() else {
            return Err(self.malformed(field, "the message ends inside it"));
        };
        self.bytes = rest;
        self.at += N;
        Ok(*head)
    }

    pub(super) fn i8(&mut self, field: &'static str) -> Result<i8, Malformed> {
        self.array(field).map(i8::from_be_bytes)
    }

    pub(super) fn i16(&mut self, field: &'static str) -> Result<i16, Malformed> {
        self.array(field).map(i16::from_be_bytes)
    }

    pub(super) fn i32(&mut self, field: &'static str) -> Result<i32, Malformed> {
        self.array(field).map(i32::from_be_bytes)
    }

    pub(super) fn i64(&mut self, field: &'static str) -> Result<i64, Malformed> {
        self.array(field).map(i64::from_be_bytes)
    }

    pub(super) fn bool(&mut self, field: &'static str) -> Result<bool, Malformed> {
        match self.i8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.malformed(field, "neither 0 nor 1")),
        }
    }

    /// A count that `max` and the bytes left (at least `each` an element) allow.
    pub(super) fn count(&mut self, field: &'static str, max: usize, each: usize) -> Result<usize, Malformed> {
        let count = usize::try_from(self.i16(field)?).map_err(|_| self.malformed(field, "the count is negative"))?;
        if count > max {
            return Err(self.malformed(field, "the count is above its bound"));
        }
        if count.saturating_mul(each) > self.bytes.len() {
            return Err(self.malformed(field, "the count promises more than the message holds"));
        }
        Ok(count)
    }

    /// A string of at most `max` bytes; `None` for length -1.
    pub(super) fn nullable(&mut self, field: &'static str, max: usize) -> Result<Option<&'a str>, Malformed> {
        let length = self.i16(field)?;
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| self.malformed(field, "the length is negative"))?;
        if length > max {
            return Err(self.malformed(field, "longer than its bound"));
        }
        let Some((text, rest)) = self.bytes.split_at_checked(length) else {
            return Err(self.malformed(field, "the message ends inside it"));
        };
        let text = std::str::from_utf8(text).map_err(|_| self.malformed(field, "not UTF-8"))?;
        self.bytes = rest;
        self.at += length;
        Ok(Some(text))
    }

    pub(super) fn string(&mut self, field: &'static str, max: usize) -> Result<&'a str, Malformed> {
        self.nullable(field, max)?.ok_or_else(|| self.malformed(field, "null"))
    }

    pub(super) fn end(&self) -> Result<(), Malformed> {
        if self.bytes.is_empty() { Ok(()) } else { Err(self.malformed("end", "bytes are left over")) }
    }
}

/// Writes a string, cut at a character border to at most `max` bytes: what we write, the peer can read.
pub(super) fn put_string(out: &mut Vec<u8>, text: &str, max: usize) {
    let text = &text[..text.floor_char_boundary(max.min(i16::MAX as usize))];
    out.extend_from_slice(&i16::try_from(text.len()).unwrap_or(i16::MAX).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

pub(super) fn put_nullable(out: &mut Vec<u8>, text: Option<&str>, max: usize) {
    match text {
        Some(text) => put_string(out, text, max),
        None => out.extend_from_slice(&(-1_i16).to_be_bytes()),
    }
}

pub(super) fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&i16::try_from(count).unwrap_or(i16::MAX).to_be_bytes());
}
