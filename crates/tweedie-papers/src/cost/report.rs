//! The table and figures of the experiment, with the published values beside ours.

use std::path::Path;

use super::arm::Trained;
use super::{Measured, Report, Timing};
use crate::{table, write_all};
use tweedie::Result;
use tweedie::model::HeadTrunk;
use tweedie_report::plot::{LineChart, Series};

/// One row of Tables 3 and 4: name, training s/iteration and MB, the same of the head alone, s per
/// 1000 sampling steps.
type Published = (&'static str, f64, f64, Option<(f64, f64)>, f64);

/// Table 3. The ranks of the last two rows are 100 and 200 by the text; that of the third row is
/// lost in our copy.
const CIFAR: [Published; 5] = [
    ("SM", 0.291, 17_247.0, None, 12.66),
    ("LM, r = 0", 0.599, 36_220.0, Some((0.303, 8_286.0)), 20.83),
    ("LM, r not known", 0.617, 36_428.0, Some((0.324, 8_418.0)), 21.48),
    ("LM, r = 100", 0.664, 38_822.0, Some((0.369, 11_452.0)), 23.61),
    ("LM, r = 200", 0.756, 40_444.0, Some((0.463, 13_302.0)), 27.65),
];

/// Table 4, whose ranks are lost in our copy; in the order of the page.
const IMAGENET: [Published; 5] = [
    ("SM", 0.155, 17_183.0, None, 34.6),
    ("LM, 1st row", 0.566, 49_287.0, Some((0.362, 28_943.0)), 68.5),
    ("LM, 2nd row", 0.571, 49_641.0, Some((0.370, 29_057.0)), 69.8),
    ("LM, 3rd row", 0.583, 50_213.0, Some((0.384, 29_913.0)), 71.2),
    ("LM, 4th row", 0.598, 51_357.0, Some((0.403, 31_163.0)), 74.0),
];

const MIB: f64 = 1024.0 * 1024.0;

impl Report {
    /// Writes `cost.csv`, `cost.md` and the figures into `dir`.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let sampling = self.figure("Sampling", "time of a sampling step over SM's", |m| {
            self.of_sm(m.sampling.as_ref()?, |sm| sm.sampling.as_ref())
        });
        let training = self.figure("Training", "time of an iteration over SM's", |m| {
            self.of_sm(&m.iteration, |sm| Some(&sm.iteration))
        });
        let mut files = vec![
            ("cost.csv", self.csv()),
            ("cost.md", self.markdown()),
            ("cost-training.svg", training),
            ("cost-sampling.svg", sampling),
        ];
        if self.memory_known() {
            files.push((
                "cost-memory.svg",
                self.figure("Memory", "peak memory over SM's", |m| self.memory_of_sm(m)),
            ));
        }
        write_all(dir, &files)
    }

    fn sm(&self) -> &Measured {
        &self.arms[0]
    }

    /// A ratio of medians.
    fn of_sm(&self, timing: &Timing, of: impl Fn(&Measured) -> Option<&Timing>) -> Option<f64> {
        Some(timing.median() / of(self.sm())?.median())
    }

    fn memory_of_sm(&self, measured: &Measured) -> Option<f64> {
        Some(measured.memory?.bytes() as f64 / self.sm().memory?.bytes() as f64)
    }

    fn memory_known(&self) -> bool {
        self.arms.iter().all(|m| m.memory.is_some())
    }

    fn csv(&self) -> String {
        let head = [
            "arm",
            "rank",
            "trained_parameters",
            "iteration_s_q1",
            "iteration_s_median",
            "iteration_s_q3",
            "iteration_over_sm",
            "memory_before_bytes",
            "memory_peak_bytes",
            "memory_over_sm",
            "sampling_s_per_1000_q1",
            "sampling_s_per_1000_median",
            "sampling_s_per_1000_q3",
            "sampling_over_sm",
        ];
        let three = |t: Option<&Timing>| {
            (0..3).map(|i| table::number(t.map(|t| t.quartiles[i]))).collect::<Vec<_>>()
        };
        let rows: Vec<Vec<String>> = self
            .arms
            .iter()
            .map(|m| {
                let mut row = vec![
                    m.arm.name(),
                    m.arm.rank.map_or(String::new(), |r| r.to_string()),
                    m.parameters.to_string(),
                ];
                row.extend(three(Some(&m.iteration)));
                row.push(table::number(self.of_sm(&m.iteration, |sm| Some(&sm.iteration))));
                let bytes = |of: fn(&super::Peak) -> u64| {
                    m.memory.as_ref().map_or(String::new(), |p| of(p).to_string())
                };
                row.extend([
                    bytes(|p| p.before),
                    bytes(|p| p.highest),
                    table::number(self.memory_of_sm(m)),
                ]);
                row.extend(three(m.sampling.as_ref()));
                row.push(table::number(
                    m.sampling.as_ref().and_then(|t| self.of_sm(t, |sm| sm.sampling.as_ref())),
                ));
                row
            })
            .collect();
        table::csv(&head, &rows)
    }

    fn markdown(&self) -> String {
        let e = &self.experiment;
        let [channels, height, width] = e.network.shape;
        let mut out = format!(
            "# Cost of Likelihood Matching beside score matching\n\n\
             Likelihood Matching, Tables 3 and 4. Device {:?}, {} threads; noise images of {channels} × {height} × {width}; \
             U-Net of widths {:?}, {} blocks each, for a covariance network of its own {:?}, {}; dropout {}. Each \
             iteration takes {} pairs (x_t, t): {} images for SM, {} images with N = {} transitions for LM. Score and \
             head are trained by the quasi-likelihood (joint); head only: the score is frozen. {} rounds, one iteration of \
             every arm in turn; medians, in brackets the quartiles; ratios are of medians to SM. Sampling: ancestral \
             steps for {} images at a time, LM with the learned covariance, SM with H = 0.\n\n",
            e.device,
            tch::get_num_threads(),
            e.network.widths,
            e.network.blocks,
            e.network.head_widths,
            e.network.head_blocks,
            e.network.dropout,
            e.pairs,
            e.pairs,
            e.pairs / e.transitions,
            e.transitions,
            e.rounds,
            e.pairs,
        );
        let memory = self.memory_known();
        let mut head = vec!["", "trained parameters", "s / iteration", "over SM"];
        if memory {
            head.extend(["peak memory, MiB", "over SM"]);
        }
        head.extend(["s / 1000 sampling steps", "over SM"]);
        let ratio = |value: Option<f64>| value.map_or(String::new(), |v| format!("{v:.2}"));
        let rows: Vec<Vec<String>> = self
            .arms
            .iter()
            .map(|m| {
                let mut row = vec![
                    m.arm.label(),
                    m.parameters.to_string(),
                    timing(&m.iteration),
                    ratio(self.of_sm(&m.iteration, |sm| Some(&sm.iteration))),
                ];
                if let (true, Some(peak)) = (memory, m.memory) {
                    row.extend([
                        format!("{:.0}", peak.bytes() as f64 / MIB),
                        ratio(self.memory_of_sm(m)),
                    ]);
                }
                let sampling = m.sampling.as_ref();
                row.push(sampling.map_or(String::new(), timing));
                row.push(ratio(sampling.and_then(|t| self.of_sm(t, |sm| sm.sampling.as_ref()))));
                row
            })
            .collect();
        out += &table::markdown(&head, &rows);
        out += if memory {
            "\nPeak memory: two iterations in a process of its own; the highest resident memory less what was resident \
             before the model was made.\n"
        } else {
            "\nPeak memory is left out: it is measured on a CPU under Linux alone, where the system tells it.\n"
        };
        out += "\nHead-only training samples as the joint one does.\n";
        for (title, rows) in [
            ("Published: Table 3, CIFAR-10, batch 128, one A100, two networks", &CIFAR),
            (
                "Published: Table 4, ImageNet (resolution and batch not known), two networks",
                &IMAGENET,
            ),
        ] {
            out += &format!("\n## {title}\n\n{}", published(rows));
        }
        out += "\nRatios to SM in brackets. The paper counts images per iteration, we count pairs (x_t, t); with more than \
                one transition per image its iteration would do more work than ours. Its memory is that of a GPU's \
                allocator.\n";
        out += &format!("\nThis run took {:.0} s.\n", self.seconds);
        out
    }

    /// A ratio against the rank, one curve per layout.
    fn figure(
        &self,
        title: &str,
        y_label: &str,
        value: impl Fn(&Measured) -> Option<f64>,
    ) -> String {
        let mut series = Vec::new();
        for trained in [Trained::Both, Trained::Head] {
            for trunk in [HeadTrunk::Shared, HeadTrunk::Separate] {
                let of = |m: &&Measured| {
                    m.arm.rank.is_some() && m.arm.trained == trained && m.arm.trunk == trunk
                };
                let (x, y): (Vec<f64>, Vec<f64>) = self
                    .arms
                    .iter()
                    .filter(of)
                    .filter_map(|m| Some((m.arm.rank? as f64, value(m)?)))
                    .unzip();
                if !x.is_empty() {
                    let trunk = if trunk == HeadTrunk::Separate {
                        "network of its own"
                    } else {
                        "shared trunk"
                    };
                    let what = if trained == Trained::Head { "head only" } else { "LM" };
                    series.push(Series::line(format!("{what}, {trunk}"), x, y));
                }
            }
        }
        LineChart {
            title: format!("{title}: Likelihood Matching over score matching"),
            x_label: "rank r of the covariance".into(),
            y_label: y_label.into(),
            series,
            ..Default::default()
        }
        .to_svg(720, 420)
    }
}

fn timing(timing: &Timing) -> String {
    let [low, middle, high] = timing.quartiles;
    format!("{middle:.3} ({low:.3}–{high:.3})")
}

fn published(rows: &[Published]) -> String {
    let sm = rows[0];
    let beside =
        |value: f64, sm: f64, digits: usize| format!("{value:.digits$} ({:.2})", value / sm);
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                row.0.into(),
                beside(row.1, sm.1, 3),
                beside(row.2, sm.2, 0),
                row.3.map_or(String::new(), |head| beside(head.0, sm.1, 3)),
                row.3.map_or(String::new(), |head| beside(head.1, sm.2, 0)),
                beside(row.4, sm.4, 2),
            ]
        })
        .collect();
    let head = [
        "",
        "s / iteration",
        "MB",
        "head only, s / iteration",
        "head only, MB",
        "s / 1000 sampling steps",
    ];
    table::markdown(&head, &rows)
}
