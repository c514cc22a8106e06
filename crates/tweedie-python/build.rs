//! Lets the extension module find LibTorch where an installed `torch` has it: beside the package.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let origin = match std::env::var("CARGO_CFG_TARGET_OS").as_deref() {
        Ok("macos") => "@loader_path",
        _ => "$ORIGIN",
    };
    println!("cargo:rustc-link-arg-cdylib=-Wl,-rpath,{origin}/../torch/lib");
}
