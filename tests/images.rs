//! Images from their files to samples: readers, and the program on a tiny folder.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use image::{GrayImage, Luma, Rgb, RgbImage, RgbaImage};
use tweedie::data::{Table, TableOptions};

fn read(path: &Path) -> tweedie::Result<Table> {
    Table::read(path, &TableOptions::default())
}

fn refused(path: &Path, options: &TableOptions, words: &[&str]) {
    let message = Table::read(path, options).unwrap_err().to_string();
    assert!(words.iter().all(|word| message.contains(word)), "{words:?}: {message}");
}

/// An IDX file of `n` images of 2×3 whose levels count up.
fn idx(n: u32) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, 3];
    [n, 2, 3].iter().for_each(|axis| bytes.extend(axis.to_be_bytes()));
    bytes.extend((0..6 * n).map(|level| level as u8));
    bytes
}

#[test]
fn idx_files_plain_and_compressed() {
    let dir = tempfile::tempdir().unwrap();
    let (plain, packed) = (dir.path().join("images-idx3-ubyte"), dir.path().join("images-idx3-ubyte.gz"));
    std::fs::write(&plain, idx(2)).unwrap();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&idx(2)).unwrap();
    let compressed = encoder.finish().unwrap();
    std::fs::write(&packed, &compressed).unwrap();
    for path in [&plain, &packed] {
        let table = read(path).unwrap();
        assert_eq!((table.rows(), table.image), (2, Some([1, 2, 3])));
        assert_eq!(table.row(1), [6.0, 7.0, 8.0, 9.0, 10.0, 11.0]);
    }
    // a border of zeros, then a resampling
    let sized = |size| Table::read(&plain, &TableOptions { size: Some(size), ..Default::default() }).unwrap();
    assert_eq!(sized([4, 3]).row(0), [0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 0.0, 0.0, 0.0]);
    assert_eq!(sized([1, 1]).row(0).len(), 1);

    std::fs::write(&plain, &idx(2)[..20]).unwrap();
    refused(&plain, &TableOptions::default(), &["found 4 pixels, expected 2 images of 2 × 3"]);
    std::fs::write(&packed, &compressed[..compressed.len() - 9]).unwrap();
    refused(&packed, &TableOptions::default(), &["decompressed"]);
    std::fs::write(&plain, idx(0)).unwrap();
    refused(&plain, &TableOptions::default(), &["0 images"]);
}

#[test]
fn cifar_batches() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data_batch_1.bin");
    let mut record = vec![7u8];
    record.extend((0..3072).map(|i| (i / 1024 * 100) as u8));
    std::fs::write(&path, [record.clone(), record.clone()].concat()).unwrap();
    let table = read(&path).unwrap();
    assert_eq!((table.rows(), table.image), (2, Some([3, 32, 32])));
    assert_eq!([table.row(1)[0], table.row(1)[1024], table.row(1)[3071]], [0.0, 100.0, 200.0]);
    // resampling keeps colours apart
    let small = Table::read(&path, &TableOptions { size: Some([2, 2]), ..Default::default() }).unwrap();
    assert_eq!(small.row(0), [[0.0; 4], [100.0; 4], [200.0; 4]].concat());
    record[0] = 200;
    std::fs::write(&path, record).unwrap();
    refused(&path, &TableOptions::default(), &["image 1", "label 200"]);
}

#[test]
fn folders_of_images() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir(at("cats")).unwrap();
    GrayImage::from_pixel(2, 2, Luma([9])).save(at("b.png")).unwrap();
    std::fs::write(at("notes.txt"), "not an image").unwrap();
    let table = read(dir.path()).unwrap();
    assert_eq!((table.rows(), table.image, table.row(0)), (1, Some([1, 2, 2]), &[9.0; 4][..]));

    // one colour image makes all of them colour; what is transparent is white; sub-folders count
    RgbImage::from_pixel(2, 2, Rgb([10, 20, 30])).save(at("a.PNG")).unwrap();
    let mut glass = RgbaImage::from_pixel(2, 2, image::Rgba([50, 50, 50, 0]));
    glass.put_pixel(0, 0, image::Rgba([1, 2, 3, 255]));
    glass.save(at("cats/c.png")).unwrap();
    let table = read(dir.path()).unwrap();
    assert_eq!((table.rows(), table.image), (3, Some([3, 2, 2])));
    assert_eq!(table.row(0), [[10.0; 4], [20.0; 4], [30.0; 4]].concat());
    assert_eq!(table.row(1), [9.0; 12]);
    assert_eq!(table.row(2)[..5], [1.0, 255.0, 255.0, 255.0, 2.0]);

    // sizes differ, files are broken
    RgbImage::from_pixel(4, 2, Rgb([1, 1, 1])).save(at("wide.png")).unwrap();
    refused(dir.path(), &TableOptions::default(), &["wide.png", "4 × 2", "--size"]);
    let sized = TableOptions { size: Some([2, 2]), ..Default::default() };
    assert_eq!(Table::read(dir.path(), &sized).unwrap().rows(), 4);
    let good = std::fs::read(at("b.png")).unwrap();
    std::fs::write(at("cut.png"), &good[..good.len() / 2]).unwrap();
    refused(dir.path(), &sized, &["cut.png", "--skip-corrupt"]);
    let table = Table::read(dir.path(), &TableOptions { skip_corrupt: true, ..sized }).unwrap();
    assert_eq!((table.rows(), table.dropped_rows), (4, 1));
    let empty = tempfile::tempdir().unwrap();
    refused(empty.path(), &TableOptions::default(), &["a directory without PNG, JPEG or WebP files"]);
    let csv = empty.path().join("a.csv");
    std::fs::write(&csv, "1,2\n3,4\n").unwrap();
    refused(&csv, &TableOptions { size: Some([2, 2]), ..Default::default() }, &["--size"]);
}

/// Train, resume, sample, score and evaluate on thirty tiny images.
#[test]
fn the_program_on_images() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    std::fs::create_dir(at("pictures")).unwrap();
    for i in 0..30u8 {
        let pixel = |x: u32, y: u32| Rgb([i * 8, (x * 60) as u8, (y * 50) as u8 + i]);
        RgbImage::from_fn(4, 4, pixel).save(dir.path().join(format!("pictures/{i}.png"))).unwrap();
    }
    let succeed = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_tweedie")).args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let (run, pictures) = (at("run"), at("pictures"));
    let train = ["train", "--data", &pictures, "--out", &run, "--rank", "2", "--threads", "1"];
    succeed(&[&train[..], &["--iterations", "4", "--batch-size", "4"]].concat());
    let config = std::fs::read_to_string(at("run/config.toml")).unwrap();
    assert!(config.contains("kind = \"unet\"") && config.contains("shape = [3, 4, 4]"), "{config}");
    let record: serde_json::Value =
        serde_json::from_slice(&std::fs::read(at("run/data.json")).unwrap()).unwrap();
    assert_eq!(record["scaling"], serde_json::json!({ "pixels": 48 }));
    succeed(&["train", "--out", &run, "--resume", "--iterations", "6", "--threads", "1"]);
    succeed(&["sample", &run, "-n", "5", "--steps", "2", "-o", &at("sheet.png"), "--threads", "1"]);
    assert!(image::open(at("sheet.png")).unwrap().color().has_color());
    succeed(&["sample", &run, "-n", "5", "--steps", "2", "-o", &at("rows.npy"), "--threads", "1"]);
    let score = ["score", &run, &pictures, "--steps", "2", "-o", &at("scores.csv"), "--threads", "1"];
    assert!(succeed(&score).starts_with("30 rows: -"));
    let scores = std::fs::read_to_string(at("scores.csv")).unwrap();
    assert_eq!(scores.lines().count(), 31);
    assert!(scores.starts_with("image,log_likelihood,std_error\n1,-"), "{scores}");
    // a model from elsewhere gets a covariance head, its score untouched
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/unet/attention");
    let (foreign, with_head) = (at("foreign"), at("with-head"));
    succeed(&["import", folder, "--out", &foreign]);
    let head =
        ["train", "--data", &pictures, "--size", "8x16", "--out", &with_head, "--score-from", &foreign];
    succeed(
        &[&head[..], &["--mode", "head", "--separate", "--rank", "1", "--iterations", "3", "--threads", "1"]]
            .concat(),
    );
    succeed(&["export", &with_head, "--out", &at("pipeline")]);
    let weights = "unet/diffusion_pytorch_model.safetensors";
    let tensors = |path: &Path| {
        let mut tensors = tch::Tensor::read_safetensors(path).unwrap();
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        tensors
    };
    let original = Path::new(folder).join("diffusion_pytorch_model.safetensors");
    assert_eq!(tensors(&Path::new(&at("pipeline")).join(weights)), tensors(&original));
    // the head comes back with the score
    let again = at("again");
    succeed(&["import", &at("pipeline"), "--out", &again]);
    assert_eq!(
        tensors(&Path::new(&with_head).join("ema.safetensors")),
        tensors(&Path::new(&again).join("ema.safetensors"))
    );
    let draws = |run: &str| {
        succeed(&["sample", run, "-n", "2", "--steps", "2", "-o", &at("draws.npy"), "--threads", "1"]);
        std::fs::read(at("draws.npy")).unwrap()
    };
    assert_eq!(draws(&again), draws(&with_head));
    succeed(&["score", &run, &pictures, "--estimator", "levels", "--steps", "2", "--threads", "1"]);
    succeed(&["sample", &with_head, "-n", "2", "--steps", "2", "-o", &at("foreign.png"), "--threads", "1"]);
    // other data than the run's
    GrayImage::from_pixel(12, 4, Luma([9])).save(dir.path().join("grey.png")).unwrap();
    std::fs::create_dir(at("grey")).unwrap();
    std::fs::rename(at("grey.png"), at("grey/1.png")).unwrap();
    for (args, word) in [
        (vec!["score", &run, &at("grey"), "--steps", "2"], "1 × 4 × 12"),
        (vec!["train", "--data", &pictures, "--out", &at("none"), "--width", "8"], "U-Net"),
        (
            vec![
                "train",
                "--data",
                &pictures,
                "--out",
                &at("none"),
                "--dequantize",
                "none",
                "--marginals",
                "gaussianize",
            ],
            "levels",
        ),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_tweedie")).args(&args).output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && message.contains(word), "{args:?}: {message}");
    }
    // a file that says nothing of the network
    std::fs::write(at("short.toml"), "[train]\niterations = 2\nbatch_size = 4\n").unwrap();
    let short = ["train", "--config", &at("short.toml"), "--data", &pictures, "--out", &at("short")];
    succeed(&[&short[..], &["--threads", "1", "--objective", "sm"]].concat());
    assert!(std::fs::read_to_string(at("short/config.toml")).unwrap().contains("kind = \"unet\""));
    let table = succeed(&["evaluate", &run, "--steps", "2", "--no-ode", "--threads", "1"]);
    assert!(table.contains("bits per dimension") && table.contains("learned covariance"), "{table}");
    succeed(&["report", &run, "--steps", "2", "-n", "4", "--rows", "2", "--threads", "1"]);
    assert!(std::fs::read_to_string(at("run/report.html")).unwrap().contains("data:image/png"));
}
