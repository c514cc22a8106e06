//! Plots and the HTML page about a run: typed results in, text out.

pub mod plot;
pub mod report;
pub mod table;
