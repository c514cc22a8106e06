//! Files by tests/reference/metrics.py (torch 2.11.0), and files that are none.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tch::{Kind, Tensor};

use super::read;

fn values(x: &Tensor) -> Vec<f64> {
    Vec::try_from(x.to_kind(Kind::Double).contiguous().view(-1)).unwrap()
}

fn reference(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/reference/metrics").join(name)
}

const LAYOUTS: [&str; 2] = ["state.pth", "state-legacy.pth"];

/// Both layouts of `torch.save`: views of one storage, transposes, parameters, scalars, empty
/// tensors, half precision.
#[test]
fn reads_both_layouts() {
    for name in LAYOUTS {
        let state = read(&std::fs::read(reference(name)).unwrap()).unwrap();
        let found = |name: &str| (state[name].kind(), state[name].size(), values(&state[name]));
        let counting = |range: std::ops::Range<u8>| range.map(f64::from).collect::<Vec<f64>>();
        assert_eq!(state.len(), 6, "{name}");
        assert_eq!(found("first"), (Kind::Float, vec![2, 3], counting(0..6)));
        assert_eq!(found("second"), (Kind::Float, vec![8], counting(4..12)));
        assert_eq!(found("turned"), (Kind::Float, vec![3, 2], vec![0.0, 3.0, 1.0, 4.0, 2.0, 5.0]));
        assert_eq!(found("count"), (Kind::Int64, vec![], vec![7.0]));
        assert_eq!(found("half"), (Kind::Half, vec![2], vec![0.5, -2.0]));
        assert_eq!(found("none"), (Kind::Float, vec![0, 3], vec![]));
    }
}

fn message(bytes: &[u8]) -> String {
    read(bytes).unwrap_err()
}

/// What a pickle may run elsewhere is refused by name here.
#[test]
fn runs_nothing() {
    // pickle.dumps of an object whose __reduce__ is (os.system, ("echo hello",)), protocols 0, 2
    // and 4
    let system: [&[u8]; 3] = [
        b"cposix\nsystem\np0\n(Vecho hello\np1\ntp2\nRp3\n.",
        b"\x80\x02cposix\nsystem\nq\x00X\n\x00\x00\x00echo helloq\x01\x85q\x02Rq\x03.",
        b"\x80\x04\x95%\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\
          \x8c\necho hello\x94\x85\x94R\x94.",
    ];
    for bytes in system {
        let message = message(bytes);
        assert!(
            message.contains("'posix.system'") && message.contains("nothing was run"),
            "{message}"
        );
    }
    // within a real checkpoint
    let harmless = b"torch\nFloatStorage";
    let replaced = |bytes: &[u8]| {
        let place = bytes.windows(harmless.len()).position(|window| window == harmless).unwrap();
        [&bytes[..place], b"os\nsystem", &bytes[place + harmless.len()..]].concat()
    };
    let legacy = std::fs::read(reference("state-legacy.pth")).unwrap();
    let mut archive =
        zip::ZipArchive::new(std::fs::File::open(reference("state.pth")).unwrap()).unwrap();
    let mut changed = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for i in 0..archive.len() {
        let mut entry = archive.by_index(i).unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let name = entry.name().unwrap().into_owned();
        if name.ends_with("data.pkl") {
            content = replaced(&content);
        }
        let stored = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored);
        changed.start_file(name, stored).unwrap();
        changed.write_all(&content).unwrap();
    }
    for bytes in [replaced(&legacy), changed.finish().unwrap().into_inner()] {
        let message = message(&bytes);
        assert!(message.contains("'os.system'"), "{message}");
    }
    assert!(message(b"\x80\x02K\x01.").contains("not of torch.save"));
    assert!(message(b"").contains("cut short"));
    assert!(message(b"PK\x05\x06................").contains("zip archive"));
}

/// A file cut anywhere is an error.
#[test]
fn cut_files_are_errors() {
    for name in LAYOUTS {
        let bytes = std::fs::read(reference(name)).unwrap();
        for end in 0..bytes.len() {
            message(&bytes[..end]);
        }
    }
}

/// Whatever the bytes, an error or tensors every element of which lies within its storage.
fn does_no_harm(bytes: &[u8]) {
    if let Ok(tensors) = read(bytes) {
        tensors.values().for_each(|x| drop(values(x)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Whatever the bytes, an error or tensors, never a panic.
    #[test]
    fn damaged_files_do_no_harm(
        legacy in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = std::fs::read(reference(LAYOUTS[usize::from(legacy)])).unwrap();
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        does_no_harm(&bytes);
    }

    /// The same of programs that are not even close to a checkpoint.
    #[test]
    fn arbitrary_pickles_do_no_harm(
        codes in prop::collection::vec(
            prop::sample::select(
                &b"\x80\x85\x86\x87\x88\x8a\x8c\x93\x94\x95(.0NJKMGUTX)t]ae}suqrhjcQRb\
                   \x00\x01\x02\xff"[..],
            ),
            0..40,
        ),
    ) {
        does_no_harm(&[b"\x80\x02".as_slice(), &codes].concat());
    }
}
