//! What stands in for the standard library in a runner. A runner is beside every composed
//! handler, and the standard library would be most of it: what prints a panic, for
//! example.
#![no_std]

extern crate alloc;

use alloc::alloc::{alloc, realloc};
use core::alloc::Layout;
use core::cell::RefCell;
use core::panic::PanicInfo;
use core::ptr;
use dlmalloc::GlobalDlmalloc;

#[global_allocator]
static ALLOCATOR: GlobalDlmalloc = GlobalDlmalloc;

// What the compiler calls to copy and to compare bytes. On this target
// `compiler_builtins` leaves that to libc.
#[link(name = "c")]
unsafe extern "C" {}

/// What the canonical ABI calls for room. libc has the same over an allocator of its own.
///
/// # Safety
/// As the canonical ABI says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cabi_realloc(
    old: *mut u8,
    old_size: usize,
    align: usize,
    size: usize,
) -> *mut u8 {
    // Safety: the caller gives a size and an alignment that go together, and `old` is
    // what an earlier call has returned for `old_size`.
    let room = unsafe {
        if old_size > 0 {
            let layout = Layout::from_size_align_unchecked(old_size, align);
            realloc(old, layout, size)
        } else if size > 0 {
            alloc(Layout::from_size_align_unchecked(size, align))
        } else {
            ptr::without_provenance_mut(align)
        }
    };
    if room.is_null() {
        core::arch::wasm32::unreachable();
    }
    room
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}

/// A value of an instance, which has one thread.
pub struct Global<T>(RefCell<T>);

// Safety: a component that imports no threads has one.
unsafe impl<T> Sync for Global<T> {}

impl<T> Global<T> {
    /// Makes the value.
    pub const fn new(value: T) -> Self {
        Self(RefCell::new(value))
    }

    /// Uses it.
    pub fn with<R>(&self, using: impl FnOnce(&mut T) -> R) -> R {
        using(&mut self.0.borrow_mut())
    }
}
