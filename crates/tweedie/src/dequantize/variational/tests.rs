use super::*;
use crate::data::{Column, ColumnKind, ColumnScaling, Grid, ScaledColumn};

/// `levels` columns of levels around one that is none.
fn scaling(levels: usize) -> Scaling {
    let column = |i: usize| ScaledColumn {
        column: Column { name: format!("c{i}"), kind: ColumnKind::Float },
        grid: (i != 1).then_some(Grid { bin: 0.5, origin: 0.0 }),
        map: ColumnScaling::Affine { shift: 0.3, scale: 1.0 + i as f64 },
    };
    Scaling::Columns((0..=levels).map(column).collect())
}

/// A dequantiser far from the identity.
fn random(scaling: &Scaling, image: Option<[usize; 3]>, size_of_weights: f64) -> Variational {
    let config = VariationalConfig { width: 8, ..VariationalConfig::default() };
    let flow = config.init(scaling, image, Device::Cpu, Seed(1)).unwrap();
    let size = flow.parameters.size() as usize;
    flow.parameters.assign(
        &(Noise::new(Seed(2), 0..1).normal(size, Kind::Float, Device::Cpu).view(-1)
            * size_of_weights),
    );
    flow
}

/// `ln q = ln p(e) − ln |det ∂y/∂e|`, the Jacobian by automatic differentiation in f64, for a table
/// and for an image of two channels and odd height.
#[test]
fn the_density_is_that_of_the_jacobian() {
    for (scaling, image, size_of_weights) in
        [(scaling(5), None, 0.4), (Scaling::Pixels(12), Some([2, 3, 2]), 0.1)]
    {
        let (flow, d) = (random(&scaling, image, size_of_weights), scaling.dim());
        let levels: Vec<f32> = (0..3 * d).map(|i| (i * 7 % 5) as f32).collect();
        let bins = Bins::new(&levels, &scaling);
        let [lower, _, upper] = bins.of(&flow.columns);
        let e = (flow.noise(&mut Noise::new(Seed(3), 0..3)) * 0.7).set_requires_grad(true);
        let m = e.size()[1];
        let Points { y, log_q } = flow.place(&e, &bins.centre, &lower, &upper);
        let inside = y.ge_tensor(&lower).logical_and(&y.le_tensor(&upper));
        assert!(inside.all().int64_value(&[]) == 1, "a point outside its bin");
        let columns: Vec<Tensor> = (0..m)
            .map(|j| {
                Tensor::run_backward(&[y.select(1, j).sum(None::<Kind>)], &[&e], true, false)
                    .remove(0)
            })
            .collect();
        let (_, log_det) = Tensor::stack(&columns, 1).slogdet();
        let log_logistic = sum_last(&(e.log_sigmoid() + e.neg().log_sigmoid()));
        let expected = log_logistic - log_det;
        let gap = (&log_q - &expected).abs().max().double_value(&[]);
        // far from what a flow that does nothing would say
        let still = -sum_last(&(upper - lower).log());
        let moved = (&log_q - still).abs().max().double_value(&[]);
        println!("m = {m}: gap {gap:.1e}, {moved:.1} nats from uniform");
        assert!(gap < 1e-8 && moved > 1.0, "{gap} {moved}");
    }
}

/// `∫ p(e)/q(y(e)) de`, the volume that points fill, is that of the bin: `q` is a density on all of
/// the bin and no more. By the rectangle rule, for one level and for two.
#[test]
fn the_density_fills_the_bin() {
    for (m, step) in [(1, 0.02), (2, 0.1)] {
        let scaling = scaling(m);
        let flow = random(&scaling, None, 0.2);
        let bins = Bins::new(&[2.0, 1.3, -1.5][..m + 1], &scaling);
        let half = (40.0 / step) as i64;
        let line = Tensor::arange_start(-half, half + 1, (Kind::Double, Device::Cpu)) * step;
        let e = match m {
            1 => line.unsqueeze(1),
            _ => Tensor::cartesian_prod(&[&line, &line]),
        };
        let n = e.size()[0];
        let x = bins.centre.expand([n, -1], false);
        let [lower, _, upper] = bins.of(&flow.columns);
        let log_q = no_grad(|| flow.place(&e, &x, &lower, &upper).log_q);
        let log_p = sum_last(&(e.log_sigmoid() + e.neg().log_sigmoid()));
        let volume =
            (log_p - log_q).exp().sum(None::<Kind>).double_value(&[]) * step.powi(m as i32);
        let expected = to_vec(&(upper - lower)).iter().product::<f64>();
        println!("{m} levels: {volume} against {expected}");
        assert!((volume / expected - 1.0).abs() < 1e-5, "{volume} {expected}");
    }
}

/// Before training `q` is nearly uniform: its mean log-density is `−Σ ln width` within 0.005 per
/// level.
#[test]
fn it_starts_near_uniform() {
    let scaling = scaling(4);
    let flow = VariationalConfig::default().init(&scaling, None, Device::Cpu, Seed(4)).unwrap();
    let levels: Vec<f32> = (0..1000 * 5).map(|i| (i % 7) as f32 - 3.0).collect();
    let offsets = flow.dequantize(&levels, &mut Noise::new(Seed(5), 0..1000)).offsets;
    let uniform: f64 = scaling.columns().iter().map(|c| c.map.forward(0.0).1.ln()).sum();
    let gap = offsets.iter().sum::<f64>() / 1000.0 - uniform;
    println!("{gap:.4} nats from uniform");
    assert!(gap.abs() < 0.02, "{gap}");
}

#[test]
fn a_run_without_levels_is_refused() {
    let mut columns = scaling(1).columns().to_vec();
    columns[0].grid = None;
    let scaling = Scaling::Columns(columns);
    let error = VariationalConfig::default()
        .init(&scaling, None, Device::Cpu, Seed(0))
        .unwrap_err()
        .to_string();
    assert!(error.contains("without levels") && error.contains("--dequantize"), "{error}");
}
