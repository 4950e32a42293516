use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use sockserve_handler::session::testing::{self, Seen};
use sockserve_handler::session::{Phase, SavedConversation};

fn protocol(mode: Mode, terminator: &str) -> TimeProtocol {
    TimeProtocol {
        mode,
        terminator: terminator.parse().unwrap(),
        clock: || 1_795_286_107,
    }
}

fn session(protocol: &TimeProtocol) -> Time {
    protocol.session(|| Err(String::new())).unwrap()
}

const ANSWER: &str = "Sat Nov 21 18:35:07 2026\r\n";

/// Runs a session over chunks and then end of file. Returns what it wrote, what it
/// logged, and whether it closed by itself.
fn run(mode: Mode, terminator: &str, chunks: &[&[u8]]) -> (String, Vec<String>, bool) {
    let mut session = session(&protocol(mode, terminator));
    let mut output = Output::default();
    let mut written = Vec::new();
    let mut step = session.open(&mut output);
    let mut chunks = chunks.iter();
    loop {
        while step == Step::Continue {
            written.extend(output.bytes.take());
            step = session.add_more(&mut output);
            if output.bytes.is_empty() {
                break;
            }
        }
        if step == Step::Close {
            break;
        }
        let Some(chunk) = chunks.next() else { break };
        step = session.receive(chunk, &mut output);
    }
    if step == Step::Continue {
        session.end(&mut output);
    }
    written.extend(output.bytes.take());
    (
        String::from_utf8(written).unwrap(),
        output.log,
        step == Step::Close,
    )
}

#[track_caller]
fn check(mode: Mode, chunks: &[&[u8]], answers: usize, closed: bool) {
    let (written, _, by_itself) = run(mode, r"\r\n\r\n", chunks);
    assert_eq!(written, ANSWER.repeat(answers), "{mode:?} {chunks:?}");
    assert_eq!(by_itself, closed, "{mode:?} {chunks:?}");
}

#[test]
fn daytime() {
    check(Mode::Daytime, &[], 1, true);
    check(Mode::Daytime, &[b"ignored"], 1, true);
}

#[test]
fn request() {
    check(Mode::Request, &[b"what time is it?", b"and now?"], 1, true);
    check(Mode::Request, &[], 1, false);
    let (_, log, _) = run(Mode::Request, "none", &[b"time please\r\n"]);
    assert_eq!(log, ["time please"]);
}

#[test]
fn line() {
    check(Mode::Line, &[], 0, false);
    check(Mode::Line, &[b"a", b"b\n", b"c\r", b"d"], 0, false);
    check(Mode::Line, &[b"a\r\n"], 1, false);
    check(Mode::Line, &[b"a\r\nb\r\nc"], 1, false);
    check(Mode::Line, &[b"a\r\n", b"b", b"\r\n"], 2, false);
    check(Mode::Line, &[b"a\r", b"\nb\r\n"], 1, false);
    check(Mode::Line, &[b"a\r", b"\n"], 1, false);
    check(Mode::Line, &[b"a\r", b"b", b"\n"], 0, false);
    check(Mode::Line, &[b"\r", b"\r", b"\n", b"\n"], 1, false);
}

#[test]
fn event() {
    check(Mode::Event, &[], 0, false);
    check(Mode::Event, &[b"a", b"b", b"c"], 3, false);
}

#[test]
fn terminator() {
    check(Mode::Terminator, &[b"GET / HTTP/1.0\r\n"], 0, false);
    check(Mode::Terminator, &[b"GET /\r\n\r\n"], 1, true);
    check(Mode::Terminator, &[b"a\r\n", b"\r\nrest", b"more"], 1, true);
    check(Mode::Terminator, &[b"a\r\n\r", b"\r\n\r\n"], 1, true);
    let (written, _, _) = run(Mode::Terminator, "count:5", &[b"123", b"4"]);
    assert_eq!(written, "");
    let (written, _, closed) = run(Mode::Terminator, "count:5", &[b"123", b"45"]);
    assert_eq!((written.as_str(), closed), (ANSWER, true));
    let (written, _, closed) = run(Mode::Terminator, "none", &[b"\r\n\r\n".as_slice(); 9]);
    assert_eq!((written.as_str(), closed), ("", false));
}

#[test]
fn modes() {
    #[track_caller]
    fn check(text: &str, expected: Option<Mode>) {
        assert_eq!(text.parse().ok(), expected, "{text:?}");
        if let Some(mode) = expected {
            assert_eq!(mode.to_string(), text);
        }
    }
    assert_eq!(Mode::default(), Mode::Daytime);
    check("daytime", Some(Mode::Daytime));
    check("request", Some(Mode::Request));
    check("line", Some(Mode::Line));
    check("event", Some(Mode::Event));
    check("terminator", Some(Mode::Terminator));
    check("", None);
    check("noon", None);
}

/// Which states a component accepts.
#[test]
fn states() {
    #[track_caller]
    fn check(state: &State, mode: Mode, terminator: &str, expected: Result<(), &str>) {
        let resumed = SavedConversation {
            phase: Phase::Open,
            output: Vec::new(),
            session: state.clone(),
        };
        let encoded = sockserve_handler::session::State::encode("time/1", &resumed).unwrap();
        let decoded = protocol(mode, terminator).decode(&encoded);
        let decoded = decoded.as_ref().map_err(String::as_str);
        assert_eq!(decoded, expected.map(|()| &resumed), "{state:?}");
    }
    let torn = State::Line { torn: true };
    check(&torn, Mode::Line, "none", Ok(()));
    let other = Err("state time/1, MODE=line: expected MODE=event");
    check(&torn, Mode::Event, "none", other);
    let counting = State::Terminator {
        terminator: "count:5".parse().unwrap(),
        progress: Progress::Missing(3),
        queue: vec![Saved::Producer(b"a".to_vec()), Saved::Close],
    };
    check(&counting, Mode::Terminator, "count:5", Ok(()));
    let other = Err(r"state time/1, another TERMINATOR: expected TERMINATOR=\r\n");
    check(&counting, Mode::Terminator, r"\r\n", other);
    let impossible = State::Terminator {
        terminator: "count:5".parse().unwrap(),
        progress: Progress::Missing(6),
        queue: Vec::new(),
    };
    let beyond = Err("state time/1: expected a place before the terminator's end");
    check(&impossible, Mode::Terminator, "count:5", beyond);
}

fn any_protocol() -> impl Strategy<Value = TimeProtocol> {
    let mode = prop_oneof![
        Just(Mode::Daytime),
        Just(Mode::Request),
        Just(Mode::Line),
        Just(Mode::Event),
        Just(Mode::Terminator),
    ];
    let terminator = prop_oneof![
        Just("none"),
        Just("count:20"),
        Just(r"\r\n\r\n"),
        Just("aab")
    ];
    (mode, terminator).prop_map(|(mode, terminator)| protocol(mode, terminator))
}

fn any_byte() -> impl Strategy<Value = u8> {
    prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'a'), Just(b'b')]
}

fn talk(protocol: &TimeProtocol, chunks: Vec<Vec<u8>>, moves: Vec<(usize, bool)>) -> Seen {
    testing::run(protocol, chunks, moves).unwrap()
}

proptest! {
    #[test]
    fn a_hand_over_changes_nothing(
        protocol in any_protocol(),
        chunks in vec(vec(any_byte(), 0..10), 0..10),
        moves in vec((1_usize..40, any::<bool>()), 0..40),
    ) {
        prop_assert_eq!(talk(&protocol, chunks.clone(), moves), talk(&protocol, chunks, vec![]));
    }

    #[test]
    fn no_bytes_are_too_strange(protocol in any_protocol(), bytes in vec(any::<u8>(), 0..100)) {
        let state = sockserve_handler::session::State { tag: "time/1".to_owned(), bytes };
        if let Ok(resumed) = protocol.decode(&state) {
            let mut talk = sockserve_handler::session::Conversation::resume(session(&protocol), resumed);
            talk.receive(b"a\r\n\r\n");
            for _ in 0..10 {
                talk.output.bytes.take();
                talk.add_more();
            }
        }
    }
}
