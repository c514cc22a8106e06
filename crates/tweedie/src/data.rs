//! Tables in and out: read, check, split, scale, write.
//!
//! A model is trained on a [`Table`]: `rows × dim` single-precision numbers and the names and kinds
//! of the columns. Everything that happens between a file and a network is here, in the order in
//! which it happens:
//!
//! 1. [`Table::read`] reads CSV, TSV, whitespace-separated text, Parquet or NPY. Nothing is
//!    dropped, filled or guessed silently: a text column, a missing cell or a ragged row is an
//!    error that names the line and the remedy. Images are tables of pixel levels, one row each,
//!    with their classes where the files tell of any ([`Labels`]).
//! 2. [`Table::check_columns`] refuses columns under which a density does not exist: constant,
//!    repeated or collinear ones, and those that single precision cannot resolve.
//!    [`Table::remarks`] says which columns have repeated values and so, without dequantisation, no
//!    density either. [`Table::read_to_train`] says everything that is wrong with a table at once.
//! 3. [`Split::new`] deals the rows into training, validation and test parts, the same on every
//!    platform.
//! 4. [`Scaling::fit`] finds, on the training rows, one monotone map per column from raw to network
//!    units, with its log-derivative: a log-density in network units plus [`Scaling::log_jacobian`]
//!    is a log-density in the data's own units. Integer columns can be dequantised by uniform noise
//!    that the caller injects.
//! 5. [`write_table`] and [`append_columns`] write samples and scores through an [`OutputFile`],
//!    which is opened before the work starts and replaces the old file only when it is complete.
//!
//! [`read_weights`] reads the weights of networks that others trained.
//!
//! ```
//! use tweedie::data::{Dequantize, Scaling, ScalingOptions, Split, Table, TableOptions};
//! # fn main() -> tweedie::Result<()> {
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path().join("heights.csv");
//! # let rows: String = (0..100).map(|i| format!("{},{}\n", 150 + i % 50, 40.0 + 0.7 * (i * i % 83) as f64)).collect();
//! # std::fs::write(&path, format!("height,weight\n{rows}")).unwrap();
//! let table = Table::read(&path, &TableOptions::default())?;
//! table.check_columns(&Dequantize::None)?;
//! let split = Split::new(table.rows(), [0.8, 0.1, 0.1], 0)?;
//! let scaling = Scaling::fit(&table, &split.train, &ScalingOptions::default())?;
//!
//! let mut batch = Vec::new();
//! scaling.forward(table.row(split.test[0]), || 0.5, &mut batch);
//! let back = scaling.inverse(&batch);
//! assert!((back[0] - f64::from(table.row(split.test[0])[0])).abs() < 1e-3);
//! # Ok(())
//! # }
//! ```

mod append;
mod builder;
mod check;
mod delimited;
mod foreign;
mod images;
mod labels;
mod npy;
mod npz;
mod output;
mod parquet;
mod place;
mod precision;
mod refusals;
mod remarks;
mod scaling;
mod spline;
mod split;
mod table;
mod weights;
mod write;

pub use append::{ImageScores, append_columns};
pub(crate) use images::pixel_columns;
pub use labels::Labels;
pub(crate) use npz::{NpzReader, NpzWriter};
pub use output::{Abandoned, OutputFile, abandon_outputs};
pub use place::Place;
pub use scaling::{
    ColumnScaling, Dequantize, Grid, LEAST_GAIN, MarginalChoice, Marginals, ScaledColumn, Scaling,
    ScalingOptions,
};
pub use spline::Spline;
pub use split::{Split, subset};
pub use table::{
    CellType, Column, ColumnKind, Found, LeftOut, Missing, Purpose, Reader, Table, TableOptions,
    read_numbers,
};
pub(crate) use weights::read_safetensors;
pub use weights::read_weights;
pub use write::{TableFormat, write_table};
