//! Arms: ways to train, each kept as an ordinary run directory, which can be sampled, scored and
//! trained further.

use std::path::{Path, PathBuf};

use tch::Device;

use tweedie::data::TableOptions;
use tweedie::grid::{PathGrid, TimeDistribution};
use tweedie::model::{
    BaseConfig, BaseKind, HeadConfig, HeadStart, HeadTrunk, ModelConfig, Prediction, Structure,
};
use tweedie::objective::{
    Hessian, LikelihoodMatching, LmForm, ObjectiveConfig, ScoreGradient, Weighting,
};
use tweedie::run::{DataConfig, Prepared, Run, RunConfig};
use tweedie::{Error, Result};

use super::Settings;
use crate::runs::{Tasks, trained};

/// A way to train.
#[derive(Clone, Debug, PartialEq)]
pub struct Arm {
    /// Its run directory's name.
    pub name: String,
    /// What is minimised.
    pub objective: ObjectiveConfig,
    /// The covariance's rank, where the objective trains one.
    pub rank: i64,
    /// What the covariance head sits on.
    pub trunk: HeadTrunk,
    /// What the network's output predicts: a correction of the base's `ε̂`, or `ε̂`.
    pub prediction: Prediction,
    /// The run whose score is taken and frozen.
    pub score_from: Option<PathBuf>,
}

impl Arm {
    /// Score matching with σ² weighting and uniform times: the library's objective `sm`.
    pub fn sm(name: &str) -> Arm {
        let objective = ObjectiveConfig::Sm {
            weighting: Weighting::Sigma2,
            time: TimeDistribution::Uniform,
            draws: 1,
        };
        Arm::new(name, objective)
    }

    fn new(name: &str, objective: ObjectiveConfig) -> Arm {
        Arm {
            name: name.into(),
            objective,
            rank: 0,
            trunk: HeadTrunk::Shared,
            prediction: Prediction::Correction,
            score_from: None,
        }
    }

    /// Likelihood Matching in marginal form, times uniform in `t` as in [`Arm::sm`], so that the
    /// two differ in the objective alone: the library's default for images.
    pub fn lm(
        name: &str,
        transitions: usize,
        rank: i64,
        trunk: HeadTrunk,
        score: ScoreGradient,
    ) -> Arm {
        let (form, time) = (LmForm::default(), TimeDistribution::Uniform);
        let grid = PathGrid::Random;
        let objective =
            ObjectiveConfig::from(LikelihoodMatching { transitions, form, time, grid, score });
        Arm { rank, trunk, ..Arm::new(name, objective) }
    }

    /// Likelihood Matching as its paper has it, `--objective lm-paper` of `tweedie train`: along
    /// simulated paths of times uniform in `t`, score and Hessian together, a network for each, no
    /// base corrected.
    pub fn lm_paper(name: &str, transitions: usize, rank: i64) -> Arm {
        let objective = ObjectiveConfig::from(LikelihoodMatching {
            transitions,
            form: LmForm::Path,
            time: TimeDistribution::Uniform,
            grid: PathGrid::Random,
            score: ScoreGradient::Joint,
        });
        let (trunk, prediction) = (HeadTrunk::Separate, Prediction::Epsilon);
        Arm { rank, trunk, prediction, ..Arm::new(name, objective) }
    }

    /// The quasi-likelihood of a score alone under a fixed Hessian, as [`Arm::lm`] otherwise.
    pub fn fixed_hessian(name: &str, transitions: usize, hessian: Hessian) -> Arm {
        let (form, time) = (LmForm::default(), TimeDistribution::Uniform);
        let grid = PathGrid::Random;
        Arm::new(name, ObjectiveConfig::LmFixedHessian { transitions, form, time, grid, hessian })
    }
}

/// Where arms are trained: images split once, run directories side by side.
pub struct Studio<'a> {
    settings: &'a Settings,
    device: Device,
    prepared: Prepared,
    runs: PathBuf,
}

impl<'a> Studio<'a> {
    /// Reads the images, and refuses `arms` that cannot be trained on them before any is; runs are
    /// kept in `runs`.
    pub fn open(
        settings: &'a Settings,
        device: Device,
        runs: PathBuf,
        arms: &[Arm],
    ) -> Result<Studio<'a>> {
        let prepared = Prepared::read(&data_config(settings), settings.seed)?;
        if prepared.record.levels().is_none() {
            let problem = format!("{} is a table", settings.data);
            return Err(Error::config(
                "experiment.images.data",
                problem,
                "give images: IDX, CIFAR-10's batches, a folder",
            ));
        }
        let studio = Studio { settings, device, prepared, runs };
        arms.iter().try_for_each(|arm| studio.check(arm))?;
        Ok(studio)
    }

    /// Trains an arm, or goes on with it, or finds it finished.
    pub(crate) fn train(&self, arm: &Arm, tasks: &mut Tasks) -> Result<Run> {
        let (path, device) = (self.runs.join(&arm.name), self.device);
        let donor = arm.score_from.as_ref().map(|donor| Run::load(donor, device)).transpose()?;
        let config = self.config(arm)?;
        trained(&path, &config, &self.prepared, donor.as_ref(), device, &arm.name, tasks)
    }

    fn check(&self, arm: &Arm) -> Result<()> {
        let config = self.config(arm)?;
        let dim = self.prepared.record.scaling.dim() as i64;
        if !(0..=dim).contains(&arm.rank) {
            let remedy = format!("give a rank from 0 to the number of pixels and channels, {dim}");
            return Err(Error::config("experiment.rank", format!("{}", arm.rank), remedy));
        }
        config.model.network.check()
    }

    fn config(&self, arm: &Arm) -> Result<RunConfig> {
        let settings = self.settings;
        let shape = self.prepared.record.levels().expect("images").map(|n| n as i64);
        let draws = arm.objective.build()?.draws();
        if settings.pairs < draws {
            let problem = format!("{} pairs per step are fewer than N = {draws}", settings.pairs);
            return Err(Error::config(
                "experiment.images.pairs",
                problem,
                "give more, or fewer experiment.transitions",
            ));
        }
        let network = settings.network.clone().for_images(shape, arm.trunk);
        let head = arm.objective.trains_head().then(|| HeadConfig {
            structure: Structure::LowRank(arm.rank),
            // on a frozen score what was measured of it is the better start
            start: if arm.score_from.is_some() { HeadStart::Analytic } else { HeadStart::Base },
            ..HeadConfig::default()
        });
        let config = RunConfig {
            seed: settings.seed,
            data: data_config(settings),
            base: BaseConfig { kind: BaseKind::Isotropic, ..BaseConfig::default() },
            model: ModelConfig {
                network,
                head,
                prediction: arm.prediction,
                ..ModelConfig::default()
            },
            objective: arm.objective.clone(),
            train: settings.train(draws),
            ..RunConfig::default()
        };
        config.train.check()?;
        Ok(config)
    }
}

/// The images as runs read them: split, unless the test images have a file of their own.
pub(crate) fn data_config(settings: &Settings) -> DataConfig {
    let split = if settings.test.is_some() { [0.9, 0.1, 0.0] } else { [0.8, 0.1, 0.1] };
    let (crop, size) = (settings.crop, settings.size);
    let table = TableOptions { crop, size, ..TableOptions::default() };
    DataConfig { source: settings.data.clone(), split, table, ..DataConfig::default() }
}

/// A run directory's name, for tables.
pub(crate) fn run_name(path: &Path) -> String {
    path.file_name()
        .map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}
