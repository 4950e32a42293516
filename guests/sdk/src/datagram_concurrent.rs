//! The contract `datagram-concurrent`: an asynchronous function per datagram, which may
//! wait while further datagrams are served.
//!
//! ```no_run
//! use sockserve_handler::datagram_concurrent::{Datagram, sleep};
//! use std::time::Duration;
//!
//! async fn handle(datagram: Datagram) -> Option<Datagram> {
//!     sleep(Duration::from_millis(100)).await;
//!     Some(datagram)
//! }
//!
//! sockserve_handler::datagram_concurrent!(handle);
//! # fn main() {}
//! ```
//!
//! The function returns the datagrams to be sent: none, one, or more. Answers are sent in
//! the order in which the functions end. At most 1024 datagrams are served at once; while
//! there are so many, the rest stays with the kernel.

use crate::session::Peer;
use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;
use wasip3::clocks::monotonic_clock::wait_for;
use wit_bindgen::{StreamReader, StreamResult};

#[doc(hidden)]
pub use crate::p3::datagram as lower;

/// The most datagrams that one read gives. The contract says so.
const BATCH: usize = 64;

/// The most datagrams that are served at once.
const AT_ONCE: usize = 1024;

/// A datagram that came, or that is to be sent.
pub struct Datagram(lower::Datagram);

crate::datagram_methods!(lower, "datagram-concurrent");

/// Waits for this long.
pub async fn sleep(time: Duration) {
    wait_for(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)).await;
}

/// Makes a component of the contract `datagram-concurrent` from a function
/// `async fn(Datagram) -> impl IntoIterator<Item = Datagram>`. See
/// [the module](crate::datagram_concurrent).
///
/// The options are those of [`datagram!`](crate::datagram!).
#[macro_export]
macro_rules! datagram_concurrent {
    ($handle:expr $(, instance_state = $instance:path)? $(,)?) => {
        $crate::datagram_concurrent!($handle, max_bytes = 65535 $(, instance_state = $instance)?);
    };
    ($handle:expr, max_bytes = $max:expr $(, instance_state = $instance:path)? $(,)?) => {
        const _: () = {
            struct Component;
            impl $crate::datagram_concurrent::lower::Handler for Component {
                fn max_data_bytes() -> u32 {
                    $max
                }
                async fn serve(
                    incoming: $crate::wit_bindgen::StreamReader<
                        $crate::datagram_concurrent::lower::Datagram,
                    >,
                ) -> $crate::wit_bindgen::StreamReader<$crate::datagram_concurrent::lower::Datagram>
                {
                    $crate::datagram_concurrent::serve(incoming, $handle)
                }
            }
            $crate::datagram_concurrent::lower::export!(
                Component with_types_in $crate::datagram_concurrent::lower
            );
            $($crate::instance_state!(Component, $instance);)?
        };
    };
}

/// What the tasks of an instance share.
#[derive(Default)]
struct Shared {
    /// Answers that are not written yet.
    answers: Vec<lower::Datagram>,
    /// How many datagrams are being served.
    running: usize,
    /// Whether no further datagram comes.
    is_at_end: bool,
    /// Who waits for a change of this.
    wakers: Vec<Waker>,
}

impl Shared {
    fn wake(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
    }
}

/// Waits until `ready` returns something.
async fn wait<T>(shared: &RefCell<Shared>, mut ready: impl FnMut(&mut Shared) -> Option<T>) -> T {
    poll_fn(|context| {
        let mut shared = shared.borrow_mut();
        match ready(&mut shared) {
            Some(value) => Poll::Ready(value),
            None => {
                shared.wakers.push(context.waker().clone());
                Poll::Pending
            }
        }
    })
    .await
}

/// Gives each datagram to a function, and returns the stream of the answers. It ends when
/// the datagrams have ended and all are answered.
#[doc(hidden)]
pub fn serve<F, A, I>(
    mut incoming: StreamReader<lower::Datagram>,
    handle: F,
) -> StreamReader<lower::Datagram>
where
    F: Fn(Datagram) -> A + 'static,
    A: Future<Output = I> + 'static,
    I: IntoIterator<Item = Datagram>,
{
    let (mut outgoing, answers) = lower::wit_stream::new();
    let shared = Rc::new(RefCell::new(Shared::default()));
    let reading = shared.clone();
    wit_bindgen::spawn_local(async move {
        loop {
            let room = wait(&reading, |shared| {
                Some(AT_ONCE.saturating_sub(shared.running)).filter(|&room| room > 0)
            })
            .await;
            let (result, batch) = incoming.read(Vec::with_capacity(room.min(BATCH))).await;
            reading.borrow_mut().running += batch.len();
            for datagram in batch {
                let answer = handle(Datagram(datagram));
                let shared = reading.clone();
                wit_bindgen::spawn_local(async move {
                    let answers = answer.await.into_iter().map(|Datagram(answer)| answer);
                    let mut shared = shared.borrow_mut();
                    shared.answers.extend(answers);
                    shared.running -= 1;
                    shared.wake();
                });
            }
            if result == StreamResult::Dropped {
                break;
            }
        }
        let mut shared = reading.borrow_mut();
        shared.is_at_end = true;
        shared.wake();
    });
    wit_bindgen::spawn_local(async move {
        loop {
            let batch = wait(&shared, |shared| {
                let is_over = shared.is_at_end && shared.running == 0;
                (is_over || !shared.answers.is_empty()).then(|| std::mem::take(&mut shared.answers))
            })
            .await;
            // Nothing is left to say, or the host takes no more.
            if batch.is_empty() || !outgoing.write_all(batch).await.is_empty() {
                break;
            }
        }
    });
    answers
}
