// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How long `eco serve` takes to answer about a cluster of 10,000 pods.
//!
//! The pods are series in a real store. Where a real API server can be started, the pods of one
//! namespace exist there, so that a `*` is answered as in a cluster: with the list of its pods.

use std::{
    fmt::Write as _,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use eco_tests::{
    serve::{Fleet, Serve},
    servers::{
        kubernetes::{Cluster, IMAGE},
        prometheus::{Kind, Store},
    },
};
use serde_json::json;

use crate::{
    Findings,
    table::{Table, quantile, shown},
};

const PODS: u32 = 10_000;
const NODES: u32 = 100;
/// Pods that share a namespace.
const TOGETHER: u32 = 1_000;

/// A quarter of an hour, and as much again into the future, so that a long benchmark has fresh
/// samples to the end.
const INTERVAL: f64 = 15.0;
const SCRAPES: u32 = 120;

/// What is asked, and how slow the slowest of a hundred may be, in ms.
const QUESTIONS: [(&str, &str, f64); 4] = [
    (
        "a pod, power for an autoscaler",
        "/apis/custom.metrics.k8s.io/v1beta2/namespaces/NAMESPACE/pods/POD/power_watts",
        50.0,
    ),
    (
        "a pod, all of it",
        "/v1/pods/NAMESPACE/POD?window=10m",
        50.0,
    ),
    (
        "1,000 pods, power by *",
        "/apis/custom.metrics.k8s.io/v1beta2/namespaces/team-0/pods/*/power_watts",
        150.0,
    ),
    (
        "1,000 pods, energy by * and label",
        "/apis/custom.metrics.k8s.io/v1beta2/namespaces/team-0/pods/*/energy_joules\
         ?labelSelector=app%3Dweb",
        150.0,
    ),
];

pub(crate) fn run(requests: u32) -> Result<Findings> {
    let cluster = Cluster::start()?;
    let access = cluster.as_ref().map(furnish).transpose()?;
    let mut table = Table::new(
        format!("{PODS} pods on {NODES} nodes, {requests} requests of each, store warm"),
        &["asked", "store", "p50 ms", "p99 ms", "max ms", "bar ms"],
    );
    let mut rows = Vec::new();
    for kind in Kind::ALL {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
        let fleet = Fleet {
            nodes: NODES,
            pods: PODS / NODES,
            per_namespace: TOGETHER,
            start: now - f64::from(SCRAPES / 2) * INTERVAL,
            scrapes: SCRAPES,
            interval: INTERVAL,
        };
        let Some(store) = Store::start(kind, "", fleet.samples())? else {
            continue;
        };
        let mut arguments = vec!["--store".to_owned(), store.url()];
        arguments.extend(access.iter().flat_map(|access| access.arguments.clone()));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let serve = Serve::start(&arguments)?;
        for (asked, path, bar) in QUESTIONS {
            if path.contains("labelSelector") && access.is_none() {
                continue;
            }
            let took = ask(&serve, &fleet, path, requests)?;
            let quantile = |q| quantile(&took, q);
            table.row([
                asked.to_owned(),
                format!("{kind:?}"),
                shown(quantile(0.5), 1),
                shown(quantile(0.99), 1),
                shown(quantile(1.0), 1),
                shown(bar, 0),
            ]);
            rows.push(json!({
                "asked": asked, "store": format!("{kind:?}"), "bar_ms": bar,
                "p50_ms": quantile(0.5), "p99_ms": quantile(0.99), "max_ms": quantile(1.0),
            }));
        }
    }
    Ok(Findings {
        tables: vec![table],
        json: json!({
            "bench": "serve", "pods": PODS, "nodes": NODES, "requests": requests,
            "api_server": access.is_some(), "rows": rows,
        }),
    })
}

/// How `eco serve` asks the cluster for its pods.
struct Access {
    arguments: Vec<String>,
    _folder: tempfile::TempDir,
}

/// Makes the pods of the first namespace. No node takes them: they exist, and that is all.
fn furnish(cluster: &Cluster) -> Result<Access> {
    cluster.namespace("team-0")?;
    let mut pods = String::new();
    for pod in 0..TOGETHER {
        let _ = write!(
            pods,
            "apiVersion: v1
kind: Pod
metadata: {{name: pod-{pod}, namespace: team-0, labels: {{app: web}}}}
spec:
  nodeSelector: {{nobody: has-this}}
  automountServiceAccountToken: false
  containers: [{{name: main, image: {IMAGE}, imagePullPolicy: Never}}]
---
"
        );
    }
    cluster.apply(&pods)?;
    let token = cluster.token("team-0", "eco-serve")?;
    cluster.kubectl(&[
        "create",
        "clusterrolebinding",
        "eco-serve",
        "--clusterrole=view",
        "--serviceaccount=team-0:eco-serve",
    ])?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("token");
    std::fs::write(&file, token)?;
    let text = |path: &std::path::Path| path.display().to_string();
    Ok(Access {
        arguments: vec![
            // The API server is asked for pods only: what a role costs is not measured here.
            "--access=everybody".into(),
            format!("--kubernetes={}", cluster.server()),
            format!(
                "--kubernetes-ca-file={}",
                text(cluster.authority().certificate())
            ),
            format!("--kubernetes-token-file={}", text(&file)),
        ],
        _folder: folder,
    })
}

/// How long each request took, in ms; each is about another pod.
fn ask(serve: &Serve, fleet: &Fleet, path: &str, requests: u32) -> Result<Vec<f64>> {
    const WARM_UP: u32 = 20;
    let mut took = Vec::new();
    for request in 0..WARM_UP + requests {
        // A stride that meets all nodes and namespaces.
        let pod = request.wrapping_mul(7919) % PODS;
        let path = path
            .replace("NAMESPACE", &fleet.namespace(pod))
            .replace("POD", &format!("pod-{pod}"));
        let begun = Instant::now();
        let answer = serve.get(&path)?;
        let elapsed = begun.elapsed();
        ensure!(answer.status == 200, "{path}: {}", answer.body);
        if path.contains('*') {
            let items = answer.json()?["items"].as_array().map_or(0, Vec::len);
            ensure!(items == TOGETHER as usize, "{path}: {items} pods");
        }
        if request >= WARM_UP {
            took.push(elapsed.as_secs_f64() * 1e3);
        }
    }
    (!took.is_empty()).then_some(took).context("no requests")
}
