// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where the screen's data comes from: a thread that asks the agent, again and again.

use std::{
    path::PathBuf,
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread,
    time::Duration,
};

use eco_agent::api::Units;

use super::model::Kind;
use crate::client::Client;

/// An agent that has gone is asked again after this, and then ever more slowly.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const SLOWEST_RETRY: Duration = Duration::from_secs(10);

/// What the thread tells.
pub(super) enum News {
    /// How the agent knows CPU time.
    Tier(String),
    /// Units of a kind.
    Units(Kind, Box<Units>),
    /// No data comes, and why.
    Lost(String),
}

/// What to ask for.
pub(super) struct Wanted {
    pub(super) socket: PathBuf,
    pub(super) kind: Kind,
    pub(super) top: u32,
    pub(super) interval: Duration,
}

/// Starts the thread. It asks for the kind that was sent last; it ends with either channel.
pub(super) fn start<M: Send + 'static>(
    mut wanted: Wanted,
    news: Sender<M>,
    message: impl Fn(News) -> M + Send + 'static,
) -> Sender<Kind> {
    let (kinds, changes) = mpsc::channel();
    thread::spawn(move || {
        let mut retry = FIRST_RETRY;
        let mut tier_known = false;
        loop {
            let asked = ask(&wanted, &mut tier_known);
            let pause = match &asked {
                Ok(_) => {
                    retry = FIRST_RETRY;
                    wanted.interval
                }
                Err(_) => {
                    tier_known = false;
                    let pause = retry;
                    retry = (retry * 2).min(SLOWEST_RETRY);
                    pause
                }
            };
            let told = match asked {
                Ok(all) => all.into_iter().try_for_each(|one| news.send(message(one))),
                Err(why) => news.send(message(News::Lost(why))),
            };
            if told.is_err() {
                return;
            }
            match changes.recv_timeout(pause) {
                Ok(kind) => wanted.kind = kind,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    });
    kinds
}

fn ask(wanted: &Wanted, tier_known: &mut bool) -> Result<Vec<News>, String> {
    let client = Client::new(&wanted.socket).map_err(|failure| failure.message)?;
    let mut news = Vec::new();
    if !*tier_known {
        news.push(News::Tier(
            client.status().map_err(|error| error.to_string())?.tier,
        ));
    }
    let units = client
        .units(wanted.kind.label(), wanted.top, wanted.interval)
        .map_err(|error| error.to_string())?;
    *tier_known = true;
    news.push(News::Units(wanted.kind, Box::new(units)));
    Ok(news)
}
