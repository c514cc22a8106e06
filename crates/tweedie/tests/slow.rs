//! Statistical checks that take longer than a test should: `make slow-tests`.

use std::sync::Arc;

use tweedie::covariance::{Beta, Covariance, Own};
use tweedie::grid::Spacing;
use tweedie::likelihood::mean_and_error;
use tweedie::metric::Mmd;
use tweedie::noise::Seed;
use tweedie::oracle::{Oracle, named};
use tweedie::sample::{Ancestral, LastStep, run_chain};
use tweedie::schedule::Vp;

/// Likelihood Matching, Figure 2(a), with exact moments: on ½N(−10,1)+½N(10,1) the exact covariance
/// brings MMD² to at most a tenth of β's at 5 steps and a quarter at 10, in every one of twenty
/// trials' mean.
#[test]
#[ignore = "a minute of sampling"]
fn the_exact_covariance_beats_beta() {
    let schedule = Arc::new(Vp::default());
    let oracle = Oracle::new(named::two_gaussians(), schedule.clone());
    for (steps, at_most) in [(5, 0.1), (10, 0.25)] {
        let grid = Spacing::Even.grid(&*schedule, steps, 0.0);
        let trials = |covariance: &dyn Covariance| {
            let step = Ancestral::new(&oracle, covariance, 1.0, LastStep::Mean).unwrap();
            let values: Vec<f64> = (0..20)
                .map(|trial| run_chain(&step, &grid, Seed(trial), 0..2000, None).unwrap())
                .map(|samples| Mmd::default().against_mixture(&samples, &oracle.mixture))
                .collect();
            mean_and_error(&values)
        };
        let ((exact, exact_error), (beta, beta_error)) = (trials(&Own), trials(&Beta));
        println!(
            "K = {steps}: {exact:.5} ± {exact_error:.5} exact, {beta:.5} ± {beta_error:.5} with β"
        );
        assert!(exact + 2.0 * exact_error < at_most * beta, "K = {steps}: {exact} against {beta}");
    }
}

/// What the CUDA test runs again in a process of its own, since LibTorch answers for the life of a
/// process.
const ORDER: &str = "TWEEDIE_TEST_ORDER";

/// The full PyTorch 2.11 for CUDA, no GPU needed: opened before any query, LibTorch knows
/// its CUDA library, here by the version of cuDNN; queried first, it never does. Run it with
///
///     TWEEDIE_CUDA_LIBTORCH=…/site-packages/torch/lib cargo test --test slow cuda -- --ignored
#[test]
#[ignore = "needs the full PyTorch 2.11 with CUDA in TWEEDIE_CUDA_LIBTORCH"]
fn the_cuda_library_is_opened_before_it_is_queried() {
    match std::env::var(ORDER).as_deref() {
        Ok("open") => {
            // without a GPU an error, but after the library is open
            let opened = tweedie::device::open("cuda");
            println!("{opened:?}");
            println!("cuDNN {}", tch::utils::version_cudnn());
        }
        Ok(_) => {
            assert!(!tch::Cuda::is_available());
            let _ = tweedie::device::open("cuda");
            println!("cuDNN {}", tch::utils::version_cudnn());
        }
        Err(_) => {
            let Ok(library) = std::env::var("TWEEDIE_CUDA_LIBTORCH") else {
                println!("skipped: TWEEDIE_CUDA_LIBTORCH is not set");
                return;
            };
            let again = |order: &str| {
                std::process::Command::new(std::env::current_exe().unwrap())
                    .args(["the_cuda_library_is_opened_before_it_is_queried", "--exact"])
                    .args(["--ignored", "--nocapture"])
                    .env(ORDER, order)
                    .env("LD_LIBRARY_PATH", &library)
                    .output()
                    .unwrap()
            };
            let opened = again("open");
            let said = String::from_utf8_lossy(&opened.stdout).into_owned();
            println!("{said}");
            assert!(opened.status.success(), "{said}{}", String::from_utf8_lossy(&opened.stderr));
            let version =
                said.lines().find_map(|line| line.strip_prefix("cuDNN ")?.parse::<i64>().ok());
            assert!(version.is_some_and(|version| version > 80_000), "{said}");
            // the fault this guards against is still LibTorch's way: if it is not, the order no
            // longer matters
            assert!(
                !again("ask").status.success(),
                "queried first, LibTorch now finds the library later"
            );
        }
    }
}
