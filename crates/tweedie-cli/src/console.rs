//! What the program prints. Progress on standard error: a bar on a terminal, a line now and then
//! elsewhere. Names that come from files are no commands to the terminal, and a reader that has
//! gone is no failure.

use std::io::{ErrorKind, IsTerminal, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tweedie::data::{Abandoned, abandon_outputs};
use tweedie::density::remarks_on;
use tweedie::likelihood::Estimate;
use tweedie::run::{Run, RunDir};
use tweedie::watch::{Remark, Watch};
use tweedie::{Error, Result};

use crate::flags::Flags;

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

/// Seconds as people write them.
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

/// A number with so many digits in all as the precision says, and no exponent.
struct Rounded(f64);

impl std::fmt::Display for Rounded {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let digits = f.precision().unwrap_or(3) as i32;
        let whole = self.0.abs().max(1e-9).log10().floor() as i32 + 1;
        write!(f, "{:.*}", (digits - whole).clamp(0, 3) as usize, self.0)
    }
}

/// The watch of a command: progress and remarks on standard error, scores to wherever they go.
pub struct Console<'a> {
    quiet: bool,
    progress: Option<Progress>,
    scored: Option<Box<Scored<'a>>>,
}

/// What is done with the scores of a batch of rows.
type Scored<'a> = dyn FnMut(Range<usize>, &Estimate) -> Result<()> + 'a;

impl<'a> Console<'a> {
    pub fn new(quiet: bool) -> Console<'a> {
        Console { quiet, progress: None, scored: None }
    }

    /// With something to do with the scores of every batch.
    pub fn with_scores(
        self,
        scored: impl FnMut(Range<usize>, &Estimate) -> Result<()> + 'a,
    ) -> Console<'a> {
        Console { scored: Some(Box::new(scored)), ..self }
    }
}

impl Watch for Console<'_> {
    fn begin(&mut self, what: &str, of: u64) {
        self.progress = Some(Progress::new(what, of, self.quiet));
    }

    fn progress(&mut self, done: u64, _of: u64) {
        if let Some(progress) = &mut self.progress {
            progress.at(done);
        }
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
    }

    fn stop(&self) -> bool {
        stop_requested()
    }

    fn say(&mut self, remark: Remark) {
        say(self.quiet, Flags::here().name_in(&remark.to_string()));
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
    // within strings, and JSON has controls nowhere else
    let spell = |c: char| match acts_on_terminal(c) {
        true => format!("\\u{:04x}", c as u32),
        false => c.to_string(),
    };
    print_line(&value.to_string().chars().map(spell).collect::<String>());
}

/// What has to be known beside any figure, sample or latent of `run`: each a line on standard
/// error, printed whether or not the command is quiet, since a figure is not whole without it; and
/// returned for the JSON answer, under `remarks`.
pub fn remark(run: &Run) -> Vec<String> {
    let remarks = crate::flags::Flags::here().remarks(run);
    remarks.iter().for_each(|text| tell(&format!("note: {text}")));
    remarks
}

/// Whether a terminal takes `c` for a command, or shows what follows in another order: controls,
/// and marks of direction.
fn acts_on_terminal(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}

/// `text` with all that acts on a terminal spelled out, but for the characters `kept`. Names come
/// from files, and say anything.
fn printable(text: &str, kept: &[char]) -> String {
    let spell = |c: char| match acts_on_terminal(c) && !kept.contains(&c) {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.chars().map(spell).collect()
}

/// One line on standard error, with what acts on a terminal spelled out, line breaks too. Where
/// nobody reads any more, it is lost, and the work goes on. `eprintln!` of this program comes here.
pub fn tell(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", printable(text, &[]));
}

/// Text on standard output, with what acts on a terminal spelled out but for line breaks and tabs.
/// `println!` of this program comes here. Where nobody reads any more, as of
/// `tweedie evaluate RUN | head -1`, the program ends.
pub fn print_line(text: &str) {
    let mut out = std::io::stdout().lock();
    if let Err(e) = writeln!(out, "{}", printable(text, &['\n', '\t'])).and_then(|()| out.flush()) {
        if e.kind() != ErrorKind::BrokenPipe {
            tell(&format!("error: standard output: {e}"));
            exit_now(1);
        }
        exit_now(CLOSED_PIPE);
    }
}

/// A name within a line of output that tabs divide.
pub fn in_line(name: &str) -> String {
    printable(name, &[])
}

/// Exit code after Ctrl-C or a request to terminate: as a shell has it for what the signal ends,
/// 128 + 2.
pub const INTERRUPTED: u8 = 130;
/// Exit code where the reader of standard output has gone: as a shell has it for what the signal
/// ends, 128 + 13.
pub const CLOSED_PIPE: u8 = 141;

/// Ends the process at once, from any thread: files being written are removed, and nothing else is
/// waited for.
pub fn exit_now(code: u8) -> ! {
    abandon_outputs();
    end(code)
}

/// Ends the process as it is, whatever its threads are doing.
pub fn end(code: u8) -> ! {
    #[cfg(unix)]
    {
        #[allow(unsafe_code)] // no safe binding exists
        unsafe extern "C" {
            fn _exit(code: i32) -> !;
        }
        // SAFETY: ends the process without running what LibTorch registered, under which its
        // threads may still be at work
        #[allow(unsafe_code)]
        unsafe {
            _exit(code.into())
        }
    }
    #[cfg(not(unix))]
    std::process::exit(code.into())
}

/// Lets Ctrl-C and requests to terminate end the program with what became of its files.
pub fn end_when_interrupted() {
    let end = || {
        let files = abandon_outputs();
        let mut text = String::from("stopped");
        for Abandoned { path, so_far } in &files {
            let before = if path.exists() { "is as it was" } else { "is not written" };
            text += &format!("; {} {before}", path.display());
            if let Some(so_far) = so_far {
                text += &format!(", what is done is in {}", so_far.display());
            }
        }
        tell(&text);
        exit_now(INTERRUPTED)
    };
    // without it the signal itself ends the program
    let _ = ctrlc::set_handler(end);
}

static STOP: AtomicBool = AtomicBool::new(false);

/// Whether the user wants the work to stop.
pub fn stop_requested() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// Takes note of a request to stop; whether it is the first.
pub fn request_stop() -> bool {
    !STOP.swap(true, Ordering::Relaxed)
}

/// Lets work that keeps what is done end in its own way at the first request to stop, and ends the
/// program at the second.
pub fn stop_when_interrupted() {
    let handler = || {
        if !request_stop() {
            abandon_outputs();
            tell("stopped at once");
            exit_now(INTERRUPTED)
        }
    };
    // without it the signal itself ends the program
    let _ = ctrlc::set_handler(handler);
}

/// Refuses an output that is one of the `inputs`, or lies in `run`; `-` is standard output, which
/// takes no JSON answer beside the rows.
pub fn check_output(
    flag: &str,
    out: &Path,
    inputs: &[&Path],
    run: &Path,
    json: bool,
) -> Result<()> {
    let bad = |problem: String, remedy: &str| Err(Error::config(flag, problem, remedy));
    if out == Path::new("-") {
        return match json {
            true => bad(
                "- and --json both take standard output".into(),
                "give --out a file, or leave out --json",
            ),
            false => Ok(()),
        };
    }
    let real = |path: &Path| path.canonicalize().ok();
    let folder = match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // where there is a file already, what it is by its own name; else where it will be
    let place = real(out).or_else(|| Some(real(folder)?.join(out.file_name()?)));
    let Some(place) = place else { return Ok(()) };
    if inputs.iter().any(|input| real(input).as_ref() == Some(&place) || same_file(input, out)) {
        let problem = format!("{} is the input, which it would replace", out.display());
        return bad(problem, "give another file");
    }
    if real(run).is_some_and(|run| place.starts_with(run)) {
        let problem =
            format!("{} lies in the run {}, whose files are its own", out.display(), run.display());
        return bad(problem, "give a file outside of it");
    }
    Ok(())
}

/// Whether two names are of one file.
fn same_file(a: &Path, b: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let of =
            |path: &Path| path.metadata().ok().filter(|m| m.is_file()).map(|m| (m.dev(), m.ino()));
        of(a).is_some() && of(a) == of(b)
    }
    #[cfg(not(unix))]
    {
        let _ = (a, b);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_no_commands_to_a_terminal() {
        let name = "\u{1b}]0;owned\u{7}\u{1b}[31mred\nerror: \u{9b}2J\u{202e}é";
        let shown = printable(name, &[]);
        assert_eq!(shown, "\\u{1b}]0;owned\\u{7}\\u{1b}[31mred\\nerror: \\u{9b}2J\\u{202e}é");
        assert_eq!(printable("a\tb\nc\r", &['\n', '\t']), "a\tb\nc\\r");
    }

    /// 90 seconds are not four hours: the time that is left ends with what ends first, and so does
    /// the bar.
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
