//! What the benchmarks share: models, data and objectives of fixed seed, and training without
//! validation.

#![allow(dead_code)]

#[path = "../../../tweedie-cli/src/process.rs"]
pub mod process;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tch::{Device, Kind, Tensor};
use tweedie::covariance::{BetaTilde, Covariance, Own};
use tweedie::grid::{PathGrid, TimeDistribution};
use tweedie::model::{
    Base, Denoiser, Form, HeadBody, HeadConfig, MlpConfig, Model, ModelConfig, NetworkConfig,
    Prediction, Structure, UNetConfig,
};
use tweedie::noise::{Draw, Noise, Seed};
use tweedie::objective::{
    DenoisingScoreMatching, LikelihoodMatching, LmForm, Objective, ScoreGradient, Trains, Weighting,
};
use tweedie::query::{Batch, Query, Times};
use tweedie::sample::{Ancestral, LastStep, Step};
use tweedie::schedule::Vp;
use tweedie::train::{Hooks, State, TensorRows, TrainConfig, Trainer};

/// Network evaluations per training step.
pub const BATCH: usize = 512;
/// Transitions per row of Likelihood Matching; a step takes `BATCH / TRANSITIONS` rows.
pub const TRANSITIONS: usize = 4;

/// Denoising score matching with one draw per row.
pub const DSM: DenoisingScoreMatching = DenoisingScoreMatching {
    weighting: Weighting::Likelihood,
    time: TimeDistribution::LogSnr,
    draws: 1,
};

/// Likelihood Matching as it comes.
pub const LM: LikelihoodMatching = LikelihoodMatching {
    transitions: TRANSITIONS,
    form: LmForm::Marginal,
    time: TimeDistribution::LogSnr,
    grid: PathGrid::Random,
    score: ScoreGradient::Dsm,
};

/// Standard normal rows.
pub fn normal(seed: u64, rows: usize, columns: usize) -> Tensor {
    Noise::new(Seed(seed), 0..rows as u64).normal(columns, Kind::Float, Device::Cpu)
}

/// `network` on a standard base, with a low-rank head or none.
pub fn model(network: MlpConfig, dim: usize, rank: Option<i64>) -> Model {
    let head =
        rank.map(|r| HeadConfig { structure: Structure::LowRank(r), ..HeadConfig::default() });
    ModelConfig { network: NetworkConfig::Mlp(network), head, ..ModelConfig::default() }
        .init(Base::standard(dim as i64), Arc::new(Vp::default()), Device::Cpu, Seed(1))
        .expect("a valid model")
}

/// Three residual blocks of width 128: the default network.
pub fn residual(dim: usize, rank: Option<i64>) -> Model {
    model(MlpConfig::default(), dim, rank)
}

/// Layers without time embedding, `dim + 1 → width → … → dim`.
pub fn plain(dim: usize, width: i64, depth: i64, replicates: i64) -> Model {
    let network = MlpConfig {
        form: Form::Plain,
        width,
        depth,
        frequencies: 0,
        replicates,
        ..MlpConfig::default()
    };
    model(network, dim, None)
}

/// Images per step of the U-Net.
pub const IMAGES: usize = 32;

/// A U-Net of 6.1 M parameters for grey images of 32×32 that predicts ε, with a low-rank head on
/// its trunk or none.
pub fn unet(rank: Option<i64>, head_body: HeadBody) -> Model {
    let network = UNetConfig {
        widths: vec![64, 128, 128, 128],
        attention: vec![false, false, false, true],
        groups: 32,
        head_body,
        ..UNetConfig::default()
    };
    let head =
        rank.map(|r| HeadConfig { structure: Structure::LowRank(r), ..HeadConfig::default() });
    let base = Base::standard(network.dim());
    let network = NetworkConfig::UNet(network);
    ModelConfig { network, head, prediction: Prediction::Epsilon, ..ModelConfig::default() }
        .init(base, Arc::new(Vp::default()), Device::Cpu, Seed(1))
        .expect("a valid model")
}

/// `|F(x, t) − y|²` against fixed targets at fixed times: a training step without an objective's
/// own work.
pub struct SquaredError {
    times: Vec<f64>,
    targets: Tensor,
}

impl SquaredError {
    pub fn new(rows: usize, dim: usize) -> SquaredError {
        SquaredError {
            times: (0..rows).map(|i| (i as f64 + 0.5) / rows as f64).collect(),
            targets: normal(3, rows, dim),
        }
    }
}

impl Objective for SquaredError {
    fn loss(&self, model: &dyn Denoiser, batch: &Batch, _noise: &mut Noise) -> Tensor {
        // as of new draws: their coefficients go up in every step
        let times = Times::each(self.times.clone());
        let q = Query::new(&batch.x, &times).given(batch.condition.as_ref());
        (model.noise(&q) - &self.targets).square().mean_dim([1i64].as_slice(), false, None::<Kind>)
    }

    fn draws(&self) -> usize {
        1
    }

    fn noise(&self, _dim: usize) -> Vec<Draw> {
        Vec::new()
    }

    fn trains(&self) -> Trains {
        Trains::Score
    }
}

/// What is counted. On a machine that others use, processor time at one thread is the steadier
/// figure.
#[derive(Clone, Copy, PartialEq)]
pub enum Clock {
    Wall,
    /// Processor time of all threads, from Linux's scheduler.
    Cpu,
}

impl Clock {
    pub fn time(self, work: impl FnOnce()) -> Duration {
        let (wall, cpu) = (Instant::now(), self.processor_time());
        work();
        match self {
            Clock::Wall => wall.elapsed(),
            Clock::Cpu => self.processor_time() - cpu,
        }
    }

    fn processor_time(self) -> Duration {
        if self == Clock::Wall {
            return Duration::ZERO;
        }
        let threads = std::fs::read_dir("/proc/self/task").expect("Linux");
        let nanoseconds = threads.flatten().map(|thread| {
            let line = std::fs::read_to_string(thread.path().join("schedstat"))
                .expect("the scheduler's figures");
            line.split(' ').next().and_then(|n| n.parse::<u64>().ok()).expect("nanoseconds")
        });
        Duration::from_nanos(nanoseconds.sum())
    }
}

/// A training that can be taken up again: `fit` as a user calls it, without validation.
pub struct Training {
    model: Model,
    objective: Box<dyn Objective>,
    data: TensorRows,
    trainer: Trainer,
    state: State,
}

impl Training {
    /// Full batches of `rows` normal rows of `model`'s dimension. Gradients are clipped at `clip`.
    pub fn new(
        model: Model,
        objective: impl Objective + 'static,
        rows: usize,
        clip: f64,
    ) -> Training {
        let config = TrainConfig { batch_size: rows, clip, decay: false, ..TrainConfig::default() };
        let state = State::new(&model);
        let data = TensorRows::new(normal(2, rows, model.space().dim as usize));
        Training {
            model,
            objective: Box::new(objective),
            data,
            trainer: Trainer::new(config),
            state,
        }
    }

    /// `steps` more steps.
    pub fn run(&mut self, steps: u64) {
        struct Unheard;
        impl Hooks for Unheard {}
        self.trainer.config.iterations = self.state.iteration + steps;
        self.trainer
            .fit(
                &self.model,
                &*self.objective,
                &self.data,
                None,
                Seed(4),
                &mut self.state,
                &mut Unheard,
            )
            .expect("a training that does not diverge");
    }

    /// Milliseconds per step over `steps` more steps.
    pub fn time(&mut self, steps: u64, clock: Clock) -> f64 {
        let elapsed = clock.time(|| self.run(steps));
        1e3 * elapsed.as_secs_f64() / steps as f64
    }
}

/// The step of `BACKEND`: 3 → 128 → 128 → 2, squared error, through the whole trainer.
pub fn mlp() -> Training {
    Training::new(plain(2, 128, 2, 1), SquaredError::new(BATCH, 2), BATCH, 1.0)
}

/// A DSM step at `BATCH` network evaluations.
pub fn dsm(dim: usize) -> Training {
    Training::new(residual(dim, None), DSM, BATCH, 1.0)
}

/// An LM step at `BATCH` network evaluations.
pub fn lm(dim: usize, rank: i64) -> Training {
    Training::new(residual(dim, Some(rank)), LM, BATCH / TRANSITIONS, 1.0)
}

/// A U-Net's step by DSM, or by LM with a head, at `IMAGES` network evaluations.
pub fn unet_step(rank: Option<i64>, body: HeadBody) -> Training {
    match rank {
        None => Training::new(unet(None, body), DSM, IMAGES, 1.0),
        Some(_) => Training::new(unet(rank, body), LM, IMAGES / TRANSITIONS, 1.0),
    }
}

/// Milliseconds per ancestral step of `IMAGES` samples, by the head's covariance or β̃.
pub fn unet_sampling(rank: Option<i64>, body: HeadBody, steps: u64, clock: Clock) -> f64 {
    let model = unet(rank, body);
    let covariance: &dyn Covariance = if rank.is_some() { &Own } else { &BetaTilde };
    let step = Ancestral::new(&model, covariance, 1.0, LastStep::Mean).expect("a sampler");
    let mut noise = Noise::new(Seed(6), 0..IMAGES as u64);
    let mut x = normal(5, IMAGES, model.space().dim as usize);
    let elapsed = clock.time(|| {
        let grid: Vec<f64> = (0..=steps).map(|i| 0.5 + 0.4 * i as f64 / steps as f64).collect();
        tch::no_grad(|| {
            for pair in grid.windows(2).rev() {
                x = step.step(&Query::new(&x, &Times::All(pair[1])), pair[0], &mut noise);
            }
        });
    });
    1e3 * elapsed.as_secs_f64() / steps as f64
}

/// Trials whose networks are trained as one batch: few enough for a core's cache.
const GROUP: usize = 4;

/// The mixture experiment's `trials` trainings as one batch: one hidden layer of 64, 1000 rows
/// each, full batch, DSM.
pub fn trials(trials: usize) -> Training {
    Training::new(plain(1, 64, 1, trials as i64), DSM, 1000 * trials, 1e9)
}

/// `steps` steps of each trial, in groups shared out among the threads.
pub fn trials_together(number: usize, steps: u64, threads: usize) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                tch::set_num_threads(1);
                loop {
                    let first = next.fetch_add(GROUP, Ordering::Relaxed);
                    if first >= number {
                        break;
                    }
                    let group = GROUP.min(number - first);
                    trials(group).run(steps);
                }
            });
        }
    });
}
