//! The small servers over datagrams.

use crate::{Service, SmallProtocol};
use protocol::{DatagramProtocol, Peer};

/// How many bytes a datagram may have. None of the services looks at them.
const MOST: u32 = 65_535;

impl DatagramProtocol for SmallProtocol {
    fn max_bytes(&self) -> u32 {
        MOST
    }

    fn answer(
        &mut self,
        _: impl FnOnce() -> Peer,
        _: Vec<u8>,
        _: &mut Vec<String>,
    ) -> Option<Vec<u8>> {
        match self.service {
            Service::Discard => None,
            // One line, as xinetd's.
            Service::Chargen => Some(self.pattern.next_line()),
            Service::Time => Some(self.time().to_vec()),
            Service::Qotd => Some(self.quote.bytes().to_vec()),
        }
    }
}
