//! Progress on standard error: a bar on a terminal, a line now and then elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::pace::{Pace, Rounded, spell};
use crate::terminal::follows;

/// Progress of one piece of work.
pub struct Progress {
    bar: Option<ProgressBar>,
    plain: bool,
    what: String,
    pace: Pace,
    done: u64,
    /// Where the work has units of its own: their name, and how many make one of those that are
    /// counted.
    rate: Option<(&'static str, u64)>,
    note: String,
    started: Instant,
    said: Instant,
    drawn: Instant,
}

/// Between plain lines, and between redraws of a bar.
const EVERY: Duration = Duration::from_secs(10);
const REDRAW: Duration = Duration::from_millis(100);
/// Positions of a bar.
const POSITIONS: u64 = 1000;
/// Work that took no longer leaves no line behind on a terminal, seconds.
const BRIEF: f64 = 2.0;
/// Letters of a stage's name.
const NAME: usize = 36;

impl Progress {
    pub fn new(what: &str, total: u64, quiet: bool) -> Progress {
        let quiet = quiet || follows();
        let terminal = std::io::stderr().is_terminal();
        let bar = (terminal && !quiet).then(|| {
            // the last field takes the rest of the line and no more: a bar never wraps
            let style = ProgressStyle::with_template("{prefix} [{bar:16}] {wide_msg}");
            let bar = ProgressBar::new(POSITIONS).with_prefix(what.to_string());
            bar.set_style(style.expect("a valid template").progress_chars("=> "));
            bar
        });
        let now = Instant::now();
        Progress {
            bar,
            plain: !terminal && !quiet,
            what: what.into(),
            pace: Pace { total, start: 0, limit: f64::INFINITY },
            done: 0,
            rate: None,
            note: String::new(),
            started: now,
            said: now,
            drawn: now,
        }
    }

    pub fn at(&mut self, done: u64) {
        self.done = done;
        if self.bar.is_some() && (self.drawn.elapsed() >= REDRAW || done >= self.pace.total) {
            self.draw();
        }
        if self.plain && self.said.elapsed() >= EVERY {
            self.said = Instant::now();
            eprintln!("{}: {}", self.what, self.line());
        }
    }

    /// How far the work is, how long it took, and how long it will take.
    fn line(&self) -> String {
        let elapsed = self.started.elapsed().as_secs_f64();
        let mut line = format!("{}/{} after {}", self.done, self.pace.total, spell(elapsed));
        if let Some(left) = self.pace.left(self.done, elapsed) {
            line += &format!(", about {} left", spell(left));
        }
        if let (Some((unit, each)), true) = (self.rate, elapsed > 1.0) {
            let new = self.done.saturating_sub(self.pace.start) as f64;
            line += &format!(", {:.3} {unit}/s", Rounded(new * each as f64 / elapsed));
        }
        line
    }

    fn draw(&mut self) {
        self.drawn = Instant::now();
        if let Some(bar) = &self.bar {
            let fraction = self.pace.fraction(self.done, self.started.elapsed().as_secs_f64());
            bar.set_position((fraction * POSITIONS as f64) as u64);
            let note =
                if self.note.is_empty() { String::new() } else { format!("; {}", self.note) };
            bar.set_message(self.line() + &note);
        }
    }

    /// The work ends after so many seconds if not before.
    pub fn limit(&mut self, seconds: f64) {
        self.pace.limit = seconds.max(0.0);
    }

    /// Each of what is counted is so many of these: says how many are done per second.
    pub fn rate(&mut self, unit: &'static str, each: u64) {
        self.rate = Some((unit, each));
    }

    /// Where a resumed work starts.
    pub fn start_at(&mut self, done: u64) {
        (self.pace.start, self.done) = (done, done);
        self.draw();
    }

    /// What the work is of, where there are several pieces of its kind.
    pub fn stage(&mut self, name: &str) {
        let kind = self.what.split(": ").next().unwrap_or_default();
        let what = format!("{kind}: {name}");
        if what != self.what {
            let short: String = what.chars().take(NAME).collect();
            if let Some(bar) = &self.bar {
                bar.set_prefix(short);
            }
            self.what = what;
        }
    }

    /// A line of its own.
    pub fn message(&mut self, text: String) {
        match &self.bar {
            Some(bar) => bar.println(format!("{}: {text}", self.what)),
            None if self.plain => eprintln!("{}: {text}", self.what),
            None => (),
        }
    }

    /// What is being done, on a bar only.
    pub fn note(&mut self, text: &str) {
        if self.bar.is_some() && self.note != text {
            self.note = text.to_string();
            self.draw();
        }
    }

    /// The bar goes; of work that took a while a line stays on a terminal, with what was done and
    /// not what was planned.
    pub fn finish(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
            let elapsed = self.started.elapsed().as_secs_f64();
            if elapsed > BRIEF {
                eprintln!("{}: {}/{} in {}", self.what, self.done, self.pace.total, spell(elapsed));
            }
        }
    }
}
