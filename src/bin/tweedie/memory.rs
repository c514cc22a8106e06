//! When there is no memory left for the program's own data: the same line as where LibTorch has none, and no crash.

#[cfg(unix)]
pub use unix::answer_failures;

/// Does nothing where there are no signals.
#[cfg(not(unix))]
pub fn answer_failures() {}

/// What to do when memory is short.
pub const OUT_OF_MEMORY: &str = "error: out of memory; give a smaller --batch-size (train: with --accumulation for steps as \
     large, and --resume to go on from the last checkpoint), fewer rows or draws, a smaller network, or --precision bf16 on a GPU";

#[cfg(unix)]
#[allow(unsafe_code)] // an allocator and a signal's handler are unsafe by their nature
mod unix {
    use std::alloc::{GlobalAlloc, Layout, System};
    use std::cell::Cell;

    use super::OUT_OF_MEMORY;

    /// The system's allocator, which remembers whether a request of the thread has failed. It still answers with null, so that
    /// whoever asks with `try_reserve` has an error of its own; where nobody does, Rust aborts.
    struct Watched;

    #[global_allocator]
    static ALLOCATOR: Watched = Watched;

    thread_local! {
        static FAILED: Cell<bool> = const { Cell::new(false) };
    }

    fn noted(pointer: *mut u8) -> *mut u8 {
        if pointer.is_null() {
            // a thread that is ending has no such cell
            let _ = FAILED.try_with(|failed| failed.set(true));
        }
        pointer
    }

    // SAFETY: every request goes to the system's allocator as it is, and its answer comes back as it is.
    unsafe impl GlobalAlloc for Watched {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            noted(unsafe { System.alloc(layout) })
        }

        unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
            noted(unsafe { System.alloc_zeroed(layout) })
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            unsafe { System.dealloc(pointer, layout) }
        }

        unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
            noted(unsafe { System.realloc(pointer, layout, size) })
        }
    }

    unsafe extern "C" {
        fn signal(number: i32, handler: usize) -> usize;
        fn write(file: i32, bytes: *const u8, count: usize) -> isize;
        fn _exit(code: i32) -> !;
    }

    const SIGABRT: i32 = 6;

    /// Called in the thread that aborts. Any other abort goes on as it would.
    extern "C" fn on_abort(_: i32) {
        if FAILED.try_with(Cell::get).unwrap_or(false) {
            // SAFETY: both may be called in a signal's handler, and the text is static
            unsafe {
                write(2, OUT_OF_MEMORY.as_ptr(), OUT_OF_MEMORY.len());
                write(2, b"\n".as_ptr(), 1);
                _exit(1)
            }
        }
    }

    /// Makes an abort after a failed allocation end with the line, and exit code 1.
    pub fn answer_failures() {
        // SAFETY: the handler calls only what a handler may
        unsafe {
            signal(SIGABRT, on_abort as extern "C" fn(i32) as usize);
        }
    }
}
