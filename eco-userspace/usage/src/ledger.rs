// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The three ledgers of CPU time, reconciled: the living (a scan), the dead (their last
//! records), and what the kernel counted for a cgroup or for a parent's reaped children.
//!
//! Everything here works on totals that only grow; what is charged in a tick is the growth.
//! So a look that came too early, or a task that was between two places for a moment, is put
//! right by the next tick, and nothing is charged twice.

use std::path::PathBuf;

use eco_common::TaskRecord;
use rustc_hash::FxHashMap;

use crate::{
    cgroup_table::{Cgroup, CgroupIndex, CgroupTable, Places},
    cgroups::{CgroupIds, Mounts},
    clock::boottime_ns,
    dead::Unseen,
    frame::{Counters, Frame},
    hidden::Hidden,
    orphans::Orphans,
    process::{Account, Comm, Process, ProcessKey, Slot, State, Table},
    source::{Costs, Scan, SourceError, TaskSource, Tier},
};

/// A task is stamped with its start before it can be found; one that looks this much older
/// than the scan that missed it may still be new (ns).
const BIRTH_SLACK_NS: u64 = 100_000_000;

/// How many ticks a vanished process's last record is waited for.
pub(crate) const PATIENCE_TICKS: u64 = 5;

/// How many last records are kept while the living cannot be read: 7 MB.
const MOST_WAITING: usize = 65_536;

/// Who used the CPU. One per agent.
pub struct Usage {
    pub(crate) source: Box<dyn TaskSource>,
    pub(crate) procfs: PathBuf,
    pub(crate) mounts: Mounts,
    pub(crate) tick: u64,
    pub(crate) table: Table,
    pub(crate) cgroups: CgroupTable,
    pub(crate) hidden: Hidden,
    /// Last records that are not charged yet.
    pub(crate) deaths: Vec<TaskRecord>,
    /// Of how many of these the threads are.
    pub(crate) threads_buried: usize,
    pub(crate) unseen: Vec<Unseen>,
    /// Final runtimes of freed threads whose process has not been seen (yet), with the tick.
    pub(crate) early_threads: FxHashMap<ProcessKey, (u64, u64)>,
    pub(crate) spilled: FxHashMap<CgroupIds, (u64, u64)>,
    pub(crate) dead_parents: FxHashMap<ProcessKey, (ProcessKey, u32)>,
    pub(crate) orphans: Orphans,
    pub(crate) retired: Vec<Slot>,
    pub(crate) baseline_at_ns: u64,
    pub(crate) last_scan_ns: u64,
    pub(crate) busy_ns: u64,
    pub(crate) counters: Counters,
    /// The last process found, as threads of one often follow each other.
    pub(crate) cursor: Option<(ProcessKey, Slot)>,
}

impl Usage {
    /// Starts on `source`; `procfs` is where paths and hidden tasks are looked up.
    #[must_use]
    pub fn new(source: Box<dyn TaskSource>, procfs: PathBuf, mounts: Mounts) -> Self {
        Self {
            source,
            hidden: Hidden::new(procfs.clone()),
            procfs,
            mounts,
            tick: 0,
            table: Table::default(),
            cgroups: CgroupTable::default(),
            deaths: Vec::new(),
            threads_buried: 0,
            unseen: Vec::new(),
            early_threads: FxHashMap::default(),
            spilled: FxHashMap::default(),
            dead_parents: FxHashMap::default(),
            orphans: Orphans::default(),
            retired: Vec::new(),
            baseline_at_ns: 0,
            last_scan_ns: 0,
            busy_ns: 0,
            counters: Counters::default(),
            cursor: None,
        }
    }

    /// How CPU time is known.
    #[must_use]
    pub fn tier(&self) -> Tier {
        self.source.tier()
    }

    /// What the source costs and lost.
    pub fn costs(&mut self) -> Costs {
        self.source.costs()
    }

    /// A descriptor that becomes readable when [`Usage::fetch_deaths`] should be called before
    /// the next tick.
    #[must_use]
    pub fn wakeup(&self) -> Option<std::os::fd::RawFd> {
        self.source.wakeup()
    }

    /// A process, if it is known; also one that the last frame reported gone.
    #[must_use]
    pub fn process(&self, slot: Slot) -> Option<&Process> {
        self.table.get(slot)
    }

    /// The slot of a process.
    #[must_use]
    pub fn find(&self, key: ProcessKey) -> Option<Slot> {
        self.table.find(key)
    }

    /// All processes that are known.
    pub fn processes(&self) -> impl Iterator<Item = (Slot, &Process)> {
        self.table.iter()
    }

    /// One more than the largest slot that was ever used: the length of a table beside this one.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.table.capacity()
    }

    /// A cgroup, if it is known.
    #[must_use]
    pub fn cgroup(&self, index: CgroupIndex) -> Option<&Cgroup> {
        self.cgroups.get(index)
    }

    /// All cgroups that are known.
    pub fn all_cgroups(&self) -> impl Iterator<Item = (CgroupIndex, &Cgroup)> {
        self.cgroups.iter()
    }

    /// Holds the kernel's own total of the v2 cgroup at `path`, and all below it, against what
    /// is charged there, from now on. `false`: there is no such cgroup.
    pub fn watch(&mut self, path: &str) -> bool {
        let places = Places {
            procfs: &self.procfs,
            mounts: &self.mounts,
            tick: self.tick,
        };
        self.cgroups.watch(path, &places).is_some()
    }

    /// What the kernel counted in a watched cgroup and no record has told of so far, in ns: time
    /// of processes whose deaths went unseen. `None`: the cgroup at `path` is not watched.
    #[must_use]
    pub fn unrecorded_ns(&self, path: &str) -> Option<u64> {
        self.cgroups.unrecorded_ns(path)
    }

    /// Ends that.
    pub fn unwatch(&mut self, path: &str) {
        self.cgroups.unwatch(path);
    }

    /// The mounts that cgroups are read from.
    #[must_use]
    pub fn mounts(&self) -> &Mounts {
        &self.mounts
    }

    /// Takes the last records of the dead, and the paths of new cgroups, out of the kernel's
    /// rings, for the next sample.
    pub fn fetch_deaths(&mut self) {
        let (cgroups, tick) = (&mut self.cgroups, self.tick);
        self.source.births(&mut |birth| cgroups.born(birth, tick));
        let deaths = &mut self.deaths;
        self.source.deaths(&mut |record| deaths.push(*record));
    }

    /// Charges all CPU time since the last sample. The first only notes where everyone stands.
    ///
    /// # Errors
    /// When the living could not be read. The next sample that can charges for both: who died
    /// cannot be told from who was not shown.
    pub fn sample(&mut self, frame: &mut Frame) -> Result<(), SourceError> {
        self.tick += 1;
        frame.clear();
        for slot in std::mem::take(&mut self.retired) {
            self.table.remove(slot);
        }
        self.cursor = None;
        self.cgroups.read_totals(&self.mounts);
        // Before the scan: whoever is freed by now cannot be in the scan.
        self.fetch_deaths();
        frame.window.before_ns = boottime_ns();
        if self.tick == 1 {
            self.baseline_at_ns = frame.window.before_ns;
            self.forget_deaths_before_us();
        }
        self.bury_threads();
        let scanned = self.scan(frame);
        frame.window.after_ns = boottime_ns();
        if let Err(why) = scanned {
            if self.deaths.len() > MOST_WAITING {
                // Their time is not lost with them: cgroups and parents have it too.
                self.counters.records_missing += self.deaths.len() as u64;
                self.deaths.clear();
                self.threads_buried = 0;
            }
            frame.busy_ns = self.busy_ns;
            frame.counters = self.counters;
            return Err(why);
        }
        self.bury(frame);
        self.last_scan_ns = frame.window.before_ns;
        self.settle_living(frame);
        self.settle_parents(frame);
        self.charge_processes(frame);
        self.settle_cgroups(frame);
        self.busy_ns += frame.charges.iter().map(|c| c.ns).sum::<u64>();
        frame.busy_ns = self.busy_ns;
        frame.counters = self.counters;
        self.retired.clone_from(&frame.gone);
        Ok(())
    }

    fn scan(&mut self, frame: &mut Frame) -> Result<Scan, SourceError> {
        // The source is lent out of `self` while its records come back in.
        let mut source = std::mem::replace(&mut self.source, Box::new(Lent));
        let scanned = source.scan(&mut |record| self.observe(record, frame));
        self.source = source;
        self.hidden.refresh(self.tick, &self.table);
        for at in 0..self.hidden.count() {
            if let Some(record) = self.hidden.read(at, self.tick, &self.table) {
                self.observe(&record, frame);
            }
        }
        self.counters.hidden_tasks = self.hidden.count() as u64;
        let torn = matches!(scanned, Err(SourceError::Torn { .. }));
        self.counters.torn_reads += u64::from(torn);
        let scan = scanned?;
        frame.threads = scan.records;
        Ok(scan)
    }

    /// Takes in one living thread.
    fn observe(&mut self, record: &TaskRecord, frame: &mut Frame) {
        let key = ProcessKey::of(record);
        let slot = match self.cursor {
            Some((last, slot)) if last == key => slot,
            _ => match self.table.find(key) {
                Some(slot) => slot,
                None => self.welcome(record, frame),
            },
        };
        self.cursor = Some((key, slot));
        let tick = self.tick;
        let Some(process) = self.table.get_mut(slot) else {
            return;
        };
        let first = process.account.scan != tick;
        if first {
            process.account.scan = tick;
            process.account.living_ns = 0;
            // As read with the first thread: a thread that dies during the scan may be missed
            // until the next one, never counted twice.
            process.account.dead_threads_ns = record.dead_threads_ns;
            process.threads = 0;
        }
        process.account.living_ns += record.runtime_ns;
        process.threads += 1;
        if !(first || record.is_leader()) {
            return;
        }
        process.account.reaped_ns = record.reaped_ns;
        process.comm = Comm(record.comm);
        process.uid = record.uid;
        process.parent = ProcessKey::parent_of(record);
        process.state = State::Alive;
        self.follow(slot, record, Some(record.tgid));
    }

    /// A process is in the cgroup that its record says, and what is new of it was used there.
    pub(crate) fn follow(&mut self, slot: Slot, record: &TaskRecord, pid: Option<u32>) {
        let Some(process) = self.table.get(slot).filter(|p| p.state != State::Gone) else {
            return;
        };
        let home = process.cgroup;
        let ids = CgroupIds {
            cgroup: record.cgroup,
            cpuacct: record.cpuacct,
        };
        if self
            .cgroups
            .get(home)
            .is_some_and(|cgroup| cgroup.ids == ids)
        {
            return;
        }
        let moved = self.enter(record, pid);
        self.cgroups.joined(home, -1);
        self.cgroups.joined(moved, 1);
        if let Some(process) = self.table.get_mut(slot) {
            process.cgroup = moved;
        }
    }

    /// Makes room for a process on first sight, and decides since when its time is ours.
    fn welcome(&mut self, record: &TaskRecord, frame: &mut Frame) -> Slot {
        let key = ProcessKey::of(record);
        let cgroup = self.enter(record, Some(record.tgid));
        self.cgroups.joined(cgroup, 1);
        let has_baseline = self.last_scan_ns > 0;
        let ours = has_baseline && key.start_ns + BIRTH_SLACK_NS >= self.last_scan_ns;
        let early = self.early_threads.remove(&key);
        let slot = self.table.insert(Process {
            key,
            kernel: record.is_kernel(),
            cgroup,
            account: Account {
                // Its total becomes known at the end of this scan; until then it is either
                // all new, or (u64::MAX) all old.
                total_ns: if ours { 0 } else { u64::MAX },
                freed_ns: early.map_or(0, |(ns, _)| ns),
                freed_from: if ours { 0 } else { self.tick + 2 },
                ..Account::default()
            },
            ..Process::default()
        });
        if !ours && has_baseline {
            self.counters.late_arrivals += 1;
        }
        frame.born.push(slot);
        slot
    }

    pub(crate) fn enter(&mut self, record: &TaskRecord, pid: Option<u32>) -> CgroupIndex {
        let ids = CgroupIds {
            cgroup: record.cgroup,
            cpuacct: record.cpuacct,
        };
        let places = Places {
            procfs: &self.procfs,
            mounts: &self.mounts,
            tick: self.tick,
        };
        self.cgroups.enter(ids, pid, &places)
    }
}

/// Stands in for the source while it is lent out.
struct Lent;

impl TaskSource for Lent {
    fn tier(&self) -> Tier {
        Tier::Iter
    }
    fn scan(&mut self, _: &mut dyn FnMut(&TaskRecord)) -> Result<Scan, SourceError> {
        Ok(Scan::default())
    }
    fn deaths(&mut self, _: &mut dyn FnMut(&TaskRecord)) {}
    fn spilled(&mut self, _: &mut dyn FnMut(CgroupIds, eco_common::Spill)) {}
    fn wakeup(&self) -> Option<std::os::fd::RawFd> {
        None
    }
    fn costs(&mut self) -> Costs {
        Costs::default()
    }
}

#[cfg(test)]
mod tests;
