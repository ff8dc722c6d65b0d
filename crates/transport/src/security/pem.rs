//! PEM text: certificates and keys, from a file or from inside a properties value, where line ends are often lost.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};

/// Why text does not hold what it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// No block of the wanted kind.
    #[error("holds no {0}")]
    Missing(&'static str),
    /// A block without end, or with something else than base64 inside.
    #[error("'-----BEGIN {0}-----' is not followed by base64 and '-----END {0}-----'")]
    Broken(String),
    /// A private key under a password.
    #[error("the private key is encrypted")]
    Encrypted,
    /// More than one key, so that it is not clear which is meant.
    #[error("holds more than one private key")]
    SeveralKeys,
}

struct Block<'a> {
    label: &'a str,
    content: &'a str,
}

/// All certificates, in order; text around the blocks does not matter.
pub(crate) fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let mut all = Vec::new();
    for block in blocks(text)? {
        if matches!(block.label, "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE") {
            all.push(CertificateDer::from(decode(&block)?));
        }
    }
    if all.is_empty() { Err(Error::Missing("certificate ('-----BEGIN CERTIFICATE-----')")) } else { Ok(all) }
}

/// The one private key: PKCS#8, PKCS#1 or SEC1.
pub(crate) fn private_key(text: &str) -> Result<PrivateKeyDer<'static>, Error> {
    let mut found = None;
    for block in blocks(text)? {
        let key = match block.label {
            "ENCRYPTED PRIVATE KEY" => return Err(Error::Encrypted),
            label if label.ends_with("PRIVATE KEY") && block.content.contains("ENCRYPTED") => {
                return Err(Error::Encrypted);
            }
            "PRIVATE KEY" => PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(decode(&block)?)),
            "RSA PRIVATE KEY" => PrivateKeyDer::Pkcs1(PrivatePkcs1KeyDer::from(decode(&block)?)),
            "EC PRIVATE KEY" => PrivateKeyDer::Sec1(PrivateSec1KeyDer::from(decode(&block)?)),
            _ => continue,
        };
        if found.replace(key).is_some() {
            return Err(Error::SeveralKeys);
        }
    }
    found.ok_or(Error::Missing("private key ('-----BEGIN PRIVATE KEY-----')"))
}

fn blocks(text: &str) -> Result<Vec<Block<'_>>, Error> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("-----BEGIN ") {
        let Some((label, after)) = after.split_once("-----") else {
            return Err(Error::Broken(after.chars().take(20).collect()));
        };
        let Some((content, after)) = after.split_once(&format!("-----END {label}-----")) else {
            return Err(Error::Broken(label.to_owned()));
        };
        blocks.push(Block { label, content });
        rest = after;
    }
    Ok(blocks)
}

fn decode(block: &Block<'_>) -> Result<Vec<u8>, Error> {
    let base64: String = block.content.chars().filter(|c| !c.is_whitespace()).collect();
    STANDARD.decode(base64).ok().filter(|der| !der.is_empty()).ok_or_else(|| Error::Broken(block.label.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(label: &str, content: &str) -> String {
        format!("-----BEGIN {label}-----{content}-----END {label}-----")
    }

    #[test]
    fn reads_blocks_with_and_without_line_ends() {
        let text =
            format!("subject=/CN=x\n{}\n{} junk", block("CERTIFICATE", "\nAQ\nID\n"), block("CERTIFICATE", " BAUG "));
        assert_eq!(certificates(&text).unwrap(), [CertificateDer::from(vec![1, 2, 3]), vec![4, 5, 6].into()]);
        for (label, key) in [
            ("PRIVATE KEY", PrivateKeyDer::Pkcs8(vec![1, 2, 3].into())),
            ("RSA PRIVATE KEY", PrivateKeyDer::Pkcs1(vec![1, 2, 3].into())),
            ("EC PRIVATE KEY", PrivateKeyDer::Sec1(vec![1, 2, 3].into())),
        ] {
            assert_eq!(private_key(&format!("{}{}", block("CERTIFICATE", "AQID"), block(label, "AQID"))), Ok(key));
        }
    }

    proptest::proptest! {
        #[test]
        fn takes_any_text(text in "(-----|BEGIN |END |PRIVATE KEY|ENCRYPTED|CERTIFICATE|AQID|[A-Za-z=\n ]{0,9}){0,20}") {
            let _ = (certificates(&text), private_key(&text));
        }
    }

    #[test]
    fn names_what_is_wrong() {
        let missing = |r| matches!(r, Err(Error::Missing(_)));
        assert!(missing(certificates("").map(drop)) && missing(private_key("words").map(drop)));
        assert!(missing(private_key(&block("CERTIFICATE", "AQID")).map(drop)));
        assert_eq!(private_key(&block("ENCRYPTED PRIVATE KEY", "AQID")), Err(Error::Encrypted));
        let traditional = block("RSA PRIVATE KEY", "\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES,00\n\nAQID\n");
        assert_eq!(private_key(&traditional), Err(Error::Encrypted));
        for broken in ["-----BEGIN CERTIFICATE-----AQID", "-----BEGIN CERTIFICATE", &block("CERTIFICATE", "A*Q")] {
            assert!(matches!(certificates(broken), Err(Error::Broken(_))), "{broken}");
        }
        let two = format!("{}{}", block("PRIVATE KEY", "AQID"), block("EC PRIVATE KEY", "AQID"));
        assert_eq!(private_key(&two), Err(Error::SeveralKeys));
    }
}
