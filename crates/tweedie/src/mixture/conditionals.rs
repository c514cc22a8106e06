//! The density of each number of a row given its others.

use tch::Tensor;

use super::{GaussianMixture, by_blocks};
use crate::gaussian::LN_2PI;
use crate::tensor::{sum_last, sum_over};

impl GaussianMixture {
    /// `ln p(x_j|x_{−j})` of every number `j` of rows `x` `[b, d]`, nats, `[b, d]`: exact, as the
    /// marginal distributions of a mixture are.
    ///
    /// With the precision `P_k = S_k⁻¹` and `r = P_k (x − m_k)` a component has
    /// `ln N_k(x_j|x_{−j}) = ½ (ln P_jj − ln 2π − r_j²/P_jj)`, and `ln p(x_{−j})` is that of the
    /// mixture of `π_k N_k(x)/N_k(x_j|x_{−j})`.
    pub fn log_conditionals(&self, x: &Tensor) -> Tensor {
        let (k, d) = (self.components(), self.dim());
        let precisions =
            (&self.vectors / self.values.unsqueeze(1)).matmul(&self.vectors.transpose(1, 2));
        let diagonal = precisions.diagonal(0, 1, 2);
        let constant = &self.log_weights - (sum_last(&self.values.log()) + d as f64 * LN_2PI) * 0.5;
        // x − m_k of every component side by side, `[b, K, d]`
        by_blocks(x, k * d, |start, rows| {
            let centred = x.narrow(0, start, rows).unsqueeze(1) - &self.means;
            let turned = centred.unsqueeze(2).matmul(&precisions).squeeze_dim(2);
            let quad = sum_over(&(&turned * &centred), -1);
            let log_joint = &constant - quad * 0.5;
            let log_density = log_joint.logsumexp([-1i64].as_slice(), true);
            let own = (diagonal.log() - turned.square() / &diagonal - LN_2PI) * 0.5;
            let others = (log_joint.unsqueeze(-1) - own).logsumexp([1i64].as_slice(), false);
            [log_density - others]
        })
        .remove(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mixture::MixtureParameters;
    use crate::noise::Seed;
    use crate::tensor::to_vec;

    fn mixture() -> MixtureParameters {
        MixtureParameters {
            weights: vec![0.3, 0.7],
            means: vec![vec![0.0, 1.0, -1.0], vec![2.0, -1.0, 0.5]],
            covariances: vec![
                vec![1.0, 0.6, 0.1, 0.6, 2.0, -0.3, 0.1, -0.3, 0.5],
                vec![0.2, 0.0, 0.15, 0.0, 1.0, 0.2, 0.15, 0.2, 0.3],
            ],
        }
    }

    /// The mixture of the numbers but `j`.
    fn without(of: &MixtureParameters, j: usize) -> GaussianMixture {
        let keep = |i: &usize| *i != j;
        let rest: Vec<usize> = (0..3).filter(keep).collect();
        let means = of.means.iter().map(|m| rest.iter().map(|&i| m[i]).collect()).collect();
        let covariance = |c: &Vec<f64>| {
            rest.iter().flat_map(|&a| rest.iter().map(move |&b| c[3 * a + b])).collect()
        };
        let covariances = of.covariances.iter().map(covariance).collect();
        let weights = of.weights.clone();
        GaussianMixture::from_parameters(&MixtureParameters { weights, means, covariances })
            .unwrap()
    }

    /// `ln p(x) − ln p(x_{−j})`, with the marginal mixture written out.
    #[test]
    fn conditionals_are_ratios_of_densities() {
        let parameters = mixture();
        let whole = GaussianMixture::from_parameters(&parameters).unwrap();
        // rows of the mixture, and one far out
        let x =
            Tensor::cat(&[whole.sample(20, Seed(3)), Tensor::from_slice2(&[[9.0, -8.0, 7.0]])], 0);
        let found = whole.log_conditionals(&x);
        for j in 0..3usize {
            let rest: Vec<i64> = (0..3).filter(|&i| i != j as i64).collect();
            let others = x.index_select(1, &Tensor::from_slice(&rest));
            let marginal = without(&parameters, j).log_density(&others);
            let expected = to_vec(&(whole.log_density(&x) - marginal));
            for (found, expected) in to_vec(&found.select(1, j as i64)).iter().zip(expected) {
                let scale = 1.0 + expected.abs();
                assert!((found - expected).abs() < 1e-9 * scale, "{found} {expected}");
            }
        }
    }
}
