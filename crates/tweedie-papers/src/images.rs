//! What the experiments on images have in common: arms trained under one budget, each an ordinary
//! run directory ([`arm`]), and judged by one protocol ([`judge`], for tables too).
//!
//! An arm whose run is there and finished is not trained again; one that was interrupted goes on
//! where it was left.

pub mod arm;
pub mod judge;
mod record;

use std::path::PathBuf;
use std::sync::Arc;

use tch::Device;

pub use record::{Record, Unit};
pub(super) use record::{by_steps, csv, curves};
use tweedie::grid::even_trajectory;
use tweedie::metric::Extractor;
use tweedie::model::UNetConfig;
use tweedie::schedule::{Schedule, ScheduleConfig};
use tweedie::{Error, Result};

/// Settings of every experiment on images.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Images to train on; the test images are dealt from them unless `test` is given.
    pub data: String,
    /// The height and width that they are brought to.
    pub size: Option<[usize; 2]>,
    /// Test images of their own.
    pub test: Option<PathBuf>,
    /// The network of every arm; its shape follows the images, its head the arm.
    pub network: UNetConfig,
    /// Steps of the optimiser, equal for all arms.
    pub iterations: u64,
    /// Pairs (x_t, t) per step, equal for all arms: with `N` draws per image a step takes
    /// `pairs / N` images.
    pub pairs: usize,
    /// Adam's step size.
    pub learning_rate: f64,
    /// At most this many test images, or rows, for likelihoods.
    pub rows: usize,
    /// At most this many terms of a bound per row; 0: all.
    pub terms: usize,
    /// Samples for a Fréchet distance.
    pub samples: usize,
    /// At most this many test images that samples are compared with.
    pub reference: usize,
    /// Samples of images end as published: the noise of the last step but one moves a pixel by at
    /// most so many of 255 levels in the mean ([`tweedie::sample::Ancestral::clip_noise`]); 0: as
    /// the covariance says.
    pub clip_noise: f64,
    /// Images computed at a time when judging.
    pub batch: usize,
    /// Weights of the network whose features Fréchet distances are of; without them there are none.
    pub features: Option<PathBuf>,
    /// Where to compute.
    pub device: Device,
    /// The seed of everything random.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            data: String::new(),
            size: None,
            test: None,
            network: UNetConfig::default(),
            iterations: 5_000,
            pairs: 64,
            learning_rate: 1e-3,
            rows: 256,
            terms: 0,
            samples: 1_000,
            reference: 10_000,
            clip_noise: 1.0,
            batch: 64,
            features: None,
            device: Device::Cpu,
            seed: 0,
        }
    }
}

/// A network so small that it shows nothing but that everything runs.
pub fn tiny_network() -> UNetConfig {
    UNetConfig {
        widths: vec![8, 8],
        attention: vec![false, false],
        middle_attention: false,
        groups: 4,
        head_widths: vec![4, 4],
        ..UNetConfig::default()
    }
}

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
    pub(super) fn extractor(&self) -> Result<Option<Extractor>> {
        self.check()?;
        self.features.as_ref().map(|path| Extractor::read(path, self.device)).transpose()
    }

    /// The schedule of every arm.
    pub(super) fn schedule(&self) -> Result<Arc<dyn Schedule>> {
        ScheduleConfig::default().build()
    }

    fn check(&self) -> Result<()> {
        if let Some(test) = &self.test {
            std::fs::metadata(test).map_err(Error::io(test))?;
        }
        Error::check_count("--rows", self.rows, 1_000_000_000)?;
        if self.terms == 1 {
            let remedy = "give 2 or more, or 0 for all";
            return Err(Error::config("--terms", "1 is the decoder's alone", remedy));
        }
        if !(self.clip_noise >= 0.0 && self.clip_noise.is_finite()) {
            let remedy = "give a number of levels, 1 or 2, or 0 for none";
            return Err(Error::config("--clip-noise", self.clip_noise.to_string(), remedy));
        }
        Error::check_count("--samples", self.samples, 1_000_000_000)?;
        Error::check_count("--reference", self.reference, 1_000_000_000)?;
        Error::check_count("--eval-batch", self.batch, 1_000_000)?;
        Error::check_count("--batch-size", self.pairs, 1_000_000)
    }

    /// The budget and the network, for a page.
    pub(super) fn describe(&self) -> String {
        let n = &self.network;
        format!(
            "Every arm: {} steps of Adam (step size {}, warm-up, cosine decay, moving average) with {} pairs (x_t, t) each, \
             {}; a path of N transitions counts as N pairs. U-Net of widths {:?}, {} blocks each, dropout {}; a covariance \
             network of its own has {:?}, {}. Isotropic base, VP with β from 0.1 to 20. The parameters used are those \
             that did best on validation images. Seed {}.",
            self.iterations,
            self.learning_rate,
            self.pairs,
            self.data,
            n.widths,
            n.blocks,
            n.dropout,
            n.head_widths,
            n.head_blocks,
            self.seed,
        )
    }
}

/// Checks a list of numbers of steps, each of which has its trajectory on `schedule`: before
/// anything is trained.
pub(super) fn check_steps(steps: &[usize], schedule: &dyn Schedule) -> Result<()> {
    match steps.iter().min() {
        None | Some(0) => {
            Err(Error::config("--steps", format!("{steps:?}"), "give numbers from 1"))
        }
        Some(_) => steps.iter().try_for_each(|&k| even_trajectory(schedule, k).map(drop)),
    }
}
