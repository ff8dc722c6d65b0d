//! A middlebox: passes bytes on, keeps them, and can go silent or cut.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub struct Relay {
    pub address: SocketAddr,
    captured: Arc<Mutex<Vec<u8>>>,
    /// Number of the silence: connections of an earlier one stay silent for ever.
    silence: watch::Sender<u32>,
    task: tokio::task::JoinHandle<()>,
}

impl Relay {
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let captured = Arc::new(Mutex::new(Vec::new()));
        let (silence, silenced) = watch::channel(0);
        let capture = Arc::clone(&captured);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(target).await else { continue };
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                connections.spawn(pass(near_in, far_out, Arc::clone(&capture), silenced.clone()));
                connections.spawn(pass(far_in, near_out, Arc::clone(&capture), silenced.clone()));
            }
        });
        Self { address, captured, silence, task }
    }

    /// All connections of now go silent, without an end.
    pub fn forget_connections(&self) {
        self.silence.send_modify(|n| *n += 1);
    }

    pub fn captured(&self) -> Vec<u8> {
        self.captured.lock().unwrap().clone()
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    capture: Arc<Mutex<Vec<u8>>>,
    mut silence: watch::Receiver<u32>,
) {
    silence.mark_unchanged();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = tokio::select! {
            _ = silence.changed() => {
                // Neither an end nor a byte from here on; both sockets stay open.
                let _held = (from, to);
                return std::future::pending().await;
            }
            read = from.read(&mut buffer) => read,
        };
        let Ok(n @ 1..) = read else { return };
        capture.lock().unwrap().extend_from_slice(&buffer[..n]);
        if to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}
