//! The trained kind of model: before training it is its base, and its known part changes no likelihood.

use std::sync::Arc;

use tch::{Device, Kind, Tensor};
use tweedie::likelihood::{LogLikelihood, ProbabilityFlow};
use tweedie::model::{Base, Denoiser, HeadConfig, Model, ModelConfig, Parametrization, Structure};
use tweedie::noise::{Noise, Seed};
use tweedie::objective::{ObjectiveConfig, ScoreGradient};
use tweedie::oracle::GaussianMixture;
use tweedie::schedule::{Schedule, Vp};
use tweedie::train::{Ended, Hooks, Metric, Silent, State, TensorRows, TrainConfig, Trainer, Validation};
use tweedie::tweedie::Jet;

fn mixture() -> GaussianMixture {
    GaussianMixture::new(&[0.3, 0.7], &[[-1.0, 0.5, 0.0], [0.8, -0.4, 0.3]], &[0.5, 0.7]).unwrap()
}

fn model(structure: Structure) -> Model {
    let head = HeadConfig { structure, parametrization: Parametrization::Posterior };
    let config = ModelConfig { head: Some(head), ..ModelConfig::default() };
    config.init(Base::Mixture(mixture()), Arc::new(Vp::default()), Device::Cpu, Seed(1)).unwrap()
}

fn rows(n: usize) -> Tensor {
    mixture().sample(n, Seed(5)).to_kind(Kind::Float)
}

fn largest(x: Tensor) -> f64 {
    x.abs().max().double_value(&[])
}

/// `ε̂` is the base's to f32 rounding; G is the base's, its diagonal for a diagonal head, and within the head's small random
/// start (gain 0.03) for a low-rank one.
#[test]
fn an_untrained_model_is_its_base() {
    let (x, t) = (rows(20), vec![0.3; 20]);
    let exact = mixture().jet(&x.to_kind(Kind::Double), &Vp::default(), &t);
    for (structure, tolerance) in
        [(Structure::Full, 3e-2), (Structure::LowRank(0), 1e-5), (Structure::LowRank(2), 2e-2)]
    {
        let jet = model(structure).jet(&x, &t);
        assert!(largest(jet.noise - &exact.noise) < 1e-5, "{structure:?}: noise");
        let (found, expected) = match structure {
            Structure::Full => (jet.g.to_dense(), exact.g.to_dense()),
            _ => (jet.g.diagonal(), exact.g.diagonal()),
        };
        let error = largest(found - expected);
        assert!(error < tolerance, "{structure:?}: G is off by {error}");
    }
}

/// The same model with its known part hidden, so that all of `ε̂` is differentiated.
struct Hidden<'a>(&'a Model);

impl Denoiser for Hidden<'_> {
    fn dim(&self) -> i64 {
        self.0.dim()
    }
    fn schedule(&self) -> &Arc<dyn Schedule> {
        self.0.schedule()
    }
    fn noise(&self, x: &Tensor, t: &[f64]) -> Tensor {
        self.0.noise(x, t)
    }
    fn jet(&self, x: &Tensor, t: &[f64]) -> Jet {
        self.0.jet(x, t)
    }
    fn kind(&self) -> Kind {
        self.0.kind()
    }
    fn device(&self) -> Device {
        self.0.device()
    }
}

#[test]
fn the_known_part_changes_no_likelihood() {
    let model = model(Structure::LowRank(1));
    // away from the base: random output weights
    let flat = Noise::new(Seed(3), 0..1)
        .normal(model.parameters().size() as usize, Kind::Float, Device::Cpu)
        .view(-1);
    model.parameters().assign(&(model.parameters().flat() + flat * 0.02));
    let x = rows(15);
    let with = ProbabilityFlow::new(&model).log_likelihood(&x, Seed(0), 0).unwrap();
    let hidden = Hidden(&model);
    let without = ProbabilityFlow::new(&hidden).log_likelihood(&x, Seed(0), 0).unwrap();
    let base = Vec::<f64>::try_from(mixture().log_density(&x.to_kind(Kind::Double))).unwrap();
    let mut moved = 0.0f64;
    for i in 0..15 {
        let gap = (with.values[i] - without.values[i]).abs();
        // hidden, the base is differentiated in f32, where 1 − G cancels as t → 0; known, its divergence is exact in f64
        assert!(gap < 2e-2, "row {i}: {} against {}", with.values[i], without.values[i]);
        moved = moved.max((with.values[i] - base[i]).abs());
    }
    assert!(moved > 0.05, "the weights made no difference ({moved}): the test shows nothing");
}

/// The ODE likelihood of an untrained model is its base's log-density.
#[test]
fn untrained_likelihood_is_the_bases() {
    let x = rows(10);
    let found = ProbabilityFlow::new(&model(Structure::LowRank(0))).log_likelihood(&x, Seed(0), 0).unwrap();
    let base = Vec::<f64>::try_from(mixture().log_density(&x.to_kind(Kind::Double))).unwrap();
    for (a, b) in found.values.iter().zip(&base) {
        // α_T = 0.0066: N(0, I) at T differs from the diffused base by about α_T |mean| |x_T|
        assert!((a - b).abs() < 2e-2, "{a} against {b}");
    }
}

/// Each mode moves what it says: head-only leaves the score's parameters as they are, score matching the head's.
#[test]
fn modes_train_what_they_say() {
    let lm = |score| match ObjectiveConfig::default() {
        ObjectiveConfig::Lm { transitions, form, time, .. } => {
            ObjectiveConfig::Lm { transitions, form, time, score }
        }
        other => other,
    };
    let cases = [
        (lm(ScoreGradient::Frozen), [false, true]),
        (lm(ScoreGradient::Joint), [true, true]),
        (lm(ScoreGradient::Dsm), [true, true]),
    ];
    for (config, moves) in cases {
        let model = model(Structure::LowRank(1));
        let before = model.parameters().flat().copy();
        let trainer =
            Trainer { config: TrainConfig { iterations: 3, batch_size: 16, ..TrainConfig::default() } };
        let mut state = State::new(&model);
        let objective = config.build().unwrap();
        let ended = trainer
            .fit(&model, &*objective, &TensorRows::new(rows(64)), None, Seed(2), &mut state, &mut Silent)
            .unwrap();
        assert_eq!(ended, Ended::Finished);
        let change = (model.parameters().flat() - before).abs();
        let (score, all) = (model.score_size(), model.parameters().size());
        let parts = [largest(change.narrow(0, 0, score)), largest(change.narrow(0, score, all - score))];
        assert_eq!(parts.map(|c| c > 0.0), moves, "{config:?}: {parts:?}");
    }
}

/// A training that runs out of time is judged where it ends.
#[test]
fn running_out_of_time_ends_with_a_validation() {
    struct Last(Option<Metric>);
    impl Hooks for Last {
        fn metric(&mut self, metric: &Metric) -> tweedie::Result<()> {
            self.0 = Some(metric.clone());
            Ok(())
        }
    }
    let model = model(Structure::LowRank(0));
    let config =
        TrainConfig { max_seconds: 1e-3, batch_size: 8, validate_every: 1_000_000, ..TrainConfig::default() };
    let (mut state, mut last) = (State::new(&model), Last(None));
    let objective = ObjectiveConfig::default().build().unwrap();
    let judge = Validation::new(&rows(10), Seed(2));
    let ended = Trainer { config }
        .fit(&model, &*objective, &TensorRows::new(rows(50)), Some(&judge), Seed(3), &mut state, &mut last)
        .unwrap();
    assert_eq!(ended, Ended::OutOfTime);
    assert!(last.0.is_some_and(|metric| metric.validation.is_some() && metric.iteration == state.iteration));
}
