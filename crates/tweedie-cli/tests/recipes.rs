//! The recipes are complete configurations that train: each is run for two steps.

use std::path::{Path, PathBuf};

use image::{Rgb, RgbImage};
use tweedie::model::{NetworkConfig, UNetConfig};
use tweedie::run::{Run, RunConfig};

mod common;

use common::succeed;

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

/// A folder of pictures of 32×32.
fn write_pictures(path: &Path) {
    std::fs::create_dir(path).unwrap();
    for i in 0..20u8 {
        let pixel = |x: u32, y: u32| Rgb([i * 12, (x * 8) as u8, (y * 8) as u8 ^ i]);
        RgbImage::from_fn(32, 32, pixel).save(path.join(format!("{i}.png"))).unwrap();
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
        write_pictures(&dir.join("pictures"));
        return dir.join("pictures");
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

/// Two steps, and figures; networks and batches of a GPU are made smaller.
#[test]
fn recipes_train() {
    let mut names: Vec<String> = std::fs::read_dir(RECIPES)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".toml"))
        .collect();
    names.sort();
    assert!(names.len() >= 5, "{names:?}");
    for recipe in names {
        let dir = tempfile::tempdir().unwrap();
        let data = data_for(&recipe, dir.path()).display().to_string();
        let (file, out) = (format!("{RECIPES}/{recipe}"), dir.path().join("run"));
        let out = out.display().to_string();
        let mut args = vec!["train", "--config", &file, "--data", &data, "--out", &out];
        args.extend(["--iterations", "2", "--threads", "1", "--quiet"]);
        if recipe.starts_with("cifar10") {
            args.extend(["--batch-size", "4", "--set", "train.validation_rows=2"]);
            args.extend(["--set", "model.network.widths=[32, 32, 32, 32]"]);
            args.extend(["--set", "model.network.attention=[false, true, false, false]"]);
            args.extend(["--set", "model.network.head_widths=[32, 32, 32, 32]"]);
        }
        succeed(&args);
        let run = Run::load(&out, tch::Device::Cpu).unwrap();
        let metrics = run.dir.metrics().unwrap();
        let last = metrics.last().unwrap();
        assert!(last.iteration == 2 && last.validation.is_some(), "{recipe}: {last:?}");
    }
}

/// ScoreFlow's recipe has the network that `--network ddpm++` gives.
#[test]
fn the_recipe_of_scoreflow_has_its_network() {
    let path = Path::new(RECIPES).join("cifar10-scoreflow.toml");
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
