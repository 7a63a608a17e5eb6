// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Pods of a real kubelet with GPUs that are scripts: what a GPU draws is its pod's, whether the
//! driver names the pod's process or nobody at all.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails where it stands"
)]

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result};
use eco_nvml_standin::lab::Lab;
use eco_tests::{
    agent::{Agent, Setup},
    cgroup, length,
    metrics::Metrics,
    needs,
    servers::{
        device_plugin::{DevicePlugin, VISIBLE},
        kubernetes::{Cluster, IMAGE, NODE},
    },
    wait,
};

const NAMESPACE: &str = "gpus";

/// What each GPU draws at rest, and what its process adds, in W.
const IDLE_WATTS: [f64; 3] = [50.0, 60.0, 70.0];
const USED_WATTS: [f64; 3] = [100.0, 80.0, 90.0];

/// GPUs rest for so long after the agent's start, so that it can learn what that costs. Were it
/// shorter on a machine that is too slow, their idle power would be a guess.
const QUIET_SECONDS: f64 = 5.0;

/// They are in use for so long then: as long as the test needs to look, many times over.
fn used_seconds() -> f64 {
    length::of(18.0, 90.0)
}

/// A pod that asks for so many of a resource; none of "".
fn pod(name: &str, resource: &str) -> String {
    let limits = match resource {
        "" => String::new(),
        resource => format!(", limits: {{{resource}: 1}}"),
    };
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {NAMESPACE}}}
spec:
  hostNetwork: true
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: {IMAGE}
    imagePullPolicy: Never
    command: [sh, -c, 'while :; do sleep 0.2; done']
    resources: {{requests: {{cpu: 10m}}{limits}}}
---
"
    )
}

/// A pod that runs.
struct Running {
    name: &'static str,
    /// Its container's first process.
    pid: u32,
    /// The devices that it was told of.
    devices: String,
}

impl Running {
    fn find(cluster: &Cluster, name: &'static str) -> Result<Self> {
        cluster.wait_for(&format!("pod/{name} -n {NAMESPACE}"), "condition=Ready")?;
        let told = cluster.kubectl(&[
            "get",
            "pod",
            name,
            "-n",
            NAMESPACE,
            "-o",
            "jsonpath={.metadata.uid} {.status.containerStatuses[0].containerID}",
        ])?;
        let (uid, container) = told.split_once(' ').context("no container")?;
        let container = container.rsplit('/').next().unwrap_or_default();
        let path = format!("{}/burstable/pod{uid}/{container}", cluster.pods_cgroup());
        let processes = |folder: &Path| fs::read_to_string(folder.join("cgroup.procs")).ok();
        let mut all = cgroup::everywhere(&path).filter_map(|folder| processes(&folder));
        let pid = all.find_map(|text| text.lines().next()?.parse().ok());
        let pid = pid.with_context(|| format!("nobody in {path}"))?;
        let environment = fs::read(format!("/proc/{pid}/environ"))?;
        let environment = String::from_utf8_lossy(&environment).into_owned();
        let is_told = |line: &str| Some(line.strip_prefix(VISIBLE)?.strip_prefix('=')?.to_owned());
        let devices = environment.split('\0').find_map(is_told);
        Ok(Self {
            name,
            pid,
            devices: devices.unwrap_or_default(),
        })
    }

    /// Which GPU it has, by the stand-in's UUIDs.
    fn gpu(&self) -> usize {
        let gpu = (0..IDLE_WATTS.len()).find(|gpu| self.devices.starts_with(&uuid(*gpu)));
        gpu.unwrap_or_else(|| panic!("{} has {:?}", self.name, self.devices))
    }
}

fn uuid(gpu: usize) -> String {
    format!("GPU-00000000-0000-0000-0000-{gpu:012}")
}

/// Each GPU with one process, which the driver names if it is `named`.
fn script(named: &Running) -> String {
    let end = QUIET_SECONDS + used_seconds();
    let gpus = (0..).zip(IDLE_WATTS.iter().zip(USED_WATTS));
    let gpus = gpus.map(|(gpu, (idle, used))| {
        let is_named = gpu == named.gpu();
        let pid = if is_named { named.pid } else { 1 };
        format!(
            "[[gpu]]\nidle_watts = {idle:.1}\n[[gpu.process]]\npid = {pid}\nnamed = {is_named}\n\
             start = {QUIET_SECONDS:.1}\nend = {end:.1}\nwatts = {used:.1}\nsm = 60\n"
        )
    });
    gpus.collect()
}

struct Observed {
    agent: Agent,
    _lab: Lab,
    _sysfs: tempfile::TempDir,
}

impl Observed {
    fn start(cluster: &Cluster, script: &str) -> Result<Self> {
        let lab = Lab::new(script)?;
        let sysfs = tempfile::tempdir()?;
        let file = |path: &Path| path.display().to_string();
        let client = cluster.kubelet_client();
        let agent = Agent::start(Setup {
            interval: Duration::from_millis(250),
            variables: vec![
                ("ECO_NVML__LIBRARY", file(&lab.library())),
                ("ECO_KUBERNETES__SOURCE", "kubelet".into()),
                ("ECO_KUBERNETES__URL", cluster.kubelet()),
                (
                    "ECO_KUBERNETES__CA",
                    file(cluster.authority().certificate()),
                ),
                ("ECO_KUBERNETES__CERTIFICATE", file(&client.certificate)),
                ("ECO_KUBERNETES__KEY", file(&client.key)),
                (
                    "ECO_KUBERNETES__POD_RESOURCES",
                    file(&cluster.pod_resources()),
                ),
            ],
            ..Setup::metered_by(sysfs.path())
        })?;
        Ok(Self {
            agent,
            _lab: lab,
            _sysfs: sysfs,
        })
    }

    /// All series, of which those of GPUs add up to what the GPUs drew.
    fn look(&self) -> Result<Metrics> {
        let metrics = self.agent.scrape()?;
        for sample in metrics.select("eco_conservation_error_joules", &[]) {
            assert_eq!(sample.micro()?, 0, "{}", sample.series());
        }
        let of_gpus = [("domain", "gpu")];
        let mut parts = 0;
        for kind in ["process", "kernel", "other"] {
            let filter = [("domain", "gpu"), ("kind", kind)];
            parts += metrics.sum_micro("eco_unit_energy_joules_total", &filter)?;
        }
        for name in ["idle", "departed", "unattributed"] {
            let name = format!("eco_{name}_energy_joules_total");
            parts += metrics.sum_micro(&name, &of_gpus)?;
        }
        let node = metrics.sum_micro("eco_node_energy_joules_total", &of_gpus)?;
        assert_eq!(parts, node);
        Ok(metrics)
    }
}

/// GPU joules of a pod.
fn of_pod(metrics: &Metrics, pod: &str) -> f64 {
    let labels = [("namespace", NAMESPACE), ("pod", pod), ("domain", "gpu")];
    metrics.sum("eco_pod_energy_joules_total", &labels)
}

/// Joules of one GPU in a metric.
fn of_gpu(metrics: &Metrics, name: &str, gpu: usize) -> f64 {
    let device = gpu.to_string();
    metrics.sum(name, &[("domain", "gpu"), ("device", &device)])
}

/// By what rule a GPU is divided.
fn policy(metrics: &Metrics, gpu: usize) -> String {
    let device = gpu.to_string();
    let filter = [("device", device.as_str())];
    let mut told = metrics.select("eco_gpu_split_info", &filter);
    let policy = told.next().and_then(|sample| sample.label("policy"));
    policy.unwrap_or_default().to_owned()
}

/// What `pods` were charged between two looks, of what their GPU drew then above idle.
fn share(before: &Metrics, after: &Metrics, gpu: usize, pods: &[&str]) -> f64 {
    let grown = |name: &str| of_gpu(after, name, gpu) - of_gpu(before, name, gpu);
    let drawn = grown("eco_node_energy_joules_total") - grown("eco_idle_energy_joules_total");
    let charged = |pod: &&str| of_pod(after, pod) - of_pod(before, pod);
    pods.iter().map(charged).sum::<f64>() / drawn
}

#[test]
fn a_gpus_joules_are_its_pods_whether_the_driver_names_a_process_or_nobody() {
    needs!(Programs, Root, Bpf, Cgroup);
    let Some(cluster) = Cluster::with_devices().unwrap() else {
        return;
    };
    let offer = |resource, ids: Vec<String>| {
        DevicePlugin::register(&cluster.device_plugins(), resource, ids).unwrap()
    };
    let _whole = offer("nvidia.com/gpu", vec![uuid(0), uuid(1)]);
    let copies = ["0", "1"].map(|copy| format!("{}::{copy}", uuid(2)));
    let _copies = offer("nvidia.com/gpu.shared", copies.to_vec());
    let has_devices = || {
        let told = ["get", "node", NODE, "-o", "jsonpath={.status.allocatable}"];
        let told = cluster.kubectl(&told).unwrap_or_default();
        [r#""nvidia.com/gpu":"2""#, r#""nvidia.com/gpu.shared":"2""#]
            .iter()
            .all(|devices| told.contains(devices))
    };
    wait::until("the node has GPUs", has_devices).unwrap();
    cluster.namespace(NAMESPACE).unwrap();
    let wanted = [
        ("named", "nvidia.com/gpu"),
        ("unnamed", "nvidia.com/gpu"),
        ("copy-0", "nvidia.com/gpu.shared"),
        ("copy-1", "nvidia.com/gpu.shared"),
        ("without", ""),
    ];
    let yaml: String = wanted.iter().map(|(name, what)| pod(name, what)).collect();
    cluster.apply(&yaml).unwrap();
    let [named, unnamed, copy, _, without] =
        wanted.map(|(name, _)| Running::find(&cluster, name).unwrap());
    assert_eq!(without.devices, "");
    assert_eq!(copy.gpu(), 2);

    let observed = Observed::start(&cluster, &script(&named)).unwrap();
    let rules = [
        (named.gpu(), "measured"),
        (unnamed.gpu(), "allocated"),
        (copy.gpu(), "allocated-shared"),
    ];
    let users = ["named", "unnamed", "copy-0", "copy-1"];
    let in_use = || {
        let metrics = observed.look().ok()?;
        let is_shown = users.iter().all(|pod| of_pod(&metrics, pod) > 10.0);
        let is_so = rules
            .iter()
            .all(|(gpu, rule)| policy(&metrics, *gpu) == *rule);
        (is_shown && is_so).then_some(metrics)
    };
    let before = wait::until_some("all have paid", in_use).unwrap();
    let after = wait::until_some("all have paid more", || {
        let metrics = observed.look().ok()?;
        let grown = |pod: &&str| of_pod(&metrics, pod) - of_pod(&before, pod);
        users.iter().all(|pod| grown(pod) > 50.0).then_some(metrics)
    })
    .unwrap();
    for gpu in 0..3 {
        let grown = |name| of_gpu(&after, name, gpu) - of_gpu(&before, name, gpu);
        let drawn = grown("eco_node_energy_joules_total");
        let idle = grown("eco_idle_energy_joules_total") / drawn;
        let truth = IDLE_WATTS[gpu] / (IDLE_WATTS[gpu] + USED_WATTS[gpu]);
        println!("GPU {gpu}: {drawn:.1} J, of it idle {idle:.4}, truly {truth:.4}");
        assert!((idle / truth - 1.0).abs() < 0.05, "{idle} of {truth}");
    }
    let alone = |pod: &Running| share(&before, &after, pod.gpu(), &[pod.name]);
    let halves = ["copy-0", "copy-1"].map(|pod| share(&before, &after, 2, &[pod]));
    println!("{:.6} {:.6} {halves:.6?}", alone(&named), alone(&unnamed));
    for (part, of) in [(alone(&named), 1.0), (alone(&unnamed), 1.0)] {
        assert!((part - of).abs() < 1e-3, "{part} of {of}");
    }
    for half in halves {
        assert!((half - 0.5).abs() < 1e-3, "{half}");
    }
    assert_eq!(of_pod(&after, "without"), 0.0);

    ended(&cluster, &observed, &unnamed);
}

/// A pod that ends keeps what it has, and gets nothing more of what others do on its GPU, named
/// or not; and a GPU that nobody uses is idle again.
fn ended(cluster: &Cluster, observed: &Observed, pod: &Running) {
    cluster
        .kubectl(&["delete", "pod", pod.name, "-n", NAMESPACE])
        .unwrap();
    let is_free = || {
        let metrics = observed.look().ok()?;
        (policy(&metrics, pod.gpu()) == "measured").then_some(metrics)
    };
    let before = wait::until_some("the GPU is nobody's", is_free).unwrap();
    let charged = of_pod(&before, pod.name);
    let grown = |after: &Metrics, name: &str| {
        of_gpu(after, name, pod.gpu()) - of_gpu(&before, name, pod.gpu())
    };
    let after = wait::until_some("it has drawn more", || {
        let metrics = observed.look().ok()?;
        (grown(&metrics, "eco_node_energy_joules_total") > 100.0).then_some(metrics)
    })
    .unwrap();
    assert!(charged > 0.0);
    assert_eq!(of_pod(&after, pod.name), charged);
    wait::until("the GPU is idle", || {
        let Ok(before) = observed.look() else {
            return false;
        };
        observed.agent.after_ticks(2).unwrap();
        let after = observed.look().unwrap();
        let grown = |name| of_gpu(&after, name, pod.gpu()) - of_gpu(&before, name, pod.gpu());
        let drawn = grown("eco_node_energy_joules_total");
        let idle = grown("eco_idle_energy_joules_total");
        drawn > 0.0 && (idle / drawn - 1.0).abs() < 0.05
    })
    .unwrap();
    let path = format!("/v1/pods/{NAMESPACE}/{}", pod.name);
    let shown = observed.agent.json(&path).unwrap();
    let kept = shown["energy_joules"]["gpu"].as_f64().unwrap();
    assert!((kept - charged).abs() < 1e-6, "{shown}");
}
