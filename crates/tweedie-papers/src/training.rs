//! Small networks: one recipe and one way to train them; scores and covariance heads of several
//! trials side by side, a network for each.

use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use crate::experiment::settings;
use crate::headed::OnScore;
use crate::learner::Learner;
use crate::runs::Tasks;
use tweedie::grid::TimeDistribution;
use tweedie::model::{
    Base, BaseConfig, BaseKind, Denoiser, HeadConfig, MlpConfig, Model, ModelConfig, NetworkConfig,
};
use tweedie::noise::Seed;
use tweedie::objective::{Objective, ObjectiveConfig, Weighting};
use tweedie::schedule::Schedule;
use tweedie::train::{Hooks, Rows, State, TensorRows, TrainConfig, Trainer};
use tweedie::{Error, Result};

settings! {
    /// How every network of an experiment is trained; equal for all.
    pub struct Recipe {
        /// Hidden units of each layer.
        pub width: i64 = 64,
        /// The number of residual blocks.
        pub depth: i64 = 2,
        /// Steps of Adam.
        pub iterations: u64 = 2000,
        /// Rows per step of each trial.
        pub rows: usize = 32,
        /// Pairs (t, ε) per row; transitions of Likelihood Matching.
        pub draws: usize = 4,
        /// Adam's step size, which falls along a cosine.
        pub learning_rate: f64 = 5e-3,
        /// Decay of the parameters' moving average.
        pub ema: f64 = 0.995,
    }
}

/// Training rows of a known distribution.
pub(crate) const TRAINING_ROWS: usize = 50_000;

impl Recipe {
    pub(crate) fn check(&self, trials: usize) -> Result<()> {
        Error::check_count("experiment.recipe.iterations", self.iterations, 1_000_000_000)?;
        Error::check_count("experiment.recipe.width", self.width, 1_000_000)?;
        Error::check_count("experiment.recipe.depth", self.depth, 10_000)?;
        // a batch has as many rows of every trial
        Error::check_count("experiment.trials", trials, 1000)?;
        Error::check_count("experiment.recipe.rows", self.rows, TRAINING_ROWS / trials)?;
        Error::check_count("experiment.recipe.draws", self.draws, 100_000)
    }

    /// A network for each of `trials`, side by side, whose base is fitted to `base` `[n, d]`,
    /// trained on `rows` with gradients shortened to `clip`; `tasks` reports it as `what`.
    pub(crate) fn train(
        &self,
        (trials, head): (usize, Option<HeadConfig>),
        objective: &dyn Objective,
        (base, rows): (&Tensor, &dyn Rows),
        clip: f64,
        (schedule, device): (&Arc<dyn Schedule>, Device),
        seed: Seed,
        (what, tasks): (&str, &mut Tasks),
    ) -> Result<Model> {
        let config = BaseConfig { kind: BaseKind::Isotropic, ..BaseConfig::default() };
        let none = Tensor::zeros([0, base.size()[1]], (Kind::Double, Device::Cpu));
        let network = NetworkConfig::Mlp(MlpConfig {
            width: self.width,
            depth: self.depth,
            replicates: trials as i64,
            ..MlpConfig::default()
        });
        let model = ModelConfig { network, head, ..ModelConfig::default() }.init(
            Base::fit(&config, base, &none)?,
            schedule.clone(),
            device,
            seed.derive("weights"),
        )?;
        let iterations = self.iterations;
        let config = TrainConfig {
            iterations,
            batch_size: self.rows * trials,
            learning_rate: self.learning_rate,
            warm_up: (iterations / 20).min(200),
            clip,
            ema: self.ema,
            patience: 0,
            ..TrainConfig::default()
        };
        let (mut state, mut listener) = (State::new(&model), Listener { tasks, what, iterations });
        Trainer::new(config).fit(&model, objective, rows, None, seed, &mut state, &mut listener)?;
        Ok(model)
    }
}

/// Passes progress on.
struct Listener<'a, 'b> {
    tasks: &'a mut Tasks<'b>,
    what: &'a str,
    iterations: u64,
}

impl Hooks for Listener<'_, '_> {
    fn step(&mut self, iteration: u64) {
        self.tasks.part(self.what, iteration as f64 / self.iterations as f64);
    }
}

/// Trainings of scores and heads on the rows of one distribution.
pub(crate) struct Training<'a> {
    pub recipe: &'a Recipe,
    /// Steps of Adam for a score.
    pub score_iterations: u64,
    pub trials: usize,
    /// Training rows `[n, d]`, common to all trials.
    pub rows: &'a Tensor,
    pub schedule: Arc<dyn Schedule>,
    pub seed: Seed,
}

impl Training<'_> {
    /// A score for each trial, by score matching.
    pub(crate) fn score(&self, what: &str, tasks: &mut Tasks) -> Result<Model> {
        let (time, draws) = (TimeDistribution::LogSnr, self.recipe.draws);
        let objective =
            ObjectiveConfig::Sm { weighting: Weighting::Sigma2, time, draws }.build()?;
        let recipe = Recipe { iterations: self.score_iterations, ..self.recipe.clone() };
        self.fit(&recipe, None, &*objective, "score", what, tasks)
    }

    /// A head for each trial under `score`, by a network of which only the head's outputs are used.
    pub(crate) fn head(
        &self,
        learner: Learner,
        score: &dyn Denoiser,
        what: &str,
        tasks: &mut Tasks,
    ) -> Result<Model> {
        let objective = learner.objective(TimeDistribution::LogSnr, self.recipe.draws).build()?;
        let objective = OnScore { objective, score };
        // one seed for all: they see the same rows, times and noise
        self.fit(self.recipe, Some(learner.head()), &objective, "head", what, tasks)
    }

    fn fit(
        &self,
        recipe: &Recipe,
        head: Option<HeadConfig>,
        objective: &dyn Objective,
        purpose: &str,
        what: &str,
        tasks: &mut Tasks,
    ) -> Result<Model> {
        let rows = TensorRows::new(self.rows.to_kind(Kind::Float));
        // trials share the gradient's length: no clipping, so that they stay independent
        let model = recipe.train(
            (self.trials, head),
            objective,
            (self.rows, &rows),
            1e30,
            (&self.schedule, Device::Cpu),
            self.seed.derive(purpose),
            (what, &mut *tasks),
        )?;
        tasks.end(what);
        Ok(model)
    }
}
