// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where the screen's pictures come from while they are live: a thread that asks the agent,
//! again and again, and writes what it hears to a file if that is wanted.

use std::{
    path::PathBuf,
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::Duration,
};

use eco_agent::api::Units;

use super::{
    model::Playback,
    place::Scope,
    recording::{Recorder, part},
};
use crate::client::{Client, ClientError};

/// An agent that has gone is asked again after this, and then ever more slowly.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const SLOWEST_RETRY: Duration = Duration::from_secs(2);

/// What a feed tells.
pub(super) enum News {
    /// How the agent knows CPU time.
    Tier(String),
    /// A picture of a scope.
    Units(Scope, Box<Units>),
    /// How far a replay is.
    Playback(Playback),
    /// No data comes, and why.
    Lost(String),
    /// Something to be told from now on.
    Notice(String),
    /// The recording has ended, whyever.
    NotRecorded(String),
}

/// What a feed is told.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Order {
    /// Show this from now on.
    Show(Scope),
    /// Do this with a replay.
    Play(Play),
}

/// What can be done with a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Play {
    /// Stand still, or go on.
    Pause,
    /// Stand still so many pictures further on.
    Step(i64),
    /// Twice as fast.
    Faster,
    /// Half as fast.
    Slower,
}

/// What to ask for.
pub(super) struct Wanted {
    pub(super) socket: PathBuf,
    pub(super) scope: Scope,
    pub(super) top: Top,
    pub(super) interval: Duration,
    pub(super) recorder: Option<Recorder>,
}

/// How many units are fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Top {
    /// So many, and all where those of little power matter.
    Usual(u32),
    /// Never more, as somebody said so.
    AtMost(u32),
}

impl Top {
    pub(super) fn of(self, scope: &Scope) -> Option<u32> {
        match self {
            Self::Usual(_) if scope.all => None,
            Self::Usual(most) | Self::AtMost(most) => Some(most),
        }
    }
}

/// Starts the thread. It asks for the scope that was sent last; it ends with either channel.
pub(super) fn start<M: Send + 'static>(
    wanted: Wanted,
    news: Sender<M>,
    message: impl Fn(News) -> M + Send + 'static,
) -> Sender<Order> {
    let (orders, inbox) = mpsc::channel();
    let tell = move |one| news.send(message(one)).is_ok();
    thread::spawn(move || follow(wanted, &inbox, tell));
    orders
}

fn follow(mut wanted: Wanted, orders: &Receiver<Order>, tell: impl Fn(News) -> bool) {
    let mut retry = FIRST_RETRY;
    let mut tier = None;
    loop {
        let asked = ask(&mut wanted, &mut tier);
        let (all, pause) = match asked {
            Ok(all) => {
                retry = FIRST_RETRY;
                (all, wanted.interval)
            }
            Err(why) => {
                tier = None;
                let pause = retry;
                retry = (retry * 2).min(SLOWEST_RETRY);
                (vec![News::Lost(why)], pause)
            }
        };
        if !all.into_iter().all(&tell) {
            return;
        }
        match next(orders, pause) {
            Ok(Some(scope)) => wanted.scope = scope,
            Ok(None) => {}
            Err(()) => return,
        }
    }
}

/// Waits for an order; gives the scope of the last one that has come.
fn next(orders: &Receiver<Order>, limit: Duration) -> Result<Option<Scope>, ()> {
    let mut scope = None;
    let mut order = match orders.recv_timeout(limit) {
        Ok(order) => Some(order),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => return Err(()),
    };
    while let Some(this) = order {
        if let Order::Show(wanted) = this {
            scope = Some(wanted);
        }
        order = orders.try_recv().ok();
    }
    Ok(scope)
}

fn ask(wanted: &mut Wanted, tier: &mut Option<String>) -> Result<Vec<News>, String> {
    let client = Client::new(&wanted.socket).map_err(|failure| failure.message)?;
    let mut news = Vec::new();
    if tier.is_none() {
        let known = client.status().map_err(said)?.tier;
        news.push(News::Tier(known.clone()));
        *tier = Some(known);
    }
    let scope = wanted.scope.clone();
    let top = wanted.top.of(&scope);
    let units = match &mut wanted.recorder {
        Some(recorder) => {
            let whole = client.whole_picture(wanted.interval).map_err(said)?;
            if let Err(error) = recorder.record(&whole, tier.as_deref().unwrap_or_default()) {
                news.push(News::NotRecorded(recorder.ended_by(&error)));
                wanted.recorder = None;
            }
            part(whole, &scope, top)
        }
        None => {
            let within = scope.within.as_deref();
            let kind = scope.kind.label();
            client
                .parts(kind, within, top, wanted.interval)
                .map_err(said)?
        }
    };
    news.push(News::Units(scope, Box::new(units)));
    Ok(news)
}

fn said(error: ClientError) -> String {
    match error {
        ClientError::NoAgent(_) => format!("{error}; run: sudo eco-agent"),
        other => other.to_string(),
    }
}
