//! A change of an existing half's settings: which of them change, whether they may, what the half is afterwards. Pure;
//! `hawser::service` stores the result and `hawser::links` puts it into effect.

use crate::catalogue::{self, Change, Kind};
use crate::{ConfigErrors, LinkConfig, Parsed, Properties};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A setting and what becomes of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alteration {
    /// Its name.
    pub name: String,
    /// Its new value; `None`: back to the default.
    pub value: Option<String>,
}

/// What a half is after a change. Its `Debug` shows no value.
#[derive(Clone)]
pub struct Altered {
    /// All of its settings.
    pub configs: BTreeMap<String, String>,
    /// Those that differ from before. Nothing need be done when there are none.
    pub changed: BTreeSet<String>,
    /// The half, read from `configs`, with what to tell whoever changes it.
    pub parsed: Parsed,
}

/// Features whose filters go when they are switched off (the reference does so: filters of a feature that is off would
/// come back to life with it unseen).
const FILTERS_OF: [(&str, &str); 3] = [
    ("consumer.offset.sync.enable", "consumer.offset.group.filters"),
    ("acl.sync.enable", "acl.filters"),
    ("auto.create.mirror.topics.enable", "auto.create.mirror.topics.filters"),
];

/// Applies `alterations` to the settings `current` of link `link`. A setting that is given the value it has anyway is no
/// change, so that a whole file can be applied again.
///
/// # Errors
/// Every error at once: what [`LinkConfig::parse`] refuses, what is fixed once the link exists, what is named twice.
pub fn alter(
    link: &str,
    current: &BTreeMap<String, String>,
    alterations: &[Alteration],
) -> Result<Altered, ConfigErrors> {
    let mut errors = ConfigErrors::default();
    let mut configs = current.clone();
    let mut named = BTreeSet::new();
    let source = Properties::parse(&format!("link {link}"), "");
    for Alteration { name, value } in alterations {
        if !named.insert(name.as_str()) {
            errors.0.push(source.error(name, "is named twice in one change"));
            continue;
        }
        match value {
            Some(value) => configs.insert(name.clone(), value.clone()),
            None => {
                let is_known = catalogue::find(name).is_some() || current.contains_key(name);
                if !is_known {
                    errors.0.push(source.error(name, catalogue::unknown(name)));
                }
                configs.remove(name)
            }
        };
    }
    for (feature, filters) in FILTERS_OF {
        let was_on = is_on(current.get(feature));
        if was_on && !is_on(configs.get(feature)) && !named.contains(filters) {
            configs.remove(filters);
        }
    }
    let names: BTreeSet<&String> = current.keys().chain(configs.keys()).collect();
    let changed: BTreeSet<String> =
        names.into_iter().filter(|name| effective(current, name) != effective(&configs, name)).cloned().collect();
    for name in &changed {
        if catalogue::find(name).is_some_and(|key| key.change == Change::Fixed) {
            let message = "cannot be changed on an existing link: delete the link and create it anew";
            errors.0.push(source.error(name, message));
            // All else is judged by the half that there is.
            match current.get(name) {
                Some(value) => drop(configs.insert(name.clone(), value.clone())),
                None => drop(configs.remove(name)),
            }
        }
    }
    let mut properties = source;
    for (name, value) in &configs {
        properties.set(name, value);
    }
    match LinkConfig::parse(&properties) {
        Ok(parsed) if errors.0.is_empty() => Ok(Altered { configs, changed, parsed }),
        Ok(_) => Err(errors),
        Err(ConfigErrors(found)) => {
            errors.0.extend(found);
            Err(errors)
        }
    }
}

/// The value that acts: what is set, else the default; with the same spelling for the same meaning.
fn effective(configs: &BTreeMap<String, String>, name: &str) -> Option<String> {
    let key = catalogue::find(name);
    let value = configs.get(name).map(String::as_str).or_else(|| key.and_then(|key| key.default))?;
    match key.map(|key| key.kind) {
        Some(Kind::Boolean | Kind::Choice(_)) => Some(value.trim().to_ascii_lowercase()),
        Some(Kind::Password) => Some(value.to_owned()),
        Some(_) | None => Some(value.trim().to_owned()),
    }
}

fn is_on(value: Option<&String>) -> bool {
    value.is_some_and(|value| value.trim().eq_ignore_ascii_case("true"))
}

impl fmt::Debug for Alteration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let act = if self.value.is_some() { "set" } else { "reset" };
        write!(f, "{act} {}", self.name)
    }
}

impl fmt::Debug for Altered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Altered").field("changed", &self.changed).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
