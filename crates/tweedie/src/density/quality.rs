//! Quality and privacy of a density's samples, beside the rows that it was trained on.

use super::{Density, EvaluateOptions, SampleOptions, Samples, TestRows};
use crate::data::{Dataset, Kind, Values};
use crate::metric::quality::{self, Column, Quality, QualityOptions, Table};
use crate::watch::Watch;
use crate::{Error, Result};

impl Density {
    /// The quality of as many samples as there are training rows, in the largest of the numbers of
    /// steps; rows held out are those that are judged.
    pub(super) fn quality(
        &self,
        (judged, rows): (&TestRows, &[usize]),
        options: &EvaluateOptions,
        watch: &mut dyn Watch,
    ) -> Result<Quality> {
        let Some(own) = self.run.prepared() else {
            let problem = format!("quality compares with training rows: {}", self.run.no_data());
            return Err(Error::config(
                "evaluate.metrics",
                problem,
                "restore them, or leave it out",
            ));
        };
        let of_quality = QualityOptions { target: options.target.clone(), seed: options.seed };
        let train = table_of(&own.table, &own.split.train)?;
        let holdout = table_of(&judged.table, rows)?;
        if let Some(target) = options.target.as_ref().filter(|t| train.position(t).is_none()) {
            let names: Vec<&str> = train.columns().iter().map(|c| c.name.as_str()).collect();
            let remedy = format!("name one of {}", names.join(", "));
            let problem = format!("there is no column `{target}`");
            return Err(Error::config("evaluate.target", problem, remedy));
        }
        let usual = options.sampling(options.covariances.first().copied());
        let steps = options.steps.iter().copied().max().unwrap_or(usual.steps);
        let sampling = SampleOptions { steps, ..usual };
        let (table, rows) = (own.table, own.split.train);
        let known = TestRows { table, rows, reference: None };
        let samples = self.sample_beside(&known, train.rows(), &sampling, watch)?;
        watch.begin("quality", 1);
        let found = quality::quality(&train, &holdout, &table_of_samples(&samples)?, &of_quality);
        watch.end();
        found
    }
}

/// Rows of a table, without the columns that are the same in all of them.
fn table_of(data: &Dataset, rows: &[usize]) -> Result<Table> {
    let varies = |name: &str| {
        let kind = data.schema().and_then(|schema| schema.column(name)).map(|column| &column.kind);
        !matches!(kind, Some(Kind::Constant { .. }))
    };
    let columns = data.names().into_iter().enumerate().filter(|(_, name)| varies(name));
    let column = |(k, name): (usize, String)| {
        let values = match data.column(k) {
            Some(Values::Category(all)) => quality::Values::Categories {
                names: all.names.to_vec(),
                codes: rows.iter().map(|&row| all.codes[row]).collect(),
            },
            Some(all) => quality::Values::Numbers(rows.iter().map(|&row| all.get(row)).collect()),
            None => quality::Values::Numbers(Vec::new()),
        };
        Column { name, values }
    };
    Table::new(columns.map(column).collect())
}

fn table_of_samples(samples: &Samples) -> Result<Table> {
    if let Some(table) = &samples.table {
        return table_of(table, &(0..table.rows()).collect::<Vec<usize>>());
    }
    let of = samples.columns.len();
    let column = |(k, name): (usize, &String)| {
        let values = samples.values.iter().skip(k).step_by(of).copied().collect();
        Column { name: name.clone(), values: quality::Values::Numbers(values) }
    };
    Table::new(samples.columns.iter().enumerate().map(column).collect())
}
