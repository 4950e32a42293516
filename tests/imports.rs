//! Imports that the host lacks: `inspect` and `serve` say the same of them.

use crate::harness::command::sockserve;
use crate::harness::components::text_component;
use crate::harness::guests::{Guest, NAMES, chat_concurrent};
use crate::harness::scratch::Scratch;
use std::path::Path;

/// A component with one import, which is refused for it.
#[track_caller]
fn check(import: &str, items: &str, refusal: &[&str], inspected: &str) {
    let scratch = Scratch::new();
    let text = format!(
        r#"(component (import "{import}" (instance {items}))
            (instance $i) (export "sockserve:handler/blocking@0.1.0" (instance $i)))"#
    );
    let component = text_component(&scratch, "importing", &text);
    let component = component.to_str().unwrap();
    let outcome = sockserve(["serve", component, "--listen", "tcp://127.0.0.1:0"]);
    assert_eq!(outcome.status, Some(1), "{outcome:?}");
    let [line] = outcome.stderr.as_slice() else {
        panic!("{import}: {outcome:?}");
    };
    for part in [&[import, component][..], refusal].concat() {
        assert!(line.contains(part), "{part}: {line}");
    }
    let outcome = sockserve(["inspect", component]);
    let line = outcome.stdout.iter().find(|line| line.contains(import));
    let line = line.unwrap_or_else(|| panic!("{outcome:?}"));
    assert!(line.contains(inspected), "{line}");
}

// From: case 10.
#[test]
fn an_import_that_is_lacking_is_named_with_what_is_there() {
    let f = r#"(export "f" (func))"#;
    check(
        "wasi:cli/stderr@0.2.0-rc-2023-10-18",
        f,
        &["wasi:cli/stderr@0.2.12"],
        "not provided: there is wasi:cli/stderr@0.2.12",
    );
    check(
        "wasi:clocks/wall-clock@0.3.0-rc-2025-09-16",
        f,
        &["wasi:clocks/wall-clock@0.2.12"],
        "not provided: there is wasi:clocks/wall-clock@0.2.12",
    );
    check(
        "wasi:random/nothing@0.2.6",
        f,
        &["compose"],
        "not provided: compose",
    );
    check(
        "wasi:sockets/tcp@1.0.0",
        f,
        &["wasi:sockets/tcp@0.2.12"],
        "not provided: there is",
    );
    check(
        "wasi:clocks/wall-clock@0.2.99",
        f,
        &["`f`", "wasi:clocks/wall-clock@0.2.12"],
        "not provided: there is no `f` in wasi:clocks/wall-clock@0.2.12",
    );
}

/// A function that is there and has another type.
#[test]
fn an_import_of_another_type_is_named() {
    check(
        "wasi:random/random@0.2.3",
        r#"(export "get-random-u64" (func (result u32)))"#,
        &["get-random-u64"],
        "provided",
    );
}

/// With its feature `inter-task-wakeup` wit-bindgen reads from a stream whenever a task waits.
/// Cargo gives a feature to all packages of one call, so `host/build.rs` makes several.
#[test]
fn only_those_whose_tasks_wake_each_other_have_a_stream_for_it() {
    let waits_by_stream = |path: &Path| {
        let bytes = std::fs::read(path).unwrap();
        let import = b"[stream-read-unit]";
        bytes.windows(import.len()).any(|part| part == import)
    };
    for name in NAMES.iter().copied() {
        let guest = Guest { name };
        assert_eq!(
            waits_by_stream(&guest.path()),
            guest == chat_concurrent,
            "{name}"
        );
    }
    let runner = |name| {
        chat_concurrent
            .path()
            .with_file_name(format!("runner_{name}.wasm"))
    };
    for (name, waits) in [
        ("concurrent", false),
        ("datagram_concurrent", false),
        ("sockets_p3", true),
    ] {
        assert_eq!(waits_by_stream(&runner(name)), waits, "{name}");
    }
}
