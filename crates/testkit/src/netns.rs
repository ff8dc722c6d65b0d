//! Network namespaces (root only, `ip` and `iptables`): a site of its own, joined to this one by one wire, with a firewall
//! that lets nobody in.

use anyhow::{Context, Result, ensure};
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Names begin with this and the process id of their maker.
const PREFIX: &str = "hawser-";
static NEXT: AtomicU32 = AtomicU32::new(0);

/// Which way packets go, seen from the namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Into it.
    In,
    /// Out of it.
    Out,
}

/// A namespace with loopback and one wire to the outside; removed on drop.
pub struct Namespace {
    name: String,
    wire: String,
    outside: Ipv4Addr,
    inside: Ipv4Addr,
}

impl Namespace {
    /// Makes one, with addresses of its own out of 10.0.0.0/8 at both ends of the wire.
    ///
    /// # Errors
    /// When not root, or `ip` lacks.
    pub fn create() -> Result<Self> {
        let (pid, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        sweep()?;
        let [_, _, high, low] = pid.wrapping_mul(64).wrapping_add(number.wrapping_mul(4)).to_be_bytes();
        let subnet = |host: u8| Ipv4Addr::new(10, 203, high, (low & !3) | host);
        let namespace = Self {
            name: format!("{PREFIX}{pid}-{number}"),
            wire: format!("hw{}n{number}", pid % 1_000_000),
            outside: subnet(1),
            inside: subnet(2),
        };
        let Self { name, wire, outside, inside } = &namespace;
        let peer = format!("{wire}i");
        ip(&["netns", "add", name])?;
        ip(&["link", "add", wire, "type", "veth", "peer", "name", &peer, "netns", name])?;
        ip(&["addr", "add", &format!("{outside}/30"), "dev", wire])?;
        ip(&["link", "set", wire, "up"])?;
        ip(&["-n", name, "addr", "add", &format!("{inside}/30"), "dev", &peer])?;
        ip(&["-n", name, "link", "set", &peer, "up"])?;
        ip(&["-n", name, "link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// What a program is put behind to run inside.
    pub fn wrapper(&self) -> Vec<String> {
        ["ip", "netns", "exec", &self.name].map(str::to_owned).to_vec()
    }

    /// This side's address on the wire.
    pub fn outside(&self) -> Ipv4Addr {
        self.outside
    }

    /// The namespace's address on the wire.
    pub fn inside(&self) -> Ipv4Addr {
        self.inside
    }

    /// Lets programs inside dial other addresses of this machine, such as the outer end of another namespace's wire.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn route_out(&self) -> Result<()> {
        ip(&["-n", &self.name, "route", "add", "default", "via", &self.outside.to_string()]).map(drop)
    }

    /// From now on every connection from outside is dropped without an answer, and counted.
    ///
    /// # Errors
    /// When `iptables` lacks.
    pub fn drop_inbound(&self) -> Result<()> {
        let peer = format!("{}i", self.wire);
        self.iptables(&["-A", "INPUT", "-i", &peer, "-p", "tcp", "--syn", "-j", "DROP"]).map(drop)
    }

    /// Attempts to connect from outside that were dropped.
    ///
    /// # Errors
    /// When `iptables` lacks.
    pub fn dropped(&self) -> Result<u64> {
        let listed = self.iptables(&["-nvxL", "INPUT"])?;
        let line = listed.lines().find(|l| l.contains("DROP")).context("no rule that drops")?;
        Ok(line.split_whitespace().next().context("no counter")?.parse()?)
    }

    /// Begins or ends to lose packets of the wire on their way `direction`, those of open connections too: nobody is told, so
    /// that each end takes them for open.
    ///
    /// # Errors
    /// When `iptables` lacks.
    pub fn lose(&self, direction: Direction, losing: bool) -> Result<()> {
        let peer = format!("{}i", self.wire);
        let (chain, wire) = match direction {
            Direction::In => ("PREROUTING", "-i"),
            Direction::Out => ("POSTROUTING", "-o"),
        };
        let act = if losing { "-A" } else { "-D" };
        self.iptables(&["-t", "mangle", act, chain, wire, &peer, "-j", "DROP"]).map(drop)
    }

    fn iptables(&self, args: &[&str]) -> Result<String> {
        run(Command::new("ip").args(["netns", "exec", &self.name, "iptables", "-w"]).args(args))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = ip(&["link", "del", &self.wire]);
        let _ = ip(&["netns", "del", &self.name]);
    }
}

/// Removes what earlier test processes left behind when they were killed.
fn sweep() -> Result<()> {
    for line in ip(&["netns", "list"])?.lines() {
        let name = line.split_whitespace().next().unwrap_or_default();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !std::path::Path::new("/proc").join(pid).exists()) {
            ip(&["netns", "del", name])?;
        }
    }
    Ok(())
}

fn ip(args: &[&str]) -> Result<String> {
    run(Command::new("ip").args(args))
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
