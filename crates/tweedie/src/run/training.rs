//! A training at its start, or where it was left: run directory, model and state.

use std::path::Path;
use std::time::Instant;

use tch::{Device, Tensor, no_grad};

use super::import::keep_sampling;
use super::{Prepared, Run, RunConfig, RunDir, Status};
use crate::model::{Base, BaseKind, Denoiser, Mode, Model};
use crate::noise::Seed;
use crate::objective::Trains;
use crate::train::State;
use crate::{Error, Result};

/// What [`crate::train::Trainer::fit`] goes on from.
pub struct Training {
    /// Where it is kept.
    pub dir: RunDir,
    /// The model.
    pub model: Model,
    /// How far it is.
    pub state: State,
}

/// How much of a training's time the fit of its base may take.
const BASE_SHARE: f64 = 2.0 / 3.0;

/// Rows whose noise is measured at a time.
const MEASURED_AT_ONCE: usize = 64;

impl Training {
    /// A new run in `path`: fits the base, or takes base and score of `donor`, and writes the first
    /// checkpoint, so that a kill at any later moment leaves a run that can be resumed.
    /// `validation` are the validation rows in the network's units. No other process can write to
    /// the run as long as this exists.
    pub fn begin(
        path: impl AsRef<Path>,
        config: &RunConfig,
        prepared: &Prepared,
        validation: &Tensor,
        donor: Option<&Run>,
        device: Device,
    ) -> Result<Training> {
        let seed = Seed(config.seed);
        // a model that cannot be is refused before anything is written
        let any = Base::standard(prepared.record.scaling.dim() as i64);
        let model = config.model.init(any, config.schedule.build()?, device, seed)?;
        let (precision, recompute) = (config.train.precision, config.train.checkpoint_activations);
        model.in_mode(Mode { precision, recompute, dropout: None })?;
        drop(model);
        config.model.head.as_ref().map_or(Ok(()), |head| config.objective.check_head(head))?;
        let objective = config.objective.build()?;
        let dir = RunDir::create(path)?;
        let started = Instant::now();
        let base = match donor {
            Some(donor) => donor.dir.base(&donor.config)?,
            None if config.base.kind == BaseKind::Isotropic => {
                config.base.check()?;
                let seed = seed.derive("base rows");
                Base::isotropic(prepared.training_parts(config.base.max_rows, seed))?
            }
            None => {
                let mut base = config.base.clone();
                if base.max_seconds == 0.0 {
                    base.max_seconds = BASE_SHARE * config.train.max_seconds;
                }
                let (limit, held_out) = (base.max_rows, config.train.validation_rows);
                let seed = seed.derive("base rows");
                match prepared.observed(limit, held_out, seed) {
                    Some([rows, validation]) => {
                        let context = prepared.context();
                        Base::fit_mixed(&base, &rows, &validation, &context)?
                    }
                    None => Base::fit(&base, &prepared.training_rows(limit, seed), validation)?,
                }
            }
        };
        dir.write_setup(&prepared.record, &base, config)?;
        let seconds = started.elapsed().as_secs_f64();
        if config.model.starts_from_measurement() {
            let donor = donor.filter(|_| objective.trains() == Trains::Head).ok_or_else(|| {
                let problem = "analytic, where no score is given and frozen";
                Error::config(
                    "model.head.start",
                    problem,
                    "give fit.score_from with an objective that trains the head",
                )
            })?;
            dir.write_head_start(&donor.statistics_for(prepared, MEASURED_AT_ONCE)?)?;
        }
        // read back, so that a resumed training has the same bits
        let model = dir.initial_model(config, device)?;
        if let Some(donor) = donor {
            let size = model.score_size();
            let score = donor.model.parameters().flat().narrow(0, 0, size);
            no_grad(|| model.parameters().flat().narrow(0, 0, size).copy_(&score));
        }
        if let Some(donor) = donor {
            keep_sampling(&donor.dir, &dir)?;
        }
        // measuring is of the donor, done once, and takes nothing from the time that training is
        // given
        let state = State { seconds, ..State::new(&model) };
        dir.begin_categories(config, &model, donor)?;
        dir.checkpoint(&model, &state)?;
        dir.write_config(config)?;
        Ok(Training { dir, model, state })
    }

    /// The run in `dir` where it was left, which no other process can write to as long as this
    /// exists; its `config.toml` becomes that of `config`, which may train longer. `field` is what
    /// an error about other data than the run's names.
    pub fn resume(
        mut dir: RunDir,
        config: &RunConfig,
        prepared: &Prepared,
        field: &str,
        device: Device,
    ) -> Result<Training> {
        let own = dir.data()?;
        if own.fingerprint != prepared.record.fingerprint {
            return Err(Error::config(
                field,
                format!("{} is not the table that this run was begun on", prepared.record.source),
                "restore the table, or start a new run with another fit.out",
            ));
        }
        // fitted anew on the same rows, by another version perhaps
        if own.scaling != prepared.record.scaling {
            let problem = "brings columns to the network's units otherwise than this version would";
            let remedy = "go on with the version that began the run, or start a new one with \
            another fit.out";
            return Err(Error::checkpoint(dir.file("data.json"), problem, remedy));
        }
        dir.lock()?;
        let model = dir.initial_model(config, device)?;
        let mut state = dir.state(&model)?;
        let memory = state.memory.as_ref();
        (config.objective.build()?.restore(model.space(), memory))
            .map_err(|problem| dir.damaged("state.safetensors", problem))?;
        if prepared.record.levels().is_some()
            && state.best.as_ref().is_some_and(|best| best.iteration.is_none())
        {
            // an earlier version judged images by another bound
            (state.best, state.since_best) = (None, 0);
        }
        if dir.config()?.train != config.train {
            dir.rewrite_config(config, &["train"])?;
        }
        dir.truncate_metrics(state.iteration)?;
        dir.write_status(&Status::of(&state, None))?;
        Ok(Training { dir, model, state })
    }
}
