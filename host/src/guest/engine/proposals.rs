//! Which proposals of WebAssembly a component may use.
//!
//! The list names what is on. So a proposal that a later wasmtime adds stays off
//! until somebody has examined it. On are the proposals that the compilers of
//! components use: Rust, C and Go by default; Python and JavaScript, whose engines
//! are C++ and Rust, with bulk memory, SIMD, tail calls and several memories. All
//! others are off, because each proposal is code of wasmtime that a hostile
//! component can reach. Off are garbage collection and what needs it (typed
//! function references, exceptions), threads and shared memories, 64-bit memories,
//! stack switching, and the parts of the component model that no contract uses.
//!
//! The crate features `gc` and `threads` of wasmtime stay on, so that these
//! proposals can be switched off here. Built without the features, wasmtime 48.0.8
//! can be made to abort by a component (RUSTSEC-2026-0570).

use wasmtime::WasmFeatures;

/// Returns every proposal that is on.
pub(super) fn enabled(concurrency: bool) -> WasmFeatures {
    let core = WasmFeatures::WASM2
        | WasmFeatures::EXTENDED_CONST
        | WasmFeatures::MULTI_MEMORY
        | WasmFeatures::RELAXED_SIMD
        | WasmFeatures::TAIL_CALL;
    let mut enabled = core | WasmFeatures::COMPONENT_MODEL;
    // The streams and futures of 0.3, which a 0.2 contract does not use.
    enabled.set(WasmFeatures::CM_ASYNC, concurrency);
    // No references to garbage-collected values.
    enabled.remove(WasmFeatures::GC_TYPES);
    enabled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_needed_is_off() {
        let off = WasmFeatures::GC
            | WasmFeatures::GC_TYPES
            | WasmFeatures::FUNCTION_REFERENCES
            | WasmFeatures::EXCEPTIONS
            | WasmFeatures::LEGACY_EXCEPTIONS
            | WasmFeatures::THREADS
            | WasmFeatures::SHARED_EVERYTHING_THREADS
            | WasmFeatures::STACK_SWITCHING
            | WasmFeatures::MEMORY64
            | WasmFeatures::CUSTOM_PAGE_SIZES
            | WasmFeatures::WIDE_ARITHMETIC
            | WasmFeatures::CM_ASYNC_STACKFUL
            | WasmFeatures::CM_MORE_ASYNC_BUILTINS
            | WasmFeatures::CM_THREADING
            | WasmFeatures::CM_ERROR_CONTEXT
            | WasmFeatures::CM_FIXED_LENGTH_LISTS
            | WasmFeatures::CM_GC
            | WasmFeatures::CM_MAP
            | WasmFeatures::CM64;
        for concurrency in [false, true] {
            assert!(!enabled(concurrency).intersects(off));
            assert_eq!(
                enabled(concurrency).contains(WasmFeatures::CM_ASYNC),
                concurrency
            );
        }
    }
}
