//! Proposals of WebAssembly that are off, and wrong uses of those that are on: a
//! component is refused, or its instance traps, and the next peer is served.

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use crate::harness::command::sockserve;
use crate::harness::components::{append, concurrent, text_component};
use crate::harness::guests::{echo_blocking, echo_concurrent};
use crate::harness::scratch::Scratch;
use crate::harness::{PATIENCE, Serve};

/// `serve` refuses a component in one line that names it.
#[track_caller]
fn check_refused(component: &Path, what: &str) {
    let args = ["--listen", "tcp://127.0.0.1:0"].map(Into::into);
    let serve = [
        vec!["serve".into(), component.as_os_str().to_owned()],
        args.into(),
    ]
    .concat();
    let outcome = sockserve(serve);
    assert_eq!(outcome.status, Some(1), "{what}: {outcome:?}");
    let [line] = outcome.stderr.as_slice() else {
        panic!("{what}: {outcome:?}");
    };
    assert!(line.contains("cannot be compiled"), "{what}: {line}");
    assert!(line.contains(component.to_str().unwrap()), "{what}: {line}");
}

/// Core modules of proposals that no component needs.
const MODULES: [(&str, &str); 15] = [
    ("gc", "(module (type (struct (field i32))))"),
    ("i31", "(module (table 1 i31ref))"),
    ("externref", "(module (table 1 externref))"),
    (
        "function references",
        "(module (type $t (func)) (func (param (ref null $t))))",
    ),
    ("non-nullable", "(module (func (param (ref func))))"),
    ("exceptions", "(module (tag))"),
    ("shared memory", "(module (memory 1 1 shared))"),
    (
        "atomics",
        "(module (memory 1) (func (drop (i32.atomic.load (i32.const 0)))))",
    ),
    (
        "shared everything",
        "(module (global (shared i32) (i32.const 0)))",
    ),
    (
        "stack switching",
        "(module (type $f (func)) (type $c (cont $f)))",
    ),
    ("memory64", "(module (memory i64 1))"),
    ("table64", "(module (table i64 1 funcref))"),
    ("custom page sizes", "(module (memory 1 (pagesize 1)))"),
    (
        "wide arithmetic",
        "(module (func (param i64 i64 i64 i64) (result i64 i64) local.get 0 local.get 1 \
         local.get 2 local.get 3 i64.add128))",
    ),
    ("legacy exceptions", "(module (func try catch_all end))"),
];

/// Sections of components, of proposals that no contract needs.
const SECTIONS: [(&str, &str); 4] = [
    ("maps", "(component (type (map string u32)))"),
    ("lists of a length", "(component (type (list u32 4)))"),
    ("error contexts", "(component (type error-context))"),
    ("threads", "(component (core func (canon thread.index)))"),
];

#[test]
fn core_proposals_that_are_off_are_refused() {
    let scratch = Scratch::new();
    let base = fs::read(echo_blocking.path()).unwrap();
    for (what, text) in MODULES {
        println!("{what}");
        let module = wat::parse_str(text).unwrap();
        let component = scratch.path("module.wasm");
        fs::write(&component, append::module(&base, &module, 0)).unwrap();
        check_refused(&component, what);
    }
}

#[test]
fn component_proposals_that_are_off_are_refused() {
    let scratch = Scratch::new();
    for guest in [echo_blocking, echo_concurrent] {
        let base = fs::read(guest.path()).unwrap();
        for (what, text) in SECTIONS {
            println!("{what}: {}", guest.name);
            let component = scratch.path("sections.wasm");
            fs::write(&component, append::sections(&base, text)).unwrap();
            check_refused(&component, what);
        }
    }
    // Streams belong to 0.3.
    let component = scratch.path("stream.wasm");
    let base = fs::read(echo_blocking.path()).unwrap();
    let streams = "(component (type (stream u8)))";
    fs::write(&component, append::sections(&base, streams)).unwrap();
    check_refused(&component, "streams");
    // In `concurrent`, what goes beyond the contract.
    for (what, from, to) in [
        (
            "asynchronous cancellation",
            "(canon stream.cancel-read $st)",
            "(canon stream.cancel-read $st async)",
        ),
        (
            "calls without a callback",
            r#"(callback (func $i "cb"))"#,
            "",
        ),
    ] {
        println!("{what}");
        let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/components");
        let text = fs::read_to_string(template.join("concurrent.wat")).unwrap();
        assert!(text.contains(from), "{what}");
        let text = text
            .replace(from, to)
            .replace(
                ";; HANDLE",
                r#"(func (export "handle") (param i32) (result i32) (i32.const 0))"#,
            )
            .replace(
                ";; CALLBACK",
                r#"(func (export "cb") (param i32 i32 i32) (result i32) (i32.const 0))"#,
            );
        let text = if to.is_empty() {
            text.replace(
                r#"(param i32) (result i32) (i32.const 0))"#,
                r#"(param i32))"#,
            )
        } else {
            text
        };
        check_refused(&text_component(&scratch, "beyond", &text), what);
    }
}

/// What components use that compilers make: each of it is on.
#[test]
fn what_compilers_use_is_on() {
    let scratch = Scratch::new();
    let base = fs::read(echo_blocking.path()).unwrap();
    for text in [
        "(module (memory 1) (memory 1))",
        "(module (func $f (return_call $f)))",
        "(module (func (result v128) (v128.const i32x4 0 0 0 0)))",
        "(module (memory 1) (func (memory.fill (i32.const 0) (i32.const 0) (i32.const 1))))",
        "(module (global i32 (i32.add (i32.const 1) (i32.const 2))))",
        "(module (table 1 funcref) (table 1 funcref))",
        "(module (func (result i32 i32) (i32.const 0) (i32.const 0)))",
    ] {
        println!("{text}");
        let module = wat::parse_str(text).unwrap();
        let component = scratch.path("on.wasm");
        fs::write(&component, append::module(&base, &module, 1)).unwrap();
        let server = Serve::component(&component).start();
        server.connect().check_echo("on\n");
        server.stop().check_no_alarm();
    }
}

/// A `handle` that goes on to its callback, and a callback that ends.
const GO_ON: &str = "(i32.const 1)";
const RETURN_OK: &str = "(call $tret (i32.const 0) (i32.const 0) (i32.const 0))";
/// A stream of bytes, its readable end at 2048 and its writable end at 2052; a
/// future at 2056 and 2060, and one of a byte at 2064 and 2068.
const ENDS: &str = "(i64.store (i32.const 2048) (call $snew)) \
     (i64.store (i32.const 2056) (call $fnew)) (i64.store (i32.const 2064) (call $gnew))";
const READ: &str = "(i32.load (i32.const 2048))";
const WRITE: &str = "(i32.load (i32.const 2052))";

/// What a guest does wrong, after `ENDS`.
fn wrong_uses() -> Vec<(&'static str, String)> {
    let future = "(i32.load (i32.const 2056))";
    let promise = "(i32.load (i32.const 2060))";
    let byte = "(i32.load (i32.const 2064))";
    let byte_promise = "(i32.load (i32.const 2068))";
    let at = "(i32.const 1024) (i32.const 16)";
    let two = |call: String| format!("{call} {call}");
    vec![
        (
            "read twice at once",
            two(format!("(drop (call $srda {READ} {at}))")),
        ),
        (
            "write twice at once",
            two(format!("(drop (call $swra {WRITE} {at}))")),
        ),
        (
            "read the writable end",
            format!("(drop (call $srda {WRITE} {at}))"),
        ),
        (
            "write the readable end",
            format!("(drop (call $swra {READ} {at}))"),
        ),
        (
            "read what is none",
            "(drop (call $srda (i32.const 999) (i32.const 0) (i32.const 1)))".into(),
        ),
        (
            "read a future as a stream",
            format!("(drop (call $srda {future} {at}))"),
        ),
        (
            "read a stream as a future",
            format!("(drop (call $frda {READ} (i32.const 1024)))"),
        ),
        (
            "read a stream of another type",
            format!("(drop (call $urda {READ} {at}))"),
        ),
        (
            "read to beyond the memory",
            format!("(drop (call $srda {READ} (i32.const -16) (i32.const 64)))"),
        ),
        (
            "read more than there are addresses",
            format!("(drop (call $srda {READ} (i32.const 1024) (i32.const -1)))"),
        ),
        (
            "cancel a read that is none",
            format!("(drop (call $scrs {READ}))"),
        ),
        (
            "cancel a write that is none",
            format!("(drop (call $scws {WRITE}))"),
        ),
        (
            "drop an end that is being read",
            format!("(drop (call $srda {READ} {at})) (call $sdr {READ})"),
        ),
        (
            "drop an end that is being written",
            format!("(drop (call $swra {WRITE} {at})) (call $sdw {WRITE})"),
        ),
        ("drop an end twice", two(format!("(call $sdr {READ})"))),
        ("drop the other end", format!("(call $sdr {WRITE})")),
        ("drop a promise", format!("(call $fdw {promise})")),
        (
            "write a future twice at once",
            two(format!(
                "(drop (call $gwra {byte_promise} (i32.const 1024)))"
            )),
        ),
        (
            "read a future that is being read",
            two(format!("(drop (call $grda {byte} (i32.const 1024)))")),
        ),
        (
            "write a future after its reader has gone, and again",
            format!(
                "(call $gdr {byte}) {}",
                two(format!(
                    "(drop (call $gwra {byte_promise} (i32.const 1024)))"
                ))
            ),
        ),
        (
            "read and write one stream in one instance",
            format!("(drop (call $srda {READ} {at})) (drop (call $swra {WRITE} {at}))"),
        ),
        (
            "read and write what has no elements",
            "(i64.store (i32.const 2048) (call $unew)) \
             (drop (call $urda (i32.load (i32.const 2048)) (i32.const 0) (i32.const 0x0fffffff))) \
             (drop (call $uwra (i32.load (i32.const 2052)) (i32.const 0) (i32.const 0x0fffffff)))"
                .into(),
        ),
        (
            "send the writable end",
            format!("(drop (call $send (local.get $sock) {WRITE}))"),
        ),
        (
            "send what is being read",
            format!("(drop (call $srda {READ} {at})) (drop (call $send (local.get $sock) {READ}))"),
        ),
        (
            "send one stream twice",
            two(format!("(drop (call $send (local.get $sock) {READ}))")),
        ),
        (
            "send by what is no socket",
            format!("(drop (call $send (i32.const 777) {READ}))"),
        ),
        (
            "receive to beyond the memory",
            "(call $recv (local.get $sock) (i32.const -4))".into(),
        ),
        (
            "receive twice",
            two("(call $recv (local.get $sock) (i32.const 1024))".into()),
        ),
        (
            "use a socket that is dropped",
            "(call $sdrop (local.get $sock)) (call $recv (local.get $sock) (i32.const 1024))"
                .into(),
        ),
        (
            "drop a socket twice",
            two("(call $sdrop (local.get $sock))".into()),
        ),
        ("return twice", two(RETURN_OK.into())),
        (
            "return a text from beyond the memory",
            "(call $tret (i32.const 1) (i32.const -16) (i32.const 64))".into(),
        ),
        (
            "join what is no set",
            format!("(call $wjoin {READ} (i32.const 555))"),
        ),
        (
            "join what cannot be waited for",
            "(call $wjoin (local.get $sock) (call $wsnew))".into(),
        ),
        (
            "drop a set with something in it",
            format!(
                "(i32.store (i32.const 2072) (call $wsnew)) \
                 (call $wjoin {READ} (i32.load (i32.const 2072))) \
                 (call $wsdrop (i32.load (i32.const 2072)))"
            ),
        ),
        (
            "poll what is no set",
            "(drop (call $wspoll (i32.const 3) (i32.const 1024)))".into(),
        ),
        (
            "poll to beyond the memory",
            "(drop (call $wspoll (call $wsnew) (i32.const -4)))".into(),
        ),
    ]
}

/// What a call asks for next, and what is no such thing.
const WRONG_ANSWERS: [(&str, &str, &str); 5] = [
    ("an unknown code", "(i32.const 7)", "(i32.const 0)"),
    ("an unknown code later", GO_ON, "(i32.const -1)"),
    ("a wait for no set", "(i32.const 0x7f2)", "(i32.const 0)"),
    ("no result", "(i32.const 0)", "(i32.const 0)"),
    ("no result later", GO_ON, "(i32.const 0)"),
];

#[test]
fn wrong_uses_of_streams_and_futures_cost_their_connection_only() {
    let scratch = Scratch::new();
    let mut cases = Vec::new();
    for (what, code) in wrong_uses() {
        let handle = format!("{ENDS} {code} {GO_ON}");
        cases.push((what, handle, format!("{RETURN_OK} (i32.const 0)")));
    }
    for (what, handle, callback) in WRONG_ANSWERS {
        cases.push((what, handle.to_owned(), callback.to_owned()));
    }
    for (what, handle, callback) in cases {
        println!("{what}");
        let component = concurrent(&scratch, "wrong", &handle, &callback);
        // It is not a guest, so there are no pairs of it.
        for dispatch in ["poll", "threaded"] {
            check_survives(&component, dispatch, what);
        }
    }
}

/// Two peers one after the other are let go, and the server ends as it should.
#[track_caller]
fn check_survives(component: &Path, dispatch: &str, what: &str) {
    let server = Serve::component(component)
        .args([
            "--dispatch",
            dispatch,
            "--deadline",
            "300ms",
            "--max-connections",
            "3",
        ])
        .start();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        match stream.read_to_end(&mut Vec::new()) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("{what}, {dispatch}: {error}"),
        }
    }
    let finished = server.stop();
    for alarm in finished.alarms() {
        assert_eq!(alarm.str("fault"), "guest", "{what}, {dispatch}: {alarm:?}");
    }
}

/// What a guest gives the host in one call is bounded, whatever memory it has
/// itself.
// From: review of 2026-11-25, 3.5.
#[test]
fn a_call_has_the_host_allocate_no_more_than_the_contract_needs() {
    let scratch = Scratch::new();
    let grow = "(drop (memory.grow (i32.const 1700)))";
    let text = format!(
        "{grow} (call $tret (i32.const 1) (i32.const 262144) (i32.const 104857600)) (i32.const 0)"
    );
    let reason = concurrent(&scratch, "reason", &text, "(i32.const 0)");
    let changes = changes(&scratch);
    for component in [reason, changes] {
        println!("{}", component.display());
        let server = Serve::component(&component)
            .args(["--dispatch", "poll", "--max-memory", "256MiB"])
            .start();
        let before = peak_memory(server.process.id());
        for _ in 0..3 {
            let mut stream = TcpStream::connect(server.address()).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
        }
        // The kernel's figure is a sum of what its processors know, and may go back a little.
        let grown = peak_memory(server.process.id()).saturating_sub(before);
        assert!(grown < 32 << 10, "{} KiB more", grown);
        let finished = server.stop();
        let alarms = finished.alarms();
        assert_eq!(alarms.len(), 3, "{alarms:?}");
        for alarm in alarms {
            assert_eq!(alarm.str("fault"), "guest", "{alarm:?}");
        }
    }
}

/// An `evented` handler whose turn returns 100 MiB of changes.
fn changes(scratch: &Scratch) -> PathBuf {
    let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/components");
    let text = fs::read_to_string(template.join("evented.wat")).unwrap();
    let turn = r#"(func (export "turn") (param i32 i32) (result i32)
        (drop (memory.grow (i32.const 1700)))
        (i32.store (i32.const 16) (i32.const 1048576))
        (i32.store (i32.const 20) (i32.const 4369066))
        (i32.const 16))"#;
    text_component(scratch, "changes", &text.replace(";; TURN", turn))
}

/// In KiB.
fn peak_memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
