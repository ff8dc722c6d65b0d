//! Every setting of a link with good, bad and boundary values, on every half: taken, or refused by its name.

use hawser_link::catalogue::{Belongs, CATALOGUE, Change, Key, Kind, LOGIN, effect, find, is_secret, keys_of};
use hawser_link::{Alteration, ConfigError, ConfigErrors, Half, LinkConfig, Properties, alter};
use std::collections::BTreeMap;

const HALVES: [Half; 5] = [
    Half::DestinationOutbound,
    Half::DestinationInbound,
    Half::SourceOutbound,
    Half::BidirectionalOutbound,
    Half::BidirectionalInbound,
];

/// Every key, those of the local login included.
fn keys() -> BTreeMap<String, Key> {
    let own = CATALOGUE.iter().chain(LOGIN).map(|key| key.name.to_owned());
    let local = LOGIN.iter().map(|key| format!("local.{}", key.name));
    own.chain(local).map(|name| (name.clone(), find(&name).expect("it is a key"))).collect()
}

/// A valid half of this kind, with nothing beside what it must have.
fn base(half: Half) -> BTreeMap<String, String> {
    let modes = [("link.mode", half.link_mode().to_string()), ("connection.mode", half.connection_mode().to_string())];
    let mut configs: BTreeMap<_, _> = modes.map(|(name, value)| (name.to_owned(), value)).into();
    if half.dials() {
        configs.insert("bootstrap.servers".to_owned(), "broker:9092".to_owned());
    }
    configs
}

fn properties(configs: &BTreeMap<String, String>) -> Properties {
    let mut properties = Properties::parse("link west", "");
    configs.iter().for_each(|(name, value)| properties.set(name, value));
    properties
}

/// What is wrong with `name` on this half when it has `value`: warnings and errors about it alone.
fn said(half: Half, name: &str, value: &str) -> (Vec<ConfigError>, Vec<ConfigError>) {
    let mut configs = base(half);
    configs.insert(name.to_owned(), value.to_owned());
    let about = |errors: Vec<ConfigError>| errors.into_iter().filter(|error| error.key == name).collect();
    match LinkConfig::parse(&properties(&configs)) {
        Ok(parsed) => (about(parsed.warnings), Vec::new()),
        Err(ConfigErrors(errors)) => (Vec::new(), about(errors)),
    }
}

/// Refusals that come from another setting, not from the value.
fn is_rule(error: &ConfigError) -> bool {
    ["is below ", "needs ", "is not possible ", "is needed"].iter().any(|rule| error.message.starts_with(rule))
}

fn values(kind: Kind) -> (Vec<String>, Vec<String>) {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let filter = |list: &str, more: &str| format!(r#"{{"{list}":[{{"name":"a","patternType":"PREFIXED"{more}}}]}}"#);
    match kind {
        Kind::Boolean => (texts(&["true", "FALSE", " true "]), texts(&["", "yes", "1", "truee"])),
        Kind::Integer(min, max) => {
            let below = min.checked_sub(1).into_iter();
            let above = max.checked_add(1).into_iter();
            let mut bad = texts(&["", "x", "1.5", "0x10", "1 000", "99999999999999999999"]);
            bad.extend(below.chain(above).map(|number| number.to_string()));
            (vec![min.to_string(), max.to_string(), format!(" {min} ")], bad)
        }
        Kind::Choice(choices) => {
            let lower = choices.iter().map(|choice| choice.to_ascii_lowercase());
            let bad = texts(&["nonsense", "0"]);
            (choices.iter().map(|choice| (*choice).to_owned()).chain(lower).collect(), bad)
        }
        Kind::TopicFilters | Kind::GroupFilters => {
            let list = if kind == Kind::TopicFilters { "topicFilters" } else { "groupFilters" };
            let good = filter(list, r#","filterType":"INCLUDE""#);
            let bad = [filter("others", ""), filter(list, r#","filterType":"MAYBE""#), "{".to_owned(), "[]".to_owned()];
            (vec![good], bad.into())
        }
        Kind::AclFilters => {
            let good = r#"{"aclFilters":[{"resourceFilter":{"resourceType":"any","patternType":"any"},"accessFilter":{"operation":"any","permissionType":"any"}}]}"#;
            (texts(&[good]), texts(&["{", "[]", r#"{"aclFilters":[{"resourceFilter":{"resourceType":"sofa"}}]}"#]))
        }
        Kind::TopicConfigs => (Vec::new(), texts(&["no.such.config"])),
        Kind::StartOffset => (
            texts(&["earliest", "LATEST", "2026-01-31T12:00:00Z", "2024-02-29T23:59:59.999+05:30"]),
            texts(&[
                "",
                "yesterday",
                "2026-02-29T00:00:00Z",
                "2026-01-31",
                "1969-12-31T23:59:59Z",
                "2026-01-31T24:00:00Z",
            ]),
        ),
        Kind::Prefix => (texts(&["", "a", "west.", "a-b_c.d-e_f."]), texts(&["a-b_c.d-e_f.g", "a b", "ä", "a/b"])),
        Kind::Text | Kind::List | Kind::Password | Kind::Jvm => (texts(&["anything", "a,b"]), Vec::new()),
    }
}

#[test]
fn every_setting_takes_good_values_and_names_bad_ones() {
    let mut checked = 0;
    for (name, key) in keys() {
        if matches!(name.as_str(), "link.mode" | "connection.mode") {
            continue; // they make the half: see below
        }
        let (good, bad) = values(key.kind);
        for half in HALVES.into_iter().filter(|half| key.belongs.to(*half)) {
            for value in &good {
                let (_, errors) = said(half, &name, value);
                assert!(errors.iter().all(is_rule), "{half} {name}={value}: {errors:?}");
                checked += 1;
            }
            for value in &bad {
                let (_, errors) = said(half, &name, value);
                let is_told = errors.iter().any(|error| !is_rule(error) && !error.message.is_empty());
                assert!(is_told, "{half} takes {name}={value:?}");
                checked += 1;
            }
        }
    }
    assert!(checked > 500, "{checked}");
}

#[test]
fn every_setting_of_another_half_is_refused_with_its_place() {
    let mut refused = 0;
    for (name, key) in keys() {
        for half in HALVES.into_iter().filter(|half| !key.belongs.to(*half)) {
            let value = values(key.kind).0.pop().unwrap_or_else(|| "a".to_owned());
            let (_, mut errors) = said(half, &name, &value);
            errors.retain(|error| !is_rule(error));
            let [error] = errors.as_slice() else { panic!("{half} {name}: {errors:?}") };
            assert!(error.message.contains(&half.to_string()), "{error}");
            assert!(error.message.contains(key.belongs.place()), "{error}");
            refused += 1;
        }
        assert_eq!(key.belongs == Belongs::Both, HALVES.iter().all(|half| key.belongs.to(*half)), "{name}");
        let lists: Vec<_> = HALVES.into_iter().filter(|half| keys_of(*half).contains_key(&name)).collect();
        assert_eq!(lists, HALVES.into_iter().filter(|half| key.belongs.to(*half)).collect::<Vec<_>>(), "{name}");
    }
    assert!(refused > 100, "{refused}");
}

#[test]
fn the_modes_make_five_halves_and_no_others() {
    for link in ["DESTINATION", "SOURCE", "BIDIRECTIONAL", "destination", "MASTER", ""] {
        for connection in ["OUTBOUND", "INBOUND", "inbound", "SIDEWAYS", ""] {
            let mut configs = BTreeMap::from([("link.mode".to_owned(), link.to_owned())]);
            configs.insert("connection.mode".to_owned(), connection.to_owned());
            if connection.eq_ignore_ascii_case("OUTBOUND") {
                configs.insert("bootstrap.servers".to_owned(), "broker:9092".to_owned());
            }
            let made = LinkConfig::parse(&properties(&configs)).map(|parsed| parsed.config.half);
            let is_known = !matches!(link, "MASTER" | "") && !matches!(connection, "SIDEWAYS" | "");
            let is_sensible = !(link == "SOURCE" && connection.eq_ignore_ascii_case("INBOUND"));
            assert_eq!(made.is_ok(), is_known && is_sensible, "{link} {connection}: {made:?}");
        }
    }
}

#[test]
fn what_means_nothing_here_is_taken_with_a_warning() {
    for (name, key) in keys().into_iter().filter(|(_, key)| key.kind == Kind::Jvm) {
        let half = HALVES.into_iter().find(|half| key.belongs.to(*half)).expect("of some half");
        let (warnings, errors) = said(half, &name, "org.example.Thing");
        assert!(errors.is_empty() && warnings.len() == 1, "{name}: {errors:?} {warnings:?}");
        assert!(warnings[0].message.starts_with("has no effect here"), "{}", warnings[0]);
    }
    let (warnings, errors) = said(Half::DestinationOutbound, "source.bootstrap.servers", "broker:9092");
    assert!(errors.is_empty() && warnings.len() == 1);
}

#[test]
fn unknown_names_are_refused_with_the_nearest_one_and_secrets_never_shown() {
    for (name, key) in keys() {
        let typo = format!("{name}s");
        if find(&typo).is_none() {
            let (_, errors) = said(Half::DestinationOutbound, &typo, "hunter2");
            assert!(errors[0].message.contains("did you mean"), "{}", errors[0]);
            assert!(!errors[0].to_string().contains("hunter2"), "{}", errors[0]);
        }
        assert_eq!(is_secret(&name), key.kind == Kind::Password, "{name}");
        assert!(!key.doc.is_empty(), "{name}");
    }
}

#[test]
fn every_setting_is_changed_live_or_refused_as_fixed() {
    for (name, key) in keys() {
        let Some(half) = HALVES.into_iter().find(|half| key.belongs.to(*half)) else { panic!("{name} is of no half") };
        let current = base(half);
        let default = key.default.map(str::to_owned).or_else(|| current.get(&name).cloned());
        let (good, _) = values(key.kind);
        let other = good.into_iter().find(|value| {
            default.as_ref().is_none_or(|default| !default.eq_ignore_ascii_case(value.trim())) && !value.is_empty()
        });
        let Some(value) = other else { continue };
        let altered = alter("west", &current, &[Alteration { name: name.clone(), value: Some(value.clone()) }]);
        match (key.change, altered) {
            (Change::Fixed, Err(errors)) => {
                let is_named = errors.0.iter().any(|error| error.key == name && error.message.starts_with("cannot be"));
                assert!(is_named, "{name}: {errors}");
            }
            (Change::Fixed, Ok(_)) => panic!("{name}={value} is fixed"),
            (Change::Live, Ok(altered)) => {
                assert!(altered.changed.contains(&name), "{name}={value}");
                let _ = effect(&name);
            }
            (Change::Live, Err(errors)) => assert!(errors.0.iter().all(is_rule), "{name}={value}: {errors}"),
        }
    }
}
