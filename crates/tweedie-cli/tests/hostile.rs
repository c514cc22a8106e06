//! Files that lie about their size, nest without end or are not what they say: one line, exit code
//! 2, little memory.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::{Value, json};
use tch::Device;
use tweedie::data::{Dataset, TableOptions, read_weights};
use tweedie::model::{Backbone, Denoiser, UNetConfig};
use tweedie::noise::Seed;
use tweedie::run::{Run, RunDir, write_unet};

mod common;

use common::{fail, succeed, tweedie, with_header};

fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/cases").join(name)
}

/// A path that is not Unicode is a path like any other.
#[cfg(unix)]
#[test]
fn paths_are_bytes() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join(std::ffi::OsStr::from_bytes(b"r\xff"));
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tweedie"));
    let output = command.arg("sample").arg(&run).args(["-o", "a.csv"]).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("is not a run directory"), "{message}");
}

/// The error of training on `path`: one line, exit code 2.
fn refused(path: &Path, words: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run").display().to_string();
    let data = path.to_str().unwrap();
    let output = tweedie(&["train", "--data", data, "--out", &out, "--types", "numbers"]);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(
        (output.status.code(), message.lines().count()),
        (Some(2), 1),
        "{}: {message}",
        path.display()
    );
    for word in words {
        assert!(message.contains(word), "{}: no '{word}' in: {message}", path.display());
    }
    assert!(!message.contains("internal"), "{message}");
}

fn file(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// A Parquet file of nothing but a schema: its elements in Thrift's compact protocol, `count` of
/// them.
fn parquet_of(count: u32, elements: &[u8]) -> Vec<u8> {
    let mut number = Vec::new();
    let mut left = count;
    while left >= 0x80 {
        number.push(left as u8 | 0x80);
        left >>= 7;
    }
    number.push(left as u8);
    // version 1, the list of schema elements, no rows, no row groups
    let footer =
        [&[0x15, 2, 0x19, 0xfc][..], &number, elements, &[0x16, 0, 0x19, 0x0c, 0]].concat();
    [b"PAR1", &footer[..], &(footer.len() as u32).to_le_bytes(), b"PAR1"].concat()
}

/// A group `g` with one child: repetition, name, number of children.
const GROUP: &[u8] = &[0x35, 0, 0x18, 1, b'g', 0x15, 2, 0];
/// A column `c` of doubles.
const LEAF: &[u8] = &[0x15, 10, 0x25, 0, 0x18, 1, b'c', 0];

#[test]
fn parquet_schemas_are_checked_before_they_are_followed() {
    let dir = tempfile::tempdir().unwrap();
    let nested =
        |levels: usize| parquet_of(levels as u32 + 1, &[&GROUP.repeat(levels)[..], LEAF].concat());
    refused(
        &file(dir.path(), "deep.parquet", &nested(100_000)),
        &["deep.parquet", "nest deeper than 64"],
    );
    // what tables have is left to the decoder
    refused(&file(dir.path(), "few.parquet", &nested(3)), &["`g`", "nested"]);
    refused(
        &case("A-parquet-claimed-children/claims.parquet"),
        &["a group claims 2000000000 columns"],
    );
    // 60 groups with names of 20 kB around 100,000 columns: the columns' full names would take 120
    // GB
    let name = [&[0x18, 0xa0, 0x9c, 1][..], &[b'n'; 20_000]].concat();
    let long = [&[0x35, 0][..], &name, &[0x15, 2, 0]].concat();
    let last = [&[0x35, 0][..], &name, &[0x15, 0xc0, 0x9a, 0x0c, 0]].concat();
    let wide = [&long.repeat(59)[..], &last, &LEAF.repeat(100_000)].concat();
    refused(
        &file(dir.path(), "names.parquet", &parquet_of(100_060, &wide)),
        &["names of its columns"],
    );
    let many = [&[0x35, 0, 0x18, 1, b'g', 0x15, 0x80, 0x89, 0x7a, 0][..], &LEAF.repeat(1_000_000)]
        .concat();
    refused(&file(dir.path(), "many.parquet", &parquet_of(1_000_001, &many)), &["1000001 entries"]);
}

/// The decoder panics on these; the program printed "internal: … please report it" before its
/// error.
#[test]
fn damaged_parquet_is_one_line() {
    for name in ["bytes", "decoder", "metadata"] {
        refused(
            &case("A-parquet-panic-printed").join(format!("{name}.parquet")),
            &["Parquet", "write it again"],
        );
    }
}

fn gzip(parts: &[&[u8]]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    parts.iter().for_each(|part| encoder.write_all(part).unwrap());
    encoder.finish().unwrap()
}

/// The contents end one byte after what the header claims, however long the stream; memory is
/// measured in `tests/fuzz.rs`.
#[test]
fn compressed_images_are_read_as_far_as_their_header_claims() {
    let dir = tempfile::tempdir().unwrap();
    let idx = [0, 0, 8, 3, 0, 0, 0, 12, 0, 0, 0, 8, 0, 0, 0, 8];
    let longer = gzip(&[&idx, &vec![0; 1 << 20]]);
    // an end that cannot be decompressed is never reached
    let cut = &longer[..longer.len() - 20];
    let path = file(dir.path(), "a-images-idx3-ubyte.gz", cut);
    refused(&path, &["holds more than the 768 bytes that its header claims"]);
    let claims = gzip(&[&[0, 0, 8, 3, 0, 0xff, 0xff, 0xff, 0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff]]);
    refused(&file(dir.path(), "b-images-idx3-ubyte.gz", &claims), &["claims", "compressed"]);
    // a file that keeps its word
    file(dir.path(), "c-images-idx3-ubyte.gz", &gzip(&[&idx, &[7; 768]]));
    let table =
        Dataset::read_with(dir.path().join("c-images-idx3-ubyte.gz"), &TableOptions::default())
            .unwrap();
    assert_eq!((table.rows(), table.image()), (12, Some([1, 8, 8])));
}

#[test]
fn an_array_is_no_table_of_a_million_columns() {
    let dir = tempfile::tempdir().unwrap();
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 3000000), }";
    let header = format!("{header:<117}\n");
    let head =
        [b"\x93NUMPY\x01\0", &(header.len() as u16).to_le_bytes()[..], header.as_bytes()].concat();
    let path = file(dir.path(), "wide.npy", &[&head[..], &vec![0; 3_000_000]].concat());
    refused(&path, &["3000000 columns"]);
}

/// LibTorch computes with every length of a shape, also beside one of zero.
#[test]
fn weights_of_impossible_shapes_are_errors() {
    let path = case("A-safetensors-zero-axis/st_zero_max.safetensors");
    let message = read_weights(path).unwrap_err().to_string();
    assert!(message.contains("'a' of the impossible shape [0, 18446744073709551615]"), "{message}");
    let dir = tempfile::tempdir().unwrap();
    for shape in [json!([0, i64::MAX]), json!([1_u64 << 40, 0, 1_u64 << 40]), json!(vec![0; 70])] {
        let header = json!({ "a": { "dtype": "F32", "shape": shape, "data_offsets": [0, 0] } });
        let path =
            file(dir.path(), "a.safetensors", &with_header(header.to_string().as_bytes(), &[]));
        let message = read_weights(&path).unwrap_err().to_string();
        assert!(message.contains("impossible shape"), "{message}");
    }
    let header = json!({ "a": { "dtype": "F32", "shape": [0, 5], "data_offsets": [0, 0] } });
    let path = file(dir.path(), "a.safetensors", &with_header(header.to_string().as_bytes(), &[]));
    assert_eq!(read_weights(&path).unwrap()["a"].size(), [0, 5]);
}

/// The header of a safetensors file, and what follows it.
fn parts(bytes: &[u8]) -> (Value, Vec<u8>) {
    let length = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    (serde_json::from_slice(&bytes[8..length]).unwrap(), bytes[length..].to_vec())
}

const WEIGHTS: &str = "unet/diffusion_pytorch_model.safetensors";
const CONFIG: &str = "unet/config.json";

/// The folder of a small diffusers model.
fn pipeline(dir: &Path, head: i64) -> PathBuf {
    let config = UNetConfig {
        shape: [1, 4, 4],
        widths: vec![4, 4],
        attention: vec![false, false],
        groups: 2,
        ..UNetConfig::default()
    };
    let net = config.init(head, Device::Cpu, Seed(0)).unwrap();
    write_unet(&net, &dir.join("model/unet")).unwrap();
    dir.join("model")
}

fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

fn import_fails(dir: &Path, model: &Path, words: &[&str]) {
    let out = dir.join("run");
    fail(&["import", model.to_str().unwrap(), "--out", out.to_str().unwrap()], 2, words);
    assert!(!out.exists(), "an import that cannot be leaves nothing behind");
}

#[test]
fn imports_look_at_the_weights_before_they_believe_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let model = pipeline(dir.path(), 0);
    let (config, weights) = (model.join(CONFIG), model.join(WEIGHTS));
    let sound = [&config, &weights].map(|path| std::fs::read(path).unwrap());
    // 7·10⁹ parameters beside a few thousand
    edit(&config, |config| {
        config["block_out_channels"] = json!([16_384, 16_384]);
    });
    import_fails(dir.path(), &model, &["config.json", "describes a network of", "parameters"]);
    edit(&config, |config| config["block_out_channels"] = json!([i64::MAX / 2, 4]));
    import_fails(dir.path(), &model, &["widths"]);
    std::fs::write(&config, &sound[0]).unwrap();
    // a zero beside a huge length, in a tensor of no use
    let (mut header, values) = parts(&sound[1]);
    header.as_object_mut().unwrap().remove("__metadata__");
    let whole = header.clone();
    let end = values.len();
    header["extra"] = json!({ "dtype": "F32", "shape": [0, u64::MAX], "data_offsets": [end, end] });
    std::fs::write(&weights, with_header(header.to_string().as_bytes(), &values)).unwrap();
    import_fails(dir.path(), &model, &["diffusion_pytorch_model", "impossible shape"]);
    // a scalar where a vector is due: of a network with variances, whose last layer is split
    edit(&config, |config| config["out_channels"] = json!(2));
    let mut header = whole;
    header["conv_out.bias"]["shape"] = json!([]);
    std::fs::write(&weights, with_header(header.to_string().as_bytes(), &values)).unwrap();
    import_fails(dir.path(), &model, &["conv_out"]);
}

/// Whatever the index of weights in parts names: exit code 2.
#[test]
fn odd_names_of_weight_files_are_errors_of_the_request() {
    let dir = tempfile::tempdir().unwrap();
    let model = pipeline(dir.path(), 0);
    std::fs::remove_file(model.join(WEIGHTS)).unwrap();
    let long = "w".repeat(5000);
    for name in [
        "",
        ".",
        "..",
        "../unet/config.json",
        "none.safetensors",
        "a\0b",
        "\u{1b}[31m",
        long.as_str(),
    ] {
        let index = json!({ "weight_map": { "conv_in.weight": name } });
        std::fs::write(model.join(format!("{WEIGHTS}.index.json")), index.to_string()).unwrap();
        import_fails(dir.path(), &model, &["index.json", "names the file"]);
    }
    std::fs::remove_file(model.join(CONFIG)).unwrap();
    std::fs::create_dir(model.join(CONFIG)).unwrap();
    import_fails(dir.path(), &model, &["config.json"]);
}

/// A tiny run on a table, made once: its files by name.
fn run_in(dir: &Path) -> String {
    static FILES: OnceLock<Vec<(String, Vec<u8>)>> = OnceLock::new();
    let files = FILES.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let rows: String = (0..200)
            .map(|i| {
                format!(
                    "{:.3},{:.3}\n",
                    (f64::from(i) * 0.7).sin(),
                    (f64::from(i * i) * 0.37).cos()
                )
            })
            .collect();
        let data =
            file(dir.path(), "t.csv", format!("x,y\n{rows}").as_bytes()).display().to_string();
        let out = dir.path().join("run").display().to_string();
        let sizes = [
            "--iterations",
            "200",
            "--width",
            "8",
            "--depth",
            "1",
            "--base",
            "gaussian",
            "--rank",
            "1",
        ];
        let train = ["train", "--data", &data, "--out", &out, "--quiet", "--threads", "1"];
        succeed(&[&train[..], &sizes, &["--marginals", "standardize"]].concat());
        let entries = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path());
        let named = |path: PathBuf| {
            (path.file_name().unwrap().to_str().unwrap().to_string(), std::fs::read(path).unwrap())
        };
        // the table goes with the folder
        let table = [("t.csv".to_string(), std::fs::read(&data).unwrap())];
        entries.filter(|path| path.is_file()).map(named).chain(table).collect()
    });
    let run = dir.join("run");
    let _ = std::fs::remove_dir_all(&run);
    std::fs::create_dir_all(&run).unwrap();
    files.iter().for_each(|(name, bytes)| drop(file(&run, name, bytes)));
    let config = std::fs::read_to_string(run.join("config.toml")).unwrap();
    let line = |line: &str| match line.starts_with("source = ") {
        true => format!("source = {:?}\n", run.join("t.csv").display().to_string()),
        false => format!("{line}\n"),
    };
    std::fs::write(run.join("config.toml"), config.lines().map(line).collect::<String>()).unwrap();
    run.display().to_string()
}

fn sample_fails(run: &str, words: &[&str]) {
    let out = Path::new(run).with_file_name("samples.csv").display().to_string();
    fail(&["sample", run, "-n", "2", "--steps", "2", "-o", &out], 2, words);
}

/// Sizes in a run's files that do not belong together are found as it is loaded, before anything of
/// such a size is made.
#[test]
fn a_run_that_claims_more_than_it_has_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let run = run_in(dir.path());
    let out = dir.path().join("samples.csv").display().to_string();
    succeed(&["sample", &run, "-n", "2", "--steps", "2", "-o", &out, "--quiet"]);
    let at = |name: &str| Path::new(&run).join(name);
    // 2·10⁸ pixels would be 20 GB of columns
    edit(&at("data.json"), |data| data["scaling"] = json!({ "pixels": 200_000_000 }));
    sample_fails(&run, &["data.json", "200000000 pixels"]);
    for (image, words) in [
        (json!([1, 2, 2]), ["data.json", "images of 1 × 2 × 2, and 2 columns"]),
        (json!([usize::MAX, usize::MAX, 2]), ["data.json", "and 2 columns"]),
        (json!([1, 1, 2]), ["data.json", "no levels"]),
    ] {
        run_in(dir.path());
        edit(&at("data.json"), |data| data["image"] = image);
        sample_fails(&run, &words);
    }
    for (field, value) in [("scale", json!(0.0)), ("scale", json!(-1.0))] {
        run_in(dir.path());
        edit(&at("data.json"), |data| {
            data["scaling"]["columns"][0]["map"]["affine"][field] = value
        });
        sample_fails(&run, &["data.json", "scale or bin"]);
    }
    // a network of 10⁹ parameters beside a few hundred
    run_in(dir.path());
    let config = std::fs::read_to_string(at("config.toml")).unwrap();
    std::fs::write(
        at("config.toml"),
        config.replace("width = 8", "width = 10000").replace("depth = 1", "depth = 5"),
    )
    .unwrap();
    sample_fails(&run, &["ema.safetensors", "parameters"]);
    fail(
        &["train", "--out", &run, "--resume", "--iterations", "300"],
        2,
        &["ema.safetensors", "parameters"],
    );
    for name in ["data.json", "base.json", "config.toml"] {
        run_in(dir.path());
        std::fs::write(at(name), "[".repeat(200_000)).unwrap();
        sample_fails(&run, &[name]);
        run_in(dir.path());
        std::fs::write(at(name), "{\"a\":".repeat(200_000)).unwrap();
        sample_fails(&run, &[name]);
        std::fs::write(at(name), [0xff, 0xfe, 0]).unwrap();
        sample_fails(&run, &[name]);
    }
}

/// A state whose numbers cannot be is not resumed from; its checksum is right.
#[test]
fn impossible_states_are_not_resumed() {
    let dir = tempfile::tempdir().unwrap();
    for (key, value) in [
        ("iteration", "18446744073709551615"),
        ("seconds", "NaN"),
        ("since_best", "9999999999999999999"),
    ] {
        let run = run_in(dir.path());
        let path = Path::new(&run).join("state.safetensors");
        let (mut header, values) = parts(&std::fs::read(&path).unwrap());
        let mut about: Value =
            serde_json::from_str(header["__metadata__"]["tweedie"].as_str().unwrap()).unwrap();
        about[key] = json!(value);
        header["__metadata__"]["tweedie"] = json!(about.to_string());
        std::fs::write(&path, with_header(header.to_string().as_bytes(), &values)).unwrap();
        fail(
            &["train", "--out", &run, "--resume", "--iterations", "300"],
            2,
            &["state.safetensors", "claims"],
        );
    }
    let run = run_in(dir.path());
    let path = Path::new(&run).join("state.safetensors");
    let (header, mut values) = parts(&std::fs::read(&path).unwrap());
    values[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&path, with_header(header.to_string().as_bytes(), &values)).unwrap();
    fail(
        &["train", "--out", &run, "--resume", "--iterations", "300"],
        2,
        &["state.safetensors", "not finite"],
    );
}

/// A bad byte costs its own line, which is counted; a last line without an end is one that a kill
/// cut short.
#[test]
fn damaged_metrics_stop_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let run = run_in(dir.path());
    let path = Path::new(&run).join("metrics.jsonl");
    let sound = std::fs::read(&path).unwrap();
    let lines = sound.iter().filter(|&&b| b == b'\n').count();
    assert!(lines >= 2, "a line per 100 iterations");
    let damaged = [&b"{\"iteration\": \xff}\n"[..], &sound, b"{\"iteration\": 30"].concat();
    std::fs::write(&path, &damaged).unwrap();
    let opened = RunDir::open(&run).unwrap();
    assert_eq!((opened.metrics().unwrap().len(), opened.damaged_metrics().unwrap()), (lines, 1));
    for args in [
        vec!["report", &run, "-n", "20", "--steps", "3", "--rows", "10"],
        vec!["train", "--out", &run, "--resume", "--iterations", "300", "--threads", "1"],
    ] {
        let output = tweedie(&args);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{message}");
        assert!(message.contains("metrics.jsonl: 1 damaged lines are left out"), "{message}");
    }
    // resuming writes the file anew
    assert_eq!(opened.damaged_metrics().unwrap(), 0);
    assert!(Run::load(&run, Device::Cpu).unwrap().model.space().dim == 2);
}

/// Runs `tweedie ARGS` with at most `kilobytes` of address space.
#[cfg(target_os = "linux")]
fn within(kilobytes: u64, args: &[&str]) -> std::process::Output {
    let program = env!("CARGO_BIN_EXE_tweedie");
    let script = format!("ulimit -v {kilobytes}; exec \"$0\" \"$@\"");
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &script, program]).args(args).output().expect("a shell")
}

/// Where the system gives no more memory, the program says so and ends with 1: no abort, no "memory
/// allocation failed".
#[test]
#[cfg(target_os = "linux")]
fn no_memory_left_is_one_line() {
    // what the program takes to start, libraries and threads included
    let start = (0..)
        .map(|i| (1 << 19) + i * (1 << 18))
        .find(|&room| within(room, &["--version"]).status.success());
    let start = start.expect("room to start in");
    let dir = tempfile::tempdir().unwrap();
    // a text file whose third line is one cell of 4 GB, none of which is on the disk
    let mut text = String::from("x\n1\n");
    (0..400).for_each(|i| text += &format!("{i}\n"));
    let path = file(dir.path(), "cell.csv", text.as_bytes());
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1 << 32).unwrap();
    let out = dir.path().join("run").display().to_string();
    let output = within(
        start + (1 << 20),
        &["train", "--data", path.to_str().unwrap(), "--out", &out, "--threads", "1"],
    );
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(
        message.starts_with("error: out of memory; give") && message.lines().count() == 1,
        "{message}"
    );
}

/// Weights in half precision under diffusers' name of the variant are read as what they are; of
/// several variants none is chosen unasked.
#[test]
fn variants_of_weights_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let model = pipeline(dir.path(), 0);
    let (whole, half) =
        (model.join(WEIGHTS), model.join("unet/diffusion_pytorch_model.fp16.safetensors"));
    let tensors: Vec<(String, tch::Tensor)> = tch::Tensor::read_safetensors(&whole)
        .unwrap()
        .into_iter()
        .map(|(name, values)| (name, values.to_kind(tch::Kind::Half)))
        .collect();
    tch::Tensor::write_safetensors(&tensors, &half).unwrap();
    std::fs::remove_file(&whole).unwrap();
    let net = tweedie::run::read_unet(&model.join("unet"), Device::Cpu).unwrap();
    let values: f64 =
        tensors.iter().map(|(_, t)| t.to_kind(tch::Kind::Double).sum(None).double_value(&[])).sum();
    let found = net.parameters().flat().to_kind(tch::Kind::Double).sum(None).double_value(&[]);
    assert!((found - values).abs() < 1e-3, "{found} against {values}");
    std::fs::copy(&half, model.join("unet/diffusion_pytorch_model.non_ema.safetensors")).unwrap();
    import_fails(dir.path(), &model, &["several variants", "fp16", "non_ema", "keep one"]);
}
