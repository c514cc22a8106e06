//! A table of numbers in memory, and reading one from a file.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::builder::{Builder, Moments};
use super::labels::Labels;
use super::precision::Sample;
use super::{delimited, foreign, images, npy, parquet};
use crate::{Error, Result};

/// What the values of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ColumnKind {
    /// Real numbers.
    Float,
    /// Whole numbers: every cell written without point or exponent in a text file, an integer or
    /// boolean type in Parquet and NPY.
    Integer,
}

/// How the values of a column are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CellType {
    /// Single precision: the shortest text that reads back as the same `f32`.
    Single,
    /// Double precision: the shortest text that reads back as the same `f64`.
    Double,
    /// Whole numbers.
    Integer,
}

impl From<ColumnKind> for CellType {
    /// The type in which a sample of such a column is written.
    fn from(kind: ColumnKind) -> Self {
        match kind {
            ColumnKind::Float => CellType::Single,
            ColumnKind::Integer => CellType::Integer,
        }
    }
}

/// One column of a [`Table`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name in the file; `c1`, `c2`, … where the file has none. A repeated name gets `.1`,
    /// `.2`, … appended.
    pub name: String,
    /// What its values are.
    pub kind: ColumnKind,
}

/// What to do with a row that has a missing cell (empty, `NA`, `N/A`, `NaN`, `null`, `None`, `?`,
/// infinite).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Missing {
    /// Refuse the file, naming the cell.
    #[default]
    Error,
    /// Leave the row out and count it in [`Table::dropped_rows`].
    DropRows,
}

/// What a file is read for. Archives and folders that hold images for training and others for
/// testing are read accordingly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Purpose {
    /// Rows to train on.
    #[default]
    Training,
    /// Rows that a training is validated on.
    Validation,
    /// Rows that a finished run is judged on, scored or encoded.
    Test,
}

/// Something of the source that is not in a table, and how often.
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

/// Who reads a table: remedies name the flags that that command has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reader {
    /// `tweedie train`, or whoever may choose the columns and how the file is read.
    #[default]
    Training,
    /// A command that uses a trained model and has `--missing`.
    Scoring,
    /// A command without flags for tables.
    Other,
}

/// How to read a table.
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
    /// Whose flags remedies name.
    #[serde(skip)]
    pub reader: Reader,
    /// What to do with missing cells.
    pub missing: Missing,
    /// Keep only the first of equal rows.
    pub unique: bool,
    /// Height and width to which images are brought: those no larger get a black border, others are
    /// resampled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<[usize; 2]>,
    /// Leave out and count images of a folder that cannot be decoded.
    pub skip_corrupt: bool,
    /// What the rows are for; no part of a configuration.
    #[serde(skip)]
    pub purpose: Purpose,
}

impl TableOptions {
    /// How another table with the columns of a model is read: these alone, by name, every row as it
    /// is.
    pub fn of_columns(&self, names: &[&str]) -> TableOptions {
        let columns = names.iter().map(|&name| name.to_owned()).collect();
        TableOptions { columns, drop: Vec::new(), by_name: true, ..self.clone() }
    }
}

/// What a reader found in a file: what a person has to be told once, since a guess may be wrong.
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
    /// Columns that were left out unasked, and why.
    pub left_out: Vec<(String, String)>,
}

/// How a text file is laid out, as given or guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub delimiter: u8,
    pub header: bool,
    /// Decimals stand after a comma.
    pub decimal_comma: bool,
    /// Bytes, after a byte-order mark, before the table, and the lines that end in them.
    pub skip: u64,
    pub skipped_lines: u64,
}

/// The format of an input file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InputFormat {
    Delimited,
    Parquet,
    Npy,
}

/// Numbers in rows and named columns.
///
/// `values` is row-major, `[rows, dim]`. Every value is finite.
#[derive(Debug, Clone)]
pub struct Table {
    /// The columns, in the order of a row's values.
    pub columns: Vec<Column>,
    /// The values, `[rows, dim]`.
    pub values: Vec<f32>,
    /// The file from which it was read; empty for a table made in memory.
    pub source: PathBuf,
    /// Channels, height and width, where rows are images: levels 0…255, channel by channel, line by
    /// line.
    pub image: Option<[usize; 3]>,
    /// The classes of images, where their files tell of any.
    pub labels: Option<Labels>,
    /// The file of each image, as a path below `source`; empty where rows are of one file.
    pub files: Vec<String>,
    /// What else of the source is not in the table: files and folders that are not read.
    pub left_out: Vec<LeftOut>,
    /// What a user should know of how the source was read, a sentence each without its full stop.
    pub notes: Vec<String>,
    /// Rows left out because of missing cells, or images that cannot be decoded.
    pub dropped_rows: usize,
    /// Rows left out because an equal row came before ([`TableOptions::unique`]).
    pub dropped_duplicates: usize,
    /// What the reader found.
    pub found: Found,
    /// The input's own types, for echoing.
    pub(super) cells: Vec<CellType>,
    /// Mean and deviation before rounding to single precision.
    pub(super) moments: Vec<Moments>,
    /// Some of the rows before rounding.
    pub(super) sample: Sample,
    /// Rows of the file that are not in the table, increasing, from 0.
    pub(super) skipped: Vec<usize>,
    pub(super) layout: Option<Layout>,
    pub(super) options: TableOptions,
}

impl Table {
    /// Reads a table. The format follows from the extension, else from the first bytes.
    ///
    /// Text files are `.csv`, `.tsv`, `.tab`, `.txt`, `.dat`, `.data`, `.asc`; they are streamed,
    /// so that the table itself is the only copy in memory. NPY arrays are 1-D (one column) or 2-D,
    /// C or Fortran order. Images are IDX files (compressed by gzip or not), CIFAR-10's binary
    /// batches or the folder of them, NPY and NPZ arrays of unsigned bytes `[n, H, W]`,
    /// `[n, H, W, C]` or `[n, C, H, W]`, and folders of PNG, JPEG, WebP, GIF, BMP and TIFF; their
    /// labels are CIFAR's, those of `…-labels-idx1-ubyte` beside `…-images-idx3-ubyte`, the arrays
    /// `labels` or `y` of an NPZ, and the names of sub-folders where every image lies in one. Of an
    /// NPZ with `x_train` and `x_test`, or a folder of CIFAR-10's batches,
    /// [`TableOptions::purpose`] says which images are meant.
    ///
    /// # Errors
    /// Whatever in the file or the options cannot be used, with its place and the remedy.
    pub fn read(path: impl AsRef<Path>, options: &TableOptions) -> Result<Table> {
        let path = path.as_ref();
        foreign::refuse(path)?;
        if let Some(table) = images::read(path, options)? {
            return Ok(table);
        }
        let mut builder: Builder<f32> = Builder::new(path, options, false);
        let layout = read_into(path, options, &mut builder)?;
        let mut table = builder.finish()?;
        table.layout = layout;
        if options.unique {
            table.drop_duplicates();
        }
        Ok(table)
    }

    /// A table made in memory.
    ///
    /// # Errors
    /// [`Error::Data`] if a value is not finite or there are no rows.
    ///
    /// # Panics
    /// If `values` does not hold whole rows.
    pub fn new(columns: Vec<Column>, values: Vec<f32>) -> Result<Table> {
        let dim = columns.len();
        assert!(
            dim > 0 && values.len().is_multiple_of(dim),
            "{} values are not whole rows of {dim} columns",
            values.len()
        );
        let mut moments = vec![Moments::default(); dim];
        for (row, cells) in values.chunks_exact(dim).enumerate() {
            for (column, (&value, moments)) in cells.iter().zip(&mut moments).enumerate() {
                if !value.is_finite() {
                    let name = &columns[column].name;
                    let problem = format!(
                        "row {}, column `{name}`: found {value}, expected a finite number",
                        row + 1
                    );
                    return Err(Error::data("table", problem, "leave the row out"));
                }
                moments.push(value.into());
            }
        }
        if values.is_empty() {
            return Err(Error::data("table", "no rows", "give at least one row"));
        }
        let cells = columns.iter().map(|c| c.kind.into()).collect();
        Ok(Table {
            columns,
            values,
            source: PathBuf::new(),
            image: None,
            labels: None,
            files: Vec::new(),
            left_out: Vec::new(),
            notes: Vec::new(),
            dropped_rows: 0,
            dropped_duplicates: 0,
            found: Found::default(),
            cells,
            moments,
            sample: Sample::default(),
            skipped: Vec::new(),
            layout: None,
            options: TableOptions::default(),
        })
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.values.len() / self.columns.len()
    }

    /// The number of columns.
    pub fn dim(&self) -> usize {
        self.columns.len()
    }

    /// Where row `i` of the table stands among the rows of its file, from 1: rows that were left
    /// out count.
    pub(crate) fn row_of_file(&self, i: usize) -> usize {
        let mut at = i;
        for &skipped in &self.skipped {
            if skipped > at {
                break;
            }
            at += 1;
        }
        at + 1
    }

    /// What the reader found in a table's file, a line each: layout and columns, and what was left
    /// out unasked. Nothing for images and tables made in memory.
    pub fn found_in_words(&self) -> Vec<String> {
        let Found { format, delimiter, header, decimal_comma, preamble, columns, left_out } =
            &self.found;
        if format.is_empty() {
            return Vec::new();
        }
        let mut parts = vec![(*format).to_owned()];
        match delimiter {
            Some(' ') => parts.push("cells between blanks".into()),
            Some('\t') => parts.push("cells between tabs".into()),
            Some(_) if *columns == 1 => (),
            Some(delimiter) => parts.push(format!("cells between `{delimiter}`")),
            None => (),
        }
        if *decimal_comma {
            parts.push("decimal commas".into());
        }
        match header {
            Some(true) => parts.push("a header".into()),
            Some(false) => parts.push("no header".into()),
            None => (),
        }
        if *preamble > 0 {
            let s = if *preamble == 1 { "" } else { "s" };
            parts.push(format!("{preamble} line{s} before the table"));
        }
        let mut names: Vec<&str> = self.names().into_iter().take(8).collect();
        if self.dim() > 8 {
            names.push("…");
        }
        let of = if *columns == self.dim() { String::new() } else { format!(" of {columns}") };
        let s = if *columns == 1 { "" } else { "s" };
        let layout = format!(
            "found: {}; {}{of} column{s}: {}",
            parts.join(", "),
            self.dim(),
            names.join(", ")
        );
        let left_out = left_out.iter().map(|(name, why)| {
            format!("found: column `{name}` is left out: {why} (to keep it, name it in --columns)")
        });
        [layout].into_iter().chain(left_out).collect()
    }

    /// The values of row `i`, from 0.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, i: usize) -> &[f32] {
        &self.values[i * self.dim()..(i + 1) * self.dim()]
    }

    /// The names of the columns.
    pub fn names(&self) -> Vec<&str> {
        self.columns.iter().map(|c| c.name.as_str()).collect()
    }

    /// How many rows equal an earlier row.
    pub fn duplicate_rows(&self) -> usize {
        self.duplicates().len()
    }

    /// A digest of the columns, values and labels, 16 hexadecimal digits: equal for equal tables on
    /// every platform and in every version, different (but for chance, 2⁻⁶⁴) for different ones.
    /// Not for secrets.
    pub fn fingerprint(&self) -> String {
        let mut hash = hash_word(0xcbf2_9ce4_8422_2325, self.rows() as u64);
        for column in &self.columns {
            hash = hash_word(hash, column.name.len() as u64);
            hash = column.name.bytes().fold(hash, |hash, byte| hash_word(hash, byte.into()));
            hash = hash_word(hash, u64::from(column.kind == ColumnKind::Integer));
        }
        let hash = hash_row(hash, &self.values);
        let labels = self.labels.iter().flat_map(|labels| &labels.of_rows);
        format!("{:016x}", labels.fold(hash, |hash, &label| hash_word(hash, label.into())))
    }

    /// The rows that equal an earlier row, increasing.
    fn duplicates(&self) -> Vec<usize> {
        let mut order: Vec<(u64, usize)> =
            (0..self.rows()).map(|i| (hash_row(1, self.row(i)), i)).collect();
        order.sort_unstable();
        let mut duplicates = Vec::new();
        for group in order.chunk_by(|a, b| a.0 == b.0) {
            for (k, &(_, i)) in group.iter().enumerate() {
                if group[..k].iter().take(8).any(|&(_, j)| self.row(j) == self.row(i)) {
                    duplicates.push(i);
                }
            }
        }

        duplicates.sort_unstable();
        duplicates
    }

    pub(super) fn drop_duplicates(&mut self) {
        let duplicates = self.duplicates();
        if duplicates.is_empty() {
            return;
        }
        let (dim, rows) = (self.dim(), self.rows());
        let mut gone = duplicates.iter().copied().peekable();
        let mut missing = self.skipped.iter().copied().peekable();
        let (mut skipped, mut kept, mut source) = (Vec::new(), 0, 0);
        for row in 0..rows {
            while missing.next_if_eq(&source).is_some() {
                skipped.push(source);
                source += 1;
            }
            if gone.next_if_eq(&row).is_some() {
                skipped.push(source);
            } else {
                self.values.copy_within(row * dim..(row + 1) * dim, kept * dim);
                if let Some(labels) = &mut self.labels {
                    labels.of_rows[kept] = labels.of_rows[row];
                }
                if !self.files.is_empty() {
                    self.files.swap(kept, row);
                }
                kept += 1;
            }
            source += 1;
        }
        skipped.extend(missing);
        self.values.truncate(kept * dim);
        if let Some(labels) = &mut self.labels {
            labels.of_rows.truncate(kept);
        }
        self.files.truncate(kept);
        self.skipped = skipped;
        self.dropped_duplicates = duplicates.len();
    }
}

/// The columns' names and the cells, row-major and in double precision, of a table that holds no
/// data to model: all its columns, which are `c1`, `c2`, … where the file has no names.
///
/// # Errors
/// As [`Table::read`].
pub fn read_numbers(path: impl AsRef<Path>) -> Result<(Vec<String>, Vec<f64>)> {
    let path = path.as_ref();
    let options = TableOptions { reader: Reader::Other, ..TableOptions::default() };
    let options = &options;
    foreign::refuse(path)?;
    let mut builder: Builder<f64> = Builder::new(path, options, false);
    read_into(path, options, &mut builder)?;
    if builder.values.is_empty() {
        return Err(Error::data(
            path,
            "there are no rows of data",
            "check how the file was written",
        ));
    }
    Ok((builder.chosen.into_iter().map(|(_, name)| name).collect(), builder.values))
}

/// Reads `path` into `builder`; the layout of a text file is returned.
pub(super) fn read_into<T: super::builder::Real>(
    path: &Path,
    options: &TableOptions,
    builder: &mut Builder<T>,
) -> Result<Option<Layout>> {
    match input_format(path)? {
        InputFormat::Delimited => delimited::read(path, options, builder).map(Some),
        InputFormat::Parquet => {
            builder.found.format = "Parquet";
            parquet::read(path, options, builder).map(|()| None)
        }
        InputFormat::Npy => {
            builder.found.format = "NPY";
            npy::read(path, options, builder).map(|()| None)
        }
    }
}

/// What `path` holds, by its extension, else its first bytes.
pub(super) fn input_format(path: &Path) -> Result<InputFormat> {
    let metadata = std::fs::metadata(path).map_err(Error::io(path))?;
    if metadata.is_dir() {
        return Err(Error::data(
            path,
            "is a directory, expected a table",
            "name a CSV, TSV, Parquet or NPY file",
        ));
    }
    if !metadata.is_file() {
        return Err(Error::data(path, "is not a regular file", "save the data to a file first"));
    }
    if metadata.len() == 0 {
        return Err(Error::data(
            path,
            "the file is empty, expected rows of numbers",
            "check how it was written",
        ));
    }
    let mut head = Vec::new();
    File::open(path).and_then(|f| f.take(1024).read_to_end(&mut head)).map_err(Error::io(path))?;
    let extension =
        path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    if extension == "gz" || head.starts_with(b"\x1f\x8b") {
        let remedy = format!("decompress it first: gunzip {}", path.display());
        return Err(Error::data(path, "is compressed by gzip, which is not read directly", remedy));
    }
    match extension.as_str() {
        "parquet" | "pq" => return Ok(InputFormat::Parquet),
        "npy" => return Ok(InputFormat::Npy),
        _ => {}
    }
    if head.starts_with(b"PAR1") {
        Ok(InputFormat::Parquet)
    } else if head.starts_with(b"\x93NUMPY") {
        Ok(InputFormat::Npy)
    } else if head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff") {
        let remedy = "save it as UTF-8 (iconv -f UTF-16 -t UTF-8)";
        Err(Error::data(path, "is UTF-16 text, expected UTF-8", remedy))
    } else if head.contains(&0) {
        let problem = "is a binary file of unknown format";
        Err(Error::data(path, problem, "give a CSV, TSV, Parquet or NPY file"))
    } else {
        Ok(InputFormat::Delimited)
    }
}

fn hash_word(hash: u64, word: u64) -> u64 {
    // FNV-1a on words, with a rotation so that high bits reach low ones.
    ((hash ^ word).wrapping_mul(0x0000_0100_0000_01b3_u64 | 0x9e37_0000_0000_0000)).rotate_left(29)
}

fn hash_row(hash: u64, values: &[f32]) -> u64 {
    // Adding zero makes -0 and 0 one.
    values.iter().fold(hash, |hash, value| hash_word(hash, (value + 0.0).to_bits().into()))
}
