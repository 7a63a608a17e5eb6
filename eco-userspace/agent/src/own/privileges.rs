// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Giving up what the agent no longer needs once everything is open.

use caps::{CapSet, Capability, CapsHashSet};

/// What a running agent still uses: an iterator is attached anew each tick (BPF, PERFMON), and
/// meters and processes of other users are read (DAC_READ_SEARCH).
const KEPT: [Capability; 3] = [
    Capability::CAP_BPF,
    Capability::CAP_PERFMON,
    Capability::CAP_DAC_READ_SEARCH,
];

/// Reading which GPUs a process of another user has open, and its environment, needs what a
/// debugger needs. It is kept only where there is an AMD GPU or a Slurm, whose users and jobs
/// are not known otherwise.
pub const TO_READ_PROCESSES: Capability = Capability::CAP_SYS_PTRACE;

/// Drops every capability but the few that a tick uses and `also`, for good: from the bounding set too, so
/// that nothing started by this process could get them back. Returns what is left.
///
/// The agent goes on with what it had where the kernel refuses; that is said, not fatal.
pub fn drop_unused(also: Option<Capability>) -> Vec<String> {
    let kept: CapsHashSet = KEPT.into_iter().chain(also).collect();
    let had = caps::read(None, CapSet::Permitted).unwrap_or_default();
    let left: CapsHashSet = had.intersection(&kept).copied().collect();
    for unused in caps::all().difference(&kept) {
        // Needs CAP_SETPCAP, and some of the list may not exist on this kernel.
        let _ = caps::drop(None, CapSet::Bounding, *unused);
    }
    for set in [CapSet::Ambient, CapSet::Inheritable] {
        let _ = caps::clear(None, set);
    }
    for set in [CapSet::Effective, CapSet::Permitted] {
        if let Err(why) = caps::set(None, set, &left) {
            tracing::warn!(error = %why, "capabilities not dropped");
        }
    }
    // SAFETY: a plain flag; nothing this process starts may gain privileges by a file's bits.
    unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    crate::own::capabilities()
}
