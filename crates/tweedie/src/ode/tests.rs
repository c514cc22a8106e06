use super::*;
use crate::tensor::to_vec;
use tch::Device;

fn rows(values: &[f64], columns: i64) -> Tensor {
    Tensor::from_slice(values).view([-1, columns])
}

fn vec(y: &Tensor) -> Vec<f64> {
    to_vec(y)
}

fn column(t: &[f64]) -> Tensor {
    Tensor::from_slice(t).unsqueeze(-1)
}

/// `y' = y cos t`, `y = y_0 e^{sin t}`.
fn swing(t: &[f64], y: &Tensor, _: &[i64]) -> Tensor {
    y * column(t).cos()
}

/// Least-squares slope.
fn slope(x: &[f64], y: &[f64]) -> f64 {
    let n = x.len() as f64;
    let (mx, my) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    let top: f64 = x.iter().zip(y).map(|(a, b)| (a - mx) * (b - my)).sum();
    top / x.iter().map(|a| (a - mx).powi(2)).sum::<f64>()
}

/// Global order by regression of log-error on log-step; forwards and backwards.
#[test]
fn order_is_five() {
    for (from, to) in [(0.0f64, 3.0f64), (3.0, 0.0)] {
        let steps = [16usize, 24, 32, 48, 64];
        let exact = (to.sin() - from.sin()).exp();
        let errors: Vec<f64> = steps
            .iter()
            .map(|&n| {
                (vec(&DormandPrince::solve_fixed(&swing, &rows(&[1.0], 1), from, to, n))[0] - exact)
                    .abs()
            })
            .collect();
        let order = -slope(
            &steps.map(|n| (n as f64).ln()),
            &errors.iter().map(|e| e.ln()).collect::<Vec<_>>(),
        );
        println!("order {order:.3}, errors {errors:?}");
        assert!((order - 5.0).abs() < 0.2, "order {order}");
    }
}

/// The global error follows the tolerance: a factor of 10 in one is about a factor of 10 in the
/// other.
#[test]
fn error_is_proportional_to_tolerance() {
    let exact = 3f64.sin().exp();
    let tolerances = [1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10];
    let errors = tolerances.map(|tol| {
        let solver = DormandPrince { rtol: tol, atol: tol, ..Default::default() };
        let solution = solver.solve(&swing, &rows(&[1.0], 1), 0.0, 3.0);
        assert_eq!(solution.status, [Status::Done]);
        let error = (vec(&solution.y)[0] - exact).abs();
        println!("tol {tol:.0e}: error {error:.2e}, {} evaluations", solution.evaluations[0]);
        assert!(error < 10.0 * tol, "{tol}: {error}");
        error
    });
    let rate = slope(&tolerances.map(f64::ln), &errors.map(f64::ln));
    println!("rate {rate:.3}");
    assert!((0.8..1.25).contains(&rate), "{rate}");
}

/// A field whose stiffness and start differ by row: what is solved for a row is the same to the
/// last bit in any company, and a hard row costs the easy ones nothing.
#[test]
fn a_row_does_not_know_its_batch() {
    let rates: Vec<f64> = (0..13).map(|i| 0.1 * 2f64.powi(i)).collect();
    let start: Vec<f64> = (0..26).map(|i| (i as f64 * 0.7).sin() + 1.2).collect();
    let field = |offset: i64| {
        let rates = rates.clone();
        move |t: &[f64], y: &Tensor, rows: &[i64]| {
            let rate: Vec<f64> = rows.iter().map(|&r| rates[(r + offset) as usize]).collect();
            (column(t).cos() - y) * column(&rate)
        }
    };
    let solver = DormandPrince::default();
    let all = solver.solve(&field(0), &rows(&start, 2), 0.0, 2.0);
    assert!(all.status.iter().all(|s| s.is_done()));
    for (first, n) in [(0i64, 1i64), (5, 3), (12, 1)] {
        let part = solver.solve(&field(first), &rows(&start, 2).narrow(0, first, n), 0.0, 2.0);
        assert!(part.y.equal(&all.y.narrow(0, first, n)), "rows {first}..");
        assert_eq!(part.evaluations, all.evaluations[first as usize..(first + n) as usize]);
    }
    println!("evaluations {:?}", all.evaluations);
    assert!(all.evaluations[12] > 10 * all.evaluations[0]);
}

#[test]
fn backward_undoes_forward() {
    let solver = DormandPrince { rtol: 1e-10, atol: 1e-10, ..Default::default() };
    let start = rows(&[0.3, -2.0, 5.0, 1.0], 2);
    let pendulum = |_: &[f64], y: &Tensor, _: &[i64]| {
        Tensor::cat(&[y.narrow(1, 1, 1), -y.narrow(1, 0, 1).sin()], 1)
    };
    let there = solver.solve(&pendulum, &start, 0.0, 4.0);
    let back = solver.solve(&pendulum, &there.y, 4.0, 0.0);
    let gap = (back.y - &start).abs().max().double_value(&[]);
    println!("gap {gap:.2e}");
    assert!(gap < 1e-8, "{gap}");
    assert!((there.y - start).abs().max().double_value(&[]) > 0.1);
}

/// `y' = y²` blows up at `t = 1/y_0`; only the rows that meet it fail, near there, and say what to
/// do.
#[test]
fn a_blow_up_is_a_status_of_its_row() {
    let square = |_: &[f64], y: &Tensor, _: &[i64]| y.square();
    let solution = DormandPrince::default().solve(&square, &rows(&[0.5, 2.0, -1.0], 1), 0.0, 1.0);
    println!("{:?} {:?}", solution.status, solution.evaluations);
    assert!(solution.status[0].is_done() && solution.status[2].is_done());
    let y = vec(&solution.y);
    assert!((y[0] - 1.0).abs() < 1e-4 && (y[2] + 0.5).abs() < 1e-4);
    match solution.status[1] {
        Status::StepTooSmall { t } | Status::NotFinite { t } | Status::EvaluationLimit { t } => {
            assert!((t - 0.5).abs() < 1e-2, "stopped at {t}");
        }
        Status::Done => panic!("went through a pole"),
    }
    assert!(solution.status[1].to_string().contains(';'), "no remedy in {}", solution.status[1]);
    assert_eq!(solution.failures().map(|(row, _)| row).collect::<Vec<_>>(), [1]);
}

/// A stiff row is ended by the limit; a field without value at once, and a wall that no step passes
/// as not finite.
#[test]
fn limits_and_non_finite_fields() {
    let solver = DormandPrince { max_evaluations: 600, ..Default::default() };
    let stiff = |t: &[f64], y: &Tensor, _: &[i64]| (column(t).cos() - y) * 1e5;
    let stopped = solver.solve(&stiff, &rows(&[0.0], 1), 0.0, 1.0);
    assert!(matches!(stopped.status[0], Status::EvaluationLimit { t } if t > 0.0 && t < 1.0));
    assert!(stopped.evaluations[0] <= 600);

    let start = rows(&[1.0, f64::NAN], 1);
    let solution = solver.solve(&swing, &start, 0.0, 1.0);
    assert_eq!(solution.status, [Status::Done, Status::NotFinite { t: 0.0 }]);

    let wall =
        |t: &[f64], y: &Tensor, _: &[i64]| y.zeros_like() + (Tensor::from(0.5) - column(t)).sqrt();
    let solution = solver.solve(&wall, &rows(&[0.0], 1), 0.0, 1.0);
    println!("{:?}", solution.status);
    assert!(!solution.status[0].is_done());
}

#[test]
fn nothing_to_do() {
    let solver = DormandPrince::default();
    let empty = solver.solve(&swing, &Tensor::zeros([0, 3], (Kind::Double, Device::Cpu)), 0.0, 1.0);
    assert!(empty.status.is_empty());
    let same = solver.solve(&swing, &rows(&[2.0], 1), 0.4, 0.4);
    assert_eq!((vec(&same.y), same.status), (vec![2.0], vec![Status::Done]));
}

/// A hundred coordinates, of which only the last moves, as [`swing`].
struct Crowd {
    alone: i64,
}

impl Field for Crowd {
    fn eval(&self, t: &[f64], y: &Tensor, rows: &[i64]) -> Tensor {
        let still = y.narrow(1, 0, 99).zeros_like();
        Tensor::cat(&[still, swing(t, &y.narrow(1, 99, 1), rows)], 1)
    }
    fn alone(&self) -> i64 {
        self.alone
    }
}

/// A coordinate that counts alone takes the steps it takes by itself; in the root mean square of a
/// hundred its error counts a tenth, and by the order of the method its steps are longer.
#[test]
fn coordinates_count_together_or_alone() {
    let start =
        Tensor::cat(&[Tensor::zeros([1, 99], (Kind::Double, Device::Cpu)), rows(&[1.0], 1)], 1);
    let solver = DormandPrince { rtol: 1e-9, atol: 1e-9, ..Default::default() };
    let single = solver.solve(&swing, &rows(&[1.0], 1), 0.0, 3.0);
    let alone = solver.solve(&Crowd { alone: 1 }, &start, 0.0, 3.0);
    assert_eq!(alone.evaluations, single.evaluations);
    assert_eq!(vec(&alone.y)[99], vec(&single.y)[0]);
    let together = solver.solve(&Crowd { alone: 0 }, &start, 0.0, 3.0);
    let ratio = single.evaluations[0] as f64 / together.evaluations[0] as f64;
    println!("{} and {} evaluations", single.evaluations[0], together.evaluations[0]);
    assert!((1.3..1.8).contains(&ratio), "{ratio}, 10^(1/5) = 1.58");
}
