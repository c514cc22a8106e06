//! p-values of scores: how often a row of the same distribution scores no higher.

use super::{Density, ScoreOptions};
use crate::data::{AddedColumn, Dataset};
use crate::noise::Seed;
use crate::watch::Watch;
use crate::{Error, Result};

/// Scores of rows that a density was not trained on, which new scores are held against.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// In rising order, without NaN.
    scores: Vec<f64>,
    /// Rows without a value.
    unsolved: usize,
}

impl Calibration {
    /// Calibration rows that are scored at most by default.
    pub const ROWS: usize = 2000;

    /// From scores of calibration rows. Those that are NaN are left out, and counted.
    pub fn of(scores: &[f64]) -> Calibration {
        let mut own: Vec<f64> = scores.iter().copied().filter(|score| !score.is_nan()).collect();
        own.sort_by(f64::total_cmp);
        Calibration { unsolved: scores.len() - own.len(), scores: own }
    }

    /// The scores that others are held against, in rising order.
    pub fn scores(&self) -> &[f64] {
        &self.scores
    }

    /// Rows that scores are held against.
    pub fn rows(&self) -> usize {
        self.scores.len()
    }

    /// Calibration rows that were left out, having no value.
    pub fn unsolved(&self) -> usize {
        self.unsolved
    }

    /// `(1 + #{i : s_i ≤ s})/(n + 1)` for calibration scores `s_i` (split-conformal; Vovk,
    /// Gammerman & Shafer 2005): for a row that is exchangeable with the calibration rows the
    /// probability of a p-value of at most `α` is at most `α`, whatever the model. NaN of NaN.
    pub fn p_value(&self, score: f64) -> f64 {
        if score.is_nan() {
            return f64::NAN;
        }
        let below = self.scores.partition_point(|own| *own <= score);
        (1 + below) as f64 / (1 + self.scores.len()) as f64
    }
}

/// How anomalies are found by the scores of rows.
#[derive(Clone, Debug, PartialEq)]
pub struct AnomalyTest {
    /// What scores are held against.
    pub calibration: Calibration,
    /// The error rate at most of which a p-value calls its row an anomaly.
    pub threshold: Option<f64>,
}

impl AnomalyTest {
    /// Refuses an error rate that is none.
    ///
    /// # Errors
    /// [`Error::Config`] if it is not between 0 and 1.
    pub fn check_threshold(threshold: Option<f64>) -> Result<()> {
        match threshold.filter(|rate| !(*rate > 0.0 && *rate < 1.0)) {
            None => Ok(()),
            Some(rate) => {
                let remedy = "give an error rate between 0 and 1, such as 0.01";
                Err(Error::config("score.threshold", rate.to_string(), remedy))
            }
        }
    }

    /// Whether a row with this score is called an anomaly; `None` without a threshold, or of a row
    /// without a value.
    pub fn is_anomaly(&self, score: f64) -> Option<bool> {
        let p = self.calibration.p_value(score);
        self.threshold.filter(|_| !p.is_nan()).map(|threshold| p <= threshold)
    }

    /// How many of these scores are called anomalies.
    pub fn anomalies(&self, scores: &[f64]) -> usize {
        scores.iter().filter(|&&score| self.is_anomaly(score) == Some(true)).count()
    }

    /// Whether no row can be called an anomaly, there being too few calibration rows for a p-value
    /// as small as the threshold.
    pub fn is_blind(&self) -> bool {
        let least = 1.0 / (1 + self.calibration.rows()) as f64;
        self.threshold.is_some_and(|threshold| threshold < least)
    }

    /// The columns `p_value` and, where there is a threshold, `anomaly` of rows with these scores.
    pub(super) fn columns(&self, scores: &[f64]) -> Vec<AddedColumn> {
        let p_values = scores.iter().map(|&score| self.calibration.p_value(score)).collect();
        let anomaly = scores.iter().map(|&score| self.is_anomaly(score));
        let anomaly = self.threshold.map(|_| AddedColumn::flags("anomaly", anomaly));
        [AddedColumn::numbers("p_value", p_values)].into_iter().chain(anomaly).collect()
    }
}

impl Density {
    /// Scores of rows that new scores can be held against: of at most `most` of the rows of `data`,
    /// or else of the run's validation rows, which must still be where they were in training. They
    /// are drawn at random where there are more. Options should be those of the rows that are
    /// scored; the noise is another.
    ///
    /// The parameters that a run keeps, and the size of its base, were chosen by its validation
    /// rows, whose scores are a little higher for it; rows of `data` that played no part have no
    /// such reserve.
    ///
    /// # Errors
    /// [`Error::Config`] where there are no validation rows or no row has a value; as
    /// [`Density::log_prob`].
    pub fn calibration(
        &self,
        data: Option<&Dataset>,
        most: usize,
        options: &ScoreOptions,
        watch: &mut dyn Watch,
    ) -> Result<Calibration> {
        Error::check_count("score.calibration_rows", most, crate::sample::MOST_ROWS)?;
        let missing = |problem: String| {
            let remedy = "give rows that it was not trained on with score.calibration";
            Err(Error::config("score.p_values", problem, remedy))
        };
        let rows = match (data, self.run.prepared()) {
            (Some(data), _) => data.some_rows(most, Seed(options.seed).derive("calibration rows")),
            (None, None) => return missing(self.run.no_data()),
            (None, Some(own)) => own.validation_table(most),
        };
        if rows.rows() == 0 {
            return missing("there are no validation rows".into());
        }
        let seed = Seed(options.seed).derive("calibration").0;
        let scores = self.log_prob_with(&rows, &ScoreOptions { seed, ..options.clone() }, watch)?;
        let calibration = Calibration::of(scores.values());
        match calibration.rows() {
            0 => missing("no calibration row has a score".into()),
            _ => Ok(calibration),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::Noise;

    /// Against counting by hand, with ties, rows at −∞ and rows without a value.
    #[test]
    fn p_values_are_shares_of_calibration_rows() {
        let own = [2.0, -1.0, f64::NAN, 2.0, f64::NEG_INFINITY, 7.5];
        let calibration = Calibration::of(&own);
        assert_eq!((calibration.rows(), calibration.unsolved()), (5, 1));
        for score in [-9.0, -1.0, 1.9, 2.0, 2.1, 7.5, 8.0, f64::NEG_INFINITY, f64::INFINITY] {
            let below = own.iter().filter(|&&own| own <= score).count();
            assert_eq!(calibration.p_value(score), (1 + below) as f64 / 6.0, "{score}");
        }
        assert!(calibration.p_value(f64::NAN).is_nan());
        let test = AnomalyTest { calibration, threshold: Some(0.4) };
        let scores = [-9.0, -1.0, 0.0, 2.0, f64::NAN];
        let called: Vec<Option<bool>> = scores.iter().map(|&s| test.is_anomaly(s)).collect();
        // p-values 2/6, 3/6, 3/6, 5/6
        assert_eq!(called, [Some(true), Some(false), Some(false), Some(false), None]);
        assert_eq!(test.anomalies(&scores), 1);
        assert!(!test.is_blind() && AnomalyTest { threshold: Some(0.1), ..test }.is_blind());
        assert!(AnomalyTest::check_threshold(Some(0.0)).is_err());
        assert!(AnomalyTest::check_threshold(Some(f64::NAN)).is_err());
    }

    /// Rows of the distribution of the calibration rows: over 4000 draws of 20 calibration rows and
    /// a new one, a p-value of at most `α` has probability `⌊21 α⌋/21`, known to
    /// `√(α (1 − α)/4000)`. Scores of three values have ties, which make it rarer.
    #[test]
    fn p_values_are_valid() {
        let trials = 4000;
        for levels in [f64::INFINITY, 3.0] {
            let score = |u: f64| if levels.is_finite() { (u * levels).floor() } else { u };
            let p_values: Vec<f64> = (Noise::new(Seed(5), 0..trials).uniform(21))
                .chunks_exact(21)
                .map(|draws| {
                    let scores: Vec<f64> = draws.iter().map(|&u| score(u)).collect();
                    Calibration::of(&scores[..20]).p_value(scores[20])
                })
                .collect();
            for alpha in [0.05, 0.1, 0.3, 0.7] {
                let share = p_values.iter().filter(|&&p| p <= alpha).count() as f64 / trials as f64;
                let exact = (21.0 * alpha + 1e-9_f64).floor() / 21.0;
                let error = 4.0 * (alpha * (1.0 - alpha) / trials as f64).sqrt();
                assert!(share <= alpha + error, "{share} at {alpha}");
                if levels.is_infinite() {
                    assert!((share - exact).abs() < error, "{share} at {alpha}, {exact}");
                }
            }
        }
    }
}
