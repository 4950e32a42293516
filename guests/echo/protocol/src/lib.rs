//! The echo family: stream echo (E2), one-shot echo (E1), the upper-casing
//! handler (E3) and hello (E6).
//!
//! No I/O. The components echo a stream by moving bytes in their contract's own
//! way, so [`Mode::Stream`] as a session is for those that do not.

use std::net::IpAddr;
use std::str::FromStr;

use protocol::{Output, Session, Step};

/// What E1 reads at most.
const ONCE_LIMIT: usize = 100;

/// What E3 reads at most.
const UPPER_LIMIT: usize = 1024;

/// The option `MODE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// E2: echoes until the peer half-closes, then closes.
    #[default]
    Stream,
    /// E1: reads once, writes the same bytes, closes.
    Once,
    /// E3: reads once, logs the text, answers in upper case, closes.
    Upper,
    /// E6: greets as soon as a peer connects, closes.
    Hello,
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Mode, String> {
        match text {
            "stream" => Ok(Mode::Stream),
            "once" => Ok(Mode::Once),
            "upper" => Ok(Mode::Upper),
            "hello" => Ok(Mode::Hello),
            _ => Err("stream, once, upper or hello".to_owned()),
        }
    }
}

/// One connection of the echo family.
#[derive(Debug)]
pub struct Echo {
    mode: Mode,
    peer: IpAddr,
}

impl Echo {
    /// A session in `mode` with a peer whose address goes to the log.
    pub fn new(mode: Mode, peer: IpAddr) -> Echo {
        Echo { mode, peer }
    }

    /// E3's answer. Like Python's example it takes what one `recv` gave, and
    /// nothing at all if the peer said nothing.
    fn upper(&self, chunk: &[u8], output: &mut Output) {
        let text = strip(chunk);
        output.log.push(format!("{} wrote:", self.peer));
        output.log.push(String::from_utf8_lossy(text).into_owned());
        output.bytes.push(&text.to_ascii_uppercase());
    }
}

impl Session for Echo {
    fn read_limit(&self) -> usize {
        match self.mode {
            Mode::Once => ONCE_LIMIT,
            Mode::Upper => UPPER_LIMIT,
            Mode::Stream | Mode::Hello => 64 * 1024,
        }
    }

    fn open(&mut self, output: &mut Output) -> Step {
        if self.mode != Mode::Hello {
            return Step::Continue;
        }
        output.bytes.push(b"Hello World!\n");
        Step::Close
    }

    fn receive(&mut self, chunk: &[u8], output: &mut Output) -> Step {
        match self.mode {
            Mode::Stream => {
                output.bytes.push(chunk);
                return Step::Continue;
            }
            Mode::Once => output.bytes.push(chunk),
            Mode::Upper => self.upper(chunk, output),
            Mode::Hello => {}
        }
        Step::Close
    }

    fn end(&mut self, output: &mut Output) {
        if self.mode == Mode::Upper {
            self.upper(b"", output);
        }
    }
}

/// Removes white space at both ends, as Python's `bytes.strip` does: that is
/// ASCII white space with the vertical tab, which Rust leaves out.
fn strip(bytes: &[u8]) -> &[u8] {
    let text = |byte: &u8| !matches!(byte, b' ' | b'\t'..=b'\r');
    let start = bytes.iter().position(text).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(text).map_or(start, |last| last + 1);
    bytes.get(start..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    /// Runs a session over chunks and then end of file; gives what it wrote, what
    /// it logged, and how many chunks it took.
    fn run(mode: Mode, chunks: &[&[u8]]) -> (Vec<u8>, Vec<String>, usize) {
        let mut session = Echo::new(mode, Ipv4Addr::LOCALHOST.into());
        let mut output = Output::default();
        let mut taken = 0;
        let mut step = session.open(&mut output);
        for chunk in chunks {
            if step == Step::Close {
                break;
            }
            let chunk = &chunk[..chunk.len().min(session.read_limit())];
            step = session.receive(chunk, &mut output);
            taken += 1;
        }
        if step == Step::Continue {
            session.end(&mut output);
        }
        (output.bytes.take(), output.log, taken)
    }

    #[track_caller]
    fn check(mode: Mode, chunks: &[&[u8]], expected: &[u8], taken: usize) {
        let (bytes, _, count) = run(mode, chunks);
        assert_eq!((bytes.as_slice(), count), (expected, taken), "{mode:?}");
    }

    #[test]
    fn stream_echoes_all() {
        check(Mode::Stream, &[], b"", 0);
        check(Mode::Stream, &[b"a", b"bc", b"\0\xff"], b"abc\0\xff", 3);
    }

    #[test]
    fn once_echoes_the_first_hundred_bytes() {
        check(Mode::Once, &[], b"", 0);
        check(Mode::Once, &[b"one", b"two"], b"one", 1);
        check(Mode::Once, &[&[b'x'; 250]], &[b'x'; 100], 1);
    }

    #[test]
    fn upper_answers_the_stripped_text() {
        check(Mode::Upper, &[b"  hello\r\n", b"more"], b"HELLO", 1);
        check(Mode::Upper, &[b" \t\n\r\x0b\x0c "], b"", 1);
        check(Mode::Upper, &[b"\x0ba b\x0b"], b"A B", 1);
        check(Mode::Upper, &["straße".as_bytes()], "STRAßE".as_bytes(), 1);
        check(Mode::Upper, &[b"\0a\0"], b"\0A\0", 1);
        check(Mode::Upper, &[&[b'x'; 3000]], &[b'X'; 1024], 1);
    }

    #[test]
    fn upper_logs_the_host_and_the_text() {
        let (_, log, _) = run(Mode::Upper, &[b" hello world \n"]);
        assert_eq!(log, ["127.0.0.1 wrote:", "hello world"]);
        let (bytes, log, _) = run(Mode::Upper, &[]);
        assert_eq!(log, ["127.0.0.1 wrote:", ""]);
        assert!(bytes.is_empty());
        let mut output = Output::default();
        let mut session = Echo::new(Mode::Upper, "::1".parse().unwrap());
        session.receive(b"\xff", &mut output);
        assert_eq!(output.log, ["::1 wrote:", "\u{fffd}"]);
    }

    #[test]
    fn hello_asks_for_nothing() {
        check(Mode::Hello, &[b"ignored"], b"Hello World!\n", 0);
    }

    #[test]
    fn modes() {
        #[track_caller]
        fn check(text: &str, expected: Option<Mode>) {
            assert_eq!(text.parse().ok(), expected, "{text:?}");
        }
        assert_eq!(Mode::default(), Mode::Stream);
        check("stream", Some(Mode::Stream));
        check("once", Some(Mode::Once));
        check("upper", Some(Mode::Upper));
        check("hello", Some(Mode::Hello));
        check("", None);
        check("Stream", None);
    }
}
