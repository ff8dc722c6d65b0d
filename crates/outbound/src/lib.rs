#![forbid(unsafe_code)]
//! The source half of a link, beside the cluster that it lends: dials out to the destination, keeps the control channel,
//! brings channels when it is asked to, and lets through what the guard allows. Nothing here listens.
//!
//! Which file decides: `guard` what the destination may ask, `sessions` which fetch sessions it may continue, `policy`
//! which topics may leave, `splice` how bytes flow, `hawser_link::reversal` everything about connections.

mod channel;
mod config;
mod control;
mod dial;
mod guard;
mod local;
mod pass;
mod policy;
mod refuse;
mod rewrite;
mod sessions;
mod shared;
mod splice;
mod status;
mod supervise;
mod throttle;

pub use config::OutboundConfig;
pub use guard::versions as guarded_versions;
pub use status::{Cause, OutboundState, OutboundStatus};

use hawser_link::reversal::RefusalCode;
use shared::Shared;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// How long requests on the channels of a half that is replaced may take to be answered: a long poll of a fetch, and more.
const RETIRE_MAX: Duration = Duration::from_secs(10);

/// A running source half. Dropping it ends the half at once, without a goodbye.
#[derive(Debug)]
pub struct Outbound {
    status: watch::Receiver<OutboundStatus>,
    stop: Option<oneshot::Sender<RefusalCode>>,
    task: JoinHandle<()>,
    shared: Arc<Shared>,
}

impl Outbound {
    /// Starts a half on the current tokio runtime. It goes on by itself through every failure until it is stopped.
    pub fn spawn(config: OutboundConfig) -> Self {
        let (sender, status) = watch::channel(OutboundStatus::default());
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::new(config.into_shared());
        let task = tokio::spawn(supervise::run(Arc::clone(&shared), sender, stopped));
        Self { status, stop: Some(stop), task, shared }
    }

    /// How it stands now.
    pub fn status(&self) -> OutboundStatus {
        let mut status = self.status.borrow().clone();
        status.count(&self.shared.counts);
        status
    }

    /// Changes of the state. Counters in it are those of the last change.
    pub fn watch(&self) -> watch::Receiver<OutboundStatus> {
        self.status.clone()
    }

    /// Ends a half that another one of the same member and epoch has superseded: its channels take no more requests and
    /// close once the last is answered, so that nobody waits for an answer in vain. Takes at most `RETIRE_MAX` and what
    /// [`stop`](Self::stop) takes.
    pub async fn retire(self) {
        self.shared.retired.send_replace(true);
        let mut status = self.status.clone();
        let closed = status.wait_for(|status| status.channels_open == 0);
        let _ = tokio::time::timeout(RETIRE_MAX, closed).await;
        self.stop(RefusalCode::Superseded).await;
    }

    /// Says goodbye to the destination with `reason` (`Stopping`, or `SourceHalfDeleted`), and ends. Takes at most about
    /// half a second.
    pub async fn stop(mut self, reason: RefusalCode) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(reason);
        }
        let _ = (&mut self.task).await;
    }
}

impl Drop for Outbound {
    fn drop(&mut self) {
        self.task.abort();
    }
}
