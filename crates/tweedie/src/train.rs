//! Training: flat-buffer Adam, warm-up, clipping, EMA, validation, early stopping, and resumption
//! to the same bits.

mod adam;
mod prefetch;
mod rows;
mod state;
mod validation;
mod watched;

use serde::{Deserialize, Serialize};
use tch::{Tensor, no_grad};

use crate::model::{Denoiser, Mode, Model, Precision};
use crate::noise::Seed;
use crate::objective::{Objective, Trains};
use crate::tensor::to_vec;
use crate::{Error, Result};
pub(crate) use adam::Adam;
use prefetch::{Prefetch, Stage};
pub(crate) use rows::Order;
pub use rows::{Rows, TensorRows};
pub use state::{Best, State};
pub use validation::Validation;
pub use watched::Watched;

/// How to train, as plain data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Steps of the optimiser.
    pub iterations: u64,
    /// Rows per step; at least as many as there are rows means full batches.
    pub batch_size: usize,
    /// Adam's step size after warm-up; it falls along a cosine to a hundredth of itself.
    pub learning_rate: f64,
    /// Whether the step size falls along the cosine, or stays.
    pub decay: bool,
    /// Steps over which the step size rises from 0.
    pub warm_up: u64,
    /// Gradients longer than this are shortened to it.
    pub clip: f64,
    /// Decay of the exponential moving average of the parameters.
    pub ema: f64,
    /// Micro-batches per step, at most 100 000.
    pub accumulation: u64,
    /// What products of weights and activations are computed in while training.
    pub precision: Precision,
    /// Steps between validations, and between looks at samples of images.
    pub validate_every: u64,
    /// Validations without improvement after which training stops; 0: never.
    pub patience: u64,
    /// At most this many validation rows are used while training.
    pub validation_rows: usize,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// Seconds between checkpoints, besides those that `checkpoint_every` makes; 0: no such ones.
    pub checkpoint_seconds: f64,
    /// Training stops after this many seconds, the fit of the base included, measuring for a head's
    /// start not, and the step size falls in time for that; 0: never.
    pub max_seconds: f64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        TrainConfig {
            iterations: 20_000,
            batch_size: 256,
            learning_rate: 3e-3,
            decay: true,
            warm_up: 200,
            clip: 1.0,
            ema: 0.999,
            accumulation: 1,
            precision: Precision::F32,
            validate_every: 500,
            patience: 10,
            validation_rows: 2000,
            checkpoint_every: 1000,
            checkpoint_seconds: 60.0,
            max_seconds: 0.0,
        }
    }
}

/// Micro-batches per step: beyond these no training comes to its second step.
const MOST_ACCUMULATION: usize = 100_000;

impl TrainConfig {
    /// Checks every field.
    pub fn check(&self) -> Result<()> {
        let positive = [
            ("iterations", self.iterations),
            ("batch-size", self.batch_size as u64),
            ("accumulation", self.accumulation),
            ("validate-every", self.validate_every),
            ("checkpoint-every", self.checkpoint_every),
        ];
        if let Some((field, _)) = positive.iter().find(|(_, v)| *v == 0) {
            return Err(Error::config(*field, "0", "give a number of at least 1"));
        }
        Error::check_count("accumulation", self.accumulation, MOST_ACCUMULATION)?;
        let real = [("learning-rate", self.learning_rate), ("clip", self.clip)];
        if let Some((field, value)) = real.iter().find(|(_, v)| !(*v > 0.0 && v.is_finite())) {
            return Err(Error::config(*field, format!("{value}"), "give a positive number"));
        }
        let seconds =
            [("max-seconds", self.max_seconds), ("checkpoint-seconds", self.checkpoint_seconds)];
        if let Some((field, value)) = seconds.iter().find(|(_, v)| !(*v >= 0.0 && v.is_finite())) {
            return Err(Error::config(
                *field,
                format!("{value}"),
                "give seconds, or 0 for no limit",
            ));
        }
        if !(0.0..1.0).contains(&self.ema) {
            return Err(Error::config(
                "ema",
                format!("{}", self.ema),
                "give a number from 0 (none) to below 1",
            ));
        }
        Ok(())
    }

    /// Adam's step size at `iteration`, from 0, after so many `seconds`.
    pub fn learning_rate_at(&self, iteration: u64, seconds: f64) -> f64 {
        let warm = ((iteration + 1) as f64 / self.warm_up.max(1) as f64).min(1.0);
        if !self.decay {
            return self.learning_rate * warm;
        }
        let of_time = if self.max_seconds > 0.0 { seconds / self.max_seconds } else { 0.0 };
        let done = (iteration as f64 / self.iterations as f64).max(of_time).min(1.0);
        self.learning_rate
            * warm
            * (0.01 + 0.99 * 0.5 * (1.0 + (std::f64::consts::PI * done).cos()))
    }
}

/// One line of `metrics.jsonl`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Metric {
    /// Steps done.
    pub iteration: u64,
    /// Mean training loss since the last line.
    pub loss: f64,
    /// Standard deviation of the per-step loss since the last line.
    pub loss_sd: f64,
    /// Mean length of the gradient since the last line, before clipping.
    pub gradient_norm: f64,
    /// Steps since the last line whose gradient was longer than `clip`.
    pub clipped: u64,
    /// Steps since the last line that were left out because the gradient was not finite.
    pub skipped: u64,
    /// Rows of the steps since the last line that were left out of their step because their loss
    /// was not finite: a covariance without a factorisation, or numbers beyond single precision.
    #[serde(default)]
    pub skipped_rows: u64,
    /// Validation bound of the moving average, nats per row; larger is better. Of a table it is of
    /// the density in the network's units, of images of the probability of their levels (runs of
    /// earlier versions: of the density).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<f64>,
    /// Standard error of the validation bound over rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_std_error: Option<f64>,
    /// Adam's step size.
    pub learning_rate: f64,
    /// Seconds of training so far, resumed parts included.
    pub seconds: f64,
    /// Seconds since the last line in which the loop waited for its data.
    #[serde(default)]
    pub waited: f64,
}

/// What the caller of [`Trainer::fit`] wants to hear and decide.
pub trait Hooks {
    /// A metric line is ready.
    fn metric(&mut self, _metric: &Metric) -> Result<()> {
        Ok(())
    }
    /// A step is done.
    fn step(&mut self, _iteration: u64) {}
    /// The model holds its moving average, as at every validation. A look that is given up because
    /// of [`Hooks::stop`] is repeated when the training is resumed.
    fn look(&mut self, _model: &Model, _iteration: u64) -> Result<()> {
        Ok(())
    }
    /// The state to resume from.
    fn checkpoint(&mut self, _model: &Model, _state: &State) -> Result<()> {
        Ok(())
    }
    /// Whether to stop now: looked at between steps, micro-batches and evaluations of a validation.
    /// Once true it stays true.
    fn stop(&self) -> bool {
        false
    }
}

/// Hooks that do nothing.
pub struct Silent;
impl Hooks for Silent {}

/// Why training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// All iterations were done.
    Finished,
    /// The validation bound no longer improved.
    EarlyStop,
    /// `max_seconds` were over.
    OutOfTime,
    /// The hooks asked to stop.
    Stopped,
}

/// Fits models.
#[derive(Clone, Debug, Default)]
pub struct Trainer {
    /// How.
    pub config: TrainConfig,
}

/// Steps between metric lines, and between looks at whether the loss is finite.
const LOG_EVERY: u64 = 100;

impl Trainer {
    /// Trains `model` from `state` on. At the end the model holds the parameters that did best on
    /// `validation`, or where there is none the moving average; `state` can resume the training.
    ///
    /// With the same seed and the same calls, the result has the same bits on one machine whether
    /// or not it was interrupted, as long as `max_seconds` does not bite.
    pub fn fit(
        &self,
        model: &Model,
        objective: &dyn Objective,
        data: &dyn Rows,
        validation: Option<&Validation>,
        seed: Seed,
        state: &mut State,
        hooks: &mut dyn Hooks,
    ) -> Result<Ended> {
        let config = &self.config;
        config.check()?;
        if data.is_empty() {
            return Err(Error::config("data", "there are no rows to train on", "give more rows"));
        }
        let (known, labelled) = (model.classes(), data.classes(&[]).is_some());
        if labelled != (known > 0) {
            let rows = if labelled { "with" } else { "without" };
            let problem = format!("a model of {known} classes, and rows {rows} labels");
            return Err(Error::config("classes", problem, "give both, or neither"));
        }
        let parts = config.accumulation;
        let batches =
            state.iteration.saturating_mul(parts)..config.iterations.saturating_mul(parts);
        let order = rows::Order::new(data.len(), config.batch_size, seed.derive("order"));
        model.parameters().assign(&state.parameters);
        let range = trained_range(model, objective);
        model.parameters().track(range.0, range.1);
        let ended = std::thread::scope(|scope| {
            let space = model.space();
            let stage = Stage {
                kind: space.kind,
                device: space.device,
                classes: known,
                draws: objective.noise(space.dim as usize),
            };
            let batches = Prefetch::start(scope, data, order, stage, seed, batches);
            self.steps(model, objective, &batches, validation, seed, state, hooks, range)
        });
        model.parameters().track(0, model.parameters().size());
        ended
    }

    fn steps(
        &self,
        model: &Model,
        objective: &dyn Objective,
        batches: &Prefetch,
        validation: Option<&Validation>,
        seed: Seed,
        state: &mut State,
        hooks: &mut dyn Hooks,
        range: (i64, i64),
    ) -> Result<Ended> {
        let config = &self.config;
        let started = std::time::Instant::now();
        let before = state.seconds;
        let mut window = Window { clip: config.clip, ..Window::default() };
        let mut ended = Ended::Finished;
        let out_of_time = |seconds: f64| config.max_seconds > 0.0 && seconds >= config.max_seconds;
        let (mut saved, mut stepped) = (started, false);
        loop {
            // of this step, or of the last one before an interruption
            if state.pending.is_some() {
                let validated = match self.look(model, validation, state, hooks)? {
                    true => validation.is_some(),
                    false => {
                        ended = Ended::Stopped;
                        break;
                    }
                };
                if validated && config.patience > 0 && state.since_best >= config.patience {
                    ended = Ended::EarlyStop;
                    break;
                }
            }
            if state.iteration >= config.iterations {
                break;
            }
            if out_of_time(state.seconds) {
                ended = Ended::OutOfTime;
                break;
            }
            let due = state.iteration.is_multiple_of(config.checkpoint_every);
            let every = config.checkpoint_seconds;
            let due = due || every > 0.0 && saved.elapsed().as_secs_f64() >= every;
            if stepped && due {
                save(model, state, hooks)?;
                saved = std::time::Instant::now();
            }
            let gradient = match hooks.stop() {
                true => None,
                false => self.gradient(
                    model,
                    objective,
                    batches,
                    seed,
                    state,
                    range,
                    &mut window,
                    hooks,
                )?,
            };
            let Some(gradient) = gradient else {
                ended = Ended::Stopped;
                break;
            };
            self.step(model, state, gradient, range, &mut window);
            stepped = true;
            state.iteration += 1;
            state.seconds = before + started.elapsed().as_secs_f64();
            hooks.step(state.iteration);

            let last = out_of_time(state.seconds) || state.iteration == config.iterations;
            let look = last || state.iteration.is_multiple_of(config.validate_every);
            if look || state.iteration.is_multiple_of(LOG_EVERY) {
                let metric = window
                    .close(state, config.learning_rate_at(state.iteration - 1, state.seconds))?;
                match look {
                    true => state.pending = Some(metric),
                    false => hooks.metric(&metric)?,
                }
            }
        }
        save(model, state, hooks)?;
        model.parameters().assign(state.product());
        Ok(ended)
    }

    /// The look and the validation that are due, and their metric line. False if the hooks stopped
    /// them: they are still due then.
    fn look(
        &self,
        model: &Model,
        validation: Option<&Validation>,
        state: &mut State,
        hooks: &mut dyn Hooks,
    ) -> Result<bool> {
        let (iteration, precision) = (state.iteration, self.config.precision);
        let bound = on_average(model, state, |model| {
            hooks.look(model, iteration)?;
            let stop = || hooks.stop();
            let bound = validation.map(|v| v.bound_until(model, precision, &stop)).transpose()?;
            Ok((!stop()).then_some(bound.flatten()))
        })?;
        let (Some(bound), Some(mut metric)) = (bound, state.pending.take_if(|_| bound.is_some()))
        else {
            return Ok(false);
        };
        if let Some((value, error)) = bound {
            metric.validation = Some(value);
            metric.validation_std_error = Some(error);
            state.judge(value);
        }
        hooks.metric(&metric)?;
        Ok(true)
    }

    /// The gradient of a step, or none if the hooks stopped it before its last micro-batch.
    fn gradient(
        &self,
        model: &Model,
        objective: &dyn Objective,
        batches: &Prefetch,
        seed: Seed,
        state: &State,
        (start, length): (i64, i64),
        window: &mut Window,
        hooks: &dyn Hooks,
    ) -> Result<Option<Tensor>> {
        let parts = self.config.accumulation;
        let (mut total, mut losses): (Option<Tensor>, Option<Tensor>) = (None, None);
        for part in 0..parts {
            if part > 0 && hooks.stop() {
                return Ok(None);
            }
            let (mut staged, waited) = batches.next();
            window.waited += waited;
            // a head alone learns the errors of the score as it is used, without dropout
            let dropped = model.drops() && objective.trains() != Trains::Head;
            let batch = state.iteration * parts + part;
            let dropout = dropped.then(|| seed.derive("dropout").derive(&batch.to_string()));
            let mode = Mode { precision: self.config.precision, dropout };
            let loss = objective.loss(&model.in_mode(mode)?, &staged.batch, &mut staged.noise);
            // a row without a loss is left out: none of its gradient is in the others'
            let (finite, rows) = (loss.isfinite(), loss.numel() as f64);
            let counted = finite.sum(loss.kind());
            let loss = loss.where_self(&finite, &loss.zeros_like()).sum(loss.kind()) / &counted;
            window.rows += rows;
            window.lost_rows.push((-counted + rows).detach());
            losses = Some(losses.map_or_else(|| loss.detach(), |sum| sum + loss.detach()));
            let gradient = model.parameters().gradient(&loss, start, length);
            total = Some(match total {
                None => gradient,
                Some(total) => total + gradient,
            });
        }
        let (total, losses) = total.zip(losses).expect("at least one micro-batch");
        let of_step = |sum: Tensor| if parts > 1 { sum / parts as f64 } else { sum };
        window.losses.push(of_step(losses));
        Ok(Some(of_step(total)))
    }

    fn step(
        &self,
        model: &Model,
        state: &mut State,
        gradient: Tensor,
        (start, length): (i64, i64),
        window: &mut Window,
    ) {
        let config = &self.config;
        no_grad(|| {
            let norm = gradient.norm();
            let scale = (norm.reciprocal() * config.clip).clamp_max(1.0);
            let finite = norm.isfinite();
            let gradient = (gradient * scale).where_self(&finite, &Tensor::zeros_like(&norm));
            window.norms.push(norm);
            let part = |x: &Tensor| x.narrow(0, start, length);
            let rate = config.learning_rate_at(state.iteration, state.seconds);
            let adam = Adam::default();
            adam.step(
                &mut part(model.parameters().flat()),
                &mut part(&state.first),
                &mut part(&state.second),
                &gradient,
                state.iteration,
                rate,
            );
            let n = state.iteration as f64;
            let keep = config.ema.min((1.0 + n) / (10.0 + n));
            let _ = part(&state.ema).lerp_(&part(model.parameters().flat()), 1.0 - keep);
        });
    }
}

/// The flat range of parameters that `objective` trains: the score's, the head's or both.
fn trained_range(model: &Model, objective: &dyn Objective) -> (i64, i64) {
    let (score, all) = (model.score_size(), model.parameters().size());
    match objective.trains() {
        Trains::Score => (0, score),
        Trains::Head => (score, all - score),
        Trains::Both => (0, all),
    }
}

/// Hands the state to the hooks, the model's parameters in it.
fn save(model: &Model, state: &mut State, hooks: &mut dyn Hooks) -> Result<()> {
    state.parameters.copy_(model.parameters().flat());
    hooks.checkpoint(model, state)
}

/// Runs `f` on the model with its moving-average parameters.
fn on_average<T>(
    model: &Model,
    state: &mut State,
    f: impl FnOnce(&Model) -> Result<T>,
) -> Result<T> {
    state.parameters.copy_(model.parameters().flat());
    model.parameters().assign(&state.ema);
    let result = f(model);
    model.parameters().assign(&state.parameters);
    result
}

/// What has happened since the last metric line.
#[derive(Default)]
struct Window {
    losses: Vec<Tensor>,
    norms: Vec<Tensor>,
    /// Rows, and of them those without a finite loss, batch by batch.
    rows: f64,
    lost_rows: Vec<Tensor>,
    clip: f64,
    /// Seconds.
    waited: f64,
}

impl Window {
    fn close(&mut self, state: &State, learning_rate: f64) -> Result<Metric> {
        let take = |values: &mut Vec<Tensor>| -> Vec<f64> {
            to_vec(&Tensor::stack(&std::mem::take(values), 0))
        };
        let (losses, norms) = (take(&mut self.losses), take(&mut self.norms));
        let skipped = norms.iter().filter(|n| !n.is_finite()).count();
        let lost_rows: f64 = take(&mut self.lost_rows).iter().sum();
        let rows = std::mem::take(&mut self.rows);
        if skipped * 2 > norms.len()
            || losses.iter().all(|l| !l.is_finite())
            || lost_rows * 2.0 > rows
        {
            return Err(Error::numeric(
                format!(
                    "training diverged before iteration {}: the loss or its gradient is not finite",
                    state.iteration
                ),
                "lower --learning-rate, raise the warm-up, or check the data for extreme values; the last checkpoint is kept",
            ));
        }
        let finite: Vec<f64> = losses.iter().copied().filter(|l| l.is_finite()).collect();
        let mean = finite.iter().sum::<f64>() / finite.len() as f64;
        let variance = finite.iter().map(|l| (l - mean).powi(2)).sum::<f64>() / finite.len() as f64;
        let lengths: Vec<f64> = norms.iter().copied().filter(|n| n.is_finite()).collect();
        Ok(Metric {
            iteration: state.iteration,
            loss: mean,
            loss_sd: variance.sqrt(),
            gradient_norm: lengths.iter().sum::<f64>() / lengths.len().max(1) as f64,
            clipped: lengths.iter().filter(|n| **n > self.clip).count() as u64,
            skipped: skipped as u64,
            skipped_rows: lost_rows as u64,
            validation: None,
            validation_std_error: None,
            learning_rate,
            seconds: state.seconds,
            waited: std::mem::take(&mut self.waited),
        })
    }
}
