//! Adam on flat buffers (Kingma & Ba 2015), with decoupled weight decay (Loshchilov & Hutter 2019).

use tch::Tensor;

/// Adam's constants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Adam {
    beta1: f64,
    beta2: f64,
    epsilon: f64,
    /// `λ`; 0 is Adam.
    weight_decay: f64,
}

impl Default for Adam {
    fn default() -> Self {
        Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 }
    }
}

impl Adam {
    /// AdamW: with decoupled weight decay.
    pub(crate) fn with_decay(weight_decay: f64) -> Adam {
        Adam { weight_decay, ..Adam::default() }
    }

    /// The same with `β₂`.
    pub(crate) fn with_beta2(self, beta2: f64) -> Adam {
        Adam { beta2, ..self }
    }

    /// One step, in place: `m ← β₁m + (1−β₁)g`, `v ← β₂v + (1−β₂)g²`,
    /// `θ ← (1 − ηλ) θ − η m̂/(√v̂ + ε)`, as `torch.optim.AdamW`. `iteration` counts from 0.
    pub(crate) fn step(
        &self,
        parameters: &mut Tensor,
        first: &mut Tensor,
        second: &mut Tensor,
        gradient: &Tensor,
        iteration: u64,
        rate: f64,
    ) {
        let n = (iteration + 1) as f64;
        if self.weight_decay > 0.0 {
            let _ = parameters.g_mul_scalar_(1.0 - rate * self.weight_decay);
        }
        let _ = first.lerp_(gradient, 1.0 - self.beta1);
        let _ = second.lerp_(&gradient.square(), 1.0 - self.beta2);
        let correction = (1.0 - self.beta2.powf(n)).sqrt();
        let denominator = (second.sqrt() / correction) + self.epsilon;
        let update = &*first / denominator * (-rate / (1.0 - self.beta1.powf(n)));
        let _ = parameters.g_add_(&update);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four steps of `torch.optim.AdamW` of PyTorch 2.11.0 in f64, learning rates 0.1, 0.08, 0.06
    /// and 0.04, `weight_decay` 0.05; the third parameter has no gradient and decays alone.
    #[test]
    fn decoupled_decay_is_that_of_pytorch() {
        let adam = Adam::with_decay(0.05);
        let mut p = Tensor::from_slice(&[1.0, -2.0, 0.5]);
        let (mut m, mut v) = (p.zeros_like(), p.zeros_like());
        let gradients = [[0.5, -0.25, 0.0], [-1.0, 2.0, 0.0], [2.0, 0.125, 0.0], [0.1, -3.0, 0.0]];
        let expected = [
            [0.895000002, -1.8900000039999998, 0.4975],
            [0.9207082837844524, -1.93486613291213, 0.49551],
            [0.8927668220196224, -1.9617710502629853, 0.49402347],
            [0.8762299414126936, -1.948525947872749, 0.49303542306000003],
        ];
        let steps = gradients.iter().zip(expected).zip([0.1, 0.08, 0.06, 0.04]);
        for (i, ((gradient, expected), rate)) in steps.enumerate() {
            adam.step(&mut p, &mut m, &mut v, &Tensor::from_slice(gradient), i as u64, rate);
            let gap = (&p - Tensor::from_slice(&expected)).abs().max().double_value(&[]);
            assert!(gap < 1e-14, "step {i}: {p:?} {expected:?}");
        }
    }

    /// Three steps by hand in f64 arithmetic on one parameter.
    #[test]
    fn follows_the_recursion() {
        for decay in [0.0, 0.3] {
            follows(Adam::with_decay(decay));
        }
    }

    fn follows(adam: Adam) {
        let one = |v: f64| Tensor::from_slice(&[v]);
        let (mut p, mut m, mut v) = (one(1.0), one(0.0), one(0.0));
        let (mut hp, mut hm, mut hv) = (1.0f64, 0.0f64, 0.0f64);
        for (i, g) in [0.5, -1.0, 2.0].into_iter().enumerate() {
            adam.step(&mut p, &mut m, &mut v, &one(g), i as u64, 0.1);
            hm = 0.9 * hm + 0.1 * g;
            hv = 0.999 * hv + 0.001 * g * g;
            let n = (i + 1) as i32;
            hp *= 1.0 - 0.1 * adam.weight_decay;
            hp -= 0.1 * (hm / (1.0 - 0.9f64.powi(n)))
                / ((hv / (1.0 - 0.999f64.powi(n))).sqrt() + 1e-8);
            assert!((p.double_value(&[0]) - hp).abs() < 1e-12, "step {i}");
        }
    }
}
