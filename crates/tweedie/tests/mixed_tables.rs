//! Tables as they come, from file to samples: categories, dates, constants and missing cells.

use std::path::Path;

use tweedie::Error;
use tweedie::data::{
    Dataset, Marginals, Missing, Purpose, RawColumn, RawTable, TableOptions, TypeOptions, Unseen,
};
use tweedie::density::{
    AnomalyTest, Calibration, Density, EvaluateOptions, Fill, FillOptions, FitOptions, Line,
    Metric, PartsOf, SampleOptions, ScoreOptions, WatchFit,
};
use tweedie::likelihood::Estimator;
use tweedie::model::Base;
use tweedie::noise::{Noise, Seed};
use tweedie::tensor::to_vec;
use tweedie::watch::{Silent, Watch};

/// Rows of an age, a city that goes with it, an income that most do not have, a day, and a column
/// that is the same everywhere; cells are missing here and there.
fn write_table(path: &Path, rows: u64) {
    let mut text = String::from("age,city,income,day,country\n");
    let noise = Noise::new(Seed(3), 0..rows).uniform(5);
    for (i, u) in noise.chunks_exact(5).enumerate() {
        let old = u[0] < 0.4;
        let age = if old { 55.0 + 20.0 * u[1] } else { 20.0 + 25.0 * u[1] };
        let age = if i % 11 == 3 { "?".into() } else { format!("{age:.0}") };
        let city = match (old == (u[2] < 0.8), u[3] < 0.5) {
            (true, true) => "Bern",
            (true, false) => "Genf",
            _ => "Chur",
        };
        let city = if i % 13 == 5 { "" } else { city };
        let income = if u[4] < 0.7 { "0".into() } else { format!("{:.2}", 900.0 + 4000.0 * u[1]) };
        let day = 1 + (27.0 * u[2]) as u32;
        text += &format!("{age},{city},{income},2024-03-{day:02},CH\n");
    }
    std::fs::write(path, text).unwrap();
}

fn options(path: &Path) -> FitOptions {
    FitOptions::default()
        .set("data.source", path.display().to_string())
        .set("data.types", toml::Table::new())
        .set("base.components", vec![1, 2, 4])
        .set("categories.model", "base")
        .set("model.network.width", 8)
        .set("train.iterations", 2)
}

/// The columns of a row as a file would have them; those that are left out are missing.
fn table(density: &Density, rows: &[&[(&'static str, &'static str)]]) -> Dataset {
    let names = ["age", "city", "income", "day", "country"];
    let column = |name: &&str| {
        let cell = |row: &&[(&'static str, &'static str)]| -> &'static str {
            row.iter().find(|(column, _)| column == name).map_or("", |(_, cell)| *cell)
        };
        RawColumn::cells(*name, rows.iter().map(cell))
    };
    let raw = RawTable::new(names.iter().map(column).collect()).unwrap();
    Dataset::of_raw(raw, density.run().data.schema.as_ref().unwrap()).unwrap()
}

fn exactly(data: &Dataset, density: &Density) -> Vec<f64> {
    let features = density.run().data.features().unwrap();
    let rows: Vec<usize> = (0..data.rows()).collect();
    // the noise that scores take of a first draw
    let seed = Seed(0).derive("draw 0").derive("dequantise");
    let scaled = features.scaled(data, &rows, &mut Noise::new(seed, 0..rows.len() as u64));
    let Base::Mixed(mixture) = density.run().model.base() else { panic!("a mixture") };
    let of_rows = to_vec(&mixture.log_density(&features.observed(&scaled)));
    let jacobian = scaled.log_jacobian(features.cells().numbers);
    of_rows.iter().zip(jacobian).map(|(a, b)| a + b).collect()
}

/// What a score is made of: categories and numbers add up to it; a column given the others is the
/// score less that of the row without its cell, of the base exactly; a missing cell has none, and
/// the cell that does not go with the others is the least likely.
#[test]
fn scores_in_parts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("people.csv");
    write_table(&path, 600);
    let density = Density::fit_source(&options(&path), &mut Silent).unwrap();
    let cells = [
        &[("age", "31"), ("city", "Bern"), ("income", "0"), ("day", "2024-03-09")][..],
        &[("age", "66"), ("income", "2711.50")],
        &[("age", "24"), ("city", "Chur"), ("income", "900000"), ("day", "2024-03-21")],
    ];
    let rows = table(&density, &cells);
    let options = ScoreOptions { steps: 5, draws: 1, ..ScoreOptions::default() };
    let scores = density.log_prob(&rows, &options).unwrap();
    let parts_of = |of| density.parts(&rows, scores.values(), of, &options, &mut Silent).unwrap();
    let (base, model) = (parts_of(Some(PartsOf::Base)), parts_of(None));
    assert_eq!(base.categories_and_numbers, model.categories_and_numbers);
    let [categories, numbers] = base.categories_and_numbers.as_ref().unwrap();
    for (row, value) in scores.values().iter().enumerate() {
        assert!((categories[row] + numbers[row] - value).abs() < 1e-9);
        assert!(categories[row] < 0.0, "{categories:?}");
    }
    let exact = exactly(&rows, &density);
    for (name, (of_base, of_model)) in
        ["age", "city", "income", "day"].iter().zip(base.columns.iter().zip(&model.columns))
    {
        assert_eq!((&*of_base.name, &*of_model.name), (*name, *name));
        let others: Vec<Vec<(&str, &str)>> = cells
            .iter()
            .map(|row| row.iter().copied().filter(|(column, _)| column != name).collect())
            .collect();
        let others: Vec<&[(&str, &str)]> = others.iter().map(Vec::as_slice).collect();
        let others = table(&density, &others);
        let less = density.log_prob(&others, &options).unwrap();
        for (row, (exact, others)) in exact.iter().zip(exactly(&others, &density)).enumerate() {
            let (base, model) = (of_base.given_rest[row], of_model.given_rest[row]);
            if cells[row].iter().all(|(column, _)| column != name) {
                assert!(base.is_nan() && model.is_nan() && of_base.from_usual[row].is_nan());
                continue;
            }
            let close = |a: f64, b: f64, of: f64| (a - b).abs() < 1e-9 * (1.0 + of.abs());
            assert!(close(base, exact - others, *exact), "{name}, {row}: {base}");
            let score = scores.values()[row];
            let expected = score - less.values()[row];
            assert!(close(model, expected, score), "{name}, {row}: {model} {expected}");
        }
    }
    for parts in [&base, &model] {
        assert_eq!(parts.least_likely(1).len(), 2);
        assert_eq!(parts.least_likely(2)[0].0.name, "income");
    }
}

/// A table is fitted without being told of its columns; a likelihood is of what is there, the chain
/// rule holds, and samples have the columns of the file.
#[test]
fn a_table_as_it_comes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("people.csv");
    write_table(&path, 600);
    let out = Some(dir.path().join("run"));
    let density = Density::fit_source(&FitOptions { out, ..options(&path) }, &mut Silent).unwrap();
    assert_eq!(density.run().data.names(), ["age", "city", "income", "day", "country"]);
    let loaded = Density::load(dir.path().join("run")).unwrap();

    // an untrained network is its base, whose likelihoods are exact
    let flow = ScoreOptions { estimator: Estimator::Ode, ..ScoreOptions::default() };
    let rows = table(
        &density,
        &[
            &[("age", "31"), ("city", "Bern"), ("income", "0"), ("day", "2024-03-09")],
            &[("age", "66"), ("income", "2711.50")],
            &[("city", "Chur"), ("day", "2024-03-21")],
            &[("city", "Genf")],
            &[("age", "40")],
        ],
    );
    let found = density.log_prob(&rows, &flow).unwrap();
    for (i, (found, exact)) in found.values().iter().zip(exactly(&rows, &density)).enumerate() {
        assert!((found - exact).abs() < 0.05, "row {i}: {found} {exact}");
    }
    assert_eq!(loaded.log_prob(&rows, &flow).unwrap().values(), found.values());
    // ln p(c) of a category alone is exact, whatever the network
    let cities: f64 = ["Bern", "Genf", "Chur"]
        .iter()
        .map(|city| {
            density.log_prob(&table(&density, &[&[("city", city)]]), &flow).unwrap().values()[0]
                .exp()
        })
        .sum();
    assert!((cities - 1.0).abs() < 1e-4, "{cities}");

    // ln p(row) = ln p(city, day) + ln p(the rest | city, day)
    let whole = table(
        &density,
        &[&[("age", "31"), ("city", "Bern"), ("income", "0"), ("day", "2024-03-09")]],
    );
    let part = table(&density, &[&[("city", "Bern"), ("day", "2024-03-09")]]);
    let given = ScoreOptions { given: vec!["city".into(), "day".into()], ..flow.clone() };
    let of = |data: &Dataset, options: &ScoreOptions| {
        density.log_prob(data, options).unwrap().values()[0]
    };
    let gap = of(&whole, &flow) - of(&part, &flow) - of(&whole, &given);
    assert!(gap.abs() < 0.1, "{gap}");

    // judged beside its base, which it still is: their difference is that of a bound
    let judge = EvaluateOptions {
        metrics: vec![Metric::Nll, Metric::Quality],
        steps: vec![20],
        rows: Some(60),
        target: Some("city".into()),
        ..EvaluateOptions::default()
    };
    let judged = density.evaluate(&density.read(&path).unwrap(), &judge).unwrap();
    let base = judged.base().unwrap().value;
    // the others take numbers to be independent of each other
    let own = |line: &&Line| line.name.contains("learned") || line.name.contains("ODE");
    let lines: Vec<&Line> = judged.own().filter(own).collect();
    assert_eq!(lines.len(), 2);
    for line in lines {
        assert!((line.value - base).abs() < 0.5, "{}: {} {base}", line.name, line.value);
    }
    let quality = judged.quality.unwrap();
    assert!(quality.shape.mean.unwrap() > 0.8, "{:?}", quality.shape);
    assert!(quality.utility.is_some() && quality.holdout_rows == 60);

    // samples come back as the file has its cells
    let steps = SampleOptions { steps: 10, ..SampleOptions::default() };
    let samples = density.sample(50, &steps).unwrap();
    let out = dir.path().join("samples.csv");
    samples.write(&out).unwrap();
    let text = std::fs::read_to_string(&out).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("age,city,income,day,country"));
    for line in lines {
        let cells: Vec<&str> = line.split(',').collect();
        assert!(cells[0].parse::<i64>().is_ok(), "{line}");
        assert!(["Bern", "Genf", "Chur"].contains(&cells[1]), "{line}");
        let decimals = cells[2].split_once('.').map_or(0, |(_, decimals)| decimals.len());
        assert!(cells[2] == "0" || decimals <= 2, "{line}");
        assert!(cells[3].starts_with("2024-0") && cells[3].len() == 10, "{line}");
        assert_eq!(cells[4], "CH");
    }
    assert!(text.lines().filter(|line| line.split(',').nth(2) == Some("0")).count() > 15);
    assert_eq!(
        Dataset::read_with_schema(
            &out,
            density.run().data.schema.as_ref().unwrap(),
            &Default::default()
        )
        .unwrap()
        .rows(),
        50
    );

    // what is there stays as it is, and no cell is missing
    let holes = density.read(&path).unwrap();
    assert!(holes.has_holes());
    let filled = density.impute(&holes, &steps).unwrap();
    assert!(!filled.has_holes());
    let (a, b) = (dir.path().join("a.csv"), dir.path().join("b.csv"));
    holes.write(&a).unwrap();
    filled.write(&b).unwrap();
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    for (a, b) in read(&a).lines().zip(read(&b).lines()) {
        let kept = a.split(',').zip(b.split(',')).all(|(a, b)| a.is_empty() || a == b);
        assert!(kept, "{a}\n{b}");
    }
}

/// Of categories that are equal the base takes one for independent of the other; a network learns
/// that they are, in a part of the same training, is kept with the run and interrupted with it.
#[test]
fn a_network_learns_the_categories() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("equal.csv");
    let mut text = String::from("a,b,x\n");
    let noise = Noise::new(Seed(1), 0..400).uniform(2);
    for (i, u) in noise.chunks_exact(2).enumerate() {
        let name = ["red", "green", "blue"][(3.0 * u[0]) as usize];
        text += &format!("{name},{name},{:.4}\n", u[1] + (i % 2) as f64);
    }
    std::fs::write(&path, text).unwrap();
    let config = options(&path)
        .set("base.components", vec![1])
        .set("categories.model", "network")
        .set("categories.width", 16)
        .set("categories.batch_size", 64)
        .set("categories.learning_rate", 0.01)
        // what is dropped comes from LibTorch's own generator, which tests share
        .set("categories.dropout", 0.0)
        .set("model.network.dropout", 0.0)
        .set("train.iterations", 300)
        .set("train.batch_size", 4)
        .set("objective.transitions", 1);
    let out = dir.path().join("run");
    let fit = FitOptions { out: Some(out.clone()), ..config.clone() };
    let stopping = &mut StopAt { after: 2, done: 0 };
    let stopped = Density::fit_source(&fit, stopping).map(drop).unwrap_err();
    assert!(matches!(stopped, Error::Interrupted(_)), "{stopped}");
    let early = Density::load(&out).unwrap();
    let resumed = FitOptions { out: Some(out.clone()), resume: true, ..FitOptions::default() };
    let density = Density::fit_source(&resumed, &mut Silent).unwrap();
    let rows = density.read(&path).unwrap();
    let score = |density: &Density| {
        let options = ScoreOptions { estimator: Estimator::Bound, draws: 1, ..Default::default() };
        density.log_prob(&rows, &options).unwrap()
    };
    let base = density.parts(
        &rows,
        score(&density).values(),
        Some(PartsOf::Base),
        &ScoreOptions { estimator: Estimator::Bound, draws: 1, ..ScoreOptions::default() },
        &mut Silent,
    );
    let [categories, _] = base.unwrap().categories_and_numbers.unwrap();
    let mean = categories.iter().sum::<f64>() / categories.len() as f64;
    assert!((mean + 3f64.ln()).abs() < 0.05, "ln p of both is nearly −ln 3: {mean}");
    assert!(score(&early).mean() < score(&density).mean() - 0.5, "stopped before it was learned");

    // the same bits as of a training that nothing interrupts, and in the file
    let whole = Density::fit_source(&config, &mut Silent).unwrap();
    assert_eq!(score(&whole).values(), score(&density).values());
    let loaded = Density::load(&out).unwrap();
    assert_eq!(score(&loaded).values(), score(&density).values());
    // samples have equal categories, and a given one decides the other
    let sampling = SampleOptions { steps: 3, ..SampleOptions::default() };
    let drawn = density.sample(200, &sampling).unwrap().table.unwrap();
    let samples = dir.path().join("samples.csv");
    drawn.write(&samples).unwrap();
    let text = std::fs::read_to_string(&samples).unwrap();
    let cells = text.lines().skip(1).map(|line| line.split(',').collect::<Vec<_>>());
    assert!(cells.filter(|cells| cells[0] == cells[1]).count() > 190, "{text}");

    std::fs::remove_file(out.join("categories.safetensors")).unwrap();
    let missing = Density::load(&out).map(drop).unwrap_err().to_string();
    assert!(missing.contains("categories.safetensors") && !missing.contains('\n'), "{missing}");
}

/// Stops after so many units of a piece of work, of which none are done yet.
struct StopAt {
    after: u64,
    done: u64,
}

impl Watch for StopAt {
    fn progress(&mut self, done: u64, _of: u64) {
        self.done = done;
    }

    fn stop(&self) -> bool {
        self.done >= self.after
    }
}

impl WatchFit for StopAt {}

/// What such a density does not do, and rows that are not its own, are refused in words.
#[test]
fn what_cannot_be_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("people.csv");
    write_table(&path, 200);
    let density = Density::fit_source(&options(&path), &mut Silent).unwrap();
    let holes = density.read(&path).unwrap();
    let given = |columns: &[&str]| ScoreOptions {
        given: columns.iter().map(ToString::to_string).collect(),
        ..ScoreOptions::default()
    };
    let problem = |columns: &[&str]| {
        density.log_prob(&holes, &given(columns)).map(drop).unwrap_err().to_string()
    };
    assert!(problem(&["street"]).contains("no column `street`"));
    assert!(problem(&["age", "city", "income", "day", "country"]).contains("all columns"));
    let mmd = EvaluateOptions { metrics: vec![Metric::Mmd], ..EvaluateOptions::default() };
    let refused = density.evaluate(&holes, &mmd).map(drop).unwrap_err();
    assert!(refused.to_string().contains("mixed table"), "{refused}");
    let other = Dataset::read_as_it_comes(&path, &TypeOptions::default(), &Default::default());
    let narrow = other.unwrap().select(&["age"]).unwrap();
    assert!(density.log_prob(&narrow, &ScoreOptions::default()).is_err());
    let isotropic = options(&path).set("base.kind", "isotropic");
    let refused = Density::fit_source(&isotropic, &mut Silent).map(drop).unwrap_err();
    assert_eq!(refused.option(), Some("base.kind"));
}

/// Hours and days have an edge at both ends, which a spline keeps without any bound.
#[test]
fn uniform_grids_stay_within_their_ends() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hours.csv");
    let mut text = String::from("hour,load\n");
    for i in 0..1500 {
        text += &format!("{},{:.3}\n", i * 7 % 24, f64::from(i * i % 613) / 61.3);
    }
    std::fs::write(&path, text).unwrap();
    let density = Density::fit_source(&options(&path), &mut Silent).unwrap();
    let choice = &density.run().data.marginals[0];
    assert!(choice.both_edges && choice.marginals == Marginals::Gaussianize, "{choice:?}");
    let samples = density.sample(2000, &SampleOptions { steps: 20, ..SampleOptions::default() });
    let drawn = samples.unwrap().table.unwrap();
    let hours: Vec<f64> = (0..2000).map(|row| drawn.column(0).unwrap().get(row)).collect();
    // standardised, 7 % of them lay outside
    let outside = hours.iter().filter(|&&hour| !(0.0..=23.0).contains(&hour)).count();
    assert!(outside < 10, "{outside}");
}

/// Bounds are of the density: it integrates to 1 between them, no sample lies outside, and neither
/// does a cell that is scored. Without bounds a quarter of the samples of `price` were below 0.
#[test]
fn nothing_lies_outside_of_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("offers.csv");
    let noise = Noise::new(Seed(5), 0..500).uniform(3);
    let mut text = String::from("price,rate,hour,day\n");
    for u in noise.chunks_exact(3) {
        let price = -(1.0 - u[0]).ln() * (1.0 + u[1]);
        let day = 1 + (27.0 * u[2]) as u32;
        text += &format!("{price},{},{:.0},2024-03-{day:02}\n", u[1] * u[1], (23.0 * u[2]).round());
    }
    std::fs::write(&path, text).unwrap();
    let bounds = ["price>=0", "rate>=0", "rate<=1", "hour>=0", "hour<=23", "day>=2024-03-01"];
    let fit = |bounds: &[&str]| {
        let options = options(&path).set("data.table.bounds", bounds.to_vec());
        Density::fit_source(&options, &mut Silent)
    };
    let density = fit(&bounds).unwrap();
    let columns = ["price", "rate", "hour", "day"];
    let rows = |cells: Vec<Vec<String>>| {
        let column = |(k, name): (usize, &&'static str)| {
            RawColumn::cells(*name, cells.iter().map(move |row| row[k].as_str()))
        };
        let raw = RawTable::new(columns.iter().enumerate().map(column).collect()).unwrap();
        Dataset::of_raw(raw, density.run().data.schema.as_ref().unwrap())
    };
    let alone = |k: usize, cell: String| {
        let mut row = vec![String::new(); columns.len()];
        row[k] = cell;
        row
    };

    // the midpoint rule in the square root, as a density may be steep at 0
    for (k, end) in [(0, 6.0), (1, 1.0)] {
        let step = end / 1000.0;
        let root = |i: usize| (i as f64 + 0.5) * step;
        let cells = (0..1000).map(|i| alone(k, format!("{}", root(i) * root(i)))).collect();
        let log_density = exactly(&rows(cells).unwrap(), &density);
        let total: f64 =
            log_density.iter().enumerate().map(|(i, l)| l.exp() * 2.0 * root(i) * step).sum();
        assert!((total - 1.0).abs() < 5e-3, "{}: {total}", columns[k]);
    }

    let samples = density.sample(400, &SampleOptions { steps: 5, ..SampleOptions::default() });
    let drawn = samples.unwrap().table.unwrap();
    let first = 1_709_251_200.0; // 2024-03-01
    for (k, name) in drawn.names().iter().enumerate() {
        let values = drawn.column(k).unwrap();
        let all: Vec<f64> = (0..values.len()).map(|row| values.get(row)).collect();
        let range = match name.as_str() {
            "price" => 0.0..=f64::MAX,
            "rate" => 0.0..=1.0,
            "hour" => 0.0..=23.0,
            _ => first..=f64::MAX,
        };
        assert!(all.iter().all(|value| range.contains(value)), "{name}: {all:?}");
    }

    // a bound itself is inside
    let edge = vec!["0", "1", "23", "2024-03-01"].into_iter().map(String::from).collect();
    assert!(exactly(&rows(vec![edge]).unwrap(), &density)[0].is_finite());
    let message =
        rows(vec![alone(1, "0.5".into()), alone(1, "1.5".into())]).unwrap_err().to_string();
    for part in ["row 2", "rate", "1.5", "from 0 to 1"] {
        assert!(message.contains(part), "{part:?} is not in {message}");
    }
    for (bounds, says) in [
        (["prise>=0"].as_slice(), "no such column"),
        (&["price>=0.5"], "expected a value of at least 0.5"),
        (&["price>=nought"], "'nought' is no value"),
        (&["price>=0", "price>=-1"], "a second bound"),
        (&["hour>=23", "hour<=0"], "nothing is between"),
    ] {
        let message = fit(bounds).map(|_| ()).unwrap_err().to_string();
        assert!(message.contains(says) && !message.contains('\n'), "{message}");
    }
}

/// A model of columns given others: scores are of the others, draws are given the context, and
/// nothing is drawn without it. The untrained network is its base, whose conditional distribution
/// is exact.
#[test]
fn a_model_given_columns() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("people.csv");
    write_table(&path, 600);
    let config = options(&path).set("data.context", vec!["city", "age"]);
    let density = Density::fit_source(&config, &mut Silent).unwrap();
    let joint = Density::fit_source(&options(&path), &mut Silent).unwrap();
    let whole = [("age", "31"), ("city", "Bern"), ("income", "1200.00"), ("day", "2024-03-09")];
    let rows = table(&density, &[&whole, &whole[..3], &whole[1..]]);
    let flow = ScoreOptions { estimator: Estimator::Ode, ..ScoreOptions::default() };
    let found = density.log_prob(&rows, &flow).unwrap();
    let context = table(&density, &[&whole[..2], &whole[..2], &whole[1..2]]);
    let exact = exactly(&rows, &density).into_iter().zip(exactly(&context, &density));
    for (i, (found, (all, known))) in found.values().iter().zip(exact).enumerate() {
        assert!((found - (all - known)).abs() < 0.05, "row {i}: {found} {}", all - known);
    }
    // the context is given whether it is named again or not
    let again = ScoreOptions { given: vec!["age".into(), "city".into()], ..flow };
    assert_eq!(density.log_prob(&rows, &again).unwrap().values(), found.values());

    let sampling = SampleOptions { steps: 5, ..SampleOptions::default() };
    let message = density.sample(3, &sampling).unwrap_err().to_string();
    assert!(message.contains("given city, age"), "{message}");
    // a context that is missing stays so, as training rows are without it too
    let holes = density.impute(&table(&density, &[&whole[1..3]]), &sampling).unwrap();
    assert!(holes.holes() == 1 && holes.column(0).unwrap().get(0).is_nan());
    let drawn = density.impute(&context.take(&[0, 1]), &sampling).unwrap();
    assert_eq!(drawn.column(0).unwrap().get(1), 31.0);

    let evaluate = EvaluateOptions {
        metrics: vec![Metric::Nll, Metric::Crps],
        steps: vec![5],
        draws: 20,
        ..EvaluateOptions::default()
    };
    let test = density.test_rows(None, None).unwrap();
    let judged = density.evaluate_with(Some(&test), None, &evaluate, &mut Silent).unwrap();
    let columns: Vec<&str> = judged.forecasts.iter().map(|of| of.column.as_str()).collect();
    assert_eq!(columns, ["income", "day"]);
    assert!(judged.forecasts.iter().all(|of| of.crps > 0.0 && of.pit_distance < 0.4));
    // the base of the joint model on the same question
    let given = EvaluateOptions {
        metrics: vec![Metric::Nll],
        given: vec!["age".into(), "city".into()],
        ..evaluate.clone()
    };
    let other = joint.evaluate_with(Some(&test), None, &given, &mut Silent).unwrap();
    let [own, other] = [&judged, &other].map(|found| found.base().unwrap().value);
    assert!((own - other).abs() < 1.0, "{own} {other}");
    // of a day, which no training row is without, it cannot be
    let config = options(&path).set("data.context", vec!["day"]);
    let of_days = Density::fit_source(&config, &mut Silent).unwrap();
    let message = of_days.impute(&table(&of_days, &[&whole[..1]]), &sampling).map(|_| ());
    let message = message.unwrap_err().to_string();
    assert!(message.contains("row 1: `day` is missing"), "{message}");

    let none = EvaluateOptions { metrics: vec![Metric::Crps], ..evaluate };
    let message = joint.evaluate_with(Some(&test), None, &none, &mut Silent).map(|_| ());
    assert!(message.unwrap_err().to_string().contains("nothing is given"));

    for (context, says) in [
        (vec!["name"], "`name` is no column"),
        (vec!["country"], "`country` is no column that is modelled"),
        (vec!["age", "city", "income", "day"], "all columns are given"),
    ] {
        let config = options(&path).set("data.context", context);
        let message =
            Density::fit_source(&config, &mut Silent).map(|_| ()).unwrap_err().to_string();
        assert!(message.contains(says), "{message}");
    }
}

/// Several draws, and what they come to: the intervals of a base that is the truth hold what they
/// say.
#[test]
fn cells_are_filled_by_draws_and_by_what_they_come_to() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("people.csv");
    write_table(&path, 600);
    let density = Density::fit_source(&options(&path), &mut Silent).unwrap();
    let rows = table(
        &density,
        &[
            &[("age", "31"), ("city", "Bern"), ("income", "1200.00"), ("day", "2024-03-09")],
            &[("age", "66"), ("income", "2711.50")],
            &[("city", "Chur"), ("day", "2024-03-21")],
        ],
    );
    let sampling = SampleOptions { steps: 5, ..SampleOptions::default() };
    let three = FillOptions { draws: Some(3), ..FillOptions::default() };
    let drawn = density.fill(&rows, &three, &sampling).unwrap();
    assert_eq!(drawn.names(), ["draw", "age", "city", "income", "day", "country"]);
    assert_eq!(drawn.rows(), 9);
    let cell = |data: &Dataset, name: &str, row: usize| {
        let k = data.names().iter().position(|own| own == name).unwrap();
        data.column(k).unwrap().get(row)
    };
    let numbers: Vec<f64> = (0..9).map(|row| cell(&drawn, "draw", row)).collect();
    assert_eq!(numbers, [1.0, 2.0, 3.0].repeat(3));
    assert!((3..6).all(|row| cell(&drawn, "age", row) == 66.0), "the second row's own");

    let median = FillOptions { fill: Fill::Median, draws: Some(200), interval: Some(0.8) };
    let filled = density.fill(&rows, &median, &sampling).unwrap();
    let names = ["age", "city", "income", "day", "country"];
    let beside = ["age_low", "age_high", "income_low", "income_high", "day_low", "day_high"];
    assert_eq!(filled.names(), [&names[..], &beside[..]].concat());
    assert_eq!(filled.holes(), 3 * 2 * 2, "ends of intervals of two cells each that were there");
    let [low, age, high] = ["age_low", "age", "age_high"].map(|name| cell(&filled, name, 2));
    assert!(low < age && age < high, "{low} {age} {high}");
    assert_eq!(cell(&filled, "age", 1), 66.0);
    // the quantiles of many draws from the base's exact distribution of ages in Chur on that day
    let many = FillOptions { draws: Some(2000), ..FillOptions::default() };
    let exact = density.fill(&rows.take(&[2]), &many, &sampling).unwrap();
    let mut ages: Vec<f64> = (0..2000).map(|row| cell(&exact, "age", row)).collect();
    ages.sort_by(f64::total_cmp);
    let within = ages.iter().filter(|&&age| low <= age && age <= high).count();
    // .8 and three standard errors of an interval of 200 draws, and whole years at its ends
    assert!((1500..1900).contains(&within), "{within}");

    let clash = dir.path().join("clash.csv");
    std::fs::write(&clash, std::fs::read_to_string(&path).unwrap().replacen("income", "draw", 1))
        .unwrap();
    let density = Density::fit_source(&options(&clash), &mut Silent).unwrap();
    let message = density.fill(&density.read(&clash).unwrap(), &three, &sampling).map(|_| ());
    assert!(message.unwrap_err().to_string().contains("has a column `draw`"));
}

/// A file of some of the columns gives the cells that others are drawn given.
#[test]
fn rows_are_given_by_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let [path, some, none] =
        ["people.csv", "some.csv", "none.csv"].map(|name| dir.path().join(name));
    write_table(&path, 300);
    let density = Density::fit_source(&options(&path), &mut Silent).unwrap();
    std::fs::write(&some, "who,city,age\nann,Bern,40\nbob,Genf,\n").unwrap();
    let rows = density.given_file(&some).unwrap();
    assert_eq!((rows.names().len(), rows.rows(), rows.holes()), (5, 2, 1 + 2 * 2));
    let sampling = SampleOptions { steps: 5, ..SampleOptions::default() };
    let drawn = density.impute(&rows, &sampling).unwrap();
    assert_eq!((drawn.holes(), drawn.column(0).unwrap().get(0)), (0, 40.0));
    std::fs::write(&none, "who\nann\n").unwrap();
    let message = density.given_file(&none).unwrap_err().to_string();
    assert!(message.contains("none.csv: has none of the columns `age`"), "{message}");
    std::fs::write(&some, "city\nParis\n").unwrap();
    let message = density.given_file(&some).unwrap_err().to_string();
    assert!(message.contains("Paris"), "{message}");
}

/// Intervals of 90 % hold nine in ten of the cells that were taken out at random, of rows that are
/// from the model itself: 99 draws have 90 of their 100 gaps between the fifth and the 95th.
#[test]
fn nine_in_ten_cells_lie_in_their_intervals() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("points.csv");
    let noise = Noise::new(Seed(8), 0..600).uniform(4);
    let mut text = String::from("a,b,c,kind\n");
    for u in noise.chunks_exact(4) {
        let [kind, shift] = if u[0] < 0.4 { ["x", "3"] } else { ["y", "-1"] };
        let a = shift.parse::<f64>().unwrap() + (u[1] / (1.0 - u[1])).ln();
        let b = 0.7 * a + (u[2] / (1.0 - u[2])).ln();
        text += &format!("{a},{b},{},{kind}\n", a - b + 2.0 * u[3]);
    }
    std::fs::write(&path, text).unwrap();
    let density = Density::fit_source(&options(&path), &mut Silent).unwrap();
    let sampling = SampleOptions { steps: 20, ..SampleOptions::default() };
    let truth = density.sample(800, &SampleOptions { seed: 5, ..sampling.clone() });
    let truth = truth.unwrap().table.unwrap();
    let rows: Vec<usize> = (0..truth.rows()).collect();
    let whole = dir.path().join("whole.csv");
    truth.write(&whole).unwrap();
    let cells = std::fs::read_to_string(&whole).unwrap();
    let keep = Noise::new(Seed(9), 0..rows.len() as u64).uniform(4);
    let holes: Vec<String> = cells
        .lines()
        .skip(1)
        .zip(keep.chunks_exact(4))
        .map(|(line, keep)| {
            let cells = line.split(',').zip(keep);
            let kept = cells.map(|(cell, keep)| if *keep < 0.2 { "" } else { cell });
            kept.collect::<Vec<_>>().join(",")
        })
        .collect();
    let holed = dir.path().join("holes.csv");
    std::fs::write(&holed, format!("a,b,c,kind\n{}\n", holes.join("\n"))).unwrap();
    let holed = density.read(&holed).unwrap();
    let median = FillOptions { fill: Fill::Median, draws: Some(99), interval: Some(0.9) };
    let filled = density.fill(&holed, &median, &sampling).unwrap();
    let (mut inside, mut all) = (0, 0);
    for k in 0..3 {
        for &row in &rows {
            let of = |data: &Dataset, k: usize| data.column(k).unwrap().get(row);
            if of(&holed, k).is_nan() {
                let (low, high) = (of(&filled, 4 + 2 * k), of(&filled, 5 + 2 * k));
                inside += usize::from((low..=high).contains(&of(&truth, k)));
                all += 1;
            }
        }
    }
    // the standard error is .014
    let share = f64::from(inside as u32) / f64::from(all);
    assert!((0.86..0.94).contains(&share), "{inside} of {all}");
}

/// Rows of two dates, of four prices of which one is never less than another, and of two times that
/// are often the same, each with cells missing here and there; in a tenth of the rows of `low` and
/// `high` both are the same.
fn write_ordered(path: &Path, rows: u64) {
    let mut text = String::from("end,start,low,high,close,first,last,kind\n");
    let noise = Noise::new(Seed(11), 0..rows).uniform(6);
    for (i, u) in noise.chunks_exact(6).enumerate() {
        let start = 1 + (20.0 * u[0]) as u32;
        let end = start + (8.0 * u[1] * u[1]) as u32;
        let low = 2.0 + 0.3 * (u[2] / (1.0 - u[2])).ln();
        let high = if u[3] < 0.1 { low } else { low + u[3] };
        let close = high + u[4] * u[4];
        let first = (90.0 * u[5]) as u32;
        let last = if u[1] < 0.3 { first } else { first + 1 + (40.0 * u[4]) as u32 };
        let end = if i % 13 == 5 { String::new() } else { format!("2024-03-{end:02}") };
        let low_text = if i % 17 == 2 { "?".into() } else { format!("{low:.4}") };
        let high = if i % 17 == 2 { "?".into() } else { format!("{high:.4}") };
        let close = if i % 17 == 2 { "?".into() } else { format!("{close:.4}") };
        text += &format!("{end},2024-03-{start:02},{low_text},{high},{close},{first},{last},");
        text += if u[0] < 0.5 { "x\n" } else { "y\n" };
    }
    std::fs::write(path, text).unwrap();
}

const ORDERS: [&str; 4] = ["start<=end", "low<=high", "high<=close", "first<=last"];
const ORDERED: [&str; 8] = ["end", "start", "low", "high", "close", "first", "last", "kind"];

fn ordered_rows(density: &Density, rows: &[&[(&'static str, String)]]) -> Dataset {
    let column = |name: &&'static str| {
        let cell = |row: &&[(&'static str, String)]| -> String {
            row.iter().find(|(column, _)| column == name).map_or(String::new(), |(_, c)| c.clone())
        };
        let cells: Vec<String> = rows.iter().map(cell).collect();
        RawColumn::cells(*name, cells.iter().map(String::as_str))
    };
    let raw = RawTable::new(ORDERED.iter().map(column).collect()).unwrap();
    Dataset::of_raw(raw, density.run().data.schema.as_ref().unwrap()).unwrap()
}

/// Whether no row of a file is out of order as it is written, both cells being there; the number of
/// pairs.
fn pairs_in_order(data: &Dataset, dir: &Path) -> usize {
    let path = dir.join("written.csv");
    data.write(&path).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let names: Vec<&str> = text.lines().next().unwrap().split(',').collect();
    let place = |name: &str| names.iter().position(|own| *own == name).unwrap();
    let mut pairs = 0;
    for line in text.lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        for order in ORDERS {
            let (lower, upper) = order.split_once("<=").unwrap();
            let [lower, upper] = [lower, upper].map(|name| cells[place(name)]);
            if lower.is_empty() || upper.is_empty() {
                continue;
            }
            let dates = lower.matches('-').count() == 2;
            let number = |text: &str| text.parse::<f64>().unwrap_or_else(|_| panic!("{line}"));
            let right = if dates { lower <= upper } else { number(lower) <= number(upper) };
            assert!(right, "{order}: {line}");
            pairs += 1;
        }
    }
    pairs
}

/// Orders are of the density: it integrates to 1 where columns are in order, no sample is out of
/// it, drawn of nothing or of cells that are given, and neither is a row that is scored.
#[test]
fn nothing_is_out_of_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stays.csv");
    write_ordered(&path, 600);
    let fit = |orders: &[&str]| {
        let options = options(&path).set("data.table.order", orders.to_vec());
        Density::fit_source(&options, &mut Silent)
    };
    let density = fit(&ORDERS).unwrap();
    let data = density.read(&path).unwrap();

    // features and back: the file's cells, to the letter
    let features = density.run().data.features().unwrap();
    let layout = features.layout();
    let all: Vec<usize> = (0..data.rows()).collect();
    let encoded = layout.encode(&data, &all);
    let numbers: Vec<f64> = encoded.numbers.iter().map(|&number| number.into()).collect();
    let back = dir.path().join("back.csv");
    layout.decode(&numbers, &encoded.codes).write(&back).unwrap();
    let [back, own] = [&back, &path].map(|path| std::fs::read_to_string(path).unwrap());
    assert_eq!(back, own.replace('?', ""));

    // `last` is often `first`, and `high` often `low`: differences of 0 are atoms
    let atoms = |name: &str| {
        let schema = density.run().data.schema.as_ref().unwrap();
        schema.column(name).unwrap().difference.as_ref().unwrap().atoms.clone()
    };
    assert_eq!((atoms("last"), atoms("high")), (vec![0.0], vec![0.0]));
    assert!(atoms("end").is_empty() && atoms("close").is_empty());

    // ∫∫ p(low, high) over low ≤ high is 1: the diagonal, and by the midpoint rule the rest, in the
    // root of the difference; rows in order of low, far enough
    let (steps, mut rows) = (90usize, Vec::new());
    let mut weights = Vec::new();
    for i in 0..steps {
        let (low, width) = ((i as f64 + 0.5) * 0.08 - 1.6, 0.08);
        rows.push([("low", format!("{low}")), ("high", format!("{low}"))]);
        weights.push(width);
        for j in 0..steps {
            let (root, thickness) = ((j as f64 + 0.5) * 0.03, 0.03);
            rows.push([("low", format!("{low}")), ("high", format!("{}", low + root * root))]);
            weights.push(width * 2.0 * root * thickness);
        }
    }
    let rows: Vec<&[(&str, String)]> = rows.iter().map(|row| &row[..]).collect();
    let log_density = exactly(&ordered_rows(&density, &rows), &density);
    let total: f64 = log_density.iter().zip(weights).map(|(l, w)| l.exp() * w).sum();
    assert!((total - 1.0).abs() < 0.02, "{total}");
    // of dates the sum over pairs in order is 1: each pair eight times, at random in its square
    let date = |day: u32| match day {
        1..=29 => format!("2024-02-{day:02}"),
        30..=60 => format!("2024-03-{:02}", day - 29),
        _ => format!("2024-04-{:02}", day - 60),
    };
    let pair = |a: u32, b: u32| [("start", date(a)), ("end", date(b))];
    let pairs: Vec<[(&str, String); 2]> =
        (10..70).flat_map(|a| (a..a + 20).map(move |b| (a, b))).map(|(a, b)| pair(a, b)).collect();
    let pairs: Vec<&[(&str, String)]> = pairs.iter().flat_map(|row| [&row[..]; 8]).collect();
    let log_density = exactly(&ordered_rows(&density, &pairs), &density);
    let total: f64 = log_density.iter().map(|l| l.exp() / 8.0).sum();
    assert!((total - 1.0).abs() < 0.02, "{total}");

    let sampling = SampleOptions { steps: 5, ..SampleOptions::default() };
    let drawn = density.sample(300, &sampling).unwrap().table.unwrap();
    assert_eq!(pairs_in_order(&drawn, dir.path()), 300 * 4);
    let same = |name: [&str; 2]| {
        let [a, b] = name.map(|name| ORDERED.iter().position(|own| *own == name).unwrap());
        let equal =
            |row: &usize| drawn.column(a).unwrap().get(*row) == drawn.column(b).unwrap().get(*row);
        (0..300).filter(equal).count()
    };
    // a tenth and three tenths are the same: 4 standard errors are 21 and 32 of 300
    assert!(
        (9..52).contains(&same(["low", "high"])) && (58..123).contains(&same(["first", "last"]))
    );
    // given cells that single precision does not hold, and days beyond those of training
    let given: [&[(&str, String)]; 4] = [
        &[("low", "0.123456789".into()), ("first", "7.25".into())],
        &[("start", "2031-01-01".into()), ("low", "16777217.3".into())],
        &[("low", "1".into()), ("high", "1".into()), ("first", "1e7".into())],
        &[("start", "2024-03-02".into()), ("end", "2024-03-02".into())],
    ];
    let repeated: Vec<&[(&str, String)]> = given.iter().flat_map(|row| [*row; 25]).collect();
    let known = ordered_rows(&density, &repeated);
    let filled = density.impute(&known, &sampling).unwrap();
    assert_eq!((filled.holes(), pairs_in_order(&filled, dir.path())), (0, 400));
    for fill in [Fill::Median, Fill::Mean] {
        let fill = FillOptions { fill, draws: Some(4), interval: None };
        let filled = density.fill(&known.take(&[0, 30, 60, 90]), &fill, &sampling).unwrap();
        assert_eq!((filled.holes(), pairs_in_order(&filled, dir.path())), (0, 16));
    }

    // what is not known of a difference is refused, or said
    let alone = ordered_rows(&density, &[given[0], &[("end", "2024-03-09".into())]]);
    let message = density.impute(&alone, &sampling).map(|_| ()).unwrap_err().to_string();
    for part in ["row 2", "`end` is there and `start` is not", "give `start` too"] {
        assert!(message.contains(part), "{part:?} is not in {message}");
    }
    assert_eq!(exactly(&alone, &density)[1], exactly(&ordered_rows(&density, &[&[]]), &density)[0]);
    let of = |given: &[&str]| {
        let given = given.iter().map(|name| (*name).to_owned()).collect();
        let options = ScoreOptions { given, steps: 3, draws: 1, ..ScoreOptions::default() };
        density.log_prob(&data.take(&[0, 1]), &options)
    };
    let message = of(&["close", "high"]).map(|_| ()).unwrap_err().to_string();
    assert!(message.contains("`high` is modelled by its difference to `low`"), "{message}");
    assert!(of(&["close", "high", "low"]).is_ok() && of(&["low"]).is_ok());
    let parts = ScoreOptions { steps: 3, draws: 1, ..ScoreOptions::default() };
    let scores = density.log_prob(&data.take(&[0, 1]), &parts).unwrap();
    let found =
        density.parts(&data.take(&[0, 1]), scores.values(), None, &parts, &mut Silent).unwrap();
    let names: Vec<&str> = found.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["end", "close", "last", "kind"]);
}

/// Orders that no difference serves, and rows that are out of order.
#[test]
fn orders_that_cannot_be_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stays.csv");
    write_ordered(&path, 300);
    let refused = |options: FitOptions, orders: &[&str]| {
        let options = options.set("data.table.order", orders.to_vec());
        Density::fit_source(&options, &mut Silent).map(|_| ()).unwrap_err().to_string()
    };
    for (orders, says) in [
        (["start<=End"].as_slice(), "no such column"),
        (&["low<=low"], "a column and itself"),
        (&["low<=high", "high<=low"], "in a circle"),
        (&["low<=close", "high<=close"], "the right side of two, with low<=close"),
        (&["kind<=low"], "`kind` is a category"),
        (&["low<=end"], "one is of numbers, the other of dates"),
        (&["low<=last"], "`last` lies on a grid"),
        (&["last<=low"], "expected a value of at least"),
        (&["end<=start"], "expected a value of at least 2024-03-"),
    ] {
        let message = refused(options(&path), orders);
        assert!(message.contains(says) && !message.contains('\n'), "{message}");
    }
    let bounded = options(&path).set("data.table.bounds", vec!["high>=0"]);
    assert!(refused(bounded, &["low<=high"]).contains("`high` has bounds of its own"));
    let given = options(&path).set("data.context", vec!["high"]);
    assert!(refused(given, &["low<=high"]).contains("give `low` too"));
    let dropped = options(&path).set("data.table.drop", vec!["low"]);
    assert!(refused(dropped, &["low<=high"]).contains("no such column"));
    // a value that repeats has no density, and no difference to another has one there
    let capped = dir.path().join("capped.csv");
    let row = |i: u32| {
        let low = f64::from(i * 37 % 101) / 101.0;
        let high = if i.is_multiple_of(3) { 2.0 } else { low + f64::from(i * 53 % 89) / 97.7 };
        format!("{low:.5},{high:.5}\n")
    };
    std::fs::write(&capped, format!("low,high\n{}", (0..300).map(row).collect::<String>()))
        .unwrap();
    let message = refused(options(&capped), &["low<=high"]);
    assert!(message.contains("`high` has an atom, 2"), "{message}");
}

/// Rows whose cells are missing by what the others are: `income` in three tenths of the rows,
/// mostly of the old, `city` in a fifth, `age` in a tenth where `city` is missing; `wage` has an
/// atom at 0.
fn write_holes(path: &Path, rows: u64) {
    let mut text = String::from("age,city,wage,income\n");
    for u in Noise::new(Seed(23), 0..rows).uniform(6).chunks_exact(6) {
        let old = u[0] < 0.4;
        let no_city = u[3] < 0.2;
        let age = if old { 55.0 + 20.0 * u[1] } else { 20.0 + 25.0 * u[1] };
        let age = if no_city && u[4] < 0.5 { String::new() } else { format!("{age:.0}") };
        let city = if old == (u[2] < 0.8) { "Bern" } else { "Chur" };
        let city = if no_city { "" } else { city };
        let wage = if u[5] < 0.3 { "0".into() } else { format!("{:.3}", 3.0 + u[1] + u[5]) };
        let wage = if u[4] > 0.85 { String::new() } else { wage };
        let missing = if old { 0.6 } else { 0.1 };
        let income = (900.0 + 4000.0 * u[1] + 500.0 * u[4]).to_string();
        let income = if u[2] * 0.97 + 0.03 * u[5] < missing { String::new() } else { income };
        text += &format!("{age},{city},{wage},{income}\n");
    }
    std::fs::write(path, text).unwrap();
}

/// Whether each cell of a column is missing.
fn holes_of(data: &Dataset, name: &str) -> Vec<bool> {
    let k = data.names().iter().position(|own| own == name).unwrap();
    (0..data.rows()).map(|row| data.column(k).unwrap().get(row).is_nan()).collect()
}

fn share(of: &[bool]) -> f64 {
    of.iter().filter(|hole| **hole).count() as f64 / of.len() as f64
}

/// Missing cells are categories: their probabilities and those of what is there sum to 1, samples
/// have holes where rows have them, and together where rows have them together, and whatever is
/// filled in is there.
#[test]
fn missing_cells_are_categories() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("people.csv");
    write_holes(&path, 1200);
    let own = options(&path).set("base.components", vec![8]).set("data.missing_indicator", true);
    let density = Density::fit_source(&own, &mut Silent).unwrap();
    let plain = Density::fit_source(&options(&path), &mut Silent).unwrap();
    let data = density.read(&path).unwrap();
    let columns = ["age", "city", "wage", "income"];
    let rows = |density: &Density, cells: &[[&str; 4]]| {
        let column = |k: usize| RawColumn::cells(columns[k], cells.iter().map(move |row| row[k]));
        let raw = RawTable::new((0..4).map(column).collect()).unwrap();
        Dataset::of_raw(raw, density.run().data.schema.as_ref().unwrap()).unwrap()
    };

    // of a row of one column the others are known to be missing: Σ over `city` is p(no other)
    let features = density.run().data.features().unwrap();
    assert_eq!(features.cells().categories, [2, 3, 3, 2]);
    let of_city = exactly(
        &rows(&density, &[["", "Bern", "", ""], ["", "Chur", "", ""], ["", "", "", ""]]),
        &density,
    );
    let Base::Mixed(mixture) = density.run().model.base() else { panic!("a mixture") };
    let mut none = features.scaled(&data, &[0], &mut Noise::new(Seed(0), 0..1));
    none.numbers.fill(f64::NAN);
    none.codes = vec![0, tweedie::query::Cells::MISSING, 1, 0];
    let no_other = to_vec(&mixture.log_density(&features.observed(&none)))[0].exp();
    let total: f64 = of_city.iter().map(|value| value.exp()).sum();
    assert!((total / no_other - 1.0).abs() < 1e-9, "{total} {no_other}");
    // without the option such a row is one of which nothing is known
    assert!(exactly(&rows(&plain, &[["", "", "", ""]]), &plain)[0].abs() < 1e-9);
    // shares of holes of 3,000 samples and of the 960 training rows: 4 standard errors of the
    // difference, and a hundredth for a base of 4 components
    let sampling = SampleOptions { steps: 3, ..SampleOptions::default() };
    let drawn = density.sample(3000, &sampling).unwrap().table.unwrap();
    for name in columns {
        let [own, of_data] = [&drawn, &data].map(|data| share(&holes_of(data, name)));
        let error = (of_data * (1.0 - of_data) * (1.0 / 3000.0 + 1.0 / 960.0)).sqrt();
        assert!((own - of_data).abs() < 4.0 * error + 0.01, "{name}: {own} {of_data}");
    }
    let both = |data: &Dataset| {
        let [age, city] = ["age", "city"].map(|name| holes_of(data, name));
        let both: Vec<bool> = age.iter().zip(&city).map(|(a, b)| *a && *b).collect();
        share(&both)
    };
    // a tenth; were they missing independently of each other, a fiftieth
    assert!((both(&drawn) - both(&data)).abs() < 0.04, "{} {}", both(&drawn), both(&data));
    assert_eq!(plain.sample(100, &sampling).unwrap().table.unwrap().holes(), 0);

    // filled in, and given to others: what is missing is there then
    let filled = density.impute(&data.take(&(0..200).collect::<Vec<_>>()), &sampling).unwrap();
    assert_eq!(filled.holes(), 0);
    let given = rows(&density, &[["31", "", "", ""]; 50]);
    let filled = density.impute(&given, &sampling).unwrap();
    assert!(filled.holes() == 0 && (0..50).all(|row| filled.column(0).unwrap().get(row) == 31.0));
    // p(city | age is there, city is there) exactly, against 4,000 draws
    let of = |cell: &str| {
        let mut cells = features.scaled(&given, &[0], &mut Noise::new(Seed(0), 0..1));
        features.forget_holes(&mut cells);
        cells.codes[1] = u32::from(cell == "Chur");
        // of the columns that are drawn with it all are there
        let codes = |wage: u32| [cells.codes[0], cells.codes[1], wage, 1].to_vec();
        let value = |wage| {
            let cells = tweedie::run::FeatureRows { codes: codes(wage), ..cells.clone() };
            to_vec(&mixture.log_density(&features.observed(&cells)))[0].exp()
        };
        value(0) + value(2)
    };
    let expected = of("Bern") / (of("Bern") + of("Chur"));
    let many = density.impute(&rows(&density, &[["31", "", "", ""]; 4000]), &sampling).unwrap();
    let bern = (0..4000).filter(|&row| many.column(1).unwrap().get(row) == 0.0).count();
    let found = bern as f64 / 4000.0;
    let error = (expected * (1.0 - expected) / 4000.0).sqrt();
    assert!((found - expected).abs() < 4.0 * error + 0.005, "{found} {expected}");

    // off unless requested, and of a table whose columns have no holes nothing is added
    let schema = serde_json::to_string(plain.run().data.schema.as_ref().unwrap()).unwrap();
    assert!(!schema.contains("indicated"), "{schema}");
    let holed = options(&path).set("data.table.order", vec!["age<=income"]);
    let refused = Density::fit_source(&holed.set("data.missing_indicator", true), &mut Silent);
    let message = refused.map(|_| ()).unwrap_err().to_string();
    assert!(message.contains("`age` has missing cells"), "{message}");
}

/// A row of a category that no training row has is an error, or has probability 0: it is the least
/// likely, its p-value the smallest, and nothing else is said of it; the other rows are as ever.
#[test]
fn unseen_categories_are_impossible() {
    let dir = tempfile::tempdir().unwrap();
    let [path, new] = ["people.csv", "new.csv"].map(|name| dir.path().join(name));
    write_table(&path, 600);
    let density = Density::fit_source(&options(&path), &mut Silent).unwrap();
    let rows = "31,Bern,0,2024-03-09,CH\n31,Rom,0,2024-03-09,CH\n,Chur,,2024-03-10,CH\n\
                44,Genf,0,2024-03-11,IT\n";
    std::fs::write(&new, format!("age,city,income,day,country\n{rows}")).unwrap();
    let read = |unseen, missing| {
        let usual = density.run().config.data.table.clone();
        let options = TableOptions { unseen, missing, purpose: Purpose::Scoring, ..usual };
        density.run().data.read_table(&new, &options)
    };
    for (unseen, named) in [(None, false), (Some(Unseen::Error), true)] {
        let message = read(unseen, Missing::Model).unwrap_err().to_string();
        let says = message.contains("Rom") && message.contains("Bern");
        assert!(says && message.contains("score.unseen = impossible") == named, "{message}");
    }
    let data = read(Some(Unseen::Impossible), Missing::Model).unwrap();
    let unseen: Vec<(usize, &str)> = data.unseen().iter().map(|(r, c)| (*r, &*c[0])).collect();
    assert_eq!(unseen, [(1, "city"), (3, "country")]);
    assert_eq!(data.take(&[2, 3, 3]).unseen().keys().collect::<Vec<_>>(), [&1, &2]);
    // its cell is no hole of the file
    let whole = read(Some(Unseen::Impossible), Missing::DropRows).unwrap();
    assert_eq!((whole.rows(), whole.left_out_rows()), (3, vec![3]));
    assert_eq!(whole.unseen().keys().collect::<Vec<_>>(), [&1, &2]);

    let options = ScoreOptions { steps: 5, draws: 2, ..ScoreOptions::default() };
    let scores = density.log_prob(&data, &options).unwrap();
    let values = scores.values();
    assert!(values[1] == f64::NEG_INFINITY && values[3] == f64::NEG_INFINITY, "{values:?}");
    // the noise of a row is by its number
    let known = table(
        &density,
        &[
            &[("age", "31"), ("city", "Bern"), ("income", "0"), ("day", "2024-03-09")],
            &[("age", "31"), ("income", "0"), ("day", "2024-03-09")],
            &[("city", "Chur"), ("day", "2024-03-10")],
        ],
    );
    let others = density.log_prob(&known, &options).unwrap();
    for row in [0, 2] {
        let difference = (values[row] - others.values()[row]).abs();
        assert!(difference < 1e-5 * values[row].abs(), "{row}: {difference}");
    }
    assert_eq!(scores.summary().minus_infinity, 2);
    assert!(scores.mean() == (values[0] + values[2]) / 2.0 && scores.flags().len() == 2);
    assert!(scores.flags()[0].row == 1 && scores.flags()[0].reason.contains("`city`"));
    assert_eq!(scores.least_likely()[..2], [1, 3]);
    let test = AnomalyTest { calibration: Calibration::of(&[1.0; 99]), threshold: Some(0.01) };
    assert_eq!((test.calibration.p_value(values[1]), test.anomalies(values)), (0.01, 4));
    let parts = density.parts(&data, values, None, &options, &mut Silent).unwrap();
    let [categories, numbers] = parts.categories_and_numbers.as_ref().unwrap();
    assert!(categories[1] == f64::NEG_INFINITY && numbers[1].is_nan() && numbers[0].is_finite());
    let least: Vec<&str> = parts.least_likely(1).iter().map(|(of, _)| &*of.name).collect();
    assert_eq!(least, ["city"]);

    // nothing is given such a value, and none is filled in beside it
    let given = ScoreOptions { given: vec!["city".into()], ..options };
    let message = density.log_prob(&data, &given).unwrap_err().to_string();
    assert!(message.contains("row 2: `city` is given"), "{message}");
    let message = density.impute(&data, &SampleOptions::default()).map(|_| ()).unwrap_err();
    assert!(message.to_string().contains("row 2: the value of `city`"), "{message}");
}
