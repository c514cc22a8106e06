//! The library's errors as Python's exceptions.

use pyo3::PyErr;
use pyo3::exceptions::{PyKeyboardInterrupt, PyOSError, PyRuntimeError, PyValueError};
use tweedie::Error;

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
