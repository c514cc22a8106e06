//! Samplers against diffusers' schedulers, step by step on the same network and the same noise:
//! reference by tests/reference/schedulers.py (diffusers 0.42.1, torch 2.11.0).
//!
//! Our time `i/N` is diffusers' timestep `i − 1`; the step to timestep −1 is our step to 0. What
//! else differs is in a setting:
//!
//! | diffusers | here |
//! |---|---|
//! | DDPM `fixed_small`, `fixed_large` | β̃, β; [`LastStep::Mean`] from timestep 0 alone |
//! | DDPM `learned_range` | the `G` for which the step's covariance is the interpolated one |
//! | `clip_sample` (DDIM: with `use_clipped_model_output`) | [`Ancestral::within`] −1 and 1 |
//! | DDIM at `eta` | β̃ at `η` |
//! | DPM-Solver++(2M) | [`DpmSolver`] |

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tch::{Device, Kind, Tensor};
use tweedie::covariance::{Beta, BetaTilde, Covariance, Own};
use tweedie::model::{Denoiser, Space};
use tweedie::noise::{Noise, Seed};
use tweedie::posterior::{Bridge, NoiseMoments};
use tweedie::query::{Query, Times};
use tweedie::sample::{Ancestral, DpmSolver, LastStep, Step};
use tweedie::schedule::{Schedule, ScheduleConfig, StepLaw};
use tweedie::sym_matrix::SymMatrix;
use tweedie::tensor::to_vec;

const STEPS: usize = 1000;
/// In the order of the reference.
const METHODS: [&str; 9] = [
    "ddpm fixed_small",
    "ddpm fixed_small clip_sample",
    "ddpm fixed_large",
    "ddpm learned_range",
    "ddim 0",
    "ddim 0.5",
    "ddim 1",
    "ddim 0.5 clip_sample",
    "dpm",
];

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/reference/schedulers").join(name)
}

fn tensors(name: &str) -> impl Fn(&str) -> Tensor {
    let tensors = Tensor::read_safetensors(file(name)).unwrap();
    move |name| {
        tensors
            .iter()
            .find(|(n, _)| n == name)
            .unwrap_or_else(|| panic!("no {name}"))
            .1
            .shallow_clone()
    }
}

/// `x_T` and the streams of the chain's noise, two rows of two numbers.
fn start() -> Tensor {
    Noise::new(Seed(1), 0..2).normal(2, Kind::Double, Device::Cpu)
}
fn noise() -> Noise {
    Noise::new(Seed(2), 0..2)
}

/// The noise of the reference is that of these tests.
#[test]
fn noise_is_that_of_the_reference() {
    let of = tensors("noise.safetensors");
    assert_eq!(of("start"), start());
    let mut noise = noise();
    let all: Vec<Tensor> = (0..STEPS).map(|_| noise.normal(2, Kind::Double, Device::Cpu)).collect();
    assert_eq!(of("noise"), Tensor::stack(&all, 0));
}

/// Writes the noise that the reference is made with.
#[test]
#[ignore = "writes tests/reference/schedulers/noise.safetensors"]
fn write_noise() {
    let mut noise = noise();
    let all: Vec<Tensor> = (0..STEPS).map(|_| noise.normal(2, Kind::Double, Device::Cpu)).collect();
    let all = [("start", start()), ("noise", Tensor::stack(&all, 0))];
    Tensor::write_safetensors(&all, file("noise.safetensors")).unwrap();
}

/// The reference's formula as a model: `w = i/N`, `ε̂ = w x + (1 − w) tanh(x + w)`. Its `G` gives
/// the steps between the `pairs` of times `(s, t)` the variance `exp(f ln β + (1 − f) ln β̃)`,
/// `f = (tanh(w − x) + 1)/2` (Nichol & Dhariwal 2021, eq. 15), with diffusers' floor of 1e-20 for
/// `β̃`.
struct Formula {
    space: Space,
    pairs: Vec<(f64, f64)>,
}

impl Formula {
    fn new(schedule: Arc<dyn Schedule>, pairs: Vec<(f64, f64)>) -> Formula {
        let space = Space { dim: 2, schedule, kind: Kind::Double, device: Device::Cpu };
        Formula { space, pairs }
    }
}

impl Denoiser for Formula {
    fn space(&self) -> &Space {
        &self.space
    }
    fn noise(&self, q: &Query) -> Tensor {
        let t = q.times.one();
        q.x * t + (q.x + t).tanh() * (1.0 - t)
    }
    fn moments(&self, q: &Query) -> NoiseMoments {
        let (schedule, now) = (self.space.schedule(), q.times.one());
        let &(s, t) = self.pairs.iter().find(|(_, own)| *own == now).expect("a time of the chain");
        let bridge = Bridge::new(schedule, s, t, 1.0);
        let (least, most) = (bridge.lambda2.max(1e-20).ln(), schedule.transition(s, t).k2.ln());
        let fraction = ((-q.x + t).tanh() + 1.0) * 0.5;
        let variance = (&fraction * most + (-&fraction + 1.0) * least).exp();
        let g = (variance - bridge.lambda2) / bridge.c.powi(2);
        NoiseMoments::new(self.noise(q), SymMatrix::Diagonal(g))
    }
}

/// `(s, t)` of the steps down diffusers' timesteps. DDIMScheduler goes `N/K` timesteps down from
/// each, wherever the next one is.
fn pairs(timesteps: &[i64], scheduler: &str) -> Vec<(f64, f64)> {
    let time = |timestep: i64| (timestep + 1).max(0) as f64 / STEPS as f64;
    let stride = (STEPS / timesteps.len()) as i64;
    let next = |k: usize| match scheduler {
        "ddim" => timesteps[k] - stride,
        _ => timesteps.get(k + 1).copied().unwrap_or(-1),
    };
    (0..timesteps.len()).map(|k| (time(next(k)), time(timesteps[k]))).collect()
}

/// Whole chains of 10, 50 and 1000 steps, the largest difference relative to the largest number of
/// the step: 1e-9 in f64, and 1e-5 for the DPM-Solver, of which diffusers rounds every step to f32.
#[test]
fn chains_equal_diffusers() {
    let of = tensors("reference.safetensors");
    let mut largest = vec![0.0f64; METHODS.len()];
    for (betas, law) in [("linear", StepLaw::Linear), ("squaredcos_cap_v2", StepLaw::Cosine)] {
        let config =
            ScheduleConfig::Discrete { steps: STEPS, law, beta_start: 1e-4, beta_end: 0.02 };
        let schedule = config.build().unwrap();
        for spacing in ["trailing", "linspace"] {
            for count in [10usize, 50, 1000] {
                let kept = to_vec(&of(&format!("kept/{count}")));
                let expected = of(&format!("{betas}/{spacing}/{count}"));
                for (m, method) in METHODS.into_iter().enumerate() {
                    if (method, spacing, count) == ("dpm", "linspace", 1000) {
                        // diffusers repeats a timestep, and what it gives from there on is not a
                        // number
                        assert!(expected.get(m as i64).isnan().any().int64_value(&[]) == 1);
                        continue;
                    }
                    let scheduler = method.split(' ').next().unwrap();
                    let timesteps =
                        to_vec(&of(&format!("timesteps/{scheduler}/{spacing}/{count}")));
                    let timesteps: Vec<i64> = timesteps.iter().map(|&t| t as i64).collect();
                    assert_eq!(timesteps.len(), count);
                    let pairs = pairs(&timesteps, scheduler);
                    let model = Formula::new(schedule.clone(), pairs.clone());
                    let after = chain(&model, method, &pairs, *timesteps.last().unwrap() == 0);
                    for (i, &k) in kept.iter().enumerate() {
                        let expected = expected.get(m as i64).get(i as i64);
                        let scale = expected.abs().max().double_value(&[]);
                        let error =
                            (&after[k as usize] - expected).abs().max().double_value(&[]) / scale;
                        let tolerance = if scheduler == "dpm" { 1e-5 } else { 1e-9 };
                        assert!(
                            error < tolerance,
                            "{method}, {betas}, {spacing}, step {} of {count}: {error:.1e}",
                            k + 1.0
                        );
                        largest[m] = largest[m].max(error);
                    }
                }
            }
        }
    }
    for (method, error) in METHODS.iter().zip(largest) {
        println!("{method}: {error:.1e}");
    }
}

/// `x` after each step.
fn chain(
    model: &Formula,
    method: &str,
    pairs: &[(f64, f64)],
    ends_at_timestep_0: bool,
) -> Vec<Tensor> {
    let ancestral = |covariance: &'static dyn Covariance, eta, last| {
        let step = Ancestral::new(model, covariance, eta, last).unwrap();
        if method.ends_with("clip_sample") { step.within(-1.0, 1.0) } else { step }
    };
    let of = |last| -> Box<dyn Step + '_> {
        match method {
            "dpm" => Box::new(DpmSolver::new(model)),
            "ddpm fixed_large" => Box::new(ancestral(&Beta, 1.0, last)),
            "ddpm learned_range" => Box::new(ancestral(&Own, 1.0, last)),
            "ddim 0" => Box::new(ancestral(&BetaTilde, 0.0, last)),
            "ddim 0.5" | "ddim 0.5 clip_sample" => Box::new(ancestral(&BetaTilde, 0.5, last)),
            "ddpm fixed_small" | "ddpm fixed_small clip_sample" | "ddim 1" => {
                Box::new(ancestral(&BetaTilde, 1.0, last))
            }
            _ => panic!("no method {method}"),
        }
    };
    let (step, at_0) = (of(LastStep::Noise), of(LastStep::Mean));
    let without_noise = method.starts_with("ddpm") && ends_at_timestep_0;
    let (mut x, mut noise) = (start(), noise());
    let mut after = Vec::with_capacity(pairs.len());
    for &(s, t) in pairs {
        let step = if without_noise && s == 0.0 { &at_0 } else { &step };
        x = step.step(&Query::new(&x, &Times::All(t)), s, &mut noise);
        after.push(x.shallow_clone());
    }
    after
}
