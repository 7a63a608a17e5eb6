// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reading kernel structs through offsets that user space froze into the program.
//!
//! The pointers come from BTF-typed contexts. A load through one is checked by the verifier
//! against the kernel's BTF, and a fault in it reads as zero instead of crashing: so a pointer
//! that has gone stale costs a wrong name, never the machine.

use core::ptr;

use eco_common::{COMM_LEN, Offsets, TaskRecord, flags, offsets::ABSENT};

/// Set by the loader, then frozen: the verifier sees constants.
#[unsafe(no_mangle)]
static OFFSETS: Offsets = Offsets {
    task_pid: 0,
    task_tgid: 0,
    task_flags: 0,
    task_comm: 0,
    task_start_boottime: 0,
    task_group_leader: 0,
    task_real_parent: 0,
    task_cred: 0,
    task_signal: 0,
    task_cgroups: 0,
    task_sum_exec_runtime: 0,
    task_cpu: 0,
    cred_uid: 0,
    signal_sum_sched_runtime: 0,
    signal_cutime: 0,
    signal_cstime: 0,
    css_set_dfl_cgrp: 0,
    css_set_cpuacct: 0,
    css_cgroup: 0,
    cgroup_kn: 0,
    cgroup_root: 0,
    cgroup_root_hierarchy_id: 0,
    kernfs_node_id: 0,
};

/// `PF_KTHREAD` of include/linux/sched.h.
const PF_KTHREAD: u32 = 0x0020_0000;

/// A pointer to some kernel struct, as a BTF-typed context hands it out.
pub(crate) type Kernel = *const u8;

/// The offset of a field: a volatile load, or the compiler would fold the zero above into
/// the code and the loader would have nothing left to set.
macro_rules! offset {
    ($field:ident) => {
        // SAFETY: a field of a static that lives as long as the program.
        unsafe { ptr::read_volatile(&raw const OFFSETS.$field) }
    };
}

#[inline(always)]
fn load<T: Copy>(base: Kernel, offset: u32) -> T {
    // SAFETY: the verifier proves each such load against the kernel's BTF, and the kernel
    // turns a fault in it into zero.
    unsafe { ptr::read_volatile(base.add(offset as usize).cast::<T>()) }
}

/// Fills `record` with what the kernel knows of `task`.
#[inline(always)]
pub(crate) fn describe(task: Kernel, record: &mut TaskRecord) {
    let leader: Kernel = load(task, offset!(task_group_leader));
    let parent: Kernel = load(task, offset!(task_real_parent));
    let parent_leader: Kernel = load(parent, offset!(task_group_leader));
    let cred: Kernel = load(task, offset!(task_cred));
    let signal: Kernel = load(task, offset!(task_signal));

    record.start_ns = load(task, offset!(task_start_boottime));
    record.leader_start_ns = load(leader, offset!(task_start_boottime));
    record.runtime_ns = load(task, offset!(task_sum_exec_runtime));
    record.dead_threads_ns = load(signal, offset!(signal_sum_sched_runtime));
    let reaped_user: u64 = load(signal, offset!(signal_cutime));
    let reaped_system: u64 = load(signal, offset!(signal_cstime));
    record.reaped_ns = reaped_user + reaped_system;
    record.parent_start_ns = load(parent_leader, offset!(task_start_boottime));
    record.pid = load(task, offset!(task_pid));
    record.tgid = load(task, offset!(task_tgid));
    record.parent = load(parent, offset!(task_tgid));
    record.uid = load(cred, offset!(cred_uid));
    record.cpu = load(task, offset!(task_cpu));
    let task_flags: u32 = load(task, offset!(task_flags));
    record.flags = if task_flags & PF_KTHREAD != 0 {
        flags::KERNEL_THREAD
    } else {
        0
    };
    record.comm = comm(task);
    (record.cgroup, record.cpuacct) = cgroups(task);
}

/// The ids of the task's cgroups: in the v2 hierarchy, and in v1's cpuacct hierarchy.
#[inline(always)]
pub(crate) fn cgroups(task: Kernel) -> (u64, u64) {
    let css_set: Kernel = load(task, offset!(task_cgroups));
    let unified = cgroup_id(load(css_set, offset!(css_set_dfl_cgrp)));
    let at = offset!(css_set_cpuacct);
    if at == ABSENT {
        return (unified, unified);
    }
    let css: Kernel = load(css_set, at);
    (unified, cgroup_id(load(css, offset!(css_cgroup))))
}

/// The number of the hierarchy that a cgroup is in: 0 for v2.
#[inline(always)]
pub(crate) fn cgroup_hierarchy(cgroup: Kernel) -> u32 {
    let root: Kernel = load(cgroup, offset!(cgroup_root));
    load(root, offset!(cgroup_root_hierarchy_id))
}

#[inline(always)]
pub(crate) fn cgroup_id(cgroup: Kernel) -> u64 {
    let node: Kernel = load(cgroup, offset!(cgroup_kn));
    load(node, offset!(kernfs_node_id))
}

#[inline(always)]
fn comm(task: Kernel) -> [u8; COMM_LEN] {
    let at = offset!(task_comm);
    let halves: [u64; 2] = [load(task, at), load(task, at + 8)];
    // SAFETY: both are sixteen plain bytes.
    unsafe { core::mem::transmute(halves) }
}
