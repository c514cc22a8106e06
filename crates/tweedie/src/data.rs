//! Tables and images in and out: read, check, split, scale, write.
//!
//! A model is trained on a [`Dataset`]: rows with the names and types of their columns, or images
//! as bytes. Everything that happens between a file and a network is here, in the order in which
//! it happens:
//!
//! 1. [`Dataset::read`] reads every format in one list: text, Parquet, NumPy's arrays, images.
//!    Nothing is dropped, filled or guessed silently: a text column, a missing cell or a ragged row
//!    is an error that names the line and the remedy. Images are rows of pixel levels, with their
//!    classes where the files have any ([`Labels`]).
//! 2. [`Dataset::check_columns`] refuses columns under which a density does not exist: constant,
//!    repeated or collinear ones, and those that single precision cannot resolve.
//!    [`Dataset::remarks`] says which columns have repeated values and so, without dequantisation,
//!    no density either. [`Dataset::read_numbers_to_train`] says everything that is wrong with a
//!    table at once.
//! 3. [`Split::new`] splits the rows into training, validation and test parts, the same on every
//!    platform.
//! 4. [`Scaling::fit`] finds, on the training rows, one monotone map per column from raw to network
//!    units, with its log-derivative: a log-density in network units plus [`Scaling::log_jacobian`]
//!    is a log-density in the data's own units. Integer columns can be dequantised by uniform noise
//!    that the caller injects.
//! 5. [`Dataset::write`], [`write_table`] and [`append_columns`] write samples and scores through
//!    an [`OutputFile`], which is opened before the work starts and replaces the old file only when
//!    it is complete.
//!
//! Tables as they come, with categories, dates and missing cells, are read by
//! [`Dataset::read_as_it_comes`]: a [`Schema`] says what each column is, and [`MixedLayout`] which
//! numbers and categories a model sees. [`Dataset::read_to_train`] takes each table for what it is.
//!
//! [`read_weights`] reads the weights of networks that others trained.
//!
//! ```
//! use tweedie::data::{Dataset, Dequantize, Scaling, ScalingOptions};
//! use tweedie::noise::Seed;
//! # fn main() -> tweedie::Result<()> {
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path().join("heights.csv");
//! # let row = |i: i32| format!("{},{}\n", 150 + i % 50, 40.0 + 0.7 * f64::from(i * i % 83));
//! # let rows: String = (0..100).map(row).collect();
//! # std::fs::write(&path, format!("height,weight\n{rows}")).unwrap();
//! let data = Dataset::read(&path)?;
//! data.check_columns(&Dequantize::None)?;
//! let (train, test) = data.split(0.9, Seed(0));
//! assert_eq!((train.rows(), test.rows()), (90, 10));
//! assert_eq!(data.names(), ["height", "weight"]);
//! let all: Vec<usize> = (0..train.rows()).collect();
//! let scaling = Scaling::fit(&train, &all, &ScalingOptions::default())?;
//!
//! let mut batch = Vec::new();
//! scaling.forward(&test.gather(&[0, 1]), || 0.5, &mut batch);
//! let back = scaling.inverse(&batch);
//! assert!((back[0] - f64::from(test.row(0)[0])).abs() < 1e-3);
//! test.select(&["weight"])?.write(dir.path().join("weights.parquet"))?;
//! # Ok(())
//! # }
//! ```
//!
//! ```
//! use tweedie::data::{Dataset, MixedLayout, TableOptions, TypeOptions};
//! # fn main() -> tweedie::Result<()> {
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path().join("people.csv");
//! # let work = ["Private", "?", "State"];
//! # let row = |i: usize| format!("{},{}\n", work[i % 3], 17 + i * i % 60);
//! # let rows: String = (0..90).map(row).collect();
//! # std::fs::write(&path, format!("work,age\n{rows}")).unwrap();
//! let types: TypeOptions = "age=number".parse()?;
//! let data = Dataset::read_as_it_comes(&path, &types, &TableOptions::default())?;
//! let schema = data.schema().expect("it was read as it comes");
//! assert_eq!(
//!     schema.lines(),
//!     [
//!         "work  category  2 values: Private, State, 33 % missing",
//!         "age   number    whole numbers 17…66"
//!     ]
//! );
//! let layout = MixedLayout::new(schema);
//! assert_eq!(layout.sizes(), (1, 1));
//! let rows = layout.encode(&data, &[0, 1]);
//! assert_eq!(rows.numbers, [17.0, 18.0]);
//! # Ok(())
//! # }
//! ```

mod append;
mod bounds;
mod check;
mod collect;
mod column;
mod dataset;
mod digest;
mod filled;
mod formats;
mod images;
mod labelled;
mod labels;
mod latents;
mod mixed;
mod options;
mod order;
mod output;
mod place;
mod precision;
mod raw;
mod read;
mod refusals;
mod remarks;
mod scaling;
mod schema;
mod source;
mod split;
mod survey;
mod times;
mod types;
mod weights;
mod write;

pub use append::{AddedColumn, ImageScores, append_columns};
pub use bounds::{Bound, Bounds};
pub use column::{Categories, CellType, Column, ColumnKind, Values};
pub use dataset::Dataset;
pub(crate) use digest::hash_words;
pub(crate) use formats::{NpzReader, NpzWriter, write_images};
pub use formats::{TableFormat, image_formats, table_endings, table_formats};
pub use labelled::LabelledRows;
pub use labels::Labels;
pub use latents::LatentsOf;
pub(crate) use latents::{LatentsWriter, read_latents, write_latents};
pub use mixed::{CategoryFeature, MixedLayout, MixedRows, NumberFeature};
pub use options::{Crop, Found, LeftOut, Missing, Purpose, TableOptions, Unseen};
pub use order::{Difference, Order};
pub use output::{Abandoned, OutputFile, abandon_outputs};
pub use place::Place;
pub use raw::{RawColumn, RawTable};
pub use read::read_numbers;
pub(crate) use scaling::fit_values;
pub use scaling::{
    ColumnScaling, Dequantize, Grid, Interval, LEAST_GAIN, MarginalChoice, Marginals, ScaledColumn,
    Scaling, ScalingOptions, Spline,
};
pub use schema::{CategoryOf, ColumnSchema, Kind, Schema};
pub use source::{ImagePart, ImageSource};
pub use split::{Split, subset};
pub use types::{ColumnType, TypeOptions, Types};
pub(crate) use weights::read_safetensors;
pub use weights::read_weights;
pub use write::{record_batch, write_table};
