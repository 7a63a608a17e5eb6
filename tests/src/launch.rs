// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is arranged for a child between fork and exec.

use std::{
    fs::OpenOptions,
    io,
    os::{fd::AsRawFd as _, unix::process::CommandExt as _},
    path::Path,
    process::{Child, Command},
};

/// Has `command` start in the cgroup at `folder`.
///
/// # Errors
/// When the cgroup cannot be opened.
pub fn enter_cgroup(command: &mut Command, folder: &Path) -> io::Result<()> {
    let procs = OpenOptions::new()
        .write(true)
        .open(folder.join("cgroup.procs"))?;
    // SAFETY: the closure makes one system call on an open file, and allocates only on failure.
    unsafe {
        command.pre_exec(move || {
            let written = libc::write(procs.as_raw_fd(), b"0".as_ptr().cast(), 1);
            if written == 1 {
                Ok(())
            } else {
                Err(io::Error::last_os_error())
            }
        });
    }
    Ok(())
}

/// Has `command` run on one CPU only.
pub fn pin(command: &mut Command, cpu: usize) {
    // SAFETY: the set is plain data; the closure makes one system call on its own copy.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        command.pre_exec(move || {
            let size = std::mem::size_of::<libc::cpu_set_t>();
            if libc::sched_setaffinity(0, size, &raw const set) == 0 {
                Ok(())
            } else {
                Err(io::Error::last_os_error())
            }
        });
    }
}

/// Sends a signal to a child that has not been waited for.
pub fn signal(child: &Child, number: i32) {
    // SAFETY: the child has not been waited for, so its number is still its own.
    unsafe { libc::kill(child.id() as i32, number) };
}
