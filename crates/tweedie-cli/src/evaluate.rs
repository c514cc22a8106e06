//! `tweedie evaluate`

mod images;

use std::collections::HashSet;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};
use tweedie::baseline::{self, KernelDensity};
use tweedie::covariance::CovarianceConfig;
use tweedie::data::{Dataset, Split, TableOptions, subset};
use tweedie::likelihood::{Summary, bits_per_dim, mean_and_error};
use tweedie::metric::Mmd;
use tweedie::noise::Seed;
use tweedie::run::{Run, scaled_rows};
use tweedie::tensor::to_vec;
use tweedie::{Error, Result};

use crate::console::{Progress, print_json, remark, say};
use crate::dequantize::{Dequantization, DequantizationName};
use crate::reading::{Reading, left_out};
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
    /// Fréchet distance between features of samples and of training images: the FID, by
    /// Inception-v3
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
  tweedie evaluate runs/wine --against runs/other
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
    /// Another run on the same data: differences on the same rows, with their standard errors,
    /// under the same settings
    #[arg(long, value_name = "RUN")]
    against: Option<PathBuf>,
    /// At most this many test rows, a draw by --seed [default: all]
    #[arg(long, value_name = "ROWS")]
    rows: Option<usize>,
    /// Numbers of steps
    #[arg(long, value_name = "K,K,…", value_delimiter = ',', default_value = "10,25,100")]
    steps: Vec<usize>,
    /// Covariances of a reverse step [default: of nll all that cost nothing, else learned]
    #[arg(long, value_name = "A,B,…", value_delimiter = ',', long_help = COVARIANCES)]
    covariance: Vec<CovarianceConfig>,
    /// How steps are laid in time [default: angle; of levels the published even trajectory]
    #[arg(long)]
    spacing: Option<SpacingName>,
    /// What bits per dimension of images are of
    #[arg(long, default_value = "levels")]
    decoder: DecoderName,
    /// Leave out the probability-flow ODE, the slowest estimator; of images it is left to
    /// `tweedie score`
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
    #[command(flatten)]
    reading: Reading,
}

/// The rows a run is judged on, and those it was trained on where they are at hand.
pub struct Judged {
    pub table: Dataset,
    pub rows: Vec<usize>,
    /// Training rows and validation rows of a table in the network's units, for classical
    /// densities.
    pub reference: Option<(Tensor, Tensor)>,
}

/// Rows that the bandwidth of a kernel density is chosen on, at most.
const BANDWIDTH_ROWS: usize = 500;

impl Judged {
    /// `data`, or the run's own test rows.
    pub fn read(run: &Run, data: Option<&PathBuf>) -> Result<Judged> {
        Judged::read_as(run, data, &run.config.data.table)
    }

    /// As [`Judged::read`], `data` being read as `options` say.
    fn read_as(run: &Run, data: Option<&PathBuf>, options: &TableOptions) -> Result<Judged> {
        // of images, the full covariance and all distances cost more than the network
        let compared = run.data.image.is_none();
        let same = if compared || data.is_none() { run.prepared() } else { None };
        let seed = Seed(run.config.seed);
        let reference = same.as_ref().filter(|_| compared).map(|own| {
            let train = scaled_rows(
                &own.table,
                &own.split.train,
                &run.data.scaling,
                seed.derive("reference"),
            )
            .0;
            let validation = own.validation_rows(BANDWIDTH_ROWS, seed.derive("validation rows"));
            (train, validation.to_kind(Kind::Double))
        });
        match (data, same) {
            (Some(path), _) => {
                let table = run.data.read_table(path, options)?;
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
                format!(
                    "{} is not at hand, or no longer the table of this run",
                    run.config.data.source
                ),
                "give test rows with --data",
            )),
        }
    }

    /// At most `limit` of the rows, drawn at random: a file may be sorted.
    pub fn draw(&mut self, limit: usize, seed: Seed) {
        self.rows = subset(&self.rows, limit, seed);
    }
}

/// What a model is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Baseline {
    /// One with the mean and covariance of the training rows.
    Gaussian,
    Kernel,
    /// The distribution that the model's network corrects.
    Base,
}

/// A classical density on test rows.
pub struct Classical {
    pub name: String,
    pub of: Baseline,
    /// Nats per row in the data's own units, or why there is no such density.
    pub values: std::result::Result<Vec<f64>, String>,
}

/// Classical densities on the same rows, those that cannot be among them.
pub fn classical(run: &Run, judged: &Judged) -> Result<Vec<Classical>> {
    let seed = Seed(run.config.seed).derive("baselines");
    let (test, log_jacobian) = scaled_rows(&judged.table, &judged.rows, &run.data.scaling, seed);
    let in_data_units =
        |values: Vec<f64>| values.iter().zip(&log_jacobian).map(|(v, j)| v + j).collect();
    let mut all = Vec::new();
    if let Some((train, validation)) = &judged.reference {
        let (rows, columns) = train.size2().expect("rows");
        let values = match rows > columns {
            true => baseline::gaussian(train, &test).map(in_data_units).map_err(|e| e.to_string()),
            false => Err(format!("{rows} training rows have no covariance in {columns} columns")),
        };
        all.push(Classical {
            name: "Gaussian, full covariance".into(),
            of: Baseline::Gaussian,
            values,
        });
        if validation.size()[0] > 0 {
            let kde = KernelDensity::fit(train, validation)?;
            all.push(Classical {
                name: format!("kernel density, h = {:.2}", kde.bandwidth()),
                of: Baseline::Kernel,
                values: Ok(in_data_units(kde.log_density(&test))),
            });
        }
    }
    let base = run.model.base().to(Device::Cpu, Kind::Double);
    let components = base.components();
    let values = to_vec(&base.log_density(&test));
    all.push(Classical {
        name: format!(
            "the model's base, {components} component{}",
            if components == 1 { "" } else { "s" }
        ),
        of: Baseline::Base,
        values: Ok(in_data_units(values)),
    });
    Ok(all)
}

/// Those of [`classical`] that there are: name and nats per row in the data's own units.
pub fn baselines(run: &Run, judged: &Judged) -> Result<Vec<(String, Vec<f64>)>> {
    let all = classical(run, judged)?;
    Ok(all.into_iter().filter_map(|density| Some((density.name, density.values.ok()?))).collect())
}

/// A line of the answer.
struct Line {
    name: String,
    kind: String,
    /// Mean over rows and its standard error, NaN where there is none.
    value: f64,
    error: f64,
    /// Nats of each row, NaN where a row is left out; none of what is not of rows.
    rows: Option<Vec<f64>>,
    /// Differences to what [`REFERENCES`] name, mean and standard error over the same rows.
    less: [Option<(f64, f64)>; 3],
}

/// What lines are compared with, and what that is called in JSON.
const REFERENCES: [(&str, &str); 3] =
    [("− base", "minus_base"), ("− Gaussian", "minus_gaussian"), ("− against", "minus_against")];

impl Line {
    fn of_rows(name: String, kind: String, rows: Vec<f64>) -> Line {
        let Summary { mean, std_error, minus_infinity, .. } = Summary::of(&rows);
        let kind = match minus_infinity {
            0 => kind,
            lost => format!("{kind}, {lost} of {} rows at −∞ and left out", rows.len()),
        };
        Line { name, kind, value: mean, error: std_error, rows: Some(rows), less: [None; 3] }
    }

    /// Compares with the same rows of another density.
    fn compare(&mut self, reference: usize, other: &[f64]) {
        let Some(rows) = &self.rows else { return };
        let differences = rows.iter().zip(other).map(|(a, b)| a - b).filter(|d| d.is_finite());
        let differences: Vec<f64> = differences.collect();
        self.less[reference] = (!differences.is_empty()).then(|| mean_and_error(&differences));
    }

    /// In bits per dimension, of which a likelier row has fewer.
    fn put_in_bits(&mut self, dim: usize) {
        let bits = |nats| bits_per_dim(nats, dim);
        (self.value, self.error) = (bits(self.value), -bits(self.error));
        let less = self.less.iter_mut().flatten();
        less.for_each(|(mean, error)| (*mean, *error) = (bits(*mean), -bits(*error)));
    }

    fn json(&self) -> Value {
        let mut line = json!({ "name": self.name, "kind": self.kind, "value": self.value, "std_error": self.error });
        for ((_, key), less) in REFERENCES.iter().zip(&self.less) {
            if let Some((mean, error)) = less {
                line[*key] = json!({ "mean": mean, "std_error": error });
            }
        }
        line
    }
}

/// Prints `lines` in columns that fit them, without the differences that no line has.
fn print_lines(lines: &[Line], unit: &str) {
    let shown: Vec<usize> =
        (0..3).filter(|&i| lines.iter().any(|line| line.less[i].is_some())).collect();
    let with_error = |text: String, error: f64| match error.is_finite() {
        true => format!("{text} ± {error:.3}"),
        false => text,
    };
    let cells = |line: &Line| {
        let value = match line.rows {
            Some(_) => format!("{:.3}", line.value),
            None => format!("{:.5}", line.value),
        };
        let differences = shown.iter().map(|&i| {
            line.less[i]
                .map_or_else(String::new, |(mean, error)| with_error(format!("{mean:+.3}"), error))
        });
        let first = [line.name.clone(), with_error(value, line.error)];
        first.into_iter().chain(differences).collect::<Vec<String>>()
    };
    let head = [String::new(), unit.to_string()];
    let head = head.into_iter().chain(shown.iter().map(|&i| REFERENCES[i].0.to_string())).collect();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(lines.iter().map(cells)).collect();
    let width = |i: usize| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    for (i, row) in rows.iter().enumerate() {
        let padded =
            row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
                0 => format!("{cell:width$}"),
                _ => format!("{cell:>width$}"),
            });
        let kind = i.checked_sub(1).map_or("", |i| lines[i].kind.as_str());
        println!("{}", format!("{}  {kind}", padded.collect::<Vec<_>>().join("  ")).trim_end());
    }
}

/// How likelihoods are computed.
struct Likelihoods<'a> {
    arguments: &'a Arguments,
    seed: Seed,
    batch: usize,
    /// Whether rows are images whose levels are scored.
    levels: bool,
}

impl Likelihoods<'_> {
    /// A line for each of `covariances` and each number of steps, and one of the ODE.
    fn of(
        &self,
        run: &Run,
        judged: &Judged,
        covariances: &[CovarianceConfig],
    ) -> Result<Vec<Line>> {
        let Likelihoods { arguments, seed, batch, levels } = *self;
        let (quiet, images) = (arguments.common.quiet, run.data.image.is_some());
        let dequantizer = arguments.dequantization.of(run)?;
        let mut lines = Vec::new();
        let mut grids = Grids::new(run, arguments.spacing, levels, batch, quiet);
        for &covariance in covariances {
            for &steps in &arguments.steps {
                let elbo =
                    elbo(levels, run.model.covariance(covariance)?, grids.of(covariance, steps)?);
                let estimate = score_rows(
                    run,
                    &judged.table,
                    &judged.rows,
                    &*dequantizer,
                    1,
                    seed,
                    batch,
                    quiet,
                    &*elbo,
                )?;
                let unsolved = estimate.summary().unsolved;
                let lost = match unsolved {
                    0 => String::new(),
                    _ => format!(
                        ", {unsolved} of {} rows without a value and left out",
                        judged.rows.len()
                    ),
                };
                // less likelihood is more bits
                let kind = format!("{} bound{lost}", if images { "upper" } else { "lower" });
                lines.push(Line::of_rows(estimate.estimator, kind, estimate.values));
            }
        }
        if !arguments.no_ode && !images {
            let estimate = ode(
                run,
                &usual_flow,
                &judged.table,
                &judged.rows,
                &*dequantizer,
                seed,
                batch,
                quiet,
            )?;
            let doubted = estimate.doubted();
            let count = doubted.len();
            let kind =
                format!("estimate, {count} of {} rows flagged and left out", estimate.values.len());
            let mut rows = estimate.values;
            doubted.into_iter().for_each(|row| rows[row] = f64::NAN);
            lines.push(Line::of_rows(estimate.estimator, kind, rows));
        }
        Ok(lines)
    }
}

/// The run to compare with, and the rows that both are judged on; `judged` keeps the same.
fn read_against(
    path: &PathBuf,
    run: &Run,
    judged: &mut Judged,
    arguments: &Arguments,
    device: Device,
) -> Result<(Run, Judged)> {
    let against = Run::load(path, device)?;
    let bad = |problem: String, remedy: &str| Err(Error::config("--against", problem, remedy));
    if against.data.names() != run.data.names() {
        let problem = format!("{} is of other columns", path.display());
        return bad(problem, "give a run on the same columns of the same data");
    }
    let options = arguments.reading.options(&against);
    let mut other = Judged::read_as(&against, arguments.data.as_ref(), &options)?;
    if other.table.values() != judged.table.values() {
        let problem =
            format!("{} is of other rows: {}", path.display(), against.config.data.source);
        return bad(problem, "give a run on the same data, or rows for both with --data");
    }
    if other.rows != judged.rows {
        let theirs: HashSet<usize> = other.rows.iter().copied().collect();
        let all = judged.rows.len();
        judged.rows.retain(|row| theirs.contains(row));
        let both = judged.rows.len();
        if both == 0 {
            let problem =
                format!("no test row of {} is one of {}", run.dir.path().display(), path.display());
            return bad(
                problem,
                "train both with the same split, or give rows for both with --data",
            );
        }
        let quiet = arguments.common.quiet;
        say(
            quiet,
            format!(
                "note: the runs split their rows differently; {both} of {all} test rows are test rows of both, and judged"
            ),
        );
        other.rows = judged.rows.clone();
    }
    Ok((against, other))
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let device = arguments.common.prepare()?;
    let quiet = arguments.common.quiet;
    for &steps in &arguments.steps {
        Error::check_count("--steps", steps, MOST_STEPS)?;
    }
    arguments.dequantization.check(false)?;
    arguments.images.check(&arguments.run, arguments.data.as_deref())?;
    let mut run = Run::load(&arguments.run, device)?;
    let remarks = remark(&run);
    let batch = crate::batch_size(arguments.batch_size, 2048, &run)?;
    let seed = Seed(arguments.seed);
    let mut of_images: Vec<_> =
        arguments.metrics.iter().filter_map(|metric| metric.of_images()).collect();
    if arguments.metrics.is_empty() && arguments.images.is_asked() {
        of_images.push(images::Metric::Distance);
    }
    for &covariance in &arguments.covariance {
        make_ready(&mut run, covariance, batch, quiet)?;
    }
    let own = [own_covariance(&run)];
    let sampled = if arguments.covariance.is_empty() { &own } else { &arguments.covariance[..] };
    let (steps, mut chains) =
        (&arguments.steps, Grids::new(&run, arguments.spacing, false, batch, quiet));
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
                let figures: Vec<Value> = figures.iter().map(images::Figure::json).collect();
                print_json(&json!({ "images": figures, "remarks": remarks }))
            }
            false => images::print(&figures),
        }
        return Ok(());
    }
    let mut judged =
        Judged::read_as(&run, arguments.data.as_ref(), &arguments.reading.options(&run))?;
    let left_out = left_out(&judged.table, quiet);
    let mut against = (arguments.against.as_ref())
        .map(|path| read_against(path, &run, &mut judged, arguments, device))
        .transpose()?;
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
    if against.is_some() && !metrics.contains(&MetricName::Nll) {
        let remedy = "give --metrics nll with it";
        return Err(Error::config("--against", "differences are of log-likelihoods", remedy));
    }
    let mut lines: Vec<Line> = Vec::new();
    let mut undefined = Vec::new();
    if metrics.contains(&MetricName::Nll) {
        let likelihoods = Likelihoods { arguments, seed, batch, levels };
        // those that cost nothing, and the head's own
        let usual = |own: Option<CovarianceConfig>| {
            own.into_iter().chain(CovarianceConfig::fixed()).collect()
        };
        let covariances = match arguments.covariance.is_empty() {
            true => usual(run.model.head_covariance()),
            false => arguments.covariance.clone(),
        };
        lines = likelihoods.of(&run, &judged, &covariances)?;
        let all = classical(&run, &judged)?;
        let rows_of = |of: Baseline| {
            all.iter()
                .find(|density| density.of == of)
                .and_then(|density| density.values.as_ref().ok())
        };
        for density in &all {
            let kind = if levels { "exact density of dequantised levels" } else { "exact" };
            match &density.values {
                Ok(rows) => {
                    lines.push(Line::of_rows(density.name.clone(), kind.into(), rows.clone()))
                }
                Err(why) => undefined.push((density.name.clone(), why.clone())),
            }
        }
        for (reference, of) in [(BASE, Baseline::Base), (GAUSSIAN, Baseline::Gaussian)] {
            let Some(rows) = rows_of(of) else { continue };
            let own =
                all.iter().find(|density| density.of == of).map(|density| density.name.as_str());
            let others = lines.iter_mut().filter(|line| Some(line.name.as_str()) != own);
            others.for_each(|line| line.compare(reference, rows));
        }
        if let Some((other, other_judged)) = &mut against {
            other_judged.rows = judged.rows.clone();
            let own = run.model.head_covariance();
            let theirs: Vec<CovarianceConfig> = (covariances.iter())
                .map(|&covariance| {
                    match own == Some(covariance) && arguments.covariance.is_empty() {
                        true => own_covariance(other),
                        false => covariance,
                    }
                })
                .collect();
            for &covariance in &theirs {
                make_ready(other, covariance, batch, quiet)?;
            }
            let mut found = likelihoods.of(other, other_judged, &theirs)?;
            for (line, other) in lines.iter_mut().zip(&found) {
                line.compare(AGAINST, other.rows.as_deref().unwrap_or(&[]));
            }
            let is_base = |density: &Classical| density.of == Baseline::Base;
            let theirs = classical(other, other_judged)?.into_iter().find(is_base);
            if let Some(Classical { name, values: Ok(rows), .. }) = theirs {
                let own = all
                    .iter()
                    .find(|density| is_base(density))
                    .map(|density| density.name.as_str());
                let own = lines.iter_mut().find(|line| Some(line.name.as_str()) == own);
                own.into_iter().for_each(|line| line.compare(AGAINST, &rows));
                found.push(Line::of_rows(name, "exact".into(), rows));
            }
            for line in &mut found {
                line.name = format!("against: {}", line.name);
            }
            lines.extend(found);
        }
    }
    if images {
        lines.iter_mut().for_each(|line| line.put_in_bits(run.data.scaling.dim()));
    }
    if metrics.contains(&MetricName::Mmd) {
        let (test, _) =
            scaled_rows(&judged.table, &judged.rows, &run.data.scaling, seed.derive("mmd"));
        for &covariance in sampled {
            let step: &StepOf = &|model| {
                let built = run.model.covariance(covariance)?;
                Ok(Box::new(run.default_sampler().step(model, built)?))
            };
            for &steps in &arguments.steps {
                let n = judged.rows.len().clamp(1000, 10_000);
                let mut progress = Progress::new("sample", n as u64, quiet);
                let grid = chains.of(covariance, steps)?;
                let (samples, _) = draw(&run, None, step, &grid, n, batch, seed, &mut progress)?;
                progress.finish();
                let samples = samples.to_kind(Kind::Double).to_device(Device::Cpu);
                lines.push(Line {
                    name: format!("MMD², K = {steps}, {covariance} covariance"),
                    kind: format!("U-statistic, {n} samples, network units"),
                    value: Mmd::default().u_statistic(&samples, &test),
                    error: f64::NAN,
                    rows: None,
                    less: [None; 3],
                });
            }
        }
    }
    let unit = match images {
        true if levels => {
            "bits per dimension, probabilities of the levels 0…255, no offset, one draw per step"
        }
        true => {
            "bits per dimension, levels 0…255 dequantised (densities per level), one draw per step"
        }
        false => "nats per row, data units",
    };
    let unit = match dequantization {
        DequantizationName::Uniform => unit.replace("dequantised", "dequantised uniformly"),
        other => format!("{unit}; {} dequantisation but for the classical densities", other.name()),
    };
    if arguments.common.json {
        let undefined: Vec<Value> =
            undefined.iter().map(|(name, why)| json!({ "name": name, "reason": why })).collect();
        let mut answer = json!({
            "rows": judged.rows.len(), "unit": unit,
            "results": lines.iter().map(Line::json).collect::<Vec<_>>(), "undefined": undefined,
            "left_out": left_out, "remarks": remarks,
        });
        if let Some((other, _)) = &against {
            answer["against"] = json!(other.dir.path());
        }
        if !figures.is_empty() {
            answer["images"] = figures.iter().map(images::Figure::json).collect();
        }
        print_json(&answer);
        return Ok(());
    }
    match images {
        true => println!("{} images; {unit}; less is better", judged.rows.len()),
        false => {
            println!(
                "{} rows; log-likelihoods in nats per row, the data's own units",
                judged.rows.len()
            )
        }
    }
    print_lines(&lines, if images { "bits" } else { "nats" });
    for (name, why) in &undefined {
        println!("{name}: not defined: {why}");
    }
    if lines.iter().any(|line| line.less.iter().any(Option::is_some)) {
        println!(
            "± one standard error over rows; of differences (−) over the differences of the same rows"
        );
    }
    images::print(&figures);
    Ok(())
}

/// Places in [`REFERENCES`].
const BASE: usize = 0;
const GAUSSIAN: usize = 1;
const AGAINST: usize = 2;
