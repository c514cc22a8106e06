//! Running the program as a user does.
#![allow(dead_code)] // every test file uses a part

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tch::{Device, Kind, Tensor};
use tweedie::metric::FeatureNetwork;
use tweedie::noise::{Noise, Seed};

/// Runs the program.
pub fn tweedie(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tweedie")).args(args).output().expect("the program starts")
}

/// What it printed.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs, expects exit code 0, and returns standard output.
pub fn succeed(args: &[&str]) -> String {
    let output = tweedie(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    stdout(&output)
}

/// Runs, expects `code` and one line on standard error that contains every one of `words`.
pub fn fail(args: &[&str], code: i32, words: &[&str]) {
    let output = tweedie(args);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {message}");
    assert_eq!(
        message.lines().filter(|l| l.starts_with("error:")).count(),
        1,
        "{args:?}: {message}"
    );
    for word in words {
        assert!(message.contains(word), "{args:?}: no '{word}' in: {message}");
    }
}

/// A safetensors file with this header before the tensors of `bytes`; a checksum of the program's
/// own is made right.
pub fn with_header(header: &[u8], values: &[u8]) -> Vec<u8> {
    let join = |header: &[u8]| [&(header.len() as u64).to_le_bytes()[..], header, values].concat();
    let file = join(header);
    let mended = || -> Option<Vec<u8>> {
        let tensors = safetensors::SafeTensors::deserialize(&file).ok()?;
        let mut parsed: Value = serde_json::from_slice(header).ok()?;
        let about = parsed.get("__metadata__")?.get("tweedie")?.as_str()?;
        let mut about: BTreeMap<String, String> = serde_json::from_str(about).ok()?;
        let views = tensors.tensors();
        let mut views: Vec<(&str, &[usize], &[u8])> =
            views.iter().map(|(name, view)| (&**name, view.shape(), view.data())).collect();
        views.sort();
        let mut crc = crc32fast::Hasher::new();
        for (name, shape, bytes) in views {
            crc.update(format!("{name} {shape:?}").as_bytes());
            crc.update(bytes);
        }
        about
            .iter()
            .filter(|(key, _)| *key != "crc32")
            .for_each(|(k, v)| crc.update(format!("{k}={v}").as_bytes()));
        about.insert("crc32".into(), format!("{:08x}", crc.finalize()));
        parsed["__metadata__"]["tweedie"] = serde_json::to_string(&about).ok()?.into();
        Some(join(&serde_json::to_vec(&parsed).ok()?))
    };
    mended().unwrap_or(file)
}

/// Writes an EfficientNet-Lite0 with random weights.
pub fn write_feature_network(path: &Path) {
    let weight = |(name, shape): (String, Vec<i64>)| {
        let count: i64 = shape.iter().product();
        let mut noise = Noise::new(Seed(0).derive(&name), 0..1);
        let noise = noise.normal(count as usize, Kind::Float, Device::Cpu);
        let value = match name.ends_with("running_var") {
            true => noise.ones_like(),
            false => noise * (2.0 / (count / shape[0]) as f64).sqrt(),
        };
        (name, value.view(&shape[..]))
    };
    let weights: Vec<(String, Tensor)> =
        FeatureNetwork::EfficientNetLite0.tensors().into_iter().map(weight).collect();
    Tensor::write_safetensors(&weights, path).unwrap();
}
