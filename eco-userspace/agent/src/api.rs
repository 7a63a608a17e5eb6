// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The shapes of the HTTP API: what the agent serves and its clients read.
//!
//! Energy is in joules and CPU time in seconds here, as `f64`; inside, both are integers.

mod node;
mod spans;
mod workloads;

use std::collections::BTreeMap;

use eco_intensity::{GramsPerKwh, Intensity, IntensityError, Kind, Pue};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::node::NodeMeter;
pub use self::spans::{Span, SpanRequest};
pub use self::workloads::{ManagedJob, Owner, Pod, PodContainer, Requests, Step};

/// Joules by domain label (`package`, `dram`, …). A `BTreeMap`, so that output is stable.
pub type ByDomain = BTreeMap<String, f64>;

/// `GET /v1/status`: what was detected and how well it works.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// The agent's version.
    pub version: String,
    /// The agent's process id.
    pub pid: u32,
    /// The node's name.
    pub node: String,
    /// The running kernel.
    pub kernel: String,
    /// CPUs online.
    pub cpus: u32,
    /// How long this agent has run.
    pub uptime_seconds: f64,
    /// The tick.
    pub interval_seconds: f64,
    /// Ticks done since this agent started.
    pub ticks: u64,
    /// How CPU time is known: `iter` or `procfs`.
    pub tier: String,
    /// Why that tier, and what it does not see.
    pub tier_reason: String,
    /// What has to be known of each meter.
    pub meters: Vec<MeterStatus>,
    /// Where names come from.
    pub identity: Vec<String>,
    /// Processes and tasks seen in the last tick.
    pub processes: u64,
    /// Threads seen in the last tick.
    pub tasks: u64,
    /// What the three ledgers of CPU time disagreed on, by kind.
    pub discrepancies: BTreeMap<String, u64>,
    /// What the agent costs.
    pub self_cost: SelfCost,
    /// How long the agent's own steps take.
    pub latencies: BTreeMap<String, Latency>,
    /// Capabilities still held.
    pub capabilities: Vec<String>,
    /// Which intensity carbon is counted at.
    #[serde(default)]
    pub carbon: Carbon,
    /// Where counters are kept, and whether that works.
    pub state: StateStatus,
    /// How the history fares; absent where none is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<HistoryStatus>,
    /// One line for each thing that is missing: what, and how to get it.
    pub advice: Vec<String>,
    /// One line for each thing that is worth knowing and needs nothing done.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// One meter.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct MeterStatus {
    /// `package-0`.
    pub name: String,
    /// `package`, `dram`, ….
    pub domain: String,
    /// Which one.
    pub device: String,
    /// `rapl-powercap`, `model`, ….
    pub source: String,
    /// Whether its joules are an estimate.
    pub estimated: bool,
    /// `measured`, `estimated`, `still`, `reset`, or the error of the last read.
    pub quality: String,
    /// The node's energy on this meter since the agent first ran here.
    pub joules: f64,
    /// Mean power over the last tick.
    pub watts: f64,
    /// The idle baseline; absent until it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_watts: Option<f64>,
    /// How the baseline is known: `model`, `learned`, `prior`.
    pub idle_basis: String,
    /// How often the source brings a new value, as observed; never shorter than the tick for a
    /// source that is faster. Absent until it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_seconds: Option<f64>,
}

/// What the agent costs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SelfCost {
    /// CPU time of the agent's process since it started.
    pub cpu_seconds: f64,
    /// That, as a share of one core over its life.
    pub cpu_percent: f64,
    /// Memory now.
    pub resident_bytes: u64,
    /// Its own share of the node's energy.
    pub energy_joules: f64,
    /// Kernel memory of its BPF maps.
    pub bpf_map_bytes: u64,
}

/// A distribution, in seconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Latency {
    /// How many.
    pub count: u64,
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
    /// The worst.
    pub max: f64,
}

/// `GET /v1/intensity`: what carbon is counted at.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Carbon {
    /// The intensity now; null where none is known, and then no carbon is counted.
    pub intensity: Option<Intensity>,
    /// The power usage effectiveness that it is multiplied by.
    pub pue: Pue,
    /// What was pushed, is over, and is not used any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale: Option<Intensity>,
}

/// `PUT /v1/intensity`: what a kWh emits from now on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntensityRequest {
    /// The grid, as whoever pushes calls it.
    pub zone: String,
    /// In grams of CO2 equivalents.
    pub g_per_kwh: f64,
    /// `average` or `marginal`.
    pub kind: Kind,
    /// Who says so.
    pub source: String,
    /// When it ends to be true; until another is pushed if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Timestamp>,
    /// Whether it only stands in for the value of this hour.
    #[serde(default)]
    pub estimated: bool,
}

impl IntensityRequest {
    /// Checks it.
    ///
    /// # Errors
    /// When the number cannot be, a text is no label, or it is over at `now`.
    pub fn intensity(self, now: Timestamp) -> Result<Intensity, IntensityError> {
        let intensity = Intensity {
            zone: self.zone,
            g_per_kwh: GramsPerKwh::new(self.g_per_kwh)?,
            kind: self.kind,
            source: self.source,
            estimated: self.estimated,
            valid_until: self.valid_until,
        };
        intensity.checked(now)
    }
}

/// Where counters are kept.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StateStatus {
    /// The directory; empty where counters live in memory only.
    pub directory: String,
    /// What went wrong with it, if anything did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// How the history fares.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct HistoryStatus {
    /// `carbon_history.db`, and where.
    pub file: String,
    /// How much of it is in use.
    pub bytes: u64,
    /// Samples written since this agent started.
    pub written: u64,
    /// Samples that were added to the next one, as the disk was slow or full.
    pub merged: u64,
    /// Why none is written now, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// `GET /v1/units`, and each event of `/v1/stream`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Units {
    /// The end of the tick, RFC 3339.
    pub at: String,
    /// The span that `watts` and `cpu_percent` are means over.
    pub window_seconds: f64,
    /// The whole machine.
    pub node: Node,
    /// The units asked for, most power first.
    pub units: Vec<Unit>,
}

/// The whole machine.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// CPUs online.
    pub cpus: u32,
    /// CPU time over the window, 100 per CPU.
    pub cpu_percent: f64,
    /// Power by domain, over the window.
    pub watts: ByDomain,
    /// Idle power by domain, over the window.
    pub idle_watts: ByDomain,
    /// Energy by domain, since the agent first ran here.
    pub energy_joules: ByDomain,
    /// Idle energy, the same way.
    pub idle_joules: ByDomain,
    /// Energy that belongs to nobody, the same way.
    pub unattributed_joules: ByDomain,
    /// Carbon by domain, since an intensity was first known; absent where none ever was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carbon_grams: Option<ByDomain>,
    /// What the power over the window emits in an hour, at the intensity of now; absent while
    /// that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carbon_grams_per_hour: Option<f64>,
    /// Whether any of this is an estimate.
    pub estimated: bool,
    /// Processes seen in the last tick.
    pub processes: u64,
    /// Power of each socket, GPU and so on, over the window.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub meters: Vec<NodeMeter>,
}

/// Somebody who used energy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Unit {
    /// `process`, `kernel`, `other`, `job`, `container`, `systemd`, `user`, `pod`, `step`, `vm`,
    /// `cgroup`.
    pub kind: String,
    /// Unique within its kind; of pods, together with the uid.
    pub name: String,
    /// What to show a person: the command for a process, a short id for a container.
    pub label: String,
    /// Processes only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Processes only: the parent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<u32>,
    /// The owner's name, or their number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The cgroup's path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// Pods only: the uid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Containers of a pod only: the pod, and what the container is called there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// See above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// If asked for: the units that this one lies wholly in, as `within` takes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parents: Option<Vec<String>>,
    /// Processes of a view, or threads of a process.
    pub tasks: u64,
    /// CPU time over the window, 100 per CPU.
    pub cpu_percent: f64,
    /// Power over the window, without idle.
    pub watts: f64,
    /// CPU time since the agent has known the unit.
    pub cpu_seconds: f64,
    /// Energy since then, by domain, without idle (under the `separate` policy).
    pub energy_joules: ByDomain,
    /// What it emitted, the same way; absent where no intensity was ever known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carbon_grams: Option<ByDomain>,
    /// What `watts` emit in an hour, at the intensity of now; absent while that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carbon_grams_per_hour: Option<f64>,
}

/// `POST /v1/jobs`: opens a job on a process of the caller's, with its descendants from now on.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobRequest {
    /// A name for people.
    #[serde(default)]
    pub name: Option<String>,
    /// The root of the process tree; the caller itself if absent.
    #[serde(default)]
    pub pid: Option<u32>,
    /// A cgroup of the job's own, as a path below the v2 mount (`/a/b`). Everything in it and
    /// below belongs to the job, and its kernel ledger is the job's CPU time.
    #[serde(default)]
    pub cgroup: Option<String>,
    /// Whether the root process itself belongs to the job, or only its descendants.
    #[serde(default)]
    pub exclude_root: bool,
    /// The id of the job that this is a part of, on however many nodes: whoever names the same
    /// id joins it. Each closes what they opened, by its own `id`.
    #[serde(default)]
    pub job: Option<String>,
    /// Whether `job` comes from whoever launched the ranks: then the job of Slurm or Kubernetes
    /// that the caller runs in comes first.
    #[serde(default)]
    pub by_launcher: bool,
    /// Which rank of the job this is.
    #[serde(default)]
    pub rank: Option<u32>,
    /// The trace that the job belongs to, as `TRACEPARENT` has it (W3C Trace Context). What is no
    /// such thing is passed over, as that standard asks.
    #[serde(default)]
    pub traceparent: Option<String>,
}

/// A job: the answer to `POST /v1/jobs`, `GET` and `DELETE /v1/jobs/…`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Job {
    /// What to close it by.
    pub id: String,
    /// `eco`.
    pub manager: String,
    /// A name for people.
    pub name: String,
    /// Who opened it.
    pub user: String,
    /// The larger job that it is a part of, if it is: its series are that job's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part_of: Option<PartOf>,
    /// When it was opened, RFC 3339.
    pub started: String,
    /// When it was closed, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// The job's own span as `TRACEPARENT` has it, for what the job starts; absent if none is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// How its members are known: `cgroup` or `descent`.
    pub membership: String,
    /// CPU time of the job.
    pub cpu_seconds: f64,
    /// Processes that have belonged to it, the dead included.
    pub processes: u64,
    /// Whether that is all of them, or only the least that there were.
    #[serde(default)]
    pub processes_exact: bool,
    /// Processes of it that are alive.
    pub running: u64,
    /// Energy by domain, without idle.
    pub energy_joules: ByDomain,
    /// What it emitted, each tick's at the intensity of the tick; absent where no intensity was
    /// ever known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carbon_grams: Option<ByDomain>,
    /// What carbon is counted at now, or was when the job was closed.
    #[serde(default)]
    pub carbon: Carbon,
    /// Whether there was a time without intensity since the job was opened.
    #[serde(default)]
    pub carbon_is_partial: bool,
    /// The part of the machine's idle energy that the job's share of CPU time would carry,
    /// over its life, all domains that do not contain each other.
    pub idle_share_joules: f64,
    /// Each meter's energy for this job.
    pub meters: Vec<JobMeter>,
    /// Whether any of it is an estimate.
    pub estimated: bool,
    /// How CPU time is known: `iter` or `procfs`.
    pub tier: String,
    /// What this agent itself used while the job was open: CPU seconds and joules.
    pub agent_cpu_seconds: f64,
    /// See above.
    pub agent_energy_joules: f64,
}

/// The job that a run is a part of, on this node.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PartOf {
    /// `eco`, `slurm` or `kubernetes`.
    pub manager: String,
    /// As that manager calls it, on all nodes.
    pub job: String,
    /// Which of its ranks the run is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<u32>,
    /// Its runs that are open, or just being closed.
    pub runs: u64,
    /// CPU time of all of the job on this node so far; absent until its series is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<f64>,
    /// Energy of all of the job on this node so far, by domain, without idle.
    #[serde(default)]
    pub energy_joules: ByDomain,
}

/// One meter's energy for a job.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct JobMeter {
    /// The meter.
    pub name: String,
    /// `package`, ….
    pub domain: String,
    /// `model`, ….
    pub source: String,
    /// Joules.
    pub joules: f64,
}

/// An error, as RFC 9457 wants it (`application/problem+json`).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Problem {
    /// `about:blank`: the status says it all.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What was wrong, where, and what to do.
    pub detail: String,
}
