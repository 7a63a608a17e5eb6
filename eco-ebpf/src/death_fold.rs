// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `tp_btf/sched_process_free`: the last record of each task, when nothing of it can run again.
//!
//! At `sched_process_exit` a task has yet to tear down its address space and to run its last
//! slice; here its counters are final. They go to user space through a ring, whole: cgroup,
//! process, name and parent. When the ring is full the time is kept under the cgroup alone.

use core::mem::MaybeUninit;

use aya_ebpf::{
    bindings::{BPF_NOEXIST, BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::bpf_ktime_get_ns,
    macros::{btf_tracepoint, map},
    maps::{PerCpuArray, PerCpuHashMap, RingBuf},
    programs::BtfTracePointContext,
};
use eco_common::{
    DEATHS_RING_BYTES, FoldStats, SPILL_ENTRIES, Spill, SpillKey, TIMED_EVERY, TaskRecord, flags,
};

use crate::kernel::{self, Kernel};

#[map]
static DEATHS: RingBuf = RingBuf::with_byte_size(DEATHS_RING_BYTES, 0);

/// A hash, as its key is a pair of ids that no small integer bounds; per CPU, so that adding
/// needs no atomics. Touched only when the ring is full.
#[map]
static SPILL: PerCpuHashMap<SpillKey, Spill> = PerCpuHashMap::with_max_entries(SPILL_ENTRIES, 0);

#[map]
static FOLD_STATS: PerCpuArray<FoldStats> = PerCpuArray::with_max_entries(1, 0);

/// `TP_PROTO(struct task_struct *p)`, include/trace/events/sched.h.
#[btf_tracepoint(function = "sched_process_free")]
fn eco_deaths(context: BtfTracePointContext) -> i32 {
    let Some(stats) = FOLD_STATS.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: a per-CPU slot: no other CPU writes it, and this program does not nest.
    let stats = unsafe { &mut *stats };
    stats.deaths += 1;
    let timed = stats.deaths % TIMED_EVERY == 0;
    // SAFETY: the helper takes nothing and only reads the clock.
    let begun = if timed {
        unsafe { bpf_ktime_get_ns() }
    } else {
        0
    };

    let task: Kernel = context.arg(0);
    if let Some(mut entry) = DEATHS.reserve::<TaskRecord>(0) {
        // SAFETY: `describe` writes every field before anything reads one.
        let record = unsafe { &mut *entry.as_mut_ptr() };
        kernel::describe(task, record);
        record.flags |= flags::DEAD;
        // One wake-up when half full; else user space looks by itself once per tick.
        let half = u64::from(DEATHS_RING_BYTES) / 2;
        let full = DEATHS.query(u64::from(BPF_RB_AVAIL_DATA)) >= half;
        entry.submit(u64::from(if full {
            BPF_RB_FORCE_WAKEUP
        } else {
            BPF_RB_NO_WAKEUP
        }));
    } else {
        stats.ring_full += 1;
        spill(task, stats);
        #[cfg(feature = "log")]
        aya_log_ebpf::warn!(
            &context,
            "the ring of deaths is full: {} kept under their cgroup, {} lost",
            stats.ring_full,
            stats.lost
        );
    }

    if timed {
        stats.timed += 1;
        // SAFETY: as above.
        stats.timed_ns += unsafe { bpf_ktime_get_ns() } - begun;
    }
    0
}

/// Keeps a dead process's time under its cgroup. A thread's is in its process's sum.
#[inline(always)]
fn spill(task: Kernel, stats: &mut FoldStats) {
    let mut record = MaybeUninit::<TaskRecord>::uninit();
    // SAFETY: `describe` writes every field.
    let record = unsafe {
        kernel::describe(task, &mut *record.as_mut_ptr());
        record.assume_init_ref()
    };
    if !record.is_leader() {
        return;
    }
    let key = SpillKey {
        cgroup: record.cgroup,
        cpuacct: record.cpuacct,
    };
    if SPILL.get_ptr(&key).is_none() {
        // Where another CPU was first, the key is there already: both then add below.
        let _ = SPILL.insert(&key, &Spill::default(), u64::from(BPF_NOEXIST));
    }
    let Some(kept) = SPILL.get_ptr_mut(&key) else {
        stats.lost += 1;
        stats.lost_ns += record.dead_threads_ns;
        return;
    };
    // SAFETY: this CPU's own value; nobody else writes it.
    let kept = unsafe { &mut *kept };
    kept.runtime_ns += record.dead_threads_ns;
    kept.processes += 1;
}
