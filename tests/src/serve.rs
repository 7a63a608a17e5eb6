// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `eco serve` under test, and clusters of nodes that exist as samples in a store only.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{
    http, programs,
    servers::{
        free_port,
        prometheus::Sample,
        server::{Launch, Server},
    },
};

/// An `eco serve` of one's own. Dropped, it is killed.
pub struct Serve {
    _server: Server,
    port: u16,
    _scratch: tempfile::TempDir,
}

impl Serve {
    /// Starts one with these arguments beside `--listen`, which everybody may ask, in the clear.
    ///
    /// # Errors
    /// When it does not get ready.
    pub fn start(arguments: &[&str]) -> Result<Self> {
        let port = free_port()?;
        let (mut server, scratch) = launch("127.0.0.1", port, arguments)?;
        server.until_ready(|| {
            let ready = http::get(&format!("http://127.0.0.1:{port}/readyz"));
            ready.is_ok_and(|answer| answer.status == 200)
        })?;
        Ok(Self {
            _server: server,
            port,
            _scratch: scratch,
        })
    }

    /// Starts one that the API server decides for: over TLS, so nothing here can tell when it is
    /// ready. It listens at `address`, where the API server is to find it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn delegated(address: &str, arguments: &[&str]) -> Result<Self> {
        let port = free_port()?;
        let (server, scratch) = launch(address, port, arguments)?;
        Ok(Self {
            _server: server,
            port,
            _scratch: scratch,
        })
    }

    /// The port that it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Gets a path, whatever the answer.
    ///
    /// # Errors
    /// When there is none.
    pub fn get(&self, path: &str) -> Result<http::Response> {
        http::get(&format!("http://127.0.0.1:{}{path}", self.port))
    }

    /// Gets a path whose answer is a success in JSON.
    ///
    /// # Errors
    /// When it is not.
    pub fn json(&self, path: &str) -> Result<Value> {
        let answer = self.get(path)?;
        if answer.status != 200 {
            bail!("{path}: HTTP {}: {}", answer.status, answer.body);
        }
        answer.json().with_context(|| path.to_owned())
    }
}

fn launch(address: &str, port: u16, arguments: &[&str]) -> Result<(Server, tempfile::TempDir)> {
    let scratch = tempfile::Builder::new().prefix("eco-test-").tempdir()?;
    let mut launch = Launch::new("eco-serve", scratch.path(), &programs::eco())?
        .arg("serve")
        .flag("listen", format!("{address}:{port}"));
    for argument in arguments {
        launch = launch.arg(argument);
    }
    Ok((launch.start()?, scratch))
}

/// Nodes with pods, as the agents of such a cluster would have been scraped. Each pod burns
/// [`POD_WATTS`] of package power and a fifth of that in memory, all of the time; each node as
/// much as its pods, [`IDLE_WATTS`] and [`OTHER_WATTS`] more.
#[derive(Clone, Copy, Debug)]
pub struct Fleet {
    /// How many nodes.
    pub nodes: u32,
    /// How many pods on each.
    pub pods: u32,
    /// How many pods share a namespace.
    pub per_namespace: u32,
    /// When it begins, in seconds since 1970.
    pub start: f64,
    /// How many scrapes there are.
    pub scrapes: u32,
    /// Seconds between two.
    pub interval: f64,
}

/// A pod's package power.
pub const POD_WATTS: f64 = 5.0;
/// A pod's memory power.
pub const POD_DRAM_WATTS: f64 = 1.0;
/// A node's idle package power.
pub const IDLE_WATTS: f64 = 20.0;
/// Package power of a node's processes that are no pods.
pub const OTHER_WATTS: f64 = 3.0;

impl Fleet {
    /// The name of a pod's namespace: pods are counted over all nodes.
    #[must_use]
    pub fn namespace(&self, pod: u32) -> String {
        format!("team-{}", pod / self.per_namespace)
    }

    /// Every sample, series by series.
    pub fn samples(self) -> impl Iterator<Item = Sample> + Clone {
        let series = (0..self.nodes).flat_map(move |node| self.node(node));
        series.flat_map(move |(series, per_second)| {
            (0..self.scrapes).map(move |scrape| {
                let since = f64::from(scrape) * self.interval;
                Sample {
                    series: series.clone(),
                    at: self.start + since,
                    value: per_second * since,
                }
            })
        })
    }

    /// A node's series, each with what it grows by per second.
    fn node(self, node: u32) -> Vec<(String, f64)> {
        let pods = f64::from(self.pods);
        let mut series = Vec::new();
        let domains = [
            ("package", POD_WATTS, IDLE_WATTS, OTHER_WATTS),
            // Within the package, and never to be added to it.
            ("core", POD_WATTS * 0.8, IDLE_WATTS * 0.1, OTHER_WATTS * 0.8),
            ("dram", POD_DRAM_WATTS, 0.0, 0.0),
        ];
        for (domain, pod, idle, other) in domains {
            let meter = format!(r#"node="node-{node}",domain="{domain}",device="0",source="rapl""#);
            let units = pods * pod + other;
            series.extend([
                (
                    format!(r#"eco_node_energy_joules_total{{{meter},estimated="false"}}"#),
                    units + idle,
                ),
                (format!("eco_idle_energy_joules_total{{{meter}}}"), idle),
                (
                    format!(
                        r#"eco_unit_energy_joules_total{{node="node-{node}",kind="other",name="other",domain="{domain}"}}"#
                    ),
                    units,
                ),
                // A view of the same joules, which must not be counted again.
                (
                    format!(
                        r#"eco_unit_energy_joules_total{{node="node-{node}",kind="user",name="root",domain="{domain}"}}"#
                    ),
                    units,
                ),
            ]);
            for pod_number in 0..self.pods {
                let labels = self.pod_labels(node, pod_number);
                series.push((
                    format!(r#"eco_pod_energy_joules_total{{{labels},domain="{domain}"}}"#),
                    pod,
                ));
            }
        }
        for pod_number in 0..self.pods {
            let labels = self.pod_labels(node, pod_number);
            series.push((format!("eco_pod_cpu_seconds_total{{{labels}}}"), 0.5));
        }
        series
    }

    fn pod_labels(self, node: u32, pod: u32) -> String {
        let number = node * self.pods + pod;
        let namespace = self.namespace(number);
        format!(
            r#"node="node-{node}",namespace="{namespace}",pod="pod-{number}",container="main",uid="uid-{number}""#
        )
    }
}
