use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use sockserve_handler::session::testing::{self, Seen};
use sockserve_handler::session::{Conversation, Phase, SavedConversation};

const QUOTE: &[u8] = b"Know thyself.\r\n";

fn protocol(service: Service) -> SmallProtocol {
    SmallProtocol {
        service,
        quote: r"Know thyself.\r\n".parse().unwrap(),
        clock: || 1_795_286_107,
    }
}

fn session(service: Service) -> Small {
    let session = protocol(service).session(|| Err("nobody needs the peer".to_owned()));
    session.unwrap()
}

fn talk(service: Service, chunks: Vec<Vec<u8>>, moves: Vec<(usize, bool)>) -> Seen {
    testing::run(&protocol(service), chunks, moves).unwrap()
}

#[test]
fn answers() {
    #[track_caller]
    fn check(service: Service, expected: &[u8], closes: bool) {
        for chunks in [vec![], vec![b"ignored".to_vec(), vec![b'x'; 100_000]]] {
            let seen = talk(service, chunks, vec![]);
            assert_eq!((seen.written.as_slice(), seen.log), (expected, vec![]));
        }
        let talk = Conversation::open(session(service));
        assert_eq!(talk.is_finished(), closes, "{service}");
    }
    check(Service::Discard, b"", false);
    check(Service::Time, &4_004_274_907_u32.to_be_bytes(), true);
    check(Service::Qotd, QUOTE, true);
}

#[test]
fn log_says_who_has_sent_what() {
    let chunks = ["one\ntwo\r\n", "ha", "lf"].map(Vec::from).to_vec();
    let seen = talk(Service::Log, chunks, vec![]);
    assert_eq!(seen.written, b"");
    let expected = [
        "wrote: one",
        "wrote: two",
        "wrote: ha",
        "wrote: lf",
        "disconnected",
    ];
    assert_eq!(
        seen.log,
        expected.map(|said| format!("127.0.0.1:5000 {said}"))
    );
}

/// Writes so many pieces of chargen, with what `moves` says before each.
fn pattern(moves: &[(usize, bool)], pieces: usize) -> Vec<u8> {
    let mut talk = Conversation::open(session(Service::Chargen));
    let mut written = Vec::new();
    let mut moves = moves.iter().copied();
    for _ in 0..pieces {
        let (room, move_it) = moves.next().unwrap_or((4096, false));
        if move_it {
            let state = sockserve_handler::session::State::encode("small/1", &talk.save()).unwrap();
            let saved = protocol(Service::Chargen).decode(&state).unwrap();
            talk = Conversation::resume(session(Service::Chargen), saved);
        }
        if talk.output.bytes.is_empty() {
            assert!(talk.add_more());
        }
        assert!(talk.output.bytes.len() < 4096);
        let piece = talk.output.bytes.front(room).to_vec();
        talk.output.bytes.consume(piece.len());
        written.extend(piece);
    }
    written
}

#[test]
fn chargen_goes_on_after_the_end_of_the_input() {
    let mut talk = Conversation::open(session(Service::Chargen));
    assert!(!talk.is_finished() && talk.output.bytes.is_empty());
    talk.receive(&[b'x'; 100_000]);
    assert!(talk.output.bytes.is_empty());
    talk.end();
    for _ in 0..3 {
        assert!(talk.add_more());
        assert_eq!(talk.output.bytes.take().len(), 55 * 74);
    }
}

#[test]
fn chargen_follows_the_pattern() {
    let written = pattern(&[], 4);
    let mut expected = Pattern::default();
    let mut lines = 0;
    for line in written.chunks(74) {
        assert_eq!(line, expected.next_line());
        lines += 1;
    }
    assert_eq!(lines, 220);
}

/// Which states a component accepts.
#[test]
fn states() {
    #[track_caller]
    fn check(service: Service, place: u8, component: Service, expected: Result<(), &str>) {
        let resumed = SavedConversation {
            phase: Phase::Open,
            output: Vec::new(),
            session: State { service, place },
        };
        let encoded = sockserve_handler::session::State::encode("small/1", &resumed).unwrap();
        let decoded = protocol(component).decode(&encoded);
        let decoded = decoded.as_ref().map_err(String::as_str);
        assert_eq!(decoded, expected.map(|()| &resumed), "{service} {place}");
    }
    check(Service::Discard, 0, Service::Discard, Ok(()));
    check(Service::Chargen, 94, Service::Chargen, Ok(()));
    let beyond = Err("state small/1: expected a place in the pattern");
    check(Service::Chargen, 95, Service::Chargen, beyond);
    let other = Err("state small/1, SERVICE=discard: expected SERVICE=qotd");
    check(Service::Discard, 0, Service::Qotd, other);
}

/// Versions that are built apart exchange states in this format.
#[test]
fn the_format_of_a_state() {
    let mut talk = Conversation::open(session(Service::Chargen));
    talk.add_more();
    talk.output.bytes.take();
    let state = sockserve_handler::session::State::encode("small/1", &talk.save()).unwrap();
    assert_eq!(state.bytes, [0, 0, 1, 55]);
}

#[test]
fn an_answer_is_not_repeated() {
    #[track_caller]
    fn check(phase: Phase, expected: &[u8]) {
        let saved = SavedConversation {
            phase,
            output: b"before ".to_vec(),
            session: session(Service::Qotd).save(),
        };
        let mut talk = Conversation::resume(session(Service::Qotd), saved);
        assert!(talk.is_finished());
        assert_eq!(talk.output.bytes.take(), [b"before ", expected].concat());
    }
    check(Phase::Closing, b"");
    check(Phase::Open, QUOTE);
}

proptest! {
    #[test]
    fn a_hand_over_changes_nothing(
        service in prop_oneof![
            Just(Service::Discard),
            Just(Service::Time),
            Just(Service::Qotd),
            Just(Service::Log),
        ],
        chunks in vec(vec(any::<u8>(), 0..10), 0..10),
        moves in vec((1_usize..40, any::<bool>()), 0..40),
    ) {
        prop_assert_eq!(talk(service, chunks.clone(), moves), talk(service, chunks, vec![]));
    }

    #[test]
    fn a_hand_over_keeps_the_place_in_the_pattern(
        moves in vec((1_usize..5000, any::<bool>()), 0..40),
    ) {
        let written = pattern(&moves, 50);
        prop_assert_eq!(&written, &pattern(&[], 50)[..written.len()]);
    }

    #[test]
    fn no_bytes_are_too_strange(bytes in vec(any::<u8>(), 0..100)) {
        let state = sockserve_handler::session::State { tag: "small/1".to_owned(), bytes };
        for service in [Service::Discard, Service::Chargen, Service::Time, Service::Qotd] {
            if let Ok(resumed) = protocol(service).decode(&state) {
                let mut talk = Conversation::resume(session(service), resumed);
                talk.receive(b"a");
                for _ in 0..10 {
                    talk.output.bytes.take();
                    talk.add_more();
                }
            }
        }
    }
}
