//! The papers' experiments, one file per figure or table.
pub mod cost;
pub mod mixture;
pub mod parameter_estimation;
mod table;
