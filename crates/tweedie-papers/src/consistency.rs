//! Theorem 2 of Likelihood Matching: the quasi-maximum-likelihood estimator of a known family
//! converges to the truth, as fast as maximum likelihood, and how much less of the data it uses.
//!
//! Family, fits and draws are those of [`super::parameter_estimation`]; here the sample grows.

mod accuracy;
mod report;

use crate::experiment::{Context, Experiment, Progress, check_rising, settings};
use crate::outcome::Outcome;
use crate::parameter_estimation::draws::{Estimator, Sampling, ScoreWeight};
use crate::parameter_estimation::gradient_noise::{GradientNoise, measure};
use crate::parameter_estimation::loss::Form;
use crate::parameter_estimation::study::{Cell, SETTINGS, blocks, check, pool, run_all};
use tweedie::noise::Seed;
use tweedie::schedule::Vp;
use tweedie::{Error, Result};

settings! {
    /// The experiment's settings.
    pub struct Consistency {
        /// Replicates of every sample size.
        pub replicates: usize = 200,
        /// Rows per replicate, rising; rates are fitted to the larger half.
        pub sample_sizes: Vec<usize> = vec![50, 100, 200, 400, 800, 1600, 3200],
        /// `(x, t)` draws per datum of every estimator that averages over the noise, up to whole
        /// groups.
        pub draws: usize = 100,
        /// Horizons `T` of Theorem 2's quasi-likelihood, of `T²` steps each.
        pub horizons: Vec<usize> = vec![2, 3, 5],
        /// Data with which the variance of an estimator at `n → ∞` is computed.
        pub asymptotic_rows: usize = 64_000,
        /// The seed from which everything is drawn.
        pub seed: u64 = 0,
        /// Threads; by default those of the program. Results do not depend on it.
        pub threads: Option<usize> = None,
    }
}

/// What the experiment found.
#[derive(Clone, Debug)]
pub struct Report {
    /// The settings that it was measured with.
    pub experiment: Consistency,
    /// Every estimator at every setting and sample size.
    pub cells: Vec<Cell>,
    /// The asymptotic variance of every estimator but maximum likelihood, setting by setting.
    pub asymptotic: Vec<GradientNoise>,
}

/// The same objective on independent draws, of which the asymptotic variance is defined.
fn independent(estimator: Estimator) -> Estimator {
    match estimator {
        Estimator::MaximumLikelihood => Estimator::MaximumLikelihood,
        Estimator::ScoreMatching { weight, .. } => Estimator::sm(weight, Sampling::Independent),
        Estimator::LikelihoodMatching { form, transitions, .. } => {
            Estimator::lm(form, transitions, Sampling::Independent)
        }
        Estimator::QuasiLikelihood { horizon, .. } => {
            Estimator::QuasiLikelihood { horizon, sampling: Sampling::Independent }
        }
    }
}

impl Experiment for Consistency {
    const NAME: &'static str = "consistency";
    const TEXT: &'static str = include_str!("consistency.md");

    fn quick(self) -> Self {
        Consistency {
            replicates: self.replicates.min(20),
            sample_sizes: vec![50, 100, 200, 400],
            draws: 40,
            asymptotic_rows: 3_200,
            ..self
        }
    }

    fn run(&self, context: &mut Context) -> Result<Outcome> {
        Ok(self.measure(context.progress)?.outcome())
    }
}

impl Consistency {
    /// Maximum likelihood, Likelihood Matching with `N` = 2, 5 and 10 transitions, score matching,
    /// and the quasi-likelihood of Theorem 2 with its growing horizons.
    pub fn estimators(&self) -> Vec<Estimator> {
        let mut all = vec![Estimator::MaximumLikelihood];
        all.extend([2, 5, 10].map(|n| Estimator::lm(Form::Path, n, Sampling::Balanced)));
        all.push(Estimator::sm(ScoreWeight::Sigma2, Sampling::Balanced));
        let sampling = Sampling::Balanced;
        let quasi = |&horizon: &usize| Estimator::QuasiLikelihood { horizon, sampling };
        all.extend(self.horizons.iter().map(quasi));
        all
    }

    /// Fits every estimator to every replicate.
    ///
    /// # Errors
    /// If a setting cannot be.
    pub fn measure(&self, progress: Progress) -> Result<Report> {
        self.check()?;
        let pool = pool(self.threads)?;
        let (vp, seed) = (Vp::default(), Seed(self.seed).derive("consistency"));
        let Consistency { replicates, draws, asymptotic_rows: rows, .. } = *self;
        let mut asymptotic = Vec::new();
        for setting in SETTINGS.map(|setting| setting()) {
            for estimator in self.estimators().into_iter().skip(1).map(independent) {
                let line = format!("asymptotic variance, {}: {}", setting.name, estimator.name());
                progress(&line, 0.0);
                asymptotic.push(pool.install(|| measure(&setting, estimator, &vp, rows, seed)));
            }
        }
        let blocks = blocks(&self.sample_sizes, replicates, draws, &self.estimators());
        let cells = run_all(&blocks, seed, &vp, &pool, progress);
        Ok(Report { experiment: self.clone(), cells, asymptotic })
    }

    fn check(&self) -> Result<()> {
        Error::check_count("experiment.asymptotic_rows", self.asymptotic_rows, 100_000_000)?;
        if let Some(horizon) = self.horizons.iter().find(|horizon| !(2..=100).contains(*horizon)) {
            let remedy = "give numbers from 2 to 100";
            return Err(Error::config("experiment.horizons", horizon.to_string(), remedy));
        }
        let remedy = "give at least four rising numbers from 20: there are seven parameters";
        check_rising("experiment.sample_sizes", &self.sample_sizes, (4, 20), remedy)?;
        check(self.replicates, self.draws)
    }
}

#[cfg(test)]
mod tests;
