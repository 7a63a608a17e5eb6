// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Outlets that push: each reads `/metrics` on a thread of its own, as a scraper would.

use std::{
    io,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use anyhow::Context as _;
use eco_push::{
    Outlet, Queue, Remote, Shown, Source, Tally,
    otlp::{Otlp, Resource, Temporality, Transport},
    remote_write::RemoteWrite,
};

use crate::{
    config::Config,
    core::Core,
    outlets::{
        exposition::{Dialect, Exposition},
        metrics::{self, catalogue},
    },
    service::Handle,
};

/// Who is pushed to.
#[derive(Clone, Debug, Default)]
pub struct PushConfig {
    /// A collector.
    pub otlp: Option<OtlpConfig>,
    /// A store.
    pub remote_write: Option<RemoteWriteConfig>,
}

/// A collector.
#[derive(Clone, Debug)]
pub struct OtlpConfig {
    /// Where.
    pub to: Remote,
    /// How often.
    pub interval: Duration,
    /// How it is spoken to.
    pub transport: Transport,
    /// What counters are shown as.
    pub temporality: Temporality,
    /// Whether spans of jobs are sent too.
    pub traces: bool,
    /// Whether the agent's own log is sent too.
    pub logs: bool,
}

/// A store.
#[derive(Clone, Debug)]
pub struct RemoteWriteConfig {
    /// Where.
    pub to: Remote,
    /// How often.
    pub interval: Duration,
}

/// How an outlet fares.
pub struct OutletTally {
    name: &'static str,
    tally: Arc<Tally>,
}

/// Outlets that are ready to start.
pub struct Prepared {
    otlp: Option<(Otlp, Duration)>,
    spans: Option<Arc<Queue>>,
    logs: Option<Arc<Queue>>,
    remote_write: Option<(RemoteWrite, Duration)>,
}

/// Where lines of the log wait for the collector, if it is to get them.
#[must_use]
pub fn log_queue(config: &Config) -> Option<Arc<Queue>> {
    let otlp = config.push.otlp.as_ref().filter(|otlp| otlp.logs);
    otlp.map(|_| Arc::default())
}

/// Reads the files of certificates, before the agent begins to count.
///
/// # Errors
/// When one cannot be used.
pub fn prepare(config: &Config, logs: Option<Arc<Queue>>) -> anyhow::Result<Prepared> {
    let resource = Resource {
        host: config.node_name(),
        version: env!("CARGO_PKG_VERSION"),
    };
    let mut spans = None;
    let otlp = config.push.otlp.clone().map(|otlp| {
        let mut made =
            Otlp::new(otlp.to, otlp.transport, otlp.temporality, resource).context("otlp")?;
        if otlp.traces {
            let queue = spans.get_or_insert_with(Arc::<Queue>::default);
            made = made.with_spans(Arc::clone(queue));
        }
        if let Some(queue) = &logs {
            made = made.with_logs(Arc::clone(queue));
        }
        anyhow::Ok((made, otlp.interval))
    });
    let remote_write = config.push.remote_write.clone().map(|store| {
        let made = RemoteWrite::new(store.to);
        made.map(|made| (made, store.interval))
            .context("remote_write")
    });
    Ok(Prepared {
        otlp: otlp.transpose()?,
        spans,
        logs,
        remote_write: remote_write.transpose()?,
    })
}

impl Prepared {
    /// Starts them. Dropped, each pushes once more.
    ///
    /// # Errors
    /// When the kernel gives no thread.
    pub fn start(self, core: &Handle) -> io::Result<Vec<Outlet>> {
        let mut outlets = Vec::new();
        let (spans, logs) = (self.spans, self.logs);
        let _ = core.ask_and_wait(move |core| {
            if let Some(queue) = spans {
                core.queues.push(("traces", Arc::clone(&queue)));
                core.traces.send_by(queue);
            }
            core.queues.extend(logs.map(|queue| ("logs", queue)));
        });
        if let Some((otlp, interval)) = self.otlp {
            let (source, tally) = Agent::new("otlp", core);
            outlets.push(Outlet::otlp(otlp, interval, source, tally)?);
        }
        if let Some((store, interval)) = self.remote_write {
            let (source, tally) = Agent::new("remote-write", core);
            outlets.push(Outlet::remote_write(store, interval, source, tally)?);
        }
        Ok(outlets)
    }
}

/// Writes how the outlets fare.
pub(crate) fn write(core: &Core, text: &mut Exposition<'_>) {
    if core.outlets.is_empty() {
        return;
    }
    let mut family = |family, value: fn(&Tally) -> u64, unit_ns: u64| {
        text.family(family);
        for outlet in &core.outlets {
            let labels = [("outlet", outlet.name)];
            let value = value(&outlet.tally);
            if unit_ns == 0 {
                text.integer(&labels, value.into());
            } else {
                text.seconds(&labels, value * unit_ns);
            }
        }
    };
    let failures = |tally: &Tally| tally.failures.load(Relaxed);
    family(&catalogue::PUSH_FAILURES, failures, 0);
    let rejected = |tally: &Tally| tally.rejected.load(Relaxed);
    family(&catalogue::PUSH_REJECTED_POINTS, rejected, 0);
    let gap_ms = |tally: &Tally| tally.gap_ms.load(Relaxed);
    family(&catalogue::PUSH_GAP_SECONDS, gap_ms, 1_000_000);
    let mut family = |family, value: fn(&Queue) -> u64| {
        text.family(family);
        for (signal, queue) in &core.queues {
            text.integer(&[("signal", signal)], value(queue).into());
        }
    };
    family(&catalogue::PUSH_QUEUED, |queue| queue.len() as u64);
    family(&catalogue::PUSH_DROPPED, Queue::dropped);
}

/// The agent, as an outlet reads it.
struct Agent {
    name: &'static str,
    core: Handle,
}

impl Agent {
    fn new(name: &'static str, core: &Handle) -> (Self, Arc<Tally>) {
        let tally = Arc::new(Tally::default());
        let shown = OutletTally {
            name,
            tally: Arc::clone(&tally),
        };
        // An agent that is stopping shows nothing any more.
        let _ = core.ask_and_wait(move |core| core.outlets.push(shown));
        let core = core.clone();
        (Self { name, core }, tally)
    }
}

impl Source for Agent {
    fn show(&mut self, mut text: String) -> Option<Shown> {
        let shown = self.core.ask_and_wait(move |core| {
            metrics::render(core, Dialect::Text, &mut text);
            let at = core.now();
            Shown { text, at }
        });
        shown.ok()
    }

    fn taken(&mut self, at: Duration) {
        let name = format!("push {}", self.name);
        // Seen is what was taken, not what was sent: or the last joules of a process go unseen.
        let _ = self
            .core
            .ask_and_wait(move |core| core.scrapers.scraped(&name, at));
    }
}
