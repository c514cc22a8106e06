//! The training of a model by an objective.

use tch::Tensor;

use super::{Hooks, Rows, Seen, Stage, Staged, State, StopReason, Trainee, Trainer, Validation};
use crate::model::{Denoiser, Mode, Model, Parameters, Precision};
use crate::noise::Seed;
use crate::objective::{Objective, Trains};
use crate::process_group::ProcessGroup;
use crate::{Error, Result};

/// A model, what it is trained by and what judges it.
struct ModelTraining<'a> {
    model: &'a Model,
    objective: &'a dyn Objective,
    validation: Option<&'a Validation>,
    precision: Precision,
    recompute: bool,
    dropout: Seed,
    label_dropout: f64,
}

impl Trainer {
    /// Trains `model` from `state` on. At the end the model holds the parameters that did best on
    /// `validation`, or where there is none the moving average; `state` can resume the training.
    ///
    /// With the same seed and the same calls, the result has the same bits on one machine whether
    /// or not it was interrupted, as long as `max_seconds` does not bite.
    ///
    /// # Errors
    /// [`Error::Config`] if there are no rows, or rows with labels for a model without classes, or
    /// the other way round; [`Error::Diverged`]; whatever the hooks return.
    pub fn fit(
        &self,
        model: &Model,
        objective: &dyn Objective,
        data: &dyn Rows,
        validation: Option<&Validation>,
        seed: Seed,
        state: &mut State,
        hooks: &mut dyn Hooks,
    ) -> Result<StopReason> {
        let (known, labelled) = (model.classes(), data.classes(&[]).is_some());
        if !data.is_empty() && labelled != (known > 0) {
            let rows = if labelled { "with" } else { "without" };
            let problem = format!("a model of {known} classes, and rows {rows} labels");
            return Err(Error::config("data.classes", problem, "give both, or neither"));
        }
        if self.config.label_dropout > 0.0 && !model.has_null_class() {
            let problem = "classes are dropped, and the network has no null class";
            let remedy = "give model.network.null_class";
            return Err(Error::config("train.label_dropout", problem, remedy));
        }
        let training = ModelTraining {
            model,
            objective,
            validation,
            precision: self.config.precision,
            recompute: self.config.checkpoint_activations,
            dropout: seed.derive("dropout"),
            label_dropout: self.config.label_dropout,
        };
        self.train(&training, data, seed, state, hooks)
    }
}

impl Trainee for ModelTraining<'_> {
    fn name(&self) -> &'static str {
        "training"
    }

    fn parameters(&self) -> &Parameters {
        self.model.parameters()
    }

    /// The score's, the head's or both.
    fn trained(&self) -> (i64, i64) {
        let (score, all) = (self.model.score_size(), self.model.parameters().size());
        match self.objective.trains() {
            Trains::Score => (0, score),
            Trains::Head => (score, all - score),
            Trains::Both => (0, all),
        }
    }

    fn stage(&self) -> Stage {
        let space = self.model.space();
        Stage {
            kind: space.kind,
            device: space.device,
            classes: self.model.classes(),
            label_dropout: self.label_dropout,
            draws: self.objective.noise(space.dim as usize),
        }
    }

    fn loss(&self, staged: &mut Staged, number: u64) -> Result<Tensor> {
        // a head alone learns the errors of the score as it is used, without dropout
        let dropped = self.model.drops() && self.objective.trains() != Trains::Head;
        let dropout = dropped.then(|| staged.dropout(self.dropout, number));
        let (precision, recompute) = (self.precision, self.recompute);
        let model = self.model.in_mode(Mode { precision, dropout, recompute })?;
        Ok(self.objective.loss(&model, &staged.batch, &mut staged.noise))
    }

    fn observed(&self) -> Option<Vec<(u32, f64)>> {
        self.objective.observed()
    }

    fn learn(&self, observed: &[(u32, f64)]) {
        self.objective.learn(observed);
    }

    fn memory(&self) -> Option<Tensor> {
        self.objective.memory()
    }

    fn restore(&self, memory: Option<&Tensor>) -> Result<()> {
        self.objective.restore(self.model.space(), memory).map_err(|problem| {
            let problem = format!("the state to go on from {problem}");
            Error::config("train.state", problem, "go on from the state of this training")
        })
    }

    /// The leader looks and measures the distance while the others wait; validation rows are split.
    fn look(&self, iteration: u64, group: &ProcessGroup, hooks: &mut dyn Hooks) -> Result<Seen> {
        group.by_leader(|| hooks.look(self.model, iteration))?;
        let stop = || hooks.stop();
        let bound = |validation: &Validation| {
            validation.bound_over(group, self.model, self.precision, &stop)
        };
        let bound = self.validation.map(bound).transpose()?.flatten();
        let distance = group.by_leader(|| match hooks.stop() {
            true => Ok(None),
            false => hooks.distance(self.model, iteration),
        })?;
        Ok(Seen { bound, distance })
    }

    fn save(&self, state: &State, hooks: &mut dyn Hooks) -> Result<()> {
        hooks.checkpoint(self.model, state)
    }
}
