//! `docs/equations.md` points at files and items that exist.

use std::path::Path;

#[test]
fn every_entry_points_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = std::fs::read_to_string(root.join("docs/equations.md")).unwrap().replace("\\|", "¦");
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|l| l.starts_with("| ") && l.contains("`crates/"))
        .map(|l| l.trim_matches('|').split('|').map(|c| c.trim().trim_matches('`')).collect())
        .collect();
    assert!(rows.len() > 20, "the table was not found");
    for row in rows {
        let [_, equation, file, item] = row[..] else { panic!("not four cells: {row:?}") };
        let text = std::fs::read_to_string(root.join(file))
            .unwrap_or_else(|_| panic!("{equation}: no {file}"));
        let forms = ["fn ", "struct ", "enum ", "    "].map(|before| format!("{before}{item}"));
        assert!(forms.iter().any(|f| text.contains(f)), "{equation}: no `{item}` in {file}");
    }
}
