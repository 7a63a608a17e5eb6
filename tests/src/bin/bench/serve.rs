// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How long `eco serve` takes to answer about a cluster of 10,000 pods.
//!
//! The pods are series in a real store. Where a real API server and kwok can be started, half of
//! them exist there as pods of simulated nodes, 1,000 in a namespace, and the other half has been
//! deleted of late: so that a `*` is answered as in a cluster, with the list of its pods.

use std::{
    collections::BTreeMap,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use eco_tests::{
    serve::{Fleet, NodeLoad, POD_WATTS, PodLoad, PodReader, Scrapes, Serve},
    servers::{
        kubernetes::Cluster,
        kwok::Kwok,
        prometheus::{Kind, Store},
    },
};
use serde_json::json;

use crate::{
    Findings,
    table::{Table, median, quantile, shown},
};

const PODS: u32 = 10_000;
const NODES: u32 = 100;
/// Pods that share a namespace.
const TOGETHER: u32 = 1_000;
/// Pods that the API server knows, where there is one.
const LIVING: u32 = 5_000;

/// A quarter of an hour, and as much again into the future, so that a long benchmark has fresh
/// samples to the end.
const INTERVAL: f64 = 15.0;
const SCRAPES: u32 = 120;

/// What is asked, and how slow the slowest of a hundred may be.
struct Question {
    asked: &'static str,
    path: &'static str,
    bar_ms: f64,
    /// The heart of it, asked of the store alone and read as JSON: no answer can be faster.
    promql: &'static str,
}

const QUESTIONS: [Question; 4] = [
    Question {
        asked: "a pod, power for an autoscaler",
        path: "/apis/custom.metrics.k8s.io/v1beta2/namespaces/NAMESPACE/pods/POD/power_watts",
        bar_ms: 50.0,
        promql: r#"sum by (pod, domain, node) (rate(eco_pod_energy_joules_total{namespace="NAMESPACE",pod="POD"}[60s]))"#,
    },
    Question {
        asked: "a pod, all of it",
        path: "/v1/pods/NAMESPACE/POD?window=10m",
        bar_ms: 50.0,
        promql: r#"sum by (pod, domain, node) (increase(eco_pod_energy_joules_total{namespace="NAMESPACE",pod="POD"}[10m]))"#,
    },
    Question {
        asked: "1,000 pods, power by *",
        path: "/apis/custom.metrics.k8s.io/v1beta2/namespaces/team-0/pods/*/power_watts",
        bar_ms: 150.0,
        promql: r#"sum by (pod, domain, node) (rate(eco_pod_energy_joules_total{namespace="team-0"}[60s]))"#,
    },
    Question {
        asked: "1,000 pods, energy by * and label",
        path: "/apis/custom.metrics.k8s.io/v1beta2/namespaces/team-0/pods/*/energy_joules\
               ?labelSelector=app%3Dweb",
        bar_ms: 150.0,
        promql: r#"sum by (pod, domain, node) (eco_pod_energy_joules_total{namespace="team-0"})"#,
    },
];

pub(crate) fn run(requests: u32) -> Result<Findings> {
    let cluster = Cluster::start()?;
    let kwok = match &cluster {
        Some(cluster) => Kwok::start(cluster)?,
        None => None,
    };
    let population = match (&cluster, &kwok) {
        (Some(cluster), Some(kwok)) => Population::simulated(cluster, kwok)?,
        _ => Population::in_the_store_only(),
    };
    let living = if population.reader.is_some() {
        format!("{LIVING} of them on kwok's nodes")
    } else {
        "no API server".to_owned()
    };
    let mut table = Table::new(
        format!("{PODS} pods on {NODES} nodes, {living}; {requests} requests of each, store warm"),
        &[
            "asked",
            "store",
            "p50 ms",
            "p99 ms",
            "max ms",
            "bar ms",
            "p99/bar",
            "store alone p50",
            "p50/alone",
        ],
    );
    let mut memory = Table::new("memory of eco serve after that", &["store", "peak MiB"]);
    let (mut rows, mut peaks) = (Vec::new(), Vec::new());
    for kind in Kind::ALL {
        let Some((serve, store)) = population.serve(kind)? else {
            continue;
        };
        for question in &QUESTIONS {
            if question.path.contains("labelSelector") && population.reader.is_none() {
                continue;
            }
            let took = question.ask(&serve, &store, &population.pods, requests)?;
            let quantile = |q| quantile(&took.eco, q);
            let (bar, alone) = (question.bar_ms, median(&took.store));
            table.row([
                question.asked.to_owned(),
                format!("{kind:?}"),
                shown(quantile(0.5), 1),
                shown(quantile(0.99), 1),
                shown(quantile(1.0), 1),
                shown(bar, 0),
                shown(quantile(0.99) / bar, 2),
                shown(alone, 1),
                shown(quantile(0.5) / alone, 2),
            ]);
            rows.push(json!({
                "asked": question.asked, "store": format!("{kind:?}"), "bar_ms": bar,
                "p50_ms": quantile(0.5), "p99_ms": quantile(0.99), "max_ms": quantile(1.0),
                "store_alone_p50_ms": alone,
            }));
        }
        let peak = serve.peak_resident_bytes()?;
        memory.row([
            format!("{kind:?}"),
            shown(peak as f64 / (1024.0 * 1024.0), 1),
        ]);
        peaks.push(json!({ "store": format!("{kind:?}"), "peak_resident_bytes": peak }));
    }
    Ok(Findings {
        tables: vec![table, memory],
        json: json!({
            "bench": "serve", "pods": PODS, "nodes": NODES, "requests": requests,
            "api_server": population.reader.is_some(), "rows": rows, "memory": peaks,
        }),
    })
}

/// Who is asked about.
struct Population {
    nodes: Vec<NodeLoad>,
    /// Namespace and name of those that are asked for by name.
    pods: Vec<(String, String)>,
    /// How `eco serve` asks the cluster for its pods.
    reader: Option<PodReader>,
}

impl Population {
    fn in_the_store_only() -> Self {
        let fleet = Fleet {
            nodes: NODES,
            pods: PODS / NODES,
            per_namespace: TOGETHER,
            // When they were scraped is decided later.
            start: 0.0,
            scrapes: 0,
            interval: 0.0,
        };
        Self::of(fleet.loads().collect(), None)
    }

    fn simulated(cluster: &Cluster, kwok: &Kwok<'_>) -> Result<Self> {
        kwok.add_nodes(NODES as usize)?;
        for team in 0..LIVING / TOGETHER {
            let namespace = format!("team-{team}");
            cluster.namespace(&namespace)?;
            kwok.deploy(&namespace, "web", TOGETHER as usize)?;
        }
        let living = kwok.pods()?.into_iter().map(|pod| {
            let load = PodLoad {
                namespace: pod.namespace,
                pod: pod.name,
                uid: pod.uid,
                watts: POD_WATTS,
            };
            (pod.node, load)
        });
        let deleted = (LIVING..PODS).map(|number| {
            let load = PodLoad {
                namespace: format!("team-{}", number / TOGETHER),
                pod: format!("pod-{number}"),
                uid: format!("uid-{number}"),
                watts: POD_WATTS,
            };
            (format!("kwok-{}", number % NODES), load)
        });
        let mut nodes: BTreeMap<String, Vec<PodLoad>> = BTreeMap::new();
        for (node, load) in living.chain(deleted) {
            nodes.entry(node).or_default().push(load);
        }
        let nodes = nodes.into_iter();
        let nodes = nodes.map(|(name, pods)| NodeLoad { name, pods });
        let reader = PodReader::new(cluster, "default")?;
        Ok(Self::of(nodes.collect(), Some(reader)))
    }

    fn of(nodes: Vec<NodeLoad>, reader: Option<PodReader>) -> Self {
        let pods = nodes.iter().flat_map(|node| &node.pods);
        let pods = pods.map(|load| (load.namespace.clone(), load.pod.clone()));
        Self {
            pods: pods.collect(),
            nodes,
            reader,
        }
    }

    /// An `eco serve` in front of a store that has scraped them; `None` where there is no such
    /// store.
    fn serve(&self, kind: Kind) -> Result<Option<(Serve, Store)>> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
        let scrapes = Scrapes {
            start: now - f64::from(SCRAPES / 2) * INTERVAL,
            count: SCRAPES,
            interval: INTERVAL,
        };
        let samples = scrapes.of(self.nodes.iter().cloned());
        let Some(store) = Store::start(kind, "", samples)? else {
            return Ok(None);
        };
        let url = store.url();
        let mut arguments = vec!["--store", url.as_str()];
        arguments.extend(self.reader.iter().flat_map(PodReader::arguments));
        Ok(Some((Serve::start(&arguments)?, store)))
    }
}

/// How long each request took, in ms.
#[derive(Default)]
struct Took {
    eco: Vec<f64>,
    store: Vec<f64>,
}

impl Question {
    /// Asks eco serve and the store in turn; each time about another pod.
    fn ask(
        &self,
        serve: &Serve,
        store: &Store,
        pods: &[(String, String)],
        requests: u32,
    ) -> Result<Took> {
        const WARM_UP: u32 = 20;
        let mut took = Took::default();
        for request in 0..WARM_UP + requests {
            // A stride that meets all nodes and namespaces.
            let (namespace, pod) = &pods[(request.wrapping_mul(7919) % PODS) as usize];
            let about = |text: &str| text.replace("NAMESPACE", namespace).replace("POD", pod);
            let path = about(self.path);
            let (answer, eco) = timed(|| serve.get(&path))?;
            ensure!(answer.status == 200, "{path}: {}", answer.body);
            if path.contains('*') {
                let items = answer.json()?["items"].as_array().map_or(0, Vec::len);
                ensure!(items == TOGETHER as usize, "{path}: {items} pods");
            }
            let (rows, alone) = timed(|| store.query(&about(self.promql)))?;
            ensure!(!rows.is_empty(), "{}: nothing", self.promql);
            if request >= WARM_UP {
                took.eco.push(eco);
                took.store.push(alone);
            }
        }
        (!took.eco.is_empty())
            .then_some(took)
            .context("no requests")
    }
}

/// What something gives, and how long it takes, in ms.
fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    let begun = Instant::now();
    let done = work()?;
    Ok((done, begun.elapsed().as_secs_f64() * 1e3))
}
