// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What can be configured.

/// One key: its name in the file, and what it is for.
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) default: &'static str,
    pub(super) about: &'static str,
}

/// All keys, in the order in which they are shown.
pub(super) const KEYS: &[Key] = &[
    Key {
        name: "interval",
        default: "1s",
        about: "the tick: 100ms to 60s",
    },
    Key {
        name: "socket",
        default: "/run/eco/agent.sock",
        about: "the Unix socket",
    },
    Key {
        name: "listen",
        default: "",
        about: "HTTP over TCP: 127.0.0.1:9510; empty for none",
    },
    Key {
        name: "sysfs",
        default: "/sys",
        about: "where meters are read",
    },
    Key {
        name: "procfs",
        default: "/proc",
        about: "where processes are looked up",
    },
    Key {
        name: "state",
        default: "/var/lib/eco",
        about: "where counters are kept; empty: nowhere",
    },
    Key {
        name: "tier",
        default: "auto",
        about: "auto, or procfs to do without BPF",
    },
    Key {
        name: "node",
        default: "",
        about: "the node's name; the host's if empty",
    },
    Key {
        name: "top",
        default: "100",
        about: "processes shown by name in /metrics",
    },
    Key {
        name: "compat",
        default: "",
        about: "kepler: serve Kepler's series too, from the same books",
    },
    Key {
        name: "idle.policy",
        default: "separate",
        about: "who pays for idle: separate, proportional or equal",
    },
    Key {
        name: "carbon.g_per_kwh",
        default: "",
        about: "what a kWh emits here, in g CO2e, at all times; before carbon.zone",
    },
    Key {
        name: "carbon.zone",
        default: "",
        about: "whose yearly average is used, such as DE or US-CA; empty: no carbon is counted",
    },
    Key {
        name: "carbon.pue",
        default: "1",
        about: "what the site draws for each joule of this machine; multiplies all carbon",
    },
    Key {
        name: "model.idle_watts",
        default: "",
        about: "the model's idle power, whole machine",
    },
    Key {
        name: "model.max_watts",
        default: "",
        about: "the model's full power, whole machine",
    },
    Key {
        name: "model.profile",
        default: eco_meter::profile::DEFAULT_FILE,
        about: "what `eco calibrate` fitted; empty: nothing is looked for",
    },
    Key {
        name: "nvml.library",
        default: eco_nvml::LIBRARY,
        about: "the NVIDIA driver's library: a path, or a name for the loader",
    },
    Key {
        name: "amdsmi.library",
        default: eco_amdsmi::LIBRARY,
        about: "ROCm's amd-smi, likewise; empty: AMD GPUs are read by the kernel's files alone",
    },
    Key {
        name: "redfish.url",
        default: "",
        about: "the management controller: https://HOST; empty: it is not asked",
    },
    Key {
        name: "redfish.user",
        default: "",
        about: "its account; one that may only read is enough",
    },
    Key {
        name: "redfish.password_file",
        default: "",
        about: "the file that holds the account's password",
    },
    Key {
        name: "redfish.ca_file",
        default: "",
        about: "CAs in PEM that may have signed its certificate; the system's if empty",
    },
    Key {
        name: "redfish.fingerprint",
        default: "",
        about: "SHA-256 of its certificate, believed instead of any CA",
    },
    Key {
        name: "redfish.insecure",
        default: "false",
        about: "true: believe any certificate, and allow http",
    },
    Key {
        name: "kubernetes.source",
        default: "auto",
        about: "who knows the pods: auto, kubelet, api or off; asked once a pod is met",
    },
    Key {
        name: "kubernetes.url",
        default: "",
        about: "https://HOST:PORT; this node's kubelet, or where a pod finds the API, if empty",
    },
    Key {
        name: "kubernetes.token_file",
        default: "",
        about: "a bearer token, read anew each time; the pod's service account if empty",
    },
    Key {
        name: "kubernetes.certificate",
        default: "",
        about: "a client certificate in PEM, instead of a token",
    },
    Key {
        name: "kubernetes.key",
        default: "",
        about: "its key in PEM; in the same file if empty",
    },
    Key {
        name: "kubernetes.ca",
        default: "",
        about: "who signed the service's certificate, or that itself, in PEM",
    },
    Key {
        name: "kubernetes.insecure",
        default: "false",
        about: "true: believe any certificate of it",
    },
    Key {
        name: "kubernetes.node",
        default: "",
        about: "the node's name in the API; NODE_NAME, node or the host's if empty",
    },
    Key {
        name: "kubernetes.labels",
        default: eco_identity::kubernetes::DEFAULT_LABELS,
        about: "labels of pods that are kept",
    },
    Key {
        name: "kubernetes.pod_resources",
        default: "/var/lib/kubelet/pod-resources/kubelet.sock",
        about: "the socket on which the kubelet tells who has which GPU",
    },
    Key {
        name: "slurm.source",
        default: "auto",
        about: "who knows the jobs: auto, environment, scontrol or off; asked once one is met",
    },
    Key {
        name: "slurm.scontrol",
        default: "",
        about: "the program; looked for in the usual places if empty",
    },
    Key {
        name: "otlp.endpoint",
        default: "",
        about: "the collector: http(s)://HOST:4318 (gRPC: 4317); empty: nothing is pushed there",
    },
    Key {
        name: "otlp.protocol",
        default: "http/protobuf",
        about: "http/protobuf or grpc",
    },
    Key {
        name: "otlp.interval",
        default: "10s",
        about: "how often: 1s to 1h",
    },
    Key {
        name: "otlp.temporality",
        default: "cumulative",
        about: "cumulative or delta",
    },
    Key {
        name: "otlp.traces",
        default: "true",
        about: "whether a span of each job is sent too",
    },
    Key {
        name: "otlp.logs",
        default: "true",
        about: "whether the agent's own log is sent too",
    },
    Key {
        name: "otlp.headers_file",
        default: "",
        about: "lines of `name: value`, sent along over https; read anew each time",
    },
    Key {
        name: "otlp.ca",
        default: "",
        about: "CAs in PEM that may have signed its certificate; the system's if empty",
    },
    Key {
        name: "otlp.certificate",
        default: "",
        about: "a client certificate in PEM",
    },
    Key {
        name: "otlp.key",
        default: "",
        about: "its key in PEM; in the same file if empty",
    },
    Key {
        name: "otlp.insecure",
        default: "false",
        about: "true: believe any certificate",
    },
    Key {
        name: "remote_write.url",
        default: "",
        about: "a store: http(s)://HOST:9090/api/v1/write; empty: nothing is pushed there",
    },
    Key {
        name: "remote_write.interval",
        default: "10s",
        about: "how often: 1s to 1h",
    },
    Key {
        name: "remote_write.headers_file",
        default: "",
        about: "lines of `name: value`, sent along over https; read anew each time",
    },
    Key {
        name: "remote_write.token_file",
        default: "",
        about: "a bearer token, read anew each time",
    },
    Key {
        name: "remote_write.ca",
        default: "",
        about: "CAs in PEM that may have signed its certificate; the system's if empty",
    },
    Key {
        name: "remote_write.certificate",
        default: "",
        about: "a client certificate in PEM",
    },
    Key {
        name: "remote_write.key",
        default: "",
        about: "its key in PEM; in the same file if empty",
    },
    Key {
        name: "remote_write.insecure",
        default: "false",
        about: "true: believe any certificate",
    },
    Key {
        name: "history.enabled",
        default: "true",
        about: "whether each tick is kept on disk",
    },
    Key {
        name: "history.path",
        default: "",
        about: "the file; carbon_history.db in the state directory if empty",
    },
    Key {
        name: "history.seconds",
        default: "6h",
        about: "how long ticks are kept as they were",
    },
    Key {
        name: "history.minutes",
        default: "30d",
        about: "how long they are kept added up by minute",
    },
    Key {
        name: "history.hours",
        default: "730d",
        about: "how long they are kept added up by hour",
    },
    Key {
        name: "history.most_mb",
        default: "512",
        about: "above this the oldest goes before its time, the finest first",
    },
    Key {
        name: "log",
        default: "info",
        about: "error, warn, info, debug or trace",
    },
];
