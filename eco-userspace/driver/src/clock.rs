// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The clock on which readings are stamped.

/// `CLOCK_BOOTTIME` in ns.
#[must_use]
pub fn boottime_ns() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: room for the answer, which outlives the call; the clock is a constant.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
