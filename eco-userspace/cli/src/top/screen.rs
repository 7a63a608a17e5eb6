// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The terminal: keys, data and signals go into the model, pictures come out.

use std::{
    io, mem,
    path::Path,
    ptr,
    sync::mpsc::{self, Sender},
    thread,
    time::Duration,
};

use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event},
};

use super::{
    feed::{self, News, Wanted},
    input::{self, Wish},
    model::{Kind, Model},
    view,
};
use crate::{
    exit::{self, Failure, Outcome},
    out::colour_wanted,
};

enum Message {
    News(News),
    Input(Event),
    End,
}

/// Runs until somebody quits. The terminal is left as it was, whatever happens.
pub(super) fn run(socket: &Path, kind: Kind, top: u32, interval: Duration) -> Outcome {
    let (messages, inbox) = mpsc::channel();
    // Before any other thread is started, so that all of them leave the signals to this one.
    listen_for_signals(messages.clone());
    let mut terminal =
        ratatui::try_init().map_err(|error| Failure::absent(format!("the terminal: {error}")))?;
    let wanted = Wanted {
        socket: socket.to_owned(),
        kind,
        top,
        interval,
    };
    let kinds = feed::start(wanted, messages.clone(), Message::News);
    listen_for_keys(messages);
    let result = show(&mut terminal, &inbox, &kinds, Model::new(kind));
    ratatui::restore();
    match result {
        Ok(()) => Ok(exit::DONE),
        Err(error) => Err(Failure::absent(format!("the terminal: {error}"))),
    }
}

fn show(
    terminal: &mut DefaultTerminal,
    inbox: &mpsc::Receiver<Message>,
    kinds: &Sender<Kind>,
    mut model: Model,
) -> io::Result<()> {
    let colour = colour_wanted();
    loop {
        let mut page = 0;
        terminal.draw(|frame| page = view::draw(frame, &mut model, colour))?;
        let Ok(message) = inbox.recv() else {
            return Ok(());
        };
        match message {
            Message::End => return Ok(()),
            Message::News(News::Tier(tier)) => model.tier = tier,
            // What was asked for before the kind changed comes too late.
            Message::News(News::Units(kind, units)) if kind == model.kind => model.feed(*units),
            Message::News(News::Units(..)) => {}
            Message::News(News::Lost(why)) => model.lose(why),
            Message::Input(Event::Key(key)) => match input::on_key(&mut model, key, page) {
                Wish::Quit => return Ok(()),
                Wish::Redraw => {}
                Wish::Fetch => {
                    let _ = kinds.send(model.kind);
                }
                Wish::Suspend => {
                    ratatui::restore();
                    // SAFETY: no memory is passed; this process stops until it is continued.
                    unsafe { libc::kill(libc::getpid(), libc::SIGSTOP) };
                    *terminal = ratatui::try_init()?;
                }
            },
            // A new size: the next picture has it.
            Message::Input(_) => {}
        }
    }
}

fn listen_for_keys(messages: Sender<Message>) {
    thread::spawn(move || {
        // An error means that the terminal has gone.
        while let Ok(event) = event::read() {
            if messages.send(Message::Input(event)).is_err() {
                return;
            }
        }
        let _ = messages.send(Message::End);
    });
}

/// Blocks the signals that end a process, for this thread and those it starts, and turns the
/// first one into a message: the terminal is then restored in the usual way.
fn listen_for_signals(messages: Sender<Message>) {
    // SAFETY: the set is a live local, initialised before it is used.
    let set = unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT] {
            libc::sigaddset(&raw mut set, signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut());
        set
    };
    thread::spawn(move || {
        let mut signal = 0;
        // SAFETY: both are live locals.
        unsafe { libc::sigwait(&raw const set, &raw mut signal) };
        let _ = messages.send(Message::End);
    });
}
