//! Latents from the command line: images are encoded, latents trained on, scored, sampled and
//! decoded. The autoencoders are those of tests/reference/autoencoder.py.

mod common;

use std::path::Path;

use common::{fail, succeed, tweedie, write_feature_network};
use serde_json::Value;
use tch::Device;
use tweedie::autoencoder::Autoencoder;
use tweedie::data::Dataset;
use tweedie::density::{Density, SampleOptions};
use tweedie::metric::{Extractor, FeatureMoments, frechet_distance};

fn reference(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/reference/autoencoder");
    folder.join(name).display().to_string()
}

/// Forty images of 8×8 in two classes.
fn pictures(folder: &str) {
    for i in 0..40u8 {
        let class = Path::new(folder).join(["cats", "dogs"][usize::from(i % 2)]);
        std::fs::create_dir_all(&class).unwrap();
        let pixel =
            |x: u32, y: u32| image::Rgb([i * 6, (x * 30) as u8, (y * 30) as u8 + i % 2 * 20]);
        image::RgbImage::from_fn(8, 8, pixel).save(class.join(format!("{i}.png"))).unwrap();
    }
}

#[test]
fn a_run_of_latents_from_images_to_images() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (images, latents, run, vae) = (at("images"), at("z.npz"), at("run"), reference("kl"));
    pictures(&images);
    let encode = ["latents", "encode", &images, "--vae", &vae, "-o", &latents, "--threads", "1"];
    let said = succeed(&encode);
    assert!(said.starts_with("40 images as latents of 2 × 4 × 4 (AutoencoderKL kl, "), "{said}");
    let answer: Value =
        serde_json::from_str(&succeed(&[&encode[..], &["--flip", "--json"]].concat())).unwrap();
    assert_eq!(answer["shape"], serde_json::json!([2, 4, 4]));
    assert_eq!(answer["classes"], serde_json::json!(["cats", "dogs"]));
    assert_eq!((&answer["std"], &answer["mirrored"]), (&true.into(), &true.into()));

    let config = "[model.network]\nkind = \"unet\"\nshape = [2, 4, 4]\nwidths = [8, 8]\n\
                  attention = [false, false]\nhead_widths = [8, 8]\n";
    std::fs::write(at("small.toml"), config).unwrap();
    let (config, quick) = (at("small.toml"), ["--threads", "1", "--iterations", "3"]);
    let train = ["train", "--config", &config, "--data", &latents, "--batch-size", "4"];
    let output = tweedie(
        &[&train[..], &["--out", &run, "--classes", "--flip", "--rank", "2"], &quick[..]].concat(),
    );
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    for words in
        ["latents of 2 x 4 x 4, of images of 8 x 8 pixels by kl (", "2 classes: cats, dogs"]
    {
        assert!(said.contains(words), "no {words:?} in {said}");
    }
    assert!(said.contains("drawn anew") && said.contains("nats per row of latents"), "{said}");
    let digest = answer["digest"].as_str().unwrap();
    let record = std::fs::read_to_string(at("run/data.json")).unwrap();
    let record: Value = serde_json::from_str(&record).unwrap();
    assert_eq!(record["latents"]["digest"], digest);
    assert_eq!(record["latents"]["scale"], 0.18215);
    assert_eq!(record["scaling"], serde_json::json!({ "latents": 32 }));
    succeed(&["train", "--out", &run, "--resume", "--iterations", "4", "--threads", "1"]);

    // every estimator of densities, in nats; levels there are none
    for estimator in [&["--steps", "2"][..], &["--estimator", "bound"]] {
        let score = ["score", &run, &latents, "--threads", "1", "--quiet"];
        let said = succeed(&[&score[..], estimator].concat());
        assert!(said.contains("nats per row of latents (") && !said.contains("bits"), "{said}");
    }
    let levels = ["score", &run, &latents, "--estimator", "levels"];
    fail(&levels, 2, &["--estimator", "a run on latents"]);
    let said = succeed(&["evaluate", &run, "--steps", "2", "--threads", "1", "--quiet"]);
    assert!(said.contains("nats per row of latents"), "{said}");
    assert!(succeed(&["info", &run]).contains("latents of 2 × 4 × 4 by the autoencoder kl"));

    let few = ["-n", "4", "--steps", "2", "--threads", "1", "--quiet"];
    let sample = |out: &str, more: &[&str]| {
        succeed(&[&["sample", &run, "-o", out], &few[..], more].concat())
    };
    sample(&at("samples.npz"), &[]);
    sample(&at("sheet.png"), &["--vae", &vae]);
    sample(&at("pictures/"), &["--vae", &vae, "--tile", "4", "--class", "dogs"]);
    sample(&at("samples.csv"), &[]);
    let sheet = image::open(at("sheet.png")).unwrap();
    let picture = image::open(at("pictures/000000.png")).unwrap();
    assert_eq!((picture.width(), picture.height()), (8, 8));
    assert!(sheet.width() >= 16 && sheet.color().has_color());
    // samples have their classes, in turn; latents of one folder have none
    let score = ["--steps", "2", "--threads", "1", "--quiet"];
    succeed(&[&["score", &run, &at("samples.npz")], &score[..]].concat());
    let labels = Dataset::read(at("samples.npz")).unwrap().labels.unwrap();
    let names = ["cats", "dogs"].map(String::from);
    assert_eq!((&labels.names[..], &labels.of_rows[..]), (&names[..], &[0, 1, 0, 1][..]));
    let (cats, flat) = (at("images/cats"), at("cats.npz"));
    succeed(&["latents", "encode", &cats, "--vae", &vae, "-o", &flat, "--quiet"]);
    fail(&["score", &run, &flat, "--steps", "2"], 2, &["no labels"]);

    // the same samples are decoded by hand
    let decode = ["latents", "decode", &at("samples.npz"), "--vae", &vae, "--quiet"];
    succeed(&[&decode[..], &["-o", &at("again.png")]].concat());
    assert_eq!(std::fs::read(at("again.png")).unwrap(), std::fs::read(at("sheet.png")).unwrap());
    succeed(&[&decode[..], &["-o", &at("again.npy")]].concat());

    // mistakes
    let other = reference("kl-plain");
    let sheet = at("no.png");
    fail(&[&["sample", &run, "-o", &sheet], &few[..]].concat(), 2, &["--vae", "no pictures"]);
    fail(
        &[&["sample", &run, "-o", &sheet, "--vae", &other], &few[..]].concat(),
        2,
        &["--vae", digest, "kl-plain"],
    );
    fail(
        &["latents", "decode", &at("samples.npz"), "--vae", &other, "-o", &sheet],
        2,
        &["--vae", digest],
    );
    fail(
        &[&["sample", &run, "-o", &at("no.npz"), "--vae", &vae], &few[..]].concat(),
        2,
        &["not decoded"],
    );
    fail(
        &[&["sample", &run, "-o", &sheet, "--vae", &vae, "--tile", "3"], &few[..]].concat(),
        2,
        &["--tile", "multiple of 4"],
    );
    fail(
        &["evaluate", &run, "--vae", &vae, "--metrics", "nll", "--steps", "2"],
        2,
        &["--vae", "no metric that looks at images"],
    );
    assert!(!Path::new(&sheet).exists());
    let encoded = at("other.npz");
    succeed(&["latents", "encode", &images, "--vae", &other, "-o", &encoded, "--quiet"]);
    fail(&["score", &run, &encoded], 2, &["latents of"]);
    fail(&["score", &run, &images], 2, &["images"]);
    fail(&["dequantize", &run], 2, &["levels"]);
    fail(
        &[&train[..4], &[&encoded, "--out", &at("no"), "--flip"], &quick[..]].concat(),
        2,
        &["--flip", "mirrored"],
    );
    fail(
        &[&train[..4], &[&encoded, "--out", &at("no"), "--size", "8x8"], &quick[..]].concat(),
        2,
        &["--size", "one size"],
    );
    fail(
        &[&train[..4], &[&encoded, "--out", &at("no"), "--dequantize", "integers"], &quick[..]]
            .concat(),
        2,
        &["latents"],
    );
    fail(
        &["latents", "encode", &latents, "--vae", &vae, "-o", &at("twice.npz")],
        2,
        &["latents, and no images"],
    );
    fail(
        &["latents", "encode", &images, "--vae", &vae, "--size", "9x8", "-o", &at("odd.npz")],
        2,
        &["--vae", "9 × 8", "factor 2", "--size 10x8"],
    );
    fail(
        &["latents", "encode", &images, "--vae", &images, "-o", &at("n.npz")],
        2,
        &["config.json"],
    );
    fail(&["latents", "encode", &images, "--vae", &vae, "-o", &at("n.csv")], 2, &["--out", ".npz"]);

    // a run of pixels takes no latents, and no autoencoder
    let pixels = at("pixels");
    std::fs::write(at("small.toml"), record_free(&config)).unwrap();
    let train = ["train", "--config", &config, "--data", &images, "--out", &pixels];
    succeed(&[&train[..], &["--batch-size", "4", "--rank", "0", "--quiet"], &quick[..]].concat());
    fail(&["score", &pixels, &latents], 2, &["latents"]);
    fail(
        &[&["sample", &pixels, "-o", &sheet, "--vae", &vae], &few[..]].concat(),
        2,
        &["--vae", "not of latents"],
    );
    fail(&[&["sample", &pixels, "-o", &at("n.npz")], &few[..]].concat(), 2, &["--out", "of none"]);
}

/// The configuration for images of 3 × 8 × 8.
fn record_free(config: &str) -> String {
    std::fs::read_to_string(config).unwrap().replace("[2, 4, 4]", "[3, 8, 8]")
}

/// Distances of samples of latents are of the images that they are decoded to, against images of
/// any size; and so are those of the experiment on guidance, over scales and over steps.
#[test]
fn figures_of_decoded_samples() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (images, latents, run, vae) = (at("images"), at("z.npz"), at("run"), reference("kl"));
    let (features, pixels) = (at("features.safetensors"), at("pixels"));
    pictures(&images);
    write_feature_network(Path::new(&features));
    succeed(&["latents", "encode", &images, "--vae", &vae, "-o", &latents, "--quiet"]);
    let config = "[model.network]\nkind = \"unet\"\nshape = [2, 4, 4]\nwidths = [8, 8]\n\
                  attention = [false, false]\nhead_widths = [8, 8]\n";
    std::fs::write(at("small.toml"), config).unwrap();
    let config = at("small.toml");
    let train = ["train", "--config", &config, "--batch-size", "4", "--iterations", "3", "--quiet"];
    let train = [&train[..], &["--data", &latents, "--threads", "1", "--classes"]].concat();
    let rest = ["--objective", "sm", "--label-dropout", "0.3", "--out", &run];
    succeed(&[&train[..], &rest].concat());

    let evaluate = ["evaluate", &run, "--metrics", "fd,pr", "--samples", "30", "--fewer-samples"];
    let evaluate = [&evaluate[..], &["--steps", "3", "--features", &features, "--json"]].concat();
    let guided = ["--guidance", "2", "--reference", &images];
    let full = [&evaluate[..], &guided, &["--vae", &vae]].concat();
    let answer: Value = serde_json::from_str(&succeed(&full)).unwrap();
    let found = answer["images"][0]["value"].as_f64().unwrap();
    assert_eq!(answer["images"][0]["name"], "FD-EfficientNetLite0");

    // the same by hand
    let density = Density::load(&run).unwrap();
    let options = SampleOptions { steps: 3, guidance: Some(2.0), ..SampleOptions::default() };
    let vae_read = Autoencoder::read(&vae, Device::Cpu).unwrap();
    let decoded = density.sample(30, &options).unwrap().decoded(&vae_read, None).unwrap();
    let data = Dataset::read(&images).unwrap();
    let extractor = Extractor::read(Path::new(&features), Device::Cpu).unwrap();
    let statistics = |levels: &[f64]| {
        let held: Vec<f64> = levels.iter().map(|level| level.clamp(0.0, 255.0)).collect();
        let features = extractor.features_of(&held, [3, 8, 8]).pooled;
        FeatureMoments::of(&features).statistics(extractor.network().name()).unwrap()
    };
    let of_data: Vec<f64> = data.values().into_iter().map(f64::from).collect();
    let expected = frechet_distance(&statistics(&decoded.values), &statistics(&of_data)).unwrap();
    assert!((found - expected).abs() < 1e-4 * expected, "{found} against {expected}");

    let refused = |more: &[&str], words: &[&str]| {
        fail(&[&evaluate[..], more].concat(), 2, words);
    };
    refused(&["--reference", &images], &["latents", "--vae"]);
    refused(&["--vae", &vae], &["--reference", "run of latents"]);
    refused(&["--vae", &reference("kl-plain"), "--reference", &images], &["--vae", "kl-plain"]);
    let mut grey = vec![0u8, 0, 8, 3, 0, 0, 0, 30, 0, 0, 0, 8, 0, 0, 0, 8];
    grey.extend((0..30 * 64).map(|i: u32| (i * i % 251) as u8));
    std::fs::write(at("grey-images-idx3-ubyte"), grey).unwrap();
    let grey = at("grey-images-idx3-ubyte");
    refused(&["--vae", &vae, "--reference", &grey], &["no images of 3 × 8 × 8"]);

    let out = at("out");
    let experiment = ["experiment", "guidance", "--out", &out, "--train", "ocm"];
    let budget = ["--iterations", "2", "--batch-size", "4", "--samples", "21", "--reference", "21"];
    let experiment = [&experiment[..], &budget, &["--features", &features]].concat();
    let scales = ["--guidance", "1.5,3", "--at-steps", "2", "--steps", "2,3", "--sheet", "4"];
    let scales = [&scales[..], &["--covariances", "beta-tilde"]].concat();
    let of_run = [&experiment[..], &scales, &["--run", &run, "--test", &latents]].concat();
    fail(&of_run, 2, &["--features", "--vae"]);
    let both = ["--guided-covariance", "conditional,combined", "--vae", &vae];
    let said = succeed(&[&of_run[..], &both].concat());
    let page = std::fs::read_to_string(at("out/guidance.md")).unwrap();
    for words in [
        "|  | w = 1.5 | w = 3 |",
        "|  | K = 2 | K = 3 |",
        "| ocm, learned G, combined |",
        "| ocm, DDIM, learned G |",
        "Recall F₈ (Sajjadi et al. 2018)",
        "both decoded from latents",
    ] {
        assert!(page.contains(words), "no {words:?} in {page}");
    }
    assert!(!page.contains("Nats per row"), "{page}");
    assert!(said.contains("guidance.md"), "{said}");
    let table = std::fs::read_to_string(at("out/guidance.csv")).unwrap();
    // β̃, DDIM, and OCM's two steps with two covariances, at (w, K) = (1.5, 2), (3, 2) and (1.5, 3)
    assert_eq!(table.lines().count(), 1 + 3 * (2 + 4), "{table}");
    let sheet = image::open(at("out/samples-ocm-learned-w1.5-combined-2.png")).unwrap();
    assert!(sheet.color().has_color());

    // of pixels without a null class
    std::fs::write(&config, record_free(&config)).unwrap();
    let train = ["train", "--config", &config, "--batch-size", "4", "--iterations", "3", "--quiet"];
    let rest = ["--data", &images, "--threads", "1", "--classes", "--out", &pixels];
    succeed(&[&train[..], &rest, &["--objective", "sm"]].concat());
    let of_pixels = [&experiment[..], &["--run", &pixels]].concat();
    fail(&of_pixels, 2, &["--run", "no null class"]);
    fail(&[&of_pixels[..], &["--guidance=-1"]].concat(), 2, &["--guidance", "from 0"]);
    let channels = [&of_run[..], &["--vae", &vae, "--guided-channels", "3"]].concat();
    fail(&channels, 2, &["--guided-channels", "to 2"]);
}

/// AutoencoderTiny gives points: no standard deviations; IDX files are images as well.
#[test]
fn points_are_latents_too() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let mut pixels = vec![0u8, 0, 8, 3, 0, 0, 0, 30, 0, 0, 0, 6, 0, 0, 0, 8];
    pixels.extend((0..30 * 48).map(|i: u32| (i * i % 251) as u8));
    std::fs::write(at("t-images-idx3-ubyte"), pixels).unwrap();
    let (images, latents) = (at("t-images-idx3-ubyte"), at("z.npz"));
    for vae in [reference("tiny"), reference("tiny-halves/tiny_decoder.pth")] {
        let encode = ["latents", "encode", &images, "--vae", &vae, "-o", &latents, "--json"];
        let answer: Value = serde_json::from_str(&succeed(&encode)).unwrap();
        assert_eq!((&answer["rows"], &answer["std"]), (&30.into(), &false.into()));
        assert_eq!(answer["shape"], serde_json::json!([3, 3, 4]));
        succeed(&["latents", "decode", &latents, "--vae", &vae, "-o", &at("s.png"), "--quiet"]);
    }
}
