//! The training loop.

use std::time::Instant;

use tch::{Tensor, no_grad};

use super::adam::Adam;
use super::metric::Window;
use super::prefetch::{Prefetch, Stage, Staged};
use super::rows::{Order, Rows};
use super::{Hooks, State, StopReason, TrainConfig};
use crate::model::Parameters;
use crate::noise::Seed;
use crate::{Error, Result};

/// What was found of parameters at a validation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// Mean and standard error of the validation bound, where there is one.
    pub bound: Option<(f64, f64)>,
    /// What they are kept by instead, the less the better ([`Hooks::distance`]).
    pub distance: Option<f64>,
}

/// What is trained: parameters, and a loss of each row.
pub(crate) trait Trainee {
    /// What it is called in messages.
    fn name(&self) -> &'static str;

    /// Its parameters.
    fn parameters(&self) -> &Parameters;

    /// Start and length of the flat range of those that are trained.
    fn trained(&self) -> (i64, i64) {
        (0, self.parameters().size())
    }

    /// Where its batches go.
    fn stage(&self) -> Stage;

    /// The loss of each row of micro-batch `number`, `[b]`; differentiable in the parameters.
    ///
    /// # Errors
    /// If the loss cannot be computed as configured.
    fn loss(&self, staged: &mut Staged, number: u64) -> Result<Tensor>;

    /// What the loss keeps from step to step, if anything.
    fn memory(&self) -> Option<Tensor> {
        None
    }

    /// Goes on with what [`Trainee::memory`] gave, or as at the start.
    ///
    /// # Errors
    /// If it is not what this loss keeps.
    fn restore(&self, _memory: Option<&Tensor>) -> Result<()> {
        Ok(())
    }

    /// Looks at the parameters as they are. It is given up once the hooks want to stop.
    ///
    /// # Errors
    /// Whatever ends the training.
    fn look(&self, _iteration: u64, _hooks: &mut dyn Hooks) -> Result<Seen> {
        Ok(Seen::default())
    }

    /// Keeps the state to resume from.
    ///
    /// # Errors
    /// If it cannot be written.
    fn save(&self, state: &State, hooks: &mut dyn Hooks) -> Result<()>;
}

/// Fits models.
#[derive(Clone, Debug, Default)]
pub struct Trainer {
    /// Steps, batches, step sizes and when to stop.
    pub config: TrainConfig,
}

/// Steps between metric lines, and between looks at whether the loss is finite.
const LOG_EVERY: u64 = 100;

/// A training under way.
struct Loop<'a> {
    config: &'a TrainConfig,
    trainee: &'a dyn Trainee,
    batches: &'a Prefetch,
    window: Window,
}

impl Trainer {
    /// Trains from `state` on. At the end the parameters are those that did best by validation, or
    /// where there is none the moving average; `state` can resume the training.
    pub(crate) fn train(
        &self,
        trainee: &dyn Trainee,
        data: &dyn Rows,
        seed: Seed,
        state: &mut State,
        hooks: &mut dyn Hooks,
    ) -> Result<StopReason> {
        let config = &self.config;
        config.check()?;
        if data.is_empty() {
            let problem = "there are no rows to train on";
            return Err(Error::config("data.source", problem, "give more rows"));
        }
        let parts = config.accumulation;
        let numbers =
            state.iteration.saturating_mul(parts)..config.iterations.saturating_mul(parts);
        let order = Order::new(data.len(), config.batch_size, seed.derive("order"));
        trainee.restore(state.memory.as_ref())?;
        let parameters = trainee.parameters();
        parameters.assign(&state.parameters);
        let (start, length) = trainee.trained();
        parameters.track(start, length);
        let reason = std::thread::scope(|scope| {
            let batches = &Prefetch::start(scope, data, order, trainee.stage(), seed, numbers);
            let window = Window { clip: config.clip, ..Window::default() };
            Loop { config, trainee, batches, window }.run(state, hooks)
        });
        parameters.track(0, parameters.size());
        reason
    }
}

impl Loop<'_> {
    fn run(&mut self, state: &mut State, hooks: &mut dyn Hooks) -> Result<StopReason> {
        let config = self.config;
        let started = Instant::now();
        let before = state.seconds;
        let out_of_time = |seconds: f64| config.max_seconds > 0.0 && seconds >= config.max_seconds;
        let (mut saved, mut stepped) = (started, false);
        let reason = loop {
            // of this step, or of the last one before an interruption
            if state.pending.is_some() {
                let Some(validated) = self.look(state, hooks)? else { break StopReason::Stopped };
                if validated && config.patience > 0 && state.since_best >= config.patience {
                    break StopReason::EarlyStop;
                }
            }
            if state.iteration >= config.iterations {
                break StopReason::Finished;
            }
            if out_of_time(state.seconds) {
                break StopReason::OutOfTime;
            }
            let every = config.checkpoint_seconds;
            let due = state.iteration.is_multiple_of(config.checkpoint_every)
                || every > 0.0 && saved.elapsed().as_secs_f64() >= every;
            if stepped && due {
                self.save(state, hooks)?;
                saved = Instant::now();
            }
            let gradient = match hooks.stop() {
                true => None,
                false => self.gradient(state, hooks)?,
            };
            let Some(gradient) = gradient else { break StopReason::Stopped };
            self.step(state, gradient);
            // a step that is given up half-way leaves nothing of it
            state.memory = self.trainee.memory();
            stepped = true;
            state.iteration += 1;
            state.seconds = before + started.elapsed().as_secs_f64();
            hooks.step(state.iteration);

            let last = out_of_time(state.seconds) || state.iteration == config.iterations;
            let look = last || state.iteration.is_multiple_of(config.validate_every);
            if look || state.iteration.is_multiple_of(LOG_EVERY) {
                let rate = config.learning_rate_at(state.iteration - 1, state.seconds);
                let metric = self.window.close(self.trainee.name(), state, rate)?;
                match look {
                    true => state.pending = Some(metric),
                    false => hooks.metric(&metric)?,
                }
            }
        };
        self.save(state, hooks)?;
        self.trainee.parameters().assign(state.product());
        Ok(reason)
    }

    /// The look and the validation that are due, on the moving average, and their metric line:
    /// whether there was a validation. `None` if the hooks stopped them: they are still due then.
    fn look(&self, state: &mut State, hooks: &mut dyn Hooks) -> Result<Option<bool>> {
        let parameters = self.trainee.parameters();
        state.parameters.copy_(parameters.flat());
        parameters.assign(&state.ema);
        let seen = self.trainee.look(state.iteration, hooks);
        let stopped = hooks.stop();
        parameters.assign(&state.parameters);
        let Seen { bound, distance } = seen?;
        let Some(mut metric) = state.pending.take_if(|_| !stopped) else { return Ok(None) };
        (metric.validation, metric.validation_std_error) = bound.unzip();
        metric.distance = distance;
        match (distance, metric.validation) {
            (Some(distance), _) => state.judge(distance, f64::lt),
            (None, Some(bound)) => state.judge(bound, f64::gt),
            (None, None) => (),
        }
        hooks.metric(&metric)?;
        Ok(Some(bound.is_some() || distance.is_some()))
    }

    /// Hands the state to the trainee, the parameters in it.
    fn save(&self, state: &mut State, hooks: &mut dyn Hooks) -> Result<()> {
        state.parameters.copy_(self.trainee.parameters().flat());
        self.trainee.save(state, hooks)
    }

    /// The gradient of a step, or none if the hooks stopped it before its last micro-batch.
    fn gradient(&mut self, state: &State, hooks: &dyn Hooks) -> Result<Option<Tensor>> {
        let parts = self.config.accumulation;
        let (start, length) = self.trainee.trained();
        let (mut total, mut losses): (Option<Tensor>, Option<Tensor>) = (None, None);
        for part in 0..parts {
            if part > 0 && hooks.stop() {
                return Ok(None);
            }
            let (mut staged, waited) = self.batches.next();
            self.window.waited += waited;
            let loss = self.trainee.loss(&mut staged, state.iteration * parts + part)?;
            // a row without a loss is left out: none of its gradient is in the others'
            let (finite, rows) = (loss.isfinite(), loss.numel() as f64);
            let counted = finite.sum(loss.kind());
            let loss = loss.where_self(&finite, &loss.zeros_like()).sum(loss.kind()) / &counted;
            self.window.rows += rows;
            self.window.lost_rows.push((-counted + rows).detach());
            losses = Some(losses.map_or_else(|| loss.detach(), |sum| sum + loss.detach()));
            let gradient = self.trainee.parameters().gradient(&loss, start, length);
            total = Some(match total {
                None => gradient,
                Some(total) => total + gradient,
            });
        }
        let (total, losses) = total.zip(losses).expect("at least one micro-batch");
        let of_step = |sum: Tensor| if parts > 1 { sum / parts as f64 } else { sum };
        self.window.losses.push(of_step(losses));
        Ok(Some(of_step(total)))
    }

    fn step(&mut self, state: &mut State, gradient: Tensor) {
        let (config, parameters) = (self.config, self.trainee.parameters());
        let (start, length) = self.trainee.trained();
        no_grad(|| {
            let norm = gradient.norm();
            let scale = (norm.reciprocal() * config.clip).clamp_max(1.0);
            let finite = norm.isfinite();
            let gradient = (gradient * scale).where_self(&finite, &Tensor::zeros_like(&norm));
            self.window.norms.push(norm);
            let part = |x: &Tensor| x.narrow(0, start, length);
            let rate = config.learning_rate_at(state.iteration, state.seconds);
            let adam = Adam::with_decay(config.weight_decay).with_beta2(config.beta2);
            adam.step(
                &mut part(parameters.flat()),
                &mut part(&state.first),
                &mut part(&state.second),
                &gradient,
                state.iteration,
                rate,
            );
            let n = state.iteration as f64;
            let keep = config.ema.min((1.0 + n) / (10.0 + n));
            let _ = part(&state.ema).lerp_(&part(parameters.flat()), 1.0 - keep);
        });
    }
}
