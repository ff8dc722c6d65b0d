//! Which sockets are given up when their peer falls silent.

use super::*;
use crate::{ClientSecurity, HostPort, Listener, ServerSecurity};
use socket2::SockRef;

#[tokio::test]
async fn a_receive_buffer_is_set_where_it_is_asked_for() {
    const BYTES: usize = 48 * 1024;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = HostPort::new("127.0.0.1", listener.local_addr().unwrap().port());
    let size = async |security: ClientSecurity| {
        let stream = security.dial(&at, Duration::from_secs(5)).await.unwrap();
        (SockRef::from(stream.tcp()).recv_buffer_size().unwrap(), stream)
    };
    let (of_system, stream) = size(ClientSecurity::plaintext()).await;
    // Linux counts its own bookkeeping in, and doubles.
    let (set, _) = size(ClientSecurity::plaintext().with_receive_buffer(Some(BYTES))).await;
    assert_eq!((set, of_system != set), (2 * BYTES, true));
    assert_eq!(size(ClientSecurity::plaintext().with_receive_buffer(None)).await.0, of_system);
    stream.set_receive_buffer(BYTES).unwrap();
    assert_eq!(SockRef::from(stream.tcp()).recv_buffer_size().unwrap(), 2 * BYTES);
}

#[tokio::test]
async fn dialled_and_reversed_connections_give_a_silent_peer_up_and_served_ones_do_not() {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), ServerSecurity::plaintext()).await.unwrap();
    let at = HostPort::new("127.0.0.1", listener.local_addr().port());
    let security = ClientSecurity::plaintext();
    let dial = async {
        let mut dialled = security.dial(&at, Duration::from_secs(5)).await.unwrap();
        // The listener hands over who has spoken.
        tokio::io::AsyncWriteExt::write_all(&mut dialled, &[0, 0]).await.unwrap();
        dialled
    };
    let (dialled, served) = tokio::join!(dial, listener.accept());
    assert_eq!(SockRef::from(dialled.tcp()).tcp_user_timeout().unwrap(), Some(SILENT_MAX));
    assert_eq!(SockRef::from(dialled.tcp()).tcp_keepalive_time().unwrap(), KEEP_ALIVE_OFTEN.0);
    assert_eq!(SockRef::from(served.stream().tcp()).tcp_user_timeout().unwrap(), None);
    assert_eq!(SockRef::from(served.stream().tcp()).tcp_keepalive_time().unwrap(), KEEP_ALIVE.0);
    let reversed = served.into_stream();
    assert_eq!(SockRef::from(reversed.tcp()).tcp_user_timeout().unwrap(), Some(SILENT_MAX));
    assert_eq!(SockRef::from(reversed.tcp()).tcp_keepalive_interval().unwrap(), KEEP_ALIVE_OFTEN.1);
}
