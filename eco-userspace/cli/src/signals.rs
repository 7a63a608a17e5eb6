// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Signals: those that `eco run` takes itself, so that it can pass them on, and masks for children.
//!
//! They are blocked and waited for, rather than handled: no code of ours runs in a handler.
//! One that was ignored when eco started (`nohup`, a shell's background job) stays ignored,
//! for eco and for the command alike.

use std::{io, mem, ptr, time::Duration};

/// Passed on to the command when somebody sent them to eco.
const FORWARDED: [libc::c_int; 10] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGTSTP,
    libc::SIGCONT,
    libc::SIGWINCH,
];

/// Those among them that ask to end something.
const ENDS: [libc::c_int; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];

/// The signals that this process waits for.
pub(crate) struct Signals {
    awaited: libc::sigset_t,
    before: libc::sigset_t,
}

/// A signal that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signal {
    /// Which one.
    pub(crate) number: libc::c_int,
    /// The process that sent it to eco; `None` if the kernel did: then a terminal sent it to
    /// the whole foreground process group, and the command has it already.
    pub(crate) sender: Option<i32>,
}

impl Signal {
    /// Whether it asks to end something.
    pub(crate) fn asks_to_end(self) -> bool {
        ENDS.contains(&self.number)
    }
}

impl Signals {
    /// Blocks the signals of this thread. Call before there is another thread.
    pub(crate) fn take() -> io::Result<Self> {
        let mut awaited = empty_set();
        let mut before = empty_set();
        for signal in FORWARDED.into_iter().filter(|&signal| !is_ignored(signal)) {
            add(&mut awaited, signal);
        }
        add(&mut awaited, libc::SIGCHLD);
        // SAFETY: both sets are live and initialised.
        let result =
            unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const awaited, &raw mut before) };
        if result != 0 {
            return Err(io::Error::from_raw_os_error(result));
        }
        Ok(Self { awaited, before })
    }

    /// The next signal, or `None` after `limit`.
    pub(crate) fn wait(&self, limit: Duration) -> Option<Signal> {
        let limit = libc::timespec {
            tv_sec: libc::time_t::try_from(limit.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        };
        // SAFETY: siginfo_t is plain old data; all zeroes is a valid value.
        let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
        // SAFETY: the set, the info and the limit are live and of the right types.
        let number =
            unsafe { libc::sigtimedwait(&raw const self.awaited, &raw mut info, &raw const limit) };
        if number <= 0 {
            return None;
        }
        // Zero and below: a process used kill, sigqueue or tgkill.
        let sender = (info.si_code <= 0 && number != libc::SIGCHLD).then(|| {
            // SAFETY: si_pid is set for these codes.
            unsafe { info.si_pid() }
        });
        Some(Signal { number, sender })
    }

    /// A signal that asks to end something and has come already; drops the others before it.
    pub(crate) fn pending_end(&self) -> Option<libc::c_int> {
        while let Some(signal) = self.wait(Duration::ZERO) {
            if signal.asks_to_end() {
                return Some(signal.number);
            }
        }
        None
    }

    /// The signal mask that eco was started with, for a child to restore.
    pub(crate) fn before(&self) -> libc::sigset_t {
        self.before
    }
}

/// Blocks the signals that ask to end, for this thread and those that it starts from now on, so
/// that [`await_end`] gets them. Gives the mask from before, for children.
pub(crate) fn block_ends() -> libc::sigset_t {
    let ends = ends();
    let mut before = empty_set();
    // SAFETY: both sets are live and initialised.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const ends, &raw mut before) };
    before
}

/// Waits for a signal that asks to end and is blocked.
pub(crate) fn await_end() {
    let ends = ends();
    let mut signal = 0;
    // SAFETY: both are live locals.
    unsafe { libc::sigwait(&raw const ends, &raw mut signal) };
}

/// Restores a signal mask; async-signal-safe, for use between fork and exec.
pub(crate) fn restore_mask(mask: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: the mask is live and initialised; the old mask is not asked for.
    if unsafe { libc::sigprocmask(libc::SIG_SETMASK, mask, ptr::null_mut()) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Sends a signal; a process that is gone meanwhile does not matter.
pub(crate) fn send(pid: i32, signal: libc::c_int) {
    // SAFETY: no memory is passed.
    unsafe { libc::kill(pid, signal) };
}

fn ends() -> libc::sigset_t {
    let mut set = empty_set();
    for signal in ENDS {
        add(&mut set, signal);
    }
    set
}

fn empty_set() -> libc::sigset_t {
    // SAFETY: sigset_t is plain old data; sigemptyset initialises it fully.
    unsafe {
        let mut set = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        set
    }
}

fn add(set: &mut libc::sigset_t, signal: libc::c_int) {
    // SAFETY: the set is live and initialised.
    unsafe { libc::sigaddset(set, signal) };
}

fn is_ignored(signal: libc::c_int) -> bool {
    // SAFETY: sigaction is plain old data, and only asked for here, not changed.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        libc::sigaction(signal, ptr::null(), &raw mut action) == 0
            && action.sa_sigaction == libc::SIG_IGN
    }
}
