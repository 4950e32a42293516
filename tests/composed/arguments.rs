//! What `compose` and a command refuse, and what they print.

use std::fs;
use std::path::Path;

use super::{Composed, Host, for_each_host, shown};
use crate::harness::command::{Outcome, run, sockserve};
use crate::harness::guests::{
    echo_blocking, echo_command, echo_concurrent, echo_datagram, echo_evented, faults_import,
    faults_none,
};
use crate::harness::scratch::Scratch;

/// The only line of a refusal.
#[track_caller]
fn refused(outcome: &Outcome, status: i32) -> &str {
    assert_eq!(outcome.status, Some(status), "{outcome:#?}");
    assert!(outcome.stdout.is_empty(), "{outcome:#?}");
    let [line] = &outcome.stderr[..] else {
        panic!("not one line: {outcome:#?}");
    };
    line
}

fn compose(handler: &Path, output: &Path, options: &[&str]) -> Outcome {
    let words = ["compose", &shown(handler), "-o", &shown(output)].map(ToOwned::to_owned);
    let options = options.iter().map(ToString::to_string);
    sockserve(words.into_iter().chain(options))
}

#[test]
fn what_cannot_be_composed_is_told() {
    let scratch = Scratch::new();
    let output = scratch.path("out.wasm");
    for (guest, status, said) in [
        (
            echo_command,
            2,
            "a program already, and not a handler; run it",
        ),
        (faults_none, 1, "exports none of"),
        (
            faults_import,
            1,
            "compose the component with one that exports it",
        ),
    ] {
        let outcome = compose(&guest.path(), &output, &[]);
        let line = refused(&outcome, status);
        assert!(line.contains(said), "{line}");
    }
    let outcome = compose(&scratch.path("nothing.wasm"), &output, &[]);
    assert!(refused(&outcome, 1).contains("No such file"));
    assert!(!output.exists());
    let composed = Composed::of(echo_evented);
    let outcome = compose(&composed.path, &output, &[]);
    let line = refused(&outcome, 2);
    assert!(
        line.contains("composed already; run it: wasmtime run"),
        "{line}"
    );
}

#[test]
fn a_file_that_exists_is_replaced_by_force_only() {
    let scratch = Scratch::new();
    let output = scratch.path("out.wasm");
    fs::write(&output, "mine").unwrap();
    let outcome = compose(&echo_evented.path(), &output, &[]);
    let expected = format!(
        "sockserve: {} exists; write another file, or replace it with --force",
        output.display()
    );
    assert_eq!(refused(&outcome, 2), expected);
    assert_eq!(fs::read(&output).unwrap(), b"mine");
    compose(&echo_evented.path(), &output, &["--force"]).printed();
    assert!(fs::read(&output).unwrap().starts_with(b"\0asm"));
    let nowhere = scratch.path("no/such/directory.wasm");
    for options in [&[][..], &["--force"]] {
        let outcome = compose(&echo_evented.path(), &nowhere, options);
        assert!(refused(&outcome, 1).contains("cannot write"));
    }
    // Nothing is left behind.
    let left: Vec<_> = fs::read_dir(scratch.path("")).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

/// Such a thing is not replaced by a file of its name.
#[test]
fn pipes_devices_and_links_stay_what_they_are() {
    let scratch = Scratch::new();
    let null = scratch.path("null");
    // As /dev/null is for those who may not make devices: a link to it.
    std::os::unix::fs::symlink("/dev/null", &null).unwrap();
    for options in [&[][..], &["--force"]] {
        let printed = compose(&echo_evented.path(), &null, options).printed();
        assert!(printed.is_empty(), "{printed:?}");
        assert!(fs::symlink_metadata(&null).unwrap().is_symlink());
    }
    assert!(!fs::metadata("/dev/null").unwrap().is_file());

    let outcome = compose(&echo_evented.path(), Path::new("/dev/full"), &["--force"]);
    assert!(refused(&outcome, 1).contains("cannot write /dev/full"));

    let mut command = std::process::Command::new("sh");
    let line = "\"$0\" compose \"$1\" -o /dev/stdout | cat >\"$2\"";
    command.args(["-c", line, env!("CARGO_BIN_EXE_sockserve")]);
    let piped = scratch.path("piped.wasm");
    command.arg(echo_evented.path()).arg(&piped);
    run(&mut command).printed();
    let composed = Composed::of(echo_evented);
    assert_eq!(fs::read(&piped).unwrap(), fs::read(&composed.path).unwrap());

    let link = scratch.path("link.wasm");
    std::os::unix::fs::symlink(&piped, &link).unwrap();
    fs::write(&piped, "old").unwrap();
    compose(&echo_evented.path(), &link, &["--force"]).printed();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(fs::read(&piped).unwrap().starts_with(b"\0asm"));

    let outcome = compose(&echo_evented.path(), &scratch.path(""), &["--force"]);
    assert!(refused(&outcome, 1).contains("cannot write"));
}

#[test]
fn a_composed_command_is_not_served() {
    for (guest, url, grant) in [
        (echo_evented, "tcp://127.0.0.1:0", "--allow-listen"),
        (echo_concurrent, "tcp://127.0.0.1:0", "--allow-listen"),
        (echo_datagram, "tcp://127.0.0.1:0", "--allow-udp"),
    ] {
        let composed = Composed::of(guest);
        let path = shown(&composed.path);
        let expected = format!(
            "sockserve: {path}: a command that listens by itself, composed of a handler; run it: \
             sockserve run {grant} 127.0.0.1:7000 {path} --listen 127.0.0.1:7000, or serve the \
             handler"
        );
        let outcome = sockserve(["serve", &path, "--listen", url]);
        assert_eq!(refused(&outcome, 1), expected);
        // Without a place to listen it would only fail later.
        let outcome = sockserve(["run", &path, "--listen", "127.0.0.1:0"]);
        assert_eq!(refused(&outcome, 1), expected);
        let printed = sockserve(["inspect", &path]).printed();
        let contract = guest.contract();
        let line =
            format!("composed    of a handler with the contract {contract}; it listens by itself");
        assert!(printed.contains(&line), "{printed:#?}");
    }
}

#[test]
fn a_command_tells_what_is_wrong_with_its_arguments() {
    for guest in [echo_blocking, echo_evented, echo_concurrent, echo_datagram] {
        let composed = Composed::of(guest);
        let (scheme, other) = if guest.takes_datagrams() {
            ("udp", "tcp")
        } else {
            ("tcp", "udp")
        };
        let wrong = format!("{other}://127.0.0.1:0");
        let example =
            format!("nowhere to listen; write for example --listen {scheme}://127.0.0.1:7000");
        for_each_host("a_command_tells", |host| {
            let fails = |arguments: &[&str], said: &str| {
                let outcome = run(composed.command(host, &[]).args(arguments));
                assert_eq!(outcome.status, Some(1), "{outcome:#?}");
                assert_eq!(outcome.stderr.len(), 1, "{outcome:#?}");
                assert!(outcome.stderr[0].contains(said), "{outcome:#?}");
            };
            fails(&[], &example);
            fails(&["--listen"], "--listen needs a value");
            fails(&["--listen", "localhost:7"], "names are not looked up");
            fails(&["--listen", &wrong], "the handler takes what comes over");
            fails(&["--listen", "unix:///tmp/x"], "WASI has no such sockets");
            fails(&["--port", "7\n"], "unexpected argument '--port'");
            let help = run(composed.command(host, &[]).arg("--help"));
            assert_eq!(help.status, Some(0), "{help:#?}");
            assert!(
                help.stdout
                    .iter()
                    .any(|line| line.contains("--listen ADDRESS"))
            );
        });
    }
}

#[test]
fn a_place_that_is_taken_or_not_granted_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let place = taken.local_addr().unwrap().to_string();
    for guest in [echo_blocking, echo_evented, echo_concurrent] {
        let composed = Composed::of(guest);
        for_each_host("a_place_that_is_taken", |host| {
            let outcome = run(composed.command(host, &[]).args(["--listen", &place]));
            assert_eq!(outcome.status, Some(1), "{outcome:#?}");
            let expected = format!("cannot listen on tcp://{place}: address-in-use");
            assert!(outcome.stderr.contains(&expected), "{outcome:#?}");
            if let Host::Stock(path) = host {
                let mut command = std::process::Command::new(path);
                command.arg("run").arg(&composed.path);
                let outcome = run(command.args(["--listen", "127.0.0.1:0"]));
                assert_eq!(outcome.status, Some(1), "{outcome:#?}");
                let said = "access-denied; grant it, with wasmtime run -S inherit-network";
                assert!(outcome.stderr[0].ends_with(said), "{outcome:#?}");
            }
        });
    }
}
