//! Tables of strings as Markdown and CSV.

use std::fmt::Write as _;

/// A Markdown table; the first column is text, the others are aligned to the right.
pub(crate) fn markdown<H: AsRef<str>>(head: &[H], rows: &[Vec<String>]) -> String {
    let head: Vec<&str> = head.iter().map(AsRef::as_ref).collect();
    let mut out = format!("| {} |\n|---|{}\n", head.join(" | "), "---:|".repeat(head.len() - 1));
    for row in rows {
        let _ = writeln!(out, "| {} |", row.join(" | "));
    }
    out
}

/// A CSV file; cells with a comma or a quote are quoted.
pub(crate) fn csv<H: AsRef<str>>(head: &[H], rows: &[Vec<String>]) -> String {
    let head: Vec<&str> = head.iter().map(AsRef::as_ref).collect();
    let quoted = |cell: &String| match cell.contains([',', '"', '\n']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.clone(),
    };
    let mut out = head.join(",") + "\n";
    for row in rows {
        out += &(row.iter().map(quoted).collect::<Vec<_>>().join(",") + "\n");
    }
    out
}

/// A number in a CSV file, or an empty cell where nothing was measured.
pub(crate) fn number(value: Option<f64>) -> String {
    value.map_or(String::new(), |v| format!("{v:.6}"))
}

/// `value ± error`, or an empty cell where nothing was measured; no error where there is none.
pub(crate) fn measured(value: Option<(f64, f64)>, digits: usize) -> String {
    match value {
        None => String::new(),
        Some((value, error)) if error.is_finite() => format!("{value:.digits$} ± {error:.digits$}"),
        Some((value, _)) => format!("{value:.digits$}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_stay_cells() {
        let rows = [vec!["a, \"b\"".to_string(), "1".to_string()]];
        assert_eq!(csv(&["what", "n"], &rows), "what,n\n\"a, \"\"b\"\"\",1\n");
        assert_eq!(markdown(&["what", "n"], &rows), "| what | n |\n|---|---:|\n| a, \"b\" | 1 |\n");
        assert_eq!(measured(Some((1.25, f64::NAN)), 1), "1.2");
        assert_eq!(measured(Some((1.25, 0.5)), 2), "1.25 ± 0.50");
        assert_eq!(measured(None, 2), "");
    }
}
