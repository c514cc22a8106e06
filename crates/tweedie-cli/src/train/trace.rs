//! A trace of some steps of a training.

use std::path::{Path, PathBuf};

use tweedie::Result;
use tweedie::profile::Profile;

/// Steps before the trace: the first ones allocate and choose algorithms.
const BEFORE: u64 = 10;
/// Steps of the trace.
const STEPS: u64 = 20;

/// A trace that is to be written, under way, or done.
pub struct Trace {
    path: PathBuf,
    /// Steps so far.
    steps: u64,
    profile: Option<Profile>,
}

impl Trace {
    /// One for the file `path`.
    pub fn new(path: &Path) -> Trace {
        Trace { path: path.to_owned(), steps: 0, profile: None }
    }

    /// Takes note of a step; what is to be said.
    pub fn step(&mut self) -> Option<String> {
        self.steps += 1;
        match self.steps {
            BEFORE => match Profile::begin() {
                Ok(profile) => {
                    self.profile = Some(profile);
                    None
                }
                Err(error) => Some(error.to_string()),
            },
            steps if steps == BEFORE + STEPS => self.end(),
            _ => None,
        }
    }

    /// Writes what is there, if a trace is under way; what is to be said.
    pub fn end(&mut self) -> Option<String> {
        if self.steps < BEFORE {
            // nothing is in it
            let _ = std::fs::remove_file(&self.path);
            return Some(format!("no trace: it begins after {BEFORE} steps"));
        }
        let profile = self.profile.take()?;
        let path = self.path.display();
        let written: Result<()> = profile.write(&self.path);
        Some(match written {
            Ok(()) => format!("a trace of {} steps is in {path}", self.steps - BEFORE),
            Err(error) => error.to_string(),
        })
    }
}
