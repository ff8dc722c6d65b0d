//! A certificate authority for one test and what it signs: good server and client certificates, and the bad ones
//! (expired, wrong host) that a peer has to refuse.

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use std::fs;
use std::path::{Path, PathBuf};

/// An authority with its own key.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, both PEM.
#[derive(Clone)]
pub struct Identity {
    /// The certificate, then the authority's.
    pub chain_pem: String,
    /// PKCS #8.
    pub key_pem: String,
}

/// PEM files of an [`Identity`] on disk.
#[derive(Clone, Debug)]
pub struct IdentityFiles {
    /// Certificate chain.
    pub chain: PathBuf,
    /// Private key.
    pub key: PathBuf,
    /// Key and chain in one file: Kafka's PEM key store.
    pub key_store: PathBuf,
}

impl Authority {
    /// A new authority called `name`.
    ///
    /// # Errors
    /// When a key cannot be made.
    pub fn new(name: &str) -> Result<Self> {
        let mut params = params(name, &[])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.extended_key_usages.clear();
        Ok(Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate()?)? })
    }

    /// The authority's own certificate.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Writes the authority's certificate to `path` and gives the path back.
    ///
    /// # Errors
    /// File errors.
    pub fn write_pem(&self, path: impl Into<PathBuf>) -> Result<PathBuf> {
        let path = path.into();
        fs::write(&path, self.pem())?;
        Ok(path)
    }

    /// A server that is reached as `localhost` or `127.0.0.1`; it may log in as a client, too, as brokers do.
    ///
    /// # Errors
    /// When a key cannot be made.
    pub fn server(&self) -> Result<Identity> {
        self.sign(params("localhost", &["localhost", "127.0.0.1"])?)
    }

    /// A server certificate for the given names only.
    ///
    /// # Errors
    /// When a key cannot be made or a name is none.
    pub fn server_for(&self, names: &[&str]) -> Result<Identity> {
        self.sign(params(names.first().unwrap_or(&"nobody"), names)?)
    }

    /// A server certificate for `localhost` that ended years ago.
    ///
    /// # Errors
    /// When a key cannot be made.
    pub fn expired_server(&self) -> Result<Identity> {
        let mut params = params("localhost", &["localhost", "127.0.0.1"])?;
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
        self.sign(params)
    }

    /// A client certificate whose subject is `CN=name`.
    ///
    /// # Errors
    /// When a key cannot be made.
    pub fn client(&self, name: &str) -> Result<Identity> {
        let mut params = params(name, &[])?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> Result<Identity> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Identity { chain_pem: certificate.pem() + &self.pem(), key_pem: key.serialize_pem() })
    }
}

impl Identity {
    /// Writes `NAME.pem`, `NAME.key` and `NAME-store.pem` into `folder`.
    ///
    /// # Errors
    /// File errors.
    pub fn write(&self, folder: &Path, name: &str) -> Result<IdentityFiles> {
        let files = IdentityFiles {
            chain: folder.join(format!("{name}.pem")),
            key: folder.join(format!("{name}.key")),
            key_store: folder.join(format!("{name}-store.pem")),
        };
        fs::write(&files.chain, &self.chain_pem)?;
        fs::write(&files.key, &self.key_pem)?;
        fs::write(&files.key_store, format!("{}{}", self.key_pem, self.chain_pem))?;
        Ok(files)
    }
}

fn params(name: &str, alternative_names: &[&str]) -> Result<CertificateParams> {
    let names: Vec<String> = alternative_names.iter().map(|&n| n.to_owned()).collect();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2090, 1, 1);
    Ok(params)
}
