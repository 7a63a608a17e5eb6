// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What one sample says: who used the CPU since the one before.

use rustc_hash::FxHashMap;

use crate::{cgroup_table::CgroupIndex, process::Slot};

/// CPU time used by someone in a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    /// The process that used it or, if `own` is false, the nearest known ancestor of those who
    /// did and are no more. `None`: nobody is known but the cgroup.
    pub owner: Option<Slot>,
    /// Whether the owner itself used it.
    pub own: bool,
    /// Where it was used.
    pub cgroup: CgroupIndex,
    /// How much, in ns.
    pub ns: u64,
    /// How many processes, never seen alive, are in this.
    pub processes: u64,
}

/// Two moments of `CLOCK_BOOTTIME` in ns, before and after the tasks were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Just before.
    pub before_ns: u64,
    /// Just after.
    pub after_ns: u64,
}

/// A sample. Reused from tick to tick, so that a tick allocates nothing.
#[derive(Debug, Default)]
pub struct Frame {
    /// When.
    pub window: Window,
    /// Who; each owner and cgroup at most once, own and not.
    pub charges: Vec<Charge>,
    /// Processes seen for the first time.
    pub born: Vec<Slot>,
    /// Processes that are no more. Readable until the next sample.
    pub gone: Vec<Slot>,
    /// Cgroups that are forgotten.
    pub cgroups_gone: Vec<CgroupIndex>,
    /// Living processes.
    pub processes: u64,
    /// Living threads.
    pub threads: u64,
    /// All CPU time charged since the first sample, in ns.
    pub busy_ns: u64,
    /// Where the ledgers did not agree, as totals since the first sample.
    pub counters: Counters,
    merged: FxHashMap<(Option<Slot>, CgroupIndex), usize>,
}

/// Where the ledgers did not agree. Totals that only grow, but for `hidden_tasks`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Last records of processes.
    pub deaths: u64,
    /// Of these, processes that no scan ever saw.
    pub never_seen: u64,
    /// Last records of processes that had died before the first scan.
    pub deaths_before_start: u64,
    /// Processes that a scan missed although they were there: what they had used until then
    /// was not charged.
    pub late_arrivals: u64,
    /// Processes that vanished and whose last record never came.
    pub records_missing: u64,
    /// Charged because a parent had reaped it and no record told of it, in ns.
    pub parent_remainder_ns: u64,
    /// Charged because the kernel counted it for a cgroup and no record told of it, in ns.
    pub cgroup_remainder_ns: u64,
    /// Of the last two, what a late record told of after all, in ns: the rest is time of
    /// processes whose deaths BPF missed.
    pub late_records_ns: u64,
    /// Scans that ended within a record.
    pub torn_reads: u64,
    /// Processes that `/proc` shows and the iterator does not, now.
    pub hidden_tasks: u64,
}

impl Counters {
    /// Each by its name.
    #[must_use]
    pub fn named(&self) -> [(&'static str, u64); 10] {
        [
            ("deaths", self.deaths),
            ("never_seen", self.never_seen),
            ("deaths_before_start", self.deaths_before_start),
            ("late_arrivals", self.late_arrivals),
            ("records_missing", self.records_missing),
            ("parent_remainder_ns", self.parent_remainder_ns),
            ("cgroup_remainder_ns", self.cgroup_remainder_ns),
            ("late_records_ns", self.late_records_ns),
            ("torn_reads", self.torn_reads),
            ("hidden_tasks", self.hidden_tasks),
        ]
    }
}

impl Frame {
    pub(crate) fn clear(&mut self) {
        self.charges.clear();
        self.born.clear();
        self.gone.clear();
        self.cgroups_gone.clear();
        self.merged.clear();
        self.processes = 0;
        self.threads = 0;
    }

    /// Adds a charge, to one of the same owner and cgroup if there is one.
    pub(crate) fn add(&mut self, charge: Charge) {
        if !charge.own {
            // Thousands of short-lived children may have one parent.
            let at = *self
                .merged
                .entry((charge.owner, charge.cgroup))
                .or_insert(usize::MAX);
            if let Some(same) = self.charges.get_mut(at) {
                same.ns += charge.ns;
                same.processes += charge.processes;
                return;
            }
            self.merged
                .insert((charge.owner, charge.cgroup), self.charges.len());
        }
        self.charges.push(charge);
    }
}
