//! A density judged on test rows, beside classical densities and another run.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind};

use super::grids::Grids;
use super::images::{ImageFigure, ImageOptions, measure};
use super::line::{Line, Subject};
use super::score::{Part, check_dequantization, dequantizer, score};
use super::{Claim, Density, SampleOptions, ScoreOptions, TestRows};
use crate::baseline::{self, KernelDensity};
use crate::choice::choices;
use crate::covariance::CovarianceConfig;
use crate::data::{Dataset, subset};
use crate::dequantize::Dequantization;
use crate::grid::SpacingConfig;
use crate::likelihood::{Estimation, Estimator};
use crate::metric::Mmd;
use crate::noise::Seed;
use crate::run::scaled_rows;
use crate::sample::{Ground, MOST_ROWS, MOST_STEPS};
use crate::tensor::to_vec;
use crate::watch::{Silent, Watch};
use crate::{Error, Result};

choices! {
    /// What is measured.
    pub enum Metric = Nll {
        /// Log-likelihoods, beside a Gaussian and a kernel density
        Nll = "nll",
        /// Maximum mean discrepancy between samples and test rows, five kernels
        Mmd = "mmd",
        /// Fréchet distance between features of samples and of training images: the FID, by
        /// Inception-v3
        Fd = "fd",
        /// Inception score of samples
        Is = "is",
        /// Precision, recall, density and coverage of samples among as many training images
        Pr = "pr",
    }
}

impl Metric {
    /// Whether it looks at images by a network.
    pub fn is_of_images(self) -> bool {
        matches!(self, Metric::Fd | Metric::Is | Metric::Pr)
    }
}

choices! {
    /// What bits per dimension of images are of.
    pub enum Decoder = Levels {
        /// Probabilities of the levels: the discretised decoder of DDPM
        Levels = "levels",
        /// Densities of uniformly dequantised levels, by the last step's covariance
        Density = "density",
    }
}

/// How a density is judged. What is `None` or empty follows the model and the kind of its data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluateOptions {
    /// What is measured; by default `nll` and `mmd`, of images `nll`, or `fd` where a network is
    /// given that looks at them.
    pub metrics: Vec<Metric>,
    /// At most this many test rows, a draw by `seed`; by default all.
    pub rows: Option<usize>,
    /// Numbers of steps.
    pub steps: Vec<usize>,
    /// Covariances of a reverse step; by default, of `nll` all that cost nothing, else that of
    /// [`SampleOptions`].
    pub covariances: Vec<CovarianceConfig>,
    /// How steps are laid in time; by default equal in the angle of signal and noise, of levels the
    /// published even trajectory.
    pub spacing: Option<SpacingConfig>,
    /// What bits per dimension of images are of.
    pub decoder: Decoder,
    /// Whether the probability-flow ODE is computed, of tables.
    pub ode: bool,
    /// Noise within the bins of dequantised columns and of pixels.
    pub dequantization: Dequantization,
    /// As [`ScoreOptions::start_time`].
    pub start_time: Option<f64>,
    /// The seed of the draws.
    pub seed: u64,
    /// Rows at a time, as [`ScoreOptions::batch_size`].
    pub batch_size: Option<usize>,
    /// How images are looked at.
    pub images: ImageOptions,
}

impl Default for EvaluateOptions {
    fn default() -> EvaluateOptions {
        EvaluateOptions {
            metrics: Vec::new(),
            rows: None,
            steps: vec![10, 25, 100],
            covariances: Vec::new(),
            spacing: None,
            decoder: Decoder::default(),
            ode: true,
            dequantization: Dequantization::default(),
            start_time: None,
            seed: 0,
            batch_size: None,
            images: ImageOptions::default(),
        }
    }
}

impl EvaluateOptions {
    /// Refuses what no density can be judged by.
    ///
    /// # Errors
    /// [`Error::Config`] with the option's path.
    pub fn check(&self) -> Result<()> {
        for &steps in &self.steps {
            Error::check_count("evaluate.steps", steps, MOST_STEPS)?;
        }
        if let Some(rows) = self.rows {
            Error::check_count("evaluate.rows", rows, MOST_ROWS)?;
        }
        let noise = (self.dequantization, self.start_time);
        check_dequantization("evaluate", noise, false, "score rows with the estimator ode instead")
    }

    /// What is measured of `density`.
    pub fn metrics_of(&self, density: &Density) -> Vec<Metric> {
        match (self.metrics.is_empty(), self.images.network.is_some(), density.is_of_images()) {
            (false, ..) => self.metrics.clone(),
            (_, true, _) => vec![Metric::Fd],
            (_, _, true) => vec![Metric::Nll],
            _ => vec![Metric::Nll, Metric::Mmd],
        }
    }

    /// Whether test rows of `density` are needed.
    pub fn needs_rows(&self, density: &Density) -> bool {
        self.metrics_of(density).iter().any(|metric| !metric.is_of_images())
    }

    /// Whether the levels of images are scored as probabilities.
    fn of_levels(&self, density: &Density) -> bool {
        density.is_of_images() && self.decoder == Decoder::Levels
    }
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Evaluation {
    /// Test rows that were judged.
    pub rows: usize,
    /// Columns of a row.
    pub dim: usize,
    /// Whether they are images.
    pub images: bool,
    /// Whether their levels are scored as probabilities.
    pub levels: bool,
    /// The noise within their bins.
    pub dequantization: Dequantization,
    /// Log-likelihoods and discrepancies.
    pub lines: Vec<Line>,
    /// Classical densities that there are none of, and why.
    pub undefined: Vec<(Subject, String)>,
    /// What a network sees in the samples.
    pub figures: Vec<ImageFigure>,
}

impl Evaluation {
    /// What the log-likelihoods are in, for people.
    pub fn unit(&self) -> String {
        let unit = match (self.images, self.levels) {
            (true, true) => {
                "bits per dimension, probabilities of the levels 0…255, no offset, one draw per step"
            }
            (true, false) => {
                "bits per dimension, levels 0…255 dequantised (densities per level), one draw per \
                 step"
            }
            (false, _) => "nats per row, data units",
        };
        match self.dequantization {
            Dequantization::Uniform => unit.replace("dequantised", "dequantised uniformly"),
            other => format!("{unit}; {other} dequantisation but for the classical densities"),
        }
    }

    /// The line of the model's base.
    pub fn base(&self) -> Option<&Line> {
        self.own().find(|line| matches!(line.subject, Subject::Base { .. }))
    }

    /// The lines that are not about a run compared with.
    pub fn own(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(|line| !line.of_against)
    }
}

impl Density {
    /// Judges the density on the rows of `data`, which has its columns.
    ///
    /// # Errors
    /// [`Error::Config`] if an option makes no sense for this density; as [`Density::log_prob`] and
    /// [`Density::sample`].
    pub fn evaluate(&self, data: &Dataset, options: &EvaluateOptions) -> Result<Evaluation> {
        let mut rows = self.all_of(self.run.data.conform(data.clone())?);
        rows.draw(options);
        self.evaluate_with(Some(&rows), None, options, &mut Silent)
    }

    /// As [`Density::evaluate`], beside `against`, another density with the same rows
    /// ([`Density::share_rows`]), and with progress and remarks. `rows` can be left out where
    /// [`EvaluateOptions::needs_rows`] says so.
    ///
    /// # Errors
    /// As [`Density::evaluate`], and [`Error::Interrupted`].
    pub fn evaluate_with(
        &self,
        rows: Option<&TestRows>,
        against: Option<(&Density, &TestRows)>,
        options: &EvaluateOptions,
        watch: &mut dyn Watch,
    ) -> Result<Evaluation> {
        options.check()?;
        let batch = self.batch("evaluate.batch_size", options.batch_size, ScoreOptions::BATCH)?;
        for &covariance in &options.covariances {
            self.prepare(covariance, batch, watch)?;
        }
        let metrics = options.metrics_of(self);
        let mut found = Evaluation {
            dim: self.run.data.scaling.dim(),
            images: self.is_of_images(),
            levels: options.of_levels(self),
            dequantization: options.dequantization,
            figures: measure(self, &metrics, options, batch, watch)?,
            ..Evaluation::default()
        };
        if !options.needs_rows(self) {
            return Ok(found);
        }
        if found.levels && options.dequantization != Dequantization::Uniform {
            let problem =
                format!("{}, where levels are scored as they are", options.dequantization);
            let remedy = "give evaluate.decoder = density with it";
            return Err(Error::config("evaluate.dequantization", problem, remedy));
        }
        if against.is_some() && !metrics.contains(&Metric::Nll) {
            let problem = "differences are of log-likelihoods";
            let remedy = "give evaluate.metrics = nll with it";
            return Err(Error::config("evaluate.against", problem, remedy));
        }
        let own = match rows {
            Some(_) => None,
            None => Some(self.test_rows(None, None)?),
        };
        let Some(judged) = rows.or(own.as_ref()) else { return Ok(found) };
        let seed = Seed(options.seed);
        let rows = match options.rows {
            Some(limit) => subset(&judged.rows, limit, seed),
            None => judged.rows.clone(),
        };
        found.rows = rows.len();
        if metrics.contains(&Metric::Nll) {
            self.compare(&mut found, (judged, &rows), against, options, batch, watch)?;
        }
        if found.images {
            let (dim, levels) = (found.dim, found.levels);
            found.lines.iter_mut().for_each(|line| line.put_in_bits(dim, levels));
        }
        if metrics.contains(&Metric::Mmd) {
            found.lines.extend(self.discrepancies((judged, &rows), options, batch, watch)?);
        }
        Ok(found)
    }

    /// The lines of log-likelihoods, with their differences.
    fn compare(
        &self,
        found: &mut Evaluation,
        (judged, rows): (&TestRows, &[usize]),
        against: Option<(&Density, &TestRows)>,
        options: &EvaluateOptions,
        batch: usize,
        watch: &mut dyn Watch,
    ) -> Result<()> {
        let own = self.run.model.head_covariance();
        let given = &options.covariances;
        let covariances: Vec<CovarianceConfig> = match given.is_empty() {
            true => own.into_iter().chain(CovarianceConfig::fixed()).collect(),
            false => given.clone(),
        };
        let mut lines = self.likelihoods((judged, rows), options, &covariances, batch, watch)?;
        let (classical, undefined) = self.classical(judged, rows)?;
        found.undefined = undefined;
        lines.extend(classical);
        let rows_of = |lines: &[Line], is: &dyn Fn(&Subject) -> bool| {
            lines.iter().find(|line| is(&line.subject)).and_then(|line| line.rows.clone())
        };
        let is_base = |subject: &Subject| matches!(subject, Subject::Base { .. });
        let is_gaussian = |subject: &Subject| *subject == Subject::Gaussian;
        let (base, gaussian) = (rows_of(&lines, &is_base), rows_of(&lines, &is_gaussian));
        for line in &mut lines {
            if let Some(base) = base.as_ref().filter(|_| !is_base(&line.subject)) {
                line.minus_base = line.minus(base);
            }
            if let Some(gaussian) = gaussian.as_ref().filter(|_| !is_gaussian(&line.subject)) {
                line.minus_gaussian = line.minus(gaussian);
            }
        }
        if let Some((other, others)) = against {
            let theirs: Vec<CovarianceConfig> = (covariances.iter())
                .map(|&covariance| match own == Some(covariance) && given.is_empty() {
                    true => other.own_covariance(),
                    false => covariance,
                })
                .collect();
            for &covariance in &theirs {
                other.prepare(covariance, batch, watch)?;
            }
            let mut of_other = other.likelihoods((others, rows), options, &theirs, batch, watch)?;
            for (line, other) in lines.iter_mut().zip(&of_other) {
                line.minus_against = line.minus(other.rows.as_deref().unwrap_or(&[]));
            }
            let (classical, _) = other.classical(others, rows)?;
            if let Some(theirs) = classical.into_iter().find(|line| is_base(&line.subject)) {
                if let (Some(own), Some(rows)) =
                    (lines.iter_mut().find(|line| is_base(&line.subject)), &theirs.rows)
                {
                    own.minus_against = own.minus(rows);
                }
                of_other.push(theirs);
            }
            for line in &mut of_other {
                line.of_against = true;
            }
            lines.extend(of_other);
        }
        found.lines = lines;
        Ok(())
    }

    /// A line for each of `covariances` and each number of steps, and one of the ODE.
    fn likelihoods(
        &self,
        (judged, rows): (&TestRows, &[usize]),
        options: &EvaluateOptions,
        covariances: &[CovarianceConfig],
        batch: usize,
        watch: &mut dyn Watch,
    ) -> Result<Vec<Line>> {
        let (levels, seed) = (options.of_levels(self), Seed(options.seed));
        let estimator = if levels { Estimator::Levels } else { Estimator::Elbo };
        let noise = dequantizer(&self.run, options.dequantization, options.start_time)?;
        let part = Part { table: &judged.table, rows, dequantizer: &*noise };
        let mut grids = Grids::new(self, "evaluate", options.spacing, levels, batch);
        let mut lines = Vec::new();
        for &covariance in covariances {
            for &steps in &options.steps {
                let grid = grids.of(covariance, steps, watch)?;
                let built = self.covariance(covariance)?.into();
                let settings = Estimation { estimator, ..Estimation::elbo(built, grid) };
                let found = score(self, part, &settings, seed, batch, watch)?;
                let unsolved = found.summary().unsolved;
                let subject = Subject::Elbo { covariance, steps };
                let mut line = Line::of_rows(subject, found.claim, found.values);
                line.left_out.unsolved = unsolved;
                lines.push(Line { name: found.estimator, flags: found.flags, ..line });
            }
        }
        if options.ode && !self.is_of_images() {
            let flow = Estimation { keep_unsolved: true, ..Estimation::stepless(Estimator::Ode) };
            let found = score(self, part, &flow, seed, batch, watch)?;
            let doubted = found.doubted();
            let flagged = Some(doubted.len());
            let mut values = found.values;
            doubted.into_iter().for_each(|row| values[row] = f64::NAN);
            let mut line = Line::of_rows(Subject::Ode, found.claim, values);
            line.left_out.flagged = flagged;
            lines.push(Line { name: found.estimator, flags: found.flags, ..line });
        }
        Ok(lines)
    }

    /// Classical densities on the same rows, and those that cannot be, with the reason.
    fn classical(
        &self,
        judged: &TestRows,
        rows: &[usize],
    ) -> Result<(Vec<Line>, Vec<(Subject, String)>)> {
        let run = &self.run;
        let seed = Seed(run.config.seed).derive("baselines");
        let (test, log_jacobian) = scaled_rows(&judged.table, rows, &run.data.scaling, seed);
        let line = |subject, values: Vec<f64>| {
            let in_data_units = values.iter().zip(&log_jacobian).map(|(v, j)| v + j).collect();
            Line::of_rows(subject, Claim::Exact, in_data_units)
        };
        let (mut lines, mut undefined) = (Vec::new(), Vec::new());
        if let Some((train, validation)) = &judged.reference {
            let (rows, columns) = train.size2().expect("rows");
            let problem = format!("{rows} training rows have no covariance in {columns} columns");
            match baseline::gaussian(train, &test) {
                _ if rows <= columns => undefined.push((Subject::Gaussian, problem)),
                Ok(values) => lines.push(line(Subject::Gaussian, values)),
                Err(error) => undefined.push((Subject::Gaussian, error.to_string())),
            }
            if validation.size()[0] > 0 {
                let kde = KernelDensity::fit(train, validation)?;
                let subject = Subject::Kernel { bandwidth: kde.bandwidth() };
                lines.push(line(subject, kde.log_density(&test)));
            }
        }
        let base = run.model.base().to(Device::Cpu, Kind::Double);
        let subject = Subject::Base { components: base.components() };
        lines.push(line(subject, to_vec(&base.log_density(&test))));
        Ok((lines, undefined))
    }

    /// A line of the maximum mean discrepancy for each covariance and each number of steps.
    fn discrepancies(
        &self,
        (judged, rows): (&TestRows, &[usize]),
        options: &EvaluateOptions,
        batch: usize,
        watch: &mut dyn Watch,
    ) -> Result<Vec<Line>> {
        let seed = Seed(options.seed).derive("mmd");
        let (test, _) = scaled_rows(&judged.table, rows, &self.run.data.scaling, seed);
        let samples = rows.len().clamp(1000, 10_000);
        let mut grids = Grids::new(self, "evaluate", options.spacing, false, batch);
        let mut lines = Vec::new();
        for covariance in self.sampled_covariances(options) {
            for &steps in &options.steps {
                let sampling = self.sampling(&SampleOptions {
                    covariance: Some(covariance),
                    steps,
                    seed: options.seed,
                    ..SampleOptions::default()
                });
                let grid = grids.of(covariance, steps, watch)?;
                watch.begin("sample", samples as u64);
                let covariance_of = self.covariance(covariance)?;
                let ground = Ground {
                    model: self.model(),
                    covariance: &*covariance_of,
                    grid: &grid,
                    class: None,
                };
                let drawn = sampling.draw(&ground, (samples, batch), watch);
                watch.end();
                let drawn = drawn?.0.to_kind(Kind::Double).to_device(Device::Cpu);
                let value = Mmd::default().u_statistic(&drawn, &test);
                lines.push(Line::of_distance(Subject::Mmd { covariance, steps, samples }, value));
            }
        }
        Ok(lines)
    }

    /// The covariances that samples are drawn with.
    pub(super) fn sampled_covariances(&self, options: &EvaluateOptions) -> Vec<CovarianceConfig> {
        match options.covariances.is_empty() {
            true => vec![self.own_covariance()],
            false => options.covariances.clone(),
        }
    }
}
