//! Rows that are not like those of a training, from a shell.

mod common;

use std::fs::{File, read_to_string, write};
use std::io::Write;
use std::path::Path;

use common::{fail, stdout, succeed, tweedie};
use serde_json::Value;

/// A table of two columns that depend on each other, with rows far from the others at its end.
fn table(rows: u32, seed: u32, far: u32) -> String {
    let mut text = String::from("a,b\n");
    let noise = |i: u32| f64::from(i.wrapping_mul(2_654_435_761).rotate_left(13) % 100_003) / 1e5;
    for i in 0..rows + far {
        let (u, v, w) = (noise(3 * i + seed), noise(3 * i + 1 + seed), noise(3 * i + 2 + seed));
        let a = u + v - 1.0;
        let shift = if i < rows { 0.0 } else { 4.0 };
        text += &format!("{a:.5},{:.5}\n", a + 0.3 * w + shift);
    }
    text
}

fn column(path: &str, name: &str) -> Vec<String> {
    let text = read_to_string(path).unwrap();
    let place = text.lines().next().unwrap().split(',').position(|column| column == name);
    let place = place.unwrap_or_else(|| panic!("no {name} in {text}"));
    text.lines().skip(1).map(|line| line.split(',').nth(place).unwrap().to_owned()).collect()
}

fn numbers(path: &str, name: &str) -> Vec<f64> {
    column(path, name).iter().map(|cell| cell.parse().unwrap()).collect()
}

/// p-values are those of the scores of the calibration rows, counted one by one; the run's own
/// validation rows serve as long as its data are there, and a file otherwise.
#[test]
fn p_values_count_calibration_rows() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (data, run, new, held, out) =
        (at("t.csv"), at("run"), at("new.csv"), at("held.csv"), at("s.csv"));
    write(&data, table(300, 0, 0)).unwrap();
    write(&new, table(60, 5_000, 6)).unwrap();
    write(&held, table(80, 90_000, 0)).unwrap();
    succeed(&[
        "train",
        "--data",
        &data,
        "--out",
        &run,
        "--iterations",
        "2",
        "--width",
        "8",
        "--base",
        "gaussian",
        "--types",
        "numbers",
        "--quiet",
    ]);
    // nothing is drawn: the same row has the same score
    let score = ["score", &run, "--estimator", "ode", "--threads", "1", "--quiet", "-o"];
    let of = |data: &str, more: &[&str]| {
        succeed(&[&score[..], &[&out, data], more].concat());
        numbers(&out, "log_likelihood")
    };
    let calibration = of(&held, &[]);
    let text = succeed(
        &[
            &score[..],
            &[&out, &new, "--threshold", "0.05", "--calibration", &held, "--anomalies", "1"],
        ]
        .concat(),
    );
    let (scores, p_values) = (numbers(&out, "log_likelihood"), numbers(&out, "p_value"));
    for (score, p) in scores.iter().zip(&p_values) {
        let below = calibration.iter().filter(|own| *own <= score).count();
        assert_eq!(*p, (1 + below) as f64 / 81.0);
    }
    let called = column(&out, "anomaly");
    for (called, p) in called.iter().zip(&p_values) {
        assert_eq!(called, &(*p <= 0.05).to_string());
    }
    assert!(called[60..].iter().all(|called| called == "true"), "{called:?}");
    let some = called.iter().filter(|called| *called == "true").count();
    let said = format!("80 calibration rows; {some} of 66 rows are anomalies at an error rate");
    assert!(text.contains(&said) && text.contains("\tp_value\n"), "{text}");
    let json = ["score", &run, &new, "--steps", "5", "--threshold", "0.2", "--json", "--quiet"];
    let found: Value = serde_json::from_str(&succeed(&json)).unwrap();
    assert_eq!(found["calibration"]["rows"], 30);
    assert!(found["calibration"]["anomalies"].as_u64().unwrap() >= 6, "{found}");
    // a few evaluations of the network
    let quick = ["score", &run, &new, "--estimator", "one-step", "--draws", "1"];
    let levels = ["--noise-levels", "0.2,0.5", "--threshold", "0.1", "--json", "--quiet"];
    let found: Value = serde_json::from_str(&succeed(&[&quick[..], &levels].concat())).unwrap();
    assert_eq!(
        (&found["evaluations_per_row"], &found["kind"]),
        (&2.0.into(), &"lower-bound".into())
    );
    assert!(found["calibration"]["anomalies"].as_u64().unwrap() >= 6, "{found}");
    fail(
        &[&quick[..], &["--noise-levels", "0"]].concat(),
        2,
        &["--noise-levels: 0", "levels from"],
    );
    let foreign = ["score", &run, &new, "--noise-levels", "0.1"];
    fail(&foreign, 2, &["--noise-levels", "--estimator one-step"]);
    // fewer rows than the error rate needs
    let few = ["--threshold", "0.01", "--calibration-rows", "20", "--steps", "2"];
    let output = tweedie(&[&["score", &run, &new], &few[..]].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("20 calibration rows have no p-value below 4.76e-2"), "{said}");
    assert!(stdout(&output).contains("; 0 of 66 rows"), "{}", stdout(&output));

    fail(&["score", &run, &new, "--threshold", "1.5"], 2, &["--threshold: 1.5", "error rate"]);
    fail(&["score", &run, &new, "--calibration", &held], 2, &["--calibration", "--p-values"]);
    // b does not go with a: the base says so, and nothing else is known of a table of numbers
    let parts = ["--parts", "--anomalies", "1", "--quiet", "-o", &out, "--steps", "2"];
    let text = succeed(&[&["score", &run, &new], &parts[..]].concat());
    let listed = text.lines().last().unwrap();
    let columns = listed.rsplit('\t').next().unwrap();
    assert!(columns.contains("b (-") && columns.contains("a (-"), "{text}");
    let shares = numbers(&out, "b_given_rest");
    let usual = shares[..60].iter().copied().fold(f64::INFINITY, f64::min);
    assert!(shares[60..].iter().all(|&share| share < usual), "{shares:?}");
    fail(
        &["score", &run, &new, "--parts", "--parts-of", "model"],
        2,
        &["--parts-of", "of numbers alone", "base"],
    );
    std::fs::remove_file(&data).unwrap();
    fail(&["score", &run, &new, "--p-values"], 2, &["t.csv", "--calibration"]);
}

/// An NPZ of these arrays: name, type as NPY has it, shape and bytes.
fn write_npz(path: &Path, arrays: &[(&str, &str, &str, Vec<u8>)]) {
    let mut archive = zip::ZipWriter::new(File::create(path).unwrap());
    for (name, descr, shape, bytes) in arrays {
        archive
            .start_file(format!("{name}.npy"), zip::write::SimpleFileOptions::default())
            .unwrap();
        let head = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
        let head = format!("{head:<117}\n");
        archive.write_all(b"\x93NUMPY\x01\x00").unwrap();
        archive.write_all(&(head.len() as u16).to_le_bytes()).unwrap();
        archive.write_all(head.as_bytes()).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap();
}

/// ADBench's protocol over a folder: each detector has an area, and what is no set is refused.
#[test]
fn a_folder_of_labelled_sets() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let text = table(90, 7, 8);
    let cells = text.lines().skip(1).flat_map(|line| line.split(','));
    let x: Vec<u8> = cells.flat_map(|cell| cell.parse::<f64>().unwrap().to_le_bytes()).collect();
    let y: Vec<u8> = (0..98i64).flat_map(|i| i64::from(i >= 90).to_le_bytes()).collect();
    let arrays = [("X", "<f8", "(98, 2)", x.clone()), ("y", "<i8", "(98,)", y.clone())];
    std::fs::create_dir(at("sets")).unwrap();
    write_npz(&at("sets/1_far.npz"), &arrays);
    let (sets, out) = (at("sets").display().to_string(), at("out").display().to_string());
    let run = ["experiment", "anomaly", "--data", &sets, "--out", &out, "--quick"];
    succeed(&[&run[..], &["--seeds", "1", "--threads", "1", "--quiet"]].concat());
    let csv = read_to_string(at("out/anomaly.csv")).unwrap();
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 6, "{csv}");
    assert!(lines[1].starts_with("1_far,2,45,45,8,\"kNN, mean\",1"), "{csv}");
    let page = read_to_string(at("out/anomaly.md")).unwrap();
    assert!(page.contains("## Average precision") && page.contains("1_far"), "{page}");
    let none = ["--set-name", "near"];
    fail(&[&run[..], &none].concat(), 2, &["--data", "holds no such set"]);
    write_npz(&at("sets/2_odd.npz"), &[("X", "<f8", "(98, 2)", x), ("y", "<i8", "(49, 2)", y)]);
    fail(&run, 2, &["2_odd.npz", "'y'", "[49, 2]"]);
}
