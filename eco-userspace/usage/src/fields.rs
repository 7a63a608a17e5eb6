// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The fields that eco-ebpf reads, found in the running kernel's types.

use eco_common::{Offsets, offsets::ABSENT};

use crate::btf::Btf;

/// A field that eco needs and this kernel does not have.
#[derive(Debug, thiserror::Error)]
#[error(
    "kernel {kernel} has no field {field} in its type information; \
     eco cannot read tasks through BPF on it and falls back to procfs"
)]
pub struct MissingField {
    /// `struct.field`.
    pub field: String,
    /// The kernel's release.
    pub kernel: String,
}

/// Finds every offset.
///
/// # Errors
/// Names the first field that is missing.
pub fn resolve(btf: &Btf, kernel: &str) -> Result<Offsets, MissingField> {
    let need = |structure: &str, path: &str| {
        btf.field(structure, path).ok_or_else(|| MissingField {
            field: format!("{structure}.{path}"),
            kernel: kernel.to_owned(),
        })
    };
    // A v1 controller's place in the array is its number in this enum; a kernel without
    // cpuacct has no such number, and tasks then have their v2 cgroup alone.
    let cpuacct = match btf.enumerator("cgroup_subsys_id", "cpuacct_cgrp_id") {
        Some(index) => need("css_set", "subsys")? + index * size_of::<u64>() as u32,
        None => ABSENT,
    };
    Ok(Offsets {
        task_pid: need("task_struct", "pid")?,
        task_tgid: need("task_struct", "tgid")?,
        task_flags: need("task_struct", "flags")?,
        task_comm: need("task_struct", "comm")?,
        task_start_boottime: need("task_struct", "start_boottime")?,
        task_group_leader: need("task_struct", "group_leader")?,
        task_real_parent: need("task_struct", "real_parent")?,
        task_cred: need("task_struct", "cred")?,
        task_signal: need("task_struct", "signal")?,
        task_cgroups: need("task_struct", "cgroups")?,
        task_sum_exec_runtime: need("task_struct", "se.sum_exec_runtime")?,
        task_cpu: need("task_struct", "thread_info.cpu").or_else(|_| need("task_struct", "cpu"))?,
        cred_uid: need("cred", "uid")?,
        signal_sum_sched_runtime: need("signal_struct", "sum_sched_runtime")?,
        signal_cutime: need("signal_struct", "cutime")?,
        signal_cstime: need("signal_struct", "cstime")?,
        css_set_dfl_cgrp: need("css_set", "dfl_cgrp")?,
        css_set_cpuacct: cpuacct,
        css_cgroup: need("cgroup_subsys_state", "cgroup")?,
        cgroup_kn: need("cgroup", "kn")?,
        cgroup_root: need("cgroup", "root")?,
        cgroup_root_hierarchy_id: need("cgroup_root", "hierarchy_id")?,
        kernfs_node_id: need("kernfs_node", "id")?,
    })
}
