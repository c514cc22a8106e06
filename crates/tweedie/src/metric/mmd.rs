//! Maximum mean discrepancy with several Gaussian kernels (Gretton et al. 2012, "A kernel
//! two-sample test").

use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

use crate::gaussian::LN_2PI;
use crate::mixture::{GaussianMixture, MixtureParameters};
use crate::tensor::to_vec;
use crate::{Error, Result};

/// `MMD² = E k(X, X') + E k(Y, Y') − 2 E k(X, Y)` with the *sum* of Gaussian kernels
/// `k(x, y) = Σ_j exp(−‖x − y‖²/(2 h_j²))`, so `k(x, x)` is the number of bandwidths (divide by it
/// for the mean).
///
/// Costs `O((n + m)² d)` time and `O((n + m) d)` memory, in f64 and on all threads of rayon's pool;
/// results do not depend on their number. Rows are `[n, d]` of any kind and device.
#[derive(Clone, Debug, PartialEq)]
pub struct Mmd {
    bandwidths: Vec<f64>,
}

impl Default for Mmd {
    /// Bandwidths `2^{−2}, …, 2^2`, those of Likelihood Matching's Figure 2.
    fn default() -> Self {
        Mmd { bandwidths: (-2..=2).map(|j| 2f64.powi(j)).collect() }
    }
}

/// Rows, one column of numbers per coordinate.
struct Columns {
    values: Vec<f64>,
    rows: usize,
}

impl Columns {
    fn of(x: &Tensor) -> Columns {
        assert_eq!(x.dim(), 2, "rows [n, d], got {:?}", x.size());
        let turned = x.to_kind(Kind::Double).to_device(Device::Cpu).transpose(0, 1).contiguous();
        Columns { values: to_vec(&turned), rows: x.size()[0] as usize }
    }

    fn coordinates(&self) -> impl Iterator<Item = &[f64]> {
        self.values.chunks_exact(self.rows.max(1))
    }
}

/// Pairs that are handled at once: a buffer that stays in the nearest cache.
const BLOCK: usize = 1024;

impl Mmd {
    /// With these bandwidths.
    ///
    /// # Errors
    /// If there is none, or one is not positive.
    pub fn new(bandwidths: &[f64]) -> Result<Mmd> {
        if bandwidths.is_empty() || bandwidths.iter().any(|h| !(h.is_finite() && *h > 0.0)) {
            return Err(Error::config(
                "bandwidths",
                format!("{bandwidths:?}"),
                "give at least one, all positive",
            ));
        }
        let mut bandwidths = bandwidths.to_vec();
        bandwidths.sort_by(f64::total_cmp);
        Ok(Mmd { bandwidths })
    }

    /// `h_j`, increasing.
    pub fn bandwidths(&self) -> &[f64] {
        &self.bandwidths
    }

    /// The unbiased estimate: equal indices left out of the two inner means (Gretton et al., eq.
    /// 3). May be negative; NaN with fewer than two rows on a side.
    pub fn u_statistic(&self, x: &Tensor, y: &Tensor) -> f64 {
        let (x, y) = (Columns::of(x), Columns::of(y));
        let (n, m) = (x.rows as f64, y.rows as f64);
        2.0 * self.pairs(&x) / (n * (n - 1.0)) + 2.0 * self.pairs(&y) / (m * (m - 1.0))
            - 2.0 * self.between(&x, &y) / (n * m)
    }

    /// The biased estimate: MMD² of the two empirical distributions, never negative (Gretton et
    /// al., eq. 5).
    pub fn v_statistic(&self, x: &Tensor, y: &Tensor) -> f64 {
        let (x, y) = (Columns::of(x), Columns::of(y));
        let (n, m) = (x.rows as f64, y.rows as f64);
        let itself = self.bandwidths.len() as f64;
        (2.0 * self.pairs(&x) / n + itself) / n + (2.0 * self.pairs(&y) / m + itself) / m
            - 2.0 * self.between(&x, &y) / (n * m)
    }

    /// The unbiased estimate against an exact distribution `Y`, whose side is in closed form: a
    /// Gaussian kernel is a Gaussian density, so `E k(x, Y) = Σ_j (2π h_j²)^{d/2} p_j(x)` with
    /// `p_j` the mixture convolved with `N(0, h_j² I)`. No noise from `Y`; NaN with fewer than two
    /// rows.
    pub fn against_mixture(&self, x: &Tensor, mixture: &GaussianMixture) -> f64 {
        let columns = Columns::of(x);
        let n = columns.rows as f64;
        2.0 * self.pairs(&columns) / (n * (n - 1.0)) - 2.0 * self.mean_embedding(x, mixture)
            + self.self_similarity(mixture)
    }

    /// `mean_i E k(x_i, Y)`.
    fn mean_embedding(&self, x: &Tensor, mixture: &GaussianMixture) -> f64 {
        assert_eq!(x.size()[1], mixture.dim(), "columns of rows against the mixture's");
        let x = x.to_kind(Kind::Double).to_device(Device::Cpu);
        let parameters = mixture.parameters();
        let sum = |h: f64| -> f64 {
            let smoothed = convolved(&parameters, None, h);
            let blocks = x.split(BLOCK as i64, 0);
            blocks
                .iter()
                .map(|x| smoothed.log_density(x).exp().sum(Kind::Double).double_value(&[]))
                .sum::<f64>()
                * volume(h, &parameters)
        };
        self.bandwidths.iter().map(|&h| sum(h)).sum::<f64>() / x.size()[0] as f64
    }

    /// `E k(Y, Y')`.
    fn self_similarity(&self, mixture: &GaussianMixture) -> f64 {
        let parameters = mixture.parameters();
        let mut total = 0.0;
        for &h in &self.bandwidths {
            for (k, weight) in parameters.weights.iter().enumerate() {
                let seen = convolved(&parameters, Some(k), h);
                let at = Tensor::from_slice(&parameters.means[k]).unsqueeze(0);
                total += weight
                    * seen.log_density(&at).exp().double_value(&[0])
                    * volume(h, &parameters);
            }
        }
        total
    }

    /// `Σ_{i<j} k(x_i, x_j)`.
    fn pairs(&self, x: &Columns) -> f64 {
        self.sum(x, x, |i| i + 1)
    }

    /// `Σ_{i,j} k(x_i, y_j)`.
    fn between(&self, x: &Columns, y: &Columns) -> f64 {
        assert_eq!(
            x.values.len() / x.rows.max(1),
            y.values.len() / y.rows.max(1),
            "columns of the two samples"
        );
        self.sum(x, y, |_| 0)
    }

    /// `Σ_i Σ_{j ≥ first(i)} k(x_i, y_j)`.
    fn sum(&self, x: &Columns, y: &Columns, first: impl Fn(usize) -> usize + Sync) -> f64 {
        let sums: Vec<f64> = (0..x.rows)
            .into_par_iter()
            .with_min_len(16)
            .map(|i| {
                let mut buffer = [0.0; BLOCK];
                let mut total = 0.0;
                let mut start = first(i);
                while start < y.rows {
                    let length = BLOCK.min(y.rows - start);
                    let squares = &mut buffer[..length];
                    squares.fill(0.0);
                    for (xs, ys) in x.coordinates().zip(y.coordinates()) {
                        let at = xs[i];
                        squares
                            .iter_mut()
                            .zip(&ys[start..])
                            .for_each(|(s, y)| *s += (at - y) * (at - y));
                    }
                    total += self.kernel_sum(squares);
                    start += length;
                }
                total
            })
            .collect();
        sums.iter().sum()
    }

    /// `Σ k` over squared distances, which are overwritten.
    fn kernel_sum(&self, squares: &mut [f64]) -> f64 {
        let widest = self.bandwidths[self.bandwidths.len() - 1];
        if !self.bandwidths.windows(2).all(|h| h[1] == 2.0 * h[0]) {
            let one = |s: f64| -> f64 {
                self.bandwidths.iter().map(|h| exp_minus(s / (2.0 * h * h))).sum()
            };
            return squares.iter().map(|&s| one(s)).sum();
        }
        // halving h is the fourth power: one exponential serves all bandwidths
        let factor = 0.5 / (widest * widest);
        squares.iter_mut().for_each(|s| *s = exp_minus(*s * factor));
        let mut total = lane_sum(squares);
        for _ in 1..self.bandwidths.len() {
            squares.iter_mut().for_each(|e| {
                let squared = *e * *e;
                *e = squared * squared;
            });
            total += lane_sum(squares);
        }
        total
    }
}

/// A sum that the compiler can vectorise: four partial sums.
fn lane_sum(values: &[f64]) -> f64 {
    let chunks = values.chunks_exact(4);
    let rest: f64 = chunks.remainder().iter().sum();
    let mut lanes = [0.0; 4];
    for chunk in chunks {
        for (lane, v) in lanes.iter_mut().zip(chunk) {
            *lane += v;
        }
    }
    (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]) + rest
}

/// `e^{−u}` for `u ≥ 0`, to 4e-16 relative, without branches so that it vectorises; 0 from
/// `u = 700`, NaN of NaN.
#[inline(always)]
fn exp_minus(u: f64) -> f64 {
    const ROUND: f64 = 6755399441055744.0; // 1.5 · 2^52
    const LN2_HIGH: f64 = 6.931_471_803_691_238e-1;
    const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    let capped = if u > 700.0 { 700.0 } else { u };
    let shifted = ROUND - capped * std::f64::consts::LOG2_E;
    let k = shifted - ROUND;
    let r = (-capped - k * LN2_HIGH) - k * LN2_LOW;
    // Taylor to r^12, unrolled for the vectoriser: |r| ≤ ½ ln 2, so the rest is below 2e-16
    let p = 1.0 / 479001600.0 * r + 1.0 / 39916800.0;
    let p = (p * r + 1.0 / 3628800.0) * r + 1.0 / 362880.0;
    let p = (p * r + 1.0 / 40320.0) * r + 1.0 / 5040.0;
    let p = (p * r + 1.0 / 720.0) * r + 1.0 / 120.0;
    let p = (p * r + 1.0 / 24.0) * r + 1.0 / 6.0;
    let p = ((p * r + 0.5) * r + 1.0) * r + 1.0;
    let scale = f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52);
    if u > 700.0 { 0.0 } else { p * scale }
}

/// `∫ exp(−‖x‖²/(2h²)) dx`.
fn volume(h: f64, parameters: &MixtureParameters) -> f64 {
    (0.5 * parameters.means[0].len() as f64 * (LN_2PI + 2.0 * h.ln())).exp()
}

/// The mixture convolved with `N(0, h² I)`, and with the spread of component `k` if given.
fn convolved(parameters: &MixtureParameters, k: Option<usize>, h: f64) -> GaussianMixture {
    let d = parameters.means[0].len();
    let mut wide = parameters.clone();
    for covariance in &mut wide.covariances {
        for (i, v) in covariance.iter_mut().enumerate() {
            *v += k.map_or(0.0, |k| parameters.covariances[k][i])
                + if i % (d + 1) == 0 { h * h } else { 0.0 };
        }
    }
    GaussianMixture::from_parameters(&wide).expect("a mixture made wider is a mixture")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::likelihood::mean_and_error;
    use crate::noise::Seed;
    use crate::tensor::squared_norm;

    fn plane() -> GaussianMixture {
        GaussianMixture::from_parameters(&MixtureParameters {
            weights: vec![0.3, 0.7],
            means: vec![vec![-1.0, 0.5], vec![1.5, 0.0]],
            covariances: vec![vec![0.5, 0.2, 0.2, 1.0], vec![2.0, -0.3, -0.3, 0.4]],
        })
        .unwrap()
    }

    /// Against the kernel as written, one pair at a time.
    fn naive(mmd: &Mmd, x: &Tensor, y: &Tensor, skip_equal: bool) -> f64 {
        let rows =
            |x: &Tensor| -> Vec<Vec<f64>> { (0..x.size()[0]).map(|i| to_vec(&x.get(i))).collect() };
        let (x, y) = (rows(x), rows(y));
        let mut total = 0.0;
        for (i, a) in x.iter().enumerate() {
            for (j, b) in y.iter().enumerate() {
                let s: f64 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
                if !(skip_equal && i == j) {
                    total +=
                        mmd.bandwidths().iter().map(|h| (-s / (2.0 * h * h)).exp()).sum::<f64>();
                }
            }
        }
        let (n, m) = (x.len() as f64, y.len() as f64);
        total / if skip_equal { n * (n - 1.0) } else { n * m }
    }

    /// Both statistics against the double sum, for doubling bandwidths (one exponential) and
    /// others, with blocks cut.
    #[test]
    fn statistics_equal_the_double_sums() {
        let (x, y) = (plane().sample(150, Seed(1)), plane().sample(1100, Seed(2)) * 1.3);
        for mmd in [Mmd::default(), Mmd::new(&[2.0, 0.3]).unwrap()] {
            let cross = 2.0 * naive(&mmd, &x, &y, false);
            let u = naive(&mmd, &x, &x, true) + naive(&mmd, &y, &y, true) - cross;
            let v = naive(&mmd, &x, &x, false) + naive(&mmd, &y, &y, false) - cross;
            assert!((mmd.u_statistic(&x, &y) - u).abs() < 1e-12, "U");
            assert!((mmd.v_statistic(&x, &y) - v).abs() < 1e-12, "V");
            // V − U = Σ over both sides of (k(0) − mean of k over pairs)/n
            let itself = mmd.bandwidths().len() as f64;
            let gap = (itself - naive(&mmd, &x, &x, true)) / 150.0
                + (itself - naive(&mmd, &y, &y, true)) / 1100.0;
            assert!((v - u - gap).abs() < 1e-12 && v > 0.0);
        }
        assert!(Mmd::default().v_statistic(&x, &x).abs() < 1e-12);
        assert!(Mmd::default().u_statistic(&x.narrow(0, 0, 1), &y).is_nan());
    }

    #[test]
    fn exponential_is_accurate() {
        let worst = (0..200_000)
            .map(|i| i as f64 * 0.0034567)
            .map(|u| (exp_minus(u) / (-u).exp() - 1.0).abs())
            .fold(0.0, f64::max);
        println!("worst relative error {worst:.1e}");
        assert!(worst < 5e-16, "{worst}");
        assert_eq!((exp_minus(0.0), exp_minus(1e300)), (1.0, 0.0));
        assert!(exp_minus(f64::NAN).is_nan());
    }

    /// One dimension, by the trapezoidal rule (spectrally accurate here) on a lattice of step 1/20.
    #[test]
    fn closed_forms_equal_quadrature() {
        let mixture = GaussianMixture::new(&[0.4, 0.6], &[[-2.0], [1.0]], &[0.7, 1.2]).unwrap();
        let mmd = Mmd::default();
        let step = 0.05;
        let nodes: Vec<f64> = (-240..=240).map(|i| i as f64 * step).collect();
        let density: Vec<f64> =
            to_vec(&mixture.log_density(&Tensor::from_slice(&nodes).view([-1, 1])).exp());
        let kernel =
            |s: f64| mmd.bandwidths().iter().map(|h| (-s * s / (2.0 * h * h)).exp()).sum::<f64>();
        let seen = |x: f64| -> f64 {
            nodes.iter().zip(&density).map(|(y, p)| step * p * kernel(x - y)).sum()
        };
        let double: f64 = nodes.iter().zip(&density).map(|(x, p)| step * p * seen(*x)).sum();
        let points = [-3.0, 0.0, 0.4, 5.0];
        let single = points.iter().map(|&x| seen(x)).sum::<f64>() / 4.0;
        let x = Tensor::from_slice(&points).view([-1, 1]);
        assert!((mmd.mean_embedding(&x, &mixture) - single).abs() < 1e-10, "E k(x, Y)");
        assert!((mmd.self_similarity(&mixture) - double).abs() < 1e-10, "E k(Y, Y')");
    }

    /// In the plane with full covariances, by Monte Carlo within four standard errors.
    #[test]
    fn closed_forms_equal_monte_carlo() {
        let (mixture, mmd, n) = (plane(), Mmd::default(), 40_000);
        let kernel = |x: &Tensor, y: &Tensor| -> (f64, f64) {
            let s = squared_norm(&(x - y));
            let k = mmd
                .bandwidths()
                .iter()
                .fold(s.zeros_like(), |k, h| k + (&s * (-0.5 / (h * h))).exp());
            mean_and_error(&to_vec(&k))
        };
        let (y, other) = (mixture.sample(n, Seed(3)), mixture.sample(n, Seed(4)));
        let at = Tensor::from_slice(&[0.5, -1.0]).unsqueeze(0);
        let (mean, error) = kernel(&at, &y);
        let gap = (mmd.mean_embedding(&at, &mixture) - mean) / error;
        let (mean, error) = kernel(&y, &other);
        let second = (mmd.self_similarity(&mixture) - mean) / error;
        println!("{gap:.2} and {second:.2} standard errors");
        assert!(gap.abs() < 4.0 && second.abs() < 4.0);
    }

    /// For equal distributions the unbiased statistics have mean 0 within four standard errors over
    /// replicates, the biased one does not; for different distributions both unbiased ones agree.
    #[test]
    fn unbiased_at_equal_laws() {
        let (mixture, mmd, n) = (plane(), Mmd::default(), 100);
        let other = GaussianMixture::new(&[1.0], &[[0.5, 0.0]], &[1.2]).unwrap();
        let mut columns: [Vec<f64>; 4] = Default::default();
        for trial in 0..300 {
            let (x, y) =
                (mixture.sample(n, Seed(2 * trial)), mixture.sample(n, Seed(2 * trial + 1)));
            let z = other.sample(n, Seed(trial + 10_000));
            let statistics = [
                mmd.u_statistic(&x, &y),
                mmd.against_mixture(&x, &mixture),
                mmd.v_statistic(&x, &y),
                mmd.u_statistic(&z, &y) - mmd.against_mixture(&z, &mixture),
            ];
            columns.iter_mut().zip(statistics).for_each(|(c, s)| c.push(s));
        }
        let scores = columns.map(|c| {
            let (mean, error) = mean_and_error(&c);
            println!("{mean:.5} ± {error:.5}");
            mean / error
        });
        assert!(
            scores[0].abs() < 4.0 && scores[1].abs() < 4.0 && scores[3].abs() < 4.0,
            "{scores:?}"
        );
        assert!(scores[2] > 10.0, "the V-statistic's bias went unseen: {scores:?}");
    }

    #[test]
    fn bad_bandwidths_are_refused() {
        for bad in [&[][..], &[0.0], &[1.0, f64::NAN]] {
            assert!(Mmd::new(bad).is_err());
        }
    }
}
