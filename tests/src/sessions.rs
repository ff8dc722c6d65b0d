//! Sessions of consumer groups, the same for Kafka's own client and for librdkafka: one member goes on from what its group
//! committed, reads every partition up to a given offset, commits and leaves. What it read comes back as runs of
//! consecutive offsets, so that any offset that it skips or reads again begins a new run.

use anyhow::{Context, Result};
use hawser_testkit::kafka::Driver;
use std::collections::BTreeMap;

/// What one group is to read.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its id.
    pub group: String,
    /// `classic` or `consumer`.
    pub protocol: &'static str,
    /// By topic and partition: the first offset that is not read any more.
    pub stops: BTreeMap<String, Vec<i64>>,
}

/// Consecutive offsets that a session read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Whose session it was.
    pub group: String,
    /// Topic name.
    pub topic: String,
    /// Partition number.
    pub partition: i32,
    /// The first one.
    pub first: i64,
    /// One past the last one.
    pub next: i64,
}

impl Session {
    /// What Kafka's own client reads.
    ///
    /// # Errors
    /// As [`Driver::ask`].
    pub fn by_java(&self, driver: &mut Driver) -> Result<Vec<Run>> {
        let words = self.words();
        let words: Vec<&str> = ["consume"].into_iter().chain(words.iter().map(String::as_str)).collect();
        let lines = driver.ask(&words)?;
        let run = |line: &String| Run::parse(&format!("{}\t{line}", self.group));
        lines.iter().map(|line| run(line).with_context(|| format!("read {line:?}"))).collect()
    }

    /// As the programs are told: group, protocol and `TOPIC=STOP,STOP,…` for each topic.
    pub(crate) fn words(&self) -> Vec<String> {
        let topics = self.stops.iter().map(|(topic, stops)| {
            let stops: Vec<_> = stops.iter().map(i64::to_string).collect();
            format!("{topic}={}", stops.join(","))
        });
        [self.group.clone(), self.protocol.to_owned()].into_iter().chain(topics).collect()
    }
}

impl Run {
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let mut words = line.split('\t');
        Some(Self {
            group: words.next()?.to_owned(),
            topic: words.next()?.to_owned(),
            partition: words.next()?.parse().ok()?,
            first: words.next()?.parse().ok()?,
            next: words.next()?.parse().ok()?,
        })
    }
}
