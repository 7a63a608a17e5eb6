// SPDX-License-Identifier: Apache-2.0 OR MIT
//! eco's kernel programs, tier 0: nothing runs on a context switch.
//!
//! On the host this compiles to an empty program, so that the workspace builds, lints and
//! documents as one; the object is made for `bpfel-unknown-none` by eco-usage's build script.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod cgroup_births;
#[cfg(target_arch = "bpf")]
mod death_fold;
#[cfg(target_arch = "bpf")]
mod kernel;
#[cfg(target_arch = "bpf")]
mod task_iter;

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier admits no program that can reach this.
    loop {}
}

/// `bpf_seq_write` and the ring buffer are for GPL-compatible programs only.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(target_arch = "bpf"))]
fn main() {}
