// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What eco's kernel programs and its user space both read: records, map keys, limits.
//!
//! Everything here is plain old data in C layout, without padding, so that the bytes which a
//! program writes are the value that user space reads.

#![no_std]

pub mod offsets;

pub use offsets::Offsets;

/// Length of a task's name in the kernel, the closing zero included (`TASK_COMM_LEN`).
pub const COMM_LEN: usize = 16;

/// Size of the ring through which deaths are reported, in bytes. At 104 bytes a record it holds
/// some 4,600 deaths; user space is woken when it is half full.
pub const DEATHS_RING_BYTES: u32 = 512 * 1024;

/// The longest path of a cgroup that is reported, the closing zero included. Kubernetes within
/// a container (kind) makes some of 350 bytes; longer ones are cut, and looked for.
pub const CGROUP_PATH_LEN: usize = 496;

/// Size of the ring through which new cgroups are reported, in bytes: some 250 of them between
/// two ticks.
pub const BIRTHS_RING_BYTES: u32 = 128 * 1024;

/// How many cgroups the spill map can hold (see [`SpillKey`]).
pub const SPILL_ENTRIES: u32 = 1024;

/// One task, alive (from the iterator) or dead (from the fold).
///
/// Times are ns; moments are on `CLOCK_BOOTTIME`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskRecord {
    /// When this thread started. Together with `pid` it names a thread for ever.
    pub start_ns: u64,
    /// When the thread group's leader started: with `tgid`, the process's name for ever.
    pub leader_start_ns: u64,
    /// CPU time of this thread (`se.sum_exec_runtime`).
    pub runtime_ns: u64,
    /// CPU time of the process's threads that are no more (`signal->sum_sched_runtime`). Of a
    /// leader that was freed this holds the whole process, the leader included.
    pub dead_threads_ns: u64,
    /// CPU time of all descendants that the process has waited for (`cutime + cstime`).
    pub reaped_ns: u64,
    /// When the parent process's leader started.
    pub parent_start_ns: u64,
    /// Id of its cgroup in the v2 hierarchy.
    pub cgroup: u64,
    /// Id of its cgroup in v1's cpuacct hierarchy; the v2 root's on machines without one.
    pub cpuacct: u64,
    /// The thread.
    pub pid: u32,
    /// The process.
    pub tgid: u32,
    /// The parent process.
    pub parent: u32,
    /// The real user id.
    pub uid: u32,
    /// The CPU that it was last on.
    pub cpu: u32,
    /// See [`flags`].
    pub flags: u32,
    /// Its name, closed by zero.
    pub comm: [u8; COMM_LEN],
}

impl TaskRecord {
    /// Size of a record on the wire, in bytes.
    pub const SIZE: usize = size_of::<Self>();

    /// Whether this thread leads its process.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.pid == self.tgid
    }

    /// Whether this is a kernel thread.
    #[must_use]
    pub fn is_kernel(&self) -> bool {
        self.flags & flags::KERNEL_THREAD != 0
    }
}

/// Bits of [`TaskRecord::flags`].
pub mod flags {
    /// A kernel thread.
    pub const KERNEL_THREAD: u32 = 1;
    /// The task has been freed: this record is its last.
    pub const DEAD: u32 = 1 << 1;
}

/// A cgroup that was made.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CgroupBirth {
    /// Its id in its hierarchy.
    pub id: u64,
    /// The hierarchy's number: 0 for v2.
    pub hierarchy: u32,
    /// Bytes of `path`, the closing zero not included.
    pub length: u32,
    /// Its path from the hierarchy's root.
    pub path: [u8; CGROUP_PATH_LEN],
}

impl CgroupBirth {
    /// Size of a record on the wire, in bytes.
    pub const SIZE: usize = size_of::<Self>();
}

/// Where a death is folded when the ring is full: by cgroup, so that its time is kept even
/// though its name is not.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SpillKey {
    /// Id of the cgroup in the v2 hierarchy.
    pub cgroup: u64,
    /// Id of the cgroup in v1's cpuacct hierarchy.
    pub cpuacct: u64,
}

/// What was folded under a [`SpillKey`]. Only grows.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spill {
    /// CPU time of the processes, in ns.
    pub runtime_ns: u64,
    /// How many.
    pub processes: u64,
}

/// What the fold counts on each CPU. Only grows.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FoldStats {
    /// Tasks freed while the program was attached.
    pub deaths: u64,
    /// Deaths that the ring had no room for.
    pub ring_full: u64,
    /// Of those, the ones that the spill map had no room for either: lost.
    pub lost: u64,
    /// CPU time of the lost, in ns.
    pub lost_ns: u64,
    /// Runs of the program that were timed.
    pub timed: u64,
    /// Their time, in ns.
    pub timed_ns: u64,
}

/// One run in this many is timed, so that the cost of a death can be told without making
/// each death dearer.
pub const TIMED_EVERY: u64 = 64;
