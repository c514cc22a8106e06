//! The mixture experiment of Likelihood Matching (§5.1, Figures 2(a), 2(b) and 3(a)): how few
//! sampling steps suffice when the covariance of a reverse step is learned.
//!
//! Networks with one hidden layer are trained on two well separated modes, trials side by side
//! ([`trial`]); chains of `K` steps are judged by MMD² against the exact law in closed form
//! ([`distance`], [`law`]). Beside them stand the sampler with the exact moments, a mixture fitted
//! to the same rows by EM, and the law itself.

pub mod arm;
pub mod distance;
mod figures;
pub mod law;
mod report;
pub mod trial;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use arm::{Arm, Curve, Source};
use law::Law;
use trial::Recipe;

use tweedie::covariance::CovarianceConfig;
use tweedie::grid::Spacing;
use tweedie::model::{BaseKind, HeadTrunk};
use tweedie::noise::Seed;
use tweedie::objective::ScoreGradient;
use tweedie::sample::LastStep;
use tweedie::{Error, Result};

/// The experiment's settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixture {
    /// Data sets, each with networks of its own.
    pub trials: usize,
    /// Rows of each data set.
    pub train_rows: usize,
    /// Samples that each MMD² is taken of.
    pub samples: usize,
    /// Sampling steps `K`.
    pub steps: Vec<usize>,
    /// Likelihood Matching's numbers of transitions `N`.
    pub transitions: Vec<usize>,
    /// Whether the heavy-tailed law is done too.
    pub student_t: bool,
    /// Whether other ways to train (joint, another trunk, at a fifth of the pairs; more data; a
    /// mixture base) are compared too.
    pub variants: bool,
    /// How networks are trained.
    pub recipe: Recipe,
    /// How sampling steps are laid.
    pub spacing: Spacing,
    /// What the last step puts out in the figures and the main table; the CSV has both.
    pub last: LastStep,
    /// The seed from which everything is drawn.
    pub seed: u64,
    /// Threads; by default as many as there are cores. Results do not depend on it.
    pub threads: Option<usize>,
    /// A few trials of a short training, in seconds: to see that it runs, not to read numbers off.
    pub quick: bool,
}

impl Default for Mixture {
    fn default() -> Self {
        Mixture {
            trials: 20,
            train_rows: 1000,
            samples: 2000,
            steps: vec![5, 10, 20, 50, 100],
            transitions: vec![2, 5, 20],
            student_t: true,
            variants: true,
            recipe: Recipe::default(),
            spacing: Spacing::Even,
            last: LastStep::Mean,
            seed: 0,
            threads: None,
            quick: false,
        }
    }
}

/// What the experiment found; [`Report::write`] makes files of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// The settings as they were run.
    pub experiment: Mixture,
    /// Every curve.
    pub curves: Vec<Curve>,
    /// Wall-clock seconds.
    pub seconds: f64,
}

/// Trials trained side by side: enough to fill vector units, few enough for the cache.
const GROUP: usize = 20;
/// Ways to train are compared at so many times fewer pairs (x, t).
const SHORTER: usize = 5;
/// Rows of the variants with more data.
const MORE_ROWS: usize = 10_000;

impl Mixture {
    /// Checks the settings and runs everything. `progress` gets a line and the fraction done.
    pub fn run(&self, progress: &mut dyn FnMut(&str, f64)) -> Result<Report> {
        let begun = std::time::Instant::now();
        self.check()?;
        let experiment = self.reduced();
        let arms = experiment.arms();
        let jobs: Vec<(usize, std::ops::Range<usize>)> = (0..arms.len())
            .flat_map(|arm| {
                let starts = (0..experiment.trials).step_by(GROUP);
                let trials = experiment.trials;
                starts.map(move |start| (arm, start..(start + GROUP).min(trials)))
            })
            .collect();
        let threads = self
            .threads
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (sender, receiver) = mpsc::channel();
        let mut done = vec![None; jobs.len()];
        let torch_threads = tch::get_num_threads();
        let outcome = std::thread::scope(|scope| {
            for _ in 0..threads.min(jobs.len()) {
                let sender = sender.clone();
                let (experiment, arms, jobs, next, stop) =
                    (&experiment, &arms, &jobs, &next, &stop);
                scope.spawn(move || {
                    tch::set_num_threads(1);
                    while !stop.load(Ordering::Relaxed) {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some((arm, trials)) = jobs.get(index) else { break };
                        let curves = arms[*arm].run(experiment, trials.clone());
                        if sender.send((index, curves)).is_err() {
                            break;
                        }
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
                let line = format!(
                    "{}, {}: trials {}..{}",
                    arm.law.name(),
                    arm.name,
                    trials.start,
                    trials.end
                );
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
        Ok(Report { experiment, curves, seconds: begun.elapsed().as_secs_f64() })
    }

    fn check(&self) -> Result<()> {
        let at_least = |field: &str, value: usize, least: usize| match value >= least {
            true => Ok(()),
            false => {
                Err(Error::config(field, format!("{value}"), format!("give at least {least}")))
            }
        };
        at_least("trials", self.trials, 2)?;
        at_least("train_rows", self.train_rows, 10)?;
        at_least("samples", self.samples, 10)?;
        at_least("steps", self.steps.iter().copied().min().unwrap_or(0), 1)?;
        at_least("transitions", self.transitions.iter().copied().min().unwrap_or(0), 2)?;
        at_least("threads", self.threads.unwrap_or(1), 1)?;
        at_least("pairs", self.recipe.pairs, self.transitions.iter().copied().max().unwrap_or(1))
    }

    /// The settings after [`Mixture::quick`].
    fn reduced(&self) -> Mixture {
        let mut reduced = self.clone();
        if self.quick {
            reduced.trials = self.trials.min(4);
            reduced.samples = self.samples.min(1000);
            reduced.transitions = self.transitions.iter().copied().max().into_iter().collect();
            reduced.recipe.iterations = self.recipe.iterations.min(1000);
            reduced.recipe.pairs = self.recipe.pairs.min(200);
            reduced.variants = false;
        }
        reduced
    }

    /// The transitions of the variants, and of the summary where it needs one `N`.
    pub(super) fn reference(&self) -> Option<usize> {
        self.transitions.get(self.transitions.len() / 2).copied()
    }

    fn arms(&self) -> Vec<Arm> {
        let mut arms = Vec::new();
        let network = |transitions, recipe: &Recipe, rows| Source::Network {
            transitions,
            recipe: recipe.clone(),
            rows,
        };
        let (recipe, rows) = (&self.recipe, self.train_rows);
        for law in
            if self.student_t { &[Law::Gaussian, Law::StudentT][..] } else { &[Law::Gaussian] }
        {
            let mut add = |name: String, source, covariances: &[CovarianceConfig]| {
                arms.push(Arm {
                    law: *law,
                    name,
                    variant: false,
                    source,
                    covariances: covariances.to_vec(),
                });
            };
            add(report::SM.into(), network(None, recipe, rows), &CovarianceConfig::fixed());
            for &n in &self.transitions {
                add(format!("LM N={n}"), network(Some(n), recipe, rows), &[CovarianceConfig::Own]);
            }
            add(report::EXACT.into(), Source::Oracle, &CovarianceConfig::free());
            add("EM fit".into(), Source::Fitted { rows }, &[]);
            add("law itself".into(), Source::Law, &[]);
        }
        let (true, Some(n)) = (self.variants, self.reference()) else { return arms };
        let mut add = |name: String, source, covariances: &[CovarianceConfig]| {
            let covariances = covariances.to_vec();
            arms.push(Arm { law: Law::Gaussian, name, variant: true, source, covariances });
        };
        let both = [CovarianceConfig::Own, CovarianceConfig::Beta];
        for (what, score, head_trunk) in [
            ("joint, shared trunk", ScoreGradient::Joint, HeadTrunk::Shared),
            ("joint, separate trunks", ScoreGradient::Joint, HeadTrunk::Separate),
            ("DSM score, shared trunk", ScoreGradient::Dsm, HeadTrunk::Shared),
            ("DSM score, detached head", ScoreGradient::Dsm, HeadTrunk::Detached),
            ("DSM score, separate trunks", ScoreGradient::Dsm, HeadTrunk::Separate),
        ] {
            let recipe =
                Recipe { score, head_trunk, pairs: recipe.pairs / SHORTER, ..recipe.clone() };
            add(format!("LM N={n}, {what}"), network(Some(n), &recipe, rows), &both);
        }
        let mixture = Recipe { base: BaseKind::Mixture, ..recipe.clone() };
        add(format!("LM N={n}, mixture base"), network(Some(n), &mixture, rows), &both);
        add(format!("LM N={n}, n={MORE_ROWS}"), network(Some(n), recipe, MORE_ROWS), &both);
        add(
            format!("SM, n={MORE_ROWS}"),
            network(None, recipe, MORE_ROWS),
            &[CovarianceConfig::Beta],
        );
        add(format!("EM fit, n={MORE_ROWS}"), Source::Fitted { rows: MORE_ROWS }, &[]);
        arms
    }

    fn seed(&self) -> Seed {
        Seed(self.seed).derive("mixture")
    }
}

#[cfg(test)]
mod tests;
