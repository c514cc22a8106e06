//! Tables as they come, from file to samples: categories, dates, constants and missing cells.

use std::path::Path;

use tweedie::data::{Dataset, RawColumn, RawTable, TypeOptions};
use tweedie::density::{
    Density, EvaluateOptions, FitOptions, Line, Metric, PartsOf, SampleOptions, ScoreOptions,
};
use tweedie::likelihood::Estimator;
use tweedie::model::Base;
use tweedie::noise::{Noise, Seed};
use tweedie::tensor::to_vec;
use tweedie::watch::Silent;

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
    let parts_of = |of| density.parts(&rows, &scores, of, &options, &mut Silent).unwrap();
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
    assert!(refused.to_string().contains("missing cells"), "{refused}");
    let other = Dataset::read_as_it_comes(&path, &TypeOptions::default(), &Default::default());
    let narrow = other.unwrap().select(&["age"]).unwrap();
    assert!(density.log_prob(&narrow, &ScoreOptions::default()).is_err());
    let isotropic = options(&path).set("base.kind", "isotropic");
    let refused = Density::fit_source(&isotropic, &mut Silent).map(drop).unwrap_err();
    assert_eq!(refused.option(), Some("base.kind"));
}
