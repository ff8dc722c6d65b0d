//! Clients that are not Kafka's own, each in a Python environment that `cargo xtask kafka` makes: two releases of librdkafka
//! and a client that is neither.

use crate::sessions::{Run, Session};
use anyhow::{Context, Result, bail, ensure};
use hawser_testkit::kafka::{Digest, Isolation, cache_dir};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// User, password and the authority's file of a SASL_SSL listener with PLAIN.
pub type Login<'a> = (&'a str, &'a str, &'a Path);

/// A client library by its environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// librdkafka, an older release.
    LibrdkafkaOld,
    /// librdkafka, a current release.
    LibrdkafkaNew,
    /// kafka-python.
    KafkaPython,
}

impl Client {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::LibrdkafkaOld, Self::LibrdkafkaNew, Self::KafkaPython];

    fn environment(self) -> &'static str {
        match self {
            Self::LibrdkafkaOld => "venv-librdkafka-old",
            Self::LibrdkafkaNew => "venv-librdkafka-new",
            Self::KafkaPython => "venv-kafka-python",
        }
    }

    /// Reads `topics` from their beginning as [`hawser_testkit::kafka::Driver::digest`] does. Without `login`, the
    /// listener asks for none.
    ///
    /// # Errors
    /// When the environment is not there or the client fails.
    pub fn digest(
        self,
        bootstrap: &str,
        login: Option<Login<'_>>,
        isolation: Isolation,
        topics: &[&str],
    ) -> Result<Vec<Digest>> {
        let program = match self {
            Self::KafkaPython => "digest_kafka_python.py",
            Self::LibrdkafkaOld | Self::LibrdkafkaNew => "digest_librdkafka.py",
        };
        let args = [&[bootstrap, isolation.as_str()], topics].concat();
        let text = self.run(program, &args, login, "")?;
        text.lines().map(|line| Digest::parse(line).with_context(|| format!("read {line:?}"))).collect()
    }

    /// What `sessions` read, one after the other; `login` as for [`digest`](Self::digest). For librdkafka only.
    ///
    /// # Errors
    /// When the environment is not there or the client fails.
    pub fn consume(self, bootstrap: &str, login: Option<Login<'_>>, sessions: &[Session]) -> Result<Vec<Run>> {
        let input: String = sessions.iter().map(|session| session.words().join("\t") + "\n").collect();
        let text = self.run("consume_librdkafka.py", &[bootstrap], login, &input)?;
        text.lines().map(|line| Run::parse(line).with_context(|| format!("read {line:?}"))).collect()
    }

    /// Writes the numbers below `count` to partition 0 of `topic` as an idempotent producer, about `rate` of them a second, until
    /// all are acknowledged. For librdkafka only.
    ///
    /// # Errors
    /// When the environment is not there or a record is not acknowledged.
    pub fn produce(self, bootstrap: &str, topic: &str, count: usize, rate: usize) -> Result<()> {
        let (count, rate) = (count.to_string(), rate.to_string());
        self.run("produce_librdkafka.py", &[bootstrap, topic, &count, &rate], None, "").map(drop)
    }

    /// What a transactional producer says that is refused at its beginning: the error's name, whether it is fatal, its words,
    /// with tabs between. For librdkafka only.
    ///
    /// # Errors
    /// When the environment is not there or the producer is not refused.
    pub fn transact(self, bootstrap: &str) -> Result<String> {
        self.run("transact_librdkafka.py", &[bootstrap], None, "")
    }

    /// Runs `program` of the clients' folder to its end; gives what it prints.
    fn run(self, program: &str, args: &[&str], login: Option<Login<'_>>, input: &str) -> Result<String> {
        let python = cache_dir().join(self.environment()).join("bin/python");
        if !python.is_file() {
            bail!("no {}: run `cargo xtask kafka`", python.display());
        }
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(program);
        let mut command = Command::new("timeout");
        command.arg("180").arg(python).arg(program).args(args);
        if let Some((user, password, authority)) = login {
            command.env("KAFKA_USER", user).env("KAFKA_PASSWORD", password).env("KAFKA_CA", authority);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("start {self:?}"))?;
        // Inputs are short: a pipe holds them whole.
        child.stdin.take().context("stdin")?.write_all(input.as_bytes())?;
        let output = child.wait_with_output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{self:?}: {}\n{errors}", output.status);
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// What every other client reads of `topics`, which must be the same for all of them.
///
/// # Errors
/// When a client fails or two differ.
pub fn digests_of_other_clients(
    bootstrap: &str,
    login: Option<Login<'_>>,
    isolation: Isolation,
    topics: &[&str],
) -> Result<Vec<Digest>> {
    let mut all = Vec::new();
    for client in Client::ALL {
        let mut digests = client.digest(bootstrap, login, isolation, topics)?;
        digests.sort();
        all.push((client, digests));
    }
    let (first, rest) = all.split_first().context("no clients")?;
    for other in rest {
        for (a, b) in first.1.iter().zip(&other.1) {
            ensure!(a == b, "{:?} and {:?} read differently: {a:?}, {b:?}", first.0, other.0);
        }
        ensure!(first.1.len() == other.1.len(), "{:?} and {:?} see other partitions", first.0, other.0);
    }
    Ok(first.1.clone())
}
