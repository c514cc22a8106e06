//! The report's figures with their captions.

use super::{ReportInputs, base64};
use crate::plot::{
    Histogram, LineChart, Mark, PairGrid, Scale, Series, Style, escape, quantile, sorted_finite, view_range,
};

const WIDTH: u32 = 816;

/// A picture and the sentence that says how to read it.
pub(super) fn figure(picture: &str, caption: &str) -> String {
    format!("<figure>\n{picture}<figcaption>{}</figcaption>\n</figure>\n", escape(caption))
}

pub(super) fn losses(inputs: &ReportInputs) -> String {
    if inputs.losses.is_empty() {
        return String::new();
    }
    let curve = |name: &str, value: &dyn Fn(&super::MetricPoint) -> Option<f64>| {
        let points = inputs.losses.iter().filter_map(|m| value(m).map(|v| (m.iteration as f64, v)));
        let (x, y) = points.unzip();
        Series::line(name, x, y)
    };
    let raw = curve("training, each batch", &|m| Some(m.train_loss));
    let smooth = curve("training, smoothed", &|m| m.train_loss_ema);
    let validation = curve("validation", &|m| m.validation);
    let has_smooth = !smooth.y.is_empty();
    let has_validation = !validation.y.is_empty();
    // The first steps and single batches must not hide what happens after.
    let (values, _) = sorted_finite(raw.y.iter().copied());
    let (core, _) = sorted_finite(smooth.y.iter().chain(&validation.y).copied());
    let range = view_range(&values, 0.02).map(|(lo, hi)| {
        let lo = core.first().map_or(lo, |&c| lo.min(c));
        let hi = hi.max(quantile(&core, 0.98)).max(lo);
        (lo - 0.03 * (hi - lo), hi + 0.03 * (hi - lo))
    });
    let mut series = vec![raw.style(if has_smooth { Style::Faint } else { Style::Solid }).colour(0)];
    if has_smooth {
        series.push(smooth.colour(0));
    }
    if has_validation {
        series.push(validation.colour(1));
    }
    let chart = LineChart {
        x_label: "iteration".into(),
        y_label: if inputs.loss_label.is_empty() { "loss".into() } else { inputs.loss_label.clone() },
        y_range: range.filter(|(lo, hi)| lo < hi),
        series,
        ..Default::default()
    };
    let mut caption = String::from("The loss during training; lower is better");
    if has_validation {
        caption += ", and a validation curve that rises while the training loss falls means overfitting";
    }
    figure(&chart.to_svg(WIDTH, 360), &(caption + "."))
}

pub(super) fn scores(inputs: &ReportInputs) -> String {
    if inputs.scores.iter().all(|s| s.values.is_empty()) {
        return String::new();
    }
    let mut marks: Vec<Mark> = inputs.baselines.iter().map(|(name, at)| Mark::new(name, *at)).collect();
    if let [only] = inputs.scores.as_slice() {
        let (finite, _) = sorted_finite(only.values.iter().copied());
        marks.push(Mark::new("mean", finite.iter().sum::<f64>() / finite.len().max(1) as f64));
    }
    let chart = Histogram {
        x_label: format!("log-likelihood, {}", inputs.unit()),
        samples: inputs.scores.iter().map(|s| (s.name.clone(), s.values.clone())).collect(),
        marks,
        ..Default::default()
    };
    let mut caption = String::from(
        "Log-likelihoods of the test rows, one count per row: mass further right is a better fit, and a long \
         left tail is rows the model finds improbable",
    );
    if !inputs.baselines.is_empty() {
        caption += "; dashed lines are mean log-likelihoods on the same rows";
    }
    figure(&chart.to_svg(WIDTH, 340), &(caption + "."))
}

pub(super) fn likelihood_vs_steps(inputs: &ReportInputs) -> String {
    if inputs.likelihood_vs_steps.iter().all(|s| s.x.is_empty()) {
        return String::new();
    }
    let chart = LineChart {
        x_label: "number of steps K".into(),
        y_label: format!("log-likelihood, {}", inputs.unit()),
        x_scale: Scale::Log,
        y_range: likelihood_range(&inputs.likelihood_vs_steps),
        series: inputs.likelihood_vs_steps.clone(),
        ..Default::default()
    };
    figure(
        &chart.to_svg(WIDTH, 400),
        "The mean log-likelihood bound of the test rows for each covariance of the reverse steps, with bars of \
         ± one standard error: higher is better, and a curve that is high on the left needs few steps.",
    )
}

/// Everything, unless a few very bad values would press the good ones flat: then down to six times the
/// distance from the best to the median. What falls below is counted by the chart.
fn likelihood_range(series: &[Series]) -> Option<(f64, f64)> {
    let (values, _) = sorted_finite(series.iter().flat_map(|s| s.y.iter().copied()));
    let (worst, best) = (*values.first()?, *values.last()?);
    let reach = 6.0 * (best - quantile(&values, 0.5));
    if best - worst <= reach {
        return None;
    }
    (reach > 0.0).then_some((best - reach, best + 0.08 * reach))
}

pub(super) fn pairs(inputs: &ReportInputs) -> String {
    if inputs.column_names.is_empty() || (inputs.data.is_empty() && inputs.samples.is_empty()) {
        return String::new();
    }
    let sets = [("data", &inputs.data), (inputs.sample_label(), &inputs.samples)];
    let grid = PairGrid {
        names: inputs.column_names.clone(),
        sets: sets.into_iter().filter(|s| !s.1.is_empty()).map(|(l, r)| (l.to_string(), r.clone())).collect(),
        max_columns: 6,
        ..Default::default()
    };
    let columns = inputs.column_names.len();
    let first = if columns > 6 { format!(" The first 6 of {columns} columns.") } else { String::new() };
    figure(
        &grid.to_svg(WIDTH),
        &format!(
            "Histograms on the diagonal, up to 1,000 rows of each set below it, Pearson correlations above it: \
             where the two colours cover each other, the model has learnt the marginals and dependences.{first}"
        ),
    )
}

pub(super) fn sheets(inputs: &ReportInputs) -> String {
    let sheet = |(caption, png): &(String, Vec<u8>)| {
        let picture = format!(
            "<img alt=\"{}\" src=\"data:image/png;base64,{}\"/>\n",
            escape(caption),
            base64::encode(png)
        );
        figure(&picture, caption)
    };
    inputs.sheets.iter().map(sheet).collect()
}
