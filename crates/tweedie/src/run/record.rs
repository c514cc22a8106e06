//! What a run remembers of its data, and other tables read alike.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Features;
use crate::data::{
    CellType, ColumnKind, Dataset, LatentsOf, MarginalChoice, Purpose, Scaling, Schema,
    TableOptions,
};
use crate::model::NetworkConfig;
use crate::{Error, Result};

/// What a run remembers of its data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataRecord {
    /// Where the rows came from.
    pub source: String,
    /// The map between raw and network units, column by column.
    pub scaling: Scaling,
    /// What the columns of a table are that is read as it comes: the scaling is of its numbers.
    #[serde(default, rename = "columns", skip_serializing_if = "Option::is_none")]
    pub schema: Option<Schema>,
    /// Columns that are given: the model is one of the others given these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub context: Vec<String>,
    /// How the maps were chosen, column by column, where that was left to
    /// [`Marginals::Auto`](crate::data::Marginals::Auto).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marginals: Vec<MarginalChoice>,
    /// Channels, height and width, where rows are images, or latents of images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<[usize; 3]>,
    /// What rows are latents of, where they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latents: Option<LatentsOf>,
    /// The classes that the model is conditioned on; none: it is not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// Rows in training, validation and test parts.
    pub rows: [usize; 3],
    /// The seed that split them.
    pub split_seed: u64,
    /// Rows left out for missing cells, and as duplicates.
    pub dropped: [usize; 2],
    /// The table's fingerprint.
    pub fingerprint: String,
    /// What a reader of any figure of the run has to know of its data, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
}

impl DataRecord {
    /// The columns' names.
    pub fn names(&self) -> Vec<String> {
        match &self.schema {
            Some(schema) => schema.kept().map(|column| column.name.clone()).collect(),
            None => self.scaling.names(),
        }
    }

    /// What a model sees of the rows of a table that is read as it comes.
    pub fn features(&self) -> Option<Features> {
        let schema = self.schema.as_ref()?;
        Some(Features::of(schema, &self.scaling).given(&self.context))
    }

    /// Channels, height and width, where rows are images of levels 0…255: their likelihoods are
    /// probabilities of levels, in bits per dimension.
    pub fn levels(&self) -> Option<[usize; 3]> {
        self.image.filter(|_| self.latents.is_none())
    }

    /// What rows are, in words.
    pub(super) fn in_words(&self) -> String {
        in_words(self.image, self.latents.as_ref())
    }

    /// What of a record from a file cannot be.
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        if self.scaling.dim() == 0 {
            return Err("has no columns".into());
        }
        let unknown =
            |name: &&String| self.schema.as_ref().is_none_or(|s| s.column(name).is_none());
        if let Some(name) = self.context.iter().find(unknown) {
            return Err(format!("is given `{name}`, which is no column of it"));
        }
        if let Some(features) = self.features() {
            let numbers = features.layout().numbers.len().max(1);
            return match self.image.is_none() && numbers == self.scaling.dim() {
                true => Ok(()),
                false => Err(format!("has {numbers} numbers, and maps of {}", self.scaling.dim())),
            };
        }
        let Some(shape) = self.image else {
            return match self.latents {
                Some(_) => Err("is of latents without a shape".into()),
                None => Ok(()),
            };
        };
        let pixels = shape.iter().try_fold(1usize, |pixels, &n| pixels.checked_mul(n));
        if pixels != Some(self.scaling.dim()) {
            let columns = self.scaling.dim();
            return Err(format!("has {}, and {columns} columns", self.in_words()));
        }
        if self.latents.is_some() || matches!(self.scaling, Scaling::Latents(_)) {
            let latents = matches!(self.scaling, Scaling::Latents(_)) && self.latents.is_some();
            let wrong = "is of latents, and does not say of which or how they are scaled";
            return if latents { Ok(()) } else { Err(wrong.into()) };
        }
        match self.scaling.level_columns().len() == self.scaling.dim() {
            true => Ok(()),
            false => Err("is of images, some of whose pixels have no levels".into()),
        }
    }

    /// How samples are written: as the columns were.
    pub fn cell_types(&self) -> Vec<CellType> {
        let columns = match &self.scaling {
            Scaling::Columns(columns) => columns,
            Scaling::Pixels(pixels) => return vec![CellType::Integer; *pixels],
            Scaling::Latents(latents) => return vec![CellType::Single; *latents],
        };
        let types = columns.iter().map(|c| match (c.column.kind, &c.grid) {
            (ColumnKind::Integer, Some(_)) => CellType::Integer,
            _ => CellType::Single,
        });
        types.collect()
    }

    /// Refuses images of another shape than the network's; the error is what was found.
    pub(super) fn check_network(&self, network: &NetworkConfig) -> std::result::Result<(), String> {
        let (Some(shape), Some(own)) = (self.image, network.image()) else { return Ok(()) };
        match own == shape {
            true => Ok(()),
            false => {
                let (image, own) = (self.in_words(), in_words(Some(own), self.latents.as_ref()));
                Err(format!("has {image}, the network is of {own}"))
            }
        }
    }

    /// Reads another table with this run's columns, to judge or score it: of what holds images for
    /// training and for testing those for testing. [`TableOptions::purpose`] is
    /// [`Purpose::Scoring`] where the caller can say how the table is read.
    pub fn read_table(&self, path: &Path, options: &TableOptions) -> Result<Dataset> {
        let purpose = match options.purpose {
            Purpose::Scoring => Purpose::Scoring,
            _ => Purpose::Test,
        };
        self.read_table_for(purpose, path, options)
    }

    /// As [`DataRecord::read_table`], for any purpose.
    pub fn read_table_for(
        &self,
        purpose: Purpose,
        path: &Path,
        options: &TableOptions,
    ) -> Result<Dataset> {
        if let Some(schema) = &self.schema {
            let options = TableOptions { unique: false, purpose, ..options.clone() };
            return Dataset::read_with_schema(path, schema, &options);
        }
        let options = TableOptions { unique: false, purpose, ..options.of_columns(&self.names()) };
        self.conform(Dataset::read_with(path, &options)?)
    }

    /// `data` with this run's columns alone, in their order, and its numbers of classes.
    ///
    /// # Errors
    /// [`Error::Data`] if rows are of another kind or shape, or have values that no row of the run
    /// has; [`Error::Config`] if a column is missing.
    pub fn conform(&self, data: Dataset) -> Result<Dataset> {
        if let Some((&row, names)) = data.unseen().first_key_value() {
            let problem = format!(
                "{}: the value of `{}` is none that is known",
                data.place(row),
                names.join("`, `")
            );
            let remedy = "leave the row out, or score it alone: it has probability 0";
            return Err(Error::data(data.called(), problem, remedy));
        }
        self.conform_to_score(data)
    }

    /// As [`DataRecord::conform`], of rows that may have values which no row of the run has.
    ///
    /// # Errors
    /// As [`DataRecord::conform`] of the others.
    pub(crate) fn conform_to_score(&self, mut data: Dataset) -> Result<Dataset> {
        if let Some(schema) = &self.schema {
            return match data.schema() == Some(schema) {
                true => Ok(data),
                false => {
                    let problem = "was not read by the schema of the run";
                    let remedy = "read it with Density::read";
                    Err(Error::data(data.called(), problem, remedy))
                }
            };
        }
        let problem = match (data.latents_of(), &self.latents) {
            (found, own) if data.image() != self.image || found.is_some() != own.is_some() => {
                let (found, own) = (in_words(data.image(), found), self.in_words());
                Some(format!("holds {found}, the run is of {own}"))
            }
            (Some(found), Some(own)) if found.digest != own.digest => Some(format!(
                "holds latents of the autoencoder {} ({}), the run is of those of {} ({})",
                found.vae, found.digest, own.vae, own.digest
            )),
            _ => None,
        };
        if let Some(problem) = problem {
            let remedy = "give data of the same kind and shape";
            return Err(Error::data(data.called(), problem, remedy));
        }
        if self.image.is_none() && data.names() != self.names() {
            data = data.select(&self.names())?;
        }
        into_classes(&mut data, &self.classes)?;
        Ok(data)
    }

    /// The number of the class called `name`, or that is its number.
    pub fn class(&self, name: &str) -> Result<u32> {
        if self.classes.is_empty() {
            let problem = format!("{name}: the run is not conditioned on classes");
            return Err(Error::config("sample.class", problem, "leave it out"));
        }
        let named = self.classes.iter().position(|class| class == name);
        let number = || name.parse().ok().filter(|&number: &usize| number < self.classes.len());
        named.or_else(number).map(|class| class as u32).ok_or_else(|| {
            let remedy = format!("give one of {}, or its number from 0", self.classes.join(", "));
            Error::config("sample.class", format!("{name:?} is no class of this run"), remedy)
        })
    }
}

/// What rows are: images or latents of this shape, or those of a table.
pub(super) fn in_words(image: Option<[usize; 3]>, latents: Option<&LatentsOf>) -> String {
    let what = if latents.is_some() { "latents" } else { "images" };
    match image {
        Some([channels, height, width]) => format!("{what} of {channels} × {height} × {width}"),
        None => "a table".into(),
    }
}

/// Brings the labels of `table` to the numbers of `classes`; where there are none, labels say
/// nothing.
pub(super) fn into_classes(table: &mut Dataset, classes: &[String]) -> Result<()> {
    table.labels = match (classes, table.labels.take()) {
        ([], _) => None,
        (_, None) => {
            let problem = "has no labels, which the run's model is conditioned on";
            return Err(Error::data(table.called(), problem, "give images with their classes"));
        }
        (_, Some(labels)) => Some(labels.among(classes).map_err(|unknown| {
            let problem =
                format!("holds the class {unknown:?}, the run has {}", classes.join(", "));
            Error::data(table.called(), problem, "give images of the run's classes")
        })?),
    };
    Ok(())
}
