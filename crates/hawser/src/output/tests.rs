//! The shapes that people and scripts see.

use super::*;
use crate::operations::{LinkState, MirrorPartitionView};
use std::collections::BTreeMap;

fn sample_link() -> LinkView {
    LinkView {
        link_name: "from-on-prem-link".into(),
        link_id: Some("AAA".into()),
        link_mode: "DESTINATION".into(),
        connection_mode: "INBOUND".into(),
        local_cluster: "cloud".into(),
        source_cluster: Some("onprem".into()),
        destination_cluster: None,
        remote_cluster: Some("onprem".into()),
        state: LinkState::Active,
        error: "NO_ERROR".into(),
        error_message: None,
        members: Vec::new(),
        tasks: Vec::new(),
        mirror_partition_states_count: Some(BTreeMap::from([("ACTIVE".into(), 2)])),
        configs: BTreeMap::from([("link.mode".into(), "DESTINATION".into())]),
    }
}

fn sample_mirror() -> MirrorView {
    MirrorView {
        link_name: "from-on-prem-link".into(),
        mirror_topic_name: "from-on-prem".into(),
        source_topic_name: "from-on-prem".into(),
        mirror_status: "ACTIVE".into(),
        mirror_topic_error: None,
        status_time_ms: 1_700_000_000_000,
        stopped_by: None,
        waits_for: Vec::new(),
        mirror_start_offset_spec: "earliest".into(),
        link_id: Some("AAA".into()),
        mirror_topic_id: "BBB".into(),
        source_topic_id: Some("CCC".into()),
        num_partition: 1,
        max_per_partition_mirror_lag: 0,
        partitions: vec![MirrorPartitionView {
            partition: 0,
            state: "FETCHING".into(),
            reason: None,
            log_start_offset: 0,
            log_end_offset: 5,
            last_source_high_watermark: 5,
            partition_mirror_lag: 0,
            partition_mirror_lag_ms: Some(0),
            last_source_fetch_offset: 5,
            time_since_last_fetch_ms: Some(12),
            stopped_at_offset: None,
            size_bytes: 73,
        }],
    }
}

#[test]
fn link_list_has_the_references_columns() {
    let lines: Vec<_> = links(&[sample_link()]).lines().map(squeeze).collect();
    assert_eq!(lines[1], "Name ID Source Cluster Destination Cluster Remote Cluster State Error Error Message");
    assert_eq!(lines[3], "from-on-prem-link AAA onprem onprem ACTIVE");
    assert_eq!(links(&[]), "No cluster links found.");
}

#[test]
fn link_describe_is_a_property_a_row() {
    let text = squeeze(link(&sample_link()));
    for expected in ["Name from-on-prem-link", "State ACTIVE", "Mirror Partition States Count ACTIVE: 2"] {
        assert!(text.contains(expected), "{text}");
    }
    assert!(!text.contains("NO_ERROR"), "{text}");
}

#[test]
fn mirror_list_has_the_references_columns() {
    let lines: Vec<_> = mirrors(&[sample_mirror()]).lines().map(squeeze).collect();
    assert_eq!(
        lines[1],
        "Link Name Mirror Topic Name Num Partition Max Per Partition Mirror Lag Source Topic Name Mirror Status Status Time Ms"
    );
    assert_eq!(lines[3], "from-on-prem-link from-on-prem 1 0 from-on-prem ACTIVE 1700000000000");
    assert_eq!(mirrors(&[]), "No mirror topics found.");
}

#[test]
fn mirror_describe_is_a_partition_a_row() {
    let lines: Vec<_> = mirror(&sample_mirror()).lines().map(squeeze).collect();
    assert_eq!(lines[3], "from-on-prem-link from-on-prem from-on-prem ACTIVE 1700000000000 0 0 5 5 5 12 FETCHING");
}

#[test]
fn json_has_the_references_keys() {
    let json = show(Output::Json, &vec![sample_mirror()], |_| unreachable!());
    for key in ["link_name", "mirror_topic_name", "num_partition", "max_per_partition_mirror_lag", "status_time_ms"] {
        assert!(json.contains(&format!("\"{key}\"")), "{json}");
    }
    let json = show(Output::Json, &sample_link(), |_| unreachable!());
    assert!(json.contains("\"mirror_partition_states_count\"") && json.contains("\"state\": \"ACTIVE\""), "{json}");
}

#[test]
fn a_verification_says_what_it_found() {
    let mut view =
        VerifyView { finished: true, partitions: 2, partitions_done: 2, batches: 7, bytes: 99, ..Default::default() };
    assert_eq!(
        verification(&view),
        "Compared 7 batches, 99 bytes, 0 offsets in 2 of 2 partitions: every byte is equal."
    );
    view.differences = 1;
    view.first_difference = Some("t-0 at offset 3: crc".into());
    assert!(verification(&view).ends_with("1 difference.\nFirst difference: t-0 at offset 3: crc"));
}

#[test]
fn bytes_have_a_unit() {
    assert_eq!(bytes(999), "999 B");
    assert_eq!(bytes(1_230_000), "1.23 MB");
    assert_eq!(bytes(u64::MAX), "18446744.07 TB");
}

fn squeeze(text: impl AsRef<str>) -> String {
    text.as_ref().replace(['│', '┆', '─'], " ").split_whitespace().collect::<Vec<_>>().join(" ")
}
