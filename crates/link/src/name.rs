//! The name of a link: equal on both halves, and the only thing that both operators agree on by hand.

use std::fmt;
use std::sync::Arc;

/// A link's name: 1 to 200 characters legal in topic names (`[a-zA-Z0-9._-]`), not `-` (REST uses it
/// for "all links"), not `.` or `..`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkName(Arc<str>);

/// Why a text is no link name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no link name: 1 to 200 of the characters a-z A-Z 0-9 . _ - and not one of \"-\", \".\", \"..\"")]
pub struct InvalidName(pub String);

impl LinkName {
    /// Longest name, in characters (all are ASCII).
    pub const LENGTH_MAX: usize = 200;

    /// Checks and takes `name`.
    ///
    /// # Errors
    /// [`InvalidName`] with at most the first 200 characters of what was given.
    pub fn new(name: &str) -> Result<Self, InvalidName> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let whole = !matches!(name, "" | "-" | "." | "..") && name.len() <= Self::LENGTH_MAX;
        if whole && name.bytes().all(legal) {
            Ok(Self(name.into()))
        } else {
            Err(InvalidName(name.chars().take(Self::LENGTH_MAX).collect()))
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "from-on-prem-link", "A.b_c-9", &"x".repeat(200), "--", "..."] {
            assert_eq!(LinkName::new(good).expect(good).as_str(), good);
        }
        for bad in ["", "-", ".", "..", "a b", "a/b", "ä", &"x".repeat(201), "a\0"] {
            assert!(LinkName::new(bad).is_err(), "{bad:?}");
        }
        assert_eq!(LinkName::new(&"é".repeat(999)).unwrap_err().0.chars().count(), 200);
    }
}
