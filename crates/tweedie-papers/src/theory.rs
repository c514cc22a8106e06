//! Theorem 1 of Likelihood Matching on mixtures whose score and Hessian are known: how the
//! divergence of a sampler from the exact reverse path falls with its steps under every covariance,
//! how far its output is from the data, and what errors of the score and of the Hessian do.
//!
//! [`path`] has the divergence of the path, [`output`] the distribution of the output in one
//! dimension; neither draws samples of the sampler.

pub mod chain;
mod mixtures;
pub mod output;
pub mod path;
mod perturbation;
mod report;

use tch::{Device, Kind, no_grad};

use self::chain::Chain;
use self::mixtures::mixtures;
use self::output::{Axes, Distance};
use self::path::{Divergence, Nats, Path};
use self::perturbation::{Field, Perturbed};
use crate::experiment::{Context, Experiment, Progress, check_rising, settings};
use crate::outcome::Outcome;
use tweedie::covariance::{
    Covariance, CovarianceConfig, CovarianceSources, NoiseStatistics, Reverse,
};
use tweedie::noise::Seed;
use tweedie::oracle::{GaussianMixture, Oracle};
use tweedie::query::Batch;
use tweedie::{Error, Result};

settings! {
    /// The experiment's settings.
    pub struct Theory {
        /// Rows of data that expectations are taken over.
        pub rows: usize = 1000,
        /// Numbers of steps `K`, rising; exponents are fitted to the larger half, errors of rising
        /// size are made at the largest.
        pub steps: Vec<usize> = vec![10, 20, 40, 80, 160, 320, 640],
        /// Sizes `δ` of the errors of score and Hessian.
        pub perturbations: Vec<f64> = vec![0.0125, 0.025, 0.05, 0.1, 0.2],
        /// The seed of everything random.
        pub seed: u64 = 0,
    }
}

/// A sampler: a covariance under the exact score, or the exact covariance under an error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sampler {
    /// The exact score with this covariance; [`CovarianceConfig::Own`] is the oracle's own, exact
    /// and full.
    Exact(CovarianceConfig),
    /// A score that is off by `δ`, and the exact covariance.
    Score(f64),
    /// The exact score, and a Hessian that is off by `δ`.
    Hessian(f64),
}

impl Sampler {
    /// The exact score and covariance.
    pub const EXACT: Sampler = Sampler::Exact(CovarianceConfig::Own);

    /// The name in tables.
    pub fn name(self) -> String {
        match self {
            Sampler::Exact(CovarianceConfig::Own) => "exact full G".into(),
            Sampler::Exact(CovarianceConfig::Diagonal) => "exact diagonal of G".into(),
            Sampler::Exact(CovarianceConfig::Analytic) => "Analytic-DPM".into(),
            Sampler::Exact(CovarianceConfig::AnalyticScore) => "Analytic-DPM, of the score".into(),
            Sampler::Exact(covariance) => covariance.label(),
            Sampler::Score(size) => format!("score off by {size}"),
            Sampler::Hessian(size) => format!("Hessian off by {size}"),
        }
    }

    /// The name in files.
    pub fn key(self) -> String {
        match self {
            Sampler::Exact(CovarianceConfig::Own) => "full".into(),
            Sampler::Exact(covariance) => covariance.to_string(),
            Sampler::Score(size) => format!("score-{size}"),
            Sampler::Hessian(size) => format!("hessian-{size}"),
        }
    }

    /// The size of its error.
    pub fn size(self) -> f64 {
        match self {
            Sampler::Exact(_) => 0.0,
            Sampler::Score(size) | Sampler::Hessian(size) => size,
        }
    }
}

/// What was found about one sampler.
#[derive(Clone, Copy, Debug)]
pub struct Judged {
    /// The sampler that was judged.
    pub sampler: Sampler,
    /// Its divergence from the exact path.
    pub path: Divergence,
    /// Its output's distance from the distribution of the data, in one dimension.
    pub output: Option<Distance>,
}

/// All samplers on one mixture and chain.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Dimension of the mixture.
    pub dim: i64,
    /// The forward process and its steps.
    pub chain: Chain,
    /// The number of steps `K`.
    pub steps: usize,
    /// `KL(q(x_{t_K}) ‖ N(0, σ²I))`, which all samplers have.
    pub prior: Nats,
    /// What was found about each sampler that has a density.
    pub judged: Vec<Judged>,
    /// Those of so long steps that an error of the Hessian leaves no positive definite covariance,
    /// hence no density.
    pub without_density: Vec<Sampler>,
    /// `½ d ln(α²_{t_1}/α²_T)`: the path's divergence under a score that is off by 1, in the limit
    /// of short steps.
    pub of_score: f64,
    /// `¼ d Σ k⁴`: likewise of the Hessian.
    pub of_hessian: f64,
}

impl Measured {
    /// What was found about a sampler, if it is here.
    pub fn of(&self, sampler: Sampler) -> Option<&Judged> {
        self.judged.iter().find(|judged| judged.sampler == sampler)
    }
}

/// What the experiment found.
#[derive(Clone, Debug)]
pub struct Report {
    /// The settings that it was measured with.
    pub experiment: Theory,
    /// Over `K`: every covariance, and an error of either kind.
    pub over_steps: Vec<Measured>,
    /// At the largest `K` of the schedule (18): errors of all sizes.
    pub over_sizes: Vec<Measured>,
}

/// The error whose effect is followed over `K`.
const FOLLOWED: f64 = 0.1;
/// Times at which Analytic-DPM's statistic is measured.
const TIMES: usize = 200;
/// Its rows for every row of the rest: its noise is an error of the covariance, which is to be
/// small beside that of being isotropic.
const STATISTICS: usize = 20;

impl Experiment for Theory {
    const NAME: &'static str = "theory";
    const TEXT: &'static str = include_str!("theory.md");

    fn quick(self) -> Self {
        Theory {
            rows: self.rows.min(100),
            steps: vec![10, 20, 40, 80],
            perturbations: vec![0.05, 0.1, 0.2],
            ..self
        }
    }

    fn run(&self, context: &mut Context) -> Result<Outcome> {
        Ok(self.measure(context.progress)?.outcome())
    }
}

impl Theory {
    /// Measures every sampler on every mixture and chain.
    ///
    /// # Errors
    /// If a setting cannot be, or a divergence is not finite.
    pub fn measure(&self, progress: Progress) -> Result<Report> {
        self.check()?;
        let largest = self.steps[self.steps.len() - 1];
        let work: usize = self.steps.iter().sum::<usize>() * Chain::ALL.len() + largest;
        let (total, mut done) = (mixtures().len() * work, 0);
        let mut tell = |what: &str, steps: usize| {
            progress(what, done as f64 / total as f64);
            done += steps;
        };
        let (mut over_steps, mut over_sizes) = (Vec::new(), Vec::new());
        for mixture in mixtures() {
            let d = mixture.dim();
            for chain in Chain::ALL {
                for &k in &self.steps {
                    tell(&format!("d = {d}, {}: {k} steps", chain.name()), k);
                    over_steps.push(self.on(&mixture, chain, k, samplers(d), true)?);
                }
            }
            let off =
                |kind: fn(f64) -> Sampler| self.perturbations.iter().map(move |&size| kind(size));
            let samplers = off(Sampler::Score).chain(off(Sampler::Hessian)).collect();
            tell(&format!("d = {d}: errors of score and Hessian"), largest);
            over_sizes.push(self.on(&mixture, Chain::Theorem, largest, samplers, false)?);
        }
        Ok(Report { experiment: self.clone(), over_steps, over_sizes })
    }

    fn check(&self) -> Result<()> {
        let remedy = "give at least four rising numbers from 5 to 100000: exponents are fitted to \
                      the larger half";
        check_rising("experiment.steps", &self.steps, (4, chain::FEWEST), remedy)?;
        if self.steps.iter().any(|&k| k > 100_000) {
            return Err(Error::config("experiment.steps", format!("{:?}", self.steps), remedy));
        }
        let possible = |size: &f64| *size > 0.0 && *size <= 0.5;
        if self.perturbations.len() < 2 || !self.perturbations.iter().all(possible) {
            let found = format!("{:?}", self.perturbations);
            return Err(Error::config(
                "experiment.perturbations",
                found,
                "give two or more sizes above 0, at most 0.5",
            ));
        }
        match self.rows {
            2..=1_000_000 => Ok(()),
            rows => Err(Error::config(
                "experiment.rows",
                rows.to_string(),
                "give a number from 2 to 1000000",
            )),
        }
    }

    fn on(
        &self,
        mixture: &GaussianMixture,
        chain: Chain,
        k: usize,
        samplers: Vec<Sampler>,
        with_elbo: bool,
    ) -> Result<Measured> {
        let (schedule, grid) = chain.steps(k);
        let (dim, seed) =
            (mixture.dim(), Seed(self.seed).derive(&format!("d = {}", mixture.dim())));
        let oracle = Oracle::new(mixture.to(Device::Cpu, Kind::Double), schedule.clone());
        let (of_score, of_hessian) = (
            Field::of_vectors(mixture, seed.derive("score")),
            Field::of_matrices(mixture, seed.derive("hessian")),
        );
        let model = |&sampler: &Sampler| {
            let mut model = Perturbed { oracle: &oracle, score: None, hessian: None };
            let (mut statistics, mut covariance) = (None, CovarianceConfig::Own);
            match sampler {
                Sampler::Exact(requested) => covariance = requested,
                Sampler::Score(size) => model.score = Some((&of_score, size)),
                Sampler::Hessian(size) => model.hessian = Some((&of_hessian, size)),
            }
            if covariance.lacks(None) {
                let rows = mixture.sample(STATISTICS * self.rows, seed.derive("statistics"));
                let (batch, seed) = (rows.size()[0] as usize, seed.derive("times"));
                statistics =
                    Some(NoiseStatistics::measure(&oracle, &Batch::of(&rows), TIMES, batch, seed)?);
            }
            let statistics = statistics.as_ref();
            let sources = CovarianceSources { statistics, ..CovarianceSources::default() };
            Ok((model, covariance.build(&sources)?))
        };
        let models: Vec<(Perturbed, Box<dyn Covariance>)> =
            samplers.iter().map(model).collect::<Result<_>>()?;
        let pairs: Vec<(&Perturbed, &dyn Covariance)> =
            models.iter().map(|(model, c)| (model, &**c)).collect();
        let from_first = &grid[1..];
        let Path { prior, samplers: paths } =
            no_grad(|| path::measure(&oracle, &pairs, &grid, self.rows, with_elbo, seed))?;
        let axes = (dim == 1).then(|| Axes::new(&oracle, from_first));
        let (mut judged, mut without_density) = (Vec::new(), Vec::new());
        for ((&sampler, &(model, covariance)), path) in samplers.iter().zip(&pairs).zip(paths) {
            let reverse = Reverse::new(model, covariance, 1.0)?;
            let distance = |axes| no_grad(|| output::distance(&oracle, &reverse, from_first, axes));
            let output = axes.as_ref().map(distance).transpose();
            let finite =
                path.steps.0.is_finite() && path.elbo.is_none_or(|elbo| elbo.0.is_finite());
            match (sampler, output) {
                (_, Ok(output)) if finite => judged.push(Judged { sampler, path, output }),
                (Sampler::Hessian(_), _) => without_density.push(sampler),
                (_, Err(error)) => return Err(error),
                (_, Ok(_)) => {
                    let problem =
                        format!("{}, {k} steps: the divergence is not finite", sampler.name());
                    return Err(Error::numeric(problem, "give more experiment.steps"));
                }
            }
        }
        let transitions = || from_first.windows(2).map(|gap| schedule.transition(gap[0], gap[1]));
        Ok(Measured {
            dim,
            chain,
            steps: k,
            prior,
            judged,
            without_density,
            of_score: -(dim as f64) * transitions().map(|step| step.m.ln()).sum::<f64>(),
            of_hessian: 0.25
                * dim as f64
                * transitions().map(|step| step.k2 * step.k2).sum::<f64>(),
        })
    }
}

/// Those that are followed over `K`. In one dimension the diagonal is all there is.
fn samplers(dim: i64) -> Vec<Sampler> {
    use CovarianceConfig::{Analytic, AnalyticScore, Beta, BetaTilde, Diagonal, ZeroHessian};
    let all = [BetaTilde, Beta, ZeroHessian, Analytic, AnalyticScore];
    let mut all: Vec<Sampler> = all.map(Sampler::Exact).into();
    if dim > 1 {
        all.push(Sampler::Exact(Diagonal));
    }
    all.extend([Sampler::EXACT, Sampler::Score(FOLLOWED), Sampler::Hessian(FOLLOWED)]);
    all
}

#[cfg(test)]
mod tests;
