//! The experiment's tables and page.

use super::{Detector, Judged, Report};
use crate::layout::{mean, measured, table};
use crate::outcome::Outcome;
use crate::page::Page;
use tweedie::likelihood::mean_and_error;
use tweedie_report::table::{Cell, Table};

/// A figure of a detector on a set.
type Figure = fn(&Judged) -> f64;

impl Report {
    /// What was measured, detector by detector.
    pub fn judged(&self) -> &[Judged] {
        &self.0
    }

    /// The names of the sets, in their order.
    fn sets(&self) -> Vec<&str> {
        let mut all: Vec<&str> = self.0.iter().map(|judged| judged.set.as_str()).collect();
        all.dedup();
        all
    }

    /// A figure of a detector on a set, repetition by repetition, in per cent.
    fn of(&self, set: &str, detector: Detector, figure: Figure) -> Vec<f64> {
        let own = |judged: &&Judged| judged.set == set && judged.detector == detector;
        self.0.iter().filter(own).map(|judged| 100.0 * figure(judged)).collect()
    }

    /// The mean over sets of the means over repetitions, with the standard error over sets.
    fn over_sets(&self, detector: Detector, figure: Figure) -> (f64, f64) {
        let of = |set: &&str| mean_and_error(&self.of(set, detector, figure)).0;
        mean_and_error(&self.sets().iter().map(of).collect::<Vec<f64>>())
    }

    /// `anomaly.csv` and the page.
    pub fn outcome(&self) -> Outcome {
        let auroc: Figure = |judged| judged.auroc;
        let precision: Figure = |judged| judged.average_precision;
        let sets = self.sets().len();
        let page = Page::new()
            .with("sets", sets)
            .table("auroc", &self.page_table(auroc, true))
            .table("precision", &self.page_table(precision, false));
        Outcome::new("anomaly", self.table(), page)
    }

    fn table(&self) -> Table {
        table!(&self.0, |judged| {
            "set" => judged.set.as_str(),
            "columns" => judged.columns,
            "rows_train" => judged.rows[0],
            "rows_normal" => judged.rows[1],
            "rows_anomalous" => judged.rows[2],
            "detector" => judged.detector.name(),
            "auroc" => Cell::number(judged.auroc, 4),
            "average_precision" => Cell::number(judged.average_precision, 4),
            "seconds_train" => Cell::number(judged.seconds[0], 2),
            "seconds_score" => Cell::number(judged.seconds[1], 2),
        })
    }

    /// A line for each set, with a column for each detector, and their means.
    fn page_table(&self, figure: Figure, about: bool) -> Table {
        let names = Detector::ALL.map(|detector| detector.name().to_string());
        let rows = ["training rows × columns".to_string()];
        let seconds = ["s".to_string()];
        let head = ["set".to_string()].into_iter().chain(rows.into_iter().filter(|_| about));
        let mut table = Table::new(head.chain(names).chain(seconds.into_iter().filter(|_| about)));
        for set in self.sets() {
            let first = self.0.iter().find(|judged| judged.set == set).expect("a set of the list");
            let size = format!("{} × {}", first.rows[0], first.columns);
            let figures = Detector::ALL.map(|detector| mean(&self.of(set, detector, figure), 1));
            let about = |cell: Cell| Some(cell).filter(|_| about);
            let spent = self.seconds(set);
            let cells = [Some(Cell::from(set)), about(Cell::from(size))].into_iter().flatten();
            table.push(cells.chain(figures).chain(about(Cell::number(spent, 0))));
        }
        let means =
            Detector::ALL.map(|detector| measured(Some(self.over_sets(detector, figure)), 2));
        let head = [Some(Cell::from("mean")), Some(Cell::Empty).filter(|_| about)];
        let total: f64 = self.sets().iter().map(|set| self.seconds(set)).sum();
        let total = Some(Cell::number(total, 0)).filter(|_| about);
        table.push(head.into_iter().flatten().chain(means).chain(total));
        table
    }

    /// Seconds of a repetition of a set: of the distances, the training and all scores.
    fn seconds(&self, set: &str) -> f64 {
        let own: Vec<&Judged> = self.0.iter().filter(|judged| judged.set == set).collect();
        let repetitions = own.iter().filter(|judged| judged.detector == Detector::Mixture).count();
        let once = |judged: &&&Judged| judged.detector == Detector::Mixture;
        let training: f64 = own.iter().filter(once).map(|judged| judged.seconds[0]).sum();
        let scores = own.iter().filter(|judged| judged.detector != Detector::LastNeighbour);
        let scores: f64 = scores.map(|judged| judged.seconds[1]).sum();
        (training + scores) / repetitions.max(1) as f64
    }
}
