//! A connection, as the dispatch has it.

use crate::guest::bindings::evented::exports::sockserve::handler::evented::{Interest, Readiness};
use crate::service::admitted::{Admitted, Stay};
use crate::sockets::connection::Connection;
use rustix::event::epoll::EventFlags;
use std::sync::Arc;

pub(super) struct Entry {
    pub(super) connection: Arc<Connection>,
    pub(super) stay: Stay,
    /// Whether the guest has been told of it.
    pub(super) opened: bool,
    /// What the guest wants to be woken for.
    pub(super) interest: Interest,
    /// What the poller watches for: the interest, and room for what the kernel
    /// has not taken yet. Nothing if the connection is not in the poller.
    pub(super) watched: Option<EventFlags>,
}

impl Entry {
    /// A connection that the guest has not been told of yet.
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

    /// The connection alone, when the guest has nothing to do with it any more.
    pub(super) fn into_admitted(self) -> Admitted {
        let Self {
            connection, stay, ..
        } = self;
        Admitted { connection, stay }
    }

    /// What the poller has to watch for.
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

    /// What of the poller's flags the guest is to hear about.
    ///
    /// The host's own unsent output goes first: until it is gone the guest
    /// could not write anyway.
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
                    // The room was for the host's own output, which is sent, here
                    // or by a write of the guest before. The poller would report
                    // the room again and again until it watches for it no longer.
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
