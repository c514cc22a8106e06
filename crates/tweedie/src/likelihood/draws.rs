//! Lower bounds that are means of independent draws.

use tch::no_grad;

use super::{Claim, Estimate, mean_and_error, without_number};
use crate::noise::{Noise, Seed};
use crate::query::Batch;

/// A lower bound of which every row has some draws.
pub(super) struct LowerBound<'a> {
    /// The estimator with its settings, for people.
    pub estimator: String,
    /// Draws per row.
    pub draws: usize,
    /// Network evaluations of a draw.
    pub evaluations: usize,
    /// Why a row may have no number, where it is not that it is too far out.
    pub otherwise: &'a str,
}

impl LowerBound<'_> {
    /// The mean over draws of what `draw` gives for the rows of `batch`, nats `[b]`; row `i` draws
    /// from the stream `first_row + i` of `seed`.
    pub fn estimate(
        self,
        batch: &Batch,
        (seed, first_row): (Seed, u64),
        mut draw: impl FnMut(&mut Noise) -> Vec<f64>,
    ) -> Estimate {
        let rows = batch.len();
        let mut noise = Noise::new(seed, first_row..first_row + rows as u64);
        let mut all: Vec<Vec<f64>> = vec![Vec::with_capacity(self.draws); rows];
        no_grad(|| {
            for _ in 0..self.draws {
                let values = draw(&mut noise);
                all.iter_mut().zip(values).for_each(|(of_row, value)| of_row.push(value));
            }
        });
        let (mut values, std_errors): (Vec<f64>, Vec<f64>) =
            all.iter().map(|of_row| mean_and_error(of_row)).unzip();
        let flags = without_number(&mut values, &batch.x, self.otherwise);
        Estimate {
            claim: Claim::LowerBound,
            estimator: self.estimator,
            values,
            offsets: vec![0.0; rows],
            std_errors,
            draws: self.draws,
            evaluations: (self.evaluations * self.draws) as f64,
            flags,
        }
    }
}
