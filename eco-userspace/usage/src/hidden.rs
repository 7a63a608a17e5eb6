// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Processes that `/proc` shows and the iterator does not.
//!
//! Seen on some virtual machines, whose first process no BPF program may look at. They are few;
//! they are found by comparing the two lists now and then, and read one by one.

use std::{
    fs::{self, File},
    io::Read,
    path::PathBuf,
};

use eco_common::TaskRecord;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::{
    process::{State, Table},
    procfs,
};

/// The lists are compared once in this many ticks.
const COMPARE_TICKS: u64 = 16;

/// More than this many would mean that the comparison is wrong, not that they are hidden.
const MOST: usize = 64;

/// A hidden process's threads are read one by one when its clock ticks have moved, and once in
/// this many ticks anyway.
const EXACT_TICKS: u64 = 8;

#[derive(Default)]
pub(crate) struct Hidden {
    procfs: PathBuf,
    pids: Vec<u32>,
    last: FxHashMap<u32, Last>,
    /// Missing in the last comparison: hidden if missing in the next one too, else just new.
    suspects: FxHashSet<u32>,
    listed: Vec<u32>,
    known: FxHashSet<u32>,
    twice: FxHashSet<u32>,
}

/// What was read of a hidden process last.
#[derive(Clone, Copy)]
struct Last {
    /// Its start, as its children's records have it.
    start_ns: u64,
    /// In clock ticks, as ns.
    coarse_ns: u64,
    exact_ns: u64,
    tick: u64,
}

impl Hidden {
    pub(crate) fn new(procfs: PathBuf) -> Self {
        Self {
            procfs,
            ..Self::default()
        }
    }

    pub(crate) fn contains(&self, pid: u32) -> bool {
        self.pids.contains(&pid)
    }

    pub(crate) fn count(&self) -> usize {
        self.pids.len()
    }

    /// Compares the lists, if it is time to.
    pub(crate) fn refresh(&mut self, tick: u64, table: &Table) {
        if tick % COMPARE_TICKS > 1 {
            return;
        }
        if procfs::list_pids(&self.procfs, &mut self.listed).is_err() {
            return;
        }
        self.known.clear();
        self.twice.clear();
        // The hidden are in the table too, put there by us: they stay on the list until they are
        // gone, or are there twice, as the iterator shows them now.
        let alive = table.iter().filter(|(_, p)| p.state == State::Alive);
        for pid in alive.map(|(_, p)| p.key.pid) {
            if !self.known.insert(pid) {
                self.twice.insert(pid);
            }
        }
        let mut hidden = std::mem::take(&mut self.pids);
        hidden.retain(|pid| !self.twice.contains(pid));
        for &pid in &self.listed {
            let missing = !self.known.contains(&pid) && self.suspects.contains(&pid);
            if (missing || hidden.contains(&pid)) && self.pids.len() < MOST {
                self.pids.push(pid);
            }
        }
        let pids = &self.pids;
        self.last.retain(|pid, _| pids.contains(pid));
        self.suspects.clear();
        let known = &self.known;
        self.suspects.extend(
            self.listed
                .iter()
                .copied()
                .filter(|pid| !known.contains(pid)),
        );
    }

    /// The record of the hidden process at `index`, to the nanosecond where the kernel says so.
    pub(crate) fn read(&mut self, index: usize, tick: u64, table: &Table) -> Option<TaskRecord> {
        let pid = *self.pids.get(index)?;
        let mut record = procfs::read_stat(&self.procfs, pid)?;
        let coarse_ns = record.runtime_ns;
        let last = self.last.get(&pid).copied();
        let known = last.map(|l| l.start_ns);
        let known = known.filter(|&start| is_same_moment(start, record.start_ns));
        let start_ns = known.unwrap_or_else(|| start_by_children(&record, table));
        record.start_ns = start_ns;
        record.leader_start_ns = start_ns;
        let fresh = last.filter(|l| l.coarse_ns == coarse_ns && tick < l.tick + EXACT_TICKS);
        record.runtime_ns = match fresh {
            Some(last) => last.exact_ns,
            None => {
                let exact_ns = self.schedstat(pid).unwrap_or(coarse_ns);
                self.last.insert(
                    pid,
                    Last {
                        start_ns,
                        coarse_ns,
                        exact_ns,
                        tick,
                    },
                );
                exact_ns
            }
        };
        Some(record)
    }

    /// CPU time of the living threads of a process, in ns.
    fn schedstat(&self, pid: u32) -> Option<u64> {
        let threads = fs::read_dir(self.procfs.join(pid.to_string()).join("task")).ok()?;
        let mut sum = 0;
        for thread in threads.flatten() {
            let mut buffer = [0; 128];
            let mut file = File::open(thread.path().join("schedstat")).ok()?;
            let length = file.read(&mut buffer).ok()?;
            let text = std::str::from_utf8(buffer.get(..length)?).ok()?;
            sum += text.split_ascii_whitespace().next()?.parse::<u64>().ok()?;
        }
        Some(sum)
    }
}

/// When a process started, to the nanosecond: `/proc` has clock ticks, but the records of its
/// children name their parent exactly, and by no other name would they find it.
fn start_by_children(record: &TaskRecord, table: &Table) -> u64 {
    let mut parents = table.iter().map(|(_, process)| process.parent);
    let exact = parents.find(|parent| {
        parent.pid == record.pid && is_same_moment(parent.start_ns, record.start_ns)
    });
    exact.map_or(record.start_ns, |parent| parent.start_ns)
}

/// Whether a moment, cut to whole clock ticks, is the other.
fn is_same_moment(exact_ns: u64, in_ticks_ns: u64) -> bool {
    let tick_ns = 1_000_000_000 / procfs::ticks_per_second();
    exact_ns
        .checked_sub(in_ticks_ns)
        .is_some_and(|rest| rest < tick_ns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{Process, ProcessKey};

    #[test]
    fn a_hidden_process_goes_by_the_name_that_its_children_know() {
        let tick_ns = 1_000_000_000 / procfs::ticks_per_second();
        let hidden = TaskRecord {
            pid: 1,
            start_ns: 7 * tick_ns,
            ..TaskRecord::default()
        };
        let mut table = Table::default();
        assert_eq!(
            start_by_children(&hidden, &table),
            7 * tick_ns,
            "no child, no better name"
        );
        // One of an earlier process of that number, and one of its own.
        for (pid, start_ns) in [(5, 3 * tick_ns), (6, 7 * tick_ns + 42)] {
            let key = ProcessKey {
                pid,
                start_ns: 99 * tick_ns,
            };
            let parent = ProcessKey { pid: 1, start_ns };
            table.insert(Process {
                key,
                parent,
                ..Process::default()
            });
        }
        assert_eq!(start_by_children(&hidden, &table), 7 * tick_ns + 42);
    }
}
