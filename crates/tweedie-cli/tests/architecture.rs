//! The layers that `docs/architecture.md` lists are those of the sources.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Layer by layer, from the ground up, the modules of each.
fn layers() -> Vec<Vec<String>> {
    let page = std::fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let list = page.split("```layers\n").nth(1).expect("a list of layers").split("```").next();
    let names = |line: &str| line.split(',').map(|name| name.trim().to_string()).collect();
    list.unwrap().lines().map(names).collect()
}

/// Every source file under `dir`.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// A file's text without its tests, comments and strings that span no code.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let before_tests = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let before_tests = before_tests.split("#[cfg(test)]\npub(crate) mod tests {").next().unwrap();
    before_tests.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// The top-level modules that code names after `crate::`, alone or in braces.
fn named(code: &str) -> BTreeSet<String> {
    let word = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let mut found = BTreeSet::new();
    for after in code.split("crate::").skip(1) {
        match after.strip_prefix('{') {
            None => {
                found.insert(word(after));
            }
            Some(inside) => {
                // names at the first level of the braces
                let mut depth = 0;
                let mut start = true;
                for (at, c) in inside.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => start = true,
                        c if start && !c.is_whitespace() => {
                            found.insert(word(&inside[at..]));
                            start = false;
                        }
                        _ => (),
                    }
                }
            }
        }
    }
    found
}

/// No module imports one of its own layer or a later one, hence there is no circle; and every
/// module has a layer.
#[test]
fn imports_go_down() {
    let layers = layers();
    let level: BTreeMap<&str, usize> = (layers.iter().enumerate())
        .flat_map(|(level, names)| names.iter().map(move |name| (name.as_str(), level)))
        .collect();
    let source = root().join("crates/tweedie/src");
    let mut modules = BTreeSet::new();
    for path in files(&source).iter().filter(|path| path.extension().is_some_and(|e| e == "rs")) {
        let inside = path.strip_prefix(&source).unwrap();
        let first = inside.iter().next().unwrap().to_string_lossy().replace(".rs", "");
        if first == "lib" || first == "prelude" || path.ends_with("tests.rs") {
            continue;
        }
        let own = *level.get(&*first).unwrap_or_else(|| panic!("`{first}` has no layer"));
        for other in named(&code(path)) {
            let Some(&theirs) = level.get(&*other) else { continue };
            assert!(
                other == first || theirs < own,
                "{}: `{first}` imports `{other}`, which is no lower layer",
                inside.display()
            );
        }
        modules.insert(first);
    }
    let listed: BTreeSet<String> = level.keys().map(|name| name.to_string()).collect();
    assert_eq!(modules, listed, "modules against those that the page lists");
}

/// The scanner sees what it is to see.
#[test]
fn imports_are_found() {
    let code = "use crate::a::B;\nuse crate::{Error, c::{D, e}, f};\nlet x = crate::g::h();";
    let expected = ["Error", "a", "c", "f", "g"];
    assert_eq!(named(code), expected.map(String::from).into());
}

/// A package imports the packages before it in the list, no other.
#[test]
fn packages_see_those_below() {
    let packages = ["tweedie", "tweedie-report", "tweedie-papers", "tweedie-cli", "tweedie-python"];
    for (i, package) in packages.iter().enumerate() {
        let manifest = root().join("crates").join(package).join("Cargo.toml");
        let manifest = std::fs::read_to_string(manifest).unwrap();
        for other in &packages[i + 1..] {
            assert!(!manifest.contains(&format!("\n{other} =")), "{package} depends on {other}");
        }
    }
}
