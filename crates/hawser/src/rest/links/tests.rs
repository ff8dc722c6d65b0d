//! Which cluster a body means by its three ids.

use super::*;

#[test]
fn the_other_cluster_is_found_in_every_spelling() {
    let remote = |mode: &str, source: &str, destination: &str, other: &str| {
        let configs = BTreeMap::from([("link.mode".to_owned(), mode.to_owned())]);
        super::remote("own", &configs, [source, destination, other].map(|id| Some(id.to_owned())))
    };
    let source = |id: &str| Ok(Some(RemoteCluster::Source(id.into())));
    let destination = |id: &str| Ok(Some(RemoteCluster::Destination(id.into())));
    let other = |id: &str| Ok(Some(RemoteCluster::Other(id.into())));
    let table = [
        ("DESTINATION", "", "", "", Ok(None)),
        ("DESTINATION", "S", "", "", source("S")),
        ("DESTINATION", "S", "own", "", source("S")),
        // As an example of this API has it.
        ("DESTINATION", "", "S", "", other("S")),
        ("SOURCE", "", "D", "", destination("D")),
        ("SOURCE", "own", "D", "", destination("D")),
        // Refused by the operation, which knows why.
        ("SOURCE", "S", "", "", source("S")),
        ("DESTINATION", "", "", "R", other("R")),
    ];
    for (mode, s, d, o, expected) in table {
        assert_eq!(remote(mode, s, d, o), expected, "{mode} {s} {d} {o}");
    }
    for (s, d, o) in [("S", "D", ""), ("S", "", "R"), ("", "D", "R")] {
        assert_eq!(remote("DESTINATION", s, d, o).unwrap_err().code, 40002);
    }
}

#[test]
fn the_later_of_two_settings_wins_and_null_sets_nothing() {
    let configs: Vec<Config> = serde_json::from_str(
        r#"[{"name":"a","value":"1"},{"name":"a","value":"2"},{"name":"b","value":null},{"name":"c"}]"#,
    )
    .unwrap();
    assert_eq!(settings(&configs), BTreeMap::from([("a".to_owned(), "2".to_owned())]));
}

#[test]
fn an_id_has_both_writings() {
    let id = Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
    assert_eq!(uuid_text(&crate::service::kafka_uuid(id)), "01234567-89ab-cdef-0123-456789abcdef");
    for none in ["", "AAAA", "%%%"] {
        assert_eq!(uuid_text(none), "");
    }
}
