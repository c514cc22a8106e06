//! Anomalies in ADBench's tables, found by a density that was fitted to normal rows alone.
//!
//! The protocol is the semi-supervised one of Livernoche et al. 2024: half of the normal rows are
//! trained on; the other half and all anomalies are the test rows, which detectors score.

mod data;
mod detector;
mod neighbours;
mod report;

use std::path::PathBuf;

use crate::experiment::{Context, Experiment, at_least, settings};
use crate::outcome::Outcome;
use crate::runs::Tasks;
use data::{Halves, Set};
pub use detector::Detector;
use tweedie::density::ScoreOptions;
use tweedie::likelihood::{Estimator, NOISE_LEVELS};
use tweedie::metric::quality::{auroc, average_precision};
use tweedie::noise::Seed;
use tweedie::{Error, Result};

settings! {
    /// The experiment's settings.
    pub struct Anomaly {
        /// A folder of NPZ files, each with the arrays `X`, `[n, d]`, and `y`, 1 for an anomaly.
        pub data: PathBuf = PathBuf::new(),
        /// Sets to take, by parts of their names; none: all.
        pub sets: Vec<String> = Vec::new(),
        /// Repetitions, each with a split and noise of its own.
        pub seeds: usize = 5,
        /// Seconds of training for each set and repetition.
        pub seconds: f64 = 20.0,
        /// Rows of a set at most, drawn at random.
        pub rows: usize = 50_000,
        /// The standard deviation of the normal noise that is added to standardised columns, so
        /// that values that repeat have a density.
        pub noise: f64 = 0.03,
        /// Columns of a set above which the base is isotropic: dense covariances of a row cost the
        /// cube of the columns.
        pub dense: usize = 200,
        /// The base that the network corrects, as `base.kind` of a configuration.
        pub base: String = "mixture".into(),
        /// The maps of columns, as `data.scaling.marginals` of a configuration.
        pub marginals: String = "standardize".into(),
        /// The neighbours whose distances are averaged.
        pub neighbours: usize = 5,
        /// Steps of the likelihood.
        pub steps: usize = 20,
        /// Noise levels of the score in one step.
        pub noise_levels: Vec<f64> = NOISE_LEVELS.to_vec(),
        /// Draws of a row of both.
        pub draws: usize = 2,
        /// The seed of everything random.
        pub seed: u64 = 0,
    }
}

/// A detector on a set, in one repetition.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// The name of the set.
    pub set: String,
    /// The rows that are trained on, the normal ones that are tested, and the anomalies.
    pub rows: [usize; 3],
    /// The columns that vary.
    pub columns: usize,
    /// Which it is.
    pub detector: Detector,
    /// The area under the ROC curve.
    pub auroc: f64,
    /// The average precision, anomalies being what is sought.
    pub average_precision: f64,
    /// Seconds: those of its training, which detectors of one model share, and of its scores.
    pub seconds: [f64; 2],
}

/// What the experiment found: set by set, in each the detectors of every repetition.
#[derive(Clone, Debug)]
pub struct Report(Vec<Judged>);

/// Steps and draws at most.
const MOST: usize = 100_000;

impl Experiment for Anomaly {
    const NAME: &'static str = "anomaly";
    const TEXT: &'static str = include_str!("anomaly.md");

    fn quick(self) -> Self {
        Anomaly {
            seeds: self.seeds.min(2),
            seconds: self.seconds.min(1.0),
            rows: self.rows.min(400),
            steps: self.steps.min(5),
            draws: 1,
            ..self
        }
    }

    fn run(&self, context: &mut Context) -> Result<Outcome> {
        Ok(self.measure(context)?.outcome())
    }
}

impl Anomaly {
    /// Fits and judges every detector on every set.
    ///
    /// # Errors
    /// If a setting cannot be, there is no set, a file cannot be used, or a training fails.
    pub fn measure(&self, context: &mut Context) -> Result<Report> {
        self.check()?;
        let sets = data::sets(&self.data, &self.sets)?;
        // what is wrong with the last is said before anything is trained on the first
        sets.iter().try_for_each(|path| Set::read(path).map(drop))?;
        let mut tasks = Tasks::new(sets.len() * self.seeds, context.progress);
        let mut all = Vec::new();
        for path in &sets {
            for repetition in 0..self.seeds {
                let set = Set::read(path)?;
                let seed = Seed(self.seed).derive(&format!("repetition {repetition}"));
                let halves = Halves::of(&set, (self.rows, self.noise), seed)?;
                let what = format!("{}, repetition {}", set.name, repetition + 1);
                tasks.part(&what, 0.0);
                for (detector, scores, seconds) in detector::scores(self, &halves, seed)? {
                    let anomalous: Vec<f64> = scores.iter().map(|score| -score).collect();
                    let area = auroc(&anomalous, &halves.anomalous).map(|area| area.value);
                    let precision = average_precision(&anomalous, &halves.anomalous);
                    let (Some(auroc), Some(average_precision)) = (area, precision) else {
                        let remedy = "give sets with rows of both kinds, or more rows";
                        let problem = "no normal row or no anomaly is left to be tested";
                        return Err(Error::data(path, problem, remedy));
                    };
                    all.push(Judged {
                        set: set.name.clone(),
                        rows: halves.rows(),
                        columns: halves.columns(),
                        detector,
                        auroc,
                        average_precision,
                        seconds,
                    });
                }
                tasks.end(&what);
            }
        }
        Ok(Report(all))
    }

    fn check(&self) -> Result<()> {
        at_least("experiment.seeds", self.seeds, 1)?;
        at_least("experiment.rows", self.rows, 10)?;
        at_least("experiment.neighbours", self.neighbours, 1)?;
        for (setting, value) in
            [("experiment.seconds", self.seconds), ("experiment.noise", self.noise)]
        {
            if !(value > 0.0 && value.is_finite()) {
                return Err(Error::config(setting, value.to_string(), "give a positive number"));
            }
        }
        Error::check_count("experiment.steps", self.steps, MOST)?;
        Error::check_count("experiment.draws", self.draws, MOST)?;
        let usable = |level: &f64| *level > 0.0 && level.is_finite();
        if !(1..=5).contains(&self.noise_levels.len()) || !self.noise_levels.iter().all(usable) {
            let problem = format!("{:?}", self.noise_levels);
            let remedy = "give one to five positive numbers";
            return Err(Error::config("experiment.noise_levels", problem, remedy));
        }
        Ok(())
    }

    /// How likelihoods are computed.
    fn likelihood(&self, seed: u64) -> ScoreOptions {
        let (steps, draws) = (self.steps, self.draws);
        ScoreOptions { steps, draws, seed, ..ScoreOptions::default() }
    }

    /// How scores in one step are computed.
    fn one_step(&self, seed: u64) -> ScoreOptions {
        let noise_levels = Some(self.noise_levels.clone());
        let estimator = Estimator::OneStep;
        ScoreOptions { estimator, noise_levels, ..self.likelihood(seed) }
    }
}

#[cfg(test)]
mod tests;
