//! Logistic regression with an L2 penalty, by Newton's method.

use rayon::prelude::*;

use super::rows::{Rows, quantile};

/// Newton steps at most; some ten are usual.
const STEPS: usize = 100;
/// Steps of conjugate gradients within one of Newton's.
const INNER_STEPS: usize = 200;
/// The gradient per row below which the optimum is reached.
const TOLERANCE: f64 = 1e-9;
/// Rows that one thread takes at a time.
const CHUNK: usize = 4096;

/// A column that is shifted and divided: `(x − shift)/scale`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Scaling {
    shift: f64,
    scale: f64,
}

/// Probabilities of one class of two, `p = 1/(1 + e^{−z})` with `z` linear in numbers and one-hot
/// coordinates: the least
///
/// ```text
/// Σ_i ln(1 + e^{z_i}) − y_i z_i  +  ½ ‖w‖²
/// ```
///
/// without the intercept in `w`: scikit-learn's `LogisticRegression` with `C = 1`. Coordinates are
/// divided by their interquartile range (by 1 where that is 0) and numbers less their median, as
/// its `RobustScaler` does.
#[derive(Debug)]
pub(super) struct Logistic {
    numbers: Vec<Scaling>,
    /// One for each category of each column, without a shift, which the intercept takes.
    levels: Vec<Vec<f64>>,
    /// Weights of numbers, of categories column after column, and the intercept.
    weights: Vec<f64>,
}

impl Logistic {
    /// The optimum for these rows and classes.
    pub fn fit(rows: &Rows, positive: &[bool]) -> Logistic {
        let levels =
            (rows.codes.iter().zip(&rows.levels)).map(|(codes, &k)| level_scales(codes, k));
        let mut fitted = Logistic {
            numbers: rows.numbers.iter().map(|column| robust(column)).collect(),
            levels: levels.collect(),
            weights: vec![],
        };
        let design = Design::new(&fitted, rows);
        let y: Vec<f64> = positive.iter().map(|&p| f64::from(u8::from(p))).collect();
        fitted.weights = design.optimum(&y);
        fitted
    }

    /// The `z` of these rows, which orders them as their probabilities do.
    pub fn scores(&self, rows: &Rows) -> Vec<f64> {
        Design::new(self, rows).times(&self.weights)
    }
}

/// Median and interquartile range.
fn robust(values: &[f64]) -> Scaling {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let scale = unless_zero(quantile(&sorted, 0.75) - quantile(&sorted, 0.25));
    Scaling { shift: quantile(&sorted, 0.5), scale }
}

fn unless_zero(range: f64) -> f64 {
    if range < 10.0 * f64::EPSILON { 1.0 } else { range }
}

/// The interquartile ranges of the one-hot coordinates of a column.
fn level_scales(codes: &[u32], levels: usize) -> Vec<f64> {
    let mut counts = vec![0; levels];
    codes.iter().for_each(|&code| counts[code as usize] += 1);
    let n = codes.len();
    let quartile = |count: usize, level: f64| {
        // of n − count zeros and then ones, as `quantile` has it
        let position = level * (n - 1) as f64;
        let at = |place: usize| f64::from(u8::from(place >= n - count));
        let below = (position.floor() as usize).min(n - 1);
        let (a, b) = (at(below), at((below + 1).min(n - 1)));
        a + (b - a) * (position - below as f64)
    };
    counts
        .into_iter()
        .map(|count| unless_zero(quartile(count, 0.75) - quartile(count, 0.25)))
        .collect()
}

/// The matrix `X` of scaled coordinates and a column of ones, in which one-hot coordinates are not
/// written out.
struct Design<'a> {
    rows: usize,
    numbers: Vec<Vec<f64>>,
    codes: &'a [Vec<u32>],
    levels: &'a [Vec<f64>],
}

impl Design<'_> {
    fn new<'a>(scalings: &'a Logistic, rows: &'a Rows) -> Design<'a> {
        let scaled = |(column, s): (&Vec<f64>, &Scaling)| {
            column.iter().map(|x| (x - s.shift) / s.scale).collect()
        };
        Design {
            rows: rows.len,
            numbers: rows.numbers.iter().zip(&scalings.numbers).map(scaled).collect(),
            codes: &rows.codes,
            levels: &scalings.levels,
        }
    }

    fn parameters(&self) -> usize {
        self.numbers.len() + self.levels.iter().map(Vec::len).sum::<usize>() + 1
    }

    /// `X w`.
    fn times(&self, w: &[f64]) -> Vec<f64> {
        let mut z = vec![w[w.len() - 1]; self.rows];
        z.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, z)| {
            let range = chunk * CHUNK..chunk * CHUNK + z.len();
            for (column, w) in self.numbers.iter().zip(w) {
                z.iter_mut().zip(&column[range.clone()]).for_each(|(z, x)| *z += w * x);
            }
            let mut first = self.numbers.len();
            for (codes, scales) in self.codes.iter().zip(self.levels) {
                let own = &w[first..first + scales.len()];
                let by_level: Vec<f64> = own.iter().zip(scales).map(|(w, s)| w / s).collect();
                z.iter_mut()
                    .zip(&codes[range.clone()])
                    .for_each(|(z, &c)| *z += by_level[c as usize]);
                first += scales.len();
            }
        });
        z
    }

    /// `Xᵀ r` with each coordinate of `X` to the power `power`, 1 or 2.
    fn transposed(&self, r: &[f64], power: i32) -> Vec<f64> {
        let of_numbers = |column: &Vec<f64>| -> Vec<f64> {
            vec![column.iter().zip(r).map(|(x, r)| x.powi(power) * r).sum()]
        };
        let of_codes = |(codes, scales): (&Vec<u32>, &Vec<f64>)| -> Vec<f64> {
            let mut sums = vec![0.0; scales.len()];
            codes.iter().zip(r).for_each(|(&code, r)| sums[code as usize] += r);
            sums.iter().zip(scales).map(|(sum, s)| sum / s.powi(power)).collect()
        };
        let mut parts: Vec<Vec<f64>> = self.numbers.par_iter().map(of_numbers).collect();
        let pairs: Vec<_> = self.codes.iter().zip(self.levels).collect();
        parts.extend(pairs.into_par_iter().map(of_codes).collect::<Vec<_>>());
        parts.push(vec![r.iter().sum()]);
        parts.concat()
    }

    /// The loss at weights whose `X w` is `z`.
    fn loss(&self, w: &[f64], z: &[f64], y: &[f64]) -> f64 {
        let penalty: f64 = w[..w.len() - 1].iter().map(|w| w * w).sum();
        let row = |(&z, &y): (&f64, &f64)| z.max(0.0) + (-z.abs()).exp().ln_1p() - y * z;
        z.iter().zip(y).map(row).sum::<f64>() + 0.5 * penalty
    }

    /// Newton's method from 0. Its direction is found by conjugate gradients, so that no matrix of
    /// the size of the parameters' square is made, and halved until the loss falls.
    fn optimum(&self, y: &[f64]) -> Vec<f64> {
        let parameters = self.parameters();
        // no penalty on the intercept
        let penalty = |j: usize| if j + 1 < parameters { 1.0 } else { 0.0 };
        let mut w = vec![0.0; parameters];
        let mut z = self.times(&w);
        let mut loss = self.loss(&w, &z, y);
        for _ in 0..STEPS {
            let p: Vec<f64> = z.iter().map(|z| 1.0 / (1.0 + (-z).exp())).collect();
            let residuals: Vec<f64> = p.iter().zip(y).map(|(p, y)| p - y).collect();
            let mut gradient = self.transposed(&residuals, 1);
            gradient.iter_mut().zip(&w).enumerate().for_each(|(j, (g, w))| *g += penalty(j) * w);
            let steepest = gradient.iter().fold(0.0_f64, |most, g| most.max(g.abs()));
            if steepest <= TOLERANCE * self.rows as f64 {
                break;
            }
            let curvature: Vec<f64> = p.iter().map(|p| p * (1.0 - p)).collect();
            let mut diagonal = self.transposed(&curvature, 2);
            diagonal.iter_mut().enumerate().for_each(|(j, d)| *d = (*d + penalty(j)).max(1e-12));
            let hessian = |v: &[f64]| {
                let weighted: Vec<f64> =
                    self.times(v).iter().zip(&curvature).map(|(z, c)| z * c).collect();
                let mut product = self.transposed(&weighted, 1);
                product.iter_mut().zip(v).enumerate().for_each(|(j, (h, v))| *h += penalty(j) * v);
                product
            };
            let step = conjugate_gradients(hessian, &gradient, &diagonal);
            let slope: f64 = step.iter().zip(&gradient).map(|(s, g)| s * g).sum();
            let ahead = self.times(&step);
            let mut length = 1.0;
            let moved = loop {
                let at: Vec<f64> = w.iter().zip(&step).map(|(w, s)| w - length * s).collect();
                let there: Vec<f64> = z.iter().zip(&ahead).map(|(z, a)| z - length * a).collect();
                let found = self.loss(&at, &there, y);
                if found <= loss - 1e-4 * length * slope {
                    (w, z, loss) = (at, there, found);
                    break true;
                }
                length *= 0.5;
                if length < 1e-10 {
                    break false;
                }
            };
            if !moved {
                break;
            }
        }
        w
    }
}

/// `H⁻¹ b`, to a part of `b` that falls with it, so that Newton's steps stay quadratic (Nocedal &
/// Wright 2006, algorithm 7.1); preconditioned by the diagonal of `H`.
fn conjugate_gradients(
    product: impl Fn(&[f64]) -> Vec<f64>,
    b: &[f64],
    diagonal: &[f64],
) -> Vec<f64> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let conditioned =
        |r: &[f64]| -> Vec<f64> { r.iter().zip(diagonal).map(|(r, d)| r / d).collect() };
    let mut x = vec![0.0; b.len()];
    let mut r = b.to_vec();
    let mut s = conditioned(&r);
    let mut direction = s.clone();
    let mut energy = dot(&r, &s);
    let enough = energy * 1e-4_f64.min(energy.sqrt());
    for _ in 0..INNER_STEPS {
        let along = product(&direction);
        let length = energy / dot(&direction, &along);
        x.iter_mut().zip(&direction).for_each(|(x, d)| *x += length * d);
        r.iter_mut().zip(&along).for_each(|(r, a)| *r -= length * a);
        s = conditioned(&r);
        let next = dot(&r, &s);
        if next <= enough || !next.is_finite() {
            break;
        }
        direction.iter_mut().zip(&s).for_each(|(d, s)| *d = s + next / energy * *d);
        energy = next;
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::quality::rows::tests::written_out;
    use crate::noise::{Noise, Seed};

    /// 300 rows of two numbers, one with long tails, and four categories, whose class depends on
    /// all.
    fn example() -> (Rows, Vec<bool>) {
        let n = 300;
        let uniforms = Noise::new(Seed(4), 0..n as u64).uniform(4);
        let column = |j: usize| uniforms.iter().skip(j).step_by(4).copied();
        let numbers = vec![column(0).collect(), column(1).map(|u| 1.0 / (u + 0.02)).collect()];
        let codes: Vec<u32> = column(2).map(|u| (4.0 * u * u) as u32).collect();
        let rows = Rows { len: n, numbers, codes: vec![codes], levels: vec![4] };
        let score = |i: usize| {
            rows.numbers[0][i] - 0.04 * rows.numbers[1][i] + 0.5 * f64::from(rows.codes[0][i])
        };
        let positive = column(3).enumerate().map(|(i, u)| score(i) - 1.0 + u > 0.0).collect();
        (rows, positive)
    }

    /// Scaled by hand: medians and quartiles; a category that more than a quarter and fewer than
    /// three quarters have is divided by 1, and so is a constant one.
    #[test]
    fn coordinates_are_divided_by_interquartile_ranges() {
        assert_eq!(robust(&[5.0, 1.0, 3.0, 2.0, 9.0]), Scaling { shift: 3.0, scale: 3.0 });
        assert_eq!(robust(&[2.0, 2.0]), Scaling { shift: 2.0, scale: 1.0 });
        // of (0, 0, 0, 1) the upper quartile is a quarter of the way from 0 to 1
        assert_eq!(level_scales(&[0, 1, 0, 0], 3), [0.25, 0.25, 1.0]);
    }

    /// At the optimum the gradient vanishes: `Xᵀ(p − y) + w = 0`, with the matrix written out.
    #[test]
    fn the_gradient_vanishes_at_the_optimum() {
        let (rows, positive) = example();
        let fitted = Logistic::fit(&rows, &positive);
        let scaled = |mut row: Vec<f64>| {
            for (x, s) in row.iter_mut().zip(&fitted.numbers) {
                *x = (*x - s.shift) / s.scale;
            }
            row.iter_mut().skip(2).zip(&fitted.levels[0]).for_each(|(x, s)| *x /= s);
            row.push(1.0);
            row
        };
        let matrix: Vec<Vec<f64>> = written_out(&rows).into_iter().map(scaled).collect();
        let mut gradient = fitted.weights.clone();
        *gradient.last_mut().unwrap() = 0.0;
        let scores = fitted.scores(&rows);
        for ((row, &y), score) in matrix.iter().zip(&positive).zip(scores) {
            let z: f64 = row.iter().zip(&fitted.weights).map(|(x, w)| x * w).sum();
            assert!((z - score).abs() < 1e-9);
            let residual = 1.0 / (1.0 + (-z).exp()) - f64::from(u8::from(y));
            gradient.iter_mut().zip(row).for_each(|(g, x)| *g += residual * x);
        }
        let steepest = gradient.iter().fold(0.0_f64, |most, g| most.max(g.abs()));
        assert!(steepest < 1e-6, "{gradient:?}");
        assert!(fitted.weights.iter().any(|w| w.abs() > 0.5));
    }

    /// Classes that a line separates have a finite optimum; rows that are all equal have weights 0.
    #[test]
    fn separable_and_constant_rows() {
        let rows = |values: &[f64]| Rows {
            len: values.len(),
            numbers: vec![values.to_vec()],
            codes: vec![],
            levels: vec![],
        };
        let positive = [false, false, true, true];
        let x = rows(&[0.0, 1.0, 2.0, 3.0]);
        let scores = Logistic::fit(&x, &positive).scores(&x);
        assert!(scores.windows(2).all(|pair| pair[0] < pair[1]) && scores[3] < 10.0);
        let same = rows(&[2.0; 4]);
        assert!(Logistic::fit(&same, &positive).scores(&same).iter().all(|z| z.abs() < 1e-9));
    }
}
