// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Simulated nodes, and pods on them, beside a cluster's real one: a cluster's API server at
//! its full size, without the machines.

use std::fmt::Write as _;

use anyhow::Result;

use super::{
    find_or_skip,
    kubernetes::Cluster,
    server::{Launch, Server},
};

/// What simulated nodes and pods go through: kwok's own `fast` life, in which a pod is ready at
/// once, and a Job's pod is done at once.
const STAGES: [&str; 5] = [
    "data/node/fast/node-initialize.yaml",
    "data/node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
    "data/pod/fast/pod-ready.yaml",
    "data/pod/fast/pod-complete.yaml",
    "data/pod/fast/pod-delete.yaml",
];

/// A pod on a simulated node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SimulatedPod {
    /// Its namespace.
    pub namespace: String,
    /// Its name, which its Deployment has made up.
    pub name: String,
    /// The API server's id of it.
    pub uid: String,
    /// The node that it was scheduled to.
    pub node: String,
}

/// The simulator of one cluster.
pub struct Kwok<'a> {
    cluster: &'a Cluster,
    _server: Server,
}

impl<'a> Kwok<'a> {
    /// Starts it. Prints `skipped: why` and answers `None` where there is no kwok.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(cluster: &'a Cluster) -> Result<Option<Self>> {
        let Some([installed]) = find_or_skip(["kwok"]) else {
            return Ok(None);
        };
        let program = installed.path("bin/kwok");
        let mut launch = Launch::new("kwok", cluster.scratch(), &program)?
            .flag("kubeconfig", cluster.kubeconfig())
            // The real one has a kubelet.
            .flag("manage-nodes-with-label-selector", "type=kwok")
            // As the kubelet's. Without leases the nodes pass for dead after a minute.
            .flag("node-lease-duration-seconds", "40")
            .flag("v", "WARN");
        for stage in STAGES {
            launch = launch.flag("config", installed.path(stage));
        }
        Ok(Some(Self {
            cluster,
            _server: launch.start()?,
        }))
    }

    /// Adds nodes `kwok-0`, `kwok-1` and so on, and waits until they are ready.
    ///
    /// # Errors
    /// When the API server refuses them, or they do not get ready.
    pub fn add_nodes(&self, count: usize) -> Result<()> {
        let mut yaml = String::new();
        for number in 0..count {
            let _ = writeln!(
                yaml,
                "---
apiVersion: v1
kind: Node
metadata:
  name: kwok-{number}
  labels: {{type: kwok, kubernetes.io/hostname: kwok-{number}}}
spec:
  taints: [{{key: kwok, effect: NoSchedule}}]
status:
  allocatable: {{cpu: '64', memory: 512Gi, pods: '250'}}
  capacity: {{cpu: '64', memory: 512Gi, pods: '250'}}"
            );
        }
        self.cluster.apply(&yaml)?;
        self.cluster
            .wait_for("nodes -l type=kwok", "condition=Ready")
    }

    /// Deploys so many pods to them, labelled `app=NAME`, and waits until all are ready.
    ///
    /// # Errors
    /// When the API server refuses, or they do not get ready.
    pub fn deploy(&self, namespace: &str, name: &str, pods: usize) -> Result<()> {
        self.cluster.apply(&format!(
            "apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  replicas: {pods}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      automountServiceAccountToken: false
      nodeSelector: {{type: kwok}}
      tolerations: [{{key: kwok, operator: Exists}}]
      containers: [{{name: main, image: simulated}}]
"
        ))?;
        let ready = format!("jsonpath={{.status.readyReplicas}}={pods}");
        self.cluster
            .wait_for(&format!("deployment/{name} -n {namespace}"), &ready)
    }

    /// All pods on simulated nodes.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub fn pods(&self) -> Result<Vec<SimulatedPod>> {
        let lines = r#"jsonpath={range .items[*]}{.metadata.namespace} {.metadata.name} {.metadata.uid} {.spec.nodeName}{"\n"}{end}"#;
        let told = self.cluster.kubectl(&["get", "pods", "-A", "-o", lines])?;
        let pods = told.lines().filter_map(|line| {
            let mut words = line.split(' ').map(str::to_owned);
            Some(SimulatedPod {
                namespace: words.next()?,
                name: words.next()?,
                uid: words.next()?,
                node: words.next().filter(|node| node.starts_with("kwok-"))?,
            })
        });
        Ok(pods.collect())
    }
}
