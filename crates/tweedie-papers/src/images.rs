//! What the experiments on images have in common: arms trained under one budget, each an ordinary
//! run directory ([`arm`]), and judged by one protocol ([`judge`], for tables too).
//!
//! An arm whose run is there and finished is not trained again; one that was interrupted goes on
//! where it was left.

pub mod arm;
pub mod judge;
pub(crate) mod record;
pub(crate) mod shared_score;

use std::path::PathBuf;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::experiment::{Context, settings};
use crate::page::Page;
use crate::runs::Tasks;
use arm::{Arm, Studio};
use judge::{Judge, Method};
pub use record::{Found, Record, Unit};
use tweedie::data::Crop;
use tweedie::grid::even_trajectory;
use tweedie::metric::Extractor;
use tweedie::model::{HeadTrunk, NetworkConfig, PRESETS, UNetConfig};
use tweedie::run::Run;
use tweedie::sample::IMAGES_AT_ONCE;
use tweedie::schedule::{Schedule, ScheduleConfig};
use tweedie::train::TrainConfig;
use tweedie::{Error, Result};
use tweedie_report::plot::Sheet;

settings! {
    /// Settings of every experiment on images.
    pub struct Settings {
        /// Images to train on; the test images are split off from them unless `test` is given.
        pub data: String = String::new(),
        /// The square in their middle that is kept of them, before they are brought to a size.
        pub crop: Option<Crop> = None,
        /// The height and width that they are brought to.
        pub size: Option<[usize; 2]> = None,
        /// Test images of their own.
        pub test: Option<PathBuf> = None,
        /// The network of every arm, or its name; its shape follows the images, its head the arm.
        #[serde(deserialize_with = "network")]
        pub network: NetworkConfig = NetworkConfig::UNet(UNetConfig::default()),
        /// Steps of the optimiser, equal for all arms.
        pub iterations: u64 = 5_000,
        /// Pairs (x_t, t) per step, equal for all arms: with `N` draws per image a step takes
        /// `pairs / N` images.
        pub pairs: usize = 64,
        /// Adam's step size.
        pub learning_rate: f64 = 1e-3,
        /// At most this many test images, or rows, for likelihoods.
        pub rows: usize = 256,
        /// At most this many terms of a bound per row; 0: all.
        pub terms: usize = 0,
        /// Samples for a Fréchet distance.
        pub samples: usize = 1_000,
        /// At most this many test images that samples are compared with.
        pub reference: usize = 10_000,
        /// Samples of images end as published: the noise of the last step but one moves a pixel by
        /// at most so many of 255 levels in the mean ([`tweedie::sample::Ancestral::clip_noise`]);
        /// 0: as the covariance says. The library clips nothing by default; Analytic-DPM and OCM
        /// do.
        pub clip_noise: f64 = 1.0,
        /// Images computed at a time when judging.
        pub batch: usize = IMAGES_AT_ONCE,
        /// Weights of the network whose features Fréchet distances are of; without them there are
        /// none.
        pub features: Option<PathBuf> = None,
        /// Of a run of latents: the autoencoder that decodes samples, and test latents that they
        /// are compared with, to images.
        pub vae: Option<PathBuf> = None,
        /// The seed of everything random.
        pub seed: u64 = 0,
    }
}

/// A network so small that it shows nothing but that everything runs.
pub fn tiny_network() -> NetworkConfig {
    NetworkConfig::UNet(UNetConfig {
        widths: vec![8, 8],
        attention: vec![false, false],
        middle_attention: false,
        groups: 4,
        head_widths: vec![4, 4],
        ..UNetConfig::default()
    })
}

/// A network for images, or the name of one: `small` of 1x32x32 images, any other of 3x32x32.
pub(crate) fn network<'de, D: Deserializer<'de>>(
    from: D,
) -> std::result::Result<NetworkConfig, D::Error> {
    let network = match Value::deserialize(from)? {
        Value::String(name) => {
            let channels = if name == "small" { 1 } else { 3 };
            let network = NetworkConfig::of_name(&name).ok_or_else(|| {
                let names = PRESETS.map(|preset| preset.name).join(", ");
                D::Error::custom(format!("no network {name:?}: give one of {names}"))
            })?;
            network.for_images([channels, 32, 32], HeadTrunk::Detached)
        }
        tree => NetworkConfig::deserialize(tree).map_err(D::Error::custom)?,
    };
    match network.image() {
        Some(_) => Ok(network),
        None => Err(D::Error::custom("a network for rows of a table: give one for images")),
    }
}

/// What a network for images is, and the one that a covariance has where it has its own.
pub(crate) fn in_words(network: &NetworkConfig) -> String {
    let of_resolutions = |widths: &[i64], blocks: i64| {
        let widths: Vec<String> = widths.iter().map(i64::to_string).collect();
        format!("widths {} with {blocks} blocks each", widths.join(", "))
    };
    let (score, own) = match network {
        NetworkConfig::UNet(config) => (
            format!(
                "U-Net, {}, dropout {}",
                of_resolutions(&config.widths, config.blocks),
                config.dropout
            ),
            of_resolutions(&config.head_widths, config.head_blocks),
        ),
        NetworkConfig::Dit(config) => (
            network.describe(),
            format!("{} blocks of width {}", config.head_blocks, config.head_width),
        ),
        NetworkConfig::Mlp(_) => return network.describe(),
    };
    format!("{score}; a covariance network of its own has {own}")
}

/// Flags: which images, and which network is trained on them.
pub(crate) const IMAGES: &str = include_str!("images/flags.txt");
/// Flags: what a training takes.
pub(crate) const TRAINING: &str = include_str!("images/training_flags.txt");
/// Flags: how samples are judged.
pub(crate) const SAMPLES: &str = include_str!("images/sample_flags.txt");
/// Flags: what a training takes, and how likelihoods and samples are judged.
pub(crate) const BUDGET: &str = concat!(
    include_str!("images/training_flags.txt"),
    include_str!("images/likelihood_flags.txt"),
    include_str!("images/sample_flags.txt")
);

impl Settings {
    /// The same with a tiny network and few iterations, test images and samples: to see that it
    /// runs, not to read numbers off.
    pub fn quick(self) -> Settings {
        Settings {
            network: tiny_network(),
            iterations: self.iterations.min(30),
            pairs: self.pairs.min(16),
            rows: self.rows.min(8),
            samples: self.samples.min(16),
            reference: self.reference.min(64),
            ..self
        }
    }

    /// Checks the settings, and reads the feature network where there is one: before anything is
    /// trained.
    pub(super) fn extractor(&self, context: &Context) -> Result<Option<Extractor>> {
        self.check()?;
        self.features.as_ref().map(|path| Extractor::read(path, context.device)).transpose()
    }

    /// How a training with `draws` pairs per row goes under the budget.
    pub(super) fn train(&self, draws: usize) -> TrainConfig {
        TrainConfig {
            iterations: self.iterations,
            batch_size: (self.pairs / draws).max(1),
            learning_rate: self.learning_rate,
            patience: 0,
            validation_rows: self.rows.min(128),
            checkpoint_every: 500,
            ..TrainConfig::default()
        }
    }

    /// The schedule of every arm.
    pub(super) fn schedule(&self) -> Result<Arc<dyn Schedule>> {
        ScheduleConfig::default().build()
    }

    fn check(&self) -> Result<()> {
        if let Some(test) = &self.test {
            std::fs::metadata(test).map_err(Error::io(test))?;
        }
        Error::check_count("experiment.images.rows", self.rows, 1_000_000_000)?;
        if self.terms == 1 {
            let remedy = "give 2 or more, or 0 for all";
            return Err(Error::config(
                "experiment.images.terms",
                "1 is the decoder's alone",
                remedy,
            ));
        }
        if !(self.clip_noise >= 0.0 && self.clip_noise.is_finite()) {
            let remedy = "give a number of levels, 1 or 2, or 0 for none";
            return Err(Error::config(
                "experiment.images.clip_noise",
                self.clip_noise.to_string(),
                remedy,
            ));
        }
        Error::check_count("experiment.images.samples", self.samples, 1_000_000_000)?;
        Error::check_count("experiment.images.reference", self.reference, 1_000_000_000)?;
        Error::check_count("experiment.images.batch", self.batch, 1_000_000)?;
        Error::check_count("experiment.images.pairs", self.pairs, 1_000_000)
    }

    fn tree(&self) -> Result<Value> {
        serde_json::to_value(self)
            .map_err(|e| Error::config("experiment.images", e.to_string(), "give other settings"))
    }

    /// The budget and the network, for a page.
    pub(super) fn describe(&self) -> Result<String> {
        let page = Page::new().with("network", in_words(&self.network));
        let text = page.fill(include_str!("images/budget.md"), &self.tree()?)?;
        Ok(text.trim_end().into())
    }
}

/// Checks a list of numbers of steps, each of which has its trajectory on `schedule`: before
/// anything is trained.
pub(super) fn check_steps(steps: &[usize], schedule: &dyn Schedule) -> Result<()> {
    match steps.iter().min() {
        None | Some(0) => {
            Err(Error::config("experiment.steps", format!("{steps:?}"), "give numbers from 1"))
        }
        Some(_) => steps.iter().try_for_each(|&k| even_trajectory(schedule, k).map(drop)),
    }
}

/// Each number at most 20, and once.
pub(super) fn quick_steps(steps: Vec<usize>) -> Vec<usize> {
    let mut steps: Vec<usize> = steps.into_iter().map(|k| k.min(20)).collect();
    steps.dedup();
    steps
}

/// Sheets of samples by the names of their files.
pub(super) type Sheets = Vec<(String, Sheet)>;

/// Measures `run` under `methods` in each number of `steps`, for the so many-th time: one task of
/// `tasks`; with sheets of `sheet` samples, unless that is 0.
pub(super) fn measure(
    judge: &Judge,
    (name, run): (&str, &Run),
    (methods, repeat): (&[Method], usize),
    steps: &[usize],
    sheet: usize,
    tasks: &mut Tasks,
    (records, sheets): (&mut Vec<Record>, &mut Sheets),
) -> Result<()> {
    let (total, mut done) = (methods.len() * steps.len(), 0);
    for &method in methods {
        for &k in steps {
            let (record, samples) = judge.measure(run, name, (method, repeat), k, sheet)?;
            records.push(record);
            if sheet > 0 {
                sheets.push((format!("samples-{name}-{}-{k}.png", method.name()), samples));
            }
            done += 1;
            let part = done as f64 / total as f64;
            tasks.part(&format!("judging {name}, {}, K = {k}", method.label()), part);
        }
    }
    tasks.end(&format!("judging {name}"));
    Ok(())
}

/// Trains `arms` in `out/runs` and judges each under the `methods` of its run in each number of
/// `steps`.
pub(super) fn study(
    settings: &Settings,
    arms: &[Arm],
    methods: impl Fn(&Arm, &Run) -> Vec<Method>,
    steps: &[usize],
    sheet: usize,
    context: &mut Context,
) -> Result<(Found, Sheets)> {
    check_steps(steps, &*settings.schedule()?)?;
    let mut extractor = settings.extractor(context)?;
    let studio = Studio::open(settings, context.device, context.out.join("runs"), arms)?;
    let mut tasks = Tasks::new(2 * arms.len(), context.progress);
    let (mut records, mut sheets, mut first) = (Vec::new(), Vec::new(), None);
    for arm in arms {
        let run = studio.train(arm, &mut tasks)?;
        let judge = match first.take() {
            None => Judge::new(settings, &run, extractor.take())?,
            Some(judge) => judge,
        };
        judge.check(&run)?;
        let to = (&mut records, &mut sheets);
        measure(&judge, (&arm.name, &run), (&methods(arm, &run), 0), steps, sheet, &mut tasks, to)?;
        first = Some(judge);
    }
    let judge = first.ok_or_else(|| Error::config("arms", "none", "give at least one"))?;
    Ok((judge.found(records)?, sheets))
}
