//! The papers' experiments, one file per figure or table.
pub mod mixture;
pub mod parameter_estimation;
