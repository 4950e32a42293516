//! Values whose drop takes long.

use std::io;

/// Holds a value, and drops it on a thread of its own.
///
/// The drop of the last reference to an engine unmaps the engine's pool. That takes
/// milliseconds for each GiB that guests have touched, and the dropping thread may
/// have connections to serve.
pub(crate) struct DropAside<T: Send + 'static>(Option<T>);

impl<T: Send + 'static> DropAside<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }
}

impl<T: Send + 'static> Drop for DropAside<T> {
    fn drop(&mut self) {
        let value = self.0.take();
        // If the system gives no thread, the value is dropped here.
        let _: io::Result<_> = std::thread::Builder::new()
            .name("sockserve-drop".to_owned())
            .spawn(move || drop(value));
    }
}
