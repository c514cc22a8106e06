//! Adam on flat buffers (Kingma & Ba 2015).

use tch::Tensor;

/// Adam's constants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Adam {
    beta1: f64,
    beta2: f64,
    epsilon: f64,
}

impl Default for Adam {
    fn default() -> Self {
        Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }
    }
}

impl Adam {
    /// One step, in place: `m ← β₁m + (1−β₁)g`, `v ← β₂v + (1−β₂)g²`, `θ ← θ − η m̂/(√v̂ + ε)`.
    /// `iteration` counts from 0.
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

    /// Three steps by hand in f64 arithmetic on one parameter.
    #[test]
    fn follows_the_recursion() {
        let adam = Adam::default();
        let one = |v: f64| Tensor::from_slice(&[v]);
        let (mut p, mut m, mut v) = (one(1.0), one(0.0), one(0.0));
        let (mut hp, mut hm, mut hv) = (1.0f64, 0.0f64, 0.0f64);
        for (i, g) in [0.5, -1.0, 2.0].into_iter().enumerate() {
            adam.step(&mut p, &mut m, &mut v, &one(g), i as u64, 0.1);
            hm = 0.9 * hm + 0.1 * g;
            hv = 0.999 * hv + 0.001 * g * g;
            let n = (i + 1) as i32;
            hp -= 0.1 * (hm / (1.0 - 0.9f64.powi(n)))
                / ((hv / (1.0 - 0.999f64.powi(n))).sqrt() + 1e-8);
            assert!((p.double_value(&[0]) - hp).abs() < 1e-12, "step {i}");
        }
    }
}
