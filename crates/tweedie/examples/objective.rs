//! An objective of one's own, from outside the library: score matching with an absolute error,
//! which a few wild rows move less than a squared one. The library's trainer minimises it.
//!
//!     cargo run --release --example objective

use tch::{Device, Kind, Tensor};
use tweedie::Result;
use tweedie::likelihood::{LogLikelihood, ScoreMatchingBound};
use tweedie::model::{Base, Denoiser, MlpConfig, ModelConfig, NetworkConfig};
use tweedie::noise::{Draw, Noise, Seed};
use tweedie::objective::{Objective, Trains};
use tweedie::oracle::GaussianMixture;
use tweedie::query::{Batch, Query, Times};
use tweedie::schedule::ScheduleConfig;
use tweedie::train::{Silent, State, TensorRows, TrainConfig, Trainer};

/// `E_t ‖ε̂(x_t) − ε‖₁`, one draw of (t, ε) per row.
struct AbsoluteError;

impl Objective for AbsoluteError {
    fn loss(&self, model: &dyn Denoiser, batch: &Batch, noise: &mut Noise) -> Tensor {
        let (space, x0) = (model.space(), &batch.x);
        let schedule = space.schedule();
        let t = noise.uniform(1).into_iter().map(|u| schedule.importance_time(u)).collect();
        let times = Times::each(t);
        let z = noise.normal(space.dim as usize, x0.kind(), x0.device());
        let (alpha, sigma) = times.marginal(schedule, x0.device());
        let x = x0 * &alpha + &z * &sigma;
        let q = Query::new(&x, &times).given(batch.condition.as_ref());
        (model.noise(&q) - z).abs().sum_dim_intlist([1i64].as_slice(), false, None::<Kind>)
    }

    fn draws(&self) -> usize {
        1
    }

    /// What the loss draws, in its order: it is drawn ahead of the training loop.
    fn noise(&self, dim: usize) -> Vec<Draw> {
        vec![Draw::Uniform(1), Draw::Normal(dim)]
    }

    fn trains(&self) -> Trains {
        Trains::Score
    }
}

fn main() -> Result<()> {
    let data = GaussianMixture::new(&[0.5, 0.5], &[[-1.0, 0.5], [1.0, -0.5]], &[0.3, 0.3])?;
    let (train, test) = (data.sample(2000, Seed(0)), data.sample(1000, Seed(1)));
    let network = NetworkConfig::Mlp(MlpConfig { width: 32, depth: 2, ..MlpConfig::default() });
    let config = ModelConfig { network, head: None, ..ModelConfig::default() };
    let schedule = ScheduleConfig::default().build()?;
    let model = config.init(Base::standard(2), schedule, Device::Cpu, Seed(2))?;
    let bound = || -> Result<f64> {
        let rows = Batch::of(&model.space().place(&test));
        Ok(ScoreMatchingBound::new(&model, 20).log_likelihood(&rows, Seed(3), 0)?.mean())
    };

    let before = bound()?;
    let config = TrainConfig { iterations: 400, batch_size: 256, ..TrainConfig::default() };
    let rows = TensorRows::new(train.to_kind(Kind::Float));
    let mut state = State::new(&model);
    let trainer = Trainer::new(config);
    trainer.fit(&model, &AbsoluteError, &rows, None, Seed(4), &mut state, &mut Silent)?;
    let after = bound()?;

    let exact = data.log_density(&test).mean(None).double_value(&[]);
    println!("bound {before:.3} before training, {after:.3} after; ln p = {exact:.3} nats per row");
    assert!(after > before);
    Ok(())
}
