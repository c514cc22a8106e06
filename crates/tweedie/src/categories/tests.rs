use std::sync::Arc;

use tch::Device;

use super::*;
use crate::mixture::{MixedParameters, MixtureParameters};
use crate::noise::Seed;
use crate::query::{CellLayout, Columns};
use crate::train::TrainConfig;

const NONE: u32 = Cells::MISSING;
const HOLE: f64 = f64::NAN;

/// Two numbers, categories of three and two values, two components.
fn mixture() -> MixedMixture {
    MixedMixture::from_parameters(&MixedParameters {
        numbers: MixtureParameters {
            weights: vec![0.4, 0.6],
            means: vec![vec![-1.0, 0.5], vec![1.0, 0.0]],
            covariances: vec![vec![1.0, 0.6, 0.6, 0.8], vec![0.5, -0.2, -0.2, 0.4]],
        },
        categories: vec![3, 2],
        pmfs: vec![vec![0.7, 0.2, 0.1, 0.9, 0.1], vec![0.1, 0.3, 0.6, 0.35, 0.65]],
    })
    .unwrap()
}

fn layout() -> Arc<CellLayout> {
    Arc::new(mixture().layout().clone())
}

/// A network whose corrections are drawn, and so are not 0.
fn network() -> CategoryNetwork {
    let config = CategoriesConfig { width: 8, depth: 1, ..CategoriesConfig::default() };
    let network = config.init(mixture().layout(), Device::Cpu, Seed(0)).unwrap();
    let size = network.parameters().size() as u64;
    let drawn = Noise::new(Seed(5), 0..size).normal(1, Kind::Float, Device::Cpu);
    network.parameters().assign(&(drawn.view([-1]) * 0.4));
    network.weigh([0.7, 0.4]);
    network
}

/// The mixture's own chain is its density of all categories less that of those that are given.
#[test]
fn the_chain_of_the_base_is_its_density() {
    let base = mixture();
    let numbers = vec![0.3, HOLE, -0.2, 0.9, HOLE, HOLE];
    let before = Cells::observed(layout(), numbers.clone(), vec![NONE, 1, NONE, NONE, 2, NONE]);
    let codes = vec![2, 1, 0, 1, 2, 0];
    let all = Cells::observed(layout(), numbers, codes.clone());
    let expected = to_vec(&(base.log_density(&all) - base.log_density(&before)));
    let found = Categorical::new(&base, None).log_density(&before, &codes);
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() < 1e-12, "{found} {expected}");
    }
}

/// Whatever a network says, the probabilities of all combinations of values sum to 1, and a missing
/// category is left out.
#[test]
fn probabilities_of_a_network_sum_to_one() {
    let (base, network) = (mixture(), network());
    let categories = Categorical::new(&base, Some(&network));
    for numbers in [vec![HOLE, HOLE], vec![0.3, HOLE], vec![-0.2, 1.4]] {
        let total = |codes: Vec<u32>| -> f64 {
            let n = codes.len() / 2;
            let none = Cells::observed(layout(), numbers.repeat(n), vec![NONE; 2 * n]);
            categories.log_density(&none, &codes).iter().map(|log| log.exp()).sum()
        };
        let all = total((0..6).flat_map(|i| [i / 2, i % 2]).collect());
        assert!((all - 1.0).abs() < 1e-12, "{all}");
        let second = total(vec![NONE, 0, NONE, 1]);
        assert!((second - 1.0).abs() < 1e-12, "{second}");
        assert_eq!(total(vec![NONE, NONE]), 1.0);
    }
    let given = Cells::observed(layout(), vec![0.3, HOLE], vec![1, NONE]);
    let [own, plain] = [Some(&network), None]
        .map(|network| Categorical::new(&base, network).log_density(&given, &[1, 0])[0]);
    assert!((own - plain).abs() > 0.01, "the network corrects: {own} {plain}");
}

/// Draws have the chain's distribution; what is given, and what is left out, stays.
#[test]
fn draws_have_the_distribution_of_the_chain() {
    let (base, network, n) = (mixture(), network(), 20_000);
    let categories = Categorical::new(&base, Some(&network));
    let cells = Cells::observed(layout(), [0.3, HOLE].repeat(n), vec![NONE; 2 * n]);
    let drawn =
        categories.complete(&cells, &[false; 2], &[], &mut Noise::new(Seed(3), 0..n as u64));
    for (first, second) in [(0, 0), (1, 1), (2, 1)] {
        let one = cells.rows(0..1);
        let p = categories.log_density(&one, &[first, second])[0].exp();
        let found = drawn.chunks_exact(2).filter(|row| **row == [first, second]).count();
        let error = (p * (1.0 - p) / n as f64).sqrt();
        assert!((found as f64 / n as f64 - p).abs() < 4.0 * error, "{found} {p}");
    }
    let given = Cells::observed(layout(), vec![0.3, HOLE], vec![2, NONE]);
    let noise = || Noise::new(Seed(3), 0..1);
    assert_eq!(categories.complete(&given, &[false, true], &[], &mut noise()), [2, NONE]);
    assert_eq!(categories.complete(&given, &[false; 2], &[], &mut noise())[0], 2);
    // without a value the others keep their proportions
    let noise = &mut Noise::new(Seed(4), 0..n as u64);
    let drawn = categories.complete(&cells, &[false, true], &[Some(0), None], noise);
    let one = cells.rows(0..1);
    let [p, q] = [1, 2].map(|code| categories.log_density(&one, &[code, NONE])[0].exp());
    let p = p / (p + q);
    let found = drawn.chunks_exact(2).filter(|row| row[0] == 1).count() as f64 / n as f64;
    assert!((found - p).abs() < 4.0 * (p * (1.0 - p) / n as f64).sqrt(), "{found} {p}");
    assert!(drawn.chunks_exact(2).all(|row| row[0] != 0));
}

/// A network on a base that takes categories for independent learns that they are equal: `ln p` of
/// the pair from −2 ln 2 to nearly −ln 2; and of the second given the first nearly 0.
#[test]
fn a_network_learns_what_the_base_does_not_know() {
    let parameters = MixedParameters {
        numbers: MixtureParameters {
            weights: vec![1.0],
            means: vec![vec![0.0]],
            covariances: vec![vec![1.0]],
        },
        categories: vec![2, 2],
        pmfs: vec![vec![0.5; 4]],
    };
    let base = MixedMixture::from_parameters(&parameters).unwrap();
    let layout = Arc::new(base.layout().clone());
    let codes = |n: u32| (0..n).flat_map(|i| [i % 2, i % 2]).collect::<Vec<u32>>();
    let rows = Cells::observed(layout.clone(), vec![HOLE; 256], codes(256));
    let held_out = Cells::observed(layout.clone(), vec![HOLE; 64], codes(64));
    let context = Columns { numbers: vec![false], categories: vec![false; 2] };
    let config = CategoriesConfig { width: 16, depth: 1, iterations: 800, ..Default::default() };
    let network = config.init(base.layout(), Device::Cpu, Seed(0)).unwrap();
    let fit =
        Fit { base: &base, network: &network, rows: &rows, held_out: &held_out, context: &context };
    let (before, _) = fit.held_out_log_density(CategoryModel::Network).unwrap();
    assert!((before + 2.0 * 2f64.ln()).abs() < 1e-12, "{before}");
    fit.fit(&config.training(&TrainConfig::default(), 0.0), Seed(1)).unwrap();
    let (after, _) = fit.held_out_log_density(CategoryModel::Network).unwrap();
    assert!((after + 2f64.ln()).abs() < 0.02, "{after}");
    let given = Cells::observed(layout, vec![0.7], vec![1, NONE]);
    let second = Categorical::new(&base, Some(&network)).log_density(&given, &[1, 1])[0];
    assert!(second > -0.05, "{second}");
}

/// A network that has learned nothing does not make a base worse that knows the categories.
#[test]
fn an_untrained_network_does_not_count_where_the_base_is_better() {
    let base = mixture();
    let n = 400;
    let none = Cells::nothing(layout(), n);
    let (numbers, codes) = base.complete(&none, &mut Noise::new(Seed(2), 0..n as u64));
    let rows = Cells::observed(layout(), numbers, codes);
    let context = Columns { numbers: vec![false; 2], categories: vec![false; 2] };
    let config = CategoriesConfig { width: 4, depth: 1, iterations: 1, ..Default::default() };
    let network = config.init(base.layout(), Device::Cpu, Seed(0)).unwrap();
    let fit =
        Fit { base: &base, network: &network, rows: &rows, held_out: &rows, context: &context };
    fit.fit(&config.training(&TrainConfig::default(), 0.0), Seed(1)).unwrap();
    let of = |network: Option<&CategoryNetwork>, cells: &Cells| {
        let all = Categorical::new(&base, network).log_density(cells, rows.codes());
        all.iter().sum::<f64>() / n as f64
    };
    let given = rows.only(&Columns { numbers: vec![true; 2], categories: vec![false; 2] });
    for cells in [&none, &given] {
        let (own, plain) = (of(Some(&network), cells), of(None, cells));
        assert!(own > plain - 0.02, "{own} {plain}");
    }
}

#[test]
fn options_that_cannot_be_are_refused() {
    let of = |config: CategoriesConfig| config.check().unwrap_err().to_string();
    let usual = CategoriesConfig::default;
    assert!(of(CategoriesConfig { width: 0, ..usual() }).contains("categories.width"));
    assert!(of(CategoriesConfig { dropout: 1.0, ..usual() }).contains("categories.dropout"));
    assert!(of(CategoriesConfig { iterations: 0, ..usual() }).contains("categories.iterations"));
    assert!(of(CategoriesConfig { learning_rate: -1.0, ..usual() }).contains("categories.learn"));
}
