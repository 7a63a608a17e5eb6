// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A terminal for a program that draws on one: a pseudo-terminal, and an emulator that reads what
//! comes out of it as a person would.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    mem,
    num::NonZeroU16,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::{Child, Command, ExitStatus},
    ptr,
};

use anyhow::{Context as _, Result};

use crate::wait;

/// A program on a terminal of its own. Dropped, the program is killed.
pub struct Terminal {
    child: Child,
    ours: File,
    /// Kept, so that the terminal outlives the program.
    theirs: OwnedFd,
    emulator: vt100::Parser,
    before: Modes,
    /// All that the program has written.
    written: Vec<u8>,
}

/// How the kernel treats what is typed: the flags of `termios`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modes {
    input: libc::tcflag_t,
    output: libc::tcflag_t,
    control: libc::tcflag_t,
    local: libc::tcflag_t,
}

impl Terminal {
    /// Starts a program on a terminal of `columns` by `rows`, as the leader of a session.
    ///
    /// # Errors
    /// When there is no terminal to be had, or the program cannot be started.
    pub fn start(mut command: Command, columns: u16, rows: u16) -> Result<Self> {
        let (ours, theirs) = open(columns, rows).context("no pseudo-terminal")?;
        let before = modes(&theirs)?;
        command
            .stdin(theirs.try_clone()?)
            .stdout(theirs.try_clone()?)
            .stderr(theirs.try_clone()?);
        // SAFETY: system calls with constants and numbers only.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
                if libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                    return Err(io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command.spawn().context("the program cannot be started")?;
        Ok(Self {
            child,
            ours,
            theirs,
            emulator: vt100::Parser::new(cells(rows), cells(columns), 0),
            before,
            written: Vec::new(),
        })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Types.
    ///
    /// # Errors
    /// When the terminal has gone.
    pub fn press(&mut self, keys: &str) -> Result<()> {
        self.ours.write_all(keys.as_bytes())?;
        Ok(())
    }

    /// Clicks on a cell, both counted from 0, as xterm tells it with SGR coordinates.
    ///
    /// # Errors
    /// When the terminal has gone.
    pub fn click(&mut self, column: usize, row: usize) -> Result<()> {
        let (x, y) = (column + 1, row + 1);
        self.press(&format!("\x1b[<0;{x};{y}M\x1b[<0;{x};{y}m"))
    }

    /// Turns the wheel by one notch, down or up.
    ///
    /// # Errors
    /// When the terminal has gone.
    pub fn wheel(&mut self, down: bool) -> Result<()> {
        self.press(&format!("\x1b[<{};5;8M", 64 + u8::from(down)))
    }

    /// Becomes larger or smaller, as a window does.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn resize(&mut self, columns: u16, rows: u16) -> Result<()> {
        let size = window(columns, rows);
        self.emulator.set_size(cells(rows), cells(columns));
        // SAFETY: the size is a live local of the type that this request reads.
        let set = unsafe { libc::ioctl(self.ours.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        if set < 0 {
            return Err(io::Error::last_os_error().into());
        }
        Ok(())
    }

    /// What is on the screen now.
    pub fn screen(&mut self) -> &vt100::Screen {
        self.take_in();
        self.emulator.screen()
    }

    /// The lines of the screen, without blanks at their ends.
    pub fn lines(&mut self) -> Vec<String> {
        let (_, columns) = self.screen().size();
        let rows = self.emulator.screen().rows(0, columns.get());
        rows.map(|row| row.trim_end().to_owned()).collect()
    }

    /// Waits until the screen's lines are as wanted.
    ///
    /// # Errors
    /// When they never are: with what the screen shows instead.
    pub fn until(&mut self, what: &str, mut holds: impl FnMut(&[String]) -> bool) -> Result<()> {
        let waited = wait::until(what, || holds(&self.lines()));
        waited.with_context(|| self.lines().join("\n"))
    }

    /// Waits until some line has these words.
    ///
    /// # Errors
    /// When none ever has: with what the screen shows instead.
    pub fn until_shown(&mut self, words: &str) -> Result<()> {
        self.until(words, |lines| lines.iter().any(|line| line.contains(words)))
    }

    /// Waits until the program has ended.
    ///
    /// # Errors
    /// When it never does: with what the screen shows instead.
    pub fn until_ended(&mut self) -> Result<ExitStatus> {
        let ended = wait::until_some("the program ends", || {
            self.take_in();
            self.child.try_wait().ok().flatten()
        });
        self.take_in();
        ended.with_context(|| self.lines().join("\n"))
    }

    /// Whether the terminal is as the program found it: its modes, its first screen, a cursor,
    /// and no mouse.
    ///
    /// # Errors
    /// When the terminal has gone.
    pub fn is_as_before(&mut self) -> Result<bool> {
        let same_modes = modes(&self.theirs)? == self.before;
        let screen = self.screen();
        let no_mouse = screen.mouse_protocol_mode() == vt100::MouseProtocolMode::None;
        Ok(same_modes && no_mouse && !screen.alternate_screen() && !screen.hide_cursor())
    }

    /// All that the program has written so far.
    pub fn written(&mut self) -> &[u8] {
        self.take_in();
        &self.written
    }

    fn take_in(&mut self) {
        let mut bytes = [0; 1 << 14];
        // It does not block; when there is nothing more, that is an error.
        while let Ok(length @ 1..) = self.ours.read(&mut bytes) {
            self.emulator.process(&bytes[..length]);
            self.written.extend_from_slice(&bytes[..length]);
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn open(columns: u16, rows: u16) -> io::Result<(File, OwnedFd)> {
    let (mut ours, mut theirs) = (-1, -1);
    let size = window(columns, rows);
    // SAFETY: the descriptors and the size are live locals; neither a name nor modes are asked for.
    let opened = unsafe {
        libc::openpty(
            &raw mut ours,
            &raw mut theirs,
            ptr::null_mut(),
            ptr::null(),
            &raw const size,
        )
    };
    if opened < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: both were just opened, and nobody else has them.
    let (ours, theirs) = unsafe { (OwnedFd::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) };
    for one in [&ours, &theirs] {
        // SAFETY: takes three numbers.
        unsafe { libc::fcntl(one.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    // SAFETY: takes three numbers.
    unsafe { libc::fcntl(ours.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
    Ok((File::from(ours), theirs))
}

fn modes(terminal: &OwnedFd) -> io::Result<Modes> {
    // SAFETY: termios is plain data, and a live local while the kernel fills it.
    let told = unsafe {
        let mut told: libc::termios = mem::zeroed();
        if libc::tcgetattr(terminal.as_raw_fd(), &raw mut told) < 0 {
            return Err(io::Error::last_os_error());
        }
        told
    };
    Ok(Modes {
        input: told.c_iflag,
        output: told.c_oflag,
        control: told.c_cflag,
        local: told.c_lflag,
    })
}

fn window(columns: u16, rows: u16) -> libc::winsize {
    libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

fn cells(count: u16) -> NonZeroU16 {
    NonZeroU16::new(count).unwrap_or(NonZeroU16::MIN)
}
