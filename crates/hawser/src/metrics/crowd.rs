//! Who may be connected to the metrics endpoint: anybody, but few at a time and not for long. It has no login, and its
//! descriptors are the same that the Kafka listeners accept with.

use axum::serve::Listener;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Connections at a time: scrapers and probes are a handful. One more pushes out the oldest, so that silent ones cannot
/// keep the others out.
const CONNECTIONS_MAX: usize = 64;
/// Pause after a failed `accept(2)`: the usual cause, too many open files, does not go away at once.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// A listener whose connections end by themselves.
pub(super) struct Crowd {
    tcp: TcpListener,
    lifetime: Duration,
    /// One a connection, oldest first; cancelled when it is over, and to end it.
    open: VecDeque<CancellationToken>,
}

/// One connection. Reads and writes fail once its time is over, which makes the server drop it.
pub(super) struct Visitor {
    tcp: TcpStream,
    /// `None` once it resolved.
    end: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    _over: DropGuard,
}

impl Crowd {
    pub(super) fn new(tcp: TcpListener, lifetime: Duration) -> Self {
        Self { tcp, lifetime, open: VecDeque::new() }
    }

    fn admit(&mut self, tcp: TcpStream) -> Visitor {
        self.open.retain(|visitor| !visitor.is_cancelled());
        while self.open.len() >= CONNECTIONS_MAX {
            let Some(oldest) = self.open.pop_front() else { break };
            oldest.cancel();
        }
        let over = CancellationToken::new();
        self.open.push_back(over.clone());
        let (pushed_out, lifetime) = (over.clone(), self.lifetime);
        let end = async move {
            let _ = tokio::time::timeout(lifetime, pushed_out.cancelled()).await;
        };
        Visitor { tcp, end: Some(Box::pin(end)), _over: over.drop_guard() }
    }
}

impl Listener for Crowd {
    type Io = Visitor;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Visitor, SocketAddr) {
        loop {
            match self.tcp.accept().await {
                Ok((tcp, peer)) => return (self.admit(tcp), peer),
                Err(error) => {
                    tracing::warn!(%error, "the metrics endpoint cannot accept a connection");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

impl Visitor {
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.end.as_mut().is_some_and(|end| end.as_mut().poll(context).is_ready()) {
            self.end = None;
        }
        self.end.as_ref().map(drop).ok_or_else(|| io::ErrorKind::TimedOut.into())
    }
}

impl AsyncRead for Visitor {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.tcp).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Visitor {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn serve(lifetime: Duration) -> SocketAddr {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let routes = axum::Router::new().route("/", get(|| async { "here" }));
        tokio::spawn(async move { axum::serve(Crowd::new(tcp, lifetime), routes).await });
        address
    }

    async fn ask(address: SocketAddr) -> String {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        tcp.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Until the server ends it; whether by a reset is the same here.
    async fn ended(tcp: &mut TcpStream) {
        let mut nothing = [0];
        assert!(matches!(tcp.read(&mut nothing).await, Ok(0) | Err(_)));
    }

    #[tokio::test]
    async fn idle_connections_are_pushed_out_by_later_ones() {
        let address = serve(Duration::from_secs(3600)).await;
        let mut idle = Vec::new();
        for number in 0..CONNECTIONS_MAX + 10 {
            let mut tcp = TcpStream::connect(address).await.unwrap();
            if number % 2 == 0 {
                tcp.write_all(b"GET / HTTP/1.1\r\nX-Never-Ends: ").await.unwrap();
            }
            idle.push(tcp);
        }
        assert!(ask(address).await.ends_with("here"));
        for pushed_out in &mut idle[..11] {
            ended(pushed_out).await;
        }
        // The others are open still, and go one by one.
        for kept in &idle[11..] {
            let error = kept.try_read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        }
        let _later = TcpStream::connect(address).await.unwrap();
        assert!(ask(address).await.ends_with("here"));
        ended(&mut idle[11]).await;
    }

    #[tokio::test]
    async fn no_connection_outlives_its_time() {
        let address = serve(Duration::from_millis(50)).await;
        let mut silent = TcpStream::connect(address).await.unwrap();
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET / HTTP/1.1\r\nX-Never-Ends: ").await.unwrap();
        ended(&mut silent).await;
        ended(&mut slow).await;
    }
}
