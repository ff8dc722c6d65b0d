//! What a cluster should look like, and the properties that say so to a broker.

use super::{Jvm, Version};
use std::path::Path;

/// The super user, known to SCRAM-SHA-256 and -512.
pub const ADMIN: &str = "admin";
/// Password of [`ADMIN`].
pub const ADMIN_PASSWORD: &str = "admin-secret";
/// Users of SASL PLAIN with their passwords.
pub const PLAIN_USERS: [(&str, &str); 2] = [("bob", "bob-secret"), ("carol", "carol-secret")];

/// What the brokers' second door asks for. The first is PLAINTEXT and all-powerful.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Security {
    /// The second door is PLAINTEXT, too.
    #[default]
    Plaintext,
    /// SASL_PLAINTEXT with SCRAM-SHA-512, as the on-prem cluster of scenario A. No authorizer.
    ScramPlaintext,
    /// SASL_SSL with PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512, and an authorizer that denies what no ACL allows.
    SaslSsl,
}

/// A cluster to be started.
#[derive(Clone, Debug)]
pub struct ClusterSpec {
    pub(super) version: Version,
    pub(super) brokers: u16,
    pub(super) security: Security,
    pub(super) properties: Vec<(String, String)>,
    pub(super) wrapper: Vec<String>,
    pub(super) jvm: Jvm,
}

impl ClusterSpec {
    pub(super) fn new(brokers: u16) -> Self {
        let (version, security) = (Version::default(), Security::default());
        Self { version, brokers, security, properties: Vec::new(), wrapper: Vec::new(), jvm: Jvm::quick(192) }
    }

    /// Sets the release.
    pub fn version(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    /// Sets what the second door asks for.
    pub fn security(mut self, security: Security) -> Self {
        self.security = security;
        self
    }

    /// Runs the cluster, its tools and its driver under another program, such as `ip netns exec NAME`.
    pub fn under(mut self, wrapper: &[String]) -> Self {
        self.wrapper = wrapper.to_vec();
        self
    }

    /// Sets a property of every node, over the ones that testkit sets.
    pub fn property(mut self, key: &str, value: &str) -> Self {
        self.properties.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Sets how each node is started (quick, with 192 MiB of heap, without this).
    pub fn jvm(mut self, jvm: Jvm) -> Self {
        self.jvm = jvm;
        self
    }

    /// Properties that do not depend on the node: small and quick, with quick fencing, compaction and retention.
    pub(super) fn common_properties(&self, key_store: &Path, authority: &Path) -> String {
        let replicas = self.brokers.min(3);
        let min_isr = if replicas > 1 { 2 } else { 1 };
        let mut text = format!(
            "offsets.topic.replication.factor={replicas}\n\
             transaction.state.log.replication.factor={replicas}\n\
             transaction.state.log.min.isr={min_isr}\n\
             share.coordinator.state.topic.replication.factor={replicas}\n\
             share.coordinator.state.topic.min.isr={min_isr}\n\
             default.replication.factor={replicas}\n"
        );
        text.push_str(
            "controller.listener.names=CONTROLLER\n\
             inter.broker.listener.name=PLAINTEXT\n\
             auto.create.topics.enable=false\n\
             auto.leader.rebalance.enable=false\n\
             num.partitions=1\n\
             num.network.threads=2\n\
             num.io.threads=2\n\
             background.threads=2\n\
             log.cleaner.dedupe.buffer.size=16777216\n\
             offsets.topic.num.partitions=5\n\
             transaction.state.log.num.partitions=5\n\
             share.coordinator.state.topic.num.partitions=5\n\
             group.initial.rebalance.delay.ms=0\n\
             broker.session.timeout.ms=6000\n\
             broker.heartbeat.interval.ms=500\n\
             log.cleaner.backoff.ms=500\n\
             log.retention.check.interval.ms=1000\n\
             log.initial.task.delay.ms=500\n\
             log.segment.delete.delay.ms=1000\n\
             transaction.partition.verification.enable=true\n",
        );
        text.push_str(&self.security_properties(key_store, authority));
        for (key, value) in &self.properties {
            text.push_str(&format!("{key}={value}\n"));
        }
        text
    }

    /// Name of the second listener.
    pub(super) fn secure_listener(&self) -> &'static str {
        match self.security {
            Security::Plaintext => "SECOND",
            Security::ScramPlaintext => "SASL_PLAINTEXT",
            Security::SaslSsl => "SASL_SSL",
        }
    }

    fn security_properties(&self, key_store: &Path, authority: &Path) -> String {
        let protocols = "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SECOND:PLAINTEXT,\
                         SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL\n";
        let scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
        match self.security {
            Security::Plaintext => protocols.to_owned(),
            Security::ScramPlaintext => format!(
                "{protocols}sasl.enabled.mechanisms=SCRAM-SHA-512\n\
                 listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config={scram}\n"
            ),
            Security::SaslSsl => {
                let users: String = PLAIN_USERS.iter().map(|(u, p)| format!(" user_{u}=\"{p}\"")).collect();
                let plain = format!("org.apache.kafka.common.security.plain.PlainLoginModule required{users};");
                format!(
                    "{protocols}sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512\n\
                     ssl.keystore.type=PEM\n\
                     ssl.keystore.location={}\n\
                     ssl.truststore.type=PEM\n\
                     ssl.truststore.location={}\n\
                     listener.name.sasl_ssl.plain.sasl.jaas.config={plain}\n\
                     listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config={scram}\n\
                     listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={scram}\n\
                     authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
                     super.users=User:{ADMIN};User:ANONYMOUS\n\
                     allow.everyone.if.no.acl.found=false\n",
                    key_store.display(),
                    authority.display(),
                )
            }
        }
    }

    pub(super) fn client_properties(&self, user: &str, password: &str, mechanism: &str, authority: &Path) -> String {
        let module = match mechanism {
            "PLAIN" => "org.apache.kafka.common.security.plain.PlainLoginModule",
            _ => "org.apache.kafka.common.security.scram.ScramLoginModule",
        };
        let login = format!(
            "sasl.mechanism={mechanism}\n\
             sasl.jaas.config={module} required username=\"{user}\" password=\"{password}\";\n"
        );
        match self.security {
            Security::Plaintext => "security.protocol=PLAINTEXT\n".to_owned(),
            Security::ScramPlaintext => format!("security.protocol=SASL_PLAINTEXT\n{login}"),
            Security::SaslSsl => format!(
                "security.protocol=SASL_SSL\n{login}ssl.truststore.type=PEM\nssl.truststore.location={}\n",
                authority.display()
            ),
        }
    }
}
