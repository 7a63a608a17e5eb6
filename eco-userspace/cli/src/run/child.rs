// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Starting the command: in its cgroup from its first instruction, with the signal mask that
//! eco itself was given.

use std::{
    ffi::{CStr, OsString},
    fmt,
    io::{self, Read as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    path::Path,
    process::Command,
};

use crate::signals::{self, Signals};

/// What became of an attempt to start the command.
pub(crate) enum Spawned {
    /// It runs, under this process id.
    Running(i32),
    /// The kernel refused the cgroup; the command has not run.
    CgroupRefused(io::Error),
}

/// The command could not be started.
#[derive(Debug)]
pub(crate) struct SpawnError {
    program: String,
    exists: bool,
    source: io::Error,
}

impl SpawnError {
    pub(crate) fn new(command: &[OsString], source: io::Error) -> Self {
        let program = command.first().cloned().unwrap_or_default();
        let exists = Path::new(&program).components().count() > 1 && Path::new(&program).exists();
        Self {
            program: program.to_string_lossy().into_owned(),
            exists,
            source,
        }
    }

    /// As a shell says it: 127 where there is no such command, 126 where it cannot be run.
    pub(crate) fn shell_status(&self) -> i32 {
        if self.source.kind() == io::ErrorKind::NotFound {
            127
        } else {
            126
        }
    }
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let program = &self.program;
        match self.source.kind() {
            io::ErrorKind::NotFound if self.exists => write!(
                f,
                "{program}: the interpreter or loader that it names is not there; see its first \
                 line, or `file {program}`"
            ),
            io::ErrorKind::NotFound if program.contains('/') => {
                write!(
                    f,
                    "{program}: no such file; was it built, is the path right?"
                )
            }
            io::ErrorKind::NotFound => write!(
                f,
                "{program}: command not found in PATH; a shell's own words need a shell: \
                 eco run -- sh -c '{program} …'"
            ),
            io::ErrorKind::PermissionDenied => {
                write!(
                    f,
                    "{program}: not executable; is it a directory, or missing chmod +x?"
                )
            }
            _ => write!(f, "{program}: cannot be run: {}", self.source),
        }
    }
}

/// Starts `command` with the streams of this process. `cgroup_procs` is the file
/// `cgroup.procs` of the cgroup to start in, `traceparent` the job's own span.
pub(crate) fn spawn(
    command: &[OsString],
    signals: &Signals,
    cgroup_procs: Option<&CStr>,
    traceparent: Option<&str>,
) -> Result<Spawned, SpawnError> {
    let failed = |source| SpawnError::new(command, source);
    let Some((program, arguments)) = command.split_first() else {
        return Err(failed(io::ErrorKind::InvalidInput.into()));
    };
    let (mut refusal, report) = io::pipe().map_err(failed)?;
    let report = OwnedFd::from(report);
    let report_fd = report.as_raw_fd();
    let mask = signals.before();
    let procs = cgroup_procs.map(CStr::to_owned);
    let mut child = Command::new(program);
    child.args(arguments);
    if let Some(traceparent) = traceparent {
        child.env("TRACEPARENT", traceparent);
    }
    // SAFETY: between fork and exec the closure makes async-signal-safe calls only (open,
    // write, close, sigprocmask), on paths and sets made before the fork.
    unsafe {
        child.pre_exec(move || {
            if let Some(procs) = &procs
                && let Err(error) = enter_cgroup(procs)
            {
                libc::write(report_fd, b"c".as_ptr().cast(), 1);
                return Err(error);
            }
            signals::restore_mask(&mask)
        });
    }
    let spawned = child.spawn();
    drop(report);
    match spawned {
        // The handle is let go on purpose: the reaper waits for every child.
        Ok(child) => i32::try_from(child.id())
            .map(Spawned::Running)
            .map_err(|error| failed(io::Error::other(error))),
        Err(error) => {
            let mut said = [0];
            match refusal.read(&mut said) {
                Ok(1) => Ok(Spawned::CgroupRefused(error)),
                _ => Err(failed(error)),
            }
        }
    }
}

/// Moves the calling process into a cgroup; async-signal-safe.
fn enter_cgroup(procs: &CStr) -> io::Result<()> {
    // SAFETY: the path is a valid C string, the buffer is a live constant, and the descriptor
    // is closed by nobody else.
    unsafe {
        let fd = libc::open(procs.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // Zero stands for the writer.
        let written = libc::write(fd, b"0".as_ptr().cast(), 1);
        let error = io::Error::last_os_error();
        libc::close(fd);
        if written == 1 { Ok(()) } else { Err(error) }
    }
}
