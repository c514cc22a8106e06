//! The ways to learn a covariance head on a frozen score.

use std::fmt;
use std::str::FromStr;

use tweedie::covariance::CovarianceConfig;
use tweedie::grid::{PathGrid, TimeDistribution};
use tweedie::model::{HeadConfig, Parametrization, Structure};
use tweedie::objective::{
    LikelihoodMatching, LmForm, ObjectiveConfig, ScoreGradient, StepDistribution, Target,
};

/// What a head is learned by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadObjective {
    /// Likelihood Matching under the frozen score.
    Lm,
    /// Optimal Covariance Matching.
    Ocm,
    /// The squared residual.
    Npr,
    /// The squared noise.
    Sn,
    /// I-DDPM's variational bound.
    Iddpm,
}

/// A head to be learned: `ocm`, or `ocm-4` of rank 4, in commands and the names of runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Learner {
    /// The objective that it is learned by.
    pub by: HeadObjective,
    /// The rank of its factor; 0: diagonal. NPR's, SN's and I-DDPM's are diagonal.
    pub rank: i64,
}

const NAMES: [(HeadObjective, &str, &str); 5] = [
    (HeadObjective::Lm, "lm", "LM"),
    (HeadObjective::Ocm, "ocm", "OCM"),
    (HeadObjective::Npr, "npr", "NPR"),
    (HeadObjective::Sn, "sn", "SN"),
    (HeadObjective::Iddpm, "iddpm", "I-DDPM"),
];

impl FromStr for Learner {
    type Err = String;

    fn from_str(text: &str) -> Result<Learner, String> {
        let (name, rank) = match text.split_once('-') {
            None => (text, None),
            Some((name, rank)) => {
                (name, Some(rank.parse::<u16>().map_err(|_| format!("no rank: {rank:?}"))?))
            }
        };
        let by = NAMES.iter().find(|(_, own, _)| *own == name).map(|found| found.0);
        match (by, rank) {
            (Some(by), None) => Ok(Learner::diagonal(by)),
            (Some(by @ (HeadObjective::Lm | HeadObjective::Ocm)), Some(rank)) => {
                Ok(Learner { by, rank: rank.into() })
            }
            _ => Err("not one of lm, lm-R, ocm, ocm-R (R: rank), npr, sn, iddpm".into()),
        }
    }
}

/// Its name in commands and files, which is read back.
impl fmt::Display for Learner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rank {
            0 => f.write_str(self.names().0),
            rank => write!(f, "{}-{rank}", self.names().0),
        }
    }
}

impl Learner {
    /// A diagonal head.
    pub const fn diagonal(by: HeadObjective) -> Learner {
        Learner { by, rank: 0 }
    }

    /// Its name in tables.
    pub fn label(self) -> String {
        match self.rank {
            0 => self.names().1.into(),
            rank => format!("{}, r = {rank}", self.names().1),
        }
    }

    fn names(self) -> (&'static str, &'static str) {
        let (_, name, label) =
            NAMES.iter().find(|names| names.0 == self.by).expect("every objective has names");
        (name, label)
    }

    /// What the head's outputs parametrise.
    pub fn parametrization(self) -> Parametrization {
        match self.by {
            HeadObjective::Sn => Parametrization::SecondMoment,
            HeadObjective::Iddpm => Parametrization::Interpolation,
            _ => Parametrization::Posterior,
        }
    }

    /// The configuration of the head.
    pub fn head(self) -> HeadConfig {
        HeadConfig {
            structure: Structure::LowRank(self.rank),
            parametrization: self.parametrization(),
            ..HeadConfig::default()
        }
    }

    /// The covariance that reads the head.
    pub fn covariance(self) -> CovarianceConfig {
        CovarianceConfig::of_head(&self.head())
    }

    /// The objective, with so many pairs (x_t, t) per row: transitions of Likelihood Matching,
    /// which takes two or more.
    pub fn objective(self, time: TimeDistribution, draws: usize) -> ObjectiveConfig {
        let matching =
            |target| ObjectiveConfig::CovarianceMatching { target, time, draws, probes: 1 };
        match self.by {
            HeadObjective::Lm => ObjectiveConfig::from(LikelihoodMatching {
                transitions: draws,
                form: LmForm::Marginal,
                time,
                grid: PathGrid::Random,
                score: ScoreGradient::Frozen,
            }),
            HeadObjective::Ocm => matching(Target::Jacobian),
            HeadObjective::Npr => matching(Target::Residual),
            HeadObjective::Sn => matching(Target::SecondMoment),
            HeadObjective::Iddpm => {
                ObjectiveConfig::VariationalBound { draws, steps: StepDistribution::default() }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for name in ["lm", "lm-4", "ocm", "ocm-16", "npr", "sn", "iddpm"] {
            assert_eq!(name.parse::<Learner>().unwrap().to_string(), name);
        }
        for wrong in ["", "lm-", "lm--1", "npr-2", "dpm", "ocm-x"] {
            assert!(wrong.parse::<Learner>().is_err(), "{wrong}");
        }
    }

    /// Every head can be trained by its objective.
    #[test]
    fn heads_and_objectives_go_together() {
        for (by, ..) in NAMES {
            let learner = Learner::diagonal(by);
            let objective = learner.objective(TimeDistribution::Uniform, 4);
            objective.build().unwrap();
            objective.check_head(&learner.head()).unwrap();
        }
    }
}
