//! Expectation–maximisation for mixtures over numbers and categories, with cells that are missing.
//!
//! Each step raises the exact log-likelihood of what is observed (Dempster, Laird & Rubin 1977): a
//! missing number enters by its mean and covariance given the row's other cells under each
//! component (Ghahramani & Jordan 1994), a missing category not at all. Rows with the same numbers
//! missing share the matrices of a component. Two things keep large mixtures from overfitting:
//! covariances and probabilities are drawn towards those that the components have in common, and
//! of all iterations the one that is best on held-out rows is kept.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use super::em::RIDGE;
use crate::Result;
use crate::gaussian::LN_2PI;
use crate::mixture::{GaussianMixture, MixedMixture};
use crate::noise::{Noise, Seed};
use crate::query::{CellLayout, Cells, Role};
use crate::tensor::{sum_last, sum_over};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);
/// Elements of an array `[patterns, K, rows, d]` or `[patterns, K, d, d]` that are held at once.
const BLOCK: i64 = 1 << 20;
/// For how many rows the common probabilities of a category's values count in every component.
const PSEUDO_ROWS: f64 = 1.0;
/// For how many rows every value of a category counts in the common probabilities.
const PSEUDO_VALUE: f64 = 0.5;
/// How far twin components are set apart: in standard deviations along their longest axis, and in
/// the logarithms of the probabilities of categories.
const APART: f64 = 0.8;
const APART_PMF: f64 = 0.5;

/// Rows, sorted by which of their numbers are missing.
pub(super) struct Observed {
    layout: CellLayout,
    rows: i64,
    /// In parts that fit in memory with any number of components up to `MOST`.
    groups: Vec<Group>,
}

/// Rows of a few patterns of missing numbers, as many of each.
struct Group {
    /// 1 where a number is observed, else 0, `[p, d]`.
    given: Tensor,
    /// The numbers, 0 where one is missing, `[p, m, d]`.
    numbers: Tensor,
    /// The values of the categories, `[p, m, V]`.
    one_hot: Tensor,
    /// 1, or 0 of a row that only fills its pattern up, `[p, m]`.
    weights: Tensor,
    /// Whether no number is missing.
    complete: bool,
}

/// Patterns of a group, and rows of a pattern in it, at most.
const MOST_PATTERNS: usize = 64;
const MOST_ROWS: usize = 512;

impl Observed {
    pub(super) fn new(cells: &Cells) -> Observed {
        let layout = (**cells.layout()).clone();
        let d = layout.numbers;
        let mut patterns: BTreeMap<Vec<bool>, Vec<usize>> = BTreeMap::new();
        for (row, roles) in cells.roles().chunks_exact(d).enumerate() {
            let given = roles.iter().map(|&role| role == Role::Given).collect();
            patterns.entry(given).or_default().push(row);
        }
        // parts of a pattern, those of a size together, so that little is filled up
        let mut parts: Vec<(Vec<bool>, Vec<usize>)> = patterns
            .into_iter()
            .flat_map(|(given, rows)| {
                let parts: Vec<Vec<usize>> = rows.chunks(MOST_ROWS).map(<[_]>::to_vec).collect();
                parts.into_iter().map(move |rows| (given.clone(), rows))
            })
            .collect();
        parts.sort_by_key(|(given, rows)| (given.iter().all(|&g| g), rows.len()));
        let mut groups = Vec::new();
        let mut rest = &parts[..];
        while let [first, ..] = rest {
            let complete = first.0.iter().all(|&g| g);
            // of sizes that differ by no more than a half
            let fits = |part: &&(Vec<bool>, Vec<usize>)| {
                part.1.len() * 2 <= first.1.len() * 3 && part.0.iter().all(|&g| g) == complete
            };
            let most = MOST_PATTERNS.min((MOST_ROWS / first.1.len()).max(1));
            let count = rest.iter().take(most).take_while(fits).count();
            groups.push(Group::new(cells, &rest[..count], complete));
            rest = &rest[count..];
        }
        Observed { layout, rows: cells.len() as i64, groups }
    }
}

impl Group {
    fn new(cells: &Cells, parts: &[(Vec<bool>, Vec<usize>)], complete: bool) -> Group {
        let (p, d) = (parts.len() as i64, cells.layout().numbers as i64);
        let m = parts.iter().map(|(_, rows)| rows.len()).max().unwrap_or(0);
        let flag = |on: bool| f64::from(u8::from(on));
        let given: Vec<f64> = parts.iter().flat_map(|(g, _)| g.iter().map(|&g| flag(g))).collect();
        // a pattern is filled up with its first row
        let rows = parts
            .iter()
            .flat_map(|(_, rows)| (0..m).map(|i| if i < rows.len() { rows[i] } else { rows[0] }));
        let weights: Vec<f64> =
            parts.iter().flat_map(|(_, rows)| (0..m).map(|i| flag(i < rows.len()))).collect();
        let rows = cells.rows(rows);
        let tensors = rows.tensors(Device::Cpu);
        let shaped = |x: &Tensor, last: i64| x.to_kind(Kind::Double).view([p, m as i64, last]);
        Group {
            given: Tensor::from_slice(&given).view([p, d]),
            numbers: shaped(&tensors.numbers, d),
            one_hot: shaped(&tensors.one_hot, cells.layout().values() as i64),
            weights: Tensor::from_slice(&weights).view([p, m as i64]),
            complete,
        }
    }

    /// What `f` makes of parts of the group that fit in memory with `k` components.
    fn parts(&self, k: i64, mut f: impl FnMut(Group)) {
        let (p, m, d) = self.numbers.size3().expect("rows");
        let rows = (BLOCK / (k * d)).clamp(1, m);
        let patterns = (BLOCK / (k * d * rows.max(d))).clamp(1, p);
        for first in (0..p).step_by(patterns as usize) {
            for row in (0..m).step_by(rows as usize) {
                let of = |x: &Tensor| x.narrow(0, first, patterns.min(p - first));
                let part = |x: &Tensor| of(x).narrow(1, row, rows.min(m - row));
                f(Group {
                    given: of(&self.given),
                    numbers: part(&self.numbers),
                    one_hot: part(&self.one_hot),
                    weights: part(&self.weights),
                    complete: self.complete,
                });
            }
        }
    }
}

/// A mixture while it is fitted.
#[derive(Debug)]
struct Parameters {
    /// `π_k`, `[K]`.
    weights: Tensor,
    /// `m_k`, `[K, d]`.
    means: Tensor,
    /// `S_k`, `[K, d, d]`.
    covariances: Tensor,
    /// `p_k(c_j = v)`, `[K, V]`.
    pmfs: Tensor,
}

/// What the maximisation needs of the rows, each weighted by its components' responsibilities.
struct Statistics {
    /// `ln p` of what is observed, summed over the rows.
    log_density: f64,
    /// `Σ r`, `[K]`.
    counts: Tensor,
    /// `Σ r E[x]`, `[K, d]`.
    first: Tensor,
    /// `Σ r E[x xᵀ]`, `[K, d, d]`.
    second: Tensor,
    /// `Σ r 1(c_j = v)`, `[K, V]`.
    values: Tensor,
}

impl Parameters {
    fn of(mixture: &MixedMixture) -> Parameters {
        Parameters {
            weights: mixture.numbers().log_weights().exp(),
            means: mixture.numbers().means().shallow_clone(),
            covariances: mixture.numbers().covariances(),
            pmfs: mixture.log_pmfs().exp(),
        }
    }

    fn mixture(&self, layout: &CellLayout) -> Result<MixedMixture> {
        let numbers = GaussianMixture::from_tensors(&self.weights, &self.means, &self.covariances)?;
        Ok(MixedMixture::of(numbers, &self.pmfs.log(), layout.clone()))
    }

    /// `ln p` of what is observed of each row, summed, and, where requested, what the maximisation
    /// needs. An error where a covariance is not positive definite.
    fn expect(&self, data: &Observed, with_statistics: bool) -> Result<Statistics> {
        let (k, d) = self.means.size2().expect("means");
        let mut all = Statistics {
            log_density: 0.0,
            counts: Tensor::zeros([k], F64),
            first: Tensor::zeros([k, d], F64),
            second: Tensor::zeros([k, d, d], F64),
            values: Tensor::zeros([k, data.layout.values() as i64], F64),
        };
        let (log_weights, log_pmfs) = (self.weights.log(), self.pmfs.log().transpose(0, 1));
        let mut failed = None;
        for group in &data.groups {
            group.parts(k, |group| {
                if let Err(error) =
                    self.add(&group, &log_weights, &log_pmfs, with_statistics, &mut all)
                {
                    failed = Some(error);
                }
            });
        }
        failed.map_or(Ok(all), Err)
    }

    fn add(
        &self,
        group: &Group,
        log_weights: &Tensor,
        log_pmfs: &Tensor,
        with_statistics: bool,
        all: &mut Statistics,
    ) -> Result<()> {
        let not_definite = |_| {
            crate::Error::numeric("a covariance is not positive definite", "give fewer components")
        };
        // [p, K, d, d]: Σ = a S a + (1 − a)
        let a = group.given.unsqueeze(1);
        let both = (a.unsqueeze(3) * a.unsqueeze(2)) * &self.covariances;
        let total = both + (-&a + 1.0).diag_embed(0, 2, 3);
        let factor = total.f_linalg_cholesky(false).map_err(not_definite)?;
        // [p, K, d, m]
        let centred = (group.numbers.unsqueeze(1) - self.means.unsqueeze(1)) * a.unsqueeze(2);
        let white = factor.linalg_solve_triangular(&centred.transpose(2, 3), false, true, false);
        let log_det = sum_last(&factor.diagonal(0, 2, 3).log()) * 2.0;
        let quad = sum_over(&white.square(), 2);
        let of_categories = group.one_hot.matmul(log_pmfs).transpose(1, 2);
        let log_joint =
            of_categories + log_weights.view([1, -1, 1]) - (quad + log_det.unsqueeze(-1)) * 0.5;
        // [p, m]
        let log_density = log_joint.logsumexp([1i64].as_slice(), false)
            - sum_last(&group.given).unsqueeze(-1) * (0.5 * LN_2PI);
        all.log_density += (&log_density * &group.weights).sum(Kind::Double).double_value(&[]);
        if !with_statistics {
            return Ok(());
        }
        let shares = log_joint.softmax(1, None::<Kind>) * group.weights.unsqueeze(1);
        // [p, K]
        let counts = sum_last(&shares);
        all.counts += sum_over(&counts, 0);
        all.values += sum_over(&shares.matmul(&group.one_hot), 0);
        // [p, K, m, d]
        let numbers = if group.complete {
            group.numbers.unsqueeze(1).expand(centred.size(), false)
        } else {
            // m + S a Σ⁻¹ (x − a m)
            let solved = factor.transpose(2, 3).linalg_solve_triangular(&white, true, true, false);
            let turned = (&self.covariances * a.unsqueeze(2)).matmul(&solved).transpose(2, 3);
            // S − S a Σ⁻¹ a S, where both are missing
            let rows = a.unsqueeze(3) * &self.covariances;
            let gain = factor.linalg_solve_triangular(&rows, false, true, false);
            let absent = -&a + 1.0;
            let both = absent.unsqueeze(3) * absent.unsqueeze(2);
            let spread = (&self.covariances - gain.transpose(2, 3).matmul(&gain)) * both;
            all.second += sum_over(&(spread * counts.unsqueeze(-1).unsqueeze(-1)), 0);
            // what is observed stays as it is, to the bit
            (turned + self.means.unsqueeze(1)) * absent.unsqueeze(2) + group.numbers.unsqueeze(1)
        };
        let weighted = &numbers * shares.unsqueeze(-1);
        all.first += sum_over(&sum_over(&weighted, 2), 0);
        all.second += sum_over(&weighted.transpose(2, 3).matmul(&numbers), 0);
        Ok(())
    }

    /// The parameters that fit best; covariances as if every component had `prior` rows more of
    /// the covariance that they have in common.
    fn maximise(found: &Statistics, layout: &CellLayout, prior: f64) -> Parameters {
        let (k, d) = found.first.size2().expect("means");
        let n = found.counts.sum(Kind::Double).double_value(&[]);
        let counts = &found.counts + 1e-10;
        let means = &found.first / counts.unsqueeze(-1);
        let cube = counts.view([k, 1, 1]);
        let scatter = &found.second - means.unsqueeze(2) * means.unsqueeze(1) * &cube;
        let common = sum_over(&scatter, 0) / n;
        let covariances = (scatter + common * prior) / (cube + prior) + Tensor::eye(d, F64) * RIDGE;
        let mut pmfs = Vec::new();
        for range in layout.ranges() {
            let own = found.values.narrow(1, range.start as i64, range.len() as i64);
            let common = sum_over(&own, 0) + PSEUDO_VALUE;
            let common = &common / common.sum(Kind::Double);
            let own = own + common * PSEUDO_ROWS;
            pmfs.push(&own / sum_last(&own).unsqueeze(-1));
        }
        let pmfs = match pmfs.is_empty() {
            true => found.values.shallow_clone(),
            false => Tensor::cat(&pmfs, 1),
        };
        Parameters { weights: counts / (n + 1e-10 * k as f64), means, covariances, pmfs }
    }

    /// The same with its heaviest components in two each, at most `most` in all.
    fn split(&self, layout: &CellLayout, most: i64) -> Parameters {
        let (k, d) = self.means.size2().expect("means");
        let heaviest = self.weights.argsort(0, true).narrow(0, 0, k.min(most - k));
        let of = |x: &Tensor| x.index_select(0, &heaviest);
        let (values, vectors) = of(&self.covariances).linalg_eigh("L");
        let axis = vectors.select(2, d - 1);
        let length = values.select(1, d - 1);
        let step = &axis * (&length.sqrt() * APART).unsqueeze(-1);
        let shrunk = of(&self.covariances)
            - axis.unsqueeze(2) * axis.unsqueeze(1) * (length * (APART * APART)).view([-1, 1, 1]);
        let seed = Seed(k as u64).derive("twins");
        let normals = Noise::new(seed, 0..heaviest.size()[0] as u64).normal(
            layout.values(),
            Kind::Double,
            Device::Cpu,
        );
        let pmfs = |sign: f64| {
            let raw = of(&self.pmfs) * (&normals * (sign * APART_PMF)).exp();
            let parts: Vec<Tensor> = layout
                .ranges()
                .map(|range| {
                    let own = raw.narrow(1, range.start as i64, range.len() as i64);
                    &own / sum_last(&own).unsqueeze(-1)
                })
                .collect();
            if parts.is_empty() { raw } else { Tensor::cat(&parts, 1) }
        };
        let replaced = |x: &Tensor, first: Tensor, second: Tensor| {
            Tensor::cat(&[x.index_copy(0, &heaviest, &first), second], 0)
        };
        let (means, half) = (of(&self.means), of(&self.weights) * 0.5);
        Parameters {
            weights: replaced(&self.weights, half.shallow_clone(), half),
            means: replaced(&self.means, &means + &step, means - step),
            covariances: replaced(&self.covariances, shrunk.shallow_clone(), shrunk),
            pmfs: replaced(&self.pmfs, pmfs(1.0), pmfs(-1.0)),
        }
    }
}

/// Rows to fit a mixture to and rows to judge it by.
pub(super) struct Data {
    pub(super) rows: Observed,
    pub(super) held_out: Observed,
    /// What is given of the held-out rows, where the mixture is one of the rest given this.
    pub(super) given: Option<Observed>,
}

/// A mixture over numbers and categories while it is fitted.
pub(super) struct Mixed {
    parameters: Parameters,
    layout: CellLayout,
    prior: f64,
}

impl super::Em for Mixed {
    type Data = Data;
    type Mixture = MixedMixture;

    fn start(
        data: &Data,
        smaller: Option<&MixedMixture>,
        components: usize,
        prior: f64,
    ) -> Result<Mixed> {
        let layout = &data.rows.layout;
        let mut parameters = match smaller {
            Some(smaller) => Parameters::of(smaller),
            None => {
                // what is missing counts as standardised data do
                let (d, v) = (layout.numbers as i64, layout.values() as i64);
                let uniform: Vec<f64> = layout
                    .ranges()
                    .flat_map(|range| std::iter::repeat_n(1.0 / range.len() as f64, range.len()))
                    .collect();
                Parameters {
                    weights: Tensor::ones([1], F64),
                    means: Tensor::zeros([1, d], F64),
                    covariances: Tensor::eye(d, F64).unsqueeze(0),
                    pmfs: Tensor::from_slice(&uniform).view([1, v]),
                }
            }
        };
        while parameters.weights.size()[0] < components as i64 {
            parameters = parameters.split(layout, components as i64);
        }
        Ok(Mixed { parameters, layout: layout.clone(), prior })
    }

    fn step(&mut self, data: &Data) -> Result<()> {
        let found = self.parameters.expect(&data.rows, true)?;
        self.parameters = Parameters::maximise(&found, &self.layout, self.prior);
        Ok(())
    }

    fn score(&self, data: &Data) -> Result<f64> {
        match data.held_out.rows {
            0 => Ok(f64::NAN),
            rows => {
                let of = |rows| self.parameters.expect(rows, false).map(|found| found.log_density);
                let given = data.given.as_ref().map_or(Ok(0.0), of)?;
                Ok((of(&data.held_out)? - given) / rows as f64)
            }
        }
    }

    fn mixture(&mut self) -> Result<MixedMixture> {
        self.parameters.mixture(&self.layout)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::Search;
    use super::*;
    use crate::mixture::{MixedParameters, MixtureParameters};

    fn truth() -> MixedMixture {
        MixedMixture::from_parameters(&MixedParameters {
            numbers: MixtureParameters {
                weights: vec![0.5, 0.3, 0.2],
                means: vec![vec![-2.0, 0.0], vec![2.0, 1.0], vec![0.0, -2.5]],
                covariances: vec![
                    vec![0.5, 0.3, 0.3, 0.4],
                    vec![0.3, 0.0, 0.0, 0.6],
                    vec![0.4, -0.2, -0.2, 0.3],
                ],
            },
            categories: vec![3],
            pmfs: vec![vec![0.8, 0.1, 0.1], vec![0.1, 0.8, 0.1], vec![0.1, 0.2, 0.7]],
        })
        .unwrap()
    }

    /// Rows of the truth, of which a share of the cells is missing.
    fn rows(n: usize, share: f64, seed: u64) -> Cells {
        let layout = Arc::new(truth().layout().clone());
        let none = Cells::observed(layout.clone(), vec![f64::NAN; 2 * n], vec![u32::MAX; n]);
        let mut noise = Noise::new(Seed(seed), 0..n as u64);
        let (mut numbers, mut codes) = truth().complete(&none, &mut noise);
        let holes = noise.uniform(3);
        for (i, holes) in holes.chunks_exact(3).enumerate() {
            (0..2).filter(|&k| holes[k] < share).for_each(|k| numbers[2 * i + k] = f64::NAN);
            if holes[2] < share {
                codes[i] = Cells::MISSING;
            }
        }
        Cells::observed(layout, numbers, codes)
    }

    /// Rows are grouped, cut into parts and filled up without changing the likelihood, which is
    /// that of the mixture row by row.
    #[test]
    fn the_likelihood_is_that_of_the_rows() {
        let cells = rows(700, 0.3, 1);
        let data = Observed::new(&cells);
        let found = Parameters::of(&truth()).expect(&data, true).unwrap();
        let expected = truth().log_density(&cells).sum(Kind::Double).double_value(&[]);
        assert!((found.log_density / expected - 1.0).abs() < 1e-12);
        assert!((found.counts.sum(Kind::Double).double_value(&[]) - 700.0).abs() < 1e-9);
    }

    /// Every step of EM raises the exact log-likelihood of the observed cells, but for the little
    /// that priors and ridge take.
    #[test]
    fn every_iteration_gains() {
        let data = Observed::new(&rows(600, 0.25, 2));
        let layout = &data.layout;
        let one = Parameters {
            weights: Tensor::ones([1], F64),
            means: Tensor::zeros([1, 2], F64),
            covariances: Tensor::eye(2, F64).unsqueeze(0),
            pmfs: Tensor::full([1, 3], 1.0 / 3.0, F64),
        };
        let mut parameters = one.split(layout, 2).split(layout, 3);
        let (mut last, first) = (f64::NEG_INFINITY, parameters.expect(&data, false).unwrap());
        for i in 0..30 {
            let found = parameters.expect(&data, true).unwrap();
            assert!(found.log_density > last - 0.02, "{i}: {} after {last}", found.log_density);
            last = found.log_density;
            parameters = Parameters::maximise(&found, layout, 0.0);
        }
        assert!(last > first.log_density + 100.0, "{last} from {}", first.log_density);
    }

    /// The truth is found from rows of which a fifth of the cells is missing, to within the error
    /// of the sample.
    #[test]
    fn finds_the_truth() {
        let (train, held_out) = (rows(4000, 0.2, 3), rows(2000, 0.2, 4));
        let rows = Observed::new(&train);
        let data = Data { rows, held_out: Observed::new(&held_out), given: None };
        let mut search = Search::<Mixed>::start(&data, None, 3, 2.0).unwrap();
        search.advance(&data, 200, &|| true);
        let truth = truth().log_density(&held_out).mean(Kind::Double).double_value(&[]);
        assert!(search.score > truth - 0.02, "{}, the truth has {truth}", search.score);
    }

    /// Rows without any number, or any category, and components without rows do no harm.
    #[test]
    fn empty_rows_and_components_do_no_harm() {
        let layout = Arc::new(truth().layout().clone());
        let hole = f64::NAN;
        let numbers = [hole, hole, 0.5, hole, hole, 1.5].repeat(10);
        let codes = [1, Cells::MISSING, 2].repeat(10);
        let cells = Cells::observed(layout, numbers, codes);
        let rows = Observed::new(&cells);
        let data = Data { rows, held_out: Observed::new(&cells), given: None };
        let mut search = Search::<Mixed>::start(&data, None, 8, 2.0).unwrap();
        search.advance(&data, 20, &|| true);
        assert!(search.score.is_finite());
    }
}
