//! The options of `tweedie evaluate`.

use std::path::PathBuf;

use clap::Args;
use tweedie::covariance::CovarianceConfig;
use tweedie::density::{Decoder, EvaluateOptions, ImageOptions, Metric};
use tweedie::grid::SpacingConfig;
use tweedie::sample::Sampler;

use crate::choice::{choice, covariances};
use crate::common::{Arithmetic, Common};
use crate::flow::DequantizationArguments;
use crate::processes::Processes;
use crate::reading::Reading;
use crate::sample::{AncestralOptions, GuidanceOptions, OtherOptions};

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tweedie evaluate runs/wine
  tweedie evaluate runs/wine --data test.csv --metrics nll --steps 10,100,1000
  tweedie evaluate runs/wine --against runs/other
  tweedie evaluate runs/people --metrics quality --target city --steps 50
  tweedie evaluate runs/people --metrics nll,crps --given age,city --steps 50
  tweedie evaluate runs/cifar --metrics fd,is,pr --inception pt_inception-2015-12-05-6726825d.pth
  tweedie evaluate runs/wine --metrics mmd --sampler heun --steps 10,18
  tweedie evaluate runs/fashion --metrics fd --features .data/efficientnet-lite0-57934424.pth \\
    --samples 2000 --fewer-samples --save-reference fashion.npz")]
pub struct Arguments {
    /// The run directory
    pub(super) run: PathBuf,
    /// Test rows [default: the run's own test rows]
    #[arg(long, value_name = "TEST")]
    pub(super) data: Option<PathBuf>,
    /// What to measure [default: nll,mmd; of runs trained with --types nll; of
    /// images nll, or fd where --inception is given]
    #[arg(long, value_delimiter = ',', value_parser = choice::<Metric>())]
    metrics: Vec<Metric>,
    /// Another run on the same data: differences on the same rows, with their standard errors,
    /// under the same settings
    #[arg(long, value_name = "RUN")]
    pub(super) against: Option<PathBuf>,
    /// At most this many test rows, a draw by --seed [default: all]
    #[arg(long, value_name = "ROWS")]
    rows: Option<usize>,
    /// Numbers of steps; the samples of quality and crps have the largest
    #[arg(long, value_name = "K,K,…", value_delimiter = ',', default_value = "10,25,100")]
    steps: Vec<usize>,
    /// Covariances of a reverse step [default: of nll all that cost nothing, else learned]
    #[arg(long, value_name = "A,B,…", value_delimiter = ',', long_help = covariances())]
    covariance: Vec<CovarianceConfig>,
    /// How samples go from noise to data, of mmd, fd, is and pr: as `tweedie sample` draws them
    #[arg(long, default_value = "ancestral", value_parser = choice::<Sampler>())]
    sampler: Sampler,
    /// How steps are laid in time [default: angle; of levels the published even trajectory]
    #[arg(long, value_parser = choice::<SpacingConfig>())]
    spacing: Option<SpacingConfig>,
    /// What bits per dimension of images are of
    #[arg(long, default_value = "levels", value_parser = choice::<Decoder>())]
    decoder: Decoder,
    /// Leave out the probability-flow ODE, the slowest estimator; of images it is left to
    /// `tweedie score`
    #[arg(long)]
    no_ode: bool,
    #[command(flatten)]
    dequantization: DequantizationArguments,
    /// The column whose prediction is learned from samples and judged on the test rows (metric
    /// quality) [default: none]
    #[arg(long, value_name = "COLUMN")]
    target: Option<String>,
    /// Columns that are given, of a mixed table, besides those of train --context: nll is that of
    /// the others given these, and draws of crps are [default: none]
    #[arg(long, value_name = "A,B,…", value_delimiter = ',')]
    given: Vec<String>,
    /// Draws of each row (metric crps)
    #[arg(long, value_name = "M", default_value_t = EvaluateOptions::default().draws)]
    draws: usize,
    /// Seed of the draws
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Rows at a time [default: 2048; 64 images]
    #[arg(long, value_name = "B")]
    batch_size: Option<usize>,
    #[command(flatten)]
    pub(super) arithmetic: Arithmetic,
    #[command(flatten)]
    pub(super) processes: Processes,
    #[command(flatten)]
    pub(super) common: Common,
    #[command(flatten)]
    ancestral: AncestralOptions,
    #[command(flatten)]
    guidance: GuidanceOptions,
    #[command(flatten)]
    others: OtherOptions,
    #[command(flatten)]
    images: ImageArguments,
    #[command(flatten)]
    pub(super) reading: Reading,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Images (metrics fd, is and pr)")]
struct ImageArguments {
    /// Weights of the network that looks at images, .pth or .safetensors. Two are known by their
    /// tensors: pytorch-fid's Inception-v3 (pt_inception-2015-12-05-6726825d.pth; its distance is
    /// the FID), and EfficientNet-Lite0 (scripts/fetch-efficientnet.sh; its distance is called
    /// FD-EfficientNetLite0)
    #[arg(long = "inception", visible_alias = "features", value_name = "FILE")]
    network: Option<PathBuf>,
    /// Samples to draw for each number of steps
    #[arg(long, value_name = "N", default_value_t = ImageOptions::default().samples)]
    samples: usize,
    /// Allow fewer samples than the 50000 of published figures; a distance from few is too large
    #[arg(long)]
    fewer_samples: bool,
    /// What samples are compared with: images, or statistics (arrays mu and sigma) in an .npz file
    /// [default: all training images of the run]
    #[arg(long, value_name = "STATS.npz|DATA")]
    reference: Option<PathBuf>,
    /// Of a run of latents: decode samples to images by this autoencoder, the one that the latents
    /// are of; --reference gives images to compare them with
    #[arg(long, value_name = "VAE")]
    vae: Option<PathBuf>,
    /// Write the statistics of the reference's features, for --reference
    #[arg(long, value_name = "FILE.npz")]
    save_reference: Option<PathBuf>,
    /// Neighbours of precision, recall, density and coverage
    #[arg(long, value_name = "NUMBER", default_value_t = ImageOptions::default().neighbours)]
    neighbours: usize,
}

impl ImageArguments {
    fn options(&self, ancestral: &AncestralOptions, guided: &GuidanceOptions) -> ImageOptions {
        ImageOptions {
            network: self.network.clone(),
            samples: self.samples,
            fewer_samples: self.fewer_samples,
            reference: self.reference.clone(),
            vae: self.vae.clone(),
            save_reference: self.save_reference.clone(),
            last_step: ancestral.last_step,
            covariance_until: ancestral.covariance_until,
            guidance: guided.guidance,
            guided_covariance: guided.guided_covariance,
            guided_channels: guided.guided_channels,
            eta: ancestral.eta,
            clip: ancestral.clip,
            clip_noise: ancestral.clip_noise,
            neighbours: self.neighbours,
        }
    }
}

impl Arguments {
    pub fn options(&self) -> EvaluateOptions {
        EvaluateOptions {
            metrics: self.metrics.clone(),
            given: self.given.clone(),
            draws: self.draws,
            rows: self.rows,
            steps: self.steps.clone(),
            covariances: self.covariance.clone(),
            sampler: self.sampler,
            corrector_steps: self.others.corrector_steps,
            snr: self.others.snr,
            solver: self.others.solver.options(),
            spacing: self.spacing,
            decoder: self.decoder,
            ode: !self.no_ode,
            dequantization: self.dequantization.dequantization,
            start_time: self.dequantization.start_time,
            target: self.target.clone(),
            seed: self.seed,
            batch_size: self.batch_size,
            images: self.images.options(&self.ancestral, &self.guidance),
        }
    }
}
