//! The client against servers that answer late, wrongly, too much, or not at all.

use super::*;
use crate::listener::Listener;
use crate::security::ServerSecurity;
use bytes::{BufMut, BytesMut};
use hawser_wire::RequestFrame;
use hawser_wire::messages::api_versions_response::ApiVersion;
use hawser_wire::messages::{ApiKey, FetchRequest, MetadataRequest, MetadataResponse};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A server's side, by hand: raw frames in and out.
struct Peer {
    tcp: TcpStream,
    frames: FrameReader,
}

impl Peer {
    async fn request(&mut self) -> RequestFrame {
        RequestFrame::parse(self.frames.frame(&mut self.tcp).await.unwrap().unwrap()).unwrap()
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.tcp.write_all(bytes).await.unwrap();
    }

    async fn answer(&mut self, request: &RequestFrame, cluster: &str) {
        let response = MetadataResponse::default().with_cluster_id(Some(StrBytes::from_string(cluster.to_owned())));
        let frame = api::encode_response::<MetadataRequest>(request.api_version, request.correlation_id, &response);
        self.send(&frame.unwrap()).await;
    }
}

fn table() -> ApiVersionsResponse {
    let api = |key: ApiKey, min, max| {
        ApiVersion::default().with_api_key(key as i16).with_min_version(min).with_max_version(max)
    };
    let keys = [api(ApiKey::Metadata, 1, 9), api(ApiKey::ApiVersions, 0, 2), api(ApiKey::Fetch, 99, 100)];
    ApiVersionsResponse::default().with_api_keys(keys.to_vec())
}

/// A client and its peer, after ApiVersions; the peer knows no ApiVersions newer than 2.
async fn pair(timeout_ms: u64) -> (KafkaClient, Peer) {
    pair_that_idles(timeout_ms, None).await
}

async fn pair_that_idles(timeout_ms: u64, idle_max: Option<Duration>) -> (KafkaClient, Peer) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let mut peer = Peer { tcp: listener.accept().await.unwrap().0, frames: FrameReader::accepted(1 << 20) };
    let serve = async {
        loop {
            let request = peer.request().await;
            // KIP-511: an old broker answers as version 0 does, and says what it has.
            let (version, error_code) = if request.api_version > 2 { (0, 35) } else { (request.api_version, 0) };
            let response = table().with_error_code(error_code);
            let reply = api::encode_response::<ApiVersionsRequest>(version, request.correlation_id, &response);
            peer.send(&reply.unwrap()).await;
            if error_code == 0 {
                return;
            }
        }
    };
    let options = ClientOptions {
        client_id: "me".to_owned(),
        request_timeout: Duration::from_millis(timeout_ms),
        response_bytes_max: 1 << 20,
        idle_max,
    };
    let (client, ()) = tokio::join!(KafkaClient::start(Stream::from_tcp(tcp).unwrap(), options), serve);
    (client.unwrap(), peer)
}

async fn cluster(client: &KafkaClient) -> Result<String, ClientError> {
    let (version, response) = client.call(&MetadataRequest::default(), 12, Duration::ZERO).await?;
    assert_eq!(version, 9);
    Ok(response.cluster_id.unwrap().to_string())
}

#[tokio::test]
async fn a_call_may_have_a_time_out_of_its_own() {
    let (client, mut peer) = pair(600_000).await;
    let request = MetadataRequest::default();
    let asked = client.call_within(&request, 12, Duration::from_millis(50));
    let (answer, _) = tokio::join!(asked, peer.request());
    let Err(ClientError::Timeout { api, after }) = answer else { panic!("{answer:?}") };
    assert_eq!((api, after), ("Metadata", Duration::from_millis(50)));
}

#[tokio::test]
async fn pipelines_in_order() {
    let (client, mut peer) = pair(10_000).await;
    let calls: Vec<_> = (0..3 * driver::IN_FLIGHT_MAX)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { cluster(&client).await })
        })
        .collect();
    // As many requests as may be in flight come before any answer is needed.
    let mut requests = Vec::new();
    for _ in 0..driver::IN_FLIGHT_MAX {
        requests.push(peer.request().await);
    }
    assert!(peer.frames.is_empty());
    assert_eq!(requests[0].client_id.as_deref(), Some("me"));
    let mut asked: std::collections::VecDeque<_> = requests.into();
    for n in 0..calls.len() {
        let request = match asked.pop_front() {
            Some(request) => request,
            None => peer.request().await,
        };
        peer.answer(&request, &n.to_string()).await;
    }
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.unwrap().unwrap().parse::<usize>().unwrap());
    }
    answers.sort_unstable();
    assert_eq!(answers, (0..3 * driver::IN_FLIGHT_MAX).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_connection_without_requests_is_closed_but_not_one_that_waits_for_an_answer() {
    const IDLE: Duration = Duration::from_secs(1);
    let (client, mut peer) = pair_that_idles(60_000, Some(IDLE)).await;
    let asking = tokio::spawn({
        let client = client.clone();
        async move { cluster(&client).await }
    });
    let request = peer.request().await;
    tokio::time::sleep(2 * IDLE).await;
    assert!(!client.is_closed(), "it waits for an answer");
    peer.answer(&request, "late").await;
    assert_eq!(asking.await.unwrap().unwrap(), "late");
    let reason = tokio::time::timeout(Duration::from_secs(30), client.closed()).await.expect("closed");
    assert!(reason.contains("connections.max.idle.ms"), "{reason}");
    assert!(peer.frames.frame(&mut peer.tcp).await.unwrap().is_none(), "the peer sees it");
}

#[tokio::test]
async fn a_dropped_call_does_not_disturb_the_next() {
    let (client, mut peer) = pair(10_000).await;
    {
        let call = cluster(&client);
        tokio::pin!(call);
        tokio::select! {
            biased;
            _ = &mut call => panic!("answered"),
            request = peer.request() => peer.answer(&request, "dropped").await,
        }
    }
    let (answer, ()) = tokio::join!(cluster(&client), async {
        let request = peer.request().await;
        peer.answer(&request, "kept").await;
    });
    assert_eq!(answer.unwrap(), "kept");
}

#[tokio::test]
async fn versions_are_negotiated() {
    let (client, _peer) = pair(10_000).await;
    assert_eq!(client.versions(ApiKey::Metadata as i16), Some((1, 9)));
    assert_eq!(client.version::<MetadataRequest>(7), Some(7));
    assert_eq!(client.version::<MetadataRequest>(0), None);
    let error = client.call(&FetchRequest::default(), 17, Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, ClientError::Unsupported { api: "Fetch" }), "{error}");
    assert!(!client.is_closed());
}

/// Each way in which a connection ends: what the oldest call and the one behind it hear.
#[tokio::test]
async fn ends_are_named() {
    type End = fn(&RequestFrame) -> Option<BytesMut>;
    let ends: [(&str, &str, End); 6] = [
        ("connection closed: the peer closed it", "the peer closed it", |_| Some(BytesMut::new())),
        ("no answer to Metadata within 200ms", "no answer to Metadata", |_| None),
        ("exceeds the limit of 1048576 bytes", "exceeds the limit", |_| {
            let mut out = BytesMut::new();
            out.put_u32(2_000_000);
            Some(out)
        }),
        ("carries the correlation id Some(77)", "correlation id", |_| {
            let mut out = BytesMut::new();
            out.put_u32(4);
            out.put_u32(77);
            Some(out)
        }),
        ("does not speak Kafka's protocol", "does not speak", |_| Some(BytesMut::from(&[0xfe; 20][..]))),
        ("closed inside a frame after 2 of 9", "closed inside a frame", |_| {
            Some(BytesMut::from(&[0, 0, 0, 9, 1, 2][..]))
        }),
    ];
    for (first, second, end) in ends {
        let (client, mut peer) = pair(200).await;
        let closed = client.closed();
        let (oldest, next, ()) = tokio::join!(cluster(&client), cluster(&client), async {
            let request = peer.request().await;
            peer.request().await;
            match end(&request) {
                Some(bytes) => {
                    peer.send(&bytes).await;
                    peer.tcp.shutdown().await.unwrap();
                }
                // Silence.
                None => assert_eq!(peer.tcp.read(&mut [0]).await.unwrap(), 0),
            }
        });
        let (oldest, next) = (oldest.unwrap_err(), next.unwrap_err());
        assert!(oldest.to_string().contains(first), "{oldest}");
        assert!(matches!(next, ClientError::Closed(_)) && next.to_string().contains(second), "{next}");
        assert!(closed.await.contains(second));
        let later = cluster(&client).await.unwrap_err();
        assert!(client.is_closed() && later.to_string().contains(second), "{later}");
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_decoded_is_an_error() {
    let (client, mut peer) = pair(10_000).await;
    let (answer, ()) = tokio::join!(cluster(&client), async {
        let request = peer.request().await;
        let mut out = BytesMut::new();
        out.put_u32(9);
        out.put_i32(request.correlation_id);
        out.put_slice(&[0, 0xff, 0xff, 0xff, 0xff]);
        peer.send(&out).await;
    });
    assert!(matches!(answer.unwrap_err(), ClientError::Decode(_)));
}

#[tokio::test]
async fn extra_wait_is_added() {
    let (client, mut peer) = pair(100).await;
    let body = Bytes::from_static(b"ping");
    let (answer, ()) = tokio::join!(client.call_raw(api::private::OPERATE, 0, body, Duration::from_secs(10)), async {
        let request = peer.request().await;
        assert_eq!((request.api_key, &request.body[..]), (api::private::OPERATE, &b"ping"[..]));
        tokio::time::sleep(Duration::from_millis(300)).await;
        let reply = api::encode_raw_response(request.api_key, 0, request.correlation_id, b"pong").unwrap();
        peer.send(&reply).await;
    });
    assert_eq!(&answer.unwrap()[..], b"pong");
}

#[tokio::test]
async fn an_answer_that_goes_on_coming_is_waited_for_and_so_is_the_next() {
    let (client, mut peer) = pair(3_000).await;
    let body = vec![7; 10 * 2 * driver::ANSWER_BYTES_MIN];
    let raw = || client.call_raw(api::private::OPERATE, 0, Bytes::new(), Duration::ZERO);
    let (slow, next, ()) = tokio::join!(raw(), raw(), async {
        let (slow, next) = (peer.request().await, peer.request().await);
        let reply = api::encode_raw_response(slow.api_key, 0, slow.correlation_id, &body).unwrap();
        for piece in reply.chunks(2 * driver::ANSWER_BYTES_MIN) {
            tokio::time::sleep(Duration::from_millis(500)).await;
            peer.send(piece).await;
        }
        peer.send(&api::encode_raw_response(next.api_key, 0, next.correlation_id, b"next").unwrap()).await;
    });
    assert_eq!((slow.unwrap().len(), &next.unwrap()[..]), (body.len(), &b"next"[..]));
}

#[tokio::test]
async fn an_answer_that_dribbles_is_too_late() {
    let (client, mut peer) = pair(300).await;
    let (answer, ()) = tokio::join!(cluster(&client), async {
        let request = peer.request().await;
        let body = vec![0; 10 * driver::ANSWER_BYTES_MIN];
        let reply = api::encode_raw_response(request.api_key, 0, request.correlation_id, &body).unwrap();
        for byte in reply.chunks(1) {
            if peer.tcp.write_all(byte).await.is_err() {
                return; // given up
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("waited for to its last byte");
    });
    assert!(matches!(answer.unwrap_err(), ClientError::Timeout { .. }));
}

#[tokio::test]
async fn the_last_clone_closes_the_connection() {
    let (client, mut peer) = pair(10_000).await;
    let closed = client.closed();
    drop(client.clone());
    assert!(!client.is_closed());
    drop(client);
    assert_eq!(peer.tcp.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(closed.await, "given up by this side");
}

/// Answers of 1 MiB reuse their buffers: the third lies where the first lay.
#[tokio::test]
async fn answers_reuse_memory() {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), ServerSecurity::plaintext()).await.unwrap();
    let tcp = TcpStream::connect(listener.local_addr()).await.unwrap();
    let serve = async {
        let mut connection = listener.accept().await;
        let body = vec![5; 1 << 20];
        while let Some(frame) = connection.next_frame().await.unwrap() {
            let request = RequestFrame::parse(frame).unwrap();
            let reply = if request.api_key == ApiKey::ApiVersions as i16 {
                crate::answer_api_versions(&table(), &request).unwrap()
            } else {
                api::encode_raw_response(request.api_key, 0, request.correlation_id, &body).unwrap()
            };
            connection.write(&[reply]).await.unwrap();
        }
    };
    let ask = async {
        let client = KafkaClient::start(Stream::from_tcp(tcp).unwrap(), ClientOptions::default()).await.unwrap();
        let mut places = std::collections::BTreeSet::new();
        for _ in 0..20 {
            let answer = client.call_raw(api::private::OPERATE, 0, Bytes::new(), Duration::ZERO).await.unwrap();
            assert_eq!(answer.len(), 1 << 20);
            places.insert(answer.as_ptr() as usize);
        }
        places.len()
    };
    let ((), places) = tokio::join!(serve, ask);
    assert!(places <= 2, "{places} buffers for answers that were dropped at once");
}

#[tokio::test]
async fn giving_up_does_not_wait_for_api_versions() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    // Accepted, and never answered.
    let _peer = listener.accept().await.unwrap();
    let stream = Stream::from_tcp(tcp).unwrap();
    let given_up = async { "gone".to_owned() };
    let started = KafkaClient::start_until(stream, ClientOptions::default(), given_up);
    let started = tokio::time::timeout(Duration::from_secs(10), started).await.expect("long before the time-out");
    assert!(matches!(started, Err(ClientError::Closed(reason)) if reason == "gone"));
}
