//! Any bytes are a component or are refused in one line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sockserve::Component;

fuzz_target!(|bytes: &[u8]| {
    // What comes before the sections, so that the fuzzer need not find it.
    for header in [&b""[..], b"\0asm\x0d\0\x01\0"] {
        match Component::from_bytes("file", [header, bytes].concat()) {
            Ok(component) => assert!(component.imports().len() <= bytes.len()),
            Err(error) => {
                let error = error.to_string();
                assert!(error.starts_with("file: ") && error.len() < 10_000, "{error}");
            }
        }
    }
});
