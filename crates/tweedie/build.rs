//! Compiles what binds parts of LibTorch that `tch` does not (`src/native`), and sets the binaries'
//! run path.

mod run_path;

use std::path::{Path, PathBuf};

/// The headers of Gloo that LibTorch's header of its process group includes, and comes without:
/// `c10d.cpp` declares what is needed of them.
const GLOO: [&str; 5] =
    ["algorithm.h", "common/error.h", "context.h", "rendezvous/store.h", "transport/device.h"];

fn main() {
    run_path::main();
    println!("cargo:rerun-if-changed=build.rs");
    if let Ok(directory) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        compile(Path::new(&directory)).expect("the output directory is ours");
    }
}

/// Compiles the sources against the headers beside LibTorch's libraries.
fn compile(libraries: &Path) -> std::io::Result<()> {
    println!("cargo:rerun-if-changed=src/native");
    println!("cargo:rerun-if-env-changed=LIBTORCH_INCLUDE");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));
    for header in GLOO {
        let path = out.join("gloo").join(header);
        std::fs::create_dir_all(path.parent().expect("a file in a directory"))?;
        std::fs::write(path, "")?;
    }
    let torch = std::env::var_os("LIBTORCH_INCLUDE").map(PathBuf::from);
    let torch = torch.unwrap_or_else(|| libraries.join(".."));
    cc::Build::new()
        .cpp(true)
        .pic(true)
        .warnings(false)
        .std("c++17")
        .include(&out)
        .include(torch.join("include"))
        .include(torch.join("include/torch/csrc/api/include"))
        .files(["c10d", "profile", "recompute"].map(|name| format!("src/native/{name}.cpp")))
        .compile("tweedie_native");
    Ok(())
}
