//! Settings as command lines give them: pairs, files, API keys.

use crate::client::read_properties;
use anyhow::{Context, anyhow, bail};
use hawser_link::Properties;
use std::collections::BTreeMap;
use std::path::Path;

/// What `--config` holds: a file if there is one of that name, else `key=value` pairs.
///
/// # Errors
/// When it is neither, or the file cannot be read.
pub(crate) fn inline_or_file(text: &str) -> anyhow::Result<BTreeMap<String, String>> {
    if Path::new(text).is_file() {
        return Ok(owned(&read_properties(Path::new(text))?));
    }
    pairs(text).map_err(|e| anyhow!("--config {e}; expected key=value,… or the name of a file"))
}

/// `k=v,k=[v,with,commas]`. A JSON value keeps its commas and brackets as well.
///
/// # Errors
/// An item without `=`; the item itself is not shown, it may be a secret.
pub(crate) fn pairs(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut pairs = BTreeMap::new();
    let mut depth = 0_i32;
    let mut quoted = false;
    let mut start = 0;
    let mut items = Vec::new();
    for (at, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '[' | '{' if !quoted => depth += 1,
            ']' | '}' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                items.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    items.push(&text[start..]);
    for item in items.iter().map(|i| i.trim()).filter(|i| !i.is_empty()) {
        let (key, value) = item.split_once('=').ok_or("has an item without '='")?;
        let value = value.trim();
        let list = value.strip_prefix('[').and_then(|v| v.strip_suffix(']')).filter(|v| !v.starts_with(['{', '[']));
        pairs.insert(key.trim().to_owned(), list.unwrap_or(value).to_owned());
    }
    Ok(pairs)
}

/// The keys and values of `properties`.
pub(crate) fn owned(properties: &Properties) -> BTreeMap<String, String> {
    properties.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

/// An API key is a user name of PLAIN over SASL_SSL: sets that login under `prefix` (`""` or `local.`).
pub(super) fn set_login(configs: &mut Properties, prefix: &str, user: &str, secret: &str) {
    let quote = |s: &str| format!("\"{}\"", s.replace('\\', "\\\\").replace('"', "\\\""));
    configs.set(&format!("{prefix}security.protocol"), "SASL_SSL");
    configs.set(&format!("{prefix}sasl.mechanism"), "PLAIN");
    let module = "org.apache.kafka.common.security.plain.PlainLoginModule";
    let login = format!("{module} required username={} password={};", quote(user), quote(secret));
    configs.set(&format!("{prefix}sasl.jaas.config"), &login);
}

/// The secret of `--SIDE-api-key`: what `--SIDE-api-secret` says, the first line of the file that it names, or else what
/// the environment holds. What stands on a command line is seen by everybody on the machine.
///
/// # Errors
/// When there is none, or the file cannot be read.
pub(super) fn api_secret(side: &str, flag: Option<&str>, environment: Option<String>) -> anyhow::Result<String> {
    let Some(flag) = flag else {
        return environment.ok_or_else(|| {
            let variable = api_secret_variable(side);
            anyhow!("--{side}-api-key needs a secret: --{side}-api-secret @FILE, or {variable}")
        });
    };
    let Some(file) = flag.strip_prefix('@') else { return Ok(flag.to_owned()) };
    let text = std::fs::read_to_string(file).with_context(|| format!("--{side}-api-secret: read {file}"))?;
    match text.lines().next() {
        Some(secret) if !secret.is_empty() => Ok(secret.to_owned()),
        _ => bail!("--{side}-api-secret: {file} has no secret in its first line"),
    }
}

/// `HAWSER_SOURCE_API_SECRET` and its likes.
pub(super) fn api_secret_variable(side: &str) -> String {
    format!("HAWSER_{}_API_SECRET", side.to_ascii_uppercase())
}

#[cfg(test)]
mod tests;
