//! The source half: its members, what their machines ask for, and the source brokers behind them.

use super::super::rng::Rng;
use super::super::source::NODES;
use super::{Conn, Happening, Kind, LONG_POLL, Message, Request, Response, Side, World};
use hawser_link::LinkName;
use hawser_link::reversal::{
    Backoff, ChannelFailure, ControlFrame, LinkOpen, Node, OpenAnswer, Refusal, RefusalCode, SourceAction,
    SourceControl, SourceEvent, SourceSettings, Ticket,
};
use hawser_wire::NodeId;
use hawser_wire::messages::{FetchRequest, FetchResponse};
use std::time::Duration;

impl World {
    pub(super) fn source_starts(&mut self, index: usize) {
        let member = &mut self.members[index];
        if member.machine.is_some() {
            return;
        }
        member.life += 1;
        let settings = SourceSettings {
            link: LinkName::new("sim").expect("legal"),
            source_cluster_id: "source".into(),
            destination_cluster_id: Some("destination".into()),
            member: member.id,
            epoch: member.life as i64,
            attempts_before: 0,
            backoff: Backoff::new(Duration::from_millis(20), Duration::from_millis(300)),
            setup_timeout: Duration::from_millis(800),
            channels_max: 64,
            trial: false,
        };
        member.machine = Some(SourceControl::new(settings));
        let nodes = (1..=NODES as i32).map(|id| Node { id: NodeId(id), near: id as usize % 2 == index }).collect();
        self.source_on(index, SourceEvent::Nodes(nodes));
        self.source_on(index, SourceEvent::Start);
    }

    pub(super) fn source_crashes(&mut self) {
        let index = self.rng.index(self.members.len());
        if self.members[index].machine.take().is_none() {
            return;
        }
        self.outcome.crashes += 1;
        let member = &mut self.members[index];
        member.control.clear();
        member.channels.clear();
        let mine: Vec<_> =
            self.conns.iter().filter(|(_, conn)| conn.alive && conn.member == index).map(|(id, _)| *id).collect();
        // A process that dies resets its connections; a machine that dies leaves them half open.
        let half_open = self.rng.percent(30);
        for conn in mine {
            match half_open {
                true => self.conns.get_mut(&conn).expect("known").black = true,
                false => self.close(conn, Side::Source),
            }
        }
        self.after(10, 1_000, Happening::SourceStarts { member: index });
    }

    pub(super) fn source_on(&mut self, index: usize, event: SourceEvent) {
        let now = self.instant();
        let member = &mut self.members[index];
        let Some(machine) = &mut member.machine else { return };
        let life = member.life;
        for action in machine.on(event, now, &mut self.rng) {
            self.source_does(index, life, action);
        }
    }

    fn source_does(&mut self, index: usize, life: u64, action: SourceAction) {
        match action {
            SourceAction::Dial { attempt } => {
                self.after(1, 30, Happening::ControlDialled { member: index, life, attempt });
            }
            SourceAction::SendOpen { attempt, open } => {
                if let Some(&conn) = self.members[index].control.get(&attempt) {
                    self.send(conn, Side::Dest, Message::Open(open));
                }
            }
            SourceAction::Send { attempt, frame } => {
                if let Some(&conn) = self.members[index].control.get(&attempt) {
                    self.send(conn, Side::Dest, Message::Control(frame));
                }
            }
            SourceAction::Disconnect { attempt } => {
                if let Some(conn) = self.members[index].control.remove(&attempt) {
                    self.close(conn, Side::Source);
                }
            }
            SourceAction::OpenChannel { node, ticket, open } => {
                let (from, to) = self.set_up_ms;
                self.after(from, to, Happening::ChannelDialled { member: index, life, node, ticket, open });
            }
            SourceAction::AbandonChannels => {
                let channels = std::mem::take(&mut self.members[index].channels);
                channels.into_values().for_each(|conn| self.close(conn, Side::Source));
            }
        }
    }

    pub(super) fn control_dialled(&mut self, index: usize, life: u64, attempt: i64) {
        if self.members[index].life != life || self.members[index].machine.is_none() {
            return;
        }
        if self.dest.is_none() || (self.faulty && self.rng.percent(10)) {
            let reason = "refused".to_owned();
            return self.source_on(index, SourceEvent::DialFailed { attempt, reason, needs_operator: false });
        }
        let conn = self.connect(index, Kind::Control { attempt });
        self.members[index].control.insert(attempt, conn);
        self.source_on(index, SourceEvent::Dialled { attempt });
    }

    pub(super) fn channel_dialled(
        &mut self,
        index: usize,
        life: u64,
        node: Option<NodeId>,
        ticket: Ticket,
        open: LinkOpen,
    ) {
        if self.members[index].life != life || self.members[index].machine.is_none() {
            return;
        }
        let node = node.map_or_else(|| self.rng.index(NODES), |node| node.0 as usize - 1);
        let failure = match () {
            () if !self.source.up[node] => Some(RefusalCode::LocalUnreachable),
            () if self.dest.is_none() => Some(RefusalCode::DialFailed),
            () => None,
        };
        if let Some(code) = failure {
            let failure = ChannelFailure::Ours(Refusal::new(code));
            return self.source_on(index, SourceEvent::ChannelFailed { ticket, failure });
        }
        let conn = self.connect(index, Kind::Channel { ticket, node });
        self.members[index].channels.insert(ticket, conn);
        self.send(conn, Side::Dest, Message::Open(open));
    }

    pub(super) fn source_gets(&mut self, conn: u64, message: Message) {
        let Conn { member: index, kind, .. } = &self.conns[&conn];
        let (index, kind) = (*index, kind.clone());
        match (kind, message) {
            (Kind::Control { attempt }, Message::Answer(answer)) => {
                self.source_on(index, SourceEvent::Answered { attempt, answer });
            }
            (Kind::Control { attempt }, Message::Control(frame)) => {
                let frame = ControlFrame::decode(&frame.encode()[4..]).expect("its own frame");
                self.source_on(index, SourceEvent::Received { attempt, frame });
            }
            (Kind::Channel { ticket, .. }, Message::Answer(OpenAnswer::Accepted(_))) => {
                self.source_on(index, SourceEvent::ChannelOpened { ticket });
            }
            (Kind::Channel { ticket, .. }, Message::Answer(OpenAnswer::Refused(_))) => {
                self.members[index].channels.remove(&ticket);
                self.close(conn, Side::Source);
                self.source_on(index, SourceEvent::ChannelFailed { ticket, failure: ChannelFailure::Refused });
            }
            (Kind::Channel { node, .. }, Message::Request(id, request)) => self.serve(conn, node, id, request),
            (_, Message::Open(_) | Message::Control(_) | Message::Request(..) | Message::Response(..)) => {}
        }
    }

    fn serve(&mut self, conn: u64, node: usize, id: u64, request: Request) {
        if !self.source.up[node] {
            return self.cut(conn);
        }
        let response = match request {
            Request::Fetch(fetch, version) => {
                let until = self.now + LONG_POLL;
                return self.serve_fetch(conn, id, fetch, version, until);
            }
            Request::Offsets(request, asked) => Response::Offsets(asked, self.source.list_offsets(node, &request)),
            Request::Epochs(request, asked) => Response::Epochs(asked, self.source.epoch_ends(node, &request)),
            Request::Metadata(asked) => Response::Metadata(asked, self.source.metadata(node)),
        };
        self.send(conn, Side::Dest, Message::Response(id, response));
    }

    pub(super) fn serve_fetch(&mut self, conn: u64, id: u64, fetch: FetchRequest, version: i16, until: Duration) {
        let Some(Conn { kind: Kind::Channel { node, .. }, alive: true, .. }) = self.conns.get(&conn) else { return };
        let node = *node;
        if !self.source.up[node] {
            return self.cut(conn);
        }
        let first = until == self.now + LONG_POLL;
        let (mut answer, urgent) = self.source.fetch(node, &fetch, version);
        if first && !urgent && self.rng.percent(70) {
            // It is held back: whatever the session says then is the answer.
            let session_epoch = fetch.session_epoch + 1;
            let later = fetch.with_session_epoch(session_epoch).with_topics(vec![]).with_forgotten_topics_data(vec![]);
            return self.at(until, Happening::Polls { conn, request: id, fetch: later, version, until });
        }
        if !first {
            // The session has moved by one more than the client knows of: put it back.
            self.source.step_back(node, fetch.session_id);
        }
        if std::mem::take(&mut self.corrupt_next) {
            corrupt(&mut answer, &mut self.rng);
        }
        self.send(conn, Side::Dest, Message::Response(id, Response::Fetch(answer)));
    }
}

/// Flips a byte of some record.
fn corrupt(answer: &mut FetchResponse, rng: &mut Rng) {
    for data in answer.responses.iter_mut().flat_map(|topic| &mut topic.partitions) {
        if let Some(records) = &mut data.records
            && records.len() > 70
        {
            let mut bytes = records.to_vec();
            let batch = i32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]) as i64 + 12;
            let at = rng.range(61, batch.min(bytes.len() as i64)) as usize;
            bytes[at] ^= 1 << rng.index(8);
            *records = bytes.into();
            return;
        }
    }
}
