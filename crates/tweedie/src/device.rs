//! Devices by name, and LibTorch's CUDA library, which has to be opened at run time.
//!
//! The linker drops `libtorch_cuda.so`, to which nothing refers, so that one binary serves machines
//! with and without a GPU. Where the library lies beside `libtorch_cpu.so` or on the library path,
//! opening it registers CUDA. It has to be opened before any other call about CUDA: LibTorch keeps
//! its answer to the first such call for the whole process, and without the library that answer is
//! "no devices".
//!
//! ```
//! use tweedie::device;
//! use tweedie::tch::Device;
//!
//! # fn main() -> tweedie::Result<()> {
//! assert_eq!(device::open("cpu")?, Device::Cpu);
//! let error = device::open("gpu").unwrap_err();
//! assert_eq!(error.to_string(), "device: gpu: not a device; give cpu, cuda or cuda:N");
//! # Ok(())
//! # }
//! ```

use std::sync::OnceLock;

use tch::{Cuda, Device};

use crate::{Error, Result};

/// `cpu`, `cuda` or `cuda:N`. A CUDA device is opened and checked; the error says what is missing.
///
/// Call it before anything else that may ask LibTorch about CUDA, seeding its generator included:
/// a query before the CUDA library is open finds "no devices", and so does every later one
/// it.
pub fn open(name: &str) -> Result<Device> {
    open_with(&LibTorch, name)
}

/// What of LibTorch a device takes; tests watch the order of the calls.
trait Runtime {
    /// Opens the CUDA library; an error is the loader's own reason.
    fn open_cuda_library(&self) -> std::result::Result<(), String>;
    /// How many CUDA devices LibTorch sees. Never to be called before the library is open.
    fn cuda_devices(&self) -> usize;
    /// Lets cuDNN choose its algorithms by trial.
    fn prefer_fast_algorithms(&self);
}

/// LibTorch itself: the only place of the crate that asks about CUDA.
struct LibTorch;

impl Runtime for LibTorch {
    fn open_cuda_library(&self) -> std::result::Result<(), String> {
        open_cuda_library()
    }

    fn cuda_devices(&self) -> usize {
        if Cuda::is_available() { Cuda::device_count() as usize } else { 0 }
    }

    fn prefer_fast_algorithms(&self) {
        Cuda::cudnn_set_benchmark(true);
    }
}

fn open_with(runtime: &dyn Runtime, name: &str) -> Result<Device> {
    let index = match name {
        "cpu" => return Ok(Device::Cpu),
        "cuda" => Some(0),
        _ => name.strip_prefix("cuda:").and_then(|n| n.parse::<usize>().ok()),
    };
    let fail = |problem: String, remedy: &str| {
        Error::config("device", format!("{name}: {problem}"), remedy)
    };
    let Some(index) = index else {
        return Err(fail("not a device".into(), "give cpu, cuda or cuda:N"));
    };
    if let Err(problem) = runtime.open_cuda_library() {
        return Err(fail(
            problem,
            "install PyTorch 2.11 with CUDA and put its lib directory on LD_LIBRARY_PATH, or use \
             device = cpu",
        ));
    }
    let count = runtime.cuda_devices();
    if index >= count {
        let remedy = if count == 0 {
            "check the NVIDIA driver (nvidia-smi), or use device = cpu"
        } else {
            "give a smaller number"
        };
        return Err(fail(format!("LibTorch sees {count} CUDA devices"), remedy));
    }
    runtime.prefer_fast_algorithms();
    Ok(Device::Cuda(index))
}

/// What a program does before and after large files are read.
static AROUND_READING: OnceLock<fn(Reading)> = OnceLock::new();

/// A moment of [`around_reading`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Large blocks of memory will be taken and freed.
    Begins,
    /// They are freed.
    Ends,
}

/// Has `hook` called around the reading of large files: a program that keeps freed memory can give
/// it back meanwhile. The first hook stays.
pub fn around_reading(hook: fn(Reading)) {
    let _ = AROUND_READING.set(hook);
}

/// Does `work`, which reads large files, between the moments of [`around_reading`].
pub(crate) fn while_reading<T>(work: impl FnOnce() -> T) -> T {
    let tell = |moment| AROUND_READING.get().into_iter().for_each(|hook| hook(moment));
    tell(Reading::Begins);
    let done = work();
    tell(Reading::Ends);
    done
}

#[cfg(unix)]
#[allow(unsafe_code)] // loading a library runs its initialisers; nothing safe does it
fn open_cuda_library() -> std::result::Result<(), String> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    let name = "libtorch_cuda.so";
    let beside = beside_libtorch().map(|dir| dir.join(name)).filter(|path| path.exists());
    let tries = beside.into_iter().chain([std::path::PathBuf::from(name)]);
    let mut reasons: Vec<String> = Vec::new();
    for path in tries {
        // SAFETY: LibTorch's own library, of the LibTorch that is already loaded; its initialisers
        // register kernels.
        match unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_GLOBAL) } {
            Ok(library) => {
                // it must stay for the life of the process
                std::mem::forget(library);
                return Ok(());
            }
            Err(reason) => {
                let reason = one_line(&reason);
                if !reasons.contains(&reason) {
                    reasons.push(reason);
                }
            }
        }
    }
    Err(format!("LibTorch's CUDA library cannot be opened ({})", reasons.join("; ")))
}

/// The loader's own reason, which is the innermost source of an error, without line breaks.
#[cfg(unix)]
fn one_line(error: &dyn std::error::Error) -> String {
    let innermost = std::iter::successors(Some(error), |error| error.source()).last();
    innermost.unwrap_or(error).to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(not(unix))]
fn open_cuda_library() -> std::result::Result<(), String> {
    Ok(())
}

/// The directory of the `libtorch_cpu.so` that this process has loaded.
#[cfg(unix)]
fn beside_libtorch() -> Option<std::path::PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let path = maps.lines().find_map(|line| {
        line.find('/').map(|i| &line[i..]).filter(|p| p.ends_with("/libtorch_cpu.so"))
    })?;
    std::path::Path::new(path).parent().map(Into::into)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// A LibTorch with a number of devices, or without the library, that records what was called.
    struct Recorded {
        devices: std::result::Result<usize, &'static str>,
        calls: RefCell<Vec<&'static str>>,
    }

    impl Recorded {
        fn new(devices: std::result::Result<usize, &'static str>) -> Recorded {
            Recorded { devices, calls: RefCell::default() }
        }
    }

    impl Runtime for Recorded {
        fn open_cuda_library(&self) -> std::result::Result<(), String> {
            self.calls.borrow_mut().push("open");
            self.devices.map(drop).map_err(String::from)
        }
        fn cuda_devices(&self) -> usize {
            self.calls.borrow_mut().push("ask");
            self.devices.unwrap()
        }
        fn prefer_fast_algorithms(&self) {
            self.calls.borrow_mut().push("prefer");
        }
    }

    /// The library is opened before any query; without it there is none; the CPU needs
    /// neither.
    #[test]
    fn the_library_is_opened_before_it_is_queried() {
        let cases = [
            (Ok(2), "cuda:1", "Cuda(1)", vec!["open", "ask", "prefer"]),
            (Ok(0), "cuda", "sees 0 CUDA devices", vec!["open", "ask"]),
            (Ok(1), "cuda:1", "give a smaller number", vec!["open", "ask"]),
            (
                Err("libcudart.so.13: no such file"),
                "cuda",
                "libcudart.so.13: no such file",
                vec!["open"],
            ),
            (Ok(1), "cpu", "Cpu", vec![]),
        ];
        for (devices, name, said, calls) in cases {
            let runtime = Recorded::new(devices);
            let found = match open_with(&runtime, name) {
                Ok(device) => format!("{device:?}"),
                Err(error) => error.to_string(),
            };
            assert!(found.contains(said), "{name}: {found}");
            assert_eq!(*runtime.calls.borrow(), calls, "{name}");
        }
    }

    /// No other file of the crate asks about CUDA, so that nothing can ask before `open`; and this
    /// one only where that is allowed.
    #[test]
    fn nothing_else_asks_about_cuda() {
        fn sources(dir: &std::path::Path, all: &mut Vec<std::path::PathBuf>) {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => sources(&path, all),
                    false => all.push(path),
                }
            }
        }
        let mut all = Vec::new();
        sources(std::path::Path::new("src"), &mut all);
        assert!(all.len() > 100);
        // what reads LibTorch's CUDA hooks; put together here so that this list is not found itself
        let questions = [
            ["Cuda::", "is_available"],
            ["Cuda::", "device_count"],
            ["Cuda::", "cudnn_is"],
            ["cuda_if", "_available"],
            ["has_", "cuda("],
            ["version_", "cudnn"],
            ["version_", "cudart"],
        ];
        for path in all {
            let text = std::fs::read_to_string(&path).unwrap();
            for question in questions {
                let expected = match path.ends_with("device.rs") && question[1].contains("_") {
                    true if question[0] == "Cuda::" && question[1] != "cudnn_is" => 1,
                    _ => 0,
                };
                let found = text.matches(&question.concat()).count();
                assert_eq!(found, expected, "{}: {}", path.display(), question.concat());
            }
        }
    }

    /// The loader's own reason reaches the message.
    #[cfg(unix)]
    #[test]
    fn the_reason_is_kept() {
        // LibTorch for the CPU has no such library beside it
        if let Err(error) = open("cuda") {
            let text = error.to_string();
            let kept = text.contains("libtorch_cuda.so") || text.contains("CUDA devices");
            assert!(kept && !text.contains('\n'), "{text}");
        }
    }

    #[test]
    fn names() {
        assert_eq!(open("cpu").unwrap(), Device::Cpu);
        let message = open("gpu").unwrap_err().to_string();
        assert!(message.contains("gpu") && message.contains("cuda:N"), "{message}");
    }
}
