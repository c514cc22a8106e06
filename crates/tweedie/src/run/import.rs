//! Models of diffusers as runs: imported, they are sampled, scored and given a covariance head like
//! any other; exported, diffusers' pipelines load them.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use super::checkpoint::{Setup, parameter_bytes};
use super::contents::{base_from_json, base_to_json};
use super::exchange::{cannot_compute, check_size, read_json, read_tensors, read_unet, write_unet};
use super::{DataConfig, DataRecord, Run, RunConfig, RunDir, write_json};
use crate::covariance::NoiseStatistics;
use crate::data::{OutputFile, Scaling};
use crate::model::{
    Backbone, Base, BaseConfig, BaseKind, Entry, HeadConfig, HeadStart, Model, ModelConfig,
    NetworkConfig, Parametrization, Prediction, UNetConfig,
};
use crate::noise::Seed;
use crate::objective::{ObjectiveConfig, StepDistribution, Target, Weighting};
use crate::schedule::{ScheduleConfig, StepLaw};
use crate::train::{State, StopReason};
use crate::{Error, Result};

const SCHEDULER: &str = "scheduler_config.json";

/// Where an imported run keeps how its pipeline samples.
const SAMPLING: &str = "scheduler.json";

/// The fields of diffusers' DDPM scheduler that say how it samples, and nothing of what was
/// trained. What a scheduler leaves out is diffusers' default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Sampling {
    clip_sample: bool,
    clip_sample_range: f64,
    thresholding: bool,
    dynamic_thresholding_ratio: f64,
    sample_max_value: f64,
    timestep_spacing: String,
    steps_offset: i64,
    #[serde(deserialize_with = "null_or_variance")]
    variance_type: String,
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
    fn own() -> Sampling {
        Sampling { clip_sample: false, ..Sampling::default() }
    }

    /// That of an exported score, which has no variances of its own beside it.
    fn of_score(self) -> Sampling {
        match self.variance_type.starts_with("learned") {
            true => Sampling { variance_type: Sampling::default().variance_type, ..self },
            false => self,
        }
    }
}

/// The fields of diffusers' DDPM and DDIM schedulers that say what was trained.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
struct Scheduler {
    #[serde(rename = "_class_name")]
    class_name: String,
    num_train_timesteps: usize,
    beta_start: f64,
    beta_end: f64,
    beta_schedule: String,
    trained_betas: Option<Vec<f64>>,
    prediction_type: String,
    rescale_betas_zero_snr: bool,
    #[serde(flatten)]
    sampling: Sampling,
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

/// Pipelines of a U-Net and a scheduler, without text or latents.
const PIPELINES: [&str; 3] = ["DDPMPipeline", "DDIMPipeline", "PNDMPipeline"];
/// Samplers of the same discrete variance-preserving process.
const SCHEDULERS: [&str; 6] = [
    "DDPMScheduler",
    "DDIMScheduler",
    "PNDMScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "UniPCMultistepScheduler",
];

/// The first entry of `model_index.json`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Index {
    #[serde(rename = "_class_name")]
    class_name: String,
}

const LAWS: [(&str, StepLaw); 3] = [
    ("linear", StepLaw::Linear),
    ("scaled_linear", StepLaw::ScaledLinear),
    ("squaredcos_cap_v2", StepLaw::Cosine),
];
const PREDICTIONS: [(&str, Prediction); 3] = [
    ("epsilon", Prediction::Epsilon),
    ("v_prediction", Prediction::V),
    ("sample", Prediction::Sample),
];

impl Scheduler {
    /// The forward process and what the network's output predicts; an error is what of it there is
    /// not here.
    fn meaning(&self) -> std::result::Result<(ScheduleConfig, Prediction), String> {
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
    fn variances(&self, doubled: bool) -> std::result::Result<Option<String>, String> {
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

/// What a run's covariance head needs beside its tensors: the folder that exports put beside the
/// score's.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    /// The whole network: what the head sits on, and its own layers.
    network: UNetConfig,
    /// What its outputs mean.
    head: HeadConfig,
    /// The base that they correct.
    base_kind: BaseKind,
    base: serde_json::Value,
    /// What they correct in its place, where that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    start: Option<NoiseStatistics>,
}

/// The folder of the covariance head in a pipeline; diffusers leaves it alone.
const HEAD: &str = "covariance_head";
const HEAD_CONFIG: &str = "config.json";
const HEAD_WEIGHTS: &str = "covariance_head.safetensors";

/// Makes a run at `out` of the diffusers model at `dir`: the folder of a `DDPMPipeline` or
/// `DDIMPipeline`, or that of a `UNet2DModel` alone, which is taken to predict ε under DDPM's
/// schedule. It maps pixel levels 0…255 to `[−1, 1]`, as diffusers does. Classes, where it has any,
/// have numbers for names. It has a covariance head where [`export`] put one beside the score, or
/// where the network has variances of its own (`learned_range`), for
/// [`crate::covariance::Interpolated`]. Returns a remark about what had to be assumed.
///
/// # Errors
/// As [`read_unet`]; and for a scheduler that has no equal here, or a run that is there already.
pub fn import(dir: &Path, out: &Path, device: Device) -> Result<Option<String>> {
    let index = dir.join("model_index.json");
    let pipeline = index.exists();
    if pipeline {
        let Index { class_name } = read_json(&index, "give the folder of a diffusers pipeline")?;
        if !PIPELINES.contains(&&*class_name) {
            let remedy = format!("only {} can be imported", PIPELINES.join(", "));
            return Err(Error::checkpoint(&index, format!("is of a {class_name:?}"), remedy));
        }
    }
    // parts have folders of their own, or, in old pipelines, lie side by side
    let part =
        |name: &str| if dir.join(name).is_dir() { dir.join(name) } else { dir.to_path_buf() };
    let (unet, path) = (part("unet"), part("scheduler").join(SCHEDULER));
    let (scheduler, remark) = match pipeline || path.exists() {
        true => (read_json::<Scheduler>(&path, "give the folder of a diffusers pipeline")?, None),
        false => {
            let remark =
                format!("no {SCHEDULER}: taken as predicting ε under DDPM's linear schedule");
            (Scheduler { sampling: Sampling::own(), ..Scheduler::default() }, Some(remark))
        }
    };
    let (schedule, prediction) = scheduler.meaning().map_err(|what| cannot_compute(&path, what))?;
    let net = read_unet(&unet, device)?;
    let (score_size, all) = (net.score_size(), net.parameters().size());
    let assumed =
        scheduler.variances(all > score_size).map_err(|what| cannot_compute(&path, what))?;
    let remark = [remark, assumed].into_iter().flatten().reduce(|a, b| format!("{a}; {b}"));
    let mut network = net.config().clone();
    network.steps = scheduler.num_train_timesteps as i64;
    let dim = network.dim();
    let image = network.shape.map(|n| n as usize);
    let source = dir.display().to_string();
    let classes: Vec<String> = (0..network.classes).map(|class| class.to_string()).collect();
    let exported = read_head(&dir.join(HEAD), &network)?;
    let beside = exported.is_some();
    let (base_kind, base) = match &exported {
        Some(part) => (part.base_kind, base_of(part, &dir.join(HEAD))?),
        None => (BaseKind::Isotropic, Base::standard(dim)),
    };
    let own = HeadConfig::diagonal(Parametrization::Interpolation);
    let (network, head, start) = match exported {
        Some(Head { network, head, start, .. }) => (network, Some(head), start),
        None => (network, (all > score_size).then_some(own), None),
    };
    let time = crate::grid::TimeDistribution::Uniform;
    let config = RunConfig {
        data: DataConfig {
            source: source.clone(),
            classes: !classes.is_empty(),
            ..DataConfig::default()
        },
        schedule,
        base: BaseConfig { kind: base_kind, ..BaseConfig::default() },
        objective: match head.map(|head| head.parametrization) {
            Some(Parametrization::Interpolation) => {
                ObjectiveConfig::VariationalBound { draws: 1, steps: StepDistribution::default() }
            }
            Some(Parametrization::SecondMoment) => ObjectiveConfig::CovarianceMatching {
                target: Target::SecondMoment,
                time,
                draws: 1,
                probes: 1,
            },
            Some(_) => ObjectiveConfig::default(),
            None => ObjectiveConfig::Sm { weighting: Weighting::Sigma2, time, draws: 1 },
        },
        model: ModelConfig {
            network: NetworkConfig::UNet(network),
            head,
            prediction,
            ..ModelConfig::default()
        },
        ..RunConfig::default()
    };
    let record = DataRecord {
        source,
        scaling: Scaling::Pixels(dim as usize),
        marginals: Vec::new(),
        image: Some(image),
        latents: None,
        classes,
        rows: [0; 3],
        split_seed: 0,
        dropped: [0; 2],
        fingerprint: String::new(),
        remarks: Vec::new(),
    };
    // what cannot be is refused before anything is made or written
    if beside {
        let weights = dir.join(HEAD).join(HEAD_WEIGHTS);
        let bytes = std::fs::metadata(&weights).map_err(Error::io(&weights))?.len();
        let of_head = config.model.size(&*config.schedule.build()?, dim)? - score_size;
        check_size(&dir.join(HEAD).join(HEAD_CONFIG), of_head, (bytes / 4) as i64)?;
    }
    let model = config.model.init(base, config.schedule.build()?, device, Seed(0))?;
    let first = |length: i64| net.parameters().flat().narrow(0, 0, length);
    let parameters = match beside {
        true => {
            let entries = head_entries(&model);
            let head =
                read_tensors(&dir.join(HEAD), &[HEAD_WEIGHTS.into()], &entries)?.to_device(device);
            vec![first(score_size), head]
        }
        false => vec![first(all)],
    };
    model.parameters().assign(&Tensor::cat(&parameters, 0));
    let run = RunDir::create(out)?;
    run.write_setup(&record, model.base(), &config)?;
    if let Some(start) = &start {
        run.write_head_start(start)?;
    }
    run.write_json(SAMPLING, &scheduler.sampling)?;
    let state = State::new(&model);
    run.checkpoint(&model, &state)?;
    run.write_config(&config)?;
    run.finish(&state, StopReason::Finished)?;
    Ok(remark)
}

/// The covariance head on the score network `score` that `dir` describes, where there is such a
/// folder.
fn read_head(dir: &Path, score: &UNetConfig) -> Result<Option<Head>> {
    if !dir.is_dir() {
        return Ok(None);
    }
    let path = dir.join(HEAD_CONFIG);
    let head: Head = read_json(&path, "export the run again")?;
    let alike = |network: &UNetConfig| NetworkConfig::UNet(network.clone()).score_only();
    let asks = head.head.start == HeadStart::Analytic;
    if asks != head.start.is_some()
        || head.start.as_ref().is_some_and(|start| start.problem().is_some())
    {
        let problem = "lacks what the head corrects, or has it damaged";
        return Err(Error::checkpoint(&path, problem, "export the run again"));
    }
    if alike(&head.network) != alike(score) {
        let problem = "is of a head on another network";
        return Err(Error::checkpoint(&path, problem, "leave the folders of an export together"));
    }
    Ok(Some(head))
}

fn base_of(head: &Head, dir: &Path) -> Result<Base> {
    base_from_json(head.base.clone(), head.base_kind).map_err(|problem| {
        Error::checkpoint(dir.join(HEAD_CONFIG), problem, "export the run again")
    })
}

/// The parameters of a model's covariance head.
fn head_entries(model: &Model) -> Vec<Entry> {
    let score = model.score_size();
    model.parameters().entries().iter().filter(|e| e.offset >= score).cloned().collect()
}

/// Takes over how the pipeline that `donor` was imported from samples, where there is one, for
/// exports of `dir`.
pub(super) fn keep_sampling(donor: &RunDir, dir: &RunDir) -> Result<()> {
    match donor.file(SAMPLING).exists() {
        true => dir.write_json(SAMPLING, &donor.read_json::<Sampling>(SAMPLING)?),
        false => Ok(()),
    }
}

/// Writes the score network of `run` at `out` as a `DDPMPipeline`, and its covariance head, where
/// it has one, in a folder beside, which [`import`] reads. How the pipeline samples (`clip_sample`
/// among others) is as it was where the score was imported; of a score trained here samples are not
/// clipped. Diffusers has no pipeline that passes classes on: a network with classes is written
/// without an index, for `UNet2DModel.from_pretrained`.
///
/// # Errors
/// If the network is not a U-Net that predicts ε, v or x_0 under a discrete schedule, or files
/// cannot be written.
pub fn export(run: &Run, out: &Path) -> Result<()> {
    let cannot = |problem: &str, remedy: &str| Error::config("export", problem, remedy);
    let NetworkConfig::UNet(network) = &run.config.model.network else {
        return Err(cannot("the network of this run is not a U-Net", "export a run on images"));
    };
    if run.data.image != Some(network.shape.map(|n| n as usize)) {
        return Err(cannot(
            "the rows of this run are not images of its network's shape",
            "export a run on images",
        ));
    }
    let prediction = PREDICTIONS.iter().find(|(_, p)| *p == run.config.model.prediction);
    let Some((prediction_type, _)) = prediction else {
        let remedy = "train with model.prediction = \"epsilon\" and a discrete schedule in a \
        configuration file";
        return Err(cannot(
            "the network corrects a base distribution, which diffusers does not know",
            remedy,
        ));
    };
    let ScheduleConfig::Discrete { steps, law, beta_start, beta_end } = run.config.schedule else {
        let remedy = "train with schedule.kind = \"discrete\" in a configuration file";
        return Err(cannot("the run's schedule is not a discrete chain", remedy));
    };
    if network.steps != steps as i64 {
        return Err(cannot(
            "the network's steps are not the schedule's",
            "give both the same number",
        ));
    }
    let sampling = match run.dir.file(SAMPLING).exists() {
        true => run.dir.read_json::<Sampling>(SAMPLING)?.of_score(),
        false => Sampling::own(),
    };
    let (beta_schedule, _) = LAWS.iter().find(|(_, l)| *l == law).expect("every law has its name");
    let scheduler = Scheduler {
        num_train_timesteps: steps,
        beta_start,
        beta_end,
        beta_schedule: beta_schedule.to_string(),
        prediction_type: prediction_type.to_string(),
        sampling,
        ..Scheduler::default()
    };
    let net = network.init(0, Device::Cpu, Seed(0))?;
    let score: Tensor = run.model.parameters().flat().narrow(0, 0, net.score_size());
    net.parameters().assign(&score.to_device(Device::Cpu));
    let index = serde_json::json!({
        "_class_name": "DDPMPipeline",
        "scheduler": ["diffusers", "DDPMScheduler"],
        "unet": ["diffusers", "UNet2DModel"],
    });
    let scheduler_dir = out.join("scheduler");
    std::fs::create_dir_all(&scheduler_dir).map_err(Error::io(&scheduler_dir))?;
    write_unet(&net, &out.join("unet"))?;
    write_json(&scheduler_dir.join(SCHEDULER), &scheduler)?;
    if let Some(head) = &run.config.model.head {
        let dir = out.join(HEAD);
        std::fs::create_dir_all(&dir).map_err(Error::io(&dir))?;
        let weights = parameter_bytes(
            &head_entries(&run.model),
            run.model.parameters().flat(),
            &Setup::default(),
            &[],
        );
        OutputFile::create(dir.join(HEAD_WEIGHTS))?.finish(&weights)?;
        let (base_kind, base) = (run.config.base.kind, base_to_json(run.model.base()));
        let start = run.model.head_start().cloned();
        let part = Head { network: network.clone(), head: *head, base_kind, base, start };
        write_json(&dir.join(HEAD_CONFIG), &part)?;
    }
    if network.classes > 0 {
        return Ok(());
    }
    write_json(&out.join("model_index.json"), &index)
}
