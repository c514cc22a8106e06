//! The input of a model: rows, their times, and the condition that is given with them.
//!
//! [`Times`] know whether all rows have the same time. If they do, every coefficient of a formula
//! is one number and nothing is copied to a device. If they do not, all coefficients that a step
//! needs travel in one table.
//!
//! ```
//! use tweedie::query::{Query, Times};
//! use tweedie::schedule::{Schedule, Vp};
//! use tweedie::tch::{Device, Tensor};
//!
//! let schedule = Vp::default();
//! let times = Times::each(vec![0.1, 0.5]);
//! assert!(matches!(Times::each(vec![0.3, 0.3]), Times::All(0.3)));
//!
//! // x_t = α_t x_0 + σ_t ε, each row at its own time
//! let (x0, noise) = (Tensor::from_slice2(&[[1.0], [1.0]]), Tensor::from_slice2(&[[0.0], [2.0]]));
//! let (alpha, sigma) = times.marginal(&schedule, Device::Cpu);
//! let x = x0 * &alpha + noise * &sigma;
//! let q = Query::new(&x, &times);
//! let expected = schedule.alpha(q.times.get(1)) + 2.0 * schedule.sigma(q.times.get(1));
//! assert!((q.x.double_value(&[1, 0]) - expected).abs() < 1e-12);
//! ```

mod cells;

use std::cell::OnceCell;
use std::ops::{Add, Div, Mul, Neg, Range, Sub};

use tch::{Device, Kind, Tensor};

use crate::schedule::Schedule;
use crate::tensor::upload;
pub use cells::{CellLayout, CellTensors, Cells, Columns, Role};

/// The times of a batch of rows.
#[derive(Debug)]
pub enum Times {
    /// One time for all rows.
    All(f64),
    /// A time for each row.
    Each(EachTime),
}

/// A time for each row, and its table on the device that it is used on.
#[derive(Debug)]
pub struct EachTime {
    times: Vec<f64>,
    /// Made at its first use.
    table: OnceCell<Table>,
}

/// The coefficients of unequal times under one schedule, on one device.
#[derive(Debug)]
struct Table {
    /// `t`, `α_t` and `σ_t`, and others after them, `[b, 3 + K]` in f64.
    values: Tensor,
    /// `α_t` and `σ_t` of the first row: those of another schedule differ.
    schedule: Option<[f64; 2]>,
}

impl EachTime {
    fn mark(&self, schedule: &dyn Schedule) -> Option<[f64; 2]> {
        self.times.first().map(|&t| [schedule.alpha(t), schedule.sigma(t)])
    }
}

/// The columns of the table of an [`EachTime`].
const TIME: i64 = 0;
const ALPHA: i64 = 1;
const SIGMA: i64 = 2;
const OWN_COLUMNS: usize = 3;

impl Times {
    /// A time for each row; [`Times::All`] where they are one.
    pub fn each(times: Vec<f64>) -> Times {
        match times.as_slice() {
            [first, rest @ ..] if rest.iter().all(|t| t == first) => Times::All(*first),
            _ => Times::Each(EachTime { times, table: OnceCell::new() }),
        }
    }

    /// A time for each row, and further coefficients of each row: one upload of all of them.
    /// `columns` has as many rows as there are times.
    pub fn with_columns<const K: usize>(
        schedule: &dyn Schedule,
        times: Vec<f64>,
        columns: impl IntoIterator<Item = [f64; K]>,
        device: Device,
    ) -> (Times, [Coefficient; K]) {
        let rows = times.iter().zip(columns).flat_map(|(&t, columns)| {
            [t, schedule.alpha(t), schedule.sigma(t)].into_iter().chain(columns)
        });
        let values = table(rows.collect(), OWN_COLUMNS + K, device);
        let columns = std::array::from_fn(|i| column_of(&values, (OWN_COLUMNS + i) as i64));
        let each = EachTime { times, table: OnceCell::new() };
        let table = Table { values, schedule: each.mark(schedule) };
        (Times::Each(EachTime { table: OnceCell::from(table), ..each }), columns)
    }

    /// The time of row `i`.
    pub fn get(&self, i: usize) -> f64 {
        match self {
            Times::All(t) => *t,
            Times::Each(each) => each.times[i],
        }
    }

    /// The time of all rows.
    ///
    /// # Panics
    /// If they have times of their own.
    pub fn one(&self) -> f64 {
        match self {
            Times::All(t) => *t,
            Times::Each(_) => panic!("rows of one time"),
        }
    }

    /// The distinct times that coefficients are computed for: one, or one for each row.
    pub fn values(&self) -> &[f64] {
        match self {
            Times::All(t) => std::slice::from_ref(t),
            Times::Each(each) => &each.times,
        }
    }

    /// Panics where these are not the times of `rows` rows.
    pub fn check(&self, rows: i64) {
        if let Times::Each(each) = self {
            assert_eq!(each.times.len() as i64, rows, "times against rows");
        }
    }

    /// Every time `n` times in turn: those of rows that are repeated datum by datum.
    pub fn repeat(&self, n: usize) -> Times {
        match self {
            Times::All(t) => Times::All(*t),
            Times::Each(each) => {
                Times::each(each.times.iter().flat_map(|&t| std::iter::repeat_n(t, n)).collect())
            }
        }
    }

    /// The times of rows, and of the same rows once more after them.
    pub fn twice(&self) -> Times {
        match self {
            Times::All(t) => Times::All(*t),
            Times::Each(each) => Times::each([&each.times[..], &each.times[..]].concat()),
        }
    }

    /// The times of a range of rows.
    pub fn narrow(&self, rows: Range<usize>) -> Times {
        match self {
            Times::All(t) => Times::All(*t),
            Times::Each(each) => Times::each(each.times[rows].to_vec()),
        }
    }

    /// Whether every row is at its last step, `t ≤ 0`. Rows of one step are all at it or none is.
    pub fn at_the_data(&self) -> bool {
        self.values().first().is_some_and(|t| *t <= 0.0)
    }

    fn own_column(&self, schedule: &dyn Schedule, device: Device, column: i64) -> Coefficient {
        let of = |t: f64| match column {
            TIME => t,
            ALPHA => schedule.alpha(t),
            _ => schedule.sigma(t),
        };
        match self {
            Times::All(t) => Coefficient::All(of(*t)),
            Times::Each(each) => {
                let made = each.table.get_or_init(|| {
                    let rows = each.times.iter();
                    let rows = rows.flat_map(|&t| [t, schedule.alpha(t), schedule.sigma(t)]);
                    let values = table(rows.collect(), OWN_COLUMNS, device);
                    Table { values, schedule: each.mark(schedule) }
                });
                // what was made for one must not answer for another
                assert_eq!(made.values.device(), device, "times on one device");
                assert_eq!(made.schedule, each.mark(schedule), "times of one schedule");
                column_of(&made.values, column)
            }
        }
    }

    /// The times themselves, for computation on `device`.
    pub fn time(&self, schedule: &dyn Schedule, device: Device) -> Coefficient {
        self.own_column(schedule, device, TIME)
    }

    /// `α_t` and `σ_t`, for computation on `device`. A table that was made once serves every call.
    pub fn marginal(&self, schedule: &dyn Schedule, device: Device) -> (Coefficient, Coefficient) {
        let column = |i| self.own_column(schedule, device, i);
        (column(ALPHA), column(SIGMA))
    }

    /// `K` functions of each time: numbers of equal times, else one upload of `[b, K]`.
    pub fn coefficients<const K: usize>(
        &self,
        device: Device,
        f: impl Fn(f64) -> [f64; K],
    ) -> [Coefficient; K] {
        coefficients(self.values().iter().map(|&t| f(t)), matches!(self, Times::All(_)), device)
    }
}

/// `K` functions of the times `s` and `t` of each row: numbers where both are equal for all rows,
/// else one upload of `[b, K]`.
pub fn step_coefficients<const K: usize>(
    s: &Times,
    t: &Times,
    device: Device,
    f: impl Fn(f64, f64) -> [f64; K],
) -> [Coefficient; K] {
    match (s, t) {
        (Times::All(s), Times::All(t)) => f(*s, *t).map(Coefficient::All),
        _ => {
            let rows = s.values().len().max(t.values().len());
            coefficients((0..rows).map(|i| f(s.get(i), t.get(i))), false, device)
        }
    }
}

fn coefficients<const K: usize>(
    mut rows: impl Iterator<Item = [f64; K]>,
    equal: bool,
    device: Device,
) -> [Coefficient; K] {
    if equal {
        return rows.next().expect("one row of equal times").map(Coefficient::All);
    }
    let table = table(rows.flatten().collect(), K, device);
    std::array::from_fn(|i| column_of(&table, i as i64))
}

fn table(values: Vec<f64>, columns: usize, device: Device) -> Tensor {
    upload(&Tensor::from_slice(&values).view([-1, columns as i64]), Kind::Double, device)
}

fn column_of(table: &Tensor, i: i64) -> Coefficient {
    Coefficient::Each(table.narrow(1, i, 1))
}

/// A coefficient of a formula: one number for all rows, or one for each.
///
/// It is computed with in f64, and takes the kind of what it multiplies.
#[derive(Debug)]
pub enum Coefficient {
    /// One number for all rows.
    All(f64),
    /// `[b, 1]`, in f64, on the device of the rows.
    Each(Tensor),
}

impl Clone for Coefficient {
    fn clone(&self) -> Coefficient {
        match self {
            Coefficient::All(value) => Coefficient::All(*value),
            Coefficient::Each(values) => Coefficient::Each(values.shallow_clone()),
        }
    }
}

impl From<f64> for Coefficient {
    fn from(value: f64) -> Coefficient {
        Coefficient::All(value)
    }
}

impl Coefficient {
    /// One number for each row, from a tensor `[b]`.
    pub fn of_rows(values: &Tensor) -> Coefficient {
        Coefficient::Each(values.to_kind(Kind::Double).unsqueeze(-1))
    }

    /// One number for each row, `[b]` in the kind and on the device of `like` `[b, …]`.
    pub fn rows(&self, like: &Tensor) -> Tensor {
        match self {
            Coefficient::All(value) => {
                Tensor::full([like.size()[0]], *value, (like.kind(), like.device()))
            }
            Coefficient::Each(values) => values.to_kind(like.kind()).squeeze_dim(-1),
        }
    }

    /// A column `[b, 1]` in the kind and on the device of `like` `[b, …]`.
    pub fn column(&self, like: &Tensor) -> Tensor {
        self.rows(like).unsqueeze(-1)
    }

    fn map(&self, number: impl Fn(f64) -> f64, each: impl Fn(&Tensor) -> Tensor) -> Coefficient {
        match self {
            Coefficient::All(value) => Coefficient::All(number(*value)),
            Coefficient::Each(values) => Coefficient::Each(each(values)),
        }
    }

    /// `c²`.
    pub fn square(&self) -> Coefficient {
        self.map(|c| c * c, Tensor::square)
    }

    /// `√c`.
    pub fn sqrt(&self) -> Coefficient {
        self.map(f64::sqrt, Tensor::sqrt)
    }

    /// `1/c`.
    pub fn recip(&self) -> Coefficient {
        self.map(f64::recip, Tensor::reciprocal)
    }

    /// `ln c`.
    pub fn ln(&self) -> Coefficient {
        self.map(f64::ln, Tensor::log)
    }

    /// `max(c, least)`.
    pub fn at_least(&self, least: f64) -> Coefficient {
        self.map(|c| c.max(least), |c| c.clamp_min(least))
    }
}

/// `a ∘ b` of two coefficients, of one and a number, and of a tensor of rows and one.
macro_rules! arithmetic {
    ($($operator:ident $method:ident;)*) => {$(
        impl $operator<&Coefficient> for &Coefficient {
            type Output = Coefficient;
            fn $method(self, other: &Coefficient) -> Coefficient {
                match (self, other) {
                    (Coefficient::All(a), Coefficient::All(b)) => {
                        Coefficient::All($operator::$method(*a, *b))
                    }
                    (Coefficient::Each(a), Coefficient::Each(b)) => {
                        Coefficient::Each($operator::$method(a, b))
                    }
                    (Coefficient::Each(a), Coefficient::All(b)) => {
                        Coefficient::Each($operator::$method(a, *b))
                    }
                    (Coefficient::All(a), Coefficient::Each(b)) => {
                        Coefficient::Each($operator::$method(b.full_like(*a), b))
                    }
                }
            }
        }

        impl $operator<Coefficient> for Coefficient {
            type Output = Coefficient;
            fn $method(self, other: Coefficient) -> Coefficient {
                $operator::$method(&self, &other)
            }
        }

        impl $operator<&Coefficient> for Coefficient {
            type Output = Coefficient;
            fn $method(self, other: &Coefficient) -> Coefficient {
                $operator::$method(&self, other)
            }
        }

        impl $operator<Coefficient> for &Coefficient {
            type Output = Coefficient;
            fn $method(self, other: Coefficient) -> Coefficient {
                $operator::$method(self, &other)
            }
        }

        impl $operator<f64> for &Coefficient {
            type Output = Coefficient;
            fn $method(self, other: f64) -> Coefficient {
                $operator::$method(self, &Coefficient::All(other))
            }
        }

        impl $operator<f64> for Coefficient {
            type Output = Coefficient;
            fn $method(self, other: f64) -> Coefficient {
                $operator::$method(&self, &Coefficient::All(other))
            }
        }

        /// Row by row, in the kind of the tensor `[b, …]`.
        impl $operator<&Coefficient> for &Tensor {
            type Output = Tensor;
            fn $method(self, coefficient: &Coefficient) -> Tensor {
                match coefficient {
                    Coefficient::All(value) => $operator::$method(self, *value),
                    Coefficient::Each(_) => $operator::$method(self, shaped(coefficient, self)),
                }
            }
        }

        impl $operator<&Coefficient> for Tensor {
            type Output = Tensor;
            fn $method(self, coefficient: &Coefficient) -> Tensor {
                $operator::$method(&self, coefficient)
            }
        }
    )*};
}

arithmetic! { Add add; Sub sub; Mul mul; Div div; }

impl Neg for &Coefficient {
    type Output = Coefficient;
    fn neg(self) -> Coefficient {
        self * -1.0
    }
}

/// `[b, 1, …]` with as many dimensions as `like` `[b, …]`, in its kind.
fn shaped(coefficient: &Coefficient, like: &Tensor) -> Tensor {
    let mut shape = vec![1; like.dim()];
    shape[0] = -1;
    coefficient.rows(like).view(&shape[..])
}

/// What is given about the rows of a batch: the classes of images, or cells of a table.
#[derive(Debug)]
pub struct Condition(Given);

#[derive(Debug)]
enum Given {
    Classes {
        of_rows: Vec<u32>,
        /// The classes as `[b]`, made at their first use.
        tensor: OnceCell<Tensor>,
    },
    Cells(Cells),
}

impl Condition {
    /// The class of a row of which none is given: the null class of classifier-free guidance.
    pub const NULL: u32 = u32::MAX;

    /// The class of each row, or [`Condition::NULL`].
    pub fn classes(classes: &[u32]) -> Condition {
        Condition(Given::Classes { of_rows: classes.to_vec(), tensor: OnceCell::new() })
    }

    /// The cells of rows of a table with numbers and categories.
    pub fn cells(cells: Cells) -> Condition {
        Condition(Given::Cells(cells))
    }

    /// The cells, of rows of a table with numbers and categories.
    pub fn as_cells(&self) -> Option<&Cells> {
        match &self.0 {
            Given::Classes { .. } => None,
            Given::Cells(cells) => Some(cells),
        }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        match &self.0 {
            Given::Classes { of_rows, .. } => of_rows.len(),
            Given::Cells(cells) => cells.len(),
        }
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The class of each row; of cells of a table there are none.
    fn of_rows(&self) -> &[u32] {
        match &self.0 {
            Given::Classes { of_rows, .. } => of_rows,
            Given::Cells(_) => panic!("classes of rows of a table"),
        }
    }

    /// The class of each row as `[b]`, for computation on `device`; the null class comes after the
    /// `known` ones.
    ///
    /// # Panics
    /// Where a class is not one of `known`, nor null; of cells of a table.
    pub fn class_tensor(&self, known: i64, device: Device) -> &Tensor {
        let Given::Classes { of_rows, tensor } = &self.0 else {
            panic!("classes of rows of a table")
        };
        let fits = |&class: &u32| i64::from(class) < known || class == Condition::NULL;
        assert!(of_rows.iter().all(fits), "{of_rows:?} for a model of {known} classes");
        let tensor = tensor.get_or_init(|| {
            let index = |&class: &u32| i64::from(class).min(known);
            let classes: Vec<i64> = of_rows.iter().map(index).collect();
            upload(&Tensor::from_slice(&classes), Kind::Int64, device)
        });
        assert_eq!(tensor.device(), device, "classes on one device");
        tensor
    }

    /// Brings what a model takes to `device`, before its first use; a model with so many `known`
    /// classes.
    pub(crate) fn place(&self, known: i64, device: Device) {
        match &self.0 {
            Given::Classes { .. } => {
                self.class_tensor(known, device);
            }
            Given::Cells(cells) => {
                cells.tensors(device);
            }
        }
    }

    /// The same with the null class for those rows of which `dropped` is true.
    ///
    /// # Panics
    /// Of cells of a table.
    pub(crate) fn without(&self, dropped: impl Fn(usize) -> bool) -> Condition {
        let class =
            |(row, &class): (usize, &u32)| if dropped(row) { Condition::NULL } else { class };
        Condition::classes(&self.of_rows().iter().enumerate().map(class).collect::<Vec<u32>>())
    }

    /// What is given about these rows of the batch.
    pub fn rows(&self, rows: &[i64]) -> Condition {
        if rows.len() == self.len() && rows.iter().enumerate().all(|(i, &row)| i as i64 == row) {
            return self.clone();
        }
        self.of(rows.iter().map(|&row| row as usize))
    }

    /// What is given about these rows, in this order.
    fn of(&self, rows: impl Iterator<Item = usize> + Clone) -> Condition {
        match &self.0 {
            Given::Classes { of_rows, .. } => {
                Condition::classes(&rows.map(|row| of_rows[row]).collect::<Vec<u32>>())
            }
            Given::Cells(cells) => Condition::cells(cells.rows(rows)),
        }
    }

    /// Whether a row has the null class.
    pub fn has_null(&self) -> bool {
        self.of_rows().contains(&Condition::NULL)
    }

    /// That of these rows, then of as many rows of which nothing is given.
    ///
    /// # Panics
    /// Of cells of a table.
    pub fn and_null(&self) -> Condition {
        let null = std::iter::repeat_n(Condition::NULL, self.len());
        Condition::classes(&self.of_rows().iter().copied().chain(null).collect::<Vec<u32>>())
    }

    /// What is given about a range of rows of the batch.
    pub fn narrow(&self, rows: Range<usize>) -> Condition {
        self.of(rows)
    }

    /// The same about every row `n` times in turn: of rows that are repeated datum by datum.
    pub fn repeat(&self, n: usize) -> Condition {
        let repeated = self.of((0..self.len()).flat_map(move |row| std::iter::repeat_n(row, n)));
        if let (Given::Classes { tensor, .. }, Given::Classes { tensor: to, .. }) =
            (&self.0, &repeated.0)
            && let Some(tensor) = tensor.get()
        {
            let _ = to.set(tensor.repeat_interleave_self_int(n as i64, 0, None));
        }
        repeated
    }
}

impl Clone for Condition {
    fn clone(&self) -> Condition {
        self.repeat(1)
    }
}

/// What a model is asked about a batch of rows: `x` `[b, d]` at their times, given a condition.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// Rows `x_t`, `[b, d]`, in the kind and on the device of the model's space.
    pub x: &'a Tensor,
    /// Their times.
    pub times: &'a Times,
    /// What is given about them; a model that is conditioned on classes needs it.
    pub condition: Option<&'a Condition>,
}

impl<'a> Query<'a> {
    /// Rows at their times, nothing given.
    pub fn new(x: &'a Tensor, times: &'a Times) -> Query<'a> {
        times.check(x.size()[0]);
        Query { x, times, condition: None }
    }

    /// The same rows given a condition.
    pub fn given(self, condition: Option<&'a Condition>) -> Query<'a> {
        if let Some(condition) = condition {
            assert_eq!(condition.len() as i64, self.x.size()[0], "a condition against rows");
        }
        Query { condition, ..self }
    }

    /// The rows' classes `[b]`, for a network with `known` classes and, if `null`, the null class
    /// after them; none where it has none.
    ///
    /// # Panics
    /// If the classes are missing, or one is not of the network's.
    pub(crate) fn classes(&self, known: i64, null: bool) -> Option<&'a Tensor> {
        (known > 0).then(|| {
            let condition = self.condition.expect("the classes of rows of a model with classes");
            let fits = null || !condition.has_null();
            assert!(fits, "rows without a class, for a network without a null class");
            condition.class_tensor(known, self.x.device())
        })
    }

    /// The same question about other values of the rows, `[b, d]`.
    pub fn at<'b>(&self, x: &'b Tensor) -> Query<'b>
    where
        'a: 'b,
    {
        Query { x, ..*self }
    }
}

/// Clean rows, and what is given about them: what is trained on and scored.
#[derive(Debug)]
pub struct Batch {
    /// `x_0`, `[b, d]`, in the model's units.
    pub x: Tensor,
    /// What is given about the rows.
    pub condition: Option<Condition>,
    /// The place of the first row in the batch that they are part of: not 0 where several processes
    /// share the rows of a step.
    pub first: usize,
}

impl Batch {
    /// Rows about which nothing is given.
    pub fn of(x: &Tensor) -> Batch {
        Batch { x: x.shallow_clone(), condition: None, first: 0 }
    }

    /// These rows given a condition.
    pub fn given(self, condition: Option<Condition>) -> Batch {
        Batch { condition, ..self }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.x.size()[0] as usize
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A range of the rows.
    pub fn narrow(&self, rows: Range<usize>) -> Batch {
        Batch {
            x: self.x.narrow(0, rows.start as i64, rows.len() as i64),
            first: self.first + rows.start,
            condition: self.condition.as_ref().map(|condition| condition.narrow(rows)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Vp;
    use crate::tensor::to_vec;

    /// Numbers and columns give the same products, in f64 and in f32.
    #[test]
    fn equal_and_unequal_times_agree() {
        let (schedule, t) = (Vp::default(), 0.3);
        let equal = Times::each(vec![t; 3]);
        assert!(matches!(equal, Times::All(found) if found == t));
        let (unequal, [extra]) =
            Times::with_columns(&schedule, vec![t; 3], [[2.0], [2.0], [2.0]], Device::Cpu);
        for kind in [Kind::Double, Kind::Float] {
            let x = Tensor::from_slice(&[1.0, -2.0, 0.5, 3.0, 1.5, 7.0]).view([3, 2]).to_kind(kind);
            let of = |times: &Times| {
                let (alpha, sigma) = times.marginal(&schedule, Device::Cpu);
                let scale = (alpha.square() * 0.7 + sigma.square()).sqrt().recip();
                to_vec(&((&x * &scale - &(&sigma / &alpha)) / &(-&alpha)))
            };
            let (a, b) = (of(&equal), of(&unequal));
            assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-6), "{a:?} {b:?}");
            assert_eq!(to_vec(&(&x * &extra)), to_vec(&(&x * 2.0)));
        }
    }

    /// One upload serves every coefficient of a batch of unequal times; equal ones need none.
    #[test]
    fn one_table_for_all_coefficients() {
        use crate::tensor::uploads_of;
        let schedule = Vp::default();
        let uses = |times: &Times| {
            let _ = times.marginal(&schedule, Device::Cpu);
            let _ = times.time(&schedule, Device::Cpu);
        };
        assert_eq!(uploads_of(|| uses(&Times::each(vec![0.1, 0.2]))), 1);
        assert_eq!(uploads_of(|| uses(&Times::All(0.1))), 0);
        let pair = |s: &Times, t: &Times| {
            step_coefficients(s, t, Device::Cpu, |s, t| [s + t, s * t, s / t])
        };
        let unequal = Times::each(vec![0.2, 0.3]);
        assert_eq!(uploads_of(|| pair(&Times::All(0.1), &unequal)), 1);
        assert_eq!(uploads_of(|| pair(&Times::All(0.1), &Times::All(0.2))), 0);
    }

    /// A table made for one schedule does not answer for another.
    #[test]
    #[should_panic(expected = "times of one schedule")]
    fn times_belong_to_one_schedule() {
        let times = Times::each(vec![0.2, 0.4]);
        let _ = times.marginal(&Vp::default(), Device::Cpu);
        let _ = times.marginal(&crate::schedule::Ve::default(), Device::Cpu);
    }

    #[test]
    fn conditions_follow_their_rows() {
        let condition = Condition::classes(&[4, 5, 6]);
        assert_eq!(condition.rows(&[2, 0]).of_rows(), [6, 4]);
        assert_eq!(condition.narrow(1..3).of_rows(), [5, 6]);
        assert_eq!(condition.repeat(2).of_rows(), [4, 4, 5, 5, 6, 6]);
        let _ = condition.class_tensor(7, Device::Cpu);
        let repeated = condition.repeat(2);
        assert_eq!(to_vec(repeated.class_tensor(7, Device::Cpu)), [4.0, 4.0, 5.0, 5.0, 6.0, 6.0]);
        let both = condition.and_null();
        assert!(both.has_null() && !condition.has_null());
        assert_eq!(to_vec(both.class_tensor(7, Device::Cpu)), [4.0, 5.0, 6.0, 7.0, 7.0, 7.0]);
    }
}
