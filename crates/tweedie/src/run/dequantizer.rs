//! A run's variational dequantiser: parameters, and the configuration in the file's header.

use tch::Device;

use super::{DataRecord, Run, RunDir, checkpoint};
use crate::data::Dataset;
use crate::dequantize::{Variational, VariationalConfig};
use crate::noise::Seed;
use crate::train::{Report, State, StopReason, TrainConfig};
use crate::watch::Watch;
use crate::{Error, Result};

/// Its file in a run directory.
const FILE: &str = "dequantizer.safetensors";
/// What its training goes on from, where it was interrupted.
pub(super) const STATE: &str = "dequantizer-state.safetensors";
/// The header's key of the configuration, and of what was requested of a training.
const CONFIG: &str = "dequantizer";
const REQUEST: &str = "request";
const REMEDY: &str = "train one again, with dequantize.replace";

impl Run {
    /// Trains `dequantizer` on these rows of a table under the run's frozen model, `draws` pairs
    /// (t, ε) per row and step, and keeps it with the run. Where `watch` stops it, the same
    /// call goes on where it was left, to the same bits.
    ///
    /// # Errors
    /// As [`Variational::fit`]; [`Error::Interrupted`] if `watch` stops it; if the directory cannot
    /// be written.
    pub fn train_dequantizer(
        &self,
        dequantizer: &Variational,
        (table, rows): (&Dataset, &[usize]),
        draws: usize,
        config: &TrainConfig,
        seed: Seed,
        watch: &mut dyn Watch,
    ) -> Result<()> {
        let request = serde_json::json!({
            "dequantizer": dequantizer.config(), "train": config, "draws": draws, "seed": seed.0,
            "data": table.fingerprint(), "rows": rows.len(),
        });
        let request = request.to_string();
        let mut state = self.dir.dequantizer_state(dequantizer, &request)?;
        let dir = &self.dir;
        let mut save = |state: &State| dir.write_dequantizer_state(state, &request);
        let mut hooks = Report(watch, config.iterations);
        let parameters = self.model.parameters();
        parameters.track(0, 0);
        let reason = dequantizer.train(
            (table, rows),
            &self.model,
            draws,
            config,
            seed,
            &mut state,
            &mut hooks,
            &mut save,
        );
        parameters.track(0, parameters.size());
        if reason? == StopReason::Stopped {
            let text = format!(
                "stopped at step {} of {}; what is done is kept, and the same command goes on",
                state.iteration, config.iterations
            );
            return Err(Error::Interrupted(text));
        }
        self.dir.write_dequantizer(dequantizer)?;
        self.dir.remove(STATE)
    }
}

impl RunDir {
    /// Whether the run has a variational dequantiser.
    pub fn has_dequantizer(&self) -> bool {
        self.file(FILE).exists()
    }

    /// The state of a training of `dequantizer` that was requested alike and interrupted; else that
    /// of a new one.
    fn dequantizer_state(&self, dequantizer: &Variational, request: &str) -> Result<State> {
        let parameters = dequantizer.parameters();
        if !self.file(STATE).exists() {
            return Ok(State::of(parameters));
        }
        let bytes = self.read(STATE)?;
        match checkpoint::about(&bytes, REQUEST) {
            Ok(own) if own == request => checkpoint::read_state(&bytes, parameters, &self.setup()?)
                .map_err(|problem| {
                    Error::checkpoint(self.file(STATE), problem, "delete it to begin anew")
                }),
            _ => Ok(State::of(parameters)),
        }
    }

    fn write_dequantizer_state(&self, state: &State, request: &str) -> Result<()> {
        let about = [(REQUEST, request.to_string())];
        self.write(STATE, &checkpoint::state_bytes(state, &self.setup()?, &about))
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
                "train one first, by `tweedie dequantize`",
            ));
        }
        let bytes = self.read(FILE)?;
        let broken = |problem: String| Error::checkpoint(self.file(FILE), problem, REMEDY);
        let config = checkpoint::about(&bytes, CONFIG).map_err(broken)?;
        let config: VariationalConfig = serde_json::from_str(&config)
            .map_err(|e| broken(format!("has a configuration that cannot be read: {e}")))?;
        let needed = config.size(&data.scaling, data.levels())?;
        if needed.saturating_mul(2) as u64 > bytes.len() as u64 {
            return Err(broken(format!(
                "holds {} bytes and its configuration has {needed} parameters",
                bytes.len()
            )));
        }
        // the seed is of weights that are overwritten
        let dequantizer = config.init(&data.scaling, data.levels(), device, Seed(0))?;
        let flat = checkpoint::read_parameters(&bytes, dequantizer.parameters(), &self.setup()?)
            .map_err(broken)?;
        dequantizer.parameters().assign(&flat.to_device(device));
        Ok(dequantizer)
    }
}
