// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What nobody but the lab knows: the shape of its JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Since the lab's start.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Truth {
    /// How long the lab has run.
    pub seconds: f64,
    /// By name.
    pub workloads: BTreeMap<String, WorkloadTruth>,
    /// Everyone else.
    pub rest: WorkloadTruth,
    /// By name: `package-0`, `package-0/dram`, a chip's.
    pub meters: BTreeMap<String, MeterTruth>,
    /// In the driver's order.
    #[serde(default)]
    pub gpus: Vec<GpuTruth>,
}

/// What went through a GPU.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct GpuTruth {
    /// In all.
    pub joules: f64,
    /// Of it what it draws whatever runs.
    pub idle_joules: f64,
    /// What each drew on top of that, by name.
    pub processes: BTreeMap<String, f64>,
    /// Their pids, in the scenario's order.
    pub pids: Vec<u32>,
}

/// What somebody used.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct WorkloadTruth {
    /// Its cgroup below the v2 mount; empty for the rest.
    pub cgroup: String,
    /// CPU time.
    pub cpu_seconds: f64,
    /// What it cost, by meter, without idle.
    pub joules: BTreeMap<String, f64>,
}

impl WorkloadTruth {
    /// What it cost on the meters whose names begin so and that are below no other.
    #[must_use]
    pub fn joules_of(&self, meters: &str) -> f64 {
        let wanted = |name: &str| name.starts_with(meters) && !name.contains('/');
        let joules = self.joules.iter();
        joules
            .filter(|(name, _)| wanted(name))
            .map(|(_, j)| j)
            .sum()
    }
}

/// What went through a meter, whatever it showed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct MeterTruth {
    /// In all.
    pub joules: f64,
    /// Of it while nothing ran.
    pub idle_joules: f64,
    /// How often its counter went round.
    pub wraps: u64,
    /// What befell it so far.
    pub events: Vec<Happened>,
}

/// Something that befell a meter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Happened {
    /// `reset`, `remove`, `freeze`, and `add` and `thaw` at their ends.
    pub what: String,
    /// Seconds after the start.
    pub at_s: f64,
    /// What had gone through the meter by then.
    pub joules: f64,
}
