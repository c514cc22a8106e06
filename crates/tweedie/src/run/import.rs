//! Models of diffusers as runs: imported, they are sampled, scored and given a covariance head like
//! any other; exported, diffusers' pipelines load them.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use super::checkpoint::{Setup, parameter_bytes};
use super::contents::{base_from_json, base_to_json};
use super::exchange::{
    cannot_compute, check_size, read_dit, read_dit_checkpoint, read_json, read_tensors, read_unet,
    write_dit, write_unet,
};
use super::scheduler::{LAWS, PREDICTIONS, Sampling, Scheduler};
use super::{DataConfig, DataRecord, Run, RunConfig, RunDir, write_json};
use crate::covariance::NoiseStatistics;
use crate::data::{
    Column, ColumnKind, ColumnScaling, LatentsOf, OutputFile, ScaledColumn, Scaling,
};
use crate::model::{
    Backbone, Base, BaseConfig, BaseKind, DiTTransformer2DModel, Entry, HeadConfig, HeadStart,
    Model, ModelConfig, NetworkConfig, Parametrization, UNetConfig,
};
use crate::noise::Seed;
use crate::objective::{ObjectiveConfig, StepDistribution, Target, Weighting};
use crate::schedule::ScheduleConfig;
use crate::train::{State, StopReason};
use crate::{Error, Result};

const SCHEDULER: &str = "scheduler_config.json";

/// Where an imported run keeps how its pipeline samples.
const SAMPLING: &str = "scheduler.json";

/// Pipelines of a network and a scheduler, without text; the last is of latents.
const PIPELINES: [&str; 4] = ["DDPMPipeline", "DDIMPipeline", "PNDMPipeline", DIT];
/// The pipeline of a diffusion transformer.
const DIT: &str = "DiTPipeline";

/// What is read of a `model_index.json` or a `config.json`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Index {
    #[serde(rename = "_class_name")]
    class_name: String,
    /// The names of classes by their numbers.
    id2label: Option<BTreeMap<String, String>>,
}

impl Index {
    /// The names of so many classes; none if each has none of its own.
    fn labels(&self, classes: i64) -> std::result::Result<Option<Vec<String>>, String> {
        let Some(labels) = self.id2label.as_ref().filter(|_| classes > 0) else { return Ok(None) };
        let of = |class: i64| labels.get(&class.to_string()).cloned();
        match labels.len() as i64 == classes {
            true => Ok((0..classes).map(of).collect()),
            false => Err(format!("names {} classes of {classes}", labels.len())),
        }
    }
}

/// What a run's covariance head needs beside its tensors: the folder that exports put beside the
/// score's.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    /// The whole network: what the head sits on, and its own layers.
    #[serde(deserialize_with = "network_or_unet")]
    network: NetworkConfig,
    /// What its outputs mean.
    head: HeadConfig,
    /// The base that they correct.
    base_kind: BaseKind,
    base: serde_json::Value,
    /// What they correct in its place, where that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    start: Option<NoiseStatistics>,
}

/// Earlier versions knew U-Nets alone and wrote no kind.
fn network_or_unet<'de, D: serde::Deserializer<'de>>(
    from: D,
) -> std::result::Result<NetworkConfig, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Network(NetworkConfig),
        UNet(UNetConfig),
    }
    Ok(match Written::deserialize(from)? {
        Written::Network(network) => network,
        Written::UNet(network) => NetworkConfig::UNet(network),
    })
}

/// The folder of the covariance head in a pipeline; diffusers leaves it alone.
const HEAD: &str = "covariance_head";
const HEAD_CONFIG: &str = "config.json";
const HEAD_WEIGHTS: &str = "covariance_head.safetensors";

/// What latents of this shape, channels, height and width, are of.
pub type LatentsOfShape<'a> = Option<&'a dyn Fn([usize; 3]) -> Result<LatentsOf>>;

/// A network that was read, and what is known of it.
struct Found {
    net: Box<dyn Backbone>,
    network: NetworkConfig,
    scheduler: Scheduler,
    /// The names of the classes, where they have names.
    labels: Option<Vec<String>>,
    /// Whether the images are an autoencoder's latents.
    latents: bool,
    /// What had to be assumed.
    assumed: Vec<String>,
}

/// Makes a run at `out` of the diffusers model at `dir`: the folder of a `DDPMPipeline`, a
/// `DDIMPipeline` or a `DiTPipeline`, or that of a `UNet2DModel` or a `DiTTransformer2DModel`
/// alone, which is taken to predict ε under DDPM's schedule. It maps pixel levels 0…255 to `[−1,
/// 1]`, as diffusers does. Classes have the names in the pipeline's `id2label`, else numbers. It
/// has a covariance head where [`export`] put one beside the score, or where the network has
/// variances of its own (`learned_range`), for [`crate::covariance::Interpolated`]. Returns a
/// remark about what had to be assumed.
///
/// A DiT of a `DiTPipeline`, or of other numbers of channels than 1 and 3, is of an autoencoder's
/// latents, real numbers that are taken as they are; `latents_of` says of which, given their shape
/// ([`crate::autoencoder::Autoencoder::of_shape`]). Where it is not given the latents are a table
/// with a column for each, and the run can be sampled alone.
///
/// # Errors
/// As [`read_unet`] and [`read_dit`]; and for a scheduler that has no equal here, or a run that is
/// there already.
pub fn import(
    dir: &Path,
    latents_of: LatentsOfShape,
    out: &Path,
    device: Device,
) -> Result<Option<String>> {
    let index_path = dir.join("model_index.json");
    let pipeline = index_path.exists();
    let index = match pipeline {
        true => read_json(&index_path, "give the folder of a diffusers pipeline")?,
        false => Index::default(),
    };
    if pipeline && !PIPELINES.contains(&&*index.class_name) {
        let remedy = format!("only {} can be imported", PIPELINES.join(", "));
        let problem = format!("is of a {:?}", index.class_name);
        return Err(Error::checkpoint(&index_path, problem, remedy));
    }
    // parts have folders of their own, or, in old pipelines, lie side by side
    let part =
        |name: &str| if dir.join(name).is_dir() { dir.join(name) } else { dir.to_path_buf() };
    let path = part("scheduler").join(SCHEDULER);
    let mut assumed = Vec::new();
    let scheduler = match pipeline || path.exists() {
        true => read_json::<Scheduler>(&path, "give the folder of a diffusers pipeline")?,
        false => {
            assumed.push(format!("no {SCHEDULER}: {DDPM}"));
            Scheduler { sampling: Sampling::own(), ..Scheduler::default() }
        }
    };
    let is_dit = index.class_name == DIT
        || dir.join("transformer").is_dir()
        || read_json::<Index>(&dir.join("config.json"), "")
            .is_ok_and(|config| DiTTransformer2DModel::is_class(&config.class_name));
    // what the scheduler cannot be is said before weights are read
    scheduler.meaning().map_err(|what| cannot_compute(&path, what))?;
    let (net, network): (Box<dyn Backbone>, _) = match is_dit {
        true => {
            let net = read_dit(&part("transformer"), device)?;
            let network = NetworkConfig::Dit(net.config().clone());
            (Box::new(net), network)
        }
        false => {
            let net = read_unet(&part("unet"), device)?;
            let network = NetworkConfig::UNet(net.config().clone());
            (Box::new(net), network)
        }
    };
    let labels = index.labels(network.classes()).map_err(|what| {
        Error::checkpoint(&index_path, what, "leave id2label out, or complete it")
    })?;
    let latents = latents_of.is_some() || is_dit && (pipeline || !of_pixels(&network));
    let found = Found { net, network, scheduler, labels, latents, assumed };
    found.into_run(&path, dir, latents_of, out, device)
}

/// Makes a run at `out` of the published checkpoint of a diffusion transformer, as
/// [`read_dit_checkpoint`] reads it; otherwise as [`import`]. It is taken to predict ε under DDPM's
/// linear schedule of 1000 steps, a second half of outputs to give variances as I-DDPM's.
///
/// # Errors
/// As [`read_dit_checkpoint`]; and for a run that is there already.
pub fn import_dit_checkpoint(
    file: &Path,
    heads: Option<i64>,
    latents_of: LatentsOfShape,
    out: &Path,
    device: Device,
) -> Result<Option<String>> {
    let net = read_dit_checkpoint(file, heads, device)?;
    let network = NetworkConfig::Dit(net.config().clone());
    let latents = latents_of.is_some() || !of_pixels(&network);
    let sampling = match net.parameters().size() > net.score_size() {
        true => Sampling { variance_type: "learned_range".into(), ..Sampling::own() },
        false => Sampling::own(),
    };
    let scheduler = Scheduler { sampling, ..Scheduler::default() };
    let assumed = vec![format!("a checkpoint has no {SCHEDULER}: {DDPM}")];
    let found = Found { net: Box::new(net), network, scheduler, labels: None, latents, assumed };
    found.into_run(file, file, latents_of, out, device)
}

/// What is assumed where no scheduler is given.
const DDPM: &str = "taken as predicting ε under DDPM's linear schedule";

/// Whether its images have as many channels as pictures.
fn of_pixels(network: &NetworkConfig) -> bool {
    network.image().is_some_and(|[channels, ..]| [1, 3].contains(&channels))
}

/// More numbers than the latents of any image that a DiT is of: the size is in no weight's shape.
const MOST_LATENTS: i64 = 1 << 20;

/// The columns of latents, which are what the network takes.
fn latent_columns(dim: i64) -> Scaling {
    let column = |i| ScaledColumn {
        column: Column { name: format!("z{i}"), kind: ColumnKind::Float },
        grid: None,
        map: ColumnScaling::Affine { shift: 0.0, scale: 1.0 },
    };
    Scaling::Columns((1..=dim).map(column).collect())
}

impl Found {
    /// The run at `out` of what was read from `source`, its scheduler from `path`.
    fn into_run(
        self,
        path: &Path,
        source: &Path,
        latents_of: LatentsOfShape,
        out: &Path,
        device: Device,
    ) -> Result<Option<String>> {
        let Found { net, mut network, scheduler, labels, latents, mut assumed } = self;
        let (schedule, prediction) =
            scheduler.meaning().map_err(|what| cannot_compute(path, what))?;
        let (score_size, all) = (net.score_size(), net.parameters().size());
        assumed.extend(
            scheduler.variances(all > score_size).map_err(|what| cannot_compute(path, what))?,
        );
        network.set_steps(scheduler.num_train_timesteps as i64);
        let shape = network.image().expect("a network for images");
        let dim = shape.iter().product::<usize>() as i64;
        let (mut remarks, mut of) = (Vec::new(), None);
        if latents {
            if dim > MOST_LATENTS {
                return Err(cannot_compute(source, format!("latents of {dim} numbers")));
            }
            let [channels, height, width] = shape;
            of = latents_of.map(|of| of(shape)).transpose()?;
            let whose = match &of {
                Some(of) => format!("the autoencoder {}", of.vae),
                None => "an autoencoder".into(),
            };
            remarks.push(format!(
                "rows are latents of {whose}, {channels} x {height} x {width} real numbers, times \
                 its scaling factor; likelihoods are of latents, never of pixels"
            ));
            let alone = match of {
                Some(_) => "",
                None => "; no autoencoder was given, so that the run can be sampled alone",
            };
            assumed.push(format!("{}{alone}", remarks[0]));
        }
        let remark = assumed.into_iter().reduce(|a, b| format!("{a}; {b}"));
        let (dir, source) = (source, source.display().to_string());
        let numbers = || (0..network.classes()).map(|class| class.to_string()).collect();
        let classes: Vec<String> = labels.unwrap_or_else(numbers);
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
                Some(Parametrization::Interpolation) => ObjectiveConfig::VariationalBound {
                    draws: 1,
                    steps: StepDistribution::default(),
                },
                Some(Parametrization::SecondMoment) => ObjectiveConfig::CovarianceMatching {
                    target: Target::SecondMoment,
                    time,
                    draws: 1,
                    probes: 1,
                },
                Some(_) => ObjectiveConfig::default(),
                None => ObjectiveConfig::Sm { weighting: Weighting::Sigma2, time, draws: 1 },
            },
            model: ModelConfig { network, head, prediction, ..ModelConfig::default() },
            ..RunConfig::default()
        };
        let record = DataRecord {
            context: Vec::new(),
            schema: None,
            source,
            scaling: match (latents, &of) {
                (false, _) => Scaling::Pixels(dim as usize),
                (true, Some(_)) => Scaling::Latents(dim as usize),
                (true, None) => latent_columns(dim),
            },
            marginals: Vec::new(),
            image: (!latents || of.is_some()).then_some(shape),
            latents: of,
            classes,
            rows: [0; 3],
            split_seed: 0,
            dropped: [0; 2],
            fingerprint: String::new(),
            remarks,
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
                let head = read_tensors(&dir.join(HEAD), &[HEAD_WEIGHTS.into()], &entries)?
                    .to_device(device);
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
}

/// The covariance head on the score network `score` that `dir` describes, where there is such a
/// folder.
fn read_head(dir: &Path, score: &NetworkConfig) -> Result<Option<Head>> {
    if !dir.is_dir() {
        return Ok(None);
    }
    let path = dir.join(HEAD_CONFIG);
    let head: Head = read_json(&path, "export the run again")?;
    let asks = head.head.start == HeadStart::Analytic;
    if asks != head.start.is_some()
        || head.start.as_ref().is_some_and(|start| start.problem().is_some())
    {
        let problem = "lacks what the head corrects, or has it damaged";
        return Err(Error::checkpoint(&path, problem, "export the run again"));
    }
    if head.network.score_only() != score.score_only() {
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

/// Writes the score network of `run` at `out` as a `DDPMPipeline` or, a DiT of latents, as a
/// `DiTPipeline`, and its covariance head, where it has one, in a folder beside, which [`import`]
/// reads. How the pipeline samples (`clip_sample` among others) is as it was where the score was
/// imported; of a score trained here samples are not clipped. Diffusers has no pipeline that passes
/// classes on to a U-Net, and none of a DiT on pixels: these are written without an index, for
/// `UNet2DModel.from_pretrained` and `DiTTransformer2DModel.from_pretrained`. A `DiTPipeline` is
/// written without its autoencoder, which `from_pretrained` takes as `vae`.
///
/// # Errors
/// If the network is not of images and predicts ε, v or x_0 under a discrete schedule, or files
/// cannot be written.
pub fn export(run: &Run, out: &Path) -> Result<()> {
    let cannot = |problem: &str, remedy: &str| Error::config("export", problem, remedy);
    let network = &run.config.model.network;
    let Some(shape) = network.image() else {
        let problem = "the network of this run is neither a U-Net nor a DiT";
        return Err(cannot(problem, "export a run on images"));
    };
    let is_dit = matches!(network, NetworkConfig::Dit(_));
    let latents = run.data.latents.is_some() || is_dit && run.data.image.is_none();
    if !latents && run.data.image != Some(shape) {
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
    if network.steps() != Some(steps as i64) {
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
    let score = |net: &dyn Backbone| {
        let own = run.model.parameters().flat().narrow(0, 0, net.score_size());
        net.parameters().assign(&own.to_device(Device::Cpu));
    };
    // what diffusers has no equal of is refused before anything is written
    match network {
        NetworkConfig::Dit(network) => {
            let net = network.init(0, Device::Cpu, Seed(0))?;
            score(&net);
            write_dit(&net, &out.join("transformer"))?;
        }
        NetworkConfig::UNet(network) => {
            let net = network.init(0, Device::Cpu, Seed(0))?;
            score(&net);
            write_unet(&net, &out.join("unet"))?;
        }
        NetworkConfig::Mlp(_) => unreachable!("a network for images"),
    }
    let scheduler_dir = out.join("scheduler");
    std::fs::create_dir_all(&scheduler_dir).map_err(Error::io(&scheduler_dir))?;
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
    let classes = run.data.classes.iter();
    let labels: BTreeMap<String, &String> =
        classes.enumerate().map(|(class, name)| (class.to_string(), name)).collect();
    let index = match network {
        NetworkConfig::UNet(_) if network.classes() == 0 => serde_json::json!({
            "_class_name": "DDPMPipeline",
            "scheduler": ["diffusers", "DDPMScheduler"],
            "unet": ["diffusers", "UNet2DModel"],
        }),
        NetworkConfig::Dit(_) if latents => serde_json::json!({
            "_class_name": DIT,
            "id2label": labels,
            "scheduler": ["diffusers", "DDPMScheduler"],
            "transformer": ["diffusers", "DiTTransformer2DModel"],
            "vae": ["diffusers", "AutoencoderKL"],
        }),
        _ => return Ok(()),
    };
    write_json(&out.join("model_index.json"), &index)
}
