//! The estimators, and the draws `(x_t, noise)` each of them sees.

use rand::{Rng, RngExt};
use rand_distr::StandardNormal;

use super::family::Point;
use super::loss::{Draw, Form};
use tweedie::grid::{PathGrid, TimeDistribution};
use tweedie::schedule::{Schedule, Vp};

/// How score matching weighs `‖ε̂ − ε‖² = σ²‖s + ε/σ‖²` and draws `t`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ScoreWeight {
    /// Weight σ² on the score error, so 1 on the noise error; `t` uniform.
    Sigma2,
    /// Likelihood weighting `½g²` on the score error; `t` uniform.
    Likelihood,
    /// Likelihood weighting by importance-sampled `t`, density ∝ g²/σ².
    LikelihoodImportance,
    /// Weight 1 on the score error, `t` uniform on `[ε, 1]` with this `ε`.
    Unweighted(f64),
}

/// How a datum's draws are related.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampling {
    /// Antithetic pairs of noise and, for score matching, stratified times: the average over the
    /// noise at the least cost.
    Balanced,
    /// Independent draws, as stochastic training sees them.
    Independent,
    /// One single draw (score matching) or path (Likelihood Matching) per datum, kept for good.
    Once,
}

/// A way to estimate the parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Estimator {
    /// Maximum of the exact likelihood: the limit.
    MaximumLikelihood,
    /// Denoising score matching.
    ScoreMatching {
        /// Weight, and distribution of the times.
        weight: ScoreWeight,
        /// How draws are made.
        sampling: Sampling,
    },
    /// Likelihood Matching.
    LikelihoodMatching {
        /// `Path` or `Marginal`.
        form: Form,
        /// Transitions `N` of a path.
        transitions: usize,
        /// The clock in which grids are uniform on the simplex.
        time: TimeDistribution,
        /// How draws are made.
        sampling: Sampling,
    },
    /// The quasi-likelihood (10)–(12) under the conditions of Theorem 2: along a path of `T²`
    /// equal steps of `1/T` from 0 to a horizon `T` of constant `β = 1`.
    QuasiLikelihood {
        /// `T`, from 2.
        horizon: usize,
        /// How draws are made.
        sampling: Sampling,
    },
}

impl Estimator {
    /// Score matching with this weight.
    pub const fn sm(weight: ScoreWeight, sampling: Sampling) -> Estimator {
        Estimator::ScoreMatching { weight, sampling }
    }

    /// Likelihood Matching on grids uniform in `t`.
    pub const fn lm(form: Form, transitions: usize, sampling: Sampling) -> Estimator {
        Estimator::LikelihoodMatching {
            form,
            transitions,
            time: TimeDistribution::Uniform,
            sampling,
        }
    }

    /// The estimator's name in tables.
    pub fn name(&self) -> String {
        match *self {
            Estimator::MaximumLikelihood => "maximum likelihood".into(),
            Estimator::ScoreMatching { weight, sampling } => {
                let weight = match weight {
                    ScoreWeight::Sigma2 => "SM, weight σ²".into(),
                    ScoreWeight::Likelihood => "SM, likelihood weighting, uniform t".into(),
                    ScoreWeight::LikelihoodImportance => {
                        "SM, likelihood weighting, importance-sampled t".into()
                    }
                    ScoreWeight::Unweighted(epsilon) => format!("SM, unweighted, ε = {epsilon:e}"),
                };
                match sampling {
                    Sampling::Balanced => weight,
                    Sampling::Independent => format!("{weight}, independent draws"),
                    Sampling::Once => format!("{weight}, noise drawn once"),
                }
            }
            Estimator::LikelihoodMatching { form, transitions, time, sampling } => {
                let form = if form == Form::Path { "path" } else { "marginal" };
                let time = if time == TimeDistribution::Uniform { "" } else { ", log-SNR grid" };
                let sampling = match sampling {
                    Sampling::Balanced => "",
                    Sampling::Independent => ", independent draws",
                    Sampling::Once => ", path drawn once",
                };
                format!("LM {form}, N = {transitions}{time}{sampling}")
            }
            Estimator::QuasiLikelihood { horizon, .. } => {
                format!("quasi-MLE, T = {horizon}, N = {}", horizon * horizon)
            }
        }
    }

    /// How the draws are used.
    pub fn form(&self) -> Form {
        match self {
            Estimator::LikelihoodMatching { form, .. } => *form,
            Estimator::QuasiLikelihood { .. } => Form::Path,
            _ => Form::Score,
        }
    }

    /// Draws that belong together: `N` for Likelihood Matching, else 1.
    pub fn group(&self) -> usize {
        match self {
            Estimator::LikelihoodMatching { transitions, .. } => *transitions,
            Estimator::QuasiLikelihood { horizon, .. } => horizon * horizon,
            _ => 1,
        }
    }

    /// Groups of draws per datum, counting a mirrored one as half of two, for about `per_datum`
    /// draws.
    fn groups(&self, per_datum: usize) -> usize {
        match self.sampling() {
            Sampling::Balanced => per_datum.div_ceil(2 * self.group()),
            Sampling::Independent => per_datum.div_ceil(self.group()),
            Sampling::Once => 1,
        }
    }

    /// Draws per datum when about `per_datum` are requested.
    pub fn draws_used(&self, per_datum: usize) -> usize {
        let mirror = if self.sampling() == Sampling::Balanced { 2 } else { 1 };
        if *self == Estimator::MaximumLikelihood {
            0
        } else {
            mirror * self.group() * self.groups(per_datum)
        }
    }

    /// How draws are made.
    pub fn sampling(&self) -> Sampling {
        match self {
            Estimator::MaximumLikelihood => Sampling::Balanced,
            Estimator::ScoreMatching { sampling, .. } => *sampling,
            Estimator::LikelihoodMatching { sampling, .. }
            | Estimator::QuasiLikelihood { sampling, .. } => *sampling,
        }
    }
}

/// Makes the draws of one estimator.
#[derive(Debug)]
pub struct Drawer {
    times: Times,
    estimator: Estimator,
}

#[derive(Debug)]
enum Times {
    Score { vp: Vp, weight: ScoreWeight },
    Grid { vp: Vp, transitions: usize, time: TimeDistribution, grid: PathGrid },
}

fn normal(rng: &mut impl Rng) -> Point {
    [rng.sample(StandardNormal), rng.sample(StandardNormal)]
}

fn noised(x0: Point, alpha: f64, sigma2: f64, z: Point) -> Point {
    let sigma = sigma2.sqrt();
    [alpha * x0[0] + sigma * z[0], alpha * x0[1] + sigma * z[1]]
}

impl Drawer {
    /// # Panics
    /// For maximum likelihood, which needs no draws.
    pub fn new(estimator: Estimator, vp: &Vp) -> Drawer {
        let times = match estimator {
            Estimator::MaximumLikelihood => panic!("maximum likelihood draws no noise"),
            Estimator::ScoreMatching { weight, .. } => {
                let vp = match weight {
                    ScoreWeight::Unweighted(epsilon) => vp.clone().with_epsilon(epsilon),
                    _ => vp.clone(),
                };
                Times::Score { vp, weight }
            }
            Estimator::LikelihoodMatching { transitions, time, .. } => {
                Times::Grid { vp: vp.clone(), transitions, time, grid: PathGrid::Random }
            }
            Estimator::QuasiLikelihood { horizon, .. } => Times::Grid {
                // β = 1 up to T is β = T up to 1
                vp: Vp::linear(horizon as f64, horizon as f64),
                transitions: horizon * horizon,
                time: TimeDistribution::Uniform,
                grid: PathGrid::Equidistant,
            },
        };
        Drawer { times, estimator }
    }

    /// Appends one group of draws at `x0`, and the group with the opposite noise if `mirrored`. A
    /// score's time lies at quantile `(stratum.0 + u)/stratum.1` of its distribution.
    pub fn group(
        &self,
        x0: Point,
        stratum: (usize, usize),
        mirrored: bool,
        rng: &mut impl Rng,
        out: &mut Vec<Draw>,
    ) {
        let signs: &[f64] = if mirrored { &[1.0, -1.0] } else { &[1.0] };
        match &self.times {
            Times::Score { vp, weight } => {
                let u = (stratum.0 as f64 + rng.random::<f64>()) / stratum.1 as f64;
                let t = match weight {
                    ScoreWeight::LikelihoodImportance => vp.importance_time(u),
                    _ => TimeDistribution::Uniform.time(vp, u),
                };
                let (alpha, sigma2) = (vp.alpha(t), vp.sigma2(t));
                let rho = match weight {
                    ScoreWeight::Sigma2 => 1.0,
                    ScoreWeight::Likelihood => {
                        0.5 * vp.diffusion2(t) / sigma2 * (vp.horizon() - vp.epsilon())
                    }
                    ScoreWeight::LikelihoodImportance => 0.5 * vp.importance_normalizer(),
                    ScoreWeight::Unweighted(_) => 1.0 / sigma2,
                };
                let z = normal(rng);
                for sign in signs {
                    let noise = [sign * z[0], sign * z[1]];
                    out.push(Draw {
                        x: noised(x0, alpha, sigma2, noise),
                        noise,
                        alpha,
                        sigma2,
                        rho,
                    });
                }
            }
            Times::Grid { vp, transitions, time, grid } => {
                let uniforms: Vec<f64> =
                    (0..grid.uniforms(*transitions)).map(|_| rng.random()).collect();
                let grid = grid.times(*time, vp, *transitions, &uniforms);
                let first = out.len();
                let z = normal(rng);
                let start = (vp.alpha(grid[0]), vp.sigma2(grid[0]));
                let mut x = noised(x0, start.0, start.1, z);
                let mut mirror = noised(x0, start.0, start.1, [-z[0], -z[1]]);
                for gap in grid.windows(2) {
                    let (alpha, sigma2) = (vp.alpha(gap[1]), vp.sigma2(gap[1]));
                    let step = vp.transition(gap[0], gap[1]);
                    let rho = step.k2 / sigma2;
                    let noise = normal(rng);
                    let opposite = [-noise[0], -noise[1]];
                    if self.estimator.form() == Form::Path {
                        x = noised(x, step.m, step.k2, noise);
                        mirror = noised(mirror, step.m, step.k2, opposite);
                    } else {
                        x = noised(x0, alpha, sigma2, noise);
                        mirror = noised(x0, alpha, sigma2, opposite);
                    }
                    out.push(Draw { x, noise, alpha, sigma2, rho });
                    if mirrored {
                        out.push(Draw { x: mirror, noise: opposite, alpha, sigma2, rho });
                    }
                }
                debug_assert_eq!(out.len() - first, transitions * signs.len());
            }
        }
    }

    /// At least `per_datum` draws for every datum, in whole groups; returns the factor that makes
    /// their sum the objective per datum.
    pub fn batch(
        &self,
        data: &[Point],
        per_datum: usize,
        rng: &mut impl Rng,
        out: &mut Vec<Draw>,
    ) -> f64 {
        out.clear();
        let groups = self.estimator.groups(per_datum);
        let balanced = self.estimator.sampling() == Sampling::Balanced;
        for &x0 in data {
            for i in 0..groups {
                let stratum = if balanced { (i, groups) } else { (0, 1) };
                self.group(x0, stratum, balanced, rng, out);
            }
        }
        self.estimator.group() as f64 / out.len() as f64
    }
}
