//! What a row's log-likelihood is made of: its categories and its numbers, and each column given
//! the others.

use std::ops::Range;

use tch::{Device, Kind, Tensor};

use super::mixed::Asked;
use super::score::{Part, score};
use super::{Density, ScoreOptions};
use crate::choice::choices;
use crate::data::{AddedColumn, Dataset, Scaling};
use crate::dequantize::{Dequantization, Dequantizer, Uniform};
use crate::gaussian::LN_2PI;
use crate::likelihood::Estimation;
use crate::mixture::MixedMixture;
use crate::model::Base;
use crate::noise::{Noise, Seed};
use crate::query::Cells;
use crate::run::{FeatureRows, Features, mixture};
use crate::tensor::to_vec;
use crate::watch::{Remark, Watch, check_stop};
use crate::{Error, Result};

choices! {
    /// Whose distribution the density of a column given the others is taken from.
    pub enum PartsOf = Base {
        /// The base: exact, at no network evaluation
        Base = "base",
        /// The model, of tables with categories, dates or missing cells: the row's score less that
        /// of the row without the column, as many scores as there are columns
        Model = "model",
    }
}

/// What the log-likelihoods of rows are made of, nats in the data's own units. A value that there
/// is not, as of a missing cell, is NaN.
#[derive(Clone, Debug, PartialEq)]
pub struct Parts {
    /// `ln p(c)` of each row's categories, given what is given, and `ln p(x|c)` of its numbers:
    /// their sum is the row's score. `None` of tables without categories.
    pub categories_and_numbers: Option<[Vec<f64>; 2]>,
    /// The columns that are not given.
    pub columns: Vec<ColumnPart>,
}

/// A column's part in the log-likelihoods of rows.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnPart {
    /// The column's name.
    pub name: String,
    /// `ln p(x_j|x_{−j})` of each row: the density of its cell given its other cells.
    pub given_rest: Vec<f64>,
    /// How far that is from what is usual, the mean over rows that are drawn from the base, nats:
    /// the less, the less likely the cell. It depends on no unit, so that columns compare.
    pub from_usual: Vec<f64>,
}

impl Parts {
    /// The columns of a row from the least likely on, each with what it is from usual; those
    /// without a value are left out.
    pub fn least_likely(&self, row: usize) -> Vec<(&ColumnPart, f64)> {
        let of_row = self.columns.iter().map(|column| (column, column.from_usual[row]));
        let mut all: Vec<(&ColumnPart, f64)> =
            of_row.filter(|(_, from_usual)| !from_usual.is_nan()).collect();
        all.sort_by(|a, b| a.1.total_cmp(&b.1));
        all
    }

    /// Sets the parts of a row whose values of these columns no row of the model's has: the
    /// categories have probability 0, and nothing has a density given them.
    fn set_unseen(&mut self, row: usize, names: &[String]) {
        if let Some([categories, numbers]) = &mut self.categories_and_numbers {
            (categories[row], numbers[row]) = (f64::NEG_INFINITY, f64::NAN);
        }
        for column in &mut self.columns {
            let value = if names.contains(&column.name) { f64::NEG_INFINITY } else { f64::NAN };
            (column.given_rest[row], column.from_usual[row]) = (value, value);
        }
    }

    /// As columns of a table: `log_likelihood_categories` and `log_likelihood_numbers`, and
    /// `NAME_given_rest` of every column.
    pub(super) fn added(&self) -> Vec<AddedColumn> {
        let names = ["log_likelihood_categories", "log_likelihood_numbers"];
        let both = self.categories_and_numbers.iter().flat_map(|both| names.iter().zip(both));
        let both = both.map(|(&name, values)| AddedColumn::numbers(name, values.clone()));
        let of_column = |column: &ColumnPart| {
            let name = format!("{}_given_rest", column.name);
            AddedColumn::numbers(name, column.given_rest.clone())
        };
        both.chain(self.columns.iter().map(of_column)).collect()
    }
}

/// Rows drawn from the base, by which it is found what is usual.
const USUAL_ROWS: usize = 1000;

/// Values of rows, column by column.
type Columns = Vec<Vec<f64>>;

/// The mean of each column over the rows that have a value.
fn means(columns: &Columns) -> Vec<f64> {
    let mean = |values: &Vec<f64>| {
        let own: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
        own.iter().sum::<f64>() / own.len() as f64
    };
    columns.iter().map(mean).collect()
}

/// Shares of columns: in the model's units, and `ln |d scaled/d raw|` of their numbers.
#[derive(Default)]
struct Shares {
    scaled: Columns,
    log_slopes: Columns,
}

impl Shares {
    /// Of `columns` columns and `rows` rows, all 0.
    fn zeros(columns: usize, rows: usize) -> Shares {
        let zeros = vec![vec![0.0; rows]; columns];
        Shares { scaled: zeros.clone(), log_slopes: zeros }
    }

    /// Adds a part of those of the rows from `start` on.
    fn add(&mut self, start: usize, other: Shares, part: f64) {
        let pairs = [(&mut self.scaled, other.scaled), (&mut self.log_slopes, other.log_slopes)];
        for (all, other) in pairs.into_iter().flat_map(|(all, other)| all.iter_mut().zip(other)) {
            all[start..].iter_mut().zip(other).for_each(|(all, other)| *all += part * other);
        }
    }

    /// The parts, `usual` being what columns have in the model's units.
    fn parts(self, names: Vec<String>, usual: &[f64]) -> Vec<ColumnPart> {
        let columns = self.scaled.into_iter().zip(self.log_slopes).zip(usual);
        let of = |(name, ((scaled, slopes), usual)): (String, ((Vec<f64>, Vec<f64>), &f64))| {
            let given_rest = scaled.iter().zip(slopes).map(|(share, slope)| share + slope);
            ColumnPart {
                name,
                given_rest: given_rest.collect(),
                from_usual: scaled.iter().map(|share| share - usual).collect(),
            }
        };
        names.into_iter().zip(columns).map(of).collect()
    }
}

/// The features of a column.
struct FeatureColumn {
    name: String,
    number: Option<usize>,
    category: Option<usize>,
}

/// The features of the columns that are not given, in the order of the columns, but for those to
/// which others are differences: without such a column the others are unknown too.
fn by_column(features: &Features, given: &[String]) -> Vec<FeatureColumn> {
    let layout = features.layout();
    let number = |place: usize| layout.numbers.iter().position(|own| own.column == place);
    let category = |place: usize| layout.categories.iter().position(|own| own.column == place);
    let of = |(place, name): (usize, String)| {
        let (number, category) = (number(place), category(place));
        let has_features = number.is_some() || category.is_some();
        has_features.then_some(FeatureColumn { name, number, category })
    };
    let all = layout.schema().columns.iter().map(|column| column.name.clone()).enumerate();
    let is_lower =
        |name: &String| layout.schema().differences().any(|(_, difference)| difference.to == *name);
    let own = |column: &FeatureColumn| !given.contains(&column.name) && !is_lower(&column.name);
    all.filter_map(of).filter(own).collect()
}

/// What `mixture` says of the columns of rows, in the model's units.
fn shares(
    mixture: &MixedMixture,
    features: &Features,
    columns: &[FeatureColumn],
    rows: &FeatureRows,
) -> Shares {
    let (d, c) = (features.cells().numbers, features.cells().categories.len());
    let log_density = |rows: &FeatureRows| to_vec(&mixture.log_density(&features.observed(rows)));
    let all = log_density(rows);
    let mut shares = Shares::default();
    for column in columns {
        let (mut others, mut slopes) = (rows.clone(), vec![0.0; all.len()]);
        let mut known = vec![false; all.len()];
        if let Some(k) = column.number {
            for row in 0..all.len() {
                known[row] |= !rows.numbers[row * d + k].is_nan();
                slopes[row] = rows.log_slopes[row * d + k];
                others.numbers[row * d + k] = f64::NAN;
            }
        }
        if let Some(k) = column.category {
            for row in 0..all.len() {
                known[row] |= rows.codes[row * c + k] != Cells::MISSING;
                others.codes[row * c + k] = Cells::MISSING;
            }
        }
        let share = |((all, others), known): ((&f64, f64), &bool)| match known {
            true => all - others,
            false => f64::NAN,
        };
        shares.scaled.push(all.iter().zip(log_density(&others)).zip(&known).map(share).collect());
        shares.log_slopes.push(slopes);
    }
    shares
}

/// Rows that are drawn from `mixture`, with the numbers that their categories leave.
fn drawn(mixture: &MixedMixture, features: &Features, seed: Seed) -> FeatureRows {
    let (d, c) = (features.cells().numbers, features.cells().categories.len());
    let nothing = Cells::nothing(features.cells().clone(), USUAL_ROWS);
    let noise = &mut Noise::new(seed, 0..USUAL_ROWS as u64);
    let (mut numbers, codes) = mixture.complete(&nothing, noise);
    for (i, number) in numbers.iter_mut().enumerate() {
        let feature = features.layout().numbers.get(i % d);
        if !feature.is_some_and(|own| features.is_present(own, &codes[i / d * c..][..c])) {
            *number = f64::NAN;
        }
    }
    let log_slopes = vec![0.0; numbers.len()];
    FeatureRows { numbers, log_slopes, codes }
}

/// What the base says of the numbers of rows `x` `[n, d]` in the model's units, column by column.
fn shares_of_numbers(base: &Base, x: &Tensor) -> Columns {
    let conditionals = base.log_conditionals(x);
    (0..base.dim()).map(|k| to_vec(&conditionals.select(1, k))).collect()
}

/// `ln |d scaled/d raw|` of rows `x` `[n, d]` in the model's units, column by column.
fn log_slopes(scaling: &Scaling, x: &Tensor) -> Columns {
    let raw = scaling.inverse_unrounded(&to_vec(x));
    let slope = |k: usize| move |raw: &f64| scaling.map(k).forward(*raw).1.ln();
    let d = scaling.dim();
    (0..d).map(|k| raw.iter().skip(k).step_by(d).map(slope(k)).collect()).collect()
}

impl Density {
    /// What the `scores` of the rows of `data`, a value for each by [`Density::log_prob`] with
    /// these `options`, are made of. By default columns given the others are those of the model
    /// where its network knows missing cells, else those of the base.
    ///
    /// # Errors
    /// [`Error::Config`] of images, and where a network that knows no missing cells is asked; as
    /// [`Density::log_prob`].
    pub fn parts(
        &self,
        data: &Dataset,
        scores: &[f64],
        of: Option<PartsOf>,
        options: &ScoreOptions,
        watch: &mut dyn Watch,
    ) -> Result<Parts> {
        options.check()?;
        if self.is_large() {
            let problem = "the rows of this run are images or latents, which have no columns";
            return Err(Error::config("score.parts", problem, "leave it out: it is for tables"));
        }
        let data = &self.run.data.conform_to_score(data.clone())?;
        assert_eq!(scores.len(), data.rows(), "scores of the rows");
        let Some(asked) = self.asked("score.given", &options.given, options.dequantization)? else {
            return self.parts_of_numbers(data, of, options, watch);
        };
        let features = self.features().expect("of what is asked");
        let given = self.given_columns(&options.given);
        let columns = by_column(&features, &given);
        let lower = features.layout().schema().differences().map(|(_, own)| own.to.as_str());
        let mut lower: Vec<&str> = lower.filter(|to| !given.iter().any(|own| own == to)).collect();
        lower.sort_unstable();
        lower.dedup();
        if !lower.is_empty() {
            watch.say(Remark::Note(format!(
                "no density given the others of {}, to which others are modelled by their \
                 differences",
                lower.join(", ")
            )));
        }
        let categories_and_numbers = match features.cells().categories.is_empty() {
            true => None,
            false => {
                let categories = self.of_categories(data, &asked, options, watch)?;
                let rest = scores.iter().zip(&categories).map(|(all, own)| all - own);
                let numbers = rest.collect();
                Some([categories, numbers])
            }
        };
        let mixture = mixture(&self.run.model);
        let seed = Seed(options.seed).derive("usual rows");
        let usual = shares(mixture, &features, &columns, &drawn(mixture, &features, seed));
        let part = 1.0 / self.repeats(options) as f64;
        let mut all = Shares::zeros(columns.len(), data.rows());
        self.each_draw(data.rows(), options, watch, |rows, noise| {
            let chosen: Vec<usize> = rows.clone().collect();
            let scaled = features.scaled(data, &chosen, noise);
            all.add(rows.start, shares(mixture, &features, &columns, &scaled), part);
        })?;
        if of.unwrap_or(PartsOf::Model) == PartsOf::Model {
            let times = columns.len();
            watch.say(Remark::Progress(format!(
                "parts: every row is scored {times} more times, without a column each; \
                 score.parts_of = base takes no time"
            )));
            for (k, column) in columns.iter().enumerate() {
                let without = asked.without(column.number, column.category);
                let others = self.scores_of(data, &without, options, watch)?;
                for (row, share) in all.scaled[k].iter_mut().enumerate() {
                    // a missing cell has none
                    if !share.is_nan() {
                        let own = scores[row] - others[row];
                        *share = own - all.log_slopes[k][row];
                    }
                }
            }
        }
        let names = columns.into_iter().map(|column| column.name).collect();
        let columns = all.parts(names, &means(&usual.scaled));
        let mut parts = Parts { categories_and_numbers, columns };
        data.unseen().iter().for_each(|(&row, names)| parts.set_unseen(row, names));
        Ok(parts)
    }

    /// [`Density::parts`] of a table of numbers alone.
    fn parts_of_numbers(
        &self,
        data: &Dataset,
        of: Option<PartsOf>,
        options: &ScoreOptions,
        watch: &mut dyn Watch,
    ) -> Result<Parts> {
        if of == Some(PartsOf::Model) {
            let problem = format!(
                "model: the network of {} is of numbers alone, and knows no missing cells",
                self.name()
            );
            let remedy = "give base, or train with data.types = mixed";
            return Err(Error::config("score.parts_of", problem, remedy));
        }
        if options.dequantization != Dequantization::Uniform {
            let problem = format!("{}, of the parts of a score", options.dequantization);
            return Err(Error::config("score.dequantization", problem, "leave it out"));
        }
        let note = "columns given the others are those of the base: a network of numbers alone \
                    knows no missing cells";
        watch.say(Remark::Note(note.into()));
        let (scaling, base) =
            (&self.run.data.scaling, self.run.model.base().to(Device::Cpu, Kind::Double));
        let usual = match &base {
            Base::Isotropic { variance, .. } => {
                vec![-0.5 * (LN_2PI + variance.ln() + 1.0); scaling.dim()]
            }
            Base::Mixture(mixture) => {
                let seed = Seed(options.seed).derive("usual rows");
                means(&shares_of_numbers(&base, &mixture.sample(USUAL_ROWS, seed)))
            }
            Base::Mixed(_) => panic!("a base of numbers alone"),
        };
        let part = 1.0 / self.repeats(options) as f64;
        let mut all = Shares::zeros(scaling.dim(), data.rows());
        self.each_draw(data.rows(), options, watch, |rows, noise| {
            let chosen: Vec<usize> = rows.clone().collect();
            let x = Uniform::new(scaling).dequantize(&data.gather(&chosen), noise).rows;
            let scaled = shares_of_numbers(&base, &x);
            let log_slopes = log_slopes(scaling, &x);
            all.add(rows.start, Shares { scaled, log_slopes }, part);
        })?;
        let names = self.run.data.names();
        Ok(Parts { categories_and_numbers: None, columns: all.parts(names, &usual) })
    }

    /// `ln p` of the categories of each row given what is given: the mean over the draws of its
    /// score.
    fn of_categories(
        &self,
        data: &Dataset,
        asked: &Asked,
        options: &ScoreOptions,
        watch: &mut dyn Watch,
    ) -> Result<Vec<f64>> {
        let part = 1.0 / self.repeats(options) as f64;
        let mut all = vec![0.0; data.rows()];
        self.each_draw(data.rows(), options, watch, |rows, noise| {
            let chosen: Vec<usize> = rows.clone().collect();
            let own = asked.question(&self.run, data, &chosen, noise).of_categories;
            all[rows].iter_mut().zip(own).for_each(|(all, own)| *all += part * own);
        })?;
        Ok(all)
    }

    /// Scores of rows about which this is asked.
    fn scores_of(
        &self,
        data: &Dataset,
        asked: &Asked,
        options: &ScoreOptions,
        watch: &mut dyn Watch,
    ) -> Result<Vec<f64>> {
        let rows: Vec<usize> = (0..data.rows()).collect();
        let (batch, covariance) = self.ready_to_score(options, watch)?;
        let settings = self.estimation(options, covariance, batch, watch)?;
        let dequantizer = &Uniform::new(&self.run.data.scaling);
        let part = Part { table: data, rows: &rows, dequantizer, asked: Some(asked) };
        Ok(score(self, part, &settings, Seed(options.seed), batch, watch)?.values)
    }

    /// Draws of the noise within bins that scores with these options take.
    fn repeats(&self, options: &ScoreOptions) -> usize {
        let method = options.estimator.method();
        let draws = options.draws.max(method.least_draws());
        method.repeats(&Estimation { draws, ..Estimation::stepless(options.estimator) })
    }

    /// Calls `f` for each draw and each batch of `rows` rows, with the streams that the noise
    /// within bins comes from in their scores.
    fn each_draw(
        &self,
        rows: usize,
        options: &ScoreOptions,
        watch: &mut dyn Watch,
        mut f: impl FnMut(Range<usize>, &mut Noise),
    ) -> Result<()> {
        let batch = self.batch("score.batch_size", options.batch_size, ScoreOptions::BATCH)?;
        for start in (0..rows).step_by(batch) {
            for draw in 0..self.repeats(options) {
                check_stop(watch)?;
                let part = start..rows.min(start + batch);
                let seed = Seed(options.seed).derive(&format!("draw {draw}")).derive("dequantise");
                f(part.clone(), &mut Noise::new(seed, part.start as u64..part.end as u64));
            }
        }
        Ok(())
    }
}
