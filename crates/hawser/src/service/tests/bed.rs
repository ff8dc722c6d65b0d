//! A daemon's parts beside a source in memory, with a link `l` that dials it, for tests of what operations do.

use super::*;
use crate::operations::{AlteredMirror, MirrorAction, MirrorView};
use hawser_testkit::batches::BatchBuilder;
use hawser_testkit::fake_source::FakeSource;
use hawser_wire::TopicPartition;
use std::time::Instant;
use tempfile::TempDir;

pub(super) const LIMIT: Duration = Duration::from_secs(60);
pub(super) const NOT_LEADER: i16 = 6;

pub(super) struct Bed {
    pub(super) service: Arc<Service>,
    pub(super) source: FakeSource,
    dir: TempDir,
}

impl Bed {
    /// A source, and a link to it that dials it.
    pub(super) async fn new() -> Self {
        let source = FakeSource::local().await;
        let dir = tempfile::tempdir().unwrap();
        let bed = Self { service: service(dir.path()), source, dir };
        let address = bed.source.addresses()[0].to_string();
        let configs = [("bootstrap.servers", address.as_str()), ("cluster.link.prefix", "m-")];
        let create = Operation::LinkCreate {
            link: "l".to_owned(),
            configs: configs.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            remote: None,
            validate_only: false,
            skip_remote_check: false,
        };
        bed.service.perform(create).await.unwrap();
        bed
    }

    /// As a daemon that stops and starts; `while_down` sees to what happens meanwhile.
    pub(super) async fn restarted(self, while_down: impl FnOnce(&State, &FakeSource)) -> Self {
        let Self { service, source, dir } = self;
        service.stop().await;
        service.links.stop_all().await;
        while_down(&service.state, &source);
        service.logs.close().unwrap();
        drop(service);
        let service = super::service(dir.path());
        service.links.resume().await;
        for link in service.state.links() {
            service.follow_link(&link).await;
        }
        service.resume();
        Self { service, source, dir }
    }

    pub(super) async fn create(&self, source_topic: &str, partitions: i32) {
        self.source.create(source_topic, partitions);
        for partition in 0..partitions {
            self.source.append(source_topic, partition, batch(0));
        }
        self.service.perform(mirror_of(source_topic)).await.unwrap();
    }

    pub(super) async fn mirror(&self, name: &str) -> MirrorView {
        let describe = Operation::MirrorDescribe { mirror_topic: name.to_owned(), link: None };
        let Outcome::Mirror(view) = self.service.perform(describe).await.unwrap() else { panic!("not a mirror") };
        view
    }

    /// Looks until `good`.
    pub(super) async fn until(&self, name: &str, good: impl Fn(&MirrorView) -> bool) -> MirrorView {
        let began = Instant::now();
        loop {
            let view = self.mirror(name).await;
            if good(&view) {
                return view;
            }
            assert!(began.elapsed() < LIMIT, "{view:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(super) async fn caught_up(&self, name: &str, end: i64) {
        self.until(name, |view| view.partitions.iter().all(|partition| partition.log_end_offset == end)).await;
    }

    pub(super) async fn alter(&self, action: MirrorAction, topics: &[&str]) -> Vec<AlteredMirror> {
        let topics = topics.iter().map(|&topic| topic.to_owned()).collect();
        let alter = Operation::MirrorAlter { link: None, action, topics, pattern: None, validate_only: false };
        altered(self.service.perform(alter).await.unwrap())
    }

    /// Changes settings of the link.
    pub(super) async fn set(&self, settings: &[(&str, &str)]) {
        let set = |(name, value): &(&str, &str)| Alteration { name: (*name).into(), value: Some((*value).into()) };
        let changes = settings.iter().map(set).collect();
        let alter = Operation::LinkAlterConfigs { link: "l".to_owned(), changes, validate_only: false };
        self.service.perform(alter).await.unwrap();
    }

    /// The code and the words with which one mirror refuses `action`; empty if it does not.
    pub(super) async fn refusal(&self, action: MirrorAction, topic: &str) -> (Option<RefusalCode>, String) {
        let [result] = &self.alter(action, &[topic]).await[..] else { panic!("one result") };
        (result.error_code, result.error_message.clone().unwrap_or_default())
    }

    /// From now on every write to the state fails, as on a disk that is full.
    pub(super) fn fill_disk(&self) {
        let [file, away] = self.state_files();
        std::fs::rename(&file, away).unwrap();
        std::fs::create_dir(file).unwrap();
        // A write that fails closes the file; whoever writes next finds a folder in its place.
        self.service.state.take_producer_ids(i64::MAX, i64::MAX).unwrap_err();
    }

    pub(super) fn make_room(&self) {
        let [file, away] = self.state_files();
        std::fs::remove_dir(&file).unwrap();
        std::fs::rename(away, file).unwrap();
    }

    fn state_files(&self) -> [std::path::PathBuf; 2] {
        ["state", "state.away"].map(|name| self.dir.path().join(name))
    }

    pub(super) fn leads(&self, topic: &str, partition: i32) -> bool {
        let log = self.service.logs.partition(&TopicPartition::new(topic, partition)).unwrap();
        log.leads().is_some()
    }
}

pub(super) fn batch(base: i64) -> bytes::Bytes {
    BatchBuilder::at(base).records(50, 100).build()
}

pub(super) fn mirror_of(source_topic: &str) -> Operation {
    Operation::MirrorCreate {
        link: "l".to_owned(),
        mirror_topic: None,
        source_topic: Some(source_topic.to_owned()),
        configs: BTreeMap::new(),
        replication_factor: None,
        mirror_start_offset_spec: None,
    }
}

pub(super) fn altered(outcome: Outcome) -> Vec<AlteredMirror> {
    let Outcome::MirrorsAltered { results } = outcome else { panic!("{outcome:?}") };
    results
}

pub(super) fn condition(view: &MirrorView, condition: &str) -> bool {
    view.waits_for.iter().any(|wait| wait.condition == condition)
}

/// Serves nobody; the syncs write committed offsets through it.
pub(super) fn broker(service: &Service) -> Arc<hawser_broker::Broker> {
    let parts = hawser_broker::Parts {
        state: service.state.clone(),
        logs: service.logs.clone(),
        topics: service.topics.clone(),
        authorizer: service.authorizer.clone(),
        users: Arc::new(hawser_broker::StoredUsers::load(&service.state).unwrap()),
        private: Arc::new(NoPrivateApis),
        config: BrokerConfig::default(),
    };
    hawser_broker::Broker::new(parts).unwrap()
}

struct NoPrivateApis;

impl hawser_broker::PrivateApis for NoPrivateApis {
    fn link_open(
        &self,
        _: hawser_wire::RequestFrame,
        _: hawser_transport::ServerConnection,
    ) -> hawser_broker::BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    fn operate(&self, _: &Principal, _: bytes::Bytes) -> hawser_broker::BoxFuture<'_, bytes::Bytes> {
        Box::pin(std::future::ready(bytes::Bytes::new()))
    }
}
