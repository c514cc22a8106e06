//! A fitted density and what it is for.

mod fit;

use crate::run::Run;
pub use fit::{FitOptions, WatchFit};

/// A fitted model with its columns and their scaling.
pub struct Density {
    run: Run,
    /// The directory of a density that is not saved.
    temporary: Option<tempfile::TempDir>,
}

impl Density {
    /// The density of a run.
    pub fn of(run: Run) -> Density {
        Density { run, temporary: None }
    }

    /// The density of a run whose directory is removed when nobody needs it any more.
    pub fn in_temporary(run: Run, dir: tempfile::TempDir) -> Density {
        Density { run, temporary: Some(dir) }
    }

    /// Whether the density has been saved, or was loaded.
    pub fn is_saved(&self) -> bool {
        self.temporary.is_none()
    }

    /// The run: its directory, configuration, data record and model.
    pub fn run(&self) -> &Run {
        &self.run
    }
}
