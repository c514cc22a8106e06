//! The report's figures with their captions.

use super::columns::most_different;
use maud::{Markup, PreEscaped, html};

use super::{MetricPoint, ReportInputs, Shares, base64};
use crate::number::{grouped, short};
use crate::plot::{
    Bars, Histogram, LineChart, Mark, PairGrid, Scale, Series, quantile, sorted_finite, view_range,
};

const WIDTH: u32 = 816;
/// Columns of the pairs plot.
const PAIRS: usize = 6;

/// A picture and the sentence that says how to read it.
fn figure(svg: String, caption: &str) -> Markup {
    html! { figure { (PreEscaped(svg)) figcaption { (caption) } } "\n" }
}

/// Loss and validation, two quantities in two units: a chart and an axis for each.
pub(super) fn training(inputs: &ReportInputs) -> Markup {
    html! { (losses(inputs)) (validation(inputs)) }
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

fn losses(inputs: &ReportInputs) -> Markup {
    if inputs.losses.iter().all(|m| m.train_loss.is_nan()) {
        return html! {};
    }
    let raw = curve(inputs, "training loss", |m| Some(m.train_loss)).colour(0);
    let chart = LineChart {
        x_label: "iteration".into(),
        y_label: or(&inputs.loss_label, "loss").into(),
        x_range: iterations(inputs),
        // the first steps and single batches must not hide what happens after
        y_range: bulk(&finite(&raw.y)),
        series: vec![raw],
        ..Default::default()
    };
    let caption = "The training loss, the mean over the iterations since the point before, in the \
         objective's own units: lower is better. It is another quantity than the validation's, and \
         the two cannot be compared with each other.";
    figure(chart.to_svg(WIDTH, 300), caption)
}

fn validation(inputs: &ReportInputs) -> Markup {
    let curve = curve(inputs, "validation", |m| m.validation);
    if curve.y.is_empty() {
        return html! {};
    }
    let (sign, better) = match inputs.lower_validation_is_better {
        true => (-1.0, "lower"),
        false => (1.0, "higher"),
    };
    let points = || curve.x.iter().copied().zip(curve.y.iter().copied());
    let best = points()
        .filter(|(_, y)| y.is_finite())
        .max_by(|(_, a), (_, b)| (sign * a).total_cmp(&(sign * b)));
    let label = or(&inputs.validation_label, "validation");
    let mut caption = format!(
        "The figure by which weights are chosen, of the averaged weights: {label}; {better} is \
         better."
    );
    if let (Some((at, best)), Some((end, last))) = (best, points().next_back()) {
        let (value, iteration) = (short(best, 5), grouped(at as usize));
        caption += &match at < end && last.is_finite() {
            true => format!(
                " The best is {value} at iteration {iteration}; at the last, {}, it was {}.",
                grouped(end as usize),
                short(last, 5)
            ),
            false => format!(" The best, {value}, is the last, at iteration {iteration}."),
        };
    }
    if let Some(kept) = inputs.kept_iteration {
        caption += &format!(" The run keeps the weights of iteration {}.", grouped(kept as usize));
    }
    let chart = LineChart {
        x_label: "iteration".into(),
        y_label: label.into(),
        x_range: iterations(inputs),
        y_range: bulk(&finite(&curve.y)),
        series: vec![curve.colour(1)],
        marks: inputs.kept_iteration.map(|at| Mark::new("kept", at as f64)).into_iter().collect(),
        ..Default::default()
    };
    figure(chart.to_svg(WIDTH, 300), &caption)
}

/// The text, or `otherwise` where it is empty.
fn or<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}

/// The finite values in ascending order.
fn finite(values: &[f64]) -> Vec<f64> {
    sorted_finite(values.iter().copied()).0
}

/// The range of a curve of ascending `values` in which a few stragglers do not press the rest flat.
fn bulk(values: &[f64]) -> Option<(f64, f64)> {
    let (lo, hi) = view_range(values, 0.02)?;
    let range = (lo - 0.03 * (hi - lo), hi + 0.03 * (hi - lo));
    (range.0 < range.1).then_some(range)
}

pub(super) fn scores(inputs: &ReportInputs) -> Markup {
    if inputs.scores.iter().all(|s| s.values.is_empty()) {
        return html! {};
    }
    let mark = |name: &str, values: &[f64]| {
        let values = finite(values);
        Mark::new(name, values.iter().sum::<f64>() / values.len() as f64)
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
    let (what, better, worse) = match inputs.lower_is_better {
        true => ("Bits per dimension", "left", "right"),
        false => ("Log-likelihoods", "right", "left"),
    };
    let means = match inputs.baselines.is_empty() {
        true => "",
        false => "; dashed lines are the means of other models on the same rows",
    };
    let caption = format!(
        "{what} of the test rows, one count per row: mass further {better} is a better fit, and a \
         long {worse} tail is rows the model finds improbable{means}."
    );
    figure(chart.to_svg(WIDTH, 340), &caption)
}

pub(super) fn likelihood_vs_steps(inputs: &ReportInputs) -> Markup {
    let all = &inputs.likelihood_vs_steps;
    if all.iter().all(|s| s.x.is_empty()) {
        return html! {};
    }
    let range = likelihood_range(all, inputs.lower_is_better);
    let in_range = |y: f64| y.is_finite() && range.is_none_or(|(lo, hi)| (lo..=hi).contains(&y));
    let coloured = all.iter().enumerate().map(|(i, s)| s.clone().colour(s.colour.unwrap_or(i)));
    let (shown, elsewhere): (Vec<Series>, Vec<Series>) =
        coloured.partition(|series| series.y.iter().any(|&y| in_range(y)));
    let (what, better, high) = match inputs.lower_is_better {
        true => ("bits per dimension", "lower", "low"),
        false => ("log-likelihood bound", "higher", "high"),
    };
    let mut caption = format!(
        "The mean {what} of the test rows for each covariance of the reverse steps, with bars of \
         ± one standard error: {better} is better, and a curve that is {high} on the left needs \
         few steps."
    );
    if range.is_some() {
        caption +=
            " The axis shows the best covariance and what is near it; the table has every value.";
    }
    for Series { name, y, .. } in &elsewhere {
        let values = finite(y);
        caption += &match (values.first(), values.last()) {
            (Some(&lo), Some(&hi)) => {
                let (lo, hi) = (short(lo, 3), short(hi, 3));
                format!(" {name} lies outside it throughout, from {lo} to {hi}.")
            }
            _ => format!(" {name} has no finite value."),
        };
    }
    let chart = LineChart {
        x_label: "number of steps K".into(),
        y_label: inputs.quantity(),
        x_scale: Scale::Log,
        y_range: range,
        series: shown,
        ..Default::default()
    };
    html! { (figure(chart.to_svg(WIDTH, 400), &caption)) (super::tables::steps(inputs)) }
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

pub(super) fn pairs(inputs: &ReportInputs) -> Markup {
    let columns = inputs.column_names.len();
    if columns == 0 || (inputs.data.is_empty() && inputs.samples.is_empty()) {
        return html! {};
    }
    let both = !inputs.data.is_empty() && !inputs.samples.is_empty();
    let chosen: Vec<usize> = match columns > PAIRS && both {
        true => most_different(columns, &inputs.data, &inputs.samples, PAIRS),
        false => (0..columns.min(PAIRS)).collect(),
    };
    let mut sets = Vec::new();
    for (label, rows) in [("data", &inputs.data), (inputs.sample_label(), &inputs.samples)] {
        let n = rows.len();
        assert!(
            n.is_multiple_of(columns),
            "set `{label}`: {n} values are no rows of {columns} columns"
        );
        if n > 0 {
            let rows = rows.chunks_exact(columns);
            let of_chosen = rows.flat_map(|row| chosen.iter().map(|&column| row[column]));
            sets.push((label.to_string(), of_chosen.collect()));
        }
    }
    let grid = PairGrid {
        names: chosen.iter().map(|&column| inputs.column_names[column].clone()).collect(),
        sets,
        max_columns: PAIRS,
        ..Default::default()
    };
    let which = match (columns > PAIRS, both) {
        (false, _) => String::new(),
        (true, false) => format!(" The first {PAIRS} of {columns} columns."),
        (true, true) => format!(
            " {PAIRS} of {columns} columns: those whose distributions or dependences differ most \
             between the two sets, the most different first."
        ),
    };
    let caption = format!(
        "Histograms on the diagonal, up to 1,000 rows of each set below it, Pearson correlations \
         above it: where the two colours cover each other, the model has learnt the marginals and \
         dependences.{which}"
    );
    figure(grid.to_svg(WIDTH), &caption)
}

/// The categories of a column that are shown; the rest is counted together.
const CATEGORIES: usize = 12;

pub(super) fn categories(inputs: &ReportInputs) -> Markup {
    let shares = |counts: &[usize]| -> Vec<f64> {
        let all = counts.iter().sum::<usize>().max(1) as f64;
        counts.iter().map(|&count| count as f64 / all).collect()
    };
    let chart = |of: &Shares| {
        let (data, samples) = (shares(&of.data), shares(&of.samples));
        let mut order: Vec<usize> = (0..of.names.len()).collect();
        order.sort_by(|&a, &b| data[b].total_cmp(&data[a]).then(samples[b].total_cmp(&samples[a])));
        let shown = if order.len() > CATEGORIES { CATEGORIES - 1 } else { order.len() };
        let (shown, rest) = order.split_at(shown);
        let pooled = |shares: &[f64]| -> Vec<f64> {
            let rest = (!rest.is_empty()).then(|| rest.iter().map(|&i| shares[i]).sum());
            shown.iter().map(|&i| shares[i]).chain(rest).collect()
        };
        let others = (!rest.is_empty()).then(|| format!("{} others", rest.len()));
        let bars = Bars {
            title: of.column.clone(),
            names: shown.iter().map(|&i| of.names[i].clone()).chain(others).collect(),
            sets: vec![
                ("test data".into(), pooled(&data)),
                (inputs.sample_label().into(), pooled(&samples)),
            ],
        };
        // Half the sum of the shares' differences: the share of cells that would have to change.
        let gap: f64 = data.iter().zip(&samples).map(|(a, b)| (a - b).abs()).sum::<f64>() / 2.0;
        figure(bars.to_svg(WIDTH), &format!("{}: total variation distance {gap:.3}.", of.column))
    };
    html! {
        @for of in &inputs.categories { (chart(of)) }
        @if !inputs.categories.is_empty() {
            p class="caption" {
                "Shares of the cells, the most frequent first. The total variation distance is the \
                 share of cells that would have to change for the two to agree."
            }
        }
    }
}

pub(super) fn sheets(inputs: &ReportInputs) -> Markup {
    html! {
        @for (caption, png) in &inputs.sheets {
            figure {
                img alt=(caption) src={ "data:image/png;base64," (base64::encode(png)) };
                figcaption { (caption) }
            }
        }
    }
}
