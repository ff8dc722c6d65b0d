//! RFC 7677's example on both sides, and every way in which a message can be wrong.

use super::*;
use proptest::prelude::*;

const CLIENT_NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const CLIENT_FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const CLIENT_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                            p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

/// "user" with "pencil", as in RFC 7677.
fn directory() -> Directory {
    static KEYS: std::sync::OnceLock<ScramCredential> = std::sync::OnceLock::new();
    let salt = || STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    let keys = KEYS.get_or_init(|| ScramCredential::derive(ScramMechanism::Sha256, "pencil", salt(), 4096)).clone();
    Directory::new(ScramMechanism::Sha256, HashMap::from([("user".to_owned(), keys)]), [7; 32])
}

fn begin() -> ServerExchange {
    let (exchange, first) = ServerExchange::first(&directory(), None, CLIENT_FIRST, SERVER_NONCE).unwrap();
    assert_eq!(first, SERVER_FIRST);
    exchange
}

#[test]
fn the_example_of_rfc_7677() {
    assert_eq!(begin().last(CLIENT_FINAL.as_bytes()), Ok(("user".to_owned(), SERVER_FINAL.to_owned())));
    assert_eq!(check_server_first(SERVER_FIRST.as_bytes(), CLIENT_NONCE), Ok(()));
}

/// Keys computed with Python's hashlib and hmac.
#[test]
fn sha_512_and_kafkas_stored_form() {
    let keys = ScramCredential::derive(ScramMechanism::Sha512, "pencil", b"salt-of-16-bytes".to_vec(), 8192);
    let stored = "salt=c2FsdC1vZi0xNi1ieXRlcw==,stored_key=MghB0/icKG6Kfa4u9aatA/9Z7rtCARhSXfiT8CbtTtdM7AbaMkJ1DaIXT/L678vMU/vTrvCdQEB9IcJmxQMh+g==,\
                  server_key=PMGizof1H6Be2HDTJ267FVNw+ERP7JOvhpsOwZkUIYd0VnY83kBgKa2Cqa45/snO4q/OMoBpNYVf/DPTQu6URg==,iterations=8192";
    let read = ScramCredential::stored(ScramMechanism::Sha512, stored).unwrap().unwrap();
    assert_eq!((read.stored_key, read.server_key, read.iterations), (keys.stored_key, keys.server_key, 8192));
    assert!(ScramCredential::stored(ScramMechanism::Sha256, stored).unwrap().is_err(), "keys of the other hash");
    assert!(
        ScramCredential::stored(ScramMechanism::Sha512, &stored.replace("8192", "1")).unwrap().is_err(),
        "too few rounds"
    );
    assert!(ScramCredential::stored(ScramMechanism::Sha512, "pa=ss,word").is_none());
}

#[test]
fn wrong_messages_are_refused() {
    use Refusal::{AuthorizationId, Credentials, Malformed};
    let first =
        |message: &[u8]| ServerExchange::first(&directory(), None, message, SERVER_NONCE).map(drop).unwrap_err();
    for bad in [
        "",
        "n",
        "n,,",
        "n,,n=user",
        "n,,r=abc,n=user",
        "n,,n=,r=abc",
        "n,,n=user,r=",
        "n,,n=us=er,r=abc",
        "n,,m=x,n=user,r=abc",
        "n,,n=user,r=abc,m=x",
        "p=tls-unique,,n=user,r=abc",
        "n,b=user,n=user,r=abc",
    ] {
        assert!(matches!(first(bad.as_bytes()), Malformed(_)), "{bad}");
    }
    assert!(matches!(first(b"n,,n=\xff,r=abc"), Malformed(_)));
    assert_eq!(first(b"n,a=other,n=user,r=abc"), AuthorizationId);
    assert!(ServerExchange::first(&directory(), None, b"n,a=user,n=user,r=abc,tokenauth=true", "x").is_ok());

    let last = |message: &str| begin().last(message.as_bytes()).unwrap_err();
    let nonce_twice = CLIENT_FINAL.replace(CLIENT_NONCE, &format!("{CLIENT_NONCE}{CLIENT_NONCE}"));
    for bad in ["", "c=biws", "c=biws,r=abc,p=", &nonce_twice, &CLIENT_FINAL.replace("biws", "eSws"), "r=abc,p=AA=="] {
        assert!(matches!(last(bad), Malformed(_)), "{bad}");
    }
    assert_eq!(last(&CLIENT_FINAL.replace("p=dHzb", "p=dHzc")), Credentials);
    let (without_proof, _) = CLIENT_FINAL.rsplit_once("p=").unwrap();
    assert_eq!(last(&format!("{without_proof}p=AAAA")), Credentials, "a proof that is too short");
    assert_eq!(last(&format!("{without_proof}p=")), Credentials, "an empty proof");
}

/// An unknown user sees the same messages, every time, and fails at the same step.
#[test]
fn an_unknown_user_looks_like_a_known_one() {
    let directory = directory();
    let challenge = |user: &str| {
        let first = format!("n,,n={user},r=abc");
        let (exchange, challenge) = ServerExchange::first(&directory, None, first.as_bytes(), "def").unwrap();
        (exchange, challenge)
    };
    let shape = |challenge: &str| {
        let fields: Vec<_> = challenge.split(',').map(|f| (f[..2].to_owned(), f.len())).collect();
        (fields, challenge.ends_with(",i=4096"))
    };
    let (known, known_says) = challenge("user");
    let (unknown, unknown_says) = challenge("nobody");
    assert_eq!(shape(&known_says), shape(&unknown_says));
    assert_eq!(unknown_says, challenge("nobody").1, "the same invented salt every time");
    assert_ne!(unknown_says, challenge("nobody2").1);
    let proof = format!("c=biws,r=abcdef,p={}", STANDARD.encode([1; 32]));
    assert_eq!(known.last(proof.as_bytes()), unknown.last(proof.as_bytes()));
}

#[test]
fn a_client_checks_the_server() {
    let check = |text: &str| check_server_first(text.as_bytes(), "abc");
    assert_eq!(check("r=abcdef,s=AAAA,i=4096,x=y"), Ok(()));
    for (bad, part) in [
        ("r=abc,s=AAAA,i=4096", "does not continue"),
        ("r=xyz,s=AAAA,i=4096", "does not continue"),
        ("r=abcdef,s=,i=4096", "salt"),
        ("r=abcdef,s=*,i=4096", "salt"),
        ("r=abcdef,s=AAAA,i=4095", "rounds"),
        ("r=abcdef,s=AAAA,i=4294967295", "rounds"),
        ("r=abcdef,s=AAAA,i=-1", "rounds"),
        ("r=abcdef,s=AAAA,i=4096,i=999999999", "repeats"),
        ("m=x,r=abcdef,s=AAAA,i=4096", "is not r="),
        ("e=other-error", "is not r="),
        ("", "is not r="),
    ] {
        assert!(check(bad).unwrap_err().contains(part), "{bad}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_taken(first in proptest::collection::vec(any::<u8>(), 0..80), last in "\\PC{0,80}") {
        let _ = ServerExchange::first(&directory(), None, &first, SERVER_NONCE);
        let _ = check_server_first(&first, "abc");
        prop_assert!(begin().last(last.as_bytes()).is_err());
    }

    #[test]
    fn names_survive_escaping(name in "\\PC{0,30}") {
        let escaped = escape(&name);
        prop_assert!(!escaped.contains(','));
        prop_assert_eq!(unescape(&escaped), Some(name));
    }
}
