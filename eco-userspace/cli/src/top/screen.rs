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
    feed::{self, News, Order, Top, Wanted},
    input::{self, Wish},
    kind::Kind,
    model::{Model, Playback},
    recording::{Recorder, Recording},
    replay, view,
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

/// Shows what is now, until somebody quits. The terminal is left as it was, whatever happens.
pub(super) fn run(
    socket: &Path,
    kind: Kind,
    top: Top,
    interval: Duration,
    recorder: Option<Recorder>,
) -> Outcome {
    let mut model = Model::new(kind);
    let path = recorder.as_ref().map(|r| r.path().display().to_string());
    model.recording = path;
    let wanted = Wanted {
        socket: socket.to_owned(),
        scope: model.scope(),
        top,
        interval,
        recorder,
    };
    on_terminal(model, |messages| {
        feed::start(wanted, messages, Message::News)
    })
}

/// Shows a recording, likewise.
pub(super) fn replay(recording: Recording, kind: Kind, top: Top) -> Outcome {
    let mut model = Model::new(kind);
    model.playback = Some(Playback {
        picture: 0,
        pictures: recording.len(),
        speed: 1.0,
        paused: false,
    });
    let scope = model.scope();
    on_terminal(model, |messages| {
        replay::start(recording, scope, top, messages, Message::News)
    })
}

fn on_terminal(model: Model, start_feed: impl FnOnce(Sender<Message>) -> Sender<Order>) -> Outcome {
    let (messages, inbox) = mpsc::channel();
    // Before any other thread is started, so that all of them leave the signals to this one.
    listen_for_signals(messages.clone());
    let mut terminal =
        ratatui::try_init().map_err(|error| Failure::absent(format!("the terminal: {error}")))?;
    let orders = start_feed(messages.clone());
    listen_for_keys(messages);
    let result = show(&mut terminal, &inbox, &orders, model);
    ratatui::restore();
    match result {
        Ok(()) => Ok(exit::DONE),
        Err(error) => Err(Failure::absent(format!("the terminal: {error}"))),
    }
}

fn show(
    terminal: &mut DefaultTerminal,
    inbox: &mpsc::Receiver<Message>,
    orders: &Sender<Order>,
    mut model: Model,
) -> io::Result<()> {
    let colour = colour_wanted();
    let mut asked = model.scope();
    loop {
        let mut page = 0;
        terminal.draw(|frame| page = view::draw(frame, &mut model, colour))?;
        let Ok(first) = inbox.recv() else {
            return Ok(());
        };
        // All that has come while a slow terminal took the picture, before the next one.
        let mut next = Some(first);
        while let Some(message) = next {
            match take(&mut model, message, page) {
                Wish::Redraw => {}
                Wish::Quit => return Ok(()),
                Wish::Play(play) => _ = orders.send(Order::Play(play)),
                Wish::Suspend => {
                    ratatui::restore();
                    // SAFETY: no memory is passed; this process stops until it is continued.
                    unsafe { libc::kill(libc::getpid(), libc::SIGSTOP) };
                    *terminal = ratatui::try_init()?;
                }
            }
            next = inbox.try_recv().ok();
        }
        if model.scope() != asked {
            asked = model.scope();
            let _ = orders.send(Order::Show(asked.clone()));
        }
    }
}

fn take(model: &mut Model, message: Message, page: usize) -> Wish {
    match message {
        Message::End => return Wish::Quit,
        Message::Input(Event::Key(key)) => return input::on_key(model, key, page),
        // A new size: the next picture has it.
        Message::Input(_) => {}
        Message::News(News::Tier(tier)) => model.tier = tier,
        Message::News(News::Units(scope, units)) if scope.lists_the_same_as(&model.scope()) => {
            model.feed(*units);
        }
        // What was asked for before one went elsewhere comes too late.
        Message::News(News::Units(..)) => {}
        Message::News(News::Playback(playback)) => model.playback = Some(playback),
        Message::News(News::Lost(why)) => model.lose(why),
        Message::News(News::Notice(notice)) => model.notice = Some(notice),
        Message::News(News::NotRecorded(why)) => {
            (model.recording, model.notice) = (None, Some(why));
        }
    }
    Wish::Redraw
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
