//! Covariances, their factorisations and the papers' switches, as a user meets them.

mod common;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use common::{fail, succeed, tweedie};
use tch::{Device, Kind, Tensor};
use tweedie::model::{Base, BaseConfig, HeadConfig, ModelConfig, Structure};
use tweedie::noise::{Draw, Noise, Seed};
use tweedie::objective::{ObjectiveConfig, Trains};
use tweedie::query::Batch;
use tweedie::schedule::ScheduleConfig;
use tweedie::tensor::to_vec;
use tweedie::train::{
    Hooks, Metric, State, StopReason, TensorRows, TrainConfig, Trainer, Validation,
};

/// Normals of three columns, one of them a mix of the others, as a table.
fn write_table(path: &Path, rows: u64) {
    let z = to_vec(&Noise::new(Seed(5), 0..rows).normal(3, Kind::Double, Device::Cpu));
    let lines: String =
        z.chunks(3).map(|z| format!("{},{},{}\n", z[0], z[1], 0.8 * z[0] + 0.6 * z[2])).collect();
    std::fs::write(path, format!("a,b,c\n{lines}")).unwrap();
}

/// The default model for two columns.
fn rank_2() -> ModelConfig {
    let head = HeadConfig { structure: Structure::LowRank(2), ..HeadConfig::default() };
    ModelConfig { head: Some(head), ..ModelConfig::default() }
}

/// Every metric line of a training.
#[derive(Default)]
struct Kept(Vec<Metric>);

impl Hooks for Kept {
    fn metric(&mut self, metric: &Metric) -> tweedie::Result<()> {
        self.0.push(metric.clone());
        Ok(())
    }
}

/// Three fill values among 1000 rows of N(0, 1): standardised, the column is a spike of width 10⁻⁶
/// and three rows far away, and the covariance of some row has no factorisation in single
/// precision. That is an error of the row, which is counted; it was a panic with a page of
/// addresses.
#[test]
fn a_row_without_a_factorisation_is_left_out_and_counted() {
    let normal =
        |seed, columns| Noise::new(Seed(seed), 0..1000).normal(columns, Kind::Double, Device::Cpu);
    let column = normal(1, 1) / 5.5e5;
    let _ = column.narrow(0, 0, 3).fill_(18.0);
    let rows = Tensor::cat(&[&column, &normal(2, 1)], 1);
    let validation = rows.narrow(0, 800, 200);
    let base = Base::fit(&BaseConfig::default(), &rows, &validation).unwrap();
    let schedule = ScheduleConfig::default().build().unwrap();
    let config = rank_2();
    let model = config.init(base, schedule, Device::Cpu, Seed(0)).unwrap();
    let objective = ObjectiveConfig::default().build().unwrap();
    let train = TrainConfig { iterations: 200, batch_size: 256, ..TrainConfig::default() };
    let (mut state, mut kept) = (State::new(&model), Kept::default());
    let data = TensorRows::new(rows.to_kind(Kind::Float));
    let judge = Validation::new(&validation, Seed(0));
    let ended = Trainer::new(train).fit(
        &model,
        &*objective,
        &data,
        Some(&judge),
        Seed(0),
        &mut state,
        &mut kept,
    );
    println!("{ended:?}: {:?}", kept.0);
    // it may give up, in one line, but not fall over
    match ended {
        Ok(ended) => assert_eq!(ended, StopReason::Finished),
        Err(error) => assert!(error.to_string().contains("diverged"), "{error}"),
    }
}

/// The table of the report itself, from the command line: done, or one line.
#[test]
fn fill_values_do_not_crash_the_program() {
    let dir = tempfile::tempdir().unwrap();
    for seed in ["0", "7"] {
        let out = dir.path().join(seed).to_string_lossy().into_owned();
        let data = "../../tests/data/cases/F01-fill-value-crash/s7.csv";
        let args = [
            "train",
            "--data",
            data,
            "--out",
            &out,
            "--seed",
            seed,
            "--iterations",
            "1500",
            "--quiet",
        ];
        let output = tweedie(&args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(matches!(output.status.code(), Some(0..=2)), "{:?}: {said}", output.status);
        assert!(!said.contains("panicked") && !said.contains("internal"), "seed {seed}: {said}");
    }
}

/// A loss that is NaN in one row of every batch, by an objective whose rows are otherwise score
/// matching's: the training goes on with the others, its parameters are finite and the rows are
/// counted.
#[test]
fn rows_without_a_loss_do_not_stop_a_training() {
    struct Broken(Box<dyn tweedie::objective::Objective>);
    impl tweedie::objective::Objective for Broken {
        fn loss(
            &self,
            model: &dyn tweedie::model::Denoiser,
            batch: &Batch,
            noise: &mut Noise,
        ) -> Tensor {
            let loss = self.0.loss(model, batch, noise);
            let first = Tensor::arange(loss.size()[0], (Kind::Int64, Device::Cpu)).eq(0);
            loss.masked_fill(&first, f64::NAN)
        }
        fn draws(&self) -> usize {
            self.0.draws()
        }
        fn noise(&self, dim: usize) -> Vec<Draw> {
            self.0.noise(dim)
        }
        fn trains(&self) -> Trains {
            self.0.trains()
        }
    }
    let rows = Noise::new(Seed(1), 0..200).normal(2, Kind::Float, Device::Cpu);
    let schedule = ScheduleConfig::default().build().unwrap();
    let model = rank_2().init(Base::standard(2), schedule, Device::Cpu, Seed(0)).unwrap();
    let before = model.parameters().flat().copy();
    let objective = Broken(ObjectiveConfig::default().build().unwrap());
    let config = TrainConfig { iterations: 100, batch_size: 20, ..TrainConfig::default() };
    let (mut state, mut kept) = (State::new(&model), Kept::default());
    let data = TensorRows::new(rows);
    let ended =
        Trainer::new(config).fit(&model, &objective, &data, None, Seed(0), &mut state, &mut kept);
    assert_eq!(ended.unwrap(), StopReason::Finished);
    let last = kept.0.last().unwrap();
    assert_eq!((last.skipped_rows, last.skipped), (100, 0), "{last:?}");
    assert!(last.loss.is_finite());
    let after = model.parameters().flat();
    assert!(after.isfinite().all().int64_value(&[]) == 1 && !after.equal(&before));
}

/// The paper's own r = 0 under its own parametrisation: trained, scored and sampled. It panicked.
#[test]
fn the_papers_head_has_rank_0() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let (data, run) = (at("t.csv"), at("run"));
    write_table(Path::new(&data), 200);
    let train = ["train", "--data", &data, "--out", &run, "--iterations", "20", "--quiet"];
    succeed(&[&train[..], &["--paper-literal", "--rank", "0"]].concat());
    assert!(succeed(&["score", &run, &data, "--steps", "5", "--quiet"]).contains("200 rows"));
    succeed(&["sample", &run, "-n", "5", "--steps", "5", "-o", &at("s.csv"), "--quiet"]);
}

/// Variance exploding, from the data's own jump to σ_min on: trained, scored by every kind of
/// estimator and sampled.
#[test]
fn variance_exploding_runs() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let (data, run) = (at("t.csv"), at("run"));
    write_table(Path::new(&data), 200);
    succeed(&[
        "train",
        "--data",
        &data,
        "--out",
        &run,
        "--iterations",
        "20",
        "--schedule",
        "ve",
        "--quiet",
    ]);
    // N(0, 1) twice and c given both: about −ln p = 2·1.42 + ½ ln(2πe·0.36) = 3.75 nats
    let exact = -3.75;
    for estimator in ["elbo", "bound", "ode"] {
        let said = succeed(&["score", &run, &data, "--estimator", estimator, "--quiet"]);
        let mean: f64 = said
            .split_once("rows: ")
            .and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok())
            .unwrap_or_else(|| panic!("{said}"));
        assert!((mean - exact).abs() < 0.5, "{estimator}: {said}");
    }
    for spacing in ["angle", "log-snr", "even", "quadratic"] {
        let samples = at(&format!("{spacing}.csv"));
        succeed(&["sample", &run, "-n", "50", "--spacing", spacing, "-o", &samples, "--quiet"]);
    }
}

/// More columns than rows: a Gaussian and the default base alike give a density that is worth
/// having. It was −9·10⁹ nats.
#[test]
fn more_columns_than_rows() {
    let dir = tempfile::tempdir().unwrap();
    let data = "../../tests/data/cases/F09-more-columns-than-rows/t.csv";
    for base in ["gaussian", "mixture"] {
        let run = dir.path().join(base).to_string_lossy().into_owned();
        let train = [
            "train",
            "--data",
            data,
            "--out",
            &run,
            "--base",
            base,
            "--iterations",
            "20",
            "--width",
            "16",
        ];
        let output = tweedie(&train);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{base}: {said}");
        assert!(said.contains("towards a multiple of the identity"), "{said}");
        let said = succeed(&["score", &run, data, "--steps", "10", "--quiet"]);
        let mean: f64 = said
            .split_once("rows: ")
            .and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok())
            .unwrap_or_else(|| panic!("{said}"));
        // N(0, I) in 30 dimensions has −42.6
        assert!((-80.0..-30.0).contains(&mean), "{base}: {said}");
    }
}

/// Random signs are the row's own and the step's own: samples do not depend on the batch, and
/// another seed has others.
#[test]
fn random_signs_follow_the_row() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let (data, run) = (at("t.csv"), at("run"));
    write_table(Path::new(&data), 200);
    succeed(&["train", "--data", &data, "--out", &run, "--iterations", "20", "--quiet"]);
    let numbers = |name: &str, more: &[&str]| -> Vec<f64> {
        let (out, covariance) =
            (at(name), ["--covariance", "rademacher-1", "--steps", "5", "--quiet"]);
        let args = [&["sample", &run, "-n", "30", "-o", &out], &covariance[..], more].concat();
        succeed(&args);
        let text = std::fs::read_to_string(&out).unwrap();
        text.lines().skip(1).flat_map(|l| l.split(',')).map(|v| v.parse().unwrap()).collect()
    };
    let whole = numbers("whole.csv", &["--batch-size", "30"]);
    let parts = numbers("parts.csv", &["--batch-size", "7"]);
    let gap =
        whole.iter().zip(&parts).map(|(a, b)| (a - b).abs() / (1.0 + a.abs())).fold(0.0, f64::max);
    // a variance that rounding in f32 moves about 0 moves its root by √(1.2e-7) = 3.5e-4 at most;
    // other signs would move samples by their own size
    assert!(gap < 3.5e-4, "batches: {gap}");
    assert_ne!(whole, numbers("other.csv", &["--seed", "1"]));
    // the same under the bound, whose rows have streams of their own
    let scored = |batch: &str| {
        let covariance =
            ["--covariance", "rademacher-2", "--steps", "5", "--quiet", "--batch-size", batch];
        succeed(&[&["score", &run, &data], &covariance[..]].concat())
    };
    assert_eq!(scored("200"), scored("64"));
}

/// A run that can be read and not written serves every covariance: the analytic one is measured,
/// used and not kept, and reported so. (No file can be written under a limit of 0 bytes, whoever
/// runs the test.)
#[cfg(unix)]
#[test]
fn the_analytic_covariance_of_a_read_only_run() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let (data, run) = (at("t.csv"), at("run"));
    write_table(Path::new(&data), 200);
    succeed(&["train", "--data", &data, "--out", &run, "--iterations", "20", "--quiet"]);
    let score = ["score", &run, &data, "--covariance", "analytic", "--steps", "5"];
    let limited = Command::new("sh")
        .args([
            "-c",
            "trap '' XFSZ; ulimit -f 0; exec \"$0\" \"$@\"",
            env!("CARGO_BIN_EXE_tweedie"),
        ])
        .args(score)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&limited.stderr).into_owned();
    assert!(limited.status.success(), "{said}");
    assert!(said.contains("not kept, and measured anew"), "{said}");
    let kept = Path::new(&run).join("noise-statistics.json");
    assert!(!kept.exists());
    // where it can be kept the figures are the same
    assert_eq!(succeed(&score), String::from_utf8_lossy(&limited.stdout));
    assert!(kept.exists());
}

/// A head on a given score with an isotropic base starts from what was measured of that score, once
/// for all of its heads; from the base where the base knows more than one number, where that was
/// requested, and where the head corrects no G.
#[test]
fn heads_start_from_the_measured_score() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let data = at("t.csv");
    write_table(Path::new(&data), 200);
    let train = ["train", "--data", &data, "--iterations", "20", "--width", "16", "--quiet"];
    for base in ["isotropic", "gaussian"] {
        let score = at(base);
        succeed(&[&train[..], &["--objective", "sm", "--base", base, "--out", &score]].concat());
        let statistics = Path::new(&score).join("noise-statistics.json");
        let head = |name: &str, more: &[&str]| -> bool {
            let out = at(&format!("{base}-{name}"));
            succeed(&[&train[..], &["--score-from", &score, "--out", &out], more].concat());
            let config = std::fs::read_to_string(Path::new(&out).join("config.toml")).unwrap();
            let started = config.contains("start = \"analytic\"");
            assert_eq!(started, Path::new(&out).join("head-start.json").exists(), "{config}");
            started
        };
        let measured = base == "isotropic";
        assert_eq!(head("lm", &["--mode", "head"]), measured);
        assert_eq!(statistics.exists(), measured);
        if measured {
            let first = std::fs::read(&statistics).unwrap();
            assert!(head("ocm", &["--objective", "ocm"]));
            assert_eq!(std::fs::read(&statistics).unwrap(), first);
            assert_eq!(std::fs::read(at("isotropic-ocm/head-start.json")).unwrap(), first);
            assert!(!head("base", &["--objective", "ocm", "--head-start", "base"]));
            assert!(!head("iddpm", &["--objective", "iddpm"]));
        }
    }
}

/// Without the CUDA library the message has the loader's own reason, which names the file.
#[test]
fn a_missing_cuda_library_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("t.csv");
    write_table(&data, 20);
    if tweedie::device::open("cuda").is_err() {
        let (data, out) =
            (data.display().to_string(), dir.path().join("run").display().to_string());
        let train = ["train", "--data", &data, "--out", &out, "--device", "cuda"];
        fail(&train, 2, &["--device", "cuda", "use --device cpu"]);
        let said = tweedie(&train);
        let said = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(said.contains("libtorch_cuda.so") || said.contains("CUDA devices"), "{said}");
    }
}

/// The default schedule of a test is not shared by accident: what the tests above call VE is the
/// paper's.
#[test]
fn variance_exploding_is_the_papers() {
    let ve = ScheduleConfig::ve().build().unwrap();
    let ve: Arc<dyn tweedie::schedule::Schedule> = ve;
    assert_eq!(ve.sigma(0.0), 0.0);
    for t in [1e-5, 0.25, 1.0] {
        assert!((ve.sigma(t) / (0.01 * 5000f64.powf(t)) - 1.0).abs() < 1e-12);
        let weight = ve.diffusion2(t) / ve.sigma2(t);
        assert!((weight / (2.0 * 5000f64.ln()) - 1.0).abs() < 1e-12, "the two weightings are one");
    }
}
