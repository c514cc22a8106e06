//! Rows shown as pictures.

use super::{Sheet, picture_of, sheet_of};

/// Black and white of images.
const LEVELS: (f64, f64) = (0.0, 255.0);

/// How rows are shown as pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pictures {
    /// Channels, height, width.
    shape: [usize; 3],
    /// Whether rows are images, levels 0…255.
    levels: bool,
}

impl Pictures {
    /// Rows are images of this shape (channels, height, width), levels 0…255.
    pub fn images(shape: [usize; 3]) -> Pictures {
        Pictures { shape, levels: true }
    }

    /// Rows of any numbers are shown in grey.
    pub fn grey(height: usize, width: usize) -> Pictures {
        Pictures { shape: [1, height, width], levels: false }
    }

    /// Black and white: of levels, 0 and 255; else the 1 % and 99 % quantiles of `values`.
    pub fn range(&self, values: &[f64]) -> (f64, f64) {
        if self.levels {
            return LEVELS;
        }
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |q: f64| sorted[((sorted.len() - 1) as f64 * q) as usize];
        // where all are alike they are grey
        match (at(0.01), at(0.99)) {
            (low, high) if low < high => (low, high),
            (value, _) => {
                let around = 1.0_f64.max(value.abs() / 2.0);
                (value - around, value + around)
            }
        }
    }

    /// A sheet with so many pictures a row.
    pub fn sheet(&self, values: &[f64], columns: usize, range: (f64, f64)) -> Sheet {
        sheet_of(values, self.shape, columns, range)
    }

    /// A square sheet of all rows.
    pub fn square(&self, values: &[f64]) -> Sheet {
        let rows = values.len() / self.shape.iter().product::<usize>();
        self.sheet(values, (rows as f64).sqrt().ceil() as usize, self.range(values))
    }

    /// Every row as a picture of its own size, all with one black and white.
    pub fn each(&self, values: &[f64]) -> impl ExactSizeIterator<Item = Sheet> {
        let (size, range) = (self.shape.iter().product::<usize>(), self.range(values));
        values.chunks_exact(size).map(move |row| picture_of(row, self.shape, range))
    }
}
