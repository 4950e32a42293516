use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use sockserve_handler::session::State;

const ANN: MemberId = 1;
const BOB: MemberId = 2;
const EVE: MemberId = 3;

fn room(limit: usize) -> Room {
    Room::new(QueueLimit(limit), RoomLimit::default())
}

fn join(room: &mut Room, id: MemberId) {
    let port = 5000 + u16::try_from(id).unwrap();
    room.join(id, Peer::from(([127, 0, 0, 1], port)));
}

/// A room whose members have read everything so far.
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

/// A room whose queues have no limit of their own.
fn room_with_limit(limit: usize, members: &[MemberId]) -> Room {
    let mut room = room_of(usize::MAX, members);
    room.fill = Fill::new(limit);
    room
}

/// Lets a member send a chunk while no member reads.
fn receive_all(room: &mut Room, id: MemberId, mut chunk: &[u8]) {
    while !chunk.is_empty() {
        if let Some(hold) = room.hold() {
            room.end_hold(hold);
        }
        let taken = room.receive(id, chunk);
        chunk = &chunk[taken..];
    }
}

/// Reads everything that is queued for a member.
fn read(room: &mut Room, id: MemberId) -> String {
    let bytes = room.pending(id, usize::MAX);
    assert_eq!(room.has_pending(id), !bytes.is_empty());
    room.consume(id, bytes.len());
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
    room.consume(BOB, 1);
    room.receive(ANN, b"\n");
    assert_eq!(room.take_dropped(), [BOB]);
}

/// The news that a member was dropped may make another queue too long, in the end the
/// sender's.
#[test]
fn one_drop_may_cause_another() {
    let mut room = room_of(60, &[ANN, BOB, EVE]);
    room.receive(BOB, b"0123456789012345\n");
    room.consume(EVE, 20);
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

/// This line is 28 bytes in each queue.
const LINE: &[u8] = b"0123456789\n";

#[test]
fn the_room_may_be_filled_to_its_limit() {
    // 28 for Bob and for Eve, and 18 for Ann and for Eve, are 92.
    let mut room = room_with_limit(91, &[ANN, BOB, EVE]);
    room.receive(ANN, LINE);
    room.receive(BOB, b"\n");
    // Without Eve there is room for the line, but not for the news that Eve has left.
    assert_eq!(room.take_dropped(), [EVE, BOB]);

    let mut room = room_with_limit(92, &[ANN, BOB, EVE]);
    room.receive(ANN, LINE);
    room.receive(BOB, b"\n");
    assert_eq!(room.take_dropped(), []);
    // What is read makes room again.
    assert_eq!(read(&mut room, EVE).len(), 46);
    room.receive(EVE, b"\n");
    assert_eq!(room.take_dropped(), []);
}

#[test]
fn who_has_the_longest_queue_is_dropped_for_the_room() {
    #[track_caller]
    fn check(readers: &[MemberId], sender: MemberId, dropped: MemberId) {
        let mut room = room_with_limit(170, &[ANN, BOB, EVE]);
        for _ in 0..2 {
            room.receive(sender, LINE);
            for &id in readers {
                read(&mut room, id);
            }
        }
        let mut lines = 2;
        while room.take_dropped().is_empty() {
            room.receive(sender, LINE);
            lines += 1;
            assert!(lines < 10);
        }
        assert!(!room.is_member(dropped));
        assert_eq!(room.members.len(), 2);
        for &id in room.members.keys() {
            let told = room.pending(id, usize::MAX);
            assert!(told.ends_with(format!("Client left 127.0.0.1:500{dropped}\r\n").as_bytes()));
        }
    }
    check(&[BOB], ANN, EVE);
    check(&[EVE], ANN, BOB);
    check(&[ANN], BOB, EVE);
    // Of equal queues, the newest member's.
    check(&[], ANN, EVE);
}

/// A member that talks and does not read may also have the longest queue.
#[test]
fn a_sender_may_be_dropped_for_the_room() {
    let mut room = room_with_limit(170, &[ANN, BOB, EVE]);
    for _ in 0..3 {
        room.receive(BOB, LINE);
        read(&mut room, EVE);
    }
    assert_eq!(room.pending(ANN, usize::MAX).len(), 84);
    // Two lines of 28 bytes for two members are too much beside the 84.
    receive_all(&mut room, ANN, &[LINE, LINE, b"unheard\n"].concat());
    assert_eq!(room.take_dropped(), [ANN]);
    let heard = "[127.0.0.1:5001] 0123456789\n".repeat(2);
    assert_eq!(
        read(&mut room, EVE),
        format!("{heard}Client left 127.0.0.1:5001\r\n")
    );
    assert_eq!(room.receive(ANN, b"gone\ngone\n"), 10);
    assert_eq!(read(&mut room, EVE), "");
}

/// If even an empty room cannot take a line for all members, some are dropped.
#[test]
fn a_room_is_never_filled_above_its_limit() {
    let members: Vec<MemberId> = (1..=20).collect();
    let mut room = room_with_limit(300, &members);
    for _ in 0..10 {
        room.receive(1, LINE);
        let queued: usize = members
            .iter()
            .map(|&id| room.pending(id, usize::MAX).len())
            .sum();
        assert!(queued <= 300, "{queued}");
        assert!(room.fill.fits(300 - queued));
        assert!(!room.fill.fits(301 - queued));
    }
    assert!(room.members.len() < 11);
    for id in members {
        room.leave(id);
    }
    assert!(room.fill.fits(300));
}

#[test]
fn a_chunk_is_taken_until_a_hold_begins() {
    let mut room = room_with_limit(168, &[ANN, BOB]);
    let chunk = LINE.repeat(6);
    // Half of the limit is three lines.
    assert_eq!(room.receive(ANN, &chunk), 44);
    let hold = room.hold().unwrap();
    assert!(room.is_busy());
    // At least one line is taken, even during a hold.
    assert_eq!(room.receive(ANN, &chunk[44..]), 11);
    room.consume(BOB, 97);
    assert_eq!(room.hold(), Some(hold));
    room.consume(BOB, 1);
    assert_eq!(room.hold(), None);
    assert_eq!(room.receive(ANN, &chunk[55..]), 11);
    assert_eq!(room.hold(), None);
    assert!(room.take_dropped().is_empty());
}

#[test]
fn after_a_hold_that_was_ended_the_limit_decides() {
    let mut room = room_with_limit(168, &[ANN, BOB]);
    assert_eq!(room.receive(ANN, &LINE.repeat(6)), 44);
    let hold = room.hold().unwrap();
    room.end_hold(hold);
    assert_eq!(room.hold(), None);
    // Two of the three lines are taken: half of the rest is one line.
    assert_eq!(room.receive(ANN, &LINE.repeat(3)), 22);
    let next = room.hold().unwrap();
    assert_ne!(next, hold);
    room.end_hold(hold);
    assert_eq!(room.hold(), Some(next));
    room.end_hold(next);
    assert_eq!(room.receive(ANN, LINE), 11);
    assert_eq!(room.take_dropped(), [BOB]);
    assert_eq!(read(&mut room, ANN), "Client left 127.0.0.1:5002\r\n");
}

#[test]
fn who_leaves_ends_a_hold() {
    let mut room = room_with_limit(168, &[ANN, BOB, EVE]);
    assert_eq!(room.receive(ANN, LINE), 11);
    assert_eq!(room.receive(ANN, LINE), 11);
    assert!(room.hold().is_some());
    read(&mut room, EVE);
    room.leave(BOB);
    // Only the news that Bob has left is queued, for Ann and for Eve.
    assert_eq!(room.hold(), None);
}

/// Moves everything in `room` to another room.
fn moved(room: &mut Room, limit: QueueLimit, room_limit: RoomLimit) -> Room {
    let mut other = Room::new(limit, room_limit);
    let ids: Vec<MemberId> = room.members.keys().copied().collect();
    for id in ids {
        let state = room.take(id).unwrap().encode().unwrap();
        other.put(id, MemberState::decode(&state).unwrap());
    }
    assert!(room.take_log().is_empty());
    assert!(other.take_log().is_empty());
    other
}

#[test]
fn a_member_moves_with_all_that_it_has() {
    let mut room = room_of(2000, &[ANN, BOB]);
    room.receive(BOB, &[b'x'; 1030]);
    room.receive(ANN, b"one\ntwo\nthr");
    room.consume(BOB, 10);
    room.take_log();
    room.take_waiting();
    let mut other = moved(&mut room, QueueLimit(2000), RoomLimit::default());
    assert!(!room.is_member(ANN) && !room.is_member(BOB));
    assert!(room.fill.fits(RoomLimit::default().0));
    assert_eq!(other.take_waiting(), [ANN, BOB]);
    assert_eq!(read(&mut other, BOB), ":5001] one\n[127.0.0.1:5001] two\n");
    let piece = format!("[127.0.0.1:5002] {}\r\n", "x".repeat(1024));
    assert_eq!(read(&mut other, ANN), piece);
    // The half lines continue, also the one that was cut.
    other.receive(ANN, b"ee\n");
    other.receive(BOB, b"yz\n");
    assert_eq!(read(&mut other, BOB), "[127.0.0.1:5001] three\n");
    assert_eq!(read(&mut other, ANN), "[127.0.0.1:5002] xxxxxxyz\n");
    other.leave(BOB);
    assert_eq!(read(&mut other, ANN), "Client left 127.0.0.1:5002\r\n");
}

#[test]
fn a_line_that_ended_in_a_piece_has_nothing_left_to_end() {
    let mut room = room_of(5000, &[ANN, BOB]);
    room.receive(ANN, &[b'x'; 1024]);
    read(&mut room, BOB);
    room.take_log();
    let mut other = moved(&mut room, QueueLimit(5000), RoomLimit::default());
    other.receive(ANN, b"\n");
    assert_eq!(read(&mut other, BOB), "");
}

#[test]
fn a_member_may_come_back() {
    let mut room = room_with_limit(168, &[ANN, BOB]);
    assert_eq!(room.receive(ANN, &LINE.repeat(6)), 44);
    let hold = room.hold();
    assert!(hold.is_some());
    let bob = room.take(BOB).unwrap();
    // The hold was for Bob's queue.
    assert_eq!(room.hold(), None);
    room.put(BOB, bob);
    assert!(room.hold().is_some_and(|other| Some(other) != hold));
    assert_eq!(read(&mut room, BOB).len(), 112);
    assert_eq!(room.hold(), None);
    assert!(room.fill.fits(168));
}

/// A member from a larger room is accepted, and the limits apply at the next line.
#[test]
fn a_smaller_room_takes_a_member_on() {
    let mut room = room_of(1000, &[ANN, BOB, EVE]);
    room.receive(ANN, &LINE.repeat(6));
    read(&mut room, EVE);
    room.take_log();
    let mut other = moved(&mut room, QueueLimit(1000), RoomLimit(100));
    assert_eq!(other.pending(BOB, usize::MAX).len(), 168);
    assert!(other.take_dropped().is_empty());
    other.receive(EVE, b"x\n");
    assert_eq!(other.take_dropped(), [BOB]);
    assert!(other.is_member(ANN) && other.is_member(EVE));
}

#[test]
fn states() {
    #[track_caller]
    fn check(name: &str, partial: &[u8], possible: bool) {
        let nothing: &[u8] = b"";
        let state = (name, partial, false, nothing, nothing);
        let state = State::encode("chat/1", &state).unwrap();
        let expected =
            "state chat/1: expected HOST:PORT or uidUID:CONNECTION, and half a line".to_owned();
        let decoded = MemberState::decode(&state).map(drop);
        let expected = if possible { Ok(()) } else { Err(expected) };
        assert_eq!(decoded, expected, "{name} {partial:?}");
    }
    check("127.0.0.1:5001", b"half", true);
    check("[::1]:5001", &[b'x'; 1023], true);
    check("[fe80::1%2]:5001", b"", true);
    check("127.0.0.1:5001", &[b'x'; 1024], false);
    check("127.0.0.1:5001", b"whole\n", false);
    check("127.0.0.1", b"", false);
    check("Ann\r\n", b"", false);
    let foreign = State {
        tag: "echo/1".to_owned(),
        bytes: Vec::new(),
    };
    let expected = "state echo/1: expected chat/1".to_owned();
    assert_eq!(MemberState::decode(&foreign), Err(expected));
}

#[derive(Clone, Debug)]
enum Act {
    Join,
    Say(Vec<u8>),
    Read(usize),
    Leave,
}

/// Plays acts of a few members, and then lets them read everything. Returns what each of
/// them has read, and what was logged.
fn play(acts: &[(MemberId, Act, bool)], moves: bool) -> (BTreeMap<MemberId, Vec<u8>>, Vec<String>) {
    // No member is dropped, and there is no hold.
    const LIMIT: usize = 1 << 30;
    let mut room = Room::new(QueueLimit(LIMIT), RoomLimit(LIMIT));
    let mut heard: BTreeMap<MemberId, Vec<u8>> = BTreeMap::new();
    let mut log = Vec::new();
    let mut read = |room: &mut Room, id, count| {
        let bytes = room.pending(id, count);
        room.consume(id, bytes.len());
        heard.entry(id).or_default().extend(bytes);
    };
    for (id, act, moves_now) in acts {
        match act {
            Act::Join if !room.is_member(*id) => join(&mut room, *id),
            Act::Join => {}
            Act::Say(bytes) => assert_eq!(room.receive(*id, bytes), bytes.len()),
            Act::Read(count) => read(&mut room, *id, *count),
            Act::Leave => room.leave(*id),
        }
        log.extend(room.take_log());
        if moves && *moves_now {
            room = moved(&mut room, QueueLimit(LIMIT), RoomLimit(LIMIT));
        }
    }
    let queued: usize = room.members.values().map(|member| member.queue.len()).sum();
    assert!(room.fill.fits(LIMIT - queued));
    assert!(!room.fill.fits(LIMIT - queued + 1));
    for id in 0..5 {
        read(&mut room, id, usize::MAX);
    }
    (heard, log)
}

fn any_act() -> impl Strategy<Value = Act> {
    let byte = prop_oneof![4 => Just(b'a'), 1 => Just(b'\n'), 1 => Just(b'\r'), 1 => any::<u8>()];
    prop_oneof![
        2 => Just(Act::Join),
        4 => vec(byte, 0..40).prop_map(Act::Say),
        1 => (1000_usize..3000).prop_map(|length| Act::Say(vec![b'x'; length])),
        4 => (1_usize..200).prop_map(Act::Read),
        1 => Just(Act::Leave),
    ]
}

proptest! {
    #[test]
    fn a_move_changes_nothing(acts in vec((0_u64..5, any_act(), any::<bool>()), 0..60)) {
        prop_assert_eq!(play(&acts, true), play(&acts, false));
    }

    #[test]
    fn no_bytes_are_too_strange(bytes in vec(any::<u8>(), 0..200)) {
        let state = State { tag: "chat/1".to_owned(), bytes };
        if let Ok(member) = MemberState::decode(&state) {
            let mut room = room_of(1000, &[ANN]);
            room.put(BOB, member);
            room.receive(BOB, b"x\n");
            room.leave(BOB);
        }
    }
}
