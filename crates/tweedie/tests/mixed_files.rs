//! Tables as they come, in every format that holds more than numbers: the same table is read from
//! each, and what is no sound file is refused.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, DictionaryArray, Float64Array, Int64Array, RecordBatch,
    StringArray, TimestampMillisecondArray,
};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{FileWriter, IpcWriteOptions};
use tweedie::data::{
    AddedColumn, Dataset, Kind, OutputFile, TableOptions, TypeOptions, append_columns,
};

const ROWS: usize = 60;

/// A cell of the table as text: a name, a number with holes, a truth value, a day.
fn cells(i: usize) -> [String; 4] {
    [
        ["red", "green", "blue"][i % 3].to_owned(),
        if i % 10 == 3 { String::new() } else { format!("{}", (i * i % 71) as f64 / 2.0) },
        if i.is_multiple_of(4) { "true" } else { "false" }.to_owned(),
        format!("2013-02-{:02}", 1 + i % 28),
    ]
}

fn text() -> String {
    let rows: String = (0..ROWS).map(|i| cells(i).join(",") + "\n").collect();
    format!("colour,size,new,day\n{rows}")
}

fn read_as(path: &Path) -> tweedie::Result<Dataset> {
    Dataset::read_as_it_comes(path, &TypeOptions::default(), &TableOptions::default())
}

/// The kinds of columns and the table as CSV.
fn found(path: &Path) -> (Vec<&'static str>, String) {
    let data = read_as(path).unwrap_or_else(|error| panic!("{error}"));
    let out = path.with_file_name("written.csv");
    data.write(&out).unwrap();
    let kinds = data.schema().unwrap().columns.iter().map(|column| column.kind_in_words());
    (kinds.collect(), fs::read_to_string(out).unwrap())
}

fn dir() -> (tempfile::TempDir, impl Fn(&str) -> PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    (dir, move |name: &str| path.join(name))
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn arrays() -> Vec<(&'static str, ArrayRef)> {
    let rows: Vec<[String; 4]> = (0..ROWS).map(cells).collect();
    let colours: DictionaryArray<Int32Type> = rows.iter().map(|row| row[0].as_str()).collect();
    let sizes: Float64Array = rows.iter().map(|row| row[1].parse::<f64>().ok()).collect();
    let new: BooleanArray = rows.iter().map(|row| Some(row[2] == "true")).collect();
    // 2013-02-01 is day 15 737, by `expr $(date -u -d 2013-02-01 +%s) / 86400`
    let days: Date32Array = (0..ROWS).map(|i| Some(15_737 + (i % 28) as i32)).collect();
    let arrays: [ArrayRef; 4] = [Arc::new(colours), Arc::new(sizes), Arc::new(new), Arc::new(days)];
    ["colour", "size", "new", "day"].into_iter().zip(arrays).collect()
}

fn arrow_file(batches: &[RecordBatch], compression: Option<CompressionType>) -> Vec<u8> {
    let options = IpcWriteOptions::default().try_with_compression(compression).unwrap();
    let schema = batches[0].schema();
    let mut writer = FileWriter::try_new_with_options(Vec::new(), &schema, options).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.finish().unwrap();
    writer.into_inner().unwrap()
}

/// A workbook of one sheet with these rows of cells as XML.
fn workbook(rows: &[Vec<String>]) -> Vec<u8> {
    let sheet: String = rows
        .iter()
        .enumerate()
        .map(|(i, cells)| format!("<row r=\"{}\">{}</row>", i + 1, cells.concat()))
        .collect();
    let main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main";
    let office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
    let package = "http://schemas.openxmlformats.org/package/2006/relationships";
    let files = [
        ("[Content_Types].xml", "<Types/>".to_owned()),
        (
            "_rels/.rels",
            format!(
                "<Relationships xmlns=\"{package}\"><Relationship Id=\"rId1\" \
                 Type=\"{office}/officeDocument\" Target=\"xl/workbook.xml\"/></Relationships>"
            ),
        ),
        (
            "xl/workbook.xml",
            format!(
                "<workbook xmlns=\"{main}\" xmlns:r=\"{office}\"><sheets><sheet name=\"a\" \
                 sheetId=\"1\" r:id=\"rId1\"/></sheets></workbook>"
            ),
        ),
        (
            "xl/_rels/workbook.xml.rels",
            format!(
                "<Relationships xmlns=\"{package}\"><Relationship Id=\"rId1\" \
                 Type=\"{office}/worksheet\" Target=\"worksheets/sheet1.xml\"/></Relationships>"
            ),
        ),
        // style 1 is a date
        (
            "xl/styles.xml",
            format!(
                "<styleSheet xmlns=\"{main}\"><cellXfs count=\"2\"><xf numFmtId=\"0\"/><xf \
                 numFmtId=\"14\"/></cellXfs></styleSheet>"
            ),
        ),
        (
            "xl/worksheets/sheet1.xml",
            format!("<worksheet xmlns=\"{main}\"><sheetData>{sheet}</sheetData></worksheet>"),
        ),
    ];
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, text) in files {
        let options = zip::write::SimpleFileOptions::default();
        archive.start_file(name, options).unwrap();
        archive.write_all(text.as_bytes()).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

fn text_cell(place: &str, text: &str) -> String {
    format!("<c r=\"{place}\" t=\"inlineStr\"><is><t>{text}</t></is></c>")
}

/// The table as a workbook; 2013-02-01 is day 41 306 of Excel, as it shows it in format `0`.
fn sheet() -> Vec<Vec<String>> {
    let names = ["colour", "size", "new", "day"];
    let header = "ABCD".chars().zip(names).map(|(c, name)| text_cell(&format!("{c}1"), name));
    let row = |i: usize| {
        let ([colour, size, new, _], r) = (cells(i), i + 2);
        let size = match size.as_str() {
            "" => String::new(),
            size => format!("<c r=\"B{r}\"><v>{size}</v></c>"),
        };
        let new = u8::from(new == "true");
        vec![
            text_cell(&format!("A{r}"), &colour),
            size,
            format!("<c r=\"C{r}\" t=\"b\"><v>{new}</v></c>"),
            format!("<c r=\"D{r}\" s=\"1\"><v>{}</v></c>", 41_306 + i % 28),
        ]
    };
    [header.collect()].into_iter().chain((0..ROWS).map(row)).collect()
}

#[test]
fn one_table_is_the_same_in_every_format() {
    let (_dir, at) = dir();
    let text = text();
    let batch = RecordBatch::try_from_iter(arrays()).unwrap();
    let halves = [batch.slice(0, 25), batch.slice(25, ROWS - 25)];
    fs::write(at("t.csv"), &text).unwrap();
    read_as(&at("t.csv")).unwrap().write(at("t.parquet")).unwrap();
    let files = [
        ("t.csv", text.clone().into_bytes()),
        ("t.csv.gz", gzip(text.as_bytes())),
        ("t.tsv.zst", zstd::encode_all(text.replace(',', "\t").as_bytes(), 3).unwrap()),
        ("t.parquet", fs::read(at("t.parquet")).unwrap()),
        ("t.arrow", arrow_file(&halves, None)),
        ("lz4.feather", arrow_file(&halves, Some(CompressionType::LZ4_FRAME))),
        ("zstd.feather", arrow_file(&halves, Some(CompressionType::ZSTD))),
        ("t.xlsx", workbook(&sheet())),
    ];
    for (name, bytes) in files {
        fs::write(at(name), bytes).unwrap();
        let (kinds, written) = found(&at(name));
        assert_eq!(kinds, ["category", "number", "category", "date"], "{name}");
        // of columns of real numbers some formats know that they are, and write a decimal
        let written: String = written.replace(".0,", ",");
        assert_eq!(written, text, "{name}");
    }
}

/// What a schema was found in and what is read by it may be of different formats.
#[test]
fn a_schema_reads_tables_of_other_formats() {
    let (_dir, at) = dir();
    fs::write(at("t.csv"), text()).unwrap();
    fs::write(at("t.xlsx"), workbook(&sheet())).unwrap();
    let batch = RecordBatch::try_from_iter(arrays()).unwrap();
    fs::write(at("t.arrow"), arrow_file(&[batch], None)).unwrap();
    let options = TableOptions::default();
    let own = read_as(&at("t.csv")).unwrap();
    for name in ["t.xlsx", "t.arrow"] {
        let new = Dataset::read_with_schema(at(name), own.schema().unwrap(), &options).unwrap();
        assert!(new.column(0) == own.column(0) && new.column(2) == own.column(2), "{name}");
        assert_eq!(new.column(3), own.column(3), "{name}");
    }
}

/// Scores are appended to rows of a compressed file and of Parquet as they were.
#[test]
fn scores_are_appended_to_tables_as_they_came() {
    let (_dir, at) = dir();
    fs::write(at("t.csv.gz"), gzip(text().as_bytes())).unwrap();
    let data = read_as(&at("t.csv.gz")).unwrap();
    let scores = vec![0.5; ROWS];
    let append = |data: &Dataset, name: &str| {
        let out = OutputFile::create(at(name)).unwrap();
        let scores = [
            AddedColumn::numbers("score", scores.clone()),
            AddedColumn::flags("high", (0..ROWS).map(|i| (i > 0).then_some(i % 2 == 1))),
        ];
        append_columns(data, &scores, out).unwrap();
        fs::read_to_string(at(name)).unwrap()
    };
    let added = |(i, line): (usize, &str)| match i {
        0 => format!("{line},score,high\n"),
        1 => format!("{line},0.5,\n"),
        i => format!("{line},0.5,{}\n", i % 2 == 0),
    };
    let expected: String = text().lines().enumerate().map(added).collect();
    assert_eq!(append(&data, "out.csv"), expected);
    data.write(at("t.parquet")).unwrap();
    let data = read_as(&at("t.parquet")).unwrap();
    assert_eq!(append(&data, "of_parquet.csv").replace(".0,", ","), expected);
    // with a row left out, the whole file is read again
    let drop = TableOptions { missing: tweedie::data::Missing::DropRows, ..Default::default() };
    let data = Dataset::read_as_it_comes(at("t.parquet"), &TypeOptions::default(), &drop).unwrap();
    let out = OutputFile::create(at("dropped.csv")).unwrap();
    let scores = AddedColumn::numbers("score", vec![0.5; data.rows()]);
    append_columns(&data, &[scores], out).unwrap();
    let written = fs::read_to_string(at("dropped.csv")).unwrap();
    assert_eq!(written.lines().nth(4), Some("red,,false,2013-02-04,"));
    assert_eq!(written.lines().count(), ROWS + 1);
}

/// The same test is run again as a program of its own, whose standard input is the table.
#[test]
fn standard_input_is_a_table() {
    let child = "TWEEDIE_READS_STANDARD_INPUT";
    if std::env::var_os(child).is_some() {
        let data = read_as(Path::new("-")).unwrap();
        // it is there once more, for what reads a file twice
        assert_eq!(read_as(Path::new("-")).unwrap().values().len(), data.values().len());
        data.write(std::env::var_os(child).unwrap()).unwrap();
        return;
    }
    let (_dir, at) = dir();
    for (name, bytes) in [("plain", text().into_bytes()), ("packed", gzip(text().as_bytes()))] {
        let out = at(&format!("{name}.csv"));
        let mut program = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "standard_input_is_a_table"])
            .env(child, &out)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        program.stdin.take().unwrap().write_all(&bytes).unwrap();
        assert!(program.wait().unwrap().success());
        assert_eq!(fs::read_to_string(out).unwrap(), text(), "{name}");
    }
}

/// Columns of Arrow's other types: large texts, times with and without a zone, whole numbers, and
/// lists, which are left out.
#[test]
fn typed_columns_are_what_their_types_say() {
    let (_dir, at) = dir();
    let digits: StringArray = (0..ROWS).map(|i| Some(["1", "2"][i % 2])).collect();
    let large = arrow_cast::cast(&digits, &arrow_schema::DataType::LargeUtf8).unwrap();
    let times: TimestampMillisecondArray =
        (0..ROWS).map(|i| Some(1_360_000_000_000 + 3_600_000 * i as i64)).collect();
    let zoned = times.clone().with_timezone("UTC");
    let whole: Int64Array = (0..ROWS).map(|i| (i != 4).then_some((i * i % 1000) as i64)).collect();
    let lists = arrow_array::ListArray::from_iter_primitive::<Int32Type, _, _>(
        (0..ROWS).map(|i| Some(vec![Some(i as i32)])),
    );
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("digits", large),
        ("time", Arc::new(times)),
        ("zoned", Arc::new(zoned)),
        ("whole", Arc::new(whole)),
        ("lists", Arc::new(lists)),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    fs::write(at("t.arrow"), arrow_file(&[batch], None)).unwrap();
    let (kinds, written) = found(&at("t.arrow"));
    assert_eq!(kinds, ["category", "time", "time", "number", "left out"]);
    let first = written.lines().nth(1).unwrap();
    assert_eq!(first, "1,2013-02-04 17:46:40,2013-02-04 17:46:40Z,0");
    assert_eq!(written.lines().nth(5).unwrap().rsplit(',').next(), Some(""));
    let data = read_as(&at("t.arrow")).unwrap();
    let Kind::LeftOut { why } = &data.schema().unwrap().columns[4].kind else { panic!() };
    assert_eq!(why, "nested values of type List");
}

/// Tables of numbers alone are read by the other entry, too.
#[test]
fn numbers_are_read_from_every_format() {
    let (_dir, at) = dir();
    let row = |i: usize| [i as f64 / 2.0, (i * i % 7) as f64];
    let text: String = (0..9).map(|i| format!("{},{}\n", row(i)[0], row(i)[1])).collect();
    let text = format!("a,b\n{text}");
    let column = |k: usize| -> Float64Array { (0..9).map(|i| Some(row(i)[k])).collect() };
    let columns: [(&str, ArrayRef); 2] = [("a", Arc::new(column(0))), ("b", Arc::new(column(1)))];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let header = vec![text_cell("B3", "a"), text_cell("C3", "b")];
    let cell = |place: String, value: f64| format!("<c r=\"{place}\"><v>{value}</v></c>");
    let rows = (0..9).map(|i| {
        vec![cell(format!("B{}", i + 4), row(i)[0]), cell(format!("C{}", i + 4), row(i)[1])]
    });
    let empty = || vec![Vec::new(), Vec::new()].into_iter();
    let sheet: Vec<Vec<String>> = empty().chain([header]).chain(rows).collect();
    for (name, bytes) in [
        ("t.csv.gz", gzip(text.as_bytes())),
        ("t.csv.zst", zstd::encode_all(text.as_bytes(), 3).unwrap()),
        ("t.arrow", arrow_file(&[batch], None)),
        ("t.xlsx", workbook(&sheet)),
    ] {
        fs::write(at(name), bytes).unwrap();
        let table = Dataset::read(at(name)).unwrap();
        assert_eq!(table.names(), ["a", "b"], "{name}");
        let expected: Vec<f32> = (0..9).flat_map(row).map(|value| value as f32).collect();
        assert_eq!(table.values(), expected, "{name}");
    }
    // texts and dates are refused there, with their row
    fs::write(at("mixed.xlsx"), workbook(&self::sheet())).unwrap();
    let message = Dataset::read(at("mixed.xlsx")).unwrap_err().to_string();
    assert!(message.contains("row 1, column `colour`: found \"red\""), "{message}");
}

/// What a damaged or hostile file of each format is refused with: one line that names it.
#[test]
fn unsound_files_are_refused_by_name() {
    let (_dir, at) = dir();
    let batch = RecordBatch::try_from_iter(arrays()).unwrap();
    let arrow = arrow_file(std::slice::from_ref(&batch), None);
    let packed = gzip(text().as_bytes());
    let npy = b"\x93NUMPY\x01\0v\0{'descr': '<f4'";
    // 400 MB of one letter: far more than a table is packed to
    let zeros = |name: &str, encoder: &mut dyn Write| {
        let block = vec![b'7'; 1 << 20];
        (0..400).for_each(|_| encoder.write_all(&block).unwrap_or_else(|e| panic!("{name}: {e}")));
    };
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    zeros("gzip", &mut bomb);
    let mut zstd_bomb = zstd::Encoder::new(Vec::new(), 1).unwrap();
    zeros("zstd", &mut zstd_bomb);
    let mut zip_bomb = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    zip_bomb.start_file("[Content_Types].xml", options).unwrap();
    zip_bomb.start_file("xl/worksheets/sheet1.xml", options).unwrap();
    zeros("zip", &mut zip_bomb);
    let texts = b"<?xml version=\"1.0\"?><sst uniqueCount=\"99999999999\">";
    let mut claims = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    claims.start_file("[Content_Types].xml", options).unwrap();
    claims.start_file("xl/sharedStrings.xml", options).unwrap();
    claims.write_all(texts).unwrap();
    let far: Vec<Vec<String>> =
        vec![vec![text_cell("A1", "a")], vec!["<c r=\"XFD2\"><v>1</v></c>".to_owned()]];
    for (name, bytes, says) in [
        ("cut.csv.gz", packed[..packed.len() / 2].to_vec(), "gzip cannot decompress it"),
        ("not.csv.zst", b"a,b\n1,2\n".to_vec(), "is not compressed by Zstandard"),
        ("npy.gz", gzip(npy), "is NPY compressed by gzip; decompress it first: gunzip"),
        ("bomb.csv.gz", bomb.finish().unwrap(), "more bytes than data are packed into"),
        ("bomb.csv.zst", zstd_bomb.finish().unwrap(), "more bytes than data are packed into"),
        ("bomb.xlsx", zip_bomb.finish().unwrap().into_inner(), "unpacks to more than"),
        ("claims.xlsx", claims.finish().unwrap().into_inner(), "claims more texts than it holds"),
        ("far.xlsx", workbook(&far), "row 2: has a cell in column 16384"),
        ("none.xlsx", workbook(&[]), "its first sheet has no cells"),
        ("cut.arrow", arrow[..arrow.len() / 2].to_vec(), "is no sound Arrow file"),
        ("head.arrow", b"ARROW1\0\0".to_vec(), "it has no footer"),
        ("x.json.gz", gzip(b"{\"a\": 1}"), "is JSON"),
    ] {
        fs::write(at(name), bytes).unwrap();
        let message = read_as(&at(name)).unwrap_err().to_string();
        assert!(message.contains(name) && message.contains(says), "{message}");
        assert!(!message.contains('\n'), "{message}");
    }
}
