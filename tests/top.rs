//! `sockserve top` on a terminal, with traffic, and how it leaves the terminal.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::Signal;

use crate::harness::command::sockserve;
use crate::harness::control::Controlled;
use crate::harness::guests::echo_evented;
use crate::harness::pty::Terminal;
use crate::harness::scratch::Scratch;
use crate::harness::{Client, Serve};

/// The size that every terminal has at least.
const SIZE: (u16, u16) = (80, 24);

/// `top` for this server.
fn top(controlled: &Controlled, size: (u16, u16), variables: &[(&str, &str)]) -> Terminal {
    top_at(&controlled.socket(), size, variables)
}

/// `top` for the server with this control socket.
fn top_at(socket: &Path, size: (u16, u16), variables: &[(&str, &str)]) -> Terminal {
    let args = [
        "top",
        "--interval",
        "100ms",
        "--control",
        socket.to_str().unwrap(),
    ];
    Terminal::start(size, variables, args)
}

/// The line of the only service in the table: its name, its state, and what is open.
#[track_caller]
fn wait_for_open(terminal: &Terminal, open: usize) {
    let open = format!("{open}/");
    let is_it = |line: &String| {
        let mut words = line.split_whitespace();
        words.next() == Some("echo")
            && words.next() == Some("serving")
            && words.next().is_some_and(|word| word.starts_with(&open))
    };
    terminal.wait_for(&format!("echo with {open}"), |lines| {
        lines.iter().any(is_it)
    });
}

#[test]
fn it_shows_services_and_connections_as_they_change() {
    let controlled = Controlled::start(echo_evented, "poll", &[]);
    let mut terminal = top(&controlled, SIZE, &[]);
    wait_for_open(&terminal, 0);
    terminal.wait_for_text("No connection is open.");
    let mut busy = controlled.server.connect();
    let mut other = controlled.server.connect();
    other.check_echo("hello\n");
    wait_for_open(&terminal, 2);
    terminal.wait_for_text(&other.local().to_string());
    // The rates are those of now.
    let is_moving = |lines: &[String]| {
        let mut words = lines[1].split("  ");
        let received = words
            .find_map(|word| word.strip_prefix("in "))
            .unwrap_or("-");
        !matches!(received, "-" | "0/s")
    };
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                busy.check_echo(b"12345678".repeat(64));
            }
        });
        let shown = terminal.wait_for("bytes per second", is_moving);
        is_done.store(true, Ordering::Relaxed);
        assert_eq!(shown.len(), 24);
        assert!(shown[0].contains("services 1"), "{shown:#?}");
        assert!(shown[23].starts_with("q quit"), "{shown:#?}");
    });
    other.reset();
    wait_for_open(&terminal, 1);
    terminal.wait_for_text("failed: peer 1");
    // Another version, and the connection with it.
    let next = controlled.scratch.build(echo_evented, 1);
    controlled.swap(&next, &["--old", "drain"]);
    terminal.wait_for_text("* version 2  0 connections");
    terminal.wait_for_text("  version 1  1 connections");
    terminal.type_text("q");
    let (status, _) = terminal.finish();
    assert_eq!(status.code(), Some(0));
    busy.check_echo("still here\n");
}

#[test]
fn each_way_out_leaves_the_terminal_as_it_was() {
    let controlled = Controlled::start(echo_evented, "poll", &[]);
    for (typed, signal, expected) in [
        ("q", None, 0),
        ("\x03", None, 0),
        ("\x1b", None, 0),
        ("", Some(Signal::TERM), 143),
        ("", Some(Signal::INT), 130),
        ("", Some(Signal::HUP), 129),
    ] {
        let mut terminal = top(&controlled, SIZE, &[]);
        wait_for_open(&terminal, 0);
        assert!(
            terminal.raw().contains("\x1b[?1049h"),
            "a screen of its own"
        );
        terminal.type_text(typed);
        if let Some(signal) = signal {
            terminal.signal(signal);
        }
        let (status, lines) = terminal.finish();
        assert_eq!(
            status.code(),
            Some(expected),
            "{typed:?} {signal:?} {lines:#?}"
        );
        assert_eq!(lines[0], "--end--", "nothing else is said");
    }
}

#[test]
fn a_server_that_ends_is_asked_again() {
    let controlled = Controlled::start(echo_evented, "poll", &[]);
    let mut terminal = top(&controlled, SIZE, &[]);
    wait_for_open(&terminal, 0);
    let Controlled { server, scratch } = controlled;
    server.stop().check_no_alarm();
    terminal.wait_for_text("asking again: nobody answers on the control socket");
    // What was known is still there.
    wait_for_open(&terminal, 0);
    let server = Serve::guest(echo_evented, "poll")
        .args(["--control".as_ref(), scratch.path("control").as_os_str()])
        .start();
    let mut client = server.connect();
    client.check_echo("x\n");
    wait_for_open(&terminal, 1);
    terminal.wait_for("an end of the complaint", |lines| {
        !lines.iter().any(|line| line.contains("asking again"))
    });
    server.process.signal(Signal::KILL);
    terminal.wait_for_text("asking again");
    terminal.type_text("q");
    assert_eq!(terminal.finish().0.code(), Some(0));
}

#[test]
fn services_are_selected_and_sorted_by_keys() {
    let scratch = Scratch::new();
    let file = scratch.path("sockserve.toml");
    let text = "control = \"control\"\n\
                [services.one]\ncomponent = \"builtin:echo-evented\"\nlisten = [\"tcp://127.0.0.1:0\"]\n\
                [services.two]\ncomponent = \"builtin:time-blocking\"\nlisten = [\"tcp://127.0.0.1:0\"]\n";
    std::fs::write(&file, text).unwrap();
    let server = crate::harness::Server::of_config(&file, 2);
    let mut terminal = top_at(&scratch.path("control"), SIZE, &[]);
    terminal.wait_for_text("serving  evented/poll");
    let place = server
        .ready
        .iter()
        .position(|line| line.contains("service=one"));
    let mut client = Client::connect(server.addresses[place.unwrap()]);
    client.check_echo("hello\n");
    terminal.wait_for_text(&client.local().to_string());
    terminal.type_text("j");
    terminal.wait_for_text("serving  blocking/");
    terminal.type_text("\x1b[A");
    terminal.wait_for_text("serving  evented/poll");
    terminal.wait_for_text("s sort: started");
    terminal.type_text("ss");
    terminal.wait_for_text("s sort: open");
    terminal.type_text("q");
    assert_eq!(terminal.finish().0.code(), Some(0));
}

#[test]
fn it_fits_terminals_of_any_size() {
    let controlled = Controlled::start(echo_evented, "poll", &[]);
    let mut client = controlled.server.connect();
    client.check_echo("x\n");
    let mut terminal = top(&controlled, (1, 1), &[]);
    for (columns, rows, expected) in [
        (20, 5, "1/"),
        (80, 24, "q quit"),
        (140, 40, "CONTRACT/DISPATCH"),
        (5, 30, "echo"),
        (80, 24, "PEER"),
    ] {
        terminal.resize(columns, rows);
        terminal.wait_for_text(expected);
    }
    terminal.type_text("q");
    assert_eq!(terminal.finish().0.code(), Some(0));
}

#[test]
fn colours_are_left_out_if_they_are_not_wanted() {
    let controlled = Controlled::start(echo_evented, "poll", &[]);
    let raw = |variables: &[(&str, &str)]| {
        let mut terminal = top(&controlled, SIZE, variables);
        wait_for_open(&terminal, 0);
        let raw = terminal.raw();
        terminal.type_text("q");
        assert_eq!(terminal.finish().0.code(), Some(0));
        raw
    };
    assert!(raw(&[]).contains("\x1b[38;5;"), "there are colours");
    assert!(!raw(&[("NO_COLOR", "1")]).contains("\x1b[38;5;"));
    assert!(!raw(&[("CLICOLOR", "0")]).contains("\x1b[38;5;"));
}

#[test]
fn what_cannot_be_shown_is_one_line() {
    let controlled = Controlled::start(echo_evented, "poll", &[]);
    let outcome = controlled.command(["top"]);
    assert_eq!(outcome.status, Some(2), "{outcome:?}");
    assert!(outcome.stdout.is_empty(), "{outcome:?}");
    assert_eq!(
        outcome.stderr,
        [
            "sockserve: top draws on a terminal, and standard output is none; for programs there \
          is `sockserve status --json`"
        ]
    );
    let outcome = sockserve(["top", "--control", "x", "--interval", "10ms"]);
    assert_eq!(outcome.status, Some(2), "{outcome:?}");
    assert!(
        outcome.stderr.concat().contains("write at least 100ms"),
        "{outcome:?}"
    );
    // Where nobody answers at the start there is nothing to show.
    let terminal = Terminal::start((200, 24), &[], ["top", "--control", "/nowhere/control"]);
    terminal.wait_for_text("sockserve: nobody answers on the control socket /nowhere/control");
    assert!(
        !terminal.raw().contains("\x1b[?1049h"),
        "no screen was taken"
    );
    assert_eq!(terminal.finish().0.code(), Some(1));
}
