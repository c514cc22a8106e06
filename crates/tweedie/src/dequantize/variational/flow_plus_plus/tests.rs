use tch::Device;

use super::super::{Steps, Variational};
use super::*;
use crate::data::Scaling;
use crate::dequantize::{Bins, Dequantizer};
use crate::noise::Noise;
use crate::tensor::{sum_last, to_vec};

/// Steps on columns, then on channels.
fn of_steps(couplings: usize, channel_couplings: usize) -> VariationalConfig {
    VariationalConfig {
        steps: Steps::FlowPlusPlus { blocks: 1, heads: 2, channel_couplings },
        couplings,
        components: 3,
        width: 4,
    }
}

fn config() -> VariationalConfig {
    of_steps(4, 0)
}

fn scaling([c, h, w]: [usize; 3]) -> Scaling {
    Scaling::Pixels(c * h * w)
}

/// A flow whose every parameter has been moved by noise of this size.
fn moved(config: &VariationalConfig, image: [usize; 3], size: f64) -> Variational {
    let flow = config.init(&scaling(image), Some(image), Device::Cpu, Seed(1)).unwrap();
    let p = flow.parameters();
    let noise = Noise::new(Seed(2), 0..1).normal(p.size() as usize, Kind::Float, Device::Cpu);
    p.assign(&(p.flat() + noise.view(-1) * size));
    flow
}

fn parts(flow: &Variational) -> &FlowPlusPlus {
    match &flow.flow {
        super::super::Flow::FlowPlusPlus(parts) => parts,
        super::super::Flow::Plain(_) => panic!("plain steps"),
    }
}

fn levels(n: usize, image: [usize; 3]) -> Vec<f32> {
    (0..n * image.iter().product::<usize>()).map(|i| (i * i * 37 % 251) as f32).collect()
}

/// `e` from `v`, step by step backwards: couplings by bisection within ±1000.
fn inverse(flow: &Variational, v: &Tensor, x: &Tensor) -> Tensor {
    let parts = parts(flow);
    let p = &Pass { parameters: flow.parameters(), kind: v.kind() };
    let mut v = parts.images(v);
    for stage in parts.stages.iter().rev() {
        let (split, context) = (&stage.split, stage.context(p, &parts.images(x)));
        for (number, step) in stage.steps.iter().enumerate().rev() {
            let mut halves = split.split(&v);
            let (given, changed) = (number % 2, 1 - number % 2);
            let columns = halves[changed].size()[3];
            let raw = parts.network(p, (stage, step), &halves[given], &context, columns);
            let moved = &halves[changed];
            let (mut low, mut high) = (moved.full_like(-1e3), moved.full_like(1e3));
            for _ in 0..64 {
                let middle = (&low + &high) * 0.5;
                let below = mixture_logistic(&middle, &raw, parts.components).0.lt_tensor(moved);
                (low, high) = (middle.where_self(&below, &low), high.where_self(&below, &middle));
            }
            halves[changed] = (low + high) * 0.5;
            let matrices = stage.matrices(p, step);
            let back: Vec<Tensor> = matrices.iter().map(Tensor::inverse).collect();
            halves = split.mix(halves, &back);
            v = (split.join(&halves) - p.get(step.norm + 1)) / p.get(step.norm).exp();
        }
    }
    v.flatten(1, 3)
}

/// Columns are even and odd ones. Of channels the halves are the even and the odd rows, first the
/// even columns of all channels, then the odd ones: TensorFlow's `space_to_depth`, cut in two. Of
/// one and of three channels; the image comes back.
#[test]
fn halves_are_columns_or_rows() {
    for image in [[1, 4, 6], [3, 2, 4], [2, 3, 5]] {
        let [c, h, w] = image;
        let x = Tensor::arange(2 * c * h * w, (Kind::Double, Device::Cpu)).view([2, c, h, w]);
        let columns = |x: &Tensor, first: i64| x.slice(3, first, None, 2);
        let rows = |first: i64| {
            let rows = x.slice(2, first, None, 2);
            Tensor::cat(&[columns(&rows, 0), columns(&rows, 1)], 1)
        };
        let mut cases = vec![(By::Columns, [0, 1].map(|i| columns(&x, i)))];
        if h % 2 == 0 {
            cases.push((By::Channels, [0, 1].map(rows)));
        }
        for (by, expected) in cases {
            let split = Split::new(by, image);
            let halves = split.split(&x);
            assert_eq!(halves, expected, "{by:?} of {image:?}");
            assert_eq!(split.join(&halves), x, "{by:?} of {image:?}");
            for half in &halves {
                assert_eq!(split.padded(half).size()[1..], split.half(), "{by:?} of {image:?}");
            }
        }
    }
}

/// `ln |det ∂v/∂e|` is that of the Jacobian by automatic differentiation, in f64: for two and three
/// channels, for grey images of odd width, without attention, and with splits of channels.
#[test]
fn the_determinant_is_that_of_the_jacobian() {
    let steps = Steps::FlowPlusPlus { blocks: 2, heads: 0, channel_couplings: 0 };
    let blind = VariationalConfig { steps, ..config() };
    for (config, image) in [
        (config(), [2, 4, 4]),
        (config(), [3, 4, 4]),
        (config(), [1, 3, 5]),
        (config(), [2, 3, 1]),
        (blind, [3, 2, 4]),
        (of_steps(1, 2), [1, 4, 2]),
        (of_steps(1, 3), [3, 2, 4]),
    ] {
        let flow = moved(&config, image, 0.2);
        let (n, m) = (2, image.iter().product::<usize>());
        let x = Bins::new(&levels(n, image), &scaling(image)).centre;
        let e = flow.noise(&mut Noise::new(Seed(3), 0..n as u64)).set_requires_grad(true);
        let (v, log_det) = flow.flow(&e, &x);
        let rows: Vec<Tensor> = (0..m as i64)
            .map(|j| {
                let one = v.select(1, j).sum(None::<Kind>);
                Tensor::run_backward(&[one], &[&e], true, false).remove(0)
            })
            .collect();
        let (_, expected) = Tensor::stack(&rows, 1).slogdet();
        let gap = (&log_det - &expected).abs().max().double_value(&[]);
        let size = expected.abs().min().double_value(&[]);
        println!("{image:?}: gap {gap:.1e} of {size:.2}");
        assert!(gap < 1e-8 && size > 0.1, "{image:?}: {gap} of {size}");
    }
}

/// Every step can be undone: `e` comes back to 1e-8. So `q` is a density on all of a bin: over even
/// `y` the mean of `q(y|x)`, in units of the bin, is 1, within four standard errors.
#[test]
fn the_density_integrates_to_one() {
    for (config, image) in
        [(config(), [2, 2, 2]), (config(), [1, 2, 3]), (of_steps(1, 3), [1, 2, 2])]
    {
        let (flow, n) = (moved(&config, image, 0.06), 6000);
        let one = levels(1, image);
        let bins = Bins::new(&one, &scaling(image));
        let [lower, _, upper] = bins.of(&flow.columns);
        let x = bins.centre.expand([n as i64, -1], false);
        let (values, m) = (Noise::new(Seed(5), 0..n).uniform(one.len()), one.len() as i64);
        let u = Tensor::from_slice(&values).view([-1, m]);
        no_grad(|| {
            let e = inverse(&flow, &u.logit(None), &x);
            let points = flow.place(&e, &x, &lower, &upper);
            let back = (points.y - (&lower + &u * (&upper - &lower))).abs().max();
            let log_q = to_vec(&(points.log_q + sum_last(&(&upper - &lower).log())));
            let q: Vec<f64> = log_q.iter().map(|log_q| log_q.exp()).collect();
            let (mean, error) = crate::likelihood::mean_and_error(&q);
            let spread = log_q.iter().map(|l| l.abs()).sum::<f64>() / n as f64;
            println!("{image:?}: mean {mean:.4} ± {error:.4}, {spread:.2} nats from uniform");
            assert!(back.double_value(&[]) < 1e-8);
            // far enough from uniform that a wrong sign of any part would show
            assert!((mean - 1.0).abs() < 4.0 * error && error < 0.05, "{mean} ± {error}");
            assert!(spread > 0.1, "{spread}");
        });
    }
}

/// The start from data brings the input of every coupling to mean 0 and variance `π²/3`, channel by
/// channel, is made once, and leaves `q` within 0.005 nats per level of uniform.
#[test]
fn it_starts_near_uniform_from_data() {
    for channel_couplings in [0, 3] {
        starts_near_uniform_from_data(channel_couplings);
    }
}

fn starts_near_uniform_from_data(channel_couplings: usize) {
    let (image, n) = ([3, 8, 8], 64);
    let fresh = |config: &VariationalConfig| {
        config.init(&scaling(image), Some(image), Device::Cpu, Seed(4)).unwrap()
    };
    let steps = Steps::FlowPlusPlus { blocks: 2, heads: 4, channel_couplings };
    let flow = fresh(&VariationalConfig { steps, width: 8, ..VariationalConfig::usual(true) });
    assert!(parts(&flow).is_new(flow.parameters()));
    let levels = levels(n, image);
    flow.start(&levels, Seed(5));
    assert!(!parts(&flow).is_new(flow.parameters()));
    let kept = flow.parameters().flat().copy();
    flow.start(&levels, Seed(6));
    assert_eq!(flow.parameters().flat(), &kept);
    let offsets = flow.dequantize(&levels, &mut Noise::new(Seed(7), 0..n as u64)).offsets;
    let uniform = 192.0 * (1.0f64 / 127.5).ln();
    let gap = (offsets.iter().sum::<f64>() / n as f64 - uniform) / 192.0;
    println!("{gap:.5} nats per level from uniform");
    assert!(gap.abs() < 0.005, "{gap}");

    // of matrices far from the identity and couplings that move, by f64
    let flow = fresh(&of_steps(4, channel_couplings));
    let p = flow.parameters();
    let noise = Noise::new(Seed(2), 0..1).normal(p.size() as usize, Kind::Float, Device::Cpu);
    p.assign(&(p.flat() + noise.view(-1) * 0.2));
    let x = Bins::new(&levels, &scaling(image)).centre;
    let e = flow.noise(&mut Noise::new(Seed(5), 0..n as u64));
    no_grad(|| parts(&flow).start(p, &e, &x));
    let pass = &Pass { parameters: p, kind: Kind::Double };
    let parts = parts(&flow);
    let mut v = parts.images(&e);
    for stage in &parts.stages {
        let context = stage.context(pass, &parts.images(&x));
        for (number, step) in stage.steps.iter().enumerate() {
            let normed = &v * pass.get(step.norm).exp() + pass.get(step.norm + 1);
            let over = [0i64, 2, 3].as_slice();
            let mean = normed.mean_dim(over, false, None::<Kind>).abs().max().double_value(&[]);
            let variance = normed.var_dim(over, false, false) / (PI * PI / 3.0) - 1.0;
            let variance = variance.abs().max().double_value(&[]);
            let place = format!("{:?}, step {number}", stage.split);
            assert!(mean < 1e-4 && variance < 1e-4, "{place}: {mean} {variance}");
            v = parts.step(pass, (stage, number), &v, &context).0;
        }
    }
    assert_eq!(parts.stages.len(), 1 + usize::from(channel_couplings > 0));
}

/// Names and weights without splits of channels, from the file that the program before them wrote:
/// `tweedie dequantize --width 4 --iterations 1 --learning-rate 1e-30` for 3 × 4 × 4 images. The
/// normalisations' start is from data and left out of the sums. Splits of channels only add to it.
#[test]
fn without_splits_of_channels_the_parameters_are_those_of_earlier_versions() {
    let (image, earlier) =
        ([3, 4, 4], VariationalConfig { width: 4, ..VariationalConfig::usual(true) });
    let fresh = |config: &VariationalConfig| {
        let seed = Seed(0).derive("dequantiser");
        config.init(&scaling(image), Some(image), Device::Cpu, seed).unwrap()
    };
    let flow = fresh(&earlier);
    let p = flow.parameters();
    let mut names: Vec<(&str, usize)> =
        p.entries().iter().enumerate().map(|(i, entry)| (&*entry.name, i)).collect();
    names.sort();
    let joined = names.iter().map(|(name, _)| *name).collect::<Vec<_>>().join("\n");
    let weights: Vec<f64> = names
        .iter()
        .filter(|(name, _)| !name.contains("norm"))
        .flat_map(|(_, i)| to_vec(&p.get(*i).view(-1)))
        .collect();
    let squares: f64 = weights.iter().map(|w| w * w).sum();
    let places: f64 = weights.iter().enumerate().map(|(i, w)| w * i as f64).sum();
    assert_eq!(
        (names.len(), p.size(), crc32fast::hash(joined.as_bytes())),
        (166, 19680, 0xa4605046)
    );
    assert!((squares - 195.28421156597494).abs() < 1e-4, "{squares}");
    assert!((places - 95616.50030400512).abs() < 1.0, "{places}");

    let steps = Steps::FlowPlusPlus { blocks: 2, heads: 4, channel_couplings: 2 };
    let more = fresh(&VariationalConfig { steps, ..earlier });
    for (a, b) in p.entries().iter().zip(more.parameters().entries()) {
        assert_eq!((&a.name, &a.shape, a.offset), (&b.name, &b.shape, b.offset));
    }
    assert_eq!(&more.parameters().flat().narrow(0, 0, p.size()), p.flat());
    assert!(more.parameters().size() > p.size());
}

/// What cannot be is refused; configurations of earlier versions are plain, and are written as they
/// were.
#[test]
fn configurations_are_checked_and_old_ones_are_plain() {
    let old = "{\"couplings\":4,\"components\":4,\"width\":64}";
    let config: VariationalConfig = serde_json::from_str(old).unwrap();
    assert_eq!(config, VariationalConfig::default());
    assert_eq!(serde_json::to_string(&config).unwrap(), old);
    let usual = VariationalConfig::usual(true);
    let old = "{\"steps\":{\"flow++\":{\"blocks\":2,\"heads\":4}},\"couplings\":4,\
               \"components\":8,\"width\":32}";
    assert_eq!(serde_json::to_string(&usual).unwrap(), old);
    for config in [usual.clone(), of_steps(4, 3)] {
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<VariationalConfig>(&text).unwrap(), config);
    }
    let refused = |config: VariationalConfig, image, words: &str| {
        let error = config.init(&scaling([1, 2, 2]), image, Device::Cpu, Seed(0));
        let error = error.map(drop).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    refused(usual.clone(), None, "give plain");
    let odd = VariationalConfig { width: 6, ..usual.clone() };
    refused(odd, Some([1, 2, 2]), "6 channels for 4 heads");
    let none = Steps::FlowPlusPlus { blocks: 0, heads: 4, channel_couplings: 0 };
    refused(VariationalConfig { steps: none, ..usual }, Some([1, 2, 2]), "blocks");
    for image in [[1, 3, 2], [1, 2, 3]] {
        refused(of_steps(1, 1), Some(image), "channel_couplings: 1, for images of");
    }
    refused(of_steps(1, 101), Some([1, 2, 2]), "channel_couplings");
}
