//! README's first command with stock Kafka: one that it starts itself, and one that the user has. It tells the whole story,
//! leaves no process behind, and writes nowhere but to its own folder.

use anyhow::{Context, Result, ensure};
use hawser_testkit::kafka::{Home, Kafka, Security, Version, scratch_folder};
use hawser_tests::binary;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);
/// In the environment of the command, and so of all that it starts.
const MARK: &str = "HAWSER_QUICKSTART_TEST";

/// Runs `hawser quickstart --once ARGS` in an empty folder, with empty folders as home and for temporary files; what it
/// printed, and how many processes there were at most.
fn quickstart(args: &[&OsStr]) -> Result<(String, usize)> {
    let folder = scratch_folder("quickstart")?;
    let [here, home, temporary] = ["here", "home", "tmp"].map(|name| folder.path().join(name));
    for made in [&here, &home, &temporary] {
        fs::create_dir(made)?;
    }
    let mark = folder.path().display().to_string();
    let output = folder.path().join("output");
    let mut running = Command::new(binary()?)
        .args(["quickstart", "--once"])
        .args(args)
        .current_dir(&here)
        .env(MARK, &mark)
        .env("HOME", &home)
        .env("TMPDIR", &temporary)
        .env("JAVA_TOOL_OPTIONS", format!("-Djava.io.tmpdir={}", temporary.display()))
        .stdin(Stdio::null())
        .stdout(fs::File::create(&output)?)
        .stderr(fs::File::create(folder.path().join("errors"))?)
        .spawn()?;
    let mut most = 0;
    let status = loop {
        most = most.max(marked(&mark)?.len());
        match running.try_wait()? {
            Some(status) => break status,
            None => std::thread::sleep(POLL),
        }
    };
    let (said, errors) = (fs::read_to_string(&output)?, fs::read_to_string(folder.path().join("errors"))?);
    ensure!(status.success(), "{status}\n{said}\n{errors}");
    // The shell that guards each process ends with it, a moment later.
    let (ended, mut left) = (Instant::now(), marked(&mark)?);
    while !left.is_empty() {
        ensure!(ended.elapsed() < LIMIT, "processes are left: {left:?}");
        std::thread::sleep(POLL);
        left = marked(&mark)?;
    }
    for (place, expected) in [(&here, vec!["hawser-quickstart"]), (&home, vec![]), (&temporary, vec![])] {
        let names = names(place)?;
        ensure!(names.iter().eq(&expected), "{} holds {names:?}", place.display());
    }
    Ok((said, most))
}

/// Processes with our mark, those that ended and were not waited for left out.
fn marked(mark: &str) -> Result<Vec<String>> {
    let wanted = format!("{MARK}={mark}");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let process = entry?.path();
        // It may end while we look.
        let Ok(environment) = fs::read(process.join("environ")) else { continue };
        if environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes()) {
            let command = fs::read(process.join("cmdline")).unwrap_or_default();
            found.push(String::from_utf8_lossy(&command).replace('\0', " "));
        }
    }
    Ok(found)
}

fn names(folder: &Path) -> Result<BTreeSet<String>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// Every part is in `said`, in this order.
fn ensure_told(said: &str, parts: &[&str]) -> Result<()> {
    let mut rest = said;
    for part in parts {
        let at = rest.find(part).with_context(|| format!("{part:?} lacks, or comes too early, in\n{said}"))?;
        rest = &rest[at + part.len()..];
    }
    Ok(())
}

#[test]
#[ignore = "needs stock Kafka: cargo xtask kafka"]
fn with_java_the_source_is_a_stock_kafka_of_its_own() -> Result<()> {
    let lib = Home::find(Version::V4_3)?.lib().canonicalize()?;
    let (said, most) = quickstart(&["--kafka-lib".as_ref(), lib.as_ref()])?;
    let story = [
        "== A stock Apache Kafka, the on-prem cluster",
        "SASL_PLAINTEXT, SCRAM-SHA-512",
        "Created cluster link \"from-on-prem-link\".",
        "Created mirror topic \"orders\".",
        " records, ",
        "in 6 of 6 partitions: in sync, every byte is equal.",
        "== A stock console consumer reads the mirror",
        "{\"order\":",
        "org.apache.kafka.tools.ConsoleProducer --bootstrap-server",
        "Stopping everything that was started",
    ];
    ensure_told(&said, &story)?;
    let orders = said.lines().filter(|line| line.starts_with("{\"order\":") && line.ends_with("\"}")).count();
    ensure!(orders == 5, "{orders} orders were shown\n{said}");
    // The command, Kafka, two daemons and the stream of orders.
    ensure!(most >= 5, "{most} processes at most");
    Ok(())
}

#[test]
#[ignore = "needs stock Kafka: cargo xtask kafka"]
fn a_kafka_that_the_user_has_is_the_source_and_stays_as_it_is() -> Result<()> {
    let kafka = Kafka::one_node().security(Security::ScramPlaintext).start()?;
    let mut origin = kafka.driver()?;
    origin.create_topic("invoices", 3, 1, &[])?;
    origin.send("invoices", -1, 2_000, 300, "zstd")?;
    let before = (origin.describe(&["invoices"])?, origin.offsets(&["invoices"])?);
    let (bootstrap, login) = (kafka.secure_bootstrap(), kafka.admin_file()?);
    let args = ["--source", &bootstrap, "--topic", "invoices", "--command-config"].map(OsStr::new);
    let (said, most) = quickstart(&[&args[..], &[login.as_ref()]].concat())?;
    let story = [
        "== Two daemons",
        "Created cluster link \"from-on-prem-link\".",
        "Created mirror topic \"invoices\".",
        "2000 records, ",
        "in 3 of 3 partitions: in sync, every byte is equal.",
        "mirror describe invoices",
        "Stopping everything that was started",
    ];
    ensure_told(&said, &story)?;
    ensure!(!said.contains("A stock Apache Kafka, the on-prem cluster"), "it started one of its own\n{said}");
    ensure!(most >= 3, "{most} processes at most");
    ensure!((origin.describe(&["invoices"])?, origin.offsets(&["invoices"])?) == before, "the source was changed");
    Ok(())
}
