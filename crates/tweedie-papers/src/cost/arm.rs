//! What is compared, and how one iteration and one chain are timed.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

use tch::{Cuda, Device, Kind};

use super::Cost;
use tweedie::Result;
use tweedie::covariance::CovarianceConfig;
use tweedie::grid::{PathGrid, Spacing, TimeDistribution};
use tweedie::model::{
    Base, Denoiser, HeadConfig, HeadTrunk, Model, ModelConfig, Prediction, Structure,
};
use tweedie::noise::Noise;
use tweedie::objective::{
    LikelihoodMatching, LmForm, Objective, ObjectiveConfig, ScoreGradient, Weighting,
};
use tweedie::sample::{Ancestral, LastStep, run_chain};
use tweedie::schedule::Vp;
use tweedie::train::{Hooks, State, TensorRows, TrainConfig, Trainer};

/// What is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trained {
    /// Score and, where there is one, head.
    Both,
    /// The head, on a frozen score.
    Head,
}

/// A way to train.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arm {
    /// The covariance's rank; none for score matching.
    pub rank: Option<i64>,
    /// What the head sits on.
    pub trunk: HeadTrunk,
    /// What is trained.
    pub trained: Trained,
}

impl Arm {
    /// `sm`, `lm-r4-shared`, `head-r4-separate`.
    pub fn name(&self) -> String {
        let what = if self.trained == Trained::Head { "head" } else { "lm" };
        let trunk = if self.trunk == HeadTrunk::Separate { "separate" } else { "shared" };
        self.rank.map_or("sm".into(), |rank| format!("{what}-r{rank}-{trunk}"))
    }

    /// Whether it trains as the paper does: along simulated paths, with networks of their own for
    /// score and Hessian, no base corrected.
    fn is_paper(&self) -> bool {
        self.trunk == HeadTrunk::Separate
    }

    /// Its name in tables.
    pub fn label(&self) -> String {
        let trunk = match self.trunk {
            HeadTrunk::Separate => "as the paper",
            _ => "shared trunk",
        };
        match (self.rank, self.trained) {
            (None, _) => "SM".into(),
            (Some(rank), Trained::Both) => format!("LM, r = {rank}, {trunk}"),
            (Some(rank), Trained::Head) => format!("head only, r = {rank}, {trunk}"),
        }
    }
}

/// An arm ready to be timed.
pub(super) struct Rig {
    pub(super) arm: Arm,
    model: Model,
    objective: Box<dyn Objective>,
    rows: TensorRows,
    state: State,
    experiment: Cost,
    device: Device,
}

impl Rig {
    pub(super) fn new(experiment: &Cost, arm: Arm, device: Device) -> Result<Rig> {
        let shape = experiment.shape();
        let network = experiment.network.clone().for_images(shape, arm.trunk);
        let (dim, seed) = (shape.iter().product(), experiment.seed());
        let head = arm.rank.map(|rank| HeadConfig {
            structure: Structure::LowRank(rank),
            ..HeadConfig::default()
        });
        let prediction = match arm.is_paper() {
            true => Prediction::Epsilon,
            false => Prediction::Correction,
        };
        let model = ModelConfig { network, head, prediction, ..ModelConfig::default() };
        let model = model.init(
            Base::standard(dim),
            Arc::new(Vp::default()),
            device,
            seed.derive("weights"),
        )?;
        let (time, grid) = (TimeDistribution::Uniform, PathGrid::Random);
        let (objective, rows) = match arm.rank {
            None => (
                ObjectiveConfig::Sm { weighting: Weighting::Sigma2, time, draws: 1 },
                experiment.pairs,
            ),
            Some(_) => {
                let score = match arm.trained {
                    Trained::Both => ScoreGradient::Joint,
                    Trained::Head => ScoreGradient::Frozen,
                };
                let transitions = experiment.transitions;
                let form = if arm.is_paper() { LmForm::Path } else { LmForm::Marginal };
                let lm = ObjectiveConfig::from(LikelihoodMatching {
                    transitions,
                    form,
                    time,
                    grid,
                    score,
                });
                (lm, experiment.pairs / transitions)
            }
        };
        let images = Noise::new(seed.derive("images"), 0..rows as u64).normal(
            dim as usize,
            Kind::Float,
            Device::Cpu,
        );
        let state = State::new(&model);
        let experiment = experiment.clone();
        Ok(Rig {
            arm,
            model,
            objective: objective.build()?,
            rows: TensorRows::new(images),
            state,
            experiment,
            device,
        })
    }

    /// How many parameters the optimiser moves.
    pub(super) fn trained_parameters(&self) -> i64 {
        let (all, score) = (self.model.parameters().size(), self.model.score_size());
        if self.arm.trained == Trained::Head { all - score } else { all }
    }

    /// Seconds of one iteration of the trainer: draws, loss, gradient, Adam, moving average.
    pub(super) fn iterate(&mut self) -> Result<f64> {
        let config = TrainConfig {
            iterations: self.state.iteration + 1,
            batch_size: usize::MAX,
            learning_rate: 1e-4,
            ..TrainConfig::default()
        };
        let mut watch = Stopwatch::new(self.device);
        let (seed, state) = (self.experiment.seed(), &mut self.state);
        Trainer::new(config).fit(
            &self.model,
            &*self.objective,
            &self.rows,
            None,
            seed,
            state,
            &mut watch,
        )?;
        Ok(watch.seconds)
    }

    /// Seconds per 1000 steps of the ancestral sampler: with the learned covariance, for score
    /// matching with `H = 0`.
    pub(super) fn sample(&self) -> Result<f64> {
        let covariance = match self.arm.rank {
            Some(_) => CovarianceConfig::Own,
            None => CovarianceConfig::ZeroHessian,
        };
        let covariance = self.model.covariance(covariance)?;
        let step = Ancestral::new(&self.model, &*covariance, 1.0, LastStep::Noise)?;
        let steps = self.experiment.sampling_steps;
        // where the steps lie does not change how long they take
        let grid = Spacing::Even.elbo_grid(self.model.space().schedule(), steps);
        let mut watch = Stopwatch::new(self.device);
        watch.start();
        let _samples =
            run_chain(&step, &grid, self.experiment.seed(), 0..self.experiment.pairs as u64, None)?;
        watch.end();
        Ok(watch.seconds * 1000.0 / steps as f64)
    }
}

/// Times what lies between the trainer's question whether to stop, at the start of an iteration,
/// and its message that the step is done. A GPU works behind the program's back: both wait for it.
struct Stopwatch {
    device: Device,
    begun: Cell<Instant>,
    seconds: f64,
}

impl Stopwatch {
    fn new(device: Device) -> Stopwatch {
        Stopwatch { device, begun: Cell::new(Instant::now()), seconds: 0.0 }
    }

    fn wait(&self) {
        if let Device::Cuda(index) = self.device {
            Cuda::synchronize(index as i64);
        }
    }

    fn start(&self) {
        self.wait();
        self.begun.set(Instant::now());
    }

    fn end(&mut self) {
        self.wait();
        self.seconds = self.begun.get().elapsed().as_secs_f64();
    }
}

impl Hooks for Stopwatch {
    fn stop(&self) -> bool {
        self.start();
        false
    }

    fn step(&mut self, _iteration: u64) {
        self.end();
    }
}
