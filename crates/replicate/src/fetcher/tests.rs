//! What a fetcher keeps to itself while nobody listens.

use super::*;
use crate::status::Board;
use hawser_store::FakeStore;
use hawser_transport::{ClientOptions, ClientSecurity, Direct};

type Notices = mpsc::Receiver<Notice<<FakeStore as Store>::Partition>>;

fn fetcher() -> (Fetcher<FakeStore>, Notices) {
    let connector =
        Direct::new(ClientSecurity::plaintext(), Vec::new(), ClientOptions::default(), Duration::from_secs(1));
    let (_, taken) = mpsc::channel(1);
    let (notices, heard) = mpsc::channel(1);
    let fetcher = Fetcher::new(
        NodeId(1),
        Arc::new(FakeStore::new()),
        Arc::new(connector),
        Arc::new(ReplicateConfig::with_defaults("test")),
        Arc::new(Throttle::new(None, now())),
        LinkCounters::new("test"),
        Beat::default(),
        taken,
        notices,
    );
    (fetcher, heard)
}

/// A broker that takes connections and fails each Fetch is not asked again and again at the shortest pace.
#[tokio::test]
async fn only_an_answered_fetch_ends_the_backing_off() {
    let (mut fetcher, _heard) = fetcher();
    assert!(fetcher.config.reconnect_after(0) < fetcher.config.reconnect_after(1));
    for failures in [0, 1, 2, 0, 1] {
        if failures == 0 {
            fetcher.fetch_answered(Ok((FETCH_VERSION_MAX, FetchResponse::default())));
        }
        let (wait, before) = (fetcher.config.reconnect_after(failures), now());
        fetcher.fetch_answered(Err(ClientError::Closed("gone".to_owned())));
        let Line::Down { retry_at } = fetcher.line else { panic!("the line is up") };
        assert!((before + wait..=now() + wait).contains(&retry_at), "after {failures} failures");
        fetcher.line = Line::Dialling; // and is up again until the next Fetch
    }
}

#[tokio::test]
async fn topics_are_stale_once_however_often_the_line_goes_down() {
    let (mut fetcher, _heard) = fetcher();
    let board = Board::new();
    for (topic, partition) in [("t", 0), ("t", 1), ("u", 0)] {
        let name: Arc<str> = topic.into();
        let side = Side {
            topic_id: Uuid::nil(),
            place: board.place(&name, partition),
            spec: Arc::new(TopicSpec { name, id: Uuid::from_u128(1) }),
            copy: None,
        };
        fetcher.core.sides.insert(TopicPartition::new(topic, partition), side);
    }
    for _ in 0..100 {
        fetcher.line_down(&LineError::NoFetch);
    }
    let told: Vec<_> = std::iter::from_fn(|| fetcher.outbox.pop()).collect();
    let topics: Vec<_> =
        told.iter().filter_map(|n| if let Notice::Stale(topic) = n { Some(&**topic) } else { None }).collect();
    assert_eq!((told.len(), topics), (2, vec!["t", "u"]));
}
