//! `tweedie evaluate`

mod images;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;
use tch::{Device, Kind, Tensor};
use tweedie::baseline::{self, KernelDensity};
use tweedie::covariance::Covariance;
use tweedie::data::{Split, Table, subset};
use tweedie::likelihood::{bits_per_dim, mean_and_error};
use tweedie::metric::Mmd;
use tweedie::noise::Seed;
use tweedie::run::{Run, scaled_rows};
use tweedie::sample::{Ancestral, LastStep};
use tweedie::tensor::to_vec;
use tweedie::{Error, Result};

use crate::console::{Progress, print_json};
use crate::dequantize::{Dequantization, DequantizationName};
use crate::sample::{COVARIANCES, StepOf, draw, make_ready, own_covariance};
use crate::score::{elbo, ode, score_rows, usual_flow};
use crate::spacing::{Grids, SpacingName};
use crate::{Common, MOST_ROWS, MOST_STEPS};

#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
enum MetricName {
    /// Log-likelihoods, beside a Gaussian and a kernel density
    Nll,
    /// Maximum mean discrepancy between samples and test rows, five kernels
    Mmd,
    /// Fréchet distance between features of samples and of training images: the FID, by Inception-v3
    Fd,
    /// Inception score of samples
    Is,
    /// Precision, recall, density and coverage of samples among as many training images
    Pr,
}

impl MetricName {
    /// As a metric of images.
    fn of_images(self) -> Option<images::Metric> {
        match self {
            MetricName::Nll | MetricName::Mmd => None,
            MetricName::Fd => Some(images::Metric::Distance),
            MetricName::Is => Some(images::Metric::Score),
            MetricName::Pr => Some(images::Metric::PrecisionRecall),
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
enum DecoderName {
    /// Probabilities of the levels: the discretised decoder of DDPM
    Levels,
    /// Densities of uniformly dequantised levels, by the last step's covariance
    Density,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tweedie evaluate runs/wine
  tweedie evaluate runs/wine --data test.csv --metrics nll --steps 10,100,1000
  tweedie evaluate runs/cifar --metrics fd,is,pr --inception pt_inception-2015-12-05-6726825d.pth
  tweedie evaluate runs/fashion --metrics fd --features .data/efficientnet-lite0-57934424.pth \\
    --samples 2000 --fewer-samples --save-reference fashion.npz")]
pub struct Arguments {
    /// The run directory
    run: PathBuf,
    /// Test rows [default: the run's own test rows]
    #[arg(long, value_name = "TEST")]
    data: Option<PathBuf>,
    /// What to measure [default: nll,mmd; of images nll, or fd where --inception is given]
    #[arg(long, value_delimiter = ',')]
    metrics: Vec<MetricName>,
    /// At most this many test rows [default: all]
    #[arg(long, value_name = "ROWS")]
    rows: Option<usize>,
    /// Numbers of steps
    #[arg(long, value_name = "K,K,…", value_delimiter = ',', default_value = "10,25,100")]
    steps: Vec<usize>,
    /// Covariances of a reverse step [default: of nll all that cost nothing, else learned]
    #[arg(long, value_name = "A,B,…", value_delimiter = ',', long_help = COVARIANCES)]
    covariance: Vec<Covariance>,
    /// How steps are laid in time [default: angle; of levels the published even trajectory]
    #[arg(long)]
    spacing: Option<SpacingName>,
    /// What bits per dimension of images are of
    #[arg(long, default_value = "levels")]
    decoder: DecoderName,
    /// Leave out the probability-flow ODE, the slowest estimator; of images it is left to `tweedie score`
    #[arg(long)]
    no_ode: bool,
    #[command(flatten)]
    dequantization: Dequantization,
    /// Seed of the draws
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Rows at a time [default: 2048; 64 images]
    #[arg(long, value_name = "B")]
    batch_size: Option<usize>,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    images: images::ImageOptions,
}

/// The rows a run is judged on, and those it was trained on where they are at hand.
pub struct Judged {
    pub table: Table,
    pub rows: Vec<usize>,
    /// Training rows and validation rows of a table in the network's units, for classical densities.
    pub reference: Option<(Tensor, Tensor)>,
}

impl Judged {
    /// `data`, or the run's own test rows.
    pub fn read(run: &Run, data: Option<&PathBuf>) -> Result<Judged> {
        // of images, the full covariance and all distances cost more than the network
        let compared = run.data.image.is_none();
        let same = if compared || data.is_none() { run.prepared() } else { None };
        let seed = Seed(run.config.seed);
        let reference = same.as_ref().filter(|_| compared).map(|own| {
            let train =
                scaled_rows(&own.table, &own.split.train, &run.data.scaling, seed.derive("reference")).0;
            (train, own.validation_rows(usize::MAX, seed.derive("validation rows")).to_kind(Kind::Double))
        });
        match (data, same) {
            (Some(path), _) => {
                let table = run.data.read_table(path, &run.config.data.table)?;
                let rows = (0..table.rows()).collect();
                Ok(Judged { table, rows, reference })
            }
            (None, Some(own)) => {
                let Split { test, .. } = own.split;
                if test.is_empty() {
                    return Err(Error::config(
                        "--data",
                        "the run kept no test rows",
                        "give test rows with --data",
                    ));
                }
                Ok(Judged { table: own.table, rows: test, reference })
            }
            (None, None) => Err(Error::config(
                "--data",
                format!("{} is not at hand, or no longer the table of this run", run.config.data.source),
                "give test rows with --data",
            )),
        }
    }

    /// At most `limit` of the rows, drawn at random: a file may be sorted.
    pub fn draw(&mut self, limit: usize, seed: Seed) {
        self.rows = subset(&self.rows, limit, seed);
    }
}

/// Classical densities on the same rows: name and nats per row in the data's own units.
pub fn baselines(run: &Run, judged: &Judged) -> Result<Vec<(String, Vec<f64>)>> {
    let seed = Seed(run.config.seed).derive("baselines");
    let (test, log_jacobian) = scaled_rows(&judged.table, &judged.rows, &run.data.scaling, seed);
    let in_data_units = |values: Vec<f64>| values.iter().zip(&log_jacobian).map(|(v, j)| v + j).collect();
    let mut all = Vec::new();
    if let Some((train, validation)) = &judged.reference {
        all.push(("Gaussian, full covariance".into(), in_data_units(baseline::gaussian(train, &test)?)));
        if validation.size()[0] > 0 {
            let kde = KernelDensity::fit(train, validation)?;
            all.push((
                format!("kernel density, h = {:.2}", kde.bandwidth()),
                in_data_units(kde.log_density(&test)),
            ));
        }
    }
    let base = run.model.base().to(Device::Cpu, Kind::Double);
    let components = base.components();
    let values = to_vec(&base.log_density(&test));
    all.push((
        format!("the model's base, {components} component{}", if components == 1 { "" } else { "s" }),
        in_data_units(values),
    ));
    Ok(all)
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let device = arguments.common.prepare()?;
    let quiet = arguments.common.quiet;
    for &steps in &arguments.steps {
        Error::check_count("--steps", steps, MOST_STEPS)?;
    }
    arguments.dequantization.check(false)?;
    let mut run = Run::load(&arguments.run, device)?;
    let batch = crate::batch_size(arguments.batch_size, 2048, &run)?;
    let seed = Seed(arguments.seed);
    let mut of_images: Vec<_> = arguments.metrics.iter().filter_map(|metric| metric.of_images()).collect();
    if arguments.metrics.is_empty() && arguments.images.is_asked() {
        of_images.push(images::Metric::Distance);
    }
    for &covariance in &arguments.covariance {
        make_ready(&mut run, covariance, batch, quiet)?;
    }
    let own = [own_covariance(&run)];
    let sampled = if arguments.covariance.is_empty() { &own } else { &arguments.covariance[..] };
    let (steps, mut chains) = (&arguments.steps, Grids::new(&run, arguments.spacing, false, batch, quiet));
    let figures = images::measure(
        &run,
        &of_images,
        &arguments.images,
        sampled,
        steps,
        &mut chains,
        seed,
        batch,
        quiet,
    )?;
    if !figures.is_empty() && arguments.metrics.iter().all(|metric| metric.of_images().is_some()) {
        match arguments.common.json {
            true => {
                print_json(&json!({ "images": figures.iter().map(images::Figure::json).collect::<Vec<_>>() }))
            }
            false => images::print(&figures),
        }
        return Ok(());
    }
    let mut judged = Judged::read(&run, arguments.data.as_ref())?;
    if let Some(rows) = arguments.rows {
        Error::check_count("--rows", rows, MOST_ROWS)?;
        judged.draw(rows, seed);
    }
    let images = run.data.image.is_some();
    let levels = images && arguments.decoder == DecoderName::Levels;
    let dequantization = arguments.dequantization.dequantization;
    if levels && dequantization != DequantizationName::Uniform {
        let problem = format!("{}, where levels are scored as they are", dequantization.name());
        return Err(Error::config("--dequantization", problem, "give --decoder density with it"));
    }
    let metrics = match (&arguments.metrics[..], images) {
        ([], true) => &[MetricName::Nll],
        ([], false) => &[MetricName::Nll, MetricName::Mmd][..],
        (asked, _) => asked,
    };
    let dequantizer = arguments.dequantization.of(&run)?;
    let mut lines: Vec<(String, String, f64, f64)> = Vec::new();
    if metrics.contains(&MetricName::Nll) {
        let own = run.model.head_covariance();
        let asked = match arguments.covariance.is_empty() {
            true => own.into_iter().chain(Covariance::FIXED).collect(),
            false => arguments.covariance.clone(),
        };
        let mut grids = Grids::new(&run, arguments.spacing, levels, batch, quiet);
        for covariance in asked {
            for &steps in &arguments.steps {
                let elbo = elbo(levels, covariance, grids.of(covariance, steps)?);
                let estimate = score_rows(
                    &run,
                    &judged.table,
                    &judged.rows,
                    &*dequantizer,
                    1,
                    seed,
                    batch,
                    quiet,
                    &*elbo,
                )?;
                let flags = if estimate.flags.is_empty() {
                    String::new()
                } else {
                    format!(", {} flagged", estimate.flags.len())
                };
                lines.push((
                    estimate.estimator.clone(),
                    // less likelihood is more bits
                    format!("{} bound{flags}", if images { "upper" } else { "lower" }),
                    estimate.mean(),
                    estimate.std_error(),
                ));
            }
        }
        if !arguments.no_ode && !images {
            let estimate =
                ode(&run, &usual_flow, &judged.table, &judged.rows, &*dequantizer, seed, batch, quiet)?;
            let believed = estimate.believed();
            let (mean, error) = mean_and_error(&believed);
            let kind = format!(
                "estimate, {} of {} rows flagged and left out",
                estimate.values.len() - believed.len(),
                estimate.values.len()
            );
            lines.push((estimate.estimator.clone(), kind, mean, error));
        }
        for (name, values) in baselines(&run, &judged)? {
            let (mean, error) = mean_and_error(&values);
            let kind = if levels { "exact density of dequantised levels" } else { "exact" };
            lines.push((name, kind.into(), mean, error));
        }
    }
    if images {
        let bits = |nats| bits_per_dim(nats, run.data.scaling.dim());
        lines.iter_mut().for_each(|line| (line.2, line.3) = (bits(line.2), -bits(line.3)));
    }
    if metrics.contains(&MetricName::Mmd) {
        let (test, _) = scaled_rows(&judged.table, &judged.rows, &run.data.scaling, seed.derive("mmd"));
        for &covariance in sampled {
            let step: &StepOf =
                &|model| Ok(Box::new(Ancestral::new(model, covariance, 1.0, LastStep::Noise)?));
            for &steps in &arguments.steps {
                let n = judged.rows.len().clamp(1000, 10_000);
                let mut progress = Progress::new("sample", n as u64, quiet);
                let grid = chains.of(covariance, steps)?;
                let (samples, _) = draw(&run, None, step, &grid, n, batch, seed, &mut progress)?;
                progress.finish();
                let samples = samples.to_kind(Kind::Double).to_device(Device::Cpu);
                let value = Mmd::default().u_statistic(&samples, &test);
                lines.push((
                    format!("MMD², K = {steps}, {covariance} covariance"),
                    format!("U-statistic, {n} samples, network units"),
                    value,
                    f64::NAN,
                ));
            }
        }
    }
    let unit = match images {
        true if levels => {
            "bits per dimension, probabilities of the levels 0…255, no offset, one draw per step"
        }
        true => "bits per dimension, levels 0…255 dequantised (densities per level), one draw per step",
        false => "nats per row, data units",
    };
    let unit = match dequantization {
        DequantizationName::Uniform => unit.replace("dequantised", "dequantised uniformly"),
        other => format!("{unit}; {} dequantisation but for the classical densities", other.name()),
    };
    if arguments.common.json {
        let rows: Vec<_> = lines
            .iter()
            .map(|(name, kind, value, error)| json!({ "name": name, "kind": kind, "value": value, "std_error": error }))
            .collect();
        let mut answer = json!({ "rows": judged.rows.len(), "unit": unit, "results": rows });
        if !figures.is_empty() {
            answer["images"] = figures.iter().map(images::Figure::json).collect();
        }
        print_json(&answer);
        return Ok(());
    }
    match images {
        true => println!("{} images; {unit}; less is better", judged.rows.len()),
        false => {
            println!("{} rows; log-likelihoods in nats per row, the data's own units", judged.rows.len())
        }
    }
    let width = lines.iter().map(|l| l.0.chars().count()).max().unwrap_or(0);
    for (name, kind, value, error) in &lines {
        let error = if error.is_finite() { format!("± {error:.3}") } else { String::new() };
        let value = if name.starts_with("MMD") { format!("{value:.5}") } else { format!("{value:.3}") };
        println!("{name:width$}  {value:>10} {error:<8} {kind}");
    }
    images::print(&figures);
    Ok(())
}
