//! Flags in, the reference's lines out.

use super::*;
use crate::cli::{Cli, Command};
use crate::operations::{RefusalCode, samples};
use clap::Parser;

fn flags(args: &[&str]) -> Result<Flags, clap::Error> {
    match Cli::try_parse_from(["hawser", "kafka-mirrors", "--bootstrap-server", "h:1"].iter().chain(args))?.command {
        Command::KafkaMirrors(flags) => Ok(flags),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_mirror_is_described_as_a6_shows_it() {
    let mut mirror = samples::mirror();
    mirror.mirror_topic_name = "eu.from-on-prem".into();
    mirror.partitions = vec![
        samples::partition(0, "FETCHING", Some(15)),
        samples::partition(1, "STARTING", None),
        samples::partition(2, "FAILED", Some(5)),
    ];
    assert_eq!(
        described(&mirror),
        "Topic: eu.from-on-prem\tLinkName: from-on-prem-link\tLinkId: sTN9\tMirrorTopic: from-on-prem\tState: ACTIVE\tStateTime: 2024-01-01 12:00:00\n\
         \tPartition: 0\tState: ACTIVE\tDestLogEndOffset: 5\tLastFetchSourceHighWatermark: 15\tLag: 10\tTimeSinceLastFetchMs: 12\n\
         \tPartition: 1\tState: ACTIVE\tDestLogEndOffset: 5\tLastFetchSourceHighWatermark: -1\tLag: -1\tTimeSinceLastFetchMs: -1\n\
         \tPartition: 2\tState: FAILED\tDestLogEndOffset: 5\tLastFetchSourceHighWatermark: 5\tLag: 0\tTimeSinceLastFetchMs: 12"
    );
}

#[test]
fn a_promotion_is_told_as_a7_tells_it() {
    let mut result = AlteredMirror {
        link_name: "from-cloud-link".into(),
        mirror_topic_name: "cloud-topic".into(),
        error_code: None,
        error_message: None,
        mirror_lags: Vec::new(),
    };
    assert_eq!(
        altered(&result, MirrorAction::Promote, false),
        "Request for stopping topic cloud-topics mirror was successfully scheduled. \
         Please use the describe command with the --pending-stopped-only option to monitor progress."
    );
    assert_eq!(
        altered(&result, MirrorAction::Pause, false),
        "Request for pausing topic cloud-topics mirror was successfully scheduled."
    );
    assert_eq!(
        altered(&result, MirrorAction::Failover, true),
        "Request for stopping topic cloud-topics mirror is valid; nothing was changed."
    );
    result.error_code = Some(RefusalCode::MirrorStopped);
    result.error_message = Some("it has stopped".into());
    assert_eq!(
        altered(&result, MirrorAction::Resume, true),
        "Request for unpausing topic cloud-topics mirror failed: it has stopped"
    );
}

#[test]
fn each_command_of_the_walk_through_is_understood() {
    for good in [
        &["--create", "--mirror-topic", "cloud-topic", "--link", "from-cloud-link"][..],
        &["--create", "--mirror-topic", "p.t", "--source-topic", "t", "--link", "l", "--replication-factor", "1"],
        &["--list"],
        &["--describe", "--link", "from-cloud-link"],
        &["--describe", "--links", "l", "--topics", "a,b", "--pending-stopped-only"],
        &["--promote", "--topics", "cloud-topic", "--command-config", "f"],
        &["--failover", "--link", "l"],
        &["--unpause", "--topics", "a,b"],
        &["--truncate-and-restore", "--topics", "a", "--link", "l", "--include-partition-data"],
    ] {
        flags(good).unwrap_or_else(|e| panic!("{good:?}: {e}"));
    }
    for bad in [
        &[][..],
        &["--create", "--link", "l"],
        &["--create", "--mirror-topic", "t"],
        &["--list", "--describe"],
        &["--list", "--pending-stopped-only"],
        &["--create", "--mirror-topic", "t", "--link", "l", "--validate-only"],
        &["--describe", "--validate-only"],
        &["--create", "--mirror-topic", "t", "--link", "l", "--topics", "t"],
        &["--promote", "--topics", "t", "--include-partition-data"],
    ] {
        assert!(flags(bad).is_err(), "{bad:?}");
    }
    assert_eq!(flags(&["--pause", "--topics", "a,b"]).unwrap().topics, ["a", "b"]);
}

#[tokio::test]
async fn either_topics_or_a_link_is_altered() {
    for args in [&["--promote"][..], &["--promote", "--topics", "t", "--link", "l"]] {
        let error = run(flags(args).unwrap()).await.unwrap_err();
        assert!(error.is::<Usage>() && error.to_string().contains("exactly one of --topics and --link"), "{error}");
    }
    let error = run(flags(&["--reverse-and-start", "--link", "l"]).unwrap()).await.unwrap_err().to_string();
    assert!(error.contains("bidirectional"), "{error}");
}

#[test]
fn times_are_in_utc() {
    assert_eq!(date_time(0), "1970-01-01 00:00:00");
    assert_eq!(date_time(951_782_399_999), "2000-02-28 23:59:59");
    assert_eq!(date_time(i64::MAX), i64::MAX.to_string());
}
