//! Training a variational dequantiser, by the loop that trains models.

use std::cell::RefCell;

use tch::{Device, Kind, Tensor};

use super::Variational;
use super::variational::{Points, START_ROWS};
use crate::data::Dataset;
use crate::grid::TimeDistribution;
use crate::model::{Denoiser, Parameters};
use crate::noise::{Noise, Seed};
use crate::objective::{DenoisingScoreMatching, Objective, Weighting};
use crate::query::{Batch, Query, Times};
use crate::tensor::{squared_norm, to_vec, upload};
use crate::train::{
    Hooks, Rows, Save, Stage, Staged, State, StopReason, TrainConfig, Trainee, Trainer,
};
use crate::{Error, Result};

/// ScoreFlow's bound (Theorem 3, in its DSM form) on `ln p(y)` up to a constant, from `draws` pairs
/// (t, ε), `[b]`; differentiable in `y`. [`crate::likelihood::ScoreMatchingBound`] is the same with
/// its constants.
fn bound(model: &dyn Denoiser, batch: &Batch, draws: usize, noise: &mut Noise) -> Tensor {
    let schedule = model.space().schedule();
    let y = &batch.x;
    let (first, last) = (schedule.epsilon(), schedule.horizon());
    let path = DenoisingScoreMatching {
        weighting: Weighting::Likelihood,
        time: TimeDistribution::LogSnr,
        draws,
    };
    let path = path.loss(model, batch, noise) * (0.5 * (last - first));
    let z = noise.normal(y.size()[1] as usize, y.kind(), y.device());
    let at_first = y * schedule.alpha(first) + &z * schedule.sigma(first);
    let times = Times::All(first);
    let q = Query::new(&at_first, &times).given(batch.condition.as_ref());
    let truncation = squared_norm(&(model.noise(&q) - z)) * 0.5;
    let prior = squared_norm(y) * (0.5 * schedule.alpha(last).powi(2) / schedule.sigma2(last));
    -(prior + path + truncation)
}

/// Levels of a table, as they are.
struct Levels<'a> {
    table: &'a Dataset,
    rows: &'a [usize],
}

impl Rows for Levels<'_> {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn gather(&self, rows: &[usize], _: &mut Noise, (kind, device): (Kind, Device)) -> Tensor {
        let chosen: Vec<usize> = rows.iter().map(|&row| self.rows[row]).collect();
        let levels = Tensor::from_slice(&self.table.gather(&chosen)).view([rows.len() as i64, -1]);
        upload(&levels, kind, device)
    }

    fn classes(&self, rows: &[usize]) -> Option<Vec<u32>> {
        self.table.classes_of(&rows.iter().map(|&row| self.rows[row]).collect::<Vec<usize>>())
    }
}

/// A dequantiser, the frozen model that it is for, and where its training is kept.
struct Learner<'a> {
    dequantizer: &'a Variational,
    model: &'a dyn Denoiser,
    draws: usize,
    classes: i64,
    save: RefCell<&'a mut Save<'a>>,
}

impl Trainee for Learner<'_> {
    fn name(&self) -> &'static str {
        "the dequantiser"
    }

    fn parameters(&self) -> &Parameters {
        self.dequantizer.parameters()
    }

    /// Levels stay where they are: it is points that go to a device.
    fn stage(&self) -> Stage {
        Stage::here(self.classes)
    }

    /// `ln q(y|x) − bound(y)`, nats per row up to a constant.
    fn loss(&self, staged: &mut Staged, _number: u64) -> Result<Tensor> {
        let levels: Vec<f32> = to_vec(&staged.batch.x).into_iter().map(|v| v as f32).collect();
        let Points { y, log_q } = self.dequantizer.draw(&levels, &mut staged.noise);
        let condition = staged.batch.condition.take();
        let batch = Batch::of(&self.model.space().place(&y)).given(condition);
        let bound = bound(self.model, &batch, self.draws, &mut staged.noise);
        Ok(&log_q - bound.to_device(log_q.device()).to_kind(Kind::Float))
    }

    fn save(&self, state: &State, _hooks: &mut dyn Hooks) -> Result<()> {
        (self.save.borrow_mut())(state)
    }
}

impl Variational {
    /// Maximises `E[bound(y) − ln q(y|x)]` over the levels `rows` of `table`, the model being
    /// frozen (ScoreFlow, (13)), with `draws` pairs (t, ε) per row. The parameters are the moving
    /// average in the end.
    ///
    /// # Errors
    /// [`Error::Diverged`] if the loss is not finite.
    ///
    /// # Panics
    /// If there is no row.
    pub fn fit(
        &self,
        table: &Dataset,
        rows: &[usize],
        model: &dyn Denoiser,
        draws: usize,
        config: &TrainConfig,
        seed: Seed,
    ) -> Result<()> {
        let (state, hooks) = (&mut State::of(self.parameters()), &mut crate::train::Silent);
        let (data, save) = ((table, rows), &mut |_: &State| Ok(()));
        self.train(data, model, draws, config, seed, state, hooks, save).map(drop)
    }

    /// As [`Variational::fit`] from `state` on, which `save` keeps now and then and in the end.
    pub(crate) fn train<'a>(
        &'a self,
        (table, rows): (&'a Dataset, &'a [usize]),
        model: &'a dyn Denoiser,
        draws: usize,
        config: &TrainConfig,
        seed: Seed,
        state: &mut State,
        hooks: &mut dyn Hooks,
        save: &'a mut Save<'a>,
    ) -> Result<StopReason> {
        Error::check_count("dequantize.draws", draws, 10_000)?;
        assert!(!rows.is_empty(), "rows to fit a dequantiser to");
        let classes = table.labels.as_ref().map_or(0, |labels| labels.names.len() as i64);
        let save = RefCell::new(save);
        let learner = Learner { dequantizer: self, model, draws, classes, save };
        self.parameters().assign(&state.parameters);
        if state.iteration == 0 {
            let first: Vec<usize> = rows.iter().copied().take(START_ROWS).collect();
            self.start(&table.gather(&first), seed.derive("start"));
            *state = State::of(self.parameters());
        }
        let trainer = Trainer::new(config.clone());
        trainer.train(&learner, &Levels { table, rows }, seed, state, hooks)
    }
}
