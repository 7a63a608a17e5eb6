// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a source of task records must give, whichever way it reads them.

use std::{io, os::fd::RawFd};

use eco_common::{CgroupBirth, FoldStats, Spill, SpillKey, TaskRecord};
use serde::{Deserialize, Serialize};

/// How CPU time is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// The BPF task iterator with the fold of the dying: exact ns, nobody lost.
    Iter,
    /// `/proc`: clock ticks of 10 ms; a process that lives and dies between two reads shows
    /// only in what its parent has reaped.
    Procfs,
}

impl Tier {
    /// The value of the `tier` label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Iter => "iter",
            Self::Procfs => "procfs",
        }
    }

    /// What this tier does not see, in a sentence for the status page.
    #[must_use]
    pub fn blindness(self) -> &'static str {
        match self {
            Self::Iter => {
                "counts every task to the nanosecond, the dead included; does not know on which \
                 socket or core"
            }
            Self::Procfs => {
                "10 ms grain; short-lived processes are known only by what their parent reaps, \
                 and lost where nobody waits for them"
            }
        }
    }
}

/// Why tasks could not be read this time.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The iterator could not be attached or read.
    #[error("the task iterator cannot be read: {0}")]
    Iterator(String),
    /// It ended too early: whoever came after this was not shown.
    #[error(
        "the task iterator ended {torn} bytes into a record, after {records} whole ones; the \
         rest is read in the next tick"
    )]
    Torn {
        /// Whole records before that.
        records: u64,
        /// Bytes of the one that was cut.
        torn: usize,
    },
    /// `/proc` could not be listed.
    #[error("{path}: {source}")]
    Procfs {
        /// What was read.
        path: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// What one scan saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Records given out.
    pub records: u64,
}

/// What a source costs and what it lost, as totals since it was opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Costs {
    /// What the fold counted, summed over CPUs.
    pub fold: FoldStats,
    /// Kernel memory of the maps, in bytes.
    pub map_bytes: u64,
    /// Scans done.
    pub scans: u64,
    /// Time spent in them, in ns.
    pub scan_ns: u64,
}

/// A source of task records.
pub trait TaskSource: Send {
    /// How this source knows what it says.
    fn tier(&self) -> Tier;

    /// Gives out one record for each thread (procfs: each process) that is alive.
    ///
    /// # Errors
    /// When the source as a whole cannot be read. A task that cannot be read costs only itself.
    fn scan(&mut self, visit: &mut dyn FnMut(&TaskRecord)) -> Result<Scan, SourceError>;

    /// Gives out the last record of each task freed since the last call.
    fn deaths(&mut self, visit: &mut dyn FnMut(&TaskRecord));

    /// Gives out the cgroups that were made since the last call, where the source hears of them.
    fn births(&mut self, _visit: &mut dyn FnMut(&CgroupBirth)) {}

    /// Gives out the totals of deaths that were kept under their cgroup alone.
    fn spilled(&mut self, visit: &mut dyn FnMut(SpillKey, Spill));

    /// A descriptor that becomes readable when deaths should be fetched before the next tick.
    fn wakeup(&self) -> Option<RawFd>;

    /// What it costs and what it lost.
    fn costs(&mut self) -> Costs;
}
