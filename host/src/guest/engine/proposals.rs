//! Which proposals of WebAssembly a component may use.
//!
//! The list says what is on, so that what a later wasmtime adds stays off until
//! somebody has looked at it. On is what the compilers of components make: Rust,
//! C and Go as they come, Python and JavaScript (whose engines are C++ and Rust)
//! with bulk memory, SIMD, tail calls and several memories. The rest is off,
//! because each proposal is code of wasmtime that a hostile component can reach:
//! garbage collection and what needs it (typed function references, exceptions),
//! threads and shared memories, 64-bit memories, stack switching, and of the
//! component model what no contract uses.

use wasmtime::WasmFeatures;

/// Every proposal that is on.
pub(super) fn enabled(concurrency: bool) -> WasmFeatures {
    let core = WasmFeatures::WASM2
        | WasmFeatures::EXTENDED_CONST
        | WasmFeatures::MULTI_MEMORY
        | WasmFeatures::RELAXED_SIMD
        | WasmFeatures::TAIL_CALL;
    let mut enabled = core | WasmFeatures::COMPONENT_MODEL;
    // The streams and futures of 0.3. A 0.2 contract has no use for them.
    enabled.set(WasmFeatures::CM_ASYNC, concurrency);
    // No reference to what a garbage collector would manage.
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
