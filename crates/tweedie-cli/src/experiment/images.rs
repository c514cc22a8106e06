//! `tweedie experiment few-steps`, `hessian-ablation`, `image-grid` and `covariance-table`

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use tweedie::Result;
use tweedie::covariance::CovarianceConfig;
use tweedie::model::HeadTrunk;
use tweedie::objective::ScoreGradient;
use tweedie_papers::covariance_table::{CovarianceTable, Learner};
use tweedie_papers::few_steps::FewSteps;
use tweedie_papers::hessian_ablation::HessianAblation;
use tweedie_papers::image_grid::ImageGrid;
use tweedie_papers::images::Settings;

use super::Output;
use super::cost::NetworkName;

#[derive(Args, Debug)]
struct ImageOptions {
    #[command(flatten)]
    output: Output,
    /// Images to train on: an IDX file, a CIFAR-10 batch, a folder of PNG, JPEG and others
    #[arg(long, value_name = "IMAGES", help_heading = "Images")]
    data: Option<String>,
    /// Bring images to this height and width; MNIST's 28x28 must be 32x32 for the paper's network
    #[arg(long, value_name = "HxW", value_parser = crate::train::size, help_heading = "Images")]
    size: Option<[usize; 2]>,
    /// Test images of their own [default: a tenth of the data, not trained on]
    #[arg(long, value_name = "IMAGES", help_heading = "Images")]
    test: Option<PathBuf>,
    /// Which U-Net is trained
    #[arg(long, default_value = "small", help_heading = "Budget of every training")]
    network: NetworkName,
    #[command(flatten)]
    budget: Budget,
    #[command(flatten)]
    protocol: Protocol,
}

/// What a training takes.
#[derive(Args, Debug)]
#[command(next_help_heading = "Budget of every training")]
struct Budget {
    /// Steps of the optimiser
    #[arg(long, value_name = "I", default_value_t = 5000)]
    iterations: u64,
    /// Pairs (x_t, t) per step: PAIRS / N rows
    #[arg(long, value_name = "PAIRS", default_value_t = 64)]
    batch_size: usize,
    /// Adam's step size
    #[arg(long, value_name = "RATE", default_value_t = 1e-3)]
    learning_rate: f64,
}

/// How runs are judged.
#[derive(Args, Debug)]
#[command(next_help_heading = "Protocol")]
struct Protocol {
    /// Test images, or rows, for likelihoods, drawn at random by --seed
    #[arg(long, value_name = "ROWS", default_value_t = 256)]
    rows: usize,
    /// Terms of a likelihood's bound that are computed for each row, drawn among all where there
    /// are more; 0: all
    #[arg(long, value_name = "TERMS", default_value_t = 0)]
    terms: usize,
    /// Weights of a feature network (pytorch-fid's Inception, EfficientNet-Lite0): Fréchet
    /// distances are given with it alone
    #[arg(long, value_name = "FILE")]
    features: Option<PathBuf>,
    /// Samples for a Fréchet distance
    #[arg(long, value_name = "SAMPLES", default_value_t = 1000)]
    samples: usize,
    /// Test images that samples are compared with, drawn likewise
    #[arg(long, value_name = "ROWS", default_value_t = 10_000)]
    reference: usize,
    /// Levels of 255 that the noise of a chain's last step but one may move a pixel by, in the
    /// mean: the published end of a chain of images, 1 or 2; 0: whatever the covariance says
    #[arg(long, value_name = "Y", default_value_t = 1.0)]
    clip_noise: f64,
    /// Images computed at a time when judging; they change results by rounding alone
    #[arg(long, value_name = "B", default_value_t = 64)]
    eval_batch: usize,
}

impl Protocol {
    fn settings(&self, output: &Output, budget: &Budget) -> Result<Settings> {
        Ok(Settings {
            iterations: budget.iterations,
            pairs: budget.batch_size,
            learning_rate: budget.learning_rate,
            rows: self.rows,
            terms: self.terms,
            samples: self.samples,
            reference: self.reference,
            clip_noise: self.clip_noise,
            batch: self.eval_batch,
            features: self.features.clone(),
            device: output.prepare()?,
            seed: output.seed,
            ..Settings::default()
        })
    }
}

impl ImageOptions {
    fn settings(&self) -> Result<Settings> {
        Ok(Settings {
            data: self.data.clone().unwrap_or_default(),
            size: self.size,
            test: self.test.clone(),
            // the shape follows the images
            network: self.network.config([1, 32, 32]),
            ..self.protocol.settings(&self.output, &self.budget)?
        })
    }
}

#[derive(Args, Debug)]
#[command(after_help = "\
Writes few-steps.md, few-steps.csv, curves over K and a sheet of samples for each run, method and K. Methods: the learned \
covariance (runs with a head), H = 0, β̃, DDIM. Runs that are trained are kept in DIR/runs: the same command goes on with \
them, and finds finished ones finished. Fréchet distances are given with --features alone.

Time: with the small network a step of 64 pairs takes about 1.15 s on one thread at 28x28, hence 5000 iterations an hour and a half \
per training; two are trained without --run. Bits per dimension take about 8 s per 64 images in 20 steps, so K = 1000 is five \
sixths of the judging.

Examples:
  tweedie experiment few-steps --out results/few-steps --run runs/mnist-lm --run runs/mnist-sm
  tweedie experiment few-steps --out results/few-steps --data train-images-idx3-ubyte.gz --size 32x32 --steps 5,10,20,50
  tweedie experiment few-steps --out results/look --data digits/ --quick")]
pub struct FewStepsArguments {
    #[command(flatten)]
    images: ImageOptions,
    /// A trained run on images; give it again for more [default: an LM and an SM run are trained on
    /// --data]
    #[arg(long, value_name = "RUN")]
    run: Vec<PathBuf>,
    /// Numbers of sampling steps
    #[arg(
        long,
        value_name = "K,K,…",
        value_delimiter = ',',
        default_value = "5,10,20,50,100,1000"
    )]
    steps: Vec<usize>,
    /// Samples on a sheet
    #[arg(long, value_name = "IMAGES", default_value_t = 64)]
    sheet: usize,
    /// Transitions of the LM run that is trained
    #[arg(long, value_name = "N", default_value_t = 4)]
    transitions: usize,
    /// Rank of its covariance
    #[arg(long, value_name = "R", default_value_t = 4)]
    rank: i64,
}

impl FewStepsArguments {
    pub fn run(&self) -> Result<()> {
        let output = &self.images.output;
        let mut experiment = FewSteps {
            images: self.images.settings()?,
            runs: self.run.clone(),
            transitions: self.transitions,
            rank: self.rank,
            steps: self.steps.clone(),
            sheet: self.sheet,
        };
        if output.quick {
            experiment = experiment.quick();
        }
        let work = |progress: &mut dyn FnMut(&str, f64)| experiment.run(&output.out, progress);
        output.run("few-steps", work, |report, dir| report.write(dir))
    }
}

#[derive(Args, Debug)]
#[command(after_help = "\
Trains seven runs under one budget: score matching; the quasi-likelihood with H = 0; score and head by the quasi-likelihood, and \
the head by it under a score by score matching, both on a shared trunk and with networks of their own, the latter also on the \
score's features without a gradient into them, the default of `tweedie train`. Judges each with its \
learned covariance, H = 0 and β̃. Writes hessian-ablation.md, .csv and curves; runs are kept in DIR/runs: the same command goes \
on with them. Fréchet distances are given with --features alone.

Time: with the small network a step of 64 pairs takes about 1.15 s on one thread at 28x28, hence 5000 iterations an hour and a half \
per training.

Examples:
  tweedie experiment hessian-ablation --out results/ablation --data train-images-idx3-ubyte.gz
  tweedie experiment hessian-ablation --out results/look --data digits/ --quick")]
pub struct AblationArguments {
    #[command(flatten)]
    images: ImageOptions,
    /// Numbers of sampling steps
    #[arg(long, value_name = "K,K,…", value_delimiter = ',', default_value = "10,20")]
    steps: Vec<usize>,
    /// Transitions per image
    #[arg(long, value_name = "N", default_value_t = 4)]
    transitions: usize,
    /// Rank of the learned covariance
    #[arg(long, value_name = "R", default_value_t = 4)]
    rank: i64,
}

impl AblationArguments {
    pub fn run(&self) -> Result<()> {
        let output = &self.images.output;
        let mut experiment = HessianAblation {
            images: self.images.settings()?,
            transitions: self.transitions,
            rank: self.rank,
            steps: self.steps.clone(),
        };
        if output.quick {
            experiment = experiment.quick();
        }
        let work = |progress: &mut dyn FnMut(&str, f64)| experiment.run(&output.out, progress);
        output.run("hessian-ablation", work, |report, dir| report.write(dir))
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum GridMode {
    /// One score by score matching for all cells, frozen; each cell trains a head
    Head,
    /// Each cell trains its score by score matching and its head by the quasi-likelihood
    Dsm,
    /// Each cell trains score and head by the quasi-likelihood, as the paper
    Joint,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Trains score matching and a run for every N and r, and judges each with its learned covariance. Writes image-grid.md, .csv and \
a figure for each K; runs are kept in DIR/runs: the same command goes on with them. Fréchet distances are given with \
--features alone.

Time: with the small network a step of 64 pairs takes about 1.15 s on one thread at 28x28, hence 5000 iterations an hour and a half \
per training, a day for the seventeen of the default; work for a GPU.

Examples:
  tweedie experiment image-grid --out results/grid --data train-images-idx3-ubyte.gz
  tweedie experiment image-grid --out results/grid --data mnist/ --mode joint --separate --device cuda
  tweedie experiment image-grid --out results/look --data digits/ --quick")]
pub struct GridArguments {
    #[command(flatten)]
    images: ImageOptions,
    /// Numbers of transitions; divisors of --batch-size have equal budgets
    #[arg(long, value_name = "N,N,…", value_delimiter = ',', default_value = "2,4,8,16")]
    transitions: Vec<usize>,
    /// Ranks of the covariance
    #[arg(long, value_name = "R,R,…", value_delimiter = ',', default_value = "0,1,4,16")]
    ranks: Vec<i64>,
    /// What a cell trains
    #[arg(long, default_value = "head")]
    mode: GridMode,
    /// A network of its own for the covariance, as in the paper
    #[arg(long)]
    separate: bool,
    /// Numbers of sampling steps
    #[arg(long, value_name = "K,K,…", value_delimiter = ',', default_value = "20,100")]
    steps: Vec<usize>,
}

impl GridArguments {
    pub fn run(&self) -> Result<()> {
        let output = &self.images.output;
        let mut experiment = ImageGrid {
            images: self.images.settings()?,
            transitions: self.transitions.clone(),
            ranks: self.ranks.clone(),
            score: match self.mode {
                GridMode::Head => ScoreGradient::Frozen,
                GridMode::Dsm => ScoreGradient::Dsm,
                GridMode::Joint => ScoreGradient::Joint,
            },
            trunk: match (self.separate, self.mode) {
                (true, _) => HeadTrunk::Separate,
                // the score is frozen: no gradient of the head can reach it
                (false, GridMode::Head) => HeadTrunk::Shared,
                (false, GridMode::Dsm | GridMode::Joint) => HeadTrunk::Detached,
            },
            steps: self.steps.clone(),
        };
        if output.quick {
            experiment = experiment.quick();
        }
        let work = |progress: &mut dyn FnMut(&str, f64)| experiment.run(&output.out, progress);
        output.run("image-grid", work, |report, dir| report.write(dir))
    }
}

#[derive(Args, Debug)]
#[command(after_help = "\
Judges every covariance of one score: likelihood, Fréchet distance with DDPM's and DDIM's steps, the cost of a step. The score is a \
run's, of images or of a table, or a diffusers model's, of which a run is made in DIR/runs/score. Heads are runs of `tweedie train \
--score-from RUN --objective lm|ocm|npr|sn|iddpm`, or are trained here: kept in DIR/runs, the same command goes on with them. \
Writes covariance-table.md, .csv and curves. Fréchet distances of images are given with --features alone; those of tables are of \
the columns.

Time: 9 min of processor time for a given score and four given heads on Fashion-MNIST (64 test images, --terms 25); 19 min for seven \
heads trained on a table of 64 columns; 22 min for a diffusers model at 14x14 with three heads and distances.

Examples:
  tweedie experiment covariance-table --out results/covariances --run runs/score --head runs/lm --head runs/ocm --test t10k-images-idx3-ubyte.gz
  tweedie experiment covariance-table --out results/digits --run runs/digits --train lm-4,ocm,npr
  tweedie experiment covariance-table --out results/ddpm --run ddpm-folder --data images/ --train lm-4,ocm --features inception.pth
  tweedie experiment covariance-table --out results/look --run runs/score --quick")]
pub struct CovarianceArguments {
    #[command(flatten)]
    output: Output,
    /// The run whose score is everybody's, or the folder of a diffusers model
    #[arg(long, value_name = "RUN")]
    run: PathBuf,
    /// Images that a diffusers model is of; a run has its data
    #[arg(long, value_name = "IMAGES")]
    data: Option<String>,
    /// Bring these images to this height and width
    #[arg(long, value_name = "HxW", value_parser = crate::train::size)]
    size: Option<[usize; 2]>,
    /// A run with a covariance head on that score; give it again for more
    #[arg(long, value_name = "RUN")]
    head: Vec<PathBuf>,
    /// Heads to train on that score: lm, lm-R, ocm, ocm-R (of rank R; without it diagonal), npr,
    /// sn, iddpm
    #[arg(long, value_name = "A,B,…", value_delimiter = ',')]
    train: Vec<Learner>,
    /// Covariances that need no head
    #[arg(
        long,
        value_name = "A,B,…",
        value_delimiter = ',',
        default_value = "beta-tilde,beta,zero-hessian,analytic,rademacher-1",
        long_help = crate::sample::COVARIANCES
    )]
    covariances: Vec<CovarianceConfig>,
    /// Numbers of sampling steps
    #[arg(
        long,
        value_name = "K,K,…",
        value_delimiter = ',',
        default_value = "10,25,50,100,200,1000"
    )]
    steps: Vec<usize>,
    /// Test images, or rows, of their own [default: the run's]
    #[arg(long, value_name = "FILE")]
    test: Option<PathBuf>,
    #[command(flatten)]
    budget: Budget,
    #[command(flatten)]
    protocol: Protocol,
}

impl CovarianceArguments {
    pub fn run(&self) -> Result<()> {
        let images = Settings {
            data: self.data.clone().unwrap_or_default(),
            size: self.size,
            test: self.test.clone(),
            ..self.protocol.settings(&self.output, &self.budget)?
        };
        let mut experiment = CovarianceTable {
            images,
            run: self.run.clone(),
            heads: self.head.clone(),
            train: self.train.clone(),
            covariances: self.covariances.clone(),
            steps: self.steps.clone(),
        };
        if self.output.quick {
            experiment = experiment.quick();
        }
        let work = |progress: &mut dyn FnMut(&str, f64)| experiment.run(&self.output.out, progress);
        self.output.run("covariance-table", work, |report, dir| report.write(dir))
    }
}
