//! Settings of the whole process, which a program may make and a library may not.

use tweedie::device::{Reading, around_reading};

/// Lets waiting threads sleep sooner. GNU OpenMP's, which LibTorch computes with, spin for some
/// milliseconds after every operation. Where anything else runs on the machine, operations wait for
/// each other's spinning threads, and work of seconds takes minutes. A spin count of 1000, OpenMP's
/// own choice where it knows that processors are short, costs next to nothing on a quiet machine
/// (docs/benchmarks.md).
///
/// OpenMP reads its settings as it is loaded, before `main`; so the program starts itself anew,
/// once, with the setting in its environment. Call it before anything else is done. Does nothing
/// where the user has set `GOMP_SPINCOUNT` or `OMP_WAIT_POLICY`.
pub fn let_threads_sleep() {
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        const SPINS: &str = "GOMP_SPINCOUNT";
        if [SPINS, "OMP_WAIT_POLICY"].iter().any(|name| std::env::var_os(name).is_some()) {
            return;
        }
        let mut arguments = std::env::args_os();
        if let (Ok(program), Some(name)) = (std::env::current_exe(), arguments.next())
            // not so where a loader was called by name
            && program.file_name() == std::path::Path::new(&name).file_name()
        {
            // returns only if it fails: then threads spin, as they would have
            let _ = std::process::Command::new(program)
                .arg0(name)
                .args(arguments)
                .env(SPINS, "1000")
                .exec();
        }
    }
}

/// Keeps freed memory in the process. LibTorch allocates every intermediate result anew; by default
/// glibc hands large ones back to the system at once, and the page faults of getting them again
/// cost up to a third of a training step. While large files are read they go back as they are
/// freed. Does nothing where the C library is not glibc.
pub fn keep_memory() {
    const M_TRIM_THRESHOLD: i32 = -1;
    set(M_TRIM_THRESHOLD, i32::MAX);
    set(M_MMAP_THRESHOLD, KEEP_BELOW);
    around_reading(|moment| {
        let blocks = match moment {
            Reading::Begins => GIVEN_BACK,
            Reading::Ends => KEEP_BELOW,
        };
        set(M_MMAP_THRESHOLD, blocks);
    });
}

/// Blocks of so many bytes are mapped one by one, so that they go back when they are freed.
const M_MMAP_THRESHOLD: i32 = -3;
/// Blocks of so many bytes go back to the system while large files are read.
const GIVEN_BACK: i32 = 1 << 20;
/// Blocks of fewer bytes are kept.
const KEEP_BELOW: i32 = 1 << 30;

/// Sets a parameter of the C library's allocator.
fn set(parameter: i32, value: i32) {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        #[allow(unsafe_code)] // no safe binding exists
        unsafe extern "C" {
            fn mallopt(parameter: i32, value: i32) -> i32;
        }
        // SAFETY: a documented setting of the allocator, one word that later allocations read
        #[allow(unsafe_code)]
        unsafe {
            mallopt(parameter, value);
        }
    }
    let _ = (parameter, value);
}
