//! The program as a user runs it: the main job end to end, mistakes, interruptions.

use std::path::Path;
use std::process::Command;

mod common;

use common::{fail, succeed, tweedie};

/// A table of 300 rows: two correlated columns and a count.
fn write_table(path: &Path) {
    let mut text = String::from("height,weight,children\n");
    let mut state = 1u64;
    let mut uniform = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as f64 / (1u64 << 31) as f64
    };
    for _ in 0..300 {
        let z: f64 = (0..12).map(|_| uniform()).sum::<f64>() - 6.0;
        let e: f64 = (0..12).map(|_| uniform()).sum::<f64>() - 6.0;
        let height = 170.0 + 10.0 * z;
        text += &format!(
            "{:.2},{:.2},{}\n",
            height,
            0.9 * (height - 100.0) + 5.0 * e,
            (uniform() * 5.0) as u32
        );
    }
    std::fs::write(path, text).unwrap();
}

/// Arguments of a training that takes a second or two.
fn tiny<'a>(data: &'a str, out: &'a str) -> Vec<&'a str> {
    let small = [
        "--iterations",
        "120",
        "--width",
        "16",
        "--depth",
        "1",
        "--batch-size",
        "64",
        "--checkpoint-every",
        "20",
    ];
    let mut args = vec![
        "train",
        "--data",
        data,
        "--out",
        out,
        "--dequantize",
        "integers",
        "--base",
        "gaussian",
        "--rank",
        "1",
    ];
    args.extend(small);
    args.extend(["--quiet", "--threads", "1"]);
    args
}

fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn the_main_job() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (data, run) = (at("people.csv"), at("run"));
    write_table(Path::new(&data));
    assert_eq!(succeed(&tiny(&data, &run)).trim(), run);
    for file in [
        "config.toml",
        "data.json",
        "base.json",
        "ema.safetensors",
        "model.safetensors",
        "state.safetensors",
        "metrics.jsonl",
    ] {
        assert!(Path::new(&run).join(file).exists(), "{file}");
    }

    // samples: names and types of the input, the same bits on a repeat, the same numbers at another
    // batch size
    let sample = |out: &str, batch: &str, threads: &str| {
        succeed(&[
            "sample",
            &run,
            "-n",
            "50",
            "--steps",
            "5",
            "-o",
            out,
            "--batch-size",
            batch,
            "--threads",
            threads,
            "--quiet",
        ]);
        std::fs::read_to_string(out).unwrap()
    };
    let first = sample(&at("a.csv"), "50", "1");
    assert!(first.starts_with("height,weight,children\n") && first.lines().count() == 51);
    let children: Vec<f64> =
        first.lines().skip(1).map(|l| l.rsplit(',').next().unwrap().parse().unwrap()).collect();
    assert!(children.iter().all(|c| c.fract() == 0.0), "integers come back as integers");
    assert_eq!(first, sample(&at("b.csv"), "50", "1"));
    let numbers = |text: &str| -> Vec<f64> {
        text.lines()
            .skip(1)
            .flat_map(|l| l.split(',').map(|c| c.parse::<f64>().unwrap()).collect::<Vec<_>>())
            .collect()
    };
    for (a, b) in numbers(&first).iter().zip(numbers(&sample(&at("c.csv"), "7", "2"))) {
        assert!((a - b).abs() <= 1e-4 * (1.0 + a.abs()), "batch size changed {a} to {b}");
    }
    for name in ["a.tsv", "a.parquet", "a.npy"] {
        succeed(&["sample", &run, "-n", "3", "--steps", "2", "-o", &at(name), "--quiet"]);
    }

    // scores: both columns added to each row, the same at any batch size; JSON; anomalies in order
    let score = |out: &str, batch: &str| {
        succeed(&[
            "score",
            &run,
            &data,
            "--steps",
            "5",
            "--draws",
            "2",
            "-o",
            out,
            "--batch-size",
            batch,
            "--quiet",
        ]);
        std::fs::read_to_string(out).unwrap()
    };
    let scores = score(&at("scores.csv"), "300");
    assert!(
        scores.starts_with("height,weight,children,log_likelihood,std_error\n")
            && scores.lines().count() == 301
    );
    for (a, b) in numbers(&scores).iter().zip(numbers(&score(&at("scores2.csv"), "11"))) {
        assert!((a - b).abs() <= 1e-4 * (1.0 + a.abs()), "batch size changed {a} to {b}");
    }
    let json =
        succeed(&["score", &run, &data, "--steps", "5", "--anomalies", "3", "--json", "--quiet"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["rows"], 300);
    assert_eq!(json["kind"], "lower-bound");
    let listed: Vec<f64> = json["anomalies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| a["log_likelihood"].as_f64().unwrap())
        .collect();
    assert!(listed.len() == 3 && listed.is_sorted());
    let ode = succeed(&["score", &run, &data, "--estimator", "ode", "--json", "--quiet"]);
    let ode: serde_json::Value = serde_json::from_str(&ode).unwrap();
    // weight | height has standard deviation 5, height 10, children is uniform on five values, each
    // noised over its bin: ln p is about −(ln 10 + ln 5 + 2·1.419 + ln 5) = −8.36 for the best
    // model; a quick fit must be near
    assert!((ode["mean"].as_f64().unwrap() + 8.36).abs() < 1.0, "{ode}");

    let table = succeed(&["evaluate", &run, "--steps", "5", "--json", "--quiet"]);
    assert!(table.contains("Gaussian, full covariance") && table.contains("MMD"));
    succeed(&["report", &run, "--no-ode", "-n", "100", "--quiet"]);
    let page = std::fs::read_to_string(Path::new(&run).join("report.html")).unwrap();
    assert!(page.contains("<svg") && !page.contains("http-equiv") && !page.contains("src=\"http"));

    // a run is never overwritten
    fail(&tiny(&data, &run), 2, &["already holds a run", "--resume"]);
}

/// No option needed: the default rank gives way where there are fewer columns.
#[test]
fn two_columns_train_with_the_defaults() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run").display().to_string();
    succeed(&[
        "train",
        "--data",
        "mixture:nine-gaussians",
        "--out",
        &run,
        "--iterations",
        "3",
        "--quiet",
    ]);
    let config = std::fs::read_to_string(dir.path().join("run/config.toml")).unwrap();
    assert!(config.contains("low-rank = 2"), "{config}");
}

/// Every sampler draws from a run, and has no options but its own.
#[test]
fn samplers_have_options_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let (data, run, out) = (at("people.csv"), at("run"), at("drawn.csv"));
    write_table(Path::new(&data));
    let train =
        ["train", "--data", &data, "--out", &run, "--objective", "sm", "--base", "gaussian"];
    succeed(&[&train[..], &["--iterations", "20", "--width", "16"]].concat());
    let sample = ["sample", &run, "-n", "400", "--steps", "20", "-o", &out, "--quiet", "--sampler"];
    let mean = |rest: &[&str]| {
        succeed(&[&sample[..], rest].concat());
        let text = std::fs::read_to_string(&out).unwrap();
        let heights = text
            .lines()
            .skip(1)
            .map(|line| line.split(',').next().unwrap().parse::<f64>().unwrap());
        heights.sum::<f64>() / 400.0
    };
    // heights are 170 ± 10: a mean of 400 has a standard error of 0.5, the one that was fitted
    // another of 0.6
    for options in [
        &["heun"][..],
        &["euler-maruyama"],
        &["flow", "--rtol", "1e-3", "--atol", "1e-3"],
        &["predictor-corrector", "--corrector-steps", "2", "--snr", "0.1"],
    ] {
        let found = mean(options);
        assert!((found - 170.0).abs() < 4.0, "{options:?}: {found}");
    }
    let refused = |rest: &[&str], words: &[&str]| fail(&[&sample[..], rest].concat(), 2, words);
    refused(&["heun", "--eta", "0"], &["--eta", "'heun'", "--sampler ancestral"]);
    refused(&["flow", "--covariance", "beta"], &["--covariance", "--sampler ancestral"]);
    refused(&["euler-maruyama", "--last-step", "mean"], &["--last-step", "'euler-maruyama'"]);
    refused(&["heun", "--clip"], &["--clip", "--sampler ancestral"]);
    refused(&["heun", "--snr", "0.1"], &["--snr", "--sampler predictor-corrector"]);
    refused(
        &["ancestral", "--corrector-steps", "1"],
        &["--corrector-steps", "predictor-corrector"],
    );
    refused(&["heun", "--rtol", "1e-3"], &["--rtol", "--sampler flow"]);
    refused(&["ancestral", "--atol", "1e-3"], &["--atol", "--sampler flow"]);
    refused(&["flow", "--rtol=-1"], &["rtol = -1"]);
    refused(&["predictor-corrector", "--snr", "2"], &["snr", "0.7"]);
    refused(&["ancestral", "--clip"], &["--clip", "table"]);
    refused(&["ancestral", "--clip-noise", "2"], &["--clip-noise", "table"]);
    refused(&["ancestral", "--clip-noise=-1"], &["--clip-noise", "positive"]);
    refused(&["dpm-solver", "--clip-noise", "2"], &["--clip-noise", "--sampler ancestral"]);
    refused(&["ancestral", "--covariance-until=-1"], &["--covariance-until", "positive"]);
    refused(&["heun", "--covariance-until", "30"], &["--covariance-until", "--sampler ancestral"]);
}

/// The steps with the best bound on training rows have a better one than even steps on rows of
/// their own; they need the training data.
#[test]
fn steps_are_laid_where_the_bound_is_best() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let (data, run, new) = (at("people.csv"), at("run"), at("new.csv"));
    write_table(Path::new(&data));
    succeed(&tiny(&data, &run));
    std::fs::copy(&data, &new).unwrap();
    let score =
        ["score", &run, &new, "--steps", "4", "--draws", "8", "--covariance", "beta", "--json"];
    let mean = |spacing: &str| {
        let answer =
            succeed(&[&score[..], &["--quiet", "--threads", "1", "--spacing", spacing]].concat());
        serde_json::from_str::<serde_json::Value>(&answer).unwrap()["mean"].as_f64().unwrap()
    };
    let (dynamic, even) = (mean("dynamic"), mean("even"));
    assert!(dynamic > even, "{dynamic} {even}");
    succeed(&[
        "sample",
        &run,
        "-n",
        "10",
        "--steps",
        "3",
        "--spacing",
        "dynamic",
        "-o",
        &at("x.csv"),
        "--quiet",
    ]);
    let too_many = ["score", &run, &new, "--spacing", "dynamic", "--steps", "201"];
    fail(&too_many, 2, &["--steps", "200"]);
    std::fs::remove_file(&data).unwrap();
    fail(
        &[&score[..], &["--spacing", "dynamic"]].concat(),
        2,
        &["--spacing", "people.csv", "another"],
    );
}

/// Noise within the bins that is learned, or that the process makes itself: learned once, kept
/// unless the options say otherwise, taken by the estimators it is for and refused by the others.
#[test]
fn levels_are_dequantised_as_asked() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (data, run) = (at("people.csv"), at("run"));
    write_table(Path::new(&data));
    succeed(&tiny(&data, &run));
    let score = |more: &[&str]| {
        let args = [&["score", &run, &data, "--steps", "20", "--json", "--quiet"], more].concat();
        serde_json::from_str::<serde_json::Value>(&succeed(&args)).unwrap()
    };
    let variational = ["score", &run, &data, "--dequantization", "variational"];
    fail(&variational, 2, &["no variational dequantiser", "tweedie dequantize"]);

    let learn =
        ["dequantize", &run, "--iterations", "60", "--validation-draws", "20", "--json", "--quiet"];
    let learned: serde_json::Value = serde_json::from_str(&succeed(&learn)).unwrap();
    let number = |key: &str| learned[key].as_f64().unwrap();
    assert_eq!(learned["rows"], 30);
    let gain = number("variational") - number("uniform");
    assert!((gain - number("gain")).abs() < 1e-9 && gain.abs() < 1.0, "{learned}");
    // once more: what is there stays, to the bit
    let file = Path::new(&run).join("dequantizer.safetensors");
    let kept = bytes(&file);
    fail(&learn, 2, &["has a dequantiser", "--replace"]);
    let couplings = ["--replace", "--channel-couplings", "2"];
    fail(&[&learn[..], &couplings].concat(), 2, &["--channel-couplings", "for a table"]);
    assert_eq!(kept, bytes(&file));

    let uniform = score(&[])["mean"].as_f64().unwrap();
    let by_noise = score(&["--dequantization", "variational"]);
    assert!(
        by_noise["estimator"].as_str().unwrap().contains("variational dequantisation"),
        "{by_noise}"
    );
    assert!(
        (by_noise["mean"].as_f64().unwrap() - uniform).abs() < 0.5,
        "{by_noise} against {uniform}"
    );
    let truncated = ["--estimator", "ode", "--dequantization", "truncated-normal"];
    let from = score(&truncated);
    assert!(
        from["estimator"].as_str().unwrap().contains("from τ") && from["mean"].is_number(),
        "{from}"
    );
    let later = score(&[&truncated[..], &["--start-time", "0.2"]].concat());
    assert_ne!(from["mean"], later["mean"]);

    let refused =
        |more: &[&str], words: &[&str]| fail(&[&["score", &run, &data], more].concat(), 2, words);
    refused(&["--dequantization", "truncated-normal"], &["--dequantization", "--estimator ode"]);
    refused(&["--start-time", "0.1"], &["--start-time", "truncated-normal"]);
    refused(&[&truncated[..], &["--start-time", "2"]].concat(), &["--start-time", "from 1e-5"]);
    let mut flipped = kept.clone();
    flipped[kept.len() - 3] ^= 1;
    std::fs::write(&file, &flipped).unwrap();
    fail(&variational, 2, &["dequantizer.safetensors", "checksum", "--replace"]);
    fail(&["dequantize", &at("none")], 2, &["not a run directory"]);
    std::fs::write(&data, "height,weight,children\n170,60,1\n").unwrap();
    fail(&["dequantize", &run, "--replace"], 2, &["--data", "cannot be found"]);
}

/// So are the levels of images, by convolutions.
#[test]
fn levels_of_images_are_dequantised_as_asked() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let mut pixels = vec![0u8, 0, 8, 3, 0, 0, 0, 60, 0, 0, 0, 4, 0, 0, 0, 4];
    pixels.extend((0..60 * 16).map(|i: u32| (i * i % 251) as u8));
    std::fs::write(at("images-idx3-ubyte"), pixels).unwrap();
    let config = "[model.network]\nkind = \"unet\"\nshape = [1, 4, 4]\nwidths = [8, 8]\n\
                  attention = [false, false]\n";
    std::fs::write(at("small.toml"), config).unwrap();
    let (data, config, run) = (at("images-idx3-ubyte"), at("small.toml"), at("run"));
    let train =
        ["train", "--config", &config, "--data", &data, "--out", &run, "--quiet", "--rank", "0"];
    succeed(&[&train[..], &["--iterations", "3", "--batch-size", "4"]].concat());
    let learn = ["dequantize", &run, "--iterations", "10", "--batch-size", "4", "--width", "8"];
    succeed(&[&learn[..], &["--validation-draws", "2", "--quiet"]].concat());
    let score = |more: &[&str]| {
        let args = ["score", &run, &data, "--quiet", "--steps", "3"];
        succeed(&[&args[..], more].concat())
    };
    let answer = score(&["--dequantization", "variational"]);
    assert!(
        answer.starts_with("60 rows: ") && answer.contains("variational dequantisation"),
        "{answer}"
    );
    let more = ["--channel-couplings", "2", "--replace"];
    succeed(&[&learn[..], &["--validation-draws", "2", "--quiet"], &more].concat());
    let further = score(&["--dequantization", "variational"]);
    assert!(further.starts_with("60 rows: ") && further != answer, "{further}");
    let levels = ["score", &run, &data, "--estimator", "levels", "--dequantization", "variational"];
    fail(&levels, 2, &["--dequantization", "as they are"]);
    let levels = ["evaluate", &run, "--dequantization", "variational"];
    fail(&levels, 2, &["--dequantization", "--decoder density"]);
    let density = [
        "evaluate",
        &run,
        "--dequantization",
        "variational",
        "--decoder",
        "density",
        "--steps",
        "3",
    ];
    assert!(succeed(&[&density[..], &["--quiet"]].concat()).contains("variational dequantisation"));
}

/// Heads fitted to a frozen score, and covariances that need no head: each is sampled and scored
/// with.
#[test]
fn every_covariance_serves_a_score() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let (data, score) = (at("people.csv"), at("score"));
    write_table(Path::new(&data));
    let train = [
        "train",
        "--data",
        &data,
        "--quiet",
        "--base",
        "gaussian",
        "--iterations",
        "20",
        "--width",
        "16",
    ];
    succeed(&[&train[..], &["--objective", "sm", "--out", &score]].concat());
    let mean = |run: &str, covariance: &str| {
        let args =
            ["score", run, &data, "--steps", "10", "--json", "--quiet", "--covariance", covariance];
        let answer: serde_json::Value = serde_json::from_str(&succeed(&args)).unwrap();
        assert!(
            answer["estimator"].as_str().unwrap().contains(&format!("{covariance} covariance")),
            "{answer}"
        );
        answer["mean"].as_f64().unwrap()
    };
    // the base, a full Gaussian, is nearly the data's distribution: the whole matrix is worth more
    // than its diagonal, and that than β
    let [full, diagonal, beta] = ["full", "diagonal", "beta"].map(|which| mean(&score, which));
    assert!(full > diagonal && diagonal > beta, "{full} {diagonal} {beta}");
    let statistics = Path::new(&score).join("noise-statistics.json");
    assert!(!statistics.exists());
    let analytic = mean(&score, "analytic");
    assert!(statistics.exists() && analytic > beta, "{analytic}");
    assert_eq!(mean(&score, "analytic"), analytic);
    // what an older version kept, without the mean square of the score, serves analytic as it is,
    // and is measured anew for analytic-score, with the same numbers for analytic
    let mut kept: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&statistics).unwrap()).unwrap();
    let measured = kept.clone();
    let list = kept.as_object_mut().unwrap();
    assert!(list.remove("of_score").is_some() && list.remove("of_score_error").is_some());
    std::fs::write(&statistics, kept.to_string()).unwrap();
    assert_eq!(mean(&score, "analytic"), analytic);
    let of_score = mean(&score, "analytic-score");
    // of all multiples of the identity that of analytic has the least divergence
    assert!(of_score < analytic && of_score.is_finite(), "{of_score} {analytic}");
    let again: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&statistics).unwrap()).unwrap();
    assert_eq!(again, measured);
    assert!((mean(&score, "rademacher-200") - diagonal).abs() < 0.5);
    std::fs::write(&statistics, "{\"log_snr\": [1.0], \"mean\": [], \"std_error\": []}").unwrap();
    fail(
        &["score", &score, &data, "--covariance", "analytic"],
        2,
        &["noise-statistics.json", "delete it"],
    );
    std::fs::remove_file(&statistics).unwrap();
    fail(&["score", &score, &data, "--covariance", "rademacher-0"], 2, &["rademacher-M"]);

    for objective in ["ocm", "npr"] {
        let out = at(objective);
        let head = ["--objective", objective, "--score-from", &score, "--rank", "0", "--out", &out];
        succeed(&[&train[..], &head[..]].concat());
        assert!(mean(&out, "learned") > beta, "{objective}");
    }
    let alone = at("alone");
    let without = [&train[..], &["--objective", "ocm", "--out", &alone]].concat();
    fail(&without, 2, &["--score-from", "nothing would train the score"]);
    assert!(!Path::new(&alone).exists());
    let args = ["evaluate", &score, "--metrics", "nll", "--no-ode", "--steps", "5", "--quiet"];
    let answer = succeed(&[&args[..], &["--covariance", "analytic,full"]].concat());
    assert!(
        answer.contains("analytic covariance") && answer.contains("full covariance"),
        "{answer}"
    );
}

/// A run of score matching has no head; it is resumed, drawn from and scored as any other.
#[test]
fn score_matching_runs_are_whole() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let (data, run) = (at("people.csv"), at("run"));
    write_table(Path::new(&data));
    let train =
        ["train", "--data", &data, "--out", &run, "--objective", "sm", "--base", "gaussian"];
    succeed(&[&train[..], &["--iterations", "20", "--width", "16"]].concat());
    succeed(&["train", "--out", &run, "--resume", "--iterations", "30"]);
    succeed(&[
        "sample",
        &run,
        "-n",
        "3",
        "--steps",
        "3",
        "--covariance",
        "beta",
        "-o",
        &at("drawn.csv"),
    ]);
    assert!(succeed(&["score", &run, &data, "--steps", "5"]).starts_with("300 rows: -"));
}

/// SN and I-DDPM train a head on the score of another run, which is then drawn from and scored with
/// it.
#[test]
fn heads_are_trained_on_a_finished_score() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let (data, score) = (at("people.csv"), at("score"));
    write_table(Path::new(&data));
    let short = ["--iterations", "30", "--threads", "1", "--quiet"];
    let of_score =
        ["train", "--data", &data, "--out", &score, "--objective", "sm", "--base", "gaussian"];
    succeed(&[&of_score[..], &["--width", "16"], &short[..]].concat());
    for (objective, covariance) in [("sn", "learned"), ("iddpm", "interpolated")] {
        let run = at(objective);
        let train = ["train", "--data", &data, "--out", &run, "--objective", objective];
        fail(&train, 2, &["--score-from"]);
        let train = [&train[..], &["--score-from", &score]].concat();
        fail(&[&train[..], &["--rank", "1"]].concat(), 2, &["rank", "diagonal", "give rank 0"]);
        succeed(&[&train[..], &short[..]].concat());
        let config = std::fs::read_to_string(Path::new(&run).join("config.toml")).unwrap();
        assert!(config.contains("low-rank = 0"), "{config}");
        succeed(&["train", "--out", &run, "--resume", "--iterations", "40", "--quiet"]);
        let options = ["--steps", "5", "--covariance", covariance];
        let drawn = at(&format!("{objective}.csv"));
        succeed(&[&["sample", &run, "-n", "3", "-o", &drawn], &options[..]].concat());
        let scored = succeed(&[&["score", &run, &data], &options[..]].concat());
        assert!(scored.starts_with("300 rows: -") && scored.contains(covariance), "{scored}");
        let table = succeed(&["evaluate", &run, "--steps", "5", "--metrics", "nll", "--quiet"]);
        assert!(
            table.contains(&format!("{covariance} covariance")) && table.contains("beta-tilde"),
            "{table}"
        );
    }
    // score and variances at once, on one network, to a run that is used alike
    let run = at("hybrid");
    let train =
        ["train", "--data", &data, "--out", &run, "--objective", "iddpm-hybrid", "--width", "16"];
    fail(&[&train[..], &["--score-from", &score]].concat(), 2, &["score would be trained"]);
    succeed(&[&train[..], &short[..]].concat());
    let scored = succeed(&["score", &run, &data, "--steps", "5"]);
    assert!(scored.contains("interpolated"), "{scored}");
    let interpolated = ["-n", "3", "--covariance", "interpolated", "-o", &at("none.csv")];
    fail(&[&["sample", &score], &interpolated[..]].concat(), 2, &["covariance", "iddpm"]);
    fail(&[&["sample", &at("iddpm"), "--eta", "0"], &interpolated[..]].concat(), 2, &["eta"]);
}

/// A head's rank is chosen by the spectrum of the score it is trained on, and it starts from the
/// noise measured of that score, which is kept with it. Without such a score there is neither.
#[test]
fn heads_start_where_asked() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let (data, score, run) = (at("people.csv"), at("score"), at("run"));
    write_table(Path::new(&data));
    let train = ["train", "--data", &data, "--iterations", "20", "--threads", "1"];
    let of_score =
        ["--objective", "sm", "--base", "gaussian", "--width", "16", "--quiet", "--out", &score];
    succeed(&[&train[..], &of_score[..]].concat());
    let start = ["--head-start", "analytic"];
    fail(&[&train[..], &start[..], &["--out", &run]].concat(), 2, &["head.start", "--score-from"]);
    fail(
        &[&train[..], &["--rank", "auto", "--out", &run]].concat(),
        2,
        &["--rank", "--score-from"],
    );
    let head = [&train[..], &start[..], &["--score-from", &score, "--out", &run]].concat();
    fail(&[&head[..], &["--objective", "iddpm"]].concat(), 2, &["start", "leave it out"]);
    assert!(!Path::new(&run).join("config.toml").exists());
    let requested = [&head[..], &["--objective", "ocm", "--rank", "auto"]].concat();
    let said = tweedie(&requested);
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    let rank = said
        .lines()
        .find_map(|line| line.strip_prefix("rank ")?.split(':').next())
        .expect("a rank");
    let config = std::fs::read_to_string(Path::new(&run).join("config.toml")).unwrap();
    assert!(
        config.contains(&format!("low-rank = {rank}")) && config.contains("start = \"analytic\""),
        "{config}"
    );
    let kept = Path::new(&run).join("head-start.json");
    // all digits
    let scored = ["score", &run, &data, "--steps", "5", "--quiet", "--json"];
    let before = succeed(&scored);
    succeed(&["train", "--out", &run, "--resume", "--iterations", "30", "--quiet"]);
    assert_ne!(succeed(&scored), before);
    std::fs::write(&kept, "{\"log_snr\": [1.0], \"mean\": [], \"std_error\": []}").unwrap();
    fail(&scored, 2, &["head-start.json"]);
    std::fs::remove_file(&kept).unwrap();
    fail(&scored, 2, &["head-start.json", "is missing"]);
}

#[test]
fn mistakes_are_named_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let data = at("people.csv");
    write_table(Path::new(&data));
    let train = |file: &str, text: &str, extra: &[&str], words: &[&str]| {
        std::fs::write(at(file), text).unwrap();
        let (file, out) = (at(file), at("none"));
        let mut args = vec!["train", "--data", &file, "--out", &out, "--quiet"];
        args.extend(extra);
        fail(&args, 2, words);
        assert!(!Path::new(&out).join("config.toml").exists(), "a failed start leaves no run");
    };
    let numbers = ["--types", "numbers"];
    train("text.csv", "a,b\n1,2\n3,x\n", &[], &["text.csv", "\"x\"", "`b`", "--types b=category"]);
    train("missing.csv", "a,b\n1,2\n3,\n4,5\n", &numbers, &["missing.csv", "b", "drop-rows"]);
    let refuse = ["--missing", "error"];
    let words = ["missing.csv", "missing cells, in `b` (first: row 2)", "--missing drop-rows"];
    train("missing.csv", "a,b\n1,2\n3,\n4,5\n", &refuse, &words);
    train("nan.csv", "a,b\n1,2\n3,inf\n4,5\n", &numbers, &["nan.csv", "b"]);
    train("constant.csv", "a,b\n1,2\n3,2\n4,2\n", &numbers, &["constant.csv", "b", "--drop"]);
    train("empty.csv", "", &[], &["empty.csv"]);
    train(
        "good.csv",
        "a,b\n1,2\n3,4.5\n4,2\n5,9\n6,1\n7,3\n8,4\n9,9\n2,7\n1,5\n",
        &["--rank", "9"],
        &["rank"],
    );
    train(
        "good2.csv",
        "a,b\n1,2\n3,4.5\n4,2\n5,9\n6,1\n7,3\n8,4\n9,9\n2,7\n1,5\n",
        &["--learning-rate=-1"],
        &["learning-rate"],
    );
    fail(&["train", "--data", &at("none.csv"), "--out", &at("r")], 2, &["none.csv"]);
    fail(
        &["train", "--data", &data, "--out", &at("r"), "--transitions", "0"],
        2,
        &["--transitions", "0"],
    );
    fail(&["train", "--data", "mixture:none", "--out", &at("r")], 2, &["two-gaussians"]);
    fail(
        &["train", "--data", &data, "--out", &at("r"), "--device", "cuda:0"],
        2,
        &["cuda:0", "--device cpu"],
    );
    fail(
        &["train", "--data", &data, "--out", &at("r"), "--objective", "sm", "--rank", "2"],
        2,
        &["--rank"],
    );
    fail(&["sample", &at("none"), "-o", &at("s.csv")], 2, &["not a run directory"]);
    fail(&["sample", &at("none"), "-o", &at("s.xyz")], 2, &[".csv"]);
    std::fs::write(at("bad.toml"), "[train]\nbatch = 3\n").unwrap();
    fail(
        &["train", "--data", &data, "--out", &at("r"), "--config", &at("bad.toml")],
        2,
        &["bad.toml", "line 2", "batch"],
    );
    assert_eq!(tweedie(&["train", "--nonsense"]).status.code(), Some(2));
}

#[test]
fn damaged_runs_are_refused_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (data, run) = (at("people.csv"), at("run"));
    write_table(Path::new(&data));
    succeed(&tiny(&data, &run));
    let file = |name: &str| Path::new(&run).join(name);

    // a truncated checkpoint
    let good = bytes(&file("ema.safetensors"));
    std::fs::write(file("ema.safetensors"), &good[..good.len() / 2]).unwrap();
    fail(&["sample", &run, "-o", &at("s.csv"), "--quiet"], 2, &["ema.safetensors", "cut short"]);
    assert!(!Path::new(&at("s.csv")).exists());
    std::fs::write(file("ema.safetensors"), &good).unwrap();

    // flipped bits, in the header and in the tensors
    for position in [9, 40, good.len() / 3, good.len() / 2, good.len() - 3] {
        let mut flipped = good.clone();
        flipped[position] ^= 0x10;
        std::fs::write(file("ema.safetensors"), &flipped).unwrap();
        fail(
            &["sample", &run, "-o", &at("s.csv"), "--quiet"],
            2,
            &["ema.safetensors", "train again"],
        );
    }
    assert!(!Path::new(&at("s.csv")).exists());
    std::fs::write(file("ema.safetensors"), &good).unwrap();
    let state = bytes(&file("state.safetensors"));
    let mut flipped = state.clone();
    flipped[state.len() - 100] ^= 1;
    std::fs::write(file("state.safetensors"), &flipped).unwrap();
    fail(
        &["train", "--out", &run, "--resume", "--iterations", "130", "--quiet"],
        2,
        &["state", "checksum"],
    );
    assert_eq!(flipped, bytes(&file("state.safetensors")));
    std::fs::write(file("state.safetensors"), &state).unwrap();

    // other data on resume, other columns on score
    let original = bytes(Path::new(&data));
    std::fs::write(&data, [&original[..], b"171.5,64.25,2\n"].concat()).unwrap();
    fail(&["train", "--out", &run, "--resume", "--quiet"], 2, &["not the table", "--out"]);
    std::fs::write(at("other.csv"), "height,size\n1,2\n").unwrap();
    fail(&["score", &run, &at("other.csv"), "--quiet"], 2, &["other.csv", "weight"]);
    // flags that would change the run
    std::fs::write(&data, &original).unwrap();
    fail(
        &["train", "--out", &run, "--resume", "--rank", "2", "--quiet"],
        2,
        &["--resume", "differs"],
    );
    // a full disk: the old samples stay
    std::fs::write(at("kept.csv"), "old").unwrap();
    if Path::new("/dev/full").exists() {
        fail(&["sample", &run, "-n", "5", "-o", "/dev/full/x.csv", "--quiet"], 1, &["/dev/full"]);
    }
    assert_eq!(std::fs::read_to_string(at("kept.csv")).unwrap(), "old");
    assert_eq!(good, bytes(&file("ema.safetensors")));
}

/// Kills at different moments, each resumed, end in the same bits as a training that was left
/// alone.
#[test]
#[cfg(unix)]
fn killed_trainings_resume_to_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("people.csv").display().to_string();
    write_table(Path::new(&data));
    kill_and_resume(dir.path(), &|out| tiny(&data, out).into_iter().map(String::from).collect());
}

/// So do kills of a training on images, with dropout, sheets of samples and micro-batches.
#[test]
#[cfg(unix)]
fn killed_trainings_on_images_resume_to_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let mut pixels = vec![0u8, 0, 8, 3, 0, 0, 0, 60, 0, 0, 0, 4, 0, 0, 0, 4];
    pixels.extend((0..60 * 16).map(|i: u32| (i * i % 251) as u8));
    std::fs::write(at("images-idx3-ubyte"), pixels).unwrap();
    let config = "[model.network]\nkind = \"unet\"\nshape = [1, 4, 4]\nwidths = [8, 8]\n\
                  dropout = 0.3\n\
                  attention = [false, true]\n[train]\nvalidate_every = 40\naccumulation = 2\n";
    std::fs::write(at("small.toml"), config).unwrap();
    let (data, config) = (at("images-idx3-ubyte"), at("small.toml"));
    kill_and_resume(dir.path(), &|out| {
        let fixed = [
            "train",
            "--config",
            &config,
            "--data",
            &data,
            "--out",
            out,
            "--quiet",
            "--threads",
            "1",
        ];
        let sizes =
            ["--rank", "1", "--iterations", "80", "--batch-size", "4", "--checkpoint-every", "7"];
        fixed.iter().chain(&sizes).map(|s| s.to_string()).collect()
    });
    assert!(dir.path().join("cut/samples/00000080.png").exists());
}

/// So do kills of a training whose steps are drawn by their own last losses, which are kept with
/// its state; without them the training would end in other bits.
#[test]
#[cfg(unix)]
fn killed_trainings_keep_the_losses_of_their_steps() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (data, config) = (at("people.csv"), at("hybrid.toml"));
    write_table(Path::new(&data));
    let text = "[schedule]\nkind = \"discrete\"\nsteps = 8\nbeta_start = 0.02\nbeta_end = 0.6\n\
                [objective]\nkind = \"hybrid\"\nsteps = \"loss-aware\"\n\
                [model.head]\nparametrization = \"interpolation\"\nstructure = { low-rank = 0 }\n\
                [train]\naccumulation = 2\n";
    std::fs::write(&config, text).unwrap();
    kill_and_resume(dir.path(), &|out| {
        let mut args = tiny(&data, out);
        let rank = args.iter().position(|word| *word == "--rank").unwrap();
        args[rank + 1] = "0";
        args.extend(["--config", &config]);
        args.into_iter().map(String::from).collect()
    });
    // once every step has ten losses, they decide: a resumed training without them differs
    let state = |run: &str| bytes(&dir.path().join(run).join("state.safetensors"));
    let tensors = |bytes: &[u8]| {
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        serde_json::from_slice::<serde_json::Value>(&bytes[8..8 + length]).unwrap()
    };
    let [whole, cut] = ["whole", "cut"].map(state);
    let kept = tensors(&whole)["objective"].clone();
    assert_eq!(kept["shape"], serde_json::json!([88]));
    let values = |bytes: &[u8]| {
        let header = tensors(bytes);
        let offsets = &header["objective"]["data_offsets"];
        let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let [from, to] = [0, 1].map(|i| start + offsets[i].as_u64().unwrap() as usize);
        let numbers = bytes[from..to].chunks(4);
        numbers.map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(values(&whole), values(&cut));
    assert_eq!(values(&whole)[80..], [10.0; 8]);
    // of this chain of 8 steps even and quadratic are the published trajectories, by the same names
    // in every command: the quadratic one begins at ⌊0.8 · 8⌋ + 1 = 7 and has no more steps
    let run = at("whole");
    let commands: [&[&str]; 3] = [
        &["sample", &run, "-n", "3", "-o", &at("s.csv")],
        &["score", &run, &data],
        &["evaluate", &run, "--metrics", "nll", "--no-ode"],
    ];
    for command in commands {
        let with = |spacing, steps| {
            [command, &["--spacing", spacing, "--steps", steps, "--quiet"]].concat()
        };
        for (spacing, most, beyond) in [("quadratic", "7", "8"), ("even", "8", "9")] {
            succeed(&with(spacing, most));
            fail(&with(spacing, beyond), 2, &["steps", most]);
        }
    }
}

/// Runs the training `args(out)` once in `dir/whole` and, killed up to twenty times and resumed, in
/// `dir/cut`.
#[cfg(unix)]
fn kill_and_resume(dir: &Path, args: &dyn Fn(&str) -> Vec<String>) {
    use std::time::Duration;
    let [whole, cut] = ["whole", "cut"].map(|name| dir.join(name).display().to_string());
    let start = |out: &str, resume: bool| {
        let args = match resume {
            true => ["train", "--out", out, "--resume", "--quiet", "--threads", "1"]
                .map(String::from)
                .to_vec(),
            false => args(out),
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_tweedie"));
        command.args(args).stdout(std::process::Stdio::null());
        command
    };
    assert!(start(&whole, false).status().unwrap().success());
    let begun = || Path::new(&cut).join("config.toml").exists();
    let mut kills = 0;
    for i in 0u64..20 {
        let mut child = start(&cut, begun()).stderr(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(60 + 37 * (i % 9)));
        let done = child.try_wait().unwrap().is_some();
        child.kill().ok();
        child.wait().unwrap();
        if done {
            break;
        }
        kills += 1;
    }
    assert!(kills > 0);
    assert!(start(&cut, begun()).status().unwrap().success());
    for file in ["ema.safetensors", "model.safetensors"] {
        assert!(
            bytes(&Path::new(&whole).join(file)) == bytes(&Path::new(&cut).join(file)),
            "{file} differs after {kills} kills"
        );
    }
    // the metrics have every line once, apart from timings
    let lines = |run: &str| -> Vec<(u64, String)> {
        let text = std::fs::read_to_string(Path::new(run).join("metrics.jsonl")).unwrap();
        text.lines()
            .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap())
            .map(|v| (v["iteration"].as_u64().unwrap(), v["validation"].to_string()))
            .collect()
    };
    assert_eq!(lines(&whole), lines(&cut));
}

/// Ctrl-C saves and says how to go on.
#[test]
#[cfg(unix)]
fn interruption_saves() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (data, run) = (at("people.csv"), at("run"));
    write_table(Path::new(&data));
    let mut args = tiny(&data, &run);
    let position = args.iter().position(|a| *a == "120").unwrap();
    args[position] = "1000000";
    let child = Command::new(env!("CARGO_BIN_EXE_tweedie"))
        .args(args)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    while !Path::new(&run).join("metrics.jsonl").exists() {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{message}");
    assert!(message.contains("stopped at iteration") && message.contains("--resume"), "{message}");
    assert!(!message.contains("error"), "{message}");
    succeed(&["sample", &run, "-n", "3", "--steps", "2", "-o", &at("s.csv"), "--quiet"]);
}
