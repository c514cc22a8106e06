//! Exact models: mixtures of Gaussians under a forward process.

use std::sync::Arc;

use numpy::{IntoPyArray, PyArray1, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tweedie::covariance::{CovarianceConfig, CovarianceSources};
use tweedie::density::{SampleOptions, ScoreOptions};
use tweedie::model::Denoiser;
use tweedie::noise::Seed;
use tweedie::oracle::{self, GaussianMixture, MixtureParameters};
use tweedie::query::{Query, Times};
use tweedie::sample::{Ancestral, LastStep, run_chain};
use tweedie::schedule::{Schedule, ScheduleConfig};
use tweedie::tch::Tensor;
use tweedie::tensor::to_vec;

use crate::errors::{detached, exception, options};
use crate::likelihood::{answer, estimate};

/// A mixture as the exact model of itself.
#[pyclass(frozen, module = "tweedie._engine")]
pub struct Oracle {
    parameters: MixtureParameters,
    schedule: ScheduleConfig,
}

impl Oracle {
    fn model(&self) -> PyResult<oracle::Oracle> {
        let mixture = GaussianMixture::from_parameters(&self.parameters).map_err(exception)?;
        let schedule: Arc<dyn Schedule> = self.schedule.build().map_err(exception)?;
        Ok(oracle::Oracle::new(mixture, schedule))
    }

    /// Samples of the chain of reverse steps, row after row.
    fn chain(&self, n: usize, request: &SampleOptions) -> PyResult<Vec<f64>> {
        let model = self.model()?;
        let schedule = model.space().schedule();
        let run = || -> tweedie::Result<Tensor> {
            let chosen = request.covariance.unwrap_or(CovarianceConfig::Own);
            let covariance = chosen.build(&CovarianceSources::default())?;
            let eta = request.eta.unwrap_or(1.0);
            let step = Ancestral::new(&model, covariance, eta, LastStep::Noise)?;
            let spacing = request.spacing.unwrap_or_default().laid("sample.spacing")?;
            let grid = spacing.sampling_grid(schedule, request.steps)?;
            run_chain(&step, &grid, Seed(request.seed), 0..n as u64, None)
        };
        Ok(to_vec(&run().map_err(exception)?))
    }

    /// Rows of the mixture's columns.
    fn rows(&self, x: &PyReadonlyArray2<'_, f64>) -> PyResult<Tensor> {
        let (n, d) = (x.shape()[0], x.shape()[1]);
        let own = self.parameters.means[0].len();
        if d != own || n == 0 {
            let text = format!("x is [n, {own}] with at least one row, found {n} x {d}");
            return Err(PyValueError::new_err(text));
        }
        let values: Vec<f64> = x.as_array().iter().copied().collect();
        Ok(Tensor::from_slice(&values).view([n as i64, d as i64]))
    }
}

/// Whether Ctrl-C was pressed; between two batches.
fn interrupted() -> bool {
    Python::attach(|py| py.check_signals().is_err())
}

#[pymethods]
impl Oracle {
    /// Weights `[K]`, means `[K][d]` and covariances `[K][d d]`.
    #[new]
    fn new(
        weights: Vec<f64>,
        means: Vec<Vec<f64>>,
        covariances: Vec<Vec<f64>>,
        schedule: &str,
    ) -> PyResult<Oracle> {
        let d = means.first().map_or(0, Vec::len);
        let whole = weights.len() == means.len() && means.len() == covariances.len() && d > 0;
        let square = covariances.iter().all(|matrix| matrix.len() == d * d);
        if !whole || !square || means.iter().any(|mean| mean.len() != d) {
            return Err(PyValueError::new_err(
                "a mixture: weights, means and covariances differ in size",
            ));
        }
        let parameters = MixtureParameters { weights, means, covariances };
        let oracle = Oracle { parameters, schedule: options(schedule)? };
        oracle.model()?;
        Ok(oracle)
    }

    /// `ln p(x)`, or `ln p_t(x)` at a time.
    #[pyo3(signature = (x, t=None))]
    fn log_prob<'py>(
        &self,
        py: Python<'py>,
        x: PyReadonlyArray2<'py, f64>,
        t: Option<f64>,
    ) -> PyResult<Bound<'py, PyArray1<f64>>> {
        let x = self.rows(&x)?;
        let found = detached(py, move || {
            let model = self.model()?;
            let schedule = model.space().schedule();
            Ok(to_vec(&match t {
                None => model.mixture.log_density(&x),
                Some(t) => model.mixture.log_density_at(&x, schedule, &Times::All(t)),
            }))
        })?;
        Ok(found.into_pyarray(py))
    }

    /// `n` rows of the mixture itself, flat.
    fn draw<'py>(
        &self,
        py: Python<'py>,
        n: usize,
        seed: u64,
    ) -> PyResult<Bound<'py, PyArray1<f64>>> {
        let drawn = detached(py, || Ok(to_vec(&self.model()?.mixture.sample(n, Seed(seed)))))?;
        Ok(drawn.into_pyarray(py))
    }

    /// `E[ε|x_t]`, flat, and `Cov[ε|x_t]` `[n d d]`, flat.
    fn moments<'py>(
        &self,
        py: Python<'py>,
        x: PyReadonlyArray2<'py, f64>,
        t: f64,
    ) -> PyResult<(Bound<'py, PyArray1<f64>>, Bound<'py, PyArray1<f64>>)> {
        let x = self.rows(&x)?;
        let (noise, covariance) = detached(py, move || {
            let times = Times::All(t);
            let moments = self.model()?.moments(&Query::new(&x, &times));
            Ok((to_vec(&moments.noise), to_vec(&moments.cov.to_dense())))
        })?;
        Ok((noise.into_pyarray(py), covariance.into_pyarray(py)))
    }

    /// `n` samples of the chain of reverse steps, flat.
    fn sample<'py>(
        &self,
        py: Python<'py>,
        n: usize,
        request: &str,
    ) -> PyResult<Bound<'py, PyArray1<f64>>> {
        let request: SampleOptions = options(request)?;
        request.check().map_err(exception)?;
        let rows = detached(py, || self.chain(n, &request))?;
        Ok(rows.into_pyarray(py))
    }

    /// Log-likelihoods of rows, as of a user's own model.
    fn likelihood<'py>(
        &self,
        py: Python<'py>,
        x: PyReadonlyArray2<'py, f64>,
        request: &str,
    ) -> PyResult<Bound<'py, PyDict>> {
        let request: ScoreOptions = options(request)?;
        let x = self.rows(&x)?;
        let found = detached(py, move || {
            let model = self.model()?;
            estimate(&model, true, &x, &request, &interrupted).map_err(exception)
        })?;
        answer(py, found)
    }
}
