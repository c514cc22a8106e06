//! The maps of columns, as `tweedie train` chooses and keeps them.

mod common;

use std::path::Path;

use common::{fail, succeed, tweedie};
use serde_json::Value;

/// Evenly spread in (0, 1), in an order that has nothing to do with their size.
fn spread(i: usize) -> f64 {
    ((i as f64 + 0.5) * 0.618_033_988_749_895).fract()
}

/// A second such sequence.
fn spread_also(i: usize) -> f64 {
    ((i as f64 + 0.5) * 0.754_877_666_246_693).fract()
}

fn normal(u: f64) -> f64 {
    // Winitzki's approximation of the inverse error function, good to 2e-3
    let x = 2.0 * u - 1.0;
    let l = (1.0 - x * x).ln();
    let a = 2.0 / (std::f64::consts::PI * 0.147) + l / 2.0;
    std::f64::consts::SQRT_2 * x.signum() * ((a * a - l / 0.147).sqrt() - a).sqrt()
}

/// Writes `rows` rows of a normal column, a log-normal one, one of two peaks and a normal one with
/// three fill values.
fn write_table(path: &Path, rows: usize) {
    let mut text = String::from("plain,skew,peaks,filled\n");
    for i in 0..rows {
        let (plain, other) = (normal(spread(i)), normal(spread_also(i)));
        let peaks = if spread(7 * i + 3) < 0.5 { other / 3.0 - 2.0 } else { other / 3.0 + 2.0 };
        let filled = if i % (rows / 3) == 5 { 1e7 } else { normal(spread_also(3 * i + 1)) };
        text += &format!(
            "{plain:.6},{:.6},{peaks:.6},{filled:.6}\n",
            (1.2 * other + 0.3 * plain).exp()
        );
    }
    std::fs::write(path, text).unwrap();
}

fn json(path: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The kind of each column's map.
fn maps(run: &str) -> Vec<String> {
    let data = json(&format!("{run}/data.json"));
    let columns = data["scaling"]["columns"].as_array().unwrap();
    columns.iter().map(|c| c["map"].as_object().unwrap().keys().next().unwrap().clone()).collect()
}

/// The rule is printed with what it chose for every column and why, and kept with the run; the
/// choice is that of `--marginals auto`, of no flag and of a configuration without the field.
#[test]
fn marginals_are_chosen_per_column_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    write_table(&dir.path().join("t.csv"), 1200);
    std::fs::write(at("short.toml"), "[train]\niterations = 2\n[base]\nkind = \"gaussian\"\n")
        .unwrap();
    let train = ["train", "--data", &at("t.csv"), "--threads", "1"];
    let few = ["--iterations", "2", "--base", "gaussian"];
    for (run, flags) in [
        ("default", &few[..]),
        ("auto", &[&few[..], &["--marginals", "auto"]].concat()[..]),
        ("config", &["--config", &at("short.toml")][..]),
    ] {
        let output = tweedie(&[&train[..], &["--out", &at(run)], flags].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        let line = |word: &str| {
            said.lines().find(|l| l.contains(word)).unwrap_or_else(|| panic!("{word}: {said}"))
        };
        assert!(line("--marginals auto").contains("0.2 nats"), "{said}");
        let (chosen, left) = (line("data: gaussianize"), line("data: standardize"));
        assert!(
            chosen.contains("skew (+")
                && chosen.contains("filled (+")
                && chosen.contains("long tail"),
            "{said}"
        );
        assert!(left.contains("plain (") && left.contains("peaks (+"), "{said}");
        assert!(left.contains("but neither long tail nor edge"), "{said}");
        assert_eq!(maps(&at(run)), ["affine", "gaussianize", "affine", "gaussianize"], "{run}");
        let kept = json(&format!("{}/data.json", at(run)));
        let kept = kept["marginals"].as_array().unwrap();
        assert_eq!(kept[1]["column"], "skew");
        assert_eq!(kept[1]["marginals"], "gaussianize");
        assert!(kept[1]["gain"].as_f64().unwrap() > 0.5, "{kept:?}");
        assert!(
            std::fs::read_to_string(format!("{}/config.toml", at(run)))
                .unwrap()
                .contains("marginals = \"auto\"")
        );
    }
    for (marginals, map) in [("standardize", "affine"), ("gaussianize", "gaussianize")] {
        let run = at(marginals);
        // without the fill values, which are refused where they are standardised
        let columns = ["--out", &run, "--marginals", marginals, "--columns", "plain,skew,peaks"];
        let output = tweedie(&[&train[..], &columns, &few[..]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(!String::from_utf8_lossy(&output.stderr).contains("--marginals"));
        assert_eq!(maps(&run), [map; 3]);
        assert!(json(&format!("{run}/data.json")).get("marginals").is_none());
    }
    fail(
        &[&train[..], &["--out", &at("none"), "--marginals", "normal"]].concat(),
        2,
        &["auto", "gaussianize"],
    );
}

/// A run whose configuration says `standardize` is resumed with the maps that it has, whatever the
/// default is; a run trained on the score of another takes its marginals from it.
#[test]
fn a_run_keeps_its_marginals() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    write_table(&dir.path().join("t.csv"), 600);
    let (table, run, head) = (at("t.csv"), at("run"), at("head"));
    let few = ["--base", "gaussian", "--threads", "1", "--quiet", "--iterations"];
    let columns = ["--columns", "plain,skew,peaks"];
    let train = ["train", "--data", &table, "--out", &run, "--marginals", "standardize"];
    succeed(&[&train[..], &columns, &few[..], &["2"]].concat());
    let before = std::fs::read(format!("{run}/data.json")).unwrap();
    succeed(&[
        "train",
        "--out",
        &run,
        "--resume",
        "--iterations",
        "4",
        "--threads",
        "1",
        "--quiet",
    ]);
    assert_eq!(std::fs::read(format!("{run}/data.json")).unwrap(), before);
    let on = ["train", "--data", &table, "--out", &head, "--score-from", &run, "--mode", "head"];
    succeed(&[&on[..], &columns, &["--threads", "1", "--quiet", "--iterations", "2"]].concat());
    assert_eq!(maps(&head), ["affine"; 3]);
}

/// Samples of a positive, skew column are positive under the default, and three fill values do not
/// spoil the scores of the other rows.
#[test]
fn the_default_keeps_signs_and_bears_fill_values() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    write_table(&dir.path().join("t.csv"), 1200);
    let (table, run) = (at("t.csv"), at("run"));
    let few = ["--base", "gaussian", "--threads", "1", "--quiet", "--iterations", "60"];
    succeed(
        &[&["train", "--data", &table, "--out", &run, "--columns", "skew,filled"], &few[..]]
            .concat(),
    );
    succeed(&[
        "sample",
        &run,
        "-n",
        "400",
        "--steps",
        "20",
        "-o",
        &at("s.csv"),
        "--threads",
        "1",
        "--quiet",
    ]);
    let samples = std::fs::read_to_string(at("s.csv")).unwrap();
    let skew =
        samples.lines().skip(1).map(|l| l.split(',').next().unwrap().parse::<f64>().unwrap());
    let negative = skew.filter(|&v| v < 0.0).count();
    // linear below the least training value, of rank 1/2 of 960: 0.05 % of the samples
    assert!(negative <= 2, "{negative} of 400 samples are negative");
    std::fs::write(at("clean.csv"), "skew,filled\n1.0,0.0\n0.5,-1.0\n2.0,0.5\n").unwrap();
    let scores = [
        "score",
        &run,
        &at("clean.csv"),
        "--steps",
        "20",
        "-o",
        &at("o.csv"),
        "--threads",
        "1",
        "--quiet",
    ];
    succeed(&scores);
    let scores = std::fs::read_to_string(at("o.csv")).unwrap();
    let at_column =
        scores.lines().next().unwrap().split(',').position(|n| n == "log_likelihood").unwrap();
    for line in scores.lines().skip(1) {
        let value: f64 = line.split(',').nth(at_column).unwrap().parse().unwrap();
        // ln N(0, 1) is at most −0.92, the log-normal's density here at most −0.5; standardised,
        // the fill values' deviation of 5e5 takes 13 nats from every row
        assert!(value > -6.0, "{scores}");
    }
}
