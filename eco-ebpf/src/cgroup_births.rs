// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `tp_btf/cgroup_mkdir`: the path of each cgroup that is made, by its id.
//!
//! A task's record has its cgroup's id. Who looks for the path once a tick finds nothing of a
//! cgroup that came and went in between; so whoever makes one leaves its path in a ring. It runs
//! as often as cgroups are made, which is some a second on the busiest of nodes.

use core::ptr;

use aya_ebpf::{
    bindings::BPF_RB_NO_WAKEUP,
    helpers::bpf_probe_read_kernel_str_bytes,
    macros::{btf_tracepoint, map},
    maps::RingBuf,
    programs::BtfTracePointContext,
};
use eco_common::{BIRTHS_RING_BYTES, CgroupBirth};

use crate::kernel::{self, Kernel};

#[map]
static BIRTHS: RingBuf = RingBuf::with_byte_size(BIRTHS_RING_BYTES, 0);

/// Number of v1's cpuacct hierarchy; 0, which is v2's, without one. Set by the loader, frozen.
#[unsafe(no_mangle)]
static CPUACCT_HIERARCHY: u32 = 0;

/// `TP_PROTO(struct cgroup *cgrp, const char *path)`, include/trace/events/cgroup.h. The path is
/// from the hierarchy's root, whatever namespace its maker is in.
#[btf_tracepoint(function = "cgroup_mkdir")]
fn eco_cgroups(context: BtfTracePointContext) -> i32 {
    let cgroup: Kernel = context.arg(0);
    let path: *const u8 = context.arg(1);
    let hierarchy = kernel::cgroup_hierarchy(cgroup);
    // SAFETY: a static that lives as long as the program.
    let cpuacct = unsafe { ptr::read_volatile(&raw const CPUACCT_HIERARCHY) };
    // On a hybrid machine each is made once in every hierarchy; tasks have these two.
    if hierarchy != 0 && hierarchy != cpuacct {
        return 0;
    }
    // Without room its path is looked for, as without this program.
    let Some(mut entry) = BIRTHS.reserve::<CgroupBirth>(0) else {
        return 0;
    };
    // SAFETY: plain bytes, of which user space reads `length`.
    let birth = unsafe { &mut *entry.as_mut_ptr() };
    birth.id = kernel::cgroup_id(cgroup);
    birth.hierarchy = hierarchy;
    // SAFETY: the helper checks the source and writes within the destination.
    let read = unsafe { bpf_probe_read_kernel_str_bytes(path, &mut birth.path) };
    birth.length = read.map_or(0, |read| read.len() as u32);
    entry.submit(u64::from(BPF_RB_NO_WAKEUP));
    0
}
