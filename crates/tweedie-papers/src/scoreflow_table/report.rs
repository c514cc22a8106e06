//! The table of what was found, in the paper's layout.

use std::path::Path;

use super::{Cell, Report, Scores, Training, schedules};
use crate::{table, write_all};
use tweedie::Result;
use tweedie::likelihood::mean_and_error;

/// Baseline (DDPM++) on CIFAR-10 in the paper: NLL and bound with uniform and with variational
/// dequantisation, bits per dimension, and FID.
const PUBLISHED: [[&str; 7]; 6] = [
    ["VP", "DSM", "3.16", "3.28", "3.04", "3.14", "3.98"],
    ["VP", "LW", "3.06", "3.18", "2.94", "3.03", "5.18"],
    ["VP", "LW + IS", "2.95", "3.08", "2.83", "2.94", "6.03"],
    ["subVP", "DSM", "2.99", "3.09", "2.88", "2.98", "3.20"],
    ["subVP", "LW", "2.97", "3.07", "2.86", "2.96", "7.33"],
    ["subVP", "LW + IS", "2.94", "3.05", "2.84", "2.94", "5.58"],
];

/// A figure of a cell, where it was measured.
type Value = fn(&Cell) -> Option<f64>;

impl Report {
    /// Writes `scoreflow-table.csv` and `scoreflow-table.md` into `dir`.
    pub fn write(&self, dir: &Path) -> Result<()> {
        write_all(
            dir,
            &[("scoreflow-table.csv", self.csv()), ("scoreflow-table.md", self.markdown())],
        )
    }

    fn csv(&self) -> String {
        let head = [
            "schedule",
            "training",
            "seed",
            "dequantization",
            "nll",
            "nll_std_error",
            "bound",
            "bound_std_error",
            "flagged",
            "evaluations",
            "frechet",
        ];
        let number = |v: f64| table::number(v.is_finite().then_some(v));
        let row = |c: &Cell, name: &str, scores: &Scores| {
            vec![
                c.schedule.to_string(),
                c.training.name().to_string(),
                c.seed.to_string(),
                name.to_string(),
                number(scores.nll.0),
                number(scores.nll.1),
                number(scores.bound.0),
                number(scores.bound.1),
                scores.flagged.to_string(),
                number(scores.evaluations),
                number(c.frechet),
            ]
        };
        let mut rows = Vec::new();
        for cell in &self.cells {
            rows.push(row(cell, "uniform", &cell.uniform));
            rows.extend(cell.variational.iter().map(|scores| row(cell, "variational", scores)));
        }
        table::csv(&head, &rows)
    }

    /// `value` of every repetition of a cell.
    fn over_seeds(&self, schedule: &str, training: Training, value: Value) -> Option<Vec<f64>> {
        let mine = |c: &&Cell| c.schedule == schedule && c.training == training;
        self.cells.iter().filter(mine).map(value).collect()
    }

    /// Mean over repetitions and its standard error of `value`, or of what it is above that of
    /// plain DSM; empty where nothing was measured.
    fn summary(&self, schedule: &str, training: Training, value: Value, over_dsm: bool) -> String {
        let values = self.over_seeds(schedule, training, value).map(|mut values| {
            if let (true, Some(plain)) =
                (over_dsm, self.over_seeds(schedule, Training::Sigma2, value))
            {
                values.iter_mut().zip(plain).for_each(|(v, p)| *v -= p);
            }
            mean_and_error(&values)
        });
        table::measured(values, 3)
    }

    fn lines(&self, trainings: &[Training], over_dsm: bool) -> Vec<Vec<String>> {
        let values: [Value; 5] = [
            |c| Some(c.uniform.nll.0),
            |c| Some(c.uniform.bound.0),
            |c| c.variational.map(|v| v.nll.0),
            |c| c.variational.map(|v| v.bound.0),
            |c| Some(c.frechet),
        ];
        let mut lines = Vec::new();
        for schedule in schedules().map(|process| process.name()) {
            for &training in trainings {
                let cells =
                    values.iter().map(|&value| self.summary(schedule, training, value, over_dsm));
                lines.push(
                    [schedule.to_string(), training.label().into()]
                        .into_iter()
                        .chain(cells)
                        .collect(),
                );
            }
        }
        lines
    }

    fn markdown(&self) -> String {
        let e = &self.experiment;
        let head = [
            "SDE",
            "training",
            "NLL ↓",
            "bound ↓",
            "NLL, var. deq. ↓",
            "bound, var. deq. ↓",
            "FD-rows ↓",
        ];
        let unit = match self.bits {
            true => "bits per dimension of levels 0…255",
            false => "nats per row, the data's own units",
        };
        let flagged: usize = self.cells.iter().map(|c| c.uniform.flagged).sum();
        format!(
            "# Weightings and likelihoods\n\nScoreFlow, Table 2, on {}. Likelihoods in {unit}, of {} test rows, drawn at random where there are more; mean \
             and standard error over {} repetitions, each with its own split, weights and noise. NLL: probability-flow ODE, \
             rtol = atol = 1e-5; bound: score-matching bound, {} draws per row. FD-rows: Fréchet distance of {} ODE samples to \
             the test rows, in the network's units and without a feature network. Every score: {} steps of Adam on batches \
             of {}; the dequantiser (var. deq., where columns are levels): {} steps. {flagged} rows of {} had a doubtful ODE likelihood and are left out.\n\n{}\n\
             ## Against plain DSM\n\nDifferences within a repetition; less is better. Under VE the two weightings are the same up to \
             the constant 2 ln(σ_max/σ_min), and uniform times are the importance-sampled ones: its three lines differ in \
             what the clipping of gradients makes of that constant, and in rounding.\n\n{}\n\
             ## Published\n\nCIFAR-10, bits per dimension; the last column is the FID of 50,000 samples.\n\n{}\n\
             This run took {:.0} s.\n",
            e.config.data.source,
            self.rows,
            e.seeds,
            e.draws,
            e.samples,
            e.config.train.iterations,
            e.config.train.batch_size,
            e.dequantizer,
            self.cells.len() * self.rows,
            table::markdown(&head, &self.lines(&Training::ALL, false)),
            table::markdown(&head, &self.lines(&Training::ALL[1..], true)),
            table::markdown(&head, &PUBLISHED.map(|line| line.map(String::from).to_vec())),
            self.seconds
        )
    }
}
