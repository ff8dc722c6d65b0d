//! Logins change while records flow: a link's at the destination, its `local.*` one at the source's cluster, and that of a
//! half which dials the source itself. Both clusters are stores of our own, whose SCRAM users come and go as the stock
//! `kafka-configs --entity-type users` makes and removes them.

use super::{await_state, caught_up, json, refused, until};
use hawser_testkit::batches::{BatchBuilder, Codec, Record};
use hawser_testkit::daemon::{Daemon, DaemonSpec, OPERATOR, OPERATOR_PASSWORD, SCRAM_MODULE, jaas, scram_settings};
use hawser_transport::{ClientOptions, ClientSecurity, DialError, HostPort, KafkaClient};
use hawser_wire::messages::alter_user_scram_credentials_request::{ScramCredentialDeletion, ScramCredentialUpsertion};
use hawser_wire::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use hawser_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use hawser_wire::messages::{AlterUserScramCredentialsRequest, CreateTopicsRequest, ProduceRequest, TopicName};
use hawser_wire::{Request, StrBytes};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::Duration;
use tokio::runtime::Handle;

const TOPIC: &str = "orders";
/// The same topic as the half that dials the source itself calls it.
const DIRECT_TOPIC: &str = "direct.orders";
const PARTITIONS: i32 = 2;
const RECORDS: i64 = 20;
const SCRAM_SHA_512: i8 = 2;
const ITERATIONS: u32 = 4096;
const WAIT: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn logins_change_while_records_flow() {
    tokio::task::spawn_blocking(|| Sites::new().story()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_login_shows_by_its_name_and_goes_when_it_is_let_in() {
    tokio::task::spawn_blocking(|| Sites::new().refusals()).await.unwrap();
}

/// A cluster behind a firewall, the daemon beside it, and the cluster outside.
struct Sites {
    plant: Daemon,
    beside: Daemon,
    cloud: Daemon,
    /// Records that the plant has taken, by partition.
    taken: [AtomicI64; PARTITIONS as usize],
    _folder: tempfile::TempDir,
}

/// One of the logins that change.
struct Login<'a> {
    /// Where the link's half is that uses it.
    half: &'a Daemon,
    link: &'a str,
    key: &'a str,
    /// Where its user is known.
    at: &'a Daemon,
    old: &'a str,
    new: &'a str,
}

impl Sites {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let binary = Path::new(env!("CARGO_BIN_EXE_hawser"));
        let scram = |name| DaemonSpec::scram(binary, folder.path(), name);
        let reads = ["reader", "reader-2", "direct", "direct-2"].map(|user| {
            let rights = ["READ topic:*", "DESCRIBE_CONFIGS topic:*", "DESCRIBE cluster"];
            rights.map(|right| format!("User:{user} {right}")).join(";")
        });
        let plant = scram("plant").property("hawser.acls", &reads.join(";")).start().unwrap();
        let mut beside = scram("beside").property("local.bootstrap.servers", &plant.bootstrap());
        for line in scram_settings(OPERATOR, OPERATOR_PASSWORD).lines() {
            let (key, value) = line.split_once('=').unwrap();
            beside = beside.property(&format!("local.{key}"), value);
        }
        let cloud = scram("cloud").property("hawser.acls", "User:link ALTER cluster;User:link-2 ALTER cluster");
        let (beside, cloud) = (beside.start().unwrap(), cloud.start().unwrap());
        Self { plant, beside, cloud, taken: Default::default(), _folder: folder }
    }

    fn story(mut self) {
        self.make_source();
        self.make_links();
        self.while_records_flow(|sites| {
            let (plant, beside, cloud) = (&sites.plant, &sites.beside, &sites.cloud);
            for login in [
                Login { half: beside, link: "l", key: "sasl.jaas.config", at: cloud, old: "link", new: "link-2" },
                Login {
                    half: beside,
                    link: "l",
                    key: "local.sasl.jaas.config",
                    at: plant,
                    old: "reader",
                    new: "reader-2",
                },
                Login { half: cloud, link: "d", key: "sasl.jaas.config", at: plant, old: "direct", new: "direct-2" },
            ] {
                sites.rotate(&login);
            }
        });

        // Every connection is made anew, first of halves that have changed while they ran, then of halves that read their
        // settings from the disk. Only the new logins exist.
        self.cloud.stop().unwrap();
        self.plant.stop().unwrap();
        self.plant.start().unwrap();
        self.cloud.start().unwrap();
        self.await_active();
        self.while_records_flow(Self::records_arrive);
        self.beside.stop().unwrap();
        self.cloud.stop().unwrap();
        self.cloud.start().unwrap();
        self.beside.start().unwrap();
        self.await_active();
        self.while_records_flow(Self::records_arrive);

        // Nothing is lost, nothing is there twice.
        let taken = self.taken();
        caught_up(&self.cloud, TOPIC, taken);
        caught_up(&self.cloud, DIRECT_TOPIC, taken);
        for daemon in [&mut self.plant, &mut self.beside, &mut self.cloud] {
            daemon.stop().unwrap();
            let log = daemon.log();
            assert!(!log.contains("panicked") && !log.contains("-secret"), "{log}");
        }
        for partition in 0..PARTITIONS {
            let segment = |daemon: &Daemon, topic: &str| {
                std::fs::read(daemon.data_dir().join(format!("{topic}-{partition}/00000000000000000000.log"))).unwrap()
            };
            let sent = segment(&self.plant, TOPIC);
            assert!(!sent.is_empty() && segment(&self.cloud, TOPIC) == sent, "{TOPIC}-{partition}");
            assert!(segment(&self.cloud, DIRECT_TOPIC) == sent, "{DIRECT_TOPIC}-{partition}");
        }
    }

    /// Whoever refuses, the half whose login it is shows AUTHENTICATION_ERROR with the reason, in every face.
    fn refusals(mut self) {
        self.make_source();
        self.make_links();

        // The source's cluster refuses the half that dials it and the one that lends it.
        for user in ["reader", "direct"] {
            remove_user(&self.plant, user);
        }
        self.plant.stop().unwrap();
        self.plant.start().unwrap();
        for (daemon, link) in [(&self.cloud, "d"), (&self.beside, "l"), (&self.cloud, "l")] {
            login_is_refused(daemon, link);
        }
        for topic in [TOPIC, DIRECT_TOPIC] {
            until("the mirror shows it", || {
                let mirror = json(&self.cloud, &["mirror", "describe", topic]);
                if mirror["mirror_status"] == "LINK_FAILED" { Ok(()) } else { Err(mirror.to_string()) }
            });
        }
        let metrics = self.cloud.metrics().unwrap();
        for line in [
            "hawser_link_state{link=\"d\",state=\"FAILED\",error=\"AUTHENTICATION_ERROR\"} 1",
            "hawser_link_mirrors{link=\"d\",status=\"LINK_FAILED\"} 1",
            "hawser_link_up{link=\"d\",mode=\"DESTINATION\"} 0",
        ] {
            assert!(metrics.contains(line), "{line}:\n{metrics}");
        }
        for user in ["reader", "direct"] {
            add_user(&self.plant, user);
        }
        self.await_active();

        // The destination refuses the source half.
        remove_user(&self.cloud, "link");
        self.cloud.stop().unwrap();
        self.cloud.start().unwrap();
        login_is_refused(&self.beside, "l");
        await_state(&self.cloud, "l", "UNAVAILABLE", "no source half is connected");
        add_user(&self.cloud, "link");
        self.await_active();
        for daemon in [&mut self.plant, &mut self.beside, &mut self.cloud] {
            daemon.stop().unwrap();
            let log = daemon.log();
            assert!(!log.contains("panicked") && !log.contains("-secret"), "{log}");
        }
    }

    /// The topic at the plant, and the logins of the links.
    fn make_source(&self) {
        let admin = log_in(&self.plant, OPERATOR, OPERATOR_PASSWORD).unwrap();
        // What is written is of 2023: it is to stay, however slow the machine is.
        let keep = CreatableTopicConfig::default()
            .with_name(StrBytes::from_static_str("retention.ms"))
            .with_value(Some(StrBytes::from_static_str("-1")));
        let topic =
            CreatableTopic::default().with_name(name()).with_num_partitions(PARTITIONS).with_replication_factor(1);
        let topic = topic.with_configs(vec![keep]);
        let made = call(&admin, &CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000));
        assert_eq!(made.topics[0].error_code, 0, "{made:?}");
        for (at, user) in [(&self.cloud, "link"), (&self.plant, "reader"), (&self.plant, "direct")] {
            add_user(at, user);
        }
    }

    fn make_links(&self) {
        let (plant, beside, cloud) = (&self.plant, &self.beside, &self.cloud);
        cloud.run(&["link", "create", "l", "--config", "link.mode=DESTINATION,connection.mode=INBOUND"]).unwrap();
        let own = client_lines("link", "");
        let local = client_lines("reader", "local.");
        let half = file(beside, &format!("link.mode=SOURCE\nbootstrap.servers={}\n{own}{local}", cloud.bootstrap()));
        beside.run(&["link", "create", "l", "--config-file", half.to_str().unwrap()]).unwrap();
        let (own, to) = (client_lines("direct", ""), plant.bootstrap());
        let half = format!("link.mode=DESTINATION\nbootstrap.servers={to}\ncluster.link.prefix=direct.\n{own}");
        let half = file(cloud, &half);
        cloud.run(&["link", "create", "d", "--config-file", half.to_str().unwrap()]).unwrap();
        for (link, topic) in [("l", TOPIC), ("d", DIRECT_TOPIC)] {
            let create = ["mirror", "create", topic, "--link", link, "--source-topic", TOPIC];
            cloud.run(if link == "l" { &create[..5] } else { &create }).unwrap();
        }
        self.await_active();
    }

    /// The new user is made; a slip in its password is refused and harms nothing; the login changes; the old user goes.
    fn rotate(&self, login: &Login<'_>) {
        let Login { half, link, key, at, old, new } = login;
        add_user(at, new);
        let update = |password: &str| {
            let to = file(half, &format!("{key}={}\n", jaas(SCRAM_MODULE, new, password)));
            half.command(&["link", "configuration", "update", link, "--config", to.to_str().unwrap()]).unwrap()
        };
        let slip = update("not-the-secret");
        refused(&slip, "nothing was changed, as the link works and with these settings it would not");
        assert!(slip.stderr.contains("authentication failed with SCRAM-SHA-512"), "{slip:?}");
        assert!(!slip.stderr.contains("-secret"), "{slip:?}");
        self.records_arrive();
        assert_eq!(update(&password(new)).stdout, format!("Updated cluster link \"{link}\".\n"));
        remove_user(at, old);
        let gone = log_in(at, old, &password(old)).map(drop);
        assert!(matches!(&gone, Err(error) if error.is_authentication()), "{gone:?}");
        self.records_arrive();
    }

    /// Records that the plant takes from now on come to both mirrors.
    fn records_arrive(&self) {
        let more = self.taken() + 10 * RECORDS;
        until("more records", || if self.taken() >= more { Ok(()) } else { Err(self.taken().to_string()) });
        for topic in [TOPIC, DIRECT_TOPIC] {
            until("records arrive", || {
                let mirror = json(&self.cloud, &["mirror", "describe", topic]);
                let ends =
                    mirror["partitions"].as_array().into_iter().flatten().filter_map(|p| p["log_end_offset"].as_i64());
                if ends.sum::<i64>() >= more { Ok(()) } else { Err(mirror.to_string()) }
            });
        }
    }

    fn await_active(&self) {
        for (daemon, link) in [(&self.beside, "l"), (&self.cloud, "l"), (&self.cloud, "d")] {
            await_state(daemon, link, "ACTIVE", "");
        }
        until("mirrors", || match inactive(&self.cloud).as_slice() {
            [] => Ok(()),
            seen => Err(seen.join("; ")),
        });
    }

    fn taken(&self) -> i64 {
        self.taken.iter().map(|taken| taken.load(Ordering::Relaxed)).sum()
    }

    /// Does `act` while a producer writes, and while what the destination shows is looked at: always ACTIVE.
    fn while_records_flow(&self, act: impl FnOnce(&Self)) {
        let is_over = &AtomicBool::new(false);
        let runtime = &Handle::current();
        thread::scope(|scope| {
            // However `act` ends.
            let _over = Over(is_over);
            scope.spawn(move || runtime.block_on(self.produce(is_over)));
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    assert_eq!(inactive(&self.cloud), [""; 0]);
                    thread::sleep(Duration::from_millis(20));
                }
            });
            act(self);
        });
    }

    /// Writes batch after batch, each at the offset that follows what was acknowledged before.
    async fn produce(&self, is_over: &AtomicBool) {
        let client = dial(&self.plant, OPERATOR, OPERATOR_PASSWORD).await.unwrap();
        while !is_over.load(Ordering::Relaxed) {
            for (partition, taken) in (0..).zip(&self.taken) {
                let first = taken.load(Ordering::Relaxed);
                let records = (first..first + RECORDS).map(|at| Record::value(format!("{partition}: order {at}")));
                let batch = records.fold(BatchBuilder::at(0).codec(Codec::Lz4), BatchBuilder::record).build();
                let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch));
                let topic = TopicProduceData::default().with_name(name()).with_partition_data(vec![data]);
                let request =
                    ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![topic]);
                let (_, answer) = client.call(&request, 9, WAIT).await.unwrap();
                let told = &answer.responses[0].partition_responses[0];
                assert_eq!((told.error_code, told.base_offset), (0, first), "{told:?}");
                taken.store(first + RECORDS, Ordering::Relaxed);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Says on its end that all is over.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn login_is_refused(half: &Daemon, link: &str) {
    until("the refusal shows", || {
        let shown = json(half, &["link", "describe", link]);
        let why = shown["error_message"].as_str().unwrap_or_default();
        let is_named = shown["state"] == "FAILED" && shown["error"] == "AUTHENTICATION_ERROR";
        if is_named && why.contains("SCRAM-SHA-512") { Ok(()) } else { Err(shown.to_string()) }
    });
}

/// Links and mirrors that `daemon` shows as anything but ACTIVE.
fn inactive(daemon: &Daemon) -> Vec<String> {
    let shown: Value = serde_json::from_str(&daemon.status().unwrap()).unwrap();
    let all = |list: &str| shown[list].as_array().cloned().unwrap_or_default();
    let (links, mirrors) = (all("links"), all("mirrors"));
    assert_eq!((links.len(), mirrors.len()), (2, 2), "{shown}");
    let links = links.iter().filter(|link| link["state"] != "ACTIVE");
    links.chain(mirrors.iter().filter(|mirror| mirror["status"] != "ACTIVE")).map(Value::to_string).collect()
}

fn password(user: &str) -> String {
    format!("{user}-secret")
}

fn name() -> TopicName {
    TopicName(StrBytes::from_static_str(TOPIC))
}

/// Client settings of `user`, with `prefix` before each key.
fn client_lines(user: &str, prefix: &str) -> String {
    scram_settings(user, &password(user)).lines().map(|line| format!("{prefix}{line}\n")).collect()
}

fn file(daemon: &Daemon, text: &str) -> PathBuf {
    let path = daemon.folder().join("settings.config");
    std::fs::write(&path, text).unwrap();
    path
}

fn add_user(at: &Daemon, user: &str) {
    let salt = b"twenty bytes of salt";
    let mut salted = vec![0; 64];
    pbkdf2::pbkdf2_hmac::<sha2::Sha512>(password(user).as_bytes(), salt, ITERATIONS, &mut salted);
    let upsertion = ScramCredentialUpsertion::default()
        .with_name(StrBytes::from_string(user.to_owned()))
        .with_mechanism(SCRAM_SHA_512)
        .with_iterations(ITERATIONS.cast_signed())
        .with_salt(salt.to_vec().into())
        .with_salted_password(salted.into());
    alter_users(at, &AlterUserScramCredentialsRequest::default().with_upsertions(vec![upsertion]));
}

fn remove_user(at: &Daemon, user: &str) {
    let name = StrBytes::from_string(user.to_owned());
    let deletion = ScramCredentialDeletion::default().with_name(name).with_mechanism(SCRAM_SHA_512);
    alter_users(at, &AlterUserScramCredentialsRequest::default().with_deletions(vec![deletion]));
}

fn alter_users(at: &Daemon, request: &AlterUserScramCredentialsRequest) {
    let answer = call(&log_in(at, OPERATOR, OPERATOR_PASSWORD).unwrap(), request);
    assert_eq!(answer.results[0].error_code, 0, "{answer:?}");
}

fn log_in(at: &Daemon, user: &str, password: &str) -> Result<KafkaClient, DialError> {
    Handle::current().block_on(dial(at, user, password))
}

async fn dial(at: &Daemon, user: &str, password: &str) -> Result<KafkaClient, DialError> {
    let settings = hawser_link::Properties::parse("client", &scram_settings(user, password));
    let security = ClientSecurity::from_properties(&settings).unwrap();
    let stream = security.dial(&at.bootstrap().parse::<HostPort>().unwrap(), WAIT).await?;
    Ok(KafkaClient::start(stream, ClientOptions::default()).await.unwrap())
}

fn call<M: Request>(client: &KafkaClient, request: &M) -> M::Response {
    Handle::current().block_on(client.call(request, i16::MAX, WAIT)).unwrap().1
}
