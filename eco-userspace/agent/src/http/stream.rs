// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `/v1/stream`: the units after every tick, as server-sent events.

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use axum::{
    extract::{ConnectInfo, Query, State},
    response::sse::{Event, KeepAlive, Sse},
};
use futures_util::stream::{self, Stream};
use tokio::sync::watch;

use crate::{
    http::{ApiError, Peer, UnitsQuery},
    query::{self, Caller, UnitsRequest},
    service::Handle,
};

/// Users are told no more often than this: the power of a shorter time tells what others compute.
const USERS_EVERY: Duration = Duration::from_secs(1);

/// `GET /v1/stream`.
///
/// # Errors
/// When the query makes no sense.
pub(crate) async fn units(
    State(core): State<Handle>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Query(asked): Query<UnitsQuery>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let follower = Follower {
        ticks: core.ticks(),
        core,
        request: asked.request()?,
        caller: peer.caller(),
        told: None,
    };
    let events = stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok(event), follower))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

struct Follower {
    core: Handle,
    ticks: watch::Receiver<u64>,
    request: UnitsRequest,
    caller: Caller,
    told: Option<Instant>,
}

impl Follower {
    /// The next event; `None` when the agent stops. A reader that is slow misses ticks, and
    /// costs the agent nothing.
    async fn next(&mut self) -> Option<Event> {
        loop {
            // The first comes at once: a screen should not start empty.
            if self.told.is_some() {
                self.ticks.changed().await.ok()?;
            }
            let early = |told: Instant| told.elapsed() + Duration::from_millis(50) < USERS_EVERY;
            if self.caller == Caller::Administrator || !self.told.is_some_and(early) {
                break;
            }
        }
        self.told = Some(Instant::now());
        let (request, caller) = (self.request.clone(), self.caller);
        let units = self
            .core
            .ask(move |core| query::units(core, &request, caller))
            .await
            .ok()?;
        Event::default().event("units").json_data(units).ok()
    }
}
