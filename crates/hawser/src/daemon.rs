//! `hawser serve`: puts the parts together, in the order config → state and log → sockets → links → service, and takes
//! them apart in the order accept → changes → links → connections → log. Whatever a part decides, it decides in its own crate.

use crate::cli::Serve;
use crate::cluster::Cluster;
use crate::commands::Exit;
use crate::config::{self, DaemonConfig, ListenerConfig, RestListenerConfig, host_of};
use crate::directory::Directory;
use crate::links::Links;
use crate::metrics::{self, Endpoint};
use crate::reserve::Reserve;
use crate::rest::{self, Doors, Names};
use crate::service::Service;
use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use hawser_broker::{BoxFuture, Broker, Parts, PrivateApis, StoredUsers, Topics, api_versions_before_login};
use hawser_inbound::{Inbound, InboundOptions};
use hawser_log::Logs;
use hawser_state::State;
use hawser_store::EmbeddedStore;
use hawser_transport::{HostPort, Listener, Passwords, Principal, ServerConnection};
use hawser_wire::RequestFrame;
use std::fs::DirBuilder;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// In `log.dirs`, beside the partitions.
const STATE_FILE: &str = "hawser.state";

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// Whatever keeps it from starting, or from stopping in order.
pub(crate) async fn serve(args: Serve) -> anyhow::Result<Exit> {
    if args.dump_config {
        return dump(args.file.as_deref());
    }
    let Some(file) = args.file else { return Ok(Exit::Usage) };
    let config = DaemonConfig::read(&file)?;
    let mut signals = Signals::new()?;
    let daemon = tokio::select! {
        daemon = Daemon::start(config) => daemon?,
        // To recover a log takes minutes. Nothing was acknowledged yet: to leave now is a crash like others, and recovery
        // can be cut off anywhere.
        name = signals.next() => {
            tracing::info!(signal = name, "stopped before it was ready");
            return Ok(Exit::Done);
        }
    };
    daemon.announce(args.ready_file.as_deref())?;
    let name = signals.next().await;
    tracing::info!(signal = name, "stopping");
    tokio::select! {
        result = daemon.stop() => result.map(|()| Exit::Done),
        name = signals.next() => bail!("{name} again: left without an orderly stop"),
    }
}

fn dump(file: Option<&Path>) -> anyhow::Result<Exit> {
    let properties = match file {
        Some(file) => crate::client::read_properties(file)?,
        None => hawser_link::Properties::default(),
    };
    if file.is_some() {
        DaemonConfig::parse(&properties)?;
    }
    let _ = std::io::stdout().write_all(config::dump(&properties).as_bytes());
    Ok(Exit::Done)
}

/// The running daemon.
struct Daemon {
    config: DaemonConfig,
    logs: Arc<Logs>,
    links: Arc<Links>,
    service: Arc<Service>,
    /// As clients see them: `NAME://host:port`.
    addresses: Vec<String>,
    ready: Arc<AtomicBool>,
    shutdown: CancellationToken,
    /// Accept loops and connections.
    tasks: TaskTracker,
}

/// A bound listener and what its clients are told to connect to.
struct Bound {
    name: String,
    listener: Listener,
    advertised: Arc<HostPort>,
}

impl Daemon {
    async fn start(config: DaemonConfig) -> anyhow::Result<Self> {
        let recorder = metrics::install()?;
        let (state, logs, reserve) = open(&config).await?;
        let mut bound = Vec::new();
        let users = Arc::new(StoredUsers::load(&state).map_err(|reason| anyhow!("SCRAM users: {reason}"))?);
        let mut listeners = config.listeners.clone();
        for listener in &mut listeners {
            listener.security = listener.security.clone().with_scram_users(users.scram());
            bound.push(bind(listener).await?);
        }
        let metrics_listener = match &config.metrics_listener {
            Some(address) => {
                Some(TcpListener::bind(address).await.with_context(|| format!("metrics.listener {address}"))?)
            }
            None => None,
        };
        let passwords = Passwords::new(listeners.iter().map(|listener| &listener.security));
        let passwords = passwords.map_err(|e| anyhow!("users of the REST listeners: {e}"))?;
        let mut rest = Vec::new();
        for listener in &config.rest {
            rest.push(bind_rest(listener).await?);
        }
        let mut addresses: Vec<_> = bound.iter().map(|b| format!("{}://{}", b.name, b.advertised)).collect();
        if let Some(listener) = &metrics_listener {
            addresses.push(format!("http://{}/metrics", listener.local_addr()?));
        }
        addresses.extend(rest.iter().map(|(scheme, listener)| format!("{scheme}://{}", listener.local_addr())));

        let store = Arc::new(EmbeddedStore::new(logs.clone()));
        let cluster = Arc::new(Cluster::new(state.clone(), config.local.clone()));
        let authorizer = Arc::new(config.authorizer.clone().with_stored(state.clone()));
        let directory = Directory::new(state.clone(), cluster.clone(), authorizer.clone());
        let inbound = Inbound::new(Arc::new(directory), InboundOptions::default());
        let (rate, egress) = (config.fetch_bytes_per_second, config.egress.clone());
        let links = Links::new(state.clone(), store, inbound.clone(), cluster.clone(), rate, egress);
        let topics = {
            let (state, logs, links, broker) = (state.clone(), logs.clone(), links.clone(), config.broker.clone());
            let open = move || {
                let topics = Topics::open(state, logs, links, &broker);
                reserve.fill(); // before anything is mirrored into that room
                topics
            };
            tokio::task::spawn_blocking(open).await?
        };
        let service = Service::new(
            state.clone(),
            logs.clone(),
            topics.clone(),
            links.clone(),
            cluster,
            authorizer.clone(),
            config.broker.node_id.0,
        );
        let private = Arc::new(Private { service: service.clone(), inbound });
        let broker = Broker::new(Parts {
            state,
            logs: logs.clone(),
            topics,
            authorizer,
            users,
            private,
            config: config.broker.clone(),
        })?;
        links.resume().await;
        service.start_syncs(&broker).await;
        service.resume();

        let (shutdown, tasks) = (CancellationToken::new(), TaskTracker::new());
        for bound in bound {
            tasks.spawn(accept(bound, broker.clone(), shutdown.clone(), tasks.clone()));
        }
        let ready = Arc::new(AtomicBool::new(false));
        if let Some(listener) = metrics_listener {
            let endpoint = Endpoint::new(recorder, service.clone(), ready.clone());
            tasks.spawn(endpoint.serve(listener, shutdown.clone()));
        }
        let doors = Arc::new(Doors::new(config.rest_authentication, passwords, Names::new(config.hosts())));
        for (_, listener) in rest {
            tasks.spawn(rest::serve(listener, service.clone(), doors.clone(), shutdown.clone(), tasks.clone()));
        }
        Ok(Self { config, logs, links, service, addresses, ready, shutdown, tasks })
    }

    /// Says that it serves: in the log, on standard output, and in the ready file.
    fn announce(&self, ready_file: Option<&Path>) -> anyhow::Result<()> {
        self.ready.store(true, Ordering::Relaxed);
        let addresses = self.addresses.join(" ");
        tracing::info!(addresses, "hawser ready");
        let _ = writeln!(std::io::stdout(), "hawser ready {addresses}");
        if let Some(file) = ready_file {
            // Whole or not at all: somebody waits for this file.
            let partial = file.with_extension("partial");
            std::fs::write(&partial, self.addresses.join("\n") + "\n")
                .and_then(|()| std::fs::rename(&partial, file))
                .with_context(|| format!("write {}", file.display()))?;
        }
        Ok(())
    }

    /// Stops in order. What has not drained when the time is up is cut off; the log is flushed in any case.
    async fn stop(self) -> anyhow::Result<()> {
        self.ready.store(false, Ordering::Relaxed);
        self.shutdown.cancel();
        self.tasks.close();
        let drained = tokio::time::timeout(self.config.stop_timeout, async {
            self.service.stop().await;
            self.links.stop_all().await;
            self.tasks.wait().await;
        });
        if drained.await.is_err() {
            tracing::warn!(open = self.tasks.len(), "connections did not drain in time and are cut off");
        }
        let logs = self.logs;
        tokio::task::spawn_blocking(move || logs.close()).await?.context("close the log")?;
        tracing::info!("stopped");
        Ok(())
    }
}

/// Hawser's own API keys.
struct Private {
    service: Arc<Service>,
    inbound: Inbound,
}

impl PrivateApis for Private {
    fn link_open(&self, frame: RequestFrame, connection: ServerConnection) -> BoxFuture<'_, ()> {
        self.inbound.accept(&frame, connection);
        Box::pin(std::future::ready(()))
    }

    fn operate(&self, principal: &Principal, body: Bytes) -> BoxFuture<'_, Bytes> {
        let principal = principal.clone();
        Box::pin(async move { self.service.operate(&principal, &body).await })
    }
}

/// Opens state and log; recovery may take a while, so it blocks a thread of its own.
async fn open(config: &DaemonConfig) -> anyhow::Result<(State, Arc<Logs>, Reserve)> {
    let (dir, log) = (config.log_dir.clone(), config.log.clone());
    let opened = tokio::task::spawn_blocking(move || {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.with_context(|| format!("create {}", dir.display()))?;
        let reserve = Reserve::open(&dir);
        let state = State::open(&dir.join(STATE_FILE))?;
        let logs = Logs::open(&dir, log).with_context(|| format!("open the log in {}", dir.display()))?;
        anyhow::Ok((state, Arc::new(logs), reserve))
    });
    opened.await?
}

async fn bind(config: &ListenerConfig) -> anyhow::Result<Bound> {
    let what = || format!("listener {} on {}", config.name, config.bind);
    let address: SocketAddr = tokio::net::lookup_host(&config.bind)
        .await
        .with_context(what)?
        .next()
        .ok_or_else(|| anyhow!("{}: no such address", what()))?;
    let security = config.security.clone();
    let listener = Listener::bind_serving(address, security, api_versions_before_login()).await.with_context(what)?;
    let bound = listener.local_addr();
    let mut advertised = match &config.advertised {
        Some(text) => text.parse::<HostPort>().with_context(what)?,
        None => HostPort { host: host_of(&config.bind).to_owned(), port: bound.port() },
    };
    if advertised.port == 0 {
        advertised.port = bound.port();
    }
    Ok(Bound { name: config.name.clone(), listener, advertised: Arc::new(advertised) })
}

/// A REST listener and the scheme that it speaks.
async fn bind_rest(config: &RestListenerConfig) -> anyhow::Result<(&'static str, Listener)> {
    let scheme = if config.security.protocol().is_tls() { "https" } else { "http" };
    let what = || format!("hawser.rest.listeners {scheme}://{}", config.bind);
    let address = tokio::net::lookup_host(&config.bind).await.with_context(what)?.next();
    let address = address.ok_or_else(|| anyhow!("{}: no such address", what()))?;
    Ok((scheme, Listener::bind(address, config.security.clone()).await.with_context(what)?))
}

/// Serves connections of one listener until `shutdown`.
async fn accept(bound: Bound, broker: Arc<Broker>, shutdown: CancellationToken, tasks: TaskTracker) {
    loop {
        let connection = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            connection = bound.listener.accept() => connection,
        };
        let (broker, advertised, shutdown) = (broker.clone(), bound.advertised.clone(), shutdown.clone());
        tasks.spawn(async move { broker.serve(connection, advertised, shutdown).await });
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The next of them. Cancel-safe.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
