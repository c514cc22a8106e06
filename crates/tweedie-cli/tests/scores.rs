//! What the commands that score, sample and encode report about rows, runs and themselves.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;
use tch::{Device, Tensor};
use tweedie::choice::Choice;
use tweedie::data::read_numbers;
use tweedie::metric::Mmd;
use tweedie::noise::Seed;
use tweedie::run::{Run, scaled_rows};
use tweedie::sample::Sampler;

mod common;

use common::{fail, stdout, succeed, tweedie};

/// A small input that once went wrong.
fn case(path: &str) -> String {
    format!("{}/../../tests/data/cases/{path}", env!("CARGO_MANIFEST_DIR"))
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

const SMALL: [&str; 9] =
    ["--width", "16", "--depth", "1", "--rank", "1", "--threads", "1", "--quiet"];

fn train(data: &str, out: &str, more: &[&str]) {
    let start = ["train", "--data", data, "--out", out, "--iterations", "30", "--base", "gaussian"];
    succeed(&[&start[..], &SMALL, more].concat());
}

/// Standard normal numbers, near enough.
fn normals(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed;
    let mut uniform = move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as f64 / (1u64 << 31) as f64
    };
    move || (0..12).map(|_| uniform()).sum::<f64>() - 6.0
}

/// A run that many tests use, on `F08`'s three normal columns of deviations near 1, 10 and 50. It
/// is not written to.
fn shared() -> &'static str {
    static RUN: OnceLock<(tempfile::TempDir, String)> = OnceLock::new();
    &RUN.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run").display().to_string();
        train(&case("F08-overflow-rows/train.csv"), &run, &[]);
        (dir, run)
    })
    .1
}

/// A copy of the shared run, to be changed.
fn copy_of_shared(to: &Path) -> String {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(shared()).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
    to.display().to_string()
}

/// Rows at 1e30 and 1e38 are −∞, come first, are counted, and are flagged once each with the
/// reason; the mean is of the others.
#[test]
fn rows_too_far_out_are_minus_infinity() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("s.csv").display().to_string();
    let new = case("F08-overflow-rows/new.csv");
    let score = ["score", shared(), &new, "--steps", "10", "--draws", "4", "--threads", "1"];
    for estimator in ["elbo", "bound", "bound-sm"] {
        let more = ["--estimator", estimator, "--anomalies", "3", "--json", "-o", &out];
        let output = tweedie(&[&score[..], &more].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        let found = json(&stdout(&output));
        assert_eq!(
            (&found["finite"], &found["minus_infinity"], &found["unsolved"]),
            (&3.into(), &2.into(), &0.into())
        );
        // row 3 has −5.2e11 under the Gaussian of the training rows; a head can make of it no less
        // than that over e⁸, and of the mean a third
        assert!(found["mean"].as_f64().unwrap() < -5.2e11 / 2981.0 / 3.0, "{found}");
        let rows: Vec<u64> = found["anomalies"]
            .as_array()
            .unwrap()
            .iter()
            .map(|a| a["row"].as_u64().unwrap())
            .collect();
        assert_eq!(rows, [4, 5, 3], "{found}");
        assert_eq!(found["anomalies"][0]["log_likelihood"], "-inf");
        let flags = found["flags"].as_array().unwrap();
        let reasons: Vec<&str> =
            flags.iter().map(|flag| flag["reason"].as_str().unwrap()).collect();
        assert!(flags.len() == 2 && flags[0]["row"] == 4 && flags[1]["row"] == 5, "{found}");
        assert!(
            reasons[0].contains("column `a` is 1e30") && reasons[1].contains("column `b` is 1e38"),
            "{reasons:?}"
        );
        assert_eq!(stderr(&output).matches("warning: row 4").count(), 1, "{}", stderr(&output));
        let written = std::fs::read_to_string(&out).unwrap();
        assert!(written.lines().nth(4).unwrap().starts_with("1e+30,0,0,-inf,"), "{written}");
    }
    let text = succeed(&[&score[..], &["--quiet", "--anomalies", "1"]].concat());
    assert!(
        text.starts_with("3 rows: ")
            && text.contains("2 more rows at −∞")
            && text.contains("\n4\t-inf"),
        "{text}"
    );
    // the flow follows such rows as far as they are; none makes the mean disappear
    let ode = json(&succeed(&[&score[..], &["--estimator", "ode", "--json", "--quiet"]].concat()));
    assert!(ode["mean"].as_f64().is_some_and(|mean| mean < -1e9), "{ode}");
    let judged =
        ["evaluate", shared(), "--data", &new, "--steps", "3", "--metrics", "nll", "--no-ode"];
    let table = succeed(&[&judged[..], &["--threads", "1"]].concat());
    assert!(table.contains("2 of 5 rows at −∞ and left out") && !table.contains("NaN"), "{table}");
}

/// Rows with missing cells are left out where that is allowed, reported and counted; every other
/// row keeps the number that it has in its file.
#[test]
fn rows_are_called_as_their_file_calls_them() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (run, new) = (at("run"), case("F02-anomaly-row-number/new.csv"));
    train(&case("F02-anomaly-row-number/train.csv"), &run, &["--missing", "drop-rows"]);
    // the rows 2, 4 and 5 of the file have a missing cell; row 9 is (9, 9)
    let score = ["score", &run, &new, "--steps", "10", "--threads", "1", "--anomalies", "1"];
    let output = tweedie(&score);
    assert!(stdout(&output).contains("\n9\t"), "{}", stdout(&output));
    assert!(
        stderr(&output).contains("3 of 12 rows have missing cells, and are left out: rows 2, 4, 5"),
        "{}",
        stderr(&output)
    );
    let found = json(&succeed(&[&score[..], &["--json", "--quiet"]].concat()));
    assert_eq!(found["anomalies"][0]["row"], 9);
    assert_eq!(found["left_out"], serde_json::json!({ "count": 3, "rows": [2, 4, 5] }));
    // warnings and errors
    let solve =
        ["score", &run, &new, "--estimator", "ode", "--max-evaluations", "10", "--threads", "1"];
    let flags = json(&succeed(&[&solve[..], &["--keep-unsolved", "--json", "--quiet"]].concat()));
    let rows: Vec<u64> =
        flags["flags"].as_array().unwrap().iter().map(|f| f["row"].as_u64().unwrap()).collect();
    assert_eq!(rows, [1, 3, 6, 7, 8, 9, 10, 11, 12], "{flags}");
    let text = std::fs::read_to_string(&new).unwrap().replacen("2.0178,-0.7459", ",1", 1);
    std::fs::write(at("first.csv"), text).unwrap();
    let mut first = solve;
    let path = at("first.csv");
    first[2] = &path;
    fail(&first, 1, &["row 3: probability-flow ODE", "max_evaluations"]);

    let encode = ["encode", &run, &new, "-o", &at("z.csv"), "--threads", "1"];
    let output = tweedie(&encode);
    assert!(
        output.status.success() && stderr(&output).contains("left out: rows 2, 4, 5"),
        "{}",
        stderr(&output)
    );
    let found = json(&succeed(&[&encode[..], &["--json", "--quiet"]].concat()));
    assert_eq!(
        (&found["rows"], &found["left_out"]["rows"]),
        (&9.into(), &serde_json::json!([2, 4, 5]))
    );
    fail(
        &[&encode[..3], &["-o", &at("z.csv"), "--max-evaluations", "9"]].concat(),
        1,
        &["row 1: probability"],
    );
    let mut encode = encode;
    encode[2] = &path;
    fail(&[&encode[..], &["--max-evaluations", "9"]].concat(), 1, &["row 3: probability-flow ODE"]);
}

/// A cell is missing in a table of a training that had none: each command that reads rows says how
/// to go on, and can.
#[test]
fn missing_cells_have_a_remedy_at_scoring() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (new, out) = (case("F11-missing-at-scoring/new.csv"), at("out.csv"));
    for command in [
        &["score", shared(), &new, "-o", &out, "--steps", "3"][..],
        &["encode", shared(), &new, "-o", &out],
        &["evaluate", shared(), "--data", &new, "--steps", "3", "--no-ode", "--metrics", "nll"],
    ] {
        fail(command, 2, &["new.csv", "--missing drop-rows"]);
        let output = tweedie(&[command, &["--missing", "drop-rows", "--threads", "1"]].concat());
        assert!(output.status.success(), "{command:?}: {}", stderr(&output));
        assert!(
            stderr(&output).contains("1 of 2 rows have missing cells, and are left out: rows 2"),
            "{}",
            stderr(&output)
        );
        fail(&[command, &["--missing", "error"]].concat(), 2, &["new.csv"]);
    }
    std::fs::write(at("semicolons.csv"), "a;b;c\n1;2;3\n").unwrap();
    succeed(&[
        "score",
        shared(),
        &at("semicolons.csv"),
        "--delimiter",
        ";",
        "--header",
        "true",
        "--steps",
        "2",
    ]);
}

/// A run on twelve images of 4×4 in two folders.
fn images(dir: &Path) -> (String, String) {
    let (data, run) = (dir.join("images"), dir.join("run").display().to_string());
    for i in 0u32..12 {
        let folder = data.join(if i < 5 { "cats" } else { "dogs" });
        std::fs::create_dir_all(&folder).unwrap();
        let picture = image::GrayImage::from_fn(4, 4, |x, y| {
            image::Luma([((i * 37 + x * 50 + y * 11) % 256) as u8])
        });
        picture.save(folder.join(format!("{i:02}.png"))).unwrap();
    }
    let config = dir.join("small.toml").display().to_string();
    std::fs::write(
        &config,
        "[model.network]\nkind = \"unet\"\nshape = [1, 4, 4]\nwidths = [8, 8]\n\
         attention = [false, false]\n",
    )
    .unwrap();
    let data = data.display().to_string();
    let train = ["train", "--config", &config, "--data", &data, "--out", &run, "--iterations", "4"];
    succeed(
        &[&train[..], &["--batch-size", "4", "--rank", "0", "--threads", "1", "--quiet"]].concat(),
    );
    (data, run)
}

/// Scores of images name their files, in the table, among the anomalies and in JSON; those of
/// Ctrl-C's moment are kept.
#[test]
fn scores_of_images_name_their_files() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (data, run) = images(dir.path());
    let out = at("s.csv");
    let score = [
        "score",
        &run,
        &data,
        "--steps",
        "2",
        "--draws",
        "2",
        "--threads",
        "1",
        "--batch-size",
        "5",
    ];
    let text = succeed(&[&score[..], &["-o", &out, "--anomalies", "12", "--quiet"]].concat());
    let written = std::fs::read_to_string(&out).unwrap();
    let lines: Vec<Vec<&str>> = written.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines[0], ["image", "log_likelihood", "std_error", "file"]);
    assert_eq!(
        (lines.len(), lines[1][0], lines[1][3], lines[12][0], lines[12][3]),
        (13, "1", "cats/00.png", "12", "dogs/11.png")
    );
    // the same values as in the list of anomalies, which names the same files
    for line in &lines[1..] {
        let value: f64 = line[1].parse().unwrap();
        let listed = format!("{}\t{value:.4}\t", line[0]);
        assert!(
            text.lines().any(|l| l.starts_with(&listed) && l.ends_with(line[3])),
            "{listed} in {text}"
        );
    }
    let found = json(&succeed(&[&score[..], &["--json", "--anomalies", "1", "--quiet"]].concat()));
    assert!(
        found["anomalies"][0]["file"].as_str().is_some_and(|file| file.ends_with(".png")),
        "{found}"
    );
    // how long it takes, before it begins
    let mut child =
        start(&["score", &run, &data, "--steps", "100000", "--draws", "1000", "--threads", "1"]);
    let mut said = String::new();
    let mut lines = std::io::BufReader::new(child.stderr.take().unwrap());
    while !said.contains("minutes or more") {
        assert!(std::io::BufRead::read_line(&mut lines, &mut said).unwrap() > 0, "{said}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(said.contains("12 images of 100000000 network evaluations"), "{said}");
    let npy = tweedie(&[&score[..], &["-o", &at("s.npy")]].concat());
    assert!(npy.status.success() && stderr(&npy).contains("holds no names"), "{}", stderr(&npy));

    #[cfg(unix)]
    {
        std::fs::write(&out, "old\n").unwrap();
        // an image takes about a second: some are done when the signal comes
        let long =
            ["score", &run, &data, "--estimator", "bound", "--draws", "500", "--batch-size", "1"];
        let child = start(&[&long[..], &["--threads", "1", "--quiet", "-o", &out]].concat());
        let partial = || {
            entries(dir.path()).into_iter().find(|path| path.to_string_lossy().ends_with(".tmp"))
        };
        wait_for(|| {
            partial().is_some_and(|path| {
                std::fs::read_to_string(path).is_ok_and(|t| t.lines().count() > 2)
            })
        });
        let output = signal(child, "-INT");
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(130), "{message}");
        assert!(
            message.starts_with("stopped; ") && message.contains("s.csv is as it was"),
            "{message}"
        );
        assert!(message.contains("s.partial.csv") && !message.contains("error:"), "{message}");
        assert_eq!(std::fs::read_to_string(&out).unwrap(), "old\n");
        let kept = std::fs::read_to_string(at("s.partial.csv")).unwrap();
        assert!(
            kept.ends_with('\n') && kept.starts_with("image,log_likelihood,std_error,file\n"),
            "{kept}"
        );
        assert!(kept.lines().all(|line| line.split(',').count() == 4), "{kept}");
        assert!((3..13).contains(&kept.lines().count()), "{kept}");
        assert!(partial().is_none(), "{:?}", entries(dir.path()));
    }
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn start(args: &[&str]) -> std::process::Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tweedie"));
    command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn wait_for(done: impl Fn() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(120), "nothing happened");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(unix)]
fn signal(child: std::process::Child, name: &str) -> Output {
    Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    child.wait_with_output().unwrap()
}

/// Ctrl-C of a command other than a training: no error, exit code 130, and nothing left behind.
#[test]
#[cfg(unix)]
fn interrupted_commands_leave_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("s.csv").display().to_string();
    for name in ["-INT", "-TERM"] {
        let long = [
            "sample",
            shared(),
            "-n",
            "2000",
            "--steps",
            "1000000",
            "-o",
            &out,
            "--threads",
            "1",
            "--quiet",
        ];
        let child = start(&long);
        wait_for(|| !entries(dir.path()).is_empty());
        let output = signal(child, name);
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(130), "{message}");
        assert!(
            message.starts_with("stopped; ") && message.contains("s.csv is not written"),
            "{message}"
        );
        assert!(!message.contains("error"), "{message}");
        assert_eq!(entries(dir.path()), Vec::<PathBuf>::new());
    }
}

/// A reader that has gone is no failure to be reported as one; a full disk is.
#[test]
#[cfg(unix)]
fn closed_pipes_are_no_panic() {
    let args = [
        "evaluate",
        shared(),
        "--steps",
        "2",
        "--no-ode",
        "--metrics",
        "nll",
        "--threads",
        "1",
        "--quiet",
    ];
    let mut child = start(&args);
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stderr(&output)), (Some(141), String::new()));
    // the rows themselves
    let mut child = start(&[
        "sample",
        shared(),
        "-n",
        "100000",
        "--steps",
        "2",
        "-o",
        "-",
        "--threads",
        "1",
        "--quiet",
    ]);
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stderr(&output)), (Some(141), String::new()));
    // remarks that nobody reads do not end the work
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run").display().to_string();
    let data = case("F08-overflow-rows/train.csv");
    let mut child = start(&[
        "train",
        "--data",
        &data,
        "--out",
        &run,
        "--iterations",
        "30",
        "--width",
        "16",
        "--threads",
        "1",
    ]);
    drop(child.stderr.take());
    let mut answer = String::new();
    child.stdout.take().unwrap().read_to_string(&mut answer).unwrap();
    assert_eq!((child.wait().unwrap().code(), answer.trim()), (Some(0), run.as_str()));
    if Path::new("/dev/full").exists() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tweedie"));
        let output = command.args(args).stdout(full).output().unwrap();
        assert!(
            output.status.code() == Some(1) && stderr(&output).contains("standard output"),
            "{}",
            stderr(&output)
        );
    }
}

/// Names from files are shown, and do nothing to the terminal.
#[test]
fn names_are_no_commands_to_a_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(at("lines.csv"), "\"a\nerror: all is lost\u{9b}31m\",b\nx,1\ny,2\n").unwrap();
    for data in [case("A-terminal-escapes/csv_esc.csv"), at("lines.csv")] {
        for types in ["auto", "numbers"] {
            let train = ["train", "--data", &data, "--out", &at("run"), "--types", types];
            let output = tweedie(&train);
            let message = stderr(&output);
            assert_eq!(output.status.code(), Some(2), "{message}");
            assert!(!message.trim_end_matches('\n').contains(char::is_control), "{message:?}");
            let escaped = message.contains("\\u{1b}") || message.contains("\\n");
            assert!(escaped || types == "auto", "{message}");
        }
    }
    // remarks and JSON of a run
    let run = copy_of_shared(&dir.path().join("other"));
    let mut record = json(&std::fs::read_to_string(at("other/data.json")).unwrap());
    record["remarks"] = serde_json::json!(["column `\u{1b}[31m\u{9b}x\ny` has no density"]);
    std::fs::write(at("other/data.json"), record.to_string()).unwrap();
    let new = case("F08-overflow-rows/train.csv");
    let output =
        tweedie(&["score", &run, &new, "--steps", "2", "--json", "--quiet", "--threads", "1"]);
    assert_eq!(stderr(&output), "note: column `\\u{1b}[31m\\u{9b}x\\ny` has no density\n");
    let text = stdout(&output);
    assert!(!text.trim_end().contains(char::is_control), "{text:?}");
    assert_eq!(json(&text)["remarks"][0], "column `\u{1b}[31m\u{9b}x\ny` has no density");
}

/// What has to be known of a run stands beside whatever comes of it, quiet or not.
#[test]
fn remarks_stand_beside_every_figure() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let run = copy_of_shared(&dir.path().join("run"));
    let mut record = json(&std::fs::read_to_string(at("run/data.json")).unwrap());
    let remark = "column `a` is 0 in half of the rows, where it has no density";
    record["remarks"] = serde_json::json!([remark]);
    std::fs::write(at("run/data.json"), record.to_string()).unwrap();
    let (data, z, back) = (case("F08-overflow-rows/train.csv"), at("z.csv"), at("back.csv"));
    for command in [
        &["score", &run, &data, "--steps", "2"][..],
        &["sample", &run, "-n", "3", "--steps", "2", "-o", &back],
        &["encode", &run, &data, "-o", &z, "--rtol", "1e-2", "--atol", "1e-2"],
        &["decode", &run, &z, "-o", &back, "--rtol", "1e-2", "--atol", "1e-2"],
        &["evaluate", &run, "--steps", "2", "--no-ode", "--metrics", "nll"],
    ] {
        let output = tweedie(&[command, &["--quiet", "--json", "--threads", "1"]].concat());
        assert!(output.status.success(), "{command:?}: {}", stderr(&output));
        assert_eq!(json(&stdout(&output))["remarks"], serde_json::json!([remark]), "{command:?}");
        assert_eq!(stderr(&output), format!("note: {remark}\n"), "{command:?}");
    }
}

/// Where the program's own data do not fit into memory it says so, in the same line as where
/// LibTorch's do not.
#[test]
#[cfg(target_os = "linux")]
fn no_memory_is_no_crash() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("s.csv").display().to_string();
    let mut command = Command::new("sh");
    // 1e9 streams of noise are hundreds of gigabytes
    command.args(["-c", "ulimit -v 16000000; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_tweedie")]);
    command.args([
        "sample",
        shared(),
        "-n",
        "1000000000",
        "--batch-size",
        "1000000000",
        "--steps",
        "2",
    ]);
    let output = command.args(["-o", &out, "--threads", "1", "--quiet"]).output().unwrap();
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("error: out of memory; give a smaller --batch-size"), "{message}");
    assert!(!message.contains("internal"), "{message}");
}

/// Ctrl-C of a command that writes no file ends as quietly.
#[test]
#[cfg(target_os = "linux")]
fn interrupted_scores_are_no_error() {
    let data = case("F08-overflow-rows/train.csv");
    let mut child =
        start(&["score", shared(), &data, "--steps", "100000", "--draws", "100", "--threads", "1"]);
    // the system's mask of the signals that the program answers; 2 is Ctrl-C's
    let status = format!("/proc/{}/status", child.id());
    let answers = || -> Option<bool> {
        let text = std::fs::read_to_string(&status).ok()?;
        let mask = text.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
        Some(u64::from_str_radix(mask.trim(), 16).ok()? & 2 != 0)
    };
    wait_for(|| answers() == Some(true));
    assert!(child.try_wait().unwrap().is_none());
    let output = signal(child, "-INT");
    assert_eq!((output.status.code(), stderr(&output).trim()), (Some(130), "stopped"));
}

/// `-o -` is the same CSV on standard output, alone there.
#[test]
fn rows_go_to_standard_output() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (data, z) = (case("F08-overflow-rows/train.csv"), at("z.csv"));
    let small = ["--threads", "1"];
    let encode = ["encode", shared(), &data, "--rtol", "1e-2", "--atol", "1e-2", "--no-check"];
    for (command, header) in [
        (
            &["score", shared(), &data, "--steps", "2", "--anomalies", "2"][..],
            "a,b,c,log_likelihood,std_error",
        ),
        (&["sample", shared(), "-n", "20", "--steps", "2"], "a,b,c"),
        (&encode, "z_a,z_b,z_c"),
        (&["decode", shared(), &z, "--rtol", "1e-2", "--atol", "1e-2"], "a,b,c"),
    ] {
        let file = if command[0] == "encode" { z.clone() } else { at("file.csv") };
        succeed(&[command, &small, &["-o", &file]].concat());
        let output = tweedie(&[command, &small, &["-o", "-"]].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        let text = stdout(&output);
        assert_eq!(text.lines().next(), Some(header));
        assert_eq!(text, std::fs::read_to_string(&file).unwrap(), "{command:?}");
        assert_eq!(
            stderr(&output).contains("nats per row"),
            command[0] == "score",
            "{}",
            stderr(&output)
        );
        fail(&[command, &["-o", "-", "--json"]].concat(), 2, &["--out", "--json"]);
    }
    assert!(!Path::new("-").exists());
}

/// An output never takes the place of an input, nor of a file of the run.
#[test]
fn inputs_and_runs_are_not_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (data, run) = (at("data.csv"), copy_of_shared(&dir.path().join("run")));
    std::fs::copy(case("F08-overflow-rows/new.csv"), &data).unwrap();
    let before = std::fs::read(&data).unwrap();
    let around = at("run/../data.csv");
    let inside = at("run/ema.safetensors");
    let other = at("run/new.csv");
    for command in [&["score", &run, &data][..], &["encode", &run, &data], &["decode", &run, &data]]
    {
        for out in [&data, &around] {
            fail(&[command, &["-o", out]].concat(), 2, &["--out", "is the input"]);
        }
        fail(&[command, &["-o", &other]].concat(), 2, &["--out", "lies in the run"]);
    }
    let weights = std::fs::read(&inside).unwrap();
    fail(&["sample", &run, "-n", "2", "-o", &other], 2, &["--out", "lies in the run"]);
    #[cfg(unix)]
    {
        let (soft, hard) = (at("soft.csv"), at("hard.csv"));
        std::os::unix::fs::symlink(&data, &soft).unwrap();
        std::fs::hard_link(&data, &hard).unwrap();
        for out in [&soft, &hard] {
            fail(&["score", &run, &data, "-o", out], 2, &["--out", "is the input"]);
        }
    }
    assert_eq!(before, std::fs::read(&data).unwrap());
    assert_eq!(weights, std::fs::read(&inside).unwrap());
    assert!(!Path::new(&other).exists());
}

/// Two groups of rows, one after the other in the file: 300 near 0, then 300 that are ten times as
/// wide.
fn sorted_table(path: &str) {
    let mut z = normals(3);
    let rows = (0..600).map(|i| (if i < 300 { 1.0 } else { 10.0 }, z(), z()));
    let text: String =
        rows.map(|(sd, a, b)| format!("{:.4},{:.4}\n", sd * a, sd * (0.5 * a + b))).collect();
    std::fs::write(path, format!("a,b\n{text}")).unwrap();
}

/// A part of the test rows is a draw: of a sorted file it holds both groups, and its mean is near
/// that of all. Differences are paired, to the base, to the Gaussian and to another run.
#[test]
fn a_part_of_the_rows_is_a_draw_and_differences_are_paired() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (data, test, run, other) = (at("sorted.csv"), at("test.csv"), at("run"), at("other"));
    sorted_table(&data);
    sorted_table(&test);
    train(&data, &run, &[]);
    train(&data, &other, &["--learning-rate", "1e-2"]);
    let base = |rows: &[&str]| {
        let judged = [
            "evaluate",
            &run,
            "--data",
            &test,
            "--steps",
            "3",
            "--metrics",
            "nll",
            "--no-ode",
            "--json",
        ];
        let found = json(&succeed(&[&judged[..], rows, &["--threads", "1", "--quiet"]].concat()));
        let line = |name: &str| -> Value {
            let lines = found["results"].as_array().unwrap();
            lines
                .iter()
                .find(|line| line["name"].as_str().unwrap().starts_with(name))
                .unwrap()
                .clone()
        };
        (
            found["rows"].clone(),
            line("the model's base")["value"].as_f64().unwrap(),
            line("ELBO, K = 3, learned"),
        )
    };
    let (all, whole, _) = base(&[]);
    let (part, drawn, _) = base(&["--rows", "100"]);
    let (_, again, _) = base(&["--rows", "100"]);
    let (_, different, _) = base(&["--rows", "100", "--seed", "1"]);
    assert_eq!((all, part), (600.into(), 100.into()));
    assert_eq!(drawn, again);
    assert_ne!(drawn, different);
    // the first hundred are of the narrow group alone, which has some 1.5 nats more under one
    // Gaussian for both than the wide one
    assert!(
        (drawn - whole).abs() < 0.45 && (different - whole).abs() < 0.45,
        "{drawn} {different} {whole}"
    );

    let judge = |against: &str, more: &[&str]| {
        let judged =
            ["evaluate", &run, "--steps", "3", "--metrics", "nll", "--against", against, "--json"];
        tweedie(&[&judged[..], more, &["--threads", "1"]].concat())
    };
    let itself = json(&stdout(&judge(&run, &[])));
    let results = itself["results"].as_array().unwrap();
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{value}"));
    let mut compared = 0;
    for line in results.iter().filter(|line| !line["minus_against"].is_null()) {
        assert_eq!(
            line["minus_against"],
            serde_json::json!({ "mean": 0.0, "std_error": 0.0 }),
            "{line}"
        );
        compared += 1;
    }
    // four covariances, the flow and the base
    assert_eq!(compared, 6, "{itself}");
    let another = json(&stdout(&judge(&other, &[])));
    let lines = another["results"].as_array().unwrap();
    let value = |name: &str| {
        let named = |line: &&Value| line["name"].as_str().unwrap().starts_with(name);
        number(&lines.iter().find(named).unwrap()["value"])
    };
    let line = lines
        .iter()
        .find(|line| line["name"].as_str().unwrap().starts_with("ELBO, K = 3, learned"))
        .unwrap();
    let own = number(&line["value"]);
    let gap = own - value("against: ELBO, K = 3, learned");
    assert!((number(&line["minus_against"]["mean"]) - gap).abs() < 1e-9 && gap != 0.0, "{line}");
    assert!(
        (number(&line["minus_base"]["mean"]) - (own - value("the model's base"))).abs() < 1e-9,
        "{line}"
    );
    assert!(
        (number(&line["minus_gaussian"]["mean"]) - (own - value("Gaussian"))).abs() < 1e-9,
        "{line}"
    );
    // pairs vary less than rows do
    assert!(
        number(&line["minus_against"]["std_error"]) < 0.5 * number(&line["std_error"]),
        "{line}"
    );

    // other splits: the rows of both test sets, which is reported; other data: refused
    let shuffled = at("shuffled");
    train(&data, &shuffled, &["--split", "0.9,0.05,0.05"]);
    let output = judge(&shuffled, &["--no-ode"]);
    assert!(stderr(&output).contains("split their rows differently"), "{}", stderr(&output));
    let rows = number(&json(&stdout(&output))["rows"]);
    assert_eq!(rows, 30.0);
    let judged = ["evaluate", &run, "--metrics", "nll", "--against", shared()];
    fail(&judged, 2, &["--against", "other columns"]);
    fail(
        &["evaluate", &run, "--metrics", "mmd", "--against", &other],
        2,
        &["--against", "--metrics nll"],
    );
}

/// MMD² by any sampler is that of the samples that `sample` draws, against the test rows.
#[test]
fn discrepancies_are_of_the_samples_of_any_sampler() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("drawn.npy").display().to_string();
    let run = Run::load(shared(), Device::Cpu).unwrap();
    let (scaling, own) = (&run.data.scaling, run.prepared().unwrap());
    let (test, _) = scaled_rows(&own.table, &own.split.test, scaling, Seed(5).derive("mmd"));
    for sampler in Sampler::all() {
        let (name, steps) = (sampler.name(), sampler.method().has_steps());
        let same = ["--sampler", name, "--steps", "3", "--seed", "5", "--threads", "1", "--quiet"];
        let judge = ["evaluate", shared(), "--metrics", "mmd", "--json"];
        let answer = json(&succeed(&[&judge[..], &same].concat()));
        let [line] = &answer["results"].as_array().unwrap()[..] else { panic!("{answer}") };
        let (k, ancestral) = (if steps { ", K = 3" } else { "" }, name == "ancestral");
        let expected = match ancestral {
            true => format!("MMD²{k}, learned covariance"),
            false => format!("MMD², {name}{k}"),
        };
        assert_eq!((&line["name"], &line["sampler"]), (&expected.into(), &name.into()));
        assert_eq!((line["steps"].is_u64(), line["covariance"].is_string()), (steps, ancestral));
        let sample = ["sample", shared(), "-n", "1000", "-o", &out];
        succeed(&[&sample[..], &same].concat());
        let raw: Vec<f32> = read_numbers(&out).unwrap().1.iter().map(|v| *v as f32).collect();
        let (mut scaled, mut jacobians) = (Vec::new(), Vec::new());
        scaling.forward_f64(&raw, || 0.5, &mut scaled, &mut jacobians);
        let drawn = Tensor::from_slice(&scaled).view([1000, -1]);
        let found = line["value"].as_f64().unwrap();
        // samples go through the data's units in single precision
        let gap = (Mmd::default().u_statistic(&drawn, &test) - found).abs();
        assert!(gap < 1e-5 * found.abs().max(0.01), "{name}: {found}, off by {gap}");
    }
    let judge = ["evaluate", shared(), "--metrics", "mmd", "--threads", "1", "--sampler"];
    let refused = |more: &[&str], words: &[&str]| fail(&[&judge[..], more].concat(), 2, words);
    refused(&["heun", "--covariance", "beta"], &["--covariance: the sampler 'heun'"]);
    refused(&["flow", "--eta", "0"], &["--eta", "--sampler ancestral"]);
    refused(&["ancestral", "--rtol", "1e-3"], &["--rtol", "--sampler flow"]);
    refused(&["ancestral", "--clip"], &["--clip", "run of a table"]);
    let nll = ["evaluate", shared(), "--metrics", "nll", "--sampler", "heun"];
    fail(&nll, 2, &["--sampler", "--metrics mmd"]);
    // covariances are those of the log-likelihoods beside
    let both = ["--metrics", "nll,mmd", "--covariance", "beta", "--sampler", "heun", "--no-ode"];
    let text = succeed(&[&["evaluate", shared(), "--steps", "2", "--quiet"], &both[..]].concat());
    assert!(text.contains("MMD², heun, K = 2") && text.contains("K = 2, beta"), "{text}");
}

/// A Gaussian that no covariance can be estimated for is left out, and reported so.
#[test]
fn baselines_that_do_not_exist_are_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run").display().to_string();
    let data = case("F09-more-columns-than-rows/t.csv");
    let args =
        ["train", "--data", &data, "--out", &run, "--iterations", "3", "--base", "isotropic"];
    succeed(&[&args[..], &SMALL].concat());
    let judged =
        ["evaluate", &run, "--steps", "3", "--metrics", "nll", "--no-ode", "--threads", "1"];
    let text = succeed(&judged);
    assert!(text.contains("Gaussian, full covariance: not defined: 16 training rows"), "{text}");
    let found = json(&succeed(&[&judged[..], &["--json"]].concat()));
    assert_eq!(found["undefined"][0]["name"], "Gaussian, full covariance");
    assert!(
        found["results"]
            .as_array()
            .unwrap()
            .iter()
            .all(|line| line["value"].as_f64().unwrap() > -1e8)
    );
    succeed(&["report", &run, "--no-ode", "-n", "50", "--quiet"]);
}

/// Batches and threads change the rounding of products in single precision, and nothing else: 1e-5
/// of a value, and where a solver chooses its steps by what it finds, what its tolerances let pass.
#[test]
fn batches_and_threads_change_rounding_alone() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.csv").display().to_string();
    let data = case("F08-overflow-rows/train.csv");
    let sample = ["sample", shared(), "-n", "40", "--steps", "5", "--sampler"];
    let score = ["score", shared(), &data, "--steps", "5", "--draws", "2", "--estimator"];
    let tolerances = ["--rtol", "1e-5", "--atol", "1e-5"];
    for (command, limit) in [
        ([&sample[..], &["ancestral"]].concat(), 1e-5),
        ([&sample[..], &["euler-maruyama"]].concat(), 1e-5),
        ([&sample[..], &["dpm-solver"]].concat(), 1e-5),
        ([&sample[..], &["predictor-corrector"]].concat(), 1e-5),
        ([&sample[..], &["flow"], &tolerances].concat(), 1e-2),
        ([&score[..], &["elbo"]].concat(), 1e-5),
        ([&score[..], &["ode"], &tolerances].concat(), 1e-2),
    ] {
        let with = |batch: &str, threads: &str| {
            let more = ["--batch-size", batch, "--threads", threads, "-o", &out, "--quiet"];
            succeed(&[&command[..], &more].concat());
            std::fs::read_to_string(&out).unwrap()
        };
        let whole = with("1000", "1");
        let found = apart(&whole, &with("7", "2"));
        println!("{command:?}: {found:.1e}");
        assert!(found < limit, "{command:?}: {found:.1e}");
        assert_eq!(whole, with("1000", "1"), "a repeat");
    }
}

/// The largest difference of two tables, relative to 1 + |value|.
fn apart(a: &str, b: &str) -> f64 {
    let numbers = |text: &str| -> Vec<f64> {
        let rows = text.lines().skip(1);
        rows.flat_map(|l| l.split(',').map(|c| c.parse().unwrap_or(0.0)).collect::<Vec<f64>>())
            .collect()
    };
    let (a, b) = (numbers(a), numbers(b));
    assert_eq!(a.len(), b.len());
    a.iter().zip(&b).map(|(a, b)| (a - b).abs() / (1.0 + a.abs())).fold(0.0, f64::max)
}
