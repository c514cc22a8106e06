//! The mixture experiment of Likelihood Matching (§5.1, Figures 2(a), 2(b) and 3): how few
//! sampling steps suffice when the covariance of a reverse step is learned.
//!
//! Networks with one hidden layer are trained on two well separated modes, trials side by side
//! ([`trial`]); chains of `K` steps are judged by MMD² against the exact distribution in closed
//! form ([`distance`], [`distribution`]). Beside them stand the sampler with the exact moments, a
//! mixture fitted to the same rows by EM, and the distribution itself.

pub mod arm;
pub mod distance;
pub mod distribution;
mod plane;
mod report;
pub mod trial;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use crate::experiment::{Context, Experiment, Progress, at_least, settings};
use crate::outcome::Outcome;
use arm::{Arm, Curve, Source};
use distribution::Distribution;
use plane::Plane;
use trial::Recipe;

use tweedie::covariance::CovarianceConfig;
use tweedie::grid::Spacing;
use tweedie::model::{BaseKind, HeadTrunk};
use tweedie::noise::Seed;
use tweedie::objective::ScoreGradient;
use tweedie::sample::LastStep;
use tweedie::{Error, Result};

settings! {
    /// The experiment's settings.
    pub struct Mixture {
        /// Data sets, each with networks of its own.
        pub trials: usize = 20,
        /// Rows of each data set.
        pub train_rows: usize = 1000,
        /// Samples that each MMD² is taken of.
        pub samples: usize = 2000,
        /// Sampling steps `K`.
        pub steps: Vec<usize> = vec![5, 10, 20, 50, 100],
        /// Likelihood Matching's numbers of transitions `N`.
        pub transitions: Vec<usize> = vec![1, 2, 5, 20],
        /// Whether the heavy-tailed distribution is done too.
        pub student_t: bool = true,
        /// Whether other ways to train (joint, another trunk, at a fifth of the pairs; more data; a
        /// mixture base) are compared too.
        pub variants: bool = true,
        /// How networks are trained.
        pub recipe: Recipe = Recipe::default(),
        /// How sampling steps are laid.
        pub spacing: Spacing = Spacing::Even,
        /// What the last step puts out in the figures and the main table; the CSV has both.
        pub last: LastStep = LastStep::Mean,
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
    pub experiment: Mixture,
    /// The distances over `K` of every arm.
    pub curves: Vec<Curve>,
    /// Data and samples in the plane.
    pub plane: Plane,
}

/// Names of arms that the summary needs.
const SM: &str = "SM";
const EXACT: &str = "exact moments";

/// Trials trained side by side: enough to fill vector units, few enough for the cache.
const GROUP: usize = 20;
/// Variants of training take this many times fewer pairs (x, t).
const SHORTER: usize = 5;
/// Rows of the variants with more data.
const MORE_ROWS: usize = 10_000;

impl Experiment for Mixture {
    const NAME: &'static str = "mixture";
    const TEXT: &'static str = include_str!("mixture.md");

    fn quick(mut self) -> Self {
        self.trials = self.trials.min(4);
        self.samples = self.samples.min(1000);
        self.transitions = self.transitions.iter().copied().max().into_iter().collect();
        self.recipe.iterations = self.recipe.iterations.min(1000);
        self.recipe.pairs = self.recipe.pairs.min(200);
        self.variants = false;
        self
    }

    fn run(&self, context: &mut Context) -> Result<Outcome> {
        self.measure(context.progress)?.outcome()
    }
}

impl Mixture {
    /// Checks the settings and runs everything.
    ///
    /// # Errors
    /// If a setting cannot be, or a training fails.
    pub fn measure(&self, progress: Progress) -> Result<Report> {
        self.check()?;
        let arms = self.arms();
        let groups = |arm: usize| {
            let starts = (0..self.trials).step_by(GROUP);
            starts.map(move |start| (arm, start..(start + GROUP).min(self.trials)))
        };
        let jobs: Vec<(usize, Range<usize>)> = (0..arms.len()).flat_map(groups).collect();
        let threads = self.threads.unwrap_or_else(rayon::current_num_threads).min(jobs.len());
        let failed =
            |e| Error::numeric(format!("no threads: {e}"), "give fewer experiment.threads");
        let alone = rayon::ThreadPoolBuilder::new().start_handler(|_| tch::set_num_threads(1));
        let pool = alone.num_threads(threads).build().map_err(failed)?;
        let stop = AtomicBool::new(false);
        let (sender, receiver) = mpsc::channel();
        let mut done = vec![None; jobs.len()];
        let torch_threads = tch::get_num_threads();
        let outcome = pool.in_place_scope_fifo(|scope| {
            for (index, (arm, trials)) in jobs.iter().enumerate() {
                let (sender, arms, stop) = (sender.clone(), &arms, &stop);
                scope.spawn_fifo(move |_| {
                    if !stop.load(Ordering::Relaxed) {
                        // nobody receives once a job has failed
                        let _ = sender.send((index, arms[*arm].run(self, trials.clone())));
                    }
                });
            }
            drop(sender);
            let mut finished = 0.0;
            for (index, curves) in receiver {
                // the first failure ends the run; other threads finish the job they are at
                let curves = curves.inspect_err(|_| stop.store(true, Ordering::Relaxed))?;
                finished += 1.0;
                let (arm, trials) = (&arms[jobs[index].0], &jobs[index].1);
                let name = arm.distribution.name();
                let line = format!("{name}, {}: trials {trials:?}", arm.name);
                progress(&line, finished / jobs.len() as f64);
                done[index] = Some(curves);
            }
            Ok::<(), Error>(())
        });
        tch::set_num_threads(torch_threads);
        outcome?;
        let mut curves: Vec<Curve> = Vec::new();
        let mut last = None;
        for ((arm, _), part) in jobs.iter().zip(done) {
            let part =
                part.ok_or_else(|| Error::numeric("a trial did not finish", "run it again"))?;
            if last == Some(*arm) {
                let start = curves.len() - part.len();
                curves[start..].iter_mut().zip(part).for_each(|(curve, part)| curve.append(part));
            } else {
                curves.extend(part);
            }
            last = Some(*arm);
        }
        progress("samples in the plane", 1.0);
        Ok(Report { experiment: self.clone(), curves, plane: Plane::of(self)? })
    }

    fn check(&self) -> Result<()> {
        at_least("experiment.trials", self.trials, 2)?;
        at_least("experiment.train_rows", self.train_rows, 10)?;
        at_least("experiment.samples", self.samples, 10)?;
        at_least("experiment.steps", self.steps.iter().copied().min().unwrap_or(0), 1)?;
        at_least("experiment.transitions", self.transitions.iter().copied().min().unwrap_or(0), 1)?;
        at_least("experiment.threads", self.threads.unwrap_or(1), 1)?;
        at_least(
            "experiment.recipe.pairs",
            self.recipe.pairs,
            self.transitions.iter().copied().max().unwrap_or(1),
        )
    }

    /// The transitions of the variants, and of the summary where it needs one `N`: the last but
    /// one, if there are two.
    pub(super) fn reference(&self) -> Option<usize> {
        self.transitions.get(self.transitions.len().saturating_sub(2)).copied()
    }

    /// The distributions that are done.
    fn distributions(&self) -> &[Distribution] {
        &[Distribution::Gaussian, Distribution::StudentT][..1 + usize::from(self.student_t)]
    }

    fn arms(&self) -> Vec<Arm> {
        use CovarianceConfig::{Beta, Own};
        let network = |transitions, recipe: &Recipe, rows| Source::Network {
            transitions,
            recipe: recipe.clone(),
            rows,
        };
        let arm = |distribution, variant, name: &str, source, covariances: &[CovarianceConfig]| {
            let (name, covariances) = (name.to_string(), covariances.to_vec());
            Arm { distribution, name, variant, source, covariances }
        };
        let (recipe, rows, mut arms) = (&self.recipe, self.train_rows, Vec::new());
        for &of in self.distributions() {
            let main =
                |name: &str, source, all: &[CovarianceConfig]| arm(of, false, name, source, all);
            arms.push(main(SM, network(None, recipe, rows), &CovarianceConfig::fixed()));
            arms.extend(
                self.transitions
                    .iter()
                    .map(|&n| main(&format!("LM N={n}"), network(Some(n), recipe, rows), &[Own])),
            );
            let paper = recipe.of_paper();
            arms.extend(self.transitions.iter().map(|&n| {
                main(&format!("LM (paper) N={n}"), network(Some(n), &paper, rows), &[Own])
            }));
            arms.push(main(EXACT, Source::Oracle, &CovarianceConfig::free()));
            arms.push(main("EM fit", Source::Fitted { rows }, &[]));
            arms.push(main("law itself", Source::Distribution, &[]));
        }
        let (true, Some(n)) = (self.variants, self.reference()) else { return arms };
        let mut add = |name: &str, source, covariances: &[CovarianceConfig]| {
            arms.push(arm(Distribution::Gaussian, true, name, source, covariances));
        };
        for (what, score, head_trunk) in [
            ("joint, shared trunk", ScoreGradient::Joint, HeadTrunk::Shared),
            ("joint, separate trunks", ScoreGradient::Joint, HeadTrunk::Separate),
            ("DSM score, shared trunk", ScoreGradient::Dsm, HeadTrunk::Shared),
            ("DSM score, detached head", ScoreGradient::Dsm, HeadTrunk::Detached),
            ("DSM score, separate trunks", ScoreGradient::Dsm, HeadTrunk::Separate),
        ] {
            let pairs = recipe.pairs / SHORTER;
            let recipe = Recipe { score, head_trunk, pairs, ..recipe.clone() };
            let source = network(Some(n), &recipe, rows);
            add(&format!("LM N={n}, {what}"), source, &[Own, Beta]);
        }
        let mixture = Recipe { base: BaseKind::Mixture, ..recipe.clone() };
        let source = network(Some(n), &mixture, rows);
        add(&format!("LM N={n}, mixture base"), source, &[Own, Beta]);
        let source = network(Some(n), recipe, MORE_ROWS);
        add(&format!("LM N={n}, n={MORE_ROWS}"), source, &[Own, Beta]);
        add(&format!("SM, n={MORE_ROWS}"), network(None, recipe, MORE_ROWS), &[Beta]);
        add(&format!("EM fit, n={MORE_ROWS}"), Source::Fitted { rows: MORE_ROWS }, &[]);
        arms
    }

    fn seed(&self) -> Seed {
        Seed(self.seed).derive("mixture")
    }
}

#[cfg(test)]
mod tests;
