// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the CPUs did between two moments, as the kernel counts it: busy CPUs and active cores
//! from `/proc/stat` and the topology, frequency from cpufreq.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use super::frequency::{self, Frequencies};
use crate::{boottime_ns, sysfs};

/// Watches the CPUs under a `/proc` and a `/sys`, or trees like them.
#[derive(Debug)]
pub struct Activity {
    stat: PathBuf,
    /// For each CPU that shares a core: the first CPU of that core.
    shared: BTreeMap<u32, u32>,
    frequencies: Frequencies,
}

/// The kernel's counters at one moment.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    at_ns: u64,
    /// Clock ticks of all CPUs.
    busy_ticks: u64,
    /// Busy and all clock ticks of each CPU.
    cpus: Vec<(u32, u64, u64)>,
}

/// What happened between two moments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Use {
    /// CPUs that were busy, on average.
    pub busy_cpus: f64,
    /// Cores of which any thread was busy, on average. Threads of one core are taken to run at
    /// independent moments, since nothing tells when they did.
    pub active_cores: f64,
}

impl Activity {
    /// The CPUs under `procfs` and `sysfs`.
    #[must_use]
    pub fn find(procfs: &Path, sysfs: &Path) -> Self {
        Self {
            stat: procfs.join("stat"),
            shared: shared_cores(sysfs),
            frequencies: Frequencies::find(sysfs),
        }
    }

    /// Whether cores run several threads: otherwise active cores are busy CPUs.
    #[must_use]
    pub fn is_smt(&self) -> bool {
        !self.shared.is_empty()
    }

    /// The core of a CPU, named by its first CPU.
    #[must_use]
    pub fn core_of(&self, cpu: u32) -> u32 {
        self.shared.get(&cpu).copied().unwrap_or(cpu)
    }

    /// Reads the counters.
    ///
    /// # Errors
    /// When there is no `stat`, or it does not begin as the kernel's does.
    pub fn read(&self) -> io::Result<Counters> {
        let bytes = fs::read(&self.stat)?;
        let at_ns = boottime_ns();
        parse(&String::from_utf8_lossy(&bytes), at_ns).ok_or_else(|| {
            let what = format!(
                "{}: does not begin with `cpu` and counters",
                self.stat.display()
            );
            io::Error::new(io::ErrorKind::InvalidData, what)
        })
    }

    /// What happened between two readings.
    #[must_use]
    pub fn between(&self, before: &Counters, after: &Counters) -> Use {
        let ns = after.at_ns.saturating_sub(before.at_ns).max(1);
        let ticks = after.busy_ticks.saturating_sub(before.busy_ticks);
        let busy_cpus = ticks as f64 * 1e9 / ticks_per_second() / ns as f64;
        Use {
            busy_cpus,
            active_cores: busy_cpus * self.cores_per_busy_cpu(before, after),
        }
    }

    /// Active cores for each busy CPU, above 0 and at most 1; 1 where nothing is told.
    #[must_use]
    pub fn cores_per_busy_cpu(&self, before: &Counters, after: &Counters) -> f64 {
        let earlier: BTreeMap<u32, (u64, u64)> = before
            .cpus
            .iter()
            .map(|&(cpu, busy, all)| (cpu, (busy, all)))
            .collect();
        let mut busy = 0.0;
        let mut rests: BTreeMap<u32, f64> = BTreeMap::new();
        for &(cpu, busy_now, all_now) in &after.cpus {
            let Some(&(busy_then, all_then)) = earlier.get(&cpu) else {
                continue;
            };
            let all = all_now.saturating_sub(all_then);
            if all == 0 {
                continue;
            }
            let share = busy_now.saturating_sub(busy_then) as f64 / all as f64;
            let share = share.min(1.0);
            busy += share;
            *rests.entry(self.core_of(cpu)).or_insert(1.0) *= 1.0 - share;
        }
        let active: f64 = rests.values().map(|rest| 1.0 - rest).sum();
        if busy > 0.0 {
            (active / busy).min(1.0)
        } else {
            1.0
        }
    }

    /// Current over highest frequency of the fastest CPUs, as many as are busy; 1 where the
    /// kernel does not tell.
    pub fn frequency(&mut self, busy_cpus: f64) -> f64 {
        f64::from(self.factor(busy_cpus)) / f64::from(frequency::FULL)
    }

    /// The same in parts per million.
    pub(super) fn factor(&mut self, busy_cpus: f64) -> u32 {
        self.frequencies.factor(busy_cpus)
    }
}

/// The CPUs that share a core with others, each with the first one of its core.
fn shared_cores(sysfs: &Path) -> BTreeMap<u32, u32> {
    let cpus = sysfs::numbered(&sysfs.join("devices/system/cpu"), "cpu");
    cpus.into_iter()
        .filter_map(|(cpu, folder)| {
            let list = sysfs::text(&folder.join("topology/thread_siblings_list"))?;
            let siblings = sysfs::cpu_list(&list);
            (siblings.len() > 1 && siblings.contains(&cpu)).then(|| (cpu, siblings[0]))
        })
        .collect()
}

fn parse(stat: &str, at_ns: u64) -> Option<Counters> {
    let mut counters = Counters {
        at_ns,
        ..Counters::default()
    };
    let mut lines = stat.lines();
    counters.busy_ticks = ticks(lines.next()?.strip_prefix("cpu ")?)?.0;
    for line in lines {
        let Some((cpu, rest)) = line.strip_prefix("cpu").and_then(|l| l.split_once(' ')) else {
            break;
        };
        if let (Ok(cpu), Some((busy, all))) = (cpu.parse(), ticks(rest)) {
            counters.cpus.push((cpu, busy, all));
        }
    }
    Some(counters)
}

/// Busy and all ticks of a line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq,
/// steal. Guest time is in user already; stolen time is another machine's.
fn ticks(line: &str) -> Option<(u64, u64)> {
    let mut fields = [0u64; 8];
    let mut words = line.split_whitespace();
    for (index, field) in fields.iter_mut().enumerate() {
        match words.next() {
            Some(word) => *field = word.parse().ok()?,
            // Kernels before 2.6 had four.
            None if index >= 4 => break,
            None => return None,
        }
    }
    let [user, nice, system, idle, iowait, irq, softirq, steal] = fields;
    let sum = |of: &[u64]| of.iter().try_fold(0u64, |sum, n| sum.checked_add(*n));
    let busy = sum(&[user, nice, system, irq, softirq])?;
    Some((busy, sum(&[busy, idle, iowait, steal])?))
}

fn ticks_per_second() -> f64 {
    // SAFETY: no memory is passed.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    if ticks > 0 { ticks as f64 } else { 100.0 }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn smt_machine() -> TempDir {
        let root = tempfile::tempdir().unwrap();
        for (cpu, siblings) in [(0, "0,2"), (1, "1,3"), (2, "0,2"), (3, "1,3")] {
            let folder = root
                .path()
                .join(format!("devices/system/cpu/cpu{cpu}/topology"));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("thread_siblings_list"), siblings).unwrap();
        }
        root
    }

    fn counters(at_ns: u64, busy: [u64; 4], idle: [u64; 4]) -> Counters {
        let mut text = format!("cpu  {} 0 0 0\n", busy.iter().sum::<u64>());
        for cpu in 0..4 {
            text += &format!("cpu{cpu} {} 0 0 {} 0 0 0 0 0 0\n", busy[cpu], idle[cpu]);
        }
        parse(&(text + "intr 5\n"), at_ns).unwrap()
    }

    #[test]
    fn threads_of_one_core_make_one_active_core() {
        let root = smt_machine();
        let activity = Activity::find(root.path(), root.path());
        assert!(activity.is_smt());
        let start = counters(0, [0; 4], [0; 4]);
        let of = |busy, idle| {
            let after = counters(1_000_000_000, busy, idle);
            activity.cores_per_busy_cpu(&start, &after)
        };
        assert_eq!(of([100, 0, 100, 0], [0, 100, 0, 100]), 0.5);
        assert_eq!(of([100, 100, 0, 0], [0, 0, 100, 100]), 1.0);
        assert_eq!(of([50, 0, 50, 0], [50, 100, 50, 100]), 0.75);
        assert_eq!(
            of([0; 4], [100; 4]),
            1.0,
            "nothing is busy, nothing is told"
        );
        let ticks = ticks_per_second() as u64;
        let after = counters(1_000_000_000, [ticks, 0, ticks, 0], [0, ticks, 0, ticks]);
        let used = activity.between(&start, &after);
        assert!((used.busy_cpus - 2.0).abs() < 1e-9, "{used:?}");
        assert!((used.active_cores - 1.0).abs() < 1e-9, "{used:?}");
    }

    #[test]
    fn a_machine_that_tells_nothing_has_as_many_active_cores_as_busy_cpus() {
        let root = tempfile::tempdir().unwrap();
        let mut activity = Activity::find(root.path(), root.path());
        assert!(!activity.is_smt());
        assert!(activity.read().is_err());
        assert_eq!(activity.frequency(1.0), 1.0);
        fs::write(root.path().join("stat"), "cpu  5 0 0 0\n").unwrap();
        let start = activity.read().unwrap();
        assert_eq!(activity.cores_per_busy_cpu(&start, &start), 1.0);
    }

    #[test]
    fn odd_counters_are_refused_or_skipped() {
        for odd in ["", "cpu", "cpu 1 2", "cpu  a 0 0 0", "cpu -1 0 0 0", "\0"] {
            assert!(parse(odd, 0).is_none(), "{odd:?}");
        }
        let max = u64::MAX;
        assert!(parse(&format!("cpu  {max} {max} 0 0"), 0).is_none());
        let some = parse("cpu  1 0 0 0\ncpux 1 0 0 0\ncpu1 1 0\ncpu2 1 2 3 4\n", 0).unwrap();
        assert_eq!(some.cpus, [(2, 6, 10)]);
    }

    #[test]
    fn counters_that_go_back_cost_nothing() {
        let root = smt_machine();
        let activity = Activity::find(root.path(), root.path());
        let high = counters(9, [100; 4], [100; 4]);
        let low = counters(5, [1; 4], [1; 4]);
        let used = activity.between(&high, &low);
        assert_eq!((used.busy_cpus, used.active_cores), (0.0, 0.0));
    }
}
