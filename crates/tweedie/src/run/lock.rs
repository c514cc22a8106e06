//! One writer at a time in a run directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::time::Duration;

use crate::{Error, Result};

/// The file whose lock says that a process writes to the run. It stays when the lock goes.
const FILE: &str = ".lock";

/// How often a lock that is held is tried again, and after how long.
const LOOKS: usize = 5;
const LOOK: Duration = Duration::from_millis(20);

/// The lock of a run directory: held while this exists, and by no two processes at a time.
#[derive(Debug)]
pub(super) struct Lock {
    /// `None` where the file system knows no locks.
    _file: Option<File>,
}

/// Whether a process writes to the run.
pub(super) fn is_locked(dir: &Path) -> bool {
    // opening a pipe that stands there would wait for ever
    if !was_begun(dir) {
        return false;
    }
    let Ok(file) = File::open(dir.join(FILE)) else { return false };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// Whether a process has ever begun to write to the run.
pub(super) fn was_begun(dir: &Path) -> bool {
    std::fs::symlink_metadata(dir.join(FILE)).is_ok_and(|found| found.is_file())
}

impl Lock {
    /// Takes the lock of the directory `dir`.
    ///
    /// # Errors
    /// [`Error::Busy`] if another process has it, [`Error::Io`] if the directory cannot be
    /// written.
    pub(super) fn take(dir: &Path) -> Result<Lock> {
        let path = dir.join(FILE);
        if std::fs::symlink_metadata(&path).is_ok_and(|found| !found.is_file()) {
            return Err(Error::checkpoint(&path, "is not a plain file", "delete it"));
        }
        let mut options = OpenOptions::new();
        let file = options
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(Error::io(&path))?;
        let mut taken = file.try_lock();
        // whoever looks whether the run is locked has the lock for a moment
        for _ in 0..LOOKS {
            if !matches!(taken, Err(TryLockError::WouldBlock)) {
                break;
            }
            std::thread::sleep(LOOK);
            taken = file.try_lock();
        }
        match taken {
            Ok(()) => Ok(Lock { _file: Some(file) }),
            Err(TryLockError::WouldBlock) => Err(Error::Busy { path: dir.to_owned() }),
            // not every network file system has locks
            Err(TryLockError::Error(e)) if e.kind() == std::io::ErrorKind::Unsupported => {
                Ok(Lock { _file: None })
            }
            Err(TryLockError::Error(e)) => Err(Error::io(&path)(e)),
        }
    }
}

/// The name that the temporary file `name` was made for, if it is one that
/// [`crate::data::OutputFile`] makes.
fn temporary_of(name: &str) -> Option<&str> {
    let (of, random) = name.strip_prefix('.')?.strip_suffix(".tmp")?.rsplit_once('.')?;
    let ours = random.len() == 6 && random.bytes().all(|b| b.is_ascii_alphanumeric());
    (ours && !of.is_empty()).then_some(of)
}

/// Removes what killed processes have left of files that they wrote: the temporary files of
/// `names`, which only the holder of the lock writes. Returns how many.
pub(super) fn sweep(dir: &Path, names: &[&str]) -> usize {
    // never in a directory that a link leads to
    if !std::fs::symlink_metadata(dir).is_ok_and(|found| found.is_dir()) {
        return 0;
    }
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let left_over = |name: &str| {
        temporary_of(name).is_some_and(|of| names.contains(&of) || names.contains(&"*"))
    };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
        .filter(|entry| entry.file_name().to_str().is_some_and(left_over))
        .filter(|entry| std::fs::remove_file(entry.path()).is_ok())
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only one holds the lock; it is free once that one is gone.
    #[test]
    fn a_lock_has_one_holder() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_locked(dir.path()) && !was_begun(dir.path()));
        let first = Lock::take(dir.path()).unwrap();
        assert!(is_locked(dir.path()) && was_begun(dir.path()));
        let error = Lock::take(dir.path()).unwrap_err();
        assert!(error.is_request() && error.to_string().contains("another process"), "{error}");
        drop(first);
        assert!(!is_locked(dir.path()));
        Lock::take(dir.path()).unwrap();
    }

    /// Ours go, those of others stay: a page that is being written, a user's own files.
    #[test]
    fn only_our_own_temporary_files_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        // as a killed process leaves it
        let left = crate::data::OutputFile::create(at("ema.safetensors")).unwrap();
        std::mem::forget(left);
        let before = std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(before, 1);
        let others = [
            ".report.html.abcdef.tmp",
            ".ema.safetensors.tmp",
            "ema.safetensors.abcdef.tmp",
            "x.tmp",
        ];
        others.iter().for_each(|name| std::fs::write(at(name), "").unwrap());
        assert_eq!(sweep(dir.path(), &["config.toml", "ema.safetensors"]), 1);
        assert!(others.iter().all(|name| at(name).exists()));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), others.len());
        // nor in a directory that a link leads to
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(dir.path(), at("samples")).unwrap();
            assert_eq!(sweep(&at("samples"), &["*"]), 0);
        }
    }
}
