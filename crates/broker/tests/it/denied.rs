//! Denied means denied: every API that is advertised, asked by principals that have one operation each on one kind of
//! resource. Nobody gets through without the rights that Kafka asks for; who has exactly those does.

mod rows;

use crate::common::{Bench, granted_name, quick};
use hawser_broker::advertised_apis;
use hawser_state::{
    AclOperation, AclPatternType, AclPermission, AclRecord, AclResourceType, CommittedOffset, GroupChange,
};
use hawser_wire::Uuid;
use hawser_wire::messages::ApiKey;
use rows::{Outcome, Right, SECRET, rows};
use std::collections::BTreeSet;

/// `docs/security.md` has this very table.
#[test]
fn the_document_names_the_rights() {
    let mut table = String::from("| API | right |\n|---|---|\n");
    for row in rows() {
        let right = |(resource, operation): &Right| {
            let resource = resource.as_str().to_ascii_lowercase();
            format!("{} on the {resource}", operation.as_str())
        };
        let all = |rights: &&[Right]| rights.iter().map(right).collect::<Vec<_>>().join(" and ");
        let needs: Vec<String> = row.needs.iter().map(all).collect();
        let needs = if needs.is_empty() { "none".to_owned() } else { needs.join(", or ") };
        let line = format!("| {:?} | {needs} |\n", ApiKey::try_from(row.key).unwrap());
        if !table.contains(&line) {
            table += &line;
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/security.md");
    let document = std::fs::read_to_string(path).unwrap();
    let (head, rest) = document.split_once("test it denied -->\n").unwrap();
    let (shown, tail) = rest.split_once("<!-- end of rights -->").unwrap();
    if std::env::var_os("HAWSER_BLESS").is_some() {
        std::fs::write(path, format!("{head}test it denied -->\n{table}{}{tail}", "<!-- end of rights -->")).unwrap();
    } else {
        assert_eq!(shown, table, "the table is not that of the test: HAWSER_BLESS=1 writes it");
    }
}

/// Which resources a principal has its operation on.
const KINDS: [(&str, &[AclResourceType]); 5] = [
    ("every", AclResourceType::ALL),
    ("topic", &[AclResourceType::Topic]),
    ("group", &[AclResourceType::Group]),
    ("cluster", &[AclResourceType::Cluster]),
    ("transactional-id", &[AclResourceType::TransactionalId]),
];

fn acl(user: &str, resource_type: AclResourceType, name: &str, operation: AclOperation) -> AclRecord {
    let is_cluster = resource_type == AclResourceType::Cluster;
    AclRecord {
        resource_type,
        pattern_type: AclPatternType::Literal,
        resource_name: if is_cluster { "kafka-cluster" } else { name }.to_owned(),
        principal: format!("User:{user}"),
        host: "*".to_owned(),
        operation,
        permission: AclPermission::Allow,
    }
}

/// The rights that come with one (`AclOperation`'s docs), told here once more on purpose.
fn with_implied((resource, operation): Right) -> Vec<Right> {
    use AclOperation::{All, Alter, AlterConfigs, Delete, Describe, DescribeConfigs, Read, Write};
    let granted = match operation {
        All => AclOperation::ALL.to_vec(),
        Read | Write | Delete | Alter => vec![operation, Describe],
        AlterConfigs => vec![operation, DescribeConfigs],
        _ => vec![operation],
    };
    granted.into_iter().map(|operation| (resource, operation)).collect()
}

/// Makes anew what somebody who may delete it has deleted; gives the topic's id.
fn make_whole(bench: &Bench) -> Uuid {
    if bench.state.topic(SECRET).is_none() {
        bench.mirror(SECRET, 1);
    }
    if bench.state.offset(SECRET, SECRET, 0).unwrap().is_none() {
        let committed = CommittedOffset { offset: 1, leader_epoch: 0, metadata: String::new(), commit_timestamp_ms: 0 };
        let (group, topic) = (SECRET.to_owned(), SECRET.to_owned());
        bench.state.apply(&[GroupChange::PutOffset { group, topic, partition: 0, committed }]).unwrap();
    }
    bench.state.topic(SECRET).unwrap().id
}

#[tokio::test]
async fn every_api_asks_for_the_rights_that_kafka_asks_for() {
    let bench = Bench::with(quick(), "super.users=User:root").await;
    let rows = rows();
    let advertised: BTreeSet<i16> = advertised_apis().iter().map(|api| api.key).collect();
    let covered: BTreeSet<i16> = rows.iter().map(|row| row.key).collect();
    assert_eq!(covered, advertised, "every advertised API needs a row in this table, and no other");

    let mut acls = Vec::new();
    let mut principals = vec![("nobody".to_owned(), Vec::new()), ("root".to_owned(), Vec::new())];
    for operation in AclOperation::ALL {
        for (kind, resources) in KINDS {
            let name = granted_name(kind, operation.as_str());
            acls.extend(resources.iter().map(|resource| acl(&name, *resource, SECRET, *operation)));
            let rights = resources.iter().flat_map(|resource| with_implied((*resource, *operation))).collect();
            principals.push((name, rights));
        }
        // The same on what nobody asks about.
        let name = granted_name("other", operation.as_str());
        acls.extend(["secre", "secret2"].iter().flat_map(|other| {
            use AclResourceType::{Group, Topic, TransactionalId};
            [Topic, Group, TransactionalId].map(|resource| acl(&name, resource, other, *operation))
        }));
        principals.push((name, Vec::new()));
    }
    bench.state.change_acls(&acls, &[]).unwrap();

    let mut asked = 0;
    for (name, rights) in &principals {
        let client = bench.client_as(name).await;
        for row in &rows {
            let id = make_whole(&bench);
            let outcome = (row.ask)(client.clone(), id).await;
            let has_all = |all: &&[Right]| all.iter().all(|right| rights.contains(right));
            let may = name == "root" || row.needs.is_empty() || row.needs.iter().any(has_all);
            if may {
                assert_eq!(outcome, Outcome::Through, "{name} asks API {}", row.key);
            } else {
                assert!(row.denied.contains(&outcome), "{name} asks API {}: {outcome:?}", row.key);
            }
            asked += 1;
        }
    }
    assert_eq!(asked, rows.len() * principals.len());
}
