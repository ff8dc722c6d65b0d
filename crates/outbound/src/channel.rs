//! One channel from beginning to end: the local broker and the destination are dialled side by side, the ticket is
//! shown, and then bytes flow through the guard.

use crate::dial::open_link;
use crate::guard::Guard;
use crate::shared::Shared;
use crate::splice::{End, Splice};
use hawser_link::reversal::{ChannelFailure, LinkOpen, OpenAnswer, Refusal, RefusalCode};
use hawser_transport::HostPort;
use hawser_wire::NodeId;
use std::sync::Arc;

/// How a channel ended.
pub(crate) enum ChannelEnd {
    NotOpened(ChannelFailure),
    Closed(End),
}

/// Runs a channel. `opened` is awaited once the destination has accepted it. Cancelling closes both connections.
pub(crate) async fn run<F: Future<Output = ()>>(
    shared: &Shared,
    destination: HostPort,
    node: Option<NodeId>,
    open: LinkOpen,
    opened: impl FnOnce() -> F,
) -> ChannelEnd {
    let ours = |code, detail: String| ChannelEnd::NotOpened(ChannelFailure::Ours(Refusal::with(code, detail)));
    let local = async {
        let connected = shared.local.connect(node).await;
        connected.map_err(|error| match error.is_authentication() {
            true => (RefusalCode::LocalAuthentication, error.to_string()),
            false => (RefusalCode::LocalUnreachable, error.to_string()),
        })
    };
    let remote = async {
        let dialled = shared.remote.dial(&destination, shared.dial_timeout).await;
        dialled.map_err(|error| (RefusalCode::DialFailed, error.to_string()))
    };
    let (mut local, mut remote) = match tokio::try_join!(local, remote) {
        Ok(both) => both,
        Err((code, detail)) => return ours(code, detail),
    };
    match tokio::time::timeout(shared.dial_timeout, open_link(&mut remote, &open)).await {
        Ok(Ok(OpenAnswer::Accepted(_))) => {}
        Ok(Ok(OpenAnswer::Refused(refusal))) => {
            tracing::warn!(link = %shared.link, %refusal, "channel refused by the destination");
            return ChannelEnd::NotOpened(ChannelFailure::Refused);
        }
        Ok(Err(error)) => return ours(RefusalCode::DialFailed, error.to_string()),
        Err(_) => return ours(RefusalCode::DialFailed, "no answer to LinkOpen".to_owned()),
    }
    opened().await;
    let splice = Splice {
        guard: Guard::new(shared.policy.clone()),
        throttle: shared.throttle.clone(),
        counts: Arc::clone(&shared.counts),
        idle_max: shared.idle_max,
        retired: shared.retired.subscribe(),
        reauthentication: local.take_reauthentication(),
    };
    ChannelEnd::Closed(splice.run(remote, local).await)
}
