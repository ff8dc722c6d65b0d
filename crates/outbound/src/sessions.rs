//! The fetch sessions (KIP-227) that the broker of one channel gave on that channel. A session remembers its topics, so
//! a request that continues one names none: whoever could continue another client's session would read past the guard,
//! or close it. Kafka does not ask whose a session is, and its ids can be guessed. Hence only these are let through.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Ids kept; a client has one session at a time on a connection. The oldest goes: its client is told to begin anew.
const IDS_MAX: usize = 64;
/// First version of Fetch that has sessions.
const VERSION_MIN: i16 = 7;
/// First version of Fetch whose answer has tagged fields in its head.
const VERSION_TAGGED: i16 = 12;

/// Session ids of one channel.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<VecDeque<i32>>);

impl Sessions {
    /// Whether a fetch may name this id: none (0), or one that was given on this channel.
    pub(crate) fn holds(&self, id: i32) -> bool {
        id == 0 || self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }

    /// Notes the id that an answer gives. `start`: its first [`start_bytes`], length prefix included.
    pub(crate) fn learn(&self, version: i16, start: &[u8]) {
        let Some(id) = given(version, start) else { return };
        let mut ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ids.contains(&id) {
            return;
        }
        if ids.len() >= IDS_MAX {
            ids.pop_front();
        }
        ids.push_back(id);
    }
}

/// How much of an answer says its session, in bytes with the length prefix; 0 where the version knows no sessions:
/// length (4), correlation id (4), from version 12 the count of tagged fields (1), throttle time (4), error (2), id (4).
pub(crate) fn start_bytes(version: i16) -> usize {
    match version {
        ..VERSION_MIN => 0,
        VERSION_MIN..VERSION_TAGGED => 18,
        VERSION_TAGGED.. => 19,
    }
}

/// The session that an answer gives. A head with tagged fields, which Kafka has not, gives none.
fn given(version: i16, start: &[u8]) -> Option<i32> {
    let body = match version {
        ..VERSION_MIN => return None,
        VERSION_MIN..VERSION_TAGGED => start.get(8..)?,
        VERSION_TAGGED.. => start.get(8..)?.strip_prefix(&[0])?,
    };
    let error = i16::from_be_bytes(*body.get(4..)?.first_chunk()?);
    let id = i32::from_be_bytes(*body.get(6..)?.first_chunk()?);
    (error == 0 && id != 0).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hawser_wire::api::encode_response;
    use hawser_wire::messages::{FetchRequest, FetchResponse};

    fn answer(version: i16, id: i32, error: i16) -> bytes::Bytes {
        let response = FetchResponse::default().with_session_id(id).with_error_code(error).with_throttle_time_ms(-1);
        encode_response::<FetchRequest>(version, 5, &response).expect("encodes")
    }

    #[test]
    fn ids_are_found_in_every_version_and_cut_anywhere_give_none() {
        let (_, max) = crate::guard::versions(hawser_wire::ApiKey::Fetch).expect("allowed");
        for version in 7..=max {
            let sessions = Sessions::default();
            let whole = answer(version, 0x0102_0304, 0);
            for cut in 0..start_bytes(version) {
                sessions.learn(version, &whole[..cut]);
            }
            assert!(!sessions.holds(0x0102_0304), "version {version}");
            sessions.learn(version, &whole[..start_bytes(version)]);
            assert!(sessions.holds(0x0102_0304) && sessions.holds(0) && !sessions.holds(1), "version {version}");
            sessions.learn(version, &answer(version, 8, 71));
            assert!(!sessions.holds(8), "an error gives no session");
        }
        assert_eq!(start_bytes(6), 0);
    }

    #[test]
    fn the_oldest_is_forgotten() {
        let sessions = Sessions::default();
        for id in 1..=65 {
            sessions.learn(13, &answer(13, id, 0));
        }
        assert!(!sessions.holds(1) && sessions.holds(2) && sessions.holds(65));
        assert_eq!(sessions.0.lock().unwrap().len(), IDS_MAX);
    }
}
