//! The Inception-v3 of the FID (Szegedy et al. 2015; the graph `inception-2015-12-05`, as ported by
//! pytorch-fid).
//!
//! It differs from torchvision's in its 1008 classes, in averages that leave the padding out, and
//! in a maximum where the last block should average.

use tch::{Kind, Tensor};

use super::layers::{Convolution, Layers, Padding};
use super::resized;

/// Side of the images that it looks at.
const SIDE: i64 = 299;

/// Its convolutions, named as in the state dict.
pub(super) fn convolutions() -> Vec<Convolution> {
    let mut list = Vec::new();
    let mut add = |name: String, shape: [i64; 4], stride: i64, padding: Padding| {
        let (norm, name) = (format!("{name}.bn"), format!("{name}.conv"));
        list.push(Convolution { name, norm, shape, stride, padding, groups: 1 });
    };
    use Padding::{Half, None};
    add("Conv2d_1a_3x3".into(), [32, 3, 3, 3], 2, None);
    add("Conv2d_2a_3x3".into(), [32, 32, 3, 3], 1, None);
    add("Conv2d_2b_3x3".into(), [64, 32, 3, 3], 1, Half);
    add("Conv2d_3b_1x1".into(), [80, 64, 1, 1], 1, None);
    add("Conv2d_4a_3x3".into(), [192, 80, 3, 3], 1, None);
    // 35 × 35
    for (block, inputs, pool) in [("5b", 192, 32), ("5c", 256, 64), ("5d", 288, 64)] {
        let mut branch = |name, shape| add(format!("Mixed_{block}.{name}"), shape, 1, Half);
        branch("branch1x1", [64, inputs, 1, 1]);
        branch("branch5x5_1", [48, inputs, 1, 1]);
        branch("branch5x5_2", [64, 48, 5, 5]);
        branch("branch3x3dbl_1", [64, inputs, 1, 1]);
        branch("branch3x3dbl_2", [96, 64, 3, 3]);
        branch("branch3x3dbl_3", [96, 96, 3, 3]);
        branch("branch_pool", [pool, inputs, 1, 1]);
    }
    add("Mixed_6a.branch3x3".into(), [384, 288, 3, 3], 2, None);
    add("Mixed_6a.branch3x3dbl_1".into(), [64, 288, 1, 1], 1, None);
    add("Mixed_6a.branch3x3dbl_2".into(), [96, 64, 3, 3], 1, Half);
    add("Mixed_6a.branch3x3dbl_3".into(), [96, 96, 3, 3], 2, None);
    // 17 × 17
    for (block, c) in [("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)] {
        let mut branch = |name, shape| add(format!("Mixed_{block}.{name}"), shape, 1, Half);
        branch("branch1x1", [192, 768, 1, 1]);
        branch("branch7x7_1", [c, 768, 1, 1]);
        branch("branch7x7_2", [c, c, 1, 7]);
        branch("branch7x7_3", [192, c, 7, 1]);
        branch("branch7x7dbl_1", [c, 768, 1, 1]);
        branch("branch7x7dbl_2", [c, c, 7, 1]);
        branch("branch7x7dbl_3", [c, c, 1, 7]);
        branch("branch7x7dbl_4", [c, c, 7, 1]);
        branch("branch7x7dbl_5", [192, c, 1, 7]);
        branch("branch_pool", [192, 768, 1, 1]);
    }
    add("Mixed_7a.branch3x3_1".into(), [192, 768, 1, 1], 1, None);
    add("Mixed_7a.branch3x3_2".into(), [320, 192, 3, 3], 2, None);
    add("Mixed_7a.branch7x7x3_1".into(), [192, 768, 1, 1], 1, None);
    add("Mixed_7a.branch7x7x3_2".into(), [192, 192, 1, 7], 1, Half);
    add("Mixed_7a.branch7x7x3_3".into(), [192, 192, 7, 1], 1, Half);
    add("Mixed_7a.branch7x7x3_4".into(), [192, 192, 3, 3], 2, None);
    // 8 × 8
    for (block, inputs) in [("7b", 1280), ("7c", 2048)] {
        let mut branch = |name, shape| add(format!("Mixed_{block}.{name}"), shape, 1, Half);
        branch("branch1x1", [320, inputs, 1, 1]);
        branch("branch3x3_1", [384, inputs, 1, 1]);
        branch("branch3x3_2a", [384, 384, 1, 3]);
        branch("branch3x3_2b", [384, 384, 3, 1]);
        branch("branch3x3dbl_1", [448, inputs, 1, 1]);
        branch("branch3x3dbl_2", [384, 448, 3, 3]);
        branch("branch3x3dbl_3a", [384, 384, 1, 3]);
        branch("branch3x3dbl_3b", [384, 384, 3, 1]);
        branch("branch_pool", [192, inputs, 1, 1]);
    }
    list
}

/// The last hidden layer `[n, 2048]` of levels 0…255 `[n, 3, height, width]`.
pub(super) fn pooled(layers: &Layers, levels: &Tensor) -> Tensor {
    let layer = |name: &str, x: &Tensor| layers.apply(&format!("{name}.conv"), x).relu();
    let x = resized(&(levels / 255.0), SIDE) * 2.0 - 1.0;
    let x = layer("Conv2d_2b_3x3", &layer("Conv2d_2a_3x3", &layer("Conv2d_1a_3x3", &x)));
    let x = layer("Conv2d_4a_3x3", &layer("Conv2d_3b_1x1", &halved(&x)));
    let mut x = halved(&x);
    for block in ["5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"] {
        // the branch through layers of these names, one after the other
        let chain = |prefix: &str, names: &[&str], x: &Tensor| {
            names.iter().fold(x.shallow_clone(), |x, name| {
                layer(&format!("Mixed_{block}.{prefix}{name}"), &x)
            })
        };
        let parts = match block {
            "5b" | "5c" | "5d" => vec![
                chain("branch1x1", &[""], &x),
                chain("branch5x5", &["_1", "_2"], &x),
                chain("branch3x3dbl", &["_1", "_2", "_3"], &x),
                chain("branch_pool", &[""], &averaged(&x)),
            ],
            "6a" => vec![
                chain("branch3x3", &[""], &x),
                chain("branch3x3dbl", &["_1", "_2", "_3"], &x),
                halved(&x),
            ],
            "6b" | "6c" | "6d" | "6e" => vec![
                chain("branch1x1", &[""], &x),
                chain("branch7x7", &["_1", "_2", "_3"], &x),
                chain("branch7x7dbl", &["_1", "_2", "_3", "_4", "_5"], &x),
                chain("branch_pool", &[""], &averaged(&x)),
            ],
            "7a" => vec![
                chain("branch3x3", &["_1", "_2"], &x),
                chain("branch7x7x3", &["_1", "_2", "_3", "_4"], &x),
                halved(&x),
            ],
            _ => {
                let single = chain("branch3x3", &["_1"], &x);
                let double = chain("branch3x3dbl", &["_1", "_2"], &x);
                // the graph's last block takes the maximum, an oversight that the FID keeps
                let pool = if block == "7b" {
                    averaged(&x)
                } else {
                    x.max_pool2d([3, 3], [1, 1], [1, 1], [1, 1], false)
                };
                vec![
                    chain("branch1x1", &[""], &x),
                    chain("branch3x3", &["_2a"], &single),
                    chain("branch3x3", &["_2b"], &single),
                    chain("branch3x3dbl", &["_3a"], &double),
                    chain("branch3x3dbl", &["_3b"], &double),
                    chain("branch_pool", &[""], &pool),
                ]
            }
        };
        x = Tensor::cat(&parts, 1);
    }
    x.mean_dim([2, 3].as_slice(), false, None::<Kind>)
}

/// Maxima of 3 × 3 pixels, every second one.
fn halved(x: &Tensor) -> Tensor {
    x.max_pool2d([3, 3], [2, 2], [0, 0], [1, 1], false)
}

/// Means of 3 × 3 pixels, those outside the image left out.
fn averaged(x: &Tensor) -> Tensor {
    x.avg_pool2d([3, 3], [1, 1], [1, 1], false, false, None)
}
