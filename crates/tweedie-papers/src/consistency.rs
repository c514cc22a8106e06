//! Theorem 2 of Likelihood Matching: the quasi-maximum-likelihood estimator of a known family
//! converges to the truth, as fast as maximum likelihood, and how much less of the data it uses.
//!
//! Family, fits and draws are those of [`super::parameter_estimation`]; here the sample grows.

mod accuracy;
mod report;

use tweedie::noise::Seed;
use tweedie::schedule::Vp;
use tweedie::{Error, Result};

use super::parameter_estimation::draws::{Estimator, Sampling, ScoreWeight};
use super::parameter_estimation::gradient_noise::{GradientNoise, measure};
use super::parameter_estimation::loss::Form;
use super::parameter_estimation::study::{Block, Cell, Setting};
use super::parameter_estimation::{overlapping, separated};

/// The experiment's settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Consistency {
    /// Replicates of every sample size.
    pub replicates: usize,
    /// Rows per replicate, rising; rates are fitted to the larger half.
    pub sample_sizes: Vec<usize>,
    /// `(x, t)` draws per datum of every estimator that averages over the noise, up to whole
    /// groups.
    pub draws: usize,
    /// Data with which the variance of an estimator at `n → ∞` is worked out.
    pub asymptotic_rows: usize,
    /// The seed from which everything is drawn.
    pub seed: u64,
    /// Threads; by default those of the program. Results do not depend on it.
    pub threads: Option<usize>,
}

impl Default for Consistency {
    fn default() -> Self {
        Consistency {
            replicates: 200,
            sample_sizes: vec![50, 100, 200, 400, 800, 1600, 3200],
            draws: 100,
            asymptotic_rows: 64_000,
            seed: 0,
            threads: None,
        }
    }
}

/// What the experiment found; [`Report::write`] makes files of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// The settings.
    pub experiment: Consistency,
    /// Every estimator at every setting and sample size.
    pub cells: Vec<Cell>,
    /// The asymptotic variance of every estimator but maximum likelihood, setting by setting.
    pub asymptotic: Vec<GradientNoise>,
    seconds: f64,
}

/// Maximum likelihood, Likelihood Matching with `N` = 2, 5 and 10 transitions, score matching.
pub fn estimators() -> Vec<Estimator> {
    let mut all = vec![Estimator::MaximumLikelihood];
    all.extend([2, 5, 10].map(|n| Estimator::lm(Form::Path, n, Sampling::Balanced)));
    all.push(Estimator::sm(ScoreWeight::Sigma2, Sampling::Balanced));
    all
}

/// The same objective on independent draws, of which the asymptotic variance is defined.
fn independent(estimator: Estimator) -> Estimator {
    match estimator {
        Estimator::MaximumLikelihood => Estimator::MaximumLikelihood,
        Estimator::ScoreMatching { weight, .. } => Estimator::sm(weight, Sampling::Independent),
        Estimator::LikelihoodMatching { form, transitions, .. } => {
            Estimator::lm(form, transitions, Sampling::Independent)
        }
    }
}

const SETTINGS: [fn() -> Setting; 2] = [overlapping, separated];

impl Consistency {
    /// The same at sizes that show only that it runs.
    pub fn quick(self) -> Consistency {
        Consistency {
            replicates: self.replicates.min(20),
            sample_sizes: vec![50, 100, 200, 400],
            draws: 40,
            asymptotic_rows: 3_200,
            ..self
        }
    }

    /// Fits everything. `progress` gets a line and the fraction done.
    pub fn run(&self, progress: &mut dyn FnMut(&str, f64)) -> Result<Report> {
        let begun = std::time::Instant::now();
        self.check()?;
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(self.threads.unwrap_or_else(rayon::current_num_threads))
            .build()
            .map_err(|e| {
                Error::numeric(format!("no threads: {e}"), "ask for fewer with --threads")
            })?;
        let (vp, seed) = (Vp::default(), Seed(self.seed).derive("consistency"));
        let block = |setting: Setting, &n: &usize| Block {
            setting,
            n,
            replicates: self.replicates,
            draws: self.draws,
            estimators: estimators(),
        };
        let blocks: Vec<Block> = SETTINGS
            .iter()
            .flat_map(|setting| self.sample_sizes.iter().map(|n| block(setting(), n)))
            .collect();
        let all: f64 = blocks.iter().map(Block::work).sum();
        let mut asymptotic = Vec::new();
        for setting in SETTINGS.map(|setting| setting()) {
            for estimator in estimators().into_iter().skip(1).map(independent) {
                progress(
                    &format!("asymptotic variance, {}: {}", setting.name, estimator.name()),
                    0.0,
                );
                asymptotic.push(
                    pool.install(|| measure(&setting, estimator, &vp, self.asymptotic_rows, seed)),
                );
            }
        }
        let (mut cells, mut done) = (Vec::new(), 0.0);
        for block in &blocks {
            cells.extend(block.run(seed, &vp, &pool, &mut |finished| {
                let line = format!(
                    "{}, n = {}: {finished} of {}",
                    block.setting.name, block.n, block.replicates
                );
                let fraction = finished as f64 / block.replicates as f64;
                progress(&line, ((done + fraction * block.work()) / all).min(1.0));
            }));
            done += block.work();
        }
        Ok(Report {
            experiment: self.clone(),
            cells,
            asymptotic,
            seconds: begun.elapsed().as_secs_f64(),
        })
    }

    fn check(&self) -> Result<()> {
        Error::check_count("--rows", self.asymptotic_rows, 100_000_000)?;
        let (sizes, found) = (&self.sample_sizes, format!("{:?}", self.sample_sizes));
        let rising = sizes.windows(2).all(|pair| pair[0] < pair[1]);
        if sizes.len() < 4 || !rising || sizes[0] < 20 {
            let remedy = "give at least four rising numbers from 20: there are seven parameters";
            return Err(Error::config("--sizes", found, remedy));
        }
        if self.replicates < 2 {
            return Err(Error::config(
                "--replicates",
                self.replicates.to_string(),
                "give at least 2",
            ));
        }
        if self.draws < 16 {
            return Err(Error::config(
                "--draws",
                self.draws.to_string(),
                "give at least 16 draws per datum",
            ));
        }
        if self.threads == Some(0) {
            return Err(Error::config("--threads", "0", "give at least 1"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
