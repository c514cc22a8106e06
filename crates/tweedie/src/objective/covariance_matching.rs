//! Covariance heads by regression, under a frozen score: Optimal Covariance Matching, and what it
//! is compared with.

use tch::{Tensor, with_grad};

use super::pairs::{Pairs, times};
use super::{Objective, Trains};
use crate::choice::choices;
use crate::grid::TimeDistribution;
use crate::model::Denoiser;
use crate::noise::{Draw, Noise};
use crate::posterior::NoiseMoments;
use crate::query::Batch;
use crate::tensor::{squared_norm, vector_jacobian_product};

choices! {
    /// What the head's `G` is fitted to.
    pub enum Target = Jacobian {
        /// The score's own Jacobian: `‖(G − I) v − σ² H v‖²` with `v` of random signs and
        /// `σ² H v = −σ ∂(vᵀε̂)/∂x` by one vector–Jacobian product. Its mean over `v` is
        /// `‖G − I − σ²H‖²` in Frobenius norm (for a field whose Jacobian is symmetric), so it fits
        /// a matrix of any structure. For a diagonal `G` it is Optimal Covariance Matching's `‖(g −
        /// 1) − v ⊙ σ²Hv‖²`.
        Jacobian = "jacobian",
        /// The squared residual `(ε − ε̂)²`, coordinate by coordinate (NPR, Bao et al. 2022): the
        /// diagonal of `Cov[ε|x_t]` plus the score's squared error, by noisier targets.
        Residual = "residual",
        /// The squared noise `ε²`, coordinate by coordinate (SN, Bao et al. 2022): the head's
        /// second moment `h` is fitted, as the head gives it, before it is clamped for use, and
        /// `diag G = h − ε̂²`. It carries the score's error in `ε̂²` and the noise of `ε²`.
        SecondMoment = "second-moment",
    }
}

/// `E_t` of the regression's loss, per row, averaged over `draws`; the score is frozen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CovarianceMatching {
    /// What is fitted.
    pub target: Target,
    /// How `t` is drawn.
    pub time: TimeDistribution,
    /// Draws of (t, ε) per row.
    pub draws: usize,
}

impl Objective for CovarianceMatching {
    fn loss(&self, model: &dyn Denoiser, batch: &Batch, noise: &mut Noise) -> Tensor {
        let schedule = model.space().schedule();
        let t = times(self.time, schedule, self.draws, noise);
        let none = vec![[]; t.len()];
        let (pairs, []) = Pairs::draw(schedule, batch, t, none, noise);
        let Pairs { z, x, sigma, .. } = &pairs;
        let loss = match self.target {
            Target::Jacobian => {
                let signs = self.draws * x.size()[1] as usize;
                let v = noise.rademacher(signs, x.kind(), x.device()).view_as(x);
                // the score is evaluated once, for the product and the head
                let input = x.detach().set_requires_grad(true);
                let moments = with_grad(|| model.moments(&pairs.query().at(&input)));
                let product = vector_jacobian_product(&moments.noise, &input, &v, true) * sigma;
                squared_norm(&(moments.cov.matvec(&v) - v + product))
            }
            Target::Residual => {
                let NoiseMoments { noise, cov, .. } = model.moments(&pairs.query());
                squared_norm(&(cov.diagonal() - (z - noise.detach()).square()))
            }
            Target::SecondMoment => {
                squared_norm(&(model.moments(&pairs.query()).second_moment() - z.square()))
            }
        };
        pairs.mean(&loss)
    }

    fn draws(&self) -> usize {
        self.draws
    }

    fn noise(&self, dim: usize) -> Vec<Draw> {
        let mut draws = Pairs::noise(self.draws, dim);
        if self.target == Target::Jacobian {
            draws.push(Draw::Signs(self.draws * dim));
        }
        draws
    }

    fn trains(&self) -> Trains {
        Trains::Head
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::likelihood::mean_and_error;
    use crate::model::Space;
    use crate::noise::Seed;
    use crate::oracle::{GaussianMixture, Oracle};
    use crate::query::Query;
    use crate::schedule::{Schedule, SubVp, Ve, Vp};
    use crate::tensor::to_vec;

    /// An oracle whose `G` is off by a multiple of the identity.
    struct Shifted(Oracle, f64);

    impl Denoiser for Shifted {
        fn space(&self) -> &Space {
            self.0.space()
        }
        fn noise(&self, q: &Query) -> Tensor {
            self.0.noise(q)
        }
        fn moments(&self, q: &Query) -> NoiseMoments {
            let NoiseMoments { noise, cov, .. } = self.0.moments(q);
            NoiseMoments::new(noise, cov.affine(&1.0.into(), &self.1.into()))
        }
    }

    fn oracle(schedule: Arc<dyn Schedule>) -> Oracle {
        let mixture =
            GaussianMixture::new(&[0.4, 0.6], &[[-1.0, 0.5, 0.0], [1.0, 0.0, 0.3]], &[0.3, 0.6])
                .unwrap();
        Oracle::new(mixture, schedule)
    }

    fn losses(target: Target, model: &dyn Denoiser, x0: &Tensor) -> Vec<f64> {
        let matching = CovarianceMatching { target, time: TimeDistribution::Uniform, draws: 1 };
        to_vec(&matching.loss(
            model,
            &Batch::of(x0),
            &mut Noise::new(Seed(3), 0..x0.size()[0] as u64),
        ))
    }

    /// At the exact `G` the Jacobian's loss is 0 row by row: the sign and scale of `σ²H`. Off by
    /// `δ I` it is `δ² d`.
    #[test]
    fn the_jacobian_is_the_covariance() {
        let schedules: [Arc<dyn Schedule>; 3] =
            [Arc::new(Vp::default()), Arc::new(SubVp::default()), Arc::new(Ve::default())];
        for schedule in schedules {
            let oracle = oracle(schedule);
            let x0 = oracle.mixture.sample(200, Seed(1));
            let at = losses(Target::Jacobian, &Shifted(oracle, 0.0), &x0);
            assert!(at.iter().all(|l| *l < 1e-18), "{at:?}");
        }
        let oracle = oracle(Arc::new(Vp::default()));
        let x0 = oracle.mixture.sample(200, Seed(1));
        let off = losses(Target::Jacobian, &Shifted(oracle, 0.1), &x0);
        assert!(off.iter().all(|l| (l - 0.03).abs() < 1e-9), "{off:?}");
    }

    /// The losses on the residual and on the squared noise are least at the exact diagonal: their
    /// derivative in a shift of `G`, which is one of the second moment, is 0 there, within four
    /// standard errors, and is not at a shift of 0.1.
    #[test]
    fn squares_have_the_covariance_as_their_mean() {
        let slope = |target: Target, at: f64| {
            let h = 0.01;
            let loss = |shift| {
                let oracle = oracle(Arc::new(Vp::default()));
                let x0 = oracle.mixture.sample(20_000, Seed(1));
                losses(target, &Shifted(oracle, shift), &x0)
            };
            let differences: Vec<f64> =
                loss(at + h).iter().zip(loss(at - h)).map(|(a, b)| (a - b) / (2.0 * h)).collect();
            mean_and_error(&differences)
        };
        for target in [Target::Residual, Target::SecondMoment] {
            let (mean, error) = slope(target, 0.0);
            assert!(mean.abs() < 4.0 * error, "{target:?}: {mean} ± {error}");
            let (mean, error) = slope(target, 0.1);
            assert!(
                (mean - 0.6).abs() < 4.0 * error && error < 0.1,
                "{target:?}: {mean} ± {error}"
            );
        }
    }
}
