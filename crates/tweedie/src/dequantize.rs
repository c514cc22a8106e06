//! Dequantisation: from the density of a model to the probability of levels.
//!
//! Integer columns and 8-bit pixels are levels, each standing for a bin. For any distribution
//! `q(y|x)` of points `y` in the bin of the level `x`,
//!
//! `ln P(x) = ln ∫_bin p(y) dy ≥ E_q[ln p(y) − ln q(y|x)]`
//!
//! (Theis et al. 2016, §3.1; Ho et al. 2019, "Flow++", eq. 11), with equality where
//! `q(y|x) ∝ p(y)`. A [`Dequantizer`] is such a `q`. It gives points in the network's units, where
//! `p` is the model's density, and the number to add to `ln p` for each row. Columns that hold no
//! levels pass through unchanged.
//!
//! ```
//! use tweedie::data::{Dataset, Dequantize, Marginals, Scaling, ScalingOptions, Values};
//! use tweedie::dequantize::{Dequantizer, Uniform};
//! use tweedie::noise::{Noise, Seed};
//!
//! # fn main() -> tweedie::Result<()> {
//! let faces = vec![1, 2, 3, 4, 5, 6];
//! let die = Dataset::of_columns(vec![("face".into(), Values::Integer(faces))])?;
//! let (marginals, dequantize) = (Marginals::Standardize, Dequantize::Integers);
//! let options = ScalingOptions { marginals, dequantize, ..ScalingOptions::default() };
//! let scaling = Scaling::fit(&die, &[0, 1, 2, 3, 4, 5], &options)?;
//! let points = Uniform::new(&scaling).dequantize(&die.values(), &mut Noise::new(Seed(0), 0..6));
//!
//! // a density that is constant over the six bins gives every face the probability 1/6
//! let end = |raw: f64| scaling.map(0).forward(raw).0;
//! let log_density = -(end(6.5) - end(0.5)).ln();
//! for offset in points.offsets {
//!     assert!((log_density + offset - (1.0_f64 / 6.0).ln()).abs() < 1e-12);
//! }
//! # Ok(())
//! # }
//! ```

mod fit;
mod truncated_normal;
mod uniform;
mod variational;

use tch::{Kind, Tensor};

use crate::choice::choices;
use crate::data::Scaling;
use crate::noise::Noise;
pub use truncated_normal::TruncatedNormal;
pub use uniform::Uniform;
pub(crate) use uniform::uniforms;
pub use variational::{Steps, Variational, VariationalConfig};

choices! {
    /// How levels become points of a density.
    pub enum Dequantization = Uniform {
        /// Even noise over the bin, as in training
        Uniform = "uniform",
        /// What `tweedie dequantize` has learned: a tighter bound
        Variational = "variational",
        /// The process's own noise up to a small time, for models trained on the levels themselves;
        /// ODE alone
        TruncatedNormal = "truncated-normal",
    }
}

/// A distribution of points within the bins of levels.
pub trait Dequantizer {
    /// Points for `levels` in the data's units, row after row, one for each stream of `noise`. A
    /// row's point depends on its levels and its stream alone.
    ///
    /// # Panics
    /// If there are not as many rows as streams.
    fn dequantize(&self, levels: &[f32], noise: &mut Noise) -> Dequantized;

    /// `τ`, where rows are `x_τ/α_τ` of the process
    /// ([`crate::likelihood::ProbabilityFlow::from_time`]) and not `x_0`.
    fn time(&self) -> Option<f64> {
        None
    }
}

/// Points within the bins of levels.
#[derive(Debug)]
pub struct Dequantized {
    /// In the network's units, `[n, d]`, f64.
    pub rows: Tensor,
    /// Nats per row to add to `ln p(rows)`: `ln |d scaled/d raw|` of columns that are no levels,
    /// minus `ln q` and the `ln bin` of those that are. The sum is, in expectation, at most
    /// `ln P(levels) − Σ ln bin`: a log-density in the data's own units, as ever, and
    /// [`Scaling::log_bins`] makes it a log-probability.
    pub offsets: Vec<f64>,
}

/// The bins of levels in the network's units, f64. A column that is no level has a bin of no width.
#[derive(Debug)]
struct Bins {
    /// `[n, d]`.
    lower: Tensor,
    /// The levels themselves, `[n, d]`.
    centre: Tensor,
    /// `[n, d]`.
    upper: Tensor,
    /// Per row, nats: `ln |d scaled/d raw|` of columns that are no levels, minus `ln bin` of those
    /// that are.
    log_units: Vec<f64>,
}

impl Bins {
    fn new(levels: &[f32], scaling: &Scaling) -> Bins {
        let d = scaling.dim();
        assert!(
            levels.len().is_multiple_of(d),
            "{} values are not rows of {d} columns",
            levels.len()
        );
        let mut ends: [Vec<f64>; 3] = Default::default();
        let mut log_units = Vec::new();
        for row in levels.chunks_exact(d) {
            let mut units = 0.0;
            for (k, &level) in row.iter().enumerate() {
                let (grid, map) = (scaling.grid(k), scaling.map(k));
                let half = grid.map_or(0.0, |grid| 0.5 * grid.bin);
                for (end, values) in [-half, 0.0, half].into_iter().zip(&mut ends) {
                    values.push(map.forward(f64::from(level) + end).0);
                }
                units += match grid {
                    Some(grid) => -grid.bin.ln(),
                    None => map.forward(level.into()).1.ln(),
                };
            }
            log_units.push(units);
        }
        let [lower, centre, upper] =
            ends.map(|values| Tensor::from_slice(&values).view([log_units.len() as i64, d as i64]));
        Bins { lower, centre, upper, log_units }
    }

    /// `columns` of the three ends, `[n, columns]`.
    fn of(&self, columns: &Tensor) -> [Tensor; 3] {
        [&self.lower, &self.centre, &self.upper].map(|end| end.index_select(1, columns))
    }

    /// The rows with `points` `[n, columns]` in `columns`, and the levels in the others.
    fn with(&self, columns: &Tensor, points: &Tensor) -> Tensor {
        self.centre.index_copy(1, columns, &points.to_kind(Kind::Double))
    }
}

/// The numbers of the columns that are levels, `[m]`.
fn level_columns(scaling: &Scaling) -> Tensor {
    let columns = scaling.level_columns().into_iter();
    Tensor::from_slice(&columns.map(|k| k as i64).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests;
