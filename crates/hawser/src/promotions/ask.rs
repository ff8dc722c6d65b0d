//! What promotions and `verify` ask of a link's source: all mirrors together, one request for each of its brokers.

use super::LineageOf;
use crate::remote::{self, RemoteTopic};
use hawser_link::promotion::Told;
use hawser_state::TopicRecord;
use hawser_sync::SourceError;
use hawser_transport::{Connector, KafkaClient, Target};
use hawser_wire::{LeaderEpoch, NodeId, Offset, TopicPartition};
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::Arc;
use tokio::task::JoinSet;

/// The connections that questions go over, kept from one to the next: over a link each costs two logins. And who leads what,
/// as the last answer had it.
#[derive(Default)]
pub(crate) struct Source {
    any: Option<KafkaClient>,
    nodes: HashMap<NodeId, KafkaClient>,
    leaders: HashMap<TopicPartition, NodeId>,
}

/// What one broker said of its partitions, or why it said nothing.
type Answer<T> = Result<HashMap<TopicPartition, Result<T, SourceError>>, SourceError>;

impl Source {
    /// The high watermarks of the sources of `topics`: for each topic, its partitions by index.
    pub(crate) async fn ends(&mut self, cluster: &Arc<dyn Connector>, topics: &[Arc<TopicRecord>]) -> Vec<Vec<Told>> {
        let silent = |topic: &TopicRecord, why: &str| {
            let count = usize::try_from(topic.partitions).unwrap_or_default();
            vec![Told::Silent(why.to_owned()); count]
        };
        let mut found = match self.metadata(cluster, topics).await {
            Ok(found) => found,
            Err(error) => {
                self.any = None;
                let why = error.to_string();
                return topics.iter().map(|topic| silent(topic, &why)).collect();
            }
        };
        self.leaders.clear();
        let mut asked: BTreeMap<NodeId, Vec<TopicPartition>> = BTreeMap::new();
        let mut counts = Vec::new();
        for topic in topics {
            let Some(mirror) = &topic.mirror else { continue };
            let count = match found.remove(&mirror.source_topic) {
                Some(Ok(Some(there))) if mirror.source_topic_id.is_nil() || there.id == mirror.source_topic_id => {
                    for (index, leader) in (0..).zip(&there.leaders) {
                        if let Some(node) = leader {
                            let id = TopicPartition::new(mirror.source_topic.as_str(), index);
                            self.leaders.insert(id.clone(), *node);
                            asked.entry(*node).or_default().push(id);
                        }
                    }
                    Ok(there.leaders.len())
                }
                Some(Ok(Some(_))) => Err("the source topic is another one of the same name".to_owned()),
                Some(Ok(None)) | None => Err("the source has no such topic, or this link may not see it".to_owned()),
                Some(Err(error)) => Err(error.to_string()),
            };
            counts.push((topic, mirror, count));
        }
        let mut ends = HashMap::new();
        let ask = |client: KafkaClient, ids: Vec<TopicPartition>| async move { remote::ends(&client, &ids).await };
        for (ids, answer) in self.ask_all(cluster, asked, ask).await {
            take(&mut ends, ids, answer);
        }
        let told = |(topic, mirror, count): (&Arc<TopicRecord>, &hawser_state::MirrorRecord, Result<usize, String>)| {
            match count {
                Err(why) => silent(topic, &why),
                Ok(count) => (0..i32::try_from(count).unwrap_or(i32::MAX))
                    .map(|index| match ends.remove(&TopicPartition::new(mirror.source_topic.as_str(), index)) {
                        Some(Ok(end)) => Told::End(end),
                        Some(Err(why)) => Told::Silent(why),
                        None => Told::Silent("it has no leader".to_owned()),
                    })
                    .collect(),
            }
        };
        counts.into_iter().map(told).collect()
    }

    /// Adds to `told` where the source ends the epochs that copies end with.
    pub(super) async fn lineages(&mut self, cluster: &Arc<dyn Connector>, of: &[LineageOf], told: &mut [Vec<Told>]) {
        let mut asked: BTreeMap<NodeId, Vec<(TopicPartition, LeaderEpoch)>> = BTreeMap::new();
        for lineage in of {
            if let Some(node) = self.leaders.get(&lineage.id) {
                asked.entry(*node).or_default().push((lineage.id.clone(), lineage.epoch));
            }
        }
        let ask = |client: KafkaClient, of: Vec<(TopicPartition, LeaderEpoch)>| async move {
            remote::epoch_ends(&client, &of).await
        };
        let mut ends: HashMap<TopicPartition, Result<Option<(LeaderEpoch, Offset)>, String>> = HashMap::new();
        for (of, answer) in self.ask_all(cluster, asked, ask).await {
            take(&mut ends, of.into_iter().map(|(id, _)| id).collect(), answer);
        }
        for lineage in of {
            let slot = told.get_mut(lineage.topic).and_then(|told| told.get_mut(lineage.partition));
            let Some(slot) = slot else { continue };
            if let (Told::End(end), Some(answer)) = (&*slot, ends.remove(&lineage.id)) {
                *slot = match answer {
                    Ok(theirs) => Told::Lineage(*end, theirs),
                    Err(why) => Told::Silent(why),
                };
            }
        }
    }

    async fn metadata(
        &mut self,
        cluster: &Arc<dyn Connector>,
        topics: &[Arc<TopicRecord>],
    ) -> Result<BTreeMap<String, Result<Option<RemoteTopic>, SourceError>>, SourceError> {
        let client = match self.any.take() {
            Some(client) => client,
            None => cluster.lease(Target::Any).await?,
        };
        let names: Vec<_> =
            topics.iter().filter_map(|topic| Some(topic.mirror.as_ref()?.source_topic.as_str())).collect();
        let found = remote::topics(&client, &names).await?;
        self.any = Some(client);
        Ok(found)
    }

    /// Puts a question to each broker, to all at the same time. The connection to one that fails is not used again.
    async fn ask_all<Q, T, F>(
        &mut self,
        cluster: &Arc<dyn Connector>,
        asked: BTreeMap<NodeId, Vec<Q>>,
        ask: impl Fn(KafkaClient, Vec<Q>) -> F + Copy + Send + Sync + 'static,
    ) -> Vec<(Vec<Q>, Answer<T>)>
    where
        Q: Clone + Send + Sync + 'static,
        T: Send + 'static,
        F: Future<Output = Answer<T>> + Send,
    {
        let mut tasks = JoinSet::new();
        for (node, questions) in asked {
            let (client, cluster) = (self.nodes.remove(&node), cluster.clone());
            tasks.spawn(async move {
                let answer = async {
                    let client = match client {
                        Some(client) => client,
                        None => cluster.lease(Target::Node(node)).await?,
                    };
                    let answer = ask(client.clone(), questions.clone()).await?;
                    Ok((client, answer))
                };
                let answer = answer.await;
                (node, questions, answer)
            });
        }
        let mut answers = Vec::new();
        while let Some(Ok((node, questions, answer))) = tasks.join_next().await {
            let answer = answer.map(|(client, answer)| {
                self.nodes.insert(node, client);
                answer
            });
            answers.push((questions, answer));
        }
        answers
    }
}

/// Sorts one broker's answer in: what it failed to say of any of `ids` is said instead.
fn take<T>(into: &mut HashMap<TopicPartition, Result<T, String>>, ids: Vec<TopicPartition>, answer: Answer<T>) {
    match answer {
        Ok(mut said) => {
            for id in ids {
                let of =
                    said.remove(&id).unwrap_or(Err(SourceError::Incomplete { api: "a question about partitions" }));
                into.insert(id, of.map_err(|error| error.to_string()));
            }
        }
        Err(error) => into.extend(ids.into_iter().map(|id| (id, Err(error.to_string())))),
    }
}
