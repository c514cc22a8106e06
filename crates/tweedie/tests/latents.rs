//! Latents as data: their file, draws, encoding that is stopped and goes on, likelihoods. The
//! autoencoders are those of tests/reference/autoencoder.py.

use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor};
use tweedie::autoencoder::{Autoencoder, EncodeImages};
use tweedie::data::{Dataset, ImageSource, LatentsOf, TableOptions};
use tweedie::density::{Density, FitOptions, Samples, ScoreOptions};
use tweedie::likelihood::Estimator;
use tweedie::noise::{Noise, Seed};
use tweedie::run::{DataConfig, Prepared};
use tweedie::watch::{Silent, Watch};
use tweedie::{Error, Result};

fn vae(name: &str) -> Autoencoder {
    let folder = "../../tests/reference/autoencoder";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(name);
    Autoencoder::read(path, Device::Cpu).unwrap()
}

fn of() -> LatentsOf {
    let (vae, digest) = ("toy".into(), "0123456789abcdef".into());
    LatentsOf { vae, digest, scale: 0.5, shift: 0.0, image: [3, 4, 4] }
}

/// `n` files of 8×8 in two folders; every 40th is grey, and the last one is damaged.
fn pictures(dir: &Path, n: usize) -> PathBuf {
    let folder = dir.join("pictures");
    for class in ["cats", "dogs"] {
        std::fs::create_dir_all(folder.join(class)).unwrap();
    }
    for i in 0..n {
        let class = if i < n / 3 { "cats" } else { "dogs" };
        let path = folder.join(class).join(format!("{i:04}.png"));
        let level = |x: u32, y: u32, c: usize| ((i * 7 + c * 50) as u32 + x * 9 + y * 5) as u8;
        match i % 40 {
            0 => image::GrayImage::from_fn(8, 8, |x, y| image::Luma([level(x, y, 0)])).save(&path),
            _ => {
                let pixel = |x, y| image::Rgb([level(x, y, 0), level(x, y, 1), level(y, x, 2)]);
                image::RgbImage::from_fn(8, 8, pixel).save(&path)
            }
        }
        .unwrap();
    }
    std::fs::write(folder.join("dogs/9999.png"), b"no image").unwrap();
    folder
}

/// Wants to stop once so many are done.
struct StopAt(u64, u64);

impl Watch for StopAt {
    fn progress(&mut self, done: u64, _: u64) {
        self.1 = done;
    }

    fn stop(&self) -> bool {
        self.1 >= self.0
    }
}

/// What is stopped, and cut off within its last record as by a kill, goes on to the same file as
/// what never stopped; a part file of other options is refused.
#[test]
fn encoding_goes_on_where_it_was_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, vae) = (pictures(dir.path(), 600), vae("kl"));
    let table = TableOptions { skip_corrupt: true, ..TableOptions::default() };
    let source = ImageSource::open(&folder, &table).unwrap();
    let options = EncodeImages { flip: true, means: false };
    let encode = |name: &str, options: &EncodeImages, watch: &mut dyn Watch| {
        vae.encode_images(&source, options, &dir.path().join(name), watch)
    };
    let whole = encode("whole.npz", &options, &mut Silent).unwrap();
    assert_eq!((whole.rows, whole.corrupt, whole.resumed, whole.std), (600, 1, 0, true));
    assert_eq!((whole.shape, &whole.classes[..]), ([2, 4, 4], &["cats".into(), "dogs".into()][..]));

    let stopped = encode("twice.npz", &options, &mut StopAt(512, 0));
    assert!(matches!(stopped, Err(Error::Interrupted(_))));
    let (out, part) = (dir.path().join("twice.npz"), dir.path().join("twice.npz.part"));
    assert!(!out.exists());
    let length = part.metadata().unwrap().len();
    let file = std::fs::OpenOptions::new().write(true).open(&part).unwrap();
    file.set_len(length - 101).unwrap();
    drop(file);
    let other = EncodeImages { flip: false, ..options.clone() };
    let error = encode("twice.npz", &other, &mut Silent).unwrap_err().to_string();
    assert!(error.contains("twice.npz.part is what was done"), "{error}");
    let again = encode("twice.npz", &options, &mut Silent).unwrap();
    // the first part of 256; of the second something was lost
    assert_eq!((again.rows, again.resumed), (600, 256));
    assert_eq!(std::fs::read(&out).unwrap(), std::fs::read(dir.path().join("whole.npz")).unwrap());
    assert!(!part.exists());

    // rows are the encoder's, mirrored ones those of mirrored images
    let data = Dataset::read(&out).unwrap();
    assert_eq!((data.rows(), data.image(), data.levels()), (600, Some([2, 4, 4]), None));
    assert_eq!(data.latents_of().unwrap(), &vae.latents_of([3, 8, 8]));
    assert!(data.has_mirrored() && data.is_drawn_from());
    let labels = data.labels.as_ref().unwrap();
    assert_eq!((labels.of_rows[199], labels.of_rows[200]), (0, 1));
    let row = |i: usize| {
        let images = source.read(i..i + 1).unwrap();
        let (mean, _) = vae.encode(&images.levels);
        mean.reshape([-1])
    };
    for i in [0, 1, 255, 256, 599] {
        let gap = (Tensor::from_slice(&data.row(i)) - row(i)).abs().max().double_value(&[]);
        assert!(gap < 1e-5, "row {i}: {gap}");
    }
}

/// One row of three numbers: draws have its mean and standard deviation, those that are mirrored
/// the mirrored image's, half of the time each.
#[test]
fn rows_are_drawn_anew_from_their_gaussians() {
    let dir = tempfile::tempdir().unwrap();
    let vae = vae("kl");
    let levels: Vec<u8> = (0..10 * 64 * 3).map(|i: u32| (i * i % 251) as u8).collect();
    let images = dir.path().join("images.npy");
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (10, 3, 8, 8), }";
    let start = [b"\x93NUMPY\x01\x00v\x00", format!("{header:117}\n").as_bytes()].concat();
    std::fs::write(&images, [start, levels].concat()).unwrap();
    let source = ImageSource::open(&images, &TableOptions::default()).unwrap();
    let out = dir.path().join("latents.npz");
    let options = EncodeImages { flip: true, means: false };
    vae.encode_images(&source, &options, &out, &mut Silent).unwrap();
    let data = Dataset::read(&out).unwrap();
    let part = source.read(0..10).unwrap().levels;
    let (mean, std) = vae.encode(&part);
    let (mirrored, _) = vae.encode(&part.flip([3]));
    let std = std.unwrap();

    let config = |flip| DataConfig { flip, ..DataConfig::default() };
    const DRAWS: u64 = 4000;
    let draws = |flip: bool| {
        let prepared = Prepared::of(&data, &config(flip), 0).unwrap();
        let row = prepared.split.train[0];
        let mut noise = Noise::new(Seed(5), 0..DRAWS);
        let place = (Kind::Double, Device::Cpu);
        let chosen = vec![0; DRAWS as usize];
        (row as i64, prepared.training().gather(&chosen, &mut noise, place))
    };
    let flat = |x: &Tensor, row: i64| x.get(row).reshape([-1]).to_kind(Kind::Double);
    let (row, drawn) = draws(false);
    let (mean, mirrored, std) = (flat(&mean, row), flat(&mirrored, row), flat(&std, row));
    // in standard errors of a mean of 4000 draws, 32 numbers at once
    let errors = (drawn.mean_dim([0i64].as_slice(), false, None::<Kind>) - &mean)
        / (&std / (DRAWS as f64).sqrt());
    assert!(errors.abs().max().double_value(&[]) < 4.5, "{errors}");
    let spread = drawn.std_dim([0i64].as_slice(), true, false) / &std - 1.0;
    assert!(spread.abs().max().double_value(&[]) < 4.5 / (2.0 * DRAWS as f64).sqrt(), "{spread}");
    // with flips draws have the mean of both
    let (_, drawn) = draws(true);
    let middle = (&mean + &mirrored) * 0.5;
    let deviation = (std.square() * 1.2 + ((&mean - &mirrored) * 0.5).square()).sqrt();
    let errors = (drawn.mean_dim([0i64].as_slice(), false, None::<Kind>) - &middle)
        / (deviation / (DRAWS as f64).sqrt());
    assert!(errors.abs().max().double_value(&[]) < 4.5, "{errors}");
    let apart = ((mean - mirrored) / std).abs().max().double_value(&[]);
    assert!(apart > 0.3, "the mirrored image has other latents: {apart}");
}

/// A density that is its base says `ln b(z)` of latents, in nats, with no offset: they are scored
/// as they are.
#[test]
fn likelihoods_are_of_the_latents_themselves() -> Result<()> {
    let z = Noise::new(Seed(1), 0..40).normal(16, Kind::Float, Device::Cpu) * 3.0 + 1.0;
    let values: Vec<f32> = Vec::try_from(z.view(-1)).unwrap();
    let data = Dataset::latents([1, 4, 4], of(), values, None)?;
    let network = [("widths", vec![8i64, 8]), ("head_widths", vec![8, 8])];
    let mut options = FitOptions::default()
        .set("train.iterations", 1)
        .set("train.learning_rate", 1e-12)
        .set("train.validation_rows", 0)
        .set("model.network.kind", "unet")
        .set("model.network.shape", vec![1i64, 4, 4])
        .set("model.network.attention", vec![false, false]);
    for (name, widths) in network {
        options = options.set(&format!("model.network.{name}"), widths);
    }
    let density = Density::fit(&data, &options, &mut Silent)?;
    let record = &density.run().data;
    assert_eq!((record.image, record.levels()), (Some([1, 4, 4]), None));
    assert_eq!(record.latents.as_ref(), Some(&of()));
    let scores = density
        .log_prob(&data, &ScoreOptions { estimator: Estimator::Ode, ..Default::default() })?;
    assert_eq!(scores.estimate.offset(), 0.0);
    let exact = density.run().model.base().log_density(&z.to_kind(Kind::Double));
    let exact: Vec<f64> = Vec::try_from(exact).unwrap();
    // at T the flow ends in N(0, I), the base in N(α m, …): with α = 6.6e-3, m = 1 and 16 numbers
    // a row's value is off by 0.026 (one standard deviation), the mean of 40 by 0.004
    let gaps: Vec<f64> = scores.values().iter().zip(exact).map(|(score, b)| score - b).collect();
    assert!(gaps.iter().all(|gap| gap.abs() < 0.12), "{gaps:?}");
    let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
    assert!(mean.abs() < 0.02, "{mean}");

    // samples are latents: a file of them is read as data of the same run
    let dir = tempfile::tempdir().unwrap();
    let samples = density.sample(5, &Default::default())?;
    let path = dir.path().join("samples.npz");
    samples.write(&path)?;
    let again = density.read(&path)?;
    assert_eq!((again.rows(), again.latents_of()), (5, Some(&of())));
    let gap =
        again.values().into_iter().zip(&samples.values).map(|(a, b)| (f64::from(a) - b).abs());
    assert!(gap.fold(0.0, f64::max) < 1e-5);
    // of another autoencoder they are not
    let error = samples.decoded(&vae("kl"), None).unwrap_err().to_string();
    assert!(error.contains("toy (0123456789abcdef)") && error.contains("kl ("), "{error}");
    let other = LatentsOf { digest: "other".into(), ..of() };
    let foreign = Dataset::latents([1, 4, 4], other, vec![0.5; 16], None)?;
    let error = density.log_prob(&foreign, &ScoreOptions::default()).unwrap_err();
    assert!(error.to_string().contains("another autoencoder") || error.is_request(), "{error}");
    Ok(())
}

/// Files that are no latents, or damaged ones, are refused.
#[test]
fn files_that_are_no_latents_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("latents.npz");
    let data = Dataset::latents([1, 2, 2], of(), vec![0.25; 8], Some(vec![0.5; 8])).unwrap();
    assert!(Dataset::latents([1, 2, 2], of(), vec![f32::NAN; 8], None).is_err());
    assert!(Dataset::latents([1, 2, 2], of(), vec![0.0; 7], None).is_err());
    assert_ne!(
        data.fingerprint(),
        Dataset::latents([1, 2, 2], of(), vec![0.25; 8], None).unwrap().fingerprint()
    );
    let samples = Samples {
        values: vec![0.25; 8],
        columns: (1..=4).map(|i| format!("z{i}")).collect(),
        types: vec![tweedie::data::CellType::Single; 4],
        image: Some([1, 2, 2]),
        latents: Some(of()),
        labels: None,
        table: None,
        clipped: Default::default(),
    };
    samples.write(&path).unwrap();
    assert_eq!(Dataset::read(&path).unwrap().rows(), 2);
    let size = TableOptions { size: Some([4, 4]), ..TableOptions::default() };
    let error = Dataset::read_with(&path, &size).unwrap_err().to_string();
    assert!(error.contains("data.table.size") && error.contains("one size"), "{error}");
    let bytes = std::fs::read(&path).unwrap();
    for cut in [10, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        assert!(Dataset::read(&path).unwrap_err().is_request(), "{cut}");
    }
}
