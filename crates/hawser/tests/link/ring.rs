//! Three clusters in a ring, each with mirrors of the one before it, made by themselves with a prefix: every topic goes round
//! once, and no mirror comes back to where its records were.

use super::{caught_up, daemon, json, until};
use hawser_testkit::batches::BatchBuilder;
use hawser_testkit::daemon::Daemon;
use hawser_testkit::fake_source::FakeSource;
use serde_json::Value;

const ALL_TOPICS: &str = r#"{"topicFilters":[{"name":"*","patternType":"LITERAL","filterType":"INCLUDE"}]}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_ring_of_links_mirrors_each_topic_once_round() {
    let source = FakeSource::local().await;
    let at = source.addresses()[0].to_string();
    source.create("orders", 1);
    source.append("orders", 0, BatchBuilder::at(0).records(50, 100).build());
    tokio::task::spawn_blocking(move || story(&at)).await.unwrap();
}

fn story(at: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mut ring = ["a", "b", "c"].map(|name| daemon(folder.path(), name, &[]));
    let [a, b, c] = &ring;
    a.run(&["link", "create", "feed", "--config", &format!("bootstrap.servers={at}")]).unwrap();
    a.run(&["mirror", "create", "orders", "--link", "feed"]).unwrap();
    caught_up(a, "orders", 50);
    for (from, to, prefix) in [(a, b, "b."), (b, c, "c."), (c, a, "a.")] {
        let settings = format!(
            "bootstrap.servers={}\ncluster.link.prefix={prefix}\nauto.create.mirror.topics.enable=true\n\
             auto.create.mirror.topics.filters={ALL_TOPICS}\n",
            from.bootstrap()
        );
        let file = to.folder().join("ring.config");
        std::fs::write(&file, settings).unwrap();
        to.run(&["link", "create", "ring", "--config-file", file.to_str().unwrap()]).unwrap();
    }
    until("it has come to the last", || match mirrors(c).as_slice() {
        [] => Err("no mirror".to_owned()),
        _ => Ok(()),
    });
    caught_up(c, "c.b.orders", 50);
    until("it is left out", || {
        let task = auto_create(a);
        if task["skipped"] == 1 { Ok(()) } else { Err(task.to_string()) }
    });
    let task = auto_create(a);
    let why = task["skipped_reasons"][0].as_str().unwrap_or_default();
    assert!(task["state"] == "ACTIVE" && why.contains("'c.b.orders'"), "{task}");
    for (daemon, mirror) in [(a, "orders"), (b, "b.orders"), (c, "c.b.orders")] {
        assert_eq!(mirrors(daemon), [mirror]);
    }
    for daemon in &mut ring {
        daemon.stop().unwrap();
    }
}

fn mirrors(daemon: &Daemon) -> Vec<Value> {
    let list = json(daemon, &["mirror", "list"]);
    list.as_array().into_iter().flatten().map(|mirror| mirror["mirror_topic_name"].clone()).collect()
}

fn auto_create(daemon: &Daemon) -> Value {
    let tasks = json(daemon, &["link", "task", "list", "ring"]);
    let find = |task: &&Value| task["task_name"] == "AutoCreateMirror";
    tasks.as_array().and_then(|tasks| tasks.iter().find(find)).cloned().unwrap_or_default()
}
