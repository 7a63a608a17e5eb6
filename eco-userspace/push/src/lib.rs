// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Takes what the agent shows to those who cannot come for it.
//!
//! An [`Outlet`] is a thread that reads the text of `/metrics`, as a scraper would, and sends it
//! on: by OTLP ([`otlp`]) or by Prometheus' remote-write ([`remote_write`]). It knows nothing of
//! the books, so what is pushed cannot differ from what is scraped. Metrics are not queued:
//! counters are totals, so after a gap the next batch says it all. What happens once (a span)
//! waits in a [`Queue`] that is bounded. So a receiver that is down costs no memory.

mod destination;
mod grpc;
pub mod otlp;
mod outlet;
mod queue;
pub mod remote_write;
mod samples;
mod series;
pub mod trace;
mod wire;

pub use self::{
    destination::{Destination, PushError, Remote},
    outlet::{Outlet, Shown, Source, Tally},
    queue::{MOST_BYTES, Queue},
};
