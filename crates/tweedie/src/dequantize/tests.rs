use std::sync::Arc;

use crate::query::Batch;
use tch::Device;

use super::*;
use crate::data::{Column, ColumnKind, ColumnScaling, Dataset, Grid, ScaledColumn};
use crate::likelihood::{
    Divergence, LogLikelihood, ProbabilityFlow, log_normal_between, mean_and_error,
};
use crate::model::Denoiser;
use crate::noise::Seed;
use crate::oracle::{GaussianMixture, Oracle};
use crate::schedule::{Schedule, SubVp, Vp};
use crate::tensor::{sum_last, to_vec};
use crate::train::TrainConfig;

/// Two columns of levels, with bins of 1 and ½, and one of real numbers, brought to the network's
/// units by these.
const SHIFT: f64 = 0.2;
const SCALE: f64 = 1.6;
const BINS: [f64; 3] = [1.0, 0.5, 0.0];

fn scaling() -> Scaling {
    let column = |bin: f64| ScaledColumn {
        column: Column { name: format!("bins of {bin}"), kind: ColumnKind::Float },
        grid: (bin > 0.0).then_some(Grid { bin, origin: 0.0 }),
        map: ColumnScaling::Affine { shift: SHIFT, scale: SCALE },
    };
    Scaling::Columns(BINS.map(column).to_vec())
}

/// Two components in the data's units, of standard deviation 0.45: bins are wide.
const WEIGHTS: [f64; 2] = [0.6, 0.4];
const MEANS: [[f64; 3]; 2] = [[-1.2, 0.9, -0.4], [1.4, -0.3, 1.1]];
const DEVIATION: f64 = 0.45;

/// The data's distribution in the network's units.
fn oracle(schedule: Arc<dyn Schedule>) -> Oracle {
    let means = MEANS.map(|mean| mean.map(|m| (m - SHIFT) / SCALE));
    Oracle::new(GaussianMixture::new(&WEIGHTS, &means, &[DEVIATION / SCALE; 2]).unwrap(), schedule)
}

/// Rows of that distribution, the first two columns rounded to their grids.
fn levels(rows: usize) -> Vec<f32> {
    let x = oracle(Arc::new(Vp::default())).mixture.sample(rows, Seed(1)) * SCALE + SHIFT;
    let round = |(i, v): (usize, f64)| match BINS[i % 3] {
        0.0 => v as f32,
        bin => (bin * (v / bin).round()) as f32,
    };
    to_vec(&x).into_iter().enumerate().map(round).collect()
}

/// `ln [P(levels)/Π bin] + ln p(reals | levels)` of the distribution with `noise` added to its
/// variance, by the normal distribution function, in the data's units.
fn exact(levels: &[f32], noise: f64) -> Vec<f64> {
    let x = Tensor::from_slice(levels).view([-1, 3]).to_kind(Kind::Double);
    let deviation = (DEVIATION.powi(2) + noise).sqrt();
    let components: Vec<Tensor> = WEIGHTS
        .iter()
        .zip(MEANS)
        .map(|(weight, mean)| {
            let z = (&x - Tensor::from_slice(&mean)) / deviation;
            let half = Tensor::from_slice(&BINS) * (0.5 / deviation);
            let bins = log_normal_between(&(&z - &half), &(&z + &half)).narrow(1, 0, 2);
            let real =
                z.select(1, 2).square() * -0.5 - 0.5 * crate::gaussian::LN_2PI - deviation.ln();
            sum_last(&bins) + real + weight.ln()
        })
        .collect();
    let total = Tensor::stack(&components, 1).logsumexp([1i64].as_slice(), false);
    to_vec(&(total - scaling().log_bins()))
}

/// Each row's `ln p + offset − exact`, with `ln p` of these rows.
fn gaps(log_p: &[f64], drawn: &Dequantized, exact: &[f64]) -> Vec<f64> {
    log_p
        .iter()
        .zip(&drawn.offsets)
        .zip(exact)
        .map(|((p, offset), exact)| p + offset - exact)
        .collect()
}

/// `E[exp(ln p − ln q)]` is the probability of the levels for any `q` that fills their bins: within
/// four standard errors. The mean of the gap, `−KL(q ‖ p(·|x))`, is at most 0, within three.
/// Returns that mean and its error.
fn judge(name: &str, gaps: &[f64]) -> (f64, f64) {
    let ratios: Vec<f64> = gaps.iter().map(|gap| gap.exp()).collect();
    let (ratio, ratio_error) = mean_and_error(&ratios);
    let (mean, error) = mean_and_error(gaps);
    println!("{name}: gap {mean:.4} ± {error:.4}, ratio {ratio:.4} ± {ratio_error:.4}");
    assert!((ratio - 1.0).abs() < 4.0 * ratio_error, "{name}: {ratio} ± {ratio_error}");
    assert!(mean < 3.0 * error, "{name}: {mean} ± {error}");
    (mean, error)
}

/// Under the distribution that the levels were rounded from, whose probabilities are known: both
/// bound, and what was learned by the score-matching bound of the frozen score recovers most of
/// what uniform noise loses.
#[test]
fn uniform_and_variational_bound_and_training_helps() {
    let (scaling, levels) = (scaling(), levels(6000));
    let vp: Arc<dyn Schedule> = Arc::new(Vp::default());
    let model = oracle(vp.clone());
    let exact = exact(&levels, 0.0);
    let gap = |name: &str, dequantizer: &dyn Dequantizer| {
        let drawn = dequantizer.dequantize(&levels, &mut Noise::new(Seed(2), 0..6000));
        judge(name, &gaps(&to_vec(&model.mixture.log_density(&drawn.rows)), &drawn, &exact))
    };
    let (uniform, error) = gap("uniform", &Uniform::new(&scaling));
    assert!(uniform < -10.0 * error, "bins so wide must cost something");

    let config = VariationalConfig { width: 24, ..VariationalConfig::default() };
    let learned = config.init(&scaling, None, Device::Cpu, Seed(3)).unwrap();
    gap("untrained", &learned);
    let columns = scaling.columns().iter().map(|c| c.column.clone()).collect();
    let table = Dataset::new(columns, levels.clone()).unwrap();
    let training = TrainConfig {
        iterations: 400,
        batch_size: 128,
        learning_rate: 5e-3,
        warm_up: 20,
        ..TrainConfig::default()
    };
    let rows: Vec<usize> = (0..6000).collect();
    let frozen = oracle(vp.clone());
    learned.fit(&table, &rows, &frozen, 4, &training, Seed(4)).unwrap();
    let (variational, _) = gap("variational", &learned);
    assert!(variational > 0.4 * uniform, "{variational} of {uniform} are left");
}

/// Images of 2 × 2 pixels around level 20.25 or level 199.75, standard deviation 0.15: both kinds
/// of steps learn where in its bin a level lies, and again most of what uniform noise loses is
/// recovered.
#[test]
fn convolutions_learn_from_images() {
    let (modes, deviation, rows) = ([20.25, 199.75], 0.15, 3000);
    let scaling = Scaling::Pixels(4);
    let model = || {
        let means = modes.map(|level| [(level - 127.5) / 127.5; 4]);
        let mixture = GaussianMixture::new(&[0.5, 0.5], &means, &[deviation / 127.5; 2]).unwrap();
        Oracle::new(mixture, Arc::new(Vp::default()))
    };
    let levels: Vec<f32> = scaling
        .inverse(&to_vec(&model().mixture.sample(rows, Seed(1))))
        .into_iter()
        .map(|level| level as f32)
        .collect();
    let x = Tensor::from_slice(&levels).view([-1, 4]).to_kind(Kind::Double);
    let in_mode = modes.map(|level| {
        let (below, above) = ((&x - 0.5 - level) / deviation, (&x + 0.5 - level) / deviation);
        sum_last(&log_normal_between(&below, &above)) + 0.5f64.ln()
    });
    let exact = to_vec(&in_mode[0].logaddexp(&in_mode[1]));
    let gap = |dequantizer: &dyn Dequantizer| {
        let drawn = dequantizer.dequantize(&levels, &mut Noise::new(Seed(2), 0..rows as u64));
        let log_p = to_vec(&model().mixture.log_density(&drawn.rows));
        let (mean, error) = mean_and_error(&gaps(&log_p, &drawn, &exact));
        assert!(mean < 3.0 * error, "{mean} ± {error}");
        mean
    };
    let uniform = gap(&Uniform::new(&scaling));
    let column = |name| Column { name, kind: ColumnKind::Integer };
    let columns = scaling.names().into_iter().map(column).collect();
    let table = Dataset::new(columns, levels.clone()).unwrap();
    let training = TrainConfig {
        iterations: 300,
        batch_size: 64,
        learning_rate: 1e-2,
        warm_up: 20,
        ..TrainConfig::default()
    };
    let all: Vec<usize> = (0..rows).collect();
    let frozen = model();
    for kind in [VariationalConfig::default(), VariationalConfig::usual(true)] {
        let config = VariationalConfig { width: 8, ..kind };
        let learned = config.init(&scaling, Some([1, 2, 2]), Device::Cpu, Seed(3)).unwrap();
        learned.fit(&table, &all, &frozen, 4, &training, Seed(4)).unwrap();
        let variational = gap(&learned);
        println!("{:?}: uniform {uniform:.3}, variational {variational:.3}", config.steps);
        assert!(variational > 0.4 * uniform, "{variational} of {uniform} are left");
    }
}

/// The flow from `τ` on truncated-normal points bounds the distribution at `τ`, whose probabilities
/// are known; for levels that a model has learned as they are it is close to the truth.
#[test]
fn truncated_normal_bounds_the_law_where_the_flow_stops() {
    let (scaling, levels) = (scaling(), levels(600));
    // by default a third of the smaller half bin, 0.25 in the data's units; then noise as wide as
    // the bins
    for (schedule, time, s) in [
        (Arc::new(Vp::default()) as Arc<dyn Schedule>, None, Some(0.25 / SCALE / 3.0)),
        (Arc::new(Vp::default()), Some(0.15), None),
        (Arc::new(SubVp::default()), Some(0.3), None),
    ] {
        let model = oracle(schedule.clone());
        let normal = TruncatedNormal::new(&scaling, &*schedule, time).unwrap();
        assert!(
            s.is_none_or(|s| (normal.deviation() / s - 1.0).abs() < 1e-9),
            "{}",
            normal.deviation()
        );
        let drawn = normal.dequantize(&levels, &mut Noise::new(Seed(5), 0..600));
        let flow = ProbabilityFlow::new(&model)
            .tolerance(1e-7, 1e-7)
            .and_then(|flow| flow.divergence(Divergence::Exact)?.from_time(normal.time().unwrap()))
            .unwrap();
        let estimate = flow.log_likelihood(&Batch::of(&drawn.rows), Seed(0), 0).unwrap();
        assert!(estimate.flags.is_empty(), "{:?}", estimate.flags);
        let noise = (normal.deviation() * SCALE).powi(2);
        let name = format!("truncated normal, {:.2} in the data's units", noise.sqrt());
        judge(&name, &gaps(&estimate.values, &drawn, &exact(&levels, noise)));
    }
}

/// Levels −1, 0, 1 with probabilities 0.2, 0.5, 0.3, known to a model to 1 % of a bin: `ln P`
/// within 0.003 nats, the share of the noise that a bin cuts off, and never more.
#[test]
fn truncated_normal_is_close_for_models_of_levels() {
    let (weights, places) = ([0.2, 0.5, 0.3], [[-1.0], [0.0], [1.0]]);
    let model = Oracle::new(
        GaussianMixture::new(&weights, &places, &[0.01; 3]).unwrap(),
        Arc::new(Vp::default()),
    );
    // whole numbers that the run took as they are
    let column = Column { name: "n".into(), kind: ColumnKind::Integer };
    let map = ColumnScaling::Affine { shift: 0.0, scale: 1.0 };
    let scaling = Scaling::Columns(vec![ScaledColumn { column, grid: None, map }]);
    let normal = TruncatedNormal::new(&scaling, model.space().schedule(), None).unwrap();
    let levels: Vec<f32> = (0..300).map(|i| (i % 3) as f32 - 1.0).collect();
    let drawn = normal.dequantize(&levels, &mut Noise::new(Seed(6), 0..300));
    let flow = ProbabilityFlow::new(&model)
        .tolerance(1e-7, 1e-7)
        .unwrap()
        .from_time(normal.time().unwrap())
        .unwrap();
    let values = flow.log_likelihood(&Batch::of(&drawn.rows), Seed(0), 0).unwrap().values;
    for (k, weight) in weights.iter().enumerate() {
        let of_level: Vec<f64> =
            (k..300).step_by(3).map(|i| values[i] + drawn.offsets[i]).collect();
        let (mean, error) = mean_and_error(&of_level);
        println!("level {k}: {mean:.5} ± {error:.5}, ln P = {:.5}", weight.ln());
        // the prior at T = 1 is N(0, σ_T²) and not the model's own: off by α_T E x = 7e-4 or so
        let gap = mean - weight.ln();
        assert!(gap < 3.0 * error + 1e-3 && gap > -3.0 * error - 0.005, "{gap} ± {error}");
    }
}

/// A point depends on its row and stream alone, lies in its bin, and comes back as its level.
#[test]
fn points_lie_in_their_bins_whatever_the_batch() {
    let (scaling, levels) = (scaling(), levels(200));
    let vp = Vp::default();
    let variational =
        VariationalConfig::default().init(&scaling, None, Device::Cpu, Seed(7)).unwrap();
    let truncated = TruncatedNormal::new(&scaling, &vp, Some(0.3)).unwrap();
    assert!(truncated.deviation() > 0.5, "wider than the bins");
    let uniform = Uniform::new(&scaling);
    for dequantizer in [&uniform as &dyn Dequantizer, &variational, &truncated] {
        let whole = dequantizer.dequantize(&levels, &mut Noise::new(Seed(8), 0..200));
        let part =
            dequantizer.dequantize(&levels[3 * 70..3 * 90], &mut Noise::new(Seed(8), 70..90));
        let gap = (whole.rows.narrow(0, 70, 20) - part.rows).abs().max().double_value(&[]);
        assert!(gap < 1e-6, "{gap}");
        assert!(whole.offsets[70..90].iter().zip(&part.offsets).all(|(a, b)| (a - b).abs() < 1e-5));
        let back = scaling.inverse(&to_vec(&whole.rows));
        assert!(back.iter().zip(&levels).all(|(a, b)| (a - f64::from(*b)).abs() < 1e-6));
        let none = dequantizer.dequantize(&[], &mut Noise::new(Seed(8), 0..0));
        assert_eq!((none.rows.size(), none.offsets.len()), (vec![0, 3], 0));
    }
    for time in [0.0, 1.0, f64::NAN] {
        assert!(TruncatedNormal::new(&scaling, &vp, Some(time)).is_err());
    }
    let reals = Scaling::Columns(scaling.columns()[2..].to_vec());
    assert!(TruncatedNormal::new(&reals, &vp, None).is_err());
}
