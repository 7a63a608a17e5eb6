// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who has ROCm's compute queues on a GPU (`/sys/class/kfd`, the kernel's
//! `drivers/gpu/drm/amd/amdkfd/kfd_process.c`).

use std::{
    fs,
    path::{Path, PathBuf},
};

/// One GPU as the compute driver knows it.
pub(super) struct Kfd {
    processes: PathBuf,
    /// What the names of this GPU's files end in; `None` where the compute driver has no such GPU.
    gpu: Option<u64>,
}

impl Kfd {
    pub(super) fn of(sysfs: &Path, address: &str) -> Self {
        let kfd = sysfs.join("class/kfd/kfd");
        Self {
            processes: kfd.join("proc"),
            gpu: find(&kfd.join("topology/nodes"), address),
        }
    }

    /// The processes that have memory on it.
    pub(super) fn processes(&self) -> Vec<u32> {
        let Some(gpu) = self.gpu else {
            return Vec::new();
        };
        let entries = fs::read_dir(&self.processes);
        let entries = entries.into_iter().flatten().flatten();
        let uses = |entry: fs::DirEntry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let memory = fs::read_to_string(entry.path().join(format!("vram_{gpu}"))).ok()?;
            (memory.trim().parse::<u64>().ok()? > 0).then_some(pid)
        };
        entries.filter_map(uses).collect()
    }
}

/// The id of the GPU at a PCI address.
fn find(nodes: &Path, address: &str) -> Option<u64> {
    let wanted = location(address)?;
    let nodes = fs::read_dir(nodes).ok()?.flatten();
    nodes.into_iter().find_map(|node| {
        let properties = fs::read_to_string(node.path().join("properties")).ok()?;
        let property = |name: &str| {
            let mut lines = properties.lines().filter_map(|line| line.split_once(' '));
            lines.find(|(key, _)| *key == name)?.1.trim().parse().ok()
        };
        let place: (u64, u64) = (property("domain").unwrap_or(0), property("location_id")?);
        let id = fs::read_to_string(node.path().join("gpu_id")).ok()?;
        (place == wanted)
            .then(|| id.trim().parse().ok())
            .flatten()
            .filter(|id| *id != 0)
    })
}

/// `0000:03:00.0` as domain and location id: bus, device and function in 8, 5 and 3 bits.
fn location(address: &str) -> Option<(u64, u64)> {
    let (domain, rest) = address.split_once(':')?;
    let (bus, rest) = rest.split_once(':')?;
    let (device, function) = rest.split_once('.')?;
    let hex = |text| u64::from_str_radix(text, 16).ok();
    let id = (hex(bus)? << 8) | (hex(device)? << 3) | hex(function)?;
    Some((hex(domain)?, id))
}
