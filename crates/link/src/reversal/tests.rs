//! Codecs: every message survives the way there and back, every cut and every flipped byte is refused or read,
//! never a panic.

use super::*;
use crate::LinkName;
use hawser_wire::NodeId;
use proptest::prelude::*;
use std::time::Duration;

fn node() -> impl Strategy<Value = Option<NodeId>> {
    prop::option::of((0..i32::MAX).prop_map(NodeId))
}

fn refusal() -> impl Strategy<Value = Refusal> {
    let code = (1..i16::MAX).prop_filter_map("0", RefusalCode::from_code);
    (code, "\\PC{0,80}").prop_map(|(code, text)| Refusal { code, text })
}

fn ticket() -> impl Strategy<Value = Ticket> {
    any::<[u8; 16]>().prop_map(Ticket)
}

fn nodes() -> impl Strategy<Value = Vec<Node>> {
    prop::collection::vec((any::<i32>(), any::<bool>()).prop_map(|(id, near)| Node { id: NodeId(id), near }), 0..9)
}

fn frame() -> impl Strategy<Value = ControlFrame> {
    prop_oneof![
        (any::<i64>(), node(), prop::collection::vec(ticket(), 0..9))
            .prop_map(|(request_id, node, tickets)| ControlFrame::LinkDial { request_id, node, tickets }),
        (ticket(), refusal()).prop_map(|(ticket, refusal)| ControlFrame::DialFailed { ticket, refusal }),
        any::<i64>().prop_map(|sequence| ControlFrame::Beat { sequence }),
        any::<i64>().prop_map(|sequence| ControlFrame::BeatAck { sequence }),
        nodes().prop_map(ControlFrame::Nodes),
        refusal().prop_map(ControlFrame::Goodbye),
    ]
}

fn open() -> impl Strategy<Value = LinkOpen> {
    let purpose = prop_oneof![
        nodes().prop_map(|nodes| Purpose::Control { nodes }),
        nodes().prop_map(|nodes| Purpose::Trial { nodes }),
        (node(), ticket()).prop_map(|(node, ticket)| Purpose::Channel { node, ticket }),
    ];
    let name = "[a-z][a-z.-]{0,30}".prop_map(|n| LinkName::new(&n).expect("legal"));
    (name, "\\PC{0,40}", prop::option::of("\\PC{0,40}"), any::<u128>(), any::<(i64, i64)>(), purpose).prop_map(
        |(link, source_cluster_id, destination_cluster_id, member, (epoch, attempt), purpose)| LinkOpen {
            link,
            source_cluster_id,
            destination_cluster_id,
            member: MemberId(uuid::Uuid::from_u128(member)),
            incarnation: Incarnation { epoch, attempt },
            purpose,
        },
    )
}

/// The body behind a v1 request head with client id "x".
const REQUEST_HEAD_BYTES: usize = 4 + 2 + 2 + 4 + 3;

proptest! {
    #[test]
    fn control_frames_survive(frame in frame()) {
        let bytes = frame.encode();
        prop_assert_eq!(u32::from_be_bytes(*bytes.first_chunk().unwrap()) as usize, bytes.len() - 4);
        prop_assert!(bytes.len() - 4 <= CONTROL_FRAME_BYTES_MAX);
        prop_assert_eq!(ControlFrame::decode(&bytes[4..]).unwrap(), frame);
        for cut in 4..bytes.len() {
            prop_assert!(ControlFrame::decode(&bytes[4..cut]).is_err());
        }
    }

    #[test]
    fn opens_survive(open in open()) {
        let bytes = open.encode(7, "x");
        let body = &bytes[REQUEST_HEAD_BYTES..];
        prop_assert_eq!(LinkOpen::decode(body).unwrap(), open);
        for cut in 0..body.len() {
            prop_assert!(LinkOpen::decode(&body[..cut]).is_err());
        }
    }

    #[test]
    fn answers_survive(refusal in refusal(), id in any::<u128>(), cluster in "\\PC{0,40}", ms in 1..i32::MAX, missed in 1..=u8::MAX) {
        let accepted = Accepted {
            link_id: uuid::Uuid::from_u128(id),
            destination_cluster_id: cluster,
            beat_interval: Duration::from_millis(u64::try_from(ms).unwrap()),
            beats_missed_max: missed,
        };
        for answer in [OpenAnswer::Refused(refusal), OpenAnswer::Accepted(accepted)] {
            let bytes = answer.encode(7);
            prop_assert_eq!(OpenAnswer::decode(&bytes[8..]).unwrap(), answer);
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = ControlFrame::decode(&bytes);
        let _ = LinkOpen::decode(&bytes);
        let _ = OpenAnswer::decode(&bytes);
    }
}

#[test]
fn long_texts_are_cut_to_what_the_reader_takes() {
    let refusal = Refusal { code: RefusalCode::Stopping, text: "é".repeat(40_000) };
    let bytes = ControlFrame::Goodbye(refusal.clone()).encode();
    let ControlFrame::Goodbye(read) = ControlFrame::decode(&bytes[4..]).unwrap() else { panic!() };
    assert_eq!(read.text.len(), 1024);
    let bytes = OpenAnswer::Refused(refusal).encode(1);
    assert!(OpenAnswer::decode(&bytes[8..]).is_ok());
}

#[test]
fn counts_that_promise_too_much_are_refused() {
    for count in [1_i16, 64, 65, 32767, -1] {
        let mut frame = vec![1];
        frame.extend_from_slice(&[0; 8 + 4]);
        frame.extend_from_slice(&count.to_be_bytes());
        assert!(ControlFrame::decode(&frame).is_err(), "{count} tickets");
        let mut frame = vec![5];
        frame.extend_from_slice(&count.to_be_bytes());
        assert!(ControlFrame::decode(&frame).is_err(), "{count} nodes");
    }
}

#[test]
fn refusal_codes_are_one_to_one() {
    let mut seen = std::collections::BTreeSet::new();
    for code in RefusalCode::ALL {
        assert!(seen.insert(code.code()), "{code:?}");
        assert_eq!(RefusalCode::from_code(code.code()), Some(*code));
        assert!(!code.text().is_empty());
    }
    assert_eq!(RefusalCode::from_code(0), None);
    assert_eq!(RefusalCode::from_code(999), Some(RefusalCode::Other(999)));
}

#[test]
fn tickets_do_not_show() {
    assert_eq!(format!("{:?}", Ticket([7; 16])), "Ticket(…)");
}
