//! The reference's tools under their own names, with their flags and their outputs word for word: `hawser kafka-mirrors …`,
//! or the binary called through a link of that name. Each translates flags to operations and outcomes to lines, and asks
//! through the same Kafka listener as `hawser link` and `hawser mirror`.

pub(crate) mod cluster_links;
pub(crate) mod configs;
pub(crate) mod mirrors;

use crate::client::read_properties;
use crate::commands::{owned, pairs};
use anyhow::anyhow;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

/// The names that the binary answers to besides its own.
const NAMES: [&str; 3] = ["kafka-cluster-links", "kafka-mirrors", "kafka-configs"];

/// The command line, where the binary was called by a tool's name as if `hawser` had been called with that name as its
/// first word.
pub(crate) fn called_by_name(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut args: Vec<_> = args.collect();
    let called = args.first().map(Path::new).and_then(Path::file_name).and_then(|name| name.to_str());
    let called = called.map(|name| name.strip_suffix(".sh").unwrap_or(name));
    if let Some(tool) = NAMES.iter().find(|name| called == Some(**name)) {
        args.splice(0..1, ["hawser", tool].map(OsString::from));
    }
    args
}

/// The settings of `file`, then those of `text`, which stands behind `flag`: the later wins.
fn settings(file: Option<&Path>, flag: &str, text: Option<&str>) -> anyhow::Result<BTreeMap<String, String>> {
    let mut settings = file.map(read_properties).transpose()?.as_ref().map(owned).unwrap_or_default();
    if let Some(text) = text {
        settings.extend(pairs(text).map_err(|e| anyhow!("{flag} {e}; expected key=value,…"))?);
    }
    Ok(settings)
}

/// `[a, b]`, as Java prints lists.
fn java_list<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    format!("[{}]", items.into_iter().collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called(args: &[&str]) -> Vec<String> {
        let args = called_by_name(args.iter().map(OsString::from));
        args.into_iter().map(|arg| arg.into_string().unwrap()).collect()
    }

    #[test]
    fn a_tools_name_is_the_first_word() {
        assert_eq!(called(&["/opt/bin/kafka-mirrors", "--list"]), ["hawser", "kafka-mirrors", "--list"]);
        assert_eq!(called(&["kafka-configs.sh"]), ["hawser", "kafka-configs"]);
        assert_eq!(called(&["./hawser", "kafka-mirrors"]), ["./hawser", "kafka-mirrors"]);
        assert_eq!(called(&["/kafka-mirrors/hawser", "link"]), ["/kafka-mirrors/hawser", "link"]);
        assert!(called(&[]).is_empty());
    }
}
