//! The upper family: like the mode `upper` of the echo family, but the connection stays
//! open, and each line is answered.
//!
//! There is no I/O here. The state is that of the echo family, so each of the two
//! families can take over connections from the other. Each line is answered by one of
//! them alone.

use echo_protocol::{State, TAG, strip, upper};
use sockserve_handler::session::{
    Lines, Output, Peer, Protocol, Resume, Session, Step, split_ending,
};

/// The family, which has no options.
#[derive(Clone, Copy, Debug)]
pub struct UpperProtocol;

impl Protocol for UpperProtocol {
    type Session = Upper;
    const TAG: &'static str = TAG;

    fn session(&self, peer: impl FnOnce() -> Result<Peer, String>) -> Result<Upper, String> {
        Ok(Upper {
            peer: peer()?,
            lines: Lines::default(),
        })
    }
}

/// How much is read at once, because each line is a line of the log, too: a turn of `evented`
/// must not take long for it.
const READ_LIMIT: usize = 4096;

/// One connection of the upper family.
#[derive(Debug)]
pub struct Upper {
    /// The peer, for the log.
    peer: Peer,
    lines: Lines,
}

impl Session for Upper {
    fn read_limit(&self) -> usize {
        READ_LIMIT
    }

    /// Answers each line without the white space at its ends, and with the line ending
    /// that it came with. A piece of a long line is answered like a line.
    fn receive(&mut self, chunk: &[u8], output: &mut Output) -> Step {
        self.lines.feed(chunk, |line| {
            let (text, ending) = split_ending(line);
            upper(&self.peer, text, output);
            output.bytes.push(ending);
        });
        Step::Continue
    }

    fn end(&mut self, output: &mut Output) {
        let unfinished = self.lines.take();
        if !strip(&unfinished).is_empty() {
            upper(&self.peer, &unfinished, output);
        }
    }
}

impl Resume for Upper {
    type State = State;

    fn save(&mut self) -> State {
        State {
            unfinished: self.lines.take(),
        }
    }

    fn restore(&mut self, state: State, output: &mut Output) -> Step {
        self.receive(&state.unfinished, output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use sockserve_handler::session::testing::{Seen, run};

    fn talk(chunks: Vec<Vec<u8>>, moves: Vec<(usize, bool)>) -> Seen {
        run(&UpperProtocol, chunks, moves).unwrap()
    }

    /// The same is answered and logged for any size of chunks.
    #[track_caller]
    fn check(input: &[u8], answer: &[u8], log: &[&str]) {
        for size in [1, 2, 1023, 1024, 1025, 5000] {
            let seen = talk(input.chunks(size).map(<[u8]>::to_vec).collect(), vec![]);
            assert_eq!(seen.written, answer, "chunks of {size}");
            let texts: Vec<&str> = seen.log.iter().map(String::as_str).collect();
            let expected: Vec<&str> = log
                .iter()
                .flat_map(|text| ["127.0.0.1 wrote:", text])
                .collect();
            assert_eq!(texts, expected, "chunks of {size}");
        }
    }

    #[test]
    fn lines_are_answered_in_upper_case() {
        check(b"", b"", &[]);
        check(b"hello\n", b"HELLO\n", &["hello"]);
        check(b" a b \t\r\nc\n", b"A B\r\nC\n", &["a b", "c"]);
        check(b"\n \r\n", b"\n\r\n", &["", ""]);
        check("straße\n".as_bytes(), "STRAßE\n".as_bytes(), &["straße"]);
        // The half line at the end.
        check(b"a\nb", b"A\nB", &["a", "b"]);
        check(b"a\n b \r", b"A\nB", &["a", "b"]);
        check(b"a\n \r", b"A\n", &["a"]);
    }

    #[test]
    fn a_long_line_is_answered_in_pieces() {
        let (small, large) = ("x".repeat(1024), "X".repeat(1024));
        let input = format!("{small}\r\n");
        check(
            input.as_bytes(),
            format!("{large}\r\n").as_bytes(),
            &[&small],
        );
        let input = format!("{small}{small} y\n");
        let answer = format!("{large}{large}Y\n");
        check(input.as_bytes(), answer.as_bytes(), &[&small, &small, "y"]);
    }

    fn any_byte() -> impl Strategy<Value = u8> {
        prop_oneof![Just(b'\n'), Just(b' '), Just(b'\r'), any::<u8>()]
    }

    proptest! {
        #[test]
        fn a_hand_over_changes_nothing(
            chunks in vec(vec(any_byte(), 0..1500), 0..8),
            moves in vec((1_usize..2000, any::<bool>()), 0..40),
        ) {
            prop_assert_eq!(talk(chunks.clone(), moves), talk(chunks, vec![]));
        }

        #[test]
        fn no_state_is_too_strange(
            bytes in vec(any::<u8>(), 0..3000),
            unfinished in vec(any::<u8>(), 0..3000),
        ) {
            let state = |bytes| sockserve_handler::session::State { tag: TAG.to_owned(), bytes };
            let _ = UpperProtocol.decode(&state(bytes));
            let mut session = UpperProtocol.session(|| Ok(([127, 0, 0, 1], 5000).into())).unwrap();
            session.restore(State { unfinished }, &mut Output::default());
            session.receive(b"x\n", &mut Output::default());
            prop_assert!(session.lines.take().is_empty());
        }
    }
}
