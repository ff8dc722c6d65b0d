//! Panics of long-lived tasks: a bug must not end a link in silence.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// Longest wait before what panicked is started again; who ran for longer than this counts as sound.
pub const RESTART_AFTER_MAX: Duration = Duration::from_secs(60);

/// A task panicked; with the words of the panic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("panicked: {0}")]
pub struct Panicked(pub String);

/// Runs `future`. What it borrows mutably must be put in order, or dropped, after a panic. As cancel-safe as `future`.
///
/// # Errors
/// When `future` panicked; it is not polled again.
pub async fn caught<F: Future>(future: F) -> Result<F::Output, Panicked> {
    let mut future = pin!(future);
    let poll = poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Err(payload) => Poll::Ready(Err(Panicked(words(&*payload)))),
    });
    poll.await
}

/// How long to wait after the `panics`th panic in a row, the first being 0.
pub fn restart_after(panics: u32) -> Duration {
    Duration::from_secs(1 << panics.min(10)).min(RESTART_AFTER_MAX)
}

fn words(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without words".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_told_by_its_words() {
        let late = async {
            tokio::task::yield_now().await;
            panic!("at {}", 7);
        };
        assert_eq!(caught(late).await, Err::<(), _>(Panicked("at 7".to_owned())));
        assert_eq!(caught(async { 8 }).await, Ok(8));
    }

    #[test]
    fn the_wait_grows_up_to_a_bound() {
        let waits: Vec<_> = [0, 1, 5, 6, u32::MAX].map(|panics| restart_after(panics).as_secs()).into();
        assert_eq!(waits, [1, 2, 32, 60, 60]);
    }
}
