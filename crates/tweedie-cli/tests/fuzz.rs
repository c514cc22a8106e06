//! Every reader on damaged and hostile files: no panic, no abort, no more than 20 seconds or 2 GB
//! for any of them.
//!
//! An input is a small sound file (made here, or kept in `tests/data/fuzz/TARGET/`) that was
//! changed: bits, truncation, pieces of others, lengths, words of the format. Half of the changes
//! are made inside a container whose checksums and lengths are then made right again, so that they
//! reach what lies behind them. The same seed gives the same inputs.
//!
//! A few hundred inputs for each reader run with the other tests; `make fuzz` runs for a minute.
//! Environment: `TWEEDIE_FUZZ_INPUTS` (for each reader), `TWEEDIE_FUZZ_SECONDS` (in all; instead of
//! a number of inputs), `TWEEDIE_FUZZ_SEED`, `TWEEDIE_FUZZ_DIR` (where inputs are written: the one
//! that ended the program stays there).

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::io::{Cursor, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use common::with_header;
use serde_json::json;
use tch::{Device, Kind, Tensor};
use tweedie::autoencoder::Autoencoder;
use tweedie::data::{
    CellType, Crop, Dataset, Dequantize, Missing, MixedLayout, OutputFile, Schema, TableOptions,
    TypeOptions, read_numbers, read_weights, write_table,
};
use tweedie::dequantize::VariationalConfig;
use tweedie::metric::FeatureStatistics;
use tweedie::model::{Denoiser, MlpConfig, NetworkConfig, UNetConfig};
use tweedie::noise::Seed;
use tweedie::query::{Query, Times};
use tweedie::run::{Prepared, Run, RunConfig, Training, import, import_dit_checkpoint, write_unet};

/// What one input may take.
const MOST_SECONDS: f64 = 20.0;
const MOST_BYTES: usize = 2 << 30;

/// Counts what is allocated; refuses at once what no input may ask for.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[allow(unsafe_code)] // the system's allocator, with a count beside it
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > 2 * MOST_BYTES {
            return std::ptr::null_mut();
        }
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.size() > 2 * MOST_BYTES {
            return std::ptr::null_mut();
        }
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn of<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.below(items.len())]
    }
}

/// A sound file, by the name that it has when it is read.
#[derive(Clone)]
struct Sound {
    name: String,
    bytes: Vec<u8>,
}

fn sound(name: &str, bytes: impl Into<Vec<u8>>) -> Sound {
    Sound { name: name.into(), bytes: bytes.into() }
}

/// A reader: its sound files, words of its format, and how it is called on `folder/name`; whether
/// it accepted the input.
struct Target<'a> {
    name: &'static str,
    seeds: Vec<Sound>,
    words: &'static [&'static str],
    /// Files that stay as they are unless they are the input.
    beside: Vec<Sound>,
    read: Box<Reader<'a>>,
}

type Reader<'a> = dyn Fn(&Path, &str, u64) -> bool + 'a;

const NUMBERS: [&str; 20] = [
    "0",
    "-1",
    "1",
    "7",
    "255",
    "256",
    "65535",
    "65536",
    "1000000",
    "2147483647",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "99999999999999999999999",
    "1e308",
    "1e-320",
    "1e400",
    "-0.0",
    "null",
    "[]",
];

/// Changes bytes at random places within `from..`.
fn change(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8], words: &[&str], from: usize) {
    let from = from.min(bytes.len());
    let place = |random: &mut Random, bytes: &[u8]| from + random.below(bytes.len() - from + 1);
    let at = place(random, bytes);
    let end = at + random.below((bytes.len() - at).min(64) + 1);
    match random.below(14) {
        0 | 1 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        2 if at < bytes.len() => bytes[at] = random.next() as u8,
        3 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xfe, 0xff][random.below(6)],
        4 => bytes.truncate(at),
        5 => drop(bytes.drain(at..end)),
        6 => {
            let piece = bytes[at..end].to_vec();
            bytes.splice(at..at, piece);
        }
        7 if !other.is_empty() => {
            let start = random.below(other.len());
            let stop = start + random.below((other.len() - start).min(256) + 1);
            bytes.splice(at..end, other[start..stop].iter().copied());
        }
        8 if !other.is_empty() => {
            bytes.truncate(at);
            bytes.extend_from_slice(&other[random.below(other.len())..]);
        }
        9 | 10 => {
            let width = [1, 2, 4, 8][random.below(4)];
            let len = bytes.len() as u64;
            let some =
                [0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 1 << 20, i32::MAX as u64, 1 << 31];
            let more = [
                u32::MAX.into(),
                1 << 40,
                i64::MAX as u64,
                1 << 63,
                u64::MAX,
                len,
                len + 1,
                len / 2,
            ];
            let value = match random.below(2) {
                0 => some[random.below(some.len())],
                _ => more[random.below(more.len())],
            };
            let mut encoded = value.to_le_bytes()[..width].to_vec();
            if random.below(2) == 0 {
                encoded.reverse();
            }
            let stop = (at + width).min(bytes.len());
            bytes.splice(at..stop, encoded);
        }
        11 => {
            let mut value = random.next() >> random.below(64);
            let mut encoded = Vec::new();
            while value >= 0x80 {
                encoded.push(value as u8 | 0x80);
                value >>= 7;
            }
            encoded.push(value as u8);
            let stop = at + random.below(3).min(bytes.len() - at);
            bytes.splice(at..stop, encoded);
        }
        12 => {
            let starts: Vec<usize> = (from..bytes.len())
                .filter(|&i| {
                    bytes[i].is_ascii_digit() && (i == 0 || !bytes[i - 1].is_ascii_digit())
                })
                .collect();
            if let Some(&start) = starts.get(random.below(starts.len())) {
                let digits = bytes[start..].iter().take_while(|b| b.is_ascii_digit()).count();
                let number = random.of(&NUMBERS);
                bytes.splice(start..start + digits, number.bytes());
            }
        }
        _ if !words.is_empty() => {
            let word = random.of(words);
            let stop = if random.below(2) == 0 { at } else { (at + word.len()).min(bytes.len()) };
            bytes.splice(at..stop, word.bytes());
        }
        _ => bytes.truncate(at),
    }
}

fn changed(random: &mut Random, bytes: &[u8], other: &[u8], words: &[&str]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    // what is behind the values is often at the end: a Parquet footer, a zip's directory
    let from = if random.below(3) == 0 { bytes.len() * 2 / 3 } else { 0 };
    for _ in 0..1 + random.below(4) {
        change(random, &mut bytes, other, words, from);
    }
    bytes
}

type Entries = Vec<(String, Vec<u8>)>;

fn unzip(bytes: &[u8]) -> Option<Entries> {
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).ok()?;
    let names: Vec<String> =
        archive.file_names().filter_map(|name| Some(name.ok()?.into_owned())).collect();
    let mut entry = |name: &String| {
        let mut content = Vec::new();
        archive.by_name(name).ok()?.read_to_end(&mut content).ok()?;
        Some((name.clone(), content))
    };
    names.iter().map(&mut entry).collect()
}

fn zip_of(entries: &[(String, Vec<u8>)], packed: bool) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let method = match packed {
        true => zip::CompressionMethod::Deflated,
        false => zip::CompressionMethod::Stored,
    };
    let options = zip::write::SimpleFileOptions::default().compression_method(method);
    for (name, content) in entries {
        if archive.start_file(name.clone(), options).is_ok() {
            archive.write_all(content).unwrap();
        }
    }
    archive.finish().unwrap().into_inner()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The checksums of a PNG's chunks made right.
fn mend_png(bytes: &mut [u8]) {
    let mut at = 8;
    while let Some(head) = bytes.get(at..at + 8) {
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let Some(end) = (at + 8).checked_add(length).filter(|end| end + 4 <= bytes.len()) else {
            return;
        };
        let crc = crc32fast::hash(&bytes[at + 4..end]).to_be_bytes();
        bytes[end..end + 4].copy_from_slice(&crc);
        at = end + 4;
    }
}

/// An input made of `seed`, with pieces of `other`.
fn input(random: &mut Random, seed: &Sound, other: &Sound, words: &[&str]) -> Vec<u8> {
    let bytes = &seed.bytes;
    let plain = |random: &mut Random| changed(random, bytes, &other.bytes, words);
    if random.below(2) == 0 {
        return plain(random);
    }
    if bytes.starts_with(b"PK") {
        let Some(mut entries) = unzip(bytes) else { return plain(random) };
        let i = random.below(entries.len());
        let extra = unzip(&other.bytes)
            .and_then(|others| others.into_iter().next_back())
            .unwrap_or_default()
            .1;
        match random.below(8) {
            0 => {
                entries[i].0 = String::from_utf8_lossy(&changed(
                    random,
                    entries[i].0.clone().as_bytes(),
                    b"x",
                    words,
                ))
                .into_owned()
            }
            1 => drop(entries.remove(i)),
            _ => entries[i].1 = changed(random, &entries[i].1.clone(), &extra, words),
        }
        return zip_of(&entries, random.below(2) == 0);
    }
    if bytes.starts_with(b"\x1f\x8b") {
        let mut content = Vec::new();
        if flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut content).is_ok() {
            return gzip(&changed(random, &content, &other.bytes, words));
        }
    }
    if bytes.starts_with(b"\x28\xb5\x2f\xfd")
        && let Ok(content) = zstd::decode_all(&bytes[..])
    {
        let content = changed(random, &content, &other.bytes, words);
        return zstd::encode_all(&content[..], 1).unwrap();
    }
    if bytes.starts_with(b"\x89PNG") {
        let mut bytes = plain(random);
        mend_png(&mut bytes);
        return bytes;
    }
    if bytes.get(8) == Some(&b'{') {
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        if let Some(values) = bytes.get(8 + length..) {
            return match random.below(4) {
                0 => with_header(&bytes[8..8 + length], &changed(random, values, b"", &[])),
                _ => with_header(&changed(random, &bytes[8..8 + length], b"", words), values),
            };
        }
    }
    plain(random)
}

/// The number of the input at work, from 1; 0: none is.
static AT_WORK: AtomicU64 = AtomicU64::new(0);
/// The last panic: its place and its message.
static PANIC: Mutex<String> = Mutex::new(String::new());
/// One target at a time: memory is counted for all threads together.
static TURN: Mutex<()> = Mutex::new(());

fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            if !tweedie::error::is_catching() {
                *PANIC.lock().unwrap_or_else(PoisonError::into_inner) =
                    panic.to_string().replace('\n', " ");
            }
        }));
        std::thread::spawn(|| {
            let (mut last, mut wall, mut seconds) = (0, Instant::now(), 0.0);
            loop {
                std::thread::sleep(Duration::from_millis(500));
                let now = AT_WORK.load(Ordering::Relaxed);
                if now == 0 || now != last {
                    (last, wall, seconds) = (now, Instant::now(), processor_seconds());
                    continue;
                }
                // on a busy machine the clock says little; on an idle wait the processor does
                let took = (processor_seconds() - seconds).max(wall.elapsed().as_secs_f64() / 20.0);
                if took > MOST_SECONDS {
                    eprintln!(
                        "an input takes more than {MOST_SECONDS} seconds; it is the file \
                         last written"
                    );
                    std::process::abort();
                }
            }
        });
    });
}

/// What this process has used of processors; the clock's time where the system does not say.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // user and system time in hundredths, the 12th and 13th field after the name in brackets
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    let ticks: Vec<f64> = fields.filter_map(|field| field.parse().ok()).collect();
    static START: OnceLock<Instant> = OnceLock::new();
    match ticks[..] {
        [user, system] => (user + system) / 100.0,
        _ => START.get_or_init(Instant::now).elapsed().as_secs_f64(),
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a whole number"))
}

fn place() -> PathBuf {
    std::env::var_os("TWEEDIE_FUZZ_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from)
}

/// Files of `tests/data/fuzz/NAME`.
fn kept(name: &str) -> Vec<Sound> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/fuzz").join(name);
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
        .iter()
        .map(|path| {
            sound(path.file_name().unwrap().to_str().unwrap(), std::fs::read(path).unwrap())
        })
        .collect()
}

const TARGETS: u64 = 18;

fn fuzz(target: Target) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    watch();
    let dir = place().join("fuzz").join(target.name);
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    let put = |file: &Sound| {
        let path = dir.join(&file.name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, &file.bytes).unwrap();
    };
    target.beside.iter().for_each(put);
    let mut seeds = target.seeds.clone();
    seeds.extend(kept(target.name));

    let first = setting("TWEEDIE_FUZZ_SEED").unwrap_or(0);
    let seconds = setting("TWEEDIE_FUZZ_SECONDS").map(|all| all as f64 / TARGETS as f64);
    let most =
        setting("TWEEDIE_FUZZ_INPUTS").unwrap_or(if seconds.is_some() { u64::MAX } else { 300 });
    let started = Instant::now();
    let (mut done, mut accepted, mut slowest, mut largest) = (0, 0, 0.0_f64, 0);
    let mut failures: BTreeMap<String, PathBuf> = BTreeMap::new();
    while done < most && seconds.is_none_or(|limit| started.elapsed().as_secs_f64() < limit) {
        let mut random = Random(first << 40 | done);
        let seed = &seeds[random.below(seeds.len())];
        let other = &seeds[random.below(seeds.len())];
        // the first inputs are the sound files themselves, as far as their numbers go
        let bytes = match seeds.get(done as usize) {
            Some(seed) if first == 0 => seed.bytes.clone(),
            _ => input(&mut random, seed, other, target.words),
        };
        let name = match seeds.get(done as usize) {
            Some(whole) if first == 0 => &whole.name,
            _ => &seed.name,
        };
        let file = Sound { name: name.clone(), bytes };
        put(&file);
        let before = LIVE.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        let begun = processor_seconds();
        AT_WORK.store(done + 1, Ordering::Relaxed);
        let result =
            catch_unwind(AssertUnwindSafe(|| (target.read)(&dir, &file.name, random.next())));
        AT_WORK.store(0, Ordering::Relaxed);
        let peak = PEAK.load(Ordering::Relaxed).saturating_sub(before);
        (slowest, largest) = (slowest.max(processor_seconds() - begun), largest.max(peak));
        let failure = match result {
            Err(_) => Some(PANIC.lock().unwrap_or_else(PoisonError::into_inner).clone()),
            Ok(_) if peak > MOST_BYTES => Some(format!("took {peak} bytes")),
            Ok(_) if processor_seconds() - begun > MOST_SECONDS => Some("took too long".into()),
            Ok(good) => {
                accepted += u64::from(good);
                None
            }
        };
        if let Some(what) = failure {
            let place: String = what.chars().take(70).collect();
            if failures.len() < 20 && !failures.contains_key(&place) {
                let failed = place_of_failures(target.name)
                    .join(format!("{done}-{}", file.name.replace('/', "_")));
                std::fs::create_dir_all(failed.parent().unwrap()).unwrap();
                std::fs::write(&failed, &file.bytes).unwrap();
                eprintln!("{}: input {done}, {}: {what}", target.name, failed.display());
                failures.insert(place, failed);
            }
        }
        match target.beside.iter().find(|sound| sound.name == file.name) {
            Some(sound) => put(sound),
            None => std::fs::remove_file(dir.join(&file.name)).unwrap(),
        }
        done += 1;
    }
    eprintln!(
        "{}: {done} inputs, {accepted} accepted, {:.1} s, slowest {slowest:.2} s of a processor, \
         largest {:.0} MB",
        target.name,
        started.elapsed().as_secs_f64(),
        largest as f64 / 1e6
    );
    assert!(
        failures.is_empty(),
        "{}: {} kinds of failure: {failures:#?}",
        target.name,
        failures.len()
    );
    assert!(
        done == 0 || accepted > 0,
        "{}: not one input was accepted, the sound ones neither",
        target.name
    );
    std::fs::remove_dir_all(&dir).unwrap();
}

fn place_of_failures(target: &str) -> PathBuf {
    place().join("fuzz-failures").join(target)
}

/// Reads a table as the program does, and looks at its columns.
fn read_table(dir: &Path, name: &str, choice: u64) -> bool {
    let path = dir.join(name);
    let options = TableOptions {
        missing: if choice & 1 == 0 { Missing::Error } else { Missing::DropRows },
        unique: choice & 6 == 0,
        size: (choice & 24 == 0).then_some([5, 4]),
        crop: (choice & 136 == 128).then_some(Crop::Side(3)),
        skip_corrupt: choice & 32 == 0,
        ..TableOptions::default()
    };
    if choice & 64 == 0 {
        let _ = read_numbers(&path);
    }
    let Ok(table) = Dataset::read_with(path, &options) else { return false };
    assert!(table.rows() > 0 && table.values().len() == table.rows() * table.dim());
    assert!(table.values().iter().all(|v| v.is_finite()));
    let _ = table.check_columns(&Dequantize::None);
    true
}

/// Reads a table as it comes, and takes its rows through their features and back.
fn read_mixed(dir: &Path, name: &str, choice: u64) -> bool {
    let path = dir.join(name);
    let options = TableOptions {
        missing: if choice & 1 == 0 { Missing::Error } else { Missing::DropRows },
        unique: choice & 6 == 0,
        ..TableOptions::default()
    };
    let types = ["", "", "a=category", "b=number,a=drop", "c=date"][(choice >> 3) as usize % 5];
    let types: TypeOptions = types.parse().unwrap();
    let Ok(table) = Dataset::read_as_it_comes(&path, &types, &options) else { return false };
    let schema = table.schema().unwrap();
    let json = serde_json::to_string(schema).unwrap();
    assert_eq!(&serde_json::from_str::<Schema>(&json).unwrap(), schema);
    assert!(schema.lines().iter().all(|line| !line.contains('\n')));
    let layout = MixedLayout::new(schema);
    let rows: Vec<usize> = (0..table.rows().min(50)).collect();
    let features = layout.encode(&table, &rows);
    let numbers: Vec<f64> = features.numbers.iter().map(|&number| number.into()).collect();
    let back = layout.decode(&numbers, &features.codes);
    assert_eq!((back.rows(), back.dim()), (rows.len(), table.dim()));
    back.write(dir.join("written.tsv")).unwrap();
    let _ = std::fs::remove_file(dir.join("written.tsv"));
    Dataset::read_with_schema(&path, schema, &options).is_ok()
}

/// As the program reads tables of numbers, or of anything.
fn read_either(dir: &Path, name: &str, choice: u64) -> bool {
    match choice & (1 << 20) {
        0 => read_mixed(dir, name, choice),
        _ => read_table(dir, name, choice),
    }
}

/// Bytes that stand for many more: read up to what their header claims and one byte more, or not at
/// all.
#[test]
fn bombs_take_little_memory() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let zeros = |head: &[u8], out: &mut dyn Write| {
        out.write_all(head).unwrap();
        let block = vec![0; 1 << 20];
        (0..320).for_each(|_| out.write_all(&block).unwrap());
    };
    let idx = |n: u32| [&[0, 0, 8, 3][..], &n.to_be_bytes(), &[0, 0, 0, 8, 0, 0, 0, 8]].concat();
    for (name, n, says) in [
        ("small-images-idx3-ubyte.gz", 12, "holds more than the 768 bytes"),
        ("true-images-idx3-ubyte.gz", 320 << 14, "335544320 bytes in"),
    ] {
        let file = std::fs::File::create(dir.path().join(name)).unwrap();
        let mut file = flate2::write::GzEncoder::new(file, flate2::Compression::best());
        zeros(&idx(n), &mut file);
        file.finish().unwrap();
        refused(&dir.path().join(name), says);
    }
    let path = dir.path().join("true.npz");
    let mut archive = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
    let options = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Deflated);
    archive.start_file("images.npy", options).unwrap();
    zeros(&npy_array("|u1", "False", "(5242880, 8, 8)", &[]), &mut archive);
    archive.finish().unwrap();
    refused(&path, "335544320 bytes in");
    let path = dir.path().join("true.xlsx");
    let mut archive = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
    archive.start_file("[Content_Types].xml", options).unwrap();
    archive.start_file("xl/worksheets/sheet1.xml", options).unwrap();
    zeros(b"<worksheet>", &mut archive);
    archive.finish().unwrap();
    refused(&path, "unpacks to more than 67108864 bytes");
    let sevens = |out: &mut dyn Write| {
        let block = vec![b'7'; 1 << 20];
        (0..320).for_each(|_| out.write_all(&block).unwrap());
    };
    let path = dir.path().join("true.csv.gz");
    let file = std::fs::File::create(&path).unwrap();
    let mut file = flate2::write::GzEncoder::new(file, flate2::Compression::best());
    sevens(&mut file);
    file.finish().unwrap();
    refused(&path, "more bytes than data are packed into");
    let path = dir.path().join("true.csv.zst");
    let mut file = zstd::Encoder::new(std::fs::File::create(&path).unwrap(), 1).unwrap();
    sevens(&mut file);
    file.finish().unwrap();
    refused(&path, "more bytes than data are packed into");
}

/// Expects an error that says so, at no more than 300 MB.
fn refused(path: &Path, says: &str) {
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let message = Dataset::read_with(path, &TableOptions::default()).unwrap_err().to_string();
    let peak = PEAK.load(Ordering::Relaxed) - before;
    assert!(message.contains(says), "{message}");
    assert!(peak < 300 << 20, "{}: {peak} bytes", path.display());
}

#[test]
fn delimited() {
    let rows: String =
        (0..30).map(|i| format!("{},{:.3},{}\n", i, (i as f64).sin(), i % 7)).collect();
    let seeds = vec![
        sound("a.csv", format!("a,b,c\n{rows}")),
        sound(
            "a.csv",
            format!(
                "\u{feff}\"a\";\"b\";\"c\"\r\n{}",
                rows.replace(',', ";").replace('\n', "\r\n")
            ),
        ),
        sound("a.tsv", rows.replace(',', "\t")),
        sound("a.dat", format!("  x   y z\n{}", rows.replace(',', "   "))),
        sound("a", format!("x|y|z\n{}NA|?|\n\n1|2|\"3\n\"\n", rows.replace(',', "|"))),
        sound("a.csv", "x\n1e300\n-1e-300\n1e39\n16777217\n"),
    ];
    let words = &[
        "\"", "\"\"", "\r", "\n\n", "NA", "nan", "inf", "-", "+1e5", "1e999", ",", ";", "\t",
        "\u{feff}", "\0", "\u{202e}",
    ];
    fuzz(Target {
        name: "delimited",
        seeds,
        words,
        beside: Vec::new(),
        read: Box::new(read_table),
    });
}

/// Texts, dates, codes and holes beside numbers.
fn mixed_text() -> String {
    let row = |i: usize| {
        let day = format!("2013-0{}-{:02} {:02}:30", 1 + i % 9, 1 + i % 28, i % 24);
        let (kind, code) = (["red", "green", "?", "blue"][i % 4], i * 7 % 13);
        let gain = if i.is_multiple_of(3) { i * i } else { 0 };
        format!("{kind},{}.{},{day},{code:03},{gain},{}\n", i % 50, i % 5, i.is_multiple_of(2))
    };
    format!("a,b,c,d,e,f\n{}", (0..60).map(row).collect::<String>())
}

#[test]
fn mixed() {
    let text = mixed_text();
    let body = text.split_once('\n').unwrap().1;
    let seeds = vec![
        sound("a.csv", text.clone()),
        sound("a.csv", body.replace(',', ", ")),
        sound("a.tsv", text.replace(',', "\t").replace(".", ",")),
        sound("a.csv.gz", gzip(text.as_bytes())),
        sound("a.csv.zst", zstd::encode_all(text.as_bytes(), 3).unwrap()),
        sound("a.csv", text.replace("-0", "/0").replace("2013/", "1/").replace(" ", "/2013 ")),
    ];
    let words = &[
        "\"",
        "\r",
        "\n\n",
        "NA",
        "?",
        "-",
        " ",
        "nan",
        "inf",
        "1e999",
        ",",
        "\t",
        "\u{feff}",
        "\0",
        "00",
        "9999-12-31",
        "0000-01-01",
        "1/2/3",
        "T24:61",
        "true",
        "\u{202e}",
        "1e-320",
    ];
    let read = Box::new(read_mixed);
    fuzz(Target { name: "mixed", seeds, words, beside: Vec::new(), read });
}

/// The batch of all types that tables have.
fn mixed_batch() -> arrow_array::RecordBatch {
    use arrow_array::types::Int32Type;
    use arrow_array::{
        ArrayRef, BooleanArray, Date32Array, DictionaryArray, Float64Array, Int64Array,
        RecordBatch, StringArray, TimestampMicrosecondArray,
    };
    let name = |i: usize| ["red", "green", "blue"][i % 3];
    let kinds: StringArray = (0..40).map(|i| (i % 7 != 0).then_some(name(i))).collect();
    let of_list: DictionaryArray<Int32Type> = (0..40).map(name).collect();
    let numbers: Float64Array = (0..40).map(|i| (i % 5 != 0).then_some(i as f64 / 4.0)).collect();
    let whole: Int64Array = (0..40).map(|i| Some(i * i % 17)).collect();
    let truth: BooleanArray = (0..40).map(|i| Some(i % 3 == 0)).collect();
    let days: Date32Array = (0..40).map(|i| Some(15_737 + i)).collect();
    let times: TimestampMicrosecondArray = (0..40).map(|i| Some(i * 3_600_000_000)).collect();
    let columns: [(&str, ArrayRef); 7] = [
        ("a", Arc::new(kinds)),
        ("b", Arc::new(numbers)),
        ("c", Arc::new(days)),
        ("d", Arc::new(of_list)),
        ("e", Arc::new(whole)),
        ("f", Arc::new(truth)),
        ("g", Arc::new(times)),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

#[test]
fn arrow() {
    use arrow_ipc::CompressionType;
    use arrow_ipc::writer::{FileWriter, IpcWriteOptions};
    let batch = mixed_batch();
    let file = |batch: &arrow_array::RecordBatch, compression| {
        let options = IpcWriteOptions::default().try_with_compression(compression).unwrap();
        let mut writer =
            FileWriter::try_new_with_options(Vec::new(), &batch.schema(), options).unwrap();
        writer.write(&batch.slice(0, 25)).unwrap();
        writer.write(&batch.slice(25, 15)).unwrap();
        writer.finish().unwrap();
        writer.into_inner().unwrap()
    };
    let numbers = batch.project(&[1, 4]).unwrap();
    let seeds = vec![
        sound("a.arrow", file(&batch, None)),
        sound("a.feather", file(&batch, Some(CompressionType::LZ4_FRAME))),
        sound("a.feather", file(&batch, Some(CompressionType::ZSTD))),
        sound("a.arrow", file(&numbers, None)),
    ];
    let words = &["ARROW1", "\u{1}\0\0\0", "\x10\0\0\0", "\0\0\0\0\0\0\0\0"];
    let read = Box::new(read_either);
    fuzz(Target { name: "arrow", seeds, words, beside: Vec::new(), read });
}

/// Parquet files with texts, and not with numbers alone.
#[test]
fn mixed_parquet() {
    use parquet::arrow::ArrowWriter;
    use parquet::basic::{Compression, ZstdLevel};
    use parquet::file::properties::WriterProperties;
    let batch = mixed_batch();
    let file = |properties| {
        let mut bytes = Vec::new();
        let mut writer =
            ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        sound("a.parquet", bytes)
    };
    let plain = WriterProperties::builder;
    let zstd = Compression::ZSTD(ZstdLevel::default());
    let mut seeds = vec![
        file(plain().build()),
        file(plain().set_compression(zstd).set_dictionary_enabled(false).build()),
        file(plain().set_compression(Compression::SNAPPY).build()),
    ];
    seeds.extend(parquet_files());
    let words = &["PAR1", "\x15\x02", "\x19\x4c", "\x7f", "\u{0}\u{0}\u{0}\u{0}"];
    let read = Box::new(read_mixed);
    fuzz(Target { name: "mixed-parquet", seeds, words, beside: Vec::new(), read });
}

#[test]
fn excel() {
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/cases");
    let numbers = std::fs::read(case.join("F20-messages/real.xlsx")).unwrap();
    let mut entries = unzip(&numbers).unwrap();
    let row = |i: usize| {
        let r = i + 2;
        format!(
            "<row r=\"{r}\"><c r=\"A{r}\" t=\"s\"><v>{}</v></c><c r=\"B{r}\"><v>{}.5</v></c><c \
             r=\"C{r}\" t=\"b\"><v>{}</v></c><c r=\"D{r}\" t=\"e\"><v>#N/A</v></c></row>",
            i % 3 + 4,
            i * i % 31,
            i % 2
        )
    };
    let header = "<row r=\"1\"><c r=\"A1\" t=\"s\"><v>0</v></c><c r=\"B1\" t=\"s\"><v>1</v></c><c \
                  r=\"C1\" t=\"s\"><v>2</v></c><c r=\"D1\" t=\"s\"><v>3</v></c></row>";
    let main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main";
    let sheet: String = (0..40).map(row).collect();
    let sheet = format!(
        "<worksheet xmlns=\"{main}\"><dimension ref=\"A1:D41\"/><sheetData>{header}\
                         {sheet}</sheetData></worksheet>"
    );
    let texts: String = ["a", "b", "c", "d", "red", "green", "blue"]
        .iter()
        .map(|text| format!("<si><t>{text}</t></si>"))
        .collect();
    for (name, content) in &mut entries {
        if name.ends_with("sheet1.xml") {
            *content = sheet.clone().into_bytes();
        }
    }
    let texts = format!("<sst xmlns=\"{main}\" count=\"7\" uniqueCount=\"7\">{texts}</sst>");
    entries.push(("xl/sharedStrings.xml".into(), texts.into_bytes()));
    let seeds = vec![sound("a.xlsx", numbers), sound("a.xlsx", zip_of(&entries, true))];
    let words = &[
        "<c ",
        "<row ",
        "r=\"XFD1048576\"",
        "r=\"A1\"",
        "s=\"1\"",
        "t=\"s\"",
        "t=\"d\"",
        "<v>",
        "</v>",
        "uniqueCount=\"99999999999\"",
        "count=\"4294967296\"",
        "&lt;",
        "<!--",
        "]]>",
        "numFmtId=\"14\"",
        "../../",
        "encoding=\"UTF-16\"",
    ];
    let read = Box::new(read_either);
    fuzz(Target { name: "excel", seeds, words, beside: Vec::new(), read });
}

/// Types of columns that a user wrote, and schemas that go with a model.
#[test]
fn types_and_schemas() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.csv");
    std::fs::write(&path, mixed_text()).unwrap();
    let options = TableOptions::default();
    let data = Dataset::read_as_it_comes(&path, &TypeOptions::default(), &options).unwrap();
    let schema = serde_json::to_string(data.schema().unwrap()).unwrap();
    let sdv = r#"{"columns": {"a": {"sdtype": "categorical"}, "c": {"sdtype": "datetime",
        "datetime_format": "%Y-%m-%d %H:%M"}, "d": {"sdtype": "id"}}}"#;
    let seeds = vec![
        sound("a.json", r#"{"a": "category", "b": "number", "c": "date:%Y-%m-%d %H:%M"}"#),
        sound("a.json", sdv),
        sound("a.json", format!("{{\"tables\": {{\"t\": {sdv}}}}}")),
        sound("a.toml", "a = \"category\"\nd = \"drop\"\n"),
        sound("schema.json", schema),
    ];
    let words = &[
        "%", "%Q", "%s", "%z", "%+", "%999Y", "%.f", "date:", "number", "null", "\"\"", "1e400",
        "-1", "[]", "{}", "category", "atoms", "grid", "bin",
    ];
    let read = Box::new(move |dir: &Path, name: &str, _: u64| {
        let file = dir.join(name);
        if name == "schema.json" {
            let text = std::fs::read(&file).unwrap();
            let Ok(schema) = serde_json::from_slice::<Schema>(&text) else { return false };
            let _ = schema.lines();
            let layout = MixedLayout::new(&schema);
            let (d, c) = layout.sizes();
            let decoded = layout.decode(&vec![0.5; 3 * d], &vec![0; 3 * c]);
            let _ = decoded.write(dir.join("written.csv"));
            let _ = decoded.write(dir.join("written.parquet"));
            return Dataset::read_with_schema(&path, &schema, &options).is_ok();
        }
        let Ok(types) = TypeOptions::read(&file) else { return false };
        Dataset::read_as_it_comes(&path, &types, &options).is_ok()
    });
    fuzz(Target { name: "types", seeds, words, beside: Vec::new(), read });
}

/// Parquet files by the writer's own means: every encoding of numbers, both page versions, nulls,
/// groups and text.
fn parquet_files() -> Vec<Sound> {
    use parquet::basic::{Compression, Encoding, ZstdLevel};
    use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int32Type, Int64Type};
    use parquet::file::properties::{WriterProperties, WriterVersion};
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;
    let file = |name: &str, schema: &str, properties: WriterProperties| {
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let mut writer =
            SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties)).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let levels: Vec<i16> = (0..40).map(|i| i16::from(i % 5 != 0)).collect();
        while let Some(mut column) = group.next_column().unwrap() {
            use parquet::column::writer::ColumnWriter::*;
            match column.untyped() {
                DoubleColumnWriter(_) => {
                    let values: Vec<f64> = (0..32).map(|i| f64::from(i).sin()).collect();
                    column.typed::<DoubleType>().write_batch(&values, Some(&levels), None).unwrap();
                }
                Int32ColumnWriter(_) => {
                    let values: Vec<i32> = (0..40).map(|i| i * i % 11).collect();
                    column.typed::<Int32Type>().write_batch(&values, None, None).unwrap();
                }
                Int64ColumnWriter(_) => {
                    let values: Vec<i64> = (0..40).map(|i| i * 1000).collect();
                    column.typed::<Int64Type>().write_batch(&values, None, None).unwrap();
                }
                _ => {
                    let values = vec![ByteArray::from("text"); 40];
                    column.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
                }
            }
            column.close().unwrap();
        }
        group.close().unwrap();
        sound(name, writer.into_inner().unwrap())
    };
    let plain = WriterProperties::builder;
    let numbers =
        "message m { required int32 i; optional double x; required int64 n (DECIMAL(10, 2)); }";
    vec![
        file("a.parquet", numbers, plain().build()),
        file("a.parquet", numbers, plain().set_compression(Compression::SNAPPY).build()),
        file(
            "a.parquet",
            numbers,
            plain()
                .set_compression(Compression::ZSTD(ZstdLevel::default()))
                .set_writer_version(WriterVersion::PARQUET_2_0)
                .set_dictionary_enabled(false)
                .build(),
        ),
        file(
            "a.parquet",
            "message m { required int32 i; required int64 n; }",
            plain()
                .set_compression(Compression::LZ4_RAW)
                .set_dictionary_enabled(false)
                .set_encoding(Encoding::DELTA_BINARY_PACKED)
                .build(),
        ),
        file(
            "a.parquet",
            "message m { required int32 i; required group g { required int64 n; required binary s \
             (UTF8); } }",
            plain().build(),
        ),
    ]
}

#[test]
fn parquet() {
    let mut seeds = parquet_files();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    let values: Vec<f64> = (0..60).map(f64::from).collect();
    let types = [CellType::Single, CellType::Double, CellType::Integer];
    write_table(OutputFile::create(&path).unwrap(), &["a", "b", "c"], &types, &values).unwrap();
    seeds.push(sound("a.parquet", std::fs::read(path).unwrap()));
    let words = &["PAR1", "\x15\x02", "\x19\x4c", "\x7f", "\u{0}\u{0}\u{0}\u{0}"];
    fuzz(Target { name: "parquet", seeds, words, beside: Vec::new(), read: Box::new(read_table) });
}

fn npy_array(kind: &str, fortran: &str, shape: &str, values: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{kind}', 'fortran_order': {fortran}, 'shape': {shape}, }}");
    let header = format!("{header:<117}\n");
    [b"\x93NUMPY\x01\0", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), values]
        .concat()
}

const NPY_WORDS: &[&str] = &[
    "'<f4'",
    "'>f8'",
    "'|u1'",
    "'<i8'",
    "'<U4'",
    "'|S70000'",
    "'|b1'",
    "True",
    "False",
    "(",
    ")",
    ",",
    "L",
    "'shape'",
    "'descr'",
    "\\",
    "\n",
    "'",
];

#[test]
fn npy() {
    let floats: Vec<u8> = (0..24).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let bytes: Vec<u8> = (0..96).collect();
    let seeds = vec![
        sound("a.npy", npy_array("<f4", "False", "(8, 3)", &floats)),
        sound("a.npy", npy_array(">i2", "True", "(16, 3)", &bytes)),
        sound("a.npy", npy_array("|u1", "False", "(6, 4, 4)", &bytes)),
        sound("a.npy", npy_array("|u1", "True", "(2, 4, 4, 3)", &bytes)),
        sound("a", npy_array("<f8", "False", "(12,)", &floats)),
    ];
    fuzz(Target {
        name: "npy",
        seeds,
        words: NPY_WORDS,
        beside: Vec::new(),
        read: Box::new(read_table),
    });
}

#[test]
fn npz() {
    let bytes: Vec<u8> = (0..96).collect();
    let entries = vec![
        ("images.npy".to_string(), npy_array("|u1", "False", "(6, 4, 4)", &bytes)),
        ("labels.npy".to_string(), npy_array("<i8", "False", "(6,)", &[1; 48])),
        ("other.npy".to_string(), npy_array("<f4", "False", "(24,)", &bytes)),
    ];
    let seeds =
        vec![sound("a.npz", zip_of(&entries, true)), sound("a.npz", zip_of(&entries[..1], false))];
    fuzz(Target {
        name: "npz",
        seeds,
        words: NPY_WORDS,
        beside: Vec::new(),
        read: Box::new(read_table),
    });
}

#[test]
fn latents() {
    let values: Vec<u8> = (0..24).flat_map(|i| (0.25 * i as f32).to_le_bytes()).collect();
    let array = |name: &str, kind: &str, shape: &str, values: &[u8]| {
        (format!("{name}.npy"), npy_array(kind, "False", shape, values))
    };
    let text = |name: &str, text: &str| {
        let letters: Vec<u8> = text.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect();
        array(name, &format!("<U{}", letters.len() / 4), "()", &letters)
    };
    let image = [3i64, 8, 8].map(i64::to_le_bytes).concat();
    let entries = vec![
        array("latents", "<f4", "(3, 2, 2, 2)", &values),
        text("vae", "toy"),
        text("digest", "0123456789abcdef"),
        array("scale", "<f8", "()", &0.5f64.to_le_bytes()),
        array("shift", "<f8", "()", &0f64.to_le_bytes()),
        array("image", "<i8", "(3,)", &image),
        array("std", "<f4", "(3, 2, 2, 2)", &values),
        array("labels", "<i8", "(3,)", &[0; 24]),
        array("classes", "<U1", "(2,)", &[97, 0, 0, 0, 98, 0, 0, 0]),
    ];
    let seeds =
        vec![sound("a.npz", zip_of(&entries, true)), sound("a.npz", zip_of(&entries[..6], false))];
    fuzz(Target {
        name: "latents",
        seeds,
        words: NPY_WORDS,
        beside: Vec::new(),
        read: Box::new(read_table),
    });
}

#[test]
fn autoencoders() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/reference/autoencoder");
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let weights = "diffusion_pytorch_model.safetensors";
    let files = |name: &str| {
        ["config.json", weights].map(|file| sound(file, read(&format!("{name}/{file}")))).to_vec()
    };
    let words = &[
        "null",
        "true",
        "16384",
        "[]",
        "\"norm_num_groups\": 0,",
        "\"layers_per_block\": 9,",
        "\"latent_channels\": -1,",
        "\"AutoencoderTiny\"",
    ];
    let load = |dir: &Path, _: &str, _: u64| Autoencoder::read(dir, Device::Cpu).is_ok();
    for name in ["kl", "tiny"] {
        let (seeds, beside, read) = (files(name), files(name), Box::new(load));
        fuzz(Target { name: "autoencoder", seeds, words, beside, read });
    }
    let halves = ["tiny_encoder.pth", "tiny_decoder.pth"];
    let halves = halves.map(|name| sound(name, read(&format!("tiny-halves/{name}")))).to_vec();
    let load =
        |dir: &Path, name: &str, _: u64| Autoencoder::read(dir.join(name), Device::Cpu).is_ok();
    fuzz(Target {
        name: "autoencoder-halves",
        seeds: halves.clone(),
        words: &["1.conv.0.weight", "pool.0.weight", "900000.weight"],
        beside: halves,
        read: Box::new(load),
    });
}

#[test]
fn idx() {
    let images =
        [&[0, 0, 8, 3, 0, 0, 0, 6, 0, 0, 0, 4, 0, 0, 0, 4][..], &(0..96).collect::<Vec<u8>>()]
            .concat();
    let labels = [&[0, 0, 8, 1, 0, 0, 0, 6][..], &[0, 1, 2, 0, 1, 2]].concat();
    let seeds = vec![
        sound("t-images-idx3-ubyte", images.clone()),
        sound("t-images-idx3-ubyte.gz", gzip(&images)),
        sound("t-labels-idx1-ubyte", labels.clone()),
    ];
    let beside = vec![sound("t-images-idx3-ubyte", images), sound("t-labels-idx1-ubyte", labels)];
    let read = |dir: &Path, name: &str, choice: u64| {
        let name = if name.contains("labels") { "t-images-idx3-ubyte" } else { name };
        read_table(dir, name, choice)
    };
    fuzz(Target {
        name: "idx",
        seeds,
        words: &["\0\0\x08\x03", "\0\0\x08\x01"],
        beside,
        read: Box::new(read),
    });
}

#[test]
fn cifar() {
    let record = |label: u8| [&[label][..], &vec![label; 3072]].concat();
    let batch = [record(3), record(9)].concat();
    let seeds = vec![sound("data_batch_1.bin", batch.clone()), sound("other.bin", batch)];
    fuzz(Target {
        name: "cifar",
        seeds,
        words: &[],
        beside: Vec::new(),
        read: Box::new(read_table),
    });
}

#[test]
fn imagenet() {
    let entries = vec![
        ("data.npy".to_string(), npy_array("|u1", "False", "(2, 192)", &[7; 384])),
        ("labels.npy".to_string(), npy_array("<i8", "False", "(2,)", &[1; 16])),
    ];
    let batch = |i| sound(&format!("train_data_batch_{i}.npz"), zip_of(&entries, i % 2 == 0));
    let read = |dir: &Path, _: &str, choice: u64| read_table(dir, "", choice);
    fuzz(Target {
        name: "imagenet",
        seeds: vec![batch(1), batch(2), batch(10)],
        words: NPY_WORDS,
        beside: (1..=10).map(batch).collect(),
        read: Box::new(read),
    });
}

#[test]
fn pictures() {
    let colours =
        image::RgbImage::from_fn(6, 5, |x, y| image::Rgb([(40 * x) as u8, (50 * y) as u8, 7]));
    let grey = image::GrayImage::from_fn(6, 5, |x, y| image::Luma([(30 * x + y) as u8]));
    let clear =
        image::RgbaImage::from_fn(6, 5, |x, y| image::Rgba([(40 * x) as u8, 3, 9, (50 * y) as u8]));
    let deep = image::ImageBuffer::<image::Luma<u16>, _>::from_fn(6, 5, |x, y| {
        image::Luma([(9000 * x + y) as u16])
    });
    let file = |name: &str, picture: &image::DynamicImage, format: image::ImageFormat| {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).unwrap();
        sound(name, bytes.into_inner())
    };
    use image::ImageFormat::{Jpeg, Png, WebP};
    let seeds = vec![
        file("a.png", &colours.clone().into(), Png),
        file("a.png", &grey.clone().into(), Png),
        file("a.png", &clear.clone().into(), Png),
        file("a.png", &deep.into(), Png),
        file("a.jpg", &colours.clone().into(), Jpeg),
        file("a.jpg", &grey.into(), Jpeg),
        file("a.webp", &colours.into(), WebP),
        file("a.webp", &clear.into(), WebP),
    ];
    let words = &[
        "IHDR", "PLTE", "tRNS", "IDAT", "IEND", "acTL", "iCCP", "eXIf", "RIFF", "VP8 ", "VP8L",
        "VP8X", "ALPH", "ANIM",
    ];
    let read = |dir: &Path, _: &str, choice: u64| read_table(dir, "", choice);
    fuzz(Target { name: "pictures", seeds, words, beside: Vec::new(), read: Box::new(read) });
}

fn fixture(name: &str) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/reference");
    std::fs::read(root.join(name)).unwrap()
}

fn reference(name: &str) -> Vec<u8> {
    fixture(&format!("metrics/{name}"))
}

/// Reads weights and every number of them.
fn weights(dir: &Path, name: &str, _: u64) -> bool {
    let Ok(tensors) = read_weights(dir.join(name)) else { return false };
    tensors.values().for_each(|x| drop(x.to_kind(Kind::Float).isfinite().all()));
    true
}

#[test]
fn safetensors_files() {
    let header = json!({
        "a": { "dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24] },
        "b": { "dtype": "BF16", "shape": [], "data_offsets": [24, 26] },
        "c": { "dtype": "I64", "shape": [0, 3], "data_offsets": [26, 26] },
        "__metadata__": { "format": "pt" },
    });
    let seeds = vec![sound("a.safetensors", with_header(header.to_string().as_bytes(), &[1; 26]))];
    let words = &[
        "\"F64\"",
        "\"F4\"",
        "\"F8_E4M3\"",
        "\"BOOL\"",
        "\"U8\"",
        "\"I16\"",
        "[0,18446744073709551615]",
        "[9223372036854775807,0]",
        "[]",
        "\"shape\":",
        "\"dtype\":",
        "\"data_offsets\":",
        "{",
        "}",
        ",",
        "\"__metadata__\":{",
    ];
    fuzz(Target { name: "safetensors", seeds, words, beside: Vec::new(), read: Box::new(weights) });
}

#[test]
fn checkpoints() {
    let seeds = vec![
        sound("a.pth", reference("state.pth")),
        sound("a.pth", reference("state-legacy.pth")),
        sound("a.pth", fixture("dit/original/checkpoint.pt")),
    ];
    let words = &[
        "ctorch._utils\n_rebuild_tensor_v2\n",
        "ctorch\nFloatStorage\n",
        "ccollections\nOrderedDict\n",
        "cargparse\nNamespace\n",
        "cos\nsystem\n",
        "\u{1}",
        "(",
        ")",
        "t",
        "R",
        "Q",
        "}",
        "]",
        "u",
        "s",
        ".",
        "h\0",
        "q\0",
        "\x4b\0",
        "J\u{7f}\u{7f}\u{7f}\u{7f}",
    ];
    fuzz(Target { name: "checkpoint", seeds, words, beside: Vec::new(), read: Box::new(weights) });
}

#[test]
fn statistics() {
    let seeds = vec![sound("a.npz", reference("statistics.npz"))];
    let read = |dir: &Path, name: &str, _: u64| FeatureStatistics::read(dir.join(name)).is_ok();
    fuzz(Target {
        name: "statistics",
        seeds,
        words: NPY_WORDS,
        beside: Vec::new(),
        read: Box::new(read),
    });
}

const JSON_WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "[[",
    "\"\"",
    ":",
    ",",
    "null",
    "true",
    "-",
    "1e400",
    "0.0",
    "\"pixels\": 268435456",
    "\"image\": [1, 2, 2],",
    "\"none\"",
    "\"gaussian\"",
    "\"mixture\"",
    "\"isotropic\"",
    "\n[train]\n",
    "= ",
    "\"low-rank\" = ",
    "\u{1b}[31m",
];

/// The files of a run that is begun on `data`, and nothing but read from then on.
fn run_files(dir: &Path, config: &RunConfig) -> Vec<Sound> {
    let prepared = Prepared::read(&config.data, config.seed).unwrap();
    let validation = prepared.validation_rows(100, Seed(1));
    let training = Training::begin(dir, config, &prepared, &validation, None, Device::Cpu).unwrap();
    let line = json!({
        "iteration": 100, "loss": 1.5, "loss_sd": 0.1, "gradient_norm": 1.0, "clipped": 0,
        "skipped": 0, "learning_rate": 0.001, "seconds": 1.0, "waited": 0.1,
    });
    std::fs::write(dir.join("metrics.jsonl"), format!("{line}\n{line}\n")).unwrap();
    let mut run = Run::load(dir, Device::Cpu).unwrap();
    let small =
        VariationalConfig { couplings: 1, components: 1, width: 2, ..VariationalConfig::default() };
    let dequantizer = small.init(&run.data.scaling, run.data.image, Device::Cpu, Seed(2)).unwrap();
    training.dir.write_dequantizer(&dequantizer).unwrap();
    // a run has one writer at a time
    drop(training);
    run.measure_noise(64).unwrap();
    let names = ["config.toml", "data.json", "base.json", "metrics.jsonl", "noise-statistics.json"];
    let weights = ["ema.safetensors", "state.safetensors", "dequantizer.safetensors"];
    names
        .iter()
        .chain(&weights)
        .map(|name| sound(name, std::fs::read(dir.join(name)).unwrap()))
        .collect()
}

/// Loads a run, all its parts, and asks the model about two rows.
fn load(dir: &Path, _: &str, _: u64) -> bool {
    let Ok(run) = Run::load(dir, Device::Cpu) else { return false };
    let _ = (run.dir.metrics(), run.dir.damaged_metrics(), run.dir.state(&run.model));
    let _ = run.dir.dequantizer(&run.data, Device::Cpu);
    let space = run.model.space();
    let x = Tensor::zeros([2, space.dim], (space.kind, Device::Cpu));
    let times = Times::each(vec![0.1, 0.9]);
    let _ = run.model.moments(&Query::new(&x, &times));
    let raw = run.data.scaling.inverse(&vec![0.0; 2 * space.dim as usize]);
    assert_eq!(raw.len(), run.data.names().len() * 2);
    true
}

fn run_target(name: &'static str, make: impl FnOnce(&Path) -> RunConfig) {
    let dir = tempfile::tempdir().unwrap();
    let config = make(dir.path());
    let files = run_files(&dir.path().join("run"), &config);
    fuzz(Target {
        name,
        seeds: files.clone(),
        words: JSON_WORDS,
        beside: files,
        read: Box::new(load),
    });
}

#[test]
fn runs_of_tables() {
    run_target("run", |dir| {
        let path = dir.join("t.csv");
        let rows: String = (0..80)
            .map(|i| format!("{},{:.3}\n", i * i % 17, (f64::from(i) * 0.7).sin()))
            .collect();
        std::fs::write(&path, format!("n,x\n{rows}")).unwrap();
        let mut config = RunConfig::default();
        config.data.source = path.display().to_string();
        config.data.scaling.dequantize = Dequantize::Integers;
        config.base.components = vec![1];
        let mlp = MlpConfig { width: 4, depth: 1, frequencies: 1, ..MlpConfig::default() };
        config.model.network = NetworkConfig::Mlp(mlp);
        config.model.head.as_mut().unwrap().structure = tweedie::model::Structure::LowRank(1);
        config
    });
}

fn small_unet(shape: [i64; 3]) -> UNetConfig {
    UNetConfig {
        shape,
        widths: vec![4, 4],
        attention: vec![false, true],
        groups: 2,
        head_widths: vec![4, 4],
        steps: 10,
        ..UNetConfig::default()
    }
}

#[test]
fn runs_of_images() {
    run_target("image-run", |dir| {
        let path = dir.join("images.npy");
        let levels: Vec<u8> = (0..640).map(|i| (i * i % 251) as u8).collect();
        std::fs::write(&path, npy_array("|u1", "False", "(40, 4, 4)", &levels)).unwrap();
        let mut config = RunConfig::default();
        config.data.source = path.display().to_string();
        config.base.kind = tweedie::model::BaseKind::Isotropic;
        config.model.network = NetworkConfig::UNet(small_unet([1, 4, 4]));
        config.model.head.as_mut().unwrap().structure = tweedie::model::Structure::LowRank(0);
        config
    });
}

#[test]
fn diffusers_folders() {
    let dir = tempfile::tempdir().unwrap();
    let net = small_unet([1, 4, 4]).init(0, Device::Cpu, Seed(0)).unwrap();
    write_unet(&net, &dir.path().join("unet")).unwrap();
    let read = |name: &str| std::fs::read(dir.path().join("unet").join(name)).unwrap();
    let weights = "diffusion_pytorch_model.safetensors";
    let part = "part.safetensors";
    let map = json!({ "weight_map": { "conv_in.weight": part, "conv_in.bias": part } });
    let scheduler = json!({
        "_class_name": "DDPMScheduler", "num_train_timesteps": 10, "beta_start": 0.0001,
        "beta_end": 0.02, "beta_schedule": "linear", "prediction_type": "epsilon",
        "variance_type": "fixed_small",
    });
    let whole = vec![
        sound("model_index.json", json!({ "_class_name": "DDPMPipeline" }).to_string()),
        sound("scheduler/scheduler_config.json", scheduler.to_string()),
        sound("unet/config.json", read("config.json")),
        sound(&format!("unet/{weights}"), read(weights)),
    ];
    let mut seeds = whole.clone();
    seeds.push(sound("unet/diffusion_pytorch_model.safetensors.index.json", map.to_string()));
    let beside = [whole, vec![sound("unet/part.safetensors", read(weights))]].concat();
    let out = dir.path().join("out");
    let import = |dir: &Path, name: &str, _: u64| {
        // the index is read where the whole file is not there
        let (here, away) = (dir.join("unet").join(weights), dir.join("unet/away"));
        let parts = name.ends_with("index.json");
        if parts {
            std::fs::rename(&here, &away).unwrap();
        }
        let good = import(dir, None, &out, Device::Cpu).is_ok();
        if parts {
            std::fs::rename(&away, &here).unwrap();
        }
        let _ = std::fs::remove_dir_all(&out);
        good
    };
    let words = &[
        "16384",
        "[16384, 16384]",
        "[]",
        "\"AttnDownBlock2D\"",
        "\"DownBlock2D\"",
        "\"..\"",
        "\".\"",
        "\"\"",
        "\"/etc/hostname\"",
        "null",
        "true",
        "{",
        "}",
        ":",
        ",",
        "\"out_channels\": 2,",
        "\"num_class_embeds\": 3,",
        "\"norm_num_groups\": 0,",
        "[0,18446744073709551615]",
        "\"shape\":[]",
        "\"sample_size\": [4, 4],",
    ];
    fuzz(Target { name: "diffusers", seeds, words, beside, read: Box::new(import) });
}

#[test]
fn transformers() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let good = |imported: bool| {
        let _ = std::fs::remove_dir_all(&out);
        imported
    };
    let folder = ["config.json", "diffusion_pytorch_model.safetensors"];
    let mut seeds: Vec<_> = folder
        .map(|name| sound(&format!("transformer/{name}"), fixture(&format!("dit/patch-4/{name}"))))
        .into();
    let index = json!({ "_class_name": "DiTPipeline", "id2label": { "0": "a", "1": "b" } });
    seeds.push(sound("model_index.json", index.to_string()));
    let scheduler = json!({ "_class_name": "DDIMScheduler", "num_train_timesteps": 10 });
    seeds.push(sound("scheduler/scheduler_config.json", scheduler.to_string()));
    let words = &[
        "\"out_channels\": 6,",
        "\"sample_size\": 4096,",
        "\"patch_size\": 1,",
        "\"num_layers\": 1000,",
        "\"num_embeds_ada_norm\": null,",
        "16384",
        "null",
        "0",
        "-1",
        "[0,18446744073709551615]",
        "\"shape\":[]",
    ];
    let read = |dir: &Path, _: &str, _: u64| good(import(dir, None, &out, Device::Cpu).is_ok());
    let beside = seeds.clone();
    fuzz(Target { name: "dit", seeds, words, beside, read: Box::new(read) });

    let seeds = vec![sound("a.pt", fixture("dit/original/checkpoint.pt"))];
    let read = |dir: &Path, name: &str, _: u64| {
        good(import_dit_checkpoint(&dir.join(name), Some(2), None, &out, Device::Cpu).is_ok())
    };
    let words = &["M\u{1}\0", "K\u{8}", "K\0", "(", "t", "R", "h\0", "ema"];
    let beside = Vec::new();
    fuzz(Target { name: "dit-checkpoint", seeds, words, beside, read: Box::new(read) });
}
