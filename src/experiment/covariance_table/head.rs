//! Covariance heads that the table trains on its score.

use std::fmt;
use std::str::FromStr;

use crate::grid::TimeLaw;
use crate::model::{
    HeadBody, HeadConfig, HeadStart, HeadTrunk, MlpConfig, ModelConfig, NetworkConfig, Parametrization,
    Structure, UNetConfig,
};
use crate::objective::{LmForm, ObjectiveConfig, ScoreGradient, Target};
use crate::run::RunConfig;
use crate::train::TrainConfig;

use super::super::images::Settings;

/// A way to train a head; the number is its rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// Likelihood Matching.
    Lm(i64),
    /// Optimal Covariance Matching.
    Ocm(i64),
    /// Regression on the squared residual.
    Npr,
    /// Regression on the squared noise.
    Sn,
    /// I-DDPM's variational bound.
    Iddpm,
}

/// Transitions of a path of Likelihood Matching: pairs (x_t, t) of a row.
const TRANSITIONS: usize = 4;

impl FromStr for Head {
    type Err = String;

    fn from_str(text: &str) -> Result<Head, String> {
        let (name, rank) = match text.split_once('-') {
            None => (text, None),
            Some((name, rank)) => {
                (name, Some(rank.parse::<u16>().map_err(|_| format!("no rank: {rank:?}"))?))
            }
        };
        match (name, rank) {
            ("lm", rank) => Ok(Head::Lm(rank.unwrap_or(0).into())),
            ("ocm", rank) => Ok(Head::Ocm(rank.unwrap_or(0).into())),
            ("npr", None) => Ok(Head::Npr),
            ("sn", None) => Ok(Head::Sn),
            ("iddpm", None) => Ok(Head::Iddpm),
            _ => Err("not one of lm, lm-R, ocm, ocm-R (R: rank), npr, sn, iddpm".into()),
        }
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranked = |f: &mut fmt::Formatter<'_>, name, rank| match rank {
            0 => write!(f, "{name}"),
            rank => write!(f, "{name}-{rank}"),
        };
        match *self {
            Head::Lm(rank) => ranked(f, "lm", rank),
            Head::Ocm(rank) => ranked(f, "ocm", rank),
            Head::Npr => write!(f, "npr"),
            Head::Sn => write!(f, "sn"),
            Head::Iddpm => write!(f, "iddpm"),
        }
    }
}

impl Head {
    fn objective(self, time: TimeLaw) -> ObjectiveConfig {
        let matching = |target| ObjectiveConfig::CovarianceMatching { target, time, draws: 1 };
        match self {
            Head::Lm(_) => ObjectiveConfig::Lm {
                transitions: TRANSITIONS,
                form: LmForm::default(),
                time,
                score: ScoreGradient::Frozen,
            },
            Head::Ocm(_) => matching(Target::Jacobian),
            Head::Npr => matching(Target::Residual),
            Head::Sn => matching(Target::SecondMoment),
            Head::Iddpm => ObjectiveConfig::VariationalBound { draws: 1 },
        }
    }

    /// Whether its outputs correct a `G`.
    fn corrects(self) -> bool {
        self != Head::Iddpm
    }

    fn config(self) -> HeadConfig {
        match self {
            Head::Lm(rank) | Head::Ocm(rank) => {
                HeadConfig { structure: Structure::LowRank(rank), ..HeadConfig::default() }
            }
            Head::Npr => HeadConfig::diagonal(Parametrization::Posterior),
            Head::Sn => HeadConfig::diagonal(Parametrization::SecondMoment),
            Head::Iddpm => HeadConfig::diagonal(Parametrization::Interpolation),
        }
    }

    /// The run that trains the head on the score of `score`. On a U-Net it sits on the last features, with a residual block of
    /// its own, and starts from the analytic covariance; on a network for rows it is a network of its own, and starts from the base.
    /// Times are uniform in `t` for images and in the log
    /// signal-to-noise ratio for tables; every head takes as many pairs (x_t, t) per step.
    pub(super) fn run(self, score: &RunConfig, settings: &Settings) -> RunConfig {
        let mut head = self.config();
        let (network, time) = match score.model.network.score_only() {
            NetworkConfig::UNet(network) => {
                let network = UNetConfig { head_body: HeadBody::Complex, ..network };
                if self.corrects() {
                    head.start = HeadStart::Analytic;
                }
                (NetworkConfig::UNet(network), TimeLaw::Uniform)
            }
            NetworkConfig::Mlp(network) => {
                let network = MlpConfig { head_trunk: HeadTrunk::Separate, ..network };
                (NetworkConfig::Mlp(network), TimeLaw::LogSnr)
            }
        };
        let draws = if matches!(self, Head::Lm(_)) { TRANSITIONS } else { 1 };
        RunConfig {
            model: ModelConfig { network, head: Some(head), ..score.model.clone() },
            objective: self.objective(time),
            train: TrainConfig {
                iterations: settings.iterations,
                batch_size: (settings.pairs / draws).max(1),
                learning_rate: settings.learning_rate,
                patience: 0,
                validation_rows: settings.rows.min(128),
                checkpoint_every: 500,
                ..TrainConfig::default()
            },
            ..score.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for head in [Head::Lm(0), Head::Lm(4), Head::Ocm(0), Head::Ocm(16), Head::Npr, Head::Sn, Head::Iddpm]
        {
            assert_eq!(head.to_string().parse(), Ok(head));
        }
        for wrong in ["", "lm-", "lm--1", "npr-2", "dpm", "ocm-x"] {
            assert!(wrong.parse::<Head>().is_err(), "{wrong}");
        }
    }

    /// Every head can be trained by its objective.
    #[test]
    fn heads_and_objectives_go_together() {
        for head in [Head::Lm(2), Head::Ocm(2), Head::Npr, Head::Sn, Head::Iddpm] {
            let config = head.run(&RunConfig::default(), &Settings::default());
            config.objective.build().unwrap();
            config.objective.check_head(&config.model.head.unwrap()).unwrap();
        }
    }
}
