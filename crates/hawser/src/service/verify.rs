//! The operation that begins a comparison.

use super::views::Flow;
use super::{Service, unavailable};
use crate::operations::{Outcome, Refusal, RefusalCode};
use crate::verify::{Job, JobTopic, Standing};
use hawser_link::mirror::LinkSeen;
use hawser_state::{MirrorRecord, MirrorStatus};
use std::sync::Arc;
use std::time::Duration;

/// How long mirrors may stand still unless the caller says: longer than a source broker takes to restart.
const PATIENCE: Duration = Duration::from_secs(30);

impl Service {
    pub(super) fn verify_start(
        &self,
        link: &str,
        topics: &[String],
        follow: bool,
        timeout_ms: Option<u64>,
    ) -> Result<Outcome, Refusal> {
        self.link(link)?;
        let source =
            self.links.source(link).ok_or_else(|| unavailable(&format!("Cluster link \"{link}\" holds no mirrors")))?;
        let mirrors: Vec<_> = self.mirrors_of(Some(link)).collect();
        if let Some(missing) = topics.iter().find(|name| !mirrors.iter().any(|(topic, _)| topic.name == **name)) {
            let message = format!("There is no mirror topic '{missing}' on cluster link \"{link}\".");
            return Err(Refusal::new(RefusalCode::MirrorNotFound, message));
        }
        let flow = self.flow();
        let chosen = mirrors.into_iter().filter(|(topic, _)| topics.is_empty() || topics.contains(&topic.name));
        let topics: Vec<_> = chosen
            .map(|(topic, mirror)| {
                let standing = standing(&flow, &mirror, &topic.name);
                Arc::new(JobTopic { topic, mirror, standing })
            })
            .collect();
        if topics.is_empty() {
            let message = format!("Cluster link \"{link}\" has no mirror topics.");
            return Err(Refusal::new(RefusalCode::MirrorNotFound, message));
        }
        let patience = timeout_ms.map_or(PATIENCE, Duration::from_millis);
        let job = Job { source, logs: self.logs.clone(), topics, follow, patience };
        self.verifications.start(job).map(|verification| Outcome::VerifyStarted { verification })
    }
}

fn standing(flow: &Flow, mirror: &MirrorRecord, name: &str) -> Standing {
    match (flow.standing(mirror, name), flow.link(&mirror.link)) {
        _ if !mirror.stopped_at.is_empty() => Standing::Stopped,
        (MirrorStatus::Stopped, _) => Standing::Stopped,
        // It will hold no more than it does: somebody fails it over just now.
        _ if mirror.is_let_go() => Standing::Rests(flow.shown(mirror, name)),
        (MirrorStatus::Paused | MirrorStatus::Failed, _) | (_, LinkSeen::Paused) => {
            Standing::Rests(flow.shown(mirror, name))
        }
        (MirrorStatus::PendingMirror | MirrorStatus::Active | MirrorStatus::PendingStopped, _) => Standing::Follows,
    }
}
