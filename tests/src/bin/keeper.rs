// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Runs a server for a test, and leaves nothing of it when the test is gone: not its children,
//! also those that made themselves independent (container shims, job managers), not their
//! cgroups, not their mounts. The kernel tells when the test is gone, however it ended: this
//! program's stdin closes.

use std::{
    fs, io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Parser;
use eco_tests::cgroup;

/// Run a server until stdin closes, then remove every trace of it.
#[derive(Parser)]
struct Arguments {
    /// What is mounted below this folder is unmounted in the end.
    #[arg(long)]
    state: PathBuf,

    /// Removed in the end if the test did not live to do it.
    #[arg(long)]
    scratch: PathBuf,

    /// A cgroup, by its path in every hierarchy: what runs in it is killed in the end, and it is
    /// removed.
    #[arg(long)]
    cgroup: Vec<String>,

    /// The server.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// What is being torn down needs a moment, and sometimes another look.
const ATTEMPTS: usize = 250;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(20);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let test = parent();
    let kept = keep(&arguments.command);
    kill_children();
    for path in &arguments.cgroup {
        cgroup::everywhere(path).for_each(|folder| remove_cgroup(&folder));
    }
    unmount_below(&arguments.state);
    if parent() != test {
        let _ = insist(|| match fs::remove_dir_all(&arguments.scratch) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        });
    }
    match kept {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("keeper: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the server until it ends or stdin closes.
fn keep(command: &[String]) -> Result<()> {
    // SAFETY: numbers only. An interrupt at the terminal is the test's to act on.
    unsafe {
        libc::setsid();
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    }
    let deaths = deaths().context("cannot watch for the server's end")?;
    let (program, arguments) = command.split_first().context("no server")?;
    let mut server = Command::new(program);
    server.args(arguments).stdin(Stdio::null());
    // SAFETY: one system call with constants.
    unsafe {
        server.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
            Ok(())
        });
    }
    let server = server.spawn().with_context(|| program.clone())?;
    loop {
        let (test_is_gone, somebody_died) = wait(&deaths)?;
        if test_is_gone {
            return Ok(());
        }
        if somebody_died && reap().any(|pid| pid == server.id() as i32) {
            anyhow::bail!("{program} has ended");
        }
    }
}

/// Becomes readable when a child has died, one's own or an orphan that was inherited.
fn deaths() -> io::Result<OwnedFd> {
    // SAFETY: the set is a live local that sigemptyset fills before its use. The descriptor is
    // new, and owned by nobody else.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        match libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// Returns whether stdin has closed, and whether a child has died.
fn wait(deaths: &OwnedFd) -> io::Result<(bool, bool)> {
    let watched = |fd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    let mut fds = [watched(libc::STDIN_FILENO), watched(deaths.as_raw_fd())];
    // SAFETY: the array is a live local of the length that is passed.
    if unsafe { libc::poll(fds.as_mut_ptr(), 2, -1) } < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::Interrupted {
            Ok((false, false))
        } else {
            Err(error)
        };
    }
    let died = fds[1].revents != 0;
    if died {
        let mut info = [0_u8; 128];
        // SAFETY: a live local, as long as what signalfd(2) writes.
        unsafe { libc::read(deaths.as_raw_fd(), info.as_mut_ptr().cast(), info.len()) };
    }
    // Nobody writes to stdin: it is readable at its end only.
    Ok((fds[0].revents != 0, died))
}

/// The dead, as long as there are any to wait for.
fn reap() -> impl Iterator<Item = i32> {
    std::iter::from_fn(|| {
        // SAFETY: no status is asked for.
        let pid = unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) };
        (pid > 0).then_some(pid)
    })
}

/// Kills the children, then those that they leave as orphans, and so on to the last.
fn kill_children() {
    loop {
        let children = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
        for pid in children
            .split_whitespace()
            .filter_map(|pid| pid.parse::<i32>().ok())
        {
            // SAFETY: a child of this only thread, which has not been waited for.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        // SAFETY: no status is asked for.
        if unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) } < 0 {
            return;
        }
    }
}

/// Kills what runs in a cgroup and in those below it, and removes them.
fn remove_cgroup(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    // v1's freezer: what is frozen does not die.
    let _ = fs::write(folder.join("freezer.state"), "THAWED");
    let _ = insist(|| {
        cgroup::signal(folder, libc::SIGKILL);
        fs::remove_dir(folder)
    });
}

fn unmount_below(folder: &Path) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // proc(5): the fifth field is the mount point. What is mounted last lies on top.
    let points = mounts
        .lines()
        .rev()
        .filter_map(|line| line.split(' ').nth(4));
    for point in points.filter(|point| Path::new(point).starts_with(folder)) {
        if let Ok(point) = std::ffi::CString::new(point) {
            // SAFETY: a string that ends in NUL and lives until the call returns.
            unsafe { libc::umount2(point.as_ptr(), libc::MNT_DETACH) };
        }
    }
}

fn insist(mut attempt: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    for _ in 1..ATTEMPTS {
        match attempt() {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                thread::sleep(BETWEEN_ATTEMPTS)
            }
            _ => return Ok(()),
        }
    }
    attempt()
}

fn parent() -> i32 {
    // SAFETY: takes nothing and returns a number.
    unsafe { libc::getppid() }
}
