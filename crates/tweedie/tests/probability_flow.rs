//! Likelihoods by the probability flow against PyTorch and torchdiffeq: references by
//! tests/reference/flow.py (torch 2.11.0, torchdiffeq 0.2.5, diffusers 0.42.1), where networks,
//! processes and equations are written again, in f64 and in the time t.

use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor};
use tweedie::likelihood::{Divergence, LogLikelihood, ProbabilityFlow};
use tweedie::noise::{Noise, Seed};
use tweedie::query::Batch;
use tweedie::run::Run;
use tweedie::tensor::to_vec;

const SEED: Seed = Seed(11);
const ROWS: u64 = 4;
const PROBES: usize = 2;
const PIXELS: usize = 64;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/reference/flow")
}

/// A reference's tensor by name.
fn read(file: &str) -> impl Fn(&str) -> Tensor + use<> {
    let tensors = Tensor::read_safetensors(folder().join(file)).unwrap();
    move |name| tensors.iter().find(|(n, _)| n == name).unwrap().1.shallow_clone()
}

/// What the flow draws for images of rows 0… from `SEED`: `[rows, probes, d]`.
fn probes() -> Tensor {
    let signs = Noise::new(SEED, 0..ROWS).rademacher(PROBES * PIXELS, Kind::Int8, Device::Cpu);
    signs.view([ROWS as i64, PROBES as i64, PIXELS as i64])
}

/// Not a test: the probes that tests/reference/flow.py is given.
#[test]
#[ignore = "writes tests/reference/flow/probes.safetensors"]
fn write_probes() {
    Tensor::write_safetensors(&[("probes", probes())], folder().join("probes.safetensors"))
        .unwrap();
}

/// The largest `|a − b|/(1 + |b|)`.
fn gap(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs() / (1.0 + b.abs())).fold(0.0, f64::max)
}

/// The run's likelihoods and latents at `tolerance` of a step agree with the reference to `agreed`,
/// relative to 1 + the value; the errors of a path's steps add up, and grow where the field pulls
/// paths apart.
fn agrees(name: &str, divergence: Divergence, tolerance: f64, agreed: f64) {
    let run = Run::load(folder().join(name), Device::Cpu).unwrap();
    let of = read(&format!("{name}/reference.safetensors"));
    let rows = Batch::of(&of("rows"));
    let theirs = of("log_density").view([rows.len() as i64, -1]);
    let mean = to_vec(&theirs.mean_dim([1i64].as_slice(), false, None::<Kind>));
    let flow = ProbabilityFlow::new(&run.model).tolerance(tolerance, tolerance).unwrap();
    let flow = flow.divergence(divergence).unwrap();
    let ours = flow.log_likelihood(&rows, SEED, 0).unwrap();
    let error = gap(&ours.values, &mean);
    let encoded = gap(&to_vec(&flow.encode(&rows).unwrap()), &to_vec(&of("latent")));
    println!(
        "{name} at {tolerance:.0e}: ln p {error:.1e}, latents {encoded:.1e}, {:.0} evaluations",
        ours.evaluations
    );
    assert!(ours.flags.is_empty(), "{:?}", ours.flags);
    assert!(error <= agreed, "{name}: ln p is off by {error:.1e}");
    assert!(encoded <= 10.0 * agreed, "{name}: latents are off by {encoded:.1e}");
    if let Divergence::Rademacher { .. } = divergence {
        let errors =
            to_vec(&(theirs.std_dim([1i64].as_slice(), true, false) / (PROBES as f64).sqrt()));
        let error = gap(&ours.std_errors, &errors);
        assert!(error <= 10.0 * agreed, "{name}: standard errors are off by {error:.1e}");
    }
}

/// Within twice the tolerance that is usual, 1e-5, solved at a hundredth of it.
#[test]
fn tables_agree_with_torchdiffeq() {
    for name in ["table-vp", "table-sub-vp"] {
        agrees(name, Divergence::Exact, 1e-7, 2e-5);
    }
}

/// At the usual tolerance, to keep it short: the gap goes on falling with the tolerance
/// (docs/benchmarks.md).
#[test]
fn images_agree_with_torchdiffeq_under_the_same_probes() {
    assert_eq!(
        read("probes.safetensors")("probes"),
        probes(),
        "write the probes and the references anew"
    );
    for name in ["images-vp", "images-sub-vp"] {
        agrees(name, Divergence::Rademacher { probes: PROBES }, 1e-5, 1e-3);
    }
}
