//! What is given of rows of a table with numbers and categories.

use std::cell::OnceCell;
use std::ops::Range;
use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use crate::tensor::upload;

/// How many numbers a row of a table has, and how many values each of its categories.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CellLayout {
    /// `d`, at least 1.
    pub numbers: usize,
    /// The number of values of each category.
    pub categories: Vec<usize>,
}

impl CellLayout {
    /// `V`: the values of all categories, side by side.
    pub fn values(&self) -> usize {
        self.categories.iter().sum()
    }

    /// The values of each category among all of them.
    pub fn ranges(&self) -> impl Iterator<Item = Range<usize>> {
        self.categories.iter().scan(0, |start, &values| {
            let range = *start..*start + values;
            *start = range.end;
            Some(range)
        })
    }
}

/// The part of a number in a question to a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The model is asked about it.
    Target,
    /// It is given.
    Given,
    /// It is neither: it is integrated out.
    Absent,
}

/// Rows of a table with numbers and categories, and the part that each number plays. Categories are
/// given or not.
///
/// A model of such rows is a density of the targets given the rest. In the rows `x_0` of its
/// queries the numbers that are no targets are 0, and so is what the model makes of them: `ε̂` is
/// `x_t/σ_t`, exactly the noise, and their part of `G` is the identity. A bound therefore has the
/// same constant for each of them, which depends on the times alone.
#[derive(Debug)]
pub struct Cells {
    layout: Arc<CellLayout>,
    /// `[b, d]`, the given ones; 0 elsewhere.
    numbers: Vec<f64>,
    roles: Vec<Role>,
    /// `[b, c]`.
    codes: Vec<u32>,
    tensors: OnceCell<CellTensors>,
}

/// [`Cells`] on a device.
#[derive(Debug)]
pub struct CellTensors {
    /// 1 where a number is a target, else 0, `[b, d]`, f32.
    pub targets: Tensor,
    /// 1 where a number is given, else 0, `[b, d]`, f32.
    pub given: Tensor,
    /// The given numbers, 0 elsewhere, `[b, d]`, f64.
    pub numbers: Tensor,
    /// 1 at the value of each category that is given, else 0, `[b, V]`, f32.
    pub one_hot: Tensor,
    /// Whether every number of every row is a target.
    pub all_targets: bool,
}

/// Some of the numbers and categories of rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Columns {
    /// Of each number whether it is one of them.
    pub numbers: Vec<bool>,
    /// Of each category whether it is one of them.
    pub categories: Vec<bool>,
}

impl Columns {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        !self.numbers.iter().chain(&self.categories).any(|&one| one)
    }
}

impl Cells {
    /// The code of a category that is not given.
    pub const MISSING: u32 = u32::MAX;

    /// Rows with these numbers `[b, d]`, of which those that are no [`Role::Given`] are not looked
    /// at, and categories `[b, c]`.
    ///
    /// # Panics
    /// If there are not as many as the layout says, a given number is not finite, or a code is not
    /// one of its category.
    pub fn new(
        layout: Arc<CellLayout>,
        mut numbers: Vec<f64>,
        roles: Vec<Role>,
        codes: Vec<u32>,
    ) -> Cells {
        let (d, c) = (layout.numbers, layout.categories.len());
        assert!(d > 0 && numbers.len().is_multiple_of(d), "whole rows of {d} numbers");
        assert_eq!(roles.len(), numbers.len(), "roles of numbers");
        assert_eq!(codes.len(), numbers.len() / d * c, "categories of rows");
        for (value, role) in numbers.iter_mut().zip(&roles) {
            match role {
                Role::Given => assert!(value.is_finite(), "a given number is {value}"),
                _ => *value = 0.0,
            }
        }
        for row in codes.chunks_exact(c.max(1)) {
            let fits = |(&code, &values): (&u32, &usize)| {
                (code as usize) < values || code == Cells::MISSING
            };
            assert!(row.iter().zip(&layout.categories).all(fits), "{row:?} for {layout:?}");
        }
        Cells { layout, numbers, roles, codes, tensors: OnceCell::new() }
    }

    /// What is known of rows: numbers `[b, d]`, NaN where they are not, are given or absent, and
    /// categories `[b, c]`.
    ///
    /// # Panics
    /// As [`Cells::new`].
    pub fn observed(layout: Arc<CellLayout>, numbers: Vec<f64>, codes: Vec<u32>) -> Cells {
        let role = |value: &f64| if value.is_nan() { Role::Absent } else { Role::Given };
        let roles = numbers.iter().map(role).collect();
        Cells::new(layout, numbers, roles, codes)
    }

    /// The question about rows `[b, d]` of numbers, NaN where they are not known, given all of
    /// their categories that are.
    ///
    /// # Panics
    /// As [`Cells::new`].
    pub fn targets(layout: Arc<CellLayout>, numbers: &[f64], codes: Vec<u32>) -> Cells {
        let role = |value: &f64| if value.is_nan() { Role::Absent } else { Role::Target };
        Cells::new(layout, vec![0.0; numbers.len()], numbers.iter().map(role).collect(), codes)
    }

    /// The same rows with only these numbers and categories, of which `columns` says: all others
    /// are absent.
    ///
    /// # Panics
    /// If there are not as many as the layout says.
    pub fn only(&self, columns: &Columns) -> Cells {
        let (d, c) = (self.layout.numbers, self.layout.categories.len());
        assert_eq!((columns.numbers.len(), columns.categories.len()), (d, c), "columns");
        let roles = self.roles.iter().enumerate();
        let roles = roles.map(|(i, &role)| match columns.numbers[i % d] {
            true => role,
            false => Role::Absent,
        });
        let codes = self.codes.iter().enumerate();
        let codes = codes.map(|(i, &code)| match columns.categories[i % c] {
            true => code,
            false => Cells::MISSING,
        });
        Cells::new(self.layout.clone(), self.numbers.clone(), roles.collect(), codes.collect())
    }

    /// `n` rows of which nothing is given, and about which nothing is asked.
    pub fn nothing(layout: Arc<CellLayout>, n: usize) -> Cells {
        let (d, c) = (layout.numbers, layout.categories.len());
        let codes = vec![Cells::MISSING; n * c];
        Cells::new(layout, vec![0.0; n * d], vec![Role::Absent; n * d], codes)
    }

    /// Whether every number of every row is a target.
    pub fn are_all_targets(&self) -> bool {
        self.roles.iter().all(|&role| role == Role::Target)
    }

    /// Numbers and categories of a row.
    pub fn layout(&self) -> &Arc<CellLayout> {
        &self.layout
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.numbers.len() / self.layout.numbers
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// The given numbers, 0 elsewhere, `[b, d]` row-major.
    pub fn numbers(&self) -> &[f64] {
        &self.numbers
    }

    /// The part of every number, `[b, d]` row-major.
    pub fn roles(&self) -> &[Role] {
        &self.roles
    }

    /// The categories, [`Cells::MISSING`] where one is not given, `[b, c]` row-major.
    pub fn codes(&self) -> &[u32] {
        &self.codes
    }

    /// On `device`, made at their first use.
    pub fn tensors(&self, device: Device) -> &CellTensors {
        let tensors = self.tensors.get_or_init(|| {
            let (b, d) = (self.len() as i64, self.layout.numbers as i64);
            let flag = |role: Role| {
                let flags: Vec<f32> = self.roles.iter().map(|&r| f32::from(r == role)).collect();
                upload(&Tensor::from_slice(&flags).view([b, d]), Kind::Float, device)
            };
            let (values, c) = (self.layout.values(), self.layout.categories.len());
            let mut one_hot = vec![0f32; self.len() * values];
            for (row, codes) in self.codes.chunks_exact(c.max(1)).enumerate() {
                for (range, &code) in self.layout.ranges().zip(codes) {
                    if code != Cells::MISSING {
                        one_hot[row * values + range.start + code as usize] = 1.0;
                    }
                }
            }
            let one_hot = Tensor::from_slice(&one_hot).view([b, values as i64]);
            CellTensors {
                targets: flag(Role::Target),
                given: flag(Role::Given),
                numbers: upload(
                    &Tensor::from_slice(&self.numbers).view([b, d]),
                    Kind::Double,
                    device,
                ),
                one_hot: upload(&one_hot, Kind::Float, device),
                all_targets: self.are_all_targets(),
            }
        });
        assert_eq!(tensors.targets.device(), device, "cells on one device");
        tensors
    }

    /// These rows, in this order.
    pub fn rows(&self, rows: impl Iterator<Item = usize> + Clone) -> Cells {
        let (d, c) = (self.layout.numbers, self.layout.categories.len());
        fn pick<T: Copy>(all: &[T], each: usize, rows: impl Iterator<Item = usize>) -> Vec<T> {
            rows.flat_map(|row| all[row * each..(row + 1) * each].iter().copied()).collect()
        }
        Cells {
            layout: self.layout.clone(),
            numbers: pick(&self.numbers, d, rows.clone()),
            roles: pick(&self.roles, d, rows.clone()),
            codes: pick(&self.codes, c, rows),
            tensors: OnceCell::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::to_vec;

    #[test]
    fn cells_follow_their_rows() {
        let layout = Arc::new(CellLayout { numbers: 2, categories: vec![3, 2] });
        let (numbers, missing) = (vec![0.5, f64::NAN, -1.0, 2.0], Cells::MISSING);
        let cells = Cells::observed(layout.clone(), numbers.clone(), vec![2, missing, 0, 1]);
        assert_eq!(cells.numbers(), [0.5, 0.0, -1.0, 2.0]);
        let tensors = cells.tensors(Device::Cpu);
        assert_eq!(to_vec(&tensors.given), [1.0, 0.0, 1.0, 1.0]);
        assert_eq!(to_vec(&tensors.one_hot), [0., 0., 1., 0., 0., 1., 0., 0., 0., 1.]);
        assert!(!tensors.all_targets);
        let turned = cells.rows([1, 0, 1].into_iter());
        assert_eq!(turned.codes(), [0, 1, 2, missing, 0, 1]);
        assert_eq!(turned.roles()[2..4], [Role::Given, Role::Absent]);
        let asked = Cells::targets(layout, &numbers, vec![missing; 4]);
        assert_eq!(asked.roles()[..2], [Role::Target, Role::Absent]);
        assert!(asked.numbers().iter().all(|&value| value == 0.0));
    }
}
