//! Flags in, the reference's lines out.

use super::*;
use crate::cli::{Cli, Command};
use crate::operations::{LinkState, samples};
use clap::Parser;

fn flags(args: &[&str]) -> Result<Flags, clap::Error> {
    let all = ["hawser", "kafka-cluster-links", "--bootstrap-server", "h:1"];
    match Cli::try_parse_from(all.iter().chain(args))?.command {
        Command::KafkaClusterLinks(flags) => Ok(flags),
        other => panic!("{other:?}"),
    }
}

fn link() -> LinkView {
    LinkView { remote_cluster: Some("R".into()), local_cluster: "C".into(), ..samples::link() }
}

fn mirror(link: &str, topic: &str) -> MirrorView {
    MirrorView { link_name: link.into(), mirror_topic_name: topic.into(), ..samples::mirror() }
}

#[test]
fn links_are_listed_as_a4_shows_them() {
    let mut link = link();
    assert_eq!(
        listed(&link, None),
        "Link name: 'from-on-prem-link', link ID: 'sTN9', remote cluster ID: 'R', local cluster ID: 'C', \
         remote cluster available: 'true', link state: 'ACTIVE'"
    );
    let mirrors = vec![mirror("from-on-prem-link", "a"), mirror("other", "x"), mirror("from-on-prem-link", "b")];
    assert!(listed(&link, Some(&mirrors)).ends_with("link state: 'ACTIVE', topics: [a, b]"));
    link.state = LinkState::Paused;
    assert!(listed(&link, None).ends_with("available: 'true', link state: 'PAUSED'"));
    link.remote_is_available = false;
    assert!(listed(&link, None).ends_with("available: 'false', link state: 'PAUSED'"));
    link.state = LinkState::Unavailable;
    (link.link_id, link.remote_cluster) = (None, None);
    assert_eq!(
        listed(&link, None),
        "Link name: 'from-on-prem-link', link ID: '', remote cluster ID: '', local cluster ID: 'C', \
         remote cluster available: 'false', link state: 'UNAVAILABLE'"
    );
}

#[test]
fn a_description_has_the_coordinator_and_the_settings_but_no_secret() {
    let configs = [
        samples::config("a", Some("1"), false),
        samples::config("sasl.jaas.config", Some("x"), true),
        samples::config("b", None, false),
    ];
    assert_eq!(
        described(&link(), &[], &configs, (0, "localhost")),
        "Link name: 'from-on-prem-link', link ID: 'sTN9', remote cluster ID: 'R', local cluster ID: 'C', \
         remote cluster available: 'true', link mode: 'DESTINATION', connection mode: 'INBOUND', link state: 'ACTIVE', \
         link coordinator id: '0', link coordinator host: 'localhost', topics: []\nConfigs: a=1"
    );
}

#[test]
fn tasks_are_shown_where_they_are_asked_for() {
    assert_eq!(tasks(&link(), false), "");
    assert_eq!(
        tasks(&link(), true),
        "\n\tTask: ConsumerOffsetSync\tState: IN_ERROR\tLastRunMs: 1704110400123\tRuns: 3\tExamined: 10\tChanged: 2\tSkipped: 1\
         \n\t\tError: CONSUMER_GROUP_IN_USE_ERROR\tgroup g has members\
         \n\t\tSkipped: group h is left out"
    );
}

#[test]
fn each_command_of_the_walk_through_is_understood() {
    for good in [
        &["--create", "--link", "l", "--config-file", "f", "--cluster-id", "C", "--command-config", "c"][..],
        &["--create", "--link-name", "l", "--cluster-id", "C", "--exclude-validate-link", "--validate-only"],
        &["--create", "--link", "l", "--config", "a=1", "--acl-filters-json", "{}", "--topic-filters-json-file", "f"],
        &["--list", "--include-topics"],
        &["--describe", "--link", "l", "--include-tasks"],
        &["--list", "--link", "l", "--command-config", "c"],
        &["--describe", "--link", "l"],
        &["--delete", "--link", "l", "--force"],
    ] {
        flags(good).unwrap_or_else(|e| panic!("{good:?}: {e}"));
    }
    for bad in [
        &[][..],
        &["--create"],
        &["--delete"],
        &["--list", "--create", "--link", "l"],
        &["--create", "--link", "l", "--exclude-validate-link"],
        &["--list", "--config", "a=1"],
        &["--list", "--validate-only"],
        &["--create", "--link", "l", "--include-topics"],
        &["--create", "--link", "l", "--force"],
        &["--describe", "--force"],
    ] {
        assert!(flags(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn settings_come_from_all_their_flags_and_the_later_wins() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (link, topics) =
        (file("link.config", "link.mode=DESTINATION\na=1\n"), file("topics.json", "{\"topicFilters\":[]}"));
    let flags = flags(&[
        "--create",
        "--link",
        "l",
        "--config-file",
        &link,
        "--config",
        "a=2,b=[x,y]",
        "--topic-filters-json-file",
        &topics,
        "--consumer-group-filters-json",
        "{\"groupFilters\":[]}",
    ]);
    let got = settings(&flags.unwrap()).unwrap();
    let expected = [
        ("a", "2"),
        ("auto.create.mirror.topics.filters", "{\"topicFilters\":[]}"),
        ("b", "x,y"),
        ("consumer.offset.group.filters", "{\"groupFilters\":[]}"),
        ("link.mode", "DESTINATION"),
    ];
    assert_eq!(got, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
}
