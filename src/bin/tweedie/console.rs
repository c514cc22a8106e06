//! Progress on standard error: a bar on a terminal, a line now and then elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tweedie::Result;
use tweedie::run::RunDir;

/// Progress of one piece of work.
pub struct Progress {
    bar: Option<ProgressBar>,
    plain: bool,
    what: String,
    total: u64,
    started: Instant,
    said: Instant,
    limit: f64,
}

/// Between plain lines.
const EVERY: Duration = Duration::from_secs(10);

impl Progress {
    pub fn new(what: &str, total: u64, quiet: bool) -> Progress {
        let terminal = std::io::stderr().is_terminal();
        let bar = (terminal && !quiet).then(|| {
            let style =
                ProgressStyle::with_template("{prefix} [{bar:30}] {pos}/{len} {elapsed} (left {eta}) {msg}");
            let bar = ProgressBar::new(total).with_prefix(what.to_string());
            bar.set_style(style.expect("a valid template").progress_chars("=> "));
            bar
        });
        let now = Instant::now();
        Progress {
            bar,
            plain: !terminal && !quiet,
            what: what.into(),
            total,
            started: now,
            said: now,
            limit: f64::INFINITY,
        }
    }

    pub fn at(&mut self, done: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
        if self.plain && self.said.elapsed() >= EVERY {
            self.said = Instant::now();
            let elapsed = self.started.elapsed().as_secs_f64();
            let left = elapsed * (self.total.saturating_sub(done)) as f64 / done.max(1) as f64;
            let left = left.min(self.limit - elapsed).max(0.0);
            eprintln!("{}: {done}/{} after {elapsed:.0} s, about {left:.0} s left", self.what, self.total);
        }
    }

    /// The work ends after so many seconds if not before.
    pub fn limit(&mut self, seconds: f64) {
        self.limit = seconds;
    }

    /// Where a resumed work starts.
    pub fn start_at(&mut self, done: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.reset_eta();
        }
    }

    pub fn message(&mut self, text: String) {
        match &self.bar {
            Some(bar) => bar.set_message(text),
            None if self.plain => eprintln!("{}: {text}", self.what),
            None => (),
        }
    }

    /// What is being done, on a bar only.
    pub fn note(&mut self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.to_string());
        }
    }

    pub fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish();
        }
    }
}

/// A remark on standard error, unless quiet.
pub fn say(quiet: bool, text: impl AsRef<str>) {
    if !quiet {
        eprintln!("{}", text.as_ref());
    }
}

/// Says how many lines of a run's `metrics.jsonl` cannot be read, where there are any.
pub fn note_damaged_metrics(dir: &RunDir, quiet: bool) -> Result<()> {
    let damaged = dir.damaged_metrics()?;
    if damaged > 0 {
        let path = dir.file("metrics.jsonl");
        say(quiet, format!("note: {}: {damaged} damaged lines are left out", path.display()));
    }
    Ok(())
}

/// One JSON object on standard output.
pub fn print_json(value: &serde_json::Value) {
    println!("{value}");
}
