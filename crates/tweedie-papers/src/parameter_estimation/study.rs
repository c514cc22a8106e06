//! Replicates: data from the truth, every estimator from one start, and what their errors come to.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::ThreadPool;
use rayon::prelude::*;

use super::draws::{Drawer, Estimator};
use super::family::{Mixture, P, Params};
use super::fit::{Fit, fit, maximum_likelihood, start};
use crate::experiment::{Progress, at_least};
use tweedie::noise::Seed;
use tweedie::schedule::Vp;
use tweedie::{Error, Result};

/// A truth to estimate.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// `overlapping` or `separated`.
    pub name: &'static str,
    /// The distribution of the data.
    pub truth: Mixture,
}

/// What the parameters are called, in the order of [`Mixture::natural`].
pub const PARAMETERS: [&str; P] = ["m₁₁", "m₁₂", "m₂₁", "m₂₂", "s₁", "s₂", "w"];
/// A group of parameters: its name, and where they lie.
pub type Group = (&'static str, std::ops::Range<usize>);
/// The groups of parameters.
pub const GROUPS: [Group; 3] = [("means", 0..4), ("sds", 4..6), ("weight", 6..7)];

/// All replicates of one estimator at one setting and sample size.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The distribution of the data.
    pub setting: Setting,
    /// Rows per replicate.
    pub n: usize,
    /// `(x, t)` draws per datum, as used; 0 for maximum likelihood.
    pub draws: usize,
    /// The estimator of all these fits.
    pub estimator: Estimator,
    /// Estimates minus truth, labels aligned, one per replicate.
    pub errors: Vec<Params>,
    /// Fits that stopped before convergence.
    pub unconverged: usize,
    /// Fits in which a standard deviation or the weight ran into its bound.
    pub degenerate: usize,
}

impl Cell {
    fn column(&self, j: usize) -> impl Iterator<Item = f64> + '_ {
        self.errors.iter().map(move |e| e[j])
    }

    /// Mean absolute error of parameter `j`.
    pub fn mae(&self, j: usize) -> f64 {
        self.column(j).map(f64::abs).sum::<f64>() / self.errors.len() as f64
    }

    /// Mean error of parameter `j`.
    pub fn bias(&self, j: usize) -> f64 {
        self.column(j).sum::<f64>() / self.errors.len() as f64
    }

    /// Standard deviation of the estimates of parameter `j`: the paper's "Std. Error".
    pub fn sd(&self, j: usize) -> f64 {
        let bias = self.bias(j);
        (self.column(j).map(|e| (e - bias).powi(2)).sum::<f64>() / (self.errors.len() as f64 - 1.0))
            .sqrt()
    }

    /// Mean absolute error of replicate `i` over a group of parameters.
    fn group_error(&self, i: usize, group: &std::ops::Range<usize>) -> f64 {
        self.errors[i][group.clone()].iter().map(|e| e.abs()).sum::<f64>() / group.len() as f64
    }

    /// Mean absolute error over a group.
    pub fn group_mae(&self, group: &std::ops::Range<usize>) -> f64 {
        (0..self.errors.len()).map(|i| self.group_error(i, group)).sum::<f64>()
            / self.errors.len() as f64
    }

    /// Ratio of this cell's group MAE to `reference`'s on the same data, and its standard error
    /// (delta method, paired replicates).
    pub fn ratio(&self, reference: &Cell, group: &std::ops::Range<usize>) -> (f64, f64) {
        let (a, b) = (self.group_mae(group), reference.group_mae(group));
        let ratio = a / b;
        let count = self.errors.len() as f64;
        let square: f64 = (0..self.errors.len())
            .map(|i| (self.group_error(i, group) - ratio * reference.group_error(i, group)).powi(2))
            .sum();
        (ratio, (square / (count * (count - 1.0))).sqrt() / b)
    }
}

/// The settings by name, with means ±(1, 0.5) and ±(3, 1.5), standard deviations 0.7 and 0.9 and
/// weights 0.4 and 0.6: components whose densities cross (2.2 apart), and that do not (6.7 apart).
pub const SETTINGS: [fn() -> Setting; 2] = [overlapping, separated];

/// Two components whose densities cross.
pub fn overlapping() -> Setting {
    Setting {
        name: "overlapping",
        truth: Mixture::new([[-1.0, -0.5], [1.0, 0.5]], [0.7, 0.9], 0.4),
    }
}

/// The same components three times as far apart.
pub fn separated() -> Setting {
    Setting { name: "separated", truth: Mixture::new([[-3.0, -1.5], [3.0, 1.5]], [0.7, 0.9], 0.4) }
}

/// A pool of `threads` threads to fit on, by default as many as the program has. Results do not
/// depend on their number.
pub fn pool(threads: Option<usize>) -> Result<ThreadPool> {
    let threads = threads.unwrap_or_else(rayon::current_num_threads);
    Error::check_count("experiment.threads", threads, 10_000)?;
    let failed = |e| Error::numeric(format!("no threads: {e}"), "give fewer experiment.threads");
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().map_err(failed)
}

/// Refuses replicates and draws that are too few.
pub fn check(replicates: usize, draws: usize) -> Result<()> {
    at_least("experiment.replicates", replicates, 2)?;
    at_least("experiment.draws", draws, 16)
}

/// Runs blocks one after the other; `progress` gets a line and the fraction of them that is done.
pub fn run_all(
    blocks: &[Block],
    seed: Seed,
    vp: &Vp,
    pool: &ThreadPool,
    progress: Progress,
) -> Vec<Cell> {
    let all: f64 = blocks.iter().map(Block::work).sum();
    let (mut cells, mut done) = (Vec::new(), 0.0);
    for block in blocks {
        cells.extend(block.run(seed, vp, pool, &mut |finished| {
            let Block { setting, n, replicates, .. } = block;
            let line = format!("{}, n = {n}: {finished} of {replicates} replicates", setting.name);
            let fraction = finished as f64 / *replicates as f64;
            progress(&line, ((done + fraction * block.work()) / all).min(1.0));
        }));
        done += block.work();
    }
    cells
}

/// A block for every setting and sample size.
pub fn blocks(
    sizes: &[usize],
    replicates: usize,
    draws: usize,
    estimators: &[Estimator],
) -> Vec<Block> {
    let each = SETTINGS.iter().flat_map(|setting| sizes.iter().map(move |&n| (setting(), n)));
    let estimators = || estimators.to_vec();
    each.map(|(setting, n)| Block { setting, n, replicates, draws, estimators: estimators() })
        .collect()
}

/// One block of work: a setting, a sample size and the estimators compared there.
#[derive(Clone, Debug)]
pub struct Block {
    /// The distribution of the data.
    pub setting: Setting,
    /// Rows per replicate.
    pub n: usize,
    /// Data sets that are drawn and fitted.
    pub replicates: usize,
    /// `(x, t)` draws per datum.
    pub draws: usize,
    /// The estimators that are compared.
    pub estimators: Vec<Estimator>,
}

impl Block {
    /// What the block costs, in draws.
    pub fn work(&self) -> f64 {
        let per_datum: usize = self.estimators.iter().map(|e| e.draws_used(self.draws)).sum();
        (self.replicates * self.n * per_datum) as f64
    }

    /// Runs the block on `pool`; `progress` gets how many replicates are done. Replicate `i`
    /// draws from stream `i` of the block's seeds alone, so that results depend neither on threads
    /// nor on other blocks.
    pub fn run(
        &self,
        seed: Seed,
        vp: &Vp,
        pool: &ThreadPool,
        progress: &mut dyn FnMut(usize),
    ) -> Vec<Cell> {
        let batch = 4 * pool.current_num_threads();
        let stream = |purpose: &str, replicate: usize| {
            let seed = seed.derive(&format!("{}/{}/{purpose}", self.setting.name, self.n));
            let mut rng = ChaCha8Rng::seed_from_u64(seed.0);
            rng.set_stream(replicate as u64);
            rng
        };
        let names: Vec<String> = self.estimators.iter().map(Estimator::name).collect();
        let replicate = |i: usize| -> Vec<Fit> {
            let data = self.setting.truth.sample(self.n, &mut stream("data", i));
            let start = start(&data);
            let one = |(estimator, name): (&Estimator, &String)| match estimator {
                Estimator::MaximumLikelihood => maximum_likelihood(&data, &start),
                _ => {
                    let drawer = Drawer::new(*estimator, vp);
                    fit(*estimator, &drawer, &data, &start, self.draws, &mut stream(name, i))
                }
            };
            self.estimators.iter().zip(&names).map(one).collect()
        };
        let mut fits: Vec<Vec<Fit>> = Vec::with_capacity(self.replicates);
        while fits.len() < self.replicates {
            let upto = (fits.len() + batch).min(self.replicates);
            let range = fits.len()..upto;
            let next: Vec<_> = pool.install(|| range.into_par_iter().map(replicate).collect());
            fits.extend(next);
            progress(fits.len());
        }
        let truth = self.setting.truth.natural();
        let cell = |(j, estimator): (usize, &Estimator)| {
            let errors = fits.iter().map(|f| {
                let estimate = f[j].mixture.aligned(&self.setting.truth).natural();
                std::array::from_fn(|p| estimate[p] - truth[p])
            });
            Cell {
                setting: self.setting,
                n: self.n,
                draws: estimator.draws_used(self.draws),
                estimator: *estimator,
                errors: errors.collect(),
                unconverged: fits.iter().filter(|f| !f[j].converged).count(),
                degenerate: fits.iter().filter(|f| f[j].degenerate).count(),
            }
        };
        self.estimators.iter().enumerate().map(cell).collect()
    }
}
