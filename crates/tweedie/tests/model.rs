//! The trained kind of model: before training it is its base, and its known part changes no
//! likelihood.

use std::sync::Arc;

use tch::{Device, Kind, Tensor};
use tweedie::covariance::{Covariance, Diagonal, Interpolated, NoiseStatistics, Reverse};
use tweedie::grid::{TimeDistribution, even_trajectory};
use tweedie::likelihood::{Elbo, LogLikelihood, ProbabilityFlow, mean_and_error};
use tweedie::model::{
    Base, Denoiser, Form, HeadConfig, HeadStart, HeadTrunk, MlpConfig, Mode, Model, ModelConfig,
    NetworkConfig, Parametrization, Preconditioning, Space, Structure,
};
use tweedie::noise::{Noise, Seed};
use tweedie::objective::{
    LikelihoodMatching, ObjectiveConfig, ScoreGradient, StepDistribution, Target,
};
use tweedie::oracle::{GaussianMixture, Oracle};
use tweedie::posterior::NoiseMoments;
use tweedie::query::{Batch, Query, Times};
use tweedie::schedule::{Schedule, ScheduleConfig, StepLaw, Vp};
use tweedie::train::{
    Hooks, Metric, Silent, State, StopReason, TensorRows, TrainConfig, Trainer, Validation,
};

fn mixture() -> GaussianMixture {
    GaussianMixture::new(&[0.3, 0.7], &[[-1.0, 0.5, 0.0], [0.8, -0.4, 0.3]], &[0.5, 0.7]).unwrap()
}

fn model(structure: Structure) -> Model {
    let head = HeadConfig { structure, ..HeadConfig::default() };
    let config = ModelConfig { head: Some(head), ..ModelConfig::default() };
    config.init(Base::Mixture(mixture()), Arc::new(Vp::default()), Device::Cpu, Seed(1)).unwrap()
}

fn rows(n: usize) -> Tensor {
    mixture().sample(n, Seed(5)).to_kind(Kind::Float)
}

fn largest(x: Tensor) -> f64 {
    x.abs().max().double_value(&[])
}

/// `ε̂` is the base's to f32 rounding; G is the base's, its diagonal for a diagonal head, and
/// within the head's small random start (gain 0.03) for a low-rank one.
#[test]
fn an_untrained_model_is_its_base() {
    let (x, t) = (rows(20), Times::All(0.3));
    let exact = mixture().moments(&x.to_kind(Kind::Double), &Vp::default(), &t);
    for (structure, tolerance) in
        [(Structure::Full, 3e-2), (Structure::LowRank(0), 1e-5), (Structure::LowRank(2), 2e-2)]
    {
        let found = model(structure).moments(&Query::new(&x, &t));
        assert!(largest(found.noise - &exact.noise) < 1e-5, "{structure:?}: noise");
        let (found, expected) = match structure {
            Structure::Full => (found.cov.to_dense(), exact.cov.to_dense()),
            _ => (found.cov.diagonal(), exact.cov.diagonal()),
        };
        let error = largest(found - expected);
        assert!(error < tolerance, "{structure:?}: G is off by {error}");
    }
}

/// A head with a start of its own corrects that: before training G is what was measured, at the
/// times it was measured at; ε̂ stays the base's.
#[test]
fn a_head_starts_from_what_was_measured() {
    let data = rows(200);
    let oracle = Oracle::new(mixture(), Arc::new(Vp::default()));
    let measured = NoiseStatistics::measure(&oracle, &Batch::of(&data), 50, 100, Seed(2)).unwrap();
    let vp = Vp::default();
    let t: Vec<f64> = (0..20).map(|i| vp.importance_time(i as f64 / 19.0)).collect();
    let times = Times::each(t.clone());
    let x = rows(20);
    for (parametrization, rank) in [
        (Parametrization::Posterior, 0),
        (Parametrization::Posterior, 2),
        (Parametrization::SecondMoment, 0),
    ] {
        let structure = Structure::LowRank(rank);
        let head = HeadConfig { structure, parametrization, start: HeadStart::Analytic };
        let config = ModelConfig { head: Some(head), ..ModelConfig::default() };
        let mut model = config
            .init(Base::Mixture(mixture()), Arc::new(vp.clone()), Device::Cpu, Seed(1))
            .unwrap();
        model.set_head_start(measured.clone());
        let found = model.moments(&Query::new(&x, &times));
        let expected: Vec<f64> = t.iter().map(|&t| measured.g(vp.log_snr(t))).collect();
        let expected = Tensor::from_slice(&expected).unsqueeze(-1);
        let error = largest((found.cov.diagonal() - &expected) / (&expected + 1e-3));
        assert!(
            error < if rank > 0 { 2e-2 } else { 1e-3 },
            "{parametrization:?}, {rank}: off by {error}"
        );
        let exact = oracle.noise(&Query::new(&x.to_kind(Kind::Double), &times));
        assert!(largest(found.noise - exact) < 1e-5);
    }
}

/// The same model with its known part hidden, so that all of `ε̂` is differentiated.
struct Hidden<'a>(&'a Model);

impl Denoiser for Hidden<'_> {
    fn space(&self) -> &Space {
        self.0.space()
    }
    fn noise(&self, q: &Query) -> Tensor {
        self.0.noise(q)
    }
    fn moments(&self, q: &Query) -> NoiseMoments {
        self.0.moments(q)
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
    let with = ProbabilityFlow::new(&model).log_likelihood(&Batch::of(&x), Seed(0), 0).unwrap();
    let hidden = Hidden(&model);
    let without = ProbabilityFlow::new(&hidden).log_likelihood(&Batch::of(&x), Seed(0), 0).unwrap();
    let base = Vec::<f64>::try_from(mixture().log_density(&x.to_kind(Kind::Double))).unwrap();
    let mut moved = 0.0f64;
    for i in 0..15 {
        let gap = (with.values[i] - without.values[i]).abs();
        // hidden, the base is differentiated in f32, where 1 − G cancels as t → 0; known, its
        // divergence is exact in f64
        assert!(gap < 2e-2, "row {i}: {} against {}", with.values[i], without.values[i]);
        moved = moved.max((with.values[i] - base[i]).abs());
    }
    assert!(moved > 0.05, "the weights made no difference ({moved}): the test shows nothing");
}

/// The ODE likelihood of an untrained model is its base's log-density.
#[test]
fn untrained_likelihood_is_the_bases() {
    let x = rows(10);
    let found = ProbabilityFlow::new(&model(Structure::LowRank(0)))
        .log_likelihood(&Batch::of(&x), Seed(0), 0)
        .unwrap();
    let base = Vec::<f64>::try_from(mixture().log_density(&x.to_kind(Kind::Double))).unwrap();
    for (a, b) in found.values.iter().zip(&base) {
        // α_T = 0.0066: N(0, I) at T differs from the diffused base by about α_T |mean| |x_T|
        assert!((a - b).abs() < 2e-2, "{a} against {b}");
    }
}

/// Each mode trains the parameters of its name: head-only leaves the score's parameters as they
/// are, score matching the head's.
#[test]
fn modes_train_what_they_say() {
    let lm = |score| match ObjectiveConfig::default() {
        ObjectiveConfig::Lm { transitions, form, time, grid, .. } => {
            ObjectiveConfig::from(LikelihoodMatching { transitions, form, time, grid, score })
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
        let steps = TrainConfig { iterations: 3, batch_size: 16, ..TrainConfig::default() };
        let trainer = Trainer::new(steps);
        let mut state = State::new(&model);
        let objective = config.build().unwrap();
        let ended = trainer
            .fit(
                &model,
                &*objective,
                &TensorRows::new(rows(64)),
                None,
                Seed(2),
                &mut state,
                &mut Silent,
            )
            .unwrap();
        assert_eq!(ended, StopReason::Finished);
        let change = (model.parameters().flat() - before).abs();
        let (score, all) = (model.score_size(), model.parameters().size());
        let parts =
            [largest(change.narrow(0, 0, score)), largest(change.narrow(0, score, all - score))];
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
    let config = TrainConfig {
        max_seconds: 1e-3,
        batch_size: 8,
        validate_every: 1_000_000,
        ..TrainConfig::default()
    };
    let (mut state, mut last) = (State::new(&model), Last(None));
    let objective = ObjectiveConfig::default().build().unwrap();
    let judge = Validation::new(&rows(10), Seed(2));
    let ended = Trainer::new(config)
        .fit(
            &model,
            &*objective,
            &TensorRows::new(rows(50)),
            Some(&judge),
            Seed(3),
            &mut state,
            &mut last,
        )
        .unwrap();
    assert_eq!(ended, StopReason::OutOfTime);
    assert!(
        last.0.is_some_and(
            |metric| metric.validation.is_some() && metric.iteration == state.iteration
        )
    );
}

/// A model that is this base, with a diagonal head of this kind, which has a network of its own
/// (the score's is untrained), on a chain of 20 steps.
fn on_chain(base: Base, parametrization: Parametrization) -> Model {
    let chain = ScheduleConfig::Discrete {
        steps: 20,
        law: StepLaw::Linear,
        beta_start: 0.01,
        beta_end: 0.4,
    };
    let head = Some(HeadConfig::diagonal(parametrization));
    let network = MlpConfig { head_trunk: HeadTrunk::Separate, width: 64, ..MlpConfig::default() };
    let config =
        ModelConfig { network: NetworkConfig::Mlp(network), head, ..ModelConfig::default() };
    config.init(base, chain.build().unwrap(), Device::Cpu, Seed(1)).unwrap()
}

fn train(model: &Model, objective: &ObjectiveConfig, iterations: u64) {
    objective.check_head(&model.config().head.unwrap()).unwrap();
    let config = TrainConfig {
        iterations,
        batch_size: 512,
        learning_rate: 3e-3,
        warm_up: 20,
        ema: 0.98,
        decay: true,
        ..TrainConfig::default()
    };
    let mut state = State::new(model);
    let objective = objective.build().unwrap();
    let data = TensorRows::new(rows(20_000));
    Trainer::new(config)
        .fit(model, &*objective, &data, None, Seed(2), &mut state, &mut Silent)
        .unwrap();
}

/// SN under a frozen score, be it wrong: the second moment comes close to the data's, and where
/// taking off `ε̂²` leaves less than 0 or more than 1, `G` is held. On the data's own mixture it
/// starts at the exact diagonal, held likewise.
#[test]
fn second_moments_are_learned() {
    let model = on_chain(Base::standard(3), Parametrization::SecondMoment);
    let x0 = rows(2000).to_kind(Kind::Double);
    let t: Vec<f64> = (0..2000).map(|i| (i % 20 + 1) as f64 / 20.0).collect();
    let times = Times::each(t);
    let (alpha, sigma) = times.marginal(model.space().schedule(), Device::Cpu);
    let z = Noise::new(Seed(8), 0..2000).normal(3, Kind::Double, Device::Cpu);
    let x = x0 * &alpha + z * &sigma;
    let exact = mixture().moments(&x, model.space().schedule(), &times);
    let x = x.to_kind(Kind::Float);
    let q = Query::new(&x, &times);
    let exact_start = on_chain(Base::Mixture(mixture()), Parametrization::SecondMoment).moments(&q);
    // between the mixture's modes the exact G is beyond 1
    assert!(largest(exact_start.cov.diagonal() - exact.cov.diagonal().clamp(0.0, 1.0)) < 1e-4);

    let error = || {
        let gap = model.moments(&q).second_moment() - exact.second_moment();
        gap.square().mean(Kind::Double).sqrt().double_value(&[])
    };
    let at_start = error();
    let target = Target::SecondMoment;
    train(
        &model,
        &ObjectiveConfig::CovarianceMatching {
            target,
            time: TimeDistribution::Uniform,
            draws: 1,
            probes: 1,
        },
        400,
    );
    let trained = error();
    println!("{at_start} {trained}");
    assert!(trained < 0.5 * at_start, "{at_start} {trained}");
    let found = model.moments(&q);
    let free = found.second_moment() - found.noise.square();
    let held = found.cov.diagonal();
    assert!(
        free.min().double_value(&[]) < 0.0 && free.max().double_value(&[]) > 1.0,
        "nothing had to be held"
    );
    assert!(largest(held - free.clamp(0.0, 1.0)) < 1e-5);
}

/// I-DDPM's variances on an exact score: the trained bound of the chain lies above that of the
/// middle by far more than its error, and not above that of the exact diagonals, the best that a
/// diagonal can be.
#[test]
fn variances_between_the_two_are_learned() {
    let model = on_chain(Base::Mixture(mixture()), Parametrization::Interpolation);
    let x = rows(4000);
    let grid = even_trajectory(model.space().schedule(), 20).unwrap();
    let bound = |model: &dyn Denoiser, x: &Tensor, covariance: &dyn Covariance| {
        let elbo = Elbo::new(Reverse::new(model, covariance, 1.0).unwrap(), grid.clone(), 1);
        elbo.log_likelihood(&Batch::of(x), Seed(6), 0).unwrap().values
    };
    let gap = |a: &[f64], b: &[f64]| {
        mean_and_error(&a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<_>>())
    };
    let at_start = bound(&model, &x, &Interpolated);
    train(
        &model,
        &ObjectiveConfig::VariationalBound { draws: 2, steps: StepDistribution::Analytic },
        400,
    );
    let trained = bound(&model, &x, &Interpolated);
    let oracle = Oracle::new(mixture(), model.space().schedule.clone());
    let best = bound(&oracle, &x.to_kind(Kind::Double), &Diagonal);
    let (gained, error) = gap(&trained, &at_start);
    let (missing, its_error) = gap(&best, &trained);
    println!("gained {gained} ± {error}, missing {missing} ± {its_error}");
    assert!(gained > 10.0 * error, "{gained} ± {error}");
    assert!(
        missing > -4.0 * its_error && missing < 0.5 * gained,
        "{missing} ± {its_error} of {gained}"
    );
}

/// Decay shrinks what is trained, the head's parameters, and leaves the frozen score its bits; with
/// a step size too small to do much else, by `1 − ηλ = 0.99` a step.
#[test]
fn weight_decay_is_of_what_is_trained() {
    let (steps, decay) =
        (StepDistribution::Analytic, TrainConfig { weight_decay: 1e4, ..TrainConfig::default() });
    let model = on_chain(Base::Mixture(mixture()), Parametrization::Interpolation);
    let before = model.parameters().flat().copy();
    let config = TrainConfig {
        iterations: 50,
        batch_size: 50,
        learning_rate: 1e-6,
        decay: false,
        warm_up: 0,
        ..decay
    };
    let objective = ObjectiveConfig::VariationalBound { draws: 1, steps }.build().unwrap();
    let (data, mut state) = (TensorRows::new(rows(500)), State::new(&model));
    let trainer = Trainer::new(config);
    trainer.fit(&model, &*objective, &data, None, Seed(5), &mut state, &mut Silent).unwrap();
    let (score, all) = (model.score_size(), before.size()[0]);
    let of = |x: &Tensor, start, length| x.narrow(0, start, length);
    assert!(of(&state.parameters, 0, score).equal(&of(&before, 0, score)));
    let expected = of(&before, score, all - score) * 0.99f64.powi(50);
    let gap = largest(of(&state.parameters, score, all - score) - expected);
    assert!(gap < 60.0 * 1e-6, "{gap}");
    let wrong = TrainConfig { weight_decay: -0.1, ..TrainConfig::default() };
    assert_eq!(wrong.check().unwrap_err().option(), Some("train.weight_decay"));
}

/// A training whose steps are drawn by their own last losses, cut after every 30 steps and gone on
/// with by another objective, ends in the same bits; without what it keeps it does not.
#[test]
fn losses_of_steps_are_part_of_the_state() {
    let objective =
        ObjectiveConfig::VariationalBound { draws: 2, steps: StepDistribution::LossAware };
    let data = TensorRows::new(rows(500));
    let trained = |parts: u64, keep: bool| {
        let model = on_chain(Base::Mixture(mixture()), Parametrization::Interpolation);
        let mut state = State::new(&model);
        for part in 1..=parts {
            let config = TrainConfig {
                iterations: 120 * part / parts,
                batch_size: 50,
                decay: false,
                ..TrainConfig::default()
            };
            state.memory = state.memory.filter(|_| keep);
            let (built, seed) = (objective.build().unwrap(), Seed(5));
            let trainer = Trainer::new(config);
            trainer.fit(&model, &*built, &data, None, seed, &mut state, &mut Silent).unwrap();
        }
        state.parameters
    };
    let whole = trained(1, true);
    assert!(trained(4, true).equal(&whole));
    assert!(!trained(4, false).equal(&whole));
}

/// A head that gives another quantity than a matrix is diagonal, and belongs to its objective.
#[test]
fn heads_belong_to_their_objectives() {
    let head = |rank, parametrization| HeadConfig {
        structure: Structure::LowRank(rank),
        parametrization,
        ..HeadConfig::default()
    };
    let matching = |target| ObjectiveConfig::CovarianceMatching {
        target,
        time: TimeDistribution::Uniform,
        draws: 1,
        probes: 1,
    };
    let (sn, npr, iddpm) = (
        matching(Target::SecondMoment),
        matching(Target::Residual),
        ObjectiveConfig::VariationalBound { draws: 1, steps: StepDistribution::Analytic },
    );
    let (second, between) = (Parametrization::SecondMoment, Parametrization::Interpolation);
    sn.check_head(&head(0, second)).unwrap();
    iddpm.check_head(&head(0, between)).unwrap();
    for (objective, head, word) in [
        (&sn, head(1, second), "rank"),
        (&iddpm, head(2, between), "rank"),
        (&npr, head(0, second), "sn"),
        (&sn, head(0, between), "iddpm"),
        (&iddpm, head(0, Parametrization::Posterior), "interpolation"),
    ] {
        let message = objective.check_head(&head).unwrap_err().to_string();
        assert!(message.contains(word), "no '{word}' in: {message}");
    }
}

/// The network for tables as `train` makes it, scaled by the base's covariance: before training it
/// is its base; in parts it is what it is as a whole; it drops in training only, by the seed.
#[test]
fn a_network_scaled_by_the_covariance_is_its_base_and_drops_in_training_only() {
    let network = MlpConfig {
        form: Form::Direct,
        width: 16,
        head_trunk: HeadTrunk::Separate,
        dropout: 0.5,
        ..MlpConfig::default()
    };
    let config = ModelConfig {
        network: NetworkConfig::Mlp(network),
        preconditioning: Preconditioning::Covariance,
        ..ModelConfig::default()
    };
    let head = Some(HeadConfig { structure: Structure::LowRank(2), ..HeadConfig::default() });
    let config = ModelConfig { head, ..config };
    let schedule = Arc::new(Vp::default());
    let model =
        config.init(Base::Mixture(mixture()), schedule.clone(), Device::Cpu, Seed(1)).unwrap();
    let size = config.size(&*schedule, 3).unwrap();
    assert_eq!(size, model.parameters().size());
    let x = rows(6);
    for times in [Times::All(0.3), Times::each(vec![1e-4, 0.01, 0.1, 0.3, 0.7, 1.0])] {
        let q = Query::new(&x, &times);
        let of_base = mixture().noise(&x.to_kind(Kind::Double), &*schedule, &times);
        assert!(largest(model.noise(&q) - of_base) < 1e-5);
    }

    let p = model.parameters();
    p.assign(&(p.flat() + 0.05));
    let times = Times::each(vec![1e-4, 0.01, 0.1, 0.3, 0.7, 1.0]);
    let q = Query::new(&x, &times);
    let split = model.split().unwrap();
    let (known, _) = (split.known)(&q);
    let whole = known + (split.correction)(&q);
    assert!(largest(model.noise(&q) - whole) < 1e-5);

    let run = |dropout| {
        let mode = Mode { dropout, ..Mode::default() };
        model.in_mode(mode).unwrap().noise(&q)
    };
    assert_eq!(run(None), model.noise(&q));
    assert_eq!(run(Some(Seed(1))), run(Some(Seed(1))));
    assert_ne!(run(Some(Seed(1))), run(Some(Seed(2))));
    assert_ne!(run(Some(Seed(1))), run(None));

    for dropout in [-0.1, 1.0, f64::NAN] {
        let network = NetworkConfig::Mlp(MlpConfig { dropout, ..MlpConfig::default() });
        let wrong = network.check().unwrap_err();
        assert_eq!(wrong.option(), Some("model.network.dropout"));
    }
    let wrong = TrainConfig { beta2: 1.0, ..TrainConfig::default() };
    assert_eq!(wrong.check().unwrap_err().option(), Some("train.beta2"));
}
