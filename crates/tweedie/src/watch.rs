//! What long work reports while it goes on, and how it is stopped.

use std::fmt;
use std::ops::Range;

use crate::likelihood::Estimate;
use crate::{Error, Result};

/// Who watches long work: a terminal, a log, or nobody ([`Silent`]). Work is a sequence of pieces,
/// each with a name and a number of units.
pub trait Watch {
    /// A piece of work begins: its name, for people, and its units (rows, samples, steps).
    fn begin(&mut self, what: &str, of: u64) {
        let _ = (what, of);
    }

    /// Units of the piece that are done, and all of them.
    fn progress(&mut self, done: u64, of: u64) {
        let _ = (done, of);
    }

    /// What the piece is of, where that becomes known only when it has begun: an estimator.
    fn stage(&mut self, name: &str) {
        let _ = name;
    }

    /// A figure of the work that goes on, such as its loss.
    fn note(&mut self, text: &str) {
        let _ = text;
    }

    /// The piece ends.
    fn end(&mut self) {}

    /// Whether to stop. Work looks at it between batches, and then ends with
    /// [`Error::Interrupted`].
    fn stop(&self) -> bool {
        false
    }

    /// Something a user has to know.
    fn say(&mut self, remark: Remark) {
        let _ = remark;
    }

    /// The scores of a batch of rows, by their places among those that are scored, as soon as they
    /// are there.
    ///
    /// # Errors
    /// Whatever ends the work, as a full disk does.
    fn scored(&mut self, rows: Range<usize>, scores: &Estimate) -> Result<()> {
        let _ = (rows, scores);
        Ok(())
    }
}

/// Something a user has to know of work that goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remark {
    /// What is being done, or what was found.
    Progress(String),
    /// What a reader of the result has to know.
    Note(String),
    /// What is probably not what was meant.
    Warning(String),
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Remark::Progress(text) => f.write_str(text),
            Remark::Note(text) => write!(f, "note: {text}"),
            Remark::Warning(text) => write!(f, "warning: {text}"),
        }
    }
}

/// Nobody watches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Watch for Silent {}

/// [`Error::Interrupted`] once `watch` wants to stop.
pub(crate) fn check_stop(watch: &dyn Watch) -> Result<()> {
    match watch.stop() {
        true => Err(Error::Interrupted("stopped".into())),
        false => Ok(()),
    }
}
