// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Pods and the jobs of other managers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ByDomain;

/// `GET /v1/pods/{namespace}/{name}`: what a pod used on this node.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid: of pods of one name, the one that was met last is shown.
    pub uid: String,
    /// The node.
    pub node: String,
    /// Those of its labels that are kept.
    pub labels: BTreeMap<String, String>,
    /// The root of its owners.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// The job that it is a part of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<Owner>,
    /// What it asked for.
    pub requests: Requests,
    /// Ids of the devices that the kubelet gave it.
    pub devices: Vec<String>,
    /// The span that `watts` and `cpu_percent` are means over.
    pub window_seconds: f64,
    /// CPU time over the window, 100 per CPU.
    pub cpu_percent: f64,
    /// Power over the window, without idle.
    pub watts: f64,
    /// CPU time since the agent has known the pod.
    pub cpu_seconds: f64,
    /// Energy since then, by domain, without idle.
    pub energy_joules: ByDomain,
    /// Carbon by domain, in grams; absent where no intensity was ever known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carbon_grams: Option<ByDomain>,
    /// Its containers, and under an empty name what was used outside of any.
    pub containers: Vec<PodContainer>,
    /// Whether any of it is an estimate.
    pub estimated: bool,
    /// Whose joules they are, in alphabetical order: `model`, `rapl-powercap`, ….
    #[serde(default)]
    pub sources: Vec<String>,
    /// How CPU time is known: `iter` or `procfs`.
    pub tier: String,
}

/// What a pod's containers of one name used, all their runs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PodContainer {
    /// Its name in the pod.
    pub name: String,
    /// CPU time over the window, 100 per CPU.
    pub cpu_percent: f64,
    /// Power over the window, without idle.
    pub watts: f64,
    /// CPU time since the agent has known it.
    pub cpu_seconds: f64,
    /// Energy since then, by domain, without idle.
    pub energy_joules: ByDomain,
    /// Carbon by domain, in grams; absent where no intensity was ever known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carbon_grams: Option<ByDomain>,
}

/// A workload that owns pods, in their namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// `Deployment`, `Job`, ….
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// What a pod asked for; 0 where it did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    /// CPU, in thousandths.
    pub cpu_milli: u64,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// GPUs, or slices of them.
    pub gpus: u64,
}

/// `GET /v1/jobs/slurm/{id}` and `/v1/jobs/kubernetes/{namespace}/{name}`: what a job of another
/// manager used on this node. A job on several nodes is the sum of its answers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ManagedJob {
    /// `slurm` or `kubernetes`.
    pub manager: String,
    /// As that manager calls it.
    pub id: String,
    /// The name that its user gave it.
    pub name: String,
    /// Its user.
    pub user: String,
    /// Slurm: the account that it is charged to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Slurm: the partition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// Slurm: the array and the task, `123_4`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub array: Option<String>,
    /// The node.
    pub node: String,
    /// The span that `watts` and `cpu_percent` are means over.
    pub window_seconds: f64,
    /// CPU time over the window, 100 per CPU.
    pub cpu_percent: f64,
    /// Power over the window, without idle.
    pub watts: f64,
    /// CPU time since the agent has known the job.
    pub cpu_seconds: f64,
    /// Energy since then, by domain, without idle.
    pub energy_joules: ByDomain,
    /// Carbon by domain, in grams; absent where no intensity was ever known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carbon_grams: Option<ByDomain>,
    /// Slurm: its steps that are shown.
    pub steps: Vec<Step>,
    /// Whether any of it is an estimate.
    pub estimated: bool,
    /// Whose joules they are, in alphabetical order: `model`, `rapl-powercap`, ….
    #[serde(default)]
    pub sources: Vec<String>,
    /// How CPU time is known: `iter` or `procfs`.
    pub tier: String,
}

/// A step of a Slurm job.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Step {
    /// As `sacct` calls it: `123.batch`.
    pub id: String,
    /// CPU time since the agent has known it.
    pub cpu_seconds: f64,
    /// Energy since then, by domain, without idle.
    pub energy_joules: ByDomain,
    /// Carbon by domain, in grams; absent where no intensity was ever known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carbon_grams: Option<ByDomain>,
}
