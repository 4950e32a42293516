//! Locks whose holders cannot leave half of a change behind.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks `mutex`, also if a holder has panicked: what is behind these locks is whole
/// after each statement.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
