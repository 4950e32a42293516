//! Which peers may come in.
//!
//! Before the accept a peer may have to wait: the pace of the service ([`Pacer`]), the
//! load of the machine, and the limit over all services hold accepting up, and the kernel
//! keeps peers in its backlog. After the accept, when the peer is known and before any
//! instance exists, it may be refused: by its address, by the time of the day, by what its
//! source has open, or by how fast its source comes.
//!
//! [`Admission`] lasts as long as its service. Its policy can be replaced; what is open
//! and what was refused stays counted. It does not know what serves a connection.
//!
//! | file | |
//! | --- | --- |
//! | `policy` | the options, and whether each has an effect |
//! | `blocks`, `rules` | blocks of addresses, and what they say of one |
//! | `rate` | token buckets |
//! | `sources` | what each source has open |
//! | `times` | times of the day |
//! | `load` | the load of the machine |
//! | `refusal` | the reasons, and their counts |
//! | `episodes` | few lines of the log for many refusals |
//! | `farewell` | the sockets of refused peers |
//! | `global` | limits over all services |

pub(crate) mod blocks;
mod episodes;
pub(crate) mod farewell;
pub(crate) mod global;
pub(crate) mod load;
pub(crate) mod policy;
mod rate;
pub(crate) mod refusal;
pub(crate) mod rules;
mod sources;
pub(crate) mod times;

use crate::connection::peer::Peer;
use crate::connection::permit::{Permit, Place};
use crate::socket_name::SocketName;
use crate::sync::lock;
use arc_swap::ArcSwap;
use episodes::Episodes;
use farewell::Farewells;
use global::GlobalLimits;
use load::Load;
use policy::AdmissionPolicy;
use rate::Pacer;
use refusal::{Refusal, Refused, RefusedCounts};
use sources::{Source, Sources};
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Decides who may come into a service.
#[derive(Debug)]
pub(crate) struct Admission {
    /// The name of the service, for the log.
    service: Arc<str>,
    policy: ArcSwap<AdmissionPolicy>,
    /// One permit per connection that may be open.
    permits: Arc<Semaphore>,
    /// What the service shares with others. `None` if nothing.
    global: Option<Arc<GlobalLimits>>,
    /// What holds accepting up.
    before: Mutex<Before>,
    sources: Arc<Sources>,
    refused: Refused,
    episodes: Mutex<Episodes<Cause>>,
    /// Notified when an episode begins.
    begun: Notify,
    /// Notified when the policy was replaced.
    replaced: Notify,
    farewells: Farewells,
    /// How many sockets of refused peers may be open.
    room: Mutex<u32>,
}

#[derive(Debug, Default)]
struct Before {
    pacer: Pacer,
    load: Load,
}

/// What the log has episodes of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cause {
    Refused(Refusal),
    HeldUp(HeldUp),
}

/// What holds accepting up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum HeldUp {
    Pace,
    Load,
}

impl fmt::Display for HeldUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pace => "--connections-per-second",
            Self::Load => "--max-load",
        })
    }
}

/// Leave to accept one connection, whoever makes it.
pub(crate) struct Leave {
    of_service: OwnedSemaphorePermit,
    of_all: Option<OwnedSemaphorePermit>,
}

impl Admission {
    /// Makes the admission of a service. `permits` has one per connection that may be
    /// open, and `room` sockets of refused peers may be open beside them.
    pub(crate) fn new(
        service: &str,
        policy: AdmissionPolicy,
        permits: Arc<Semaphore>,
        room: u32,
        global: Option<Arc<GlobalLimits>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            service: service.into(),
            policy: ArcSwap::from_pointee(policy),
            permits,
            global,
            before: Mutex::default(),
            sources: Arc::default(),
            refused: Refused::default(),
            episodes: Mutex::default(),
            begun: Notify::new(),
            replaced: Notify::new(),
            farewells: Farewells::new(room),
            room: Mutex::new(room),
        })
    }

    /// Replaces the policy. `room` says how many sockets of refused peers may be open
    /// beside the connections.
    ///
    /// What is open and what was refused stays counted. A source's connections are counted
    /// from the first policy on that limits sources; those that are open when the prefix
    /// of sources changes are counted under the one they came in with.
    pub(crate) fn set(&self, policy: AdmissionPolicy, room: u32) {
        let before = self.policy.swap(Arc::new(policy));
        let now = self.policy.load();
        if before.pace != now.pace {
            lock(&self.before).pacer = Pacer::default();
        }
        if before.per_source.rate != now.per_source.rate {
            self.sources.forget_rates();
        }
        let mut had = lock(&self.room);
        self.farewells.add_room(room.saturating_sub(*had));
        *had = room.max(*had);
        drop(had);
        self.replaced.notify_waiters();
    }

    /// The policy as it is now.
    pub(crate) fn policy(&self) -> AdmissionPolicy {
        AdmissionPolicy::clone(&self.policy.load())
    }

    /// Peers that were refused.
    pub(crate) fn refused(&self) -> RefusedCounts {
        self.refused.counts()
    }

    /// Waits until the next connection may be accepted.
    pub(crate) async fn next(&self) -> io::Result<Leave> {
        // A service without such limits does not pay for them.
        if !self.policy.load().holds_up() {
            return self.leave().await;
        }
        loop {
            self.cleared().await;
            let leave = self.leave().await?;
            // Another listener may have taken the last token meanwhile.
            if self.held_up(Instant::now()).is_none() {
                return Ok(leave);
            }
        }
    }

    /// The same while the service drains: what is in the backlog then has no later time
    /// to wait for, so neither pace nor load hold it up.
    pub(crate) async fn leave(&self) -> io::Result<Leave> {
        let of_service = acquire(&self.permits).await?;
        let global = self.global.as_ref();
        let of_all = match global.and_then(|global| global.connections.as_ref()) {
            Some(connections) => Some(acquire(connections).await?),
            None => None,
        };
        Ok(Leave { of_service, of_all })
    }

    /// Waits until neither pace nor load hold accepting up.
    async fn cleared(&self) {
        while let Some((held_up, _)) = self.held_up(Instant::now()) {
            if self.count(Cause::HeldUp(held_up)) {
                let (service, reason) = (&*self.service, held_up);
                tracing::warn!(service, %reason, "accepting is held up, peers wait in the backlog");
            }
            let mut replaced = pin!(self.replaced.notified());
            // From here on no notification is missed.
            replaced.as_mut().enable();
            let Some((_, wait)) = self.held_up(Instant::now()) else {
                return;
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = replaced => {}
            }
        }
    }

    /// What holds accepting up, and how long to wait before it is looked at again. `None`
    /// if nothing does.
    fn held_up(&self, now: Instant) -> Option<(HeldUp, Duration)> {
        let policy = self.policy.load();
        if !policy.holds_up() {
            return None;
        }
        let mut before = lock(&self.before);
        if let Some(most) = policy.max_load {
            let load = before.load.at(now, load::read);
            if load.is_some_and(|load| most.is_reached(load)) {
                return Some((HeldUp::Load, load::INTERVAL));
            }
        }
        let wait = before.pacer.wait(policy.pace?, now);
        (!wait.is_zero()).then_some((HeldUp::Pace, wait))
    }

    /// Lets a peer in, or says why it is refused.
    pub(crate) fn admit(&self, peer: &Peer, leave: Leave) -> Result<Permit, Refusal> {
        let policy = self.policy.load();
        let place = if policy.is_open() {
            None
        } else {
            self.place(&policy, peer)?
        };
        if let Some(pace) = policy.pace {
            lock(&self.before).pacer.take(pace, Instant::now());
        }
        Ok(Permit::new(leave.of_service, leave.of_all, place))
    }

    /// Looks at a peer. Returns the place that it takes among those of its source, if
    /// these are counted.
    fn place(
        &self,
        policy: &AdmissionPolicy,
        peer: &Peer,
    ) -> Result<Option<Box<dyn Place>>, Refusal> {
        policy.check_peer(peer.ip())?;
        if !policy.counts_sources() {
            return Ok(None);
        }
        let source = Source::of(peer, policy.per_source.prefix);
        let slot = self
            .sources
            .enter(source, policy.per_source, Instant::now())?;
        Ok(Some(Box::new(slot)))
    }

    /// Whether a datagram of this sender may come in. Counts it if it may not.
    pub(crate) fn admits_datagram(&self, sender: &SocketName) -> bool {
        let policy = self.policy.load();
        if policy.is_open() {
            return true;
        }
        let ip = match sender {
            SocketName::Ip(address) => Some(*address),
            SocketName::Unix(_) => None,
        };
        let checked = policy.check_peer(ip).and_then(|()| {
            let (Some(ip), Some(rate)) = (ip, policy.per_source.rate) else {
                return Ok(());
            };
            let source = Source::of_ip(ip.ip(), policy.per_source.prefix);
            self.sources.pass(source, rate, Instant::now())
        });
        if let Err(refusal) = checked {
            self.count_refused(refusal, sender);
        }
        checked.is_ok()
    }

    /// Counts a refused peer, and closes its socket. Called inside of the service's
    /// runtime.
    pub(crate) fn refuse(&self, socket: OwnedFd, peer: &Peer, refusal: Refusal) {
        self.count_refused(refusal, peer);
        let policy = self.policy.load();
        self.farewells
            .dismiss(socket, policy.on_refuse, &policy.banner);
    }

    fn count_refused(&self, refusal: Refusal, peer: &impl fmt::Display) {
        self.refused.count(refusal);
        let (service, reason) = (&*self.service, refusal);
        if self.count(Cause::Refused(refusal)) {
            tracing::warn!(service, %peer, %reason, "refused; more of these are summed up each minute");
        } else {
            tracing::debug!(service, %peer, %reason, "refused");
        }
    }

    /// Counts an event. Returns whether it is the first of an episode.
    fn count(&self, cause: Cause) -> bool {
        let is_first = lock(&self.episodes).count(cause, Instant::now());
        if is_first {
            self.begun.notify_one();
        }
        is_first
    }

    /// Logs what there is to sum up, each minute. Never returns.
    pub(crate) async fn report(&self) -> std::convert::Infallible {
        loop {
            let due = lock(&self.episodes).next_due();
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => self.begun.notified().await,
            }
            let sums = lock(&self.episodes).due(Instant::now());
            self.log(sums);
        }
    }

    /// Logs what was not summed up yet, at the end of the service.
    pub(crate) fn report_rest(&self) {
        let sums = lock(&self.episodes).end();
        self.log(sums);
    }

    fn log(&self, sums: Vec<(Cause, u64)>) {
        let service = &*self.service;
        for (cause, count) in sums {
            match cause {
                Cause::Refused(reason) => {
                    tracing::info!(service, %reason, count, "refused since the last line");
                }
                Cause::HeldUp(reason) => {
                    tracing::info!(service, %reason, count, "accepting was held up again");
                }
            }
        }
    }
}

/// Waits for a permit.
async fn acquire(semaphore: &Arc<Semaphore>) -> io::Result<OwnedSemaphorePermit> {
    let permit = Arc::clone(semaphore).acquire_owned().await;
    permit.map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BlockSource;
    use policy::AdmissionOptions;
    use std::net::{IpAddr, Ipv4Addr};
    use std::num::NonZeroU32;

    fn admission(options: &AdmissionOptions) -> Arc<Admission> {
        let permits = Arc::new(Semaphore::new(100));
        Admission::new("it", options.policy().unwrap(), permits, 0, None)
    }

    fn peer(last: u8) -> Peer {
        Peer::Ip((IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 1000).into())
    }

    async fn admit(admission: &Admission, last: u8) -> Result<Permit, Refusal> {
        let leave = admission.leave().await.unwrap();
        admission.admit(&peer(last), leave)
    }

    fn per_source(most: u32) -> AdmissionOptions {
        AdmissionOptions {
            max_connections_per_source: NonZeroU32::new(most),
            ..AdmissionOptions::default()
        }
    }

    #[tokio::test]
    async fn what_is_open_stays_counted_under_another_policy() {
        let admission = admission(&per_source(1));
        let first = admit(&admission, 1).await.unwrap();
        assert!(admit(&admission, 1).await.is_err());
        admission.set(per_source(2).policy().unwrap(), 0);
        let _second = admit(&admission, 1).await.unwrap();
        let refusal = admit(&admission, 1).await.err();
        assert_eq!(refusal, Some(Refusal::ConnectionsPerSource));
        drop(first);
        let _third = admit(&admission, 1).await.unwrap();
        // Those that nobody counts any more.
        admission.set(AdmissionPolicy::default(), 0);
        for _ in 0..10 {
            admit(&admission, 1).await.unwrap();
        }
        // A refused peer has given its permit back.
        assert_eq!(admission.permits.available_permits(), 98);
    }

    #[tokio::test]
    async fn rules_go_before_sources() {
        let deny = BlockSource::parse("127.0.0.2".as_ref()).unwrap();
        let options = AdmissionOptions {
            deny: vec![deny],
            ..per_source(1)
        };
        let admission = admission(&options);
        assert_eq!(admit(&admission, 2).await.err(), Some(Refusal::Rules));
        let _one = admit(&admission, 1).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_policy_without_a_pace_ends_the_wait() {
        let one = NonZeroU32::new(1);
        let options = AdmissionOptions {
            connections_per_second: one,
            burst: one,
            pause: Some(Duration::from_secs(3600)),
            ..AdmissionOptions::default()
        };
        let admission = admission(&options);
        let leave = admission.next().await.unwrap();
        let _permit = admission.admit(&peer(1), leave).unwrap();
        let waiting = {
            let admission = Arc::clone(&admission);
            tokio::spawn(async move { admission.next().await.map(drop) })
        };
        let begun = tokio::time::Instant::now();
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        admission.set(AdmissionPolicy::default(), 0);
        waiting.await.unwrap().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(3600));
    }

    #[tokio::test]
    async fn services_share_a_limit() {
        let global = GlobalLimits::new(Some(NonZeroU32::MIN), None);
        let service = || {
            let permits = Arc::new(Semaphore::new(100));
            let global = Some(Arc::clone(&global));
            Admission::new("it", AdmissionPolicy::default(), permits, 0, global)
        };
        let (one, other) = (service(), service());
        let permit = admit(&one, 1).await.unwrap();
        let mut waiting = pin!(other.next());
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        drop(permit);
        waiting.await.unwrap();
    }

    #[tokio::test]
    async fn a_datagram_is_counted_if_it_is_refused() {
        let one = NonZeroU32::new(1);
        let admission = admission(&AdmissionOptions {
            connections_per_second_per_source: one,
            burst_per_source: one,
            ..AdmissionOptions::default()
        });
        let sender = |last| SocketName::Ip(([127, 0, 0, last], 1000).into());
        let came: Vec<_> = [1, 1, 2, 1]
            .map(|last| admission.admits_datagram(&sender(last)))
            .into();
        assert_eq!(came, [true, false, true, false]);
        assert_eq!(admission.refused().rate_per_source, 2);
    }
}
