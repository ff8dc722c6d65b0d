//! The two walk-throughs, from the pages' own code blocks, each private site behind a firewall that lets nobody in.

use anyhow::{Context, Result, ensure};
use hawser_testkit::certificates::Authority;
use hawser_testkit::compare;
use hawser_testkit::netns::Namespace;
use hawser_tests::tutorial::{Site, run};

/// A place that can be dialled: this network namespace, with mounts of its own.
fn public(name: &'static str, given: Vec<(&'static str, String)>) -> Site {
    let wrapper = ["unshare", "--mount", "--propagation", "private"].map(str::to_owned).to_vec();
    Site { name, wrapper, given }
}

/// The certificate of a server, with its key, as one file.
fn key_store(authority: &Authority, host: &str) -> Result<String> {
    let identity = authority.server_for(&[host])?;
    Ok(format!("{}{}", identity.key_pem, identity.chain_pem))
}

#[test]
#[ignore = "needs root and stock Kafka: cargo xtask kafka"]
fn netns_hybrid_cloud() -> Result<()> {
    let on_prem = Namespace::create()?;
    on_prem.drop_inbound()?;
    let authority = Authority::new("tutorial-ca")?;
    let sites = vec![
        Site { name: "on-prem", wrapper: on_prem.wrapper(), given: vec![("ca.pem", authority.pem())] },
        public(
            "cloud",
            vec![("ca.pem", authority.pem()), ("server.pem", key_store(&authority, "kafka.cloud.example")?)],
        ),
    ];
    let page = include_str!("../../docs/tutorials/hybrid-cloud.md");
    run(page, sites, &format!("{} kafka.cloud.example\n", on_prem.outside()))?;
    ensure!(on_prem.dropped()? == 0, "{} connections tried to come in", on_prem.dropped()?);
    Ok(())
}

#[test]
#[ignore = "needs root and stock Kafka: cargo xtask kafka"]
fn netns_public_jump() -> Result<()> {
    let (primary, dr) = (Namespace::create()?, Namespace::create()?);
    primary.drop_inbound()?;
    dr.drop_inbound()?;
    let authority = Authority::new("tutorial-ca")?;
    let given = |host: &str| -> Result<Vec<(&'static str, String)>> {
        Ok(vec![("ca.pem", authority.pem()), ("server.pem", key_store(&authority, host)?)])
    };
    // JUMP is dialled at the outer end of PRIMARY's wire by both: DR's packets are routed to it.
    dr.route_out()?;
    let sites = vec![
        Site { name: "primary", wrapper: primary.wrapper(), given: given("primary.example")? },
        public("jump", given("jump.example")?),
        Site { name: "dr", wrapper: dr.wrapper(), given: given("dr.example")? },
    ];
    let page = include_str!("../../docs/tutorials/public-jump.md");
    let hosts = format!("127.0.0.1 primary.example\n{} jump.example\n", primary.outside());
    let mut sites = run(page, sites, &hosts)?;
    // The mirror, and the mirror of the mirror, are PRIMARY's log. A daemon that has stopped has written down all of it.
    for mirror in ["jump", "dr"] {
        sites.run(mirror, "jobs -p > pids\nkill $(cat pids)\nwait")?;
        let mut records = 0;
        for partition in 0..3 {
            let theirs = sites.folder("primary")?.join(format!("kafka-logs/my_test_topic-{partition}"));
            let ours = sites.folder(mirror)?.join(format!("hawser-data/my_test_topic-{partition}"));
            records += compare::partitions(&theirs, &ours, 0).with_context(|| format!("{mirror} {partition}"))?.end;
        }
        ensure!(records == 300, "{mirror} holds {records} records");
    }
    for (name, site) in [("PRIMARY", &primary), ("DR", &dr)] {
        ensure!(site.dropped()? == 0, "{} connections tried to come in to {name}", site.dropped()?);
    }
    Ok(())
}
