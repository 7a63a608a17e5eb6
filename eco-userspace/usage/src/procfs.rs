// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tasks by `/proc`, where BPF is refused: one record per process, in clock ticks.
//!
//! Blind to processes that live and die between two reads, except through what their parents
//! reap (`cutime + cstime`); and to nanoseconds.

use std::{
    fs::{self, File},
    io::Read,
    os::{fd::RawFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    time::Instant,
};

use eco_common::{COMM_LEN, Spill, SpillKey, TaskRecord, flags};
use rustc_hash::FxHashMap;

use crate::{
    cgroups::{self, CgroupIds, CgroupPaths, Mounts},
    source::{Costs, Scan, SourceError, TaskSource, Tier},
};

/// `PF_KTHREAD` of include/linux/sched.h.
const PF_KTHREAD: u64 = 0x0020_0000;

/// A process's cgroup and owner are looked up again after this many scans.
const REFRESH_SCANS: u64 = 30;

/// Reads `/proc`.
pub struct ProcfsSource {
    procfs: PathBuf,
    mounts: Mounts,
    known: FxHashMap<u32, Known>,
    ids_by_path: FxHashMap<CgroupPaths, CgroupIds>,
    pids: Vec<u32>,
    scans: u64,
    scan_ns: u64,
}

/// What does not change with every read.
#[derive(Clone, Copy)]
struct Known {
    start_ns: u64,
    ids: CgroupIds,
    uid: u32,
    scan: u64,
    looked_up: u64,
}

impl ProcfsSource {
    /// Reads the tree at `procfs`.
    #[must_use]
    pub fn new(procfs: PathBuf, mounts: Mounts) -> Self {
        Self {
            procfs,
            mounts,
            known: FxHashMap::default(),
            ids_by_path: FxHashMap::default(),
            pids: Vec::new(),
            scans: 0,
            scan_ns: 0,
        }
    }

    fn record(&mut self, pid: u32) -> Option<TaskRecord> {
        let mut record = read_stat(&self.procfs, pid)?;
        let known = self.known.get(&pid).copied();
        let fresh = known
            .filter(|k| k.start_ns == record.start_ns && self.scans < k.looked_up + REFRESH_SCANS);
        let mut known = match fresh {
            Some(known) => known,
            None => self.look_up(pid, record.start_ns),
        };
        known.scan = self.scans;
        self.known.insert(pid, known);
        record.cgroup = known.ids.cgroup;
        record.cpuacct = known.ids.cpuacct;
        record.uid = known.uid;
        record.parent_start_ns = match self.known.get(&record.parent) {
            Some(parent) => parent.start_ns,
            None => read_stat(&self.procfs, record.parent).map_or(0, |r| r.start_ns),
        };
        Some(record)
    }

    fn look_up(&mut self, pid: u32, start_ns: u64) -> Known {
        let paths = CgroupPaths::of_process(&self.procfs, pid, &self.mounts).unwrap_or_default();
        let ids = match self.ids_by_path.get(&paths) {
            Some(&ids) => ids,
            None => {
                let id = |mount: &Option<PathBuf>, path: &str| {
                    mount.as_ref().and_then(|mount| cgroups::id_of(mount, path))
                };
                let unified = id(&self.mounts.unified, &paths.unified).unwrap_or(0);
                let cpuacct = id(&self.mounts.cpuacct, &paths.cpuacct).unwrap_or(unified);
                let ids = CgroupIds {
                    cgroup: unified,
                    cpuacct,
                };
                self.ids_by_path.insert(paths, ids);
                ids
            }
        };
        let folder = self.procfs.join(pid.to_string());
        let uid = fs::metadata(folder).map_or(u32::MAX, |m| m.uid());
        Known {
            start_ns,
            ids,
            uid,
            scan: self.scans,
            looked_up: self.scans,
        }
    }
}

impl TaskSource for ProcfsSource {
    fn tier(&self) -> Tier {
        Tier::Procfs
    }

    fn scan(&mut self, visit: &mut dyn FnMut(&TaskRecord)) -> Result<Scan, SourceError> {
        let begun = Instant::now();
        self.scans += 1;
        let mut pids = std::mem::take(&mut self.pids);
        list_pids(&self.procfs, &mut pids)?;
        let mut scan = Scan::default();
        for &pid in &pids {
            // A process that ended meanwhile, or may not be read, costs only itself.
            if let Some(record) = self.record(pid) {
                visit(&record);
                scan.records += 1;
            }
        }
        self.pids = pids;
        let now = self.scans;
        self.known.retain(|_, known| known.scan == now);
        if self.ids_by_path.len() > 4 * self.known.len() + 64 {
            self.ids_by_path.clear();
        }
        self.scan_ns += begun.elapsed().as_nanos() as u64;
        Ok(scan)
    }

    fn deaths(&mut self, _: &mut dyn FnMut(&TaskRecord)) {}

    fn spilled(&mut self, _: &mut dyn FnMut(SpillKey, Spill)) {}

    fn wakeup(&self) -> Option<RawFd> {
        None
    }

    fn costs(&mut self) -> Costs {
        Costs {
            scans: self.scans,
            scan_ns: self.scan_ns,
            ..Costs::default()
        }
    }
}

/// The ids of all processes, in order.
pub(crate) fn list_pids(procfs: &Path, pids: &mut Vec<u32>) -> Result<(), SourceError> {
    let failed = |source| SourceError::Procfs {
        path: procfs.display().to_string(),
        source,
    };
    pids.clear();
    for entry in fs::read_dir(procfs).map_err(failed)? {
        let Ok(entry) = entry else { continue };
        if let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        {
            pids.push(pid);
        }
    }
    pids.sort_unstable();
    Ok(())
}

/// Reads `/proc/PID/stat`. Owner and cgroup are not in it.
pub(crate) fn read_stat(procfs: &Path, pid: u32) -> Option<TaskRecord> {
    let mut buffer = [0; 1024];
    let mut file = File::open(procfs.join(pid.to_string()).join("stat")).ok()?;
    let length = file.read(&mut buffer).ok()?;
    parse_stat(buffer.get(..length)?)
}

/// Parses a stat line. The name in it may hold anything, brackets and blanks included.
fn parse_stat(line: &[u8]) -> Option<TaskRecord> {
    let open = line.iter().position(|&b| b == b'(')?;
    let close = line.iter().rposition(|&b| b == b')')?;
    let pid: u32 = std::str::from_utf8(line.get(..open)?)
        .ok()?
        .trim()
        .parse()
        .ok()?;
    let name = line.get(open + 1..close)?;
    let rest = std::str::from_utf8(line.get(close + 1..)?).ok()?;
    // proc(5) counts from 1 with the state as field 3.
    let mut fields = rest.split_ascii_whitespace();
    let mut at = 3;
    let mut field = |number: usize| -> Option<&str> {
        let value = fields.nth(number - at)?;
        at = number + 1;
        Some(value)
    };
    let parent = field(4)?.parse().ok()?;
    let task_flags: u64 = field(9)?.parse().ok()?;
    let user = ticks(field(14)?)?;
    let system = ticks(field(15)?)?;
    let reaped_user = ticks(field(16)?)?;
    let reaped_system = ticks(field(17)?)?;
    let start_ns = ticks(field(22)?)?;
    let cpu = field(39)?.parse().ok()?;
    let mut comm = [0; COMM_LEN];
    let length = name.len().min(COMM_LEN - 1);
    comm[..length].copy_from_slice(&name[..length]);
    Some(TaskRecord {
        start_ns,
        leader_start_ns: start_ns,
        runtime_ns: user.checked_add(system)?,
        reaped_ns: reaped_user.checked_add(reaped_system)?,
        pid,
        tgid: pid,
        parent,
        cpu,
        flags: if task_flags & PF_KTHREAD != 0 {
            flags::KERNEL_THREAD
        } else {
            0
        },
        comm,
        ..TaskRecord::default()
    })
}

/// Clock ticks to ns. Reaped times are signed in some kernels: below zero is zero.
fn ticks(text: &str) -> Option<u64> {
    let ticks: i64 = text.parse().ok()?;
    u64::try_from(ticks)
        .unwrap_or(0)
        .checked_mul(1_000_000_000 / ticks_per_second())
}

pub(crate) fn ticks_per_second() -> u64 {
    // SAFETY: takes a constant and returns a number.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u64::try_from(ticks).ok().filter(|&t| t > 0).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &[u8] = b"42 (a) b (c) R 7 42 42 0 -1 2097152 0 0 0 0 150 50 30 20 20 0 1 0 999 0 \
        0 18446744073709551615 0 0 0 0 0 0 0 0 0 0 0 0 17 3 0 0\n";

    #[test]
    fn a_name_with_brackets_and_blanks_does_not_shift_the_fields() {
        let record = parse_stat(LINE).unwrap();
        assert_eq!((record.pid, record.parent, record.cpu), (42, 7, 3));
        let tick = 1_000_000_000 / ticks_per_second();
        assert_eq!(record.runtime_ns, 200 * tick);
        assert_eq!(record.reaped_ns, 50 * tick);
        assert_eq!(record.start_ns, 999 * tick);
        assert!(record.is_kernel());
        assert_eq!(&record.comm[..7], b"a) b (c");
    }

    #[test]
    fn a_line_cut_anywhere_is_refused_without_a_panic() {
        let needed = LINE.windows(4).position(|w| w == b"17 3").unwrap() + 3;
        for length in 0..needed {
            assert_eq!(
                parse_stat(&LINE[..length]).map(|r| r.pid),
                None,
                "cut at {length}"
            );
        }
        assert!(parse_stat(b"1 () \xff\xfe").is_none());
        assert!(parse_stat(b") 1 (").is_none());
    }

    #[test]
    fn the_living_are_read_and_we_are_among_them() {
        let mut source = ProcfsSource::new("/proc".into(), Mounts::detect(Path::new("/proc")));
        let me = std::process::id();
        let mut found = None;
        source
            .scan(&mut |record| {
                if record.pid == me {
                    found = Some(*record)
                }
            })
            .unwrap();
        let found = found.unwrap();
        assert_eq!(found.parent, std::os::unix::process::parent_id());
        assert!(found.parent_start_ns > 0 || found.parent == 0);
    }
}
