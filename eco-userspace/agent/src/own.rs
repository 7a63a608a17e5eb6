// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The agent itself: what it costs, what it may, and what it says.

pub mod latency;
pub mod log;
pub mod memory;
pub mod privileges;

use std::fs;

/// CPU time of this process, in ns.
#[must_use]
pub fn cpu_ns() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a valid timespec that outlives the call, and a constant clock.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut now) };
    (now.tv_sec as u64) * 1_000_000_000 + now.tv_nsec as u64
}

/// Memory of this process that is resident, in bytes.
#[must_use]
pub fn resident_bytes() -> u64 {
    let text = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text
        .split(' ')
        .nth(1)
        .and_then(|f| f.parse().ok())
        .unwrap_or(0);
    // SAFETY: takes a constant and returns a number.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages * u64::try_from(page).unwrap_or(4096)
}

/// The capabilities that this process holds in its permitted set.
#[must_use]
pub fn capabilities() -> Vec<String> {
    let held = caps::read(None, caps::CapSet::Permitted).unwrap_or_default();
    let mut names: Vec<String> = held.iter().map(ToString::to_string).collect();
    names.sort();
    names
}
