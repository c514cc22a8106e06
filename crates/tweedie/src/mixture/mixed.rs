//! Mixtures over rows of numbers and categories.

mod targets;

use std::ops::Range;

use tch::{Device, Kind, Tensor};

use serde::{Deserialize, Serialize};

use super::{GaussianMixture, MixtureParameters};
use crate::gaussian::LN_2PI;
use crate::noise::{Noise, position};
use crate::posterior::NoiseMoments;
use crate::query::{CellLayout, CellTensors, Cells, Role, Times};
use crate::schedule::Schedule;
use crate::sym_matrix::SymMatrix;
use crate::tensor::{squared_norm, sum_last, sum_over, to_vec};
use crate::{Error, Result};

/// `p(x, c) = Σ_k π_k N(x; m_k, S_k) Π_j p_k(c_j)`: within a component the numbers `x` are
/// Gaussian, and the categories `c_j` are independent of each other and of them. A density with
/// respect to Lebesgue measure on numbers and counting measure on categories.
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
        self.log_pmf(one_hot) + &self.log_weights
    }

    /// Where it computes.
    pub fn device(&self) -> Device {
        self.numbers.device()
    }

    /// `ln π_k p_k(x)` of the given numbers, `[b, K]`.
    pub(crate) fn log_joint_of_numbers(&self, cells: &Cells) -> Tensor {
        let weights = self.log_weights.unsqueeze(0).expand([cells.len() as i64, -1], false);
        // without a number nothing is to be factorised
        if !cells.roles().contains(&Role::Given) {
            return weights;
        }
        let joint = self.by_patterns(cells, &[], &weights, |conditional, part| {
            let constant = -0.5 * LN_2PI * part.numbers_given() as f64;
            [conditional.given(part).1.transpose(0, 1) + constant]
        });
        joint.into_iter().next().expect("one tensor")
    }

    /// `ln p(c_j = v)` for the values in `values` of a category, or of several, of rows with these
    /// `ln π_k p_k(x)` of their numbers and these other categories `[b, V]`; `[b, values]`.
    pub(crate) fn log_pmf_given(
        &self,
        of_numbers: &Tensor,
        one_hot: &Tensor,
        values: Range<usize>,
    ) -> Tensor {
        let weights = (of_numbers + self.log_pmf(one_hot)).softmax(-1, None::<Kind>);
        let own = self.log_pmfs.narrow(1, values.start as i64, values.len() as i64);
        weights.matmul(&own.exp()).log()
    }

    /// `ln p(c_j = v)` where nothing is known, for the values in `values` of a category, or of
    /// several, `[values]`.
    pub(crate) fn log_marginal_pmf(&self, values: Range<usize>) -> Tensor {
        let own = self.log_pmfs.narrow(1, values.start as i64, values.len() as i64);
        self.log_weights.exp().matmul(&own.exp()).log()
    }

    /// `Σ_j ln p_k(c_j)` over the given categories, `[b, K]`.
    fn log_pmf(&self, one_hot: &Tensor) -> Tensor {
        one_hot.to_kind(Kind::Double).matmul(&self.log_pmfs.transpose(0, 1))
    }

    /// `ln π_k p_k(cells)` of the given numbers and categories, `[b, K]`.
    fn log_joint(&self, cells: &Cells) -> Tensor {
        self.log_joint_of_numbers(cells) + self.log_pmf(&self.tensors(cells).one_hot)
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

    /// `E` and `Var` of every number given the cells, `[b, d]` each; a given number is itself,
    /// without variance.
    pub fn mean_and_variance(&self, cells: &Cells) -> (Tensor, Tensor) {
        let CellTensors { numbers, one_hot, .. } = self.tensors(cells);
        let log_weights = self.log_weights(one_hot);
        let mut parts = self.by_patterns(cells, NOT_GIVEN, &log_weights, |conditional, part| {
            let (means, log_joint) = conditional.given(part);
            let weights = log_joint.softmax(0, None::<Kind>).unsqueeze(1);
            let mean = sum_over(&(&means * &weights), 0);
            let own = (conditional.vectors.square()).matmul(&conditional.values);
            let variance = sum_over(&((own + (means - &mean).square()) * weights), 0);
            let known = part.of(numbers);
            let placed =
                |x: &Tensor, among: &Tensor| among.index_copy(1, &part.targets, &x.transpose(0, 1));
            [placed(&mean, &known), placed(&variance, &known.zeros_like())]
        });
        let variance = parts.remove(1);
        (parts.remove(0), variance)
    }

    /// A draw of all that is not given, from its distribution given the cells; what is given stays.
    /// Numbers `[b, d]` row-major and codes `[b, c]`. Takes `1 + c` uniforms and `d` normals of
    /// each row's stream.
    pub fn complete(&self, cells: &Cells, noise: &mut Noise) -> (Vec<f64>, Vec<u32>) {
        let device = self.numbers.device();
        let (chosen, codes) = self.drawn(&self.responsibilities(cells), cells, noise);
        let chosen = Tensor::from_slice(&chosen).to_device(device);
        let normals = noise.normal(self.numbers.dim() as usize, Kind::Double, device);
        let CellTensors { numbers, one_hot, .. } = self.tensors(cells);
        let log_weights = self.log_weights(one_hot);
        let drawn = self.by_patterns(cells, NOT_GIVEN, &log_weights, |conditional, part| {
            let chosen = part.of(&chosen);
            let (means, _) = conditional.given(part);
            let r = chosen.size()[0];
            let means = means.expand([-1, -1, r], false).permute([2, 0, 1]);
            let index = chosen.view([r, 1, 1]).expand([r, 1, means.size()[2]], false);
            let mean = means.gather(1, &index, false).squeeze_dim(1);
            // a root of each component's covariance
            let root = &conditional.vectors * conditional.values.sqrt().transpose(1, 2);
            let normals = part.of(&normals).index_select(1, &part.targets).unsqueeze(-1);
            let spread = root.index_select(0, &chosen).matmul(&normals).squeeze_dim(-1);
            [part.of(numbers).index_copy(1, &part.targets, &(mean + spread))]
        });
        (to_vec(&drawn[0]), codes)
    }

    /// A component of each row by its responsibilities `[b, K]`, and the row's categories, of which
    /// those that are not given are drawn from it.
    fn drawn(&self, weights: &Tensor, cells: &Cells, noise: &mut Noise) -> (Vec<i64>, Vec<u32>) {
        let (c, values) = (self.layout.categories.len(), self.layout.values());
        let (uniform, weights) = (noise.uniform(1 + c), to_vec(weights));
        let weights = weights.chunks_exact(self.numbers.components() as usize);
        let chosen: Vec<i64> = uniform
            .chunks_exact(1 + c)
            .zip(weights)
            .map(|(uniform, weights)| position(uniform[0], weights) as i64)
            .collect();
        let pmfs = to_vec(&self.log_pmfs.exp());
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

/// The parts of numbers that are not given.
const NOT_GIVEN: &[Role] = &[Role::Target, Role::Absent];

#[cfg(test)]
mod tests;
