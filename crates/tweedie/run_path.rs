//! Writes the LibTorch directory into the binaries' run path, so that they start without
//! `LD_LIBRARY_PATH`. A directory given by `LD_LIBRARY_PATH` at run time still comes first.

/// Writes the run path, as a build script or for one that does more.
pub fn main() {
    println!("cargo:rerun-if-changed=../tweedie/run_path.rs");
    if let Ok(directory) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{directory}");
        // Without new-style tags the path would win over LD_LIBRARY_PATH.
        if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
            println!("cargo:rustc-link-arg=-Wl,--enable-new-dtags");
        }
    }
}
