//! The shapes that people and scripts see.

use super::*;
use crate::operations::{BehindView, MirrorLag, WaitView, samples};

#[test]
fn link_list_has_the_references_columns() {
    let lines: Vec<_> = links(&[samples::link()]).lines().map(squeeze).collect();
    assert_eq!(lines[1], "Name ID Source Cluster Destination Cluster Remote Cluster State Error Error Message");
    assert_eq!(lines[3], "from-on-prem-link sTN9 onprem onprem ACTIVE");
    assert_eq!(links(&[]), "No cluster links found.");
}

#[test]
fn link_describe_is_a_property_a_row() {
    let text = squeeze(link(&samples::link()));
    for expected in [
        "Name from-on-prem-link",
        "State ACTIVE",
        "Last Beat 900 ms ago",
        "Connections 3",
        "Last Fetch 40 ms ago",
        "Mirror Partition States Count ACTIVE: 2",
    ] {
        assert!(text.contains(expected), "{text}");
    }
    assert!(!text.contains("NO_ERROR"), "{text}");
}

#[test]
fn mirror_list_has_the_references_columns() {
    let lines: Vec<_> = mirrors(&[samples::mirror()]).lines().map(squeeze).collect();
    assert_eq!(
        lines[1],
        "Link Name Mirror Topic Name Num Partition Max Per Partition Mirror Lag Source Topic Name Mirror Status Status Time Ms"
    );
    assert_eq!(lines[3], "from-on-prem-link from-on-prem 1 0 from-on-prem ACTIVE 1704110400123");
    assert_eq!(mirrors(&[]), "No mirror topics found.");
}

#[test]
fn link_list_with_topics_has_a_row_for_each() {
    let (with, without) = (samples::link(), LinkView { link_name: "idle".into(), ..samples::link() });
    let rows = [with, without];
    let mirrors = ["a", "b"].map(|topic| MirrorView { mirror_topic_name: topic.into(), ..samples::mirror() });
    let rows = links_with_topics(&rows, &mirrors);
    let lines: Vec<_> = link_topics(&rows).lines().map(squeeze).collect();
    assert!(lines[1].starts_with("Name ID Topic Name Source Cluster"), "{lines:?}");
    assert_eq!(lines[3], "from-on-prem-link sTN9 a onprem onprem ACTIVE");
    assert_eq!(lines[4], "from-on-prem-link sTN9 b onprem onprem ACTIVE");
    assert_eq!(lines[5], "idle sTN9 onprem onprem ACTIVE");
    let json = show(Output::Json, &rows, |_| unreachable!());
    assert!(json.contains("\"topic_name\": \"a\"") && json.contains("\"link_name\": \"idle\""), "{json}");
    assert_eq!(link_topics(&[]), "No cluster links found.");
}

#[test]
fn tasks_have_the_references_columns() {
    let lines: Vec<_> = link_tasks(&[samples::task()]).lines().map(squeeze).collect();
    assert_eq!(lines[1], "Task Name State Errors Last Run Ms Runs Examined Changed Skipped");
    assert_eq!(
        lines[3],
        "ConsumerOffsetSync IN_ERROR CONSUMER_GROUP_IN_USE_ERROR: group g has members 1704110400123 3 10 2 1"
    );
    assert_eq!(lines[5], "Skipped by ConsumerOffsetSync: group h is left out");
    let described = squeeze(link(&samples::link()));
    let task =
        "ConsumerOffsetSync IN_ERROR: group g has members (last run 1704110400123, 3 runs, 2 changes, 1 skipped)";
    assert!(described.contains(task), "{described}");
}

#[test]
fn settings_have_the_references_columns() {
    let configs = [samples::config("a", Some("1"), false), samples::config("b", None, true)];
    let rows = configs.iter().map(LinkConfigRow::from).collect::<Vec<_>>();
    let json = show(Output::Json, &rows[..1].iter().collect::<Vec<_>>(), |_| unreachable!());
    for field in
        ["config_name\": \"a", "config_value\": \"1", "read_only\": false", "sensitive\": false", "synonyms\": []"]
    {
        assert!(json.contains(field), "{field}: {json}");
    }
    let lines: Vec<_> = link_configs(&rows).lines().map(squeeze).collect();
    assert_eq!(lines[1], "Config Name Config Value Read-Only Sensitive Source Synonyms");
    assert_eq!((&*lines[3], &*lines[4]), ("a 1 false false DEFAULT_CONFIG", "b false true DEFAULT_CONFIG"));
}

#[test]
fn a_promotion_is_a_partition_a_row_and_an_error_one_row() {
    let lag = |partition| MirrorLag { partition, lag: 0, last_source_fetch_offset: 5 };
    let done = AlteredMirror {
        link_name: "l".into(),
        mirror_topic_name: "from-on-prem".into(),
        error_code: None,
        error_message: None,
        mirror_lags: vec![lag(0), lag(1)],
    };
    let refused = AlteredMirror {
        error_code: Some(RefusalCode::MirrorStopped),
        error_message: Some("it has stopped".into()),
        mirror_lags: Vec::new(),
        ..done.clone()
    };
    let lines: Vec<_> = altered_mirrors(&[done, refused]).lines().map(squeeze).collect();
    assert_eq!(
        lines[1],
        "Mirror Topic Name Partition Partition Mirror Lag Error Message Error Code Last Source Fetch Offset"
    );
    assert_eq!((&*lines[3], &*lines[4]), ("from-on-prem 0 0 5", "from-on-prem 1 0 5"));
    assert_eq!(lines[5], "from-on-prem -1 -1 it has stopped MIRROR_STOPPED -1");
    assert_eq!(altered_mirrors(&[]), "No mirror topics found.");
}

#[test]
fn mirror_describe_is_a_partition_a_row() {
    let lines: Vec<_> = mirror(&samples::mirror()).lines().map(squeeze).collect();
    assert_eq!(
        lines[3],
        "from-on-prem-link from-on-prem from-on-prem ACTIVE 1704110400123 0 0 0.000 5 5 5 12 FETCHING"
    );
    let wait = WaitView { condition: "MIRROR_LAG".into(), reason: "3 records are missing".into() };
    let promoted = MirrorView { waits_for: vec![wait], ..samples::mirror() };
    assert!(mirror(&promoted).ends_with("\nWaits for MIRROR_LAG: 3 records are missing"));
}

#[test]
fn what_a_promotion_waits_for_is_a_row_each() {
    let waits = [WaitView { condition: "MIRROR_LAG".into(), reason: "3 records are missing".into() }];
    let rows: Vec<_> = waits.iter().map(StateTransitionErrorRow::from).collect();
    let lines: Vec<_> = state_transition_errors(&rows).lines().map(squeeze).collect();
    assert_eq!(lines[1], "Mirror State Transition Error Code Mirror State Transition Error Message");
    assert_eq!(lines[3], "MIRROR_LAG 3 records are missing");
    let json = show(Output::Json, &rows, |_| unreachable!());
    assert!(json.contains("\"error_code\": \"MIRROR_LAG\"") && json.contains("\"error_message\""), "{json}");
    assert_eq!(state_transition_errors(&[]), "No state transition errors found.");
}

#[test]
fn json_has_the_references_keys() {
    let json = show(Output::Json, &vec![samples::mirror()], |_| unreachable!());
    for key in ["link_name", "mirror_topic_name", "num_partition", "max_per_partition_mirror_lag", "status_time_ms"] {
        assert!(json.contains(&format!("\"{key}\"")), "{json}");
    }
    let json = show(Output::Json, &samples::link(), |_| unreachable!());
    assert!(json.contains("\"mirror_partition_states_count\"") && json.contains("\"state\": \"ACTIVE\""), "{json}");
}

#[test]
fn yaml_says_what_json_says() {
    let yaml = show(Output::Yaml, &vec![samples::mirror()], |_| unreachable!());
    let read: serde_json::Value = serde_saphyr::from_str(&yaml).unwrap();
    assert_eq!(read, serde_json::to_value([samples::mirror()]).unwrap(), "{yaml}");
    assert!(yaml.starts_with("- link_name: from-on-prem-link\n"), "{yaml}");
}

#[test]
fn a_verification_says_what_it_found() {
    let mut view =
        VerifyView { finished: true, partitions: 2, partitions_done: 2, batches: 7, bytes: 99, ..Default::default() };
    assert_eq!(
        verification(&view),
        "Compared 7 batches, 99 bytes, 0 offsets in 2 of 2 partitions: in sync, every byte is equal."
    );
    (view.partitions_behind, view.records_behind) = (1, 40);
    view.behind.push(BehindView {
        mirror_topic_name: "t".into(),
        partition: 1,
        log_end_offset: 60,
        source_end_offset: 100,
        records_behind: 40,
        reason: "the mirror is PAUSED".into(),
    });
    assert_eq!(
        verification(&view),
        "Compared 7 batches, 99 bytes, 0 offsets in 2 of 2 partitions: 40 records missing at the end of 1 partition.\n\
         Behind: t-1 ends at offset 60, its source at 100: 40 records missing, the mirror is PAUSED"
    );
    view.behind.clear();
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
