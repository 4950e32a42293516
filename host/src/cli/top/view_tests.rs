//! What is on the screen, at several sizes.

use super::super::model::Action;
use super::*;
use crate::{ConnectionStatus, Status};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use serde_json::json;
use std::path::Path;
use std::time::Duration;

/// A service that has done something.
pub(in super::super) fn status(name: &str) -> Status {
    let bucket = |limit: Option<f64>, count: u64| json!({"at-most-seconds": limit, "count": count});
    let no_failures = json!({
        "error": 0, "trap": 0, "deadline": 0, "memory": 0, "instantiate": 0, "host": 0,
        "peer": 0, "aborted": 0,
    });
    let version = |number: u32, state: &str, connections: u64| {
        json!({
            "number": number, "state": state, "source": format!("/srv/{name}-{number}.wasm"),
            "sha256": "0123456789abcdef", "contract": "evented",
            "loaded-at": "2026-11-29T12:00:00Z", "connections": connections, "handled": 90,
            "failed": no_failures, "hand-overs": {"handed-over": 0, "refused": 0}, "reason": null,
        })
    };
    let status = json!({
        "name": name,
        "listeners": ["tcp://127.0.0.1:7000"],
        "contract": "evented",
        "dispatch": "poll",
        "state": "serving",
        "accepted": 105,
        "open": 12,
        "handled": 90,
        "refused": {
            "rules": 0, "access-times": 0, "connections-per-source": 0, "rate-per-source": 0,
        },
        "failed": {
            "error": 0, "trap": 3, "deadline": 0, "memory": 0, "instantiate": 0, "host": 0,
            "peer": 0, "aborted": 0,
        },
        "hand-overs": {"handed-over": 0, "refused": 0},
        "bytes-in": 4096,
        "bytes-out": 8192,
        "rates": {
            "seconds": 60.0, "accepted": 1.5, "refused": 0.0, "failed": 0.05, "bytes-in": 0.0,
            "bytes-out": 0.0,
        },
        "calls": {
            "count": 100,
            "seconds": 0.1,
            "buckets": [
                bucket(Some(0.000_01), 0), bucket(Some(0.001), 60), bucket(Some(0.01), 40),
                bucket(None, 0),
            ],
        },
        "memory": {"instances": 1, "bytes": 1_179_648},
        "limits": {
            "max-connections": 1024, "max-memory-bytes": 67_108_864, "deadline-seconds": 1.0,
            "loops": 1, "reuse": 1,
            "close-timeout-seconds": 5.0, "drain-timeout-seconds": 30.0,
        },
        "versions": [version(1, "draining", 2), version(2, "current", 10)],
        "rolled-back": null,
    });
    serde_json::from_value(status).unwrap()
}

/// An open connection.
pub(in super::super) fn connection(number: u64) -> ConnectionStatus {
    let connection = json!({
        "connection": number, "service": "echo", "peer": format!("127.0.0.1:{}", 40_000 + number),
        "version": 2, "since": "2026-11-29T12:00:00Z", "open-milliseconds": 61_000,
        "idle-milliseconds": 1_500, "bytes-in": 12, "bytes-out": 34, "unsent": 0,
        "state": "serving",
    });
    serde_json::from_value(connection).unwrap()
}

/// Two answers, two seconds after each other.
fn model(services: &[Status]) -> (Model, Instant) {
    let mut model = Model::new(Path::new("/run/sockserve/control"));
    let start = Instant::now();
    model.show(services.to_vec(), start);
    let later = services.iter().cloned().map(|mut status| {
        status.accepted += 25;
        status.open += 20;
        status.bytes_in += 6144;
        status
    });
    let now = start + Duration::from_secs(2);
    model.show(later.collect(), now);
    (model, now)
}

fn drawn(model: &Model, now: Instant, (width, height): (u16, u16), colours: bool) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let frame = terminal.draw(|frame| draw(frame, model, now, colours));
    frame.unwrap().buffer.clone()
}

fn lines(buffer: &Buffer) -> Vec<String> {
    let width = usize::from(buffer.area.width).max(1);
    let rows = buffer.content().chunks(width);
    let text = rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>());
    text.map(|line| line.trim_end().to_owned()).collect()
}

#[test]
fn all_of_it_is_on_a_screen_of_80_by_24() {
    let (mut model, now) = model(&["echo", "chat"].map(status));
    model.list("echo".to_owned(), Ok((1..=32).map(connection).collect()));
    let shown = lines(&drawn(&model, now, (80, 24), true));
    let expected = [
        "sockserve top  services 2  instances 2  memory 2.2M  /run/sockserve/control",
        "open 64  new 25.0/s  in 6.0K/s  out 0/s  failed 0/s  refused 0/s",
        "SERVICE        STATE     OPEN/LIMIT NEW/s  IN/s OUT/s  FAIL REFUSE   MEM    p99   VER",
    ];
    for (line, expected) in shown.iter().zip(expected) {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(words(line), words(expected), "{shown:#?}");
    }
    let all = shown.join("\n");
    for expected in [
        "32/1024",
        "2+1",
        "serving  evented/poll  tcp://127.0.0.1:7000",
        "accepted 130  handled 90  failed 3  refused 0  new in the last minute 1.5/s",
        "calls 100  p50 ≤1ms  p99 ≤10ms  instances 1  memory 1.1M, at most 64.0M each",
        "failed: trap 3  (3 in the last minute)",
        "* version 2  10 connections  0 failed  sha256 0123456789ab  /srv/echo-2.wasm",
        "  version 1  2 connections",
        "NUMBER  VERSION  OPEN  IDLE  IN  OUT  UNSENT  STATE    PEER",
        "127.0.0.1:40001",
        "q quit  arrows j k service  PgUp PgDn connections  s sort: started",
    ] {
        assert!(all.contains(expected), "{expected}\n{all}");
    }
    assert_eq!(shown.len(), 24);
    let is_marked = |line: u16| {
        let shown = drawn(&model, now, (80, 24), false);
        shown[(0, line)].modifier.contains(Modifier::REVERSED)
    };
    assert!(
        is_marked(3) && !is_marked(4),
        "the first service is selected"
    );
    model.act(Action::PageDown);
    let all = lines(&drawn(&model, now, (80, 24), true)).join("\n");
    assert!(!all.contains("127.0.0.1:40001"), "{all}");
    assert!(all.contains("127.0.0.1:40011"), "{all}");
}

#[test]
fn a_wide_screen_has_all_columns() {
    let (model, now) = model(&[status("echo")]);
    let shown = lines(&drawn(&model, now, (140, 30), true));
    let words: Vec<_> = shown[2].split_whitespace().collect();
    let headings = COLUMNS.iter().map(|column| column.heading);
    let expected: Vec<_> = std::iter::once("SERVICE").chain(headings).collect();
    assert_eq!(words, expected);
    assert!(shown[3].contains("evented/poll"), "{shown:#?}");
    let mut ranks: Vec<_> = COLUMNS.iter().map(|column| column.rank).collect();
    ranks.sort_unstable();
    ranks.dedup();
    assert_eq!(ranks.len(), COLUMNS.len(), "each rank is there once");
}

#[test]
fn no_size_is_too_small() {
    let (mut full, now) = model(&["echo", "chat", "time"].map(status));
    full.list("echo".to_owned(), Ok((1..=5).map(connection).collect()));
    let mut silent = full.clone();
    silent.miss(&"nobody answers ".repeat(30), now);
    let empty = Model::new(Path::new("/run/control"));
    for size in [
        (1, 1),
        (1, 50),
        (20, 5),
        (5, 20),
        (80, 2),
        (300, 3),
        (10, 10),
    ] {
        for model in [&full, &silent, &empty] {
            let shown = drawn(model, now, size, false);
            assert_eq!((shown.area.width, shown.area.height), size);
        }
    }
    let shown = lines(&drawn(&full, now, (30, 8), false)).join("\n");
    assert!(
        shown.contains("echo") && shown.contains("32/1024"),
        "{shown}"
    );
}

#[test]
fn without_colours_there_are_none_and_alarms_are_bold() {
    let (mut model, now) = model(&[status("echo")]);
    model.miss("nobody answers on the control socket", now);
    let later = now + Duration::from_secs(7);
    let coloured = drawn(&model, later, (80, 24), true);
    let plain = drawn(&model, later, (80, 24), false);
    let has_colour = |buffer: &Buffer| {
        let mut cells = buffer.content().iter();
        cells.any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
    };
    assert!(has_colour(&coloured));
    assert!(!has_colour(&plain));
    assert_eq!(lines(&coloured), lines(&plain));
    let shown = lines(&plain);
    let told = "No answer for 7 s, asking again: nobody answers on the control socket";
    let line = shown.iter().position(|line| line == told);
    let line = u16::try_from(line.unwrap_or_else(|| panic!("{shown:#?}"))).unwrap();
    assert!(plain[(0, line)].modifier.contains(Modifier::BOLD));
    assert!(
        shown.iter().any(|line| line.starts_with("echo")),
        "{shown:#?}"
    );
}

#[test]
fn text_of_others_moves_nothing() {
    let mut hostile = status("echo");
    hostile.name = "e\u{1b}[2Jcho".to_owned();
    hostile.listeners = vec!["unix:///\r\u{202e}x".to_owned()];
    hostile.rolled_back = Some("a\u{1b}]0;title\u{7}".to_owned());
    hostile.versions[0].source = "/srv/你好你好你好\u{1b}[31m".repeat(9);
    let (mut model, now) = model(&[hostile]);
    let mut peer = connection(1);
    peer.peer = "unix:\u{9b}2J你好".to_owned();
    let name = model.selected().unwrap().status.name.clone();
    model.list(name, Ok(vec![peer]));
    let shown = lines(&drawn(&model, now, (80, 24), true));
    let all = shown.concat();
    assert!(all.chars().all(crate::text::is_plain), "{shown:#?}");
    assert!(all.contains(r"\u{1b}]0;title\u{7}"), "{shown:#?}");
    // A wide character takes two cells, and the second one is empty.
    assert!(all.contains("你"), "{shown:#?}");
}

#[test]
fn what_cannot_be_listed_is_said() {
    let (mut listed, now) = model(&[status("echo")]);
    let all = |model: &Model| lines(&drawn(model, now, (80, 24), true)).join("\n");
    listed.list("echo".to_owned(), Ok(Vec::new()));
    assert!(all(&listed).contains("No connection is open."));
    listed.list(
        "echo".to_owned(),
        Err("there is no service echo".to_owned()),
    );
    assert!(all(&listed).contains("there is no service echo"));
    let mut busy = status("echo");
    busy.open = 100_000;
    let (busy, _) = model(&[busy]);
    assert!(all(&busy).contains("More than 5000 connections are not listed here."));
    let (none, _) = model(&[]);
    assert!(all(&none).contains("There is no service."));
}
