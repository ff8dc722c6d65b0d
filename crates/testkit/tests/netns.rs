//! Namespaces themselves. Only root can make them: `cargo xtask test` runs these when it is root.

use anyhow::Result;
use hawser_testkit::netns::Namespace;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

#[test]
#[ignore = "needs root"]
fn netns_lets_connections_out_and_none_in() -> Result<()> {
    let site = Namespace::create()?;
    site.drop_inbound()?;
    let wrapper = site.wrapper();
    // Outwards: bash's own TCP client says hello.
    let listener = TcpListener::bind((site.outside(), 0))?;
    let say = format!("echo hello > /dev/tcp/{}/{}", site.outside(), listener.local_addr()?.port());
    let mut inside = Command::new(&wrapper[0]).args(&wrapper[1..]).args(["bash", "-c", &say]).spawn()?;
    let (mut stream, _) = listener.accept()?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    assert!(inside.wait()?.success());
    assert_eq!((said.as_str(), site.dropped()?), ("hello\n", 0));
    // Inwards: nobody answers, not even to refuse.
    let closed = SocketAddr::from((site.inside(), 9));
    let error = TcpStream::connect_timeout(&closed, Duration::from_millis(1500)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    assert!(site.dropped()? >= 1);
    let names = Command::new("ip").args(["netns", "list"]).stdout(Stdio::piped()).output()?.stdout;
    assert!(String::from_utf8_lossy(&names).contains(&wrapper[3]));
    Ok(())
}
