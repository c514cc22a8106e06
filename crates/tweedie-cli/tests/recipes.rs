//! The recipes are complete configurations that train: each is run for two steps.

use std::path::{Path, PathBuf};

use image::{DynamicImage, Rgb, RgbImage};
use tweedie::model::{NetworkConfig, UNetConfig};
use tweedie::run::{Run, RunConfig};

mod common;

use common::{fail, succeed};

const RECIPES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../recipes");

/// A table of numbers between 0 and `most` under `names`, with a label in the last column.
fn write_table(path: &Path, names: &[String], label: &str, most: u32, whole: bool) {
    let mut state = 7u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let uniform = (state >> 33) as f64 / (1u64 << 31) as f64 * f64::from(most + 1);
        if whole { uniform.floor().to_string() } else { format!("{uniform:.4}") }
    };
    let mut text = names.join(",") + "," + label + "\n";
    for row in 0..200 {
        let cells: Vec<String> = names.iter().map(|_| next()).collect();
        text += &format!("{},{}\n", cells.join(","), ["a", "b"][row % 2]);
    }
    std::fs::write(path, text).unwrap();
}

/// A folder of pictures of `side` pixels each way.
fn write_pictures(path: &Path, side: u32, grey: bool) {
    std::fs::create_dir_all(path).unwrap();
    for i in 0..20u8 {
        let pixel = |x: u32, y: u32| Rgb([i * 12, (x * 3) as u8, (y * 3) as u8 ^ i]);
        let image = DynamicImage::from(RgbImage::from_fn(side, side, pixel));
        let image = if grey { image.grayscale() } else { image };
        image.save(path.join(format!("{i}.png"))).unwrap();
    }
}

/// Data of the kind that a recipe is for, at `dir`.
fn data_for(recipe: &str, dir: &Path) -> PathBuf {
    let path = dir.join("data.csv");
    let magic = "fLength fWidth fSize fConc fConc1 fAsym fM3Long fM3Trans fAlpha fDist";
    if recipe.starts_with("magic") {
        let names: Vec<String> = magic.split(' ').map(String::from).collect();
        write_table(&path, &names, "class", 9, false);
    } else if recipe.starts_with("digits") {
        let names: Vec<String> = (0..64).map(|i| format!("p{}{}", i / 8, i % 8)).collect();
        write_table(&path, &names, "label", 16, true);
    } else {
        let path = dir.join("pictures");
        // of which 140 in the middle are kept of faces
        let side = match recipe {
            _ if recipe.contains("celeba") => 150,
            _ if recipe.contains("64") => 64,
            _ => 32,
        };
        write_pictures(&path, side, recipe.contains("mnist"));
        return path;
    }
    path
}

/// The paths of all options in `table`.
fn options(above: &str, table: &toml::Table, found: &mut Vec<String>) {
    for (name, value) in table {
        let path = if above.is_empty() { name.clone() } else { format!("{above}.{name}") };
        match value {
            toml::Value::Table(inner) => options(&path, inner, found),
            _ => found.push(path),
        }
    }
}

/// Names of the recipes, in order.
fn names() -> Vec<String> {
    let entries = std::fs::read_dir(RECIPES).unwrap();
    let mut names: Vec<String> = entries
        .filter_map(|entry| {
            let name = entry.unwrap().file_name().to_string_lossy().into_owned();
            name.strip_suffix(".toml").map(String::from)
        })
        .collect();
    names.sort();
    assert!(names.len() > 70, "{names:?}");
    names
}

/// Trains the recipe called `name` for two steps in `dir`, on a head with the score of another run
/// there, and looks at its figures. Networks of images are made as narrow as they can be.
fn train(name: &str, dir: &Path, score: Option<&Path>) -> PathBuf {
    let data = data_for(name, dir).display().to_string();
    let out = dir.join(name);
    let path = out.display().to_string();
    let mut args = vec!["train", "--recipe", name, "--data", &data, "--out", &path];
    args.extend(["--iterations", "2", "--threads", "1", "--quiet"]);
    let text = std::fs::read_to_string(format!("{RECIPES}/{name}.toml")).unwrap();
    let config = RunConfig::from_toml(&text, Path::new(name)).unwrap();
    let mut narrow = Vec::new();
    if let NetworkConfig::UNet(network) = &config.model.network {
        let widths = vec![8; network.widths.len()];
        let options = [
            ("widths", format!("{widths:?}")),
            ("head_widths", format!("{widths:?}")),
            ("blocks", "1".into()),
            ("groups", "4".into()),
            ("head_dim", "0".into()),
        ];
        narrow = options.map(|(option, value)| format!("model.network.{option}={value}")).into();
        narrow.extend(["train.batch_size=2", "train.validation_rows=2"].map(String::from));
    }
    narrow.iter().for_each(|option| args.extend(["--set", option]));
    let score = score.map(|score| score.display().to_string());
    if let Some(score) = &score {
        args.extend(["--score-from", score]);
    }
    succeed(&args);
    let run = Run::load(&out, tch::Device::Cpu).unwrap();
    let metrics = run.dir.metrics().unwrap();
    let last = metrics.last().unwrap();
    assert!(last.iteration == 2 && last.validation.is_some(), "{name}: {last:?}");
    out
}

/// Every recipe that trains a score, two steps.
fn scores_train(family: fn(&str) -> bool) {
    let dir = tempfile::tempdir().unwrap();
    for name in names().into_iter().filter(|name| family(name)) {
        train(&name, dir.path(), None);
    }
}

#[test]
fn recipes_of_likelihood_matching_train() {
    scores_train(|name| name.starts_with("lm-") || name.ends_with("-lm"));
}

#[test]
fn recipes_of_score_flow_train() {
    scores_train(|name| name.starts_with("scoreflow-") || name.ends_with("-scoreflow"));
}

/// The scores of OCM's data, and every head on the score that it is for.
#[test]
fn recipes_of_covariances_train() {
    let names = names();
    for score in names.iter().filter(|name| name.starts_with("ddpm-")) {
        let dir = tempfile::tempdir().unwrap();
        let run = train(score, dir.path(), None);
        for head in ["ocm", "npr", "sn", "iddpm"] {
            let name = score.replacen("ddpm", head, 1);
            assert!(names.contains(&name), "{name}");
            train(&name, dir.path(), Some(&run));
        }
    }
}

/// The three tests above leave none out, and the program knows all by name.
#[test]
fn every_recipe_is_tried_and_known() {
    let tried = ["lm", "scoreflow", "ddpm", "ocm", "npr", "sn", "iddpm"];
    let known = |name: &String| {
        let parts: Vec<&str> = name.split('-').collect();
        tried.contains(&parts[0]) || tried.contains(&parts[parts.len() - 1])
    };
    let names = names();
    assert!(names.iter().all(known), "{names:?}");
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("none").display().to_string();
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    fail(&["train", "--recipe", "nothing", "--data", "x.csv", "--out", &out], 2, &all);
}

/// ScoreFlow's recipe has the network that `--network ddpm++` gives.
#[test]
fn the_recipe_of_scoreflow_has_its_network() {
    let path = Path::new(RECIPES).join("scoreflow-vp-cifar10.toml");
    let config = RunConfig::from_toml(&std::fs::read_to_string(&path).unwrap(), &path).unwrap();
    let network = UNetConfig::ddpm_plus_plus([3, 32, 32], 4);
    assert_eq!(config.model.network, NetworkConfig::UNet(network));
}

/// A recipe gives every option: it trains the same when a default changes.
#[test]
fn recipes_are_complete() {
    for entry in std::fs::read_dir(RECIPES).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|end| end != "toml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let config = RunConfig::from_toml(&text, &path).unwrap();
        let (mut given, mut all) = (Vec::new(), Vec::new());
        options("", &toml::from_str(&text).unwrap(), &mut given);
        options("", &toml::from_str(&config.to_toml()).unwrap(), &mut all);
        let missing: Vec<&String> = all.iter().filter(|path| !given.contains(path)).collect();
        if std::env::var_os("WRITE_RECIPES").is_some() {
            let head: Vec<&str> = text.lines().take_while(|line| line.starts_with('#')).collect();
            std::fs::write(&path, head.join("\n") + "\n\n" + &config.to_toml()).unwrap();
        } else {
            assert!(missing.is_empty(), "{}: {missing:?}", path.display());
        }
    }
}
