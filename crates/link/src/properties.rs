//! Java-style `.properties` text (`java.util.Properties.load`): what every Hawser file is written in.
//! Keeps the line of each key, so that an error can say where to look.

use std::collections::BTreeMap;
use std::fmt;

/// Keys and values with the line that each key stood on.
#[derive(Clone, Default)]
pub struct Properties {
    entries: BTreeMap<String, Entry>,
    source: String,
}

#[derive(Clone)]
struct Entry {
    value: String,
    line: u32,
}

/// One thing wrong with one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file or command line that the key came from.
    pub source: String,
    /// Line of the key, 0 if it has none (missing, or from a command line).
    pub line: u32,
    /// The key.
    pub key: String,
    /// What is wrong and what is expected. Never a secret.
    pub message: String,
}

/// Every error of one configuration, so that an operator mends them in one go.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("{}", display_all(.0))]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl Properties {
    /// Reads `text` as `java.util.Properties.load` does: `#` and `!` comments, `=`, `:` or blank as
    /// separator, continuation lines, `\uXXXX` and the one-letter escapes. A repeated key: the last wins.
    pub fn parse(source: &str, text: &str) -> Self {
        let mut properties = Self { entries: BTreeMap::new(), source: source.to_owned() };
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let mut lines = text.split('\n').zip(1_u32..);
        while let Some((first, line)) = lines.next() {
            let mut logical = first.trim_start_matches([' ', '\t', '\x0c']).to_owned();
            if logical.is_empty() || logical.starts_with(['#', '!']) {
                continue;
            }
            while ends_with_odd_backslashes(&logical) {
                logical.pop();
                let Some((next, _)) = lines.next() else { break };
                logical.push_str(next.trim_start_matches([' ', '\t', '\x0c']));
            }
            let (key, value) = split_pair(&logical);
            properties.entries.insert(unescape(key), Entry { value: unescape(value), line });
        }
        properties
    }

    /// Where these came from, for messages.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The value of `key`.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.entries.get(key).map(|e| e.value.as_str())
    }

    /// The line of `key`, 0 if it has none.
    pub fn line(&self, key: &str) -> u32 {
        self.entries.get(key).map_or(0, |e| e.line)
    }

    /// Sets `key`, keeping its line if it had one.
    pub fn set(&mut self, key: &str, value: &str) {
        let line = self.line(key);
        self.entries.insert(key.to_owned(), Entry { value: value.to_owned(), line });
    }

    /// Removes `key`.
    pub fn remove(&mut self, key: &str) {
        self.entries.remove(key);
    }

    /// All keys and values, in order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|(k, e)| (k.as_str(), e.value.as_str()))
    }

    /// The entries whose keys begin with `prefix`, without it. Lines and source stay.
    pub fn with_prefix(&self, prefix: &str) -> Self {
        let entries =
            self.entries.iter().filter_map(|(k, e)| Some((k.strip_prefix(prefix)?.to_owned(), e.clone()))).collect();
        Self { entries, source: self.source.clone() }
    }

    /// An error about `key`, with its file and line.
    pub fn error(&self, key: &str, message: impl Into<String>) -> ConfigError {
        ConfigError { source: self.source.clone(), line: self.line(key), key: key.to_owned(), message: message.into() }
    }
}

impl fmt::Debug for Properties {
    /// Keys only: values may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Properties").field("source", &self.source).field("keys", &self.entries.keys()).finish()
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}: {}", self.source, self.key, self.message),
            line => write!(f, "{}:{line}: {}: {}", self.source, self.key, self.message),
        }
    }
}

impl ConfigErrors {
    /// `Ok` if nothing was collected.
    ///
    /// # Errors
    /// Itself, if anything was.
    pub fn into_result(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }
}

fn display_all(errors: &[ConfigError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn ends_with_odd_backslashes(line: &str) -> bool {
    line.bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1
}

fn split_pair(logical: &str) -> (&str, &str) {
    let is_blank = |c: char| matches!(c, ' ' | '\t' | '\x0c');
    let mut escaped = false;
    let end = logical.char_indices().find(|&(_, c)| {
        let stop = !escaped && (is_blank(c) || c == '=' || c == ':');
        escaped = !escaped && c == '\\';
        stop
    });
    let Some((end, _)) = end else {
        return (logical, "");
    };
    let (key, rest) = logical.split_at(end);
    let rest = rest.trim_start_matches(is_blank);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (key, rest.trim_start_matches(is_blank))
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('t') => out.push('\t'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('f') => out.push('\x0c'),
            Some('u') => match utf16_unit(chars.as_str()) {
                Some((first, rest)) => {
                    // Beyond the first 65,536 characters: two escapes make one.
                    let second = rest.strip_prefix("\\u").and_then(utf16_unit);
                    let pair = second.and_then(|(second, rest)| {
                        Some((char::decode_utf16([first, second]).next()?.ok()?, rest)).filter(|(c, _)| *c > '\u{ffff}')
                    });
                    let (decoded, rest) =
                        pair.unwrap_or((char::from_u32(first.into()).unwrap_or(char::REPLACEMENT_CHARACTER), rest));
                    out.push(decoded);
                    chars = rest.chars();
                }
                // Java refuses it; a Windows path is worth more.
                None => out.push('u'),
            },
            Some(other) => out.push(other),
            None => {}
        }
    }
    out
}

/// The four hexadecimal digits at the front, and what follows them.
fn utf16_unit(text: &str) -> Option<(u16, &str)> {
    let (digits, rest) = text.split_at_checked(4)?;
    let unit = digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())??;
    Some((unit, rest))
}

#[cfg(test)]
mod tests;
