//! The papers' experiments, one file per figure or table.
pub mod cost;
pub mod few_steps;
pub mod hessian_ablation;
pub mod image_grid;
pub mod images;
pub mod mixture;
pub mod parameter_estimation;
mod table;
