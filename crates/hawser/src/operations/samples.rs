//! Views as faces get them, for their tests.

use super::{LinkConfigView, LinkState, LinkView, MirrorPartitionView, MirrorView, TaskErrorView, TaskView};
use std::collections::BTreeMap;

/// A destination half whose source answers.
pub(crate) fn link() -> LinkView {
    LinkView {
        link_name: "from-on-prem-link".into(),
        link_id: Some("sTN9".into()),
        link_mode: "DESTINATION".into(),
        connection_mode: "INBOUND".into(),
        local_cluster: "cloud".into(),
        source_cluster: Some("onprem".into()),
        destination_cluster: None,
        remote_cluster: Some("onprem".into()),
        state: LinkState::Active,
        remote_is_available: true,
        error: "NO_ERROR".into(),
        error_message: None,
        last_beat_ms: Some(900),
        last_fetch_ms: Some(40),
        connections: Some(3),
        members: Vec::new(),
        tasks: vec![task()],
        mirror_partition_states_count: Some(BTreeMap::from([("ACTIVE".into(), 2)])),
        configs: BTreeMap::from([("link.mode".into(), "DESTINATION".into())]),
    }
}

/// A mirror of that link with one partition that lacks nothing.
pub(crate) fn mirror() -> MirrorView {
    MirrorView {
        link_name: "from-on-prem-link".into(),
        mirror_topic_name: "from-on-prem".into(),
        source_topic_name: "from-on-prem".into(),
        mirror_status: "ACTIVE".into(),
        mirror_topic_error: None,
        status_time_ms: 1_704_110_400_123,
        stopped_by: None,
        waits_for: Vec::new(),
        mirror_start_offset_spec: "earliest".into(),
        link_id: Some("sTN9".into()),
        mirror_topic_id: "BBB".into(),
        source_topic_id: Some("CCC".into()),
        num_partition: 1,
        max_per_partition_mirror_lag: 0,
        partitions: vec![partition(0, "FETCHING", Some(5))],
    }
}

/// A partition that ends at 5, before or after its first fetch.
pub(crate) fn partition(partition: i32, state: &str, source_high_watermark: Option<i64>) -> MirrorPartitionView {
    MirrorPartitionView {
        partition,
        state: state.into(),
        reason: None,
        log_start_offset: 0,
        log_end_offset: 5,
        last_source_high_watermark: source_high_watermark.unwrap_or(-1),
        partition_mirror_lag: source_high_watermark.map_or(-1, |high_watermark| high_watermark - 5),
        partition_mirror_lag_ms: Some(0),
        last_source_fetch_offset: 5,
        time_since_last_fetch_ms: source_high_watermark.map(|_| 12),
        stopped_at_offset: None,
        size_bytes: 73,
    }
}

/// A setting that nobody has changed.
pub(crate) fn config(name: &str, value: Option<&str>, is_sensitive: bool) -> LinkConfigView {
    LinkConfigView {
        name: name.into(),
        value: value.map(Into::into),
        is_default: true,
        is_read_only: false,
        is_sensitive,
        source: "DEFAULT_CONFIG".into(),
        synonyms: Vec::new(),
    }
}

/// A sync that found something wrong.
pub(crate) fn task() -> TaskView {
    TaskView {
        task_name: "ConsumerOffsetSync".into(),
        state: "IN_ERROR".into(),
        errors: vec![TaskErrorView {
            error_code: "CONSUMER_GROUP_IN_USE_ERROR".into(),
            error_message: "group g has members".into(),
        }],
        last_run_ms: Some(1_704_110_400_123),
        last_duration_ms: Some(7),
        runs: 3,
        changed: 2,
        examined: 10,
        skipped: 1,
        skipped_reasons: vec!["group h is left out".into()],
    }
}
