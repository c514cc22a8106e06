//! One cell of a text file.

use crate::data::column::Cell;

/// What a cell holds; none where it is neither a number nor missing.
pub(in crate::data) fn parse(cell: &[u8], decimal_comma: bool) -> Option<Cell> {
    let cell = cell.trim_ascii();
    // some programs write U+2212 for a minus
    if let Some(rest) = cell.strip_prefix("\u{2212}".as_bytes()) {
        return parse(&[b"-", rest].concat(), decimal_comma);
    }
    if decimal_comma && cell.contains(&b',') {
        let with_point = || cell.iter().map(|&b| if b == b',' { b'.' } else { b });
        let number = is_decimal_comma(cell).then(|| with_point().collect::<Vec<_>>());
        return number.and_then(|number| parse(&number, false));
    }
    let digits = unsigned(cell);
    let whole = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    if whole && digits.len() <= 15 {
        let magnitude = digits.iter().fold(0, |n, d| 10 * n + i64::from(d - b'0'));
        return Some(Cell::Integer(if cell[0] == b'-' { -magnitude } else { magnitude }));
    }
    // Short of a number there are only a few spellings of "missing".
    let text = std::str::from_utf8(cell).ok()?;
    let marks = ["", "na", "n/a", "nan", "null", "none", "?", "#n/a"];
    match text.parse::<f64>() {
        Ok(value) if value.is_nan() => Some(Cell::Missing),
        // where commas are decimal, a point may separate thousands
        Ok(_) if decimal_comma && cell.contains(&b'.') => None,
        Ok(value) => Some(text.parse().map_or(Cell::Real(value), Cell::Integer)),
        Err(_) => marks.iter().any(|m| text.eq_ignore_ascii_case(m)).then_some(Cell::Missing),
    }
}

pub(super) fn is_number(cell: &[u8], decimal_comma: bool) -> bool {
    matches!(parse(cell, decimal_comma), Some(Cell::Integer(_) | Cell::Real(_)))
}

pub(super) fn is_real(cell: &[u8], decimal_comma: bool) -> bool {
    matches!(parse(cell, decimal_comma), Some(Cell::Real(_)))
}

pub(super) fn is_text(cell: &[u8], decimal_comma: bool) -> bool {
    parse(cell, decimal_comma).is_none()
}

fn unsigned(cell: &[u8]) -> &[u8] {
    match cell {
        [b'+' | b'-', rest @ ..] => rest,
        all => all,
    }
}

/// Whether a cell is a number with its decimals after a comma: digits on both sides of the only
/// one, and no point.
pub(super) fn is_decimal_comma(cell: &[u8]) -> bool {
    let cell = cell.trim_ascii();
    let cell = cell.strip_prefix("\u{2212}".as_bytes()).unwrap_or(cell);
    let mut parts = cell.split(|&b| b == b',');
    let (Some(before), Some(after), None) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let whole = |digits: &[u8]| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let digits = after.iter().take_while(|b| b.is_ascii_digit()).count();
    let exponent = match &after[digits..] {
        [] => true,
        [b'e' | b'E', rest @ ..] => whole(unsigned(rest)),
        _ => false,
    };
    whole(unsigned(before)) && digits > 0 && exponent
}

/// What stands before and after the first `mark` of a cell.
pub(super) fn split_once(cell: &[u8], mark: u8) -> (&[u8], &[u8]) {
    let cell = cell.trim_ascii();
    match cell.iter().position(|&b| b == mark) {
        Some(at) => (&cell[..at], &cell[at + 1..]),
        None => (cell, b""),
    }
}

/// What a cell that is no number may be.
pub(in crate::data) fn hint(cell: &[u8], decimal_comma: bool) -> &'static str {
    let cell = cell.trim_ascii();
    if !cell.iter().any(u8::is_ascii_digit) {
        return "";
    }
    let has_comma = cell.contains(&b',');
    let digits = |group: &[u8]| group.iter().take_while(|b| b.is_ascii_digit()).count();
    let thousands = has_comma && cell.split(|&b| b == b',').skip(1).all(|g| digits(g) >= 3);
    if decimal_comma && cell.contains(&b'.') {
        " (with a point, where decimals stand after commas)"
    } else if is_decimal_comma(cell) && !thousands {
        " (with a decimal comma, where decimals stand after points)"
    } else if thousands {
        " (with commas between thousands?)"
    } else if cell.ends_with(b"%") || !cell[0].is_ascii() || b"$<>".contains(&cell[0]) {
        " (a number with a sign or unit beside it?)"
    } else if cell.iter().all(|b| b.is_ascii_digit() || b"-/:. T".contains(b)) {
        " (a date or time?)"
    } else {
        ""
    }
}

/// A cell for a message: short, on one line.
pub(in crate::data) fn quoted(cell: &[u8]) -> String {
    match std::str::from_utf8(cell) {
        Err(_) => "bytes that are not UTF-8 text".to_owned(),
        Ok("") => "an empty cell".to_owned(),
        Ok(text) => {
            let mut short: String = text.chars().take(40).collect();
            if short.len() < text.len() {
                short.push('…');
            }
            format!("{short:?}")
        }
    }
}
