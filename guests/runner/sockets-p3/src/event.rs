//! What one task tells another.

use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::task::{Poll, Waker};

/// Something that happens once. Any number of tasks wait for it.
#[derive(Default)]
pub(crate) struct Event {
    has_happened: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
}

impl Event {
    pub(crate) fn happen(&self) {
        self.has_happened.set(true);
        let waiting = self.waiting.take();
        waiting.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn has_happened(&self) -> bool {
        self.has_happened.get()
    }

    pub(crate) async fn wait(&self) {
        poll_fn(|context| {
            if self.has_happened() {
                return Poll::Ready(());
            }
            let mut waiting = self.waiting.borrow_mut();
            if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                waiting.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}

/// Waits for `wanted`, unless `event` happens first. A read or write that is cut short
/// gives back what it has not moved, which is no longer wanted.
pub(crate) async fn unless<T>(event: &Event, wanted: impl Future<Output = T>) -> Option<T> {
    let mut wanted = core::pin::pin!(wanted);
    let mut happened = core::pin::pin!(event.wait());
    poll_fn(|context| {
        if happened.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        wanted.as_mut().poll(context).map(Some)
    })
    .await
}
