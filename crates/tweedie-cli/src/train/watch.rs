//! What a training prints on a terminal, and how it is stopped from there.

use std::sync::atomic::{AtomicBool, Ordering};

use tweedie::Result;
use tweedie::density::WatchFit;
use tweedie::run::{DataRecord, KeepBy, Prepared, RunConfig, RunDir, Training};
use tweedie::train::Metric;
use tweedie_report::plot::Pictures;

use super::words::{at_iteration, describe, figure_in_words, resumption};
use crate::console::{Console, say};
use crate::interrupt::{INTERRUPTED, exit_now, request_stop};
use crate::progress::Progress;
use crate::terminal::tell;

/// Whether there is a training to save.
static BEGUN: AtomicBool = AtomicBool::new(false);

/// Once a training has begun the first request to stop is obeyed when everything is saved. Before
/// that, and a second time, it is obeyed at once: files of a run are whole at any moment.
pub fn listen() {
    let handler = || {
        let words = match (BEGUN.load(Ordering::Relaxed), request_stop()) {
            (true, true) => return,
            (true, false) => "stopped at once; the last checkpoint is kept: go on with --resume",
            (false, _) => "stopped before the first step",
        };
        tell(words);
        exit_now(INTERRUPTED);
    };
    // without it the signal itself ends the program
    let _ = ctrlc::set_handler(handler);
}

/// Validations without improvement after which that is reported; then after twice as many, and so
/// on.
const FALLING: u64 = 3;

/// What the console knows of a training.
#[derive(Default)]
pub struct Fit {
    /// Whether it goes on with an earlier one.
    pub resumes: bool,
    /// What is trained, once it is known.
    training: Option<(RunConfig, DataRecord)>,
    /// The iteration and the seconds of training it starts at.
    start: (u64, f64),
    /// The best validation and its iteration, where it is known.
    best: Option<(f64, Option<u64>)>,
    since_best: u64,
}

impl Fit {
    /// How fast a training goes, where it starts and when it ends.
    pub fn set_pace(&self, progress: &mut Progress) {
        let Some((RunConfig { train, .. }, record)) = &self.training else { return };
        let each = train.accumulation * train.batch_size.min(record.rows[0]) as u64;
        progress.rate(if record.image.is_some() { "images" } else { "rows" }, each);
        if train.max_seconds > 0.0 {
            progress.limit(train.max_seconds - self.start.1);
        }
        progress.start_at(self.start.0);
    }

    /// Takes note of a validation. Where it has not improved for a while: in words, with the
    /// parameters that are kept.
    fn judge(&mut self, value: f64, iteration: u64) -> Option<String> {
        let by = self.training.as_ref().map_or(KeepBy::Bound, |(config, _)| config.keep.by);
        let better = |best: f64| match by {
            KeepBy::Bound => value > best,
            KeepBy::Distance => value < best,
        };
        if value.is_finite() && self.best.is_none_or(|(best, _)| better(best)) {
            (self.best, self.since_best) = (Some((value, Some(iteration))), 0);
            return None;
        }
        self.since_best += 1;
        let since = self.since_best;
        let ((best, of), (config, record)) = (self.best?, self.training.as_ref()?);
        if !since.is_multiple_of(FALLING) || !(since / FALLING).is_power_of_two() {
            return None;
        }
        let patience = match config.train.patience {
            0 => String::new(),
            patience => format!("; training stops after {patience}"),
        };
        let (at, best) = (at_iteration(of), figure_in_words(by, record, best));
        Some(format!(
            "validation has not improved for {since} looks: the parameters of {at} ({best}) are \
             kept{patience}"
        ))
    }
}

impl WatchFit for Console<'_> {
    fn data(&mut self, prepared: &Prepared) {
        describe(prepared, self.quiet);
    }

    fn begun(&mut self, training: &Training, config: &RunConfig, record: &DataRecord) {
        let (state, fit) = (&training.state, &mut self.fit);
        if fit.resumes {
            say(self.quiet, resumption(config, state, &training.dir));
        }
        fit.start = (state.iteration, state.seconds);
        fit.best = state.best.as_ref().map(|best| (best.value, best.iteration));
        fit.since_best = state.since_best;
        fit.training = Some((config.clone(), record.clone()));
        BEGUN.store(true, Ordering::Relaxed);
    }

    fn metric(&mut self, metric: &Metric) {
        let mut text = format!("loss {:.4}", metric.loss);
        if let Some(progress) = &mut self.progress {
            progress.note(&text);
        }
        let Some((config, record)) = &self.fit.training else { return };
        let figures = [(KeepBy::Bound, metric.validation), (KeepBy::Distance, metric.distance)];
        let kept_by = figures.iter().find(|(by, _)| *by == config.keep.by);
        let Some(value) = kept_by.and_then(|(_, value)| *value) else { return };
        let words = figures.iter().filter_map(|(by, value)| {
            Some(format!(", {}", figure_in_words(*by, record, (*value)?)))
        });
        text = format!("iteration {}, {text}{}", metric.iteration, words.collect::<String>());
        if metric.skipped > 0 {
            text += &format!(", {} steps skipped", metric.skipped);
        }
        if metric.skipped_rows > 0 {
            text += &format!(", {} rows without a finite loss left out", metric.skipped_rows);
        }
        self.message(text);
        if let Some(text) = self.fit.judge(value, metric.iteration) {
            self.message(text);
        }
    }

    /// A sheet of the samples.
    fn samples(&mut self, dir: &RunDir, iteration: u64, levels: &[f64]) -> Result<()> {
        let shape = self.fit.training.as_ref().and_then(|(_, record)| record.levels());
        let Some(shape) = shape else { return Ok(()) };
        dir.write_sheet(iteration, &Pictures::images(shape).square(levels).png())
    }
}
