mod bed;
mod links;
mod mirrors;
mod promotions;
mod rights;
mod syncs;

use super::*;
use crate::directory::Directory;
use crate::operations::{Alteration, LinkConfigView, LinkState};
use hawser_broker::BrokerConfig;
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
    service_for(dir, "super.users=User:ANONYMOUS")
}

/// As [`service`], with these rights.
fn service_for(dir: &Path, rights: &str) -> Arc<Service> {
    let state = State::open(&dir.join("state")).unwrap();
    let logs = Arc::new(Logs::open(dir, LogConfig::default()).unwrap());
    let properties = Properties::parse("test", rights);
    let authorizer = Arc::new(Authorizer::from_properties(&properties).unwrap());
    let cluster = Arc::new(Cluster::new(state.clone(), None));
    let directory = Directory::new(state.clone(), cluster.clone(), authorizer.clone());
    let inbound = Inbound::new(Arc::new(directory), InboundOptions::default());
    let store = Arc::new(EmbeddedStore::new(logs.clone()));
    let links = Links::new(state.clone(), store, inbound, cluster.clone(), None, None);
    let topics = Topics::open(state.clone(), logs.clone(), links.clone(), &BrokerConfig::default());
    Service::new(state, logs, topics, links, cluster, authorizer, 1)
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

    let delete =
        serde_json::to_vec(&Operation::LinkDelete { link: "west".to_owned(), force: false, validate_only: false })
            .unwrap();
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

async fn asked(service: &Arc<Service>, principal: &Principal, operation: Operation) -> Result<Outcome, Refusal> {
    let reply = service.operate(principal, &serde_json::to_vec(&operation).unwrap()).await;
    match serde_json::from_slice(&reply).unwrap() {
        Reply::Done(outcome) => Ok(*outcome),
        Reply::Refused(refusal) => Err(refusal),
    }
}

async fn setting(service: &Arc<Service>, principal: &Principal, name: &str) -> Option<LinkConfigView> {
    let describe = Operation::LinkDescribeConfigs { link: "west".to_owned() };
    let Ok(Outcome::LinkConfigs { configs }) = asked(service, principal, describe).await else { panic!("no settings") };
    configs.into_iter().find(|config| config.name == name)
}

#[tokio::test]
async fn settings_are_changed_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    let (service, anonymous) = (service(dir.path()), anonymous().await);
    service.operate(&anonymous, &create()).await;
    let alter = |name: &str, value: Option<&str>, validate_only| Operation::LinkAlterConfigs {
        link: "west".to_owned(),
        changes: vec![Alteration { name: name.to_owned(), value: value.map(str::to_owned) }],
        validate_only,
    };
    let paused = "cluster.link.paused";
    asked(&service, &anonymous, alter(paused, Some("true"), true)).await.expect("valid");
    let shown = setting(&service, &anonymous, paused).await.expect("a setting of this half");
    assert_eq!(
        (shown.value.as_deref(), shown.is_default, shown.source.as_str()),
        (Some("false"), true, "DEFAULT_CONFIG")
    );

    asked(&service, &anonymous, alter(paused, Some("true"), false)).await.expect("changed");
    let shown = setting(&service, &anonymous, paused).await.expect("a setting of this half");
    let seen = (shown.value.as_deref(), shown.is_default, shown.source.as_str());
    assert_eq!(seen, (Some("true"), false, "DYNAMIC_CLUSTER_LINK_CONFIG"));
    let describe = Operation::LinkDescribe { link: "west".to_owned() };
    let Ok(Outcome::Link(link)) = asked(&service, &anonymous, describe).await else { panic!("no link") };
    assert_eq!(link.state, LinkState::Paused);

    let refused = asked(&service, &anonymous, alter("link.mode", Some("BIDIRECTIONAL"), false)).await.unwrap_err();
    assert_eq!(refused.code, RefusalCode::InvalidLinkConfig);
    assert!(refused.message.contains("link.mode: cannot be changed"), "{refused}");
    let mode = setting(&service, &anonymous, "link.mode").await.expect("a setting of every half");
    assert!(mode.is_read_only && mode.value.as_deref() == Some("DESTINATION"));
    assert!(setting(&service, &anonymous, "sasl.jaas.config").await.is_none(), "not of a half that waits");
    let gone = Operation::LinkDescribeConfigs { link: "east".to_owned() };
    assert_eq!(asked(&service, &anonymous, gone).await.unwrap_err().code, RefusalCode::LinkNotFound);
}

/// Asks until `good`.
async fn until(what: &str, mut good: impl AsyncFnMut() -> bool) {
    let reached = async {
        while !good().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), reached).await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_take_effect_while_the_link_runs() {
    use hawser_testkit::batches::BatchBuilder;
    let source = hawser_testkit::fake_source::FakeSource::local().await;
    let at = source.addresses()[0].to_string();
    source.create("t", 1);
    let dir = tempfile::tempdir().unwrap();
    let (service, anonymous) = (service(dir.path()), anonymous().await);
    let configs = [("link.mode", "DESTINATION"), ("bootstrap.servers", at.as_str())];
    let create = Operation::LinkCreate {
        link: "west".to_owned(),
        configs: configs.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        remote: None,
        validate_only: false,
        skip_remote_check: false,
    };
    asked(&service, &anonymous, create).await.expect("a link");
    let mirror = r#"{"operation":"mirror_create","link":"west","mirror_topic":"t","source_topic":null}"#;
    asked(&service, &anonymous, serde_json::from_str(mirror).unwrap()).await.expect("a mirror");
    let id = hawser_wire::TopicPartition::new("t", 0);
    let end = || service.logs.partition(&id).map_or(0, |log| log.watermarks().log_end.0);
    let append = |base| source.append("t", 0, BatchBuilder::at(base).records(10, 100).build());
    let alter = async |name: &str, value: &str| {
        let change = Alteration { name: name.to_owned(), value: Some(value.to_owned()) };
        let link = "west".to_owned();
        let alter = Operation::LinkAlterConfigs { link, changes: vec![change], validate_only: false };
        asked(&service, &anonymous, alter).await
    };
    let link = async || {
        let describe = Operation::LinkDescribe { link: "west".to_owned() };
        let Ok(Outcome::Link(link)) = asked(&service, &anonymous, describe).await else { panic!("no link") };
        link
    };
    append(0);
    until("it flows", async || end() == 10).await;

    // A pause holds what is not fetched yet.
    alter("cluster.link.paused", "true").await.expect("paused");
    let paused = link().await;
    assert_eq!((paused.state, paused.remote_is_available), (LinkState::Paused, true));
    let fetches = source.requests(1);
    append(10);
    until("nothing is fetched", async || {
        tokio::time::sleep(Duration::from_millis(700)).await; // longer than a poll
        source.requests(1) <= fetches + 1
    })
    .await;
    assert_eq!(end(), 10);
    alter("cluster.link.paused", "false").await.expect("resumed");
    until("it goes on", async || end() == 20).await;

    // Others make its fetchers anew.
    alter("num.cluster.link.fetchers", "2").await.expect("changed");
    append(20);
    until("it flows with new fetchers", async || end() == 30).await;

    // What would not work is not taken while the link works.
    let nowhere = format!("127.0.0.1:{}", hawser_testkit::ports::free_port());
    let refused = alter("bootstrap.servers", &nowhere).await.expect_err("nobody is there");
    assert_eq!(refused.code, RefusalCode::LinkUnavailable);
    assert!(refused.message.contains("nothing was changed"), "{refused}");
    let shown = setting(&service, &anonymous, "bootstrap.servers").await.expect("a setting");
    assert_eq!(shown.value.as_deref(), Some(at.as_str()));
    append(30);
    until("it still flows", async || end() == 40).await;
    let seen = link().await;
    assert_eq!((seen.state, seen.error.as_str()), (LinkState::Active, "NO_ERROR"));
    assert!(seen.last_fetch_ms.is_some(), "{seen:?}");

    // It is once the link does not work anyhow.
    source.stop();
    until("the loss is seen", async || link().await.state == LinkState::Unavailable).await;
    let Ok(Outcome::LinkConfigsAltered { warnings }) = alter("bootstrap.servers", &nowhere).await else {
        panic!("not taken")
    };
    assert!(warnings.iter().any(|warning| warning.contains(&nowhere) && warning.contains("kept")), "{warnings:?}");
    let shown = setting(&service, &anonymous, "bootstrap.servers").await.expect("a setting");
    assert_eq!(shown.value.as_deref(), Some(nowhere.as_str()));
    alter("cluster.link.paused", "true").await.expect("paused");
    until("paused, and nobody there", async || {
        let link = link().await;
        (link.state, link.remote_is_available) == (LinkState::Paused, false)
    })
    .await;
    service.stop().await;
    service.links.stop_all().await;
}

#[tokio::test]
async fn two_links_have_no_prefix_in_common() {
    let dir = tempfile::tempdir().unwrap();
    let (service, anonymous) = (service(dir.path()), anonymous().await);
    let create = |link: &str, prefix: &str| Operation::LinkCreate {
        link: link.to_owned(),
        configs: [("connection.mode", "INBOUND"), ("cluster.link.prefix", prefix)]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        remote: None,
        validate_only: false,
        skip_remote_check: true,
    };
    asked(&service, &anonymous, create("west", "w.")).await.expect("a link");
    let refused = asked(&service, &anonymous, create("east", "w.")).await.expect_err("taken");
    assert_eq!(refused.code, RefusalCode::InvalidLinkConfig);
    assert!(refused.message.contains("cluster link \"west\" has the prefix \"w.\" already"), "{refused}");
    for (link, prefix) in [("east", "e."), ("north", ""), ("south", "")] {
        asked(&service, &anonymous, create(link, prefix)).await.expect("a link");
    }
}
