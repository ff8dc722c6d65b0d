//! The settings of links that exist: shown, and changed while the link runs.

use super::links::start_refusal;
use super::{Service, internal, link_properties};
use crate::operations::{LinkConfigView, Outcome, Refusal, RefusalCode};
use crate::persist::persist;
use hawser_link::catalogue::{self, Change};
use hawser_link::{Alteration, LinkConfig, alter};
use hawser_state::{LinkRecord, SecretConfigs};
use std::sync::Arc;

/// `source` of a setting that somebody made, and of one that nobody did (as the reference names them).
const SET: &str = "DYNAMIC_CLUSTER_LINK_CONFIG";
const NOT_SET: &str = "DEFAULT_CONFIG";

impl Service {
    /// Changes settings of link `name`: all or none. They are in the state, and in effect, when this returns.
    pub(super) async fn link_alter_configs(
        &self,
        name: &str,
        changes: &[Alteration],
        validate_only: bool,
    ) -> Result<Outcome, Refusal> {
        // The other side is tried out first, which may take its time: only changes of settings wait for that.
        let _one_at_a_time = self.settings.lock().await;
        let before = self.link(name)?;
        let altered = alter(name, &before.configs.0, changes)
            .map_err(|errors| Refusal::new(RefusalCode::InvalidLinkConfig, errors.to_string()))?;
        let mut warnings: Vec<_> = altered.parsed.warnings.iter().map(ToString::to_string).collect();
        for warning in &warnings {
            tracing::warn!(link = name, "{warning}");
        }
        let record = LinkRecord { configs: SecretConfigs(altered.configs), ..LinkRecord::clone(&before) };
        self.links.validate(&record).map_err(|e| start_refusal(&e))?;
        if validate_only || record == *before {
            return Ok(Outcome::LinkConfigsAltered { warnings });
        }
        let (prepared, untried) = self.links.prepare(&record, &altered.changed).await.map_err(|e| start_refusal(&e))?;
        if let Some(why) = untried {
            let warning = format!(
                "Nobody knows yet whether cluster link \"{name}\" works with these settings: {why}. They are kept all the \
                 same, as it did not work before either."
            );
            tracing::warn!(link = name, "{warning}");
            warnings.push(warning);
        }
        let _turn = self.changes.lock().await;
        let now = self.state.link(name);
        let is_the_same = |now: &&Arc<LinkRecord>| now.id == before.id && now.configs == before.configs;
        let Some(meanwhile) = now.as_ref().filter(is_the_same) else {
            self.links.give_up(now.as_deref(), prepared).await;
            let message = format!("Cluster link \"{name}\" was deleted or made anew meanwhile; nothing was changed.");
            return Err(Refusal::new(RefusalCode::LinkNotFound, message));
        };
        // With what it has learnt meanwhile.
        let record = LinkRecord { configs: record.configs, ..LinkRecord::clone(meanwhile) };
        let kept = record.configs.clone();
        let write = move |link: &mut LinkRecord| {
            link.configs = kept;
            true
        };
        let (link, state) = (name.to_owned(), &self.state);
        if let Err(error) = persist(state, move |state| state.update_link(&link, write)).await {
            self.links.give_up(Some(&before), prepared).await;
            return Err(internal(&error));
        }
        tracing::info!(link = name, changed = ?altered.changed, "settings changed");
        self.links.apply(&record, prepared).await;
        self.follow_link(&record).await;
        Ok(Outcome::LinkConfigsAltered { warnings })
    }

    /// Every setting that link `name` takes, and whatever else was set on it.
    pub(super) fn link_describe_configs(&self, name: &str) -> Result<Outcome, Refusal> {
        let record = self.link(name)?;
        let set = &record.configs.0;
        // A half that is no longer understood shows what was set.
        let half = LinkConfig::parse(&link_properties(name, set)).ok().map(|parsed| parsed.config.half);
        let mut keys = half.map(catalogue::keys_of).unwrap_or_default();
        keys.retain(|name, key| key.kind != catalogue::Kind::Jvm || set.contains_key(name));
        let known = keys.iter().map(|(name, key)| view(name, set.get(name), key.default, key.change));
        let unknown = set.iter().filter(|(name, _)| !keys.contains_key(*name));
        let unknown = unknown.map(|(name, value)| view(name, Some(value), None, Change::Live));
        let mut configs: Vec<_> = known.chain(unknown).collect();
        configs.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Outcome::LinkConfigs { configs })
    }
}

fn view(name: &str, set: Option<&String>, default: Option<&str>, change: Change) -> LinkConfigView {
    let is_sensitive = catalogue::is_secret(name);
    let value = set.map(String::as_str).or(default).filter(|_| !is_sensitive);
    LinkConfigView {
        name: name.to_owned(),
        value: value.map(str::to_owned),
        is_default: set.is_none(),
        is_read_only: change == Change::Fixed,
        is_sensitive,
        source: if set.is_some() { SET } else { NOT_SET }.to_owned(),
        synonyms: Vec::new(),
    }
}
