//! What was measured of runs, as tables and curves over the number of steps.

use tweedie::likelihood::mean_and_error;
use tweedie_report::plot::Scale;
use tweedie_report::table::{Cell, Column, Table};

use super::judge::Method;
use crate::layout::{LINEAR, LOG, Measured, chart, curve, grid, measured, named};
use crate::outcome::Outcome;
use crate::page::Page;

/// What a negative log-likelihood is given in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bits per dimension, of images.
    BitsPerDim,
    /// Nats per row in the data's own units, of tables.
    NatsPerRow,
}

impl Unit {
    /// Its name in tables and figures.
    pub fn label(self) -> &'static str {
        match self {
            Unit::BitsPerDim => "bits per dimension",
            Unit::NatsPerRow => "nats per row",
        }
    }
}

/// What is found of samples, beside those that they are compared with.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SampleFigures {
    /// Fréchet distance between features.
    pub frechet: f64,
    /// Inception score and its standard deviation over ten parts, where the features are of a
    /// network that knows classes.
    pub score: Option<Measured>,
    /// Precision of Kynkäänniemi et al. (2019), where there are enough samples.
    pub precision: Option<f64>,
    /// Their recall.
    pub recall: Option<f64>,
    /// `F_1/8` and `F_8` of Sajjadi et al. (2018), their precision and recall, where there are more
    /// samples than clusters.
    pub prd: Option<[f64; 2]>,
}

/// What tables and curves are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quantity {
    /// The negative log-likelihood.
    Likelihood,
    /// The Fréchet distance.
    Distance,
    /// The Inception score.
    Score,
    /// The precision of samples.
    Precision,
    /// The recall of samples.
    Recall,
    /// `F_1/8` of their precision and recall by clusters.
    PrdPrecision,
    /// `F_8`, the recall of the OCM paper's Tables 11 and 12.
    PrdRecall,
}

impl Quantity {
    /// Those of samples.
    const OF_SAMPLES: [Quantity; 6] = [
        Quantity::Distance,
        Quantity::Score,
        Quantity::Precision,
        Quantity::Recall,
        Quantity::PrdPrecision,
        Quantity::PrdRecall,
    ];

    /// Its name in files.
    pub(crate) fn file(self) -> &'static str {
        match self {
            Quantity::Likelihood => "likelihood",
            Quantity::Distance => "distance",
            Quantity::Score => "inception-score",
            Quantity::Precision => "precision",
            Quantity::Recall => "recall",
            Quantity::PrdPrecision => "prd-precision",
            Quantity::PrdRecall => "prd-recall",
        }
    }

    /// Decimals on a page.
    fn decimals(self) -> usize {
        match self {
            Quantity::Distance | Quantity::Score => 2,
            _ => 3,
        }
    }
}

/// One run under one method and number of steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The run's name.
    pub arm: String,
    /// How steps are taken.
    pub method: Method,
    /// `K`.
    pub steps: usize,
    /// Which training and draw it is, from 0.
    pub repeat: usize,
    /// Negative log-likelihood per row and its standard error; none for DDIM.
    pub nll: Option<Measured>,
    /// What was found of samples, where there are features.
    pub samples: Option<SampleFigures>,
    /// The share of the samples' numbers that were no levels before they were held between 0 and
    /// 255, of images.
    pub outside: Option<f64>,
    /// The share of variances at the end of the samples' chains that were clipped, where any is
    /// limited.
    pub clipped: Option<f64>,
}

impl Record {
    /// The run's name and the method's.
    pub fn label(&self) -> String {
        format!("{}, {}", self.arm, self.method.label())
    }

    /// The run's name and what the method is at any scale of guidance.
    pub(crate) fn label_without_scale(&self) -> String {
        format!("{}, {}", self.arm, self.method.label_without_scale())
    }

    /// The scale of guidance.
    pub(crate) fn scale(&self) -> Option<f64> {
        self.method.guidance.map(|guidance| guidance.scale)
    }

    /// A quantity with its error; NaN for one without.
    pub(crate) fn value(&self, of: Quantity) -> Option<Measured> {
        let alone = |value: f64| (value, f64::NAN);
        match of {
            Quantity::Likelihood => self.nll,
            Quantity::Distance => self.samples.map(|s| alone(s.frechet)),
            Quantity::Score => self.samples?.score,
            Quantity::Precision => self.samples?.precision.map(alone),
            Quantity::Recall => self.samples?.recall.map(alone),
            Quantity::PrdPrecision => self.samples?.prd.map(|both| alone(both[0])),
            Quantity::PrdRecall => self.samples?.prd.map(|both| alone(both[1])),
        }
    }

    /// The quantity for a page.
    pub(crate) fn cell(&self, of: Quantity) -> Cell {
        measured(self.value(of), of.decimals())
    }
}

/// What was measured of some runs, and how.
#[derive(Clone, Debug)]
pub struct Found {
    /// Every run, method and number of steps.
    pub records: Vec<Record>,
    /// What likelihoods are given in.
    pub unit: Unit,
    /// How it was measured, in words.
    pub protocol: String,
    /// What Fréchet distances and Inception scores are called, where there are any.
    pub names: Option<SampleNames>,
}

/// What figures of samples are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleNames {
    /// The Fréchet distance.
    pub distance: &'static str,
    /// The Inception score, where the features have one.
    pub score: Option<&'static str>,
}

impl Found {
    /// All records; `extra` columns, with what they have for a run, stand after its name.
    pub(crate) fn table(&self, extra: &[&str], of: impl Fn(&str) -> Vec<Cell>) -> Table {
        let nll = match self.unit {
            Unit::BitsPerDim => Column::from("bits_per_dim").error("bits_per_dim_std_error"),
            Unit::NatsPerRow => Column::from("nats_per_row").error("nats_per_row_std_error"),
        };
        let mut columns: Vec<Column> = vec!["run".into()];
        columns.extend(extra.iter().map(|name| Column::from(*name)));
        let rest =
            ["method".into(), "steps".into(), "repeat".into(), nll, "frechet_distance".into()];
        columns.extend(rest);
        columns.push(Column::from("inception_score").error("inception_score_sd"));
        let shares = ["precision", "recall", "prd_precision", "prd_recall"];
        columns.extend(shares.into_iter().chain(["outside", "noise_clipped"]).map(Column::from));
        let mut table = Table::new(columns);
        for r in &self.records {
            let mut row = vec![r.arm.as_str().into()];
            row.extend(of(&r.arm));
            row.extend([
                r.method.name().into(),
                r.steps.into(),
                r.repeat.into(),
                measured(r.nll, 3),
            ]);
            let number = |v: Option<f64>| Cell::from(v.map(|v| Cell::number(v, 3)));
            let samples = r.samples;
            row.push(number(samples.map(|s| s.frechet)));
            row.push(measured(samples.and_then(|s| s.score), 3));
            row.push(number(samples.and_then(|s| s.precision)));
            row.push(number(samples.and_then(|s| s.recall)));
            row.extend([0, 1].map(|i| number(samples.and_then(|s| s.prd).map(|both| both[i]))));
            row.extend([r.outside, r.clipped].map(number));
            table.push(row);
        }
        table
    }

    /// Runs and methods in the order of the records that `keep` picks, each with its records.
    fn lines(&self, keep: impl Fn(&Record) -> bool) -> Vec<(String, Vec<&Record>)> {
        self.lines_by(Record::label, keep)
    }

    /// What `label` says of the records that `keep` picks, each with its records, in their order.
    fn lines_by(
        &self,
        label: impl Fn(&Record) -> String,
        keep: impl Fn(&Record) -> bool,
    ) -> Vec<(String, Vec<&Record>)> {
        let mut lines: Vec<(String, Vec<&Record>)> = Vec::new();
        for record in self.records.iter().filter(|record| keep(record)) {
            let label = label(record);
            match lines.iter_mut().find(|line| line.0 == label) {
                Some(line) => line.1.push(record),
                None => lines.push((label, vec![record])),
            }
        }
        lines
    }

    /// The numbers of steps, in the order of the records.
    fn steps(&self) -> Vec<usize> {
        different(self.records.iter().map(|record| record.steps))
    }

    /// A line per run and method, a column per number of steps, of the records that `keep` picks;
    /// lines without a value are left out.
    pub(crate) fn by_steps(&self, of: Quantity, keep: impl Fn(&Record) -> bool) -> Table {
        let lines = self.lines(|r| r.repeat == 0 && keep(r) && r.value(of).is_some());
        let columns = named(self.steps(), |k| format!("K = {k}"));
        grid("", &lines, &columns, |records, k| cell_of(records, of, |r| r.steps == *k))
    }

    /// A line per run and method, a column per scale of guidance, of the records that `keep` picks.
    pub(crate) fn by_scales(&self, of: Quantity, keep: impl Fn(&Record) -> bool) -> Table {
        let lines = self.lines_by(Record::label_without_scale, |r| keep(r) && r.scale().is_some());
        let scales = self.records.iter().filter(|r| keep(r)).filter_map(Record::scale);
        let columns = named(different(scales), |w| format!("w = {w}"));
        grid("", &lines, &columns, |records, w| cell_of(records, of, |r| r.scale() == Some(*w)))
    }

    /// Mean and standard deviation over the repeats of runs that have more than one.
    pub(crate) fn over(&self, of: Quantity) -> Table {
        let lines = self.lines(|r| r.value(of).is_some());
        let repeated: Vec<_> =
            lines.into_iter().filter(|(_, all)| all.iter().any(|r| r.repeat > 0)).collect();
        grid("", &repeated, &named(self.steps(), |k| format!("K = {k}")), |records, k| {
            let same = records.iter().filter(|r| r.steps == *k);
            let values: Vec<f64> = same.filter_map(|r| Some(r.value(of)?.0)).collect();
            let (mean, error) = mean_and_error(&values);
            measured(Some((mean, error * (values.len() as f64).sqrt())), of.decimals())
        })
    }

    /// Curves over the number of steps, one per run and method, of the records that `keep` picks.
    pub(crate) fn curves(
        &self,
        title: &str,
        of: Quantity,
        keep: impl Fn(&Record) -> bool,
    ) -> String {
        let lines = self.lines(|r| r.repeat == 0 && keep(r) && r.value(of).is_some());
        self.chart(title, of, ("sampling steps K", LOG), lines, |r| Some(r.steps as f64))
    }

    /// Curves over the scale of guidance, one per run and method, of the records that `keep` picks.
    pub(crate) fn curves_over_scales(
        &self,
        title: &str,
        of: Quantity,
        keep: impl Fn(&Record) -> bool,
    ) -> String {
        let lines = self.lines_by(Record::label_without_scale, keep);
        self.chart(title, of, ("scale of guidance w", LINEAR), lines, Record::scale)
    }

    fn chart(
        &self,
        title: &str,
        of: Quantity,
        (x_label, scales): (&str, [Scale; 2]),
        lines: Vec<(String, Vec<&Record>)>,
        x: impl Fn(&Record) -> Option<f64>,
    ) -> String {
        let series = lines.into_iter().map(|(label, records)| {
            let point = |r: &&Record| Some((x(r)?, r.value(of)?));
            curve(label, records.iter().filter_map(point))
        });
        chart(title, [x_label, &self.label(of)], scales, series.collect())
    }

    /// What a quantity is called in headings and legends.
    pub(crate) fn label(&self, of: Quantity) -> String {
        match (of, self.names) {
            (Quantity::Distance, Some(names)) => names.distance.into(),
            (Quantity::Score, Some(SampleNames { score: Some(name), .. })) => name.into(),
            (Quantity::Precision, _) => "Precision (Kynkäänniemi et al. 2019)".into(),
            (Quantity::Recall, _) => "Recall (Kynkäänniemi et al. 2019)".into(),
            (Quantity::PrdPrecision, _) => "Precision F₁⸝₈ (Sajjadi et al. 2018)".into(),
            (Quantity::PrdRecall, _) => "Recall F₈ (Sajjadi et al. 2018)".into(),
            _ => format!("{}, ± s.e.", self.unit.label()),
        }
    }

    /// The quantities of samples that were found.
    pub(crate) fn of_samples(&self) -> Vec<Quantity> {
        let found = |of: &Quantity| self.records.iter().any(|r| r.value(*of).is_some());
        Quantity::OF_SAMPLES.into_iter().filter(found).collect()
    }

    /// Table, curves and page of an experiment: `NAME.csv`, `NAME-LIKELIHOOD.svg` and, where there
    /// are samples, `NAME-distance.svg` and so on. The page has the values `protocol` and `unit`,
    /// the table `likelihood` and, for each quantity of samples, the part `distance` with `name`
    /// and a table of its own.
    pub(crate) fn outcome(&self, name: &str, likelihood: &str, title: &str, page: Page) -> Outcome {
        let page = page.table("likelihood", &self.by_steps(Quantity::Likelihood, |_| true));
        let page = self.with_samples(page, |_| true).with("unit", self.unit.label());
        let curves = self.curves(title, Quantity::Likelihood, |_| true);
        let outcome = Outcome::new(name, self.table(&[], |_| Vec::new()), page)
            .figure(format!("{name}-{likelihood}.svg"), curves);
        outcome.figures(
            self.of_samples()
                .into_iter()
                .map(|of| (format!("{name}-{}.svg", of.file()), self.curves(title, of, |_| true))),
        )
    }

    /// The protocol, and a part `distance` for each quantity of samples, of the records that `keep`
    /// picks.
    pub(crate) fn with_samples(&self, page: Page, keep: impl Fn(&Record) -> bool) -> Page {
        let part = |of: Quantity| {
            let table = self.by_steps(of, &keep);
            Page::new().with("name", self.label(of)).table("distance", &table)
        };
        page.with("protocol", &self.protocol)
            .each("distance", self.of_samples().into_iter().map(part))
    }
}

/// Each item once, in the order of the first of each.
fn different<T: PartialEq>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut found: Vec<T> = Vec::new();
    for item in items {
        if !found.contains(&item) {
            found.push(item);
        }
    }
    found
}

/// The quantity of the first of `records` that `pick` picks.
fn cell_of(records: &[&Record], of: Quantity, pick: impl Fn(&Record) -> bool) -> Cell {
    records.iter().find(|r| pick(r)).map(|record| record.cell(of)).into()
}
