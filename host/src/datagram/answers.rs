//! Who may be sent datagrams: whoever has written to the service lately.
//!
//! Without this rule a handler could send anything to anybody, in the service's name.

use super::address::Ends;
use crate::socket_name::{SocketName, UnixName};
use std::collections::HashMap;

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
/// port of a small service, or from a socket of the service itself. `own` are the names of
/// all its sockets.
pub(super) fn is_loop<'a>(ends: &Ends, own: impl IntoIterator<Item = &'a SocketName>) -> bool {
    if let SocketName::Ip(peer) = ends.peer
        && SMALL_SERVICES.contains(&peer.port())
    {
        return true;
    }
    own.into_iter().any(|own| is_by(ends, own))
}

/// Whether a datagram is from the socket with this name.
fn is_by(ends: &Ends, own: &SocketName) -> bool {
    match (&ends.peer, &ends.local, own) {
        (SocketName::Ip(peer), SocketName::Ip(local), SocketName::Ip(own)) => {
            let ip = peer.ip().to_canonical();
            let is_here = || {
                // A socket for all addresses has every address of the loopback network.
                ip == local.ip().to_canonical() || ip.is_loopback()
            };
            peer.port() == own.port()
                && (peer.ip() == own.ip() || (own.ip().is_unspecified() && is_here()))
        }
        (SocketName::Unix(UnixName::Unnamed), _, _) => false,
        (SocketName::Unix(peer), _, SocketName::Unix(own)) => peer == own,
        _ => false,
    }
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
        let check = |peer: &str, local: &str, own: &[&str], expected| {
            let own: Vec<_> = own.iter().map(|own| ends(own, own).local).collect();
            assert_eq!(
                is_loop(&ends(peer, local), &own),
                expected,
                "{peer} {local} {own:?}"
            );
        };
        for port in [7, 13, 17, 19, 37] {
            let peer = format!("10.0.0.1:{port}");
            check(&peer, "10.0.0.2:5000", &["10.0.0.2:5000"], true);
        }
        check("10.0.0.1:53", "10.0.0.2:5000", &["10.0.0.2:5000"], false);
        check("10.0.0.2:5000", "10.0.0.2:5000", &["0.0.0.0:5000"], true);
        check("10.0.0.3:5000", "10.0.0.2:5000", &["0.0.0.0:5000"], false);
        check("127.0.0.1:5000", "127.0.0.2:5000", &["0.0.0.0:5000"], true);
        check("[::1]:5000", "[::1]:5000", &["[::]:5000"], true);
        // Another socket of the service.
        let two = ["10.0.0.2:5000", "10.0.0.3:6000"];
        check("10.0.0.3:6000", "10.0.0.2:5000", &two, true);
        check("10.0.0.3:5000", "10.0.0.2:5000", &two, false);
        check(
            "127.0.0.1:6000",
            "127.0.0.1:5000",
            &["0.0.0.0:5000", "0.0.0.0:6000"],
            true,
        );
        check("/a", "/b", &["/b"], false);
        check("/b", "/b", &["/b"], true);
        check("/c", "/b", &["/b", "/c"], true);
        check("", "/b", &["/b"], false);
        check("", "", &[""], false);
    }
}
