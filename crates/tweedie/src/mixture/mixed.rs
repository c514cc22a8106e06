//! Mixtures over rows of numbers and categories.

mod targets;

use tch::{Device, Kind, Tensor};

use serde::{Deserialize, Serialize};

use super::{GaussianMixture, MixtureParameters, by_blocks};
use crate::gaussian::LN_2PI;
use crate::noise::Noise;
use crate::posterior::NoiseMoments;
use crate::query::{CellLayout, CellTensors, Cells, Role, Times};
use crate::schedule::Schedule;
use crate::sym_matrix::SymMatrix;
use crate::tensor::{squared_norm, sum_last, sum_over, to_vec};
use crate::{Error, Result};

/// `p(x, c) = Σ_k π_k N(x; m_k, S_k) Π_j p_k(c_j)`: within a component the numbers `x` are
/// Gaussian, and the categories `c_j` are independent of each other and of them. A density with respect to
/// Lebesgue measure on numbers and counting measure on categories.
///
/// Every marginal and every conditional distribution is a mixture of the same kind, hence exact:
/// what is not given is left out of each component.
#[derive(Debug)]
pub struct MixedMixture {
    /// `π_k`, `m_k`, `S_k`, in the kind in which rows without given numbers are computed.
    numbers: GaussianMixture,
    // in f64, since numbers that are given have no noise that would keep matrices from being
    // singular:
    /// `m_k`, `[K, d]`.
    means: Tensor,
    /// `S_k`, `[K, d, d]`.
    covariances: Tensor,
    /// `ln π_k`, `[K]`.
    log_weights: Tensor,
    /// `ln p_k(c_j = v)`, the values of all categories side by side, `[K, V]`.
    log_pmfs: Tensor,
    layout: CellLayout,
}

/// A mixture over numbers and categories as plain numbers, for files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MixedParameters {
    /// Weights, means and covariances.
    #[serde(flatten)]
    pub numbers: MixtureParameters,
    /// The number of values of each category.
    pub categories: Vec<usize>,
    /// `p_k(c_j = v)` of each component, the values of all categories side by side.
    pub pmfs: Vec<Vec<f64>>,
}

/// Rows seen from every component, each number `x̃_i = a_i x_i + √v_i ε_i` seen at a scale and a
/// variance of its own.
struct Seen {
    /// `ln π_k p_k(x̃, c)`, without the constant `−½ ln 2π` for each number, `[b, K]`.
    log_joint: Tensor,
    /// `Σ⁻¹(x̃ − a m_k)` with `Σ = a S_k a + v`, `[b, K, d]`.
    solved: Tensor,
    /// The Cholesky factor of `Σ`, `[b, K, d, d]`.
    factor: Tensor,
}

/// What components say of numbers that are not given: mean and covariance of all numbers given
/// those that are, which themselves have their value and no variance.
struct Completed {
    /// Responsibilities of the components, `[b, K]`.
    weights: Tensor,
    /// `[b, K, d]`.
    means: Tensor,
    /// `[b, K, d, d]`.
    covariances: Tensor,
}

impl MixedMixture {
    /// From plain numbers.
    ///
    /// # Errors
    /// [`Error::Config`] as [`GaussianMixture::from_parameters`], and where the probabilities of a
    /// category's values are not positive or do not sum to 1.
    pub fn from_parameters(parameters: &MixedParameters) -> Result<MixedMixture> {
        let numbers = GaussianMixture::from_parameters(&parameters.numbers)?;
        let layout = CellLayout {
            numbers: numbers.dim() as usize,
            categories: parameters.categories.clone(),
        };
        let bad = |problem: String| {
            Error::config("mixture", problem, "give positive probabilities that sum to 1")
        };
        let (k, values) = (numbers.components() as usize, layout.values());
        if parameters.pmfs.len() != k || parameters.pmfs.iter().any(|p| p.len() != values) {
            return Err(bad(format!("not {k} components with {values} probabilities each")));
        }
        for pmf in &parameters.pmfs {
            for range in layout.ranges() {
                let (own, total) = (&pmf[range.clone()], pmf[range].iter().sum::<f64>());
                if own.iter().any(|p| p.is_nan() || *p <= 0.0) || (total - 1.0).abs() > 1e-6 {
                    return Err(bad(format!("probabilities sum to {total}")));
                }
            }
        }
        let pmfs = Tensor::from_slice(&parameters.pmfs.concat()).view([k as i64, values as i64]);
        Ok(MixedMixture::of(numbers, &pmfs.log(), layout))
    }

    /// A Gaussian mixture with the `ln p_k(c_j = v)` of its components, `[K, V]`.
    pub(crate) fn of(
        numbers: GaussianMixture,
        log_pmfs: &Tensor,
        layout: CellLayout,
    ) -> MixedMixture {
        let exact = |x: &Tensor| x.to_kind(Kind::Double).to_device(numbers.device());
        MixedMixture {
            means: exact(numbers.means()),
            covariances: exact(&numbers.covariances()),
            log_weights: exact(numbers.log_weights()),
            log_pmfs: exact(log_pmfs),
            numbers,
            layout,
        }
    }

    /// The mixture as plain numbers.
    pub fn parameters(&self) -> MixedParameters {
        let pmfs = to_vec(&self.log_pmfs.exp());
        let values = self.layout.values();
        let of = |k: usize| pmfs[k * values..(k + 1) * values].to_vec();
        MixedParameters {
            numbers: self.numbers.parameters(),
            categories: self.layout.categories.clone(),
            pmfs: (0..self.numbers.components() as usize).map(of).collect(),
        }
    }

    /// The mixture of the numbers alone.
    pub fn numbers(&self) -> &GaussianMixture {
        &self.numbers
    }

    /// `ln p_k(c_j = v)`, the values of all categories side by side, `[K, V]`.
    pub(crate) fn log_pmfs(&self) -> &Tensor {
        &self.log_pmfs
    }

    /// Numbers and categories of a row.
    pub fn layout(&self) -> &CellLayout {
        &self.layout
    }

    /// The same mixture for computation on another device, or with noise and `G` in another kind.
    pub fn to(&self, device: Device, kind: Kind) -> MixedMixture {
        MixedMixture {
            numbers: self.numbers.to(device, kind),
            means: self.means.to_device(device),
            covariances: self.covariances.to_device(device),
            log_weights: self.log_weights.to_device(device),
            log_pmfs: self.log_pmfs.to_device(device),
            layout: self.layout.clone(),
        }
    }

    fn tensors<'a>(&self, cells: &'a Cells) -> &'a CellTensors {
        assert_eq!(**cells.layout(), self.layout, "cells of rows of a mixture");
        cells.tensors(self.numbers.device())
    }

    /// `ln π_k Π_j p_k(c_j)` over the given categories, `[b, K]`.
    fn log_weights(&self, one_hot: &Tensor) -> Tensor {
        one_hot.to_kind(Kind::Double).matmul(&self.log_pmfs.transpose(0, 1)) + &self.log_weights
    }

    /// Rows `x̃` `[b, d]` seen at scales `a` and variances `v`, `[b, d]`, with
    /// `ln π_k Π_j p_k(c_j)` `[b, K]`.
    fn seen(&self, x: &Tensor, a: &Tensor, v: &Tensor, log_weights: &Tensor) -> Seen {
        let scales = a.unsqueeze(1);
        let total = &self.covariances * (a.unsqueeze(2) * &scales).unsqueeze(1)
            + v.diag_embed(0, 1, 2).unsqueeze(1);
        let factor = total.linalg_cholesky(false);
        let centred = (x.unsqueeze(1) - &self.means * &scales).unsqueeze(-1);
        let white = factor.linalg_solve_triangular(&centred, false, true, false);
        let solved = factor.transpose(2, 3).linalg_solve_triangular(&white, true, true, false);
        let log_det = sum_last(&factor.diagonal(0, 2, 3).log()) * 2.0;
        let quad = sum_last(&white.squeeze_dim(-1).square());
        let log_joint = log_weights - (quad + log_det) * 0.5;
        Seen { log_joint, solved: solved.squeeze_dim(-1), factor }
    }

    /// Rows of a block: numbers for [`by_blocks`].
    fn each(&self) -> i64 {
        self.numbers.components() * self.numbers.dim() * self.numbers.dim()
    }

    /// What `f` makes of the numbers, 0 where one is not given, of where they are given, and of the
    /// rows in which given numbers are seen as they are and others not at all: at scales 1 and 0
    /// and variances 0 and 1.
    fn of_given<const N: usize>(
        &self,
        cells: &Cells,
        f: impl Fn(&Tensor, &Tensor, Seen) -> [Tensor; N],
    ) -> Vec<Tensor> {
        let tensors = self.tensors(cells);
        let (x, given) = (&tensors.numbers, tensors.given.to_kind(Kind::Double));
        by_blocks(x, self.each(), |start, rows| {
            let part = |x: &Tensor| x.narrow(0, start, rows);
            let given = part(&given);
            let log_weights = self.log_weights(&part(&tensors.one_hot));
            let x = part(x);
            f(&x, &given, self.seen(&x, &given, &(-&given + 1.0), &log_weights))
        })
    }

    /// `ln π_k p_k(cells)` of the given numbers and categories, `[b, K]`.
    fn log_joint(&self, cells: &Cells) -> Tensor {
        // without a number nothing is to be factorised
        if !cells.roles().contains(&Role::Given) {
            return self.log_weights(&self.tensors(cells).one_hot);
        }
        self.of_given(cells, |_, given, seen| {
            [seen.log_joint + sum_last(given).unsqueeze(-1) * (-0.5 * LN_2PI)]
        })
        .remove(0)
    }

    /// `ln p` of the given numbers and categories, everything else integrated out, nats, `[b]`.
    pub fn log_density(&self, cells: &Cells) -> Tensor {
        self.log_joint(cells).logsumexp([-1i64].as_slice(), false)
    }

    /// The probability that a row came from each component, given its cells, `[b, K]`.
    pub fn responsibilities(&self, cells: &Cells) -> Tensor {
        self.log_joint(cells).softmax(-1, None::<Kind>)
    }

    /// `p(c_j = v | cells)` for every value of every category that is not given, the values of all
    /// categories side by side, `[b, V]`. For one that is given it is its distribution in another
    /// row of the same component.
    pub fn pmfs(&self, cells: &Cells) -> Tensor {
        self.responsibilities(cells).matmul(&self.log_pmfs.exp())
    }

    /// What the components say of the numbers.
    fn completed(&self, cells: &Cells) -> Completed {
        let mut parts = self.of_given(cells, |x, given, seen| {
            let d = self.numbers.dim();
            let scales = given.unsqueeze(1);
            // m + S a Σ⁻¹(x̃ − a m), and S − S a Σ⁻¹ a S
            let turned = (&seen.solved * &scales).unsqueeze(-1);
            let means = &self.means + self.covariances.matmul(&turned).squeeze_dim(-1);
            // what is given stays as it is, to the bit
            let means = means * (-&scales + 1.0) + x.unsqueeze(1);
            let rows = given.unsqueeze(1).unsqueeze(-1) * &self.covariances;
            let white = seen.factor.linalg_solve_triangular(&rows, false, true, false);
            let covariances = &self.covariances - white.transpose(2, 3).matmul(&white);
            let absent = (-given + 1.0).unsqueeze(1);
            let both = absent.unsqueeze(3) * absent.unsqueeze(2);
            let weights = seen.log_joint.softmax(-1, None::<Kind>);
            let covariances = (covariances * both).view([-1, self.numbers.components(), d, d]);
            [weights, means, covariances]
        });
        let (covariances, means) = (parts.remove(2), parts.remove(1));
        Completed { weights: parts.remove(0), means, covariances }
    }

    /// `E` and `Var` of every number given the cells, `[b, d]` each; a given number is itself,
    /// without variance.
    pub fn mean_and_variance(&self, cells: &Cells) -> (Tensor, Tensor) {
        let Completed { weights, means, covariances } = self.completed(cells);
        let weights = weights.unsqueeze(-1);
        let mean = sum_over(&(&means * &weights), 1);
        let within = covariances.diagonal(0, 2, 3) + (&means - mean.unsqueeze(1)).square();
        let variance = sum_over(&(within * weights), 1);
        (mean, variance)
    }

    /// A draw of all that is not given, from its distribution given the cells; what is given stays.
    /// Numbers `[b, d]` row-major and codes `[b, c]`. Takes `1 + c` uniforms and `d` normals of
    /// each row's stream.
    pub fn complete(&self, cells: &Cells, noise: &mut Noise) -> (Vec<f64>, Vec<u32>) {
        let (b, d) = (cells.len() as i64, self.numbers.dim());
        let Completed { weights, means, covariances } = self.completed(cells);
        let (chosen, codes) = self.drawn(&weights, &self.log_pmfs, cells, noise);
        let normals = noise.normal(d as usize, Kind::Double, Device::Cpu);
        let at = Tensor::from_slice(&chosen).to_device(means.device());
        let of_rows = |x: &Tensor, shape: &[i64]| {
            let mut index = vec![1; x.dim()];
            index[0] = b;
            let index = at.view(&index[..]).expand(&[&[b, 1], shape].concat()[..], false);
            x.gather(1, &index, false).squeeze_dim(1).to_device(Device::Cpu)
        };
        let (mean, covariance) = (of_rows(&means, &[d]), of_rows(&covariances, &[d, d]));
        // a root of a matrix that is singular where numbers are given
        let (values, vectors) = covariance.linalg_eigh("L");
        let root = vectors * values.clamp_min(0.0).sqrt().unsqueeze(1);
        let drawn = to_vec(&(mean + root.matmul(&normals.unsqueeze(-1)).squeeze_dim(-1)));
        let numbers = drawn
            .iter()
            .zip(cells.roles().iter().zip(cells.numbers()))
            .map(|(&drawn, (&role, &given))| match role {
                Role::Given => given,
                _ => drawn,
            })
            .collect();
        (numbers, codes)
    }

    /// The categories of [`MixedMixture::complete`] alone, codes `[b, c]`, for which no number is
    /// drawn, given that none of those that are drawn is its code of `excluded`, which may be
    /// empty. Takes `1 + c` uniforms of each row's stream.
    pub fn complete_categories(
        &self,
        cells: &Cells,
        excluded: &[Option<u32>],
        noise: &mut Noise,
    ) -> Vec<u32> {
        if excluded.iter().flatten().next().is_none() {
            return self.drawn(&self.responsibilities(cells), &self.log_pmfs, cells, noise).1;
        }
        // within a component the categories are independent: it is as likely as by what is given,
        // times the probability that none of the others is excluded
        let (c, log_pmfs) = (excluded.len(), self.log_pmfs.copy());
        let mut left = Vec::with_capacity(c);
        for (code, range) in excluded.iter().zip(self.layout.ranges()) {
            left.push(match code {
                None => self.log_weights.zeros_like(),
                Some(code) => {
                    let own = log_pmfs.narrow(1, range.start as i64, range.len() as i64);
                    let left = (-own.select(1, i64::from(*code)).exp()).log1p();
                    let own = own - left.unsqueeze(-1);
                    let _ = own.select(1, i64::from(*code)).fill_(f64::NEG_INFINITY);
                    let mut place = log_pmfs.narrow(1, range.start as i64, range.len() as i64);
                    place.copy_(&own);
                    left
                }
            });
        }
        let unknown = cells.codes().iter().map(|&code| f64::from(u8::from(code == Cells::MISSING)));
        let unknown = Tensor::from_slice(&unknown.collect::<Vec<f64>>()).view([-1, c as i64]);
        let left = Tensor::stack(&left, 0);
        let log_joint = self.log_joint(cells) + unknown.to_device(left.device()).matmul(&left);
        self.drawn(&log_joint.softmax(-1, None::<Kind>), &log_pmfs, cells, noise).1
    }

    /// A component of each row by its responsibilities `[b, K]`, and the row's categories, of which
    /// those that are not given are drawn from it: in proportion to the exponentials of `log_pmfs`
    /// `[K, V]`.
    fn drawn(
        &self,
        weights: &Tensor,
        log_pmfs: &Tensor,
        cells: &Cells,
        noise: &mut Noise,
    ) -> (Vec<i64>, Vec<u32>) {
        let (c, values) = (self.layout.categories.len(), self.layout.values());
        let (uniform, weights) = (noise.uniform(1 + c), to_vec(weights));
        let weights = weights.chunks_exact(self.numbers.components() as usize);
        let chosen: Vec<i64> = uniform
            .chunks_exact(1 + c)
            .zip(weights)
            .map(|(uniform, weights)| position(uniform[0], weights) as i64)
            .collect();
        let pmfs = to_vec(&log_pmfs.exp());
        let mut codes = cells.codes().to_vec();
        for (i, row) in codes.chunks_exact_mut(c.max(1)).enumerate() {
            let own = &pmfs[chosen[i] as usize * values..][..values];
            for (j, (code, range)) in row.iter_mut().zip(self.layout.ranges()).enumerate() {
                if *code == Cells::MISSING {
                    *code = position(uniform[i * (1 + c) + 1 + j], &own[range]) as u32;
                }
            }
        }
        (chosen, codes)
    }

    /// `ε̂` and, where `full`, the exact `G`, else its diagonal, of the targets among rows `x_t`
    /// `[b, d]` given the cells; of what is no target as [`Cells`] says.
    pub fn moments(
        &self,
        x: &Tensor,
        schedule: &dyn Schedule,
        times: &Times,
        cells: &Cells,
        full: bool,
    ) -> NoiseMoments {
        let tensors = self.tensors(cells);
        if tensors.all_targets {
            let log_weights = self.log_weights(&tensors.one_hot).to_kind(x.kind());
            return match full {
                true => self.numbers.moments_given(x, schedule, times, Some(&log_weights)),
                false => {
                    self.numbers.moments_diagonal_given(x, schedule, times, Some(&log_weights))
                }
            };
        }
        self.moments_of_patterns(x, schedule, times, cells, full)
    }

    /// [`MixedMixture::moments`] by the parts that numbers have, whatever they are.
    fn moments_of_patterns(
        &self,
        x: &Tensor,
        schedule: &dyn Schedule,
        times: &Times,
        cells: &Cells,
        full: bool,
    ) -> NoiseMoments {
        let mut parts = self.of_targets(x, schedule, times, cells, |asked| asked.moments(full));
        let (g, noise) = (parts.remove(1).to_kind(x.kind()), parts.remove(0).to_kind(x.kind()));
        NoiseMoments::new(noise, if full { SymMatrix::Full(g) } else { SymMatrix::Diagonal(g) })
    }

    /// `ε̂` of the targets among rows `x_t` `[b, d]` given the cells; elsewhere `x_t/σ_t`.
    pub fn noise(
        &self,
        x: &Tensor,
        schedule: &dyn Schedule,
        times: &Times,
        cells: &Cells,
    ) -> Tensor {
        let tensors = self.tensors(cells);
        if tensors.all_targets {
            let log_weights = self.log_weights(&tensors.one_hot).to_kind(x.kind());
            return self.numbers.noise_given(x, schedule, times, Some(&log_weights));
        }
        let noise = self.of_targets(x, schedule, times, cells, |asked| [asked.noise()]).remove(0);
        noise.to_kind(x.kind())
    }

    /// `ln p_t(x_t)` of the targets among rows `x_t` `[b, d]` given the cells, nats, `[b]`, f64.
    /// Every number that is no target has the density of its noise, `N(0, σ_t²)`.
    pub fn log_density_at(
        &self,
        x: &Tensor,
        schedule: &dyn Schedule,
        times: &Times,
        cells: &Cells,
    ) -> Tensor {
        let tensors = self.tensors(cells);
        if tensors.all_targets {
            let given = self.log_weights(&tensors.one_hot).log_softmax(-1, None::<Kind>);
            let (x, given) = (x.to_kind(self.numbers.kind()), given.to_kind(self.numbers.kind()));
            let found = self
                .numbers
                .diffused(&x, schedule, times, Some(&given), |at| [at.log_density])
                .remove(0);
            return found.to_kind(Kind::Double);
        }
        let mut parts = self.of_targets(x, schedule, times, cells, |asked| {
            [asked.log_density.shallow_clone(), squared_norm(&asked.elsewhere())]
        });
        let (elsewhere, joint) = (parts.remove(1), parts.remove(0));
        let count = |flags: &Tensor| sum_last(&flags.to_kind(Kind::Double));
        let (targets, given) = (count(&tensors.targets), count(&tensors.given));
        let (_, sigma) = times.marginal(schedule, x.device());
        let of_noise = sigma.rows(&targets).square().log() + LN_2PI;
        let others = -&targets + self.numbers.dim() as f64;
        let of_others = (others * of_noise + elsewhere) * 0.5;
        joint - (&targets + given) * (0.5 * LN_2PI) - self.log_density(cells) - of_others
    }
}

/// Where a uniform number falls among probabilities.
fn position(mut u: f64, probabilities: &[f64]) -> usize {
    let last = probabilities.len() - 1;
    let below = |p: &f64| {
        u -= p;
        u < 0.0
    };
    // what is left for the last by rounding is none that cannot be
    let possible = || probabilities.iter().rposition(|p| *p > 0.0).unwrap_or(last);
    probabilities[..last].iter().position(below).unwrap_or_else(possible)
}

#[cfg(test)]
mod tests;
