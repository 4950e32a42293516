//! The page at `/` of `--metrics`: what is sent, and what a browser makes of it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::Signal;
use serde_json::json;

use crate::harness::browser::Browser;
use crate::harness::guests::echo_evented;
use crate::harness::scratch::Scratch;
use crate::harness::{PATIENCE, Serve};
use crate::metrics::{address, observed};

/// The head and the body of an answer.
fn ask(address: SocketAddr, method: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("{method} / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

#[test]
fn the_page_may_use_nothing_but_itself() {
    let (_server, address) = observed(echo_evented);
    let (head, body) = ask(address, "GET");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(body.starts_with("<!doctype html>"), "{body}");
    for expected in [
        "Content-Type: text/html; charset=utf-8",
        "Content-Security-Policy: default-src 'none'; connect-src 'self'; style-src 'sha256-",
        "X-Content-Type-Options: nosniff",
        "Cache-Control: no-store",
    ] {
        assert!(head.contains(expected), "{expected}\n{head}");
    }
    assert!(!head.contains("unsafe"), "{head}");
    let (same, nothing) = ask(address, "HEAD");
    assert_eq!((same, nothing), (head, String::new()));
}

#[test]
fn a_browser_shows_the_services_live() {
    let scratch = Scratch::new();
    // The name of a file is text, whatever it looks like.
    let file = scratch.path("<b id=hostile>&amp;.wasm");
    std::fs::copy(echo_evented.path(), &file).unwrap();
    let server = Serve::component(&file)
        .compiled_once()
        .args(["--name", "echo", "--metrics", "tcp://127.0.0.1:0"])
        .start();
    let Some(mut browser) = Browser::open(&format!("http://{}/", address(&server))) else {
        return;
    };
    let open = "#services [data-column=open]";
    browser.wait_for(open, |text| text.starts_with("0 / "));
    assert_eq!(browser.text("#services [data-column=name]"), "echo");
    assert_eq!(browser.text("#services [data-column=state]"), "serving");
    let mut busy = server.connect();
    let mut other = server.connect();
    other.check_echo("hello\n");
    browser.wait_for(open, |text| text.starts_with("2 / "));
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                busy.check_echo(b"12345678".repeat(64));
            }
        });
        browser.wait_for("#services [data-column=in]", |text| {
            !matches!(text, "0" | "–" | "")
        });
        is_done.store(true, Ordering::Relaxed);
    });
    other.reset();
    browser.wait_for("details[data-service=echo]", |text| {
        text.contains("failed: peer")
    });
    browser.wait_for(open, |text| text.starts_with("1 / "));
    let versions = browser.text("details [aria-label='Versions of echo']");
    assert!(versions.contains("<b id=hostile>&amp;.wasm"), "{versions}");
    assert!(
        browser
            .evaluate("document.getElementById('hostile')")
            .is_null()
    );
    // Nothing is wider than the screen, and each heading says what it is the heading of.
    for width in [400, 1600] {
        let size = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false});
        browser.call("Emulation.setDeviceMetricsOverride", size);
        let widest = browser.evaluate("document.documentElement.scrollWidth");
        assert!(widest.as_u64().unwrap() <= width, "{widest} at {width}");
    }
    let unnamed = "[...document.querySelectorAll('th')].filter((it) => !it.scope).length";
    assert_eq!(browser.evaluate(unnamed), 0);
    // A service that was started again has counted less: no rates can be told.
    let again = "between({handled: 5, 'bytes-in': 0, 'bytes-out': 0}, \
                 {handled: 4, 'bytes-in': 0, 'bytes-out': 0}, 1)";
    assert!(browser.evaluate(again).is_null());
    assert_eq!(browser.wrong, Vec::<serde_json::Value>::new());
    // What is not of the page gets nowhere.
    browser.evaluate("document.body.setAttribute('style', 'color: red')");
    browser.evaluate("document.body.append(Object.assign(new Image(), {src: 'metrics'}))");
    browser.wait_for_wrong("style-src");
    browser.wait_for_wrong("img-src");
}

#[test]
fn a_browser_says_that_there_is_no_answer_and_goes_on() {
    let (server, address) = observed(echo_evented);
    let Some(mut browser) = Browser::open(&format!("http://{address}/")) else {
        return;
    };
    let open = "#services [data-column=open]";
    browser.wait_for(open, |text| text.starts_with("0 / "));
    assert_eq!(browser.text("#trouble"), "");
    server.process.signal(Signal::STOP);
    browser.wait_for("#trouble", |text| text.starts_with("No answer since"));
    // What was known is still there.
    assert!(browser.text(open).starts_with("0 / "));
    server.process.signal(Signal::CONT);
    browser.wait_for("#trouble", str::is_empty);
    let mut client = server.connect();
    client.check_echo("x\n");
    browser.wait_for(open, |text| text.starts_with("1 / "));
    assert_eq!(browser.wrong, Vec::<serde_json::Value>::new());
}
