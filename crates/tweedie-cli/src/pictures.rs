//! Where samples go: tables, sheets of pictures, folders of pictures.

use std::path::{Path, PathBuf};

use tweedie::data::{OutputFile, TableFormat};
use tweedie::density::{Density, Samples};
use tweedie::{Error, Result};
use tweedie_report::plot::{Sheet, picture_of, sheet_of};

use crate::console::say;

/// What samples are written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Table,
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
            false => TableFormat::of(out).map(|_| Format::Table),
        }
    }
}

/// Where samples go, open for writing.
pub enum Output {
    Table(OutputFile),
    Sheet(OutputFile, Pictures),
    Folder(PathBuf, Pictures),
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
        let pictures = || Pictures::of(density, given);
        Ok(match format {
            Format::Table => Output::Table(OutputFile::create(out)?),
            Format::Sheet => {
                let pictures = pictures()?;
                Output::Sheet(OutputFile::create(out)?, pictures)
            }
            Format::Folder => {
                let pictures = pictures()?;
                Output::Folder(new_folder(out)?, pictures)
            }
        })
    }

    pub fn write(self, samples: &Samples, quiet: bool) -> Result<()> {
        match self {
            Output::Table(out) => samples.write_to(out),
            Output::Sheet(out, pictures) => {
                pictures.write(out, &samples.values, samples.rows(), quiet)
            }
            Output::Folder(dir, pictures) => pictures.write_each(&dir, &samples.values, quiet),
        }
    }
}

/// A folder without files, made where there is none: samples are not mixed with those of another
/// call.
fn new_folder(dir: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(dir).map_err(Error::io(dir))?;
    if std::fs::read_dir(dir).map_err(Error::io(dir))?.next().is_some() {
        let problem = format!("{} is a folder with files in it", dir.display());
        return Err(Error::config(
            "--out",
            problem,
            "give a new folder, or a file: .csv, .npy, .png",
        ));
    }
    Ok(dir.to_owned())
}

/// Black and white of images.
pub const LEVELS: (f64, f64) = (0.0, 255.0);

/// How rows are shown as pictures.
pub struct Pictures {
    /// Channels, height, width.
    pub shape: [usize; 3],
    /// Whether rows are images, levels 0…255.
    levels: bool,
}

impl Pictures {
    /// Images, levels 0…255.
    pub fn images(shape: [usize; 3]) -> Pictures {
        Pictures { shape, levels: true }
    }

    /// The images of `density`, or rows as grey pictures of the shape `given`.
    pub fn of(density: &Density, given: Option<&str>) -> Result<Pictures> {
        let data = &density.run().data;
        if let (Some(shape), None) = (data.image, given) {
            return Ok(Pictures::images(shape));
        }
        let (height, width) = picture_shape(given, data.scaling.dim())?;
        Ok(Pictures { shape: [1, height, width], levels: false })
    }

    /// Black and white: of levels, 0 and 255; else the 1 % and 99 % quantiles of `values`.
    pub fn range(&self, values: &[f64]) -> (f64, f64) {
        if self.levels {
            return LEVELS;
        }
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |q: f64| sorted[((sorted.len() - 1) as f64 * q) as usize];
        // where all are alike they are grey
        match (at(0.01), at(0.99)) {
            (low, high) if low < high => (low, high),
            (value, _) => {
                let around = 1.0_f64.max(value.abs() / 2.0);
                (value - around, value + around)
            }
        }
    }

    /// A sheet with so many pictures a row.
    pub fn sheet(&self, values: &[f64], columns: usize, range: (f64, f64)) -> Sheet {
        sheet_of(values, self.shape, columns, range)
    }

    /// Writes `n` rows as one square sheet, and says what was clipped.
    pub fn write(&self, out: OutputFile, values: &[f64], n: usize, quiet: bool) -> Result<()> {
        let sheet = self.sheet(values, (n as f64).sqrt().ceil() as usize, self.range(values));
        out.finish(&sheet.png())?;
        say_beyond(sheet.clipped, values.len(), quiet);
        Ok(())
    }

    /// Writes every row as a PNG file of its own size in `dir`, numbered from 0, and says what was
    /// clipped.
    pub fn write_each(&self, dir: &Path, values: &[f64], quiet: bool) -> Result<()> {
        let (size, range) = (self.shape.iter().product::<usize>(), self.range(values));
        let digits = (values.len() / size).saturating_sub(1).to_string().len().max(6);
        let mut beyond = 0;
        for (i, row) in values.chunks_exact(size).enumerate() {
            let picture = picture_of(row, self.shape, range);
            let path = dir.join(format!("{i:0digits$}.png"));
            std::fs::write(&path, picture.png()).map_err(Error::io(&path))?;
            beyond += picture.clipped;
        }
        say_beyond(beyond, values.len(), quiet);
        Ok(())
    }
}

/// Says how many values a picture could not show.
fn say_beyond(clipped: usize, all: usize, quiet: bool) {
    if clipped > 0 {
        say(
            quiet,
            format!("{clipped} of {all} values lie outside the grey scale and were clipped"),
        );
    }
}

/// `HxW`, or the square that fits.
fn picture_shape(given: Option<&str>, dim: usize) -> Result<(usize, usize)> {
    let wrong = |problem: String| {
        Error::config("--shape", problem, format!("give HxW with H times W = {dim}"))
    };
    let (height, width) = match given {
        None => {
            let side = (dim as f64).sqrt().round() as usize;
            (side, side)
        }
        Some(text) => {
            let parts: Vec<Option<usize>> = text.split('x').map(|p| p.parse().ok()).collect();
            match parts[..] {
                [Some(height), Some(width)] => (height, width),
                _ => return Err(wrong(format!("'{text}' is not HxW"))),
            }
        }
    };
    if height.checked_mul(width) != Some(dim) {
        return Err(wrong(format!("{dim} columns are not {height} x {width} pixels")));
    }
    Ok((height, width))
}
