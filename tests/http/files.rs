//! What is there is served as CPython's `http.server` serves it.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt as _;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::answer::{Answer, ask, check_alive, get};
use super::{SECRET, Site};
use crate::harness::control::Controlled;
use crate::harness::python::Python;
use crate::harness::{Client, Guest, noise, text};

/// The paths that both servers are asked for.
const PATHS: [&str; 24] = [
    "/",
    "/a.txt",
    "/a.txt?query",
    "/a.txt/",
    "/%61.txt",
    "/nothing.bin",
    "/page.html",
    "/data.json",
    "/UPPER.PNG",
    "/home",
    "/home/",
    "/home?a=b",
    "/empty/",
    "/some%20files",
    "/some%20files/",
    "/some%20files/%3Cb%3E&%22'.txt",
    "/some%20files/%C3%BC%20%2541%23%3F.txt",
    "/some%20files/.hidden",
    "/some%20files/deeper/../deeper/./b",
    "/inside",
    "/inside-directory/",
    "/missing",
    "/missing/",
    "//home/..//a.txt",
];

/// The parts of an answer in which the two have to agree. The pages of errors are
/// different in each version of Python.
fn essence(answer: &Answer) -> String {
    let names: &[&str] = match answer.code {
        404 => &[],
        _ => &["content-type", "last-modified", "location"],
    };
    let mut said = format!("{}", answer.code);
    for name in names {
        said += &format!(" {name}={:?}", answer.field(name));
    }
    // CPython follows a link that leads out, and so knows whether a directory is there.
    let mut entries = answer.entries();
    entries.retain(|entry| !entry.contains("\"out"));
    let is_listing = answer.body.starts_with(b"<!DOCTYPE HTML>\n");
    match answer.code {
        200 if is_listing => said + &entries.concat(),
        // The length is that of a page only where the page is the same.
        200 => format!(
            "{said} {:?} {}",
            answer.field("content-length"),
            text(&answer.body)
        ),
        _ => said,
    }
}

for_each_pair! { http, http_commands: files_are_what_cpython_serves }
fn files_are_what_cpython_serves(guest: Guest, dispatch: &str) {
    let site = Site::new();
    let Some(python) = Python::run("http_server.py", &[site.path("").to_str().unwrap()]) else {
        return;
    };
    let port: u16 = python.stdout.lines()[0].parse().unwrap();
    let theirs = SocketAddr::from(([127, 0, 0, 1], port));
    let server = site.serve(guest, dispatch);
    for path in PATHS {
        for method in ["GET", "HEAD"] {
            let answer = |address| essence(&ask(&mut Client::connect(address), method, path));
            let (ours, theirs) = (answer(server.address()), answer(theirs));
            // Our listing of a HEAD has another length.
            let is_page = |said: &str| said.starts_with(r#"200 content-type=Some("text/html; "#);
            if method == "HEAD" && is_page(&theirs) {
                assert!(is_page(&ours), "{path}: {ours}");
            } else {
                assert_eq!(ours, theirs, "{method} {path}");
            }
        }
    }
    server.stop().check_no_alarm();
}

for_each_pair! { http, http_commands: a_connection_is_kept }
fn a_connection_is_kept(guest: Guest, dispatch: &str) {
    let site = Site::new();
    let server = site.serve(guest, dispatch);
    let mut client = server.connect();
    for _ in 0..3 {
        check_alive(&mut client);
    }
    // Also after an error, and after a body that nobody wants.
    assert_eq!(get(&mut client, "/missing").code, 404);
    client.send("POST /a.txt HTTP/1.1\r\nContent-Length: 100000\r\n\r\n");
    client.send(vec![b'x'; 100_000]);
    let refused = Answer::read(&mut client, true);
    assert_eq!(
        (refused.code, refused.field("allow")),
        (405, Some("GET, HEAD"))
    );
    let head = ask(&mut client, "HEAD", "/a.txt");
    assert_eq!((head.code, head.field("content-length")), (200, Some("10")));
    // What was not changed since.
    let since = head.field("last-modified").unwrap();
    client.send(format!(
        "GET /a.txt HTTP/1.1\r\nIf-Modified-Since: {since}\r\n\r\n"
    ));
    assert_eq!(Answer::read(&mut client, true).code, 304);
    check_alive(&mut client);
    // Until the peer has had enough.
    client.send("GET /a.txt HTTP/1.1\r\nConnection: close\r\n\r\n");
    let last = Answer::read(&mut client, true);
    assert_eq!((last.code, last.field("connection")), (200, Some("close")));
    client.expect_eof();
    // HTTP/1.0 knows no other way. The date is there in any case.
    let mut client = server.connect();
    client.send("GET /a.txt HTTP/1.0\r\n\r\n");
    let answer = Answer::read(&mut client, true);
    assert_eq!(text(&answer.body), r"some text\n");
    let date = answer.field("date").unwrap();
    assert!(date.len() == 29 && date.ends_with(" GMT"), "{date}");
    client.expect_eof();
    // A half-close is no hurry.
    let mut client = server.connect();
    client.send("GET /a.txt HTTP/1.1\r\n\r\n");
    client.finish_sending();
    assert_eq!(Answer::read(&mut client, true).code, 200);
    client.expect_eof();
    server.stop().check_no_alarm();
}

for_each_pair! { http, http_commands: requests_that_come_at_once_are_answered_in_order }
fn requests_that_come_at_once_are_answered_in_order(guest: Guest, dispatch: &str) {
    let site = Site::new();
    let large = noise(300_000);
    fs::write(site.path("large"), &large).unwrap();
    let server = site.serve(guest, dispatch);
    let mut client = server.connect();
    let paths = [
        "/a.txt",
        "/missing",
        "/large",
        "/home/",
        "/large",
        "/nothing.bin",
    ];
    let mut requests = String::new();
    for _ in 0..20 {
        for path in paths {
            requests += &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        }
    }
    // They fit into what the kernel keeps, so nobody has to read meanwhile.
    client.send(requests);
    client.finish_sending();
    for _ in 0..20 {
        for path in paths {
            let answer = Answer::read(&mut client, true);
            match path {
                "/missing" => assert_eq!(answer.code, 404),
                "/large" => assert!(answer.body == large),
                "/a.txt" => assert_eq!(text(answer.body), r"some text\n"),
                "/home/" => assert_eq!(text(answer.body), "<p>home"),
                _ => assert_eq!((answer.code, answer.body.len()), (200, 0)),
            }
        }
    }
    client.expect_eof();
    server.stop().check_no_alarm();
}

for_each_pair! { http, http_commands: a_large_file_goes_to_a_slow_reader_in_pieces }
/// The file is four times as large as the memory that the component may have.
fn a_large_file_goes_to_a_slow_reader_in_pieces(guest: Guest, dispatch: &str) {
    let site = Site::new();
    let large = noise(64 << 20);
    fs::write(site.path("large"), &large).unwrap();
    let server = crate::harness::Serve::guest(guest, dispatch)
        .compiled_once()
        .args(["--dir", &site.grant(), "--max-memory", "16MiB"])
        .args(["--max-connections", "100"])
        .start();
    let mut slow = server.connect();
    slow.send("GET /large HTTP/1.1\r\nHost: x\r\n\r\nGET /a.txt HTTP/1.1\r\n\r\n");
    slow.expect("HTTP/1.1 200 OK\r\n");
    // A reader that does not read holds up nobody else.
    if dispatch != "sequential" {
        for _ in 0..3 {
            check_alive(&mut server.connect());
        }
    }
    while slow.line() != "\r\n" {}
    for expected in large.chunks(1 << 20) {
        assert!(slow.read_exact(expected.len()) == expected);
    }
    assert_eq!(text(Answer::read(&mut slow, true).body), r"some text\n");
    drop(slow);
    server.stop().check_no_alarm();
}

for_each_pair! { http: a_file_is_handed_over_in_the_middle }
fn a_file_is_handed_over_in_the_middle(guest: Guest, dispatch: &str) {
    let site = Site::new();
    let large = noise(32 << 20);
    fs::write(site.path("large"), &large).unwrap();
    let grant = site.grant();
    let options = ["--dir", &grant, "--max-connections", "100"];
    let controlled = Controlled::start(guest, dispatch, &options);
    let build = controlled.scratch.build(guest, 1);
    let mut client = controlled.server.connect();
    client.send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
    while client.line() != "\r\n" {}
    let (before, after) = large.split_at(1 << 20);
    assert!(client.read_exact(before.len()) == before);
    controlled.swap_at_once(&build);
    assert!(client.read_exact(after.len()) == after);
    check_alive(&mut client);
    assert_eq!(controlled.status()["hand-overs"]["handed-over"], 1);
    drop(client);
    controlled.server.stop().check_no_alarm();
}

for_each_pair! { http, http_commands: nothing_outside_is_served }
fn nothing_outside_is_served(guest: Guest, dispatch: &str) {
    let site = Site::new();
    let server = site.serve(guest, dispatch);
    for path in [
        "/../secret.txt",
        "/../../secret.txt",
        "/home/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/%2E%2E%2Fsecret.txt",
        "/..%2fsecret.txt",
        "/home/%2e%2e/%2e%2e/secret.txt",
        "/%252e%252e/secret.txt",
        "/..%5csecret.txt",
        "/..\\secret.txt",
        "/..%00/secret.txt",
        "/a.txt%00/../../secret.txt",
        "/.%2e/secret.txt",
        "/%c0%ae%c0%ae/secret.txt",
        "/;/../../secret.txt",
        "/out",
        "/out/",
        "/out-directory",
        "/out-directory/",
        "/out-directory/secret.txt",
        "/out-absolute/passwd",
        "//etc/passwd",
        "/%2fetc/passwd",
        "http://x/../secret.txt",
        "/proc/self/environ",
    ] {
        let answer = get(&mut server.connect(), path);
        assert_eq!(answer.code, 404, "{path}");
        assert!(!text(&answer.body).contains(SECRET), "{path}");
    }
    // The root is above itself, and a listing leads nowhere else.
    for path in ["/..", "/../", "/home/../../"] {
        let answer = get(&mut server.connect(), path);
        assert!([200, 301].contains(&answer.code), "{path}: {answer:?}");
        assert!(!text(&answer.body).contains("secret"), "{path}");
    }
    // By absolute path, with the directory's own name.
    let secret = site.scratch.path("secret.txt");
    let answer = get(&mut server.connect(), secret.to_str().unwrap());
    assert_eq!(answer.code, 404);
    server.stop().check_no_alarm();
}

for_each_pair! { http, http_commands: what_is_no_file_is_not_read }
/// Whoever opens a pipe for reading waits for a writer.
fn what_is_no_file_is_not_read(guest: Guest, dispatch: &str) {
    let site = Site::new();
    let pipe = site.path("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).unwrap();
    assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
    let server = site.serve(guest, dispatch);
    let mut client = server.connect();
    assert_eq!(get(&mut client, "/pipe").code, 404);
    check_alive(&mut client);
    drop(client);
    server.stop().check_no_alarm();
}
