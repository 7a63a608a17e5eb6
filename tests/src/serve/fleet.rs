// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Clusters of nodes that exist as samples in a store only: what their agents would have said.

use crate::servers::prometheus::Sample;

/// A pod's package power.
pub const POD_WATTS: f64 = 5.0;
/// A pod's memory power.
pub const POD_DRAM_WATTS: f64 = 1.0;
/// A node's idle package power.
pub const IDLE_WATTS: f64 = 20.0;
/// Package power of a node's processes that are no pods.
pub const OTHER_WATTS: f64 = 3.0;

/// When agents were scraped.
#[derive(Clone, Copy, Debug)]
pub struct Scrapes {
    /// The first time, in seconds since 1970.
    pub start: f64,
    /// How often.
    pub count: u32,
    /// Seconds between two.
    pub interval: f64,
}

/// A pod that burns the same all of the time.
#[derive(Clone, Debug)]
pub struct PodLoad {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// Which of that name it is.
    pub uid: String,
    /// Its package power; a fifth of that in memory besides.
    pub watts: f64,
}

/// A node that burns as much as its pods, [`IDLE_WATTS`] and [`OTHER_WATTS`] more.
#[derive(Clone, Debug)]
pub struct NodeLoad {
    /// Its name.
    pub name: String,
    /// What runs on it.
    pub pods: Vec<PodLoad>,
}

/// Nodes with pods, all of them alike: each pod burns [`POD_WATTS`] and [`POD_DRAM_WATTS`].
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

impl Scrapes {
    /// Every sample, series by series.
    pub fn of(
        self,
        nodes: impl Iterator<Item = NodeLoad> + Clone,
    ) -> impl Iterator<Item = Sample> + Clone {
        let series = nodes.flat_map(|node| node.series());
        series.flat_map(move |(series, per_second)| {
            (0..self.count).map(move |scrape| {
                let since = f64::from(scrape) * self.interval;
                Sample {
                    series: series.clone(),
                    at: self.start + since,
                    value: per_second * since,
                }
            })
        })
    }
}

impl PodLoad {
    /// All of its power that counts: package and memory.
    #[must_use]
    pub fn total_watts(&self) -> f64 {
        self.watts * (1.0 + POD_DRAM_WATTS / POD_WATTS)
    }

    fn labels(&self, node: &str) -> String {
        let Self {
            namespace,
            pod,
            uid,
            ..
        } = self;
        format!(r#"node="{node}",namespace="{namespace}",pod="{pod}",container="main",uid="{uid}""#)
    }
}

impl NodeLoad {
    /// Its series, each with what it grows by per second.
    fn series(&self) -> Vec<(String, f64)> {
        let node = &self.name;
        let pods: f64 = self.pods.iter().map(|pod| pod.watts).sum();
        let mut series = Vec::new();
        let domains = [
            ("package", 1.0, IDLE_WATTS, OTHER_WATTS),
            // Within the package, and never to be added to it.
            ("core", 0.8, IDLE_WATTS * 0.1, OTHER_WATTS * 0.8),
            ("dram", POD_DRAM_WATTS / POD_WATTS, 0.0, 0.0),
        ];
        for (domain, share, idle, other) in domains {
            let meter = format!(r#"node="{node}",domain="{domain}",device="0",source="rapl""#);
            let units = pods * share + other;
            series.extend([
                (
                    format!(r#"eco_node_energy_joules_total{{{meter},estimated="false"}}"#),
                    units + idle,
                ),
                (format!("eco_idle_energy_joules_total{{{meter}}}"), idle),
                (
                    format!(
                        r#"eco_unit_energy_joules_total{{node="{node}",kind="other",name="other",domain="{domain}"}}"#
                    ),
                    units,
                ),
                // A view of the same joules, which must not be counted again.
                (
                    format!(
                        r#"eco_unit_energy_joules_total{{node="{node}",kind="user",name="root",domain="{domain}"}}"#
                    ),
                    units,
                ),
            ]);
            series.extend(self.pods.iter().map(|pod| {
                let labels = pod.labels(node);
                let name = format!(r#"eco_pod_energy_joules_total{{{labels},domain="{domain}"}}"#);
                (name, pod.watts * share)
            }));
        }
        series.extend(self.pods.iter().map(|pod| {
            let labels = pod.labels(node);
            (format!("eco_pod_cpu_seconds_total{{{labels}}}"), 0.5)
        }));
        series
    }
}

impl Fleet {
    /// The name of a pod's namespace: pods are counted over all nodes.
    #[must_use]
    pub fn namespace(&self, pod: u32) -> String {
        format!("team-{}", pod / self.per_namespace)
    }

    /// Every sample, series by series.
    pub fn samples(self) -> impl Iterator<Item = Sample> + Clone {
        let scrapes = Scrapes {
            start: self.start,
            count: self.scrapes,
            interval: self.interval,
        };
        scrapes.of(self.loads())
    }

    /// Its nodes.
    pub fn loads(self) -> impl Iterator<Item = NodeLoad> + Clone {
        (0..self.nodes).map(move |node| self.node(node))
    }

    fn node(self, node: u32) -> NodeLoad {
        let numbers = node * self.pods..(node + 1) * self.pods;
        NodeLoad {
            name: format!("node-{node}"),
            pods: numbers.map(|number| self.pod(number)).collect(),
        }
    }

    fn pod(self, number: u32) -> PodLoad {
        PodLoad {
            namespace: self.namespace(number),
            pod: format!("pod-{number}"),
            uid: format!("uid-{number}"),
            watts: POD_WATTS,
        }
    }
}
