//! Runs of the covariance heads that the table trains on its score.

use crate::images::Settings;
use crate::learner::{HeadObjective, Learner};
use tweedie::grid::TimeDistribution;
use tweedie::model::{
    HeadBody, HeadStart, HeadTrunk, MlpConfig, ModelConfig, NetworkConfig, UNetConfig,
};
use tweedie::run::RunConfig;

/// Transitions of a path of Likelihood Matching: pairs (x_t, t) of a row.
const TRANSITIONS: usize = 4;

/// The run that trains a head on the score of `score`. On a network for images it sits on the last
/// features, those of a U-Net with a residual block of its own, and starts from the analytic
/// covariance; on a network for rows it is a network of its own, and starts from the base. Times
/// are uniform in `t` for images and in the log signal-to-noise ratio for tables; every head takes
/// as many pairs (x_t, t) per step.
pub(super) fn run_of(learner: Learner, score: &RunConfig, settings: &Settings) -> RunConfig {
    let mut head = learner.head();
    let network = score.model.network.score_only();
    // I-DDPM's outputs correct no G
    if network.image().is_some() && learner.by != HeadObjective::Iddpm {
        head.start = HeadStart::Analytic;
    }
    let (network, time) = match network {
        NetworkConfig::UNet(network) => {
            let network = UNetConfig { head_body: HeadBody::Complex, ..network };
            (NetworkConfig::UNet(network), TimeDistribution::Uniform)
        }
        NetworkConfig::Dit(_) => (network, TimeDistribution::Uniform),
        NetworkConfig::Mlp(network) => {
            let network = MlpConfig { head_trunk: HeadTrunk::Separate, ..network };
            (NetworkConfig::Mlp(network), TimeDistribution::LogSnr)
        }
    };
    let draws = if learner.by == HeadObjective::Lm { TRANSITIONS } else { 1 };
    RunConfig {
        model: ModelConfig { network, head: Some(head), ..score.model.clone() },
        objective: learner.objective(time, draws),
        train: settings.train(draws),
        ..score.clone()
    }
}
