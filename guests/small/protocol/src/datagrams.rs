//! The small servers over datagrams. What a datagram holds matters only to `log`.

use crate::chargen::Pattern;
use crate::{Service, SmallProtocol};
use sockserve_handler::session::{DatagramProtocol, Peer};
use time_protocol::datagrams::seconds_since_1900;

/// The family over datagrams, with its options set.
#[derive(Clone, Debug)]
pub struct DatagramSmall {
    options: SmallProtocol,
    /// The line that chargen answers next. Each instance begins with the first one.
    pattern: Pattern,
}

impl From<SmallProtocol> for DatagramSmall {
    fn from(options: SmallProtocol) -> Self {
        Self {
            options,
            pattern: Pattern::default(),
        }
    }
}

impl DatagramProtocol for DatagramSmall {
    fn max_bytes(&self) -> u32 {
        65_535
    }

    /// Chargen answers one line, as xinetd does. RFC 864 has a random number of
    /// characters, which may be many more than the peer has sent.
    fn answer(
        &mut self,
        peer: impl FnOnce() -> Peer,
        data: Vec<u8>,
        log: &mut Vec<String>,
    ) -> Option<Vec<u8>> {
        match self.options.service {
            Service::Discard => None,
            Service::Log => {
                crate::log(&peer(), &data, log);
                None
            }
            Service::Chargen => Some(self.pattern.next_line()),
            Service::Time => Some(seconds_since_1900((self.options.clock)()).to_vec()),
            Service::Qotd => Some(self.options.quote.bytes().to_vec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(service: Service, expected: &[Option<&[u8]>]) {
        let mut protocol = DatagramSmall::from(SmallProtocol {
            service,
            quote: r"Know thyself.\r\n".parse().unwrap(),
            clock: || 1_795_286_107,
        });
        for (data, expected) in [b"".as_slice(), b"more"].into_iter().zip(expected) {
            let peer = || panic!("nobody needs the peer");
            let answer = protocol.answer(peer, data.to_vec(), &mut Vec::new());
            assert_eq!(answer.as_deref(), *expected, "{service}");
        }
        assert_eq!(protocol.max_bytes(), 65_535);
    }

    #[test]
    fn log_says_who_has_sent_what() {
        let mut protocol = DatagramSmall::from(SmallProtocol {
            service: Service::Log,
            quote: crate::Quote::default(),
            clock: || 0,
        });
        let mut log = Vec::new();
        let peer = || Peer::from(([127, 0, 0, 1], 5000));
        assert_eq!(protocol.answer(peer, b"a\nb\xff".to_vec(), &mut log), None);
        assert_eq!(
            log,
            ["127.0.0.1:5000 wrote: a", "127.0.0.1:5000 wrote: b\u{fffd}"]
        );
    }

    #[test]
    fn answers() {
        check(Service::Discard, &[None, None]);
        let mut pattern = Pattern::default();
        let lines = [pattern.next_line(), pattern.next_line()];
        check(Service::Chargen, &[Some(&lines[0]), Some(&lines[1])]);
        let time = 4_004_274_907_u32.to_be_bytes();
        check(Service::Time, &[Some(&time), Some(&time)]);
        let quote = b"Know thyself.\r\n".as_slice();
        check(Service::Qotd, &[Some(quote), Some(quote)]);
    }
}
