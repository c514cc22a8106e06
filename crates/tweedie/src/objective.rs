//! Training objectives: the loss that is minimised, one number per row of data.
//!
//! [`ObjectiveConfig`] lists them as plain data. An [`Objective`] takes any [`Denoiser`], the exact
//! oracle included, so that the loss of a perfect model can be computed too.
//!
//! ```
//! use std::sync::Arc;
//! use tweedie::grid::TimeDistribution;
//! use tweedie::noise::{Noise, Seed};
//! use tweedie::objective::{DenoisingScoreMatching, Objective, Weighting};
//! use tweedie::oracle::{GaussianMixture, Oracle};
//! use tweedie::query::Batch;
//! use tweedie::schedule::Vp;
//!
//! # fn main() -> tweedie::Result<()> {
//! let model = |mean: f64| -> tweedie::Result<Oracle> {
//!     let gaussian = GaussianMixture::new(&[1.0], &[[mean]], &[1.0])?;
//!     Ok(Oracle::new(gaussian, Arc::new(Vp::default())))
//! };
//! let (truth, wrong) = (model(0.0)?, model(3.0)?);
//! let rows = Batch::of(&truth.mixture.sample(500, Seed(0)));
//! let (weighting, time) = (Weighting::Sigma2, TimeDistribution::Uniform);
//! let objective = DenoisingScoreMatching { weighting, time, draws: 1 };
//!
//! let loss = |model: &Oracle| objective.loss(model, &rows, &mut Noise::new(Seed(1), 0..500));
//! assert_eq!(loss(&truth).size(), [500]);
//! let mean = |model: &Oracle| loss(model).mean(None).double_value(&[]);
//! assert!(mean(&truth) < mean(&wrong));
//! # Ok(())
//! # }
//! ```

mod adaptive;
mod covariance_matching;
mod dsm;
mod fixed_hessian;
mod hybrid;
mod likelihood_matching;
mod pairs;
mod steps;
mod variational_bound;

use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::choice::Preset;
use crate::grid::{PathGrid, TimeDistribution};
use crate::model::{Denoiser, HeadConfig, Parametrization, Space};
use crate::noise::{Draw, Noise};
use crate::query::Batch;
use crate::{Error, Result};
pub use adaptive::AdaptiveLikelihoodMatching;
pub use covariance_matching::{CovarianceMatching, Target};
pub use dsm::{DenoisingScoreMatching, Weighting};
pub use fixed_hessian::{FixedHessian, Hessian};
pub use hybrid::Hybrid;
pub use likelihood_matching::{LikelihoodMatching, LmForm, ScoreGradient};
pub use steps::StepDistribution;
pub use variational_bound::VariationalBound;

/// A loss on a model, trained or exact.
pub trait Objective {
    /// The loss of each row of clean data, `[b]`; differentiable in the model's parameters.
    fn loss(&self, model: &dyn Denoiser, batch: &Batch, noise: &mut Noise) -> Tensor;

    /// Pairs (x_t, t) drawn per row: network evaluations per row of data.
    fn draws(&self) -> usize;

    /// What [`Objective::loss`] draws for each row of `dim` columns, in this order, so that it can
    /// be drawn ahead of the training loop.
    fn noise(&self, dim: usize) -> Vec<Draw>;

    /// Which parameters are trained.
    fn trains(&self) -> Trains;

    /// What the last loss saw that the objective learns from: what it is about, and its value. `None`
    /// of an objective that learns nothing. Several processes put together what each of them saw.
    fn observed(&self) -> Option<Vec<(u32, f64)>> {
        None
    }

    /// Learns from what was seen of the rows of a batch, in their order.
    fn learn(&self, _observed: &[(u32, f64)]) {}

    /// What the objective keeps from one loss to the next, flat and in f32, if anything: part of
    /// the state of a training, as it is after a step.
    fn memory(&self) -> Option<Tensor> {
        None
    }

    /// Goes on with what [`Objective::memory`] gave in a training of a model in `space`, or with
    /// nothing, as at the start.
    ///
    /// # Errors
    /// What is wrong with it, if it is not what this objective keeps.
    fn restore(&self, _space: &Space, _memory: Option<&Tensor>) -> std::result::Result<(), String> {
        Ok(())
    }
}

/// Which of a model's parameters an objective trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trains {
    /// Those of the score.
    Score,
    /// Those of the covariance head, under a frozen score.
    Head,
    /// The parameters of score and head.
    Both,
}

/// Objectives as plain data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ObjectiveConfig {
    /// Likelihood Matching.
    Lm {
        /// Transitions `N` of a path.
        transitions: usize,
        /// Path or marginal form.
        form: LmForm,
        /// The clock in which the path's times are uniform.
        time: TimeDistribution,
        /// How they are laid in it.
        #[serde(default)]
        grid: PathGrid,
        /// What trains the score.
        score: ScoreGradient,
        /// Whether each transition is drawn by itself, more of them at the noise levels where the
        /// network gains on its base ([`AdaptiveLikelihoodMatching`]).
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        adaptive: bool,
        /// Transitions of each row that train the head, drawn beside those that then train the
        /// score alone; only of adaptive ones, with a score by score matching. 0: the head is
        /// trained on the score's.
        #[serde(default)]
        head_transitions: usize,
    },
    /// Likelihood Matching of a score alone, under a fixed Hessian.
    #[serde(alias = "lm-zero-hessian")]
    LmFixedHessian {
        /// Transitions `N` of a path.
        transitions: usize,
        /// Path or marginal form.
        form: LmForm,
        /// The clock in which the path's times are uniform.
        time: TimeDistribution,
        /// How they are laid in it.
        #[serde(default)]
        grid: PathGrid,
        /// The Hessian.
        #[serde(default)]
        hessian: Hessian,
    },
    /// A covariance head by regression under a frozen score.
    CovarianceMatching {
        /// What is fitted.
        target: Target,
        /// How `t` is drawn.
        time: TimeDistribution,
        /// Draws of (t, ε) per row.
        draws: usize,
        /// Vectors of random signs, of the target `biased` alone.
        #[serde(default = "one")]
        probes: usize,
    },
    /// A head between β̃ and β by the variational bound of the chain, under a frozen score.
    VariationalBound {
        /// Draws of (step, ε) per row.
        draws: usize,
        /// How steps are drawn.
        #[serde(default)]
        steps: StepDistribution,
    },
    /// A score by score matching and a head between β̃ and β by the variational bound, at once.
    Hybrid {
        /// Draws of (step, ε) per row.
        draws: usize,
        /// The weight `λ` of the bound, in nats, beside `‖ε − ε̂‖²`.
        lambda: f64,
        /// How steps are drawn.
        steps: StepDistribution,
    },
    /// Denoising score matching.
    Sm {
        /// The weight of each time.
        weighting: Weighting,
        /// How `t` is drawn.
        time: TimeDistribution,
        /// Draws of (t, ε) per row.
        draws: usize,
    },
}

impl Default for ObjectiveConfig {
    fn default() -> Self {
        ObjectiveConfig::from(LikelihoodMatching {
            transitions: 4,
            form: LmForm::default(),
            time: TimeDistribution::default(),
            grid: PathGrid::default(),
            score: ScoreGradient::default(),
        })
    }
}

impl From<LikelihoodMatching> for ObjectiveConfig {
    /// Likelihood Matching along paths, score and head on the same transitions.
    fn from(lm: LikelihoodMatching) -> ObjectiveConfig {
        let LikelihoodMatching { transitions, form, time, grid, score } = lm;
        let (adaptive, head_transitions) = (false, 0);
        ObjectiveConfig::Lm { transitions, form, time, grid, score, adaptive, head_transitions }
    }
}

/// The objectives that have a name, with the heads that they train.
pub const PRESETS: [Preset; 12] = [
    Preset::new("lm", "objective.kind = 'lm'", "Likelihood Matching"),
    Preset::new(
        "lm-paper",
        "objective = { kind = 'lm', form = 'path', time = 'uniform', score = 'joint' }\n\
         model = { prediction = 'epsilon', network.head_trunk = 'separate' }\n\
         base.kind = 'isotropic'",
        "Likelihood Matching to its paper's letter: along simulated paths, times uniform in t, \
         score and Hessian together in networks of their own, no base corrected; with --rank, \
         --paper-literal and --network paper it is the paper's own model",
    ),
    Preset::new(
        "lm-fixed-hessian",
        "objective.kind = 'lm-fixed-hessian'",
        "Likelihood Matching of the score alone under a fixed Hessian, H = 0 or, with --set \
         objective.hessian=identity, H = I (the paper's ablation)",
    ),
    Preset::new(
        "sm",
        "objective = { kind = 'sm', weighting = 'sigma2', time = 'uniform' }",
        "Denoising score matching, σ² weighting",
    ),
    Preset::new(
        "sm-lw",
        "objective = { kind = 'sm', weighting = 'likelihood', time = 'uniform' }",
        "Score matching, likelihood weighting, uniform t",
    ),
    Preset::new(
        "sm-lw-is",
        "objective = { kind = 'sm', weighting = 'likelihood', time = 'log-snr' }",
        "Score matching, likelihood weighting, importance-sampled t",
    ),
    Preset::new(
        "ocm",
        "objective = { kind = 'covariance-matching', target = 'jacobian' }",
        "Optimal Covariance Matching: a head fitted to the Jacobian of a frozen score",
    ),
    Preset::new(
        "ocm-biased",
        "objective = { kind = 'covariance-matching', target = 'biased' }\n\
         model.head.structure = { low-rank = 0 }",
        "What OCM replaces, its eq. 10, to be compared with: a diagonal head fitted to products \
         with the same random signs throughout, hence biased",
    ),
    Preset::new(
        "npr",
        "objective = { kind = 'covariance-matching', target = 'residual' }",
        "A head fitted to the squared residual of a frozen score",
    ),
    Preset::new(
        "sn",
        "objective = { kind = 'covariance-matching', target = 'second-moment' }\n\
         model.head = { parametrization = 'second-moment', structure = { low-rank = 0 } }",
        "A diagonal head fitted to the squared noise, the square of a frozen score's taken off",
    ),
    Preset::new(
        "iddpm",
        "objective.kind = 'variational-bound'\n\
         model.head = { parametrization = 'interpolation', structure = { low-rank = 0 } }",
        "A diagonal head between the variances β̃ and β by the variational bound, under a frozen \
         score (I-DDPM); sample and score with the covariance interpolated",
    ),
    Preset::new(
        "iddpm-hybrid",
        "objective.kind = 'hybrid'\n\
         model.network.head_trunk = 'shared'\n\
         model.head = { parametrization = 'interpolation', structure = { low-rank = 0 } }",
        "Score and variances between β̃ and β at once: score matching, σ² weighting, plus 0.001 \
         times the variational bound (I-DDPM's hybrid loss), on one network",
    ),
];

fn one() -> usize {
    1
}

/// Draws per datum and step.
const MOST_DRAWS: usize = 10_000;

fn check_transitions(transitions: usize, grid: PathGrid) -> Result<()> {
    if (transitions, grid) == (1, PathGrid::Equidistant) {
        let problem = "1 on a fixed grid: only t = T would be trained";
        let remedy = "give 2 or more, or objective.grid = random";
        return Err(Error::config("objective.transitions", problem, remedy));
    }
    Error::check_count("objective.transitions", transitions, MOST_DRAWS)
}

impl ObjectiveConfig {
    /// The objective, or an error that names the field.
    pub fn build(&self) -> Result<Box<dyn Objective>> {
        match self {
            &ObjectiveConfig::Lm {
                transitions,
                form,
                time,
                grid,
                score,
                adaptive,
                head_transitions,
            } => {
                check_transitions(transitions, grid)?;
                let lm = LikelihoodMatching { transitions, form, time, grid, score };
                if head_transitions > 0 {
                    let option = "objective.head_transitions";
                    Error::check_count(option, head_transitions, MOST_DRAWS)?;
                    if !adaptive || score != ScoreGradient::Dsm {
                        let problem = format!(
                            "{head_transitions}, where score and head have the same transitions"
                        );
                        let remedy = "give 0, or objective.adaptive = true and a score by dsm";
                        return Err(Error::config(option, problem, remedy));
                    }
                }
                if !adaptive {
                    return Ok(Box::new(lm));
                }
                let fits = form == LmForm::Marginal && grid == PathGrid::Random;
                if !fits || score == ScoreGradient::Frozen {
                    let problem = "true, where times are those of a path or no score is trained";
                    let remedy = "leave it out, or take objective.form = marginal, a random \
                                  objective.grid and a score that is trained";
                    return Err(Error::config("objective.adaptive", problem, remedy));
                }
                Ok(Box::new(AdaptiveLikelihoodMatching::new(lm, head_transitions)))
            }
            &ObjectiveConfig::LmFixedHessian { transitions, form, time, grid, hessian } => {
                check_transitions(transitions, grid)?;
                let score = ScoreGradient::Joint;
                let lm = LikelihoodMatching { transitions, form, time, grid, score };
                Ok(Box::new(FixedHessian::new(lm, hessian)))
            }
            &ObjectiveConfig::CovarianceMatching { target, time, draws, probes } => {
                Error::check_count("objective.draws", draws, MOST_DRAWS)?;
                Error::check_count("objective.probes", probes, MOST_DRAWS)?;
                if probes > 1 && target != Target::Biased {
                    let problem = format!("{probes}, of a target that draws signs anew or none");
                    let remedy = "leave it out, or set objective.target to biased (ocm-biased)";
                    return Err(Error::config("objective.probes", problem, remedy));
                }
                Ok(Box::new(CovarianceMatching { target, time, draws, probes }))
            }
            &ObjectiveConfig::VariationalBound { draws, steps } => {
                Error::check_count("objective.draws", draws, MOST_DRAWS)?;
                Ok(Box::new(VariationalBound::new(draws, steps)))
            }
            &ObjectiveConfig::Hybrid { draws, lambda, steps } => {
                Error::check_count("objective.draws", draws, MOST_DRAWS)?;
                if !(lambda > 0.0 && lambda.is_finite()) {
                    let remedy = "give a positive number; 0.001 is usual";
                    return Err(Error::config("objective.lambda", format!("{lambda}"), remedy));
                }
                Ok(Box::new(Hybrid::new(draws, lambda, steps)))
            }
            ObjectiveConfig::Sm { weighting, time, draws } => {
                Error::check_count("objective.draws", *draws, MOST_DRAWS)?;
                weighting.check()?;
                let (weighting, time, draws) = (weighting.clone(), *time, *draws);
                Ok(Box::new(DenoisingScoreMatching { weighting, time, draws }))
            }
        }
    }

    /// Every kind of objective with its usual numbers.
    pub fn kinds() -> Vec<ObjectiveConfig> {
        let (transitions, form, grid) = (4, LmForm::default(), PathGrid::default());
        let (time, hessian) = (TimeDistribution::default(), Hessian::default());
        let (target, weighting) = (Target::Jacobian, Weighting::Sigma2);
        vec![
            ObjectiveConfig::default(),
            ObjectiveConfig::LmFixedHessian { transitions, form, time, grid, hessian },
            ObjectiveConfig::CovarianceMatching {
                target,
                time: TimeDistribution::Uniform,
                draws: 1,
                probes: 1,
            },
            ObjectiveConfig::VariationalBound { draws: 1, steps: StepDistribution::default() },
            ObjectiveConfig::Hybrid { draws: 1, lambda: 0.001, steps: StepDistribution::Uniform },
            ObjectiveConfig::Sm { weighting, time: TimeDistribution::Uniform, draws: 1 },
        ]
    }

    /// The kind in words.
    pub fn name(&self) -> &'static str {
        match self {
            ObjectiveConfig::Lm { .. } | ObjectiveConfig::LmFixedHessian { .. } => {
                "Likelihood Matching"
            }
            ObjectiveConfig::CovarianceMatching { .. } => "covariance matching",
            ObjectiveConfig::VariationalBound { .. } => "the variational bound",
            ObjectiveConfig::Hybrid { .. } => "score matching with the variational bound",
            ObjectiveConfig::Sm { .. } => "score matching",
        }
    }

    /// What is minimised, and what it trains, in words.
    pub fn describe(&self) -> String {
        match self {
            ObjectiveConfig::Lm { transitions, score, .. } => {
                let trains = match score {
                    ScoreGradient::Joint => "score and head by the quasi-likelihood",
                    ScoreGradient::Dsm => {
                        "the score by score matching, the head by the quasi-likelihood"
                    }
                    ScoreGradient::Frozen => "the head alone, on a frozen score",
                };
                format!("Likelihood Matching, {transitions} transitions: {trains}")
            }
            ObjectiveConfig::LmFixedHessian { transitions, hessian, .. } => {
                let h = hessian.symbol();
                format!("Likelihood Matching with {h}, {transitions} transitions: the score alone")
            }
            ObjectiveConfig::CovarianceMatching { target, .. } => {
                let target = match target {
                    Target::Jacobian => "OCM",
                    Target::Biased => "OCM's biased eq. 10, to be compared with",
                    Target::Residual => "NPR",
                    Target::SecondMoment => "SN",
                };
                format!("covariance matching ({target}): the head alone, on a frozen score")
            }
            ObjectiveConfig::VariationalBound { .. } => {
                "the chain's variational bound (I-DDPM): the head alone, on a frozen score".into()
            }
            ObjectiveConfig::Hybrid { lambda, .. } => format!(
                "score matching, plus {lambda} times the chain's variational bound for the head \
                 (I-DDPM)"
            ),
            ObjectiveConfig::Sm { weighting, .. } => {
                let weighting = match weighting {
                    Weighting::Sigma2 => "σ² weighting".into(),
                    Weighting::Likelihood => "likelihood weighting".into(),
                    Weighting::Interpolated(p) => {
                        format!("weighting between σ² and likelihood, p = {p}")
                    }
                    Weighting::Table(_) => "a table of weights".into(),
                };
                format!("score matching, {weighting}")
            }
        }
    }

    /// Whether a covariance head is trained.
    pub fn trains_head(&self) -> bool {
        match self {
            ObjectiveConfig::Lm { .. }
            | ObjectiveConfig::CovarianceMatching { .. }
            | ObjectiveConfig::VariationalBound { .. }
            | ObjectiveConfig::Hybrid { .. } => true,
            ObjectiveConfig::LmFixedHessian { .. } | ObjectiveConfig::Sm { .. } => false,
        }
    }

    /// Checks that the outputs of `head` mean what this objective trains.
    ///
    /// # Errors
    /// If a head for second moments is not trained on them, and if the variational bound, alone or
    /// in the hybrid loss, trains another head than one that interpolates, or such a head is
    /// trained by another objective.
    pub fn check_head(&self, head: &HeadConfig) -> Result<()> {
        let bad = |problem: &str, remedy: &str| {
            Err(Error::config("model.head.parametrization", problem, remedy))
        };
        let second = matches!(
            self,
            ObjectiveConfig::CovarianceMatching { target: Target::SecondMoment, .. }
        );
        let bound = matches!(
            self,
            ObjectiveConfig::VariationalBound { .. } | ObjectiveConfig::Hybrid { .. }
        );
        match head.parametrization {
            Parametrization::SecondMoment if !second => bad(
                "second-moment, under another objective",
                "set objective.target to second-moment (sn), or take posterior",
            ),
            Parametrization::Interpolation if !bound => bad(
                "interpolation, under another objective",
                "set objective.kind to variational-bound (iddpm) or hybrid (iddpm-hybrid), or take \
                 posterior",
            ),
            Parametrization::Posterior | Parametrization::PaperLiteral if bound => bad(
                "not interpolation, under the variational bound",
                "give interpolation, and rank 0",
            ),
            _ => head.check(),
        }
    }
}
