//! Guest time: how long an instance has computed without a wait.
//!
//! One ticker per process advances the epoch of every engine once per [`TICK`]. A
//! guest that reaches a new epoch calls back into this module. The callback lets
//! other tasks use the thread. Once the guest has used up its deadline, the
//! callback traps instead. Time is counted in ticks, and only while the guest is
//! being polled.
//!
//! The count restarts after a wait, and after bytes were moved. It does not restart
//! after a yield, whether the epoch forces the yield or the guest asks for it: a
//! poll during which its own task was woken has not waited. A store with many calls
//! at once has two counts. The first counts the running call; each step of the
//! event loop restarts it. The second continues over the steps, and finds a guest
//! whose calls only yield. In such a store moved bytes restart the second count
//! only, because they do not show which call moved them.
//!
//! All calls into a guest are polled here, so a panic in such a call is caught here.
//! wasmtime 48.0.8 has one that a guest can cause (GHSA-xrvr-8678-5wp8).

use crate::guest::failure::HostPanic;
use crate::panics;
use crate::sync::lock;
use futures_util::task::AtomicWaker;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, SystemTime};
use wasmtime::{Engine, EngineWeak, Store, UpdateDeadline};
use wasmtime_wasi::clocks::{HostWallClock, WallClock};

/// The time between two looks at a running guest.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// Ticks since the ticker started.
static NOW: AtomicU64 = AtomicU64::new(0);
/// The engines whose epochs the ticker advances.
static ENGINES: Mutex<Vec<EngineWeak>> = Mutex::new(Vec::new());

/// A guest computed for longer than its deadline, without a wait.
#[derive(Debug, thiserror::Error)]
#[error("no wait within the deadline of {0:?}")]
pub(crate) struct DeadlineExceeded(pub(crate) Duration);

/// Advances the epoch of `engine` from now on, until the engine is dropped.
pub(crate) fn tick(engine: &Engine) -> std::io::Result<()> {
    static TICKER: OnceLock<()> = OnceLock::new();
    let mut engines = lock(&ENGINES);
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
        lock(&ENGINES).retain(|engine| match engine.upgrade() {
            Some(engine) => {
                engine.increment_epoch();
                true
            }
            None => false,
        });
    }
}

/// The time of day for guests. wasmtime-wasi's clock panics before 1970, and
/// `wasi:clocks` 0.2 has no such time. Guests see 1970 in that case.
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

/// Which bytes the guest has moved. A guest whose peer reads and writes fast never
/// waits. As long as it moves bytes it counts as busy, not as stuck.
pub(crate) enum Moved {
    /// Unknown. Each call has the whole deadline for itself.
    Unknown,
    /// The bytes that the only call of the store has moved.
    Alone(Box<dyn Fn() -> u64 + Send + Sync>),
    /// The bytes that all calls of the store have moved together. They do not show
    /// which call moved them.
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

/// The two counts of a store: of its running call, and of all its calls.
#[derive(Default)]
struct Count {
    /// The tick at which the running poll began.
    polled: AtomicU64,
    /// The tick at which the count of the running call began in this poll.
    started: AtomicU64,
    /// Ticks that the running call used in earlier polls, since its last wait.
    carried: AtomicU64,
    /// Ticks that all calls used in earlier polls, since the store last waited.
    busy: AtomicU64,
    /// A forced yield ends the running poll.
    yielded: AtomicBool,
}

impl GuestClock {
    /// Starts to count the time of `store`. Its guest traps after `deadline`.
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
        let limit = ticks(deadline);
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
            // guest continues. A task that only wakes itself would run first, again
            // and again.
            Ok(UpdateDeadline::YieldCustom(
                1,
                Box::pin(tokio::task::yield_now()),
            ))
        });
        clock
    }

    /// Runs `future`, which calls the guest, on the clock. A panic becomes an
    /// error.
    ///
    /// It is pinned, here and in other functions that only wait for a call, because an
    /// asynchronous function has room for an argument twice: as it is given, and as it is
    /// used. Each such function around a call would double what a connection takes.
    pub(crate) async fn count<R>(
        &self,
        mut future: Pin<&mut impl Future<Output = wasmtime::Result<R>>>,
    ) -> wasmtime::Result<R> {
        std::future::poll_fn(|cx| self.poll(future.as_mut(), cx)).await
    }

    /// Restarts the count of the call whenever `future` is polled.
    ///
    /// For the future that a store's event loop polls between two calls into the
    /// guest. Many short calls may keep the loop busy for longer than one call may
    /// compute.
    pub(crate) async fn between_calls<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        std::future::poll_fn(|cx| {
            self.count.restart();
            future.as_mut().poll(cx)
        })
        .await
    }

    /// Polls `future`, which calls the guest, on the clock. A panic becomes an
    /// error; after it the store must be dropped.
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
    /// A poll begins. Ticks carried over from earlier polls still count.
    fn begin(&self) {
        let now = NOW.load(Ordering::Relaxed);
        self.yielded.store(false, Ordering::Relaxed);
        self.polled.store(now, Ordering::Relaxed);
        self.started.store(now, Ordering::Relaxed);
    }

    /// A poll ends without a wait. Its ticks are carried over.
    fn carry(&self) {
        self.carried.store(self.used(), Ordering::Relaxed);
        self.busy.store(self.busy(), Ordering::Relaxed);
    }

    /// The count of the running call restarts at zero.
    fn restart(&self) {
        self.yielded.store(false, Ordering::Relaxed);
        self.carried.store(0, Ordering::Relaxed);
        self.started
            .store(NOW.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// The store waits, or has moved bytes. Its count restarts at zero.
    fn rest(&self) {
        self.busy.store(0, Ordering::Relaxed);
        self.polled
            .store(NOW.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Returns the ticks that the running call has used.
    fn used(&self) -> u64 {
        since(&self.started).saturating_add(self.carried.load(Ordering::Relaxed))
    }

    /// Returns the ticks that the store has used without a wait.
    fn busy(&self) -> u64 {
        since(&self.polled).saturating_add(self.busy.load(Ordering::Relaxed))
    }
}

/// Returns the tick that it is now.
pub(super) fn now() -> u64 {
    NOW.load(Ordering::Relaxed)
}

/// Returns the ticks of a time, rounded up.
pub(super) fn ticks(time: Duration) -> u64 {
    let ticks = time.as_nanos().div_ceil(TICK.as_nanos());
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

/// Returns the ticks since `tick`.
fn since(tick: &AtomicU64) -> u64 {
    let now = NOW.load(Ordering::Relaxed);
    now.saturating_sub(tick.load(Ordering::Relaxed))
}

/// Passes wake-ups on to the task that polls a store, and remembers them. If the
/// task is woken during its poll, the poll does not end in a wait.
#[derive(Default)]
struct Alarm {
    task: AtomicWaker,
    rung: AtomicBool,
}

impl Alarm {
    /// Forgets earlier wake-ups, and passes later ones on to `task`.
    fn set(&self, task: &Waker) {
        self.rung.store(false, Ordering::Relaxed);
        self.task.register(task);
    }

    /// Whether the task was woken since `set`.
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
