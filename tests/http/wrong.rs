//! Requests that are none, and what is logged of them.

use super::Site;
use super::answer::{Answer, check_alive, get};
use crate::harness::server::refused_to_start;
use crate::harness::{Guest, Serve, text};

for_each_pair! { http, http_commands: what_is_no_request_is_told_and_ends_the_connection }
fn what_is_no_request_is_told_and_ends_the_connection(guest: Guest, dispatch: &str) {
    let site = Site::new();
    let server = site.serve(guest, dispatch);
    let head = |fields: &str| format!("GET / HTTP/1.1\r\n{fields}\r\n\r\n");
    for (input, code) in [
        ("hello\r\n".to_owned(), 400),
        ("\0\u{1}\u{2}\r\n".to_owned(), 400),
        ("GET /\r\n".to_owned(), 400),
        ("GET /a b HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("GET / GOPHER/1.1\r\n\r\n".to_owned(), 400),
        (head("no colon"), 400),
        (head("A : b"), 400),
        (head("Content-Length: -1"), 400),
        (head("Content-Length: 1\r\nContent-Length: 2"), 400),
        (head("A: b\r\n folded"), 400),
        ("GET / HTTP/2.0\r\n\r\n".to_owned(), 505),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 505),
        (format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(9000)), 414),
        ("x".repeat(9000), 414),
        (head(&format!("A: {}", "x".repeat(40_000))), 431),
        (head(&"A: b\r\n".repeat(101)), 431),
    ] {
        let mut client = server.connect();
        // It may close before it has read all.
        client.send_some(input.as_bytes());
        client.send_some(b"GET /a.txt HTTP/1.1\r\n\r\n");
        let answer = Answer::read(&mut client, true);
        let shown: String = input.chars().take(50).collect();
        assert_eq!(answer.code, code, "{shown:?}");
        assert_eq!(answer.field("connection"), Some("close"), "{shown:?}");
        client.expect_eof();
    }
    // What could be read, and cannot be done.
    let mut client = server.connect();
    for (method, path, code) in [
        ("POST", "/", 405),
        ("DELETE", "/a.txt", 405),
        ("OPTIONS", "*", 405),
        ("BREW", "/", 501),
        ("get", "/", 501),
        ("GET", "a.txt", 400),
        ("GET", "ftp://x/a.txt", 400),
        ("GET", "/missing", 404),
    ] {
        client.send(format!("{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert_eq!(
            Answer::read(&mut client, true).code,
            code,
            "{method} {path}"
        );
    }
    check_alive(&mut client);
    // The end of such a body is not looked for.
    client.send("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    let answer = Answer::read(&mut client, true);
    assert_eq!(
        (answer.code, answer.field("connection")),
        (405, Some("close"))
    );
    client.expect_eof();
    // Half a request has no answer.
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\n");
    client.finish_sending();
    client.expect_eof();
    server.stop().check_no_alarm();
}

for_each_pair! { http, http_commands: a_request_may_come_byte_by_byte }
fn a_request_may_come_byte_by_byte(guest: Guest, dispatch: &str) {
    let site = Site::new();
    let server = site.serve(guest, dispatch);
    let mut client = server.connect();
    for byte in b"GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n" {
        client.send([*byte]);
    }
    assert_eq!(text(Answer::read(&mut client, true).body), r"some text\n");
    drop(client);
    server.stop().check_no_alarm();
}

for_each_pair! { http, http_commands: an_error_is_one_line_of_the_log }
fn an_error_is_one_line_of_the_log(guest: Guest, dispatch: &str) {
    let site = Site::new();
    let server = site.serve(guest, dispatch);
    let mut client = server.connect();
    let peer = client.local();
    assert_eq!(get(&mut client, "/a.txt").code, 200);
    assert_eq!(get(&mut client, "/missing?%0a").code, 404);
    client.send("GET /\u{1b}[2J\u{202e} HTTP/1.1\r\n");
    assert_eq!(Answer::read(&mut client, true).code, 400);
    client.expect_eof();
    let finished = server.stop();
    finished.check_no_alarm();
    let lines = finished.guest_lines();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert_eq!(lines[0], format!("{peer} 404 /missing?%0a: NotFound"));
    let said = format!("{peer} 400 GET /");
    assert!(lines[1].starts_with(&said), "{lines:#?}");
    let is_plain = |character: char| (' '..='~').contains(&character);
    assert!(lines[1].chars().all(is_plain), "{lines:#?}");
}

for_each_pair! { http, http_commands: a_root_that_is_not_there_is_told }
fn a_root_that_is_not_there_is_told(guest: Guest, dispatch: &str) {
    let site = Site::new();
    let grant = site.grant();
    for (root, options) in [("/", &[][..]), ("/missing", &["--dir", &grant])] {
        let root = format!("ROOT={root}");
        let options = [&["--env", &root, "--max-connections", "100"], options].concat();
        let line = refused_to_start(guest, dispatch, &options);
        let said = format!("{root}: expected a directory that was granted");
        assert!(line.contains(&said), "{line}");
    }
    // A directory inside of what is granted.
    let server = Serve::guest(guest, dispatch)
        .compiled_once()
        .args(["--dir", &site.grant(), "--max-connections", "100"])
        .env("ROOT=/home")
        .start();
    let answer = get(&mut server.connect(), "/../index.html");
    assert_eq!(text(answer.body), "<p>home");
    server.stop().check_no_alarm();
}
