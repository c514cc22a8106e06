//! `tweedie._engine`: the engine for the Python package in `python/tweedie`, which is what users
//! see and what documents it.
//!
//! Rows cross the border as columns (`rows`), options as JSON of the library's own option types,
//! and long work reports to a callback and stops at Ctrl-C (`worker`).

mod density;
mod errors;
mod likelihood;
mod names;
mod oracle;
mod report;
mod rows;
mod worker;

use std::ffi::OsString;

use pyo3::prelude::*;

/// Runs the program `tweedie` with these arguments, its name first, and returns its exit code.
#[pyfunction]
fn main(arguments: Vec<OsString>) -> u8 {
    tweedie_cli::main(arguments)
}

#[pymodule]
fn _engine(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<rows::Rows>()?;
    module.add_class::<density::Density>()?;
    module.add_class::<oracle::Oracle>()?;
    module.add_function(wrap_pyfunction!(names::names, module)?)?;
    module.add_function(wrap_pyfunction!(main, module)?)?;
    module.add_function(wrap_pyfunction!(likelihood::likelihood, module)?)?;
    module.add_function(wrap_pyfunction!(likelihood::schedule, module)?)
}
