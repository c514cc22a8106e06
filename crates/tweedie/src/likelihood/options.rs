//! How log-likelihoods are computed: what an estimator has to say of itself, and the settings of
//! the solver and of the divergence.

use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::{Divergence, Estimator, LogLikelihood, NOISE_LEVELS, ProbabilityFlow};
use crate::choice::choices;
use crate::covariance::{Covariance, Own};
use crate::model::Denoiser;
use crate::schedule::Schedule;
use crate::{Error, Result};

/// Steps, draws, probes or evaluations, at most.
const MOST: usize = 1_000_000;

/// An estimator in the list of estimators.
pub trait EstimatorMethod: Sync {
    /// Its name in configuration files and on the command line.
    fn name(&self) -> &'static str;

    /// One line that says what it is.
    fn help(&self) -> &'static str;

    /// The options that it takes beside those that all estimators take.
    fn options(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether it takes steps down a grid, with a covariance.
    fn has_steps(&self) -> bool {
        false
    }

    /// Whether it takes the covariance of a step.
    fn has_covariance(&self) -> bool {
        self.has_steps()
    }

    /// Whether rows are the levels of images, scored as probabilities.
    fn scores_levels(&self) -> bool {
        false
    }

    /// Whether it serves rows of the process at a later time than 0
    /// ([`ProbabilityFlow::from_time`]).
    fn serves_later_times(&self) -> bool {
        false
    }

    /// How often a row is scored, each time with another dequantisation and other noise.
    fn repeats(&self, settings: &Estimation) -> usize {
        let _ = settings;
        1
    }

    /// Draws per row that a score takes at least.
    fn least_draws(&self) -> usize {
        1
    }

    /// Network evaluations of a row, where they are known before.
    fn evaluations(&self, settings: &Estimation) -> Option<usize>;

    /// The estimator of `model` with these settings.
    ///
    /// # Errors
    /// If a setting makes no sense, or the model lacks what it needs.
    fn build<'a>(
        &self,
        model: &'a dyn Denoiser,
        settings: &Estimation,
    ) -> Result<Box<dyn LogLikelihood + 'a>>;

    /// A lower bound that the values are held against ([`super::Estimate::flag_against`]).
    fn bound(&self, settings: &Estimation, schedule: &dyn Schedule) -> Option<Estimation> {
        let _ = (settings, schedule);
        None
    }
}

/// An estimator with everything decided for a model.
#[derive(Clone)]
pub struct Estimation {
    /// What is computed.
    pub estimator: Estimator,
    /// Draws per row: of the ELBO with a dequantisation each, of the bounds pairs (t, ε).
    pub draws: usize,
    /// Covariance of steps.
    pub covariance: Rc<dyn Covariance>,
    /// The times of the ELBO's steps, from 0 to the horizon.
    pub grid: Vec<f64>,
    /// The noise levels from which one step is taken, as [`super::OneStep`] has them.
    pub noise_levels: Vec<f64>,
    /// How the divergence of the score is computed; `None`: as the estimator does by default.
    pub divergence: Option<Divergence>,
    /// The solver of the probability flow.
    pub solver: SolverOptions,
    /// Whether rows that the solver cannot solve have no value; otherwise they are an error.
    pub keep_unsolved: bool,
    /// The time of the process whose rows these are, where it is not 0.
    pub from_time: Option<f64>,
}

impl Estimation {
    /// Of an estimator without steps.
    pub fn stepless(estimator: Estimator) -> Estimation {
        Estimation { estimator, ..Estimation::elbo(Rc::new(Own), Vec::new()) }
    }

    /// The ELBO over `grid`, one draw per term.
    pub fn elbo(covariance: Rc<dyn Covariance>, grid: Vec<f64>) -> Estimation {
        Estimation {
            estimator: Estimator::Elbo,
            draws: 1,
            covariance,
            grid,
            noise_levels: NOISE_LEVELS.to_vec(),
            divergence: None,
            solver: SolverOptions::default(),
            keep_unsolved: false,
            from_time: None,
        }
    }

    /// The estimator of `model`.
    ///
    /// # Errors
    /// As [`EstimatorMethod::build`].
    pub fn build<'a>(&self, model: &'a dyn Denoiser) -> Result<Box<dyn LogLikelihood + 'a>> {
        self.estimator.method().build(model, self)
    }
}

/// The solver of the probability flow, where it is not the default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SolverOptions {
    /// Relative tolerance of a step, by default 1e-5.
    pub rtol: Option<f64>,
    /// Absolute tolerance, in network units and nats, by default 1e-5.
    pub atol: Option<f64>,
    /// Evaluations of the flow that a row may take before it counts as not solved, by default 5000.
    pub max_evaluations: Option<usize>,
}

impl SolverOptions {
    /// The paths of the options that are set.
    pub(crate) fn given(&self) -> Vec<&'static str> {
        let all = [
            ("solver.rtol", self.rtol.is_some()),
            ("solver.atol", self.atol.is_some()),
            ("solver.max_evaluations", self.max_evaluations.is_some()),
        ];
        all.into_iter().filter_map(|(path, given)| given.then_some(path)).collect()
    }

    /// Refuses what no solver can have; `section` is where these options stand.
    ///
    /// # Errors
    /// [`Error::Config`] with the option's path.
    pub fn check(&self, section: &str) -> Result<()> {
        for (name, tolerance) in [("rtol", self.rtol), ("atol", self.atol)] {
            if let Some(value) = tolerance
                && !(value.is_finite() && value > 0.0)
            {
                let remedy = "give a positive number; 1e-5 is usual";
                return Err(Error::config(
                    format!("{section}.{name}"),
                    format!("{name} = {value}"),
                    remedy,
                ));
            }
        }
        self.max_evaluations
            .map_or(Ok(()), |n| Error::check_count(&format!("{section}.max_evaluations"), n, MOST))
    }

    /// The flow of `model`, its steps held to this share of the tolerances.
    ///
    /// # Errors
    /// As [`ProbabilityFlow::tolerance`].
    pub fn flow<'a>(&self, model: &'a dyn Denoiser, share: f64) -> Result<ProbabilityFlow<'a>> {
        let mut flow = ProbabilityFlow::new(model);
        let (rtol, atol) = flow.tolerances();
        flow =
            flow.tolerance(share * self.rtol.unwrap_or(rtol), share * self.atol.unwrap_or(atol))?;
        Ok(match self.max_evaluations {
            Some(limit) => flow.max_evaluations(limit),
            None => flow,
        })
    }
}

choices! {
    /// How the divergence of the score is computed, without its number of probes.
    pub enum DivergenceKind = Auto {
        /// Exact up to 16 columns, then eight Rademacher probes
        Auto = "auto",
        /// The trace, by one product per column
        Exact = "exact",
        /// Random signs
        Rademacher = "rademacher",
        /// Normal probes
        Gaussian = "gaussian",
    }
}

impl DivergenceKind {
    /// The divergence of this kind with `probes` probes, or `usual` where that is `None`.
    ///
    /// # Errors
    /// [`Error::Config`] if probes are given for a kind without, or there are none.
    pub fn with(self, probes: Option<usize>, usual: usize) -> Result<Divergence> {
        let number = probes.unwrap_or(usual);
        Error::check_count("score.probes", number, MOST)?;
        match (self, probes) {
            (DivergenceKind::Rademacher, _) => Ok(Divergence::Rademacher { probes: number }),
            (DivergenceKind::Gaussian, _) => Ok(Divergence::Gaussian { probes: number }),
            (DivergenceKind::Auto, None) => Ok(Divergence::Auto),
            (DivergenceKind::Exact, None) => Ok(Divergence::Exact),
            (_, Some(number)) => Err(Error::config(
                "score.probes",
                format!("{number}, of a divergence that draws none"),
                "give score.divergence = rademacher or gaussian with it",
            )),
        }
    }
}
