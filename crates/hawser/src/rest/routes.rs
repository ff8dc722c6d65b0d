//! Every path and verb of this face, once. `docs/openapi.yaml` describes the same table; a test holds them against each
//! other.

use super::answer::Answer;
use super::{Asked, Error, clusters, configs, links, mirrors};
use axum::http::Method;
use std::pin::Pin;

type Handling = Pin<Box<dyn Future<Output = Result<Answer, Error>> + Send>>;

/// Before every path: as stand-alone servers of this API have it, and as those inside a broker have it.
pub(super) const BASES: [&str; 2] = ["/v3", "/kafka/v3"];

/// A verb on a path.
pub(super) struct Route {
    pub(super) method: Method,
    /// Without its base.
    pub(super) path: &'static str,
    pub(super) handle: fn(Asked) -> Handling,
}

macro_rules! routes {
    ($($method:ident $path:literal => $handler:path,)*) => {
        &[$(Route { method: Method::$method, path: $path, handle: |asked| Box::pin($handler(asked)) },)*]
    };
}

/// The whole table.
pub(super) const ROUTES: &[Route] = routes! {
    GET "/clusters" => clusters::list,
    GET "/clusters/{cluster_id}" => clusters::get,
    GET "/clusters/{cluster_id}/links" => links::list,
    POST "/clusters/{cluster_id}/links" => links::create,
    GET "/clusters/{cluster_id}/links/{link_name}" => links::get,
    DELETE "/clusters/{cluster_id}/links/{link_name}" => links::delete,
    GET "/clusters/{cluster_id}/links/{link_name}/configs" => configs::list,
    PUT "/clusters/{cluster_id}/links/{link_name}/configs:alter" => configs::alter_batch,
    GET "/clusters/{cluster_id}/links/{link_name}/configs/{config_name}" => configs::get,
    PUT "/clusters/{cluster_id}/links/{link_name}/configs/{config_name}" => configs::put,
    DELETE "/clusters/{cluster_id}/links/{link_name}/configs/{config_name}" => configs::delete,
    GET "/clusters/{cluster_id}/links/-/mirrors" => mirrors::list_all,
    GET "/clusters/{cluster_id}/links/{link_name}/mirrors" => mirrors::list,
    POST "/clusters/{cluster_id}/links/{link_name}/mirrors" => mirrors::create,
    GET "/clusters/{cluster_id}/links/{link_name}/mirrors/{mirror_topic_name}" => mirrors::get,
    POST "/clusters/{cluster_id}/links/{link_name}/mirrors:promote" => mirrors::promote,
    POST "/clusters/{cluster_id}/links/{link_name}/mirrors:failover" => mirrors::failover,
    POST "/clusters/{cluster_id}/links/{link_name}/mirrors:pause" => mirrors::pause,
    POST "/clusters/{cluster_id}/links/{link_name}/mirrors:resume" => mirrors::resume,
    POST "/clusters/{cluster_id}/links/{link_name}/mirrors:reverse-and-start-mirror" => mirrors::reverse_and_start,
    POST "/clusters/{cluster_id}/links/{link_name}/mirrors:reverse-and-pause-mirror" => mirrors::reverse_and_pause,
    POST "/clusters/{cluster_id}/links/{link_name}/mirrors:promote-local-and-start-remote-mirror" => mirrors::reverse_and_start,
    POST "/clusters/{cluster_id}/links/{link_name}/mirrors:promote-local-and-pause-remote-mirror" => mirrors::reverse_and_pause,
    POST "/clusters/{cluster_id}/links/{link_name}/mirrors:truncate-and-restore" => mirrors::truncate_and_restore,
};
