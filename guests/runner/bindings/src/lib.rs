//! What the bindings of WASI 0.2 and 0.3 have alike. The SDK has the same macros, and this
//! crate is its file, without the standard library.
#![no_std]

#[path = "../../../sdk/src/bindings.rs"]
mod bindings;
