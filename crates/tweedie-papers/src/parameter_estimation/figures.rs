//! The experiment's figures.

use super::Report;
use super::draws::Estimator;
use super::gradient_noise::GradientNoise;
use super::loss::Form;
use super::study::Setting;
use tweedie::grid::TimeLaw;
use tweedie_report::plot::{LineChart, Scale, Series};

/// File names and contents.
pub fn all(report: &Report) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for setting in [super::overlapping(), super::separated()] {
        files.push((format!("gradient-noise-{}.svg", setting.name), noise(report, &setting)));
    }
    files
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
