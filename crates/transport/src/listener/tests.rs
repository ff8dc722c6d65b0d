//! Strangers at the door: silent, slow, many, rude; and sessions that end.

use super::*;
use crate::client::{ClientOptions, KafkaClient};
use crate::host_port::HostPort;
use crate::security::{ClientSecurity, SecurityProtocol};
use hawser_link::Properties;
use hawser_wire::api;
use hawser_wire::messages::{MetadataRequest, MetadataResponse};
use tokio::io::AsyncReadExt;

fn security(protocol: SecurityProtocol, text: &str) -> ServerSecurity {
    ServerSecurity::from_properties(&Properties::parse("test", text), "front", protocol).unwrap()
}

fn plain(more: &str) -> ServerSecurity {
    let module = "org.apache.kafka.common.security.plain.PlainLoginModule";
    let users = format!("listener.name.front.plain.sasl.jaas.config={module} required user_alice=\"wonder\";");
    security(SecurityProtocol::SaslPlaintext, &format!("sasl.enabled.mechanisms=PLAIN\n{users}\n{more}"))
}

fn alice() -> ClientSecurity {
    let module = "org.apache.kafka.common.security.plain.PlainLoginModule";
    let text = format!(
        "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.jaas.config={module} required username=alice \
         password=wonder;"
    );
    ClientSecurity::from_properties(&Properties::parse("test", &text)).unwrap()
}

async fn listen(security: ServerSecurity) -> Listener {
    Listener::bind("127.0.0.1:0".parse().unwrap(), security).await.unwrap()
}

async fn until(what: impl Fn() -> bool) {
    let waiting = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("in time");
}

/// More silent strangers than there are places: each later one pushes out the oldest, and a login still gets through.
#[tokio::test]
async fn silent_strangers_do_not_keep_others_out() {
    let listener = listen(plain("")).await;
    let more = 200;
    let mut strangers = Vec::new();
    for n in 0..ARRIVING_MAX + more {
        let mut tcp = TcpStream::connect(listener.local_addr()).await.unwrap();
        if n % 2 == 0 {
            tcp.write_all(&[0, 0]).await.unwrap();
        }
        strangers.push(tcp);
    }
    let to = HostPort::new("127.0.0.1", listener.local_addr().port());
    let alice = alice();
    let (stream, connection) = tokio::join!(alice.dial(&to, Duration::from_secs(20)), listener.accept());
    assert_eq!(connection.principal().as_str(), "User:alice");
    assert_eq!(stream.unwrap().peer().port(), to.port);
    let pushed_out = listener.counts().too_slow;
    assert!((more as u64..=more as u64 + 1).contains(&pushed_out), "{pushed_out}");
    // The oldest were closed, the newest were not.
    assert_eq!(strangers[0].read(&mut [0]).await.unwrap_or(0), 0);
    let newest = strangers.last_mut().unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(20), newest.read(&mut [0])).await.is_err());
}

/// However few places there are, none is taken by who has not logged in.
#[tokio::test]
async fn strangers_take_no_place_of_those_who_log_in() {
    let listener = listen(plain("max.connections=2")).await;
    let mut strangers = Vec::new();
    for _ in 0..5 {
        strangers.push(TcpStream::connect(listener.local_addr()).await.unwrap());
    }
    until(|| listener.counts().accepted == 5).await;
    let to = HostPort::new("127.0.0.1", listener.local_addr().port());
    let alice = alice();
    let mut kept = Vec::new();
    for _ in 0..2 {
        let (stream, connection) = tokio::join!(alice.dial(&to, Duration::from_secs(20)), listener.accept());
        kept.push((stream.unwrap(), connection));
    }
    assert_eq!((listener.counts().logged_in, listener.counts().too_many), (2, 0));
    // There is no third.
    alice.dial(&to, Duration::from_secs(20)).await.unwrap_err();
    until(|| listener.counts().too_many == 1).await;
}

#[tokio::test]
async fn rude_strangers_are_closed_and_counted() {
    let listener = listen(plain("")).await;
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        &[0xff; 64],
        &[0, 1, 0, 1],
        &[0, 0, 0, 0],
        &[0, 0, 0, 4, 1, 2, 3, 4],
        &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc],
    ] {
        let mut tcp = TcpStream::connect(listener.local_addr()).await.unwrap();
        tcp.write_all(bytes).await.unwrap();
        assert_eq!(tcp.read(&mut [0]).await.unwrap_or(0), 0, "{bytes:?}");
    }
    until(|| listener.counts().refused == 6).await;
    assert_eq!(listener.counts().logged_in, 0);
}

#[tokio::test]
async fn connections_are_bounded() {
    let listener = listen(security(SecurityProtocol::Plaintext, "max.connections=2")).await;
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut tcp = TcpStream::connect(listener.local_addr()).await.unwrap();
        tcp.write_all(&[0]).await.unwrap();
        kept.push((tcp, listener.accept().await));
    }
    let mut third = TcpStream::connect(listener.local_addr()).await.unwrap();
    assert_eq!(third.read(&mut [0]).await.unwrap_or(0), 0);
    assert_eq!(listener.counts().too_many, 1);
    // A place is given back by the stream, also after the reversal.
    let (tcp, connection) = kept.pop().unwrap();
    let stream = connection.into_stream();
    let mut fourth = TcpStream::connect(listener.local_addr()).await.unwrap();
    assert_eq!(fourth.read(&mut [0]).await.unwrap_or(0), 0);
    drop((tcp, stream));
    let mut fifth = TcpStream::connect(listener.local_addr()).await.unwrap();
    fifth.write_all(&[0]).await.unwrap();
    listener.accept().await;
}

#[tokio::test]
async fn idle_connections_and_large_frames_end() {
    let limits = "connections.max.idle.ms=50\nsocket.request.max.bytes=2000";
    let listener = listen(security(SecurityProtocol::Plaintext, limits)).await;
    let mut tcp = TcpStream::connect(listener.local_addr()).await.unwrap();
    tcp.write_all(&[0, 0, 0, 1, 7]).await.unwrap();
    let mut connection = listener.accept().await;
    assert_eq!(connection.next_frame().await.unwrap().unwrap(), [7][..]);
    assert!(connection.next_frame().await.unwrap().is_none());
    tcp.write_all(&2001_u32.to_be_bytes()).await.unwrap();
    let error = connection.next_frame().await.unwrap_err().to_string();
    assert_eq!(error, "frame of 2001 bytes exceeds the limit of 2000 bytes");
}

#[tokio::test]
async fn frames_in_many_pieces_are_written_whole() {
    let listener = listen(ServerSecurity::plaintext()).await;
    let mut tcp = TcpStream::connect(listener.local_addr()).await.unwrap();
    tcp.write_all(&[0]).await.unwrap();
    let mut connection = listener.accept().await;
    let pieces: Vec<bytes::Bytes> = (0..200_usize).map(|n| vec![n as u8; n * n].into()).collect();
    let whole = pieces.concat();
    let length = whole.len();
    let (written, read) = tokio::join!(connection.write(&pieces), async {
        let mut read = vec![0; length];
        tcp.read_exact(&mut read).await.map(|_| read)
    });
    written.unwrap();
    assert!(read.unwrap() == whole);
}

/// Sessions of 1.5 s: our client logs in again by itself; one that does not is cut off.
#[tokio::test]
async fn sessions_end_unless_renewed() {
    let listener = Arc::new(listen(plain("connections.max.reauth.ms=1500")).await);
    let serving = Arc::clone(&listener);
    let server = tokio::spawn(async move {
        let mut ends = Vec::new();
        for _ in 0..2 {
            let mut connection = serving.accept().await;
            let end = loop {
                match connection.next_frame().await {
                    Ok(Some(frame)) => {
                        let request = RequestFrame::parse(frame).unwrap();
                        let reply = if request.api_key == ApiKey::ApiVersions as i16 {
                            let keys = vec![
                                ApiVersion::default().with_api_key(18).with_max_version(4),
                                ApiVersion::default().with_api_key(3).with_max_version(9),
                            ];
                            answer_api_versions(&ApiVersionsResponse::default().with_api_keys(keys), &request)
                        } else {
                            let (version, id) = (request.api_version, request.correlation_id);
                            api::encode_response::<MetadataRequest>(version, id, &MetadataResponse::default())
                        };
                        connection.write(&[reply.unwrap()]).await.unwrap();
                    }
                    Ok(None) => break "closed".to_owned(),
                    Err(e) => break e.to_string(),
                }
            };
            ends.push(end);
        }
        ends
    });
    let to = HostPort::new("127.0.0.1", listener.local_addr().port());
    let stream = alice().dial(&to, Duration::from_secs(20)).await.unwrap();
    let client = KafkaClient::start(stream, ClientOptions::default()).await.unwrap();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(3500) {
        client.call(&MetadataRequest::default(), 9, Duration::ZERO).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(client);
    let mut stream = alice().dial(&to, Duration::from_secs(20)).await.unwrap();
    let mut reauthentication = stream.take_reauthentication().unwrap();
    let (mut from, mut to) = stream.split();
    // More than the jitter.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = reauthentication.due();
    reauthentication.perform(&mut FrameReader::dialled(1000), &mut from, &mut to).await.unwrap();
    assert!(before < reauthentication.due() && reauthentication.due() <= Instant::now() + Duration::from_millis(1425));
    let client = KafkaClient::start(from.unsplit(to), ClientOptions::default()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1600)).await;
    client.call(&MetadataRequest::default(), 9, Duration::ZERO).await.unwrap_err();
    let ends = server.await.unwrap();
    assert_eq!(ends, ["closed", "the session has ended and the client did not log in again"]);
}

/// A reversed stream: what came behind the last frame is not lost.
#[tokio::test]
async fn a_stream_keeps_what_was_read_ahead() {
    let listener = listen(ServerSecurity::plaintext()).await;
    let mut tcp = TcpStream::connect(listener.local_addr()).await.unwrap();
    tcp.write_all(&[0, 0, 0, 1, 7, 1, 2, 3]).await.unwrap();
    let mut connection = listener.accept().await;
    assert_eq!(connection.next_frame().await.unwrap().unwrap(), [7][..]);
    let mut stream = connection.into_stream();
    tcp.write_all(&[4, 5]).await.unwrap();
    let mut rest = [0; 5];
    stream.read_exact(&mut rest).await.unwrap();
    assert_eq!(rest, [1, 2, 3, 4, 5]);
}
