//! Running the program as a user does.
#![allow(dead_code)] // every test file uses a part

use std::process::{Command, Output};

/// Runs the program.
pub fn tweedie(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tweedie")).args(args).output().expect("the program starts")
}

/// What it printed.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs, expects exit code 0, and returns standard output.
pub fn succeed(args: &[&str]) -> String {
    let output = tweedie(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    stdout(&output)
}

/// Runs, expects `code` and one line on standard error that contains every one of `words`.
pub fn fail(args: &[&str], code: i32, words: &[&str]) {
    let output = tweedie(args);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {message}");
    assert_eq!(message.lines().filter(|l| l.starts_with("error:")).count(), 1, "{args:?}: {message}");
    for word in words {
        assert!(message.contains(word), "{args:?}: no '{word}' in: {message}");
    }
}
