//! Networks for images by name.

use serde::Deserialize;

use super::NetworkConfig;
use crate::choice::Preset;

/// DDPM++ with so many blocks.
macro_rules! ddpm_plus_plus {
    ($blocks:literal) => {
        concat!(
            "[model.network]\n\
             kind = 'unet'\n\
             widths = [128, 256, 256, 256]\n\
             blocks = ",
            $blocks,
            "\n\
             attention = [false, true, false, false]\n\
             attention_up_last = true\n\
             resample = 'residual'\n\
             groups = 32\n\
             group_channels = 4\n\
             norm_epsilon = 1e-6\n\
             dropout = 0.1\n\
             rescale = true\n\
             cosine_first = false\n\
             frequency_shift = 1.0\n\
             position = 'continuous'\n\
             weights = 'fan-average'\n\
             head_widths = [64, 128, 128, 128]"
        )
    };
}

/// A DiT with patches of so many pixels, of such a width, blocks and heads, and such a width and
/// blocks of the covariance's network where it has its own.
macro_rules! dit {
    ($patch:literal, $width:literal, $blocks:literal, $heads:literal, $own:literal, $few:literal) => {
        concat!(
            "[model.network]\nkind = 'dit'\npatch = ",
            $patch,
            "\nwidth = ",
            $width,
            "\nblocks = ",
            $blocks,
            "\nheads = ",
            $heads,
            "\nhead_width = ",
            $own,
            "\nhead_blocks = ",
            $few
        )
    };
}

/// The networks for images that have a name; shape and classes follow the data. What they leave
/// out is as by default.
///
/// - `paper`: Likelihood Matching's, for images of 32×32 and more: attention in the third block
///   down and the second up, which are at the third resolution, no dropout, and another network for
///   the covariance.
/// - `ddpm++`: what score_flow (Song et al. 2021) makes of its configurations
///   `cifar10_ddpmpp_continuous` and, with 8 blocks, `cifar10_ddpmpp_deep_continuous`: the NCSN++
///   of score_sde with residual blocks of BigGAN's kind that change the resolution, and attention
///   at 16×16, the second resolution of images of 32×32. All of score_flow's configurations have
///   `fir = False`; score_sde's of NCSN++ have `True`, which is `resample = "residual-fir"`.
/// - `dit-SIZE/PATCH`: DiT's of table 1 of Peebles & Xie 2023, patches of 2, 4 or 8 pixels.
pub const PRESETS: [Preset; 17] = [
    Preset::new("small", "model.network.kind = 'unet'", "Widths 32, 64, 64: for a CPU"),
    Preset::new(
        "paper",
        "[model.network]\n\
         kind = 'unet'\n\
         widths = [128, 256, 256, 512]\n\
         blocks = 2\n\
         attention = [false, false, true, false]\n\
         groups = 32\n\
         head_trunk = 'separate'\n\
         head_widths = [64, 128, 128, 128]",
        "Likelihood Matching's: widths 128, 256, 256, 512, and 64, 128, 128, 128 for the \
         covariance; for a GPU",
    ),
    Preset::new(
        "ddpm++",
        ddpm_plus_plus!(4),
        "ScoreFlow's DDPM++: widths 128, 256, 256, 256, 4 blocks each; for a GPU",
    ),
    Preset::new("ddpm++-deep", ddpm_plus_plus!(8), "The same with 8 blocks each; for a GPU"),
    Preset::new("dit-tiny", dit!(4, 128, 4, 4, 64, 2), "DiT of 4 blocks, width 128: for a CPU"),
    Preset::new("dit-s/2", dit!(2, 384, 12, 6, 192, 6), "DiT-S/2: 12 blocks, width 384; for a GPU"),
    Preset::new("dit-s/4", dit!(4, 384, 12, 6, 192, 6), "The same with patches of 4"),
    Preset::new("dit-s/8", dit!(8, 384, 12, 6, 192, 6), "The same with patches of 8"),
    Preset::new(
        "dit-b/2",
        dit!(2, 768, 12, 12, 384, 6),
        "DiT-B/2: 12 blocks, width 768; for a GPU",
    ),
    Preset::new("dit-b/4", dit!(4, 768, 12, 12, 384, 6), "The same with patches of 4"),
    Preset::new("dit-b/8", dit!(8, 768, 12, 12, 384, 6), "The same with patches of 8"),
    Preset::new(
        "dit-l/2",
        dit!(2, 1024, 24, 16, 512, 12),
        "DiT-L/2: 24 blocks, width 1024; for a GPU",
    ),
    Preset::new("dit-l/4", dit!(4, 1024, 24, 16, 512, 12), "The same with patches of 4"),
    Preset::new("dit-l/8", dit!(8, 1024, 24, 16, 512, 12), "The same with patches of 8"),
    Preset::new(
        "dit-xl/2",
        dit!(2, 1152, 28, 16, 576, 14),
        "DiT-XL/2: 28 blocks, width 1152; for a GPU",
    ),
    Preset::new("dit-xl/4", dit!(4, 1152, 28, 16, 576, 14), "The same with patches of 4"),
    Preset::new("dit-xl/8", dit!(8, 1152, 28, 16, 576, 14), "The same with patches of 8"),
];

impl NetworkConfig {
    /// The network of this name in [`PRESETS`], if there is one; its shape is the default.
    pub fn of_name(name: &str) -> Option<NetworkConfig> {
        #[derive(Deserialize)]
        struct Tree {
            model: Model,
        }
        #[derive(Deserialize)]
        struct Model {
            network: NetworkConfig,
        }
        let preset = PRESETS.iter().find(|preset| preset.name == name)?;
        let tree: Tree = toml::from_str(preset.options).expect("options as TOML");
        Some(tree.model.network)
    }
}
