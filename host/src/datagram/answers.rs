//! Who may be sent datagrams: whoever has written to the service lately.
//!
//! Without this rule a handler could send anything to anybody, in the service's name.

use super::address::Ends;
use crate::socket_name::{SocketName, UnixName};
use std::collections::HashMap;
use std::net::SocketAddr;

/// How many peers are remembered, or more. The contract says so.
const REMEMBERED: usize = 16_384;

/// The ports of inetd's small services that answer whatever comes: echo, daytime,
/// quotation of the day, character generator and time. An answer to such a port would be
/// answered in its turn, without end (CVE-1999-0103).
const SMALL_SERVICES: [u16; 5] = [7, 13, 17, 19, 37];

/// The peers that have written, and the socket that each has written to.
#[derive(Default)]
pub(super) struct Answers {
    young: HashMap<Ends, usize>,
    /// Those before. They are forgotten when there are [`REMEMBERED`] younger ones.
    old: HashMap<Ends, usize>,
}

impl Answers {
    /// A peer has written to a socket.
    pub(super) fn note(&mut self, ends: &Ends, socket: usize) {
        if let Some(known) = self.young.get_mut(ends) {
            *known = socket;
            return;
        }
        if self.young.len() >= REMEMBERED {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(ends.clone(), socket);
    }

    /// Returns the socket that a peer has written to, if it is remembered.
    pub(super) fn socket_for(&self, ends: &Ends) -> Option<usize> {
        self.young.get(ends).or_else(|| self.old.get(ends)).copied()
    }
}

/// Whether an answer to this datagram could come back as another one: it is from the
/// port of a small service, or from the socket that it came to. `bound` is the name of
/// that socket.
pub(super) fn is_loop(ends: &Ends, bound: &SocketName) -> bool {
    match (&ends.peer, &ends.local, bound) {
        (SocketName::Ip(peer), SocketName::Ip(local), _) => {
            SMALL_SERVICES.contains(&peer.port()) || is_itself(*peer, *local)
        }
        (SocketName::Unix(UnixName::Unnamed), _, _) => false,
        (SocketName::Unix(peer), _, SocketName::Unix(bound)) => peer == bound,
        _ => false,
    }
}

/// Whether a socket has written to itself.
fn is_itself(peer: SocketAddr, local: SocketAddr) -> bool {
    let is_loopback =
        peer.ip().to_canonical().is_loopback() && local.ip().to_canonical().is_loopback();
    // A socket for all addresses has every address of the loopback network.
    peer.port() == local.port() && (peer.ip() == local.ip() || is_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(peer: &str, local: &str) -> Ends {
        let address = |text: &str| match text.parse() {
            Ok(address) => SocketName::Ip(address),
            Err(_) => SocketName::Unix(UnixName::from_bytes(text.as_bytes())),
        };
        Ends {
            peer: address(peer),
            local: address(local),
        }
    }

    #[test]
    fn who_has_written_is_remembered_for_a_while() {
        let mut answers = Answers::default();
        let port = |port: usize| ends(&format!("127.0.0.1:{port}"), "127.0.0.1:9");
        let of = |number: usize| {
            let peer = format!("10.0.{}.{}:5000", number / 250, number % 250);
            ends(&peer, "127.0.0.1:9")
        };
        answers.note(&port(1), 3);
        assert_eq!(answers.socket_for(&port(1)), Some(3));
        assert_eq!(answers.socket_for(&port(2)), None);
        assert_eq!(
            answers.socket_for(&ends("127.0.0.1:1", "127.0.0.2:9")),
            None
        );
        for number in 0..REMEMBERED {
            answers.note(&of(number), 0);
        }
        assert_eq!(answers.socket_for(&port(1)), Some(3));
        // Somebody who writes again and again is not forgotten.
        answers.note(&port(1), 4);
        for number in REMEMBERED..REMEMBERED * 2 {
            answers.note(&of(number), 0);
        }
        assert_eq!(answers.socket_for(&port(1)), Some(4));
        assert!(answers.young.len() <= REMEMBERED && answers.old.len() <= REMEMBERED);
        for number in REMEMBERED * 2..REMEMBERED * 4 {
            answers.note(&of(number), 0);
        }
        assert_eq!(answers.socket_for(&port(1)), None);
    }

    #[test]
    fn answers_that_could_be_answered_without_end_are_known() {
        let check = |peer: &str, local: &str, bound: &str, expected| {
            let bound = ends(bound, bound).local;
            assert_eq!(
                is_loop(&ends(peer, local), &bound),
                expected,
                "{peer} {local}"
            );
        };
        for port in [7, 13, 17, 19, 37] {
            check(
                &format!("10.0.0.1:{port}"),
                "10.0.0.2:5000",
                "10.0.0.2:5000",
                true,
            );
        }
        check("10.0.0.1:53", "10.0.0.2:5000", "10.0.0.2:5000", false);
        check("10.0.0.2:5000", "10.0.0.2:5000", "0.0.0.0:5000", true);
        check("10.0.0.3:5000", "10.0.0.2:5000", "0.0.0.0:5000", false);
        check("127.0.0.1:5000", "127.0.0.2:5000", "0.0.0.0:5000", true);
        check("[::1]:5000", "[::1]:5000", "[::]:5000", true);
        check("/a", "/b", "/b", false);
        check("/b", "/b", "/b", true);
        check("", "/b", "/b", false);
        check("", "", "", false);
    }
}
