//! Guest time: how long an instance has computed without a wait.
//!
//! One ticker for the process advances the epoch of every engine each [`TICK`].
//! A guest that reaches a new epoch calls back; the call gives the thread to
//! others and, once the guest has used up its deadline, traps. Time is counted
//! in ticks while the guest is being polled. A wait starts the count anew, and so
//! does a byte that was moved; a yield forced by the epoch does not. In a store
//! that has many calls at once, each step of its event loop does.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use wasmtime::{Engine, EngineWeak, Store, UpdateDeadline};

/// How often a running guest is looked at.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// Ticks since the ticker started.
static NOW: AtomicU64 = AtomicU64::new(0);
static ENGINES: Mutex<Vec<EngineWeak>> = Mutex::new(Vec::new());

/// A guest computed for longer than its deadline without a wait.
#[derive(Debug, thiserror::Error)]
#[error("no wait within the deadline of {0:?}")]
pub(crate) struct DeadlineExceeded(pub(crate) Duration);

/// Advances the epoch of `engine` from now on, for as long as it lives.
pub(crate) fn tick(engine: &Engine) -> std::io::Result<()> {
    static TICKER: OnceLock<()> = OnceLock::new();
    let mut engines = ENGINES.lock().unwrap_or_else(PoisonError::into_inner);
    if TICKER.get().is_none() {
        std::thread::Builder::new()
            .name("sockserve-ticker".to_owned())
            .spawn(run_ticker)
            .map_err(|error| {
                let advice = "raise the limit on processes (ulimit -u)";
                let text = format!("no thread for the guests' clock: {error}; {advice}");
                std::io::Error::new(error.kind(), text)
            })?;
        TICKER.get_or_init(|| ());
    }
    engines.push(engine.weak());
    Ok(())
}

fn run_ticker() {
    loop {
        std::thread::sleep(TICK);
        NOW.fetch_add(1, Ordering::Relaxed);
        ENGINES
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|engine| match engine.upgrade() {
                Some(engine) => {
                    engine.increment_epoch();
                    true
                }
                None => false,
            });
    }
}

/// Counts the guest time of one store.
#[derive(Clone)]
pub(crate) struct GuestClock(Arc<Count>);

struct Count {
    /// When the running poll began.
    started: AtomicU64,
    /// Ticks used before it, since the last wait.
    carried: AtomicU64,
    /// The running poll was ended by a forced yield, not by a wait.
    yielded: AtomicBool,
}

impl GuestClock {
    /// Counts the time of `store`, whose guest traps after `deadline`.
    ///
    /// `moved` says how many bytes it has moved so far: a guest whose peer keeps
    /// up never has to wait, and is busy and not stuck.
    pub(crate) fn install<T: 'static>(
        store: &mut Store<T>,
        deadline: Duration,
        moved: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Self {
        let clock = Self(Arc::new(Count {
            started: AtomicU64::new(NOW.load(Ordering::Relaxed)),
            carried: AtomicU64::new(0),
            yielded: AtomicBool::new(false),
        }));
        let count = Arc::clone(&clock.0);
        let limit = deadline.as_nanos().div_ceil(TICK.as_nanos());
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        store.set_epoch_deadline(1);
        let mut moved_before = moved();
        store.epoch_deadline_callback(move |_| {
            let moved_now = moved();
            if std::mem::replace(&mut moved_before, moved_now) != moved_now {
                count.restart();
            }
            if count.used() > limit {
                return Err(DeadlineExceeded(deadline).into());
            }
            count.yielded.store(true, Ordering::Relaxed);
            // Tokio's own yield lets the runtime look at its sockets before this
            // guest goes on; a plain wake would be served first, over and over.
            Ok(UpdateDeadline::YieldCustom(
                1,
                Box::pin(tokio::task::yield_now()),
            ))
        });
        clock
    }

    /// Runs `future`, which calls the guest, on the clock.
    pub(crate) async fn count<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        std::future::poll_fn(|cx| self.poll(future.as_mut(), cx)).await
    }

    /// Starts the count anew whenever `future` is polled.
    ///
    /// For what a store's event loop polls between two calls into the guest:
    /// many calls that are each short may well keep the loop busy for longer
    /// than one of them may compute.
    pub(crate) async fn between_calls<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        std::future::poll_fn(|cx| {
            self.0.restart();
            future.as_mut().poll(cx)
        })
        .await
    }

    /// Polls `future`, which calls the guest, on the clock.
    pub(crate) fn poll<F: Future>(
        &self,
        future: Pin<&mut F>,
        cx: &mut Context<'_>,
    ) -> Poll<F::Output> {
        let count = &*self.0;
        let carried = if count.yielded.load(Ordering::Relaxed) {
            count.carried.load(Ordering::Relaxed)
        } else {
            0
        };
        count.restart();
        count.carried.store(carried, Ordering::Relaxed);
        let result = future.poll(cx);
        if count.yielded.load(Ordering::Relaxed) {
            count.carried.store(count.used(), Ordering::Relaxed);
        }
        result
    }
}

impl Count {
    /// Begins to count from nothing.
    fn restart(&self) {
        self.yielded.store(false, Ordering::Relaxed);
        self.carried.store(0, Ordering::Relaxed);
        self.started
            .store(NOW.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    fn used(&self) -> u64 {
        let now = NOW.load(Ordering::Relaxed);
        let running = now.saturating_sub(self.started.load(Ordering::Relaxed));
        self.carried.load(Ordering::Relaxed).saturating_add(running)
    }
}
