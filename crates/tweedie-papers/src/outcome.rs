//! What an experiment found: tables, figures and the page about them.

use std::path::Path;

use serde_json::{Value, json};

use tweedie::data::OutputFile;
use tweedie::{Error, Result};
use tweedie_report::plot::Sheet;
use tweedie_report::table::Table;

use crate::page::Page;

/// What an experiment found.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Tables by the names of their CSV files, without `.csv`; the first is the experiment's.
    pub tables: Vec<(String, Table)>,
    /// Figures by the names of their files.
    pub figures: Vec<(String, String)>,
    /// Sheets of images by the names of their files.
    pub sheets: Vec<(String, Sheet)>,
    /// What the page is filled with.
    pub page: Page,
}

/// How a page came to be.
#[derive(Clone, Debug, Default)]
pub struct Provenance {
    /// The command line.
    pub command: String,
    /// The day, and the program's version.
    pub date: String,
    /// The version of the program.
    pub version: String,
    /// Seconds that it took.
    pub seconds: f64,
    /// Whether it was made at small sizes, which show only that it runs.
    pub quick: bool,
    /// The seed of everything random.
    pub seed: u64,
}

/// The warning on the page of an experiment that was run at small sizes.
const QUICK: &str = include_str!("quick.md");

impl Outcome {
    /// With a table and the page that it is on.
    pub fn new(name: &str, table: Table, page: Page) -> Outcome {
        Outcome { tables: vec![(name.into(), table)], page, ..Outcome::default() }
    }

    /// With another table.
    pub fn table(mut self, name: &str, table: Table) -> Outcome {
        self.tables.push((name.into(), table));
        self
    }

    /// With a figure, an SVG text.
    pub fn figure(mut self, file: impl Into<String>, svg: String) -> Outcome {
        self.figures.push((file.into(), svg));
        self
    }

    /// With further figures.
    pub fn figures(mut self, figures: impl IntoIterator<Item = (String, String)>) -> Outcome {
        self.figures.extend(figures);
        self
    }

    /// The names of all files of figures.
    fn figure_names(&self) -> Vec<&str> {
        let figures = self.figures.iter().map(|(name, _)| name.as_str());
        figures.chain(self.sheets.iter().map(|(name, _)| name.as_str())).collect()
    }

    /// Writes tables, figures and sheets into `dir`, each whole or not at all.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, dir: &Path) -> Result<()> {
        std::fs::create_dir_all(dir).map_err(Error::io(dir))?;
        let put =
            |name: &str, text: &str| OutputFile::create(dir.join(name))?.finish(text.as_bytes());
        self.tables
            .iter()
            .try_for_each(|(name, table)| put(&format!("{name}.csv"), &table.csv()))?;
        self.figures.iter().try_for_each(|(name, svg)| put(name, svg))?;
        self.sheets.iter().try_for_each(|(name, sheet)| sheet.save(dir.join(name)))
    }

    /// The page `name`: the template filled, below its title how it came to be.
    ///
    /// # Errors
    /// If the template asks for what is not there.
    pub fn markdown(
        &self,
        name: &str,
        template: &str,
        settings: &Value,
        made: &Provenance,
    ) -> Result<String> {
        let page = self.page.fill(template, settings)?;
        let (title, rest) = page.split_once('\n').unwrap_or((&page, ""));
        let Provenance { command, date, version, seconds, quick, seed } = made;
        let banner = if *quick { QUICK } else { "" };
        Ok(format!(
            "{title}\n\n{banner}*`{name}`, tweedie {version}, {date}, seed {seed}, \
             {seconds:.0} s:* \
             `{command}`\n{rest}"
        ))
    }

    /// The outcome as one JSON object: settings, rows of every table, names of the figures.
    pub fn json(&self, settings: &Value) -> Value {
        let tables: serde_json::Map<String, Value> =
            self.tables.iter().map(|(name, table)| (name.clone(), rows(table))).collect();
        json!({ "settings": settings, "tables": tables, "figures": self.figure_names() })
    }
}

/// The rows of a table as objects, a field for each column of its CSV file.
fn rows(table: &Table) -> Value {
    let text = table.csv();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let head = reader.headers().cloned().unwrap_or_default();
    let cell = |cell: &str| match cell {
        "" | "NaN" => Value::Null,
        text => serde_json::from_str::<serde_json::Number>(text)
            .map_or_else(|_| text.into(), Value::Number),
    };
    let row = |row: csv::StringRecord| -> Value {
        let cells = head.iter().zip(row.iter());
        cells
            .map(|(name, text)| (name.to_string(), cell(text)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    reader.records().filter_map(|row| row.ok()).map(row).collect()
}
