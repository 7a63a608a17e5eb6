// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The terminal that the view has for itself, and gives back as it was.

use std::{
    io::{self, IsTerminal as _, Write as _},
    panic,
    sync::Once,
};

use ratatui::{CompletedFrame, DefaultTerminal, Frame};

use crate::exit::Failure;

/// Clicks and the wheel, as xterm tells them (ctlseqs, Mouse Tracking): 1000 presses, 1006 in
/// decimals. Not 1003, which tells each movement.
const MOUSE_ON: &str = "\x1b[?1000h\x1b[?1006h";
const MOUSE_OFF: &str = "\x1b[?1006l\x1b[?1000l";
const SHOW_CURSOR: &str = "\x1b[?25h";

/// Fails where there is no terminal, or one that has no screen, and says what works there.
pub(super) fn check() -> Result<(), Failure> {
    const INSTEAD: &str = "use --once for one table, or --json for programs";
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        let why = format!("eco top: this is no terminal; {INSTEAD}");
        return Err(Failure::usage(why));
    }
    if std::env::var_os("TERM").is_some_and(|term| term == "dumb") {
        let why = format!("eco top: this terminal has no screen (TERM=dumb); {INSTEAD}");
        return Err(Failure::usage(why));
    }
    Ok(())
}

/// A terminal in raw mode, with its other screen shown. Dropped, it is as it was.
pub(super) struct Screen {
    terminal: Option<DefaultTerminal>,
    mouse: bool,
}

impl Screen {
    /// Takes the terminal, and its mouse if that is wanted.
    pub(super) fn enter(mouse: bool) -> io::Result<Self> {
        static HOOK: Once = Once::new();
        // Ratatui's own hook calls this one when it has given back the rest.
        HOOK.call_once(|| {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |panic| {
                let _ = say(MOUSE_OFF);
                before(panic);
            }));
        });
        // Before anything is taken, so that what was taken by halves is given back too.
        let mut screen = Self {
            terminal: None,
            mouse,
        };
        screen.take()?;
        Ok(screen)
    }

    /// Shows a picture.
    pub(super) fn draw(&mut self, picture: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        let drawn = self.terminal.as_mut().map(|t| t.draw(picture));
        drawn.transpose().map(|_: Option<CompletedFrame<'_>>| ())
    }

    /// Stops this process until it is continued; the shell has the terminal meanwhile.
    pub(super) fn suspend(&mut self) -> io::Result<()> {
        self.give_back();
        // SAFETY: no memory is passed; this process stops until it is continued.
        unsafe { libc::kill(libc::getpid(), libc::SIGSTOP) };
        self.take()
    }

    fn take(&mut self) -> io::Result<()> {
        self.terminal = Some(ratatui::try_init()?);
        if self.mouse {
            say(MOUSE_ON)?;
        }
        Ok(())
    }

    fn give_back(&mut self) {
        if self.mouse {
            let _ = say(MOUSE_OFF);
        }
        let _ = ratatui::try_restore();
        let _ = say(SHOW_CURSOR);
        self.terminal = None;
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.give_back();
    }
}

fn say(sequence: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(sequence.as_bytes())?;
    stdout.flush()
}
