//! Networks for rows: a plain or residual multi-layer perceptron with an ε output and a covariance
//! head.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::embedding::TimeEmbedding;
use super::head::FACTOR_GAIN;
use super::parameters::{Builder, Parameters, linear};
use super::{Backbone, Mode, Outputs};
use crate::choice::choices;
use crate::noise::Seed;
use crate::query::{CellTensors, Condition, Query};
use crate::schedule::Schedule;
use crate::{Error, Result};

/// The shape of the trunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// `depth` residual blocks `h + W₂ silu(W₁ silu(h) + time)`.
    #[default]
    Residual,
    /// `depth` residual blocks `h + W₂ silu(W₁ silu(h) + W_t τ)`, `τ` the time's features: two
    /// products of hidden units in a block and not three.
    Direct,
    /// `depth` hidden layers with time as an input; depth 1 is the one-hidden-layer form of the
    /// paper.
    Plain,
}

choices! {
    /// What the covariance head sits on.
    pub enum HeadTrunk = Shared {
        /// The score's trunk, which both train.
        Shared = "shared",
        /// The score's trunk, which the score alone trains: the head's gradient stops there.
        Detached = "detached",
        /// A trunk of its own, as the paper's Hessian network.
        Separate = "separate",
    }
}

/// A perceptron as plain data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MlpConfig {
    /// The shape of the trunk.
    pub form: Form,
    /// Hidden units of each layer.
    pub width: i64,
    /// Residual blocks, or hidden layers.
    pub depth: i64,
    /// Frequencies of the time embedding (0 in plain form gives the single time input of the
    /// paper).
    pub frequencies: usize,
    /// What the covariance head sits on.
    pub head_trunk: HeadTrunk,
    /// Share of the hidden units of each block that are dropped in training; 0: none.
    pub dropout: f64,
    /// Independent networks trained side by side on equal shares of the rows.
    pub replicates: i64,
    /// The number of values of each category, for rows whose queries have cells; none for rows of
    /// numbers alone. It follows the data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub categories: Option<Vec<usize>>,
}

impl Default for MlpConfig {
    fn default() -> Self {
        MlpConfig {
            form: Form::Residual,
            width: 128,
            depth: 3,
            frequencies: 8,
            head_trunk: HeadTrunk::Shared,
            dropout: 0.0,
            replicates: 1,
            categories: None,
        }
    }
}

/// A trunk's parameters by index.
#[derive(Debug)]
struct Trunk {
    input: usize,
    time: Option<usize>,
    /// (first layer, time layer, second layer) of each block, or (layer, _, _) in plain form.
    blocks: Vec<[usize; 3]>,
    output: usize,
}

/// A perceptron with its parameters.
#[derive(Debug)]
pub(super) struct Mlp {
    config: MlpConfig,
    embedding: TimeEmbedding,
    parameters: Parameters,
    /// Parameters before this flat position belong to the score.
    score_size: i64,
    score: Trunk,
    head: Option<Trunk>,
}

/// Each doubles the last: beyond, neighbouring times of f64 are indistinct.
const MOST_FREQUENCIES: usize = 32;
/// Of a layer, and networks side by side.
const MOST_UNITS: usize = 10_000;
const MOST_BLOCKS: usize = 1000;

impl MlpConfig {
    pub(super) fn check(&self) -> Result<()> {
        if self.frequencies > MOST_FREQUENCIES {
            let problem = format!("{}", self.frequencies);
            return Err(Error::config(
                "model.network.frequencies",
                problem,
                format!("give at most {MOST_FREQUENCIES} (8 is usual)"),
            ));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(Error::config(
                "model.network.dropout",
                format!("{}", self.dropout),
                "give a share from 0 (none) to below 1; 0.1 is usual",
            ));
        }
        let counts = [
            ("model.network.width", self.width, MOST_UNITS),
            ("model.network.depth", self.depth, MOST_BLOCKS),
            ("model.network.replicates", self.replicates, MOST_UNITS),
        ];
        counts
            .into_iter()
            .try_for_each(|(field, value, most)| Error::check_count(field, value, most))
    }

    fn trunk(
        &self,
        builder: &mut Builder,
        name: &str,
        inputs: i64,
        features: i64,
        seed: Seed,
    ) -> Trunk {
        let (r, w) = (self.replicates, self.width);
        let mut add = |part: String, i: i64, o: i64, gain: f64| {
            builder.linear(&format!("{name}.{part}"), r, i, o, gain, seed)
        };
        match self.form {
            Form::Plain => {
                let input = add("input".into(), inputs + features, w, 1.4);
                let blocks = (1..self.depth).map(|i| [add(format!("{i}"), w, w, 1.4); 3]).collect();
                Trunk { input, time: None, blocks, output: 0 }
            }
            Form::Residual | Form::Direct => {
                let of_time = if self.form == Form::Direct { features } else { w };
                let input = add("input".into(), inputs, w, 1.0);
                let time = Some(add("time".into(), features, w, 1.0));
                let blocks = (0..self.depth)
                    .map(|i| {
                        [
                            add(format!("{i}.first"), w, w, 1.4),
                            add(format!("{i}.time"), of_time, w, 1.0),
                            add(format!("{i}.second"), w, w, 0.5),
                        ]
                    })
                    .collect();
                Trunk { input, time, blocks, output: 0 }
            }
        }
    }

    /// The network for rows of `dim` numbers, seen as `inputs`, with `head` raw head outputs. The ε
    /// output starts at 0 and the head at 0 but for its factors, which a small random start keeps
    /// off the saddle at `V = 0`.
    pub(super) fn build(
        &self,
        schedule: &dyn Schedule,
        numbers: [i64; 2],
        head: i64,
        device: Device,
        seed: Seed,
    ) -> Result<Mlp> {
        self.check()?;
        let embedding = TimeEmbedding::new(schedule, self.frequencies);
        let mut builder = Builder::default();
        let (score_size, score, head) =
            self.lay_out(&mut builder, embedding.size(), numbers, head, seed);
        Ok(Mlp {
            config: self.clone(),
            embedding,
            parameters: builder.finish(device),
            score_size,
            score,
            head,
        })
    }

    /// The number of parameters of [`MlpConfig::build`], without making any.
    pub(super) fn size(
        &self,
        schedule: &dyn Schedule,
        numbers: [i64; 2],
        head: i64,
    ) -> Result<i64> {
        self.check()?;
        let features = TimeEmbedding::new(schedule, self.frequencies).size();
        let mut builder = Builder::counting();
        self.lay_out(&mut builder, features, numbers, head, Seed(0));
        Ok(builder.size())
    }

    /// The number of the score's parameters, its trunk and the head's.
    fn lay_out(
        &self,
        builder: &mut Builder,
        features: i64,
        [dim, inputs]: [i64; 2],
        head: i64,
        seed: Seed,
    ) -> (i64, Trunk, Option<Trunk>) {
        let inputs = inputs + self.of_cells(dim);
        let mut score = self.trunk(builder, "score", inputs, features, seed);
        score.output = builder.linear("score.output", self.replicates, self.width, dim, 0.0, seed);
        let score_size = builder.size();
        let head = (head > 0).then(|| {
            let mut trunk = match self.head_trunk {
                HeadTrunk::Separate => self.trunk(builder, "head", inputs, features, seed),
                _ => Trunk { blocks: Vec::new(), ..score },
            };
            trunk.output = self.head_output(builder, dim, head, seed);
            trunk
        });
        (score_size, score, head)
    }

    /// Further inputs of rows with cells: the given numbers, which numbers are given and which are
    /// targets, and the values of categories.
    fn of_cells(&self, dim: i64) -> i64 {
        match &self.categories {
            None => 0,
            Some(categories) => 3 * dim + categories.iter().sum::<usize>() as i64,
        }
    }

    fn head_output(&self, builder: &mut Builder, dim: i64, outputs: i64, seed: Seed) -> usize {
        let index =
            builder.linear("head.output", self.replicates, self.width, outputs, FACTOR_GAIN, seed);
        builder.zero_first(index, 2, dim);
        index
    }
}

impl Mlp {
    fn apply(&self, layer: usize, x: &Tensor) -> Tensor {
        linear(x, self.parameters.get(layer), self.parameters.get(layer + 1))
    }

    /// What is seen of the rows, `[b, inputs]`.
    fn inputs(&self, q: &Query) -> Tensor {
        if self.config.categories.is_none() {
            return q.x.shallow_clone();
        }
        let cells = q.condition.and_then(Condition::as_cells).expect("the cells of rows");
        let CellTensors { targets, given, numbers, one_hot, .. } = cells.tensors(q.x.device());
        let numbers = numbers.to_kind(Kind::Float);
        Tensor::cat(&[q.x, &numbers, given, targets, one_hot], 1)
    }

    fn hidden(&self, trunk: &Trunk, x: &Tensor, features: &Tensor, training: bool) -> Tensor {
        match trunk.time {
            None => {
                let features = features.expand([-1, x.size()[1], -1], false);
                let mut h = self.apply(trunk.input, &Tensor::cat(&[x, &features], -1)).silu();
                for block in &trunk.blocks {
                    let dropped = h.dropout(self.config.dropout, training);
                    h = self.apply(block[0], &dropped).silu();
                }
                h
            }
            Some(time) => {
                let time = self.apply(time, features).silu();
                let mut h = self.apply(trunk.input, x) + &time;
                let seen = if self.config.form == Form::Direct { features } else { &time };
                for [first, of_time, second] in &trunk.blocks {
                    let inner = self.apply(*first, &h.silu()) + self.apply(*of_time, seen);
                    let inner = inner.silu().dropout(self.config.dropout, training);
                    h = h + self.apply(*second, &inner);
                }
                h.silu()
            }
        }
    }
}

impl Backbone for Mlp {
    fn forward(&self, q: &Query, schedule: &dyn Schedule, mode: Mode, with_head: bool) -> Outputs {
        let rows = q.x.size()[0];
        let replicates = self.config.replicates;
        assert!(
            rows % replicates == 0,
            "{rows} rows do not share out among {replicates} replicates"
        );
        let seed = mode.dropout.filter(|_| self.drops());
        let training = seed.is_some();
        if let Some(seed) = seed {
            // as in networks for images, LibTorch's own generator draws the masks
            tch::manual_seed(seed.0 as i64);
        }
        let inputs = self.inputs(q);
        let x = inputs.view([replicates, rows / replicates, -1]);
        let features = self.embedding.features(schedule, q.times, q.x);
        // of equal times one row of features serves all
        let features = match features.size()[0] == rows {
            true => features.view([replicates, rows / replicates, -1]),
            false => features.unsqueeze(0).expand([replicates, -1, -1], false),
        };
        let hidden = self.hidden(&self.score, &x, &features, training);
        let noise = self.apply(self.score.output, &hidden).view([rows, -1]);
        let head = self.head.as_ref().filter(|_| with_head).map(|head| {
            let hidden = match self.config.head_trunk {
                HeadTrunk::Shared => hidden,
                HeadTrunk::Detached => hidden.detach(),
                HeadTrunk::Separate => self.hidden(head, &x, &features, training),
            };
            self.apply(head.output, &hidden).view([rows, -1])
        });
        Outputs { noise, head }
    }

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn score_size(&self) -> i64 {
        self.score_size
    }

    fn drops(&self) -> bool {
        self.config.dropout > 0.0
    }
}
