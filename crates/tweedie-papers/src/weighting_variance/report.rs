//! The experiment's table, page and learning curves.

use std::path::Path;

use super::{Arm, Curve, Report, processes};
use crate::{table, write_all};
use tweedie::Result;
use tweedie::likelihood::mean_and_error;
use tweedie_report::plot::{LineChart, Scale, Series, Style};

/// Decay of the moving average over steps that smooths a learning curve.
const SMOOTH: f64 = 0.99;
/// Points of a learning curve.
const POINTS: usize = 1000;

impl Report {
    /// Writes `weighting-variance.csv`, `weighting-variance-curves.csv`, `weighting-variance.md`
    /// and Figure 2 for each process into `dir`.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let mut files = vec![
            ("weighting-variance.csv".to_string(), self.csv()),
            ("weighting-variance-curves.csv".to_string(), self.curves_csv()),
            ("weighting-variance.md".to_string(), self.markdown()),
        ];
        for schedule in processes().map(|process| process.name()) {
            files
                .push((format!("figure-2-{}.svg", schedule.to_lowercase()), self.figure(schedule)));
        }
        write_all(dir, &files)
    }

    fn of<'a>(&'a self, schedule: &'a str, arm: Arm) -> impl Iterator<Item = &'a Curve> {
        self.curves.iter().filter(move |c| c.schedule == schedule && c.arm == arm)
    }

    /// The variance of a step's loss over that of the likelihood weighting with uniform `t`: mean
    /// and standard error over trainings, paired.
    fn ratio(&self, schedule: &str, arm: Arm) -> (f64, f64) {
        let uniform = self.of(schedule, Arm::Likelihood);
        let ratios = self.of(schedule, arm).zip(uniform).map(|(a, b)| a.variance() / b.variance());
        mean_and_error(&ratios.collect::<Vec<_>>())
    }

    fn over_trials(&self, schedule: &str, arm: Arm, f: impl Fn(&Curve) -> f64) -> (f64, f64) {
        mean_and_error(&self.of(schedule, arm).map(f).collect::<Vec<_>>())
    }

    fn csv(&self) -> String {
        let head =
            ["schedule", "arm", "trial", "mean_loss", "loss_variance", "bound", "bound_std_error"];
        let rows = self.curves.iter().map(|c| {
            vec![
                c.schedule.to_string(),
                c.arm.name().to_string(),
                c.trial.to_string(),
                format!("{:.6e}", c.mean()),
                format!("{:.6e}", c.variance()),
                format!("{:.6}", c.bound.0),
                format!("{:.6}", c.bound.1),
            ]
        });
        table::csv(&head, &rows.collect::<Vec<_>>())
    }

    fn curves_csv(&self) -> String {
        let head = ["schedule", "arm", "trial", "step", "loss", "smoothed"];
        let rows = self.curves.iter().flat_map(|c| {
            thinned(&c.losses).into_iter().map(|(step, loss, smooth)| {
                vec![
                    c.schedule.to_string(),
                    c.arm.name().to_string(),
                    c.trial.to_string(),
                    step.to_string(),
                    format!("{loss:.6e}"),
                    format!("{smooth:.6e}"),
                ]
            })
        });
        table::csv(&head, &rows.collect::<Vec<_>>())
    }

    fn markdown(&self) -> String {
        let e = &self.experiment;
        let mut out = format!(
            "# The variance of the loss\n\nScoreFlow, §5 and Figure 2. {} {} Gradients are shortened to 1, as in the paper. {} \
             trainings of each; ± one standard error over them. Seed {}.\n\n*Variance*: of the loss of a step (a batch's \
             mean) over the last half of the training, by differences of neighbouring steps; *ratio*: to the likelihood \
             weighting with uniform t of the same training's seed. Both laws of t have the same loss on average; σ² \
             weighting has another, so that its relative variance, over the squared mean, stands beside. *Bound*: ScoreFlow's \
             bound on test rows after training, whatever was minimised.\n",
            self.rows,
            e.recipe.describe(),
            e.trials,
            e.seed
        );
        for schedule in processes().map(|process| process.name()) {
            let head =
                ["", "mean loss", "variance", "ratio", "relative variance", "bound, nats per row"];
            let number = |(mean, error): (f64, f64)| match error.is_finite() {
                true => format!("{mean:.3e} ± {error:.0e}"),
                false => format!("{mean:.3e}"),
            };
            let rows = Arm::ALL.map(|arm| {
                let of = |f: fn(&Curve) -> f64| self.over_trials(schedule, arm, f);
                vec![
                    arm.name().to_string(),
                    number(of(Curve::mean)),
                    number(of(Curve::variance)),
                    // another loss, another scale
                    if arm == Arm::Sigma2 {
                        String::new()
                    } else {
                        number(self.ratio(schedule, arm))
                    },
                    number(of(|c| c.variance() / c.mean().powi(2))),
                    table::measured(Some(of(|c| c.bound.0)), 3),
                ]
            });
            out += &format!("\n## {schedule}\n\n{}", table::markdown(&head, &rows));
            out += &format!("\n![](figure-2-{}.svg)\n", schedule.to_lowercase());
        }
        out += "\n## Published\n\nFigure 2 has learning curves of DDPM++ on CIFAR-10 and ImageNet 32×32, no numbers: without \
                importance sampling the loss with likelihood weighting is much noisier.\n";
        out + &format!("\nThis run took {:.0} s.\n", self.seconds)
    }

    /// Learning curves of the first training of every arm: the loss of steps, and its moving
    /// average.
    fn figure(&self, schedule: &str) -> String {
        let mut series = Vec::new();
        for (colour, arm) in Arm::ALL.into_iter().enumerate() {
            let Some(curve) = self.of(schedule, arm).next() else { continue };
            let points = thinned(&curve.losses);
            let x: Vec<f64> = points.iter().map(|p| p.0 as f64).collect();
            let raw = Series::line("", x.clone(), points.iter().map(|p| p.1).collect());
            series.push(raw.style(Style::Faint).colour(colour));
            let smooth = Series::line(arm.name(), x, points.iter().map(|p| p.2).collect());
            series.push(smooth.colour(colour));
        }
        LineChart {
            title: format!(
                "{schedule}: loss while training, and its moving average over steps ({SMOOTH})"
            ),
            x_label: "steps".into(),
            y_label: "loss of a step".into(),
            y_scale: Scale::Log,
            series,
            ..Default::default()
        }
        .to_svg(760, 480)
    }
}

/// Step, loss and moving average (its start corrected) of at most [`POINTS`] steps.
fn thinned(losses: &[f64]) -> Vec<(usize, f64, f64)> {
    let every = losses.len().div_ceil(POINTS).max(1);
    let (mut average, mut weight) = (0.0, 0.0);
    let mut points = Vec::new();
    for (i, &loss) in losses.iter().enumerate() {
        average = SMOOTH * average + (1.0 - SMOOTH) * loss;
        weight = SMOOTH * weight + (1.0 - SMOOTH);
        if (i + 1).is_multiple_of(every) {
            points.push((i + 1, loss, average / weight));
        }
    }
    points
}
