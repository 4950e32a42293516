use super::*;

const ANN: MemberId = 1;
const BOB: MemberId = 2;
const EVE: MemberId = 3;

fn room(limit: usize) -> Room {
    Room::new(QueueLimit(limit))
}

fn join(room: &mut Room, id: MemberId) {
    let port = 5000 + u16::try_from(id).unwrap();
    room.join(id, SocketAddr::from(([127, 0, 0, 1], port)));
}

/// A room whose members have read all that came before.
fn room_of(limit: usize, members: &[MemberId]) -> Room {
    let mut room = room(usize::MAX);
    for &id in members {
        join(&mut room, id);
    }
    for &id in members {
        read(&mut room, id);
    }
    room.take_waiting();
    room.take_log();
    room.queue_limit = limit;
    room
}

/// All that waits for a member.
fn read(room: &mut Room, id: MemberId) -> String {
    let bytes = room.pending(id, usize::MAX).to_vec();
    room.sent(id, bytes.len());
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_newcomer_is_welcomed_and_the_others_are_told() {
    let mut room = room(1000);
    join(&mut room, ANN);
    join(&mut room, BOB);
    assert_eq!(
        read(&mut room, ANN),
        "You're connected to the sockserve chatserver\r\nClient joined 127.0.0.1:5002\r\n"
    );
    assert_eq!(
        read(&mut room, BOB),
        "You're connected to the sockserve chatserver\r\n"
    );
    assert_eq!(
        room.take_log(),
        [
            "Client joined 127.0.0.1:5001",
            "Client joined 127.0.0.1:5002"
        ]
    );
}

#[test]
fn ipv6_peers_are_in_brackets() {
    let mut room = room_of(1000, &[ANN]);
    room.join(BOB, "[::1]:5000".parse().unwrap());
    assert_eq!(read(&mut room, ANN), "Client joined [::1]:5000\r\n");
}

#[test]
fn a_line_goes_to_all_but_its_sender() {
    let mut room = room_of(1000, &[ANN, BOB, EVE]);
    room.receive(ANN, b"hello\r\nyou\nthe");
    room.receive(ANN, b"re\n");
    let expected = "[127.0.0.1:5001] hello\r\n[127.0.0.1:5001] you\n[127.0.0.1:5001] there\n";
    assert_eq!(read(&mut room, ANN), "");
    assert_eq!(read(&mut room, BOB), expected);
    assert_eq!(read(&mut room, EVE), expected);
    assert_eq!(
        room.take_log(),
        [
            "[127.0.0.1:5001] hello",
            "[127.0.0.1:5001] you",
            "[127.0.0.1:5001] there"
        ]
    );
    assert_eq!(room.take_waiting(), [BOB, EVE]);
}

#[test]
fn a_member_leaves_with_what_it_left_unfinished() {
    let mut room = room_of(1000, &[ANN, BOB]);
    room.receive(BOB, b"unfinished");
    assert_eq!(read(&mut room, ANN), "");
    room.leave(BOB);
    room.leave(BOB);
    assert_eq!(
        read(&mut room, ANN),
        "[127.0.0.1:5002] unfinished\r\nClient left 127.0.0.1:5002\r\n"
    );
    assert!(!room.is_member(BOB));
    assert!(room.take_dropped().is_empty());
    room.receive(BOB, b"ghost\n");
    assert_eq!(read(&mut room, ANN), "");
}

#[test]
fn who_does_not_read_is_dropped_and_the_others_are_told() {
    let mut room = room_of(100, &[ANN, BOB, EVE]);
    let line = "[127.0.0.1:5001] 0123456789\n";
    for _ in 0..3 {
        room.receive(ANN, b"0123456789\n");
        assert_eq!(read(&mut room, EVE), line);
    }
    assert_eq!(room.pending(BOB, usize::MAX).len(), 84);
    room.receive(ANN, b"0123456789\n");
    assert_eq!(room.take_dropped(), [BOB]);
    assert!(!room.is_member(BOB));
    assert_eq!(room.pending(BOB, usize::MAX), b"");
    assert_eq!(read(&mut room, ANN), "Client left 127.0.0.1:5002\r\n");
    assert_eq!(
        read(&mut room, EVE),
        format!("{line}Client left 127.0.0.1:5002\r\n")
    );
    assert_eq!(
        room.take_log().last().map(String::as_str),
        Some("Client left 127.0.0.1:5002")
    );
}

#[test]
fn a_queue_may_be_filled_to_its_limit() {
    let mut room = room_of(56, &[ANN, BOB]);
    room.receive(ANN, b"0123456789\n0123456789\n");
    assert_eq!(room.pending(BOB, usize::MAX).len(), 56);
    room.sent(BOB, 1);
    room.receive(ANN, b"\n");
    assert_eq!(room.take_dropped(), [BOB]);
}

/// That one is dropped may be what makes another's queue run over, and in the end
/// the sender's.
#[test]
fn one_drop_may_cause_another() {
    let mut room = room_of(60, &[ANN, BOB, EVE]);
    room.receive(BOB, b"0123456789012345\n");
    room.sent(EVE, 20);
    room.receive(EVE, b"0123456789\n0123456789\n0123456789\n");
    assert_eq!(room.take_dropped(), [ANN, BOB, EVE]);
    assert_eq!(
        room.take_log(),
        [
            "[127.0.0.1:5002] 0123456789012345",
            "[127.0.0.1:5003] 0123456789",
            "Client left 127.0.0.1:5001",
            "[127.0.0.1:5003] 0123456789",
            "Client left 127.0.0.1:5002",
            "Client left 127.0.0.1:5003",
        ]
    );
}

#[test]
fn the_welcome_is_above_any_limit() {
    let mut room = room(30);
    join(&mut room, ANN);
    assert_eq!(read(&mut room, ANN), WELCOME);
    join(&mut room, BOB);
    assert_eq!(room.take_dropped(), []);
    assert_eq!(read(&mut room, BOB), WELCOME);
}

#[test]
fn a_burst_makes_the_room_busy_until_it_is_written() {
    let mut room = room_of(100, &[ANN, BOB]);
    room.receive(ANN, b"01\n");
    assert!(!room.is_busy());
    room.receive(ANN, b"01\n");
    assert!(room.is_busy());
    assert_eq!(room.take_waiting(), [BOB]);
    assert!(!room.is_busy());
}

#[test]
fn limits() {
    #[track_caller]
    fn check(text: &str, expected: Option<usize>) {
        assert_eq!(text.parse().ok(), expected.map(QueueLimit), "{text:?}");
    }
    assert_eq!(QueueLimit::default(), QueueLimit(262_144));
    check("1", Some(1));
    check("65536", Some(65536));
    check("0", None);
    check("", None);
    check("64k", None);
    check("-1", None);
}
