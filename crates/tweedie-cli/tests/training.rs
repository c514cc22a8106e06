//! Training as a user lives with it: one writer per run, interruptions, resumption, what is kept
//! and what is reported.
#![cfg(unix)]

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tch::{Device, Kind, Tensor};
use tweedie::covariance::{CovarianceConfig, Reverse};
use tweedie::data::{ColumnScaling, Scaling, Split};
use tweedie::grid::even_trajectory;
use tweedie::likelihood::{Elbo, LogLikelihood};
use tweedie::model::{Base, HeadConfig, MlpConfig, Model, ModelConfig, NetworkConfig, Structure};
use tweedie::noise::{Noise, Seed};
use tweedie::objective::ObjectiveConfig;
use tweedie::query::Batch;
use tweedie::run::{DataConfig, Prepared, Run, RunDir, Training};
use tweedie::schedule::Vp;
use tweedie::train::{
    Hooks, Metric, State, StopReason, TensorRows, TrainConfig, Trainer, Validation,
};

mod common;

use common::{fail, succeed, tweedie};

/// Two correlated columns, 200 rows; `factor` is the unit of the second.
fn write_table(path: &str, factor: f64) {
    let mut state = 7u64;
    let mut uniform = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as f64 / (1u64 << 31) as f64
    };
    let mut normal = || (0..12).map(|_| uniform()).sum::<f64>() - 6.0;
    let mut text = String::from("height,weight\n");
    for _ in 0..200 {
        let (z, e) = (normal(), normal());
        text += &format!("{:.4},{:.4}\n", 170.0 + 10.0 * z, factor * (70.0 + 9.0 * z + 5.0 * e));
    }
    std::fs::write(path, text).unwrap();
}

/// Sixty grey images of 4×4.
fn write_images(path: &str) {
    let mut pixels = vec![0u8, 0, 8, 3, 0, 0, 0, 60, 0, 0, 0, 4, 0, 0, 0, 4];
    pixels.extend((0..60 * 16).map(|i: u32| (i * i % 251) as u8));
    std::fs::write(path, pixels).unwrap();
}

const SMALL_UNET: &str = "[model.network]\nkind = \"unet\"\nshape = [1, 4, 4]\nwidths = [8, 8]\n\
                          attention = [false, false]\n";

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }
    fn at(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }
    /// A table, and the arguments of a short training on it in `out`.
    fn table(&self) -> String {
        write_table(&self.at("people.csv"), 1.0);
        self.at("people.csv")
    }
}

const TINY: [&str; 10] =
    ["--width", "16", "--depth", "1", "--base", "gaussian", "--rank", "1", "--threads", "1"];

fn train<'a>(data: &'a str, out: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    [&["train", "--data", data, "--out", out][..], &TINY, rest].concat()
}

/// Starts the program and lets it run.
fn start(args: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tweedie"));
    command.args(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

fn signal(child: &Child, name: &str) {
    Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
}

fn wait_for(path: &Path) {
    let begun = Instant::now();
    while !path.exists() {
        assert!(begun.elapsed().as_secs() < 120, "{} does not come", path.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Exit code and standard error.
fn end(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn stderr_of(args: &[&str]) -> String {
    let output = tweedie(args);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {text}");
    text
}

/// Gives up what this process holds of a run. A program that another test starts has it too until
/// it has replaced this one.
fn give_up<T>(run: &str, held: T) {
    drop(held);
    let (lock, begun) =
        (std::fs::File::open(Path::new(run).join(".lock")).unwrap(), Instant::now());
    while lock.try_lock().is_err() {
        assert!(begun.elapsed().as_secs() < 120);
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn config_of(run: &str) -> String {
    std::fs::read_to_string(Path::new(run).join("config.toml")).unwrap()
}

fn load(run: &str) -> Run {
    Run::load(run, Device::Cpu).unwrap()
}

/// While one process makes or trains a run, no other writes to it, be it from the start, by
/// resumption or by `dequantize`.
#[test]
fn a_run_has_one_writer() {
    let place = Place::new();
    let (data, run) = (place.table(), place.at("run"));
    let begin = train(&data, &run, &["--iterations", "3", "--quiet"]);
    let held = RunDir::create(&run).unwrap();
    fail(&begin, 2, &["another process is writing", "run"]);
    fail(&["train", "--out", &run, "--resume"], 2, &["no checkpoint yet", "wait"]);
    give_up(&run, held);
    succeed(&begin);
    // a second one from the start and a second resumption, while the first goes on
    let first = start(&["train", "--out", &run, "--resume", "--iterations", "10000000", "--quiet"]);
    let begun = Instant::now();
    while load(&run).dir.metrics().unwrap().last().is_none_or(|metric| metric.iteration < 100) {
        assert!(begun.elapsed().as_secs() < 120);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(load(&run).dir.is_busy());
    fail(&["train", "--out", &run, "--resume", "--quiet"], 2, &["another process is writing"]);
    fail(&["dequantize", &run], 2, &["another process is writing"]);
    fail(&begin, 2, &["already holds a run"]);
    // it can be read meanwhile, with a remark
    let remarks = load(&run).remarks();
    assert!(remarks.iter().any(|r| r.contains("still being trained")), "{remarks:?}");
    signal(&first, "-TERM");
    let (code, text) = end(first);
    assert!(code != Some(0) && text.contains("stopped at iteration"), "{text}");
    let remarks = load(&run).remarks();
    assert!(
        remarks[0].contains("did not finish") && remarks[0].contains("fit.resume"),
        "{remarks:?}"
    );
    assert!(succeed(&["info", &run]).contains(&format!("--out {run} and --resume")));
    assert_eq!(load(&run).dir.status().unwrap().unwrap().ended, Some(StopReason::Stopped));
    assert!(!RunDir::open(&run).unwrap().is_busy());
}

/// Weights under another run's scaling, schedule or data would give densities that are wrong, and
/// nothing in their shapes says so.
#[test]
fn weights_of_another_run_are_refused() {
    let place = Place::new();
    let (a, b, c) = (place.at("a"), place.at("b"), place.at("c"));
    write_table(&place.at("metres.csv"), 1.0);
    write_table(&place.at("feet.csv"), 3.28);
    let short = ["--iterations", "3", "--quiet"];
    succeed(&train(&place.at("metres.csv"), &a, &short));
    succeed(&train(&place.at("feet.csv"), &b, &short));
    let cosine = [&short[..], &["--schedule", "cosine"]].concat();
    succeed(&train(&place.at("metres.csv"), &c, &cosine));
    let file = |run: &str, name: &str| PathBuf::from(run).join(name);
    let data = place.at("metres.csv");
    for other in [&b, &c] {
        for name in ["ema.safetensors", "state.safetensors"] {
            let own = std::fs::read(file(other, name)).unwrap();
            std::fs::copy(file(&a, name), file(other, name)).unwrap();
            match name {
                "ema.safetensors" => fail(&["score", other, &data], 2, &[name, "belongs to"]),
                _ => fail(
                    &["train", "--out", other, "--resume", "--iterations", "5"],
                    2,
                    &[name, "belongs to"],
                ),
            }
            std::fs::write(file(other, name), own).unwrap();
        }
        succeed(&["score", other, &data, "--steps", "3", "--quiet"]);
    }
    // the other way round: another run's files under own weights
    std::fs::copy(file(&b, "data.json"), file(&a, "data.json")).unwrap();
    fail(&["score", &a, &data], 2, &["ema.safetensors", "belongs to", "data.json"]);
}

/// The shipped run, made before runs kept any of this, loads as it did and is no unfinished one.
#[test]
fn runs_of_earlier_versions_load() {
    let run = load("../../models/fashion-mnist");
    assert_eq!(run.remarks(), Vec::<String>::new());
    assert!(run.dir.status().unwrap().is_none());
}

/// A killed training leaves a remark beside every figure until it is gone on with, and its end says
/// which parameters are kept.
#[test]
fn a_run_that_never_finished_says_so() {
    let place = Place::new();
    let (data, run) = (place.table(), place.at("run"));
    let child = start(&train(
        &data,
        &run,
        &["--iterations", "10000000", "--checkpoint-every", "50", "--quiet"],
    ));
    wait_for(&Path::new(&run).join("metrics.jsonl"));
    // the checkpoint that follows the first line is whole
    let begun = Instant::now();
    while load(&run).dir.status().unwrap().unwrap().iteration < 100 {
        assert!(begun.elapsed().as_secs() < 120);
        std::thread::sleep(Duration::from_millis(20));
    }
    signal(&child, "-KILL");
    end(child);
    let killed = load(&run);
    let status = killed.dir.status().unwrap().unwrap();
    assert!(status.ended.is_none() && status.iteration >= 50, "{status:?}");
    let remarks = killed.remarks();
    assert_eq!(remarks.len(), 1, "{remarks:?}");
    assert!(
        remarks[0].contains(&format!("iteration {} of 10000000", status.iteration)),
        "{remarks:?}"
    );
    // so many seconds more, from where it was left
    let text = stderr_of(&["train", "--out", &run, "--resume", "--max-seconds", "1"]);
    assert!(text.contains(&format!("resumed at iteration {} of", status.iteration)), "{text}");
    assert!(text.contains("kept: the parameters of iteration "), "{text}");
    let once = load(&run);
    assert_eq!(once.remarks(), Vec::<String>::new());
    let first = once.dir.status().unwrap().unwrap();
    assert_eq!(first.ended, Some(StopReason::OutOfTime));
    assert!(first.iteration > status.iteration && first.best_iteration.is_some(), "{first:?}");
    // its time is over: that is reported, with what to do, and a second more is a second more
    let text = stderr_of(&["train", "--out", &run, "--resume"]);
    assert!(text.contains("are over") && text.contains("--max-seconds S"), "{text}");
    assert_eq!(load(&run).dir.status().unwrap().unwrap().iteration, first.iteration);
    stderr_of(&["train", "--out", &run, "--resume", "--max-seconds", "1"]);
    let second = load(&run).dir.status().unwrap().unwrap();
    assert!(
        second.iteration > first.iteration && second.seconds >= first.seconds + 1.0,
        "{second:?}"
    );
    // a finished one says how to go on
    let all = second.iteration.to_string();
    let text = stderr_of(&[
        "train",
        "--out",
        &run,
        "--resume",
        "--iterations",
        &all,
        "--max-seconds",
        "0",
    ]);
    assert!(text.contains("it is finished") && text.contains("--iterations N"), "{text}");
    assert_eq!(load(&run).dir.status().unwrap().unwrap().ended, Some(StopReason::Finished));
}

/// What an attempt that was killed before its first checkpoint left is no run; the same command
/// starts anew there, and nothing of the old attempt is taken over.
#[test]
fn a_training_killed_before_its_first_checkpoint_says_so() {
    let place = Place::new();
    let (data, run) = (place.table(), place.at("run"));
    give_up(&run, RunDir::create(&run).unwrap());
    let left = Path::new(&run).join(".base.json.aB3dE6.tmp");
    std::fs::write(&left, "{").unwrap();
    std::fs::write(Path::new(&run).join("metrics.jsonl"), "{\"iteration\":1,\"loss\":99}\n")
        .unwrap();
    for command in [&["train", "--out", &run, "--resume"][..], &["score", &run, &data]] {
        fail(command, 2, &["ended before the first one", "without --resume"]);
    }
    succeed(&train(&data, &run, &["--iterations", "3", "--quiet"]));
    assert!(!left.exists());
    let metrics = std::fs::read_to_string(Path::new(&run).join("metrics.jsonl")).unwrap();
    assert!(!metrics.contains("\"loss\":99}"), "{metrics}");
    assert!(metrics.contains("\"iteration\":3"), "{metrics}");
}

/// Half-written files of killed processes go when the run is next written to; a page that another
/// process is writing stays.
#[test]
fn temporary_files_are_swept() {
    let place = Place::new();
    let (data, run) = (place.table(), place.at("run"));
    succeed(&train(&data, &run, &["--iterations", "3", "--quiet"]));
    let file = |name: &str| Path::new(&run).join(name);
    let (ours, other) = (file(".state.safetensors.x9Y8z7.tmp"), file(".report.html.x9Y8z7.tmp"));
    [&ours, &other].iter().for_each(|path| std::fs::write(path, "half").unwrap());
    succeed(&["score", &run, &data, "--steps", "3", "--quiet"]);
    assert!(ours.exists(), "reading a run sweeps nothing");
    succeed(&["train", "--out", &run, "--resume", "--iterations", "5", "--quiet"]);
    assert!(!ours.exists() && other.exists());
}

/// A file of the run that is lost while it is trained is found at the end, not at its first use.
#[test]
fn the_end_of_a_training_checks_the_run() {
    let place = Place::new();
    let (data, run) = (place.table(), place.at("run"));
    let child =
        start(&train(&data, &run, &["--iterations", "10000000", "--max-seconds", "4", "--quiet"]));
    wait_for(&Path::new(&run).join("config.toml"));
    std::fs::remove_file(Path::new(&run).join("base.json")).unwrap();
    let (code, text) = end(child);
    assert!(
        code == Some(2) && text.contains("base.json") && text.contains("is missing"),
        "{code:?} {text}"
    );
}

/// The flag that differs is named, with both values.
#[test]
fn a_resumption_names_the_flag_that_differs() {
    let place = Place::new();
    let (data, run) = (place.table(), place.at("run"));
    succeed(&train(&data, &run, &["--iterations", "3", "--quiet"]));
    let resume = ["train", "--out", &run, "--resume", "--quiet"];
    for (flag, value, words) in [
        ("--batch-size", "3", ["128", "3"]),
        ("--seed", "4", ["0", "4"]),
        ("--split-seed", "5", ["0", "5"]),
        ("--schedule", "cosine", ["vp", "cosine"]),
        ("--width", "17", ["16", "17"]),
        ("--drop", "weight", ["[]", "weight"]),
        ("--transitions", "6", ["4", "6"]),
    ] {
        let given = [&resume[..], &[flag, value]].concat();
        fail(&given, 2, &["--resume", &format!("leave {flag} out"), words[0], words[1]]);
    }
    fail(&[&resume[..], &["--score-from", &run]].concat(), 2, &["--score-from", "--resume"]);
    // the same values differ in nothing, and longer training is kept for the next time
    let same = ["--iterations", "5", "--rank", "1", "--width", "16", "--data", &data];
    succeed(&[&resume[..], &same].concat());
    assert!(config_of(&run).contains("iterations = 5"));
}

/// What a configuration file gives holds on images too, where the defaults are others: be its value
/// the general default.
#[test]
fn a_configuration_file_is_obeyed_on_images() {
    let place = Place::new();
    let images = place.at("images-idx3-ubyte");
    write_images(&images);
    let run = |name: &str, text: &str, flags: &[&str]| {
        let (file, out) = (place.at(&format!("{name}.toml")), place.at(name));
        std::fs::write(&file, format!("{text}\n{SMALL_UNET}")).unwrap();
        let args = [
            "train",
            "--config",
            &file,
            "--data",
            &images,
            "--out",
            &out,
            "--threads",
            "1",
            "--quiet",
        ];
        succeed(&[&args[..], &["--iterations", "1"], flags].concat());
        load(&out).config
    };
    let plain = run("plain", "", &[]);
    assert_eq!((plain.train.batch_size, plain.train.learning_rate), (16, 1e-3));
    assert_eq!(plain.train.validation_rows, 128);
    assert_eq!(serde_json::to_value(plain.base.kind).unwrap(), "isotropic");
    let time = |config: &tweedie::run::RunConfig| {
        serde_json::to_value(&config.objective).unwrap()["time"].clone()
    };
    assert_eq!(time(&plain), "uniform");

    assert_eq!(run("batch", "[train]\nbatch_size = 256", &[]).train.batch_size, 256);
    assert_eq!(run("rate", "[train]\nlearning_rate = 3e-3", &[]).train.learning_rate, 3e-3);
    assert_eq!(run("rows", "[train]\nvalidation_rows = 2000", &[]).train.validation_rows, 2000);
    let mixture = run("base", "[base]\nkind = \"mixture\"\ncomponents = [1]", &[]);
    assert_eq!(serde_json::to_value(mixture.base.kind).unwrap(), "mixture");
    let objective = "[objective]\nkind = \"lm\"\ntransitions = 2\nform = \"marginal\"\n\
                     time = \"log-snr\"\nscore = \"dsm\"";
    assert_eq!(time(&run("objective", objective, &[])), "log-snr");
    // a flag wins over the file
    let flagged = run("flag", "[train]\nbatch_size = 256", &["--batch-size", "7"]);
    assert_eq!(flagged.train.batch_size, 7);
    // a requested perceptron is refused, not replaced
    let (file, out) = (place.at("mlp.toml"), place.at("mlp"));
    std::fs::write(&file, "[model.network]\nkind = \"mlp\"\n").unwrap();
    let args = ["train", "--config", &file, "--data", &images, "--out", &out, "--quiet"];
    fail(&args, 2, &["model.network", "U-Net", "unet"]);
}

/// The `config.toml` of a run, used again, gives the same run: what the flags and the data made of
/// the defaults stands in it.
#[test]
fn a_configuration_gives_its_run_again() {
    let place = Place::new();
    let (data, images) = (place.table(), place.at("images-idx3-ubyte"));
    write_images(&images);
    let again = |name: &str, first: &[&str]| {
        let (one, two) = (place.at(&format!("{name}-1")), place.at(&format!("{name}-2")));
        let common = ["--threads", "1", "--quiet"];
        succeed(&[&["train", "--out", &one], first, &common].concat());
        let file = format!("{one}/config.toml");
        succeed(&[&["train", "--out", &two, "--config", &file][..], &common].concat());
        assert_eq!(config_of(&one), config_of(&two));
        let (one, two) = (load(&one), load(&two));
        assert_eq!(one.model.parameters().flat(), two.model.parameters().flat(), "{name}");
        let metrics = |run: &Run| {
            let of = |m: Metric| (m.iteration, m.loss, m.gradient_norm, m.validation);
            run.dir.metrics().unwrap().into_iter().map(of).collect::<Vec<_>>()
        };
        assert_eq!(metrics(&one), metrics(&two), "{name}");
        assert!(metrics(&one).last().unwrap().3.is_some(), "{name}");
        one.config
    };
    let table = ["--data", &data, "--seed", "3", "--unique", "--iterations", "3"];
    let small = ["--width", "16", "--rank", "full", "--separate", "--schedule", "cosine"];
    let config = again("table", &[&table[..], &small, &["--set", "train.ema=0.9"]].concat());
    assert_eq!((config.train.ema, config.data.table.unique, config.seed), (0.9, true, 3));
    let small =
        ["--set", "model.network.widths=[8, 8]", "--set", "model.network.attention=[false, true]"];
    let images = ["--data", &images, "--iterations", "3", "--flip"];
    let config = again("images", &[&images[..], &small].concat());
    assert_eq!((config.train.batch_size, config.data.flip), (16, true));
}

/// Any option can be set; what cannot be is reported in one line that names it.
#[test]
fn any_option_can_be_set() {
    let place = Place::new();
    let (data, file) = (place.table(), place.at("my.toml"));
    std::fs::write(&file, "[data]\nflip = false\n[data.table]\nunique = true\n").unwrap();
    let short = ["--iterations", "1", "--quiet", "--config", &file];
    let config = |name: &str, rest: &[&str]| {
        let out = place.at(name);
        succeed(&train(&data, &out, &[&short[..], rest].concat()));
        load(&out).config
    };
    assert!(config("file", &[]).data.table.unique);
    assert!(!config("flag", &["--unique=false"]).data.table.unique);
    let set = ["--set", "data.table.unique=false", "--set", "train.batch_size=8"];
    let set = config("set", &[&set[..], &["--batch-size", "9", "--seed", "1"]].concat());
    assert_eq!((set.data.table.unique, set.train.batch_size, set.seed), (false, 8, 1));
    let objective = config("objective", &["--set", "objective.time=uniform"]).objective;
    assert_eq!(serde_json::to_value(objective).unwrap()["time"], "uniform");
    let out = place.at("none");
    for (set, words) in [
        ("train.emma=1", ["train.emma", "unknown field"]),
        ("train.ema=much", ["train.ema", "invalid type"]),
        ("train.ema=2", ["ema", "below 1"]),
        ("train.batch_size=-3", ["--batch-size", "invalid value"]),
        ("training=1", ["training", "unknown field"]),
        ("base.kind=cauchy", ["--base", "unknown variant"]),
        ("model.network.kind=dense", ["model.network.kind", "unknown variant"]),
    ] {
        fail(&train(&data, &out, &["--set", set]), 2, &words);
    }
    assert!(!Path::new(&out).exists());
    assert_eq!(tweedie(&train(&data, &out, &["--set", "train.ema"])).status.code(), Some(2));
}

/// On a table the rank is at most the number of columns unless the file or a flag gives another.
#[test]
fn a_rank_that_is_given_is_not_lowered() {
    let place = Place::new();
    let (data, file) = (place.table(), place.at("my.toml"));
    let train = |out: &str| {
        let (config, short) =
            (["--config", &file], ["--iterations", "1", "--base", "gaussian", "--quiet"]);
        [&["train", "--data", &data, "--out", out][..], &config, &short].concat().join("\n")
    };
    let run = |out: &str| tweedie(&train(out).split('\n').collect::<Vec<_>>());
    std::fs::write(&file, "[train]\nbatch_size = 32\n").unwrap();
    assert!(run(&place.at("without")).status.success());
    assert!(config_of(&place.at("without")).contains("low-rank = 2"));
    std::fs::write(
        &file,
        "[model.head]\nparametrization = \"posterior\"\n[model.head.structure]\nlow-rank = 4\n",
    )
    .unwrap();
    let refused = run(&place.at("with"));
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(2) && text.contains("rank"), "{text}");
}

/// Seeds share a split, so that they compare; a split has a seed of its own. A run of an earlier
/// version, whose configuration has no such field, keeps the split of its seed.
#[test]
fn the_split_has_a_seed_of_its_own() {
    let place = Place::new();
    let data = place.table();
    let run = |name: &str, flags: &[&str]| {
        let out = place.at(name);
        succeed(&train(&data, &out, &[&["--iterations", "1", "--quiet"][..], flags].concat()));
        load(&out)
    };
    let test = |run: &Run| run.prepared().expect("the data are there").split.test;
    let (a, b) = (run("a", &["--seed", "1"]), run("b", &["--seed", "2"]));
    assert_eq!(a.data, b.data);
    assert_eq!(test(&a), test(&b));
    assert_ne!(a.model.parameters().flat(), b.model.parameters().flat());
    let c = run("c", &["--seed", "1", "--split-seed", "5"]);
    assert_ne!(test(&a), test(&c));
    assert_eq!((a.data.split_seed, c.data.split_seed), (0, 5));
    // a head is trained on the split of its score, whatever that was
    let head = place.at("head");
    let args = [
        "train",
        "--data",
        &data,
        "--score-from",
        &place.at("c"),
        "--mode",
        "head",
        "--out",
        &head,
    ];
    succeed(&[&args[..], &["--iterations", "1", "--quiet"]].concat());
    assert_eq!(test(&load(&head)), test(&c));
    // as earlier versions wrote it
    let text = config_of(&place.at("a"));
    assert!(text.contains("split_seed = 0"), "{text}");
    let old = DataConfig { source: data.clone(), split_seed: None, ..DataConfig::default() };
    let prepared = Prepared::read(&old, 3).unwrap();
    assert_eq!(prepared.split, Split::new(200, [0.8, 0.1, 0.1], 3).unwrap());
    assert_eq!(prepared.record.split_seed, 3);
}

/// A validation that gets worse is reported, with the parameters that are kept, and the end names
/// them.
#[test]
fn validation_that_falls_is_reported() {
    let place = Place::new();
    let (data, run, file) = (place.table(), place.at("run"), place.at("my.toml"));
    // far too fast for so few rows
    let text = "[train]\nvalidate_every = 10\nlearning_rate = 0.05\nwarm_up = 1\nema = 0.5\n\
                decay = false\nbatch_size = 8\n";
    std::fs::write(&file, text).unwrap();
    let text = stderr_of(&train(
        &data,
        &run,
        &["--config", &file, "--iterations", "300", "--patience", "9"],
    ));
    assert!(text.contains("has not improved for 3 looks: the parameters of iteration "), "{text}");
    assert!(text.contains("training stops after 9"), "{text}");
    let status = load(&run).dir.status().unwrap().unwrap();
    let metrics = load(&run).dir.metrics().unwrap();
    let best = metrics
        .iter()
        .max_by(|a, b| a.validation.unwrap().total_cmp(&b.validation.unwrap()))
        .unwrap();
    assert_eq!((status.best_iteration, status.best), (Some(best.iteration), best.validation));
    let kept = format!(
        "kept: the parameters of iteration {}, validation bound {:.4}",
        best.iteration,
        best.validation.unwrap()
    );
    assert!(text.contains(&kept), "no '{kept}' in {text}");
}

/// A run on images is judged by what is reported of it: the bound of the levels on the even
/// trajectory, in bits per dimension.
#[test]
fn images_are_judged_by_their_levels() {
    let place = Place::new();
    let (images, file, run) = (place.at("images-idx3-ubyte"), place.at("my.toml"), place.at("run"));
    write_images(&images);
    std::fs::write(&file, SMALL_UNET).unwrap();
    for (objective, covariance) in [("lm", CovarianceConfig::Own), ("sm", CovarianceConfig::Beta)] {
        let run = format!("{run}-{objective}");
        let args = [
            "train",
            "--config",
            &file,
            "--data",
            &images,
            "--out",
            &run,
            "--objective",
            objective,
        ];
        let text = stderr_of(&[&args[..], &["--iterations", "2", "--threads", "1"]].concat());
        let run = load(&run);
        let said = run.dir.metrics().unwrap()[0].validation.unwrap();
        let bits = -said / (16.0 * std::f64::consts::LN_2);
        assert!(text.contains(&format!("validation bound {bits:.4} bits/dim")), "{bits}: {text}");
        assert!(bits > 1.0 && bits < 20.0, "{bits}");

        // the same by hand
        let prepared = run.prepared().unwrap();
        let rows = prepared.validation_levels(usize::MAX);
        let levels = run.data.scaling.inverse(&Vec::<f32>::try_from(rows.view(-1)).unwrap());
        let row = prepared.split.validation[0];
        let own: Vec<f64> = prepared.table.row(row).iter().map(|&v| v.into()).collect();
        assert_eq!(levels[..16], own[..]);
        let covariance = run.model.covariance(covariance).unwrap();
        let reverse = Reverse::new(&run.model, covariance, 1.0).unwrap();
        let grid = even_trajectory(run.schedule(), 32).unwrap();
        let seed = Seed(run.config.seed).derive("validation");
        let elbo = Elbo::of_levels(reverse, grid, 1);
        let expected = elbo.log_likelihood(&Batch::of(&rows), seed, 0).unwrap().mean();
        assert!((said - expected).abs() < 1e-3 * expected.abs(), "{said} {expected}");
        // batches no larger than those of training change nothing but rounding
        let train = TrainConfig { batch_size: 1, ..run.config.train.clone() };
        let (one, _) =
            prepared.judge(&train, Seed(run.config.seed)).unwrap().bound(&run.model).unwrap();
        assert!((one - said).abs() < 1e-3 * said.abs(), "{one} {said}");
    }
}

fn rows(n: u64) -> Tensor {
    Noise::new(Seed(3), 0..n).normal(2, Kind::Float, Device::Cpu)
}

fn small_model() -> Model {
    let network = NetworkConfig::Mlp(MlpConfig { width: 8, depth: 1, ..MlpConfig::default() });
    let head = Some(HeadConfig { structure: Structure::LowRank(1), ..HeadConfig::default() });
    let config = ModelConfig { network, head, ..ModelConfig::default() };
    config.init(Base::standard(2), Arc::new(Vp::default()), Device::Cpu, Seed(1)).unwrap()
}

/// Checkpoints are made by time too: a step that takes minutes is not lost a thousand times over.
#[test]
fn checkpoints_are_made_by_time_too() {
    struct Count(u64);
    impl Hooks for Count {
        fn checkpoint(&mut self, _model: &Model, _state: &State) -> tweedie::Result<()> {
            self.0 += 1;
            Ok(())
        }
    }
    let count = |checkpoint_seconds: f64| {
        let config = TrainConfig {
            iterations: 9,
            batch_size: 4,
            checkpoint_every: 4,
            checkpoint_seconds,
            ..TrainConfig::default()
        };
        let (model, mut count) = (small_model(), Count(0));
        let (mut state, data) = (State::new(&model), TensorRows::new(rows(50)));
        let objective = ObjectiveConfig::default().build().unwrap();
        let trainer = Trainer::new(config);
        trainer.fit(&model, &*objective, &data, None, Seed(3), &mut state, &mut count).unwrap();
        (count.0, model.parameters().flat().sum(Kind::Double).double_value(&[]))
    };
    // at 4, 8 and the end; after every step
    let ((few, a), (many, b)) = (count(0.0), count(1e-9));
    assert_eq!((few, many), (3, 9));
    assert_eq!(a, b);
    assert_eq!(TrainConfig::default().checkpoint_seconds, 60.0);
}

/// A directory in which another program's file has the name of one of ours is not taken.
#[test]
fn files_of_others_are_not_replaced() {
    let place = Place::new();
    let (data, run) = (place.table(), place.at("run"));
    std::fs::create_dir(&run).unwrap();
    let file = Path::new(&run).join("data.json");
    std::fs::write(&file, "mine").unwrap();
    fail(&train(&data, &run, &["--iterations", "1"]), 2, &["data.json", "another directory"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
}

/// Hooks that stop at the `n`-th query whether to stop, and keep the metric lines.
#[derive(Default)]
struct StopAt {
    queries: Cell<u64>,
    at: u64,
    lines: Vec<(u64, Option<f64>)>,
    looks: Vec<u64>,
}

impl Hooks for StopAt {
    fn metric(&mut self, metric: &Metric) -> tweedie::Result<()> {
        self.lines.push((metric.iteration, metric.validation));
        Ok(())
    }
    fn look(&mut self, _model: &Model, iteration: u64) -> tweedie::Result<()> {
        self.looks.push(iteration);
        Ok(())
    }
    fn stop(&self) -> bool {
        self.queries.set(self.queries.get() + 1);
        self.at > 0 && self.queries.get() >= self.at
    }
}

/// A stop is obeyed within a validation and between micro-batches, and a training stopped anywhere
/// ends, resumed, in the same bits and with the same metric lines.
#[test]
fn a_stop_is_obeyed_anywhere_and_loses_nothing() {
    let config = TrainConfig {
        iterations: 6,
        batch_size: 4,
        accumulation: 3,
        validate_every: 2,
        warm_up: 1,
        ..TrainConfig::default()
    };
    let objective = ObjectiveConfig::default().build().unwrap();
    let judge = Validation::new(&rows(10), Seed(2)).in_batches_of(5);
    let fit = |model: &Model, state: &mut State, hooks: &mut StopAt| {
        let data = TensorRows::new(rows(50));
        Trainer::new(config.clone())
            .fit(model, &*objective, &data, Some(&judge), Seed(3), state, hooks)
            .unwrap()
    };
    let whole = small_model();
    let (mut state, mut hooks) = (State::new(&whole), StopAt::default());
    assert_eq!(fit(&whole, &mut state, &mut hooks), StopReason::Finished);
    let all = hooks.queries.get();
    // three looks of two batches of 32 evaluations each, and six steps of three micro-batches
    assert!(all >= 3 * 64 + 18, "{all}");
    assert_eq!(hooks.lines.iter().map(|line| line.0).collect::<Vec<_>>(), [2, 4, 6]);
    let mut within = 0;
    for at in (1..=all).step_by(17) {
        let model = small_model();
        let mut state = State::new(&model);
        let mut first = StopAt { at, ..StopAt::default() };
        assert_eq!(fit(&model, &mut state, &mut first), StopReason::Stopped, "{at} of {all}");
        // queried once or twice more to leave the validation, and not again
        assert!(first.queries.get() <= at + 64, "{at}: queried {} times", first.queries.get());
        within += u64::from(state.pending.is_some());
        let mut second = StopAt::default();
        assert_eq!(fit(&model, &mut state, &mut second), StopReason::Finished);
        assert_eq!(model.parameters().flat(), whole.parameters().flat(), "stopped at {at}");
        assert_eq!([first.lines, second.lines].concat(), hooks.lines, "stopped at {at}");
        let mut looks = [first.looks, second.looks].concat();
        looks.dedup();
        assert_eq!(looks, [2, 4, 6]);
    }
    assert!(within > 3, "stops within a look: {within}");
}

/// Hooks whose distance is a known function of the iteration, and that keep the parameters each was
/// of; they stop at the `n`-th query whether to.
struct Known {
    distance: fn(u64) -> f64,
    stop: StopAt,
    seen: Vec<(u64, f64, Tensor)>,
    logged: Vec<Option<f64>>,
}

impl Hooks for Known {
    fn metric(&mut self, metric: &Metric) -> tweedie::Result<()> {
        self.logged.push(metric.distance);
        Ok(())
    }
    fn distance(&mut self, model: &Model, iteration: u64) -> tweedie::Result<Option<f64>> {
        let distance = (self.distance)(iteration);
        self.seen.push((iteration, distance, model.parameters().flat().copy()));
        Ok(Some(distance))
    }
    fn stop(&self) -> bool {
        self.stop.stop()
    }
}

/// Parameters are kept by the least of the distances that the hooks give, whatever the bound; those
/// that are no number are passed over, patience counts from the least, and a training stopped
/// anywhere ends, resumed, in the same bits.
#[test]
fn parameters_of_the_least_distance_are_kept() {
    let judge = Validation::new(&rows(10), Seed(2)).in_batches_of(5);
    let fit = |patience: u64, distance: fn(u64) -> f64, state: &mut Option<State>, at: u64| {
        let config = TrainConfig {
            iterations: 12,
            batch_size: 4,
            validate_every: 2,
            warm_up: 1,
            patience,
            ..TrainConfig::default()
        };
        let (model, objective) = (small_model(), ObjectiveConfig::default().build().unwrap());
        let stop = StopAt { at, ..StopAt::default() };
        let mut hooks = Known { distance, stop, seen: Vec::new(), logged: Vec::new() };
        let state = state.get_or_insert_with(|| State::new(&model));
        let data = TensorRows::new(rows(50));
        let ended = Trainer::new(config)
            .fit(&model, &*objective, &data, Some(&judge), Seed(3), state, &mut hooks)
            .unwrap();
        (ended, model.parameters().flat().copy(), hooks)
    };
    let least_at = |state: &Option<State>| {
        let best = state.as_ref().unwrap().best.as_ref().unwrap();
        (best.iteration, best.value)
    };
    for (distance, at) in [
        ((|i| (i as f64 - 4.0).powi(2)) as fn(u64) -> f64, 4),
        (|i| (i as f64 - 8.0).powi(2), 8),
        (|i| if i == 6 { f64::INFINITY } else { 20.0 - i as f64 }, 12),
    ] {
        let mut state = None;
        let (ended, kept, hooks) = fit(0, distance, &mut state, 0);
        assert_eq!((ended, least_at(&state)), (StopReason::Finished, (Some(at), distance(at))));
        let seen: Vec<u64> = hooks.seen.iter().map(|seen| seen.0).collect();
        assert_eq!(seen, [2, 4, 6, 8, 10, 12]);
        let (_, _, parameters) = hooks.seen.iter().find(|seen| seen.0 == at).unwrap();
        assert_eq!(kept, *parameters);
        let logged: Vec<Option<f64>> = hooks.seen.iter().map(|seen| Some(seen.1)).collect();
        assert_eq!(hooks.logged, logged);
        let all = hooks.stop.queries.get();
        for stop in (1..=all).step_by(97) {
            let mut state = None;
            assert_eq!(fit(0, distance, &mut state, stop).0, StopReason::Stopped, "{stop}");
            let (ended, resumed, _) = fit(0, distance, &mut state, 0);
            assert_eq!((ended, least_at(&state).0), (StopReason::Finished, Some(at)));
            assert_eq!(resumed, kept, "stopped at {stop} of {all}");
        }
    }
    let mut state = None;
    let ended = fit(3, |i| (i as f64 - 4.0).powi(2), &mut state, 0).0;
    assert_eq!((ended, state.unwrap().iteration), (StopReason::EarlyStop, 10));
}

/// A look that was cut short is kept with the run, through its files.
#[test]
fn a_pending_look_is_kept() {
    let place = Place::new();
    let (data, out) = (place.table(), place.at("run"));
    succeed(&train(&data, &out, &["--iterations", "3", "--quiet"]));
    let mut run = load(&out);
    run.dir.lock().unwrap();
    let mut state = run.dir.state(&run.model).unwrap();
    let metric = run.dir.metrics().unwrap().pop().unwrap();
    assert_eq!((state.pending.is_some(), metric.iteration), (false, 3));
    state.pending = Some(Metric { validation: None, validation_std_error: None, ..metric });
    run.dir.checkpoint(&run.model, &state).unwrap();
    run.dir.truncate_metrics(2).unwrap();
    give_up(&out, run);
    let text = stderr_of(&["train", "--out", &out, "--resume"]);
    assert!(
        text.contains("resumed at iteration 3 of 3") && !text.contains("it is finished"),
        "{text}"
    );
    let metrics = load(&out).dir.metrics().unwrap();
    assert!(
        metrics.len() == 1 && metrics[0].iteration == 3 && metrics[0].validation.is_some(),
        "{metrics:?}"
    );
}

/// A stop does not wait for the micro-batches of a step, however many there are; more than anyone
/// needs are refused.
#[test]
fn accumulation_has_a_limit_and_can_be_stopped() {
    let place = Place::new();
    let (data, run) = (place.table(), place.at("run"));
    let case = "../../tests/data/cases/A-accumulation/config.toml";
    fail(
        &["train", "--config", case, "--data", &data, "--out", &run],
        2,
        &["accumulation", "4294967296", "100000"],
    );
    assert!(!Path::new(&run).exists());
    let child = start(&train(&data, &run, &["--accumulation", "100000", "--quiet"]));
    wait_for(&Path::new(&run).join("config.toml"));
    std::thread::sleep(Duration::from_millis(1500));
    signal(&child, "-TERM");
    let begun = Instant::now();
    let (_, text) = end(child);
    assert!(begun.elapsed().as_secs() < 10, "{} s", begun.elapsed().as_secs());
    assert!(text.contains("stopped at iteration 0"), "{text}");
}

/// What a head starts from is measured once, is kept with its score, and takes nothing from the
/// time of the training.
#[test]
fn measuring_is_done_once() {
    let place = Place::new();
    let (data, score) = (place.table(), place.at("score"));
    let of_score =
        ["train", "--data", &data, "--out", &score, "--objective", "sm", "--base", "gaussian"];
    succeed(&[&of_score[..], &["--width", "16", "--iterations", "20", "--quiet"]].concat());
    let head = |name: &str| {
        let out = place.at(name);
        let args =
            ["train", "--data", &data, "--out", &out, "--objective", "ocm", "--score-from", &score];
        let text =
            stderr_of(&[&args[..], &["--head-start", "analytic", "--iterations", "3"]].concat());
        assert!(Path::new(&out).join("head-start.json").exists());
        (text, std::fs::read(Path::new(&out).join("head-start.json")).unwrap())
    };
    let (first, measured) = head("first");
    assert!(first.contains("measuring the noise of the score"), "{first}");
    assert!(Path::new(&score).join("noise-statistics.json").exists());
    let (second, again) = head("second");
    assert!(!second.contains("measuring"), "{second}");
    assert_eq!(measured, again);
    let prepared = load(&score).prepared().unwrap();
    // however long it takes
    let mut donor = load(&score);
    let (mut calls, mut last) = (0, (0, 0));
    donor
        .measure_for_head(&prepared, 64, &mut |done, all| {
            std::thread::sleep(Duration::from_millis(2));
            (calls, last) = (calls + 1, (done, all));
        })
        .unwrap();
    assert!(calls == last.1 && last.0 + 1 == last.1, "{calls} calls, {last:?}");
    let config = load(&place.at("first")).config;
    let validation = prepared.validation_rows(10, Seed(0));
    std::fs::remove_file(Path::new(&score).join("noise-statistics.json")).unwrap();
    let (begun, donor) = (Instant::now(), load(&score));
    let training = Training::begin(
        place.at("third"),
        &config,
        &prepared,
        &validation,
        Some(&donor),
        Device::Cpu,
    );
    let seconds = training.unwrap().state.seconds;
    assert!(seconds < 0.5 * begun.elapsed().as_secs_f64(), "{seconds}");
}

/// A dequantiser that was interrupted goes on with the same command, to the same bits.
#[test]
fn a_dequantiser_is_gone_on_with() {
    let place = Place::new();
    let (data, run, other) = (place.at("dice.csv"), place.at("run"), place.at("other"));
    let row = |i: u32| format!("{},{}\n", i * i % 7, (i * i + i * 5) % 11);
    std::fs::write(&data, format!("a,b\n{}", (0..200).map(row).collect::<String>())).unwrap();
    let short = ["--iterations", "3", "--dequantize", "integers", "--quiet"];
    succeed(&train(&data, &run, &short));
    std::fs::create_dir(&other).unwrap();
    for entry in std::fs::read_dir(&run).unwrap().map(|entry| entry.unwrap()) {
        std::fs::copy(entry.path(), Path::new(&other).join(entry.file_name())).unwrap();
    }
    let learn = |run: &str| {
        let args = ["dequantize", run, "--iterations", "400", "--width", "8", "--threads", "1"];
        [&args[..], &["--validation-draws", "2"]].concat().join("\n")
    };
    succeed(&learn(&other).split('\n').collect::<Vec<_>>());
    let learn = learn(&run);
    let learn: Vec<&str> = learn.split('\n').collect();
    let child = start(&learn);
    std::thread::sleep(Duration::from_millis(1500));
    signal(&child, "-TERM");
    let (code, text) = end(child);
    let stopped = text.contains("the same command goes on");
    println!("{code:?} {text}");
    assert!(stopped || code == Some(0) || text.contains("stopped"), "{code:?} {text}");
    if code != Some(0) {
        assert_eq!(code, Some(130));
        succeed(&learn);
    }
    let bytes = |run: &str| std::fs::read(Path::new(run).join("dequantizer.safetensors")).unwrap();
    assert!(bytes(&run) == bytes(&other));
    assert!(!Path::new(&run).join("dequantizer-state.safetensors").exists());
}

/// Every option that takes a value says its default, or that there is none.
#[test]
fn the_help_says_every_default() {
    ["-h", "--help"].iter().for_each(|flag| check_help(&succeed(&["train", flag])));
}

fn check_help(help: &str) {
    let mut blocks: Vec<String> = Vec::new();
    for line in help.lines() {
        let option = line.trim_start();
        if option.starts_with('-') && line.len() - option.len() <= 6 {
            blocks.push(option.to_string());
        } else if let Some(block) = blocks.last_mut() {
            *block += &format!(" {option}");
        }
    }
    assert!(blocks.len() > 35, "{blocks:?}");
    for block in blocks.iter().filter(|block| block.contains('<')) {
        let named = ["--data", "--out"].iter().any(|name| block.starts_with(&format!("{name} ")));
        assert!(named || block.contains("[default: "), "{block}");
    }
    for known in [
        "[default: 20000]",
        "[default: 128; 16 images]",
        "0.005; 0.001 for images",
        "[default: 10]",
    ] {
        assert!(help.split_whitespace().collect::<Vec<_>>().join(" ").contains(known), "{known}");
    }
}

/// Columns are brought to the network's units anew where a training goes on: where that comes out
/// otherwise than in the run, it does not go on.
#[test]
fn a_resumption_keeps_the_maps_of_its_columns() {
    let dir = tempfile::tempdir().unwrap();
    let (data, run) = (dir.path().join("t.csv"), dir.path().join("run").display().to_string());
    write_table(data.to_str().unwrap(), 1.0);
    succeed(&train(
        data.to_str().unwrap(),
        &run,
        &["--iterations", "2", "--marginals", "standardize"],
    ));
    let config = load(&run).config;
    let resume = |change: f64| {
        let mut prepared = Prepared::read(&config.data, config.seed).unwrap();
        if let Scaling::Columns(columns) = &mut prepared.record.scaling
            && let ColumnScaling::Affine { scale, .. } = &mut columns[0].map
        {
            *scale *= change;
        }
        Training::resume(RunDir::open(&run).unwrap(), &config, &prepared, "--resume", Device::Cpu)
            .map(drop)
    };
    resume(1.0).unwrap();
    let message = resume(1.0 + 1e-9).unwrap_err().to_string();
    assert!(message.contains("data.json") && message.contains("start a new one"), "{message}");
}

/// `--objective lm-paper` is the paper's objective, and `--form`, `--clock` and `--grid` are
/// options of any Likelihood Matching; others have no paths. What it has trained is scored along
/// paths, in words that claim no exactness.
#[test]
fn the_papers_own_likelihood_matching_is_one_switch() {
    let place = Place::new();
    let (data, out) = (place.table(), place.at("paper"));
    let few = ["--iterations", "3", "--transitions", "1", "--quiet"];
    succeed(&train(&data, &out, &[&["--objective", "lm-paper"], &few[..]].concat()));
    let config = std::fs::read_to_string(place.at("paper/config.toml")).unwrap();
    let parts = [
        "form = \"path\"",
        "time = \"uniform\"",
        "grid = \"random\"",
        "score = \"joint\"",
        "transitions = 1\n",
        "prediction = \"epsilon\"",
        "head_trunk = \"separate\"",
    ];
    for part in parts {
        assert!(config.contains(part), "{part}: {config}");
    }
    let score = ["score", &out, &data, "--estimator", "path", "--steps", "4", "--json", "--quiet"];
    let scores: serde_json::Value = serde_json::from_str(&succeed(&score)).unwrap();
    assert_eq!(scores["kind"], "lower-bound");
    assert!(scores["estimator"].as_str().unwrap().starts_with("path likelihood, K = 4"));

    let other = place.at("other");
    let flags = ["--form", "path", "--clock", "uniform", "--grid", "equidistant"];
    let few = ["--iterations", "3", "--transitions", "5", "--quiet"];
    succeed(&train(&data, &other, &[&flags[..], &few].concat()));
    let config = std::fs::read_to_string(place.at("other/config.toml")).unwrap();
    assert!(config.contains("grid = \"equidistant\"") && config.contains("score = \"dsm\""));
    let refused = |flags: &[&str], words: &[&str]| {
        fail(&train(&data, &place.at("none"), flags), 2, words);
    };
    refused(&["--transitions", "1", "--grid", "equidistant"], &["--transitions", "--grid random"]);
    let lm = ["--data", &data, "--out", "none", "--objective", "sm", "--form", "path"];
    fail(&[&["train"], &lm[..]].concat(), 2, &["--form", "--objective lm"]);
    // I-DDPM's chain has steps, which no clock counts
    refused(&["--objective", "iddpm", "--clock", "uniform"], &["--clock", "steps of the chain"]);
}

/// What a network on a table cannot do is refused before there is a run.
#[test]
fn impossible_ways_to_compute_leave_nothing_behind() {
    let place = Place::new();
    let (data, out) = (place.at("table.csv"), place.at("run"));
    write_table(&data, 1.0);
    for (how, flag) in [
        (&["--precision", "bf16"][..], "--precision"),
        (&["--checkpoint-activations"], "--checkpoint-activations"),
    ] {
        fail(&train(&data, &out, how), 2, &[flag, "a table", "only networks for images"]);
        assert!(!Path::new(&out).exists(), "{flag}");
    }
}

/// A network for images trains with its activations computed again as with them kept, and a trace of
/// its steps has their operators.
#[test]
fn activations_are_computed_again_and_traced() {
    let place = Place::new();
    let (data, config, trace) = (place.at("images.idx"), place.at("c.toml"), place.at("t.json"));
    write_images(&data);
    std::fs::write(&config, SMALL_UNET).unwrap();
    let steps = ["--config", &config, "--iterations", "14", "--threads", "1"];
    let loss = |out: &str, more: &[&str]| {
        let out = place.at(out);
        let whole = ["train", "--data", &data, "--out", &out];
        succeed(&[&whole[..], &steps, more].concat());
        let metrics = std::fs::read_to_string(Path::new(&out).join("metrics.jsonl")).unwrap();
        let last: serde_json::Value =
            serde_json::from_str(metrics.lines().last().unwrap()).unwrap();
        last["validation"].as_f64().unwrap()
    };
    let again = ["--checkpoint-activations", "--profile", &trace];
    let (kept, again) = (loss("kept", &[]), loss("again", &again));
    assert!((kept - again).abs() < 1e-3 * kept.abs(), "{kept} {again}");
    let trace: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(trace).unwrap()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    assert!(events.iter().any(|event| event["name"] == "aten::conv2d"));
    let missing = place.at("none/t.json");
    let out = place.at("untraced");
    fail(&train(&data, &out, &["--profile", &missing]), 2, &["t.json: No such file"]);
    assert!(!Path::new(&out).exists());
}
