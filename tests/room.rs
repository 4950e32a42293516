//! What instances take: address space, memory mappings, memories, tables. The
//! pool follows the component, and what does not fit is refused with the option
//! that would help.

use std::fs;
use std::process::Command;

use crate::harness::command::{run, sockserve};
use crate::harness::components::append;
use crate::harness::control::{Controlled, refusal};
use crate::harness::guests::echo_blocking;
use crate::harness::scratch::Scratch;
use crate::harness::{Client, Guest, Serve};

for_each_pair! { echo by default: little_address_space_is_shared_out }
/// Little address space is enough for smaller memories, also for those of a
/// second version.
fn little_address_space_is_shared_out(guest: Guest, dispatch: &str) {
    // In KiB: a pool of memories of 4 GiB each would be 1000 times that.
    for limit in [6_000_000, 20_000_000] {
        println!("{limit} KiB");
        let scratch = Scratch::new();
        let server = Serve::guest_after(&format!("ulimit -v {limit}"), guest, dispatch)
            .args(["--control".as_ref(), scratch.path("control").as_os_str()])
            .start();
        let controlled = Controlled { server, scratch };
        let mut old = controlled.server.connect();
        old.check_echo("with little\n");
        let next = controlled.scratch.build(guest, 1);
        controlled.swap(next, &["--old", "drain", "--drain-timeout", "1h"]);
        old.check_echo("and less\n");
        controlled.server.connect().check_echo("as ever\n");
        old.finish_sending();
        old.expect_eof();
        controlled.server.stop().check_no_alarm();
    }
}

#[test]
fn too_little_address_space_is_refused_with_what_would_help() {
    let refused = |limit: u64, more: &str| {
        let program = env!("CARGO_BIN_EXE_sockserve");
        let listen = "--listen tcp://127.0.0.1:0";
        let command = format!(
            "ulimit -v {limit}; exec {program} serve builtin:echo-blocking {listen} {more}"
        );
        let line = refusal(&run(Command::new("sh").args(["-c", &command])));
        for part in ["ulimit -v", "--max-connections", "--max-memory"] {
            assert!(line.contains(part), "{part}: {line}");
        }
    };
    refused(800_000, "");
    refused(3_000_000, "--max-connections 3000");
}

/// A retired version costs by its open connections, and no address space that the
/// next ones would lack.
// From: case 7; review of 2026-11-25, 3.14.
#[test]
fn many_versions_keep_a_connection_each() {
    let cache = Scratch::new();
    let cache = cache.path("cache");
    let cache = ["--cache", cache.to_str().unwrap()];
    let controlled = Controlled::start(echo_blocking, "threaded", &cache);
    let builds = [1, 2].map(|number| controlled.scratch.build(echo_blocking, number));
    let mut clients: Vec<Client> = Vec::new();
    for number in 0..36 {
        let mut client = controlled.server.connect();
        client.check_echo("mine\n");
        clients.push(client);
        let options = ["--old", "drain", "--drain-timeout", "1h"];
        controlled.swap(&builds[number % 2], &options);
    }
    for client in &mut clients {
        client.check_echo("still mine\n");
    }
    controlled.server.connect().check_echo("and the last\n");
    drop(clients);
    controlled.server.stop().check_no_alarm();
}

/// A limit that holds for one version at the start and not for two would be found
/// out at the first swap.
// From: case 6.
#[test]
fn what_starts_can_be_swapped() {
    for connections in ["4000", "10000"] {
        let options = ["--max-connections", connections];
        let controlled = Controlled::start(echo_blocking, "threaded", &options);
        let mut client = controlled.server.connect();
        client.check_echo("old\n");
        let options = ["--old", "drain", "--drain-timeout", "1h"];
        for number in 1..4 {
            controlled.swap(controlled.scratch.build(echo_blocking, number), &options);
            controlled.server.connect().check_echo("new\n");
        }
        client.check_echo("old\n");
        client.finish_sending();
        client.expect_eof();
        controlled.server.stop();
    }
}

for_each_pair! { echo by default: the_pool_follows_the_component }
/// What a component has more than once, or more of than others.
// From: case 9.
fn the_pool_follows_the_component(guest: Guest, dispatch: &str) {
    let scratch = Scratch::new();
    let memory = "(module (memory 3))";
    let nested = "(component (core module $m (memory 1) (table 30 funcref)) \
         (core instance (instantiate $m)) (core instance (instantiate $m)))";
    let module = |base: &[u8], text: &str, times| {
        append::module(base, &wat::parse_str(text).unwrap(), times)
    };
    let base = fs::read(guest.path()).unwrap();
    for (what, bytes) in [
        ("two of one module", module(&base, memory, 2)),
        ("a hundred of one module", module(&base, memory, 100)),
        (
            "a table of 60 000",
            module(&base, "(module (table 60000 funcref))", 1),
        ),
        (
            "two memories and tables in one module",
            module(
                &base,
                "(module (memory 1) (memory 1) (table 1 funcref) (table 1 funcref))",
                2,
            ),
        ),
        ("a component twice", append::component(&base, nested, 2)),
        (
            "a module with much of its own",
            module(&base, &many_globals(20_000), 1),
        ),
    ] {
        println!("{what}");
        let component = scratch.path("more.wasm");
        fs::write(&component, bytes).unwrap();
        // A hundred memories each are many mappings.
        let server = Serve::component(&component)
            .args(["--dispatch", dispatch, "--max-connections", "20"])
            .start();
        let mut clients = [(); 3].map(|()| server.connect());
        for client in &mut clients {
            client.check_echo("room\n");
        }
        drop(clients);
        server.stop().check_no_alarm();
    }
}

/// What an instance needs beside its memories grows with these.
fn many_globals(count: usize) -> String {
    let globals = "(global (mut i64) (i64.const 1))".repeat(count);
    format!("(module {globals})")
}

// From: case 39.
#[test]
fn what_is_larger_than_its_limit_is_refused_with_the_option() {
    let scratch = Scratch::new();
    let base = fs::read(echo_blocking.path()).unwrap();
    let refused = |text: &str, times, limit: &str| {
        println!("{}", &text[..text.len().min(60)]);
        let component = scratch.path("large.wasm");
        let module = wat::parse_str(text).unwrap();
        fs::write(&component, append::module(&base, &module, times)).unwrap();
        let component = component.to_str().unwrap();
        let listen = ["--listen", "tcp://127.0.0.1:0", "--max-memory", limit];
        let line = refusal(&sockserve([&["serve", component][..], &listen].concat()));
        assert!(line.contains("--max-memory"), "{line}");
        assert!(line.contains(component), "{line}");
    };
    refused("(module (memory 100))", 1, "4MiB");
    refused("(module (memory 30))", 3, "4MiB");
    refused("(module (table 1000000 funcref))", 1, "4MiB");
    refused(&many_globals(200_000), 1, "2MiB");
    // A few bytes that stand for thousands of instances.
    let thousand = "(component (core module $m) (core instance (instantiate $m)))";
    let mut text = format!(
        "(component $c0 {})",
        &thousand["(component ".len()..thousand.len() - 1]
    );
    for level in 0..30 {
        let within = text.replace(&format!("$c{level} "), &format!("$x{level} "));
        text = format!(
            "(component $c{} {within} (instance (instantiate $x{level})) \
             (instance (instantiate $x{level})))",
            level + 1
        );
    }
    let component = scratch.path("blow-up.wasm");
    fs::write(&component, append::component(&base, &text, 1)).unwrap();
    let component = component.to_str().unwrap();
    let serve = ["serve", component, "--listen", "tcp://127.0.0.1:0"];
    let line = refusal(&sockserve(serve));
    assert!(line.contains("core modules"), "{line}");
}
