//! How well scores tell positives from negatives, and predictions classes.

/// The area under the ROC curve with its standard error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Auroc {
    /// From 0 to 1; ½ for scores that say nothing.
    pub value: f64,
    /// NaN with fewer than two positives or negatives.
    pub std_error: f64,
}

/// `P(s₊ > s₋) + ½ P(s₊ = s₋)` over pairs of a positive and a negative: the Mann–Whitney statistic,
/// with DeLong, DeLong & Clarke-Pearson's standard error (1988, eqs. 5–7), of which the components
/// come from ranks (Sun & Xu 2014). `None` without a positive or without a negative.
pub fn auroc(scores: &[f64], positive: &[bool]) -> Option<Auroc> {
    let select = |kind: bool| -> Vec<f64> {
        let chosen = scores.iter().zip(positive).filter(|(_, p)| **p == kind);
        chosen.map(|(s, _)| *s).collect()
    };
    let (positives, negatives) = (select(true), select(false));
    let (n, m) = (positives.len() as f64, negatives.len() as f64);
    if positives.is_empty() || negatives.is_empty() {
        return None;
    }
    // the share of the other kind that each is on the right side of
    let among_all = ranks(scores);
    let components = |kind: bool, own: &[f64], others: f64| -> Vec<f64> {
        let of_kind = among_all.iter().zip(positive).filter(|(_, p)| **p == kind);
        let below = of_kind.zip(ranks(own)).map(|((all, _), own)| (all - own) / others);
        below.map(|share| if kind { share } else { 1.0 - share }).collect()
    };
    let of_positives = components(true, &positives, m);
    let of_negatives = components(false, &negatives, n);
    let value = of_positives.iter().sum::<f64>() / n;
    let variance = |values: &[f64]| {
        let count = values.len() as f64;
        values.iter().map(|v| (v - value).powi(2)).sum::<f64>() / (count - 1.0) / count
    };
    let std_error = (variance(&of_positives) + variance(&of_negatives)).sqrt();
    Some(Auroc { value, std_error })
}

/// The area under the curve of precision over recall, by steps: the sum over the distinct scores
/// `s` from the highest down of the share of positives that have `s`, times the precision of the
/// rows at or above `s`. `None` without a positive or without a negative.
pub fn average_precision(scores: &[f64], positive: &[bool]) -> Option<f64> {
    let all = positive.iter().filter(|positive| **positive).count();
    if all == 0 || all == positive.len() {
        return None;
    }
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&i, &j| scores[j].total_cmp(&scores[i]));
    let (mut area, mut found, mut seen) = (0.0, 0, 0);
    for equals in order.chunk_by(|&i, &j| scores[i] == scores[j]) {
        let own = equals.iter().filter(|&&i| positive[i]).count();
        (found, seen) = (found + own, seen + equals.len());
        area += own as f64 / all as f64 * found as f64 / seen as f64;
    }
    Some(area)
}

/// Ranks from 1; equal values share the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for equals in order.chunk_by(|&i, &j| values[i] == values[j]) {
        let rank = before as f64 + (equals.len() + 1) as f64 / 2.0;
        equals.iter().for_each(|&i| ranks[i] = rank);
        before += equals.len();
    }
    ranks
}

/// The mean of `F_1 = 2 TP/(2 TP + FP + FN)` over the classes that are true or predicted somewhere.
pub(super) fn macro_f1(truth: &[usize], predicted: &[usize], classes: usize) -> f64 {
    // per class: how often right, true and predicted
    let mut counts = vec![[0.0; 3]; classes];
    for (&truth, &predicted) in truth.iter().zip(predicted) {
        counts[truth][0] += f64::from(u8::from(truth == predicted));
        counts[truth][1] += 1.0;
        counts[predicted][2] += 1.0;
    }
    let present = || counts.iter().filter(|[_, truth, predicted]| truth + predicted > 0.0);
    let f1 = |[right, truth, predicted]: &[f64; 3]| 2.0 * right / (truth + predicted);
    present().map(f1).sum::<f64>() / present().count() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::{Noise, Seed};

    /// Pairs counted by hand: of 2 · 3 pairs four are right and one is a tie.
    #[test]
    fn the_area_is_a_share_of_pairs() {
        let scores = [0.9, 0.4, 0.4, 0.6, 0.1];
        let positive = [true, true, false, false, false];
        let found = auroc(&scores, &positive).unwrap();
        assert!((found.value - 4.5 / 6.0).abs() < 1e-12, "{found:?}");
        // components 1, ½ of positives and ¾, ½, 1 of negatives around ¾
        let variance = (0.0625 + 0.0625) / 2.0 + (0.0625 + 0.0625) / 2.0 / 3.0;
        assert!((found.std_error - f64::sqrt(variance)).abs() < 1e-12, "{found:?}");
        assert_eq!(auroc(&scores, &[true; 5]), None);
    }

    /// By hand: of the scores from the highest down the positives are the first and one of two
    /// equals, at precisions 1 and 2/3.
    #[test]
    fn average_precision_by_hand() {
        let scores = [0.9, 0.4, 0.4, 0.1];
        let found = average_precision(&scores, &[true, true, false, false]).unwrap();
        assert!((found - (0.5 + 0.5 * 2.0 / 3.0)).abs() < 1e-12, "{found}");
        assert_eq!(average_precision(&scores, &[false; 4]), None);
    }

    /// The standard error is the spread of the area over samples, within a tenth, where 400 samples
    /// know the spread to 1/28.
    #[test]
    fn the_standard_error_is_the_spread_over_samples() {
        let (mut areas, mut squares) = (Vec::new(), 0.0);
        for seed in 0..400 {
            let uniforms = Noise::new(Seed(seed), 0..120).uniform(2);
            let scores: Vec<f64> = uniforms
                .chunks(2)
                .enumerate()
                .map(|(i, u)| u[0] + u[1] + if i < 50 { 0.4 } else { 0.0 })
                .collect();
            let positive: Vec<bool> = (0..120).map(|i| i < 50).collect();
            let found = auroc(&scores, &positive).unwrap();
            squares += found.std_error.powi(2) / 400.0;
            areas.push(found.value);
        }
        let mean = areas.iter().sum::<f64>() / 400.0;
        let spread = (areas.iter().map(|a| (a - mean).powi(2)).sum::<f64>() / 399.0).sqrt();
        assert!((squares.sqrt() / spread - 1.0).abs() < 0.1, "{} {spread}", squares.sqrt());
    }

    /// Class 0 is right twice of 3 true and 4 predicted, class 1 once of 2 and 1, class 2 never;
    /// class 3 is nowhere.
    #[test]
    fn f1_by_hand() {
        let found = macro_f1(&[0, 0, 0, 1, 1, 2], &[0, 0, 2, 1, 0, 0], 4);
        let expected = (2.0 * 2.0 / 7.0 + 2.0 / 3.0 + 0.0) / 3.0;
        assert!((found - expected).abs() < 1e-12, "{found} {expected}");
    }
}
