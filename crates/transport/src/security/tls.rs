//! rustls configurations out of `ssl.*`, and rustls's errors in an operator's words.
//!
//! One crypto provider (aws-lc-rs), chosen here and nowhere else. Key material comes as PEM; Java's binary stores are
//! refused with the command that converts them.

use super::{Reader, pem};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig,
    SignatureScheme, SupportedProtocolVersion, version,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use std::io;
use std::sync::Arc;

/// What went wrong with TLS, in the words of whoever has to mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsProblem {
    /// No trusted authority signed the peer's certificate.
    #[error("the peer's certificate is signed by an unknown authority: ssl.truststore must hold its CA")]
    UnknownAuthority,
    /// The peer's certificate is out of date.
    #[error("the peer's certificate has expired: it must be renewed, or this machine's clock is wrong")]
    Expired,
    /// The peer's certificate is not in force yet.
    #[error("the peer's certificate is not valid yet: one machine's clock is wrong")]
    NotYetValid,
    /// The peer's certificate is for another host.
    #[error(
        "host name mismatch: the peer's certificate is not for '{host}': dial a name of its subjectAltName, or set \
         ssl.endpoint.identification.algorithm= (empty) to skip this check"
    )]
    HostName {
        /// What was dialled.
        host: String,
    },
    /// The peer shows an authority's own certificate, which Java takes where it is trusted.
    #[error(
        "the peer's certificate is an authority's own, as a plain `openssl req -x509` makes it: make the peer's with \
         `-addext basicConstraints=critical,CA:FALSE`, or have the authority sign one for it"
    )]
    AuthorityItself,
    /// The peer's certificate is bad in another way.
    #[error("the peer's certificate is not acceptable: {0}")]
    Certificate(String),
    /// The peer wants a certificate of ours (mTLS).
    #[error("the peer requires a client certificate: set ssl.keystore.location or ssl.keystore.key and its chain")]
    ClientCertificateMissing,
    /// The peer does not accept our certificate.
    #[error("the peer refused our certificate ({0}): its truststore must hold the CA of our ssl.keystore")]
    OurCertificateRefused(String),
    /// What came back was not TLS.
    #[error("the peer does not speak TLS on this port: security.protocol or the port is wrong")]
    PeerIsPlainText,
    /// The peer closed the connection instead of answering our hello.
    #[error(
        "the peer closed the connection at the TLS hello: it speaks plain text on this port (security.protocol or the \
         port is wrong), or takes no more connections"
    )]
    ClosedAtHello,
    /// No common protocol version or cipher suite.
    #[error("no TLS version or cipher suite in common: compare ssl.enabled.protocols and ssl.cipher.suites")]
    NothingInCommon,
    /// Anything else.
    #[error("TLS failed: {0}")]
    Other(String),
}

impl TlsProblem {
    /// What `error` means on a connection to `host`; `None` if TLS has nothing to do with it.
    pub(crate) fn of(error: &io::Error, host: &str) -> Option<Self> {
        let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
        Some(match error {
            rustls::Error::InvalidCertificate(reason) => match reason {
                CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownAuthority,
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    Self::HostName { host: host.to_owned() }
                }
                CertificateError::Other(other)
                    if matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity)) =>
                {
                    Self::AuthorityItself
                }
                other => Self::Certificate(other.to_string()),
            },
            rustls::Error::AlertReceived(alert) => match alert {
                AlertDescription::CertificateRequired => Self::ClientCertificateMissing,
                AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA
                | AlertDescription::DecryptError
                | AlertDescription::AccessDenied => Self::OurCertificateRefused(format!("{alert:?}")),
                AlertDescription::ProtocolVersion
                | AlertDescription::HandshakeFailure
                | AlertDescription::InsufficientSecurity => Self::NothingInCommon,
                other => Self::Other(format!("the peer sent the alert {other:?}")),
            },
            rustls::Error::PeerIncompatible(_) => Self::NothingInCommon,
            rustls::Error::NoCertificatesPresented => Self::ClientCertificateMissing,
            rustls::Error::InvalidMessage(_) => Self::PeerIsPlainText,
            other => Self::Other(other.to_string()),
        })
    }
}

/// Certificates and key of this side.
struct KeyStore {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// Which store of Java's pair a key belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StoreKind {
    Trust,
    Key,
}

/// The client's side of TLS.
pub(super) fn client(reader: &mut Reader<'_>) -> Option<Arc<ClientConfig>> {
    let provider = provider(reader);
    let versions = versions(reader);
    let checks_host = checks_host(reader);
    let own = key_store(reader);
    let roots = match trusted(reader) {
        Trusted::These(roots) => roots,
        Trusted::Unset => system_roots(reader)?,
        Trusted::Bad => return None,
    };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&versions?);
    let builder = match builder {
        Ok(builder) => builder,
        Err(e) => return fail(reader, "ssl.enabled.protocols", e.to_string()),
    };
    let roots = Arc::new(roots);
    let builder = if checks_host {
        match WebPkiServerVerifier::builder_with_provider(roots, provider).build() {
            Ok(verifier) => builder.with_webpki_verifier(verifier),
            Err(e) => return fail(reader, "ssl.truststore.location", e.to_string()),
        }
    } else {
        let algorithms = provider.signature_verification_algorithms;
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyHostName { roots, algorithms }))
    };
    match own {
        None => Some(Arc::new(builder.with_no_client_auth())),
        Some(KeyStore { chain, key }) => match builder.with_client_auth_cert(chain, key) {
            Ok(config) => Some(Arc::new(config)),
            Err(e) => fail(reader, key_store_key(reader), format!("key and certificate are not usable: {e}")),
        },
    }
}

/// The server's side of TLS. `sasl`: on such listeners only the listener's own `ssl.client.auth` counts, as in Kafka.
pub(super) fn server(reader: &mut Reader<'_>, sasl: bool) -> Option<Arc<ServerConfig>> {
    let provider = provider(reader);
    let versions = versions(reader);
    let wanted = if sasl { reader.own("ssl.client.auth") } else { reader.value("ssl.client.auth") };
    let client_auth = match wanted.map(str::to_ascii_lowercase).as_deref() {
        None | Some("none") => None,
        Some("requested") => Some(false),
        Some("required") => Some(true),
        Some(_) => return fail(reader, "ssl.client.auth", "is none of required, requested, none"),
    };
    let own = key_store(reader);
    let trusted = trusted(reader);
    let Some(KeyStore { chain, key }) = own else {
        if reader.value("ssl.keystore.location").is_none() && reader.value("ssl.keystore.key").is_none() {
            let message = "a TLS listener needs a key and its certificates: expected a PEM file with both";
            reader.error("ssl.keystore.location", message);
        }
        return None;
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&versions?);
    let builder = match builder {
        Ok(builder) => builder,
        Err(e) => return fail(reader, "ssl.enabled.protocols", e.to_string()),
    };
    let builder = match (client_auth, trusted) {
        (_, Trusted::Bad) => return None,
        (None, _) => builder.with_no_client_auth(),
        (Some(_), Trusted::Unset) => {
            let message = "is needed to check client certificates (ssl.client.auth): expected a PEM file of CAs";
            return fail(reader, "ssl.truststore.location", message);
        }
        (Some(required), Trusted::These(roots)) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = if required { verifier } else { verifier.allow_unauthenticated() };
            match verifier.build() {
                Ok(verifier) => builder.with_client_cert_verifier(verifier),
                Err(e) => return fail(reader, "ssl.truststore.location", e.to_string()),
            }
        }
    };
    match builder.with_single_cert(chain, key) {
        Ok(config) => Some(Arc::new(config)),
        Err(e) => fail(reader, key_store_key(reader), format!("key and certificate are not usable: {e}")),
    }
}

fn provider(reader: &mut Reader<'_>) -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    if let Some(wanted) = reader.value("ssl.cipher.suites") {
        // Java and rustls agree on the names, but for rustls's prefix TLS13_.
        let name = |s: &rustls::SupportedCipherSuite| format!("{:?}", s.suite()).replace("TLS13_", "TLS_");
        let known: Vec<String> = provider.cipher_suites.iter().map(name).collect();
        let wanted: Vec<&str> = wanted.split(',').map(str::trim).filter(|s| !s.is_empty()).collect();
        for unknown in wanted.iter().filter(|w| !known.iter().any(|k| k == *w)) {
            reader.error("ssl.cipher.suites", format!("'{unknown}' is none of {}", known.join(", ")));
        }
        provider.cipher_suites.retain(|s| wanted.contains(&name(s).as_str()));
    }
    Arc::new(provider)
}

fn versions(reader: &mut Reader<'_>) -> Option<Vec<&'static SupportedProtocolVersion>> {
    let mut versions = Vec::new();
    for name in reader.value("ssl.enabled.protocols").unwrap_or("TLSv1.2,TLSv1.3").split(',').map(str::trim) {
        match name {
            "TLSv1.3" => versions.push(&version::TLS13),
            "TLSv1.2" => versions.push(&version::TLS12),
            other => {
                return fail(reader, "ssl.enabled.protocols", format!("'{other}' is none of TLSv1.2, TLSv1.3"));
            }
        }
    }
    if let Some(protocol) = reader.value("ssl.protocol")
        && !["TLS", "TLSv1.2", "TLSv1.3"].contains(&protocol)
    {
        reader.error("ssl.protocol", format!("'{protocol}' is none of TLSv1.2, TLSv1.3"));
    }
    Some(versions)
}

fn checks_host(reader: &mut Reader<'_>) -> bool {
    match reader.exact("ssl.endpoint.identification.algorithm").map(str::trim) {
        Some("") => false,
        None => true,
        Some(https) if https.eq_ignore_ascii_case("https") => true,
        Some(other) => {
            let message = format!("'{other}' is neither https nor empty (which skips the check of the host name)");
            reader.error("ssl.endpoint.identification.algorithm", message);
            true
        }
    }
}

enum Trusted {
    These(RootCertStore),
    Unset,
    Bad,
}

fn trusted(reader: &mut Reader<'_>) -> Trusted {
    let (key, text) = match (reader.value("ssl.truststore.certificates"), reader.value("ssl.truststore.location")) {
        (Some(_), Some(_)) => {
            reader.error("ssl.truststore.certificates", "and ssl.truststore.location exclude each other");
            return Trusted::Bad;
        }
        (None, None) => return Trusted::Unset,
        (Some(inline), None) => match inline_store(reader, StoreKind::Trust, "ssl.truststore.certificates") {
            true => ("ssl.truststore.certificates", inline.to_owned()),
            false => return Trusted::Bad,
        },
        (None, Some(path)) => match store_file(reader, StoreKind::Trust, path) {
            Some(text) => ("ssl.truststore.location", text),
            None => return Trusted::Bad,
        },
    };
    let mut roots = RootCertStore::empty();
    match pem::certificates(&text) {
        Ok(certificates) => {
            for certificate in certificates {
                if let Err(e) = roots.add(certificate) {
                    reader.error(key, format!("holds a certificate that cannot be read: {e}"));
                    return Trusted::Bad;
                }
            }
            Trusted::These(roots)
        }
        Err(e) => {
            reader.error(key, e.to_string());
            Trusted::Bad
        }
    }
}

fn system_roots(reader: &mut Reader<'_>) -> Option<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // A system store may hold oddities; those that can be read are enough.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let message = "is not set and this system has no CA certificates: set it to a PEM file of CAs, or install the \
                       system's ca-certificates";
        return fail(reader, "ssl.truststore.location", message);
    }
    Some(roots)
}

fn key_store(reader: &mut Reader<'_>) -> Option<KeyStore> {
    let location = reader.value("ssl.keystore.location");
    let key = reader.value("ssl.keystore.key");
    let chain = reader.value("ssl.keystore.certificate.chain");
    let at = key_store_key(reader);
    let (key, chain) = match (location, key, chain) {
        (None, None, None) => return None,
        (Some(_), Some(_), _) | (Some(_), _, Some(_)) => {
            return fail(reader, "ssl.keystore.location", "and ssl.keystore.key exclude each other");
        }
        (Some(path), None, None) => {
            let text = store_file(reader, StoreKind::Key, path)?;
            (text.clone(), text)
        }
        (None, Some(key), Some(chain)) => {
            inline_store(reader, StoreKind::Key, "ssl.keystore.key").then(|| (key.to_owned(), chain.to_owned()))?
        }
        (None, Some(_), None) => {
            return fail(reader, "ssl.keystore.certificate.chain", "is missing beside ssl.keystore.key: expected PEM");
        }
        (None, None, Some(_)) => {
            return fail(reader, "ssl.keystore.key", "is missing beside ssl.keystore.certificate.chain: expected PEM");
        }
    };
    let read_chain = pem::certificates(&chain);
    let read_key = pem::private_key(&key);
    if let Err(e) = &read_chain {
        let key = if location.is_some() { at } else { "ssl.keystore.certificate.chain" };
        reader.error(key, e.to_string());
    }
    if let Err(e) = &read_key {
        let message = match (e, location) {
            (pem::Error::Encrypted, Some(path)) => format!(
                "the private key is encrypted, which is not supported: run 'openssl pkey -in {path} -out key.pem && \
                 openssl crl2pkcs7 -nocrl -certfile {path} | openssl pkcs7 -print_certs -out chain.pem && cat key.pem \
                 chain.pem > plain.pem', set ssl.keystore.location=plain.pem and remove ssl.key.password"
            ),
            (pem::Error::Encrypted, None) => "the private key is encrypted, which is not supported: save it as \
                 key.pem, run 'openssl pkey -in key.pem -out plain.pem', use plain.pem's text and remove \
                 ssl.key.password"
                .to_owned(),
            (other, _) => other.to_string(),
        };
        reader.error(at, message);
    }
    Some(KeyStore { chain: read_chain.ok()?, key: read_key.ok()? })
}

fn key_store_key(reader: &Reader<'_>) -> &'static str {
    if reader.value("ssl.keystore.location").is_some() { "ssl.keystore.location" } else { "ssl.keystore.key" }
}

/// Inline PEM needs type PEM; left out, there is nothing else that it could be.
fn inline_store(reader: &mut Reader<'_>, kind: StoreKind, key: &str) -> bool {
    let type_key = kind.type_key();
    match reader.value(type_key) {
        None => true,
        Some(pem) if pem.eq_ignore_ascii_case("PEM") => true,
        Some(other) => {
            reader.error(type_key, format!("is '{other}', but {key} holds PEM: set {type_key}=PEM"));
            false
        }
    }
}

/// Reads a PEM store, or says how to make one of what is there.
fn store_file(reader: &mut Reader<'_>, kind: StoreKind, path: &str) -> Option<String> {
    let (key, type_key, password_key) = (kind.location_key(), kind.type_key(), kind.password_key());
    let store_type = reader.value(type_key).map(str::to_ascii_uppercase);
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) => return fail(reader, key, format!("cannot read '{path}': {e}")),
    };
    let is_pem = bytes.windows(11).any(|w| w == b"-----BEGIN ");
    // Kafka takes JKS when no type is set. Only PEM is read here, so a file that is PEM was meant as such.
    if let Some(store_type) = store_type.filter(|t| is_pem && t != "PEM") {
        return fail(reader, type_key, format!("is {store_type} but '{path}' is PEM: set {type_key}=PEM"));
    }
    if !is_pem {
        return fail(reader, key, format!("'{path}' is not PEM: {}", kind.conversion(path)));
    }
    if reader.value(password_key).is_some() {
        reader.error(password_key, "does not apply to PEM: remove it");
    }
    match String::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(_) => fail(reader, key, format!("'{path}' is not text")),
    }
}

impl StoreKind {
    fn location_key(self) -> &'static str {
        match self {
            Self::Trust => "ssl.truststore.location",
            Self::Key => "ssl.keystore.location",
        }
    }

    fn type_key(self) -> &'static str {
        match self {
            Self::Trust => "ssl.truststore.type",
            Self::Key => "ssl.keystore.type",
        }
    }

    fn password_key(self) -> &'static str {
        match self {
            Self::Trust => "ssl.truststore.password",
            Self::Key => "ssl.keystore.password",
        }
    }

    /// The line that turns a JKS or PKCS12 store into PEM; both tools ask for the password.
    fn conversion(self, path: &str) -> String {
        let base = path.rsplit_once('.').map_or(path, |(base, _)| base);
        match self {
            Self::Trust => format!(
                "convert it with 'keytool -list -rfc -keystore {path} > {base}.pem', then set \
                 ssl.truststore.type=PEM, ssl.truststore.location={base}.pem and remove ssl.truststore.password"
            ),
            Self::Key => format!(
                "convert it with 'keytool -importkeystore -srckeystore {path} -destkeystore {base}.tmp.p12 \
                 -deststoretype PKCS12 && openssl pkcs12 -in {base}.tmp.p12 -nodes -out {base}.pem', then set \
                 ssl.keystore.type=PEM, ssl.keystore.location={base}.pem and remove ssl.keystore.password and \
                 ssl.key.password"
            ),
        }
    }
}

fn fail<T>(reader: &mut Reader<'_>, key: &str, message: impl Into<String>) -> Option<T> {
    reader.error(key, message);
    None
}

/// Checks the chain but not the host name (`ssl.endpoint.identification.algorithm=`).
#[derive(Debug)]
struct AnyHostName {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for AnyHostName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
