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
    frame::{Charge, Counters, Frame},
    hidden::Hidden,
    process::{Account, Comm, Process, ProcessKey, Slot, State, Table},
    source::{Costs, Scan, SourceError, TaskSource, Tier},
};

/// A task is stamped with its start before it can be found; one that looks this much older
/// than the scan that missed it may still be new (ns).
const BIRTH_SLACK_NS: u64 = 100_000_000;

/// How many ticks a vanished process's last record is waited for.
const PATIENCE_TICKS: u64 = 5;

/// How many dead parents a dead child is followed through.
const LONGEST_CHAIN: usize = 32;

/// Who used the CPU. One per agent.
pub struct Usage {
    source: Box<dyn TaskSource>,
    procfs: PathBuf,
    mounts: Mounts,
    tick: u64,
    table: Table,
    cgroups: CgroupTable,
    hidden: Hidden,
    deaths: Vec<TaskRecord>,
    unseen: Vec<Unseen>,
    /// Final runtimes of freed threads whose process has not been seen (yet), with the tick.
    early_threads: FxHashMap<ProcessKey, (u64, u64)>,
    spilled: FxHashMap<CgroupIds, (u64, u64)>,
    dead_parents: FxHashMap<ProcessKey, (ProcessKey, u32)>,
    retired: Vec<Slot>,
    baseline_at_ns: u64,
    last_scan_ns: u64,
    busy_ns: u64,
    counters: Counters,
    /// The last process found, as threads of one often follow each other.
    cursor: Option<(ProcessKey, Slot)>,
}

/// A process that died without ever being in a scan.
struct Unseen {
    parent: ProcessKey,
    cgroup: CgroupIndex,
    ns: u64,
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
            unseen: Vec::new(),
            early_threads: FxHashMap::default(),
            spilled: FxHashMap::default(),
            dead_parents: FxHashMap::default(),
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

    /// Ends that.
    pub fn unwatch(&mut self, path: &str) {
        self.cgroups.unwatch(path);
    }

    /// The mounts that cgroups are read from.
    #[must_use]
    pub fn mounts(&self) -> &Mounts {
        &self.mounts
    }

    /// Takes the last records of the dead out of the kernel's ring, for the next sample.
    pub fn fetch_deaths(&mut self) {
        let deaths = &mut self.deaths;
        self.source.deaths(&mut |record| deaths.push(*record));
    }

    /// Charges all CPU time since the last sample. The first only notes where everyone stands.
    ///
    /// # Errors
    /// When the living could not be read. The frame then holds the dead only, and the living
    /// are charged in full by the next sample.
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
        self.bury(frame);
        let scanned = self.scan(frame);
        frame.window.after_ns = boottime_ns();
        if scanned.is_ok() {
            self.last_scan_ns = frame.window.before_ns;
            self.settle_living(frame);
            self.settle_parents(frame);
        }
        self.charge_processes(frame);
        self.settle_cgroups(frame);
        self.busy_ns += frame.charges.iter().map(|c| c.ns).sum::<u64>();
        frame.busy_ns = self.busy_ns;
        frame.counters = self.counters;
        self.retired.clone_from(&frame.gone);
        scanned.map(drop)
    }

    fn forget_deaths_before_us(&mut self) {
        self.counters.deaths_before_start += self.deaths.len() as u64;
        self.deaths.clear();
        self.spilled.clear();
        let spilled = &mut self.spilled;
        self.source.spilled(&mut |ids, kept| {
            spilled.insert(ids, (kept.runtime_ns, kept.processes));
        });
    }

    /// Charges the last slice of everyone who died, and the whole life of those who were never
    /// seen alive.
    fn bury(&mut self, frame: &mut Frame) {
        let deaths = std::mem::take(&mut self.deaths);
        for record in deaths.iter().filter(|r| !r.is_leader()) {
            self.bury_thread(record);
        }
        for record in deaths.iter().filter(|r| r.is_leader()) {
            self.bury_process(record, frame);
        }
        self.deaths = deaths;
        self.deaths.clear();
        self.charge_unseen(frame);
        self.charge_spilled(frame);
        let tick = self.tick;
        self.early_threads
            .retain(|_, (_, at)| tick < *at + PATIENCE_TICKS);
    }

    fn bury_thread(&mut self, record: &TaskRecord) {
        let key = ProcessKey::of(record);
        let tick = self.tick;
        match self.table.by_key_mut(key) {
            Some(process) if tick >= process.account.freed_from => {
                process.account.freed_ns += record.runtime_ns;
            }
            Some(_) => {}
            None if record.leader_start_ns >= self.baseline_at_ns => {
                let (sum, at) = self.early_threads.entry(key).or_default();
                *sum += record.runtime_ns;
                *at = tick;
            }
            None => {}
        }
    }

    fn bury_process(&mut self, record: &TaskRecord, frame: &mut Frame) {
        self.counters.deaths += 1;
        let key = ProcessKey::of(record);
        let parent = ProcessKey::parent_of(record);
        // `dead_threads_ns` of a freed leader is the whole process; see TaskRecord.
        let whole = record.dead_threads_ns;
        let known = self.table.find(key);
        let (fresh, explained, cgroup) = match known.and_then(|slot| self.table.get_mut(slot)) {
            Some(process) if process.state != State::Gone => {
                let account = &mut process.account;
                let by_threads = account.freed_ns + record.runtime_ns;
                let whole = if self.tick >= account.freed_from {
                    whole.max(by_threads)
                } else {
                    whole
                };
                let fresh = whole.saturating_sub(account.total_ns);
                let explained = match process.state {
                    State::Vanished(_) => {
                        fresh + record.reaped_ns.saturating_sub(account.reaped_ns)
                    }
                    _ => whole + record.reaped_ns,
                };
                account.total_ns = account.total_ns.max(whole);
                process.state = State::Gone;
                (fresh, explained, process.cgroup)
            }
            Some(_) => return,
            None if record.start_ns < self.baseline_at_ns => {
                // Dead before the first scan, freed after it: none of this is ours.
                self.counters.deaths_before_start += 1;
                return;
            }
            None => {
                let (by_threads, _) = self.early_threads.remove(&key).unwrap_or_default();
                let whole = whole.max(by_threads + record.runtime_ns);
                (whole, whole + record.reaped_ns, self.enter(record, None))
            }
        };
        let due = self.take_credit(parent, cgroup, fresh);
        if let Some(mother) = self.table.by_key_mut(parent) {
            mother.account.explained_ns += explained;
        }
        match known {
            Some(slot) => {
                self.charge_own(slot, due);
                self.retire(slot, frame);
            }
            None => {
                self.counters.never_seen += 1;
                if record.reaped_ns > 0 {
                    self.dead_parents.insert(key, (parent, 0));
                }
                self.unseen.push(Unseen {
                    parent,
                    cgroup,
                    ns: due,
                });
            }
        }
    }

    /// What of `fresh` was not charged in advance, when a total showed it before its record.
    fn take_credit(&mut self, parent: ProcessKey, cgroup: CgroupIndex, fresh: u64) -> u64 {
        if let Some(due) = self.cgroups.death(cgroup, fresh, self.tick) {
            return due;
        }
        let Some(mother) = self.table.by_key_mut(parent) else {
            return fresh;
        };
        let taken = mother.account.credit_ns.min(fresh);
        mother.account.credit_ns -= taken;
        fresh - taken
    }

    /// The nearest ancestor that is known gets what its unseen descendants used.
    fn charge_unseen(&mut self, frame: &mut Frame) {
        let unseen = std::mem::take(&mut self.unseen);
        for dead in &unseen {
            let mut ancestor = dead.parent;
            let mut owner = self.table.find(ancestor);
            for _ in 0..LONGEST_CHAIN {
                if owner.is_some() {
                    break;
                }
                let Some(&(next, _)) = self.dead_parents.get(&ancestor) else {
                    break;
                };
                ancestor = next;
                owner = self.table.find(ancestor);
            }
            self.cgroups.charge(dead.cgroup, dead.ns, self.tick);
            frame.add(Charge {
                owner,
                own: false,
                cgroup: dead.cgroup,
                ns: dead.ns,
                processes: 1,
            });
        }
        self.unseen = unseen;
        self.unseen.clear();
        // A dead parent's record may come before its child's, by a tick at most.
        self.dead_parents.retain(|_, (_, age)| {
            *age += 1;
            *age <= 2
        });
    }

    fn charge_spilled(&mut self, frame: &mut Frame) {
        let mut fresh = Vec::new();
        let spilled = &mut self.spilled;
        self.source.spilled(&mut |ids, kept| {
            let (ns, processes) = spilled
                .insert(ids, (kept.runtime_ns, kept.processes))
                .unwrap_or_default();
            if kept.processes > processes {
                fresh.push((ids, kept.runtime_ns - ns, kept.processes - processes));
            }
        });
        for (ids, ns, processes) in fresh {
            let places = Places {
                procfs: &self.procfs,
                mounts: &self.mounts,
                tick: self.tick,
            };
            let cgroup = self.cgroups.enter(ids, None, &places);
            self.cgroups.charge(cgroup, ns, self.tick);
            frame.add(Charge {
                owner: None,
                own: false,
                cgroup,
                ns,
                processes,
            });
        }
    }

    fn scan(&mut self, frame: &mut Frame) -> Result<Scan, SourceError> {
        // The source is lent out of `self` while its records come back in.
        let mut source = std::mem::replace(&mut self.source, Box::new(Lent));
        let scanned = source.scan(&mut |record| self.observe(record, frame));
        self.source = source;
        self.hidden.refresh(self.tick, &self.table);
        for at in 0..self.hidden.count() {
            if let Some(record) = self.hidden.read(at) {
                self.observe(&record, frame);
            }
        }
        self.counters.hidden_tasks = self.hidden.count() as u64;
        let scan = scanned?;
        self.counters.torn_reads += u64::from(scan.torn_bytes > 0);
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
        let home = process.cgroup;
        let ids = CgroupIds {
            cgroup: record.cgroup,
            cpuacct: record.cpuacct,
        };
        if self.cgroups.get(home).is_none_or(|c| c.ids != ids) {
            let moved = self.enter(record, Some(record.tgid));
            self.cgroups.joined(home, -1);
            self.cgroups.joined(moved, 1);
            if let Some(process) = self.table.get_mut(slot) {
                process.cgroup = moved;
            }
        }
    }

    /// Makes room for a process on first sight, and decides since when its time is ours.
    fn welcome(&mut self, record: &TaskRecord, frame: &mut Frame) -> Slot {
        let key = ProcessKey::of(record);
        let cgroup = self.enter(record, Some(record.tgid));
        self.cgroups.joined(cgroup, 1);
        let ours = self.tick > 1 && key.start_ns + BIRTH_SLACK_NS >= self.last_scan_ns;
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
        if !ours && self.tick > 1 {
            self.counters.late_arrivals += 1;
        }
        frame.born.push(slot);
        slot
    }

    fn enter(&mut self, record: &TaskRecord, pid: Option<u32>) -> CgroupIndex {
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

    /// Charges what the living used, and notes who is no longer there.
    fn settle_living(&mut self, frame: &mut Frame) {
        let tick = self.tick;
        let mut vanished = Vec::new();
        let mut given_up = Vec::new();
        for (slot, process) in self.table.iter_mut() {
            let account = &mut process.account;
            if account.scan != tick {
                match process.state {
                    State::Alive => {
                        process.state = State::Vanished(tick);
                        let known = account.total_ns + account.reaped_ns;
                        vanished.push((process.parent, known));
                    }
                    State::Vanished(since) if tick >= since + PATIENCE_TICKS => given_up.push(slot),
                    _ => {}
                }
                continue;
            }
            frame.processes += 1;
            let dead = if account.total_ns == u64::MAX {
                // First sight of an old one: what its threads left behind is old too.
                account.freed_ns = account.dead_threads_ns;
                account.total_ns = account.living_ns + account.dead_threads_ns;
                account.explained_ns = account.reaped_ns;
                continue;
            } else if tick >= account.freed_from {
                account.dead_threads_ns.max(account.freed_ns)
            } else {
                account.dead_threads_ns
            };
            let total = account.living_ns + dead;
            let fresh = total.saturating_sub(account.total_ns);
            account.total_ns += fresh;
            account.tick_ns += fresh;
        }
        for (parent, known) in vanished {
            if let Some(mother) = self.table.by_key_mut(parent) {
                mother.account.explained_ns += known;
            }
        }
        for slot in given_up {
            self.counters.records_missing += 1;
            if let Some(process) = self.table.get_mut(slot) {
                process.state = State::Gone;
            }
            self.retire(slot, frame);
        }
    }

    /// Books what was found to be each process's own.
    fn charge_processes(&mut self, frame: &mut Frame) {
        let tick = self.tick;
        for (slot, process) in self.table.iter_mut() {
            let ns = std::mem::take(&mut process.account.tick_ns);
            if ns > 0 {
                process.charged_ns += ns;
                self.cgroups.charge(process.cgroup, ns, tick);
                frame.add(Charge {
                    owner: Some(slot),
                    own: true,
                    cgroup: process.cgroup,
                    ns,
                    processes: 0,
                });
            }
        }
    }

    /// What a parent reaped and no record explained: its children whose deaths went unseen.
    fn settle_parents(&mut self, frame: &mut Frame) {
        let tick = self.tick;
        for (slot, process) in self.table.iter_mut() {
            if process.state != State::Alive || process.account.reaped_ns == 0 {
                continue;
            }
            let account = &mut process.account;
            // Records of children that nobody waited for (SIGCHLD ignored) explain more than
            // was reaped: they must not hide a later loss.
            let open = account.reaped_ns.saturating_sub(account.credit_ns);
            account.explained_ns = account.explained_ns.min(open);
            let unexplained = open - account.explained_ns;
            let due = unexplained.min(account.remainder_ns);
            account.remainder_ns = unexplained - due;
            if due == 0 || self.cgroups.is_watched(process.cgroup) {
                continue;
            }
            account.credit_ns += due;
            self.counters.parent_remainder_ns += due;
            self.cgroups.charge(process.cgroup, due, tick);
            frame.add(Charge {
                owner: Some(slot),
                own: false,
                cgroup: process.cgroup,
                ns: due,
                processes: 0,
            });
        }
    }

    /// What the kernel counted for a cgroup and nobody was charged for.
    fn settle_cgroups(&mut self, frame: &mut Frame) {
        let counters = &mut self.counters;
        self.cgroups.remainders(self.tick, &mut |cgroup, ns| {
            counters.cgroup_remainder_ns += ns;
            frame.add(Charge {
                owner: None,
                own: false,
                cgroup,
                ns,
                processes: 0,
            });
        });
        self.cgroups.tidy(self.tick, &mut frame.cgroups_gone);
    }

    fn charge_own(&mut self, slot: Slot, ns: u64) {
        if let Some(process) = self.table.get_mut(slot) {
            process.account.tick_ns += ns;
        }
    }

    fn retire(&mut self, slot: Slot, frame: &mut Frame) {
        frame.gone.push(slot);
        if let Some(process) = self.table.get(slot) {
            self.cgroups.joined(process.cgroup, -1);
        }
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
