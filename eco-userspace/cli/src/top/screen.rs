// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Keys, data and signals go into the model, pictures come out.

use std::{
    io,
    path::PathBuf,
    sync::mpsc::{self, Sender},
    thread,
    time::Duration,
};

use ratatui::crossterm::event::{self, Event};

use super::{
    feed::{self, News, Order, Top, Wanted},
    input::{self, Wish},
    kind::Kind,
    model::{Model, Playback},
    mouse,
    recording::{Recorder, Recording},
    replay,
    terminal::Screen,
    view::{self, Looks, Targets},
};
use crate::{
    exit::{self, Failure, Outcome},
    signals,
};

enum Message {
    News(News),
    Input(Event),
    End,
}

/// What to show, and how.
pub(super) struct Show {
    /// What is listed first.
    pub(super) kind: Kind,
    /// How much of it.
    pub(super) top: Top,
    /// Whether the mouse is eco's.
    pub(super) mouse: bool,
}

/// Where what is shown live comes from.
pub(super) struct Source {
    /// The agent's socket.
    pub(super) socket: PathBuf,
    /// Whether that agent was started for this view alone.
    pub(super) is_private: bool,
    /// From one picture to the next.
    pub(super) interval: Duration,
    /// Where pictures are written, if that is wanted.
    pub(super) recorder: Option<Recorder>,
}

/// Shows what is now, until somebody quits. The terminal is left as it was, whatever happens.
pub(super) fn run(show: &Show, source: Source) -> Outcome {
    let mut model = Model::new(show.kind);
    model.is_private = source.is_private;
    let recorder = source.recorder;
    let path = recorder.as_ref().map(|r| r.path().display().to_string());
    model.recording = path;
    let wanted = Wanted {
        socket: source.socket,
        scope: model.scope(),
        top: show.top,
        interval: source.interval,
        recorder,
    };
    on_terminal(model, show.mouse, |messages| {
        feed::start(wanted, messages, Message::News)
    })
}

/// Shows a recording, likewise.
pub(super) fn replay(show: &Show, recording: Recording) -> Outcome {
    let mut model = Model::new(show.kind);
    model.playback = Some(Playback {
        picture: 0,
        pictures: recording.len(),
        speed: 1.0,
        paused: false,
    });
    let scope = model.scope();
    on_terminal(model, show.mouse, |messages| {
        replay::start(recording, scope, show.top, messages, Message::News)
    })
}

fn on_terminal(
    model: Model,
    mouse: bool,
    start_feed: impl FnOnce(Sender<Message>) -> Sender<Order>,
) -> Outcome {
    let (messages, inbox) = mpsc::channel();
    listen_for_signals(messages.clone());
    let failed = |error| Failure::absent(format!("the terminal: {error}"));
    let mut screen = Screen::enter(mouse).map_err(failed)?;
    let orders = start_feed(messages.clone());
    listen_for_keys(messages);
    show(&mut screen, &inbox, &orders, model).map_err(failed)?;
    Ok(exit::DONE)
}

fn show(
    screen: &mut Screen,
    inbox: &mpsc::Receiver<Message>,
    orders: &Sender<Order>,
    mut model: Model,
) -> io::Result<()> {
    let looks = Looks::of_environment();
    let mut asked = model.scope();
    loop {
        let mut targets = Targets::default();
        screen.draw(|frame| targets = view::draw(frame, &mut model, looks))?;
        let Ok(first) = inbox.recv() else {
            return Ok(());
        };
        // All that has come while a slow terminal took the picture, before the next one.
        let mut next = Some(first);
        while let Some(message) = next {
            match take(&mut model, message, &targets) {
                Wish::Redraw => {}
                Wish::Quit => return Ok(()),
                Wish::Play(play) => _ = orders.send(Order::Play(play)),
                Wish::Suspend => screen.suspend()?,
            }
            next = inbox.try_recv().ok();
        }
        if model.scope() != asked {
            asked = model.scope();
            let _ = orders.send(Order::Show(asked.clone()));
        }
    }
}

fn take(model: &mut Model, message: Message, targets: &Targets) -> Wish {
    match message {
        Message::End => return Wish::Quit,
        Message::Input(Event::Key(key)) => return input::on_key(model, key, targets.page),
        Message::Input(Event::Mouse(event)) => return mouse::on_mouse(model, event, targets),
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

/// Turns a signal that asks to end into a message: the terminal is then given back in the usual
/// way. They are blocked already, in all threads.
fn listen_for_signals(messages: Sender<Message>) {
    thread::spawn(move || {
        signals::await_end();
        let _ = messages.send(Message::End);
    });
}
