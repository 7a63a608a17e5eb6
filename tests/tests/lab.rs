// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Workloads on machines of the power lab: what each is charged against what it truly cost, and
//! what is left of the books when meters misbehave.
//!
//! Two experiments, of which each test states one finding.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on fails where it stands"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::{Mutex, OnceLock},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use eco_tests::{
    agent::{Agent, Setup},
    increase::{Falls, books},
    lab::{
        Lab,
        scenario::Scenario,
        truth::{MeterTruth, Truth},
    },
    launch, length,
    metrics::Metrics,
    needs, programs,
    quiet::{bill_bar, has_learned_idle},
    workload::Workload,
};

/// Long enough to learn what idle costs.
fn quiet_seconds() -> u32 {
    length::of(10, 30)
}

/// CPU seconds of the work that goes on, and how many bursts of 300 children there are beside it.
fn work() -> (u32, u32) {
    length::of((16, 6), (60, 22))
}

/// Longer than until the rough scenario's last event, by some wraps.
fn rough_seconds() -> u32 {
    length::of(22, 60)
}

/// The bar of what is counted, whatever is learned.
const ONE_PERCENT: f64 = 0.01;

/// One experiment's load would be another's noise.
static MACHINE: Mutex<()> = Mutex::new(());

fn scenario(name: &str) -> Result<Scenario> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("lab");
    Scenario::read(&folder.join(name).with_extension("toml"))
}

/// What someone was charged, and what it truly cost, in joules.
#[derive(Clone, Copy, Debug)]
struct Bill {
    charged: f64,
    truth: f64,
}

impl Bill {
    fn error(self) -> f64 {
        self.charged / self.truth - 1.0
    }
}

type Bills = BTreeMap<&'static str, Bill>;

/// `None` where the machine was never quiet.
fn bills() -> Option<&'static Bills> {
    // One that failed is not tried again for each test.
    static BILLS: OnceLock<Result<Option<Bills>>> = OnceLock::new();
    BILLS.get_or_init(two_sockets).as_ref().unwrap().as_ref()
}

fn two_sockets() -> Result<Option<Bills>> {
    let _alone = MACHINE.lock();
    let lab = Lab::start(scenario("two-sockets")?)?;
    let agent = Agent::start(Setup::metered_by(lab.sysfs()))?;
    if !has_learned_idle(quiet_seconds())? {
        return Ok(None);
    }
    let mut jobs = BTreeMap::new();
    for name in ["even", "bursts"] {
        jobs.insert(name, agent.open_job(name, lab.cgroup(name)?)?);
    }
    let even = Workload::new(&format!("burn {}", work().0))?
        .within(lab.cgroup("even")?)?
        .start()?;
    for _ in 0..work().1 {
        let bursts = Workload::new("storm 300 2000")?.within(lab.cgroup("bursts")?)?;
        bursts.run()?;
        thread::sleep(Duration::from_millis(700));
    }
    even.finish()?;
    // Whoever has ended is charged to the last nanosecond by the second tick from now.
    agent.after_ticks(2)?;
    let truth = lab.truth()?;
    let mut bills = BTreeMap::new();
    for (name, job) in jobs {
        let work = truth.workloads.get(name).context("no such workload")?;
        let bill = Bill {
            charged: job.close()?.package_joules,
            truth: work.joules_of("package-"),
        };
        println!("{name}: {bill:?}, {:.3} s of CPU time", work.cpu_seconds);
        bills.insert(name, bill);
    }
    Ok(Some(bills))
}

fn assert_charged_what_it_cost(name: &str) {
    let Some(bills) = bills() else {
        println!("skipped: others keep this machine busy, so idle cannot be learned");
        return;
    };
    let bill = bills[name];
    println!("{name}: {bill:?}: {:+.4}", bill.error());
    assert!(bill.truth > 10.0, "{bill:?}");
    assert!(
        bill.error().abs() <= bill_bar(),
        "off by {:+.4}: {bill:?}",
        bill.error()
    );
}

#[test]
fn work_that_goes_on_is_charged_what_it_cost_on_both_sockets() {
    needs!(Programs, Root, Cgroup, Bpf, ExactCpu, TwoCpus);
    assert_charged_what_it_cost("even");
}

#[test]
fn work_in_bursts_of_short_lives_is_charged_what_it_cost_on_both_sockets() {
    needs!(Programs, Root, Cgroup, Bpf, ExactCpu, TwoCpus);
    assert_charged_what_it_cost("bursts");
}

/// One look at the agent on the rough machine.
struct Look {
    /// Just before and just after it.
    truths: [Truth; 2],
    metrics: Metrics,
}

impl Look {
    fn new(lab: &Lab, agent: &Agent) -> Result<Self> {
        let before = lab.truth()?;
        let metrics = agent.scrape()?;
        let truths = [before, lab.truth()?];
        Ok(Self { truths, metrics })
    }

    fn joules(&self, device: &str) -> f64 {
        let filter = [("domain", "package"), ("device", device)];
        self.metrics.sum("eco_node_energy_joules_total", &filter)
    }

    fn truth(&self, at: usize, device: &str) -> &MeterTruth {
        &self.truths[at].meters[device]
    }
}

const PACKAGES: [&str; 2] = ["package-0", "package-1"];

fn looks() -> &'static [Look] {
    static LOOKS: OnceLock<Result<Vec<Look>>> = OnceLock::new();
    LOOKS.get_or_init(rough).as_ref().unwrap()
}

fn rough() -> Result<Vec<Look>> {
    let _alone = MACHINE.lock();
    let lab = Lab::start(scenario("rough")?)?;
    let agent = Agent::start(Setup::metered_by(lab.sysfs()))?;
    agent.after_ticks(1)?;
    let mut looks = vec![Look::new(&lab, &agent)?];
    let mut work = Vec::new();
    for name in ["a", "b"] {
        let burn = Workload::new(&format!("burn {}", 2 * rough_seconds()))?;
        work.push(burn.within(lab.cgroup(name)?)?.start()?);
    }
    while lab.truth()?.seconds < f64::from(rough_seconds()) {
        thread::sleep(Duration::from_millis(300));
        looks.push(Look::new(&lab, &agent)?);
    }
    drop(work);
    agent.after_ticks(2)?;
    looks.push(Look::new(&lab, &agent)?);
    Ok(looks)
}

/// What the hottest package of the rough machine draws in so many ticks, in joules.
fn ticks(count: f64) -> f64 {
    let cpus = thread::available_parallelism().map_or(1.0, |cpus| usize::from(cpus) as f64);
    let watts = scenario("rough").map_or(0.0, |rough| {
        let of_zone = rough.zone.iter().map(|zone| {
            zone.idle_watts * (1.0 + rough.noise) + zone.share * rough.rest_watts * cpus
        });
        of_zone.fold(0.0, f64::max)
    });
    count * Setup::default().interval.as_secs_f64() * watts
}

#[test]
fn the_rough_machine_was_rough() {
    needs!(Programs, Root, Cgroup, ExactCpu);
    let last = looks().last().unwrap();
    let mut befell: Vec<&str> = Vec::new();
    for package in PACKAGES {
        let truth = last.truth(1, package);
        println!(
            "{package}: {truth:?}, charged {:.3} J",
            last.joules(package)
        );
        assert!(truth.wraps >= 2, "{package}: {truth:?}");
        befell.extend(truth.events.iter().map(|event| event.what.as_str()));
    }
    assert_eq!(befell, ["reset", "freeze", "thaw", "remove", "add"]);
}

#[test]
fn whatever_meters_do_the_books_close_at_any_scrape() {
    needs!(Programs, Root, Cgroup, ExactCpu);
    for Look { metrics, .. } in looks() {
        let error = metrics.sum_micro("eco_conservation_error_joules", &[]);
        assert_eq!(error.unwrap(), 0);
        for (domain, node, parts) in books(metrics).unwrap() {
            // What a number on paper is rounded to.
            assert!(
                (node - parts).abs() <= 1_000,
                "{domain}: {node} is not {parts}"
            );
        }
    }
}

#[test]
fn whatever_meters_do_no_counter_falls_or_is_negative() {
    needs!(Programs, Root, Cgroup, ExactCpu);
    let mut falls = Falls::default();
    for Look { metrics, .. } in looks() {
        falls.observe(metrics);
        for sample in metrics.iter().filter(|sample| metrics.is_counter(sample)) {
            assert!(sample.value() >= 0.0, "{sample}");
        }
    }
    assert!(falls.found().is_empty(), "{:#?}", falls.found());
}

#[test]
fn whatever_meters_do_nothing_is_counted_that_was_not_drawn() {
    needs!(Programs, Root, Cgroup, ExactCpu);
    // The lab is older than the agent, so that the truth is always ahead.
    for look in looks() {
        for package in PACKAGES {
            let (charged, truth) = (look.joules(package), look.truth(1, package).joules);
            assert!(
                charged <= truth * (1.0 + ONE_PERCENT),
                "{package}: {charged:.3} J of {truth:.3} J"
            );
        }
    }
}

#[test]
fn only_what_was_drawn_around_a_reset_is_lost() {
    needs!(Programs, Root, Cgroup, ExactCpu);
    let (first, last) = (looks().first().unwrap(), looks().last().unwrap());
    for package in PACKAGES {
        let drawn = last.truth(0, package).joules - first.truth(1, package).joules;
        let charged = last.joules(package) - first.joules(package);
        let events = &last.truth(1, package).events;
        let resets = events.iter().filter(|event| event.what == "reset").count();
        // Nobody can know what was drawn from the last look before a reset to the next after
        // it; and either end of the span is a tick long.
        let most = drawn * ONE_PERCENT + ticks(2.0 + 2.0 * resets as f64);
        let missing = drawn - charged;
        println!("{package}: {missing:+.3} J of {drawn:.3} J are missing, {resets} resets");
        assert!(missing <= most, "{package}: {missing:.3} J are missing");
    }
}

fn classes() -> BTreeSet<OsString> {
    let entries = fs::read_dir("/sys/class").unwrap();
    entries.map(|entry| entry.unwrap().file_name()).collect()
}

/// The lab as a person starts it.
fn lab(arguments: &[&str]) -> Command {
    let mut command = Command::new(programs::workload().with_file_name("lab"));
    command.args(arguments);
    command
}

#[test]
fn any_program_sees_the_meters_and_the_truth_is_written_at_the_end() {
    needs!(Root, Cgroup, ExactCpu);
    let before = classes();
    let folder = tempfile::tempdir().unwrap();
    let truth = folder.path().join("truth.json");
    let script = "cat $ECO_SYSFS/class/powercap/intel-rapl:1/name; \
                  cat /sys/class/powercap/intel-rapl:0:1/name /sys/class/hwmon/hwmon0/name; \
                  test -e /sys/class/net/lo && echo lo; exit 7";
    let output = lab(&["two-sockets", "--over-sys", "--truth"])
        .arg(&truth)
        .args(["--", "sh", "-c", script])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{said}");
    let truth: Truth = serde_json::from_str(&fs::read_to_string(truth).unwrap()).unwrap();
    assert!(truth.meters["psys"].joules > 0.0);
    if said.contains("skipped") {
        println!("skipped: {said}");
        return;
    }
    let seen = String::from_utf8_lossy(&output.stdout);
    let seen: Vec<&str> = seen.lines().collect();
    assert_eq!(seen[..3], ["package-1", "dram", "ibmpowernv"], "{said}");
    let has_net = Path::new("/sys/class/net/lo").exists();
    assert_eq!(seen.contains(&"lo"), has_net, "other classes stay");
    assert_eq!(classes(), before, "nobody else sees any of it");
}

#[test]
fn stopped_before_its_time_it_writes_the_truth_and_leaves_nothing() {
    needs!(Root, Cgroup, ExactCpu);
    let folder = tempfile::tempdir().unwrap();
    let truth = folder.path().join("truth.json");
    let mut lab = lab(&["gpu-node", "--seconds", "3600", "--truth"])
        .arg(&truth)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut printed = BufReader::new(lab.stdout.take().unwrap()).lines();
    let first = printed.next().unwrap().unwrap();
    let sysfs = Path::new(first.strip_prefix("ECO_SYSFS=").unwrap()).to_owned();
    assert!(sysfs.join("class/powercap").is_dir());
    launch::signal(&lab, libc::SIGTERM);
    assert!(lab.wait().unwrap().success());
    let truth: Truth = serde_json::from_str(&fs::read_to_string(truth).unwrap()).unwrap();
    assert!(!sysfs.exists());
    for pid in truth.gpus.iter().flat_map(|gpu| &gpu.pids) {
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "{pid}");
    }
}

#[test]
fn a_scenario_that_is_none_is_refused_with_its_name() {
    let output = lab(&["no-such-machine"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{said}");
    assert!(said.contains("no-such-machine"), "{said}");
    assert!(said.contains("two-sockets"), "{said}");
}
