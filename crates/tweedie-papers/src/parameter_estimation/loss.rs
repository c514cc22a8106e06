//! Score matching and Likelihood Matching as functions of the jet: value, gradient, expected
//! curvature.

use super::family::{Diffused, Jet, P, Params, Point};

/// Which loss is computed from the jet at a draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// `w ‖ε̂ − ε‖²`.
    Score,
    /// Likelihood Matching with the transition's own noise.
    Path,
    /// Likelihood Matching with the transition's noise averaged out given `(x_0, x_t)`.
    Marginal,
}

/// One draw `(x_t, noise)` and its coefficients.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    /// `x_t`.
    pub x: Point,
    /// The marginal noise `ε` (`Score`, `Marginal`) or the transition's `ε'` (`Path`).
    pub noise: Point,
    /// `α_t`.
    pub alpha: f64,
    /// `σ_t²`.
    pub sigma2: f64,
    /// `ρ = k²/σ_t²`, the gap of a transition; the weight `w` for `Score`.
    pub rho: f64,
}

/// Value, gradient and curvature of an objective, summed over draws.
#[derive(Clone, Debug, Default)]
pub struct Sum {
    /// Nats, up to a constant, or the weighted squared error.
    pub value: f64,
    /// The gradient in the parameters.
    pub gradient: Params,
    /// Expected Hessian where the model's moments are right: Gauss–Newton for `Score`, the Fisher
    /// information of the quasi-likelihood for the others. Lower triangle only.
    pub curvature: [Params; P],
}

/// Value of one draw and its gradient in the five numbers of the jet, with `B⁻¹` for the curvature.
#[inline(always)]
fn at_jet(form: Form, draw: &Draw, value: &[f64; 5]) -> (f64, [f64; 5], [f64; 3]) {
    let [e0, e1, g00, g11, g01] = *value;
    let (rho, z) = (draw.rho, draw.noise);
    if form == Form::Score {
        let u = [e0 - z[0], e1 - z[1]];
        let adjoint = [2.0 * rho * u[0], 2.0 * rho * u[1], 0.0, 0.0, 0.0];
        return (rho * (u[0] * u[0] + u[1] * u[1]), adjoint, [0.0; 3]);
    }
    // B = (1 − ρ) I + ρ G and its inverse
    let keep = 1.0 - rho;
    let (b00, b11, b01) = (keep + rho * g00, keep + rho * g11, rho * g01);
    let det = b00 * b11 - b01 * b01;
    let inv = [b11 / det, b00 / det, -b01 / det];
    let apply = |u: Point| [inv[0] * u[0] + inv[2] * u[1], inv[2] * u[0] + inv[1] * u[1]];
    let half_log_det = 0.5 * det.ln();
    if form == Form::Path {
        let root = rho.sqrt();
        let u = [z[0] - root * e0, z[1] - root * e1];
        let y = apply(u);
        let adjoint = [
            -root * y[0],
            -root * y[1],
            0.5 * rho * (inv[0] - y[0] * y[0]),
            0.5 * rho * (inv[1] - y[1] * y[1]),
            rho * (inv[2] - y[0] * y[1]),
        ];
        (half_log_det + 0.5 * (u[0] * y[0] + u[1] * y[1]), adjoint, inv)
    } else {
        let u = [z[0] - e0, z[1] - e1];
        let y = apply(u);
        // B⁻²
        let square = [
            inv[0] * inv[0] + inv[2] * inv[2],
            inv[1] * inv[1] + inv[2] * inv[2],
            inv[2] * (inv[0] + inv[1]),
        ];
        let entry = |i: usize, yy: f64| inv[i] - keep * square[i] - rho * yy;
        let adjoint = [
            -rho * y[0],
            -rho * y[1],
            0.5 * rho * entry(0, y[0] * y[0]),
            0.5 * rho * entry(1, y[1] * y[1]),
            rho * entry(2, y[0] * y[1]),
        ];
        let value =
            half_log_det + 0.5 * (keep * (inv[0] + inv[1]) + rho * (u[0] * y[0] + u[1] * y[1]));
        (value, adjoint, inv)
    }
}

/// `W J` for the curvature `W` of a draw in its jet: `2w I` for `Score`, else `ρ B⁻¹` for the mean
/// and `½ρ² tr(B⁻¹ dG B⁻¹ dG)` for the covariance.
#[inline(always)]
fn weigh(form: Form, rho: f64, inv: &[f64; 3], j: &[Params; 5]) -> [Params; 5] {
    let mut out = [[0.0; P]; 5];
    if form == Form::Score {
        for i in 0..P {
            out[0][i] = 2.0 * rho * j[0][i];
            out[1][i] = 2.0 * rho * j[1][i];
        }
        return out;
    }
    let [a, b, c] = *inv;
    let h = 0.5 * rho * rho;
    for i in 0..P {
        out[0][i] = rho * (a * j[0][i] + c * j[1][i]);
        out[1][i] = rho * (c * j[0][i] + b * j[1][i]);
        out[2][i] = h * (a * a * j[2][i] + c * c * j[3][i] + 2.0 * a * c * j[4][i]);
        out[3][i] = h * (c * c * j[2][i] + b * b * j[3][i] + 2.0 * b * c * j[4][i]);
        out[4][i] = 2.0 * h * (a * c * j[2][i] + b * c * j[3][i] + (a * b + c * c) * j[4][i]);
    }
    out
}

impl Sum {
    /// The sum over `draws`; the curvature from every fourth pair of draws, which is plenty, times
    /// four.
    pub fn over(form: Form, model: &Diffused, draws: &[Draw]) -> Sum {
        let mut sum = Sum::default();
        match form {
            Form::Score => sum.extend::<2>(form, model, draws, |i| i % 8 < 2),
            Form::Path => sum.extend::<5>(form, model, draws, |i| i % 8 < 2),
            Form::Marginal => sum.extend::<5>(form, model, draws, |i| i % 8 < 2),
        }
        sum.curvature.iter_mut().flatten().for_each(|c| *c *= 4.0);
        sum
    }

    /// The sum over `draws`, the curvature from all of them.
    pub fn exact(form: Form, model: &Diffused, draws: &[Draw]) -> Sum {
        let mut sum = Sum::default();
        sum.extend::<5>(form, model, draws, |_| true);
        sum
    }

    #[inline(always)]
    fn extend<const ROWS: usize>(
        &mut self,
        form: Form,
        model: &Diffused,
        draws: &[Draw],
        curved: impl Fn(usize) -> bool,
    ) {
        for (i, draw) in draws.iter().enumerate() {
            let Jet { value, jacobian } = model.jet::<ROWS>(draw.x, draw.alpha, draw.sigma2);
            let (loss, adjoint, inv) = at_jet(form, draw, &value);
            self.value += loss;
            for j in 0..P {
                let slope: f64 = (0..ROWS).map(|row| adjoint[row] * jacobian[row][j]).sum();
                self.gradient[j] += slope;
            }
            if curved(i) {
                let weighted = weigh(form, draw.rho, &inv, &jacobian);
                for row in 0..ROWS {
                    for a in 0..P {
                        for b in 0..P {
                            self.curvature[a][b] += jacobian[row][a] * weighted[row][b];
                        }
                    }
                }
            }
        }
    }
}

/// The value alone.
#[cfg(test)]
pub fn value(form: Form, model: &Diffused, draw: &Draw) -> f64 {
    at_jet(form, draw, &model.jet::<5>(draw.x, draw.alpha, draw.sigma2).value).0
}

#[cfg(test)]
mod tests {
    use super::super::family::Mixture;
    use super::*;

    /// Central differences at h = 1e-5.
    #[test]
    fn gradients_by_differences() {
        let p = Mixture::new([[-1.0, -0.4], [1.2, 0.5]], [0.8, 1.1], 0.4).params();
        for form in [Form::Score, Form::Path, Form::Marginal] {
            for (alpha, sigma2, rho) in
                [(0.999_999, 1e-6, 0.4), (0.9, 0.19, 0.99), (0.2, 0.96, 0.3)]
            {
                let draw = Draw { x: [0.3, -0.2], noise: [0.7, -1.1], alpha, sigma2, rho };
                let model = |p: &Params| Diffused::from(&Mixture::from_params(p));
                let sum = Sum::exact(form, &model(&p), &[draw]);
                assert_eq!(sum.value, value(form, &model(&p), &draw));
                for j in 0..P {
                    let (mut up, mut down) = (p, p);
                    up[j] += 1e-5;
                    down[j] -= 1e-5;
                    let slope = (value(form, &model(&up), &draw)
                        - value(form, &model(&down), &draw))
                        / 2e-5;
                    let error = (slope - sum.gradient[j]).abs();
                    assert!(
                        error < 1e-8 * (1.0 + slope.abs()),
                        "{form:?} {alpha} parameter {j}: {error:e}"
                    );
                }
            }
        }
    }
}
