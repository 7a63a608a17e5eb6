// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An agent that is killed and started again, over and over, while the machine is busy.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on fails where it stands"
)]

use std::{
    sync::{Mutex, OnceLock},
    thread,
    time::Duration,
};

use anyhow::Result;
use eco_tests::{
    agent::{Agent, Setup},
    increase::{Falls, books, carbon_books},
    length,
    metrics::Metrics,
    needs,
    power::{IDLE_WATTS, PowerTree, WATTS_PER_CPU},
    quiet::has_been_quiet,
    workload::Workload,
};

fn kills() -> u32 {
    length::of(10, 20)
}

/// Long enough to learn what idle costs.
const QUIET_SECONDS: u32 = 8;

/// What concerns an agent's own life starts anew with it, as every process's does.
fn outlives_the_agent(metric: &str) -> bool {
    [
        "eco_node_",
        "eco_idle_",
        "eco_departed_",
        "eco_unattributed_",
        "eco_unit_",
        "eco_job_",
        "eco_carbon_uncovered_",
    ]
    .iter()
    .chain(&["eco_agent_energy_"])
    .any(|prefix| metric.starts_with(prefix))
}

/// Joules of the package over all lives of the agent, and the truth.
#[derive(Clone, Debug, Default)]
struct Findings {
    was_quiet: bool,
    falls: Vec<String>,
    books: Vec<(String, i128, i128)>,
    carbon_books: Vec<(String, f64, f64)>,
    node: f64,
    truth: f64,
    idle: f64,
    idle_truth_while_up: f64,
    downtime: f64,
    /// What was drawn from each kill to each start, and from each kill to each first answer.
    down_least: f64,
    down_most: f64,
}

fn findings() -> &'static Findings {
    // One that failed is not tried again for each test.
    static FINDINGS: OnceLock<Result<Findings>> = OnceLock::new();
    let findings = FINDINGS.get_or_init(experiment).as_ref().unwrap();
    println!("{findings:#?}");
    findings
}

fn package(metrics: &Metrics, name: &str) -> f64 {
    metrics.sum(name, &[("domain", "package")])
}

/// One test's load would be another's loss of quiet.
static MACHINE: Mutex<()> = Mutex::new(());

fn experiment() -> Result<Findings> {
    let _alone = MACHINE.lock();
    let tree = PowerTree::new()?;
    let truth = || Ok::<f64, anyhow::Error>(tree.truth_uj()? as f64 / 1e6);
    let idle_truth = || tree.idle_truth_uj() as f64 / 1e6;
    let mut setup = Setup::metered_by(tree.sysfs());
    setup.variables.push(("ECO_CARBON__ZONE", "DE".to_owned()));
    let mut agent = Agent::start(setup)?;
    let was_quiet = has_been_quiet(QUIET_SECONDS)?;
    let _load = [
        Workload::new("churn 600")?.start()?,
        Workload::new("burn 600")?.start()?,
    ];
    agent.after_ticks(8)?;

    let mut findings = Findings {
        was_quiet,
        ..Findings::default()
    };
    let mut falls = Falls::default();
    let first = agent.scrape()?;
    let (truth_before, idle_before) = (truth()?, idle_truth());
    let mut idle_while_down = 0.0;
    for kill in 0..kills() {
        for _ in 0..3 {
            falls.observe_where(&agent.scrape()?, outlives_the_agent);
            agent.after_ticks(1)?;
        }
        // At another point of the tick each time.
        thread::sleep(Duration::from_millis(u64::from(kill) * 23));
        falls.observe_where(&agent.scrape()?, outlives_the_agent);
        agent.kill()?;
        let (killed, idle_killed) = (truth()?, idle_truth());
        thread::sleep(Duration::from_millis(400));
        findings.down_least += truth()? - killed;
        agent.restart()?;
        findings.down_most += truth()? - killed;
        idle_while_down += idle_truth() - idle_killed;
    }
    agent.after_ticks(2)?;
    let last = agent.scrape()?;
    falls.observe_where(&last, outlives_the_agent);
    findings.truth = truth()? - truth_before;
    findings.idle_truth_while_up = idle_truth() - idle_before - idle_while_down;
    let grown = |name| package(&last, name) - package(&first, name);
    findings.node = grown("eco_node_energy_joules_total");
    findings.idle = grown("eco_idle_energy_joules_total");
    let downtime = [("reason", "downtime")];
    findings.downtime = last.sum("eco_unattributed_energy_joules_total", &downtime);
    findings.falls = falls.found().to_vec();
    findings.books = books(&last)?;
    findings.carbon_books = carbon_books(&last);
    Ok(findings)
}

/// What the machine draws in so many of the experiment's ticks, at most.
fn ticks(count: f64) -> f64 {
    let cpus = thread::available_parallelism().map_or(1.0, |cpus| usize::from(cpus) as f64);
    count * Setup::default().interval.as_secs_f64() * (IDLE_WATTS + WATTS_PER_CPU * cpus)
}

#[test]
fn no_counter_falls_when_the_agent_is_killed() {
    needs!(Programs, Root, ExactCpu);
    let falls = &findings().falls;
    assert!(falls.is_empty(), "{falls:#?}");
}

#[test]
fn no_joule_is_lost_or_counted_twice_by_a_kill() {
    needs!(Programs, Root, ExactCpu);
    let findings = findings();
    let off = findings.node - findings.truth;
    assert!(
        off.abs() <= ticks(2.0),
        "{off:+.3} J of {:.1} J",
        findings.truth
    );
    for (domain, node, parts) in &findings.books {
        assert!(
            (node - parts).abs() <= 1_000,
            "{domain}: {node} is not {parts}"
        );
    }
}

#[test]
fn no_gram_is_lost_or_counted_twice_by_a_kill() {
    needs!(Programs, Root, ExactCpu);
    let findings = findings();
    assert!(!findings.carbon_books.is_empty());
    for ((domain, joules, _), (_, node, parts)) in findings.books.iter().zip(&findings.carbon_books)
    {
        assert!(
            (node - parts).abs() <= 1e-9 * node,
            "{domain}: {node} g is not {parts} g"
        );
        // A zone's average holds at any time, also while no agent ran.
        let g_per_kwh = node / (*joules as f64 / 1e6) * 3.6e6;
        assert!((g_per_kwh / 380.95 - 1.0).abs() < 1e-6, "{g_per_kwh} g/kWh");
    }
}

#[test]
fn what_was_drawn_while_no_agent_ran_is_nobodys_and_says_so() {
    needs!(Programs, Root, ExactCpu);
    let findings = findings();
    // The last tick before a kill is not known either.
    let most = findings.down_most + ticks(f64::from(kills()));
    assert!(
        (findings.down_least * 0.99..=most).contains(&findings.downtime),
        "{:.2} J, not from {:.2} to {most:.2}",
        findings.downtime,
        findings.down_least
    );
}

#[test]
fn idle_does_not_take_what_was_drawn_while_no_agent_ran() {
    needs!(Programs, Root, ExactCpu);
    let findings = findings();
    if !findings.was_quiet {
        println!("skipped: others keep this machine busy, so idle cannot be learned");
        return;
    }
    let most = findings.idle_truth_while_up * 1.05;
    assert!(
        findings.idle <= most,
        "{:.2} J idle of at most {most:.2}",
        findings.idle
    );
    assert!(findings.idle > 0.0);
}

#[test]
fn an_agent_that_is_asked_to_stop_keeps_everything_and_leaves_cleanly() {
    needs!(Programs, Root, ExactCpu);
    let _alone = MACHINE.lock();
    let tree = PowerTree::new().unwrap();
    let mut agent = Agent::start(Setup::metered_by(tree.sysfs())).unwrap();
    let _load = Workload::new("churn 600").unwrap().start().unwrap();
    agent.after_ticks(6).unwrap();
    let before = agent.scrape().unwrap();
    let status = agent.stop().unwrap();
    assert_eq!(status.code(), Some(0), "{}", agent.log());
    assert!(!agent.socket().exists(), "the socket is left behind");
    agent.restart().unwrap();
    let after = agent.scrape().unwrap();
    let mut falls = Falls::default();
    falls.observe_where(&before, outlives_the_agent);
    falls.observe_where(&after, outlives_the_agent);
    assert!(falls.found().is_empty(), "{:#?}", falls.found());
    let filter = [("reason", "downtime")];
    assert!(after.sum("eco_unattributed_energy_joules_total", &filter) > 0.0);
}
