//! A TCP relay that misbehaves on demand: delays, resets, goes silent, forgets idle connections as a middlebox does, and
//! keeps what it carried for a look at the bytes.

use anyhow::Result;
use socket2::SockRef;
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How often a quiet direction looks at its orders.
const TICK: Duration = Duration::from_millis(5);
const CHUNK_BYTES: usize = 64 * 1024;
/// What one direction holds while it delays; beyond it the sender feels back-pressure.
const HELD_BYTES_MAX: usize = 8 << 20;

/// A relay from a loopback port of its own to a target.
pub struct Relay {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    stopped: AtomicBool,
    /// Nothing passes, nothing is closed.
    silent: AtomicBool,
    /// New connections are reset at once.
    refusing: AtomicBool,
    delay_ms: AtomicU64,
    /// 0: never. Otherwise a connection without a byte for so long is forgotten: what comes later goes nowhere.
    forget_after_ms: AtomicU64,
    /// Connections of generations below this one are over.
    reset_below: AtomicU64,
    /// Connections of generations below this one carry nothing any more, without being closed.
    frozen_below: AtomicU64,
    accepted: AtomicU64,
    forgotten: AtomicU64,
    carried_bytes: AtomicU64,
    capture: Mutex<Option<Vec<u8>>>,
}

impl Relay {
    /// Listens on a free loopback port and relays every connection to `target`.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn start(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            stopped: AtomicBool::new(false),
            silent: AtomicBool::new(false),
            refusing: AtomicBool::new(false),
            delay_ms: AtomicU64::new(0),
            forget_after_ms: AtomicU64::new(0),
            reset_below: AtomicU64::new(0),
            frozen_below: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            forgotten: AtomicU64::new(0),
            carried_bytes: AtomicU64::new(0),
            capture: Mutex::new(None),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, target, &accepting));
        Ok(Self { port, shared })
    }

    /// Where to connect.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Each byte takes so long in each direction.
    pub fn delay(&self, delay: Duration) {
        self.shared.delay_ms.store(delay.as_millis() as u64, Ordering::SeqCst);
    }

    /// Resets every connection there is (RST in both directions). New ones are relayed.
    pub fn reset_all(&self) {
        self.shared.reset_below.store(self.accepted(), Ordering::SeqCst);
    }

    /// Makes every connection there is half-open: nothing passes any more, nobody is told. New ones are relayed.
    pub fn freeze_all(&self) {
        self.shared.frozen_below.store(self.accepted(), Ordering::SeqCst);
    }

    /// Lets nothing pass, on old and new connections alike, until told otherwise.
    pub fn silence(&self, silent: bool) {
        self.shared.silent.store(silent, Ordering::SeqCst);
    }

    /// Resets new connections at once, until told otherwise.
    pub fn refuse(&self, refusing: bool) {
        self.shared.refusing.store(refusing, Ordering::SeqCst);
    }

    /// Forgets connections that were idle for `idle`, as a middlebox with a state table does; `None` remembers them all.
    pub fn forget_idle_after(&self, idle: Option<Duration>) {
        let ms = idle.map_or(0, |d| d.as_millis().max(1) as u64);
        self.shared.forget_after_ms.store(ms, Ordering::SeqCst);
    }

    /// Keeps all bytes carried from now on, of both directions.
    pub fn start_capture(&self) {
        *self.shared.capture() = Some(Vec::new());
    }

    /// The bytes kept since [`start_capture`](Self::start_capture).
    pub fn captured(&self) -> Vec<u8> {
        self.shared.capture().clone().unwrap_or_default()
    }

    /// Connections taken so far.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Connections forgotten so far.
    pub fn forgotten(&self) -> u64 {
        self.shared.forgotten.load(Ordering::SeqCst)
    }

    /// Bytes carried so far, both directions.
    pub fn carried_bytes(&self) -> u64 {
        self.shared.carried_bytes.load(Ordering::SeqCst)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the accepting thread, which then sees that it is over.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

impl Shared {
    fn capture(&self) -> MutexGuard<'_, Option<Vec<u8>>> {
        self.capture.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn accept(listener: &TcpListener, target: SocketAddr, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        let Ok(client) = client else { continue };
        let generation = shared.accepted.fetch_add(1, Ordering::SeqCst);
        let server = TcpStream::connect(target).ok().filter(|_| !shared.refusing.load(Ordering::SeqCst));
        let Some(server) = server else {
            reset(client);
            continue;
        };
        let connection = Connection::new(generation);
        for (from, to) in [(&client, &server), (&server, &client)] {
            let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { continue };
            let (shared, connection) = (Arc::clone(shared), connection.clone());
            thread::spawn(move || {
                if carry(&from, &to, &connection, &shared).is_err() {
                    connection.broken.store(true, Ordering::SeqCst);
                    reset(from);
                    reset(to);
                }
            });
        }
    }
}

#[derive(Clone)]
struct Connection {
    generation: u64,
    last_byte: Arc<Mutex<Instant>>,
    /// One direction has failed: the other must let go, too.
    broken: Arc<AtomicBool>,
    forgotten: Arc<AtomicBool>,
}

impl Connection {
    fn new(generation: u64) -> Self {
        let last_byte = Arc::new(Mutex::new(Instant::now()));
        Self { generation, last_byte, broken: Arc::default(), forgotten: Arc::default() }
    }

    /// Whether it was idle for too long, now or at any time before.
    fn is_forgotten(&self, shared: &Shared) -> bool {
        let idle_max_ms = shared.forget_after_ms.load(Ordering::SeqCst);
        let idle = self.last_byte.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        if idle_max_ms > 0 && idle > Duration::from_millis(idle_max_ms) && !self.forgotten.swap(true, Ordering::SeqCst)
        {
            shared.forgotten.fetch_add(1, Ordering::SeqCst);
        }
        self.forgotten.load(Ordering::SeqCst)
    }

    fn is_over(&self, shared: &Shared) -> bool {
        self.broken.load(Ordering::SeqCst)
            || shared.stopped.load(Ordering::SeqCst)
            || self.generation < shared.reset_below.load(Ordering::SeqCst)
    }
}

/// Carries one direction to its end. An error means that both sides are to be reset.
fn carry(mut from: &TcpStream, mut to: &TcpStream, connection: &Connection, shared: &Shared) -> Result<(), ()> {
    from.set_read_timeout(Some(TICK)).map_err(drop)?;
    let _ = from.set_nodelay(true);
    let (mut held, mut held_bytes) = (VecDeque::<(Instant, Vec<u8>)>::new(), 0);
    let (mut buffer, mut at_end) = (vec![0; CHUNK_BYTES], false);
    loop {
        if connection.is_over(shared) {
            return Err(());
        }
        let frozen = connection.generation < shared.frozen_below.load(Ordering::SeqCst);
        if connection.is_forgotten(shared) || frozen || shared.silent.load(Ordering::SeqCst) {
            thread::sleep(TICK);
            continue;
        }
        while let Some((_, bytes)) = held.pop_front_if(|(due, _)| *due <= Instant::now()) {
            held_bytes -= bytes.len();
            shared.carried_bytes.fetch_add(bytes.len() as u64, Ordering::SeqCst);
            if let Some(capture) = shared.capture().as_mut() {
                capture.extend(&bytes);
            }
            to.write_all(&bytes).map_err(drop)?;
        }
        if at_end && held.is_empty() {
            let _ = to.shutdown(Shutdown::Write);
            return Ok(());
        }
        // What is read now goes out in the next turn, after another look at the orders.
        if !at_end && held_bytes < HELD_BYTES_MAX {
            match from.read(&mut buffer) {
                Ok(0) => at_end = true,
                Ok(n) => {
                    let due = Instant::now() + Duration::from_millis(shared.delay_ms.load(Ordering::SeqCst));
                    *connection.last_byte.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
                    held.push_back((due, buffer[..n].to_vec()));
                    held_bytes += n;
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return Err(()),
            }
        }
        if at_end || held_bytes >= HELD_BYTES_MAX {
            thread::sleep(TICK);
        }
    }
}

/// Closes with RST instead of FIN, once the last handle of the socket is gone.
fn reset(stream: TcpStream) {
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
}

#[cfg(test)]
mod tests;
