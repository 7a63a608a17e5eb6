// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The processes that are known, each in a slot of its own, and what each has used.

use std::fmt;

use eco_common::{COMM_LEN, TaskRecord};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::cgroup_table::CgroupIndex;

/// A process's name for ever: its id may come again, its start never does.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct ProcessKey {
    /// The process id.
    pub pid: u32,
    /// When its first thread started, in ns of `CLOCK_BOOTTIME`.
    pub start_ns: u64,
}

impl ProcessKey {
    /// The process that a record belongs to.
    #[must_use]
    pub fn of(record: &TaskRecord) -> Self {
        Self {
            pid: record.tgid,
            start_ns: record.leader_start_ns,
        }
    }

    /// The parent of the process that a record belongs to.
    #[must_use]
    pub fn parent_of(record: &TaskRecord) -> Self {
        Self {
            pid: record.parent,
            start_ns: record.parent_start_ns,
        }
    }
}

/// A task's name as the kernel keeps it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Comm(pub [u8; COMM_LEN]);

impl Comm {
    /// The name as text; bytes that are no UTF-8 become `�`.
    #[must_use]
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        let end = self.0.iter().position(|&b| b == 0).unwrap_or(COMM_LEN);
        String::from_utf8_lossy(&self.0[..end])
    }
}

impl fmt::Debug for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text(), f)
    }
}

/// Where a process is kept. Valid until the sample after the one that reported it gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u32);

impl Slot {
    /// The slot's number, for a table beside this one.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Whether a process is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// In the last scan.
    #[default]
    Alive,
    /// Not in the scan of this number, and its last record has not come yet.
    Vanished(u64),
    /// Its last record has been charged, or will not come.
    Gone,
}

/// A process.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// Its name for ever.
    pub key: ProcessKey,
    /// Its parent, as last seen.
    pub parent: ProcessKey,
    /// Who owns it.
    pub uid: u32,
    /// What it calls itself.
    pub comm: Comm,
    /// Whether it is a kernel thread.
    pub kernel: bool,
    /// Where it lives.
    pub cgroup: CgroupIndex,
    /// Its living threads, as last seen.
    pub threads: u32,
    /// Whether it is there.
    pub state: State,
    /// CPU time charged to it since it is known, in ns.
    pub charged_ns: u64,
    pub(crate) account: Account,
}

/// What the ledger keeps of a process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account {
    /// The largest total since its start that was ever seen: counters are read while they run,
    /// so a later look may show less for a moment.
    pub(crate) total_ns: u64,
    /// The scan that the next three belong to.
    pub(crate) scan: u64,
    pub(crate) living_ns: u64,
    pub(crate) dead_threads_ns: u64,
    pub(crate) reaped_ns: u64,
    /// The final runtimes of its freed threads. `dead_threads_ns` takes a thread's runtime
    /// when the thread leaves, stale by up to a clock tick and short of its last slice.
    pub(crate) freed_ns: u64,
    /// From which scan on `freed_ns` is complete.
    pub(crate) freed_from: u64,
    /// Charged in this tick: its own, and its short-lived children's.
    pub(crate) tick_ns: u64,
    /// `reaped_ns` that is accounted for by children whose records were seen.
    pub(crate) explained_ns: u64,
    /// What was charged for children whose records have not come (yet).
    pub(crate) credit_ns: u64,
    /// `reaped_ns` in the scan before: what was reaped since may have a record on its way.
    pub(crate) reaped_before_ns: u64,
}

/// All processes that are known.
#[derive(Default)]
pub(crate) struct Table {
    slots: Vec<Option<Process>>,
    free: Vec<u32>,
    by_key: FxHashMap<ProcessKey, u32>,
}

impl Table {
    pub(crate) fn find(&self, key: ProcessKey) -> Option<Slot> {
        self.by_key.get(&key).copied().map(Slot)
    }

    pub(crate) fn get(&self, slot: Slot) -> Option<&Process> {
        self.slots.get(slot.index())?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, slot: Slot) -> Option<&mut Process> {
        self.slots.get_mut(slot.index())?.as_mut()
    }

    pub(crate) fn by_key_mut(&mut self, key: ProcessKey) -> Option<&mut Process> {
        let slot = self.find(key)?;
        self.get_mut(slot)
    }

    pub(crate) fn insert(&mut self, process: Process) -> Slot {
        let key = process.key;
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(process);
                slot
            }
            None => {
                self.slots.push(Some(process));
                (self.slots.len() - 1) as u32
            }
        };
        self.by_key.insert(key, slot);
        Slot(slot)
    }

    pub(crate) fn remove(&mut self, slot: Slot) -> Option<Process> {
        let process = self.slots.get_mut(slot.index())?.take()?;
        self.by_key.remove(&process.key);
        self.free.push(slot.0);
        Some(process)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Slot, &Process)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(i, p)| Some((Slot(i as u32), p.as_ref()?)))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (Slot, &mut Process)> {
        self.slots
            .iter_mut()
            .enumerate()
            .filter_map(|(i, p)| Some((Slot(i as u32), p.as_mut()?)))
    }

    pub(crate) fn capacity(&self) -> usize {
        self.slots.len()
    }
}
