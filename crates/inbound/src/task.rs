//! The shell of one destination half: a task that feeds [`DestinationLink`] and does what it says.

use crate::connection;
use crate::status::InboundStatus;
use crate::{InboundOptions, LinkDirectory, LinkFacts};
use hawser_link::reversal::{
    ConnId, ControlFrame, DestinationAction, DestinationEvent, DestinationLink, DestinationSettings, Entropy,
    LeaseFailure, LeaseId, LinkOpen, OpenAnswer, Purpose, RefusalCode,
};
use hawser_link::{LinkName, RefusalLog};
use hawser_transport::{ClientOptions, KafkaClient, RESPONSE_BYTES_MAX, ServerConnection};
use hawser_wire::NodeId;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

/// Messages waiting for a link's task: frames of all members, leases, arriving connections.
const INBOX_MAX: usize = 1024;
/// Frames waiting for one control connection. A member that lets more pile up does not read.
const OUTGOING_MAX: usize = 1024;
/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_millis(400);

type Reply = oneshot::Sender<Result<KafkaClient, LeaseFailure>>;

/// What a link's task is told.
pub(crate) enum Message {
    /// A `LinkOpen` that may be for a control connection or a channel.
    Opened { open: LinkOpen, correlation_id: i32, connection: Box<ServerConnection> },
    /// A channel is wanted.
    Lease { lease: LeaseId, node: Option<NodeId>, reply: Reply },
    /// Anything else that the machine takes.
    Event(DestinationEvent),
}

/// A link's task, for everybody else. The task ends with [`Handle::shut`].
#[derive(Clone)]
pub(crate) struct Handle {
    inbox: mpsc::Sender<Message>,
    status: watch::Receiver<InboundStatus>,
    facts: Arc<LinkFacts>,
    shut: Arc<watch::Sender<Option<RefusalCode>>>,
}

impl Handle {
    /// Waits for room.
    pub(crate) async fn send(&self, message: Message) -> Result<(), ()> {
        self.inbox.send(message).await.map_err(|_| ())
    }

    /// Gives the message back when there is no room.
    pub(crate) fn offer(&self, message: Message) -> Result<(), Box<Message>> {
        self.inbox.try_send(message).map_err(|error| match error {
            mpsc::error::TrySendError::Full(message) | mpsc::error::TrySendError::Closed(message) => Box::new(message),
        })
    }

    pub(crate) fn status(&self) -> InboundStatus {
        self.status.borrow().clone()
    }

    /// Whether this task was made from the same facts. A source cluster learnt since makes no difference.
    pub(crate) fn serves(&self, facts: &LinkFacts) -> bool {
        let learnt = self.status.borrow().source_cluster_id.clone();
        let same_source = facts.source_cluster_id.is_none() || learnt.is_none() || facts.source_cluster_id == learnt;
        let same = LinkFacts { source_cluster_id: self.facts.source_cluster_id.clone(), ..facts.clone() };
        !self.inbox.is_closed() && same_source && same == *self.facts
    }

    pub(crate) fn shut(&self, reason: RefusalCode) {
        self.shut.send_replace(Some(reason));
    }

    pub(crate) async fn ended(&self) {
        self.inbox.closed().await;
    }
}

/// Starts a link's task.
pub(crate) fn spawn(
    directory: Arc<dyn LinkDirectory>,
    options: InboundOptions,
    link: LinkName,
    facts: LinkFacts,
) -> Handle {
    let settings = DestinationSettings {
        link_id: facts.link_id,
        destination_cluster_id: directory.local_cluster_id(),
        source_cluster_id: facts.source_cluster_id.clone(),
        beat_interval: options.beat_interval,
        beats_missed_max: options.beats_missed_max,
        ask_next_after: options.ask_next_after,
    };
    let machine = DestinationLink::new(settings);
    let (inbox, messages) = mpsc::channel(INBOX_MAX);
    let (publisher, status) = watch::channel(InboundStatus::of(&machine));
    let (shut, shutting) = watch::channel(None);
    let facts = Arc::new(facts);
    let task = Task {
        link,
        directory,
        machine,
        facts: Arc::clone(&facts),
        inbox: inbox.downgrade(),
        publisher,
        arriving: HashMap::new(),
        controls: HashMap::new(),
        channels: HashMap::new(),
        leases: HashMap::new(),
        tasks: JoinSet::new(),
        refusals: RefusalLog::default(),
        connections: 0,
    };
    tokio::spawn(task.run(messages, shutting));
    Handle { inbox, status, facts, shut: Arc::new(shut) }
}

struct Task {
    link: LinkName,
    directory: Arc<dyn LinkDirectory>,
    machine: DestinationLink,
    facts: Arc<LinkFacts>,
    inbox: mpsc::WeakSender<Message>,
    publisher: watch::Sender<InboundStatus>,
    /// Connections whose `LinkOpen` the machine is looking at.
    arriving: HashMap<ConnId, Arriving>,
    /// Dropping the sender closes the connection after what was sent.
    controls: HashMap<ConnId, mpsc::Sender<ControlFrame>>,
    /// Dropping the sender closes the channel.
    channels: HashMap<ConnId, oneshot::Sender<()>>,
    leases: HashMap<LeaseId, Reply>,
    tasks: JoinSet<()>,
    refusals: RefusalLog<RefusalCode>,
    connections: u64,
}

struct Arriving {
    connection: ServerConnection,
    open: LinkOpen,
    correlation_id: i32,
    /// Of a channel that was accepted and waits to be delivered.
    answer: Option<bytes::Bytes>,
}

/// What a connection's task tells the link's.
pub(crate) struct Reports {
    conn: ConnId,
    inbox: mpsc::WeakSender<Message>,
}

impl Reports {
    pub(crate) async fn received(&self, frame: ControlFrame) {
        self.send(DestinationEvent::Received { conn: self.conn, frame }).await;
    }

    async fn closed(&self) {
        self.send(DestinationEvent::Closed { conn: self.conn }).await;
    }

    async fn send(&self, event: DestinationEvent) {
        if let Some(inbox) = self.inbox.upgrade() {
            let _ = inbox.send(Message::Event(event)).await;
        }
    }
}

/// The operating system's random numbers.
struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&mut self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the operating system gives random numbers");
    }
}

impl Task {
    async fn run(mut self, mut messages: mpsc::Receiver<Message>, mut shutting: watch::Receiver<Option<RefusalCode>>) {
        loop {
            let deadline = self.machine.deadline().map(tokio::time::Instant::from_std);
            tokio::select! {
                biased;
                reason = shut(&mut shutting) => {
                    self.feed(DestinationEvent::Shut(reason)).await;
                    break;
                }
                message = messages.recv() => match message {
                    Some(message) => self.take(message).await,
                    None => {
                        self.feed(DestinationEvent::Shut(RefusalCode::Stopping)).await;
                        break;
                    }
                },
                () = until(deadline) => self.feed(DestinationEvent::Tick).await,
                Some(ended) = self.tasks.join_next() => {
                    if let Err(error) = ended && error.is_panic() {
                        tracing::error!(link = %self.link, %error, "a task of the link failed");
                    }
                }
            }
        }
        // The goodbyes are under way in the connections' tasks.
        let _ = tokio::time::timeout(GOODBYE, async { while self.tasks.join_next().await.is_some() {} }).await;
    }

    async fn take(&mut self, message: Message) {
        match message {
            Message::Opened { open, correlation_id, connection } => {
                self.connections += 1;
                let conn = ConnId(self.connections);
                let arriving = Arriving { connection: *connection, open: open.clone(), correlation_id, answer: None };
                self.arriving.insert(conn, arriving);
                self.feed(DestinationEvent::Opened { conn, open }).await;
                // Whatever the machine has not taken up is closed here.
                self.arriving.clear();
            }
            Message::Lease { lease, node, reply } => {
                self.leases.insert(lease, reply);
                let until = Instant::now() + self.facts.lease_timeout;
                self.feed(DestinationEvent::Lease { lease, node, until }).await;
            }
            Message::Event(event) => {
                match &event {
                    DestinationEvent::Dropped { lease } => drop(self.leases.remove(lease)),
                    DestinationEvent::Closed { conn } => {
                        self.controls.remove(conn);
                        self.channels.remove(conn);
                    }
                    _ => {}
                }
                self.feed(event).await;
            }
        }
    }

    async fn feed(&mut self, event: DestinationEvent) {
        let members = self.machine.members().len();
        let actions = self.machine.on(event, Instant::now(), &mut SystemEntropy);
        for action in actions {
            self.perform(action).await;
        }
        let status = InboundStatus::of(&self.machine);
        if status.members.len() != members {
            tracing::info!(link = %self.link, members = status.members.len(), "members of the source half");
        }
        self.publisher.send_replace(status);
    }

    async fn perform(&mut self, action: DestinationAction) {
        match action {
            DestinationAction::Answer { conn, answer } => self.answer(conn, answer),
            DestinationAction::Send { conn, frame } => {
                if let Some(outgoing) = self.controls.get(&conn)
                    && outgoing.try_send(frame).is_err()
                {
                    // It has ended, or does not read: its liveness will say so.
                    tracing::debug!(link = %self.link, conn = conn.0, "control frame not sent");
                }
            }
            DestinationAction::Close { conn, reason } => {
                tracing::info!(link = %self.link, conn = conn.0, reason = reason.name(), "connection of the link closed");
                self.controls.remove(&conn);
                self.channels.remove(&conn);
            }
            DestinationAction::Deliver { lease, conn } => self.deliver(lease, conn),
            DestinationAction::Fail { lease, failure } => {
                if let Some(reply) = self.leases.remove(&lease) {
                    let _ = reply.send(Err(failure));
                }
            }
            DestinationAction::PinSource(cluster_id) => {
                tracing::info!(link = %self.link, cluster_id, "source cluster of the link learnt");
                self.directory.learned_source_cluster(&self.link, self.facts.link_id, &cluster_id).await;
            }
        }
    }

    fn answer(&mut self, conn: ConnId, answer: OpenAnswer) {
        match answer {
            OpenAnswer::Refused(refusal) => {
                let Some(arriving) = self.arriving.remove(&conn) else { return };
                let Arriving { connection, open, correlation_id, .. } = arriving;
                if let Some(suppressed) = self.refusals.admit(refusal.code, Instant::now()) {
                    let (peer, member) = (connection.peer(), open.member);
                    tracing::warn!(link = %self.link, %peer, %member, %refusal, suppressed, "source half refused");
                }
                metrics::counter!("hawser_inbound_refused_total", "reason" => refusal.code.name()).increment(1);
                let frame = OpenAnswer::Refused(refusal).encode(correlation_id);
                self.tasks.spawn(connection::refuse(connection, frame));
            }
            OpenAnswer::Accepted(_) => {
                // A channel waits in `arriving` for its `Deliver`, which comes next.
                let is_control = |a: &Arriving| !matches!(a.open.purpose, Purpose::Channel { .. });
                if self.arriving.get(&conn).is_some_and(is_control)
                    && let Some(arriving) = self.arriving.remove(&conn)
                {
                    let frame = answer.encode(arriving.correlation_id);
                    self.control(conn, arriving, frame);
                } else if let Some(arriving) = self.arriving.get_mut(&conn) {
                    arriving.answer = Some(answer.encode(arriving.correlation_id));
                }
            }
        }
    }

    fn control(&mut self, conn: ConnId, arriving: Arriving, answer: bytes::Bytes) {
        let Arriving { connection, open, .. } = arriving;
        let (peer, member, incarnation) = (connection.peer(), open.member, open.incarnation);
        tracing::info!(link = %self.link, %peer, %member, %incarnation, "source half connected");
        let (outgoing, frames) = mpsc::channel(OUTGOING_MAX);
        self.controls.insert(conn, outgoing);
        let (reports, link) = (self.reports(conn), self.link.clone());
        self.tasks.spawn(async move {
            let reason = connection::converse(connection, answer, frames, &reports).await;
            tracing::info!(%link, %peer, %member, reason, "source half disconnected");
            reports.closed().await;
        });
    }

    fn reports(&self, conn: ConnId) -> Reports {
        Reports { conn, inbox: self.inbox.clone() }
    }

    fn deliver(&mut self, lease: LeaseId, conn: ConnId) {
        let Some(Arriving { mut connection, answer: Some(answer), .. }) = self.arriving.remove(&conn) else { return };
        let reply = self.leases.remove(&lease);
        let (alive, abandoned) = oneshot::channel::<()>();
        self.channels.insert(conn, alive);
        let options = ClientOptions {
            client_id: format!("hawser-link-{}", self.link),
            request_timeout: self.facts.request_timeout,
            response_bytes_max: RESPONSE_BYTES_MAX,
            idle_max: None,
        };
        let receive_buffer_bytes = self.facts.receive_buffer_bytes;
        let reports = self.reports(conn);
        self.tasks.spawn(async move {
            // Whoever leased turns to another member as soon as this one is found dead, answered or not.
            let mut given_up = Box::pin(async move {
                // Ends when the sender is dropped.
                let _ = abandoned.await;
                "the source half is gone".to_owned()
            });
            let answer = [answer];
            let started = async {
                tokio::select! {
                    written = tokio::time::timeout(options.request_timeout, connection.write(&answer)) => {
                        written.map_err(|_| "its answer could not be written in time".to_owned())?
                            .map_err(|error| error.to_string())?;
                    }
                    reason = &mut given_up => return Err(reason),
                }
                let stream = connection.into_stream();
                if let Some(bytes) = receive_buffer_bytes {
                    stream.set_receive_buffer(bytes).map_err(|error| error.to_string())?;
                }
                let client = KafkaClient::start_until(stream, options, given_up).await;
                client.map_err(|error| error.to_string())
            };
            match started.await {
                Ok(client) => {
                    let closed = client.closed();
                    // Nobody waits for it any more: it closes here.
                    let _ = reply.map(|reply| reply.send(Ok(client)));
                    closed.await;
                }
                Err(error) => {
                    let failure = LeaseFailure::Unavailable(format!("the channel failed: {error}"));
                    let _ = reply.map(|reply| reply.send(Err(failure)));
                }
            }
            reports.closed().await;
        });
    }
}

/// Why the link ends, once it does. Cancel-safe.
async fn shut(shutting: &mut watch::Receiver<Option<RefusalCode>>) -> RefusalCode {
    let reason = shutting.wait_for(Option::is_some).await;
    reason.ok().and_then(|reason| *reason).unwrap_or(RefusalCode::Stopping)
}

async fn until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
