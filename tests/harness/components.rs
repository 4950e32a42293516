//! Components that are text here, because what they do no compiler would write.

use std::path::{Path, PathBuf};

use super::scratch::Scratch;

/// A `concurrent` handler with this core code for its start and for its
/// continuation, each the inside of a function that returns an `i32`.
/// `tests/components/concurrent.wat` says what it can call.
pub(crate) fn concurrent(scratch: &Scratch, name: &str, handle: &str, callback: &str) -> PathBuf {
    let handle = format!(r#"(func (export "handle") (param $sock i32) (result i32) {handle})"#);
    let callback = format!(
        r#"(func (export "cb") (param $e i32) (param $i i32) (param $c i32) (result i32) {callback})"#
    );
    let places = [(";; HANDLE", &*handle), (";; CALLBACK", &*callback)];
    fill(scratch, name, "concurrent", &places)
}

/// An `evented` handler that closes every connection as soon as it is told of it,
/// and never drops its resources.
pub(crate) fn evented_keeper(scratch: &Scratch) -> PathBuf {
    // An event and a change are variants with 8-byte fields: 32 and 24 bytes each.
    let turn = r#"(func (export "turn") (param $at i32) (param $count i32) (result i32)
        (local $change i32) (local $changes i32)
        (local.set $change (i32.const 4096))
        (block $done (loop $next
            (br_if $done (i32.eqz (local.get $count)))
            (if (i32.eqz (i32.load8_u (local.get $at))) (then
                (i32.store8 (local.get $change) (i32.const 1))
                (i64.store (i32.add (local.get $change) (i32.const 8))
                    (i64.load (i32.add (local.get $at) (i32.const 8))))
                (local.set $change (i32.add (local.get $change) (i32.const 24)))
                (local.set $changes (i32.add (local.get $changes) (i32.const 1)))))
            (local.set $at (i32.add (local.get $at) (i32.const 32)))
            (local.set $count (i32.sub (local.get $count) (i32.const 1)))
            (br $next)))
        (call $reset)
        (i32.store (i32.const 16) (i32.const 4096))
        (i32.store (i32.const 20) (local.get $changes))
        (i32.const 16))"#;
    fill(scratch, "keeper_evented", "evented", &[(";; TURN", turn)])
}

fn fill(scratch: &Scratch, name: &str, template: &str, places: &[(&str, &str)]) -> PathBuf {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/components");
    let mut text = std::fs::read_to_string(directory.join(format!("{template}.wat"))).unwrap();
    for (place, code) in places {
        assert!(text.contains(place), "{place}");
        text = text.replace(place, code);
    }
    text_component(scratch, name, &text)
}

/// A component from its whole text.
pub(crate) fn text_component(scratch: &Scratch, name: &str, text: &str) -> PathBuf {
    let path = scratch.path(&format!("{name}.wasm"));
    std::fs::write(&path, wat::parse_str(text).unwrap()).unwrap();
    path
}
