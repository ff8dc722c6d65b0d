//! `cargo bench --bench operate`: what many mirrors, consumer groups and ACLs cost, on two real daemons over TLS and SASL.
//!
//! The source is the fake one, inside this process; both halves are processes of their own, so that CPU is the kernel's
//! accounting. Nothing is asserted: a figure is read, not tested.
//!
//! 1. 1,000 partitions, as 1,000 topics and as one: `hawser mirror list`, then from `hawser mirror promote` until every mirror
//!    shows STOPPED. New daemons for each run, `HAWSER_BENCH_RUNS` of both shapes.
//! 2. CPU of each half for a pass of the offset sync over 5,000 groups and of the ACL sync over 10,000 ACLs, when nothing
//!    changes.
//!
//! `HAWSER_BENCH_ONLY` names one part: `topics` or `partitions` (the two shapes), or `syncs`.

mod halves;
mod usage;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use halves::Halves;
use hawser_testkit::batches::BatchBuilder;
use hawser_testkit::fake_source::FakeSource;
use hawser_transport::{Listener, ServerSecurity};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use usage::{commands_cpu_seconds, cpu_seconds};

/// Runs of each shape unless `HAWSER_BENCH_RUNS` says otherwise.
const RUNS: u64 = 3;
/// Records of 100 bytes in each partition.
const RECORDS: usize = 100;
const LISTS: usize = 11;
const GROUPS: usize = 5_000;
/// Offsets that each group has committed, each in a partition of its own.
const OFFSETS_PER_GROUP: usize = 4;
const WORK: &str = "work";
const WORK_PARTITIONS: usize = 12;
const ACL_TOPICS: usize = 1_000;
const ACLS_PER_TOPIC: usize = 10;
/// How long passes are counted.
const LOOK: Duration = Duration::from_secs(20);
/// Between two looks at a daemon: its answer costs it CPU, which counts.
const REST: Duration = Duration::from_millis(100);
/// What flushes and first fetches leave to do.
const SETTLE: Duration = Duration::from_secs(8);
const LIMIT: Duration = Duration::from_secs(300);

/// Both syncs off, and as rarely as may be what else would be counted with them.
const QUIET: &str = "consumer.offset.sync.enable=false\nconsumer.offset.sync.ms=1000\n\
    consumer.offset.group.filters={\"groupFilters\":[{\"name\":\"*\",\"patternType\":\"LITERAL\",\"filterType\":\"INCLUDE\"}]}\n\
    acl.sync.enable=false\nacl.sync.ms=1000\n\
    acl.filters={\"aclFilters\":[{\"resourceFilter\":{\"resourceType\":\"any\",\"patternType\":\"any\"},\
    \"accessFilter\":{\"operation\":\"any\",\"permissionType\":\"any\"}}]}\n\
    topic.config.sync.ms=3600000\n";
/// Has every topic mirrored.
const ALL_TOPICS: &str = "auto.create.mirror.topics.enable=true\n\
    auto.create.mirror.topics.filters={\"topicFilters\":[{\"name\":\"*\",\"patternType\":\"LITERAL\",\"filterType\":\"INCLUDE\"}]}\n";

fn main() -> Result<()> {
    let only = std::env::var("HAWSER_BENCH_ONLY").unwrap_or_default();
    let parts = ["topics", "partitions", "syncs"];
    ensure!(only.is_empty() || parts.contains(&only.as_str()), "HAWSER_BENCH_ONLY={only}: there are {parts:?}");
    let is_asked = |part: &str| only.is_empty() || only == part;
    for run in 1..=runs()? {
        if is_asked("topics") {
            promote(run, 1_000, 1)?;
        }
        if is_asked("partitions") {
            promote(run, 1, 1_000)?;
        }
    }
    if is_asked("syncs") { syncs() } else { Ok(()) }
}

/// Lists and promotes `topics` of `partitions` each.
fn promote(run: u64, topics: usize, partitions: i32) -> Result<()> {
    let runtime = Runtime::new()?;
    let source = source(&runtime)?;
    for topic in 0..topics {
        let name = format!("t{topic:04}");
        source.create(&name, partitions);
        (0..partitions).for_each(|partition| source.append(&name, partition, records()));
    }
    let mut halves = Halves::start(&bootstrap(&source), None)?;
    halves.configure(ALL_TOPICS)?;
    until("all mirrors are ACTIVE and hold everything", || Ok(standing(&halves, "ACTIVE")? == topics))?;
    std::thread::sleep(SETTLE);
    let shape = format!("run {run}, {topics} topics of {partitions}");

    let destination = halves.pids()?[1];
    let (cpu, command_cpu, mut lists) = (cpu_seconds(destination)?, commands_cpu_seconds()?, Vec::new());
    for _ in 0..LISTS {
        let began = Instant::now();
        halves.destination.run(&["mirror", "list"])?;
        lists.push(began.elapsed());
    }
    lists.sort();
    let each = |before: f64, now: f64| (now - before) / LISTS as f64 * 1e3;
    println!(
        "{shape}: list {:.0?}, longest {:.0?}; CPU of the command {:.0} ms, of the destination {:.0} ms",
        lists[LISTS / 2],
        lists[LISTS - 1],
        each(command_cpu, commands_cpu_seconds()?),
        each(cpu, cpu_seconds(destination)?)
    );

    let (began, cpu) = (Instant::now(), cpu_seconds(destination)?);
    halves.destination.run(&["mirror", "promote", "--link", halves::LINK, "--pattern", ".*"])?;
    let (answered, mut looks) = (began.elapsed(), 0);
    until("all mirrors are STOPPED", || {
        looks += 1;
        Ok(standing(&halves, "STOPPED")? == topics)
    })?;
    let (stopped, cpu) = (began.elapsed(), cpu_seconds(destination)? - cpu);
    println!(
        "{shape}: promotion answered after {answered:.0?}, all STOPPED after {stopped:.0?}, CPU of the destination {cpu:.2} s, \
         {looks} looks among it"
    );
    Ok(())
}

/// How many mirrors are in `status` and lack nothing.
fn standing(halves: &Halves, status: &str) -> Result<usize> {
    let text = halves.destination.run(&["mirror", "list", "--output", "json"])?;
    let mirrors: Vec<serde_json::Value> = serde_json::from_str(&text).context("mirror list")?;
    let stands = |m: &&serde_json::Value| m["mirror_status"] == status && m["max_per_partition_mirror_lag"] == 0;
    Ok(mirrors.iter().filter(stands).count())
}

/// Counts what passes cost that find nothing to do.
fn syncs() -> Result<()> {
    let runtime = Runtime::new()?;
    let source = source(&runtime)?;
    source.create(WORK, WORK_PARTITIONS as i32);
    (0..WORK_PARTITIONS).for_each(|partition| source.append(WORK, partition as i32, records()));
    for group in 0..GROUPS {
        for offset in 0..OFFSETS_PER_GROUP {
            let partition = (group + offset) % WORK_PARTITIONS;
            source.commit(&format!("group-{group:04}"), WORK, partition as i32, (group % RECORDS) as i64);
        }
    }
    for topic in 0..ACL_TOPICS {
        (0..ACLS_PER_TOPIC)
            .for_each(|user| source.allow_read(&format!("topic-{topic:04}"), &format!("User:user-{user}")));
    }
    let mut halves = Halves::start(&bootstrap(&source), None)?;
    halves.configure(QUIET)?;
    halves.mirror(WORK)?;
    until("the mirror holds everything", || Ok(standing(&halves, "ACTIVE")? == 1))?;
    std::thread::sleep(SETTLE);
    look(&mut halves, "neither sync", None)?;
    let offsets = (GROUPS * OFFSETS_PER_GROUP) as f64;
    halves.configure("consumer.offset.sync.enable=true\n")?;
    look(&mut halves, "offsets of 5,000 groups", Some(("ConsumerOffsetSync", offsets)))?;
    halves.configure("consumer.offset.sync.enable=false\nacl.sync.enable=true\n")?;
    look(&mut halves, "10,000 ACLs", Some(("AclSync", (ACL_TOPICS * ACLS_PER_TOPIC) as f64)))
}

/// Once the first pass of a task has written all there is to write, what the next ones cost; without a task, what a second
/// costs.
fn look(halves: &mut Halves, what: &str, task: Option<(&str, f64)>) -> Result<()> {
    let counted = |halves: &Halves, series: &str| match task {
        Some((task, _)) => sample(&halves.destination.metrics()?, series, task),
        None => Ok(0.0),
    };
    if let Some((_, all)) = task {
        until("the first pass has written everything", || Ok(counted(halves, "hawser_sync_changes_total")? >= all))?;
        std::thread::sleep(SETTLE);
    }
    let pids = halves.pids()?;
    let [source, destination] = [cpu_seconds(pids[0])?, cpu_seconds(pids[1])?];
    let (passes, changes) =
        (counted(halves, "hawser_sync_passes_total")?, counted(halves, "hawser_sync_changes_total")?);
    std::thread::sleep(LOOK);
    let per = |before: f64, pid: u32, times: f64| Ok::<_, anyhow::Error>((cpu_seconds(pid)? - before) / times * 1e3);
    let passes = counted(halves, "hawser_sync_passes_total")? - passes;
    let changes = counted(halves, "hawser_sync_changes_total")? - changes;
    let (unit, times) = if task.is_some() { ("pass", passes) } else { ("second", LOOK.as_secs_f64()) };
    println!(
        "{what}: {passes} passes that wrote {changes} changes; CPU a {unit}: source half {:.0} ms, destination half {:.0} ms",
        per(source, pids[0], times)?,
        per(destination, pids[1], times)?
    );
    Ok(())
}

/// The value of the series of `task`, 0 before its first pass.
fn sample(metrics: &str, series: &str, task: &str) -> Result<f64> {
    let is_meant = |line: &&str| line.starts_with(series) && line.contains(task);
    let line = metrics.lines().find(is_meant);
    line.and_then(|line| line.rsplit(' ').next()).map_or(Ok(0.0), |value| value.parse().context("a sample"))
}

fn source(runtime: &Runtime) -> Result<FakeSource> {
    runtime.block_on(async {
        let listener = Listener::bind("127.0.0.1:0".parse()?, ServerSecurity::plaintext()).await?;
        Ok(FakeSource::start(vec![listener]))
    })
}

fn bootstrap(source: &FakeSource) -> String {
    source.addresses().iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn records() -> Bytes {
    BatchBuilder::at(0).records(RECORDS, 100).build()
}

fn until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let began = Instant::now();
    while !is_so()? {
        ensure!(began.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        std::thread::sleep(REST);
    }
    Ok(())
}

fn runs() -> Result<u64> {
    let name = "HAWSER_BENCH_RUNS";
    std::env::var(name).map_or(Ok(RUNS), |v| v.parse().with_context(|| format!("{name}={v} is not a number")))
}
