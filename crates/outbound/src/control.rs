//! The shell of a source half: one task that feeds [`SourceControl`] and does what it says. Control connections and
//! channels are tasks of their own that report here; all of them end with the half.

use crate::channel::{self, ChannelEnd};
use crate::dial::open_link;
use crate::local::Known;
use crate::shared::Shared;
use crate::status::{LocalLost, OutboundStatus};
use hawser_link::reversal::{
    CONTROL_FRAME_BYTES_MAX, ChannelFailure, ControlFrame, Entropy, LinkOpen, RefusalCode, SourceAction, SourceControl,
    SourceEvent, SourcePhase, SourceSettings, Ticket,
};
use hawser_transport::{FrameReader, HostPort, Obstacle, Stream};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;

/// Halves started by this process. Each has 2^32 numbers for its dials, above all earlier ones.
static HALVES: AtomicI64 = AtomicI64::new(0);
/// Reports waiting for the task: a burst of channels each brings two or three.
const REPORTS_MAX: usize = 1024;
/// Frames waiting for the control connection. More than this and the destination does not read: it is as good as dead.
const COMMANDS_MAX: usize = 1024;
/// Between looks at the local cluster's brokers, at most.
const REFRESH_MAX: Duration = Duration::from_secs(30);
/// Between tries to reach the local cluster.
const LOCAL_RETRY: Duration = Duration::from_secs(1);
/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_millis(500);

/// What tasks report.
pub(crate) enum Report {
    Event(SourceEvent),
    /// The dial of this attempt reached the destination there: channels have to lead to the same daemon.
    Reached(HostPort),
    /// What the dial met that is reported to have failed next.
    Unreached(Obstacle),
    Known(Known),
    /// The local cluster does not answer: why.
    LocalLost(LocalLost),
}

/// What a control connection's task is told. Dropping the sender closes the connection after what was sent.
enum Command {
    Open(LinkOpen),
    Send(ControlFrame),
}

/// The operating system's random numbers.
struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&mut self, bytes: &mut [u8]) {
        // Only jitter is drawn here: the tickets are the destination's.
        for chunk in bytes.chunks_mut(16) {
            let random = uuid::Uuid::new_v4();
            chunk.iter_mut().zip(random.as_bytes()).for_each(|(to, from)| *to = *from);
        }
    }
}

/// Runs a half until it is told to stop.
pub(crate) async fn run(
    shared: Arc<Shared>,
    status: watch::Sender<OutboundStatus>,
    stop: &mut oneshot::Receiver<RefusalCode>,
) {
    let known = tokio::select! {
        known = learn_local(&shared, &status) => known,
        _ = &mut *stop => return status.send_modify(OutboundStatus::stopped),
    };
    let settings = SourceSettings {
        link: shared.link.clone(),
        source_cluster_id: known.cluster_id.clone(),
        destination_cluster_id: shared.destination_cluster_id.clone(),
        member: shared.member,
        epoch: shared.epoch,
        attempts_before: HALVES.fetch_add(1, Ordering::Relaxed) << 32,
        backoff: shared.backoff.clone(),
        setup_timeout: shared.setup_timeout,
        channels_max: shared.channels_max,
        trial: shared.trial,
    };
    let (reports, inbox) = mpsc::channel(REPORTS_MAX);
    let mut half = Half {
        machine: SourceControl::new(settings),
        source_cluster_id: known.cluster_id.clone(),
        reached: None,
        obstacle: None,
        local_lost: None,
        look: Arc::default(),
        control: None,
        channels: HashMap::new(),
        tasks: JoinSet::new(),
        reports,
        status,
        shared,
    };
    half.feed(SourceEvent::Nodes(known.nodes));
    half.feed(SourceEvent::Start);
    half.serve(inbox, stop).await;
}

/// Asks the local cluster who it is until it says so.
async fn learn_local(shared: &Shared, status: &watch::Sender<OutboundStatus>) -> Known {
    loop {
        let lost = match shared.local.refresh().await {
            Ok(known) => return known,
            Err(error) => LocalLost::from(&error),
        };
        if status.borrow().reason.as_deref() != Some(&lost.why) {
            tracing::warn!(link = %shared.link, reason = lost.why, "local cluster cannot be lent");
        }
        status.send_modify(|status| status.waiting_for_local(lost));
        tokio::time::sleep(LOCAL_RETRY).await;
    }
}

struct Half {
    machine: SourceControl,
    source_cluster_id: String,
    reached: Option<HostPort>,
    /// Of the last dial, if it failed.
    obstacle: Option<Obstacle>,
    /// Why the local cluster cannot be lent just now.
    local_lost: Option<LocalLost>,
    /// Asks for a look at the local cluster before its time.
    look: Arc<Notify>,
    control: Option<(i64, mpsc::Sender<Command>)>,
    /// Channels by ticket; dropping the sender ends the channel.
    channels: HashMap<Ticket, oneshot::Sender<()>>,
    tasks: JoinSet<()>,
    reports: mpsc::Sender<Report>,
    status: watch::Sender<OutboundStatus>,
    shared: Arc<Shared>,
}

impl Half {
    async fn serve(mut self, mut inbox: mpsc::Receiver<Report>, stop: &mut oneshot::Receiver<RefusalCode>) {
        self.spawn_refresh();
        loop {
            let deadline = self.machine.deadline().map(tokio::time::Instant::from_std);
            tokio::select! {
                biased;
                code = &mut *stop => {
                    self.feed(SourceEvent::Stop(code.unwrap_or(RefusalCode::Stopping)));
                    break;
                }
                report = inbox.recv() => match report {
                    Some(Report::Event(event)) => self.feed(event),
                    Some(Report::Reached(at)) => (self.reached, self.obstacle) = (Some(at), None),
                    Some(Report::Unreached(obstacle)) => self.obstacle = Some(obstacle),
                    Some(Report::Known(known)) => self.known(known),
                    Some(Report::LocalLost(lost)) => {
                        let is_another = lost.is_another;
                        self.local_lost = Some(lost);
                        if is_another {
                            self.feed(SourceEvent::Nodes(Vec::new()));
                        }
                        self.publish();
                    }
                    None => break,
                },
                () = until(deadline) => self.feed(SourceEvent::Tick),
                Some(ended) = self.tasks.join_next() => {
                    if let Err(error) = ended && error.is_panic() {
                        tracing::error!(link = %self.shared.link, %error, "a task of the link failed");
                    }
                }
            }
        }
        // The goodbye is under way in the control connection's task.
        let _ = tokio::time::timeout(GOODBYE, async { while self.tasks.join_next().await.is_some() {} }).await;
    }

    fn known(&mut self, known: Known) {
        self.local_lost = None;
        self.feed(SourceEvent::Nodes(known.nodes));
    }

    fn feed(&mut self, event: SourceEvent) {
        let before = self.machine.phase();
        let actions = self.machine.on(event, Instant::now(), &mut SystemEntropy);
        for action in actions {
            self.perform(action);
        }
        let after = self.machine.phase();
        if before != after {
            let (link, reason) = (&self.shared.link, self.machine.reason().unwrap_or(""));
            match after {
                SourcePhase::Open => {
                    let destination = self.machine.remote_cluster_id().unwrap_or("");
                    tracing::info!(%link, destination, "link open");
                }
                SourcePhase::Waiting => tracing::warn!(%link, reason, "link not open"),
                SourcePhase::Connecting => tracing::debug!(%link, "dialling"),
                SourcePhase::Stopped => tracing::info!(%link, "link stopped"),
            }
        }
        self.publish();
    }

    fn publish(&self) {
        let counts = &self.shared.counts;
        let (machine, source, local_lost) = (&self.machine, &self.source_cluster_id, self.local_lost.as_ref());
        self.status.send_if_modified(|status| status.update(machine, self.obstacle, local_lost, source, counts));
    }

    fn perform(&mut self, action: SourceAction) {
        match action {
            SourceAction::Dial { attempt } => {
                let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
                self.control = Some((attempt, commands));
                let control = Control { attempt, shared: Arc::clone(&self.shared), reports: self.reports.clone() };
                self.tasks.spawn(control.run(inbox));
            }
            SourceAction::SendOpen { attempt, open } => self.command(attempt, Command::Open(open)),
            SourceAction::Send { attempt, frame } => self.command(attempt, Command::Send(frame)),
            SourceAction::Disconnect { attempt } => {
                self.control.take_if(|(current, _)| *current == attempt);
            }
            SourceAction::OpenChannel { node, ticket, open } => self.open_channel(node, ticket, open),
            SourceAction::AbandonChannels => self.channels.clear(),
        }
    }

    fn command(&mut self, attempt: i64, command: Command) {
        if let Some((current, commands)) = &self.control
            && *current == attempt
            && commands.try_send(command).is_err()
        {
            // The connection has ended (its report is on its way), or the destination does not read.
            self.control = None;
        }
    }

    fn open_channel(&mut self, node: Option<hawser_wire::NodeId>, ticket: Ticket, open: LinkOpen) {
        let Some(destination) = self.reached.clone() else { return };
        let (alive, abandoned) = oneshot::channel::<()>();
        self.channels.retain(|_, alive| !alive.is_closed());
        self.channels.insert(ticket, alive);
        let (shared, reports, look) = (Arc::clone(&self.shared), self.reports.clone(), self.look.clone());
        self.tasks.spawn(async move {
            let opened = || async {
                let _ = reports.send(Report::Event(SourceEvent::ChannelOpened { ticket })).await;
            };
            let end = tokio::select! {
                end = channel::run(&shared, destination, node, open, opened) => end,
                _ = abandoned => return,
            };
            let event = match end {
                ChannelEnd::NotOpened(failure) => {
                    if let ChannelFailure::Ours(refusal) = &failure {
                        tracing::warn!(link = %shared.link, node = ?node.map(|n| n.0), %refusal, "channel not opened");
                        look.notify_one(); // one broker may be down, or all
                    }
                    SourceEvent::ChannelFailed { ticket, failure }
                }
                ChannelEnd::Closed(end) => {
                    tracing::debug!(link = %shared.link, node = ?node.map(|n| n.0), reason = %end, "channel closed");
                    SourceEvent::ChannelClosed { ticket }
                }
            };
            let _ = reports.send(Report::Event(event)).await;
        });
    }

    /// Looks at the local cluster's brokers now and then, and when one of them was dialled in vain; while it does not
    /// answer, at the pace of retries.
    fn spawn_refresh(&mut self) {
        let (shared, reports, look) = (Arc::clone(&self.shared), self.reports.clone(), self.look.clone());
        self.tasks.spawn(async move {
            let mut is_lost = false;
            loop {
                tokio::time::sleep(LOCAL_RETRY).await;
                if !is_lost {
                    let rest = shared.metadata_max_age.min(REFRESH_MAX).saturating_sub(LOCAL_RETRY);
                    let _ = tokio::time::timeout(rest, look.notified()).await; // whichever comes first
                }
                let report = match shared.local.refresh().await {
                    Ok(known) => Report::Known(known),
                    Err(error) => {
                        if !is_lost {
                            tracing::warn!(link = %shared.link, %error, "local cluster cannot be lent");
                        }
                        Report::LocalLost(LocalLost::from(&error))
                    }
                };
                is_lost = matches!(report, Report::LocalLost(_));
                if reports.send(report).await.is_err() {
                    return;
                }
            }
        });
    }
}

/// One control connection.
struct Control {
    attempt: i64,
    shared: Arc<Shared>,
    reports: mpsc::Sender<Report>,
}

impl Control {
    async fn run(self, mut commands: mpsc::Receiver<Command>) {
        let attempt = self.attempt;
        let mut stream = tokio::select! {
            dialled = self.dial() => match dialled {
                Ok(stream) => stream,
                Err(event) => return self.report(event).await,
            },
            // Given up: nothing is sent on a connection that is not there.
            _ = commands.recv() => return,
        };
        self.report(SourceEvent::Dialled { attempt }).await;
        let Some(Command::Open(open)) = commands.recv().await else { return };
        let answer = tokio::select! {
            answer = open_link(&mut stream, &open) => answer,
            _ = commands.recv() => return,
        };
        match answer {
            Ok(answer) => self.report(SourceEvent::Answered { attempt, answer }).await,
            Err(error) => {
                let reason = format!("the destination did not answer LinkOpen: {error}");
                return self.report(SourceEvent::Closed { attempt, reason }).await;
            }
        }
        let reason = self.converse(stream, commands).await;
        self.report(SourceEvent::Closed { attempt, reason }).await;
    }

    /// Tries the destination's addresses in turn, beginning with another one each time.
    async fn dial(&self) -> Result<Stream, SourceEvent> {
        let servers = &self.shared.remote_bootstrap;
        let first = usize::try_from(self.attempt).unwrap_or(0) % servers.len().max(1);
        let mut reason = "no bootstrap server is configured".to_owned();
        let mut needs_operator = true;
        for at in servers.iter().cycle().skip(first).take(servers.len()) {
            match self.shared.remote.dial(at, self.shared.dial_timeout).await {
                Ok(stream) => {
                    let _ = self.reports.send(Report::Reached(at.clone())).await;
                    return Ok(stream);
                }
                Err(error) => {
                    reason = format!("cannot reach the destination at {at}: {error}");
                    needs_operator = error.is_authentication();
                    let _ = self.reports.send(Report::Unreached(error.obstacle())).await;
                }
            }
        }
        Err(SourceEvent::DialFailed { attempt: self.attempt, reason, needs_operator })
    }

    /// Frames both ways until the connection ends or is given up. Returns why.
    async fn converse(&self, stream: Stream, mut commands: mpsc::Receiver<Command>) -> String {
        let (mut from, mut to) = tokio::io::split(stream);
        let mut frames = FrameReader::dialled(CONTROL_FRAME_BYTES_MAX);
        loop {
            tokio::select! {
                biased;
                command = commands.recv() => {
                    let Some(command) = command else {
                        let _ = tokio::time::timeout(GOODBYE, to.shutdown()).await;
                        return "given up by this side".to_owned();
                    };
                    let Command::Send(frame) = command else { continue };
                    let written = async {
                        to.write_all(&frame.encode()).await?;
                        to.flush().await
                    };
                    if let Err(error) = written.await {
                        return format!("connection to the destination lost: {error}");
                    }
                }
                frame = frames.frame(&mut from) => match frame {
                    Ok(Some(bytes)) => match ControlFrame::decode(&bytes) {
                        Ok(frame) => {
                            self.report(SourceEvent::Received { attempt: self.attempt, frame }).await;
                        }
                        Err(error) => return format!("the destination sent no control frame: {error}"),
                    },
                    Ok(None) => return "the destination closed the connection".to_owned(),
                    Err(error) => return format!("connection to the destination lost: {error}"),
                },
            }
        }
    }

    async fn report(&self, event: SourceEvent) {
        // The half has ended when nobody takes it.
        let _ = self.reports.send(Report::Event(event)).await;
    }
}

async fn until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
