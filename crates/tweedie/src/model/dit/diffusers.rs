//! A diffusion transformer in diffusers' words: the `config.json` of a `DiTTransformer2DModel`, and
//! the names of its parameters.

use serde::{Deserialize, Serialize};

use super::DitConfig;
use crate::model::{HeadTrunk, Position};

/// The fields of diffusers' `DiTTransformer2DModel` (0.42), with its defaults where a field is
/// missing.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct DiTTransformer2DModel {
    #[serde(rename = "_class_name")]
    class_name: String,
    num_attention_heads: i64,
    attention_head_dim: i64,
    in_channels: i64,
    out_channels: Option<i64>,
    num_layers: i64,
    dropout: f64,
    norm_num_groups: i64,
    attention_bias: bool,
    sample_size: Option<i64>,
    patch_size: Option<i64>,
    activation_fn: String,
    num_embeds_ada_norm: Option<i64>,
    upcast_attention: bool,
    norm_type: String,
    norm_elementwise_affine: bool,
    norm_eps: f64,
}

impl Default for DiTTransformer2DModel {
    fn default() -> Self {
        DiTTransformer2DModel {
            class_name: CLASS.into(),
            num_attention_heads: 16,
            attention_head_dim: 72,
            in_channels: 4,
            out_channels: None,
            num_layers: 28,
            dropout: 0.0,
            norm_num_groups: 32,
            attention_bias: true,
            sample_size: Some(32),
            patch_size: Some(2),
            activation_fn: GELU.into(),
            num_embeds_ada_norm: Some(1000),
            upcast_attention: false,
            norm_type: NORM.into(),
            norm_elementwise_affine: false,
            norm_eps: 1e-5,
        }
    }
}

const CLASS: &str = "DiTTransformer2DModel";
/// The class's name in the configurations of diffusers before 0.28.
const OLD_CLASS: &str = "Transformer2DModel";
const GELU: &str = "gelu-approximate";
const NORM: &str = "ada_norm_zero";
/// What diffusers adds to variances before attention and in the last layer, whatever `norm_eps`.
const NORM_EPSILON: f64 = 1e-6;
/// What diffusers subtracts from the number of frequencies of the time.
const FREQUENCY_SHIFT: f64 = 1.0;

impl DiTTransformer2DModel {
    /// Whether a configuration of this class name can be one.
    pub(crate) fn is_class(name: &str) -> bool {
        [CLASS, OLD_CLASS].contains(&name)
    }

    /// Whether there are twice as many channels out as in: the second half gives the variances of
    /// reverse steps, in the form of [`crate::model::Parametrization::Interpolation`].
    pub fn has_variances(&self) -> bool {
        self.out_channels.is_some() && self.in_channels.checked_mul(2) == self.out_channels
    }
}

impl TryFrom<&DiTTransformer2DModel> for DitConfig {
    type Error = String;

    /// The same score network here, or what of it there is no equal of.
    fn try_from(model: &DiTTransformer2DModel) -> Result<DitConfig, String> {
        let channels = model.out_channels.unwrap_or(model.in_channels);
        let width = model.num_attention_heads.checked_mul(model.attention_head_dim);
        let refused = [
            (
                !DiTTransformer2DModel::is_class(&model.class_name),
                format!("a {} instead of a {CLASS}", model.class_name),
            ),
            (
                channels != model.in_channels && !model.has_variances(),
                format!("{} channels in, {channels} out", model.in_channels),
            ),
            (width.is_none(), "an impossible attention_head_dim".into()),
            (model.dropout != 0.0, format!("dropout {}", model.dropout)),
            (!model.attention_bias, "attention_bias false".into()),
            (model.upcast_attention, "upcast_attention".into()),
            (model.activation_fn != GELU, format!("the activation_fn {}", model.activation_fn)),
            (model.norm_type != NORM, format!("the norm_type {}", model.norm_type)),
            (model.norm_elementwise_affine, "norm_elementwise_affine".into()),
            (model.sample_size.is_none(), "no sample_size".into()),
            (model.patch_size.is_none(), "no patch_size".into()),
            (model.num_embeds_ada_norm.is_none(), "no num_embeds_ada_norm".into()),
        ];
        if let Some((_, what)) = refused.into_iter().find(|(no, _)| *no) {
            return Err(what);
        }
        let (size, width) = (model.sample_size.unwrap_or_default(), width.unwrap_or_default());
        Ok(DitConfig {
            shape: [model.in_channels, size, size],
            patch: model.patch_size.unwrap_or_default(),
            width,
            blocks: model.num_layers,
            heads: model.num_attention_heads,
            norm_epsilon: NORM_EPSILON,
            mlp_norm_epsilon: model.norm_eps,
            classes: model.num_embeds_ada_norm.unwrap_or_default(),
            null_class: true,
            frequency_shift: FREQUENCY_SHIFT,
            head_trunk: HeadTrunk::Shared,
            head_width: width,
            head_blocks: 1,
            ..DitConfig::default()
        })
    }
}

impl TryFrom<&DitConfig> for DiTTransformer2DModel {
    type Error = String;

    /// The same score network in diffusers, or what of it diffusers has no equal of.
    fn try_from(config: &DitConfig) -> Result<DiTTransformer2DModel, String> {
        let [channels, height, width] = config.shape;
        let shift = config.frequency_shift;
        let refused = [
            (height != width, format!("DiT of {height} x {width} images, only of squares")),
            (!config.null_class, "DiT without classes and a null class".into()),
            (
                shift != FREQUENCY_SHIFT,
                format!("DiT with frequency_shift {shift}, only {FREQUENCY_SHIFT}"),
            ),
            (
                config.norm_epsilon != NORM_EPSILON,
                format!("DiT with norm_epsilon {}, only {NORM_EPSILON}", config.norm_epsilon),
            ),
            (config.position != Position::Step, "embedding of continuous time".into()),
        ];
        if let Some((_, what)) = refused.into_iter().find(|(has, _)| *has) {
            return Err(what);
        }
        Ok(DiTTransformer2DModel {
            num_attention_heads: config.heads,
            attention_head_dim: config.width / config.heads,
            in_channels: channels,
            out_channels: Some(channels),
            num_layers: config.blocks,
            sample_size: Some(height),
            patch_size: Some(config.patch),
            num_embeds_ada_norm: Some(config.classes),
            norm_eps: config.mlp_norm_epsilon,
            ..DiTTransformer2DModel::default()
        })
    }
}

/// Diffusers' parameters that a published one is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Named {
    /// The parts that it consists of, along the first axis.
    Parts(Vec<String>),
    /// As many copies of it: each of diffusers' blocks embeds the time and the class.
    Copies(Vec<String>),
}

impl DitConfig {
    /// What the score's parameter `name` is in diffusers.
    pub(crate) fn in_diffusers(&self, name: &str) -> Named {
        let (layer, part) = name.rsplit_once('.').expect("the name of a parameter");
        let parts = |layers: &[&str]| {
            Named::Parts(layers.iter().map(|layer| format!("{layer}.{part}")).collect())
        };
        let copies = |layer: &str| {
            let of = |i| format!("transformer_blocks.{i}.norm1.emb.{layer}.{part}");
            Named::Copies((0..self.blocks).map(of).collect())
        };
        match layer {
            "x_embedder.proj" => return parts(&["pos_embed.proj"]),
            "t_embedder.mlp.0" => return copies("timestep_embedder.linear_1"),
            "t_embedder.mlp.2" => return copies("timestep_embedder.linear_2"),
            "y_embedder.embedding_table" => return copies("class_embedder.embedding_table"),
            "final_layer.adaLN_modulation.1" => return parts(&["proj_out_1"]),
            "final_layer.linear" => return parts(&["proj_out_2"]),
            _ => (),
        }
        let block = layer.strip_prefix("blocks.").and_then(|rest| rest.split_once('.'));
        let (number, layer) = block.expect("a layer of a block");
        let layers: &[&str] = match layer {
            "attn.qkv" => &["attn1.to_q", "attn1.to_k", "attn1.to_v"],
            "attn.proj" => &["attn1.to_out.0"],
            "mlp.fc1" => &["ff.net.0.proj"],
            "mlp.fc2" => &["ff.net.2"],
            "adaLN_modulation.1" => &["norm1.linear"],
            other => unreachable!("a layer {other}"),
        };
        let of = |layer: &&str| format!("transformer_blocks.{number}.{layer}.{part}");
        Named::Parts(layers.iter().map(of).collect())
    }
}
