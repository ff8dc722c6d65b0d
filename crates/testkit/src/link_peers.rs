//! Peers that speak the link protocol by hand, for what a real half never does: a destination that asks the source for
//! anything, and a source half that says what it has no right to.

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use hawser_link::Properties;
use hawser_link::reversal::{Accepted, ControlFrame, LinkOpen, OpenAnswer, Purpose, Ticket};
use hawser_transport::{ClientSecurity, HostPort};
use hawser_wire::api::{self, private::LINK_OPEN};
use hawser_wire::{NodeId, Request, RequestFrame};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long a peer may take to do what it has to.
const LIMIT: Duration = Duration::from_secs(60);
/// Far above any answer in a test.
const FRAME_BYTES_MAX: usize = 64 << 20;
/// Channels that were opened and not yet taken by the test.
const CHANNELS_MAX: usize = 16;

/// A destination behind a PLAINTEXT port of its own that accepts whoever comes, and asks for whatever the test wants.
pub struct HostileDestination {
    port: u16,
    control: Arc<Mutex<Option<TcpStream>>>,
    channels: Receiver<TcpStream>,
    dials: AtomicI64,
}

/// A reversed connection to a broker of the source.
pub struct HostileChannel {
    stream: TcpStream,
    requests: i32,
}

impl HostileDestination {
    /// Listens; `cluster_id` is what it calls itself.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn start(cluster_id: &str) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let control = Arc::default();
        let (opened, channels) = sync_channel(CHANNELS_MAX);
        let (controls, cluster_id) = (Arc::clone(&control), cluster_id.to_owned());
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (controls, opened, cluster_id) = (Arc::clone(&controls), opened.clone(), cluster_id.clone());
                // A peer that goes away is the test's own doing; what it waits for fails by its limit.
                thread::spawn(move || drop(accept(stream, &cluster_id, &controls, &opened)));
            }
        });
        Ok(Self { port, control, channels, dials: AtomicI64::new(0) })
    }

    /// Where the source half has to dial.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Asks the source half for a channel to broker `node`, and waits for it.
    ///
    /// # Errors
    /// When no source half is connected, or brings none.
    pub fn channel(&self, node: i32) -> Result<HostileChannel> {
        let ticket = Ticket(*uuid::Uuid::new_v4().as_bytes());
        let request_id = self.dials.fetch_add(1, Ordering::Relaxed);
        let dial = ControlFrame::LinkDial { request_id, node: Some(NodeId(node)), tickets: vec![ticket] };
        let control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        control.as_ref().context("no source half is connected")?.write_all(&dial.encode())?;
        drop(control);
        let stream = self.channels.recv_timeout(LIMIT).context("the source half brings no channel")?;
        Ok(HostileChannel { stream, requests: 0 })
    }
}

impl HostileChannel {
    /// Sends a request and waits for its answer; `None` if the source closes the channel instead.
    ///
    /// # Errors
    /// When the request cannot be written, or the answer is none.
    pub fn ask<M: Request>(&mut self, version: i16, request: &M) -> Result<Option<M::Response>> {
        self.requests += 1;
        let frame = api::encode_request(version, self.requests, "hostile", request)?;
        self.stream.set_read_timeout(Some(LIMIT))?;
        self.stream.write_all(&frame)?;
        let Some(frame) = read_frame(&mut self.stream)? else { return Ok(None) };
        let (id, body) = api::split_response(M::KEY, version, frame)?;
        ensure!(id == self.requests, "the answer to request {id}, not to {}", self.requests);
        Ok(Some(api::decode_response::<M>(version, body)?))
    }
}

/// Accepts every `LinkOpen`; then keeps a control connection alive, or passes a channel on.
fn accept(
    mut stream: TcpStream,
    cluster_id: &str,
    controls: &Mutex<Option<TcpStream>>,
    channels: &SyncSender<TcpStream>,
) -> Result<()> {
    let frame = read_frame(&mut stream)?.context("closed before LinkOpen")?;
    let request = RequestFrame::parse(frame)?;
    ensure!(request.api_key == LINK_OPEN, "request with key {} before LinkOpen", request.api_key);
    let open = LinkOpen::decode(&request.body)?;
    let accepted = Accepted {
        link_id: uuid::Uuid::from_u128(7),
        destination_cluster_id: cluster_id.to_owned(),
        beat_interval: Duration::from_secs(1),
        beats_missed_max: u8::MAX,
    };
    stream.write_all(&OpenAnswer::Accepted(accepted).encode(request.correlation_id))?;
    if let Purpose::Channel { .. } = open.purpose {
        return Ok(channels.send(stream)?);
    }
    *controls.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream.try_clone()?);
    while let Some(frame) = read_frame(&mut stream)? {
        if let ControlFrame::Beat { sequence } = ControlFrame::decode(&frame)? {
            stream.write_all(&ControlFrame::BeatAck { sequence }.encode())?;
        }
    }
    Ok(())
}

/// A frame without its length prefix; `None` where the peer has closed.
fn read_frame(stream: &mut TcpStream) -> Result<Option<Bytes>> {
    let mut prefix = [0; 4];
    match stream.read_exact(&mut prefix) {
        Ok(()) => {}
        Err(e) if matches!(e.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => return Ok(None),
        Err(e) => return Err(e.into()),
    }
    let length = usize::try_from(i32::from_be_bytes(prefix))?;
    ensure!(length <= FRAME_BYTES_MAX, "a frame of {length} bytes");
    let mut frame = vec![0; length];
    stream.read_exact(&mut frame)?;
    Ok(Some(frame.into()))
}

/// Logs in at a destination (`host:port`) with the client settings given, says `open`, and returns what comes of it.
///
/// # Errors
/// When the login fails or the destination does not answer.
pub fn say_link_open(to: &str, client_settings: &str, open: &LinkOpen) -> Result<OpenAnswer> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let to: HostPort = to.parse()?;
    let login = ClientSecurity::from_properties(&Properties::parse("stranger", client_settings))?;
    let conversation = async {
        let mut stream = login.dial(&to, LIMIT).await?;
        stream.write_all(&open.encode(1, "stranger")).await?;
        stream.flush().await?;
        let length = usize::try_from(stream.read_i32().await?)?;
        ensure!((4..FRAME_BYTES_MAX).contains(&length), "an answer of {length} bytes");
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer).await?;
        anyhow::Ok(answer)
    };
    let answer = runtime.block_on(async { tokio::time::timeout(LIMIT, conversation).await });
    let answer = answer.context("no answer to LinkOpen")??;
    match answer.get(4..) {
        Some(body) => Ok(OpenAnswer::decode(body)?),
        None => bail!("the answer is cut"),
    }
}

/// Every `LinkOpen` in bytes taken off the wire, in order.
pub fn link_opens(captured: &[u8]) -> Vec<LinkOpen> {
    let key = LINK_OPEN.to_be_bytes();
    let frames = (0..captured.len().saturating_sub(6)).filter(|at| captured[at + 4..at + 6] == key).filter_map(|at| {
        let length = u32::from_be_bytes(captured[at..at + 4].try_into().ok()?) as usize;
        captured.get(at + 4..(at + 4).checked_add(length)?)
    });
    let decoded = frames.filter_map(|frame| {
        let request = RequestFrame::parse(Bytes::copy_from_slice(frame)).ok()?;
        LinkOpen::decode(&request.body).ok()
    });
    decoded.collect()
}
