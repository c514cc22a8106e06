//! Where results go: tables, sheets of pictures, folders of pictures; and where they must not.

use std::path::{Path, PathBuf};

use tweedie::data::{OutputFile, TableFormat, table_endings};
use tweedie::density::{Density, Samples};
use tweedie::{Error, Result};
use tweedie_report::plot::Pictures;

use crate::latents::is_npz;
use crate::pictures::pictures;

/// What samples are written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Table,
    /// An NPZ of latents.
    Latents,
    Sheet,
    Folder,
}

impl Format {
    /// Of `out`: a folder is one that is there, or a name with a slash at its end.
    pub fn of(out: &Path) -> Result<Format> {
        let slash = out.as_os_str().to_string_lossy().ends_with(std::path::MAIN_SEPARATOR);
        if out.is_dir() || slash { Ok(Format::Folder) } else { Format::of_file(out) }
    }

    /// Of `out`, a file.
    pub fn of_file(out: &Path) -> Result<Format> {
        match out.extension().is_some_and(|e| e.eq_ignore_ascii_case("png")) {
            true => Ok(Format::Sheet),
            false if is_npz(out) => Ok(Format::Latents),
            false => TableFormat::of(out).map(|_| Format::Table),
        }
    }
}

/// Where samples go, open for writing.
pub enum Output {
    Table(OutputFile),
    Sheet(Pictures, OutputFile),
    Folder(Pictures, PathBuf),
}

impl Output {
    /// Opens `out` for samples of `density`, pictures of the shape `given` or of that of its
    /// images.
    pub fn open(
        format: Format,
        out: &Path,
        density: &Density,
        given: Option<&str>,
    ) -> Result<Output> {
        if format == Format::Latents && density.run().data.latents.is_none() {
            let problem = format!("{} is for latents, and the run is of none", out.display());
            let remedy = format!("end the name in {}", table_endings());
            return Err(Error::config("--out", problem, remedy));
        }
        if format != Format::Table && density.run().data.schema.is_some() {
            let problem = format!("{} is for pictures, and the run is of a table", out.display());
            let remedy = format!("end the name in {}", table_endings());
            return Err(Error::config("--out", problem, remedy));
        }
        Output::of(format, out, || pictures(density, given))
    }

    /// Opens `out` for pictures of the shape that `shown` says, where it is for pictures.
    pub fn of(
        format: Format,
        out: &Path,
        shown: impl FnOnce() -> Result<Pictures>,
    ) -> Result<Output> {
        Ok(match format {
            Format::Table | Format::Latents => Output::Table(OutputFile::create(out)?),
            Format::Sheet => Output::Sheet(shown()?, OutputFile::create(out)?),
            Format::Folder => Output::Folder(shown()?, new_folder(out)?),
        })
    }

    /// Writes `samples`, and says how many values a picture could not show.
    pub fn write(self, samples: &Samples, quiet: bool) -> Result<()> {
        let values = &samples.values;
        let clipped = match self {
            Output::Table(out) => return samples.write_to(out),
            Output::Sheet(pictures, out) => {
                let sheet = pictures.square(values);
                out.finish(&sheet.png())?;
                sheet.clipped
            }
            Output::Folder(pictures, dir) => {
                let (mut clipped, all) = (0, pictures.each(values));
                let digits = all.len().saturating_sub(1).to_string().len().max(6);
                for (i, picture) in all.enumerate() {
                    let path = dir.join(format!("{i:0digits$}.png"));
                    std::fs::write(&path, picture.png()).map_err(Error::io(&path))?;
                    clipped += picture.clipped;
                }
                clipped
            }
        };
        if clipped > 0 {
            let all = values.len();
            say!(quiet, "{clipped} of {all} values lie outside the grey scale and were clipped");
        }
        Ok(())
    }
}

/// A folder without files, made where there is none: samples are not mixed with those of another
/// call.
fn new_folder(dir: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(dir).map_err(Error::io(dir))?;
    if std::fs::read_dir(dir).map_err(Error::io(dir))?.next().is_some() {
        let problem = format!("{} is a folder with files in it", dir.display());
        let remedy = "give a new folder, or a file: .csv, .npy, .png";
        return Err(Error::config("--out", problem, remedy));
    }
    Ok(dir.to_owned())
}

/// Refuses an output that is one of the `inputs`, or lies in `run`; `-` is standard output, which
/// takes no JSON answer beside the rows.
pub fn check_output(
    flag: &str,
    out: &Path,
    inputs: &[&Path],
    run: &Path,
    json: bool,
) -> Result<()> {
    let bad = |problem: String, remedy: &str| Err(Error::config(flag, problem, remedy));
    if out == Path::new("-") {
        return match json {
            true => bad(
                "- and --json both take standard output".into(),
                "give --out a file, or leave out --json",
            ),
            false => Ok(()),
        };
    }
    let real = |path: &Path| path.canonicalize().ok();
    let folder = match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // where there is a file already, what it is by its own name; else where it will be
    let place = real(out).or_else(|| Some(real(folder)?.join(out.file_name()?)));
    let Some(place) = place else { return Ok(()) };
    if inputs.iter().any(|input| real(input).as_ref() == Some(&place) || same_file(input, out)) {
        let problem = format!("{} is the input, which it would replace", out.display());
        return bad(problem, "give another file");
    }
    if real(run).is_some_and(|run| place.starts_with(run)) {
        let problem =
            format!("{} lies in the run {}, whose files are its own", out.display(), run.display());
        return bad(problem, "give a file outside of it");
    }
    Ok(())
}

/// Whether two names are of one file.
fn same_file(a: &Path, b: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let of =
            |path: &Path| path.metadata().ok().filter(|m| m.is_file()).map(|m| (m.dev(), m.ino()));
        of(a).is_some() && of(a) == of(b)
    }
    #[cfg(not(unix))]
    {
        let _ = (a, b);
        false
    }
}
