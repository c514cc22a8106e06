//! A run's network for categories: parameters, and the state that its training goes on from.

use tch::Device;

use super::{DataRecord, Prepared, Run, RunConfig, RunDir, checkpoint};
use crate::Result;
use crate::categories::{Categorical, CategoryModel, CategoryNetwork, Fit};
use crate::mixture::MixedMixture;
use crate::model::{Base, Model};
use crate::noise::Seed;
use crate::process_group::ProcessGroup;
use crate::train::{Report, State, StopReason, Trainer};
use crate::watch::{Remark, Watch};

/// Its file in a run directory.
pub(super) const FILE: &str = "categories.safetensors";
/// What its training goes on from, as long as it is not over.
pub(super) const STATE: &str = "categories-state.safetensors";

/// The mixture over numbers and categories that a model corrects.
///
/// # Panics
/// If it corrects another distribution.
pub(crate) fn mixture(model: &Model) -> &MixedMixture {
    match model.base() {
        Base::Mixed(mixture) => mixture,
        _ => panic!("a model of rows with categories on a mixture over them"),
    }
}

impl Run {
    /// The distribution of the categories of a table that is read as it comes.
    ///
    /// # Panics
    /// If the run is of numbers alone.
    pub(crate) fn categorical(&self) -> Categorical<'_> {
        Categorical::new(mixture(&self.model), self.categories.as_ref())
    }
}

impl RunDir {
    /// Writes the network for categories of a new run, where it has one: that of `donor`, or one
    /// as it is before it is trained, with the state that its training begins from.
    pub(super) fn begin_categories(
        &self,
        config: &RunConfig,
        model: &Model,
        donor: Option<&Run>,
    ) -> Result<()> {
        if config.categories.is_base() {
            return Ok(());
        }
        if let Some(network) = donor.and_then(|donor| donor.categories.as_ref()) {
            return self.write_categories(network);
        }
        let network = self.new_network(config, model)?;
        self.write_categories_state(&State::of(network.parameters()))?;
        self.write_categories(&network)
    }

    /// Trains the network for categories of the run whose base `model` has, where it has one and
    /// this is not done; `seconds` of the training are over. Whether it was not stopped, and the
    /// seconds that it took.
    pub(crate) fn train_categories(
        &self,
        config: &RunConfig,
        model: &Model,
        prepared: &Prepared,
        seconds: f64,
        group: &ProcessGroup,
        watch: &mut dyn Watch,
    ) -> Result<(bool, f64)> {
        if config.categories.is_base() || !self.file(STATE).exists() {
            return Ok((true, 0.0));
        }
        let network = self.new_network(config, model)?;
        let mut state = self.categories_state(&network)?;
        let seed = Seed(config.seed).derive("categories");
        let limit = config.train.validation_rows;
        let known = prepared.observed(usize::MAX, limit, seed.derive("rows"));
        let [rows, held_out] = known.expect("a table that is read as it comes");
        let context = prepared.context();
        let (rows, held_out) = (&rows, &held_out);
        let fit =
            Fit { base: mixture(model), network: &network, rows, held_out, context: &context };
        // what an earlier part of it took is among the seconds of the training
        let training = config.categories.training(&config.train, seconds - state.seconds);
        let trainer = Trainer { config: training, group: group.clone() };
        let before = state.seconds;
        watch.begin("categories", trainer.config.iterations);
        let hooks = &mut Report(watch, trainer.config.iterations);
        let mut save = |state: &State| self.write_categories_state(state);
        let reason = fit.train(&trainer, seed, &mut state, hooks, &mut save);
        watch.end();
        let reason = reason?;
        self.write_categories(&network)?;
        let took = state.seconds - before;
        if reason == StopReason::Stopped {
            return Ok((false, took));
        }
        self.remove(STATE)?;
        let [found, of_base] = [CategoryModel::Network, CategoryModel::Base]
            .map(|model| fit.held_out_log_density(model));
        if let Some(((mean, error), (of_base, _))) = found.zip(of_base) {
            watch.say(Remark::Progress(format!(
                "categories: ln p of {} validation rows {mean:.4} ± {error:.4} nats, {of_base:.4} \
                 by the base; {} steps in {:.0} s",
                held_out.len(),
                state.iteration,
                state.seconds
            )));
        }
        Ok((true, took))
    }

    /// The untrained network.
    fn new_network(&self, config: &RunConfig, model: &Model) -> Result<CategoryNetwork> {
        let base = mixture(model);
        let seed = Seed(config.seed).derive("categories").derive("initialisation");
        config.categories.init(base.layout(), base.device(), seed)
    }

    fn categories_state(&self, network: &CategoryNetwork) -> Result<State> {
        checkpoint::read_state(&self.read(STATE)?, network.parameters(), &self.setup()?)
            .map_err(|problem| self.damaged(STATE, problem))
    }

    fn write_categories_state(&self, state: &State) -> Result<()> {
        self.write(STATE, &checkpoint::state_bytes(state, &self.setup()?, &[]))
    }

    fn write_categories(&self, network: &CategoryNetwork) -> Result<()> {
        let parameters = network.parameters();
        let (entries, flat) = (parameters.entries(), parameters.flat());
        self.write(FILE, &checkpoint::parameter_bytes(entries, flat, &self.setup()?, &[]))
    }

    /// The run's network for categories, where it has one.
    ///
    /// # Errors
    /// If its file is missing, damaged, or of another run.
    pub(super) fn categories(
        &self,
        config: &RunConfig,
        data: &DataRecord,
        model: &Model,
        device: Device,
    ) -> Result<Option<CategoryNetwork>> {
        if config.categories.is_base() {
            return Ok(None);
        }
        let (Some(_), Base::Mixed(base)) = (&data.schema, model.base()) else {
            let problem = "asks for a network for categories, of a table without any";
            return Err(self.damaged("config.toml", problem));
        };
        let bytes = self.read(FILE)?;
        let needed = config.categories.size(base.layout())?;
        self.check_size(FILE, bytes.len() as u64, needed)?;
        // the seed is of weights that are overwritten
        let network = config.categories.init(base.layout(), device, Seed(0))?;
        let flat = checkpoint::read_parameters(&bytes, network.parameters(), &self.setup()?)
            .map_err(|problem| self.damaged(FILE, problem))?;
        network.parameters().assign(&flat.to_device(device));
        Ok(Some(network))
    }
}
