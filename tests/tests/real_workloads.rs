// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Pods of a real kubelet and jobs of a real Slurm, held against the kernel's own account of
//! their cgroups.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails where it stands"
)]

use std::{fmt::Write as _, fs, os::unix::fs::PermissionsExt as _, path::Path, sync::Mutex};

use eco_tests::{
    agent::{Agent, Setup},
    cgroup, needs,
    servers::{
        kubernetes::{Cluster, IMAGE},
        slurm::Slurm,
    },
    wait,
};
use serde_json::Value;

/// Of the CPU time that the kernel counted, so much must be under the right name.
const BAR: f64 = 0.995;

/// The runtime's own start of a container is charged with the container, and was counted where
/// it began.
const TWICE: f64 = 1.15;

/// One test's load is not another's.
static MACHINE: Mutex<()> = Mutex::new(());

/// Uses some CPU time, and then what `then` says.
fn burn(rounds: u32, then: &str) -> String {
    format!("i=0; while [ $i -lt {rounds} ]; do i=$((i+1)); done; {then}")
}

/// Of a container that tells, when it is done, what the kernel counted for its cgroup in ns.
fn told_pod(name: &str, rounds: u32) -> String {
    let tell = "(cat /sys/fs/cgroup/cpuacct/cpuacct.usage 2>/dev/null || \
                awk '/^usage_usec/ {print $2 \\\"000\\\"}' /sys/fs/cgroup/cpu.stat) \
                > /dev/termination-log";
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: real, labels: {{app: burner, job-name: batch}}}}
spec:
  hostNetwork: true
  restartPolicy: Never
  automountServiceAccountToken: false
  containers:
  - name: main
    image: {IMAGE}
    imagePullPolicy: Never
    command: [sh, -c, \"{}\"]
---
",
        burn(rounds, tell)
    )
}

fn agent_of(cluster: &Cluster, also: &[(&'static str, String)]) -> Agent {
    let file = |path: &Path| path.display().to_string();
    let mut variables = vec![
        (
            "ECO_KUBERNETES__CA",
            file(cluster.authority().certificate()),
        ),
        (
            "ECO_KUBERNETES__POD_RESOURCES",
            file(&cluster.pod_resources()),
        ),
    ];
    variables.extend_from_slice(also);
    Agent::start(Setup {
        variables,
        ..Setup::default()
    })
    .unwrap()
}

fn cpu_seconds(value: &Value) -> f64 {
    value["cpu_seconds"].as_f64().unwrap()
}

fn found(agent: &Agent, path: &str) -> Option<Value> {
    let answer = agent.get(path).unwrap();
    (answer.status == 200).then(|| answer.json().unwrap())
}

#[test]
fn twenty_pods_have_what_the_kernel_counted_for_them() {
    needs!(Programs, Root, Bpf);
    let _alone = MACHINE.lock();
    let Some(cluster) = Cluster::shared().unwrap() else {
        return;
    };
    let client = cluster.kubelet_client();
    let agent = agent_of(
        cluster,
        &[
            ("ECO_KUBERNETES__SOURCE", "kubelet".into()),
            ("ECO_KUBERNETES__URL", cluster.kubelet()),
            (
                "ECO_KUBERNETES__CERTIFICATE",
                client.certificate.display().to_string(),
            ),
            ("ECO_KUBERNETES__KEY", client.key.display().to_string()),
        ],
    );
    cluster.namespace("real").unwrap();
    let pods: Vec<String> = (0..20).map(|number| format!("burner-{number}")).collect();
    let yaml = pods
        .iter()
        .zip(0..)
        .fold(String::new(), |mut all, (name, number)| {
            // Some hundred ms of work for most, and for every fifth some seconds.
            let rounds = if number % 5 == 0 { 2_000_000 } else { 200_000 };
            let _ = write!(all, "{}", told_pod(name, rounds));
            all
        });
    cluster.apply(&yaml).unwrap();
    let (mut truth, mut charged) = (0.0, 0.0);
    for name in &pods {
        let ended = format!("pod/{name} -n real");
        cluster
            .wait_for(&ended, "jsonpath={.status.phase}=Succeeded")
            .unwrap();
        let message = "jsonpath={.status.containerStatuses[0].state.terminated.message}";
        let told = cluster
            .kubectl(&["get", "pod", name, "-n", "real", "-o", message])
            .unwrap();
        let counted = told.trim().parse::<f64>().unwrap() / 1e9;
        let path = format!("/v1/pods/real/{name}");
        let mut last = None;
        let whole = || {
            last = found(&agent, &path);
            let containers = last.as_ref()?["containers"].as_array()?;
            let main = containers.iter().find(|one| one["name"] == "main")?;
            (cpu_seconds(main) > BAR * counted).then(|| cpu_seconds(main))
        };
        let own = wait::until_some(&format!("{name} is whole"), whole);
        let own = own.unwrap_or_else(|why| panic!("{why}: {counted} s, but {last:?}"));
        assert!(own < TWICE * counted + 0.1, "{name}: {own} of {counted}");
        truth += counted;
        charged += own;
    }
    println!("20 pods: charged {charged:.3} s of {truth:.3} s");
    let job = found(&agent, "/v1/jobs/kubernetes/real/batch").unwrap();
    assert!(cpu_seconds(&job) >= charged, "{job}: {charged}");
    let advice = agent.status().unwrap()["advice"].to_string();
    assert!(!advice.contains("kubelet"), "{advice}");
}

#[test]
fn the_api_server_names_pods_where_it_is_asked_instead() {
    needs!(Programs, Root, Bpf);
    let _alone = MACHINE.lock();
    let Some(cluster) = Cluster::shared().unwrap() else {
        return;
    };
    cluster.namespace("watched").unwrap();
    let token = cluster.token("watched", "eco").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    fs::write(&file, token).unwrap();
    let account = "--serviceaccount=watched:eco";
    let role = "--clusterrole=view";
    cluster
        .kubectl(&["create", "clusterrolebinding", "eco", role, account])
        .unwrap();
    let agent = agent_of(
        cluster,
        &[
            ("ECO_KUBERNETES__SOURCE", "api".into()),
            ("ECO_KUBERNETES__URL", cluster.server()),
            ("ECO_KUBERNETES__TOKEN_FILE", file.display().to_string()),
            (
                "ECO_KUBERNETES__NODE",
                eco_tests::servers::kubernetes::NODE.into(),
            ),
        ],
    );
    let pod = told_pod("by-watch", 20_000_000).replace("namespace: real", "namespace: watched");
    cluster.apply(&pod).unwrap();
    wait::until("its name", || {
        found(&agent, "/v1/pods/watched/by-watch").is_some()
    })
    .unwrap();
    cluster
        .kubectl(&["delete", "pod", "by-watch", "-n", "watched", "--now"])
        .unwrap();
}

#[test]
fn a_job_of_slurm_has_what_the_kernel_counted_for_it() {
    needs!(Programs, Root, Bpf);
    let _alone = MACHINE.lock();
    let Some(slurm) = Slurm::start().unwrap() else {
        return;
    };
    // The program needs to be told where its libraries are.
    let wrapper = slurm.folder().join("scontrol.sh");
    let mut text = String::from("#!/bin/sh\n");
    for (name, value) in slurm.environment() {
        let _ = writeln!(text, "export {name}='{}'", value.display());
    }
    let _ = writeln!(
        text,
        "exec '{}' \"$@\"",
        slurm.program("scontrol").display()
    );
    fs::write(&wrapper, text).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    for source in ["environment", "scontrol"] {
        let agent = Agent::start(Setup {
            variables: vec![
                ("ECO_SLURM__SOURCE", source.into()),
                ("ECO_SLURM__SCONTROL", wrapper.display().to_string()),
            ],
            ..Setup::default()
        })
        .unwrap();
        let srun = slurm.program("srun");
        let step = format!("{} sh -c '{}'", srun.display(), burn(300_000, ":"));
        let script = burn(300_000, &format!("{step}; touch done-{source}; sleep 600"));
        let job = slurm.sbatch(&["--job-name=two words"], &script).unwrap();
        let done = slurm.folder().join(format!("done-{source}"));
        wait::until("the job's work is done", || done.exists()).unwrap();
        let counted = || {
            let path = slurm.job_cgroup(job);
            let mut folders = cgroup::everywhere(&path);
            let used = folders.find_map(|folder| cgroup::cpu_us(&folder).ok());
            used.unwrap() as f64 / 1e6
        };
        let path = format!("/v1/jobs/slurm/{job}");
        let whole = || found(&agent, &path).filter(|job| cpu_seconds(job) > BAR * counted());
        let told = wait::until_some("the job is whole", whole).unwrap();
        println!("{source}: {told}; the kernel: {:.3} s", counted());
        assert!(cpu_seconds(&told) < TWICE * counted() + 0.1, "{told}");
        assert_eq!(told["name"], "two words", "{told}");
        assert_eq!(
            (&told["user"], &told["partition"]),
            (&"root".into(), &"main".into())
        );
        let steps = told["steps"].as_array().unwrap();
        for step in ["batch", "0"] {
            let id = format!("{job}.{step}");
            assert!(steps.iter().any(|step| step["id"] == id), "{told}");
        }
        slurm
            .command("scancel")
            .arg(job.to_string())
            .status()
            .unwrap();
    }
}
