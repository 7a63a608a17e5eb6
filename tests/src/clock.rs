// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The clock that the lab, its driver and the agent share.

/// Seconds of `CLOCK_BOOTTIME`.
#[must_use]
pub fn boottime_seconds() -> f64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the result is a live local; the clock is there since Linux 2.6.39.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now) };
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}
