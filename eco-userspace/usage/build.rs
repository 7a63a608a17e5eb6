// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Builds eco-ebpf for the kernel and leaves the object for `include_bytes!`.
//!
//! Its cargo runs in a target folder of its own (`target/ebpf`), shared by all profiles, so it
//! neither waits for nor spoils the one that is running now. Where the linker is missing the
//! build goes on with an empty object, and says what will be missing at run time.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

const TARGET: &str = "bpfel-unknown-none";
/// Keep in step with xtask/src/setup.rs.
const LINKER: &str = "bpf-linker-0.10.3";

fn main() {
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let root = manifest
        .ancestors()
        .nth(2)
        .map(Path::to_path_buf)
        .unwrap_or_default();
    for watched in [
        "eco-ebpf",
        "eco-common",
        "Cargo.lock",
        "rust-toolchain.toml",
    ] {
        println!("cargo::rerun-if-changed={}", root.join(watched).display());
    }
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=ECO_TOOLS");

    let embedded = PathBuf::from(variable("OUT_DIR")).join("eco-ebpf.o");
    let built = linker_folder().and_then(|folder| build(&root, &folder));
    let outcome = match built {
        Ok(object) => fs::copy(object, &embedded)
            .map(drop)
            .map_err(|e| e.to_string()),
        Err(why) => {
            println!("cargo::warning=eBPF programs not built: {why}");
            println!(
                "cargo::warning=this build counts CPU time through procfs only; \
                 `cargo xtask setup` brings what is missing"
            );
            fs::write(&embedded, []).map_err(|e| e.to_string())
        }
    };
    if let Err(why) = outcome {
        println!("cargo::error={}: {why}", embedded.display());
    }
}

/// The folder that holds `bpf-linker`: the project's tool folder, else one on PATH.
fn linker_folder() -> Result<PathBuf, String> {
    let mut folders = Vec::new();
    if let Some(tools) = tool_folder() {
        let folder = tools.join(LINKER).join("bin");
        // Named even while absent, so that its arrival triggers a rebuild.
        println!(
            "cargo::rerun-if-changed={}",
            folder.join("bpf-linker").display()
        );
        folders.push(folder);
    }
    folders.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    folders
        .into_iter()
        .find(|folder| folder.join("bpf-linker").is_file())
        .ok_or_else(|| "bpf-linker 0.10.3 was not found".into())
}

fn tool_folder() -> Option<PathBuf> {
    if let Some(tools) = env::var_os("ECO_TOOLS") {
        return Some(tools.into());
    }
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")))?;
    Some(cache.join("eco").join("tools"))
}

fn build(root: &Path, linker: &Path) -> Result<PathBuf, String> {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let target = root.join(target).join("ebpf");
    let old_path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths(
        [linker.to_path_buf()]
            .into_iter()
            .chain(env::split_paths(&old_path)),
    )
    .map_err(|e| e.to_string())?;
    let arch = variable("CARGO_CFG_TARGET_ARCH");

    let mut cargo = Command::new(variable("CARGO"));
    // What cargo and clippy set for the host's compiler would reach the kernel's.
    for inherited in [
        "RUSTC",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "CLIPPY_ARGS",
        "CARGO_BUILD_TARGET",
    ] {
        cargo.env_remove(inherited);
    }
    let output = cargo
        .current_dir(root)
        .env("PATH", path)
        .env("CARGO_TARGET_DIR", &target)
        // `-Z build-std` on the pinned stable compiler: `core` for the kernel has no binary.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "2")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env(
            "RUSTFLAGS",
            format!("--cfg=bpf_target_arch=\"{arch}\" -Cdebuginfo=2 -Clink-arg=--btf"),
        )
        .args([
            "build",
            "--release",
            "--package",
            "eco-ebpf",
            "--target",
            TARGET,
        ])
        .args(["-Z", "build-std=core"])
        .args(features())
        .output()
        .map_err(|e| format!("cargo does not start: {e}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let tail: Vec<&str> = said.lines().rev().take(12).collect();
        for line in tail.iter().rev() {
            println!("cargo::warning={line}");
        }
        return Err(format!(
            "`cargo build --package eco-ebpf` ended with {}",
            output.status
        ));
    }
    Ok(target.join(TARGET).join("release").join("eco-ebpf"))
}

/// The kernel programs speak only in a build that was asked to pass it on.
fn features() -> &'static [&'static str] {
    if env::var_os("CARGO_FEATURE_KERNEL_LOG").is_some() {
        &["--features", "log"]
    } else {
        &[]
    }
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_default()
}
