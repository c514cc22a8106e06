//! Several processes find what one finds. They are threads here: each has its own connections, and
//! nothing is shared.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tweedie::data::{Dataset, Values};
use tweedie::density::{Density, FitOptions};
use tweedie::mixture::GaussianMixture;
use tweedie::model::{
    Base, Denoiser, HeadConfig, MlpConfig, Model, ModelConfig, NetworkConfig, Structure, UNetConfig,
};
use tweedie::noise::{Draw, Noise, Seed};
use tweedie::objective::{Objective, ObjectiveConfig, Trains};
use tweedie::process_group::{Member, ProcessGroup};
use tweedie::query::Batch;
use tweedie::schedule::Vp;
use tweedie::tch::{Device, Kind, Tensor};
use tweedie::tensor::to_vec;
use tweedie::train::{Silent, State, TensorRows, TrainConfig, Trainer, Validation};
use tweedie::watch;

/// What `work` returns in each of `size` threads that are a group, by rank.
fn together<T: Send>(size: usize, work: impl Fn(ProcessGroup) -> T + Sync) -> Vec<T> {
    let port = Member::free_port().unwrap();
    std::thread::scope(|scope| {
        let work = &work;
        let member = move |rank| {
            let member = Member { rank, size, port, ..Member::default() };
            work(ProcessGroup::join(&member, Duration::from_secs(120)).unwrap())
        };
        let threads: Vec<_> = (0..size).map(|rank| scope.spawn(move || member(rank))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Rows of a step.
const BATCH: usize = 31;

/// A loss that is computed in parts of each batch, as several processes compute it.
struct InParts<'a> {
    objective: Box<dyn Objective>,
    parts: &'a [Range<usize>],
    noise: Seed,
    batches: Cell<u64>,
    seen: RefCell<Vec<(u32, f64)>>,
}

impl Objective for InParts<'_> {
    fn loss(&self, model: &dyn Denoiser, batch: &Batch, _: &mut Noise) -> Tensor {
        let first = self.batches.replace(self.batches.get() + 1) * BATCH as u64;
        self.seen.borrow_mut().clear();
        let part = |part: &Range<usize>| {
            let rows = first + part.start as u64..first + part.end as u64;
            let noise = &mut Noise::new(self.noise, rows);
            let loss = self.objective.loss(model, &batch.narrow(part.clone()), noise);
            self.seen.borrow_mut().extend(self.objective.observed().unwrap_or_default());
            loss
        };
        Tensor::cat(&self.parts.iter().map(part).collect::<Vec<_>>(), 0)
    }
    fn draws(&self) -> usize {
        self.objective.draws()
    }
    fn noise(&self, _: usize) -> Vec<Draw> {
        Vec::new()
    }
    fn trains(&self) -> Trains {
        self.objective.trains()
    }
    fn observed(&self) -> Option<Vec<(u32, f64)>> {
        self.objective.observed().map(|_| self.seen.take())
    }
    fn learn(&self, observed: &[(u32, f64)]) {
        self.objective.learn(observed);
    }
    fn memory(&self) -> Option<Tensor> {
        self.objective.memory()
    }
}

/// Parameters, memory and best validation bound after 200 steps on `rows`.
fn trained(
    init: &dyn Fn() -> Model,
    objective: &dyn Objective,
    rows: &Tensor,
    group: ProcessGroup,
) -> (Vec<f64>, Option<Vec<f64>>, f64) {
    let model = init();
    let steps =
        TrainConfig { iterations: 200, batch_size: BATCH, warm_up: 20, ..Default::default() };
    let config = TrainConfig { validate_every: 70, ema: 0.9, ..steps };
    let validation = Validation::new(&rows.narrow(0, 0, 50), Seed(8));
    let mut state = State::new(&model);
    let trainer = Trainer { config, group };
    let data = TensorRows::new(rows.copy());
    trainer
        .fit(&model, objective, &data, Some(&validation), Seed(4), &mut state, &mut Silent)
        .unwrap();
    let best = state.best.as_ref().map_or(f64::NAN, |best| best.value);
    (to_vec(&state.parameters), state.memory.as_ref().map(to_vec), best)
}

/// The largest gap, relative to the largest number.
fn gap(a: &[f64], b: &[f64]) -> f64 {
    let largest = a.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
    a.iter().zip(b).fold(0.0, |most: f64, (x, y)| most.max((x - y).abs())) / largest
}

/// Two processes that share the rows of every step end within a relative `tolerance`, at 0 with the
/// bits, of one that computes the same parts one after the other. (Rows of other parts are rounded
/// otherwise, which Adam makes much of: its first steps are signs of the gradient.) All ranks are
/// alike to the bit.
fn same(
    init: &(dyn Fn() -> Model + Sync),
    config: &ObjectiveConfig,
    rows: &Tensor,
    tolerance: f64,
) {
    tweedie::tch::set_num_threads(1);
    let parts = [0..BATCH / 2, BATCH / 2..BATCH];
    let in_parts = InParts {
        objective: config.build().unwrap(),
        parts: &parts,
        noise: Seed(4).derive("noise"),
        batches: Cell::new(0),
        seen: RefCell::default(),
    };
    let rows = to_vec(rows);
    let dim = init().space().dim;
    let tensor = || Tensor::from_slice(&rows).to_kind(Kind::Float).view([-1, dim]);
    let expected = trained(init, &in_parts, &tensor(), ProcessGroup::alone());
    let of =
        |size| together(size, |group| trained(init, &*config.build().unwrap(), &tensor(), group));
    let of_two = of(2);
    assert!(of_two[0].0 == of_two[1].0 && of_two[0].2 == of_two[1].2, "ranks differ");
    let (parameters, memory, bound) = &of_two[0];
    let gaps = (gap(&expected.0, parameters), (bound - expected.2).abs() / expected.2.abs());
    assert!(gaps.0 <= tolerance && gaps.1 < 1e-4, "{gaps:?}");
    if let Some((memory, expected)) = memory.as_ref().zip(expected.1) {
        assert!(gap(&expected, memory) <= tolerance, "{memory:?} {expected:?}");
    }
}

fn model(network: NetworkConfig, base: Base, structure: Structure) -> Model {
    let head = Some(HeadConfig { structure, ..HeadConfig::default() });
    let config = ModelConfig { network, head, ..ModelConfig::default() };
    config.init(base, Arc::new(Vp::default()), Device::Cpu, Seed(2)).unwrap()
}

#[test]
fn a_table_is_trained_to_the_same_bits() {
    let weights = [0.3, 0.7];
    let means = [[-1.0, 0.5, 0.0], [0.8, -0.4, 0.3]];
    let mixture = || GaussianMixture::new(&weights, &means, &[0.5, 0.7]).unwrap();
    let small = MlpConfig { width: 24, depth: 2, ..MlpConfig::default() };
    let init = || {
        let network = NetworkConfig::Mlp(small.clone());
        model(network, Base::standard(3), Structure::Full)
    };
    let rows = mixture().sample(200, Seed(0));
    // the default of tables: its two losses are summed in another order
    let adaptive = "kind = 'lm'\ntransitions = 4\nform = 'marginal'\ntime = 'log-snr'\n\
                    score = 'dsm'\nadaptive = true\nhead_transitions = 1";
    same(&init, &ObjectiveConfig::default(), &rows, 0.0);
    same(&init, &toml::from_str(adaptive).unwrap(), &rows, 1e-6);
}

#[test]
fn a_network_for_images_is_trained_to_the_same_bits() {
    let small = UNetConfig {
        shape: [1, 4, 4],
        widths: vec![8, 8],
        blocks: 1,
        attention: vec![false, true],
        groups: 4,
        dropout: 0.0,
        ..UNetConfig::default()
    };
    let init = || {
        let network = NetworkConfig::UNet(small.clone());
        model(network, Base::standard(16), Structure::LowRank(1))
    };
    let noise = Noise::new(Seed(7), 0..100).normal(16, Kind::Double, Device::Cpu);
    same(&init, &ObjectiveConfig::default(), &(noise.sin() * 0.7), 0.0);
}

/// Rows of two numbers, and of a category where `mixed`.
fn table(mixed: bool) -> Dataset {
    let noise = |k: usize| (k as f64 * 0.618_034).fract();
    let n = 300;
    let x: Vec<f64> = (0..n).map(|k| noise(k) + noise(7 * k).powi(2)).collect();
    let y: Vec<f64> = (0..n).map(|k| x[k].sin() + 0.3 * noise(3 * k)).collect();
    if !mixed {
        let numbers = [("x".into(), Values::Double(x)), ("y".into(), Values::Double(y))];
        return Dataset::of_columns(numbers.into()).unwrap();
    }
    let line = |k: usize| format!("{},{},{}\n", x[k], y[k], ["a", "b"][usize::from(x[k] > 0.6)]);
    let text: String = (0..n).map(line).collect();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mixed.csv");
    std::fs::write(&path, format!("x,y,c\n{text}")).unwrap();
    Dataset::read_as_it_comes(&path, &Default::default(), &Default::default()).unwrap()
}

/// A use from beginning to end, with and without categories: every process has the same density,
/// and it is as good as that of one.
#[test]
fn densities_are_fitted_over_a_group() {
    for mixed in [false, true] {
        let table = table(mixed);
        let options = FitOptions::default()
            .set("train.iterations", 150)
            .set("train.validate_every", 50)
            .set("train.batch_size", 64)
            .set("model.network.width", 24)
            .set("model.network.depth", 2);
        let options = match mixed {
            true => options.set("categories.width", 8).set("categories.iterations", 60),
            false => options,
        };
        let fit = |group: ProcessGroup| {
            let watch = &mut watch::Silent;
            let density = Density::fit_over(&group, Some(&table), &options, watch).unwrap();
            let flat = to_vec(density.run().model.parameters().flat());
            let score = density.log_prob(&table, &Default::default()).unwrap();
            (flat, score.estimate.values.iter().sum::<f64>() / table.rows() as f64)
        };
        let (_, alone) = fit(ProcessGroup::alone());
        let found = together(3, fit);
        assert!(found.iter().all(|of_rank| of_rank == &found[0]), "ranks differ");
        assert!((found[0].1 - alone).abs() < 0.15, "{} and {alone} nats per row", found[0].1);
    }
}
