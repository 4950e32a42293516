//! What a peer sends comes into the log, and cannot look like anything but text
//! in a line there.

use std::fs;
use std::process::Command;

use rustix::process::Signal;

use crate::harness::Client;
use crate::harness::log::Event;
use crate::harness::process::Process;
use crate::harness::scratch::Scratch;
use crate::harness::server::ready_address;

/// What ends or begins a line somewhere, moves a cursor, hides or turns round
/// what is read.
const HOSTILE: [&str; 16] = [
    "cr\r2026-11-25T00:00:00.000000Z ERROR sockserve: disk failed",
    "nul\0vt\u{b}ff\u{c}so\u{e}si\u{f}bel\u{7}bs\u{8}tab\t",
    "esc\u{1b}[2J\u{1b}]0;title\u{7}",
    "del\u{7f}",
    "nel\u{85}2026-11-25T00:00:00.000000Z ERROR sockserve: nel",
    "csi\u{9b}31m",
    "ls\u{2028}2026-11-25T00:00:00.000000Z ERROR sockserve: ls",
    "ps\u{2029}2026-11-25T00:00:00.000000Z ERROR sockserve: ps",
    "override\u{202e}desrever\u{202c}",
    "embedding\u{202a}\u{202b}\u{202d}",
    "isolate\u{2066}\u{2067}\u{2068}\u{2069}",
    "mark\u{200e}\u{200f}\u{61c}",
    "unseen\u{200b}\u{2060}\u{feff}\u{ad}",
    "tag\u{e0041}",
    r#"quote"} {"level":"ERROR","message":"forged"#,
    "plain: Grüße, 你好, 👩\u{200d}🚀, C:\\dir",
];

/// What the log of a chat is, byte by byte, when a peer has said all that.
fn log_of(format: &str) -> Vec<u8> {
    let scratch = Scratch::new();
    let file = scratch.path("log");
    let mut command = Command::new("sh");
    command
        .args(["-c", "exec \"$0\" \"$@\" 2>\"$LOG\""])
        .arg(env!("CARGO_BIN_EXE_sockserve"))
        .args(["serve", "builtin:chat-evented", "--log-format", format])
        .args(["--listen", "tcp://127.0.0.1:0"])
        .env("LOG", &file);
    let mut process = Process::start(&mut command);
    let address = ready_address(&process);
    let (mut talker, mut listener) = (Client::connect(address), Client::connect(address));
    talker.line();
    listener.line();
    // That the other one is there.
    talker.line();
    for text in HOSTILE {
        talker.send(format!("{text}\r\n"));
        listener.line();
    }
    drop((talker, listener));
    process.signal(Signal::TERM);
    assert_eq!(process.wait().code(), Some(0));
    fs::read(&file).unwrap()
}

#[track_caller]
fn check_characters(log: &[u8]) {
    let text = std::str::from_utf8(log).unwrap();
    for line in text.lines() {
        let odd = line.chars().find(|c| {
            c.is_control()
                || matches!(
                    *c,
                    '\u{2028}' | '\u{2029}' | '\u{61c}' | '\u{200b}' | '\u{200e}'
                )
                || matches!(*c, '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}')
                || matches!(*c, '\u{feff}' | '\u{ad}' | '\u{e0041}')
        });
        assert_eq!(odd, None, "{line:?}");
    }
}

// From: review of 2026-11-25, 3.6.
#[test]
fn a_line_of_the_text_log_is_one_line() {
    let log = log_of("text");
    check_characters(&log);
    let text = String::from_utf8(log).unwrap();
    for line in text.lines() {
        // Nobody but the log begins lines: with a time, and with a level that is
        // the event's.
        let mut words = line.split_whitespace();
        let time = words.next().unwrap();
        assert!(time.starts_with("20") && time.ends_with('Z'), "{line}");
        assert_eq!(words.next(), Some("INFO"), "{line}");
    }
    for part in [
        r"cr\r2026-11-25T00:00:00.000000Z ERROR",
        r"nul\u{0}vt\u{b}",
        r"tab\t",
        r"esc\u{1b}[2J",
        r"ls\u{2028}2026",
        r"override\u{202e}desrever",
        r#"quote"} {"level":"ERROR","#,
        "plain: Grüße, 你好, 👩\u{200d}🚀, C:\\dir",
    ] {
        assert!(text.contains(part), "no {part} in:\n{text}");
    }
}

// From: review of 2026-11-25, 3.6.
#[test]
fn a_line_of_the_json_log_is_one_object() {
    let log = log_of("json");
    check_characters(&log);
    let text = String::from_utf8(log).unwrap();
    let events: Vec<Event> = text
        .lines()
        .map(|line| Event::parse(line).unwrap_or_else(|| panic!("{line}")))
        .collect();
    assert!(events.iter().all(|event| event.str("level") == "INFO"));
    let said = |part: &str| {
        let mut messages = events.iter().map(Event::message);
        assert!(
            messages.any(|it| it.contains(part)),
            "no {part} in:\n{text}"
        );
    };
    said(r"cr\r2026-11-25T00:00:00.000000Z ERROR sockserve: disk failed");
    said(r"nul\u{0}vt\u{b}ff\u{c}so\u{e}si\u{f}bel\u{7}bs\u{8}tab\t");
    said(r"ps\u{2029}2026");
    said(HOSTILE[14]);
    said(HOSTILE[15]);
    for event in &events {
        assert!(!event.message().contains(|c: char| c.is_control()));
    }
}
