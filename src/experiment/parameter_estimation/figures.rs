//! The experiment's figures.

use super::Report;
use super::draws::Estimator;
use super::gradient_noise::GradientNoise;
use super::loss::Form;
use super::study::{Cell, GROUPS, Setting};
use crate::grid::TimeLaw;
use crate::plot::{LineChart, Scale, Series, Style};

/// File names and contents.
pub fn all(report: &Report) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for setting in [super::overlapping(), super::separated()] {
        files.push((format!("mae-{}.svg", setting.name), consistency(report, &setting)));
        files.push((format!("gradient-noise-{}.svg", setting.name), noise(report, &setting)));
    }
    files
}

/// Mean absolute error against `n`: Likelihood Matching solid, maximum likelihood dashed, and the slope 1/√n.
fn consistency(report: &Report, setting: &Setting) -> String {
    let cells = |ml: bool| -> Vec<&Cell> {
        let is_ml = |c: &Cell| c.estimator == Estimator::MaximumLikelihood;
        report.consistency.iter().filter(|c| c.setting.name == setting.name && is_ml(c) == ml).collect()
    };
    let (ml, lm) = (cells(true), cells(false));
    let sizes = |cells: &[&Cell]| cells.iter().map(|c| c.n as f64).collect::<Vec<_>>();
    let mut series = Vec::new();
    for (colour, (name, group)) in GROUPS.iter().enumerate() {
        let mae = |cells: &[&Cell]| cells.iter().map(|c| c.group_mae(group)).collect::<Vec<_>>();
        let error = lm.iter().map(|c| c.group_mae_error(group)).collect();
        series.push(Series::line(*name, sizes(&lm), mae(&lm)).with_error(error).colour(colour));
        let exact = Series::line(format!("{name}, maximum likelihood"), sizes(&ml), mae(&ml));
        series.push(exact.style(Style::Dashed).colour(colour));
    }
    if let (Some(first), Some(last)) = (lm.first(), lm.last()) {
        let (a, b) = (first.n as f64, last.n as f64);
        let level = 1.4 * first.group_mae(&GROUPS[0].1);
        let slope = Series::line("slope 1/√n", vec![a, b], vec![level, level * (a / b).sqrt()]);
        series.push(slope.style(Style::Faint).colour(GROUPS.len()));
    }
    let name = lm.first().map_or(String::new(), |c| c.estimator.name());
    LineChart {
        title: format!("{} components: {name}", setting.name),
        x_label: "sample size n".into(),
        y_label: "mean absolute error".into(),
        x_scale: Scale::Log,
        y_scale: Scale::Log,
        series,
        ..Default::default()
    }
    .to_svg(640, 420)
}

/// Draws per datum at which noise doubles the variance, against `N`.
fn noise(report: &Report, setting: &Setting) -> String {
    let mut series = Vec::new();
    for (law, law_name) in [(TimeLaw::Uniform, "uniform t"), (TimeLaw::LogSnr, "uniform log-SNR")] {
        for (form, form_name) in [(Form::Path, "path"), (Form::Marginal, "marginal")] {
            let rows: Vec<&GradientNoise> = report
                .noise
                .iter()
                .filter(|g| g.setting.name == setting.name && is(&g.estimator, form, law))
                .collect();
            let x = rows.iter().map(|g| g.estimator.group() as f64).collect();
            let y = rows.iter().map(|g| g.draws_to_match).collect();
            let error = rows.iter().map(|g| g.draws_to_match_error).collect();
            series.push(Series::line(format!("{form_name}, {law_name}"), x, y).with_error(error));
        }
    }
    LineChart {
        title: format!("Noise of the gradient at the truth, {} components", setting.name),
        x_label: "transitions N".into(),
        y_label: "draws per datum that double the variance".into(),
        x_scale: Scale::Log,
        y_scale: Scale::Log,
        series,
        ..Default::default()
    }
    .to_svg(640, 420)
}

/// Whether the estimator is Likelihood Matching of this form on grids of this law.
pub fn is(estimator: &Estimator, form: Form, law: TimeLaw) -> bool {
    matches!(estimator, Estimator::LikelihoodMatching { form: f, law: l, .. } if *f == form && *l == law)
}
