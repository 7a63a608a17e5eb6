// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Another exporter that already runs, measured in the same run by the same means.

use std::{
    collections::{BTreeMap, HashMap},
    str::FromStr,
    time::Instant,
};

use anyhow::{Context, Result, bail};
use eco_tests::{
    agent::{Agent, Memory, memory_of},
    http::{self, Response},
    metrics::{Metrics, Sample},
};

/// An exporter: `NAME=PID@URL`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// What to call it.
    pub(crate) name: String,
    pid: u32,
    url: String,
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not NAME=PID@http://HOST:PORT/PATH");
        let (name, rest) = text.split_once('=').ok_or_else(wrong)?;
        let (pid, url) = rest.split_once('@').ok_or_else(wrong)?;
        let pid = pid.parse().ok().filter(|pid| *pid > 0).ok_or_else(wrong)?;
        if name.is_empty() || !url.starts_with("http://") {
            return Err(wrong());
        }
        Ok(Self {
            name: name.to_owned(),
            pid,
            url: url.to_owned(),
        })
    }
}

/// Whoever is measured: eco's own agent, or a peer.
#[derive(Clone, Copy)]
pub(crate) enum Subject<'a> {
    /// The agent that the benchmark started.
    Eco(&'a Agent),
    /// Somebody else's.
    Peer(&'a Peer),
}

/// One scrape: how long it took, and what came.
pub(crate) struct Scrape {
    pub(crate) milliseconds: f64,
    pub(crate) bytes: usize,
    pub(crate) metrics: Metrics,
}

impl<'a> Subject<'a> {
    /// Eco first, then the peers.
    pub(crate) fn all(agent: &'a Agent, peers: &'a [Peer]) -> Vec<Self> {
        std::iter::once(Self::Eco(agent))
            .chain(peers.iter().map(Self::Peer))
            .collect()
    }

    /// What to call it.
    pub(crate) fn name(self) -> &'a str {
        match self {
            Self::Eco(_) => "eco",
            Self::Peer(peer) => &peer.name,
        }
    }

    /// CPU time so far, in µs: of eco's cgroup, or by the process's own clock, which has the
    /// threads that have ended too.
    pub(crate) fn cpu_us(self) -> Result<u64> {
        match self {
            Self::Eco(agent) => agent.cpu_us(),
            Self::Peer(peer) => process_cpu_us(peer.pid)
                .with_context(|| format!("peer {}: no process {}", peer.name, peer.pid)),
        }
    }

    /// Its memory.
    pub(crate) fn memory(self) -> Result<Memory> {
        match self {
            Self::Eco(agent) => agent.memory(),
            Self::Peer(peer) => memory_of(peer.pid),
        }
    }

    /// Scrapes it.
    pub(crate) fn scrape(self) -> Result<Scrape> {
        let begun = Instant::now();
        let response = self
            .get()
            .with_context(|| format!("scraping {}", self.name()))?;
        let milliseconds = begun.elapsed().as_secs_f64() * 1e3;
        if response.status != 200 {
            bail!("scraping {}: HTTP {}", self.name(), response.status);
        }
        let metrics = Metrics::parse(&response.body)?;
        Ok(Scrape {
            milliseconds,
            bytes: response.body.len(),
            metrics,
        })
    }

    fn get(self) -> Result<Response> {
        match self {
            Self::Eco(agent) => agent.get("/metrics"),
            Self::Peer(peer) => http::get(&peer.url),
        }
    }
}

fn process_cpu_us(pid: u32) -> Result<u64> {
    let mut clock = 0;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: room for a clock's id, then for a time.
    let failed = unsafe {
        libc::clock_getcpuclockid(i32::try_from(pid)?, &raw mut clock) != 0
            || libc::clock_gettime(clock, &raw mut time) != 0
    };
    if failed {
        bail!("its CPU time cannot be read");
    }
    Ok(time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1_000)
}

/// What an exporter's CPU counters say of a workload: by metric, as Prometheus adds.
#[derive(Default)]
pub(crate) struct Seen {
    last: HashMap<String, f64>,
    by_metric: BTreeMap<String, f64>,
}

impl Seen {
    /// Takes the next scrape; `marks` are what the workload's series may be known by.
    pub(crate) fn observe(&mut self, metrics: &Metrics, marks: &[&str]) {
        for sample in metrics.iter().filter(|sample| is_cpu_time(&sample.name)) {
            if !is_marked(sample, marks) {
                continue;
            }
            let value = sample.value();
            let grown = match self.last.insert(sample.series(), value) {
                None => 0.0,
                Some(last) if value < last => value,
                Some(last) => value - last,
            };
            let kind = sample
                .label("kind")
                .map(|kind| format!(" {kind}"))
                .unwrap_or_default();
            *self
                .by_metric
                .entry(format!("{}{kind}", sample.name))
                .or_default() += grown;
        }
    }

    /// Seconds by metric.
    pub(crate) fn by_metric(&self) -> &BTreeMap<String, f64> {
        &self.by_metric
    }
}

/// A counter of somebody's CPU time; the exporter's own is none.
fn is_cpu_time(metric: &str) -> bool {
    metric.contains("cpu")
        && metric.ends_with("seconds_total")
        && !metric.starts_with("process_")
        && !metric.contains("node_cpu")
        && !metric.contains("agent_cpu")
}

fn is_marked(sample: &Sample, marks: &[&str]) -> bool {
    let series = sample.series();
    marks.iter().any(|mark| series.contains(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_a_name_a_process_and_an_address() {
        let peer: Peer = "kepler=12@http://[::1]:28282/metrics".parse().unwrap();
        assert_eq!((peer.name.as_str(), peer.pid), ("kepler", 12));
        for wrong in [
            "kepler",
            "kepler=12",
            "=1@http://x",
            "a=0@http://x",
            "a=b@http://x",
            "a=1@x",
        ] {
            assert!(
                wrong.parse::<Peer>().unwrap_err().contains("NAME=PID@"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn only_the_workloads_own_series_are_added_up() {
        let mut seen = Seen::default();
        for value in [1.0, 4.0, 0.5] {
            let text = format!(
                "x_cpu_seconds_total{{comm=\"work\"}} {value}\nx_cpu_seconds_total{{comm=\"y\"}} 9{value}\n\
                 process_cpu_seconds_total {value}\n"
            );
            seen.observe(&Metrics::parse(&text).unwrap(), &["work"]);
        }
        let expected = BTreeMap::from([("x_cpu_seconds_total".to_owned(), 3.5)]);
        assert_eq!(seen.by_metric(), &expected);
    }
}
