use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use sockserve_handler::session::testing::{self, Seen};
use sockserve_handler::session::{Conversation, Phase, SavedConversation};
use std::net::{IpAddr, Ipv4Addr};

fn session(mode: Mode, peer: IpAddr) -> Echo {
    let peer = Peer::from((peer, 5000));
    EchoProtocol { mode }.session(|| Ok(peer)).unwrap()
}

/// Runs a session over chunks and then end of file. Returns what it wrote, what it
/// logged, and how many chunks it took.
fn run(mode: Mode, chunks: &[&[u8]]) -> (Vec<u8>, Vec<String>, usize) {
    let mut session = session(mode, Ipv4Addr::LOCALHOST.into());
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
fn line_echoes_all() {
    check(Mode::Line, &[], b"", 0);
    check(Mode::Line, &[b"a", b"b\r\nc", b"d"], b"ab\r\ncd", 3);
    check(Mode::Line, &[&[b'x'; 3000]], &[b'x'; 3000], 1);
    // A line is echoed when it is complete.
    let mut output = Output::default();
    let mut session = session(Mode::Line, Ipv4Addr::LOCALHOST.into());
    session.receive(b"one\ntw", &mut output);
    assert_eq!(output.bytes.take(), b"one\n");
    session.receive(b"o", &mut output);
    assert!(output.bytes.is_empty());
    session.receive(b"\n", &mut output);
    assert_eq!(output.bytes.take(), b"two\n");
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
    let mut session = session(Mode::Upper, "::1".parse().unwrap());
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
    check("line", Some(Mode::Line));
    check("once", Some(Mode::Once));
    check("upper", Some(Mode::Upper));
    check("hello", Some(Mode::Hello));
    check("", None);
    check("Stream", None);
}

/// Checks what a conversation in each mode writes when it continues a half-read line,
/// and whether it then wants to close.
#[test]
fn a_half_read_line_goes_on_in_any_mode() {
    #[track_caller]
    fn check(mode: Mode, phase: Phase, unfinished: &[u8], expected: &[u8], finished: bool) {
        let resumed = SavedConversation {
            phase,
            output: b"before ".to_vec(),
            session: State {
                unfinished: unfinished.to_vec(),
            },
        };
        let session = session(mode, Ipv4Addr::LOCALHOST.into());
        let mut talk = Conversation::resume(session, resumed);
        let expected = [b"before ", expected].concat();
        assert_eq!(talk.output.bytes.take(), expected, "{mode:?} {phase:?}");
        assert_eq!(talk.is_finished(), finished, "{mode:?} {phase:?}");
    }
    check(Mode::Stream, Phase::Open, b"half", b"half", false);
    check(Mode::Line, Phase::Open, b"half", b"", false);
    check(Mode::Once, Phase::Open, b"half", b"half", true);
    check(Mode::Upper, Phase::Open, b" half ", b"HALF", true);
    check(Mode::Hello, Phase::Open, b"half", b"Hello World!\n", true);
    for mode in [Mode::Stream, Mode::Line, Mode::Once, Mode::Upper] {
        check(mode, Phase::Open, b"", b"", false);
        check(mode, Phase::Closing, b"", b"", true);
        check(mode, Phase::Ended, b"", b"", true);
    }
    check(Mode::Hello, Phase::Open, b"", b"Hello World!\n", true);
    check(Mode::Hello, Phase::Closing, b"", b"", true);
}

fn talk(mode: Mode, chunks: Vec<Vec<u8>>, moves: Vec<(usize, bool)>) -> Seen {
    testing::run(&EchoProtocol { mode }, chunks, moves).unwrap()
}

fn any_mode() -> impl Strategy<Value = Mode> {
    prop_oneof![
        Just(Mode::Stream),
        Just(Mode::Line),
        Just(Mode::Once),
        Just(Mode::Upper),
        Just(Mode::Hello),
    ]
}

proptest! {
    #[test]
    fn a_hand_over_changes_nothing(
        mode in any_mode(),
        chunks in vec(vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..1500), 0..8),
        moves in vec((1_usize..2000, any::<bool>()), 0..40),
    ) {
        prop_assert_eq!(talk(mode, chunks.clone(), moves), talk(mode, chunks, vec![]));
    }

    #[test]
    fn no_bytes_are_too_strange(bytes in vec(any::<u8>(), 0..3000)) {
        let state = sockserve_handler::session::State { tag: TAG.to_owned(), bytes };
        let _ = EchoProtocol { mode: Mode::Line }.decode(&state);
    }
}
