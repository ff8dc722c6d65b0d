//! The audit log (target `audit`): who asked for what, and what came of it, in a line for each thing that was asked for. What
//! was refused or only tried out is never called done. Settings are not in it: they hold secrets.

use crate::operations::{MirrorAction, Operation, Outcome, Refusal, RefusalCode, Right};
use hawser_transport::Principal;

/// Of a subject or a reason, in characters: callers choose names, and a refusal of settings repeats every wrong one.
const TEXT_MAX: usize = 512;

/// An operation, as far as the log tells of it.
pub(super) struct Entry {
    operation: &'static str,
    subject: String,
    right: Right,
    /// What becomes of it when nothing is refused.
    success: Verdict,
}

/// What came of one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Done,
    /// Written down; that it is done is told when it is (`promotions.rs`).
    Accepted,
    /// It could be done, and was not.
    DryRun,
    /// It was for whatever a pattern or a link has, and that is nothing.
    Nothing,
    Refused(RefusalCode, String),
}

impl Entry {
    /// Before it is done.
    pub(super) fn new(operation: &Operation) -> Self {
        let success = match operation {
            _ if operation.is_dry_run() => Verdict::DryRun,
            Operation::MirrorAlter { action: MirrorAction::Promote | MirrorAction::Failover, .. } => Verdict::Accepted,
            _ => Verdict::Done,
        };
        Self { operation: operation.name(), subject: operation.subject(), right: operation.right(), success }
    }

    /// Once `principal` has its answer.
    pub(super) fn write(self, principal: &Principal, result: &Result<Outcome, Refusal>) {
        let (principal, operation, right) = (principal.as_str(), self.operation, self.right);
        for (subject, verdict) in self.lines(result) {
            match verdict {
                Verdict::Done if right == Right::Describe => {
                    tracing::debug!(target: "audit", principal, operation, subject, "done");
                }
                Verdict::Done => tracing::info!(target: "audit", principal, operation, subject, "done"),
                Verdict::Accepted => tracing::info!(target: "audit", principal, operation, subject, "accepted"),
                Verdict::DryRun => tracing::info!(target: "audit", principal, operation, subject, "dry run"),
                Verdict::Nothing => tracing::info!(target: "audit", principal, operation, subject, "nothing to do"),
                Verdict::Refused(code, reason) => {
                    tracing::warn!(target: "audit", principal, operation, subject, ?code, reason, "refused");
                }
            }
        }
    }

    /// What was asked about, and what came of it.
    fn lines(self, result: &Result<Outcome, Refusal>) -> Vec<(String, Verdict)> {
        let refused = |code, reason: &str| Verdict::Refused(code, short(reason));
        match result {
            Err(Refusal { code, message }) => vec![(short(&self.subject), refused(*code, message))],
            Ok(Outcome::MirrorsAltered { results }) if results.is_empty() => {
                vec![(short(&self.subject), Verdict::Nothing)]
            }
            Ok(Outcome::MirrorsAltered { results }) => results
                .iter()
                .map(|item| {
                    let reason = item.error_message.as_deref().unwrap_or_default();
                    let verdict = item.error_code.map_or(self.success.clone(), |code| refused(code, reason));
                    let link = if item.link_name.is_empty() { "-" } else { &item.link_name };
                    (short(&format!("{link}/{}", item.mirror_topic_name)), verdict)
                })
                .collect(),
            Ok(Outcome::MirrorCreated(view)) => {
                vec![(format!("{}/{}", view.link_name, view.mirror_topic_name), self.success)]
            }
            Ok(_) => vec![(self.subject, self.success)],
        }
    }
}

fn short(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::{AlteredMirror, samples};
    use std::collections::BTreeMap;

    fn lines(operation: &Operation, result: &Result<Outcome, Refusal>) -> Vec<(String, Verdict)> {
        Entry::new(operation).lines(result)
    }

    fn item(name: &str, error: Option<(RefusalCode, &str)>) -> AlteredMirror {
        AlteredMirror {
            link_name: "l".to_owned(),
            mirror_topic_name: name.to_owned(),
            error_code: error.map(|(code, _)| code),
            error_message: error.map(|(_, message)| message.to_owned()),
            mirror_lags: Vec::new(),
        }
    }

    #[test]
    fn every_item_says_what_came_of_it() {
        let alter = |action, validate_only| Operation::MirrorAlter {
            link: Some("l".to_owned()),
            action,
            topics: Vec::new(),
            pattern: Some(".*".to_owned()),
            validate_only,
        };
        let gone = Verdict::Refused(RefusalCode::MirrorNotFound, "there is none".to_owned());
        let results = vec![item("a", None), item("b", Some((RefusalCode::MirrorNotFound, "there is none")))];
        let outcome = Ok(Outcome::MirrorsAltered { results });
        for (action, validate_only, success) in [
            (MirrorAction::Pause, false, Verdict::Done),
            (MirrorAction::Resume, false, Verdict::Done),
            (MirrorAction::Promote, false, Verdict::Accepted),
            (MirrorAction::Failover, false, Verdict::Accepted),
            (MirrorAction::Pause, true, Verdict::DryRun),
            (MirrorAction::Promote, true, Verdict::DryRun),
        ] {
            let expected = vec![("l/a".to_owned(), success), ("l/b".to_owned(), gone.clone())];
            assert_eq!(lines(&alter(action, validate_only), &outcome), expected, "{action:?} {validate_only}");
        }
        // What a pattern does not find is not done.
        let none = Ok(Outcome::MirrorsAltered { results: Vec::new() });
        assert_eq!(lines(&alter(MirrorAction::Pause, false), &none), [("l/.*".to_owned(), Verdict::Nothing)]);
    }

    #[test]
    fn what_is_only_tried_out_is_not_done() {
        let create = |validate_only| Operation::LinkCreate {
            link: "l".to_owned(),
            configs: BTreeMap::new(),
            remote: None,
            validate_only,
            skip_remote_check: false,
        };
        let alter =
            |validate_only| Operation::LinkAlterConfigs { link: "l".to_owned(), changes: Vec::new(), validate_only };
        let delete = |validate_only| Operation::LinkDelete { link: "l".to_owned(), force: true, validate_only };
        for (is_dry_run, expected) in [(false, Verdict::Done), (true, Verdict::DryRun)] {
            for operation in [create(is_dry_run), alter(is_dry_run), delete(is_dry_run)] {
                let shown = lines(&operation, &Ok(Outcome::LinkDeleted));
                assert_eq!(shown, [("l".to_owned(), expected.clone())], "{operation:?}");
                let refused = lines(&operation, &Err(Refusal::new(RefusalCode::LinkNotFound, "x".repeat(9_000))));
                let reason = Verdict::Refused(RefusalCode::LinkNotFound, "x".repeat(TEXT_MAX));
                assert_eq!(refused, [("l".to_owned(), reason)], "{operation:?}");
            }
        }
    }

    #[test]
    fn a_mirror_that_was_made_stands_there_by_its_name() {
        let create = Operation::MirrorCreate {
            link: "from-on-prem-link".to_owned(),
            mirror_topic: None,
            source_topic: Some("source".to_owned()),
            configs: BTreeMap::new(),
            replication_factor: None,
            mirror_start_offset_spec: None,
        };
        let made = lines(&create, &Ok(Outcome::MirrorCreated(samples::mirror())));
        assert_eq!(made, [("from-on-prem-link/from-on-prem".to_owned(), Verdict::Done)]);
    }
}
