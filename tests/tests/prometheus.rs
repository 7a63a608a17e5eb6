// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a user of Prometheus has of eco: sums that hold, rules that work, and the dashboards that
//! they had.
//!
//! One experiment, of which each test states one finding: a real Prometheus scrapes an agent at
//! two intervals, while processes, pods and a short job come and go.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on fails where it stands"
)]

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::OnceLock,
};

use anyhow::Result;
use eco_kubernetes_standin::{Standin, pod};
use eco_nvml_standin::lab::Lab;
use eco_tests::{
    agent::{Agent, Setup},
    cgroup::Cgroup,
    length,
    metrics::Metrics,
    needs,
    power::PowerTree,
    servers::{
        Installed, free_port,
        prometheus::{Kind, Store},
    },
    wait,
    workload::Workload,
};
use serde_json::Value;

/// Sums may be off by so much.
const BAR: f64 = 0.005;

/// Of a short job's joules so much must be under its name.
const JOB_BAR: f64 = 0.01;

/// Seconds between scrapes.
fn intervals() -> [(&'static str, u64); 2] {
    length::of([("fast", 1), ("slow", 3)], [("fast", 5), ("slow", 15)])
}

/// Seconds of churn, and of CPU time that the job burns.
fn seconds() -> (u64, f64) {
    length::of((18, 2.6), (600, 13.0))
}

/// What came of the experiment.
struct Findings {
    store: Store,
    /// Of the job that was alone in it.
    job: String,
    process: String,
    last: Metrics,
    text: String,
    _agent: Agent,
    _folder: tempfile::TempDir,
    _tree: PowerTree,
    _standin: Standin,
    _gpu: Lab,
}

fn findings() -> Option<&'static Findings> {
    static FINDINGS: OnceLock<Result<Option<Findings>>> = OnceLock::new();
    FINDINGS.get_or_init(experiment).as_ref().unwrap().as_ref()
}

fn scrape_configs(port: u16) -> String {
    let job = |(name, seconds): (&str, u64)| {
        format!(
            "- job_name: {name}\n  scrape_interval: {seconds}s\n  scrape_timeout: {seconds}s\n  \
             static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n"
        )
    };
    intervals().map(job).concat()
}

/// A GPU that this process uses all along.
fn gpu() -> Result<Lab> {
    let script = format!(
        "[[gpu]]\nidle_watts = 40\nsample_ms = 200\n[[gpu.process]]\npid = {}\nstart = 0.0\n\
         end = 3600.0\nwatts = 30.0\nsm = 40\n",
        std::process::id()
    );
    Ok(Lab::new(&script)?)
}

fn start_agent(
    standin: &Standin,
    gpu: &Lab,
    folder: &Path,
    sysfs: &Path,
    port: u16,
) -> Result<Agent> {
    let file = |name: &str| folder.join(name).display().to_string();
    fs::write(file("ca.crt"), &standin.certificate().authority)?;
    fs::write(file("token"), "secret")?;
    Agent::start(Setup {
        arguments: [
            "--listen",
            &format!("127.0.0.1:{port}"),
            "--compat",
            "kepler",
        ]
        .map(Into::into)
        .to_vec(),
        variables: vec![
            ("ECO_CARBON__ZONE", "DE".into()),
            ("ECO_NVML__LIBRARY", gpu.library().display().to_string()),
            ("ECO_KUBERNETES__SOURCE", "kubelet".into()),
            ("ECO_KUBERNETES__URL", standin.url()),
            ("ECO_KUBERNETES__CA", file("ca.crt")),
            ("ECO_KUBERNETES__TOKEN_FILE", file("token")),
        ],
        ..Setup::metered_by(sysfs)
    })
}

/// Waits until both jobs have scraped so often again.
fn after_scrapes(store: &Store, more: u32) -> Result<()> {
    let least = || store.number("min(count_over_time(up[1h]))");
    let enough = least()?.unwrap_or(0.0) + f64::from(more);
    wait::until("both jobs have scraped again", || {
        least().is_ok_and(|now| now.is_some_and(|now| now >= enough))
    })
}

fn experiment() -> Result<Option<Findings>> {
    let tree = PowerTree::with_dram()?;
    let standin = Standin::start();
    let folder = tempfile::tempdir()?;
    let port = free_port()?;
    let Some(store) = Store::start(Kind::Prometheus, &scrape_configs(port), [])? else {
        return Ok(None);
    };
    let gpu = gpu()?;
    let agent = start_agent(&standin, &gpu, folder.path(), tree.sysfs(), port)?;
    wait::until("both jobs scrape", || {
        store.number("sum(up)").is_ok_and(|up| up == Some(2.0))
    })?;
    after_scrapes(&store, 2)?;
    let root = Cgroup::new("prometheus")?;
    let machines = root.child("machine.slice")?;
    let machine = machines.child("machine-qemu\\x2d1\\x2dguest.scope")?;
    let qos = root.child("kubepods")?;
    let alone = Cgroup::new("alone")?;
    let (span, burn) = seconds();
    let of_eco = agent.open_job("churn", &root)?;
    let churn = Workload::new(&format!("churn {span}"))?.start()?;
    let steady = Workload::new(&format!("burn {}", span / 3))?
        .within(&machine)?
        .start()?;
    let process = steady.pid().to_string();
    let job = Workload::new(&format!("burn {burn}"))?
        .within(&alone)?
        .start()?;
    for number in 0..3 {
        let uid = format!("00000000-1111-2222-3333-{number:012}");
        let container = format!("{number:064x}");
        standin.put(pod("shop", &format!("web-{number}"), &uid, &container));
        let cgroup = qos.child(&format!("pod{uid}"))?;
        let inside = cgroup.child(&container)?;
        let lives = span as f64 / 6.0;
        Workload::new(&format!("churn {lives}"))?
            .within(&inside)?
            .run()?;
    }
    job.finish()?;
    let job = alone.path().to_owned();
    drop(alone);
    of_eco.close()?;
    // While the machine still runs: its panels are about now.
    after_scrapes(&store, 2)?;
    let text = agent.get("/metrics")?.body;
    let last = Metrics::parse(&text)?;
    steady.finish()?;
    churn.finish()?;
    after_scrapes(&store, 3)?;
    Ok(Some(Findings {
        store,
        job,
        process,
        last,
        text,
        _agent: agent,
        _folder: folder,
        _tree: tree,
        _standin: standin,
        _gpu: gpu,
    }))
}

/// Σ `increase()` over all that was scraped, as that job of Prometheus saw it.
fn increase(found: &Findings, (job, interval): (&str, u64), metric: &str, labels: &str) -> f64 {
    let at = |function: &str| {
        let query = format!("{function}(timestamp(eco_ticks_total{{job=\"{job}\"}})[1h:1s])");
        found.store.number(&query).unwrap().unwrap()
    };
    let (first, last) = (at("min_over_time"), at("max_over_time"));
    // To the millisecond a scrape is never on time: from a little before one to another.
    let steps = ((last - first) / interval as f64).round() as u64;
    let range_ms = steps * interval * 1000 + 100;
    let query =
        format!("sum(increase({metric}{{job=\"{job}\",{labels}}}[{range_ms}ms] @ {last:.3}))");
    found.store.number(&query).unwrap().unwrap_or(0.0)
}

#[test]
fn what_prometheus_adds_up_over_everyone_is_the_node() {
    needs!(Programs, Root, Cgroup, ExactCpu, Bpf);
    let Some(found) = findings() else { return };
    for job in intervals() {
        let of = |metric: &str, more: &str| {
            let metric = format!("eco_{metric}_energy_joules_total");
            increase(found, job, &metric, &format!("domain=\"package\"{more}"))
        };
        let parts =
            of("unit", ",kind=~\"process|kernel|other\"") + of("idle", "") + of("unattributed", "");
        let node = of("node", "");
        let off = parts / node - 1.0;
        println!("{job:?}: {parts:.3} J of {node:.3} J: {off:+.5}");
        assert!(node > 100.0, "{node} J");
        assert!(off.abs() <= BAR, "{job:?}: off by {off:+.5}");
    }
}

/// All that a series ever showed: each began at zero, and still stands.
fn shown(found: &Findings, job: &str, metric: &str, labels: &str) -> f64 {
    let query = format!("sum(max_over_time({metric}{{job=\"{job}\",{labels}}}[1h]))");
    found.store.number(&query).unwrap().unwrap()
}

#[test]
fn what_it_adds_up_over_pods_is_what_they_burnt() {
    needs!(Programs, Root, Cgroup, ExactCpu, Bpf);
    let Some(found) = findings() else { return };
    for job in intervals() {
        for metric in ["eco_pod_energy_joules_total", "eco_pod_cpu_seconds_total"] {
            let labels = "namespace=\"shop\"";
            let added = increase(found, job, metric, labels);
            let burnt = shown(found, job.0, metric, labels);
            let off = added / burnt - 1.0;
            println!("{job:?} {metric}: {added:.3} of {burnt:.3}: {off:+.5}");
            assert!(burnt > 1.0 && off.abs() <= BAR, "{metric}: {off:+.5}");
        }
    }
}

#[test]
fn a_short_job_has_its_joules_under_its_name_and_no_more() {
    needs!(Programs, Root, Cgroup, ExactCpu, Bpf);
    let Some(found) = findings() else { return };
    let (_, burn) = seconds();
    let labels = format!("kind=\"cgroup\",name=\"{}\"", found.job);
    for job in intervals() {
        let cpu = increase(found, job, "eco_unit_cpu_seconds_total", &labels);
        println!("{job:?}: {cpu:.3} s of {burn} s");
        assert!((cpu / burn - 1.0).abs() <= JOB_BAR, "{cpu} s of {burn} s");
        let metric = "eco_unit_energy_joules_total";
        let added = increase(found, job, metric, &labels);
        let burnt = shown(found, job.0, metric, &labels);
        println!("{job:?}: {added:.3} J of {burnt:.3} J");
        assert!(
            (added / burnt - 1.0).abs() <= JOB_BAR,
            "{added} of {burnt} J"
        );
    }
}

/// The panels of Kepler's own dashboard (compose/default/grafana/dashboards/latest), and those of
/// its others that are about the same names.
const KEPLER_QUERIES: [&str; 33] = [
    r#"sum by (zone) (kepler_node_cpu_watts{job="$job", zone=~"$zone"})"#,
    r#"sum by (zone) (kepler_node_cpu_active_watts{job="$job", zone=~"$zone"})"#,
    r#"sum by (zone) (kepler_node_cpu_idle_watts{job="$job", zone=~"$zone"})"#,
    r#"count by (instance, model_name)(kepler_node_cpu_info{job="$job"})"#,
    r#"count by (instance, model_name, vendor_id) (kepler_node_cpu_info)"#,
    r#"group by (node_name,zone)(kepler_node_cpu_watts{job="$job"})"#,
    r#"kepler_node_cpu_watts{job="$job", instance=~"$node", zone=~"$zone"}"#,
    r#"kepler_node_cpu_active_watts{job="$job", instance=~"$node", zone=~"$zone"}"#,
    r#"kepler_node_cpu_idle_watts{job="$job", instance=~"$node", zone=~"$zone"}"#,
    r#"topk(10,sum by (comm,zone)(kepler_process_cpu_watts{job="$job", zone=~"$zone"}))"#,
    r#"sum by (zone) (kepler_process_cpu_watts{job="$job", zone=~"$zone"})"#,
    r#"kepler_process_cpu_watts{job="$job", zone=~"$zone",pid="${process}"}"#,
    r#"topk(10,sum by (container_name,zone)(kepler_container_cpu_watts{job="$job", zone=~"$zone"}))"#,
    r#"sum by (zone) (kepler_container_cpu_watts{job="$job", zone=~"$zone"})"#,
    r#"kepler_container_cpu_watts{job="$job", zone=~"$zone",container_name=~"$container"}"#,
    r#"topk(10,sum by (pod_namespace,zone)(kepler_pod_cpu_watts{job="$job", zone=~"$zone"}))"#,
    r#"sum by (zone) (kepler_pod_cpu_watts{job="$job", zone=~"$zone", pod_namespace=~"$namespace"})"#,
    r#"kepler_pod_cpu_watts{job="$job",pod_namespace=~"$namespace", zone=~"$zone",pod_name=~"$pod"}"#,
    r#"topk(10,sum by (vm_name,zone)(kepler_vm_cpu_watts{job="$job", zone=~"$zone"}))"#,
    r#"sum by (zone) (kepler_vm_cpu_watts{job="$job", zone=~"$zone"})"#,
    r#"kepler_vm_cpu_watts{job="$job", zone=~"$zone",vm_name=~"$vm"}"#,
    r#"kepler_build_info"#,
    r#"rate(kepler_node_cpu_joules_total{job="$job", zone=~"$zone"}[20s])"#,
    r#"rate(kepler_node_cpu_idle_joules_total{job="$job", zone=~"$zone"}[20s])"#,
    r#"rate(kepler_node_cpu_active_joules_total{job="$job", zone=~"$zone"}[20s])"#,
    r#"abs(sum(kepler_node_cpu_active_watts{job="$job", zone=~"$zone"}) - sum(kepler_process_cpu_watts{job="$job", zone=~"$zone"}))"#,
    r#"100 * (sum(rate(kepler_node_cpu_active_joules_total{job="$job", zone=~"$zone"}[20s])) - sum(rate(kepler_process_cpu_joules_total{job="$job", zone=~"$zone"}[20s]))) / sum(rate(kepler_node_cpu_active_joules_total{job="$job", zone=~"$zone"}[20s]))"#,
    r#"sum(kepler_process_cpu_watts{job="$job",container_id!="", zone=~"$zone"}) - sum(kepler_container_cpu_watts{job="$job", zone=~"$zone"})"#,
    r#"sum(rate(kepler_process_cpu_joules_total{pid="$process",job="$job", zone=~"$zone"}[20s]))"#,
    r#"sum(increase(kepler_pod_cpu_joules_total{zone="package", pod_namespace=~"$namespace", pod_name=~"$pod"}[24h:1m])) >= 0"#,
    r#"sum by (pod_name, pod_namespace, zone) (irate(kepler_pod_cpu_joules_total{pod_namespace=~"$namespace", pod_name=~"$pod"}[1m]))"#,
    r#"label_join(count by (pid, comm) (kepler_process_cpu_watts{job="$job"}), "process", " | ", "comm", "pid")"#,
    r#"sum by (container_name) (rate(kepler_container_cpu_joules_total{job="$job"}[1m]))"#,
];

#[test]
fn keplers_own_panels_go_on_working() {
    needs!(Programs, Root, Cgroup, ExactCpu, Bpf);
    let Some(found) = findings() else { return };
    for query in KEPLER_QUERIES {
        let mut asked = query.replace("${process}", &found.process);
        asked = asked.replace("$process", &found.process);
        asked = asked.replace("$job", intervals()[0].0);
        // A step of a minute sees nothing of an experiment that is shorter than two.
        asked = asked.replace("[24h:1m]", length::of("[24h:1s]", "[24h:1m]"));
        for variable in ["zone", "node", "namespace", "pod", "container", "vm"] {
            asked = asked.replace(&format!("${variable}"), ".*");
        }
        // At some time of the experiment: what a panel shows.
        let over = format!(
            "last_over_time(({asked})[{}])",
            length::of("5m:1s", "15m:5s")
        );
        let result = found.store.query(&over).unwrap();
        assert!(!result.is_empty(), "no data: {asked}");
        for series in result {
            let value: f64 = series["value"][1].as_str().unwrap().parse().unwrap();
            assert!(value.is_finite(), "{asked}: {value}");
        }
    }
}

#[test]
fn keplers_sums_are_ecos_own() {
    needs!(Programs, Root, Cgroup, ExactCpu, Bpf);
    let Some(found) = findings() else { return };
    let metrics = &found.last;
    for zone in ["package", "dram"] {
        let kepler = |what: &str| {
            let name = format!("kepler_{what}_joules_total");
            metrics.sum_micro(&name, &[("zone", zone)]).unwrap()
        };
        let eco = |what: &str| {
            let name = format!("eco_{what}_energy_joules_total");
            metrics.sum_micro(&name, &[("domain", zone)]).unwrap()
        };
        let units = |kind| {
            let filter = [("domain", zone), ("kind", kind)];
            let name = "eco_unit_energy_joules_total";
            metrics.sum_micro(name, &filter).unwrap()
        };
        assert_eq!(kepler("node_cpu"), eco("node"));
        assert_eq!(kepler("node_cpu_idle"), eco("idle"));
        assert_eq!(kepler("node_cpu_active"), eco("node") - eco("idle"));
        let processes = units("process") + units("kernel") + units("other");
        assert_eq!(kepler("process_cpu"), processes);
        for kind in ["pod", "container", "vm"] {
            assert_eq!(kepler(&format!("{kind}_cpu")), units(kind), "{kind}");
        }
    }
    assert!(!found.text.contains("NaN"));
}

/// The kernel gives the next process the id after this one, as long as nobody else is born.
const LAST_PID: &str = "/proc/sys/kernel/ns_last_pid";

#[test]
fn two_processes_of_one_id_and_name_are_two_for_kepler_too() {
    needs!(Programs, Root, Cgroup, ExactCpu, Bpf);
    let tree = PowerTree::new().unwrap();
    let agent = Agent::start(Setup {
        arguments: ["--compat", "kepler"].map(Into::into).to_vec(),
        ..Setup::metered_by(tree.sysfs())
    })
    .unwrap();
    let burn = || Workload::new("burn 2").unwrap().start().unwrap();
    let first = burn();
    let pid = first.pid();
    let shown = |state: &str| {
        let metrics = agent.scrape().unwrap();
        let name = "kepler_process_cpu_joules_total";
        assert_eq!(metrics.sum_micro(name, &[]).unwrap(), active(&metrics));
        metrics.sum(name, &[("pid", &pid.to_string()), ("state", state)])
    };
    wait::until("the first has its joules", || shown("running") > 1.0).unwrap();
    first.finish().unwrap();
    let second = wait::until_some("another of that id", || {
        if fs::write(LAST_PID, (pid - 1).to_string()).is_err() {
            return Some(None);
        }
        let next = burn();
        (next.pid() == pid).then_some(Some(next))
    });
    let Some(second) = second.unwrap() else {
        println!("skipped: {LAST_PID} cannot be written here");
        return;
    };
    wait::until("both have their joules", || {
        shown("terminated") > 1.0 && shown("running") > 1.0
    })
    .unwrap();
    second.finish().unwrap();
}

/// What processes, the kernel and everybody else have used, in µJ.
fn active(metrics: &Metrics) -> i128 {
    let units = |kind| {
        let filter = [("kind", kind)];
        let all = metrics.sum_micro("eco_unit_energy_joules_total", &filter);
        all.unwrap()
    };
    units("process") + units("kernel") + units("other")
}

/// Variables of our dashboards, and of Grafana, as they are with everything chosen.
const VARIABLES: [(&str, &str); 6] = [
    ("$__rate_interval", "20s"),
    ("$__range", "10m"),
    ("$node", ".*"),
    ("$namespace", ".*"),
    ("$manager", ".*"),
    ("$user", ".*"),
];

/// The dashboards, by file.
fn dashboards() -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dashboards");
    let files = fs::read_dir(folder).unwrap();
    files
        .map(|file| {
            let path = file.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            let dashboard = serde_json::from_str(&text).unwrap();
            (path.display().to_string(), dashboard)
        })
        .collect()
}

#[test]
fn every_panel_of_every_dashboard_shows_data() {
    needs!(Programs, Root, Cgroup, ExactCpu, Bpf);
    let Some(found) = findings() else { return };
    let mut asked = 0;
    for (file, dashboard) in dashboards() {
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().unwrap() {
                let mut query = target["expr"].as_str().unwrap().to_owned();
                for (variable, value) in VARIABLES {
                    query = query.replace(variable, value);
                }
                assert!(!query.contains('$'), "{file}: {query}");
                let over = format!("last_over_time(({query})[5m:1s])");
                let result = found.store.query(&over).unwrap();
                assert!(!result.is_empty(), "{file}: no data: {query}");
                asked += 1;
            }
        }
    }
    assert!(asked > 30, "{asked} queries");
}

#[test]
fn a_dashboard_is_one_that_grafana_10_takes() {
    let dashboards = dashboards();
    assert_eq!(dashboards.len(), 5);
    for (file, dashboard) in dashboards {
        assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 38, "{file}");
        assert!(dashboard["uid"].as_str().unwrap().starts_with("eco-"));
        let variables = dashboard["templating"]["list"].as_array().unwrap();
        assert_eq!(variables[0]["type"], "datasource", "{file}");
        let mut ids = std::collections::HashSet::new();
        for panel in dashboard["panels"].as_array().unwrap() {
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{file}");
            let unit = panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap();
            let known = [
                "watt",
                "joule",
                "massg",
                "none",
                "s",
                "bytes",
                "percentunit",
            ];
            assert!(known.contains(&unit), "{file}: {unit}");
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{file}");
            let place = &panel["gridPos"];
            let (x, w) = (place["x"].as_u64().unwrap(), place["w"].as_u64().unwrap());
            assert!(x + w <= 24, "{file}");
        }
    }
}

fn prometheus() -> Option<Installed> {
    match Installed::find("prometheus") {
        Ok(installed) => Some(installed),
        Err(why) => {
            println!("skipped: {why}");
            None
        }
    }
}

#[test]
fn promtool_finds_nothing_wrong_with_what_is_served() {
    needs!(Programs, Root, Cgroup, ExactCpu, Bpf);
    let (Some(found), Some(installed)) = (findings(), prometheus()) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("metrics");
    fs::write(&file, &found.text).unwrap();
    let mut promtool = Command::new(installed.path("usr/bin/promtool"));
    promtool.args(["check", "metrics"]);
    promtool.stdin(Stdio::from(fs::File::open(&file).unwrap()));
    let said = promtool.output().unwrap();
    let text = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success() && text.is_empty(), "{text}");
}

#[test]
fn rules_and_alerts_say_what_they_should() {
    let Some(installed) = prometheus() else {
        return;
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    for file in [
        "../deploy/prometheus/eco.rules.yaml",
        "../deploy/prometheus/eco.alerts.yaml",
        "prometheus/rules.test.yaml",
    ] {
        let file = root.join(file);
        fs::copy(&file, folder.path().join(file.file_name().unwrap())).unwrap();
    }
    for arguments in [
        &["check", "rules", "eco.rules.yaml", "eco.alerts.yaml"][..],
        &["test", "rules", "rules.test.yaml"],
    ] {
        let mut promtool = Command::new(installed.path("usr/bin/promtool"));
        let said = promtool
            .args(arguments)
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(said.status.success(), "{said:?}");
    }
}
