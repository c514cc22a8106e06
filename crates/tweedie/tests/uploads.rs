//! What is copied to a device in a step of sampling and of training, counted where every copy goes
//! through; on the CPU the count is the same.

use std::sync::Arc;

use tch::{Device, Kind, Tensor};
use tweedie::covariance::{Covariance, CovarianceConfig};
use tweedie::grid::{PathGrid, TimeDistribution};
use tweedie::model::{
    Base, Denoiser, DitConfig, HeadConfig, HeadStart, Model, ModelConfig, NetworkConfig,
    Parametrization, UNetConfig,
};
use tweedie::noise::{Noise, Seed};
use tweedie::objective::{
    LikelihoodMatching, LmForm, ObjectiveConfig, ScoreGradient, StepDistribution, Target, Weighting,
};
use tweedie::oracle::GaussianMixture;
use tweedie::query::{Batch, Condition, Query, Times};
use tweedie::sample::{
    Ancestral, DpmSolver, EulerMaruyama, Heun, LastStep, PredictorCorrector, Step,
};
use tweedie::schedule::Vp;
use tweedie::tensor::uploads_of;

const ROWS: u64 = 6;
const CLASSES: i64 = 3;

/// A table's model on a mixture, and an image's on classes, with such a head.
fn models(head: Option<HeadConfig>) -> [Model; 3] {
    let make = |network, base| {
        let config = ModelConfig { network, head, ..ModelConfig::default() };
        let mut model = config.init(base, Arc::new(Vp::default()), Device::Cpu, Seed(1)).unwrap();
        let rows =
            Noise::new(Seed(2), 0..20).normal(model.space().dim as usize, Kind::Float, Device::Cpu);
        if model.classes() == 0 {
            let rows = Batch::of(&rows);
            let measured =
                tweedie::covariance::NoiseStatistics::measure(&model, &rows, 5, 20, Seed(3));
            model.set_noise_statistics(measured.unwrap());
        }
        model
    };
    let mixture = GaussianMixture::new(
        &[0.4, 0.6],
        &[[0.0, 1.0, 0.0, 0.5], [1.0, -1.0, 0.2, 0.0]],
        &[0.5; 2],
    );
    let unet = UNetConfig {
        shape: [1, 4, 4],
        widths: vec![8, 8],
        attention: vec![false, true],
        blocks: 1,
        groups: 4,
        classes: CLASSES,
        ..UNetConfig::default()
    };
    let dit = DitConfig {
        shape: [1, 4, 4],
        patch: 2,
        width: 8,
        blocks: 1,
        heads: 2,
        classes: CLASSES,
        ..DitConfig::default()
    };
    [
        make(NetworkConfig::default(), Base::Mixture(mixture.unwrap())),
        make(NetworkConfig::UNet(unet), Base::standard(16)),
        make(NetworkConfig::Dit(dit), Base::standard(16)),
    ]
}

fn condition(model: &Model) -> Option<Condition> {
    (model.classes() > 0).then(|| {
        let classes: Vec<u32> = (0..ROWS as u32).map(|row| row % CLASSES as u32).collect();
        Condition::classes(&classes)
    })
}

fn rows(model: &Model) -> Tensor {
    Noise::new(Seed(4), 0..ROWS).normal(model.space().dim as usize, Kind::Float, Device::Cpu)
}

/// Uploads of the second of two steps: constants of a model go up once.
fn of_step(step: &dyn Step, model: &Model) -> u64 {
    let (x, condition) = (rows(model), condition(model));
    let mut noise = Noise::new(Seed(5), 0..ROWS);
    let mut at = |s: f64, t: f64| {
        let times = Times::All(t);
        let q = Query::new(&x, &times).given(condition.as_ref());
        uploads_of(|| tch::no_grad(|| step.step(&q, s, &mut noise)))
    };
    at(0.6, 0.8);
    at(0.3, 0.6)
}

/// An ancestral step uploads its noise, by every covariance (random signs are noise too); a step
/// without noise nothing.
#[test]
fn a_sampling_step_uploads_its_noise() {
    for model in models(Some(HeadConfig::default())) {
        let ancestral = |covariance: Box<dyn Covariance>| {
            Ancestral::new(&model, covariance, 1.0, LastStep::Noise).unwrap()
        };
        for config in CovarianceConfig::all() {
            let Ok(covariance) = model.covariance(config) else { continue };
            let expected = if let CovarianceConfig::Rademacher(_) = config { 2 } else { 1 };
            let found = of_step(&ancestral(covariance), &model);
            assert_eq!(found, expected, "{config}, {} columns", model.space().dim);
        }
        assert_eq!(of_step(&EulerMaruyama::new(&model), &model), 1);
        assert_eq!(of_step(&PredictorCorrector::new(&model, 1, 0.16).unwrap(), &model), 2);
        assert_eq!(of_step(&Heun::new(&model), &model), 0);
        assert_eq!(of_step(&DpmSolver::new(&model), &model), 0);
    }
    let head = HeadConfig::diagonal(Parametrization::Interpolation);
    for model in models(Some(head)) {
        let covariance = model.covariance(CovarianceConfig::Interpolated).unwrap();
        let step = Ancestral::new(&model, covariance, 1.0, LastStep::Noise).unwrap();
        assert_eq!(of_step(&step, &model), 1);
    }
}

/// With rows and noise staged, a step of training uploads one table of coefficients.
#[test]
fn a_training_step_uploads_one_table() {
    let time = TimeDistribution::LogSnr;
    let grid = PathGrid::Random;
    let lm = |form, score| {
        ObjectiveConfig::from(LikelihoodMatching { transitions: 3, form, time, grid, score })
    };
    let matching = |target| ObjectiveConfig::CovarianceMatching {
        target,
        time: TimeDistribution::Uniform,
        draws: 2,
        probes: 1,
    };
    let posterior = HeadConfig::default();
    let diagonal = HeadConfig::diagonal;
    let analytic = HeadConfig { start: HeadStart::Analytic, ..posterior };
    for (objective, head) in [
        (ObjectiveConfig::Sm { weighting: Weighting::Likelihood, time, draws: 2 }, posterior),
        (lm(LmForm::Marginal, ScoreGradient::Dsm), posterior),
        (lm(LmForm::Path, ScoreGradient::Joint), posterior),
        (matching(Target::Jacobian), posterior),
        (matching(Target::Jacobian), analytic),
        (matching(Target::Residual), diagonal(Parametrization::Posterior)),
        (matching(Target::SecondMoment), diagonal(Parametrization::SecondMoment)),
        (
            ObjectiveConfig::VariationalBound { draws: 2, steps: StepDistribution::LossAware },
            diagonal(Parametrization::Interpolation),
        ),
    ] {
        let built = objective.build().unwrap();
        for mut model in models(Some(head)) {
            if head.start == HeadStart::Analytic {
                let Some(statistics) = model.noise_statistics().cloned() else { continue };
                model.set_head_start(statistics);
            }
            let space = model.space();
            let batch = Batch::of(&rows(&model)).given(condition(&model));
            if let Some(condition) = &batch.condition {
                condition.class_tensor(CLASSES, space.device);
            }
            let step = |seed| {
                let mut noise = Noise::new(Seed(seed), 0..ROWS);
                noise.stage(&built.noise(space.dim as usize), space.kind, space.device);
                uploads_of(|| {
                    let loss = built.loss(&model, &batch, &mut noise).sum(Kind::Float);
                    model.parameters().gradient(&loss, 0, model.parameters().size())
                })
            };
            step(1);
            assert_eq!(step(2), 1, "{objective:?}, {} columns", space.dim);
        }
    }
}
