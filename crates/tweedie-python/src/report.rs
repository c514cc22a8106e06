//! What work says while it goes on, from the thread that does it to the one that waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use tweedie::density::WatchFit;
use tweedie::train::Metric;
use tweedie::watch::{Remark, Watch};

/// Progress is told no more often.
const PAUSE: Duration = Duration::from_millis(100);

/// Something that is said.
pub enum Said {
    /// A piece of work begins, of so many units.
    Begin(String, u64),
    /// Units that are done, and all of them.
    Progress(u64, u64),
    /// A figure of the work, such as its loss.
    Note(String),
    /// The piece ends.
    End,
    /// A remark: its kind and its text.
    Remark(&'static str, String),
}

/// Who watches work for a thread that waits.
pub struct Reporter {
    to: Box<dyn Fn(Said) + Send>,
    stop: Arc<AtomicBool>,
    last: Option<Instant>,
}

impl Reporter {
    /// Tells `to`; work ends once `stop` is set.
    pub fn new<T: From<Said> + Send + 'static>(to: Sender<T>, stop: Arc<AtomicBool>) -> Reporter {
        // where nobody waits any more nobody is told
        let to = Box::new(move |said| drop(to.send(T::from(said))));
        Reporter { to, stop, last: None }
    }
}

impl Watch for Reporter {
    fn begin(&mut self, what: &str, of: u64) {
        self.last = None;
        (self.to)(Said::Begin(what.into(), of));
    }

    fn progress(&mut self, done: u64, of: u64) {
        if done < of && self.last.is_some_and(|last| last.elapsed() < PAUSE) {
            return;
        }
        self.last = Some(Instant::now());
        (self.to)(Said::Progress(done, of));
    }

    fn stage(&mut self, name: &str) {
        (self.to)(Said::Note(name.into()));
    }

    fn note(&mut self, text: &str) {
        (self.to)(Said::Note(text.into()));
    }

    fn end(&mut self) {
        (self.to)(Said::End);
    }

    fn stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn say(&mut self, remark: Remark) {
        let (kind, text) = match remark {
            Remark::Progress(text) => ("progress", text),
            Remark::Note(text) => ("note", text),
            Remark::Warning(text) => ("warning", text),
        };
        (self.to)(Said::Remark(kind, text));
    }
}

impl WatchFit for Reporter {
    fn metric(&mut self, metric: &Metric) {
        let validation = metric.validation.map(|bound| format!(", validation {bound:.4}"));
        let text = format!("loss {:.4}{}", metric.loss, validation.unwrap_or_default());
        (self.to)(Said::Note(text));
    }
}
