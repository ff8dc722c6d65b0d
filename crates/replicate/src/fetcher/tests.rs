//! What a fetcher keeps to itself while nobody listens.

use super::*;
use crate::status::Board;
use hawser_store::FakeStore;
use hawser_transport::{ClientOptions, ClientSecurity, Direct};

#[tokio::test]
async fn topics_are_stale_once_however_often_the_line_goes_down() {
    let config = ReplicateConfig::with_defaults("test");
    let connector =
        Direct::new(ClientSecurity::plaintext(), Vec::new(), ClientOptions::default(), Duration::from_secs(1));
    let (_commands, taken) = mpsc::channel(1);
    let (notices, _heard) = mpsc::channel(1);
    let mut fetcher = Fetcher::new(
        NodeId(1),
        Arc::new(FakeStore::new()),
        Arc::new(connector),
        Arc::new(config),
        Arc::new(Throttle::new(None, now())),
        LinkCounters::new("test"),
        Beat::default(),
        taken,
        notices,
    );
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
    for attempts in 0..100 {
        fetcher.line_down(&LineError::NoFetch, attempts);
    }
    let told: Vec<_> = std::iter::from_fn(|| fetcher.outbox.pop()).collect();
    let topics: Vec<_> =
        told.iter().filter_map(|n| if let Notice::Stale(topic) = n { Some(&**topic) } else { None }).collect();
    assert_eq!((told.len(), topics), (2, vec!["t", "u"]));
}
