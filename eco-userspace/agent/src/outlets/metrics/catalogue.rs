// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every family of `/metrics`, in the order of docs/metrics.md, which is written from here.

use crate::outlets::exposition::{Family, Type};

/// A heading of docs/metrics.md, and the families below it.
pub(crate) type Section = (&'static str, &'static [&'static Family]);

/// All of them. Kepler's names have a catalogue of their own.
pub(crate) const SECTIONS: &[Section] = &[
    (
        "Energy",
        &[
            &NODE_ENERGY,
            &IDLE_ENERGY,
            &DEPARTED_ENERGY,
            &UNATTRIBUTED_ENERGY,
            &UNIT_ENERGY,
            &JOB_ENERGY,
            &POD_ENERGY,
            &CONSERVATION_ERROR_JOULES,
            &METER_STILL_READS,
        ],
    ),
    (
        "CPU time",
        &[
            &UNIT_CPU,
            &JOB_CPU,
            &POD_CPU,
            &NODE_PROCESSES,
            &USAGE_DISCREPANCIES,
            &TIER_INFO,
        ],
    ),
    (
        "Carbon",
        &[
            &NODE_CARBON,
            &IDLE_CARBON,
            &DEPARTED_CARBON,
            &UNATTRIBUTED_CARBON,
            &UNIT_CARBON,
            &JOB_CARBON,
            &POD_CARBON,
            &CARBON_INTENSITY_GRAMS_PER_KWH,
            &CARBON_PUE,
            &CARBON_UNCOVERED_ENERGY,
            &CARBON_CONSERVATION_ERROR_GRAMS,
        ],
    ),
    ("GPUs", &[&GPU_SPLIT_INFO, &GPU_LATE_ANSWERS]),
    (
        "The agent itself",
        &[
            &AGENT_CPU,
            &AGENT_ENERGY,
            &AGENT_RESIDENT_BYTES,
            &AGENT_TICK_SECONDS,
            &METER_READ_SECONDS,
            &SCRAPE_SECONDS,
            &PUSH_FAILURES,
            &PUSH_REJECTED_POINTS,
            &PUSH_GAP_SECONDS,
            &PUSH_QUEUED,
            &PUSH_DROPPED,
            &TICKS,
            &FAILED_SCANS,
            &BPF_RUN_SECONDS,
            &BPF_RUN_COUNT,
            &BPF_MAP_BYTES,
            &BPF_RING_FULL,
            &BPF_DEATHS_LOST,
            &BUILD_INFO,
        ],
    ),
];

const OUTLET: &[&str] = &["outlet"];
const SIGNAL: &[&str] = &["signal"];

pub(crate) static NODE_ENERGY: Family = Family {
    name: "eco_node_energy_joules_total",
    kind: Type::Counter,
    help: "Energy that a meter counted since eco first ran on this machine.",
    labels: &["domain", "device", "source", "estimated"],
};

pub(crate) static IDLE_ENERGY: Family = Family {
    name: "eco_idle_energy_joules_total",
    kind: Type::Counter,
    help: "The part that the machine would have used anyway.",
    labels: &["domain", "device", "source"],
};

pub(crate) static DEPARTED_ENERGY: Family = Family {
    name: "eco_departed_energy_joules_total",
    kind: Type::Counter,
    help: "Energy of processes that were shown by name and are no more.",
    labels: &["domain", "device", "source"],
};

pub(crate) static UNATTRIBUTED_ENERGY: Family = Family {
    name: "eco_unattributed_energy_joules_total",
    kind: Type::Counter,
    help: "Energy that belongs to nobody, by reason.",
    labels: &["domain", "device", "source", "reason"],
};

pub(crate) static UNIT_ENERGY: Family = Family {
    name: "eco_unit_energy_joules_total",
    kind: Type::Counter,
    help: "Energy of a unit. Kinds process, kernel and other make up the node; the rest are views.",
    labels: &["kind", "name", "uid", "domain"],
};

pub(crate) static JOB_ENERGY: Family = Family {
    name: "eco_job_energy_joules_total",
    kind: Type::Counter,
    help: "Energy of a job.",
    labels: &["manager", "job", "user", "domain"],
};

pub(crate) static POD_ENERGY: Family = Family {
    name: "eco_pod_energy_joules_total",
    kind: Type::Counter,
    help: "Energy of a pod, by container; under no container what was used outside of any.",
    labels: &["namespace", "pod", "container", "uid", "domain"],
};

pub(crate) static CONSERVATION_ERROR_JOULES: Family = Family {
    name: "eco_conservation_error_joules",
    kind: Type::Gauge,
    help: "What the books miss of what a meter counted. Always 0.",
    labels: &["domain", "device", "source"],
};

pub(crate) static METER_STILL_READS: Family = Family {
    name: "eco_meter_still_reads",
    kind: Type::Gauge,
    help: "Reads in a row in which a meter did not move.",
    labels: &["domain", "device"],
};

pub(crate) static UNIT_CPU: Family = Family {
    name: "eco_unit_cpu_seconds_total",
    kind: Type::Counter,
    help: "CPU time of a unit.",
    labels: &["kind", "name", "uid"],
};

pub(crate) static JOB_CPU: Family = Family {
    name: "eco_job_cpu_seconds_total",
    kind: Type::Counter,
    help: "CPU time of a job.",
    labels: &["manager", "job", "user"],
};

pub(crate) static POD_CPU: Family = Family {
    name: "eco_pod_cpu_seconds_total",
    kind: Type::Counter,
    help: "CPU time of a pod, by container.",
    labels: &["namespace", "pod", "container", "uid"],
};

pub(crate) static NODE_PROCESSES: Family = Family {
    name: "eco_node_processes",
    kind: Type::Gauge,
    help: "Processes alive.",
    labels: &[],
};

pub(crate) static USAGE_DISCREPANCIES: Family = Family {
    name: "eco_usage_discrepancies",
    kind: Type::Gauge,
    help: "Where the ledgers of CPU time did not agree, since the agent started, by kind.",
    labels: &["kind"],
};

pub(crate) static TIER_INFO: Family = Family {
    name: "eco_tier_info",
    kind: Type::Info,
    help: "How CPU time is known.",
    labels: &["tier"],
};

pub(crate) static NODE_CARBON: Family = Family {
    name: "eco_node_carbon_grams_total",
    kind: Type::Counter,
    help: "CO2 equivalents of what a meter counted, at the intensity of the time, PUE included.",
    labels: &["domain", "device", "source", "estimated"],
};

pub(crate) static IDLE_CARBON: Family = Family {
    name: "eco_idle_carbon_grams_total",
    kind: Type::Counter,
    help: "The part of what the machine would have used anyway.",
    labels: &["domain", "device", "source"],
};

pub(crate) static DEPARTED_CARBON: Family = Family {
    name: "eco_departed_carbon_grams_total",
    kind: Type::Counter,
    help: "Carbon of processes that were shown by name and are no more.",
    labels: &["domain", "device", "source"],
};

pub(crate) static UNATTRIBUTED_CARBON: Family = Family {
    name: "eco_unattributed_carbon_grams_total",
    kind: Type::Counter,
    help: "Carbon of energy that belongs to nobody, by reason.",
    labels: &["domain", "device", "source", "reason"],
};

pub(crate) static UNIT_CARBON: Family = Family {
    name: "eco_unit_carbon_grams_total",
    kind: Type::Counter,
    help: "Carbon of a unit. Kinds process, kernel and other make up the node; the rest are views.",
    labels: &["kind", "name", "uid", "domain"],
};

pub(crate) static JOB_CARBON: Family = Family {
    name: "eco_job_carbon_grams_total",
    kind: Type::Counter,
    help: "Carbon of a job.",
    labels: &["manager", "job", "user", "domain"],
};

pub(crate) static POD_CARBON: Family = Family {
    name: "eco_pod_carbon_grams_total",
    kind: Type::Counter,
    help: "Carbon of a pod, by container; under no container what was used outside of any.",
    labels: &["namespace", "pod", "container", "uid", "domain"],
};

pub(crate) static CARBON_INTENSITY_GRAMS_PER_KWH: Family = Family {
    name: "eco_carbon_intensity_grams_per_kwh",
    kind: Type::Gauge,
    help: "What a kWh emits where this machine is, without PUE. Absent while it is not known.",
    labels: &["zone", "source", "kind", "estimated"],
};

pub(crate) static CARBON_PUE: Family = Family {
    name: "eco_carbon_pue",
    kind: Type::Gauge,
    help: "Power usage effectiveness that all carbon here is multiplied by.",
    labels: &[],
};

pub(crate) static CARBON_UNCOVERED_ENERGY: Family = Family {
    name: "eco_carbon_uncovered_energy_joules_total",
    kind: Type::Counter,
    help: "Energy of times without any intensity, which no carbon is counted for.",
    labels: &["domain", "device", "source"],
};

pub(crate) static CARBON_CONSERVATION_ERROR_GRAMS: Family = Family {
    name: "eco_carbon_conservation_error_grams",
    kind: Type::Gauge,
    help: "What the books miss of what a meter's energy emitted. Always 0.",
    labels: &["domain", "device", "source"],
};

pub(crate) static GPU_SPLIT_INFO: Family = Family {
    name: "eco_gpu_split_info",
    kind: Type::Gauge,
    help: "How a GPU's energy is divided; all but `measured` are rules. `allocated` and \
           `allocated-shared`: the driver names no process, and the pods pay that the kubelet \
           gave the GPU to.",
    labels: &["device", "policy"],
};

pub(crate) static GPU_LATE_ANSWERS: Family = Family {
    name: "eco_gpu_late_answers_total",
    kind: Type::Counter,
    help: "How often a GPU's driver did not answer in time.",
    labels: &["device"],
};

pub(crate) static AGENT_CPU: Family = Family {
    name: "eco_agent_cpu_seconds_total",
    kind: Type::Counter,
    help: "CPU time of this agent.",
    labels: &[],
};

pub(crate) static AGENT_ENERGY: Family = Family {
    name: "eco_agent_energy_joules_total",
    kind: Type::Counter,
    help: "The agent's own share, which is in its process's too.",
    labels: &["domain"],
};

pub(crate) static AGENT_RESIDENT_BYTES: Family = Family {
    name: "eco_agent_resident_bytes",
    kind: Type::Gauge,
    help: "Memory of this agent.",
    labels: &[],
};

pub(crate) static AGENT_TICK_SECONDS: Family = Family {
    name: "eco_agent_tick_seconds",
    kind: Type::Histogram,
    help: "Time that a tick takes.",
    labels: &[],
};

pub(crate) static METER_READ_SECONDS: Family = Family {
    name: "eco_meter_read_seconds",
    kind: Type::Histogram,
    help: "Time that reading a meter takes.",
    labels: &[],
};

pub(crate) static SCRAPE_SECONDS: Family = Family {
    name: "eco_scrape_seconds",
    kind: Type::Histogram,
    help: "Time that answering a scrape takes.",
    labels: &[],
};

pub(crate) static PUSH_FAILURES: Family = Family {
    name: "eco_push_failures_total",
    kind: Type::Counter,
    help: "Attempts to push that nobody took.",
    labels: OUTLET,
};

pub(crate) static PUSH_REJECTED_POINTS: Family = Family {
    name: "eco_push_rejected_points_total",
    kind: Type::Counter,
    help: "Points that a receiver did not want of a batch that it took.",
    labels: OUTLET,
};

pub(crate) static PUSH_GAP_SECONDS: Family = Family {
    name: "eco_push_gap_seconds_total",
    kind: Type::Counter,
    help: "Time in which nothing that was pushed was taken, of gaps that are over.",
    labels: OUTLET,
};

pub(crate) static PUSH_QUEUED: Family = Family {
    name: "eco_push_queued_records",
    kind: Type::Gauge,
    help: "Spans and lines of the log that wait for the collector to take them.",
    labels: SIGNAL,
};

pub(crate) static PUSH_DROPPED: Family = Family {
    name: "eco_push_dropped_records_total",
    kind: Type::Counter,
    help: "Spans and lines of the log that were dropped: the queue was full, or the collector refused them.",
    labels: SIGNAL,
};

pub(crate) static TICKS: Family = Family {
    name: "eco_ticks_total",
    kind: Type::Counter,
    help: "Ticks done.",
    labels: &[],
};

pub(crate) static FAILED_SCANS: Family = Family {
    name: "eco_failed_scans_total",
    kind: Type::Counter,
    help: "Ticks in which tasks were not read.",
    labels: &[],
};

pub(crate) static BPF_RUN_SECONDS: Family = Family {
    name: "eco_bpf_run_seconds_total",
    kind: Type::Counter,
    help: "Time in eco's kernel programs: scans as measured, the fold as sampled.",
    labels: &["program"],
};

pub(crate) static BPF_RUN_COUNT: Family = Family {
    name: "eco_bpf_run_count_total",
    kind: Type::Counter,
    help: "Runs of eco's kernel programs.",
    labels: &["program"],
};

pub(crate) static BPF_MAP_BYTES: Family = Family {
    name: "eco_bpf_map_bytes",
    kind: Type::Gauge,
    help: "Kernel memory of eco's maps.",
    labels: &[],
};

pub(crate) static BPF_RING_FULL: Family = Family {
    name: "eco_bpf_ring_full_total",
    kind: Type::Counter,
    help: "Deaths that were kept under their cgroup alone, as the ring was full.",
    labels: &[],
};

pub(crate) static BPF_DEATHS_LOST: Family = Family {
    name: "eco_bpf_deaths_lost_total",
    kind: Type::Counter,
    help: "Deaths that no map had room for.",
    labels: &[],
};

pub(crate) static BUILD_INFO: Family = Family {
    name: "eco_build_info",
    kind: Type::Info,
    help: "This agent.",
    labels: &["version"],
};
