//! The paper's distance in one dimension: [`tweedie::metric::Mmd::against_mixture`] with everything
//! that belongs to the distribution computed once, for the thousands of samples of one experiment.

use tweedie::oracle::MixtureParameters;

/// The kernels' bandwidths, `2^{−2} … 2^2`.
pub const BANDWIDTHS: [f64; 5] = [0.25, 0.5, 1.0, 2.0, 4.0];

/// MMD² to a fixed distribution with the mean of five kernels `exp(−(x−y)²/(2h²))` (Gretton et al.
/// 2012): unbiased, `mean_{i≠j} k(x_i, x_j) − 2 mean_i E k(x_i, Y) + E k(Y, Y')`.
pub struct Distance {
    /// For each kernel and component: factor, location, `1/(2(h² + v))`.
    means: Vec<(f64, f64, f64)>,
    constant: f64,
}

impl Distance {
    /// The distance to this one-dimensional mixture.
    pub fn to(exact: &MixtureParameters) -> Distance {
        let components: Vec<(f64, f64, f64)> = exact
            .weights
            .iter()
            .zip(&exact.means)
            .zip(&exact.covariances)
            .map(|((w, m), v)| (*w, m[0], v[0]))
            .collect();
        let share = 1.0 / BANDWIDTHS.len() as f64;
        let mut means = Vec::new();
        let mut constant = 0.0;
        for h in BANDWIDTHS {
            for &(w, m, v) in &components {
                let spread = h * h + v;
                means.push((share * w * h / spread.sqrt(), m, 0.5 / spread));
                for &(w2, m2, v2) in &components {
                    let spread = spread + v2;
                    constant += share * w * w2 * h / spread.sqrt()
                        * (-0.5 * (m - m2).powi(2) / spread).exp();
                }
            }
        }
        Distance { means, constant }
    }

    /// The unbiased MMD² of `sample`, two values or more.
    pub fn squared(&self, sample: &[f64]) -> f64 {
        assert!(sample.len() > 1, "MMD² of {} values", sample.len());
        let n = sample.len() as f64;
        let of_exact: f64 = sample
            .iter()
            .map(|x| {
                self.means.iter().map(|(f, m, s)| f * (-(x - m).powi(2) * s).exp()).sum::<f64>()
            })
            .sum();
        let mut sorted = sample.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        // pairs beyond this distance have every kernel below e^{−18}
        let reach = 6.0 * BANDWIDTHS[4];
        let mut within = 0.0;
        for (i, x) in sorted.iter().enumerate() {
            let mut sum = 0.0;
            for y in sorted[i + 1..].iter().take_while(|y| **y - x < reach) {
                // bandwidths halve: each kernel is the fourth power of the next wider
                let k4 = (-(y - x).powi(2) / 32.0).exp();
                let k2 = k4.powi(4);
                let k1 = k2.powi(4);
                let k05 = k1.powi(4);
                sum += k4 + k2 + k1 + k05 + k05.powi(4);
            }
            within += sum;
        }
        let share = 1.0 / BANDWIDTHS.len() as f64;
        2.0 * share * within / (n * (n - 1.0)) - 2.0 * of_exact / n + self.constant
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The general routine of [`tweedie::metric`], whose kernels are summed, gives the same.
    #[test]
    fn is_the_metric() {
        use tweedie::noise::Seed;
        use tweedie::oracle::GaussianMixture;
        let exact = GaussianMixture::new(&[0.3, 0.7], &[[-2.0], [5.0]], &[0.5, 2.0]).unwrap();
        let x = exact.sample(300, Seed(1)) * 1.2;
        let general =
            tweedie::metric::Mmd::default().against_mixture(&x, &exact) / BANDWIDTHS.len() as f64;
        let values = tweedie::tensor::to_vec(&x);
        let here = Distance::to(&exact.parameters()).squared(&values);
        assert!((here - general).abs() < 1e-8, "{here} {general}");
    }
}
