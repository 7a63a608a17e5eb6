// SPDX-License-Identifier: Apache-2.0 OR MIT
//! GPUs whose truth is known: the agent loads a driver that goes by a script.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails where it stands"
)]

use std::{
    fmt::Write as _,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use eco_nvml_standin::lab::Lab;
use eco_tests::{
    agent::{Agent, Setup},
    http, length,
    metrics::Metrics,
    needs, wait,
};
use serde_json::{Value, json};

/// Idle power is learned in this time.
const QUIET_SECONDS: f64 = 8.0;

/// Processes that do nothing at all on the CPU: what they cost is on the GPUs.
struct Sleepers(Vec<Child>);

impl Sleepers {
    fn new(number: usize) -> Result<Self> {
        let mut sleepers = Self(Vec::new());
        for _ in 0..number {
            let child = Command::new("sleep")
                .arg("600")
                .stdin(Stdio::null())
                .spawn()?;
            sleepers.0.push(child);
        }
        Ok(sleepers)
    }

    fn pid(&self, at: usize) -> u32 {
        self.0[at].id()
    }
}

impl Drop for Sleepers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// An agent on scripted GPUs. No other meter: sysfs is empty, and the model stands for the CPU.
struct Node {
    agent: Agent,
    _sysfs: tempfile::TempDir,
    _lab: Lab,
}

impl Node {
    fn new(script: &str) -> Result<Self> {
        Self::ticking(script, Setup::default().interval)
    }

    fn ticking(script: &str, interval: Duration) -> Result<Self> {
        let lab = Lab::new(script)?;
        let sysfs = tempfile::tempdir()?;
        let library = lab.library().to_string_lossy().into_owned();
        let agent = Agent::start(Setup {
            interval,
            variables: vec![("ECO_NVML__LIBRARY", library)],
            ..Setup::metered_by(sysfs.path())
        })?;
        Ok(Self {
            agent,
            _sysfs: sysfs,
            _lab: lab,
        })
    }

    fn open_job(&self, pid: u32) -> Result<String> {
        let request = json!({ "pid": pid });
        let answer = http::ask(&self.agent.socket(), "POST", "/v1/jobs", Some(&request))?;
        let opened = answer.json()?;
        let id = opened["id"].as_str().context("a job without an id")?;
        Ok(id.to_owned())
    }

    fn close_job(&self, id: &str) -> Result<f64> {
        let path = format!("/v1/jobs/{id}");
        let answer = http::ask(&self.agent.socket(), "DELETE", &path, None)?;
        let closed = answer.json()?;
        Ok(closed["energy_joules"]["gpu"].as_f64().unwrap_or(0.0))
    }

    fn gpu(&self, device: &str) -> Result<Value> {
        let status = self.agent.status()?;
        let meters = status["meters"].as_array().context("no meters")?;
        let mut gpus = meters.iter().filter(|meter| meter["domain"] == "gpu");
        let found = gpus.find(|meter| meter["device"] == device);
        found.cloned().context("no such GPU")
    }

    fn quality(&self, device: &str) -> String {
        let gpu = self.gpu(device).unwrap_or_default();
        gpu["quality"].as_str().unwrap_or_default().to_owned()
    }

    /// Every joule is in one place, to the microjoule, whatever happened.
    fn assert_conserved(&self) -> Result<Metrics> {
        let metrics = self.agent.scrape()?;
        for sample in metrics.select("eco_conservation_error_joules", &[]) {
            assert_eq!(sample.micro()?, 0, "{}", sample.series());
        }
        let gpu = [("domain", "gpu")];
        let node = metrics.sum_micro("eco_node_energy_joules_total", &gpu)?;
        let mut parts = 0;
        for kind in ["process", "kernel", "other"] {
            let filter = [("domain", "gpu"), ("kind", kind)];
            parts += metrics.sum_micro("eco_unit_energy_joules_total", &filter)?;
        }
        for name in ["idle", "departed", "unattributed"] {
            let name = format!("eco_{name}_energy_joules_total");
            parts += metrics.sum_micro(&name, &gpu)?;
        }
        assert_eq!(parts, node);
        Ok(metrics)
    }
}

/// What a process does in the script.
struct Part {
    pid: u32,
    watts: f64,
    sm: u32,
    instance: Option<u32>,
}

fn script_gpu(script: &mut String, head: &str, parts: &[Part], start: f64, end: f64) -> Result<()> {
    writeln!(script, "[[gpu]]\n{head}")?;
    for part in parts {
        writeln!(
            script,
            "[[gpu.process]]\npid = {}\nstart = {start:.1}\nend = {end:.1}\nwatts = {:.2}\nsm = {}",
            part.pid, part.watts, part.sm
        )?;
        if let Some(instance) = part.instance {
            writeln!(script, "gpu_instance = {instance}")?;
        }
    }
    Ok(())
}

/// SM utilisation in percent of each of a GPU's eight processes.
const SM: [u32; 8] = [2, 4, 6, 8, 10, 14, 20, 26];

/// MIG instances by id and slices, and which one each of the eight processes is in.
const INSTANCES: [(u32, u32); 3] = [(1, 4), (5, 2), (6, 1)];
const HOMES: [u32; 8] = [1, 1, 1, 1, 5, 5, 6, 6];

/// Four GPUs with eight processes each; the last is cut by MIG.
fn four_gpus(sleepers: &Sleepers, end: f64) -> Result<(String, Vec<Part>)> {
    let (mut script, mut all) = (String::new(), Vec::new());
    for gpu in 0..4u32 {
        let pid = |at: usize| sleepers.pid(gpu as usize * 8 + at);
        // What a percent costs is the GPU's own; on one GPU it costs everyone the same.
        let watts_per_percent = 1.5 + f64::from(gpu);
        let mut head = format!("idle_watts = {}\nsample_ms = 200", 40 + 10 * gpu);
        let mut parts = Vec::new();
        if gpu < 3 {
            parts.extend((0..8).map(|at| Part {
                pid: pid(at),
                watts: watts_per_percent * f64::from(SM[at]),
                sm: SM[at],
                instance: None,
            }));
        } else {
            head += "\ngpm = true";
            for (id, slices) in INSTANCES {
                write!(
                    head,
                    "\n[[gpu.instance]]\ngpu_instance = {id}\nslices = {slices}"
                )?;
            }
            for (at, &home) in HOMES.iter().enumerate() {
                let slices = INSTANCES.iter().find(|i| i.0 == home).unwrap().1;
                // Those in one instance share it alike, and leave a part of it idle.
                let neighbours = HOMES.iter().filter(|h| **h == home).count() as u32;
                let sm = 20 * home.min(4) / neighbours;
                parts.push(Part {
                    pid: pid(at),
                    watts: 0.6 * f64::from(slices * sm),
                    sm,
                    instance: Some(home),
                });
            }
        }
        script_gpu(&mut script, &head, &parts, QUIET_SECONDS, end)?;
        all.extend(parts);
    }
    Ok((script, all))
}

#[test]
fn each_of_eight_processes_on_each_of_four_gpus_pays_for_itself() {
    needs!(Programs, Root);
    let busy_seconds = length::of(24.0, 60.0);
    let sleepers = Sleepers::new(32).unwrap();
    let end = QUIET_SECONDS + busy_seconds;
    let (script, parts) = four_gpus(&sleepers, end).unwrap();
    let node = Node::new(&script).unwrap();
    let jobs: Vec<String> = parts
        .iter()
        .map(|part| node.open_job(part.pid).unwrap())
        .collect();
    thread::sleep(Duration::from_secs_f64(end + 2.0));
    for gpu in 0..4 {
        println!("{}", node.gpu(&gpu.to_string()).unwrap());
    }
    let mut worst = 0.0f64;
    for (part, job) in parts.iter().zip(&jobs) {
        let truth = part.watts * busy_seconds;
        let joules = node.close_job(job).unwrap();
        let error = joules / truth - 1.0;
        println!("{:?} {truth:8.1} J: {error:+.4}", part.instance);
        worst = worst.max(error.abs());
    }
    let metrics = node.assert_conserved().unwrap();
    let policies = metrics.select("eco_gpu_split_info", &[]);
    let policies: Vec<_> = policies
        .filter_map(|sample| sample.label("policy"))
        .collect();
    assert_eq!(policies, ["measured", "measured", "measured", "mig-slice"]);
    assert!(worst <= 0.02, "off by {worst:.4}");
}

#[test]
fn a_gpu_that_is_lost_and_comes_back_loses_no_joule() {
    needs!(Programs, Root);
    let sleepers = Sleepers::new(1).unwrap();
    let part = Part {
        pid: sleepers.pid(0),
        watts: 100.0,
        sm: 50,
        instance: None,
    };
    let mut script = String::new();
    script_gpu(&mut script, "idle_watts = 50.0", &[part], 0.0, 12.0).unwrap();
    script += "[[gpu]]\nidle_watts = 30.0\n\
               [[fault]]\ngpu = 0\nat = 3.0\nseconds = 3.0\nwhat = \"lost\"\n";
    let node = Node::new(&script).unwrap();
    wait::until("the GPU is lost", || node.quality("0").contains("lost")).unwrap();
    node.assert_conserved().unwrap();
    let other = node.gpu("1").unwrap()["joules"].as_f64().unwrap();
    wait::until("the GPU is back", || node.quality("0") == "measured").unwrap();
    assert!(node.gpu("1").unwrap()["joules"].as_f64().unwrap() > other);
    thread::sleep(Duration::from_secs(9));
    let metrics = node.assert_conserved().unwrap();
    let joules = |device| metrics.sum("eco_node_energy_joules_total", &[("device", device)]);
    // The second has drawn 30 W all the time; so the first has drawn 50 W as long, and 100 W for
    // twelve seconds but for the moment before the agent's first look.
    let seconds = joules("1") / 30.0;
    let truth = 50.0 * seconds + 100.0 * 12.0;
    let error = joules("0") / truth - 1.0;
    println!("{:.1} J of {truth:.1}: {error:+.4}", joules("0"));
    assert!((-0.05..=0.01).contains(&error), "{error:+.4}");
}

#[test]
fn a_driver_call_that_hangs_holds_up_neither_the_tick_nor_any_other_meter() {
    needs!(Programs, Root);
    let script = "
        [[gpu]]
        idle_watts = 50.0
        [[gpu]]
        idle_watts = 50.0
        [[fault]]
        gpu = 0
        call = \"nvmlDeviceGetProcessUtilization\"
        at = 2.0
        seconds = 6.0
        what = \"hang\"";
    let node = Node::new(script).unwrap();
    wait::until("the driver hangs", || node.quality("0").contains("hangs")).unwrap();
    let late = |metrics: &Metrics, device| {
        metrics.sum("eco_gpu_late_answers_total", &[("device", device)])
    };
    let joules = |device: &str| node.gpu(device).unwrap()["joules"].as_f64().unwrap();
    let (ill, well) = (joules("0"), joules("1"));
    // Ticks go on meanwhile, and the other GPU is read in each of them.
    node.agent.after_ticks(8).unwrap();
    assert!(node.quality("0").contains("hangs"));
    assert_eq!(node.quality("1"), "measured");
    assert_eq!(joules("0"), ill);
    assert!(joules("1") > well);
    let metrics = node.assert_conserved().unwrap();
    assert!(late(&metrics, "0") >= 8.0);
    wait::until("it answers again", || node.quality("0") == "measured").unwrap();
    node.agent.after_ticks(2).unwrap();
    // What it drew meanwhile is counted when it answers.
    let error = joules("0") / joules("1") - 1.0;
    assert!(error.abs() < 0.05, "{error:+.4}");
    let metrics = node.assert_conserved().unwrap();
    assert!(late(&metrics, "0") > late(&metrics, "1"));
}

#[test]
fn a_process_that_ends_between_two_ticks_pays_for_its_last_moments() {
    needs!(Programs, Root);
    const WATTS: f64 = 100.0;
    let mut sleepers = Sleepers::new(1).unwrap();
    let part = Part {
        pid: sleepers.pid(0),
        watts: WATTS,
        sm: 80,
        instance: None,
    };
    let mut script = String::new();
    script_gpu(&mut script, "idle_watts = 20.0", &[part], 4.0, 600.0).unwrap();
    let node = Node::ticking(&script, Duration::from_secs(2)).unwrap();
    // A job on this program's children: they end before it does.
    let job = node.open_job(std::process::id()).unwrap();
    let joules = || {
        let shown = node.agent.json(&format!("/v1/jobs/eco/{job}")).unwrap();
        shown["energy_joules"]["gpu"].as_f64().unwrap_or(0.0)
    };
    wait::until("it has paid", || joules() > WATTS).unwrap();
    let ticks = node.agent.ticks().unwrap();
    node.agent.after_ticks(1).unwrap();
    let before = joules();
    thread::sleep(Duration::from_secs(1));
    let mut sleeper = sleepers.0.remove(0);
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    node.agent.after_ticks(1).unwrap();
    let after = joules();
    println!("{before:.1} J, then {after:.1} J");
    // No tick came in between, and half a tick is 100 J.
    assert_eq!(node.agent.ticks().unwrap(), ticks + 2);
    assert!(after - before > WATTS / 2.0, "{before} {after}");
    node.assert_conserved().unwrap();
}

#[test]
fn a_rule_is_told_from_a_measurement() {
    needs!(Programs, Root);
    let sleepers = Sleepers::new(2).unwrap();
    let parts = [0, 1].map(|at| Part {
        pid: sleepers.pid(at),
        watts: 50.0,
        sm: 40,
        instance: None,
    });
    let mut script = String::new();
    let head = "idle_watts = 20.0\nprocess_utilization = false\nenergy_counter = false";
    script_gpu(&mut script, head, &parts, 0.0, 100.0).unwrap();
    let node = Node::new(&script).unwrap();
    let jobs = [0, 1].map(|at| node.open_job(sleepers.pid(at)).unwrap());
    node.agent.after_ticks(16).unwrap();
    let metrics = node.assert_conserved().unwrap();
    assert_eq!(
        metrics.labels("eco_gpu_split_info", "policy"),
        ["time-sliced"]
    );
    let [one, other] = jobs.map(|job| node.close_job(&job).unwrap());
    assert!(one > 1.0, "{one}");
    // Closed one tick apart at the most.
    assert!(other / one < 1.5 && one / other < 1.5, "{one} {other}");
}

#[test]
fn a_driver_that_keeps_too_few_samples_is_told_from_one_that_measures_all() {
    needs!(Programs, Root);
    let sleepers = Sleepers::new(2).unwrap();
    let parts = [(0, 30), (1, 10)].map(|(at, sm)| Part {
        pid: sleepers.pid(at),
        watts: 3.0 * f64::from(sm),
        sm,
        instance: None,
    });
    let mut script = String::new();
    // 0.6 s are kept of the 2 s between two looks.
    let head = "idle_watts = 20.0\nsample_ms = 200\nsamples_kept = 3";
    let start = 2.0 * QUIET_SECONDS;
    let seconds = length::of(24.0, 60.0);
    script_gpu(&mut script, head, &parts, start, start + seconds).unwrap();
    let node = Node::ticking(&script, Duration::from_secs(2)).unwrap();
    let jobs = [0, 1].map(|at| node.open_job(sleepers.pid(at)).unwrap());
    let policy = || {
        let metrics = node.assert_conserved().unwrap();
        let policies = metrics.labels("eco_gpu_split_info", "policy");
        policies.join(" ")
    };
    wait::until("it is told", || policy() == "measured-in-part").unwrap();
    wait::until("all is measured again", || policy() == "measured").unwrap();
    for (part, job) in parts.iter().zip(&jobs) {
        let truth = part.watts * seconds;
        let joules = node.close_job(job).unwrap();
        let error = joules / truth - 1.0;
        println!("{joules:.1} J of {truth:.1} J: {error:+.4}");
        // The tick in which they begin and the one in which they end.
        assert!(error.abs() <= 0.06, "off by {error:+.4}");
    }
}

#[test]
fn power_samples_that_the_driver_dropped_are_told_and_not_made_up() {
    needs!(Programs, Root);
    let script = "
        [[gpu]]
        idle_watts = 100.0
        energy_counter = false
        sample_ms = 100
        samples_kept = 5";
    let node = Node::ticking(script, Duration::from_secs(3)).unwrap();
    wait::until("the gap is told", || node.quality("0") == "reset").unwrap();
    let begun = std::time::Instant::now();
    let joules = || node.gpu("0").unwrap()["joules"].as_f64().unwrap();
    let before = joules();
    node.agent.after_ticks(3).unwrap();
    let drawn = 100.0 * (begun.elapsed().as_secs_f64() + 3.0);
    let counted = joules() - before;
    println!("{counted:.1} J of at most {drawn:.1} J");
    assert!(
        counted > 0.0 && counted < drawn / 2.0,
        "{counted} of {drawn}"
    );
    node.assert_conserved().unwrap();
}

#[test]
fn nonsense_from_the_driver_is_no_use_and_no_energy() {
    needs!(Programs, Root);
    let sleepers = Sleepers::new(1).unwrap();
    let part = Part {
        pid: sleepers.pid(0),
        watts: 50.0,
        sm: 40,
        instance: None,
    };
    let mut script = String::new();
    let head = "idle_watts = 20.0\nname = [255, 254]";
    script_gpu(&mut script, head, &[part], 0.0, 100.0).unwrap();
    script += "[[fault]]\nwhat = \"garbage\"\n\
               [[fault]]\nwhat = \"unknown\"\nat = 2.0\nseconds = 1.0\n\
               [[fault]]\nwhat = \"reset\"\nat = 4.0\n";
    let node = Node::new(&script).unwrap();
    wait::until("the value is unknown", || {
        node.quality("0").contains("does not know")
    })
    .unwrap();
    thread::sleep(Duration::from_secs(4));
    node.agent.after_ticks(2).unwrap();
    let metrics = node.assert_conserved().unwrap();
    let joules = metrics.sum("eco_node_energy_joules_total", &[("domain", "gpu")]);
    // 70 W for some seven seconds, and never 2^64 of anything.
    assert!(joules > 100.0 && joules < 7000.0, "{joules}");
    let other = [("kind", "other"), ("domain", "gpu")];
    assert_eq!(metrics.sum("eco_unit_cpu_seconds_total", &other), 0.0);
}
