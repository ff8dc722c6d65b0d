//! Leases: a wish for a channel, and the client that comes of it.

use crate::Shared;
use crate::task::{Handle, Message};
use hawser_link::LinkName;
use hawser_link::reversal::{DestinationEvent, LeaseFailure, LeaseId};
use hawser_transport::{Connector, KafkaClient, LeaseError, Target};
use hawser_wire::NodeId;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::oneshot;

/// Numbers of leases, unique in the process.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// Leases clients over the reversed connections of one link.
pub(crate) struct Reversed {
    shared: Arc<Shared>,
    link: LinkName,
}

/// Takes a wish back when nobody waits for it any more.
struct Wish {
    handle: Handle,
    lease: LeaseId,
    fulfilled: bool,
}

impl Reversed {
    pub(crate) fn new(shared: Arc<Shared>, link: LinkName) -> Self {
        Self { shared, link }
    }

    async fn lease(&self, node: Option<NodeId>) -> Result<KafkaClient, LeaseError> {
        let handle = self.shared.handle(&self.link).map_err(|refusal| LeaseError::Unavailable(refusal.text))?;
        let lease = LeaseId(NEXT.fetch_add(1, Ordering::Relaxed));
        let (reply, answer) = oneshot::channel();
        let mut wish = Wish { handle: handle.clone(), lease, fulfilled: false };
        let gone = || LeaseError::Unavailable("the link has ended".to_owned());
        handle.send(Message::Lease { lease, node, reply }).await.map_err(|_| gone())?;
        let answer = answer.await.map_err(|_| gone())?;
        wish.fulfilled = true;
        answer.map_err(|failure| match (failure, node) {
            (LeaseFailure::Node(reason), Some(node)) => LeaseError::Node { node, reason },
            (LeaseFailure::Node(reason) | LeaseFailure::Unavailable(reason), _) => LeaseError::Unavailable(reason),
            (LeaseFailure::Authentication(reason), _) => LeaseError::Authentication(reason),
        })
    }
}

impl Connector for Reversed {
    fn lease(&self, to: Target) -> Pin<Box<dyn Future<Output = Result<KafkaClient, LeaseError>> + Send + '_>> {
        Box::pin(self.lease(match to {
            Target::Any => None,
            Target::Node(node) => Some(node),
        }))
    }
}

impl Drop for Wish {
    fn drop(&mut self) {
        if !self.fulfilled {
            // Should the inbox be full, the wish ends by its own deadline.
            let _ = self.handle.offer(Message::Event(DestinationEvent::Dropped { lease: self.lease }));
        }
    }
}
