// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Container images made of a folder, as `docker save` would write them.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde_json::json;

use super::server::run;
use crate::programs;

/// Writes an image of one layer, the files below `root`, to `archive`.
///
/// # Errors
/// When `tar` or `sha256sum` fails.
pub fn save(root: &Path, reference: &str, archive: &Path) -> Result<()> {
    let staging = archive.with_extension("staging");
    fs::create_dir_all(&staging).with_context(|| staging.display().to_string())?;
    let layer = staging.join("layer.tar");
    run(tar(root, &layer).arg("."))?;
    let sum = run(Command::new("sha256sum").arg(&layer))?;
    let sum = sum.split(' ').next().unwrap_or_default();
    // The image's own description, of which a container runtime reads this much.
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "Env": ["PATH=/bin"],
            // What keeps a pod's namespaces is a container that waits.
            "Cmd": ["sleep", "2147483647"],
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{sum}")] },
    });
    fs::write(staging.join("config.json"), config.to_string())?;
    let manifest = json!([{
        "Config": "config.json",
        "RepoTags": [reference],
        "Layers": ["layer.tar"],
    }]);
    fs::write(staging.join("manifest.json"), manifest.to_string())?;
    run(tar(&staging, archive).args(["manifest.json", "config.json", "layer.tar"]))?;
    Ok(fs::remove_dir_all(&staging)?)
}

/// Fills `root` with a shell and its tools, and with this crate's `workload`.
///
/// # Errors
/// When they cannot be copied.
pub fn furnish(root: &Path, busybox: &Path) -> Result<()> {
    let bin = root.join("bin");
    for folder in ["bin", "etc", "proc", "sys", "dev", "tmp"] {
        fs::create_dir_all(root.join(folder))?;
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n")?;
    programs::publish(busybox, &bin).context("busybox")?;
    for applet in run(Command::new(busybox).arg("--list"))?.lines() {
        if applet != "busybox" {
            symlink("busybox", bin.join(applet))?;
        }
    }
    with_libraries(&programs::workload(), root)
}

/// Copies a program into `root`/bin, and the libraries that it needs to where it looks for them.
///
/// # Errors
/// When they cannot be copied.
pub fn with_libraries(program: &Path, root: &Path) -> Result<()> {
    programs::publish(program, &root.join("bin")).with_context(|| program.display().to_string())?;
    // A static program has none, and ldd then fails.
    for library in run(Command::new("ldd").arg(program))
        .iter()
        .flat_map(|text| libraries(text))
    {
        let folder = library.parent().unwrap_or(Path::new("/"));
        let target = root.join(folder.strip_prefix("/").unwrap_or(folder));
        fs::create_dir_all(&target)?;
        programs::publish(&library, &target).with_context(|| library.display().to_string())?;
    }
    Ok(())
}

/// The files that ldd names: `NAME => FILE (0x…)` or `FILE (0x…)`.
fn libraries(text: &str) -> Vec<PathBuf> {
    let words = text.lines().flat_map(str::split_whitespace);
    words
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from)
        .collect()
}

fn tar(folder: &Path, archive: &Path) -> Command {
    let mut tar = Command::new("tar");
    tar.args(["--owner=0", "--group=0", "-C"]).arg(folder);
    tar.arg("-cf").arg(archive);
    tar
}

/// As Go names it, and so the images.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_libraries_of_a_program_are_those_that_ldd_finds() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\
            \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n\
            \tlibx.so => not found\n";
        assert_eq!(
            libraries(text),
            [
                Path::new("/lib/x86_64-linux-gnu/libc.so.6"),
                Path::new("/lib64/ld-linux-x86-64.so.2"),
            ]
        );
    }
}
