//! Certificates, configurations and a small server for the tests of this crate.
#![allow(dead_code, missing_docs, unreachable_pub)]

use bytes::Bytes;
use hawser_link::Properties;
use hawser_transport::{
    ClientOptions, ClientSecurity, DialError, HostPort, KafkaClient, Listener, SecurityProtocol, ServerConnection,
    ServerSecurity, Stream,
};
use hawser_wire::StrBytes;
use hawser_wire::api::{self, ApiKey, RequestFrame};
use hawser_wire::messages::api_versions_response::ApiVersion;
use hawser_wire::messages::metadata_response::MetadataResponseBroker;
use hawser_wire::messages::{ApiVersionsResponse, MetadataRequest, MetadataResponse};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
pub const SOON: Duration = Duration::from_secs(20);

/// An authority that signs certificates into a folder.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

impl Authority {
    pub fn new(folder: &Path, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(folder.join(format!("{name}.pem")), issuer.pem()).unwrap();
        Self { issuer, folder: folder.to_owned() }
    }

    /// Key and chain in one file, for `host`; returns its path.
    pub fn issue(&self, file: &str, host: &str, expired: bool) -> String {
        let (key, chain) = self.pem(host, expired);
        let path = self.folder.join(file);
        std::fs::write(&path, format!("{key}{chain}")).unwrap();
        path.display().to_string()
    }

    /// Its own key and certificate in one file; returns its path.
    pub fn itself(&self, file: &str) -> String {
        let path = self.folder.join(file);
        std::fs::write(&path, format!("{}{}", self.issuer.key().serialize_pem(), self.issuer.pem())).unwrap();
        path.display().to_string()
    }

    /// Key and chain as text.
    pub fn pem(&self, host: &str, expired: bool) -> (String, String) {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Acme");
        params.distinguished_name.push(DnType::CommonName, host);
        if expired {
            params.not_before = rcgen::date_time_ymd(2001, 1, 1);
            params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (key.serialize_pem(), certificate.pem())
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.join(format!("{name}.pem")).display().to_string()
    }
}

pub fn client(text: &str) -> ClientSecurity {
    ClientSecurity::from_properties(&Properties::parse("client.properties", text)).unwrap()
}

pub fn server(protocol: &str, text: &str) -> ServerSecurity {
    let protocol: SecurityProtocol = protocol.parse().unwrap();
    ServerSecurity::from_properties(&Properties::parse("server.properties", text), "front", protocol).unwrap()
}

pub fn options() -> ClientOptions {
    ClientOptions { client_id: "test".to_owned(), request_timeout: SOON, response_bytes_max: 32 << 20, idle_max: None }
}

/// What [`serve`] offers.
pub fn table() -> ApiVersionsResponse {
    let api = |key: ApiKey, min, max| {
        ApiVersion::default().with_api_key(key as i16).with_min_version(min).with_max_version(max)
    };
    ApiVersionsResponse::default().with_api_keys(vec![
        api(ApiKey::Metadata, 0, 12),
        api(ApiKey::SaslHandshake, 1, 1),
        api(ApiKey::ApiVersions, 0, 4),
        api(ApiKey::SaslAuthenticate, 0, 2),
    ])
}

/// Listens and answers ApiVersions and Metadata; the cluster id is the caller's principal.
pub async fn serve(security: ServerSecurity) -> Arc<Listener> {
    let listener = Arc::new(Listener::bind_serving(LOOPBACK, security, table()).await.unwrap());
    let accepting = Arc::downgrade(&listener);
    tokio::spawn(async move {
        while let Some(listener) = accepting.upgrade() {
            let Ok(connection) = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await else {
                continue;
            };
            tokio::spawn(answer(connection, listener.local_addr().port()));
        }
    });
    listener
}

/// Serves one connection until it ends.
pub async fn answer(mut connection: ServerConnection, port: u16) {
    while let Ok(Some(frame)) = connection.next_frame().await {
        let request = RequestFrame::parse(frame).unwrap();
        let reply: Bytes = if request.api_key == ApiKey::ApiVersions as i16 {
            hawser_transport::answer_api_versions(&table(), &request).unwrap()
        } else {
            let id = connection.principal().as_str().to_owned();
            let broker = MetadataResponseBroker::default()
                .with_node_id(1.into())
                .with_host(StrBytes::from_static_str("localhost"))
                .with_port(port.into());
            let response = MetadataResponse::default().with_cluster_id(Some(id.into())).with_brokers(vec![broker]);
            api::encode_response::<MetadataRequest>(request.api_version, request.correlation_id, &response).unwrap()
        };
        if connection.write(&[reply]).await.is_err() {
            return;
        }
    }
}

pub fn at(listener: &Listener) -> HostPort {
    HostPort::new("localhost", listener.local_addr().port())
}

pub async fn dial(security: &ClientSecurity, listener: &Listener) -> Result<Stream, DialError> {
    security.dial(&at(listener), SOON).await
}

/// Logs in, asks who we are.
pub async fn who_am_i(security: &ClientSecurity, listener: &Listener) -> Result<String, String> {
    let stream = dial(security, listener).await.map_err(|e| e.to_string())?;
    let client = KafkaClient::start(stream, options()).await.map_err(|e| e.to_string())?;
    ask(&client).await
}

pub async fn ask(client: &KafkaClient) -> Result<String, String> {
    let asked = client.call(&MetadataRequest::default(), 12, Duration::ZERO).await;
    asked.map(|(_, r)| r.cluster_id.unwrap().to_string()).map_err(|e| e.to_string())
}
