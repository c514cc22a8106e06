//! Layers that networks for images share. Parameters have PyTorch's shapes.

use tch::{Kind, Tensor};

use super::parameters::Parameters;
use super::{Mode, Precision};

/// One pass through a network: its parameters and how it is to compute.
#[derive(Clone, Copy)]
pub(crate) struct Pass<'a> {
    pub parameters: &'a Parameters,
    /// The kind that products of weights and activations are computed in.
    pub products: Kind,
    /// Whether activations are dropped.
    pub training: bool,
}

impl Pass<'_> {
    /// With these parameters, computing as `mode` says.
    pub fn new(parameters: &Parameters, mode: Mode) -> Pass<'_> {
        let products = match mode.precision {
            Precision::F32 => parameters.flat().kind(),
            Precision::Bf16 => Kind::BFloat16,
        };
        Pass { parameters, products, training: mode.dropout.is_some() }
    }

    pub fn get(&self, index: usize) -> &Tensor {
        self.parameters.get(index)
    }
}

/// `x Wᵀ + b`; the bias follows the weight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Linear(pub usize);

impl Linear {
    pub fn apply(self, p: &Pass, x: &Tensor) -> Tensor {
        let kind = p.products;
        x.to_kind(kind).linear(&p.get(self.0).to_kind(kind), Some(p.get(self.0 + 1).to_kind(kind)))
    }
}

/// A square convolution; the bias, if any, follows the weight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conv {
    /// Index of the weight.
    pub weight: usize,
    pub bias: bool,
    pub stride: i64,
    pub padding: i64,
}

impl Conv {
    pub fn apply(self, p: &Pass, x: &Tensor) -> Tensor {
        let kind = p.products;
        x.to_kind(kind).conv2d(
            &p.get(self.weight).to_kind(kind),
            self.bias.then(|| p.get(self.weight + 1).to_kind(kind)),
            [self.stride, self.stride],
            [self.padding, self.padding],
            [1, 1],
            1,
        )
    }
}

/// `softmax(QKᵀ/√d) V` for each attention head, all `[b, heads, n, d]`.
pub(super) fn attention(query: &Tensor, key: &Tensor, value: &Tensor) -> Tensor {
    let mask = None::<Tensor>;
    Tensor::scaled_dot_product_attention(query, key, value, mask, 0.0, false, None, false)
}
