//! `tweedie sample`

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::json;
use tch::Tensor;
use tweedie::covariance::CovarianceConfig;
use tweedie::data::{OutputFile, TableFormat, write_table};
use tweedie::model::{Denoiser, Model};
use tweedie::noise::Seed;
use tweedie::query::Condition;
use tweedie::run::{Measured, Run, statistics_rows};
use tweedie::sample::{
    Ancestral, Clipped, Defaults, DpmSolver, EulerMaruyama, FlowSampler, Heun, LastStep,
    PredictorCorrector, Step, run_chain, sample_in_batches,
};
use tweedie::tensor::{Count, to_vec};
use tweedie::{Error, Result};
use tweedie_report::plot::{Sheet, picture_of, sheet_of};

use crate::console::{Progress, check_output, print_json, remark, say};
use crate::flow::SolverArguments;
use crate::spacing::{Grids, SpacingName};
use crate::{Common, MOST_ROWS, MOST_STEPS};

/// What `--covariance` takes, for help texts.
pub const COVARIANCES: &str = "\
Covariance of a reverse step: learned, the model's own head (the default, but for runs with --objective iddpm); beta and beta-tilde, DDPM's large and small; \
zero-hessian, the Likelihood Matching paper's score-matching sampler; analytic, one number per time measured on the training data \
(Analytic-DPM; measured at its first use and kept with the run); interpolated, between beta-tilde and beta as the head of a run \
with --objective iddpm says; and from the score's Jacobian, by vector-Jacobian products at \
every step: rademacher-M, its diagonal by M of them with random signs, diagonal and full, exactly by as many as there are columns.";

#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
pub enum SamplerName {
    /// Draws from the Gaussian bridge; DDPM, DDIM and Likelihood Matching's sampler
    Ancestral,
    /// Euler–Maruyama on the reverse SDE
    EulerMaruyama,
    /// The probability-flow ODE, Dormand–Prince with error control; takes the steps that it needs
    Flow,
    /// The probability-flow ODE, Heun's method in K steps of two evaluations
    Heun,
    /// DPM-Solver++(2M): the probability-flow ODE in K steps of one evaluation
    DpmSolver,
    /// Reverse diffusion, corrected by Langevin steps at each of the K times
    PredictorCorrector,
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

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tweedie sample runs/wine -n 10000 --steps 20 -o samples.csv
  tweedie sample runs/wine -n 1000 --sampler flow --rtol 1e-4 -o samples.parquet
  tweedie sample runs/wine -n 1000 --sampler heun --steps 18 -o samples.csv
  tweedie sample runs/digits -n 64 --steps 20 -o digits.png
  tweedie sample runs/digits -n 1000 --steps 20 -o digits/
  tweedie sample runs/digits -n 64 --steps 20 --clip --clip-noise 2 -o digits.png
  tweedie sample runs/digits -n 16 --class 3 -o threes.png")]
pub struct Arguments {
    /// The run directory
    run: PathBuf,
    /// Number of samples
    #[arg(short, long, value_name = "N", default_value_t = 1000)]
    n: usize,
    /// Steps of the chain
    #[arg(long, value_name = "K", default_value_t = Defaults::STEPS)]
    steps: usize,
    /// Class of the samples, by name or number, of a run with classes [default: all in turn, from
    /// 0]
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// How to go from noise to data
    #[arg(long, default_value = "ancestral")]
    sampler: SamplerName,
    #[command(flatten)]
    ancestral: AncestralOptions,
    #[command(flatten)]
    others: OtherOptions,
    /// How the steps are laid in time
    #[arg(long, default_value = "angle")]
    spacing: SpacingName,
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
    /// Where to write: .csv, .tsv, .parquet, .npy, .png for a sheet of pictures, or a new folder,
    /// its name with a slash at the end, for a PNG of each
    #[arg(short, long, value_name = "FILE|DIR/")]
    out: PathBuf,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Ancestral steps")]
struct AncestralOptions {
    /// Covariance of a reverse step [default: the head's]
    #[arg(long, value_name = "WHICH", long_help = COVARIANCES)]
    covariance: Option<CovarianceConfig>,
    /// From 0 (DDIM) to 1 (ancestral) [default: 1]
    #[arg(long, value_name = "ETA")]
    eta: Option<f64>,
    /// What the last step puts out: the posterior mean, or a draw [default: noise; of images mean]
    #[arg(long)]
    last_step: Option<LastName>,
    /// Hold the predicted clean image between black and white at every step; images alone
    #[arg(long)]
    clip: bool,
    #[command(flatten)]
    clip_noise: ClipNoise,
}

/// The published end of a chain of images.
#[derive(Args, Debug)]
pub struct ClipNoise {
    /// The published end of a chain: the noise of the last step but one moves a pixel by at most Y
    /// of 255 levels in the mean (1 or 2), and the last step puts out its mean; images alone
    #[arg(long = "clip-noise", value_name = "Y")]
    pub levels: Option<f64>,
}

impl ClipNoise {
    /// Refuses what makes no sense beside it.
    pub fn check(&self, run: &Run, last: Option<LastName>) -> Result<()> {
        let Some(levels) = self.levels else { return Ok(()) };
        if !(levels > 0.0 && levels.is_finite()) {
            let remedy = "give a positive number of levels: 1 and 2 are usual";
            return Err(Error::config("--clip-noise", format!("{levels}"), remedy));
        }
        if run.data.image.is_none() {
            let problem = format!("{} is a run of a table", run.dir.path().display());
            return Err(Error::config("--clip-noise", problem, "leave it out: it is for images"));
        }
        if last == Some(LastName::Noise) {
            let problem = "it ends in the mean, and --last-step noise in a draw";
            return Err(Error::config("--clip-noise", problem, "give one of the two"));
        }
        Ok(())
    }

    /// The step with it, down `grid`.
    pub fn of<'a>(&self, step: Ancestral<'a>, grid: &[f64]) -> Result<Ancestral<'a>> {
        match self.levels {
            Some(levels) => step.clip_noise(levels, grid[1]),
            None => Ok(step),
        }
    }
}

/// Says what was clipped, where anything is held.
pub fn say_clipped(quiet: bool, clipped: &Clipped) {
    if clipped.clean.all > 0 {
        say(quiet, format!("clipped: {} numbers of the predicted clean images", clipped.clean));
    }
    if clipped.noise.all > 0 {
        say(quiet, format!("clipped: {} variances of the last step but one", clipped.noise));
    }
}

/// What was clipped, for programs.
pub fn clipped_json(clipped: &Clipped) -> serde_json::Value {
    let of = |count: Count| json!({ "clipped": count.some, "of": count.all });
    json!({ "clean": of(clipped.clean), "noise": of(clipped.noise) })
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Other samplers")]
struct OtherOptions {
    /// Langevin steps at each time, predictor-corrector [default: 1]
    #[arg(long, value_name = "STEPS")]
    corrector_steps: Option<usize>,
    /// Signal-to-noise ratio r of a Langevin step, predictor-corrector [default: 0.16]
    #[arg(long, value_name = "R")]
    snr: Option<f64>,
    #[command(flatten)]
    solver: SolverArguments,
}

/// Refuses options of another sampler than the one asked for.
fn check_options(arguments: &Arguments) -> Result<()> {
    let (ancestral, others) = (&arguments.ancestral, &arguments.others);
    let options = [
        ("--covariance", ancestral.covariance.is_some(), SamplerName::Ancestral),
        ("--eta", ancestral.eta.is_some(), SamplerName::Ancestral),
        ("--last-step", ancestral.last_step.is_some(), SamplerName::Ancestral),
        ("--clip", ancestral.clip, SamplerName::Ancestral),
        ("--clip-noise", ancestral.clip_noise.levels.is_some(), SamplerName::Ancestral),
        ("--corrector-steps", others.corrector_steps.is_some(), SamplerName::PredictorCorrector),
        ("--snr", others.snr.is_some(), SamplerName::PredictorCorrector),
        ("--rtol", others.solver.rtol.is_some(), SamplerName::Flow),
        ("--atol", others.solver.atol.is_some(), SamplerName::Flow),
        ("--max-evaluations", others.solver.max_evaluations.is_some(), SamplerName::Flow),
    ];
    let name = |sampler: SamplerName| {
        let value = sampler.to_possible_value().expect("every sampler has a name");
        value.get_name().to_string()
    };
    match options.iter().find(|(_, given, of)| *given && *of != arguments.sampler) {
        None => Ok(()),
        Some((option, _, of)) => Err(Error::config(
            *option,
            format!("the sampler '{}' has no such option", name(arguments.sampler)),
            format!("leave it out, or give --sampler {}", name(*of)),
        )),
    }
}

/// A sampler's step of a model, which may be bound to the classes of a batch.
pub type StepOf<'e> = dyn for<'a> Fn(&'a dyn Denoiser) -> Result<Box<dyn Step + 'a>> + 'e;

/// The covariance that a run's head is for; without one the model's own `G`.
pub fn own_covariance(run: &Run) -> CovarianceConfig {
    run.default_sampler().covariance
}

/// `n` samples by the run's default sampler in so many steps, as [`draw`]: what `tweedie sample`
/// writes by default.
pub fn draw_by_default(
    run: &Run,
    steps: usize,
    n: usize,
    batch: usize,
    seed: Seed,
    progress: &mut Progress,
) -> Result<Tensor> {
    let usual = Defaults { steps, ..run.default_sampler() };
    let grid = usual.grid(run.schedule());
    let step: &StepOf =
        &|model| Ok(Box::new(usual.step(model, run.model.covariance(usual.covariance)?)?));
    Ok(draw(run, None, step, &grid, n, batch, seed, progress)?.0)
}

/// Says what 'learned' is for a run without a head, and measures what the analytic covariance
/// needs, at its first use.
pub fn make_ready(
    run: &mut Run,
    covariance: CovarianceConfig,
    batch: usize,
    quiet: bool,
) -> Result<()> {
    match run.model.head_covariance() {
        None if covariance == CovarianceConfig::Own => {
            say(
                quiet,
                "note: this run has no covariance head: 'learned' is the covariance of its base",
            );
        }
        Some(CovarianceConfig::Interpolated) if covariance == CovarianceConfig::Own => {
            let what = "the head of this run is for --covariance interpolated; 'learned' is the covariance of its base";
            say(quiet, format!("note: {what}"));
        }
        _ => (),
    }
    if covariance == CovarianceConfig::Analytic && run.model.noise_statistics().is_none() {
        let rows = statistics_rows(run.data.scaling.dim());
        say(quiet, format!("measuring the noise of the score on {rows} training rows"));
        let Measured { largest_error, not_kept } = run.measure_noise(batch)?;
        let kept = match not_kept {
            None => "kept with the run".into(),
            Some(reason) => format!("not kept, and measured anew at the next use ({reason})"),
        };
        say(quiet, format!("{kept}; largest standard error of E|ε − ε̂|²/d: {largest_error:.1e}"));
    }
    Ok(())
}

/// The model for the samples with these numbers: of the class asked for, or of all its classes in
/// turn.
pub fn condition(
    model: &Model,
    class: Option<u32>,
    rows: std::ops::Range<u64>,
) -> Option<Condition> {
    let classes = model.classes() as u64;
    let class = |row| class.unwrap_or((row % classes) as u32);
    (classes > 0).then(|| Condition::classes(&rows.map(class).collect::<Vec<u32>>()))
}

/// Samples of a run in the network's units, of one of its classes or of all in turn, and what was
/// clipped on the way.
pub fn draw(
    run: &Run,
    class: Option<u32>,
    step: &StepOf,
    grid: &[f64],
    n: usize,
    batch: usize,
    seed: Seed,
    progress: &mut Progress,
) -> Result<(Tensor, Clipped)> {
    let mut clipped = Clipped::default();
    let samples = sample_in_batches(n, batch, |rows| {
        let end = rows.end;
        let condition = condition(&run.model, class, rows.clone());
        let step = step(&run.model)?;
        let part = run_chain(&*step, grid, seed, rows, condition.as_ref());
        clipped += step.clipped();
        progress.at(end);
        part
    })?;
    Ok((samples, clipped))
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let device = arguments.common.prepare()?;
    check_options(arguments)?;
    Error::check_count("-n", arguments.n, MOST_ROWS)?;
    Error::check_count("--steps", arguments.steps, MOST_STEPS)?;
    let corrections = arguments.others.corrector_steps.unwrap_or(1);
    Error::check_count("--corrector-steps", corrections.max(1), MOST_STEPS)?;
    let (out, quiet) = (&*arguments.out, arguments.common.quiet);
    let folder = is_folder(out);
    let png = !folder && out.extension().is_some_and(|e| e.eq_ignore_ascii_case("png"));
    if !png && !folder {
        TableFormat::of(out)?;
    }
    check_output("--out", &arguments.out, &[], &arguments.run, arguments.common.json)?;
    let mut run = Run::load(&arguments.run, device)?;
    let remarks = remark(&run);
    if arguments.ancestral.clip && run.data.image.is_none() {
        let problem = format!("{} is a run of a table", run.dir.path().display());
        return Err(Error::config("--clip", problem, "leave it out: it is for images"));
    }
    arguments.ancestral.clip_noise.check(&run, arguments.ancestral.last_step)?;
    let batch = crate::batch_size(arguments.batch_size, 4096, &run)?;
    let class = arguments.class.as_ref().map(|name| run.data.class(name)).transpose()?;
    let covariance = arguments.ancestral.covariance.unwrap_or(own_covariance(&run));
    if arguments.sampler == SamplerName::Ancestral {
        make_ready(&mut run, covariance, batch, quiet)?;
    }
    let pictures =
        (png || folder).then(|| Pictures::of(&run, arguments.shape.as_deref())).transpose()?;
    let out = match folder {
        true => Place::Folder(new_folder(out)?),
        false => Place::File(OutputFile::create(out)?),
    };
    let mut progress = Progress::new("sample", arguments.n as u64, quiet);
    let (seed, n) = (Seed(arguments.seed), arguments.n);
    let others = &arguments.others;
    let grid = match arguments.sampler {
        SamplerName::Flow => Vec::new(),
        _ => Grids::new(&run, Some(arguments.spacing), false, batch, quiet)
            .of(covariance, arguments.steps)?,
    };
    let mut clipped = Clipped::default();
    let mut chain = |step: &StepOf| {
        let (samples, held) = draw(&run, class, step, &grid, n, batch, seed, &mut progress)?;
        clipped = held;
        Result::Ok(samples)
    };
    let scaled = match arguments.sampler {
        SamplerName::Ancestral => {
            let options = &arguments.ancestral;
            let usual = run.default_sampler();
            let last = options.last_step.map_or(usual.last, LastName::get);
            let eta = options.eta.unwrap_or(usual.eta);
            chain(&|model| {
                let step = options.clip_noise.of(
                    Ancestral::new(model, run.model.covariance(covariance)?, eta, last)?,
                    &grid,
                )?;
                Ok(Box::new(if options.clip { step.within(-1.0, 1.0) } else { step }))
            })?
        }
        SamplerName::EulerMaruyama => chain(&|model| Ok(Box::new(EulerMaruyama::new(model))))?,
        SamplerName::Heun => chain(&|model| Ok(Box::new(Heun::new(model))))?,
        SamplerName::DpmSolver => chain(&|model| Ok(Box::new(DpmSolver::new(model))))?,
        SamplerName::PredictorCorrector => {
            let ratio = others.snr.unwrap_or(PredictorCorrector::RATIO);
            chain(&|model| Ok(Box::new(PredictorCorrector::new(model, corrections, ratio)?)))?
        }
        SamplerName::Flow => sample_in_batches(n, batch, |rows| {
            let end = rows.end;
            let condition = condition(&run.model, class, rows.clone());
            let flow = others.solver.flow(&run.model, 1.0)?;
            let part = FlowSampler::of(flow).sample(seed, rows, condition.as_ref());
            progress.at(end);
            part
        })?,
    };
    progress.finish();
    say_clipped(quiet, &clipped);
    let scaled = to_vec(&scaled);
    let values = run.data.scaling.inverse(&scaled);
    match (out, pictures) {
        (Place::File(out), None) => {
            write_table(out, &run.data.names(), &run.data.cell_types(), &values)?
        }
        (Place::File(out), Some(pictures)) => pictures.write(out, &values, n, quiet)?,
        (Place::Folder(dir), Some(pictures)) => pictures.write_each(&dir, &values, quiet)?,
        (Place::Folder(_), None) => unreachable!("a folder is of pictures"),
    }
    if arguments.common.json {
        let mut answer = json!({ "samples": n, "steps": arguments.steps, "out": arguments.out, "remarks": remarks });
        if clipped != Clipped::default() {
            answer["clipped"] = clipped_json(&clipped);
        }
        print_json(&answer);
    }
    Ok(())
}

/// Where samples go.
enum Place {
    File(OutputFile),
    Folder(PathBuf),
}

/// Whether a folder is meant: one that is there, or a name with a slash at its end.
fn is_folder(out: &Path) -> bool {
    out.is_dir() || out.as_os_str().to_string_lossy().ends_with(std::path::MAIN_SEPARATOR)
}

/// A folder without files, made where there is none: samples are not mixed with those of another
/// call.
fn new_folder(dir: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(dir).map_err(Error::io(dir))?;
    if std::fs::read_dir(dir).map_err(Error::io(dir))?.next().is_some() {
        let problem = format!("{} is a folder with files in it", dir.display());
        return Err(Error::config(
            "--out",
            problem,
            "give a new folder, or a file: .csv, .npy, .png",
        ));
    }
    Ok(dir.to_owned())
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
        // where all are alike they are grey
        match (at(0.01), at(0.99)) {
            (low, high) if low < high => (low, high),
            (value, _) => {
                let around = 1.0_f64.max(value.abs() / 2.0);
                (value - around, value + around)
            }
        }
    }

    /// A sheet with so many pictures a row.
    pub fn sheet(&self, values: &[f64], columns: usize, range: (f64, f64)) -> Sheet {
        sheet_of(values, self.shape, columns, range)
    }

    /// Writes `n` rows as one square sheet, and says what was clipped.
    pub fn write(&self, out: OutputFile, values: &[f64], n: usize, quiet: bool) -> Result<()> {
        let sheet = self.sheet(values, (n as f64).sqrt().ceil() as usize, self.range(values));
        out.finish(&sheet.png())?;
        say_beyond(sheet.clipped, values.len(), quiet);
        Ok(())
    }

    /// Writes every row as a PNG file of its own size in `dir`, numbered from 0, and says what was
    /// clipped.
    pub fn write_each(&self, dir: &Path, values: &[f64], quiet: bool) -> Result<()> {
        let (size, range) = (self.shape.iter().product::<usize>(), self.range(values));
        let digits = (values.len() / size).saturating_sub(1).to_string().len().max(6);
        let mut beyond = 0;
        for (i, row) in values.chunks_exact(size).enumerate() {
            let picture = picture_of(row, self.shape, range);
            let path = dir.join(format!("{i:0digits$}.png"));
            std::fs::write(&path, picture.png()).map_err(Error::io(&path))?;
            beyond += picture.clipped;
        }
        say_beyond(beyond, values.len(), quiet);
        Ok(())
    }
}

/// Says how many values a picture could not show.
fn say_beyond(clipped: usize, all: usize, quiet: bool) {
    if clipped > 0 {
        say(
            quiet,
            format!("{clipped} of {all} values lie outside the grey scale and were clipped"),
        );
    }
}

/// `HxW`, or the square that fits.
fn picture_shape(given: Option<&str>, dim: usize) -> Result<(usize, usize)> {
    let wrong = |problem: String| {
        Error::config("--shape", problem, format!("give HxW with H times W = {dim}"))
    };
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
