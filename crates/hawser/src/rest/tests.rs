//! The table of paths against `docs/openapi.yaml`, and every refusal's code.

use super::routes::ROUTES;
use super::*;
use crate::operations::{Refusal, RefusalCode};
use serde_json::Value;
use std::collections::BTreeSet;

fn openapi() -> Value {
    serde_saphyr::from_str(include_str!("../../../../docs/openapi.yaml")).expect("YAML")
}

#[test]
fn what_is_served_is_described_and_what_is_described_is_served() {
    let served: BTreeSet<_> = ROUTES.iter().map(|r| (r.path.to_owned(), r.method.to_string())).collect();
    assert_eq!(served.len(), ROUTES.len(), "a route stands there twice");
    let file = openapi();
    let mut described = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for (path, item) in file["paths"].as_object().expect("paths") {
        let declared: BTreeSet<_> = item["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|p| {
                let name =
                    p["$ref"].as_str().and_then(|r| r.strip_prefix("#/components/parameters/")).expect("reference");
                format!("{{{name}}}")
            })
            .collect();
        let in_path: BTreeSet<_> =
            path.split('/').filter_map(|s| s.find('{').map(|at| s[at..=s.find('}').unwrap()].to_owned())).collect();
        assert_eq!(declared, in_path, "{path}");
        for (method, operation) in item.as_object().expect("item").iter().filter(|(key, _)| *key != "parameters") {
            described.insert((path.clone(), method.to_ascii_uppercase()));
            assert!(ids.insert(operation["operationId"].to_string()), "{path} {method}");
        }
    }
    assert_eq!(described, served);
}

#[test]
fn every_refusal_has_its_status_and_code() {
    use RefusalCode as R;
    let table = [
        (R::NotAuthorized, 403, 40301),
        (R::InvalidRequest, 400, 40002),
        (R::InvalidLinkConfig, 400, 40002),
        (R::LinkExists, 409, 40902),
        (R::LinkNotFound, 404, 404),
        (R::RemoteLinkNotFound, 400, 40002),
        (R::RemoteRefused, 400, 40002),
        (R::LinkUnavailable, 500, 50003),
        (R::LinkHasMirrors, 403, 40301),
        (R::TopicExists, 400, 40002),
        (R::SourceTopicNotFound, 404, 40403),
        (R::MirrorNotFound, 404, 40403),
        (R::VerificationNotFound, 404, 404),
        (R::Internal, 500, 50002),
        (R::Unsupported, 400, 40035),
        (R::TopicRenamingUnsupported, 400, 40035),
        (R::InvalidReplicationFactor, 400, 40002),
        (R::InvalidTopicConfig, 400, 40002),
        (R::MirrorStopped, 400, 400),
        (R::MirrorStopping, 400, 400),
        (R::MirrorFailed, 400, 400),
    ];
    for (refusal, status, code) in table {
        let error = Error::from(Refusal::new(refusal, "why"));
        assert_eq!((error.status.as_u16(), error.code, error.message.as_str()), (status, code, "why"), "{refusal:?}");
        let body = error.into_answer().body.expect("body");
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(body, serde_json::json!({ "error_code": code, "message": "why" }));
    }
}

#[test]
fn names_are_one_segment_of_a_path() {
    assert_eq!(segment("a-b.c_D~9"), "a-b.c_D~9");
    assert_eq!(segment("a/b%\"é"), "a%2Fb%25%22%C3%A9");
}

#[test]
fn what_is_wrong_with_a_body_is_said_without_its_values() {
    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Body {
        value: String,
        #[serde(default)]
        items: Vec<String>,
    }
    let table = [
        (r#"{"value": 5}"#, "has no string where one is needed"),
        (r#"{"value": ["hunter2, expected a boolean at line 1"]}"#, "has no string where one is needed"),
        (r#"{"value": "v", "items": "hunter2"}"#, "has no sequence where one is needed"),
        (r#"{"items": []}"#, "lacks value"),
        (r#"{"value": "v", "hunter2": 1}"#, "does not have the fields of this request"),
        (r#"["hunter2"#, "is not JSON"),
    ];
    for (body, expected) in table {
        let error = serde_json::from_str::<Body>(body).expect_err("wrong");
        assert_eq!(flaw(&error), expected, "{body}");
    }
}
