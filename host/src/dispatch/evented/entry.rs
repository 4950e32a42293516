//! A connection on the list of the `evented` driver.

use crate::connection::Connection;
use crate::guest::exports::evented::{Interest, Readiness};
use crate::version::stay::{Admitted, Stay};
use rustix::event::epoll::EventFlags;
use std::sync::Arc;

/// A connection on the driver's list. It lives until the connection closes, or until
/// the guest has given it up.
pub(super) struct Entry {
    pub(super) connection: Arc<Connection>,
    /// Counts the connection on the version.
    pub(super) stay: Stay,
    /// Whether the guest has been told of the connection.
    pub(super) opened: bool,
    /// What the guest wants to be woken for.
    pub(super) interest: Interest,
    /// What the poller watches for. `None` if the connection is not in the poller.
    pub(super) watched: Option<EventFlags>,
    /// Whether the poller has said that the connection is over.
    has_hung_up: bool,
    /// Whether the poller has said that there is an error, and the guest does not know yet.
    has_error: bool,
    /// Whether the connection waits to be looked at.
    pub(super) is_queued: bool,
}

impl Entry {
    /// Makes the entry of a connection that the guest has not been told of.
    pub(super) fn new(admitted: Admitted) -> Self {
        let Admitted { connection, stay } = admitted;
        Self {
            connection,
            stay,
            opened: false,
            interest: Interest::READABLE,
            watched: None,
            has_hung_up: false,
            has_error: false,
            is_queued: false,
        }
    }

    /// Returns the connection alone, when it leaves the driver's list.
    pub(super) fn into_admitted(self) -> Admitted {
        let Self {
            connection, stay, ..
        } = self;
        Admitted { connection, stay }
    }

    /// What the poller has to watch for now. Room for output is watched for from the first
    /// time on that the kernel has not taken all: until then it has no news of it.
    pub(super) fn wanted(&self) -> EventFlags {
        let before = self.watched.unwrap_or(EventFlags::empty());
        let input = EventFlags::IN | EventFlags::PRI | EventFlags::RDHUP;
        let mut flags = before | input | EventFlags::ET;
        if self.connection.has_unsent() {
            flags |= EventFlags::OUT;
        }
        flags
    }

    /// Remembers what the poller has said, which it says once.
    pub(super) fn note(&mut self, flags: EventFlags) {
        let marks = EventFlags::PRI | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
        if flags.intersects(EventFlags::IN | marks) {
            self.connection.note_input(flags.intersects(marks));
        }
        self.has_hung_up |= flags.contains(EventFlags::HUP);
        self.has_error |= flags.contains(EventFlags::ERR);
    }

    /// The poller watches no longer, and will say everything again.
    pub(super) fn forget(&mut self) {
        self.has_hung_up = false;
    }

    /// Whether the guest would be told of something now.
    pub(super) fn is_ready(&self) -> bool {
        let is_writable =
            || self.interest.contains(Interest::WRITABLE) && !self.connection.has_unsent();
        self.has_hung_up || self.has_error || self.is_readable() || is_writable()
    }

    fn is_readable(&self) -> bool {
        self.interest.contains(Interest::READABLE) && self.connection.has_input()
    }

    /// What the guest is to be told of.
    ///
    /// The host's own unsent output is sent first: until it is sent the guest could not
    /// write anyway.
    pub(super) fn readiness(&mut self) -> Readiness {
        let mut readiness = Readiness::empty();
        if self.is_readable() {
            readiness |= Readiness::READABLE;
        }
        let wants_room = self.interest.contains(Interest::WRITABLE);
        let was_stuck = self.watched.is_some_and(|it| it.contains(EventFlags::OUT));
        if wants_room || was_stuck {
            let is_sent = self.connection.flush_now();
            if is_sent && wants_room {
                readiness |= Readiness::WRITABLE;
            }
        }
        if self.has_hung_up {
            readiness |= Readiness::HANG_UP;
        }
        if std::mem::take(&mut self.has_error) {
            self.connection.note_error();
            readiness |= Readiness::ERROR;
        }
        readiness
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::stay::tests::admitted;
    use bytes::Bytes;
    use std::io::{Read as _, Write as _};
    use std::net::Shutdown;

    const INPUT: EventFlags = EventFlags::IN;

    fn read(entry: &Entry, room: usize) -> Option<usize> {
        let bytes = entry.connection.try_read_bytes(room);
        bytes.ok().map(|bytes| bytes.len())
    }

    #[test]
    fn input_is_told_until_a_read_has_taken_all_of_it() {
        let (admitted, mut peer) = admitted();
        let mut entry = Entry::new(admitted);
        assert!(!entry.is_ready());
        peer.write_all(b"12345").unwrap();
        entry.note(INPUT);
        assert_eq!(entry.readiness(), Readiness::READABLE);
        assert_eq!(read(&entry, 3), Some(3));
        assert!(entry.is_ready());
        assert_eq!(read(&entry, 3), Some(2));
        assert!(!entry.is_ready());
        // A read that finds exactly what it has room for does not know.
        peer.write_all(b"678").unwrap();
        entry.note(INPUT);
        assert_eq!(read(&entry, 3), Some(3));
        assert!(entry.is_ready());
        assert_eq!(read(&entry, 3), None);
        assert!(!entry.is_ready());
        // Nobody wants to know for now.
        entry.interest = Interest::empty();
        entry.note(INPUT);
        assert!(!entry.is_ready());
        entry.interest = Interest::READABLE;
        assert!(entry.is_ready());
    }

    /// The poller says once that bytes and the end of file have come.
    #[test]
    fn the_end_of_file_is_told_after_the_bytes() {
        let (admitted, mut peer) = admitted();
        let mut entry = Entry::new(admitted);
        peer.write_all(b"12345").unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        entry.note(INPUT | EventFlags::RDHUP);
        assert_eq!(read(&entry, 100), Some(5));
        assert_eq!(entry.readiness(), Readiness::READABLE);
        assert_eq!(read(&entry, 100), Some(0));
    }

    /// The kernel has room again for output that the host has kept.
    #[test]
    fn room_is_watched_for_from_the_first_output_on_that_is_kept() {
        let (admitted, mut peer) = admitted();
        let mut entry = Entry::new(admitted);
        entry.watched = Some(entry.wanted());
        assert!(!entry.wanted().contains(EventFlags::OUT));
        entry.interest = Interest::WRITABLE;
        assert_eq!(entry.readiness(), Readiness::WRITABLE);
        while entry.connection.writable_bytes().unwrap() > 0 {
            let bytes = Bytes::from(vec![b'x'; 4096]);
            entry.connection.write(bytes).unwrap();
        }
        assert!(!entry.is_ready());
        entry.watched = Some(entry.wanted());
        assert!(entry.wanted().contains(EventFlags::OUT));
        assert_eq!(entry.readiness(), Readiness::empty());
        peer.set_nonblocking(true).unwrap();
        let mut buffer = [0; 4096];
        while peer.read(&mut buffer).is_ok() {}
        entry.note(EventFlags::OUT);
        assert_eq!(entry.readiness(), Readiness::WRITABLE);
        // It is watched for from now on: the kernel is asked once only.
        assert!(entry.wanted().contains(EventFlags::OUT));
    }
}
