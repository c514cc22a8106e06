//! The rows of a file and the rows of a data set that was read from it.

use std::fmt;

use serde::Serialize;

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

/// Which rows of a file a data set has: all but some.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct FileRows {
    /// Numbers in the file of the rows that are not in the data set, increasing, from 0.
    pub skipped: Vec<usize>,
    /// Of a data set that was taken from another: the number in the file of each of its rows.
    pub taken: Option<Vec<usize>>,
}

impl FileRows {
    /// The number in the file of row `i` of the data set, both from 0.
    pub fn number(&self, i: usize) -> usize {
        if let Some(taken) = &self.taken {
            return taken[i];
        }
        // of the rows left out, that of the k-th at most `skipped[k] − k` kept ones come before it
        let before = |middle: usize| self.skipped[middle] - middle <= i;
        let (mut low, mut high) = (0, self.skipped.len());
        while low < high {
            let middle = (low + high) / 2;
            if before(middle) { low = middle + 1 } else { high = middle }
        }
        i + low
    }

    /// For each row of a file, its row in the data set, without end.
    pub fn in_file_order(&self) -> impl Iterator<Item = Option<usize>> + '_ {
        let (mut skipped, mut next) = (self.skipped.iter().copied().peekable(), 0..);
        (0..).map(move |number| match skipped.next_if_eq(&number) {
            Some(_) => None,
            None => next.next(),
        })
    }

    /// Leaves the rows `dropped` of the data set, increasing, out as well.
    pub fn drop(&mut self, dropped: &[usize]) {
        let numbers: Vec<usize> = dropped.iter().map(|&i| self.number(i)).collect();
        self.skipped.extend(numbers);
        self.skipped.sort_unstable();
    }

    /// The rows `rows` of the data set alone.
    pub fn take(&self, rows: &[usize]) -> FileRows {
        let taken = rows.iter().map(|&i| self.number(i)).collect();
        FileRows { skipped: self.skipped.clone(), taken: Some(taken) }
    }
}

#[cfg(test)]
mod tests {
    use crate::data::{Dataset, Missing, TableOptions};

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
        let table = Dataset::read_with(&path, &options).unwrap();
        assert_eq!((table.rows(), table.left_out_rows()), (24, vec![1, 2, 5, 9, 10, 30]));
        for i in 0..table.rows() {
            assert_eq!(table.place(i).row as f32, table.row(i)[0]);
        }
        assert_eq!(table.place(0).to_string(), "row 3");
        let part = table.take(&[7, 3]);
        for i in 0..2 {
            assert_eq!(part.place(i).row as f32, part.row(i)[0]);
        }
        let mut images = table.clone();
        images.files = (0..24).map(|i| format!("{i}.png")).collect();
        assert_eq!(images.place(1).to_string(), "image 1.png");
    }
}
