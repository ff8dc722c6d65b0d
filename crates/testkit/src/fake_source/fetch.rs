//! Fetch of the fake source: sessions (KIP-227), long polls, divergence (KIP-595), and an answer whose batches are the
//! prepared bytes themselves. The answer is written by hand, as an encoder that owns its buffer would copy them.

use super::serve::refusal;
use super::{Cluster, State};
use bytes::{BufMut, Bytes, BytesMut};
use hawser_wire::RequestFrame;
use hawser_wire::messages::FetchRequest;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

const OFFSET_OUT_OF_RANGE: i16 = 1;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const FETCH_SESSION_ID_NOT_FOUND: i16 = 70;
const INVALID_FETCH_SESSION_EPOCH: i16 = 71;
const UNKNOWN_TOPIC_ID: i16 = 100;

/// Partitions in the order in which they are served; those that brought something go to the end.
#[derive(Default)]
pub(super) struct Session {
    epoch: i32,
    partitions: Vec<Wanted>,
}

#[derive(Clone)]
struct Wanted {
    name: Arc<str>,
    id: Uuid,
    partition: i32,
    leader_epoch: i32,
    offset: i64,
    last_epoch: i32,
    bytes_max: usize,
    /// High watermark and log start as last told.
    told: (i64, i64),
}

/// What one partition is answered.
struct Answer {
    error_code: i16,
    high_watermark: i64,
    log_start: i64,
    diverging: Option<(i32, i64)>,
    leader: Option<(i32, i32)>,
    records: Vec<Bytes>,
}

pub(super) async fn answer(cluster: &Cluster, node: usize, request: &RequestFrame) -> anyhow::Result<Vec<Bytes>> {
    let version = request.api_version;
    let fetch: FetchRequest = request.decode()?;
    let mut changed = cluster.changed.subscribe();
    let (mut session, full) = {
        let mut state = cluster.lock();
        match open_session(&mut state, node, &fetch, version) {
            Ok(opened) => opened,
            Err(code) => return Ok(frame(version, request.correlation_id, code, 0, &[])),
        }
    };
    let deadline = Instant::now() + Duration::from_millis(u64::try_from(fetch.max_wait_ms).unwrap_or(0));
    let bytes_min = usize::try_from(fetch.min_bytes).unwrap_or(0);
    let bytes_max = usize::try_from(fetch.max_bytes).unwrap_or(usize::MAX);
    let answers = loop {
        changed.mark_unchanged();
        let (answers, bytes, urgent) = look(&mut cluster.lock(), node, &session, bytes_max, version);
        if bytes >= bytes_min || urgent || Instant::now() >= deadline {
            break answers;
        }
        tokio::select! {
            () = sleep_until(deadline) => {}
            _ = changed.changed() => {}
        }
    };
    let mut told = Vec::new();
    let mut served = Vec::new();
    for (index, answer) in answers {
        let wanted = &mut session.partitions[index];
        let now = (answer.high_watermark, answer.log_start);
        let news = answer.error_code != 0 || answer.diverging.is_some() || !answer.records.is_empty();
        if full || news || wanted.told != now {
            wanted.told = now;
            if !answer.records.is_empty() {
                served.push(index);
            }
            told.push((wanted.clone(), answer));
        }
    }
    let bytes: usize = told.iter().flat_map(|(_, answer)| &answer.records).map(Bytes::len).sum();
    // Fairness, as a session of stock Kafka: what brought something goes to the end.
    let (last, first): (Vec<_>, Vec<_>) =
        session.partitions.drain(..).enumerate().partition(|(index, _)| served.contains(index));
    session.partitions = first.into_iter().chain(last).map(|(_, wanted)| wanted).collect();
    let id = keep_session(&mut cluster.lock(), node, &fetch, session, bytes);
    Ok(frame(version, request.correlation_id, 0, id, &told))
}

/// The session of this request, taken out while it is served, and whether it is a full fetch.
fn open_session(state: &mut State, node: usize, fetch: &FetchRequest, version: i16) -> Result<(Session, bool), i16> {
    let full = fetch.session_epoch <= 0;
    let mut session = if full {
        state.nodes[node].sessions.remove(&fetch.session_id);
        Session::default()
    } else {
        let session = state.nodes[node].sessions.get(&fetch.session_id).ok_or(FETCH_SESSION_ID_NOT_FOUND)?;
        if session.epoch != fetch.session_epoch {
            return Err(INVALID_FETCH_SESSION_EPOCH);
        }
        state.nodes[node].sessions.remove(&fetch.session_id).ok_or(FETCH_SESSION_ID_NOT_FOUND)?
    };
    let by_id = version >= 13;
    for topic in &fetch.forgotten_topics_data {
        session.partitions.retain(|wanted| {
            let same = if by_id { wanted.id == topic.topic_id } else { *wanted.name == *topic.topic.0.as_str() };
            !(same && topic.partitions.contains(&wanted.partition))
        });
    }
    // Few partitions change between two fetches; many at once are looked up by a map.
    let mut places: std::collections::HashMap<(Uuid, Arc<str>, i32), usize> = std::collections::HashMap::new();
    if fetch.topics.iter().any(|topic| !topic.partitions.is_empty()) {
        let known = session.partitions.iter().enumerate();
        places.extend(known.map(|(at, wanted)| ((wanted.id, wanted.name.clone(), wanted.partition), at)));
    }
    for topic in &fetch.topics {
        let name: Arc<str> = if by_id {
            let named = state.topics.iter().find(|(_, known)| known.id == topic.topic_id);
            named.map_or_else(|| "".into(), |(name, _)| name.clone())
        } else {
            topic.topic.0.as_str().into()
        };
        for asked in &topic.partitions {
            let wanted = Wanted {
                name: name.clone(),
                id: topic.topic_id,
                partition: asked.partition,
                leader_epoch: asked.current_leader_epoch,
                offset: asked.fetch_offset,
                last_epoch: asked.last_fetched_epoch,
                bytes_max: usize::try_from(asked.partition_max_bytes).unwrap_or(0),
                told: (-1, -1),
            };
            match places.get(&(wanted.id, wanted.name.clone(), wanted.partition)) {
                Some(&at) => {
                    let told = session.partitions[at].told;
                    session.partitions[at] = Wanted { told, ..wanted };
                }
                None => session.partitions.push(wanted),
            }
        }
    }
    Ok((session, full))
}

/// Keeps the session for the next request, if there is room; its id, or 0.
fn keep_session(state: &mut State, node: usize, fetch: &FetchRequest, mut session: Session, bytes: usize) -> i32 {
    state.fetch_bytes_sent += bytes as u64;
    if fetch.session_epoch > 0 {
        session.epoch = fetch.session_epoch.checked_add(1).unwrap_or(1);
        state.nodes[node].sessions.insert(fetch.session_id, session);
        return fetch.session_id;
    }
    if fetch.session_epoch < 0 || state.nodes[node].sessions.len() >= state.sessions_max {
        return 0;
    }
    session.epoch = 1;
    let id = state.next_session;
    state.next_session += 1;
    state.nodes[node].sessions.insert(id, session);
    id
}

/// What every partition would be answered now, how many bytes that is, and whether it should not wait.
fn look(
    state: &mut State,
    node: usize,
    session: &Session,
    bytes_max: usize,
    version: i16,
) -> (Vec<(usize, Answer)>, usize, bool) {
    let (mut answers, mut bytes, mut urgent) = (Vec::new(), 0_usize, false);
    for (index, wanted) in session.partitions.iter().enumerate() {
        let mut answer = Answer {
            error_code: 0,
            high_watermark: -1,
            log_start: -1,
            diverging: None,
            leader: None,
            records: Vec::new(),
        };
        let same_topic = version < 13 || state.topics.get(&*wanted.name).is_some_and(|topic| topic.id == wanted.id);
        match state.log(&wanted.name, wanted.partition) {
            Some(log) if same_topic => {
                answer.error_code = refusal(log, node, wanted.leader_epoch);
                if answer.error_code == 0 {
                    let room = bytes_max.saturating_sub(bytes).min(wanted.bytes_max);
                    read(log, wanted, room, bytes == 0, &mut answer);
                } else if version >= 12 && matches!(answer.error_code, 6 | 74) {
                    answer.leader = Some((log.leader, log.epoch));
                }
            }
            _ => answer.error_code = if version >= 13 { UNKNOWN_TOPIC_ID } else { UNKNOWN_TOPIC_OR_PARTITION },
        }
        bytes += answer.records.iter().map(Bytes::len).sum::<usize>();
        urgent |= answer.error_code != 0 || answer.diverging.is_some();
        answers.push((index, answer));
    }
    (answers, bytes, urgent)
}

/// `Partition.readRecords`.
fn read(log: &super::Log, wanted: &Wanted, room: usize, at_least_one: bool, answer: &mut Answer) {
    if wanted.last_epoch >= 0 {
        let (epoch, end) = log.end_of_epoch(wanted.last_epoch);
        if epoch < 0 || wanted.offset < log.start {
            answer.error_code = OFFSET_OUT_OF_RANGE;
            return;
        }
        if epoch < wanted.last_epoch || end < wanted.offset {
            (answer.high_watermark, answer.log_start) = (log.end, log.start);
            answer.diverging = Some((epoch, end));
            return;
        }
    }
    if wanted.offset < log.start || wanted.offset > log.end {
        answer.error_code = OFFSET_OUT_OF_RANGE;
        return;
    }
    (answer.high_watermark, answer.log_start) = (log.end, log.start);
    answer.records = log.read(wanted.offset, room, at_least_one);
    if log.corrupt
        && let Some(last) = answer.records.last_mut()
    {
        let mut bytes = BytesMut::from(last.as_ref());
        if let Some(byte) = bytes.last_mut() {
            *byte ^= 1;
        }
        *last = bytes.freeze();
    }
}

/// A whole frame in pieces, for versions 4 to 17.
fn frame(
    version: i16,
    correlation_id: i32,
    error_code: i16,
    session_id: i32,
    answers: &[(Wanted, Answer)],
) -> Vec<Bytes> {
    let flexible = version >= 12;
    let mut pieces = vec![Bytes::new()]; // the length, once it is known
    let mut head = BytesMut::new();
    head.put_i32(correlation_id);
    if flexible {
        head.put_u8(0);
    }
    head.put_i32(0); // throttle time
    if version >= 7 {
        head.put_i16(error_code);
        head.put_i32(session_id);
    }
    let mut topics: Vec<Vec<&(Wanted, Answer)>> = Vec::new();
    for answer in answers {
        match topics.last_mut() {
            Some(topic) if topic[0].0.name == answer.0.name && topic[0].0.id == answer.0.id => topic.push(answer),
            _ => topics.push(vec![answer]),
        }
    }
    put_count(&mut head, topics.len(), flexible);
    for topic in topics {
        let wanted = &topic[0].0;
        if version >= 13 {
            head.extend_from_slice(wanted.id.as_bytes());
        } else if flexible {
            put_varint(&mut head, wanted.name.len() + 1);
            head.extend_from_slice(wanted.name.as_bytes());
        } else {
            head.put_i16(i16::try_from(wanted.name.len()).unwrap_or(i16::MAX));
            head.extend_from_slice(wanted.name.as_bytes());
        }
        put_count(&mut head, topic.len(), flexible);
        for (wanted, answer) in topic {
            put_partition(&mut pieces, &mut head, version, wanted.partition, answer);
        }
        if flexible {
            head.put_u8(0);
        }
    }
    if flexible {
        head.put_u8(0);
    }
    pieces.push(head.freeze());
    let length: usize = pieces.iter().map(Bytes::len).sum();
    pieces[0] = Bytes::copy_from_slice(&i32::try_from(length).expect("below 2 GiB").to_be_bytes());
    pieces
}

fn put_partition(pieces: &mut Vec<Bytes>, head: &mut BytesMut, version: i16, partition: i32, answer: &Answer) {
    let flexible = version >= 12;
    head.put_i32(partition);
    head.put_i16(answer.error_code);
    head.put_i64(answer.high_watermark);
    head.put_i64(answer.high_watermark); // last stable offset
    if version >= 5 {
        head.put_i64(answer.log_start);
    }
    if flexible {
        head.put_u8(0)
    } else {
        head.put_i32(-1)
    } // no aborted transactions
    if version >= 11 {
        head.put_i32(-1); // preferred read replica
    }
    let bytes: usize = answer.records.iter().map(Bytes::len).sum();
    if flexible {
        put_varint(head, bytes + 1)
    } else {
        head.put_i32(i32::try_from(bytes).expect("below 2 GiB"))
    }
    if bytes > 0 {
        pieces.push(head.split().freeze());
        pieces.extend(answer.records.iter().cloned());
    }
    if flexible {
        put_varint(head, usize::from(answer.diverging.is_some()) + usize::from(answer.leader.is_some()));
        if let Some((epoch, end)) = answer.diverging {
            head.extend_from_slice(&[0, 13]);
            head.put_i32(epoch);
            head.put_i64(end);
            head.put_u8(0);
        }
        if let Some((node, epoch)) = answer.leader {
            head.extend_from_slice(&[1, 9]);
            head.put_i32(node);
            head.put_i32(epoch);
            head.put_u8(0);
        }
    }
}

fn put_count(head: &mut BytesMut, count: usize, flexible: bool) {
    if flexible { put_varint(head, count + 1) } else { head.put_i32(i32::try_from(count).expect("few")) }
}

fn put_varint(head: &mut BytesMut, mut value: usize) {
    while value >= 0x80 {
        head.put_u8(u8::try_from(value & 0x7f | 0x80).expect("seven bits"));
        value >>= 7;
    }
    head.put_u8(u8::try_from(value).expect("seven bits"));
}
