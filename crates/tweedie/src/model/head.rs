//! The covariance head: from raw network outputs and the base's `G` to a positive definite `G`.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::choice::choices;
use crate::posterior::{HeadOutput, NoiseMoments};
use crate::query::Coefficient;
use crate::sym_matrix::{SymMatrix, root_rows};
use crate::{Error, Result};

/// The form of `G`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Structure {
    /// `diag(u) + V Vᵀ` with `V` of this rank; 0 is diagonal.
    LowRank(i64),
    /// Any positive definite matrix, by its Cholesky factor: `O(d²)` outputs, for small `d`.
    Full,
}

choices! {
    /// How raw outputs become `G`.
    pub enum Parametrization = Posterior {
        /// `G` directly, as a correction of the base's `G` in log and factor space: positive at
        /// every `t`, needs no clipping.
        Posterior = "posterior",
        /// The paper's text: `H = ReLU(U) + V Vᵀ`, hence `G = I + σ²H ⪰ I`. It cannot express even
        /// `N(0, I)`, whose `H` is `−I`; it is here to be compared with.
        PaperLiteral = "paper-literal",
        /// The second moment `h = E[ε²|x_t]`, coordinate by coordinate, as a correction of the
        /// base's in log space; hence `G = diag(h − ε̂²)` held in `[0, 1]` (SN, Bao et al. 2022).
        /// Diagonal alone.
        SecondMoment = "second-moment",
        /// `v`, coordinate by coordinate, the place between β̃ and β of a step's variance
        /// (I-DDPM, Nichol & Dhariwal 2021): no `G`, but what
        /// [`Interpolated`](crate::covariance::Interpolated) takes. Diagonal alone. It starts at `v
        /// = 0`, the middle.
        Interpolation = "interpolation",
    }
}

choices! {
    /// The `G` that a head's outputs correct, and hence start from.
    pub enum HeadStart = Base {
        /// The base distribution's.
        Base = "base",
        /// `E‖ε − ε̂‖²/d I`, measured on data under the score that the head is trained on, which is
        /// frozen. Nearer than that of an isotropic base where coordinates are strongly
        /// correlated, as pixels are.
        Analytic = "analytic",
    }
}

/// A covariance head as plain data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadConfig {
    /// The form of `G`.
    pub structure: Structure,
    /// How raw outputs become `G`.
    pub parametrization: Parametrization,
    /// What they correct.
    #[serde(default)]
    pub start: HeadStart,
}

impl Default for HeadConfig {
    fn default() -> Self {
        HeadConfig {
            structure: Structure::LowRank(4),
            parametrization: Parametrization::Posterior,
            start: HeadStart::Base,
        }
    }
}

/// Log-corrections saturate here: `e^{±8}` covers every `G` that f32 can use, and keeps a wild
/// output finite.
const LOG_LIMIT: f64 = 8.0;

/// Entries of a factor of `G` are held within so many roots of the base's `G`. A true `G` needs no
/// more; far beyond, f32 cannot tell a diagonal beside it, and the gradients of a row are noise that
/// drives its factor on.
const FACTOR_LIMIT: f64 = 4.0;

/// `U` starts here, above 0, where ReLU has a gradient.
const LITERAL_START: f64 = 0.1;
/// The scale of factors at the start: not 0, where their gradient vanishes.
pub(super) const FACTOR_GAIN: f64 = 0.03;

/// The least `G` from a measurement or a second moment: `G = 0` would leave a density none.
pub(super) const LEAST: f64 = 1e-6;

fn limited(x: &Tensor) -> Tensor {
    (x / LOG_LIMIT).tanh() * LOG_LIMIT
}

impl HeadConfig {
    /// A diagonal head.
    pub fn diagonal(parametrization: Parametrization) -> HeadConfig {
        HeadConfig { structure: Structure::LowRank(0), parametrization, ..HeadConfig::default() }
    }

    /// Raw outputs needed per row: `d (1 + r)`, or `d (d + 1)/2` for [`Structure::Full`].
    pub fn outputs(&self, dim: i64) -> i64 {
        match self.structure {
            Structure::LowRank(rank) => dim.saturating_mul(rank.saturating_add(1)),
            Structure::Full => dim.saturating_mul(dim + 1) / 2,
        }
    }

    /// Whether the base must supply a dense `G`.
    pub fn wants_full_base(&self) -> bool {
        self.structure == Structure::Full && self.parametrization == Parametrization::Posterior
    }

    /// Whether the outputs correct a given `G`, and the head can start from what was measured.
    pub fn corrects(&self) -> bool {
        matches!(self.parametrization, Parametrization::Posterior | Parametrization::SecondMoment)
    }

    /// Checks that the head can have its form.
    ///
    /// # Errors
    /// If the parametrization is of diagonals alone and the structure another, or corrects no `G`
    /// and is to start from one.
    pub fn check(&self) -> Result<()> {
        if self.start == HeadStart::Analytic && !self.corrects() {
            let problem = "analytic, of a head whose outputs correct no G";
            return Err(Error::config("model.head.start", problem, "leave it out"));
        }
        let name = match self.parametrization {
            Parametrization::Posterior | Parametrization::PaperLiteral => return Ok(()),
            Parametrization::SecondMoment => "a head for second moments (sn)",
            Parametrization::Interpolation => "a head that interpolates (iddpm)",
        };
        match self.structure {
            Structure::LowRank(0) => Ok(()),
            _ => Err(Error::config(
                "model.head.structure",
                format!("{name} is diagonal"),
                "give rank 0",
            )),
        }
    }

    /// The model's moments with this head, from raw outputs `[b, outputs]`, the reference whose `G`
    /// they correct, the model's `ε̂` `[b, d]`, and `σ_t`.
    pub(crate) fn moments(
        &self,
        raw: &Tensor,
        reference: NoiseMoments,
        noise: Tensor,
        sigma: &Coefficient,
    ) -> NoiseMoments {
        match self.parametrization {
            Parametrization::Interpolation => {
                let head = Some(HeadOutput::Interpolation(raw.shallow_clone()));
                NoiseMoments { noise, cov: reference.cov, head }
            }
            Parametrization::SecondMoment => {
                let h = reference.second_moment() * limited(raw).exp();
                NoiseMoments::of_second_moment(h, noise)
            }
            Parametrization::Posterior => {
                NoiseMoments::new(noise, self.corrected(raw, reference.cov))
            }
            Parametrization::PaperLiteral => {
                NoiseMoments::new(noise, self.literal(raw, reference.cov.dim(), sigma))
            }
        }
    }

    /// `G` that corrects that of the reference.
    fn corrected(&self, raw: &Tensor, reference: SymMatrix) -> SymMatrix {
        let d = reference.dim();
        match self.structure {
            Structure::LowRank(rank) => {
                let of_base = reference.diagonal();
                let diag = &of_base * limited(&raw.narrow(1, 0, d)).exp();
                if rank == 0 {
                    return SymMatrix::Diagonal(diag);
                }
                let factor = factor_columns(raw, d, rank).clamp(-FACTOR_LIMIT, FACTOR_LIMIT);
                let factor = factor * of_base.sqrt().unsqueeze(-1);
                SymMatrix::low_rank(diag, factor)
            }
            Structure::Full => {
                // a relative ridge of f32's resolution: near T the base's G can be as
                // ill-conditioned as the data
                let ridge = Coefficient::of_rows(&(reference.trace() * (1e-6 / d as f64)));
                let of_base = reference.affine(&1.0.into(), &ridge).to_dense();
                let root = root_rows(&of_base).matmul(&lower_triangular(raw, d));
                SymMatrix::Full(root.matmul(&root.transpose(1, 2)))
            }
        }
    }

    /// `G = I + σ² H`, `H = ReLU(U) + V Vᵀ`.
    fn literal(&self, raw: &Tensor, d: i64, sigma: &Coefficient) -> SymMatrix {
        match self.structure {
            Structure::LowRank(rank) => {
                let diag = (raw.narrow(1, 0, d) + LITERAL_START).relu() * &sigma.square() + 1.0;
                if rank == 0 {
                    return SymMatrix::Diagonal(diag);
                }
                SymMatrix::low_rank(diag, factor_columns(raw, d, rank) * sigma)
            }
            Structure::Full => {
                let lower = lower_triangular(raw, d);
                let spread = lower.matmul(&lower.transpose(1, 2)) * &sigma.square();
                SymMatrix::Full(spread + Tensor::eye(d, (raw.kind(), raw.device())))
            }
        }
    }
}

impl NoiseMoments {
    /// `G = diag(h − ε̂²)` held in `[0, 1]`, as its authors do (SN), from `h = E[ε²|x_t]` and `ε̂`,
    /// `[b, d]` each.
    pub fn of_second_moment(h: Tensor, noise: Tensor) -> NoiseMoments {
        let cov = SymMatrix::Diagonal((&h - noise.square()).clamp(LEAST, 1.0));
        NoiseMoments { noise, cov, head: Some(HeadOutput::SecondMoment(h)) }
    }
}

/// The raw factor `[b, d, r]`, column after column, so that what broadcasts over the rank runs
/// along `d`.
fn factor_columns(raw: &Tensor, d: i64, rank: i64) -> Tensor {
    raw.narrow(1, d, d * rank).view([raw.size()[0], rank, d]).transpose(1, 2)
}

/// A lower-triangular matrix from `d (d + 1)/2` numbers: the first `d` are the logarithms of the
/// diagonal.
fn lower_triangular(raw: &Tensor, d: i64) -> Tensor {
    let diagonal = limited(&raw.narrow(1, 0, d)).exp().diag_embed(0, 1, 2);
    if d == 1 {
        return diagonal;
    }
    let below = Tensor::tril_indices(d, d, -1, (Kind::Int64, raw.device()));
    let flat = below.select(0, 0) * d + below.select(0, 1);
    let zeros = Tensor::zeros([raw.size()[0], d * d], (raw.kind(), raw.device()));
    let strict = zeros.index_add(1, &flat, &raw.narrow(1, d, d * (d - 1) / 2));
    diagonal + strict.view([-1, d, d])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::to_vec;
    use tch::Device;

    /// Rank 0, the paper's own r = 0, has the diagonal alone, in every form; so has an empty batch.
    #[test]
    fn rank_0_is_diagonal() {
        for parametrization in [Parametrization::Posterior, Parametrization::PaperLiteral] {
            let head = HeadConfig::diagonal(parametrization);
            for rows in [0, 2] {
                let noise = Tensor::zeros([rows, 3], F64);
                let base = SymMatrix::isotropic(Tensor::full([rows], 0.5, F64), 3);
                let base = NoiseMoments::new(noise.shallow_clone(), base);
                let raw = Tensor::zeros([rows, head.outputs(3)], F64);
                let g = head.moments(&raw, base, noise, &0.3.into()).cov;
                let SymMatrix::Diagonal(found) = g else { panic!("{g:?}") };
                let expected = match parametrization {
                    Parametrization::PaperLiteral => 1.0 + LITERAL_START * 0.09,
                    _ => 0.5,
                };
                assert_eq!(found.size(), [rows, 3]);
                assert!(to_vec(&found).iter().all(|v| (v - expected).abs() < 1e-12), "{found}");
            }
        }
    }

    /// A base `G` that is singular up to rounding, as near T of nearly collinear data, still has a
    /// correction.
    #[test]
    fn a_singular_base_has_a_root() {
        let head = HeadConfig { structure: Structure::Full, ..HeadConfig::default() };
        let raw = Tensor::zeros([1, head.outputs(2)], F64);
        let noise = Tensor::zeros([1, 2], F64);
        let off = Tensor::from_slice(&[1.0, 1.0 + 1e-3, 1.0 + 1e-3, 1.0]).view([1, 2, 2]);
        let base = NoiseMoments::new(noise.shallow_clone(), SymMatrix::Full(off));
        let found = head.moments(&raw, base, noise, &0.3.into()).cov.to_dense();
        assert!((found - 1.0).abs().max().double_value(&[]) < 1e-2);
    }

    /// At the outputs a network starts with, every raw number of every form moves `G`: nothing is
    /// stuck.
    #[test]
    fn every_output_has_a_gradient_at_the_start() {
        for parametrization in [Parametrization::Posterior, Parametrization::PaperLiteral] {
            let structure = Structure::LowRank(2);
            let head = HeadConfig { structure, parametrization, ..HeadConfig::default() };
            let start = Tensor::cat(
                &[Tensor::zeros([2, 3], F64), Tensor::ones([2, 6], F64) * FACTOR_GAIN],
                1,
            );
            let raw = start.set_requires_grad(true);
            let base = SymMatrix::isotropic(Tensor::from_slice(&[0.5, 0.9]), 3);
            let noise = Tensor::zeros([2, 3], F64);
            let base = NoiseMoments::new(noise.shallow_clone(), base);
            let sigma = Coefficient::of_rows(&Tensor::from_slice(&[0.3, 0.8]));
            let g = head.moments(&raw, base, noise, &sigma).cov;
            g.log_det().sum(Kind::Double).backward();
            let least = raw.grad().abs().min().double_value(&[]);
            assert!(least > 1e-6, "{parametrization:?}: {least}");
        }
    }

    const F64: (Kind, Device) = (Kind::Double, Device::Cpu);
}
