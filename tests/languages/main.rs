//! Projects that `sockserve new` writes, in each language: built with the language's own
//! tools, served over loopback, and their own tests run.
//!
//! One file per language. This is a test target of its own, because the tools are large
//! and slow: `cargo test` leaves it out, `cargo test --test languages` runs it. A tool is
//! looked for in `PATH`, and in the directory that `SOCKSERVE_TOOLS` names; what needs
//! one that is missing says `skipped`.
//!
//! The rules are those of `tests/main.rs`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../harness/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "the other target uses all of it"
)]
mod harness;

// Handlers in C: the library in `sdk/c/`.
mod c;
// What the tests of all languages share: from `sockserve new` to a server.
mod project;
// Handlers in Python: the package in `sdk/python/`, against CPython's own modules.
mod python;
