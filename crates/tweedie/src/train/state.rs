//! Everything that resuming a training needs.

use tch::{Tensor, no_grad};

use super::Metric;
use crate::model::{Model, Parameters};

/// The best parameters so far by validation.
#[derive(Debug)]
pub struct Best {
    /// The validation bound, nats per row, or where parameters are kept by
    /// [`Hooks::distance`](super::Hooks::distance) that.
    pub value: f64,
    /// Steps done when it was found; unknown of a training that an earlier version began.
    pub iteration: Option<u64>,
    /// Flat parameters.
    pub parameters: Tensor,
}

/// The state of a training between two steps.
#[derive(Debug)]
pub struct State {
    /// Steps done.
    pub iteration: u64,
    /// Seconds of training so far.
    pub seconds: f64,
    /// Flat parameters at the last checkpoint or validation.
    pub parameters: Tensor,
    /// Flat moving average.
    pub ema: Tensor,
    /// Adam's first moment.
    pub first: Tensor,
    /// Adam's second moment.
    pub second: Tensor,
    /// The best so far.
    pub best: Option<Best>,
    /// Validations since the best.
    pub since_best: u64,
    /// What the objective keeps from step to step ([`crate::objective::Objective::memory`]).
    pub memory: Option<Tensor>,
    /// The metric line of the step just done, where its look and validation are still to come.
    pub pending: Option<Metric>,
}

impl State {
    /// The start of a training of `model` as it is.
    pub fn new(model: &Model) -> State {
        State::of(model.parameters())
    }

    /// The start of a training of `parameters` as they are.
    pub(crate) fn of(parameters: &Parameters) -> State {
        let flat = parameters.flat();
        no_grad(|| State {
            iteration: 0,
            seconds: 0.0,
            parameters: flat.copy(),
            ema: flat.copy(),
            first: flat.zeros_like(),
            second: flat.zeros_like(),
            best: None,
            since_best: 0,
            memory: None,
            pending: None,
        })
    }

    /// Takes note of a figure of the moving average; `better` says which of two is.
    pub(super) fn judge(&mut self, value: f64, better: fn(&f64, &f64) -> bool) {
        if value.is_finite() && self.best.as_ref().is_none_or(|best| better(&value, &best.value)) {
            self.best =
                Some(Best { value, iteration: Some(self.iteration), parameters: self.ema.copy() });
            self.since_best = 0;
        } else {
            self.since_best += 1;
        }
    }

    /// The parameters to use: the best by validation, else the moving average.
    pub fn product(&self) -> &Tensor {
        self.best.as_ref().map_or(&self.ema, |best| &best.parameters)
    }
}
