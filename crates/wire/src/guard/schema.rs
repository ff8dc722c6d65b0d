//! What the generated table is made of: messages, structs and fields, each with the versions it exists in.

use super::table;

/// One request or response.
#[derive(Debug)]
pub(crate) struct Message {
    /// Kafka's name for it.
    pub(crate) name: &'static str,
    /// Oldest and newest version in Kafka's schema.
    pub(crate) versions: Versions,
    /// First flexible version (KIP-482): compact lengths and tagged fields from here on.
    pub(crate) flexible_from: i16,
    /// Its top-level fields.
    pub(crate) body: Struct,
}

/// Both directions of one API key.
#[derive(Debug)]
pub(super) struct Api {
    pub(super) key: i16,
    pub(super) request: Message,
    pub(super) response: Message,
}

/// Fields in the order of the wire.
#[derive(Debug)]
pub(crate) struct Struct {
    /// Upper bound of what the decoded struct takes, in bytes, without what its arrays point to.
    pub(super) memory_bytes: usize,
    pub(super) fields: &'static [Field],
}

#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) versions: Versions,
    pub(super) nullable: Versions,
    /// In these versions the field stands among the tagged fields, under `tag`.
    pub(super) tagged: Versions,
    pub(super) tag: u32,
}

#[derive(Debug)]
pub(super) enum Kind {
    /// A number, a boolean or a UUID of so many bytes.
    Fixed(usize),
    String,
    /// Bytes or records: a length and as many bytes, never looked into.
    Bytes,
    Struct(&'static Struct),
    Array(&'static Kind),
}

/// An inclusive range of versions; empty when `min > max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Versions {
    pub(crate) min: i16,
    pub(crate) max: i16,
}

/// The schema of the request with this key.
pub(crate) fn request(key: i16) -> Option<&'static Message> {
    api(key).map(|api| &api.request)
}

/// The schema of the response to the request with this key.
pub(crate) fn response(key: i16) -> Option<&'static Message> {
    api(key).map(|api| &api.response)
}

fn api(key: i16) -> Option<&'static Api> {
    let at = table::APIS.binary_search_by_key(&key, |api| api.key).ok()?;
    table::APIS.get(at)
}

impl Versions {
    pub(super) const NONE: Self = Self { min: 1, max: 0 };

    pub(crate) const fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }
}

impl Kind {
    /// Upper bound of what one decoded value takes in its struct or array, in bytes.
    pub(super) const fn memory_bytes(&self) -> usize {
        match self {
            Self::Fixed(bytes) => *bytes,
            Self::String | Self::Bytes => size_of::<bytes::Bytes>(),
            Self::Struct(inner) => inner.memory_bytes,
            Self::Array(_) => size_of::<Vec<u8>>(),
        }
    }
}

// The vocabulary of the table, short because it is written thousands of times.

pub(super) const fn message(name: &'static str, min: i16, max: i16, flexible_from: i16, body: Struct) -> Message {
    Message { name, versions: Versions { min, max }, flexible_from, body }
}

pub(super) const fn record(memory_bytes: usize, fields: &'static [Field]) -> Struct {
    Struct { memory_bytes, fields }
}

pub(super) const fn field(name: &'static str, kind: Kind, min: i16, max: i16) -> Field {
    let versions = Versions { min, max };
    Field { name, kind, versions, nullable: Versions::NONE, tagged: Versions::NONE, tag: 0 }
}

impl Field {
    /// Whether it is a tagged field in some version.
    pub(super) const fn is_tagged(&self) -> bool {
        self.tagged.min <= self.tagged.max
    }

    pub(super) const fn nullable(mut self, min: i16, max: i16) -> Self {
        self.nullable = Versions { min, max };
        self
    }

    pub(super) const fn tagged(mut self, tag: u32, min: i16, max: i16) -> Self {
        self.tag = tag;
        self.tagged = Versions { min, max };
        self
    }
}
