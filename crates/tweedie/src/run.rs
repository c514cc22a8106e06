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
//! | `categories.safetensors` | the network for the categories of a table, where it has one |
//! | `categories-state.safetensors` | what its training goes on from, until it is over |
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
mod categories;
mod checkpoint;
mod config;
mod contents;
mod data;
mod dequantizer;
mod dir;
mod exchange;
mod facts;
mod features;
mod import;
mod keep;
mod layers;
mod lock;
mod metrics;
mod presets;
mod record;
mod rows;
mod scheduler;
mod schema;
mod setup;
mod statistics;
mod status;
mod training;

use std::path::Path;

use tch::Device;

use crate::categories::CategoryNetwork;
use crate::data::Dataset;
use crate::model::{Denoiser, Model};
use crate::sample::{SampleOptions, Sampling};
use crate::schedule::Schedule;
use crate::{Error, Result};
pub use about::About;
pub(crate) use categories::mixture;
pub use config::{DataConfig, RunConfig};
pub use data::Prepared;
pub use dir::RunDir;
use dir::write_json;
pub(crate) use exchange::{
    arranged, cannot_compute, check_size, read_json, read_named, weight_files,
};
pub use exchange::{read_dit, read_dit_checkpoint, read_unet, write_dit, write_unet};
pub use facts::{Ending, Facts, Outcome};
pub use features::{FeatureRows, Features};
pub use import::{LatentsOfShape, export, import, import_dit_checkpoint};
pub use keep::{Distance, KeepBy, KeepConfig};
pub use layers::Layer;
pub use record::DataRecord;
pub(crate) use rows::parts_of;
pub use rows::{TableRows, dequantized_from, dequantized_rows, level_rows, scaled_rows};
use statistics::STATISTICS;
pub use statistics::{Measured, statistics_rows};
pub use status::Status;
pub use training::Training;

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
    /// The network for the categories of a table, where it has one.
    pub categories: Option<CategoryNetwork>,
    /// The rows it was fitted to, where they were given in memory by this process.
    pub(crate) in_memory: Option<Dataset>,
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
            return Err(dir.damaged("data.json", problem));
        }
        data.check_network(&config.model.network)
            .map_err(|problem| dir.damaged("data.json", problem))?;
        if model.classes() != data.classes.len() as i64 {
            let problem =
                format!("has {} classes, the model {}", data.classes.len(), model.classes());
            return Err(dir.damaged("data.json", problem));
        }
        let bytes = dir.read("ema.safetensors")?;
        let flat = checkpoint::read_parameters(&bytes, model.parameters(), &dir.setup()?)
            .map_err(|problem| dir.damaged("ema.safetensors", problem))?;
        model.parameters().assign(&flat.to_device(device));
        let categories = dir.categories(&config, &data, &model, device)?;
        let mut run = Run { dir, config, data, model, categories, in_memory: None };
        if run.dir.file(STATISTICS).exists() {
            let remedy = "delete it: it is measured anew when it is needed";
            run.model.set_noise_statistics(run.dir.statistics(STATISTICS, remedy)?);
        }
        Ok(run)
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
            let (found, own) = (record.in_words(), self.data.in_words());
            let problem = format!("{} holds {found}, the model is of {own}", data.source);
            return Err(Error::config(
                "data.source",
                problem,
                "give images of its shape, or bring them to it with data.table.size",
            ));
        }
        let vae = |record: &DataRecord| record.latents.as_ref().map(|of| of.digest.clone());
        if self.data.latents.is_some() && vae(&record) != vae(&self.data) {
            let problem = format!("{} holds latents of another autoencoder", data.source);
            return Err(Error::config("data.source", problem, "give those of the model's own"));
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
        (self.config.data, self.data, self.in_memory) = (data, record, None);
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
    pub fn no_data(&self) -> String {
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
    pub fn schedule(&self) -> &dyn Schedule {
        self.model.space().schedule()
    }
}
