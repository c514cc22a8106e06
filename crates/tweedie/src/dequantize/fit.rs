//! Training a variational dequantiser.

use tch::{Tensor, no_grad};

use super::Variational;
use super::variational::Points;
use crate::data::Dataset;
use crate::grid::TimeLaw;
use crate::model::Denoiser;
use crate::noise::{Noise, Seed};
use crate::objective::{DenoisingScoreMatching, Objective, Weighting};
use crate::tensor::squared_norm;
use crate::train::{Adam, Order, TrainConfig};
use crate::{Error, Result};

/// A frozen model, given the classes of a batch where it is conditioned on any.
pub type ModelOf<'m> = dyn Fn(Option<&[u32]>) -> Box<dyn Denoiser + 'm> + 'm;

/// Steps between reports.
const REPORT_EVERY: u64 = 50;

/// ScoreFlow's bound (Theorem 3, in its DSM form) on `ln p(y)` up to a constant, from `draws` pairs
/// (t, ε), `[b]`; differentiable in `y`. [`crate::likelihood::ScoreMatchingBound`] is the same with
/// its constants.
fn bound(model: &dyn Denoiser, y: &Tensor, draws: usize, noise: &mut Noise) -> Tensor {
    let schedule = &**model.schedule();
    let (first, last) = (schedule.epsilon(), schedule.horizon());
    let path =
        DenoisingScoreMatching { weighting: Weighting::Likelihood, time: TimeLaw::LogSnr, draws };
    let path = path.loss(model, y, noise) * (0.5 * (last - first));
    let z = noise.normal(model.dim() as usize, y.kind(), y.device());
    let at_first = y * schedule.alpha(first) + &z * schedule.sigma(first);
    let truncation = squared_norm(&(model.noise(&at_first, &vec![first; noise.len()]) - z)) * 0.5;
    let prior = squared_norm(y) * (0.5 * schedule.alpha(last).powi(2) / schedule.sigma2(last));
    -(prior + path + truncation)
}

impl Variational {
    /// Maximises `E[bound(y) − ln q(y|x)]` over the levels `rows` of `table`, the model being
    /// frozen (ScoreFlow, §6): by Adam with `config`'s iterations, batch size, step sizes, clipping
    /// and moving average, `draws` pairs (t, ε) per row. The parameters are the moving average in
    /// the end. `report` is told the steps done and the mean loss of the last, nats per row up to a
    /// constant.
    ///
    /// # Errors
    /// If the loss is not finite.
    ///
    /// # Panics
    /// If there is no row.
    pub fn fit(
        &self,
        table: &Dataset,
        rows: &[usize],
        model: &ModelOf,
        draws: usize,
        config: &TrainConfig,
        seed: Seed,
        report: &mut dyn FnMut(u64, f64),
    ) -> Result<()> {
        config.check()?;
        Error::check_count("draws", draws, 10_000)?;
        assert!(!rows.is_empty(), "rows to fit a dequantiser to");
        let parameters = self.parameters();
        let mut order = Order::new(rows.len(), config.batch_size, seed.derive("order"));
        let (mut first, mut second) =
            (parameters.flat().zeros_like(), parameters.flat().zeros_like());
        let mut average = parameters.flat().copy();
        let mut losses = Vec::new();
        for iteration in 0..config.iterations {
            let batch: Vec<usize> = order.batch(iteration).into_iter().map(|i| rows[i]).collect();
            let start = iteration * batch.len() as u64;
            let mut noise = Noise::new(seed.derive("noise"), start..start + batch.len() as u64);
            let levels: Vec<f32> = table.gather(&batch);
            let classes =
                table.labels.as_ref().map(|l| batch.iter().map(|&row| l.of_rows[row]).collect());
            let model = model(classes.as_ref().map(|classes: &Vec<u32>| &classes[..]));
            let Points { y, log_q } = self.draw(&levels, &mut noise);
            let y = y.to_kind(model.kind()).to_device(model.device());
            let bound = bound(&*model, &y, draws, &mut noise).to_device(log_q.device());
            let loss = (log_q - bound.to_kind(tch::Kind::Float)).mean(None);
            let gradient = parameters.gradient(&loss, 0, parameters.size());
            losses.push(loss.double_value(&[]));
            no_grad(|| {
                let gradient =
                    &gradient * (gradient.norm().reciprocal() * config.clip).clamp_max(1.0);
                let rate = config.learning_rate_at(iteration, 0.0);
                let mut flat = parameters.flat().shallow_clone();
                Adam::default().step(
                    &mut flat,
                    &mut first,
                    &mut second,
                    &gradient,
                    iteration,
                    rate,
                );
                let n = iteration as f64;
                let _ =
                    average.lerp_(parameters.flat(), 1.0 - config.ema.min((1.0 + n) / (10.0 + n)));
            });
            if (iteration + 1) % REPORT_EVERY == 0 || iteration + 1 == config.iterations {
                let mean = losses.iter().sum::<f64>() / losses.len() as f64;
                if !mean.is_finite() {
                    return Err(Error::numeric(
                        format!(
                            "the dequantiser diverged before iteration {}: its loss is not finite",
                            iteration + 1
                        ),
                        "lower --learning-rate, or check the data for extreme values",
                    ));
                }
                report(iteration + 1, mean);
                losses.clear();
            }
        }
        parameters.assign(&average);
        Ok(())
    }
}
