//! Likelihood Matching with the Hessian held at 0, which trains a score alone.

use tch::Tensor;

use super::{LikelihoodMatching, Objective, ScoreGradient, Trains};
use crate::model::{Denoiser, Space};
use crate::noise::{Draw, Noise};
use crate::posterior::NoiseMoments;
use crate::query::{Batch, Query};
use crate::sym_matrix::SymMatrix;

/// The quasi-likelihood with `H = 0`, that is `G = I`, whatever covariance the model has
/// (Likelihood Matching, §5.3): every transition's covariance is the identity in units of its
/// noise, and what is left to train is the score. In marginal form `ℓ = ½ ρ ‖ε − ε̂‖²` and a
/// constant: score matching with the weights of random transitions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ZeroHessian(LikelihoodMatching);

impl ZeroHessian {
    /// Of Likelihood Matching as it is otherwise; its score is trained by the quasi-likelihood.
    pub fn new(of: LikelihoodMatching) -> ZeroHessian {
        ZeroHessian(LikelihoodMatching { score: ScoreGradient::Joint, ..of })
    }
}

impl Objective for ZeroHessian {
    fn loss(&self, model: &dyn Denoiser, batch: &Batch, noise: &mut Noise) -> Tensor {
        self.0.loss(&Held(model), batch, noise)
    }

    fn draws(&self) -> usize {
        self.0.draws()
    }

    fn noise(&self, dim: usize) -> Vec<Draw> {
        self.0.noise(dim)
    }

    fn trains(&self) -> Trains {
        Trains::Score
    }
}

/// A model with `G = I`.
struct Held<'a>(&'a dyn Denoiser);

impl Denoiser for Held<'_> {
    fn space(&self) -> &Space {
        self.0.space()
    }

    fn noise(&self, q: &Query) -> Tensor {
        self.0.noise(q)
    }

    fn moments(&self, q: &Query) -> NoiseMoments {
        NoiseMoments::new(self.0.noise(q), SymMatrix::scalar(&1.0.into(), q.x))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::grid::TimeDistribution;
    use crate::noise::Seed;
    use crate::objective::LmForm;
    use crate::oracle::{GaussianMixture, Oracle};
    use crate::schedule::Vp;

    /// Data of a standard deviation of 10⁶ have `G = I` to 10⁻⁷ at every time, so that both losses
    /// agree on the same draws; with the data's true covariance they do not.
    #[test]
    fn is_the_quasi_likelihood_of_the_widest_data() {
        for form in [LmForm::Path, LmForm::Marginal] {
            let score = ScoreGradient::Joint;
            let lm =
                LikelihoodMatching { transitions: 3, form, time: TimeDistribution::Uniform, score };
            let gap = |sd: f64| {
                let data = GaussianMixture::new(&[1.0], &[[0.0, 0.0]], &[sd]).unwrap();
                let oracle = Oracle::new(data, Arc::new(Vp::default()));
                let x0 = oracle.mixture.sample(20, Seed(0));
                let draws = || Noise::new(Seed(1), 0..20);
                let free = lm.loss(&oracle, &Batch::of(&x0), &mut draws());
                let held = ZeroHessian::new(lm).loss(&oracle, &Batch::of(&x0), &mut draws());
                (free - held).abs().max().double_value(&[])
            };
            assert!(gap(1e6) < 1e-5, "{form:?}: {}", gap(1e6));
            assert!(gap(0.1) > 0.1, "{form:?}: {}", gap(0.1));
        }
    }
}
