//! Refuses to build for Lambda into another target directory than `target`.
//!
//! The SAM CLI copies `target/lambda/…/bootstrap`. If `CARGO_TARGET_DIR` is set, older versions of it
//! package no bootstrap, or the one of an earlier build.

use std::env::{var, vars_os};
use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=CARGO_TARGET_DIR");
    let is_for_lambda = vars_os().any(|(name, _)| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_LAMBDA_") || name.starts_with("CARGO_ZIGBUILD_")
    });
    let is_release = var("PROFILE").is_ok_and(|profile| profile == "release");
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let project = var("CARGO_MANIFEST_DIR").unwrap_or_default();
    let target = real(&Path::new(&project).join("target"));
    let out = real(Path::new(&var("OUT_DIR").unwrap_or_default()));
    if is_for_lambda && is_release && !out.starts_with(&target) {
        println!(
            "cargo::error=`CARGO_TARGET_DIR` is set, so `sam build` may package no bootstrap or an old one; unset it and build again"
        );
    }
}
