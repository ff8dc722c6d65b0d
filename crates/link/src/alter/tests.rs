use super::*;

type Row<'a> = (&'a str, Option<&'a str>);

fn destination() -> BTreeMap<String, String> {
    map(&[
        ("link.mode", "DESTINATION"),
        ("connection.mode", "INBOUND"),
        ("cluster.link.prefix", "west."),
        ("replica.fetch.max.bytes", "2048"),
        ("auto.create.mirror.topics.enable", "true"),
        (
            "auto.create.mirror.topics.filters",
            r#"{"topicFilters":[{"name":"*","patternType":"LITERAL","filterType":"INCLUDE"}]}"#,
        ),
    ])
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn changed(current: &BTreeMap<String, String>, rows: &[Row<'_>]) -> Result<Altered, ConfigErrors> {
    let alterations: Vec<_> =
        rows.iter().map(|(name, value)| Alteration { name: (*name).into(), value: value.map(Into::into) }).collect();
    alter("west", current, &alterations)
}

fn names(altered: &Altered) -> Vec<&str> {
    altered.changed.iter().map(String::as_str).collect()
}

#[test]
fn what_changes_is_what_differs_in_effect() {
    let cases: &[(&[Row<'_>], &[&str])] = &[
        (&[], &[]),
        (&[("cluster.link.paused", Some("true"))], &["cluster.link.paused"]),
        (&[("cluster.link.paused", Some("FALSE "))], &[]),
        (&[("replica.fetch.max.bytes", None)], &["replica.fetch.max.bytes"]),
        (&[("replica.fetch.min.bytes", Some("1"))], &[]),
        (&[("replica.fetch.min.bytes", None)], &[]),
        (&[("link.mode", Some("destination")), ("cluster.link.prefix", Some("west."))], &[]),
    ];
    for (rows, expected) in cases {
        let altered = changed(&destination(), rows).expect("valid");
        assert_eq!(names(&altered), *expected, "{rows:?}");
    }
}

#[test]
fn every_error_is_told_at_once_and_by_name() {
    let rows = [
        ("link.mode", Some("SOURCE")),
        ("connection.mode", Some("OUTBOUND")),
        ("cluster.link.prefix", None),
        ("replica.fetch.max.byte", None),
        ("replica.fetch.wait.max.ms", Some("soon")),
        ("request.timeout.ms", Some("5")),
        ("request.timeout.ms", None),
    ];
    let errors = changed(&destination(), &rows).expect_err("refused").to_string();
    for expected in [
        "link.mode: cannot be changed",
        "connection.mode: cannot be changed",
        "cluster.link.prefix: cannot be changed",
        "replica.fetch.max.byte: is not a key of a link: did you mean replica.fetch.max.bytes?",
        "replica.fetch.wait.max.ms: is \"soon\"; expected a whole number",
        "request.timeout.ms: is named twice",
    ] {
        assert!(errors.contains(expected), "{expected} is missing in\n{errors}");
    }
    assert!(!errors.contains("SOURCE/OUTBOUND half"), "judged by a half that it cannot become:\n{errors}");
}

#[test]
fn the_other_halfs_keys_are_refused_on_change_too() {
    let errors = changed(&destination(), &[("sasl.jaas.config", Some("hunter2"))]).expect_err("refused").to_string();
    assert!(errors.contains("sasl.jaas.config: is not for a DESTINATION/INBOUND half"), "{errors}");
    assert!(!errors.contains("hunter2"), "{errors}");
}

#[test]
fn a_feature_that_is_switched_off_loses_its_filters() {
    let off = changed(&destination(), &[("auto.create.mirror.topics.enable", Some("false"))]).expect("valid");
    assert!(!off.configs.contains_key("auto.create.mirror.topics.filters"));
    assert_eq!(names(&off), ["auto.create.mirror.topics.enable", "auto.create.mirror.topics.filters"]);
    let kept = r#"{"topicFilters":[]}"#;
    let both = [("auto.create.mirror.topics.enable", None), ("auto.create.mirror.topics.filters", Some(kept))];
    let kept_on = changed(&destination(), &both).expect("valid");
    assert_eq!(kept_on.configs.get("auto.create.mirror.topics.filters").map(String::as_str), Some(kept));
}

#[test]
fn debug_shows_no_value() {
    let alteration = Alteration { name: "sasl.jaas.config".into(), value: Some("hunter2".into()) };
    assert_eq!(format!("{alteration:?}"), "set sasl.jaas.config");
}
