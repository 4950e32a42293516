//! `sockserve componentize`: what it makes of a module, and what it refuses. Modules that
//! compilers write are in `programs` and in the target `languages`.

use std::fs;
use std::path::Path;

use wasmparser::{Parser, Payload};

use crate::harness::Serve;
use crate::harness::command::{Outcome, sockserve};
use crate::harness::guests::echo_blocking;
use crate::harness::scratch::Scratch;

/// Prints a line on its standard output, by WASI preview 1.
const PROGRAM: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write"
        (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "\08\00\00\00\06\00\00\00hello\n")
    (func (export "_start")
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))))"#;

/// The same on standard error, as a handler of the contract `blocking` that then returns
/// `ok`.
const LIBRARY: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write"
        (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "\08\00\00\00\06\00\00\00hello\n")
    (func (export "sockserve:handler/blocking@0.1.0#handle") (param i32 i32 i32) (result i32)
        (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 16)))
        (i32.const 32)))"#;

fn componentize(module: &Path, output: &Path, options: &[&str]) -> Outcome {
    let words = ["componentize".as_ref(), module.as_os_str(), "-o".as_ref()];
    let options = options.iter().map(std::ffi::OsStr::new);
    sockserve(words.into_iter().chain([output.as_os_str()]).chain(options))
}

/// A module with the section that says that it has the contract `blocking`: that of the
/// bindings for C.
fn library() -> Vec<u8> {
    let path = "../sdk/c/bindings/blocking_component_type.o";
    let object = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let mut module = wat::parse_str(LIBRARY).unwrap();
    for payload in Parser::new(0).parse_all(&object) {
        if let Payload::CustomSection(section) = payload.unwrap()
            && section.name().starts_with("component-type")
        {
            let section = wasm_encoder::CustomSection {
                name: section.name().into(),
                data: section.data().into(),
            };
            wasm_encoder::Section::append_to(&section, &mut module);
        }
    }
    module
}

#[test]
fn a_program_and_a_library_become_what_they_export() {
    let scratch = Scratch::new();
    for (module, contract, heard, logged) in [
        (
            wat::parse_str(PROGRAM).unwrap(),
            "command",
            "hello\n",
            &[][..],
        ),
        (library(), "blocking", "", &["hello"][..]),
    ] {
        let path = scratch.path(&format!("{contract}.core.wasm"));
        let output = scratch.path(&format!("{contract}.wasm"));
        fs::write(&path, module).unwrap();
        let printed = componentize(&path, &output, &[]).printed();
        let size = fs::metadata(&output).unwrap().len();
        let expected = format!("{}  {size} bytes, contract {contract}", output.display());
        assert_eq!(printed, [expected]);
        let inspected = sockserve(["inspect".as_ref(), output.as_os_str()]).printed();
        assert!(
            inspected.contains(&format!("contract    {contract}")),
            "{inspected:#?}"
        );

        let server = Serve::component(&output).start();
        let mut client = server.connect();
        client.finish_sending();
        assert_eq!(client.read_to_end(), heard.as_bytes());
        let finished = server.stop();
        finished.check_no_alarm();
        assert_eq!(finished.guest_lines(), logged);
    }
}

#[test]
fn what_cannot_be_componentized_is_told() {
    let scratch = Scratch::new();
    let output = scratch.path("out.wasm");
    let refused = |module: &Path, status: i32, expected: &str| {
        let outcome = componentize(module, &output, &[]);
        assert_eq!(outcome.status, Some(status), "{outcome:#?}");
        assert!(outcome.stdout.is_empty(), "{outcome:#?}");
        assert_eq!(outcome.stderr.len(), 1, "{outcome:#?}");
        assert!(outcome.stderr[0].contains(expected), "{outcome:#?}");
        assert!(!output.exists());
    };
    let path = scratch.path("it.wasm");
    let bytes = |bytes: &[u8], expected: &str| {
        fs::write(&path, bytes).unwrap();
        refused(&path, 1, expected);
    };
    bytes(
        b"#!/bin/sh\n",
        "not a WebAssembly module; build one for WASI preview 1",
    );
    bytes(b"", "not a WebAssembly module");
    bytes(b"\0asm\x01\0\0\0\x07\xff", "a damaged module");
    let wat = |text: &str, expected: &str| bytes(&wat::parse_str(text).unwrap(), expected);
    wat(
        "(module)",
        "neither a program, which exports _start, nor a library",
    );
    wat(
        r#"(module (import "env" "puts" (func)) (memory (export "memory") 1)
            (func (export "_start")))"#,
        "imports puts of env, which is neither wasi_snapshot_preview1 nor",
    );
    // A library that does not export what it says.
    let mut other = library();
    let at = other.windows(7).position(|it| it == b"#handle").unwrap();
    other[at + 1] = b'H';
    bytes(&other, "cannot be made a component: ");

    refused(
        &echo_blocking.path(),
        2,
        "a component already; serve it: sockserve serve",
    );
    refused(&scratch.path("none.wasm"), 1, "No such file");
    refused(
        &scratch.path(""),
        1,
        "this is a directory, and only a regular file is read; name the",
    );
}

#[test]
fn a_file_that_exists_is_replaced_by_force_only() {
    let scratch = Scratch::new();
    let module = scratch.path("it.wasm");
    fs::write(&module, wat::parse_str(PROGRAM).unwrap()).unwrap();
    // In its own place.
    let outcome = componentize(&module, &module, &[]);
    assert_eq!(outcome.status, Some(2), "{outcome:#?}");
    let expected = "exists; write another file, or replace it with --force";
    assert!(outcome.stderr[0].ends_with(expected), "{outcome:#?}");
    assert!(Parser::is_core_wasm(&fs::read(&module).unwrap()));
    componentize(&module, &module, &["--force"]).printed();
    assert!(Parser::is_component(&fs::read(&module).unwrap()));
    let left: Vec<_> = fs::read_dir(scratch.path("")).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}
