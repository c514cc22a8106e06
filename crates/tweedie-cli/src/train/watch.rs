//! What a training prints on a terminal, and how it is stopped from there.

use std::sync::atomic::{AtomicBool, Ordering};

use tweedie::Result;
use tweedie::density::WatchFit;
use tweedie::run::{DataRecord, Prepared, RunConfig, RunDir, Training};
use tweedie::train::Metric;
use tweedie::watch::{Remark, Watch};

use super::words::{at_iteration, bound_in_words, describe, resumption};
use crate::console::{INTERRUPTED, Progress, exit_now, request_stop, say, stop_requested, tell};
use crate::flags::Flags;
use crate::pictures::{LEVELS, Pictures};

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

/// Validations without improvement after which that is reported; then after twice as many, and so on.
const FALLING: u64 = 3;

pub struct Console {
    quiet: bool,
    resumes: bool,
    progress: Option<Progress>,
    /// What is trained, once it is known.
    training: Option<(RunConfig, DataRecord)>,
    start: Start,
    /// The best validation and its iteration, where it is known.
    best: Option<(f64, Option<u64>)>,
    since_best: u64,
}

/// Where a training starts.
#[derive(Default)]
struct Start {
    iteration: u64,
    seconds: f64,
}

impl Console {
    pub fn new(quiet: bool, resumes: bool) -> Console {
        Console {
            quiet,
            resumes,
            progress: None,
            training: None,
            start: Start::default(),
            best: None,
            since_best: 0,
        }
    }

    /// A line beside the progress, where there is any.
    fn message(&mut self, text: String) {
        match &mut self.progress {
            Some(progress) => progress.message(text),
            None => say(self.quiet, text),
        }
    }

    /// Says when validation does not improve, and which parameters are kept.
    fn judge(&mut self, value: f64, iteration: u64) {
        if value.is_finite() && self.best.is_none_or(|(best, _)| value > best) {
            (self.best, self.since_best) = (Some((value, Some(iteration))), 0);
            return;
        }
        self.since_best += 1;
        let since = self.since_best;
        if let (Some((best, of)), Some((config, record))) = (self.best, &self.training)
            && since.is_multiple_of(FALLING)
            && (since / FALLING).is_power_of_two()
        {
            let patience = match config.train.patience {
                0 => String::new(),
                patience => format!("; training stops after {patience}"),
            };
            let (at, best) = (at_iteration(of), bound_in_words(record, best));
            self.message(format!(
                "validation has not improved for {since} looks: the parameters of {at} ({best}) \
                 are kept{patience}"
            ));
        }
    }
}

impl Watch for Console {
    fn begin(&mut self, what: &str, of: u64) {
        let mut progress = Progress::new(what, of, self.quiet);
        if let Some((config, record)) = &self.training {
            let (train, rows) = (&config.train, record.rows[0]);
            let each = train.accumulation * train.batch_size.min(rows) as u64;
            progress.rate(if record.image.is_some() { "images" } else { "rows" }, each);
            if train.max_seconds > 0.0 {
                progress.limit(train.max_seconds - self.start.seconds);
            }
            progress.start_at(self.start.iteration);
        }
        self.progress = Some(progress);
    }

    fn progress(&mut self, done: u64, _of: u64) {
        if let Some(progress) = &mut self.progress {
            progress.at(done);
        }
    }

    fn note(&mut self, text: &str) {
        if let Some(progress) = &mut self.progress {
            progress.note(text);
        }
    }

    fn end(&mut self) {
        if let Some(progress) = self.progress.take() {
            progress.finish();
        }
    }

    fn stop(&self) -> bool {
        stop_requested()
    }

    fn say(&mut self, remark: Remark) {
        let text = Flags::here().name_in(&remark.to_string());
        self.message(text);
    }
}

impl WatchFit for Console {
    fn data(&mut self, prepared: &Prepared) {
        describe(prepared, self.quiet);
    }

    fn begun(&mut self, training: &Training, config: &RunConfig, record: &DataRecord) {
        let state = &training.state;
        if self.resumes {
            say(self.quiet, resumption(config, state, &training.dir));
        }
        self.start = Start { iteration: state.iteration, seconds: state.seconds };
        self.best = state.best.as_ref().map(|best| (best.value, best.iteration));
        self.since_best = state.since_best;
        self.training = Some((config.clone(), record.clone()));
        BEGUN.store(true, Ordering::Relaxed);
    }

    fn metric(&mut self, metric: &Metric) {
        let mut text = format!("loss {:.4}", metric.loss);
        if let Some(progress) = &mut self.progress {
            progress.note(&text);
        }
        let (Some(value), Some((_, record))) = (metric.validation, &self.training) else { return };
        let bound = bound_in_words(record, value);
        text = format!("iteration {}, {text}, validation bound {bound}", metric.iteration);
        if metric.skipped > 0 {
            text += &format!(", {} steps skipped", metric.skipped);
        }
        if metric.skipped_rows > 0 {
            text += &format!(", {} rows without a finite loss left out", metric.skipped_rows);
        }
        self.message(text);
        self.judge(value, metric.iteration);
    }

    /// A sheet of the samples.
    fn samples(&mut self, dir: &RunDir, iteration: u64, levels: &[f64]) -> Result<()> {
        let shape = self.training.as_ref().and_then(|(_, record)| record.image);
        let Some(shape) = shape else { return Ok(()) };
        let sheet = Pictures::images(shape).sheet(levels, 4, LEVELS);
        dir.write_sheet(iteration, &sheet.png())
    }
}
