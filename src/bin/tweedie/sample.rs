//! `tweedie sample`

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;
use tch::Tensor;
use tweedie::covariance::Covariance;
use tweedie::data::{OutputFile, TableFormat, write_table};
use tweedie::grid::Spacing;
use tweedie::model::{Denoiser, Given, Model};
use tweedie::noise::Seed;
use tweedie::plot::{Sheet, sheet_of};
use tweedie::run::Run;
use tweedie::sample::{Ancestral, EulerMaruyama, FlowSampler, LastStep, Step, run_chain, sample_in_batches};
use tweedie::tensor::to_vec;
use tweedie::{Error, Result};

use crate::console::{Progress, print_json, say};
use crate::{Common, MOST_ROWS, MOST_STEPS};

#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
pub enum CovarianceName {
    /// The model's own covariance
    Learned,
    /// k² I, DDPM "large"
    Beta,
    /// The forward bridge's, DDPM "small"
    BetaTilde,
    /// H = 0, the paper's score-matching sampler
    ZeroHessian,
}

impl CovarianceName {
    pub fn get(self) -> Covariance {
        match self {
            CovarianceName::Learned => Covariance::Learned,
            CovarianceName::Beta => Covariance::Beta,
            CovarianceName::BetaTilde => Covariance::BetaTilde,
            CovarianceName::ZeroHessian => Covariance::ZeroHessian,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
pub enum SamplerName {
    /// Draws from the Gaussian bridge; DDPM, DDIM and Likelihood Matching's sampler
    Ancestral,
    /// Euler–Maruyama on the reverse SDE
    EulerMaruyama,
    /// The probability-flow ODE, Dormand–Prince with error control
    Flow,
}

#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
pub enum LastName {
    Mean,
    Noise,
}

impl LastName {
    pub fn get(self) -> LastStep {
        match self {
            LastName::Mean => LastStep::Mean,
            LastName::Noise => LastStep::Noise,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
pub enum SpacingName {
    Even,
    Quadratic,
    LogSnr,
    Angle,
}

impl SpacingName {
    pub fn get(self) -> Spacing {
        match self {
            SpacingName::Even => Spacing::Even,
            SpacingName::Quadratic => Spacing::Quadratic,
            SpacingName::LogSnr => Spacing::LogSnr,
            SpacingName::Angle => Spacing::Angle,
        }
    }
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tweedie sample runs/wine -n 10000 --steps 20 -o samples.csv
  tweedie sample runs/wine -n 1000 --sampler flow -o samples.parquet
  tweedie sample runs/digits -n 64 --steps 20 -o digits.png
  tweedie sample runs/digits -n 16 --class 3 -o threes.png")]
pub struct Arguments {
    /// The run directory
    run: PathBuf,
    /// Number of samples
    #[arg(short, long, value_name = "N", default_value_t = 1000)]
    n: usize,
    /// Steps of the chain
    #[arg(long, value_name = "K", default_value_t = 20)]
    steps: usize,
    /// Class of the samples, by name or number, of a run with classes [default: all in turn, from 0]
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// Covariance of a reverse step
    #[arg(long, default_value = "learned")]
    covariance: CovarianceName,
    /// From 0 (DDIM) to 1 (ancestral)
    #[arg(long, value_name = "ETA", default_value_t = 1.0)]
    eta: f64,
    /// How to go from noise to data
    #[arg(long, default_value = "ancestral")]
    sampler: SamplerName,
    /// What the last step puts out: the posterior mean, or a draw [default: noise; of images mean]
    #[arg(long)]
    last_step: Option<LastName>,
    /// How the steps are laid in time
    #[arg(long, default_value = "angle")]
    spacing: SpacingName,
    /// Seed of the samples
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Rows at a time; samples do not depend on it [default: 4096; 64 images]
    #[arg(long, value_name = "B")]
    batch_size: Option<usize>,
    /// Height and width of one picture, for a PNG sheet [default: square]
    #[arg(long, value_name = "HxW")]
    shape: Option<String>,
    /// Where to write: .csv, .tsv, .parquet, .npy, or .png for a sheet of pictures
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    common: Common,
}

/// A sampler's step of a model, which may be bound to the classes of a batch.
pub type StepOf<'e> = dyn for<'a> Fn(&'a dyn Denoiser) -> Result<Box<dyn Step + 'a>> + 'e;

/// Ancestral steps with the model's own covariance.
pub fn ancestral(model: &dyn Denoiser) -> Result<Box<dyn Step + '_>> {
    Ok(Box::new(Ancestral::new(model, Covariance::Learned, 1.0, LastStep::Noise)?))
}

/// The model for the samples with these numbers: of the class asked for, or of all its classes in turn.
pub fn given(model: &Model, class: Option<u32>, rows: std::ops::Range<u64>) -> Given<'_> {
    let classes = model.classes() as u64;
    let of_rows: Option<Vec<u32>> =
        (classes > 0).then(|| rows.map(|row| class.unwrap_or((row % classes) as u32)).collect());
    model.given(of_rows.as_deref())
}

/// Samples of a run in the network's units, of one of its classes or of all in turn.
pub fn draw(
    run: &Run,
    class: Option<u32>,
    step: &StepOf,
    spacing: Spacing,
    steps: usize,
    n: usize,
    batch: usize,
    seed: Seed,
    progress: &mut Progress,
) -> Result<Tensor> {
    let grid = spacing.elbo_grid(&**run.schedule(), steps);
    sample_in_batches(n, batch, |rows| {
        let end = rows.end;
        let model = given(&run.model, class, rows.clone());
        let part = run_chain(&*step(&model)?, &grid, seed, rows);
        progress.at(end);
        part
    })
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let device = arguments.common.prepare()?;
    Error::check_count("-n", arguments.n, MOST_ROWS)?;
    Error::check_count("--steps", arguments.steps, MOST_STEPS)?;
    let png = arguments.out.extension().is_some_and(|e| e.eq_ignore_ascii_case("png"));
    if !png {
        TableFormat::of(&arguments.out)?;
    }
    let run = Run::load(&arguments.run, device)?;
    let batch = crate::batch_size(arguments.batch_size, 4096, &run)?;
    let class = arguments.class.as_ref().map(|name| run.data.class(name)).transpose()?;
    let spacing = arguments.spacing.get();
    let pictures = png.then(|| Pictures::of(&run, arguments.shape.as_deref())).transpose()?;
    let out = OutputFile::create(&arguments.out)?;
    let mut progress = Progress::new("sample", arguments.n as u64, arguments.common.quiet);
    let (seed, n) = (Seed(arguments.seed), arguments.n);
    let last = match arguments.last_step {
        Some(last) => last.get(),
        None if run.data.image.is_some() => LastStep::Mean,
        None => LastStep::Noise,
    };
    let covariance = crate::score::covariance(&run, arguments.covariance.get(), arguments.common.quiet);
    let scaled = match arguments.sampler {
        SamplerName::Ancestral => {
            let step: &StepOf =
                &|model| Ok(Box::new(Ancestral::new(model, covariance, arguments.eta, last)?));
            draw(&run, class, step, spacing, arguments.steps, n, batch, seed, &mut progress)?
        }
        SamplerName::EulerMaruyama => {
            let step: &StepOf = &|model| Ok(Box::new(EulerMaruyama::new(model)));
            draw(&run, class, step, spacing, arguments.steps, n, batch, seed, &mut progress)?
        }
        SamplerName::Flow => sample_in_batches(n, batch, |rows| {
            let end = rows.end;
            let model = given(&run.model, class, rows.clone());
            let part = FlowSampler::new(&model).sample(seed, rows);
            progress.at(end);
            part
        })?,
    };
    progress.finish();
    let scaled = to_vec(&scaled);
    let values = run.data.scaling.inverse(&scaled);
    match pictures {
        None => write_table(out, &run.data.names(), &run.data.cell_types(), &values)?,
        Some(pictures) => pictures.write(out, &values, n, arguments.common.quiet)?,
    }
    if arguments.common.json {
        print_json(&json!({ "samples": n, "steps": arguments.steps, "out": arguments.out }));
    }
    Ok(())
}

/// Black and white of images.
pub const LEVELS: (f64, f64) = (0.0, 255.0);

/// How rows are shown as pictures.
pub struct Pictures {
    /// Channels, height, width.
    pub shape: [usize; 3],
    /// Whether rows are images, levels 0…255.
    levels: bool,
}

impl Pictures {
    /// Images, levels 0…255.
    pub fn images(shape: [usize; 3]) -> Pictures {
        Pictures { shape, levels: true }
    }

    /// The images of `run`, or rows as grey pictures of the shape `given`.
    pub fn of(run: &Run, given: Option<&str>) -> Result<Pictures> {
        if let (Some(shape), None) = (run.data.image, given) {
            return Ok(Pictures::images(shape));
        }
        let (height, width) = picture_shape(given, run.data.scaling.dim())?;
        Ok(Pictures { shape: [1, height, width], levels: false })
    }

    /// Black and white: of levels, 0 and 255; else the 1 % and 99 % quantiles of `values`.
    pub fn range(&self, values: &[f64]) -> (f64, f64) {
        if self.levels {
            return LEVELS;
        }
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |q: f64| sorted[((sorted.len() - 1) as f64 * q) as usize];
        (at(0.01), at(0.99))
    }

    /// A sheet with so many pictures a row.
    pub fn sheet(&self, values: &[f64], columns: usize, range: (f64, f64)) -> Sheet {
        sheet_of(values, self.shape, columns, range)
    }

    /// Writes `n` rows as one square sheet, and says what was clipped.
    pub fn write(&self, out: OutputFile, values: &[f64], n: usize, quiet: bool) -> Result<()> {
        let sheet = self.sheet(values, (n as f64).sqrt().ceil() as usize, self.range(values));
        out.finish(&sheet.png())?;
        if sheet.clipped > 0 {
            let (clipped, all) = (sheet.clipped, values.len());
            say(quiet, format!("{clipped} of {all} values lie outside the grey scale and were clipped"));
        }
        Ok(())
    }
}

/// `HxW`, or the square that fits.
fn picture_shape(given: Option<&str>, dim: usize) -> Result<(usize, usize)> {
    let wrong =
        |problem: String| Error::config("--shape", problem, format!("give HxW with H times W = {dim}"));
    let (height, width) = match given {
        None => {
            let side = (dim as f64).sqrt().round() as usize;
            (side, side)
        }
        Some(text) => {
            let parts: Vec<Option<usize>> = text.split('x').map(|p| p.parse().ok()).collect();
            match parts[..] {
                [Some(height), Some(width)] => (height, width),
                _ => return Err(wrong(format!("'{text}' is not HxW"))),
            }
        }
    };
    if height.checked_mul(width) != Some(dim) {
        return Err(wrong(format!("{dim} columns are not {height} x {width} pixels")));
    }
    Ok((height, width))
}
