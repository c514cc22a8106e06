//! What the experiments on weightings have in common: the rows, and one way to train a small score
//! network on them.

use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use super::clusters::clusters;
use super::runs::Tasks;
use tweedie::data::{Marginals, ScalingOptions, subset};
use tweedie::model::{Base, BaseConfig, BaseKind, MlpConfig, Model, ModelConfig, NetworkConfig};
use tweedie::noise::Seed;
use tweedie::objective::Objective;
use tweedie::oracle::GaussianMixture;
use tweedie::run::{DataConfig, Prepared, scaled_rows};
use tweedie::schedule::Schedule;
use tweedie::tensor::to_vec;
use tweedie::train::{Hooks, Rows, State, TensorRows, TrainConfig, Trainer};
use tweedie::{Error, Result};

/// How every network is trained; equal for all.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// Hidden units.
    pub width: i64,
    /// Residual blocks.
    pub depth: i64,
    /// Steps of Adam.
    pub iterations: u64,
    /// Rows per step, each with one pair (t, ε).
    pub batch: usize,
    /// Adam's step size, which falls along a cosine.
    pub learning_rate: f64,
    /// Decay of the parameters' moving average.
    pub ema: f64,
}

impl Default for Recipe {
    fn default() -> Self {
        Recipe {
            width: 64,
            depth: 2,
            iterations: 8_000,
            batch: 256,
            learning_rate: 3e-3,
            ema: 0.995,
        }
    }
}

impl Recipe {
    pub(super) fn check(&self) -> Result<()> {
        Error::check_count("--iterations", self.iterations, 1_000_000_000)?;
        Error::check_count("--batch-size", self.batch, 1_000_000)
    }

    /// In words.
    pub(super) fn describe(&self) -> String {
        format!(
            "Perceptrons of {} residual blocks, {} wide, on an isotropic Gaussian base; {} steps of Adam (step size {}, \
             warm-up, cosine decay, moving average {}) with {} rows each and one pair (t, ε) for each.",
            self.depth, self.width, self.iterations, self.learning_rate, self.ema, self.batch
        )
    }
}

/// Rows to train on and to judge by.
pub(super) enum Source {
    /// Of a known law.
    Law { law: GaussianMixture, train: Tensor },
    /// Of a table.
    Table(Box<Prepared>),
}

/// Training rows of the law.
const LAW_ROWS: usize = 20_000;

impl Source {
    /// The rows of the file `data`, or of five clusters in ten dimensions.
    pub(super) fn open(data: Option<&str>, seed: Seed) -> Result<Source> {
        let Some(data) = data else {
            let law = clusters::<10>();
            let train = law.sample(LAW_ROWS, seed.derive("training rows"));
            return Ok(Source::Law { law, train });
        };
        // as published: no map but shift and scale
        let scaling =
            ScalingOptions { marginals: Marginals::Standardize, ..ScalingOptions::default() };
        let config = DataConfig { source: data.into(), scaling, ..DataConfig::default() };
        let prepared = Prepared::read(&config, seed.0)?;
        if prepared.record.image.is_some() {
            let remedy = "give a table, or images as a table of columns";
            return Err(Error::config("--data", format!("{data} holds images"), remedy));
        }
        Ok(Source::Table(Box::new(prepared)))
    }

    /// In words.
    pub(super) fn describe(&self) -> String {
        match self {
            Source::Law { law, .. } => {
                format!("Five clusters in {} dimensions, {LAW_ROWS} training rows.", law.dim())
            }
            Source::Table(prepared) => {
                let [train, ..] = prepared.record.rows;
                let columns = prepared.record.scaling.dim();
                format!("{}, {columns} columns, {train} training rows.", prepared.record.source)
            }
        }
    }

    /// At most `limit` rows that no network is trained on, in the network's units `[n, d]`, and
    /// what brings each one's log-density to the data's units.
    pub(super) fn test_rows(&self, limit: usize, seed: Seed) -> Result<(Tensor, Vec<f64>)> {
        let (x, log_jacobian) = match self {
            Source::Law { law, .. } => {
                (law.sample(limit, seed.derive("test rows")), vec![0.0; limit])
            }
            Source::Table(prepared) => {
                let rows = subset(&prepared.split.test, limit, seed);
                if rows.len() < 2 {
                    let problem = format!("{} test rows", rows.len());
                    return Err(Error::config("--data", problem, "give a table of more rows"));
                }
                scaled_rows(
                    &prepared.table,
                    &rows,
                    &prepared.record.scaling,
                    seed.derive("test rows"),
                )
            }
        };
        Ok((x.to_kind(Kind::Double), log_jacobian))
    }

    /// `ln p` of each row, where the law is known.
    pub(super) fn truth(&self, x: &Tensor) -> Option<Vec<f64>> {
        match self {
            Source::Law { law, .. } => Some(to_vec(&law.log_density(x))),
            Source::Table(_) => None,
        }
    }

    fn training(&self) -> Box<dyn Rows + '_> {
        match self {
            Source::Law { train, .. } => Box::new(TensorRows::new(train.to_kind(Kind::Float))),
            Source::Table(prepared) => Box::new(prepared.training()),
        }
    }

    /// A network trained by `objective`, its gradient shortened to `clip`; `tasks` hears of it as
    /// `what`.
    pub(super) fn train(
        &self,
        recipe: &Recipe,
        clip: f64,
        schedule: &Arc<dyn Schedule>,
        objective: &dyn Objective,
        device: Device,
        seed: Seed,
        what: &str,
        tasks: &mut Tasks,
    ) -> Result<Model> {
        let base = BaseConfig { kind: BaseKind::Isotropic, ..BaseConfig::default() };
        let rows = match self {
            Source::Law { train, .. } => train.shallow_clone(),
            Source::Table(prepared) => prepared.training_rows(LAW_ROWS, seed.derive("base rows")),
        };
        let none = Tensor::zeros([0, rows.size()[1]], (Kind::Double, Device::Cpu));
        let network = NetworkConfig::Mlp(MlpConfig {
            width: recipe.width,
            depth: recipe.depth,
            ..MlpConfig::default()
        });
        let model = ModelConfig { network, head: None, ..ModelConfig::default() }.init(
            Base::fit(&base, &rows, &none)?,
            schedule.clone(),
            device,
            seed.derive("weights"),
        )?;
        let trainer = Trainer {
            config: TrainConfig {
                iterations: recipe.iterations,
                batch_size: recipe.batch,
                learning_rate: recipe.learning_rate,
                warm_up: (recipe.iterations / 20).min(200),
                clip,
                ema: recipe.ema,
                patience: 0,
                ..TrainConfig::default()
            },
        };
        let mut listener = Listener { tasks, what, iterations: recipe.iterations };
        let mut state = State::new(&model);
        trainer.fit(&model, objective, &*self.training(), None, seed, &mut state, &mut listener)?;
        Ok(model)
    }
}

/// Passes progress on.
pub(super) struct Listener<'a, 'b> {
    pub tasks: &'a mut Tasks<'b>,
    pub what: &'a str,
    pub iterations: u64,
}

impl Hooks for Listener<'_, '_> {
    fn step(&mut self, iteration: u64) {
        self.tasks.part(self.what, iteration as f64 / self.iterations as f64);
    }
}
