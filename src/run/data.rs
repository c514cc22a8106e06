//! From a configuration's data source to training rows.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::DataConfig;
use crate::data::{CellType, Column, ColumnKind, Scaling, ScalingOptions, Split, Table, TableOptions};
use crate::noise::{Noise, Seed};
use crate::oracle::named;
use crate::train::Rows;
use crate::{Error, Result};

/// What a run remembers of its data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataRecord {
    /// Where the rows came from.
    pub source: String,
    /// The map between raw and network units, column by column.
    pub scaling: Scaling,
    /// Channels, height and width, where rows are images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<[usize; 3]>,
    /// Rows in training, validation and test parts.
    pub rows: [usize; 3],
    /// The seed that dealt them.
    pub split_seed: u64,
    /// Rows left out for missing cells, and as duplicates.
    pub dropped: [usize; 2],
    /// The table's fingerprint.
    pub fingerprint: String,
}

impl DataRecord {
    /// The columns' names.
    pub fn names(&self) -> Vec<&str> {
        self.scaling.columns.iter().map(|c| c.column.name.as_str()).collect()
    }

    /// How samples are written: as the columns were.
    pub fn cell_types(&self) -> Vec<CellType> {
        self.scaling
            .columns
            .iter()
            .map(|c| match (c.column.kind, &c.grid) {
                (ColumnKind::Integer, Some(_)) => CellType::Integer,
                _ => CellType::Single,
            })
            .collect()
    }

    /// Reads another table with this run's columns.
    pub fn read_table(&self, path: &std::path::Path, options: &TableOptions) -> Result<Table> {
        let columns = self.names().into_iter().map(String::from).collect();
        let options = TableOptions { columns, drop: Vec::new(), unique: false, ..options.clone() };
        let table = Table::read(path, &options)?;
        if table.image != self.image {
            let shape = |image: Option<[usize; 3]>| match image {
                Some([channels, height, width]) => format!("images of {channels} × {height} × {width}"),
                None => "a table".to_string(),
            };
            let problem = format!("holds {}, the run is of {}", shape(table.image), shape(self.image));
            return Err(Error::data(path, problem, "give data of the same kind and shape"));
        }
        Ok(table)
    }
}

/// A data source read, dealt and scaled.
pub struct Prepared {
    /// All rows, raw.
    pub table: Table,
    /// Validation rows from a file of their own.
    pub validation: Option<Table>,
    /// Which rows are for what.
    pub split: Split,
    /// What the run remembers.
    pub record: DataRecord,
}

impl Prepared {
    /// Reads `config`'s source and fits the scaling on its training rows.
    pub fn read(config: &DataConfig, seed: u64) -> Result<Prepared> {
        let table = match config.source.strip_prefix("mixture:") {
            Some(name) => mixture_table(name, config.mixture_rows, Seed(seed))?,
            None if config.source.is_empty() => {
                return Err(Error::config(
                    "--data",
                    "no data were given",
                    "give a table, images, or mixture:NAME",
                ));
            }
            None => Table::read(&config.source, &config.table)?,
        };
        if table.image.is_none() {
            table.check_columns(&config.scaling.dequantize)?;
        } else if config.scaling != ScalingOptions::default() {
            let problem = "the data are images, whose levels are dequantised and brought to [−1, 1]";
            return Err(Error::config("data.scaling", problem, "leave out --dequantize and --marginals"));
        }
        let split = Split::new(table.rows(), config.split, seed)?;
        if split.train.len() < 2 {
            let problem = format!("{} training rows", split.train.len());
            return Err(Error::config("data.split", problem, "give more rows or a larger training share"));
        }
        let scaling = match table.image {
            Some(_) => Scaling::pixels(&table.columns),
            None => Scaling::fit(&table, &split.train, &config.scaling)?,
        };
        let names: Vec<String> = table.names().into_iter().map(String::from).collect();
        let read = |path| {
            Table::read(path, &TableOptions { columns: names, drop: Vec::new(), ..config.table.clone() })
        };
        let validation = config.validation.as_ref().map(read).transpose()?;
        let held_out = validation.as_ref().map_or(split.validation.len(), Table::rows);
        let record = DataRecord {
            source: config.source.clone(),
            scaling,
            image: table.image,
            rows: [split.train.len(), held_out, split.test.len()],
            split_seed: seed,
            dropped: [table.dropped_rows, table.dropped_duplicates],
            fingerprint: table.fingerprint(),
        };
        Ok(Prepared { table, validation, split, record })
    }

    /// The rows to train on.
    pub fn training(&self) -> TableRows<'_> {
        TableRows { table: &self.table, rows: &self.split.train, scaling: &self.record.scaling }
    }

    /// Validation rows in the network's units, at most `limit`, `[n, d]`.
    pub fn validation_rows(&self, limit: usize, seed: Seed) -> Tensor {
        match &self.validation {
            Some(table) => {
                let rows: Vec<usize> = (0..table.rows().min(limit)).collect();
                scaled_rows(table, &rows, &self.record.scaling, seed).0
            }
            None => {
                let rows = &self.split.validation[..self.split.validation.len().min(limit)];
                scaled_rows(&self.table, rows, &self.record.scaling, seed).0
            }
        }
        .to_kind(Kind::Float)
    }

    /// The first `limit` training rows in the network's units.
    pub fn training_rows(&self, limit: usize, seed: Seed) -> Tensor {
        let rows = &self.split.train[..self.split.train.len().min(limit)];
        scaled_rows(&self.table, rows, &self.record.scaling, seed).0
    }
}

/// Rows of a table in the network's units `[n, d]` (f64) and `ln |d scaled/d raw|` per row. Dequantisation draws from
/// stream `i` of `seed` for the `i`-th of `rows`.
pub fn scaled_rows(table: &Table, rows: &[usize], scaling: &Scaling, seed: Seed) -> (Tensor, Vec<f64>) {
    let raw = raw_rows(table, rows.iter().copied());
    let uniform = uniforms(scaling, &mut Noise::new(seed, 0..rows.len() as u64));
    let (mut scaled, mut log_jacobian) = (Vec::new(), Vec::new());
    scaling.forward_f64(&raw, uniform, &mut scaled, &mut log_jacobian);
    (Tensor::from_slice(&scaled).view([rows.len() as i64, scaling.dim() as i64]), log_jacobian)
}

/// As [`scaled_rows`] at the centres of the bins of dequantised columns, `[n, d]`: what a decoder of levels scores.
pub fn level_rows(table: &Table, rows: &[usize], scaling: &Scaling) -> Tensor {
    let raw = raw_rows(table, rows.iter().copied());
    let (mut scaled, mut log_jacobian) = (Vec::new(), Vec::new());
    scaling.forward_f64(&raw, || 0.5, &mut scaled, &mut log_jacobian);
    Tensor::from_slice(&scaled).view([rows.len() as i64, scaling.dim() as i64])
}

fn raw_rows(table: &Table, rows: impl Iterator<Item = usize>) -> Vec<f32> {
    rows.flat_map(|r| table.row(r)).copied().collect()
}

/// The uniforms that dequantisation asks for, row by row, one per dequantised column.
fn uniforms(scaling: &Scaling, noise: &mut Noise) -> impl FnMut() -> f32 + use<> {
    let per_row = scaling.columns.iter().filter(|c| c.grid.is_some()).count();
    let mut drawn = noise.uniform(per_row).into_iter();
    move || drawn.next().expect("one for each dequantised cell") as f32
}

/// Training rows of a table: kept raw, dequantised and scaled batch by batch, so that a table needs no second copy.
pub struct TableRows<'a> {
    table: &'a Table,
    rows: &'a [usize],
    scaling: &'a Scaling,
}

impl Rows for TableRows<'_> {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn gather(&self, rows: &[usize], noise: &mut Noise) -> Tensor {
        let raw = raw_rows(self.table, rows.iter().map(|&r| self.rows[r]));
        let mut scaled = Vec::with_capacity(raw.len());
        self.scaling.forward(&raw, uniforms(self.scaling, noise), &mut scaled);
        Tensor::from_slice(&scaled).view([rows.len() as i64, self.scaling.dim() as i64])
    }
}

fn mixture_table(name: &str, rows: usize, seed: Seed) -> Result<Table> {
    let samples =
        named::sample(name, rows, seed.derive("mixture"))?.to_kind(Kind::Float).to_device(Device::Cpu);
    let columns =
        (1..=samples.size()[1]).map(|i| Column { name: format!("x{i}"), kind: ColumnKind::Float }).collect();
    Table::new(columns, Vec::try_from(samples.view(-1)).expect("f32 on the CPU"))
}
