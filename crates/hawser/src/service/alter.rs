//! Operations that change mirrors' lives: promote, fail over, pause, resume. What a command means in which status is decided
//! by [`hawser_link::mirror`]; here it is done: first written down, all mirrors in one write, then carried out.

use super::{Service, internal, now_ms};
use crate::operations::{AlteredMirror, MirrorAction, MirrorLag, MirrorView, Outcome, Refusal, RefusalCode};
use crate::persist::persist;
use crate::promotions::Turn;
use hawser_link::mirror::{Effect, OutOfPlace};
use hawser_state::{MirrorRecord, MirrorStatus, MirrorStop, TopicRecord};
use regex::{Regex, RegexBuilder};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Memory for one compiled pattern: patterns come from callers.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// Which mirrors a command is for.
pub(super) struct Chosen {
    link: Option<String>,
    by: By,
}

enum By {
    Names(Vec<String>),
    Pattern(Regex),
    All,
}

/// A name and what stands under it.
type Named = (String, Option<Arc<TopicRecord>>);

/// A mirror that a command changes.
struct Change {
    topic: Arc<TopicRecord>,
    link: String,
    /// What the command was judged by.
    before: MirrorStatus,
    effect: Effect,
}

impl Chosen {
    /// By names, by a pattern, or all of a link.
    ///
    /// # Errors
    /// None or two of these; a pattern that is none.
    pub(super) fn new(link: Option<String>, topics: Vec<String>, pattern: Option<String>) -> Result<Self, Refusal> {
        let invalid = |message: String| Refusal::new(RefusalCode::InvalidRequest, message);
        let by = match (pattern, topics.is_empty()) {
            (Some(_), false) => return Err(invalid("Name mirror topics or give a pattern, not both.".to_owned())),
            (None, false) => By::Names(topics),
            (None, true) if link.is_some() => By::All,
            (None, true) => return Err(invalid("Name mirror topics, a pattern or a link.".to_owned())),
            (Some(pattern), true) => {
                let compile = |pattern: &str| RegexBuilder::new(pattern).size_limit(PATTERN_BYTES_MAX).build();
                // By itself first: brackets of its own must not close ours.
                let whole = compile(&pattern).and_then(|_| compile(&format!("^(?:{pattern})$")));
                By::Pattern(whole.map_err(|error| invalid(format!("mirror_topic_name_pattern: {error}")))?)
            }
        };
        Ok(Self { link, by })
    }
}

impl Service {
    pub(super) async fn mirror_alter(
        &self,
        chosen: &Chosen,
        action: MirrorAction,
        validate_only: bool,
    ) -> Result<Outcome, Refusal> {
        let turn = self.changes.lock().await;
        let flow = self.flow();
        let (mut results, mut changes) = (Vec::new(), Vec::new());
        for (name, topic) in self.choose(chosen)? {
            let found = topic.as_ref().and_then(|topic| Some((topic, topic.mirror.as_ref()?)));
            let Some((topic, mirror)) = found else {
                results.push(refused(chosen.link.clone().unwrap_or_default(), &name, not_found(&name, chosen)));
                continue;
            };
            let before = flow.standing(mirror, &name);
            let is_orphan = self.state.link(&mirror.link).is_none();
            let judged = match before.on_action(action) {
                // Without its link, a mirror can only be failed over (and deleted).
                Ok(effect) if is_orphan && !is_left_to_orphans(effect) => Err(link_is_gone(mirror, &name)),
                Err(OutOfPlace::Failed) if is_orphan => Err(link_is_gone(mirror, &name)),
                judged => judged.map_err(|why| out_of_place(why, action, &name, mirror)),
            };
            match judged {
                Err(refusal) => results.push(refused(mirror.link.clone(), &name, refusal)),
                Ok(effect) => {
                    results.push(done(&self.mirror_view(topic, mirror, &flow)));
                    changes.push(Change {
                        topic: topic.clone(),
                        link: mirror.link.clone(),
                        before: mirror.status,
                        effect,
                    });
                }
            }
        }
        changes.retain(|change| change.effect != Effect::None);
        if !validate_only && !changes.is_empty() {
            self.carry_out(&turn, changes).await?;
        }
        Ok(Outcome::MirrorsAltered { results })
    }

    /// Names and what stands under them, each once. A link that was deleted is known by the mirrors that it left.
    fn choose(&self, chosen: &Chosen) -> Result<Vec<Named>, Refusal> {
        if let Some(link) = &chosen.link
            && self.mirrors_of(Some(link)).next().is_none()
        {
            self.link(link)?;
        }
        let live = || {
            let mirrors = self.mirrors_of(chosen.link.as_deref());
            mirrors.filter(|(_, mirror)| mirror.status != MirrorStatus::Stopped).map(|(topic, _)| topic)
        };
        let found = |topic: Arc<TopicRecord>| (topic.name.clone(), Some(topic));
        Ok(match &chosen.by {
            By::All => live().map(found).collect(),
            By::Pattern(pattern) => live().filter(|topic| pattern.is_match(&topic.name)).map(found).collect(),
            By::Names(names) => {
                let mut seen = BTreeSet::new();
                let is_meant = |topic: &Arc<TopicRecord>| {
                    let link = topic.mirror.as_ref().map(|mirror| &mirror.link);
                    link.is_some_and(|link| chosen.link.as_ref().is_none_or(|meant| meant == link))
                };
                let names = names.iter().filter(|name| seen.insert(name.as_str()));
                names.map(|name| (name.clone(), self.state.topic(name).filter(is_meant))).collect()
            }
        })
    }

    async fn carry_out(&self, turn: &Turn<'_>, changes: Vec<Change>) -> Result<(), Refusal> {
        let names: Vec<_> = changes.iter().map(|change| change.topic.name.clone()).collect();
        let effects: BTreeMap<_, _> =
            changes.iter().map(|change| (change.topic.name.clone(), (change.before, change.effect))).collect();
        let write = move |topic: &mut TopicRecord| {
            let (Some(mirror), Some((before, effect))) = (topic.mirror.as_mut(), effects.get(&topic.name)) else {
                return false;
            };
            // A dead end that came in between is not covered up.
            mirror.status == *before && apply(mirror, *effect)
        };
        let changed = persist(&self.state, move |state| state.update_topics(&names, write)).await;
        let changed = changed.map_err(|error| internal(&error))?;
        let mut by_link: BTreeMap<&str, BTreeMap<&str, Effect>> = BTreeMap::new();
        for change in &changes {
            by_link.entry(&change.link).or_default().insert(&change.topic.name, change.effect);
        }
        for (link, effects) in by_link {
            let with = |wanted: Effect| {
                let is_meant = |topic: &&Arc<TopicRecord>| effects.get(topic.name.as_str()) == Some(&wanted);
                changed.iter().filter(is_meant).cloned().collect::<Vec<_>>()
            };
            let names = |topics: Vec<Arc<TopicRecord>>| topics.into_iter().map(|t| t.name.clone()).collect::<Vec<_>>();
            self.links.set_mirrors_paused(link, &names(with(Effect::Becomes(MirrorStatus::Paused))), true).await;
            self.links.set_mirrors_paused(link, &names(with(Effect::Becomes(MirrorStatus::Active))), false).await;
            self.links.restart_mirrors(link, &with(Effect::Becomes(MirrorStatus::PendingMirror))).await;
            // What is paused is fetched to the end.
            self.links.set_mirrors_paused(link, &names(with(Effect::Stops(MirrorStop::Promote))), false).await;
            let failed_over = names(with(Effect::Stops(MirrorStop::Failover)));
            if !failed_over.is_empty() {
                self.promotions.stop(turn, link, failed_over).await;
            }
            self.promotions.attend(link);
        }
        Ok(())
    }
}

/// Writes `effect` into a record; whether it changes anything.
fn apply(mirror: &mut MirrorRecord, effect: Effect) -> bool {
    match effect {
        Effect::None => return false,
        Effect::Becomes(status) => {
            mirror.set_status(status, now_ms());
            mirror.error = None;
        }
        Effect::Stops(stop) => {
            mirror.set_status(MirrorStatus::PendingStopped, now_ms());
            mirror.stop = Some(stop);
        }
    }
    true
}

fn done(view: &MirrorView) -> AlteredMirror {
    AlteredMirror {
        link_name: view.link_name.clone(),
        mirror_topic_name: view.mirror_topic_name.clone(),
        error_code: None,
        error_message: None,
        mirror_lags: view.partitions.iter().map(MirrorLag::from).collect(),
    }
}

fn refused(link_name: String, name: &str, refusal: Refusal) -> AlteredMirror {
    AlteredMirror {
        link_name,
        mirror_topic_name: name.to_owned(),
        error_code: Some(refusal.code),
        error_message: Some(refusal.message),
        mirror_lags: Vec::new(),
    }
}

fn not_found(name: &str, chosen: &Chosen) -> Refusal {
    let place = chosen.link.as_ref().map(|link| format!(" on cluster link \"{link}\"")).unwrap_or_default();
    Refusal::new(RefusalCode::MirrorNotFound, format!("There is no mirror topic '{name}'{place}."))
}

fn is_left_to_orphans(effect: Effect) -> bool {
    matches!(effect, Effect::None | Effect::Stops(MirrorStop::Failover))
}

fn link_is_gone(mirror: &MirrorRecord, name: &str) -> Refusal {
    let link = &mirror.link;
    let message = format!(
        "Cluster link '{link}' of mirror topic '{name}' was deleted: failover makes the topic writable with what it holds."
    );
    Refusal::new(RefusalCode::LinkNotFound, message)
}

fn out_of_place(why: OutOfPlace, action: MirrorAction, name: &str, mirror: &MirrorRecord) -> Refusal {
    let link = &mirror.link;
    match why {
        OutOfPlace::Stopped => {
            let message = format!("Topic '{name}' has already stopped its mirror from '{link}'");
            Refusal::new(RefusalCode::MirrorStopped, message)
        }
        OutOfPlace::Stopping => {
            let message = format!("Topic '{name}' is stopping its mirror from '{link}': only failover is left to do.");
            Refusal::new(RefusalCode::MirrorStopping, message)
        }
        OutOfPlace::Failed => {
            let reason = mirror.error.as_deref().unwrap_or("see its partitions");
            let what = if action == MirrorAction::Promote { "promoted" } else { "paused" };
            let message = format!(
                "Topic '{name}' cannot be {what}: its mirror from '{link}' has failed ({reason}). Resume tries again; failover \
                 makes it writable with what it holds."
            );
            Refusal::new(RefusalCode::MirrorFailed, message)
        }
    }
}
