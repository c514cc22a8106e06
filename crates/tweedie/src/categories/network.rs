//! The network for categories.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor, no_grad};

use crate::choice::choices;
use crate::model::{Builder, Parameters, linear};
use crate::noise::Seed;
use crate::query::{CellLayout, CellTensors, Cells, Role};
use crate::tensor::to_vec;
use crate::train::TrainConfig;
use crate::{Error, Result};

choices! {
    /// What the distribution of a table's categories is.
    pub enum CategoryModel = Base {
        /// The base's, exactly
        Base = "base",
        /// A network's, in any order of the columns, and the base's, weighed by held-out rows
        Network = "network",
    }
}

/// The distribution of a table's categories, and how its network is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CategoriesConfig {
    /// What it is.
    pub model: CategoryModel,
    /// Hidden units of each layer.
    pub width: i64,
    /// Residual blocks.
    pub depth: i64,
    /// Share of the hidden units of each block that are dropped in training; 0: none.
    pub dropout: f64,
    /// Steps of the optimiser, at most `train.iterations`.
    pub iterations: u64,
    /// Rows per step.
    pub batch_size: usize,
    /// Adam's step size after warm-up; it falls along a cosine.
    pub learning_rate: f64,
    /// Decoupled weight decay, as `train.weight_decay`.
    pub weight_decay: f64,
    /// Of the time that `train.max_seconds` leaves after the base, the share that this training has
    /// at most.
    pub time_share: f64,
}

impl Default for CategoriesConfig {
    fn default() -> Self {
        CategoriesConfig {
            model: CategoryModel::Base,
            width: 256,
            depth: 2,
            dropout: 0.1,
            iterations: 5000,
            batch_size: 256,
            learning_rate: 2e-3,
            weight_decay: 0.01,
            time_share: 0.3,
        }
    }
}

/// Of a layer.
const MOST_UNITS: usize = 10_000;
const MOST_BLOCKS: usize = 1000;
/// Numbers further from 0, in the model's units, look to the network like this one.
const FARTHEST: f64 = 10.0;

impl CategoriesConfig {
    /// Whether it is the base's distribution, as of runs without categories.
    pub fn is_base(&self) -> bool {
        self.model == CategoryModel::Base
    }

    /// What it is, in words.
    pub fn describe(&self) -> String {
        match self.model {
            CategoryModel::Base => "the base's".into(),
            CategoryModel::Network => {
                format!("perceptron, {} blocks of {} units, and the base", self.depth, self.width)
            }
        }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`Error::Config`] with the path of the first that cannot be.
    pub fn check(&self) -> Result<()> {
        Error::check_count("categories.width", self.width, MOST_UNITS)?;
        Error::check_count("categories.depth", self.depth, MOST_BLOCKS)?;
        for (field, share) in
            [("categories.dropout", self.dropout), ("categories.time_share", self.time_share)]
        {
            if !(0.0..1.0).contains(&share) {
                let remedy = "give a share from 0 to below 1";
                return Err(Error::config(field, format!("{share}"), remedy));
            }
        }
        let section = |e: Error| match e {
            Error::Config { option, problem, remedy } => {
                let option = option.replace("train.", "categories.");
                Error::Config { option, problem, remedy }
            }
            other => other,
        };
        self.training(&TrainConfig::default(), 0.0).check().map_err(section)
    }

    /// How the network is trained, within a training by `train` that has been going for so many
    /// seconds.
    pub fn training(&self, train: &TrainConfig, seconds: f64) -> TrainConfig {
        let iterations = self.iterations.min(train.iterations);
        let left = (train.max_seconds - seconds).max(0.0) * self.time_share;
        TrainConfig {
            iterations,
            batch_size: self.batch_size,
            learning_rate: self.learning_rate,
            weight_decay: self.weight_decay,
            warm_up: 100.min(iterations / 10),
            validate_every: 250,
            validation_rows: train.validation_rows,
            checkpoint_every: train.checkpoint_every,
            checkpoint_seconds: train.checkpoint_seconds,
            // a budget that is used up leaves one step
            max_seconds: if train.max_seconds > 0.0 { left.max(1e-3) } else { 0.0 },
            ..TrainConfig::default()
        }
    }

    /// The network for rows of this layout, with weights drawn from `seed`. It counts for nothing
    /// until it is trained.
    ///
    /// # Errors
    /// As [`CategoriesConfig::check`].
    pub fn init(&self, layout: &CellLayout, device: Device, seed: Seed) -> Result<CategoryNetwork> {
        self.check()?;
        let mut builder = Builder::default();
        let network = self.lay_out(&mut builder, layout, seed);
        Ok(CategoryNetwork {
            config: self.clone(),
            layout: layout.clone(),
            layers: network,
            parameters: builder.finish(device),
        })
    }

    /// The number of its parameters, without making any.
    ///
    /// # Errors
    /// As [`CategoriesConfig::check`].
    pub fn size(&self, layout: &CellLayout) -> Result<i64> {
        self.check()?;
        let mut builder = Builder::counting();
        self.lay_out(&mut builder, layout, Seed(0));
        Ok(builder.size())
    }

    fn lay_out(&self, builder: &mut Builder, layout: &CellLayout, seed: Seed) -> Layers {
        let (inputs, w) = ((2 * layout.numbers + layout.values()) as i64, self.width);
        let mut add = |name: String, inputs: i64, outputs: i64, gain: f64| {
            builder.linear(&name, 1, inputs, outputs, gain, seed)
        };
        Layers {
            input: add("input".into(), inputs, w, 1.0),
            blocks: (0..self.depth)
                .map(|i| {
                    [add(format!("{i}.first"), w, w, 1.4), add(format!("{i}.second"), w, w, 0.5)]
                })
                .collect(),
            output: add("output".into(), w, layout.values() as i64, 0.0),
            weights: builder.constant("weights", &[KINDS as i64], 0.0),
        }
    }
}

/// Layers by the index of their weights.
#[derive(Debug)]
struct Layers {
    input: usize,
    blocks: Vec<[usize; 2]>,
    output: usize,
    /// The weights in the mean with the base, which held-out rows decide on.
    weights: usize,
}

/// Kinds of questions with weights of their own: without any number that is given, and with some.
pub(super) const KINDS: usize = 2;

/// The kind of the question about each of these rows.
pub(super) fn kinds(cells: &Cells) -> impl Iterator<Item = usize> + '_ {
    let rows = cells.roles().chunks_exact(cells.layout().numbers);
    rows.map(|roles| usize::from(roles.contains(&Role::Given)))
}

/// A residual perceptron from what is given of rows to corrections of the logits of all values of
/// all categories, which are their frequencies where it says nothing.
#[derive(Debug)]
pub struct CategoryNetwork {
    config: CategoriesConfig,
    layout: CellLayout,
    layers: Layers,
    parameters: Parameters,
}

/// What the network sees of the numbers of rows: those that are given, and which are, `[b, 2d]`.
pub(super) fn seen(cells: &CellTensors) -> Tensor {
    let numbers = cells.numbers.clamp(-FARTHEST, FARTHEST).to_kind(Kind::Float);
    Tensor::cat(&[numbers, cells.given.shallow_clone()], 1)
}

impl CategoryNetwork {
    /// How it was made.
    pub fn config(&self) -> &CategoriesConfig {
        &self.config
    }

    /// The rows that it is for.
    pub fn layout(&self) -> &CellLayout {
        &self.layout
    }

    /// The weight of the network in each of these rows.
    pub(super) fn weights(&self, cells: &Cells) -> Vec<f64> {
        let both = to_vec(self.parameters.get(self.layers.weights));
        kinds(cells).map(|kind| both[kind]).collect()
    }

    /// Sets the weights of rows without and with given numbers.
    pub(super) fn weigh(&self, weights: [f64; KINDS]) {
        let own = self.parameters.get(self.layers.weights);
        no_grad(|| own.detach().copy_(&Tensor::from_slice(&weights)));
    }

    /// Elements of the flat buffer that are trained: all but the weights.
    pub(super) fn trained(&self) -> i64 {
        self.parameters.size() - KINDS as i64
    }

    /// Its parameters.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The hidden units of rows of which these numbers `[b, 2d]` and categories `[b, V]` are seen;
    /// `training` is the seed by which units are dropped.
    fn hidden(&self, numbers: &Tensor, one_hot: &Tensor, training: Option<Seed>) -> Tensor {
        if let Some(seed) = training {
            // as in other networks, LibTorch's own generator draws the masks
            tch::manual_seed(seed.0 as i64);
        }
        let p = |layer: usize| self.parameters.get(layer);
        let apply = |layer: usize, x: &Tensor| linear(x, p(layer), p(layer + 1));
        let x = Tensor::cat(&[numbers, one_hot], 1).unsqueeze(0);
        let mut h = apply(self.layers.input, &x);
        for [first, second] in &self.layers.blocks {
            let inner = apply(*first, &h.silu()).silu();
            let inner = inner.dropout(self.config.dropout, training.is_some());
            h = h + apply(*second, &inner);
        }
        h.silu()
    }

    /// Corrections of the logits of all categories, `[b, V]`.
    pub(super) fn of_all(
        &self,
        numbers: &Tensor,
        one_hot: &Tensor,
        training: Option<Seed>,
    ) -> Tensor {
        let p = |layer: usize| self.parameters.get(layer);
        let hidden = self.hidden(numbers, one_hot, training);
        linear(&hidden, p(self.layers.output), p(self.layers.output + 1)).squeeze_dim(0)
    }

    /// Corrections of the logits of the category whose values these are, `[b, n]`.
    pub(super) fn of_category(
        &self,
        numbers: &Tensor,
        one_hot: &Tensor,
        values: Range<usize>,
    ) -> Tensor {
        let hidden = self.hidden(numbers, one_hot, None);
        let part = |layer: usize| {
            self.parameters.get(layer).narrow(2, values.start as i64, values.len() as i64)
        };
        linear(&hidden, &part(self.layers.output), &part(self.layers.output + 1)).squeeze_dim(0)
    }
}
