use std::sync::Arc;

use super::*;
use crate::model::Space;
use crate::oracle::{GaussianMixture, MixtureParameters, Oracle};
use crate::posterior::NoiseMoments;
use crate::schedule::Schedule;
use crate::schedule::{SubVp, Ve, Vp};
use crate::tensor::to_vec;

/// Three components with full covariances in `d` dimensions, about unit scale.
fn mixture(d: usize) -> GaussianMixture {
    let wave = |k: usize, i: usize| ((3 * k + 2 * i + 1) as f64 * 1.3).sin();
    let covariance = |k: usize| -> Vec<f64> {
        let root: Vec<f64> = (0..d * d).map(|i| 0.25 * wave(k + 5, i)).collect();
        (0..d * d)
            .map(|i| {
                let (a, b) = (i / d, i % d);
                let dot: f64 = (0..d).map(|c| root[a * d + c] * root[b * d + c]).sum();
                dot + if a == b { 0.1 + 0.05 * k as f64 } else { 0.0 }
            })
            .collect()
    };
    GaussianMixture::from_parameters(&MixtureParameters {
        weights: vec![0.5, 0.3, 0.2],
        means: (0..3).map(|k| (0..d).map(|i| 1.2 * wave(k, i)).collect()).collect(),
        covariances: (0..3).map(covariance).collect(),
    })
    .unwrap()
}

fn gaussian(d: usize) -> GaussianMixture {
    let mut parameters = mixture(d).parameters();
    parameters.weights = vec![1.0];
    parameters.means.truncate(1);
    parameters.covariances.truncate(1);
    GaussianMixture::from_parameters(&parameters).unwrap()
}

/// What the flow gives for an exact score differs from `ln p` by the prior alone:
/// `ln N(x_T; 0, σ_T²) − ln p_T(x_T)`.
fn prior_gap(flow: &ProbabilityFlow, oracle: &Oracle, x: &Tensor) -> Vec<f64> {
    let schedule = oracle.space().schedule();
    let (t, d) = (schedule.horizon(), x.size()[1] as f64);
    let sigma = schedule.sigma(t);
    let latent = flow.encode(&Batch::of(x)).unwrap();
    let prior = latent.square().sum_dim_intlist([1i64].as_slice(), false, None::<tch::Kind>) * -0.5
        - d * (0.5 * LN_2PI + sigma.ln());
    let exact = oracle.mixture.log_density_at(&(latent * sigma), schedule, &Times::All(t));
    to_vec(&(prior - exact))
}

/// `ln p` by the ODE equals the mixture's own, to 1e-6 relative, for mixtures and Gaussians, linear
/// and cosine VP.
#[test]
fn log_density_is_exact_for_exact_scores() {
    for (name, vp) in [("vp", Vp::default()), ("cosine", Vp::cosine(0.008))] {
        for (data, make) in
            [("mixture", mixture as fn(usize) -> GaussianMixture), ("gaussian", gaussian)]
        {
            for d in [1, 2, 8] {
                let oracle = Oracle::new(make(d), Arc::new(vp.clone()));
                let x = oracle.mixture.sample(24, Seed(1));
                let flow = ProbabilityFlow::new(&oracle)
                    .tolerance(1e-8, 1e-8)
                    .and_then(|f| f.divergence(Divergence::Exact))
                    .unwrap();
                let estimate = flow.log_likelihood(&Batch::of(&x), Seed(0), 0).unwrap();
                let exact = to_vec(&oracle.mixture.log_density(&x));
                let gaps = prior_gap(&flow, &oracle, &x);
                let error = |correct: bool| {
                    let rows = estimate.values.iter().zip(&exact).zip(&gaps);
                    rows.map(|((v, e), g)| {
                        (v - if correct { *g } else { 0.0 } - e).abs() / (1.0 + e.abs())
                    })
                    .fold(0.0, f64::max)
                };
                println!(
                    "{name} {data} d = {d}: error {:.1e} ({:.1e} with the prior's), {:.0} \
                     evaluations",
                    error(true),
                    error(false),
                    estimate.evaluations
                );
                assert!(error(true) < 1e-6 && estimate.flags.is_empty(), "{:?}", estimate.flags);
                assert_eq!((estimate.draws, estimate.std_errors[0]), (0, 0.0));
                // the prior's own error is α_T ⟨m, x_T⟩ to first order: α_T = 6.6e-3 for linear β,
                // 4e-5 for cosine
                assert!(error(false) < if name == "cosine" { 2e-4 } else { 2e-2 });
            }
        }
    }
}

/// The usual start `x_ε = α_ε x_0` would miss `½ σ̃² (tr H + ‖s‖²)`; at a large `ε` the difference
/// is seen.
#[test]
fn truncation_is_of_fourth_order() {
    let errors: Vec<f64> = [3e-3, 1e-3]
        .iter()
        .map(|&epsilon| {
            let oracle = Oracle::new(mixture(2), Arc::new(Vp::default().with_epsilon(epsilon)));
            let flow = ProbabilityFlow::new(&oracle).tolerance(1e-10, 1e-10).unwrap();
            let x = oracle.mixture.sample(16, Seed(2));
            let values = flow.log_likelihood(&Batch::of(&x), Seed(0), 0).unwrap().values;
            let exact = to_vec(&oracle.mixture.log_density(&x));
            let gaps = prior_gap(&flow, &oracle, &x);
            (0..16).map(|i| (values[i] - gaps[i] - exact[i]).abs()).fold(0.0, f64::max)
        })
        .collect();
    let vp = Vp::default();
    let order = (errors[0] / errors[1]).ln() / (vp.sigma(3e-3) / vp.sigma(1e-3)).ln();
    println!("errors {errors:?}, order {order:.2} in σ");
    assert!((3.5..4.5).contains(&order), "{order}");
}

/// From `τ` on, values are `ln p_τ(α_τ y) + d ln α_τ`, by the oracle's own density there, to 1e-6
/// relative; and `y` comes back from its latent. The density of `x_0` would be far off: at this
/// `τ`, `σ/α` is a third of the data's scale.
#[test]
fn a_later_start_gives_the_density_there() {
    for (schedule, tau) in [
        (Arc::new(Vp::default()) as Arc<dyn Schedule>, 0.1),
        (Arc::new(SubVp::default()), 0.2),
        (Arc::new(Ve::default()), 0.4),
    ] {
        for data in [mixture(2), gaussian(2)] {
            let oracle = Oracle::new(data, schedule.clone());
            let y = oracle.mixture.sample(20, Seed(11));
            let flow = ProbabilityFlow::new(&oracle)
                .tolerance(1e-9, 1e-9)
                .and_then(|f| f.divergence(Divergence::Exact)?.from_time(tau))
                .unwrap();
            let values = flow.log_likelihood(&Batch::of(&y), Seed(0), 0).unwrap().values;
            let alpha = schedule.alpha(tau);
            let there = oracle.mixture.log_density_at(&(&y * alpha), &*schedule, &Times::All(tau));
            let exact = to_vec(&(there + 2.0 * alpha.ln()));
            let gaps = prior_gap(&flow, &oracle, &y);
            let clean = to_vec(&oracle.mixture.log_density(&y));
            let worst = |other: &[f64]| {
                (0..20)
                    .map(|i| (values[i] - gaps[i] - other[i]).abs() / (1.0 + other[i].abs()))
                    .fold(0.0, f64::max)
            };
            println!(
                "{schedule:?}: error {:.1e}, against p_0 {:.1e}",
                worst(&exact),
                worst(&clean)
            );
            assert!(worst(&exact) < 1e-6 && worst(&clean) > 0.01);
            let gap = (flow.decode(&flow.encode(&Batch::of(&y)).unwrap(), None).unwrap() - &y)
                .abs()
                .max()
                .double_value(&[]);
            assert!(gap < 1e-6, "{gap}");
        }
    }
    let oracle = Oracle::new(mixture(1), Arc::new(Vp::default()));
    for tau in [0.0, 1e-6, 1.0, f64::NAN] {
        assert!(ProbabilityFlow::new(&oracle).from_time(tau).is_err(), "{tau}");
    }
}

/// Probes agree with the exact divergence within their own standard errors, which have the right
/// size; one probe has none.
#[test]
fn probes_agree_with_the_trace() {
    let oracle = Oracle::new(mixture(8), Arc::new(Vp::default()));
    let x = oracle.mixture.sample(60, Seed(3));
    let with = |divergence| {
        let flow = ProbabilityFlow::new(&oracle).divergence(divergence).unwrap();
        flow.log_likelihood(&Batch::of(&x), Seed(4), 0).unwrap()
    };
    let exact = with(Divergence::Exact);
    for (divergence, name) in [
        (Divergence::Rademacher { probes: 8 }, "8 Rademacher"),
        (Divergence::Gaussian { probes: 8 }, "8 Gaussian"),
    ] {
        let noisy = with(divergence);
        assert!(noisy.estimator.contains(name) && noisy.draws == 8);
        let scores: Vec<f64> =
            (0..60).map(|i| (noisy.values[i] - exact.values[i]) / noisy.std_errors[i]).collect();
        let square = scores.iter().map(|s| s * s).sum::<f64>() / 60.0;
        // Student-t with 7 degrees of freedom: mean square 1.4, standard error 0.36 over 60 rows
        println!(
            "{name}: mean square score {square:.2}, standard error {:.3}, {:.0} evaluations",
            noisy.std_errors.iter().sum::<f64>() / 60.0,
            noisy.evaluations
        );
        assert!((0.5..2.9).contains(&square), "{square}");
    }
    assert!(with(Divergence::Rademacher { probes: 1 }).std_errors[0].is_nan());
}

/// Rows in any batch have the same values, flags and probes; both ways to get the products agree.
#[test]
fn batches_do_not_matter() {
    let oracle = Oracle::new(mixture(3), Arc::new(Vp::default()));
    let x = oracle.mixture.sample(700, Seed(5));
    for divergence in [Divergence::Exact, Divergence::Rademacher { probes: 2 }] {
        let flow = ProbabilityFlow::new(&oracle).divergence(divergence).unwrap();
        let whole = flow.log_likelihood(&Batch::of(&x), Seed(6), 0).unwrap();
        let cut = flow.in_batches(&Batch::of(&x), Seed(6), 301, &mut |_| Ok(())).unwrap();
        let gap =
            whole.values.iter().zip(&cut.values).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        println!("gap {gap:.1e}");
        assert!(gap < 1e-9, "{gap}");
        assert!((whole.evaluations - cut.evaluations).abs() < 1e-6 * whole.evaluations);
    }
}

/// A model in f32 whose noise is another's, times `1 + a sin(b x)`: a field that is no score.
struct Bent {
    inner: Oracle,
    space: Space,
    size: f64,
}

impl Bent {
    fn new(size: f64, kind: tch::Kind) -> Bent {
        let schedule: Arc<dyn Schedule> = Arc::new(Vp::default());
        let inner = Oracle::new(mixture(2), schedule);
        let space = Space { kind, ..inner.space().clone() };
        Bent { inner, space, size }
    }
}

impl Denoiser for Bent {
    fn space(&self) -> &Space {
        &self.space
    }
    fn noise(&self, q: &Query) -> Tensor {
        let x = q.x.to_kind(tch::Kind::Double);
        let bend = (&x * 20.0).sin() * self.size;
        (self.inner.noise(&q.at(&x)) + bend).to_kind(self.space.kind)
    }
    fn moments(&self, _: &Query) -> NoiseMoments {
        unreachable!("a flow asks for the noise alone")
    }
}

/// f32 networks: the value is that of the f64 field to about the tolerance.
#[test]
fn single_precision_costs_little() {
    let model = Bent::new(0.0, tch::Kind::Float);
    let x = model.inner.mixture.sample(50, Seed(7));
    let single = ProbabilityFlow::new(&model)
        .log_likelihood(&Batch::of(&x.to_kind(tch::Kind::Float)), Seed(0), 0)
        .unwrap();
    let double =
        ProbabilityFlow::new(&model.inner).log_likelihood(&Batch::of(&x), Seed(0), 0).unwrap();
    let gap =
        single.values.iter().zip(&double.values).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    println!("gap {gap:.1e}, {:.0} and {:.0} evaluations", single.evaluations, double.evaluations);
    assert!(gap < 2e-3 && single.flags.is_empty());
}

/// Rows that are not solved are an error with a remedy that names the first, or, where they are
/// kept, NaN; a field that is no score, and an outlier, are flagged; the others are not touched.
#[test]
fn doubtful_rows_are_flagged() {
    let oracle = Oracle::new(mixture(2), Arc::new(Vp::default()));
    let x = Tensor::cat(
        &[oracle.mixture.sample(3, Seed(8)), Tensor::from_slice(&[60.0, 0.0]).view([1, 2])],
        0,
    );
    let fine = ProbabilityFlow::new(&oracle)
        .verify(true)
        .log_likelihood(&Batch::of(&x), Seed(0), 0)
        .unwrap();
    println!("{:?}", fine.flags);
    assert!(
        fine.flags.len() == 1 && fine.flags[0].row == 3 && fine.flags[0].reason.contains("latent")
    );
    assert!(fine.estimator.ends_with("verified"));

    let broken =
        Tensor::cat(&[x.narrow(0, 0, 1), Tensor::from_slice(&[f64::NAN, 0.0]).view([1, 2])], 0);
    let error = ProbabilityFlow::new(&oracle)
        .log_likelihood(&Batch::of(&broken), Seed(0), 7)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("1 of 2 rows") && error.contains("row 9:") && error.contains("look for"),
        "{error}"
    );
    let kept = || ProbabilityFlow::new(&oracle).keep_unsolved(true);
    let short = kept().log_likelihood(&Batch::of(&broken), Seed(0), 0).unwrap();
    println!("{:?}", short.flags);
    assert!(short.values[0].is_finite() && short.values[1].is_nan());
    assert!(short.flags.len() == 1 && short.flags[0].row == 1);
    let error = ProbabilityFlow::new(&oracle)
        .max_evaluations(50)
        .log_likelihood(&Batch::of(&x), Seed(0), 0)
        .unwrap_err();
    assert!(error.to_string().contains("max_evaluations") && !error.is_request(), "{error}");
    let short = kept().max_evaluations(50).log_likelihood(&Batch::of(&x), Seed(0), 0).unwrap();
    assert!(
        short.flags.iter().any(|f| f.reason.contains("max_evaluations"))
            && short.values.iter().any(|v| v.is_nan())
    );
    assert!(ProbabilityFlow::new(&oracle).max_evaluations(50).encode(&Batch::of(&x)).is_err());

    let model = Bent::new(0.3, tch::Kind::Double);
    let x = model.inner.mixture.sample(20, Seed(9));
    let bent = ProbabilityFlow::new(&model).log_likelihood(&Batch::of(&x), Seed(0), 0).unwrap();
    println!("{:?}", bent.flags);
    assert!(bent.flags.iter().any(|f| f.reason.contains("no density")));
    let right =
        ProbabilityFlow::new(&model.inner).log_likelihood(&Batch::of(&x), Seed(0), 0).unwrap();
    assert!(right.flags.is_empty());
}

#[test]
fn decode_undoes_encode() {
    let oracle = Oracle::new(mixture(2), Arc::new(Vp::default()));
    let x = oracle.mixture.sample(20, Seed(10));
    let flow = ProbabilityFlow::new(&oracle).tolerance(1e-9, 1e-9).unwrap();
    let gap = (flow.decode(&flow.encode(&Batch::of(&x)).unwrap(), None).unwrap() - &x)
        .abs()
        .max()
        .double_value(&[]);
    println!("gap {gap:.1e}");
    assert!(gap < 1e-6, "{gap}");
}

#[test]
fn bad_settings_are_refused() {
    let oracle = Oracle::new(mixture(1), Arc::new(Vp::default()));
    for (rtol, atol) in [(-1.0, 1.0), (0.0, 0.0), (f64::NAN, 1.0)] {
        assert!(ProbabilityFlow::new(&oracle).tolerance(rtol, atol).is_err());
    }
    assert!(
        ProbabilityFlow::new(&oracle).divergence(Divergence::Rademacher { probes: 0 }).is_err()
    );
    assert_eq!(Divergence::Auto.resolve(16), Divergence::Exact);
    assert_eq!(Divergence::Auto.resolve(17), Divergence::Rademacher { probes: 8 });
}
