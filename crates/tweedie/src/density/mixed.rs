//! Densities of tables that are read as they come: with categories, dates and missing cells.
//!
//! A row's categories come first, then its numbers given them: `p(c) p(x | c)`, with respect to
//! counting measure on categories and Lebesgue measure on numbers. The base, a mixture, has both
//! distributions; a network corrects each. What is missing or given has its role in both.

use crate::data::{Dataset, RawColumn, RawTable, Schema};
use crate::dequantize::Dequantization;
use crate::model::Denoiser;
use crate::noise::{Noise, Seed};
use crate::query::{Batch, Cells, Columns, Condition, Role};
use crate::run::{FeatureRows, Features, Run, mixture};
use crate::sample::Clipped;
use crate::tensor::to_vec;
use crate::watch::{Silent, Watch};
use crate::{Error, Result};

use super::sample::Ready;
use super::{Density, SampleOptions, Samples};

/// What is asked about rows: everything that is there, given some columns.
pub(super) struct Asked {
    features: Features,
    /// The numbers and categories that are given.
    given: Columns,
    /// The number and the category of a column that is taken for missing.
    absent: [Option<usize>; 2],
}

/// Rows as a model is asked about them.
pub(super) struct Question {
    /// The targets among the numbers, and the cells.
    pub(super) batch: Batch,
    /// `ln |d scaled/d raw|`, summed over the targets of each row.
    pub(super) log_jacobian: Vec<f64>,
    /// `ln p` of the categories that are targets given the rest that is given, of each row.
    pub(super) of_categories: Vec<f64>,
}

impl Asked {
    /// The same about rows without the column that has this number and this category.
    pub(super) fn without(&self, number: Option<usize>, category: Option<usize>) -> Asked {
        let (features, given) = (self.features.clone(), self.given.clone());
        Asked { features, given, absent: [number, category] }
    }

    /// The question about rows of `table`, whose noise within bins comes from `noise`.
    pub(super) fn question(
        &self,
        run: &Run,
        table: &Dataset,
        rows: &[usize],
        noise: &mut Noise,
    ) -> Question {
        let (features, given) = (&self.features, &self.given);
        let FeatureRows { mut numbers, log_slopes, mut codes } =
            features.scaled(table, rows, noise);
        let (layout, d) = (features.cells(), features.cells().numbers);
        let [number, category] = self.absent;
        if let Some(k) = number {
            numbers.iter_mut().skip(k).step_by(d).for_each(|number| *number = f64::NAN);
        }
        if let Some(k) = category {
            let all = codes.iter_mut().skip(k).step_by(layout.categories.len());
            all.for_each(|code| *code = Cells::MISSING);
        }
        let role = |(i, x): (usize, &f64)| match (x.is_nan(), given.numbers[i % d]) {
            (true, _) => Role::Absent,
            (_, true) => Role::Given,
            (_, false) => Role::Target,
        };
        let roles: Vec<Role> = numbers.iter().enumerate().map(role).collect();
        let known: Vec<f64> = numbers
            .iter()
            .zip(&roles)
            .map(|(&x, &role)| if role == Role::Given { x } else { f64::NAN })
            .collect();
        let c = layout.categories.len();
        let before: Vec<u32> = (codes.iter().enumerate())
            .map(|(i, &code)| if given.categories[i % c] { code } else { Cells::MISSING })
            .collect();
        let given = Cells::observed(layout.clone(), known, before);
        let of_categories = run.categorical().log_density(&given, &codes);
        let cells = Cells::new(layout.clone(), numbers.clone(), roles, codes.clone());
        let log_jacobian = log_slopes.chunks_exact(d).zip(cells.roles().chunks_exact(d));
        let log_jacobian = log_jacobian
            .map(|(slopes, roles)| {
                let targets = slopes.iter().zip(roles).filter(|(_, role)| **role == Role::Target);
                targets.map(|(slope, _)| slope).sum()
            })
            .collect();
        let x = features.of_targets(&numbers, &cells);
        let batch = Batch::of(&run.model.space().place(&x)).given(Some(Condition::cells(cells)));
        Question { batch, log_jacobian, of_categories }
    }
}

impl Density {
    /// What the model sees of the rows of a table that is read as it comes.
    pub(super) fn features(&self) -> Option<Features> {
        self.run.data.features()
    }

    /// Refuses a density of a table that was read as it comes, for what is of numbers alone.
    pub(super) fn check_numbers_alone(&self, field: &str, remedy: &str) -> Result<()> {
        match self.run.data.schema {
            None => Ok(()),
            Some(_) => {
                let problem = format!("{} is a run of a mixed table", self.name());
                Err(Error::config(field, problem, remedy))
            }
        }
    }

    /// The schema of a mixed table, which sampling given cells is of.
    pub(super) fn mixed_schema(&self) -> Result<&Schema> {
        self.run.data.schema.as_ref().ok_or_else(|| {
            let problem = format!("{} is a run of numbers alone", self.name());
            Error::config("sample.given", problem, "train with data.types = mixed")
        })
    }

    /// Refuses a column that the run does not have.
    fn check_column(&self, field: &str, column: &String) -> Result<()> {
        let names = self.run.data.names();
        if names.contains(column) {
            return Ok(());
        }
        let remedy = format!("name some of {}", names.join(", "));
        Err(Error::config(field, format!("the run has no column `{column}`"), remedy))
    }

    /// The exact log-likelihoods of rows of such a table under the base given these columns and the
    /// context, nats per row in the data's units.
    pub(super) fn of_mixture(
        &self,
        table: &Dataset,
        rows: &[usize],
        given: &[String],
        seed: Seed,
    ) -> Option<Vec<f64>> {
        let features = self.features()?;
        let noise = &mut Noise::new(seed, 0..rows.len() as u64);
        let scaled = features.scaled(table, rows, noise);
        let (cells, d) = (features.observed(&scaled), features.cells().numbers);
        let given = features.columns(&self.given_columns(given));
        let log_density = |cells: &Cells| to_vec(&mixture(&self.run.model).log_density(cells));
        let mut values = log_density(&cells);
        if !given.is_empty() {
            let known = log_density(&cells.only(&given));
            values.iter_mut().zip(known).for_each(|(value, known)| *value -= known);
        }
        let of_row = |slopes: &[f64]| -> f64 {
            let targets = slopes.iter().zip(&given.numbers).filter(|(_, given)| !**given);
            targets.map(|(slope, _)| slope).sum()
        };
        let log_jacobian = scaled.log_slopes.chunks_exact(d).map(of_row);
        Some(values.iter().zip(log_jacobian).map(|(value, jacobian)| value + jacobian).collect())
    }

    /// These columns and those of the context.
    pub(super) fn given_columns(&self, columns: &[String]) -> Vec<String> {
        let context = self.run.data.context.iter().filter(|name| !columns.contains(name));
        columns.iter().chain(context).cloned().collect()
    }

    /// What is asked about rows of such a table, given these columns, of the option `field`, and
    /// the context.
    pub(super) fn asked(
        &self,
        field: &'static str,
        columns: &[String],
        dequantization: Dequantization,
    ) -> Result<Option<Asked>> {
        let Some(features) = self.features() else {
            return match columns {
                [] => Ok(None),
                [first, ..] => {
                    let problem = format!("`{first}`: the run is of numbers alone");
                    let remedy = "leave it out, or train with data.types = mixed";
                    Err(Error::config(field, problem, remedy))
                }
            };
        };
        if dequantization != Dequantization::Uniform {
            let problem = format!("{dequantization}, of a table with categories and holes");
            return Err(Error::config("score.dequantization", problem, "leave it out"));
        }
        let names = self.run.data.names();
        columns.iter().try_for_each(|column| self.check_column(field, column))?;
        let columns = &self.given_columns(columns);
        if names.iter().all(|name| columns.contains(name)) {
            let remedy = "leave one out at least";
            return Err(Error::config(field, "all columns are given", remedy));
        }
        features.layout().schema().check_together(field, columns)?;
        let given = features.columns(columns);
        Ok(Some(Asked { features, given, absent: [None, None] }))
    }

    /// `n` rows in which cells of these columns are given, as a file would have them, and all
    /// others are missing: for [`Density::impute`], which then samples the others given these.
    ///
    /// # Errors
    /// [`Error::Config`] if the density is of numbers alone or a column is not one of its own;
    /// [`Error::Data`] for a cell that its column cannot have.
    pub fn given_rows(&self, cells: &[(String, String)], n: usize) -> Result<Dataset> {
        let schema = self.mixed_schema()?;
        let names = self.run.data.names();
        for (i, (name, _)) in cells.iter().enumerate() {
            self.check_column("sample.given", name)?;
            if cells[..i].iter().any(|(earlier, _)| earlier == name) {
                let problem = format!("`{name}` is given twice");
                return Err(Error::config("sample.given", problem, "give it once"));
            }
        }
        let column = |name: String| {
            let cell = cells.iter().find(|(given, _)| *given == name).map_or("", |(_, cell)| cell);
            RawColumn::cells(name, std::iter::repeat_n(cell, n))
        };
        let mut table = RawTable::new(names.into_iter().map(column).collect())?;
        table.source = "sample.given".into();
        Dataset::of_raw(table, schema)
    }

    /// Samples of what is missing in the rows of `data`, given what is there: a draw of each row,
    /// with what is there as it is. Where missing cells are categories the draw is given that none
    /// is missing.
    ///
    /// # Errors
    /// [`Error::Config`] if the density is of numbers alone; as [`Density::sample`].
    pub fn impute(&self, data: &Dataset, options: &SampleOptions) -> Result<Dataset> {
        let samples = self.sample_given(data, options, &mut Silent)?;
        Ok(samples.table.expect("a table of samples"))
    }

    /// As [`Density::impute`], with progress and remarks.
    ///
    /// # Errors
    /// As [`Density::impute`], and [`Error::Interrupted`].
    pub fn sample_given(
        &self,
        data: &Dataset,
        options: &SampleOptions,
        watch: &mut dyn Watch,
    ) -> Result<Samples> {
        self.mixed_schema()?;
        let features = self.features().expect("of a table with a schema");
        let data = self.run.data.conform(data.clone())?;
        self.check_context(&data)?;
        if let Some((name, to, row)) = data.first_unknown_difference() {
            let problem = format!(
                "{}: `{name}` is there and `{to}` is not, to which its difference is modelled",
                data.place(row)
            );
            let remedy = format!("give `{to}` too, or empty the cell of `{name}`");
            return Err(Error::data(data.called(), problem, remedy));
        }
        let rows: Vec<usize> = (0..data.rows()).collect();
        let seed = Seed(options.seed).derive("dequantise");
        let mut known = features.scaled(&data, &rows, &mut Noise::new(seed, 0..rows.len() as u64));
        features.forget_holes(&mut known);
        let holes: Vec<Option<u32>> = features.holes().collect();
        let (drawn, clipped) = self.completed(&features, (&known, &holes), options, watch)?;
        Ok(self.table_of_samples(features.layout().filled(&data, &drawn), clipped))
    }

    /// Refuses a model of columns given others, for draws of all of them.
    pub(super) fn check_without_context(&self) -> Result<()> {
        match &self.run.data.context[..] {
            [] => Ok(()),
            context => {
                let problem = format!("the run is a model given {}", context.join(", "));
                Err(Error::config("sample.given", problem, "give cells of these columns"))
            }
        }
    }

    /// Refuses rows of which a context is missing that no training row was without, for draws of a
    /// model that has no distribution of it.
    fn check_context(&self, data: &Dataset) -> Result<()> {
        let (names, schema) = (data.names(), self.run.data.schema.as_ref());
        let whole = |name: &&String| {
            schema.and_then(|schema| schema.column(name)).is_some_and(|column| column.holes == 0)
        };
        for name in self.run.data.context.iter().filter(whole) {
            let values = names.iter().position(|own| own == name).and_then(|k| data.column(k));
            let Some(values) = values else { continue };
            if let Some(row) = (0..values.len()).find(|&row| values.get(row).is_nan()) {
                let problem = format!("`{name}` is missing, and the run is one of others given it");
                let remedy = "give it in every row, or train without it in data.context";
                let problem = format!("{}: {problem}", data.place(row));
                return Err(Error::data(data.called(), problem, remedy));
            }
        }
        Ok(())
    }

    /// Rows of which `known` is known, and the rest drawn, given that no category is its code of
    /// `excluded`: first the categories, then the numbers that these leave; what was clipped. A
    /// context that is missing stays so.
    pub(super) fn completed(
        &self,
        features: &Features,
        (known, excluded): (&FeatureRows, &[Option<u32>]),
        options: &SampleOptions,
        watch: &mut dyn Watch,
    ) -> Result<(Dataset, Clipped)> {
        let Ready { sampling, grid, class, batch } = self.ready_to_sample(options, watch)?;
        let (layout, d) = (features.cells(), features.cells().numbers);
        let n = known.numbers.len() / d;
        let observed = features.observed(known);
        let mut codes = Vec::with_capacity(known.codes.len());
        let (seed, context) = (Seed(options.seed).derive("categories"), features.context());
        for start in (0..n).step_by(batch) {
            let rows = start..n.min(start + batch);
            let noise = &mut Noise::new(seed, rows.start as u64..rows.end as u64);
            let known = observed.rows(rows);
            let left_out = &context.categories;
            codes.extend(self.run.categorical().complete(&known, left_out, excluded, noise));
        }
        let c = layout.categories.len();
        let role = |i: usize| {
            let (row, k) = (i / d, i % d);
            let number = features.layout().numbers.get(k);
            let own = &codes[row * c..(row + 1) * c];
            let at_atom = number.is_none_or(|number| !features.is_present(number, own));
            match (known.numbers[i].is_nan(), at_atom || context.numbers[k]) {
                (false, _) => Role::Given,
                (true, true) => Role::Absent,
                (true, false) => Role::Target,
            }
        };
        let roles: Vec<Role> = (0..known.numbers.len()).map(role).collect();
        let cells = Cells::new(layout.clone(), known.numbers.clone(), roles, codes.clone());
        let of_cells = (class, Some(&cells));
        let (drawn, clipped) = self.draw(&sampling, &grid, of_cells, (n, batch), watch)?;
        let numbers: Vec<f64> = to_vec(&drawn)
            .into_iter()
            .zip(cells.roles().iter().zip(&known.numbers))
            .map(|(drawn, (role, &known))| match role {
                Role::Target => drawn,
                Role::Given => known,
                Role::Absent => f64::NAN,
            })
            .collect();
        Ok((features.table(&numbers, &codes), clipped))
    }

    /// A table as samples.
    pub(super) fn table_of_samples(&self, table: Dataset, clipped: Clipped) -> Samples {
        Samples {
            values: Vec::new(),
            columns: table.names(),
            types: Vec::new(),
            image: None,
            latents: None,
            labels: None,
            clipped,
            table: Some(table),
        }
    }
}
