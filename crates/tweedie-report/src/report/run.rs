//! What was found of a run, as its page shows it.

use tweedie::Result;
use tweedie::covariance::CovarianceConfig;
use tweedie::data::{Dataset, Kind, Values};
use tweedie::density::{Density, Evaluation, Line, Samples, Subject, TestRows};
use tweedie::likelihood::Summary;
use tweedie::metric::quality::{self, Column, Quality};
use tweedie::noise::Seed;
use tweedie::run::Facts;
use tweedie::watch::Watch;

use super::anomalies::{self, Anomaly};
use super::{Made, MetricPoint, ReportInputs, Scores, Shares, conditionals, verdict};
use crate::facts;
use crate::plot::{Pictures, Series};

/// Rows of test data and samples, column by column: numbers apart from categories.
#[derive(Default)]
struct Compared {
    /// The columns of numbers, and their cells in both sets, row-major.
    names: Vec<String>,
    data: Vec<f32>,
    samples: Vec<f32>,
    categories: Vec<Shares>,
    /// The columns of each, as dependences between them are found: those of constants left out.
    columns: [Vec<Column>; 2],
}

/// Seconds of a year of the Gregorian calendar.
const YEAR: f64 = 31_556_952.0;

impl Compared {
    /// Of a table with categories, dates and missing cells; dates in years.
    fn mixed(table: &Dataset, rows: &[usize], samples: &Dataset) -> Compared {
        let all: Vec<usize> = (0..samples.rows()).collect();
        let (mut names, mut numbers, mut categories) = (Vec::new(), Vec::new(), Vec::new());
        let mut columns = [Vec::new(), Vec::new()];
        let schema = table.schema().expect("a table that was read as it comes");
        for (k, column) in schema.kept().enumerate() {
            let name = column.name.clone();
            let own = table.column(k).expect("a column of the schema");
            let drawn = samples.column(k).expect("samples have the columns of the schema");
            match &column.kind {
                Kind::Category { .. } => {
                    for (columns, (values, rows)) in
                        columns.iter_mut().zip([(own, rows), (drawn, &all)])
                    {
                        let Some(of) = values.categories() else { continue };
                        let codes = rows.iter().map(|&row| of.codes[row]).collect();
                        let values =
                            quality::Values::Categories { names: of.names.to_vec(), codes };
                        columns.push(Column { name: name.clone(), values });
                    }
                    categories.push(shares(name, (own, rows), drawn));
                }
                Kind::Number { .. } | Kind::Time { .. } => {
                    let time = matches!(column.kind, Kind::Time { .. });
                    let shown = |value: f64| if time { 1970.0 + value / YEAR } else { value };
                    for (columns, (values, rows)) in
                        columns.iter_mut().zip([(own, rows), (drawn, &all)])
                    {
                        let values = rows.iter().map(|&row| shown(values.get(row))).collect();
                        let values = quality::Values::Numbers(values);
                        columns.push(Column { name: name.clone(), values });
                    }
                    names.push(name);
                    numbers.push([(own, rows), (drawn, &all)].map(|(values, rows)| {
                        rows.iter().map(|&row| shown(values.get(row)) as f32).collect::<Vec<_>>()
                    }));
                }
                Kind::Constant { .. } | Kind::LeftOut { .. } => (),
            }
        }
        let row_major = |set: usize, rows: usize| {
            (0..rows).flat_map(|row| numbers.iter().map(move |of| of[set][row])).collect()
        };
        let (data, samples) = (row_major(0, rows.len()), row_major(1, all.len()));
        Compared { names, data, samples, categories, columns }
    }
}

/// How often the categories of a column are in `rows` of the data and in all samples.
fn shares(column: String, (own, rows): (&Values, &[usize]), drawn: &Values) -> Shares {
    let names = own.categories().map_or(&[][..], |of| &of.names);
    let missing = names.len();
    let count = |values: &Values, rows: &mut dyn Iterator<Item = usize>| {
        let mut counts = vec![0; missing + 1];
        let codes = values.categories().map_or(&[][..], |of| &of.codes);
        rows.for_each(|row| counts[missing.min(codes[row] as usize)] += 1);
        counts
    };
    let mut data = count(own, &mut rows.iter().copied());
    let mut samples = count(drawn, &mut (0..drawn.len()));
    let mut names = names.to_vec();
    match data[missing] + samples[missing] {
        0 => {
            data.pop();
            samples.pop();
        }
        _ => names.push("(missing)".into()),
    }
    Shares { column, names, data, samples }
}

/// What was found of a run.
pub struct Findings<'a> {
    /// The run's density.
    pub density: &'a Density,
    /// What the run says of itself.
    pub facts: &'a Facts,
    /// Its judgement by log-likelihoods, with bounds at ascending numbers of steps.
    pub evaluation: &'a Evaluation,
    /// The test rows that were judged.
    pub rows: &'a TestRows,
    /// Test rows available, of which those are a draw.
    pub available: usize,
    /// Samples of the density.
    pub samples: &'a Samples,
    /// Steps of their sampler.
    pub steps: usize,
    /// The least likely of the rows, where they are of a table: see [`Findings::least_likely`].
    pub anomalies: Vec<Anomaly>,
    /// How rows are shown as pictures, where they are.
    pub pictures: Option<Pictures>,
    /// What has to be known beside any figure, a sentence each.
    pub remarks: Vec<String>,
    /// What makes the page; its seed is that of the draws.
    pub made: Made,
}

/// Numbers of steps whose bound is the model's figure, of a table and of images.
const SHOWN: (usize, usize) = (100, 20);
/// Rows that a sheet of pictures shows, and how many stand side by side.
const SHEET: (usize, usize) = (64, 16);

impl Scores {
    fn of(line: &Line, dim: usize) -> Scores {
        Scores { name: line.name.clone(), values: line.row_values(dim) }
    }

    /// Mean and standard error of the finite values, and how many are not finite.
    pub fn figure(&self) -> (f64, f64, usize) {
        let Summary { mean, std_error, finite, .. } = Summary::of(&self.values);
        (mean, std_error, self.values.len() - finite)
    }

    fn in_words(&self, unit: &str) -> String {
        let (mean, error, not_finite) = self.figure();
        let error = if error.is_finite() { format!(" ± {error:.3}") } else { String::new() };
        let rest = match not_finite {
            0 => String::new(),
            n => format!(" ({n} of {} rows are not finite and not in it)", self.values.len()),
        };
        let value = format!("{mean:.3}{error}").replace('-', "−");
        format!("{value} {unit}{rest}")
    }
}

impl Findings<'_> {
    /// The unit of the figures.
    pub fn unit(&self) -> &'static str {
        if self.evaluation.images { "bits per dimension" } else { "nats per row" }
    }

    /// The least likely of the rows that were judged, of a table.
    ///
    /// # Errors
    /// As [`Density::parts`].
    pub fn least_likely(&self, watch: &mut dyn Watch) -> Result<Vec<Anomaly>> {
        let is_large = self.evaluation.images || self.evaluation.latents;
        match self.scores().first().filter(|_| !is_large) {
            Some(scores) => anomalies::least_likely(self.density, self.rows, scores, watch),
            None => Ok(Vec::new()),
        }
    }

    /// The model's scores, its bound first.
    fn scores(&self) -> Vec<Scores> {
        let head = self.density.run().model.head_covariance();
        let own = head.unwrap_or(CovarianceConfig::Beta);
        let shown = if self.evaluation.images { SHOWN.1 } else { SHOWN.0 };
        let is_shown = |line: &&Line| match line.subject {
            Subject::Elbo { covariance, steps } => (covariance, steps) == (own, shown),
            subject => subject == Subject::Ode,
        };
        let lines = self.evaluation.own().filter(is_shown);
        lines.map(|line| Scores::of(line, self.evaluation.dim)).collect()
    }

    /// The classical densities, the model's base first: it is what the network corrects.
    fn baselines(&self) -> Vec<Scores> {
        let classical =
            |line: &&Line| matches!(line.subject, Subject::Gaussian | Subject::Kernel { .. });
        let base = self.evaluation.base().into_iter();
        let lines = base.chain(self.evaluation.own().filter(classical));
        lines.map(|line| Scores::of(line, self.evaluation.dim)).collect()
    }

    /// The bounds over numbers of steps, a curve for each covariance.
    fn curves(&self) -> Vec<Series> {
        let bound = |line: &Line| match line.subject {
            Subject::Elbo { covariance, steps } => {
                Some((covariance, steps, line.value, line.error))
            }
            _ => None,
        };
        let bounds: Vec<_> = self.evaluation.own().filter_map(bound).collect();
        let curve = |lines: &[(CovarianceConfig, usize, f64, f64)]| {
            let steps = lines.iter().map(|line| line.1 as f64).collect();
            let (values, errors) = lines.iter().map(|line| (line.2, line.3)).unzip();
            Series::line(lines[0].0.name(), steps, values).with_error(errors)
        };
        bounds.chunk_by(|a, b| a.1 < b.1).map(curve).collect()
    }

    /// Lines with rows that cannot be believed.
    fn flags(&self) -> Vec<String> {
        let flagged = self.evaluation.own().filter_map(|line| {
            let (first, count) = (line.flags.first()?, line.flags.len());
            Some(match line.left_out.flagged {
                None => format!("{}: {count} rows are not finite.", line.name),
                Some(_) => format!(
                    "{}: {count} of {} rows are doubtful and left out of its figures; the first: \
                    {}.",
                    line.name, line.left_out.of, first.reason
                ),
            })
        });
        flagged.collect()
    }

    /// Missing cells of the test rows that were judged, by column.
    fn missing(&self) -> Option<(String, String)> {
        let (table, rows) = (&self.rows.table, &self.rows.rows);
        let names = table.names();
        let holes = |k: usize| {
            let column = table.column(k)?;
            let count = rows.iter().filter(|&&row| column.get(row).is_nan()).count();
            (count > 0).then(|| format!("{} {count}", names[k]))
        };
        let found: Vec<String> = (0..names.len()).filter_map(holes).collect();
        (!found.is_empty()).then(|| ("missing cells".into(), found.join(", ")))
    }

    /// The columns of rows of numbers, row-major.
    fn columns_of(&self, rows: &[f32]) -> Vec<Column> {
        let names = &self.samples.columns;
        let column = |(k, name): (usize, &String)| {
            let values = rows.iter().skip(k).step_by(names.len()).map(|&v| f64::from(v)).collect();
            Column { name: name.clone(), values: quality::Values::Numbers(values) }
        };
        names.iter().enumerate().map(column).collect()
    }

    /// Sheets of samples and of test rows, all with one black and white.
    fn sheets(&self, pictures: Pictures, data: &[f32]) -> Vec<(String, Vec<u8>)> {
        let (rows, columns) = SHEET;
        let data: Vec<f64> = data.iter().map(|&v| v as f64).collect();
        let (limits, show) = (pictures.range(&data), rows * self.evaluation.dim);
        let sheet = |values: &[f64]| {
            pictures.sheet(&values[..values.len().min(show)], columns, limits).png()
        };
        let caption = format!("Samples in {} steps", self.steps);
        vec![(caption, sheet(&self.samples.values)), ("Test rows".into(), sheet(&data))]
    }

    /// The page.
    pub fn inputs(&self) -> ReportInputs {
        let (run, facts, unit) = (self.density.run(), self.facts, self.unit());
        let images = self.evaluation.images;
        let (scores, baselines) = (self.scores(), self.baselines());
        let bound = scores.first();
        let mut conclusions =
            bound.map_or_else(Vec::new, |bound| verdict(bound, &baselines, unit, images));
        let (claim, beside, note) = match images {
            true => (
                "an upper bound on its bits",
                "the density of levels with uniform noise, which is one too",
                "The bits are of the levels' probabilities by the K-step ELBO with the discretised \
                 decoder: an upper bound of exactly the sampler that takes these K steps.",
            ),
            false => (
                "a lower bound on its log-likelihood",
                "exact",
                "The ELBO with K steps is the log-likelihood bound of exactly the sampler that \
                 takes these K steps. The ODE is an estimate, not a bound.",
            ),
        };
        conclusions.push(format!(
            "The model's figure here is {claim}: what it is compared with is {beside}."
        ));
        let all = scores.iter().chain(&baselines);
        let mut summary: Vec<(String, String)> =
            all.map(|scores| (scores.name.clone(), scores.in_words(unit))).collect();
        let (used, available) = (self.evaluation.rows, self.available);
        let rows = match self.made.seed.filter(|_| used < available) {
            Some(seed) => format!("{used} of {available}, drawn at random (seed {seed})"),
            None => format!("all {available}"),
        };
        summary.push(("test rows".into(), rows));
        let losses = facts.metrics.iter().map(|m| MetricPoint {
            iteration: m.iteration,
            train_loss: m.loss,
            validation: facts.validation(m),
        });
        let mut sheets = Vec::new();
        let compared = match (&self.samples.table, images) {
            (Some(samples), _) => {
                summary.extend(self.missing());
                Compared::mixed(&self.rows.table, &self.rows.rows, samples)
            }
            (None, images) => {
                let data = self.rows.table.gather(&self.rows.rows);
                sheets = self.pictures.map_or_else(Vec::new, |shown| self.sheets(shown, &data));
                // pixels are looked at, not tabulated
                match images {
                    true => Compared::default(),
                    false => {
                        let samples: Vec<f32> =
                            self.samples.values.iter().map(|&v| v as f32).collect();
                        let columns = match self.evaluation.latents {
                            true => Default::default(),
                            false => [&data, &samples].map(|set| self.columns_of(set)),
                        };
                        let (names, categories) = (self.samples.columns.clone(), Vec::new());
                        Compared { names, data, samples, categories, columns }
                    }
                }
            }
        };
        let mixed = self.samples.table.is_some();
        let mut notes = vec![note.into()];
        if mixed {
            let text = "Densities are with respect to counting measure on categories and repeated \
                        values, and to the data's own units on numbers; of a row with missing \
                        cells it is the likelihood of what is there. Dates are shown in years.";
            notes.push(text.into());
        }
        if !run.data.context.is_empty() {
            notes.push(format!(
                "The model is one of the other columns given {}: all densities are conditional, \
                 and samples have these cells of test rows.",
                run.data.context.join(", ")
            ));
        }
        let [data, samples] = &compared.columns;
        let seed = Seed(self.made.seed.unwrap_or_default());
        let conditionals = conditionals::strongest(data, samples, seed);
        let quality = self.evaluation.quality.as_ref().map_or_else(Vec::new, Quality::lines);
        ReportInputs {
            title: format!("tweedie: {}", run.data.source),
            made: self.made.clone(),
            verdict: conclusions,
            remarks: self.remarks.clone(),
            summary,
            about: facts::lines(facts),
            config_toml: run.config.to_toml(),
            losses: losses.collect(),
            loss_label: facts::loss(&run.config),
            validation_label: facts.validation_label().into(),
            lower_validation_is_better: facts.lower_validation_is_better(),
            kept_iteration: facts.ending.best.map(|(iteration, _)| iteration),
            column_names: compared.names,
            data: compared.data,
            samples: compared.samples,
            categories: compared.categories,
            conditionals,
            quality,
            sample_label: format!("samples in {} steps", self.steps),
            scores,
            baselines,
            unit: if images { unit.into() } else { format!("{unit}, data units") },
            lower_is_better: images,
            likelihood_vs_steps: self.curves(),
            sheets,
            anomalies: self.anomalies.clone(),
            flags: self.flags(),
            notes,
        }
    }
}
