// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where the running kernel keeps the fields that eco reads.
//!
//! rustc emits no CO-RE relocations, so user space resolves the offsets from the kernel's own
//! BTF and freezes them into the programs as read-only data before they are verified.

/// An offset that stands for "this kernel has no such thing".
pub const ABSENT: u32 = u32::MAX;

/// Offsets in bytes, each within the struct that its name starts with.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each name is the kernel's own: struct, then field"
)]
pub struct Offsets {
    pub task_pid: u32,
    pub task_tgid: u32,
    pub task_flags: u32,
    pub task_comm: u32,
    pub task_start_boottime: u32,
    pub task_group_leader: u32,
    pub task_real_parent: u32,
    pub task_cred: u32,
    pub task_signal: u32,
    pub task_cgroups: u32,
    /// `task_struct.se.sum_exec_runtime`.
    pub task_sum_exec_runtime: u32,
    /// `task_struct.thread_info.cpu`, or `task_struct.cpu` before 5.16.
    pub task_cpu: u32,
    pub cred_uid: u32,
    pub signal_sum_sched_runtime: u32,
    pub signal_cutime: u32,
    pub signal_cstime: u32,
    pub css_set_dfl_cgrp: u32,
    /// `css_set.subsys[cpuacct_cgrp_id]`; [`ABSENT`] without v1's cpuacct.
    pub css_set_cpuacct: u32,
    pub css_cgroup: u32,
    pub cgroup_kn: u32,
    pub cgroup_root: u32,
    pub cgroup_root_hierarchy_id: u32,
    pub kernfs_node_id: u32,
}
