//! What a command says of its work on standard error, beside its progress.

use std::ops::Range;

use tweedie::Result;
use tweedie::density::remarks_on;
use tweedie::likelihood::Estimate;
use tweedie::watch::{Remark, Watch};

use crate::flags::Flags;
use crate::interrupt::stop_requested;
use crate::progress::Progress;
use crate::terminal::tell;
use crate::train::{Fit, Trace};

/// The watch of a command: progress and remarks on standard error, scores to wherever they go.
pub struct Console<'a> {
    pub quiet: bool,
    pub progress: Option<Progress>,
    /// What is known of a training, where the work is one.
    pub fit: Fit,
    /// The trace of a training, where one is requested.
    pub trace: Option<Trace>,
    /// Whether the piece of work is a training's steps.
    trains: bool,
    scored: Option<Box<Scored<'a>>>,
}

/// What is done with the scores of a batch of rows.
type Scored<'a> = dyn FnMut(Range<usize>, &Estimate) -> Result<()> + 'a;

impl<'a> Console<'a> {
    pub fn new(quiet: bool) -> Console<'a> {
        let fit = Fit::default();
        Console { quiet, progress: None, fit, trace: None, trains: false, scored: None }
    }

    /// With something to do with the scores of every batch.
    pub fn with_scores(
        self,
        scored: impl FnMut(Range<usize>, &Estimate) -> Result<()> + 'a,
    ) -> Console<'a> {
        Console { scored: Some(Box::new(scored)), ..self }
    }

    /// A line beside the progress, where there is any.
    pub fn message(&mut self, text: String) {
        match &mut self.progress {
            Some(progress) => progress.message(text),
            None => say(self.quiet, text),
        }
    }
}

impl Watch for Console<'_> {
    fn begin(&mut self, what: &str, of: u64) {
        self.trains = what == "train";
        let mut progress = Progress::new(what, of, self.quiet);
        self.fit.set_pace(&mut progress);
        self.progress = Some(progress);
    }

    fn progress(&mut self, done: u64, _of: u64) {
        if let Some(progress) = &mut self.progress {
            progress.at(done);
        }
        let trace = self.trace.as_mut().filter(|_| self.trains);
        trace.and_then(Trace::step).into_iter().for_each(|text| self.message(text));
    }

    fn stage(&mut self, name: &str) {
        if let Some(progress) = &mut self.progress {
            progress.stage(name);
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
        let said = self.trace.as_mut().filter(|_| self.trains).and_then(Trace::end);
        said.into_iter().for_each(|text| self.message(text));
    }

    fn stop(&self) -> bool {
        stop_requested()
    }

    fn say(&mut self, remark: Remark) {
        self.message(Flags::here().name_in(&remark.to_string()));
    }

    fn scored(&mut self, rows: Range<usize>, scores: &Estimate) -> Result<()> {
        match &mut self.scored {
            Some(scored) => scored(rows, scores),
            None => Ok(()),
        }
    }
}

/// A remark on standard error, unless quiet.
pub fn say(quiet: bool, text: impl AsRef<str>) {
    if !quiet {
        tell(text.as_ref());
    }
}

/// What of a table's source is not in it, and how it was read.
pub fn say_left_out(quiet: bool, table: &tweedie::data::Dataset) {
    remarks_on(table).iter().for_each(|remark| say(quiet, remark.to_string()));
}
