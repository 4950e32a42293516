use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use sockserve_handler::session::testing::{Seen, run};

const TOO_LONG: &str = "error: a line may have 1024 bytes\r\n";

fn talk(chunks: Vec<Vec<u8>>, moves: Vec<(usize, bool)>) -> Seen {
    run(&Store::default(), chunks, moves).unwrap()
}

/// The same is answered for any size of chunks, and nothing is logged.
#[track_caller]
fn check(input: &str, answer: &str) {
    for size in [1, 2, 1023, 1024, 1025, 5000] {
        let chunks = input.as_bytes().chunks(size).map(<[u8]>::to_vec);
        let seen = talk(chunks.collect(), vec![]);
        let written = String::from_utf8(seen.written).unwrap();
        assert_eq!(written, answer, "chunks of {size}");
        assert!(seen.log.is_empty());
    }
}

#[test]
fn each_line_is_answered() {
    check("", "");
    check("COUNT\n", "0\r\n");
    check("SET a 1\nGET a\r\nCOUNT\n", "OK\r\n1\r\n1\r\n");
    check("SET a b c \r\nGET a\n", "OK\r\nb c \r\n");
    check("SET a 1\nSET a 2\nGET a\nCOUNT\n", "OK\r\nOK\r\n2\r\n1\r\n");
    check(
        "SET a 1\nDEL a\nDEL a\nGET a\n",
        "OK\r\n1\r\n0\r\n(none)\r\n",
    );
    check(
        "PUT a\nCOUNT\n",
        "error: expected SET, GET, DEL or COUNT\r\n0\r\n",
    );
    check("\n", "error: expected SET, GET, DEL or COUNT\r\n");
    // The half line at the end.
    check("SET a 1\nGET a", "OK\r\n1\r\n");
}

#[test]
fn a_long_line_is_an_error_of_the_line() {
    let value = "x".repeat(1024 - "SET a ".len());
    check(
        &format!("SET a {value}\nGET a\r\n"),
        &format!("OK\r\n{value}\r\n"),
    );
    for more in [1, 1024, 5000] {
        let line = format!("SET a {value}{}", "y".repeat(more));
        check(
            &format!("{line}\r\nCOUNT\n{line}\nCOUNT\n"),
            &format!("{TOO_LONG}0\r\n{TOO_LONG}0\r\n"),
        );
        check(&line, TOO_LONG);
    }
}

#[test]
fn connections_of_an_instance_have_the_same_values() {
    let store = Store::default();
    let say = |line: &str| {
        let seen = run(&store, [line.as_bytes().to_vec()], []).unwrap();
        String::from_utf8(seen.written).unwrap()
    };
    assert_eq!(say("SET a 1\n"), "OK\r\n");
    assert_eq!(say("GET a\n"), "1\r\n");
}

#[test]
fn the_values_pass_to_another_instance() {
    let (old, new) = (Store::default(), Store::default());
    let mut output = Output::default();
    old.answer(b"SET a 1", &mut output);
    old.answer(b"SET b c d", &mut output);
    let state = old.save().unwrap();
    assert_eq!(state.tag, "kv/1");
    // Versions that are built apart exchange states in this format.
    assert_eq!(state.bytes, b"\x02\x01a\x011\x01b\x03c d");
    new.restore(&state).unwrap();
    assert_eq!(*new.0.borrow(), *old.0.borrow());
    let refused = |tag: &str, bytes: &[u8]| {
        let state = State {
            tag: tag.to_owned(),
            bytes: bytes.to_vec(),
        };
        new.restore(&state).unwrap_err()
    };
    assert_eq!(refused("kv/2", &state.bytes), "state kv/2: expected kv/1");
    assert_eq!(
        refused("kv/1", &state.bytes[1..]),
        "state kv/1: expected the format of that tag"
    );
    // What was refused has changed nothing.
    assert_eq!(new.0.borrow().len(), 2);
}

fn any_line() -> impl Strategy<Value = Vec<u8>> {
    let line = "(SET|GET|DEL|COUNT|x)( [ab])?( [a-z ]{0,9})?(\r?\n)?";
    prop_oneof![
        4 => line.prop_map(String::into_bytes),
        1 => (1000_usize..1100).prop_map(|length| vec![b'x'; length]),
    ]
}

proptest! {
    #[test]
    fn a_hand_over_changes_nothing(
        chunks in vec(any_line(), 0..20),
        moves in vec((1_usize..100, any::<bool>()), 0..40),
    ) {
        prop_assert_eq!(talk(chunks.clone(), moves), talk(chunks, vec![]));
    }

    #[test]
    fn no_state_is_too_strange(
        bytes in vec(any::<u8>(), 0..3000),
        unfinished in vec(any::<u8>(), 0..3000),
        in_long_line: bool,
    ) {
        let store = Store::default();
        for tag in [TAG, Store::TAG] {
            let state = State { tag: tag.to_owned(), bytes: bytes.clone() };
            let _ = store.decode(&state);
            let _ = store.restore(&state);
        }
        let mut session = store.session(|| Ok(([127, 0, 0, 1], 5000).into())).unwrap();
        let mut output = Output::default();
        session.restore(KvState { unfinished, in_long_line }, &mut output);
        session.receive(b"x\n", &mut output);
        prop_assert!(session.lines.take().is_empty());
        prop_assert!(!session.in_long_line);
    }
}
