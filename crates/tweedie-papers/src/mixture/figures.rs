//! The experiment's figures.

use super::Report;
use super::arm::Curve;
use super::law::Law;
use tweedie::Result;
use tweedie::covariance::CovarianceConfig;
use tweedie_report::plot::{DensityChart, GaussianKde, LineChart, Scale, Series, Style};

/// File names and contents.
pub(super) fn all(report: &Report) -> Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    for (law, letter) in [(Law::Gaussian, 'a'), (Law::StudentT, 'b')] {
        if report.curves.iter().any(|c| c.law == law) {
            files.push((format!("figure-2{letter}.svg"), figure2(report, law)));
            files.push((format!("figure-3a-{}.svg", law.name()), density(report, law)?));
        }
    }
    Ok(files)
}

/// MMD² against `K`.
fn figure2(report: &Report, law: Law) -> String {
    let steps: Vec<f64> = report.experiment.steps.iter().map(|k| *k as f64).collect();
    let mut series = Vec::new();
    for curve in report.main_curves(law) {
        let exact = curve.arm == super::report::EXACT;
        if exact && !matches!(curve.covariance, Some(CovarianceConfig::Own)) {
            continue;
        }
        let values = |f: fn(&super::arm::Point) -> f64| -> Vec<f64> {
            report.experiment.steps.iter().map(|k| curve.at(*k).map_or(f64::NAN, f)).collect()
        };
        let line = Series::line(label(curve), steps.clone(), values(|p| p.mean()));
        series.push(match (exact, curve.covariance) {
            (false, Some(_)) => line.with_error(values(|p| p.std_error())),
            (true, _) => line.with_error(values(|p| p.std_error())).style(Style::Dashed),
            (_, None) => line.style(Style::Dashed),
        });
    }
    LineChart {
        title: format!("{}: distance to the law against sampling steps", law.formula()),
        x_label: "sampling steps K".into(),
        y_label: "MMD², mean ± s.e. over trials".into(),
        x_scale: Scale::Log,
        y_scale: Scale::Log,
        series,
        ..Default::default()
    }
    .to_svg(720, 460)
}

/// A curve's name in legends and tables.
pub(super) fn label(curve: &Curve) -> String {
    match curve.covariance {
        None | Some(CovarianceConfig::Own) => curve.arm.clone(),
        Some(covariance) => format!("{}, {}", curve.arm, covariance.label()),
    }
}

/// Estimated densities of the samples at the number of steps nearest to 10, of the first trials
/// together, beside the law's.
fn density(report: &Report, law: Law) -> Result<String> {
    // a fixed bandwidth: Silverman's would take the distance of the modes for their width
    const BANDWIDTH: f64 = 0.2;
    let range = (-16.0, 16.0);
    let steps =
        report.experiment.steps.iter().copied().min_by_key(|k| k.abs_diff(10)).unwrap_or(10);
    let x = tweedie_report::plot::linspace(range, 400);
    let exact: Result<Vec<f64>> = x.iter().map(|x| law.density(*x)).collect();
    let truth = Series::line("law", x, exact?);
    let mut curves = vec![truth.style(Style::Dashed)];
    for curve in report.main_curves(law) {
        let shown = match curve.covariance {
            Some(CovarianceConfig::Beta) => curve.arm == super::report::SM,
            Some(CovarianceConfig::Own) => {
                curve.arm == super::report::EXACT
                    || Some(curve.arm.as_str()) == report.reference_arm().as_deref()
            }
            _ => false,
        };
        if let (true, Some(point)) = (shown, curve.at(steps)) {
            let kde = GaussianKde::with_bandwidth(&point.samples, BANDWIDTH);
            curves.push(Series::curve(label(curve), range, 400, |x| kde.density(x)));
        }
    }
    Ok(DensityChart {
        title: format!("{}: samples in {steps} steps, kernel width {BANDWIDTH}", law.formula()),
        x_label: "x".into(),
        curves,
        x_range: Some(range),
        ..Default::default()
    }
    .to_svg(720, 400))
}
