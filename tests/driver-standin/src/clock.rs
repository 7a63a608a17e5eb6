// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The clocks that scripts run on.

/// A clock of the kernel's, in ns; 0 where there is no such clock.
#[must_use]
pub fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: room for the answer, which outlives the call.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
