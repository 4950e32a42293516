//! Guest time: how long an instance has computed without a wait.
//!
//! One ticker for the process advances the epoch of every engine each [`TICK`].
//! A guest that reaches a new epoch calls back; the call gives the thread to
//! others and, once the guest has used up its deadline, traps. Time is counted
//! in ticks while the guest is being polled.
//!
//! A wait starts the count anew, and so does a byte that was moved. A yield does
//! not, neither one that the epoch forces nor one that the guest asks for: a poll
//! that has woken itself has not waited. In a store that has many calls at once,
//! each step of its event loop starts the count of the running call anew, and a
//! second count goes on over the steps: it finds a guest whose calls only yield.
//!
//! All calls into a guest are polled here, so a panic below one is caught here.

use crate::guest::failure::HostPanic;
use crate::panics;
use futures_util::task::AtomicWaker;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, SystemTime};
use wasmtime::{Engine, EngineWeak, Store, UpdateDeadline};
use wasmtime_wasi::clocks::{HostWallClock, WallClock};

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

/// The time of day for guests. wasmtime-wasi's panics before 1970, and `wasi:clocks`
/// 0.2 has no such time: it is 1970 until then.
pub(crate) struct TimeOfDay;

impl HostWallClock for TimeOfDay {
    fn resolution(&self) -> Duration {
        WallClock.resolution()
    }

    fn now(&self) -> Duration {
        SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
    }
}

/// Counts the guest time of one store.
#[derive(Clone)]
pub(crate) struct GuestClock {
    count: Arc<Count>,
    alarm: Arc<Alarm>,
    waker: Waker,
}

/// Whether bytes were moved, that is whether the guest is busy and not stuck: a
/// guest whose peer keeps up never has to wait.
pub(crate) enum Moved {
    /// Nobody says: each call has the deadline to itself.
    Unknown,
    /// So many by the only call of the store.
    Alone(Box<dyn Fn() -> u64 + Send + Sync>),
    /// So many by all calls of the store. Those of one call say nothing of another.
    Together(Box<dyn Fn() -> u64 + Send + Sync>),
}

impl Moved {
    fn bytes(&self) -> u64 {
        match self {
            Self::Unknown => 0,
            Self::Alone(bytes) | Self::Together(bytes) => bytes(),
        }
    }
}

#[derive(Default)]
struct Count {
    /// When the running poll began.
    polled: AtomicU64,
    /// When the running call began to count, in this poll.
    started: AtomicU64,
    /// Ticks that it used in polls before this one, since its last wait.
    carried: AtomicU64,
    /// Ticks that all calls used in polls before this one, since the store last
    /// waited.
    busy: AtomicU64,
    /// The running poll was ended by a forced yield.
    yielded: AtomicBool,
}

impl GuestClock {
    /// Counts the time of `store`, whose guest traps after `deadline`.
    pub(crate) fn install<T: 'static>(
        store: &mut Store<T>,
        deadline: Duration,
        moved: Moved,
    ) -> Self {
        let alarm = Arc::new(Alarm::default());
        let clock = Self {
            count: Arc::default(),
            waker: Waker::from(Arc::clone(&alarm)),
            alarm,
        };
        let count = Arc::clone(&clock.count);
        count.restart();
        let limit = deadline.as_nanos().div_ceil(TICK.as_nanos());
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        store.set_epoch_deadline(1);
        let mut moved_before = moved.bytes();
        store.epoch_deadline_callback(move |_| {
            let moved_now = moved.bytes();
            if std::mem::replace(&mut moved_before, moved_now) != moved_now {
                count.rest();
                if matches!(moved, Moved::Alone(_)) {
                    count.restart();
                }
            }
            if count.used() > limit || count.busy() > limit {
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

    /// Runs `future`, which calls the guest, on the clock. A panic is its error.
    pub(crate) async fn count<R>(
        &self,
        future: impl Future<Output = wasmtime::Result<R>>,
    ) -> wasmtime::Result<R> {
        let mut future = pin!(future);
        std::future::poll_fn(|cx| self.poll(future.as_mut(), cx)).await
    }

    /// Starts the count of a call anew whenever `future` is polled.
    ///
    /// For what a store's event loop polls between two calls into the guest:
    /// many calls that are each short may well keep the loop busy for longer
    /// than one of them may compute.
    pub(crate) async fn between_calls<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        std::future::poll_fn(|cx| {
            self.count.restart();
            future.as_mut().poll(cx)
        })
        .await
    }

    /// Polls `future`, which calls the guest, on the clock. A panic is its error,
    /// after which the store must be dropped.
    pub(crate) fn poll<R>(
        &self,
        future: Pin<&mut impl Future<Output = wasmtime::Result<R>>>,
        cx: &mut Context<'_>,
    ) -> Poll<wasmtime::Result<R>> {
        let count = &*self.count;
        self.alarm.set(cx.waker());
        count.begin();
        let result = panics::poll(future, &mut Context::from_waker(&self.waker));
        let result = result.map(|caught| match caught {
            Ok(result) => result,
            Err(thrown) => Err(HostPanic::new(&*thrown).into()),
        });
        if result.is_pending() && (count.yielded.load(Ordering::Relaxed) || self.alarm.has_rung()) {
            count.carry();
        } else {
            count.restart();
            count.rest();
        }
        result
    }
}

impl Count {
    /// A poll begins; what the polls before it have carried over counts on.
    fn begin(&self) {
        let now = NOW.load(Ordering::Relaxed);
        self.yielded.store(false, Ordering::Relaxed);
        self.polled.store(now, Ordering::Relaxed);
        self.started.store(now, Ordering::Relaxed);
    }

    /// A poll ends without a wait.
    fn carry(&self) {
        self.carried.store(self.used(), Ordering::Relaxed);
        self.busy.store(self.busy(), Ordering::Relaxed);
    }

    /// The running call begins to count from nothing.
    fn restart(&self) {
        self.yielded.store(false, Ordering::Relaxed);
        self.carried.store(0, Ordering::Relaxed);
        self.started
            .store(NOW.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// The store waits, or has moved something.
    fn rest(&self) {
        self.busy.store(0, Ordering::Relaxed);
        self.polled
            .store(NOW.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Ticks that the running call has used.
    fn used(&self) -> u64 {
        since(&self.started).saturating_add(self.carried.load(Ordering::Relaxed))
    }

    /// Ticks that the store has used without a wait.
    fn busy(&self) -> u64 {
        since(&self.polled).saturating_add(self.busy.load(Ordering::Relaxed))
    }
}

fn since(tick: &AtomicU64) -> u64 {
    let now = NOW.load(Ordering::Relaxed);
    now.saturating_sub(tick.load(Ordering::Relaxed))
}

/// Passes wake-ups on to the task that polls a store, and remembers them: a poll
/// during which its own task is woken does not end in a wait.
#[derive(Default)]
struct Alarm {
    task: AtomicWaker,
    rung: AtomicBool,
}

impl Alarm {
    fn set(&self, task: &Waker) {
        self.rung.store(false, Ordering::Relaxed);
        self.task.register(task);
    }

    fn has_rung(&self) -> bool {
        self.rung.load(Ordering::Relaxed)
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Relaxed);
        self.task.wake();
    }
}
