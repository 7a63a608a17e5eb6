// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask run`: build what is not fresh, then become `eco run`.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::build;
use crate::workspace::Workspace;

/// Does not return when it succeeds: this process is replaced, so that stdin, stdout,
/// signals and exit status are the command's own.
pub(crate) fn main(workspace: &Workspace, args: &[OsString]) -> Result<ExitCode> {
    build::release_quietly(workspace)?;
    let eco = workspace.release_dir().join("eco");
    let mut command = Command::new(&eco);
    command.arg("run").args(args);
    forget_cargo(&mut command, &workspace.target);
    Err(command.exec()).with_context(|| format!("cannot start {}", eco.display()))
}

/// Takes out of the environment what cargo and rustup put in to run us: the measured
/// command may be a cargo of its own, with another toolchain and other libraries.
fn forget_cargo(command: &mut Command, target: &Path) {
    for (name, _) in std::env::vars_os() {
        if is_cargos(&name) {
            command.env_remove(name);
        }
    }
    // Rustup sets the variable for us, except where it was the person who had set it.
    if std::env::var_os("RUSTUP_TOOLCHAIN_SOURCE").is_none_or(|source| source != "env") {
        command.env_remove("RUSTUP_TOOLCHAIN");
    }
    if let Some(libraries) = std::env::var_os("LD_LIBRARY_PATH") {
        match without_cargos_libraries(&libraries, target) {
            Some(kept) => command.env("LD_LIBRARY_PATH", kept),
            None => command.env_remove("LD_LIBRARY_PATH"),
        };
    }
}

fn is_cargos(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else {
        return false;
    };
    matches!(
        name,
        "CARGO" | "RUST_RECURSION_COUNT" | "RUSTUP_TOOLCHAIN_SOURCE"
    ) || name.starts_with("CARGO_MANIFEST_")
        || name.starts_with("CARGO_PKG_")
}

fn without_cargos_libraries(libraries: &OsStr, target: &Path) -> Option<OsString> {
    let kept: Vec<_> = std::env::split_paths(libraries)
        .filter(|path| !path.starts_with(target) && !is_toolchains(path))
        .collect();
    if kept.is_empty() {
        None
    } else {
        std::env::join_paths(kept).ok()
    }
}

fn is_toolchains(path: &Path) -> bool {
    let rustlib = path.components().any(|part| part.as_os_str() == "rustlib");
    rustlib || path.join("rustlib").is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measured_command_does_not_inherit_cargos_variables() {
        for name in [
            "CARGO",
            "CARGO_PKG_NAME",
            "CARGO_MANIFEST_DIR",
            "RUST_RECURSION_COUNT",
        ] {
            assert!(is_cargos(OsStr::new(name)), "{name}");
        }
        for name in ["CARGO_HOME", "CARGO_TARGET_DIR", "PATH", "RUST_BACKTRACE"] {
            assert!(!is_cargos(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn only_cargos_part_of_the_library_path_goes() {
        let target = Path::new("/clone/target");
        let cargos = "/clone/target/debug/deps:/x/lib/rustlib/x86_64-unknown-linux-gnu/lib";
        assert_eq!(without_cargos_libraries(OsStr::new(cargos), target), None);
        let mixed = format!("{cargos}:/opt/cuda/lib64");
        assert_eq!(
            without_cargos_libraries(OsStr::new(&mixed), target),
            Some("/opt/cuda/lib64".into())
        );
    }
}
