//! Weights that others trained, by the kind of their file. What is in a checkpoint is tested where
//! it is read.

use std::path::Path;

use tweedie::data::read_weights;

fn message(name: &str, bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let message = read_weights(&path).unwrap_err().to_string();
    assert!(message.contains(name), "{message}");
    message
}

/// A checkpoint is known by its bytes or its name, and is an error with the name of the file.
#[test]
fn files_are_told_from_weights() {
    assert!(message("image.png", b"\x89PNG\r\n\x1a\n....").contains("neither safetensors nor"));
    assert!(message("w.safetensors", b"\x02\0\0\0\0\0\0\0{").contains("damaged or cut short"));
    assert!(message("data.zip", b"PK\x05\x06................").contains("zip archive"));
    assert!(message("weights.pth", b"").contains("cut short"));
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/reference/metrics");
    for name in ["state.pth", "state-legacy.pth"] {
        assert_eq!(read_weights(reference.join(name)).unwrap().len(), 6, "{name}");
    }
}
