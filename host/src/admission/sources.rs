//! Where peers come from, and how many connections each source has.
//!
//! A source is remembered as long as it has connections, and until its bucket is full
//! again. So there are no more of them than connections and [`MAX_RESTING`] together,
//! whatever the peers do.

use super::rate::{Bucket, Rate};
use super::refusal::Refusal;
use crate::connection::peer::Peer;
use crate::connection::permit::Place;
use crate::sync::lock;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// The most sources without connections that are remembered, because their buckets are
/// not full. Each takes about 200 bytes. When one more comes, the one is forgotten whose
/// bucket is the fullest.
const MAX_RESTING: usize = 65_536;

/// The bits of an IPv6 address.
const V6_BITS: u8 = 128;

/// Where a peer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Source {
    /// An IPv4 address, or the first bits of an IPv6 address.
    Ip(IpAddr),
    /// The user of the process at the other end of a Unix socket. `None` if the system
    /// does not say.
    User(Option<u32>),
}

impl Source {
    /// The source of a peer. Of an IPv6 address the first `prefix` bits count.
    pub(super) fn of(peer: &Peer, prefix: u8) -> Self {
        match peer {
            Peer::Ip(address) => Self::of_ip(address.ip(), prefix),
            Peer::Unix { credentials, .. } => Self::User(credentials.map(|it| it.uid)),
        }
    }

    /// The source with this address.
    pub(super) fn of_ip(address: IpAddr, prefix: u8) -> Self {
        Self::Ip(match address.to_canonical() {
            IpAddr::V6(address) => {
                let rest = u32::from(V6_BITS.saturating_sub(prefix));
                let mask = u128::MAX.checked_shl(rest).unwrap_or_default();
                IpAddr::V6((u128::from(address) & mask).into())
            }
            v4 => v4,
        })
    }
}

/// The first bits of an IPv6 address that are a source by default. A host has a whole
/// network of this size, and may use each of its addresses; so this is what an IPv4
/// address is.
const PREFIX: u8 = 64;

/// What one source may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PerSource {
    /// Connections that it may have open.
    pub(super) connections: Option<NonZeroU32>,
    /// How fast it may come.
    pub(super) rate: Option<Rate>,
    /// How many bits of an IPv6 address are a source.
    pub(super) prefix: u8,
}

impl Default for PerSource {
    fn default() -> Self {
        Self {
            connections: None,
            rate: None,
            prefix: PREFIX,
        }
    }
}

/// The sources of a service.
#[derive(Debug, Default)]
pub(super) struct Sources(Mutex<Book>);

/// A source's place for one connection. Gives it back when it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    sources: Arc<Sources>,
    source: Source,
}

impl Place for Slot {}

impl Drop for Slot {
    fn drop(&mut self) {
        lock(&self.sources.0).leave(self.source, Instant::now());
    }
}

impl Sources {
    /// Lets a connection of a source in, if the source may have one more.
    pub(super) fn enter(
        self: &Arc<Self>,
        source: Source,
        limits: PerSource,
        now: Instant,
    ) -> Result<Slot, Refusal> {
        lock(&self.0).enter(source, limits, now)?;
        Ok(Slot {
            sources: Arc::clone(self),
            source,
        })
    }

    /// Lets a datagram of a source in, if the source is not too fast.
    pub(super) fn pass(&self, source: Source, rate: Rate, now: Instant) -> Result<(), Refusal> {
        let mut book = lock(&self.0);
        let limits = PerSource {
            rate: Some(rate),
            ..PerSource::default()
        };
        book.enter(source, limits, now)?;
        book.leave(source, now);
        Ok(())
    }

    /// Fills all buckets, because they are for another rate from now on.
    pub(super) fn forget_rates(&self) {
        lock(&self.0).forget_rates();
    }
}

#[derive(Debug, Default)]
struct Book {
    sources: HashMap<Source, Entry>,
    /// The sources without connections, by the time at which their buckets are full.
    resting: BTreeSet<(Instant, Source)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    open: u32,
    bucket: Bucket,
}

impl Book {
    fn enter(&mut self, source: Source, limits: PerSource, now: Instant) -> Result<(), Refusal> {
        self.forget_full(now);
        let mut entry = self.sources.get(&source).copied().unwrap_or_default();
        if limits
            .connections
            .is_some_and(|most| entry.open >= most.get())
        {
            return Err(Refusal::ConnectionsPerSource);
        }
        if let Some(rate) = limits.rate {
            if !entry.bucket.wait(rate, now).is_zero() {
                return Err(Refusal::RatePerSource);
            }
            if let Some(full_at) = entry.bucket.full_at(now) {
                self.resting.remove(&(full_at, source));
            }
            entry.bucket.take(rate, now);
        }
        entry.open += 1;
        self.sources.insert(source, entry);
        Ok(())
    }

    fn leave(&mut self, source: Source, now: Instant) {
        let Some(entry) = self.sources.get_mut(&source) else {
            return;
        };
        entry.open = entry.open.saturating_sub(1);
        if entry.open > 0 {
            return;
        }
        match entry.bucket.full_at(now) {
            None => {
                self.sources.remove(&source);
            }
            Some(full_at) => {
                self.resting.insert((full_at, source));
                if self.resting.len() > MAX_RESTING
                    && let Some((_, fullest)) = self.resting.pop_first()
                {
                    self.sources.remove(&fullest);
                }
            }
        }
    }

    /// Forgets the sources without connections whose buckets are full.
    fn forget_full(&mut self, now: Instant) {
        while let Some((full_at, _)) = self.resting.first()
            && *full_at <= now
        {
            if let Some((_, source)) = self.resting.pop_first() {
                self.sources.remove(&source);
            }
        }
    }

    fn forget_rates(&mut self) {
        self.resting.clear();
        self.sources.retain(|_, entry| {
            entry.bucket = Bucket::default();
            entry.open > 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn source(number: u32) -> Source {
        Source::Ip(IpAddr::V4(number.into()))
    }

    fn limits(connections: u32, per_second: u32, burst: u32) -> PerSource {
        let rate = NonZeroU32::new(per_second).map(|it| Rate::new(it, NonZeroU32::new(burst)));
        PerSource {
            connections: NonZeroU32::new(connections),
            rate,
            ..PerSource::default()
        }
    }

    #[test]
    fn a_source_is_an_address_or_a_prefix() {
        let check = |address: &str, prefix, expected: &str| {
            let expected = Source::Ip(expected.parse().unwrap());
            assert_eq!(Source::of_ip(address.parse().unwrap(), prefix), expected);
        };
        check("192.0.2.1", 64, "192.0.2.1");
        check("::ffff:192.0.2.1", 64, "192.0.2.1");
        check("2001:db8:1:2:3:4:5:6", 64, "2001:db8:1:2::");
        check("2001:db8:1:2:3:4:5:6", 48, "2001:db8:1::");
        check("2001:db8:1:2:3:4:5:6", 128, "2001:db8:1:2:3:4:5:6");
        check("2001:db8::1", 1, "::");
        let (here, _there) = std::os::unix::net::UnixStream::pair().unwrap();
        let peer = Peer::of_unix(&here, crate::socket_name::UnixName::Unnamed);
        let user = rustix::process::geteuid().as_raw();
        assert_eq!(Source::of(&peer, 64), Source::User(Some(user)));
    }

    #[test]
    fn a_slot_is_given_back_when_it_is_dropped() {
        let (sources, now) = (Arc::<Sources>::default(), Instant::now());
        let enter = |number| sources.enter(source(number), limits(2, 0, 0), now);
        let first = enter(1).unwrap();
        let _second = enter(1).unwrap();
        assert_eq!(enter(1).unwrap_err(), Refusal::ConnectionsPerSource);
        // Another source has places of its own.
        let other = enter(2).unwrap();
        drop(first);
        let _again = enter(1).unwrap();
        drop(other);
        assert_eq!(lock(&sources.0).sources.len(), 1);
    }

    #[test]
    fn a_source_is_forgotten_when_its_bucket_is_full_again() {
        let (mut book, begun) = (Book::default(), Instant::now());
        let at = |ms| begun + Duration::from_millis(ms);
        let limits = limits(0, 1, 2);
        book.enter(source(1), limits, at(0)).unwrap();
        book.enter(source(1), limits, at(0)).unwrap();
        let refused = book.enter(source(1), limits, at(0)).unwrap_err();
        assert_eq!(refused, Refusal::RatePerSource);
        book.leave(source(1), at(0));
        book.leave(source(1), at(10));
        assert_eq!((book.sources.len(), book.resting.len()), (1, 1));
        // A token has come, and one is still missing.
        book.enter(source(1), limits, at(1000)).unwrap();
        assert_eq!(book.resting.len(), 0);
        book.leave(source(1), at(1500));
        book.enter(source(2), limits, at(2999)).unwrap();
        assert_eq!((book.sources.len(), book.resting.len()), (2, 1));
        book.enter(source(2), limits, at(3000)).unwrap();
        assert_eq!((book.sources.len(), book.resting.len()), (1, 0));
    }

    #[test]
    fn memory_is_bounded_whoever_comes() {
        let (mut book, now) = (Book::default(), Instant::now());
        let limits = limits(0, 1, 5);
        let more = 1000;
        let count = u32::try_from(MAX_RESTING).unwrap() + more;
        for number in 0..count {
            book.enter(source(number), limits, now).unwrap();
            book.leave(source(number), now);
        }
        assert_eq!(book.sources.len(), MAX_RESTING);
        assert_eq!(book.resting.len(), MAX_RESTING);
        // Those with connections are not forgotten.
        let mut open = Book::default();
        open.enter(source(0), limits, now).unwrap();
        for number in 1..count {
            open.enter(source(number), limits, now).unwrap();
            open.leave(source(number), now);
        }
        assert_eq!(open.sources.get(&source(0)).unwrap().open, 1);
    }

    #[test]
    fn another_rate_begins_with_full_buckets() {
        let (mut book, now) = (Book::default(), Instant::now());
        let slow = limits(0, 1, 1);
        for number in [1, 2] {
            book.enter(source(number), slow, now).unwrap();
        }
        book.leave(source(2), now);
        book.forget_rates();
        assert_eq!((book.sources.len(), book.resting.len()), (1, 0));
        book.enter(source(1), slow, now).unwrap();
        assert_eq!(book.sources.get(&source(1)).unwrap().open, 2);
    }

    proptest! {
        /// Whatever sources come and go: what is open is counted, no source has more than
        /// it may have, and nothing is left at the end.
        #[test]
        fn the_book_is_right(steps in prop::collection::vec((0..3u32, any::<bool>(), 0..700u64), 0..200)) {
            let (mut book, mut now) = (Book::default(), Instant::now());
            let limits = limits(2, 2, 3);
            let mut open = [0u32; 3];
            for (number, comes, ms) in steps {
                now += Duration::from_millis(ms);
                let slot = &mut open[number as usize];
                if comes {
                    let entered = book.enter(source(number), limits, now).is_ok();
                    *slot += u32::from(entered);
                } else if *slot > 0 {
                    *slot -= 1;
                    book.leave(source(number), now);
                }
                for (number, expected) in (0..).zip(open) {
                    let found = book.sources.get(&source(number)).map_or(0, |entry| entry.open);
                    prop_assert_eq!(found, expected);
                    prop_assert!(found <= 2);
                }
                let resting = book.sources.values().filter(|entry| entry.open == 0).count();
                prop_assert_eq!(book.resting.len(), resting);
            }
            for (number, count) in (0..).zip(open) {
                (0..count).for_each(|_| book.leave(source(number), now));
            }
            book.forget_full(now + Duration::from_secs(2));
            prop_assert!(book.sources.is_empty());
        }
    }
}
