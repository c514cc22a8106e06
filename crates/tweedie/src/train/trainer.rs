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
use crate::process_group::ProcessGroup;
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

    /// The loss of each row of this process's part of micro-batch `number`, `[b]`; differentiable in
    /// the parameters.
    ///
    /// # Errors
    /// If the loss cannot be computed as configured.
    fn loss(&self, staged: &mut Staged, number: u64) -> Result<Tensor>;

    /// What the last loss saw that it learns from ([`crate::objective::Objective::observed`]).
    fn observed(&self) -> Option<Vec<(u32, f64)>> {
        None
    }

    /// Learns from what was seen of all rows of a micro-batch.
    fn learn(&self, _observed: &[(u32, f64)]) {}

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

    /// Looks at the parameters as they are, which every process of the group calls. It is given up
    /// once the hooks want to stop.
    ///
    /// # Errors
    /// Whatever ends the training.
    fn look(&self, _iteration: u64, _group: &ProcessGroup, _hooks: &mut dyn Hooks) -> Result<Seen> {
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
    /// The processes that the rows of every batch are split over. Each of them has the same
    /// parameters, data and seed, and makes the same calls.
    pub group: ProcessGroup,
}

/// Steps between metric lines, and between looks at whether the loss is finite.
const LOG_EVERY: u64 = 100;

/// A training under way.
struct Loop<'a> {
    config: &'a TrainConfig,
    group: &'a ProcessGroup,
    trainee: &'a dyn Trainee,
    batches: &'a Prefetch,
    window: Window,
}

/// What all processes go by between two steps.
struct Agreed {
    /// Whether one of them has to stop.
    stop: bool,
    /// Seconds of training by the leader's clock.
    seconds: f64,
}

/// The gradient of a step, up to a factor.
struct Gradient {
    sum: Tensor,
    /// One over the share of rows that have a loss.
    factor: Tensor,
}

impl Trainer {
    /// A trainer in one process.
    pub fn new(config: TrainConfig) -> Trainer {
        Trainer { config, group: ProcessGroup::alone() }
    }

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
        let (parts, rows) = (config.accumulation, config.batch_size.min(data.len()));
        if rows < self.group.size() {
            let problem = format!("{rows} rows at a time for {} processes", self.group.size());
            return Err(Error::config(
                "train.batch_size",
                problem,
                "give more, or fewer processes",
            ));
        }
        let numbers =
            state.iteration.saturating_mul(parts)..config.iterations.saturating_mul(parts);
        let order = Order::new(data.len(), config.batch_size, seed.derive("order"));
        trainee.restore(state.memory.as_ref())?;
        let parameters = trainee.parameters();
        parameters.assign(&state.parameters);
        let (start, length) = trainee.trained();
        parameters.track(start, length);
        let reason = std::thread::scope(|scope| {
            let part = self.group.part(rows);
            let stage = trainee.stage();
            let batches = &Prefetch::start(scope, data, (order, part), stage, seed, numbers);
            let window = Window { clip: config.clip, ..Window::default() };
            Loop { config, group: &self.group, trainee, batches, window }.run(state, hooks)
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
        let mut agreed = self.agree(before, hooks)?;
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
            let stop = agreed.stop || self.group.is_alone() && hooks.stop();
            let gradient = match stop {
                true => None,
                false => self.gradient(state, hooks)?,
            };
            let Some(gradient) = gradient else { break StopReason::Stopped };
            self.step(state, gradient);
            // a step that is given up half-way leaves nothing of it
            state.memory = self.trainee.memory();
            stepped = true;
            state.iteration += 1;
            agreed = self.agree(before + started.elapsed().as_secs_f64(), hooks)?;
            state.seconds = agreed.seconds;
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

    /// What all processes go by: whether one has to stop, and the leader's seconds.
    fn agree(&self, seconds: f64, hooks: &dyn Hooks) -> Result<Agreed> {
        let stop = hooks.stop();
        if self.group.is_alone() {
            return Ok(Agreed { stop, seconds });
        }
        let seconds = if self.group.is_leader() { seconds } else { 0.0 };
        let mut sum = Tensor::from_slice(&[f64::from(u8::from(stop)), seconds]);
        self.group.sum(&mut sum)?;
        Ok(Agreed { stop: sum.double_value(&[0]) > 0.0, seconds: sum.double_value(&[1]) })
    }

    /// The look and the validation that are due, on the moving average, and their metric line:
    /// whether there was a validation. `None` if the hooks stopped them: they are still due then.
    fn look(&self, state: &mut State, hooks: &mut dyn Hooks) -> Result<Option<bool>> {
        let parameters = self.trainee.parameters();
        state.parameters.copy_(parameters.flat());
        parameters.assign(&state.ema);
        let seen = self.trainee.look(state.iteration, self.group, hooks);
        parameters.assign(&state.parameters);
        let stopped = self.group.any(hooks.stop())?;
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
    fn gradient(&mut self, state: &State, hooks: &dyn Hooks) -> Result<Option<Gradient>> {
        let (parts, alone) = (self.config.accumulation, self.group.is_alone());
        let (start, length) = self.trainee.trained();
        let add = |sum: Option<Tensor>, more: Tensor| match sum {
            None => more,
            Some(sum) => sum + more,
        };
        let (mut gradient, mut losses, mut counted, mut rows) = (None, None, None, 0.0);
        for part in 0..parts {
            if part > 0 && alone && hooks.stop() {
                return Ok(None);
            }
            let (mut staged, waited) = self.batches.next();
            self.window.waited += waited;
            // of all processes, and of all micro-batches
            let all = (staged.all as u64 * parts) as f64;
            let loss = self.trainee.loss(&mut staged, state.iteration * parts + part)?;
            self.learn()?;
            // a row without a loss is left out: none of its gradient is in the others'
            let finite = loss.isfinite();
            counted = Some(add(counted, finite.sum(loss.kind())));
            let loss = loss.where_self(&finite, &loss.zeros_like()).sum(loss.kind()) / all;
            losses = Some(add(losses, loss.detach()));
            rows = all;
            let own = self.trainee.parameters().gradient(&loss, start, length);
            gradient = Some(add(gradient, own));
        }
        let parts = gradient.zip(losses).zip(counted).expect("at least one micro-batch");
        let ((sum, losses), counted) = parts;
        let (sum, losses, counted) = self.of_all(sum, losses, counted)?;
        let factor = counted.reciprocal() * rows;
        self.window.losses.push(losses * &factor);
        self.window.rows += rows;
        self.window.lost_rows.push(-counted + rows);
        Ok(Some(Gradient { sum, factor }))
    }

    /// Learns from what all processes have seen of a micro-batch.
    fn learn(&self) -> Result<()> {
        if let Some(observed) = self.trainee.observed() {
            self.trainee.learn(&self.group.gather(observed)?.concat());
        }
        Ok(())
    }

    /// Gradient, loss and number of rows that have one, summed over all processes at once.
    fn of_all(
        &self,
        gradient: Tensor,
        loss: Tensor,
        counted: Tensor,
    ) -> Result<(Tensor, Tensor, Tensor)> {
        if self.group.is_alone() {
            return Ok((gradient, loss, counted));
        }
        let length = gradient.size()[0];
        let [loss, counted] = [loss, counted].map(|x| x.to_kind(gradient.kind()).view([1]));
        let mut all = Tensor::cat(&[gradient, loss, counted], 0);
        self.group.sum(&mut all)?;
        Ok((all.narrow(0, 0, length), all.get(length), all.get(length + 1)))
    }

    fn step(&mut self, state: &mut State, Gradient { sum, factor }: Gradient) {
        let (config, parameters) = (self.config, self.trainee.parameters());
        let (start, length) = self.trainee.trained();
        no_grad(|| {
            let norm = sum.norm() * &factor;
            let scale = (norm.reciprocal() * config.clip).clamp_max(1.0) * factor;
            let finite = norm.isfinite();
            let gradient = (sum * scale).where_self(&finite, &Tensor::zeros_like(&norm));
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
