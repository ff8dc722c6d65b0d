#![forbid(unsafe_code)]
//! Whatever comes over a link before anybody has logged in, and whatever stands in a file: no panic, and what is
//! accepted means the same after encoding it again. The driver and its variables: `hawser_testkit::fuzz`.

use bytes::Bytes;
use hawser_link::filter::{GroupFilters, TopicFilters};
use hawser_link::reversal::{
    Accepted, ControlFrame, Incarnation, LinkOpen, MemberId, Node, OpenAnswer, Purpose, Refusal, RefusalCode, Ticket,
};
use hawser_link::{LinkConfig, LinkName, Properties};
use hawser_testkit::fuzz::{run, run_some};
use hawser_wire::{NodeId, RequestFrame, Uuid};
use std::time::Duration;

const NODES: [Node; 2] = [Node { id: NodeId(1), near: true }, Node { id: NodeId(2), near: false }];

fn open(purpose: Purpose) -> LinkOpen {
    LinkOpen {
        link: LinkName::new("from-on-prem").unwrap(),
        source_cluster_id: "MkU3OEVBNTcwNTJENDM2Qg".to_owned(),
        destination_cluster_id: Some("wYv8qTq2T0mW1nN0kq3v5A".to_owned()),
        member: MemberId(Uuid::from_u128(7)),
        incarnation: Incarnation { epoch: 3, attempt: 1 },
        purpose,
    }
}

fn refusal() -> Refusal {
    Refusal { code: RefusalCode::from_code(1).unwrap(), text: "no such link".to_owned() }
}

fn body(frame: &Bytes) -> Bytes {
    RequestFrame::parse(frame.slice(4..)).unwrap().body
}

#[test]
fn link_open() {
    let control = open(Purpose::Control { nodes: NODES.to_vec() });
    let channel = open(Purpose::Channel { node: Some(NodeId(1)), ticket: Ticket([9; 16]) });
    let corpus = [body(&control.encode(1, "hawser")), body(&channel.encode(1, "hawser"))];
    run("LinkOpen", &corpus, |_, bytes| {
        if let Ok(open) = LinkOpen::decode(bytes) {
            assert_eq!(LinkOpen::decode(&body(&open.encode(1, "c"))), Ok(open));
        }
    });
}

#[test]
fn open_answer() {
    let accepted = OpenAnswer::Accepted(Accepted {
        link_id: Uuid::from_u128(5),
        destination_cluster_id: "wYv8qTq2T0mW1nN0kq3v5A".to_owned(),
        beat_interval: Duration::from_secs(3),
        beats_missed_max: 3,
    });
    let corpus = [accepted, OpenAnswer::Refused(refusal())].map(|answer| answer.encode(1).slice(8..));
    run("OpenAnswer", &corpus, |_, bytes| {
        if let Ok(answer) = OpenAnswer::decode(bytes) {
            assert_eq!(OpenAnswer::decode(&answer.encode(1).slice(8..)), Ok(answer));
        }
    });
}

#[test]
fn control_frames() {
    let tickets = vec![Ticket([1; 16]), Ticket([2; 16])];
    let corpus = [
        ControlFrame::LinkDial { request_id: 1, node: Some(NodeId(2)), tickets },
        ControlFrame::DialFailed { ticket: Ticket([1; 16]), refusal: refusal() },
        ControlFrame::Beat { sequence: 1 },
        ControlFrame::BeatAck { sequence: 1 },
        ControlFrame::Nodes(NODES.to_vec()),
        ControlFrame::Goodbye(refusal()),
    ];
    let corpus = corpus.map(|frame| frame.encode().slice(4..));
    run("ControlFrame", &corpus, |_, bytes| {
        if let Ok(frame) = ControlFrame::decode(bytes) {
            assert_eq!(ControlFrame::decode(&frame.encode().slice(4..)), Ok(frame));
        }
    });
}

/// Whatever it reads, written with every character escaped, reads the same.
#[test]
fn properties() {
    let corpus = [
        "a=1\nb : 2\nc 3\n! note\n# note\nd=one \\\n   two\r\nkey\\ with\\u0020blanks\\=x : value\\t\\n\n\n=\nlast",
        "sasl.jaas.config=m.P required \\\n  username=\"\u{fc}\" \\\n  password='\\ud83d\\ude00';\nssl.keystore.key=a\\\\b\n",
    ];
    run_some(20_000, "properties", &corpus, |_, bytes| {
        let read = Properties::parse("a.properties", &String::from_utf8_lossy(bytes));
        let escaped = |text: &str| text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect::<String>();
        let text: String = read.iter().map(|(key, value)| format!("{}={}\n", escaped(key), escaped(value))).collect();
        let again = Properties::parse("b.properties", &text);
        assert!(read.iter().eq(again.iter()), "{text}");
    });
}

#[test]
fn files_and_filters() {
    let corpus = [
        "link.mode=SOURCE\nconnection.mode=OUTBOUND\nbootstrap.servers=dest:9092\n\
         sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \\\n  username=\"u\" \
         password=\"p\";\nlocal.security.protocol=SASL_PLAINTEXT\n# a comment\nkey\\ with\\u0020blanks : value\n",
        "link.mode=DESTINATION\nconnection.mode=INBOUND\nauto.create.mirror.topics.enable=true\n\
         auto.create.mirror.topics.filters={\"topicFilters\":[{\"name\":\"orders\",\"patternType\":\"PREFIXED\",\
         \"filterType\":\"INCLUDE\"}]}\nconsumer.offset.sync.ms=30000\n",
        "{\"topicFilters\":[{\"name\":\"*\",\"patternType\":\"LITERAL\",\"filterType\":\"INCLUDE\"}]}",
        "{\"groupFilters\":[{\"name\":\"g\",\"patternType\":\"PREFIXED\",\"filterType\":\"EXCLUDE\"}]}",
    ];
    run_some(2_000, "files", &corpus, |_, bytes| {
        let text = String::from_utf8_lossy(bytes);
        let _ = LinkConfig::parse(&Properties::parse("link.properties", &text));
        let _ = TopicFilters::parse(&text).map(|filters| filters.includes("orders"));
        let _ = GroupFilters::parse(&text).map(|filters| filters.includes("g"));
    });
}
