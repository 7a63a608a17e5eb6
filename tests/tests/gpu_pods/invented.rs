// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A kubelet that is made up, and says what a true one should never say.

use std::{
    fs,
    process::{Child, Command, Stdio},
};

use anyhow::Result;
use eco_kubernetes_standin::Standin;
use eco_tests::{
    cgroup::Cgroup,
    metrics::Metrics,
    needs,
    pod_resources::{Given, PodResources},
    wait,
};

use crate::{MACHINE, NAMESPACE, Observed, QUIET_SECONDS, drawn, file, of_pod, policy, uuid};

/// A kubelet, and the cgroups that it would make.
struct Kubelet {
    pods: Standin,
    devices: PodResources,
    folder: tempfile::TempDir,
    qos: Cgroup,
    _kubepods: Cgroup,
    _root: Cgroup,
}

impl Kubelet {
    fn start() -> Result<Self> {
        let pods = Standin::start();
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("ca.crt"), &pods.certificate().authority)?;
        fs::write(folder.path().join("token"), "secret")?;
        let root = Cgroup::new("node")?;
        let kubepods = root.child("kubepods")?;
        Ok(Self {
            pods,
            devices: PodResources::start(folder.path().join("devices.sock"))?,
            folder,
            qos: kubepods.child("burstable")?,
            _kubepods: kubepods,
            _root: root,
        })
    }

    /// Where an agent asks about its pods.
    fn told(&self) -> Vec<(&'static str, String)> {
        let below = |name: &str| file(&self.folder.path().join(name));
        vec![
            ("ECO_KUBERNETES__URL", self.pods.url()),
            ("ECO_KUBERNETES__CA", below("ca.crt")),
            ("ECO_KUBERNETES__TOKEN_FILE", below("token")),
            ("ECO_KUBERNETES__POD_RESOURCES", below("devices.sock")),
        ]
    }

    /// Runs a pod that has asked for a GPU.
    fn run(&self, number: usize) -> Result<Pod> {
        let uid = format!("00000000-1111-2222-3333-{number:012}");
        let container = format!("{number:064x}");
        let mut told = eco_kubernetes_standin::pod(NAMESPACE, &name(number), &uid, &container);
        told["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] = "1".into();
        self.pods.put(told);
        let cgroup = self.qos.child(&format!("pod{uid}"))?;
        let inside = cgroup.child(&container)?;
        let mut command = Command::new("sh");
        command.args(["-c", "while :; do sleep 0.1; done"]);
        inside.hold(&mut command)?;
        let process = command.stdin(Stdio::null()).spawn()?;
        Ok(Pod {
            process,
            _inside: inside,
            _cgroup: cgroup,
        })
    }
}

/// A pod that runs until it is dropped.
struct Pod {
    process: Child,
    _inside: Cgroup,
    _cgroup: Cgroup,
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn name(pod: usize) -> String {
    format!("pod-{pod}")
}

fn given(pod: usize, ids: impl IntoIterator<Item = String>) -> Given {
    Given {
        namespace: NAMESPACE.into(),
        pod: name(pod),
        ids: ids.into_iter().collect(),
    }
}

/// Waits until a GPU has drawn much more than idle.
fn after_use(observed: &Observed, before: &Metrics) -> Metrics {
    wait::until_some("the GPU has drawn more", || {
        let now = observed.look().unwrap();
        let (drawn, idle) = drawn(before, &now, "0");
        (drawn - idle > 100.0).then_some(now)
    })
    .unwrap()
}

#[test]
fn a_list_of_devices_that_contradicts_itself_charges_nobody_and_one_that_is_long_the_right_pod() {
    needs!(Programs, Root, Cgroup);
    let _alone = MACHINE.lock();
    let kubelet = Kubelet::start().unwrap();
    // Two pods with what only one can have; ids of no GPU, and thousands of them; a pod that is
    // not there.
    let unknown = || (0..5_000).map(|n| format!("GPU-ffffffff-0000-0000-0000-{n:012}"));
    let odd = || ["", "::", "MIG-1", "nvidia0", "\u{1f980}\n\""].map(str::to_owned);
    kubelet.devices.tell([
        given(1, [uuid(0), uuid(0)].into_iter().chain(odd())),
        given(2, [uuid(0)]),
        given(9, unknown()),
    ]);
    let _pods = [1, 2].map(|number| kubelet.run(number).unwrap());
    let script = format!(
        "[[gpu]]\nidle_watts = 50.0\n[[gpu.process]]\npid = 1\nnamed = false\n\
         start = {QUIET_SECONDS:.1}\nwatts = 100.0\nsm = 60\n"
    );
    let observed = Observed::start(&script, kubelet.told()).unwrap();
    wait::until("the agent knows of the devices", || {
        let pod = observed.agent.get(&format!("/v1/pods/{NAMESPACE}/pod-1"));
        pod.is_ok_and(|pod| pod.body.contains(&uuid(0)))
    })
    .unwrap();
    let before = observed.look().unwrap();
    let after = after_use(&observed, &before);
    for pod in [1, 2] {
        assert_eq!(of_pod(&after, &name(pod)), 0.0);
    }
    assert_eq!(policy(&after, "0"), "measured");
    let other = [("kind", "other"), ("domain", "gpu")];
    assert!(after.sum("eco_unit_energy_joules_total", &other) > 0.0);

    // It thinks better of it, and another pod comes, so that it is asked.
    let many = || unknown().chain(vec![uuid(0); 5_000]).chain(odd());
    kubelet
        .devices
        .tell([given(2, many()), given(1, unknown())]);
    let _third = kubelet.run(3).unwrap();
    let before = wait::until_some("its pod pays", || {
        let now = observed.look().unwrap();
        (of_pod(&now, &name(2)) > 10.0).then_some(now)
    })
    .unwrap();
    assert_eq!(policy(&before, "0"), "allocated");
    let after = after_use(&observed, &before);
    let (drawn, idle) = drawn(&before, &after, "0");
    let charged = of_pod(&after, &name(2)) - of_pod(&before, &name(2));
    println!("{charged:.2} J of {:.2} J", drawn - idle);
    assert!((charged / (drawn - idle) - 1.0).abs() < 0.01);
    assert_eq!(of_pod(&after, &name(1)) + of_pod(&after, &name(3)), 0.0);
}
