//! A density for Python: every method is one call of the library's on the thread of its model.

use std::path::PathBuf;

use numpy::{IntoPyArray, PyArray1, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde_json::json;
use tweedie::data::Dataset;
use tweedie::density::{self, DecodeOptions, EncodeOptions, Latents};
use tweedie::density::{EvaluateOptions, FillOptions, FitOptions, SampleOptions, ScoreOptions};
use tweedie::objective::PRESETS;
use tweedie::run::{Layer, RunConfig, RunDir};
use tweedie::tch::{Device, Tensor};
use tweedie::tensor::to_vec;
use tweedie::watch::Watch;
use tweedie::{Error, Result, device};

use crate::errors::{exception, options};
use crate::likelihood::answer;
use crate::report::Reporter;
use crate::rows::{Content, Rows};
use crate::worker::Worker;

/// A fitted model, or one to be.
#[pyclass(frozen, module = "tweedie._engine")]
pub struct Density {
    worker: Worker,
}

/// Whoever wants to hear how far the work is.
type Callback<'a, 'py> = Option<&'a Bound<'py, PyAny>>;

impl Density {
    /// What `work` returns of the density.
    fn with<T: Send + 'static>(
        &self,
        py: Python<'_>,
        callback: Callback,
        work: impl FnOnce(&density::Density, &mut Reporter) -> Result<T> + Send + 'static,
    ) -> PyResult<T> {
        if !self.worker.is_here() {
            let text = "the model belongs to the process that this one was forked from: pickle it, \
                        or load it here";
            return Err(PyRuntimeError::new_err(text));
        }
        let work = move |held: &mut Option<density::Density>, reporter: &mut Reporter| match held {
            Some(density) => work(density, reporter),
            None => Err(Error::config("model", "there is none", "fit or load one first")),
        };
        self.worker.call(py, callback, work)
    }
}

impl Density {
    /// A density that `load` makes on a device.
    fn loaded(
        py: Python<'_>,
        device: &str,
        load: impl FnOnce(Device) -> Result<density::Density> + Send + 'static,
    ) -> PyResult<Density> {
        let (worker, device) = (Worker::new(), device.to_owned());
        worker.call(py, None, move |held, _| {
            *held = Some(load(device::open(&device)?)?);
            Ok(())
        })?;
        Ok(Density { worker })
    }
}

/// Rows with the columns of a density.
fn rows_of(density: &density::Density, content: &Content) -> Result<Dataset> {
    content.read(|path| density.read(path))
}

#[pymethods]
impl Density {
    /// No model yet.
    #[new]
    fn new() -> Density {
        Density { worker: Worker::new() }
    }

    /// Fits the model to rows in memory, as `tweedie train` does. A training that is stopped leaves
    /// the model that it had come to.
    #[pyo3(signature = (rows, request, objective=None, out=None, callback=None))]
    fn fit(
        &self,
        py: Python<'_>,
        rows: &Rows,
        request: &str,
        objective: Option<&str>,
        out: Option<PathBuf>,
        callback: Callback,
    ) -> PyResult<()> {
        let mut request: FitOptions = options(request)?;
        if let Some(name) = objective {
            request.layers.insert(0, objective_layer(name).map_err(exception)?);
        }
        let content = rows.0.clone();
        self.worker.call(py, callback, move |held, reporter| {
            *held = None;
            let (fitted, error) = fit(&content, &request, out, reporter)?;
            *held = Some(fitted);
            error.map_or(Ok(()), Err)
        })
    }

    /// Loads the run in the directory `path`.
    #[staticmethod]
    fn load(py: Python<'_>, path: PathBuf, device: &str) -> PyResult<Density> {
        Density::loaded(py, device, |device| density::Density::load_on(path, device))
    }

    /// Loads a model of diffusers from its folder.
    #[staticmethod]
    fn import_diffusers(py: Python<'_>, path: PathBuf, device: &str) -> PyResult<Density> {
        Density::loaded(py, device, |device| density::Density::import(path, device))
    }

    /// Whether there is a model, of this process.
    fn is_fitted(&self, py: Python<'_>) -> bool {
        self.with(py, None, |_, _| Ok(())).is_ok()
    }

    /// Writes the run to a new directory.
    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        self.with(py, None, move |density, _| density.save(path))
    }

    /// What the model is, in JSON.
    fn describe(&self, py: Python<'_>) -> PyResult<String> {
        self.with(py, None, |density, _| {
            let run = density.run();
            let status = run.dir.status()?;
            let columns = run.data.schema.as_ref().map(|schema| schema.lines());
            Ok(json!({
                "path": run.dir.path(), "names": run.data.names(), "columns": columns,
                "image": run.data.image, "context": run.data.context, "config": run.config,
                "status": status, "remarks": run.remarks(),
            })
            .to_string())
        })
    }

    /// Log-likelihoods, as [`answer`] has them.
    #[pyo3(signature = (rows, request, callback=None))]
    fn score<'py>(
        &self,
        py: Python<'py>,
        rows: &Rows,
        request: &str,
        callback: Callback<'_, 'py>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let request: ScoreOptions = options(request)?;
        let content = rows.0.clone();
        let scores = self.with(py, callback, move |density, reporter| {
            let data = rows_of(density, &content)?;
            Ok(density.log_prob_with(&data, &request, reporter)?.estimate)
        })?;
        answer(py, scores)
    }

    /// Scores of held-out rows in rising order: of `rows`, or of the run's validation rows.
    #[pyo3(signature = (rows, most, request, callback=None))]
    fn calibration<'py>(
        &self,
        py: Python<'py>,
        rows: Option<&Rows>,
        most: usize,
        request: &str,
        callback: Callback<'_, 'py>,
    ) -> PyResult<Bound<'py, PyArray1<f64>>> {
        let request: ScoreOptions = options(request)?;
        let content = rows.map(|rows| rows.0.clone());
        let scores = self.with(py, callback, move |density, reporter| {
            let data = content.map(|content| rows_of(density, &content)).transpose()?;
            let found = density.calibration(data.as_ref(), most, &request, reporter)?;
            Ok(found.scores().to_vec())
        })?;
        Ok(scores.into_pyarray(py))
    }

    /// `n` samples; with `given`, pairs of a column and a cell as a file has it, of the others given
    /// these.
    #[pyo3(signature = (n, request, given=Vec::new(), callback=None))]
    fn sample(
        &self,
        py: Python<'_>,
        n: usize,
        request: &str,
        given: Vec<(String, String)>,
        callback: Callback,
    ) -> PyResult<Rows> {
        let request: SampleOptions = options(request)?;
        let content = self.with(py, callback, move |density, reporter| {
            let samples = match &given[..] {
                [] => density.sample_with(n, &request, reporter)?,
                given => {
                    density.sample_given(&density.given_rows(given, n)?, &request, reporter)?
                }
            };
            let Some(shape) = samples.image.filter(|_| samples.latents.is_none()) else {
                return Ok(Content::from(samples.record_batch()));
            };
            let level = |value: &f64| value.round().clamp(0.0, 255.0) as u8;
            let classes = samples.labels.as_ref().map(|labels| {
                let name = |&class: &u32| labels.names[class as usize].clone();
                labels.of_rows.iter().map(name).collect()
            });
            Ok(Content::Images(shape, samples.values.iter().map(level).collect(), classes))
        })?;
        Ok(Rows(content))
    }

    /// The rows of a table that has some of the columns, with all that is missing filled in.
    #[pyo3(signature = (rows, fill, request, callback=None))]
    fn fill(
        &self,
        py: Python<'_>,
        rows: &Rows,
        fill: &str,
        request: &str,
        callback: Callback,
    ) -> PyResult<Rows> {
        let (fill, request): (FillOptions, SampleOptions) = (options(fill)?, options(request)?);
        let content = rows.0.clone();
        let filled = self.with(py, callback, move |density, reporter| {
            let data = content.read(|path| density.given_file(path))?;
            let filled = density.fill_with(&data, &fill, &request, reporter)?;
            Ok(Content::from(filled.record_batch()))
        })?;
        Ok(Rows(filled))
    }

    /// What is found of the density on test rows, in JSON as `tweedie evaluate --json` prints it.
    #[pyo3(signature = (rows, request, callback=None))]
    fn evaluate(
        &self,
        py: Python<'_>,
        rows: Option<&Rows>,
        request: &str,
        callback: Callback,
    ) -> PyResult<String> {
        let request: EvaluateOptions = options(request)?;
        let content = rows.map(|rows| rows.0.clone());
        self.with(py, callback, move |density, reporter| {
            let rows = match content {
                None if !request.needs_rows(density) => None,
                None => Some(density.test_rows(None, None)?),
                Some(content) => Some(density.rows_to_judge(rows_of(density, &content)?)?),
            };
            let found = density.evaluate_with(rows.as_ref(), None, &request, reporter)?;
            Ok(tweedie_cli::evaluation_json(&found).to_string())
        })
    }

    /// Latents of the probability flow, flat.
    #[pyo3(signature = (rows, request, callback=None))]
    fn encode<'py>(
        &self,
        py: Python<'py>,
        rows: &Rows,
        request: &str,
        callback: Callback<'_, 'py>,
    ) -> PyResult<Bound<'py, PyArray1<f64>>> {
        let request: EncodeOptions = options(request)?;
        let content = rows.0.clone();
        let latents = self.with(py, callback, move |density, reporter| {
            let latents = density.encode_with(&rows_of(density, &content)?, &request, reporter)?;
            Ok(to_vec(&latents.values))
        })?;
        Ok(latents.into_pyarray(py))
    }

    /// The rows of latents `[n, d]`.
    #[pyo3(signature = (latents, request, callback=None))]
    fn decode(
        &self,
        py: Python<'_>,
        latents: PyReadonlyArray2<'_, f64>,
        request: &str,
        callback: Callback,
    ) -> PyResult<Rows> {
        let request: DecodeOptions = options(request)?;
        let (n, d) = (latents.shape()[0], latents.shape()[1]);
        let values: Vec<f64> = latents.as_array().iter().copied().collect();
        if let Some(place) = values.iter().position(|value| !value.is_finite()) {
            let text = format!("latents: row {}: {}", place / d + 1, values[place]);
            return Err(PyValueError::new_err(text));
        }
        let content = self.with(py, callback, move |density, reporter| {
            let own = density.run().data.names().len();
            if own != d {
                let problem = format!("{d} numbers in a row, where the model has {own} columns");
                return Err(Error::config("latents", problem, "give as many"));
            }
            let values = Tensor::from_slice(&values).view([n as i64, d as i64]);
            let (names, classes) = (density.run().data.names(), None);
            let latents = Latents { values, classes, names, round_trip: None };
            Ok(Content::from(density.decode_with(&latents, &request, reporter)?.record_batch()))
        })?;
        Ok(Rows(content))
    }
}

/// The options that an objective of this name sets.
fn objective_layer(name: &str) -> Result<Layer> {
    let preset = PRESETS.iter().find(|preset| preset.name == name).ok_or_else(|| {
        let names: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
        let remedy = format!("give one of {}", names.join(", "));
        Error::config("objective", format!("there is none called {name:?}"), remedy)
    })?;
    Ok(preset.layer())
}

/// The density that a training comes to; where that was stopped, with the error that says so.
fn fit(
    content: &Content,
    request: &FitOptions,
    out: Option<PathBuf>,
    reporter: &mut Reporter,
) -> Result<(density::Density, Option<Error>)> {
    let layers: Vec<_> = request.layers.iter().collect();
    let config = RunConfig::resolve(&layers)?;
    let data = content.read(|path| {
        let mut of_file = config.data.clone();
        of_file.source = path.display().to_string();
        of_file.rows(config.seed)
    })?;
    data.notes.iter().for_each(|note| {
        reporter.say(tweedie::watch::Remark::Note(note.clone()));
    });
    let temporary = match &out {
        Some(_) => None,
        None => Some(tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?),
    };
    let own = temporary.as_ref().map(|dir| dir.path().join("run"));
    let path = out.or(own).expect("one of them is there");
    let request = FitOptions { out: Some(path.clone()), ..request.clone() };
    let (fitted, error) = match density::Density::fit(&data, &request, reporter) {
        Ok(fitted) => (fitted, None),
        Err(Error::Interrupted(text)) if RunDir::open(&path).is_ok() => {
            let fitted = density::Density::load_on(&path, device::open(&request.device)?)?;
            (fitted, Some(Error::Interrupted(text)))
        }
        Err(error) => return Err(error),
    };
    Ok(match temporary {
        Some(dir) => (fitted.with_temporary(dir), error),
        None => (fitted, error),
    })
}
