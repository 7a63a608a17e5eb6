// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Acting as another user, on one thread of a process that stays what it is.

use std::{io, ptr, thread};

/// Who owns nothing and may nothing: `nobody` on most systems, and nobody's number on the rest.
pub const NOBODY: u32 = 65_534;

/// Runs `work` on a thread that is user `uid` to the kernel, with no group and no capability.
///
/// # Errors
/// When this process may not become that user.
///
/// # Panics
/// When `work` does.
pub fn acting_as<T: Send>(uid: u32, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            become_user(uid)?;
            Ok(work())
        });
        worker
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The calls of the kernel, not of the C library: those would change every thread.
fn become_user(uid: u32) -> io::Result<()> {
    let id = libc::c_long::from(uid);
    // SAFETY: no group is passed, so no pointer is read.
    check(unsafe { libc::syscall(libc::SYS_setgroups, 0, ptr::null::<libc::gid_t>()) })?;
    // SAFETY: takes three numbers.
    check(unsafe { libc::syscall(libc::SYS_setresgid, id, id, id) })?;
    // SAFETY: takes three numbers.
    check(unsafe { libc::syscall(libc::SYS_setresuid, id, id, id) })
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
