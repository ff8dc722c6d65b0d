//! The operation that begins a comparison.

use super::{Service, unavailable};
use crate::operations::{Outcome, Refusal, RefusalCode};
use crate::verify::{Job, JobTopic};
use hawser_link::config::StartOffset;
use hawser_state::MirrorStatus;

impl Service {
    pub(super) fn verify_start(&self, link: &str, topics: &[String], follow: bool) -> Result<Outcome, Refusal> {
        self.link(link)?;
        let source =
            self.links.source(link).ok_or_else(|| unavailable(&format!("Cluster link \"{link}\" holds no mirrors")))?;
        let mirrors: Vec<_> = self.mirrors_of(Some(link)).collect();
        if let Some(missing) = topics.iter().find(|name| !mirrors.iter().any(|(topic, _)| topic.name == **name)) {
            let message = format!("There is no mirror topic '{missing}' on cluster link \"{link}\".");
            return Err(Refusal::new(RefusalCode::MirrorNotFound, message));
        }
        let chosen = mirrors.into_iter().filter(|(topic, _)| topics.is_empty() || topics.contains(&topic.name));
        let topics: Vec<_> = chosen
            .map(|(topic, mirror)| JobTopic {
                mirror: topic.name.clone(),
                source: mirror.source_topic,
                source_id: mirror.source_topic_id,
                partitions: topic.partitions,
                follows: mirror.status != MirrorStatus::Stopped,
                is_whole: StartOffset::parse(&mirror.start_offset_spec) == Some(StartOffset::Earliest),
            })
            .collect();
        if topics.is_empty() {
            let message = format!("Cluster link \"{link}\" has no mirror topics.");
            return Err(Refusal::new(RefusalCode::MirrorNotFound, message));
        }
        let job = Job { source, logs: self.logs.clone(), topics, follow };
        self.verifications.start(job).map(|verification| Outcome::VerifyStarted { verification })
    }
}
