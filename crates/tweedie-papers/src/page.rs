//! Pages: Markdown templates filled with values, tables and figures.
//!
//! `{{name}}` is a value, `{{table:name}}` a table, `{{figure:name}}` an image by the file name in
//! the value `name`, `{{setting:path}}` a setting. What lies between `{{#name}}` and `{{/name}}` is
//! repeated for every page of that name inside, which sees its own values first; there are none
//! where it is to be left out.

use serde_json::Value;

use tweedie::{Error, Result};
use tweedie_report::table::Table;

/// What a template is filled with.
#[derive(Clone, Debug, Default)]
pub struct Page {
    values: Vec<(String, String)>,
    parts: Vec<(String, Vec<Page>)>,
}

impl Page {
    /// An empty page.
    pub fn new() -> Page {
        Page::default()
    }

    /// With a value.
    pub fn with(mut self, name: &str, value: impl ToString) -> Page {
        self.values.push((name.into(), value.to_string()));
        self
    }

    /// With a table.
    pub fn table(self, name: &str, table: &Table) -> Page {
        let text = table.markdown();
        self.with(&format!("table:{name}"), text.trim_end())
    }

    /// With parts that are repeated, one for each page.
    pub fn each(mut self, name: &str, parts: impl IntoIterator<Item = Page>) -> Page {
        self.parts.push((name.into(), parts.into_iter().collect()));
        self
    }

    /// With a part that is there or not.
    pub fn when(self, name: &str, part: Option<Page>) -> Page {
        self.each(name, part)
    }

    /// `template` filled.
    ///
    /// # Errors
    /// If the template asks for what is not there.
    pub fn fill(&self, template: &str, settings: &Value) -> Result<String> {
        fill(template, &[self], settings)
            .map(|text| paragraphs(&text))
            .map_err(|e| Error::numeric(format!("page template: {e}"), "please report this"))
    }
}

/// `template` filled by the innermost of `pages`, which stands last, that has a name.
fn fill(template: &str, pages: &[&Page], settings: &Value) -> std::result::Result<String, String> {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        out += before;
        let (name, after) = after.split_once("}}").ok_or("{{ without }}")?;
        rest = after;
        if let Some(name) = name.strip_prefix('#') {
            let end = format!("{{{{/{name}}}}}");
            let (inside, after) = rest.split_once(&end).ok_or(format!("no {end}"))?;
            rest = after;
            let parts = pages.iter().rev().find_map(|page| {
                page.parts.iter().find(|(own, _)| own == name).map(|(_, parts)| parts)
            });
            for part in parts.ok_or(format!("no part {name}"))? {
                out += &fill(inside, &[pages, &[part]].concat(), settings)?;
            }
            continue;
        }
        let value = |name: &str| {
            pages.iter().rev().find_map(|page| {
                page.values.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
            })
        };
        out += &match (name.strip_prefix("setting:"), name.strip_prefix("figure:")) {
            (Some(path), _) => setting(settings, path).ok_or(format!("no setting {path}"))?,
            (_, Some(file)) => format!("![]({})", value(file).unwrap_or(file)),
            _ => value(name).ok_or(format!("no value {name}"))?.to_string(),
        };
    }
    Ok(out + rest)
}

/// The text with each paragraph on one line, so that no line begins with what Markdown takes for
/// something else, and one empty line between blocks.
fn paragraphs(text: &str) -> String {
    let plain = |block: &str| !block.starts_with(['|', '#', '-', '!', '>']);
    let blocks = text.split("\n\n").map(str::trim).filter(|block| !block.is_empty());
    let blocks = blocks.map(|block| match plain(block) {
        true => block.replace('\n', " "),
        false => block.to_string(),
    });
    blocks.collect::<Vec<_>>().join("\n\n") + "\n"
}

/// A setting as a reader writes it.
fn setting(settings: &Value, path: &str) -> Option<String> {
    let show = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let found = path.split('.').try_fold(settings, |tree, name| tree.get(name))?;
    Some(match found {
        Value::Array(all) => all.iter().map(show).collect::<Vec<_>>().join(", "),
        other => show(other),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_tables_settings_and_parts_have_their_places() {
        let inner = |name: &str| Page::new().with("name", name).with("file", format!("{name}.svg"));
        let page = Page::new()
            .with("name", "outer")
            .table("main", &Table::new(["a", "b"]).row(["1", "2"]))
            .each("parts", [inner("nine"), inner("ten")])
            .when("distance", None);
        let template = "{{name}}\n{{setting:steps}} {{setting:recipe.width}}\n\n\n\
                        {{table:main}}\n\n\
                        {{#parts}}{{name}} {{figure:file}} {{/parts}}{{#distance}}no{{/distance}}.";
        let settings = serde_json::json!({ "steps": [5, 10], "recipe": { "width": 64 } });
        let filled = page.fill(template, &settings).unwrap();
        let table = "| a | b |\n|---|---:|\n| 1 | 2 |";
        assert_eq!(
            filled,
            format!("outer 5, 10 64\n\n{table}\n\nnine ![](nine.svg) ten ![](ten.svg) .\n")
        );
        for wrong in
            ["{{missing}}", "{{setting:trials}}", "{{#parts}}", "{{table:other}}", "{{name"]
        {
            assert!(page.fill(wrong, &settings).is_err(), "{wrong}");
        }
    }
}
