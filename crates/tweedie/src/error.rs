//! What can go wrong, said in one line: where, what was found, what to do.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// The crate's result type.
pub type Result<T> = std::result::Result<T, Error>;

/// Every failure that a user or a file can cause. A programmer's shape mistakes panic instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system answered.
        source: std::io::Error,
    },

    /// A data file holds something that cannot be used.
    #[error("{}: {problem}; {remedy}", path.display())]
    Data {
        /// The data file.
        path: PathBuf,
        /// Where (row, column) and what was found.
        problem: String,
        /// What to do about it.
        remedy: String,
    },

    /// A setting that makes no sense, alone or beside the others.
    #[error("{field}: {problem}; {remedy}")]
    Config {
        /// The flag or configuration key.
        field: String,
        /// What was given and why it cannot be.
        problem: String,
        /// What to give instead.
        remedy: String,
    },

    /// A run directory or checkpoint is damaged or does not fit the request.
    #[error("{}: {problem}; {remedy}", path.display())]
    Checkpoint {
        /// The file or run directory.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// What to do about it.
        remedy: String,
    },

    /// A computation failed: training diverged, a solver did not converge.
    #[error("{problem}; {remedy}")]
    Numeric {
        /// What happened, and where.
        problem: String,
        /// What to change.
        remedy: String,
    },

    /// A computation failed on one row of many.
    #[error("row {}: {problem}; {remedy}", row + 1)]
    Row {
        /// The number of the row among those that were given, from 0.
        row: u64,
        /// What happened.
        problem: String,
        /// What to change.
        remedy: String,
    },

    /// The user stopped the work; what was done is saved.
    #[error("{0}")]
    Interrupted(String),
}

thread_local! {
    static CATCHING: Cell<bool> = const { Cell::new(false) };
    static TRYING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread tries to allocate what may be too much, and reports it as an [`Error`]. An
/// allocator that ends the program where the system has no memory left then leaves it to that.
pub fn is_trying() -> bool {
    // a thread that is ending has no such cell
    TRYING.try_with(Cell::get).unwrap_or(false)
}

/// What `f` returns, an allocation that may fail.
pub(crate) fn trying<T>(f: impl FnOnce() -> T) -> T {
    let before = TRYING.replace(true);
    let result = f();
    TRYING.set(before);
    result
}

/// Whether a panic on this thread will be caught and reported as an [`Error`]: a decoder of other
/// authors is then at work on a file, which is at fault. A panic hook that reports programming
/// errors stays silent.
pub fn is_catching() -> bool {
    CATCHING.get()
}

/// What `f` returns; nothing where it panics.
pub(crate) fn caught<T>(f: impl FnOnce() -> T) -> Option<T> {
    let before = CATCHING.replace(true);
    let result = catch_unwind(AssertUnwindSafe(f)).ok();
    CATCHING.set(before);
    result
}

impl Error {
    /// An [`Error::Io`] for `path`, for use with `map_err`.
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.as_ref().to_owned();
        move |source| Error::Io { path, source }
    }

    /// An [`Error::Data`].
    pub fn data(
        path: impl AsRef<Path>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Error {
        Error::Data {
            path: path.as_ref().to_owned(),
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }

    /// An [`Error::Config`].
    pub fn config(
        field: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Error {
        Error::Config { field: field.into(), problem: problem.into(), remedy: remedy.into() }
    }

    /// An [`Error::Checkpoint`].
    pub fn checkpoint(
        path: impl AsRef<Path>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Error {
        Error::Checkpoint {
            path: path.as_ref().to_owned(),
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }

    /// An [`Error::Numeric`].
    pub fn numeric(problem: impl Into<String>, remedy: impl Into<String>) -> Error {
        Error::Numeric { problem: problem.into(), remedy: remedy.into() }
    }

    /// An [`Error::Row`].
    pub fn row(row: u64, problem: impl Into<String>, remedy: impl Into<String>) -> Error {
        Error::Row { row, problem: problem.into(), remedy: remedy.into() }
    }

    /// An [`Error::Row`] with the row called by its `name`, as its file has it; any other as it is.
    pub fn named(self, name: impl FnOnce(u64) -> String) -> Error {
        match self {
            Error::Row { row, problem, remedy } => {
                Error::Numeric { problem: format!("{}: {problem}", name(row)), remedy }
            }
            other => other,
        }
    }

    /// Refuses a count that is 0, or more than `most`, beyond which no machine follows.
    pub fn check_count<C>(field: &str, value: C, most: usize) -> Result<()>
    where
        C: TryInto<usize> + std::fmt::Display + Copy,
    {
        match value.try_into() {
            Ok(count) if (1..=most).contains(&count) => Ok(()),
            _ => Err(Error::config(
                field,
                format!("{value}"),
                format!("give a number from 1 to {most}"),
            )),
        }
    }

    /// Whether the request (its options or its input files) is at fault, rather than the work:
    /// the program's exit code is then 2, else 1.
    pub fn is_request(&self) -> bool {
        match self {
            Error::Io { source, .. } => {
                use std::io::ErrorKind::*;
                // a name that is none, and text that is none
                let request = [NotFound, IsADirectory, InvalidFilename, InvalidInput, InvalidData];
                request.contains(&source.kind())
            }
            Error::Data { .. } | Error::Config { .. } | Error::Checkpoint { .. } => true,
            Error::Numeric { .. } | Error::Row { .. } | Error::Interrupted(_) => false,
        }
    }
}
