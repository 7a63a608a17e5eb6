// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A v2 cgroup of one's own: the kernel's exact account of whatever runs in it, the dead
//! included.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};

use crate::launch::enter_cgroup;

/// A cgroup, removed when it is dropped.
#[derive(Debug)]
pub struct Cgroup {
    folder: PathBuf,
    path: String,
}

impl Cgroup {
    /// Makes one, named after `what` and this process.
    ///
    /// # Errors
    /// When there is no v2 hierarchy, or it may not be written.
    pub fn new(what: &str) -> Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let mount = mount("cgroup2", "").context("no cgroup v2 hierarchy is mounted")?;
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = format!("/eco-test-{what}-{}-{number}", process::id());
        let folder = mount.join(path.trim_start_matches('/'));
        fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self { folder, path })
    }

    /// Its path below the v2 mount, as the agent wants it.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// CPU time of everything that ever ran in it, in µs.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn cpu_us(&self) -> Result<u64> {
        cpu_us(&self.folder)
    }

    /// Has a command start in it.
    ///
    /// # Errors
    /// When it cannot be entered.
    pub fn hold(&self, command: &mut Command) -> io::Result<()> {
        enter_cgroup(command, &self.folder)
    }

    /// Sends a signal to everything in it.
    pub fn signal(&self, signal: i32) {
        self::signal(&self.folder, signal);
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for _ in 0..200 {
            self.signal(libc::SIGKILL);
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            // Who was killed needs a moment, and somebody to wait for them.
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// CPU time of everything that ever ran in the cgroup at `folder`, v1's or v2's, in µs.
///
/// # Errors
/// When the kernel does not tell, as in those hierarchies of v1 that count other things.
pub fn cpu_us(folder: &Path) -> Result<u64> {
    if let Ok(ns) = fs::read_to_string(folder.join("cpuacct.usage")) {
        return Ok(ns.trim().parse::<u64>()? / 1_000);
    }
    let file = folder.join("cpu.stat");
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let usage = text
        .lines()
        .find_map(|line| line.strip_prefix("usage_usec "));
    Ok(usage
        .context("cpu.stat has no usage_usec")?
        .trim()
        .parse()?)
}

/// Sends a signal to everything in the cgroup at `folder`.
pub fn signal(folder: &Path, signal: i32) {
    let procs = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    for pid in procs
        .lines()
        .filter_map(|line| line.parse::<i32>().ok())
        .filter(|&pid| pid > 0)
    {
        // SAFETY: sends a signal to a process that the caller started in there.
        unsafe { libc::kill(pid, signal) };
    }
}

/// Where a cgroup would be in each hierarchy of the machine, v1's and v2's, there or not.
pub fn everywhere(path: &str) -> impl Iterator<Item = PathBuf> {
    let below = path.trim_start_matches('/').to_owned();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let roots: Vec<PathBuf> = mounts
        .lines()
        .filter(|line| line.contains(" - cgroup ") || line.contains(" - cgroup2 "))
        .filter_map(|line| line.split(' ').nth(4).map(PathBuf::from))
        .collect();
    roots.into_iter().map(move |root| root.join(&below))
}

/// CPU time of the whole machine without its idling, in ns, exact to the scheduler's clock.
///
/// v1's cpuacct keeps it; v2's root and `/proc/stat` count in clock ticks, which is no truth
/// for children that live shorter than one.
///
/// # Errors
/// When cpuacct is not mounted.
pub fn machine_cpu_ns() -> Result<u64> {
    let file = machine_cpu_file().context("v1's cpuacct is not mounted")?;
    Ok(fs::read_to_string(file)?.trim().parse()?)
}

/// Where [`machine_cpu_ns`] reads; `None` where the kernel keeps no such account.
#[must_use]
pub fn machine_cpu_file() -> Option<PathBuf> {
    mount("cgroup", "cpuacct").map(|mount| mount.join("cpuacct.usage"))
}

/// The same for each CPU, all in one line.
#[must_use]
pub fn cpu_busy_file() -> Option<PathBuf> {
    mount("cgroup", "cpuacct").map(|mount| mount.join("cpuacct.usage_percpu"))
}

/// Where a file system is mounted whole; `option` is one of its own options, or empty.
fn mount(kind: &str, option: &str) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(|line| {
        // proc(5): id, parent, device, root, mount point, options, …, "-", type, source, options.
        let (left, right) = line.split_once(" - ")?;
        let mut right = right.split(' ');
        let is_kind = right.next()? == kind;
        let has_option = option.is_empty() || right.nth(1)?.split(',').any(|o| o == option);
        let mut left = left.split(' ').skip(3);
        (is_kind && has_option && left.next()? == "/").then(|| left.next().map(PathBuf::from))?
    })
}
