//! A run directory and its files: made, opened, locked, read and written.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::statistics::{HEAD_START, STATISTICS};
use super::{categories, checkpoint, dequantizer, lock, status};
use crate::data::OutputFile;
use crate::process_group::ProcessGroup;
use crate::{Error, Result};

/// A run directory.
#[derive(Clone, Debug)]
pub struct RunDir {
    path: PathBuf,
    /// Held by this and its clones, where they may write.
    lock: Option<Arc<lock::Lock>>,
    /// What the parameters belong to, once it is known.
    pub(super) setup: Arc<OnceLock<checkpoint::Setup>>,
}

/// The files that the holder of the lock writes.
const FILES: [&str; 12] = [
    "config.toml",
    "data.json",
    "base.json",
    "ema.safetensors",
    "model.safetensors",
    "state.safetensors",
    "metrics.jsonl",
    categories::FILE,
    categories::STATE,
    "dequantizer.safetensors",
    dequantizer::STATE,
    status::FILE,
];

/// Remedies for a file that is missing or damaged.
pub(super) const RETRAIN: &str = "train again, or restore the file from a copy of the run";
pub(super) const RESTORE: &str = "restore the file from a copy of the run";

/// Writes a JSON file, whole or not at all.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    OutputFile::create(path)?.finish(&serde_json::to_vec_pretty(value).expect("plain data"))
}

impl RunDir {
    /// Refuses a directory that holds a run.
    ///
    /// # Errors
    /// [`Error::Taken`] if it does.
    pub fn check_free(path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        match path.join("config.toml").exists() {
            true => Err(Error::taken(
                path,
                "already holds a run",
                "set fit.resume to go on with it, or give another directory",
            )),
            false => Ok(()),
        }
    }

    /// A new run directory; its parents are made. An existing run is never overwritten, and no
    /// other process can write to the directory as long as this or a clone of it exists. What an
    /// earlier attempt left there is removed.
    ///
    /// # Errors
    /// [`Error::Taken`] if there is a run, or a file that is no run's has the name of one of its
    /// files; [`Error::Busy`] if another process is making one; [`Error::Io`] if the directory
    /// cannot be written.
    pub fn create(path: impl AsRef<Path>) -> Result<RunDir> {
        let path = path.as_ref();
        RunDir::check_free(path)?;
        std::fs::create_dir_all(path).map_err(Error::io(path))?;
        let ours = lock::was_begun(path);
        let mut names = FILES.iter().chain(&[STATISTICS, HEAD_START]);
        if let Some(name) = names.clone().find(|name| !ours && path.join(name).exists()) {
            let problem = format!("holds a file {name}, which no run there wrote");
            return Err(Error::taken(path, problem, "move it away, or give another directory"));
        }
        let mut dir = RunDir { path: path.to_owned(), lock: None, setup: Arc::default() };
        dir.lock()?;
        // the process that had the lock until now may have made one
        RunDir::check_free(path)?;
        names.try_for_each(|name| dir.remove(name))?;
        // fails now, not after the training, where the directory cannot be written
        dir.output("state.safetensors")?;
        Ok(dir)
    }

    /// Writes a copy of the run to another directory, which must not hold one.
    ///
    /// # Errors
    /// As [`RunDir::create`], and if a file cannot be copied.
    pub fn copy_to(&self, path: &Path) -> Result<()> {
        let copy = RunDir::create(path)?;
        self.names()?.into_iter().try_for_each(|name| copy.write(&name, &self.read(&name)?))
    }

    /// The files of the run, the configuration last: a directory that has it is a run.
    fn names(&self) -> Result<Vec<String>> {
        let entries = std::fs::read_dir(&self.path).map_err(Error::io(&self.path))?;
        let mut names: Vec<String> = entries
            .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
            .filter(|name| !name.starts_with('.') && self.file(name).is_file())
            .collect();
        names.sort_by_key(|name| name == "config.toml");
        Ok(names)
    }

    /// Hands the leader's run, `own`, to the other processes of a group, which keep a copy in a new
    /// directory `path`: the run's directory in this process.
    ///
    /// # Errors
    /// If a file cannot be read or written, and [`Error::Group`].
    pub(crate) fn over(group: &ProcessGroup, own: Option<RunDir>, path: &Path) -> Result<RunDir> {
        if let Some(own) = own.as_ref().filter(|_| group.is_alone()) {
            return Ok(own.clone());
        }
        let names = own.as_ref().map(RunDir::names).transpose()?.unwrap_or_default();
        let names: Vec<String> = group.share(names)?;
        let copy = match &own {
            Some(_) => None,
            None => Some(RunDir::create(path)?),
        };
        for name in names {
            let bytes = own.as_ref().map(|own| own.read(&name)).transpose()?.unwrap_or_default();
            let bytes = group.share_bytes(bytes)?;
            copy.as_ref().map_or(Ok(()), |copy| copy.write(&name, &bytes))?;
        }
        Ok(own.or(copy).expect("one of the two"))
    }

    /// An existing run directory.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if it is none, or a training there has not come to its first
    /// checkpoint.
    pub fn open(path: impl AsRef<Path>) -> Result<RunDir> {
        let path = path.as_ref();
        if !path.join("config.toml").is_file() {
            let (problem, remedy) = match (lock::is_locked(path), lock::was_begun(path)) {
                (true, _) => (
                    "has no checkpoint yet: a training is beginning there",
                    "wait until it has begun its first step",
                ),
                (_, true) => (
                    "has no checkpoint: its training ended before the first one, and nothing of \
                    it was kept",
                    "start it again as the first time, without fit.resume",
                ),
                _ => (
                    "is not a run directory (it has no config.toml)",
                    "give the directory that a training wrote",
                ),
            };
            return Err(Error::checkpoint(path, problem, remedy));
        }
        Ok(RunDir { path: path.to_owned(), lock: None, setup: Arc::default() })
    }

    /// Keeps other processes from writing to the run as long as this or a clone of it exists, and
    /// removes what killed ones have left half-written.
    ///
    /// # Errors
    /// [`Error::Busy`] if another process writes to the run now; [`Error::Io`] if the directory
    /// cannot be written.
    pub fn lock(&mut self) -> Result<()> {
        if self.lock.is_none() {
            self.lock = Some(Arc::new(lock::Lock::take(&self.path)?));
            lock::sweep(&self.path, &FILES);
            lock::sweep(&self.path, &[HEAD_START]);
            lock::sweep(&self.file("samples"), &["*"]);
        }
        Ok(())
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file of the run.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Opens a file of the run for writing; it takes its name once it is complete. A symbolic link
    /// of that name is replaced, never followed.
    ///
    /// # Errors
    /// [`Error::Io`] if the directory cannot be written.
    pub fn output(&self, name: &str) -> Result<OutputFile> {
        OutputFile::replacing(self.file(name))
    }

    /// The error of a file of the run that is missing or damaged.
    pub(super) fn damaged(&self, name: &str, problem: impl Into<String>) -> Error {
        Error::checkpoint(self.file(name), problem, RETRAIN)
    }

    /// Removes a file of the run, if there is one.
    pub(super) fn remove(&self, name: &str) -> Result<()> {
        match std::fs::remove_file(self.file(name)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io(self.file(name))(e))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.output(name)?.finish(bytes)
    }

    /// Refuses a symbolic link as the run's `name`, where writing would follow it.
    pub(super) fn refuse_link(&self, name: &str) -> Result<PathBuf> {
        let path = self.file(name);
        match std::fs::symlink_metadata(&path) {
            Ok(found) if found.is_symlink() => {
                let problem = "is a symbolic link, which a run does not write through";
                Err(Error::checkpoint(&path, problem, "delete the link"))
            }
            _ => Ok(path),
        }
    }

    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.file(name);
        std::fs::read(&path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => self.damaged(name, "is missing"),
            _ => Error::Io { path: path.clone(), source },
        })
    }

    pub(super) fn write_json(&self, name: &str, value: &impl Serialize) -> Result<()> {
        self.write(name, &serde_json::to_vec_pretty(value).expect("plain data"))
    }

    pub(super) fn read_json<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        serde_json::from_slice(&self.read(name)?)
            .map_err(|e| self.damaged(name, format!("cannot be read: {e}")))
    }
}
