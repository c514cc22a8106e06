//! Progress on standard error: a bar on a terminal, a line now and then elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How far a piece of work is, in units and in time.
#[derive(Clone, Copy)]
struct Pace {
    total: u64,
    /// Units that were done before it began.
    start: u64,
    /// Seconds after which it ends if not before.
    limit: f64,
}

impl Pace {
    /// From 0 to 1, by what ends first: the units or the time.
    fn fraction(&self, done: u64, elapsed: f64) -> f64 {
        let of_units = done as f64 / self.total.max(1) as f64;
        of_units.max(elapsed / self.limit).clamp(0.0, 1.0)
    }

    /// Seconds left, by what ends first; `None` as long as nothing is known.
    fn left(&self, done: u64, elapsed: f64) -> Option<f64> {
        let new = done.saturating_sub(self.start);
        let of_units = elapsed * self.total.saturating_sub(done) as f64 / new as f64;
        let left = of_units.min(self.limit - elapsed).max(0.0);
        (new > 0 || self.limit.is_finite()).then_some(left).filter(|left| left.is_finite())
    }
}

/// Seconds as people say them.
fn spell(seconds: f64) -> String {
    match seconds.round() as u64 {
        s @ 0..60 => format!("{s} s"),
        s @ 60..3600 => format!("{} min {} s", s / 60, s % 60),
        s => format!("{} h {} min", s / 3600, s / 60 % 60),
    }
}

/// Progress of one piece of work.
pub struct Progress {
    bar: Option<ProgressBar>,
    plain: bool,
    what: String,
    pace: Pace,
    done: u64,
    /// Where the work has units of its own: their name, and how many make one of those that are counted.
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
            let note = if self.note.is_empty() { String::new() } else { format!("; {}", self.note) };
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

    /// The bar goes; of work that took a while a line stays on a terminal, with what was done and not what was planned.
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

/// A number with so many digits in all as the precision says, and no exponent.
struct Rounded(f64);

impl std::fmt::Display for Rounded {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let digits = f.precision().unwrap_or(3) as i32;
        let whole = self.0.abs().max(1e-9).log10().floor() as i32 + 1;
        write!(f, "{:.*}", (digits - whole).clamp(0, 3) as usize, self.0)
    }
}

/// A remark on standard error, unless quiet.
pub fn say(quiet: bool, text: impl AsRef<str>) {
    if !quiet {
        eprintln!("{}", text.as_ref());
    }
}

/// One JSON object on standard output.
pub fn print_json(value: &serde_json::Value) {
    println!("{value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 90 seconds are not four hours: the time that is left ends with what ends first, and so does the bar.
    #[test]
    fn the_time_left_is_that_of_what_ends_first() {
        let pace = Pace { total: 20_000, start: 0, limit: 90.0 };
        assert_eq!(pace.left(100, 45.0), Some(45.0));
        assert_eq!(pace.fraction(100, 45.0), 0.5);
        let steps = Pace { limit: f64::INFINITY, ..pace };
        assert_eq!(steps.left(5000, 30.0), Some(90.0));
        assert_eq!(steps.fraction(5000, 30.0), 0.25);
        assert_eq!(steps.left(0, 3.0), None);
        assert_eq!(pace.left(0, 3.0), Some(87.0));
        // a limit that is over
        assert_eq!((pace.left(10, 100.0), pace.fraction(10, 100.0)), (Some(0.0), 1.0));
    }

    /// Of a resumed work, what was done before says nothing of its speed now.
    #[test]
    fn a_resumed_work_has_its_own_speed() {
        let pace = Pace { total: 1000, start: 900, limit: f64::INFINITY };
        assert_eq!(pace.left(950, 10.0), Some(10.0));
        assert_eq!(pace.left(900, 10.0), None);
        assert_eq!(pace.fraction(950, 10.0), 0.95);
    }

    #[test]
    fn times_and_rates_are_said_as_people_say_them() {
        assert_eq!([0.2, 59.4, 61.0, 3700.0].map(spell), ["0 s", "59 s", "1 min 1 s", "1 h 1 min"]);
        let rounded = [0.034, 1.26, 12.34, 123.4, 98_765.0].map(|x| format!("{:.3}", Rounded(x)));
        assert_eq!(rounded, ["0.034", "1.26", "12.3", "123", "98765"]);
    }
}
