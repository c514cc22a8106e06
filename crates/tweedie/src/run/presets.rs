//! Parts of a configuration that have a name.

use std::path::Path;

use super::Layer;

/// A part of a configuration that has a name.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// Its name on a command line.
    pub name: &'static str,
    /// What it is, in a line.
    pub help: &'static str,
    /// The options that it sets, as TOML.
    options: &'static str,
}

impl Preset {
    /// The options that it sets.
    pub fn layer(&self) -> Layer {
        Layer::parse(self.options, Path::new(self.name)).expect("options as TOML")
    }
}

const fn preset(name: &'static str, options: &'static str, help: &'static str) -> Preset {
    Preset { name, help, options }
}

/// Forward processes.
pub const SCHEDULES: [Preset; 4] = [
    preset("vp", "schedule.kind = 'vp'", "Variance preserving, linear β"),
    preset("sub-vp", "schedule.kind = 'sub-vp'", "Sub-variance-preserving, linear β"),
    preset("ve", "schedule.kind = 've'", "Variance exploding, geometric σ"),
    preset("cosine", "schedule.kind = 'cosine'", "Variance preserving, the cosine schedule"),
];

/// Objectives, with the heads that they train.
pub const OBJECTIVES: [Preset; 8] = [
    preset("lm", "objective.kind = 'lm'", "Likelihood Matching"),
    preset(
        "sm",
        "objective = { kind = 'sm', weighting = 'sigma2', time = 'uniform' }",
        "Denoising score matching, σ² weighting",
    ),
    preset(
        "sm-lw",
        "objective = { kind = 'sm', weighting = 'likelihood', time = 'uniform' }",
        "Score matching, likelihood weighting, uniform t",
    ),
    preset(
        "sm-lw-is",
        "objective = { kind = 'sm', weighting = 'likelihood', time = 'log-snr' }",
        "Score matching, likelihood weighting, importance-sampled t",
    ),
    preset(
        "ocm",
        "objective = { kind = 'covariance-matching', target = 'jacobian' }",
        "Optimal Covariance Matching: a head fitted to the Jacobian of a frozen score",
    ),
    preset(
        "npr",
        "objective = { kind = 'covariance-matching', target = 'residual' }",
        "A head fitted to the squared residual of a frozen score",
    ),
    preset(
        "sn",
        "objective = { kind = 'covariance-matching', target = 'second-moment' }\n\
         model.head = { parametrization = 'second-moment', structure = { low-rank = 0 } }",
        "A diagonal head fitted to the squared noise, the square of a frozen score's taken off",
    ),
    preset(
        "iddpm",
        "objective.kind = 'variational-bound'\n\
         model.head = { parametrization = 'interpolation', structure = { low-rank = 0 } }",
        "A diagonal head between the variances β̃ and β by the variational bound, under a frozen \
         score (I-DDPM); sample and score with the covariance interpolated",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::RunConfig;

    /// Every one is a configuration whose head is for its objective, over any other.
    #[test]
    fn presets_are_configurations() {
        for preset in OBJECTIVES.iter().chain(&SCHEDULES) {
            for below in OBJECTIVES.iter().filter(|below| !["sn", "iddpm"].contains(&below.name)) {
                let config = RunConfig::resolve(&[&below.layer(), &preset.layer()]).unwrap();
                if let Some(head) = &config.model.head {
                    config.objective.check_head(head).unwrap();
                }
            }
        }
    }
}
