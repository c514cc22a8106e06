//! A run directory: everything about one trained model, on disk.
//!
//! | file | contents |
//! |---|---|
//! | `config.toml` | the complete configuration, every default spelled out |
//! | `data.json` | columns, scaling, split, fingerprint of the training data |
//! | `base.json` | the base distribution |
//! | `ema.safetensors` | the parameters to use: best by validation, else the moving average |
//! | `model.safetensors` | the parameters of the last step |
//! | `state.safetensors` | what a training goes on from, in one file so that it is never half new |
//! | `metrics.jsonl` | one line per 100 steps |
//! | `dequantizer.safetensors` | the variational dequantiser, where one was learned |
//! | `dequantizer-state.safetensors` | the state that its interrupted training resumes from |
//! | `scheduler.json` | how an imported pipeline samples its model, kept for its export |
//! | `status.json` | how far the training is, and how it ended |
//! | `.lock` | locked while a process writes to the run |
//! | `samples/…png` | of images, samples at every validation |
//! | `about.json` | version, date and command that began the run |
//! | `report.html` | the page that `tweedie report` writes |
//!
//! Every file is written beside its name and renamed: a kill at any moment leaves the old one or
//! the new one. A new checkpoint takes the place of the old one, and is read only if its checksum
//! is right. A symbolic link in the place of a file is replaced and never written through.
//!
//! [`crate::density::Density`] makes and uses runs. Here their files are read one by one:
//!
//! ```
//! use tweedie::model::Denoiser;
//! use tweedie::prelude::*;
//! use tweedie::run::{Run, RunDir};
//! use tweedie::tch::Device;
//!
//! # fn main() -> Result<()> {
//! # use tweedie::data::Values;
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path().join("run");
//! # let column = |k: u32| Values::Double((0..60).map(|i| f64::from(i * k % 61).sqrt()).collect());
//! # let data = Dataset::of_columns(vec![("a".into(), column(7)), ("b".into(), column(11))])?;
//! let options = FitOptions::default().set("base.kind", "gaussian").set("train.iterations", 5);
//! Density::fit(&data, &options, &mut Silent)?.save(&path)?;
//!
//! let dir = RunDir::open(&path)?;
//! assert_eq!(dir.config()?.train.iterations, 5);
//! assert_eq!(dir.data()?.names(), ["a", "b"]);
//! assert_eq!(dir.status()?.expect("a status").iteration, 5);
//! let run = Run::load(&path, Device::Cpu)?;
//! assert_eq!(run.model.space().dim, 2);
//! # Ok(())
//! # }
//! ```

mod about;
mod checkpoint;
mod config;
mod data;
mod dequantizer;
mod exchange;
mod facts;
mod import;
mod layers;
mod lock;
mod presets;
mod schema;
mod setup;
mod status;
mod training;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use crate::covariance::NoiseStatistics;
use crate::data::{Dataset, OutputFile};
use crate::model::{Base, BaseKind, Denoiser, Model};
use crate::noise::Seed;
use crate::oracle::{GaussianMixture, MixtureParameters};
use crate::sample::{SampleOptions, Sampling};
use crate::tensor::to_vec;
use crate::train::{Metric, State, StopReason, Watched};
use crate::{Error, Result};
pub use about::About;
pub use config::{DataConfig, RunConfig};
use data::in_words;
pub use data::{
    DataRecord, Prepared, TableRows, dequantized_from, dequantized_rows, level_rows, scaled_rows,
};
pub use exchange::{read_unet, write_unet};
pub use facts::{Ending, Facts, Outcome};
pub use import::{export, import};
pub use layers::Layer;
pub use status::Status;
pub use training::Training;

/// A run directory.
#[derive(Clone, Debug)]
pub struct RunDir {
    path: PathBuf,
    /// Held by this and its clones, where they may write.
    lock: Option<Arc<lock::Lock>>,
    /// What the parameters belong to, once it is known.
    setup: Arc<OnceLock<checkpoint::Setup>>,
}

/// The files that the holder of the lock writes.
const FILES: [&str; 10] = [
    "config.toml",
    "data.json",
    "base.json",
    "ema.safetensors",
    "model.safetensors",
    "state.safetensors",
    "metrics.jsonl",
    "dequantizer.safetensors",
    dequantizer::STATE,
    status::FILE,
];

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
    /// The rows it was fitted to, where they were given in memory by this process.
    pub(crate) in_memory: Option<Dataset>,
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

/// Training rows that the analytic covariance of rows of `columns` numbers is measured on: it
/// averages over both.
pub fn statistics_rows(columns: usize) -> usize {
    (100_000 / columns.max(1)).clamp(100, 1000)
}

/// Writes a JSON file, whole or not at all.
fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    OutputFile::create(path)?.finish(&serde_json::to_vec_pretty(value).expect("plain data"))
}

impl RunDir {
    /// Refuses a directory that holds a run.
    ///
    /// # Errors
    /// [`Error::Taken`] if it does.
    pub fn check_free(path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        match path.join("config.toml").exists() {
            true => Err(Error::taken(
                path,
                "already holds a run",
                "set fit.resume to go on with it, or give another directory",
            )),
            false => Ok(()),
        }
    }

    /// A new run directory; its parents are made. An existing run is never overwritten, and no
    /// other process can write to the directory as long as this or a clone of it exists. What an
    /// earlier attempt left there is removed.
    ///
    /// # Errors
    /// [`Error::Taken`] if there is a run, or a file that is no run's has the name of one of its
    /// files; [`Error::Busy`] if another process is making one; [`Error::Io`] if the directory cannot
    /// be written.
    pub fn create(path: impl AsRef<Path>) -> Result<RunDir> {
        let path = path.as_ref();
        RunDir::check_free(path)?;
        std::fs::create_dir_all(path).map_err(Error::io(path))?;
        let ours = lock::was_begun(path);
        let mut names = FILES.iter().chain(&[STATISTICS, HEAD_START]);
        if let Some(name) = names.clone().find(|name| !ours && path.join(name).exists()) {
            let problem = format!("holds a file {name}, which no run there wrote");
            return Err(Error::taken(path, problem, "move it away, or give another directory"));
        }
        let mut dir = RunDir { path: path.to_owned(), lock: None, setup: Arc::default() };
        dir.lock()?;
        // the process that had the lock until now may have made one
        RunDir::check_free(path)?;
        names.try_for_each(|name| dir.remove(name))?;
        // fails now, not after the training, where the directory cannot be written
        dir.output("state.safetensors")?;
        Ok(dir)
    }

    /// Writes a copy of the run to another directory, which must not hold one.
    ///
    /// # Errors
    /// As [`RunDir::create`], and if a file cannot be copied.
    pub fn copy_to(&self, path: &Path) -> Result<()> {
        let copy = RunDir::create(path)?;
        let entries = std::fs::read_dir(&self.path).map_err(Error::io(&self.path))?;
        let mut names: Vec<String> = entries
            .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
            .filter(|name| !name.starts_with('.') && self.file(name).is_file())
            .collect();
        // the configuration last: a directory that has it is a run
        names.sort_by_key(|name| name == "config.toml");
        for name in names {
            copy.write(&name, &self.read(&name)?)?;
        }
        Ok(())
    }

    /// An existing run directory.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if it is none, or a training there has not come to its first
    /// checkpoint.
    pub fn open(path: impl AsRef<Path>) -> Result<RunDir> {
        let path = path.as_ref();
        if !path.join("config.toml").is_file() {
            let (problem, remedy) = match (lock::is_locked(path), lock::was_begun(path)) {
                (true, _) => (
                    "has no checkpoint yet: a training is beginning there",
                    "wait until it has begun its first step",
                ),
                (_, true) => (
                    "has no checkpoint: its training ended before the first one, and nothing of it was kept",
                    "start it again as the first time, without fit.resume",
                ),
                _ => (
                    "is not a run directory (it has no config.toml)",
                    "give the directory that a training wrote",
                ),
            };
            return Err(Error::checkpoint(path, problem, remedy));
        }
        Ok(RunDir { path: path.to_owned(), lock: None, setup: Arc::default() })
    }

    /// Keeps other processes from writing to the run as long as this or a clone of it exists, and
    /// removes what killed ones have left half-written.
    ///
    /// # Errors
    /// [`Error::Busy`] if another process writes to the run now; [`Error::Io`] if the directory
    /// cannot be written.
    pub fn lock(&mut self) -> Result<()> {
        if self.lock.is_none() {
            self.lock = Some(Arc::new(lock::Lock::take(&self.path)?));
            lock::sweep(&self.path, &FILES);
            lock::sweep(&self.path, &[HEAD_START]);
            lock::sweep(&self.file("samples"), &["*"]);
        }
        Ok(())
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file of the run.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Opens a file of the run for writing; it takes its name once it is complete. A symbolic link
    /// of that name is replaced, never followed.
    ///
    /// # Errors
    /// [`Error::Io`] if the directory cannot be written.
    pub fn output(&self, name: &str) -> Result<OutputFile> {
        OutputFile::replacing(self.file(name))
    }

    /// Removes a file of the run, if there is one.
    fn remove(&self, name: &str) -> Result<()> {
        match std::fs::remove_file(self.file(name)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io(self.file(name))(e))
            }
            _ => Ok(()),
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.output(name)?.finish(bytes)
    }

    /// Refuses a symbolic link as the run's `name`, where writing would follow it.
    fn refuse_link(&self, name: &str) -> Result<PathBuf> {
        let path = self.file(name);
        match std::fs::symlink_metadata(&path) {
            Ok(found) if found.is_symlink() => {
                let problem = "is a symbolic link, which a run does not write through";
                Err(Error::checkpoint(&path, problem, "delete the link"))
            }
            _ => Ok(path),
        }
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.file(name);
        std::fs::read(&path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => Error::checkpoint(&path, "is missing", RETRAIN),
            _ => Error::Io { path: path.clone(), source },
        })
    }

    fn write_json(&self, name: &str, value: &impl Serialize) -> Result<()> {
        self.write(name, &serde_json::to_vec_pretty(value).expect("plain data"))
    }

    fn read_json<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        serde_json::from_slice(&self.read(name)?).map_err(|e| {
            Error::checkpoint(self.file(name), format!("cannot be read: {e}"), RETRAIN)
        })
    }

    /// Writes what does not change while training, of a run whose configuration will be `config`
    /// ([`RunDir::write_config`]): data record, base, and how this process was called.
    pub fn write_setup(&self, data: &DataRecord, base: &Base, config: &RunConfig) -> Result<()> {
        self.write_json(about::FILE, &About::now())?;
        self.write_json("data.json", &schema::Stamped::new(data, self, &config.data))?;
        self.write_json("base.json", &base_to_json(base))?;
        self.setup_under(&config.to_toml()).map(drop)
    }

    /// Writes the configuration: last of all, after the first checkpoint, since a directory that
    /// has it is a run and can be resumed. Paths of data are written as absolute ones.
    pub fn write_config(&self, config: &RunConfig) -> Result<()> {
        let config = RunConfig { data: config.data.absolute(), ..config.clone() };
        self.write("config.toml", schema::stamped_config(&config.to_toml()).as_bytes())
    }

    /// The configuration.
    pub fn config(&self) -> Result<RunConfig> {
        RunConfig::from_toml(
            &String::from_utf8_lossy(&self.read("config.toml")?),
            &self.file("config.toml"),
        )
    }

    /// The data record.
    ///
    /// # Errors
    /// If it is missing, damaged, or of rows that cannot be: images of another size than its
    /// scaling.
    pub fn data(&self) -> Result<DataRecord> {
        // pixels are written by their number: it is believed where the base has as many means
        #[derive(Deserialize)]
        struct Claim {
            scaling: Pixels,
        }
        #[derive(Deserialize)]
        struct Pixels {
            pixels: Option<u64>,
        }
        let path = self.file("data.json");
        let wrong = |problem: String| Error::checkpoint(&path, problem, RETRAIN);
        let bytes = self.read("data.json")?;
        schema::check_data(&path, &bytes)?;
        let claim: Option<Claim> = serde_json::from_slice(&bytes).ok();
        if let Some(pixels) = claim.and_then(|claim| claim.scaling.pixels)
            && pixels > self.read("base.json")?.len() as u64
        {
            return Err(wrong(format!("claims {pixels} pixels, more than base.json has")));
        }
        let data: DataRecord = self.read_json("data.json")?;
        data.check().map_err(wrong)?;
        Ok(data)
    }

    /// Version, date and command that began the run; none of a run that was begun before these were
    /// kept.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if the file is damaged.
    pub fn about(&self) -> Result<Option<About>> {
        match self.file(about::FILE).exists() {
            true => self.read_json(about::FILE).map(Some),
            false => Ok(None),
        }
    }

    /// The base distribution.
    pub fn base(&self, config: &RunConfig) -> Result<Base> {
        base_from_json(self.read_json("base.json")?, config.base.kind)
            .map_err(|problem| Error::checkpoint(self.file("base.json"), problem, RETRAIN))
    }

    /// The untrained model of this run.
    pub fn initial_model(&self, config: &RunConfig, device: Device) -> Result<Model> {
        let base = self.base(config)?;
        let weights = self.file("ema.safetensors");
        if let Ok(found) = std::fs::metadata(&weights) {
            let needed = config.model.size(&*config.schedule.build()?, base.dim())?;
            if needed.saturating_mul(2) as u64 > found.len() {
                let problem = format!(
                    "holds {} bytes, config.toml describes {needed} parameters",
                    found.len()
                );
                return Err(Error::checkpoint(&weights, problem, RETRAIN));
            }
        }
        let seed = Seed(config.seed).derive("initialisation");
        let mut model = config.model.init(base, config.schedule.build()?, device, seed)?;
        if config.model.starts_from_measurement() {
            model.set_head_start(self.statistics(HEAD_START, RETRAIN)?);
        }
        Ok(model)
    }

    /// Writes what the outputs of a head with [`crate::model::HeadStart::Analytic`] correct: part
    /// of the model, as the base is.
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

    /// Writes what is needed to resume, then the parameters to use, and how far the training is.
    /// What was measured of others is no longer true.
    pub fn checkpoint(&self, model: &Model, state: &State) -> Result<()> {
        self.remove(STATISTICS)?;
        let setup = self.setup()?;
        self.write("state.safetensors", &checkpoint::state_bytes(state, &setup, &[]))?;
        let entries = model.parameters().entries();
        let about = [("iteration", state.iteration.to_string())];
        self.write(
            "model.safetensors",
            &checkpoint::parameter_bytes(entries, model.parameters().flat(), &setup, &about),
        )?;
        let product = checkpoint::parameter_bytes(entries, state.product(), &setup, &about);
        self.write("ema.safetensors", &product)?;
        self.write_status(&Status::of(state, None))
    }

    /// Keeps how a training ended whose last checkpoint is of `state`, if the run that it leaves is
    /// whole.
    ///
    /// # Errors
    /// If a file of the run is missing or damaged, for example because it was deleted while
    /// training.
    pub fn finish(&self, state: &State, ended: StopReason) -> Result<()> {
        Run::load(&self.path, Device::Cpu)?;
        self.write_status(&Status::of(state, Some(ended)))
    }

    /// The state to resume from.
    pub fn state(&self, model: &Model) -> Result<State> {
        checkpoint::read_state(&self.read("state.safetensors")?, model.parameters(), &self.setup()?)
            .map_err(|problem| Error::checkpoint(self.file("state.safetensors"), problem, RETRAIN))
    }

    /// Writes a picture of samples at `iteration`.
    pub fn write_sheet(&self, iteration: u64, png: &[u8]) -> Result<()> {
        let dir = self.refuse_link("samples")?;
        std::fs::create_dir_all(&dir).map_err(Error::io(&dir))?;
        OutputFile::replacing(dir.join(format!("{iteration:08}.png")))?.finish(png)
    }

    /// Appends to `metrics.jsonl`.
    pub fn append_metric(&self, metric: &Metric) -> Result<()> {
        let path = self.refuse_link("metrics.jsonl")?;
        let line = serde_json::to_string(metric).expect("plain data") + "\n";
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(Error::io(&path))?;
        file.write_all(line.as_bytes()).map_err(Error::io(&path))
    }

    /// The metrics so far; lines that are damaged, or cut short by a kill, are left out.
    pub fn metrics(&self) -> Result<Vec<Metric>> {
        Ok(self.metric_lines()?.0)
    }

    /// How many lines of `metrics.jsonl` are damaged: no JSON. The last one is not counted where it
    /// has no end, since a kill may have cut it short.
    pub fn damaged_metrics(&self) -> Result<usize> {
        Ok(self.metric_lines()?.1)
    }

    fn metric_lines(&self) -> Result<(Vec<Metric>, usize)> {
        let path = self.file("metrics.jsonl");
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(Error::Io { path, source }),
        };
        let (mut metrics, mut damaged) = (Vec::new(), 0);
        for line in bytes.split_inclusive(|&b| b == b'\n') {
            match serde_json::from_slice(line) {
                Ok(metric) => metrics.push(metric),
                Err(_) if !line.ends_with(b"\n") => (),
                // a loss that is not finite is written as null, which is none
                Err(_) => {
                    damaged +=
                        usize::from(serde_json::from_slice::<serde_json::Value>(line).is_err())
                }
            }
        }
        Ok((metrics, damaged))
    }

    /// Drops the metrics after `iteration`: those of steps that a resumed training does again.
    pub fn truncate_metrics(&self, iteration: u64) -> Result<()> {
        let kept = self.metrics()?.into_iter().filter(|m| m.iteration <= iteration);
        let text: String =
            kept.map(|m| serde_json::to_string(&m).expect("plain data") + "\n").collect();
        self.write("metrics.jsonl", text.as_bytes())
    }
}

/// What [`Run::measure_noise`] found.
#[derive(Debug)]
pub struct Measured {
    /// What was measured.
    pub statistics: NoiseStatistics,
    /// The largest standard error of `E‖ε − ε̂‖²/d` over times.
    pub largest_error: f64,
    /// Why it was not kept with the run and is measured anew at its next use, where that is so.
    pub not_kept: Option<Error>,
}

impl Run {
    /// Loads a run for use on `device`.
    pub fn load(path: impl AsRef<Path>, device: Device) -> Result<Run> {
        let dir = RunDir::open(path)?;
        let config = dir.config()?;
        let data = dir.data()?;
        if !dir.file("ema.safetensors").exists() {
            return Err(Error::checkpoint(
                dir.path(),
                "has no checkpoint yet",
                "let the training reach its first checkpoint, or go on with it (fit.resume)",
            ));
        }
        let model = dir.initial_model(&config, device)?;
        if model.space().dim != data.scaling.dim() as i64 {
            let problem =
                format!("has {} columns, base.json {}", data.scaling.dim(), model.space().dim);
            return Err(Error::checkpoint(dir.file("data.json"), problem, RETRAIN));
        }
        data.check_network(&config.model.network)
            .map_err(|problem| Error::checkpoint(dir.file("data.json"), problem, RETRAIN))?;
        if model.classes() != data.classes.len() as i64 {
            let problem =
                format!("has {} classes, the model {}", data.classes.len(), model.classes());
            return Err(Error::checkpoint(dir.file("data.json"), problem, RETRAIN));
        }
        let file = dir.file("ema.safetensors");
        let bytes = dir.read("ema.safetensors")?;
        let flat = checkpoint::read_parameters(&bytes, model.parameters(), &dir.setup()?)
            .map_err(|problem| Error::checkpoint(&file, problem, RETRAIN))?;
        model.parameters().assign(&flat.to_device(device));
        let mut run = Run { dir, config, data, model, in_memory: None };
        if run.dir.file(STATISTICS).exists() {
            let remedy = "delete it: it is measured anew when it is needed";
            run.model.set_noise_statistics(run.dir.statistics(STATISTICS, remedy)?);
        }
        Ok(run)
    }

    /// Measures `E‖ε − ε̂‖²` on [`statistics_rows`] training rows for
    /// [`crate::covariance::Analytic`] and keeps it with the run, where its directory
    /// can be written.
    ///
    /// # Errors
    /// If the training data cannot be found or have changed, or the run is conditioned on
    /// classes.
    pub fn measure_noise(&mut self, batch: usize) -> Result<Measured> {
        let measured = self.measured_noise(batch)?;
        self.model.set_noise_statistics(measured.statistics.clone());
        Ok(measured)
    }

    /// As [`Run::measure_noise`], for a caller that keeps what was measured.
    ///
    /// # Errors
    /// As [`Run::measure_noise`].
    pub fn measured_noise(&self, batch: usize) -> Result<Measured> {
        let prepared = self.prepared().ok_or_else(|| {
            let problem = format!("analytic needs the training data: {}", self.no_data());
            Error::config("covariance", problem, "restore the data, or take another covariance")
        })?;
        let statistics = self.statistics_on(&prepared, batch)?;
        // of a run that is being trained, or is read-only, it is not kept
        let mut dir = self.dir.clone();
        let not_kept = dir.lock().and_then(|()| dir.write_json(STATISTICS, &statistics)).err();
        Ok(Measured { largest_error: statistics.largest_error(), statistics, not_kept })
    }

    /// What was measured of this run's noise on the training rows of `prepared`, now or before.
    /// Measured now it is kept with the run for the next, if those are the run's own data and its
    /// directory can be written.
    ///
    /// # Errors
    /// As [`Run::statistics_on`].
    pub fn statistics_for(&self, prepared: &Prepared, batch: usize) -> Result<NoiseStatistics> {
        if let Some(measured) = self.model.noise_statistics() {
            return Ok(measured.clone());
        }
        let measured = self.statistics_on(prepared, batch)?;
        self.keep_statistics(prepared, &measured);
        Ok(measured)
    }

    /// Keeps what was measured on the training rows of `prepared`, where those are the run's own
    /// data. A run that cannot be written, or that another process is writing, goes without.
    fn keep_statistics(&self, prepared: &Prepared, measured: &NoiseStatistics) {
        let (own, given) = (&self.data, &prepared.record);
        if own.fingerprint == given.fingerprint && own.split_seed == given.split_seed {
            let mut dir = self.dir.clone();
            let _ = dir.lock().and_then(|()| dir.write_json(STATISTICS, measured));
        }
    }

    /// What [`Run::measure_noise`] measures, on the training rows of `prepared`.
    ///
    /// # Errors
    /// If the run is conditioned on classes, or not finite.
    pub fn statistics_on(&self, prepared: &Prepared, batch: usize) -> Result<NoiseStatistics> {
        self.statistics_of(&self.model, prepared, batch)
    }

    /// As [`Run::measure_noise`] on the training rows of `prepared`, for a head that is to start
    /// from it: `progress` gets the evaluations of the network done, and all. It is kept with the
    /// run where `prepared` are the run's own data and the run can be written, so that it is done
    /// once.
    ///
    /// # Errors
    /// If the run is conditioned on classes, or not finite.
    pub fn measure_for_head(
        &mut self,
        prepared: &Prepared,
        batch: usize,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<()> {
        let rows = statistics_rows(self.data.scaling.dim()).min(prepared.split.train.len());
        let all = (STATISTICS_TIMES * rows.div_ceil(batch.max(1))) as u64;
        let (done, progress) = (std::cell::Cell::new(0), std::cell::RefCell::new(progress));
        let count = || {
            (progress.borrow_mut())(done.get(), all);
            done.set(done.get() + 1);
            false
        };
        let statistics = self.statistics_of(&Watched::new(&self.model, &count), prepared, batch)?;
        self.keep_statistics(prepared, &statistics);
        self.model.set_noise_statistics(statistics);
        Ok(())
    }

    fn statistics_of(
        &self,
        model: &dyn Denoiser,
        prepared: &Prepared,
        batch: usize,
    ) -> Result<NoiseStatistics> {
        if self.model.classes() > 0 {
            let problem = "analytic, of a model conditioned on classes";
            return Err(Error::config("covariance", problem, "take another"));
        }
        let seed = Seed(self.config.seed).derive("noise statistics");
        let rows =
            prepared.training_rows(statistics_rows(self.data.scaling.dim()), seed.derive("rows"));
        NoiseStatistics::measure(model, &rows, STATISTICS_TIMES, batch, seed)
    }

    /// Gives an imported run the data that its model is of: what it is judged on, and what a head
    /// on it is trained on.
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
                "data.source",
                problem,
                "give images of its shape, or bring them to it with data.table.size",
            ));
        }
        if record.classes.len() != self.data.classes.len() {
            let problem = format!(
                "{} holds {} classes, the model has {}",
                data.source,
                record.classes.len(),
                self.data.classes.len()
            );
            return Err(Error::config("data.source", problem, "give images of its classes"));
        }
        let own = &self.data.fingerprint;
        if !own.is_empty() && *own != record.fingerprint {
            let problem =
                format!("{} has other data: {}", self.dir.path().display(), self.data.source);
            return Err(Error::config("data.source", problem, "give those, or another directory"));
        }
        self.dir.lock()?;
        let scaling = self.dir.read_json::<serde_json::Value>("data.json")?["scaling"].take();
        let mut stored = serde_json::to_value(&record).expect("plain data");
        // as it stands: checkpoints have its digest
        stored["scaling"] = scaling;
        self.dir.write_json("data.json", &schema::Stamped::new(stored, &self.dir, &data))?;
        (self.config.data, self.data) = (data, record);
        self.dir.rewrite_config(&self.config, &["data"])
    }

    /// The data that the run was trained on, read and split again, where they can be found and are
    /// still the same.
    pub fn prepared(&self) -> Option<Prepared> {
        let of_run = |own: &Prepared| own.record.fingerprint == self.data.fingerprint;
        if let Some(rows) = &self.in_memory {
            return Prepared::of(rows, &self.config.data, self.config.seed).ok().filter(of_run);
        }
        let places = self.dir.places_of_data(&self.config.data, &self.data);
        let read = |data: &DataConfig| Prepared::read(data, self.config.seed).ok();
        places.iter().filter_map(read).find(of_run)
    }

    /// Why there is nothing [`Run::prepared`], for errors.
    pub(crate) fn no_data(&self) -> String {
        match &*self.config.data.source {
            "" => "the run names no file of its training data".into(),
            source => format!("{source} cannot be found, or has changed since the training"),
        }
    }

    /// What has to be reported beside every figure of this run, a sentence each.
    pub fn remarks(&self) -> Vec<String> {
        self.unfinished().into_iter().chain(self.data.remarks.iter().cloned()).collect()
    }

    /// The sampler of this run where nothing else is requested.
    pub fn default_sampler(&self) -> Sampling {
        SampleOptions::default().of(&self.model, self.data.image.is_some())
    }

    /// The schedule of the run.
    pub fn schedule(&self) -> &dyn crate::schedule::Schedule {
        self.model.space().schedule()
    }
}
