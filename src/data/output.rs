//! Files that appear complete or not at all.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::{Error, Result};

/// A file being written: it takes its name only by [`OutputFile::commit`].
///
/// Until then the bytes stand in a temporary file in the same directory, which is removed if the `OutputFile` is
/// dropped; a file that had the name before stays as it was. A device or pipe (`/dev/stdout`) is written directly.
#[derive(Debug)]
pub struct OutputFile {
    path: PathBuf,
    inner: Inner,
}

#[derive(Debug)]
enum Inner {
    Temporary(BufWriter<NamedTempFile>),
    Direct(BufWriter<File>),
}

impl OutputFile {
    /// Opens a file for writing; made to be called before the work whose result it will hold.
    ///
    /// # Errors
    /// [`Error::Io`] if the directory does not exist or cannot be written, [`Error::Config`] if `path` is a
    /// directory.
    pub fn create(path: impl AsRef<Path>) -> Result<OutputFile> {
        let given = path.as_ref();
        // Writing through a symbolic link replaces what it points to, not the link.
        let path = std::fs::canonicalize(given).unwrap_or_else(|_| given.to_owned());
        let old = std::fs::metadata(&path).ok();
        if old.as_ref().is_some_and(|m| !m.is_file() && !m.is_dir()) {
            let file = OpenOptions::new().write(true).open(&path).map_err(Error::io(given))?;
            return Ok(OutputFile { path, inner: Inner::Direct(BufWriter::new(file)) });
        }
        OutputFile::temporary(given, path, old)
    }

    /// As [`OutputFile::create`] for a file of a directory that the program keeps, such as a run: what has the name is
    /// replaced, whatever it is. A symbolic link there is replaced and never followed, so that a run from elsewhere
    /// cannot direct what is written into another file.
    ///
    /// # Errors
    /// As [`OutputFile::create`].
    pub fn replacing(path: impl AsRef<Path>) -> Result<OutputFile> {
        let path = path.as_ref();
        OutputFile::temporary(path, path.to_owned(), std::fs::symlink_metadata(path).ok())
    }

    /// A temporary file beside `path`, which is the file `given` by the caller; `old` is what has the name now.
    fn temporary(given: &Path, path: PathBuf, old: Option<std::fs::Metadata>) -> Result<OutputFile> {
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
        let file = builder
            .tempfile_in(directory(&path))
            .map_err(|source| Error::Io { path: given.to_owned(), source })?;
        if let Some(old) = old {
            let _ = file.as_file().set_permissions(old.permissions());
        }
        Ok(OutputFile { path, inner: Inner::Temporary(BufWriter::with_capacity(1 << 16, file)) })
    }

    /// The name that the file will have.
    pub fn path(&self) -> &Path {
        &self.path
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
            Inner::Temporary(mut writer) => {
                writer.flush().map_err(failed)?;
                let (file, _) = writer.into_parts();
                file.as_file().sync_all().map_err(failed)?;
                file.persist(&path).map_err(|e| failed(e.error))?;
                // The new name is on the disk only once its directory is; not every system can do this.
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
            Inner::Temporary(file) => file.write(bytes),
            Inner::Direct(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match &mut self.inner {
            Inner::Temporary(file) => file.flush(),
            Inner::Direct(file) => file.flush(),
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

    /// In a directory of the program's own a link is replaced, and what it points to stays as it was.
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
    fn bad_paths_fail_at_once() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(OutputFile::create(dir.path().join("no/such/out")), Err(Error::Io { .. })));
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
