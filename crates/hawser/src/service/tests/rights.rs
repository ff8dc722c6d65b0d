//! Denied means denied: every operation, and `LinkOpen`, without the right, with the lesser and with the right one.

use super::*;

/// One of every operation, with whatever values it takes: an operation that is added is here without a line of its own.
fn every_operation() -> Vec<Operation> {
    let names = serde_json::from_str::<Operation>(r#"{"operation":""}"#).map(drop).unwrap_err().to_string();
    let names: Vec<&str> = names.split('`').skip(3).step_by(2).collect();
    assert!(names.len() > 10, "{names:?}");
    let values = ["x".into(), false.into(), 0.into(), serde_json::json!([]), serde_json::json!({})];
    let made = names.into_iter().map(|name| {
        let mut body = serde_json::json!({ "operation": name });
        loop {
            let error = match serde_json::from_value::<Operation>(body.clone()) {
                Ok(operation) => break operation,
                Err(error) => error.to_string(),
            };
            let field = error.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
            let field = field.unwrap_or_else(|| panic!("{name}: {error}")).to_owned();
            body[&field] = "x".into();
            let error =
                serde_json::from_value::<Operation>(body.clone()).map(drop).err().map(|error| error.to_string());
            // A word of few: the first that is expected.
            let word = error
                .filter(|error| error.starts_with("unknown variant `x`"))
                .and_then(|error| error.split('`').nth(3).map(str::to_owned));
            let fits = word.map(serde_json::Value::from).into_iter().chain(values.clone()).find(|value| {
                body[&field] = value.clone();
                let parsed = serde_json::from_value::<Operation>(body.clone());
                parsed.map_or_else(|error| error.to_string().starts_with("missing field"), |_| true)
            });
            assert!(fits.is_some(), "{name}: nothing fits {field}");
        }
    });
    made.collect()
}

/// OPERATE asks for the right of every operation, and LINK_OPEN for ALTER.
#[tokio::test]
async fn without_the_right_every_operation_is_refused() {
    let anonymous = anonymous().await;
    for (granted, describes, alters) in [("", false, false), ("DESCRIBE", true, false), ("ALTER", true, true)] {
        let grant =
            if granted.is_empty() { String::new() } else { format!("hawser.acls=User:ANONYMOUS {granted} cluster") };
        let dir = tempfile::tempdir().unwrap();
        let service = service_for(dir.path(), &grant);
        for operation in every_operation() {
            let (name, may) = (operation.name(), if operation.right() == Right::Alter { alters } else { describes });
            let outcome = asked(&service, &anonymous, operation).await;
            let is_refused = outcome.is_err_and(|refusal| refusal.code == RefusalCode::NotAuthorized);
            assert_eq!(is_refused, !may, "{name} with {granted:?} on the cluster");
        }
        let cluster = Arc::new(Cluster::new(service.state.clone(), None));
        let directory = Directory::new(service.state.clone(), cluster, service.authorizer.clone());
        assert_eq!(hawser_inbound::LinkDirectory::may_alter_cluster(&directory, &anonymous), alters);
    }
}
