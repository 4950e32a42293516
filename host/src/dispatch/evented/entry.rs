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
    /// What the poller watches for: the guest's interest, and room for the host's
    /// unsent output. `None` if the connection is not in the poller.
    pub(super) watched: Option<EventFlags>,
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
        }
    }

    /// Returns the connection alone, when it leaves the driver's list.
    pub(super) fn into_admitted(self) -> Admitted {
        let Self {
            connection, stay, ..
        } = self;
        Admitted { connection, stay }
    }

    /// What the poller has to watch for now.
    pub(super) fn wanted(&self) -> EventFlags {
        let mut flags = EventFlags::empty();
        if self.interest.contains(Interest::READABLE) {
            flags |= EventFlags::IN;
        }
        if self.interest.contains(Interest::WRITABLE) || self.connection.has_unsent() {
            flags |= EventFlags::OUT;
        }
        flags
    }

    /// Which of the poller's flags the guest is to be told of.
    ///
    /// The host's own unsent output is sent first: until it is sent the guest could not
    /// write anyway.
    pub(super) fn readiness(&mut self, flags: EventFlags) -> Readiness {
        let mut readiness = Readiness::empty();
        if flags.contains(EventFlags::IN) && self.interest.contains(Interest::READABLE) {
            readiness |= Readiness::READABLE;
        }
        if flags.intersects(EventFlags::OUT | EventFlags::ERR | EventFlags::HUP) {
            let sent = self.connection.flush_now();
            if sent && flags.contains(EventFlags::OUT) {
                if self.interest.contains(Interest::WRITABLE) {
                    readiness |= Readiness::WRITABLE;
                } else {
                    // The room was for the host's own output, which is sent by now,
                    // here or by an earlier write of the guest. The poller reports the
                    // room again and again until it no longer watches for it.
                    self.connection.ask_for_attention();
                }
            }
        }
        if flags.contains(EventFlags::HUP) {
            readiness |= Readiness::HANG_UP;
        }
        if flags.contains(EventFlags::ERR) {
            self.connection.note_error();
            readiness |= Readiness::ERROR;
        }
        readiness
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::attention::Attention;
    use crate::version::stay::tests::admitted;
    use bytes::Bytes;
    use std::io::Read as _;

    /// The kernel has room again for output that the guest itself has flushed in the
    /// meantime. The poller must not be left watching for room.
    #[test]
    fn room_that_nobody_waits_for_is_watched_no_longer() {
        let (admitted, mut peer) = admitted();
        let mut entry = Entry::new(admitted);
        let attention = Arc::<Attention>::default();
        let connection = Arc::clone(&entry.connection);
        connection.set_attention(Arc::clone(&attention));
        while connection.writable_bytes().unwrap() > 0 {
            connection.write(Bytes::from(vec![b'x'; 4096])).unwrap();
        }
        entry.watched = Some(entry.wanted());
        assert!(entry.wanted().contains(EventFlags::OUT));
        peer.set_nonblocking(true).unwrap();
        let mut buffer = [0; 4096];
        while connection.writable_bytes().unwrap() == 0 {
            assert!(peer.read(&mut buffer).unwrap() > 0);
        }
        // The attention that the write asked for was given at the end of its turn.
        attention.take(&mut Vec::new());
        connection.attention_is_given();
        assert_eq!(entry.readiness(EventFlags::OUT), Readiness::empty());
        let mut asked = Vec::new();
        attention.take(&mut asked);
        assert_eq!(asked, [connection.id()]);
        assert!(!entry.wanted().contains(EventFlags::OUT));
    }
}
