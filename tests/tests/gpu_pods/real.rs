// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A real kubelet, whose GPUs are a device plug-in's of the project's own.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use eco_tests::{
    cgroup, length, needs,
    servers::{
        device_plugin::{DevicePlugin, VISIBLE},
        kubernetes::{Cluster, IMAGE, NODE},
    },
    wait,
};

use crate::{
    AMD, AMD_ADDRESS, AMD_CARD, MACHINE, NAMESPACE, Observed, QUIET_SECONDS, drawn, file, of_pod,
    policy, put_amd, uuid,
};

/// What each NVIDIA GPU draws at rest, and what its process adds, in W.
const NVIDIA: [(f64, f64); 4] = [(50.0, 100.0), (60.0, 80.0), (70.0, 90.0), (80.0, 70.0)];

/// Of these, which one is given to pods as copies, and which one is cut by MIG.
const COPIED: usize = 2;
const CUT: usize = 3;

/// They are in use for so long then: as long as the test needs to look, many times over.
fn used_seconds() -> f64 {
    length::of(14.0, 60.0)
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

    /// Which NVIDIA GPU it has.
    fn gpu(&self) -> usize {
        let gpu = (0..NVIDIA.len()).find(|gpu| self.devices.starts_with(&uuid(*gpu)));
        gpu.unwrap_or_else(|| panic!("{} has {:?}", self.name, self.devices))
    }
}

/// A GPU, and the pods that are to pay for it.
struct Paid {
    device: String,
    rule: &'static str,
    pods: &'static [&'static str],
    /// In W, at rest and on top of that.
    draws: (f64, f64),
}

impl Paid {
    fn nvidia(gpu: usize, rule: &'static str, pods: &'static [&'static str]) -> Self {
        Self {
            device: gpu.to_string(),
            rule,
            pods,
            draws: NVIDIA[gpu],
        }
    }

    /// By how much the pods' part may be off. A rule divides each tick's whole; a driver that
    /// samples may have no sample for a tick that a busy machine made short.
    fn bar(&self) -> f64 {
        match self.rule {
            "measured" => length::of(0.25, 0.05),
            _ => 0.01,
        }
    }

    fn all(named: &Running, unnamed: &Running) -> [Self; 5] {
        [
            Self::nvidia(named.gpu(), "measured", &["named"]),
            Self::nvidia(unnamed.gpu(), "allocated", &["unnamed"]),
            Self::nvidia(COPIED, "allocated-shared", &["copy-0", "copy-1"]),
            Self::nvidia(CUT, "allocated", &["slice"]),
            Self {
                device: AMD_CARD.into(),
                rule: "allocated",
                pods: &["amd"],
                draws: AMD,
            },
        ]
    }
}

/// And the first MIG device of one.
fn slice_uuid(gpu: usize) -> String {
    format!("MIG-00000000-0000-0000-{gpu:04}-000000000000")
}

/// Each NVIDIA GPU with one process, which the driver names if it is `named`.
fn script(named: &Running) -> String {
    let end = QUIET_SECONDS + used_seconds();
    let gpus = NVIDIA.iter().enumerate().map(|(gpu, (idle, used))| {
        let is_named = gpu == named.gpu();
        let pid = if is_named { named.pid } else { 1 };
        let (cut, instance) = match gpu {
            CUT => (
                "gpm = true\n[[gpu.instance]]\ngpu_instance = 1\nslices = 4\n\
                 [[gpu.instance]]\ngpu_instance = 5\nslices = 2\n",
                "gpu_instance = 1\n",
            ),
            _ => ("", ""),
        };
        format!(
            "[[gpu]]\nidle_watts = {idle:.1}\n{cut}\
             [[gpu.process]]\npid = {pid}\nnamed = {is_named}\n{instance}\
             start = {QUIET_SECONDS:.1}\nend = {end:.1}\nwatts = {used:.1}\nsm = 60\n"
        )
    });
    gpus.collect()
}

/// Where an agent asks about the pods of a cluster.
fn pods_of(cluster: &Cluster) -> Vec<(&'static str, String)> {
    let client = cluster.kubelet_client();
    let authority = cluster.authority().certificate();
    let devices = cluster.pod_resources();
    vec![
        ("ECO_KUBERNETES__URL", cluster.kubelet()),
        ("ECO_KUBERNETES__CA", file(authority)),
        ("ECO_KUBERNETES__CERTIFICATE", file(&client.certificate)),
        ("ECO_KUBERNETES__KEY", file(&client.key)),
        ("ECO_KUBERNETES__POD_RESOURCES", file(&devices)),
    ]
}

/// Offers the devices to the kubelet, and waits until pods can ask for them.
fn offer(cluster: &Cluster) -> Result<Vec<DevicePlugin>> {
    let copies = [0, 1].map(|copy| format!("{}::{copy}", uuid(COPIED)));
    let offers = [
        ("nvidia.com/gpu", vec![uuid(0), uuid(1)]),
        ("nvidia.com/gpu.shared", copies.to_vec()),
        ("nvidia.com/mig-4g.40gb", vec![slice_uuid(CUT)]),
        ("amd.com/gpu", vec![AMD_ADDRESS.to_owned()]),
    ];
    let told = offers
        .each_ref()
        .map(|(name, ids)| format!("{name:?}:\"{}\"", ids.len()));
    let folder = cluster.device_plugins();
    let offered = offers.map(|(name, ids)| DevicePlugin::register(&folder, name, ids));
    wait::until("the node has GPUs", || {
        let node = ["get", "node", NODE, "-o", "jsonpath={.status.allocatable}"];
        let node = cluster.kubectl(&node).unwrap_or_default();
        told.iter().all(|devices| node.contains(devices))
    })?;
    offered.into_iter().collect()
}

#[test]
fn a_gpus_joules_are_its_pods_whether_the_driver_names_a_process_or_nobody() {
    needs!(Programs, Root, Bpf, Cgroup);
    let _alone = MACHINE.lock();
    let Some(cluster) = Cluster::with_devices().unwrap() else {
        return;
    };
    let _plugins = offer(&cluster).unwrap();
    cluster.namespace(NAMESPACE).unwrap();
    let wanted = [
        ("named", "nvidia.com/gpu"),
        ("unnamed", "nvidia.com/gpu"),
        ("copy-0", "nvidia.com/gpu.shared"),
        ("copy-1", "nvidia.com/gpu.shared"),
        ("slice", "nvidia.com/mig-4g.40gb"),
        ("amd", "amd.com/gpu"),
        ("without", ""),
    ];
    let yaml: String = wanted.iter().map(|(name, what)| pod(name, what)).collect();
    cluster.apply(&yaml).unwrap();
    let pods = wanted.map(|(name, _)| Running::find(&cluster, name).unwrap());
    let [named, unnamed, copy, _, slice, amd, without] = &pods;
    assert_eq!(copy.gpu(), COPIED);
    let told = [slice, amd, without].map(|pod| pod.devices.as_str());
    assert_eq!(told, [slice_uuid(CUT).as_str(), AMD_ADDRESS, ""]);

    let observed = Observed::start(&script(named), pods_of(&cluster)).unwrap();
    let all = Paid::all(named, unnamed);
    let first = observed.look().unwrap();
    wait::until("the NVIDIA GPUs are in use", || {
        let now = observed.look().unwrap();
        let (drawn, idle) = drawn(&first, &now, "0");
        drawn > idle + 20.0
    })
    .unwrap();
    // By now idle power is known.
    put_amd(observed.sysfs.path(), 60, AMD.0 + AMD.1).unwrap();
    let before = wait::until_some("all have paid", || {
        let metrics = observed.look().unwrap();
        let has_paid = |paid: &Paid| {
            policy(&metrics, &paid.device) == paid.rule
                && paid.pods.iter().all(|pod| of_pod(&metrics, pod) > 10.0)
        };
        all.iter().all(has_paid).then_some(metrics)
    })
    .unwrap();
    let after = wait::until_some("all have paid more", || {
        let metrics = observed.look().unwrap();
        let grown = |pod: &&str| of_pod(&metrics, pod) - of_pod(&before, pod) > 50.0;
        let has_paid = |paid: &Paid| paid.pods.iter().all(grown);
        all.iter().all(has_paid).then_some(metrics)
    })
    .unwrap();
    for paid in &all {
        let (drawn, idle) = drawn(&before, &after, &paid.device);
        let truth = paid.draws.0 / (paid.draws.0 + paid.draws.1);
        let charged = |pod: &&str| of_pod(&after, pod) - of_pod(&before, pod);
        let parts: Vec<f64> = paid.pods.iter().map(charged).collect();
        println!(
            "{} {}: {drawn:.1} J, idle {:.4} of it and truly {truth:.4}, {:?} {parts:.3?}",
            paid.device,
            paid.rule,
            idle / drawn,
            paid.pods
        );
        assert!((idle / drawn / truth - 1.0).abs() < 0.05);
        for part in parts {
            let fair = (drawn - idle) / paid.pods.len() as f64;
            assert!((part / fair - 1.0).abs() < paid.bar(), "{part} of {fair}");
        }
    }
    assert_eq!(of_pod(&after, "without"), 0.0);
    ended(&cluster, &observed, unnamed);
}

/// A pod that ends keeps what it has, and gets nothing more of what others do on its GPU, named
/// or not; and a GPU that nobody uses is idle again.
fn ended(cluster: &Cluster, observed: &Observed, pod: &Running) {
    let delete = ["delete", "pod", pod.name, "-n", NAMESPACE];
    cluster.kubectl(&delete).unwrap();
    let device = pod.gpu().to_string();
    let before = wait::until_some("the GPU is nobody's", || {
        let metrics = observed.look().unwrap();
        (policy(&metrics, &device) == "measured").then_some(metrics)
    })
    .unwrap();
    let charged = of_pod(&before, pod.name);
    let after = wait::until_some("it has drawn more", || {
        let metrics = observed.look().unwrap();
        (drawn(&before, &metrics, &device).0 > 100.0).then_some(metrics)
    })
    .unwrap();
    assert!(charged > 0.0);
    assert_eq!(of_pod(&after, pod.name), charged);
    let path = format!("/v1/pods/{NAMESPACE}/{}", pod.name);
    let shown = observed.agent.json(&path).unwrap();
    let kept = shown["energy_joules"]["gpu"].as_f64().unwrap();
    assert!((kept - charged).abs() < 1e-6, "{shown}");
    wait::until("the GPU is idle", || {
        let (before, after) = (observed.look().unwrap(), observed.look().unwrap());
        let (drawn, idle) = drawn(&before, &after, &device);
        drawn > 0.0 && (idle / drawn - 1.0).abs() < 0.05
    })
    .unwrap();
}
