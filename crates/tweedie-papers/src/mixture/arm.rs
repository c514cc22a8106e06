//! What is compared: a source of samples, run over every number of steps.

use std::ops::Range;
use std::sync::Arc;

use tch::Tensor;

use super::Mixture;
use super::distance::Distance;
use super::distribution::Distribution;
use super::trial::{self, Chain, Recipe};
use crate::layout::Measured;
use tweedie::Result;
use tweedie::covariance::CovarianceConfig;
use tweedie::likelihood::mean_and_error;
use tweedie::model::{Base, BaseConfig, Denoiser};
use tweedie::noise::Seed;
use tweedie::oracle::{GaussianMixture, Oracle};
use tweedie::sample::LastStep;
use tweedie::schedule::Vp;
use tweedie::tensor::to_vec;

/// Where samples come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A network trained on the trial's data, by Likelihood Matching with this many transitions or
    /// by score matching.
    Network {
        /// `N`.
        transitions: Option<usize>,
        /// How it is trained.
        recipe: Recipe,
        /// Rows of the data.
        rows: usize,
    },
    /// The exact score and `G` of the distribution.
    Oracle,
    /// A two-component mixture fitted to the trial's data by EM: draws, no chain.
    Fitted {
        /// Rows of the data.
        rows: usize,
    },
    /// Draws from the distribution itself: the floor.
    Distribution,
}

/// One source under several covariances.
#[derive(Clone, Debug)]
pub struct Arm {
    /// The distribution of the data.
    pub distribution: Distribution,
    /// Its name in tables.
    pub name: String,
    /// Whether it is another way to train, beside the main table.
    pub variant: bool,
    /// Where samples come from.
    pub source: Source,
    /// Covariances of the chain; none for draws without a chain.
    pub covariances: Vec<CovarianceConfig>,
}

/// MMD² of one arm and covariance by steps.
#[derive(Clone, Debug)]
pub struct Curve {
    /// The distribution of the data.
    pub distribution: Distribution,
    /// The arm's name.
    pub arm: String,
    /// Whether it is a variant: left out of the main table and the figures.
    pub variant: bool,
    /// The chain's covariance; absent for draws without a chain.
    pub covariance: Option<CovarianceConfig>,
    /// What the last step put out.
    pub last: LastStep,
    /// One for every number of steps.
    pub points: Vec<Point>,
}

/// All trials at one number of steps.
#[derive(Clone, Debug)]
pub struct Point {
    /// `K`.
    pub steps: usize,
    /// Unbiased MMD², one per trial.
    pub values: Vec<f64>,
    /// The samples of the first trials, for density plots.
    pub samples: Vec<f64>,
}

impl Point {
    /// Mean over trials and its standard error.
    pub fn mean(&self) -> Measured {
        mean_and_error(&self.values)
    }
}

impl Curve {
    /// The point at `steps`; of draws without a chain, their only point.
    pub fn at(&self, steps: usize) -> Option<&Point> {
        match self.covariance {
            None => self.points.first(),
            Some(_) => self.points.iter().find(|p| p.steps == steps),
        }
    }

    /// Adds further trials.
    pub(super) fn append(&mut self, further: Curve) {
        for (point, further) in self.points.iter_mut().zip(further.points) {
            point.values.extend(further.values);
        }
    }
}

/// The largest number of steps at which variants are compared; with more they do not differ.
const VARIANT_STEPS: usize = 20;
/// Trials whose samples are kept for density plots.
const KEPT: usize = 10;

impl Arm {
    /// The curves of the trials `numbers`.
    pub(super) fn run(&self, experiment: &Mixture, numbers: Range<usize>) -> Result<Vec<Curve>> {
        let (exact, seed) = (self.distribution, experiment.seed());
        let distance = Distance::to(&exact.parameters());
        let schedule = || Arc::new(Vp::default());
        let model: Box<dyn Denoiser> = match &self.source {
            Source::Network { transitions, recipe, rows } => {
                Box::new(trial::train(recipe, exact, *transitions, *rows, numbers.clone(), seed)?)
            }
            Source::Oracle => Box::new(Oracle::new(exact.mixture()?, schedule())),
            Source::Fitted { rows } => {
                let draw = |number| {
                    let fitted = fit(&trial::data(exact, *rows, number, seed)?)?;
                    Ok(fitted.sample(experiment.samples, seed.derive(&format!("fitted {number}"))))
                };
                return self.draws(experiment, numbers, &distance, draw);
            }
            Source::Distribution => {
                let draw = |number| exact.sample(experiment.samples, floor_seed(seed, number));
                return self.draws(experiment, numbers, &distance, draw);
            }
        };
        let mut curves = Vec::new();
        for &covariance in &self.covariances {
            let mut both =
                [LastStep::Mean, LastStep::Noise].map(|last| self.curve(Some(covariance), last));
            for &steps in experiment.steps.iter().filter(|k| !self.variant || **k <= VARIANT_STEPS)
            {
                let chain = Chain { covariance, steps, spacing: experiment.spacing };
                let samples = chain.sample(&*model, experiment.samples, numbers.clone(), seed)?;
                for curve in &mut both {
                    curve.points.push(point(steps, samples.with(curve.last), &distance));
                }
            }
            curves.extend(both);
        }
        Ok(curves)
    }

    fn curve(&self, covariance: Option<CovarianceConfig>, last: LastStep) -> Curve {
        let (distribution, arm, variant) = (self.distribution, self.name.clone(), self.variant);
        Curve { distribution, arm, variant, covariance, last, points: Vec::new() }
    }

    fn draws(
        &self,
        experiment: &Mixture,
        numbers: Range<usize>,
        distance: &Distance,
        draw: impl Fn(usize) -> Result<Tensor>,
    ) -> Result<Vec<Curve>> {
        let samples: Result<Vec<Vec<f64>>> =
            numbers.map(|number| Ok(to_vec(&draw(number)?))).collect();
        let mut curve = self.curve(None, experiment.last);
        curve.points.push(point(0, &samples?, distance));
        Ok(vec![curve])
    }
}

fn floor_seed(seed: Seed, number: usize) -> Seed {
    seed.derive(&format!("floor {number}"))
}

fn point(steps: usize, samples: &[Vec<f64>], distance: &Distance) -> Point {
    Point {
        steps,
        values: samples.iter().map(|x| distance.squared(x)).collect(),
        samples: samples.iter().take(KEPT).flatten().copied().collect(),
    }
}

fn fit(data: &Tensor) -> Result<GaussianMixture> {
    // the size is given: the rows that would choose it are those of the fit
    match Base::fit(&BaseConfig::mixture(2), data, data)? {
        Base::Mixture(mixture) => Ok(mixture),
        Base::Isotropic { .. } | Base::Mixed(_) => unreachable!("a mixture was requested"),
    }
}
