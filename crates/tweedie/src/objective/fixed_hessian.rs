//! Likelihood Matching under a fixed Hessian, which trains a score alone.

use tch::Tensor;

use super::{LikelihoodMatching, Objective, ScoreGradient, Trains};
use crate::choice::choices;
use crate::covariance::IdentityHessian;
use crate::model::{Denoiser, Space};
use crate::noise::{Draw, Noise};
use crate::posterior::NoiseMoments;
use crate::query::{Batch, Query};
use crate::sym_matrix::SymMatrix;

choices! {
    /// A Hessian `H = ∇² ln p_t` that is not learned; `G = I + σ² H`.
    pub enum Hessian = Zero {
        /// `H = 0`, hence `G = I`: the covariance of a score-matching sampler.
        Zero = "zero",
        /// `H = I`, hence `G = (1 + σ²) I`: the words of the paper's ablation.
        Identity = "identity",
    }
}

impl Hessian {
    /// As an equation.
    pub fn symbol(self) -> &'static str {
        match self {
            Hessian::Zero => "H = 0",
            Hessian::Identity => "H = I",
        }
    }

    /// `G` of the rows of `q`.
    fn g(self, model: &dyn Denoiser, q: &Query) -> SymMatrix {
        match self {
            Hessian::Zero => SymMatrix::scalar(&1.0.into(), q.x),
            Hessian::Identity => IdentityHessian::g(model.space().schedule(), q),
        }
    }
}

/// The quasi-likelihood under a fixed `H`, whatever covariance the model has (Likelihood Matching,
/// §5.3): what is left to train is the score. With `H = 0` every transition's covariance is the
/// identity in units of its noise, and in marginal form `ℓ = ½ ρ ‖ε − ε̂‖²` and a constant: score
/// matching with the weights of random transitions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FixedHessian {
    lm: LikelihoodMatching,
    hessian: Hessian,
}

impl FixedHessian {
    /// Likelihood Matching as `lm` is otherwise; its score is trained by the quasi-likelihood.
    pub fn new(lm: LikelihoodMatching, hessian: Hessian) -> FixedHessian {
        FixedHessian { lm: LikelihoodMatching { score: ScoreGradient::Joint, ..lm }, hessian }
    }
}

impl Objective for FixedHessian {
    fn loss(&self, model: &dyn Denoiser, batch: &Batch, noise: &mut Noise) -> Tensor {
        self.lm.loss(&Held(model, self.hessian), batch, noise)
    }

    fn draws(&self) -> usize {
        self.lm.draws()
    }

    fn noise(&self, dim: usize) -> Vec<Draw> {
        self.lm.noise(dim)
    }

    fn trains(&self) -> Trains {
        Trains::Score
    }
}

/// A model with the `G` of a fixed Hessian.
struct Held<'a>(&'a dyn Denoiser, Hessian);

impl Denoiser for Held<'_> {
    fn space(&self) -> &Space {
        self.0.space()
    }

    fn noise(&self, q: &Query) -> Tensor {
        self.0.noise(q)
    }

    fn moments(&self, q: &Query) -> NoiseMoments {
        NoiseMoments::new(self.0.noise(q), self.1.g(self.0, q))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::grid::{PathGrid, TimeDistribution};
    use crate::noise::Seed;
    use crate::objective::LmForm;
    use crate::oracle::{GaussianMixture, Oracle};
    use crate::schedule::{Schedule, Vp};

    /// Data of a standard deviation of 10⁶ have `G = I` to 10⁻⁷ at every time, so that both losses
    /// agree on the same draws; with the data's true covariance they do not.
    #[test]
    fn is_the_quasi_likelihood_of_the_widest_data() {
        for form in [LmForm::Path, LmForm::Marginal] {
            let lm = lm(form);
            let gap = |sd: f64| {
                let data = GaussianMixture::new(&[1.0], &[[0.0, 0.0]], &[sd]).unwrap();
                let oracle = Oracle::new(data, Arc::new(Vp::default()));
                let x0 = oracle.mixture.sample(20, Seed(0));
                let draws = || Noise::new(Seed(1), 0..20);
                let free = lm.loss(&oracle, &Batch::of(&x0), &mut draws());
                let held = FixedHessian::new(lm, Hessian::Zero).loss(
                    &oracle,
                    &Batch::of(&x0),
                    &mut draws(),
                );
                (free - held).abs().max().double_value(&[])
            };
            assert!(gap(1e6) < 1e-5, "{form:?}: {}", gap(1e6));
            assert!(gap(0.1) > 0.1, "{form:?}: {}", gap(0.1));
        }
    }

    /// On one transition from `ε` to `t`, row by row: with `H = I` its covariance is `B = 1 + ρσ²`
    /// in units of its noise, so that `ℓ = ½ d ln B + ½ [(1−ρ) d + ρ ‖ε − ε̂‖²]/B` in marginal
    /// form.
    #[test]
    fn the_identity_is_what_the_paper_says() {
        let schedule: &dyn Schedule = &Vp::default();
        let data = GaussianMixture::new(&[1.0], &[[0.3, -0.2]], &[0.5]).unwrap();
        let oracle = Oracle::new(data, Arc::new(Vp::default()));
        let x0 = oracle.mixture.sample(50, Seed(0));
        let lm = LikelihoodMatching { transitions: 1, ..lm(LmForm::Marginal) };
        let draws = || Noise::new(Seed(1), 0..50);
        let found =
            FixedHessian::new(lm, Hessian::Identity).loss(&oracle, &Batch::of(&x0), &mut draws());
        let mut noise = draws();
        let uniforms = noise.uniform(1);
        let z = noise.normal(2, tch::Kind::Double, tch::Device::Cpu);
        for (row, u) in uniforms.into_iter().enumerate() {
            let t = lm.time.time(schedule, u);
            let one = |x: &Tensor| x.narrow(0, row as i64, 1);
            let (alpha, sigma) = (schedule.alpha(t), schedule.sigma(t));
            let xt = one(&x0) * alpha + one(&z) * sigma;
            let error = one(&z) - oracle.noise(&Query::new(&xt, &crate::query::Times::All(t)));
            let rho = schedule.transition(schedule.epsilon(), t).k2 / schedule.sigma2(t);
            let b = 1.0 + rho * sigma * sigma;
            let square = error.square().sum(tch::Kind::Double).double_value(&[]);
            let expected = b.ln() + 0.5 * (2.0 * (1.0 - rho) + rho * square) / b;
            let found = found.double_value(&[row as i64]);
            assert!((found - expected).abs() < 1e-9, "{row}: {found} {expected}");
        }
    }

    fn lm(form: LmForm) -> LikelihoodMatching {
        LikelihoodMatching {
            transitions: 3,
            form,
            time: TimeDistribution::Uniform,
            grid: PathGrid::Random,
            score: ScoreGradient::Joint,
        }
    }
}
