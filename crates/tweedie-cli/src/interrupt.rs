//! How the program ends before its work does: exit codes, Ctrl-C and requests to terminate.

use std::sync::atomic::{AtomicBool, Ordering};

use tweedie::data::{Abandoned, abandon_outputs};

use crate::processes::interrupt_all;
use crate::terminal::tell;

/// Exit code after Ctrl-C or a request to terminate: as a shell has it for what the signal ends,
/// 128 + 2.
pub const INTERRUPTED: u8 = 130;
/// Exit code where the reader of standard output has gone: as a shell has it for what the signal
/// ends, 128 + 13.
pub const CLOSED_PIPE: u8 = 141;

/// Ends the process at once, from any thread: files being written are removed, and nothing else is
/// waited for.
pub fn exit_now(code: u8) -> ! {
    abandon_outputs();
    end(code)
}

/// Ends the process as it is, whatever its threads are doing.
pub fn end(code: u8) -> ! {
    #[cfg(unix)]
    {
        #[allow(unsafe_code)] // no safe binding exists
        unsafe extern "C" {
            fn _exit(code: i32) -> !;
        }
        // SAFETY: ends the process without running what LibTorch registered, under which its
        // threads may still be at work
        #[allow(unsafe_code)]
        unsafe {
            _exit(code.into())
        }
    }
    #[cfg(not(unix))]
    std::process::exit(code.into())
}

/// Lets Ctrl-C and requests to terminate end the program with what became of its files.
pub fn end_when_interrupted() {
    let end = || {
        if interrupt_all() {
            return;
        }
        let files = abandon_outputs();
        let mut text = String::from("stopped");
        for Abandoned { path, so_far } in &files {
            let before = if path.exists() { "is as it was" } else { "is not written" };
            text += &format!("; {} {before}", path.display());
            if let Some(so_far) = so_far {
                text += &format!(", what is done is in {}", so_far.display());
            }
        }
        tell(&text);
        exit_now(INTERRUPTED)
    };
    // without it the signal itself ends the program
    let _ = ctrlc::set_handler(end);
}

static STOP: AtomicBool = AtomicBool::new(false);

/// Whether the user wants the work to stop.
pub fn stop_requested() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// Takes note of a request to stop; whether it is the first.
pub fn request_stop() -> bool {
    !STOP.swap(true, Ordering::Relaxed)
}

/// Lets work that keeps what is done end in its own way at the first request to stop, and ends the
/// program at the second.
pub fn stop_when_interrupted() {
    let handler = || {
        if !request_stop() {
            abandon_outputs();
            tell("stopped at once");
            exit_now(INTERRUPTED)
        }
    };
    // without it the signal itself ends the program
    let _ = ctrlc::set_handler(handler);
}
