//! How connections that are independent of each other are asked to leave: in groups, so that
//! each waits for its own move and not for everybody's.
//!
//! Those of a shared instance, in [`Rolling`], are asked by its driver. For isolated
//! instances a version has a list of its connections, each with the [`Notice`] of its guest. When the
//! version is asked, a task goes over the list: it tells a group, and goes on when all of
//! the group have left, have ended or have come back, or after [`PATIENCE`]. Who takes
//! longer than that leaves when it can, beside the groups after it.
//!
//! A later request begins anew, with all connections that are still there. One that comes
//! to the list during or after a request is told at once.

use crate::connection::notice::Notice;
use crate::connection::{Connection, ConnectionId};
use crate::lifecycle::VersionNumber;
use crate::sync::lock;
use crate::version::Version;
use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::timeout;

/// How many connections of a group there are for each thread. A connection waits for as many
/// moves at most, and no thread has to wait for the next group all the time.
const GROUP: usize = 8;

/// How long a group is waited for. So one that computes, or that does not wait to be told,
/// does not hold the others up.
const PATIENCE: Duration = Duration::from_millis(10);

/// What a version has of this.
#[derive(Default)]
pub(super) struct Asking {
    list: Mutex<List>,
    /// How many drivers or tasks have connections left that they have not told.
    under_way: AtomicUsize,
}

#[derive(Default)]
struct List {
    places: HashMap<ConnectionId, Place>,
    /// The version that those who come are asked to go to. `None` before the first request.
    to: Option<VersionNumber>,
    /// Whether a task goes over the list.
    is_telling: bool,
}

struct Place {
    notice: Arc<Notice>,
    /// Kept from when the connection is told until it has left, has ended or has come back.
    moving: Option<Moving>,
}

/// A connection that is told and has not left. When the last of a group is dropped, the next
/// group is told.
#[derive(Clone)]
struct Moving {
    _sender: mpsc::Sender<Infallible>,
}

/// A connection on the list, which it leaves when this is dropped.
pub(crate) struct Listed {
    version: Arc<Version>,
    id: ConnectionId,
}

impl Listed {
    /// The connection has come back, and the guest that serves it now has another notice.
    pub(crate) fn come_back(&self, connection: &Connection) {
        self.version.list(connection);
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        lock(&self.version.asking.list).places.remove(&self.id);
    }
}

/// The connections of a shared instance that are asked to go to another version one group
/// after another, and whose turn has not come.
pub(crate) struct Rolling<'a> {
    /// The version that they are asked to go to.
    pub(crate) to: VersionNumber,
    waiting: VecDeque<ConnectionId>,
    _under_way: UnderWay<'a>,
}

impl<'a> Rolling<'a> {
    /// Begins with the connections that are asked.
    pub(crate) fn new(version: &'a Version, to: VersionNumber, asked: Vec<ConnectionId>) -> Self {
        Self {
            to,
            waiting: asked.into(),
            _under_way: version.begin_asking(),
        }
    }

    /// The next connection. It may have ended since it was asked.
    pub(crate) fn next(&mut self) -> Option<ConnectionId> {
        self.waiting.pop_front()
    }

    /// Whether the turn of all has come.
    pub(crate) fn is_over(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// Exists as long as there are connections that are asked to leave and have not been told.
struct UnderWay<'a>(&'a Version);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.asking.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Version {
    /// Puts a connection on the list, for as long as the result exists.
    pub(crate) fn enlist(self: &Arc<Self>, connection: &Connection) -> Listed {
        self.list(connection);
        Listed {
            version: Arc::clone(self),
            id: connection.id(),
        }
    }

    fn list(&self, connection: &Connection) {
        let notice = Arc::clone(connection.notice());
        let mut list = lock(&self.asking.list);
        if list.to.is_some() {
            notice.give(list.to);
        }
        let moving = None;
        list.places
            .insert(connection.id(), Place { notice, moving });
    }

    /// Begins to ask connections one after another.
    fn begin_asking(&self) -> UnderWay<'_> {
        self.asking.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(self)
    }

    /// Whether there are connections that are asked to leave and have not been told.
    pub(crate) fn is_asking(&self) -> bool {
        self.asking.under_way.load(Ordering::Relaxed) > 0
    }

    /// Tells the connections on the list which version they are asked to go to, group by
    /// group. Returns when all have been told; at once if another task does that.
    pub(crate) async fn tell_in_groups(&self) {
        if std::mem::replace(&mut lock(&self.asking.list).is_telling, true) {
            return;
        }
        let _under_way = self.begin_asking();
        let size = GROUP * Handle::current().metrics().num_workers();
        while let Some((to, ids)) = self.next_request() {
            for group in ids.chunks(size) {
                if self.asks_for() > Some(to) {
                    break;
                }
                let mut moved = self.tell(group, to);
                // Nothing is ever sent: the wait ends when the last of them is dropped.
                let _ = timeout(PATIENCE, moved.recv()).await;
                // The runtime looks at its sockets between two groups. Without a thread that
                // has nothing to do it would do so only now and then.
                yield_now().await;
            }
        }
    }

    /// The version that the connections are to go to now, and which connections those are,
    /// oldest first. `None` if all have been told.
    fn next_request(&self) -> Option<(VersionNumber, Vec<ConnectionId>)> {
        let mut list = lock(&self.asking.list);
        let asked = self.asks_for().filter(|to| Some(*to) > list.to);
        let Some(to) = asked else {
            // A request from now on has a task of its own.
            list.is_telling = false;
            return None;
        };
        list.to = Some(to);
        let mut ids: Vec<_> = list.places.keys().copied().collect();
        ids.sort_unstable();
        Some((to, ids))
    }

    /// Tells the connections of a group. The result is closed when all of them have moved.
    fn tell(&self, group: &[ConnectionId], to: VersionNumber) -> mpsc::Receiver<Infallible> {
        let (sender, moved) = mpsc::channel(1);
        let moving = Moving { _sender: sender };
        let mut list = lock(&self.asking.list);
        for id in group {
            if let Some(place) = list.places.get_mut(id) {
                place.moving = Some(moving.clone());
                place.notice.give(Some(to));
            }
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::tests::connection;
    use crate::version::Origin;
    use crate::version::stay::tests::HANDLER;
    use futures_util::FutureExt as _;
    use std::pin::{Pin, pin};
    use tokio::time::advance;

    /// Lets a task go on as far as it can, and says whether it has ended.
    fn run(mut task: Pin<&mut impl Future<Output = ()>>) -> bool {
        // It yields after each group.
        (0..=2).any(|_| task.as_mut().now_or_never().is_some())
    }

    fn version() -> Arc<Version> {
        Version::new(
            VersionNumber::FIRST,
            Arc::clone(&HANDLER),
            Origin::Start,
            Arc::default(),
        )
    }

    /// Whether the guest of a connection knows that it is to leave.
    fn is_told(connection: &Arc<Connection>) -> bool {
        let notice = Arc::clone(connection.notice());
        let told = Connection::wait_until_told_if_open(Arc::downgrade(connection), notice);
        told.now_or_never().is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_is_told_when_the_one_before_has_moved_or_had_the_time() {
        let version = version();
        let count = 3 * GROUP;
        let (connections, _peers): (Vec<_>, Vec<_>) = (0..count).map(|_| connection()).unzip();
        let mut listed: VecDeque<_> = connections.iter().map(|it| version.enlist(it)).collect();
        let told = || connections.iter().filter(|it| is_told(it)).count();
        version.ask(version.number.next());
        assert_eq!(told(), 0);
        let mut telling = pin!(version.tell_in_groups());
        assert!(!run(telling.as_mut()));
        assert_eq!(told(), GROUP);
        // All but one have moved.
        listed.drain(1..GROUP);
        assert!(!run(telling.as_mut()));
        assert_eq!(told(), GROUP);
        // The last one of them comes back: it has not gone, but it need not be waited for.
        listed[0].come_back(&connections[0]);
        assert!(!run(telling.as_mut()));
        assert_eq!(told(), 2 * GROUP);
        assert!(version.is_asking());
        // Nothing moves.
        advance(PATIENCE * 2).await;
        assert!(!run(telling.as_mut()));
        assert_eq!(told(), count);
        drop(listed);
        assert!(run(telling.as_mut()));
        assert!(!version.is_asking());
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_late_is_told_at_once_and_a_later_request_is_for_all() {
        let version = version();
        let (connections, _peers): (Vec<_>, Vec<_>) = (0..=GROUP).map(|_| connection()).unzip();
        let _listed: Vec<_> = connections.iter().map(|it| version.enlist(it)).collect();
        let second = version.number.next();
        version.ask(second);
        let mut telling = pin!(version.tell_in_groups());
        assert!(!run(telling.as_mut()));
        let (late, _peer) = connection();
        let _late = version.enlist(&late);
        assert!(is_told(&late));
        assert!(!is_told(&connections[GROUP]));
        // None of them may go to the second version, and another task has nothing to do.
        for connection in connections.iter().chain([&late]) {
            connection.mark_refused(second);
        }
        version.ask(second.next());
        assert!(version.tell_in_groups().now_or_never().is_some());
        assert!(!is_told(&late));
        for _ in 0..2 {
            advance(PATIENCE * 2).await;
            assert!(!run(telling.as_mut()));
        }
        assert!(is_told(&connections[GROUP]) && is_told(&late));
        advance(PATIENCE * 2).await;
        assert!(run(telling.as_mut()));
    }
}
