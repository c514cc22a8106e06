//! Lines on standard output and standard error. Names that come from files are no commands to the
//! terminal, and a reader that has gone is no failure.

use std::io::{ErrorKind, Write};
use std::sync::OnceLock;

use crate::interrupt::{CLOSED_PIPE, exit_now};

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

/// The rank of a process that follows another one.
static FOLLOWER: OnceLock<usize> = OnceLock::new();

/// Makes this process, of the given rank, one that speaks of its errors alone: another one, of the
/// same work, says everything else.
pub fn follow(rank: usize) {
    let _ = FOLLOWER.set(rank);
}

/// Whether another process speaks.
pub fn follows() -> bool {
    FOLLOWER.get().is_some()
}

/// One line on standard error, with what acts on a terminal spelled out, line breaks too. Where
/// nobody reads any more, it is lost, and the work goes on. `eprintln!` of this program comes here.
pub fn tell(text: &str) {
    let text = match (FOLLOWER.get(), text.strip_prefix("error: ")) {
        (None, _) => printable(text, &[]),
        (Some(rank), Some(problem)) => printable(&format!("error: rank {rank}: {problem}"), &[]),
        (Some(_), None) => return,
    };
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Text on standard output, with what acts on a terminal spelled out but for line breaks and tabs.
/// `println!` of this program comes here. Where nobody reads any more, as of
/// `tweedie evaluate RUN | head -1`, the program ends.
pub fn print_line(text: &str) {
    if follows() {
        return;
    }
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

/// One JSON object on standard output.
pub fn print_json(value: &serde_json::Value) {
    // within strings, and JSON has controls nowhere else
    let spell = |c: char| match acts_on_terminal(c) {
        true => format!("\\u{:04x}", c as u32),
        false => c.to_string(),
    };
    print_line(&value.to_string().chars().map(spell).collect::<String>());
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
}
