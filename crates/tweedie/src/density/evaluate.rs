//! A density judged on test rows, beside classical densities and another run.

mod lines;

use serde::{Deserialize, Serialize};

use super::images::{ImageFigure, ImageOptions, measure};
use super::line::{Line, Subject};
use super::score::check_dequantization;
use super::{Density, SampleOptions, ScoreOptions, TestRows};
use crate::choice::choices;
use crate::covariance::CovarianceConfig;
use crate::data::{Dataset, subset};
use crate::dequantize::Dequantization;
use crate::grid::SpacingConfig;
use crate::likelihood::SolverOptions;
use crate::metric::forecast::Forecast;
use crate::metric::quality::Quality;
use crate::noise::Seed;
use crate::sample::{MOST_ROWS, MOST_STEPS, Sampler};
use crate::watch::{Silent, Watch};
use crate::{Error, Result};

choices! {
    /// What is measured.
    pub enum Metric = Nll {
        /// Log-likelihoods, beside a Gaussian and a kernel density
        Nll = "nll",
        /// Maximum mean discrepancy between samples and test rows, five kernels
        Mmd = "mmd",
        /// Of tables: how like rows samples are in their columns, pairs of columns and to
        /// classifiers, what can be learned from them, and whether they repeat training rows
        Quality = "quality",
        /// Of mixed tables: how right draws of each number are given other columns: continuous
        /// ranked probability score, quantile losses, coverage of intervals, and ranks (PIT)
        Crps = "crps",
        /// Fréchet distance between features of samples and of training images: the FID, by
        /// Inception-v3
        Fd = "fd",
        /// Inception score of samples
        Is = "is",
        /// Precision, recall, density and coverage of samples among as many training images by
        /// nearest neighbours, and PRD by clusters: F8, of recall, and F1/8, of precision
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
    /// What is measured; by default `nll` and `mmd`, of images and of tables that are read as they
    /// come `nll`, or `fd` where a network is given that looks at images.
    pub metrics: Vec<Metric>,
    /// At most this many test rows, a draw by `seed`; by default all.
    pub rows: Option<usize>,
    /// Numbers of steps.
    pub steps: Vec<usize>,
    /// Covariances of a reverse step; by default, of `nll` all that cost nothing, else that of
    /// [`SampleOptions`](super::SampleOptions).
    pub covariances: Vec<CovarianceConfig>,
    /// How samples go from noise to data.
    pub sampler: Sampler,
    /// As [`SampleOptions::corrector_steps`].
    pub corrector_steps: Option<usize>,
    /// As [`SampleOptions::snr`].
    pub snr: Option<f64>,
    /// The solver of samples by the probability flow.
    pub solver: SolverOptions,
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
    /// The column whose prediction is learned from samples, of the metric `quality`.
    pub target: Option<String>,
    /// Columns of a table that is read as it comes which are given, besides the context of the run:
    /// of `nll` the likelihood is that of the others given these, of `crps` the draws are.
    pub given: Vec<String>,
    /// Draws of each row, of the metric `crps`, at least 2.
    pub draws: usize,
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
            sampler: Sampler::default(),
            corrector_steps: None,
            snr: None,
            solver: SolverOptions::default(),
            spacing: None,
            decoder: Decoder::default(),
            ode: true,
            dequantization: Dequantization::default(),
            start_time: None,
            target: None,
            given: Vec::new(),
            draws: 100,
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
        Error::check_count("evaluate.draws", self.draws, MOST_STEPS)?;
        if self.draws < 2 {
            let problem = "1, and a spread has two at least";
            return Err(Error::config("evaluate.draws", problem, "give 100"));
        }
        let noise = (self.dequantization, self.start_time);
        check_dequantization("evaluate", noise, false, "score rows with the estimator ode instead")
    }

    /// How samples are drawn with this covariance, where one is requested. Of
    /// [`EvaluateOptions::steps`] the first are those of the chain.
    pub(super) fn sampling(&self, covariance: Option<CovarianceConfig>) -> SampleOptions {
        let ImageOptions { last_step, covariance_until, eta, clip, clip_noise, .. } = self.images;
        let ImageOptions { guidance, guided_covariance, guided_channels, .. } = self.images;
        let usual = SampleOptions::default();
        SampleOptions {
            sampler: self.sampler,
            steps: self.steps.first().copied().unwrap_or(usual.steps),
            spacing: self.spacing,
            guidance,
            guided_covariance,
            guided_channels,
            covariance,
            covariance_until,
            eta,
            last_step,
            clip,
            clip_noise,
            corrector_steps: self.corrector_steps,
            snr: self.snr,
            solver: self.solver.clone(),
            seed: self.seed,
            ..usual
        }
    }

    /// What is measured of `density`.
    pub fn metrics_of(&self, density: &Density) -> Vec<Metric> {
        match (self.metrics.is_empty(), self.images.network.is_some(), density.is_large()) {
            (false, ..) => self.metrics.clone(),
            (_, true, _) => vec![Metric::Fd],
            (_, _, true) => vec![Metric::Nll],
            _ if density.run.data.schema.is_some() => vec![Metric::Nll],
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
    /// Whether rows are latents of images.
    pub latents: bool,
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
    /// Quality and privacy of samples of a table.
    pub quality: Option<Quality>,
    /// How right draws of numbers are, given other columns.
    pub forecasts: Vec<Forecast>,
}

impl Evaluation {
    /// What the log-likelihoods are in, for people.
    pub fn unit(&self) -> String {
        let unit = match (self.images, self.levels) {
            (true, true) => {
                "bits per dimension, probabilities of the levels 0…255, no offset, one draw per \
                step"
            }
            (true, false) => {
                "bits per dimension, levels 0…255 dequantised (densities per level), one draw per \
                 step"
            }
            (false, _) if self.latents => "nats per row of latents",
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
        let mut rows = self.rows_to_judge(data.clone())?;
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
        self.check_metrics(&metrics, options)?;
        self.check_sampling(&metrics, options)?;
        let mut found = Evaluation {
            dim: self.run.data.scaling.dim(),
            images: self.is_of_images(),
            latents: self.run.data.latents.is_some(),
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
        if metrics.contains(&Metric::Quality) {
            found.quality = Some(self.quality((judged, &rows), options, watch)?);
        }
        if metrics.contains(&Metric::Crps) {
            found.forecasts = self.forecasts((judged, &rows), options, watch)?;
        }
        Ok(found)
    }

    /// Refuses metrics that are not of this density's rows.
    fn check_metrics(&self, metrics: &[Metric], options: &EvaluateOptions) -> Result<()> {
        let quality = metrics.contains(&Metric::Quality);
        if quality && self.is_large() {
            let problem = format!("quality is of tables, and {} is none", self.name());
            return Err(Error::config("evaluate.metrics", problem, "leave it out"));
        }
        if metrics.contains(&Metric::Crps) && self.given_columns(&options.given).is_empty() {
            let problem = "crps, and nothing is given of a row";
            let remedy = "give columns with evaluate.given, or train with data.context";
            return Err(Error::config("evaluate.metrics", problem, remedy));
        }
        if metrics.contains(&Metric::Crps) || !options.given.is_empty() {
            self.asked("evaluate.given", &options.given, options.dequantization)?;
        }
        if metrics.contains(&Metric::Mmd) {
            self.check_numbers_alone("evaluate.metrics", "request nll or quality")?;
        }
        match &options.target {
            Some(target) if !quality => {
                let problem = format!("{target}, and nothing is learned from samples");
                let remedy = "give evaluate.metrics = quality with it";
                Err(Error::config("evaluate.target", problem, remedy))
            }
            _ => Ok(()),
        }
    }
}
