//! Schedulers of diffusers: the forward process that a network was trained under, and how its
//! pipeline samples.

use serde::{Deserialize, Serialize};

use crate::model::Prediction;
use crate::schedule::{ScheduleConfig, StepLaw};

/// The fields of diffusers' DDPM scheduler that say how it samples, and nothing of what was
/// trained. What a scheduler leaves out is diffusers' default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Sampling {
    pub clip_sample: bool,
    pub clip_sample_range: f64,
    pub thresholding: bool,
    pub dynamic_thresholding_ratio: f64,
    pub sample_max_value: f64,
    pub timestep_spacing: String,
    pub steps_offset: i64,
    #[serde(deserialize_with = "null_or_variance")]
    pub variance_type: String,
}

/// Schedulers of other samplers have no variance and say so.
fn null_or_variance<'de, D: serde::Deserializer<'de>>(
    from: D,
) -> std::result::Result<String, D::Error> {
    let given: Option<String> = Option::deserialize(from)?;
    Ok(given.unwrap_or_else(|| Sampling::default().variance_type))
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling {
            clip_sample: true,
            clip_sample_range: 1.0,
            thresholding: false,
            dynamic_thresholding_ratio: 0.995,
            sample_max_value: 1.0,
            timestep_spacing: "leading".into(),
            steps_offset: 0,
            variance_type: "fixed_small".into(),
        }
    }
}

impl Sampling {
    /// That of a network trained here: as this crate's ancestral sampler, unclipped.
    pub fn own() -> Sampling {
        Sampling { clip_sample: false, ..Sampling::default() }
    }

    /// That of an exported score, which has no variances of its own beside it.
    pub fn of_score(self) -> Sampling {
        match self.variance_type.starts_with("learned") {
            true => Sampling { variance_type: Sampling::default().variance_type, ..self },
            false => self,
        }
    }
}

/// The fields of diffusers' DDPM and DDIM schedulers that say what was trained.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Scheduler {
    #[serde(rename = "_class_name")]
    pub class_name: String,
    pub num_train_timesteps: usize,
    pub beta_start: f64,
    pub beta_end: f64,
    pub beta_schedule: String,
    pub trained_betas: Option<Vec<f64>>,
    pub prediction_type: String,
    pub rescale_betas_zero_snr: bool,
    #[serde(flatten)]
    pub sampling: Sampling,
}

impl Default for Scheduler {
    fn default() -> Self {
        Scheduler {
            class_name: "DDPMScheduler".into(),
            num_train_timesteps: 1000,
            beta_start: 1e-4,
            beta_end: 0.02,
            beta_schedule: "linear".into(),
            trained_betas: None,
            prediction_type: "epsilon".into(),
            rescale_betas_zero_snr: false,
            sampling: Sampling::default(),
        }
    }
}

/// Samplers of the same discrete variance-preserving process.
const SCHEDULERS: [&str; 6] = [
    "DDPMScheduler",
    "DDIMScheduler",
    "PNDMScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "UniPCMultistepScheduler",
];

pub(super) const LAWS: [(&str, StepLaw); 3] = [
    ("linear", StepLaw::Linear),
    ("scaled_linear", StepLaw::ScaledLinear),
    ("squaredcos_cap_v2", StepLaw::Cosine),
];
pub(super) const PREDICTIONS: [(&str, Prediction); 3] = [
    ("epsilon", Prediction::Epsilon),
    ("v_prediction", Prediction::V),
    ("sample", Prediction::Sample),
];

impl Scheduler {
    /// The forward process and what the network's output predicts; an error is what of it there is
    /// not here.
    pub fn meaning(&self) -> std::result::Result<(ScheduleConfig, Prediction), String> {
        if !SCHEDULERS.contains(&&*self.class_name) {
            return Err(format!("a {}, whose process is another", self.class_name));
        }
        if self.trained_betas.is_some() {
            return Err("trained_betas".into());
        }
        if self.rescale_betas_zero_snr {
            return Err(
                "rescale_betas_zero_snr: its last step has no signal, hence no density".into()
            );
        }
        let law = LAWS.iter().find(|(name, _)| *name == self.beta_schedule);
        let (_, law) = law.ok_or_else(|| format!("the beta_schedule {}", self.beta_schedule))?;
        let prediction = PREDICTIONS.iter().find(|(name, _)| *name == self.prediction_type);
        let (_, prediction) =
            prediction.ok_or_else(|| format!("the prediction_type {}", self.prediction_type))?;
        let schedule = ScheduleConfig::Discrete {
            steps: self.num_train_timesteps,
            law: *law,
            beta_start: self.beta_start,
            beta_end: self.beta_end,
        };
        Ok((schedule, *prediction))
    }

    /// What has to be assumed of a network's second half of outputs, where it has one (`doubled`);
    /// an error is what of it there is not here.
    pub fn variances(&self, doubled: bool) -> std::result::Result<Option<String>, String> {
        match (&*self.sampling.variance_type, doubled) {
            ("learned_range", true) => Ok(None),
            ("learned_range", false) => {
                Err("the variance_type learned_range, of a network without it".into())
            }
            ("learned", _) => {
                Err("the variance_type learned, which is not held between β̃ and β".into())
            }
            (_, false) => Ok(None),
            (_, true) => Ok(Some(
                "the second half of the network's outputs is taken as learned_range".into(),
            )),
        }
    }
}
