// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How fast the CPUs run, as a share of their highest frequency.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// Full frequency, in parts per million.
pub(super) const FULL: u32 = 1_000_000;

/// Reading a frequency may interrupt its CPU; on large machines every n-th CPU stands for n.
const MOST_SAMPLED: usize = 64;

/// The CPUs whose frequency is read.
#[derive(Debug, Default)]
pub(super) struct Frequencies {
    cpus: Vec<Cpu>,
    /// CPUs of the machine for each one in `cpus`.
    stride: f64,
    /// The shares of the last reading: kept so that reading allocates nothing.
    shares: Vec<u32>,
}

#[derive(Debug)]
struct Cpu {
    current: PathBuf,
    highest_khz: u64,
}

impl Frequencies {
    /// The CPUs under `sysfs` that tell both frequencies.
    pub(super) fn find(sysfs: &Path) -> Self {
        let mut cpus: Vec<Cpu> = fs::read_dir(sysfs.join("devices/system/cpu"))
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| is_cpu(entry.file_name().to_str().unwrap_or_default()))
            .filter_map(|entry| Cpu::open(&entry.path().join("cpufreq")))
            .collect();
        let every = cpus.len().div_ceil(MOST_SAMPLED).max(1);
        let all = cpus.len();
        let mut index = 0;
        cpus.retain(|_| {
            index += 1;
            (index - 1) % every == 0
        });
        let stride = all as f64 / cpus.len().max(1) as f64;
        Self {
            shares: Vec::with_capacity(cpus.len()),
            cpus,
            stride,
        }
    }

    /// The mean share of the fastest CPUs, as many as are busy, in parts per million;
    /// [`FULL`] where nothing is told.
    pub(super) fn factor(&mut self, busy_cpus: f64) -> u32 {
        self.shares.clear();
        self.shares.extend(self.cpus.iter().filter_map(Cpu::share));
        if self.shares.is_empty() {
            return FULL;
        }
        let busy = (busy_cpus / self.stride).ceil() as usize;
        let busy = busy.clamp(1, self.shares.len());
        self.shares.sort_unstable_by(|a, b| b.cmp(a));
        let sum: u64 = self.shares[..busy]
            .iter()
            .map(|share| u64::from(*share))
            .sum();
        (sum / busy as u64) as u32
    }
}

impl Cpu {
    fn open(folder: &Path) -> Option<Self> {
        let current = folder.join("scaling_cur_freq");
        let highest = fs::read_to_string(folder.join("cpuinfo_max_freq")).ok()?;
        let highest_khz = highest.trim().parse().ok().filter(|khz| *khz > 0)?;
        current.exists().then_some(Self {
            current,
            highest_khz,
        })
    }

    /// Current over highest frequency, in parts per million, at most [`FULL`].
    fn share(&self) -> Option<u32> {
        let mut buffer = [0; 32];
        let length = File::open(&self.current)
            .ok()?
            .read_at(&mut buffer, 0)
            .ok()?;
        let text = std::str::from_utf8(&buffer[..length]).ok()?;
        let khz: u64 = text.trim().parse().ok().filter(|khz| *khz > 0)?;
        let share = u128::from(khz) * u128::from(FULL) / u128::from(self.highest_khz);
        Some(share.min(u128::from(FULL)) as u32)
    }
}

fn is_cpu(name: &str) -> bool {
    name.strip_prefix("cpu")
        .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}
