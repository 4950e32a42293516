//! How a call learns that its connection is to be handed over, and what it then does
//! with a read or a write under way: cancels it, which says exactly what was moved.

use crate::imports::sockserve::handler::concurrent_draining::draining;
use shell::ConnectionId;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use wit_bindgen::{StreamRead, StreamReader, StreamResult, StreamWrite, StreamWriter};

/// Whether the connection is to be handed over.
///
/// One call of the host's `draining`, made by the first who waits. Every wait of the
/// connection's is polled along with it, so it is polled itself only after it was
/// woken: a look at it costs no call of the host.
pub struct Draining {
    call: RefCell<Option<Call>>,
    told: Cell<bool>,
}

struct Call {
    future: Pin<Box<dyn Future<Output = ()>>>,
    notice: Option<Arc<Notice>>,
}

impl Draining {
    /// Is told when `connection` is to be handed over.
    pub fn new(connection: ConnectionId) -> Self {
        Self {
            call: RefCell::new(Some(Call {
                future: Box::pin(draining(connection)),
                notice: None,
            })),
            told: Cell::new(false),
        }
    }

    /// Is never told.
    pub fn never() -> Self {
        Self {
            call: RefCell::new(None),
            told: Cell::new(false),
        }
    }

    /// Whether somebody who waited was told.
    pub fn was_told(&self) -> bool {
        self.told.get()
    }

    /// Whether the host has told it, for one who does not wait.
    pub async fn is_told(&self) -> bool {
        poll_fn(|context| Poll::Ready(self.poll_told(context))).await
    }

    /// Waits for something else. None if the host told it first.
    pub async fn unless_told<F: Future>(&self, mut wait: Pin<&mut F>) -> Option<F::Output> {
        poll_fn(|context| match wait.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if self.poll_told(context) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// Whether the host has told it. Wakes the task when it does.
    pub fn poll_told(&self, context: &mut Context<'_>) -> bool {
        let mut place = self.call.borrow_mut();
        let Some(call) = place.as_mut() else {
            return self.told.get();
        };
        let notice = call
            .notice
            .get_or_insert_with(|| Arc::new(Notice::new(context.waker())));
        if !notice.woken.swap(false, Ordering::Relaxed) {
            return false;
        }
        let waker = Waker::from(notice.clone());
        let told = call.future.as_mut().poll(&mut Context::from_waker(&waker));
        if told.is_ready() {
            *place = None;
            self.told.set(true);
        }
        told.is_ready()
    }

    /// Waits for a read or a write, and cancels it if the host tells it first.
    async fn or_cancel<F: Cancel>(&self, mut transfer: Pin<&mut F>) -> F::Output {
        match self.unless_told(transfer.as_mut()).await {
            Some(output) => output,
            None => transfer.cancel(),
        }
    }
}

/// Remembers that the call of `draining` is to be polled. All that a call of a handler
/// waits for is one task, so the waker is the same for as long as it lasts.
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

/// A transfer that says what it has moved when it is cancelled.
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

/// Reads once, into the spare capacity of `buffer`. [`StreamResult::Cancelled`] says
/// that nothing has come before the host told it.
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
    /// The host told that the connection is to be handed over.
    Told,
}

/// Writes until all is written. Gives what is not.
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
        } else if draining.was_told() {
            return (Written::Told, buffer.into_vec());
        }
        (result, buffer) = draining.or_cancel(pin!(output.write_buf(buffer))).await;
    }
}
