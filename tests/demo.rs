//! `sockserve demo`, with few clients: every byte is right, and the table has
//! every family in every contract under every dispatch that suits them, over TCP, UDP and
//! a Unix socket.

use std::process::Command;
use std::time::Duration;

use crate::harness::command::run_within;

/// Connections and round trips of every row: 5 members of a chat, 20 clients of
/// the others, 3 rounds each.
const CHAT: &str = "5 15";
const OTHERS: &str = "20 60";

#[test]
fn the_demo_is_right_in_every_row() {
    let few = [
        "--connections",
        "20",
        "--round-trips",
        "3",
        "--members",
        "5",
    ];
    // It compiles each component for each row, which takes 15 s on a quiet machine.
    let mut demo = Command::new(env!("CARGO_BIN_EXE_sockserve"));
    let outcome = run_within(demo.arg("demo").args(few), Duration::from_secs(180));
    assert_eq!(outcome.status, Some(0), "{outcome:#?}");
    let words = |line: &String| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = outcome.stdout.iter().map(words).collect();
    assert_eq!(
        lines[0],
        "service contract dispatch transport connections round trips p50 p99 wrong bytes"
    );
    let (rows, swap) = lines.split_at(lines.iter().position(String::is_empty).unwrap());
    let mut rows: Vec<(String, bool)> = rows[1..]
        .iter()
        .map(|line| {
            let (counts, times) = line.split_at(line.match_indices(' ').nth(5).unwrap().0);
            (counts.to_owned(), times.ends_with(" 0"))
        })
        .collect();
    rows.sort();
    let mut expected = Vec::new();
    for contract in ["concurrent", "evented"] {
        expected.push(format!("chat {contract} poll tcp {CHAT}"));
    }
    for service in ["echo", "time"] {
        for dispatch in ["poll", "threaded"] {
            expected.push(format!("{service} blocking {dispatch} tcp {OTHERS}"));
            expected.push(format!("{service} command {dispatch} tcp {OTHERS}"));
            expected.push(format!("{service} concurrent {dispatch} tcp {OTHERS}"));
            expected.push(format!("{service} datagram {dispatch} udp {OTHERS}"));
            expected.push(format!(
                "{service} datagram-concurrent {dispatch} udp {OTHERS}"
            ));
        }
        expected.push(format!("{service} evented poll tcp {OTHERS}"));
    }
    expected.push(format!("echo evented poll unix {OTHERS}"));
    expected.sort();
    let expected: Vec<_> = expected.into_iter().map(|row| (row, true)).collect();
    assert_eq!(rows, expected);
    let [_, title, before, after, new] = swap else {
        panic!("{swap:#?}");
    };
    assert_eq!(
        title,
        "live swap: builtin:echo-concurrent → builtin:upper-evented"
    );
    assert_eq!(before, r#"an open connection "typed before the swap\n""#);
    assert_eq!(after, r#"the same connection "TYPED AFTER THE SWAP\n""#);
    assert_eq!(new, r#"the next connection "TYPED BY ANOTHER\n""#);
}
