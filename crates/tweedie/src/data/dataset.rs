//! Rows in memory, with their types: a table of columns, or images.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::column::{CellType, Column, ColumnKind, Values};
use super::digest::same_rows;
use super::formats::text::Layout;
use super::images::Images;
use super::labels::Labels;
use super::latents::{Latents, LatentsOf, Points, latent_columns};
use super::options::{Found, LeftOut, TableOptions};
use super::output::OutputFile;
use super::place::{FileRows, Place};
use super::schema::Schema;
use super::split::permutation;
use super::write::{Frame, Named, Style, write_frame};
use crate::noise::{Noise, Seed};
use crate::query::Condition;
use crate::{Error, Result};

/// Rows with names, types and classes, and what is known of the file that they came from.
///
/// A table keeps its columns as its file has them, whole numbers as `i64` and real ones in single
/// or double precision; images keep their levels as bytes. A model is given rows in single
/// precision, `[rows, dim]`: [`Dataset::row`], [`Dataset::gather`]. Every value is finite, unless
/// the table was read as it comes ([`Dataset::read_as_it_comes`]): it then has a [`Schema`], and
/// may have categories, dates and holes. Copies share the values.
#[derive(Debug, Clone)]
pub struct Dataset {
    pub(super) content: Arc<Content>,
    /// The file from which it was read; empty for data made in memory.
    pub source: PathBuf,
    /// The classes of images, where their files have any.
    pub labels: Option<Labels>,
    /// The file of each image, as a path below `source`; empty where rows are of one file.
    pub files: Vec<String>,
    /// What else of the source is not in the data set: files and folders that are not read.
    pub left_out: Vec<LeftOut>,
    /// What a user should know of how the source was read, a sentence each without its full stop.
    pub notes: Vec<String>,
    /// Rows left out because of missing cells, or images that cannot be decoded.
    pub dropped_rows: usize,
    /// Rows left out because an equal row came before ([`TableOptions::unique`]).
    pub dropped_duplicates: usize,
    /// What the reader found.
    pub found: Found,
    pub(super) file_rows: FileRows,
    pub(super) layout: Option<Layout>,
    pub(super) options: TableOptions,
    pub(super) schema: Option<Arc<Schema>>,
    pub(super) unseen: BTreeMap<usize, Vec<String>>,
}

#[derive(Debug, Clone)]
pub(super) enum Content {
    Table(Vec<(String, Values)>),
    /// Levels 0…255, image by image, channel by channel, line by line.
    Images {
        shape: [usize; 3],
        levels: Vec<u8>,
    },
    Latents(Latents),
}

impl Dataset {
    /// A table made in memory, of the row-major `values`.
    ///
    /// # Errors
    /// [`Error::Data`] if a value is not finite or there are no rows.
    ///
    /// # Panics
    /// If `values` does not hold whole rows.
    pub fn new(columns: Vec<Column>, values: Vec<f32>) -> Result<Dataset> {
        let dim = columns.len();
        assert!(
            dim > 0 && values.len().is_multiple_of(dim),
            "{} values are not whole rows of {dim} columns",
            values.len()
        );
        let typed = columns.into_iter().enumerate().map(|(k, Column { name, kind })| {
            let values = values.iter().skip(k).step_by(dim).copied();
            let values = match kind {
                ColumnKind::Integer if values.clone().all(|v| v.fract() == 0.0) => {
                    Values::Integer(values.map(|v| v as i64).collect())
                }
                _ => Values::Single(values.collect()),
            };
            (name, values)
        });
        Dataset::of_columns(typed.collect())
    }

    /// A table made in memory, of named columns.
    ///
    /// # Errors
    /// [`Error::Data`] if a value is not finite, or there are no columns or rows.
    ///
    /// # Panics
    /// If the columns differ in length.
    pub fn of_columns(columns: Vec<(String, Values)>) -> Result<Dataset> {
        let rows = columns.first().map_or(0, |(_, values)| values.len());
        let mut names = std::collections::HashSet::new();
        if let Some((name, _)) = columns.iter().find(|(name, _)| !names.insert(name)) {
            let problem = format!("two columns are called `{name}`");
            return Err(Error::data("table", problem, "give each a name of its own"));
        }
        for (name, values) in &columns {
            assert_eq!(values.len(), rows, "rows of column `{name}`");
            if let Some(row) = (0..rows).find(|&i| !values.get(i).is_finite()) {
                let (place, value) = (row + 1, values.get(row));
                let problem = format!(
                    "row {place}, column `{name}`: found {value}, expected a finite number"
                );
                return Err(Error::data("table", problem, "leave the row out"));
            }
        }
        if rows == 0 {
            return Err(Error::data("table", "no rows", "give at least one row"));
        }
        Ok(Dataset::of_content(Content::Table(columns)))
    }

    /// Images made in memory, of the same channels, height and width, from their levels 0…255,
    /// image by image, channel by channel, line by line.
    ///
    /// # Errors
    /// [`Error::Data`] if there is no whole image.
    pub fn images(shape: [usize; 3], levels: Vec<u8>) -> Result<Dataset> {
        let dim: usize = shape.iter().product();
        if levels.is_empty() || dim == 0 || !levels.len().is_multiple_of(dim) {
            let problem = format!("{} levels are not whole images of {shape:?}", levels.len());
            return Err(Error::data("images", problem, "give one level for each pixel"));
        }
        Ok(Dataset::of_content(Content::Images { shape, levels }))
    }

    /// Latents made in memory, of the same channels, height and width, row after row; of Gaussians
    /// their means and standard deviations, from which every use of a row in a training draws anew.
    ///
    /// # Errors
    /// [`Error::Data`] if there is no whole row, or a number is not finite.
    pub fn latents(
        shape: [usize; 3],
        of: LatentsOf,
        mean: Vec<f32>,
        std: Option<Vec<f32>>,
    ) -> Result<Dataset> {
        let dim: usize = shape.iter().product();
        let right = |values: &[f32]| {
            !values.is_empty()
                && dim > 0
                && values.len().is_multiple_of(dim)
                && values.len() == mean.len()
                && values.iter().all(|value| value.is_finite())
        };
        if !(right(&mean) && std.as_deref().is_none_or(right)) {
            let problem = format!("{} numbers are not whole latents of {shape:?}", mean.len());
            return Err(Error::data("latents", problem, "give finite numbers, one for each place"));
        }
        let points = Points { mean, std };
        Ok(Dataset::of_latents(Latents { shape, of, points, mirrored: None }))
    }

    pub(super) fn of_latents(latents: Latents) -> Dataset {
        Dataset::of_content(Content::Latents(latents))
    }

    fn of_content(content: Content) -> Dataset {
        Dataset {
            content: Arc::new(content),
            source: PathBuf::new(),
            labels: None,
            files: Vec::new(),
            left_out: Vec::new(),
            notes: Vec::new(),
            dropped_rows: 0,
            dropped_duplicates: 0,
            found: Found::default(),
            file_rows: FileRows::default(),
            layout: None,
            options: TableOptions::default(),
            schema: None,
            unseen: BTreeMap::new(),
        }
    }

    /// The table of a file whose cells are known to be finite; it may have no rows.
    pub(super) fn of_file(columns: Vec<(String, Values)>) -> Dataset {
        Dataset::of_content(Content::Table(columns))
    }

    pub(super) fn of_image_files(
        path: &Path,
        images: Images,
        options: &TableOptions,
    ) -> Result<Dataset> {
        let requested = &options.columns;
        let images = images.in_colour_for(requested.len());
        let dim: usize = images.shape.iter().product();
        let all = requested.len() == dim
            && requested.iter().zip(1..).all(|(name, i)| *name == format!("p{i}"));
        if !(requested.is_empty() || all) || !options.drop.is_empty() {
            let problem =
                format!("{} holds images of {:?} = {dim} pixels", path.display(), images.shape);
            let remedy = "give images of the same shape, all pixels";
            return Err(Error::config("data.table.columns", problem, remedy));
        }
        let content = Content::Images { shape: images.shape, levels: images.levels };
        Ok(Dataset {
            source: path.to_owned(),
            labels: images.labels,
            files: images.files,
            left_out: images.left_out,
            notes: images.notes,
            dropped_rows: images.corrupt,
            options: options.clone(),
            ..Dataset::of_content(content)
        })
    }

    /// With the class of each image, by name.
    ///
    /// # Errors
    /// [`Error::Data`] if there are not as many as images, or the rows are of a table.
    pub fn with_labels(self, names: &[String]) -> Result<Dataset> {
        if self.image().is_none() || names.len() != self.rows() {
            let problem = format!("{} labels for {} images", names.len(), self.rows());
            return Err(Error::data(self.called(), problem, "give one for each image"));
        }
        Ok(Dataset { labels: Some(Labels::of_names(names)), ..self })
    }

    /// How the rows were read.
    pub(crate) fn options(&self) -> &TableOptions {
        &self.options
    }

    /// What `options` leave of the rows and columns, where they request more than was requested at
    /// reading.
    pub(crate) fn narrowed(&self, options: &TableOptions) -> Result<Dataset> {
        let (own, mut data) = (&self.options, self.clone());
        if options.columns != own.columns && !options.columns.is_empty() {
            data = data.select(&options.columns)?;
        }
        let drop: Vec<&String> = options.drop.iter().filter(|d| !own.drop.contains(d)).collect();
        if !drop.is_empty() {
            data.select(&drop)?;
            let mut names = data.names();
            names.retain(|name| !drop.contains(&name));
            data = data.select(&names)?;
        }
        if options.unique && !own.unique {
            data.drop_duplicates();
        }
        Ok(data)
    }

    /// What the data set is called in messages.
    pub(crate) fn called(&self) -> &Path {
        let memory = match &*self.content {
            Content::Table(_) => "table",
            Content::Images { .. } => "images",
            Content::Latents(_) => "latents",
        };
        if self.source.as_os_str().is_empty() { Path::new(memory) } else { &self.source }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        match &*self.content {
            Content::Table(columns) => columns.first().map_or(0, |(_, values)| values.len()),
            Content::Images { levels, .. } => levels.len() / self.dim(),
            Content::Latents(latents) => latents.points.mean.len() / self.dim(),
        }
    }

    /// The number of columns of a table, of levels of an image, or of latents.
    pub fn dim(&self) -> usize {
        match &*self.content {
            Content::Table(columns) => columns.len(),
            Content::Images { shape, .. } => shape.iter().product(),
            Content::Latents(latents) => latents.dim(),
        }
    }

    /// Channels, height and width, where rows are images or latents of images.
    pub fn image(&self) -> Option<[usize; 3]> {
        match &*self.content {
            Content::Table(_) => None,
            Content::Images { shape, .. } => Some(*shape),
            Content::Latents(latents) => Some(latents.shape),
        }
    }

    /// What the rows are latents of, where they are.
    pub fn latents_of(&self) -> Option<&LatentsOf> {
        self.own_latents().map(|latents| &latents.of)
    }

    /// Whether there are latents of the mirrored images too.
    pub fn has_mirrored(&self) -> bool {
        self.own_latents().is_some_and(|latents| latents.mirrored.is_some())
    }

    /// Whether rows are Gaussians, from which every use draws.
    pub fn is_drawn_from(&self) -> bool {
        self.own_latents().is_some_and(|latents| latents.points.std.is_some())
    }

    fn own_latents(&self) -> Option<&Latents> {
        match &*self.content {
            Content::Latents(latents) => Some(latents),
            _ => None,
        }
    }

    /// The levels of images, 0…255, image by image, channel by channel, line by line.
    pub fn levels(&self) -> Option<&[u8]> {
        match &*self.content {
            Content::Images { levels, .. } => Some(levels),
            _ => None,
        }
    }

    /// The values of column `k` of a table, from 0; none for images or where there is no such
    /// column.
    pub fn column(&self, k: usize) -> Option<&Values> {
        self.table().get(k).map(|(_, values)| values)
    }

    /// What the columns of the file are, those left out among them, where the table was read as it
    /// comes.
    pub fn schema(&self) -> Option<&Schema> {
        self.schema.as_deref()
    }

    /// The rows, from 0, that have values which no row of their schema has, and the names of the
    /// columns: none but where a table was read with [`Unseen::Impossible`](super::Unseen). These
    /// cells are missing here.
    pub fn unseen(&self) -> &BTreeMap<usize, Vec<String>> {
        &self.unseen
    }

    /// Whether a cell is missing, which no table has that was not read as it comes.
    pub fn has_holes(&self) -> bool {
        self.holes() > 0
    }

    /// The number of cells that are missing.
    pub fn holes(&self) -> usize {
        self.table().iter().map(|(_, values)| values.holes()).sum()
    }

    /// The names and kinds of the columns; those of images are `p1`, `p2`, …, of latents `z1`, ….
    pub fn columns(&self) -> Vec<Column> {
        match &*self.content {
            Content::Images { .. } => pixel_columns(self.dim()),
            Content::Latents(_) => latent_columns(self.dim()),
            Content::Table(columns) => {
                let column = |(name, values): &(String, Values)| Column {
                    name: name.clone(),
                    kind: values.kind(),
                };
                columns.iter().map(column).collect()
            }
        }
    }

    /// The names of the columns.
    pub fn names(&self) -> Vec<String> {
        self.columns().into_iter().map(|column| column.name).collect()
    }

    /// How the columns are written.
    pub(super) fn styles(&self) -> Vec<Style> {
        let known = self.schema().map(Schema::by_name).unwrap_or_default();
        let style = |(name, values): &(String, Values)| match (known.get(name.as_str()), values) {
            (Some(column), _) => column.style(values),
            (None, Values::Category(of)) => Style::Names(of.names.clone(), Named::Text),
            (None, _) => Style::Plain(values.cell_type()),
        };
        match &*self.content {
            Content::Images { .. } => vec![Style::Plain(CellType::Integer); self.dim()],
            Content::Latents(_) => vec![Style::Plain(CellType::Single); self.dim()],
            Content::Table(columns) => columns.iter().map(style).collect(),
        }
    }

    /// The columns of a table; none of images.
    pub(super) fn table(&self) -> &[(String, Values)] {
        match &*self.content {
            Content::Table(columns) => columns,
            _ => &[],
        }
    }

    /// The columns of a table, to be changed.
    pub(super) fn table_mut(&mut self) -> Option<&mut Vec<(String, Values)>> {
        match Arc::make_mut(&mut self.content) {
            Content::Table(columns) => Some(columns),
            _ => None,
        }
    }

    /// The values of row `i`, from 0, in single precision.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, i: usize) -> Vec<f32> {
        self.gather(&[i])
    }

    /// The values of `rows` in single precision, row-major `[rows, dim]`; of categories their
    /// numbers, and NaN where a cell is missing.
    ///
    /// This is where typed values are rounded; networks and scalings see no others.
    ///
    /// # Panics
    /// If a row does not exist.
    pub fn gather(&self, rows: &[usize]) -> Vec<f32> {
        let dim = self.dim();
        match &*self.content {
            Content::Images { levels, .. } => {
                let image = |&i: &usize| &levels[i * dim..(i + 1) * dim];
                rows.iter().flat_map(image).map(|&level| level.into()).collect()
            }
            Content::Latents(latents) => {
                rows.iter().flat_map(|&i| latents.row(i)).copied().collect()
            }
            Content::Table(columns) => {
                let row = |&i: &usize| columns.iter().map(move |(_, v)| v.get(i) as f32);
                rows.iter().flat_map(row).collect()
            }
        }
    }

    /// As [`Dataset::gather`], of Gaussians a draw by the rows' streams of `noise` instead of their
    /// means. With `mirror` half of the draws of latents are those of the mirrored images, where
    /// there are any.
    ///
    /// # Panics
    /// As [`Dataset::gather`], and if there are not as many streams as rows.
    pub(crate) fn draw(&self, rows: &[usize], mirror: bool, noise: &mut Noise) -> Vec<f32> {
        match self.own_latents() {
            Some(latents) => latents.draw(rows, mirror, noise),
            None => self.gather(rows),
        }
    }

    /// The standard deviations of row `i`, where rows are Gaussians.
    pub(super) fn deviations(&self, i: usize) -> &[f32] {
        let dim = self.dim();
        let std = self.own_latents().and_then(|latents| latents.points.std.as_deref());
        std.map_or(&[], |std| &std[i * dim..(i + 1) * dim])
    }

    /// The rows `rows` as what a model is conditioned on, where they are labelled.
    pub fn condition_of(&self, rows: &[usize]) -> Option<Condition> {
        self.classes_of(rows).map(|classes| Condition::classes(&classes))
    }

    /// The classes of the rows `rows`, where they are labelled.
    pub(crate) fn classes_of(&self, rows: &[usize]) -> Option<Vec<u32>> {
        let labels = self.labels.as_ref()?;
        Some(rows.iter().map(|&row| labels.of_rows[row]).collect())
    }

    /// All values in single precision, row-major `[rows, dim]`.
    pub fn values(&self) -> Vec<f32> {
        self.gather(&(0..self.rows()).collect::<Vec<_>>())
    }

    /// Whether the values are those of `other`, in single precision.
    pub(crate) fn has_values_of(&self, other: &Dataset) -> bool {
        match (self.levels(), other.levels()) {
            (Some(own), Some(others)) => own == others,
            _ => {
                let equal = |i| same_rows(&self.row(i), &other.row(i));
                self.rows() == other.rows() && (0..self.rows()).all(equal)
            }
        }
    }

    /// The columns of these names, in this order.
    ///
    /// # Errors
    /// [`Error::Config`] for a name that is not there, or for images, whose pixels belong together.
    pub fn select(&self, names: &[impl AsRef<str>]) -> Result<Dataset> {
        let column = |name: &str| {
            let found = self.table().iter().find(|(own, _)| own == name);
            found.cloned().ok_or_else(|| {
                let remedy = format!("name some of {}", self.names().join(", "));
                Error::config("data.table.columns", format!("there is no column `{name}`"), remedy)
            })
        };
        let columns = names.iter().map(|name| column(name.as_ref())).collect::<Result<_>>()?;
        let schema = self.schema.as_ref().map(|schema| Arc::new(schema.select(names)));
        Ok(Dataset { content: Arc::new(Content::Table(columns)), schema, ..self.clone() })
    }

    /// At most `n` rows, drawn at random by `seed` ([`subset`](super::subset)).
    pub fn some_rows(&self, n: usize, seed: Seed) -> Dataset {
        if n >= self.rows() {
            return self.clone();
        }
        let all: Vec<usize> = (0..self.rows()).collect();
        self.take(&super::subset(&all, n, seed))
    }

    /// The rows `rows`, in this order, with their classes.
    ///
    /// # Panics
    /// If a row does not exist.
    pub fn take(&self, rows: &[usize]) -> Dataset {
        let dim = self.dim();
        let content = match &*self.content {
            Content::Table(columns) => {
                let take = |(name, v): &(String, Values)| (name.clone(), v.take(rows));
                Content::Table(columns.iter().map(take).collect())
            }
            Content::Images { shape, levels } => {
                let image = |&i: &usize| &levels[i * dim..(i + 1) * dim];
                let levels = rows.iter().flat_map(image).copied().collect();
                Content::Images { shape: *shape, levels }
            }
            Content::Latents(latents) => Content::Latents(latents.take(rows)),
        };
        let files = self.files.is_empty().then(Vec::new);
        Dataset {
            source: self.source.clone(),
            labels: self.labels.as_ref().map(|labels| labels.take(rows)),
            files: files.unwrap_or_else(|| rows.iter().map(|&i| self.files[i].clone()).collect()),
            notes: self.notes.clone(),
            found: self.found.clone(),
            file_rows: self.file_rows.take(rows),
            options: self.options.clone(),
            schema: self.schema.clone(),
            unseen: self.unseen_of(rows),
            ..Dataset::of_content(content)
        }
    }

    /// [`Dataset::unseen`] of these rows.
    fn unseen_of(&self, rows: &[usize]) -> BTreeMap<usize, Vec<String>> {
        if self.unseen.is_empty() {
            return BTreeMap::new();
        }
        let of = |(new, old): (usize, &usize)| Some((new, self.unseen.get(old)?.clone()));
        rows.iter().enumerate().filter_map(of).collect()
    }

    /// The rows in two parts, drawn at random by `seed`, each in the order of the file: a share of
    /// `fraction` of them, and the others. Neither is empty where there are two rows or more.
    ///
    /// # Panics
    /// If `fraction` is not above 0 and below 1.
    pub fn split(&self, fraction: f64, seed: Seed) -> (Dataset, Dataset) {
        assert!(fraction > 0.0 && fraction < 1.0, "a fraction of {fraction} leaves a part empty");
        let rows = self.rows();
        let first = (fraction * rows as f64).round() as usize;
        let first = first.clamp(1.min(rows), rows.saturating_sub(1).max(1));
        let order = permutation(rows, seed.0);
        let part = |range: &[usize]| {
            let mut part = range.to_vec();
            part.sort_unstable();
            self.take(&part)
        };
        (part(&order[..first]), part(&order[first..]))
    }

    /// Writes the rows in the format of the file's extension: see [`super::write_table`]. A table
    /// with a schema is written as its file had it: categories by their names, dates and times in
    /// their format, numbers with their decimals, and nothing where a cell is missing.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written, [`Error::Config`] if its extension is unknown,
    /// or of a format that holds numbers alone and a column does not.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        self.write_to(OutputFile::create(path)?)
    }

    /// As [`Dataset::write`], to a file that is open already.
    ///
    /// # Errors
    /// As [`Dataset::write`].
    pub fn write_to(&self, out: OutputFile) -> Result<()> {
        let (names, styles) = (self.names(), self.styles());
        let cell = |row: usize, k: usize| self.cell(row, k);
        write_frame(out, &Frame { names, styles, rows: self.rows(), cell: &cell })
    }

    pub(super) fn cell(&self, row: usize, k: usize) -> super::column::Cell {
        match &*self.content {
            Content::Table(columns) => columns[k].1.cell(row),
            Content::Images { levels, .. } => {
                super::column::Cell::Integer(levels[row * self.dim() + k].into())
            }
            Content::Latents(latents) => super::column::Cell::Real(latents.row(row)[k].into()),
        }
    }

    /// Where row `i`, from 0, stands in its file.
    pub fn place(&self, i: usize) -> Place {
        Place { row: self.file_rows.number(i) + 1, file: self.files.get(i).cloned() }
    }

    /// The numbers of the rows of the file that are not in the data set, from 1, increasing.
    pub fn left_out_rows(&self) -> Vec<usize> {
        self.file_rows.skipped.iter().map(|row| row + 1).collect()
    }

    /// What the reader found in a table's file, a line each: layout and columns, and what was left
    /// out without request. Nothing for images and tables made in memory.
    pub fn found_in_words(&self) -> Vec<String> {
        self.found.in_words(&self.names())
    }

    /// Keeps the increasing `rows` of the values, classes and files alone, in place.
    pub(super) fn retain(&mut self, rows: &[usize]) {
        let dim = self.dim();
        self.unseen = self.unseen_of(rows);
        match Arc::make_mut(&mut self.content) {
            Content::Table(columns) => columns.iter_mut().for_each(|(_, v)| v.retain(rows)),
            Content::Images { levels, .. } => {
                for (to, &from) in rows.iter().enumerate() {
                    levels.copy_within(from * dim..(from + 1) * dim, to * dim);
                }
                levels.truncate(rows.len() * dim);
            }
            Content::Latents(latents) => *latents = latents.take(rows),
        }
        self.labels = self.labels.as_ref().map(|labels| labels.take(rows));
        if !self.files.is_empty() {
            self.files = rows.iter().map(|&i| std::mem::take(&mut self.files[i])).collect();
        }
    }
}

/// The columns of images with `dim` levels: `p1`, `p2`, …
pub(crate) fn pixel_columns(dim: usize) -> Vec<Column> {
    (1..=dim).map(|i| Column { name: format!("p{i}"), kind: ColumnKind::Integer }).collect()
}
