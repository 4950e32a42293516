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

/// Components with something behind their own sections.
pub(crate) mod append {
    /// A core module, instantiated so many times.
    pub(crate) fn module(base: &[u8], module: &[u8], times: u8) -> Vec<u8> {
        let instances = instances(count(base, CORE_MODULE), times);
        let mut bytes = [base, &section(CORE_MODULE, module)].concat();
        if times > 0 {
            bytes.extend(section(CORE_INSTANCES, &instances));
        }
        bytes
    }

    /// A component, instantiated so many times.
    pub(crate) fn component(base: &[u8], component: &str, times: u8) -> Vec<u8> {
        let instances = instances(count(base, COMPONENT), times);
        let component = wat::parse_str(component).unwrap();
        [
            base,
            &section(COMPONENT, &component),
            &section(INSTANCES, &instances),
        ]
        .concat()
    }

    /// The sections of a component from its text. They must not refer to each
    /// other, because the indices are others here.
    pub(crate) fn sections(base: &[u8], text: &str) -> Vec<u8> {
        let component = wat::parse_str(text).unwrap();
        [base, &component[HEADER..]].concat()
    }

    const HEADER: usize = 8;
    const CORE_MODULE: u8 = 1;
    const CORE_INSTANCES: u8 = 2;
    const COMPONENT: u8 = 4;
    const INSTANCES: u8 = 5;

    /// The content of a section that instantiates one item so many times, without
    /// arguments.
    fn instances(index: usize, times: u8) -> Vec<u8> {
        let instance = [&[0], &*number(index), &[0]].concat();
        [vec![times], instance.repeat(times.into())].concat()
    }

    /// How many sections of a kind there are, each with one item.
    fn count(component: &[u8], kind: u8) -> usize {
        let (mut at, mut found) = (HEADER, 0);
        while at < component.len() {
            found += usize::from(component[at] == kind);
            at += 1;
            let (mut size, mut shift) = (0, 0);
            loop {
                let byte = component[at];
                at += 1;
                size |= usize::from(byte & 127) << shift;
                shift += 7;
                if byte < 128 {
                    break;
                }
            }
            at += size;
        }
        found
    }

    fn section(kind: u8, content: &[u8]) -> Vec<u8> {
        [&[kind][..], &number(content.len()), content].concat()
    }

    fn number(mut number: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while number > 127 {
            bytes.push(number as u8 & 127 | 128);
            number >>= 7;
        }
        bytes.push(number as u8);
        bytes
    }
}
