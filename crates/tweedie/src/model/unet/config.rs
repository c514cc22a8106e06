//! A U-Net as plain data: sizes, options, presets.

use serde::{Deserialize, Serialize};

use crate::choice::choices;
use crate::model::{HeadTrunk, NetworkConfig, Position};
use crate::{Error, Result};

/// What a covariance head makes of the features it sits on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeadBody {
    /// Group norm, SiLU, convolution.
    #[default]
    Simple,
    /// A residual block first.
    Complex,
}

choices! {
    /// How a resolution is made of the next.
    pub enum Resample = Convolution {
        /// A strided convolution down; nearest neighbours and a convolution up
        Convolution = "convolution",
        /// A residual block, of which both branches are averaged over 2 × 2 pixels or repeated
        Residual = "residual",
        /// A residual block, of which both branches are resampled by the filter (1, 3, 3, 1)
        ResidualFir = "residual-fir",
    }
}

choices! {
    /// What weights are drawn from, to keep the size of activations.
    pub enum Weights = FanIn {
        /// Normal, of variance in proportion to 1/inputs
        FanIn = "fan-in",
        /// Uniform, of variance 2/(inputs + outputs) (Ho et al. 2020)
        FanAverage = "fan-average",
    }
}

/// A U-Net as plain data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UNetConfig {
    /// Channels, height and width of an image.
    pub shape: [i64; 3],
    /// Channels at each resolution, the finest first; each next has half the height and width.
    pub widths: Vec<i64>,
    /// Residual blocks at each resolution on the way down; one more on the way up.
    pub blocks: i64,
    /// Whether the blocks at each resolution are followed by attention.
    pub attention: Vec<bool>,
    /// Whether on the way up only the last block of such a resolution is.
    pub attention_up_last: bool,
    /// Whether there is attention in the middle.
    pub middle_attention: bool,
    /// Channels per attention head; 0: one head.
    pub head_dim: i64,
    /// How the resolutions are made of each other.
    pub resample: Resample,
    /// Groups of the normalisations.
    pub groups: i64,
    /// Channels of a group at least: fewer groups where there are not as many; 0: no such limit.
    pub group_channels: i64,
    /// Added to variances in normalisations.
    pub norm_epsilon: f64,
    /// Share of activations dropped in training.
    pub dropout: f64,
    /// Whether sums with a shortcut are divided by √2.
    pub rescale: bool,
    /// Whether the time scales and shifts the second normalisation, instead of being added before
    /// it.
    pub scale_shift: bool,
    /// Classes to condition on; 0: none.
    pub classes: i64,
    /// Whether there is a null class besides, of rows of which none is given.
    pub null_class: bool,
    /// Whether cosines come before sines in the time embedding.
    pub cosine_first: bool,
    /// Subtracted from the number of frequencies in the time embedding's exponents.
    pub frequency_shift: f64,
    /// Steps of the discrete process among which a time in `[0, 1]` has its position: step `i`,
    /// from 0, is `t = (i+1)/steps`.
    pub steps: i64,
    /// What the time embedding is of.
    pub position: Position,
    /// What weights are drawn from.
    pub weights: Weights,
    /// Whether strided convolutions pad below and to the right only.
    pub pad_end: bool,
    /// What the covariance head sits on.
    pub head_trunk: HeadTrunk,
    /// What the head makes of it.
    pub head_body: HeadBody,
    /// Channels at each resolution of the head's own network, where it has one.
    pub head_widths: Vec<i64>,
    /// Residual blocks of the head's own network at each resolution.
    pub head_blocks: i64,
}

impl Default for UNetConfig {
    /// For grey images of 32×32, small enough for a CPU. The head's gradient stops at the trunk:
    /// where it does not, the quasi-likelihood, summed over pixels, drowns the score
    /// (docs/benchmarks.md).
    fn default() -> Self {
        UNetConfig {
            shape: [1, 32, 32],
            widths: vec![32, 64, 64],
            blocks: 1,
            attention: vec![false, false, true],
            attention_up_last: false,
            middle_attention: true,
            head_dim: 0,
            resample: Resample::Convolution,
            groups: 8,
            group_channels: 0,
            norm_epsilon: 1e-5,
            dropout: 0.0,
            rescale: false,
            scale_shift: false,
            classes: 0,
            null_class: false,
            cosine_first: true,
            frequency_shift: 0.0,
            steps: 1000,
            position: Position::Step,
            weights: Weights::FanIn,
            pad_end: false,
            head_trunk: HeadTrunk::Detached,
            head_body: HeadBody::Simple,
            head_widths: vec![16, 32, 32],
            head_blocks: 1,
        }
    }
}

impl UNetConfig {
    /// The network of the Likelihood Matching paper, `paper` of [`PRESETS`](crate::model::PRESETS).
    pub fn paper(shape: [i64; 3]) -> UNetConfig {
        UNetConfig { shape, ..UNetConfig::of_name("paper").expect("a preset") }
    }

    /// ScoreFlow's DDPM++ with so many `blocks`, `ddpm++` of [`PRESETS`](crate::model::PRESETS).
    pub fn ddpm_plus_plus(shape: [i64; 3], blocks: i64) -> UNetConfig {
        UNetConfig { shape, blocks, ..UNetConfig::of_name("ddpm++").expect("a preset") }
    }

    /// The U-Net of this name in [`PRESETS`](crate::model::PRESETS), if there is one; its shape is
    /// the default.
    pub fn of_name(name: &str) -> Option<UNetConfig> {
        match NetworkConfig::of_name(name)? {
            NetworkConfig::UNet(config) => Some(config),
            _ => None,
        }
    }

    /// `d = C·H·W`.
    pub fn dim(&self) -> i64 {
        self.shape.iter().product()
    }

    /// The classes that have a row in the embedding, the null class among them.
    pub(super) fn embedded_classes(&self) -> i64 {
        self.classes + i64::from(self.null_class)
    }

    pub(super) fn time_features(&self) -> i64 {
        4 * self.widths[0]
    }

    pub(super) fn residual_scale(&self) -> f64 {
        if self.rescale { std::f64::consts::FRAC_1_SQRT_2 } else { 1.0 }
    }

    /// Groups of a normalisation of so many channels.
    pub(super) fn groups_of(&self, channels: i64) -> i64 {
        match self.group_channels {
            0 => self.groups,
            least => self.groups.min(channels / least).max(1),
        }
    }

    /// Numbers of channels that are normalised by a network of such `widths`: of each resolution,
    /// and of what is joined on the way up.
    fn normalised(widths: &[i64]) -> impl Iterator<Item = i64> {
        let joined = widths.windows(2).map(|pair| pair[0] + pair[1]);
        widths.iter().flat_map(|&width| [width, 2 * width]).chain(joined)
    }

    /// Checks every field.
    pub fn check(&self) -> Result<()> {
        let bad = |field: &str, problem: String, remedy: String| {
            Err(Error::config(format!("model.network.{field}"), problem, remedy))
        };
        let [channels, height, width] = self.shape;
        Error::check_count("model.network.shape", channels, 1024)?;
        Error::check_count("model.network.shape", height, 4096)?;
        Error::check_count("model.network.shape", width, 4096)?;
        Error::check_count("model.network.blocks", self.blocks, 100)?;
        Error::check_count("model.network.head_blocks", self.head_blocks, 100)?;
        Error::check_count("model.network.groups", self.groups, 1024)?;
        if !(0..=1024).contains(&self.group_channels) {
            let remedy = "give a number of channels from 1 to 1024, or 0 for no limit";
            return bad("group_channels", format!("{}", self.group_channels), remedy.into());
        }
        Error::check_count("model.network.steps", self.steps, 1_000_000)?;
        let levels = self.widths.len();
        Error::check_count("model.network.widths", levels, 10)?;
        let halvings = 1i64 << (levels - 1);
        if height < halvings || width < halvings || height % halvings != 0 || width % halvings != 0
        {
            let remedy = format!(
                "bring the images to multiples of {halvings} with data.table.size, or give fewer \
                 widths"
            );
            return bad(
                "shape",
                format!("{height} x {width} pixels for {levels} resolutions"),
                remedy,
            );
        }
        if self.attention.len() != levels {
            let problem = format!("{} entries for {levels} resolutions", self.attention.len());
            return bad("attention", problem, "give true or false for each of the widths".into());
        }
        let separate = self.head_trunk == HeadTrunk::Separate;
        if separate && self.head_widths.len() != levels {
            let problem = format!("{} entries for {levels} resolutions", self.head_widths.len());
            return bad("head_widths", problem, "give as many as widths".into());
        }
        let of_head = if separate { &self.head_widths[..] } else { &[] };
        for &channels in self.widths.iter().chain(of_head) {
            Error::check_count("model.network.widths", channels, 16_384)?;
            if self.head_dim < 0 || (self.head_dim > 0 && channels % self.head_dim != 0) {
                let problem = format!("{} does not divide a width of {channels}", self.head_dim);
                return bad(
                    "head_dim",
                    problem,
                    "give a divisor of every width, or 0 for one head".into(),
                );
            }
        }
        let normalised =
            UNetConfig::normalised(&self.widths).chain(UNetConfig::normalised(of_head));
        for channels in normalised {
            let groups = self.groups_of(channels);
            if channels % groups != 0 {
                let problem = format!("{groups} does not divide {channels} channels");
                let remedy = match self.group_channels {
                    0 => "give a divisor of every width",
                    _ => "give widths that are multiples of it and of group_channels",
                };
                return bad("groups", problem, remedy.into());
            }
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return bad(
                "dropout",
                format!("{}", self.dropout),
                "give a number from 0 to below 1".into(),
            );
        }
        if !(self.norm_epsilon > 0.0 && self.norm_epsilon.is_finite()) {
            return bad(
                "norm_epsilon",
                format!("{}", self.norm_epsilon),
                "give a small positive number".into(),
            );
        }
        let half =
            self.widths.iter().take(1).chain(of_head.iter().take(1)).min().expect("a width") / 2;
        if !(self.frequency_shift >= 0.0 && self.frequency_shift < half as f64) {
            let remedy = format!("give 0 or 1, and less than half the first width, {half}");
            return bad("frequency_shift", format!("{}", self.frequency_shift), remedy);
        }
        match self.classes {
            0 if self.null_class => {
                bad("null_class", "true, without classes".into(), "give data.classes".into())
            }
            0 => Ok(()),
            classes => Error::check_count("model.network.classes", classes, 1_000_000),
        }
    }
}
