//! Equal rows and equal data sets.

use super::Dataset;
use super::column::ColumnKind;

/// What a digest starts from: FNV's offset.
const START: u64 = 0xcbf2_9ce4_8422_2325;

impl Dataset {
    /// How many rows equal an earlier row, in single precision.
    pub fn duplicate_rows(&self) -> usize {
        self.duplicates().len()
    }

    /// A digest of the columns, values and labels, 16 hexadecimal digits: equal for equal data on
    /// every platform and in every version, different (but for chance, 2⁻⁶⁴) for different ones.
    /// Not for secrets.
    pub fn fingerprint(&self) -> String {
        let mut hash = hash_word(START, self.rows() as u64);
        for column in self.columns() {
            hash = hash_word(hash, column.name.len() as u64);
            hash = column.name.bytes().fold(hash, |hash, byte| hash_word(hash, byte.into()));
            hash = hash_word(hash, u64::from(column.kind == ColumnKind::Integer));
        }
        let named = self.table().iter().filter_map(|(_, values)| values.categories());
        for name in named.flat_map(|categories| &*categories.names) {
            hash = hash_word(hash, name.len() as u64);
            hash = name.bytes().fold(hash, |hash, byte| hash_word(hash, byte.into()));
        }
        let hash = (0..self.rows())
            .fold(hash, |hash, i| hash_row(hash_row(hash, &self.row(i)), self.deviations(i)));
        let labels = self.labels.iter().flat_map(|labels| &labels.of_rows);
        format!("{:016x}", labels.fold(hash, |hash, &label| hash_word(hash, label.into())))
    }

    /// The rows that equal an earlier row, increasing.
    fn duplicates(&self) -> Vec<usize> {
        let mut order: Vec<(u64, usize)> =
            (0..self.rows()).map(|i| (hash_row(1, &self.row(i)), i)).collect();
        order.sort_unstable();
        let mut duplicates = Vec::new();
        for group in order.chunk_by(|a, b| a.0 == b.0) {
            for (k, &(_, i)) in group.iter().enumerate().skip(1) {
                let row = self.row(i);
                if group[..k].iter().take(8).any(|&(_, j)| same_rows(&self.row(j), &row)) {
                    duplicates.push(i);
                }
            }
        }
        duplicates.sort_unstable();
        duplicates
    }

    /// Keeps only the first of equal rows.
    pub(super) fn drop_duplicates(&mut self) {
        let duplicates = self.duplicates();
        let mut gone = duplicates.iter().copied().peekable();
        let kept: Vec<usize> =
            (0..self.rows()).filter(|row| gone.next_if_eq(row).is_none()).collect();
        self.retain(&kept);
        self.file_rows.drop(&duplicates);
        self.dropped_duplicates = duplicates.len();
    }
}

/// A digest of these words, 16 hexadecimal digits, as [`Dataset::fingerprint`] has them.
pub(crate) fn hash_words(words: impl Iterator<Item = u64>) -> String {
    format!("{:016x}", words.fold(START, hash_word))
}

fn hash_word(hash: u64, word: u64) -> u64 {
    // FNV-1a on words, with a rotation so that high bits reach low ones.
    ((hash ^ word).wrapping_mul(0x0000_0100_0000_01b3_u64 | 0x9e37_0000_0000_0000)).rotate_left(29)
}

fn hash_row(hash: u64, values: &[f32]) -> u64 {
    // Adding zero makes -0 and 0 one, and a hole is the same whatever its bits are.
    let bits = |value: f32| if value.is_nan() { f32::NAN } else { value + 0.0 }.to_bits();
    values.iter().fold(hash, |hash, &value| hash_word(hash, bits(value).into()))
}

/// Whether rows have the same values, and holes in the same columns.
pub(super) fn same_rows(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a == b || (a.is_nan() && b.is_nan()))
}
