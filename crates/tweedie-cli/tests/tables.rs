//! Tables as users have them: what is wrong with one is reported, with a remedy that works, and
//! nothing is guessed unsaid. The cases under `data/cases` are the smallest inputs that once gave a
//! wrong number without a word.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{fail, stdout, succeed, tweedie};
use tweedie::baseline;
use tweedie::data::{
    AddedColumn, CellType, ColumnKind, Dataset, Dequantize, Missing, OutputFile, Purpose,
    TableOptions, append_columns, write_table,
};
use tweedie::noise::{Noise, Seed};

fn case(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/cases").join(path)
}

fn text_of(path: &Path) -> String {
    path.display().to_string()
}

fn own(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| name.to_string()).collect()
}

fn read(path: &Path) -> Dataset {
    Dataset::read_with(path, &TableOptions::default()).unwrap()
}

fn refused(path: &Path, options: &TableOptions) -> String {
    let message =
        Dataset::read_numbers_to_train(path, options, &Dequantize::None).unwrap_err().to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }
}

/// Arguments of a training that takes a second.
fn training<'a>(data: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let small = ["--iterations", "10", "--width", "8", "--depth", "1", "--threads", "1"];
    [&["train", "--data", data, "--out", out][..], &small, more].concat()
}

/// Trains and returns what it says on standard error.
fn trained(data: &str, out: &str, more: &[&str]) -> String {
    let output = tweedie(&training(data, out, more));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

/// Uniform numbers in [−½, ½) that hardly repeat.
fn uniform(i: usize, stream: f64) -> f64 {
    (i as f64 * (0.618_033_988_749_895 + stream)).fract() - 0.5
}

/// A table of 200 rows with what `cell` says in each of its columns.
fn table(dir: &Path, name: &str, header: &str, cell: impl Fn(usize, usize) -> String) -> PathBuf {
    let columns = header.split(',').count();
    let row = |i| (0..columns).map(|k| cell(i, k)).collect::<Vec<_>>().join(",");
    let text: String = (0..200).map(|i| row(i) + "\n").collect();
    let path = dir.join(name);
    std::fs::write(&path, format!("{header}\n{text}")).unwrap();
    path
}

/// Columns of 0 and 1, with many zeros or with many values at a bound have no density: training
/// says which, what is repeated and what helps, and the run keeps it.
#[test]
fn columns_without_a_density_are_remarked_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| text_of(&dir.path().join(name));
    let (binary, run) = (text_of(&case("F04-atoms/binary.csv")), at("run"));
    let said = trained(&binary, &run, &["--types", "numbers", "--base", "gaussian", "--rank", "1"]);
    assert_says(
        &said,
        &["column `k` has only 2 different values", "no density", "--dequantize k", "--drop k"],
    );
    let kept = std::fs::read_to_string(at("run/data.json")).unwrap();
    assert_says(&kept, &["remarks", "column `k` has only 2 different values"]);
    let remarks = tweedie::run::Run::load(&run, tch::Device::Cpu).unwrap().remarks();
    assert!(remarks.iter().any(|remark| remark.contains("column `k`")), "{remarks:?}");

    let said = trained(
        &binary,
        &at("noised"),
        &["--dequantize", "k", "--types", "numbers", "--base", "gaussian", "--rank", "1"],
    );
    assert!(!said.contains("no density"), "{said}");

    let zeros = read(&case("F04-atoms/zeroinflated.csv")).remarks(&Dequantize::None).join("\n");
    assert_says(
        &zeros,
        &["column `x` repeats the value 0 in ", "% of the rows", "data.table.drop = x"],
    );
    let clipped = table(dir.path(), "clipped.csv", "a,b", |i, k| {
        format!("{:.6}", uniform(i, k as f64).min(if k == 0 { 0.4 } else { 9.0 }))
    });
    let remarks = read(&clipped).remarks(&Dequantize::None);
    assert_eq!(remarks.len(), 1, "{remarks:?}");
    assert_says(&remarks[0], &["column `a` repeats the value 0.4 in "]);
}

/// Three cells of 10⁷ among 1000 rows of N(0, 1): refused with the column, the rows and the
/// remedies, each of which works, and not a run whose clean rows score −5.8 to −26.8 for −2.85.
#[test]
fn fill_values_are_refused_by_row_and_both_remedies_work() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| text_of(&dir.path().join(name));
    let data = text_of(&case("F01-fill-value-crash/s7.csv"));
    fail(
        &training(&data, &at("run"), &["--types", "numbers", "--marginals", "standardize"]),
        2,
        &[
            "column `sst`",
            "3 cells",
            "1e7",
            "rows 4, 501, 701",
            "--marginals gaussianize",
            "--missing drop-rows",
        ],
    );
    assert!(!Path::new(&at("run")).exists());
    let clean = text_of(&case("F01-fill-value-crash/clean.csv"));
    let emptied = std::fs::read_to_string(&data).unwrap().replace("1e+07", "");
    std::fs::write(at("emptied.csv"), emptied).unwrap();
    for (file, flags) in [
        (data.clone(), ["--marginals", "gaussianize"]),
        (at("emptied.csv"), ["--missing", "drop-rows"]),
    ] {
        let run = at(flags[1]);
        trained(
            &file,
            &run,
            &[&flags[..], &["--types", "numbers", "--base", "gaussian", "--rank", "1"]].concat(),
        );
        let scored = succeed(&["score", &run, &clean, "--steps", "20", "--json", "--quiet"]);
        let json: serde_json::Value = serde_json::from_str(&scored).unwrap();
        let mean = json["mean"].as_f64().unwrap_or_else(|| panic!("{scored}"));
        assert!((-3.2..-2.7).contains(&mean), "{flags:?}: {mean}");
    }
    // a mark for missing cells that squeezes nothing is remarked
    let marked = table(dir.path(), "marked.csv", "a,b", |i, k| match (i % 20, k) {
        (0, 1) => "-99".into(),
        _ => format!("{:.6}", uniform(i, k as f64)),
    });
    let said = trained(
        &text_of(&marked),
        &at("marked"),
        &["--types", "numbers", "--base", "gaussian", "--rank", "1"],
    );
    assert_says(&said, &["column `b`", "10 cells", "-9.9e1", "rows 1, 21, 41, …", "fill values?"]);
}

/// A column that is not there is missed by its name, though its name is the position of another.
#[test]
fn a_missing_column_is_never_another_by_position() {
    let dir = tempfile::tempdir().unwrap();
    let run = text_of(&dir.path().join("run"));
    let (data, new) = ("F03-column-by-position/train.csv", "F03-column-by-position/new.csv");
    trained(&text_of(&case(data)), &run, &["--base", "gaussian", "--rank", "1"]);
    let new = text_of(&case(new));
    for command in [vec!["score", &run, &new], vec!["evaluate", &run, "--data", &new]] {
        fail(&command, 2, &["new.csv", "lacks the column `2`", "1, 4, 3"]);
    }
    // typed positions hold where names are not numbers, and names win
    let path =
        table(dir.path(), "t.csv", "0,1,2", |i, k| format!("{:.4}", uniform(i, k as f64 / 7.0)));
    let options = |drop: &str| TableOptions { drop: vec![drop.into()], ..TableOptions::default() };
    assert_eq!(Dataset::read_with(&path, &options("1")).unwrap().names(), ["0", "2"]);
    assert_says(
        &Dataset::read_with(&path, &options("3")).unwrap_err().to_string(),
        &["`3`", "positions are not taken"],
    );
    // a validation file has its columns by name too
    let path = text_of(&path);
    let other =
        table(dir.path(), "v.csv", "0,1,3", |i, k| format!("{:.4}", uniform(i, k as f64 / 7.0)));
    let (other, out) = (text_of(&other), text_of(&dir.path().join("v")));
    fail(&training(&path, &out, &["--validation", &other]), 2, &["v.csv", "lacks the column `2`"]);
}

/// A new file in another layout than the training data's is read by the names of its columns.
#[test]
fn a_models_columns_are_found_in_any_layout() {
    let dir = tempfile::tempdir().unwrap();
    let options = TableOptions {
        delimiter: Some(';'),
        header: Some(true),
        decimal: Some(','),
        ..TableOptions::default()
    };
    let path = dir.path().join("t.csv");
    std::fs::write(&path, "7,2,9\n0.5,1.5,2.5\n").unwrap();
    let table = Dataset::read_with(&path, &options.of_columns(&["9", "2"])).unwrap();
    assert_eq!((table.names(), table.values()), (own(&["9", "2"]), vec![2.5, 1.5]));
}

#[test]
fn numbers_that_count_up_are_a_header() {
    let table = read(&case("F06-integer-header/t.csv"));
    assert_eq!(table.names(), ["0", "1", "2", "3", "4"]);
    assert_eq!((table.rows(), table.row(0)[0]), (50, -0.07903));
    assert_eq!(table.found.header, Some(true));
    let forced = TableOptions { header: Some(false), ..TableOptions::default() };
    assert_eq!(Dataset::read_with(case("F06-integer-header/t.csv"), &forced).unwrap().rows(), 51);
}

/// An index that pandas or R wrote is left out and named; the user may keep it.
#[test]
fn an_index_of_rows_is_no_column() {
    for file in ["split_new.parquet", "split_test.parquet"] {
        let path = case("F07-pandas-index").join(file);
        let table = read(&path);
        assert!(!table.names().contains(&"__index_level_0__".to_owned()), "{:?}", table.names());
        assert_eq!(table.found.left_out[0].0, "__index_level_0__");
        let columns = vec!["__index_level_0__".to_owned()];
        let kept = Dataset::read_with(&path, &TableOptions { columns, ..TableOptions::default() })
            .unwrap();
        assert_eq!(kept.dim(), 1);
    }
    let dir = tempfile::tempdir().unwrap();
    for (header, first) in [(",a,b", "c1"), ("Unnamed: 0,a,b", "Unnamed: 0"), (",0,1", "c1")] {
        // counting up, and as a shuffled split leaves it
        for number in [|i: usize| i, |i: usize| (i * 77) % 200 + 5] {
            let path = table(dir.path(), "index.csv", header, |i, k| match k {
                0 => number(i).to_string(),
                _ => format!("{:.4}", uniform(i, k as f64)),
            });
            let table = read(&path);
            assert_eq!((table.dim(), &table.found.left_out[0].0[..]), (2, first), "{header}");
            assert_says(
                &table.found_in_words().join("\n"),
                &["2 of 3 columns", first, "index", "data.table.columns"],
            );
        }
        // repeated numbers are data
        let path = table(dir.path(), "data.csv", header, |i, k| match k {
            0 => (i / 2).to_string(),
            _ => format!("{:.4}", uniform(i, k as f64)),
        });
        assert_eq!(read(&path).dim(), 3);
    }
    let path = table(dir.path(), "named.csv", "id,a", |i, k| match k {
        0 => (i + 1).to_string(),
        _ => format!("{:.4}", uniform(i, 0.0)),
    });
    assert_says(
        &read(&path).remarks(&Dequantize::None)[0],
        &["`id` counts the rows (1, 2, …)", "data.table.drop = id"],
    );
}

#[test]
fn decimal_commas_are_decimals() {
    let of = |name: &str| read(&case("F05-decimal-comma").join(name));
    let semicolon = of("semicolon.csv");
    assert_eq!((semicolon.names(), semicolon.rows()), (own(&["a", "b"]), 20));
    assert_eq!(semicolon.row(0), [-0.1476, -0.0765]);
    assert!(semicolon.found.decimal_comma);
    assert_eq!(of("tab.csv").row(1), [1.1196, 1.4781]);
    let column = of("one_column.csv");
    assert_eq!((column.dim(), column.rows(), column.row(4)[0]), (1, 20, -0.0694));
    let wanted = TableOptions { decimal: Some('.'), ..TableOptions::default() };
    assert_eq!(
        Dataset::read_with(case("F05-decimal-comma/one_column.csv"), &wanted).unwrap().dim(),
        2
    );

    // scores are echoed as the file writes its numbers, and are read again
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.csv");
    let scores: Vec<f64> = (0..20).map(|i| f64::from(i) - 0.5).collect();
    let scores = [AddedColumn::numbers("s", scores)];
    append_columns(&semicolon, &scores, OutputFile::create(&out).unwrap()).unwrap();
    let text = std::fs::read_to_string(&out).unwrap();
    assert!(text.starts_with("a;b;s\n-0,1476;-0,0765;-0,5\n"), "{text}");
    assert_eq!(read(&out).row(1), [0.2183, 1.8984, 0.5]);

    let message = |text: &str| {
        let path = dir.path().join("bad.csv");
        std::fs::write(&path, text).unwrap();
        Dataset::read_with(&path, &TableOptions::default()).unwrap_err().to_string()
    };
    assert_says(&message("a;b\n0,5;1,5\n1.234,5;2,25\n"), &["line 3", "`a`", "with a point"]);
    assert_says(&message("a,b\n0.5,1.5\n\"0,25\",2.25\n"), &["line 3", "`a`", "decimal comma"]);
    assert_says(&message("a,b\n0.5,1.5\n\"1,234\",2.25\n"), &["line 3", "`a`", "thousands"]);
}

/// What is found in a file is reported once, at training.
#[test]
fn training_says_how_it_read_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let out = text_of(&dir.path().join("run"));
    let data = text_of(&case("F05-decimal-comma/semicolon.csv"));
    let said =
        trained(&data, &out, &["--base", "gaussian", "--rank", "1", "--split", "0.8,0.1,0.1"]);
    assert_says(&said, &["text, cells between `;`, decimal commas, a header; 2 columns: a, b"]);
}

/// Fewer rows than columns: there is no Gaussian of full covariance to compare with, and what is
/// advised works.
#[test]
fn a_gaussian_that_rows_do_not_determine_is_no_baseline() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| text_of(&dir.path().join(name));
    let data = text_of(&case("F09-more-columns-than-rows/t.csv"));
    trained(&data, &at("run"), &["--base", "isotropic", "--rank", "1"]);
    let rows = |n| Noise::new(Seed(1), 0..n).normal(6, tch::Kind::Double, tch::Device::Cpu);
    for n in [2, 5, 6] {
        let message = baseline::gaussian(&rows(n), &rows(3)).unwrap_err().to_string();
        assert_says(&message, &[&format!("{n} training rows"), "6 columns"]);
    }
    assert!(baseline::gaussian(&rows(40), &rows(3)).unwrap().iter().all(|v| v.is_finite()));
}

/// Numbers that single precision does not tell apart are refused, by their spacing.
#[test]
fn columns_finer_than_single_precision_are_refused() {
    let options = TableOptions::default();
    let message = refused(&case("F10-subnormal/psd.csv"), &options);
    assert_says(
        &message,
        &["`psd`", "too fine for single precision", "multiply it by 1e4", "data.table.drop = psd"],
    );
    let dir = tempfile::tempdir().unwrap();
    // an outlier, or a second cluster, makes mean over deviation small
    for other in [0.0, -4e12] {
        let path = table(dir.path(), "fine.csv", "a,b", |i, k| match (k, i % 4) {
            (0, _) => format!("{:.6}", uniform(i, 0.0)),
            (_, 0) => format!("{:.3}", other + uniform(i, 0.1)),
            (_, _) => format!("{:.3}", 4e9 + uniform(i, 0.1)),
        });
        assert_says(&refused(&path, &options), &["`b`", "too fine", "subtract an offset"]);
    }
    // whole numbers beyond 2²⁴ lose digits: harmless in a wide column, and reported; not where they
    // are levels
    let large = table(dir.path(), "large.csv", "a,n", |i, k| match k {
        0 => format!("{:.6}", uniform(i, 0.0)),
        _ => (20_000_001 + i * 3_000_001).to_string(),
    });
    let read = Dataset::read_numbers_to_train(&large, &options, &Dequantize::None).unwrap();
    assert_says(
        &read.remarks(&Dequantize::None)[0],
        &["`n`", "rounded to single precision", "by up to"],
    );
    let message = Dataset::read_numbers_to_train(&large, &options, &Dequantize::Integers)
        .unwrap_err()
        .to_string();
    assert_says(&message, &["`n`", "dequantised", "subtract an offset"]);
}

/// Cents are a grid, samples are written with its decimals, and equal rows of a discrete table are
/// no copies.
#[test]
fn decimals_are_levels_and_come_back_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| text_of(&dir.path().join(name));
    let price = text_of(&case("F16-price-grid/price.csv"));
    trained(&price, &at("price"), &["--dequantize", "price", "--base", "gaussian", "--rank", "0"]);
    assert_says(&std::fs::read_to_string(at("price/data.json")).unwrap(), &["\"bin\": 0.01"]);

    let temperatures = text_of(&case("F17-decimal-samples/temp.csv"));
    let flags = ["--dequantize", "temp", "--base", "gaussian", "--rank", "0"];
    let said = trained(&temperatures, &at("run"), &flags);
    assert!(!said.contains("--unique"), "{said}");
    succeed(&["sample", &at("run"), "-n", "100", "--steps", "3", "-o", &at("s.csv"), "--quiet"]);
    let text = std::fs::read_to_string(at("s.csv")).unwrap();
    for cell in text.lines().skip(1) {
        let decimals = cell.split_once('.').map_or(0, |(_, decimals)| decimals.len());
        assert!(decimals <= 1, "{cell}");
    }
    // copies in a continuous table are still warned of
    let copies = table(dir.path(), "copies.csv", "a,b", |i, k| {
        format!("{:.6}", uniform(i % 180, k as f64 / 7.0))
    });
    let said = trained(&text_of(&copies), &at("copies"), &["--base", "gaussian", "--rank", "1"]);
    assert_says(&said, &["20 rows are duplicates", "--unique"]);
}

/// Common things that are no plain table of numbers: read where they are clear, else named for what
/// they are.
#[test]
fn files_of_other_programs_are_read_or_named() {
    let at = |name: &str| case("F20-messages").join(name);
    let options = TableOptions::default();
    let comment = read(&at("comment.csv"));
    assert_eq!((comment.names(), comment.row(0)), (own(&["a", "b"]), vec![0.0342, 1.3597]));
    assert_eq!(comment.found.preamble, 2);
    let savetxt = read(&at("savetxt.csv"));
    assert_eq!((savetxt.names(), savetxt.row(0)[0]), (own(&["a", "b", "c"]), 0.34558));
    assert_eq!(read(&at("sepline.csv")).names(), ["a", "b"]);
    assert_eq!(read(&at("unicode_minus.csv")).row(1), [1.2247, -0.5103]);
    let half = read(&at("float16.parquet"));
    assert_eq!(half.columns()[half.dim() - 1].kind, ColumnKind::Float);
    assert!(half.values().iter().all(|v| v.abs() < 100.0));
    let decimal = read(&at("dec.parquet"));
    assert!(
        decimal.values().iter().all(|v| v.abs() < 1000.0)
            && decimal.values().iter().any(|v| v.fract() != 0.0)
    );

    assert_says(
        &refused(&at("concat.csv"), &options),
        &["line 152", "the header again", "delete the line"],
    );
    assert_says(
        &refused(&at("units.csv"), &options),
        &["line 2", "no numbers", "\"m\", \"s\"", "units"],
    );
    let excel = read(&at("real.xlsx"));
    assert_eq!((excel.names(), excel.rows()), (own(&["a", "b"]), 100));
    assert_eq!(excel.row(0), [0.12573, 4.73579]);
    let brotli = refused(&at("brotli.parquet"), &options);
    assert_says(&brotli, &["brotli", "snappy"]);
    assert!(!brotli.contains("damaged"), "{brotli}");
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes, words) in [
        ("a.feather", &b"ARROW1\0\0\0"[..], ["Arrow", "Parquet"]),
        ("a.pkl", b"\x80\x04\x95\x00", ["pickle", "CSV"]),
        ("a.h5", b"\x89HDF\r\n\x1a\n\0", ["HDF5", "NPY"]),
        ("a.zip", b"PK\x03\x04\0\0\0\0a.csv", ["ZIP", "unpack"]),
        ("a.json", b"[{\"a\": 1}]", ["JSON", "CSV"]),
    ] {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        assert_says(&refused(&path, &options), &words);
    }
    // a bad cell is blamed on its own line, whatever comes before the table
    let text = "# by sensor 3\na,b\n".to_owned() + &"0.5,1.5\n".repeat(20) + "0.5,4 kg\n# end\n";
    let path = dir.path().join("late.csv");
    std::fs::write(&path, &text).unwrap();
    assert_says(&refused(&path, &options), &["line 23", "`b`", "\"4 kg\""]);
    std::fs::write(&path, text.replace("4 kg", "4")).unwrap();
    assert_says(&refused(&path, &options), &["line 24", "comments"]);
}

/// Remedies name no flag that the command does not have.
#[test]
fn remedies_are_those_of_the_command() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| text_of(&dir.path().join(name));
    let data =
        table(dir.path(), "t.csv", "a,b", |i, k| format!("{:.5}", uniform(i, k as f64 / 7.0)));
    trained(&text_of(&data), &at("run"), &["--base", "gaussian", "--rank", "1"]);
    let help = succeed(&["evaluate", "--help"]);
    assert!(!help.contains("--drop ") && !help.contains("--columns"), "{help}");
    for (name, text) in [
        ("missing.csv", "a,b\n1,2\n,3\n"),
        ("text.csv", "a,b\n1,2\nx,3\n"),
        ("large.csv", "a,b\n1,2\n1e40,3\n"),
    ] {
        std::fs::write(at(name), text).unwrap();
        let output = tweedie(&["evaluate", &at("run"), "--data", &at(name)]);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert_says(&message, &[name, "line 3", "`a`"]);
        // `--drop` and `--columns` are of a training alone
        for flag in ["--drop", "--missing", "--columns", "--delimiter", "--header"] {
            assert!(!message.contains(flag) || help.contains(flag), "{message}");
        }
        let options = TableOptions { purpose: Purpose::Scoring, ..TableOptions::default() };
        let message =
            Dataset::read_with(at(name), &options.of_columns(&["a", "b"])).unwrap_err().to_string();
        assert_eq!(
            message.contains("data.table.missing = drop-rows"),
            name == "missing.csv",
            "{message}"
        );
        assert!(!message.contains("data.table.drop"), "{message}");
    }
}

/// All that is wrong with a table is one error, and the flags at its end make it work.
#[test]
fn all_refusals_come_at_once_with_flags_that_work() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| text_of(&dir.path().join(name));
    let cell = |i: usize, k: usize| match k {
        0 => format!("name {i}"),
        1 if i % 10 == 3 => String::new(),
        1 => format!("{:.5}", uniform(i, 0.0)),
        2 => "7".into(),
        // 64ths are exact in text, so that the combination is
        3 => ((uniform(i, 0.11) * 6400.0).round() / 64.0).to_string(),
        4 => (2.0 * (uniform(i, 0.11) * 6400.0).round() / 64.0 + 1.0).to_string(),
        5 if i < 150 => "NA".into(),
        _ => format!("{:.5}", uniform(i, 0.23)),
    };
    let path = table(dir.path(), "t.csv", "who,a,same,b,twice b,rare", cell);
    let message = refused(&path, &TableOptions::default());
    assert_says(
        &message,
        &[
            "5 problems",
            "`who` holds text (line 2",
            "`rare` is missing in 150 of 200",
            "20 of 200 rows have missing cells, in `a` (first: line 5)",
            "`same` is constant (7)",
            "`twice b` is a linear combination of `b`",
            "data.table.drop = 'who,rare,same,twice b' data.table.missing = drop-rows",
        ],
    );
    let data = text_of(&path);
    let flags = "--drop 'who,rare,same,twice b' --missing drop-rows";
    let numbers = ["--types", "numbers"];
    fail(&training(&data, &at("none"), &numbers), 2, &["5 problems", flags]);
    // as it comes it is trained on, without a key, a constant and what repeats another column
    let said = trained(&data, &at("mixed"), &[]);
    for part in [
        "who      left out  a key or free text",
        "twice b  left out  is a linear combination of `b`, so that no density exists",
        "a        number    5 decimals -0.50000…0.49689, 10 % missing",
    ] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    let flags = [
        "--drop",
        "who,rare,same,twice b",
        "--missing",
        "drop-rows",
        "--base",
        "gaussian",
        "--rank",
        "1",
    ];
    trained(&data, &at("run"), &flags);
    // what was given before is kept
    let options = TableOptions { drop: vec!["who".into()], ..TableOptions::default() };
    assert_says(
        &refused(&path, &options),
        &["4 problems", "data.table.drop = 'who,rare,same,twice b'"],
    );

    // Parquet: types that are no numbers, constants
    let parquet = dir.path().join("t.parquet");
    let values: Vec<f64> = (0..200).flat_map(|i| [uniform(i, 0.0), 3.0, 3.0]).collect();
    let types = [CellType::Double, CellType::Double, CellType::Integer];
    write_table(OutputFile::create(&parquet).unwrap(), &["a", "b", "c"], &types, &values).unwrap();
    assert_says(
        &refused(&parquet, &TableOptions::default()),
        &["2 problems", "`b`", "`c`", "data.table.drop = b,c"],
    );
    // one problem is reported as before
    let options =
        TableOptions { drop: vec!["b".into()], missing: Missing::Error, ..TableOptions::default() };
    assert_says(
        &refused(&parquet, &options),
        &["column `c` is constant (3)", "leave it out with data.table.drop = c"],
    );
}

/// A run finds its data again from any working directory.
#[test]
fn data_are_found_from_any_directory() {
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    table(dir.path(), "t.csv", "a,b", |i, k| format!("{:.5}", uniform(i, k as f64 / 7.0)));
    let program = |place: &Path, args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_tweedie"))
            .args(args)
            .current_dir(place)
            .output()
            .unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        stdout(&output)
    };
    program(
        dir.path(),
        &training("t.csv", "run", &["--base", "gaussian", "--rank", "1", "--quiet"]),
    );
    let run = text_of(&dir.path().join("run"));
    let evaluate = ["evaluate", &run, "--metrics", "nll", "--steps", "3", "--no-ode", "--quiet"];
    assert_says(&program(elsewhere.path(), &evaluate), &["20 rows", "Gaussian, full covariance"]);
    let more =
        ["train", "--out", &run, "--resume", "--iterations", "12", "--quiet", "--threads", "1"];
    program(elsewhere.path(), &more);
    // the same file by another path is not another configuration
    let resume =
        ["train", "--data", "./t.csv", "--out", "run", "--resume", "--iterations", "14", "--quiet"];
    program(dir.path(), &resume);
}

/// 20,000 columns of one name are read in a second or two, and a name cannot break a message into
/// lines.
#[test]
fn odd_names_are_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wide.csv");
    let row =
        |i: usize| (0..20_000).map(|k| format!("{}", (i * k) % 7)).collect::<Vec<_>>().join(",");
    std::fs::write(&path, format!("{}\n{}\n{}\n", vec!["a"; 20_000].join(","), row(1), row(2)))
        .unwrap();
    let started = std::time::Instant::now();
    let table = read(&path);
    assert_eq!((table.dim(), &*table.names()[19_999]), (20_000, "a.19999"));
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
    // `--drop` with a name that a shell would take apart
    let path = dir.path().join("odd.csv");
    std::fs::write(&path, "first name,it's\n1,2\nx,3\n").unwrap();
    assert_says(&refused(&path, &TableOptions::default()), &["data.table.drop = 'first name'"]);
    std::fs::write(&path, "first name,it's\n1,2\n2,x\n").unwrap();
    assert_says(&refused(&path, &TableOptions::default()), &["data.table.drop = 'it'\\''s'"]);
}
