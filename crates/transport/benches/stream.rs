//! `cargo bench -p hawser-transport`: TLS bytes through this crate next to bare tokio-rustls, in one run.
//!
//! Each candidate sends from one end to the other over loopback in this process, two threads, and prints MB/s, CPU
//! seconds of both ends per GB, and the resident set afterwards. Runs alternate. `HAWSER_BENCH_BYTES` sets the payload.
#![allow(missing_docs)]

#[path = "../tests/support/mod.rs"]
mod support;

use bytes::{Buf, Bytes};
use hawser_transport::{KafkaClient, Listener};
use hawser_wire::api::{self, RequestFrame};
use std::time::{Duration, Instant};
use support::{Authority, LOOPBACK, SOON, at, client, options, server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const CHUNK: usize = 1 << 20;
const ANSWER: usize = 10 << 20;

#[tokio::main(worker_threads = 2)]
async fn main() {
    let total: usize = std::env::var("HAWSER_BENCH_BYTES").ok().and_then(|v| v.parse().ok()).unwrap_or(2_000_000_000);
    let folder = tempfile::tempdir().unwrap();
    let ca = Authority::new(folder.path(), "ca");
    let own = ca.issue("srv.pem", "localhost", false);
    for _ in 0..3 {
        report("tokio-rustls", total, bare(&ca, &own, total)).await;
        report("Stream      ", total, streams(&ca, &own, total)).await;
        report("KafkaClient ", total, answers(&ca, &own, total)).await;
    }
}

async fn report(name: &str, total: usize, run: impl Future<Output = ()>) {
    let (begun, cpu) = (Instant::now(), cpu_seconds());
    run.await;
    let (seconds, cpu) = (begun.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let gb = total as f64 / 1e9;
    let rss = std::fs::read_to_string("/proc/self/status").unwrap();
    let rss = rss.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap().trim().to_owned();
    println!("{name}: {:5.0} MB/s, {:.2} CPU-s/GB, peak so far {rss}", gb * 1e3 / seconds, cpu / gb);
}

fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

async fn bare(ca: &Authority, own: &str, total: usize) {
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    use std::sync::Arc;
    let pem = std::fs::read(own).unwrap();
    let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(&pem).unwrap();
    let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca.path("ca")).unwrap()).unwrap();
    let trust = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let listener = tokio::net::TcpListener::bind(LOOPBACK).await.unwrap();
    let address = listener.local_addr().unwrap();
    let sending = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let mut tls = tokio_rustls::TlsAcceptor::from(Arc::new(config)).accept(tcp).await.unwrap();
        let chunk = vec![7; CHUNK];
        for _ in 0..total / CHUNK {
            tls.write_all(&chunk).await.unwrap();
        }
        tls.shutdown().await.unwrap();
    });
    let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut tls = tokio_rustls::TlsConnector::from(Arc::new(trust)).connect(name, tcp).await.unwrap();
    let mut buffer = bytes::BytesMut::with_capacity(2 * CHUNK);
    while tls.read_buf(&mut buffer).await.unwrap() > 0 {
        if buffer.len() >= CHUNK {
            buffer.advance(buffer.len());
        }
        buffer.reserve(CHUNK);
    }
    sending.await.unwrap();
}

async fn pair(ca: &Authority, own: &str) -> (hawser_transport::Stream, hawser_transport::ServerConnection) {
    let keys = format!("ssl.keystore.type=PEM\nssl.keystore.location={own}\n");
    let listener = Listener::bind(LOOPBACK, server("SSL", &keys)).await.unwrap();
    let trust = format!("ssl.truststore.type=PEM\nssl.truststore.location={}\n", ca.path("ca"));
    let security = client(&format!("security.protocol=SSL\n{trust}"));
    let to = at(&listener);
    let (stream, connection) = tokio::join!(security.dial(&to, SOON), listener.accept());
    (stream.unwrap(), connection)
}

async fn streams(ca: &Authority, own: &str, total: usize) {
    let (mut from, to) = pair(ca, own).await;
    let mut to = to.into_stream();
    let sending = tokio::spawn(async move {
        let chunk = vec![7; CHUNK];
        for _ in 0..total / CHUNK {
            to.write_all(&chunk).await.unwrap();
        }
        to.shutdown().await.unwrap();
    });
    let mut buffer = bytes::BytesMut::with_capacity(2 * CHUNK);
    while from.read_buf(&mut buffer).await.unwrap() > 0 {
        if buffer.len() >= CHUNK {
            buffer.advance(buffer.len());
        }
        buffer.reserve(CHUNK);
    }
    sending.await.unwrap();
}

async fn answers(ca: &Authority, own: &str, total: usize) {
    let (stream, mut connection) = pair(ca, own).await;
    let serving = tokio::spawn(async move {
        let body = Bytes::from(vec![7; ANSWER]);
        while let Ok(Some(frame)) = connection.next_frame().await {
            let request = RequestFrame::parse(frame).unwrap();
            let reply = if request.api_key == 18 {
                vec![hawser_transport::answer_api_versions(&support::table(), &request).unwrap()]
            } else {
                let id = request.correlation_id;
                let mut head = (u32::try_from(ANSWER).unwrap() + 4).to_be_bytes().to_vec();
                head.extend_from_slice(&id.to_be_bytes());
                vec![head.into(), body.clone()]
            };
            connection.write(&reply).await.unwrap();
        }
    });
    let client = KafkaClient::start(stream, options()).await.unwrap();
    // Two in flight: one answer is on its way while the other is looked at.
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let client = client.clone();
        callers.spawn(async move {
            for _ in 0..total / ANSWER / 2 {
                let answer = client.call_raw(api::private::OPERATE, 0, Bytes::new(), Duration::ZERO).await.unwrap();
                assert_eq!(answer.last(), Some(&7));
            }
        });
    }
    callers.join_all().await;
    drop(client);
    serving.await.unwrap();
}
