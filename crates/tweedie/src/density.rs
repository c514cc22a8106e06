//! A fitted density and what it is for: samples, log-likelihoods, a judgement on test rows,
//! latents.
//!
//! A [`Density`] is a model with its columns and their scaling. Its methods take options as plain
//! data ([`SampleOptions`], [`ScoreOptions`], [`EvaluateOptions`], [`EncodeOptions`]), whose
//! defaults are those of the program, and return typed results. Long work reports to a
//! [`Watch`], which can also stop it.
//!
//! ```no_run
//! use tweedie::data::{Dataset, TableOptions};
//! use tweedie::density::{Density, SampleOptions, ScoreOptions};
//!
//! # fn main() -> tweedie::Result<()> {
//! let density = Density::load("runs/wine")?;
//! let new = density.read("new.csv")?;
//! let scores = density.log_prob(&new, &ScoreOptions::default())?;
//! println!("{:.3} ± {:.3} nats per row, {}", scores.mean(), scores.std_error(), scores.claim());
//! density.sample(1000, &SampleOptions { steps: 50, ..Default::default() })?.write("samples.csv")?;
//! # Ok(())
//! # }
//! ```

mod calibration;
mod conditional;
mod dequantize;
mod evaluate;
mod fit;
mod grids;
mod images;
mod latents;
mod line;
mod mixed;
mod parts;
mod quality;
mod rows;
mod sample;
mod score;

use std::cell::OnceCell;
use std::path::Path;
use std::sync::Arc;

use tch::Device;

use crate::autoencoder::import_pipeline;
use crate::covariance::{Covariance, CovarianceConfig, NoiseStatistics};
use crate::data::Dataset;
pub use crate::likelihood::Claim;
use crate::model::{InMode, Mode, Precision};
use crate::process_group::ProcessGroup;
use crate::run::{Measured, Run, statistics_rows};
pub use crate::sample::SampleOptions;
use crate::watch::{Remark, Watch};
use crate::{Error, Result};
pub use calibration::{AnomalyTest, Calibration};
pub use conditional::{Fill, FillOptions};
pub use dequantize::{DequantizeOptions, Dequantized};
pub use evaluate::{Decoder, EvaluateOptions, Evaluation, Metric};
pub use fit::{FitOptions, WatchFit};
pub use images::{ImageFigure, ImageOptions};
pub use latents::{DecodeOptions, EncodeOptions, Latents, RoundTrip};
pub use line::{Difference, LeftOut, Line, Subject, Unit};
pub use parts::{ColumnPart, Parts, PartsOf};
pub use rows::{TestRows, remarks_on};
pub use sample::Samples;
pub use score::{Cost, ScoreFile, ScoreOptions, Scores};

/// A fitted model with its columns and their scaling.
pub struct Density {
    run: Run,
    /// The directory of a density that is not saved; it goes with the last owner.
    temporary: Option<Arc<tempfile::TempDir>>,
    /// What was measured of the model's noise since it was loaded.
    measured: OnceCell<NoiseStatistics>,
    /// What samples and likelihoods are computed in.
    precision: Precision,
    /// The processes that share the work.
    group: ProcessGroup,
}

impl Density {
    /// The density in the run directory `path`, on the CPU.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if there is none, or its files are damaged or of a newer version.
    pub fn load(path: impl AsRef<Path>) -> Result<Density> {
        Density::load_on(path, Device::Cpu)
    }

    /// As [`Density::load`], on any device.
    ///
    /// # Errors
    /// As [`Density::load`].
    pub fn load_on(path: impl AsRef<Path>, device: Device) -> Result<Density> {
        Ok(Density::of(Run::load(path, device)?))
    }

    /// The density of a run.
    pub fn of(run: Run) -> Density {
        let (measured, precision) = (OnceCell::new(), Precision::F32);
        Density { run, temporary: None, measured, precision, group: ProcessGroup::alone() }
    }

    /// The density of a run whose directory is removed when nobody needs it any more.
    pub fn in_temporary(run: Run, dir: tempfile::TempDir) -> Density {
        Density { temporary: Some(Arc::new(dir)), ..Density::of(run) }
    }

    /// The same, whose directory lies in `dir` and is removed with it when nobody needs it any more.
    pub fn with_temporary(self, dir: tempfile::TempDir) -> Density {
        Density { temporary: Some(Arc::new(dir)), ..self }
    }

    /// The density that a model of diffusers is: see [`crate::run::import`]; that of latents is of
    /// those of the autoencoder in its folder `vae`. Not saved.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if the folder holds no model that can be computed here.
    pub fn import(folder: impl AsRef<Path>, device: Device) -> Result<Density> {
        let dir = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
        let path = dir.path().join("run");
        import_pipeline(folder.as_ref(), None, &path, device)?;
        Ok(Density::in_temporary(Run::load(path, device)?, dir))
    }

    /// Writes the density to a new run directory: a copy of its own.
    ///
    /// # Errors
    /// [`Error::Config`] if `path` holds a run already; [`Error::Io`] if it cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        self.run.dir.copy_to(path.as_ref())
    }

    /// The density whose samples and scores are computed by the processes of a group, each of which
    /// has it and makes the same calls: batches of rows are split over them, and
    /// each of them gets all that is computed. Samples and scores are bitwise equal to those of one
    /// process with the same batch size.
    pub fn over(self, group: &ProcessGroup) -> Density {
        Density { group: group.clone(), ..self }
    }

    /// Whether the density has been saved, or was loaded.
    pub fn is_saved(&self) -> bool {
        self.temporary.is_none()
    }

    /// The run: its directory, configuration, data record and model.
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// The run, to change it.
    pub fn run_mut(&mut self) -> &mut Run {
        &mut self.run
    }

    /// The density computing samples and likelihoods in `precision`, which at first is f32. The
    /// probability flow is solved to a tolerance that bf16 does not hold: estimators and samplers
    /// that solve it are refused in bf16, encoding and decoding stay in f32.
    ///
    /// # Errors
    /// [`Error::Config`] if the network computes in f32 alone.
    pub fn in_precision(self, precision: Precision) -> Result<Density> {
        self.run.model.in_mode(Mode { precision, ..Mode::default() })?;
        Ok(Density { precision, ..self })
    }

    /// The model, computing as [`Density::in_precision`] says.
    fn model(&self) -> InMode<'_> {
        let mode = Mode { precision: self.precision, ..Mode::default() };
        self.run.model.in_mode(mode).expect("checked when it was set")
    }

    /// `name` of a figure, which says what it is computed in where that is not f32.
    fn in_its_precision(&self, name: String) -> String {
        match self.precision {
            Precision::F32 => name,
            other => format!("{name}, {other}"),
        }
    }

    /// Refuses bf16 for what is solved adaptively, by the option at the path `field`.
    fn check_adaptive(&self, field: &str, adaptive: bool) -> Result<()> {
        if !adaptive || self.precision == Precision::F32 {
            return Ok(());
        }
        let problem = "the probability flow is solved to a tolerance that bf16 does not hold";
        Err(Error::config(field, problem, "take another, or compute in f32"))
    }

    /// A table with the columns of this density, read as its training data were.
    ///
    /// # Errors
    /// [`Error::Data`] if a column is missing or holds what cannot be used.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Dataset> {
        self.run.data.read_table(path.as_ref(), &self.run.config.data.table)
    }

    /// Whether rows are images of levels 0…255, and not latents of images.
    pub fn is_of_images(&self) -> bool {
        self.run.data.levels().is_some()
    }

    /// Whether rows are as large as images, which latents are too.
    fn is_large(&self) -> bool {
        self.run.data.image.is_some()
    }

    /// Rows that are computed at a time: as requested, or `usual` of a table and
    /// [`crate::sample::IMAGES_AT_ONCE`] images.
    fn batch(&self, field: &str, requested: Option<usize>, usual: usize) -> Result<usize> {
        let images = crate::sample::IMAGES_AT_ONCE;
        let batch = requested.unwrap_or(if self.is_large() { images } else { usual });
        Error::check_count(field, batch, crate::sample::MOST_ROWS)?;
        Ok(batch)
    }

    /// What a run is called in messages.
    fn name(&self) -> std::path::Display<'_> {
        self.run.dir.path().display()
    }

    /// The covariance that the model's head is for; without a head that of the base.
    fn own_covariance(&self) -> CovarianceConfig {
        self.run.default_sampler().covariance
    }

    /// The covariance of a reverse step, with the data that it takes.
    fn covariance(&self, covariance: CovarianceConfig) -> Result<Box<dyn Covariance>> {
        self.run.model.covariance_with(covariance, self.statistics())
    }

    /// What was measured of the model's noise, now or before.
    fn statistics(&self) -> Option<&NoiseStatistics> {
        self.measured.get().or(self.run.model.noise_statistics())
    }

    /// Says what `learned` is for a model without a head, and measures what the analytic
    /// covariances need, at their first use; anew where what was kept lacks it.
    fn prepare(
        &self,
        covariance: CovarianceConfig,
        batch: usize,
        watch: &mut dyn Watch,
    ) -> Result<()> {
        if covariance == CovarianceConfig::Own {
            let reason = match self.run.model.head_covariance() {
                None => Some("this run has no covariance head"),
                Some(CovarianceConfig::Interpolated) => {
                    Some("the head of this run is for the covariance interpolated")
                }
                _ => None,
            };
            if let Some(reason) = reason {
                let text = format!("{reason}: 'learned' is the covariance of its base");
                watch.say(Remark::Note(text));
            }
        }
        // the leader may write what it measures before another one has looked
        if self.group.share(covariance.lacks(self.statistics()))? {
            let rows = statistics_rows(self.run.data.scaling.dim());
            let text = format!("measuring the noise of the score on {rows} training rows");
            watch.say(Remark::Progress(text));
            let (statistics, largest_error, not_kept) = self.group.by_leader(|| {
                let Measured { statistics, largest_error, not_kept } =
                    self.run.measured_noise(batch)?;
                Ok((statistics, largest_error, not_kept.map(|error| error.to_string())))
            })?;
            let ([of_error, of_score], times) = statistics.clamped();
            let (what, clamped) = match covariance {
                CovarianceConfig::AnalyticScore => ("1 − E‖ε̂‖²/d", of_score),
                _ => ("E‖ε − ε̂‖²/d", of_error),
            };
            let _ = self.measured.set(statistics);
            let kept = match not_kept {
                None => "kept with the run".into(),
                Some(reason) => {
                    format!("not kept, and measured anew at the next use ({reason})")
                }
            };
            watch.say(Remark::Progress(format!(
                "{kept}; largest standard error of E|ε − ε̂|²/d: {largest_error:.1e}"
            )));
            if clamped > 0 {
                let text = format!("{what} is out of [0, 1], and clamped, at {clamped} of {times}");
                watch.say(Remark::Note(format!("{text} measured times")));
            }
        }
        Ok(())
    }
}
