//! The table and figures of the experiment.

use tch::Device;

use super::arm::Trained;
use super::{Measured, Report, Timing};
use crate::images::in_words;
use crate::layout::{LINEAR, chart, table};
use crate::outcome::Outcome;
use crate::page::Page;
use tweedie::model::HeadTrunk;
use tweedie_report::plot::Series;
use tweedie_report::table::{Cell, Table};

const MIB: f64 = 1024.0 * 1024.0;

impl Report {
    /// `cost.csv`, the page and the figures.
    pub fn outcome(&self, device: Device) -> Outcome {
        let e = &self.experiment;
        let [channels, height, width] = e.shape();
        let part = |there: bool| there.then(Page::new);
        let page = Page::new()
            .with("device", format!("{device:?}"))
            .with("threads", tch::get_num_threads())
            .with("shape", format!("{channels} × {height} × {width}"))
            .with("network", in_words(&e.network))
            .with("images", e.pairs / e.transitions)
            .table("ours", &self.page_table())
            .when("memory", part(self.memory_known()))
            .when("no memory", part(!self.memory_known()));
        let training = self.figure("Training", "time of an iteration over SM's", |m| {
            self.of_sm(&m.iteration, |sm| Some(&sm.iteration))
        });
        let sampling = self
            .figure("Sampling", "time of a sampling step over SM's", |m| self.sampling_of_sm(m));
        let outcome = Outcome::new("cost", self.table(), page)
            .figure("cost-training.svg", training)
            .figure("cost-sampling.svg", sampling);
        if !self.memory_known() {
            return outcome;
        }
        let memory = |m: &Measured| self.memory_of_sm(m);
        outcome.figure("cost-memory.svg", self.figure("Memory", "peak memory over SM's", memory))
    }

    fn sm(&self) -> &Measured {
        &self.arms[0]
    }

    /// A ratio of medians.
    fn of_sm(&self, timing: &Timing, of: impl Fn(&Measured) -> Option<&Timing>) -> Option<f64> {
        Some(timing.median() / of(self.sm())?.median())
    }

    fn sampling_of_sm(&self, measured: &Measured) -> Option<f64> {
        self.of_sm(measured.sampling.as_ref()?, |sm| sm.sampling.as_ref())
    }

    fn memory_of_sm(&self, measured: &Measured) -> Option<f64> {
        Some(measured.memory?.bytes() as f64 / self.sm().memory?.bytes() as f64)
    }

    fn memory_known(&self) -> bool {
        self.arms.iter().all(|m| m.memory.is_some())
    }

    fn table(&self) -> Table {
        let quartile = |timing: Option<&Timing>, i: usize| {
            timing.map(|timing| Cell::number(timing.quartiles[i], 3))
        };
        table!(&self.arms, |m| {
            "arm" => m.arm.name(),
            "rank" => m.arm.rank.map(|rank| rank.to_string()),
            "trained_parameters" => m.parameters as u64,
            "iteration_s_q1" => quartile(Some(&m.iteration), 0),
            "iteration_s_median" => quartile(Some(&m.iteration), 1),
            "iteration_s_q3" => quartile(Some(&m.iteration), 2),
            "iteration_over_sm" => ratio(self.of_sm(&m.iteration, |sm| Some(&sm.iteration))),
            "memory_before_bytes" => m.memory.map(|peak| peak.before),
            "memory_peak_bytes" => m.memory.map(|peak| peak.highest),
            "memory_over_sm" => ratio(self.memory_of_sm(m)),
            "sampling_s_per_1000_q1" => quartile(m.sampling.as_ref(), 0),
            "sampling_s_per_1000_median" => quartile(m.sampling.as_ref(), 1),
            "sampling_s_per_1000_q3" => quartile(m.sampling.as_ref(), 2),
            "sampling_over_sm" => ratio(self.sampling_of_sm(m)),
        })
    }

    fn page_table(&self) -> Table {
        let memory = self.memory_known();
        let mut head = vec!["", "trained parameters", "s / iteration", "over SM"];
        if memory {
            head.extend(["peak memory, MiB", "over SM"]);
        }
        head.extend(["s / 1000 sampling steps", "over SM"]);
        let mut table = Table::new(head);
        for m in &self.arms {
            let mut row = vec![
                m.arm.label().into(),
                (m.parameters as u64).into(),
                timing(&m.iteration).into(),
                ratio(self.of_sm(&m.iteration, |sm| Some(&sm.iteration))),
            ];
            if let (true, Some(peak)) = (memory, m.memory) {
                let mib = Cell::number(peak.bytes() as f64 / MIB, 0);
                row.extend([mib, ratio(self.memory_of_sm(m))]);
            }
            row.push(m.sampling.as_ref().map(timing).into());
            row.push(ratio(self.sampling_of_sm(m)));
            table.push(row);
        }
        table
    }

    /// A ratio against the rank, one curve per layout.
    fn figure(
        &self,
        title: &str,
        y_label: &str,
        value: impl Fn(&Measured) -> Option<f64>,
    ) -> String {
        let layouts = [Trained::Both, Trained::Head].into_iter().flat_map(|trained| {
            [HeadTrunk::Shared, HeadTrunk::Separate].map(|trunk| (trained, trunk))
        });
        let line = |(trained, trunk): (Trained, HeadTrunk)| {
            let mine =
                self.arms.iter().filter(|m| (m.arm.trained, m.arm.trunk) == (trained, trunk));
            let points = mine.filter_map(|m| Some((m.arm.rank? as f64, value(m)?)));
            let (x, y): (Vec<f64>, Vec<f64>) = points.unzip();
            let separate = trunk == HeadTrunk::Separate;
            let trunk = if separate { "network of its own" } else { "shared trunk" };
            let what = if trained == Trained::Head { "head only" } else { "LM" };
            (!x.is_empty()).then(|| Series::line(format!("{what}, {trunk}"), x, y))
        };
        let title = format!("{title}: Likelihood Matching over score matching");
        let series = layouts.filter_map(line).collect();
        chart(title, ["rank r of the covariance", y_label], LINEAR, series)
    }
}

fn ratio(value: Option<f64>) -> Cell {
    value.map(|value| Cell::number(value, 2)).into()
}

fn timing(timing: &Timing) -> String {
    let [low, middle, high] = timing.quartiles;
    format!("{middle:.3} ({low:.3}–{high:.3})")
}
