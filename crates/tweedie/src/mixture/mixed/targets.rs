//! Numbers given others. Rows of which the same numbers are asked about and the same given share
//! all matrices of a component: what is given shifts its mean alone.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use super::MixedMixture;
use crate::mixture::by_blocks;
use crate::query::{Cells, Role, Times};
use crate::schedule::Schedule;
use crate::tensor::{sum_last, sum_over};

/// Rows with the same parts of all numbers.
struct Pattern {
    /// The numbers that are asked about, and those that are given, increasing.
    targets: Vec<i64>,
    given: Vec<i64>,
    /// The rows, increasing.
    rows: Vec<i64>,
}

impl Pattern {
    /// The patterns of all rows, where numbers with a part of `asked` are asked about; where there
    /// is no row, one of none.
    fn all(cells: &Cells, asked: &[Role]) -> Vec<Pattern> {
        let mut rows_of: BTreeMap<&[Role], Vec<i64>> = BTreeMap::new();
        for (row, roles) in cells.roles().chunks_exact(cells.layout().numbers).enumerate() {
            rows_of.entry(roles).or_default().push(row as i64);
        }
        if rows_of.is_empty() {
            rows_of.insert(&[], Vec::new());
        }
        let with = |roles: &[Role], parts: &[Role]| -> Vec<i64> {
            let own = roles.iter().enumerate().filter(|(_, own)| parts.contains(own));
            own.map(|(k, _)| k as i64).collect()
        };
        let pattern = |(roles, rows): (&[Role], Vec<i64>)| Pattern {
            targets: with(roles, asked),
            given: with(roles, &[Role::Given]),
            rows,
        };
        rows_of.into_iter().map(pattern).collect()
    }
}

/// Some rows of one pattern.
pub(super) struct Part {
    /// Which rows they are, `[r]`.
    pub rows: Tensor,
    /// The numbers that are asked about, `[t]`.
    pub targets: Tensor,
    /// The numbers that are given, `[g, r]`.
    known: Tensor,
    /// What the components' weights are before the numbers are seen, `[K, r]`.
    log_weights: Tensor,
}

impl Part {
    /// How many numbers are given.
    pub fn numbers_given(&self) -> i64 {
        self.known.size()[0]
    }

    /// Of `[b, …]` the rows of the part.
    pub fn of(&self, x: &Tensor) -> Tensor {
        x.index_select(0, &self.rows)
    }
}

/// What the components say of targets given other numbers, all in f64.
pub(super) struct Conditional {
    /// `m_T`, `[K, t, 1]`.
    means: Tensor,
    /// Eigenvalues `[K, t, 1]` and eigenvectors `[K, t, t]` of `S_TT − S_TG S_GG⁻¹ S_GT`.
    pub values: Tensor,
    pub vectors: Tensor,
    /// Where numbers are given.
    given: Option<Given>,
}

/// Numbers that are given.
struct Given {
    /// `m_G`, `[K, g, 1]`.
    means: Tensor,
    /// The Cholesky factor `L` of `S_GG`, `[K, g, g]`, and half the logarithm of its determinant's
    /// square, `[K, 1]`.
    factor: Tensor,
    half_log_det: Tensor,
    /// `L⁻¹ S_GT`, `[K, g, t]`.
    gain: Tensor,
}

/// Some rows of one pattern, seen from every component.
pub(super) struct Asked {
    /// The rows `x_t`, `[r, d]`.
    x: Tensor,
    /// `σ_t`, `[r, 1]`.
    sigma: Tensor,
    /// The numbers that are targets.
    targets: Tensor,
    /// Responsibilities, `[K, r]`.
    weights: Tensor,
    /// `ln p` of targets, given numbers and categories, without the constant `−½ ln 2π` for each
    /// number, `[r]`.
    pub log_density: Tensor,
    /// `ε̂` of each component in its eigenbasis, `[K, t, r]`.
    turned: Tensor,
    /// `α² λ/(α² λ + σ²)`, `[K, t, r]`.
    shrunk: Tensor,
    /// `[K, t, t]`.
    vectors: Tensor,
}

impl Asked {
    /// `x_t/σ_t` where a number is no target, 0 where it is, `[r, d]`.
    pub fn elsewhere(&self) -> Tensor {
        (&self.x / &self.sigma).index_fill(1, &self.targets, 0.0)
    }

    /// `ε̂` of each component, `[K, t, r]`, and their mean, `[t, r]`.
    fn noises(&self) -> (Tensor, Tensor) {
        let each = self.vectors.matmul(&self.turned);
        let mean = sum_over(&(&each * self.weights.unsqueeze(1)), 0);
        (each, mean)
    }

    fn placed(&self, mean: &Tensor) -> Tensor {
        (&self.x / &self.sigma).index_copy(1, &self.targets, &mean.transpose(0, 1))
    }

    /// `ε̂` of the targets, `x_t/σ_t` elsewhere, `[r, d]`.
    pub fn noise(&self) -> Tensor {
        self.placed(&self.noises().1)
    }

    /// [`Asked::noise`], and `G` `[r, d, d]`, or its diagonal `[r, d]`: within components plus
    /// between them; that of numbers that are no targets is the identity's.
    pub fn moments(&self, full: bool) -> [Tensor; 2] {
        let (each, mean) = self.noises();
        let (t, d) = (self.targets.size()[0], self.x.size()[1]);
        if t == 0 {
            let ones = self.x.ones_like();
            return [self.placed(&mean), if full { ones.diag_embed(0, 1, 2) } else { ones }];
        }
        let rows = self.vectors.transpose(1, 2).reshape([-1, t]);
        let within = (&self.shrunk * self.weights.unsqueeze(1)).flatten(0, 1).transpose(0, 1);
        let apart = (each - &mean) * self.weights.sqrt().unsqueeze(1);
        let places = &self.targets;
        let g = if full {
            let squares = (rows.unsqueeze(2) * rows.unsqueeze(1)).flatten(1, 2);
            let root = apart.permute([2, 1, 0]);
            let own = within.matmul(&squares).view([-1, t, t]) + root.matmul(&root.transpose(1, 2));
            let unit = |n: i64| Tensor::eye(n, (own.kind(), own.device()));
            let change = own.shallow_clone() - unit(t);
            let wide = change.new_zeros([own.size()[0], t, d], (own.kind(), own.device()));
            let wide = wide.index_copy(2, places, &change);
            let square = wide.new_zeros([own.size()[0], d, d], (own.kind(), own.device()));
            square.index_copy(1, places, &wide) + unit(d)
        } else {
            let own = within.matmul(&rows.square()) + sum_over(&apart.square(), 0).transpose(0, 1);
            self.x.ones_like().index_copy(1, places, &own)
        };
        [self.placed(&mean), g]
    }
}

impl MixedMixture {
    fn conditional(&self, pattern: &Pattern) -> Conditional {
        let index = |places: &[i64]| Tensor::from_slice(places).to_device(self.means.device());
        let (targets, given) = (index(&pattern.targets), index(&pattern.given));
        let block = |rows: &Tensor, columns: &Tensor| {
            self.covariances.index_select(1, rows).index_select(2, columns)
        };
        let mean = |places: &Tensor| self.means.index_select(1, places).unsqueeze(-1);
        let mut covariance = block(&targets, &targets);
        let given = (!pattern.given.is_empty()).then(|| {
            let factor = block(&given, &given).linalg_cholesky(false);
            let across = block(&given, &targets);
            let gain = factor.linalg_solve_triangular(&across, false, true, false);
            covariance = &covariance - gain.transpose(1, 2).matmul(&gain);
            let half_log_det = sum_last(&factor.diagonal(0, 1, 2).log()).unsqueeze(-1);
            Given { means: mean(&given), factor, half_log_det, gain }
        });
        let (values, vectors) = match pattern.targets.is_empty() {
            true => (covariance.diagonal(0, 1, 2).shallow_clone(), covariance),
            false => covariance.linalg_eigh("L"),
        };
        // what is nearly determined by the given numbers may come out below 0
        let values = values.clamp_min(0.0).unsqueeze(-1);
        Conditional { means: mean(&targets), values, vectors, given }
    }

    /// What `f` makes of rows pattern by pattern, where numbers with a part of `asked` are asked
    /// about and components have these `ln` weights `[b, K]` before the numbers are seen, put
    /// together in the order of the rows.
    pub(super) fn by_patterns<const N: usize>(
        &self,
        cells: &Cells,
        asked: &[Role],
        log_weights: &Tensor,
        f: impl Fn(&Conditional, &Part) -> [Tensor; N],
    ) -> Vec<Tensor> {
        let numbers = &self.tensors(cells).numbers;
        let patterns = Pattern::all(cells, asked);
        let device = log_weights.device();
        let index = |places: &[i64]| Tensor::from_slice(places).to_device(device);
        let each = self.numbers.components() * self.numbers.dim();
        let mut parts: Vec<Vec<Tensor>> = Vec::new();
        for pattern in &patterns {
            let rows = index(&pattern.rows);
            let (targets, given) = (index(&pattern.targets), index(&pattern.given));
            let conditional = self.conditional(pattern);
            parts.push(by_blocks(&rows, each, |start, count| {
                let rows = rows.narrow(0, start, count);
                let of_rows = |x: &Tensor| x.index_select(0, &rows);
                let part = Part {
                    known: of_rows(numbers).index_select(1, &given).transpose(0, 1),
                    log_weights: of_rows(log_weights).transpose(0, 1),
                    targets: targets.shallow_clone(),
                    rows,
                };
                f(&conditional, &part)
            }));
        }
        let order: Vec<i64> = patterns.iter().flat_map(|pattern| &pattern.rows).copied().collect();
        let back = index(&order).argsort(0, false);
        let together = |i: usize| {
            let all: Vec<&Tensor> = parts.iter().map(|part| &part[i]).collect();
            Tensor::cat(&all, 0).index_select(0, &back)
        };
        (0..N).map(together).collect()
    }

    /// What `f` makes of rows `x_t` `[b, d]` in f64 given the cells.
    pub(super) fn of_targets<const N: usize>(
        &self,
        x: &Tensor,
        schedule: &dyn Schedule,
        times: &Times,
        cells: &Cells,
        f: impl Fn(&Asked) -> [Tensor; N],
    ) -> Vec<Tensor> {
        let x = &x.to_kind(Kind::Double);
        let (alpha, sigma) = times.marginal(schedule, x.device());
        let (alpha, sigma) = (alpha.rows(x), sigma.rows(x));
        let log_weights = self.log_weights(&self.tensors(cells).one_hot);
        self.by_patterns(cells, &[Role::Target], &log_weights, |conditional, part| {
            f(&conditional.asked(part, part.of(x), part.of(&alpha), part.of(&sigma)))
        })
    }
}

impl Conditional {
    /// What the given cells make of the components: their means of the targets, `[K, t, r]` or
    /// `[K, t, 1]`, and the logarithms of their weights times the density of the given numbers,
    /// without the constant `−½ ln 2π` for each number, `[K, r]`.
    pub(super) fn given(&self, part: &Part) -> (Tensor, Tensor) {
        let (means, log_joint) = (self.means.shallow_clone(), part.log_weights.shallow_clone());
        let Some(Given { means: of_given, factor, half_log_det, gain }) = &self.given else {
            return (means, log_joint);
        };
        let known = &part.known - of_given;
        let white = factor.linalg_solve_triangular(&known, false, true, false);
        // m_T + S_TG S_GG⁻¹ (x_G − m_G)
        let means = means + gain.transpose(1, 2).matmul(&white);
        (means, log_joint - sum_over(&white.square(), 1) * 0.5 - half_log_det)
    }

    /// Rows `x_t` `[r, d]` at `α_t` and `σ_t`, `[r]`.
    fn asked(&self, part: &Part, x: Tensor, alpha: Tensor, sigma: Tensor) -> Asked {
        let (means, log_joint) = self.given(part);
        let own = x.index_select(1, &part.targets).transpose(0, 1);
        let turned = self.vectors.transpose(1, 2).matmul(&(own - means * &alpha));
        let signal = &self.values * alpha.square();
        let variance = &signal + sigma.square();
        let quad = turned.square() / &variance + variance.log();
        let log_joint = log_joint - sum_over(&quad, 1) * 0.5;
        Asked {
            log_density: log_joint.logsumexp([0i64].as_slice(), false),
            weights: log_joint.softmax(0, None::<Kind>),
            turned: turned * &sigma / &variance,
            shrunk: signal / variance,
            vectors: self.vectors.shallow_clone(),
            targets: part.targets.shallow_clone(),
            sigma: sigma.unsqueeze(-1),
            x,
        }
    }
}
