//! Training a network for categories, by the loop that trains models.

use std::cell::RefCell;
use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use super::{Categorical, CategoryModel, CategoryNetwork, network};
use crate::Result;
use crate::likelihood::mean_and_error;
use crate::mixture::MixedMixture;
use crate::model::Parameters;
use crate::noise::{Noise, Seed};
use crate::process_group::ProcessGroup;
use crate::query::{Batch, CellLayout, Cells, Columns, Condition, Role};
use crate::tensor::{sum_last, upload};
use crate::train::{
    Hooks, Rows, Save, Seen, Silent, Stage, Staged, State, StopReason, TrainConfig, Trainee,
    Trainer,
};

/// A network for categories, the mixture that it corrects, and rows to train it on.
#[derive(Clone, Copy, Debug)]
pub struct Fit<'a> {
    /// The mixture.
    pub base: &'a MixedMixture,
    /// The network.
    pub network: &'a CategoryNetwork,
    /// What is known of the training rows, all of it given.
    pub rows: &'a Cells,
    /// The same of rows that choose the parameters which are kept; there may be none.
    pub held_out: &'a Cells,
    /// What is given in every question.
    pub context: &'a Columns,
}

impl Fit<'_> {
    /// Maximises `E ln p(c_hidden|rest)` with categories hidden at random. The parameters in the
    /// end are those that did best on the held-out rows, which also decide how much the network
    /// counts beside the base; where there is no such row they are the moving average, and it
    /// counts alone.
    ///
    /// # Errors
    /// [`crate::Error::Config`] if an option cannot be or there is no row;
    /// [`crate::Error::Diverged`].
    pub fn fit(&self, config: &TrainConfig, seed: Seed) -> Result<()> {
        let state = &mut State::of(self.network.parameters());
        let trainer = &Trainer::new(config.clone());
        self.train(trainer, seed, state, &mut Silent, &mut |_| Ok(())).map(drop)
    }

    /// As [`Fit::fit`] from `state` on, which `save` keeps now and then and in the end.
    pub(crate) fn train<'s>(
        &'s self,
        trainer: &Trainer,
        seed: Seed,
        state: &mut State,
        hooks: &mut dyn Hooks,
        save: &'s mut Save<'s>,
    ) -> Result<StopReason> {
        let given = self.held_out.only(self.context);
        let frequencies = self.base.log_marginal_pmf(0..self.base.layout().values());
        let learner = Learner {
            fit: self,
            given,
            frequencies: frequencies.to_kind(Kind::Float),
            dropout: seed.derive("dropout"),
            save: RefCell::new(save),
        };
        let rows = Hidden::new(self.rows, self.context);
        let reason = trainer.train(&learner, &rows, seed, state, hooks)?;
        self.network.parameters().assign(state.product());
        self.network.weigh(trainer.group.by_leader(|| Ok(self.best_weights()))?);
        Ok(reason)
    }

    /// Mean and standard error over the held-out rows of `ln p` of their categories given the
    /// context, by the base alone or with the network, nats per row; `None` where there is no row.
    pub fn held_out_log_density(&self, model: CategoryModel) -> Option<(f64, f64)> {
        if self.held_out.is_empty() {
            return None;
        }
        let network = (model == CategoryModel::Network).then_some(self.network);
        let categories = Categorical::new(self.base, network);
        let given = self.held_out.only(self.context);
        Some(mean_and_error(&categories.log_density(&given, self.held_out.codes())))
    }

    /// The network's weights in the mean with the base that are best on the held-out rows, of their
    /// categories given the context alone and given all numbers besides: without and with a number
    /// that is given.
    fn best_weights(&self) -> [f64; network::KINDS] {
        let categories = self.context.categories.clone();
        let numbers = vec![true; self.context.numbers.len()];
        let mut pairs: [Vec<[f64; 2]>; network::KINDS] = Default::default();
        for columns in [self.context, &Columns { numbers, categories }] {
            let given = self.held_out.only(columns);
            let kinds: Vec<usize> = network::kinds(&given).collect();
            let both = Categorical::new(self.base, Some(self.network));
            both.each_step(&given, self.held_out.codes(), |row, both| {
                pairs[kinds[row]].push([both.network, both.base]);
            });
        }
        pairs.map(|pairs| best_weight(&pairs))
    }
}

/// The `w` that maximises `Σ ln (w p + (1 − w) q)` of pairs of logarithms of `p` and `q`, by EM; 1
/// where there is no pair.
fn best_weight(pairs: &[[f64; 2]]) -> f64 {
    if pairs.is_empty() {
        return 1.0;
    }
    let mut weight = 0.5;
    for _ in 0..EM_STEPS {
        let share = |[p, q]: &[f64; 2]| weight / (weight + (1.0 - weight) * (q - p).exp());
        weight = pairs.iter().map(share).sum::<f64>() / pairs.len() as f64;
    }
    weight
}

/// Steps after which a weight is right to a few per cent, and nearer where it matters.
const EM_STEPS: usize = 100;

/// What is trained.
struct Learner<'a> {
    fit: &'a Fit<'a>,
    /// The context of the held-out rows.
    given: Cells,
    /// `ln p(c_j = v)` where nothing is known, `[V]`, f32.
    frequencies: Tensor,
    dropout: Seed,
    save: RefCell<&'a mut Save<'a>>,
}

impl Learner<'_> {
    /// Mean and standard error of `ln p` of the held-out rows' categories by the network alone.
    fn bound(&self) -> Option<(f64, f64)> {
        let Fit { base, network, held_out, .. } = self.fit;
        if held_out.is_empty() {
            return None;
        }
        let mut values = vec![0.0; held_out.len()];
        let both = Categorical::new(base, Some(network));
        both.each_step(&self.given, held_out.codes(), |row, both| values[row] += both.network);
        Some(mean_and_error(&values))
    }
}

impl Trainee for Learner<'_> {
    fn name(&self) -> &'static str {
        "the network for categories"
    }

    fn parameters(&self) -> &Parameters {
        self.fit.network.parameters()
    }

    fn trained(&self) -> (i64, i64) {
        (0, self.fit.network.trained())
    }

    /// Codes and weights stay where they are: it is cells that go to a device.
    fn stage(&self) -> Stage {
        Stage::here(0)
    }

    /// `−Σ_j w_j ln p(c_j|seen)` over the hidden categories of each row.
    fn loss(&self, staged: &mut Staged, number: u64) -> Result<Tensor> {
        let Fit { base, network, .. } = self.fit;
        let cells = staged.batch.condition.as_ref().and_then(Condition::as_cells);
        let cells = cells.expect("the cells of rows");
        let tensors = cells.tensors(base.device());
        let drops = network.config().dropout > 0.0;
        let seed = drops.then(|| staged.dropout(self.dropout, number));
        let correction = network.of_all(&network::seen(tensors), &tensors.one_hot, seed);
        let logits = &self.frequencies + correction;
        let totals: Vec<Tensor> = (base.layout().ranges())
            .map(|range| {
                let own = logits.narrow(1, range.start as i64, range.len() as i64);
                own.logsumexp([-1i64].as_slice(), false)
            })
            .collect();
        let asked = staged.batch.x.to_device(base.device());
        let c = totals.len() as i64;
        let places = asked.narrow(1, 0, c).to_kind(Kind::Int64);
        let log = logits.gather(1, &places, false) - Tensor::stack(&totals, 1);
        Ok(-sum_last(&(log * asked.narrow(1, c, c))))
    }

    fn look(&self, _iteration: u64, group: &ProcessGroup, _: &mut dyn Hooks) -> Result<Seen> {
        Ok(Seen { bound: group.by_leader(|| Ok(self.bound()))?, distance: None })
    }

    fn save(&self, state: &State, _hooks: &mut dyn Hooks) -> Result<()> {
        (self.save.borrow_mut())(state)
    }
}

/// Training rows with categories hidden: `[b, 2c]`, the place of each category's value among the
/// values of all, and its weight in the loss, 0 where it is not hidden; and what is seen of them.
///
/// Of the categories that a row has, context aside, a number drawn uniformly is hidden, the loss of
/// each weighted so that the sum is on average `−ln p(c)` over all orders: in half of the draws
/// any, in half the last in the order of the columns, as the chain asks. In half of the draws no
/// number is given but the context, in the rest each with a probability that is itself drawn.
struct Hidden<'a> {
    layout: Arc<CellLayout>,
    numbers: &'a [f64],
    roles: &'a [Role],
    codes: &'a [u32],
    context: &'a Columns,
    /// Where the values of each category begin among those of all.
    starts: Vec<usize>,
}

impl<'a> Hidden<'a> {
    fn new(rows: &'a Cells, context: &'a Columns) -> Hidden<'a> {
        Hidden {
            layout: rows.layout().clone(),
            numbers: rows.numbers(),
            roles: rows.roles(),
            codes: rows.codes(),
            context,
            starts: rows.layout().ranges().map(|range| range.start).collect(),
        }
    }

    /// The numbers of the rows, and their parts.
    fn seen(&self, rows: &[usize], draws: &[f64], each: usize) -> (Vec<f64>, Vec<Role>) {
        let d = self.layout.numbers;
        let (mut numbers, mut roles) = (Vec::new(), Vec::new());
        for (&row, draws) in rows.iter().zip(draws.chunks_exact(each)) {
            let ([some, share], of_numbers) = ([draws[0], draws[1]], &draws[2..2 + d]);
            for (k, &draw) in of_numbers.iter().enumerate() {
                let given = self.context.numbers[k] || (some < 0.5 && draw < share);
                let own = self.roles[row * d + k];
                roles.push(if given { own } else { Role::Absent });
                numbers.push(self.numbers[row * d + k]);
            }
        }
        (numbers, roles)
    }
}

impl Rows for Hidden<'_> {
    fn len(&self) -> usize {
        self.numbers.len() / self.layout.numbers
    }

    fn gather(&self, rows: &[usize], noise: &mut Noise, place: (Kind, Device)) -> Tensor {
        self.batch(rows, noise, place).x
    }

    fn batch(&self, rows: &[usize], noise: &mut Noise, (kind, device): (Kind, Device)) -> Batch {
        let (d, c) = (self.layout.numbers, self.layout.categories.len());
        let each = 4 + d + c;
        let draws = noise.uniform(each);
        let (numbers, roles) = self.seen(rows, &draws, each);
        let mut codes = Vec::with_capacity(rows.len() * c);
        let mut asked = vec![0f32; rows.len() * 2 * c];
        for (i, &row) in rows.iter().enumerate() {
            let [count, in_order] = [draws[i * each + 2 + d], draws[i * each + 3 + d]];
            let of_categories = &draws[i * each + 4 + d..(i + 1) * each];
            let own = &self.codes[row * c..(row + 1) * c];
            let is_open = |j: &usize| own[*j] != Cells::MISSING && !self.context.categories[*j];
            let mut open: Vec<usize> = (0..c).filter(is_open).collect();
            if in_order < 0.5 {
                open.sort_by(|&a, &b| of_categories[a].total_cmp(&of_categories[b]));
            }
            let seen = (count * open.len() as f64) as usize;
            let weight = open.len() as f32 / (open.len() - seen.min(open.len())).max(1) as f32;
            let first = codes.len();
            codes.extend_from_slice(own);
            for &j in open.iter().skip(seen) {
                codes[first + j] = Cells::MISSING;
                asked[i * 2 * c + j] = (self.starts[j] + own[j] as usize) as f32;
                asked[i * 2 * c + c + j] = weight;
            }
        }
        let asked = Tensor::from_slice(&asked).view([rows.len() as i64, -1]);
        let cells = Cells::new(self.layout.clone(), numbers, roles, codes);
        Batch::of(&upload(&asked, kind, device)).given(Some(Condition::cells(cells)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::to_vec;

    /// On average over draws the weighted sum of hidden categories counts each once: the loss of a
    /// constant `−ln p = 1` is the number of categories, whichever are missing.
    #[test]
    fn every_category_counts_once() {
        let layout = Arc::new(CellLayout { numbers: 1, categories: vec![2, 3, 2] });
        let none = Cells::MISSING;
        let rows =
            Cells::observed(layout, vec![0.5, 1.0, f64::NAN], vec![0, 1, 1, 1, none, 0, 1, 2, 0]);
        let context = Columns { numbers: vec![false], categories: vec![true, false, false] };
        let hidden = Hidden::new(&rows, &context);
        let n = 4000;
        let noise = &mut Noise::new(Seed(1), 0..3 * n as u64);
        let batch = hidden.batch(&[0, 1, 2].repeat(n), noise, (Kind::Double, Device::Cpu));
        let asked = to_vec(&batch.x);
        let cells = batch.condition.as_ref().and_then(Condition::as_cells).unwrap();
        let mut totals = [[0.0; 3]; 3];
        for (i, row) in asked.chunks_exact(6).enumerate() {
            for j in 0..3 {
                totals[i % 3][j] += row[3 + j] / n as f64;
                let code = cells.codes()[i * 3 + j];
                assert_eq!(row[3 + j] > 0.0, code == none && rows.codes()[i % 3 * 3 + j] != none);
            }
        }
        for (row, expected) in
            [[0.0, 1.0, 1.0], [0.0, 0.0, 1.0], [0.0, 1.0, 1.0]].iter().enumerate()
        {
            assert_eq!(totals[row][0], 0.0, "the context is never hidden");
            let (sum, expected) = (totals[row].iter().sum::<f64>(), expected.iter().sum::<f64>());
            assert!((sum - expected).abs() < 1e-9, "{totals:?}");
        }
        // in the order of the columns the last is hidden more often
        assert!(totals[0][2] > totals[0][1]);
        let given = cells.roles().iter().filter(|&&role| role == Role::Given).count();
        let share = given as f64 / (2 * n) as f64;
        assert!((share - 0.25).abs() < 0.05, "{share}");
    }
}
