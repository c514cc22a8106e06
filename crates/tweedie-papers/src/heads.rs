//! Covariance heads learned on a given score, each by a small network of its own, and that score
//! where it is learned. Trials are trained side by side, a network for each.

use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use super::headed::OnScore;
use super::learner::Learner;
use super::runs::Tasks;
use super::weighting::Listener;
use tweedie::grid::TimeLaw;
use tweedie::model::{
    Base, BaseConfig, BaseKind, Denoiser, HeadConfig, MlpConfig, Model, ModelConfig, NetworkConfig,
};
use tweedie::noise::Seed;
use tweedie::objective::{Objective, ObjectiveConfig, Weighting};
use tweedie::schedule::Schedule;
use tweedie::train::{State, TensorRows, TrainConfig, Trainer};
use tweedie::{Error, Result};

/// How every network is trained; equal for all.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// Hidden units.
    pub width: i64,
    /// Residual blocks.
    pub depth: i64,
    /// Steps of Adam for a head.
    pub iterations: u64,
    /// Steps of Adam for a score.
    pub score_iterations: u64,
    /// Rows per step of each trial.
    pub rows: usize,
    /// Pairs (t, ε) per row; transitions of Likelihood Matching.
    pub draws: usize,
    /// Adam's step size, which falls along a cosine.
    pub learning_rate: f64,
    /// Decay of the parameters' moving average.
    pub ema: f64,
}

/// Training rows of a law.
pub(super) const TRAINING_ROWS: usize = 50_000;

impl Default for Recipe {
    fn default() -> Self {
        Recipe {
            width: 64,
            depth: 2,
            iterations: 2000,
            score_iterations: 4000,
            rows: 32,
            draws: 4,
            learning_rate: 5e-3,
            ema: 0.995,
        }
    }
}

impl Recipe {
    pub(super) fn check(&self, trials: usize) -> Result<()> {
        Error::check_count("--iterations", self.iterations, 1_000_000_000)?;
        Error::check_count("--score-iterations", self.score_iterations, 1_000_000_000)?;
        // a batch deals every trial as many rows
        Error::check_count("--trials", trials, 1000)?;
        Error::check_count("--batch-size", self.rows, TRAINING_ROWS / trials)
    }

    /// In words.
    pub(super) fn describe(&self) -> String {
        format!(
            "Networks are perceptrons of {} residual blocks, {} wide, on an isotropic Gaussian base, from whose G every head \
             starts. Heads: {} steps of Adam (step size {}, warm-up, cosine decay, moving average {}) with {} rows each and {} \
             pairs (t, ε) for each, even in the log signal-to-noise ratio (I-DDPM: its own law of steps). Scores: {} such steps of \
             σ²-weighted score matching.",
            self.depth,
            self.width,
            self.iterations,
            self.learning_rate,
            self.ema,
            self.rows,
            self.draws,
            self.score_iterations
        )
    }
}

/// Trainings on the rows of one law.
pub(super) struct Training<'a> {
    pub recipe: &'a Recipe,
    pub trials: usize,
    /// Training rows `[n, d]`, common to all trials.
    pub rows: &'a Tensor,
    pub schedule: Arc<dyn Schedule>,
    pub seed: Seed,
}

impl Training<'_> {
    /// A score for each trial, by score matching.
    pub(super) fn score(&self, what: &str, tasks: &mut Tasks) -> Result<Model> {
        let (time, draws) = (TimeLaw::LogSnr, self.recipe.draws);
        let objective =
            ObjectiveConfig::Sm { weighting: Weighting::Sigma2, time, draws }.build()?;
        self.fit(None, &*objective, self.recipe.score_iterations, "score", what, tasks)
    }

    /// A head for each trial under `score`, by a network of which only the head's outputs are used.
    pub(super) fn head(
        &self,
        learner: Learner,
        score: &dyn Denoiser,
        what: &str,
        tasks: &mut Tasks,
    ) -> Result<Model> {
        let objective = learner.objective(TimeLaw::LogSnr, self.recipe.draws).build()?;
        let objective = OnScore { objective, score };
        // one seed for all: they see the same rows, times and noise
        self.fit(Some(learner.head()), &objective, self.recipe.iterations, "head", what, tasks)
    }

    fn fit(
        &self,
        head: Option<HeadConfig>,
        objective: &dyn Objective,
        iterations: u64,
        purpose: &str,
        what: &str,
        tasks: &mut Tasks,
    ) -> Result<Model> {
        let recipe = self.recipe;
        let base = BaseConfig { kind: BaseKind::Isotropic, ..BaseConfig::default() };
        let none = Tensor::zeros([0, self.rows.size()[1]], (Kind::Double, Device::Cpu));
        let network = NetworkConfig::Mlp(MlpConfig {
            width: recipe.width,
            depth: recipe.depth,
            replicates: self.trials as i64,
            ..MlpConfig::default()
        });
        let seed = self.seed.derive(purpose);
        let model = ModelConfig { network, head, ..ModelConfig::default() }.init(
            Base::fit(&base, self.rows, &none)?,
            self.schedule.clone(),
            Device::Cpu,
            seed.derive("weights"),
        )?;
        let trainer = Trainer {
            config: TrainConfig {
                iterations,
                batch_size: recipe.rows * self.trials,
                learning_rate: recipe.learning_rate,
                warm_up: (iterations / 20).min(200),
                // trials share the gradient's length: no clipping, so that they stay independent
                clip: 1e30,
                ema: recipe.ema,
                patience: 0,
                ..TrainConfig::default()
            },
        };
        let rows = TensorRows::new(self.rows.to_kind(Kind::Float));
        let (mut state, mut listener) = (State::new(&model), Listener { tasks, what, iterations });
        trainer.fit(&model, objective, &rows, None, seed, &mut state, &mut listener)?;
        tasks.end(what);
        Ok(model)
    }
}
