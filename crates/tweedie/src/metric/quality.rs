//! Quality and privacy of synthetic tables: how like the real rows they are, what can be learned
//! from them, and whether they repeat the rows that they were learned from.
//!
//! Tables are numbers, categories and holes ([`Table`]). Every score is that of a published
//! protocol, which its documentation names: [`shape()`] and [`trend()`] of SDMetrics, the
//! classifier two-sample test [`c2st()`], [`alpha_precision()`], the [`utility()`] for a
//! prediction, and distances to the [`closest_record()`]. [`quality()`] computes them all.
//!
//! ```
//! use tweedie::metric::quality::{Column, QualityOptions, Table, Values, quality};
//! use tweedie::noise::{Noise, Seed};
//!
//! # fn main() -> tweedie::Result<()> {
//! // `y` is `x` and a little noise
//! let table = |seed: u64, noise: f64| {
//!     let draws = Noise::new(Seed(seed), 0..200).uniform(2);
//!     let x: Vec<f64> = draws.iter().step_by(2).copied().collect();
//!     let y = draws.chunks(2).map(|pair| pair[0] + noise * pair[1]).collect();
//!     Table::new(vec![
//!         Column { name: "x".into(), values: Values::Numbers(x) },
//!         Column { name: "y".into(), values: Values::Numbers(y) },
//!     ])
//! };
//! let (train, holdout) = (table(1, 0.1)?, table(2, 0.1)?);
//! let options = QualityOptions { target: Some("y".into()), ..QualityOptions::default() };
//! let good = quality(&train, &holdout, &table(3, 0.1)?, &options)?;
//! let bad = quality(&train, &holdout, &table(3, 2.0)?, &options)?;
//! println!("{}", good.lines().join("\n"));
//! assert!(good.trees.score.value > 0.7 && bad.trees.score.value < 0.5);
//! // rows of training copied
//! let copied = quality(&train, &holdout, &train, &options)?;
//! assert_eq!(copied.closest_record.share.value, 1.0);
//! # Ok(())
//! # }
//! ```

mod alpha_precision;
mod c2st;
mod closest_record;
mod logistic;
mod ranking;
mod rows;
mod shape;
mod table;
#[cfg(test)]
mod tests;
mod trees;
mod trend;
mod utility;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use alpha_precision::{AlphaPrecision, alpha_precision};
pub use c2st::{C2st, Detector, c2st};
pub use closest_record::{ClosestRecord, closest_record};
pub use ranking::{Auroc, auroc, average_precision};
pub use shape::{ColumnShape, Shape, shape};
pub use table::{Column, HOLE, Table, Values};
pub use trend::{PairTrend, Trend, trend};
pub use utility::{Performance, Utility, utility};

use crate::noise::{Noise, Seed};
use crate::{Error, Result};

/// The lowest scores that are printed.
const LOWEST: usize = 3;

/// A value and, where it is known, its standard error.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The value.
    pub value: f64,
    /// Its standard error; `None` where none is known.
    pub std_error: Option<f64>,
}

impl Estimate {
    /// With its standard error, which is none where it is not finite.
    fn new(value: f64, std_error: f64) -> Estimate {
        Estimate { value, std_error: Some(std_error).filter(|error| error.is_finite()) }
    }

    /// Without a standard error.
    fn known(value: f64) -> Estimate {
        Estimate { value, std_error: None }
    }
}

/// The value to three decimals, with its standard error to as many.
impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:.3}", self.value)?;
        self.std_error.map_or(Ok(()), |error| write!(f, " ± {error:.3}"))
    }
}

/// How [`quality()`] compares.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QualityOptions {
    /// The column whose prediction is learned from synthetic rows; without one [`Quality::utility`]
    /// is left out.
    pub target: Option<String>,
    /// Which rows are in which fold, and which are left out where one side has more.
    pub seed: u64,
}

/// All scores of a synthetic table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Single columns.
    pub shape: Shape,
    /// Pairs of columns.
    pub trend: Trend,
    /// The classifier two-sample test by logistic regression.
    pub logistic: C2st,
    /// The classifier two-sample test by boosted trees.
    pub trees: C2st,
    /// Fidelity and diversity.
    pub alpha_precision: AlphaPrecision,
    /// What predictions can be learned, where a target was named.
    pub utility: Option<Utility>,
    /// Privacy.
    pub closest_record: ClosestRecord,
    /// Rows of the table of training.
    pub train_rows: usize,
    /// Rows of the table held out.
    pub holdout_rows: usize,
    /// Rows of the synthetic table.
    pub synthetic_rows: usize,
}

/// All scores of a table that was sampled from a model of `real_train`. Rows of `real_holdout` were
/// not shown to the model; predictions are judged on them, and distances to the closest record
/// compared with those to them. All other scores compare with `real_train`, as is usual.
///
/// Costs `O(n²)` times the columns for distances, and some `O(n log n)` for the rest.
///
/// # Errors
/// If the tables have not the same columns, `real_train` or `synthetic` fewer than 6 rows, or there
/// is no such target as the options name, or none that can be predicted.
pub fn quality(
    real_train: &Table,
    real_holdout: &Table,
    synthetic: &Table,
    options: &QualityOptions,
) -> Result<Quality> {
    // what can be refused at once, before the work
    table::aligned([("train", real_train), ("holdout", real_holdout), ("synthetic", synthetic)])?;
    for (called, table) in [("train", real_train), ("synthetic", synthetic)] {
        at_least(called, table, c2st::LEAST_ROWS)?;
    }
    let (seed, target) = (Seed(options.seed), options.target.as_deref());
    let predicted = target.map(|target| utility(real_train, real_holdout, synthetic, target));
    let detected =
        |detector| c2st(real_train, synthetic, detector, seed.derive("classifier two-sample test"));
    Ok(Quality {
        utility: predicted.transpose()?,
        logistic: detected(Detector::Logistic)?,
        trees: detected(Detector::Trees)?,
        shape: shape(real_train, synthetic)?,
        trend: trend(real_train, synthetic)?,
        alpha_precision: alpha_precision(real_train, synthetic, seed.derive("alpha-precision"))?,
        closest_record: closest_record(
            real_train,
            real_holdout,
            synthetic,
            seed.derive("closest record"),
        )?,
        train_rows: real_train.rows(),
        holdout_rows: real_holdout.rows(),
        synthetic_rows: synthetic.rows(),
    })
}

impl Quality {
    /// The scores for people, a line each, what is best in brackets.
    pub fn lines(&self) -> Vec<String> {
        let score = |score: Option<f64>| score.map_or("none".into(), |s| format!("{s:.3}"));
        let Quality { shape, trend, alpha_precision: support, closest_record: closest, .. } = self;
        let of_columns = shape.columns.iter().map(|c| (c.score, format!("`{}`", c.column)));
        let of_pairs =
            trend.pairs.iter().map(|p| (p.score, format!("`{}` and `{}`", p.first, p.second)));
        let mut lines = vec![
            format!(
                "{} synthetic rows; {} rows of training, {} held out",
                self.synthetic_rows, self.train_rows, self.holdout_rows
            ),
            format!("shape             {}{} [1]", score(shape.mean), lowest(of_columns)),
            format!("trend             {}{} [1]", score(trend.mean), lowest(of_pairs)),
            format!("C2ST, logistic    {}, AUROC {} [1]", self.logistic.score, self.logistic.auroc),
            format!("C2ST, trees       {}, AUROC {} [1]", self.trees.score, self.trees.auroc),
            format!("α-precision       {:.3} [1]", support.precision),
            format!("β-recall          {:.3} [0.5 for exact samples]", support.recall),
        ];
        if let Some(Utility { target, synthetic, real, .. }) = &self.utility {
            lines.push(format!("`{target}`, trained on synthetic rows: {synthetic}"));
            lines.push(format!("`{target}`, trained on real rows:      {real}"));
        }
        lines.push(format!(
            "nearer to training {}, {} ties, {} copies [0.5]",
            closest.share, closest.ties, closest.copies
        ));
        lines
    }
}

/// The lowest scores with what they are of, in words that follow a mean.
fn lowest(scores: impl Iterator<Item = (Option<f64>, String)>) -> String {
    let mut known: Vec<(f64, String)> = scores.filter_map(|(s, name)| Some((s?, name))).collect();
    if known.len() < 2 {
        return String::new();
    }
    known.sort_by(|a, b| a.0.total_cmp(&b.0));
    let words: Vec<String> =
        known.iter().take(LOWEST).map(|(score, name)| format!("{name} {score:.3}")).collect();
    format!(", least: {}", words.join(", "))
}

/// Refuses a table of fewer rows than `least`.
fn at_least(called: &str, table: &Table, least: usize) -> Result<()> {
    if table.rows() >= least {
        return Ok(());
    }
    let problem = format!("{} rows", table.rows());
    Err(Error::config(format!("quality.{called}"), problem, format!("give at least {least}")))
}

/// The places of `n` rows in a random order.
fn shuffled(n: usize, seed: Seed) -> Vec<usize> {
    let keys = Noise::new(seed, 0..n as u64).uniform(1);
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| keys[i].total_cmp(&keys[j]));
    order
}
