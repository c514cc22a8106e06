//! Images from their files to samples: readers, and the program on a tiny folder.

mod common;

use std::io::Write;
use std::path::Path;
use std::process::Command;

use common::{fail, succeed};
use image::{GrayImage, Luma, Rgb, RgbImage, RgbaImage};
use proptest::prelude::*;
use tweedie::data::{Crop, Dataset, Purpose, TableOptions};
use tweedie::model::{DitConfig, HeadTrunk, NetworkConfig, UNetConfig};

fn read(path: &Path) -> tweedie::Result<Dataset> {
    Dataset::read_with(path, &TableOptions::default())
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn refused(path: &Path, options: &TableOptions, words: &[&str]) {
    let message = Dataset::read_with(path, options).unwrap_err().to_string();
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
    let (plain, packed) =
        (dir.path().join("images-idx3-ubyte"), dir.path().join("images-idx3-ubyte.gz"));
    std::fs::write(&plain, idx(2)).unwrap();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&idx(2)).unwrap();
    let compressed = encoder.finish().unwrap();
    std::fs::write(&packed, &compressed).unwrap();
    for path in [&plain, &packed] {
        let table = read(path).unwrap();
        assert_eq!((table.rows(), table.image()), (2, Some([1, 2, 3])));
        assert_eq!(table.row(1), [6.0, 7.0, 8.0, 9.0, 10.0, 11.0]);
    }
    // a border of zeros, then a resampling
    let sized = |size| {
        Dataset::read_with(&plain, &TableOptions { size: Some(size), ..Default::default() })
            .unwrap()
    };
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
    assert_eq!((table.rows(), table.image()), (2, Some([3, 32, 32])));
    assert_eq!([table.row(1)[0], table.row(1)[1024], table.row(1)[3071]], [0.0, 100.0, 200.0]);
    // resampling keeps colours apart
    let small =
        Dataset::read_with(&path, &TableOptions { size: Some([2, 2]), ..Default::default() })
            .unwrap();
    assert_eq!(small.row(0), [[0.0; 4], [100.0; 4], [200.0; 4]].concat());
    let labels = table.labels.unwrap();
    assert_eq!((labels.names[7].as_str(), &labels.of_rows[..]), ("horse", &[7, 7][..]));
    // the folder is its training batches
    let folder = |i: u8| dir.path().join(format!("data_batch_{i}.bin"));
    refused(dir.path(), &TableOptions::default(), &["data_batch_2.bin", "missing"]);
    for i in 2..6 {
        record[0] = i;
        std::fs::write(folder(i), &record).unwrap();
    }
    std::fs::write(dir.path().join("test_batch.bin"), &record).unwrap();
    let table = read(dir.path()).unwrap();
    assert_eq!(table.labels.unwrap().of_rows, [7, 7, 2, 3, 4, 5]);
    assert_eq!(read(&dir.path().join("test_batch.bin")).unwrap().rows(), 1);

    std::fs::write(&path, &record[..3000]).unwrap();
    refused(&path, &TableOptions::default(), &["3000 bytes are not whole images"]);
    refused(dir.path(), &TableOptions::default(), &["data_batch_1.bin", "3000 bytes"]);
    record[0] = 200;
    std::fs::write(&path, record).unwrap();
    refused(&path, &TableOptions::default(), &["image 1", "label 200"]);
}

/// MNIST's labels lie beside its images.
#[test]
fn idx_labels() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let images = at("t10k-images-idx3-ubyte");
    std::fs::write(&images, idx(3)).unwrap();
    assert_eq!(read(&images).unwrap().labels, None);
    let labels = |count: u8, labels: &[u8]| {
        std::fs::write(
            at("t10k-labels-idx1-ubyte"),
            [&[0, 0, 8, 1, 0, 0, 0, count], labels].concat(),
        )
        .unwrap();
    };
    labels(3, &[9, 0, 9]);
    let found = read(&images).unwrap().labels.unwrap();
    assert_eq!((found.names, found.of_rows), (vec!["0".to_string(), "9".into()], vec![1, 0, 1]));
    // rows that are left out take their labels along
    std::fs::write(&images, [&idx(3)[..16], &[1; 12], &[2; 6]].concat()).unwrap();
    let unique =
        Dataset::read_with(&images, &TableOptions { unique: true, ..Default::default() }).unwrap();
    assert_eq!((unique.rows(), unique.labels.unwrap().of_rows), (2, vec![1, 1]));
    labels(2, &[9, 0]);
    refused(&images, &TableOptions::default(), &["t10k-labels", "2 labels", "3 images"]);
    labels(3, &[9, 0]);
    refused(&images, &TableOptions::default(), &["t10k-labels", "found 2 labels, expected 3"]);
    std::fs::write(at("t10k-labels-idx1-ubyte"), idx(3)).unwrap();
    refused(&images, &TableOptions::default(), &["t10k-labels", "not an IDX file of labels"]);
}

/// The middle of an image is kept, then brought to its size: by hand, of levels that count up.
#[test]
fn crops_are_of_the_middle() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let file = at("images-idx3-ubyte");
    let head = [0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 7];
    std::fs::write(&file, [&head[..], &(0..56).collect::<Vec<u8>>()].concat()).unwrap();
    let with = |crop, size| TableOptions { crop: Some(crop), size, ..Default::default() };
    let first = |crop, size| {
        let table = Dataset::read_with(&file, &with(crop, size)).unwrap();
        (table.image().unwrap(), table.row(0))
    };
    // of 4 lines and 7 columns: lines 1 and 2, columns 2 and 3
    assert_eq!(first(Crop::Side(2), None), ([1, 2, 2], vec![9.0, 10.0, 16.0, 17.0]));
    let square = (0..4).flat_map(|line| (1..5).map(move |column| (7 * line + column) as f32));
    assert_eq!(first(Crop::Shorter, None), ([1, 4, 4], square.collect()));
    assert_eq!(first(Crop::Side(4), None), first(Crop::Shorter, None));
    // then a border: the second image's middle pixels
    let table = Dataset::read_with(&file, &with(Crop::Side(2), Some([2, 4]))).unwrap();
    assert_eq!(table.row(1), [0.0, 37.0, 38.0, 0.0, 0.0, 44.0, 45.0, 0.0]);
    refused(&file, &with(Crop::Side(5), None), &["7 × 4 pixels", "5 × 5", "data.table.crop"]);
    refused(&file, &with(Crop::Side(0), None), &["data.table.crop"]);
    let csv = at("a.csv");
    std::fs::write(&csv, "1,2\n3,4\n").unwrap();
    refused(&csv, &with(Crop::Shorter, None), &["data.table.crop", "holds no images"]);

    // pictures of several sizes, grey in the middle of colours that are cut off
    std::fs::create_dir(at("pictures")).unwrap();
    for (i, (width, height)) in [(8, 6), (6, 6), (5, 12)].into_iter().enumerate() {
        let middle = |x: u32, y: u32| {
            let side = width.min(height);
            let (left, top) = ((width - side) / 2, (height - side) / 2);
            (left..left + side).contains(&x) && (top..top + side).contains(&y)
        };
        let level = 40 * (i as u8 + 1);
        let pixel = |x, y| if middle(x, y) { Rgb([level; 3]) } else { Rgb([255, 0, 9]) };
        RgbImage::from_fn(width, height, pixel).save(at(&format!("pictures/{i}.png"))).unwrap();
    }
    let table = Dataset::read_with(at("pictures"), &with(Crop::Shorter, Some([3, 3]))).unwrap();
    let rows: Vec<_> = (0..3).map(|i| table.row(i)).collect();
    assert_eq!(rows, [vec![40.0; 27], vec![80.0; 27], vec![120.0; 27]]);
    let same = Dataset::read_with(at("pictures"), &with(Crop::Side(4), None)).unwrap();
    assert_eq!((same.image(), same.rows()), (Some([3, 4, 4]), 3));
    let words = ["2.png", "5 × 12 pixels", "less than the 6 × 6"];
    refused(&at("pictures"), &with(Crop::Side(6), None), &words);
    refused(&at("pictures"), &with(Crop::Shorter, None), &["data.table.size"]);

    // the run reads new images as it was trained
    let (run, data) = (text(&at("run")), text(&at("pictures")));
    let train = ["train", "--data", &data, "--out", &run, "--threads", "1", "--crop"];
    let short = ["shorter", "--size", "4x4", "--split", "1,0,0"];
    succeed(&[&train[..], &short, &["--iterations", "1", "--batch-size", "2"]].concat());
    let config = std::fs::read_to_string(at("run/config.toml")).unwrap();
    assert!(config.contains("crop = \"shorter\""), "{config}");
    let score = ["score", &run, &data, "--steps", "2", "-o", &text(&at("s.csv")), "--threads", "1"];
    succeed(&score);
    assert_eq!(std::fs::read_to_string(at("s.csv")).unwrap().lines().count(), 4);
    let bits = ["evaluate", &run, "--data", &data, "--steps", "2", "--threads", "1"];
    assert!(succeed(&bits).starts_with("3 images"));
    std::fs::remove_dir_all(at("run")).unwrap();
    fail(&[&train[..], &["6", "--size", "4x4"]].concat(), 2, &["2.png", "a smaller --crop"]);
    fail(&[&train[..], &["longer"]].concat(), 2, &["--crop", "longer"]);
    let by_number = [&train[..], &["5", "--size", "4x4", "--split", "1,0,0"]].concat();
    succeed(&[&by_number[..], &["--iterations", "1", "--batch-size", "2"]].concat());
    assert!(std::fs::read_to_string(at("run/config.toml")).unwrap().contains("crop = 5"));
}

/// An array as NumPy saves it.
fn npy(descr: &str, shape: &str, values: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let length = (header.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\0", &length[..], header.as_bytes(), values].concat()
}

fn npz(path: &Path, arrays: &[(&str, Vec<u8>)]) {
    let mut archive = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    for (name, bytes) in arrays {
        let options = zip::write::SimpleFileOptions::default();
        archive.start_file(format!("{name}.npy"), options).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap();
}

/// Batches with the arrays of Chrabaszcz et al. 2017, one by one and in their folder.
#[test]
fn downsampled_imagenet() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    // an image of one level in each plane
    let batch = |name: &str, side: usize, labels: &[i64]| {
        let planes = |&label: &i64| (0..3).flat_map(move |c| vec![label as u8 + c; side * side]);
        let (n, d) = (labels.len(), 3 * side * side);
        let data: Vec<u8> = labels.iter().flat_map(planes).collect();
        let numbers: Vec<u8> = labels.iter().flat_map(|label| label.to_le_bytes()).collect();
        let arrays = [
            ("data", npy("|u1", &format!("({n}, {d})"), &data)),
            ("labels", npy("<i8", &format!("({n},)"), &numbers)),
            ("mean", npy("<f8", &format!("({d},)"), &vec![0; 8 * d])),
        ];
        npz(&at(name), &arrays);
    };
    for (side, name) in [(32, "train_data_batch_1.npz"), (64, "any.npz")] {
        batch(name, side, &[7, 1000, 7]);
        let table = read(&at(name)).unwrap();
        assert_eq!((table.rows(), table.image()), (3, Some([3, side, side])));
        let (row, plane) = (table.row(2), side * side);
        assert_eq!([row[0], row[plane - 1], row[plane], row[3 * plane - 1]], [7.0, 7.0, 8.0, 9.0]);
        assert!(table.notes.is_empty(), "{:?}", table.notes);
        let labels = table.labels.unwrap();
        assert_eq!((labels.names.join(" "), labels.of_rows), ("7 1000".into(), vec![0, 1, 0]));
    }
    std::fs::remove_file(at("any.npz")).unwrap();
    refused(dir.path(), &TableOptions::default(), &["train_data_batch_2.npz", "is missing"]);
    for i in 2..=10 {
        batch(&format!("train_data_batch_{i}.npz"), 32, &[i, 7]);
    }
    let table = read(dir.path()).unwrap();
    let labels = table.labels.as_ref().unwrap();
    let class = |row: usize| &labels.names[labels.of_rows[row] as usize];
    assert_eq!((table.rows(), labels.names.len()), (3 + 2 * 9, 10));
    // the first row of batch 10
    assert_eq!((class(19).as_str(), table.row(19)[0]), ("10", 10.0));
    let test = TableOptions { purpose: Purpose::Test, ..Default::default() };
    refused(dir.path(), &test, &["val_data.npz", "is missing"]);
    batch("val_data.npz", 32, &[7]);
    assert_eq!(Dataset::read_with(dir.path(), &test).unwrap().rows(), 1);
    batch("train_data_batch_10.npz", 64, &[7]);
    refused(dir.path(), &TableOptions::default(), &["train_data_batch_10.npz", "[3, 64, 64]"]);
    // rows of another length are a table that an archive does not hold
    batch("val_data.npz", 31, &[7]);
    refused(&at("val_data.npz"), &test, &["0 arrays of images", "data (|u1 [1, 2883])"]);
}

/// LSUN comes as LMDB: its folder and its file are refused with the way out of it.
#[test]
fn lmdb_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("church_outdoor_val_lmdb");
    std::fs::create_dir(&folder).unwrap();
    // a page's header and LMDB's magic number, as LMDB 0.9.36 writes them
    let mut page = vec![0; 8192];
    page[10] = 8;
    page[16..24].copy_from_slice(&[0xde, 0xc0, 0xef, 0xbe, 1, 0, 0, 0]);
    let file = folder.join("data.mdb");
    std::fs::write(&file, page).unwrap();
    let loose = dir.path().join("images.lmdb");
    std::fs::copy(&file, &loose).unwrap();
    for path in [&folder, &file, &loose] {
        let data = text(path);
        let words = [data.as_str(), "LMDB", "data.py export --flat", "python3 -c"];
        fail(&["train", "--data", &data, "--out", &text(&dir.path().join("run"))], 2, &words);
    }
}

/// Arrays as NumPy 2.4.6 writes them (tests/reference/images.py): pixels count up in the order of
/// the array's axes.
#[test]
fn numpy_arrays() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/reference/numpy");
    let at = |name: &str| folder.join(name);
    for (name, shape, last) in [
        ("grey.npy", [1, 3, 4], false),
        ("grey-last.npy", [1, 3, 4], true),
        ("colours-last.npy", [3, 3, 4], true),
        ("fortran.npy", [3, 3, 4], true),
        ("colours-first.npy", [3, 3, 4], false),
        ("positional.npz", [1, 3, 4], false),
    ] {
        let table = read(&at(name)).unwrap();
        assert_eq!((table.rows(), table.image(), &table.labels), (2, Some(shape), &None), "{name}");
        let [channels, height, width] = shape;
        for i in 0..2 {
            for pixel in 0..channels * height * width {
                let (c, yx) = (pixel / (height * width), pixel % (height * width));
                let place = if last { yx * channels + c } else { pixel };
                let expected = (i * channels * height * width + place) as f32;
                assert_eq!(table.row(i)[pixel], expected, "{name}: image {i}, pixel {pixel}");
            }
        }
    }
    for (name, classes, of_rows) in
        [("labelled.npz", ["2", "7"], [1, 0, 1]), ("compressed.npz", ["5", "9"], [0, 1, 0])]
    {
        let labels = read(&at(name)).unwrap().labels.unwrap();
        assert_eq!(
            (labels.names, labels.of_rows),
            (classes.map(String::from).to_vec(), of_rows.to_vec())
        );
    }
    assert_eq!(read(&at("compressed.npz")).unwrap().row(2)[..2], [24.0, 27.0]);
    let table = read(&at("table.npy")).unwrap();
    assert_eq!((table.image(), table.dim()), (None, 2));
    for (name, words) in [
        ("floats.npy", &["<f4 of shape [2, 3, 4]", "images are u8"][..]),
        ("four-channels.npy", &["[2, 5, 4, 4]", "1 or 3"]),
        ("two.npz", &["2 arrays of images: a (|u1 [1, 2, 2]), b", "images"]),
        ("statistics.npz", &["0 arrays of images: mu (<f8 [4]), sigma"]),
        ("short-labels.npz", &["short-labels.npz/labels", "2 labels", "3 images"]),
    ] {
        refused(&at(name), &TableOptions::default(), words);
    }
}

#[test]
fn folders_of_images() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir(at("cats")).unwrap();
    GrayImage::from_pixel(2, 2, Luma([9])).save(at("b.png")).unwrap();
    std::fs::write(at("notes.txt"), "not an image").unwrap();
    let table = read(dir.path()).unwrap();
    assert_eq!((table.rows(), table.image(), table.row(0)), (1, Some([1, 2, 2]), vec![9.0; 4]));

    // one colour image makes all of them colour; what is transparent is white; sub-folders count
    RgbImage::from_pixel(2, 2, Rgb([10, 20, 30])).save(at("a.PNG")).unwrap();
    let mut glass = RgbaImage::from_pixel(2, 2, image::Rgba([50, 50, 50, 0]));
    glass.put_pixel(0, 0, image::Rgba([1, 2, 3, 255]));
    glass.save(at("cats/c.png")).unwrap();
    let table = read(dir.path()).unwrap();
    assert_eq!((table.rows(), table.image()), (3, Some([3, 2, 2])));
    assert_eq!(table.row(0), [[10.0; 4], [20.0; 4], [30.0; 4]].concat());
    assert_eq!(table.row(1), [9.0; 12]);
    assert_eq!(table.row(2)[..5], [1.0, 255.0, 255.0, 255.0, 2.0]);

    // classes only where every image lies in a sub-folder
    assert_eq!(table.labels, None);
    let classes = tempfile::tempdir().unwrap();
    for (i, name) in ["b/1.png", "a/deep/2.png", "b/3.png"].iter().enumerate() {
        let path = classes.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        GrayImage::from_pixel(2, 2, Luma([i as u8])).save(path).unwrap();
    }
    let labels = read(classes.path()).unwrap().labels.unwrap();
    assert_eq!((labels.names, labels.of_rows), (vec!["a".to_string(), "b".into()], vec![0, 1, 1]));

    // sizes differ, files are broken
    RgbImage::from_pixel(4, 2, Rgb([1, 1, 1])).save(at("wide.png")).unwrap();
    refused(dir.path(), &TableOptions::default(), &["wide.png", "4 × 2", "data.table.size"]);
    let sized = TableOptions { size: Some([2, 2]), ..Default::default() };
    assert_eq!(Dataset::read_with(dir.path(), &sized).unwrap().rows(), 4);
    let good = std::fs::read(at("b.png")).unwrap();
    std::fs::write(at("cut.png"), &good[..good.len() / 2]).unwrap();
    refused(dir.path(), &sized, &["cut.png", "data.table.skip_corrupt"]);
    let table =
        Dataset::read_with(dir.path(), &TableOptions { skip_corrupt: true, ..sized }).unwrap();
    assert_eq!((table.rows(), table.dropped_rows), (4, 1));
    let empty = tempfile::tempdir().unwrap();
    refused(
        empty.path(),
        &TableOptions::default(),
        &["a directory without PNG, JPEG or WebP files"],
    );
    let csv = empty.path().join("a.csv");
    std::fs::write(&csv, "1,2\n3,4\n").unwrap();
    refused(&csv, &TableOptions { size: Some([2, 2]), ..Default::default() }, &["data.table.size"]);
}

/// A small file of every format, with its name.
fn specimens() -> Vec<(&'static str, Vec<u8>)> {
    let dir = tempfile::tempdir().unwrap();
    let png = dir.path().join("a.png");
    RgbImage::from_fn(5, 4, |x, y| Rgb([x as u8, y as u8, 9])).save(&png).unwrap();
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/reference/numpy");
    let saved = |name: &str| std::fs::read(reference.join(name)).unwrap();
    vec![
        ("images-idx3-ubyte", idx(2)),
        ("data_batch_1.bin", [7; 2 * 3073].to_vec()),
        ("a.npy", saved("colours-last.npy")),
        ("a.npz", saved("labelled.npz")),
        ("packed.npz", saved("compressed.npz")),
        ("folder/a.png", std::fs::read(&png).unwrap()),
    ]
}

/// Reads `bytes` as the file, or the folder with the file, of this name.
fn read_as(name: &str, bytes: &[u8]) -> tweedie::Result<Dataset> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    read(if name.starts_with("folder") { path.parent().unwrap() } else { &path })
}

#[test]
fn truncated_images_are_an_error_at_every_length() {
    for (name, bytes) in specimens() {
        assert!(read_as(name, &bytes).is_ok(), "{name}");
        // a PNG is whole before its last chunk, which is empty
        let end = bytes.len() - if name.ends_with("png") { 12 } else { 0 };
        for length in (0..end).step_by(end / 150 + 1).chain([end - 1]) {
            let message = read_as(name, &bytes[..length]).unwrap_err().to_string();
            assert!(!message.contains('\n'), "{name}: {message}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn damaged_images_never_panic(
        which in 0..6_usize,
        places in prop::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 1..4),
    ) {
        let (name, mut bytes) = specimens().swap_remove(which);
        for (place, flip) in places {
            let place = place.index(bytes.len());
            bytes[place] ^= flip;
        }
        match read_as(name, &bytes) {
            Ok(table) => prop_assert!(table.values().iter().all(|v| (0.0..=255.0).contains(v))),
            Err(error) => prop_assert!(!error.to_string().contains('\n')),
        }
    }
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
    // an array of images, which is read as the run's own are
    let array = std::fs::read(at("rows.npy")).unwrap();
    let header = String::from_utf8_lossy(&array[..128]);
    assert!(header.contains("|u1") && header.contains("(5, 3, 4, 4"), "{header}");
    let scores = succeed(&["score", &run, &at("rows.npy"), "--steps", "2", "--threads", "1"]);
    assert!(scores.starts_with("5 rows"), "{scores}");
    // a draw of two steps leaves the levels, and is held between them
    let range = |rest: &[&str]| {
        let out = at("held.csv");
        let sample =
            ["sample", &run, "-n", "20", "--steps", "2", "--last-step", "noise", "-o", &out];
        succeed(&[&sample[..], rest].concat());
        let text = std::fs::read_to_string(&out).unwrap();
        let levels = text
            .lines()
            .skip(1)
            .flat_map(|line| line.split(',').map(|cell| cell.parse::<f64>().unwrap()));
        levels.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)))
    };
    let (free, held) = (range(&[]), range(&["--clip"]));
    println!("{free:?} {held:?}");
    assert!(
        free.0 < 0.0 && free.1 > 256.0 && held.0 >= 0.0 && held.1 <= 255.0,
        "{free:?} {held:?}"
    );
    // all that is clipped is counted: x̂_0 at both steps, the noise of the first of them
    let sample = ["sample", &run, "-n", "20", "--steps", "2", "-o", &at("held.csv"), "--json"];
    let answer = succeed(&[&sample[..], &["--clip", "--clip-noise", "1"]].concat());
    let clipped = &serde_json::from_str::<serde_json::Value>(&answer).unwrap()["clipped"];
    assert_eq!(
        (&clipped["clean"]["of"], &clipped["noise"]["of"]),
        (&1920.into(), &960.into()),
        "{answer}"
    );
    assert!(clipped["clean"]["clipped"].as_u64().unwrap() > 0, "{answer}");
    let score =
        ["score", &run, &pictures, "--steps", "2", "-o", &at("scores.csv"), "--threads", "1"];
    assert!(succeed(&score).starts_with("30 rows: -"));
    let scores = std::fs::read_to_string(at("scores.csv")).unwrap();
    assert_eq!(scores.lines().count(), 31);
    assert!(scores.starts_with("image,log_likelihood,std_error,file\n1,-"), "{scores}");
    // a model from elsewhere gets a covariance head, its score untouched
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/reference/unet/attention");
    let (foreign, with_head) = (at("foreign"), at("with-head"));
    succeed(&["import", folder, "--out", &foreign]);
    let head = [
        "train",
        "--data",
        &pictures,
        "--size",
        "8x16",
        "--out",
        &with_head,
        "--score-from",
        &foreign,
    ];
    succeed(
        &[
            &head[..],
            &["--mode", "head", "--separate", "--rank", "1", "--iterations", "3", "--threads", "1"],
        ]
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
    // the head comes back with the score, also as earlier versions wrote it, which knew U-Nets
    // alone
    let again = at("again");
    let comes_back = |out: &str| {
        succeed(&["import", &at("pipeline"), "--out", out]);
        assert_eq!(
            tensors(&Path::new(&with_head).join("ema.safetensors")),
            tensors(&Path::new(out).join("ema.safetensors"))
        );
    };
    comes_back(&again);
    let part = Path::new(&at("pipeline")).join("covariance_head/config.json");
    let text = std::fs::read_to_string(&part).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    config["network"].as_object_mut().unwrap().remove("kind").unwrap();
    std::fs::write(&part, config.to_string()).unwrap();
    comes_back(&at("of-earlier"));
    let draws = |run: &str| {
        succeed(&[
            "sample",
            run,
            "-n",
            "2",
            "--steps",
            "2",
            "-o",
            &at("draws.npy"),
            "--threads",
            "1",
        ]);
        std::fs::read(at("draws.npy")).unwrap()
    };
    assert_eq!(draws(&again), draws(&with_head));
    succeed(&["score", &run, &pictures, "--estimator", "levels", "--steps", "2", "--threads", "1"]);
    succeed(&[
        "sample",
        &with_head,
        "-n",
        "2",
        "--steps",
        "2",
        "-o",
        &at("foreign.png"),
        "--threads",
        "1",
    ]);
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
    let short =
        ["train", "--config", &at("short.toml"), "--data", &pictures, "--out", &at("short")];
    succeed(&[&short[..], &["--threads", "1", "--objective", "sm"]].concat());
    assert!(std::fs::read_to_string(at("short/config.toml")).unwrap().contains("kind = \"unet\""));
    let table = succeed(&["evaluate", &run, "--steps", "2", "--no-ode", "--threads", "1"]);
    assert!(
        table.contains("bits per dimension") && table.contains("learned covariance"),
        "{table}"
    );
    succeed(&["report", &run, "--steps", "2", "-n", "4", "--rows", "2", "--threads", "1"]);
    assert!(std::fs::read_to_string(at("run/report.html")).unwrap().contains("data:image/png"));
}

/// Networks are chosen by name, over what a file says of another; shape and classes follow the
/// data.
#[test]
fn networks_are_chosen_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    for i in 0..20u8 {
        let folder = dir.path().join(["pictures/a", "pictures/b"][usize::from(i % 2)]);
        std::fs::create_dir_all(&folder).unwrap();
        let pixel = |x: u32, y: u32| Luma([(i * 12) ^ (x * 8 + y) as u8]);
        GrayImage::from_fn(8, 8, pixel).save(folder.join(format!("{i}.png"))).unwrap();
    }
    let file = "[model.network]\nkind = 'unet'\nscale_shift = true\nhead_dim = 2\n";
    std::fs::write(at("other.toml"), file).unwrap();
    let small = "[8, 8, 8, 8]";
    let train = |out: &str, network: &str, more: &[&str]| {
        let (widths, heads) =
            (format!("model.network.widths={small}"), format!("model.network.head_widths={small}"));
        let (config, data, out) = (at("other.toml"), at("pictures"), at(out));
        let mut args = vec!["train", "--config", &config, "--data", &data, "--out", &out];
        args.extend(["--network", network, "--set", &widths, "--set", &heads, "--iterations", "1"]);
        args.extend(["--batch-size", "2", "--set", "model.network.groups=4", "--rank", "0"]);
        args.extend(["--set", "train.validation_rows=2", "--threads", "1", "--quiet"]);
        common::succeed(&[&args[..], more].concat());
        let run = tweedie::run::Run::load(&out, tch::Device::Cpu).unwrap();
        let NetworkConfig::UNet(network) = run.config.model.network else { panic!() };
        network
    };
    let of = |preset: UNetConfig| UNetConfig {
        widths: vec![8; 4],
        head_widths: vec![8; 4],
        groups: 4,
        ..preset
    };
    let paper = UNetConfig::paper([1, 8, 8]);
    assert_eq!(paper.head_trunk, HeadTrunk::Separate);
    assert_eq!(train("paper", "paper", &[]), of(paper.clone()));
    let one = UNetConfig { head_trunk: HeadTrunk::Shared, classes: 2, ..paper };
    assert_eq!(train("one", "paper", &["--separate=false", "--classes"]), of(one));
    let deep = UNetConfig::ddpm_plus_plus([1, 8, 8], 8);
    assert_eq!(train("deep", "ddpm++-deep", &[]), of(deep));

    let (pictures, table, out) = (at("pictures"), at("table.csv"), at("refused"));
    std::fs::write(&table, "a,b\n".to_string() + &"1.5,2\n2.5,1\n0.5,7\n3.25,4\n".repeat(20))
        .unwrap();
    let refused = |data: &str, words: &[&str], more: &[&str]| {
        let args = ["train", "--data", data, "--out", &out, "--network", "ddpm++"];
        common::fail(&[&args[..], more].concat(), 2, words);
    };
    let words = ["--network", "a table, for which the network is a perceptron", "leave it out"];
    refused(&table, &words, &[]);
    refused(&pictures, &["9 x 8 pixels", "multiples of 8 with --size"], &["--size", "9x8"]);
}

/// A diffusion transformer takes the U-Net's place by name: shape and classes follow the data, a
/// head is trained on its frozen score, and it is sampled, described and written for diffusers. A
/// patch that does not divide the images is refused with both.
#[test]
fn a_transformer_takes_the_unets_place() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    for i in 0..20u8 {
        let folder = dir.path().join(["pictures/a", "pictures/b"][usize::from(i % 2)]);
        std::fs::create_dir_all(&folder).unwrap();
        let pixel = |x: u32, y: u32| Luma([(i * 12) ^ (x * 8 + y) as u8]);
        GrayImage::from_fn(8, 8, pixel).save(folder.join(format!("{i}.png"))).unwrap();
    }
    let (pictures, run, head) = (at("pictures"), at("run"), at("head"));
    let train = ["train", "--data", &pictures, "--iterations", "8", "--batch-size", "2"];
    let train = [&train[..], &["--set", "train.validation_rows=2", "--threads", "1"]].concat();
    // fast, so that classes come to matter
    let fast = ["--learning-rate", "0.05", "--set", "train.warm_up=1"];
    let train = [&train[..], &fast].concat();
    let small = ["width=8", "blocks=1", "heads=2", "frequency_shift=1.0"]
        .map(|option| format!("model.network.{option}"));
    let mut options = vec!["--network", "dit-tiny", "--classes", "--quiet", "--rank", "1"];
    options.extend(["--label-dropout", "0.5"]);
    options.extend(small.iter().flat_map(|option| ["--set", option]));
    let file = "[schedule]\nkind = 'discrete'\n[model]\nprediction = 'epsilon'\n";
    std::fs::write(at("epsilon.toml"), file).unwrap();
    let config = at("epsilon.toml");
    let args = [&train[..], &options, &["--out", &run, "--config", &config]].concat();
    common::succeed(&args);
    let loaded = tweedie::run::Run::load(&run, tch::Device::Cpu).unwrap();
    let NetworkConfig::Dit(network) = &loaded.config.model.network else { panic!() };
    let expected = DitConfig {
        shape: [1, 8, 8],
        classes: 2,
        null_class: true,
        width: 8,
        blocks: 1,
        heads: 2,
        frequency_shift: 1.0,
        ..DitConfig::default()
    };
    assert_eq!(network, &expected);

    let mode = ["--score-from", &run, "--mode", "head", "--rank", "0", "--classes", "--quiet"];
    common::succeed(&[&train[..], &mode, &["--out", &head]].concat());
    let of_head = tweedie::run::Run::load(&head, tch::Device::Cpu).unwrap();
    let score = |run: &tweedie::run::Run| {
        let flat = run.model.parameters().flat();
        flat.narrow(0, 0, run.model.score_size())
    };
    assert_eq!(score(&of_head), score(&loaded));
    common::succeed(&["sample", &head, "-n", "3", "--steps", "2", "-o", &at("sheet.png")]);
    let dynamic = ["--spacing", "dynamic", "--threads", "1", "--quiet"];
    common::succeed(&[&["evaluate", &head, "--steps", "2", "--rows", "2"], &dynamic[..]].concat());
    let auto = [&mode[..4], &["--rank", "auto", "--classes", "--quiet"]].concat();
    common::succeed(&[&train[..], &auto, &["--out", &at("auto")]].concat());
    let info = common::succeed(&["info", &head]);
    assert!(info.contains("DiT, 1 blocks of width 8, patches of 4 x 4"), "{info}");
    samples_are_guided(&at, &head, &pictures);
    common::succeed(&["export", &head, "--out", &at("folder")]);
    let again = at("again");
    common::succeed(&["import", &at("folder"), "--out", &again]);
    let again = tweedie::run::Run::load(&again, tch::Device::Cpu).unwrap();
    assert_eq!(again.model.parameters().flat(), of_head.model.parameters().flat());

    let refused = |size: &str, words: &[&str]| {
        let more = ["--out", &at("refused"), "--network", "dit-tiny", "--size", size];
        common::fail(&[&train[..], &more].concat(), 2, words);
    };
    refused("9x8", &["4 x 4 for images of 9 x 8 pixels", "multiples of 4 with --size"]);
    let file = at("folder/transformer/config.json");
    common::fail(&["import", &file, "--out", &at("refused")], 2, &["config.json"]);
    let folder = at("folder");
    let heads = ["import", &folder, "--out", &at("refused"), "--heads", "2"];
    common::fail(&heads, 2, &["--heads", "leave it out"]);
}

/// Samples of the run `head` under guidance: they are others, the covariance matters, and what
/// cannot be guided, or asks a guided model for a likelihood, is refused.
fn samples_are_guided(at: &dyn Fn(&str) -> String, head: &str, pictures: &str) {
    let sample = |name: &str, flags: &[&str]| {
        let file = at(name);
        let args = ["sample", head, "-n", "4", "--steps", "3", "-o", &file];
        common::succeed(&[&args[..], flags].concat());
        std::fs::read(file).unwrap()
    };
    let plain = sample("plain.npy", &[]);
    let guided = |name: &str, covariance: &str| {
        let flags = ["--guidance", "3", "--guided-covariance", covariance];
        sample(name, &[&flags[..], &["--covariance-until", "inf"]].concat())
    };
    assert_ne!(guided("w.npy", "conditional"), plain);
    assert_ne!(guided("c.npy", "combined"), guided("d.npy", "conditional"));
    let file = at("none.npy");
    let refused = |run: &str, flags: &[&str], words: &[&str]| {
        common::fail(&[&["sample", run, "-o", &file], flags].concat(), 2, words);
    };
    refused(head, &["--guidance=-1"], &["--guidance", "from 0"]);
    refused(head, &["--guided-channels", "1"], &["--guided-channels", "give --guidance"]);
    refused(head, &["--guidance", "2", "--guided-channels", "2"], &["--guided-channels", "to 1"]);
    let nll = ["evaluate", head, "--data", pictures, "--guidance", "2"];
    common::fail(&nll, 2, &["--guidance", "no likelihood"]);
    let train = ["train", "--data", pictures, "--network", "dit-tiny", "--out", &at("labels")];
    let train = [&train[..], &["--iterations", "1", "--batch-size", "2", "--quiet"]].concat();
    let dropped = [&train[..], &["--label-dropout", "0.1"]].concat();
    common::fail(&dropped, 2, &["--label-dropout", "give --classes"]);
    let table = ["train", "--data", "mixture:nine-gaussians", "--out", &file];
    let dropped = [&table[..], &["--label-dropout", "0.1"]].concat();
    common::fail(&dropped, 2, &["--label-dropout", "images with classes"]);
    assert!(!std::path::Path::new(&file).exists());
    common::succeed(&[&train[..], &["--classes"]].concat());
    refused(&at("labels"), &["--guidance", "2"], &["--guidance", "train with train.label_dropout"]);
}

/// `--keep distance` keeps the parameters whose samples have the least Fréchet distance, of a whole
/// model and of a head on a frozen score; ended early and resumed it comes to the same bits. The
/// distance of the kept ones is what `evaluate` measures of as many samples in as many steps.
#[test]
fn parameters_are_kept_by_the_distance_of_samples() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    std::fs::create_dir(at("pictures")).unwrap();
    for i in 0..8u8 {
        let pixel = |x: u32, y: u32| Rgb([i * 30, (x * 60) as u8, (y * 50) as u8 + i]);
        RgbImage::from_fn(4, 4, pixel).save(dir.path().join(format!("pictures/{i}.png"))).unwrap();
    }
    let (pictures, features) = (at("pictures"), at("features.safetensors"));
    common::write_feature_network(Path::new(&features));
    let small = [
        "model.network.widths=[8]",
        "model.network.attention=[false]",
        "model.network.middle_attention=false",
        "train.validate_every=2",
        "keep.samples=3",
        "keep.steps=2",
    ];
    let set = small.iter().flat_map(|set| ["--set", *set]);
    let set: Vec<&str> = set.collect();
    let train = |out: &str, rest: &[&str]| {
        let start = ["train", "--data", &pictures, "--out", out, "--threads", "1"];
        let args = [&start[..], &["--batch-size", "4"], &set, rest].concat();
        args.iter().map(ToString::to_string).collect::<Vec<String>>()
    };
    let run = |args: &[String]| succeed(&args.iter().map(String::as_str).collect::<Vec<&str>>());
    let refuse = |args: &[String], words: &[&str]| {
        fail(&args.iter().map(String::as_str).collect::<Vec<&str>>(), 2, words);
    };
    let lines = |run: &str| -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(Path::new(run).join("metrics.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let by = ["--keep", "distance", "--features", &features];
    let sm = at("sm");
    run(&train(&sm, &[&by[..], &["--objective", "sm", "--iterations", "6", "--json"]].concat()));
    let head = ["--objective", "ocm", "--score-from", &sm];
    let (whole, parts) = (at("whole"), at("parts"));
    // shorter, then on to the same end, with a step size that does not follow the end
    let head = [&by[..], &head, &["--set", "train.decay=false"]].concat();
    run(&train(&whole, &[&head[..], &["--iterations", "6"]].concat()));
    run(&train(&parts, &[&head[..], &["--iterations", "4"]].concat()));
    succeed(&["train", "--out", &parts, "--resume", "--iterations", "6", "--threads", "1"]);
    let bytes = |run: &str| std::fs::read(Path::new(run).join("ema.safetensors")).unwrap();
    let figure = |line: &serde_json::Value| (line["iteration"].as_u64(), line["distance"].as_f64());
    let mut kept_by = 0.0;
    for run in [&sm, &whole] {
        let lines: Vec<_> = lines(run).iter().map(figure).collect();
        assert_eq!(lines.len(), 3, "{lines:?}");
        let least = lines.iter().min_by(|a, b| a.1.unwrap().total_cmp(&b.1.unwrap())).unwrap();
        let status = std::fs::read(Path::new(run).join("status.json")).unwrap();
        let status: serde_json::Value = serde_json::from_slice(&status).unwrap();
        let kept = (status["best_iteration"].as_u64(), status["best"].as_f64());
        assert_eq!(kept, *least, "{lines:?}");
        kept_by = kept.1.unwrap();
    }
    let distances = |run: &str| lines(run).iter().map(figure).collect::<Vec<_>>();
    assert_eq!(distances(&parts), distances(&whole));
    assert_eq!(bytes(&parts), bytes(&whole));
    // of the same noise
    let seed = tweedie::noise::Seed(0).derive("distance").0.to_string();
    let same = ["--samples", "3", "--fewer-samples", "--steps", "2", "--seed", &seed, "--json"];
    let judge = ["evaluate", &whole, "--inception", &features, "--metrics", "fd", "--quiet"];
    let (saved, short) = (at("saved.npz"), at("short"));
    let judge = [&judge[..], &["--save-reference", &saved]].concat();
    let answer: serde_json::Value =
        serde_json::from_str(&succeed(&[&judge[..], &same].concat())).unwrap();
    let again = answer["images"][0]["value"].as_f64().unwrap();
    assert!((again / kept_by - 1.0).abs() < 1e-4, "{again}, {kept_by}");
    // against the statistics instead of the images, whose features were computed in other batches:
    // f32's rounding, in a covariance of three samples
    let reference = format!("keep.reference={saved}");
    run(&train(&short, &[&head[..], &["--iterations", "2", "--set", &reference]].concat()));
    let [one, other] = [&short, &whole].map(|run| figure(&lines(run)[0]).1.unwrap());
    assert!((one / other - 1.0).abs() < 1e-4, "{one}, {other}");
    let status = |run: &str| -> serde_json::Value {
        serde_json::from_str(&succeed(&["info", run, "--json"])).unwrap()
    };
    let about = status(&whole);
    let words = "Fréchet distance of samples";
    assert_eq!(
        (&about["validation"]["what"], &about["validation"]["lower_is_better"]),
        (&words.into(), &true.into())
    );
    assert!(about["validation"]["best"]["value"].as_f64().unwrap() > 0.0, "{about}");
    assert!(succeed(&["info", &whole]).contains(words));
    // what cannot be, before anything is written
    let none = at("none");
    refuse(
        &train(&none, &["--keep", "distance"]),
        &["--features (keep.network)", "none was given"],
    );
    let missing = [&by[..], &["--set", "keep.reference=missing.npz"]].concat();
    refuse(&train(&none, &missing), &["missing.npz"]);
    refuse(&train(&none, &["--features", &features]), &["--features", "--keep distance"]);
    refuse(&train(&none, &[&by[..], &["--set", "keep.steps=0"]].concat()), &["keep.steps"]);
    refuse(&train(&none, &["--keep", "distance", "--features", &pictures]), &["pictures"]);
    let mixture =
        ["train", "--data", "mixture:nine-gaussians", "--out", &none, "--iterations", "1"];
    fail(&[&mixture[..], &by].concat(), 2, &["--keep (keep.by)", "a table"]);
    assert!(!Path::new(&none).join("config.toml").exists());
}

/// A model conditioned on classes: trained, resumed, sampled by class, scored and evaluated; the
/// mistakes around it.
#[test]
fn the_program_with_classes() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let picture = |path: &str, size: u32, level: u8| {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let pixel = |x: u32, y: u32| Rgb([level, (x * 30) as u8, (y * 20) as u8]);
        RgbImage::from_fn(size, size, pixel).save(path).unwrap();
    };
    for i in 0..24u8 {
        picture(&format!("pets/{}/{i}.png", ["cat", "dog"][usize::from(i % 2)]), 4, i * 9);
        picture(&format!("flat/{i}.png"), 4, i);
    }
    let run = |args: &[&str]| {
        let all = [args, &["--threads", "1"]].concat();
        let output = Command::new(env!("CARGO_BIN_EXE_tweedie")).args(all).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let succeed = |args: &[&str]| {
        let (code, out, message) = run(args);
        assert_eq!(code, Some(0), "{args:?}: {message}");
        (out, message)
    };
    let refuse = |args: &[&str], words: &[&str]| {
        let (code, _, message) = run(args);
        assert!(
            code == Some(2) && words.iter().all(|w| message.contains(w)),
            "{args:?}: {message}"
        );
    };
    let (pets, flat, out) = (at("pets"), at("flat"), at("run"));
    let train = ["train", "--data", &pets, "--out", &out, "--classes", "--flip", "--rank", "1"];
    let (_, message) = succeed(&[&train[..], &["--iterations", "3", "--batch-size", "4"]].concat());
    assert!(message.contains("2 classes: cat, dog"), "{message}");
    let config = std::fs::read_to_string(at("run/config.toml")).unwrap();
    for line in ["classes = true", "flip = true", "classes = 2"] {
        assert!(config.contains(line), "{line}: {config}");
    }
    succeed(&["train", "--out", &out, "--resume", "--iterations", "5"]);
    assert!(std::fs::read_to_string(at("run/metrics.jsonl")).unwrap().contains("\"waited\":"));
    let sample = ["sample", &out, "-n", "3", "--steps", "2", "-o", &at("x.npy")];
    succeed(&[&sample[..], &["--class", "dog"]].concat());
    refuse(&[&sample[..], &["--class", "eel"]].concat(), &["eel", "cat, dog"]);
    succeed(&[&sample[..], &["--spacing", "dynamic"]].concat());
    assert!(
        succeed(&["score", &out, &pets, "--steps", "2", "--draws", "1"])
            .0
            .starts_with("24 rows: -")
    );
    refuse(&["score", &out, &flat, "--steps", "2"], &["flat", "no labels"]);
    succeed(&["evaluate", &out, "--steps", "2", "--metrics", "nll,mmd", "--rows", "3"]);
    // measured on training rows under their classes, and what a head on this score starts from
    succeed(&[&sample[..], &["--covariance", "analytic"]].concat());
    let head = at("of-score");
    let of_score = ["train", "--data", &pets, "--classes", "--score-from", &out, "--mode", "head"];
    succeed(&[&of_score[..], &["--out", &head, "--iterations", "1", "--rank", "0"]].concat());
    let config = std::fs::read_to_string(at("of-score/config.toml")).unwrap();
    assert!(config.contains("start = \"analytic\""), "{config}");
    succeed(&["report", &out, "--steps", "2", "-n", "4", "--rows", "2"]);
    for (args, word) in [
        (["--data", &flat, "--classes"], "no labels"),
        (["--data", "mixture:nine-gaussians", "--flip"], "table"),
    ] {
        refuse(&[&["train", "--out", &at("none")], &args[..]].concat(), &[args[2], word]);
    }

    // a model from elsewhere, whose classes are numbers; its weights are random, so that classes
    // matter
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/reference/unet/classes");
    let foreign = at("foreign");
    succeed(&["import", folder, "--out", &foreign]);
    let drawn = |class: Option<&str>, n: &str| {
        let file = at("drawn.csv");
        let args =
            ["sample", &foreign, "-n", n, "--steps", "2", "--covariance", "beta", "-o", &file];
        succeed(&[&args[..], &class.map_or(vec![], |class| vec!["--class", class])].concat());
        let text = std::fs::read_to_string(&file).unwrap();
        text.lines().skip(1).map(String::from).collect::<Vec<_>>()
    };
    let turns = drawn(None, "7");
    for class in ["0", "3"] {
        let number: usize = class.parse().unwrap();
        let of_class = drawn(Some(class), "7");
        let same: Vec<usize> = (0..7).filter(|&row| turns[row] == of_class[row]).collect();
        assert_eq!(same, (0..7).filter(|row| row % 5 == number).collect::<Vec<_>>());
    }
    // an image is worth something else under another class, and the same in another batch
    for i in 0..5u8 {
        picture(&format!("numbers/{i}/{i}.png"), 8, 40 * i);
    }
    picture("one/3/a.png", 8, 90);
    picture("other/4/a.png", 8, 90);
    let scores = |data: &str, batch: &str| {
        let (data, file) = (at(data), at("scores.csv"));
        let args = [
            "score",
            &foreign,
            &data,
            "--steps",
            "3",
            "--covariance",
            "beta",
            "--draws",
            "1",
            "-o",
            &file,
        ];
        succeed(&[&args[..], &["--batch-size", batch]].concat());
        let text = std::fs::read_to_string(&file).unwrap();
        text.lines()
            .skip(1)
            .map(|l| l.split(',').nth(1).unwrap().parse().unwrap())
            .collect::<Vec<f64>>()
    };
    let whole = scores("numbers", "64");
    for (a, b) in whole.iter().zip(scores("numbers", "2")) {
        assert!((a - b).abs() < 1e-4 * a.abs(), "{a} {b}");
    }
    let (one, other) = (scores("one", "64")[0], scores("other", "64")[0]);
    assert!((one - other).abs() > 1e-3 * one.abs(), "{one} {other}");
    let head = [
        "train",
        "--data",
        &at("numbers"),
        "--classes",
        "--out",
        &at("head"),
        "--score-from",
        &foreign,
    ];
    succeed(
        &[
            &head[..],
            &["--mode", "head", "--split", "0.6,0.2,0.2", "--rank", "0", "--iterations", "2"],
        ]
        .concat(),
    );
}

/// The model that comes with the repository is whole: it samples, and scores what the README says
/// it scores.
#[test]
fn the_shipped_model() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/fashion-mnist");
    let mut pixels = vec![0u8, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 28, 0, 0, 0, 28];
    pixels.extend([0; 784]);
    std::fs::write(at("black-idx3-ubyte"), pixels).unwrap();
    let black = at("black-idx3-ubyte");
    for args in [
        vec!["sample", model, "-n", "4", "--steps", "3", "-o", &at("sheet.png")],
        vec![
            "score",
            model,
            &black,
            "--estimator",
            "levels",
            "--steps",
            "3",
            "--draws",
            "2",
            "-o",
            &at("score.csv"),
        ],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_tweedie"))
            .args(&args)
            .args(["--threads", "1"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let sheet = image::open(at("sheet.png")).unwrap().to_luma8();
    assert_eq!(
        sheet.dimensions(),
        (121, 121),
        "two by two pictures of 56 points and their borders"
    );
    let scores = std::fs::read_to_string(at("score.csv")).unwrap();
    let value: f64 = scores.lines().nth(1).unwrap().split(',').nth(1).unwrap().parse().unwrap();
    // an empty image is likely, but a probability
    assert!(value < 0.0 && value > -784.0 * 8.0 * std::f64::consts::LN_2, "{value}");
}
