//! A certificate authority for one run, and the destination's certificate for `localhost`.

use anyhow::Context;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// PEM texts.
pub(super) struct Tls {
    /// What clients trust.
    pub(super) authority: String,
    /// Key and chain of the server.
    pub(super) server: String,
}

impl Tls {
    /// Makes both.
    ///
    /// # Errors
    /// When the cryptography library fails.
    pub(super) fn generate() -> anyhow::Result<Self> {
        Self::make().context("make certificates")
    }

    fn make() -> Result<Self, rcgen::Error> {
        let mut authority = CertificateParams::default();
        authority.distinguished_name.push(DnType::CommonName, "hawser quickstart CA");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority_key = KeyPair::generate()?;
        let authority_certificate = authority.self_signed(&authority_key)?;
        let issuer = Issuer::new(authority, authority_key);

        let mut server = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        server.distinguished_name.push(DnType::CommonName, "localhost");
        let server_key = KeyPair::generate()?;
        let server_certificate = server.signed_by(&server_key, &issuer)?;
        Ok(Self {
            authority: authority_certificate.pem(),
            server: format!("{}{}", server_key.serialize_pem(), server_certificate.pem()),
        })
    }
}
