//! What the experiments on weightings have in common: the rows, and one way to train a small score
//! network on them.

use tch::{Device, Kind, Tensor};

use crate::clusters::clusters;
use crate::experiment::kinds;
use crate::page::Page;
use crate::runs::Tasks;
pub use crate::training::Recipe;
use tweedie::data::{Marginals, ScalingOptions, Types, subset};
use tweedie::grid::TimeDistribution;
use tweedie::model::Model;
use tweedie::noise::Seed;
use tweedie::objective::{Objective, Weighting};
use tweedie::oracle::GaussianMixture;
use tweedie::run::{DataConfig, Prepared, scaled_rows};
use tweedie::schedule::ScheduleConfig;
use tweedie::tensor::to_vec;
use tweedie::train::{Rows, TensorRows};
use tweedie::{Error, Result};

kinds! {
    /// How ScoreFlow trains a score.
    pub enum Training {
        /// Weight 1 on the noise, uniform `t`: the paper's baseline.
        Sigma2 = "sm",
        /// Likelihood weighting, uniform `t`.
        Likelihood = "sm-lw",
        /// Likelihood weighting, importance-sampled `t`.
        Importance = "sm-lw-is",
    }
}

impl Training {
    /// Its name in tables.
    pub fn label(self) -> &'static str {
        match self {
            Training::Sigma2 => "DSM",
            Training::Likelihood => "LW",
            Training::Importance => "LW + IS",
        }
    }

    /// A description for the figure and its table.
    pub fn describe(self) -> &'static str {
        match self {
            Training::Sigma2 => "σ² weighting, uniform t",
            Training::Likelihood => "likelihood weighting, uniform t",
            Training::Importance => "likelihood weighting, importance sampling",
        }
    }

    /// The weight of the loss, and how `t` is drawn.
    pub(crate) fn weighting(self) -> (Weighting, TimeDistribution) {
        match self {
            Training::Sigma2 => (Weighting::Sigma2, TimeDistribution::Uniform),
            Training::Likelihood => (Weighting::Likelihood, TimeDistribution::Uniform),
            Training::Importance => (Weighting::Likelihood, TimeDistribution::LogSnr),
        }
    }
}

/// How every network is trained by default: one pair (t, ε) for each row.
pub(crate) fn recipe() -> Recipe {
    let (width, depth, rows) = (64, 2, 256);
    Recipe { width, depth, iterations: 8_000, rows, draws: 1, learning_rate: 3e-3, ema: 0.995 }
}

/// The recipe at a size that shows only that it runs, with at most `iterations` steps.
pub(crate) fn quick(recipe: Recipe, iterations: u64) -> Recipe {
    let iterations = recipe.iterations.min(iterations);
    Recipe { iterations, width: 32, depth: 1, rows: 128, ..recipe }
}

/// The flags that both experiments have.
pub(crate) const TRAINING: &str = include_str!("weighting_flags.txt");

/// Rows to train on and to judge by.
pub(crate) enum Source {
    /// Of a known distribution.
    Known { exact: GaussianMixture, train: Tensor },
    /// Of a table.
    Table(Box<Prepared>),
}

/// Training rows of the known distribution.
const ROWS: usize = 20_000;

impl Source {
    /// The rows of the file `data`, or of five clusters in ten dimensions.
    pub(crate) fn open(data: Option<&str>, seed: Seed) -> Result<Source> {
        let Some(data) = data else {
            let exact = clusters::<10>();
            let train = exact.sample(ROWS, seed.derive("training rows"));
            return Ok(Source::Known { exact, train });
        };
        // as published: no map but shift and scale
        let scaling =
            ScalingOptions { marginals: Marginals::Standardize, ..ScalingOptions::default() };
        let config = DataConfig {
            source: data.into(),
            scaling,
            types: Types::Numbers,
            ..DataConfig::default()
        };
        let prepared = Prepared::read(&config, seed.0)?;
        if prepared.record.image.is_some() {
            let remedy = "give a table, or images as a table of columns";
            return Err(Error::config("experiment.data", format!("{data} holds images"), remedy));
        }
        Ok(Source::Table(Box::new(prepared)))
    }

    /// A page with the rows and the recipe in words.
    pub(crate) fn page(&self) -> Page {
        let rows = match self {
            Source::Known { exact, .. } => {
                format!("Five clusters in {} dimensions, {ROWS} training rows.", exact.dim())
            }
            Source::Table(prepared) => {
                let [train, ..] = prepared.record.rows;
                let columns = prepared.record.scaling.dim();
                format!("{}, {columns} columns, {train} training rows.", prepared.record.source)
            }
        };
        Page::new().with("rows", rows)
    }

    /// At most `limit` rows that no network is trained on, in the network's units `[n, d]`, and
    /// what brings each one's log-density to the data's units.
    pub(crate) fn test_rows(&self, limit: usize, seed: Seed) -> Result<(Tensor, Vec<f64>)> {
        let (x, log_jacobian) = match self {
            Source::Known { exact, .. } => {
                (exact.sample(limit, seed.derive("test rows")), vec![0.0; limit])
            }
            Source::Table(prepared) => {
                let rows = subset(&prepared.split.test, limit, seed);
                if rows.len() < 2 {
                    let problem = format!("{} test rows", rows.len());
                    return Err(Error::config(
                        "experiment.data",
                        problem,
                        "give a table of more rows",
                    ));
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

    /// `ln p` of each row, where the distribution is known.
    pub(crate) fn truth(&self, x: &Tensor) -> Option<Vec<f64>> {
        match self {
            Source::Known { exact, .. } => Some(to_vec(&exact.log_density(x))),
            Source::Table(_) => None,
        }
    }

    fn training(&self) -> Box<dyn Rows + '_> {
        match self {
            Source::Known { train, .. } => Box::new(TensorRows::new(train.to_kind(Kind::Float))),
            Source::Table(prepared) => prepared.training(),
        }
    }

    /// A network trained by `objective`, its gradient shortened to `clip`; `tasks` reports it as
    /// `what`.
    pub(crate) fn train(
        &self,
        recipe: &Recipe,
        clip: f64,
        schedule: &ScheduleConfig,
        objective: &dyn Objective,
        device: Device,
        seed: Seed,
        task: (&str, &mut Tasks),
    ) -> Result<Model> {
        let base = match self {
            Source::Known { train, .. } => train.shallow_clone(),
            Source::Table(prepared) => prepared.training_rows(ROWS, seed.derive("base rows")),
        };
        let (rows, schedule) = (self.training(), schedule.build()?);
        let rows = (&base, &*rows);
        recipe.train((1, None), objective, rows, clip, (&schedule, device), seed, task)
    }
}
