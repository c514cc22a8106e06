//! The distribution of a row's categories, given its numbers and each other.
//!
//! A mixture over numbers and categories has one, exactly, for whatever is given
//! ([`MixedMixture`]). A network has another: it sees the numbers and categories that are given and
//! corrects the frequencies of every category that is not. It is trained with categories hidden at
//! random, so that one network serves every order in which they can be taken (any-order
//! autoregression: Uria et al. 2014, Hoogeboom et al. 2022). The probability of a category is
//! `w p_network + (1 − w) p_mixture`, with the `w` that is best on held-out rows, so that it is not
//! worse than the mixture's there.
//!
//! The categories of a row then have the chain `ln p(c|given) = Σ_j ln p(c_j|c_{<j}, given)` in the
//! order of the columns, whose probabilities sum to 1 over all combinations of values whatever the
//! network says. A category that is missing is left out of the chain.
//!
//! ```
//! use std::sync::Arc;
//! use tweedie::categories::{Categorical, CategoriesConfig};
//! use tweedie::mixture::{MixedMixture, MixedParameters, MixtureParameters};
//! use tweedie::noise::Seed;
//! use tweedie::query::Cells;
//!
//! # fn main() -> tweedie::Result<()> {
//! // two components that differ in a number and in a category of two values
//! let base = MixedMixture::from_parameters(&MixedParameters {
//!     numbers: MixtureParameters {
//!         weights: vec![0.5, 0.5],
//!         means: vec![vec![-1.0], vec![1.0]],
//!         covariances: vec![vec![1.0], vec![1.0]],
//!     },
//!     categories: vec![2],
//!     pmfs: vec![vec![0.9, 0.1], vec![0.2, 0.8]],
//! })?;
//! let network = CategoriesConfig::default().init(base.layout(), base.device(), Seed(0))?;
//! let categories = Categorical::new(&base, Some(&network));
//! let given = Cells::observed(Arc::new(base.layout().clone()), vec![0.7], vec![Cells::MISSING]);
//! // untrained it counts for nothing: p(c = 0) is the mixture's, by Bayes' formula
//! let odds = (2.0_f64 * 0.7).exp();
//! let expected = (0.9 + 0.2 * odds) / (1.0 + odds);
//! let found = categories.log_density(&given, &[0])[0].exp();
//! assert!((found - expected).abs() < 1e-12);
//! # Ok(())
//! # }
//! ```

mod fit;
mod network;

use tch::{Kind, Tensor, no_grad};

use crate::mixture::MixedMixture;
use crate::noise::{Noise, position};
use crate::query::Cells;
use crate::tensor::{to_vec, upload};
pub use fit::Fit;
pub use network::{CategoriesConfig, CategoryModel, CategoryNetwork};

/// The distribution of categories: that of a mixture, or a network's and the mixture's.
#[derive(Clone, Copy, Debug)]
pub struct Categorical<'a> {
    base: &'a MixedMixture,
    network: Option<&'a CategoryNetwork>,
}

/// Rows that are evaluated at a time.
const AT_ONCE: usize = 4096;

/// The logarithms of the probabilities of one value.
#[derive(Clone, Copy)]
struct Both {
    /// Of the network's in their mean.
    weight: f64,
    network: f64,
    base: f64,
}

impl Both {
    fn log(&self) -> f64 {
        match self.weight {
            0.0 => self.base,
            1.0 => self.network,
            weight => (weight * self.network.exp() + (1.0 - weight) * self.base.exp()).ln(),
        }
    }
}

/// Rows of which the numbers are known as they are, and the categories one after another.
struct Chain {
    /// The network's weight in each row.
    weights: Vec<f64>,
    /// `ln π_k p_k` of the given numbers, `[b, K]`.
    of_numbers: Tensor,
    /// What the network sees of the numbers, `[b, 2d]`.
    seen: Tensor,
    /// The categories that are known, `[b, c]`.
    codes: Vec<u32>,
    /// 1 at the value of each of them, `[b, V]`, f32.
    one_hot: Tensor,
}

/// `ln p(c_j = v)` given what is known, of each value of a category, `[b, n_j]` row-major.
struct Step {
    /// `n_j`.
    values: usize,
    /// By the network; empty where there is none.
    network: Vec<f64>,
    base: Vec<f64>,
}

impl Step {
    /// Of the value `code` in row `i`.
    fn both(&self, chain: &Chain, i: usize, code: usize) -> Both {
        let at = i * self.values + code;
        let base = self.base[at];
        let network = self.network.get(at).copied().unwrap_or(base);
        Both { weight: chain.weights[i], network, base }
    }
}

impl<'a> Categorical<'a> {
    /// The distribution of the base, and of a network where there is one.
    ///
    /// # Panics
    /// If the network is for rows of other categories.
    pub fn new(base: &'a MixedMixture, network: Option<&'a CategoryNetwork>) -> Categorical<'a> {
        if let Some(network) = network {
            assert_eq!(network.layout(), base.layout(), "a network for the base's rows");
        }
        Categorical { base, network }
    }

    /// `ln p` of the categories among `codes` `[b, c]` that are not given in `cells`, given these,
    /// nats; those that are missing in both are left out. One value per row.
    ///
    /// # Panics
    /// If there are not as many codes as the rows have categories.
    pub fn log_density(&self, cells: &Cells, codes: &[u32]) -> Vec<f64> {
        let mut total = vec![0.0; cells.len()];
        self.each_step(cells, codes, |row, both| total[row] += both.log());
        total
    }

    /// Calls `f` for each step of the chain of each row of [`Categorical::log_density`], with the
    /// row and the probabilities of its value.
    fn each_step(&self, cells: &Cells, codes: &[u32], mut f: impl FnMut(usize, Both)) {
        let c = self.categories();
        assert_eq!(codes.len(), cells.len() * c, "categories of the rows");
        for start in (0..cells.len()).step_by(AT_ONCE) {
            let rows = start..cells.len().min(start + AT_ONCE);
            let codes = &codes[rows.start * c..rows.end * c];
            self.steps_of(&cells.rows(rows), codes, |row, both| f(start + row, both));
        }
    }

    fn steps_of(&self, cells: &Cells, codes: &[u32], mut f: impl FnMut(usize, Both)) {
        let (c, mut chain) = (self.categories(), self.chain(cells));
        for j in 0..c {
            let of_row = |i: usize| (chain.codes[i * c + j], codes[i * c + j]);
            let asked: Vec<usize> = (0..cells.len())
                .filter(|&i| matches!(of_row(i), (Cells::MISSING, code) if code != Cells::MISSING))
                .collect();
            if asked.is_empty() {
                continue;
            }
            let step = self.step(&chain, j);
            for i in asked {
                let code = codes[i * c + j];
                f(i, step.both(&chain, i, code as usize));
                chain.codes[i * c + j] = code;
            }
            self.take_in(&mut chain, j);
        }
    }

    /// The categories `[b, c]` of rows, of which those that are not given in `cells` are drawn one
    /// after another, but for those that `left_out` says: they stay missing. None is drawn with its
    /// code of `excluded`, which may be empty: each has its distribution given that. Takes `c`
    /// uniforms of each row's stream.
    ///
    /// # Panics
    /// If `left_out` has not one flag for each category.
    pub fn complete(
        &self,
        cells: &Cells,
        left_out: &[bool],
        excluded: &[Option<u32>],
        noise: &mut Noise,
    ) -> Vec<u32> {
        let c = self.categories();
        assert_eq!(left_out.len(), c, "categories of the rows");
        let (mut chain, uniform) = (self.chain(cells), noise.uniform(c));
        for j in (0..c).filter(|&j| !left_out[j]) {
            let open = |i: &usize| chain.codes[i * c + j] == Cells::MISSING;
            let open: Vec<usize> = (0..cells.len()).filter(open).collect();
            if open.is_empty() {
                continue;
            }
            let step = self.step(&chain, j);
            for i in open {
                let of_value = |code: usize| {
                    let out = excluded.get(j).is_some_and(|own| *own == Some(code as u32));
                    if out { 0.0 } else { step.both(&chain, i, code).log().exp() }
                };
                let own: Vec<f64> = (0..step.values).map(of_value).collect();
                chain.codes[i * c + j] = position(uniform[i * c + j], &own) as u32;
            }
            self.take_in(&mut chain, j);
        }
        chain.codes
    }

    fn categories(&self) -> usize {
        self.base.layout().categories.len()
    }

    fn chain(&self, cells: &Cells) -> Chain {
        let tensors = cells.tensors(self.base.device());
        let weights = match self.network {
            Some(network) => network.weights(cells),
            None => vec![0.0; cells.len()],
        };
        Chain {
            weights,
            of_numbers: self.base.log_joint_of_numbers(cells),
            seen: network::seen(tensors),
            codes: cells.codes().to_vec(),
            one_hot: tensors.one_hot.copy(),
        }
    }

    /// Brings category `j` of the rows as it is known now to where it is seen.
    fn take_in(&self, chain: &mut Chain, j: usize) {
        let range = self.base.layout().ranges().nth(j).expect("a category");
        let (c, n, b) = (self.categories(), range.len(), chain.one_hot.size()[0] as usize);
        let mut flags = vec![0f32; b * n];
        for i in 0..b {
            let code = chain.codes[i * c + j];
            if code != Cells::MISSING {
                flags[i * n + code as usize] = 1.0;
            }
        }
        let flags = Tensor::from_slice(&flags).view([b as i64, n as i64]);
        let flags = upload(&flags, Kind::Float, chain.one_hot.device());
        chain.one_hot.narrow(1, range.start as i64, n as i64).copy_(&flags);
    }

    /// What is known of category `j`.
    fn step(&self, chain: &Chain, j: usize) -> Step {
        let range = self.base.layout().ranges().nth(j).expect("a category");
        let values = range.len();
        let base = self.base.log_pmf_given(&chain.of_numbers, &chain.one_hot, range.clone());
        let network = self.network.map_or_else(Vec::new, |network| {
            no_grad(|| {
                let correction = network.of_category(&chain.seen, &chain.one_hot, range.clone());
                let own = self.base.log_marginal_pmf(range) + correction.to_kind(Kind::Double);
                to_vec(&own.log_softmax(-1, None::<Kind>))
            })
        });
        Step { values, network, base: to_vec(&base) }
    }
}

#[cfg(test)]
mod tests;
