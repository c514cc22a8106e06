//! How samples are drawn: the options as plain data, and the defaults, which `sample`,
//! `evaluate`, `report`, the sheets of a training and the experiments share.

use std::cell::RefCell;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::{Clipped, LastStep, PredictorCorrector, Sampler, Step, run_chain, sample_in_batches};
use crate::choice::check_taken;
use crate::covariance::{Covariance, CovarianceConfig};
use crate::grid::SpacingConfig;
use crate::likelihood::SolverOptions;
use crate::model::{Denoiser, Guidance, Guided, GuidedCovariance, InMode, Model};
use crate::noise::Seed;
use crate::process_group::{Parcel, ProcessGroup};
use crate::query::{Cells, Condition};
use crate::schedule::Schedule;
use crate::tensor::Count;
use crate::watch::{Watch, check_stop};
use crate::{Error, Result};

/// Steps of a sampler or an estimator, at most.
pub const MOST_STEPS: usize = 1_000_000;
/// Rows that are computed at once or drawn, at most.
pub const MOST_ROWS: usize = 1_000_000_000;

/// A sampler in the list of samplers.
pub trait SamplerMethod: Sync {
    /// Its name in configuration files and on the command line.
    fn name(&self) -> &'static str;

    /// One line that says what it is.
    fn help(&self) -> &'static str;

    /// The fields of [`SampleOptions`] that it takes, beside those that all samplers take.
    fn options(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether it steps down a grid of [`SampleOptions::steps`] steps.
    fn has_steps(&self) -> bool {
        true
    }

    /// The rows `[n, d]` of a batch in the network's units, and what was clipped.
    ///
    /// # Errors
    /// If an option makes no sense for the model, or a sample is not finite.
    fn draw(&self, sampling: &Sampling, chain: &Chain) -> Result<(Tensor, Clipped)>;
}

/// The chains of a batch of samples.
pub struct Chain<'a> {
    /// The model that is sampled.
    pub model: &'a dyn Denoiser,
    /// The covariance of a reverse step.
    pub covariance: &'a dyn Covariance,
    /// Increasing times from 0; none for a sampler without steps.
    pub grid: &'a [f64],
    /// The numbers of the rows.
    pub rows: Range<u64>,
    /// What they are conditioned on.
    pub condition: Option<&'a Condition>,
}

/// What samples are drawn of.
#[derive(Clone, Copy)]
pub struct Ground<'a> {
    /// The model, and what it computes in.
    pub model: InMode<'a>,
    /// The covariance of a reverse step.
    pub covariance: &'a dyn Covariance,
    /// Increasing times from 0; none for a sampler without steps.
    pub grid: &'a [f64],
    /// The class of all samples; `None`: all classes in turn.
    pub class: Option<u32>,
    /// Of a model of rows with cells: those of each sample.
    pub cells: Option<&'a Cells>,
    /// The processes that batches of samples are split over.
    pub group: &'a ProcessGroup,
}

impl Chain<'_> {
    /// The chain of `step`, for a [`SamplerMethod::draw`].
    pub(super) fn of(&self, step: &dyn Step, seed: Seed) -> Result<(Tensor, Clipped)> {
        let samples = run_chain(step, self.grid, seed, self.rows.clone(), self.condition)?;
        Ok((samples, step.clipped()))
    }
}

/// How samples are drawn. What is `None` follows the model and the kind of its data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SampleOptions {
    /// How to go from noise to data.
    pub sampler: Sampler,
    /// Steps of the chain.
    pub steps: usize,
    /// How the steps are laid in time; by default equal in the angle of signal and noise.
    pub spacing: Option<SpacingConfig>,
    /// The class of all samples, by name or number; by default all classes in turn, from 0.
    pub class: Option<String>,
    /// The scale `w` of classifier-free guidance ([`Guided`]); by default none, which is 1.
    pub guidance: Option<f64>,
    /// The covariance of a guided step; by default that of the class.
    pub guided_covariance: Option<GuidedCovariance>,
    /// The first channels of images, which alone are guided (DiT's sampler has 3); by default all.
    pub guided_channels: Option<usize>,
    /// Covariance of a reverse step; by default what the model's head is for, without a head that
    /// of the base.
    pub covariance: Option<CovarianceConfig>,
    /// The signal-to-noise ratio `α²/σ²` up to which steps have the covariance, and above which β̃
    /// ([`super::Ancestral::covariance_until`]); by default infinite, of images that end in the
    /// mean [`SampleOptions::COVARIANCE_UNTIL`].
    pub covariance_until: Option<f64>,
    /// From 0 (DDIM) to 1 (ancestral), the default.
    pub eta: Option<f64>,
    /// What the last step returns; by default a draw, of images and their latents the mean.
    pub last_step: Option<LastStep>,
    /// Whether the predicted clean image is held between black and white at every step.
    pub clip: bool,
    /// The levels, of 255, by which the noise of the last step but one moves a pixel at most in the
    /// mean ([`super::Ancestral::clip_noise`]).
    pub clip_noise: Option<f64>,
    /// Langevin steps at each time, by default 1.
    pub corrector_steps: Option<usize>,
    /// Signal-to-noise ratio of a Langevin step, by default [`PredictorCorrector::RATIO`].
    pub snr: Option<f64>,
    /// The solver of the probability flow.
    pub solver: SolverOptions,
    /// The seed of the samples.
    pub seed: u64,
    /// Rows at a time; by default [`SampleOptions::BATCH`], of images [`IMAGES_AT_ONCE`].
    pub batch_size: Option<usize>,
}

/// Images that are computed at a time by default.
pub const IMAGES_AT_ONCE: usize = 64;

impl Default for SampleOptions {
    fn default() -> SampleOptions {
        SampleOptions {
            sampler: Sampler::default(),
            steps: 20,
            spacing: None,
            class: None,
            guidance: None,
            guided_covariance: None,
            guided_channels: None,
            covariance: None,
            covariance_until: None,
            eta: None,
            last_step: None,
            clip: false,
            clip_noise: None,
            corrector_steps: None,
            snr: None,
            solver: SolverOptions::default(),
            seed: 0,
            batch_size: None,
        }
    }
}

impl SampleOptions {
    /// Rows of a table that are drawn at a time by default.
    pub const BATCH: usize = 4096;

    /// The signal-to-noise ratio from which the covariance of a step puts grain into images.
    pub const COVARIANCE_UNTIL: f64 = 5.0;

    /// Refuses what no model can be sampled with, and options of another sampler than the chosen
    /// one.
    ///
    /// # Errors
    /// [`Error::Config`] with the option's path.
    pub fn check(&self) -> Result<()> {
        let mut given = self.solver.given();
        given.extend(
            [
                ("covariance", self.covariance.is_some()),
                ("covariance_until", self.covariance_until.is_some()),
                ("eta", self.eta.is_some()),
                ("last_step", self.last_step.is_some()),
                ("clip", self.clip),
                ("clip_noise", self.clip_noise.is_some()),
                ("corrector_steps", self.corrector_steps.is_some()),
                ("snr", self.snr.is_some()),
            ]
            .into_iter()
            .filter_map(|(name, given)| given.then_some(name)),
        );
        check_taken(self.sampler, ("sample", "sampler"), &given, |s| s.method().options())?;
        Error::check_count("sample.steps", self.steps, MOST_STEPS)?;
        if let Some(steps) = self.corrector_steps.filter(|steps| *steps > 0) {
            Error::check_count("sample.corrector_steps", steps, MOST_STEPS)?;
        }
        if let Some(snr) = self.covariance_until.filter(|snr| snr.is_nan() || *snr <= 0.0) {
            let remedy = "give a positive signal-to-noise ratio; inf is none";
            return Err(Error::config("sample.covariance_until", format!("{snr}"), remedy));
        }
        self.check_guidance()?;
        if let Some(levels) = self.clip_noise {
            if !(levels > 0.0 && levels.is_finite()) {
                let remedy = "give a positive number of levels: 1 and 2 are usual";
                return Err(Error::config("sample.clip_noise", format!("{levels}"), remedy));
            }
            if self.last_step == Some(LastStep::Noise) {
                let problem = "it ends in the mean, and sample.last_step = noise in a draw";
                return Err(Error::config("sample.clip_noise", problem, "give one of the two"));
            }
        }
        self.solver.check("sample.solver")
    }

    fn check_guidance(&self) -> Result<()> {
        let Some(scale) = self.guidance else {
            let given = [
                ("guided_covariance", self.guided_covariance.is_some()),
                ("guided_channels", self.guided_channels.is_some()),
            ];
            return match given.iter().find(|(_, given)| *given) {
                None => Ok(()),
                Some((name, _)) => {
                    let problem = "given without guidance";
                    Err(Error::config(format!("sample.{name}"), problem, "give sample.guidance"))
                }
            };
        };
        Guidance::check_scale("sample.guidance", scale)
    }

    /// Refuses guidance of a model that cannot be guided.
    ///
    /// # Errors
    /// [`Error::Config`] with the option's path.
    pub fn check_model(&self, model: &Model) -> Result<()> {
        if self.guidance.is_some() && !model.has_null_class() {
            let (problem, remedy) = match model.classes() {
                0 => ("the model has no classes", "leave it out, or train with data.classes"),
                _ => (
                    "the model was trained with all of its labels, and has no null class",
                    "leave it out, or train with train.label_dropout",
                ),
            };
            return Err(Error::config("sample.guidance", problem, remedy));
        }
        let image = model.config().network.image();
        match (self.guided_channels, image) {
            (Some(channels), Some([most, ..])) => {
                Error::check_count("sample.guided_channels", channels, most)
            }
            (Some(_), None) => {
                let problem = "the model is of a table";
                Err(Error::config("sample.guided_channels", problem, "leave it out"))
            }
            _ => Ok(()),
        }
    }

    /// Refuses options of images for a model of a table, which `run` is called by.
    ///
    /// # Errors
    /// [`Error::Config`] with the option's path.
    pub fn check_images(&self, images: bool, run: &dyn std::fmt::Display) -> Result<()> {
        let given = [("sample.clip", self.clip), ("sample.clip_noise", self.clip_noise.is_some())];
        match given.iter().find(|(_, given)| *given && !images) {
            None => Ok(()),
            Some((path, _)) => {
                let problem = format!("{run} is a run of a table or of latents");
                Err(Error::config(*path, problem, "leave it out: it is for images"))
            }
        }
    }

    /// All that is left open decided for `model`, whose rows are `images`, or their latents, or
    /// those of a table.
    pub fn of(&self, model: &Model, images: bool) -> Sampling {
        let last = if images { LastStep::Mean } else { LastStep::Noise };
        let last = self.last_step.unwrap_or(last);
        let until = match images && last == LastStep::Mean {
            true => SampleOptions::COVARIANCE_UNTIL,
            false => f64::INFINITY,
        };
        let own = model.head_covariance().unwrap_or_default();
        let guidance = self.guidance.map(|scale| {
            let covariance = self.guided_covariance.unwrap_or_default();
            Guidance::new(scale, covariance, self.guided_channels, &model.config().network)
        });
        Sampling {
            sampler: self.sampler,
            steps: self.steps,
            spacing: self.spacing.unwrap_or_default(),
            guidance,
            covariance: self.covariance.unwrap_or(own),
            covariance_until: self.covariance_until.unwrap_or(until),
            eta: self.eta.unwrap_or(1.0),
            last,
            range: self.clip.then_some((-1.0, 1.0)),
            clip_noise: self.clip_noise,
            corrector_steps: self.corrector_steps.unwrap_or(1),
            snr: self.snr.unwrap_or(PredictorCorrector::RATIO),
            solver: self.solver.clone(),
            seed: Seed(self.seed),
        }
    }
}

/// [`SampleOptions`] with everything decided for a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// How to go from noise to data.
    pub sampler: Sampler,
    /// Steps of the chain.
    pub steps: usize,
    /// How they are laid in time.
    pub spacing: SpacingConfig,
    /// Classifier-free guidance, where there is any.
    pub guidance: Option<Guidance>,
    /// Covariance of a reverse step.
    pub covariance: CovarianceConfig,
    /// The signal-to-noise ratio up to which steps have it, and above which β̃.
    pub covariance_until: f64,
    /// From 0 (DDIM) to 1 (ancestral).
    pub eta: f64,
    /// What the last step returns.
    pub last: LastStep,
    /// The range in which the predicted clean row is held at every step.
    pub range: Option<(f64, f64)>,
    /// As [`SampleOptions::clip_noise`].
    pub clip_noise: Option<f64>,
    /// Langevin steps at each time.
    pub corrector_steps: usize,
    /// Signal-to-noise ratio of a Langevin step.
    pub snr: f64,
    /// The solver of the probability flow.
    pub solver: SolverOptions,
    /// The seed of the samples.
    pub seed: Seed,
}

impl Sampling {
    /// Whether the sampler takes this field of [`SampleOptions`].
    pub fn takes(&self, option: &str) -> bool {
        self.sampler.method().options().contains(&option)
    }

    /// The number of its steps, where the sampler steps down a grid.
    pub fn steps_taken(&self) -> Option<usize> {
        self.sampler.method().has_steps().then_some(self.steps)
    }

    /// The covariance of its steps, where the sampler takes one.
    pub fn covariance_taken(&self) -> Option<CovarianceConfig> {
        self.takes("covariance").then_some(self.covariance)
    }

    /// The sampler, where it is not the default, and what it has of steps, covariance and last
    /// step, for people.
    pub fn in_words(&self) -> String {
        let usual = self.sampler == Sampler::default();
        let parts = [
            (!usual).then(|| self.sampler.to_string()),
            self.steps_taken().map(|steps| format!("K = {steps}")),
            self.covariance_taken().map(|covariance| match self.covariance_until {
                snr if snr.is_finite() && covariance != CovarianceConfig::BetaTilde => {
                    format!("{covariance} up to an SNR of {snr}")
                }
                _ => covariance.to_string(),
            }),
            self.takes("last_step").then(|| format!("last step {}", self.last)),
            self.guidance.map(|guidance| match guidance.covariance {
                GuidedCovariance::Combined if self.covariance_taken().is_some() => {
                    format!("guidance {}, combined covariance", guidance.scale)
                }
                _ => format!("guidance {}", guidance.scale),
            }),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    /// The increasing times of the steps, from 0 to the horizon; none for a sampler without steps.
    ///
    /// # Errors
    /// If the spacing is one that is measured on data, or the chain has not so many steps.
    pub fn grid(&self, schedule: &dyn Schedule) -> Result<Vec<f64>> {
        match self.sampler.method().has_steps() {
            true => self.spacing.laid("sample.spacing")?.sampling_grid(schedule, self.steps),
            false => Ok(Vec::new()),
        }
    }

    /// `n` samples of a model in batches, each given to `each` in the network's units with the
    /// numbers of its rows; what was clipped. Row `i` is of the class given, or of class `i` modulo
    /// their number, and does not depend on the batch size.
    ///
    /// # Errors
    /// As [`SamplerMethod::draw`], as `each`, and [`Error::Interrupted`].
    pub fn draw_each(
        &self,
        ground: &Ground,
        (n, batch): (usize, usize),
        watch: &mut dyn Watch,
        mut each: impl FnMut(Tensor, Range<u64>) -> Result<()>,
    ) -> Result<Clipped> {
        let mut clipped = Clipped::default();
        let Ground { model, covariance, grid, class, cells, group } = *ground;
        let guided = self.guidance.map(|guidance| Guided::new(&model, guidance));
        let sampled: &dyn Denoiser = guided.as_ref().map_or(&model, |guided| guided);
        let batch = batch.max(1);
        let rows_of = |k: usize| (k * batch) as u64..(k + 1).saturating_mul(batch).min(n) as u64;
        let watch = RefCell::new(watch);
        let work = |k: usize| {
            let rows = rows_of(k);
            check_stop(*watch.borrow())?;
            let of_cells = cells
                .map(|cells| Condition::cells(cells.rows(rows.start as usize..rows.end as usize)));
            let condition = of_cells.or_else(|| condition_of(model.model(), class, rows.clone()));
            let condition = condition.as_ref();
            let chain = Chain { model: sampled, covariance, grid, rows, condition };
            let (part, held) = self.sampler.method().draw(self, &chain)?;
            Ok((Parcel::of(part), held))
        };
        group.distribute(
            n.div_ceil(batch).max(1),
            work,
            |k, (part, held): (Parcel, Clipped)| {
                clipped += held;
                let rows = rows_of(k);
                each(part.unpacked(model.space().device), rows.clone())?;
                watch.borrow_mut().progress(rows.end, n as u64);
                Ok(())
            },
        )?;
        let guided = guided.map_or_else(Count::default, |guided| guided.held());
        group.gather(guided)?.into_iter().for_each(|held| clipped.guided += held);
        Ok(clipped)
    }

    /// As [`Sampling::draw_each`], all samples `[n, d]`.
    ///
    /// # Errors
    /// As [`Sampling::draw_each`].
    pub fn draw(
        &self,
        ground: &Ground,
        (n, batch): (usize, usize),
        watch: &mut dyn Watch,
    ) -> Result<(Tensor, Clipped)> {
        let mut parts = Vec::new();
        let clipped = self.draw_each(ground, (n, batch), watch, |part, _| {
            parts.push(part);
            Ok(())
        })?;
        Ok((Tensor::cat(&parts, 0), clipped))
    }

    /// `n` samples of a model that is being trained, `[n, d]`; once `stop` returns true the rest
    /// of a batch is computed from zeros, and the result has to be thrown away.
    ///
    /// # Errors
    /// As [`SamplerMethod::draw`], and [`Error::Interrupted`] between batches.
    pub fn draw_unless(
        &self,
        model: &Model,
        n: usize,
        batch: usize,
        stop: &dyn Fn() -> bool,
    ) -> Result<Tensor> {
        let grid = self.grid(model.space().schedule())?;
        let covariance = model.covariance(self.covariance)?;
        let watched = crate::model::Watched::new(model, stop);
        sample_in_batches(n, batch, |rows| {
            if rows.start > 0 && stop() {
                return Err(Error::Interrupted("samples".into()));
            }
            let condition = condition_of(model, None, rows.clone());
            let condition = condition.as_ref();
            let chain =
                Chain { model: &watched, covariance: &*covariance, grid: &grid, rows, condition };
            Ok(self.sampler.method().draw(self, &chain)?.0)
        })
    }
}

/// What the samples with these numbers are conditioned on.
fn condition_of(model: &Model, class: Option<u32>, rows: Range<u64>) -> Option<Condition> {
    class_of_rows(model, class, rows).map(|classes| Condition::classes(&classes))
}

/// The classes of the samples with these numbers: `class`, or all of the model's in turn; none of a
/// model without any.
pub(crate) fn class_of_rows(
    model: &Model,
    class: Option<u32>,
    rows: Range<u64>,
) -> Option<Vec<u32>> {
    let classes = model.classes() as u64;
    let class = |row| class.unwrap_or((row % classes) as u32);
    (classes > 0).then(|| rows.map(class).collect())
}
