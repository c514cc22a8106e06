//! Where a row of a table stands in its file.

use std::fmt;

use serde::Serialize;

use super::table::Table;

/// A row as its file counts it, for messages and for output. It displays as `row 7`, or as the path
/// of its image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The number of the row in its file, from 1. A header is no row; rows that were left out are.
    pub row: usize,
    /// The image's path below the folder that was read; none where all rows are of one file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "image {file}"),
            None => write!(f, "row {}", self.row),
        }
    }
}

impl Table {
    /// Where row `i` of the table, from 0, stands in its file.
    pub fn place(&self, i: usize) -> Place {
        // rows left out are increasing, so that of the k-th at most `skipped[k] − k` rows that are
        // kept come before it
        let (mut low, mut high) = (0, self.skipped.len());
        while low < high {
            let middle = (low + high) / 2;
            match self.skipped[middle] - middle <= i {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        Place { row: i + low + 1, file: self.files.get(i).cloned() }
    }

    /// The numbers of the rows of the file that are not in the table, from 1, increasing.
    pub fn left_out(&self) -> Vec<usize> {
        self.skipped.iter().map(|row| row + 1).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::data::{Missing, Table, TableOptions};

    /// Row `i` of the table holds the number of its row in the file.
    #[test]
    fn rows_are_counted_as_the_file_counts_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.csv");
        let cell = |row: usize| {
            if [1, 2, 5, 9, 10, 30].contains(&row) { String::new() } else { row.to_string() }
        };
        let text: String = (1..=30).map(|row| format!("{},1\n", cell(row))).collect();
        std::fs::write(&path, format!("a,b\n{text}")).unwrap();
        let options = TableOptions { missing: Missing::DropRows, ..TableOptions::default() };
        let table = Table::read(&path, &options).unwrap();
        assert_eq!((table.rows(), table.left_out()), (24, vec![1, 2, 5, 9, 10, 30]));
        for i in 0..table.rows() {
            assert_eq!(table.place(i).row as f32, table.row(i)[0]);
        }
        assert_eq!(table.place(0).to_string(), "row 3");
        let mut images = table.clone();
        images.files = (0..24).map(|i| format!("{i}.png")).collect();
        assert_eq!(images.place(1).to_string(), "image 1.png");
    }
}
