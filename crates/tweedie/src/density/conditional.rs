//! What a density says of cells given the others of their row: draws, and what they come to.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Density, EvaluateOptions, SampleOptions, Samples, TestRows};
use crate::choice::choices;
use crate::data::{
    Categories, ColumnSchema, Dataset, Kind, Missing, Purpose, TableOptions, Values,
};
use crate::metric::forecast::{Forecast, quantile};
use crate::noise::{Noise, Seed};
use crate::sample::{Clipped, MOST_ROWS};
use crate::watch::{Silent, Watch};
use crate::{Error, Result};

/// The column that says which of several draws a row is.
const DRAW: &str = "draw";
/// Draws that a summary is made of by default.
const SUMMARY_DRAWS: usize = 50;
/// Draws that are in memory at a time, where they are summarised.
const AT_ONCE: usize = 1 << 18;

choices! {
    /// What stands in a cell that was missing.
    pub enum Fill = Draw {
        /// A draw from its distribution given the other cells of the row
        Draw = "draw",
        /// The mean of draws, in as many decimals as the column has; of categories the most
        /// frequent
        Mean = "mean",
        /// The median of draws; of categories the most frequent
        Median = "median",
    }
}

/// How missing cells are filled.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FillOptions {
    /// What stands in the cells.
    pub fill: Fill,
    /// Draws of each row: by default 1, or 50 where they are summarised. With more than one of
    /// [`Fill::Draw`] every row comes so often, its draws one after the other, numbered from 1 in
    /// a column `draw`.
    pub draws: Option<usize>,
    /// The probability of an interval beside each mean or median: columns `NAME_low` and
    /// `NAME_high` of numbers and dates, with the central quantiles of the draws where a cell was
    /// missing.
    pub interval: Option<f64>,
}

impl FillOptions {
    /// Refuses what no cell can be filled by.
    ///
    /// # Errors
    /// [`Error::Config`] with the option's path.
    pub fn check(&self) -> Result<()> {
        let draws = self.draws();
        Error::check_count("fill.draws", draws, MOST_ROWS)?;
        if self.fill != Fill::Draw && draws < 2 {
            let problem = format!("{draws}, of which there is no {}", self.fill);
            return Err(Error::config("fill.draws", problem, "give at least 2"));
        }
        match self.interval {
            Some(share) if !(share > 0.0 && share < 1.0) => {
                let remedy = "give a probability between 0 and 1, such as 0.9";
                Err(Error::config("fill.interval", format!("{share} is none"), remedy))
            }
            Some(_) if self.fill == Fill::Draw => {
                let problem = "an interval is beside a mean or a median";
                Err(Error::config("fill.interval", problem, "give fill.fill = median with it"))
            }
            _ => Ok(()),
        }
    }

    fn draws(&self) -> usize {
        self.draws.unwrap_or(if self.fill == Fill::Draw { 1 } else { SUMMARY_DRAWS })
    }
}

/// Each of the rows `m` times, one after the other.
fn repeated(rows: &[usize], m: usize) -> Vec<usize> {
    rows.iter().flat_map(|&row| std::iter::repeat_n(row, m)).collect()
}

impl Density {
    /// Rows of which cells are given, from a table that has some of the run's columns: the others
    /// are missing, for [`Density::fill`].
    ///
    /// # Errors
    /// [`Error::Config`] if the density is of numbers alone; [`Error::Data`] if the table has none
    /// of the columns, or a cell that its column cannot have.
    pub fn given_file(&self, path: impl AsRef<Path>) -> Result<Dataset> {
        self.mixed_schema()?;
        let own = self.run.config.data.table.clone();
        let options = TableOptions { partial: true, missing: Missing::Model, ..own };
        self.run.data.read_table_for(Purpose::Scoring, path.as_ref(), &options)
    }

    /// The rows of `data` with what is missing filled in, given what is there.
    ///
    /// # Errors
    /// [`Error::Config`] if the density is of numbers alone; [`Error::Data`] if a column to be
    /// written has a name that the table has; as [`Density::sample`].
    pub fn fill(
        &self,
        data: &Dataset,
        fill: &FillOptions,
        sampling: &SampleOptions,
    ) -> Result<Dataset> {
        let samples = self.fill_with(data, fill, sampling, &mut Silent)?;
        Ok(samples.table.expect("a table of samples"))
    }

    /// As [`Density::fill`], with progress and remarks.
    ///
    /// # Errors
    /// As [`Density::fill`], and [`Error::Interrupted`].
    pub fn fill_with(
        &self,
        data: &Dataset,
        fill: &FillOptions,
        sampling: &SampleOptions,
        watch: &mut dyn Watch,
    ) -> Result<Samples> {
        fill.check()?;
        let m = fill.draws();
        if fill.fill != Fill::Draw {
            return self.summarised(data, fill, sampling, watch);
        }
        Error::check_count("fill.draws", data.rows().saturating_mul(m), MOST_ROWS)?;
        if m == 1 {
            return self.sample_given(data, sampling, watch);
        }
        let rows: Vec<usize> = (0..data.rows()).collect();
        let samples = self.sample_given(&data.take(&repeated(&rows, m)), sampling, watch)?;
        let numbers = rows.iter().flat_map(|_| 1..=m as i64).collect();
        let table = samples.table.expect("a table of samples").numbered(DRAW, numbers)?;
        Ok(self.table_of_samples(table, samples.clipped))
    }

    /// `n` samples to show beside `rows`: of a model of columns given others these are of the rows,
    /// taken in turn.
    ///
    /// # Errors
    /// As [`Density::sample_with`].
    pub fn sample_beside(
        &self,
        rows: &TestRows,
        n: usize,
        options: &SampleOptions,
        watch: &mut dyn Watch,
    ) -> Result<Samples> {
        let context = &self.run.data.context;
        if context.is_empty() {
            return self.sample_with(n, options, watch);
        }
        Error::check_count("sample.n", n, MOST_ROWS)?;
        let known = rows.table.without_cells(|name| !context.iter().any(|given| given == name));
        let known = known.without_unknown_differences();
        let taken: Vec<usize> = rows.rows.iter().copied().cycle().take(n).collect();
        self.sample_given(&known.take(&taken), options, watch)
    }

    /// The rows with means or medians of draws, and intervals beside them.
    fn summarised(
        &self,
        data: &Dataset,
        fill: &FillOptions,
        sampling: &SampleOptions,
        watch: &mut dyn Watch,
    ) -> Result<Samples> {
        let m = fill.draws();
        let data = self.run.data.conform(data.clone())?;
        let columns: Vec<&Values> = (0..data.dim()).filter_map(|k| data.column(k)).collect();
        let is_open = |row: &usize| columns.iter().any(|values| values.get(*row).is_nan());
        let open: Vec<usize> = (0..data.rows()).filter(is_open).collect();
        let mut summaries: Vec<Summary> = columns.iter().map(|_| Summary::default()).collect();
        self.each_part((&data, &open, m), sampling, watch, |rows, drawn| {
            for (k, (summary, own)) in summaries.iter_mut().zip(&columns).enumerate() {
                let draws = drawn.column(k).expect("the table's columns");
                summary.add(own, rows, (draws, m), fill);
            }
        })?;
        let filled = summaries.iter().zip(&columns).map(|(summary, own)| summary.filled(own));
        let filled = data.with_values(filled.collect());
        let filled = match self.features() {
            Some(features) => features.layout().in_order(&data, filled),
            None => filled,
        };
        let schema = data.schema().expect("a table with a schema");
        let mut beside: Vec<(ColumnSchema, Values)> = Vec::new();
        for (name, summary) in data.names().iter().zip(summaries) {
            let column = schema.column(name).expect("a column of the schema");
            let is_number = matches!(column.kind, Kind::Number { .. } | Kind::Time { .. });
            if fill.interval.is_some() && is_number && !summary.centres.is_empty() {
                for (end, which) in summary.ends.into_iter().zip(["low", "high"]) {
                    let name = format!("{name}_{which}");
                    let mut values = vec![f64::NAN; data.rows()];
                    summary.rows.iter().zip(end).for_each(|(&row, value)| values[row] = value);
                    beside.push((ColumnSchema { name, ..column.clone() }, Values::Double(values)));
                }
            }
        }
        let table = if beside.is_empty() { filled } else { filled.with_columns(beside)? };
        Ok(self.table_of_samples(table, Clipped::default()))
    }

    /// Calls `f` with some of `rows` of `data` and `m` draws of each, one after the other, until
    /// all are done: no more draws are in memory than are needed.
    fn each_part(
        &self,
        (data, rows, m): (&Dataset, &[usize], usize),
        sampling: &SampleOptions,
        watch: &mut dyn Watch,
        mut f: impl FnMut(&[usize], &Dataset),
    ) -> Result<()> {
        for (part, rows) in rows.chunks((AT_ONCE / m).max(1)).enumerate() {
            let seed = Seed(sampling.seed).derive(&format!("part {part}")).0;
            let sampling = SampleOptions { seed, ..sampling.clone() };
            let drawn = self.sample_given(&data.take(&repeated(rows, m)), &sampling, watch)?;
            f(rows, &drawn.table.expect("a table of samples"));
        }
        Ok(())
    }

    /// How right draws of each number are, given the columns of `options`.
    pub(super) fn forecasts(
        &self,
        (judged, rows): (&TestRows, &[usize]),
        options: &EvaluateOptions,
        watch: &mut dyn Watch,
    ) -> Result<Vec<Forecast>> {
        let truth = judged.table.take(rows);
        let given = self.given_columns(&options.given);
        let known = truth.without_cells(|name| !given.contains(&name.to_owned()));
        let known = known.without_unknown_differences();
        let (n, m) = (rows.len(), options.draws);
        let usual = options.sampling(options.covariances.first().copied());
        let steps = options.steps.iter().copied().max().unwrap_or(usual.steps);
        let sampling = SampleOptions { steps, ..usual };
        let names = truth.names();
        let mut draws = vec![Vec::new(); names.len()];
        let all: Vec<usize> = (0..n).collect();
        self.each_part((&known, &all, m), &sampling, watch, |_, drawn| {
            for (k, draws) in draws.iter_mut().enumerate() {
                let values = drawn.column(k).expect("the table's columns");
                draws.extend((0..values.len()).map(|row| values.get(row)));
            }
        })?;
        let ties = Noise::new(Seed(options.seed).derive("ties"), 0..n as u64).uniform(1);
        let schema = truth.schema().expect("a table with a schema");
        let judged = names.iter().zip(&draws).enumerate().filter_map(|(k, (name, draws))| {
            let is_number = schema.column(name).is_some_and(|column| {
                matches!(column.kind, Kind::Number { .. } | Kind::Time { .. })
            });
            let values = truth.column(k).filter(|_| is_number && !given.contains(name))?;
            let truth: Vec<f64> = (0..n).map(|row| values.get(row)).collect();
            Forecast::of(name, draws, &truth, &ties)
        });
        Ok(judged.collect())
    }
}

/// What the missing cells of a column come to.
#[derive(Default)]
struct Summary {
    /// The rows of missing cells as far as they were added, their means, medians or codes, and the
    /// ends of their intervals.
    rows: Vec<usize>,
    centres: Vec<f64>,
    ends: [Vec<f64>; 2],
}

impl Summary {
    /// Adds `m` draws for each of these rows of a column with its `own` cells.
    fn add(
        &mut self,
        own: &Values,
        rows: &[usize],
        (draws, m): (&Values, usize),
        options: &FillOptions,
    ) {
        let of_categories = own.categories().is_some();
        for (i, &row) in rows.iter().enumerate() {
            if !own.get(row).is_nan() {
                continue;
            }
            let mut sorted: Vec<f64> = (i * m..(i + 1) * m).map(|draw| draws.get(draw)).collect();
            sorted.sort_unstable_by(f64::total_cmp);
            let centre = match (of_categories, options.fill) {
                (true, _) => most_frequent(&sorted),
                (false, Fill::Mean) => sorted.iter().sum::<f64>() / m as f64,
                (false, Fill::Median | Fill::Draw) => quantile(&sorted, 0.5),
            };
            self.rows.push(row);
            self.centres.push(centre);
            if let Some(share) = options.interval {
                self.ends[0].push(quantile(&sorted, 0.5 - share / 2.0));
                self.ends[1].push(quantile(&sorted, 0.5 + share / 2.0));
            }
        }
    }

    fn filled(&self, own: &Values) -> Values {
        let cells = || self.rows.iter().copied().zip(&self.centres);
        match own {
            _ if self.rows.is_empty() => own.clone(),
            Values::Category(of) => {
                let mut codes = of.codes.clone();
                cells().for_each(|(row, &code)| codes[row] = code as u32);
                Values::Category(Categories { names: of.names.clone(), codes })
            }
            own => {
                let mut values: Vec<f64> = (0..own.len()).map(|row| own.get(row)).collect();
                cells().for_each(|(row, &value)| values[row] = value);
                Values::Double(values)
            }
        }
    }
}

/// The value that most of `sorted` are, the first of several.
fn most_frequent(sorted: &[f64]) -> f64 {
    let runs = sorted.chunk_by(|a, b| a == b);
    // the last of equals is taken, hence from the end
    runs.rev().max_by_key(|run| run.len()).map_or(f64::NAN, |run| run[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_value_is_found() {
        assert_eq!(most_frequent(&[0.0, 1.0, 1.0, 2.0]), 1.0);
        assert_eq!(most_frequent(&[0.0, 0.0, 1.0, 1.0]), 0.0);
    }

    #[test]
    fn options_that_fit_nothing_are_refused() {
        let of = |options: FillOptions| options.check().map_err(|e| e.to_string());
        let median = FillOptions { fill: Fill::Median, ..FillOptions::default() };
        assert!(of(FillOptions { interval: Some(0.9), ..median.clone() }).is_ok());
        for (options, says) in [
            (FillOptions { interval: Some(0.9), ..FillOptions::default() }, "beside a mean"),
            (FillOptions { interval: Some(1.0), ..median.clone() }, "between 0 and 1"),
            (FillOptions { draws: Some(1), ..median }, "no median"),
            (FillOptions { draws: Some(0), ..FillOptions::default() }, "fill.draws"),
        ] {
            assert!(of(options).unwrap_err().contains(says), "{says}");
        }
    }
}
