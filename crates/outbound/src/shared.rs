//! What every task of one half reads.

use crate::local::LocalCluster;
use crate::policy::Policy;
use crate::splice::Counts;
use crate::throttle::Throttle;
use hawser_link::LinkName;
use hawser_link::reversal::{Backoff, MemberId};
use hawser_transport::{ClientSecurity, HostPort};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) link: LinkName,
    pub(crate) member: MemberId,
    pub(crate) epoch: i64,
    pub(crate) destination_cluster_id: Option<String>,
    pub(crate) remote: ClientSecurity,
    pub(crate) remote_bootstrap: Vec<HostPort>,
    pub(crate) local: LocalCluster,
    pub(crate) policy: Option<Arc<Policy>>,
    pub(crate) throttle: Option<Arc<Throttle>>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) backoff: Backoff,
    /// Of one dial.
    pub(crate) dial_timeout: Duration,
    /// Of one attempt over all addresses.
    pub(crate) setup_timeout: Duration,
    pub(crate) idle_max: Duration,
    pub(crate) metadata_max_age: Duration,
    pub(crate) channels_max: usize,
    pub(crate) trial: bool,
    /// Whether another half has taken over: channels end between two requests.
    pub(crate) retired: watch::Sender<bool>,
}
