//! The JSON of operations is what a daemon of another version may get: its shape is pinned.

use super::*;

#[test]
fn operations_have_a_stable_json_form() {
    let create = Operation::LinkCreate {
        link: "l".into(),
        configs: BTreeMap::from([("link.mode".into(), "SOURCE".into())]),
        remote: Some(RemoteCluster::Destination("abc".into())),
        validate_only: false,
        skip_remote_check: false,
    };
    let json = serde_json::to_string(&create).unwrap();
    assert_eq!(
        json,
        "{\"operation\":\"link_create\",\"link\":\"l\",\"configs\":{\"link.mode\":\"SOURCE\"},\
         \"remote\":{\"destination\":\"abc\"},\"validate_only\":false,\"skip_remote_check\":false}"
    );
    let short = r#"{"operation":"link_create","link":"l","configs":{},"remote":null}"#;
    assert!(serde_json::from_str::<Operation>(short).is_ok());
    assert!(
        serde_json::from_str::<Operation>(r#"{"operation":"link_list","link":"l"}"#)
            .is_ok_and(|o| o.name() == "link list")
    );
    assert!(serde_json::from_str::<Operation>(r#"{"operation":"link_burn","link":"l"}"#).is_err());
}

#[test]
fn replies_have_a_stable_json_form() {
    let refused = Reply::Refused(Refusal::new(RefusalCode::LinkNotFound, "no"));
    assert_eq!(serde_json::to_string(&refused).unwrap(), r#"{"refused":{"code":"LINK_NOT_FOUND","message":"no"}}"#);
    let done = Reply::Done(Box::new(Outcome::VerifyStarted { verification: 3 }));
    assert_eq!(serde_json::to_string(&done).unwrap(), r#"{"done":{"outcome":"verify_started","verification":3}}"#);
}

#[test]
fn debug_shows_no_settings() {
    let create = Operation::LinkCreate {
        link: "l".into(),
        configs: BTreeMap::from([("sasl.jaas.config".into(), "hunter2".into())]),
        remote: None,
        validate_only: false,
        skip_remote_check: false,
    };
    assert_eq!(format!("{create:?}"), "link create l");
}
