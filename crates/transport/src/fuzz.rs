//! What strangers send before they have logged in, and what operators write: mutants of real messages and files
//! (`hawser_testkit::fuzz` has the driver and its environment variables). No panic; nobody gets in without the secret; what
//! is accepted means the same when it is written again.

use crate::sasl::{Credentials, Login, Mechanism, Next, SaslServer, ServerLogin, Users, Verdict};
use crate::security::{jaas::Jaas, pem, x500};
use crate::{ClientSecurity, SecurityProtocol, ServerSecurity};
use bytes::Bytes;
use hawser_link::Properties;
use hawser_testkit::certificates::Authority;
use hawser_testkit::fuzz::{run, run_some};
use hawser_wire::messages::{
    ApiVersionsRequest, ApiVersionsResponse, SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest,
    SaslHandshakeResponse,
};
use hawser_wire::{Request, RequestFrame, StrBytes, api};
use rustls_pki_types::CertificateDer;
use std::sync::Arc;

const USER: &str = "user";
const SECRET: &str = "pencil";
/// The client's messages of RFC 7677's example (its user and password are the ones above), and PLAIN's.
const TOKENS: [&[u8]; 4] = [
    b"\0user\0pencil",
    b"user\0user\0pencil",
    b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
];
/// The server's. `@` stands for the client's nonce, which is random.
const ANSWERS: [&[u8]; 3] = [
    b"r=@%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
    b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    b"e=invalid-proof",
];
/// Inputs for targets that derive keys from passwords: milliseconds each.
const SLOW_EXECUTIONS: u64 = 300;

fn server() -> Arc<SaslServer> {
    let mut users = Users::default();
    for mechanism in Mechanism::ALL {
        users.add(mechanism, USER, SECRET).unwrap();
    }
    Arc::new(SaslServer::new(Mechanism::ALL.to_vec(), users, None).ok().unwrap())
}

fn request<M: Request>(version: i16, message: &M) -> Bytes {
    api::encode_request(version, 1, "fuzz", message).unwrap().slice(4..)
}

fn handshake(mechanism: Mechanism) -> Bytes {
    request(1, &SaslHandshakeRequest::default().with_mechanism(StrBytes::from_string(mechanism.to_string())))
}

fn authenticate(token: &[u8]) -> Bytes {
    request(2, &SaslAuthenticateRequest::default().with_auth_bytes(Bytes::copy_from_slice(token)))
}

/// A login that has come so far.
fn at(server: &Arc<SaslServer>, said: &[Bytes]) -> ServerLogin {
    let mut login = ServerLogin::new(Arc::clone(server), None, Arc::new(ApiVersionsResponse::default()));
    for frame in said {
        let verdict = login.on(&RequestFrame::parse(frame.clone()).unwrap());
        assert!(matches!(verdict, Verdict::Reply(_)));
    }
    login
}

#[test]
fn requests_before_the_login() {
    let server = server();
    let mut corpus = vec![request(3, &ApiVersionsRequest::default())];
    corpus.extend(Mechanism::ALL.map(handshake));
    corpus.extend(TOKENS.map(authenticate));
    let begun = [
        vec![],
        vec![handshake(Mechanism::Plain)],
        vec![handshake(Mechanism::ScramSha256)],
        vec![handshake(Mechanism::ScramSha512), authenticate(TOKENS[2])],
    ];
    run_some(10_000, "requests before the login", &corpus, |_, frame| {
        let Ok(frame) = RequestFrame::parse(Bytes::copy_from_slice(frame)) else { return };
        for said in &begun {
            if let Verdict::Accepted { user, .. } = at(&server, said).on(&frame) {
                let secret = frame.body.windows(SECRET.len()).any(|part| part == SECRET.as_bytes());
                assert!(user == USER && secret && *said == begun[1], "{user} is in after {} frames", said.len());
            }
        }
    });
}

#[test]
fn tokens() {
    let server = server();
    run_some(10_000, "tokens", &TOKENS, |_, token| {
        for mechanism in Mechanism::ALL {
            let mut login = at(&server, &[handshake(mechanism)]);
            // The same again, where the first was good enough for a challenge.
            for _ in 0..2 {
                match login.on(&RequestFrame::parse(authenticate(token)).unwrap()) {
                    Verdict::Reply(_) => {}
                    Verdict::Refused { .. } => break,
                    Verdict::Accepted { user, .. } => {
                        let right = token == TOKENS[0] || token == TOKENS[1];
                        assert!(user == USER && right && mechanism == Mechanism::Plain, "{user} is in: {token:?}");
                        break;
                    }
                }
            }
        }
    });
}

fn handshake_answer() -> Bytes {
    let mechanisms = Mechanism::ALL.map(|m| StrBytes::from_string(m.to_string())).to_vec();
    let answer = SaslHandshakeResponse::default().with_mechanisms(mechanisms);
    api::encode_response::<SaslHandshakeRequest>(1, 0, &answer).unwrap().slice(4..)
}

fn token_answer(token: &[u8]) -> Bytes {
    let answer = SaslAuthenticateResponse::default().with_auth_bytes(Bytes::copy_from_slice(token));
    api::encode_response::<SaslAuthenticateRequest>(1, 0, &answer).unwrap().slice(4..)
}

fn begin(mechanism: Mechanism) -> Login {
    Login::begin(&Credentials::new(mechanism, USER, SECRET), "fuzz".into(), 0).ok().unwrap().0
}

/// The nonce in a client's first message, and that message's token.
fn nonce_of(frame: &Bytes) -> (String, Bytes) {
    let sent = RequestFrame::parse(frame.slice(4..)).unwrap().decode::<SaslAuthenticateRequest>().unwrap();
    let text = String::from_utf8(sent.auth_bytes.to_vec()).unwrap();
    (text.rsplit(",r=").next().unwrap().to_owned(), sent.auth_bytes)
}

#[test]
fn answers_to_the_login() {
    let mut corpus = vec![handshake_answer(), token_answer(b"")];
    corpus.extend(ANSWERS.map(token_answer));
    let failure = SaslAuthenticateResponse::default().with_error_code(58).with_session_lifetime_ms(i64::MAX);
    corpus.push(api::encode_response::<SaslAuthenticateRequest>(1, 0, &failure).unwrap().slice(4..));
    run_some(10_000, "answers to the login", &corpus, |_, frame| {
        let frame = Bytes::copy_from_slice(frame);
        for mechanism in [Mechanism::Plain, Mechanism::ScramSha512] {
            assert!(!matches!(begin(mechanism).on_response(frame.clone(), 1), Ok(Next::Done(_))));
            let mut login = begin(mechanism);
            assert!(matches!(login.on_response(handshake_answer(), 1), Ok(Next::Send(_))));
            let done = matches!(login.on_response(frame.clone(), 2), Ok(Next::Done(_)));
            assert!(!done || mechanism == Mechanism::Plain, "a server that has proved nothing is believed");
        }
    });
}

#[test]
fn challenges_and_signatures() {
    let server = server();
    run_some(SLOW_EXECUTIONS, "challenges and signatures", &ANSWERS, |_, token| {
        for mechanism in [Mechanism::ScramSha256, Mechanism::ScramSha512] {
            // In the place of the challenge, with the client's nonce in it.
            let mut login = begin(mechanism);
            let Ok(Next::Send(first)) = login.on_response(handshake_answer(), 1) else { panic!("no first message") };
            let (nonce, said) = nonce_of(&first);
            let mut challenge = Vec::new();
            token.iter().for_each(|byte| match byte {
                b'@' => challenge.extend_from_slice(nonce.as_bytes()),
                byte => challenge.push(*byte),
            });
            assert!(!matches!(login.on_response(token_answer(&challenge), 2), Ok(Next::Done(_))));
            // In the place of the signature, after a real challenge.
            let mut login = begin(mechanism);
            let Ok(Next::Send(again)) = login.on_response(handshake_answer(), 1) else { panic!("no first message") };
            let mut real = at(&server, &[handshake(mechanism)]);
            let Verdict::Reply(challenge) = real.on(&RequestFrame::parse(authenticate(&nonce_of(&again).1)).unwrap())
            else {
                panic!("{said:?} is not answered")
            };
            let (_, body) = api::split_response(SaslAuthenticateRequest::KEY, 2, challenge.slice(4..)).unwrap();
            let challenge = api::decode_response::<SaslAuthenticateRequest>(2, body).unwrap().auth_bytes;
            assert!(matches!(login.on_response(token_answer(&challenge), 2), Ok(Next::Send(_))));
            let done = login.on_response(token_answer(token), 3);
            assert!(!matches!(done, Ok(Next::Done(_))), "a server that has proved nothing is believed");
        }
    });
}

#[test]
fn jaas_lines() {
    let corpus = [
        "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"u\" password='p';",
        "  m.P\n\trequired\n user_a = \"a b\" /* note */ user_b='2' // rest\n;\n",
        r#"m.P REQUIRED password="a\"b\\c\'d\tz\101" other='a"b=c;d';"#,
        "m.S required user_a=\"salt=QQ==,stored_key=QQ==,server_key=QQ==,iterations=4096\";",
    ];
    run("JAAS", &corpus, |_, bytes| {
        let Ok(jaas) = Jaas::parse(&String::from_utf8_lossy(bytes)) else { return };
        let mut text = format!("{} required", jaas.module);
        for (name, value) in &jaas.options {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            text.push_str(&format!(" {name}=\"{value}\""));
        }
        let again = Jaas::parse(&(text + ";")).ok().unwrap();
        assert_eq!((&again.module, &again.options), (&jaas.module, &jaas.options));
    });
}

#[test]
fn pem_blocks() {
    let authority = Authority::new("fuzz").unwrap();
    let server = authority.server().unwrap();
    let encrypted = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES,00\n\nAQID\n\
                     -----END RSA PRIVATE KEY-----\n";
    let inline = server.chain_pem.replace('\n', " ");
    let corpus = [&authority.pem(), &server.chain_pem, &server.key_pem, &inline, encrypted];
    run_some(20_000, "PEM", &corpus, |_, bytes| {
        let text = String::from_utf8_lossy(bytes);
        for certificate in pem::certificates(&text).unwrap_or_default() {
            assert!(!certificate.is_empty());
            let _ = x500::subject(&certificate);
        }
        let _ = pem::private_key(&text);
    });
}

#[test]
fn subjects_of_certificates() {
    let authority = Authority::new("fuzz").unwrap();
    let chains = [authority.server().unwrap(), authority.client("someone, \"quoted\" + more").unwrap()];
    let corpus: Vec<_> = chains.iter().flat_map(|identity| pem::certificates(&identity.chain_pem).unwrap()).collect();
    assert_eq!(x500::subject(&corpus[2]).as_deref(), Some(r#"CN=someone\, \"quoted\" \+ more"#));
    run("subjects", &corpus, |_, bytes| {
        if let Some(subject) = x500::subject(&CertificateDer::from(bytes.to_vec())) {
            // A byte becomes two digits with their keyword at most, so that a principal's name stays in proportion.
            assert!(subject.len() <= 8 * bytes.len(), "{} bytes from {}", subject.len(), bytes.len());
        }
    });
}

#[test]
fn security_properties() {
    let identity = Authority::new("fuzz").unwrap().server().unwrap();
    let inline = |pem: &str| pem.replace('\n', "\\n");
    let (chain, key) = (inline(&identity.chain_pem), inline(&identity.key_pem));
    let corpus = [
        format!(
            "security.protocol=SASL_SSL\nssl.truststore.type=PEM\nssl.truststore.certificates={chain}\n\
             ssl.keystore.type=PEM\nssl.keystore.certificate.chain={chain}\nssl.keystore.key={key}\n\
             ssl.endpoint.identification.algorithm=\nsasl.mechanism=SCRAM-SHA-512\n\
             sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \\\n  \
             username=\"u\" password=\"p\";\n"
        ),
        format!(
            "ssl.keystore.type=PEM\nssl.keystore.certificate.chain={chain}\nssl.keystore.key={key}\n\
             ssl.client.auth=requested\nssl.enabled.protocols=TLSv1.2,TLSv1.3\nssl.cipher.suites=\n\
             sasl.enabled.mechanisms=PLAIN\nmax.connections=10\nconnections.max.idle.ms=-1\n\
             listener.name.front.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule \
             required user_a=\"b\";\n"
        ),
    ];
    run_some(2_000, "security properties", &corpus, |_, bytes| {
        let properties = Properties::parse("fuzz.properties", &String::from_utf8_lossy(bytes));
        let _ = ClientSecurity::from_properties(&properties);
        let _ = ServerSecurity::from_properties(&properties, "FRONT", SecurityProtocol::SaslSsl);
    });
}
