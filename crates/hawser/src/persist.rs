//! Writes to the state: they wait for the disk, so they are done on threads that may wait.

use hawser_state::State;

/// Why something was not kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PersistError {
    #[error(transparent)]
    State(#[from] hawser_state::Error),
    #[error("the write was not finished: {0}")]
    Ended(#[from] tokio::task::JoinError),
}

/// Does `write` on a thread for blocking work. A caller that does not wait for it leaves it to end by itself.
///
/// # Errors
/// The state's; or the write panicked, or the runtime ends.
pub(crate) async fn persist<T: Send + 'static>(
    state: &State,
    write: impl FnOnce(&State) -> Result<T, hawser_state::Error> + Send + 'static,
) -> Result<T, PersistError> {
    let state = state.clone();
    Ok(tokio::task::spawn_blocking(move || write(&state)).await??)
}
