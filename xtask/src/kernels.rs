// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Kernels to boot in a virtual machine, so that what the kernel programs read is tested on
//! more than the kernel that happens to run.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::tools::Folder;
use crate::workspace::succeed;

/// Debian's images for virtual machines, by series and by the package that leads to the newest
/// of it. Each has the kernel's type information.
const SERIES: [(&str, &str); 2] = [
    ("6.1", "linux-image-cloud-amd64"),
    ("6.12", "linux-image-6.12-cloud-amd64"),
];

/// What boots them, and what is in the machine beside eco: packages by the program that they
/// bring.
const PROGRAMS: [(&str, &str); 2] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
];

/// Brings what `tests/tests/kernels.rs` boots, once: two images of some 10 MB, and an emulator.
///
/// # Errors
/// When a package cannot be had; the message names it.
pub(crate) fn main() -> Result<ExitCode> {
    if cfg!(not(target_arch = "x86_64")) || which("apt-get").is_none() {
        bail!("kernels are brought on x86-64 Debian and its kin only; their tests are skipped");
    }
    let folder = Folder::locate()?.path().join("kernels");
    let missing: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(program, _)| which(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    let absent = SERIES
        .iter()
        .filter(|(series, _)| !image(&folder, series).is_file());
    let absent: Vec<_> = absent.collect();
    if missing.is_empty() && absent.is_empty() {
        eprintln!("kernels: {} has all of them", folder.display());
        return Ok(ExitCode::SUCCESS);
    }
    succeed(Command::new("apt-get").args(["update", "-qq"]))?;
    if !missing.is_empty() {
        eprintln!("kernels: installing {}", missing.join(", "));
        let mut install = Command::new("apt-get");
        install
            .args(["install", "-y", "-qq", "--no-install-recommends"])
            .args(&missing);
        succeed(install.env("DEBIAN_FRONTEND", "noninteractive"))?;
    }
    for (series, package) in absent {
        eprintln!("kernels: fetching {series}");
        fetch(&folder, series, package).with_context(|| format!("fetching {package}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Takes the image out of the package, without installing it.
fn fetch(folder: &Path, series: &str, package: &str) -> Result<()> {
    let staging = folder.join(format!(".{series}"));
    let _ = fs::remove_dir_all(&staging);
    fs::create_dir_all(&staging)?;
    let concrete = newest(package)?;
    succeed(
        Command::new("apt-get")
            .args([
                "download",
                "-qq",
                "-o",
                "APT::Sandbox::User=root",
                &concrete,
            ])
            .current_dir(&staging),
    )?;
    let deb = find(&staging, "linux-image")?;
    let unpacked = staging.join("unpacked");
    succeed(Command::new("dpkg-deb").arg("-x").arg(deb).arg(&unpacked))?;
    let kernel = find(&unpacked.join("boot"), "vmlinuz")?;
    let home = folder.join(series);
    fs::create_dir_all(&home)?;
    // Under its name only when it is whole.
    fs::rename(kernel, image(folder, series))?;
    fs::remove_dir_all(&staging)?;
    Ok(())
}

/// The package that a package which stands for "the newest" leads to.
fn newest(package: &str) -> Result<String> {
    let output = Command::new("apt-cache")
        .args(["depends", "--important", package])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let depends = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "));
    let concrete = depends
        .map(str::to_owned)
        .find(|name| name.starts_with("linux-image-"));
    concrete.with_context(|| format!("{package} leads to no image; is it in this release?"))
}

fn image(folder: &Path, series: &str) -> std::path::PathBuf {
    folder.join(series).join("vmlinuz")
}

fn find(folder: &Path, prefix: &str) -> Result<std::path::PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut names = entries
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().starts_with(prefix));
    let found = names
        .next()
        .with_context(|| format!("no {prefix} in {}", folder.display()))?;
    Ok(found.path())
}

fn which(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}
