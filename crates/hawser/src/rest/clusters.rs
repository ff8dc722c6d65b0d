//! `/clusters`: the one cluster that this daemon speaks for. Clients ask this first, for its id.

use super::answer::{Answer, List, Resource};
use super::{Asked, Error};
use serde::Serialize;

#[derive(Serialize)]
struct Cluster {
    cluster_id: String,
    acls: Related,
    brokers: Related,
    broker_configs: Related,
    consumer_groups: Related,
    topics: Related,
    partition_reassignments: Related,
}

/// A path of the whole API. Not all are served here, but clients insist on the fields.
#[derive(Serialize)]
struct Related {
    related: String,
}

/// `GET /clusters`
pub(super) async fn list(asked: Asked) -> Result<Answer, Error> {
    Answer::json(&List::new("KafkaClusterList", format!("{}/clusters", asked.base), vec![resource(&asked)]))
}

/// `GET /clusters/{cluster_id}`
pub(super) async fn get(asked: Asked) -> Result<Answer, Error> {
    Answer::json(&resource(&asked))
}

fn resource(asked: &Asked) -> Resource<Cluster> {
    let related = |rest: &str| Related { related: asked.at(rest) };
    let cluster = Cluster {
        cluster_id: asked.cluster_id.clone(),
        acls: related("/acls"),
        brokers: related("/brokers"),
        broker_configs: related("/broker-configs"),
        consumer_groups: related("/consumer-groups"),
        topics: related("/topics"),
        partition_reassignments: related("/topics/-/partitions/-/reassignment"),
    };
    Resource::new("KafkaCluster", asked.at(""), cluster)
}
