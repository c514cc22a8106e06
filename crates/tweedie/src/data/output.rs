//! Files that appear complete or not at all.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Stdout, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use tempfile::NamedTempFile;

use crate::{Error, Result};

/// A file being written: it takes its name only by [`OutputFile::commit`].
///
/// Until then the bytes stand in a temporary file in the same directory, which is removed if the
/// `OutputFile` is dropped; a file that had the name before stays as it was. A device or pipe is
/// written directly, and so is standard output, whose name is `-`.
///
/// A program that receives a signal to stop calls [`abandon_outputs`] before it ends.
#[derive(Debug)]
pub struct OutputFile {
    path: PathBuf,
    inner: Inner,
}

#[derive(Debug)]
enum Inner {
    // the mark is dropped after the file
    Temporary(BufWriter<NamedTempFile>, Mark),
    Direct(BufWriter<File>),
    Standard(BufWriter<Stdout>),
}

/// A file that is being written in this process.
#[derive(Debug)]
struct Unfinished {
    temporary: PathBuf,
    path: PathBuf,
    kept: bool,
}

static UNFINISHED: Mutex<Vec<Unfinished>> = Mutex::new(Vec::new());

fn unfinished() -> MutexGuard<'static, Vec<Unfinished>> {
    UNFINISHED.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Takes a file off the list of those being written.
#[derive(Debug)]
struct Mark(PathBuf);

impl Drop for Mark {
    fn drop(&mut self) {
        unfinished().retain(|file| file.temporary != self.0);
    }
}

/// A file that was not finished when the work was stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abandoned {
    /// The name that it was to have; what had that name before is as it was.
    pub path: PathBuf,
    /// Where what was done of it is, where that is of use.
    pub so_far: Option<PathBuf>,
}

/// Removes the temporary files of every [`OutputFile`] of this process, or gives what is done of
/// them a name of its own ([`OutputFile::keep_so_far`]), and returns what it removed. For a program
/// that is about to end: no file can be committed afterwards. A second call does nothing, and
/// returns nothing.
pub fn abandon_outputs() -> Vec<Abandoned> {
    static DONE: AtomicBool = AtomicBool::new(false);
    if DONE.swap(true, Ordering::SeqCst) {
        return Vec::new();
    }
    let mut files = unfinished();
    let abandoned = files.drain(..).map(|file| {
        let so_far = partial(&file.path);
        let kept = file.kept && std::fs::rename(&file.temporary, &so_far).is_ok();
        let _ = std::fs::remove_file(&file.temporary);
        Abandoned { path: file.path, so_far: kept.then_some(so_far) }
    });
    let abandoned = abandoned.collect();
    std::mem::forget(files);
    abandoned
}

/// `scores.csv` becomes `scores.partial.csv`.
fn partial(path: &Path) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(".partial");
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

impl OutputFile {
    /// Opens a file for writing; made to be called before the work whose result it will hold.
    ///
    /// # Errors
    /// [`Error::Io`] if the directory does not exist or cannot be written, [`Error::Config`] if
    /// `path` is a directory.
    pub fn create(path: impl AsRef<Path>) -> Result<OutputFile> {
        let given = path.as_ref();
        if given == Path::new("-") {
            let inner = Inner::Standard(BufWriter::new(std::io::stdout()));
            return Ok(OutputFile { path: given.to_owned(), inner });
        }
        // Writing through a symbolic link replaces what it points to, not the link.
        let path = std::fs::canonicalize(given).unwrap_or_else(|_| given.to_owned());
        let old = std::fs::metadata(&path).ok();
        if old.as_ref().is_some_and(|m| !m.is_file() && !m.is_dir()) {
            let file = OpenOptions::new().write(true).open(&path).map_err(Error::io(given))?;
            return Ok(OutputFile { path, inner: Inner::Direct(BufWriter::new(file)) });
        }
        OutputFile::temporary(given, path, old)
    }

    /// As [`OutputFile::create`] for a file of a directory that the program keeps, such as a run:
    /// what has the name is replaced, whatever it is. A symbolic link there is replaced and never
    /// followed, so that a run from elsewhere cannot direct what is written into another file.
    ///
    /// # Errors
    /// As [`OutputFile::create`].
    pub fn replacing(path: impl AsRef<Path>) -> Result<OutputFile> {
        let path = path.as_ref();
        OutputFile::temporary(path, path.to_owned(), std::fs::symlink_metadata(path).ok())
    }

    /// A temporary file beside `path`, which is the file `given` by the caller; `old` is what has
    /// the name now.
    fn temporary(
        given: &Path,
        path: PathBuf,
        old: Option<std::fs::Metadata>,
    ) -> Result<OutputFile> {
        if old.as_ref().is_some_and(std::fs::Metadata::is_dir) || path.file_name().is_none() {
            let problem = format!("{} is a directory", given.display());
            return Err(Error::config("out", problem, "name a file in it"));
        }
        // the permissions of a link or device are not those of a file
        let old = old.filter(std::fs::Metadata::is_file);
        if old.as_ref().is_some_and(|m| m.permissions().readonly()) {
            let refused = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
            return Err(Error::io(given)(refused));
        }
        let mut builder = tempfile::Builder::new();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let prefix = format!(".{}.", name.chars().take(40).collect::<String>());
        builder.prefix(&prefix).suffix(".tmp");
        #[cfg(unix)]
        {
            // As File::create would: what the umask leaves of rw-rw-rw-.
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        let mut files = unfinished();
        let file = builder
            .tempfile_in(directory(&path))
            .map_err(|source| Error::Io { path: given.to_owned(), source })?;
        let temporary = file.path().to_owned();
        let mark = Mark(temporary.clone());
        files.push(Unfinished { temporary, path: path.clone(), kept: false });
        drop(files);
        if let Some(old) = old {
            let _ = file.as_file().set_permissions(old.permissions());
        }
        Ok(OutputFile {
            path,
            inner: Inner::Temporary(BufWriter::with_capacity(1 << 16, file), mark),
        })
    }

    /// The name that the file will have.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Says that what has been written and flushed up to now is of use without the rest: if the
    /// work is stopped, it takes the name of the file with `.partial` before the extension.
    pub fn keep_so_far(&self) {
        if let Inner::Temporary(_, Mark(temporary)) = &self.inner {
            unfinished()
                .iter_mut()
                .filter(|file| file.temporary == *temporary)
                .for_each(|file| file.kept = true);
        }
    }

    /// Writes `bytes` as the rest of the file and commits it.
    ///
    /// # Errors
    /// As [`OutputFile::commit`].
    pub fn finish(mut self, bytes: &[u8]) -> Result<()> {
        self.write_all(bytes).map_err(Error::io(&self.path))?;
        self.commit()
    }

    /// Forces the bytes to the disk and gives the file its name.
    ///
    /// # Errors
    /// [`Error::Io`], a full disk for example; the old file is then untouched.
    pub fn commit(self) -> Result<()> {
        let OutputFile { path, inner } = self;
        let failed = |e: std::io::Error| Error::io(&path)(e);
        match inner {
            Inner::Direct(mut file) => file.flush().map_err(failed),
            Inner::Standard(mut file) => file.flush().map_err(failed),
            Inner::Temporary(mut writer, _mark) => {
                writer.flush().map_err(failed)?;
                let (file, _) = writer.into_parts();
                file.as_file().sync_all().map_err(failed)?;
                {
                    // not while the process abandons its files
                    let _files = unfinished();
                    file.persist(&path).map_err(|e| failed(e.error))?;
                }
                // The new name is on the disk only once its directory is; not every system can do
                // this.
                if let Ok(directory) = File::open(directory(&path)) {
                    let _ = directory.sync_all();
                }
                Ok(())
            }
        }
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match &mut self.inner {
            Inner::Temporary(file, _) => file.write(bytes),
            Inner::Direct(file) => file.write(bytes),
            Inner::Standard(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match &mut self.inner {
            Inner::Temporary(file, _) => file.flush(),
            Inner::Direct(file) => file.flush(),
            Inner::Standard(file) => file.flush(),
        }
    }
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_file_stays_until_commit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.txt");
        std::fs::write(&path, "old").unwrap();
        let mut out = OutputFile::create(&path).unwrap();
        out.write_all(b"new").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        drop(out);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1, "the temporary file is gone");
        let mut out = OutputFile::create(&path).unwrap();
        out.write_all(b"new").unwrap();
        out.commit().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1);
    }

    /// In a directory of the program's own a link is replaced, and what it points to stays as it
    /// was.
    #[cfg(unix)]
    #[test]
    fn a_link_is_replaced_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("precious"), "mine").unwrap();
        for (link, target) in [("page", "precious"), ("dangling", "nowhere"), ("folder", ".")] {
            std::os::unix::fs::symlink(at(target), at(link)).unwrap();
            OutputFile::replacing(at(link)).unwrap().finish(b"page").unwrap();
            assert!(std::fs::symlink_metadata(at(link)).unwrap().is_file(), "{link}");
            assert_eq!(std::fs::read_to_string(at(link)).unwrap(), "page");
        }
        assert_eq!(std::fs::read_to_string(at("precious")).unwrap(), "mine");
        assert!(!at("nowhere").exists());
        // where a user names a file, a link is followed as anywhere else
        std::os::unix::fs::symlink(at("precious"), at("named")).unwrap();
        OutputFile::create(at("named")).unwrap().finish(b"new").unwrap();
        assert_eq!(std::fs::read_to_string(at("precious")).unwrap(), "new");
    }

    #[test]
    fn what_is_done_has_a_name_of_its_own() {
        let name = |path: &str| partial(Path::new(path));
        assert_eq!(name("a/scores.csv"), Path::new("a/scores.partial.csv"));
        assert_eq!(name("scores"), Path::new("scores.partial"));
    }

    #[test]
    fn bad_paths_fail_at_once() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(
            OutputFile::create(dir.path().join("no/such/out")),
            Err(Error::Io { .. })
        ));
        assert!(matches!(OutputFile::create(dir.path()), Err(Error::Config { .. })));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error() {
        let mut out = OutputFile::create("/dev/full").unwrap();
        let written = out.write_all(&[0; 1 << 17]);
        assert!(written.is_err() || out.commit().is_err());
    }
}
