//! Figures and health, for those who only look: Prometheus, load balancers.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness::command::{run, sockserve};
use crate::harness::control::{Controlled, http, request};
use crate::harness::guests::{echo_datagram, echo_evented};
use crate::harness::python;
use crate::harness::scratch::Scratch;
use crate::harness::{Guest, PATIENCE, Serve, Server};

/// A server with an address for those who look.
pub(crate) fn observed(guest: Guest) -> (Server, SocketAddr) {
    let server = Serve::guest(guest, "poll")
        .compiled_once()
        .args(["--metrics", "tcp://127.0.0.1:0"])
        .start();
    let address = address(&server);
    (server, address)
}

/// Where a server answers those who look.
#[track_caller]
pub(crate) fn address(server: &Server) -> SocketAddr {
    let told = server.wait_for_log("the address of the metrics", |event| {
        event.message().starts_with("metrics and health are at")
    });
    told.str("address").parse().unwrap()
}

/// The status line, the head and the body of an answer.
fn get(address: SocketAddr, request: &str) -> (String, String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let (status, head) = head.split_once("\r\n").unwrap();
    (status.to_owned(), head.to_owned(), body.to_owned())
}

/// The samples: the name with its labels, and the value.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let samples = lines.map(|line| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    });
    samples.collect()
}

#[test]
fn figures_are_those_of_the_status() {
    let (server, address) = observed(echo_evented);
    let mut gone = server.connect();
    gone.check_echo("12345\n");
    gone.finish_sending();
    gone.expect_eof();
    server.wait_for_closed(1);
    let mut open = server.connect();
    open.check_echo("abc\n");
    // The client may have its bytes before they are counted.
    let sent = "sockserve_sent_bytes_total{service=\"echo\"} 10\n";
    let (status, head, body) = loop {
        let answer = get(address, &request("GET", "/metrics", ""));
        if answer.2.contains(sent) {
            break answer;
        }
        std::thread::yield_now();
    };
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(
        head.contains("Content-Type: application/openmetrics-text"),
        "{head}"
    );
    let samples = samples(&body);
    for (name, value) in [
        ("sockserve_accepted_total{service=\"echo\"}", 2.0),
        ("sockserve_open{service=\"echo\"}", 1.0),
        ("sockserve_handled_total{service=\"echo\"}", 1.0),
        (
            "sockserve_failed_total{service=\"echo\",reason=\"trap\"}",
            0.0,
        ),
        (
            "sockserve_refused_total{service=\"echo\",reason=\"rules\"}",
            0.0,
        ),
        ("sockserve_received_bytes_total{service=\"echo\"}", 10.0),
        ("sockserve_sent_bytes_total{service=\"echo\"}", 10.0),
        ("sockserve_max_connections{service=\"echo\"}", 1024.0),
        ("sockserve_instances{service=\"echo\"}", 1.0),
        ("sockserve_version{service=\"echo\"}", 1.0),
        ("sockserve_serving{service=\"echo\"}", 1.0),
    ] {
        assert_eq!(samples.get(name), Some(&value), "{name}\n{body}");
    }
    assert!(samples["process_resident_memory_bytes"] > 1e6);
    assert!(samples["sockserve_instances_memory_bytes{service=\"echo\"}"] > 65536.0);
    let of_calls = |rest: &str| samples[&format!("sockserve_call_duration_seconds_{rest}")];
    let calls = of_calls("count{service=\"echo\"}");
    assert!(calls >= 2.0, "{body}");
    assert_eq!(of_calls("bucket{le=\"+Inf\",service=\"echo\"}"), calls);
    assert!(of_calls("sum{service=\"echo\"}") > 0.0);
    // The status has the same figures.
    let (_, _, body) = get(address, &request("GET", "/v1/status", ""));
    let status: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status["services"][0]["accepted"], 2);
}

/// Prometheus' own client for Python reads them.
#[test]
fn a_client_library_reads_them() {
    let Some(python) = python::with("prometheus_client") else {
        return;
    };
    let (server, address) = observed(echo_evented);
    server.connect().check_echo("x\n");
    let (_, _, body) = get(address, &request("GET", "/metrics", ""));
    let scratch = Scratch::new();
    let file = scratch.path("figures");
    std::fs::write(&file, body).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/python/metrics.py");
    let printed = run(Command::new(python).arg(script).arg(file)).printed();
    // Versions of the library write whole numbers in either way.
    let accepted = "counter sockserve_accepted_total [('service', 'echo')] 1";
    let is_it = |line: &String| line.strip_suffix(".0").unwrap_or(line) == accepted;
    assert!(printed.iter().any(is_it), "{printed:#?}");
}

#[test]
fn datagrams_have_figures_too() {
    let server = Serve::guest(echo_datagram, "poll")
        .compiled_once()
        .listen("udp://127.0.0.1:0")
        .args(["--metrics", "tcp://127.0.0.1:0"])
        .start();
    let told = server.wait_for_log("the address of the metrics", |event| {
        event.message().starts_with("metrics and health are at")
    });
    let address = told.str("address").parse().unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send_to(b"hello", server.address()).unwrap();
    socket.recv(&mut [0; 16]).unwrap();
    let (_, _, body) = get(address, &request("GET", "/metrics", ""));
    let name = "sockserve_datagrams_total{service=\"echo\",outcome=\"received\"}";
    assert_eq!(samples(&body).get(name), Some(&1.0), "{body}");
}

#[test]
fn it_is_ready_as_long_as_it_accepts() {
    let controlled = Controlled::start(echo_evented, "poll", &["--metrics", "tcp://127.0.0.1:0"]);
    let told = controlled
        .server
        .wait_for_log("the address of the metrics", |event| {
            event.message().starts_with("metrics and health are at")
        });
    let address = told.str("address").parse().unwrap();
    let ask = |path: &str| {
        let (status, _, body) = get(address, &request("GET", path, ""));
        let (same, line) = http(&controlled.socket(), &request("GET", path, "")).unwrap();
        assert_eq!((&status, &body), (&same, &line), "{path}");
        (status, body)
    };
    for path in ["/healthz", "/readyz"] {
        assert_eq!(ask(path), ("HTTP/1.1 200 OK".to_owned(), "ok\n".to_owned()));
    }
    controlled.command(["suspend", "echo"]).printed();
    let (status, body) = ask("/readyz");
    assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
    assert_eq!(body, "the service echo does not accept\n");
    assert_eq!(ask("/healthz").0, "HTTP/1.1 200 OK");
}

#[test]
fn nothing_can_be_changed_there() {
    let (server, address) = observed(echo_evented);
    for (method, path, expected) in [
        ("POST", "/v1/shutdown", "405 Method Not Allowed"),
        ("POST", "/v1/services/echo/swap", "405 Method Not Allowed"),
        ("GET", "/v1/connections", "404 Not Found"),
        ("GET", "/nowhere", "404 Not Found"),
        ("POST", "/", "405 Method Not Allowed"),
    ] {
        let (status, _, body) = get(address, &request(method, path, ""));
        assert_eq!(status, format!("HTTP/1.1 {expected}"), "{path}");
        let error: Value = serde_json::from_str(&body).unwrap();
        assert!(error["error"].is_string());
    }
    let (_, _, body) = get(address, &request("GET", "/nowhere", ""));
    let all = "there are /, /metrics, /healthz, /readyz and /v1/status";
    assert!(body.contains(all), "{body}");
    let (status, _, _) = get(address, "nonsense\r\n\r\n");
    assert_eq!(status, "HTTP/1.1 400 Bad Request");
    server.connect().check_echo("still here\n");
    server.stop().check_no_alarm();
}

/// Of each three one sends nothing, one half a head, and one does not leave.
#[test]
fn slow_clients_keep_no_probe_waiting() {
    let (server, address) = observed(echo_evented);
    let slow = |number: usize| {
        let mut stream = TcpStream::connect(address).unwrap();
        let sent = ["", "GET /healthz HT", "GET /healthz HTTP/1.1\r\n\r\n"][number % 3];
        stream.write_all(sent.as_bytes()).unwrap();
        stream
    };
    // With 32 places, and 5 seconds for each head, they would keep it waiting for longer than
    // a test waits.
    let slow: Vec<_> = (0..300).map(slow).collect();
    let (status, _, body) = get(address, &request("GET", "/healthz", ""));
    assert_eq!(
        (status.as_str(), body.as_str()),
        ("HTTP/1.1 200 OK", "ok\n")
    );
    drop(slow);
    server.stop().check_no_alarm();
}

/// Another site's name can be pointed to this machine, after the browser has loaded its page.
#[test]
fn a_page_of_another_site_learns_nothing() {
    let (_server, address) = observed(echo_evented);
    let ask = |host: &str| {
        let request = format!("GET /v1/status HTTP/1.1\r\nHost: {host}\r\n\r\n");
        get(address, &request)
    };
    let port = address.port();
    for host in [format!("127.0.0.1:{port}"), "localhost".to_owned()] {
        assert_eq!(ask(&host).0, "HTTP/1.1 200 OK", "{host}");
    }
    let (status, _, body) = ask(&format!("evil.example:{port}"));
    assert_eq!(status, "HTTP/1.1 421 Misdirected Request");
    assert!(body.contains("the request is for another host"), "{body}");
    assert!(!body.contains("echo"), "{body}");
}

#[test]
fn an_address_that_cannot_be_had_is_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", taken.local_addr().unwrap());
    for (value, status, expected) in [
        (address.as_str(), 1, "cannot listen on --metrics"),
        ("127.0.0.1:9090", 2, "write tcp:// with an IP address"),
        ("tcp://localhost:9090", 2, "write tcp:// with an IP address"),
    ] {
        let outcome = sockserve([
            "serve",
            "builtin:echo-evented",
            "--listen",
            "tcp://127.0.0.1:0",
            "--metrics",
            value,
        ]);
        assert_eq!(outcome.status, Some(status), "{outcome:?}");
        assert!(outcome.stderr.concat().contains(expected), "{outcome:?}");
    }
}
