//! Tables from files and to files, as a user meets them. Expected values are written out beside
//! their input.

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use tempfile::TempDir;
use tweedie::data::{
    AddedColumn, CellType, Column, ColumnKind, Dataset, Dequantize, Missing, OutputFile,
    TableOptions, append_columns, write_table,
};

fn file(name: &str, bytes: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, bytes).unwrap();
    (dir, path)
}

fn read(name: &str, text: impl AsRef<[u8]>) -> Dataset {
    let (_dir, path) = file(name, text);
    Dataset::read_with(path, &TableOptions::default()).unwrap()
}

fn error(name: &str, text: impl AsRef<[u8]>, options: &TableOptions) -> String {
    let (_dir, path) = file(name, text);
    let message = Dataset::read_with(path, options).unwrap_err().to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }
}

#[test]
fn text_layouts_are_recognised() {
    for (name, text) in [
        ("a.csv", "x,n\n1.5,2\n-3.0,4\n"),
        ("a.csv", "\u{feff}x;n\r\n1.5;2\r\n-3.0;4\r\n"),
        ("a.csv", "\"x\",\"n\"\n\"1.5\", 2\n\n-3e0,+4"),
        ("a.tsv", "x\tn\n1.5\t2\n-3.0\t4\n"),
        ("a.txt", "x|n\n1.5|2\n-3.0|4\n"),
        ("a.dat", "  x    n\n 1.5   2\n-3.0   4  \n   \n"),
        ("a", "x,n\r1.5,2\r-3.,4\r"),
    ] {
        let table = read(name, text);
        assert_eq!(table.names(), ["x", "n"], "{text:?}");
        assert_eq!(table.values(), [1.5, 2.0, -3.0, 4.0], "{text:?}");
        assert_eq!(table.columns()[0].kind, ColumnKind::Float);
        assert_eq!(table.columns()[1].kind, ColumnKind::Integer);
    }
    assert_eq!(read("a.csv", "1,2\n3,4\n").names(), ["c1", "c2"]);
    assert_eq!(read("a.csv", "1\n3\n").rows(), 2);
    assert_eq!(read("a.csv", "a,a,\n1,2,3\n").names(), ["a", "a.1", "c3"]);
}

#[test]
fn columns_are_chosen_by_name_or_position() {
    let text = "id,x,y,when\na,1,2,mon\nb,3,4,tue\n";
    let pick = |columns: &[&str], drop: &[&str]| TableOptions {
        columns: columns.iter().map(|s| s.to_string()).collect(),
        drop: drop.iter().map(|s| s.to_string()).collect(),
        ..Default::default()
    };
    let (_dir, path) = file("a.csv", text);
    assert_eq!(Dataset::read_with(&path, &pick(&["y", "2"], &[])).unwrap().row(1), [4.0, 3.0]);
    assert_eq!(Dataset::read_with(&path, &pick(&[], &["id", "4"])).unwrap().names(), ["x", "y"]);
    assert_says(&error("a.csv", text, &pick(&["z"], &[])), &["`z`", "id, x, y, when"]);
    assert_says(&error("a.csv", text, &pick(&["x", "2"], &[])), &["`x` is named twice"]);
    assert_says(
        &error("a.csv", text, &pick(&[], &[])),
        &["line 2", "`id`", "\"a\"", "data.table.drop = id"],
    );
}

#[test]
fn messages_name_the_line_that_an_editor_shows() {
    let options = TableOptions::default();
    for end in ["\n", "\r\n", "\r"] {
        let text = ["x,y", "", "1,2", "\"3", "\",4", "", "5,oops", "6,7"].join(end);
        assert_says(&error("a.csv", &text, &options), &["line 7", "`y`", "\"oops\""]);
        let text = ["1 2", "", "", "  3  4", "5"].join(end);
        assert_says(&error("a.dat", &text, &options), &["line 5", "1 cells, expected 2"]);
    }
    assert_says(
        &error("a.csv", "x,y\n1,2\n3,\n", &options),
        &["line 3", "`y`", "empty", "drop-rows"],
    );
    assert_says(
        &error("a.csv", "x,y\n1,2\n3,1e40\n", &options),
        &["line 3", "`y`", "1e40", "rescale"],
    );
    assert_says(&error("a.csv", b"x,y\n1,2\n3,\xff\n", &options), &["line 3", "UTF-8"]);
}

#[test]
fn unusable_files_are_refused_with_a_remedy() {
    let options = TableOptions::default();
    assert_says(&error("a.csv", "", &options), &["empty"]);
    assert_says(&error("a.csv", "\n\n", &options), &["blank lines"]);
    assert_says(&error("a.csv", "x,y\n", &options), &["header but no row"]);
    assert_says(&error("a.csv.gz", "x", &options), &["gunzip"]);
    assert_says(&error("a.xyz", b"\x1f\x8bx", &options), &["gunzip"]);
    assert_says(&error("a.csv", b"\xff\xfex\0,\0", &options), &["UTF-16"]);
    assert_says(&error("a.bin", b"ab\0c", &options), &["binary"]);
    assert_says(&error("a.npy", b"\x93NUMPY\x01\0", &options), &["cut short"]);
    assert_says(&error("a.parquet", b"PAR1PAR1", &options), &["damaged"]);
    let dir = tempfile::tempdir().unwrap();
    assert_says(&Dataset::read_with(dir.path(), &options).unwrap_err().to_string(), &["directory"]);
    assert!(Dataset::read_with(dir.path().join("none.csv"), &options).is_err());
}

#[test]
fn missing_and_repeated_rows_can_be_left_out_and_are_counted() {
    let (_dir, path) = file("a.csv", "x,y\n1,2\nNA,3\n1,2\n4,?\n5,6\n1,2\n");
    let mut options = TableOptions { missing: Missing::DropRows, ..Default::default() };
    let table = Dataset::read_with(&path, &options).unwrap();
    assert_eq!((table.rows(), table.dropped_rows, table.duplicate_rows()), (4, 2, 2));
    options.unique = true;
    let table = Dataset::read_with(&path, &options).unwrap();
    assert_eq!(table.values(), [1.0, 2.0, 5.0, 6.0]);
    assert_eq!((table.dropped_duplicates, table.duplicate_rows()), (2, 0));
    let out = path.with_file_name("out.csv");
    let scores = [AddedColumn::numbers("s", vec![0.5, 0.25])];
    append_columns(&table, &scores, OutputFile::create(&out).unwrap()).unwrap();
    assert_eq!(
        fs::read_to_string(out).unwrap(),
        "x,y,s\n1,2,0.5\nNA,3,\n1,2,\n4,?,\n5,6,0.25\n1,2,\n"
    );
    let all_missing = "x,y\n1,\n2,\n";
    assert_says(&error("a.csv", all_missing, &options), &["each of the 2 rows"]);
}

#[test]
fn scores_are_appended_to_the_rows_as_they_were() {
    let options = TableOptions { drop: vec!["1".into()], ..Default::default() };
    let (_dir, path) = file("a.csv", "id;x;log_likelihood\n\"a;b\";1.50;7\nc;2;8\n");
    let table = Dataset::read_with(&path, &options).unwrap();
    let scores = [AddedColumn::numbers("log_likelihood", vec![-1.25, f64::NAN])];
    let write = |name: &str| {
        let out = path.with_file_name(name);
        append_columns(&table, &scores, OutputFile::create(&out).unwrap()).unwrap();
        out
    };
    let text = fs::read_to_string(write("out.csv")).unwrap();
    assert_eq!(text, "id;x;log_likelihood;log_likelihood.1\n\"a;b\";1.50;7;-1.25\nc;2;8;\n");
    let text = fs::read_to_string(write("out.tsv")).unwrap();
    assert_eq!(text, "id\tx\tlog_likelihood\tlog_likelihood.1\na;b\t1.50\t7\t-1.25\nc\t2\t8\t\n");
    let keep = TableOptions { missing: Missing::DropRows, ..Default::default() };
    let back = Dataset::read_with(write("out.parquet"), &keep).unwrap();
    assert_eq!((back.row(0), back.dropped_rows), (vec![1.5, 7.0, -1.25], 1));
    assert_eq!(back.columns()[1].kind, ColumnKind::Integer);

    let (_dir, path) = file("b.dat", " 1  2\n 3  4\n");
    let table = Dataset::read_with(&path, &TableOptions::default()).unwrap();
    let out = path.with_file_name("out.csv");
    let scores = [AddedColumn::numbers("s", vec![1.0, 1e-9])];
    append_columns(&table, &scores, OutputFile::create(&out).unwrap()).unwrap();
    assert_eq!(fs::read_to_string(out).unwrap(), "c1,c2,s\n1,2,1.0\n3,4,1e-9\n");
}

#[test]
fn columns_without_a_density_are_refused() {
    let rows = |f: fn(f64) -> [f64; 3]| {
        let rows = (0..500).map(|i| f(f64::from(i))).map(|[a, b, c]| format!("{a},{b},{c}\n"));
        format!("a,b,c\n{}", rows.collect::<String>())
    };
    let check = |text: String| {
        read("a.csv", text).check_columns(&Dequantize::None).map_err(|e| e.to_string())
    };
    assert!(check(rows(|i| [(i * 0.7).sin(), (i * i * 0.37).cos(), i])).is_ok());
    assert_says(
        &check(rows(|i| [i, 2.5, i.sin()])).unwrap_err(),
        &["`b` is constant (2.5)", "data.table.drop = b"],
    );
    assert_says(&check(rows(|i| [i, i.sin(), i])).unwrap_err(), &["`c` repeats column `a`"]);
    assert_says(
        &check(rows(|i| [i, i.sin(), 3.0 * i - i.sin() + 2.0])).unwrap_err(),
        &["`c`", "`a`, `b`", "data.table.drop = c"],
    );
    assert_says(
        &check(rows(|i| [i, i.sin(), 1e9 + i.cos()])).unwrap_err(),
        &["`c`", "subtract an offset"],
    );
    assert!(read("a.csv", "a,b\n1,1\n").check_columns(&Dequantize::None).is_err());
    // noise over its bin gives a constant or repeated integer column a density
    let constant = read("a.csv", "a,b,c\n1,7,1\n2,7,2\n5,7,5\n4,7,4\n3,7,3\n9,7,9\n");
    assert!(constant.check_columns(&Dequantize::None).is_err());
    constant.check_columns(&Dequantize::Integers).unwrap();
}

#[test]
fn fingerprints_tell_tables_apart() {
    let print = |text: &str| read("a.csv", text).fingerprint();
    assert_eq!(print("a,b\n1,2\n"), print("a;b\n1;2\n"));
    assert_eq!(print("a,b\n0,2\n"), print("a,b\n-0,2\n"));
    for other in ["a,c\n1,2\n", "a,b\n2,1\n", "a,b\n1,2.0\n", "a,b\n1,2\n1,2\n", "ab,b\n1,2\n"] {
        assert_ne!(print("a,b\n1,2\n"), print(other), "{other:?}");
    }
}

#[test]
fn numpy_arrays_are_read_in_both_orders() {
    // As numpy 1.26 writes np.array([[1, 2, 3], [4, 5, 6]], dtype='>i2'), C and Fortran order.
    let array = |descr: &str, order: &str, shape: &str, values: &[u8]| {
        let header =
            format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}");
        let header = format!("{header:<117}\n");
        [b"\x93NUMPY\x01\0", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), values]
            .concat()
    };
    let c =
        read("a.npy", array(">i2", "False", "(2, 3)", &[0, 1, 0, 2, 0, 3, 0, 4, 255, 255, 0, 6]));
    assert_eq!(c.values(), [1.0, 2.0, 3.0, 4.0, -1.0, 6.0]);
    let f = read("a.npy", array("|u1", "True", "(2, 3)", &[1, 4, 2, 255, 3, 6]));
    assert_eq!(f.values(), [1.0, 2.0, 3.0, 4.0, 255.0, 6.0]);
    assert_eq!(f.columns()[0], Column { name: "c1".into(), kind: ColumnKind::Integer });
    assert_eq!(read("a.npy", array("|b1", "False", "(2,)", &[1, 0])).dim(), 1);
    let options = TableOptions::default();
    assert_says(
        &error("a.npy", array("<f4", "False", "(2, 3)", &[0; 23]), &options),
        &["23 bytes", "24", "truncated"],
    );
    assert_says(
        &error("a.npy", array("<U4", "False", "(2,)", &[0; 8]), &options),
        &["<U4", "astype"],
    );
    assert_says(
        &error("a.npy", array("<u2", "False", "(2, 2, 2)", &[0; 16]), &options),
        &["<u2", "[2, 2, 2]", "two axes"],
    );
    assert_says(
        &error("a.npy", array("|u1", "False", "(9999999999999, 9999999)", &[0]), &options),
        &["truncated"],
    );
    let nan = [f32::NAN.to_le_bytes(), 1_f32.to_le_bytes()].concat();
    assert_says(
        &error("a.npy", array("<f4", "False", "(1, 2)", &nan), &options),
        &["row 1", "`c1`", "NaN"],
    );
}

#[test]
fn a_truncated_parquet_file_is_an_error_at_every_length() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    let values: Vec<f64> = (0..300).map(f64::from).collect();
    let types = [CellType::Single, CellType::Double, CellType::Integer];
    write_table(OutputFile::create(&path).unwrap(), &["a", "b", "c"], &types, &values).unwrap();
    let bytes = fs::read(&path).unwrap();
    for length in (0..bytes.len()).step_by(7) {
        fs::write(&path, &bytes[..length]).unwrap();
        assert!(Dataset::read_with(&path, &TableOptions::default()).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn arbitrary_bytes_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        kind in 0..4_usize,
        drop_rows: bool,
    ) {
        let heads: [&[u8]; 4] = [b"", b"\x93NUMPY\x01\0\x20\0", b"PAR1", b""];
        let (name, head) = (["a.csv", "a.npy", "a.parquet", "a"][kind], heads[kind]);
        let tail: &[u8] = if kind == 2 { b"PAR1" } else { b"" };
        let (_dir, path) = file(name, [head, &bytes, tail].concat());
        let missing = if drop_rows { Missing::DropRows } else { Missing::Error };
        let options = TableOptions { missing, ..Default::default() };
        if let Ok(table) = Dataset::read_with(path, &options) {
            prop_assert!(table.values().iter().all(|v| v.is_finite()));
            let _ = table.check_columns(&Dequantize::None);
        }
    }

    #[test]
    fn arbitrary_text_never_panics(
        text in "[0-9a,;|\t \"\r\n.eE+-]{0,200}",
        name in "[a]\\.(csv|tsv|dat)",
    ) {
        let (_dir, path) = file(&name, text);
        let options = TableOptions { missing: Missing::DropRows, ..Default::default() };
        if let Ok(table) = Dataset::read_with(path, &options) {
            prop_assert!(table.rows() > 0 && table.values().len() == table.rows() * table.dim());
        }
    }

    #[test]
    fn damaged_parquet_never_panics(at in 0..2000_usize, byte: u8) {
        let (_dir, path) = file("a.parquet", "");
        let values: Vec<f64> = (0..60).map(f64::from).collect();
        let kinds = [CellType::Single, CellType::Integer];
        let out = OutputFile::create(&path).unwrap();
        write_table(out, &["a", "b"], &kinds, &values).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let at = at % bytes.len();
        bytes[at] = byte;
        fs::write(&path, bytes).unwrap();
        let _ = Dataset::read_with(&path, &TableOptions::default());
    }

    #[test]
    fn numeric_tables_survive_every_format(
        rows in prop::collection::vec(
            (any::<f32>().prop_filter("finite", |v| v.is_finite()), -1_000_000..1_000_000_i32),
            1..40,
        ),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let values: Vec<f64> = rows.iter().flat_map(|&(x, n)| [x.into(), n.into()]).collect();
        for name in ["a.csv", "a.tsv", "a.parquet", "a.npy"] {
            let path = dir.path().join(name);
            let out = OutputFile::create(&path).unwrap();
            write_table(out, &["x", "n"], &[CellType::Single, CellType::Integer], &values).unwrap();
            let table = Dataset::read_with(&path, &TableOptions::default()).unwrap();
            let found: Vec<f64> = table.values().iter().map(|&v| v.into()).collect();
            prop_assert_eq!(found, values.clone());
            if !name.ends_with("npy") {
                prop_assert_eq!(table.columns()[0].kind, ColumnKind::Float);
                prop_assert_eq!(table.columns()[1].kind, ColumnKind::Integer);
                prop_assert_eq!(table.names(), ["x", "n"]);
            }
        }
    }
}
