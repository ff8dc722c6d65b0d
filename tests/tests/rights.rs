//! Who may do what, made and taken away with Kafka's own tools as they are: `kafka-acls`, `kafka-configs` for users, and
//! `kafka-consumer-groups`.

use anyhow::{Context, Result, ensure};
use hawser_testkit::daemon::{Daemon, DaemonSpec, OPERATOR, OPERATOR_PASSWORD, jaas};
use hawser_testkit::kafka::{Home, ToolOutput, Version, scratch_folder};
use hawser_tests::binary;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const ACLS: &str = "org.apache.kafka.tools.AclCommand";
const CONFIGS: &str = "kafka.admin.ConfigCommand";
const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
const PLAIN: &str = "org.apache.kafka.common.security.plain.PlainLoginModule";
const SCRAM: &str = "org.apache.kafka.common.security.scram.ScramLoginModule";

/// A daemon that lets the operator in with PLAIN, and whoever is made with SCRAM.
struct Bench {
    daemon: Daemon,
    home: Home,
    folder: tempfile::TempDir,
}

impl Bench {
    fn start() -> Result<Self> {
        let folder = scratch_folder("rights")?;
        let users = format!("{PLAIN} required user_{OPERATOR}=\"{OPERATOR_PASSWORD}\";");
        let daemon = DaemonSpec::new(&binary()?, folder.path(), "store", "SASL_PLAINTEXT")
            .property("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-512")
            .property("listener.name.sasl_plaintext.plain.sasl.jaas.config", &users)
            .start()?;
        let bench = Self { daemon, home: Home::find(Version::V4_3)?, folder };
        bench.client_file(OPERATOR, "PLAIN", PLAIN, OPERATOR_PASSWORD)?;
        Ok(bench)
    }

    fn client_file(&self, user: &str, mechanism: &str, module: &str, password: &str) -> Result<PathBuf> {
        let file = self.folder.path().join(format!("{user}.properties"));
        let text = format!(
            "security.protocol=SASL_PLAINTEXT\nsasl.mechanism={mechanism}\nsasl.jaas.config={}\n\
             default.api.timeout.ms=20000\nrequest.timeout.ms=20000\n",
            jaas(module, user, password)
        );
        fs::write(&file, text)?;
        Ok(file)
    }

    fn file(&self, user: &str) -> String {
        self.folder.path().join(format!("{user}.properties")).display().to_string()
    }

    fn try_as(&self, user: &str, class: &str, args: &[&str]) -> Result<ToolOutput> {
        let bootstrap = self.daemon.bootstrap();
        let file = self.file(user);
        let tool = self.home.tool(class).args(["--bootstrap-server", &bootstrap, "--command-config", &file]);
        tool.args(args).output()
    }

    fn run(&self, class: &str, args: &[&str]) -> Result<String> {
        let said = self.try_as(OPERATOR, class, args)?;
        // Some tools end with 0 whatever happened.
        ensure!(
            said.status.success() && !said.stderr.contains("Exception"),
            "{args:?}: {}{}",
            said.stdout,
            said.stderr
        );
        Ok(said.stdout)
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| path.display().to_string())
}

/// What `kafka-acls --list` shows, resource by resource. Its order is that of Java's hash sets, not the same in each process.
fn rights(shown: &str) -> BTreeSet<BTreeSet<&str>> {
    let resources = shown.split("Current ACLs for resource");
    resources.map(|resource| resource.lines().map(str::trim).filter(|line| !line.is_empty()).collect()).collect()
}

#[test]
#[ignore = "needs stock Kafka: cargo xtask kafka"]
fn stock_tools_make_users_and_rights() -> Result<()> {
    let mut bench = Bench::start()?;
    bench.run(TOPICS, &["--create", "--topic", "orders", "--partitions", "2"])?;

    // A user, as the walk-throughs make one.
    let password = "a-password-that-is-kept-salted-only";
    let user = ["--entity-type", "users", "--entity-name", "ann"];
    let add = format!("SCRAM-SHA-512=[iterations=8192,password={password}]");
    bench.run(CONFIGS, &[&["--alter", "--add-config", &add][..], &user].concat())?;
    let described = bench.run(CONFIGS, &[&["--describe"][..], &user].concat())?;
    ensure!(described.contains("SCRAM-SHA-512=iterations=8192"), "{described}");
    bench.client_file("ann", "SCRAM-SHA-512", SCRAM, password)?;
    let list = || -> Result<String> { Ok(bench.try_as("ann", TOPICS, &["--list"])?.stdout) };
    ensure!(!list()?.contains("orders"), "ann has no rights yet");

    // Rights, with the tool's shorthands.
    let who = ["--add", "--allow-principal", "User:ann"];
    bench.run(ACLS, &[&who[..], &["--consumer", "--topic", "orders", "--group", "app"]].concat())?;
    bench.run(ACLS, &[&who[..], &["--producer", "--topic", "ord", "--resource-pattern-type", "prefixed"]].concat())?;
    let deny = ["--add", "--deny-principal", "User:ann", "--deny-host", "10.9.9.9", "--operation", "All", "--cluster"];
    bench.run(ACLS, &deny)?;
    let shown = bench.run(ACLS, &["--list"])?;
    for part in [
        "ResourcePattern(resourceType=TOPIC, name=orders, patternType=LITERAL)",
        "ResourcePattern(resourceType=GROUP, name=app, patternType=LITERAL)",
        "ResourcePattern(resourceType=TOPIC, name=ord, patternType=PREFIXED)",
        "(principal=User:ann, host=10.9.9.9, operation=ALL, permissionType=DENY)",
        "(principal=User:ann, host=*, operation=WRITE, permissionType=ALLOW)",
    ] {
        ensure!(shown.contains(part), "{part} in {shown}");
    }
    // An idempotent producer's, of her own line, come and go by the same flags; the tool lists by principal and by resource.
    let idempotent = ["--allow-principal", "User:ann", "--producer", "--idempotent", "--topic", "events"];
    bench.run(ACLS, &[&["--add"][..], &idempotent].concat())?;
    let hers = bench.run(ACLS, &["--list", "--principal", "User:ann", "--cluster", "--topic", "events"])?;
    for operation in ["WRITE", "CREATE", "DESCRIBE", "IDEMPOTENT_WRITE"] {
        let entry = format!("(principal=User:ann, host=*, operation={operation}, permissionType=ALLOW)");
        ensure!(hers.contains(&entry), "{entry} in {hers}");
    }
    ensure!(!hers.contains("name=ord,"), "only what was asked for: {hers}");
    let nobodys = bench.run(ACLS, &["--list", "--principal", "User:bob", "--topic", "events"])?;
    ensure!(!nobodys.contains("operation="), "{nobodys}");
    bench.run(ACLS, &[&["--remove", "--force"][..], &idempotent].concat())?;
    let left = bench.run(ACLS, &["--list"])?;
    ensure!(rights(&left) == rights(&shown), "what was added is removed, and nothing else: {left}\nbefore: {shown}");
    ensure!(list()?.contains("orders"), "ann may see what she may read");
    let refused = bench.try_as("ann", ACLS, &["--list"])?;
    ensure!(refused.stdout.contains("ClusterAuthorization") || refused.stderr.contains("ClusterAuthorization"));

    // Groups: what their members commit, tools see, move and forget.
    let reset = ["--group", "app", "--topic", "orders", "--reset-offsets", "--to-earliest", "--execute"];
    let moved = bench.try_as("ann", GROUPS, &reset)?;
    ensure!(moved.status.success() && moved.stdout.contains("orders"), "{}{}", moved.stdout, moved.stderr);
    let groups = bench.run(GROUPS, &["--list", "--state"])?;
    ensure!(groups.contains("app") && groups.contains("Empty"), "{groups}");
    let group = bench.run(GROUPS, &["--describe", "--group", "app"])?;
    ensure!(group.contains("orders") && group.contains("app"), "{group}");
    bench.run(GROUPS, &["--delete-offsets", "--group", "app", "--topic", "orders:0"])?;
    let group = bench.run(GROUPS, &["--describe", "--group", "app", "--offsets"])?;
    let rows = group.lines().filter(|line| line.contains("orders")).count();
    ensure!(rows == 1, "one partition is left: {group}");
    let deleted = bench.run(GROUPS, &["--delete", "--group", "app"])?;
    ensure!(deleted.contains("successful"), "{deleted}");

    // All of it outlives a restart; the password is nowhere.
    bench.daemon.stop()?;
    for entry in fs::read_dir(bench.daemon.data_dir())? {
        let path = entry?.path();
        if path.is_file() {
            let bytes = read(&path)?;
            ensure!(!bytes.windows(password.len()).any(|window| window == password.as_bytes()), "{}", path.display());
        }
    }
    bench.daemon.start()?;
    let kept = bench.run(ACLS, &["--list"])?;
    ensure!(rights(&kept) == rights(&shown), "the same rights as before: {kept}\nbefore: {shown}");
    ensure!(bench.try_as("ann", TOPICS, &["--list"])?.stdout.contains("orders"), "ann logs in as before");

    bench.run(ACLS, &["--remove", "--force", "--topic", "orders", "--resource-pattern-type", "match"])?;
    ensure!(!bench.try_as("ann", TOPICS, &["--list"])?.stdout.contains("orders"), "no right is left");
    bench.run(CONFIGS, &[&["--alter", "--delete-config", "SCRAM-SHA-512"][..], &user].concat())?;
    let gone = bench.try_as("ann", TOPICS, &["--list"])?;
    ensure!(
        gone.stderr.contains("SaslAuthentication") || gone.stdout.contains("SaslAuthentication"),
        "{}",
        gone.stderr
    );
    Ok(())
}
