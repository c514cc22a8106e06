//! How columns depend on each other, in test data and in samples.

use maud::{Markup, PreEscaped, html};

use tweedie::metric::quality::{Column, HOLE, PairTrend, Table, Values, trend};
use tweedie::noise::{Noise, Seed};

use super::ReportInputs;
use crate::plot::{Bars, LineChart, Ranges, Series, Style, quantile, sorted_finite};

/// Pairs of columns that the page shows, at most, and the first columns among which they are found.
const PAIRS: usize = 6;
const COLUMNS: usize = 64;
/// The least dependence of a pair that is shown: so much, and so many standard deviations of what
/// it is by chance, of so many shuffles.
const LEAST: f64 = 0.02;
const DEVIATIONS: f64 = 2.0;
const SHUFFLES: u64 = 6;
/// Bins of a number that another is shown in, and the fewest rows of a set in a bin or category of
/// which quantiles are shown.
const BINS: usize = 10;
const ROWS: usize = 5;
/// Categories by which another column is shown: the most frequent.
const CATEGORIES: usize = 8;
/// The quantiles that are shown.
const QUANTILES: [f64; 3] = [0.1, 0.5, 0.9];
const WIDTH: u32 = 398;

/// What is shown of one column given another, of which both sets have values.
#[derive(Clone, Debug, PartialEq)]
pub struct Conditional {
    /// The column that is shown.
    pub column: String,
    /// The column by whose values it is.
    pub given: String,
    /// By how much the two depend on each other in the test data: the mean distance of the data to
    /// their columns shuffled apart, by SDMetrics' pair trend, less that of two such shuffles.
    pub dependence: f64,
    /// What is shown.
    pub shown: Shown,
}

/// Of test data and of samples, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Shown {
    /// The 10, 50 and 90 % quantiles of a number in bins of another: the medians of the other in
    /// the data's bins, and the quantiles, NaN where a set has too few rows.
    InBins(Vec<f64>, [Vec<[f64; 3]>; 2]),
    /// These quantiles of a number by category.
    ByCategory(Vec<String>, [Vec<[f64; 3]>; 2]),
    /// A value of a column of categories, the most frequent of the data, and its share by category
    /// of another; NaN of a category that a set does not have.
    Share(String, Vec<String>, [Vec<f64>; 2]),
}

/// The pairs of columns that depend most on each other in `data`, the strongest first, as they are
/// in `data` and in `samples`; none where these are not tables of the same columns.
pub(super) fn strongest(data: &[Column], samples: &[Column], seed: Seed) -> Vec<Conditional> {
    let data = &data[..data.len().min(COLUMNS)];
    let mut pairs = dependences(data, seed).unwrap_or_default();
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut shown = Vec::new();
    for (dependence, first, second) in pairs {
        let of = |place: usize| {
            let other = samples.iter().find(|column| column.name == data[place].name)?;
            Some([&data[place].values, &other.values])
        };
        let (Some(a), Some(b)) = (of(first), of(second)) else { continue };
        // by a category rather than by a number, and by the fewer categories
        let swapped = match (a[0], b[0]) {
            (Values::Numbers(_), Values::Categories { .. }) => true,
            (Values::Categories { names: a, .. }, Values::Categories { names: b, .. }) => {
                a.len() > CATEGORIES && b.len() < a.len()
            }
            _ => false,
        };
        let (given, column) = if swapped { (second, first) } else { (first, second) };
        let (by, of) = if swapped { (b, a) } else { (a, b) };
        if let Some(own) = conditional(by, of) {
            let name = |place: usize| data[place].name.clone();
            let (column, given) = (name(column), name(given));
            shown.push(Conditional { column, given, dependence, shown: own });
        }
        if shown.len() == PAIRS {
            break;
        }
    }
    shown
}

/// By how much pairs of columns depend on each other, with their places: the mean distance of the
/// table to its columns shuffled apart, by [`trend`], less that of one such shuffle to another. Of
/// pairs that depend on each other by more than chance has them.
fn dependences(data: &[Column], seed: Seed) -> tweedie::Result<Vec<(f64, usize, usize)>> {
    let table = Table::new(data.to_vec())?;
    let shuffles =
        (0..SHUFFLES).map(|which| shuffled(data, seed, which)).collect::<tweedie::Result<Vec<_>>>();
    let shuffles = shuffles?;
    let next = |k: usize| &shuffles[(k + 1) % shuffles.len()];
    let (mut own, mut chance) = (Vec::new(), Vec::new());
    for (k, shuffle) in shuffles.iter().enumerate() {
        own.push(trend(&table, shuffle)?.pairs);
        chance.push(trend(shuffle, next(k))?.pairs);
    }
    let place = |name: &str| table.position(name);
    let all = own[0].clone();
    let of_pair = |pair: usize| {
        let distances = |all: &[Vec<PairTrend>]| -> Option<Vec<f64>> {
            all.iter().map(|pairs| Some(1.0 - pairs[pair].score?)).collect()
        };
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let (own, chance) = (mean(&distances(&own)?), distances(&chance)?);
        let usual = mean(&chance);
        let deviation =
            mean(&chance.iter().map(|d| (d - usual).powi(2)).collect::<Vec<_>>()).sqrt();
        let dependence = own - usual;
        let PairTrend { first, second, .. } = &all[pair];
        (dependence >= LEAST + DEVIATIONS * deviation).then_some((
            dependence,
            place(first)?,
            place(second)?,
        ))
    };
    Ok((0..all.len()).filter_map(of_pair).collect())
}

/// The columns with the rows of each in an order of its own.
fn shuffled(columns: &[Column], seed: Seed, which: u64) -> tweedie::Result<Table> {
    let column = |(k, Column { name, values }): (usize, &Column)| {
        let seed = seed.derive("shuffled columns").derive(&format!("{which}, {k}"));
        let keys = Noise::new(seed, 0..values.len() as u64).uniform(1);
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|&a, &b| keys[a].total_cmp(&keys[b]));
        let values = match values {
            Values::Numbers(all) => Values::Numbers(order.iter().map(|&row| all[row]).collect()),
            Values::Categories { names, codes } => Values::Categories {
                names: names.clone(),
                codes: order.iter().map(|&row| codes[row]).collect(),
            },
        };
        Column { name: name.clone(), values }
    };
    Table::new(columns.iter().enumerate().map(column).collect())
}

/// What is shown of a column by another, both of data and of samples.
fn conditional(by: [&Values; 2], of: [&Values; 2]) -> Option<Shown> {
    match (by[0], of[0]) {
        (Values::Numbers(_), _) => {
            let [Values::Numbers(x), Values::Numbers(u)] = by else { return None };
            let [Values::Numbers(y), Values::Numbers(v)] = of else { return None };
            let edges = edges(x, y);
            let bins = edges.len().checked_sub(1)?;
            let bin = |x: f64| edges[1..bins].partition_point(|edge| *edge <= x);
            let grouped = |x: &[f64], y: &[f64]| {
                let mut groups = vec![(Vec::new(), Vec::new()); bins];
                for (&x, &y) in x.iter().zip(y).filter(|(x, y)| x.is_finite() && y.is_finite()) {
                    groups[bin(x)].0.push(x);
                    groups[bin(x)].1.push(y);
                }
                groups
            };
            let (data, samples) = (grouped(x, y), grouped(u, v));
            let middles = data.iter().map(|(x, _)| quantiles(x)[1]).collect();
            let of = |groups: &[(Vec<f64>, Vec<f64>)]| -> Vec<[f64; 3]> {
                groups.iter().map(|(_, y)| quantiles(y)).collect()
            };
            Some(Shown::InBins(middles, [of(&data), of(&samples)]))
        }
        (_, Values::Numbers(_)) => {
            let (names, codes) = categories(by)?;
            let [Values::Numbers(y), Values::Numbers(v)] = of else { return None };
            let of = |codes: &[Option<usize>], values: &[f64]| -> Vec<[f64; 3]> {
                let mut groups = vec![Vec::new(); names.len()];
                for (code, &value) in codes.iter().zip(values) {
                    if let (Some(code), true) = (code, value.is_finite()) {
                        groups[*code].push(value);
                    }
                }
                groups.iter().map(|group| quantiles(group)).collect()
            };
            let both = [of(&codes[0], y), of(&codes[1], v)];
            Some(Shown::ByCategory(names, both))
        }
        (_, Values::Categories { names: own, codes: all }) => {
            let (names, codes) = categories(by)?;
            let mut counts = vec![0_usize; own.len()];
            all.iter().filter(|code| **code != HOLE).for_each(|&code| counts[code as usize] += 1);
            let most = (0..own.len()).rev().max_by_key(|&code| counts[code])?;
            let value = &own[most];
            let shares = |codes: &[Option<usize>], values: &Values| -> Option<Vec<f64>> {
                let Values::Categories { names: own, codes: all } = values else { return None };
                let wanted = own.iter().position(|name| name == value);
                let mut counts = vec![[0.0, 0.0]; names.len()];
                for (code, &own) in codes.iter().zip(all) {
                    if let Some(code) = code {
                        counts[*code][0] += f64::from(u8::from(Some(own as usize) == wanted));
                        counts[*code][1] += 1.0;
                    }
                }
                Some(counts.into_iter().map(|[some, all]| some / all).collect())
            };
            let both = [shares(&codes[0], of[0])?, shares(&codes[1], of[1])?];
            Some(Shown::Share(value.clone(), names, both))
        }
    }
}

/// Edges of bins of `x` with as many rows of a set in each, and twenty on average at least; of the
/// rows with both numbers.
fn edges(x: &[f64], y: &[f64]) -> Vec<f64> {
    let both = x.iter().zip(y).filter(|(_, y)| y.is_finite()).map(|(x, _)| *x);
    let (sorted, _) = sorted_finite(both);
    let bins = (sorted.len() / 20).clamp(2, BINS);
    let mut edges: Vec<f64> =
        (0..=bins).map(|k| quantile(&sorted, k as f64 / bins as f64)).collect();
    edges.dedup();
    edges
}

fn quantiles(values: &[f64]) -> [f64; 3] {
    match values.len() < ROWS {
        true => [f64::NAN; 3],
        false => {
            let (sorted, _) = sorted_finite(values.iter().copied());
            QUANTILES.map(|share| quantile(&sorted, share))
        }
    }
}

/// The names of the most frequent categories of the data, missing cells among them, and each row's
/// place among these, of data and of samples.
fn categories(by: [&Values; 2]) -> Option<(Vec<String>, [Vec<Option<usize>>; 2])> {
    let Values::Categories { names, codes } = by[0] else { return None };
    let Values::Categories { names: drawn, codes: of_drawn } = by[1] else { return None };
    let missing = names.len();
    let place = |code: u32| missing.min(code as usize);
    let mut counts = vec![0_usize; names.len() + 1];
    codes.iter().for_each(|&code| counts[place(code)] += 1);
    let mut order: Vec<usize> = (0..=missing).filter(|&code| counts[code] > 0).collect();
    order.sort_by_key(|&code| std::cmp::Reverse(counts[code]));
    order.truncate(CATEGORIES);
    let shown: Vec<String> = order
        .iter()
        .map(|&code| names.get(code).cloned().unwrap_or_else(|| "(missing)".into()))
        .collect();
    let among = |place: usize| order.iter().position(|&code| code == place);
    let own = codes.iter().map(|&code| among(place(code))).collect();
    let of_sample = |&code: &u32| match drawn.get(code as usize) {
        None => among(missing),
        Some(name) => names.iter().position(|own| own == name).and_then(among),
    };
    Some((shown, [own, of_drawn.iter().map(of_sample).collect()]))
}

/// The charts, two side by side.
pub(super) fn markup(inputs: &ReportInputs) -> Markup {
    let sets = ["test data".to_owned(), inputs.sample_label().to_owned()];
    html! {
        @if !inputs.conditionals.is_empty() {
            div class="side" {
                @for own in &inputs.conditionals {
                    @let (svg, caption) = chart(own, &sets);
                    figure { (PreEscaped(svg)) figcaption { (caption) } }
                }
            }
            p class="caption" {
                "The pairs of columns that depend most on each other in the test data, the \
                 strongest first. The dependence is how far the data are, by SDMetrics' pair \
                 trend, from their columns shuffled apart, beyond what two such shuffles are from \
                 each other. A dot is a median; lines from it, or dashed, go to the 10 and the \
                 90 % quantile."
            }
        }
    }
}

/// A chart and its caption.
fn chart(own: &Conditional, sets: &[String; 2]) -> (String, String) {
    let Conditional { column, given, dependence, shown } = own;
    let title = format!("{column} by {given}");
    let (svg, what) = match shown {
        Shown::InBins(middles, quantiles) => {
            let of_set = |set: usize| {
                let own: Vec<(f64, [f64; 3])> = (middles.iter().copied())
                    .zip(quantiles[set].iter().copied())
                    .filter(|(x, y)| x.is_finite() && y[1].is_finite())
                    .collect();
                let x: Vec<f64> = own.iter().map(|(x, _)| *x).collect();
                [1, 0, 2].map(|which| {
                    let y = own.iter().map(|(_, y)| y[which]).collect();
                    let (name, style) = match which {
                        1 => (sets[set].as_str(), Style::Solid),
                        _ => ("", Style::Dashed),
                    };
                    Series::line(name, x.clone(), y).style(style).colour(set)
                })
            };
            let chart = LineChart {
                title: title.clone(),
                x_label: given.clone(),
                y_label: column.clone(),
                series: [of_set(0), of_set(1)].concat(),
                ..LineChart::default()
            };
            (chart.to_svg(WIDTH, 300), "median, 10 and 90 % quantile".to_owned())
        }
        Shown::ByCategory(names, quantiles) => {
            let set = |set: usize| (sets[set].clone(), quantiles[set].clone());
            let chart = Ranges {
                title: title.clone(),
                x_label: column.clone(),
                names: names.clone(),
                sets: vec![set(0), set(1)],
            };
            (chart.to_svg(WIDTH), "median, 10 and 90 % quantile".to_owned())
        }
        Shown::Share(value, names, shares) => {
            let known = |share: &f64| if share.is_nan() { 0.0 } else { *share };
            let set = |set: usize| (sets[set].clone(), shares[set].iter().map(known).collect());
            let chart =
                Bars { title: title.clone(), names: names.clone(), sets: vec![set(0), set(1)] };
            (chart.to_svg(WIDTH), format!("share of “{value}”, the most frequent in the test data"))
        }
    };
    (svg, format!("{title}: {what}; dependence {dependence:.2}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(name: &str, values: Vec<f64>) -> Column {
        Column { name: name.into(), values: Values::Numbers(values) }
    }

    fn codes(name: &str, names: &[&str], codes: Vec<u32>) -> Column {
        let names = names.iter().map(|name| name.to_string()).collect();
        Column { name: name.into(), values: Values::Categories { names, codes } }
    }

    /// `b` is twice `a`, `kind` is by `a`, `sort` is `kind` but for a fifth of the rows, and `else`
    /// is by nothing; samples have all but that `sort` is by nothing, either.
    fn tables(n: usize) -> [Vec<Column>; 2] {
        [1, 2].map(|seed| {
            let u = Noise::new(Seed(seed), 0..n as u64).uniform(4);
            let of = |k: usize| u.iter().skip(k).step_by(4).copied();
            let a: Vec<f64> = of(0).collect();
            let kind: Vec<u32> = a.iter().map(|a| (3.0 * a) as u32).collect();
            let sort =
                kind.iter().zip(of(1)).zip(of(2)).map(|((&kind, u), v)| {
                    if u < 0.2 || seed == 2 { (3.0 * v) as u32 } else { kind }
                });
            let sort = sort.map(|code| if code == 2 { HOLE } else { code }).collect();
            vec![
                numbers("else", of(3).collect()),
                codes("sort", &["p", "q"], sort),
                numbers("a", a.clone()),
                numbers("b", a.iter().map(|a| 2.0 * a).collect()),
                codes("kind", &["x", "y", "z"], kind),
            ]
        })
    }

    #[test]
    fn the_strongest_pairs_are_found_with_what_they_are() {
        let [data, samples] = tables(900);
        let found = strongest(&data, &samples, Seed(0));
        let names: Vec<(&str, &str)> =
            found.iter().map(|own| (own.column.as_str(), own.given.as_str())).collect();
        assert_eq!(found.len(), 6, "{names:?}");
        assert!(names.iter().all(|(a, b)| *a != "else" && *b != "else"), "{names:?}");
        assert!(found.windows(2).all(|pair| pair[0].dependence >= pair[1].dependence));
        let of = |column: &str, given: &str| {
            let own = found.iter().find(|own| own.column == column && own.given == given);
            &own.unwrap_or_else(|| panic!("{column} by {given} of {names:?}")).shown
        };
        // uniform numbers in ten bins: in the k-th `b` is (k + q)/5 at its quantile q
        let Shown::InBins(middles, [quantiles, drawn]) = of("b", "a") else { panic!() };
        for (k, (middle, own)) in middles.iter().zip(quantiles).enumerate() {
            let expected = QUANTILES.map(|q| (k as f64 + q) / 5.0);
            let close =
                own.iter().zip(expected).all(|(own, expected)| (own - expected).abs() < 0.1);
            assert!(close && (own[1] - 2.0 * middle).abs() < 1e-12, "{k}: {own:?} {expected:?}");
            assert!(drawn[k].iter().all(|value| value.is_finite()));
        }
        let Shown::ByCategory(names, [quantiles, _]) = of("a", "kind") else { panic!() };
        let z = names.iter().position(|name| name == "z").unwrap();
        assert!((quantiles[z][1] - 5.0 / 6.0).abs() < 0.03, "{quantiles:?}");
        // of those of `kind` x four fifths and a fifteenth are p; of samples a third of any
        let Shown::Share(value, names, [shares, drawn]) = of("kind", "sort") else { panic!() };
        let hole = names.iter().position(|name| name == "(missing)").unwrap();
        let expected = if value == "z" { 13.0 / 15.0 } else { 1.0 / 15.0 };
        assert!((shares[hole] - expected).abs() < 0.07, "{value}: {shares:?}");
        assert!((drawn[hole] - 1.0 / 3.0).abs() < 0.12, "{value}: {drawn:?}");
    }

    #[test]
    fn what_does_not_depend_is_not_shown() {
        let [mut data, samples] = tables(900);
        data.truncate(3);
        assert!(strongest(&data, &samples, Seed(0)).iter().all(|own| own.column != "else"));
        let infinite = [numbers("a", vec![f64::INFINITY; 9]), numbers("b", vec![0.0; 9])];
        assert!(strongest(&infinite, &infinite, Seed(0)).is_empty());
        assert!(
            strongest(&data, &[], Seed(0)).is_empty() && strongest(&[], &[], Seed(0)).is_empty()
        );
        // few rows, and one value in nearly all of them
        let few = [numbers("a", vec![1.0, 1.0, 1.0, 2.0]), numbers("b", vec![3.0, 3.0, 3.0, 9.0])];
        let found = strongest(&few, &few, Seed(0));
        let inputs = ReportInputs { conditionals: found, ..ReportInputs::default() };
        crate::plot::elements(&format!("<p>{}</p>", markup(&inputs).into_string()));
    }

    #[test]
    fn charts_are_well_formed() {
        let [mut data, samples] = tables(900);
        data[4].name = "kind".into();
        let conditionals = strongest(&data, &samples, Seed(0));
        let page = markup(&ReportInputs { conditionals, ..ReportInputs::default() }).into_string();
        let found = crate::plot::elements(&format!("<main>{page}</main>"));
        assert_eq!(found["figure"], 6);
        assert!(page.contains("b by a: median") && page.contains("the most frequent in the test"));
    }
}
