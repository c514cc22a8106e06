//! How wide a kernel density estimate's kernels are.

use crate::plot::quantile;

/// Cells of the grid on which distances between values are counted.
const CELLS: usize = 2000;

/// Silverman's rule of thumb h = 0.9 min(s, IQR/1.34) n^(−1/5) (Silverman 1986, eq. 3.31); too wide
/// for several modes. None where nothing varies.
pub(super) fn silverman(sorted: &[f64]) -> Option<f64> {
    Some(0.9 * spread(sorted)? * (sorted.len() as f64).powf(-0.2))
}

/// The solution h of h⁵ = 1 / (2 √π n S(γ h^(5/7))), the asymptotically best bandwidth, where a
/// kernel estimate of its own gives the roughness S of the density's second derivative (Sheather
/// and Jones 1991). `sorted` ascends. None where the values are too few or too much alike.
pub(super) fn sheather_jones(sorted: &[f64]) -> Option<f64> {
    let n = sorted.len() as f64;
    let scale = spread(sorted).filter(|_| n >= 8.0)?;
    let distances = Distances::new(sorted)?;
    // The pilots' bandwidths are those of a normal density of the same scale.
    let fourth = |h: f64| distances.roughness(h, |d| (d - 6.0) * d + 3.0, 5);
    let sixth = |h: f64| -distances.roughness(h, |d| ((d - 15.0) * d + 45.0) * d - 15.0, 7);
    let pilots =
        fourth(1.24 * scale * n.powf(-1.0 / 7.0)) / sixth(1.23 * scale * n.powf(-1.0 / 9.0));
    let gamma = 1.357 * pilots.powf(1.0 / 7.0);
    let excess = |h: f64| {
        let roughness = fourth(gamma * h.powf(5.0 / 7.0));
        (2.0 * std::f64::consts::PI.sqrt() * n * roughness).powf(-0.2) - h
    };
    let unit = scale * n.powf(-0.2);
    let (mut low, mut high) = (distances.cell.max(1e-3 * unit), 1.5 * unit);
    if !(low < high && excess(low) > 0.0 && excess(high) < 0.0) {
        return None;
    }
    for _ in 0..50 {
        let middle = 0.5 * (low + high);
        *(if excess(middle) > 0.0 { &mut low } else { &mut high }) = middle;
    }
    Some(0.5 * (low + high))
}

/// The lesser of the standard deviation and the interquartile range over the normal distribution's.
fn spread(sorted: &[f64]) -> Option<f64> {
    let n = sorted.len() as f64;
    let mean = sorted.iter().sum::<f64>() / n;
    let variance = sorted.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let iqr = quantile(sorted, 0.75) - quantile(sorted, 0.25);
    let spread = [variance.sqrt(), iqr / 1.34]
        .into_iter()
        .filter(|&s| s > 0.0)
        .fold(f64::INFINITY, f64::min);
    spread.is_finite().then_some(spread)
}

/// How many pairs of values lie how many grid cells apart.
struct Distances {
    cell: f64,
    pairs: Vec<f64>,
    n: f64,
}

impl Distances {
    fn new(sorted: &[f64]) -> Option<Distances> {
        // The outermost half per cent would only widen the cells.
        let (lo, hi) = (quantile(sorted, 0.005), quantile(sorted, 0.995));
        let cell = (hi - lo) / CELLS as f64;
        if !(cell > 0.0 && cell.is_finite()) {
            return None;
        }
        let mut counts = vec![0.0; CELLS + 1];
        for v in sorted.iter().filter(|v| (lo..=hi).contains(v)) {
            counts[(((v - lo) / cell) as usize).min(CELLS)] += 1.0;
        }
        let mut pairs = vec![0.0; CELLS + 1];
        for (i, &a) in counts.iter().enumerate().filter(|(_, a)| **a > 0.0) {
            pairs[0] += a * (a - 1.0) / 2.0;
            for (j, &b) in counts.iter().enumerate().skip(i + 1) {
                pairs[j - i] += a * b;
            }
        }
        Some(Distances { cell, pairs, n: counts.iter().sum() })
    }

    /// Σᵢⱼ φ⁽ᵏ⁾((xᵢ − xⱼ)/h) / (n (n − 1) h^(k+1)), where φ⁽ᵏ⁾ is φ times the polynomial `hermite`
    /// of its squared argument, and `power` is k + 1.
    fn roughness(&self, h: f64, hermite: impl Fn(f64) -> f64, power: i32) -> f64 {
        let term = |(i, pairs): (usize, &f64)| {
            let square = (i as f64 * self.cell / h).powi(2);
            pairs * hermite(square) * (-0.5 * square).exp()
        };
        let sum =
            2.0 * self.pairs.iter().enumerate().map(term).sum::<f64>() + self.n * hermite(0.0);
        sum / (self.n * (self.n - 1.0) * h.powi(power) * std::f64::consts::TAU.sqrt())
    }
}

#[cfg(test)]
mod tests {
    use statrs::distribution::{ContinuousCDF, Normal};

    use super::*;

    /// `n` even quantiles of a normal distribution.
    fn normal(n: usize, mean: f64, sd: f64) -> Vec<f64> {
        let normal = Normal::new(mean, sd).unwrap();
        (0..n).map(|i| normal.inverse_cdf((i as f64 + 0.5) / n as f64)).collect()
    }

    /// The asymptotically best bandwidth for one normal distribution, (4/3n)^(1/5) σ.
    fn best(n: f64, sd: f64) -> f64 {
        (4.0 / (3.0 * n)).powf(0.2) * sd
    }

    #[test]
    fn silverman_on_a_known_sample() {
        // By hand: s = √2.5 = 1.5811 > IQR/1.34 = 2/1.34 = 1.49254; h = 0.9 · 1.49254 · 5^−0.2 =
        // 0.97358.
        assert!((silverman(&[1., 2., 3., 4., 5.]).unwrap() - 0.97358).abs() < 1e-5);
    }

    #[test]
    fn of_a_normal_sample_it_is_the_normal_reference() {
        let h = sheather_jones(&normal(2000, 1.0, 3.0)).unwrap();
        assert!((h / best(2000.0, 3.0) - 1.0).abs() < 0.15, "{h} {}", best(2000.0, 3.0));
    }

    #[test]
    fn far_modes_do_not_widen_the_kernels() {
        // Of two far modes of n/2 each, the roughness is half that of one mode: h = 2^(1/5)
        // best(n).
        let mut values = normal(1000, -10.0, 1.0);
        values.extend(normal(1000, 10.0, 1.0));
        let best = 2f64.powf(0.2) * best(2000.0, 1.0);
        let (h, rule) = (sheather_jones(&values).unwrap(), silverman(&values).unwrap());
        assert!(
            h < 1.5 * best && rule > 5.0 * best,
            "Sheather–Jones {h}, Silverman {rule}, best {best}"
        );
    }

    #[test]
    fn values_alike_have_none() {
        assert_eq!(sheather_jones(&[1.0; 100]), None);
        assert_eq!(sheather_jones(&[]), None);
        assert_eq!(silverman(&[2.0; 3]), None);
    }
}
