//! The report, `tweedie info` and the pages of experiments, as a user meets them.

use std::path::Path;
use std::process::Command;

mod common;

use common::{fail, succeed};
use serde_json::Value;

/// 300 rows of two columns in the order of their classes: a hundred near 0, two hundred far away
/// and wider.
fn write_sorted(path: &Path) {
    let mut text = String::from("a,b\n");
    let mut state = 7u64;
    let mut normal = || {
        let mut uniform = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as f64 / (1u64 << 31) as f64
        };
        (0..12).map(|_| uniform()).sum::<f64>() - 6.0
    };
    for i in 0..300 {
        let (centre, width) = if i < 100 { (0.0, 0.2) } else { (9.0, 3.0) };
        text += &format!("{:.4},{:.4}\n", centre + width * normal(), centre + width * normal());
    }
    std::fs::write(path, text).unwrap();
}

fn train(data: &str, out: &str, more: &[&str]) {
    let small = [
        "train",
        "--data",
        data,
        "--out",
        out,
        "--width",
        "8",
        "--depth",
        "1",
        "--base",
        "gaussian",
        "--rank",
        "1",
        "--batch-size",
        "32",
        "--split",
        "0.5,0.1,0.4",
        "--marginals",
        "standardize",
        "--threads",
        "1",
        "--quiet",
    ];
    succeed(&[&small[..], more].concat());
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&succeed(&[args, &["--json", "--quiet", "--threads", "1"]].concat()))
        .unwrap()
}

/// Names and values of an answer's results.
fn results(answer: &Value) -> Vec<(String, f64)> {
    let result =
        |r: &Value| (r["name"].as_str().unwrap().to_string(), r["value"].as_f64().unwrap());
    answer["results"].as_array().unwrap().iter().map(result).collect()
}

fn named(answer: &Value, name: &str) -> f64 {
    let all = results(answer);
    all.iter().find(|(n, _)| n.starts_with(name)).unwrap_or_else(|| panic!("{name}: {all:?}")).1
}

/// One training, looked at in every way: report and evaluate agree on the rows that both draw; the
/// page has a verdict, what the run is made of and what the data's remarks say; info says the same;
/// a link in the run is not written through.
#[test]
fn a_run_is_reported_and_described() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    write_sorted(&dir.path().join("sorted.csv"));
    let (data, run) = (at("sorted.csv"), at("run"));
    train(&data, &run, &["--iterations", "40", "--patience", "5"]);

    // the same rows, the same noise, the same figures
    let report = ["report", &run, "--rows", "40", "-n", "60", "--no-ode"];
    let evaluate =
        ["evaluate", &run, "--metrics", "nll", "--rows", "40", "--steps", "100", "--no-ode"];
    let (page, table) = (json(&report), json(&evaluate));
    assert_eq!((&page["rows"], &table["rows"]), (&40.into(), &40.into()));
    let mut compared = 0;
    for (name, value) in results(&page) {
        let same = named(&table, &name);
        assert!(
            (value - same).abs() <= 1e-9 * value.abs().max(1.0),
            "{name}: {value} against {same}"
        );
        compared += 1;
    }
    assert!(compared >= 4, "{page}");
    // a draw, and not the first rows, which are all of the narrow class
    let gaussian = |seed: &str, rows: &str| {
        let rest = ["--rows", rows, "--seed", seed, "-n", "20", "--no-ode"];
        named(&json(&[&["report", &run][..], &rest].concat()), "Gaussian, full covariance")
    };
    let all = gaussian("0", "1000");
    let drawn = named(&page, "Gaussian, full covariance");
    assert!((drawn - all).abs() < 0.5, "{drawn} of 40 drawn rows, {all} of all");
    assert_ne!(drawn, gaussian("1", "40"));

    let html = || std::fs::read_to_string(Path::new(&run).join("report.html")).unwrap();
    succeed(&[&report[..], &["--quiet"]].concat());
    let text = html();

    for words in [
        "What the figures say",
        "On the same 40 test rows the model (ELBO, K = 100, learned covariance) is",
        "the model's base, 1 component",
        "Gaussian, full covariance",
        "40 of 120, drawn at random (seed 0)",
        "150 training, 30 validation, 120 test",
        "standardised: all columns",
        "finished: all of 40 iterations",
        "iteration 40",
        "--patience 5",
        concat!("by tweedie ", env!("CARGO_PKG_VERSION")),
        concat!("Z · tweedie ", env!("CARGO_PKG_VERSION"), " · seed 0</p>"),
        "<code>tweedie report ",
        "loss of Likelihood Matching",
        "The values of the figure",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(!text.contains("overfitting"));

    // info says the same without computing anything, in words and for programs
    let about = json(&["info", &run]);
    assert_eq!(about["ended"], "finished", "{about}");
    assert_eq!(about["finished"], true, "{about}");
    assert_eq!((&about["iteration"], &about["iterations"]), (&40.into(), &40.into()), "{about}");
    assert_eq!(about["data"]["columns"], serde_json::json!(["a", "b"]));
    assert_eq!(about["data"]["rows"]["training"], 150);
    assert_eq!(about["best_iteration"], 40, "{about}");
    assert!(about["validation"]["best"]["value"].is_f64() && about["loss"].is_f64(), "{about}");
    assert!(about["parameters"]["all"].as_i64() > about["parameters"]["score"].as_i64(), "{about}");
    assert!(about["files"]["ema.safetensors"].as_u64().unwrap() > 100, "{about}");
    assert_eq!(about["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(about["command"][0], "tweedie");
    assert_eq!(about["command"][1], "train");
    assert!(about["date"].as_str().unwrap().ends_with('Z') && about["problem"].is_null());
    let words = succeed(&["info", &run]);
    assert!(
        words.contains("finished: all of 40 iterations") && words.contains("2 columns: a, b"),
        "{words}"
    );

    // what has to be reported about the data stands on the page and in info
    let record = Path::new(&run).join("data.json");
    let mut remarked: Value =
        serde_json::from_str(&std::fs::read_to_string(&record).unwrap()).unwrap();
    remarked["remarks"] = serde_json::json!(["column `a` repeats a value in 31 % of rows"]);
    std::fs::write(&record, remarked.to_string()).unwrap();
    // a run that was begun before version, date and command were kept
    std::fs::remove_file(Path::new(&run).join("about.json")).unwrap();
    #[cfg(unix)]
    {
        // a link in the place of the page, to a file that is not the run's
        std::fs::write(at("precious"), "mine").unwrap();
        let page = Path::new(&run).join("report.html");
        std::fs::remove_file(&page).unwrap();
        std::os::unix::fs::symlink(at("precious"), &page).unwrap();
    }
    let short = ["report", &run, "--rows", "5", "-n", "10", "--no-ode", "--quiet"];
    succeed(&short);
    assert_eq!(std::fs::read_to_string(at("precious")).unwrap(), "mine");
    assert!(std::fs::symlink_metadata(Path::new(&run).join("report.html")).unwrap().is_file());
    assert!(
        html().contains("Beside every figure of this run")
            && html().contains("column `a` repeats a value")
    );
    assert!(!html().contains("--patience"));
    let about = json(&["info", &run]);
    assert_eq!(about["remarks"][0], "column `a` repeats a value in 31 % of rows");
    assert!(about["version"].is_null() && about["command"].is_null(), "{about}");
    assert!(succeed(&["info", &run]).contains("column `a` repeats a value"));

    // weights that cannot be used are named, and the rest is still reported
    std::fs::write(Path::new(&run).join("ema.safetensors"), "damaged").unwrap();
    let words = succeed(&["info", &run]);
    assert!(
        words.contains("cannot be used")
            && words.contains("ema.safetensors")
            && words.contains("40 iterations"),
        "{words}"
    );
    fail(&["info", &at("nothing")], 2, &["not a run directory"]);
    fail(&["report", &run, "--rows", "0"], 2, &["--rows"]);
}

/// Names with line breaks and terminal escapes stay on their line.
#[test]
fn info_prints_no_terminal_escapes() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let rows: String = (0..40).map(|i| format!("{},{}\n", i * 7 % 40, i)).collect();
    std::fs::write(at("data.csv"), format!("\"a\u{1b}[31mred\",b\n{rows}")).unwrap();
    train(&at("data.csv"), &at("run"), &["--iterations", "2"]);
    let words = succeed(&["info", &at("run")]);
    assert!(words.contains("red") && !words.contains('\u{1b}'), "{words:?}");
}

/// A training that was killed is not reported as one that ended.
#[test]
fn a_killed_training_is_not_finished() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    write_sorted(&dir.path().join("sorted.csv"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_tweedie"))
        .args([
            "train",
            "--data",
            &at("sorted.csv"),
            "--out",
            &at("run"),
            "--iterations",
            "1000000",
        ])
        .args(["--width", "8", "--depth", "1", "--base", "gaussian", "--quiet", "--threads", "1"])
        .spawn()
        .unwrap();
    let config = dir.path().join("run/config.toml");
    while !config.exists() {
        assert!(child.try_wait().unwrap().is_none(), "the training ended before it began");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let about = json(&["info", &at("run")]);
    assert_eq!(about["finished"], false, "{about}");
    let words = succeed(&["info", &at("run")]);
    assert!(words.contains("not finished") && words.contains("--resume"), "{words}");
}

/// Pages on images are in bits per dimension, and are those of evaluate.
#[test]
fn reports_on_images_are_in_bits() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let head = [0, 0, 8, 3, 0, 0, 0, 60, 0, 0, 0, 4, 0, 0, 0, 4];
    let levels: Vec<u8> = (0..60 * 16).map(|i: u32| (i * 37 % 251) as u8).collect();
    std::fs::write(at("t-images-idx3-ubyte"), [&head[..], &levels].concat()).unwrap();
    let (data, run) = (at("t-images-idx3-ubyte"), at("run"));
    let train = [
        "train",
        "--data",
        &data,
        "--out",
        &run,
        "--iterations",
        "3",
        "--batch-size",
        "4",
        "--rank",
        "1",
    ];
    succeed(&[&train[..], &["--threads", "1", "--quiet"]].concat());
    let page = json(&["report", &run, "--rows", "3", "-n", "4", "--steps", "2"]);
    let table = json(&["evaluate", &run, "--metrics", "nll", "--rows", "3", "--steps", "20"]);
    assert_eq!(page["unit"], "bits per dimension");
    for (name, value) in results(&page) {
        let same = named(&table, &name);
        assert!(
            (value - same).abs() <= 1e-9 * value.abs().max(1.0),
            "{name}: {value} against {same}"
        );
        assert!(value > 0.0, "{name}: {value} bits");
    }
    let text = std::fs::read_to_string(Path::new(&run).join("report.html")).unwrap();
    for words in
        ["bits per dimension", "Bits of the test rows", "lower is better", "images of 1 × 4 × 4"]
    {
        assert!(text.contains(words), "{words}");
    }
    assert!(!text.contains("nats per row, data units"), "{text}");
}

/// A page made with `--quick` says that its numbers mean nothing; `--json` is obeyed.
#[test]
fn quick_pages_bear_a_banner() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out").display().to_string();
    let command = ["experiment", "estimators", "--out", &out, "--rows", "2"];
    let answer = json(&[&command[..], &["--quick"]].concat());
    assert_eq!((&answer["experiment"], &answer["quick"]), (&"estimators".into(), &true.into()));
    let page = std::fs::read_to_string(answer["page"].as_str().unwrap()).unwrap();
    let mut lines = page.lines();
    assert!(lines.next().unwrap().starts_with("# "), "{page}");
    assert!(lines.nth(1).unwrap().contains("the numbers on this page mean nothing"), "{page}");
    assert!(answer["seconds"].as_f64().unwrap() > 0.0, "{answer}");
}

/// The table at the head of docs/experiments.md: every link leads to a section, and every
/// experiment has one.
#[test]
fn the_contents_of_the_experiments_lead_somewhere() {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/experiments.md"))
            .unwrap();
    let anchor = |heading: &str| -> String {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-');
        kept.collect::<String>().trim().to_lowercase().replace(' ', "-")
    };
    let headings = text.lines().filter(|line| line.starts_with("##"));
    let anchors: Vec<String> = headings.map(|line| anchor(line.trim_start_matches('#'))).collect();
    let links: Vec<&str> =
        text.split("](#").skip(1).map(|rest| rest.split(')').next().unwrap()).collect();
    assert!(links.len() > 15);
    for link in &links {
        assert!(anchors.iter().any(|anchor| anchor == link), "{link} of {anchors:?}");
    }
    let help = succeed(&["experiment", "--help"]);
    let commands = help.lines().skip_while(|line| !line.starts_with("Commands:")).skip(1);
    let names: Vec<&str> = commands
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(names.len() > 12, "{names:?}");
    for name in names {
        assert!(text.contains(&format!("`{name}`](#")), "no entry for {name}");
    }
}
