//! What is known of a connection outside of the dispatch that serves it, and how the host
//! ends it from there.
//!
//! A [`Record`] lasts as long as its connection, through every hand-over. The
//! [`Roll`](super::roll::Roll) has the records of all connections of a service. Nothing
//! here reads or writes: the connection notes what it does, and others look at the notes.

use super::ConnectionId;
use super::attention::Attention;
use super::peer::Peer;
use crate::lifecycle::{AtomicVersionNumber, VersionNumber};
use crate::sync::lock;
use rustix::time::{ClockId, clock_gettime};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::sync::Notify;

/// Why the host ends a connection whose handler is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Cut {
    /// Somebody asked for it by the control socket.
    #[error("killed by request")]
    Killed,
    /// The peer sent nothing for so long after it had connected.
    #[error("the peer sent nothing for {0:?} after it had connected (--first-byte-timeout)")]
    FirstByte(Duration),
    /// No byte was moved for so long, in either direction.
    #[error("no byte was moved for {0:?} (--idle-timeout)")]
    Idle(Duration),
    /// The peer took nothing for so long, and there was something for it.
    #[error("the peer took nothing for {0:?} (--write-timeout)")]
    Write(Duration),
    /// The connection was open for so long.
    #[error("it was open for {0:?} (--connection-timeout)")]
    Whole(Duration),
}

/// A moment of the system's coarse monotonic clock, in milliseconds. Reading that clock
/// costs a fraction of what the exact one costs; it may be late by a tick of the kernel,
/// which is 10 ms at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Moment {
    /// The moment that it is now.
    pub(crate) fn now() -> Self {
        let time = clock_gettime(ClockId::MonotonicCoarse);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
        // From 1, so that 0 can stand for none.
        Self(seconds * 1000 + nanoseconds / 1_000_000 + 1)
    }

    /// How long ago `before` was. Zero if it was later.
    pub(crate) fn since(self, before: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(before.0))
    }

    /// The moment so much later.
    pub(crate) fn after(self, time: Duration) -> Self {
        let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(milliseconds))
    }
}

/// A moment that one thread notes while others read it. It may be absent.
#[derive(Debug, Default)]
struct Noted(AtomicU64);

impl Noted {
    fn get(&self) -> Option<Moment> {
        Some(self.0.load(Ordering::Relaxed))
            .filter(|at| *at != 0)
            .map(Moment)
    }

    fn set(&self, moment: Option<Moment>) {
        let at = moment.map_or(0, |moment| moment.0);
        self.0.store(at, Ordering::Relaxed);
    }
}

/// What is known of an open connection.
pub(crate) struct Record {
    /// The number of the connection.
    pub(crate) id: ConnectionId,
    pub(crate) peer: Peer,
    /// When it was accepted.
    pub(crate) since: SystemTime,
    opened: Moment,
    /// When a byte was last moved, in either direction. None before the first one.
    moved: Noted,
    /// Since when the kernel takes nothing though something is to be sent.
    stalled: Noted,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    /// Bytes that the host holds for the peer, beyond what the kernel has.
    unsent: AtomicU64,
    /// The version that serves it.
    version: AtomicVersionNumber,
    /// Whether its handler is done.
    is_closing: AtomicBool,
    /// Why it is to end. Once set it stays, but a kill goes before a time-out.
    cut: Mutex<Option<Cut>>,
    /// Notified when `cut` is set: the task of an isolated instance waits for it.
    is_cut: Notify,
    /// Asked when `cut` is set: the driver of a shared instance looks there.
    attention: Mutex<Option<Arc<Attention>>>,
}

impl Record {
    pub(super) fn new(id: ConnectionId, peer: Peer) -> Self {
        Self {
            id,
            peer,
            since: SystemTime::now(),
            opened: Moment::now(),
            moved: Noted::default(),
            stalled: Noted::default(),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            unsent: AtomicU64::new(0),
            version: AtomicVersionNumber::default(),
            is_closing: AtomicBool::new(false),
            cut: Mutex::default(),
            is_cut: Notify::new(),
            attention: Mutex::default(),
        }
    }

    /// Notes bytes read from the peer.
    pub(super) fn add_in(&self, count: usize) {
        self.bytes_in.fetch_add(count as u64, Ordering::Relaxed);
        self.moved.set(Some(Moment::now()));
    }

    /// Notes bytes that the kernel has taken.
    pub(super) fn add_out(&self, count: usize) {
        self.bytes_out.fetch_add(count as u64, Ordering::Relaxed);
        self.moved.set(Some(Moment::now()));
        self.stalled.set(None);
    }

    /// Notes that the kernel takes nothing of what is to be sent.
    pub(super) fn stall(&self) {
        if self.stalled.get().is_none() {
            self.stalled.set(Some(Moment::now()));
        }
    }

    /// Notes how many bytes the host holds for the peer.
    pub(super) fn set_unsent(&self, count: usize) {
        self.unsent.store(count as u64, Ordering::Relaxed);
    }

    /// Notes the version that serves it from now on.
    pub(crate) fn set_version(&self, version: VersionNumber) {
        self.version.set(version);
    }

    /// Notes that its handler is done.
    pub(crate) fn begin_closing(&self) {
        self.is_closing.store(true, Ordering::Relaxed);
    }

    /// Bytes read from the peer.
    pub(crate) fn bytes_in(&self) -> u64 {
        self.bytes_in.load(Ordering::Relaxed)
    }

    /// Bytes that the kernel has taken for the peer.
    pub(crate) fn bytes_out(&self) -> u64 {
        self.bytes_out.load(Ordering::Relaxed)
    }

    /// Bytes that the host holds for the peer, beyond what the kernel has.
    pub(crate) fn unsent(&self) -> u64 {
        self.unsent.load(Ordering::Relaxed)
    }

    /// The version that serves it. `None` before the first one has taken it.
    pub(crate) fn version(&self) -> Option<VersionNumber> {
        self.version.load()
    }

    /// Whether its handler is done, and the connection is being closed.
    pub(crate) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Relaxed)
    }

    /// When it was accepted.
    pub(crate) fn opened(&self) -> Moment {
        self.opened
    }

    /// When a byte was last moved; before the first one, when it was accepted.
    pub(crate) fn active(&self) -> Moment {
        self.moved.get().unwrap_or(self.opened)
    }

    /// Since when the peer takes nothing, though there is something for it.
    pub(crate) fn stalled(&self) -> Option<Moment> {
        self.stalled.get()
    }

    /// Ends the connection for this reason, as soon as its dispatch hears of it.
    pub(crate) fn end(&self, reason: Cut) {
        {
            let mut cut = lock(&self.cut);
            if cut.is_some() && (reason != Cut::Killed || *cut == Some(Cut::Killed)) {
                return;
            }
            *cut = Some(reason);
        }
        self.is_cut.notify_waiters();
        if let Some(attention) = &*lock(&self.attention) {
            attention.ask_and_wake(self.id);
        }
    }

    /// Why the connection is to end. `None` if it is not.
    pub(crate) fn cut(&self) -> Option<Cut> {
        *lock(&self.cut)
    }

    /// Waits until the connection is to end. Cancel-safe.
    pub(crate) async fn ended(&self) -> Cut {
        self.ended_by(|_| true).await
    }

    /// Waits until somebody kills the connection. Cancel-safe.
    pub(crate) async fn killed(&self) {
        self.ended_by(|cut| cut == Cut::Killed).await;
    }

    async fn ended_by(&self, is_reason: impl Fn(Cut) -> bool) -> Cut {
        loop {
            let mut cut = std::pin::pin!(self.is_cut.notified());
            // From here on no notification is missed.
            cut.as_mut().enable();
            if let Some(reason) = self.cut().filter(|reason| is_reason(*reason)) {
                return reason;
            }
            cut.await;
        }
    }

    /// Sets who looks at the connection when it is to end; `None` for nobody. If it is to
    /// end already, that is asked for at once.
    pub(super) fn set_attention(&self, attention: Option<Arc<Attention>>) {
        let mut place = lock(&self.attention);
        if let (Some(attention), Some(_)) = (&attention, self.cut()) {
            attention.ask_and_wake(self.id);
        }
        *place = attention;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    fn record() -> Record {
        Record::new(7, Peer::Ip(([127, 0, 0, 1], 1).into()))
    }

    #[test]
    fn a_kill_goes_before_a_time_out_and_nothing_before_a_kill() {
        let record = record();
        assert_eq!((record.cut(), record.ended().now_or_never()), (None, None));
        let idle = Cut::Idle(Duration::from_secs(1));
        record.end(idle);
        record.end(Cut::Whole(Duration::from_secs(2)));
        assert_eq!(record.ended().now_or_never(), Some(idle));
        assert_eq!(record.killed().now_or_never(), None);
        record.end(Cut::Killed);
        record.end(idle);
        assert_eq!(record.ended().now_or_never(), Some(Cut::Killed));
        assert!(record.killed().now_or_never().is_some());
    }

    #[test]
    fn whoever_looks_is_asked_whether_it_came_before_or_after() {
        for early in [true, false] {
            let (record, attention) = (record(), Arc::<Attention>::default());
            let look = || record.set_attention(Some(Arc::clone(&attention)));
            if early {
                look();
            }
            assert!(attention.woken().now_or_never().is_none());
            record.end(Cut::Killed);
            if !early {
                look();
            }
            assert!(attention.woken().now_or_never().is_some());
            let mut asked = Vec::new();
            attention.take(&mut asked);
            assert_eq!(asked, [7]);
        }
    }

    #[test]
    fn a_stall_ends_with_the_next_byte_and_begins_once() {
        let record = record();
        assert!(record.stalled().is_none());
        record.stall();
        let since = record.stalled().unwrap();
        record.stall();
        assert_eq!(record.stalled(), Some(since));
        record.add_out(1);
        assert!(record.stalled().is_none());
        assert_eq!((record.bytes_out(), record.bytes_in()), (1, 0));
        assert!(record.active() >= record.opened());
    }
}
