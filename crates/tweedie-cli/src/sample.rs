//! `tweedie sample`

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use tch::Device;
use tweedie::covariance::CovarianceConfig;
use tweedie::density::{FillOptions, SampleOptions};
use tweedie::grid::SpacingConfig;
use tweedie::model::GuidedCovariance;
use tweedie::process_group::ProcessGroup;
use tweedie::sample::{Clipped, LastStep, Sampler};
use tweedie::{Error, Result};
use tweedie_report::plot::Pictures;

use crate::choice::{choice, covariances};
use crate::common::{Arithmetic, Common};
use crate::console::{Console, say};
use crate::flow::SolverArguments;
use crate::json::clipped_json;
use crate::latents::VaeArguments;
use crate::output::{Format, Output, check_output};
use crate::processes::{Processes, output_of};
use crate::terminal::print_json;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tweedie sample runs/wine -n 10000 --steps 20 -o samples.csv
  tweedie sample runs/wine -n 1000 --sampler flow --rtol 1e-4 -o samples.parquet
  tweedie sample runs/wine -n 1000 --sampler heun --steps 18 -o samples.csv
  tweedie sample runs/people -n 100 --given city=Bern --given age=40 -o samples.csv
  tweedie sample runs/people --given-file rows.csv --draws 20 -o samples.csv
  tweedie sample runs/digits -n 64 --steps 20 -o digits.png
  tweedie sample runs/digits -n 1000 --steps 20 -o digits/
  tweedie sample runs/digits -n 64 --steps 20 --clip --clip-noise 2 -o digits.png
  tweedie sample runs/digits -n 16 --class 3 -o threes.png
  tweedie sample runs/latents -n 1000 -o latents.npz
  tweedie sample runs/latents -n 16 --vae sd-vae-ft-mse -o sheet.png")]
pub struct Arguments {
    /// The run directory
    run: PathBuf,
    /// Number of samples
    #[arg(short, long, value_name = "N", default_value_t = 1000)]
    n: usize,
    /// Steps of the chain
    #[arg(long, value_name = "K", default_value_t = SampleOptions::default().steps)]
    steps: usize,
    /// Class of the samples, by name or number, of a run with classes [default: all in turn, from
    /// 0]
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// Cells that all samples have, of a mixed table: the others are drawn given
    /// these. Can be given more than once [default: none]
    #[arg(long, value_name = "A=CELL", value_parser = cell)]
    given: Vec<(String, String)>,
    /// Rows of cells that are given, of a mixed table: a table with some of its columns,
    /// others and empty cells being drawn given these. There is a sample for each row, in place
    /// of -n [default: none]
    #[arg(long, value_name = "ROWS", conflicts_with_all = ["given", "n"])]
    given_file: Option<PathBuf>,
    /// Samples for each row of --given-file, one after the other; of more than one a column `draw`
    /// has the number
    #[arg(long, value_name = "M", default_value_t = 1, requires = "given_file")]
    draws: usize,
    /// How to go from noise to data
    #[arg(long, default_value = "ancestral", value_parser = choice::<Sampler>())]
    sampler: Sampler,
    /// Covariance of a reverse step [default: the head's]
    #[arg(long, value_name = "WHICH", long_help = covariances(), help_heading = "Ancestral steps")]
    covariance: Option<CovarianceConfig>,
    #[command(flatten)]
    ancestral: AncestralOptions,
    #[command(flatten)]
    guidance: GuidanceOptions,
    #[command(flatten)]
    others: OtherOptions,
    /// How the steps are laid in time
    #[arg(long, default_value = "angle", value_parser = choice::<SpacingConfig>())]
    spacing: SpacingConfig,
    /// Seed of the samples
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Rows at a time; they change samples by rounding alone, those of flow within its tolerances
    /// [default: 4096; 64 images]
    #[arg(long, value_name = "B")]
    batch_size: Option<usize>,
    /// Height and width of one picture, for a PNG sheet or a folder of PNGs [default: square]
    #[arg(long, value_name = "HxW")]
    shape: Option<String>,
    /// Where to write: .csv, .tsv, .parquet, .npy (of images an array of bytes), .npz of latents,
    /// .png for a sheet of pictures, or a new folder, its name with a slash at the end, for a PNG of
    /// each
    #[arg(short, long, value_name = "FILE|DIR/")]
    out: PathBuf,
    #[command(flatten)]
    latents: VaeArguments,
    #[command(flatten)]
    arithmetic: Arithmetic,
    #[command(flatten)]
    processes: Processes,
    #[command(flatten)]
    common: Common,
}

/// What the sampler `ancestral` takes beside its covariance.
#[derive(Args, Debug)]
#[command(next_help_heading = "Ancestral steps")]
pub struct AncestralOptions {
    /// The signal-to-noise ratio α²/σ² above which steps have β̃ in place of --covariance, which
    /// leaves grain in pictures there; inf: at none [default: inf; of images whose last
    /// step is the mean 5]
    #[arg(long, value_name = "SNR")]
    pub covariance_until: Option<f64>,
    /// From 0 (DDIM) to 1 (ancestral) [default: 1]
    #[arg(long, value_name = "ETA")]
    pub eta: Option<f64>,
    /// What the last step puts out: the posterior mean, or a draw [default: noise; of images and
    /// latents mean]
    #[arg(long, value_parser = choice::<LastStep>())]
    pub last_step: Option<LastStep>,
    /// Hold the predicted clean image between black and white at every step; images alone
    #[arg(long)]
    pub clip: bool,
    /// The published end of a chain: the noise of the last step but one moves a pixel by at most Y
    /// of 255 levels in the mean (1 or 2), and the last step puts out its mean; images alone
    #[arg(long, value_name = "Y")]
    pub clip_noise: Option<f64>,
}

/// Classifier-free guidance, of models trained with --label-dropout.
#[derive(Args, Debug)]
#[command(next_help_heading = "Guidance")]
pub struct GuidanceOptions {
    /// Lead samples towards their classes by classifier-free guidance of scale W, 1 being the class
    /// alone and 1.5 to 4 usual; for models trained with --label-dropout. A guided model has no
    /// likelihood [default: none]
    #[arg(long, value_name = "W")]
    pub guidance: Option<f64>,
    /// The covariance of a guided step: that of the class, or (1 − W) times that without a class
    /// and W times that of the class, the guided score's own [default: conditional]
    #[arg(long, value_parser = choice::<GuidedCovariance>())]
    pub guided_covariance: Option<GuidedCovariance>,
    /// Guide the first N channels of images alone, as DiT's sampler does with 3 [default: all]
    #[arg(long, value_name = "N")]
    pub guided_channels: Option<usize>,
}

/// What other samplers take.
#[derive(Args, Debug)]
#[command(next_help_heading = "Other samplers")]
pub struct OtherOptions {
    /// Langevin steps at each time, predictor-corrector [default: 1]
    #[arg(long, value_name = "STEPS")]
    pub corrector_steps: Option<usize>,
    /// Signal-to-noise ratio r of a Langevin step, predictor-corrector [default: 0.16]
    #[arg(long, value_name = "R")]
    pub snr: Option<f64>,
    #[command(flatten)]
    pub solver: SolverArguments,
}

/// `A=CELL`.
fn cell(text: &str) -> std::result::Result<(String, String), String> {
    let (column, cell) = text.split_once('=').ok_or("not COLUMN=CELL, such as city=Bern")?;
    Ok((column.trim().into(), cell.trim().into()))
}

impl Arguments {
    fn options(&self) -> SampleOptions {
        let (ancestral, others, guided) = (&self.ancestral, &self.others, &self.guidance);
        SampleOptions {
            sampler: self.sampler,
            steps: self.steps,
            spacing: Some(self.spacing),
            class: self.class.clone(),
            guidance: guided.guidance,
            guided_covariance: guided.guided_covariance,
            guided_channels: guided.guided_channels,
            covariance: self.covariance,
            covariance_until: ancestral.covariance_until,
            eta: ancestral.eta,
            last_step: ancestral.last_step,
            clip: ancestral.clip,
            clip_noise: ancestral.clip_noise,
            corrector_steps: others.corrector_steps,
            snr: others.snr,
            solver: others.solver.options(),
            seed: self.seed,
            batch_size: self.batch_size,
        }
    }
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let (device, group) = arguments.processes.prepare(&arguments.common)?;
    group.reporting(|| sample(arguments, device, &group))
}

fn sample(arguments: &Arguments, device: Device, group: &ProcessGroup) -> Result<()> {
    let (common, options) = (&arguments.common, arguments.options());
    let quiet = common.quiet;
    options.check()?;
    let (out, n, format) = (&*arguments.out, arguments.n, Format::of(&arguments.out)?);
    let inputs: Vec<&Path> = arguments.given_file.iter().map(PathBuf::as_path).collect();
    check_output("--out", out, &inputs, &arguments.run, common.json)?;
    let (density, remarks) = arguments.arithmetic.load(common, &arguments.run, device)?;
    let (density, out) = (density.over(group), &*output_of(group, out)?);
    let vae = arguments.latents.open(device)?;
    let output = match &vae {
        None => Output::open(format, out, &density, arguments.shape.as_deref())?,
        Some(vae) => {
            let data = &density.run().data;
            let bad = |problem: &str, remedy| Err(Error::config("latents.vae", problem, remedy));
            let (Some(of), Some(shape)) = (&data.latents, data.image) else {
                return bad("the run is not of latents", "leave it out");
            };
            vae.check_of(of)?;
            if format == Format::Latents {
                return bad("an .npz holds latents, which are not decoded", "leave it out");
            }
            let image = vae.image_shape(shape)?;
            Output::of(format, out, || Ok(Pictures::images(image)))?
        }
    };
    let mut console = Console::new(quiet);
    let samples = match (&arguments.given_file, &arguments.given[..]) {
        (Some(path), _) => {
            let rows = density.given_file(path)?;
            let fill = FillOptions { draws: Some(arguments.draws), ..FillOptions::default() };
            density.fill_with(&rows, &fill, &options, &mut console)?
        }
        (None, []) => density.sample_with(n, &options, &mut console)?,
        (None, given) => {
            density.sample_given(&density.given_rows(given, n)?, &options, &mut console)?
        }
    };
    let n = samples.rows();
    drop(console);
    samples.clipped.lines().iter().for_each(|line| say(quiet, line));
    let samples = match &vae {
        Some(vae) => samples.decoded(vae, arguments.latents.tile)?,
        None => samples,
    };
    output.write(&samples, quiet)?;
    if common.json {
        let mut answer = json!({ "samples": n, "steps": options.steps, "out": out });
        answer["remarks"] = remarks.into();
        if samples.clipped != Clipped::default() {
            answer["clipped"] = clipped_json(&samples.clipped);
        }
        print_json(&answer);
    }
    Ok(())
}
