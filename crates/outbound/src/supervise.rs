//! Keeps a source half running: one that panicked is shown as failed and starts over after a while.

use crate::control;
use crate::shared::Shared;
use crate::status::OutboundStatus;
use hawser_link::reversal::RefusalCode;
use hawser_transport::{RESTART_AFTER_MAX, caught, restart_after};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep};

type Stop = oneshot::Receiver<RefusalCode>;
/// One life of a half. It ends by itself only when it is told to stop.
type Life<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Runs a half until it is told to stop.
pub(crate) async fn run(shared: Arc<Shared>, status: watch::Sender<OutboundStatus>, stop: Stop) {
    let link = shared.link.clone();
    supervise(link.as_str(), &status, stop, |stop| Box::pin(control::run(Arc::clone(&shared), status.clone(), stop)))
        .await;
}

async fn supervise(
    link: &str,
    status: &watch::Sender<OutboundStatus>,
    mut stop: Stop,
    mut live: impl for<'a> FnMut(&'a mut Stop) -> Life<'a>,
) {
    let mut panics = 0;
    loop {
        let begun = Instant::now();
        let Err(panic) = caught(live(&mut stop)).await else { return };
        tracing::error!(link, %panic, "the source half failed; it starts over");
        status.send_modify(|status| status.panicked(&panic));
        if stop.try_recv() != Err(TryRecvError::Empty) {
            break; // it was told to stop before
        }
        panics = if begun.elapsed() > RESTART_AFTER_MAX { 0 } else { panics };
        tokio::select! {
            () = sleep(restart_after(panics)) => panics = panics.saturating_add(1),
            _ = &mut stop => break,
        }
    }
    status.send_modify(OutboundStatus::stopped);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Cause, OutboundState};

    #[tokio::test(start_paused = true)]
    async fn a_half_that_panics_is_shown_and_starts_over() {
        let (status, mut shown) = watch::channel(OutboundStatus::default());
        let (stop, stopped) = oneshot::channel();
        let begun = Instant::now();
        let supervised = tokio::spawn(async move {
            let mut lives = 0;
            supervise("dr", &status, stopped, |stop| {
                lives += 1;
                let life = lives;
                Box::pin(async move {
                    assert!(life > 2, "life {life}");
                    let _ = stop.await;
                    panic!("at the end");
                })
            })
            .await;
        });
        for life in 1..=2 {
            let words = format!("the source half panicked: life {life}");
            let seen =
                shown.wait_for(|now| now.reason.as_deref() == Some(&words)).await.expect("it is supervised").clone();
            assert_eq!((seen.state, seen.cause), (OutboundState::Waiting, Some(Cause::Panicked)));
        }
        sleep(restart_after(1)).await;
        assert_eq!(begun.elapsed(), restart_after(0) + restart_after(1));
        stop.send(RefusalCode::Stopping).expect("it runs");
        supervised.await.expect("no panic comes through");
        assert_eq!(shown.borrow().state, OutboundState::Stopped);
    }
}
