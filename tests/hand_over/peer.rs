//! A peer that sends numbered lines without pause, and checks each answer.

use std::net::SocketAddr;

use crate::harness::Client;

/// How a peer sends. Its number decides.
const MANNERS: [Manner; 4] = [
    Manner {
        ahead: 1,
        torn: false,
    },
    Manner {
        ahead: 3,
        torn: false,
    },
    Manner {
        ahead: 1,
        torn: true,
    },
    Manner {
        ahead: 5,
        torn: true,
    },
];

#[derive(Clone, Copy)]
struct Manner {
    /// Lines that are sent before their answers are read.
    ahead: usize,
    /// Whether the beginning of one more line goes with them. Its rest goes with
    /// the next ones, so it is always half sent when a swap comes.
    torn: bool,
}

/// A peer of a server that answers each line, as it is or in upper case.
pub(super) struct Peer {
    pub(super) client: Client,
    number: usize,
    manner: Manner,
    /// Lines sent in full.
    sent: usize,
    /// Bytes of the next line that are sent already.
    begun: usize,
    answered: usize,
    /// Lines that came back as they were.
    pub(super) echoed: usize,
    /// Lines that came back in upper case.
    pub(super) raised: usize,
}

impl Peer {
    #[track_caller]
    pub(super) fn connect(address: SocketAddr, number: usize) -> Peer {
        Peer {
            client: Client::connect(address),
            number,
            manner: MANNERS[number % MANNERS.len()],
            sent: 0,
            begun: 0,
            answered: 0,
            echoed: 0,
            raised: 0,
        }
    }

    /// Every line is another one, so that an answer that is lost, doubled, moved
    /// or somebody else's is not the one that is due. Both guests leave each
    /// such line as it is but for the case.
    fn line(&self, index: usize) -> String {
        let hash = (self.number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let hash = (hash ^ index as u64).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let filler = format!("{hash:016x}").repeat(1 + index % 20);
        format!("peer {} line {index} {filler}\n", self.number)
    }

    /// Sends the next lines.
    #[track_caller]
    pub(super) fn speak(&mut self) {
        let mut bytes = String::new();
        for _ in 0..self.manner.ahead {
            self.complete(&mut bytes);
        }
        if self.manner.torn {
            let next = self.line(self.sent);
            self.begun = 1 + self.sent * 7 % (next.len() - 1);
            bytes.push_str(&next[..self.begun]);
        }
        self.client.send(bytes);
    }

    /// The next line, or what is left of it.
    fn complete(&mut self, bytes: &mut String) {
        bytes.push_str(&self.line(self.sent)[self.begun..]);
        self.begun = 0;
        self.sent += 1;
    }

    /// Reads every answer that is due.
    #[track_caller]
    pub(super) fn listen(&mut self) {
        while self.answered < self.sent {
            let line = self.line(self.answered);
            let answer = self.client.line();
            if answer == line {
                self.echoed += 1;
            } else {
                assert_eq!(answer, line.to_ascii_uppercase());
                self.raised += 1;
            }
            self.answered += 1;
        }
    }

    /// Finishes the line that is begun, and reads its answer.
    #[track_caller]
    pub(super) fn conclude(&mut self) {
        if self.begun > 0 {
            let mut rest = String::new();
            self.complete(&mut rest);
            self.client.send(rest);
        }
        self.listen();
    }

    /// Leaves, and nothing more comes.
    #[track_caller]
    pub(super) fn leave(&mut self) {
        self.client.finish_sending();
        self.client.expect_eof();
    }
}
