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
pub mod fit;
pub mod gradient_noise;
pub mod loss;
mod report;
pub mod study;

use draws::{Estimator, Sampling, ScoreWeight};
use gradient_noise::{GradientNoise, measure};
use loss::Form;
use study::{Block, Cell, SETTINGS, blocks, check, pool, run_all};

use crate::experiment::{Context, Experiment, Progress, settings};
use crate::outcome::Outcome;
use tweedie::grid::TimeDistribution;
use tweedie::noise::Seed;
use tweedie::schedule::Vp;
use tweedie::{Error, Result};

settings! {
    /// The experiment's settings.
    pub struct ParameterEstimation {
        /// Replicates per setting and sample size.
        pub replicates: usize = 500,
        /// Rows per replicate.
        pub sample_sizes: Vec<usize> = vec![100, 200],
        /// `(x, t)` draws per datum of every estimator that averages over the noise, up to whole
        /// groups.
        pub draws: usize = 200,
        /// Data on which the noise of gradients is measured.
        pub noise_rows: usize = 64_000,
        /// The seed from which everything is drawn.
        pub seed: u64 = 0,
        /// Threads; by default those of the program. Results do not depend on it.
        pub threads: Option<usize> = None,
    }
}

/// What the experiment found.
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
}

/// The `N` of the table.
pub const TRANSITIONS: [usize; 5] = [2, 5, 10, 20, 50];
/// The LM estimator that stands for all where one is enough.
pub const REFERENCE: Estimator = Estimator::lm(Form::Path, 10, Sampling::Balanced);

const WEIGHTS: [ScoreWeight; 5] = [
    ScoreWeight::Sigma2,
    ScoreWeight::Likelihood,
    ScoreWeight::LikelihoodImportance,
    ScoreWeight::Unweighted(1e-3),
    ScoreWeight::Unweighted(1e-5),
];

/// Every estimator of the table, maximum likelihood first.
pub fn estimators() -> Vec<Estimator> {
    use Sampling::{Balanced, Independent, Once};
    let [sigma2, _, _, coarse, fine] = WEIGHTS;
    let mut all = vec![Estimator::MaximumLikelihood];
    all.extend(WEIGHTS.map(|weight| Estimator::sm(weight, Balanced)));
    all.extend([sigma2, coarse, fine].map(|weight| Estimator::sm(weight, Independent)));
    all.push(Estimator::sm(sigma2, Once));
    for form in [Form::Path, Form::Marginal] {
        all.extend(TRANSITIONS.map(|n| Estimator::lm(form, n, Balanced)));
    }
    all.push(Estimator::lm(Form::Path, 10, Independent));
    all.push(Estimator::lm(Form::Marginal, 10, Independent));
    all.push(Estimator::lm(Form::Path, 10, Once));
    all
}

/// The grids and forms whose gradient noise is measured, with their names.
const GRIDS: [(TimeDistribution, Form, &str); 4] = [
    (TimeDistribution::Uniform, Form::Path, "path, uniform t"),
    (TimeDistribution::Uniform, Form::Marginal, "marginal, uniform t"),
    (TimeDistribution::LogSnr, Form::Path, "path, uniform log-SNR"),
    (TimeDistribution::LogSnr, Form::Marginal, "marginal, uniform log-SNR"),
];

fn on_grid((time, form, _): (TimeDistribution, Form, &str), transitions: usize) -> Estimator {
    Estimator::LikelihoodMatching { form, transitions, time, sampling: Sampling::Independent }
}

/// Every objective whose gradient noise is measured.
fn noise_estimators() -> Vec<Estimator> {
    let score = WEIGHTS.map(|weight| Estimator::sm(weight, Sampling::Independent));
    let matching = GRIDS.iter().flat_map(|&grid| TRANSITIONS.map(|n| on_grid(grid, n)));
    score.into_iter().chain(matching).collect()
}

impl Experiment for ParameterEstimation {
    const NAME: &'static str = "parameter-estimation";
    const TEXT: &'static str = include_str!("parameter_estimation.md");

    fn quick(self) -> Self {
        ParameterEstimation {
            replicates: self.replicates.min(10),
            draws: self.draws.min(40),
            noise_rows: 3_200,
            ..self
        }
    }

    fn run(&self, context: &mut Context) -> Result<Outcome> {
        Ok(self.measure(context.progress)?.outcome())
    }
}

impl ParameterEstimation {
    /// Checks the settings and fits everything.
    ///
    /// # Errors
    /// If a setting cannot be.
    pub fn measure(&self, progress: Progress) -> Result<Report> {
        self.check()?;
        let pool = pool(self.threads)?;
        let (vp, seed) = (Vp::default(), Seed(self.seed).derive("parameter-estimation"));
        let [table, doubled] = self.plan();
        let objectives = noise_estimators();
        let rows = self.noise_rows;
        let noise_work = |e: &Estimator| 0.5 * (rows * e.group()) as f64;
        let work = [
            2.0 * objectives.iter().map(noise_work).sum::<f64>(),
            table.iter().map(Block::work).sum(),
            doubled.iter().map(Block::work).sum(),
        ];
        let all: f64 = work.iter().sum();
        let (mut noise, mut done) = (Vec::new(), 0.0);
        for setting in SETTINGS.map(|setting| setting()) {
            for estimator in &objectives {
                let line = format!("gradient noise, {}: {}", setting.name, estimator.name());
                progress(&line, done / all);
                noise.push(pool.install(|| measure(&setting, *estimator, &vp, rows, seed)));
                done += noise_work(estimator);
            }
        }
        let mut cells = |blocks: &[Block], before: f64, own: f64| {
            let tell = &mut |line: &str, part: f64| progress(line, (before + part * own) / all);
            run_all(blocks, seed, &vp, &pool, tell)
        };
        Ok(Report {
            experiment: self.clone(),
            table: cells(&table, work[0], work[1]),
            doubled: cells(&doubled, work[0] + work[1], work[2]),
            noise,
        })
    }

    fn check(&self) -> Result<()> {
        check(self.replicates, self.draws)?;
        Error::check_count("experiment.noise_rows", self.noise_rows, 100_000_000)?;
        if self.sample_sizes.is_empty() || self.sample_sizes.iter().any(|n| *n < 20) {
            let found = format!("{:?}", self.sample_sizes);
            let remedy = "seven parameters need samples of 20 rows or more";
            return Err(Error::config("experiment.sample_sizes", found, remedy));
        }
        Ok(())
    }

    /// The blocks of the table and of the doubling check.
    fn plan(&self) -> [Vec<Block>; 2] {
        let ParameterEstimation { replicates, draws, .. } = *self;
        let table = blocks(&self.sample_sizes, replicates, draws, &estimators());
        let checked = [
            Estimator::sm(ScoreWeight::Sigma2, Sampling::Balanced),
            Estimator::lm(Form::Path, 5, Sampling::Balanced),
            REFERENCE,
            Estimator::lm(Form::Marginal, 10, Sampling::Balanced),
        ];
        let doubled = SETTINGS.map(|setting| Block {
            setting: setting(),
            n: self.sample_sizes[0],
            replicates: replicates.min(250),
            draws: 2 * draws,
            estimators: checked.to_vec(),
        });
        [table, doubled.into()]
    }
}

#[cfg(test)]
mod tests;
