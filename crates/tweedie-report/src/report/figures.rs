//! The report's figures with their captions.

use super::columns::most_different;
use super::{MetricPoint, ReportInputs, base64};
use crate::plot::{
    Histogram, LineChart, Mark, PairGrid, Scale, Series, Style, escape, grouped, quantile, short,
    sorted_finite, view_range,
};

const WIDTH: u32 = 816;
/// Columns of the pairs plot.
const PAIRS: usize = 6;

/// A picture and the sentence that says how to read it.
pub(super) fn figure(picture: &str, caption: &str) -> String {
    format!("<figure>\n{picture}<figcaption>{}</figcaption>\n</figure>\n", escape(caption))
}

/// What each half of the training's section shows: two quantities in two units, each on an axis of
/// its own.
pub(super) fn training(inputs: &ReportInputs) -> String {
    losses(inputs) + &validation(inputs)
}

/// One curve over the iterations at which it has a value.
fn curve(inputs: &ReportInputs, name: &str, value: impl Fn(&MetricPoint) -> Option<f64>) -> Series {
    let points = inputs.losses.iter().filter_map(|m| value(m).map(|v| (m.iteration as f64, v)));
    let (x, y) = points.unzip();
    Series::line(name, x, y)
}

/// From 0 to a little after the last iteration that any curve has, so that both charts have one x
/// axis.
fn iterations(inputs: &ReportInputs) -> Option<(f64, f64)> {
    let last = inputs.losses.iter().map(|m| m.iteration).max()?;
    Some((0.0, 1.02 * last.max(1) as f64))
}

fn losses(inputs: &ReportInputs) -> String {
    if inputs.losses.iter().all(|m| m.train_loss.is_nan()) {
        return String::new();
    }
    let raw = curve(inputs, "training loss", |m| Some(m.train_loss));
    let smooth = curve(inputs, "smoothed", |m| m.train_loss_ema);
    let has_smooth = !smooth.y.is_empty();
    // The first steps and single batches must not hide what happens after.
    let (values, _) = sorted_finite(raw.y.iter().copied());
    let (core, _) = sorted_finite(smooth.y.iter().copied());
    let mut series =
        vec![raw.style(if has_smooth { Style::Faint } else { Style::Solid }).colour(0)];
    if has_smooth {
        series.push(smooth.colour(0));
    }
    let chart = LineChart {
        x_label: "iteration".into(),
        y_label: if inputs.loss_label.is_empty() {
            "loss".into()
        } else {
            inputs.loss_label.clone()
        },
        x_range: iterations(inputs),
        y_range: bulk(&values, &core),
        series,
        ..Default::default()
    };
    let caption = "The training loss, the mean over the iterations since the point before, in the objective's own \
                   units: lower is better. It is another quantity than the validation's, and the two cannot be \
                   held against each other.";
    figure(&chart.to_svg(WIDTH, 300), caption)
}

fn validation(inputs: &ReportInputs) -> String {
    let curve = curve(inputs, "validation", |m| m.validation);
    if curve.y.is_empty() {
        return String::new();
    }
    let lower = inputs.lower_validation_is_better;
    let sign = if lower { -1.0 } else { 1.0 };
    let by_x = |&(_, a): &(f64, f64), &(_, b): &(f64, f64)| (sign * a).total_cmp(&(sign * b));
    let mut points = curve.x.iter().copied().zip(curve.y.iter().copied());
    let best = points.clone().filter(|(_, y)| y.is_finite()).max_by(by_x);
    let last = points.next_back();
    let label = match inputs.validation_label.as_str() {
        "" => "validation",
        label => label,
    };
    let marks = inputs.kept_iteration.map(|at| Mark::new("kept", at as f64));
    let (values, _) = sorted_finite(curve.y.iter().copied());
    let mut caption = format!(
        "The figure of held-out rows by which weights are chosen, of the averaged weights: {label}; {} is better.",
        if lower { "lower" } else { "higher" }
    );
    if let (Some((at, best)), Some((end, last))) = (best, last) {
        caption += &match (at < end, last.is_finite()) {
            (true, true) => format!(
                " The best is {} at iteration {}; at the last, {}, it was {}.",
                short(best, 5),
                grouped(at as usize),
                grouped(end as usize),
                short(last, 5)
            ),
            _ => {
                format!(
                    " The best, {}, is the last, at iteration {}.",
                    short(best, 5),
                    grouped(at as usize)
                )
            }
        };
    }
    if let Some(kept) = inputs.kept_iteration {
        caption += &format!(" The run keeps the weights of iteration {}.", grouped(kept as usize));
    }
    let chart = LineChart {
        x_label: "iteration".into(),
        y_label: label.into(),
        x_range: iterations(inputs),
        y_range: bulk(&values, &[]),
        series: vec![curve.colour(1)],
        marks: marks.into_iter().collect(),
        ..Default::default()
    };
    figure(&chart.to_svg(WIDTH, 300), &caption)
}

/// The range of a curve of ascending `values` in which a few stragglers do not press the rest flat,
/// and all of the ascending `core` is seen.
fn bulk(values: &[f64], core: &[f64]) -> Option<(f64, f64)> {
    let (lo, hi) = view_range(values, 0.02)?;
    let lo = core.first().map_or(lo, |&c| lo.min(c));
    let hi = hi.max(quantile(core, 0.98)).max(lo);
    let range = (lo - 0.03 * (hi - lo), hi + 0.03 * (hi - lo));
    (range.0 < range.1).then_some(range)
}

pub(super) fn scores(inputs: &ReportInputs) -> String {
    if inputs.scores.iter().all(|s| s.values.is_empty()) {
        return String::new();
    }
    let mark = |name: &str, values: &[f64]| {
        let (finite, _) = sorted_finite(values.iter().copied());
        Mark::new(name, finite.iter().sum::<f64>() / finite.len() as f64)
    };
    let mut marks: Vec<Mark> =
        inputs.baselines.iter().map(|other| mark(&other.name, &other.values)).collect();
    if let [only] = inputs.scores.as_slice() {
        marks.push(mark("mean", &only.values));
    }
    marks.retain(|mark| mark.at.is_finite());
    let chart = Histogram {
        x_label: inputs.quantity(),
        samples: inputs.scores.iter().map(|s| (s.name.clone(), s.values.clone())).collect(),
        marks,
        ..Default::default()
    };
    let mut caption = String::from(match inputs.lower_is_better {
        true => {
            "Bits per dimension of the test rows, one count per row: mass further left is a better fit, and a long \
             right tail is rows the model finds improbable"
        }
        false => {
            "Log-likelihoods of the test rows, one count per row: mass further right is a better fit, and a long \
             left tail is rows the model finds improbable"
        }
    });
    if !inputs.baselines.is_empty() {
        caption += "; dashed lines are the means of other models on the same rows";
    }
    figure(&chart.to_svg(WIDTH, 340), &(caption + "."))
}

pub(super) fn likelihood_vs_steps(inputs: &ReportInputs) -> String {
    let all = &inputs.likelihood_vs_steps;
    if all.iter().all(|s| s.x.is_empty()) {
        return String::new();
    }
    let range = likelihood_range(all, inputs.lower_is_better);
    let in_range = |y: f64| y.is_finite() && range.is_none_or(|(lo, hi)| (lo..=hi).contains(&y));
    let (mut shown, mut elsewhere) = (Vec::new(), Vec::new());
    for (colour, series) in all.iter().enumerate() {
        match series.y.iter().any(|&y| in_range(y)) {
            true => shown.push(series.clone().colour(series.colour.unwrap_or(colour))),
            false => elsewhere.push(series),
        }
    }
    let chart = LineChart {
        x_label: "number of steps K".into(),
        y_label: inputs.quantity(),
        x_scale: Scale::Log,
        y_range: range,
        series: shown,
        ..Default::default()
    };
    let (what, better, high) = match inputs.lower_is_better {
        true => ("bits per dimension", "lower", "low"),
        false => ("log-likelihood bound", "higher", "high"),
    };
    let mut caption = format!(
        "The mean {what} of the test rows for each covariance of the reverse steps, with bars of ± one standard \
         error: {better} is better, and a curve that is {high} on the left needs few steps."
    );
    if range.is_some() {
        caption +=
            " The axis shows the best covariance and what is near it; the table has every value.";
    }
    for series in elsewhere {
        let (values, _) = sorted_finite(series.y.iter().copied());
        caption += &match (values.first(), values.last()) {
            (Some(&lo), Some(&hi)) => {
                format!(
                    " {} lies outside it throughout, from {} to {}.",
                    series.name,
                    short(lo, 3),
                    short(hi, 3)
                )
            }
            _ => format!(" {} has no finite value.", series.name),
        };
    }
    figure(&chart.to_svg(WIDTH, 400), &caption) + &super::tables::steps(inputs)
}

/// The range that the best series sets, the one with the best median: all of it and twice its own
/// spread beyond, so that a covariance that is far worse (H = 0, β̃) does not press the good ones
/// flat. None where everything fits.
fn likelihood_range(series: &[Series], lower_is_better: bool) -> Option<(f64, f64)> {
    let sign = if lower_is_better { -1.0 } else { 1.0 };
    // as if higher were better
    let values = |s: &Series| sorted_finite(s.y.iter().map(|y| sign * y)).0;
    let all: Vec<(Vec<f64>, &Series)> =
        series.iter().map(|s| (values(s), s)).filter(|(v, _)| !v.is_empty()).collect();
    let median = |v: &[f64]| quantile(v, 0.5);
    let (best, of) = all.iter().max_by(|a, b| median(&a.0).total_cmp(&median(&b.0)))?;
    let error = of.error.iter().flatten().copied().filter(|e| e.is_finite()).fold(0.0, f64::max);
    // the best series itself can be very bad in few steps
    let top = best[best.len() - 1];
    let floor = best[0].max(top - 6.0 * (top - median(best)).max(error));
    let spread = (top - floor).max(4.0 * error).max(1e-3 * top.abs()).max(f64::MIN_POSITIVE);
    let highest =
        all.iter().map(|(v, _)| v[v.len() - 1]).fold(top, f64::max).min(top + 2.0 * spread);
    let limit = floor - 2.0 * spread;
    if all.iter().all(|(v, _)| v[0] >= limit) {
        return None;
    }
    let lowest =
        all.iter().flat_map(|(v, _)| v).copied().filter(|&v| v >= limit).fold(floor, f64::min);
    let margin = (0.08 * (highest - lowest)).max(1.5 * error).max(0.1 * spread);
    let (lo, hi) = (lowest - margin, highest + margin);
    Some(if lower_is_better { (-hi, -lo) } else { (lo, hi) })
}

pub(super) fn pairs(inputs: &ReportInputs) -> String {
    if inputs.column_names.is_empty() || (inputs.data.is_empty() && inputs.samples.is_empty()) {
        return String::new();
    }
    let sets = [("data", &inputs.data), (inputs.sample_label(), &inputs.samples)];
    let columns = inputs.column_names.len();
    let both = !inputs.data.is_empty() && !inputs.samples.is_empty();
    let chosen: Vec<usize> = match columns > PAIRS && both {
        true => most_different(columns, &inputs.data, &inputs.samples, PAIRS),
        false => (0..columns.min(PAIRS)).collect(),
    };
    let of_chosen = |rows: &[f32]| -> Vec<f32> {
        rows.chunks_exact(columns)
            .flat_map(|row| chosen.iter().map(|&column| row[column]))
            .collect()
    };
    for (label, rows) in &sets {
        let n = rows.len();
        assert!(
            n.is_multiple_of(columns),
            "set `{label}`: {n} values are no rows of {columns} columns"
        );
    }
    let grid = PairGrid {
        names: chosen.iter().map(|&column| inputs.column_names[column].clone()).collect(),
        sets: sets
            .into_iter()
            .filter(|s| !s.1.is_empty())
            .map(|(l, r)| (l.to_string(), of_chosen(r)))
            .collect(),
        max_columns: PAIRS,
        ..Default::default()
    };
    let which = match (columns > PAIRS, both) {
        (false, _) => String::new(),
        (true, false) => format!(" The first {PAIRS} of {columns} columns."),
        (true, true) => format!(
            " {PAIRS} of {columns} columns: those whose distributions or dependences differ most between the two \
             sets, the most different first."
        ),
    };
    figure(
        &grid.to_svg(WIDTH),
        &format!(
            "Histograms on the diagonal, up to 1,000 rows of each set below it, Pearson correlations above it: \
             where the two colours cover each other, the model has learnt the marginals and dependences.{which}"
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
