//! Experiments as a user runs them: those on images and their cost on sixty images of 8×8, those on
//! likelihoods on a few rows.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use tch::Tensor;

mod common;
use common::write_feature_network;

fn tweedie(args: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_tweedie");
    Command::new(program)
        .args(args)
        .args(["--threads", "1", "--quiet"])
        .output()
        .expect("the program starts")
}

fn succeed(args: &[&str]) {
    let output = tweedie(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn refused(args: &[&str], words: &[&str]) {
    let output = tweedie(args);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {message}");
    assert!(words.iter().all(|word| message.contains(word)), "{words:?}: {message}");
}

/// An IDX file of bright squares on a ramp, no two images alike.
fn write_images(path: &Path) {
    let mut bytes = vec![0, 0, 8, 3];
    [60u32, 8, 8].iter().for_each(|axis| bytes.extend(axis.to_be_bytes()));
    for i in 0..60usize {
        let square = |at: usize, from: usize| (from..from + 3).contains(&at);
        let level = |y: usize, x: usize| match square(y, i % 6) && square(x, i / 6 % 6) {
            true => 250 - i,
            false => 4 * (x + y) + i,
        };
        bytes.extend((0..64).map(|at| level(at / 8, at % 8) as u8));
    }
    std::fs::write(path, bytes).unwrap();
}

/// A CSV file's rows by the head's names.
fn rows(path: &Path) -> Vec<BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_path(path).unwrap();
    let head = reader.headers().unwrap().clone();
    let cells = |row: csv::StringRecord| {
        head.iter().map(String::from).zip(row.iter().map(String::from)).collect()
    };
    reader.records().map(|row| cells(row.unwrap())).collect()
}

fn number(row: &BTreeMap<String, String>, name: &str) -> f64 {
    row[name].parse().unwrap_or_else(|_| panic!("{name} of {row:?}"))
}

#[test]
fn cost() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().to_string_lossy().into_owned();
    let cost =
        ["experiment", "cost", "--out", &out, "--quick", "--shape", "1x8x8", "--ranks", "0,2"];
    succeed(&[&cost[..], &["--rounds", "2"]].concat());
    let table = rows(&dir.path().join("cost.csv"));
    let names: Vec<&str> = table.iter().map(|row| row["arm"].as_str()).collect();
    assert_eq!(names[..3], ["sm", "lm-r0-shared", "lm-r2-shared"]);
    assert_eq!(names[7..], ["head-r0-separate", "head-r2-separate"]);
    for row in &table {
        assert!(number(row, "iteration_s_median") > 0.0 && number(row, "iteration_over_sm") > 0.0);
        if cfg!(target_os = "linux") {
            assert!(
                number(row, "memory_peak_bytes") > number(row, "memory_before_bytes"),
                "{row:?}"
            );
        }
    }
    let page = std::fs::read_to_string(dir.path().join("cost.md")).unwrap();
    assert!(
        page.contains("head only, r = 2, as the paper") && page.contains("0.599 (2.06)"),
        "{page}"
    );
    refused(
        &[&cost[..], &["--transitions", "3", "--batch-size", "5"]].concat(),
        &["--transitions"],
    );
    refused(&[&cost[..], &["--device", "cuda:99"]].concat(), &["--device"]);
    refused(&["experiment", "cost", "--out", &out, "--shape", "1x9x9"], &["shape", "9 x 9"]);
}

/// Runs that were trained are used again, by the same command and by name, with the same figures.
#[test]
fn few_steps() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    write_images(&dir.path().join("images"));
    let out = at("out");
    let command = ["experiment", "few-steps", "--out", &out, "--data", &at("images"), "--quick"];
    let sizes = ["--iterations", "3", "--steps", "2,5", "--sheet", "4", "--rows", "3"];
    let again = || succeed(&[&command[..], &sizes[..]].concat());
    again();
    let table = rows(&dir.path().join("out/few-steps.csv"));
    let names: Vec<(&str, &str)> =
        table.iter().map(|r| (r["run"].as_str(), r["method"].as_str())).collect();
    let lm = |run| {
        ["learned", "zero-hessian", "beta-tilde", "ddim"].map(|method| [(run, method); 2]).concat()
    };
    let sm = ["zero-hessian", "beta-tilde", "ddim"].map(|method| [("sm", method); 2]).concat();
    assert_eq!(names, [lm("lm-paper"), lm("lm"), sm].concat());
    for row in &table {
        // a deterministic sampler has no such likelihood
        assert_eq!(row["bits_per_dim"].is_empty(), row["method"] == "ddim", "{row:?}");
        assert!((0.0..=1.0).contains(&number(row, "noise_clipped")), "{row:?}");
        if row["method"] == "learned" {
            assert!(
                number(row, "bits_per_dim").is_finite()
                    && number(row, "bits_per_dim_std_error") > 0.0
            );
        }
        assert_eq!(row["frechet_distance"], "", "without --features");
    }
    let sheet = image::open(at("out/samples-lm-learned-5.png")).unwrap();
    assert!(sheet.width() > 8 && dir.path().join("out/samples-sm-ddim-2.png").exists());
    let modified =
        || std::fs::metadata(at("out/runs/lm/ema.safetensors")).unwrap().modified().unwrap();
    let before = modified();
    again();
    assert_eq!(modified(), before, "a finished run is not trained again");

    let runs = ["lm-paper", "lm", "sm"].map(|run| at(&format!("out/runs/{run}")));
    let named = at("named");
    let mut by_name = vec!["experiment", "few-steps", "--out", &named, "--quick"];
    runs.iter().for_each(|run| by_name.extend(["--run", run]));
    succeed(&[&by_name[..], &sizes[2..]].concat());
    let read = |name: &str| std::fs::read_to_string(at(name)).unwrap();
    assert_eq!(read("named/few-steps.csv"), read("out/few-steps.csv"));

    // mistakes, found before anything is trained
    let none = at("none");
    let experiment = |rest: &[&str], words: &[&str]| {
        refused(&[&["experiment", "few-steps", "--out", &none, "--quick"], rest].concat(), words);
        assert!(!Path::new(&none).exists(), "{words:?}");
    };
    experiment(&[], &["--data", "--run"]);
    experiment(&["--run", &at("images")], &["images", "not a run directory"]);
    experiment(&["--data", &at("images"), "--features", &at("missing.pth")], &["missing.pth"]);
    experiment(&["--data", &at("images"), "--test", &at("missing")], &["missing"]);
    experiment(&["--data", &at("images"), "--steps", "0"], &["--steps"]);
    let slow =
        ["experiment", "few-steps", "--out", &none, "--data", &at("images"), "--steps", "10,2000"];
    refused(&slow, &["--steps", "2000", "1 to 1000"]);
    // likelihoods of a run with classes are of each image under its own
    for (name, first) in [("t", 0), ("swapped", 1)] {
        write_images(&dir.path().join(format!("{name}-images-idx3-ubyte")));
        let labels = (0..60).map(|i| (i + first) % 2);
        let labels = [0, 0, 8, 1, 0, 0, 0, 60].into_iter().chain(labels);
        std::fs::write(at(&format!("{name}-labels-idx1-ubyte")), labels.collect::<Vec<u8>>())
            .unwrap();
    }
    let (classes, images) = (at("classes"), at("t-images-idx3-ubyte"));
    let train = ["train", "--data", &images, "--out", &classes, "--classes", "--batch-size", "2"];
    let fast = ["--learning-rate", "0.05", "--set", "train.warm_up=1", "--iterations", "8"];
    succeed(&[&train[..], &fast].concat());
    let bits = |name: &str| {
        let (out, test) = (at(name), at(&format!("{name}-images-idx3-ubyte")));
        let few = ["experiment", "few-steps", "--out", &out, "--quick", "--run", &classes];
        succeed(&[&few[..], &["--test", &test, "--steps", "2", "--rows", "60"]].concat());
        let table = rows(&dir.path().join(format!("{name}/few-steps.csv")));
        table[0]["bits_per_dim"].clone()
    };
    assert_ne!(bits("t"), bits("swapped"));
    experiment(&["--run", &classes, "--run", &runs[2]], &["--run", "sm", "other classes"]);
    let table: String = (0..30).map(|i| format!("{i},{}\n", i * i % 17)).collect();
    std::fs::write(at("table.csv"), format!("a,b\n{table}")).unwrap();
    experiment(&["--data", &at("table.csv")], &["--data", "table"]);
    assert!(!Path::new(&none).join("runs").exists());
    refused(&[&command[..], &["--iterations", "4"]].concat(), &["--out", "other settings"]);
    // images split in another way: test images of one run are training images of the other
    succeed(
        &[
            &["experiment", "few-steps", "--out", &at("other"), "--data", &at("images"), "--quick"],
            &sizes[..],
            &["--seed", "1"],
        ]
        .concat(),
    );
    let other = at("other/runs/sm");
    refused(
        &["experiment", "few-steps", "--out", &none, "--quick", "--run", &runs[1], "--run", &other],
        &["--run", "--test"],
    );
}

#[test]
fn hessian_ablation() {
    let dir = tempfile::tempdir().unwrap();
    write_images(&dir.path().join("images"));
    let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let sizes =
        ["--iterations", "3", "--rows", "3", "--steps", "2,3", "--rank", "1", "--transitions", "2"];
    let (out, images) = (at("out"), at("images"));
    let command = ["experiment", "hessian-ablation", "--out", &out, "--data", &images, "--quick"];
    succeed(&[&command[..], &sizes[..]].concat());
    let table = rows(&dir.path().join("out/hessian-ablation.csv"));
    let lines = |run: &str, method: &str| {
        table.iter().filter(|row| row["run"] == run && row["method"] == method).count()
    };
    for (run, head) in [
        ("sm", 0),
        ("lm-zero-hessian", 0),
        ("lm-identity-hessian", 0),
        ("lm-joint-shared", 2),
        ("lm-joint-separate", 2),
        ("lm-dsm-detached", 2),
        ("lm-dsm-shared", 2),
        ("lm-dsm-separate", 2),
        ("lm-paper", 2),
    ] {
        assert_eq!(
            [lines(run, "learned"), lines(run, "zero-hessian"), lines(run, "ddim")],
            [head, 2, 0],
            "{run}"
        );
    }
    assert_eq!(lines("lm-identity-hessian", "identity-hessian"), 2);
    assert!(table.iter().all(|row| number(row, "bits_per_dim").is_finite()));
    let page = std::fs::read_to_string(at("out/hessian-ablation.md")).unwrap();
    assert!(
        page.contains("10.28 and 9.75") && page.contains("| lm-joint-separate, learned G |"),
        "{page}"
    );
    let config = std::fs::read_to_string(at("out/runs/lm-zero-hessian/config.toml")).unwrap();
    assert!(
        config.contains("lm-fixed-hessian")
            && config.contains("hessian = \"zero\"")
            && !config.contains("[model.head]"),
        "{config}"
    );
    let config = std::fs::read_to_string(at("out/runs/lm-paper/config.toml")).unwrap();
    let parts = ["form = \"path\"", "score = \"joint\"", "prediction = \"epsilon\"", "separate"];
    assert!(parts.iter().all(|part| config.contains(part)), "{config}");
    // what is compared differs in the objective, not in where it looks: one distribution of t, and
    // heads whose gradient does not reach the score among them
    for run in ["sm", "lm-zero-hessian", "lm-joint-shared", "lm-dsm-detached", "lm-dsm-separate"] {
        let config = std::fs::read_to_string(at(&format!("out/runs/{run}/config.toml"))).unwrap();
        assert!(
            config.contains("time = \"uniform\"") && !config.contains("log-snr"),
            "{run}: {config}"
        );
        assert_eq!(
            config.contains("head_trunk = \"detached\""),
            run == "lm-dsm-detached",
            "{run}: {config}"
        );
    }
}

/// Heads on one frozen score; with random weights for the feature network, Fréchet distances of
/// everything.
#[test]
fn image_grid() {
    let dir = tempfile::tempdir().unwrap();
    write_images(&dir.path().join("images"));
    let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    write_feature_network(&dir.path().join("features.safetensors"));
    let (out, images, features) = (at("out"), at("images"), at("features.safetensors"));
    let command = [
        "experiment",
        "image-grid",
        "--out",
        &out,
        "--data",
        &images,
        "--quick",
        "--features",
        &features,
    ];
    let sizes =
        ["--iterations", "3", "--rows", "3", "--samples", "3", "--reference", "4", "--steps", "2"];
    succeed(&[&command[..], &sizes[..], &["--transitions", "2,4", "--ranks", "1"]].concat());
    let table = rows(&dir.path().join("out/image-grid.csv"));
    let cells: Vec<[&str; 4]> = table
        .iter()
        .map(|r| ["run", "transitions", "rank", "method"].map(|name| r[name].as_str()))
        .collect();
    assert_eq!(
        cells,
        [
            ["sm", "", "", "zero-hessian"],
            ["sm", "", "", "beta-tilde"],
            ["head-shared-N2-r1", "2", "1", "learned"],
            ["head-shared-N4-r1", "4", "1", "learned"],
        ]
    );
    for row in &table {
        assert!(
            number(row, "bits_per_dim").is_finite() && number(row, "frechet_distance") > 0.0,
            "{row:?}"
        );
    }
    let page = std::fs::read_to_string(at("out/image-grid.md")).unwrap();
    assert!(page.contains("FD-EfficientNetLite0: 3 samples against 4 test images"), "{page}");
    assert!(dir.path().join("out/figure-2c-bits-2.svg").exists());
    // the cells' score is the one trained by score matching
    let tensors = |run: &str| -> BTreeMap<String, Tensor> {
        Tensor::read_safetensors(at(&format!("out/runs/{run}/ema.safetensors")))
            .unwrap()
            .into_iter()
            .collect()
    };
    let (sm, cell) = (tensors("sm"), tensors("head-shared-N4-r1"));
    assert!(cell.len() > sm.len() && sm.iter().all(|(name, value)| cell[name] == *value));
    // cells that cannot be are refused before anything is trained
    let none = at("none");
    let grid = ["experiment", "image-grid", "--out", &none, "--data", &images];
    refused(
        &[&grid[..], &["--transitions", "32", "--batch-size", "16"]].concat(),
        &["--batch-size", "32"],
    );
    refused(&[&grid[..], &["--ranks", "65"]].concat(), &["--rank", "64"]);
    refused(&[&grid[..], &["--network", "paper", "--size", "9x9"]].concat(), &["shape", "9 x 9"]);
    assert!(!Path::new(&none).join("runs").exists());
}

/// Every estimator on mixtures and on a run, whose tightest ODE likelihood stands for the truth.
#[test]
fn estimators() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let (run, out) = (at("run"), at("out"));
    let train = [
        "train",
        "--data",
        "mixture:nine-gaussians",
        "--out",
        &run,
        "--iterations",
        "3",
        "--width",
        "8",
    ];
    succeed(&[&train[..], &["--base", "gaussian"]].concat());
    let command = ["experiment", "estimators", "--out", &out, "--quick", "--rows", "5"];
    succeed(&[&command[..], &["--run", &run]].concat());
    let table = rows(&dir.path().join("out/estimators.csv"));
    let of_run: Vec<_> = table.iter().filter(|row| row["data"] == "run").collect();
    // per set: 2 + 2 + 2 likelihoods by the ODE, a bound, and two ELBOs of each covariance
    assert_eq!((table.len(), of_run.len()), (7 * 16, 16));
    assert_eq!(number(of_run[0], "error"), 0.0, "the tightest is the reference");
    for row in &table {
        assert!(
            number(row, "nats").is_finite() && number(row, "evaluations_per_row") > 1.0,
            "{row:?}"
        );
        if row["family"] == "ODE, exact divergence" {
            assert!(number(row, "error").abs() < 0.05, "{row:?}");
        }
    }
    let page = std::fs::read_to_string(at("out/estimators.md")).unwrap();
    assert!(
        page.contains("## run, VP")
            && page.contains("stands for it")
            && page.contains("3.16 and 3.28")
    );
    assert!(dir.path().join("out/estimators-7.svg").exists());
    refused(&[&command[..], &["--run", &at("none")]].concat(), &["not a run directory"]);
    refused(&[&command[..5], &["--rows", "0"]].concat(), &["--rows"]);
}

/// Both experiments on weightings, on a table.
#[test]
fn weightings() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let table: String =
        (0..300).map(|i| format!("{},{}\n", (i * 37 % 101) as f64 / 7.0, i * i % 89)).collect();
    std::fs::write(at("table.csv"), format!("a,b\n{table}")).unwrap();
    let (data, out) = (at("table.csv"), at("out"));
    let sizes = [
        "--out",
        &out,
        "--quick",
        "--data",
        &data,
        "--iterations",
        "30",
        "--trials",
        "2",
        "--rows",
        "20",
    ];
    succeed(&[&["experiment", "weighting-variance"][..], &sizes].concat());
    let table = rows(&dir.path().join("out/weighting-variance.csv"));
    assert_eq!(table.len(), 2 * 3 * 2);
    assert!(
        table
            .iter()
            .all(|row| number(row, "loss_variance") > 0.0 && number(row, "bound").is_finite())
    );
    assert_eq!(rows(&dir.path().join("out/weighting-variance-curves.csv")).len(), 2 * 3 * 2 * 30);
    let page = std::fs::read_to_string(at("out/weighting-variance.md")).unwrap();
    assert!(
        page.contains("2 columns, 240 training rows")
            && page.contains("| σ² weighting, uniform t |"),
        "{page}"
    );
    assert!(Path::new(&at("out/figure-2-subvp.svg")).exists());

    let interpolation =
        ["experiment", "weighting-interpolation", "--powers", "0,1", "--samples", "30"];
    succeed(&[&interpolation[..], &sizes].concat());
    let table = rows(&dir.path().join("out/weighting-interpolation.csv"));
    let powers: Vec<f64> = table.iter().map(|row| number(row, "power")).collect();
    assert_eq!(powers, [0.0, 0.0, 1.0, 1.0]);
    assert!(
        table.iter().all(|row| number(row, "nll").is_finite() && number(row, "bound").is_finite())
    );
    let page = std::fs::read_to_string(at("out/weighting-interpolation.md")).unwrap();
    assert!(page.contains("against the test rows") && page.contains("2.95 / 3.08"), "{page}");
    refused(
        &["experiment", "weighting-interpolation", "--out", &out, "--powers", "1.5"],
        &["weighting", "0 (sigma2) to 1"],
    );
    refused(
        &["experiment", "weighting-variance", "--out", &out, "--data", &at("none.csv")],
        &["none.csv"],
    );
    refused(
        &[&["experiment", "weighting-variance", "--iterations", "3"][..], &sizes[..2]].concat(),
        &["8 steps"],
    );
}

/// Nine scores on a table of levels, judged with both dequantisations; the same command finds them
/// trained.
#[test]
fn scoreflow_table() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let mut text = String::from("a,b\n");
    for i in 0..120usize {
        text += &format!("{},{}\n", i * i % 17, (i * 7 + i / 3) % 11);
    }
    std::fs::write(at("levels.csv"), text).unwrap();
    let config = format!(
        "[data]\nsource = {:?}\n[data.scaling]\ndequantize = \"integers\"\n[base]\n\
         kind = \"isotropic\"\n\
         [model.network]\nkind = \"mlp\"\nwidth = 8\ndepth = 1\n",
        at("levels.csv")
    );
    std::fs::write(at("table.toml"), config).unwrap();
    let (out, config) = (at("out"), at("table.toml"));
    let command = ["experiment", "scoreflow-table", "--out", &out, "--config", &config, "--quick"];
    let sizes =
        ["--iterations", "5", "--seeds", "1", "--rows", "4", "--draws", "4", "--samples", "20"];
    let command = [&command[..], &sizes[..], &["--dequantizer", "3"]].concat();
    succeed(&command);
    let table = rows(&dir.path().join("out/scoreflow-table.csv"));
    assert_eq!(table.len(), 18);
    for row in &table {
        assert!(number(row, "nll").is_finite() && number(row, "frechet") > 0.0, "{row:?}");
    }
    let schedules: Vec<&str> =
        table.iter().step_by(6).map(|row| row["schedule"].as_str()).collect();
    assert_eq!(schedules, ["VP", "subVP", "VE"]);
    // one cell's objective and process are the configuration's of its run
    let run = std::fs::read_to_string(at("out/runs/subvp-sm-lw-is-0/config.toml")).unwrap();
    assert!(
        run.contains("kind = \"sub-vp\"") && run.contains("weighting = \"likelihood\""),
        "{run}"
    );
    assert!(run.contains("time = \"log-snr\""), "{run}");
    let page = std::fs::read_to_string(at("out/scoreflow-table.md")).unwrap();
    assert!(page.contains("| VE | LW + IS |") && page.contains("2.83"), "{page}");
    let trained =
        std::fs::metadata(at("out/runs/ve-sm-0/ema.safetensors")).unwrap().modified().unwrap();
    succeed(&command);
    assert_eq!(rows(&dir.path().join("out/scoreflow-table.csv")), table);
    let again =
        std::fs::metadata(at("out/runs/ve-sm-0/ema.safetensors")).unwrap().modified().unwrap();
    assert_eq!(trained, again);
    refused(&[&command[..], &["--seeds", "0"]].concat(), &["--seeds"]);
}

/// Covariances of one score of images, a head on it among them; a head on another score is refused.
#[test]
fn covariance_table() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    write_images(&dir.path().join("images"));
    let config = "[model.network]\nkind = \"unet\"\nshape = [1, 8, 8]\nwidths = [8, 8]\n\
                  attention = [false, false]\n\
                  groups = 4\nmiddle_attention = false\n[train]\nbatch_size = 4\n[base]\n\
                  kind = \"isotropic\"\n";
    std::fs::write(at("small.toml"), config).unwrap();
    let (config, images) = (at("small.toml"), at("images"));
    let train = ["train", "--config", &config, "--data", &images, "--iterations", "3"];
    let (score, other, ocm) = (at("score"), at("other"), at("ocm"));
    for (run, seed) in [(&score, "0"), (&other, "1")] {
        succeed(&[&train[..], &["--objective", "sm", "--out", run, "--seed", seed]].concat());
    }
    let head = ["--objective", "ocm", "--rank", "1", "--score-from", &score, "--out", &ocm];
    succeed(&[&train[..], &head[..]].concat());
    let out = at("out");
    let command = [
        "experiment",
        "covariance-table",
        "--out",
        &out,
        "--quick",
        "--head",
        &ocm,
        "--steps",
        "2,3",
    ];
    let few = ["--rows", "2", "--covariances", "beta-tilde,beta,analytic,rademacher-2"];
    let until = ["--covariance-until", "5", "--sheet", "4"];
    succeed(&[&command[..], &few[..], &until, &["--run", &score]].concat());
    let table = rows(&dir.path().join("out/covariance-table.csv"));
    let bits: Vec<(&str, &str)> = table
        .iter()
        .filter(|row| row["steps"] == "2" && !row["bits_per_dim"].is_empty())
        .map(|row| (row["run"].as_str(), row["method"].as_str()))
        .collect();
    let expected = [
        ("score", "beta-tilde"),
        ("score", "beta"),
        ("score", "analytic"),
        ("score", "rademacher-2"),
        ("ocm", "learned"),
    ];
    assert_eq!(bits, expected);
    let page = std::fs::read_to_string(at("out/covariance-table.md")).unwrap();
    assert!(
        page.contains("| ocm, learned G |") && page.contains("Cost of a sampling step"),
        "{page}"
    );
    // each training of a head has its seed
    let again = at("again");
    let repeated = ["experiment", "covariance-table", "--out", &again, "--quick", "--steps", "2"];
    let trained = ["--train", "ocm", "--repeats", "2", "--iterations", "2", "--rows", "2"];
    succeed(&[&repeated[..], &trained, &["--run", &score, "--covariances", "beta"]].concat());
    let config = |run: &str| std::fs::read_to_string(at(&format!("again/runs/{run}/config.toml")));
    assert!(config("ocm").unwrap().contains("seed = 0"));
    assert!(config("ocm.seed1").unwrap().contains("seed = 1"));
    let both = rows(&dir.path().join("again/covariance-table.csv"));
    let bits = |repeat: &str| {
        let learned =
            |row: &&BTreeMap<String, String>| row["method"] == "learned" && row["repeat"] == repeat;
        both.iter().find(learned).unwrap_or_else(|| panic!("{both:?}"))["bits_per_dim"].clone()
    };
    assert_ne!(bits("0"), bits("1"));
    let page = std::fs::read_to_string(at("again/covariance-table.md")).unwrap();
    assert!(page.contains("## Over 2 seeds") && page.contains("| ocm, learned G | "), "{page}");
    // with the covariance in the early steps alone samples are others, and have no likelihood
    let sheet = |name: &str| std::fs::read(at(&format!("out/samples-ocm-{name}-3.png"))).unwrap();
    assert_ne!(sheet("learned"), sheet("learned-until-5"));
    assert_ne!(sheet("ddim-learned"), sheet("ddim-learned-until-5"));
    let limited = table.iter().filter(|row| row["method"].ends_with("-until-5"));
    assert_eq!(limited.filter(|row| row["bits_per_dim"].is_empty()).count(), 4);
    let wrong = [&command[..], &["--run", &score, "--covariance-until=-1"]].concat();
    refused(&wrong, &["--covariance-until", "as 5"]);
    refused(&[&command[..], &few[..], &["--run", &other]].concat(), &["--head", "another score"]);
}

/// From the folder of a diffusers model to the table in one command, which finds the score and the
/// heads of its first call finished; images of another shape and heads that cannot be are refused.
#[test]
fn covariance_table_of_a_diffusers_model() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    write_images(&dir.path().join("images"));
    let config = "[schedule]\nkind = \"discrete\"\nsteps = 100\nlaw = \"linear\"\n\
                  beta_start = 0.001\nbeta_end = 0.2\n\
                  [model]\nprediction = \"epsilon\"\n[model.network]\nkind = \"unet\"\n\
                  shape = [1, 8, 8]\nwidths = [8, 8]\n\
                  attention = [false, false]\ngroups = 4\nmiddle_attention = false\nsteps = 100\n\
                  [train]\nbatch_size = 4\n\
                  [base]\nkind = \"isotropic\"\n";
    std::fs::write(at("small.toml"), config).unwrap();
    let (config, images, score, pipeline, out) =
        (at("small.toml"), at("images"), at("score"), at("pipeline"), at("out"));
    let train =
        ["train", "--config", &config, "--data", &images, "--iterations", "3", "--objective", "sm"];
    succeed(&[&train[..], &["--out", &score]].concat());
    succeed(&["export", &score, "--out", &pipeline]);
    let table =
        ["experiment", "covariance-table", "--out", &out, "--run", &pipeline, "--steps", "2,5"];
    let few = [
        "--rows",
        "2",
        "--covariances",
        "beta",
        "--iterations",
        "2",
        "--batch-size",
        "4",
        "--terms",
        "3",
    ];
    let command = [&table[..], &few[..], &["--train", "lm-1,ocm,npr,sn,iddpm"]].concat();
    refused(&command, &["--data", "no data of its own"]);
    refused(&[&command[..], &["--data", &images, "--size", "4x4"]].concat(), &["--data", "--size"]);
    refused(&[&table[..], &["--data", &images, "--train", "ocm-x"]].concat(), &["ocm-x", "rank"]);
    let command = [&command[..], &["--data", &images]].concat();
    succeed(&command);
    let found: Vec<(String, String)> = rows(&dir.path().join("out/covariance-table.csv"))
        .into_iter()
        .filter(|row| row["steps"] == "5" && !row["bits_per_dim"].is_empty())
        .inspect(|row| assert!(number(row, "bits_per_dim").is_finite()))
        .map(|row| (row["run"].clone(), row["method"].clone()))
        .collect();
    let learned =
        ["lm-1", "ocm", "npr", "sn"].map(|head| (head.to_string(), "learned".to_string()));
    let beta = ("score".to_string(), "beta".to_string());
    let iddpm = ("iddpm".to_string(), "interpolated".to_string());
    assert_eq!(found, [&[beta], &learned[..], &[iddpm]].concat());
    let page = std::fs::read_to_string(at("out/covariance-table.md")).unwrap();
    assert!(
        page.contains("Of more than 3 terms")
            && page.contains("Trained here: lm-1, ocm, npr, sn, iddpm"),
        "{page}"
    );
    let changed = |run: &str| {
        std::fs::metadata(at(&format!("out/runs/{run}/ema.safetensors")))
            .unwrap()
            .modified()
            .unwrap()
    };
    // a head takes what it started from along
    let (folder, again) = (at("exported"), at("again"));
    succeed(&["export", &at("out/runs/ocm"), "--out", &folder]);
    succeed(&["import", &folder, "--out", &again, "--data", &images]);
    let drawn = |run: &str| {
        let samples = at("samples.npy");
        succeed(&["sample", run, "-n", "2", "--steps", "3", "-o", &samples]);
        std::fs::read(&samples).unwrap()
    };
    assert_eq!(drawn(&at("out/runs/ocm")), drawn(&again));
    succeed(&["evaluate", &again, "--steps", "2", "--rows", "2", "--metrics", "nll"]);

    let before = (changed("score"), changed("ocm"));
    succeed(&command);
    assert_eq!(before, (changed("score"), changed("ocm")));
}

/// Covariances of the score of a table: nats per row, and Fréchet distances of the columns.
#[test]
fn covariance_table_of_a_table() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let (score, out) = (at("score"), at("out"));
    let train = [
        "train",
        "--data",
        "mixture:two-gaussians",
        "--iterations",
        "3",
        "--width",
        "8",
        "--depth",
        "1",
    ];
    succeed(&[&train[..], &["--objective", "sm", "--out", &score]].concat());
    let command =
        ["experiment", "covariance-table", "--out", &out, "--run", &score, "--steps", "3"];
    let few = ["--rows", "50", "--samples", "50", "--iterations", "2", "--train", "ocm"];
    let command = [&command[..], &few[..], &["--covariances", "beta,full"]].concat();
    succeed(&command);
    let table = rows(&dir.path().join("out/covariance-table.csv"));
    let lines: Vec<(&str, &str)> =
        table.iter().map(|row| (row["run"].as_str(), row["method"].as_str())).collect();
    let expected = [
        ("score", "beta"),
        ("score", "full"),
        ("ocm", "learned"),
        ("score", "ddim-full"),
        ("ocm", "ddim-learned"),
    ];
    assert_eq!(lines, expected);
    for row in &table {
        assert!(number(row, "frechet_distance") > 0.0, "{row:?}");
        assert_eq!(row["nats_per_row"].is_empty(), row["method"].starts_with("ddim"), "{row:?}");
    }
    refused(
        &[&command[..], &["--data", "mixture:two-gaussians"]].concat(),
        &["--data", "leave it out"],
    );
    refused(
        &[&command[..], &["--features", &at("score/config.toml")]].concat(),
        &["score/config.toml"],
    );
}

/// Every covariance on a known distribution, where G = 0 has an error of 1 on both scores; and the
/// diagonal by random signs, whose error falls with the number of products.
#[test]
fn covariances_of_known_laws() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().to_string_lossy().into_owned();
    let sizes =
        ["--out", &out, "--quick", "--law", "mixture2", "--iterations", "5", "--rows", "20"];
    let toy = ["experiment", "covariance-toy", "--score-iterations", "5", "--samples", "20"];
    succeed(&[&toy[..], &sizes, &["--steps", "3"]].concat());
    let table = rows(&dir.path().join("covariance-toy.csv"));
    let of = |quantity: &str, score: &str| {
        table
            .iter()
            .filter(|row| row["quantity"] == quantity && row["score"] == score)
            .collect::<Vec<_>>()
    };
    for score in ["true", "learned"] {
        // seven heads, Analytic-DPM in two forms, Rademacher, β̃, β, G = I; and of the learned score its
        // Jacobian; three times
        let errors = of("error", score);
        assert_eq!(errors.len(), 3 * if score == "true" { 13 } else { 14 });
        let zero = errors.iter().filter(|row| row["arm"].starts_with("β̃"));
        assert!(zero.clone().count() == 3 && zero.clone().all(|row| number(row, "mean") == 1.0));
        // β and I-DDPM are of ancestral steps; the exact G is sampled with the true score
        let of_law = usize::from(score == "true");
        assert_eq!(of("mmd2-ddpm", score).len(), 13 + of_law);
        assert_eq!(of("mmd2-ddim", score).len(), 11 + of_law);
    }
    assert!(table.iter().all(|row| number(row, "mean").is_finite()));
    let page = std::fs::read_to_string(dir.path().join("covariance-toy.md")).unwrap();
    assert!(page.contains("## mixture2: 5 Gaussians") && page.contains("OCM / NPR:"), "{page}");
    assert!(dir.path().join("covariance-toy-mixture2-true-diagonal-error.svg").exists());

    succeed(&[&["experiment", "rademacher", "--probes", "1,4"][..], &sizes].concat());
    let table = rows(&dir.path().join("rademacher.csv"));
    let slopes: Vec<f64> = table
        .iter()
        .filter(|row| row["quantity"] == "slope")
        .map(|row| number(row, "mean"))
        .collect();
    assert!(
        slopes.len() == 2 && slopes.iter().all(|slope| (-1.0..0.0).contains(slope)),
        "{slopes:?}"
    );
    let page = std::fs::read_to_string(dir.path().join("rademacher.md")).unwrap();
    assert!(page.contains("| Rademacher, M = 4 | 1 | 4 |") && page.contains("M ≥ 100"), "{page}");

    let refuse = |which: &str, rest: &[&str], words: &[&str]| {
        refused(&[&["experiment", which, "--out", &out, "--quick"][..], rest].concat(), words);
    };
    refuse("covariance-toy", &["--law", "ten"], &["--law", "mixture64"]);
    refuse("covariance-toy", &["--trials", "0"], &["--trials"]);
    refuse("rademacher", &["--probes", "4,2"], &["--probes", "rising"]);
}

/// Theorem 1 at a few steps: every covariance and error on three distributions and two chains, the
/// output in one dimension alone.
#[test]
fn theory() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().to_string_lossy().into_owned();
    let command = ["experiment", "theory", "--out", &out, "--quick", "--rows", "20"];
    succeed(&[&command[..], &["--steps", "5,20,24,30", "--perturbations", "0.05,0.1"]].concat());
    let table = rows(&dir.path().join("theory.csv"));
    let count = |part: &str, dim: &str, sampler: &str| {
        let mine = |row: &&BTreeMap<String, String>| {
            row["part"] == part && row["dim"] == dim && row["sampler"] == sampler
        };
        table.iter().filter(mine).count()
    };
    for dim in ["1", "2", "10"] {
        for sampler in ["beta-tilde", "beta", "zero-hessian", "analytic", "full", "score-0.1"] {
            assert_eq!(count("steps", dim, sampler), 2 * 4, "{dim} {sampler}");
        }
        assert_eq!(count("steps", dim, "diagonal"), if dim == "1" { 0 } else { 8 });
        assert_eq!(count("errors", dim, "score-0.05"), 1);
        assert_eq!(count("errors", dim, "hessian-0.1"), 1);
    }
    for row in &table {
        assert!(number(row, "path") > 0.0 && number(row, "path_std_error") > 0.0, "{row:?}");
        assert_eq!(row["total_variation"].is_empty(), row["dim"] != "1", "{row:?}");
        assert_eq!(row["elbo_gap"].is_empty(), row["part"] == "errors", "{row:?}");
        let path = |sampler: &str| {
            let same = |other: &&BTreeMap<String, String>| {
                ["part", "dim", "chain", "steps"].iter().all(|name| other[*name] == row[*name])
                    && other["sampler"] == sampler
            };
            table.iter().find(same).map_or(0.0, |other| number(other, "path"))
        };
        assert!(
            number(row, "path") >= path("full") - 1e-12,
            "the exact covariance is the best: {row:?}"
        );
    }
    let page = std::fs::read_to_string(dir.path().join("theory.md")).unwrap();
    assert!(
        page.contains("Exponents in δ") && page.contains("No density at K = 5: Hessian off by 0.1"),
        "{page}"
    );
    assert!(
        dir.path().join("path-10-theorem.svg").exists()
            && dir.path().join("output-log-snr.svg").exists()
    );
    refused(&[&command[..], &["--steps", "3,10,20,40"]].concat(), &["--steps", "5 to 100000"]);
    refused(&[&command[..], &["--perturbations", "0.1,2"]].concat(), &["--perturbations"]);
}

/// Theorem 2 at few replicates: every estimator at every size beside maximum likelihood.
#[test]
fn consistency() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().to_string_lossy().into_owned();
    let command = [
        "experiment",
        "consistency",
        "--out",
        &out,
        "--quick",
        "--replicates",
        "4",
        "--draws",
        "16",
    ];
    succeed(&[&command[..], &["--sizes", "30,40,50,60"]].concat());
    let table = rows(&dir.path().join("consistency.csv"));
    assert_eq!(table.len(), 2 * 4 * 8 * 3);
    for row in &table {
        assert!(number(row, "rmse") > 0.0 && number(row, "efficiency") > 0.0, "{row:?}");
        if row["estimator"] == "maximum likelihood" {
            assert_eq!(
                (number(row, "efficiency"), number(row, "efficiency_std_error")),
                (1.0, 0.0)
            );
        }
    }
    let page = std::fs::read_to_string(dir.path().join("consistency.md")).unwrap();
    assert!(page.contains("| LM path, N = 10 |") && page.contains("rate: means"), "{page}");
    assert!(page.contains("| quasi-MLE, T = 3, N = 9 |"), "{page}");
    assert!(dir.path().join("consistency-separated.svg").exists());
    refused(&[&command[..], &["--sizes", "5,40,50,60"]].concat(), &["--sizes", "seven parameters"]);
}
