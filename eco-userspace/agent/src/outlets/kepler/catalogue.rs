// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Kepler's names and labels, as its docs/user/metrics.md has them since 0.10.

use crate::outlets::{
    exposition::{Family, Type},
    metrics::catalogue::Section,
};

/// All of them.
pub(crate) const SECTIONS: &[Section] = &[
    (
        "The node",
        &[
            &NODE_JOULES,
            &NODE_WATTS,
            &NODE_ACTIVE_JOULES,
            &NODE_ACTIVE_WATTS,
            &NODE_IDLE_JOULES,
            &NODE_IDLE_WATTS,
            &NODE_USAGE_RATIO,
            &NODE_CPU_INFO,
            &NODE_GPU_WATTS,
            &NODE_GPU_ACTIVE_WATTS,
            &NODE_GPU_IDLE_WATTS,
            &PLATFORM_WATTS,
        ],
    ),
    (
        "Processes",
        &[
            &PROCESS_JOULES,
            &PROCESS_WATTS,
            &PROCESS_SECONDS,
            &PROCESS_GPU_WATTS,
        ],
    ),
    (
        "Containers, pods and virtual machines",
        &[
            &CONTAINER_JOULES,
            &CONTAINER_WATTS,
            &CONTAINER_GPU_WATTS,
            &POD_JOULES,
            &POD_WATTS,
            &POD_GPU_WATTS,
            &VM_JOULES,
            &VM_WATTS,
        ],
    ),
    ("Other", &[&BUILD_INFO]),
];

pub(super) static NODE_JOULES: Family = Family {
    name: "kepler_node_cpu_joules_total",
    kind: Type::Counter,
    help: "Energy of a zone since eco first ran here.",
    labels: &["zone", "path"],
};

pub(super) static NODE_WATTS: Family = Family {
    name: "kepler_node_cpu_watts",
    kind: Type::Gauge,
    help: "Power of a zone.",
    labels: &["zone", "path"],
};

pub(super) static NODE_ACTIVE_JOULES: Family = Family {
    name: "kepler_node_cpu_active_joules_total",
    kind: Type::Counter,
    help: "The part that is not idle.",
    labels: &["zone", "path"],
};

pub(super) static NODE_ACTIVE_WATTS: Family = Family {
    name: "kepler_node_cpu_active_watts",
    kind: Type::Gauge,
    help: "The part that is not idle.",
    labels: &["zone", "path"],
};

pub(super) static NODE_IDLE_JOULES: Family = Family {
    name: "kepler_node_cpu_idle_joules_total",
    kind: Type::Counter,
    help: "The part that the machine would have used anyway.",
    labels: &["zone", "path"],
};

pub(super) static NODE_IDLE_WATTS: Family = Family {
    name: "kepler_node_cpu_idle_watts",
    kind: Type::Gauge,
    help: "The part that the machine would draw anyway.",
    labels: &["zone", "path"],
};

pub(super) static NODE_USAGE_RATIO: Family = Family {
    name: "kepler_node_cpu_usage_ratio",
    kind: Type::Gauge,
    help: "Share of the CPUs' time that is used, 0 to 1.",
    labels: &[],
};

pub(super) static NODE_CPU_INFO: Family = Family {
    name: "kepler_node_cpu_info",
    kind: Type::Gauge,
    help: "A CPU, as the kernel describes it. Always 1.",
    labels: &[
        "processor",
        "vendor_id",
        "model_name",
        "physical_id",
        "core_id",
    ],
};

pub(super) static NODE_GPU_WATTS: Family = Family {
    name: "kepler_node_gpu_watts",
    kind: Type::Gauge,
    help: "Power of a GPU.",
    labels: &["gpu", "gpu_uuid", "gpu_name", "vendor"],
};

pub(super) static NODE_GPU_ACTIVE_WATTS: Family = Family {
    name: "kepler_node_gpu_active_watts",
    kind: Type::Gauge,
    help: "The part that is not idle.",
    labels: &["gpu", "gpu_uuid", "gpu_name", "vendor"],
};

pub(super) static NODE_GPU_IDLE_WATTS: Family = Family {
    name: "kepler_node_gpu_idle_watts",
    kind: Type::Gauge,
    help: "The part that the GPU would draw anyway.",
    labels: &["gpu", "gpu_uuid", "gpu_name", "vendor"],
};

pub(super) static PLATFORM_WATTS: Family = Family {
    name: "kepler_platform_watts",
    kind: Type::Gauge,
    help: "Power of the board, by a management controller or a power supply.",
    labels: &[
        "source",
        "bmc_id",
        "chassis_id",
        "power_control_id",
        "power_control_name",
    ],
};

pub(super) static PROCESS_JOULES: Family = Family {
    name: "kepler_process_cpu_joules_total",
    kind: Type::Counter,
    help: "Energy of a process; of the kernel and of all others under those names, without a pid.",
    labels: &[
        "pid",
        "comm",
        "exe",
        "type",
        "state",
        "container_id",
        "vm_id",
        "zone",
    ],
};

pub(super) static PROCESS_WATTS: Family = Family {
    name: "kepler_process_cpu_watts",
    kind: Type::Gauge,
    help: "Power of a process that lives.",
    labels: &[
        "pid",
        "comm",
        "exe",
        "type",
        "state",
        "container_id",
        "vm_id",
        "zone",
    ],
};

pub(super) static PROCESS_SECONDS: Family = Family {
    name: "kepler_process_cpu_seconds_total",
    kind: Type::Counter,
    help: "CPU time of a process.",
    labels: &["pid", "comm", "exe", "type", "container_id", "vm_id"],
};

pub(super) static PROCESS_GPU_WATTS: Family = Family {
    name: "kepler_process_gpu_watts",
    kind: Type::Gauge,
    help: "GPU power of a process that uses one.",
    labels: &[
        "pid",
        "comm",
        "exe",
        "type",
        "state",
        "container_id",
        "vm_id",
    ],
};

pub(super) static CONTAINER_JOULES: Family = Family {
    name: "kepler_container_cpu_joules_total",
    kind: Type::Counter,
    help: "Energy of a container.",
    labels: &[
        "container_id",
        "container_name",
        "runtime",
        "state",
        "pod_id",
        "zone",
    ],
};

pub(super) static CONTAINER_WATTS: Family = Family {
    name: "kepler_container_cpu_watts",
    kind: Type::Gauge,
    help: "Power of a container that is there.",
    labels: &[
        "container_id",
        "container_name",
        "runtime",
        "state",
        "pod_id",
        "zone",
    ],
};

pub(super) static CONTAINER_GPU_WATTS: Family = Family {
    name: "kepler_container_gpu_watts",
    kind: Type::Gauge,
    help: "GPU power of a container that uses one.",
    labels: &[
        "container_id",
        "container_name",
        "runtime",
        "state",
        "pod_id",
    ],
};

pub(super) static POD_JOULES: Family = Family {
    name: "kepler_pod_cpu_joules_total",
    kind: Type::Counter,
    help: "Energy of a pod.",
    labels: &["pod_id", "pod_name", "pod_namespace", "state", "zone"],
};

pub(super) static POD_WATTS: Family = Family {
    name: "kepler_pod_cpu_watts",
    kind: Type::Gauge,
    help: "Power of a pod that is there.",
    labels: &["pod_id", "pod_name", "pod_namespace", "state", "zone"],
};

pub(super) static POD_GPU_WATTS: Family = Family {
    name: "kepler_pod_gpu_watts",
    kind: Type::Gauge,
    help: "GPU power of a pod that uses one.",
    labels: &["pod_id", "pod_name", "pod_namespace", "state"],
};

pub(super) static VM_JOULES: Family = Family {
    name: "kepler_vm_cpu_joules_total",
    kind: Type::Counter,
    help: "Energy of a virtual machine.",
    labels: &["vm_id", "vm_name", "hypervisor", "state", "zone"],
};

pub(super) static VM_WATTS: Family = Family {
    name: "kepler_vm_cpu_watts",
    kind: Type::Gauge,
    help: "Power of a virtual machine that is there.",
    labels: &["vm_id", "vm_name", "hypervisor", "state", "zone"],
};

pub(super) static BUILD_INFO: Family = Family {
    name: "kepler_build_info",
    kind: Type::Gauge,
    help: "That this is eco, and which. Always 1.",
    labels: &["arch", "branch", "revision", "version", "goversion"],
};
