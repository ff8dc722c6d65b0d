//! New settings for a link that runs. What they need is made and tried beside the old before anything is changed, and
//! takes its place afterwards: a link that works goes on working, or the change is refused.
//!
//! A source half is made anew, in the same life (`epoch`): its control connection supersedes the old one, the channels of
//! the old half stay until the requests on them are answered, and fetchers lease new ones. A half that holds mirrors keeps
//! its replicator: a pause is told to it, other settings make it open its fetchers anew where the copies end.

use super::{CHECK_TIMEOUT, Destination, Links, Running, Source, StartError, end, is_replicated, opened, reached};
use crate::lock::lock;
use crate::service::link_properties;
use hawser_link::catalogue::{self, Effect};
use hawser_link::reversal::RefusalCode;
use hawser_link::{LinkConfig, Properties};
use hawser_outbound::OutboundState;
use hawser_replicate::ReplicateConfig;
use hawser_state::{LinkRecord, MirrorStatus};
use hawser_transport::{Connector, KafkaClient};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What stands ready to take the place of what runs. To be [applied](Links::apply) or [dropped](Links::give_up).
pub(crate) enum Prepared {
    /// Nothing that runs is concerned.
    Nothing,
    /// It does not run: it is to be started.
    Start,
    /// A source half beside the one that it is to replace.
    Source(Box<Source>),
    Destination {
        is_paused: bool,
        engine: Option<Box<Engine>>,
    },
}

/// What the replicator is to go on with.
pub(crate) struct Engine {
    config: ReplicateConfig,
    connector: Arc<dyn Connector>,
    /// That shows that the connector works, if it is a new one.
    client: Option<KafkaClient>,
}

/// What is asked of a running link before its change.
enum Now {
    Source { epoch: i64, is_open: bool },
    Destination { connector: Arc<dyn Connector>, is_reached: bool },
    Broken,
}

impl Links {
    /// Makes ready what `record`, the link with its new settings, needs; `changed` are the names of those that differ. Where
    /// neither the old nor the new ones were seen to work: also why.
    ///
    /// # Errors
    /// Wrong settings; or the new ones do not work while the old ones do. Everything is as before then.
    pub(crate) async fn prepare(
        &self,
        record: &LinkRecord,
        changed: &BTreeSet<String>,
    ) -> Result<(Prepared, Option<StartError>), StartError> {
        let effects: BTreeSet<_> = changed.iter().map(|name| catalogue::effect(name)).collect();
        let concerns_it = effects.iter().any(|effect| *effect != Effect::WhenUsed);
        let now = match lock(&self.running).get(&record.name) {
            _ if !concerns_it => return Ok((Prepared::Nothing, None)),
            Some(Running::Source(source)) => {
                Now::Source { epoch: source.epoch, is_open: source.outbound.status().state == OutboundState::Open }
            }
            Some(Running::Destination(destination)) => Now::Destination {
                connector: destination.connector.clone(),
                is_reached: destination.replicator.unreachable().is_none(),
            },
            Some(Running::Broken(_)) | None => Now::Broken,
        };
        let properties = link_properties(&record.name, &record.configs.0);
        let config = LinkConfig::parse(&properties)?.config;
        match now {
            Now::Broken => {
                let untried = StartError::Unavailable("the link was not running, and is started with them".to_owned());
                Ok((Prepared::Start, Some(untried)))
            }
            Now::Source { epoch, is_open } => self.prepare_source(record, properties, epoch, is_open).await,
            Now::Destination { connector, is_reached } => {
                let is_paused = config.mirrors.paused;
                if effects.iter().all(|effect| matches!(effect, Effect::Pause | Effect::WhenUsed)) {
                    return Ok((Prepared::Destination { is_paused, engine: None }, None));
                }
                let is_rerouted = effects.contains(&Effect::Connection);
                let old = (!is_rerouted).then_some(connector);
                let (engine, untried) = self.prepare_engine(record, &properties, &config, old, is_reached).await?;
                Ok((Prepared::Destination { is_paused, engine: Some(Box::new(engine)) }, untried))
            }
        }
    }

    async fn prepare_source(
        &self,
        record: &LinkRecord,
        properties: Properties,
        epoch: i64,
        is_open: bool,
    ) -> Result<(Prepared, Option<StartError>), StartError> {
        let fresh = self.launch_source(record, properties, epoch, false)?;
        let opened = tokio::time::timeout(CHECK_TIMEOUT, opened(&fresh.outbound)).await;
        let error = match opened {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(error),
            Err(_) => Some(StartError::Unavailable("the destination did not answer in time".to_owned())),
        };
        match error {
            Some(error) if is_open => {
                fresh.outbound.stop(RefusalCode::Stopping).await;
                Err(worse(&error))
            }
            untried => Ok((Prepared::Source(Box::new(fresh)), untried)),
        }
    }

    /// `old`: the connector, if it can stay.
    async fn prepare_engine(
        &self,
        record: &LinkRecord,
        properties: &Properties,
        config: &LinkConfig,
        old: Option<Arc<dyn Connector>>,
        is_reached: bool,
    ) -> Result<(Engine, Option<StartError>), StartError> {
        let replicate = self.replicate_config(record, config);
        if let Some(connector) = old {
            return Ok((Engine { config: replicate, connector, client: None }, None));
        }
        let connector = self.connector(record, properties, config)?;
        if !config.half.dials() {
            // Nobody but the other half can dial.
            return Ok((Engine { config: replicate, connector, client: None }, None));
        }
        let (client, untried) = match reached(&connector, record.remote_cluster_id.as_deref()).await {
            Ok((client, _)) => (Some(client), None),
            Err(error @ (StartError::Unavailable(_) | StartError::LoginRefused(_))) if !is_reached => {
                (None, Some(error))
            }
            Err(error) => return Err(worse(&error)),
        };
        Ok((Engine { config: replicate, connector, client }, untried))
    }

    /// Puts `prepared` in the place of what runs; `record` is in the state.
    pub(crate) async fn apply(&self, record: &LinkRecord, prepared: Prepared) {
        match prepared {
            Prepared::Nothing => {}
            Prepared::Start => {
                let broken = lock(&self.running).remove(&record.name);
                if let Some(broken) = broken {
                    end(broken, RefusalCode::Stopping).await;
                }
                self.begin(record).await;
            }
            Prepared::Source(fresh) => {
                let old = lock(&self.running).insert(record.name.clone(), Running::Source(*fresh));
                match old {
                    // Beside everything else: its channels may take a while.
                    Some(Running::Source(old)) => drop(tokio::spawn(old.outbound.retire())),
                    Some(old) => end(old, RefusalCode::Stopping).await,
                    None => {}
                }
            }
            Prepared::Destination { is_paused, engine } => {
                if let Some(engine) = engine {
                    self.reconfigure(&record.name, *engine).await;
                }
                self.pause(&record.name, is_paused).await;
            }
        }
    }

    /// Ends what was prepared for a link; `record` is what the state holds of it, if it was not deleted.
    pub(crate) async fn give_up(&self, record: Option<&LinkRecord>, prepared: Prepared) {
        if let Prepared::Source(fresh) = prepared {
            fresh.outbound.stop(RefusalCode::Stopping).await;
            // It has superseded the one that runs, which would stay away for a minute.
            if let Some(record) = record {
                self.apply(record, Prepared::Start).await;
            }
        }
    }

    async fn reconfigure(&self, name: &str, engine: Engine) {
        let Engine { config, connector, client } = engine;
        let replicator = match lock(&self.running).get_mut(name) {
            Some(Running::Destination(destination)) => {
                destination.connector = connector.clone();
                destination.replicator.clone()
            }
            Some(Running::Source(_) | Running::Broken(_)) | None => return,
        };
        // A replicator that has ended shows it.
        let _ = replicator.configure(config, connector).await;
        if let Some(client) = client {
            let _ = replicator.lend(client).await;
        }
    }

    async fn pause(&self, name: &str, is_paused: bool) {
        let replicator = match lock(&self.running).get_mut(name) {
            Some(Running::Destination(Destination { is_paused: was_paused, replicator, .. })) => {
                if *was_paused == is_paused {
                    return;
                }
                *was_paused = is_paused;
                replicator.clone()
            }
            Some(Running::Source(_) | Running::Broken(_)) | None => return,
        };
        for topic in self.state.topics() {
            let Some(mirror) = topic.mirror.as_ref().filter(|mirror| mirror.link == name && is_replicated(mirror))
            else {
                continue;
            };
            // A replicator that has ended shows it.
            let _ = match is_paused || mirror.status == MirrorStatus::Paused {
                true => replicator.pause(&topic.name).await,
                false => replicator.resume(&topic.name).await,
            };
        }
    }
}

/// Why the new settings are not taken, when the old ones work.
fn worse(error: &StartError) -> StartError {
    let message = format!("nothing was changed, as the link works and with these settings it would not: {error}");
    match error {
        StartError::Config(_) | StartError::Refused(_) => StartError::Refused(message),
        StartError::NoSuchRemoteLink(_) => StartError::NoSuchRemoteLink(message),
        StartError::LoginRefused(_) => StartError::LoginRefused(message),
        StartError::Unavailable(_) => StartError::Unavailable(message),
    }
}
