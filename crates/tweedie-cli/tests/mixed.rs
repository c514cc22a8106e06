//! Tables as they come, from a shell: trained, scored, sampled given cells, filled and judged.

mod common;

use std::fs::{read_to_string, write};

use common::{fail, succeed, tweedie};

#[test]
fn a_table_with_categories_and_holes() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let mut text = String::from("height,kind,seen,count\n");
    for i in 0..240u32 {
        let (kind, shift) = [("oak", 9.0), ("elm", 4.0)][(i * 7 % 5 / 3) as usize];
        let height = shift + f64::from(i * i * 31 % 97) / 20.0;
        let kind = if i % 17 == 4 { "" } else { kind };
        let height = if i % 19 == 7 { "NA".into() } else { format!("{height:.2}") };
        text += &format!("{height},{kind},2024-05-{:02},{}\n", 1 + i * 13 % 28, i * 11 % 23);
    }
    let (data, run) = (at("trees.csv"), at("run"));
    write(&data, &text).unwrap();
    let train = ["train", "--data", &data, "--out", &run, "--iterations", "2", "--width", "8"];
    fail(&[&train[..], &["--types", "numbers"]].concat(), 2, &["trees.csv", "`kind` holds text"]);
    fail(&[&train[..], &["--types", "kind=colour"]].concat(), 2, &["--types", "colour"]);
    fail(&[&train[..], &["--types", "bark=number"]].concat(), 2, &["bark"]);
    // metadata of SDV
    let (metadata, other) = (at("metadata.json"), at("other"));
    let columns = r#""seen": {"sdtype": "id"}, "count": {"sdtype": "categorical"}"#;
    write(&metadata, format!("{{\"columns\": {{{columns}}}}}")).unwrap();
    let trained = tweedie(&[
        "train",
        "--data",
        &data,
        "--out",
        &other,
        "--types",
        &metadata,
        "--iterations",
        "1",
        "--width",
        "8",
    ]);
    let said = String::from_utf8_lossy(&trained.stderr).into_owned();
    for part in ["seen    left out", "says so", "count   category"] {
        assert!(trained.status.success() && said.contains(part), "{part:?} is not in {said}");
    }
    fail(&[&train[..], &["--bounds", "kind>=oak"]].concat(), 2, &["--bounds", "kind", "category"]);
    fail(&[&train[..], &["--bounds", "height>4"]].concat(), 2, &["--bounds", "height>4"]);
    fail(
        &[&train[..], &["--bounds", "count<=9"]].concat(),
        2,
        &["trees.csv", "count", "at most 9"],
    );
    fail(&[&train[..], &["--order", "kind<=height"]].concat(), 2, &["--order", "kind", "category"]);
    fail(&[&train[..], &["--order", "count<height"]].concat(), 2, &["--order", "count<height"]);
    fail(
        &[&train[..], &["--order", "count<=height"]].concat(),
        2,
        &["trees.csv", "height", "that of `count`"],
    );
    let missing = at("none.json");
    fail(&[&train[..], &["--types", &missing]].concat(), 2, &["none.json"]);
    let trained = tweedie(&train);
    let said = String::from_utf8_lossy(&trained.stderr).into_owned();
    assert!(trained.status.success() && said.contains("kind    category"), "{said}");

    let scores = at("scores.csv");
    succeed(&["score", &run, &data, "--steps", "5", "--draws", "1", "-o", &scores]);
    let lines = read_to_string(&scores).unwrap();
    assert!(lines.starts_with("height,kind,seen,count,log_likelihood"), "{lines}");
    assert_eq!(lines.lines().count(), 241);
    succeed(&["score", &run, &data, "--steps", "5", "--draws", "1", "--given", "kind,seen"]);
    let score = ["score", &run, &data, "--steps", "3", "--draws", "1", "-o", &scores, "--parts"];
    let said = succeed(&[&score[..], &["--anomalies", "2", "--given", "seen"]].concat());
    assert!(said.contains("least likely columns") && said.contains("height ("), "{said}");
    let said = succeed(&["score", &run, &data, "--estimator", "one-step", "--given", "kind"]);
    assert!(said.contains("one step from noise 0.1, 0.3, 1") && said.contains("bound"), "{said}");
    let header = read_to_string(&scores).unwrap();
    let added = "log_likelihood,std_error,log_likelihood_categories,log_likelihood_numbers,\
                 height_given_rest,kind_given_rest,count_given_rest\n";
    assert!(header.contains(added), "{header}");
    let rows = at("rows.csv");
    write(&rows, "height,kind,seen,count\n5.25,elm,2024-05-03,7\n5.25,ash,2024-05-03,7\n").unwrap();
    let score = ["score", &run, &rows, "--steps", "3", "--draws", "1", "-o", &scores];
    fail(&score, 2, &["line 3", "ash", "elm", "--unseen impossible"]);
    let scored = tweedie(&[&score[..], &["--unseen", "impossible", "--p-values"]].concat());
    let [figure, said] = [&scored.stdout, &scored.stderr].map(|o| String::from_utf8_lossy(o));
    assert!(scored.status.success() && said.contains("1 of 2 rows have values"), "{said}");
    assert!(figure.contains("1 rows: ") && figure.contains("1 more rows at −∞"), "{figure}");
    let lines = read_to_string(&scores).unwrap();
    let last = lines.lines().nth(2).unwrap();
    // of 24 validation rows
    assert!(
        last.starts_with("5.25,ash,2024-05-03,7,-inf,0.0,") && last.ends_with(",0.04"),
        "{last}"
    );
    fail(&["score", &run, &data, "--given", "bark"], 2, &["--given", "bark", "height, kind"]);

    let samples = at("samples.csv");
    let sample = ["sample", &run, "-n", "20", "--steps", "5", "-o", &samples];
    succeed(&[&sample[..], &["--given", "kind=elm", "--given", "seen=2024-05-03"]].concat());
    let drawn = read_to_string(&samples).unwrap();
    assert!(drawn.lines().skip(1).all(|line| line.contains(",elm,2024-05-03,")), "{drawn}");
    let ash = [&sample[..], &["--given", "kind=ash"]].concat();
    fail(&ash, 2, &["--given: row 1, column `kind`", "ash", "elm"]);
    fail(&[&sample[..], &["--given", "bark=1"]].concat(), 2, &["--given", "bark"]);
    fail(&[&sample[..], &["--given", "kind"]].concat(), 2, &["COLUMN=CELL"]);
    assert_eq!(read_to_string(&samples).unwrap(), drawn);

    let filled = at("filled.csv");
    let said = succeed(&["impute", &run, &data, "--steps", "5", "-o", &filled]);
    assert!(said.contains("missing cells of 240 rows"), "{said}");
    let after = read_to_string(&filled).unwrap();
    for (before, after) in text.lines().zip(after.lines()) {
        let cells = before.split(',').zip(after.split(','));
        assert!(cells.clone().all(|(_, b)| !b.is_empty() && b != "NA"), "{after}");
        assert!(cells.clone().all(|(a, b)| a == b || a.is_empty() || a == "NA"), "{before}");
    }

    let judge = ["evaluate", &run, "--steps", "5"];
    let said = succeed(&[&judge[..], &["--metrics", "nll,quality", "--target", "kind"]].concat());
    assert!(said.contains("the model's base") && said.contains("C2ST"), "{said}");
    fail(&[&judge[..], &["--metrics", "mmd"]].concat(), 2, &["--metrics", "nll or quality"]);
    fail(&[&judge[..], &["--target", "kind"]].concat(), 2, &["--target"]);
    let encode = ["encode", &run, &data, "-o", &at("z.npy")];
    fail(&encode, 2, &["mixed table", "train with data.types = numbers"]);
    fail(&["dequantize", &run], 2, &["mixed table"]);
    fail(&["report", &run, "--shape", "2x2"], 2, &["--shape", "missing cells"]);
    let report = ["report", &run, "--data", &data, "--rows", "200", "--no-ode"];
    succeed(&[&report[..], &["--steps", "5", "-n", "60"]].concat());
    let page = std::fs::read_to_string(dir.path().join("run/report.html")).unwrap();
    for part in [
        "category by category",
        "one column given another",
        "height by kind",
        "total variation distance",
        "(missing)",
        "missing cells",
        "counting measure on categories",
    ] {
        assert!(page.contains(part), "no {part:?} on the page");
    }
    fail(&["sample", &run, "-n", "4", "-o", &at("sheet.png")], 2, &["--out", "pictures"]);
}

/// A model of some columns given others, from a shell: trained, judged, sampled by a file of rows.
#[test]
fn columns_given_others() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let mut text = String::from("height,kind,age\n");
    for i in 0..240u32 {
        let (kind, shift) = [("oak", 9.0), ("elm", 4.0)][(i * 7 % 5 / 3) as usize];
        let height = shift + f64::from(i * i * 31 % 97) / 20.0;
        text += &format!("{height:.2},{kind},{}\n", i * 11 % 83);
    }
    let (data, run, rows) = (at("trees.csv"), at("run"), at("rows.csv"));
    write(&data, &text).unwrap();
    let train = ["train", "--data", &data, "--out", &run, "--iterations", "2", "--width", "8"];
    fail(&[&train[..], &["--context", "bark"]].concat(), 2, &["--context", "bark", "kind"]);
    let numbers = ["--context", "age", "--types", "numbers", "--drop", "kind"];
    fail(&[&train[..], &numbers].concat(), 2, &["--context", "numbers alone"]);
    succeed(&[&train[..], &["--context", "kind,age"]].concat());
    let said = succeed(&["info", &run]);
    assert!(said.contains("given: kind, age"), "{said}");

    let evaluate = ["evaluate", &run, "--steps", "5", "--no-ode", "--draws", "20"];
    let said = succeed(&[&evaluate[..], &["--metrics", "nll,crps"]].concat());
    for part in ["the model's base", "20 draws a row; CRPS", "height  "] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    let json = succeed(&[&evaluate[..], &["--metrics", "crps", "--json"]].concat());
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["forecasts"][0]["column"], "height");
    assert_eq!(json["forecasts"].as_array().unwrap().len(), 1);
    fail(&[&evaluate[..], &["--given", "bark"]].concat(), 2, &["--given", "bark"]);
    fail(&[&evaluate[..], &["--given", "height"]].concat(), 2, &["--given", "all columns"]);

    let samples = at("samples.csv");
    let sample = ["sample", &run, "--steps", "5", "-o", &samples];
    fail(&sample, 2, &["--given", "kind, age"]);
    write(&rows, "who,age,kind\nann,7,oak\nbob,30,elm\n").unwrap();
    succeed(&[&sample[..], &["--given-file", &rows, "--draws", "2"]].concat());
    let drawn = read_to_string(&samples).unwrap();
    let lines: Vec<&str> = drawn.lines().collect();
    assert_eq!((lines[0], lines.len()), ("draw,height,kind,age", 5), "{drawn}");
    let ends = |line: &str, start: &str, end: &str| line.starts_with(start) && line.ends_with(end);
    assert!(ends(lines[2], "2,", ",oak,7") && ends(lines[3], "1,", ",elm,30"), "{drawn}");
    fail(&[&sample[..], &["--given-file", &rows, "-n", "3"]].concat(), 2, &["cannot be used"]);
    let over = ["sample", &run, "--steps", "5", "--given-file", &rows, "-o", &rows];
    fail(&over, 2, &["--out"]);
    write(&rows, "age,kind\n7,ash\n").unwrap();
    fail(&[&sample[..], &["--given-file", &rows]].concat(), 2, &["rows.csv", "ash", "elm"]);
    assert_eq!(read_to_string(&samples).unwrap(), drawn);

    write(&rows, "height,age,kind\n,7,oak\n8.25,30,elm\n").unwrap();
    let filled = at("filled.csv");
    let impute = ["impute", &run, &rows, "--steps", "5", "-o", &filled];
    succeed(&[&impute[..], &["--fill", "median", "-m", "20", "--interval", "0.9"]].concat());
    let lines = read_to_string(&filled).unwrap();
    assert!(lines.starts_with("height,kind,age,height_low,height_high\n"), "{lines}");
    assert!(lines.ends_with("8.25,elm,30,,\n"), "{lines}");
    fail(&[&impute[..], &["--interval", "0.9"]].concat(), 2, &["--interval", "--fill median"]);
    fail(&[&impute[..], &["--fill", "mean", "-m", "1"]].concat(), 2, &["--draws", "at least 2"]);

    succeed(&["report", &run, "--steps", "5", "-n", "30"]);
    let page = read_to_string(dir.path().join("run/report.html")).unwrap();
    assert!(page.contains("The model is one of the other columns given kind, age"));
    // what is given is no part of what makes a row unlikely
    let listed = page.split("The least likely test rows").nth(1).unwrap();
    let listed = listed.split("</table>").next().unwrap();
    assert_eq!(listed.matches("height = ").count(), 10, "{listed}");
    assert!(!listed.contains("age = "), "{listed}");
}

/// Missing cells as categories, from a shell: samples have holes, what is filled in has none.
#[test]
fn samples_with_holes() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let mut text = String::from("height,kind\n");
    for i in 0..240u32 {
        let kind = ["oak", "elm", "", ""][(i * 7 % 13 % 4) as usize];
        text += &format!("{:.2},{kind}\n", 4.0 + f64::from(i * i * 31 % 97) / 20.0);
    }
    let (data, run, samples) = (at("trees.csv"), at("run"), at("samples.csv"));
    write(&data, &text).unwrap();
    let train = ["train", "--data", &data, "--out", &run, "--iterations", "2", "--width", "8"];
    let numbers = ["--types", "numbers", "--drop", "kind", "--missing-indicator"];
    fail(&[&train[..], &numbers].concat(), 2, &["--missing-indicator", "numbers alone"]);
    let trained = tweedie(&[&train[..], &["--missing-indicator"]].concat());
    let said = String::from_utf8_lossy(&trained.stderr).into_owned();
    assert!(trained.status.success() && said.contains("missing, a category"), "{said}");
    succeed(&["sample", &run, "-n", "40", "--steps", "3", "-o", &samples]);
    let drawn = read_to_string(&samples).unwrap();
    assert!(drawn.lines().any(|line| line.ends_with(',')), "{drawn}");
    succeed(&["impute", &run, &data, "--steps", "3", "-o", &samples]);
    let filled = read_to_string(&samples).unwrap();
    assert!(filled.lines().all(|line| !line.ends_with(',')), "{filled}");
    succeed(&["report", &run, "--steps", "3", "-n", "30", "--rows", "20", "--no-ode"]);
}
