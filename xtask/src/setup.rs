// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask setup`: what the build needs, installed where it is absent.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use crate::tools::{self, BPF_LINKER, Folder};
use crate::workspace::{Workspace, succeed};

/// What rustup does not add by itself under `RUSTUP_AUTO_INSTALL=0`: its name, and a file
/// under the toolchain's folder that is there when the component is.
const COMPONENTS: [(&str, &str); 3] = [
    ("rust-src", "lib/rustlib/src/rust/library/core/src/lib.rs"),
    ("rustfmt", "bin/rustfmt"),
    ("clippy", "bin/cargo-clippy"),
];

/// The kernel's own type information: eBPF tiers need it.
const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Sets up and says line by line what is there; a negative answer when something is not.
pub(crate) fn main(workspace: &Workspace) -> Result<ExitCode> {
    let missing = check(workspace, Talk::Always)?;
    if missing == 0 {
        eprintln!("setup: done");
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("setup: {missing} missing: without rust-src or bpf-linker eco measures by procfs");
    Ok(ExitCode::FAILURE)
}

/// Sets up, and speaks only of what is missing or being installed. Whatever cannot be had
/// is no error here: eco falls back to procfs without it.
pub(crate) fn quietly(workspace: &Workspace) -> Result<()> {
    check(workspace, Talk::OnlyIfWrong).map(|_missing| ())
}

#[derive(Clone, Copy, PartialEq)]
enum Talk {
    Always,
    OnlyIfWrong,
}

impl Talk {
    fn fine(self, line: &str) {
        if self == Self::Always {
            eprintln!("setup: {line}");
        }
    }
}

/// Returns how many things are still missing at the end.
fn check(workspace: &Workspace, talk: Talk) -> Result<usize> {
    let channel = pinned_channel(&workspace.read("rust-toolchain.toml")?)?;
    let sysroot = sysroot(workspace)?;
    let mut missing = components(&channel, &sysroot, talk);

    let folder = Folder::locate()?;
    match BPF_LINKER.ensure(workspace, &folder) {
        Ok(binary) => talk.fine(&format!(
            "bpf-linker {}: {}",
            BPF_LINKER.version,
            binary.display()
        )),
        Err(error) => {
            missing += 1;
            eprintln!(
                "setup: bpf-linker: {error:#}; to try by hand: {}",
                tools::by_hand(&BPF_LINKER)
            );
        }
    }
    // Not counted: it is the running kernel's, and nothing that a build could need.
    if Path::new(KERNEL_BTF).exists() {
        talk.fine(&format!("kernel: {KERNEL_BTF} is there"));
    } else {
        talk.fine(&format!(
            "kernel: no {KERNEL_BTF}: this machine measures by the procfs tier"
        ));
    }
    Ok(missing)
}

fn components(channel: &str, sysroot: &Path, talk: Talk) -> usize {
    let absent: Vec<&str> = COMPONENTS
        .iter()
        .filter(|(_, file)| !sysroot.join(file).exists())
        .map(|(name, _)| *name)
        .collect();
    if absent.is_empty() {
        talk.fine(&format!("rust {channel}: {}", sysroot.display()));
        return 0;
    }
    let names = absent.join(" ");
    eprintln!("setup: rust {channel}: adding {names} by rustup");
    let added = succeed(
        Command::new("rustup")
            .args(["component", "add", "--toolchain", channel])
            .args(&absent)
            .stdin(Stdio::null()),
    );
    match added {
        Ok(()) => 0,
        Err(error) => {
            eprintln!(
                "setup: no {names} for rust {channel}: {error:#}; install rustup \
                 (https://rustup.rs) and call again, or put them under {}",
                sysroot.display(),
            );
            absent.len()
        }
    }
}

fn sysroot(workspace: &Workspace) -> Result<PathBuf> {
    let output = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["--print", "sysroot"])
        .current_dir(&workspace.root)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start rustc")?;
    if !output.status.success() {
        bail!("rustc --print sysroot ended with {}", output.status);
    }
    let path = String::from_utf8(output.stdout).context("the path of rustc's sysroot")?;
    Ok(PathBuf::from(path.trim_end()))
}

fn pinned_channel(toolchain: &str) -> Result<String> {
    let quoted = toolchain
        .lines()
        .filter_map(|line| line.split_once('='))
        .find(|(key, _)| key.trim() == "channel")
        .map(|(_, value)| value.trim().trim_matches('"'));
    match quoted {
        Some(channel) if !channel.is_empty() => Ok(channel.to_owned()),
        _ => bail!("rust-toolchain.toml names no channel"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pinned_channel_is_read_from_the_toolchain_file() {
        let file = "# why\n[toolchain]\nchannel = \"1.95.0\"\nprofile = \"minimal\"\n";
        assert_eq!(pinned_channel(file).unwrap(), "1.95.0");
    }

    #[test]
    fn a_toolchain_file_without_a_channel_is_refused() {
        assert!(pinned_channel("[toolchain]\nprofile = \"minimal\"\n").is_err());
        assert!(pinned_channel("[toolchain]\nchannel = \"\"\n").is_err());
    }
}
