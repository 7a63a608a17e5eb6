// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Pods and Slurm jobs: what ran in their cgroups is under their names, whenever these arrive.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails where it stands"
)]

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use eco_kubernetes_standin::{Fault, Standin, pod};
use eco_tests::{
    agent::{Agent, Setup},
    cgroup::Cgroup,
    length, needs, wait,
    workload::Workload,
};
use serde_json::{Value, json};

/// Of the CPU time that the kernel counted, so much must be under the right name.
const BAR: f64 = 0.995;

/// A process is charged where it ends; the kernel counted its fork where it began. That is up to
/// a fiftieth of one that lives for 10 ms, and whoever is charged twice has far more.
const TWICE: f64 = 1.05;

/// The kernel's own blindness is no excuse for more than this.
const MISSED: f64 = 0.02;

/// One test's load is not another's.
static MACHINE: Mutex<()> = Mutex::new(());

/// A kubelet, and the cgroups that it would make.
struct Node {
    standin: Standin,
    folder: tempfile::TempDir,
    qos: Cgroup,
    _kubepods: Cgroup,
    _root: Cgroup,
}

impl Node {
    fn new() -> Self {
        let standin = Standin::start();
        let folder = tempfile::tempdir().unwrap();
        let authority = &standin.certificate().authority;
        fs::write(folder.path().join("ca.crt"), authority).unwrap();
        fs::write(folder.path().join("token"), "secret").unwrap();
        let root = Cgroup::new("node").unwrap();
        let kubepods = root.child("kubepods").unwrap();
        Self {
            standin,
            folder,
            qos: kubepods.child("burstable").unwrap(),
            _kubepods: kubepods,
            _root: root,
        }
    }

    fn agent(&self) -> Agent {
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        Agent::start(Setup {
            variables: vec![
                ("ECO_KUBERNETES__SOURCE", "kubelet".into()),
                ("ECO_KUBERNETES__URL", self.standin.url()),
                ("ECO_KUBERNETES__CA", file("ca.crt")),
                ("ECO_KUBERNETES__TOKEN_FILE", file("token")),
            ],
            ..Setup::default()
        })
        .unwrap()
    }

    fn pod(&self, uid: &str) -> Cgroup {
        self.qos.child(&format!("pod{uid}")).unwrap()
    }
}

fn uid(number: usize) -> String {
    format!("00000000-1111-2222-3333-{number:012}")
}

fn container(number: usize) -> String {
    format!("{number:064x}")
}

fn found(agent: &Agent, path: &str) -> Option<Value> {
    let answer = agent.get(path).unwrap();
    (answer.status == 200).then(|| answer.json().unwrap())
}

fn cpu_seconds(value: &Value) -> f64 {
    value["cpu_seconds"].as_f64().unwrap()
}

#[test]
fn a_pod_has_what_its_containers_used_restarts_included() {
    needs!(Programs, Root, Cgroup);
    let _alone = MACHINE.lock();
    let node = Node::new();
    let mut told = pod("shop", "web-0", &uid(1), &container(1));
    told["metadata"]["labels"]["batch.kubernetes.io/job-name"] = "fill".into();
    told["metadata"]["labels"]["app"] = "a \"quoted\"\nname".into();
    node.standin.put(told.clone());
    let agent = node.agent();
    let cgroup = node.pod(&uid(1));
    let mut truth = 0.0;
    for run in 1..=2 {
        let inside = cgroup.child(&container(run)).unwrap();
        let work = Workload::new("burn 0.5").unwrap();
        truth += work.within(&inside).unwrap().run().unwrap().cpu_seconds();
        agent.after_ticks(3).unwrap();
        let status = &mut told["status"]["containerStatuses"][0];
        status["lastState"] = json!({"terminated": {"containerID": status["containerID"]}});
        status["containerID"] = format!("containerd://{}", container(run + 1)).into();
        node.standin.put(told.clone());
    }
    let path = "/v1/pods/shop/web-0";
    let charged = |agent: &Agent| found(agent, path).map_or(0.0, |pod| cpu_seconds(&pod));
    wait::until("both runs", || charged(&agent) > BAR * truth).unwrap();
    let pod = found(&agent, path).unwrap();
    let containers = pod["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 1, "two runs of one container: {pod}");
    assert_eq!(
        (&containers[0]["name"], &pod["uid"]),
        (&json!("main"), &json!(uid(1)))
    );
    assert_eq!(pod["labels"], json!({"app": "a \"quoted\"\nname"}));
    assert!((cpu_seconds(&containers[0]) - cpu_seconds(&pod)).abs() < 1e-6);
    let job = found(&agent, "/v1/jobs/kubernetes/shop/fill").unwrap();
    assert!(
        (cpu_seconds(&job) - cpu_seconds(&pod)).abs() < 1e-6,
        "{job}"
    );
    println!("charged {:.3} s of {truth:.3} s", cpu_seconds(&pod));
    assert!(cpu_seconds(&pod) <= truth / BAR, "{pod}");

    // Shown at zero, and once that was seen, whole.
    let labels = [
        ("namespace", "shop"),
        ("pod", "web-0"),
        ("container", "main"),
    ];
    wait::until("the series", || {
        let shown = agent.scrape().unwrap();
        shown.sum("eco_pod_cpu_seconds_total", &labels) > BAR * truth
    })
    .unwrap();
    let shown = agent.scrape().unwrap();
    let unit = [("kind", "pod"), ("name", "shop/web-0"), ("uid", &uid(1))];
    assert!(shown.sum("eco_unit_cpu_seconds_total", &unit) > BAR * truth);
    let job = [("manager", "kubernetes"), ("job", "shop/fill")];
    assert!(shown.sum("eco_job_cpu_seconds_total", &job) > BAR * truth);
}

#[test]
fn a_pod_that_nobody_knows_goes_by_its_uid_until_somebody_does() {
    needs!(Programs, Root, Cgroup);
    let _alone = MACHINE.lock();
    let node = Node::new();
    node.standin.fail([Fault::Status(403, "")]);
    let agent = node.agent();
    let cgroup = node.pod(&uid(2));
    let inside = cgroup.child(&container(2)).unwrap();
    let work = Workload::new("burn 600").unwrap();
    let _work = work.within(&inside).unwrap().start().unwrap();
    let named = |name: &str| {
        let units = agent.json("/v1/units?kind=pod").unwrap();
        let units = units["units"].as_array().unwrap().clone();
        units.into_iter().find(|unit| unit["name"] == name)
    };
    let by_uid = wait::until_some("a name at all", || named(&uid(2))).unwrap();
    assert!(
        cpu_seconds(&by_uid) > 0.0,
        "nothing of the wait is lost: {by_uid}"
    );
    node.standin
        .put(pod("shop", "late", &uid(2), &container(2)));
    let by_name = wait::until_some("its name", || named("shop/late")).unwrap();
    assert_eq!(by_name["uid"], uid(2));
    let advice = agent.status().unwrap()["advice"].to_string();
    assert!(!advice.contains("kubelet"), "the trouble is over: {advice}");
}

#[test]
fn two_pods_of_one_name_stay_apart() {
    needs!(Programs, Root, Cgroup);
    let _alone = MACHINE.lock();
    let node = Node::new();
    let agent = node.agent();
    let mut used = HashMap::new();
    for number in [3, 4] {
        node.standin
            .put(pod("shop", "db-0", &uid(number), &container(number)));
        let cgroup = node.pod(&uid(number));
        let inside = cgroup.child(&container(number)).unwrap();
        let work = Workload::new("burn 0.8").unwrap();
        let report = work.within(&inside).unwrap().run().unwrap();
        used.insert(uid(number), report.cpu_seconds());
        agent.after_ticks(2).unwrap();
        node.standin.delete(&uid(number));
    }
    wait::until("both", || {
        agent.scrape().unwrap();
        let shown = agent.scrape().unwrap();
        used.iter().all(|(uid, truth)| {
            let labels = [
                ("namespace", "shop"),
                ("pod", "db-0"),
                ("uid", uid.as_str()),
            ];
            let charged = shown.sum("eco_pod_cpu_seconds_total", &labels);
            assert!(charged < truth / BAR, "{charged} of {truth}");
            charged > BAR * truth
        })
    })
    .unwrap();
}

#[test]
fn pods_that_come_and_go_fifty_a_second_are_charged_by_name() {
    needs!(Programs, Root, Bpf, Cgroup);
    let _alone = MACHINE.lock();
    let node = Node::new();
    let agent = node.agent();
    let rounds = length::of(200, 3000);
    let mut used = 0.0;
    let begun = Instant::now();
    for number in 0..rounds {
        let number = 1000 + number;
        let name = format!("pod-{number}");
        node.standin
            .put(pod("churn", &name, &uid(number), &container(number)));
        let cgroup = node.pod(&uid(number));
        let inside = cgroup.child(&container(number)).unwrap();
        let work = Workload::new("burn 0.01").unwrap();
        work.within(&inside).unwrap().run().unwrap();
        used += cgroup.cpu_us().unwrap() as f64 / 1e6;
        drop((inside, cgroup));
        let due = Duration::from_millis(20) * (number - 999) as u32;
        thread::sleep(due.saturating_sub(begun.elapsed()));
    }
    let (mut sum, mut missed) = (0.0, 0.0);
    let asked = wait::until("all by name", || {
        let units = agent.json("/v1/units?kind=pod").unwrap();
        let units = units["units"].as_array().unwrap().clone();
        let named = units.iter().filter(|unit| {
            let name = unit["name"].as_str().unwrap_or_default();
            name.starts_with("churn/pod-")
        });
        sum = named.map(cpu_seconds).sum();
        // Where the kernel tells its programs nothing of a death (on some machines of one in a
        // hundred), whoever waited for the dead is charged, and that is counted.
        let status = agent.status().unwrap();
        let missed_ns = status["discrepancies"]["parent_remainder_ns"].as_f64();
        missed = missed_ns.unwrap() / 1e9;
        sum + missed > BAR * used
    });
    println!(
        "{rounds} pods in {:.1} s: of {used:.3} s {sum:.3} s by name, {missed:.3} s the kernel did \
         not tell of; the kubelet was asked {} times",
        begun.elapsed().as_secs_f64(),
        node.standin.asked().len()
    );
    asked.unwrap();
    assert!(sum < TWICE * used, "{sum} of {used}");
    assert!(missed < MISSED * used, "{missed} of {used}");
}

#[test]
fn a_slurm_job_and_its_steps_are_charged_by_number_and_user() {
    needs!(Programs, Root, Cgroup);
    let _alone = MACHINE.lock();
    let folder = tempfile::tempdir().unwrap();
    let scontrol = folder.path().join("scontrol");
    let answer = json!({"jobs": [{"job_id": 77, "name": "train", "user_name": "ann",
        "account": "physics", "partition": "gpu", "array_job_id": 70, "array_task_id": 7}]});
    fs::write(
        &scontrol,
        format!("#!/bin/sh\ncat <<'END'\n{answer}\nEND\n"),
    )
    .unwrap();
    fs::set_permissions(&scontrol, fs::Permissions::from_mode(0o755)).unwrap();
    let agent = Agent::start(Setup {
        variables: vec![
            ("ECO_SLURM__SOURCE", "scontrol".into()),
            ("ECO_SLURM__SCONTROL", scontrol.display().to_string()),
        ],
        ..Setup::default()
    })
    .unwrap();
    let root = Cgroup::new("slurm").unwrap();
    let scope = root.child("slurmstepd.scope").unwrap();
    let job = scope.child("job_77").unwrap();
    let mut truth = HashMap::new();
    // Long enough that the millisecond after a program has read its own use is within the bound.
    for (name, seconds) in [("batch", 1.0), ("0", 1.4)] {
        let step = job.child(&format!("step_{name}")).unwrap();
        let user = step.child("user").unwrap();
        let task = user.child("task_0").unwrap();
        let work = Workload::new(&format!("burn {seconds}")).unwrap();
        let used = work.within(&task).unwrap().run().unwrap().cpu_seconds();
        truth.insert(format!("77.{name}"), used);
        agent.after_ticks(2).unwrap();
    }
    let all: f64 = truth.values().sum();
    let path = "/v1/jobs/slurm/77";
    let is_whole = || found(&agent, path).filter(|job| cpu_seconds(job) > BAR * all);
    let told = wait::until_some("the job", is_whole).unwrap();
    for (key, value) in [
        ("name", "train"),
        ("user", "ann"),
        ("account", "physics"),
        ("partition", "gpu"),
        ("array", "70_7"),
    ] {
        assert_eq!(told[key], value, "{told}");
    }
    let steps = told["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 2, "{told}");
    for step in steps {
        let used = truth[step["id"].as_str().unwrap()];
        let charged = cpu_seconds(step);
        assert!(
            (BAR * used..=used / BAR).contains(&charged),
            "{step}: {used}"
        );
    }
    let labels = [("manager", "slurm"), ("job", "77"), ("user", "ann")];
    wait::until("the series", || {
        let shown = agent.scrape().unwrap();
        shown.sum("eco_job_cpu_seconds_total", &labels) > BAR * all
    })
    .unwrap();
}
