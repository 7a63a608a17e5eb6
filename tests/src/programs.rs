// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where the programs under test are, and the workloads that they measure.

use std::{
    env, fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

/// Names the folder of `eco` and `eco-agent`; `cargo xtask test` sets it.
pub const BIN_DIR: &str = "ECO_BIN_DIR";

/// The `eco` under test.
#[must_use]
pub fn eco() -> PathBuf {
    folder().join("eco")
}

/// The `eco-agent` under test.
#[must_use]
pub fn eco_agent() -> PathBuf {
    folder().join("eco-agent")
}

/// This crate's own `workload`, which cargo builds beside whatever runs this.
#[must_use]
pub fn workload() -> PathBuf {
    beside_this("workload")
}

/// This crate's own `keeper` of servers, likewise.
#[must_use]
pub fn keeper() -> PathBuf {
    beside_this("keeper")
}

/// eco-history's example `month`, which `cargo xtask bench history` builds.
#[must_use]
pub fn history_month() -> PathBuf {
    folder().join("examples/month")
}

/// Copies a program to where any user may run it: a clone need not be readable to others.
///
/// # Errors
/// When it cannot be copied.
pub fn publish(program: &Path, folder: &Path) -> io::Result<PathBuf> {
    let copy = folder.join(program.file_name().unwrap_or_default());
    // Not by this process: another thread's fork would hold the copy open for writing, and what
    // is being written cannot be run.
    let status = Command::new("install")
        .args(["-m", "755"])
        .arg(program)
        .arg(&copy)
        .status()?;
    if status.success() {
        Ok(copy)
    } else {
        Err(io::Error::other(format!(
            "{} cannot be copied: {status}",
            program.display()
        )))
    }
}

/// A new folder that every user may enter.
///
/// # Errors
/// When it cannot be made.
pub fn public_folder() -> io::Result<tempfile::TempDir> {
    let folder = tempfile::Builder::new().prefix("eco-test-").tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    Ok(folder)
}

fn beside_this(name: &str) -> PathBuf {
    let own = env::current_exe().unwrap_or_default();
    let beside = own.parent().unwrap_or(Path::new("."));
    // Test programs are one folder deeper than plain ones.
    let folder = if beside.ends_with("deps") {
        beside.parent().unwrap_or(beside)
    } else {
        beside
    };
    folder.join(name)
}

fn folder() -> PathBuf {
    env::var_os(BIN_DIR)
        .filter(|dir| !dir.is_empty())
        .map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release"),
            PathBuf::from,
        )
}
