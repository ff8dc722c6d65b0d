use super::*;
use crate::directory::Directory;
use hawser_inbound::{Inbound, InboundOptions};
use hawser_log::LogConfig;
use hawser_store::EmbeddedStore;
use hawser_transport::{Listener, ServerSecurity};
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// A daemon's parts without its sockets; everybody may do everything.
fn service(dir: &Path) -> Arc<Service> {
    let state = State::open(&dir.join("state")).unwrap();
    let logs = Arc::new(Logs::open(dir, LogConfig::default()).unwrap());
    let properties = Properties::parse("test", "super.users=User:ANONYMOUS");
    let authorizer = Arc::new(Authorizer::from_properties(&properties).unwrap());
    let cluster = Arc::new(Cluster::new(state.clone(), None));
    let directory = Directory::new(state.clone(), cluster.clone(), authorizer.clone());
    let inbound = Inbound::new(Arc::new(directory), InboundOptions::default());
    let store = Arc::new(EmbeddedStore::new(logs.clone()));
    let links = Links::new(state.clone(), store, inbound, cluster.clone(), None, None);
    Arc::new(Service::new(state, logs, links, cluster, authorizer, 1))
}

/// Who comes without a login; only a listener can say so.
async fn anonymous() -> Principal {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), ServerSecurity::plaintext()).await.unwrap();
    let mut client = tokio::net::TcpStream::connect(listener.local_addr()).await.unwrap();
    // A peer that says nothing is not let in.
    client.write_all(&[0]).await.unwrap();
    let connection = listener.accept().await;
    connection.principal().clone()
}

fn create() -> Vec<u8> {
    let configs = [("link.mode", "DESTINATION"), ("connection.mode", "INBOUND")];
    let operation = Operation::LinkCreate {
        link: "west".to_owned(),
        configs: configs.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        remote: None,
        validate_only: false,
        skip_remote_check: true,
    };
    serde_json::to_vec(&operation).unwrap()
}

#[tokio::test]
async fn a_client_that_hangs_up_leaves_no_half_change() {
    let dir = tempfile::tempdir().unwrap();
    let (service, anonymous) = (service(dir.path()), anonymous().await);
    let made = service.operate(&anonymous, &create()).await;
    assert!(service.state.link("west").is_some(), "{}", String::from_utf8_lossy(&made));

    let delete = serde_json::to_vec(&Operation::LinkDelete { link: "west".to_owned(), force: false }).unwrap();
    {
        // Begun, and then the client is gone: its connection drops the handler.
        let mut deleting = pin!(service.operate(&anonymous, &delete));
        assert!(deleting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    let gone = async {
        while service.state.link("west").is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.expect("the link is deleted to its end");
}

#[tokio::test]
async fn nothing_is_changed_once_the_daemon_stops() {
    let dir = tempfile::tempdir().unwrap();
    let (service, anonymous) = (service(dir.path()), anonymous().await);
    service.stop().await;
    let reply = service.operate(&anonymous, &create()).await;
    assert!(String::from_utf8_lossy(&reply).contains("the daemon stops"));
    assert!(service.state.link("west").is_none());
}
