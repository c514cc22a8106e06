//! Trials: networks trained side by side on data sets of their own, then sampled.

use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use super::distribution::Distribution;
use crate::experiment::settings;
use tweedie::Result;
use tweedie::covariance::{CovarianceConfig, CovarianceSources};
use tweedie::grid::{PathGrid, Spacing, TimeDistribution};
use tweedie::model::Parametrization;
use tweedie::model::{
    Base, BaseConfig, BaseKind, Denoiser, Form, HeadConfig, HeadTrunk, MlpConfig, Model,
    ModelConfig, NetworkConfig, Prediction,
};
use tweedie::noise::{Noise, Seed};
use tweedie::objective::{LikelihoodMatching, LmForm, ObjectiveConfig, ScoreGradient, Weighting};
use tweedie::query::{Query, Times};
use tweedie::sample::{Ancestral, LastStep, Step, run_chain};
use tweedie::schedule::{Schedule, Vp};
use tweedie::tensor::to_vec;
use tweedie::train::{Rows, Silent, State, TensorRows, TrainConfig, Trainer};

settings! {
    /// How every network is trained; equal for all methods.
    pub struct Recipe {
        /// Hidden units of the one hidden layer.
        pub width: i64 = 64,
        /// Frequencies of the time embedding; 0 gives the paper's single time input.
        pub frequencies: usize = 4,
        /// Steps of Adam.
        pub iterations: u64 = 5000,
        /// Pairs (x, t) per step and trial: the rows drawn, with replacement, times the draws of
        /// (t, ε) for each.
        pub pairs: usize = 1000,
        /// Adam's step size, which falls along a cosine.
        pub learning_rate: f64 = 0.03,
        /// Decay of the parameters' moving average.
        pub ema: f64 = 0.99,
        /// The clock in which training times are uniform.
        pub time: TimeDistribution = TimeDistribution::Uniform,
        /// Path or marginal form of Likelihood Matching.
        pub form: LmForm = LmForm::Marginal,
        /// What trains Likelihood Matching's score.
        pub score: ScoreGradient = ScoreGradient::Dsm,
        /// What its covariance head sits on.
        pub head_trunk: HeadTrunk = HeadTrunk::Shared,
        /// The distribution that the network corrects.
        pub base: BaseKind = BaseKind::Isotropic,
        /// What the network's output predicts: a correction of the base's `ε̂`, or `ε̂`.
        pub prediction: Prediction = Prediction::Correction,
        /// The model's κ.
        pub finest_scale: f64 = 0.05,
    }
}

impl Recipe {
    /// The same training to the letter of the Likelihood Matching paper: along simulated paths of
    /// times uniform in `t`, score and Hessian together in networks of their own, no base
    /// corrected.
    pub(super) fn of_paper(&self) -> Recipe {
        Recipe {
            time: TimeDistribution::Uniform,
            form: LmForm::Path,
            score: ScoreGradient::Joint,
            head_trunk: HeadTrunk::Separate,
            base: BaseKind::Isotropic,
            prediction: Prediction::Epsilon,
            ..self.clone()
        }
    }
}

/// Rows of several trials: a batch holds as many rows of each, drawn with replacement, trial after
/// trial.
struct Replicates {
    /// `[trials n, d]`.
    values: TensorRows,
    trials: usize,
    rows: usize,
}

impl Rows for Replicates {
    fn len(&self) -> usize {
        self.trials * self.rows
    }

    fn gather(&self, rows: &[usize], noise: &mut Noise, place: (Kind, Device)) -> Tensor {
        let n = self.values.len() / self.trials;
        let chosen = rows.iter().zip(noise.uniform(1)).map(|(row, u)| {
            let of_trial = ((u * n as f64) as usize).min(n - 1);
            row / self.rows * n + of_trial
        });
        self.values.gather(&chosen.collect::<Vec<_>>(), noise, place)
    }
}

/// The data of trial `number`, `[n, 1]`.
pub fn data(distribution: Distribution, rows: usize, number: usize, seed: Seed) -> Result<Tensor> {
    distribution.sample(rows, seed.derive(&format!("data {number}")))
}

/// Trains the networks of the trials `numbers` side by side: Likelihood Matching with `Some(N)`
/// transitions, score matching with `None`.
pub fn train(
    recipe: &Recipe,
    distribution: Distribution,
    transitions: Option<usize>,
    rows: usize,
    numbers: std::ops::Range<usize>,
    seed: Seed,
) -> Result<Model> {
    let sets: Result<Vec<Tensor>> =
        numbers.clone().map(|number| data(distribution, rows, number, seed)).collect();
    let seed = seed.derive(&format!("training {} {}", distribution.name(), numbers.start));
    fit(recipe, (&Tensor::cat(&sets?, 0), numbers.len()), transitions, seed)
}

/// Trains a network for each of `trials` on its part of `rows` `[trials n, d]`, trial after trial,
/// as [`train`].
pub(super) fn fit(
    recipe: &Recipe,
    (rows, trials): (&Tensor, usize),
    transitions: Option<usize>,
    seed: Seed,
) -> Result<Model> {
    let draws = transitions.unwrap_or(1);
    let base = BaseConfig { kind: recipe.base, ..BaseConfig::mixture(2) };
    let none = Tensor::zeros([0, rows.size()[1]], (Kind::Double, Device::Cpu));
    let base = Base::fit(&base, rows, &none)?;
    let model = ModelConfig {
        network: NetworkConfig::Mlp(MlpConfig {
            form: Form::Plain,
            width: recipe.width,
            depth: 1,
            frequencies: recipe.frequencies,
            head_trunk: recipe.head_trunk,
            replicates: trials as i64,
            ..MlpConfig::default()
        }),
        head: transitions.map(|_| HeadConfig::diagonal(Parametrization::Posterior)),
        prediction: recipe.prediction,
        finest_scale: recipe.finest_scale,
        ..ModelConfig::default()
    }
    .init(base, Arc::new(Vp::default()), Device::Cpu, seed.derive("weights"))?;
    let objective = match transitions {
        Some(transitions) => ObjectiveConfig::from(LikelihoodMatching {
            transitions,
            form: recipe.form,
            time: recipe.time,
            grid: PathGrid::Random,
            score: recipe.score,
        }),
        None => ObjectiveConfig::Sm { weighting: Weighting::Sigma2, time: recipe.time, draws: 1 },
    }
    .build()?;
    let rows = Replicates {
        values: TensorRows::new(rows.to_kind(Kind::Float)),
        trials,
        rows: (recipe.pairs / draws).max(1),
    };
    let trainer = Trainer::new(TrainConfig {
        iterations: recipe.iterations,
        batch_size: usize::MAX,
        learning_rate: recipe.learning_rate,
        warm_up: (recipe.iterations / 20).min(100),
        // trials share the gradient's length: no clipping, so that they stay independent
        clip: 1e30,
        ema: recipe.ema,
        patience: 0,
        ..TrainConfig::default()
    });
    let mut state = State::new(&model);
    trainer.fit(&model, &*objective, &rows, None, seed, &mut state, &mut Silent)?;
    Ok(model)
}

/// How a chain is run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chain {
    /// Where each step's covariance comes from.
    pub covariance: CovarianceConfig,
    /// Steps `K`.
    pub steps: usize,
    /// How they are spaced.
    pub spacing: Spacing,
}

impl Chain {
    /// The times, from 0 to `T`.
    pub fn grid(&self, schedule: &dyn Schedule) -> Vec<f64> {
        match self.spacing {
            // equal steps in the logarithm never arrive at 0
            Spacing::LogSnr if self.steps > 1 => {
                let mut grid = vec![0.0];
                grid.extend(self.spacing.grid(schedule, self.steps - 1, 1e-3));
                grid
            }
            spacing => spacing.grid(schedule, self.steps, 0.0),
        }
    }

    /// Samples of each of the trials `numbers`, trial after trial, with either last step: the chain
    /// down to the first time after 0 is common to both. The noise of a trial is the same for every
    /// model.
    pub fn sample(
        &self,
        model: &dyn Denoiser,
        samples: usize,
        numbers: std::ops::Range<usize>,
        seed: Seed,
    ) -> Result<Samples> {
        let rows = (numbers.start * samples) as u64..(numbers.end * samples) as u64;
        let grid = self.grid(model.space().schedule());
        let covariance = self.covariance.build(&CovarianceSources::default())?;
        let step = |last| Ancestral::new(model, &*covariance, 1.0, last);
        let mean = step(LastStep::Mean)?;
        let before = run_chain(&mean, &grid[1..], seed.derive("sampling"), rows.clone(), None)?;
        let mut noise = Noise::new(seed.derive("last step"), rows);
        let each = samples * before.size()[1] as usize;
        let values =
            |x: Tensor| -> Vec<Vec<f64>> { to_vec(&x).chunks(each).map(<[f64]>::to_vec).collect() };
        let at = Times::All(grid[1]);
        let q = Query::new(&before, &at);
        tch::no_grad(|| {
            Ok(Samples {
                mean: values(mean.step(&q, 0.0, &mut noise)),
                noise: values(step(LastStep::Noise)?.step(&q, 0.0, &mut noise)),
            })
        })
    }
}

/// What a chain put out, trial after trial.
#[derive(Clone, Debug)]
pub struct Samples {
    /// The last step's mean.
    pub mean: Vec<Vec<f64>>,
    /// A draw from the last step's distribution.
    pub noise: Vec<Vec<f64>>,
}

impl Samples {
    /// Those with this last step.
    pub fn with(&self, last: LastStep) -> &[Vec<f64>] {
        match last {
            LastStep::Mean => &self.mean,
            LastStep::Noise => &self.noise,
        }
    }
}
