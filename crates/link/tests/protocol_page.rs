//! `docs/protocol.md` says what the code does: its examples decode and encode to the same bytes, its list of refusals is
//! the code's.

use hawser_link::reversal::{ControlFrame, LinkOpen, OpenAnswer, RefusalClass, RefusalCode};
use hawser_wire::RequestFrame;
use hawser_wire::api::private::LINK_OPEN;

const PAGE: &str = include_str!("../../../docs/protocol.md");

fn examples() -> Vec<(&'static str, Vec<u8>)> {
    let blocks = PAGE.split("```hex ").skip(1);
    let example = |block: &'static str| {
        let (kind, rest) = block.split_once('\n').expect("a kind");
        let digits: String = rest.split("```").next().expect("an end").split_whitespace().collect();
        let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex");
        (kind, (0..digits.len()).step_by(2).map(byte).collect())
    };
    blocks.map(example).collect()
}

#[test]
fn examples_are_what_the_code_reads_and_writes() {
    let mut kinds = Vec::new();
    for (kind, bytes) in examples() {
        let length = u32::from_be_bytes(*bytes.first_chunk().expect("length"));
        assert_eq!(length as usize, bytes.len() - 4, "{kind} {bytes:02x?}");
        let again = match kind {
            "LinkOpen" => {
                let frame = RequestFrame::parse(bytes[4..].to_vec().into()).expect("head");
                assert_eq!(frame.api_key, LINK_OPEN);
                let client = frame.client_id.expect("client id");
                LinkOpen::decode(&frame.body).expect("body").encode(frame.correlation_id, &client)
            }
            "OpenAnswer" => OpenAnswer::decode(&bytes[8..]).expect("answer").encode(1),
            "ControlFrame" => {
                kinds.push(bytes[4]);
                ControlFrame::decode(&bytes[4..]).expect("frame").encode()
            }
            other => panic!("an example of {other}"),
        };
        assert_eq!(again, bytes, "{kind}");
    }
    assert_eq!(kinds, [1, 2, 3, 4, 5, 6], "one example a control frame");
}

#[test]
fn refusals_are_the_code_s() {
    for code in RefusalCode::ALL {
        let class = match code.class() {
            RefusalClass::Retry => "R",
            RefusalClass::Operator => "O",
            RefusalClass::Fenced => "F",
        };
        let row = format!("| {} | {} | {class} | {} |", code.code(), code.name(), code.text());
        assert!(PAGE.lines().any(|line| line == row), "{row}");
    }
    let rows = PAGE.lines().filter(|line| line.contains("| R |") || line.contains("| O |") || line.contains("| F |"));
    assert_eq!(rows.count(), RefusalCode::ALL.len());
}
