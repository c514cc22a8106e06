//! Utility: how well a classifier or regression that is trained on synthetic rows does on real
//! ones.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Estimate;
use super::ranking::{auroc, macro_f1};
use super::rows::{Holes, Rows};
use super::table::{HOLE, Table, Values, aligned};
use super::trees::{Target, Trees};
use crate::statistics::mean_and_error;
use crate::{Error, Result};

/// Rows with a target that a side must have.
const LEAST_ROWS: usize = 2;

/// Boosted trees that predict one column from all others, trained on synthetic rows and, for
/// comparison, on real ones, both judged on real rows held out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Utility {
    /// The column that was predicted.
    pub target: String,
    /// Trained on synthetic rows, tested on real ones (TSTR; Esteban et al. 2017).
    pub synthetic: Performance,
    /// Trained on real rows, tested on real ones (TRTR).
    pub real: Performance,
    /// Rows held out on which both were judged: those with a target.
    pub rows: usize,
}

/// How well predictions do.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Performance {
    /// Of categories.
    Classes {
        /// The area under the ROC curve; of more than two categories the mean over those that were
        /// held out, each against all others, and no standard error.
        auroc: Estimate,
        /// The mean of the categories' F1 scores (macro F1).
        f1: f64,
    },
    /// Of numbers.
    Numbers {
        /// The root of the mean squared error, in the column's unit.
        rmse: Estimate,
        /// `1 − Σ (y − ŷ)² / Σ (y − ȳ)²`; `None` where all rows held out have one value.
        r2: Option<f64>,
    },
}

impl fmt::Display for Performance {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Performance::Classes { auroc, f1 } => write!(f, "AUROC {auroc}, F1 {f1:.3}"),
            Performance::Numbers { rmse, r2 } => {
                write!(f, "RMSE {rmse}")?;
                r2.map_or(Ok(()), |r2| write!(f, ", R² {r2:.3}"))
            }
        }
    }
}

/// [`Utility`] for the column called `target`, by boosted trees with XGBoost's defaults: TabSyn's
/// machine learning efficiency, which searches their settings for each table.
///
/// Other columns are numbers, of which a hole is one that is missing, and one-hot categories, of
/// which it is one more. Rows whose target is a hole are left out. Of more than two categories each
/// has trees of its own against all others.
///
/// # Errors
/// If the tables have not the same columns, there is no such column or no other, fewer than two
/// rows of a table have a target, or all rows held out have the same category.
pub fn utility(train: &Table, holdout: &Table, synthetic: &Table, target: &str) -> Result<Utility> {
    let tables = aligned([("train", train), ("holdout", holdout), ("synthetic", synthetic)])?;
    let refuse =
        |problem: String, remedy: &str| Err(Error::config("quality.target", problem, remedy));
    let Some(at) = tables[0].position(target) else {
        let names: Vec<&str> = tables[0].columns().iter().map(|c| c.name.as_str()).collect();
        let remedy = format!("name one of {}", names.join(", "));
        return refuse(format!("there is no column `{target}`"), &remedy);
    };
    if tables[0].columns().len() < 2 {
        let problem = format!("`{target}` is the only column");
        return refuse(problem, "give columns to predict it from");
    }
    let tables = tables.map(|table| {
        let seen: Vec<usize> = match &table.columns()[at].values {
            Values::Numbers(y) => (0..y.len()).filter(|&row| !y[row].is_nan()).collect(),
            Values::Categories { codes, .. } => {
                (0..codes.len()).filter(|&row| codes[row] != HOLE).collect()
            }
        };
        table.take(&seen)
    });
    for (table, called) in tables.iter().zip(["training", "held out", "synthetic"]) {
        if table.rows() < LEAST_ROWS {
            let problem = format!("{} rows {called} have a `{target}`", table.rows());
            return refuse(problem, "give at least 2, or another column");
        }
    }
    let [train, holdout, synthetic] = &tables;
    let [x, test, y] = Rows::of([train, holdout, synthetic], Holes::Kept, Some(at));
    let values = |table: &Table| table.columns()[at].values.clone();
    let judge = |rows: &Rows, own: &Table| match (values(own), values(holdout)) {
        (Values::Numbers(own), Values::Numbers(truth)) => numbers(rows, &own, &test, &truth),
        (Values::Categories { codes, names }, Values::Categories { codes: truth, .. }) => {
            classes(rows, &codes, &test, &truth, names.len())
        }
        _ => unreachable!("aligned columns are of one kind"),
    };
    if let Values::Categories { codes, names } = values(holdout)
        && codes.iter().all(|code| *code == codes[0])
    {
        let problem = format!("all rows held out have `{}`", names[codes[0] as usize]);
        return refuse(problem, "hold out more rows, or name another column");
    }
    Ok(Utility {
        target: target.into(),
        synthetic: judge(&y, synthetic)?,
        real: judge(&x, train)?,
        rows: holdout.rows(),
    })
}

/// Trains on numbers, by their deviations from the mean in standard deviations.
fn numbers(rows: &Rows, own: &[f64], test: &Rows, truth: &[f64]) -> Result<Performance> {
    let (mean, _) = mean_and_error(own);
    let deviation = (own.iter().map(|y| (y - mean).powi(2)).sum::<f64>() / own.len() as f64).sqrt();
    let unit = if deviation > 0.0 { deviation } else { 1.0 };
    let scaled: Vec<f64> = own.iter().map(|y| (y - mean) / unit).collect();
    let predicted = Trees::fit(rows, &scaled, Target::Number)?.predict(test);
    let squares: Vec<f64> =
        predicted.iter().zip(truth).map(|(p, y)| (mean + unit * p - y).powi(2)).collect();
    let (square, error) = mean_and_error(&squares);
    let rmse = square.sqrt();
    let (centre, _) = mean_and_error(truth);
    let spread: f64 = truth.iter().map(|y| (y - centre).powi(2)).sum();
    Ok(Performance::Numbers {
        // d√s = ds/(2√s)
        rmse: Estimate::new(rmse, if rmse > 0.0 { error / (2.0 * rmse) } else { 0.0 }),
        r2: (spread > 0.0).then(|| 1.0 - squares.iter().sum::<f64>() / spread),
    })
}

/// Trains on categories: of two, which it is; of more, each against all others.
fn classes(
    rows: &Rows,
    own: &[u32],
    test: &Rows,
    truth: &[u32],
    names: usize,
) -> Result<Performance> {
    let somewhere = |code: u32| own.contains(&code) || truth.contains(&code);
    let present: Vec<u32> = (0..names as u32).filter(|&code| somewhere(code)).collect();
    let against_others = |code: u32| -> Result<Vec<f64>> {
        let y: Vec<f64> = own.iter().map(|&c| f64::from(u8::from(c == code))).collect();
        Ok(Trees::fit(rows, &y, Target::Class)?.predict(test))
    };
    let is = |code: u32| truth.iter().map(|&c| c == code).collect::<Vec<bool>>();
    let place = |code: u32| present.iter().position(|&c| c == code).unwrap_or(0);
    let truths: Vec<usize> = truth.iter().map(|&code| place(code)).collect();
    if let [_, second] = present[..] {
        let scores = against_others(second)?;
        let predicted: Vec<usize> = scores.iter().map(|&z| usize::from(z > 0.0)).collect();
        let area = auroc(&scores, &is(second))
            .map_or(Estimate::known(0.5), |area| Estimate::new(area.value, area.std_error));
        return Ok(Performance::Classes { auroc: area, f1: macro_f1(&truths, &predicted, 2) });
    }
    let scores = present.iter().map(|&code| against_others(code)).collect::<Result<Vec<_>>>()?;
    let areas: Vec<f64> = (present.iter().zip(&scores))
        .filter_map(|(&code, scores)| auroc(scores, &is(code)))
        .map(|area| area.value)
        .collect();
    let best = |row: usize| {
        let by_score = |a: &usize, b: &usize| scores[*a][row].total_cmp(&scores[*b][row]);
        (0..present.len()).max_by(by_score).unwrap_or(0)
    };
    let predicted: Vec<usize> = (0..test.len).map(best).collect();
    Ok(Performance::Classes {
        auroc: Estimate::known(areas.iter().sum::<f64>() / areas.len() as f64),
        f1: macro_f1(&truths, &predicted, present.len()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::quality::table::Column;
    use crate::noise::{Noise, Seed};

    fn numbers_of(name: &str, values: Vec<f64>) -> Column {
        Column { name: name.into(), values: Values::Numbers(values) }
    }

    fn categories_of(name: &str, codes: Vec<u32>) -> Column {
        let names = ["a", "b", "c"].map(String::from).to_vec();
        Column { name: name.into(), values: Values::Categories { names, codes } }
    }

    /// `u` uniform on `[0, 1)`; `double` is 2u, `third` which third it is in, `half` which half, or
    /// with `known = false` anything.
    fn table(n: u64, seed: u64, known: bool) -> Table {
        let draw = |purpose: &str| Noise::new(Seed(seed).derive(purpose), 0..n).uniform(1);
        let u = draw("u");
        let told = if known { u.clone() } else { draw("anything") };
        let hole = |i: usize, code: u32| if i % 9 == 5 { HOLE } else { code };
        Table::new(vec![
            numbers_of("double", told.iter().map(|u| 2.0 * u).collect()),
            categories_of("third", told.iter().map(|u| (3.0 * u) as u32).collect()),
            categories_of(
                "half",
                told.iter().enumerate().map(|(i, u)| hole(i, (2.0 * u) as u32)).collect(),
            ),
            numbers_of("u", u),
        ])
        .unwrap()
    }

    /// What other columns know is learned; what they do not know is at chance: of halves and thirds
    /// an area of ½, of numbers an R² below 0.
    #[test]
    fn what_is_known_is_learned_and_nothing_else() {
        let (train, holdout) = (table(300, 1, true), table(200, 2, true));
        // only `u` to predict from
        let only = |table: &Table, target: &str| {
            let kept = |c: &&Column| c.name == target || c.name == "u";
            Table::new(table.columns().iter().filter(kept).cloned().collect()).unwrap()
        };
        for target in ["double", "third", "half"] {
            let of = |synthetic: Table| {
                utility(
                    &only(&train, target),
                    &only(&holdout, target),
                    &only(&synthetic, target),
                    target,
                )
                .unwrap()
            };
            let (known, anything) = (of(table(250, 3, true)), of(table(250, 3, false)));
            assert_eq!(known.real, anything.real);
            assert_eq!(known.rows, if target == "half" { 178 } else { 200 });
            match (known.real, known.synthetic, anything.synthetic) {
                (
                    Performance::Classes { auroc: real, f1 },
                    Performance::Classes { auroc, f1: synthetic },
                    Performance::Classes { auroc: chance, f1: low },
                ) => {
                    assert!(real.value > 0.98 && auroc.value > 0.98, "{known:?}");
                    assert!(f1 > 0.95 && synthetic > 0.95 && low < 0.7, "{known:?}");
                    assert!((chance.value - 0.5).abs() < 0.15, "{anything:?}");
                    assert_eq!(auroc.std_error.is_some(), target == "half");
                }
                (
                    Performance::Numbers { r2: real, .. },
                    Performance::Numbers { rmse, r2 },
                    Performance::Numbers { rmse: worse, r2: low },
                ) => {
                    assert!(real.unwrap() > 0.99 && r2.unwrap() > 0.99, "{known:?}");
                    assert!(low.unwrap() < 0.1 && worse.value > 0.5, "{anything:?}");
                    // of a uniform on [0, 2): Σ(y − ȳ)²/n is 1/3
                    let spread = rmse.value / (1.0 - r2.unwrap()).sqrt();
                    assert!((spread - (1.0_f64 / 3.0).sqrt()).abs() < 0.05, "{spread}");
                    assert!(rmse.std_error.unwrap() < rmse.value);
                }
                mixed => panic!("{mixed:?}"),
            }
        }
    }

    #[test]
    fn targets_that_cannot_be_are_refused_in_one_line() {
        let (train, holdout) = (table(30, 1, true), table(30, 2, true));
        let refused = |holdout: &Table, target: &str, words: &str| {
            let error = utility(&train, holdout, &train, target).unwrap_err();
            assert_eq!(error.option(), Some("quality.target"));
            let message = error.to_string();
            assert!(message.contains(words) && message.lines().count() == 1, "{message}");
        };
        refused(&holdout, "price", "no column `price`; name one of double, third");
        let first = (0..30).find(|&i| i % 9 != 5).unwrap();
        refused(&holdout.take(&[first, first]), "third", "all rows held out have `");
        refused(&holdout.take(&[5, first]), "half", "1 rows held out have a `half`");
        let alone = Table::new(vec![numbers_of("u", vec![1.0, 2.0])]).unwrap();
        let error = utility(&alone, &alone, &alone, "u").unwrap_err();
        assert!(error.to_string().contains("the only column"), "{error}");
    }
}
