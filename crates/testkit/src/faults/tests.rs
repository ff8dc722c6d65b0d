use super::*;

/// Echoes until the end of each connection.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || drop(std::io::copy(&mut &stream, &mut &stream)));
        }
    });
    address
}

fn dial(relay: &Relay) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, relay.port())).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

fn round_trip(stream: &mut TcpStream, word: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(word)?;
    let mut answer = vec![0; word.len()];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

#[test]
fn carries_counts_captures_and_delays() {
    let relay = Relay::start(echo()).unwrap();
    relay.start_capture();
    let mut stream = dial(&relay);
    assert_eq!(round_trip(&mut stream, b"hello").unwrap(), b"hello");
    assert_eq!((relay.accepted(), relay.carried_bytes()), (1, 10));
    assert_eq!(relay.captured(), b"hellohello");
    relay.delay(Duration::from_millis(60));
    let before = Instant::now();
    round_trip(&mut stream, b"later").unwrap();
    assert!(before.elapsed() >= Duration::from_millis(120));
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn resets_old_connections_and_carries_new_ones() {
    let relay = Relay::start(echo()).unwrap();
    let mut old = dial(&relay);
    round_trip(&mut old, b"a").unwrap();
    relay.reset_all();
    let seen = loop {
        match round_trip(&mut old, b"b") {
            Ok(_) => thread::sleep(TICK),
            Err(e) => break e.kind(),
        }
    };
    assert!(matches!(seen, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof), "{seen:?}");
    assert_eq!(round_trip(&mut dial(&relay), b"c").unwrap(), b"c");
    relay.refuse(true);
    assert!(round_trip(&mut dial(&relay), b"d").is_err());
}

#[test]
fn silence_ends_but_frozen_and_forgotten_connections_stay_dead() {
    let relay = Relay::start(echo()).unwrap();
    let mut stream = dial(&relay);
    round_trip(&mut stream, b"a").unwrap();
    let quiet = |stream: &mut TcpStream| {
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let end = round_trip(stream, b"?").unwrap_err().kind();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        matches!(end, ErrorKind::WouldBlock | ErrorKind::TimedOut)
    };
    relay.silence(true);
    assert!(quiet(&mut stream));
    relay.silence(false);
    let mut answer = [0; 1];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"?");

    relay.freeze_all();
    assert!(quiet(&mut stream));
    let mut other = dial(&relay);
    assert_eq!(round_trip(&mut other, b"b").unwrap(), b"b");
    relay.forget_idle_after(Some(Duration::from_millis(50)));
    while relay.forgotten() < 2 {
        thread::sleep(TICK);
    }
    assert!(quiet(&mut other));
}
