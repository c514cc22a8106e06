//! Models of rows of numbers and categories, of which some cells are given and others missing.

use std::sync::Arc;

use tch::{Device, Kind, Tensor};
use tweedie::covariance::{Own, Reverse};
use tweedie::grid::Spacing;
use tweedie::likelihood::{
    Elbo, LogLikelihood, ProbabilityFlow, ScoreMatchingBound, mean_and_error,
};
use tweedie::mixture::{MixedMixture, MixedParameters, MixtureParameters};
use tweedie::model::{
    Base, BaseConfig, Denoiser, HeadConfig, MlpConfig, Model, ModelConfig, NetworkConfig, Structure,
};
use tweedie::noise::{Noise, Seed};
use tweedie::objective::ObjectiveConfig;
use tweedie::query::{Batch, CellLayout, Cells, Condition, Query, Role, Times};
use tweedie::schedule::Vp;
use tweedie::tensor::to_vec;
use tweedie::train::{Rows, Silent, State, TrainConfig, Trainer, Validation};

fn mixture() -> MixedMixture {
    MixedMixture::from_parameters(&MixedParameters {
        numbers: MixtureParameters {
            weights: vec![0.45, 0.55],
            means: vec![vec![-0.8, 0.5, 0.9], vec![0.9, -0.2, -0.5]],
            covariances: vec![
                vec![0.5, 0.3, 0.1, 0.3, 0.6, -0.2, 0.1, -0.2, 0.5],
                vec![0.5, -0.2, 0.0, -0.2, 0.4, 0.1, 0.0, 0.1, 0.6],
            ],
        },
        categories: vec![3, 2],
        pmfs: vec![vec![0.7, 0.2, 0.1, 0.9, 0.1], vec![0.1, 0.3, 0.6, 0.35, 0.65]],
    })
    .unwrap()
}

fn layout() -> Arc<CellLayout> {
    Arc::new(mixture().layout().clone())
}

/// Complete rows of the mixture: numbers and codes.
fn complete(n: usize, seed: u64) -> (Vec<f64>, Vec<u32>) {
    let noise = &mut Noise::new(Seed(seed), 0..n as u64);
    mixture().complete(&Cells::nothing(layout(), n), noise)
}

/// An untrained model on the mixture.
fn model(structure: Structure) -> Model {
    let network =
        MlpConfig { width: 16, depth: 1, categories: Some(vec![3, 2]), ..Default::default() };
    let config = ModelConfig {
        network: NetworkConfig::Mlp(network),
        head: Some(HeadConfig { structure, ..HeadConfig::default() }),
        ..ModelConfig::default()
    };
    config.init(Base::Mixed(mixture()), Arc::new(Vp::default()), Device::Cpu, Seed(1)).unwrap()
}

/// Rows in whose questions each number has one of the three roles, and some categories are missing:
/// the cells, the rows `x_0`, and the exact `ln p(targets | given)`.
fn questions(n: usize) -> (Cells, Tensor, Vec<f64>) {
    let (numbers, mut codes) = complete(n, 4);
    let roles: Vec<Role> = (0..3 * n)
        .map(|i| match (i * 7 + i / 3) % 5 {
            0 | 3 => Role::Given,
            1 => Role::Absent,
            _ => Role::Target,
        })
        .collect();
    codes.iter_mut().enumerate().filter(|(i, _)| i % 7 == 0).for_each(|(_, c)| *c = Cells::MISSING);
    let known = |which: &dyn Fn(Role) -> bool| {
        let value = |(&x, &role): (&f64, &Role)| if which(role) { x } else { f64::NAN };
        let numbers = numbers.iter().zip(&roles).map(value).collect();
        to_vec(&mixture().log_density(&Cells::observed(layout(), numbers, codes.clone())))
    };
    let (both, given) = (known(&|r| r != Role::Absent), known(&|r| r == Role::Given));
    let exact = both.iter().zip(given).map(|(both, given)| both - given).collect();
    let x: Vec<f64> = numbers
        .iter()
        .zip(&roles)
        .map(|(&x, &r)| if r == Role::Target { x } else { 0.0 })
        .collect();
    let x = Tensor::from_slice(&x).view([n as i64, 3]).to_kind(Kind::Float);
    (Cells::new(layout(), numbers, roles, codes), x, exact)
}

/// What an untrained model says of every role is what its base says.
#[test]
fn an_untrained_model_is_its_base() {
    let (cells, x0, _) = questions(40);
    let times = Times::each((0..40).map(|i| 0.02 + 0.02 * i as f64).collect());
    let noise = Noise::new(Seed(2), 0..40).normal(3, Kind::Float, Device::Cpu);
    let (alpha, sigma) = times.marginal(&Vp::default(), Device::Cpu);
    let x = x0 * &alpha + noise * &sigma;
    let exact = mixture().moments(&x.to_kind(Kind::Double), &Vp::default(), &times, &cells, true);
    let condition = Condition::cells(cells);
    for (structure, tolerance) in [(Structure::Full, 3e-2), (Structure::LowRank(0), 1e-4)] {
        let q = Query::new(&x, &times).given(Some(&condition));
        let found = model(structure).moments(&q);
        let gap = (found.noise - &exact.noise).abs().max().double_value(&[]);
        assert!(gap < 1e-4, "{gap}");
        let (found, expected) = match structure {
            Structure::Full => (found.cov.to_dense(), exact.cov.to_dense()),
            _ => (found.cov.diagonal(), exact.cov.diagonal()),
        };
        let gap = (found - expected).abs().max().double_value(&[]);
        assert!(gap < tolerance, "{structure:?}: {gap}");
    }
}

/// Likelihoods are of targets given the rest: the flow's is the mixture's conditional density, and
/// the bounds are below it, by no more than they are where everything is a target.
#[test]
fn likelihoods_are_of_targets_given_the_rest() {
    let n = 60;
    let (cells, x, exact) = questions(n);
    let batch = Batch::of(&x).given(Some(Condition::cells(cells)));
    let model = model(Structure::Full);
    let flow = ProbabilityFlow::new(&model);
    let found = flow.of_targets(&batch, Seed(1), 0).unwrap();
    for (i, (found, exact)) in found.values.iter().zip(&exact).enumerate() {
        assert!((found - exact).abs() < 0.02, "row {i}: {found} {exact}");
    }
    let grid = Spacing::default().elbo_grid(&Vp::default(), 200);
    let elbo = Elbo::new(Reverse::new(&model, Own, 1.0).unwrap(), grid, 4);
    let bound = ScoreMatchingBound::new(&model, 400);
    for (estimator, name) in [(&elbo as &dyn LogLikelihood, "ELBO"), (&bound, "bound")] {
        let found = estimator.in_batches(&batch, Seed(1), 32, &mut |_| Ok(())).unwrap();
        let gaps: Vec<f64> =
            found.values.iter().zip(&exact).map(|(found, exact)| exact - found).collect();
        let (gap, error) = mean_and_error(&gaps);
        assert!(gap > -4.0 * error && gap < 0.1 + 4.0 * error, "{name}: {gap} ± {error}");
    }
}

/// Rows of which half of the numbers are targets and the others given.
struct Questions {
    numbers: Vec<f64>,
    codes: Vec<u32>,
}

impl Questions {
    fn cells(&self, rows: &[usize]) -> Cells {
        let pick = |k: usize| rows.iter().map(move |&row| (row, k));
        let numbers: Vec<f64> =
            rows.iter().flat_map(|&r| self.numbers[3 * r..3 * r + 3].to_vec()).collect();
        let roles = (0..3 * rows.len())
            .map(|i| if rows[i / 3] % 3 == i % 3 { Role::Given } else { Role::Target })
            .collect();
        let codes =
            pick(0).flat_map(|(row, _)| self.codes[2 * row..2 * row + 2].to_vec()).collect();
        Cells::new(layout(), numbers, roles, codes)
    }
}

impl Rows for Questions {
    fn len(&self) -> usize {
        self.codes.len() / 2
    }

    fn gather(&self, rows: &[usize], _: &mut Noise, (kind, device): (Kind, Device)) -> Tensor {
        let cells = self.cells(rows);
        let numbers = rows.iter().flat_map(|&r| self.numbers[3 * r..3 * r + 3].to_vec());
        let x: Vec<f64> = numbers
            .zip(cells.roles())
            .map(|(x, &role)| if role == Role::Target { x } else { 0.0 })
            .collect();
        Tensor::from_slice(&x).view([-1, 3]).to_kind(kind).to_device(device)
    }

    fn batch(&self, rows: &[usize], noise: &mut Noise, place: (Kind, Device)) -> Batch {
        let condition = Condition::cells(self.cells(rows));
        Batch::of(&self.gather(rows, noise, place)).given(Some(condition))
    }
}

/// On a base that knows nothing of how numbers and categories belong together, a network learns it:
/// the bound of the targets given the rest comes nearer to the truth.
#[test]
fn a_network_learns_what_is_given() {
    let (numbers, codes) = complete(4000, 7);
    let rows = Questions { numbers, codes };
    let cells =
        |rows: &Questions| Cells::observed(layout(), rows.numbers.clone(), rows.codes.clone());
    let one = BaseConfig { components: vec![1], ..BaseConfig::default() };
    let base = Base::fit_mixed(&one, &cells(&rows), &cells(&rows), &Default::default()).unwrap();
    let network =
        MlpConfig { width: 32, depth: 2, categories: Some(vec![3, 2]), ..Default::default() };
    let config = ModelConfig {
        network: NetworkConfig::Mlp(network),
        head: Some(HeadConfig { structure: Structure::Full, ..HeadConfig::default() }),
        ..ModelConfig::default()
    };
    let model = config.init(base, Arc::new(Vp::default()), Device::Cpu, Seed(1)).unwrap();
    let (numbers, codes) = complete(400, 8);
    let held_out = Questions { numbers, codes };
    let all: Vec<usize> = (0..400).collect();
    let batch = held_out.batch(&all, &mut Noise::new(Seed(1), 0..400), (Kind::Float, Device::Cpu));
    let validation = Validation::new(&batch.x, Seed(3)).given(batch.condition);
    let (before, _) = validation.bound(&model).unwrap();
    let train =
        TrainConfig { iterations: 400, batch_size: 128, learning_rate: 3e-3, ..Default::default() };
    let objective = ObjectiveConfig::default().build().unwrap();
    let mut state = State::new(&model);
    Trainer::new(train)
        .fit(&model, &*objective, &rows, None, Seed(5), &mut state, &mut Silent)
        .unwrap();
    model.parameters().assign(state.product());
    let (after, error) = validation.bound(&model).unwrap();
    let known = |given: bool| {
        let cells = held_out.cells(&all);
        let numbers = held_out.numbers.iter().zip(cells.roles());
        let value = |(&x, &r): (&f64, &Role)| if given && r == Role::Target { f64::NAN } else { x };
        let cells = Cells::observed(layout(), numbers.map(value).collect(), held_out.codes.clone());
        mixture().log_density(&cells).mean(Kind::Double).double_value(&[])
    };
    let truth = known(false) - known(true);
    assert!(before < truth - 0.15, "{before} {truth}");
    assert!(after > before + 0.5 * (truth - before), "{before} {after} ± {error} {truth}");
}
