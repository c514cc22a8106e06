//! Slopes with their standard errors; on logarithms, the exponents of power laws.

/// The least-squares slope of `(x, y)` and its standard error from the residuals, which is NaN of
/// two points.
pub(super) fn slope(points: &[(f64, f64)]) -> (f64, f64) {
    let weighted: Vec<(f64, f64, f64)> = points.iter().map(|&(x, y)| (x, y, 1.0)).collect();
    let (slope, unit) = slope_of_measured(&weighted);
    let n = points.len() as f64;
    let centre = |pick: &dyn Fn(&(f64, f64)) -> f64| points.iter().map(pick).sum::<f64>() / n;
    let (x0, y0) = (centre(&|p| p.0), centre(&|p| p.1));
    let residuals: f64 = points.iter().map(|(x, y)| (y - y0 - slope * (x - x0)).powi(2)).sum();
    (slope, unit * (residuals / (n - 2.0)).sqrt())
}

/// The slope of `(x, y, standard error of y)` weighted by the inverse variances, and its standard
/// error from those of `y`.
pub(super) fn slope_of_measured(points: &[(f64, f64, f64)]) -> (f64, f64) {
    let weight = |error: f64| error.powi(-2);
    let total: f64 = points.iter().map(|p| weight(p.2)).sum();
    let mean = |pick: &dyn Fn(&(f64, f64, f64)) -> f64| {
        points.iter().map(|p| weight(p.2) * pick(p)).sum::<f64>() / total
    };
    let (x0, y0) = (mean(&|p| p.0), mean(&|p| p.1));
    let spread: f64 = points.iter().map(|p| weight(p.2) * (p.0 - x0).powi(2)).sum();
    let along: f64 = points.iter().map(|p| weight(p.2) * (p.0 - x0) * (p.1 - y0)).sum();
    (along / spread, spread.sqrt().recip())
}

/// The slope of [`slope`] with the larger of two standard errors: from the residuals, or from those
/// of `y`, which stand third.
pub(super) fn slope_of_noisy(points: &[(f64, f64, f64)]) -> (f64, f64) {
    let plain: Vec<(f64, f64)> = points.iter().map(|&(x, y, _)| (x, y)).collect();
    let (slope, from_residuals) = slope(&plain);
    let centre = plain.iter().map(|p| p.0).sum::<f64>() / plain.len() as f64;
    let (mut spread, mut carried) = (0.0, 0.0);
    for (x, _, error) in points {
        spread += (x - centre).powi(2);
        carried += ((x - centre) * error).powi(2);
    }
    (slope, from_residuals.max(carried.sqrt() / spread))
}

/// The exponent `p` of `y ∝ x^p` and its standard error from the residuals.
pub(super) fn exponent(points: &[(f64, f64)]) -> (f64, f64) {
    slope(&points.iter().map(|(x, y)| (x.ln(), y.ln())).collect::<Vec<_>>())
}

/// The exponent `p` of `y ∝ x^p` from `(x, y, standard error of y)`, and its standard error from
/// those of `y`.
pub(super) fn exponent_of_measured(points: &[(f64, f64, f64)]) -> (f64, f64) {
    slope_of_measured(&logarithms(points))
}

/// The exponent `p` of `y ∝ x^p` from `(x, y, standard error of y)`, of which the power law need
/// not hold to within those: with the larger of both standard errors.
pub(super) fn exponent_of_noisy(points: &[(f64, f64, f64)]) -> (f64, f64) {
    slope_of_noisy(&logarithms(points))
}

fn logarithms(points: &[(f64, f64, f64)]) -> Vec<(f64, f64, f64)> {
    points.iter().map(|(x, y, e)| (x.ln(), y.ln(), e / y)).collect()
}

/// The first of the larger half of rising `numbers`, to which an exponent is fitted; of few the
/// last but two, so that three are left to fit.
pub(super) fn fitted_from(numbers: &[usize]) -> usize {
    numbers[(numbers.len() / 2).min(numbers.len() - 3)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use tweedie::noise::{Noise, Seed};

    #[test]
    fn power_laws_have_their_exponents() {
        let points: Vec<(f64, f64)> =
            [5.0, 10.0, 40.0].map(|k: f64| (k, 3.0 * k.powf(-2.0))).into();
        let (p, error) = exponent(&points);
        assert!((p + 2.0).abs() < 1e-12 && error < 1e-12, "{p} ± {error}");
        let measured: Vec<_> = points.iter().map(|&(x, y)| (x, y, 0.1 * y)).collect();
        // ln y has the error 0.1 at x = ln 5, ln 10, ln 40
        let x = [5f64, 10.0, 40.0].map(f64::ln);
        let x0 = x.iter().sum::<f64>() / 3.0;
        let expected = 0.1 / x.iter().map(|x| (x - x0).powi(2)).sum::<f64>().sqrt();
        let (p, error) = exponent_of_measured(&measured);
        assert!((p + 2.0).abs() < 1e-12 && (error / expected - 1.0).abs() < 1e-12, "{p} ± {error}");
    }

    /// By hand: (0, 0), (1, 2), (2, 2) have the slope 1, residuals −1/3, 2/3, −1/3, and so the
    /// error √(6/9/1/2) = √(1/3).
    #[test]
    fn a_slope_by_hand() {
        let (slope, error) = slope(&[(0.0, 0.0), (1.0, 2.0), (2.0, 2.0)]);
        assert!(
            (slope - 1.0).abs() < 1e-14 && (error - (1f64 / 3.0).sqrt()).abs() < 1e-14,
            "{slope} ± {error}"
        );
    }

    /// Both errors are those that slopes of repeated noise have, of 2000 repetitions to 5 % (three
    /// standard errors).
    #[test]
    fn errors_are_those_of_repetition() {
        let z = Noise::new(Seed(3), 0..2000).normal(6, tch::Kind::Double, tch::Device::Cpu);
        let z = tweedie::tensor::to_vec(&z);
        let fits: Vec<[(f64, f64); 2]> = z
            .chunks(6)
            .map(|z| {
                let line = |i: usize| (i as f64, 0.5 * i as f64 + 0.2 * z[i]);
                let plain: Vec<_> = (0..6).map(line).collect();
                let measured: Vec<_> = plain.iter().map(|&(x, y)| (x, y, 0.2)).collect();
                [slope(&plain), slope_of_measured(&measured)]
            })
            .collect();
        for which in 0..2 {
            let variance = fits.iter().map(|f| (f[which].0 - 0.5).powi(2)).sum::<f64>() / 2000.0;
            let claimed = fits.iter().map(|f| f[which].1.powi(2)).sum::<f64>() / 2000.0;
            assert!((variance / claimed - 1.0).abs() < 0.1, "{which}: {variance} {claimed}");
        }
    }
}
