//! A U-Net's configuration in diffusers' words: the `config.json` of a `UNet2DModel`.

use serde::{Deserialize, Serialize};

use super::{Resample, UNetConfig};
use crate::model::{HeadTrunk, Position};

/// `sample_size`: one number for squares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Size {
    Square(i64),
    Sides([i64; 2]),
}

/// The fields of diffusers' `UNet2DModel` (0.42), with its defaults where a field is missing.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct UNet2DModel {
    #[serde(rename = "_class_name")]
    class_name: String,
    sample_size: Option<Size>,
    in_channels: i64,
    out_channels: i64,
    center_input_sample: bool,
    time_embedding_type: String,
    time_embedding_dim: Option<i64>,
    freq_shift: f64,
    flip_sin_to_cos: bool,
    down_block_types: Vec<String>,
    mid_block_type: Option<String>,
    up_block_types: Vec<String>,
    block_out_channels: Vec<i64>,
    layers_per_block: i64,
    mid_block_scale_factor: f64,
    downsample_padding: i64,
    downsample_type: String,
    upsample_type: String,
    dropout: f64,
    act_fn: String,
    attention_head_dim: Option<i64>,
    norm_num_groups: i64,
    attn_norm_num_groups: Option<i64>,
    norm_eps: f64,
    resnet_time_scale_shift: String,
    add_attention: bool,
    class_embed_type: Option<String>,
    num_class_embeds: Option<i64>,
    /// Whether the last class is the null class: ours, which diffusers passes over.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    null_class: bool,
}

impl Default for UNet2DModel {
    fn default() -> Self {
        let names = |names: [&str; 4]| names.map(String::from).to_vec();
        UNet2DModel {
            class_name: "UNet2DModel".into(),
            sample_size: None,
            in_channels: 3,
            out_channels: 3,
            center_input_sample: false,
            time_embedding_type: "positional".into(),
            time_embedding_dim: None,
            freq_shift: 0.0,
            flip_sin_to_cos: true,
            down_block_types: names([
                "DownBlock2D",
                "AttnDownBlock2D",
                "AttnDownBlock2D",
                "AttnDownBlock2D",
            ]),
            mid_block_type: Some("UNetMidBlock2D".into()),
            up_block_types: names(["AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"]),
            block_out_channels: vec![224, 448, 672, 896],
            layers_per_block: 2,
            mid_block_scale_factor: 1.0,
            downsample_padding: 1,
            downsample_type: "conv".into(),
            upsample_type: "conv".into(),
            dropout: 0.0,
            act_fn: "silu".into(),
            attention_head_dim: Some(8),
            norm_num_groups: 32,
            attn_norm_num_groups: None,
            norm_eps: 1e-5,
            resnet_time_scale_shift: "default".into(),
            add_attention: true,
            class_embed_type: None,
            num_class_embeds: None,
            null_class: false,
        }
    }
}

impl UNet2DModel {
    /// Whether there are twice as many channels out as in: the second half gives the variances of
    /// reverse steps, in the form of [`crate::model::Parametrization::Interpolation`] (diffusers'
    /// `learned_range`).
    pub fn has_variances(&self) -> bool {
        self.in_channels.checked_mul(2) == Some(self.out_channels)
    }
}

const PLAIN: [&str; 2] = ["DownBlock2D", "UpBlock2D"];
const ATTENDING: [&str; 2] = ["AttnDownBlock2D", "AttnUpBlock2D"];

/// For each block, whether it attends; an error names a block that is neither.
fn attention(names: &[String], side: usize) -> Result<Vec<bool>, String> {
    names
        .iter()
        .map(|name| match name {
            name if name == PLAIN[side] => Ok(false),
            name if name == ATTENDING[side] => Ok(true),
            other => Err(format!("a block of type {other}")),
        })
        .collect()
}

impl TryFrom<&UNet2DModel> for UNetConfig {
    type Error = String;

    /// The same score network here, or what of it there is no equal of.
    fn try_from(model: &UNet2DModel) -> Result<UNetConfig, String> {
        let refused = [
            (
                model.class_name != "UNet2DModel",
                format!("a {} instead of a UNet2DModel", model.class_name),
            ),
            (
                model.in_channels != model.out_channels && !model.has_variances(),
                format!("{} channels in, {} out", model.in_channels, model.out_channels),
            ),
            (model.center_input_sample, "center_input_sample".into()),
            (
                model.time_embedding_type != "positional",
                format!("a {} time embedding", model.time_embedding_type),
            ),
            (
                model.time_embedding_dim.is_some_and(|dim| {
                    Some(dim) != model.block_out_channels.first().and_then(|c| c.checked_mul(4))
                }),
                "a time embedding of another size than four times the first width".into(),
            ),
            (
                model.mid_block_type.as_deref() != Some("UNetMidBlock2D"),
                "no ordinary middle block".into(),
            ),
            (model.mid_block_scale_factor != 1.0, "a rescaled middle block".into()),
            (
                model.downsample_type != "conv" || model.upsample_type != "conv",
                "other than convolutions between resolutions".into(),
            ),
            (
                !["silu", "swish"].contains(&&*model.act_fn),
                format!("the activation {}", model.act_fn),
            ),
            (
                !["default", "scale_shift"].contains(&&*model.resnet_time_scale_shift),
                format!("the time embedding norm {}", model.resnet_time_scale_shift),
            ),
            (model.class_embed_type.is_some(), "another class embedding than a table".into()),
            (
                ![0, 1].contains(&model.downsample_padding),
                format!("downsample_padding {}", model.downsample_padding),
            ),
        ];
        if let Some((_, what)) = refused.into_iter().find(|(no, _)| *no) {
            return Err(what);
        }
        let scale_shift = model.resnet_time_scale_shift == "scale_shift";
        let middle_groups =
            model.attn_norm_num_groups.or((!scale_shift).then_some(model.norm_num_groups));
        if model.add_attention && middle_groups != Some(model.norm_num_groups) {
            return Err("another normalisation of the middle attention than of the rest".into());
        }
        let down = attention(&model.down_block_types, 0)?;
        let mut up = attention(&model.up_block_types, 1)?;
        up.reverse();
        if down != up {
            return Err("attention at other resolutions on the way up than on the way down".into());
        }
        let [height, width] = match model.sample_size {
            Some(Size::Square(size)) => [size, size],
            Some(Size::Sides(sides)) => sides,
            None => return Err("no sample_size".into()),
        };
        Ok(UNetConfig {
            shape: [model.in_channels, height, width],
            widths: model.block_out_channels.clone(),
            blocks: model.layers_per_block,
            attention: down,
            middle_attention: model.add_attention,
            head_dim: model.attention_head_dim.unwrap_or(0),
            groups: model.norm_num_groups,
            norm_epsilon: model.norm_eps,
            dropout: model.dropout,
            rescale: false,
            scale_shift,
            classes: model.num_class_embeds.unwrap_or(0) - i64::from(model.null_class),
            null_class: model.null_class,
            cosine_first: model.flip_sin_to_cos,
            frequency_shift: model.freq_shift,
            pad_end: model.downsample_padding == 0,
            head_trunk: HeadTrunk::Shared,
            head_widths: model.block_out_channels.clone(),
            ..UNetConfig::default()
        })
    }
}

impl TryFrom<&UNetConfig> for UNet2DModel {
    type Error = String;

    /// The same score network in diffusers, or what of it diffusers has no equal of.
    fn try_from(config: &UNetConfig) -> Result<UNet2DModel, String> {
        let refused = [
            (config.rescale, "residuals divided by √2"),
            (config.resample != Resample::Convolution, "residual blocks between resolutions"),
            (config.attention_up_last, "attention after the last block of a resolution alone"),
            (config.group_channels > 0, "numbers of groups that follow the channels"),
            (config.position != Position::Step, "an embedding of continuous time"),
        ];
        if let Some((_, what)) = refused.into_iter().find(|(has, _)| *has) {
            return Err(what.into());
        }
        let [channels, height, width] = config.shape;
        let types = |side: usize| {
            let name =
                |attends: &bool| if *attends { ATTENDING[side] } else { PLAIN[side] }.to_string();
            config.attention.iter().map(name).collect::<Vec<_>>()
        };
        Ok(UNet2DModel {
            sample_size: Some(Size::Sides([height, width])),
            in_channels: channels,
            out_channels: channels,
            freq_shift: config.frequency_shift,
            flip_sin_to_cos: config.cosine_first,
            down_block_types: types(0),
            up_block_types: types(1).into_iter().rev().collect(),
            block_out_channels: config.widths.clone(),
            layers_per_block: config.blocks,
            downsample_padding: if config.pad_end { 0 } else { 1 },
            dropout: config.dropout,
            attention_head_dim: (config.head_dim > 0).then_some(config.head_dim),
            norm_num_groups: config.groups,
            attn_norm_num_groups: Some(config.groups),
            norm_eps: config.norm_epsilon,
            resnet_time_scale_shift: if config.scale_shift { "scale_shift" } else { "default" }
                .into(),
            add_attention: config.middle_attention,
            num_class_embeds: (config.classes > 0).then(|| config.embedded_classes()),
            null_class: config.null_class,
            ..UNet2DModel::default()
        })
    }
}
