//! `tweedie encode` and `decode` as a user runs them, and `score` with the settings of the flow.

use std::path::Path;
use std::process::Command;

use tweedie::data::{Dataset, TableOptions, read_numbers};

/// Exit code, standard output, standard error.
fn tweedie(args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tweedie"))
        .args(args)
        .output()
        .expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn succeed(args: &[&str]) -> String {
    let (code, out, message) = tweedie(args);
    assert_eq!(code, Some(0), "{args:?}: {message}");
    out
}

fn fail(args: &[&str], code: i32, words: &[&str]) {
    let (found, _, message) = tweedie(args);
    assert_eq!(found, Some(code), "{args:?}: {message}");
    assert_eq!(message.lines().filter(|l| l.starts_with("error:")).count(), 1, "{message}");
    assert!(
        words.iter().all(|word| message.contains(word)),
        "{args:?}: not all of {words:?} in: {message}"
    );
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// 200 rows: a normal column of standard deviation 10, another that follows it, and counts from 0
/// to 4.
fn write_table(path: &Path) {
    let mut text = String::from("height,weight,children\n");
    let mut state = 7u64;
    let mut uniform = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as f64 / (1u64 << 31) as f64
    };
    for _ in 0..200 {
        let z: f64 = (0..12).map(|_| uniform()).sum::<f64>() - 6.0;
        let e: f64 = (0..12).map(|_| uniform()).sum::<f64>() - 6.0;
        let (height, weight) = (170.0 + 10.0 * z, 63.0 + 9.0 * z + 5.0 * e);
        text += &format!("{height:.3},{weight:.3},{}\n", (uniform() * 5.0) as u32);
    }
    std::fs::write(path, text).unwrap();
}

/// Data → latents → data through a trained network: back within 1e-3 of a column's deviation at
/// rtol 1e-5, counts exactly; latents are standard normal, and do not depend on batches or threads.
#[test]
fn rows_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (data, run) = (at("people.csv"), at("run"));
    write_table(Path::new(&data));
    let train =
        ["train", "--data", &data, "--out", &run, "--dequantize", "integers", "--base", "gaussian"];
    let small =
        ["--iterations", "150", "--width", "16", "--depth", "1", "--rank", "1", "--threads", "1"];
    succeed(&[&train[..], &small, &["--quiet"]].concat());

    let (latents, back) = (at("latents.npy"), at("back.csv"));
    let tight = ["--rtol", "1e-5", "--atol", "1e-5"];
    succeed(&[&["encode", &run, &data, "-o", &latents, "--quiet"], &tight[..]].concat());
    succeed(&[&["decode", &run, &latents, "-o", &back, "--quiet"], &tight[..]].concat());
    let read = |path: &str| Dataset::read_with(path, &TableOptions::default()).unwrap();
    let (before, after) = (read(&data), read(&back));
    assert_eq!((before.names(), before.rows()), (after.names(), after.rows()));
    let mut worst = 0f64;
    for row in 0..before.rows() {
        let (a, b) = (before.row(row), after.row(row));
        worst =
            worst.max(f64::from(a[0] - b[0]).abs() / 10.0).max(f64::from(a[1] - b[1]).abs() / 10.3);
        assert_eq!(a[2], b[2], "row {row}");
    }
    println!("round trip: {worst:.1e} of a standard deviation");
    assert!(worst < 1e-3, "{worst}");

    // 600 standard normals, but for the fit: the mean of squares has standard error 0.06
    let (_, z) = read_numbers(&latents).unwrap();
    let square = z.iter().map(|z| z * z).sum::<f64>() / z.len() as f64;
    assert!(
        z.len() == 600 && (0.7..1.3).contains(&square),
        "{} values, mean square {square}",
        z.len()
    );
    // other formats keep every digit; other batches and threads give the same latents
    for name in ["latents.csv", "latents.parquet"] {
        succeed(
            &[&["encode", &run, &data, "-o", &at(name), "--quiet", "--no-check"], &tight[..]]
                .concat(),
        );
        let (names, same) = read_numbers(at(name)).unwrap();
        assert_eq!(names, ["z_height", "z_weight", "z_children"]);
        assert!(same.iter().zip(&z).all(|(a, b)| (a - b).abs() < 1e-9), "{name}");
    }
    let other = at("other.npy");
    let cut = [
        "encode",
        &run,
        &data,
        "-o",
        &other,
        "--quiet",
        "--batch-size",
        "7",
        "--threads",
        "2",
        "--json",
    ];
    let reported = json(&succeed(&cut));
    assert!(
        reported["round_trip"]["worst"].as_f64().unwrap() < 1e-3
            && reported["round_trip"]["lost"] == 0,
        "{reported}"
    );
    let apart = |path: &str| {
        let (_, others) = read_numbers(path).unwrap();
        others.iter().zip(&z).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    };
    // products in f32 round otherwise in other batches, and steps are then refused elsewhere:
    // within the solver's error
    assert!(apart(&other) < 1e-3, "{}", apart(&other));
    // with a seed the counts get noise, which the way back rounds off
    succeed(&["encode", &run, &data, "-o", &other, "--quiet", "--seed", "1"]);
    assert!(apart(&other) > 0.05, "{}", apart(&other));
    succeed(&["decode", &run, &other, "-o", &back, "--quiet"]);
    let again = read(&back);
    let right = (0..200).filter(|&row| again.row(row)[2] == before.row(row)[2]).count();
    assert!(right >= 199, "{right} of 200 counts");

    // mistakes
    let kept = std::fs::read(&latents).unwrap();
    let few = ["encode", &run, &data, "-o", &latents, "--max-evaluations", "10", "--quiet"];
    fail(&few, 1, &["200 of 200 rows not solved", "row 1:", "max_evaluations"]);
    assert_eq!(std::fs::read(&latents).unwrap(), kept);
    fail(&["encode", &run, &data, "-o", &latents, "--rtol", "0"], 2, &["--rtol", "positive"]);
    fail(&["encode", &run, &data, "-o", &at("x.png")], 2, &[".npy"]);
    fail(&["decode", &run, &data, "-o", &back], 2, &["people.csv", "height", "z_height", "encode"]);
    fail(&["decode", &run, &latents, "-o", &back, "--class", "1"], 2, &["--class", "leave it out"]);
    fail(&["decode", &run, &at("none.npy"), "-o", &back], 2, &["none.npy"]);

    // the flow's settings in `score`: the value hardly moves, the cost does, offsets are reported
    let score = |extra: &[&str]| {
        json(&succeed(&[&["score", &run, &data, "--json", "--quiet"], extra].concat()))
    };
    let number = |value: &serde_json::Value, key: &str| {
        value[key].as_f64().unwrap_or_else(|| panic!("{key}"))
    };
    let usual = score(&["--estimator", "ode"]);
    let fine =
        score(&["--estimator", "ode", "--rtol", "1e-6", "--atol", "1e-6", "--divergence", "exact"]);
    assert!((number(&usual, "mean") - number(&fine, "mean")).abs() < 1e-3, "{usual} {fine}");
    assert!(number(&fine, "evaluations_per_row") > number(&usual, "evaluations_per_row"));
    let probes = score(&["--estimator", "ode", "--divergence", "rademacher", "--probes", "4"]);
    assert!(probes["estimator"].as_str().unwrap().contains("4 Rademacher probes"), "{probes}");
    assert!((number(&probes, "mean") - number(&usual, "mean")).abs() < 0.5, "{probes}");
    // three affine columns of deviations 10, 10.3 and about 1.45
    assert!((number(&usual, "offset") + (10.0f64 * 10.3 * 1.45).ln()).abs() < 0.3, "{usual}");
    let (dsm, sm) =
        (score(&["--estimator", "bound"]), score(&["--estimator", "bound-sm", "--draws", "200"]));
    assert_eq!((&sm["kind"], &sm["draws"]), (&"lower-bound".into(), &200.into()));
    assert_eq!(number(&sm, "offset"), number(&dsm, "offset"));
    let error = number(&dsm, "std_error").hypot(number(&sm, "std_error"));
    assert!((number(&dsm, "mean") - number(&sm, "mean")).abs() < 4.0 * error, "{dsm} {sm}");
    let few = ["score", &run, &data, "--estimator", "ode", "--max-evaluations", "10", "--quiet"];
    fail(&few, 1, &["row 1:", "max_evaluations"]);
    let kept = score(&["--estimator", "ode", "--max-evaluations", "10", "--keep-unsolved"]);
    assert_eq!((&kept["unsolved"], &kept["mean"]), (&200.into(), &serde_json::Value::Null));
    let refuse =
        |extra: &[&str], words: &[&str]| fail(&[&["score", &run, &data], extra].concat(), 2, words);
    refuse(&["--rtol", "1e-6"], &["--rtol", "--estimator ode"]);
    refuse(&["--estimator", "bound", "--probes", "4"], &["--probes", "bound-sm"]);
    refuse(&["--estimator", "ode", "--probes", "4"], &["--probes", "rademacher"]);
    refuse(&["--estimator", "ode", "--divergence", "gaussian", "--probes", "0"], &["--probes"]);
}

/// Images of a run with classes: latents carry theirs, and come back as the same levels.
#[test]
fn images_come_back_under_their_classes() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let mut pixels = vec![0u8, 0, 8, 3, 0, 0, 0, 40, 0, 0, 0, 4, 0, 0, 0, 4];
    pixels.extend((0..40 * 16).map(|i: u32| (i * i % 251) as u8));
    let labels: Vec<u8> =
        [0, 0, 8, 1, 0, 0, 0, 40].into_iter().chain((0..40).map(|i| i % 2)).collect();
    std::fs::write(at("t-images-idx3-ubyte"), pixels).unwrap();
    std::fs::write(at("t-labels-idx1-ubyte"), labels).unwrap();
    let config = "[model.network]\nkind = \"unet\"\nshape = [1, 4, 4]\nwidths = [8, 8]\n\
                  attention = [false, false]\n";
    std::fs::write(at("small.toml"), config).unwrap();
    let (data, run, latents) = (at("t-images-idx3-ubyte"), at("run"), at("latents.parquet"));
    let train =
        ["train", "--config", &at("small.toml"), "--data", &data, "--out", &run, "--classes"];
    let small =
        ["--iterations", "4", "--batch-size", "4", "--rank", "0", "--threads", "1", "--quiet"];
    succeed(&[&train[..], &small].concat());
    let rough = ["--rtol", "1e-4", "--atol", "1e-4", "--threads", "1", "--quiet"];
    succeed(&[&["encode", &run, &data, "-o", &latents], &rough[..]].concat());
    let (names, values) = read_numbers(&latents).unwrap();
    assert_eq!((names.len(), names[16].as_str()), (17, "class"));
    assert!(values.chunks(17).enumerate().all(|(i, row)| row[16] == (i % 2) as f64));
    succeed(&[&["decode", &run, &latents, "-o", &at("back.npy")], &rough[..]].concat());
    // behind a header a byte for each level
    let back = std::fs::read(at("back.npy")).unwrap();
    let levels = back[back.len() - 40 * 16..].iter().enumerate();
    assert!(levels.into_iter().all(|(i, &level)| usize::from(level) == i * i % 251));
    succeed(
        &[&["decode", &run, &latents, "-o", &at("sheet.png"), "--class", "1"], &rough[..]].concat(),
    );
    assert!(std::fs::metadata(at("sheet.png")).unwrap().len() > 100);
    // latents without classes, and of a class that there is not
    let few = |name: &str, columns: usize, class: f64| {
        let path = at(name);
        let z: Vec<String> =
            (0..16).map(|_| "0.5".to_string()).chain([class.to_string()]).collect();
        let names: Vec<&str> = names.iter().take(columns).map(String::as_str).collect();
        std::fs::write(&path, format!("{}\n{}\n", names.join(","), z[..columns].join(",")))
            .unwrap();
        path
    };
    fail(
        &["decode", &run, &few("bare.csv", 16, 0.0), "-o", &at("x.csv")],
        2,
        &["16", "17", "--class"],
    );
    fail(
        &["decode", &run, &few("third.csv", 17, 2.0), "-o", &at("x.csv")],
        2,
        &["row 1", "0 to 1"],
    );
    succeed(&[
        "decode",
        &run,
        &few("bare.csv", 16, 0.0),
        "-o",
        &at("x.csv"),
        "--class",
        "0",
        "--quiet",
    ]);
}
