//! Bar 4: the source site lets nobody in. Everything is dialled from inside.

use anyhow::{Result, ensure};
use hawser_testkit::faults::Relay;
use hawser_testkit::kafka::{Kafka, Security};
use hawser_testkit::netns::{Direction, Namespace};
use hawser_tests::{LINK, Pair};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
#[ignore = "needs root and stock Kafka: cargo xtask kafka"]
fn netns_a_site_that_drops_every_inbound_connection_is_mirrored() -> Result<()> {
    let site = Namespace::create()?;
    site.drop_inbound()?;
    let outside = site.outside().to_string();
    let kafka = Kafka::three_brokers().security(Security::ScramPlaintext).under(&site.wrapper()).start()?;
    let mut pair = Pair::unlinked(
        kafka,
        |source| source.under(&site.wrapper()),
        |destination, authority| destination.at_address(&outside, "SASL_SSL", authority),
    )?;
    pair.link_through(&pair.destination.bootstrap())?;
    pair.origin.create_topic("behind-the-firewall", 6, 3, &["min.insync.replicas=2"])?;
    pair.origin.send("behind-the-firewall", -1, 3000, 200, "lz4")?;
    let topics = ["behind-the-firewall"];
    pair.create_mirrors(&topics)?;
    pair.await_caught_up(&topics, LIMIT)?;
    for _ in 0..2 {
        pair.source.stop()?;
        pair.source.start()?;
        pair.origin.send("behind-the-firewall", -1, 1000, 200, "lz4")?;
        pair.await_caught_up(&topics, LIMIT)?;
        pair.destination.kill9()?;
        pair.destination.start()?;
        pair.origin.send("behind-the-firewall", -1, 1000, 200, "lz4")?;
        pair.await_caught_up(&topics, LIMIT)?;
    }
    // Records go on while nothing comes in, then while nothing goes out: half-open connections, either way round.
    pair.origin.ask(&["load", "start", topics[0], "6", "400", "500"])?;
    for direction in [Direction::In, Direction::Out] {
        pair.await_caught_up(&topics, LIMIT)?;
        site.lose(direction, true)?;
        await_link(&pair, false)?;
        site.lose(direction, false)?;
        let took = pair.await_caught_up(&topics, LIMIT)?;
        await_link(&pair, true)?;
        eprintln!("caught up {took:.2?} after no packet went {direction:?}");
    }
    pair.origin.ask(&["load", "stop"])?;
    pair.await_caught_up(&topics, LIMIT)?;
    // Nobody even tried to come in, and whoever tries is dropped.
    ensure!(site.dropped()? == 0, "{} connections tried to come in", site.dropped()?);
    let door = SocketAddr::from((site.inside(), pair.kafka.broker_ports(1)?.0));
    ensure!(TcpStream::connect_timeout(&door, Duration::from_millis(1500)).is_err(), "the firewall lets in");
    ensure!(site.dropped()? > 0, "the firewall does not count");
    pair.destination.stop()?;
    pair.compare_on_disk(&topics)?;
    Ok(())
}

/// Waits until the destination has a member of the source half, or has none and so has noticed the silence.
fn await_link(pair: &Pair, up: bool) -> Result<()> {
    let wanted = format!("hawser_link_members{{link=\"{LINK}\"}} {}", u8::from(up));
    let deadline = Instant::now() + LIMIT;
    while !pair.destination.metrics()?.contains(&wanted) {
        ensure!(Instant::now() < deadline, "no {wanted:?} after {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

#[test]
#[ignore = "needs stock Kafka: cargo xtask kafka"]
fn a_middlebox_that_forgets_idle_connections_is_outlived() -> Result<()> {
    let kafka = Kafka::one_node().security(Security::ScramPlaintext).start()?;
    let mut pair = Pair::unlinked(kafka, |s| s, |d, _| Ok(d))?;
    let relay = Relay::start(SocketAddr::from((Ipv4Addr::LOCALHOST, pair.destination.port())))?;
    pair.link_through(&format!("localhost:{}", relay.port()))?;
    pair.origin.create_topic("quiet", 2, 1, &[])?;
    pair.create_mirrors(&["quiet"])?;
    pair.origin.send("quiet", -1, 100, 100, "none")?;
    pair.await_caught_up(&["quiet"], LIMIT)?;
    // A box with so short a memory forgets every connection between two beats; a longer one, those that carry nothing. (A
    // real box also sees TCP's own keep-alive, which this relay does not pass on.) Both must be noticed.
    for (memory, quiet) in [(Duration::from_millis(200), 2), (Duration::from_secs(10), 20)] {
        relay.forget_idle_after(Some(memory));
        std::thread::sleep(Duration::from_secs(quiet));
        relay.forget_idle_after(None);
        pair.origin.send("quiet", -1, 100, 100, "none")?;
        pair.await_caught_up(&["quiet"], LIMIT)?;
    }
    ensure!(relay.forgotten() > 0, "nothing was forgotten");
    pair.destination.stop()?;
    pair.compare_on_disk(&["quiet"])?;
    Ok(())
}
