//! Traces of the engine's operators and kernels, by LibTorch's profiler.
//!
//! ```
//! use tweedie::profile::Profile;
//! use tweedie::tch::{Device, Kind, Tensor};
//!
//! # fn main() -> tweedie::Result<()> {
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path().join("trace.json");
//! let profile = Profile::begin()?;
//! let x = Tensor::ones([64, 64], (Kind::Float, Device::Cpu));
//! let _ = x.matmul(&x);
//! profile.write(&path)?;
//! // for Perfetto, or chrome://tracing
//! assert!(std::fs::read_to_string(&path).unwrap().contains("aten::matmul"));
//! # Ok(())
//! # }
//! ```

#![allow(unsafe_code)] // functions of C, each with its reason beside it

use std::ffi::c_char;
use std::path::Path;

use crate::native::{attempt, text};
use crate::{Error, Result};

unsafe extern "C" {
    fn tweedie_profile_begin(error: *mut c_char) -> bool;
    fn tweedie_profile_end(path: *const c_char, error: *mut c_char) -> bool;
}

/// A recording under way, of the thread that has begun it. There is one at a time in a process.
#[must_use = "a recording that is not written slows down what is recorded"]
pub struct Profile {
    /// It ends on its own thread.
    _of_thread: std::marker::PhantomData<*const ()>,
}

impl Profile {
    /// Begins to record.
    ///
    /// # Errors
    /// [`Error::Numeric`] if the profiler is at work already.
    pub fn begin() -> Result<Profile> {
        // SAFETY: the buffer outlives the call
        let begun = attempt(|error| unsafe { tweedie_profile_begin(error) });
        begun.map_err(|problem| failed(&problem))?;
        Ok(Profile { _of_thread: std::marker::PhantomData })
    }

    /// Ends the recording and writes the trace, JSON for Perfetto or `chrome://tracing`.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub fn write(self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let name = text(&path.to_string_lossy());
        // SAFETY: the name ends in a zero byte; the buffer outlives the call
        let ended = attempt(|error| unsafe { tweedie_profile_end(name.as_ptr(), error) });
        ended.map_err(|problem| failed(&problem))?;
        std::fs::metadata(path).map(drop).map_err(Error::io(path))
    }
}

fn failed(problem: &str) -> Error {
    Error::numeric(format!("LibTorch's profiler: {problem}"), "go on without a trace")
}
