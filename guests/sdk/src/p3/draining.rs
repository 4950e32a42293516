//! How a call of `handle` learns that its connection is to be handed over. It then
//! cancels the read or write that is under way, and so learns exactly how much was
//! moved.

use crate::ConnectionId;
use crate::p3::concurrent::imports::sockserve::handler::concurrent_draining::draining;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use wit_bindgen::{StreamRead, StreamReader, StreamResult, StreamWrite, StreamWriter};

/// Whether the connection is to be handed over.
///
/// There is one call of the host's `draining` per connection; the first wait starts it.
/// Every wait of the connection also looks at this call, but polls it only after the
/// call was woken. So a look does not call the host.
pub struct Draining {
    call: RefCell<Option<Call>>,
    ready: Cell<bool>,
}

struct Call {
    future: Pin<Box<dyn Future<Output = ()>>>,
    notice: Option<Arc<Notice>>,
}

impl Draining {
    /// Becomes ready when `connection` is to be handed over.
    pub fn new(connection: ConnectionId) -> Self {
        Self {
            call: RefCell::new(Some(Call {
                future: Box::pin(draining(connection)),
                notice: None,
            })),
            ready: Cell::new(false),
        }
    }

    /// Never becomes ready.
    pub fn never() -> Self {
        Self {
            call: RefCell::new(None),
            ready: Cell::new(false),
        }
    }

    /// Whether an earlier wait or check has found that the connection is to be handed
    /// over.
    pub fn is_ready(&self) -> bool {
        self.ready.get()
    }

    /// Checks whether the connection is to be handed over, without a wait.
    pub async fn check(&self) -> bool {
        poll_fn(|context| Poll::Ready(self.poll_ready(context))).await
    }

    /// Waits for something else. `None` if the connection is to be handed over first.
    pub async fn unless_ready<F: Future>(&self, mut wait: Pin<&mut F>) -> Option<F::Output> {
        poll_fn(|context| match wait.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if self.poll_ready(context) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// Checks whether the connection is to be handed over. If it is not, the task is
    /// woken when it is.
    pub fn poll_ready(&self, context: &mut Context<'_>) -> bool {
        let mut place = self.call.borrow_mut();
        let Some(call) = place.as_mut() else {
            return self.ready.get();
        };
        let notice = call
            .notice
            .get_or_insert_with(|| Arc::new(Notice::new(context.waker())));
        if !notice.woken.swap(false, Ordering::Relaxed) {
            return false;
        }
        let waker = Waker::from(notice.clone());
        let polled = call.future.as_mut().poll(&mut Context::from_waker(&waker));
        if polled.is_ready() {
            *place = None;
            self.ready.set(true);
        }
        polled.is_ready()
    }

    /// Waits for a read or a write. Cancels it if the connection is to be handed over
    /// first.
    async fn or_cancel<F: Cancel>(&self, mut transfer: Pin<&mut F>) -> F::Output {
        match self.unless_ready(transfer.as_mut()).await {
            Some(output) => output,
            None => transfer.cancel(),
        }
    }
}

/// Remembers that the call of `draining` was woken and is to be polled. A call of
/// `handle` is one task, so its waker stays the same.
struct Notice {
    woken: AtomicBool,
    task: Waker,
}

impl Notice {
    fn new(task: &Waker) -> Self {
        Self {
            woken: AtomicBool::new(true),
            task: task.clone(),
        }
    }
}

impl Wake for Notice {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::Relaxed);
        self.task.wake_by_ref();
    }
}

/// A read or write that can be cancelled, and then returns what it has moved.
trait Cancel: Future {
    fn cancel(self: Pin<&mut Self>) -> Self::Output;
}

impl Cancel for StreamRead<'_, u8> {
    fn cancel(self: Pin<&mut Self>) -> Self::Output {
        self.cancel()
    }
}

impl Cancel for StreamWrite<'_, u8> {
    fn cancel(self: Pin<&mut Self>) -> Self::Output {
        self.cancel()
    }
}

/// Reads once, into the spare capacity of `buffer`. The result is
/// [`StreamResult::Cancelled`] if the connection is to be handed over before anything
/// has come.
pub async fn read(
    input: &mut StreamReader<u8>,
    buffer: Vec<u8>,
    draining: &Draining,
) -> (StreamResult, Vec<u8>) {
    draining.or_cancel(pin!(input.read(buffer))).await
}

/// How a [`write`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// All was written.
    All,
    /// The peer takes no more.
    Gone,
    /// The connection is to be handed over.
    HandOver,
}

/// Writes until all is written. Also returns what is not written.
pub async fn write(
    output: &mut StreamWriter<u8>,
    bytes: Vec<u8>,
    draining: &Draining,
) -> (Written, Vec<u8>) {
    let (mut result, mut buffer) = draining.or_cancel(pin!(output.write(bytes))).await;
    loop {
        if buffer.remaining() == 0 {
            return (Written::All, buffer.into_vec());
        } else if result == StreamResult::Dropped {
            return (Written::Gone, buffer.into_vec());
        } else if draining.is_ready() {
            return (Written::HandOver, buffer.into_vec());
        }
        (result, buffer) = draining.or_cancel(pin!(output.write_buf(buffer))).await;
    }
}
