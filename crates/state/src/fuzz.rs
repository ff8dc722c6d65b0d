//! Mutants of the JSON that records are stored as (the driver and its environment variables: `hawser_testkit::fuzz`): no
//! panic, no secret in an error, and what is read means the same when it is written again.

use crate::disk::{GROUPS, LINKS, TOPICS};
use crate::{GroupRecord, JsonTable, LinkRecord, TopicRecord};
use hawser_testkit::fuzz::run_some;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

const EXECUTIONS: u64 = 20_000;
/// Stands in records where a secret may.
const SECRET: &str = "hush-hush";

/// `seeds` are records as they were stored by some version: each must be readable for ever.
fn records<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, table: JsonTable, seeds: &[&str]) {
    for seed in seeds {
        assert!(crate::parse::<T>(table, "key", seed).is_ok(), "{seed}");
    }
    run_some(EXECUTIONS, name, seeds, |_, bytes| {
        match crate::parse::<T>(table, "key", &String::from_utf8_lossy(bytes)) {
            Ok(record) => {
                let json = serde_json::to_string(&record).unwrap();
                assert_eq!(crate::parse::<T>(table, "key", &json).ok(), Some(record));
            }
            Err(failure) => assert!(!format!("{failure:?}").contains(SECRET), "a secret is told: {failure:?}"),
        }
    });
}

#[test]
fn links() {
    records::<LinkRecord>(
        "links",
        LINKS,
        &[
            r#"{"name":"dr","id":null,"remote_cluster_id":null,"configs":{"link.mode":"SOURCE"},"created_ms":1690000000000}"#,
            r#"{"name":"from-on-prem-link","id":"00000000-0000-0000-0000-000000000007",
                "remote_cluster_id":"MkU3OEVBNTcwNTJENDM2Qg","configs":{"link.mode":"SOURCE",
                "sasl.jaas.config":"m.P required password=\"hush-hush\";"},"created_ms":1690000000000}"#,
        ],
    );
}

#[test]
fn topics() {
    records::<TopicRecord>(
        "topics",
        TOPICS,
        &[
            r#"{"name":"orders","id":"00000000-0000-0000-0000-000000000009","partitions":4,
                "configs":{"retention.ms":"-1"},"mirror":null}"#,
            r#"{"name":"orders","id":"00000000-0000-0000-0000-000000000009","partitions":4,"configs":{},
                "mirror":{"link":"dr","source_topic":"orders","source_topic_id":"00000000-0000-0000-0000-000000000008",
                "start_offset_spec":"2026-01-01T00:00:00Z","started":[0,3],"status":"ACTIVE",
                "error":"SOURCE_TOPIC_MAY_BE_DELETED","status_since_ms":1690000000000}}"#,
        ],
    );
}

#[test]
fn groups() {
    records::<GroupRecord>(
        "groups",
        GROUPS,
        &[
            r#"{"protocol_type":"","generation":0,"protocol":null,"leader":null,"state_since_ms":0,"members":[]}"#,
            r#"{"protocol_type":"consumer","generation":5,"protocol":"range","leader":"consumer-1",
                "state_since_ms":1690000000000,"members":[{"member_id":"consumer-1","instance_id":"a","client_id":"c",
                "client_host":"/127.0.0.1","session_timeout_ms":45000,"rebalance_timeout_ms":300000,
                "protocols":[["range",[0,3,0,0,0,1]]],"assignment":[0,3,255]}]}"#,
        ],
    );
}
