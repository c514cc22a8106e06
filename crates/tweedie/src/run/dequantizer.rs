//! A run's variational dequantiser: parameters, and the configuration in the file's header.

use tch::Device;

use super::{DataRecord, Run, RunDir, checkpoint};
use crate::data::Dataset;
use crate::dequantize::{Variational, VariationalConfig};
use crate::model::Denoiser;
use crate::noise::Seed;
use crate::train::TrainConfig;
use crate::{Error, Result};

/// Its file in a run directory.
const FILE: &str = "dequantizer.safetensors";
/// The header's key of the configuration.
const CONFIG: &str = "dequantizer";
const REMEDY: &str = "train one again with `tweedie dequantize RUN --replace`";

impl Run {
    /// Trains `dequantizer` on these rows of a table under the run's frozen model, `draws` pairs
    /// (t, ε) per row and step, and keeps it with the run. `progress` gets the steps done and the
    /// loss.
    ///
    /// # Errors
    /// As [`Variational::fit`], and if the directory cannot be written.
    pub fn train_dequantizer(
        &self,
        dequantizer: &Variational,
        (table, rows): (&Dataset, &[usize]),
        draws: usize,
        config: &TrainConfig,
        seed: Seed,
        progress: &mut dyn FnMut(u64, f64),
    ) -> Result<()> {
        let parameters = self.model.parameters();
        parameters.track(0, 0);
        let frozen =
            |classes: Option<&[u32]>| Box::new(self.model.given(classes)) as Box<dyn Denoiser + '_>;
        let fitted = dequantizer.fit(table, rows, &frozen, draws, config, seed, progress);
        parameters.track(0, parameters.size());
        fitted?;
        self.dir.write_dequantizer(dequantizer)
    }
}

impl RunDir {
    /// Whether the run has a variational dequantiser.
    pub fn has_dequantizer(&self) -> bool {
        self.file(FILE).exists()
    }

    /// Writes the run's variational dequantiser.
    pub fn write_dequantizer(&self, dequantizer: &Variational) -> Result<()> {
        let config = serde_json::to_string(dequantizer.config()).expect("plain data");
        let parameters = dequantizer.parameters();
        let (entries, about) = (parameters.entries(), [(CONFIG, config)]);
        let bytes = checkpoint::parameter_bytes(entries, parameters.flat(), &self.setup()?, &about);
        self.write(FILE, &bytes)
    }

    /// The run's variational dequantiser, for rows of `data`.
    ///
    /// # Errors
    /// If there is none, or its file is damaged or made for other data.
    pub fn dequantizer(&self, data: &DataRecord, device: Device) -> Result<Variational> {
        if !self.has_dequantizer() {
            let problem = "has no variational dequantiser";
            return Err(Error::checkpoint(
                self.path(),
                problem,
                "train one with `tweedie dequantize RUN`",
            ));
        }
        let bytes = self.read(FILE)?;
        let broken = |problem: String| Error::checkpoint(self.file(FILE), problem, REMEDY);
        let config = checkpoint::about(&bytes, CONFIG).map_err(broken)?;
        let config: VariationalConfig = serde_json::from_str(&config)
            .map_err(|e| broken(format!("has a configuration that cannot be read: {e}")))?;
        let asked = config.size(&data.scaling, data.image)?;
        if asked.saturating_mul(2) as u64 > bytes.len() as u64 {
            return Err(broken(format!(
                "holds {} bytes and asks for {asked} parameters",
                bytes.len()
            )));
        }
        // the seed is of weights that are overwritten
        let dequantizer = config.init(&data.scaling, data.image, device, Seed(0))?;
        let flat = checkpoint::read_parameters(&bytes, dequantizer.parameters(), &self.setup()?)
            .map_err(broken)?;
        dequantizer.parameters().assign(&flat.to_device(device));
        Ok(dequantizer)
    }
}
