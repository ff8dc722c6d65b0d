//! `hawser mirror …`.

use super::{Exit, ask, inline_or_file, print, unexpected};
use crate::cli::{Alter, Mirror, StateTransitionError};
use crate::operations::{Absent, MirrorAction, Operation, Outcome};
use crate::output::{self, StateTransitionErrorRow};
use std::collections::BTreeMap;

/// `hawser mirror …`.
///
/// # Errors
/// Refusals and failures, for the user to read.
pub(crate) async fn mirror(command: Mirror) -> anyhow::Result<Exit> {
    match command {
        Mirror::Create { topic, link, source_topic, config, replication_factor, mirror_start_offset_spec, connect } => {
            let mut configs = BTreeMap::new();
            for text in &config {
                configs.extend(inline_or_file(text)?);
            }
            let operation = Operation::MirrorCreate {
                link,
                mirror_topic: Some(topic.clone()),
                source_topic,
                configs,
                replication_factor,
                mirror_start_offset_spec,
            };
            let Outcome::MirrorCreated(view) = ask(&connect.login, &operation).await? else { return unexpected() };
            print(&output::show(connect.output, &view, |_| format!("Created mirror topic \"{topic}\".")));
        }
        Mirror::List { link, mirror_status, connect } => {
            let operation = Operation::MirrorList { link, partitions: false };
            let Outcome::Mirrors { mut mirrors } = ask(&connect.login, &operation).await? else { return unexpected() };
            if let Some(status) = mirror_status {
                mirrors.retain(|m| m.mirror_status.eq_ignore_ascii_case(&status));
            }
            print(&output::show(connect.output, &mirrors, |m| output::mirrors(m)));
        }
        Mirror::Describe { topic, link, connect } => {
            let operation = Operation::MirrorDescribe { mirror_topic: topic, link };
            let Outcome::Mirror(view) = ask(&connect.login, &operation).await? else { return unexpected() };
            print(&output::show(connect.output, &view, output::mirror));
        }
        Mirror::Promote(which) => return alter(MirrorAction::Promote, which).await,
        Mirror::Failover(which) => return alter(MirrorAction::Failover, which).await,
        Mirror::Pause(which) => return alter(MirrorAction::Pause, which).await,
        Mirror::Resume(which) => return alter(MirrorAction::Resume, which).await,
        Mirror::StateTransitionError(StateTransitionError::List { topic, link, connect }) => {
            let operation = Operation::MirrorDescribe { mirror_topic: topic, link };
            let Outcome::Mirror(view) = ask(&connect.login, &operation).await? else { return unexpected() };
            let errors: Vec<_> = view.waits_for.iter().map(StateTransitionErrorRow::from).collect();
            print(&output::show(connect.output, &errors, |e| output::state_transition_errors(e)));
        }
        Mirror::ReverseAndStart(_) => return Err(Absent::ReverseAndStart.refusal().into()),
        Mirror::ReverseAndPause(_) => return Err(Absent::ReverseAndPause.refusal().into()),
        Mirror::TruncateAndRestore { .. } => return Err(Absent::TruncateAndRestore.refusal().into()),
    }
    Ok(Exit::Done)
}

/// Fails when one of the mirrors does; the others are changed all the same.
async fn alter(action: MirrorAction, which: Alter) -> anyhow::Result<Exit> {
    let Alter { topics, pattern, link, dry_run, connect } = which;
    let operation = Operation::MirrorAlter { link: Some(link), action, topics, pattern, validate_only: dry_run };
    let Outcome::MirrorsAltered { results } = ask(&connect.login, &operation).await? else { return unexpected() };
    print(&output::show(connect.output, &results, |r| output::altered_mirrors(r)));
    Ok(if results.iter().any(|result| result.error_code.is_some()) { Exit::Failed } else { Exit::Done })
}
