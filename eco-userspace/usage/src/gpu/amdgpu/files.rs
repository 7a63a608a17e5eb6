// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A process's open files of GPUs, and what the kernel tells of each.

use std::{collections::HashMap, fs, path::Path};

/// What a client of a GPU used, since it opened it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Engines {
    /// Of the engines that draw and compute, in ns.
    pub(super) compute_ns: u64,
    /// Of those that encode and decode.
    pub(super) media_ns: u64,
}

impl Engines {
    /// The difference; zero where `before` is more, as then it was another client's.
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            compute_ns: self.compute_ns.saturating_sub(before.compute_ns),
            media_ns: self.media_ns.saturating_sub(before.media_ns),
        }
    }
}

/// One client: an open of a GPU, by whatever number of file descriptors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client {
    pub(super) pid: u32,
    pub(super) engines: Engines,
    /// In bytes.
    pub(super) memory: u64,
}

/// The processes that have a GPU open and may be looked at.
pub(super) fn search(procfs: &Path) -> Vec<u32> {
    let entries = fs::read_dir(procfs).into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| has_gpu(procfs, *pid)).collect()
}

fn has_gpu(procfs: &Path, pid: u32) -> bool {
    let files = fs::read_dir(procfs.join(format!("{pid}/fd")));
    let mut files = files.into_iter().flatten().flatten();
    files.any(|file| fs::read_link(file.path()).is_ok_and(|to| to.starts_with("/dev/dri")))
}

/// Adds a process's clients to `open`, by GPU and client.
pub(super) fn read(procfs: &Path, pid: u32, open: &mut HashMap<(String, u64), Client>) {
    let folder = procfs.join(pid.to_string());
    let files = fs::read_dir(folder.join("fd"));
    for file in files.into_iter().flatten().flatten() {
        if !fs::read_link(file.path()).is_ok_and(|to| to.starts_with("/dev/dri")) {
            continue;
        }
        let text = fs::read_to_string(folder.join("fdinfo").join(file.file_name()));
        if let Some((gpu, id, client)) = text.ok().and_then(|text| parse(&text, pid)) {
            // A file that was inherited is the same client's: the first process keeps it.
            open.entry((gpu, id)).or_insert(client);
        }
    }
}

/// `None` where the file is of no AMD GPU.
fn parse(text: &str, pid: u32) -> Option<(String, u64, Client)> {
    let (mut gpu, mut id, mut is_amd) = (None, None, false);
    let mut client = Client {
        pid,
        engines: Engines::default(),
        memory: 0,
    };
    for line in text.lines() {
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim();
        match key {
            "drm-driver" => is_amd = value == "amdgpu",
            "drm-pdev" => gpu = Some(value.to_owned()),
            "drm-client-id" => id = value.parse().ok(),
            "drm-engine-gfx" | "drm-engine-compute" => {
                client.engines.compute_ns += with_unit(value).unwrap_or(0);
            }
            "drm-engine-enc" | "drm-engine-enc_1" | "drm-engine-dec" | "drm-engine-jpeg" => {
                client.engines.media_ns += with_unit(value).unwrap_or(0);
            }
            "drm-memory-vram" => client.memory = with_unit(value).unwrap_or(0),
            _ => {}
        }
    }
    Some((gpu?, id?, client)).filter(|_| is_amd)
}

/// `12 ns`, `3 KiB`: the number in its base unit.
fn with_unit(text: &str) -> Option<u64> {
    let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
    let factor = match unit {
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => 1,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}
