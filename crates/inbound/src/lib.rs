#![forbid(unsafe_code)]
//! The destination half's acceptor. The broker's connection loop hands over every `LinkOpen` request with its
//! connection; here it is matched to a link, answered or refused by name, and becomes a control connection or a channel.
//! [`Inbound::connector`] then leases ordinary clients to the source's brokers: nothing above learns who dialled.
//!
//! Every decision is [`hawser_link::reversal::DestinationLink`]'s; `task` is its shell, one task a link.

mod connection;
mod connector;
mod directory;
mod status;
mod task;

pub use directory::{BoxFuture, LinkDirectory, LinkFacts};
pub use status::InboundStatus;

use connector::Reversed;
use hawser_link::reversal::{LinkOpen, OpenAnswer, PROTOCOL_VERSION, Refusal, RefusalCode};
use hawser_link::{Half, LinkName, RefusalLog};
use hawser_transport::{Connector, ServerConnection};
use hawser_wire::RequestFrame;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use task::{Handle, Message};
use tokio::sync::Semaphore;

/// Connections that are being refused at once; above it they are closed without a word.
const REFUSING_MAX: usize = 256;

/// How often both sides beat, and how many beats may be missed. By default a silent half counts as dead after three
/// seconds: a link is to flow again within five of its repair, and what follows the finding (a wait of 60 ms at most, a
/// dial, two logins, a lease) needs a second. TCP itself sends a lost segment again three times in 1.4 seconds, so a lost
/// packet or two are no death; a process that stands still for three seconds is treated as what it looks like.
#[derive(Clone, Debug)]
pub struct InboundOptions {
    /// Told to every member.
    pub beat_interval: Duration,
    /// Told to every member.
    pub beats_missed_max: u8,
    /// How long a member that was asked for a channel is waited for before another one is asked beside it. How long a
    /// channel may take to open is the lease's ([`LinkFacts::lease_timeout`]).
    pub ask_next_after: Duration,
}

/// All destination halves of this daemon that wait for source halves. Cheap to clone.
#[derive(Clone)]
pub struct Inbound {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    directory: Arc<dyn LinkDirectory>,
    options: InboundOptions,
    links: Mutex<HashMap<LinkName, Handle>>,
    refusing: Arc<Semaphore>,
    log: Mutex<RefusalLog<RefusalCode>>,
}

impl Default for InboundOptions {
    fn default() -> Self {
        Self { beat_interval: Duration::from_secs(1), beats_missed_max: 3, ask_next_after: Duration::from_secs(3) }
    }
}

impl Inbound {
    /// An acceptor for the links of `directory`.
    pub fn new(directory: Arc<dyn LinkDirectory>, options: InboundOptions) -> Self {
        let refusing = Arc::new(Semaphore::new(REFUSING_MAX));
        Self {
            shared: Arc::new(Shared { directory, options, links: Mutex::default(), refusing, log: Mutex::default() }),
        }
    }

    /// Takes a `LinkOpen` request and the connection that it came on. Returns at once; the answer, or the refusal, is sent
    /// by a task. Must be called within a tokio runtime.
    pub fn accept(&self, request: &RequestFrame, connection: ServerConnection) {
        let correlation_id = request.correlation_id;
        match self.admit(request, &connection) {
            Ok((open, handle)) => {
                let message = Message::Opened { open, correlation_id, connection: Box::new(connection) };
                if let Err(full) = handle.offer(message)
                    && let Message::Opened { connection, .. } = *full
                {
                    self.refuse(*connection, correlation_id, Refusal::new(RefusalCode::TooMany));
                }
            }
            Err(refusal) => self.refuse(connection, correlation_id, refusal),
        }
    }

    /// Checks all that does not depend on who else is connected. Rights come first: a stranger learns no link's name.
    fn admit(&self, request: &RequestFrame, connection: &ServerConnection) -> Result<(LinkOpen, Handle), Refusal> {
        let principal = connection.principal();
        if !self.shared.directory.may_alter_cluster(principal) {
            return Err(Refusal::with(RefusalCode::NotAuthorised, principal.as_str()));
        }
        if request.api_version != PROTOCOL_VERSION {
            let detail = format_args!("asked for {}, spoken is {PROTOCOL_VERSION}", request.api_version);
            return Err(Refusal::with(RefusalCode::UnsupportedVersion, detail));
        }
        let open = LinkOpen::decode(&request.body);
        let open = open.map_err(|error| Refusal::with(RefusalCode::Malformed, error))?;
        let handle = self.shared.handle(&open.link)?;
        Ok((open, handle))
    }

    fn refuse(&self, connection: ServerConnection, correlation_id: i32, refusal: Refusal) {
        metrics::counter!("hawser_inbound_refused_total", "reason" => refusal.code.name()).increment(1);
        // Anybody who may log in comes here, as often as he likes.
        let admitted =
            self.shared.log.lock().unwrap_or_else(PoisonError::into_inner).admit(refusal.code, Instant::now());
        if let Some(suppressed) = admitted {
            let (peer, principal) = (connection.peer(), connection.principal().as_str());
            tracing::warn!(%peer, principal, %refusal, suppressed, "source half refused");
        }
        let Ok(permit) = Arc::clone(&self.shared.refusing).try_acquire_owned() else { return };
        tokio::spawn(async move {
            let _permit = permit;
            let answer = OpenAnswer::Refused(refusal).encode(correlation_id);
            connection::refuse(connection, answer).await;
        });
    }

    /// Leases clients to the source's brokers over the link of that name, whether it exists yet or not.
    pub fn connector(&self, link: &LinkName) -> Arc<dyn Connector> {
        Arc::new(Reversed::new(Arc::clone(&self.shared), link.clone()))
    }

    /// How a link stands; `None` if nobody has asked for it and no half has come yet.
    pub fn status(&self, link: &LinkName) -> Option<InboundStatus> {
        let links = self.shared.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.get(link).map(Handle::status)
    }

    /// Ends a link's connections: its members are told `reason` (`LinkDeleted`, `Stopping`). If the link
    /// still stands in the directory it begins anew with the next half or lease.
    pub fn end(&self, link: &LinkName, reason: RefusalCode) {
        let handle = self.shared.links.lock().unwrap_or_else(PoisonError::into_inner).remove(link);
        if let Some(handle) = handle {
            handle.shut(reason);
        }
    }

    /// Ends all links and waits until their members have been told, half a second at most.
    pub async fn stop(&self) {
        let handles: Vec<Handle> = {
            let mut links = self.shared.links.lock().unwrap_or_else(PoisonError::into_inner);
            links.drain().map(|(_, handle)| handle).collect()
        };
        for handle in &handles {
            handle.shut(RefusalCode::Stopping);
        }
        let ended = async {
            for handle in &handles {
                handle.ended().await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_millis(500), ended).await;
    }
}

impl Shared {
    /// The task of a link that stands in the directory and waits for a source half.
    pub(crate) fn handle(self: &Arc<Self>, link: &LinkName) -> Result<Handle, Refusal> {
        let Some(facts) = self.directory.lookup(link) else {
            self.forget(link, RefusalCode::LinkDeleted);
            return Err(Refusal::with(RefusalCode::NoSuchLink, format_args!("'{link}'")));
        };
        if !matches!(facts.half, Half::DestinationInbound | Half::BidirectionalInbound) {
            return Err(Refusal::with(RefusalCode::ModeMismatch, format_args!("it is {}", facts.half)));
        }
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = links.get(link) {
            if handle.serves(&facts) {
                return Ok(handle.clone());
            }
            // Deleted and made again under the same name, or its settings changed.
            handle.shut(RefusalCode::Stopping);
        }
        let handle = task::spawn(Arc::clone(&self.directory), self.options.clone(), link.clone(), facts);
        links.insert(link.clone(), handle.clone());
        Ok(handle)
    }

    fn forget(&self, link: &LinkName, reason: RefusalCode) {
        if let Some(handle) = self.links.lock().unwrap_or_else(PoisonError::into_inner).remove(link) {
            handle.shut(reason);
        }
    }
}
