//! Errors in one line each: where the problem is, what was found and what to do about it.
//!
//! ```
//! use tweedie::Error;
//! use tweedie::data::Dataset;
//!
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path().join("heights.csv");
//! std::fs::write(&path, "height\n171.5\n?\n").unwrap();
//! let error = Dataset::read(&path).unwrap_err();
//! eprintln!("error: {error}");
//! assert!(error.is_request(), "the file is at fault, not the program");
//! let Error::Data { place, .. } = error else { panic!("not about data") };
//! assert_eq!((place.line, place.column.as_deref()), (Some(3), Some("height")));
//! ```

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// The crate's result type.
pub type Result<T> = std::result::Result<T, Error>;

/// Every failure that a user or a file can cause: what it is, where, and what to do. A programmer's
/// shape mistakes panic instead.
///
/// An option is named by its path, such as `train.batch_size`, in a remedy too: a program with
/// flags can call it by its flag.
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
    #[error("{place}: {problem}; {remedy}")]
    Data {
        /// The file, and where in it as far as that is one place.
        place: Place,
        /// What was found.
        problem: String,
        /// What to do about it.
        remedy: String,
    },

    /// An option that makes no sense, alone or beside the others.
    #[error("{option}: {problem}; {remedy}")]
    Config {
        /// Its path, such as `train.batch_size`.
        option: String,
        /// What was given and why it cannot be.
        problem: String,
        /// What to give instead.
        remedy: String,
    },

    /// A directory for a new run is taken: it holds a run, or files that no run wrote.
    #[error("{}: {problem}; {remedy}", path.display())]
    Taken {
        /// The directory.
        path: PathBuf,
        /// What it holds.
        problem: String,
        /// What to do about it.
        remedy: String,
    },

    /// Another process is writing to a run.
    #[error(
        "{}: another process is writing to it; wait until it ends, or give another directory",
        path.display()
    )]
    Busy {
        /// The run directory.
        path: PathBuf,
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

    /// A training diverged; its last checkpoint is kept.
    #[error("{what} diverged before iteration {iteration}: {problem}; {remedy}")]
    Diverged {
        /// What was trained.
        what: String,
        /// The steps that were done.
        iteration: u64,
        /// What is not finite.
        problem: String,
        /// What to change.
        remedy: String,
    },

    /// A computation failed: a solver did not converge, samples are not finite.
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

    /// A process of those that work together failed.
    #[error("rank {rank}: {problem}; {remedy}")]
    Group {
        /// Its number among all, from 0.
        rank: usize,
        /// What is known of its failure.
        problem: String,
        /// What to do about it.
        remedy: String,
    },

    /// The user stopped the work; what was done is saved.
    #[error("{0}")]
    Interrupted(String),
}

/// A place in a file: the file itself, a row, a column, or a cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The file or folder.
    pub file: PathBuf,
    /// The line of a text file, from 1.
    pub line: Option<u64>,
    /// The row of another file, from 1.
    pub row: Option<u64>,
    /// The column's name.
    pub column: Option<String>,
}

impl Place {
    /// A file.
    pub fn file(path: impl AsRef<Path>) -> Place {
        Place { file: path.as_ref().to_owned(), ..Place::default() }
    }

    /// Line `line` of it, from 1.
    pub fn line(self, line: u64) -> Place {
        Place { line: Some(line), ..self }
    }

    /// Row `row` of it, from 1.
    pub fn row(self, row: u64) -> Place {
        Place { row: Some(row), ..self }
    }

    /// The column called `name`.
    pub fn column(self, name: impl Into<String>) -> Place {
        Place { column: Some(name.into()), ..self }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ": line {line}")?;
        }
        if let Some(row) = self.row {
            write!(f, ": row {row}")?;
        }
        match &self.column {
            Some(column) => write!(f, ", column `{column}`"),
            None => Ok(()),
        }
    }
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

/// What a panic says, in one line.
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic").replace('\n', " ")
}

impl Error {
    /// An [`Error::Io`] for `path`, for use with `map_err`.
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.as_ref().to_owned();
        move |source| Error::Io { path, source }
    }

    /// An [`Error::Data`] about a whole file.
    pub fn data(
        path: impl AsRef<Path>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Error {
        Error::data_at(Place::file(path), problem, remedy)
    }

    /// An [`Error::Data`] about a place in a file.
    pub fn data_at(place: Place, problem: impl Into<String>, remedy: impl Into<String>) -> Error {
        Error::Data { place, problem: problem.into(), remedy: remedy.into() }
    }

    /// An [`Error::Config`] about the option at this path.
    pub fn config(
        option: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Error {
        Error::Config { option: option.into(), problem: problem.into(), remedy: remedy.into() }
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

    /// An [`Error::Taken`].
    pub fn taken(
        path: impl AsRef<Path>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Error {
        Error::Taken {
            path: path.as_ref().to_owned(),
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }

    /// An [`Error::Numeric`].
    pub fn numeric(problem: impl Into<String>, remedy: impl Into<String>) -> Error {
        Error::Numeric { problem: problem.into(), remedy: remedy.into() }
    }

    /// An [`Error::Group`] about a process that failed for the reason `problem`.
    pub(crate) fn of_rank(rank: usize, problem: String) -> Error {
        Error::Group { rank, problem, remedy: "all processes end with it".into() }
    }

    /// An [`Error::Row`].
    pub fn row(row: u64, problem: impl Into<String>, remedy: impl Into<String>) -> Error {
        Error::Row { row, problem: problem.into(), remedy: remedy.into() }
    }

    /// The path of the option that is at fault, where one is.
    pub fn option(&self) -> Option<&str> {
        match self {
            Error::Config { option, .. } => Some(option),
            _ => None,
        }
    }

    /// What to do about it, where there is something to do.
    pub fn remedy(&self) -> Option<&str> {
        match self {
            Error::Io { .. } | Error::Interrupted(_) => None,
            Error::Busy { .. } => Some("wait until it ends, or give another directory"),
            Error::Data { remedy, .. }
            | Error::Config { remedy, .. }
            | Error::Taken { remedy, .. }
            | Error::Checkpoint { remedy, .. }
            | Error::Diverged { remedy, .. }
            | Error::Numeric { remedy, .. }
            | Error::Group { remedy, .. }
            | Error::Row { remedy, .. } => Some(remedy),
        }
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

    /// Refuses a count that is 0, or more than `most`, beyond which no machine follows, as the
    /// option at this path.
    pub fn check_count<C>(option: &str, value: C, most: usize) -> Result<()>
    where
        C: TryInto<usize> + std::fmt::Display + Copy,
    {
        match value.try_into() {
            Ok(count) if (1..=most).contains(&count) => Ok(()),
            _ => Err(Error::config(
                option,
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
            Error::Data { .. }
            | Error::Config { .. }
            | Error::Taken { .. }
            | Error::Busy { .. }
            | Error::Checkpoint { .. } => true,
            Error::Diverged { .. }
            | Error::Numeric { .. }
            | Error::Row { .. }
            | Error::Group { .. }
            | Error::Interrupted(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_written_as_far_as_it_is_known() {
        let place = Place::file("wine.csv");
        assert_eq!(place.to_string(), "wine.csv");
        assert_eq!(place.clone().line(3).to_string(), "wine.csv: line 3");
        let cell = place.line(3).column("age");
        let error = Error::data_at(cell.clone(), "\"x\" is no number", "correct it");
        let text = "wine.csv: line 3, column `age`: \"x\" is no number; correct it";
        assert_eq!(error.to_string(), text);
        assert!(matches!(error, Error::Data { place, .. } if place == cell));
    }

    #[test]
    fn what_is_at_fault_decides_the_exit_code() {
        let busy = Error::Busy { path: "runs/wine".into() };
        assert!(busy.is_request() && busy.to_string().ends_with(busy.remedy().unwrap()));
        let error = Error::check_count("train.batch_size", 0, 9).unwrap_err();
        assert_eq!(error.option(), Some("train.batch_size"));
        assert_eq!(error.remedy(), Some("give a number from 1 to 9"));
        assert!(!Error::numeric("it diverged", "go on").is_request());
    }
}
