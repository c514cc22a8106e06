//! Layers that networks for images share. Parameters have PyTorch's shapes.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use tch::{Kind, Tensor, no_grad};

use super::parameters::Parameters;
use super::recompute::{generator_state, recomputed};
use super::{Mode, Precision};

/// One pass through a network: its parameters and how it is to compute.
#[derive(Clone)]
pub(crate) struct Pass {
    parameters: Rc<Vec<Tensor>>,
    /// The kind that products of weights and activations are computed in.
    pub products: Kind,
    /// Whether activations are dropped.
    pub training: bool,
    /// Whether activations within blocks are computed again on the way back.
    recompute: bool,
    /// Indices of the parameters that are asked for, where that is to be known.
    asked: Option<Rc<RefCell<BTreeSet<usize>>>>,
}

impl Pass {
    /// With these parameters, computing as `mode` says.
    pub fn new(parameters: &Parameters, mode: Mode) -> Pass {
        let products = match mode.precision {
            Precision::F32 => parameters.flat().kind(),
            Precision::Bf16 => Kind::BFloat16,
        };
        let (training, recompute) = (mode.dropout.is_some(), mode.recompute);
        Pass { parameters: parameters.leaves(), products, training, recompute, asked: None }
    }

    pub fn get(&self, index: usize) -> &Tensor {
        if let Some(asked) = &self.asked {
            asked.borrow_mut().insert(index);
        }
        &self.parameters[index]
    }

    /// What `block` makes of `inputs`; where that is requested, without keeping what lies between for
    /// the way back (Chen et al. 2016).
    pub fn block<const N: usize>(
        &self,
        inputs: [&Tensor; N],
        block: impl Fn(&Pass, [&Tensor; N]) -> Tensor + 'static,
    ) -> Tensor {
        if !self.recompute {
            return block(self, inputs);
        }
        let state = self.training.then(|| generator_state(inputs[0]));
        let asked = Rc::new(RefCell::new(BTreeSet::new()));
        let recording = Pass { recompute: false, asked: Some(asked.clone()), ..self.clone() };
        let output = no_grad(|| block(&recording, inputs));
        let leaves = asked.borrow().iter().map(|&index| &self.parameters[index]).collect();
        let again = Pass { recompute: false, ..self.clone() };
        let block = move |inputs: [&Tensor; N]| block(&again, inputs);
        recomputed(output, inputs, leaves, state, block)
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
