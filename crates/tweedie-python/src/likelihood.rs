//! Log-likelihoods under a user's own model of torch.
//!
//! The model is asked in Python and differentiated by torch: the engine and torch are one LibTorch,
//! so a tensor of one is a tensor of the other, with its graph, on whatever device it is.

use std::cell::RefCell;
use std::rc::Rc;

use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tweedie::covariance::{Covariance, CovarianceConfig, CovarianceSources};
use tweedie::density::ScoreOptions;
use tweedie::grid::{Spacing, SpacingConfig};
use tweedie::likelihood::{Estimate, Estimation, Estimator, mean_and_error};
use tweedie::model::{Denoiser, Space};
use tweedie::noise::Seed;
use tweedie::posterior::NoiseMoments;
use tweedie::query::{Batch, Query};
use tweedie::schedule::ScheduleConfig;
use tweedie::sym_matrix::SymMatrix;
use tweedie::tch::{Kind, Tensor};
use tweedie::{Error, Result};

use crate::errors::{detached, exception, options};

/// Rows at a time where nobody says.
const BATCH: usize = 256;
/// Probes of a divergence where nobody says.
const PROBES: usize = 8;

/// The engine's tensor that a tensor of torch is: the same numbers, and the same graph.
fn shared(tensor: &Bound<'_, PyAny>) -> PyResult<Tensor> {
    let implementation: usize = tensor.getattr("_cdata")?.extract()?;
    // SAFETY: `_cdata` is the address of the tensor's implementation, and a tensor of LibTorch is
    // a pointer to one, counted; copying it counts one more, and the Python object, which is held
    // by the caller, keeps the implementation until then
    #[allow(unsafe_code)]
    Ok(unsafe { Tensor::clone_from_ptr((&raw const implementation).cast_mut().cast()) })
}

/// A model that is asked in Python.
struct Asked {
    space: Space,
    /// `empty(rows)` makes a tensor for rows, `noise(rows, times)` returns `ε̂` of them.
    model: Py<PyAny>,
    /// What it raised; it is asked no more then.
    raised: RefCell<Option<PyErr>>,
}

impl Asked {
    fn ask(&self, py: Python<'_>, q: &Query) -> PyResult<Tensor> {
        py.check_signals()?;
        let size = q.x.size();
        let rows = self.model.bind(py).call_method1("empty", (size[0],))?;
        // within the graph, where there is one
        shared(&rows)?.copy_(q.x);
        let times = q.times.values().to_vec().into_pyarray(py);
        let found = self.model.bind(py).call_method1("noise", (rows, times))?;
        let found = shared(&found)?;
        if found.size() != size {
            let text = format!("the model returned {:?} for rows of {size:?}", found.size());
            return Err(PyValueError::new_err(text));
        }
        if q.x.requires_grad() && !found.requires_grad() {
            return Err(PyValueError::new_err(
                "what the model returned cannot be differentiated: it was computed under \
                 torch.no_grad or detached, or does not depend on its rows; estimator = elbo with \
                 the covariance beta takes no derivative",
            ));
        }
        Ok(found.to_kind(q.x.kind()))
    }
}

impl Denoiser for Asked {
    fn space(&self) -> &Space {
        &self.space
    }

    fn noise(&self, q: &Query) -> Tensor {
        if self.raised.borrow().is_none() {
            match Python::attach(|py| self.ask(py, q)) {
                Ok(found) => return found,
                Err(error) => drop(self.raised.replace(Some(error))),
            }
        }
        // the work runs to its end on zeros, in no time
        q.x * 0.0
    }

    fn moments(&self, q: &Query) -> NoiseMoments {
        NoiseMoments::new(self.noise(q), SymMatrix::scalar(&1.0.into(), q.x))
    }
}

/// A covariance of steps, `usual` by default, that takes nothing but the model's `ε̂` and, where it
/// `knows` that, its `G`.
fn covariance(
    requested: Option<CovarianceConfig>,
    usual: CovarianceConfig,
    knows: bool,
) -> Result<Rc<dyn Covariance>> {
    let chosen = requested.unwrap_or(usual);
    let of_head = !knows && chosen == CovarianceConfig::Own;
    if of_head || chosen == CovarianceConfig::Interpolated || chosen.lacks(None) {
        let problem = format!("{chosen} takes more than a model of the noise");
        let remedy = "give beta, beta-tilde, zero-hessian, rademacher-M, diagonal or full";
        return Err(Error::config("score.covariance", problem, remedy));
    }
    Ok(chosen.build(&CovarianceSources::default())?.into())
}

fn grid(request: &ScoreOptions, space: &Space) -> Result<Vec<f64>> {
    let levels = request.estimator == Estimator::Levels;
    let usual = if levels { Spacing::Even } else { Spacing::default() };
    let spacing = request.spacing.unwrap_or(SpacingConfig::Laid(usual)).laid("score.spacing")?;
    let schedule = space.schedule();
    match spacing.trajectory(schedule, request.steps).filter(|_| levels) {
        Some(trajectory) => trajectory,
        None => spacing.sampling_grid(schedule, request.steps),
    }
}

/// Log-likelihoods of rows under a model without data and columns; `knows` says whether it knows
/// `G`, and `stopped` whether it is to be asked no more.
pub fn estimate(
    model: &dyn Denoiser,
    knows: bool,
    x: &Tensor,
    request: &ScoreOptions,
    stopped: &dyn Fn() -> bool,
) -> Result<Estimate> {
    request.check()?;
    let seed = Seed(request.seed);
    let batch = request.batch_size.unwrap_or(BATCH);
    Error::check_count("score.batch_size", batch, 1 << 24)?;
    let usual = if knows { CovarianceConfig::Own } else { CovarianceConfig::Beta };
    let covariance = covariance(request.covariance, usual, knows)?;
    let divergence =
        request.divergence.map(|kind| kind.with(request.probes, PROBES)).transpose()?;
    let method = request.estimator.method();
    let grid = if method.has_steps() { grid(request, model.space())? } else { Vec::new() };
    let settings = Estimation {
        estimator: request.estimator,
        draws: request.draws.max(method.least_draws()),
        divergence,
        solver: request.solver.clone(),
        keep_unsolved: true,
        ..Estimation::elbo(covariance, grid)
    };
    let estimator = settings.build(model)?;
    let rows = Batch::of(x);
    let mut go_on = |_: usize| match stopped() {
        true => Err(Error::Interrupted("stopped".into())),
        false => Ok(()),
    };
    // each draw with the noise that it has of a run
    let draws = (0..method.repeats(&settings)).map(|draw| {
        let seed = seed.derive(&format!("draw {draw}"));
        estimator.in_batches(&rows, seed, batch, &mut go_on)
    });
    Ok(mean(draws.collect::<Result<_>>()?))
}

/// The mean of several draws of the same rows; of one draw the draw itself.
fn mean(mut draws: Vec<Estimate>) -> Estimate {
    let mut mean = draws[0].clone();
    if draws.len() > 1 {
        for row in 0..mean.values.len() {
            let values: Vec<f64> = draws.iter().map(|draw| draw.values[row]).collect();
            (mean.values[row], mean.std_errors[row]) = mean_and_error(&values);
        }
        mean.evaluations = draws.iter().map(|draw| draw.evaluations).sum();
        mean.flags = draws.drain(..).flat_map(|draw| draw.flags).collect();
    }
    mean
}

/// Log-likelihoods of the rows of a tensor of torch `[n, d]` under a model that is asked.
#[pyfunction]
pub fn likelihood<'py>(
    py: Python<'py>,
    model: Py<PyAny>,
    x: &Bound<'py, PyAny>,
    schedule: &str,
    request: &str,
) -> PyResult<Bound<'py, PyDict>> {
    let (schedule, request): (ScheduleConfig, ScoreOptions) =
        (options(schedule)?, options(request)?);
    let rows = shared(x)?;
    let found = detached(py, move || {
        let schedule = schedule.build().map_err(exception)?;
        let kind = if rows.kind() == Kind::Double { Kind::Double } else { Kind::Float };
        let space = Space { dim: rows.size()[1], schedule, kind, device: rows.device() };
        let model = Asked { space, model, raised: RefCell::new(None) };
        let found = estimate(&model, false, &rows, &request, &|| model.raised.borrow().is_some());
        match model.raised.take() {
            Some(error) => Err(error),
            None => found.map_err(exception),
        }
    })?;
    answer(py, found)
}

/// An estimate as a dictionary.
pub fn answer(py: Python<'_>, found: Estimate) -> PyResult<Bound<'_, PyDict>> {
    let answer = PyDict::new(py);
    answer.set_item("claim", found.claim.to_string())?;
    answer.set_item("estimator", found.estimator)?;
    answer.set_item("values", found.values.into_pyarray(py))?;
    answer.set_item("std_errors", found.std_errors.into_pyarray(py))?;
    answer.set_item("evaluations", found.evaluations)?;
    let flags = found.flags.into_iter().map(|flag| (flag.row, flag.reason));
    answer.set_item("flags", flags.collect::<Vec<_>>())?;
    Ok(answer)
}

/// `α_t` and `σ_t` at these times of a schedule, the last time and the number of its steps.
#[pyfunction]
pub fn schedule<'py>(
    py: Python<'py>,
    schedule: &str,
    times: PyReadonlyArray1<'py, f64>,
) -> PyResult<(Bound<'py, PyArray1<f64>>, Bound<'py, PyArray1<f64>>, f64, usize)> {
    let schedule: ScheduleConfig = options(schedule)?;
    let schedule = schedule.build().map_err(exception)?;
    let of = |f: &dyn Fn(f64) -> f64| {
        times.as_array().iter().map(|&t| f(t)).collect::<Vec<_>>().into_pyarray(py)
    };
    let (alpha, sigma) = (of(&|t| schedule.alpha(t)), of(&|t| schedule.sigma(t)));
    Ok((alpha, sigma, schedule.horizon(), schedule.steps()))
}
