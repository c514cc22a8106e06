//! The parametric family: two isotropic Gaussian components in the plane, its diffused jet
//! `(ε̂, G)` and the derivatives of both with respect to all seven parameters, by hand.

use rand::{Rng, RngExt};
use rand_distr::StandardNormal;

/// Number of parameters.
pub const P: usize = 7;
/// One number per parameter.
pub type Params = [f64; P];
/// A point of the plane.
pub type Point = [f64; 2];

/// `w N(m₁, s₁² I) + (1 − w) N(m₂, s₂² I)` in the plane, in coordinates without constraints.
///
/// As [`Params`]: `m₁ (2), m₂ (2), ln s₁², ln s₂², logit w`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mixture {
    /// `m₁`, `m₂`.
    pub means: [Point; 2],
    /// `ln s_k²`.
    pub log_variances: [f64; 2],
    /// `ln(w/(1 − w))`, `w` the first component's weight.
    pub logit: f64,
}

impl Mixture {
    /// From means, standard deviations and the first weight.
    pub fn new(means: [Point; 2], sds: [f64; 2], weight: f64) -> Mixture {
        Mixture {
            means,
            log_variances: sds.map(|s| 2.0 * s.ln()),
            logit: (weight / (1.0 - weight)).ln(),
        }
    }

    /// The components' standard deviations.
    pub fn sds(&self) -> [f64; 2] {
        self.log_variances.map(|l| (0.5 * l).exp())
    }

    /// The first component's weight.
    pub fn weight(&self) -> f64 {
        1.0 / (1.0 + (-self.logit).exp())
    }

    /// The coordinates the optimisers move in.
    pub fn params(&self) -> Params {
        let [a, b] = self.means;
        [a[0], a[1], b[0], b[1], self.log_variances[0], self.log_variances[1], self.logit]
    }

    /// The mixture at these coordinates.
    pub fn from_params(p: &Params) -> Mixture {
        Mixture { means: [[p[0], p[1]], [p[2], p[3]]], log_variances: [p[4], p[5]], logit: p[6] }
    }

    /// What tables report: means, standard deviations, weight.
    pub fn natural(&self) -> Params {
        let mut p = self.params();
        [p[4], p[5]] = self.sds();
        p[6] = self.weight();
        p
    }

    /// The same distribution with its components exchanged.
    pub fn swapped(&self) -> Mixture {
        Mixture {
            means: [self.means[1], self.means[0]],
            log_variances: [self.log_variances[1], self.log_variances[0]],
            logit: -self.logit,
        }
    }

    /// Of the two labellings, the one whose means are nearer to `reference`'s: label switching
    /// resolved.
    pub fn aligned(&self, reference: &Mixture) -> Mixture {
        let distance = |m: &Mixture| -> f64 {
            (0..2).map(|k| distance2(m.means[k], reference.means[k])).sum()
        };
        let swapped = self.swapped();
        if distance(&swapped) < distance(self) { swapped } else { *self }
    }

    /// `n` draws.
    pub fn sample(&self, n: usize, rng: &mut impl Rng) -> Vec<Point> {
        let (sds, weight) = (self.sds(), self.weight());
        (0..n)
            .map(|_| {
                let k = usize::from(rng.random::<f64>() >= weight);
                let z: Point = [rng.sample(StandardNormal), rng.sample(StandardNormal)];
                [self.means[k][0] + sds[k] * z[0], self.means[k][1] + sds[k] * z[1]]
            })
            .collect()
    }

    /// `ln p(x)`, nats, and its gradient.
    pub fn log_density(&self, x: Point) -> (f64, Params) {
        let v = self.log_variances.map(f64::exp);
        let d: [Point; 2] = self.means.map(|m| [x[0] - m[0], x[1] - m[1]]);
        let half_quad = [0, 1].map(|k| 0.5 * (d[k][0] * d[k][0] + d[k][1] * d[k][1]) / v[k]);
        let w = self.weight();
        let joint = [w.ln(), (1.0 - w).ln()];
        let joint = [0, 1].map(|k| joint[k] - self.log_variances[k] - half_quad[k]);
        let largest = joint[0].max(joint[1]);
        let total = largest + ((joint[0] - largest).exp() + (joint[1] - largest).exp()).ln();
        let r = joint.map(|l| (l - total).exp());
        let mut gradient = [0.0; P];
        for k in 0..2 {
            gradient[2 * k] = r[k] * d[k][0] / v[k];
            gradient[2 * k + 1] = r[k] * d[k][1] / v[k];
            gradient[4 + k] = r[k] * (half_quad[k] - 1.0);
        }
        gradient[6] = r[0] - w;
        (total - tweedie::gaussian::LN_2PI, gradient)
    }
}

/// The squared Euclidean distance of two points.
pub fn distance2(a: Point, b: Point) -> f64 {
    (a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2)
}

/// `ε̂ = E[ε|x_t]` and `G = Cov[ε|x_t]` at one point, as `[ε̂₁, ε̂₂, G₁₁, G₂₂, G₁₂]`, with
/// derivatives.
#[derive(Clone, Copy, Debug)]
pub struct Jet {
    /// The five values.
    pub value: [f64; 5],
    /// Their gradients, one row per value.
    pub jacobian: [Params; 5],
}

/// A mixture with what its jet needs at every point worked out once.
#[derive(Clone, Copy, Debug)]
pub struct Diffused {
    means: [Point; 2],
    variances: [f64; 2],
    logit: f64,
}

impl From<&Mixture> for Diffused {
    fn from(m: &Mixture) -> Diffused {
        Diffused { means: m.means, variances: m.log_variances.map(f64::exp), logit: m.logit }
    }
}

impl Diffused {
    /// The jet at `x_t = x` where the forward process has `α` and `σ²`.
    ///
    /// With `c_k = α²s_k² + σ²`, `e_k = σ(x − αm_k)/c_k`, `g_k = α²s_k²/c_k` and responsibilities
    /// `r_k`: `ε̂ = Σ r_k e_k`, `G = Σ r_k g_k I + r₁r₂ (e₁ − e₂)(e₁ − e₂)ᵀ`. In `ℓ_k = ln s_k²`:
    /// `∂c_k = c_k g_k`, `∂e_k = −g_k e_k`, `∂g_k = g_k(1 − g_k)`.
    ///
    /// Only the first `ROWS` rows of the Jacobian are computed: 2 where `G` is not needed,
    /// else 5.
    #[inline(always)]
    pub fn jet<const ROWS: usize>(&self, x: Point, alpha: f64, sigma2: f64) -> Jet {
        let sigma = sigma2.sqrt();
        let mut e = [[0.0; 2]; 2];
        let (mut g, mut c, mut a, mut half_quad) = ([0.0; 2], [0.0; 2], [0.0; 2], [0.0; 2]);
        let mut log_r = [[0.0; 2]; 2];
        for k in 0..2 {
            let signal = alpha * alpha * self.variances[k];
            c[k] = signal + sigma2;
            g[k] = signal / c[k];
            a[k] = sigma / c[k];
            let d = [x[0] - alpha * self.means[k][0], x[1] - alpha * self.means[k][1]];
            e[k] = [a[k] * d[0], a[k] * d[1]];
            half_quad[k] = 0.5 * (d[0] * d[0] + d[1] * d[1]) / c[k];
            // gradient of the component's log-density in its mean
            log_r[k] = [alpha * d[0] / c[k], alpha * d[1] / c[k]];
        }
        let odds = self.logit + (c[1] / c[0]).ln() - half_quad[0] + half_quad[1];
        let small = (-odds.abs()).exp();
        let (r, q) = if odds >= 0.0 {
            (1.0 / (1.0 + small), small / (1.0 + small))
        } else {
            (small / (1.0 + small), 1.0 / (1.0 + small))
        };
        let p = r * q;
        let gap = [e[0][0] - e[1][0], e[0][1] - e[1][1]];
        let outer = [gap[0] * gap[0], gap[1] * gap[1], gap[0] * gap[1]];
        let within = r * g[0] + q * g[1];
        let value = [
            r * e[0][0] + q * e[1][0],
            r * e[0][1] + q * e[1][1],
            within + p * outer[0],
            within + p * outer[1],
            p * outer[2],
        ];

        // how the jet moves with the first responsibility alone
        let (tilt, dg) = (q - r, g[0] - g[1]);
        let by_r = [gap[0], gap[1], dg + tilt * outer[0], dg + tilt * outer[1], tilt * outer[2]];
        let mut jacobian = [[0.0; P]; 5];
        for k in 0..2 {
            let (sign, share) = if k == 0 { (1.0, r) } else { (-1.0, q) };
            // m_k: de_k = −α a_k I, dr = ± p dlog_r; then ln s_k²
            let de = -alpha * a[k];
            let pull = sign * p * de;
            let dr = [
                sign * p * log_r[k][0],
                sign * p * log_r[k][1],
                sign * p * (half_quad[k] - 1.0) * g[k],
            ];
            for i in 0..ROWS {
                jacobian[i][2 * k] = by_r[i] * dr[0];
                jacobian[i][2 * k + 1] = by_r[i] * dr[1];
                jacobian[i][4 + k] = by_r[i] * dr[2];
            }
            let by_scale = [-g[k] * e[k][0], -g[k] * e[k][1]];
            for axis in 0..2 {
                jacobian[axis][2 * k + axis] += share * de;
                jacobian[axis][4 + k] += share * by_scale[axis];
            }
            if ROWS == 5 {
                let dwithin = share * g[k] * (1.0 - g[k]);
                for axis in 0..2 {
                    jacobian[2 + axis][2 * k + axis] += 2.0 * pull * gap[axis];
                    jacobian[4][2 * k + axis] += pull * gap[1 - axis];
                    jacobian[2 + axis][4 + k] +=
                        dwithin + 2.0 * sign * p * by_scale[axis] * gap[axis];
                }
                jacobian[4][4 + k] += sign * p * (by_scale[0] * gap[1] + by_scale[1] * gap[0]);
            }
        }
        for i in 0..ROWS {
            jacobian[i][6] = by_r[i] * p;
        }
        Jet { value, jacobian }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Tensor;
    use tweedie::oracle::{GaussianMixture, MixtureParameters};
    use tweedie::query::Times;
    use tweedie::schedule::{Schedule, Vp};
    use tweedie::sym_matrix::SymMatrix;

    const TRUTH: Mixture =
        Mixture { means: [[-1.0, -0.4], [1.2, 0.5]], log_variances: [-0.6, 0.1], logit: -0.4 };
    const POINTS: [Point; 4] = [[0.1, 0.2], [-1.4, 0.3], [2.0, 1.0], [0.4, -0.9]];

    /// The jet against the oracle, which is written for any dimension and full covariances.
    #[test]
    fn the_jet_is_the_oracles() {
        let (vp, sds, w) = (Vp::default(), TRUTH.sds(), TRUTH.weight());
        let oracle = GaussianMixture::from_parameters(&MixtureParameters {
            weights: vec![w, 1.0 - w],
            means: TRUTH.means.iter().map(|m| m.to_vec()).collect(),
            covariances: sds.iter().map(|s| vec![s * s, 0.0, 0.0, s * s]).collect(),
        })
        .unwrap();
        for t in [1e-5, 0.02, 0.3, 0.9] {
            for x in POINTS {
                let ours = Diffused::from(&TRUTH).jet::<5>(x, vp.alpha(t), vp.sigma2(t)).value;
                let x = Tensor::from_slice(&x).view([1, 2]);
                let moments = oracle.moments(&x, &vp, &Times::All(t));
                let SymMatrix::Full(g) = moments.cov else { panic!("the oracle's G is dense") };
                let theirs = [
                    moments.noise.double_value(&[0, 0]),
                    moments.noise.double_value(&[0, 1]),
                    g.double_value(&[0, 0, 0]),
                    g.double_value(&[0, 1, 1]),
                    g.double_value(&[0, 0, 1]),
                ];
                for (a, b) in ours.iter().zip(theirs) {
                    assert!(
                        (a - b).abs() < 1e-11 * (1.0 + b.abs()),
                        "t = {t}: {ours:?} against {theirs:?}"
                    );
                }
            }
        }
    }

    /// Central differences, whose error is O(h²) = 1e-10 of the third derivative.
    #[test]
    fn derivatives_by_differences() {
        let (vp, h) = (Vp::default(), 1e-5);
        let shifted = |j: usize, by: f64| {
            let mut p = TRUTH.params();
            p[j] += by;
            Mixture::from_params(&p)
        };
        for x in POINTS {
            let (_, gradient) = TRUTH.log_density(x);
            for j in 0..P {
                let slope =
                    (shifted(j, h).log_density(x).0 - shifted(j, -h).log_density(x).0) / (2.0 * h);
                assert!(
                    (slope - gradient[j]).abs() < 1e-8,
                    "log-density, {j}: {slope} {}",
                    gradient[j]
                );
            }
            for t in [1e-5, 0.02, 0.3, 0.9] {
                let at = |m: &Mixture| Diffused::from(m).jet::<5>(x, vp.alpha(t), vp.sigma2(t));
                let jet = at(&TRUTH);
                for j in 0..P {
                    let (up, down) = (at(&shifted(j, h)).value, at(&shifted(j, -h)).value);
                    for i in 0..5 {
                        let slope = (up[i] - down[i]) / (2.0 * h);
                        let error = (slope - jet.jacobian[i][j]).abs();
                        assert!(
                            error < 1e-7 * (1.0 + slope.abs()),
                            "t = {t}, value {i}, parameter {j}: {error:e}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn labels_are_resolved() {
        assert_eq!(TRUTH.swapped().aligned(&TRUTH), TRUTH);
        assert_eq!(TRUTH.aligned(&TRUTH), TRUTH);
        let (a, b) = (TRUTH.log_density([0.3, 0.1]).0, TRUTH.swapped().log_density([0.3, 0.1]).0);
        assert!((a - b).abs() < 1e-14);
    }
}
