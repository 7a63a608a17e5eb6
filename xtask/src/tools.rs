// SPDX-License-Identifier: Apache-2.0 OR MIT
//! eco's own tool folder: programs that the build needs and that no package manager is
//! sure to have, each at one pinned version.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::workspace::{Workspace, shown, succeed};

/// Links eBPF objects. 0.10.3 loads the LLVM of the Rust toolchain that calls it; later
/// versions want one from the system.
pub(crate) const BPF_LINKER: Tool = Tool {
    name: "bpf-linker",
    version: "0.10.3",
    opt_level: "1",
};

/// Checks licences and sources of dependencies. Only `lint` needs it. It runs for a second
/// and takes minutes to compile, so it is not optimised at all.
pub(crate) const CARGO_DENY: Tool = Tool {
    name: "cargo-deny",
    version: "0.20.2",
    opt_level: "0",
};

/// A program on crates.io, at the version that eco is tested with.
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    /// How much the compiler optimises it: 0 to 3.
    opt_level: &'static str,
}

impl Tool {
    /// Where the program is, whether it is installed or not.
    pub(crate) fn binary(&self, folder: &Folder) -> PathBuf {
        self.home(folder).join("bin").join(self.name)
    }

    /// Installs the program where it is absent; says so on stderr, since it takes a while.
    ///
    /// # Errors
    /// When the folder cannot be written or `cargo install` fails. A failed or interrupted
    /// install leaves nothing that a later call would take for the program.
    pub(crate) fn ensure(&self, workspace: &Workspace, folder: &Folder) -> Result<PathBuf> {
        let binary = self.binary(folder);
        if binary.is_file() {
            return Ok(binary);
        }
        let lock = folder.lock()?;
        if binary.is_file() {
            return Ok(binary);
        }
        eprintln!(
            "setup: {} {}: installing into {} (about a minute or two on 2 cores)",
            self.name,
            self.version,
            self.home(folder).display(),
        );
        let staging = folder.path.join(".staging");
        remove_dir(&staging)?;
        let root = staging.join("root");
        // Cargo reads nothing from stdin; holding the lock there, it keeps it even when we
        // are killed, so that the next setup waits for it to end with the folder.
        let stdin = lock.try_clone().context("cannot hand the lock to cargo")?;
        succeed(
            self.install_command(workspace, &staging, &root)?
                .stdin(stdin),
        )?;
        let home = self.home(folder);
        remove_dir(&home)?;
        fs::rename(&root, &home)
            .with_context(|| format!("cannot move {} to {}", root.display(), home.display()))?;
        remove_dir(&staging)?;
        Ok(binary)
    }

    fn home(&self, folder: &Folder) -> PathBuf {
        folder.path.join(format!("{}-{}", self.name, self.version))
    }

    fn install_command(
        &self,
        workspace: &Workspace,
        staging: &Path,
        root: &Path,
    ) -> Result<Command> {
        let mut cargo = workspace.cargo();
        cargo
            .args([
                "install",
                self.name,
                "--version",
                self.version,
                "--locked",
                "--root",
            ])
            .arg(root)
            .env("CARGO_TARGET_DIR", staging.join("target"))
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", self.opt_level)
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
            .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
            // Flags meant for eco's own build must not reach a tool's.
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env_remove("CARGO_BUILD_TARGET")
            // Or cargo warns that the staging folder is not in it.
            .env("PATH", in_front_of_path(root.join("bin"))?);
        Ok(cargo)
    }
}

/// The folder that the tools are in, shared by all clones of one person.
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// `$ECO_TOOLS`, else `$XDG_CACHE_HOME/eco/tools`, else `~/.cache/eco/tools`. The same
    /// rule stands in eco-userspace/usage/build.rs, which must work without xtask.
    ///
    /// # Errors
    /// When none of the three variables is set.
    pub(crate) fn locate() -> Result<Self> {
        let path = locate(|name| std::env::var_os(name).filter(|value| !value.is_empty()))
            .context("no place for tools: none of ECO_TOOLS, XDG_CACHE_HOME and HOME is set")?;
        let path = std::path::absolute(&path)
            .with_context(|| format!("bad tool folder {}", path.display()))?;
        Ok(Self { path })
    }

    /// A folder in it, for what is locked on its own.
    pub(crate) fn within(&self, name: &str) -> Self {
        Self {
            path: self.path.join(name),
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// `PATH` with bpf-linker in front.
    ///
    /// # Errors
    /// When the folder's own name contains the separator of `PATH`.
    pub(crate) fn search_path(&self) -> Result<OsString> {
        in_front_of_path(BPF_LINKER.home(self).join("bin"))
    }

    /// One install at a time, also between clones: they share the staging folder, which is
    /// therefore never left behind twice.
    pub(crate) fn lock(&self) -> Result<File> {
        fs::create_dir_all(&self.path)
            .with_context(|| format!("cannot create the tool folder {}", self.path.display()))?;
        let path = self.path.join(".lock");
        let wrong = || format!("cannot lock {}", path.display());
        let file = File::create(&path).with_context(wrong)?;
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {
                eprintln!(
                    "setup: waiting for another setup in {}",
                    self.path.display()
                );
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(wrong),
        }
        file.lock().with_context(wrong)?;
        Ok(file)
    }
}

/// How a person can install a tool that setup could not.
pub(crate) fn by_hand(tool: &Tool) -> String {
    let mut cargo = Command::new("cargo");
    cargo.args(["install", tool.name, "--version", tool.version, "--locked"]);
    shown(&cargo)
}

fn locate(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    if let Some(tools) = variable("ECO_TOOLS") {
        return Some(tools.into());
    }
    let cache = match variable("XDG_CACHE_HOME") {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(variable("HOME")?).join(".cache"),
    };
    Some(cache.join("eco").join("tools"))
}

fn in_front_of_path(folder: PathBuf) -> Result<OsString> {
    let inherited = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(std::iter::once(folder).chain(std::env::split_paths(&inherited)))
        .context("the tool folder's path cannot stand in PATH")
}

/// Removes a folder that may be there.
pub(crate) fn remove_dir(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn located(variables: &[(&str, &str)]) -> Option<PathBuf> {
        locate(|name| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.into())
        })
    }

    #[test]
    fn the_tool_folder_is_the_first_of_three_that_is_set() {
        let all = [
            ("ECO_TOOLS", "/t"),
            ("XDG_CACHE_HOME", "/x"),
            ("HOME", "/h"),
        ];
        assert_eq!(located(&all), Some("/t".into()));
        assert_eq!(located(&all[1..]), Some("/x/eco/tools".into()));
        assert_eq!(located(&all[2..]), Some("/h/.cache/eco/tools".into()));
        assert_eq!(located(&[]), None);
    }

    #[test]
    fn a_version_has_a_folder_of_its_own() {
        let folder = Folder { path: "/t".into() };
        assert_eq!(
            BPF_LINKER.binary(&folder),
            Path::new("/t/bpf-linker-0.10.3/bin/bpf-linker")
        );
    }
}
