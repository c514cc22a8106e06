//! The papers' experiments, one file per figure or table.

mod clusters;
pub mod consistency;
pub mod cost;
pub mod covariance_table;
pub mod covariance_toy;
pub mod estimators;
pub mod experiment;
pub mod few_steps;
pub mod flag;
mod headed;
mod heads;
pub mod hessian_ablation;
pub mod image_grid;
pub mod images;
mod laws;
mod layout;
mod learner;
pub mod mixture;
pub mod outcome;
pub mod page;
pub mod parameter_estimation;
pub mod rademacher;
mod regression;
mod runs;
pub mod scoreflow_table;
mod table;
pub mod theory;
mod trials;
pub mod weighting;
pub mod weighting_interpolation;
pub mod weighting_variance;

use std::path::Path;

use experiment::Entry;
use tweedie::data::OutputFile;
use tweedie::{Error, Result};

/// Every experiment: a new one is a file and a line here.
pub static ALL: [Entry; 2] = [
    Entry::of::<parameter_estimation::ParameterEstimation>(),
    Entry::of::<consistency::Consistency>(),
];

/// Writes text files into `dir`, each whole or not at all.
fn write_all<N: AsRef<str>>(dir: &Path, files: &[(N, String)]) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(Error::io(dir))?;
    files.iter().try_for_each(|(name, text)| {
        OutputFile::create(dir.join(name.as_ref()))?.finish(text.as_bytes())
    })
}
