//! The table of what was found, in the paper's layout.

use std::path::Path;

use super::{Cell, Report, Training, schedules};
use crate::Result;
use crate::experiment::{table, write_all};
use crate::likelihood::mean_and_error;

/// Baseline (DDPM++) on CIFAR-10 in the paper: NLL and bound with uniform dequantisation, bits per dimension, and FID.
const PUBLISHED: [(&str, &str, &str, &str, &str); 6] = [
    ("VP", "DSM", "3.16", "3.28", "3.98"),
    ("VP", "LW", "3.06", "3.18", "5.18"),
    ("VP", "LW + IS", "2.95", "3.08", "6.03"),
    ("subVP", "DSM", "2.99", "3.09", "3.20"),
    ("subVP", "LW", "2.97", "3.07", "7.33"),
    ("subVP", "LW + IS", "2.94", "3.05", "5.58"),
];

impl Report {
    /// Writes `scoreflow-table.csv` and `scoreflow-table.md` into `dir`.
    pub fn write(&self, dir: &Path) -> Result<()> {
        write_all(dir, &[("scoreflow-table.csv", self.csv()), ("scoreflow-table.md", self.markdown())])
    }

    fn csv(&self) -> String {
        let head = [
            "schedule",
            "training",
            "seed",
            "nll",
            "nll_std_error",
            "bound",
            "bound_std_error",
            "flagged",
            "evaluations",
            "frechet",
        ];
        let row = |c: &Cell| {
            let number = |v: f64| table::number(v.is_finite().then_some(v));
            vec![
                c.schedule.to_string(),
                c.training.name().to_string(),
                c.seed.to_string(),
                number(c.nll.0),
                number(c.nll.1),
                number(c.bound.0),
                number(c.bound.1),
                c.flagged.to_string(),
                number(c.evaluations),
                number(c.frechet),
            ]
        };
        table::csv(&head, &self.cells.iter().map(row).collect::<Vec<_>>())
    }

    /// `value` of every repetition of a cell.
    fn over_seeds(&self, schedule: &str, training: Training, value: fn(&Cell) -> f64) -> Vec<f64> {
        let mine = |c: &&Cell| c.schedule == schedule && c.training == training;
        self.cells.iter().filter(mine).map(value).collect()
    }

    /// Mean over repetitions and its standard error of `value`, or of what it is above that of plain DSM.
    fn summary(&self, schedule: &str, training: Training, value: fn(&Cell) -> f64, over_dsm: bool) -> String {
        let mut values = self.over_seeds(schedule, training, value);
        if over_dsm {
            let plain = self.over_seeds(schedule, Training::Sigma2, value);
            values.iter_mut().zip(plain).for_each(|(v, p)| *v -= p);
        }
        table::measured(Some(mean_and_error(&values)), 3)
    }

    fn lines(&self, trainings: &[Training], over_dsm: bool) -> Vec<Vec<String>> {
        let values: [fn(&Cell) -> f64; 3] = [|c| c.nll.0, |c| c.bound.0, |c| c.frechet];
        let mut lines = Vec::new();
        for (schedule, _) in schedules() {
            for &training in trainings {
                let cells = values.iter().map(|&value| self.summary(schedule, training, value, over_dsm));
                lines
                    .push([schedule.to_string(), training.label().into()].into_iter().chain(cells).collect());
            }
        }
        lines
    }

    fn markdown(&self) -> String {
        let (e, head) = (&self.experiment, ["SDE", "training", "NLL ↓", "bound ↓", "FD-rows ↓"]);
        let unit = match self.bits {
            true => "bits per dimension, levels 0…255 dequantised uniformly",
            false => "nats per row, the data's own units",
        };
        let flagged: usize = self.cells.iter().map(|c| c.flagged).sum();
        let published =
            |p: &(&str, &str, &str, &str, &str)| [p.0, p.1, p.2, p.3, p.4].map(String::from).to_vec();
        format!(
            "# Weightings and likelihoods\n\nScoreFlow, Table 2, on {}. Likelihoods in {unit}, of the first {} test rows; mean \
             and standard error over {} repetitions, each with its own split, weights and noise. NLL: probability-flow ODE, \
             rtol = atol = 1e-5; bound: score-matching bound, {} draws per row. FD-rows: Fréchet distance of {} ODE samples to \
             the test rows, in the network's units and without a feature network. Every score: {} steps of Adam on batches \
             of {}. {flagged} rows of {} had a doubtful ODE likelihood and are left out.\n\n{}\n\
             ## Against plain DSM\n\nDifferences within a repetition; less is better. Under VE the two weightings are the same but \
             near t = 0, where σ_t² = σ(t)² − σ(0)² departs from σ(t)².\n\n{}\n\
             ## Published\n\nCIFAR-10, uniform dequantisation, bits per dimension; the last column is the FID of 50,000 samples.\n\n{}\n\
             This run took {:.0} s.\n",
            e.config.data.source,
            self.rows,
            e.seeds,
            e.draws,
            e.samples,
            e.config.train.iterations,
            e.config.train.batch_size,
            self.cells.len() * self.rows,
            table::markdown(&head, &self.lines(&Training::ALL, false)),
            table::markdown(&head, &self.lines(&Training::ALL[1..], true)),
            table::markdown(&head, &PUBLISHED.iter().map(published).collect::<Vec<_>>()),
            self.seconds
        )
    }
}
