//! Messages made from the schema alone, for tests: whatever the table says, in bytes.

use super::schema::{Field, Kind, Message, Struct};

/// A tag that no message of Kafka uses.
const UNKNOWN_TAG: u32 = 99;

/// How much of a message is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fill {
    /// Empty or null wherever allowed, no tagged fields.
    Least,
    /// Two elements in every array, text in every string, all tagged fields and an unknown one.
    Most,
}

/// Bytes of a message, and where its lengths and counts stand.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) bytes: Vec<u8>,
    pub(crate) lengths: Vec<Length>,
    version: i16,
    flexible: bool,
    fill: Fill,
}

/// Position and width of a length: 2 or 4 bytes, or 1 for a (short) varint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Length {
    pub(crate) at: usize,
    pub(crate) bytes: usize,
}

impl Sample {
    pub(crate) fn of(message: &Message, version: i16, fill: Fill) -> Self {
        let flexible = version >= message.flexible_from;
        let mut sample = Self { bytes: Vec::new(), lengths: Vec::new(), version, flexible, fill };
        sample.fields(&message.body);
        sample
    }

    /// The same message with another length at one place.
    pub(crate) fn with_length(&self, length: Length, new: &[u8]) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes.splice(length.at..length.at + length.bytes, new.iter().copied());
        bytes
    }

    fn fields(&mut self, record: &Struct) {
        let version = self.version;
        let (tagged, plain): (Vec<_>, Vec<_>) = (record.fields.iter())
            .filter(|field| field.versions.contains(version))
            .partition(|field| field.tagged.contains(version));
        for field in plain {
            self.field(field);
        }
        if self.flexible {
            self.tags(&tagged);
        }
    }

    fn tags(&mut self, tagged: &[&Field]) {
        if self.fill == Fill::Least {
            return self.length(0, 1);
        }
        let mut tagged = tagged.to_vec();
        tagged.sort_by_key(|field| field.tag);
        self.length(tagged.len() + 1, 1);
        for field in tagged {
            self.bytes.push(u8::try_from(field.tag).unwrap());
            let size_at = self.bytes.len();
            let inner = self.lengths.len();
            self.field(field);
            let size = self.bytes.len() - size_at;
            let width = usize::from(size >= 0x80) + 1;
            let low = u8::try_from(size & 0x7f).unwrap();
            let high = u8::try_from(size >> 7).unwrap();
            self.bytes.splice(size_at..size_at, [low | 0x80, high].into_iter().skip(2 - width).take(width));
            if width == 1 {
                self.bytes[size_at] = low;
            }
            self.lengths[inner..].iter_mut().for_each(|length| length.at += width);
            self.lengths.push(Length { at: size_at, bytes: width });
        }
        self.bytes.push(u8::try_from(UNKNOWN_TAG).unwrap());
        self.length(3, 1);
        self.bytes.extend(b"new");
    }

    fn field(&mut self, field: &Field) {
        self.value(&field.kind, field.nullable.contains(self.version));
    }

    fn value(&mut self, kind: &Kind, nullable: bool) {
        let most = self.fill == Fill::Most;
        let null = nullable && !most;
        match kind {
            Kind::Fixed(1) => self.bytes.push(most.into()),
            Kind::Fixed(bytes) => self.bytes.extend(vec![if most { 0x2a } else { 0 }; *bytes]),
            Kind::String | Kind::Bytes => {
                let text = if most { "cañon" } else { "" };
                self.count(if null { None } else { Some(text.len()) }, matches!(kind, Kind::String));
                self.bytes.extend(text.as_bytes());
            }
            Kind::Struct(_) if null => self.bytes.push(0xff),
            Kind::Struct(record) => {
                if nullable {
                    self.bytes.push(1);
                }
                self.fields(record);
            }
            Kind::Array(element) => {
                let count = if most { 2 } else { 0 };
                self.count(if null { None } else { Some(count) }, false);
                (0..count).for_each(|_| self.value(element, false));
            }
        }
    }

    fn count(&mut self, count: Option<usize>, is_string: bool) {
        match (self.flexible, is_string) {
            (true, _) => self.length(count.map_or(0, |count| count + 1), 1),
            (false, true) => self.length(count.unwrap_or(usize::MAX), 2),
            (false, false) => self.length(count.unwrap_or(usize::MAX), 4),
        }
    }

    fn length(&mut self, length: usize, bytes: usize) {
        self.lengths.push(Length { at: self.bytes.len(), bytes });
        let all = length.to_be_bytes();
        self.bytes.extend(&all[all.len() - bytes..]);
    }
}
