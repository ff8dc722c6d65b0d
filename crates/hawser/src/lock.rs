//! Locks of this crate: held for moments, around maps and reports that a panic leaves whole.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes `mutex`, also after a panic of somebody who held it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
