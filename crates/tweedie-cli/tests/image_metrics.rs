//! Metrics of images against the Python packages: references by tests/reference/metrics.py (torch
//! 2.11.0, pytorch-fid 0.3.0, prdc 0.2, efficientnet-lite-pytorch 0.1.0).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor};
use tweedie::choice::Choice;
use tweedie::data::{OutputFile, read_weights};
use tweedie::metric::{
    Extractor, FeatureMoments, FeatureNetwork, FeatureStatistics, PrecisionRecall,
    frechet_distance, precision_recall,
};
use tweedie::sample::Sampler;
use tweedie::tensor::to_vec;

fn at_reference(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/reference/metrics").join(name)
}

fn gap(ours: &Tensor, theirs: &Tensor) -> f64 {
    assert_eq!(ours.size(), theirs.size());
    ((ours - theirs).norm() / theirs.norm()).double_value(&[])
}

/// The rule of `number` in tests/reference/metrics.py.
fn numbers(name: &str, count: i64) -> impl Iterator<Item = f64> {
    let fnv = |seed: u64, byte: u8| (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325, fnv);
    (1..=count as u64).map(move |i| {
        let z = seed.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f64 / 8_388_608.0 - 1.0
    })
}

/// The weights of `fill` in tests/reference/metrics.py.
fn weights(network: FeatureNetwork) -> BTreeMap<String, Tensor> {
    let fill = |(name, shape): (String, Vec<i64>)| {
        let (count, fan_in) = (shape.iter().product(), shape[1..].iter().product::<i64>() as f64);
        let near_one = name.ends_with("running_var")
            || (name.ends_with("weight") && name.contains("bn") && shape.len() == 1);
        let value = |u: f64| match shape.len() {
            1 if near_one => 1.0 + 0.5 * u,
            1 => 0.2 * u,
            _ => u * (6.0 / fan_in).sqrt(),
        };
        let values: Vec<f32> = numbers(&name, count).map(|u| value(u) as f32).collect();
        (name, Tensor::from_slice(&values).view(&shape[..]))
    };
    network.tensors().into_iter().map(fill).collect()
}

/// Features and logits, to 1e-4, in batches of any size.
#[test]
fn networks_equal_their_packages() {
    let of = read_weights(at_reference("features.safetensors")).unwrap();
    for (network, name, images) in [
        (FeatureNetwork::EfficientNetLite0, "efficientnet", of["grey"].shallow_clone()),
        (FeatureNetwork::Inception, "inception", of["colour"].narrow(0, 0, 1)),
    ] {
        let extractor = Extractor::new(weights(network), name, Device::Cpu).unwrap();
        assert_eq!(extractor.network(), network);
        let ours = extractor.features(&images);
        for (ours, part) in [(&ours.pooled, "pooled"), (&ours.logits, "logits")] {
            let error = gap(ours, &of[&format!("{name}.{part}")]);
            assert!(error < 1e-4, "{name}, {part}: {error}");
        }
        if network == FeatureNetwork::EfficientNetLite0 {
            assert_eq!(ours.pooled.size(), [2, network.dim() as i64]);
            let one = extractor.features(&images.narrow(0, 1, 1)).pooled;
            assert!(gap(&one, &ours.pooled.narrow(0, 1, 1)) < 1e-5);
        }
    }
}

/// The same with the real weights of EfficientNet-Lite0, where scripts/fetch-efficientnet.sh has
/// put them.
#[test]
fn real_weights() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.data/efficientnet-lite0-57934424.pth");
    if !path.exists() {
        eprintln!("skipped: {} is not there", path.display());
        return;
    }
    let of = read_weights(at_reference("features.safetensors")).unwrap();
    let ours = Extractor::read(&path, Device::Cpu).unwrap().features(&of["grey"]);
    let errors = [gap(&ours.pooled, &of["real.pooled"]), gap(&ours.logits, &of["real.logits"])];
    assert!(errors.iter().all(|e| *e < 1e-4), "{errors:?}");
}

#[test]
fn wrong_networks_are_named() {
    let refused = |tensors: BTreeMap<String, Tensor>, words: &str| {
        let message =
            Extractor::new(tensors, "weights.pth", Device::Cpu).err().unwrap().to_string();
        assert!(
            message.starts_with("weights.pth: ") && message.contains(words),
            "no '{words}' in: {message}"
        );
    };
    let number = || Tensor::zeros([1000, 1], (Kind::Float, Device::Cpu));
    let with = |names: &[&str]| {
        names.iter().map(|name| (name.to_string(), number())).collect::<BTreeMap<_, _>>()
    };
    refused(with(&["conv1.weight"]), "another network");
    refused(with(&["Mixed_5b.branch1x1.conv.weight", "AuxLogits.fc.bias"]), "torchvision's");
    refused(with(&["Mixed_5b.branch1x1.conv.weight", "fc.weight"]), "torchvision's");
    refused(with(&["Mixed_5b.branch1x1.conv.weight"]), "no tensor 'Conv2d_1a_3x3.conv.weight'");
    refused(with(&["_conv_stem.weight"]), "'_conv_stem.weight' of shape [1000, 1]");
    let mut more = weights(FeatureNetwork::EfficientNetLite0);
    more.insert("more".into(), number());
    refused(more, "'more'");
    let mut broken = weights(FeatureNetwork::EfficientNetLite0);
    broken.insert("_fc.bias".into(), Tensor::full([1000], f64::NAN, (Kind::Float, Device::Cpu)));
    refused(broken, "not finite");
}

fn statistics(rows: &Tensor) -> FeatureStatistics {
    let mut moments = FeatureMoments::new(rows.size()[1] as usize);
    rows.split(17, 0).iter().for_each(|part| moments.push(part));
    assert_eq!(moments.count() as i64, rows.size()[0]);
    moments.statistics("test").unwrap()
}

#[test]
fn distances_equal_their_packages() {
    let of = read_weights(at_reference("distances.safetensors")).unwrap();
    // scipy's square root of a singular product is exact to the root of the rounding only
    for (name, tolerance) in [("regular", 1e-9), ("singular", 1e-5)] {
        let rows = ["a", "b"].map(|side| &of[&format!("{name}.{side}")]);
        let [a, b] = rows.map(statistics);
        let theirs = to_vec(&of[&format!("{name}.frechet")])[0];
        let ours = frechet_distance(&a, &b).unwrap();
        assert!((ours / theirs - 1.0).abs() < tolerance, "{name}: {ours} and {theirs}");
        assert!((frechet_distance(&b, &a).unwrap() / ours - 1.0).abs() < 1e-7);
        assert!(frechet_distance(&a, &a).unwrap() < 1e-6);
        let PrecisionRecall { precision, recall, density, coverage } =
            precision_recall(rows[0], rows[1], 3).unwrap();
        let theirs = to_vec(&of[&format!("{name}.prdc")]);
        for (ours, theirs) in [precision, recall, density, coverage].into_iter().zip(theirs) {
            // means of counts: another count is further away
            assert!((ours - theirs).abs() < 1e-12, "{name}: {ours} and {theirs}");
        }
    }
}

/// Between Gaussians with a common basis: `‖Δμ‖² + Σ (√v₁ − √v₂)²`.
#[test]
fn closed_form() {
    let of = |mean: [f64; 2], variances: [f64; 2]| FeatureStatistics {
        mean: Tensor::from_slice(&mean),
        covariance: Tensor::from_slice(&variances).diag(0),
        count: None,
        features: None,
    };
    let distance =
        frechet_distance(&of([1.0, 2.0], [4.0, 0.0]), &of([0.0, 0.0], [9.0, 1.0])).unwrap();
    assert!((distance - (5.0 + 1.0 + 1.0)).abs() < 1e-9, "{distance}");
    let message =
        frechet_distance(&of([0.0; 2], [1.0, -0.1]), &of([0.0; 2], [1.0; 2])).unwrap_err();
    assert!(message.to_string().contains("-1.000e-1"), "{message}");
}

/// Statistics come back as they were written; those of pytorch-fid, compressed and without our
/// additions, are read.
#[test]
fn files_of_statistics() {
    let rows = &read_weights(at_reference("distances.safetensors")).unwrap()["regular.a"];
    let ours = statistics(rows);
    let theirs = FeatureStatistics::read(at_reference("statistics.npz")).unwrap();
    assert_eq!((theirs.dim(), theirs.count, &theirs.features), (12, None, &None));
    assert!(
        gap(&ours.covariance, &theirs.covariance) < 1e-6 && gap(&ours.mean, &theirs.mean) < 1e-6
    );

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ours.npz");
    ours.write(OutputFile::create(&path).unwrap()).unwrap();
    let again = FeatureStatistics::read(&path).unwrap();
    assert_eq!((&again.mean, &again.covariance), (&ours.mean, &ours.covariance));
    assert_eq!((again.count, again.features.as_deref()), (Some(60), Some("test")));

    let bytes = std::fs::read(&path).unwrap();
    for end in (0..bytes.len()).step_by(97) {
        std::fs::write(&path, &bytes[..end]).unwrap();
        assert!(FeatureStatistics::read(&path).is_err(), "{end} bytes");
    }
    for i in (0..bytes.len()).step_by(13) {
        let mut damaged = bytes.clone();
        damaged[i] ^= 0x55;
        std::fs::write(&path, &damaged).unwrap();
        let _ = FeatureStatistics::read(&path); // an error or not, but no panic
    }
    std::fs::write(&path, "not a zip").unwrap();
    let message = FeatureStatistics::read(&path).unwrap_err().to_string();
    assert!(message.contains("is no NPZ archive"), "{message}");
}

/// The program, on a tiny run and a network of made-up weights.
#[test]
fn the_program_judges_samples() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    std::fs::create_dir(at("pictures")).unwrap();
    for i in 0..24u8 {
        let pixel = |x: u32, y: u32| image::Luma([i * 9 + (x * 6) as u8 + (y * 3) as u8]);
        image::GrayImage::from_fn(4, 4, pixel).save(at(&format!("pictures/{i}.png"))).unwrap();
    }
    let tensors: Vec<(String, Tensor)> =
        weights(FeatureNetwork::EfficientNetLite0).into_iter().collect();
    Tensor::write_safetensors(&tensors, at("lite0.safetensors")).unwrap();
    let call = |args: &[&str]| {
        let output =
            std::process::Command::new(env!("CARGO_BIN_EXE_tweedie")).args(args).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (run, pictures, lite, saved) =
        (at("run"), at("pictures"), at("lite0.safetensors"), at("reference.npz"));
    let train =
        ["train", "--data", &pictures, "--out", &run, "--iterations", "2", "--batch-size", "4"];
    assert_eq!(call(&train).0, Some(0));

    let evaluate = ["evaluate", &run, "--inception", &lite, "--steps", "1,2"];
    let with = |more: &[&str]| call(&[&evaluate[..], more].concat());
    let few = ["--samples", "12", "--fewer-samples"];
    let refused = |more: &[&str], words: &str| {
        let (code, _, message) = with(more);
        assert!(code == Some(2) && message.contains(words), "{code:?}, no '{words}' in: {message}");
    };
    refused(&["--samples", "12"], "--fewer-samples");
    refused(&[&few[..], &["--reference", &at("none.npz")]].concat(), "none.npz");
    refused(&[&few[..], &["--save-reference", &at("reference.txt")]].concat(), ".npz");
    let (code, _, message) =
        call(&["evaluate", &run, "--metrics", "fd", "--samples", "12", "--fewer-samples"]);
    assert!(code == Some(2) && message.contains("--inception"), "{message}");

    let all = ["--metrics", "fd,is,pr", "--json", "--save-reference", &saved, "--quiet"];
    let (code, answer, message) = with(&[&few[..], &all].concat());
    assert_eq!(code, Some(0), "{message}");
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let figures = answer["images"].as_array().unwrap();
    let names = [
        "FD-EfficientNetLite0",
        "IS-EfficientNetLite0",
        "precision",
        "recall",
        "density",
        "coverage",
        "PRD-F8",
        "PRD-F1/8",
    ];
    assert_eq!(figures.len(), 2 * names.len());
    for (figure, name) in figures.iter().zip(names.iter().cycle()) {
        assert_eq!(figure["name"], *name);
        assert!(figure["value"].as_f64().unwrap() >= 0.0 && figure["samples"] == 12, "{figure}");
        assert_eq!(figure["covariance"], "learned");
    }
    assert_eq!(figures[0]["reference"], "20 images of the training set");
    let saved_statistics = FeatureStatistics::read(&saved).unwrap();
    assert_eq!(saved_statistics.features.as_deref(), Some("EfficientNet-Lite0"));

    // the saved statistics stand for the images; another batch size changes nothing but rounding
    let again = ["--reference", &saved, "--batch-size", "5"];
    let (code, answer, message) = with(&[&few[..], &again].concat());
    assert_eq!(code, Some(0), "{message}");
    let value: f64 =
        answer.lines().next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!((value / figures[0]["value"].as_f64().unwrap() - 1.0).abs() < 1e-3, "{answer}");
    assert!(
        answer.contains(
            "K = 1, learned up to an SNR of 5, last step mean; 12 samples against 20 images of"
        ),
        "{answer}"
    );
    refused(&[&few[..], &["--metrics", "pr", "--reference", &saved]].concat(), "no images");

    // every sampler, against the saved statistics, of the samples that `sample` draws
    let against = FeatureStatistics::read(&saved).unwrap();
    let network = Extractor::read(Path::new(&lite), Device::Cpu).unwrap();
    for sampler in Sampler::all() {
        let (name, steps) = (sampler.name(), sampler.method().has_steps());
        let same = ["--sampler", name, "--steps", "2", "--seed", "3"];
        let judge = ["evaluate", &run, "--inception", &lite, "--reference", &saved, "--json"];
        let (code, answer, message) = call(&[&judge[..], &few, &same, &["--quiet"]].concat());
        assert_eq!(code, Some(0), "{name}: {message}");
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        let figures = answer["images"].as_array().unwrap();
        assert_eq!((figures.len(), &figures[0]["sampler"]), (1, &serde_json::json!(name)));
        let ancestral = name == "ancestral";
        let shown = [("steps", steps), ("covariance", ancestral), ("eta", ancestral)];
        for (option, shown) in shown {
            assert_eq!(figures[0].get(option).is_some_and(|v| !v.is_null()), shown, "{answer}");
        }
        let rows = at("drawn.npy");
        let sample = ["sample", &run, "-n", "12", "-o", &rows, "--quiet"];
        let (code, _, message) = call(&[&sample[..], &same].concat());
        assert_eq!(code, Some(0), "{name}: {message}");
        // behind a header a byte for each level
        let array = std::fs::read(&rows).unwrap();
        let drawn = Tensor::from_slice(&array[array.len() - 12 * 16..]).view([-1, 1, 4, 4]);
        let mut moments = FeatureMoments::new(network.network().dim());
        moments.push(&network.features(&drawn).pooled);
        let expected = frechet_distance(&moments.statistics("any").unwrap(), &against).unwrap();
        let found = figures[0]["value"].as_f64().unwrap();
        assert!((found / expected - 1.0).abs() < 1e-4, "{name}: {found}, {expected}");
    }
    let heun = ["--sampler", "heun"];
    refused(&[&few[..], &heun, &["--covariance", "beta"]].concat(), "--sampler ancestral");
    refused(&[&few[..], &heun, &["--eta", "0"]].concat(), "--eta: the sampler 'heun'");
    refused(&[&few[..], &["--snr", "0.1"]].concat(), "--sampler predictor-corrector");
    refused(&[&heun[..], &["--metrics", "nll"]].concat(), "--metrics fd, is, pr or mmd");
    let other = at("other.npz");
    std::fs::copy(at_reference("statistics.npz"), &other).unwrap();
    refused(&[&few[..], &["--reference", &other]].concat(), "12 features");
}
