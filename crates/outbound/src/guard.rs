//! What the destination may ask of the source cluster. **Every request on a reversed channel comes through
//! [`Guard::judge`]; what is not in [`versions`] never reaches a broker.**
//!
//! Only reading APIs are let through, only in versions that can be checked here, and only as a consumer: a replica's
//! fetch reads past the high watermark, a Metadata request may create topics, and so does FindCoordinator. With a site policy, topics that may not
//! leave are refused where a request names them, and taken out of the answers that list topics. A question about offsets
//! goes on without them, and their refusal is added to its answer; one about topics or their settings goes on as it is,
//! and loses the hidden ones in its answer, where they count as refused. Those answers (and the one of ApiVersions) are the
//! only ones that are decoded; a fetch's never is, so one that names a hidden topic is answered here, for that topic only.
//! A fetch may continue only a session that was given on its own channel ([`Sessions`]): what another one holds was never
//! judged here.

use crate::policy::Policy;
use crate::refuse;
use crate::rewrite::{Asked, Rewrite};
use crate::sessions::Sessions;
use bytes::{BufMut, Bytes, BytesMut};
use hawser_wire::api::{encode_request, supported_versions};
use hawser_wire::messages::metadata_request::MetadataRequestTopic;
use hawser_wire::messages::{
    ApiVersionsRequest, DescribeAclsRequest, DescribeClusterRequest, DescribeConfigsRequest, DescribeGroupsRequest,
    DescribeTopicPartitionsRequest, FetchRequest, FindCoordinatorRequest, ListGroupsRequest, ListOffsetsRequest,
    MetadataRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest,
};
use hawser_wire::{ApiKey, DecodeError, Request, RequestFrame};
use std::sync::Arc;

/// Metadata before version 4 creates the topics that it names, and cannot be told not to.
const METADATA_VERSION_MIN: i16 = 4;
/// OffsetFetch from version 10 on names topics by id, which no answer's rewriting looks up; the library ends at 9 today.
const OFFSET_FETCH_VERSION_MAX: i16 = 9;
/// The only `key_type` of FindCoordinator that is let through: a broker creates the internal topic behind any type that it
/// is asked for (`KafkaApis.getCoordinator`), and nobody across a link needs those of transactions and share groups.
const GROUP_KEY: i8 = 0;
/// Largest request, in bytes, whose refusal is worth an answer: the answer may be as large.
const REFUSED_BYTES_MAX: usize = 64 * 1024;
/// Why a topic is refused under a site policy.
pub(crate) const HIDDEN: &str = "a topic may not leave this site";

/// The versions of `key` that are let through; `None`: never.
pub fn versions(key: ApiKey) -> Option<(i16, i16)> {
    let range = match key {
        ApiKey::ApiVersions => supported_versions::<ApiVersionsRequest>(),
        ApiKey::Metadata => supported_versions::<MetadataRequest>(),
        ApiKey::DescribeCluster => supported_versions::<DescribeClusterRequest>(),
        ApiKey::Fetch => supported_versions::<FetchRequest>(),
        ApiKey::ListOffsets => supported_versions::<ListOffsetsRequest>(),
        ApiKey::OffsetForLeaderEpoch => supported_versions::<OffsetForLeaderEpochRequest>(),
        ApiKey::DescribeConfigs => supported_versions::<DescribeConfigsRequest>(),
        ApiKey::ListGroups => supported_versions::<ListGroupsRequest>(),
        ApiKey::DescribeGroups => supported_versions::<DescribeGroupsRequest>(),
        ApiKey::OffsetFetch => supported_versions::<OffsetFetchRequest>(),
        ApiKey::FindCoordinator => supported_versions::<FindCoordinatorRequest>(),
        ApiKey::DescribeAcls => supported_versions::<DescribeAclsRequest>(),
        ApiKey::DescribeTopicPartitions => supported_versions::<DescribeTopicPartitionsRequest>(),
        _ => None,
    };
    match (key, range) {
        (ApiKey::Metadata, Some((min, max))) => Some((min.max(METADATA_VERSION_MIN), max)),
        (ApiKey::OffsetFetch, Some((min, max))) => Some((min, max.min(OFFSET_FETCH_VERSION_MAX))),
        (_, range) => range,
    }
}

/// What to do with a request.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// To the broker, as this frame; its answer as said.
    Pass(Bytes, Treatment),
    /// As `Pass`, but without what may not leave; the treatment adds the refusal of that to the answer.
    PassPart(Bytes, Treatment, Forbidden),
    /// Not to the broker; this frame is the answer.
    Answer(Bytes, Forbidden),
    /// Not to the broker, and no answer can be built: close the channel.
    Close(Forbidden),
}

/// What to do with an answer.
#[derive(Clone, Debug)]
pub(crate) enum Treatment {
    /// Stream it through.
    Stream,
    /// Stream it through, and remember the session that it gives.
    Fetch {
        /// Of the request.
        version: i16,
    },
    /// Gather, rewrite and send it.
    Rewrite(Rewrite),
}

/// A request that was not let through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Forbidden {
    /// Its API; `None` where Kafka has none of that number, so that names stay few.
    pub(crate) api: Option<ApiKey>,
    /// Why.
    pub(crate) reason: String,
}

impl Forbidden {
    /// Name of the API, or `unknown`.
    pub(crate) fn api(&self) -> String {
        self.api.map_or_else(|| "unknown".to_owned(), |key| format!("{key:?}"))
    }
}

/// Judges requests; one for a channel.
#[derive(Debug)]
pub(crate) struct Guard {
    policy: Option<Arc<Policy>>,
    sessions: Sessions,
}

impl Guard {
    pub(crate) fn new(policy: Option<Arc<Policy>>) -> Self {
        Self { policy, sessions: Sessions::default() }
    }

    /// The fetch sessions of the channel; the answers that give them do not come through here.
    pub(crate) fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Judges a frame (without its length prefix).
    pub(crate) fn judge(&self, frame: Bytes) -> Verdict {
        let bytes = frame.len();
        match self.judge_any(frame) {
            // A mirror of many topics asks for all of them at once; the first time, one may be hidden.
            Verdict::Answer(_, why) if bytes > REFUSED_BYTES_MAX && why.api != Some(ApiKey::Fetch) => {
                Verdict::Close(too_large(why.api, bytes))
            }
            verdict => verdict,
        }
    }

    fn judge_any(&self, frame: Bytes) -> Verdict {
        let request = match RequestFrame::parse(frame.clone()) {
            Ok(request) => request,
            Err(error) => return Verdict::Close(forbidden(None, error)),
        };
        let Ok(key) = ApiKey::try_from(request.api_key) else {
            return Verdict::Close(forbidden(None, format!("no API of Kafka has the key {}", request.api_key)));
        };
        let Some((min, max)) = versions(key) else {
            if frame.len() > REFUSED_BYTES_MAX {
                // Not worth the decoding.
                return Verdict::Close(too_large(Some(key), frame.len()));
            }
            return refuse::api(key, &request);
        };
        if !(min..=max).contains(&request.api_version) {
            let reason = format!("version {} is not let through, {min} to {max} are", request.api_version);
            return refuse::version(key, &request, reason);
        }
        match self.judge_allowed(key, &request, frame) {
            Ok(verdict) => verdict,
            Err(error) => Verdict::Close(forbidden(key, error)),
        }
    }

    fn judge_allowed(&self, key: ApiKey, request: &RequestFrame, frame: Bytes) -> Result<Verdict, DecodeError> {
        let policy = self.policy.as_ref();
        let stream = |frame: &[u8]| Verdict::Pass(with_prefix(frame), Treatment::Stream);
        let rewrite = |frame: &[u8], rewrite| Verdict::Pass(with_prefix(frame), Treatment::Rewrite(rewrite));
        let version = request.api_version;
        match key {
            ApiKey::ApiVersions => Ok(rewrite(&frame, Rewrite::ApiVersions { version })),
            ApiKey::Metadata => {
                let mut body = request.decode::<MetadataRequest>()?;
                let by_id = |topics: &Vec<MetadataRequestTopic>| topics.iter().any(|t| !t.topic_id.is_nil());
                let asked = match &body.topics {
                    None => Asked::All,
                    Some(topics) if by_id(topics) => Asked::ById,
                    Some(_) => Asked::ByName,
                };
                let frame = if body.allow_auto_topic_creation {
                    body.allow_auto_topic_creation = false;
                    again(request, &body)?
                } else {
                    with_prefix(&frame)
                };
                let treatment = match policy {
                    None => Treatment::Stream,
                    Some(policy) => {
                        Treatment::Rewrite(Rewrite::Metadata { version, asked, policy: Arc::clone(policy) })
                    }
                };
                Ok(Verdict::Pass(frame, treatment))
            }
            ApiKey::Fetch => {
                let body = request.decode::<FetchRequest>()?;
                if body.replica_id.0 != -1 || body.replica_state.replica_id.0 != -1 {
                    return Ok(refuse::fetch(request, &body, None, "only consumers are let through, no replicas"));
                }
                if !self.sessions.holds(body.session_id) {
                    return Ok(refuse::session(request));
                }
                match policy.filter(|policy| !body.topics.iter().all(|t| policy.lets_out_fetch(t) == Some(true))) {
                    Some(policy) => Ok(refuse::fetch(request, &body, Some(policy), HIDDEN)),
                    None => Ok(Verdict::Pass(with_prefix(&frame), Treatment::Fetch { version })),
                }
            }
            ApiKey::ListOffsets => {
                let mut body = request.decode::<ListOffsetsRequest>()?;
                if body.replica_id.0 != -1 {
                    return Ok(refuse::list_offsets(request, &body.topics, "only consumers are let through"));
                }
                let Some(policy) = policy else { return Ok(stream(&frame)) };
                let hidden: Vec<_> = body.topics.extract_if(.., |t| !policy.lets_out(&t.name)).collect();
                if hidden.is_empty() {
                    return Ok(stream(&frame));
                }
                if body.topics.is_empty() {
                    return Ok(refuse::list_offsets(request, &hidden, HIDDEN));
                }
                let denied = hidden.iter().map(refuse::denied_offsets).collect();
                let rest = Treatment::Rewrite(Rewrite::ListOffsets { version, denied });
                Ok(Verdict::PassPart(again(request, &body)?, rest, forbidden(ApiKey::ListOffsets, HIDDEN)))
            }
            ApiKey::OffsetForLeaderEpoch => {
                let mut body = request.decode::<OffsetForLeaderEpochRequest>()?;
                // Before version 3 the request has no such field, and only a consumer's rights.
                if version >= 3 && body.replica_id.0 != -1 {
                    return Ok(refuse::leader_epoch(request, &body.topics, "only consumers are let through"));
                }
                let Some(policy) = policy else { return Ok(stream(&frame)) };
                let hidden: Vec<_> = body.topics.extract_if(.., |t| !policy.lets_out(&t.topic)).collect();
                if hidden.is_empty() {
                    return Ok(stream(&frame));
                }
                if body.topics.is_empty() {
                    return Ok(refuse::leader_epoch(request, &hidden, HIDDEN));
                }
                let denied = hidden.iter().map(refuse::denied_epoch).collect();
                let rest = Treatment::Rewrite(Rewrite::OffsetForLeaderEpoch { version, denied });
                Ok(Verdict::PassPart(again(request, &body)?, rest, forbidden(ApiKey::OffsetForLeaderEpoch, HIDDEN)))
            }
            ApiKey::FindCoordinator => {
                let body = request.decode::<FindCoordinatorRequest>()?;
                if body.key_type != GROUP_KEY {
                    return Ok(refuse::coordinator(request, &body));
                }
                Ok(stream(&frame))
            }
            _ => {
                let Some(policy) = policy.map(Arc::clone) else { return Ok(stream(&frame)) };
                Ok(match key {
                    ApiKey::DescribeConfigs => rewrite(&frame, Rewrite::DescribeConfigs { version, policy }),
                    ApiKey::OffsetFetch => rewrite(&frame, Rewrite::OffsetFetch { version, policy }),
                    ApiKey::DescribeAcls => rewrite(&frame, Rewrite::DescribeAcls { version, policy }),
                    ApiKey::DescribeGroups => rewrite(&frame, Rewrite::DescribeGroups { version }),
                    ApiKey::DescribeTopicPartitions => {
                        let body = request.decode::<DescribeTopicPartitionsRequest>()?;
                        let named = !body.topics.is_empty();
                        rewrite(&frame, Rewrite::DescribeTopicPartitions { version, named, policy })
                    }
                    _ => stream(&frame),
                })
            }
        }
    }
}

pub(crate) fn forbidden(api: impl Into<Option<ApiKey>>, reason: impl ToString) -> Forbidden {
    Forbidden { api: api.into(), reason: reason.to_string() }
}

fn too_large(api: Option<ApiKey>, bytes: usize) -> Forbidden {
    forbidden(api, format!("a request of {bytes} bytes that is not let through is not answered"))
}

/// The request with another body.
fn again<M: Request>(request: &RequestFrame, body: &M) -> Result<Bytes, DecodeError> {
    let client = request.client_id.as_deref().unwrap_or("");
    encode_request(request.api_version, request.correlation_id, client, body)
}

fn with_prefix(frame: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(4 + frame.len());
    out.put_u32(u32::try_from(frame.len()).unwrap_or(u32::MAX));
    out.put_slice(frame);
    out.freeze()
}

#[cfg(test)]
mod tests;
