//! What is measured of a run's noise, and kept with it.

use super::{Prepared, Run, RunDir};
use crate::covariance::NoiseStatistics;
use crate::model::Denoiser;
use crate::noise::Seed;
use crate::train::Watched;
use crate::{Error, Result};

/// Where a run keeps what was measured of its noise, and at how many times that is.
pub(super) const STATISTICS: &str = "noise-statistics.json";
const STATISTICS_TIMES: usize = 200;
pub(super) const HEAD_START: &str = "head-start.json";

/// Training rows that the analytic covariance of rows of `columns` numbers is measured on: it
/// averages over both.
pub fn statistics_rows(columns: usize) -> usize {
    (100_000 / columns.max(1)).clamp(100, 1000)
}

/// What [`Run::measure_noise`] found.
#[derive(Debug)]
pub struct Measured {
    /// What was measured.
    pub statistics: NoiseStatistics,
    /// The largest standard error of `E‖ε − ε̂‖²/d` over times.
    pub largest_error: f64,
    /// Why it was not kept with the run and is measured anew at its next use, where that is so.
    pub not_kept: Option<Error>,
}

impl RunDir {
    /// Writes what the outputs of a head with [`crate::model::HeadStart::Analytic`] correct: part
    /// of the model, as the base is.
    pub fn write_head_start(&self, statistics: &NoiseStatistics) -> Result<()> {
        self.write_json(HEAD_START, statistics)
    }

    /// What was measured of a score.
    pub(super) fn statistics(&self, file: &str, remedy: &str) -> Result<NoiseStatistics> {
        let statistics: NoiseStatistics = self.read_json(file)?;
        match statistics.problem() {
            Some(problem) => Err(Error::checkpoint(self.file(file), problem, remedy)),
            None => Ok(statistics),
        }
    }
}

impl Run {
    /// Measures `E‖ε − ε̂‖²` and `E‖ε̂‖²` on [`statistics_rows`] training rows for
    /// [`crate::covariance::Analytic`] and [`crate::covariance::AnalyticScore`], and keeps them
    /// with the run, where its directory can be written; what was kept before is replaced.
    ///
    /// # Errors
    /// If the training data cannot be found or have changed, or the model is not finite.
    pub fn measure_noise(&mut self, batch: usize) -> Result<Measured> {
        let measured = self.measured_noise(batch)?;
        self.model.set_noise_statistics(measured.statistics.clone());
        Ok(measured)
    }

    /// As [`Run::measure_noise`], for a caller that keeps what was measured.
    ///
    /// # Errors
    /// As [`Run::measure_noise`].
    pub fn measured_noise(&self, batch: usize) -> Result<Measured> {
        let prepared = self.prepared().ok_or_else(|| {
            let problem =
                format!("measuring the noise takes the training data: {}", self.no_data());
            Error::config("covariance", problem, "restore the data, or take another covariance")
        })?;
        let statistics = self.statistics_of(&self.model, &prepared, batch)?;
        // of a run that is being trained, or is read-only, it is not kept
        let mut dir = self.dir.clone();
        let not_kept = dir.lock().and_then(|()| dir.write_json(STATISTICS, &statistics)).err();
        Ok(Measured { largest_error: statistics.largest_error(), statistics, not_kept })
    }

    /// What was measured of this run's noise on the training rows of `prepared`, now or before.
    /// Measured now it is kept with the run for the next, if those are the run's own data and its
    /// directory can be written.
    ///
    /// # Errors
    /// If the model is not finite.
    pub fn statistics_for(&self, prepared: &Prepared, batch: usize) -> Result<NoiseStatistics> {
        if let Some(measured) = self.model.noise_statistics() {
            return Ok(measured.clone());
        }
        let measured = self.statistics_of(&self.model, prepared, batch)?;
        self.keep_statistics(prepared, &measured);
        Ok(measured)
    }

    /// Keeps what was measured on the training rows of `prepared`, where those are the run's own
    /// data. A run that cannot be written, or that another process is writing, goes without.
    fn keep_statistics(&self, prepared: &Prepared, measured: &NoiseStatistics) {
        let (own, given) = (&self.data, &prepared.record);
        if own.fingerprint == given.fingerprint && own.split_seed == given.split_seed {
            let mut dir = self.dir.clone();
            let _ = dir.lock().and_then(|()| dir.write_json(STATISTICS, measured));
        }
    }

    /// As [`Run::measure_noise`] on the training rows of `prepared`, for a head that is to start
    /// from it: `progress` gets the evaluations of the network done, and all. It is kept with the
    /// run where `prepared` are the run's own data and the run can be written, so that it is done
    /// once.
    ///
    /// # Errors
    /// If the model is not finite.
    pub fn measure_for_head(
        &mut self,
        prepared: &Prepared,
        batch: usize,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<()> {
        let rows = statistics_rows(self.data.scaling.dim()).min(prepared.split.train.len());
        let all = (STATISTICS_TIMES * rows.div_ceil(batch.max(1))) as u64;
        let (done, progress) = (std::cell::Cell::new(0), std::cell::RefCell::new(progress));
        let count = || {
            (progress.borrow_mut())(done.get(), all);
            done.set(done.get() + 1);
            false
        };
        let statistics = self.statistics_of(&Watched::new(&self.model, &count), prepared, batch)?;
        self.keep_statistics(prepared, &statistics);
        self.model.set_noise_statistics(statistics);
        Ok(())
    }

    /// What is measured of `model`, on the training rows of `prepared`.
    fn statistics_of(
        &self,
        model: &dyn Denoiser,
        prepared: &Prepared,
        batch: usize,
    ) -> Result<NoiseStatistics> {
        let seed = Seed(self.config.seed).derive("noise statistics");
        let limit = statistics_rows(self.data.scaling.dim());
        let rows = prepared.training_batch(limit, seed.derive("rows"));
        NoiseStatistics::measure(model, &rows, STATISTICS_TIMES, batch, seed)
    }
}
