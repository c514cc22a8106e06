//! What is measured of every arm.

use tch::{Kind, Tensor};

use super::{Arm, CovarianceToy, Distribution, EXACT, JACOBIAN, Measured, Quantity, Score, Truth};
use crate::trials::{distances, distances_of, g_at, gaps, means, noised, relative_errors};
use tweedie::Result;
use tweedie::covariance::{Covariance, NoiseStatistics, Own, Reverse};
use tweedie::likelihood::mean_and_error;
use tweedie::model::Denoiser;
use tweedie::noise::Seed;
use tweedie::oracle::Oracle;
use tweedie::query::{Query, Times};
use tweedie::tensor::{squared_norm, to_vec};

/// Test rows of a distribution, and its exact model.
pub(super) struct Judge<'a> {
    toy: &'a CovarianceToy,
    distribution: Distribution,
    oracle: &'a Oracle,
    /// `[trials · rows, d]`.
    x0: Tensor,
    seed: Seed,
}

/// Largest dimension in which samples are compared: beyond, kernels of any width see little.
pub(super) const LARGEST_OF_MMD: i64 = 10;

impl<'a> Judge<'a> {
    pub(super) fn new(
        toy: &'a CovarianceToy,
        distribution: Distribution,
        oracle: &'a Oracle,
        seed: Seed,
    ) -> Judge<'a> {
        let x0 = oracle.mixture.sample(toy.trials * toy.rows, seed.derive("test rows"));
        Judge { toy, distribution, oracle, x0, seed }
    }

    /// `x_t` of the test rows.
    fn at(&self, t: f64) -> Tensor {
        let seed = self.seed.derive(&format!("noise at {t}"));
        noised(&self.x0, self.oracle.space().schedule(), t, seed)
    }

    /// The exact `G` of rows `x_t`, dense.
    fn exact(&self, x: &Tensor, t: f64) -> Tensor {
        self.oracle.moments(&Query::new(x, &Times::All(t))).cov.to_dense()
    }

    pub(super) fn truth(&self) -> Result<Truth> {
        let (exact, trials) = (&self.oracle.mixture, self.toy.trials);
        let negative: Vec<f64> = to_vec(&exact.log_density(&self.x0)).iter().map(|l| -l).collect();
        let (mut above_one, mut off_diagonal) = (Vec::new(), Vec::new());
        for &t in &self.toy.times {
            let g = self.exact(&self.at(t), t);
            let diagonal = g.diagonal(0, 1, 2);
            above_one.push(diagonal.gt(1.0).to_kind(Kind::Double).mean(None).double_value(&[]));
            let on = squared_norm(&diagonal).sum(None).double_value(&[]);
            off_diagonal.push(1.0 - on / g.square().sum(None).double_value(&[]));
        }
        let own_distance = match self.oracle.space().dim <= LARGEST_OF_MMD {
            true => distances_of(
                &exact.sample(trials * self.toy.samples, self.seed.derive("own")),
                exact,
                trials,
            ),
            false => Vec::new(),
        };
        let exact_gaps = self.toy.steps.iter().map(|&k| self.gaps(self.oracle, &Own, k));
        Ok(Truth {
            distribution: self.distribution,
            entropy: mean_and_error(&means(&negative, trials)),
            above_one,
            off_diagonal,
            exact_gaps: exact_gaps.collect::<Result<_>>()?,
            own_distance,
        })
    }

    /// The same draws for all, so that what differs is the arm.
    fn gaps(
        &self,
        model: &dyn Denoiser,
        covariance: &dyn Covariance,
        steps: usize,
    ) -> Result<Vec<f64>> {
        let seed = self.seed.derive("bounds");
        gaps(model, covariance, &self.oracle.mixture, &self.x0, steps, self.toy.trials, seed)
    }

    pub(super) fn measure(
        &self,
        score: Score,
        model: &dyn Denoiser,
        arms: &[Arm],
        statistics: &NoiseStatistics,
    ) -> Result<Vec<Measured>> {
        let (mut measured, trials) = (Vec::new(), self.toy.trials);
        let mut note = |arm: &Arm, quantity, at: f64, values| {
            measured.push(Measured {
                distribution: self.distribution,
                score,
                arm: arm.name.clone(),
                quantity,
                at,
                values,
            });
        };
        for &t in &self.toy.times {
            let x = self.at(t);
            let exact = self.exact(&x, t);
            for arm in arms.iter().filter(|arm| arm.name != EXACT) {
                let (headed, covariance) = (arm.on(model), arm.covariance(statistics)?);
                let reverse = Reverse::new(&headed, &*covariance, 1.0)?;
                let found = tch::no_grad(|| g_at(&reverse, &x.to_kind(model.space().kind), t));
                let (on, of) = (found.diagonal(), exact.diagonal(0, 1, 2));
                note(arm, Quantity::Diagonal, t, relative_errors(&on, &of, trials));
                note(arm, Quantity::Whole, t, relative_errors(&found.to_dense(), &exact, trials));
            }
        }
        // all of a Jacobian at every step is not for samplers
        for arm in arms.iter().filter(|arm| arm.name != JACOBIAN) {
            let (headed, exact) = (arm.on(model), &self.oracle.mixture);
            let covariance = arm.covariance(statistics)?;
            for &steps in &self.toy.steps {
                let at = steps as f64;
                if arm.name != EXACT {
                    note(arm, Quantity::Gap, at, self.gaps(&headed, &*covariance, steps)?);
                }
                if exact.dim() > LARGEST_OF_MMD {
                    continue;
                }
                let seed = self.seed.derive("chains");
                for (quantity, eta) in [(Quantity::Ddpm, 1.0), (Quantity::Ddim, 0.0)] {
                    // covariances of an ancestral step have no other η
                    if eta == 0.0 && covariance.is_of_a_step() {
                        continue;
                    }
                    let by = (&*covariance, eta);
                    let distances =
                        distances(&headed, by, exact, self.toy.samples, steps, trials, seed)?;
                    note(arm, quantity, at, distances);
                }
            }
        }
        Ok(measured)
    }
}
