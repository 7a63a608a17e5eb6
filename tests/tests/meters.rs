// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Meters that fail, freeze and lie: said so, and no joule is lost or counted twice.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails where it stands"
)]

use std::{fs, path::Path};

use eco_tests::{
    agent::{Agent, Setup},
    increase::{Falls, books},
    metrics::Metrics,
    needs,
    power::{IDLE_WATTS, PowerTree, WATTS_PER_CPU},
    wait,
};
use serde_json::Value;

/// An agent on a meter, watched for counters that fall.
struct Watched {
    tree: PowerTree,
    agent: Agent,
    falls: Falls,
    before: (f64, f64),
}

impl Watched {
    fn new() -> Self {
        let tree = PowerTree::new().unwrap();
        let agent = Agent::start(Setup::metered_by(tree.sysfs())).unwrap();
        let mut watched = Self {
            tree,
            agent,
            falls: Falls::default(),
            before: (0.0, 0.0),
        };
        watched.ticks(2);
        watched.before = watched.totals();
        watched
    }

    /// Lets some ticks pass, with a look at every counter after each.
    fn ticks(&mut self, count: u64) {
        for _ in 0..count {
            self.agent.after_ticks(1).unwrap();
            self.scrape();
        }
    }

    fn scrape(&mut self) -> Metrics {
        let metrics = self.agent.scrape().unwrap();
        self.falls.observe(&metrics);
        metrics
    }

    /// The node's counter and the truth, in joules.
    fn totals(&mut self) -> (f64, f64) {
        let node = self
            .scrape()
            .sum("eco_node_energy_joules_total", &[("domain", "package")]);
        (node, self.tree.truth_uj().unwrap() as f64 / 1e6)
    }

    fn meter(&self) -> Value {
        self.agent.status().unwrap()["meters"][0].clone()
    }

    fn until_quality(&self, what: &str, wanted: impl Fn(&str) -> bool) {
        let is = || self.meter()["quality"].as_str().is_some_and(&wanted);
        wait::until(what, is).unwrap_or_else(|e| panic!("{e:#}: {}", self.meter()));
    }

    /// Nothing fell, the books close, and of what was drawn since the start all but `lost`
    /// joules are there.
    fn assert_sound(mut self, lost: f64) {
        self.ticks(2);
        let (node, truth) = self.totals();
        let metrics = self.scrape();
        assert!(self.falls.found().is_empty(), "{:#?}", self.falls.found());
        for (domain, node, parts) in books(&metrics).unwrap() {
            assert!(
                (node - parts).abs() <= 1_000,
                "{domain}: {node} is not {parts}"
            );
        }
        let missing = (truth - self.before.1) - (node - self.before.0);
        let room = 2.0 * one_tick();
        assert!(
            (-room..=lost + room).contains(&missing),
            "{missing:+.3} J are missing"
        );
    }
}

/// What the machine draws in a tick, at most.
fn one_tick() -> f64 {
    let cpus = std::thread::available_parallelism().map_or(1.0, |cpus| usize::from(cpus) as f64);
    Setup::default().interval.as_secs_f64() * (IDLE_WATTS + WATTS_PER_CPU * cpus)
}

#[test]
fn a_meter_that_shows_nonsense_for_a_while_loses_no_joule() {
    needs!(Programs, Root, ExactCpu);
    let mut watched = Watched::new();
    let too_large = "999999999999999999999999999\n";
    for nonsense in [
        "garbage\n",
        "-5\n",
        "",
        "12 34\n",
        "0x10\n",
        too_large,
        "262143328851\n",
    ] {
        watched.tree.spoil(nonsense).unwrap();
        watched.until_quality(&format!("{nonsense:?} is told"), |quality| {
            quality.contains("energy_uj")
        });
        watched.ticks(2);
        watched.tree.thaw().unwrap();
        watched.until_quality("it measures again", |quality| quality == "measured");
    }
    watched.assert_sound(0.0);
}

#[test]
fn a_meter_that_stands_still_is_flagged_and_loses_no_joule() {
    needs!(Programs, Root, ExactCpu);
    let mut watched = Watched::new();
    watched.tree.freeze();
    watched.until_quality("it stands still", |quality| quality == "still");
    watched.ticks(4);
    assert!(watched.scrape().sum("eco_meter_still_reads", &[]) >= 2.0);
    let advice = watched.agent.status().unwrap()["advice"].to_string();
    assert!(advice.contains("has not moved"), "{advice}");
    watched.tree.thaw().unwrap();
    watched.until_quality("it measures again", |quality| quality == "measured");
    watched.assert_sound(0.0);
}

#[test]
fn a_meter_that_falls_back_is_told_and_counts_nothing_twice() {
    needs!(Programs, Root, ExactCpu);
    let mut watched = Watched::new();
    // Past the wrap, so that a fall cannot be taken for one.
    let wrapped = || watched.tree.truth_uj().unwrap() > 160_000_000;
    wait::until("the counter has wrapped", wrapped).unwrap();
    for _ in 0..3 {
        watched.tree.fall_back(5_000_000).unwrap();
        watched.ticks(3);
    }
    // What was drawn between the last look and the fall is all that nobody can know.
    watched.assert_sound(3.0 * one_tick());
}

#[test]
fn a_meter_that_vanishes_keeps_its_counters_and_goes_on_when_it_is_back() {
    needs!(Programs, Root, ExactCpu);
    let mut watched = Watched::new();
    let zone = watched.tree.sysfs().join("class/powercap/intel-rapl:0");
    let away = watched.tree.sysfs().join("away");
    fs::rename(&zone, &away).unwrap();
    watched.ticks(4);
    fs::rename(&away, &zone).unwrap();
    watched.until_quality("it measures again", |quality| quality == "measured");
    watched.assert_sound(0.0);
}

#[test]
fn one_zone_that_cannot_be_read_costs_only_itself() {
    needs!(Programs, Root, ExactCpu);
    let tree = PowerTree::with_dram().unwrap();
    let zone = tree
        .sysfs()
        .join("class/powercap/intel-rapl:0/intel-rapl:0:0");
    fs::remove_file(zone.join("energy_uj")).unwrap();
    fs::create_dir(zone.join("energy_uj")).unwrap();
    let agent = Agent::start(Setup::metered_by(tree.sysfs())).unwrap();
    agent.after_ticks(3).unwrap();
    let metrics = agent.scrape().unwrap();
    assert!(metrics.sum("eco_node_energy_joules_total", &[("domain", "package")]) > 0.0);
    let status = agent.status().unwrap();
    let said = format!("{} {} {}", status["advice"], status["meters"], agent.log());
    assert!(
        said.contains("intel-rapl:0:0") || said.contains("dram"),
        "{said}"
    );
}

#[test]
fn with_no_meter_that_can_be_read_the_model_stands_in_and_says_that_it_estimates() {
    needs!(Programs, Root);
    let empty = tempfile::tempdir().unwrap();
    let unreadable = tempfile::tempdir().unwrap();
    let zone = unreadable.path().join("class/powercap/intel-rapl:0");
    fs::create_dir_all(zone.join("energy_uj")).unwrap();
    fs::write(zone.join("name"), "package-0\n").unwrap();
    for sysfs in [empty.path(), unreadable.path(), Path::new("/dev/null")] {
        let agent = Agent::start(Setup::metered_by(sysfs)).unwrap();
        agent.after_ticks(2).unwrap();
        let metrics = agent.scrape().unwrap();
        let estimated = metrics.sum(
            "eco_node_energy_joules_total",
            &[("source", "model"), ("estimated", "true")],
        );
        assert!(
            estimated > 0.0,
            "{}: {}",
            sysfs.display(),
            agent.status().unwrap()["meters"]
        );
    }
}
