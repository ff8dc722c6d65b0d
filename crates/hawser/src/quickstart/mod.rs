//! `hawser quickstart`: scenario A's first half on one machine. A stock Kafka behind SASL_PLAINTEXT and SCRAM stands
//! for the site behind a firewall, a daemon with the embedded store for the cloud, a daemon beside the Kafka throws the
//! line. What a person would type is run as such and shown. Everything is stopped at the end, however it ends.

mod children;
mod embedded;
mod folder;
mod kafka;
mod orders;
mod tls;

use crate::cli::Quickstart;
use crate::client::{DaemonClient, read_properties};
use crate::commands::Exit;
use crate::config::catalogue;
use crate::operations::{MirrorView, Operation, Outcome};
use crate::output::bytes;
use anyhow::{Context, anyhow, bail};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use children::Children;
use embedded::Producer;
use folder::Folder;
use hawser_link::Properties;
use kafka::{Kafka, Node};
use std::collections::VecDeque;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tls::Tls;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

const LINK: &str = "from-on-prem-link";
const LINK_LOGIN: &str = "cp-to-cloud-link";
const TOPIC: &str = "orders";
const PARTITIONS: u32 = 6;
/// Orders that are shown at the end.
const SHOWN: u32 = 5;
/// Orders that are there before the link is, so that there is something to catch up with.
const ORDERS_BEFORE: u32 = 300_000;
/// Orders per second while it runs.
const ORDERS_RATE: u32 = 1_000;
/// The live line is shown at least this long.
const WATCH_MIN: Duration = Duration::from_secs(5);
const WATCH_MAX: Duration = Duration::from_secs(300);
const WATCH_POLL: Duration = Duration::from_millis(500);
/// The window over which the live line's rate is taken.
const RATE_SAMPLES: usize = 6;
const DAEMON_START_TIMEOUT: Duration = Duration::from_secs(20);

/// Runs the demonstration.
///
/// # Errors
/// What is missing or went wrong; everything that was started is stopped then too.
pub(crate) async fn run(args: Quickstart) -> anyhow::Result<Exit> {
    let mut children = Children::default();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let result = tokio::select! {
        result = story(&args, &mut children) => result.map(|()| Exit::Done),
        _ = tokio::signal::ctrl_c() => Ok(Exit::Done),
        _ = terminate.recv() => Ok(Exit::Failed),
        _ = hangup.recv() => Ok(Exit::Failed),
    };
    say("\nStopping everything that was started …");
    children.stop().await;
    result
}

/// The source: where it is and how to log in there.
struct Source {
    bootstrap: String,
    /// Client settings of a person (`CP-command.config`).
    command_config: PathBuf,
    topic: String,
    /// Stock Kafka's tools, if we have them.
    kafka: Option<Kafka>,
    /// The link's own login at the source, or the user's.
    local: Properties,
    /// Writes to the on-prem daemon's own store while this lives; empty if the source is a Kafka.
    stream: JoinSet<anyhow::Result<()>>,
}

async fn story(args: &Quickstart, children: &mut Children) -> anyhow::Result<()> {
    let folder = Folder::open(&args.dir)?;
    say(&format!("Everything is written under {}.", folder.root().display()));
    let on_prem_password = secret();
    let kafka = match &args.source {
        Some(bootstrap) => Some(given_source(args, bootstrap)?),
        None => stock_source(args, &folder, children, &on_prem_password).await?,
    };

    heading("Two daemons: one for the cloud, one on-prem");
    let cloud = start_cloud(&folder, children).await?;
    let on_prem = start_on_prem(&folder, children, kafka.as_ref(), &on_prem_password).await?;
    say(&format!("cloud    {}  cluster {}", cloud.address, cloud.cluster_id));
    say(&format!("on-prem  {}  cluster {}", on_prem.address, on_prem.cluster_id));
    let mut source = match kafka {
        Some(kafka) => kafka,
        None => embedded_source(&on_prem).await?,
    };

    heading("The link: a half on each side; on-prem dials, nobody dials on-prem");
    create_link(&folder, &cloud, &on_prem, &source).await?;
    run_hawser(&on_prem, &["link", "list"]).await?;

    heading(&format!("The mirror of {}", source.topic));
    run_hawser(&cloud, &["mirror", "create", &source.topic, "--link", LINK]).await?;
    watch(&cloud, &source.topic, children).await?;

    heading("Byte for byte");
    run_hawser(&cloud, &["verify", "--link", LINK, "--topic", &source.topic]).await?;

    if let Some(kafka) = &source.kafka {
        heading("A stock console consumer reads the mirror");
        let args = consumer_args(&cloud, &source.topic, Some(SHOWN));
        say(&kafka.run("org.apache.kafka.tools.consumer.ConsoleConsumer", &args).await?);
    }
    if let Some(ended) = source.stream.try_join_next() {
        ended?.context("the stream of orders")?;
    }
    if source.bootstrap == on_prem.address {
        heading("The first orders of the mirror");
        for order in embedded::first_values(&cloud.client, &source.topic, SHOWN as usize).await? {
            say(&order);
        }
    }
    let keep = args.keep || (!args.once && std::io::stdout().is_terminal());
    heading(if keep { "To go on" } else { "With --keep all of this stays up, to go on like this" });
    go_on(&cloud, &on_prem, &source);
    if keep {
        say("\nCtrl-C stops everything.");
        loop {
            children.check()?;
            sleep(WATCH_POLL).await;
        }
    }
    Ok(())
}

/// A Kafka that the user has.
fn given_source(args: &Quickstart, bootstrap: &str) -> anyhow::Result<Source> {
    let (local, command_config) = match &args.command_config {
        Some(file) => (read_properties(file)?, file.clone()),
        None => (Properties::default(), PathBuf::new()),
    };
    let topic = args.topic.clone().ok_or_else(|| anyhow!("--topic is required with --source"))?;
    Ok(Source { bootstrap: bootstrap.to_owned(), command_config, topic, kafka: None, local, stream: JoinSet::new() })
}

/// A stock Kafka of our own, with a topic full of orders and more coming; `None` where it cannot run.
async fn stock_source(
    args: &Quickstart,
    folder: &Folder,
    children: &mut Children,
    admin_password: &str,
) -> anyhow::Result<Option<Source>> {
    heading("A stock Apache Kafka, the on-prem cluster");
    let kafka = match Kafka::prepare(folder, args.kafka_lib.as_deref()).await? {
        Ok(kafka) => kafka,
        Err(missing) => {
            say(&format!("There is none: {missing}."));
            say("Instead, the source is an ordinary topic of a second embedded store: the on-prem daemon's own.");
            return Ok(None);
        }
    };
    let node = Node::on_free_ports()?;
    let broker_password = secret();
    let config = folder
        .write("on-prem/server.properties", &node.config(&folder.run().join("on-prem/kafka-data"), &broker_password))?;
    let cluster_id = URL_SAFE_NO_PAD.encode(Uuid::new_v4().as_bytes()).replace('-', "A");
    kafka.format(&config, &cluster_id, &[("kafka", &broker_password), ("admin", admin_password)]).await?;
    say("Starting it …");
    kafka.start(&node, &config, folder, children).await?;
    say(&format!("{}  SASL_PLAINTEXT, SCRAM-SHA-512", node.bootstrap));

    let command_config = folder.write("CP-command.config", &command_config(admin_password))?;
    let link_password = secret();
    let login = [
        &format!("--alter --add-config SCRAM-SHA-512=[iterations=8192,password={link_password}]"),
        "--entity-type users --entity-name",
        LINK_LOGIN,
    ];
    let connect = ["--bootstrap-server", &node.bootstrap, "--command-config", &command_config.display().to_string()]
        .map(str::to_owned);
    kafka.run("kafka.admin.ConfigCommand", &with_words(&connect, &login)).await?;
    let create = format!("--create --topic {TOPIC} --partitions {PARTITIONS}");
    kafka.run("org.apache.kafka.tools.TopicCommand", &with_words(&connect, &[&create])).await?;

    let orders = folder.write("on-prem/orders.jsonl", &orders::lines())?;
    let produce = |records: u32, rate: i64| {
        let words = format!("--topic {TOPIC} --num-records {records} --throughput {rate} --payload-file");
        let mut args = with_words(&connect, &[&words]);
        args.push(orders.display().to_string());
        args
    };
    const PRODUCER: &str = "org.apache.kafka.tools.ProducerPerformance";
    say(&format!("Producing {ORDERS_BEFORE} orders, then {ORDERS_RATE} a second …"));
    kafka.run(PRODUCER, &produce(ORDERS_BEFORE, -1)).await?;
    let stream = kafka.tool(PRODUCER, &produce(u32::MAX >> 1, i64::from(ORDERS_RATE)));
    children.start("the stream of orders", stream, &folder.run().join("on-prem/producer.log"))?;

    let mut local = Properties::default();
    local.set("security.protocol", "SASL_PLAINTEXT");
    local.set("sasl.mechanism", "SCRAM-SHA-512");
    local.set("sasl.jaas.config", &jaas("scram.ScramLoginModule", LINK_LOGIN, &link_password));
    let (topic, stream) = (TOPIC.to_owned(), JoinSet::new());
    Ok(Some(Source { bootstrap: node.bootstrap, command_config, topic, kafka: Some(kafka), local, stream }))
}

/// An ordinary topic of the on-prem daemon's own store, full of orders and with more coming.
async fn embedded_source(on_prem: &Daemon) -> anyhow::Result<Source> {
    say(&format!("Producing {ORDERS_BEFORE} orders at the on-prem daemon, then {ORDERS_RATE} a second …"));
    let mut producer = Producer::create(&on_prem.client, TOPIC, PARTITIONS).await?;
    producer.backlog(ORDERS_BEFORE).await?;
    let mut stream = JoinSet::new();
    stream.spawn(producer.stream(ORDERS_RATE));
    let mut local = Properties::default();
    local.set("security.protocol", "SASL_PLAINTEXT");
    local.set("sasl.mechanism", "SCRAM-SHA-512");
    local.set("sasl.jaas.config", &jaas("scram.ScramLoginModule", LINK_LOGIN, &on_prem.link_secret));
    let (bootstrap, command_config) = (on_prem.address.clone(), on_prem.command_config.clone());
    Ok(Source { bootstrap, command_config, topic: TOPIC.to_owned(), kafka: None, local, stream })
}

/// A daemon that runs.
struct Daemon {
    /// `cloud` or `on-prem`.
    place: &'static str,
    /// `host:port` of its listener.
    address: String,
    /// Client settings of a person.
    command_config: PathBuf,
    cluster_id: String,
    client: DaemonClient,
    /// The link's login here.
    link_secret: String,
    /// `http://…/metrics`.
    metrics: String,
}

async fn start_cloud(folder: &Folder, children: &mut Children) -> anyhow::Result<Daemon> {
    let tls = Tls::generate()?;
    let authority = folder.write("cloud/ca.pem", &tls.authority)?;
    let server = folder.write("cloud/server.pem", &tls.server)?;
    let (admin, link_secret) = (secret(), secret());
    let config = folder.write(
        "cloud/hawser.properties",
        &format!(
            "node.id=1\n\
             listeners=SASL_SSL://127.0.0.1:0\n\
             log.dirs={data}\n\
             ssl.keystore.type=PEM\n\
             ssl.keystore.location={server}\n\
             sasl.enabled.mechanisms=PLAIN\n\
             listener.name.sasl_ssl.plain.sasl.jaas.config=\
             org.apache.kafka.common.security.plain.PlainLoginModule required \
             user_admin=\"{admin}\" user_{LINK_LOGIN}=\"{link_secret}\";\n\
             super.users=User:admin\n\
             # The link's login may alter the cluster, and nothing else.\n\
             hawser.acls=User:{LINK_LOGIN} ALTER cluster\n\
             metrics.listener=127.0.0.1:0\n",
            data = folder.run().join("cloud/data").display(),
            server = server.display(),
        ),
    )?;
    let command_config = folder.write(
        "cloud/command.config",
        &format!(
            "security.protocol=SASL_SSL\n\
             sasl.mechanism=PLAIN\n\
             sasl.jaas.config={}\n\
             ssl.truststore.type=PEM\n\
             ssl.truststore.location={}\n",
            jaas("plain.PlainLoginModule", "admin", &admin),
            authority.display()
        ),
    )?;
    start_daemon("the cloud's daemon", "cloud", folder, children, &config, command_config, link_secret).await
}

async fn start_on_prem(
    folder: &Folder,
    children: &mut Children,
    kafka: Option<&Source>,
    admin_password: &str,
) -> anyhow::Result<Daemon> {
    let link_secret = secret();
    let mut text = format!(
        "node.id=1\n\
         listeners=SASL_PLAINTEXT://127.0.0.1:0\n\
         log.dirs={data}\n\
         sasl.enabled.mechanisms=SCRAM-SHA-512\n\
         listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config=\
         org.apache.kafka.common.security.scram.ScramLoginModule required user_admin=\"{admin_password}\" \
         user_{LINK_LOGIN}=\"{link_secret}\";\n\
         super.users=User:admin\n\
         # What a link may do that copies from this daemon's own store.\n\
         hawser.acls=User:{LINK_LOGIN} DESCRIBE cluster;User:{LINK_LOGIN} READ topic:*;\
         User:{LINK_LOGIN} DESCRIBE_CONFIGS topic:*;User:{LINK_LOGIN} DESCRIBE group:*\n\
         metrics.listener=127.0.0.1:0\n",
        data = folder.run().join("on-prem/data").display(),
    );
    if let Some(kafka) = kafka {
        text.push_str("# The cluster that this daemon stands beside.\n");
        text.push_str(&format!("local.bootstrap.servers={}\n", kafka.bootstrap));
        for (key, value) in client_settings(&kafka.local) {
            text.push_str(&format!("local.{key}={value}\n"));
        }
    }
    let config = folder.write("on-prem/hawser.properties", &text)?;
    let command = folder.write("on-prem/command.config", &command_config(admin_password))?;
    start_daemon("the on-prem daemon", "on-prem", folder, children, &config, command, link_secret).await
}

async fn start_daemon(
    name: &'static str,
    place: &'static str,
    folder: &Folder,
    children: &mut Children,
    config: &Path,
    command_config: PathBuf,
    link_secret: String,
) -> anyhow::Result<Daemon> {
    let ready = folder.run().join(place).join("ready");
    let mut command = Command::new(std::env::current_exe().context("find our own binary")?);
    command.arg("serve").arg(config).arg("--ready-file").arg(&ready);
    children.start(name, command, &folder.run().join(place).join("hawser.log"))?;
    let is_ready = async || std::fs::read_to_string(&ready).ok().filter(|text| text.ends_with('\n'));
    let text = children.wait_until(&format!("starting {name}"), DAEMON_START_TIMEOUT, is_ready).await?;
    let address = text.lines().find_map(|line| line.strip_prefix("SASL_")?.split_once("://127.0.0.1:"));
    let (_, port) = address.ok_or_else(|| anyhow!("{} names no listener", ready.display()))?;
    let address = format!("localhost:{port}");
    let metrics = text.lines().find(|line| line.starts_with("http://")).unwrap_or_default().to_owned();
    let client = DaemonClient::dial(&address, &read_properties(&command_config)?).await?;
    let Outcome::Cluster(cluster) = client.operate(&Operation::ClusterDescribe).await? else {
        bail!("{name} does not say which cluster it is");
    };
    Ok(Daemon { place, address, command_config, cluster_id: cluster.cluster_id, client, link_secret, metrics })
}

/// Both halves, from the files of the walk-through.
async fn create_link(folder: &Folder, cloud: &Daemon, on_prem: &Daemon, source: &Source) -> anyhow::Result<()> {
    let destination =
        folder.write("clusterlink-hybrid-dst.config", "link.mode=DESTINATION\nconnection.mode=INBOUND\n")?;
    let authority = folder.run().join("cloud/ca.pem");
    let mut text = format!(
        "link.mode=SOURCE\n\
         connection.mode=OUTBOUND\n\
         \n\
         bootstrap.servers={address}\n\
         ssl.endpoint.identification.algorithm=https\n\
         security.protocol=SASL_SSL\n\
         ssl.truststore.type=PEM\n\
         ssl.truststore.location={authority}\n\
         sasl.mechanism=PLAIN\n\
         sasl.jaas.config={login}\n\
         \n",
        address = cloud.address,
        authority = authority.display(),
        login = jaas("plain.PlainLoginModule", LINK_LOGIN, &cloud.link_secret),
    );
    if source.bootstrap == on_prem.address {
        // The daemon stands beside no other cluster: it lends its own listener.
        text.push_str(&format!("local.bootstrap.servers={}\n", source.bootstrap));
    }
    if let Some(protocol) = source.local.value("security.protocol") {
        text.push_str(&format!("local.listener.name={protocol}\n"));
    }
    for (key, value) in client_settings(&source.local) {
        text.push_str(&format!("local.{key}={value}\n"));
    }
    let source_file = folder.write("clusterlink-CP-src.config", &text)?;
    let (destination, source_file) = (destination.display().to_string(), source_file.display().to_string());
    let ids = ["--cluster", &cloud.cluster_id, "--source-cluster", &on_prem.cluster_id, "--config-file", &destination];
    run_hawser(cloud, &[&["link", "create", LINK], &ids[..]].concat()).await?;
    let ids = ["--destination-cluster", &cloud.cluster_id, "--config-file", &source_file];
    run_hawser(on_prem, &[&["link", "create", LINK], &ids[..]].concat()).await
}

/// Shows a live line until the mirror has caught up.
async fn watch(cloud: &Daemon, topic: &str, children: &mut Children) -> anyhow::Result<()> {
    let terminal = std::io::stdout().is_terminal();
    let began = Instant::now();
    let mut samples: VecDeque<(Instant, i64, u64)> = VecDeque::new();
    loop {
        children.check()?;
        let operation = Operation::MirrorDescribe { mirror_topic: topic.to_owned(), link: Some(LINK.to_owned()) };
        let Outcome::Mirror(mirror) = cloud.client.operate(&operation).await? else { bail!("no such mirror") };
        if mirror.mirror_status == "FAILED" {
            bail!("the mirror failed: {}", mirror.mirror_topic_error.unwrap_or_default());
        }
        let (records, size) = extent(&mirror);
        samples.push_back((Instant::now(), records, size));
        if samples.len() > RATE_SAMPLES {
            samples.pop_front();
        }
        let line = live_line(&mirror, &samples);
        if terminal {
            print!("\r\x1b[K{line}");
            std::io::stdout().flush().ok();
        } else {
            say(&line);
        }
        // Orders keep coming: a second's worth of them is as good as none.
        let caught_up = total_lag(&mirror).is_some_and(|lag| lag <= i64::from(ORDERS_RATE));
        if caught_up && began.elapsed() >= WATCH_MIN {
            if terminal {
                println!();
            }
            return Ok(());
        }
        if began.elapsed() > WATCH_MAX {
            bail!("the mirror did not catch up within {} s", WATCH_MAX.as_secs());
        }
        sleep(WATCH_POLL).await;
    }
}

fn live_line(mirror: &MirrorView, samples: &VecDeque<(Instant, i64, u64)>) -> String {
    let (records, size) = extent(mirror);
    let (mut record_rate, mut byte_rate) = (0.0, 0);
    if let (Some(first), Some(last)) = (samples.front(), samples.back()) {
        let seconds = last.0.duration_since(first.0).as_secs_f64();
        if seconds > 0.0 {
            record_rate = (last.1 - first.1) as f64 / seconds;
            byte_rate = (last.2.saturating_sub(first.2) as f64 / seconds) as u64;
        }
    }
    let lag = total_lag(mirror);
    let eta = match lag {
        Some(0) => "in step".to_owned(),
        Some(lag) if record_rate >= 1.0 => format!("{:.1} s", lag as f64 / record_rate),
        _ => "–".to_owned(),
    };
    let lag = lag.map_or("unknown".to_owned(), |lag| format!("{lag} records"));
    format!("{records} records, {}, {}/s, lag {lag}, ETA {eta}", bytes(size), bytes(byte_rate))
}

/// Records and bytes held.
fn extent(mirror: &MirrorView) -> (i64, u64) {
    mirror
        .partitions
        .iter()
        .fold((0, 0), |(records, size), p| (records + p.log_end_offset - p.log_start_offset, size + p.size_bytes))
}

/// `None` until every partition has been fetched once.
fn total_lag(mirror: &MirrorView) -> Option<i64> {
    mirror.partitions.iter().map(|p| Some(p.partition_mirror_lag).filter(|lag| *lag >= 0)).sum()
}

/// Shows and runs `hawser ARGS` against `daemon`.
async fn run_hawser(daemon: &Daemon, args: &[&str]) -> anyhow::Result<()> {
    let exe = std::env::current_exe().context("find our own binary")?;
    say(&format!("{}$ hawser {}", daemon.place, args.join(" ")));
    let status = Command::new(exe)
        .args(args)
        .env("HAWSER_BOOTSTRAP_SERVER", &daemon.address)
        .env("HAWSER_COMMAND_CONFIG", &daemon.command_config)
        .process_group(0)
        .kill_on_drop(true)
        .status()
        .await
        .context("run hawser")?;
    if !status.success() {
        bail!("hawser {} failed ({status})", args.join(" "));
    }
    Ok(())
}

/// Commands to go on with.
fn go_on(cloud: &Daemon, on_prem: &Daemon, source: &Source) {
    let exe = std::env::current_exe().unwrap_or_else(|_| "hawser".into());
    for (place, daemon) in [("the cloud", cloud), ("on-prem", on_prem)] {
        say(&format!("# Against {place} (metrics: {})", daemon.metrics));
        say(&format!(
            "export HAWSER_BOOTSTRAP_SERVER={} HAWSER_COMMAND_CONFIG={}",
            daemon.address,
            daemon.command_config.display()
        ));
        say(&format!("{} link describe {LINK}", exe.display()));
    }
    say(&format!(
        "{exe} mirror describe {topic} --bootstrap-server {server} --command-config {config}",
        exe = exe.display(),
        topic = source.topic,
        server = cloud.address,
        config = cloud.command_config.display()
    ));
    if let Some(kafka) = &source.kafka {
        let consume = consumer_args(cloud, &source.topic, None).join(" ");
        say("# Read the mirror, and write to its source, with Kafka's own tools");
        say(&format!("{} {consume}", kafka.shown("org.apache.kafka.tools.consumer.ConsoleConsumer")));
        say(&format!(
            "{} --bootstrap-server {} --command-config {} --topic {}",
            kafka.shown("org.apache.kafka.tools.ConsoleProducer"),
            source.bootstrap,
            source.command_config.display(),
            source.topic
        ));
    }
}

fn consumer_args(cloud: &Daemon, topic: &str, max_messages: Option<u32>) -> Vec<String> {
    let mut args = vec!["--bootstrap-server".to_owned(), cloud.address.clone()];
    args.extend(["--command-config".to_owned(), cloud.command_config.display().to_string()]);
    args.extend(["--topic".to_owned(), topic.to_owned(), "--from-beginning".to_owned()]);
    if let Some(max) = max_messages {
        args.extend(["--max-messages".to_owned(), max.to_string(), "--timeout-ms".to_owned(), "30000".to_owned()]);
    }
    args
}

/// The walk-through's file, its login broken over three lines.
fn command_config(password: &str) -> String {
    format!(
        "sasl.mechanism=SCRAM-SHA-512\n\
         security.protocol=SASL_PLAINTEXT\n\
         sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \\\n\
         \x20 username=\"admin\" \\\n\
         \x20 password=\"{password}\";\n"
    )
}

fn jaas(module: &str, user: &str, password: &str) -> String {
    format!("org.apache.kafka.common.security.{module} required username=\"{user}\" password=\"{password}\";")
}

/// Login settings as lines of a file: a user's file may hold much that only a producer or a consumer understands.
fn client_settings(properties: &Properties) -> impl Iterator<Item = (&str, String)> {
    let is_login = |key: &str| key != "bootstrap.servers" && catalogue::find(&format!("local.{key}")).is_some();
    properties
        .iter()
        .filter(move |(key, _)| is_login(key))
        .map(|(key, value)| (key, value.replace('\\', "\\\\").replace('\n', "\\n")))
}

fn with_words(connect: &[String], words: &[&str]) -> Vec<String> {
    let words = words.iter().flat_map(|w| w.split_whitespace()).map(str::to_owned);
    connect.iter().cloned().chain(words).collect()
}

/// 122 random bits.
fn secret() -> String {
    Uuid::new_v4().simple().to_string()
}

fn heading(text: &str) {
    say(&format!("\n== {text}"));
}

fn say(text: &str) {
    // Nobody reads on: the demonstration goes on nevertheless, and ends in order.
    let _ = writeln!(std::io::stdout(), "{text}");
}
