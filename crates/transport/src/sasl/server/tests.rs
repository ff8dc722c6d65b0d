//! Our client's machine against our server's, and everything else against the server's.

use super::*;
use crate::dial::DialError;
use crate::sasl::{Credentials, Login, Next};
use proptest::prelude::*;

const ALL: [Mechanism; 3] = [Mechanism::Plain, Mechanism::ScramSha256, Mechanism::ScramSha512];

fn login_with(enabled: &[Mechanism], lifetime: Option<Duration>) -> ServerLogin {
    let mut users = Users::default();
    for mechanism in enabled {
        users.add(*mechanism, "alice", "wonderland").unwrap();
        users.add(*mechanism, "o,=r", "x").unwrap();
    }
    let server = SaslServer::new(enabled.to_vec(), users, lifetime).unwrap();
    let key = |key: ApiKey, max| {
        hawser_wire::messages::api_versions_response::ApiVersion::default()
            .with_api_key(key as i16)
            .with_max_version(max)
    };
    let table = vec![key(ApiKey::ApiVersions, 4), key(ApiKey::Fetch, 9)];
    ServerLogin::new(Arc::new(server), None, Arc::new(ApiVersionsResponse::default().with_api_keys(table)))
}

fn parse(frame: Bytes) -> RequestFrame {
    RequestFrame::parse(frame.slice(4..)).unwrap()
}

/// Plays a login to its end: how many requests it took, and what each side says.
fn play(
    server: &mut ServerLogin,
    mechanism: Mechanism,
    name: &str,
    password: &str,
) -> (usize, Result<Option<Duration>, DialError>) {
    let credentials = Credentials::new(mechanism, name, password);
    let (mut client, mut frame) = Login::begin(&credentials, Arc::from("test"), 0).unwrap();
    for step in 1.. {
        let reply = match server.on(&parse(frame)) {
            Verdict::Reply(reply) | Verdict::Accepted { reply, .. } => reply,
            Verdict::Refused { reply, .. } => reply.expect("a refused login is answered"),
        };
        match client.on_response(reply.slice(4..), step) {
            Ok(Next::Send(next)) => frame = next,
            Ok(Next::Done(lifetime)) => return (step as usize, Ok(lifetime)),
            Err(e) => return (step as usize, Err(e)),
        }
    }
    unreachable!("a login ends")
}

#[test]
fn both_machines_agree() {
    for mechanism in ALL {
        for (name, password) in [("alice", "wonderland"), ("o,=r", "x")] {
            let mut server = login_with(&ALL, Some(Duration::from_secs(60)));
            let (_, outcome) = play(&mut server, mechanism, name, password);
            assert_eq!(outcome.unwrap(), Some(Duration::from_secs(60)), "{mechanism} {name}");
            assert!(server.is_over());
        }
        assert_eq!(play(&mut login_with(&ALL, None), mechanism, "alice", "wonderland").1.unwrap(), None);
    }
}

/// The path of an unknown user has as many messages as that of a wrong password, and the same last one.
#[test]
fn nothing_tells_a_wrong_name_from_a_wrong_password() {
    for mechanism in ALL {
        let wrong = |name, password| {
            let (steps, outcome) = play(&mut login_with(&ALL, None), mechanism, name, password);
            (steps, outcome.unwrap_err().to_string())
        };
        assert_eq!(wrong("alice", "wonderlane"), wrong("nobody", "wonderland"), "{mechanism}");
    }
}

/// Made while the listener serves: in from the next login on, out from the next one after the removal, which is what ends
/// a session that is to log in again.
#[test]
fn stored_users_come_and_go_between_two_logins() {
    let stored = ScramUsers::new([9; 32]);
    let mut server = login_with(&[Mechanism::ScramSha512], Some(Duration::from_secs(1)));
    server.stored = Some(stored.clone());
    let mut log_in = |name, password| play(&mut server, Mechanism::ScramSha512, name, password).1;
    let put = |name, password: &str| {
        let credential = ScramCredential::derive(ScramMechanism::Sha512, password, vec![5; 26], 8192);
        stored.put(ScramMechanism::Sha512, name, credential);
    };
    put("carol", "first");
    assert!(log_in("carol", "first").is_ok());
    put("carol", "second");
    assert!(log_in("carol", "first").is_err());
    assert!(log_in("carol", "second").is_ok());
    stored.remove(ScramMechanism::Sha512, "carol");
    assert!(log_in("carol", "second").is_err());
    assert!(stored.shapes(ScramMechanism::Sha512).is_empty());
    let mut server = login_with(&[Mechanism::ScramSha512], None);
    server.stored = Some(stored.clone());
    let mut log_in = |password| play(&mut server, Mechanism::ScramSha512, "alice", password).1;
    assert!(log_in("wonderland").is_ok(), "the user of the properties");
    put("alice", "later");
    assert!(log_in("wonderland").is_err());
    assert!(log_in("later").is_ok());
}

/// The salt of somebody who does not exist is the same on every listener and like those of the others.
#[test]
fn invented_users_look_like_stored_ones() {
    let stored = ScramUsers::new([9; 32]);
    let credential = ScramCredential::derive(ScramMechanism::Sha256, "x", vec![5; 26], 8192);
    stored.put(ScramMechanism::Sha256, "carol", credential);
    let shown = |listener: [u8; 32], user: &str| {
        let directory = Directory::new(ScramMechanism::Sha256, HashMap::new(), listener);
        let first = format!("n,,n={user},r=abc");
        ServerExchange::first(&directory, Some(&stored), first.as_bytes(), "def").unwrap().1
    };
    assert_eq!(shown([1; 32], "nobody"), shown([2; 32], "nobody"));
    assert_ne!(shown([1; 32], "nobody"), shown([1; 32], "someone"));
    let salt_bytes = |first: String| first.split(',').nth(1).unwrap().len();
    assert_eq!(salt_bytes(shown([1; 32], "nobody")), salt_bytes(shown([1; 32], "carol")));
    assert!(shown([1; 32], "nobody").ends_with("i=8192"));
}

#[test]
fn a_session_keeps_its_user_and_mechanism() {
    let mut server = login_with(&ALL, Some(Duration::from_secs(1)));
    play(&mut server, Mechanism::Plain, "alice", "wonderland").1.unwrap();
    play(&mut server, Mechanism::Plain, "alice", "wonderland").1.unwrap();
    let other = play(&mut server, Mechanism::Plain, "o,=r", "x").1.unwrap_err();
    assert!(other.to_string().contains("Cannot change principals"), "{other}");
    let mut server = login_with(&ALL, Some(Duration::from_secs(1)));
    play(&mut server, Mechanism::Plain, "alice", "wonderland").1.unwrap();
    let other = play(&mut server, Mechanism::ScramSha512, "alice", "wonderland").1.unwrap_err();
    assert!(matches!(other, DialError::Mechanism { .. }), "{other}");
}

fn request<M: Request>(version: i16, message: &M) -> RequestFrame {
    parse(api::encode_request(version, 5, "test", message).unwrap())
}

fn handshake(mechanism: &'static str) -> RequestFrame {
    let mut message = SaslHandshakeRequest::default();
    message.mechanism = StrBytes::from_static_str(mechanism);
    request(1, &message)
}

fn token(bytes: &'static [u8]) -> RequestFrame {
    let mut message = SaslAuthenticateRequest::default();
    message.auth_bytes = Bytes::from_static(bytes);
    request(2, &message)
}

#[test]
fn what_is_out_of_place_ends_the_connection() {
    let reason = |frames: &[RequestFrame]| {
        let mut login = login_with(&[Mechanism::Plain], None);
        let mut last = None;
        for frame in frames {
            last = Some(login.on(frame));
        }
        match last {
            Some(Verdict::Refused { reason, guess, .. }) => (reason, guess),
            _ => panic!("not refused"),
        }
    };
    let metadata = request(9, &hawser_wire::messages::MetadataRequest::default());
    for (frames, part, guess) in [
        (vec![metadata.clone()], "api key 3 before the login", false),
        (vec![token(b"x")], "without SaslHandshake", false),
        (vec![handshake("PLAIN"), metadata], "api key 3 before the login", false),
        (vec![handshake("PLAIN"), handshake("PLAIN")], "second SaslHandshake", false),
        (vec![handshake("SCRAM-SHA-512")], "'SCRAM-SHA-512' is not enabled", false),
        (vec![handshake("GSSAPI")], "'GSSAPI' is not enabled", false),
        (vec![handshake("PLAIN"), token(b"")], "bad PLAIN message", true),
        (vec![handshake("PLAIN"), token(b"\0alice")], "bad PLAIN message", true),
        (vec![handshake("PLAIN"), token(b"\0alice\0")], "bad PLAIN message", true),
        (vec![handshake("PLAIN"), token(b"\0alice\0wonderland\0")], "bad PLAIN message", true),
        (vec![handshake("PLAIN"), token(b"\xff\0alice\0x")], "bad PLAIN message", true),
        (vec![handshake("PLAIN"), token(b"bob\0alice\0wonderland")], "authorization id", true),
        (vec![handshake("PLAIN"), token(b"\0alice\0x")], "wrong name or password", true),
    ] {
        let (reason, said) = reason(&frames);
        assert!(reason.contains(part) && said == guess, "{reason}");
        assert!(!reason.contains("wonder"));
    }
    let mut login = login_with(&[Mechanism::Plain], None);
    login.on(&handshake("PLAIN"));
    assert!(matches!(login.on(&token(b"alice\0alice\0wonderland")), Verdict::Accepted { .. }));
}

#[test]
fn versions_are_told_before_the_login() {
    let mut login = login_with(&[Mechanism::Plain], None);
    let ask = |version: i16| RequestFrame {
        api_key: ApiVersionsRequest::KEY,
        api_version: version,
        correlation_id: 9,
        client_id: None,
        body: Bytes::new(),
    };
    for (version, answered, error, keys) in [(0, 0, 0, 2), (3, 3, 0, 2), (4, 4, 0, 2), (99, 0, 35, 1), (-1, 0, 35, 1)] {
        let Verdict::Reply(reply) = login.on(&ask(version)) else { panic!("no reply to version {version}") };
        let (id, body) = api::split_response(ApiVersionsRequest::KEY, answered, reply.slice(4..)).unwrap();
        let response = api::decode_response::<ApiVersionsRequest>(answered, body).unwrap();
        assert_eq!((id, response.error_code, response.api_keys.len()), (9, error, keys), "version {version}");
    }
}

/// Deriving keys takes longer than all the rest.
fn any_login() -> ServerLogin {
    static SHARED: std::sync::OnceLock<Arc<SaslServer>> = std::sync::OnceLock::new();
    let server = SHARED.get_or_init(|| login_with(&ALL, None).server);
    ServerLogin::new(Arc::clone(server), None, Arc::default())
}

proptest! {
    /// Random bodies under the keys that are served before a login, in any order.
    #[test]
    fn any_frames_are_taken(frames in proptest::collection::vec(
        (prop_oneof![Just(17_i16), Just(18), Just(36), any::<i16>()], -1_i16..6, proptest::collection::vec(any::<u8>(), 0..80)),
        0..8,
    )) {
        let mut login = any_login();
        for (api_key, api_version, body) in frames {
            let frame = RequestFrame { api_key, api_version, correlation_id: 1, client_id: None, body: body.into() };
            let accepted = matches!(login.on(&frame), Verdict::Accepted { .. });
            prop_assert!(!accepted);
        }
    }

    /// Tokens that are one change away from right ones.
    #[test]
    fn any_token_is_taken(mechanism in 0_usize..3, token in proptest::collection::vec(any::<u8>(), 0..120)) {
        let mut login = any_login();
        login.on(&handshake(ALL[mechanism].as_str()));
        let mut message = SaslAuthenticateRequest::default();
        message.auth_bytes = token.into();
        let accepted = matches!(login.on(&request(1, &message)), Verdict::Accepted { .. });
        prop_assert!(!accepted);
    }
}
