//! Fit, sample and score; the exact oracle can stand wherever the trained model does.
//!
//! `cargo run --release --example quickstart`

use std::sync::Arc;

use tch::{Device, Kind};
use tweedie::covariance::Own;
use tweedie::grid::Spacing;
use tweedie::likelihood::{LogLikelihood, ProbabilityFlow};
use tweedie::metric::Mmd;
use tweedie::model::{Base, BaseConfig, BaseKind, HeadConfig, ModelConfig, Structure};
use tweedie::noise::Seed;
use tweedie::objective::ObjectiveConfig;
use tweedie::oracle::{GaussianMixture, Oracle};
use tweedie::query::Batch;
use tweedie::sample::{Ancestral, LastStep, run_chain};
use tweedie::schedule::{Schedule, Vp};
use tweedie::train::{Silent, State, TensorRows, TrainConfig, Trainer};

fn main() -> tweedie::Result<()> {
    let truth = || GaussianMixture::new(&[0.5, 0.5], &[[-3.0], [3.0]], &[1.0, 1.0]);
    let schedule: Arc<dyn Schedule> = Arc::new(Vp::default());
    let train = truth()?.sample(5_000, Seed(0)).to_kind(Kind::Float);
    let test = truth()?.sample(1_000, Seed(1));

    // what the network corrects; a mixture would already be the answer here
    let config = BaseConfig { kind: BaseKind::Gaussian, ..BaseConfig::default() };
    let base = Base::fit(&config, &train, &train.narrow(0, 0, 0))?;
    let head = HeadConfig { structure: Structure::LowRank(0), ..HeadConfig::default() };
    let model = ModelConfig { head: Some(head), ..ModelConfig::default() }.init(
        base,
        schedule.clone(),
        Device::Cpu,
        Seed(2),
    )?;
    let trainer = Trainer {
        config: TrainConfig { iterations: 1000, batch_size: 256, ..TrainConfig::default() },
    };
    let objective = ObjectiveConfig::default().build()?;
    let mut state = State::new(&model);
    trainer.fit(
        &model,
        &*objective,
        &TensorRows::new(train),
        None,
        Seed(3),
        &mut state,
        &mut Silent,
    )?;

    let oracle = Oracle::new(truth()?, schedule.clone());
    let grid = Spacing::default().elbo_grid(&*schedule, 20);
    let fitted = Ancestral::new(&model, Own, 1.0, LastStep::Noise)?;
    let exact = Ancestral::new(&oracle, Own, 1.0, LastStep::Noise)?;
    let (fitted, exact) = (
        run_chain(&fitted, &grid, Seed(4), 0..2000, None)?,
        run_chain(&exact, &grid, Seed(4), 0..2000, None)?,
    );
    let mmd = |x: &tch::Tensor| {
        Ok::<_, tweedie::Error>(Mmd::default().against_mixture(&x.to_kind(Kind::Double), &truth()?))
    };
    println!(
        "MMD² in 20 steps: {:.5} fitted, {:.5} with the exact moments",
        mmd(&fitted)?,
        mmd(&exact)?
    );

    let rows = Batch::of(&test.to_kind(Kind::Float));
    let estimate = ProbabilityFlow::new(&model).log_likelihood(&rows, Seed(5), 0)?;
    let floor = truth()?.log_density(&test).mean(None).double_value(&[]);
    println!(
        "log-likelihood: {:.3} ± {:.3} nats; the truth's {floor:.3}",
        estimate.mean(),
        estimate.std_error()
    );
    Ok(())
}
