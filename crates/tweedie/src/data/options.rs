//! How a file is read, and what a reader found in it.

use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::bounds::Bound;
use super::order::Order;
use crate::choice::choices;
use crate::{Error, Result};

choices! {
    /// What to do with a row that has a missing cell (empty, `NA`, `N/A`, `NaN`, `null`, `None`,
    /// `?`, infinite).
    pub enum Missing = Model {
        /// It is trained on and scored by what is there; of a table of numbers alone the file is
        /// refused
        Model = "model",
        /// The file is refused
        Error = "error",
        /// The rows are left out, and counted
        DropRows = "drop-rows",
    }
}

choices! {
    /// What to do with a row that has a category which the rows that a model was trained on do not
    /// have, or another value of a column that was the same in all of them.
    pub enum Unseen = Error {
        /// The file is refused
        Error = "error",
        /// The row has probability 0, a log-likelihood of −∞
        Impossible = "impossible",
    }
}

/// What a file is read for. It decides which part of an archive or folder is read that holds images
/// for training and others for testing, and which remedies an error can name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Purpose {
    /// Rows to train on.
    #[default]
    Training,
    /// Rows that a training is validated on.
    Validation,
    /// Rows that a trained model scores or encodes; the caller can say how they are read.
    Scoring,
    /// Rows that a trained model is judged on, read as in its training.
    Test,
}

/// The square in the middle of an image that is kept of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum Crop {
    /// With this side, in pixels.
    Side(usize),
    /// With the image's shorter side.
    Shorter,
}

/// How a crop is written: its side, or `"shorter"`.
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number of pixels, or \"shorter\"")]
enum Written {
    Side(usize),
    Word(String),
}

impl From<Crop> for Written {
    fn from(crop: Crop) -> Written {
        match crop {
            Crop::Side(side) => Written::Side(side),
            Crop::Shorter => Written::Word("shorter".into()),
        }
    }
}

impl TryFrom<Written> for Crop {
    type Error = String;

    fn try_from(written: Written) -> std::result::Result<Crop, String> {
        match written {
            Written::Side(side) => Ok(Crop::Side(side)),
            Written::Word(word) => word.parse(),
        }
    }
}

impl FromStr for Crop {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Crop, String> {
        match text {
            "shorter" => Ok(Crop::Shorter),
            _ => text
                .parse()
                .map(Crop::Side)
                .map_err(|_| format!("{text:?} is neither a number of pixels nor \"shorter\"")),
        }
    }
}

/// How to read a table or images.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TableOptions {
    /// What separates the cells of a text file; a space stands for any run of blanks. Guessed if
    /// absent.
    pub delimiter: Option<char>,
    /// What stands before the decimals of a text file, `.` or `,`. Guessed if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decimal: Option<char>,
    /// Whether the first row of a text file holds names. Guessed if absent: it does if one of its
    /// cells is not a number in a column that is numeric below, or if its cells count up from 0 or
    /// 1 and the columns hold decimals.
    pub header: Option<bool>,
    /// The columns to use, by name or position from 1, in this order; all if empty. Where columns
    /// have numbers for names, positions are refused.
    pub columns: Vec<String>,
    /// The columns to leave out, by name or position from 1.
    pub drop: Vec<String>,
    /// Whether [`TableOptions::columns`] are the columns of a model, which are known by name alone.
    /// A text file in which they are found under another delimiter or header than given is read so.
    #[serde(skip)]
    pub by_name: bool,
    /// Bounds of columns of a table that is read as it comes: no sample lies outside.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bounds: Vec<Bound>,
    /// Pairs of columns of a table that is read as it comes of which one is never less than the
    /// other: no sample is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub order: Vec<Order>,
    /// What to do with missing cells.
    pub missing: Missing,
    /// Keep only the first of equal rows.
    pub unique: bool,
    /// The square in the middle of each image that is kept of it, before [`TableOptions::size`];
    /// all of the image if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crop: Option<Crop>,
    /// Height and width to which images are brought: those no larger get a black border, others are
    /// resampled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<[usize; 2]>,
    /// Leave out and count images of a folder that cannot be decoded.
    pub skip_corrupt: bool,
    /// Whether columns of a model that a table lacks are missing cells, and not an error.
    #[serde(skip)]
    pub partial: bool,
    /// What to do with values that no row of a model's has; none: the file is refused, and the
    /// error names no option.
    #[serde(skip)]
    pub unseen: Option<Unseen>,
    /// What the rows are for; no part of a configuration.
    #[serde(skip)]
    pub purpose: Purpose,
}

impl TableOptions {
    /// How another table with the columns of a model is read: these alone, by name, every row as it
    /// is.
    pub fn of_columns(&self, names: &[impl AsRef<str>]) -> TableOptions {
        let columns = names.iter().map(|name| name.as_ref().to_owned()).collect();
        TableOptions {
            columns,
            drop: Vec::new(),
            // the columns have them already
            bounds: Vec::new(),
            order: Vec::new(),
            by_name: true,
            ..self.clone()
        }
    }

    /// Height and width of what is kept of an image of `path` of this height and width: the square
    /// of [`TableOptions::crop`], or all of it.
    ///
    /// # Errors
    /// [`Error::Data`] if the image is smaller than the square.
    pub(super) fn cropped(&self, path: &Path, [height, width]: [usize; 2]) -> Result<[usize; 2]> {
        let side = match self.crop {
            None => return Ok([height, width]),
            Some(Crop::Shorter) => height.min(width),
            Some(Crop::Side(side)) => side,
        };
        if side <= height.min(width) {
            return Ok([side, side]);
        }
        let problem = format!(
            "is {width} × {height} pixels, less than the {side} × {side} in its middle that are to \
             be kept"
        );
        let remedy = match self.may_choose_columns() {
            true => "give larger images, or a smaller data.table.crop",
            false => "give larger images: those of the run were cropped so",
        };
        Err(Error::data(path, problem, remedy))
    }

    /// Whether anything is said of columns that only tables which are read as they come have.
    pub(super) fn says_of_columns(&self) -> bool {
        !self.bounds.is_empty() || !self.order.is_empty()
    }

    /// The options that only images have, with their paths.
    pub(super) fn of_images(&self) -> [(&'static str, bool); 2] {
        [("data.table.crop", self.crop.is_some()), ("data.table.size", self.size.is_some())]
    }

    /// Whether a remedy can name other columns: those of a model are fixed.
    pub(super) fn may_choose_columns(&self) -> bool {
        self.purpose == Purpose::Training && !self.by_name
    }

    /// Whether a remedy can name another way to read the file.
    pub(super) fn may_choose_reading(&self) -> bool {
        self.purpose != Purpose::Test
    }
}

/// What a reader found in a file: what has to be reported to a person once, since a guess may be
/// wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// `text`, `Parquet` or `NPY`; empty for images and tables made in memory.
    pub format: &'static str,
    /// What separates the cells of a text file; a space stands for a run of blanks.
    pub delimiter: Option<char>,
    /// Whether a text file has a header.
    pub header: Option<bool>,
    /// Whether decimals stand after a comma.
    pub decimal_comma: bool,
    /// Lines at the top of a text file that are no part of the table: comments, `sep=;`.
    pub preamble: usize,
    /// Columns of the file.
    pub columns: usize,
    /// Columns that were left out without request, and why.
    pub left_out: Vec<(String, String)>,
}

impl Found {
    /// A line for format, layout and the columns called `names`, and one for each column left out
    /// without request. Nothing for images and tables made in memory.
    pub(super) fn in_words(&self, names: &[String]) -> Vec<String> {
        if self.format.is_empty() {
            return Vec::new();
        }
        let mut parts = vec![self.format.to_owned()];
        match self.delimiter {
            Some(' ') => parts.push("cells between blanks".into()),
            Some('\t') => parts.push("cells between tabs".into()),
            Some(delimiter) if self.columns > 1 => {
                parts.push(format!("cells between `{delimiter}`"));
            }
            _ => (),
        }
        if self.decimal_comma {
            parts.push("decimal commas".into());
        }
        if let Some(header) = self.header {
            parts.push(if header { "a header" } else { "no header" }.into());
        }
        if self.preamble > 0 {
            let s = if self.preamble == 1 { "" } else { "s" };
            parts.push(format!("{} line{s} before the table", self.preamble));
        }
        let dim = names.len();
        let mut listed: Vec<&str> = names.iter().take(8).map(String::as_str).collect();
        if dim > 8 {
            listed.push("…");
        }
        let of = if self.columns == dim { String::new() } else { format!(" of {}", self.columns) };
        let s = if self.columns == 1 { "" } else { "s" };
        let (parts, listed) = (parts.join(", "), listed.join(", "));
        let layout = format!("found: {parts}; {dim}{of} column{s}: {listed}");
        let left_out = self.left_out.iter().map(|(name, why)| {
            format!(
                "found: column `{name}` is left out: {why} (to keep it, name it in \
                 data.table.columns)"
            )
        });
        [layout].into_iter().chain(left_out).collect()
    }
}

/// Something of the source that is not in a data set, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// What, in the plural: `linked folders`.
    pub what: String,
    /// How many.
    pub count: usize,
    /// The first of them, as a path below the source.
    pub first: String,
}

impl std::fmt::Display for LeftOut {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let more = if self.count > 1 { ", …" } else { "" };
        write!(f, "{}: {} ({:?}{more})", self.what, self.count, self.first)
    }
}
