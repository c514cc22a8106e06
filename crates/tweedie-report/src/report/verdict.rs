//! What a run's figures mean beside those of simpler models, in plain words.

use super::Scores;
use crate::number::{grouped, short};
use tweedie::likelihood::mean_and_error;

/// By how much one model is better than another on the same rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// The mean over rows of what the first is better by, in the scores' unit.
    pub mean: f64,
    /// Its standard error: of the rows' differences, so that what makes a row hard for both
    /// cancels.
    pub std_error: f64,
    /// The rows that have a finite score by both.
    pub rows: usize,
}

impl Difference {
    /// Of `model` over `other`, row by row; with `lower_is_better` the lower score is the better
    /// one.
    ///
    /// # Panics
    /// If the two are not of the same rows.
    pub fn paired(model: &[f64], other: &[f64], lower_is_better: bool) -> Difference {
        assert_eq!(model.len(), other.len(), "scores of the same rows");
        let sign = if lower_is_better { -1.0 } else { 1.0 };
        let both = model.iter().zip(other).map(|(a, b)| sign * (a - b)).filter(|d| d.is_finite());
        let differences: Vec<f64> = both.collect();
        let (mean, std_error) = mean_and_error(&differences);
        Difference { mean, std_error, rows: differences.len() }
    }

    /// Whether it is more than two standard errors from 0.
    pub fn is_clear(&self) -> bool {
        self.mean.abs() > 2.0 * self.std_error
    }
}

/// One paragraph for each of `others` that has the rows of `model`: by how much the model is
/// better, and what that means. The first of `others` is the base that the model corrects.
pub fn verdict(
    model: &Scores,
    others: &[Scores],
    unit: &str,
    lower_is_better: bool,
) -> Vec<String> {
    let same_rows = |other: &&Scores| other.values.len() == model.values.len();
    let paragraph = |(i, other): (usize, &Scores)| {
        let difference = Difference::paired(&model.values, &other.values, lower_is_better);
        let (name, is_base) = (&other.name, i == 0);
        let Difference { mean, std_error, rows } = difference;
        if rows < 2 {
            return format!(
                "{name}: cannot be compared, fewer than two test rows have a finite score by both."
            );
        }
        let amount = format!("{} ± {} {unit}", short(mean.abs(), 3), short(std_error, 2));
        let sign = if mean > 0.0 { "better" } else { "worse" };
        let finding = match difference.is_clear() {
            true => format!("{sign} than {name} by {amount}"),
            false => format!(
                "no different from {name}: {sign} by {amount}, which is within two standard errors"
            ),
        };
        let meaning = match (is_base, difference.is_clear(), mean > 0.0) {
            (true, true, true) => ": so much the network has learnt beyond its base.",
            (true, true, false) => {
                ": the network makes its base worse. Train longer, or on more rows."
            }
            (true, false, _) => ". The network adds nothing to its base that these rows show.",
            (false, true, false) => ". That simpler model is the better one here.",
            (false, ..) => ".",
        };
        let estimator = if is_base { format!(" ({})", model.name) } else { String::new() };
        let left_out = match model.values.len() - rows {
            0 => String::new(),
            n => format!(" {} rows have no finite score by both and are left out.", grouped(n)),
        };
        let rows = grouped(rows);
        format!("On the same {rows} test rows the model{estimator} is {finding}{meaning}{left_out}")
    };
    others.iter().filter(same_rows).enumerate().map(paragraph).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(name: &str, values: &[f64]) -> Scores {
        Scores { name: name.into(), values: values.to_vec() }
    }

    /// By hand: differences 1, 1, 4 have mean 2 and standard deviation √3, hence the error 1.
    #[test]
    fn differences_are_paired() {
        let (a, b) = ([-1.0, -2.0, -3.0, f64::NEG_INFINITY], [-2.0, -3.0, -7.0, -1.0]);
        let difference = Difference::paired(&a, &b, false);
        assert_eq!((difference.mean, difference.rows), (2.0, 3));
        assert!((difference.std_error - 1.0).abs() < 1e-12);
        assert!(!difference.is_clear(), "two standard errors are not more than two");
        assert_eq!(Difference::paired(&a, &b, true).mean, -2.0);
    }

    #[test]
    fn better_worse_and_no_different_are_told_apart() {
        let model = scores("ELBO, K = 100", &[-1.0, -2.1, -2.9, -4.0]);
        let others = [
            scores("the model's base", &[-2.0, -3.0, -4.0, -5.0]),
            scores("Gaussian", &[-0.0, -1.0, -2.0, -3.0]),
            scores("kernel density", &[-1.1, -2.0, -3.0, -3.9]),
            scores("of other rows", &[-1.0]),
        ];
        let [base, gaussian, kernel] = &verdict(&model, &others, "nats per row", false)[..] else {
            panic!()
        };
        assert!(
            base.contains(
                "On the same 4 test rows the model (ELBO, K = 100) is better than \
                 the model's base by 1 ±"
            ),
            "{base}"
        );
        assert!(base.contains("nats per row: so much the network has learnt"), "{base}");
        assert!(gaussian.contains("is worse than Gaussian by 1 ±"), "{gaussian}");
        assert!(kernel.contains("no different from kernel density"), "{kernel}");
        // bits: less is better
        let bits = verdict(&model, &others[..2], "bits per dimension", true);
        assert!(bits[0].contains("is worse than the model's base by 1 ±"), "{}", bits[0]);
        assert!(bits[0].contains("makes its base worse"), "{}", bits[0]);
        assert!(bits[1].contains("is better than Gaussian by 1 ±"), "{}", bits[1]);
    }

    #[test]
    fn a_network_that_adds_nothing_is_named_and_lost_rows_are_counted() {
        let model = scores("ELBO", &[-1.0, -2.0, -3.0, f64::NAN]);
        let text = verdict(
            &model,
            &[scores("the base", &[-1.1, -1.9, -3.0, -1.0])],
            "nats per row",
            false,
        );
        assert!(
            text[0].contains("The network adds nothing to its base that these rows show."),
            "{}",
            text[0]
        );
        assert!(text[0].contains("1 rows have no finite score"), "{}", text[0]);
        let none =
            verdict(&scores("ELBO", &[f64::NAN]), &[scores("the base", &[1.0])], "nats", false);
        assert!(none[0].contains("cannot be compared"), "{}", none[0]);
    }
}
