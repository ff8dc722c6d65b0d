//! The fake source as a process of its own: one broker that serves prepared batches out of memory, over and over.

use crate::{port, role};
use anyhow::{Context, Result};
use bytes::Bytes;
use hawser_testkit::fake_source::FakeSource;
use hawser_transport::{Listener, ServerSecurity};
use std::io::{BufReader, Read};
use std::path::Path;
use std::process::Child;

/// The process, from the outside. It ends when this is dropped, or when its input closes.
pub(crate) struct Source {
    child: Child,
    bootstrap: String,
}

impl Source {
    /// Starts it with `partitions` of `topic`, each `times` the bytes in `segment` long.
    pub(crate) fn start(topic: &str, partitions: u64, segment: &Path, times: u64) -> Result<Self> {
        let arguments =
            ["source".into(), topic.into(), partitions.to_string().into(), segment.into(), times.to_string().into()];
        let mut child = role(&arguments)?;
        let port = port(&mut BufReader::new(child.stdout.take().context("stdout")?))?;
        Ok(Self { child, bootstrap: format!("127.0.0.1:{port}") })
    }

    /// `host:port` of its broker.
    pub(crate) fn bootstrap(&self) -> &str {
        &self.bootstrap
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The process itself: serves until its input closes.
pub(crate) fn serve(topic: &str, partitions: i32, segment: &Path, times: u64) -> Result<()> {
    let segment = Bytes::from(std::fs::read(segment)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let listener = Listener::bind("127.0.0.1:0".parse()?, ServerSecurity::plaintext()).await?;
        println!("port {}", listener.local_addr().port());
        let source = FakeSource::start(vec![listener]);
        source.create(topic, partitions);
        for partition in (0..partitions).filter(|_| times > 0) {
            source.append_repeated(topic, partition, segment.clone(), times);
        }
        let input = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
        input.await??;
        Ok(())
    })
}
