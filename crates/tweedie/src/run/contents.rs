//! What a run's files hold: setup, configuration, data record, parameters and state.

use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use super::dir::RETRAIN;
use super::statistics::{HEAD_START, STATISTICS};
use super::{About, DataRecord, Run, RunConfig, RunDir, Status, about, checkpoint, schema};
use crate::data::OutputFile;
use crate::mixture::{MixedMixture, MixedParameters};
use crate::model::{Base, BaseKind, Model};
use crate::noise::Seed;
use crate::oracle::{GaussianMixture, MixtureParameters};
use crate::tensor::to_vec;
use crate::train::{State, StopReason};
use crate::{Error, Result};

/// `base.json` of an isotropic base; that of any other is a mixture's parameters.
#[derive(Serialize, Deserialize)]
struct Isotropic {
    mean: Vec<f64>,
    variance: f64,
}

pub(super) fn base_to_json(base: &Base) -> serde_json::Value {
    match base {
        Base::Isotropic { mean, variance } => {
            serde_json::to_value(Isotropic { mean: to_vec(mean), variance: *variance })
        }
        Base::Mixture(mixture) => serde_json::to_value(mixture.parameters()),
        Base::Mixed(mixture) => serde_json::to_value(mixture.parameters()),
    }
    .expect("plain data")
}

pub(super) fn base_from_json(
    value: serde_json::Value,
    kind: BaseKind,
) -> std::result::Result<Base, String> {
    let unread = |e| format!("cannot be read: {e}");
    if kind == BaseKind::Isotropic {
        let Isotropic { mean, variance } = serde_json::from_value(value).map_err(unread)?;
        if mean.is_empty() || !(variance > 0.0 && variance.is_finite()) {
            return Err(format!("has {} means and the variance {variance}", mean.len()));
        }
        return Ok(Base::Isotropic { mean: Tensor::from_slice(&mean), variance });
    }
    if value.get("categories").is_some() {
        let parameters: MixedParameters = serde_json::from_value(value).map_err(unread)?;
        let mixture = MixedMixture::from_parameters(&parameters).map_err(|e| e.to_string())?;
        return Ok(Base::Mixed(mixture));
    }
    let parameters: MixtureParameters = serde_json::from_value(value).map_err(unread)?;
    let mixture = GaussianMixture::from_parameters(&parameters).map_err(|e| e.to_string())?;
    Ok(Base::Mixture(mixture))
}

impl RunDir {
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
        self.write("config.toml", schema::stamped_config(&config.absolute().to_toml()).as_bytes())
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
        let wrong = |problem: String| self.damaged("data.json", problem);
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
            .map_err(|problem| self.damaged("base.json", problem))
    }

    /// Refuses a file of too few bytes for as many parameters as the configuration asks for,
    /// before these are made.
    pub(super) fn check_size(&self, name: &str, bytes: u64, parameters: i64) -> Result<()> {
        match parameters.saturating_mul(2) as u64 > bytes {
            true => {
                let problem =
                    format!("holds {bytes} bytes, config.toml asks for {parameters} parameters");
                Err(self.damaged(name, problem))
            }
            false => Ok(()),
        }
    }

    /// The untrained model of this run.
    pub fn initial_model(&self, config: &RunConfig, device: Device) -> Result<Model> {
        let base = self.base(config)?;
        let weights = self.file("ema.safetensors");
        if let Ok(found) = std::fs::metadata(&weights) {
            let asked = config.model.size(&*config.schedule.build()?, base.dim())?;
            self.check_size("ema.safetensors", found.len(), asked)?;
        }
        let seed = Seed(config.seed).derive("initialisation");
        let mut model = config.model.init(base, config.schedule.build()?, device, seed)?;
        if config.model.starts_from_measurement() {
            model.set_head_start(self.statistics(HEAD_START, RETRAIN)?);
        }
        Ok(model)
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
        Run::load(self.path(), Device::Cpu)?;
        self.write_status(&Status::of(state, Some(ended)))
    }

    /// The state to resume from.
    pub fn state(&self, model: &Model) -> Result<State> {
        checkpoint::read_state(&self.read("state.safetensors")?, model.parameters(), &self.setup()?)
            .map_err(|problem| self.damaged("state.safetensors", problem))
    }

    /// Writes a picture of samples at `iteration`.
    pub fn write_sheet(&self, iteration: u64, png: &[u8]) -> Result<()> {
        let dir = self.refuse_link("samples")?;
        std::fs::create_dir_all(&dir).map_err(Error::io(&dir))?;
        OutputFile::replacing(dir.join(format!("{iteration:08}.png")))?.finish(png)
    }
}
