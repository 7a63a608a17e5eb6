// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The second ledger: the last slice of everyone who died, and the whole life of those whom no
//! scan ever saw.

use eco_common::TaskRecord;

use crate::{
    cgroup_table::{CgroupIndex, Places},
    frame::{Charge, Frame},
    ledger::{PATIENCE_TICKS, Usage},
    process::{ProcessKey, Slot, State},
};

/// How many dead parents a dead child is followed through.
const LONGEST_CHAIN: usize = 32;

/// A process that died without ever being in a scan.
pub(crate) struct Unseen {
    parent: ProcessKey,
    cgroup: CgroupIndex,
    ns: u64,
}

impl Usage {
    pub(crate) fn forget_deaths_before_us(&mut self) {
        self.counters.deaths_before_start += self.deaths.len() as u64;
        self.deaths.clear();
        self.spilled.clear();
        let spilled = &mut self.spilled;
        self.source.spilled(&mut |ids, kept| {
            spilled.insert(ids, (kept.runtime_ns, kept.processes));
        });
    }

    /// Before the scan: the final runtimes of threads that cannot be in it.
    pub(crate) fn bury_threads(&mut self) {
        let deaths = std::mem::take(&mut self.deaths);
        let fresh = deaths.get(self.threads_buried..).unwrap_or_default();
        for record in fresh.iter().filter(|r| !r.is_leader()) {
            self.bury_thread(record);
        }
        self.threads_buried = deaths.len();
        self.deaths = deaths;
        let tick = self.tick;
        self.early_threads
            .retain(|_, (_, at)| tick < *at + PATIENCE_TICKS);
    }

    /// After the scan, which shows the parents of the dead: charges the last slice of everyone
    /// who died, and the whole life of those who were never seen alive.
    pub(crate) fn bury(&mut self, frame: &mut Frame) {
        let deaths = std::mem::take(&mut self.deaths);
        // All first: a child's record comes before its parent's.
        for record in deaths.iter().filter(|r| r.is_leader() && r.reaped_ns > 0) {
            let parent = ProcessKey::parent_of(record);
            self.dead_parents
                .insert(ProcessKey::of(record), (parent, 0));
        }
        for record in deaths.iter().filter(|r| r.is_leader()) {
            self.bury_process(record, frame);
        }
        self.deaths = deaths;
        self.deaths.clear();
        self.threads_buried = 0;
        self.charge_unseen(frame);
        self.charge_spilled(frame);
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
        if let Some(slot) = known {
            // It may have moved since the last scan: a runtime moves what it starts.
            self.follow(slot, record, None);
        }
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
                        let late = record.reaped_ns.saturating_sub(account.reaped_ns);
                        fresh + late + self.orphans.claim(key).unwrap_or(0)
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
        if record.reaped_ns > 0 {
            self.orphans.drop_children_of(key);
        }
        self.explain(parent, explained);
        match known {
            Some(slot) => {
                self.charge_own(slot, due);
                self.retire(slot, frame);
            }
            None => {
                self.counters.never_seen += 1;
                self.unseen.push(Unseen {
                    parent,
                    cgroup,
                    ns: due,
                });
            }
        }
    }

    /// `ns` of what `mother` has reaped is charged already.
    fn explain(&mut self, mother: ProcessKey, ns: u64) {
        match self.table.by_key_mut(mother) {
            Some(process) if process.account.scan == self.tick => {
                process.account.explained_ns += ns;
            }
            // Her own record has told of her children too.
            Some(process) if process.state == State::Gone => {}
            None if self.dead_parents.contains_key(&mother) => {}
            _ => self.orphans.add_children_of(mother, ns, self.tick),
        }
    }

    /// What of `fresh` was not charged in advance, when a total showed it before its record.
    fn take_credit(&mut self, parent: ProcessKey, cgroup: CgroupIndex, fresh: u64) -> u64 {
        if let Some(due) = self.cgroups.death(cgroup, fresh, self.tick) {
            self.counters.late_records_ns += fresh - due;
            return due;
        }
        let mut due = fresh;
        let mut next = Some(parent);
        for _ in 0..LONGEST_CHAIN {
            let Some(reaper) = next.filter(|_| due > 0) else {
                break;
            };
            next = self.heir(reaper);
            if let Some(process) = self.table.by_key_mut(reaper) {
                let taken = process.account.credit_ns.min(due);
                process.account.credit_ns -= taken;
                due -= taken;
            }
        }
        due
    }

    /// Who has reaped what `key` had reaped: nobody while it lives, else its parent.
    fn heir(&self, key: ProcessKey) -> Option<ProcessKey> {
        match self.table.find(key).and_then(|slot| self.table.get(slot)) {
            Some(process) if process.account.scan == self.tick => None,
            Some(process) => Some(process.parent),
            None => self.dead_parents.get(&key).map(|(parent, _)| *parent),
        }
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

    fn charge_own(&mut self, slot: Slot, ns: u64) {
        if let Some(process) = self.table.get_mut(slot) {
            process.account.tick_ns += ns;
        }
    }
}
