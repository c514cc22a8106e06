//! Images as users have them: cut off, turned, linked, of many formats, very large; and samples out
//! as pictures.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use common::{fail, succeed, tweedie};
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{
    ExtendedColorType, GrayImage, ImageBuffer, ImageEncoder, ImageFormat, Luma, Rgb, RgbImage,
};
use serde_json::Value;
use tweedie::data::{Dataset, Purpose, TableOptions};
use tweedie::run::Run;

fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/cases").join(name)
}

fn read(path: &Path) -> tweedie::Result<Dataset> {
    Dataset::read_with(path, &TableOptions::default())
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn refusal(path: &Path, options: &TableOptions) -> String {
    let message = Dataset::read_with(path, options).unwrap_err().to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

/// A run on 20 grey images of 16 × 16, and the archive it is of, which has 5 test images.
fn run() -> (String, String) {
    static DIR: OnceLock<tempfile::TempDir> = OnceLock::new();
    let dir = DIR.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let (data, out) = (text(&case("F21-keras-npz/mnist.npz")), text(&dir.path().join("run")));
        let train = ["train", "--data", &data, "--out", &out, "--threads", "1"];
        succeed(&[&train[..], &["--iterations", "2", "--batch-size", "2"]].concat());
        dir
    });
    (text(&dir.path().join("run")), text(&case("F21-keras-npz/mnist.npz")))
}

/// What image decoders make grey of is refused, or left out and counted.
#[test]
fn a_jpeg_that_is_cut_off_is_no_image() {
    let folder = case("F12-truncated-jpeg");
    let message = refusal(&folder, &TableOptions::default());
    assert!(message.contains("007.jpg") && message.contains("cut off"), "{message}");
    assert!(message.contains("data.table.skip_corrupt"), "{message}");
    // whoever judges has no such option
    let scored = TableOptions { purpose: Purpose::Test, ..Default::default() };
    assert!(!refusal(&folder, &scored).contains("data.table"));
    let table =
        Dataset::read_with(&folder, &TableOptions { skip_corrupt: true, ..Default::default() })
            .unwrap();
    assert_eq!(
        (table.rows(), table.dropped_rows, &table.files[..]),
        (1, 1, &["000.jpg".to_string()][..])
    );
    fail(
        &["train", "--data", &text(&folder), "--out", "unused"],
        2,
        &["007.jpg", "--skip-corrupt"],
    );
    // damage within the scan, where the end marker is in its place
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = std::fs::read(folder.join("000.jpg")).unwrap();
    let (whole, half) = (bytes.clone(), bytes.len() - (bytes.len() - 623) / 2);
    bytes[half..half + 2].copy_from_slice(&[0xff, 0xc0]);
    std::fs::write(dir.path().join("a.jpg"), bytes).unwrap();
    assert!(refusal(dir.path(), &TableOptions::default()).contains("a.jpg"));
    // what a camera appends is no damage
    std::fs::write(dir.path().join("a.jpg"), [&whole[..], b"trailer"].concat()).unwrap();
    assert_eq!(read(dir.path()).unwrap().values(), table.values());
}

/// Whatever a file of any format is cut to, it is refused or has the pixels of the whole.
#[test]
fn no_format_is_taken_in_part() {
    let picture =
        RgbImage::from_fn(24, 20, |x, y| Rgb([(x * 9) as u8, (y * 11) as u8, (x * y) as u8]));
    for (name, format) in [
        ("a.png", ImageFormat::Png),
        ("a.jpg", ImageFormat::Jpeg),
        ("a.webp", ImageFormat::WebP),
        ("a.gif", ImageFormat::Gif),
        ("a.bmp", ImageFormat::Bmp),
        ("a.tif", ImageFormat::Tiff),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        picture.save_with_format(&path, format).unwrap();
        let (bytes, whole) = (std::fs::read(&path).unwrap(), read(dir.path()).unwrap());
        assert_eq!((whole.image(), whole.rows()), (Some([3, 20, 24]), 1), "{name}");
        let mut refused = 0;
        for length in (0..bytes.len()).step_by(bytes.len() / 60 + 1) {
            std::fs::write(&path, &bytes[..length]).unwrap();
            match read(dir.path()) {
                Ok(table) => assert_eq!(table.values(), whole.values(), "{name}, cut to {length}"),
                Err(error) => {
                    refused += 1;
                    assert!(error.to_string().contains(name), "{error}");
                }
            }
        }
        assert!(refused > 30, "{name}: {refused}");
    }
}

/// A TIFF structure with the orientation alone, as EXIF has it.
fn exif(orientation: u8) -> Vec<u8> {
    vec![
        b'I',
        b'I',
        42,
        0,
        8,
        0,
        0,
        0,
        1,
        0,
        0x12,
        1,
        3,
        0,
        1,
        0,
        0,
        0,
        orientation,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
    ]
}

/// EXIF 2.32, 4.6.4 A: where the 0th row and the 0th column of the stored pixels are shown.
#[test]
fn images_are_turned_as_their_exif_says() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.png");
    let stored = [1, 2, 3, 4, 5, 6];
    for (orientation, size, shown) in [
        (1, [2, 3], [1u8, 2, 3, 4, 5, 6]),
        (2, [2, 3], [3, 2, 1, 6, 5, 4]),
        (3, [2, 3], [6, 5, 4, 3, 2, 1]),
        (4, [2, 3], [4, 5, 6, 1, 2, 3]),
        (5, [3, 2], [1, 4, 2, 5, 3, 6]),
        (6, [3, 2], [4, 1, 5, 2, 6, 3]),
        (7, [3, 2], [6, 3, 5, 2, 4, 1]),
        (8, [3, 2], [3, 6, 2, 5, 1, 4]),
    ] {
        let mut encoder = PngEncoder::new(std::fs::File::create(&path).unwrap());
        encoder.set_exif_metadata(exif(orientation)).unwrap();
        encoder.write_image(&stored, 3, 2, ExtendedColorType::L8).unwrap();
        let table = read(dir.path()).unwrap();
        assert_eq!(table.image(), Some([1, size[0], size[1]]), "orientation {orientation}");
        assert_eq!(table.values(), shown.map(f32::from), "orientation {orientation}");
        assert_eq!(table.notes.iter().any(|note| note.contains("EXIF")), orientation > 1);
    }
    // the same of JPEG: dark to the left becomes dark at the top
    std::fs::remove_file(&path).unwrap();
    let halves = GrayImage::from_fn(16, 8, |x, _| Luma([if x < 8 { 10 } else { 200 }]));
    let mut encoder = JpegEncoder::new(std::fs::File::create(dir.path().join("a.jpg")).unwrap());
    encoder.set_exif_metadata(exif(6)).unwrap();
    encoder.encode_image(&halves).unwrap();
    let table = read(dir.path()).unwrap();
    assert_eq!(table.image(), Some([1, 16, 8]));
    assert!(
        table.values()[..64].iter().all(|&v| v < 60.0)
            && table.values()[64..].iter().all(|&v| v > 150.0)
    );
    // photographs of one camera, every other one held upright: shown they are alike
    let table = read(&case("F13-exif")).unwrap();
    let apart =
        |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f32>() / 256.0;
    println!("{:?} {}", table.image(), apart(&table.row(0), &table.row(1)));
    assert_eq!(table.notes, ["1 images are turned as their EXIF says"]);
}

/// Every image format that is read counts, everything else is counted.
#[test]
fn what_is_left_out_of_a_folder_is_said() {
    let table = read(&case("F14-ignored-images")).unwrap();
    assert_eq!(table.files, ["000.png", "001.bmp", "002.gif", "003.tiff"]);
    assert_eq!((table.image(), &table.left_out[..]), (Some([3, 16, 16]), &[][..]));

    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for (i, folder) in ["b", "a", ".ipynb_checkpoints", "empty", "a/deep"].iter().enumerate() {
        std::fs::create_dir(at(folder)).unwrap();
        if *folder != "empty" {
            GrayImage::from_pixel(2, 2, Luma([40 * i as u8]))
                .save(at(folder).join("1.png"))
                .unwrap();
        }
    }
    std::fs::write(at("a/2.heic"), "?").unwrap();
    std::fs::write(at("a/3.heic"), "?").unwrap();
    std::fs::write(at("a/._1.png"), "of a file system").unwrap();
    std::fs::write(at("notes.txt"), "?").unwrap();
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(at("b"), at("linked")).unwrap();
        std::os::unix::fs::symlink(at("nowhere"), at("b/2.png")).unwrap();
        assert!(Command::new("mkfifo").arg(at("b/3.png")).status().unwrap().success());
    }
    let table = read(dir.path()).unwrap();
    let labels = table.labels.as_ref().unwrap();
    assert_eq!((labels.names.join(" "), &labels.of_rows[..]), ("a b".into(), &[0, 0, 1][..]));
    assert_eq!(table.files, ["a/1.png", "a/deep/1.png", "b/1.png"]);
    let said: Vec<String> = table.left_out.iter().map(ToString::to_string).collect();
    let mut expected = vec![
        "hidden files: 1 (\"a/._1.png\")",
        "hidden folders: 1 (\".ipynb_checkpoints\")",
        "images of another format (.heic): 2 (\"a/2.heic\", …)",
    ];
    if cfg!(unix) {
        expected.push("linked folders, which are not followed: 1 (\"linked\")");
        expected.push("links that lead nowhere: 1 (\"b/2.png\")");
    }
    expected.push("other files: 1 (\"notes.txt\")");
    if cfg!(unix) {
        expected.push("pipes and devices: 1 (\"b/3.png\")");
    }
    expected.push("folders without images that are read: 1 (\"empty\")");
    assert_eq!(said, expected);
    // linked files are files
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(at("a/1.png"), at("b/4.png")).unwrap();
        assert_eq!(read(dir.path()).unwrap().rows(), 4);
    }
    // nothing to read: the message says what there is
    let only = tempfile::tempdir().unwrap();
    std::fs::write(only.path().join("1.HEIC"), "?").unwrap();
    let message = refusal(only.path(), &TableOptions::default());
    assert!(message.contains("images of another format (.heic): 1"), "{message}");
}

/// Training and scoring say once what was not read.
#[test]
fn the_program_says_what_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let pictures = dir.path().join("pictures");
    std::fs::create_dir(&pictures).unwrap();
    for i in 0..12u32 {
        GrayImage::from_fn(4, 4, |x, y| Luma([(16 * i + 4 * x + y) as u8]))
            .save(pictures.join(format!("{i}.png")))
            .unwrap();
    }
    std::fs::write(pictures.join("12.heic"), "?").unwrap();
    let (pictures, run) = (text(&pictures), text(&dir.path().join("run")));
    let said = |args: &[&str]| {
        let output = tweedie(args);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{args:?}: {message}");
        assert_eq!(message.matches("(.heic): 1").count(), 1, "{args:?}: {message}");
    };
    let train =
        ["train", "--data", &pictures, "--out", &run, "--iterations", "1", "--batch-size", "2"];
    said(&[&train[..], &["--threads", "1"]].concat());
    said(&["score", &run, &pictures, "--steps", "2", "--draws", "1", "--threads", "1"]);
    said(&["evaluate", &run, "--data", &pictures, "--steps", "2", "--threads", "1"]);
}

/// 12 bits of a camera in 16 would be near black; 16 bits that are used become 8.
#[test]
fn sixteen_bits_are_brought_to_eight_only_where_they_are_used() {
    let message = refusal(&case("F15-sixteen-bit"), &TableOptions::default());
    assert!(message.contains("16 bits a channel") && message.contains("12 bits"), "{message}");
    assert!(message.contains("save the images with 8 bits"), "{message}");
    fail(&["train", "--data", &text(&case("F15-sixteen-bit")), "--out", "unused"], 2, &["12 bits"]);
    let dir = tempfile::tempdir().unwrap();
    let deep =
        ImageBuffer::<Luma<u16>, Vec<u16>>::from_fn(4, 2, |x, y| Luma([257 * (60 * x + y) as u16]));
    deep.save(dir.path().join("a.png")).unwrap();
    let table = read(dir.path()).unwrap();
    assert_eq!(table.values(), [0.0, 60.0, 120.0, 180.0, 1.0, 61.0, 121.0, 181.0]);
    assert_eq!(table.notes, ["1 images of 16 bits a channel are brought to 8 bits"]);
    // 8 bits of which four are used are reported
    std::fs::write(dir.path().join("mask.npy"), npy(&[2, 2, 2], &[0, 1, 1, 0, 0, 0, 1, 1]))
        .unwrap();
    let notes = read(&dir.path().join("mask.npy")).unwrap().notes;
    assert_eq!(notes, ["the brightest level is 1: levels are taken to be 0…255"]);
}

/// An NPY file of bytes.
fn npy(shape: &[usize], values: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': {shape:?}, }}")
        .replace('[', "(");
    let header = header.replace(']', ")");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(((header.len() + 1) as u16).to_le_bytes());
    bytes.extend(header.bytes().chain([b'\n']).chain(values.iter().copied()));
    bytes
}

/// An NPZ archive of bytes.
fn npz(path: &Path, arrays: &[(&str, &[usize], &[u8])]) {
    use std::io::Write;
    let mut archive = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    for (name, shape, values) in arrays {
        archive
            .start_file(format!("{name}.npy"), zip::write::SimpleFileOptions::default())
            .unwrap();
        archive.write_all(&npy(shape, values)).unwrap();
    }
    archive.finish().unwrap();
}

/// Training takes the training images of an archive or a folder, tests take the test images.
#[test]
fn tests_read_test_images() {
    let (run, archive) = run();
    let of = |path: &Path, purpose| {
        Dataset::read_with(path, &TableOptions { purpose, ..Default::default() })
            .map_err(|e| e.to_string())
    };
    let rows = |path: &Path, purpose| of(path, purpose).unwrap().rows();
    let [training, validation, test] = [Purpose::Training, Purpose::Validation, Purpose::Test];
    let keras = Path::new(&archive);
    assert_eq!([training, validation, test].map(|purpose| rows(keras, purpose)), [20, 5, 5]);
    let notes = of(keras, test).unwrap().notes;
    assert_eq!(notes, ["of the archive's arrays of images x_test alone is read, [5, 16, 16]"]);
    let evaluate =
        ["evaluate", &run, "--data", &archive, "--steps", "2", "--json", "--threads", "1"];
    let answer: Value = serde_json::from_str(&succeed(&evaluate)).unwrap();
    assert_eq!(answer["rows"], 5);
    let score =
        ["score", &run, &archive, "--steps", "2", "--draws", "1", "--json", "--threads", "1"];
    let answer: Value = serde_json::from_str(&succeed(&score)).unwrap();
    assert_eq!(answer["rows"], 5);

    // as MedMNIST names them; labels follow their images
    let dir = tempfile::tempdir().unwrap();
    let medical = dir.path().join("medical.npz");
    npz(
        &medical,
        &[
            ("train_images", &[3, 1, 2], &[1, 2, 3, 4, 5, 6]),
            ("val_images", &[1, 1, 2], &[7, 8]),
            ("test_images", &[2, 1, 2], &[9, 10, 11, 12]),
            ("train_labels", &[3, 1], &[0, 1, 0]),
            ("val_labels", &[1, 1], &[1]),
            ("test_labels", &[2, 1], &[1, 0]),
        ],
    );
    assert_eq!([training, validation, test].map(|purpose| rows(&medical, purpose)), [3, 1, 2]);
    let table = of(&medical, test).unwrap();
    assert_eq!(
        (table.row(0), table.labels.as_ref().unwrap().of_rows.clone()),
        (vec![9.0, 10.0], vec![1, 0])
    );
    let other = dir.path().join("other.npz");
    npz(&other, &[("a", &[1, 1, 2], &[1, 2]), ("b", &[1, 1, 2], &[3, 4])]);
    assert!(of(&other, test).unwrap_err().contains("x_test"));

    // CIFAR-10's folder
    let record = |label: u8| [&[label][..], &[9; 3072]].concat();
    for i in 1..6 {
        std::fs::write(dir.path().join(format!("data_batch_{i}.bin")), record(i)).unwrap();
    }
    assert!(of(dir.path(), test).unwrap_err().contains("test_batch.bin"));
    std::fs::write(dir.path().join("test_batch.bin"), record(9)).unwrap();
    assert_eq!(rows(dir.path(), training), 5);
    assert_eq!(of(dir.path(), test).unwrap().labels.unwrap().of_rows, [9]);
}

/// Runs the program and watches the most memory that it held, in MiB.
#[cfg(target_os = "linux")]
fn watched(args: &[&str]) -> (std::process::Output, f64) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tweedie"));
    let child = command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let waiter = std::thread::spawn(move || child.wait_with_output().unwrap());
    let mut peak: f64 = 0.0;
    while !waiter.is_finished() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        if let Some(line) = text.lines().find(|line| line.starts_with("VmHWM:")) {
            let kib: f64 =
                line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0.0);
            peak = peak.max(kib / 1024.0);
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    (waiter.join().unwrap(), peak)
}

/// Three photographs of 12 million pixels: refused by their headers, or brought to size, in less
/// than 300 MB.
#[cfg(target_os = "linux")]
#[test]
fn photographs_take_little_memory() {
    let dir = tempfile::tempdir().unwrap();
    let photograph = RgbImage::from_fn(4000, 3000, |x, y| Rgb([(x / 16) as u8, (y / 12) as u8, 7]));
    let pictures = dir.path().join("pictures");
    std::fs::create_dir(&pictures).unwrap();
    for i in 0..3 {
        photograph.save(pictures.join(format!("{i}.png"))).unwrap();
    }
    drop(photograph);
    let (pictures, out) = (text(&pictures), text(&dir.path().join("run")));
    let train = ["train", "--data", &pictures, "--out", &out, "--threads", "2"];
    let (output, peak) = watched(&train);
    let message = String::from_utf8_lossy(&output.stderr);
    println!("refused: {peak:.0} MiB: {message}");
    assert_eq!((output.status.code(), message.lines().count()), (Some(2), 1), "{message}");
    assert!(message.contains("3000 × 4000") && message.contains("--size 48x64"), "{message}");
    assert!(peak < 300e6 / 1048576.0, "{peak} MiB");
    // the size that the line names works; a network's own needs are not the reader's
    let size = ["--size", "8x8", "--split", "0.7,0.3,0", "--iterations", "1", "--batch-size", "1"];
    let (output, peak) = watched(&[&train[..], &size].concat());
    println!("read: {peak:.0} MiB");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(peak < 300e6 / 1048576.0, "{peak} MiB");
    // no row holds so many
    let other = text(&dir.path().join("other"));
    let large =
        ["train", "--data", &pictures, "--out", &other, "--threads", "2", "--size", "2000x2000"];
    fail(&large, 2, &["--size", "2000 × 2000", "64x64"]);
}

/// A PNG of this size whose pixels are missing.
fn claimed(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |kind: &[u8], data: &[u8]| {
        bytes.extend((data.len() as u32).to_be_bytes());
        let body = [kind, data].concat();
        bytes.extend(&body);
        bytes.extend(crc32fast::hash(&body).to_be_bytes());
    };
    chunk(b"IHDR", &[&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat());
    chunk(b"IDAT", &[0x78, 0x9c, 3, 0, 0, 0, 0, 1]);
    chunk(b"IEND", &[]);
    bytes
}

/// Headers that claim a huge image are refused before its pixels have memory.
#[test]
fn headers_that_claim_too_much_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let sized = TableOptions { size: Some([8, 8]), ..Default::default() };
    // a lossless WebP of 16384 × 16384: 14 bits each of width and height less one
    let webp =
        [b"RIFF\x12\0\0\0WEBPVP8L\x05\0\0\0\x2f", &[0xff, 0xff, 0xff, 0x0f][..], &[0; 1]].concat();
    for (name, bytes) in [
        ("a.png", claimed(16_000, 16_000)),
        ("a.png", claimed(2_000_000_000, 2_000_000_000)),
        ("a.png", claimed(0, 4)),
        ("a.webp", webp),
    ] {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        for options in [&sized, &TableOptions::default()] {
            let started = std::time::Instant::now();
            let message = refusal(dir.path(), options);
            println!("{message}");
            assert!(message.contains(name), "{message}");
            assert!(started.elapsed().as_secs_f64() < 5.0);
        }
        std::fs::remove_file(path).unwrap();
    }
    // images that are whole, and more than a row holds: in a folder, an array, an IDX file
    std::fs::write(dir.path().join("a.png"), claimed(4000, 3000)).unwrap();
    let message = refusal(dir.path(), &TableOptions::default());
    assert!(
        message.contains("3000 × 4000") && message.contains("data.table.size = 48x64"),
        "{message}"
    );
    let array = dir.path().join("a.npy");
    std::fs::write(&array, npy(&[1, 1100, 1000], &[9; 1_100_000])).unwrap();
    assert!(refusal(&array, &TableOptions::default()).contains("data.table.size = 64x56"));
    let scored = TableOptions { purpose: Purpose::Test, ..Default::default() };
    assert!(!refusal(&array, &scored).contains("data.table"), "{}", refusal(&array, &scored));
    let small = Dataset::read_with(&array, &sized).unwrap();
    assert_eq!((small.image(), &small.values()[..]), (Some([1, 8, 8]), &[9.0; 64][..]));
}

/// Of an animation the first frame is read, which is reported.
#[test]
fn of_animations_the_first_frame_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let frame = |level| image::RgbaImage::from_pixel(4, 2, image::Rgba([level, level, level, 255]));
    let file = std::fs::File::create(dir.path().join("a.gif")).unwrap();
    let mut encoder = image::codecs::gif::GifEncoder::new(file);
    encoder.encode_frames([frame(40), frame(200)].map(image::Frame::new)).unwrap();
    drop(encoder);
    let table = read(dir.path()).unwrap();
    assert_eq!((table.image(), &table.values()[..]), (Some([1, 2, 4]), &[40.0; 8][..]));
    assert_eq!(table.notes, ["of 1 animations the first frame is taken"]);
}

/// Grey images are scored by a run of colour images.
#[test]
fn grey_images_are_colour_images_without_colours() {
    let dir = tempfile::tempdir().unwrap();
    GrayImage::from_pixel(2, 1, Luma([7])).save(dir.path().join("a.png")).unwrap();
    let columns = (1..=6).map(|i| format!("p{i}")).collect();
    let table =
        Dataset::read_with(dir.path(), &TableOptions { columns, ..Default::default() }).unwrap();
    assert_eq!((table.image(), &table.values()[..]), (Some([3, 1, 2]), &[7.0; 6][..]));
}

/// Folders that are parts of a data set are no classes of it.
#[test]
fn parts_of_a_data_set_are_said() {
    let dir = tempfile::tempdir().unwrap();
    for part in ["train", "test"] {
        std::fs::create_dir(dir.path().join(part)).unwrap();
        GrayImage::from_pixel(2, 1, Luma([70])).save(dir.path().join(part).join("a.png")).unwrap();
    }
    let notes = read(dir.path()).unwrap().notes;
    assert!(notes.len() == 1 && notes[0].contains("test, train"), "{notes:?}");
}

/// A record that does not fit is a line, not a crash.
#[test]
fn a_data_record_of_another_shape_is_refused() {
    let (run, _) = run();
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.toml", "base.json", "ema.safetensors", "data.json"] {
        std::fs::copy(Path::new(&run).join(file), dir.path().join(file)).unwrap();
    }
    let path = dir.path().join("data.json");
    let whole: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let copy = text(dir.path());
    let out = tempfile::tempdir().unwrap();
    let sheet = text(&out.path().join("a.png"));
    let sample = ["sample", &copy, "-n", "1", "--steps", "1", "-o", &sheet, "--threads", "1"];
    for (field, value, words) in [
        ("image", serde_json::json!([1, 16, 15]), "1 × 16 × 15"),
        ("image", serde_json::json!([1, 8, 32]), "the network is of images of 1 × 16 × 16"),
        ("image", serde_json::json!([0, 16, 16]), "0 × 16 × 16"),
        ("image", serde_json::json!([3, 4294967296u64, 4294967296u64]), "256 columns"),
        ("scaling", serde_json::json!({ "pixels": 1_000_000_000 }), "1000000000"),
    ] {
        let mut other = whole.clone();
        other[field] = value;
        std::fs::write(&path, serde_json::to_vec(&other).unwrap()).unwrap();
        fail(&sample, 2, &["data.json", words]);
    }
    std::fs::write(&path, serde_json::to_vec(&whole).unwrap()).unwrap();
    succeed(&sample);
}

/// Base64 (RFC 4648), as a page embeds pictures.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for part in bytes.chunks(3) {
        let word = part
            .iter()
            .chain([0; 3].iter())
            .take(3)
            .fold(0u32, |word, &b| word << 8 | u32::from(b));
        for i in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * i) & 63) as usize] as char;
            out.push(if i <= part.len() { digit } else { '=' });
        }
    }
    out
}

/// `sample` and `report` draw the same samples where nothing else is requested: of images the last
/// step's mean.
#[test]
fn there_is_one_default_sampler() {
    let (run, _) = run();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| text(&dir.path().join(name));
    let sample = |rest: &[&str], out: &str| {
        let common = ["sample", &run, "-n", "1", "--steps", "3", "--threads", "1", "-o", out];
        succeed(&[&common[..], rest].concat());
        std::fs::read(out).unwrap()
    };
    let usual = sample(&[], &at("usual.png"));
    let spelled =
        ["--covariance", "learned", "--last-step", "mean", "--spacing", "angle", "--eta", "1"];
    assert_eq!(sample(&spelled, &at("spelled.png")), usual);
    assert_ne!(sample(&["--last-step", "noise"], &at("noise.png")), usual);
    let copy = dir.path().join("run");
    std::fs::create_dir(&copy).unwrap();
    for file in ["config.toml", "base.json", "ema.safetensors", "data.json", "metrics.jsonl"] {
        let from = Path::new(&run).join(file);
        if from.exists() {
            std::fs::copy(from, copy.join(file)).unwrap();
        }
    }
    let page = ["report", &text(&copy), "-n", "1", "--steps", "3", "--rows", "1", "--threads", "1"];
    succeed(&page);
    let page = std::fs::read_to_string(copy.join("report.html")).unwrap();
    assert!(page.contains(&base64(&usual)));
    // of a table the last step draws
    let loaded = Run::load(&run, tch::Device::Cpu).unwrap();
    let images = loaded.default_sampler();
    assert_eq!((images.last, images.steps, images.eta), (tweedie::sample::LastStep::Mean, 20, 1.0));
    let table = tweedie::sample::SampleOptions::default().of(&loaded.model, false);
    assert_eq!(table.last, tweedie::sample::LastStep::Noise);
}

/// A folder of pictures, each of its own size, with the levels that a table has.
#[test]
fn samples_are_written_as_a_folder_of_pictures() {
    let (run, _) = run();
    let dir = tempfile::tempdir().unwrap();
    let (folder, table) =
        (text(&dir.path().join("deep/pictures/")) + "/", text(&dir.path().join("a.csv")));
    let sample = |out: &str| {
        let args = ["sample", &run, "-n", "3", "--steps", "2", "--threads", "1", "-o", out];
        args.map(String::from).to_vec()
    };
    let words = |args: &[String]| args.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    let call = |out: &str| {
        let args = sample(out);
        tweedie(&args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    assert!(call(&folder).status.success());
    assert!(call(&table).status.success());
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["000000.png", "000001.png", "000002.png"]);
    let rows = std::fs::read_to_string(&table).unwrap();
    for (name, row) in names.iter().zip(rows.lines().skip(1)) {
        let picture = image::open(Path::new(&folder).join(name)).unwrap();
        assert_eq!(
            (picture.width(), picture.height(), picture.color().has_color()),
            (16, 16, false)
        );
        let levels =
            row.split(',').map(|cell| cell.parse::<f64>().unwrap().clamp(0.0, 255.0).round() as u8);
        let apart =
            picture.to_luma8().into_raw().iter().zip(levels).map(|(a, b)| a.abs_diff(b)).max();
        // a table's whole numbers are rounded before they are held
        assert!(apart.unwrap() <= 1, "{name}: {apart:?}");
    }
    // what is read back is what was written
    assert_eq!(read(Path::new(&folder)).unwrap().image(), Some([1, 16, 16]));
    // another call's samples are not mixed in
    let again = call(&folder);
    let message = String::from_utf8_lossy(&again.stderr).into_owned();
    assert_eq!(again.status.code(), Some(2), "{}: {message}", words(&sample(&folder)));
    assert!(message.contains("files in it"), "{message}");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 3);
}

/// A pipeline that is imported and exported samples as it did: clipped or not.
#[test]
fn how_a_pipeline_samples_survives_import_and_export() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/reference/unet/plain");
    std::fs::create_dir_all(at("pipeline/unet")).unwrap();
    std::fs::create_dir_all(at("pipeline/scheduler")).unwrap();
    for entry in std::fs::read_dir(&reference).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), at("pipeline/unet").join(entry.file_name())).unwrap();
    }
    std::fs::write(at("pipeline/model_index.json"), r#"{"_class_name": "DDPMPipeline"}"#).unwrap();
    let exported = |scheduler: &str, name: &str| -> Value {
        std::fs::write(at("pipeline/scheduler/scheduler_config.json"), scheduler).unwrap();
        let (run, out) = (text(&at(&format!("{name}-run"))), text(&at(name)));
        succeed(&["import", &text(&at("pipeline")), "--out", &run, "--threads", "1"]);
        succeed(&["export", &run, "--out", &out, "--threads", "1"]);
        serde_json::from_slice(
            &std::fs::read(at(name).join("scheduler/scheduler_config.json")).unwrap(),
        )
        .unwrap()
    };
    // without a word it is clipped: diffusers' default
    let usual = exported(r#"{"_class_name": "DDPMScheduler"}"#, "usual");
    assert_eq!(
        (&usual["clip_sample"], &usual["variance_type"]),
        (&true.into(), &"fixed_small".into())
    );
    let given = r#"{"_class_name": "DDPMScheduler", "clip_sample": false, "clip_sample_range": 2.5,
        "variance_type": "fixed_large", "timestep_spacing": "trailing", "thresholding": true}"#;
    let back = exported(given, "given");
    for (field, value) in [
        ("clip_sample", Value::from(false)),
        ("clip_sample_range", 2.5.into()),
        ("variance_type", "fixed_large".into()),
        ("timestep_spacing", "trailing".into()),
        ("thresholding", true.into()),
    ] {
        assert_eq!(back[field], value, "{field}");
    }
    // schedulers of other samplers have no variance
    let other = r#"{"_class_name": "DPMSolverMultistepScheduler", "variance_type": null}"#;
    assert_eq!(exported(other, "other")["variance_type"], "fixed_small");
    // and of a network alone nothing is known: its samples are ours, unclipped
    let (run, out) = (text(&at("alone-run")), text(&at("alone")));
    succeed(&["import", &text(&reference), "--out", &run, "--threads", "1"]);
    succeed(&["export", &run, "--out", &out, "--threads", "1"]);
    let alone = std::fs::read(at("alone/scheduler/scheduler_config.json")).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&alone).unwrap()["clip_sample"], false);
}

/// Names of images stay with their rows, whatever is left out.
#[test]
fn files_follow_their_rows() {
    let dir = tempfile::tempdir().unwrap();
    for (name, level) in [("a", 30), ("b", 30), ("c", 50)] {
        GrayImage::from_pixel(2, 1, Luma([level]))
            .save(dir.path().join(format!("{name}.png")))
            .unwrap();
    }
    let table =
        Dataset::read_with(dir.path(), &TableOptions { unique: true, ..Default::default() })
            .unwrap();
    assert_eq!(
        (&table.files[..], table.row(1)),
        (&["a.png".to_string(), "c.png".into()][..], vec![50.0; 2])
    );
}

/// Rows of a table are pictures where they have a shape; one alone has no quantiles to be grey
/// between.
#[test]
fn rows_of_a_table_as_pictures() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| text(&dir.path().join(name));
    let rows: String =
        (0..60).map(|i| format!("{i},{},{},{}\n", i * i % 59, i * 7 % 53, i * 11 % 31)).collect();
    std::fs::write(at("a.csv"), rows).unwrap();
    let (run, data) = (at("run"), at("a.csv"));
    let train = ["train", "--data", &data, "--out", &run, "--iterations", "1", "--threads", "1"];
    succeed(&[&train[..], &["--types", "numbers"]].concat());
    let sample = ["sample", &run, "-n", "1", "--steps", "2", "--threads", "1"];
    let with = |rest: &[&str]| {
        [&sample[..], rest].concat().into_iter().map(String::from).collect::<Vec<_>>()
    };
    let call = |args: Vec<String>| tweedie(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let wide = at("wide/");
    assert!(call(with(&["--shape", "1x4", "-o", &wide])).status.success());
    let picture = image::open(dir.path().join("wide/000000.png")).unwrap();
    assert_eq!((picture.width(), picture.height()), (4, 1));
    let none = at("none/");
    let shape = ["--shape", "1x5", "-o", &none];
    fail(&[&sample[..], &shape].concat(), 2, &["--shape", "H times W = 4"]);
    assert!(!dir.path().join("none").exists());
    // a run of one column
    let line = at("line");
    let train = ["train", "--data", "mixture:two-gaussians", "--out", &line, "--iterations", "1"];
    succeed(&[&train[..], &["--threads", "1"]].concat());
    succeed(&["sample", &line, "-n", "1", "--steps", "1", "-o", &at("a.png"), "--threads", "1"]);
}
