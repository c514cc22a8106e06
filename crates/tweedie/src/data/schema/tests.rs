use std::path::PathBuf;

use super::*;
use crate::data::{Dataset, RawColumn, RawTable, TableOptions, TypeOptions};

/// A file in a directory of its own.
fn file(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

fn types(text: &str) -> TypeOptions {
    text.parse().unwrap()
}

fn read(text: &str, types: &TypeOptions) -> Result<Dataset> {
    let (_dir, path) = file("t.csv", text);
    Dataset::read_as_it_comes(path, types, &TableOptions::default())
}

fn schema(text: &str) -> Schema {
    read(text, &TypeOptions::default()).unwrap().schema().unwrap().clone()
}

/// The error, which is one line, without the directory of its file.
fn error(text: &str, of: &str) -> String {
    let message = read(text, &types(of)).unwrap_err().to_string();
    assert!(!message.contains('\n'), "{message}");
    message[message.find("t.csv").unwrap_or(0)..].to_owned()
}

/// The line of a column in the printed schema, in words with one blank between.
fn line(schema: &Schema, name: &str) -> String {
    let lines = schema.lines();
    let line = lines.iter().find(|line| line.split_whitespace().next() == Some(name));
    line.unwrap_or_else(|| panic!("{lines:?}")).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A table of `rows` rows with what `cell` says in its columns.
fn table(header: &str, rows: usize, cell: impl Fn(usize) -> String) -> String {
    let rows: String = (0..rows).map(|i| cell(i) + "\n").collect();
    format!("{header}\n{rows}")
}

/// As the Adult data have it: no header, a blank after each comma, `?` where a cell is missing.
#[test]
fn adult_is_read_as_it_comes() {
    let work = ["Private", "?", "State-gov", "Private"];
    let text: String = (0..400)
        .map(|i| {
            let gain = if i % 13 == 0 { 2000 + 37 * i } else { 0 };
            let income = if i % 3 == 0 { "<=50K" } else { ">50K" };
            let (age, work) = (17 + i * 7 % 73, work[i % 4]);
            format!("{age}, {work}, {gain}, {income}\n")
        })
        .collect();
    let data = read(&text, &TypeOptions::default()).unwrap();
    let schema = data.schema().unwrap();
    assert_eq!(
        (data.rows(), data.names()),
        (400, ["c1", "c2", "c3", "c4"].map(String::from).into())
    );
    assert_eq!(line(schema, "c1"), "c1 number whole numbers 17…89");
    assert_eq!(line(schema, "c2"), "c2 category 2 values: Private, State-gov, 25 % missing");
    assert_eq!(line(schema, "c3"), "c3 number whole numbers 0…16430, atom at 0 (92 %)");
    assert_eq!(line(schema, "c4"), "c4 category 2 values: <=50K, >50K");
    let work = data.column(1).unwrap().categories().unwrap();
    assert_eq!(
        (work.name(0), work.name(1), work.name(2)),
        (Some("Private"), None, Some("State-gov"))
    );
    assert!(data.has_holes() && data.column(0).unwrap().holes() == 0);
}

/// Telco's charges: numbers of up to two decimals, blank in a few rows.
#[test]
fn blanks_among_numbers_are_missing_and_written_empty() {
    let text = table("total,kind", 200, |i| match i {
        17 | 80 => " ,a".to_owned(),
        _ => format!("{},b", (i % 60 * i % 60) as f64 / 20.0 + 7.0),
    });
    let (dir, path) = file("t.csv", &text);
    let data =
        Dataset::read_as_it_comes(path, &TypeOptions::default(), &TableOptions::default()).unwrap();
    assert_eq!(
        line(data.schema().unwrap(), "total"),
        "total number 2 decimals 7…9.45, in steps \
                                                       of 0.05, 1.0 % missing"
    );
    let out = dir.path().join("out.csv");
    data.write(&out).unwrap();
    assert_eq!(std::fs::read_to_string(out).unwrap(), text.replace(" ,", ","));
}

#[test]
fn dates_are_numbers_on_their_grid_and_written_in_their_format() {
    let text = table("day,hour,x", 90, |i| {
        let (month, day) = (1 + i / 28, 1 + i % 28);
        format!("{month}/{day}/2013,2013-0{month}-{day:02}T{:02}:00:00Z,{}", i % 24, i * i)
    });
    let (dir, path) = file("t.csv", &text);
    let data =
        Dataset::read_as_it_comes(path, &TypeOptions::default(), &TableOptions::default()).unwrap();
    let schema = data.schema().unwrap();
    assert_eq!(line(schema, "day"), "day date daily, 1/1/2013…4/6/2013");
    assert_eq!(line(schema, "hour"), "hour time hourly, 2013-01-01T00:00:00Z…2013-04-06T17:00:00Z");
    // 2013-01-01, by `date -u -d 2013-01-01 +%s`
    assert_eq!(data.column(0).unwrap().get(0), 1_356_998_400.0);
    for name in ["out.csv", "out.tsv"] {
        let out = dir.path().join(name);
        data.write(&out).unwrap();
        assert_eq!(std::fs::read_to_string(out).unwrap().replace('\t', ","), text);
    }
    // Parquet has a type for dates and times
    let out = dir.path().join("out.parquet");
    data.write(&out).unwrap();
    let options = TableOptions::default();
    let back = Dataset::read_with_schema(&out, schema, &options).unwrap();
    assert_eq!(back.values(), data.values());
    let found = Dataset::read_as_it_comes(&out, &TypeOptions::default(), &options).unwrap();
    assert_eq!(line(found.schema().unwrap(), "day"), "day date daily, 2013-01-01…2013-04-06");
    // an array holds numbers alone
    let message = data.write(dir.path().join("out.npy")).unwrap_err().to_string();
    assert!(message.contains("NPY holds numbers alone, and `day` is text"), "{message}");
}

#[test]
fn days_that_may_be_months_are_left_out_with_a_remedy() {
    let text = table("day,x", 60, |i| format!("0{}/0{}/2013,{}", 1 + i % 9, 1 + i % 7, i * i));
    let found = line(&schema(&text), "day");
    assert_eq!(
        found,
        "day left out dates whose day and month cannot be told apart (say data.types = \
         'day=date:%m/%d/%Y' or data.types = 'day=date:%d/%m/%Y')"
            .replace("'", "")
    );
    let read = read(&text, &types("day=date:%d/%m/%Y")).unwrap();
    assert_eq!(line(read.schema().unwrap(), "day"), "day date daily, 01/01/2013…08/07/2013");
}

/// A column of numbers with mistakes in it is an error that names the first, its line and what to
/// do; also where all are one word.
#[test]
fn numbers_with_a_few_texts_are_refused_with_the_line() {
    let text = table("a,b", 60, |i| match i {
        31 | 40 => format!("{i},{}", ["oops", "n.a."][i % 2]),
        _ => format!("{i},{}", i * i),
    });
    // an empty line before it counts
    let text = text.replacen("5,25\n", "5,25\n\n", 1);
    assert_eq!(
        error(&text, ""),
        "t.csv: line 34, column `b`: found \"n.a.\" in a column of numbers; correct the cell, \
         empty it, or say data.types = b=category"
    );
    let word = table("a,b", 60, |i| match i % 3 {
        0 => format!("{i},unknown"),
        _ => format!("{i},{}", i * i),
    });
    assert!(error(&word, "").contains("line 2, column `b`: found \"unknown\""));
    assert!(error(&word, "b=number").contains("found \"unknown\", expected a number"));
    let dates = table("a,b", 60, |i| match i {
        20 => format!("{i},never"),
        _ => format!("{},2013-01-{:02}", i * i, 1 + i % 28),
    });
    assert!(
        error(&dates, "").contains("line 22, column `b`: found \"never\" in a column of dates")
    );
    // a few numbers beside texts are names
    let few = schema(&table("a,b", 60, |i| format!("{},{}", i * i, ["1", "2", "3+"][i % 3])));
    assert_eq!(line(&few, "b"), "b category 3 values: 1, 2, 3+");
}

#[test]
fn keys_texts_and_holes_are_left_out_and_say_so() {
    let text = table("n,name,note,none,id,zip,x", 120, |i| {
        let long = if i == 7 { "word ".repeat(300) } else { "short".into() };
        format!("{},p{i},{long},NA,{},{:05},{}", i + 1, i * i * 31 % 7919, 100 + i, i * 3 % 50)
    });
    let schema = schema(&text);
    assert_eq!(line(&schema, "n"), "n left out it numbers the rows (1…120)");
    assert_eq!(
        line(&schema, "name"),
        "name left out a key or free text: another text in every row"
    );
    assert_eq!(line(&schema, "note"), "note left out free text");
    assert_eq!(line(&schema, "none"), "none left out all cells are missing");
    assert_eq!(line(&schema, "id"), "id left out a key: another number in every row");
    assert_eq!(line(&schema, "zip"), "zip left out a key or free text: another text in every row");
    assert_eq!(schema.kept().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["x"]);
    // a thousand and one names, each in three rows
    let many = self::schema(&table("who,x", 3003, |i| format!("p{},{}", i % 1001, i * i)));
    assert_eq!(line(&many, "who"), "who left out 1001 distinct texts");
    let sums = self::schema(&table("sum,x", 60, |i| format!("\"{},{:03}\",{}", i, i, i * i)));
    let why = "a key or free text: another text in every row (with commas between thousands?)";
    assert_eq!(line(&sums, "sum"), format!("sum left out {why}"));
    let message = error(&table("a,b", 50, |i| format!("p{i},")), "");
    assert!(
        message.contains("no column can be modelled (a left out a key or free text"),
        "{message}"
    );
}

#[test]
fn codes_with_zeros_are_texts() {
    let schema = schema(&table("month,x", 60, |i| format!("{:02},{}", 1 + i % 12, i * i)));
    let Kind::Category { names, of } = &schema.column("month").unwrap().kind else { panic!() };
    assert_eq!(
        (names.len(), &names[0][..], &names[11][..], *of),
        (12, "01", "12", CategoryOf::Text)
    );
}

#[test]
fn constants_and_booleans_are_kept_and_written_again() {
    let text = table("c,flag,k,x", 100, |i| {
        let flag = if i % 3 == 0 { "TRUE" } else { "FALSE" };
        format!("7.0,{flag},{},{}", i % 4, i * i)
    });
    let (dir, path) = file("t.csv", &text);
    let options = TableOptions::default();
    let data = Dataset::read_as_it_comes(path, &TypeOptions::default(), &options).unwrap();
    let schema = data.schema().unwrap();
    assert_eq!(line(schema, "c"), "c constant \"7.0\" in every row");
    assert_eq!(line(schema, "flag"), "flag category true or false");
    // 25 rows of each are too few for categories
    assert_eq!(line(schema, "k"), "k number whole numbers 0…3");
    let out = dir.path().join("out.csv");
    data.write(&out).unwrap();
    assert_eq!(std::fs::read_to_string(&out).unwrap(), text);
    let out = dir.path().join("out.parquet");
    data.write(&out).unwrap();
    let back = Dataset::read_with_schema(&out, schema, &options).unwrap();
    assert_eq!(back.values(), data.values());
}

#[test]
fn types_given_by_the_user_decide() {
    let text = table("code,age,day,id,x", 60, |i| {
        let day = 20_130_101 + i % 28;
        format!("{},{},{day},{},{}", i * 37 % 50, i % 2, i % 5, i * i)
    });
    let given = "code=category,age=number,day=date:%Y%m%d,id=drop";
    let data = read(&text, &types(given)).unwrap();
    let schema = data.schema().unwrap();
    assert_eq!(line(schema, "code"), "code category 50 whole numbers: 0…49");
    assert_eq!(line(schema, "age"), "age number whole numbers 0…1");
    assert_eq!(line(schema, "day"), "day date daily, 20130101…20130128");
    assert_eq!(line(schema, "id"), "id left out data.types says so");
    assert!(error(&text, "x=date").contains("line 2, column `x`: found \"0\", expected a date"));
    assert!(error(&text, "y=drop").contains("has no column `y`; name some of code, age"));
    let many = table("code,x", 1100, |i| format!("{},{}", i * i, i * i * i));
    let message = error(&many, "code=category");
    assert!(
        message.contains("`code` is to be of type category, but it has 1100 different cells"),
        "{message}"
    );
}

/// A schema goes through JSON, and one that was changed is refused.
#[test]
fn schemas_go_through_json() {
    let text = table("day,kind,x,c", 60, |i| {
        let x = if i % 2 == 0 { 0.0 } else { i as f64 * 1.1 };
        format!("2013-01-{:02},{},{x:.2},1", 1 + i % 28, ["a", "b"][i % 2])
    });
    let schema = schema(&text);
    let json = serde_json::to_string(&schema).unwrap();
    assert_eq!(serde_json::from_str::<Schema>(&json).unwrap(), schema);
    for (from, to) in [
        ("\"unit\":86400.0", "\"unit\":0.0"),
        ("%Y-%m-%d", "%Q"),
        ("[\"a\",\"b\"]", "[\"a\",\"a\"]"),
        ("\"name\":\"kind\"", "\"name\":\"day\""),
        ("\"atoms\":[0.0]", "\"atoms\":[]"),
        ("\"holes\":0", "\"holes\":61"),
    ] {
        assert!(json.contains(from), "{json}");
        let changed = serde_json::from_str::<Schema>(&json.replace(from, to));
        assert!(changed.unwrap_err().to_string().contains("restore the file"), "{to}");
    }
}

/// New tables of a model: columns by name in any order, categories with the codes of the schema.
#[test]
fn new_tables_are_read_by_the_schema() {
    let text = table("kind,x,day,c", 60, |i| {
        format!("{},{},2013-01-{:02},7", ["a", "b", "c"][i % 3], i * i, 1 + i % 28)
    });
    let schema = schema(&text);
    let read = |text: &str| {
        let (_dir, path) = file("t.csv", text);
        Dataset::read_with_schema(path, &schema, &TableOptions::default())
    };
    let new = read("day,more,x,kind\n2013-02-01,9,?,c\n,8,2.5,b\n").unwrap();
    assert_eq!(new.names(), ["kind", "x", "day", "c"]);
    let kinds = new.column(0).unwrap().categories().unwrap();
    assert_eq!((kinds.names.len(), &kinds.codes[..]), (3, &[2, 1][..]));
    assert_eq!(new.column(1).unwrap().get(1), 2.5);
    assert!(new.column(1).unwrap().get(0).is_nan() && new.column(2).unwrap().get(1).is_nan());
    assert_eq!(new.column(3).unwrap().categories().unwrap().name(0), Some("7"));
    let error = |text: &str| read(text).unwrap_err().to_string();
    for (text, says) in [
        ("kind,x\na,1\n", "lacks the column `day`"),
        ("kind,y,day\na,1,2013-01-01\n", "lacks the column `x`"),
        (
            "kind,x,day\na,1,2013-01-01\nd,1,2013-01-01\n",
            "line 3, column `kind`: found \"d\", which \
          is none of the values that are known: `a`, `b`, `c`; correct the cell",
        ),
        ("kind,x,day\na,one,2013-01-01\n", "line 2, column `x`: found \"one\", expected a number"),
        (
            "kind,x,day\na,1,1.1.2013\n",
            "line 2, column `day`: found \"1.1.2013\", expected a date of \
          the form %Y-%m-%d",
        ),
        (
            "kind,x,day,c\na,1,2013-01-01,8\n",
            "column `c`: found \"8\", expected \"7\" as in all \
          rows",
        ),
    ] {
        let message = error(text);
        assert!(message.contains(says) && !message.contains('\n'), "{message}");
    }
}

/// Rows with holes are left out on request, and their numbers are known.
#[test]
fn rows_with_holes_and_equal_rows_can_be_left_out() {
    let text = table("kind,x", 60, |i| match i {
        3 => ",9".to_owned(),
        5 => "a,".to_owned(),
        _ => format!("{},{}", ["a", "b"][i % 2], i % 31 * 2),
    });
    let (_dir, path) = file("t.csv", &text);
    let options = TableOptions {
        missing: crate::data::Missing::DropRows,
        unique: true,
        ..TableOptions::default()
    };
    let data = Dataset::read_as_it_comes(&path, &TypeOptions::default(), &options).unwrap();
    assert_eq!((data.dropped_rows, data.dropped_duplicates), (2, 0));
    assert_eq!((data.rows(), data.place(3).row, data.place(4).row), (58, 5, 7));
    let twice = format!("{text}a,\na,\n");
    let keep = TableOptions { unique: true, ..TableOptions::default() };
    let (_dir, path) = file("t.csv", &twice);
    let data = Dataset::read_as_it_comes(path, &TypeOptions::default(), &keep).unwrap();
    assert_eq!(data.dropped_duplicates, 2, "rows with a hole in the same column are equal");
}

/// Tables of other programs in memory: a text that looks like a number is a text.
#[test]
fn tables_in_memory_keep_their_types() {
    let count = 100;
    let texts: Vec<String> = (0..count).map(|i| (i % 4).to_string()).collect();
    let columns = vec![
        RawColumn::texts("t", texts.iter().map(|text| Some(text.as_str()))),
        RawColumn::numbers("x", (0..count).map(|i| if i == 5 { f64::NAN } else { i as f64 / 2.0 })),
        RawColumn::booleans("b", (0..count).map(|i| (i != 7).then_some(i % 2 == 0))),
        RawColumn::times("w", (0..count).map(|i| 86_400.0 * i as f64), false),
        RawColumn::cells("c", texts.iter().map(String::as_str)),
    ];
    let raw = RawTable::new(columns).unwrap();
    let schema = Schema::infer(&raw, &TypeOptions::default()).unwrap();
    assert_eq!(line(&schema, "t"), "t category 4 values: 0, 1, 2, 3");
    assert_eq!(line(&schema, "x"), "x number 1 decimal 0…49.5, 1.0 % missing");
    assert_eq!(line(&schema, "b"), "b category true or false, 1.0 % missing");
    assert_eq!(line(&schema, "w"), "w date daily, 1970-01-01…1970-04-10");
    assert_eq!(line(&schema, "c"), "c number whole numbers 0…3");
    let data = Dataset::of_raw(raw, &schema).unwrap();
    assert_eq!((data.rows(), data.dim()), (count, 5));
    let part = data.select(&["x", "t"]).unwrap().take(&[5, 6]);
    assert_eq!(part.schema().unwrap().columns.len(), 2);
    assert!(part.row(0)[0].is_nan() && part.row(1) == [3.0, 2.0]);
    assert!(RawTable::new(Vec::new()).is_err());
    // numbers alone have a density
    let message = data.check_columns(&crate::data::Dequantize::None).unwrap_err().to_string();
    assert!(message.contains("column `t` holds categories"), "{message}");
    assert!(message.contains("column `x` has 1 missing cells"), "{message}");
}
