//! Distributions whose `G` is known exactly, by name: what experiments on covariances judge by.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use tch::{Device, Kind, Tensor};

use crate::experiment::kinds;
use tweedie::noise::{Noise, Seed};
use tweedie::oracle::{GaussianMixture, named};
use tweedie::sym_matrix::SymMatrix;

kinds! {
    /// A Gaussian mixture.
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum Distribution {
        /// Nine round Gaussians at `{−3, 0, 3}²`, standard deviation 0.1: Optimal Covariance
        /// Matching, §5.1. Its `G` is diagonal.
        Nine = "nine",
        /// Five Gaussians in two dimensions, each of diagonal plus rank 2.
        Mixture2 = "mixture2",
        /// The same in ten dimensions.
        Mixture10 = "mixture10",
        /// The same in 64 dimensions.
        Mixture64 = "mixture64",
    }
}

/// Their number in a random mixture, and the rank of each one's factor.
const COMPONENTS: u64 = 5;
const RANK: i64 = 2;

impl Distribution {
    /// A description for pages.
    pub fn describe(self) -> String {
        match self {
            Distribution::Nine => {
                "nine Gaussians at {−3, 0, 3}², standard deviation 0.1; G is diagonal".into()
            }
            _ => format!(
                "{COMPONENTS} Gaussians in {} dimensions, means from N(0, 0.8²), covariances \
                 diagonal plus rank {RANK}",
                self.mixture().dim()
            ),
        }
    }

    /// The mixture: always the same one.
    pub fn mixture(self) -> GaussianMixture {
        match self {
            Distribution::Nine => named::nine_gaussians(),
            Distribution::Mixture2 => random_mixture(2),
            Distribution::Mixture10 => random_mixture(10),
            Distribution::Mixture64 => random_mixture(64),
        }
    }
}

/// Distributions by their names, or all of them by `all`.
pub(crate) fn distributions<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Vec<Distribution>, D::Error> {
    let named = |name: &String| -> Result<&[Distribution], D::Error> {
        let found = Distribution::ALL.iter().position(|one| one.name() == name);
        match (found, name.as_str()) {
            (Some(i), _) => Ok(&Distribution::ALL[i..=i]),
            (None, "all") => Ok(&Distribution::ALL),
            (None, _) => Err(D::Error::custom(format!(
                "{name:?} is not known: give nine, mixture2, mixture10, mixture64 or all"
            ))),
        }
    };
    let all: Result<Vec<_>, _> = Vec::<String>::deserialize(from)?.iter().map(named).collect();
    Ok(all?.concat())
}

/// Means `0.8 z`, covariances `diag(0.06 e^{z/2}) + V Vᵀ` with `V = 0.4 z` `[d, 2]`, `z` standard
/// normals drawn once: about unit scale, and narrow but along two directions of each component.
fn random_mixture(dim: usize) -> GaussianMixture {
    let draw = |what: &str, columns: usize| {
        let seed = Seed(0).derive(&format!("{what} in {dim} dimensions"));
        Noise::new(seed, 0..COMPONENTS).normal(columns, Kind::Double, Device::Cpu)
    };
    let factor = draw("factors", dim * RANK as usize).view([-1, dim as i64, RANK]) * 0.4;
    let diag: Tensor = (draw("variances", dim) * 0.5).exp() * 0.06;
    let weights = Tensor::from_slice(&[0.3, 0.25, 0.2, 0.15, 0.1]);
    let covariances = SymMatrix::low_rank(diag, factor).to_dense();
    GaussianMixture::from_tensors(&weights, &(draw("means", dim) * 0.8), &covariances)
        .expect("a valid mixture")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `S − diag` has rank 2: of a component's covariance in ten dimensions, less its own diagonal
    /// part, all eigenvalues but two are 0. The mixture keeps `S` by its eigendecomposition.
    #[test]
    fn components_are_diagonal_plus_rank_two() {
        let mixture = Distribution::Mixture10.mixture();
        let mut z = Noise::new(Seed(0).derive("variances in 10 dimensions"), 0..COMPONENTS);
        let diag = (z.normal(10, Kind::Double, Device::Cpu) * 0.5).exp() * 0.06;
        let rest = mixture.covariances() - diag.diag_embed(0, 1, 2);
        let values = rest.linalg_eigvalsh("L").abs().sort(1, true).0;
        assert!(values.narrow(1, 0, 2).min().double_value(&[]) > 0.1);
        assert!(values.narrow(1, 2, 8).max().double_value(&[]) < 1e-12);
    }

    #[test]
    fn names_are_read_back() {
        let read = |name: &str| distributions(serde_json::json!([name]));
        assert!(Distribution::ALL.iter().all(|one| read(one.name()).unwrap() == [*one]));
        assert_eq!(read("all").unwrap(), Distribution::ALL);
        assert!(read("ten").unwrap_err().to_string().contains("mixture64"));
    }
}
