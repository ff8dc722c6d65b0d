//! The walker: one pass over the bytes of a message along its schema. It allocates nothing unless it refuses.

use super::schema::{Field, Kind, Message, Struct};
use super::{MEMORY_FLOOR_BYTES, MEMORY_PER_BYTE};

/// Memory of a B-tree leaf for unknown tagged fields (11 keys and values and its links), in bytes.
const FIRST_TAG_MEMORY_BYTES: usize = 512;
/// Memory of each further unknown tag: leaves may stand half full.
const NEXT_TAG_MEMORY_BYTES: usize = 96;

/// Where and why the guard refused.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// Byte position in what was walked.
    pub(crate) at: usize,
    /// The rule that was broken.
    pub(crate) reason: &'static str,
    /// Field names, innermost first.
    pub(crate) path: Vec<&'static str>,
}

/// A position in bytes that are not trusted.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    rest: &'a [u8],
    length: usize,
    version: i16,
    flexible: bool,
    memory_left: usize,
}

type Step<T = ()> = Result<T, Box<Refusal>>;

impl Message {
    /// Accepts `body` only if it is exactly one message of this schema at `version`, which must be in range.
    pub(crate) fn check(&self, version: i16, body: &[u8]) -> Step {
        let walk = self.walk(version, body)?;
        if walk.rest.is_empty() { Ok(()) } else { Err(walk.refuse("trailing bytes")) }
    }

    /// Accepts `body` if it begins with one message of this schema, and says how many bytes that takes.
    pub(crate) fn measure(&self, version: i16, body: &[u8]) -> Step<usize> {
        self.walk(version, body).map(|walk| walk.position())
    }

    fn walk<'a>(&self, version: i16, body: &'a [u8]) -> Step<Walk<'a>> {
        let mut walk = Walk::new(body);
        walk.version = version;
        walk.flexible = version >= self.flexible_from;
        walk.fields(&self.body)?;
        Ok(walk)
    }
}

impl<'a> Walk<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        let memory_left = bytes.len().saturating_mul(MEMORY_PER_BYTE).saturating_add(MEMORY_FLOOR_BYTES);
        Self { rest: bytes, length: bytes.len(), version: 0, flexible: false, memory_left }
    }

    /// Bytes walked so far.
    pub(crate) fn position(&self) -> usize {
        self.length - self.rest.len()
    }

    pub(crate) fn int16(&mut self) -> Step<i16> {
        self.array().map(i16::from_be_bytes)
    }

    pub(crate) fn int32(&mut self) -> Step<i32> {
        self.array().map(i32::from_be_bytes)
    }

    /// A string of the old form: 16-bit length, −1 for null.
    pub(crate) fn nullable_string(&mut self) -> Step<Option<&'a str>> {
        match self.int16()? {
            -1 => Ok(None),
            length => self.text(length.into()).map(Some),
        }
    }

    /// Tagged fields of which none is known: each is skipped within its bounds.
    pub(crate) fn unknown_tags(&mut self) -> Step {
        self.tags(&[])
    }

    fn fields(&mut self, record: &Struct) -> Step {
        for field in record.fields {
            if field.versions.contains(self.version) && !field.tagged.contains(self.version) {
                self.field(field)?;
            }
        }
        if self.flexible { self.tags(record.fields) } else { Ok(()) }
    }

    fn field(&mut self, field: &Field) -> Step {
        let nullable = field.nullable.contains(self.version);
        self.value(&field.kind, nullable).map_err(|mut refusal| {
            refusal.path.push(field.name);
            refusal
        })
    }

    fn value(&mut self, kind: &Kind, nullable: bool) -> Step {
        match kind {
            Kind::Fixed(bytes) => self.skip(*bytes),
            Kind::String => {
                let length = if self.flexible { self.compact_length()? } else { self.int16()?.into() };
                match length {
                    -1 => self.null(nullable),
                    length => self.text(length).map(drop),
                }
            }
            Kind::Bytes => match self.length()? {
                -1 => self.null(nullable),
                length => self.take(length).map(drop),
            },
            Kind::Struct(record) if nullable => match self.array::<1>()? {
                [1] => self.fields(record),
                [0xff] => Ok(()),
                _ => Err(self.refuse("mark of a nullable struct is neither 1 nor -1")),
            },
            Kind::Struct(record) => self.fields(record),
            Kind::Array(element) => match self.length()? {
                -1 => self.null(nullable),
                count => self.elements(element, count),
            },
        }
    }

    fn elements(&mut self, element: &Kind, count: i64) -> Step {
        // No element is empty, so a count above the bytes left is a lie that need not be walked.
        let count = usize::try_from(count).map_err(|_| self.refuse("negative count"))?;
        if count > self.rest.len() {
            return Err(self.refuse("count exceeds the bytes left"));
        }
        self.charge(count.saturating_mul(element.memory_bytes()))?;
        if let Kind::Fixed(bytes) = element {
            return self.skip(count.saturating_mul(*bytes));
        }
        for _ in 0..count {
            self.value(element, false)?;
        }
        Ok(())
    }

    fn tags(&mut self, fields: &[Field]) -> Step {
        let mut unknown_memory_bytes = FIRST_TAG_MEMORY_BYTES;
        for _ in 0..self.unsigned_varint()? {
            let tag = self.unsigned_varint()?;
            if tag > i32::MAX.cast_unsigned() {
                return Err(self.refuse("tag exceeds 31 bits"));
            }
            let size = self.unsigned_varint()? as usize;
            if size > self.rest.len() {
                return Err(self.refuse("tagged field exceeds the bytes left"));
            }
            let end = self.rest.len() - size;
            let Some(field) = fields.iter().find(|field| field.is_tagged() && field.tag == tag) else {
                self.charge(unknown_memory_bytes)?;
                unknown_memory_bytes = NEXT_TAG_MEMORY_BYTES;
                self.skip(size)?;
                continue;
            };
            if !field.tagged.contains(self.version) {
                return Err(self.refuse("tag belongs to another version"));
            }
            self.field(field)?;
            if self.rest.len() != end {
                return Err(self.refuse("tagged field is not as long as it says"));
            }
        }
        Ok(())
    }

    fn text(&mut self, length: i64) -> Step<&'a str> {
        let start = self.position();
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map_err(|error| Refusal::boxed(start + error.valid_up_to(), "string is not UTF-8"))
    }

    /// Length of bytes or an array: 32 bits, or in flexible versions a varint of length + 1. −1 is null.
    fn length(&mut self) -> Step<i64> {
        if self.flexible { self.compact_length() } else { self.int32().map(i64::from) }
    }

    fn compact_length(&mut self) -> Step<i64> {
        self.unsigned_varint().map(|length| i64::from(length) - 1)
    }

    fn unsigned_varint(&mut self) -> Step<u32> {
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            if shift == 28 && byte > 0x0f {
                return Err(self.refuse("varint exceeds 32 bits"));
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        Ok(value)
    }

    fn null(&self, allowed: bool) -> Step {
        if allowed { Ok(()) } else { Err(self.refuse("null is not allowed here")) }
    }

    fn charge(&mut self, bytes: usize) -> Step {
        let left = self.memory_left.checked_sub(bytes);
        self.memory_left = left.ok_or_else(|| self.refuse("decoded message would be too large for its bytes"))?;
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk().ok_or_else(|| self.refuse("cut off"))?;
        self.rest = rest;
        Ok(*head)
    }

    fn take(&mut self, length: i64) -> Step<&'a [u8]> {
        let length = usize::try_from(length).map_err(|_| self.refuse("negative length"))?;
        let (head, rest) =
            self.rest.split_at_checked(length).ok_or_else(|| self.refuse("length exceeds the bytes left"))?;
        self.rest = rest;
        Ok(head)
    }

    fn skip(&mut self, bytes: usize) -> Step {
        self.rest = self.rest.get(bytes..).ok_or_else(|| self.refuse("cut off"))?;
        Ok(())
    }

    #[cold]
    fn refuse(&self, reason: &'static str) -> Box<Refusal> {
        Refusal::boxed(self.position(), reason)
    }
}

impl Refusal {
    fn boxed(at: usize, reason: &'static str) -> Box<Self> {
        Box::new(Self { at, reason, path: Vec::new() })
    }
}
