//! How a text file is laid out, as given or guessed.

use std::collections::HashSet;
use std::io::Read;
use std::path::Path;

use csv::ByteRecord;

use super::cells::{is_decimal_comma, is_number, is_real, is_text, parse, split_once};
use super::records::{self, stream};
use crate::data::collect::unique_names;
use crate::data::column::Cell;
use crate::data::formats::{inner, packed};
use crate::data::options::TableOptions;
use crate::data::raw::is_missing;
use crate::data::times::proposed;
use crate::{Error, Result};

/// How much of a file is looked at to guess its layout.
const SAMPLE_BYTES: u64 = 256 * 1024;
const SAMPLE_ROWS: usize = 200;

/// How a text file is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::data) struct Layout {
    pub delimiter: u8,
    pub header: bool,
    /// Decimals stand after a comma.
    pub decimal_comma: bool,
    /// Bytes, after a byte-order mark, before the table, and the lines that end in them.
    pub skip: u64,
    pub skipped_lines: u64,
}

/// What stands below a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Below {
    /// Numbers, in every column that is used.
    Numbers,
    /// Numbers, texts, dates: any cells.
    Anything,
}

fn sample_rows(text: &[u8], delimiter: u8) -> Vec<ByteRecord> {
    records::sample_rows(text, delimiter, SAMPLE_ROWS)
}

/// The layout, from the options where they give it, else from the first rows.
pub(super) fn guess(path: &Path, options: &TableOptions, below: Below) -> Result<Layout> {
    let mut sample = Vec::new();
    let file = stream(path, b',', 0)?;
    file.take(SAMPLE_BYTES).read_to_end(&mut sample).map_err(|e| packed::read_error(path, e))?;
    if sample.len() as u64 == SAMPLE_BYTES
        && let Some(end) = sample.iter().rposition(|b| matches!(b, b'\n' | b'\r'))
    {
        sample.truncate(end);
    }
    check(options)?;
    let tabs = matches!(inner(path).as_str(), "tsv" | "tab");
    let layout = guess_layout(&sample, options, tabs, below);
    if !options.by_name || holds_names(&sample, layout, options) {
        return Ok(layout);
    }
    // the columns of a model may be found where the layout of its training data does not fit
    let free = TableOptions { delimiter: None, decimal: None, header: None, ..options.clone() };
    let other = guess_layout(&sample, &free, tabs, below);
    Ok(if holds_names(&sample, other, options) { other } else { layout })
}

/// Refuses what cannot stand between cells or before decimals.
fn check(options: &TableOptions) -> Result<()> {
    let (field, problem, remedy) = match (options.delimiter, options.decimal) {
        (Some(given), _) if !given.is_ascii() || "\n\r\"\0".contains(given) => (
            "data.table.delimiter",
            format!("{given:?} cannot separate cells"),
            "give one ASCII character such as , or ; or |",
        ),
        (_, Some(other)) if !".,".contains(other) => {
            ("data.table.decimal", format!("{other:?} cannot stand before decimals"), "give . or ,")
        }
        (Some(','), Some(',')) => (
            "data.table.decimal",
            "is a comma, which cannot separate cells too".to_owned(),
            "give another data.table.delimiter",
        ),
        _ => return Ok(()),
    };
    Err(Error::config(field, problem, remedy))
}

/// Whether the first row holds the names that are looked for.
fn holds_names(sample: &[u8], layout: Layout, options: &TableOptions) -> bool {
    let rows = sample_rows(&sample[layout.skip as usize..], layout.delimiter);
    layout.header && rows.first().is_some_and(|first| named_share(first, options) == 1.0)
}

/// The share of the names looked for that stand in a row.
fn named_share(first: &ByteRecord, options: &TableOptions) -> f64 {
    let names = first.iter().map(|cell| String::from_utf8_lossy(cell).trim().to_owned());
    let names: HashSet<String> = unique_names(names).into_iter().collect();
    let found = options.columns.iter().filter(|name| names.contains(*name)).count();
    found as f64 / options.columns.len().max(1) as f64
}

fn guess_layout(sample: &[u8], options: &TableOptions, tabs: bool, below: Below) -> Layout {
    let preamble = Preamble::of(sample);
    let body = &sample[preamble.bytes..];
    let given = options.delimiter.map(|given| given as u8);
    let comma = options.decimal.map(|decimal| decimal == ',');
    let known = given.or(preamble.separator).or(tabs.then_some(b'\t'));
    let mut delimiter = known.unwrap_or_else(|| guess_delimiter(body, comma));
    let mut decimal_comma = comma.unwrap_or(false);
    if known.is_none()
        && delimiter == b','
        && comma != Some(false)
        && is_decimal_column(body, decimal_comma)
    {
        (delimiter, decimal_comma) = (b';', true);
    }
    let rows = sample_rows(body, delimiter);
    if comma.is_none() && delimiter != b',' {
        let cells = || rows.iter().skip(1).chain(rows.first()).flat_map(ByteRecord::iter);
        let points = cells().filter(|cell| is_real(cell, false)).count();
        let commas = cells().filter(|cell| is_decimal_comma(cell)).count();
        // 1,234 may be one thousand; 0,234 and 1,23 may not
        let telling = cells().any(|cell| {
            let (before, after) = split_once(cell, b',');
            is_decimal_comma(cell) && (after.len() != 3 || matches!(before, b"0" | b"-0" | b"+0"))
        });
        decimal_comma = commas > points && telling;
    }
    let mut layout = Layout {
        delimiter,
        header: false,
        decimal_comma,
        skip: preamble.bytes as u64,
        skipped_lines: preamble.lines as u64,
    };
    layout.header = options.header.unwrap_or_else(|| {
        let named =
            options.by_name && rows.first().is_some_and(|row| named_share(row, options) >= 0.5);
        named
            || guess_header(&rows, decimal_comma)
            || (below == Below::Anything && names_texts(&rows, decimal_comma))
    });
    // numpy.savetxt and others write the names as a comment
    if let (Some((start, end)), Some(row)) = (preamble.last, rows.first())
        && options.header != Some(false)
        && let [names, ..] = &sample_rows(&sample[start..end], delimiter)[..]
    {
        let text = |cell: &[u8]| is_text(cell, decimal_comma);
        let is_name = |cell: &[u8]| text(cell) && !(names.len() == 1 && cell.contains(&b' '));
        if row.len() == names.len() && !row.iter().any(text) && names.iter().all(is_name) {
            layout.header = true;
            layout.skip = start as u64;
            layout.skipped_lines -= lines_between(&sample[start..preamble.bytes]);
        }
    }
    layout
}

/// What stands before the table in a text file: comments, Excel's `sep=;`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Preamble {
    bytes: usize,
    lines: usize,
    separator: Option<u8>,
    /// Where the text of the last comment starts and ends, if nothing stands between it and the
    /// table.
    last: Option<(usize, usize)>,
}

/// The end of the line that starts at `start`, and the start of the next one.
fn line_at(text: &[u8], start: usize) -> (usize, usize) {
    let length = text[start..].iter().position(|b| matches!(b, b'\n' | b'\r'));
    let end = length.map_or(text.len(), |n| start + n);
    let next = match text[end..] {
        [b'\r', b'\n', ..] => end + 2,
        [_, ..] => end + 1,
        [] => end,
    };
    (end, next)
}

impl Preamble {
    fn of(text: &[u8]) -> Preamble {
        let mut found = Preamble::default();
        while found.bytes < text.len() {
            let start = found.bytes;
            let (end, next) = line_at(text, start);
            let line = text[start..end].trim_ascii();
            match line {
                [b's', b'e', b'p', b'=', separator] if start == 0 => {
                    (found.separator, found.last) = (Some(*separator), None);
                }
                [b'#', ..] if !line.to_ascii_lowercase().starts_with(b"#n/a") => {
                    let marks = text[start..end].iter();
                    let hashes = marks.take_while(|b| matches!(b, b'#' | b' ' | b'\t')).count();
                    found.last = Some((start + hashes, end));
                }
                [] if start > 0 => (),
                _ => break,
            }
            (found.bytes, found.lines) = (next, found.lines + 1);
        }
        found
    }
}

/// How many lines end in a text.
fn lines_between(text: &[u8]) -> u64 {
    let (mut at, mut lines) = (0, 0);
    while at < text.len() {
        (at, lines) = (line_at(text, at).1, lines + 1);
    }
    lines
}

/// The delimiter that cuts every row into the same number of cells, at least two; of several the
/// one that leaves most numbers. `comma` says whether decimals stand after commas, where that is
/// known.
fn guess_delimiter(sample: &[u8], comma: Option<bool>) -> u8 {
    let mut best = (b',', 0.0);
    for delimiter in [b',', b';', b'\t', b'|', b' '] {
        if delimiter == b',' && comma == Some(true) {
            continue;
        }
        let rows = sample_rows(sample, delimiter);
        let width = rows.first().map_or(0, ByteRecord::len);
        if width < 2 {
            continue;
        }
        let same = rows.iter().filter(|r| r.len() == width).count() as f64 / rows.len() as f64;
        let cells: usize = rows.iter().map(ByteRecord::len).sum();
        let number = |c: &&[u8]| {
            is_number(c, false)
                || (delimiter != b',' && comma != Some(false) && is_decimal_comma(c))
        };
        let numbers = rows.iter().flat_map(ByteRecord::iter).filter(number).count();
        // Ragged rows are worse than text cells; blanks are the last resort, as names may contain
        // them, unless they leave nothing but numbers with decimal commas.
        let commas =
            numbers == cells && rows.iter().flat_map(ByteRecord::iter).any(is_decimal_comma);
        let last_resort = if delimiter == b' ' && !commas { 0.5 } else { 1.0 };
        let score = (same * same * same + numbers as f64 / cells as f64) * last_resort;
        if score > best.1 {
            best = (delimiter, score);
        }
    }
    best.0
}

/// Whether the lines are one column of numbers with decimal commas, `0,694`, rather than two
/// columns of whole numbers: decimals with leading zeros, all of a length, or a header without a
/// comma say so. Where decimal commas are given, that each line is such a number is enough.
fn is_decimal_column(sample: &[u8], given: bool) -> bool {
    let rows = sample_rows(sample, 0x1f);
    let lines: Vec<&[u8]> = rows.iter().filter_map(|row| row.get(0)).collect();
    let Some((first, below)) = lines.split_first() else { return false };
    let header = !first.contains(&b',') && is_text(first, false) && !below.is_empty();
    let numbers = if header { below } else { &lines[..] };
    if !numbers.iter().all(|line| is_decimal_comma(line)) {
        return false;
    }
    let parts = || numbers.iter().map(|line| split_once(line, b','));
    let leading_zero = parts()
        .any(|(before, after)| matches!(before, b"-0") || (after.len() > 1 && after[0] == b'0'));
    let length = split_once(numbers[0], b',').1.len();
    let even = numbers.len() > 1 && parts().all(|(_, after)| after.len() == length);
    given || header || (leading_zero && even)
}

/// Whether the first row holds names: one of its cells is no number while nearly all cells below
/// are (a bad one among them is an error of its own line), or they count up from 0 or 1 above
/// decimals.
fn guess_header(rows: &[ByteRecord], decimal_comma: bool) -> bool {
    let Some((first, below)) = rows.split_first() else { return false };
    if below.is_empty() {
        return first.iter().all(|cell| is_text(cell, decimal_comma));
    }
    let decimals = first.iter().any(|cell| is_real(cell, decimal_comma));
    let names = first.iter().enumerate().any(|(column, cell)| {
        let below = || below.iter().filter_map(|r| r.get(column));
        let numbers = below().filter(|c| is_number(c, decimal_comma)).count();
        let text = below().filter(|c| is_text(c, decimal_comma)).count();
        is_text(cell, decimal_comma) && numbers > 0 && (text == 0 || (text < numbers && !decimals))
    });
    names || counts_up(first, below, decimal_comma)
}

/// Whether the first row holds names above columns of any cells: none of its cells is a number, a
/// date or missing, all differ, and none occurs again in its column; or one stands above a column
/// of dates.
fn names_texts(rows: &[ByteRecord], decimal_comma: bool) -> bool {
    let Some((first, below)) = rows.split_first() else { return false };
    let cells: Vec<&str> =
        first.iter().map(|cell| std::str::from_utf8(cell).unwrap_or_default().trim()).collect();
    let is_name = |cell: &&str| {
        is_text(cell.as_bytes(), decimal_comma) && !is_missing(cell) && !proposed(cell)
    };
    // the name of an index is often empty
    let names = if cells.len() > 1 && cells[0].is_empty() { &cells[1..] } else { &cells[..] };
    let distinct: HashSet<&&str> = names.iter().collect();
    if !names.iter().all(is_name) || distinct.len() < names.len() || below.is_empty() {
        return false;
    }
    let column = |k: usize| {
        let cells = below.iter().filter_map(move |row| row.get(k));
        cells.map(|cell| std::str::from_utf8(cell).unwrap_or_default().trim())
    };
    let again = |k: usize| column(k).any(|cell| cell == cells[k]);
    let dates = |k: usize| column(k).all(|cell| is_missing(cell) || proposed(cell));
    let all = cells.len() - names.len()..cells.len();
    let any_dates = all.clone().any(|k| dates(k) && column(k).any(|cell| !is_missing(cell)));
    any_dates || !all.clone().any(again)
}

/// Whether the first row is `0, 1, 2, …` or `1, 2, 3, …`, the names that columns get where they
/// have none, perhaps after an empty cell over an index. A row of data may look so too, so that the
/// columns below have to differ: two are names above decimals alone, more where some column holds
/// nothing but decimals, and five above whole numbers.
fn counts_up(first: &ByteRecord, below: &[ByteRecord], decimal_comma: bool) -> bool {
    let cells: Vec<&[u8]> = first.iter().map(<[u8]>::trim_ascii).collect();
    let over_index = cells.first().is_some_and(|cell| cell.is_empty());
    let names = &cells[usize::from(over_index)..];
    let start = match names.first() {
        Some(&b"0") => 0,
        Some(&b"1") => 1,
        _ => return false,
    };
    if names.len() < 2 || !(start..).zip(names).all(|(i, name)| i.to_string().as_bytes() == *name) {
        return false;
    }
    let decimals = (usize::from(over_index)..cells.len()).filter(|&column| {
        let mut cells = below.iter().filter_map(|row| row.get(column));
        cells.all(|c| matches!(parse(c, decimal_comma), Some(Cell::Real(_) | Cell::Missing)))
    });
    match names.len() {
        2 => decimals.count() == 2,
        3 | 4 => decimals.count() > 0,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delimiters_are_guessed() {
        for (text, expected) in [
            ("a,b\n1,2\n3,4\n", b','),
            ("a;b\n1.5;2\n3;4\n", b';'),
            ("a\tb\n1\t2\n", b'\t'),
            ("a|b\n1|2\n", b'|'),
            ("  1.0   2.0\n 3.0  4.0\n", b' '),
            ("1, 2\n3, 4\n", b','),
            ("first name,second\n1,2\n3,4\n", b','),
            ("1\n2\n", b','),
        ] {
            let found = guess_delimiter(text.as_bytes(), None);
            assert_eq!(found as char, expected as char, "{text:?}");
        }
    }

    #[test]
    fn headers_are_guessed() {
        let header = |text: &str| guess_header(&sample_rows(text.as_bytes(), b','), false);
        for names in [
            "a,b\n1,2\n3,x\n5,6\n",
            "a,b\n1,2\n3,4\na,b\n5,6\n",
            "0,1,2\n0.5,1.5,2\n0.25,-1.5,3\n",
            "0,1\n0.5,1.5\n0.25,-1.5\n",
            ",0,1\n0,0.5,1.5\n1,0.25,-1.5\n",
            "1,2,3,4,5\n0,0,7,0,1\n0,9,7,0,1\n",
        ] {
            assert!(header(names), "{names:?}");
        }
        for rows in [
            "0,1,2\n2,1,0\n1,0,2\n",
            "0,1\n0.1,0.995\n1,0.54\n",
            "1.5,x\n2.5,3\n3.5,4\n1,y\n",
            "4,2,3\n0.5,1.5,2\n",
            "1,2\n3,4\n",
        ] {
            assert!(!header(rows), "{rows:?}");
        }
    }

    #[test]
    fn headers_above_texts_are_guessed() {
        let header = |text: &str| {
            let options = TableOptions::default();
            guess_layout(text.as_bytes(), &options, false, Below::Anything).header
        };
        for names in [
            "name,colour\nann,red\nbob,blue\ncy,red\n",
            "when,who\n2013-01-31,ann\n2013-02-01,who\n",
            ",colour\na,red\nb,red\n",
            "colour,size\nred,1\nblue,\nred,2\n",
            "name\nann\nbob\n",
        ] {
            assert!(header(names), "{names:?}");
        }
        for rows in [
            "39, State-gov, Male\n50, Private, Male\n38, Private, Female\n",
            "State-gov,Male\nPrivate,Male\nState-gov,Female\n",
            "2013-01-31,ann\n2013-02-01,bob\n",
            "a,?\nb,x\n",
            "red,red\nblue,green\n",
        ] {
            assert!(!header(rows), "{rows:?}");
        }
    }

    #[test]
    fn decimal_commas_are_told_from_two_columns() {
        let layout = |text: &str| {
            let layout =
                guess_layout(text.as_bytes(), &TableOptions::default(), false, Below::Numbers);
            (layout.delimiter as char, layout.decimal_comma)
        };
        assert_eq!(layout("a;b\n0,14;-0,07\n1,89;2\n"), (';', true));
        assert_eq!(layout("a\tb\n1,047\t-0,429\n"), ('\t', true));
        assert_eq!(layout("1,5 2,5\n-3,25 4,1\n"), (' ', true));
        assert_eq!(layout("0,1294\n-0,0694\n1,0514\n"), (';', true));
        assert_eq!(layout("x\n1,12\n3,45\n"), (';', true));
        assert_eq!(layout("1,12\n3,45\n"), (',', false), "two columns, as far as one can tell");
        assert_eq!(layout("1,0\n3,45\n0,100\n"), (',', false));
        let thousands = "thousands or decimals: refused as text";
        assert_eq!(layout("a;b\n1,234;5,678\n"), (';', false), "{thousands}");
        assert_eq!(layout("a;b\n1.5;2\n"), (';', false));
    }

    #[test]
    fn what_stands_before_a_table_is_skipped() {
        let top = Preamble::of(b"# one\r\n# a,b\r\n1,2\r\n");
        assert_eq!((top.bytes, top.lines, top.last), (14, 2, Some((9, 12))));
        let top = Preamble::of(b"sep=;\na;b\n");
        assert_eq!((top.bytes, top.lines, top.separator), (6, 1, Some(b';')));
        assert_eq!(Preamble::of(b"#N/A,1\n2,3\n"), Preamble::default());
        assert_eq!(Preamble::of(b"\n1,2\n"), Preamble::default());
    }
}
