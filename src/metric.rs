//! Distances between samples and laws: pure functions of rows `[n, d]`, in f64.

mod mmd;

pub use mmd::Mmd;
