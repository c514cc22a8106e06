//! Devices by name, and LibTorch's CUDA library, which has to be opened at run time.
//!
//! The linker drops `libtorch_cuda.so`, to which nothing refers, so that one binary serves machines with and without a
//! GPU. Where the library lies beside `libtorch_cpu.so` or on the library path, opening it registers CUDA.

use std::sync::atomic::{AtomicBool, Ordering};

use tch::{Cuda, Device};

use crate::{Error, Result};

/// `cpu`, `cuda` or `cuda:N`. A CUDA device is opened and checked; the error says what is missing.
pub fn open(name: &str) -> Result<Device> {
    let index = match name {
        "cpu" => return Ok(Device::Cpu),
        "cuda" => Some(0),
        _ => name.strip_prefix("cuda:").and_then(|n| n.parse::<usize>().ok()),
    };
    let fail =
        |problem: String, remedy: &str| Error::config("--device", format!("{name}: {problem}"), remedy);
    let Some(index) = index else {
        return Err(fail("not a device".into(), "give cpu, cuda or cuda:N"));
    };
    if let Err(problem) = open_cuda_library() {
        return Err(fail(
            problem,
            "install PyTorch 2.11 with CUDA and put its lib directory on LD_LIBRARY_PATH, or use --device cpu",
        ));
    }
    let count = if Cuda::is_available() { Cuda::device_count() as usize } else { 0 };
    if index >= count {
        let remedy = if count == 0 {
            "check the NVIDIA driver (nvidia-smi), or use --device cpu"
        } else {
            "give a smaller number"
        };
        return Err(fail(format!("LibTorch sees {count} CUDA devices"), remedy));
    }
    Cuda::cudnn_set_benchmark(true);
    Ok(Device::Cuda(index))
}

/// Lets waiting threads sleep sooner. GNU OpenMP's, which LibTorch computes with, spin for some milliseconds after
/// every operation. Where anything else runs on the machine, operations wait for each other's spinning threads, and
/// work of seconds takes minutes. A spin count of 1000, OpenMP's own choice where it knows that processors are short,
/// costs next to nothing on a quiet machine (docs/benchmarks.md).
///
/// OpenMP reads its settings as it is loaded, before `main`; so the program starts itself anew, once, with the setting
/// in its environment. Call it before anything else is done. Does nothing where the user has set `GOMP_SPINCOUNT` or
/// `OMP_WAIT_POLICY`.
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
            let _ = std::process::Command::new(program).arg0(name).args(arguments).env(SPINS, "1000").exec();
        }
    }
}

/// Keeps freed memory in the process. LibTorch allocates every intermediate result anew; by default glibc hands large
/// ones back to the system at once, and the page faults of getting them again cost up to a third of a training step.
/// Call it once, first thing in a program. Does nothing where the C library is not glibc.
pub fn keep_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const M_TRIM_THRESHOLD: i32 = -1;
        #[allow(unsafe_code)] // no safe binding exists
        unsafe extern "C" {
            fn mallopt(parameter: i32, value: i32) -> i32;
        }
        // SAFETY: a documented setting of the allocator, set before other threads exist
        #[allow(unsafe_code)]
        unsafe {
            mallopt(M_TRIM_THRESHOLD, i32::MAX);
        }
    }
    map_blocks_from(KEEP_BELOW);
    KEPT.store(true, Ordering::Relaxed);
}

/// Does `work`, which takes large blocks of memory for a while, so that they go back to the system as each is freed, though
/// [`keep_memory`] was called: reading large files, before the work whose memory is to be kept.
pub fn without_keeping_memory<T>(work: impl FnOnce() -> T) -> T {
    if !KEPT.load(Ordering::Relaxed) {
        return work();
    }
    map_blocks_from(1 << 20);
    let done = work();
    map_blocks_from(KEEP_BELOW);
    done
}

/// Whether freed memory is kept.
static KEPT: AtomicBool = AtomicBool::new(false);
/// Blocks of fewer bytes are kept.
const KEEP_BELOW: i32 = 1 << 30;

/// Has blocks of so many bytes mapped one by one, so that they go back when they are freed.
fn map_blocks_from(bytes: i32) {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const M_MMAP_THRESHOLD: i32 = -3;
        #[allow(unsafe_code)] // no safe binding exists
        unsafe extern "C" {
            fn mallopt(parameter: i32, value: i32) -> i32;
        }
        // SAFETY: a documented setting of the allocator, one word that later allocations read
        #[allow(unsafe_code)]
        unsafe {
            mallopt(M_MMAP_THRESHOLD, bytes);
        }
    }
    let _ = bytes;
}

#[cfg(unix)]
#[allow(unsafe_code)] // loading a library runs its initialisers; nothing safe does it
fn open_cuda_library() -> std::result::Result<(), String> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    if Cuda::is_available() {
        return Ok(());
    }
    let name = "libtorch_cuda.so";
    let beside = beside_libtorch().map(|dir| dir.join(name)).filter(|path| path.exists());
    let tries = beside.into_iter().chain([std::path::PathBuf::from(name)]);
    let mut problem = String::new();
    for path in tries {
        // SAFETY: LibTorch's own library, of the LibTorch that is already loaded; its initialisers register kernels.
        match unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_GLOBAL) } {
            Ok(library) => {
                // it must stay for the life of the process
                std::mem::forget(library);
                return Ok(());
            }
            Err(_) => {
                problem = format!("{name} of LibTorch is not beside libtorch_cpu.so nor on the library path")
            }
        }
    }
    Err(problem)
}

#[cfg(not(unix))]
fn open_cuda_library() -> std::result::Result<(), String> {
    Ok(())
}

/// The directory of the `libtorch_cpu.so` that this process has loaded.
#[cfg(unix)]
fn beside_libtorch() -> Option<std::path::PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let path = maps
        .lines()
        .find_map(|line| line.find('/').map(|i| &line[i..]).filter(|p| p.ends_with("/libtorch_cpu.so")))?;
    std::path::Path::new(path).parent().map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(open("cpu").unwrap(), Device::Cpu);
        let message = open("gpu").unwrap_err().to_string();
        assert!(message.contains("gpu") && message.contains("cuda:N"), "{message}");
    }
}
