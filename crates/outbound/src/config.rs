//! What a source half is made of, read from its properties.

use crate::local::LocalCluster;
use crate::policy::Policy;
use crate::shared::Shared;
use crate::splice::Counts;
use crate::throttle::Throttle;
use hawser_link::reversal::{Backoff, MemberId};
use hawser_link::{ConfigError, ConfigErrors, LinkConfig, LinkName, Properties, TopicFilters, catalogue};
use hawser_transport::{ClientSecurity, HostPort};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;
use uuid::Uuid;

/// A source half. Its `Debug` shows no secret.
#[derive(Clone, Debug)]
pub struct OutboundConfig {
    /// The link's name.
    pub link: LinkName,
    /// This daemon.
    pub member: Uuid,
    /// Its number of starts.
    pub epoch: i64,
    /// The local cluster's id, if it is pinned already.
    pub source_cluster_id: Option<String>,
    /// The destination's cluster id, if it was given.
    pub destination_cluster_id: Option<String>,
    /// Which topics may leave this site over any link; `None`: the link's own configuration decides.
    pub site_topics: Option<TopicFilters>,
    /// Whether this half only finds out if the link would open, and binds nothing to its cluster.
    pub trial: bool,
    /// The link's configuration.
    pub config: LinkConfig,
    /// Where the destination is.
    pub remote_bootstrap: Vec<HostPort>,
    /// How to log in there.
    pub remote: ClientSecurity,
    /// Where the local cluster is.
    pub local_bootstrap: Vec<HostPort>,
    /// How to log in there; never crosses the link.
    pub local: ClientSecurity,
}

impl OutboundConfig {
    /// Reads a source half. `beside` is the local cluster's address when the properties name none
    /// (`local.bootstrap.servers`). Warnings come with it.
    ///
    /// # Errors
    /// Every error of link, both logins and addresses at once.
    pub fn from_properties(
        link: LinkName,
        member: Uuid,
        epoch: i64,
        properties: &Properties,
        beside: &[HostPort],
    ) -> Result<(Self, Vec<ConfigError>), ConfigErrors> {
        let mut errors = Vec::new();
        let mut collect = |result: ConfigErrors| errors.extend(result.0);
        let parsed = LinkConfig::parse(properties).map_err(&mut collect).ok();
        let known = catalogue::without_jvm(properties);
        let remote = ClientSecurity::from_properties(&known).map_err(&mut collect).ok();
        let local = ClientSecurity::from_properties(&known.with_prefix("local.")).map_err(|found| {
            let with_prefix = |error: ConfigError| ConfigError { key: format!("local.{}", error.key), ..error };
            collect(ConfigErrors(found.0.into_iter().map(with_prefix).collect()));
        });
        let mut servers = |name: &str, texts: &[String]| {
            let parse = |text: &String| {
                text.parse::<HostPort>().map_err(|error| errors.push(properties.error(name, error.to_string()))).ok()
            };
            texts.iter().filter_map(parse).collect::<Vec<_>>()
        };
        let (mut remote_bootstrap, mut local_bootstrap) = (Vec::new(), Vec::new());
        if let Some(parsed) = &parsed {
            remote_bootstrap = servers("bootstrap.servers", &parsed.config.bootstrap_servers);
            local_bootstrap = servers("local.bootstrap.servers", &parsed.config.lends.bootstrap_servers);
            if parsed.config.lends.bootstrap_servers.is_empty() {
                local_bootstrap = beside.to_vec();
            }
            if !parsed.config.half.lends_local() {
                errors
                    .push(properties.error("link.mode", "is not SOURCE: this daemon can only run a source half here"));
            }
            if parsed.config.lends.bootstrap_servers.is_empty() && beside.is_empty() {
                let message = "is needed, as this daemon stands beside no cluster: to lend topics of its own store, name \
                               one of its own listeners";
                errors.push(properties.error("local.bootstrap.servers", message));
            }
        }
        match (parsed, remote, local) {
            (Some(parsed), Some(remote), Ok(local)) if errors.is_empty() => Ok((
                Self {
                    link,
                    member,
                    epoch,
                    source_cluster_id: None,
                    destination_cluster_id: None,
                    site_topics: None,
                    trial: false,
                    config: parsed.config,
                    remote_bootstrap,
                    remote,
                    local_bootstrap,
                    local,
                },
                parsed.warnings,
            )),
            _ => Err(ConfigErrors(errors)),
        }
    }

    pub(crate) fn into_shared(self) -> Shared {
        let (connection, lends) = (&self.config.connection, &self.config.lends);
        let policy = Policy::of_all(self.site_topics.into_iter().chain(lends.topics.clone())).map(Arc::new);
        let throttle = lends.bytes_per_second.map(|rate| Arc::new(Throttle::new(rate, Instant::now())));
        let dial_timeout = connection.setup_timeout;
        let local = LocalCluster::new(
            self.link.clone(),
            self.local_bootstrap,
            self.local,
            dial_timeout,
            connection.request_timeout,
            connection.api_timeout,
            policy.clone(),
            self.source_cluster_id,
        );
        Shared {
            counts: Arc::new(Counts::new(self.link.as_str())),
            member: MemberId(self.member),
            epoch: self.epoch,
            destination_cluster_id: self.destination_cluster_id,
            remote: self.remote,
            remote_bootstrap: self.remote_bootstrap,
            local,
            policy,
            throttle,
            backoff: Backoff::new(connection.reconnect_backoff, connection.reconnect_backoff_max),
            dial_timeout,
            setup_timeout: connection.setup_timeout_max,
            idle_max: connection.idle_max,
            metadata_max_age: connection.metadata_max_age,
            channels_max: lends.channels_max,
            trial: self.trial,
            retired: watch::Sender::new(false),
            link: self.link,
        }
    }
}
