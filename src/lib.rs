//! Likelihood-trained diffusion models.
pub mod baseline;
pub mod covariance;
pub mod data;
pub mod device;
pub mod error;
pub mod experiment;
pub mod gaussian;
pub mod grid;
pub mod likelihood;
pub mod metric;
pub mod model;
pub mod noise;
pub mod objective;
pub mod ode;
pub mod oracle;
pub mod plot;
pub mod report;
pub mod run;
pub mod sample;
pub mod schedule;
pub mod sym_matrix;
pub mod train;
pub mod tweedie;

pub use error::{Error, Result};
