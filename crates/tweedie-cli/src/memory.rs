//! No memory left: one line and exit code 1, as for everything else that fails, instead of Rust's
//! abort.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;

/// What to do about it.
pub const OUT_OF_MEMORY: &str = "error: out of memory; give a smaller --batch-size (train: with \
--accumulation for steps as large, and --resume to go on from the last checkpoint), a smaller \
network, or --precision bf16 on a GPU; of data: fewer rows or columns, or a smaller --size of \
images";

/// Whether LibTorch said that there was no memory left: on a GPU, on the CPU.
pub fn is_out_of_memory(message: &str) -> bool {
    ["out of memory", "can't allocate memory", "bad_alloc"]
        .iter()
        .any(|text| message.contains(text))
}

/// The system's allocator, which ends the program where it has nothing left.
struct Reporting;

fn checked(pointer: *mut u8) -> *mut u8 {
    if pointer.is_null() && !tweedie::error::is_trying() {
        // nothing here allocates
        let mut out = std::io::stderr();
        let _ = out.write_all(OUT_OF_MEMORY.as_bytes()).and_then(|()| out.write_all(b"\n"));
        crate::interrupt::end(1);
    }
    pointer
}

#[allow(unsafe_code)] // every call is passed on to the system's allocator as it is
unsafe impl GlobalAlloc for Reporting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        checked(unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        checked(unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        checked(unsafe { System.realloc(pointer, layout, size) })
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Reporting = Reporting;
