//! One certificate for a bench run, and both ends of a TLS 1.3 connection that use it.

use anyhow::{Context, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client};

/// Makes a CA and a server certificate for localhost: `ca.pem`, and `server.pem` with key and chain in one file.
pub(crate) fn write_certificates(folder: &Path) -> Result<()> {
    let ca_key = rcgen::KeyPair::generate()?;
    let mut ca = rcgen::CertificateParams::new(Vec::new())?;
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key)?;
    let key = rcgen::KeyPair::generate()?;
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let certificate = rcgen::CertificateParams::new(names)?.signed_by(&key, &issuer)?;
    std::fs::write(folder.join("ca.pem"), ca_certificate.pem())?;
    std::fs::write(folder.join("server.pem"), format!("{}{}", key.serialize_pem(), certificate.pem()))?;
    Ok(())
}

/// The server's end.
pub(crate) fn acceptor(folder: &Path) -> Result<TlsAcceptor> {
    let pem = std::fs::read(folder.join("server.pem"))?;
    let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(&pem).context("private key")?;
    let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// The client's end, over `socket`.
pub(crate) async fn connect(folder: &Path, socket: TcpStream) -> Result<client::TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(folder.join("ca.pem"))? {
        roots.add(certificate?)?;
    }
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("localhost")?;
    Ok(TlsConnector::from(Arc::new(config)).connect(name, socket).await?)
}
