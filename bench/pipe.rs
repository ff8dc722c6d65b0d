//! The yardstick of `cargo bench`: the least that any mirror over TLS must do. One process encrypts prepared
//! record batches and sends them, another receives, checks every batch's CRC and writes it to a file. Both are
//! plain tokio and tokio-rustls, with none of Hawser's code but the batch view.
//!
//! The batches lie in the sender's memory; or, with a third process where the link has its source broker, come to it
//! over plain TCP.

use crate::tls;
use crate::usage::Usage;
use anyhow::{Context, Result};
use bytes::{Buf, Bytes, BytesMut};
use hawser_wire::BatchError;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;

/// What the receiver hands to the file at once; the size of one partition's share of a fetch response.
const CHUNK_BYTES: usize = 1 << 20;
/// What a fed sender reads at once.
const RELAY_BYTES: usize = 256 << 10;

/// Listens, prints `port N`, takes one TLS connection to its end, prints its usage.
pub(crate) fn receive(file: &Path, certificates: &Path) -> Result<()> {
    runtime()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("port {}", listener.local_addr()?.port());
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let mut stream = tls::acceptor(certificates)?.accept(socket).await?;
        let mut out = File::create(file)?;
        let mut buffer = BytesMut::with_capacity(2 * CHUNK_BYTES);
        let mut total = 0_u64;
        let start = std::time::Instant::now();
        loop {
            buffer.reserve(CHUNK_BYTES);
            let read = stream.read_buf(&mut buffer).await?;
            if buffer.len() >= CHUNK_BYTES || read == 0 {
                let whole = checked(&buffer)?;
                out.write_all(&buffer[..whole])?;
                buffer.advance(whole);
                total += whole as u64;
            }
            if read == 0 {
                break;
            }
        }
        anyhow::ensure!(buffer.is_empty(), "the pipe ended inside a batch");
        stream.shutdown().await?;
        let seconds = start.elapsed().as_secs_f64();
        println!("{}", serde_json::to_string(&Usage::of_self(total, seconds)?)?);
        Ok(())
    })
}

/// Sends `segment` over and over until `total` bytes are out, prints its usage.
pub(crate) fn send(port: u16, total: u64, segment: &Path, certificates: &Path) -> Result<()> {
    let segment = Bytes::from(std::fs::read(segment)?);
    runtime()?.block_on(async {
        let mut stream = encrypted(port, certificates).await?;
        let start = std::time::Instant::now();
        let sent = repeat(&segment, total, &mut stream).await?;
        goodbye(stream).await?;
        println!("{}", serde_json::to_string(&Usage::of_self(sent, start.elapsed().as_secs_f64())?)?);
        Ok(())
    })
}

/// Sends on what comes from `feeder`, prints its usage.
pub(crate) fn relay(port: u16, feeder: u16, certificates: &Path) -> Result<()> {
    runtime()?.block_on(async {
        let mut stream = encrypted(port, certificates).await?;
        let mut feeder = TcpStream::connect(("127.0.0.1", feeder)).await?;
        let start = std::time::Instant::now();
        let mut buffer = vec![0; RELAY_BYTES];
        let mut sent = 0_u64;
        loop {
            let read = feeder.read(&mut buffer).await?;
            if read == 0 {
                break;
            }
            stream.write_all(&buffer[..read]).await?;
            sent += read as u64;
        }
        goodbye(stream).await?;
        println!("{}", serde_json::to_string(&Usage::of_self(sent, start.elapsed().as_secs_f64())?)?);
        Ok(())
    })
}

/// Listens, prints `port N`, sends `segment` over and over to whoever comes, until `total` bytes are out.
pub(crate) fn feed(total: u64, segment: &Path) -> Result<()> {
    let segment = Bytes::from(std::fs::read(segment)?);
    runtime()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("port {}", listener.local_addr()?.port());
        let (mut socket, _) = listener.accept().await?;
        repeat(&segment, total, &mut socket).await?;
        Ok(())
    })
}

async fn encrypted(port: u16, certificates: &Path) -> Result<TlsStream<TcpStream>> {
    let socket = TcpStream::connect(("127.0.0.1", port)).await?;
    socket.set_nodelay(true)?;
    tls::connect(certificates, socket).await
}

async fn repeat(segment: &Bytes, total: u64, to: &mut (impl AsyncWrite + Unpin)) -> Result<u64> {
    let mut sent = 0_u64;
    while sent < total {
        for chunk in segment.chunks(CHUNK_BYTES) {
            to.write_all(chunk).await?;
        }
        sent += segment.len() as u64;
    }
    Ok(sent)
}

/// Session tickets lie unread in the socket; closing over them would reset the connection.
async fn goodbye(mut stream: TlsStream<TcpStream>) -> Result<()> {
    stream.shutdown().await?;
    stream.read_to_end(&mut Vec::new()).await?;
    Ok(())
}

/// Length of the whole batches at the front of `bytes`, each with a good CRC.
fn checked(bytes: &[u8]) -> Result<usize> {
    let mut at = 0;
    loop {
        match hawser_wire::BatchHeader::parse(&bytes[at..]) {
            Ok(header) => {
                let batch = &bytes[at..at + header.size_bytes];
                anyhow::ensure!(crc32c::crc32c(&batch[21..]) == header.crc, "bad CRC");
                at += header.size_bytes;
            }
            Err(BatchError::Truncated { .. }) => return Ok(at),
            Err(other) => return Err(other.into()),
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().context("start tokio")
}
