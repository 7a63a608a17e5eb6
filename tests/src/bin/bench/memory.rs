// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What memory an agent takes with everything on, beside one with nothing on, on the same node of
//! pods and jobs in the same seconds.

use std::{fs, path::Path, thread, time::Duration};

use anyhow::{Context as _, Result};
use eco_kubernetes_standin::{Standin, pod};
use eco_tests::{
    agent::{Agent, Setup},
    cgroup::Cgroup,
    servers::{
        collector::Collector,
        prometheus::{Kind, Store},
    },
    workload::{Running, Workload},
};
use serde_json::json;

use crate::{
    Findings,
    overhead::second_tick,
    table::{Table, shown},
};

const PODS: usize = 50;
const PROCESSES_EACH: u32 = 10;
const SLURM_JOBS: usize = 5;
/// CPU time that each pod and job takes, so that all of them have something to tell.
const BURNT_SECONDS: f64 = 0.05;
/// What the project holds an agent with everything on to.
const BAR_MB: f64 = 25.0;

pub(crate) fn run(seconds: u32) -> Result<Findings> {
    let node = Node::new()?;
    let store = Store::start(Kind::Prometheus, "", [])?.context("no Prometheus to push to")?;
    let collector = Collector::prepare()?;
    let mut collector = collector.context("no OpenTelemetry Collector to push to")?;
    collector.start()?;
    let agents = [
        (
            "everything on",
            Agent::start(node.everything(&store, &collector))?,
        ),
        ("nothing on", Agent::start(nothing())?),
    ];
    node.work()?;
    for _ in 0..seconds {
        thread::sleep(Duration::from_secs(1));
        for (_, agent) in &agents {
            agent.scrape()?;
        }
    }
    let pods = agents[0].1.json("/v1/units?kind=pod")?["units"]
        .as_array()
        .map_or(0, Vec::len);
    anyhow::ensure!(pods == PODS, "the agent knows {pods} pods of {PODS}");
    let failures = agents[0].1.scrape()?.sum("eco_push_failures_total", &[]);
    let title = format!(
        "{seconds} s at 1 Hz among {PODS} pods, {SLURM_JOBS} Slurm jobs and {} processes, one \
         scrape each second; {failures} pushes failed",
        PODS * PROCESSES_EACH as usize,
    );
    let columns = [
        "agent",
        "RSS MB",
        "peak MB",
        "RSS × nothing",
        "RSS × bar of 25 MB",
    ];
    let mut table = Table::new(title, &columns);
    let mut found = Vec::new();
    let least = agents[1].1.memory()?.resident as f64 / 1e6;
    for (name, agent) in &agents {
        let memory = agent.memory()?;
        let (resident, peak) = (memory.resident as f64 / 1e6, memory.peak as f64 / 1e6);
        table.row([
            (*name).to_owned(),
            shown(resident, 1),
            shown(peak, 1),
            format!("×{}", shown(resident / least, 2)),
            format!("×{}", shown(resident / BAR_MB, 2)),
        ]);
        found.push(json!({ "agent": name, "resident_mb": resident, "peak_mb": peak }));
    }
    Ok(Findings {
        tables: vec![table],
        json: json!({ "bench": "memory", "seconds": seconds, "agents": found }),
    })
}

fn nothing() -> Setup {
    Setup {
        variables: vec![
            ("ECO_HISTORY__ENABLED", "false".into()),
            ("ECO_KUBERNETES__SOURCE", "off".into()),
            ("ECO_SLURM__SOURCE", "off".into()),
        ],
        ..second_tick()
    }
}

/// A node of Kubernetes and of Slurm: their cgroups with processes in them, and a kubelet that
/// says whose they are.
struct Node {
    // In this order they end: who is in a cgroup goes before it does.
    _sleepers: Vec<Running>,
    places: Vec<Cgroup>,
    _around: Vec<Cgroup>,
    standin: Standin,
    secrets: tempfile::TempDir,
}

impl Node {
    fn new() -> Result<Self> {
        let standin = Standin::start();
        let secrets = tempfile::tempdir()?;
        fs::write(
            secrets.path().join("ca.crt"),
            &standin.certificate().authority,
        )?;
        fs::write(secrets.path().join("token"), "secret")?;
        let (mut places, mut around) = (Vec::new(), Vec::new());
        let root = Cgroup::new("memory")?;
        let kubepods = root.child("kubepods")?;
        let qos = kubepods.child("burstable")?;
        for number in 1..=PODS {
            let uid = format!("00000000-1111-2222-3333-{number:012}");
            let container = format!("{number:064x}");
            standin.put(pod("shop", &format!("web-{number}"), &uid, &container));
            let of_pod = qos.child(&format!("pod{uid}"))?;
            places.push(of_pod.child(&container)?);
            around.push(of_pod);
        }
        let scope = root.child("slurmstepd.scope")?;
        for number in 1..=SLURM_JOBS {
            let job = scope.child(&format!("job_{number}"))?;
            places.push(job.child("step_0")?);
            around.push(job);
        }
        around.extend([scope, qos, kubepods, root]);
        let sleepers = places[..PODS].iter().map(|container| {
            let sleepers = Workload::new(&format!("sleepers {PROCESSES_EACH} 1"))?;
            sleepers.within(container)?.start()
        });
        Ok(Self {
            _sleepers: sleepers.collect::<Result<_>>()?,
            places,
            _around: around,
            standin,
            secrets,
        })
    }

    fn everything(&self, store: &Store, collector: &Collector) -> Setup {
        let secret = |name: &str| path(&self.secrets.path().join(name));
        Setup {
            arguments: ["--compat", "kepler"].map(Into::into).into(),
            variables: vec![
                ("ECO_KUBERNETES__SOURCE", "kubelet".into()),
                ("ECO_KUBERNETES__URL", self.standin.url()),
                ("ECO_KUBERNETES__CA", secret("ca.crt")),
                ("ECO_KUBERNETES__TOKEN_FILE", secret("token")),
                ("ECO_CARBON__ZONE", "DE".into()),
                ("ECO_OTLP__ENDPOINT", collector.url()),
                ("ECO_OTLP__INTERVAL", "1s".into()),
                ("ECO_REMOTE_WRITE__URL", store.url() + "/api/v1/write"),
                ("ECO_REMOTE_WRITE__INTERVAL", "1s".into()),
            ],
            ..second_tick()
        }
    }

    /// Some work in each place.
    fn work(&self) -> Result<()> {
        for place in &self.places {
            let burn = Workload::new(&format!("burn {BURNT_SECONDS}"))?;
            burn.within(place)?.run()?;
        }
        Ok(())
    }
}

fn path(path: &Path) -> String {
    path.display().to_string()
}
