//! The parameter-estimation experiment of Likelihood Matching (§5.1, Table 2): how well score
//! matching and Likelihood Matching estimate the parameters of a known family, against maximum
//! likelihood.
//!
//! The family is a mixture of two isotropic Gaussians in the plane ([`family`]); its score and its
//! `G` at every `t` are analytic. Every estimator minimises its own objective ([`loss`], [`draws`])
//! from the same start by the same search ([`fit`]); [`gradient_noise`] measures how much of an
//! estimator's error is the noise's.

pub mod draws;
pub mod family;
mod figures;
pub mod fit;
pub mod gradient_noise;
pub mod loss;
mod report;
pub mod study;

use draws::{Estimator, Sampling, ScoreWeight};
use family::Mixture;
use gradient_noise::{GradientNoise, measure};
use loss::Form;
use study::{Block, Cell, Setting};

use tweedie::grid::TimeLaw;
use tweedie::noise::Seed;
use tweedie::schedule::Vp;
use tweedie::{Error, Result};

/// Two components whose densities cross: 2.2 apart, standard deviations 0.7 and 0.9, weights 0.4
/// and 0.6.
pub fn overlapping() -> Setting {
    Setting {
        name: "overlapping",
        truth: Mixture::new([[-1.0, -0.5], [1.0, 0.5]], [0.7, 0.9], 0.4),
    }
}

/// The same components three times as far apart: 6.7.
pub fn separated() -> Setting {
    Setting { name: "separated", truth: Mixture::new([[-3.0, -1.5], [3.0, 1.5]], [0.7, 0.9], 0.4) }
}

/// The experiment's settings.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterEstimation {
    /// Replicates per setting and sample size.
    pub replicates: usize,
    /// Rows per replicate.
    pub sample_sizes: Vec<usize>,
    /// `(x, t)` draws per datum of every estimator that averages over the noise, up to whole
    /// groups.
    pub draws: usize,
    /// The seed from which everything is drawn.
    pub seed: u64,
    /// Threads; by default as many as there are cores. Results do not depend on it.
    pub threads: Option<usize>,
    /// A few replicates of everything, in seconds: to see that it runs, not to read numbers off.
    pub quick: bool,
}

impl Default for ParameterEstimation {
    /// The paper's 500 replicates at n = 100 and 200; 200 draws per datum.
    fn default() -> Self {
        ParameterEstimation {
            replicates: 500,
            sample_sizes: vec![100, 200],
            draws: 200,
            seed: 0,
            threads: None,
            quick: false,
        }
    }
}

/// What the experiment found; [`Report::write`] makes files of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// The settings that were run.
    pub experiment: ParameterEstimation,
    /// Table 2: every estimator at every setting and sample size.
    pub table: Vec<Cell>,
    /// Some estimators of the table on the same data with twice the draws.
    pub doubled: Vec<Cell>,
    /// Gradient noise at the truth.
    pub noise: Vec<GradientNoise>,
    /// Wall-clock seconds.
    pub seconds: f64,
}

/// The `N` of the table.
pub const TRANSITIONS: [usize; 5] = [2, 5, 10, 20, 50];
/// The LM estimator that stands for all where one is enough.
pub const REFERENCE: Estimator = Estimator::lm(Form::Path, 10, Sampling::Balanced);

/// Every estimator of the table, maximum likelihood first.
pub fn estimators() -> Vec<Estimator> {
    use Sampling::{Balanced, Independent, Once};
    use ScoreWeight::{Likelihood, LikelihoodImportance, Sigma2, Unweighted};
    let mut all = vec![Estimator::MaximumLikelihood];
    all.extend(
        [Sigma2, Likelihood, LikelihoodImportance, Unweighted(1e-3), Unweighted(1e-5)]
            .map(|weight| Estimator::sm(weight, Balanced)),
    );
    all.extend(
        [Sigma2, Unweighted(1e-3), Unweighted(1e-5)]
            .map(|weight| Estimator::sm(weight, Independent)),
    );
    all.push(Estimator::sm(Sigma2, Once));
    for form in [Form::Path, Form::Marginal] {
        all.extend(TRANSITIONS.map(|n| Estimator::lm(form, n, Balanced)));
    }
    all.push(Estimator::lm(Form::Path, 10, Independent));
    all.push(Estimator::lm(Form::Marginal, 10, Independent));
    all.push(Estimator::lm(Form::Path, 10, Once));
    all
}

/// Every objective whose gradient noise is measured.
fn noise_estimators() -> Vec<Estimator> {
    use ScoreWeight::{Likelihood, LikelihoodImportance, Sigma2, Unweighted};
    let mut all: Vec<Estimator> =
        [Sigma2, Likelihood, LikelihoodImportance, Unweighted(1e-3), Unweighted(1e-5)]
            .map(|weight| Estimator::sm(weight, Sampling::Independent))
            .into();
    for law in [TimeLaw::Uniform, TimeLaw::LogSnr] {
        for form in [Form::Path, Form::Marginal] {
            all.extend(TRANSITIONS.map(|transitions| Estimator::LikelihoodMatching {
                form,
                transitions,
                law,
                sampling: Sampling::Independent,
            }));
        }
    }
    all
}

impl ParameterEstimation {
    /// Checks the settings and runs everything. `progress` gets a line and the fraction done.
    pub fn run(&self, progress: &mut dyn FnMut(&str, f64)) -> Result<Report> {
        let begun = std::time::Instant::now();
        self.check()?;
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(self.threads.unwrap_or(0))
            .build()
            .map_err(|e| {
            Error::numeric(format!("no threads: {e}"), "ask for fewer with --threads")
        })?;
        let (vp, seed) = (Vp::default(), Seed(self.seed).derive("parameter-estimation"));
        let plan = self.plan();
        let objectives = noise_estimators();
        let noise_rows = if self.quick { 3_200 } else { 64_000 };
        let noise_work = |e: &Estimator| 0.5 * (noise_rows * e.group()) as f64;
        let all: f64 = plan.iter().flatten().map(Block::work).sum::<f64>()
            + 2.0 * objectives.iter().map(noise_work).sum::<f64>();
        let mut done = 0.0;

        let mut noise = Vec::new();
        for setting in [overlapping(), separated()] {
            for estimator in &objectives {
                progress(
                    &format!("gradient noise, {}: {}", setting.name, estimator.name()),
                    done / all,
                );
                noise.push(pool.install(|| measure(&setting, *estimator, &vp, noise_rows, seed)));
                done += noise_work(estimator);
            }
        }
        let mut cells = [const { Vec::new() }; 2];
        for (blocks, cells) in plan.iter().zip(&mut cells) {
            for block in blocks {
                cells.extend(block.run(seed, &vp, &pool, &mut |finished| {
                    let line = format!(
                        "{}, n = {}: {finished} of {} replicates",
                        block.setting.name, block.n, block.replicates
                    );
                    let fraction = finished as f64 / block.replicates as f64;
                    progress(&line, ((done + fraction * block.work()) / all).min(1.0));
                }));
                done += block.work();
            }
        }
        let [table, doubled] = cells;
        let seconds = begun.elapsed().as_secs_f64();
        Ok(Report { experiment: self.clone(), table, doubled, noise, seconds })
    }

    fn check(&self) -> Result<()> {
        if self.replicates < 2 {
            return Err(Error::config(
                "replicates",
                self.replicates.to_string(),
                "give at least 2",
            ));
        }
        if self.sample_sizes.is_empty() || self.sample_sizes.iter().any(|n| *n < 20) {
            let found = format!("{:?}", self.sample_sizes);
            return Err(Error::config(
                "sample_sizes",
                found,
                "seven parameters need samples of 20 rows or more",
            ));
        }
        if self.draws < 16 {
            return Err(Error::config(
                "draws",
                self.draws.to_string(),
                "give at least 16 draws per datum",
            ));
        }
        if self.threads == Some(0) {
            return Err(Error::config("threads", "0", "give at least 1"));
        }
        Ok(())
    }

    /// The blocks of the table and of the doubling check.
    fn plan(&self) -> [Vec<Block>; 2] {
        let replicates = if self.quick { self.replicates.min(10) } else { self.replicates };
        let draws = if self.quick { self.draws.min(40) } else { self.draws };
        let settings = [overlapping(), separated()];
        let mut table = Vec::new();
        for setting in settings {
            for &n in &self.sample_sizes {
                table.push(Block { setting, n, replicates, draws, estimators: estimators() });
            }
        }
        let checked = vec![
            Estimator::sm(ScoreWeight::Sigma2, Sampling::Balanced),
            Estimator::lm(Form::Path, 5, Sampling::Balanced),
            REFERENCE,
            Estimator::lm(Form::Marginal, 10, Sampling::Balanced),
        ];
        let doubled = settings
            .map(|setting| Block {
                setting,
                n: self.sample_sizes[0],
                replicates: replicates.min(250),
                draws: 2 * draws,
                estimators: checked.clone(),
            })
            .into();
        [table, doubled]
    }
}

#[cfg(test)]
mod tests;
