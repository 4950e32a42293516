//! From a core module of WASI preview 1, as compilers for C and Go make it, to a component.
//!
//! The module is put together with an adapter, which is a part of wasmtime: it offers the
//! functions of preview 1 and calls those of WASI 0.2. A program (it exports `_start`) gets
//! the adapter that exports `wasi:cli/run`. Any other module is a library, which says in a
//! custom section what it exports, and gets the adapter without a main function.
//!
//! | file | |
//! | --- | --- |
//! | `go` | what a module of Go needs before |

mod go;

use crate::component::{Component, ComponentError};
use crate::text;
use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME as PREVIEW1, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
    WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasmparser::{Parser, Payload};
use wit_component::ComponentEncoder;

/// What the main function of a program is called.
const START: &str = "_start";
/// How the names of the custom sections begin that `wit-bindgen` makes. They have the
/// types of what the module exports and imports.
const TYPE: &str = "component-type";

/// Why a module cannot become a component. One line each.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ComponentizeError {
    /// It is not WebAssembly.
    #[error("{0}: not a WebAssembly module; build one for WASI preview 1")]
    NotWasm(String),
    /// It is one.
    #[error("{0}: a component already; serve it: sockserve serve {0}")]
    Component(String),
    /// Its sections are damaged.
    #[error("{name}: a damaged module: {reason}; build it again")]
    Damaged {
        /// The module's name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// It is neither a program nor a library with a contract.
    #[error(
        "{0}: neither a program, which exports {START}, nor a library with a section {TYPE}; \
         compile the bindings of wit-bindgen and link their object file, or give it a main function"
    )]
    NoExports(String),
    /// It imports what is not WASI.
    #[error(
        "{name}: imports {function} of {module}, which is neither {PREVIEW1} nor an interface that \
         its bindings name; link it with what defines that"
    )]
    Import {
        /// The module's name.
        name: String,
        /// Which function.
        function: String,
        /// Of which module.
        module: String,
    },
    /// It does not go together with the adapter.
    #[error(
        "{name}: cannot be made a component: {reason}; build it for WASI preview 1, and a library \
         with the bindings of the contracts that `sockserve wit` writes"
    )]
    Encode {
        /// The module's name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// What it exports is no contract.
    #[error(transparent)]
    Contract(#[from] ComponentError),
}

/// Makes a component of a core module of WASI preview 1. `name` is its name in errors.
///
/// A module of Go gets 32 MiB of memory more, because Go and the adapter would otherwise
/// write over each other's memory: its heap is safe up to that size.
pub fn componentize(name: &str, module: &[u8]) -> Result<Component, ComponentizeError> {
    if Parser::is_component(module) {
        return Err(ComponentizeError::Component(name.to_owned()));
    }
    if !Parser::is_core_wasm(module) {
        return Err(ComponentizeError::NotWasm(name.to_owned()));
    }
    let damaged = |reason: String| ComponentizeError::Damaged {
        name: name.to_owned(),
        reason: text::one_line(&reason),
    };
    let sections = Sections::read(module).map_err(|error| damaged(error.message().to_owned()))?;
    sections.check(name)?;
    let module = if sections.is_go {
        Cow::Owned(go::with_room(module).map_err(|error| damaged(error.to_string()))?)
    } else {
        Cow::Borrowed(module)
    };
    let adapter = if sections.is_program {
        WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER
    } else {
        WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER
    };
    // The library is given any module, and some of its checks are panics.
    let encoded = catch_unwind(AssertUnwindSafe(|| {
        let encoder = ComponentEncoder::default().validate(true);
        let encoder = encoder.module(&module)?;
        encoder.adapter(PREVIEW1, adapter)?.encode()
    }));
    let bytes = encoded
        .unwrap_or_else(|_| Err(anyhow::anyhow!("the library wit-component has panicked")))
        .map_err(|error| ComponentizeError::Encode {
            name: name.to_owned(),
            reason: text::one_line(&format!("{error:#}")),
        })?;
    Ok(Component::from_bytes(name, bytes)?)
}

/// The sections of a module that matter here.
#[derive(Default)]
struct Sections {
    is_program: bool,
    is_library: bool,
    is_go: bool,
    /// The modules and functions that it imports.
    imports: Vec<(String, String)>,
}

impl Sections {
    fn read(module: &[u8]) -> wasmparser::Result<Self> {
        let mut sections = Self::default();
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::ExportSection(exports) => {
                    for export in exports {
                        sections.is_program |= export?.name == START;
                    }
                }
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        let import = import?;
                        let names = (import.module.to_owned(), import.name.to_owned());
                        sections.imports.push(names);
                    }
                }
                Payload::CustomSection(section) => {
                    sections.is_library |= section.name().starts_with(TYPE);
                    sections.is_go |= go::is_sign(&section);
                }
                _ => {}
            }
        }
        Ok(sections)
    }

    fn check(&self, name: &str) -> Result<(), ComponentizeError> {
        if !self.is_program && !self.is_library {
            return Err(ComponentizeError::NoExports(name.to_owned()));
        }
        // An interface of WIT has a package before a colon; a library's type says which.
        let is_known =
            |module: &str| module == PREVIEW1 || (self.is_library && module.contains(':'));
        match self.imports.iter().find(|(module, _)| !is_known(module)) {
            Some((module, function)) => Err(ComponentizeError::Import {
                name: name.to_owned(),
                function: text::one_line(function),
                module: text::one_line(module),
            }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Contract;

    fn of(text: &str) -> Result<Component, ComponentizeError> {
        componentize("x.wasm", &wat::parse_str(text).unwrap())
    }

    #[test]
    fn a_program_becomes_a_command() {
        let program = r#"(module
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            (func (export "_start") i32.const 0 call $exit))"#;
        let component = of(program).unwrap();
        assert_eq!(component.contract(), Contract::Command);
        // Also one that needs no adapter.
        let program = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;
        assert_eq!(of(program).unwrap().contract(), Contract::Command);
    }

    #[test]
    fn what_cannot_become_a_component_is_told() {
        let check = |bytes: &[u8], expected: &str| {
            let error = componentize("x.wasm", bytes).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        };
        check(b"", "not a WebAssembly module");
        check(b"\0asm", "not a WebAssembly module");
        check(b"\x7fELF\x02\x01\x01\0", "not a WebAssembly module");
        check(
            b"\0asm\x0d\0\x01\0",
            "a component already; serve it: sockserve serve x.wasm",
        );
        check(
            b"\0asm\x01\0\0\0",
            "neither a program, which exports _start",
        );
        check(b"\0asm\x01\0\0\0\x07\xff", "a damaged module");
        let check = |text: &str, expected: &str| check(&wat::parse_str(text).unwrap(), expected);
        check(
            r#"(module (import "env" "puts\n" (func)) (func (export "_start")))"#,
            r"imports puts\n of env, which is neither wasi_snapshot_preview1 nor",
        );
        check(
            r#"(module (import "a:b/c" "f" (func)) (func (export "_start")))"#,
            "imports f of a:b/c",
        );
        check(
            r#"(module (import "wasi_snapshot_preview1" "fly" (func)) (memory (export "memory") 1)
                (func (export "_start")))"#,
            "cannot be made a component: ",
        );
        check(
            r#"(module (memory (export "memory") 1) (func (export "_start") (param i32)))"#,
            "cannot be made a component: ",
        );
        check(
            r#"(module (@custom "component-type" "nothing") (func (export "f")))"#,
            "cannot be made a component: ",
        );
        check(
            r#"(module (memory (export "memory") 1) (func (export "_start") i32.const 1))"#,
            "cannot be made a component: ",
        );
    }

    /// Any bytes behind a header: an error, and no panic.
    #[test]
    fn damaged_modules_are_errors() {
        let program = wat::parse_str(
            r#"(module (@custom "component-type:x" "\00") (@custom "go:buildid" "x")
                (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
                (memory (export "memory") 1)
                (func (export "_start") i32.const 0 call $exit))"#,
        )
        .unwrap();
        for at in 8..program.len() {
            let _ = componentize("x.wasm", program.get(..at).unwrap());
            let mut damaged = program.clone();
            damaged[at] ^= 0x55;
            let _ = componentize("x.wasm", &damaged);
        }
    }
}
