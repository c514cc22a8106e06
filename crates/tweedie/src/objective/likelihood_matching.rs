//! Likelihood Matching: the Gaussian quasi-likelihood of reverse transitions.
//!
//! For a transition from `t` to `s < t` with `ρ = k²/σ_t²` and `B = (1−ρ) I + ρ G` (Proposition 2,
//! (15)–(16)):
//!
//! - `path`: `ℓ = ½ ln det B + ½ (ε' − √ρ ε̂)ᵀ B⁻¹ (ε' − √ρ ε̂)`, `ε'` the transition's own noise
//!   along a simulated path;
//! - `marginal`: `ε'` averaged out given `(x_0, x_t)`,
//!   `ℓ = ½ ln det B + ½ [(1−ρ) tr B⁻¹ + ρ (ε − ε̂)ᵀ B⁻¹ (ε − ε̂)]`, `ε` the marginal noise: the KL
//!   term of the DDPM ELBO with a structured covariance.
//!
//! Both leave out what no parameter changes, `d ln(k/m) + ½ d ln 2π`. They have the same
//! expectation.

mod low_rank;

use tch::{Kind, Tensor};

use super::{Objective, Trains};
use crate::choice::choices;
use crate::grid::{PathGrid, TimeDistribution};
use crate::model::Denoiser;
use crate::noise::{Draw, Noise};
use crate::posterior::NoiseMoments;
use crate::query::{Batch, Coefficient, Condition, Query, Times};
use crate::schedule::{Schedule, Transition};
use crate::sym_matrix::SymMatrix;
use crate::tensor::squared_norm;

choices! {
    /// How the noise of a transition enters.
    pub enum LmForm = Marginal {
        /// Along a simulated path, as in the paper.
        Path = "path",
        /// Averaged out given the clean row and its noisy state.
        Marginal = "marginal",
    }
}

choices! {
    /// What trains the score.
    pub enum ScoreGradient = Dsm {
        /// The quasi-likelihood itself: score and head together.
        Joint = "joint",
        /// Denoising score matching on the same draws; the quasi-likelihood trains the head alone.
        Dsm = "dsm",
        /// Nothing: the score is frozen and the head is trained.
        Frozen = "frozen",
    }
}

/// Likelihood Matching with `N` transitions per path.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LikelihoodMatching {
    /// `N`.
    pub transitions: usize,
    /// Path or marginal form.
    pub form: LmForm,
    /// The clock in which the path's times are uniform.
    pub time: TimeDistribution,
    /// How they are laid in it.
    pub grid: PathGrid,
    /// What trains the score.
    pub score: ScoreGradient,
}

/// A batch of transitions, datum by datum: `b N` rows.
pub(super) struct Transitions {
    times: Times,
    condition: Option<Condition>,
    /// `ρ`, and `1 − ρ`.
    rho: Coefficient,
    rest: Coefficient,
    /// `x_t`.
    x: Tensor,
    /// The marginal noise `ε` of `x_t`.
    pub noise: Tensor,
    /// The transition's own noise `ε'`; absent in marginal form.
    own: Option<Tensor>,
}

impl Transitions {
    /// The rows `x_t` as a question to a model.
    pub fn query(&self) -> Query<'_> {
        Query::new(&self.x, &self.times).given(self.condition.as_ref())
    }
}

impl LikelihoodMatching {
    fn draw(&self, schedule: &dyn Schedule, batch: &Batch, noise: &mut Noise) -> Transitions {
        let (rows, n) = (batch.x.size()[0], self.transitions);
        let each = self.grid.uniforms(n);
        let uniforms = noise.uniform(each);
        let mut pairs = Vec::with_capacity(rows as usize * n);
        for row in 0..rows as usize {
            let uniforms = &uniforms[row * each..(row + 1) * each];
            let grid = self.grid.times(self.time, schedule, n, uniforms);
            pairs.extend(grid.windows(2).map(|w| (w[0], w[1])));
        }
        self.transitions_of(schedule, batch, pairs, noise)
    }

    /// Transitions between these times `s < t`, `N` of each row of the batch in turn.
    pub(super) fn transitions_of(
        &self,
        schedule: &dyn Schedule,
        batch: &Batch,
        pairs: Vec<(f64, f64)>,
        noise: &mut Noise,
    ) -> Transitions {
        let x0 = &batch.x;
        let (rows, d) = x0.size2().expect("rows of data");
        let n = self.transitions;
        let columns = pairs.iter().map(|&(s, t)| {
            let Transition { m, k2 } = schedule.transition(s, t);
            let rho = (k2 / schedule.sigma2(t)).min(1.0);
            [rho, 1.0 - rho, m, k2.sqrt()]
        });
        let t = pairs.iter().map(|&(_, t)| t).collect();
        let (times, [rho, rest, m, k]) = Times::with_columns(schedule, t, columns, x0.device());
        let (alpha, sigma) = times.marginal(schedule, x0.device());
        // one number for each transition of each datum
        let cube = |c: &Coefficient| c.rows(x0).view([rows, n as i64, 1]);
        let flat = |x: Tensor| x.reshape([rows * n as i64, d]);
        let (x, noise, own) = match self.form {
            LmForm::Marginal => {
                let z =
                    noise.normal(n * d as usize, x0.kind(), x0.device()).view([rows, n as i64, d]);
                let x = x0.unsqueeze(1) * cube(&alpha) + &z * cube(&sigma);
                (flat(x), flat(z), None)
            }
            LmForm::Path => {
                // x_{t_0}, then each transition with its own noise; in units of the noise, so that
                // x_0 drops out
                let z = noise.normal((n + 1) * d as usize, x0.kind(), x0.device());
                let z = z.view([rows, n as i64 + 1, d]);
                let (m, k) = (cube(&m), cube(&k));
                let mut total = z.select(1, 0) * schedule.sigma(schedule.epsilon());
                let along: Vec<Tensor> = (0..n as i64)
                    .map(|i| {
                        total = &total * m.select(1, i) + z.select(1, i + 1) * k.select(1, i);
                        total.shallow_clone()
                    })
                    .collect();
                let total = Tensor::stack(&along, 1);
                let x = x0.unsqueeze(1) * cube(&alpha) + &total;
                let own = flat(z.narrow(1, 1, n as i64));
                (flat(x), flat(total / cube(&sigma)), Some(own))
            }
        };
        let condition = batch.condition.as_ref().map(|condition| condition.repeat(n));
        Transitions { times, condition, rho, rest, x, noise, own }
    }

    /// `ℓ` per transition, `[b N]`.
    fn quasi_likelihood(&self, at: &Transitions, moments: &NoiseMoments) -> Tensor {
        let NoiseMoments { noise, cov, .. } = moments;
        let (rho, rest) = (at.rho.rows(&at.x), at.rest.rows(&at.x));
        // ½ [ln det B + a tr B⁻¹ + c eᵀB⁻¹e]
        let (e, a, c) = match &at.own {
            Some(own) => (own - noise * &at.rho.sqrt(), rho.zeros_like(), rho.ones_like()),
            None => (&at.noise - noise, rest.shallow_clone(), rho.shallow_clone()),
        };
        if let SymMatrix::LowRank { diag, factor } = cov {
            return low_rank::quasi_likelihood((diag, factor), (&rho, &rest), (&a, &c), &e);
        }
        let chol = cov.affine(&at.rho, &at.rest).cholesky();
        let mut fit = c * chol.inv_quad(&e);
        if at.own.is_none() {
            fit = fit + a * chol.trace_inv();
        }
        (chol.log_det() + fit) * 0.5
    }
}

impl Objective for LikelihoodMatching {
    fn loss(&self, model: &dyn Denoiser, batch: &Batch, noise: &mut Noise) -> Tensor {
        let at = self.draw(model.space().schedule(), batch, noise);
        let moments = model.moments(&at.query());
        self.mean(&self.loss_of(&at, moments, None))
    }

    fn draws(&self) -> usize {
        self.transitions
    }

    fn noise(&self, dim: usize) -> Vec<Draw> {
        let normals = match self.form {
            LmForm::Marginal => self.transitions,
            LmForm::Path => self.transitions + 1,
        };
        vec![Draw::Uniform(self.grid.uniforms(self.transitions)), Draw::Normal(normals * dim)]
    }

    fn trains(&self) -> Trains {
        match self.score {
            ScoreGradient::Frozen => Trains::Head,
            ScoreGradient::Joint | ScoreGradient::Dsm => Trains::Both,
        }
    }
}

impl LikelihoodMatching {
    /// The loss of each transition, `[b N]`; what trains the score in it has these weights.
    pub(super) fn loss_of(
        &self,
        at: &Transitions,
        mut moments: NoiseMoments,
        weights: Option<&Tensor>,
    ) -> Tensor {
        let weighted = |loss: Tensor| match weights {
            Some(weights) => loss * weights,
            None => loss,
        };
        let score_loss = match self.score {
            ScoreGradient::Dsm => Some(Self::score_loss(at, &moments.noise)),
            ScoreGradient::Joint | ScoreGradient::Frozen => None,
        };
        if self.score != ScoreGradient::Joint {
            moments.noise = moments.noise.detach();
        }
        let loss = self.quasi_likelihood(at, &moments);
        match score_loss {
            Some(score_loss) => loss + weighted(score_loss),
            None => weighted(loss),
        }
    }

    /// What score matching makes of a score that finds the noise `found` in each `x_t`, `[b N]`.
    pub(super) fn score_loss(at: &Transitions, found: &Tensor) -> Tensor {
        squared_norm(&(found - &at.noise)) * 0.5
    }

    /// The mean over the transitions of each row of data, `[b]`.
    pub(super) fn mean(&self, of_transitions: &Tensor) -> Tensor {
        let each = of_transitions.view([-1, self.transitions as i64]);
        each.mean_dim([1i64].as_slice(), false, None::<Kind>)
    }
}
