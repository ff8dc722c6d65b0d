//! Flags become operations.

use super::*;
use crate::cli::{Cli, Command};
use clap::Parser;

fn create(args: &[&str]) -> LinkCreate {
    match Cli::try_parse_from(["hawser", "link", "create"].iter().chain(args)).expect("usage").command {
        Command::Link(Link::Create(create)) => *create,
        other => panic!("{other:?}"),
    }
}

#[test]
fn both_scenarios_words_are_understood() {
    let a1 = create(&["l", "--cluster", "C", "--source-cluster", "P", "--config-file", "f"]);
    assert_eq!((a1.name.as_deref(), a1.source_cluster.as_deref()), (Some("l"), Some("P")));
    let a1_older = create(&["l", "--source-cluster-id", "P", "--config", "f"]);
    assert_eq!(a1_older.source_cluster.as_deref(), Some("P"));
    let a3 = create(&[
        "--link",
        "l",
        "--config-file",
        "f",
        "--cluster-id",
        "C",
        "--bootstrap-server",
        "h:1",
        "--command-config",
        "c",
    ]);
    assert_eq!((a3.link.as_deref(), a3.cluster_id.as_deref()), (Some("l"), Some("C")));
    let b2 = create(&["l", "--cluster", "P", "--destination-cluster-id", "J", "--config", "f"]);
    assert_eq!(b2.destination_cluster.as_deref(), Some("J"));
    let both = ["hawser", "link", "create", "l", "--source-cluster", "a", "--destination-cluster", "b"];
    assert!(Cli::try_parse_from(both).is_err());
    assert!(Cli::try_parse_from(["hawser", "link", "create"]).is_err());
}

#[test]
fn flags_of_scenario_b4_become_settings() {
    let create = create(&[
        "jump-to-dr",
        "--source-cluster",
        "J",
        "--source-bootstrap-server",
        "j:9092",
        "--source-api-key",
        "k",
        "--source-api-secret",
        "s\"t",
    ]);
    let configs = owned(&link_configs(&create).unwrap());
    assert_eq!(configs["bootstrap.servers"], "j:9092");
    assert_eq!(configs["security.protocol"], "SASL_SSL");
    assert!(configs["sasl.jaas.config"].ends_with(r#"username="k" password="s\"t";"#));
}

#[test]
fn api_keys_of_both_sides_fill_a_source_half() {
    let create = create(&[
        "l",
        "--config",
        "link.mode=SOURCE",
        "--source-api-key",
        "here",
        "--source-api-secret",
        "a",
        "--destination-bootstrap-server",
        "d:9092",
        "--destination-api-key",
        "there",
        "--destination-api-secret",
        "b",
    ]);
    let configs = owned(&link_configs(&create).unwrap());
    assert_eq!(configs["bootstrap.servers"], "d:9092");
    assert!(configs["sasl.jaas.config"].ends_with(r#"username="there" password="b";"#));
    assert!(configs["local.sasl.jaas.config"].ends_with(r#"username="here" password="a";"#));
    assert_eq!(configs["local.security.protocol"], "SASL_SSL");
}

#[test]
fn a_later_source_of_settings_wins() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("link.config");
    std::fs::write(&file, "link.mode=SOURCE\nbootstrap.servers=a:1\n").unwrap();
    let create = create(&["l", "--config-file", file.to_str().unwrap(), "--config", "bootstrap.servers=b:2"]);
    let configs = owned(&link_configs(&create).unwrap());
    assert_eq!((configs["link.mode"].as_str(), configs["bootstrap.servers"].as_str()), ("SOURCE", "b:2"));
}

#[test]
fn a_link_files_errors_name_its_lines() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("link.config");
    std::fs::write(&file, "link.mode=SOURCE\nconnection.mode=OUTBOUND\n\nbootstrap.server=a:1\n").unwrap();
    for flag in ["--config-file", "--config"] {
        let properties = link_configs(&create(&["l", flag, file.to_str().unwrap()])).unwrap();
        let errors = LinkConfig::parse(&properties).unwrap_err().to_string();
        assert!(errors.contains("link.config:4: bootstrap.server: "), "{errors}");
    }
}
