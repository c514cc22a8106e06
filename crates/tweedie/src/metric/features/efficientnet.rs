//! EfficientNet-Lite0 (Tan & Le 2019, without squeeze-and-excitation, with ReLU6).

use tch::{Kind, Tensor};

use super::layers::{Convolution, Layers, Padding};
use super::resized;

/// Side of the images that it looks at.
const SIDE: i64 = 224;
/// Stages of equal blocks: how many, kernel, stride of the first, expansion, outputs.
const STAGES: [[i64; 5]; 7] = [
    [1, 3, 1, 1, 16],
    [2, 3, 2, 6, 24],
    [2, 5, 2, 6, 40],
    [3, 3, 2, 6, 80],
    [3, 5, 1, 6, 112],
    [4, 5, 2, 6, 192],
    [1, 3, 1, 6, 320],
];
const STEM: i64 = 32;
const HEAD: i64 = 1280;

/// Its convolutions, named as in the state dict.
pub(super) fn convolutions() -> Vec<Convolution> {
    let mut list = Vec::new();
    let mut add = |name: String, norm: String, shape: [i64; 4], stride: i64, groups: i64| {
        list.push(Convolution { name, norm, shape, stride, padding: Padding::Same, groups });
    };
    add("_conv_stem".into(), "_bn0".into(), [STEM, 3, 3, 3], 2, 1);
    let (mut block, mut inputs) = (0, STEM);
    for [blocks, kernel, stride, expansion, outputs] in STAGES {
        for i in 0..blocks {
            let wide = inputs * expansion;
            let at = |part: &str| format!("_blocks.{block}.{part}");
            if expansion > 1 {
                add(at("_expand_conv"), at("_bn0"), [wide, inputs, 1, 1], 1, 1);
            }
            let stride = if i == 0 { stride } else { 1 };
            add(at("_depthwise_conv"), at("_bn1"), [wide, 1, kernel, kernel], stride, wide);
            add(at("_project_conv"), at("_bn2"), [outputs, wide, 1, 1], 1, 1);
            (block, inputs) = (block + 1, outputs);
        }
    }
    add("_conv_head".into(), "_bn1".into(), [HEAD, inputs, 1, 1], 1, 1);
    list
}

/// The last hidden layer `[n, 1280]` of levels 0…255 `[n, 3, height, width]`.
pub(super) fn pooled(layers: &Layers, levels: &Tensor) -> Tensor {
    let layer = |name: &str, x: &Tensor| layers.apply(name, x).clamp_(0.0, 6.0);
    let x = (resized(levels, SIDE) - 127.0) / 128.0;
    let mut x = layer("_conv_stem", &x);
    let blocks: i64 = STAGES.iter().map(|stage| stage[0]).sum();
    for block in 0..blocks {
        let at = |part: &str| format!("_blocks.{block}.{part}");
        let expand = at("_expand_conv");
        let wide = if layers.has(&expand) { layer(&expand, &x) } else { x.shallow_clone() };
        let y = layers.apply(&at("_project_conv"), &layer(&at("_depthwise_conv"), &wide));
        // a block that changes neither size nor channels corrects its input
        x = if y.size() == x.size() { x + y } else { y };
    }
    layer("_conv_head", &x).mean_dim([2, 3].as_slice(), false, None::<Kind>)
}
