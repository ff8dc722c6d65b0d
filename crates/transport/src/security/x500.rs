//! The subject of a certificate as Kafka's default principal builder writes it: `X500Principal.getName()`, RFC 2253.

use rustls_pki_types::CertificateDer;
use std::fmt::Write;

/// OIDs that RFC 2253 gives a keyword; all others stand as dotted numbers with `#hex` values.
const KEYWORDS: [(&[u8], &str); 9] = [
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 9], "STREET"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], "DC"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1], "UID"),
];

const INTEGER: u8 = 0x02;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;

/// One DER value: its tag, its content, and tag, length and content together.
#[derive(Clone, Copy)]
struct Der<'a> {
    tag: u8,
    content: &'a [u8],
    whole: &'a [u8],
}

/// The certificate's subject, most specific part first; `None` if it is not a certificate.
pub(crate) fn subject(certificate: &CertificateDer<'_>) -> Option<String> {
    let mut body = take(&mut take(&mut certificate.as_ref(), SEQUENCE)?.content, SEQUENCE)?.content;
    if body.first() == Some(&VERSION) {
        take(&mut body, VERSION)?;
    }
    take(&mut body, INTEGER)?;
    for _algorithm_issuer_validity in 0..3 {
        take(&mut body, SEQUENCE)?;
    }
    name(take(&mut body, SEQUENCE)?.content)
}

fn name(mut sequence: &[u8]) -> Option<String> {
    let mut parts = Vec::new();
    while !sequence.is_empty() {
        let mut set = take(&mut sequence, SET)?.content;
        let mut pairs = Vec::new();
        while !set.is_empty() {
            let mut pair = take(&mut set, SEQUENCE)?.content;
            let oid = take(&mut pair, OID)?.content;
            pairs.push(attribute(oid, next(&mut pair)?));
        }
        parts.push(pairs.join("+"));
    }
    parts.reverse();
    Some(parts.join(","))
}

fn attribute(oid: &[u8], value: Der<'_>) -> String {
    let keyword = KEYWORDS.iter().find(|(known, _)| *known == oid).map(|(_, keyword)| *keyword);
    match (keyword, text(value)) {
        (Some(keyword), Some(text)) => format!("{keyword}={}", escape(&text)),
        (keyword, _) => {
            let mut out = keyword.map_or_else(|| dotted(oid), str::to_owned);
            out.push_str("=#");
            for byte in value.whole {
                let _ = write!(out, "{byte:02x}");
            }
            out
        }
    }
}

/// UTF8String, PrintableString, TeletexString, IA5String, UniversalString, BMPString.
fn text(value: Der<'_>) -> Option<String> {
    match value.tag {
        0x0c | 0x13 | 0x16 => String::from_utf8(value.content.to_vec()).ok(),
        0x14 => Some(value.content.iter().map(|b| char::from(*b)).collect()),
        0x1c => value.content.chunks(4).map(|c| char::from_u32(u32::from_be_bytes(c.try_into().ok()?))).collect(),
        0x1e => {
            let units: Option<Vec<u16>> =
                value.content.chunks(2).map(|c| Some(u16::from_be_bytes(c.try_into().ok()?))).collect();
            String::from_utf16(&units?).ok()
        }
        _ => None,
    }
}

fn escape(text: &str) -> String {
    let mut out = String::new();
    let last = text.chars().count().saturating_sub(1);
    for (i, c) in text.chars().enumerate() {
        let special = matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';');
        if special || (c == '#' && i == 0) || (c == ' ' && (i == 0 || i == last)) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn dotted(oid: &[u8]) -> String {
    let mut out = String::new();
    let mut arc = 0_u64;
    for byte in oid {
        arc = arc.wrapping_shl(7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            let _ = match (out.is_empty(), arc) {
                (true, 0..80) => write!(out, "{}.{}", arc / 40, arc % 40),
                (true, _) => write!(out, "2.{}", arc - 80),
                (false, _) => write!(out, ".{arc}"),
            };
            arc = 0;
        }
    }
    out
}

fn take<'a>(from: &mut &'a [u8], tag: u8) -> Option<Der<'a>> {
    next(from).filter(|der| der.tag == tag)
}

/// Takes one value off the front: definite lengths up to 4 bytes long.
fn next<'a>(from: &mut &'a [u8]) -> Option<Der<'a>> {
    let start = *from;
    let (&tag, rest) = start.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first & 0x80 != 0 {
        let (bytes, after) = rest.split_at_checked(usize::from(first & 0x7f)).filter(|(b, _)| b.len() <= 4)?;
        length = bytes.iter().fold(0, |n, b| n << 8 | usize::from(*b));
        rest = after;
    }
    let (content, after) = rest.split_at_checked(length)?;
    *from = after;
    Some(Der { tag, content, whole: start.get(..start.len() - after.len())? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    fn named(parts: &[(DnType, &str)]) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        parts.iter().for_each(|(kind, value)| params.distinguished_name.push(kind.clone(), *value));
        subject(params.self_signed(&KeyPair::generate().unwrap()).unwrap().der()).unwrap()
    }

    #[test]
    fn writes_names_as_java_does() {
        assert_eq!(named(&[(DnType::CommonName, "kafka")]), "CN=kafka");
        let parts = [
            (DnType::CountryName, "DE"),
            (DnType::OrganizationName, "Acme, Inc."),
            (DnType::OrganizationalUnitName, "a+b"),
            (DnType::CommonName, " #x "),
        ];
        assert_eq!(named(&parts), r"CN=\ #x\ ,OU=a\+b,O=Acme\, Inc.,C=DE");
        // X500Principal.getName() knows no keyword for an e-mail address.
        let mail = DnType::CustomDnType(vec![1, 2, 840, 113_549, 1, 9, 1]);
        assert_eq!(named(&[(mail, "a@b")]), "1.2.840.113549.1.9.1=#0c03614062");
        assert_eq!(named(&[]), "");
    }

    proptest! {
        #[test]
        fn takes_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = subject(&CertificateDer::from(bytes));
        }
    }
}
