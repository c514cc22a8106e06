use std::cell::Cell;

use super::*;
use crate::covariance::CovarianceConfig;
use crate::data::{Missing, TableOptions, Values};
use crate::density::{EvaluateOptions, ScoreOptions};
use crate::dequantize::VariationalConfig;
use crate::likelihood::Estimator;
use crate::model::{NetworkConfig, Precision, Preconditioning, Structure};
use crate::objective::ObjectiveConfig;
use crate::sample::Sampler;
use crate::train::TrainConfig;

/// Three columns, one of them of whole numbers.
fn write_table(path: &Path) {
    let mut text = String::from("a,b,c\n");
    for i in 0..120u64 {
        let (x, y) = ((i * 37 % 101) as f64 / 10.0, (i * i * 53 % 97) as f64 / 7.0);
        text += &format!("{x:.1},{:.3},{}\n", x + y, i * 29 % 5);
    }
    std::fs::write(path, text).unwrap();
}

fn options(dir: &Path) -> FitOptions {
    let data = dir.join("data.csv");
    write_table(&data);
    FitOptions::default()
        .set("data.source", data.display().to_string())
        .set("data.scaling.dequantize", "integers")
        .set("base.kind", "gaussian")
        .set("model.network.width", 8)
        .set("train.iterations", 3)
}

/// Stops after so many questions, and remembers how far the work was.
struct StopAfter {
    left: Cell<i64>,
    done: u64,
}

impl Watch for StopAfter {
    fn progress(&mut self, done: u64, _of: u64) {
        self.done = done;
    }

    fn stop(&self) -> bool {
        self.left.set(self.left.get() - 1);
        self.left.get() < 0
    }
}

impl WatchFit for StopAfter {}

#[test]
fn a_density_needs_no_directory() {
    let dir = tempfile::tempdir().unwrap();
    let density = Density::fit_source(&options(dir.path()), &mut Silent).unwrap();
    assert!(!density.is_saved());
    let config = &density.run().config;
    let rank = config.model.head.map(|head| head.structure);
    assert_eq!(rank, Some(Structure::LowRank(3)), "at most the number of columns");
    // few rows: as much regularised as any
    assert_eq!(config.train.weight_decay, 0.2);
    let NetworkConfig::Mlp(network) = &config.model.network else { panic!("rows of a table") };
    assert_eq!(network.dropout, 0.25);
    assert_eq!(config.model.preconditioning, Preconditioning::Covariance);
    assert!(matches!(&config.model.network, NetworkConfig::Mlp(network) if network.width == 8));
    let place = density.run().dir.path().to_owned();
    assert!(place.exists());
    drop(density);
    assert!(!place.exists());
}

/// Rows in memory: a tenth is held out, none is kept for testing, and the density knows its
/// training rows as long as it lives. Columns are found by name.
#[test]
fn rows_in_memory_are_fitted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data.csv");
    write_table(&path);
    let data = Dataset::read(&path).unwrap();
    let options = FitOptions::default()
        .set("base.kind", "gaussian")
        .set("model.network.width", 8)
        .set("train.iterations", 3);
    let both = options.clone().set("data.source", path.display().to_string());
    let refused = Density::fit(&data, &both, &mut Silent).map(drop).unwrap_err();
    assert_eq!(refused.option(), Some("data.source"));

    let density = Density::fit(&data, &options, &mut Silent).unwrap();
    assert_eq!(density.run().data.rows, [108, 12, 0]);
    assert_eq!(density.run().config.data.source, "");
    assert_eq!(density.run().prepared().unwrap().table.values(), data.values());
    let score = ScoreOptions { steps: 3, draws: 1, ..ScoreOptions::default() };
    let scores = density.log_prob(&data, &score).unwrap();
    let turned = data.select(&["c", "a", "b"]).unwrap();
    assert_eq!(density.log_prob(&turned, &score).unwrap().values(), scores.values());
    let missing = data.select(&["a", "b"]).unwrap();
    let refused = density.log_prob(&missing, &score).map(drop).unwrap_err();
    assert!(refused.to_string().contains("`c`"), "{refused}");
    let judged =
        EvaluateOptions { steps: vec![2], ode: false, rows: Some(9), ..Default::default() };
    assert!(density.evaluate(&turned, &judged).unwrap().base().is_some());

    let other = Density::fit(&data, &options, &mut Silent).unwrap();
    let refused = other.in_precision(Precision::Bf16).map(drop).unwrap_err();
    assert_eq!(refused.option(), Some("train.precision"));

    // the same rows by another process: no file is known
    density.save(dir.path().join("run")).unwrap();
    let loaded = Density::load(dir.path().join("run")).unwrap();
    assert_eq!(loaded.log_prob(&data, &score).unwrap().values(), scores.values());
    let analytic = ScoreOptions { covariance: Some(CovarianceConfig::Analytic), ..score.clone() };
    assert!(density.log_prob(&data, &analytic).is_ok());
    let refused = loaded.log_prob(&data, &analytic).map(drop).unwrap_err();
    assert!(refused.to_string().contains("no file of its training data"), "{refused}");
}

/// What is requested of a table's columns holds for rows in memory too, and the run reads others as
/// those were read.
#[test]
fn columns_in_memory_are_chosen() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data.csv");
    std::fs::write(&path, "a;b;c\n1,5;2;1\n2,5;7;1\n0,5;4;1\n3,0;;1\n1,0;9;1\n2,0;8;1\n").unwrap();
    let missing = TableOptions { missing: Missing::DropRows, ..TableOptions::default() };
    let data = Dataset::read_with(&path, &missing).unwrap();
    let options = FitOptions::default()
        .set("base.kind", "gaussian")
        .set("model.network.width", 8)
        .set("data.split", vec![1.0, 0.0, 0.0])
        .set("train.iterations", 1);
    let refused = Density::fit(&data, &options, &mut Silent).map(drop).unwrap_err();
    assert!(refused.remedy().unwrap().contains("data.table.drop = c"), "{refused}");
    let density = Density::fit(&data, &options.set("data.table.drop", vec!["c"]), &mut Silent);
    let density = density.unwrap();
    assert_eq!(density.run().data.names(), ["a", "b"]);
    let again = density.read(&path).unwrap();
    assert_eq!((again.rows(), again.names()), (5, vec!["a".to_string(), "b".into()]));
}

/// A fit without a directory that is stopped keeps what is done, and says where; a run is gone on
/// with as it was begun.
#[test]
fn a_stopped_fit_names_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data.csv");
    write_table(&path);
    let data = Dataset::read(&path).unwrap();
    let in_memory = FitOptions::default()
        .set("base.kind", "gaussian")
        .set("model.network.width", 8)
        .set("train.iterations", 3);
    let mut watch = StopAfter { left: Cell::new(2), done: 0 };
    let stopped = Density::fit(&data, &in_memory, &mut watch).map(drop).unwrap_err();
    let Error::Interrupted(text) = &stopped else { panic!("{stopped}") };
    let out = PathBuf::from(text.rsplit(" in ").next().unwrap());
    let resume = FitOptions { out: Some(out.clone()), resume: true, ..FitOptions::default() };
    let refused = Density::fit_source(&resume, &mut Silent).map(drop).unwrap_err();
    assert!(refused.to_string().contains("rows in memory"), "{refused}");
    let resumed = Density::fit(&data, &resume, &mut Silent).unwrap();
    let whole = Density::fit(&data, &in_memory, &mut Silent).unwrap();
    let parameters = |density: &Density| density.run().model.parameters().flat().copy();
    assert_eq!(parameters(&resumed), parameters(&whole));
    std::fs::remove_dir_all(out.parent().unwrap()).unwrap();
}

/// A column without a density is refused in memory as it is in a file.
#[test]
fn constant_columns_in_memory_are_refused() {
    let columns = vec![
        ("a".to_string(), Values::Double((0..40).map(|i| f64::from(i * i % 17)).collect())),
        ("b".to_string(), Values::Double(vec![1.5; 40])),
    ];
    let twice = [columns.clone(), columns.clone()].concat();
    assert!(Dataset::of_columns(twice).is_err());
    let data = Dataset::of_columns(columns).unwrap();
    let error = Density::fit(&data, &FitOptions::default(), &mut Silent).map(drop).unwrap_err();
    assert!(matches!(error, Error::Data { .. }) && error.to_string().contains("`b` is constant"));
}

/// Images in memory are images; levels that are no whole image are refused.
#[test]
fn images_in_memory_are_fitted() {
    let level = |i: u32| (i * i * 37 % 251) as u8;
    let data = Dataset::images([1, 4, 4], (0..640).map(level).collect()).unwrap();
    assert!(Dataset::images([1, 4, 4], vec![0; 17]).is_err());
    let names: Vec<String> = (0..40).map(|i| ["cat", "dog"][i % 2].to_string()).collect();
    assert!(data.clone().with_labels(&names[1..]).is_err());
    let labels = data.clone().with_labels(&names).unwrap().labels.unwrap();
    assert_eq!((labels.names.len(), labels.of_rows[3]), (2, 1));
    let options = FitOptions::default()
        .set("train.iterations", 2)
        .set("model.network.widths", vec![8])
        .set("model.network.attention", vec![false])
        .set("model.network.middle_attention", false);
    let density = Density::fit(&data, &options, &mut Silent).unwrap();
    assert_eq!(density.run().data.image, Some([1, 4, 4]));
    let samples = density.sample(2, &SampleOptions { steps: 2, ..Default::default() }).unwrap();
    assert_eq!((samples.rows(), samples.image), (2, Some([1, 4, 4])));

    // the same in bf16: near, and not the same
    let score = ScoreOptions { estimator: Estimator::Levels, steps: 3, ..ScoreOptions::default() };
    let exact = density.log_prob(&data, &score).unwrap();
    let density = density.in_precision(Precision::Bf16).unwrap();
    let rounded = density.log_prob(&data, &score).unwrap();
    assert!(rounded.estimate.estimator.ends_with("bf16"), "{}", rounded.estimate.estimator);
    let gap = (exact.bits_per_dim() - rounded.bits_per_dim()).abs();
    assert!(gap > 0.0 && gap < 0.05, "{gap}");
    let flow = ScoreOptions { estimator: Estimator::Ode, ..ScoreOptions::default() };
    let refused = density.log_prob(&data, &flow).map(drop).unwrap_err();
    assert_eq!(refused.option(), Some("score.estimator"));
    let flow = SampleOptions { sampler: Sampler::Flow, ..SampleOptions::default() };
    let refused = density.sample(2, &flow).map(drop).unwrap_err();
    assert_eq!(refused.option(), Some("sample.sampler"));
}

/// What is stopped is gone on with, and only how long to train may be requested anew.
#[test]
fn a_fit_goes_on_where_it_was_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let out = |name: &str| Some(dir.path().join(name));
    let options = FitOptions { out: out("a"), ..options(dir.path()) };
    let mut watch = StopAfter { left: Cell::new(2), done: 0 };
    let stopped = Density::fit_source(&options, &mut watch).map(drop).unwrap_err();
    assert!(matches!(stopped, Error::Interrupted(_)), "{stopped}");
    assert!((1..3).contains(&watch.done), "{}", watch.done);
    let again = Density::fit_source(&options, &mut Silent).map(drop).unwrap_err();
    assert!(matches!(again, Error::Taken { .. }), "{again}");
    let resume = FitOptions { layers: Vec::new(), resume: true, ..options.clone() };
    let other = resume.clone().set("train.batch_size", 5);
    let refused = Density::fit_source(&other, &mut Silent).map(drop).unwrap_err();
    assert_eq!(refused.option(), Some("fit.resume"));
    assert!(refused.to_string().contains("leave train.batch_size out"), "{refused}");
    let resumed = Density::fit_source(&resume, &mut Silent).unwrap();
    let whole = Density::fit_source(&FitOptions { out: out("b"), ..options }, &mut Silent).unwrap();
    let parameters = |density: &Density| density.run().model.parameters().flat().copy();
    assert_eq!(parameters(&resumed), parameters(&whole));
}

/// A dequantiser is trained by the same loop: stopped anywhere and requested again, it ends in the
/// same bits; requested otherwise, it begins anew.
#[test]
fn a_dequantiser_goes_on_where_it_was_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let density = Density::fit_source(&options(dir.path()), &mut Silent).unwrap();
    let prepared = density.run().prepared().unwrap();
    goes_on(&density, (&prepared.table, &prepared.split.train));
}

/// So is one of images, whose normalisations start from the data.
#[test]
fn a_dequantiser_of_images_goes_on_where_it_was_stopped() {
    let level = |i: u32| (i * i * 37 % 251) as u8;
    let data = Dataset::images([2, 2, 4], (0..640).map(level).collect()).unwrap();
    let options = FitOptions::default()
        .set("train.iterations", 2)
        .set("model.network.widths", vec![8])
        .set("model.network.attention", vec![false])
        .set("model.network.middle_attention", false);
    let density = Density::fit(&data, &options, &mut Silent).unwrap();
    let rows: Vec<usize> = (0..data.rows()).collect();
    goes_on(&density, (&data, &rows));
}

fn goes_on(density: &Density, rows: (&Dataset, &[usize])) {
    let run = density.run();
    let config =
        TrainConfig { iterations: 9, batch_size: 16, warm_up: 2, ..TrainConfig::default() };
    let new = || {
        let kind = VariationalConfig::usual(run.data.image.is_some());
        let config = VariationalConfig { width: 8, ..kind };
        config.init(&run.data.scaling, run.data.image, Device::Cpu, Seed(1)).unwrap()
    };
    let train = |seed: u64, watch: &mut dyn Watch| {
        let dequantizer = new();
        run.train_dequantizer(&dequantizer, rows, 2, &config, Seed(seed), watch)?;
        Ok::<_, Error>(dequantizer.parameters().flat().copy())
    };
    let whole = train(2, &mut Silent).unwrap();
    let state = run.dir.file("dequantizer-state.safetensors");
    assert!(run.dir.has_dequantizer() && !state.exists());
    let mut watch = StopAfter { left: Cell::new(4), done: 0 };
    let stopped = train(2, &mut watch).unwrap_err();
    assert!(matches!(&stopped, Error::Interrupted(text) if text.contains("of 9")), "{stopped}");
    assert!(state.exists() && (1..9).contains(&watch.done));
    let mut watch = StopAfter { left: Cell::new(i64::MAX), done: 0 };
    assert_eq!(train(2, &mut watch).unwrap(), whole);
    assert!(!state.exists());
    // of another request
    train(2, &mut StopAfter { left: Cell::new(4), done: 0 }).unwrap_err();
    let other = train(3, &mut Silent).unwrap();
    assert_ne!(other, whole);
    train(2, &mut StopAfter { left: Cell::new(4), done: 0 }).unwrap_err();
    assert_eq!(train(2, &mut Silent).unwrap(), whole);
}

/// A file of `rows` rows of three numbers and, where `mixed`, a category.
fn measurements(path: &Path, rows: u64, mixed: bool) {
    let mut text = String::from(if mixed { "a,b,c,kind\n" } else { "a,b,c\n" });
    for i in 0..rows {
        let (x, y) = ((i * 37 % 1009) as f64 / 10.0, (i * i * 53 % 997) as f64 / 7.0);
        text += &format!("{x:.1},{:.3},{:.3}", x + y, (y * x) % 31.7);
        text += if mixed { [",u\n", ",v\n"][(i % 2) as usize] } else { "\n" };
    }
    std::fs::write(path, text).unwrap();
}

/// The configuration of a fit to a file with these options beside.
fn config_of(path: &Path, options: FitOptions) -> RunConfig {
    let options = options
        .set("data.source", path.display().to_string())
        .set("base.components", vec![1i64])
        .set("model.network.width", 8)
        .set("categories.iterations", 1)
        .set("train.iterations", 1);
    Density::fit_source(&options, &mut Silent).unwrap().run().config.clone()
}

/// A mixture in short trainings alone; of three numbers from 180 training rows on, of a mixed table
/// always, and there too where no network has its categories.
#[test]
fn the_base_follows_rows_columns_and_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data.csv");
    let kind = |seconds: i64| {
        config_of(&path, FitOptions::default().set("train.max_seconds", seconds)).base.kind
    };
    measurements(&path, 200, false);
    assert_eq!(kind(60), BaseKind::Gaussian);
    measurements(&path, 300, false);
    assert_eq!([0, 60, 90].map(kind), [BaseKind::Gaussian, BaseKind::Mixture, BaseKind::Gaussian]);
    measurements(&path, 120, true);
    assert_eq!([0, 60].map(kind), [BaseKind::Gaussian, BaseKind::Mixture]);
    let exact = config_of(&path, FitOptions::default().set("categories.model", "base"));
    assert_eq!(exact.base.kind, BaseKind::Mixture);
}

/// The head of a table has a transition of each row to itself, where the score's are adaptive and
/// score matching trains it.
#[test]
fn the_head_has_transitions_where_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data.csv");
    measurements(&path, 120, false);
    let own = |options: FitOptions| match config_of(&path, options).objective {
        ObjectiveConfig::Lm { adaptive, head_transitions, .. } => (adaptive, head_transitions),
        other => panic!("{other:?}"),
    };
    assert_eq!(own(FitOptions::default()), (true, 1));
    assert_eq!(own(FitOptions::default().set("objective.adaptive", false)), (false, 0));
    assert_eq!(own(FitOptions::default().set("objective.adaptive", true)), (true, 1));
    assert_eq!(own(FitOptions::default().set("objective.score", "joint")), (true, 0));
    let both = FitOptions::default().set("objective.adaptive", false);
    let options = both.set("objective.head_transitions", 2);
    let source = options.set("data.source", path.display().to_string());
    let error = Density::fit_source(&source, &mut Silent).map(drop).unwrap_err();
    assert_eq!(error.option(), Some("objective.head_transitions"));
}
