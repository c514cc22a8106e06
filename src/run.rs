//! A run directory: everything about one trained model, on disk.
//!
//! | file | what |
//! |---|---|
//! | `config.toml` | the complete configuration, every default spelled out |
//! | `data.json` | columns, scaling, split, fingerprint of the training data |
//! | `base.json` | the base distribution |
//! | `ema.safetensors` | the parameters to use: best by validation, else the moving average |
//! | `model.safetensors` | the parameters of the last step |
//! | `state.safetensors` | what `--resume` needs, in one file so that it is never half new |
//! | `metrics.jsonl` | one line per 100 steps |
//! | `dequantizer.safetensors` | the variational dequantiser, where one was learned |
//! | `samples/…png` | of images, samples at every validation |
//!
//! Every file is written beside its name and renamed: a kill at any moment leaves the old one or the new one. A new
//! checkpoint takes the place of the old one, and is read only if its checksum is right.

mod checkpoint;
mod config;
mod data;
mod dequantizer;
mod exchange;
mod import;
mod training;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use crate::covariance::NoiseStatistics;
use crate::data::OutputFile;
use crate::model::{Base, BaseKind, Denoiser, Model};
use crate::noise::Seed;
use crate::oracle::{GaussianMixture, MixtureParameters};
use crate::tensor::to_vec;
use crate::train::{Metric, State};
use crate::{Error, Result};
pub use config::{DataConfig, RunConfig};
use data::in_words;
pub use data::{DataRecord, Prepared, TableRows, dequantized_rows, level_rows, scaled_rows};
pub use exchange::{read_unet, write_unet};
pub use import::{export, import};
pub use training::Training;

/// A run directory.
#[derive(Clone, Debug)]
pub struct RunDir {
    path: PathBuf,
}

/// A finished (or interrupted) run, ready to be sampled and scored.
pub struct Run {
    /// Where it came from.
    pub dir: RunDir,
    /// How it was made.
    pub config: RunConfig,
    /// The data it was made from.
    pub data: DataRecord,
    /// The model with the parameters to use.
    pub model: Model,
}

/// `base.json` of an isotropic base; that of any other is a mixture's parameters.
#[derive(Serialize, Deserialize)]
struct Isotropic {
    mean: Vec<f64>,
    variance: f64,
}

const RETRAIN: &str = "train again, or restore the file from a copy of the run";

fn base_to_json(base: &Base) -> serde_json::Value {
    match base {
        Base::Isotropic { mean, variance } => {
            serde_json::to_value(Isotropic { mean: to_vec(mean), variance: *variance })
        }
        Base::Mixture(mixture) => serde_json::to_value(mixture.parameters()),
    }
    .expect("plain data")
}

fn base_from_json(value: serde_json::Value, kind: BaseKind) -> std::result::Result<Base, String> {
    let unread = |e| format!("cannot be read: {e}");
    if kind == BaseKind::Isotropic {
        let Isotropic { mean, variance } = serde_json::from_value(value).map_err(unread)?;
        if mean.is_empty() || !(variance > 0.0 && variance.is_finite()) {
            return Err(format!("has {} means and the variance {variance}", mean.len()));
        }
        return Ok(Base::Isotropic { mean: Tensor::from_slice(&mean), variance });
    }
    let parameters: MixtureParameters = serde_json::from_value(value).map_err(unread)?;
    let mixture = GaussianMixture::from_parameters(&parameters).map_err(|e| e.to_string())?;
    Ok(Base::Mixture(mixture))
}

/// Where a run keeps what was measured of its noise, and at how many times that is.
const STATISTICS: &str = "noise-statistics.json";
const STATISTICS_TIMES: usize = 200;
const HEAD_START: &str = "head-start.json";

/// Training rows that the analytic covariance of rows of `columns` numbers is measured on: it averages over both.
pub fn statistics_rows(columns: usize) -> usize {
    (100_000 / columns.max(1)).clamp(100, 1000)
}

/// Writes a JSON file, whole or not at all.
fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    OutputFile::create(path)?.finish(&serde_json::to_vec_pretty(value).expect("plain data"))
}

impl RunDir {
    /// A new run directory; its parents are made. An existing run is never overwritten.
    pub fn create(path: impl AsRef<Path>) -> Result<RunDir> {
        let path = path.as_ref();
        if path.join("config.toml").exists() {
            return Err(Error::config(
                "--out",
                format!("{} already holds a run", path.display()),
                "give --resume to go on with it, or another directory",
            ));
        }
        std::fs::create_dir_all(path).map_err(Error::io(path))?;
        let dir = RunDir { path: path.to_owned() };
        // fails now, not after the training, where the directory cannot be written
        OutputFile::create(dir.file("state.safetensors"))?;
        Ok(dir)
    }

    /// An existing run directory.
    pub fn open(path: impl AsRef<Path>) -> Result<RunDir> {
        let path = path.as_ref();
        if !path.join("config.toml").is_file() {
            return Err(Error::checkpoint(
                path,
                "is not a run directory (it has no config.toml)",
                "give the directory that `tweedie train --out` wrote",
            ));
        }
        Ok(RunDir { path: path.to_owned() })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file of the run.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        OutputFile::create(self.file(name))?.finish(bytes)
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.file(name);
        std::fs::read(&path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => Error::checkpoint(&path, "is missing", RETRAIN),
            _ => Error::Io { path: path.clone(), source },
        })
    }

    fn write_json(&self, name: &str, value: &impl Serialize) -> Result<()> {
        write_json(&self.file(name), value)
    }

    fn read_json<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        serde_json::from_slice(&self.read(name)?)
            .map_err(|e| Error::checkpoint(self.file(name), format!("cannot be read: {e}"), RETRAIN))
    }

    /// Writes data record and base, which do not change while training.
    pub fn write_setup(&self, data: &DataRecord, base: &Base) -> Result<()> {
        self.write_json("data.json", data)?;
        self.write_json("base.json", &base_to_json(base))
    }

    /// Writes the configuration: last of all, after the first checkpoint, since a directory that has it is a run and
    /// can be resumed. Paths of data are written as absolute ones.
    pub fn write_config(&self, config: &RunConfig) -> Result<()> {
        let config = RunConfig { data: config.data.absolute(), ..config.clone() };
        self.write("config.toml", config.to_toml().as_bytes())
    }

    /// The configuration.
    pub fn config(&self) -> Result<RunConfig> {
        RunConfig::from_toml(&String::from_utf8_lossy(&self.read("config.toml")?), &self.file("config.toml"))
    }

    /// The data record.
    pub fn data(&self) -> Result<DataRecord> {
        self.read_json("data.json")
    }

    /// The base distribution.
    pub fn base(&self, config: &RunConfig) -> Result<Base> {
        base_from_json(self.read_json("base.json")?, config.base.kind)
            .map_err(|problem| Error::checkpoint(self.file("base.json"), problem, RETRAIN))
    }

    /// The untrained model of this run.
    pub fn initial_model(&self, config: &RunConfig, device: Device) -> Result<Model> {
        let base = self.base(config)?;
        let seed = Seed(config.seed).derive("initialisation");
        let mut model = config.model.init(base, config.schedule.build()?, device, seed)?;
        if config.model.starts_from_measurement() {
            model.set_head_start(self.statistics(HEAD_START, RETRAIN)?);
        }
        Ok(model)
    }

    /// Writes what the outputs of a head with [`crate::model::HeadStart::Analytic`] correct: part of the model, as the base is.
    pub fn write_head_start(&self, statistics: &NoiseStatistics) -> Result<()> {
        self.write_json(HEAD_START, statistics)
    }

    /// What was measured of a score.
    fn statistics(&self, file: &str, remedy: &str) -> Result<NoiseStatistics> {
        let statistics: NoiseStatistics = self.read_json(file)?;
        match statistics.problem() {
            Some(problem) => Err(Error::checkpoint(self.file(file), problem, remedy)),
            None => Ok(statistics),
        }
    }

    /// Writes what is needed to resume, then the parameters to use. What was measured of others is no longer true.
    pub fn checkpoint(&self, model: &Model, state: &State) -> Result<()> {
        let statistics = self.file(STATISTICS);
        match std::fs::remove_file(&statistics) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io(&statistics)(e)),
            _ => (),
        }
        self.write("state.safetensors", &checkpoint::state_bytes(state))?;
        let entries = model.parameters().entries();
        let about = [("iteration", state.iteration.to_string())];
        self.write(
            "model.safetensors",
            &checkpoint::parameter_bytes(entries, model.parameters().flat(), &about),
        )?;
        self.write("ema.safetensors", &checkpoint::parameter_bytes(entries, state.product(), &about))
    }

    /// The state to resume from.
    pub fn state(&self, model: &Model) -> Result<State> {
        checkpoint::read_state(&self.read("state.safetensors")?, model)
            .map_err(|problem| Error::checkpoint(self.file("state.safetensors"), problem, RETRAIN))
    }

    /// Writes a picture of samples at `iteration`.
    pub fn write_sheet(&self, iteration: u64, png: &[u8]) -> Result<()> {
        let dir = self.file("samples");
        std::fs::create_dir_all(&dir).map_err(Error::io(&dir))?;
        OutputFile::create(dir.join(format!("{iteration:08}.png")))?.finish(png)
    }

    /// Appends to `metrics.jsonl`.
    pub fn append_metric(&self, metric: &Metric) -> Result<()> {
        let path = self.file("metrics.jsonl");
        let line = serde_json::to_string(metric).expect("plain data") + "\n";
        let mut file =
            std::fs::OpenOptions::new().create(true).append(true).open(&path).map_err(Error::io(&path))?;
        file.write_all(line.as_bytes()).map_err(Error::io(&path))
    }

    /// The metrics so far; a line cut short by a kill is left out.
    pub fn metrics(&self) -> Result<Vec<Metric>> {
        let path = self.file("metrics.jsonl");
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(Error::Io { path, source }),
        }
    }

    /// Drops the metrics after `iteration`: those of steps that a resumed training does again.
    pub fn truncate_metrics(&self, iteration: u64) -> Result<()> {
        let kept = self.metrics()?.into_iter().filter(|m| m.iteration <= iteration);
        let text: String = kept.map(|m| serde_json::to_string(&m).expect("plain data") + "\n").collect();
        self.write("metrics.jsonl", text.as_bytes())
    }
}

impl Run {
    /// Loads a run for use on `device`.
    pub fn load(path: impl AsRef<Path>, device: Device) -> Result<Run> {
        let dir = RunDir::open(path)?;
        let config = dir.config()?;
        let data = dir.data()?;
        let model = dir.initial_model(&config, device)?;
        if model.dim() != data.scaling.dim() as i64 {
            let problem = format!("has {} columns, base.json {}", data.scaling.dim(), model.dim());
            return Err(Error::checkpoint(dir.file("data.json"), problem, RETRAIN));
        }
        if model.classes() != data.classes.len() as i64 {
            let problem = format!("has {} classes, the model {}", data.classes.len(), model.classes());
            return Err(Error::checkpoint(dir.file("data.json"), problem, RETRAIN));
        }
        let file = dir.file("ema.safetensors");
        let bytes = match dir.read("ema.safetensors") {
            Err(Error::Checkpoint { .. }) => {
                return Err(Error::checkpoint(
                    dir.path(),
                    "has no checkpoint yet",
                    "let the training reach its first checkpoint, or go on with `tweedie train --resume`",
                ));
            }
            bytes => bytes?,
        };
        let flat = checkpoint::read_parameters(&bytes, model.parameters())
            .map_err(|problem| Error::checkpoint(&file, problem, RETRAIN))?;
        model.parameters().assign(&flat.to_device(device));
        let mut run = Run { dir, config, data, model };
        if run.dir.file(STATISTICS).exists() {
            let remedy = "delete it: it is measured anew when it is needed";
            run.model.set_noise_statistics(run.dir.statistics(STATISTICS, remedy)?);
        }
        Ok(run)
    }

    /// Measures `E‖ε − ε̂‖²` on [`statistics_rows`] training rows for [`crate::covariance::Covariance::Analytic`] and keeps it with
    /// the run.
    ///
    /// # Errors
    /// If the training data are not at hand or no longer the same, or the run is conditioned on classes.
    pub fn measure_noise(&mut self, batch: usize) -> Result<&NoiseStatistics> {
        let prepared = self.prepared().ok_or_else(|| {
            let source = &self.config.data.source;
            let problem = format!(
                "analytic needs the training data, and {source} is not at hand or no longer the same"
            );
            Error::config("covariance", problem, "restore the data, or take another covariance")
        })?;
        let statistics = self.statistics_on(&prepared, batch)?;
        self.dir.write_json(STATISTICS, &statistics)?;
        self.model.set_noise_statistics(statistics);
        Ok(self.model.noise_statistics().expect("just set"))
    }

    /// What [`Run::measure_noise`] measures, on the training rows of `prepared`.
    ///
    /// # Errors
    /// If the run is conditioned on classes, or not finite.
    pub fn statistics_on(&self, prepared: &Prepared, batch: usize) -> Result<NoiseStatistics> {
        if self.model.classes() > 0 {
            let problem = "analytic, of a model conditioned on classes";
            return Err(Error::config("covariance", problem, "take another"));
        }
        let seed = Seed(self.config.seed).derive("noise statistics");
        let rows = prepared.training_rows(statistics_rows(self.data.scaling.dim()), seed.derive("rows"));
        NoiseStatistics::measure(&self.model, &rows, STATISTICS_TIMES, batch, seed)
    }

    /// Gives an imported run the data that its model is of: what it is judged on, and what a head on it is trained on.
    ///
    /// # Errors
    /// If the data are of another shape or with other classes, or the run has other data.
    pub fn give_data(&mut self, data: DataConfig) -> Result<()> {
        let prepared = Prepared::read(&data, self.config.seed)?;
        let record = prepared.record;
        if record.image != self.data.image || record.scaling != self.data.scaling {
            let (found, own) = (in_words(record.image), in_words(self.data.image));
            let problem = format!("{} holds {found}, the model is of {own}", data.source);
            return Err(Error::config(
                "--data",
                problem,
                "give images of its shape, or bring them to it with --size",
            ));
        }
        if record.classes.len() != self.data.classes.len() {
            let problem = format!(
                "{} holds {} classes, the model has {}",
                data.source,
                record.classes.len(),
                self.data.classes.len()
            );
            return Err(Error::config("--data", problem, "give images of its classes"));
        }
        let own = &self.data.fingerprint;
        if !own.is_empty() && *own != record.fingerprint {
            let problem = format!("{} has other data: {}", self.dir.path().display(), self.data.source);
            return Err(Error::config("--data", problem, "give those, or another directory"));
        }
        (self.config.data, self.data) = (data, record);
        self.dir.write_json("data.json", &self.data)?;
        self.dir.write_config(&self.config)
    }

    /// The data that the run was trained on, read and dealt again, where they are at hand and still the same.
    pub fn prepared(&self) -> Option<Prepared> {
        let read = |data: &DataConfig| Prepared::read(data, self.config.seed).ok();
        // run and data may have been moved together: then the path as it was typed may hold
        let typed = DataConfig { source: self.data.source.clone(), ..self.config.data.clone() };
        let own = read(&self.config.data)
            .or_else(|| (typed != self.config.data).then(|| read(&typed)).flatten())?;
        (own.record.fingerprint == self.data.fingerprint).then_some(own)
    }

    /// What has to be said beside every figure of this run, a sentence each.
    pub fn remarks(&self) -> Vec<String> {
        self.data.remarks.clone()
    }

    /// The schedule of the run.
    pub fn schedule(&self) -> &Arc<dyn crate::schedule::Schedule> {
        self.model.schedule()
    }
}
