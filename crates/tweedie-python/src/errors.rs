//! The library's errors as Python's exceptions.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::exceptions::{PyKeyboardInterrupt, PyOSError, PyRuntimeError, PyValueError};
use pyo3::{PyErr, PyResult, Python};
use tweedie::Error;
use tweedie::error::panic_text;

/// What is at fault decides: the request a `ValueError`, the system an `OSError`, the work a
/// `RuntimeError`.
pub fn exception(error: Error) -> PyErr {
    let text = error.to_string();
    match error {
        Error::Interrupted(_) => PyKeyboardInterrupt::new_err(text),
        Error::Io { .. } => PyOSError::new_err(text),
        other if other.is_request() => PyValueError::new_err(text),
        _ => PyRuntimeError::new_err(text),
    }
}

/// Options of the library's own types, from their JSON.
pub fn options<T: serde::de::DeserializeOwned>(json: &str) -> Result<T, PyErr> {
    serde_json::from_str(json).map_err(|error| {
        // without its place in JSON that no user has written
        let text = error.to_string();
        let text = text.split(" at line ").next().unwrap_or_default();
        PyValueError::new_err(format!("options: {text}"))
    })
}

/// What `work` returns, done while other threads of Python run. A panic is a `RuntimeError`.
pub fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> PyResult<T> + Send) -> PyResult<T> {
    let done = py.detach(|| catch_unwind(AssertUnwindSafe(work)));
    done.unwrap_or_else(|panic| Err(internal(&*panic)))
}

/// The exception for a panic.
pub fn internal(panic: &(dyn Any + Send)) -> PyErr {
    let text = panic_text(panic);
    let remedy = "please report it with the call that led here";
    PyRuntimeError::new_err(format!("internal: {text}; {remedy}"))
}
